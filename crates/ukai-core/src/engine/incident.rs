//! Incidents: opened by an alarm, closed when the peer is whole with no override left.

use jiff::Timestamp;

use super::notices::Notice;
use super::rounds::{application_alarm, burst_alarm};
use super::{Engine, Turn};
use crate::alarm::AlarmState;
use crate::diagnose::evidence::{ApplicationCall, Purpose};
use crate::effect::Effect;
use crate::event::{Event, NotificationKind};
use crate::observe::{ErrorClass, Failure, Observation, Stage};

/// Whole rounds in a row before an incident closes, or a proposal is dropped as needless.
pub(super) const ROUNDS_TO_CLOSE: u32 = 6;
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
    page: bool,
}

impl Opening {
    pub fn by_probe(alarm: &str, seen: Vec<Observation>, failing_since: Option<Timestamp>) -> Opening {
        let failure = seen.iter().find_map(Observation::failure).cloned().unwrap_or_else(|| Failure {
            stage: Stage::Processing,
            class: ErrorClass::TooSlow,
            detail: "too many probes of the last minutes failed, though not the last one".to_owned(),
        });
        let page = is_page_worthy(&seen);
        Opening { alarm: alarm.to_owned(), seen, failing_since, failure, page }
    }

    /// The layer is what our probe says, where it fails too.
    pub fn by_application(alarm: &str, seen: Vec<Observation>, call: &ApplicationCall) -> Opening {
        let said = call.error.as_deref().unwrap_or("it does not say how");
        let failure = seen.iter().find_map(Observation::failure).cloned().unwrap_or_else(|| Failure {
            stage: Stage::Connect,
            class: ErrorClass::Application,
            detail: format!("the application's own calls fail ({said}), while our probe is whole"),
        });
        Opening { alarm: alarm.to_owned(), seen, failing_since: None, failure, page: true }
    }

    pub fn by_identity(alarm: &str, seen: Vec<Observation>, what: &str) -> Opening {
        let failure = Failure { stage: Stage::Tls, class: ErrorClass::IdentityChanged, detail: what.to_owned() };
        Opening { alarm: alarm.to_owned(), seen, failing_since: None, failure, page: true }
    }
}

/// Nothing gets through, and waiting for the rate limit to pass is not what is asked for.
fn is_page_worthy(seen: &[Observation]) -> bool {
    let limited = seen
        .iter()
        .flat_map(|observation| &observation.results)
        .filter_map(|result| result.http.as_ref())
        .any(|http| http.status == TOO_MANY_REQUESTS);
    seen.iter().any(Observation::all_failed) && !limited
}

impl Engine {
    pub(super) fn open_incident(&mut self, turn: &mut Turn, peer: &str, opening: Opening) {
        if self.state.open_incident(peer).is_some() {
            self.live_mut(peer, |live| live.diagnose_due = Some(turn.now));
            return;
        }
        // Rounds from before say nothing of what was just found.
        self.live_mut(peer, |live| live.healthy = 0);
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
                page: opening.page,
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
                page: opening.page,
                subject: format!("{peer}: {} fails ({})", stage.name(), class.name()),
                text: format!("{summary}. The cause is being looked for and follows here."),
            },
        );
        self.request_gathering(turn, peer, Some(id), Purpose::Diagnose);
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
        let application = self.alarm_state(peer, &application_alarm(peer));
        let burst = self.alarm_state(peer, &burst_alarm(peer));
        let slow = self.alarm_state(peer, &format!("{peer}/success"));
        let alarms = [burst, application, slow];
        if alarms.contains(&AlarmState::Alarm) || self.state.live_override(peer).is_some() {
            return;
        }
        let reason = format!("{peer} was whole {healthy} times in a row, with no override left");
        self.record(turn, Event::IncidentClosed { incident: incident.clone(), reason: reason.clone() });
        self.live_mut(peer, |live| {
            live.diagnose_due = None;
            live.diagnose_lost_at = None;
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
