//! An alarm's history, folded from the event log into the items of `DescribeAlarmHistory`.
//!
//! Our choices: actions that are disabled leave no item; a message for a subscriber is an action that succeeded when it is
//! durable, and one item more says so where it could not be delivered; only the newest items of two weeks are told.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use ukai_core::alarm::definition::Definition;
use ukai_core::alarm::history::{self, ActionOutcome as Became, ConfigurationChange, Configured, HistoryItem};
use ukai_core::alarm::payload::{StateChange, StateThen, Suppression as Held};
use ukai_core::alarm::reason::UNCHECKED;
use ukai_core::alarm::{AlarmState, suppress::Suppression};
use ukai_core::event::{ActionOutcome, Actor, Event, Origin, Recorded};
use ukai_core::state::{AlarmRecord, State};

use super::journal::{Journal, JournalError};
use crate::socket::LINE_BYTES;

/// How far back, as CloudWatch (User Guide, "Alarm history").
const BACK: SignedDuration = SignedDuration::from_hours(14 * 24);
/// As `MaxRecords` of the API.
const ITEMS_MAX: usize = 100;
/// Of the answer's room; JSON within JSON takes up to twice its length.
const ITEMS_BYTES: usize = LINE_BYTES * 3 / 4;

/// Page by page, so that a long log takes no memory.
pub async fn recall(journal: &Journal, mut past: Past) -> Result<Past, JournalError> {
    let mut after = 0;
    loop {
        let page = journal.read(after).await?;
        let Some((last, _)) = page.last() else { return Ok(past) };
        after = *last;
        page.iter().for_each(|(_, recorded)| past.take(recorded));
    }
}

/// What is known of one alarm while its log is read.
pub struct Past {
    name: String,
    region: String,
    account_id: String,
    /// The definition as it is now: the log may have forgotten how the alarm began.
    known: Option<Box<Definition>>,
    state: State,
    /// The message that was queued last, for the action that is told of next.
    queued: Option<(String, String)>,
    /// Actions by the key of their message.
    sent: BTreeMap<String, String>,
    suppressed: Option<&'static str>,
    items: VecDeque<HistoryItem>,
    pub is_known: bool,
}

impl Past {
    pub fn of(name: &str, known: Option<Box<Definition>>, region: &str, account_id: &str) -> Past {
        Past {
            name: name.to_owned(),
            region: region.to_owned(),
            account_id: account_id.to_owned(),
            is_known: known.is_some(),
            known,
            state: State::default(),
            queued: None,
            sent: BTreeMap::new(),
            suppressed: None,
            items: VecDeque::new(),
        }
    }

    /// The next event of the log.
    pub fn take(&mut self, recorded: &Recorded) {
        match &recorded.event {
            Event::MuteRulePut { .. } | Event::MuteRuleDeleted { .. } => self.state.apply(recorded),
            Event::NotificationQueued { notification, .. } => {
                let key = &notification.key;
                let message = notification.alarm.as_ref().filter(|_| is_of(key, &self.name));
                self.queued = message.map(|message| (key.clone(), message.clone()));
            }
            Event::NotificationFailed { key, detail, .. } => {
                if let Some(action) = self.sent.get(key).cloned() {
                    self.action(&action, Became::Failed { error: detail }, recorded.at);
                }
            }
            event if alarm_of(event) == Some(&self.name) => self.own(recorded),
            _ => {}
        }
    }

    /// Newest first.
    pub fn answer(self, now: Timestamp) -> Value {
        let since = now.checked_sub(BACK).unwrap_or(Timestamp::MIN);
        let (mut items, mut bytes) = (Vec::new(), 0);
        for item in self.items.into_iter().rev().take_while(|item| item.timestamp >= since) {
            let Ok(item) = serde_json::to_value(item) else { continue };
            bytes += item.to_string().len();
            if bytes > ITEMS_BYTES {
                break;
            }
            items.push(item);
        }
        json!({ "AlarmHistoryItems": items })
    }

