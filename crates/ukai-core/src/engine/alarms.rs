//! Alarms in force: put, judged by the clock or at an observation, and what follows from a change of state.
//!
//! ```text
//! metric alarm    every minute, or every ten seconds     ┐
//! observed alarm  at each observation                    ├─► changed ─► its composites ─► their composites …
//! set by hand     until the next evaluation              ┘      └─► actions, unless suppressed, muted or disabled
//! ```
//! A composite is evaluated when children change, once for all that changed in a step ([`super::composites`]), and when it
//! is put.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::incident::Opening;
use super::{Engine, Turn};
use crate::alarm::composite;
use crate::alarm::definition::{Definition, Kind};
use crate::alarm::evaluate::looks_back_s;
use crate::alarm::suppress::{Decision, Suppression};
use crate::alarm::window::{self, FAST_EVERY_S, SLOW_EVERY_S, SLOW_PERIOD_S};
use crate::alarm::{AlarmState, defaults, reason};
use crate::event::{Actor, Event, Origin};
use crate::metric::store::Metrics;
use crate::state::AlarmRecord;

/// Alarms in all. CloudWatch allows 5,000 in a Region by default; state and checkpoints stay small below this.
pub const ALARMS_MAX: usize = 10_000;
/// A window is judged so long after it moved: probes that were under way at its end have come back.
const JUDGE_DELAY: SignedDuration = SignedDuration::from_secs(2);

/// A change of state that is about to be recorded.
#[derive(Debug)]
pub(super) struct Changed {
    pub alarm: String,
    pub after: AlarmState,
    pub reason: String,
    pub reason_data: Option<String>,
    pub by: Option<Actor>,
    /// What an incident would be opened on.
    pub opening: Option<Opening>,
}

impl Changed {
    pub fn to(alarm: &str, after: AlarmState, reason: &str) -> Changed {
        Changed {
            alarm: alarm.to_owned(),
            after,
            reason: reason.to_owned(),
            reason_data: None,
            by: None,
            opening: None,
        }
    }
}

impl Engine {
    /// The default alarms are those of the configured peers; one that an operator put in the place of a default stays.
    pub(super) fn put_defaults(&mut self, turn: &mut Turn) {
        let vantage = self.settings.vantage.clone();
        let mut wanted: BTreeMap<String, (Definition, Option<String>)> = BTreeMap::new();
        for peer in self.settings.peers.values().filter(|peer| peer.default_alarms) {
            for definition in defaults::of_peer(&peer.name, &vantage) {
                wanted.insert(definition.name.clone(), (definition, Some(peer.name.clone())));
            }
        }
        for peer in self.settings.peers.values().filter(|peer| !peer.default_alarms) {
            for definition in defaults::of_peer(&peer.name, &vantage).into_iter().filter(Definition::is_observed) {
                wanted.insert(definition.name.clone(), (definition, Some(peer.name.clone())));
            }
        }
        if !self.settings.peers.is_empty() {
            wanted.insert(defaults::CONTROLS.to_owned(), (defaults::of_vantage(&vantage), None));
        }
        self.delete_unwanted(turn, &wanted);
        for (name, (mut definition, peer)) in wanted {
            let known = self.state.alarms.records.get(&name);
            // An observed alarm is what pages: an operator's alarm that had the name first gives way to it.
            if known.is_some_and(|known| known.origin == Origin::Operator) && !definition.is_observed() {
                continue;
            }
            if let Some(known) = known {
                // A person may have disabled its actions; that is no part of the default.
                definition.actions_enabled = known.definition.actions_enabled;
            }
            if known.is_none_or(|known| *known.definition != definition) {
                self.put_alarm(turn, definition, Origin::Default { peer }, super::change::policy());
            }
        }
    }

    fn delete_unwanted(&mut self, turn: &mut Turn, wanted: &BTreeMap<String, (Definition, Option<String>)>) {
        let gone: Vec<String> = self
            .state
            .alarms
            .records
            .iter()
            .filter(|(name, record)| matches!(record.origin, Origin::Default { .. }) && !wanted.contains_key(*name))
            .map(|(name, _)| name.clone())
            .collect();
        for alarm in gone {
            let before = self.state.alarms.state(&alarm);
            self.record(turn, Event::AlarmDeleted { alarm: alarm.clone(), by: super::change::policy() });
            // A child that is gone counts as one without data.
            self.follow(turn, &alarm, before, AlarmState::InsufficientData);
        }
    }

