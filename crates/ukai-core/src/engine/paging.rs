//! Who is woken, and when.
//!
//! A confirmed failure opens an incident at once, and the cause is looked for; but somebody is paged only for what lasts.
//! From the confirmation on, a *watch* probes once a second. If every probe of one round's length failed, the outage alarm
//! goes to ALARM; one whole probe ends the watch, and the next failed round begins another. So the blip of a deployment
//! and a flapping minute wake nobody, and a real outage pages within three rounds.
//!
//! The *controls* are parents of every peer: they are tried when a watch begins, and while they fail too, it is they who
//! page, once, and no peer does. That holds back pages only: measuring, diagnosis and resolution go on. When they pass
//! again, a peer that still fails pages by itself.
//!
//! An incident that was paged, closed, and soon failed again is not paged at once, since alarms that toggle wake people for
//! nothing; but somebody who read "closed" has gone to bed, so what lasts a minute this time is paged once more.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::incident::is_page_worthy;
use super::live::{PROBE_LOST, Waiting};
use super::notices::Notice;
use super::{Engine, Turn, later};
use crate::alarm::AlarmState;
use crate::alarm::defaults::{CONTROLS, outage};
use crate::diagnose::evidence::ControlResult;
use crate::diagnose::reading::list;
use crate::diagnose::verdict::Code;
use crate::effect::Effect;
use crate::event::{Event, NotificationKind};
use crate::metric::of_probe::of_controls;
use crate::observe::{ErrorClass, Failure, Observation, Path};
use crate::state::Incident;

/// The longest that a fault must last before it pages: one round of the default interval.
const LASTS_MAX: SignedDuration = SignedDuration::from_secs(10);
/// … and an incident that was closed, and failed again so soon that it does not page at once.
const REOPENED_LASTS: SignedDuration = SignedDuration::from_secs(60);
/// Between the probes of a watch.
const WATCH_EVERY: SignedDuration = SignedDuration::from_secs(1);
/// Probes of one watch.
const WATCH_PROBES_MAX: u32 = 12;
/// How often the controls are tried in peace.
const CONTROLS_EVERY: SignedDuration = SignedDuration::from_secs(60);
/// A failure of the controls is confirmed so much later.
const CONTROLS_CONFIRM: SignedDuration = SignedDuration::from_secs(1);
/// Failed tries in a row that make it their fault.
const CONTROLS_TO_ALARM: u32 = 2;
/// A page waits for the controls at most this long: they answer, or time out, well before.
const CONTROLS_WAIT: SignedDuration = SignedDuration::from_secs(12);
/// A failure of the controls that was not seen again for so long says nothing any more.
const CONTROLS_STALE: SignedDuration = SignedDuration::from_mins(3);
/// A watch is not taken up again after a restart if nothing was seen for so long before it.
const UNSEEN_MAX: SignedDuration = SignedDuration::from_secs(60);
/// What the application alone says is not understood before the cause was looked for; that takes no longer.
const CAUSE_WAIT: SignedDuration = SignedDuration::from_secs(12);
/// With fewer live ones nothing can be said of us.
const CONTROLS_NEEDED: usize = 2;

/// A fault that is being watched: does it last?
#[derive(Debug, Clone)]
pub struct Watch {
    pub since: Timestamp,
    pub next_at: Timestamp,
    pub asked: u32,
    pub probes: BTreeSet<String>,
}

/// The controls, as they were last tried.
#[derive(Debug, Clone, Default)]
pub struct Controls {
    pub due: Option<Timestamp>,
    pub waiting: Option<Waiting>,
    pub asked_at: Option<Timestamp>,
    /// When the try was begun whose result is known.
    pub known_of: Option<Timestamp>,
    pub failed: u32,
    /// Those that passed at least once.
    pub live: BTreeSet<String>,
}

/// A page that waits for the controls.
#[derive(Debug, Clone)]
pub struct PendingPage {
    pub since: Timestamp,
    pub suppressed: bool,
}