    fn own(&mut self, recorded: &Recorded) {
        self.is_known = true;
        if !matches!(recorded.event, Event::AlarmPut { .. }) && self.record().is_none() {
            let Some(definition) = self.known.clone() else { return };
            let by = Actor { uid: None, name: String::new(), via: String::new() };
            let event = Event::AlarmPut { definition, origin: Origin::Operator, by };
            self.state.apply(&Recorded { at: recorded.at, event });
        }
        let before = self.record().cloned();
        self.state.apply(recorded);
        let at = recorded.at;
        match &recorded.event {
            Event::AlarmPut { .. } | Event::AlarmActionsSet { .. } | Event::AlarmDeleted { .. } => {
                self.configured(before.as_ref(), at);
            }
            Event::AlarmChanged { .. } => {
                let item = self.record().map(|record| history::state_update(&self.change(record)));
                self.items.extend(item);
            }
            Event::AlarmActed { action, outcome, .. } => {
                let queued = self.queued.take();
                match outcome {
                    ActionOutcome::Executed => {
                        let message = queued.as_ref().map(|(_, message)| message.as_str());
                        self.action(action, Became::Succeeded { message }, at);
                        self.sent.extend(queued.map(|(key, _)| (key, action.clone())));
                    }
                    ActionOutcome::NotExecuted { why } => self.action(action, Became::Failed { error: why }, at),
                    ActionOutcome::Disabled => {}
                }
            }
            Event::AlarmMuted { change, .. } => {
                let rule = self.state.alarms.mute_rules.get(&change.muted_by);
                let until = rule.and_then(|rule| rule.is_muting(change.at)).map_or(at, |window| window.end);
                for action in &change.actions {
                    self.action(action, Became::Muted { rule: &change.muted_by, until }, at);
                }
            }
            Event::AlarmSuppressed { suppression, .. } => self.suppressed(suppression, at),
            _ => {}
        }
        while self.items.len() > ITEMS_MAX {
            self.items.pop_front();
        }
    }

    fn record(&self) -> Option<&AlarmRecord> {
        self.state.alarms.records.get(&self.name)
    }

    fn configured(&mut self, before: Option<&AlarmRecord>, at: Timestamp) {
        let after = self.record();
        let Some(record) = after.or(before) else { return };
        let change = match (before, after) {
            (_, None) => ConfigurationChange::Deleted,
            (Some(before), Some(_)) => ConfigurationChange::Updated { previous: &before.definition },
            (None, Some(_)) => ConfigurationChange::Created,
        };
        let configured = Configured {
            definition: &record.definition,
            account_id: &self.account_id,
            region: &self.region,
            at,
            state: record.state,
            state_at: record.since,
        };
        let item = history::configuration_update(&configured, change);
        self.items.push_back(item);
    }

    /// Told once for each reason that it waits for.
    fn suppressed(&mut self, suppression: &Suppression, at: Timestamp) {
        let reason = suppression.suppressed_reason().filter(|_| suppression.is_pending());
        let is_new = reason.is_some() && reason != self.suppressed;
        self.suppressed = reason;
        let (Some(reason), Some(by), true) = (reason, suppression.suppressed_by(), is_new) else { return };
        let actions = self.record().map(|record| record.definition.actions_for(record.state).to_vec());
        for action in actions.unwrap_or_default() {
            self.action(&action, Became::Suppressed(Held { by, reason }), at);
        }
    }

    fn action(&mut self, action: &str, outcome: Became<'_>, at: Timestamp) {
        let item = self.record().map(|record| history::action(&self.change(record), action, outcome, at));
        self.items.extend(item);
    }

    /// The change that left the alarm in its present state.
    fn change<'a>(&'a self, record: &'a AlarmRecord) -> StateChange<'a> {
        let old = match &record.previous {
            Some(previous) => {
                StateThen { state: previous.state, reason: &previous.reason, reason_data: None, at: previous.since }
            }
            None => StateThen {
                state: AlarmState::InsufficientData,
                reason: UNCHECKED,
                reason_data: None,
                at: record.configured_at,
            },
        };
        StateChange {
            definition: &record.definition,
            account_id: &self.account_id,
            region: &self.region,
            configuration_updated_at: record.configured_at,
            old,
            new: StateThen {
                state: record.state,
                reason: &record.reason,
                reason_data: record.reason_data.as_deref(),
                at: record.since,
            },
            triggering_children: &[],
            suppression: None,
            after_mute_window: None,
        }
    }
}

