//! Looking, round after round: probe, burst, alarm.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use super::alarms::Changed;
use super::incident::{Opening, is_limited};
use super::live::{APPLICATION_CALLS_KEPT, LivePeer, PROBE_LOST, Waiting};
use super::{Engine, Turn, later};
use crate::alarm::AlarmState;
use crate::alarm::burst::{BURST_SPACING_MS, Burst, Judgement};
use crate::alarm::defaults::{application as application_alarm, outage, reachability};
use crate::diagnose::evidence::ApplicationCall;
use crate::diagnose::reading::{Continuity, continuity};
use crate::effect::Effect;
use crate::event::Event;
use crate::observe::{Observation, Path};

/// Whole rounds in a row before a burst alarm is OK again.
const ROUNDS_TO_OK: u32 = 3;
/// Failed calls of the application in a row before its own alarm fires; more than the rules need,
/// so that the prober, who names the layer, is first where both see it.
const CALLS_TO_ALARM: u32 = 5;
/// Of so many calls …
const CALLS_LOOKED_AT: usize = 10;
/// … so many failed ones fire it too, though others between them succeed: worth telling, and no reason to wake anybody.
const CALLS_OFTEN: usize = 5;
/// After this long without a report the application's alarm has no data.
const APPLICATION_SILENT: SignedDuration = SignedDuration::from_mins(15);
/// Good calls in a row before that alarm is OK again.
const CALLS_TO_OK: u32 = 3;
/// A rotating name changes its set at every look; the log takes one change a minute.
const SET_RECORDED_EVERY: SignedDuration = SignedDuration::from_secs(60);
/// Jitter of the schedule, as a share of the interval: probes of many peers do not fall in step.
const JITTER_SHARE: u64 = 10;

impl Engine {
    /// Sends what is due: rounds, bursts, the periods of the metric alarm.
    pub(super) fn advance_rounds(&mut self, turn: &mut Turn, peer: &str) {
        let stands = self.state.live_override(peer).is_some_and(|over| over.phase.stands());
        let Some(interval) = self.settings.peers.get(peer).map(|peer| peer.interval) else {
            return;
        };
        let Some(live) = self.live.peers.get_mut(peer) else { return };
        if turn.now >= live.round_due {
            live.rounds += 1;
            live.round_due = next_round(peer, live, interval, turn.now);
            let free = |waiting: &Option<Waiting>| waiting.as_ref().is_none_or(|waiting| turn.now >= waiting.lost_at);
            let (round, bypass) = (free(&live.round), stands && free(&live.bypass));
            if round {
                let waiting = self.probe(turn, peer, Path::Normal);
                self.live_mut(peer, |live| live.round = Some(waiting));
            }
            if bypass {
                let waiting = self.probe(turn, peer, Path::Bypass);
                self.live_mut(peer, |live| live.bypass = Some(waiting));
            }
        }
        self.advance_burst(turn, peer);
        self.advance_watch(turn, peer);
        self.advance_application(turn, peer);
    }

    /// An application that has stopped reporting says nothing, for or against.
    fn advance_application(&mut self, turn: &mut Turn, peer: &str) {
        let alarm = application_alarm(peer);
        if self.state.alarms.state(&alarm) != AlarmState::Alarm {
            return;
        }
        let Some(live) = self.live.peers.get(peer) else { return };
        let heard = live.application.back().map_or(live.since, |call| call.at.max(live.since));
        if turn.now.duration_since(heard) >= APPLICATION_SILENT {
            self.set_alarm(turn, &alarm, AlarmState::InsufficientData, "the application reports no calls");
        }
    }

    fn advance_burst(&mut self, turn: &mut Turn, peer: &str) {
        loop {
            let Some(burst) = self.live.peers.get_mut(peer).and_then(|live| live.burst.as_mut()) else {
                return;
            };
            if turn.now >= later(burst.started_at, PROBE_LOST) {
                // An answer was lost: the next round starts afresh.
                self.live_mut(peer, |live| live.burst = None);
                return;
            }
            if !burst.wants_probe(turn.now) {
                return;
            }
            burst.asked += 1;
            burst.next_at = later(burst.next_at, SignedDuration::from_millis(BURST_SPACING_MS));
            let waiting = self.probe(turn, peer, Path::Normal);
            self.live_mut(peer, |live| {
                live.burst_probes.insert(waiting.id);
            });
        }
    }

    pub(super) fn probe(&mut self, turn: &mut Turn, peer: &str, path: Path) -> Waiting {
        self.live.probes += 1;
        let id = format!("p-{}", self.live.probes);
        turn.effect(Effect::Probe { id: id.clone(), peer: peer.to_owned(), path });
        Waiting { id, lost_at: later(turn.now, PROBE_LOST) }
    }

    pub(super) fn live_mut(&mut self, peer: &str, change: impl FnOnce(&mut LivePeer)) {
        if let Some(live) = self.live.peers.get_mut(peer) {
            change(live);
        }
    }

