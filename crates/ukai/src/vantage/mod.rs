//! Other vantages: a ukai in another network that says what it sees of a peer, and the controller that asks it.
//!
//! The controller posts the peer's name and addresses to `POST /v1/vantage/look`, with a bearer token. The vantage looks its
//! own peer of that name up with its own resolver, probes each address once, without secrets, and answers what came of it.
//! It has no state, decides nothing and changes nothing. What it answers is evidence from somebody whom the operator listed;
//! it is bounded and escaped all the same.

mod client;
mod service;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use ukai_core::diagnose::evidence::Proof;

pub use client::OtherVantage;
pub use service::VantageService;

pub const PATH: &str = "/v1/vantage/look";
/// Addresses that may be asked about at once; as many as a gathering proves.
pub const ADDRESSES_MAX: usize = 32;
/// Probes that are made for one answer, and taken of one.
const RESULTS_MAX: usize = 4 * ADDRESSES_MAX;
/// A peer's name and these addresses.
const QUESTION_BYTES: usize = 16 * 1024;

/// What the controller asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    pub peer: String,
    pub addresses: BTreeSet<IpAddr>,
}

/// What a vantage sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    pub resolved: BTreeSet<IpAddr>,
    pub results: Vec<Proof>,
}
