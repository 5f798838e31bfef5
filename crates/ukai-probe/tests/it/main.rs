//! Real sockets on loopback: what a probe says of peers that behave, break and attack.

mod authority;
mod certificates;
mod connections;
mod http;
mod malice;
mod rounds;
mod server;
mod wrong;