impl Engine {
    pub(super) fn advance_controls(&mut self, turn: &mut Turn) {
        if self.settings.controls.len() < CONTROLS_NEEDED || self.settings.peers.is_empty() {
            return;
        }
        let controls = &mut self.live.controls;
        if controls.waiting.as_ref().is_some_and(|waiting| turn.now >= waiting.lost_at) {
            controls.waiting = None;
        }
        if controls.waiting.is_some() || controls.due.is_some_and(|due| turn.now < due) {
            return;
        }
        self.live.probes += 1;
        let id = format!("c-{}", self.live.probes);
        let controls = &mut self.live.controls;
        controls.due = Some(later(turn.now, CONTROLS_EVERY));
        controls.asked_at = Some(turn.now);
        controls.waiting = Some(Waiting { id: id.clone(), lost_at: later(turn.now, PROBE_LOST) });
        turn.effect(Effect::ProbeControls { id });
    }

    pub(super) fn controls_observed(&mut self, turn: &mut Turn, id: &str, results: &[ControlResult]) {
        let controls = &mut self.live.controls;
        if controls.waiting.take_if(|waiting| waiting.id == id).is_none() {
            return;
        }
        controls.known_of = controls.asked_at;
        controls.live.extend(results.iter().filter(|result| result.passed()).map(|result| result.control.clone()));
        let learned: BTreeSet<&String> = self.state.peers.values().flat_map(|peer| &peer.history.controls).collect();
        let live: Vec<&ControlResult> = results
            .iter()
            .filter(|result| controls.live.contains(&result.control) || learned.contains(&result.control))
            .collect();
        let passed = live.iter().filter(|result| result.passed()).count();
        let (count, failing) = (live.len(), live.len() >= CONTROLS_NEEDED && passed == 0);
        let datum = of_controls(&self.settings.vantage, turn.now, passed, count);
        let failures: Vec<String> = live.iter().filter_map(|result| failure(result)).collect();
        self.put_all(turn, super::measure::CONTROLS, datum.into_iter().collect());
        self.judge_controls(turn, failing, count, &failures);
    }

    fn judge_controls(&mut self, turn: &mut Turn, failing: bool, count: usize, failures: &[String]) {
        let controls = &mut self.live.controls;
        controls.failed = if failing { controls.failed + 1 } else { 0 };
        if failing && controls.failed < CONTROLS_TO_ALARM {
            controls.due = Some(later(turn.now, CONTROLS_CONFIRM));
            return;
        }
        let before = self.state.alarms.state(CONTROLS);
        if failing {
            let reason = format!("none of {count} controls passes: {}", list(failures));
            self.set_alarm(turn, CONTROLS, AlarmState::Alarm, &reason);
        } else {
            let (after, reason) = match count {
                CONTROLS_NEEDED.. => (AlarmState::Ok, "controls pass"),
                _ => (AlarmState::InsufficientData, "fewer than two controls have ever passed"),
            };
            self.set_alarm(turn, CONTROLS, after, reason);
            if before == AlarmState::Alarm {
                self.drop_suppressed();
            }
        }
    }

    /// The page that the controls send in the place of every peer.
    pub(super) fn page_controls(&mut self, turn: &mut Turn) {
        let reason = self.state.alarms.records.get(CONTROLS).map(|record| record.reason.clone()).unwrap_or_default();
        let kept: Vec<&String> =
            self.state.peers.keys().filter(|peer| self.state.open_incident(peer).is_some()).collect();
        let text = format!(
            "{reason}. The fault is on our side, not a peer's. Peers with an open incident, that do not page meanwhile: {}.",
            list(kept)
        );
        self.tell(
            turn,
            Notice {
                kind: NotificationKind::Paged,
                peer: String::new(),
                incident: None,
                page: true,
                subject: format!("{}: nothing gets out", self.settings.vantage),
                text,
            },
        );
    }

    /// A failed round or burst of an open incident that nobody was paged for: does it last?
    pub(super) fn watch(&mut self, turn: &mut Turn, peer: &str, since: Timestamp) {
        let Some(incident) = self.state.open_incident(peer) else { return };
        let seen_to_last = self.state.alarms.state(&outage(peer)) == AlarmState::Alarm;
        let wanted = !incident.paged || incident.page_if_it_lasts || !seen_to_last;
        let waits = self.live.peers.get(peer).is_some_and(|live| live.page.is_some());
        if !wanted || waits {
            return;
        }
        // What was watched before, and was not broken by a whole probe, goes on.
        let since = incident.watched_since.unwrap_or(since);
        self.ask_controls(turn, since);
        if self.live.peers.get(peer).is_none_or(|live| live.watch.is_some()) {
            return;
        }
        let unnoted = self.state.open_incident(peer).filter(|incident| incident.watched_since.is_none());
        if let Some(incident) = unnoted.map(|incident| incident.id.clone()) {
            self.record(turn, Event::FailureWatched { incident, since });
        }
        let next_at = later(turn.now, WATCH_EVERY);
        self.live_mut(peer, |live| live.watch = Some(Watch { since, next_at, asked: 0, probes: BTreeSet::new() }));
    }

