//! Events told as they happen: one line each, for somebody who was asleep a minute ago.

use std::io::{self, Write};

use ukai_core::alarm::AlarmState;
use ukai_core::diagnose::evidence::{Evidence, Purpose};
use ukai_core::diagnose::verdict::{Choice, Judgement, Verdict};
use ukai_core::event::{ActionOutcome, Actor, Event, Origin, Recorded};
use ukai_core::overrides::EndReason;
use ukai_core::plan::{Plan, Refusal};

use super::paint::{Painted, Tone, list, span, span_of};

/// One line of the story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The chapter: `ALARM`, `EVIDENCE`, `OVERRIDE`.
    pub label: &'static str,
    pub tone: Tone,
    pub text: String,
}

/// Prints to the error stream, so that the output stays free for what was asked.
pub fn print(record: &Recorded) {
    let mut out = anstream::stderr().lock();
    // A terminal that went away, or a full disk behind it, is no reason for the daemon to end.
    let _ = rendered(record).iter().try_for_each(|line| writeln!(out, "{line}"));
}

/// An error: nobody reads any more.
pub fn print_to_stdout(record: &Recorded) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    rendered(record).iter().try_for_each(|line| writeln!(out, "{line}"))
}

fn rendered(record: &Recorded) -> Vec<String> {
    let clock = record.at.strftime("%H:%M:%S").to_string();
    lines(&record.event)
        .into_iter()
        .map(|Line { label, tone, text }| {
            format!("{} {} {text}", Painted(Tone::Faint, &clock), Painted(tone, format_args!("{label:<12}")))
        })
        .collect()
}

/// What a person should read of an event. Bookkeeping yields nothing.
pub fn lines(event: &Event) -> Vec<Line> {
    let one = |label, tone, text: String| vec![Line { label, tone, text }];
    match event {
        Event::Started { version } => one("START", Tone::Strong, format!("ukai {version}")),
        Event::PeerWatched { peer, host, level } => {
            one("WATCH", Tone::Plain, format!("{peer} ({host}), level {}", level.name()))
        }
        Event::PeerForgotten { peer } => one("WATCH", Tone::Faint, format!("{peer} is no longer watched")),
        Event::BaselineLearned { peer, history } => one(
            "BASELINE",
            Tone::Faint,
            format!("{peer}: {} identities, {} answer sets known", history.identities.len(), history.answers.len()),
        ),
        Event::HistoryImported { peer, by, .. } => {
            one("BASELINE", Tone::Plain, format!("{peer}: history imported by {}", by.name))
        }
        Event::AddressSetChanged { peer, before, after, .. } => {
            one("ADDRESSES", Tone::Plain, format!("{peer}: {} (before: {})", list(after), list(before)))
        }
        Event::AlarmPut { .. }
        | Event::AlarmDeleted { .. }
        | Event::AlarmActionsSet { .. }
        | Event::AlarmActed { .. }
        | Event::AlarmSuppressed { .. }
        | Event::AlarmMuted { .. }
        | Event::MuteRulePut { .. }
        | Event::MuteRuleDeleted { .. }
        | Event::MuteEnded { .. } => of_alarm(event),
        Event::AlarmChanged { alarm, before, after, reason, .. } => one(
            "ALARM",
            alarm_tone(*after),
            format!("{alarm}: {} → {}: {reason}", alarm_name(*before), alarm_name(*after)),
        ),
        Event::IncidentOpened { incident, summary, page, .. } => {
            let paged = if *page { ", paged" } else { "" };
            // The summary begins with the peer, the stage and the class.
            one("INCIDENT", Tone::Bad, format!("{incident} opened{paged}: {summary}"))
        }
        Event::IncidentReopened { incident, summary, .. } => {
            one("INCIDENT", Tone::Bad, format!("{incident} is open again: {summary}"))
        }
        Event::IncidentWorsened { incident, summary, .. } => {
            one("INCIDENT", Tone::Bad, format!("{incident} is worse: {summary}"))
        }
        Event::PageSuppressed { incident, by } => {
            one("INCIDENT", Tone::Plain, format!("{incident} does not page: {by} is in ALARM and pages in its stead"))
        }
        Event::FailureWatched { incident, since } => one(
            "INCIDENT",
            Tone::Plain,
            format!("{incident} is watched: no probe was whole since {}", since.strftime("%H:%M:%S")),
        ),
        Event::FailureBroke { incident } => {
            one("INCIDENT", Tone::Plain, format!("{incident}: a probe was whole, nobody is paged"))
        }
        Event::IncidentPaged { incident, reason } => one("INCIDENT", Tone::Bad, format!("{incident} paged: {reason}")),
        Event::EvidenceRequested { peer, purpose, .. } => {
            one("EVIDENCE", Tone::Faint, format!("{peer}: asking everybody ({})", purpose_name(*purpose)))
        }
        Event::EvidenceGathered { evidence, .. } => gathered(evidence),
        Event::Diagnosed { peer, verdict, .. } => diagnosed(peer, verdict),
        Event::IncidentClosed { incident, reason } => {
            one("INCIDENT", Tone::Good, format!("{incident} closed: {reason}"))
        }
        Event::ReportWritten { incident, paths } => one("REPORT", Tone::Good, format!("{incident}: {}", list(paths))),
        Event::Frozen { by, why } => one("FREEZE", Tone::Warning, format!("by {}{}", by.name, because(why))),
        Event::Thawed { by, why } => one("FREEZE", Tone::Plain, format!("ended by {}{}", by.name, because(why))),
        Event::Troubled { what } => one("TROUBLE", Tone::Warning, what.clone()),
        Event::NotificationQueued { notification, subscribers } => one(
            "NOTIFY",
            if notification.page { Tone::Warning } else { Tone::Plain },
            format!("to {}: {}", list(subscribers), notification.subject),
        ),
        Event::NotificationDelivered { key, subscriber, attempts } => {
            one("NOTIFY", Tone::Faint, format!("{key} delivered to {subscriber} (attempt {attempts})"))
        }
        Event::NotificationFailed { key, subscriber, attempts, detail, .. } => one(
            "NOTIFY",
            Tone::Warning,
            format!("{key} could not be delivered to {subscriber} after {attempts} attempts: {detail}"),
        ),
        _ => overridden(event),
    }
}

