//! What a diagnosis is made from besides the evidence, owned, so that it can be kept and judged again on any machine.

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::evidence::{ApplicationCall, Evidence};
use super::history::History;
use super::reading::{Case, Overridden};
use crate::peer::Peer;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    pub peer: Peer,
    pub history: History,
    /// Calls that the application reported, oldest first.
    pub application: Vec<ApplicationCall>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_seen_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overridden: Option<Overridden>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_addresses: Vec<IpNet>,
}

impl Known {
    /// Without a daemon: the peer, and nothing of its past.
    pub fn of(peer: Peer, allow_addresses: Vec<IpNet>) -> Known {
        Known {
            peer,
            history: History::default(),
            application: Vec::new(),
            moved_seen_at: None,
            overridden: None,
            allow_addresses,
        }
    }

    pub fn case<'a>(&'a self, evidence: &'a Evidence) -> Case<'a> {
        Case {
            peer: &self.peer,
            evidence,
            history: &self.history,
            application: &self.application,
            moved_seen_at: self.moved_seen_at,
            allow_addresses: &self.allow_addresses,
            overridden: self.overridden.as_ref(),
        }
    }
}
