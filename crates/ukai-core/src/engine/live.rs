//! What is volatile: lost in a crash, and rebuilt by looking again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use super::composites::Graph;
use super::leftover::{Leftover, Stuck, Told};
use super::paging::{Controls, PendingPage, Watch};
use crate::alarm::burst::Burst;
use crate::alarm::evaluate::Evaluator;
use crate::alarm::reason::TriggeringChild;
use crate::diagnose::evidence::{ApplicationCall, Purpose};
use crate::observe::Observation;

/// The application's calls that are kept: more than any rule looks at.
pub const APPLICATION_CALLS_KEPT: usize = 200;
/// A probe that has not come back by then never will: every stage has a shorter time-out.
pub const PROBE_LOST: SignedDuration = SignedDuration::from_secs(60);
/// A gathering that has not come back by then never will: it is bounded by the shell.
pub const GATHERING_LOST: SignedDuration = SignedDuration::from_secs(120);
/// How often normal is learned again in peace.
pub const BASELINE_EVERY: SignedDuration = SignedDuration::from_mins(10);

#[derive(Debug)]
pub struct Live {
    pub peers: BTreeMap<String, LivePeer>,
    pub probes: u64,
    pub gatherings: u64,
    /// When a withdrawal, or a change of what is served, that failed is tried again, by override.
    pub retries: BTreeMap<String, Timestamp>,
    /// How often a withdrawal has failed, by override.
    pub withdrawals: BTreeMap<String, u32>,
    /// Overrides that the provider lacked at the last listing.
    pub absent: BTreeSet<String>,
    /// What ended and is served all the same, by override.
    pub leftovers: BTreeMap<String, Leftover>,
    /// What the lease keeper could not end, by override and host.
    pub stuck: BTreeMap<(String, String), Stuck>,
    /// How people were told of what is over and stands, and when, by override and host.
    pub residues_told: BTreeMap<(String, String), (Told, Timestamp)>,
    /// Overrides of the provider that nobody here knows, told once.
    pub unknown: BTreeSet<String>,
    pub last_now: Timestamp,
    pub controls: Controls,
    pub graph: Graph,
    pub evaluator: Evaluator,
    /// What brought composites into their states, for their messages; after a restart their reason data says it.
    pub triggering: BTreeMap<String, Vec<TriggeringChild>>,
    /// When the alarms with periods under a minute, and the others, are judged next.
    pub fast_due: Timestamp,
    pub slow_due: Timestamp,
    /// When a mute window ends that holds something back.
    pub mute_due: Option<Timestamp>,
    /// When what is only worth knowing was last told, by alarm.
    pub informed: BTreeMap<String, Timestamp>,
    pub data_received: u64,
    pub data_refused: u64,
    pub refused_told_at: Option<Timestamp>,
}

impl Default for Live {
    fn default() -> Live {
        Live {
            peers: BTreeMap::new(),
            probes: 0,
            gatherings: 0,
            retries: BTreeMap::new(),
            withdrawals: BTreeMap::new(),
            absent: BTreeSet::new(),
            leftovers: BTreeMap::new(),
            stuck: BTreeMap::new(),
            residues_told: BTreeMap::new(),
            unknown: BTreeSet::new(),
            last_now: Timestamp::MIN,
            controls: Controls::default(),
            graph: Graph::default(),
            evaluator: Evaluator::default(),
            triggering: BTreeMap::new(),
            fast_due: Timestamp::MIN,
            slow_due: Timestamp::MIN,
            mute_due: None,
            informed: BTreeMap::new(),
            data_received: 0,
            data_refused: 0,
            refused_told_at: None,
        }
    }
}

/// An effect that is being waited for.
#[derive(Debug, Clone)]
pub struct Waiting {
    pub id: String,
    pub lost_at: Timestamp,
}

/// A gathering that is not in the log: in peace, or while an override stands.
#[derive(Debug, Clone)]
pub struct Look {
    pub waiting: Waiting,
    pub purpose: Purpose,
}

/// A verification that is under way.
#[derive(Debug, Clone)]
pub struct Verifying {
    pub id: String,
    pub deadline: Timestamp,
    pub next_at: Timestamp,
    pub in_flight: bool,
}

#[derive(Debug)]
pub struct LivePeer {
    pub since: Timestamp,
    pub round_due: Timestamp,
    pub rounds: u64,
    pub round: Option<Waiting>,
    pub bypass: Option<Waiting>,
    pub burst: Option<Burst>,
    pub burst_probes: BTreeSet<String>,
    /// Rounds of the normal path in a row that were whole, or were not.
    pub healthy: u32,
    pub failing: u32,
    pub whole_since: Option<Timestamp>,
    /// The last round that failed did so because we call too much.
    pub limited: bool,
    pub last: Vec<Observation>,
    /// Since when nothing has got through, in an incident that was opened on less.
    pub worse_since: Option<Timestamp>,
    /// Rounds past our override in a row that were whole.
    pub bypass_healthy: u32,
    /// When the last bad answer of the normal path has run out everywhere.
    pub bad_until: Timestamp,
    pub standing_bad: u32,
    pub application: VecDeque<ApplicationCall>,
    pub application_failing: u32,
    pub application_fine: u32,
    pub look: Option<Look>,
    pub baseline_due: Timestamp,
    pub standing_due: Option<Timestamp>,
    pub diagnose_due: Option<Timestamp>,
    pub diagnose_lost_at: Option<Timestamp>,
    pub set_recorded_at: Option<Timestamp>,
    pub identity_looked_at: Option<Timestamp>,
    pub verifying: Option<Verifying>,
    /// When somebody was last met whom nobody knows.
    pub strange_at: Option<Timestamp>,
    /// Addresses that an operator asked to pin, to be proved by the next gathering.
    pub pin: Option<BTreeSet<IpAddr>>,
    /// Whether a failure lasts, and a page that waits for the controls.
    pub watch: Option<Watch>,
    pub page: Option<PendingPage>,
    /// The name is steered, as the last look in peace found. None: not looked yet.
    pub steered: Option<bool>,
}

impl LivePeer {
    pub fn new(now: Timestamp) -> LivePeer {
        LivePeer {
            since: now,
            round_due: now,
            rounds: 0,
            round: None,
            bypass: None,
            burst: None,
            burst_probes: BTreeSet::new(),
            healthy: 0,
            failing: 0,
            whole_since: None,
            limited: false,
            last: Vec::new(),
            worse_since: None,
            bypass_healthy: 0,
            bad_until: now,
            standing_bad: 0,
            application: VecDeque::new(),
            application_failing: 0,
            application_fine: 0,
            look: None,
            baseline_due: now,
            standing_due: None,
            diagnose_due: None,
            diagnose_lost_at: None,
            set_recorded_at: None,
            identity_looked_at: None,
            verifying: None,
            strange_at: None,
            pin: None,
            watch: None,
            page: None,
            steered: None,
        }
    }

    pub fn next_due(&self) -> Option<Timestamp> {
        let burst = self
            .burst
            .as_ref()
            .filter(|burst| burst.asked < crate::alarm::burst::BURST_PROBES)
            .map(|burst| burst.next_at);
        let verifying = self
            .verifying
            .as_ref()
            .map(|verifying| if verifying.in_flight { verifying.deadline } else { verifying.next_at });
        let looking = self.look.as_ref().map(|look| look.waiting.lost_at);
        [
            Some(self.round_due),
            burst,
            verifying,
            looking,
            self.look.is_none().then_some(self.baseline_due),
            self.standing_due.filter(|_| self.look.is_none()),
            self.diagnose_due,
            self.diagnose_lost_at,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
