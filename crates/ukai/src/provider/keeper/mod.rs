//! Who ends a lease in somebody else's zone when ukai is dead: a small process of its own.
//!
//! ```text
//! controller: hold ─► on disk ─► "done" ─► the override is written ─► …
//! keeper:                             the lease ends ─► taken out of the zone, tried again until it is gone
//! ```
//! It is started by `ukai run` before anything is applied, leads a session of its own, and goes on when the controller is killed.
//! A lease that is over is not forgotten at once: an update that was on its way may come late, so the keeper looks for it again and
//! again until [`GRACE`] has passed, and takes it out. That also holds for an override that was withdrawn.
//!
//! A lease belongs to one generation: when it ends, that generation and older ones are taken away, and a later one, which has a
//! lease of its own, is left alone. Whether it was ever written does not matter: what is not there is gone.
//!
//! What it cannot do is run on a machine that is dead; see `docs/operate/providers.md` for the second line there.

mod client;
mod clock;
mod held;
mod offline;
mod process;
mod serve;
mod store;
mod survival;

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use ukai_core::input::StuckLease;

pub use client::{KeeperClient, KeeperError};
#[cfg(test)]
pub use offline::hold_on_disk;
pub use offline::{bound_elsewhere, kept_on_disk, known, taken_offline};
pub use process::{KeeperDir, KeeperProcess};
pub use serve::{GRACE, run};
pub use survival::doubt;

use super::Withdrawn;
use super::claim::Claim;
use super::place::Mine;

/// Owner, id, host and generation.
type Key = (String, String, String, u64);

/// How long one generation may stand, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    pub id: String,
    pub incident: String,
    pub host: String,
    pub generation: u64,
    /// By the machine's clock.
    pub expires_at: Timestamp,
    pub owner: String,
    pub addresses: BTreeSet<IpAddr>,
    /// As [`super::Place`] prints itself.
    pub place: String,
}

impl Lease {
    pub fn of(claim: &Claim, place: String) -> Lease {
        Lease {
            id: claim.id.clone(),
            incident: claim.incident.clone(),
            host: claim.host.clone(),
            generation: claim.generation,
            expires_at: claim.expires_at,
            owner: claim.owner.clone(),
            addresses: claim.addresses.clone(),
            place,
        }
    }

    /// Of the same override and generation.
    pub fn is(&self, other: &Lease) -> bool {
        self.key() == other.key()
    }

    pub fn withdrawn(&self) -> Withdrawn {
        Withdrawn {
            id: self.id.clone(),
            generation: self.generation,
            host: Some(self.host.clone()),
            addresses: self.addresses.clone(),
        }
    }

    pub(self) fn key(&self) -> Key {
        (self.owner.clone(), self.id.clone(), self.host.clone(), self.generation)
    }

    pub(self) fn mine(&self) -> Mine {
        Mine {
            owner: self.owner.clone(),
            id: self.id.clone(),
            generation: self.generation,
            host: Some(self.host.clone()),
            addresses: self.addresses.clone(),
        }
    }
}

/// A lease as the keeper has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    #[serde(flatten)]
    pub lease: Lease,
    /// By the keeper's clock, which is ahead of the machine's where that was set back.
    pub ends_at: Timestamp,
    /// It is over and nothing of it stands; what was late on its way is looked for until then, by the machine's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_look: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// When the answer is `Done`, the lease is on disk.
    Hold {
        lease: Lease,
    },
    /// The override was withdrawn: up to that generation the lease is over now.
    Release {
        owner: String,
        id: String,
        /// None: whatever host it was for.
        host: Option<String>,
        generation: u64,
    },
    List,
    Stop,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub(crate) enum Response {
    Done,
    List(Status),
    Failed { cause: String },
}

/// What it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub process: u32,
    pub place: String,
    pub leases: Vec<Kept>,
    /// Why what has run out is not gone yet.
    pub trouble: Option<String>,
    /// What has run out and may still be answered.
    #[serde(default)]
    pub stuck: Vec<StuckLease>,
}

/// A few overrides with a few generations each.
const LEASES_MAX: usize = 256;
/// A lease is a few hundred octets.
const LINE_MAX: u64 = 512 * 1024;
