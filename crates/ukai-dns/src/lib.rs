//! ukai speaks DNS here: it asks, it walks, and it serves.
//!
//! When a name leads to the wrong place, somebody on the way from the root to the application holds a wrong answer. Finding
//! out who takes three things, and giving the right answer meanwhile a fourth:
//!
//! 1. **Asking one server.** A [`Client`] sends a [`Question`] to an [`Upstream`] over UDP, TCP, TLS or HTTPS and brings back a
//!    [`Reply`]: plain data with everything that tells one server from another (flags, times to live, extended errors, the
//!    server's own id), or an [`AskError`], which is one sentence. Each question has a socket of its own; a reply that does not
//!    match it is dropped. Nothing a server sends can cost more than one message of 64 KiB and the time-out.
//! 2. **Knowing what the application asks.** [`system`] reads `resolv.conf` as the C library does.
//! 3. **Finding who speaks for a name.** [`delegation`] walks from the root down the referrals, compares what the parent says
//!    with what the zone says, lists every server of either, asks them all the same questions, and sends a canary that shows
//!    whether it was those servers that answered.
//! 4. **Answering in the world's place.** [`server`] is a caching forwarder in a process of its own that serves overrides: for
//!    one exact name, A and AAAA as given and no HTTPS hints around them, with the incident as an extended error, until the lease
//!    ends. It keeps the leases itself, on disk and by two clocks, so that it needs nobody to end them.
//!
//! The wire format is read by the `domain` crate, inside this crate only; what is composed here is little (queries, and answers
//! whose names point to the question) and is checked against another library in the tests.
//!
//! | module | holds |
//! | --- | --- |
//! | [`name`], [`types`], [`message`] | the protocol as data |
//! | [`upstream`], [`client`] | asking |
//! | [`system`] | `resolv.conf` |
//! | [`delegation`] | the walk, the authorities, the canary |
//! | [`server`] | the embedded server, its control socket and its client, and its overrides as a policy zone for others |
//! | [`update`] | changing a zone of another server: UPDATE and AXFR with TSIG |
//!
//! What it does not do: validate signatures (validating resolvers tell, with reasons), recurse for clients, or take zone transfers
//! and updates of others.

pub mod client;
pub mod delegation;
pub mod message;
pub mod name;
pub mod server;
pub mod system;
pub mod types;
pub mod update;
pub mod upstream;
mod wire;

pub use client::{AskError, AskOptions, Client, ClientOptions, Trace};
pub use delegation::{Authority, Canary, Delegation, WalkOptions, ask_authorities, canary, walk};
pub use message::{Data, Question, Record, Reply, Soa, dump};
pub use name::{Name, NameError};
pub use server::{ControlClient, OverrideRecord, Server, ServerConfig};
pub use system::SystemResolver;
pub use types::{ExtendedError, Rcode, RecordType, Transport};
pub use upstream::{Upstream, UpstreamError};
