//! The life of an override, from proposal to its end.
//!
//! ```text
//!             ┌─► withheld (observe, propose: nothing may be written)
//! planned ────┤
//!             └─► proposed ─► approved ─► applying ─► applied ─► served ─► confirmed
//!                    │           │           │           │          │          │
//!                    ▼           ▼           ▼           └──────────┴────┬─────┘
//!                 rejected     voided   withdrawing ◄────────────────────┘
//!                  voided                    │
//!                                            ▼
//!                      ended (reverted, taken back, expired, rolled back, withdrawn)
//! ```
//! From *applying* on something of ours may stand in the zone: every way out leads through
//! *withdrawing*, which is repeated until the provider says that it is gone.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::Actor;
use crate::peer::Level;
use crate::plan::Plan;

/// Why an override ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The normal path is right again.
    Reverted,
    /// A person took it back.
    RevertedByPerson,
    /// The lease ran out.
    Expired,
    /// It was not served and proven in time.
    RolledBack,
    /// What it served stopped proving itself.
    Withdrawn,
}

impl EndReason {
    pub fn name(self) -> &'static str {
        match self {
            EndReason::Reverted => "reverted",
            EndReason::RevertedByPerson => "reverted_by_person",
            EndReason::Expired => "expired",
            EndReason::RolledBack => "rolled_back",
            EndReason::Withdrawn => "withdrawn",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase", content = "reason")]
pub enum Phase {
    /// Told, not offered: the level does not allow writing.
    Withheld,
    Proposed,
    /// Enough people said yes; every guard is being run again.
    Approved,
    Applying,
    Applied,
    Served,
    Confirmed,
    Withdrawing(EndReason),
    Ended(EndReason),
    Rejected,
    Voided,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Phase::Withheld => "withheld",
            Phase::Proposed => "proposed",
            Phase::Approved => "approved",
            Phase::Applying => "applying",
            Phase::Applied => "applied",
            Phase::Served => "served, application not seen",
            Phase::Confirmed => "confirmed",
            Phase::Withdrawing(_) => "withdrawing",
            Phase::Ended(reason) => reason.name(),
            Phase::Rejected => "rejected",
            Phase::Voided => "voided",
        }
    }

    /// Something of ours may stand in the zone.
    pub fn may_stand(self) -> bool {
        matches!(self, Phase::Applying | Phase::Applied | Phase::Served | Phase::Confirmed | Phase::Withdrawing(_))
    }

    /// It is meant to stand.
    pub fn stands(self) -> bool {
        matches!(self, Phase::Applying | Phase::Applied | Phase::Served | Phase::Confirmed)
    }

    /// A decision or a change is still to come before anything stands.
    pub fn is_pending(self) -> bool {
        matches!(self, Phase::Proposed | Phase::Approved)
    }
}

/// An override as the fold of the log has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    pub id: String,
    pub peer: String,
    pub incident: String,
    pub plan: Plan,
    pub hash: String,
    pub level: Level,
    pub phase: Phase,
    pub proposed_at: Timestamp,
    pub approvals: Vec<Actor>,
    pub approved_at: Option<Timestamp>,
    /// Rises with every change of what is served.
    pub generation: u64,
    pub addresses: BTreeSet<IpAddr>,
    pub applied_at: Option<Timestamp>,
    /// When the present lease began: with the change, or with its last extension.
    #[serde(default)]
    pub lease_from: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub served_at: Option<Timestamp>,
    pub confirmed_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// How many lease warnings were given: half, then four fifths.
    pub warnings: u8,
    /// The last trouble told, so that it is told once.
    pub trouble: Option<String>,
    /// Why it is being withdrawn, for the zone provider's record, and who said so.
    pub why: String,
    #[serde(default)]
    pub withdrawn_by: Option<Actor>,
}
