//! Incidents: opened by an alarm, closed when the peer is whole with no override left.

use jiff::{SignedDuration, Timestamp};

use super::notices::Notice;
use super::{Engine, Turn};
use crate::alarm::{AlarmState, defaults};
use crate::diagnose::evidence::{ApplicationCall, Purpose};
use crate::diagnose::verdict::Code;
use crate::effect::Effect;
use crate::event::{Event, NotificationKind};
use crate::metric::of_probe::PROBE_SUCCESS;
use crate::observe::{ErrorClass, Failure, Observation, Stage};

/// Whole rounds in a row before an incident closes, or a proposal is dropped as needless.
pub(super) const ROUNDS_TO_CLOSE: u32 = 6;
/// A failure so soon after the close is the same incident: an alarm that toggles is one incident.
const REOPEN_WITHIN: SignedDuration = SignedDuration::from_mins(15);
/// An incident that was reopened closes only after the peer was whole for this long, twice it after the second time, …
const QUIET_AFTER_REOPENING: SignedDuration = SignedDuration::from_mins(5);
/// … and for no longer than this.
const QUIET_MAX: SignedDuration = SignedDuration::from_mins(30);
/// A stranger who was not met for so long is gone: answers that alternate come back sooner.
const STRANGER_GONE: SignedDuration = SignedDuration::from_mins(5);
/// Observations that an incident rests on, kept in its event.
const RESTS_ON_MAX: usize = 8;
/// HTTP status that asks to be called less (RFC 6585, 4): told, not paged.
const TOO_MANY_REQUESTS: u16 = 429;

/// What an incident is opened on.
#[derive(Debug)]
pub(super) struct Opening {
    alarm: String,
    seen: Vec<Observation>,
    failing_since: Option<Timestamp>,
    failure: Failure,
    /// Somebody is to be paged, if it lasts.
    page: bool,
    /// The alarm has seen to it that it lasts.
    lasting: bool,
}

impl Opening {
    pub fn by_probe(alarm: &str, seen: Vec<Observation>, failing_since: Option<Timestamp>) -> Opening {
        let failure = seen.iter().find_map(Observation::failure).cloned().unwrap_or_else(|| Failure {
            stage: Stage::Processing,
            class: ErrorClass::TooSlow,
            detail: "too many probes of the last minutes failed, though not the last one".to_owned(),
        });
        let page = is_page_worthy(&seen);
        Opening { alarm: alarm.to_owned(), seen, failing_since, failure, page, lasting: false }
    }

    /// By a metric alarm, whose periods have gone by already.
    pub fn by_metric(alarm: &str, seen: Vec<Observation>, failure: Failure, page: bool) -> Opening {
        Opening { alarm: alarm.to_owned(), seen, failing_since: None, failure, page, lasting: true }
    }

    /// The layer is what our probe says, where it fails too.
    /// `every`: no call succeeds any more.
    pub fn by_application(alarm: &str, seen: Vec<Observation>, call: &ApplicationCall, every: bool) -> Opening {
        let said = call.error.as_deref().unwrap_or("it does not say how");
        let failure = seen.iter().find_map(Observation::failure).cloned().unwrap_or_else(|| Failure {
            stage: Stage::Connect,
            class: ErrorClass::Application,
            detail: format!("the application's own calls fail ({said}), while our probe is whole"),
        });
        let page = every && !is_limited(&seen);
        Opening { alarm: alarm.to_owned(), seen, failing_since: None, failure, page, lasting: true }
    }

    pub fn by_identity(alarm: &str, seen: Vec<Observation>, what: &str) -> Opening {
        let failure = Failure { stage: Stage::Tls, class: ErrorClass::IdentityChanged, detail: what.to_owned() };
        Opening { alarm: alarm.to_owned(), seen, failing_since: None, failure, page: true, lasting: true }
    }
}

/// Nothing gets through, and waiting for the rate limit to pass is not what is asked for.
pub(super) fn is_page_worthy(seen: &[Observation]) -> bool {
    seen.iter().any(Observation::all_failed) && !is_limited(seen)
}

