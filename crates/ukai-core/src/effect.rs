//! What to do next, in the imperative. Released only after the events of the same step are durable.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::diagnose::evidence::Purpose;
use crate::event::Notification;
use crate::observe::Path;

/// Every effect that is answered carries an id; late and repeated answers are harmless.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// Probe every endpoint of a peer once, by this path. Answer: [`crate::input::Input::Observed`].
    Probe {
        id: String,
        peer: String,
        path: Path,
    },
    /// Try every control once. Answer: [`crate::input::Input::ControlsObserved`].
    ProbeControls {
        id: String,
    },
    /// Answer: [`crate::input::Input::EvidenceGathered`].
    Gather {
        id: String,
        peer: String,
        purpose: Purpose,
        /// Addresses to prove besides those that the sources name: an operator's pin, a standing override's set.
        also: BTreeSet<IpAddr>,
        /// Addresses where the peer was proven before, to be tried beside them: what becomes of them tells a peer that
        /// moved from one that is down. Nobody's word stands behind them.
        known: BTreeSet<IpAddr>,
    },
    /// Make the zone provider serve exactly this. Idempotent by id and generation. Answer: `Applied`.
    Apply(ServedOverride),
    /// Make the zone provider stop serving it. Idempotent. Answer: `Withdrawn`.
    Withdraw {
        id: String,
        generation: u64,
        why: String,
    },
    /// Ask the server, then the resolver's path, then probe by the normal path. Answer: `Verified`.
    Verify {
        id: String,
        generation: u64,
        peer: String,
        addresses: BTreeSet<IpAddr>,
    },
    Notify {
        notification: Notification,
        subscriber: String,
    },
    /// Write the incident's report. Answer: `ReportWritten`.
    WriteReport {
        incident: String,
    },
    /// Answer a command.
    Reply {
        command: u64,
        reply: Reply,
    },
}

/// What the zone provider is asked to serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedOverride {
    pub id: String,
    pub incident: String,
    pub host: String,
    pub addresses: BTreeSet<IpAddr>,
    pub ttl_s: u32,
    pub expires_at: Timestamp,
    pub generation: u64,
    /// What must stand there now: compare and swap. None: nothing of ours.
    pub replaces_generation: Option<u64>,
}

/// The answer to a command. `Refused` says what, why, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    Done { text: String },
    Refused { text: String },
}