    /// After a restart: the watch goes on from when it began, with a probe at once. If nothing ran for long, nobody knows
    /// what was in between, and it begins anew. A fault that had been seen to last needs one more failed probe to page.
    pub(super) fn watch_on(&mut self, turn: &Turn, peer: &str, ran_until: Timestamp) {
        let wanted = |incident: &&Incident| !incident.paged || incident.page_if_it_lasts;
        let Some(incident) = self.state.open_incident(peer).filter(wanted) else { return };
        let lasting = self.state.alarms.state(&outage(peer)) == AlarmState::Alarm;
        let known = turn.now.duration_since(ran_until) < UNSEEN_MAX;
        let since = match incident.watched_since {
            _ if lasting && !incident.paged => incident.failing_since,
            Some(since) if known => since,
            Some(_) => turn.now,
            None => return,
        };
        self.live_mut(peer, |live| {
            live.watch.get_or_insert(Watch { since, next_at: turn.now, asked: 0, probes: BTreeSet::new() });
        });
    }

    /// They are tried anew, unless they were since then.
    fn ask_controls(&mut self, turn: &Turn, since: Timestamp) {
        let controls = &mut self.live.controls;
        let fresh = controls.asked_at.is_some_and(|at| at >= since);
        if !fresh && controls.waiting.is_none() {
            controls.due = Some(turn.now);
        }
    }

    /// Whether a peer still fails now that something gets out again, its next rounds must tell.
    fn drop_suppressed(&mut self) {
        for live in self.live.peers.values_mut() {
            live.page.take_if(|page| page.suppressed);
        }
    }

    pub(super) fn advance_watch(&mut self, turn: &mut Turn, peer: &str) {
        let due = self.live.peers.get_mut(peer).and_then(|live| {
            let watch =
                live.watch.as_mut().filter(|watch| turn.now >= watch.next_at && watch.asked < WATCH_PROBES_MAX)?;
            watch.asked += 1;
            watch.next_at = later(turn.now, WATCH_EVERY);
            Some(())
        });
        if due.is_some() {
            let waiting = self.probe(turn, peer, Path::Normal);
            self.live_mut(peer, |live| {
                if let Some(watch) = &mut live.watch {
                    watch.probes.insert(waiting.id);
                }
            });
        }
        self.advance_page(turn, peer);
    }

    /// Any probe by the normal path, of a round, a burst or a watch: one that is whole ends the watch.
    pub(super) fn watched(&mut self, turn: &mut Turn, peer: &str, observations: &[Observation]) {
        let Some(interval) = self.settings.peers.get(peer).map(|peer| peer.interval) else { return };
        let lasts = SignedDuration::try_from(interval).unwrap_or(LASTS_MAX).min(LASTS_MAX);
        self.worsen(turn, peer, observations, lasts);
        if !observations.iter().any(Observation::any_failed) {
            self.watch_broke(turn, peer);
            return;
        }
        let Some(live) = self.live.peers.get_mut(peer) else { return };
        let Some(watch) = &live.watch else { return };
        let started = observations.iter().map(|observation| observation.started_at).min().unwrap_or(turn.now);
        if started.duration_since(watch.since) < lasts {
            return;
        }
        let since = watch.since;
        let is_due = self.is_page_due(turn, peer);
        if is_due {
            self.live_mut(peer, |live| live.watch = None);
        }
        let reason = format!(
            "no probe was whole for {} s, since {}",
            started.duration_since(since).as_secs(),
            super::notices::moment(since)
        );
        let alarm = outage(peer);
        let changed = self.set_alarm(turn, &alarm, AlarmState::Alarm, &reason);
        // It had been suppressed, or was to last longer: the state is no news, but nobody was told.
        if !changed && is_due && self.is_free_to_act(turn, &alarm) {
            self.want_page(turn, peer, false);
        }
    }

