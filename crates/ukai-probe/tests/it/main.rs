//! Real sockets on loopback: what a probe says of peers that behave, break and attack.

#![expect(clippy::unwrap_used, reason = "a test whose world cannot be built has failed")]

mod authority;
mod certificates;
mod connections;
mod http;
mod malice;
mod reuse;
mod rounds;
mod server;
mod wrong;
