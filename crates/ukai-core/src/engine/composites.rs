//! Composite alarms in force: who watches whom, and what follows from a step's changes.
//!
//! Alarms that change in one step have changed at one time, so a composite is evaluated once for all of them, after every
//! composite that it watches. Evaluated after each change alone, `ALARM(down) AND NOT ALARM(blind)` would fire when both
//! come at once, and a stack of such rules would change twice as often with every level. Cycles are refused at the put.

use std::collections::{BTreeMap, BTreeSet};

use super::alarms::Changed;
use super::{Engine, Turn};
use crate::alarm::AlarmState;
use crate::alarm::composite::{self, AlarmExpression, Change, ChildState, Transition};
use crate::alarm::definition::Definition;
use crate::alarm::reason::{self, CompositeCause, TriggeringChild};
use crate::alarm::suppress::{Decision, Suppression};
use crate::alarm::text::shortened;
use crate::alarm::window::SLOW_PERIOD_S;

/// The rules of composite alarms, parsed, and who watches whom.
#[derive(Debug, Default)]
pub struct Graph {
    pub rules: BTreeMap<String, AlarmExpression>,
    pub parents: BTreeMap<String, BTreeSet<String>>,
    /// By suppressor: the composites whose actions it holds back.
    pub suppressed: BTreeMap<String, BTreeSet<String>>,
    /// Some alarm is judged every ten seconds, or every minute.
    pub fast: bool,
    pub slow: bool,
}

impl Graph {
    pub fn of<'a>(definitions: impl IntoIterator<Item = &'a Definition>) -> Graph {
        let mut graph = Graph::default();
        definitions.into_iter().for_each(|definition| graph.add(definition));
        graph
    }

    /// In the place of what had the name before.
    pub fn put(&mut self, definition: &Definition) {
        let name = &definition.name;
        for child in self.rules.remove(name).iter().flat_map(AlarmExpression::children) {
            if let Some(parents) = self.parents.get_mut(child) {
                parents.remove(name);
            }
        }
        self.suppressed.values_mut().for_each(|composites| _ = composites.remove(name));
        self.add(definition);
    }

    fn add(&mut self, definition: &Definition) {
        if let Some(alarm) = definition.metric() {
            self.fast |= alarm.period_s() < SLOW_PERIOD_S;
            self.slow |= alarm.period_s() >= SLOW_PERIOD_S;
        }
        let Some(composite) = definition.composite() else { return };
        let name = &definition.name;
        if let Some(suppressor) = &composite.suppressor
            && let Ok(named) = composite::AlarmRef::new(suppressor.alarm())
        {
            self.suppressed.entry(named.alarm_name().to_owned()).or_default().insert(name.clone());
        }
        let Ok(rule) = AlarmExpression::parse(&composite.rule) else { return };
        for child in rule.children() {
            self.parents.entry(child.to_owned()).or_default().insert(name.clone());
        }
        self.rules.insert(name.clone(), rule);
    }

    /// Every composite over these alarms, each after those that it watches. What stands in a cycle is left out.
    fn above<'a>(&self, alarms: impl Iterator<Item = &'a String>) -> Vec<String> {
        let parents = |alarm: &str| self.parents.get(alarm).into_iter().flatten();
        let mut waits_for: BTreeMap<&str, usize> = BTreeMap::new();
        let mut below: Vec<&str> = alarms.map(String::as_str).collect();
        let first = below.clone();
        let mut seen: BTreeSet<&str> = below.iter().copied().collect();
        while let Some(alarm) = below.pop() {
            for parent in parents(alarm) {
                *waits_for.entry(parent).or_default() += 1;
                if seen.insert(parent) {
                    below.push(parent);
                }
            }
        }
        let mut ready: Vec<&str> = first.into_iter().filter(|alarm| !waits_for.contains_key(alarm)).collect();
        let mut ordered = Vec::new();
        while let Some(alarm) = ready.pop() {
            for parent in parents(alarm) {
                let Some(left) = waits_for.get_mut(parent.as_str()) else { continue };
                *left -= 1;
                if *left == 0 {
                    ready.push(parent);
                    ordered.push(parent.clone());
                }
            }
        }
        ordered
    }
}

