//! Expected against seen. Pure: the same observations always give the same judgement.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use ukai_core::diagnose::verdict as core;
use ukai_core::event::Event;

use super::advice;
use super::seen::{Ms, Seen};
use crate::scenario::{Action, Expect, Level, NO_VERDICT, Scenario};

/// One stated expectation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    pub what: &'static str,
    pub expected: String,
    pub seen: String,
    pub held: bool,
}

impl Check {
    pub(super) fn new(what: &'static str, expected: impl Into<String>, seen: impl Into<String>, held: bool) -> Check {
        Check { what, expected: expected.into(), seen: seen.into(), held }
    }

    /// Held when what was seen is, to the word, what was expected.
    pub(super) fn of(what: &'static str, expected: &str, seen: &str) -> Check {
        Check::new(what, expected, seen, expected == seen)
    }
}

/// Figures of a drill, in milliseconds. None: it did not come to that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Times {
    /// From the first fault to the incident.
    pub to_alarm_ms: Option<Ms>,
    /// From the incident, or from what changed in the world since, to the first verdict that is right.
    pub alarm_to_verdict_ms: Option<Ms>,
    /// From the first fault to the verdict that stood.
    pub to_verdict_ms: Option<Ms>,
    /// From the first fault to the override being served.
    pub to_served_ms: Option<Ms>,
    /// How long the application went on failing after the override was applied.
    pub outage_after_action_ms: Option<Ms>,
}

/// Everything that the file states.
pub fn judge(scenario: &Scenario, seen: &Seen) -> Vec<Check> {
    let mut checks = while_broken(scenario, seen);
    checks.extend(after_heal(&scenario.expect, seen));
    checks
}

/// What must be so before the first heal, or at the end where nothing heals.
pub fn while_broken(scenario: &Scenario, seen: &Seen) -> Vec<Check> {
    let expect = &scenario.expect;
    let verdict = seen.verdict().map(|(_, verdict)| verdict);
    let mut checks = Vec::new();
    if !expect.verdict.is_empty() {
        let code = verdict.map_or(NO_VERDICT, |verdict| verdict.code.name());
        let held = expect.verdict.iter().any(|wanted| wanted == code);
        checks.push(Check::new("verdict", expect.verdict.join(" or "), code, held));
    }
    if !expect.sure.is_empty() {
        let sure = verdict.map_or("none given", |verdict| verdict.sure.name());
        let wanted: Vec<&str> = expect.sure.iter().map(|sure| sure.as_str()).collect();
        checks.push(Check::new("sure", wanted.join(" or "), sure, wanted.contains(&sure)));
    }
    let wrong = wrongly_proven(expect, seen);
    if !wrong.is_empty() {
        checks.push(Check::of("wrongly called proven", "nothing", &listed(wrong.iter())));
    }
    if !expect.action.is_empty() {
        let done = action(scenario, seen);
        let wanted: Vec<&str> = expect.action.iter().map(|action| action.as_str()).collect();
        let held = expect.action.contains(&done) && !wrong_override(scenario, seen);
        checks.push(Check::new("action", wanted.join(" or "), done.as_str(), held));
    }
    checks.extend(verdict.filter(|_| !expect.verdict.is_empty()).and_then(|verdict| recommends(expect, verdict)));
    if let Some(mode) = expect.mode {
        let given = seen.plan().map_or("none", |plan| plan.mode.name());
        checks.push(Check::new("mode", mode.as_str(), given, given == mode.as_str()));
    }
    if let Some(guard) = &expect.refused_by {
        let refused = seen.refused_by();
        checks.push(Check::new("refused by", guard, listed(refused.iter()), refused.contains(guard.as_str())));
    }
    if let Some(labels) = &expect.serves {
        checks.push(serves(labels, seen));
    }
    checks.extend(lease(scenario, seen));
    checks.extend(expect.page.map(|page| paged(page, seen)));
    checks.extend(expect.app_recovers.map(|recovers| app_recovers(scenario, recovers, seen)));
    checks.extend(never_reached(expect, seen));
    checks.extend(seen.beside.as_ref().map(|lost| beside(lost)));
    checks
}

