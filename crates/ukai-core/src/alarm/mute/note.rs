//! What was muted, so that it can be told afterwards, and what is to run when the muting ends.
//!
//! Every state change of a muted alarm is recorded, also one without actions. When no rule mutes the alarm any more it
//! is *released*. CloudWatch then runs the actions of a state that was reached under the mute and still lasts, and
//! marks the message `ActionExecutedAfterMuteWindow`; it runs none for an `ALARM` that has gone back to `OK`. With
//! overlapping rules that is when the last one ends.
//!
//! We say it so, which gives both and covers what is not documented: the actions of the present state are due if it
//! differs from the state before the first muted change. So an alarm that came and went is not told, a resolution of
//! an alarm that had been told is, and nothing is told twice.

use std::collections::BTreeMap;
use std::fmt::Write;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::super::AlarmState;

/// Alarms under mute that are remembered: a hundred full rules. Above it an alarm is not muted rather than lost.
pub const MAX_NOTED_ALARMS: usize = 10_000;
/// Changes of one alarm that are kept one by one, the earliest; the others are counted.
pub const MAX_NOTED_CHANGES: usize = 20;
/// Alarms that a summary names; a message has to stay readable.
pub const MAX_TOLD_ALARMS: usize = 20;

/// A state change whose actions were muted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MutedChange {
    pub from: AlarmState,
    pub to: AlarmState,
    pub at: Timestamp,
    /// The actions of `to` that did not run.
    pub actions: Vec<String>,
    /// The name of the rule that muted them.
    pub muted_by: String,
}

#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// Remembered: do not run the actions.
    Muted,
    /// There is no room to remember it: run the actions now.
    NoRoom,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MutedNote {
    alarms: BTreeMap<String, MutedAlarm>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct MutedAlarm {
    before: AlarmState,
    state: AlarmState,
    since: Timestamp,
    changes: Vec<MutedChange>,
    change_count: u64,
    action_count: u64,
}

/// An alarm that is no longer muted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    pub alarm_name: String,
    /// Its state before the first muted change.
    pub before: AlarmState,
    /// Its state now, and since when.
    pub state: AlarmState,
    pub since: Timestamp,
    /// The first changes, at most `MAX_NOTED_CHANGES` of `change_count`.
    pub changes: Vec<MutedChange>,
    pub change_count: u64,
    pub action_count: u64,
}

impl Released {
    /// Whether the actions of the present state are to run now, as `ActionExecutedAfterMuteWindow`.
    pub fn actions_are_due(&self) -> bool {
        self.state != self.before
    }

    fn sentence(&self) -> String {
        let end = if self.actions_are_due() { "its actions run now" } else { "nothing to run" };
        format!(
            "{}: {} → {}, {}; {end}",
            self.alarm_name,
            self.before.name(),
            self.state.name(),
            plural(self.change_count, "change")
        )
    }
}

impl MutedNote {
    pub fn is_empty(&self) -> bool {
        self.alarms.is_empty()
    }

    /// Takes in one state change of a muted alarm.
    pub fn record(&mut self, alarm_name: &str, change: MutedChange) -> Noted {
        if !self.alarms.contains_key(alarm_name) && self.alarms.len() >= MAX_NOTED_ALARMS {
            return Noted::NoRoom;
        }
        let alarm = self.alarms.entry(alarm_name.to_owned()).or_insert_with(|| MutedAlarm {
            before: change.from,
            state: change.from,
            since: change.at,
            changes: Vec::new(),
            change_count: 0,
            action_count: 0,
        });
        (alarm.state, alarm.since) = (change.to, change.at);
        alarm.change_count += 1;
        alarm.action_count += change.actions.len() as u64;
        if alarm.changes.len() < MAX_NOTED_CHANGES {
            alarm.changes.push(change);
        }
        Noted::Muted
    }

    /// Takes out the alarms that no rule mutes any more, by name.
    pub fn release(&mut self, is_muted: &dyn Fn(&str) -> bool) -> Vec<Released> {
        let (muted, released) = std::mem::take(&mut self.alarms).into_iter().partition(|(name, _)| is_muted(name));
        self.alarms = muted;
        let released: BTreeMap<String, MutedAlarm> = released;
        released.into_iter().map(|(alarm_name, alarm)| alarm.released(alarm_name)).collect()
    }

    /// Forgets an alarm that was deleted.
    pub fn forget(&mut self, alarm_name: &str) {
        self.alarms.remove(alarm_name);
    }
}

impl MutedAlarm {
    fn released(self, alarm_name: String) -> Released {
        let MutedAlarm { before, state, since, changes, change_count, action_count } = self;
        Released { alarm_name, before, state, since, changes, change_count, action_count }
    }
}

