//! The time line: one plain sentence for each event that a person would tell.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::Serialize;
use ukai_core::alarm::AlarmState;
use ukai_core::diagnose::evidence::Purpose;
use ukai_core::event::{Actor, Event, Recorded};

use super::model::Opened;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub at: Timestamp,
    pub kind: Kind,
    pub text: String,
}

/// What sort of moment it is, for its mark on the chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Failure,
    Alarm,
    Evidence,
    Diagnosis,
    Decision,
    Change,
    Recovery,
    Told,
    Note,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Failure => "failure",
            Kind::Alarm => "alarm",
            Kind::Evidence => "evidence",
            Kind::Diagnosis => "diagnosis",
            Kind::Decision => "decision",
            Kind::Change => "change",
            Kind::Recovery => "recovery",
            Kind::Told => "told",
            Kind::Note => "note",
        }
    }
}

pub fn rows(opened: &Opened, records: &[&Recorded]) -> Vec<Row> {
    let first = Row {
        at: opened.failing_since,
        kind: Kind::Failure,
        text: "The first probe of those that the alarm rests on failed.".to_owned(),
    };
    let mut rows = vec![first];
    let mut last_verdict = None;
    for record in records {
        if let Event::Diagnosed { verdict, .. } = &record.event {
            let said = (verdict.code, verdict.sure, verdict.action);
            if last_verdict.replace(said) == Some(said) {
                continue;
            }
        }
        if let Some((kind, text)) = sentence(&record.event) {
            rows.push(Row { at: record.at, kind, text });
        }
    }
    rows.sort_by_key(|row| row.at);
    rows
}

fn sentence(event: &Event) -> Option<(Kind, String)> {
    incident_sentence(event).or_else(|| override_sentence(event)).or_else(|| shell_sentence(event))
}

fn incident_sentence(event: &Event) -> Option<(Kind, String)> {
    Some(match event {
        Event::AlarmChanged { alarm, before, after, reason, .. } => (
            Kind::Alarm,
            format!("Alarm {alarm} went from {} to {}: {reason}.", state(*before), state(*after)),
        ),
        Event::AddressSetChanged { before, after, .. } => (
            Kind::Note,
            format!("The normal path leads to {} now; before, to {}.", list(after), list(before)),
        ),
        Event::IncidentOpened { incident, summary, page, .. } => {
            let paged = if *page { "somebody is paged" } else { "nobody is paged yet" };
            (Kind::Alarm, format!("Incident {incident} was opened, {paged}: {summary}."))
        }
        Event::IncidentReopened { summary, .. } => {
            (Kind::Alarm, format!("It failed again, and the incident went on: {summary}."))
        }
        Event::IncidentWorsened { summary, .. } => {
            (Kind::Alarm, format!("It became worse, and nothing gets through: {summary}."))
        }
        Event::PageSuppressed { by, .. } => {
            (Kind::Told, format!("Nobody was paged for this peer, because {by} was in ALARM and paged in its stead."))
        }
        Event::FailureBroke { .. } => (Kind::Note, "A probe was whole: nobody is paged unless it fails again.".to_owned()),
        Event::IncidentPaged { reason, .. } => (Kind::Told, format!("Somebody is paged: {reason}.")),
        Event::EvidenceGathered { evidence, .. } if evidence.purpose == Purpose::Diagnose => {
            let silent = evidence.asked.iter().filter(|asked| asked.answer().is_none()).count();
            let text = format!(
                "Evidence was gathered: {} questions asked, {silent} without an answer, {} candidates tried, {} controls.",
                evidence.asked.len(),
                evidence.candidates.len(),
                evidence.controls.len()
            );
            (Kind::Evidence, text)
        }
        Event::EvidenceGathered { evidence, .. } if evidence.purpose == Purpose::Apply => {
            (Kind::Evidence, "Fresh evidence was gathered before the change.".to_owned())
        }
        Event::Diagnosed { verdict, .. } => (
            Kind::Diagnosis,
            format!(
                "Diagnosis {} ({}), action {}: {}.",
                verdict.code.name(),
                verdict.sure.name(),
                verdict.action.name(),
                verdict.summary
            ),
        ),
        Event::OverrideRefused { refusals, .. } => {
            let guards: Vec<&str> = refusals.iter().map(|refusal| refusal.guard.as_str()).collect();
            (Kind::Decision, format!("An override was considered and refused by: {}.", guards.join(", ")))
        }
        Event::IncidentClosed { reason, .. } => {
            (Kind::Recovery, format!("The incident was closed: {reason}."))
        }
        _ => return None,
    })
    .map(|(kind, text)| (kind, one_stop(text)))
}