    /// A probe came back. One that nobody waits for any more changes nothing.
    pub(super) fn observed(&mut self, turn: &mut Turn, id: &str, peer: &str, observations: Vec<Observation>) {
        let Some(live) = self.live.peers.get_mut(peer) else { return };
        let is = |waiting: &Option<Waiting>| waiting.as_ref().is_some_and(|waiting| waiting.id == id);
        if is(&live.round) {
            live.round = None;
            self.round(turn, peer, observations);
        } else if is(&live.bypass) {
            live.bypass = None;
            self.bypass_round(turn, peer, &observations);
        } else if live.burst_probes.remove(id) {
            self.watched(turn, peer, &observations);
            self.burst_answered(turn, peer, &observations);
        } else if live.watch.as_mut().is_some_and(|watch| watch.probes.remove(id)) {
            self.watched(turn, peer, &observations);
        }
    }

    fn round(&mut self, turn: &mut Turn, peer: &str, observations: Vec<Observation>) {
        self.measure(turn, peer, &observations);
        self.note_address_set(turn, peer, &observations);
        self.note_identity(turn, peer, &observations);
        let failed = is_failing(&observations);
        let Some(live) = self.live.peers.get_mut(peer) else { return };
        live.last = observations.clone();
        if failed {
            live.healthy = 0;
            live.whole_since = None;
            live.limited = is_limited(&observations);
            live.failing += 1;
        } else {
            live.healthy += 1;
            live.whole_since.get_or_insert(turn.now);
            live.failing = 0;
            live.burst = None;
            live.burst_probes.clear();
        }
        self.watched(turn, peer, &observations);
        self.standing_round(turn, peer, &observations);
        if failed {
            self.failing_round(turn, peer, observations);
        } else {
            self.healthy_round(turn, peer);
        }
    }

    fn failing_round(&mut self, turn: &mut Turn, peer: &str, observations: Vec<Observation>) {
        let is_alarm = self.state.alarms.state(&reachability(peer)) == AlarmState::Alarm;
        if is_alarm {
            let since = observations.iter().map(|observation| observation.started_at).min();
            return self.watch(turn, peer, since.unwrap_or(turn.now));
        }
        let Some(live) = self.live.peers.get_mut(peer) else { return };
        if live.burst.is_none() {
            live.burst = Some(Burst::started(turn.now, observations));
        }
    }

    fn healthy_round(&mut self, turn: &mut Turn, peer: &str) {
        let healthy = self.live.peers.get(peer).map_or(0, |live| live.healthy);
        for alarm in [reachability(peer), outage(peer)] {
            match self.state.alarms.state(&alarm) {
                AlarmState::InsufficientData => {
                    self.set_alarm(turn, &alarm, AlarmState::Ok, "the first probe was whole");
                }
                AlarmState::Alarm if healthy >= ROUNDS_TO_OK => {
                    let reason = format!("{healthy} probes in a row were whole");
                    self.set_alarm(turn, &alarm, AlarmState::Ok, &reason);
                }
                AlarmState::Alarm | AlarmState::Ok => {}
            }
        }
        self.close_if_healthy(turn, peer);
    }

    fn burst_answered(&mut self, turn: &mut Turn, peer: &str, observations: &[Observation]) {
        let Some(live) = self.live.peers.get_mut(peer) else { return };
        let Some(burst) = live.burst.as_mut() else { return };
        match burst.answered(observations) {
            Judgement::Waiting => {}
            Judgement::Cleared => {
                live.burst = None;
                live.burst_probes.clear();
            }
            Judgement::Confirmed => {
                let seen = std::mem::take(&mut burst.seen);
                let since = burst.failing_since;
                live.burst = None;
                live.burst_probes.clear();
                let alarm = reachability(peer);
                let reason = format!("a failed probe was confirmed by {} more", crate::alarm::burst::BURST_PROBES);
                let opening = Some(Opening::by_probe(&alarm, seen, Some(since)));
                self.change_alarm(turn, Changed { opening, ..Changed::to(&alarm, AlarmState::Alarm, &reason) });
            }
        }
    }

    /// The set that the normal path leads to; while an override stands that is our own, and no news.
    fn note_address_set(&mut self, turn: &mut Turn, peer: &str, observations: &[Observation]) {
        let overridden = self.state.live_override(peer).is_some_and(|over| over.phase.may_stand());
        let Some(resolution) = observations.first().map(|observation| &observation.resolution) else {
            return;
        };
        if overridden || resolution.failure.is_some() {
            return;
        }
        let after: BTreeSet<IpAddr> = resolution.addresses.iter().copied().collect();
        let ttl = resolution.ttl;
        let Some(known) = self.state.peers.get(peer) else { return };
        let Some(live) = self.live.peers.get_mut(peer) else { return };
        let recently = live.set_recorded_at.is_some_and(|at| turn.now.duration_since(at) < SET_RECORDED_EVERY);
        if after.is_empty() || known.normal_set == after || recently {
            return;
        }
        let before = known.normal_set.clone();
        if !before.is_empty() {
            live.set_recorded_at = Some(turn.now);
            live.baseline_due = turn.now;
        }
        let event = Event::AddressSetChanged { peer: peer.to_owned(), before, after, ttl };
        self.record(turn, event);
    }