/// What was done to alarms, and what became of their actions. Defaults that are put at a start are bookkeeping.
fn of_alarm(event: &Event) -> Vec<Line> {
    let one = |tone, text: String| vec![Line { label: "ALARM", tone, text }];
    match event {
        Event::AlarmPut { definition, origin: Origin::Operator, by } => {
            one(Tone::Plain, format!("{} put by {}", definition.name, person(by)))
        }
        Event::AlarmDeleted { alarm, by } if by.uid.is_some() => {
            one(Tone::Plain, format!("{alarm} deleted by {}", person(by)))
        }
        Event::AlarmActionsSet { alarm, enabled, by } => {
            let word = if *enabled { "enabled" } else { "disabled" };
            one(Tone::Warning, format!("{alarm}: actions {word} by {}", person(by)))
        }
        Event::AlarmActed { alarm, action, outcome: ActionOutcome::NotExecuted { why }, .. } => {
            one(Tone::Warning, format!("{alarm}: {action} was not executed: {why}"))
        }
        Event::AlarmActed { alarm, action, outcome: ActionOutcome::Disabled, .. } => {
            one(Tone::Plain, format!("{alarm}: {action} did not run, because its actions are disabled"))
        }
        Event::AlarmSuppressed { alarm, reason, .. } => one(Tone::Plain, format!("{alarm}: {reason}")),
        Event::AlarmMuted { alarm, change } => {
            one(Tone::Plain, format!("{alarm}: {} muted by {}", change.to.name(), change.muted_by))
        }
        Event::MuteRulePut { rule, by } => one(Tone::Plain, format!("mute rule {} put by {}", rule.name(), person(by))),
        Event::MuteRuleDeleted { rule, by } => one(Tone::Plain, format!("mute rule {rule} deleted by {}", person(by))),
        Event::MuteEnded { alarms } => one(Tone::Plain, format!("no longer muted: {}", list(alarms))),
        _ => Vec::new(),
    }
}