fn override_sentence(event: &Event) -> Option<(Kind, String)> {
    Some(match event {
        Event::OverrideProposed { id, plan, level, .. } => (
            Kind::Decision,
            format!(
                "Override {id} was proposed: {} to {} in mode {} at level {}.",
                plan.host,
                list(&plan.addresses),
                plan.mode.name(),
                level.name()
            ),
        ),
        Event::OverrideApproved { id, by, why, .. } => {
            (Kind::Decision, format!("{} approved override {id}{}.", who(by), because(why)))
        }
        Event::OverrideRejected { id, by, why } => {
            (Kind::Decision, format!("{} rejected override {id}{}.", who(by), because(why)))
        }
        Event::OverrideVoided { id, reason } => (Kind::Decision, format!("Override {id} became void: {reason}.")),
        Event::ApplyStarted { id, addresses, expires_at, .. } => {
            (Kind::Change, format!("Override {id} is being applied: {} until {}.", list(addresses), utc(*expires_at)))
        }
        Event::FollowStarted { id, addresses, .. } => {
            (Kind::Change, format!("Override {id} follows its sources to {}.", list(addresses)))
        }
        Event::ApplyFailed { id, detail, .. } => {
            (Kind::Change, format!("Override {id} could not be applied: {detail}."))
        }
        Event::OverrideServed { id, proof, .. } => (Kind::Change, format!("Override {id} is served: {proof}.")),
        Event::OverrideConfirmed { id, .. } => {
            (Kind::Recovery, format!("Override {id} is confirmed: the application's own call succeeded."))
        }
        Event::LeaseWarned { id, left_s } => (Kind::Told, format!("Override {id} has {left_s} s of its lease left.")),
        Event::LeaseExtended { id, expires_at, by, why } => {
            (Kind::Decision, format!("{} extended override {id} to {}{}.", who(by), utc(*expires_at), because(why)))
        }
        Event::OverrideTroubled { id, reason } => (Kind::Note, format!("Override {id} is in trouble: {reason}.")),
        Event::NormalPathProved { id, times } => {
            (Kind::Recovery, format!("The normal path, past override {id}, was right {times} times in a row."))
        }
        Event::WithdrawStarted { id, reason, by, why } => (
            Kind::Change,
            format!(
                "Override {id} is being withdrawn ({}) by {}{}.",
                reason.name().replace('_', " "),
                who(by),
                because(why)
            ),
        ),
        Event::WithdrawFailed { id, detail } => {
            (Kind::Change, format!("Override {id} could not be withdrawn: {detail}."))
        }
        Event::OverrideEnded { id, reason } => {
            (Kind::Change, format!("Override {id} ended ({}).", reason.name().replace('_', " ")))
        }
        _ => return None,
    })
    .map(|(kind, text)| (kind, one_stop(text)))
}

fn shell_sentence(event: &Event) -> Option<(Kind, String)> {
    Some(match event {
        Event::Started { version } => (Kind::Note, format!("ukai {version} started.")),
        Event::NotificationQueued { notification, subscribers } if !subscribers.is_empty() => {
            let page = if notification.page { " (page)" } else { "" };
            let to = subscribers.join(", ");
            (Kind::Told, format!("Told {to}{page}: {}.", notification.subject))
        }
        Event::NotificationFailed { subscriber, attempts, detail, .. } => {
            (Kind::Told, format!("{subscriber} could not be told after {attempts} attempts: {detail}."))
        }
        Event::Frozen { by, why } => {
            (Kind::Decision, format!("{} froze every automatic change{}.", who(by), because(why)))
        }
        Event::Thawed { by, why } => (Kind::Decision, format!("{} ended the freeze{}.", who(by), because(why))),
        Event::Troubled { what } => (Kind::Note, format!("Trouble: {what}.")),
        _ => return None,
    })
    .map(|(kind, text)| (kind, one_stop(text)))
}

/// Who acted, as the report names them.
pub fn who(by: &Actor) -> String {
    match by.uid {
        Some(uid) => format!("{} (uid {uid}, by {})", by.name, by.via),
        None => format!("{} (by {})", by.name, by.via),
    }
}

/// `2026-01-02 03:04:05.678Z`
pub fn utc(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S%.3fZ").to_string()
}

/// A span as people say it.
pub fn span(ms: i64) -> String {
    let (sign, ms) = if ms < 0 { ("-", ms.unsigned_abs()) } else { ("", ms.unsigned_abs()) };
    let seconds = ms / 1000;
    let text = match seconds {
        0 => format!("{ms} ms"),
        1..=59 => format!("{}.{} s", seconds, ms % 1000 / 100),
        60..=3599 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    };
    format!("{sign}{text}")
}

pub fn list(addresses: &BTreeSet<IpAddr>) -> String {
    if addresses.is_empty() {
        return "nothing".to_owned();
    }
    super::matrix::shorten(addresses.iter().copied())
}

/// CloudWatch's words.
fn state(state: AlarmState) -> &'static str {
    match state {
        AlarmState::Ok => "OK",
        AlarmState::Alarm => "ALARM",
        AlarmState::InsufficientData => "INSUFFICIENT_DATA",
    }
}

fn because(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(": {why}") }
}

/// Sentences of others may bring their own full stop.
fn one_stop(text: String) -> String {
    let bare = text.trim_end_matches('.');
    if bare.ends_with(['?', '!']) { bare.to_owned() } else { format!("{bare}.") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_say_them() {
        assert_eq!(span(350), "350 ms");
        assert_eq!(span(4_260), "4.2 s");
        assert_eq!(span(185_000), "3 min 5 s");
        assert_eq!(span(7_440_000), "2 h 4 min");
        assert_eq!(span(-350), "-350 ms");
    }

    #[test]
    fn a_sentence_ends_once() {
        assert_eq!(one_stop("It broke..".to_owned()), "It broke.");
        assert_eq!(one_stop("Did it?.".to_owned()), "Did it?");
        assert_eq!(one_stop("It broke.".to_owned()), "It broke.");
    }
}
