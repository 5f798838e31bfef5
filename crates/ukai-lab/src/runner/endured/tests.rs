use std::time::Duration;

use ukai_core::event::{Actor, Notification, NotificationKind, Recorded};
use ukai_core::overrides::EndReason;

use super::*;

const SERVED_MS: i64 = 1_000;
const WITHDRAWN_MS: i64 = 9_000;

#[test]
fn a_daemon_that_went_on_passes() {
    assert_eq!(failures(&went_on()), [""; 0]);
}

#[test]
fn one_that_was_never_killed_shows_nothing() {
    let seen = Seen { kills: 0, ..went_on() };
    assert_eq!(failures(&seen), ["the controller is killed"]);
}

#[test]
fn a_wrong_answer_or_none_counts_while_the_override_stands_and_only_then() {
    let with = |at: i64, addresses: Option<&str>| {
        let mut seen = went_on();
        seen.polls.push(poll(at, addresses));
        seen.polls.sort_by_key(|poll| poll.asked);
        failures(&seen)
    };
    let broken = ["answers while an override stands"];
    assert_eq!(with(500, Some("192.0.2.1")), [""; 0]);
    assert_eq!(with(9_500, None), [""; 0]);
    assert_eq!(with(5_000, Some("192.0.2.1")), broken);
    assert_eq!(with(5_000, None), broken);
}

#[test]
fn silence_is_seen_where_nobody_was_asked() {
    let mut seen = went_on();
    let gap = PATIENCE + Duration::from_millis(200);
    let end = moment(3_000) + SignedDuration::try_from(gap).unwrap();
    seen.polls.retain(|poll| poll.asked < moment(3_000) || poll.asked > end);
    assert_eq!(failures(&seen), ["answers while an override stands"]);
}

#[test]
fn a_followed_override_must_answer_its_new_set() {
    let mut seen = went_on();
    let followed = Event::FollowStarted { id: "ovr-1".into(), generation: 2, addresses: set("192.0.2.3") };
    let served = Event::OverrideServed { id: "ovr-1".into(), generation: 2, proof: String::new() };
    seen.events.insert(4, (0, Recorded { at: moment(5_000), event: followed }));
    seen.events.insert(5, (0, Recorded { at: moment(5_100), event: served }));
    assert_eq!(failures(&seen), ["answers while an override stands"]);
    for poll in seen.polls.iter_mut().filter(|poll| poll.asked >= moment(5_000)) {
        poll.addresses = Some(set("192.0.2.3"));
    }
    assert_eq!(failures(&seen), [""; 0]);
}

#[test]
fn repetitions_are_told_by_their_key() {
    let again = |change: fn(&mut Message)| {
        let mut seen = went_on();
        let mut message = Message { repeated: true, ..message("inc-1-n1") };
        change(&mut message);
        seen.messages.push(message);
        failures(&seen)
    };
    let broken = ["one key for one message"];
    assert_eq!(again(|_| {}), [""; 0]);
    assert_eq!(again(|message| message.repeated = false), broken);
    assert_eq!(again(|message| message.text.push('!')), broken);
    assert_eq!(again(|message| message.header = None), broken);
    let under_another_key = |message: &mut Message| {
        message.key = "inc-1-n2".into();
        message.header = Some("inc-1-n2".into());
    };
    assert_eq!(again(under_another_key), broken);
}

#[test]
fn a_message_that_never_came_is_missed() {
    let seen = Seen { messages: Vec::new(), ..went_on() };
    assert_eq!(failures(&seen), ["every message arrives"]);
}

#[test]
fn an_approval_is_for_one_apply() {
    let mut seen = went_on();
    seen.events.insert(2, event(900, applying(2)));
    assert_eq!(failures(&seen), ["applied once for an approval"]);
    let mut seen = went_on();
    seen.events.remove(0);
    assert_eq!(failures(&seen), ["applied once for an approval"]);
}

#[test]
fn the_log_must_have_been_read_and_fit() {
    for replay in [None, Some(Err("event 3 is missing".to_owned()))] {
        let seen = Seen { replay, ..went_on() };
        assert_eq!(failures(&seen), ["the log replays"]);
    }
}

fn went_on() -> Seen {
    let person = Actor { uid: Some(7), name: "a".into(), via: "cli".into() };
    let notification = Notification {
        key: "inc-1-n1".into(),
        incident: Some("inc-1".into()),
        peer: "api".into(),
        kind: NotificationKind::Applied,
        page: false,
        subject: "served".into(),
        text: "it is".into(),
        alarm: None,
    };
    let (id, why) = (|| "ovr-1".to_owned(), String::new);
    let events = vec![
        event(100, Event::OverrideApproved { id: id(), hash: String::new(), by: person.clone(), why: why() }),
        event(900, applying(1)),
        event(SERVED_MS, Event::OverrideServed { id: id(), generation: 1, proof: String::new() }),
        event(SERVED_MS, Event::NotificationQueued { notification, subscribers: vec!["drill".into()] }),
        event(WITHDRAWN_MS, Event::WithdrawStarted { id: id(), reason: EndReason::Reverted, by: person, why: why() }),
    ];
    let polls = (0..100).map(|n| poll(n * 100, Some("192.0.2.2"))).collect();
    Seen { events, polls, messages: vec![message("inc-1-n1")], kills: 1, replay: Some(Ok(())), ..Seen::default() }
}

fn applying(generation: u64) -> Event {
    Event::ApplyStarted { id: "ovr-1".into(), generation, addresses: set("192.0.2.2"), expires_at: moment(100_000) }
}

fn message(key: &str) -> Message {
    Message {
        header: Some(key.into()),
        key: key.into(),
        kind: "applied".into(),
        incident: Some("inc-1".into()),
        subject: "served".into(),
        text: "it is".into(),
        repeated: false,
    }
}

fn poll(ms: i64, address: Option<&str>) -> Poll {
    Poll { asked: moment(ms), answered: moment(ms + 1), addresses: address.map(set) }
}

fn set(address: &str) -> BTreeSet<IpAddr> {
    BTreeSet::from([address.parse().unwrap()])
}

fn event(ms: i64, event: Event) -> (u64, Recorded) {
    (0, Recorded { at: moment(ms), event })
}

fn moment(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap()
}

fn failures(seen: &Seen) -> Vec<&'static str> {
    endured(Kill::AtEvent(1), seen).iter().filter(|check| !check.held).map(|check| check.what).collect()
}
