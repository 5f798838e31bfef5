//! Whether what was done about a crossed outage is right. Pure, and of the lab alone: the tables know nothing of rules.

use std::time::Duration;

use serde::Serialize;
use ukai_core::diagnose::verdict::Sure;
use ukai_core::event::Event;
use ukai_core::overrides::EndReason;

use super::allowed::{ALLOWED, Allowed};
use super::change::original;
use super::modifiers::{Gate, wants_override};
use super::set::Combination;
use crate::runner::judge;
use crate::runner::seen::{Ms, Seen};
use crate::scenario::{Action, HostBehaviour, NO_VERDICT};

/// Once a fault is gone, an override that is already being applied may still be served; later than this it may not.
const GONE_FOR_MS: Ms = 1_000;

/// What came of one combination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judged {
    pub scenario: String,
    pub modifiers: Vec<&'static str>,
    pub verdict: String,
    pub sure: String,
    pub action: String,
    /// Verdicts that are right here.
    pub right: Vec<String>,
    pub verdict_right: bool,
    /// A wrong verdict that was called proven, at whatever time of the outage.
    pub wrong_and_proven: Option<String>,
    /// Nothing was concluded; why that is honest, where it is.
    pub open: bool,
    pub open_because: Option<&'static str>,
    /// What was done that must not be, or was not done that must be.
    pub wrong_action: Option<String>,
    pub paged: bool,
    pub served: bool,
    pub app_recovered: bool,
}

/// How the run went, beside what was seen of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Course<'a> {
    pub beside: Option<&'a Seen>,
    /// Every answer that an override was seen to give.
    pub served: &'a [Served],
    /// When the fault went away by itself.
    pub cleared_at: Option<Ms>,
}

/// An address that an override answered, and what stood there at that moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Served {
    pub at: Ms,
    pub label: String,
    pub behaviour: HostBehaviour,
    pub private: bool,
    /// The peer's servers led to it too, then or lately.
    pub named: bool,
}

pub fn judge(combination: &Combination, seen: &Seen, course: Course<'_>) -> Judged {
    let scenario = &combination.staging.scenario;
    let rows = rows(combination);
    let mut right = scenario.expect.verdict.clone();
    right.extend(rows.iter().flat_map(|row| row.verdicts).map(|code| (*code).to_owned()));
    let verdict = seen.verdict().map(|(_, verdict)| verdict);
    let code = verdict.map_or("none", |verdict| verdict.code.name());
    let sure = verdict.map_or("none", |verdict| verdict.sure.name());
    let states_none = scenario.expect.verdict.iter().any(|code| code == NO_VERDICT);
    let open = matches!(code, "none" | "open") && !states_none;
    let open_because = rows.iter().find(|row| row.open).map(|row| row.why).filter(|_| open);
    let verdict_right = right.iter().any(|allowed| allowed == code) || open_because.is_some();
    let recovered = seen.served_at().and_then(|served| seen.recovered_at(served, Ms::MAX));
    Judged {
        scenario: scenario.id.clone(),
        modifiers: combination.modifiers.iter().map(|modifier| modifier.id).collect(),
        verdict: code.to_owned(),
        sure: sure.to_owned(),
        action: judge::action(scenario, seen).as_str().to_owned(),
        verdict_right,
        wrong_and_proven: proven(combination, seen)
            .into_iter()
            .find(|code| !right.iter().any(|allowed| allowed == code))
            .map(str::to_owned),
        right,
        open,
        open_because,
        wrong_action: wrong_action(combination, seen, course),
        paged: !seen.pages.is_empty(),
        served: seen.served_at().is_some(),
        app_recovered: recovered.is_some(),
    }
}

/// What was called proven in an incident since the modifiers are in force. Of an outage that is over from time to time only
/// the last word counts: what is true changes.
fn proven(combination: &Combination, seen: &Seen) -> Vec<&'static str> {
    let last = seen.verdict().map(|(at, _)| at);
    let since = if combination.comes_and_goes() { last } else { Some(in_force(combination, seen)) };
    let of = |(at, event): (Ms, &Event)| match event {
        Event::Diagnosed { verdict, incident: Some(_), .. } if verdict.sure == Sure::Proven => {
            Some(verdict.code.name()).filter(|_| since.is_some_and(|since| at >= since))
        }
        _ => None,
    };
    seen.broken().filter_map(of).collect()
}

/// From when on the modifiers are in force.
fn in_force(combination: &Combination, seen: &Seen) -> Ms {
    seen.first_fault.unwrap_or(0).saturating_sub(first_fault(combination)) + ms(combination.from)
}

/// The rows of the table that a combination falls under.
pub fn rows(combination: &Combination) -> Vec<&'static Allowed> {
    let ids: Vec<&str> = combination.modifiers.iter().map(|modifier| modifier.id).collect();
    ALLOWED.iter().filter(|row| row.is_about(&combination.staging.scenario, &ids)).collect()
}