pub(super) fn is_limited(seen: &[Observation]) -> bool {
    seen.iter()
        .flat_map(|observation| &observation.results)
        .filter_map(|result| result.http.as_ref())
        .any(|http| http.status == TOO_MANY_REQUESTS)
}

impl Engine {
    pub(super) fn open_incident(&mut self, turn: &mut Turn, peer: &str, opening: Opening) {
        if self.state.open_incident(peer).is_some() {
            self.live_mut(peer, |live| live.diagnose_due = Some(turn.now));
            if opening.lasting {
                self.want_page(turn, peer, opening.page);
            }
            return;
        }
        // Rounds from before say nothing of what was just found.
        self.live_mut(peer, |live| live.healthy = 0);
        let (lasting, page) = (opening.lasting, opening.page);
        let since = opening.failing_since.unwrap_or(turn.now);
        match self.just_closed(turn, peer) {
            Some(id) => self.reopen(turn, peer, id, opening),
            None => self.open(turn, peer, opening),
        }
        if lasting {
            self.want_page(turn, peer, page);
        } else {
            self.watch(turn, peer, since);
        }
    }

    fn open(&mut self, turn: &mut Turn, peer: &str, opening: Opening) {
        let Failure { stage, class, detail } = opening.failure;
        let id = format!("inc-{}", self.state.numbers.incident + 1);
        let summary = format!("{peer} fails at {} ({}): {detail}", stage.name(), class.name());
        self.record(
            turn,
            Event::IncidentOpened {
                incident: id.clone(),
                peer: peer.to_owned(),
                alarm: opening.alarm,
                stage,
                class,
                summary: summary.clone(),
                page: false,
                worthy: opening.page,
                rests_on: opening.seen.into_iter().take(RESTS_ON_MAX).collect(),
                failing_since: opening.failing_since.unwrap_or(turn.now),
            },
        );
        self.tell(
            turn,
            Notice {
                kind: NotificationKind::Opened,
                peer: peer.to_owned(),
                incident: Some(id.clone()),
                page: false,
                subject: format!("{peer}: {} fails ({})", stage.name(), class.name()),
                text: format!("{summary}. The cause is being looked for and follows here."),
            },
        );
        self.request_gathering(turn, peer, Some(id), Purpose::Diagnose);
    }

    /// The incident that this failure goes on with. One that had an override is over for good: its decisions are not
    /// carried over.
    fn just_closed(&self, turn: &Turn, peer: &str) -> Option<String> {
        let last =
            self.state.incidents.values().filter(|known| known.peer == peer).max_by_key(|known| known.opened_at)?;
        let closed_at = last.closed_at?;
        let is_same = last.r#override.is_none() && turn.now.duration_since(closed_at) < REOPEN_WITHIN;
        is_same.then(|| last.id.clone())
    }

    fn reopen(&mut self, turn: &mut Turn, peer: &str, id: String, opening: Opening) {
        let Failure { stage, class, detail } = opening.failure;
        let quiet_since = self.state.incidents.get(&id).and_then(|known| known.closed_at).unwrap_or(turn.now);
        let page_again = turn.now.duration_since(quiet_since) >= QUIET_AFTER_REOPENING;
        let summary = format!("{peer} fails again at {} ({}): {detail}", stage.name(), class.name());
        self.record(
            turn,
            Event::IncidentReopened {
                incident: id.clone(),
                alarm: opening.alarm,
                summary: summary.clone(),
                page_again,
                worthy: opening.page,
                stage: Some(stage),
                class: Some(class),
            },
        );
        self.tell(
            turn,
            Notice {
                kind: NotificationKind::Reopened,
                peer: peer.to_owned(),
                incident: Some(id.clone()),
                page: false,
                subject: format!("{peer}: fails again, {id} is open again"),
                text: format!(
                    "{summary}. It was whole for {} only.",
                    super::notices::span(turn.now.duration_since(quiet_since).as_secs())
                ),
            },
        );
        self.request_gathering(turn, peer, Some(id), Purpose::Diagnose);
    }

