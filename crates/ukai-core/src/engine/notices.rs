//! What people are told, and whether it reached them.

use std::collections::BTreeSet;

use jiff::Timestamp;

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
            alarm: None,
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

    /// The one page that is no event: the log cannot be written, so nothing is decided and nothing else would be told.
    pub fn page_without_log(&self, since: Timestamp, why: &str) -> Vec<Effect> {
        let vantage = &self.settings.vantage;
        let notification = Notification {
            key: format!("{vantage}-log-{}", since.as_second()),
            incident: None,
            peer: String::new(),
            kind: NotificationKind::Trouble,
            page: true,
            subject: format!("{vantage}: ukai watches nothing, it cannot write its log"),
            text: format!(
                "Since {}: {why}. No peer is probed and no alarm is judged until it can be written. What is served stays, and overrides \
                 end when their leases do. Make room or repair the disk; ukai goes on by itself.",
                moment(since)
            ),
            alarm: None,
        };
        let subscribers = self.who_hears_of(&notification.peer);
        let to = |subscriber| Effect::Notify { notification: notification.clone(), subscriber };
        subscribers.into_iter().map(to).collect()
    }

    pub(super) fn log_writable(&mut self, turn: &mut Turn, since: Timestamp, why: &str, paged: bool) {
        let blind = span(turn.now.duration_since(since).as_secs());
        let what = format!("for {blind} nothing was watched or decided: {why}");
        self.record(turn, Event::Troubled { what });
        if paged {
            self.tell(
                turn,
                Notice {
                    kind: NotificationKind::Trouble,
                    peer: String::new(),
                    incident: None,
                    page: false,
                    subject: format!("{}: ukai watches again, its log can be written", self.settings.vantage),
                    text: format!(
                        "It could not from {} to {}: {why}. What happened in between was not seen.",
                        moment(since),
                        moment(turn.now)
                    ),
                },
            );
        }
    }

    fn who_hears_of(&self, peer: &String) -> Vec<String> {
        // What is about no one peer concerns everybody: the controls page in the place of each.
        let hears = |peers: &BTreeSet<String>| peer.is_empty() || peers.is_empty() || peers.contains(peer);
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
        if !self.is_awaited(&key, &subscriber) {
            return;
        }
        let event = match result {
            Ok(()) => Event::NotificationDelivered { key, subscriber, attempts },
            Err(detail) => Event::NotificationFailed { key, subscriber, attempts, detail, retried: false },
        };
        self.record(turn, event);
    }

    /// It goes on being undelivered: a restart in between must not lose a page.
    pub(super) fn notification_delayed(
        &mut self,
        turn: &mut Turn,
        key: String,
        subscriber: String,
        attempts: u32,
        detail: String,
    ) {
        if self.is_awaited(&key, &subscriber) {
            self.record(turn, Event::NotificationFailed { key, subscriber, attempts, detail, retried: true });
        }
    }

    fn is_awaited(&self, key: &str, subscriber: &str) -> bool {
        self.state.undelivered.get(key).is_some_and(|waiting| waiting.subscribers.contains(subscriber))
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

/// A span of time as people read it: the two largest units.
pub fn span(seconds: i64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let parts = [(days, "d"), (hours, "h"), (minutes, "min"), (seconds % 60, "s")];
    let said: Vec<String> = parts
        .iter()
        .skip_while(|(count, _)| *count <= 0)
        .take(2)
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count} {unit}"))
        .collect();
    if said.is_empty() { "0 s".to_owned() } else { said.join(" ") }
}

/// A time as people read it: to the second, UTC.
pub fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_at_a_glance() {
        let spans =
            [(0, "0 s"), (59, "59 s"), (600, "10 min"), (3_661, "1 h 1 min"), (86_212, "23 h 56 min"), (86_400, "1 d")];
        for (seconds, text) in spans {
            assert_eq!(span(seconds), text);
        }
    }
}
