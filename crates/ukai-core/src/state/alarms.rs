//! Alarms as the log has left them: their definitions, their states, and what mutes them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::alarm::AlarmState;
use crate::alarm::definition::{Definition, Kind};
use crate::alarm::mute::{MuteRule, MutedNote};
use crate::alarm::reason::UNCHECKED;
use crate::alarm::suppress::Suppression;
use crate::event::{Event, Origin};

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarms {
    pub records: BTreeMap<String, AlarmRecord>,
    #[serde(default)]
    pub mute_rules: BTreeMap<String, MuteRule>,
    /// What mute windows held back and nobody was told of yet.
    #[serde(default)]
    pub muted: MutedNote,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmRecord {
    pub definition: Box<Definition>,
    pub origin: Origin,
    /// `AlarmConfigurationUpdatedTimestamp`.
    pub configured_at: Timestamp,
    pub state: AlarmState,
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason_data: Option<String>,
    /// `StateUpdatedTimestamp` and `StateTransitionedTimestamp`.
    pub since: Timestamp,
    /// The state before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppression: Option<Suppression>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    pub state: AlarmState,
    pub reason: String,
    pub since: Timestamp,
}

impl Alarms {
    pub fn state(&self, alarm: &str) -> AlarmState {
        self.records.get(alarm).map_or(AlarmState::InsufficientData, |record| record.state)
    }

    pub(super) fn apply(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::AlarmPut { definition, origin, .. } => self.put(at, definition, origin),
            Event::AlarmDeleted { alarm, .. } => {
                self.records.remove(alarm);
                self.muted.forget(alarm);
            }
            Event::AlarmActionsSet { alarm, enabled, .. } => {
                self.change(alarm, |record| {
                    record.definition.actions_enabled = *enabled;
                    record.configured_at = at;
                });
            }
            Event::AlarmChanged { alarm, after, reason, reason_data, .. } => {
                self.change(alarm, |record| {
                    let (state, since) = (record.state, record.since);
                    record.previous = Some(Previous { state, reason: record.reason.clone(), since });
                    record.state = *after;
                    record.reason.clone_from(reason);
                    record.reason_data.clone_from(reason_data);
                    record.since = at;
                });
            }
            Event::AlarmSuppressed { alarm, suppression, .. } => {
                self.change(alarm, |record| record.suppression = Some(suppression.clone()));
            }
            Event::AlarmMuted { alarm, change } => {
                // Whether there is room was asked before the event.
                let _ = self.muted.record(alarm, change.clone());
            }
            Event::MuteRulePut { rule, .. } => {
                self.mute_rules.insert(rule.name().to_owned(), (**rule).clone());
            }
            Event::MuteRuleDeleted { rule, .. } => {
                self.mute_rules.remove(rule);
            }
            Event::MuteEnded { alarms } => {
                alarms.iter().for_each(|alarm| self.muted.forget(alarm));
            }
            _ => {}
        }
    }

    /// An update keeps the state and replaces everything else (`PutMetricAlarm`); another kind of alarm starts anew.
    fn put(&mut self, at: Timestamp, definition: &Definition, origin: &Origin) {
        let before = self.records.get(&definition.name);
        let same_kind = before.filter(|before| kind(&before.definition) == kind(definition));
        let record = AlarmRecord {
            definition: Box::new(definition.clone()),
            origin: origin.clone(),
            configured_at: at,
            state: same_kind.map_or(AlarmState::InsufficientData, |before| before.state),
            reason: same_kind.map_or_else(|| UNCHECKED.to_owned(), |before| before.reason.clone()),
            reason_data: same_kind.and_then(|before| before.reason_data.clone()),
            since: same_kind.map_or(at, |before| before.since),
            previous: same_kind.and_then(|before| before.previous.clone()),
            suppression: same_kind.and_then(|before| before.suppression.clone()),
        };
        self.records.insert(definition.name.clone(), record);
    }

    fn change(&mut self, alarm: &str, change: impl FnOnce(&mut AlarmRecord)) {
        if let Some(record) = self.records.get_mut(alarm) {
            change(record);
        }
    }
}

fn kind(definition: &Definition) -> u8 {
    match definition.kind {
        Kind::Metric(_) => 0,
        Kind::Composite(_) => 1,
        Kind::Observed(_) => 2,
    }
}
