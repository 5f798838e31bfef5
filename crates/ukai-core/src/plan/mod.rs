//! What would be changed, why it may be, and its exact inverse, all known before anything is done.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::peer::Mode;

pub mod safety;

/// An override for exactly one name, as a person approves it. The hash covers every field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub peer: String,
    pub incident: String,
    /// The owner name, exactly; siblings and names below it are not touched.
    pub host: String,
    pub mode: Mode,
    /// The first set to serve. A follow override may serve another set within the anchors.
    pub addresses: BTreeSet<IpAddr>,
    pub ttl_s: u32,
    pub lease_s: u64,
    /// Where the addresses come from: the servers that agreed, or the operator.
    pub sources: BTreeSet<String>,
    pub delegation: BTreeSet<String>,
    pub anchors: Anchors,
    pub revert_after: u32,
    /// What stands at the name in our zone now.
    pub existing: String,
    pub types: String,
    pub inverse: String,
    /// What a person must look at before saying yes: guards that only a person may pass.
    pub shown: Vec<Refusal>,
    /// The verdict it rests on, as `code (sure)`.
    pub verdict: String,
}

/// Who the served addresses must prove to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchors {
    pub keys: BTreeSet<String>,
    pub issuers: BTreeSet<String>,
    pub networks: BTreeSet<String>,
}

impl Plan {
    /// SHA-256 over the plan's canonical JSON: fields in declaration order, sets sorted.
    pub fn hash(&self) -> String {
        let json = serde_json::to_vec(self).unwrap_or_default();
        Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A guard's word against a plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Refusal {
    /// The guard's name.
    pub guard: String,
    pub reason: String,
}