    /// An incident that was opened on a failure of a part wakes nobody. When nothing at all gets through for as long as an
    /// outage must last, it is one.
    fn worsen(&mut self, turn: &mut Turn, peer: &str, observations: &[Observation], lasts: SignedDuration) {
        let lesser = self.state.open_incident(peer).filter(|incident| !incident.worthy || is_only_limited(incident));
        let total =
            is_page_worthy(observations).then(|| observations.iter().map(|seen| seen.started_at).min()).flatten();
        let (Some(incident), Some(started)) = (lesser.map(|incident| incident.id.clone()), total) else {
            self.live_mut(peer, |live| live.worse_since = None);
            return;
        };
        let mut since = started;
        self.live_mut(peer, |live| since = *live.worse_since.get_or_insert(started));
        let failure = observations.iter().filter(|seen| seen.all_failed()).find_map(Observation::failure);
        let Some(Failure { stage, class, detail }) = failure.filter(|_| started.duration_since(since) >= lasts) else {
            return;
        };
        let summary =
            format!("{peer} fails at {} ({}), and nothing gets through any more: {detail}", stage.name(), class.name());
        self.record(turn, Event::IncidentWorsened { incident, stage: *stage, class: *class, summary });
        self.live_mut(peer, |live| {
            live.worse_since = None;
            live.diagnose_due = Some(turn.now);
        });
        // The outage alarm may have gone to ALARM long ago, by the failure of the part.
        let alarm = outage(peer);
        if self.state.alarms.state(&alarm) == AlarmState::Alarm && self.is_free_to_act(turn, &alarm) {
            self.want_page(turn, peer, false);
        }
    }

    /// Nobody is paged for this yet, or it has gone on for long enough to be paged again.
    fn is_page_due(&self, turn: &Turn, peer: &str) -> bool {
        let lasts = |since: Timestamp| turn.now.duration_since(since) >= REOPENED_LASTS;
        self.state.open_incident(peer).is_some_and(|incident| {
            !incident.paged || incident.page_if_it_lasts && incident.watched_since.is_some_and(lasts)
        })
    }

    fn watch_broke(&mut self, turn: &mut Turn, peer: &str) {
        self.live_mut(peer, |live| live.watch = None);
        let watched = self.state.open_incident(peer).filter(|incident| incident.watched_since.is_some());
        if let Some(incident) = watched.map(|incident| incident.id.clone()) {
            self.record(turn, Event::FailureBroke { incident });
        }
    }

    /// Somebody is to be woken for this peer's open incident, unless the controls say that the fault is ours.
    /// `anyway`: whatever the incident was opened on.
    pub(super) fn want_page(&mut self, turn: &mut Turn, peer: &str, anyway: bool) {
        let worthy = self.state.open_incident(peer).is_some_and(|incident| anyway || is_worthy(incident));
        if !worthy || !self.is_page_due(turn, peer) {
            return;
        }
        let since = self.state.open_incident(peer).map_or(turn.now, |incident| incident.failing_since);
        self.ask_controls(turn, since);
        self.live_mut(peer, |live| {
            live.page.get_or_insert(PendingPage { since: turn.now, suppressed: false });
        });
        self.advance_page(turn, peer);
    }

    fn advance_page(&mut self, turn: &mut Turn, peer: &str) {
        let Some(pending) = self.live.peers.get(peer).and_then(|live| live.page.clone()) else { return };
        let due = self.is_page_due(turn, peer);
        let Some(incident) = self.state.open_incident(peer).filter(|_| due) else {
            self.live_mut(peer, |live| live.page = None);
            return;
        };
        let (id, since) = (incident.id.clone(), incident.failing_since);
        let waited = turn.now.duration_since(pending.since) >= CAUSE_WAIT;
        match &incident.verdict {
            // Waiting for the rate limit to pass is not what anybody is asked for.
            Some(_) if is_only_limited(incident) => {
                self.live_mut(peer, |live| live.page = None);
                return;
            }
            None if !waited && is_by_application(incident) => return,
            _ => {}
        }
        if self.controls_page_instead(turn) {
            if !pending.suppressed {
                self.live_mut(peer, |live| live.page = Some(PendingPage { suppressed: true, ..pending }));
                self.record(turn, Event::PageSuppressed { incident: id, by: CONTROLS.to_owned() });
            }
            return;
        }
        let waited = turn.now.duration_since(pending.since) >= CONTROLS_WAIT;
        // Controls whose page would go nowhere have no say.
        if self.is_free_to_act(turn, CONTROLS) && !waited && !self.controls_pass(since) {
            return;
        }
        self.live_mut(peer, |live| live.page = None);
        self.page(turn, peer, &id);
    }