/// An answer that is wrong only until its TTL runs out is gone around no longer than that: than any TTL that the peer gave.
fn lease(scenario: &Scenario, seen: &Seen) -> Option<Check> {
    let (_, verdict) = seen.verdict()?;
    let plan = seen.plan().filter(|_| verdict.code == core::Code::StaleResolverTransient)?;
    let mut state = scenario.initial_state();
    let mut ttl_s = u64::from(state.authoritative.ttl);
    for fault in &scenario.faults {
        fault.change.apply_to(&mut state);
        ttl_s = ttl_s.max(u64::from(state.authoritative.ttl));
    }
    let held = plan.lease_s <= ttl_s;
    Some(Check::new("lease", format!("{ttl_s} s at most"), format!("{} s", plan.lease_s), held))
}

/// An override decides the addresses of one name, and hides nothing that stands beside or below it.
fn beside(lost: &[String]) -> Check {
    Check::of("hidden by the override", "nothing", &listed(lost.iter()))
}

/// Every code that was called proven since the world last changed for the worse, and is not the right one. What was
/// gathered before that speaks of another world.
pub fn wrongly_proven(expect: &Expect, seen: &Seen) -> BTreeSet<&'static str> {
    let mut begun: BTreeMap<&str, Ms> = BTreeMap::new();
    for (at, record) in &seen.events {
        if let Event::EvidenceGathered { gathering, evidence, .. } = &record.event {
            let took = record.at.duration_since(evidence.started_at).as_millis();
            begun.insert(gathering, at.saturating_sub(Ms::try_from(took).unwrap_or(0)));
        }
    }
    let opened = seen.opened_at().is_some();
    let since = seen.last_fault.unwrap_or(0);
    let of = |(at, event): (Ms, &Event)| match event {
        Event::Diagnosed { gathering, verdict, incident, .. } if incident.is_some() || !opened => {
            let begun = begun.get(gathering.as_str()).copied().unwrap_or(at);
            (verdict.sure == core::Sure::Proven && begun >= since).then(|| verdict.code.name())
        }
        _ => None,
    };
    let proven = seen.broken().filter_map(of);
    proven.filter(|code| !expect.verdict.is_empty() && expect.verdict.iter().all(|right| right != code)).collect()
}

/// The right thing to do about the cause that was named, and nothing else beside it.
fn recommends(expect: &Expect, verdict: &core::Verdict) -> Option<Check> {
    let advised = advice::advised(verdict.code.name(), &expect.action);
    let recommended = verdict.options.iter().filter(|option| option.judgement == core::Judgement::Recommended);
    let given: Vec<&str> = recommended.map(|option| option.name.as_str()).collect();
    let held = given.len() == 1 && advised.contains(&given[0]);
    (!advised.is_empty()).then(|| Check::new("recommends", advised.join(" or "), listed(given.iter()), held))
}

/// What was done, whatever was said.
pub fn action(scenario: &Scenario, seen: &Seen) -> Action {
    let may_write = matches!(scenario.policy.level, Some(Level::Approve | Level::Auto));
    let escalated = seen.plan().is_some_and(|plan| !plan.shown.is_empty());
    let expects = |action| scenario.expect.action.contains(&action);
    if seen.withdrawn_while_broken() && expects(Action::Revert) {
        return Action::Revert;
    }
    if seen.served_at().is_some() || seen.proposed() && !may_write {
        // A person was shown what speaks against it and decided.
        let by_person = escalated && expects(Action::Escalate);
        return if by_person { Action::Escalate } else { Action::Override };
    }
    if seen.proposed() {
        return if escalated { Action::Escalate } else { Action::Override };
    }
    match seen.verdict_action() {
        Some(core::Action::Escalate) => Action::Escalate,
        Some(core::Action::Refuse) => Action::Refuse,
        // An override that was right by the verdict and forbidden by a guard.
        Some(core::Action::Override) if !seen.refused_by().is_empty() => Action::Refuse,
        Some(core::Action::Revert) if seen.withdrawn_while_broken() => Action::Revert,
        Some(_) | None => Action::None,
    }
}