    /// Somebody whom nobody knows answers, with a certificate that is valid: worth a look at once.
    fn note_identity(&mut self, turn: &Turn, peer: &str, observations: &[Observation]) {
        let (Some(settings), Some(known)) = (self.settings.peers.get(peer), self.state.peers.get(peer)) else {
            return;
        };
        let mut unknown = observations
            .iter()
            .flat_map(|observation| &observation.results)
            .filter_map(|result| Some((result.address, result.identity.as_ref().filter(|identity| identity.verified)?)))
            .filter(|(address, identity)| {
                matches!(continuity(settings, &known.history, identity, *address), Continuity::Broken { .. })
            })
            .map(|(_, identity)| &identity.key_sha256)
            .peekable();
        let met = unknown.peek().is_some();
        let strange = unknown.any(|key| !known.told_keys.contains(key));
        let Some(live) = self.live.peers.get_mut(peer) else { return };
        if met {
            live.strange_at = Some(turn.now);
        }
        let recently = live.identity_looked_at.is_some_and(|at| turn.now.duration_since(at) < SET_RECORDED_EVERY);
        if strange && !recently {
            live.identity_looked_at = Some(turn.now);
            live.baseline_due = turn.now;
        }
    }

    /// The alarm may have fired on calls that failed now and then; now every one does.
    fn application_fails_for_good(&mut self, turn: &mut Turn, peer: &str) {
        let limited = self.live.peers.get(peer).is_some_and(|live| live.limited);
        let alarm = application_alarm(peer);
        let opened_by_it = self.state.open_incident(peer).is_some_and(|known| known.alarm == alarm);
        if opened_by_it && !limited && self.is_free_to_act(turn, &alarm) {
            self.want_page(turn, peer, true);
        }
    }

    /// Changes an observed alarm's state. Nothing is said where nothing changes.
    pub(super) fn set_alarm(&mut self, turn: &mut Turn, alarm: &str, after: AlarmState, reason: &str) -> bool {
        self.change_alarm(turn, Changed::to(alarm, after, reason))
    }

    /// The application told of one of its own calls.
    pub(super) fn application_called(&mut self, turn: &mut Turn, peer: &str, call: ApplicationCall) {
        let Some(live) = self.live.peers.get_mut(peer) else { return };
        if call.ok {
            live.application_fine += 1;
            live.application_failing = 0;
        } else {
            live.application_failing += 1;
            live.application_fine = 0;
        }
        if live.application.len() == APPLICATION_CALLS_KEPT {
            live.application.pop_front();
        }
        live.application.push_back(call.clone());
        let (failing, fine) = (live.application_failing, live.application_fine);
        let looked_at = live.application.iter().rev().take(CALLS_LOOKED_AT);
        let often = looked_at.filter(|call| !call.ok).count();
        let (bursting, last) = (live.burst.is_some(), live.last.clone());
        self.confirm_by(turn, peer, &call);
        let alarm = application_alarm(peer);
        if failing >= CALLS_TO_ALARM && !bursting {
            let reason = format!("{failing} calls of the application failed in a row");
            let opening = Some(Opening::by_application(&alarm, last, &call, true));
            self.change_alarm(turn, Changed { opening, ..Changed::to(&alarm, AlarmState::Alarm, &reason) });
            self.application_fails_for_good(turn, peer);
        } else if often >= CALLS_OFTEN && !call.ok && !bursting {
            let reason = format!("{often} of the last {CALLS_LOOKED_AT} calls of the application failed");
            let opening = Some(Opening::by_application(&alarm, last, &call, false));
            self.change_alarm(turn, Changed { opening, ..Changed::to(&alarm, AlarmState::Alarm, &reason) });
        } else if fine >= CALLS_TO_OK && often < CALLS_OFTEN {
            let reason = format!("{fine} calls of the application succeeded in a row");
            self.set_alarm(turn, &alarm, AlarmState::Ok, &reason);
        }
    }
}

pub(super) fn is_failing(observations: &[Observation]) -> bool {
    observations.iter().any(Observation::any_failed)
}

/// The next round: an interval away, give or take a share that only the peer and the round decide.
fn next_round(peer: &str, live: &LivePeer, interval: std::time::Duration, now: Timestamp) -> Timestamp {
    let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX / 4).max(1);
    let spread = (interval_ms / JITTER_SHARE).max(1);
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in peer.bytes().chain(live.rounds.to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let wait_ms = interval_ms - spread / 2 + hash % spread;
    later(now, SignedDuration::from_millis(i64::try_from(wait_ms).unwrap_or(i64::MAX / 2)))
}