fn wrong_action(combination: &Combination, seen: &Seen, course: Course<'_>) -> Option<String> {
    let scenario = &combination.staging.scenario;
    if let Some(why) = harm(combination, seen, course) {
        return Some(why);
    }
    if let Some(beside) = course.beside.filter(|beside| beside.proposed()) {
        let plan = beside.plan().map(|plan| plan.verdict.clone()).unwrap_or_default();
        return Some(format!("an override is proposed for the other peer ({plan})"));
    }
    let gate = combination.gate();
    let shown = seen.plan().is_some_and(|plan| !plan.shown.is_empty());
    let expects = |action| scenario.expect.action.contains(&action);
    let right = wants_override(scenario) || expects(Action::Revert) || expects(Action::Escalate) && shown;
    let served = seen.served_at();
    if served.is_some() && !right && gate != Gate::Free {
        return Some("an override is served where none is right".to_owned());
    }
    // One that was served before the modifiers were in force is another matter.
    let from = in_force(combination, seen);
    if let Some(served) = served.filter(|served| *served >= from) {
        if let Some(cleared) =
            course.cleared_at.filter(|cleared| gate == Gate::Closed && served > cleared + GONE_FOR_MS)
        {
            return Some(format!("an override is served {} s after the fault was gone", (served - cleared) / 1000));
        }
        if gate == Gate::Closed {
            return Some("an override is served with a gate that does not hold".to_owned());
        }
        if gate == Gate::Person && !shown {
            return Some("an override is served, and nobody was shown what speaks against it".to_owned());
        }
    }
    if gate == Gate::Holds && scenario.expect.action == [Action::Override] {
        let Some(served) = served else { return Some("missed: no override is served".to_owned()) };
        if scenario.expect.app_recovers == Some(true) && seen.recovered_at(served, Ms::MAX).is_none() {
            return Some("the override does not bring the application back".to_owned());
        }
        if let Some(why) = taken_back_too_soon(combination, seen, served) {
            return Some(why);
        }
    }
    left_behind(combination, seen)
}

/// Something that must not happen under any condition: a request or a secret to a stranger, an answer that leads to one.
fn harm(combination: &Combination, seen: &Seen, course: Course<'_>) -> Option<String> {
    let scenario = &combination.staging.scenario;
    let reached = judge::while_broken(scenario, seen)
        .into_iter()
        .find(|check| !check.held && matches!(check.what, "application never reaches" | "no secret to"));
    if let Some(check) = reached {
        return Some(format!("{} {}: {}", check.what, check.expected, check.seen));
    }
    for answer in course.served {
        let label = &answer.label;
        if answer.private || is_a_stranger(&answer.behaviour) {
            return Some(format!("the override leads to {label} ({})", answer.behaviour));
        }
        // Where the peer is by then: it may have gone back there.
        let wanted = scenario.expect.serves.as_ref().filter(|_| !answer.named);
        if wanted.is_some_and(|wanted| !wanted.iter().any(|wanted| wanted == original(label))) {
            return Some(format!("the override leads to {label}, which is not what is to be served"));
        }
    }
    None
}

/// Somebody who is not the peer. A new key may be the peer's own, which a person was asked about.
fn is_a_stranger(behaviour: &HostBehaviour) -> bool {
    use HostBehaviour::{Parked, TlsDefaultCert, TlsSelfSigned, TlsWrongName, WrongBody};
    matches!(behaviour, Parked | TlsDefaultCert | TlsSelfSigned | TlsWrongName | WrongBody)
}

/// An override that stands when the outage is long over.
fn left_behind(combination: &Combination, seen: &Seen) -> Option<String> {
    let stood = seen.first(|event| matches!(event, Event::ApplyStarted { .. })).is_some();
    let healed = seen.last_heal.is_some() && !combination.may_stay_broken();
    let left = seen.after_heal.as_ref().filter(|_| stood && healed)?;
    let what = left.residue.first()?;
    Some(format!("in the end {what}"))
}

fn first_fault(combination: &Combination) -> Ms {
    ms(combination.staging.scenario.faults.iter().map(|fault| fault.at).min().unwrap_or_default())
}

fn ms(time: Duration) -> Ms {
    Ms::try_from(time.as_millis()).unwrap_or(Ms::MAX)
}

/// ukai itself takes an override back that serves what is right, while the outage lasts.
fn taken_back_too_soon(combination: &Combination, seen: &Seen, served: Ms) -> Option<String> {
    let moves = combination.staging.scenario.expect.verdict.iter().any(|code| code == "override_stale");
    if moves || combination.comes_and_goes() {
        return None;
    }
    seen.broken().filter(|(at, _)| *at > served).find_map(|(_, event)| match event {
        Event::WithdrawStarted { reason, by, why, .. } if by.uid.is_none() && *reason != EndReason::Expired => {
            Some(format!("a right override is taken back while the outage lasts: {why}"))
        }
        _ => None,
    })
}
