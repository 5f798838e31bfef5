//! What people ask of alarms.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::alarms::{ALARMS_MAX, Changed};
use super::{Engine, Turn};
use crate::alarm::AlarmState;
use crate::alarm::composite::{self, AlarmExpression};
use crate::alarm::definition::Definition;
use crate::alarm::exchange::order::children_first;
use crate::alarm::mute::MuteRule;
use crate::event::{Actor, Event, Origin};

/// `StateReason` and `StateReasonData` of `SetAlarmState`.
const REASON_MAX: usize = 1023;
const REASON_DATA_MAX: usize = 4000;
/// Of actions that will not run, in one answer.
const LOST_SHOWN: usize = 10;
/// Mute rules in all; each names up to 100 alarms.
const MUTE_RULES_MAX: usize = 100;

impl Engine {
    /// All of them or none: every definition is checked against what would stand after all were put.
    pub(super) fn put_alarms(
        &mut self,
        turn: &mut Turn,
        definitions: Vec<Definition>,
        by: Actor,
    ) -> Result<String, String> {
        self.check_put(&definitions)?;
        let names: Vec<String> = definitions.iter().map(|definition| definition.name.clone()).collect();
        let lost = self.lost_actions(&definitions);
        for definition in children_first(definitions) {
            self.put_alarm(turn, definition, Origin::Operator, by.clone());
        }
        let done = match &names[..] {
            [name] => format!("{name} is put"),
            names => format!("{} alarms are put", names.len()),
        };
        Ok(match &lost[..] {
            [] => done,
            lost => format!("{done}; actions that will not run: {}", lost.join(", ")),
        })
    }

    /// Actions of these alarms that come to nothing as the configuration is, each with why. They are kept all the same.
    fn lost_actions(&self, definitions: &[Definition]) -> Vec<String> {
        let all = definitions.iter().map(|definition| &definition.actions);
        let all: BTreeSet<&String> =
            all.flat_map(|own| own.ok.iter().chain(&own.alarm).chain(&own.insufficient_data)).collect();
        let lost = all.into_iter().filter_map(|action| Some(format!("{action} ({})", self.leads_nowhere(action)?)));
        lost.take(LOST_SHOWN).collect()
    }

    fn check_put(&self, definitions: &[Definition]) -> Result<(), String> {
        let known = &self.state.alarms.records;
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for definition in definitions {
            if !names.insert(&definition.name) {
                return Err(format!("{} is given twice", definition.name));
            }
            let observed = known.get(&definition.name).is_some_and(|known| known.definition.is_observed());
            if definition.is_observed() || observed {
                return Err(format!(
                    "{} is an observed alarm of ukai's own, and cannot be put; give your alarm another name",
                    definition.name
                ));
            }
        }
        let new = names.iter().filter(|name| !known.contains_key(**name)).count();
        if known.len() + new > ALARMS_MAX {
            return Err(format!("there would be {} alarms, and at most {ALARMS_MAX} are kept", known.len() + new));
        }
        self.check_composites(definitions, &names)
    }

    fn check_composites(&self, definitions: &[Definition], names: &BTreeSet<&str>) -> Result<(), String> {
        let mut rules: BTreeMap<String, AlarmExpression> = self.live.graph.rules.clone();
        let mut put: Vec<&str> = Vec::new();
        for definition in definitions {
            rules.remove(&definition.name);
            if let Some(composite) = definition.composite() {
                let parsed = AlarmExpression::parse(&composite.rule);
                let parsed = parsed.map_err(|error| format!("{}: AlarmRule: {error}", definition.name))?;
                rules.insert(definition.name.clone(), parsed);
                put.push(&definition.name);
            }
        }
        let exists = |name: &str| names.contains(name) || self.state.alarms.records.contains_key(name);
        composite::check_put(&rules, put, &exists).map_err(|(name, error)| format!("{name}: {error}"))
    }

    pub(super) fn delete_alarms(&mut self, turn: &mut Turn, alarms: Vec<String>, by: Actor) -> Result<String, String> {
        let gone: BTreeSet<&str> = alarms.iter().map(String::as_str).collect();
        for alarm in &alarms {
            let record = self.state.alarms.records.get(alarm).ok_or_else(|| unknown(alarm))?;
            if matches!(record.origin, Origin::Default { .. }) {
                return Err(format!(
                    "{alarm} is a default alarm; `ukai alarms disable-actions {alarm}` keeps it quiet, and \
                     `default_alarms = false` of the peer takes the defaults away"
                ));
            }
            let graph = &self.live.graph;
            let watching = [graph.parents.get(alarm), graph.suppressed.get(alarm)];
            let held = watching.into_iter().flatten().flatten().find(|parent| !gone.contains(parent.as_str()));
            if let Some(parent) = held {
                return Err(format!(
                    "{alarm} is used by the composite alarm {parent}; delete or change that one first"
                ));
            }
        }
        for alarm in &alarms {
            self.record(turn, Event::AlarmDeleted { alarm: alarm.clone(), by: by.clone() });
            self.live.triggering.remove(alarm);
            self.live.informed.remove(alarm);
        }
        self.regraph();
        // A default of the same name comes back.
        self.put_defaults(turn);
        Ok(format!("{} deleted", alarms.join(", ")))
    }

