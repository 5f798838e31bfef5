//! What happened, in the past tense. The log holds these and nothing else; state is their fold.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::alarm::AlarmState;
use crate::alarm::definition::Definition;
use crate::alarm::mute::{MuteRule, MutedChange};
use crate::alarm::suppress::Suppression;
use crate::diagnose::evidence::{ApplicationCall, Evidence, Purpose};
use crate::diagnose::history::History;
use crate::diagnose::known::Known;
use crate::diagnose::verdict::Verdict;
use crate::observe::{ErrorClass, Observation, Stage};
use crate::overrides::EndReason;
use crate::peer::Level;
use crate::plan::{Plan, Refusal};

/// The version of the event records in the log. A reader refuses a newer one.
pub const EVENT_VERSION: u32 = 2;

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

/// Where an alarm's definition comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "origin", rename_all = "snake_case")]
pub enum Origin {
    /// ukai's own, for this peer; None: for the vantage itself.
    Default { peer: Option<String> },
    /// A person put it here.
    Operator,
}

/// What came of an alarm's action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum ActionOutcome {
    Executed,
    /// Nobody here carries it out: why.
    NotExecuted {
        why: String,
    },
    /// The alarm's actions are disabled.
    Disabled,
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
    /// The message that Amazon SNS would carry, or the event that a Lambda function would get, of an alarm's action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alarm: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotificationKind {
    Alarm,
    Muted,
    Opened,
    Reopened,
    Paged,
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
    /// An alarm is new, or its whole configuration was replaced.
    AlarmPut {
        definition: Box<Definition>,
        origin: Origin,
        by: Actor,
    },
    AlarmDeleted {
        alarm: String,
        by: Actor,
    },
    AlarmActionsSet {
        alarm: String,
        enabled: bool,
        by: Actor,
    },
    AlarmChanged {
        alarm: String,
        /// Empty: the alarm is about no one peer.
        peer: String,
        before: AlarmState,
        after: AlarmState,
        reason: String,
        /// `StateReasonData` of the CloudWatch API.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason_data: Option<String>,
        /// Who set it by hand. None: it was judged.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Actor>,
    },
    /// An action of an alarm ran, or why it did not.
    AlarmActed {
        alarm: String,
        state: AlarmState,
        action: String,
        outcome: ActionOutcome,
    },
    /// The actions of a composite alarm wait, or do so no longer.
    AlarmSuppressed {
        alarm: String,
        suppression: Suppression,
        reason: String,
    },
    /// An alarm changed, and a mute rule held its actions back.
    AlarmMuted {
        alarm: String,
        change: MutedChange,
    },
    MuteRulePut {
        rule: Box<MuteRule>,
        by: Actor,
    },
    MuteRuleDeleted {
        rule: String,
        by: Actor,
    },
    /// No rule mutes these alarms any more; what was held back is told.
    MuteEnded {
        alarms: Vec<String>,
    },
    IncidentOpened {
        incident: String,
        peer: String,
        alarm: String,
        stage: Stage,
        class: ErrorClass,
        summary: String,
        /// Somebody was paged at once. Since paging waits until a fault has lasted, only older logs say so.
        page: bool,
        /// Somebody is to be paged if it lasts.
        #[serde(default)]
        worthy: bool,
        /// The first failed observation and those of the burst: what the alarm rests on.
        rests_on: Vec<Observation>,
        /// When the first of them started.
        failing_since: Timestamp,
    },
    /// It failed again soon after it was closed: the same incident goes on.
    IncidentReopened {
        incident: String,
        alarm: String,
        summary: String,
        /// It may be paged anew.
        page_again: bool,
        worthy: bool,
        /// What fails now. None: the event is of an older version, and what failed first stands.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stage: Option<Stage>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        class: Option<ErrorClass>,
    },
    /// It was opened on a failure of a part, or on one that wakes nobody; now nothing has got through for a round.
    IncidentWorsened {
        incident: String,
        stage: Stage,
        class: ErrorClass,
        summary: String,
    },
    /// A failure that nobody is paged for yet is being watched: if no probe is whole for a round, it is a page.
    FailureWatched {
        incident: String,
        since: Timestamp,
    },
    /// A probe was whole meanwhile.
    FailureBroke {
        incident: String,
    },
    IncidentPaged {
        incident: String,
        reason: String,
    },
    /// Somebody would be paged, were it not for this alarm, which is paged in its stead.
    PageSuppressed {
        incident: String,
        by: String,
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
        /// What it was made from besides the gathering's evidence, so that it can be derived again. None in peace.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        known: Option<Box<Known>>,
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
        /// It is tried again, and after a restart too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        retried: bool,
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
