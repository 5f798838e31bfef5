//! What runs when an alarm enters a state: ukai's own actions, and messages for whoever listens to an action's ARN.
//!
//! `ukai:incident:PEER` opens the peer's incident, `ukai:page:PEER` pages for it once the controls agree, and
//! `ukai:inform:PEER` tells without waking anybody. Every other action is an ARN, and its message goes to the subscribers
//! that list it. An action runs on a change of state, once; what held one back is recorded.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::incident::Opening;
use super::notices::Notice;
use super::{Engine, Turn};
use crate::alarm::mute::note::summary;
use crate::alarm::mute::{MutedChange, Released};
use crate::alarm::payload::{self, StateChange, StateThen};
use crate::alarm::reason::UNCHECKED;
use crate::alarm::region::alarm_arn;
use crate::alarm::{AlarmState, defaults};
use crate::effect::Effect;
use crate::event::{ActionOutcome, Event, Notification, NotificationKind};
use crate::state::AlarmRecord;

/// What is only worth knowing is told of one alarm at most this often.
const INFORM_EVERY: SignedDuration = SignedDuration::from_hours(1);

/// The prefix and the peer of an action that is ukai's own.
fn own(action: &str) -> Option<(&'static str, &str)> {
    let prefixes = [defaults::OPEN_INCIDENT, defaults::PAGE, defaults::INFORM];
    prefixes.into_iter().find_map(|prefix| Some((prefix, action.strip_prefix(prefix)?)))
}

impl Engine {
    /// The actions of the state that the alarm is in now.
    pub(super) fn act(&mut self, turn: &mut Turn, alarm: &str, opening: Option<Opening>, after_mute: bool) {
        let Some(record) = self.state.alarms.records.get(alarm).cloned() else { return };
        if let Some(rule) = self.muting(alarm, turn.now).filter(|_| self.state.alarms.muted.has_room(alarm)) {
            return self.mute(turn, &record, rule);
        }
        let mut opening = opening;
        for action in record.definition.actions_for(record.state) {
            let outcome = if !record.definition.actions_enabled {
                ActionOutcome::Disabled
            } else {
                self.run(turn, &record, action, opening.take(), after_mute)
            };
            let event =
                Event::AlarmActed { alarm: alarm.to_owned(), state: record.state, action: action.clone(), outcome };
            self.record(turn, event);
        }
    }

    fn mute(&mut self, turn: &mut Turn, record: &AlarmRecord, muted_by: String) {
        let from = record.previous.as_ref().map_or(AlarmState::InsufficientData, |previous| previous.state);
        let actions = if record.definition.actions_enabled {
            record.definition.actions_for(record.state).to_vec()
        } else {
            Vec::new()
        };
        let change = MutedChange { from, to: record.state, at: turn.now, actions, muted_by };
        self.record(turn, Event::AlarmMuted { alarm: record.definition.name.clone(), change });
        self.live.mute_due = self.next_mute_end(turn.now);
    }

    /// Neither disabled nor muted.
    pub(super) fn is_free_to_act(&self, turn: &Turn, alarm: &str) -> bool {
        let enabled = self.state.alarms.records.get(alarm).is_some_and(|record| record.definition.actions_enabled);
        enabled && self.muting(alarm, turn.now).is_none()
    }

    fn run(
        &mut self,
        turn: &mut Turn,
        record: &AlarmRecord,
        action: &str,
        opening: Option<Opening>,
        after_mute: bool,
    ) -> ActionOutcome {
        if action == format!("{}*", defaults::PAGE) && record.definition.name == defaults::CONTROLS {
            self.page_controls(turn);
            return ActionOutcome::Executed;
        }
        if let Some(why) = self.leads_nowhere(action) {
            return ActionOutcome::NotExecuted { why };
        }
        let Some((prefix, peer)) = own(action) else { return self.publish(turn, record, action, after_mute) };
        match prefix {
            defaults::OPEN_INCIDENT => {
                let opening =
                    opening.unwrap_or_else(|| self.opening_by_metric(&record.definition.name, peer, &record.reason));
                self.open_incident(turn, peer, opening);
            }
            defaults::PAGE if self.state.open_incident(peer).is_none() => {
                return ActionOutcome::NotExecuted { why: format!("{peer} has no open incident to page for") };
            }
            defaults::PAGE => self.want_page(turn, peer, false),
            _ => self.inform(turn, record, peer),
        }
        ActionOutcome::Executed
    }

    /// Why an action comes to nothing whenever it is run, as the configuration is.
    pub(super) fn leads_nowhere(&self, action: &str) -> Option<String> {
        match own(action) {
            Some((_, peer)) if self.settings.peers.contains_key(peer) => None,
            Some((_, peer)) => Some(format!("no peer is named {peer}")),
            None if self.settings.subscribers.iter().any(|subscriber| subscriber.topics.contains(action)) => None,
            None => Some("no subscriber lists it in its topics".to_owned()),
        }
    }