    /// They were seen to fail just now, and their own page went out. A state from before a restart, from controls that are
    /// no longer configured, or of an alarm that is muted or disabled holds nothing back.
    fn controls_page_instead(&self, turn: &Turn) -> bool {
        let controls = &self.live.controls;
        self.state.alarms.state(CONTROLS) == AlarmState::Alarm
            && self.settings.controls.len() >= CONTROLS_NEEDED
            && controls.failed > 0
            && controls.known_of.is_some_and(|at| turn.now.duration_since(at) < CONTROLS_STALE)
            && self.is_free_to_act(turn, CONTROLS)
    }

    /// They passed in a try that began after this, or there are none to ask.
    fn controls_pass(&self, since: Timestamp) -> bool {
        let controls = &self.live.controls;
        let none = self.settings.controls.len() < CONTROLS_NEEDED;
        none || controls.failed == 0 && controls.known_of.is_some_and(|at| at >= since)
    }

    fn page(&mut self, turn: &mut Turn, peer: &str, id: &str) {
        let Some(incident) = self.state.incidents.get(id) else { return };
        let summary = incident.summary.clone();
        let cause = incident.verdict.as_ref().map(|verdict| verdict.summary.clone());
        let reason = cause.unwrap_or_else(|| summary.clone());
        // Who was not woken before reads of an outage, not of one that goes on.
        let fails = if incident.worthy { "outage" } else { "failure" };
        let subject = match incident.paged {
            true => format!("{peer}: still failing"),
            false => format!("{peer}: {fails}, {} fails ({})", incident.stage.name(), incident.class.name()),
        };
        self.record(turn, Event::IncidentPaged { incident: id.to_owned(), reason: reason.clone() });
        self.tell(
            turn,
            Notice {
                kind: NotificationKind::Paged,
                peer: peer.to_owned(),
                incident: Some(id.to_owned()),
                page: true,
                subject,
                text: if reason == summary { format!("{summary}.") } else { format!("{summary}. {reason}") },
            },
        );
    }

    pub(super) fn next_page_due(&self) -> Option<Timestamp> {
        let controls = match &self.live.controls {
            _ if self.settings.controls.len() < CONTROLS_NEEDED || self.settings.peers.is_empty() => None,
            Controls { waiting: Some(waiting), .. } => Some(waiting.lost_at),
            Controls { due, .. } => Some(due.unwrap_or(Timestamp::MIN)),
        };
        let peers = self.live.peers.values().flat_map(|live| {
            let watch = live.watch.as_ref().filter(|watch| watch.asked < WATCH_PROBES_MAX).map(|watch| watch.next_at);
            let page = live.page.as_ref().filter(|page| !page.suppressed);
            [watch, page.map(|page| later(page.since, CONTROLS_WAIT))]
        });
        controls.into_iter().chain(peers.flatten()).min()
    }
}

/// Nothing gets through, or the cause that was found is one that somebody must act on. What our probe alone does not like,
/// while the application is served, wakes nobody.
fn is_worthy(incident: &Incident) -> bool {
    let verdict = incident.verdict.as_ref();
    let served = verdict.is_some_and(|verdict| verdict.code == Code::ProbeError);
    incident.worthy && !served || verdict.is_some_and(|verdict| verdict.page)
}

/// A rate limit was found, and nothing worse has been met since: a verdict outlives what it was given for.
fn is_only_limited(incident: &Incident) -> bool {
    let limited = incident.verdict.as_ref().is_some_and(|verdict| verdict.code == Code::RateLimited);
    limited && matches!(incident.class, ErrorClass::HttpStatus | ErrorClass::Application)
}

/// The application's calls fail, and no probe has failed yet.
fn is_by_application(incident: &Incident) -> bool {
    incident.class == ErrorClass::Application
}

fn failure(result: &ControlResult) -> Option<String> {
    let why = result.name_failure.as_ref().or(result.address_failure.as_ref())?;
    Some(format!("{}: {why}", result.control))
}