    /// What a metric alarm has found, as an incident tells it: the last probes where they fail too, else the alarm itself.
    pub(super) fn opening_by_metric(&self, alarm: &str, peer: &str, reason: &str) -> Opening {
        let last = self.live.peers.get(peer).map(|live| live.last.clone()).unwrap_or_default();
        let failure = last.iter().find_map(Observation::failure).cloned().unwrap_or_else(|| Failure {
            stage: Stage::Processing,
            class: ErrorClass::MetricAlarm,
            // CloudWatch's reasons end their sentence; what quotes this does so itself.
            detail: format!("{alarm}: {}", reason.trim_end_matches('.')),
        });
        // The metric says how often probes fail, not that they fail because we call too much.
        let counts_probes = self.state.alarms.records.get(alarm).and_then(|record| record.definition.metric());
        let counts_probes =
            counts_probes.is_some_and(|metric| metric.metrics().any(|stat| &*stat.metric.metric_name == PROBE_SUCCESS));
        let limited = self.live.peers.get(peer).is_some_and(|live| live.limited);
        let page = !(counts_probes && limited);
        Opening::by_metric(alarm, last, failure, page)
    }

    /// Alarms that keep the peer's incident open.
    fn holds_open(&self, peer: &str) -> bool {
        let open = format!("{}{peer}", defaults::OPEN_INCIDENT);
        let is_alarm = |record: &crate::state::AlarmRecord| record.state == AlarmState::Alarm;
        let records = self.state.alarms.records.values();
        records.filter(|record| is_alarm(record)).any(|record| record.definition.actions.alarm.contains(&open))
    }

    pub(super) fn is_about_a_stranger(&self, peer: &str, incident: &str) -> bool {
        self.state.incidents.get(incident).is_some_and(|known| {
            known.alarm == defaults::identity(peer)
                || known.verdict.as_ref().is_some_and(|verdict| verdict.code == Code::IdentityDiscontinuity)
        })
    }

    /// An incident about somebody whom nobody knows is not over while he answers, however well he does it.
    fn stranger_answers(&self, turn: &Turn, peer: &str, incident: &str) -> bool {
        let met = self.live.peers.get(peer).and_then(|live| live.strange_at);
        self.is_about_a_stranger(peer, incident) && met.is_some_and(|at| turn.now.duration_since(at) < STRANGER_GONE)
    }

    /// How long the peer must have been whole: longer each time that the incident was reopened.
    fn quiet_wanted(&self, incident: &str) -> SignedDuration {
        match self.state.incidents.get(incident).map_or(0, |known| known.reopened) {
            0 => SignedDuration::ZERO,
            times => QUIET_AFTER_REOPENING.saturating_mul(1 << (times - 1).min(8)).min(QUIET_MAX),
        }
    }

    pub(super) fn close_if_healthy(&mut self, turn: &mut Turn, peer: &str) {
        let healthy = self.live.peers.get(peer).map_or(0, |live| live.healthy);
        let Some(incident) = self.state.open_incident(peer).map(|known| known.id.clone()) else {
            return;
        };
        if healthy < ROUNDS_TO_CLOSE || self.is_gathering(peer, Purpose::Diagnose) {
            return;
        }
        self.void_needless(turn, peer);
        let quiet = self.live.peers.get(peer).and_then(|live| live.whole_since);
        let quiet = quiet.map_or(SignedDuration::ZERO, |since| turn.now.duration_since(since));
        if self.stranger_answers(turn, peer, &incident)
            || self.holds_open(peer)
            || self.state.live_override(peer).is_some()
            || quiet < self.quiet_wanted(&incident)
        {
            return;
        }
        let reason = format!("{peer} was whole {healthy} times in a row, with no override left");
        self.record(turn, Event::IncidentClosed { incident: incident.clone(), reason: reason.clone() });
        self.live_mut(peer, |live| {
            live.diagnose_due = None;
            live.diagnose_lost_at = None;
            live.watch = None;
            live.page = None;
            // It was asked for in this incident.
            live.pin = None;
        });
        turn.effect(Effect::WriteReport { incident: incident.clone() });
        self.tell(
            turn,
            Notice {
                kind: NotificationKind::Closed,
                peer: peer.to_owned(),
                incident: Some(incident.clone()),
                page: false,
                subject: format!("{peer}: {incident} is closed"),
                text: reason,
            },
        );
    }
}