    fn inform(&mut self, turn: &mut Turn, record: &AlarmRecord, peer: &str) {
        let name = &record.definition.name;
        let lately = self.live.informed.get(name).is_some_and(|at| turn.now.duration_since(*at) < INFORM_EVERY);
        if lately {
            return;
        }
        self.live.informed.insert(name.clone(), turn.now);
        let what = record.definition.description.as_deref().unwrap_or(name);
        self.tell(
            turn,
            Notice {
                kind: NotificationKind::Alarm,
                peer: peer.to_owned(),
                incident: self.state.open_incident(peer).map(|incident| incident.id.clone()),
                page: false,
                subject: format!("{name}: {}", record.state.name()),
                text: format!("{what} {}", record.reason),
            },
        );
    }

    /// To whoever listens to this ARN.
    fn publish(&mut self, turn: &mut Turn, record: &AlarmRecord, action: &str, after_mute: bool) -> ActionOutcome {
        let listening = self.settings.subscribers.iter().filter(|subscriber| subscriber.topics.contains(action));
        let subscribers: Vec<String> = listening.map(|subscriber| subscriber.name.clone()).collect();
        let number = self.state.numbers.notification + 1;
        let name = &record.definition.name;
        let change = self.state_change(record, after_mute);
        let is_function = action.split(':').nth(2) == Some("lambda");
        let message = if is_function { payload::event::lambda(&change) } else { payload::sns::message(&change) };
        let notification = Notification {
            key: format!("{name}-n{number}"),
            incident: None,
            peer: self.peer_of(record),
            kind: NotificationKind::Alarm,
            page: false,
            subject: payload::sns::subject(&change),
            text: record.reason.clone(),
            alarm: Some(message),
        };
        let queued = Event::NotificationQueued { notification: notification.clone(), subscribers: subscribers.clone() };
        self.record(turn, queued);
        for subscriber in subscribers {
            turn.effect(Effect::Notify { notification: notification.clone(), subscriber });
        }
        ActionOutcome::Executed
    }

    /// What the state that an alarm is in now is told as.
    fn state_change<'a>(&'a self, record: &'a AlarmRecord, after_mute: bool) -> StateChange<'a> {
        let then =
            |state, reason: &'a str, reason_data: Option<&'a str>, at| StateThen { state, reason, reason_data, at };
        let old = match &record.previous {
            Some(previous) => then(previous.state, &previous.reason, None, previous.since),
            None => then(AlarmState::InsufficientData, UNCHECKED, None, record.configured_at),
        };
        let children = self.live.triggering.get(&record.definition.name).map_or(&[][..], Vec::as_slice);
        StateChange {
            definition: &record.definition,
            account_id: &self.settings.account_id,
            region: &self.settings.region,
            configuration_updated_at: record.configured_at,
            old,
            new: then(record.state, &record.reason, record.reason_data.as_deref(), record.since),
            triggering_children: children,
            suppression: None,
            after_mute_window: Some(after_mute),
        }
    }

    pub(super) fn arn(&self, alarm: &str) -> String {
        alarm_arn(&self.settings.region, &self.settings.account_id, alarm)
    }

    /// The rule that mutes an alarm at this moment.
    pub(super) fn muting(&self, alarm: &str, now: Timestamp) -> Option<String> {
        let rules = self.state.alarms.mute_rules.values();
        rules
            .filter(|rule| rule.targets(alarm))
            .find(|rule| rule.is_muting(now).is_some())
            .map(|rule| rule.name().to_owned())
    }

    /// Alarms that are muted no longer: what was held back is told, and what is due runs.
    pub(super) fn advance_mutes(&mut self, turn: &mut Turn) {
        if self.live.mute_due.is_none_or(|due| turn.now < due) {
            return;
        }
        let mut note = self.state.alarms.muted.clone();
        let released = note.release(&|alarm| self.muting(alarm, turn.now).is_some());
        if !released.is_empty() {
            let alarms = released.iter().map(|one| one.alarm_name.clone()).collect();
            self.record(turn, Event::MuteEnded { alarms });
            self.tell_muted(turn, &released);
            for one in released.iter().filter(|one| one.actions_are_due()) {
                self.act(turn, &one.alarm_name, None, true);
            }
        }
        self.live.mute_due = self.next_mute_end(turn.now);
    }

    fn tell_muted(&mut self, turn: &mut Turn, released: &[Released]) {
        let records = &self.state.alarms.records;
        let peers: BTreeSet<String> =
            released.iter().filter_map(|one| records.get(&one.alarm_name)).map(|record| self.peer_of(record)).collect();
        let peer = if peers.len() == 1 { peers.into_iter().next().unwrap_or_default() } else { String::new() };
        self.tell(
            turn,
            Notice {
                kind: NotificationKind::Muted,
                peer,
                incident: None,
                page: false,
                subject: "a mute window is over".to_owned(),
                text: summary(released),
            },
        );
    }

    /// When the first of the windows ends that hold something back. A rule that is gone mutes nothing from now on.
    pub(super) fn next_mute_end(&self, now: Timestamp) -> Option<Timestamp> {
        let rules = &self.state.alarms.mute_rules;
        let ends = self.state.alarms.muted.alarm_names().map(|alarm| {
            let windows = rules.values().filter(|rule| rule.targets(alarm)).filter_map(|rule| rule.is_muting(now));
            windows.map(|window| window.end).min().unwrap_or(now)
        });
        ends.min()
    }
}
