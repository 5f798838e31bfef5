//! What happened outside, handed to the engine together with the time.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::alarm::AlarmState;
use crate::alarm::definition::Definition;
use crate::alarm::mute::MuteRule;
use crate::diagnose::evidence::{ApplicationCall, ControlResult, Evidence};
use crate::diagnose::history::History;
use crate::event::Actor;
use crate::metric::Datum;
use crate::observe::Observation;
use crate::peer::Settings;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "input", rename_all = "snake_case")]
pub enum Input {
    /// The daemon came up with this configuration; everything that was begun is taken up again.
    Started {
        version: String,
        settings: Box<Settings>,
    },
    /// The configuration was read again.
    Reconfigured {
        settings: Box<Settings>,
    },
    /// One observation per endpoint of the peer.
    Observed {
        id: String,
        peer: String,
        observations: Vec<Observation>,
    },
    EvidenceGathered {
        id: String,
        evidence: Box<Evidence>,
    },
    Applied {
        id: String,
        generation: u64,
        result: Result<(), String>,
    },
    Verified {
        id: String,
        generation: u64,
        verification: Verification,
    },
    Withdrawn {
        id: String,
        generation: u64,
        result: Result<(), String>,
    },
    /// What the zone provider says it serves; compared with what should be served.
    ProviderListed {
        serving: Vec<ServedNow>,
    },
    /// Everything that the keeper of leases in somebody else's zone cannot end now; none where it can.
    LeasesStuck {
        leases: Vec<StuckLease>,
    },
    /// The provider ended an override by itself (expiry), or an operator did so offline.
    ProviderEnded {
        id: String,
        why: String,
        offline_by: Option<Actor>,
    },
    /// The first attempt failed; it is tried again, and [`Input::NotificationSent`] says what comes of that.
    NotificationDelayed {
        key: String,
        subscriber: String,
        attempts: u32,
        detail: String,
    },
    NotificationSent {
        key: String,
        subscriber: String,
        attempts: u32,
        result: Result<(), String>,
    },
    ApplicationCalled {
        peer: String,
        call: ApplicationCall,
    },
    /// The controls were tried. Answers [`crate::effect::Effect::ProbeControls`].
    ControlsObserved {
        id: String,
        results: Vec<ControlResult>,
    },
    /// Data from outside: the application's own metrics, a scrape.
    MetricsPut {
        source: String,
        data: Vec<Datum>,
    },
    ReportWritten {
        incident: String,
        result: Result<Vec<String>, String>,
    },
    Command {
        id: u64,
        by: Actor,
        command: Command,
    },
    /// The event log could not be written since then, and can be now. `paged`: people were told meanwhile.
    LogWritable {
        since: Timestamp,
        why: String,
        paged: bool,
    },
    /// The shell met something that a person should know of.
    Troubled {
        what: String,
    },
    /// Time went on.
    Tick,
}

/// How an applied override looks from where it counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// What the zone provider itself answers for the name.
    pub at_server: Result<BTreeSet<IpAddr>, String>,
    /// What the resolver that the application uses answers.
    pub by_resolver: Result<BTreeSet<IpAddr>, String>,
    /// A probe of every endpoint by the normal path.
    pub observations: Vec<Observation>,
}

/// A lease that is over, while what it allowed may still be answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StuckLease {
    pub id: String,
    pub host: String,
    /// Why it cannot be taken away.
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedNow {
    pub id: String,
    pub host: String,
    pub generation: u64,
    pub addresses: BTreeSet<IpAddr>,
    pub expires_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// `hash`: what the person saw. None: refused, unless the CLI fetched it for them.
    Approve {
        id: String,
        hash: String,
        why: String,
    },
    Reject {
        id: String,
        why: String,
    },
    Revert {
        id: String,
        why: String,
    },
    RevertAll {
        why: String,
    },
    Extend {
        id: String,
        lease_s: u64,
        why: String,
    },
    /// Ask for a plan that pins these addresses.
    Pin {
        peer: String,
        addresses: BTreeSet<IpAddr>,
        why: String,
    },
    Freeze {
        why: String,
    },
    Thaw {
        why: String,
    },
    ImportHistory {
        peer: String,
        history: Box<History>,
    },
    /// All of them or none.
    PutAlarms {
        definitions: Vec<Definition>,
    },
    DeleteAlarms {
        alarms: Vec<String>,
    },
    /// Until its next evaluation, as `SetAlarmState` has it.
    SetAlarmState {
        alarm: String,
        state: AlarmState,
        reason: String,
        #[serde(default)]
        reason_data: Option<String>,
    },
    SetAlarmActions {
        alarms: Vec<String>,
        enabled: bool,
    },
    PutMuteRule {
        rule: Box<MuteRule>,
    },
    DeleteMuteRule {
        rule: String,
    },
}
