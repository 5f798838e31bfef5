//! What people are told, and whether it reached them.

use std::collections::BTreeSet;

use super::{Engine, Turn};
use crate::effect::Effect;
use crate::event::{Event, Notification, NotificationKind};

/// What to say, before it has a key.
#[derive(Debug)]
pub struct Notice {
    pub kind: NotificationKind,
    pub peer: String,
    pub incident: Option<String>,
    pub page: bool,
    pub subject: String,
    pub text: String,
}

impl Engine {
    pub(super) fn tell(&mut self, turn: &mut Turn, notice: Notice) {
        let number = self.state.numbers.notification + 1;
        let about = notice.incident.as_deref().unwrap_or(&notice.peer);
        let notification = Notification {
            key: format!("{about}-n{number}"),
            incident: notice.incident.clone(),
            peer: notice.peer,
            kind: notice.kind,
            page: notice.page,
            subject: notice.subject,
            text: notice.text,
        };
        let subscribers = self.who_hears_of(&notification.peer);
        self.record(
            turn,
            Event::NotificationQueued { notification: notification.clone(), subscribers: subscribers.clone() },
        );
        for subscriber in subscribers {
            turn.effect(Effect::Notify { notification: notification.clone(), subscriber });
        }
    }

    fn who_hears_of(&self, peer: &String) -> Vec<String> {
        let hears = |peers: &BTreeSet<String>| peers.is_empty() || peers.contains(peer);
        let subscribers = self.settings.subscribers.iter();
        subscribers.filter(|subscriber| hears(&subscriber.peers)).map(|subscriber| subscriber.name.clone()).collect()
    }

    pub(super) fn notification_sent(
        &mut self,
        turn: &mut Turn,
        key: String,
        subscriber: String,
        attempts: u32,
        result: Result<(), String>,
    ) {
        let waits = self.state.undelivered.get(&key).is_some_and(|waiting| waiting.subscribers.contains(&subscriber));
        if !waits {
            return;
        }
        let event = match result {
            Ok(()) => Event::NotificationDelivered { key, subscriber, attempts },
            Err(detail) => Event::NotificationFailed { key, subscriber, attempts, detail },
        };
        self.record(turn, event);
    }

    pub(super) fn report_written(&mut self, turn: &mut Turn, incident: String, result: Result<Vec<String>, String>) {
        if !self.state.reports_due.contains(&incident) {
            return;
        }
        match result {
            Ok(paths) => self.record(turn, Event::ReportWritten { incident, paths }),
            Err(detail) => {
                let what = format!("the report of {incident} could not be written: {detail}");
                self.record(turn, Event::Troubled { what });
            }
        }
    }
}