    /// One that passed every check.
    pub(super) fn put_alarm(&mut self, turn: &mut Turn, definition: Definition, origin: Origin, by: Actor) {
        let name = definition.name.clone();
        let before = self.state.alarms.state(&name);
        self.record(turn, Event::AlarmPut { definition: Box::new(definition), origin, by });
        if let Some(record) = self.state.alarms.records.get(&name) {
            self.live.graph.put(&record.definition);
            retain(&mut self.metrics, &record.definition);
        }
        // Another kind of alarm under the same name starts anew, without a change of its own.
        self.follow(turn, &name, before, self.state.alarms.state(&name));
        let Some(record) = self.state.alarms.records.get(&name) else { return };
        match &record.definition.kind {
            Kind::Metric(_) => self.judge_one(turn, &name, true),
            Kind::Composite(_) => self.composite_was_put(turn, &name),
            Kind::Observed(_) => {}
        }
    }

    /// The alarms whose windows have moved since they were last judged.
    pub(super) fn advance_alarms(&mut self, turn: &mut Turn) {
        let fast = turn.now >= self.live.fast_due;
        let slow = turn.now >= self.live.slow_due;
        if fast {
            self.live.fast_due = window::next_due(SLOW_PERIOD_S - 1, turn.now, JUDGE_DELAY);
        }
        if slow {
            self.live.slow_due = window::next_due(SLOW_PERIOD_S, turn.now, JUDGE_DELAY);
            self.metrics.tend(turn.now);
        }
        if fast || slow {
            for name in self.moved(turn.now, fast, slow) {
                self.judge_one(turn, &name, false);
            }
        }
        self.settle_composites(turn);
        self.advance_suppression(turn);
        self.advance_mutes(turn);
    }

    /// Those whose state is not what their window says.
    fn moved(&mut self, now: Timestamp, fast: bool, slow: bool) -> Vec<String> {
        let evaluator = &mut self.live.evaluator;
        let mut moved = Vec::new();
        for (name, record) in &self.state.alarms.records {
            let Kind::Metric(alarm) = &record.definition.kind else { continue };
            let is_due = if alarm.period_s() < SLOW_PERIOD_S { fast } else { slow };
            if is_due && evaluator.judge(alarm, &self.metrics, now).state.is_some_and(|state| state != record.state) {
                moved.push(name.clone());
            }
        }
        moved
    }

    /// `first`: right after a put, when even the state it has already is a judgement.
    fn judge_one(&mut self, turn: &mut Turn, name: &str, first: bool) {
        let Some(record) = self.state.alarms.records.get(name) else { return };
        let Kind::Metric(alarm) = &record.definition.kind else { return };
        let evaluation = self.live.evaluator.evaluate(alarm, &self.metrics, turn.now);
        let Some(after) = evaluation.judgement.state else { return };
        if after == record.state {
            return;
        }
        debug_assert!(first || after != record.state);
        let text = reason::reason(alarm, &evaluation, after);
        let data = reason::reason_data(alarm, &evaluation).to_json();
        let peer = self.peer_of(record);
        let opening = self.opening_by_metric(name, &peer, &text);
        let changed = Changed { reason_data: Some(data), opening: Some(opening), ..Changed::to(name, after, &text) };
        self.change_alarm(turn, changed);
    }

    /// Changes an alarm's state, and lets everything follow that follows from it. Nothing where nothing changes.
    pub(super) fn change_alarm(&mut self, turn: &mut Turn, changed: Changed) -> bool {
        let Some(record) = self.state.alarms.records.get(&changed.alarm) else { return false };
        let before = record.state;
        if before == changed.after {
            return false;
        }
        let peer = self.peer_of(record);
        let Changed { alarm, after, reason, reason_data, by, opening } = changed;
        self.record(turn, Event::AlarmChanged { alarm: alarm.clone(), peer, before, after, reason, reason_data, by });
        match self.suppression_of(&alarm) {
            None => self.act(turn, &alarm, opening, false),
            Some(mut suppression) => {
                let decision = suppression.composite_changed(after, turn.now);
                self.take_suppression(turn, &alarm, suppression, decision);
            }
        }
        self.follow(turn, &alarm, before, after);
        true
    }