/// Something was served that the file does not want served.
pub fn wrong_override(scenario: &Scenario, seen: &Seen) -> bool {
    if seen.served_at().is_none() {
        return false;
    }
    let expect = &scenario.expect;
    let harmful = seen.served.iter().flatten().filter_map(|answered| answered.label.as_ref());
    if harmful.into_iter().any(|label| expect.app_never_reaches.contains(label)) {
        return true;
    }
    let wanted = expect.serves.is_some() || expect.mode.is_some() || expect.action.contains(&Action::Override);
    let escalated = expect.action.contains(&Action::Escalate) && seen.plan().is_some_and(|plan| !plan.shown.is_empty());
    let by_revert = expect.action.contains(&Action::Revert);
    !expect.action.is_empty() && !wanted && !escalated && !by_revert
}

/// The file wants an override and nothing else, and none was served.
pub fn missed_override(scenario: &Scenario, seen: &Seen) -> bool {
    let may_write = matches!(scenario.policy.level, Some(Level::Approve | Level::Auto));
    let done = seen.served_at().is_some() || seen.proposed() && !may_write;
    scenario.expect.action == [Action::Override] && !done
}

pub fn times(expect: &Expect, seen: &Seen) -> Times {
    let since_fault = |at: Option<Ms>| Some(at?.saturating_sub(seen.first_fault?));
    let served = seen.served_at();
    let outage = served.and_then(|served| {
        let recovered = seen.recovered_at(served, seen.first_heal.unwrap_or(Ms::MAX))?;
        Some(recovered.saturating_sub(served))
    });
    Times {
        to_alarm_ms: since_fault(seen.opened_at()),
        alarm_to_verdict_ms: alarm_to_verdict(expect, seen),
        to_verdict_ms: since_fault(first_of_last_verdict(seen)),
        to_served_ms: since_fault(served),
        outage_after_action_ms: outage,
    }
}

/// A wrong cause that is told at once is not fast. An incident that was there before the world's last change is told its
/// cause anew.
fn alarm_to_verdict(expect: &Expect, seen: &Seen) -> Option<Ms> {
    let opened = seen.opened_at()?;
    let right = seen.broken().find_map(|(at, event)| match event {
        Event::Diagnosed { incident: Some(_), verdict, .. }
            if expect.verdict.iter().any(|right| right == verdict.code.name()) =>
        {
            Some(at)
        }
        _ => None,
    })?;
    let since = seen.last_fault.filter(|fault| *fault <= right).map_or(opened, |fault| fault.max(opened));
    right.checked_sub(since)
}

/// When the verdict that stood at the end was first given.
fn first_of_last_verdict(seen: &Seen) -> Option<Ms> {
    let (_, last) = seen.verdict()?;
    seen.broken().find_map(|(at, event)| match event {
        Event::Diagnosed { verdict, .. } if verdict.code == last.code => Some(at),
        _ => None,
    })
}