    /// Until its next evaluation; actions run as after any change.
    pub(super) fn set_state_by_hand(
        &mut self,
        turn: &mut Turn,
        alarm: &str,
        after: AlarmState,
        reason: String,
        reason_data: Option<String>,
        by: Actor,
    ) -> Result<String, String> {
        let record = self.state.alarms.records.get(alarm).ok_or_else(|| unknown(alarm))?;
        if record.definition.is_observed() {
            return Err(format!("{alarm} is judged at each observation; its state cannot be set by hand"));
        }
        if reason.chars().count() > REASON_MAX {
            return Err(format!("the reason has at most {REASON_MAX} characters"));
        }
        if reason_data.as_ref().is_some_and(|data| data.chars().count() > REASON_DATA_MAX) {
            return Err(format!("the reason data has at most {REASON_DATA_MAX} characters"));
        }
        let peer = self.peer_of(record);
        let opening = self.opening_by_metric(alarm, &peer, &reason);
        let changed =
            Changed { reason_data, by: Some(by), opening: Some(opening), ..Changed::to(alarm, after, &reason) };
        if !self.change_alarm(turn, changed) {
            return Ok(format!("{alarm} is {} already", after.name()));
        }
        Ok(format!("{alarm} is {}, until it is evaluated again", after.name()))
    }

    pub(super) fn set_alarm_actions(
        &mut self,
        turn: &mut Turn,
        alarms: Vec<String>,
        enabled: bool,
        by: Actor,
    ) -> Result<String, String> {
        for alarm in &alarms {
            if !self.state.alarms.records.contains_key(alarm) {
                return Err(unknown(alarm));
            }
        }
        for alarm in &alarms {
            let is = self.state.alarms.records.get(alarm).is_some_and(|record| record.definition.actions_enabled);
            if is != enabled {
                self.record(turn, Event::AlarmActionsSet { alarm: alarm.clone(), enabled, by: by.clone() });
            }
        }
        let word = if enabled { "enabled" } else { "disabled" };
        Ok(format!("actions {word}: {}", alarms.join(", ")))
    }

    pub(super) fn put_mute_rule(&mut self, turn: &mut Turn, rule: MuteRule, by: Actor) -> Result<String, String> {
        let rules = &self.state.alarms.mute_rules;
        if !rules.contains_key(rule.name()) && rules.len() >= MUTE_RULES_MAX {
            return Err(format!("there are {MUTE_RULES_MAX} mute rules, which is the most; delete one first"));
        }
        let targets = rule.request().mute_targets.iter().flat_map(|targets| &targets.alarm_names);
        let missing: Vec<&str> =
            targets.map(String::as_str).filter(|alarm| !self.state.alarms.records.contains_key(*alarm)).collect();
        let note = match missing[..] {
            [] => String::new(),
            _ => format!("; not there (yet): {}", missing.join(", ")),
        };
        let text = format!("the mute rule {} is put; {}{note}", rule.name(), when(&rule, turn.now));
        self.record(turn, Event::MuteRulePut { rule: Box::new(rule), by });
        self.live.mute_due = self.next_mute_end(turn.now);
        Ok(text)
    }

    pub(super) fn delete_mute_rule(&mut self, turn: &mut Turn, rule: &str, by: Actor) -> Result<String, String> {
        if !self.state.alarms.mute_rules.contains_key(rule) {
            return Err(format!("there is no mute rule {rule}; `ukai alarms mute` lists them"));
        }
        self.record(turn, Event::MuteRuleDeleted { rule: rule.to_owned(), by });
        self.live.mute_due = self.next_mute_end(turn.now);
        Ok(format!("the mute rule {rule} is deleted"))
    }
}

/// What a rule does and from when on, for somebody who just put it.
fn when(rule: &MuteRule, now: Timestamp) -> String {
    let has_targets = rule.request().mute_targets.as_ref().is_some_and(|targets| !targets.alarm_names.is_empty());
    match (rule.is_muting(now), rule.next_change(now)) {
        _ if !has_targets => "it names no alarm, so it mutes nothing".to_owned(),
        (Some(window), _) => format!("it mutes now, until {:.0}", window.end),
        (None, Some(next)) => format!("it mutes from {next:.0}"),
        (None, None) => "its time is over, so it mutes nothing".to_owned(),
    }
}

fn unknown(alarm: &str) -> String {
    format!("there is no alarm {alarm}; `ukai alarms` lists them")
}