fn overridden(event: &Event) -> Vec<Line> {
    let one = |tone, text: String| vec![Line { label: "OVERRIDE", tone, text }];
    match event {
        Event::OverrideProposed { id, plan, hash, level, .. } => proposed(id, plan, hash, level.name()),
        Event::OverrideRefused { incident, refusals, .. } => refused(incident, refusals),
        Event::OverrideApproved { id, by, why, .. } => {
            vec![Line {
                label: "APPROVAL",
                tone: Tone::Good,
                text: format!("{id} approved by {}{}", person(by), because(why)),
            }]
        }
        Event::OverrideRejected { id, by, why } => {
            vec![Line {
                label: "APPROVAL",
                tone: Tone::Warning,
                text: format!("{id} rejected by {}{}", person(by), because(why)),
            }]
        }
        Event::OverrideVoided { id, reason } => one(Tone::Warning, format!("{id} voided: {reason}")),
        Event::ApplyStarted { id, addresses, expires_at, .. } => {
            one(Tone::Plain, format!("{id} applying {} until {expires_at:.0}", list(addresses)))
        }
        Event::Applied { id, generation } => one(Tone::Plain, format!("{id} applied (generation {generation})")),
        Event::ApplyFailed { id, detail, .. } => one(Tone::Bad, format!("{id} could not be applied: {detail}")),
        Event::OverrideServed { id, proof, .. } => one(Tone::Good, format!("{id} served: {proof}")),
        Event::OverrideConfirmed { id, call } => one(
            Tone::Good,
            format!(
                "{id} confirmed: the application's own call succeeded{}",
                call.address.map(|address| format!(" at {address}")).unwrap_or_default()
            ),
        ),
        Event::FollowStarted { id, addresses, .. } => {
            one(Tone::Plain, format!("{id} follows the peer to {}", list(addresses)))
        }
        Event::LeaseWarned { id, left_s } => {
            one(Tone::Warning, format!("{id}: {} of the lease are left", span(*left_s)))
        }
        Event::LeaseExtended { id, expires_at, by, why } => {
            one(Tone::Plain, format!("{id} extended until {expires_at:.0} by {}{}", person(by), because(why)))
        }
        Event::OverrideTroubled { id, reason } => one(Tone::Warning, format!("{id}: {reason}")),
        Event::WithdrawStarted { id, reason, by, why } => {
            one(Tone::Plain, format!("{id} being withdrawn ({}) by {}{}", reason.name(), person(by), because(why)))
        }
        Event::WithdrawFailed { id, detail } => one(Tone::Bad, format!("{id} could not be withdrawn: {detail}")),
        Event::OverrideEnded { id, reason } => one(
            if *reason == EndReason::Reverted { Tone::Good } else { Tone::Warning },
            format!("{id} ended: {}", reason.name()),
        ),
        Event::NormalPathProved { id, times } => {
            one(Tone::Good, format!("{id}: the normal path has been right {times} times in a row"))
        }
        _ => Vec::new(),
    }
}

fn gathered(evidence: &Evidence) -> Vec<Line> {
    let answered = evidence.asked.iter().filter(|asked| asked.answer().is_some()).count();
    let proved = evidence.candidates.iter().filter(|candidate| candidate.first_failure().is_none()).count();
    let passed = evidence.controls.iter().filter(|control| control.passed()).count();
    let text = format!(
        "{}: {answered} of {} questions answered, {proved} of {} candidates proved themselves, {passed} of {} controls pass",
        evidence.peer,
        evidence.asked.len(),
        evidence.candidates.len(),
        evidence.controls.len(),
    );
    vec![Line { label: "EVIDENCE", tone: Tone::Plain, text }]
}

fn diagnosed(peer: &str, verdict: &Verdict) -> Vec<Line> {
    let head = format!(
        "{peer}: {} ({}), action {}: {}",
        verdict.code.name(),
        verdict.sure.name(),
        verdict.action.name(),
        verdict.summary
    );
    let mut lines = vec![Line { label: "DIAGNOSIS", tone: Tone::Strong, text: head }];
    let reasons = verdict.evidence_for.iter().map(|reason| format!("+ {reason}"));
    let doubts = verdict.evidence_against.iter().map(|reason| format!("- {reason}"));
    lines.extend(reasons.chain(doubts).map(|text| Line { label: "", tone: Tone::Faint, text }));
    lines.extend(verdict.options.iter().map(|choice| Line {
        label: "OPTION",
        tone: judgement_tone(choice.judgement),
        text: option(choice),
    }));
    lines
}

