//! One override as a lease: what is served for one exact name, for whom, and until when.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::name::Name;

/// The design's longest lease: after a day somebody must look again.
pub const MAX_LEASE: Duration = Duration::from_secs(24 * 60 * 60);
/// Far above the three that policy allows at once, low enough that the file stays a page.
pub const MAX_OVERRIDES: usize = 64;
/// Ended overrides that are remembered, so that a controller which was away learns of them.
pub const MAX_ENDED: usize = 256;
/// Addresses of one family; a set this large still fits a UDP answer of 1,232 octets in the IPv6 case.
pub const MAX_ADDRESSES: usize = 32;
/// Clients must forget an override soon after its end.
pub const MAX_TTL: u32 = 3600;
/// Ids, incident names and reasons are for people.
const MAX_TEXT: usize = 128;

/// One override. A family without addresses is answered with NODATA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverrideRecord {
    pub id: String,
    pub name: Name,
    #[serde(default)]
    pub a: Vec<Ipv4Addr>,
    #[serde(default)]
    pub aaaa: Vec<Ipv6Addr>,
    pub ttl: u32,
    pub expires_at: Timestamp,
    pub incident: String,
    /// Grows with every change of the same override.
    pub generation: u64,
    pub set_at: Timestamp,
}

impl OverrideRecord {
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let v4 = self.a.iter().copied().map(IpAddr::V4);
        v4.chain(self.aaaa.iter().copied().map(IpAddr::V6))
    }

    /// What holds for a record at any time, whether it was just given or read from disk.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let fail = |cause: &str| Err(Refusal::Invalid { cause: cause.to_owned() });
        for (what, text) in [("id", &self.id), ("incident", &self.incident)] {
            if text.is_empty() || text.len() > MAX_TEXT || text.chars().any(char::is_control) {
                return fail(&format!("the {what} must have 1 to {MAX_TEXT} octets and no control characters"));
            }
        }
        if self.name.is_root() {
            return fail("the root cannot be overridden");
        }
        if self.a.is_empty() && self.aaaa.is_empty() {
            return fail("an override without any address would make the name vanish");
        }
        if self.a.len() > MAX_ADDRESSES || self.aaaa.len() > MAX_ADDRESSES {
            return fail(&format!("at most {MAX_ADDRESSES} addresses of a family can be served"));
        }
        if self.ttl == 0 || self.ttl > MAX_TTL {
            return fail(&format!("the time to live must be 1 to {MAX_TTL} s"));
        }
        Ok(())
    }
}

/// An override that is no longer served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub id: String,
    pub name: Name,
    pub incident: String,
    pub generation: u64,
    pub at: Timestamp,
    pub why: String,
    /// Whether this process ended it by itself because the lease ran out.
    pub expired: bool,
}

/// Why a change was not made. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "refusal", rename_all = "snake_case")]
pub enum Refusal {
    #[error("{cause}")]
    Invalid { cause: String },
    #[error("another override stands: {id} at {name}, generation {generation}")]
    Conflict { id: String, name: Name, generation: u64 },
    #[error("generation {expected} was expected, but no such override stands")]
    NotThere { expected: u64 },
    #[error("override {id} generation {generation} has ended: {why}")]
    HasEnded { id: String, generation: u64, why: String },
    #[error("the lease would last longer than {} h", MAX_LEASE.as_secs() / 3600)]
    LeaseTooLong,
    #[error("the lease has run out already")]
    LeaseOver,
    #[error("{MAX_OVERRIDES} overrides stand already")]
    TooMany,
}
