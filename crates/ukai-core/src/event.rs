//! What happened, in the past tense. The log holds these and nothing else; state is their fold.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::alarm::AlarmState;
use crate::diagnose::evidence::{ApplicationCall, Evidence, Purpose};
use crate::diagnose::history::History;
use crate::diagnose::verdict::Verdict;
use crate::observe::{ErrorClass, Observation, Stage};
use crate::overrides::EndReason;
use crate::peer::Level;
use crate::plan::{Plan, Refusal};

/// The version of the event records in the log. A reader refuses a newer one.
pub const EVENT_VERSION: u32 = 1;

/// An event with the time that was passed in when it happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    pub at: Timestamp,
    #[serde(flatten)]
    pub event: Event,
}

/// Who did something that changes state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Actor {
    /// The peer credential's uid; None: ukai itself, by policy.
    pub uid: Option<u32>,
    /// The user's name on this machine, for a person to read.
    pub name: String,
    /// `cli`, `policy`, `offline`.
    pub via: String,
}

/// A message for people, sent at least once, always under the same key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notification {
    /// The idempotency key.
    pub key: String,
    pub incident: Option<String>,
    pub peer: String,
    pub kind: NotificationKind,
    /// Somebody must act now.
    pub page: bool,
    pub subject: String,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotificationKind {
    Opened,
    Diagnosed,
    Proposed,
    Refused,
    Applied,
    Confirmed,
    Trouble,
    LeaseWarning,
    Ended,
    Closed,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The daemon came up.
    Started {
        version: String,
    },
    /// A peer is watched from now on, or its settings changed.
    PeerWatched {
        peer: String,
        host: String,
        level: Level,
    },
    PeerForgotten {
        peer: String,
    },
    /// What normal looks like, learned from a healthy gathering.
    BaselineLearned {
        peer: String,
        history: Box<History>,
    },
    /// History from elsewhere, that an operator vouches for.
    HistoryImported {
        peer: String,
        history: Box<History>,
        by: Actor,
    },
    /// The addresses that the normal path leads to are others than before.
    AddressSetChanged {
        peer: String,
        before: BTreeSet<IpAddr>,
        after: BTreeSet<IpAddr>,
        ttl: Option<u32>,
    },
    /// Everything works, but whoever answers was never the peer before. Told once for each of these keys.
    IdentityChanged {
        peer: String,
        keys: BTreeSet<String>,
        what: String,
    },
    AlarmChanged {
        alarm: String,
        peer: String,
        before: AlarmState,
        after: AlarmState,
        reason: String,
    },
    IncidentOpened {
        incident: String,
        peer: String,
        alarm: String,
        stage: Stage,
        class: ErrorClass,
        summary: String,
        page: bool,
        /// The first failed observation and those of the burst: what the alarm rests on.
        rests_on: Vec<Observation>,
        /// When the first of them started.
        failing_since: Timestamp,
    },
    IncidentPaged {
        incident: String,
        reason: String,
    },
    EvidenceRequested {
        gathering: String,
        peer: String,
        incident: Option<String>,
        purpose: Purpose,
    },
    EvidenceGathered {
        gathering: String,
        peer: String,
        incident: Option<String>,
        evidence: Box<Evidence>,
        application: Vec<ApplicationCall>,
    },
    Diagnosed {
        gathering: String,
        peer: String,
        incident: Option<String>,
        verdict: Box<Verdict>,
    },
    /// A person asked for a plan that pins a peer to these addresses.
    PinRequested {
        peer: String,
        addresses: BTreeSet<IpAddr>,
        by: Actor,
        why: String,
    },
    /// A plan passed every guard that does not need a person.
    OverrideProposed {
        id: String,
        incident: String,
        plan: Box<Plan>,
        hash: String,
        level: Level,
    },
    /// An override was considered, and these guards forbid it.
    OverrideRefused {
        incident: String,
        peer: String,
        refusals: Vec<Refusal>,
    },
    OverrideApproved {
        id: String,
        hash: String,
        by: Actor,
        why: String,
    },
    OverrideRejected {
        id: String,
        by: Actor,
        why: String,
    },
    /// Nobody approved in time, or the world changed before apply.
    OverrideVoided {
        id: String,
        reason: String,
    },
    /// Every guard was run again on fresh evidence; the change is about to be made.
    ApplyStarted {
        id: String,
        generation: u64,
        addresses: BTreeSet<IpAddr>,
        expires_at: Timestamp,
    },
    Applied {
        id: String,
        generation: u64,
    },
    ApplyFailed {
        id: String,
        generation: u64,
        detail: String,
    },
    /// At the server, through the resolver's path and by a probe over the normal path.
    OverrideServed {
        id: String,
        generation: u64,
        proof: String,
    },
    /// The application itself was seen to succeed.
    OverrideConfirmed {
        id: String,
        call: ApplicationCall,
    },
    /// A follow override re-read its sources: another set within the approved anchors.
    FollowStarted {
        id: String,
        generation: u64,
        addresses: BTreeSet<IpAddr>,
    },
    LeaseWarned {
        id: String,
        left_s: i64,
    },
    LeaseExtended {
        id: String,
        expires_at: Timestamp,
        by: Actor,
        why: String,
    },
    OverrideTroubled {
        id: String,
        reason: String,
    },
    WithdrawStarted {
        id: String,
        reason: EndReason,
        by: Actor,
        why: String,
    },
    WithdrawFailed {
        id: String,
        detail: String,
    },
    OverrideEnded {
        id: String,
        reason: EndReason,
    },
    /// The normal path, past the override, has been right `times` times in a row.
    NormalPathProved {
        id: String,
        times: u32,
    },
    IncidentClosed {
        incident: String,
        reason: String,
    },
    ReportWritten {
        incident: String,
        paths: Vec<String>,
    },
    NotificationQueued {
        notification: Notification,
        subscribers: Vec<String>,
    },
    NotificationDelivered {
        key: String,
        subscriber: String,
        attempts: u32,
    },
    NotificationFailed {
        key: String,
        subscriber: String,
        attempts: u32,
        detail: String,
    },
    Frozen {
        by: Actor,
        why: String,
    },
    Thawed {
        by: Actor,
        why: String,
    },
    /// Something the shell met that a person should know of.
    Troubled {
        what: String,
    },
}