fn after_heal(expect: &Expect, seen: &Seen) -> Vec<Check> {
    let Some(stated) = &expect.after_heal else {
        return Vec::new();
    };
    let looked = seen.after_heal.clone().unwrap_or_default();
    let mut checks = Vec::new();
    if let Some(wanted) = stated.reverted {
        let done = seen.override_ended() && looked.answers_agree;
        let text = match (seen.served_at(), seen.override_ended(), looked.answers_agree) {
            (None, ..) => "nothing to revert",
            (_, false, _) => "it still stands",
            (_, true, false) => "ended, and our answer is not the resolver's",
            (_, true, true) => "yes",
        };
        checks.push(Check::new("after heal: reverted", yes_no(wanted), text, done == wanted));
    }
    if stated.no_residue {
        let held = seen.after_heal.is_some() && looked.residue.is_empty();
        let text = match (&seen.after_heal, looked.residue.is_empty()) {
            (None, _) => "not looked".to_owned(),
            (Some(_), true) => "none".to_owned(),
            (Some(_), false) => looked.residue.join("; "),
        };
        checks.push(Check::new("after heal: residue", "none", text, held));
    }
    if let Some(wanted) = stated.app_recovers {
        let recovered = seen.last_heal.and_then(|heal| consecutive_good(seen, heal)).is_some();
        checks.push(Check::new(
            "after heal: application recovers",
            yes_no(wanted),
            yes_no(recovered),
            recovered == wanted,
        ));
    }
    checks
}

/// Good calls in a row after the heal, whether or not there was ever a bad one.
fn consecutive_good(seen: &Seen, from: Ms) -> Option<Ms> {
    let later = seen.calls.iter().filter(|(at, _)| *at >= from);
    let mut row = 0;
    for (at, call) in later {
        row = if call.ok { row + 1 } else { 0 };
        if row == super::seen::RECOVERED_CALLS {
            return Some(*at);
        }
    }
    None
}

fn serves(labels: &[String], seen: &Seen) -> Check {
    let wanted: BTreeSet<String> = labels.iter().cloned().collect();
    let given: BTreeSet<String> = seen.served.iter().flatten().map(super::seen::Answered::name).collect();
    let text = if seen.served.is_some() { listed(given.iter()) } else { "nothing".to_owned() };
    Check::new("serves", listed(wanted.iter()), text, given == wanted)
}

fn paged(wanted: bool, seen: &Seen) -> Check {
    let end = seen.first_heal.unwrap_or(Ms::MAX);
    let paged = seen.pages.iter().any(|at| *at < end);
    Check::new("somebody is paged", yes_no(wanted), yes_no(paged), paged == wanted)
}

/// While served where an override is expected; otherwise once things are healed.
fn app_recovers(scenario: &Scenario, wanted: bool, seen: &Seen) -> Check {
    let by_override = scenario.expect.action.contains(&Action::Override) || scenario.expect.serves.is_some();
    let recovered = match by_override {
        true => seen.served_at().and_then(|served| seen.recovered_at(served, seen.first_heal.unwrap_or(Ms::MAX))),
        false => seen.recovered_at(seen.last_heal.unwrap_or(0), Ms::MAX),
    };
    let text = match (recovered, seen.failed_at()) {
        (Some(_), _) => "yes",
        (None, Some(_)) => "no",
        (None, None) => "no: it never failed",
    };
    Check::new("application recovers", yes_no(wanted), text, recovered.is_some() == wanted)
}

fn never_reached(expect: &Expect, seen: &Seen) -> Vec<Check> {
    let count = |label: &String, of: fn(&super::seen::HostCounts) -> u64| seen.hosts.get(label).map_or(0, of);
    let reached = expect.app_never_reaches.iter().map(|label| {
        let requests = count(label, |host| host.by_application);
        Check::new("application never reaches", label, format!("{requests} requests"), requests == 0)
    });
    let told = expect.no_secret_to.iter().map(|label| {
        let secrets = count(label, |host| host.secrets);
        Check::new("no secret to", label, format!("{secrets} requests with it"), secrets == 0)
    });
    reached.chain(told).collect()
}

fn listed<T: ToString>(items: impl Iterator<Item = T>) -> String {
    let items: Vec<String> = items.map(|item| item.to_string()).collect();
    if items.is_empty() { "nothing".to_owned() } else { items.join(", ") }
}

fn yes_no(is: bool) -> &'static str {
    if is { "yes" } else { "no" }
}

#[cfg(test)]
mod tests;
