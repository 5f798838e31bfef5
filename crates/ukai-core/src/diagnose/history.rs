//! What normal looked like: learned in peace, the measure of everything in an incident.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::evidence::Source;

/// Distinct identities kept per peer; a peer that shows more keys than this rotates them daily for a month.
pub const IDENTITIES_MAX: usize = 32;
/// Addresses kept per identity: a fleet larger than this is steered, and only its networks matter.
pub const ADDRESSES_MAX: usize = 256;
/// Distinct answer sets kept per peer; the oldest leave first.
pub const ANSWERS_MAX: usize = 128;

/// The history of one peer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Since when the peer has been watched; None: never seen healthy.
    pub since: Option<Timestamp>,
    pub identities: Vec<ProvenIdentity>,
    pub answers: Vec<SeenAnswer>,
    pub delegation: Option<SeenDelegation>,
    /// Another delegation that has been seen in peace since then.
    #[serde(default)]
    pub next_delegation: Option<(SeenDelegation, Timestamp)>,
    /// Controls that passed at least once. One that never passed does not exist.
    pub controls: BTreeSet<String>,
    /// Issuers that the controls showed in peace, as `control issuer`.
    pub control_issuers: BTreeSet<String>,
    /// HTTP status that each endpoint gave in peace to somebody without secrets, where it needs them.
    #[serde(default)]
    pub unauthenticated: BTreeMap<String, u16>,
    /// Why the name was steered when it last had an address in peace; one that has none any more does not show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steered: Option<String>,
}

/// Somebody who proved to be the peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProvenIdentity {
    pub key_sha256: String,
    pub issuer: String,
    pub addresses: BTreeSet<IpAddr>,
}

/// A set of addresses that somebody answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenAnswer {
    pub source: Source,
    pub addresses: BTreeSet<IpAddr>,
    pub ttl: u32,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenDelegation {
    pub zone: String,
    pub parent_ns: BTreeSet<String>,
    pub child_ns: BTreeSet<String>,
}

/// The network of an address as continuity compares it: /24 and /48.
pub fn network(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(v4) => Ipv4Net::new_assert(v4, 24).trunc().into(),
        IpAddr::V6(v6) => Ipv6Net::new_assert(v6, 48).trunc().into(),
    }
}

impl History {
    pub fn is_empty(&self) -> bool {
        self.since.is_none() && self.identities.is_empty()
    }

    pub fn knows_address(&self, address: IpAddr) -> bool {
        self.identities.iter().any(|identity| identity.addresses.contains(&address))
    }

    pub fn knows_network(&self, address: IpAddr) -> bool {
        let net = network(address);
        self.identities.iter().flat_map(|identity| &identity.addresses).any(|known| network(*known) == net)
    }

    /// Records who proved to be the peer at an address.
    pub fn learn_identity(&mut self, key_sha256: &str, issuer: &str, address: IpAddr) {
        let known =
            self.identities.iter_mut().find(|identity| identity.key_sha256 == key_sha256 && identity.issuer == issuer);
        if let Some(identity) = known {
            if identity.addresses.len() >= ADDRESSES_MAX {
                identity.addresses.pop_first();
            }
            identity.addresses.insert(address);
            return;
        }
        if self.identities.len() == IDENTITIES_MAX {
            self.identities.remove(0);
        }
        self.identities.push(ProvenIdentity {
            key_sha256: key_sha256.to_owned(),
            issuer: issuer.to_owned(),
            addresses: BTreeSet::from([address]),
        });
    }

    /// Records a set that a source answered; a set seen again has its time moved on.
    pub fn learn_answer(&mut self, seen: SeenAnswer) {
        let last = self.answers.iter_mut().rfind(|answer| answer.source == seen.source);
        match last {
            Some(last) if last.addresses == seen.addresses => {
                last.last_seen = last.last_seen.max(seen.last_seen);
                last.ttl = last.ttl.max(seen.ttl);
            }
            _ => {
                if self.answers.len() == ANSWERS_MAX {
                    self.answers.remove(0);
                }
                self.answers.push(seen);
            }
        }
    }

    /// Since when the authority has given this address without a break, as far as was seen.
    pub fn authority_gives_since(&self, address: IpAddr) -> Option<Timestamp> {
        let seen = self.answers.iter().rev().filter(|answer| answer.source == Source::Authority);
        seen.take_while(|answer| answer.addresses.contains(&address)).map(|answer| answer.first_seen).last()
    }

    /// The last set that the authority was seen to give.
    pub fn authority_answer(&self) -> Option<&SeenAnswer> {
        self.answers.iter().rfind(|answer| answer.source == Source::Authority)
    }
}