    pub(super) fn suppression_of(&self, alarm: &str) -> Option<Suppression> {
        let record = self.state.alarms.records.get(alarm)?;
        record.definition.composite()?;
        record.suppression.clone()
    }

    pub(super) fn suppressor_changed(&mut self, turn: &mut Turn, suppressor: &str, state: AlarmState) {
        for composite in self.live.graph.suppressed.get(suppressor).cloned().unwrap_or_default() {
            let Some(mut suppression) = self.suppression_of(&composite) else { continue };
            let decision = suppression.suppressor_changed(Some(state), turn.now);
            self.take_suppression(turn, &composite, suppression, decision);
        }
    }

    fn advance_suppression(&mut self, turn: &mut Turn) {
        let due: Vec<String> =
            self.suppressions().filter(|(_, at)| turn.now >= *at).map(|(name, _)| name.to_owned()).collect();
        for name in due {
            let Some(mut suppression) = self.suppression_of(&name) else { continue };
            let decision = suppression.advance(turn.now);
            self.take_suppression(turn, &name, suppression, decision);
        }
    }

    fn suppressions(&self) -> impl Iterator<Item = (&str, Timestamp)> {
        self.live.graph.rules.keys().filter_map(|name| {
            let at = self.state.alarms.records.get(name)?.suppression.as_ref()?.next_due()?;
            Some((name.as_str(), at))
        })
    }

    /// The machine as it is now goes into the log before its actions run.
    pub(super) fn take_suppression(
        &mut self,
        turn: &mut Turn,
        alarm: &str,
        suppression: Suppression,
        decision: Decision,
    ) {
        let known = self.state.alarms.records.get(alarm).and_then(|record| record.suppression.as_ref());
        if known != Some(&suppression) {
            let reason = suppression.suppressed_reason().unwrap_or("Actions are not suppressed").to_owned();
            self.record(turn, Event::AlarmSuppressed { alarm: alarm.to_owned(), suppression, reason });
        }
        if let Decision::RunActions { .. } = decision {
            self.act(turn, alarm, None, false);
        }
    }

    /// What CloudWatch calls an alarm by name or ARN.
    pub(super) fn state_of_ref(&self, written: &str) -> Option<AlarmState> {
        let named = composite::AlarmRef::new(written).ok()?;
        self.state.alarms.records.get(named.alarm_name()).map(|record| record.state)
    }

    /// The peer that an alarm is about; empty where it is about no one peer.
    pub(super) fn peer_of(&self, record: &AlarmRecord) -> String {
        let own = match (&record.origin, &record.definition.kind) {
            (Origin::Default { peer: Some(peer) }, _) => Some(peer.clone()),
            (_, Kind::Observed(observed)) => observed.peer.clone(),
            _ => None,
        };
        let by_action = || {
            record.definition.actions.alarm.iter().find_map(|action| {
                [defaults::OPEN_INCIDENT, defaults::PAGE, defaults::INFORM]
                    .iter()
                    .find_map(|prefix| action.strip_prefix(prefix))
                    .map(str::to_owned)
            })
        };
        own.or_else(by_action).filter(|peer| self.settings.peers.contains_key(peer)).unwrap_or_default()
    }

    pub(super) fn retain_windows(&mut self) {
        let records = self.state.alarms.records.values();
        records.for_each(|record| retain(&mut self.metrics, &record.definition));
    }

    pub(super) fn next_alarm_due(&self) -> Option<Timestamp> {
        let (fast, slow) = (self.live.graph.fast, self.live.graph.slow);
        let judged = [fast.then_some(self.live.fast_due), slow.then_some(self.live.slow_due)];
        let suppressed = self.suppressions().map(|(_, at)| at);
        judged.into_iter().flatten().chain(suppressed).chain(self.live.mute_due).min()
    }
}

/// Metrics are kept for as long as the alarms on them look back.
fn retain(metrics: &mut Metrics, definition: &Definition) {
    let Some(alarm) = definition.metric() else { return };
    let back_s = looks_back_s(alarm);
    alarm.metrics().for_each(|stat| metrics.keep(&stat.metric, back_s));
}

const _: () = assert!(FAST_EVERY_S < SLOW_EVERY_S);