/// What was muted, as text: a line for the whole and one for each alarm, those with actions due first.
pub fn summary(released: &[Released]) -> String {
    let changes = released.iter().map(|one| one.change_count).sum();
    let actions = released.iter().map(|one| one.action_count).sum();
    let alarms = released.len() as u64;
    let mut text = format!(
        "Muted: {} of {}, {} not run.",
        plural(changes, "state change"),
        plural(alarms, "alarm"),
        plural(actions, "action")
    );
    let (due, settled): (Vec<&Released>, Vec<&Released>) = released.iter().partition(|one| one.actions_are_due());
    for one in due.iter().chain(&settled).take(MAX_TOLD_ALARMS) {
        let _ = write!(text, "\n- {}", one.sentence());
    }
    if released.len() > MAX_TOLD_ALARMS {
        let _ = write!(text, "\n- and {} more", released.len() - MAX_TOLD_ALARMS);
    }
    text
}

fn plural(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::AlarmState::{Alarm, InsufficientData, Ok};
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn change(from: AlarmState, to: AlarmState, second: i64) -> MutedChange {
        MutedChange { from, to, at: at(second), actions: vec!["sns".into()], muted_by: "nightly".into() }
    }

    /// Plays states one after the other under a mute; the state whose actions are due after it.
    fn due_after(states: &[AlarmState]) -> Option<AlarmState> {
        let mut note = MutedNote::default();
        for (second, pair) in (0..).zip(states.windows(2)) {
            assert_eq!(note.record("a", change(pair[0], pair[1], second)), Noted::Muted);
        }
        let released = note.release(&|_| false);
        assert!(note.is_empty());
        released.first().filter(|one| one.actions_are_due()).map(|one| one.state)
    }

    #[test]
    fn the_documented_ends_of_a_window() {
        assert_eq!(due_after(&[Ok, Alarm, Ok]), None, "gone again before the end");
        assert_eq!(due_after(&[Ok, Alarm]), Some(Alarm), "still there at the end");
        assert_eq!(due_after(&[Ok]), None);
    }

    #[test]
    fn a_resolution_of_what_had_been_told_is_told() {
        assert_eq!(due_after(&[Alarm, Ok]), Some(Ok));
        assert_eq!(due_after(&[Alarm, Ok, Alarm]), None);
        assert_eq!(due_after(&[Alarm, InsufficientData, Ok]), Some(Ok));
        assert_eq!(due_after(&[Ok, Alarm, InsufficientData]), Some(InsufficientData));
    }

    #[test]
    fn an_alarm_that_another_rule_mutes_stays_until_that_ends() {
        let mut note = MutedNote::default();
        assert_eq!(note.record("a", change(Ok, Alarm, 1)), Noted::Muted);
        assert_eq!(note.record("b", change(Ok, Alarm, 2)), Noted::Muted);
        let first = note.release(&|name| name == "a");
        assert_eq!(first.iter().map(|one| &*one.alarm_name).collect::<Vec<_>>(), ["b"]);
        let second = note.release(&|_| false);
        assert_eq!((&*second[0].alarm_name, second[0].since), ("a", at(1)));
    }

    #[test]
    fn it_is_bounded_and_still_knows_the_state() {
        let mut note = MutedNote::default();
        for second in 0..101 {
            let (from, to) = if second % 2 == 0 { (Ok, Alarm) } else { (Alarm, Ok) };
            assert_eq!(note.record("flappy", change(from, to, second)), Noted::Muted);
        }
        for number in 1..MAX_NOTED_ALARMS {
            assert_eq!(note.record(&format!("a{number}"), change(Ok, Alarm, 0)), Noted::Muted);
        }
        assert_eq!(note.record("one more", change(Ok, Alarm, 0)), Noted::NoRoom);
        assert_eq!(note.record("flappy", change(Alarm, Ok, 101)), Noted::Muted);
        note.forget("a1");
        let released = note.release(&|name| name != "flappy");
        assert_eq!(released.len(), 1);
        assert_eq!((released[0].changes.len(), released[0].change_count), (MAX_NOTED_CHANGES, 102));
        assert_eq!((released[0].state, released[0].since), (Ok, at(101)));
        assert_eq!(note.release(&|_| false).len(), MAX_NOTED_ALARMS - 2);
    }

    #[test]
    fn the_summary_names_what_is_due_first_and_counts_the_rest() {
        let mut note = MutedNote::default();
        assert_eq!(note.record("came-and-went", change(Ok, Alarm, 1)), Noted::Muted);
        assert_eq!(note.record("came-and-went", change(Alarm, Ok, 2)), Noted::Muted);
        assert_eq!(note.record("pay-down", change(Ok, Alarm, 3)), Noted::Muted);
        assert_eq!(
            summary(&note.clone().release(&|_| false)),
            "Muted: 3 state changes of 2 alarms, 3 actions not run.\n\
             - pay-down: OK → ALARM, 1 change; its actions run now\n\
             - came-and-went: OK → OK, 2 changes; nothing to run"
        );
        for number in 0..MAX_TOLD_ALARMS {
            assert_eq!(note.record(&format!("z{number}"), change(Ok, Alarm, 4)), Noted::Muted);
        }
        let text = summary(&note.release(&|_| false));
        assert_eq!(text.lines().count(), 1 + MAX_TOLD_ALARMS + 1);
        assert!(text.ends_with("\n- and 2 more"), "{text}");
    }
}
