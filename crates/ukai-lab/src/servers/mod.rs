//! Real name servers, as a team has them: BIND, Knot and PowerDNS holding a response-policy zone, and resolvers that follow it.
//!
//! Each is a process of its own, started from the distribution's package in a directory of its own, on loopback, on ports that
//! nobody else has. A server that is dropped is killed.

mod authority;
mod controlled;
mod maker;
mod resolver;
mod server;
mod team;

pub use authority::{Authority, Kind, Role, is_installed};
pub use controlled::Controlled;
pub use maker::Maker;
pub use resolver::{Follower, Resolver};
pub use server::{Server, free_address};
pub use team::{Stack, Team};

/// The zone that all of them hold.
pub const ZONE: &str = "rpz.ukai.test";

/// A TSIG key: its name, and its secret in Base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    pub name: String,
    pub secret: String,
}

/// All keys of the lab.
pub const ALGORITHM: &str = "hmac-sha256";

impl Key {
    /// A secret that is unlike any other's.
    pub fn random(name: &str) -> Key {
        // 43 characters and one of filling are 32 octets; the last character's low bits would not be canonical.
        let word: String = (0..42).map(|_| fastrand::alphanumeric()).collect();
        Key { name: name.to_owned(), secret: format!("{word}A=") }
    }
}