fn proposed(id: &str, plan: &Plan, hash: &str, level: &str) -> Vec<Line> {
    let mut text = format!(
        "{id} proposed for {}: {} ({}), lease {}, plan {}",
        plan.host,
        list(&plan.addresses),
        plan.mode.name(),
        span_of(plan.lease_s),
        short(hash)
    );
    if matches!(level, "observe" | "propose") {
        text.push_str(&format!("; at level {level} nothing is written"));
    }
    let mut lines = vec![Line { label: "OVERRIDE", tone: Tone::Strong, text }];
    lines.extend(plan.shown.iter().map(|shown| Line {
        label: "",
        tone: Tone::Warning,
        text: format!("a person must look at {}: {}", shown.guard, shown.reason),
    }));
    lines
}

fn refused(incident: &str, refusals: &[Refusal]) -> Vec<Line> {
    refusals
        .iter()
        .map(|refusal| Line {
            label: "OVERRIDE",
            tone: Tone::Warning,
            text: format!("{incident}: refused by {}: {}", refusal.guard, refusal.reason),
        })
        .collect()
}

pub fn option(choice: &Choice) -> String {
    format!("{}: {}: {}", judgement_name(choice.judgement), choice.name, choice.reason)
}

pub fn judgement_tone(judgement: Judgement) -> Tone {
    match judgement {
        Judgement::Recommended => Tone::Good,
        Judgement::Possible => Tone::Plain,
        Judgement::Useless => Tone::Faint,
        Judgement::Refused => Tone::Warning,
    }
}

pub fn judgement_name(judgement: Judgement) -> &'static str {
    match judgement {
        Judgement::Recommended => "recommended",
        Judgement::Possible => "possible",
        Judgement::Useless => "useless",
        Judgement::Refused => "refused",
    }
}

pub fn purpose_name(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Baseline => "baseline",
        Purpose::Diagnose => "diagnose",
        Purpose::Apply => "before a change",
        Purpose::Standing => "standing override",
    }
}

pub fn alarm_name(state: AlarmState) -> &'static str {
    match state {
        AlarmState::Ok => "OK",
        AlarmState::Alarm => "ALARM",
        AlarmState::InsufficientData => "INSUFFICIENT_DATA",
    }
}

pub fn alarm_tone(state: AlarmState) -> Tone {
    match state {
        AlarmState::Ok => Tone::Good,
        AlarmState::Alarm => Tone::Bad,
        AlarmState::InsufficientData => Tone::Faint,
    }
}

/// The first twelve digits tell two plans apart for a person; the whole hash is what is approved.
pub fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

pub fn person(actor: &Actor) -> String {
    match actor.uid {
        Some(uid) => format!("{} (uid {uid})", actor.name),
        None => actor.name.clone(),
    }
}

fn because(why: &str) -> String {
    if why.is_empty() { String::new() } else { format!(": {why}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(event: &Event) -> String {
        lines(event).into_iter().map(|line| format!("{} {}", line.label, line.text)).collect::<Vec<_>>().join("\n")
    }

    fn actor() -> Actor {
        Actor { uid: Some(1000), name: "mika".into(), via: "cli".into() }
    }

    #[test]
    fn people_and_reasons_are_named() {
        let event = Event::OverrideApproved { id: "o-1".into(), hash: "ab".into(), by: actor(), why: "seen".into() };
        assert_eq!(text(&event), "APPROVAL o-1 approved by mika (uid 1000): seen");
        let event = Event::Frozen { by: actor(), why: String::new() };
        assert_eq!(text(&event), "FREEZE by mika");
    }

    #[test]
    fn every_refusing_guard_has_its_line() {
        let refusal = |guard: &str| Refusal { guard: guard.into(), reason: "because".into() };
        let event = Event::OverrideRefused {
            incident: "i-1".into(),
            peer: "api".into(),
            refusals: vec![refusal("controls"), refusal("continuity")],
        };
        assert_eq!(lines(&event).len(), 2);
        assert!(text(&event).contains("refused by continuity: because"));
    }
}
