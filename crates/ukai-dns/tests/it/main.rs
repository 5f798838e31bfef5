//! The crate on real sockets, on loopback, against peers that are built on another DNS library.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by panicking, in its peers and questions as well"
)]

mod client;
mod clients;
mod delegation;
mod file;
mod forward;
mod glue;
mod overrides;
mod peer;
mod policy;
mod protocol;
mod running;
mod secure;
mod stopping;
mod upstreams;