impl Engine {
    pub(super) fn regraph(&mut self) {
        self.live.graph = Graph::of(self.state.alarms.records.values().map(|record| &*record.definition));
    }

    /// Whoever watches an alarm learns that it has another state: a suppressed composite at once, others when the step's
    /// changes are settled.
    pub(super) fn follow(&mut self, turn: &mut Turn, alarm: &str, before: AlarmState, after: AlarmState) {
        if before == after {
            return;
        }
        turn.changed.entry(alarm.to_owned()).or_insert(before);
        self.suppressor_changed(turn, alarm, after);
    }

    /// What the alarms that changed in this step make of the composites above them.
    pub(super) fn settle_composites(&mut self, turn: &mut Turn) {
        if turn.changed.is_empty() {
            return;
        }
        for composite in self.live.graph.above(turn.changed.keys()) {
            self.children_changed(turn, &composite);
        }
        turn.changed.clear();
    }

    fn children_changed(&mut self, turn: &mut Turn, composite: &str) {
        let Some(record) = self.state.alarms.records.get(composite) else { return };
        let Some(rule) = self.live.graph.rules.get(composite) else { return };
        let records = &self.state.alarms.records;
        let before =
            |name: &str| turn.changed.get(name).copied().or_else(|| records.get(name).map(|record| record.state));
        let change = |name: &str| {
            let (before, to) = (turn.changed.get(name)?, self.state.alarms.state(name));
            let change = Change { alarm_name: name.to_owned(), arn: self.arn(name), to, at: turn.now };
            (*before != to).then_some(change)
        };
        let changes: Vec<Change> = rule.children().into_iter().filter_map(change).collect();
        let transitions = composite::transitions(rule, record.state, &before, &changes);
        for transition in transitions {
            let sentences: Vec<String> = transition
                .triggering
                .iter()
                .map(|TriggeringChild { arn, state, at }| {
                    reason::composite_reason(CompositeCause::Child { arn, state: *state, at: *at }, transition.to)
                })
                .collect();
            let text = shortened(&sentences.join(", "), reason::REASON_MAX);
            self.composite_changed(turn, composite, &transition, &text);
        }
    }

    pub(super) fn composite_was_put(&mut self, turn: &mut Turn, name: &str) {
        let Some(record) = self.state.alarms.records.get(name) else { return };
        let Some(rule) = self.live.graph.rules.get(name) else { return };
        let known: BTreeMap<String, ChildState> = rule
            .children()
            .into_iter()
            .filter_map(|child| {
                let record = self.state.alarms.records.get(child)?;
                let state = ChildState { arn: self.arn(child), state: record.state, timestamp: record.since };
                Some((child.to_owned(), state))
            })
            .collect();
        let transition = composite::first_evaluation(rule, record.state, &known, turn.now);
        let suppressor = record.definition.composite().and_then(|composite| composite.suppressor.clone());
        let suppressor_state = suppressor.as_ref().and_then(|suppressor| self.state_of_ref(suppressor.alarm()));
        let (mut suppression, decision) = match record.suppression.clone() {
            None => (Suppression::new(record.state, suppressor, suppressor_state), Decision::Nothing),
            Some(mut known) => {
                let decision = known.put_suppressor(suppressor, suppressor_state, turn.now);
                (known, decision)
            }
        };
        let is_new = self.state.alarms.records.get(name).is_some_and(|record| record.suppression.is_none());
        if is_new {
            // An alarm that is new has no actions waiting, whatever its first evaluation says.
            let _ = suppression.advance(turn.now);
        }
        self.take_suppression(turn, name, suppression, decision);
        if let Some(transition) = transition {
            let arn = self.arn(name);
            let cause =
                if is_new { CompositeCause::Created { arn: &arn } } else { CompositeCause::Updated { arn: &arn } };
            let text = reason::composite_reason(cause, transition.to);
            self.composite_changed(turn, name, &transition, &text);
        }
    }

    fn composite_changed(&mut self, turn: &mut Turn, name: &str, transition: &Transition, text: &str) {
        let data = (!transition.triggering.is_empty()).then(|| reason::composite_reason_data(&transition.triggering));
        let changed = Changed { reason_data: data, ..Changed::to(name, transition.to, text) };
        self.live.triggering.insert(name.to_owned(), transition.triggering.clone());
        self.change_alarm(turn, changed);
    }
}
