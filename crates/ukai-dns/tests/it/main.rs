//! The crate on real sockets, on loopback, against peers that are built on another DNS library.

mod client;
mod delegation;
mod forward;
mod overrides;
mod peer;
mod protocol;
mod running;
mod secure;
