//! What must hold of a daemon that was killed in the middle of things. Pure, as the judge is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use ukai_core::event::Event;

use super::judge::Check;
use super::kills::Kill;
use super::lookup::PATIENCE;
use super::seen::{Message, Seen};
use super::vigil::Poll;

pub fn endured(kill: Kill, seen: &Seen) -> Vec<Check> {
    vec![
        killed(kill, seen),
        answers(seen),
        keys(&seen.messages),
        arrivals(seen),
        applied_once(seen),
        Check::of("the log replays", "yes", seen.replay.as_ref().map_or("not tried", |replay| says(replay))),
    ]
}

fn says(replay: &Result<(), String>) -> &str {
    match replay {
        Ok(()) => "yes",
        Err(what) => what,
    }
}

fn killed(kill: Kill, seen: &Seen) -> Check {
    let text = format!("killed {} times", seen.kills);
    Check::new("the controller is killed", kill.to_string(), text, seen.kills > 0)
}

/// While an override stands: from when it was proved to be served until its withdrawal was begun.
struct Standing {
    from: Timestamp,
    until: Timestamp,
    addresses: BTreeSet<IpAddr>,
}

fn standings(seen: &Seen) -> Vec<Standing> {
    let mut sets: BTreeMap<&str, &BTreeSet<IpAddr>> = BTreeMap::new();
    let mut open: BTreeMap<&str, Timestamp> = BTreeMap::new();
    let mut closed = Vec::new();
    let standing = |sets: &BTreeMap<&str, &BTreeSet<IpAddr>>, id: &str, from, until| Standing {
        from,
        until,
        addresses: sets.get(id).map(|set| (*set).clone()).unwrap_or_default(),
    };
    for (_, record) in &seen.events {
        match &record.event {
            Event::ApplyStarted { id, addresses, .. } | Event::FollowStarted { id, addresses, .. } => {
                closed.extend(open.remove(id.as_str()).map(|from| standing(&sets, id, from, record.at)));
                sets.insert(id, addresses);
            }
            Event::OverrideServed { id, .. } => {
                open.entry(id).or_insert(record.at);
            }
            Event::WithdrawStarted { id, .. } => {
                closed.extend(open.remove(id.as_str()).map(|from| standing(&sets, id, from, record.at)));
            }
            _ => {}
        }
    }
    let end = seen.polls.last().map_or(Timestamp::MIN, |poll| poll.answered);
    closed.extend(open.into_iter().map(|(id, from)| standing(&sets, id, from, end)));
    closed
}

/// Every answer is the override's, and none is waited for longer than a client waits.
fn answers(seen: &Seen) -> Check {
    let (mut good, mut wrong, mut silent) = (0, 0, 0);
    let mut longest = SignedDuration::ZERO;
    for standing in standings(seen) {
        let mut last = standing.from;
        let within = |poll: &&Poll| poll.asked >= standing.from && poll.answered <= standing.until;
        for poll in seen.polls.iter().filter(within) {
            match &poll.addresses {
                None => silent += 1,
                Some(addresses) if *addresses == standing.addresses => {
                    good += 1;
                    longest = longest.max(poll.answered.duration_since(last));
                    last = poll.answered;
                }
                Some(_) => wrong += 1,
            }
        }
        longest = longest.max(standing.until.duration_since(last));
    }
    let text = format!("{good} right, {wrong} wrong, {silent} missing, {} ms between two", longest.as_millis());
    let patient = longest <= SignedDuration::try_from(PATIENCE).unwrap_or(SignedDuration::MAX);
    let held = wrong == 0 && silent == 0 && patient;
    Check::new("answers while an override stands", "all of them the override's", text, held)
}

/// One key for one message, one message for one key, and a repetition that says that it is one.
fn keys(messages: &[Message]) -> Check {
    let mut by_key: BTreeMap<&str, &Message> = BTreeMap::new();
    let mut by_meaning: BTreeMap<_, &str> = BTreeMap::new();
    let mut wrong = Vec::new();
    for message in messages {
        let Message { key, kind, incident, subject, text, repeated, .. } = message;
        if message.header.as_ref() != Some(key) {
            wrong.push(format!("{key} has another key as its header"));
        }
        match by_key.insert(key, message) {
            Some(before) if (&before.kind, &before.subject, &before.text) != (kind, subject, text) => {
                wrong.push(format!("{key} says two things"));
            }
            Some(_) if !repeated => wrong.push(format!("{key} is repeated and does not say so")),
            _ => {}
        }
        let known = by_meaning.entry((kind, incident, subject)).or_insert(key);
        if known != key {
            wrong.push(format!("{subject:?} is sent as {known} and as {key}"));
        }
    }
    let text = if wrong.is_empty() { format!("{} keys", by_key.len()) } else { wrong.join("; ") };
    Check::new("one key for one message", "everywhere", text, wrong.is_empty())
}

fn arrivals(seen: &Seen) -> Check {
    let missing = seen.not_arrived();
    let text = if missing.is_empty() { "yes".to_owned() } else { format!("not {}", missing.join(", ")) };
    Check::of("every message arrives", "yes", &text)
}

/// What was approved is begun once, and goes by one number.
fn applied_once(seen: &Seen) -> Check {
    let mut begun: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (_, event) in seen.all() {
        if let Event::ApplyStarted { id, generation, .. } = event {
            begun.entry(id).or_default().push(*generation);
        }
    }
    let approved = |id: &str| {
        seen.all().any(|(_, event)| matches!(event, Event::OverrideApproved { id: approved, .. } if approved == id))
    };
    let wrong: Vec<String> = begun
        .iter()
        .filter(|(id, generations)| generations.len() > 1 || !approved(id))
        .map(|(id, generations)| format!("{id} as {generations:?}"))
        .collect();
    let text = if wrong.is_empty() { "yes".to_owned() } else { wrong.join("; ") };
    Check::of("applied once for an approval", "yes", &text)
}

#[cfg(test)]
mod tests;