/// Keys of an alarm's messages are `NAME-nNUMBER`.
fn is_of(key: &str, alarm: &str) -> bool {
    let number = key.strip_prefix(alarm).and_then(|rest| rest.strip_prefix("-n"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn alarm_of(event: &Event) -> Option<&String> {
    match event {
        Event::AlarmPut { definition, .. } => Some(&definition.name),
        Event::AlarmDeleted { alarm, .. }
        | Event::AlarmActionsSet { alarm, .. }
        | Event::AlarmChanged { alarm, .. }
        | Event::AlarmActed { alarm, .. }
        | Event::AlarmMuted { alarm, .. }
        | Event::AlarmSuppressed { alarm, .. } => Some(alarm),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use ukai_core::event::{Notification, NotificationKind};

    use super::*;

    const TOPIC: &str = "arn:aws:sns:us-east-1:111122223333:ops";

    fn definition() -> Box<Definition> {
        let wire = json!({
            "AlarmName": "a", "Namespace": "N", "MetricName": "m", "Statistic": "Sum", "Period": 60,
            "EvaluationPeriods": 1, "Threshold": 1.0, "ComparisonOperator": "GreaterThanThreshold",
            "AlarmActions": [TOPIC],
        });
        Box::new(serde_json::from_value(wire).unwrap())
    }

    fn changed(before: AlarmState, after: AlarmState) -> Event {
        let (alarm, reason) = ("a".to_owned(), "because".to_owned());
        Event::AlarmChanged { alarm, peer: String::new(), before, after, reason, reason_data: None, by: None }
    }

    fn queued(key: &str) -> Event {
        let notification = Notification {
            key: key.to_owned(),
            incident: None,
            peer: String::new(),
            kind: NotificationKind::Alarm,
            page: false,
            subject: String::new(),
            text: String::new(),
            alarm: Some(format!("{{\"of\":\"{key}\"}}")),
        };
        Event::NotificationQueued { notification, subscribers: vec!["ops".to_owned()] }
    }

    fn acted() -> Event {
        let (alarm, action) = ("a".to_owned(), TOPIC.to_owned());
        Event::AlarmActed { alarm, state: AlarmState::Alarm, action, outcome: ActionOutcome::Executed }
    }

    fn told(events: impl IntoIterator<Item = Event>) -> Vec<HistoryItem> {
        let mut past = Past::of("a", Some(definition()), "us-east-1", "111122223333");
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        events.into_iter().for_each(|event| past.take(&Recorded { at: now, event }));
        serde_json::from_value(past.answer(now)["AlarmHistoryItems"].take()).unwrap()
    }

    #[test]
    fn a_message_that_never_arrived_is_told_after_the_action() {
        let (key, subscriber, detail) = ("a-n7".to_owned(), "ops".to_owned(), "it is gone".to_owned());
        let failed = Event::NotificationFailed { key, subscriber, attempts: 9, detail, retried: false };
        // The log has forgotten how the alarm was put.
        let items = told([changed(AlarmState::Ok, AlarmState::Alarm), queued("a-n7"), acted(), failed]);
        let summaries: Vec<&str> = items.iter().map(|item| item.history_summary.as_str()).collect();
        assert!(summaries[0].contains("it is gone"), "{summaries:?}");
        assert_eq!(summaries[1], format!("Successfully executed action {TOPIC}"));
        assert!(items[1].history_data.contains("a-n7"), "{}", items[1].history_data);
        assert_eq!(summaries.len(), 3);
    }

    #[test]
    fn the_message_of_another_alarm_is_not_taken() {
        assert!(is_of("a-n7", "a") && !is_of("a-n-n7", "a") && !is_of("ab-n7", "a") && !is_of("a-n", "a"));
        let items = told([changed(AlarmState::Ok, AlarmState::Alarm), queued("a-n-n7"), acted()]);
        assert!(!items[0].history_data.contains("n7"), "{}", items[0].history_data);
    }

    #[test]
    fn the_newest_are_told_and_fit_into_an_answer() {
        let flapping = (0..300).map(|turn| match turn % 2 {
            0 => changed(AlarmState::Ok, AlarmState::Alarm),
            _ => changed(AlarmState::Alarm, AlarmState::Ok),
        });
        let items = told(flapping);
        assert_eq!(items.len(), ITEMS_MAX);
        assert!(items[0].history_summary.ends_with("to OK"));
    }
}
