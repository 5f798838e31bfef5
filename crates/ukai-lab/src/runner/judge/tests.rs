use std::net::IpAddr;

use jiff::Timestamp;
use ukai_core::diagnose::verdict::{Action as CoreAction, Choice, Code, Judgement, Party, Sure, Verdict};
use ukai_core::event::{Actor, Event, Recorded};
use ukai_core::observe::{ErrorClass, Stage};
use ukai_core::overrides::EndReason;
use ukai_core::peer::{Level, Mode};
use ukai_core::plan::{Anchors, Plan, Refusal};

use super::*;
use crate::app::CallReport;
use crate::runner::catalogue;
use crate::runner::seen::{AfterHeal, Answered, HostCounts};

const FAULT: Ms = 5_000;
const HEAL: Ms = 30_000;

#[test]
fn a_stale_resolver_that_is_overridden_and_reverted_passes() {
    let checks = judge(&scenario("S01"), &overridden());
    assert_eq!(failures(&checks), [""; 0]);
    let names: Vec<&str> = checks.iter().map(|check| check.what).collect();
    assert_eq!(
        names,
        [
            "verdict",
            "sure",
            "action",
            "recommends",
            "mode",
            "serves",
            "somebody is paged",
            "application recovers",
            "after heal: reverted",
            "after heal: residue"
        ]
    );
    assert!(!wrong_override(&scenario("S01"), &overridden()));
    assert!(!missed_override(&scenario("S01"), &overridden()));
}

#[test]
fn figures_count_from_the_first_fault() {
    let times = times(&scenario("S01").expect, &overridden());
    assert_eq!(times.to_alarm_ms, Some(1_500));
    assert_eq!(times.to_verdict_ms, Some(3_500));
    assert_eq!(times.to_served_ms, Some(5_000));
    assert_eq!(times.outage_after_action_ms, Some(1_000));
}

#[test]
fn answering_none_to_everything_misses_the_override() {
    let mut seen = base();
    seen.events = vec![event(6_500, opened()), event(8_500, diagnosed(Code::StaleResolver, CoreAction::None))];
    let scenario = scenario("S01");
    assert!(missed_override(&scenario, &seen));
    assert_eq!(action(&scenario, &seen), Action::None);
    let failed = failures(&judge(&scenario, &seen));
    assert!(failed.contains(&"action") && failed.contains(&"serves"), "{failed:?}");
    assert!(failed.contains(&"after heal: reverted"));
}

#[test]
fn an_override_of_a_peer_that_is_down_is_wrong() {
    let mut seen = overridden();
    seen.events.retain(|(_, record)| !matches!(record.event, Event::Diagnosed { .. }));
    seen.events.insert(1, event(8_500, diagnosed(Code::PeerDown, CoreAction::None)));
    let scenario = scenario("S06b");
    assert!(wrong_override(&scenario, &seen));
    assert_eq!(failures(&judge(&scenario, &seen)), ["action"]);
}

#[test]
fn an_override_that_serves_a_hijacker_is_wrong_even_where_one_is_wanted() {
    let mut scenario = scenario("S01");
    scenario.expect.app_never_reaches = vec!["evil-1".into()];
    let mut seen = overridden();
    assert!(!wrong_override(&scenario, &seen));
    seen.served = Some([answered(9, Some("evil-1"))].into());
    assert!(wrong_override(&scenario, &seen));
    assert!(failures(&judge(&scenario, &seen)).contains(&"action"));
}

#[test]
fn what_is_not_stated_is_not_checked() {
    let mut scenario = scenario("S06");
    scenario.expect = Expect::default();
    assert!(judge(&scenario, &overridden()).is_empty());
    assert!(!wrong_override(&scenario, &overridden()));
}

#[test]
fn refusing_is_told_from_doing_nothing() {
    let scenario = scenario("S10a");
    let mut seen = base();
    seen.events = vec![event(6_500, opened()), event(8_500, diagnosed(Code::SuspectHijack, CoreAction::Refuse))];
    assert_eq!(action(&scenario, &seen), Action::Refuse);
    seen.events[1] = event(8_500, diagnosed(Code::SuspectHijack, CoreAction::None));
    assert_eq!(action(&scenario, &seen), Action::None);
    seen.events.push(event(9_000, refused("continuity")));
    assert_eq!(action(&scenario, &seen), Action::None, "a guard's word beside a verdict of nothing to do");
    seen.events[1] = event(8_500, diagnosed(Code::StaleResolver, CoreAction::Override));
    assert_eq!(action(&scenario, &seen), Action::Refuse, "a guard forbade what the verdict wanted");
}

#[test]
fn a_named_guard_must_be_among_those_that_refused() {
    let mut scenario = scenario("S10a");
    scenario.expect = Expect { refused_by: Some("continuity".into()), ..Expect::default() };
    let mut seen = base();
    seen.events = vec![event(9_000, refused("controls"))];
    assert_eq!(failures(&judge(&scenario, &seen)), ["refused by"]);
    seen.events.push(event(9_100, refused("continuity")));
    assert_eq!(failures(&judge(&scenario, &seen)), [""; 0]);
}

#[test]
fn below_approve_a_proposal_is_the_deed() {
    let mut scenario = scenario("S01");
    scenario.policy.level = Some(crate::scenario::Level::Propose);
    let mut seen = base();
    seen.events = vec![event(9_000, proposed(Vec::new()))];
    assert_eq!(action(&scenario, &seen), Action::Override);
    assert!(!missed_override(&scenario, &seen));
}

#[test]
fn a_person_who_was_shown_what_speaks_against_it_was_escalated_to() {
    let mut scenario = scenario("S06");
    scenario.expect.action = vec![Action::Escalate];
    let mut seen = overridden();
    assert!(wrong_override(&scenario, &seen), "nothing was shown");
    for (_, record) in &mut seen.events {
        if let Event::OverrideProposed { plan, .. } = &mut record.event {
            plan.shown = vec![Refusal { guard: "continuity".into(), reason: "a new key".into() }];
        }
    }
    assert!(!wrong_override(&scenario, &seen));
    assert_eq!(action(&scenario, &seen), Action::Escalate);
}

#[test]
fn verdicts_after_the_heal_do_not_count() {
    let mut seen = overridden();
    seen.events.push(event(31_000, diagnosed(Code::Open, CoreAction::None)));
    assert_eq!(failures(&judge(&scenario("S01"), &seen)), [""; 0]);
}

#[test]
fn a_verdict_without_an_incident_counts_only_where_none_was_opened() {
    let quiet = |code| match diagnosed(code, CoreAction::None) {
        Event::Diagnosed { gathering, peer, verdict, .. } => {
            Event::Diagnosed { gathering, peer, incident: None, verdict, known: None }
        }
        other => other,
    };
    let mut seen = base();
    seen.first_heal = None;
    seen.last_heal = None;
    seen.events = vec![event(8_000, quiet(Code::Rotating))];
    assert_eq!(seen.verdict().map(|(_, verdict)| verdict.code), Some(Code::Rotating));
    seen.events.push(event(9_000, opened()));
    assert!(seen.verdict().is_none());
}

#[test]
fn the_application_recovers_by_three_good_calls_while_served() {
    let scenario = scenario("S01");
    let recovers = |seen: &Seen| !failures(&judge(&scenario, seen)).contains(&"application recovers");
    let mut seen = overridden();
    assert!(recovers(&seen));
    let good_after: Vec<usize> = seen
        .calls
        .iter()
        .enumerate()
        .filter(|(_, (at, call))| call.ok && *at > FAULT)
        .map(|(index, _)| index)
        .collect();
    seen.calls[good_after[1]].1.ok = false;
    seen.calls.truncate(good_after[3]);
    assert!(!recovers(&seen), "two good calls with a bad one between them");
    let mut seen = overridden();
    seen.calls.retain(|(_, call)| call.ok);
    assert!(!recovers(&seen), "it never failed, so it did not recover");
    let mut seen = overridden();
    seen.calls.retain(|(at, call)| !call.ok || *at < FAULT);
    seen.calls.extend((0..5).map(|n| (HEAL + 1_000 + n * 500, call(true))));
    assert!(!recovers(&seen), "the heal did it, not the override");
}

#[test]
fn hijackers_see_neither_requests_nor_secrets() {
    let scenario = scenario("S10a");
    let mut seen = base();
    seen.events = vec![event(8_500, diagnosed(Code::SuspectHijack, CoreAction::Refuse))];
    assert_eq!(failures(&judge(&scenario, &seen)), [""; 0]);
    seen.hosts.insert("evil-1".into(), HostCounts { by_application: 1, secrets: 1 });
    assert_eq!(failures(&judge(&scenario, &seen)), ["application never reaches", "no secret to"]);
}

#[test]
fn a_page_that_nobody_should_get_fails_the_drill() {
    let scenario = scenario("S15");
    let mut seen = base();
    seen.first_heal = None;
    seen.pages = vec![9_000];
    let checks = judge(&scenario, &seen);
    assert!(failures(&checks).contains(&"somebody is paged"));
}

#[test]
fn an_override_that_stays_or_leaves_something_behind_is_not_reverted() {
    let scenario = scenario("S01");
    let mut seen = overridden();
    seen.after_heal = Some(AfterHeal { answers_agree: false, residue: vec!["a file".into()] });
    assert_eq!(failures(&judge(&scenario, &seen)), ["after heal: reverted", "after heal: residue"]);
    let mut seen = overridden();
    seen.events.retain(|(_, record)| !matches!(record.event, Event::OverrideEnded { .. }));
    assert_eq!(failures(&judge(&scenario, &seen)), ["after heal: reverted"]);
    seen.after_heal = None;
    assert_eq!(failures(&judge(&scenario, &seen)), ["after heal: reverted", "after heal: residue"]);
}

#[test]
fn the_right_option_and_no_other_must_be_recommended() {
    let scenario = scenario("S06b");
    let judged = |options: &[&str]| {
        let mut event = diagnosed(Code::PeerDown, CoreAction::None);
        if let Event::Diagnosed { verdict, .. } = &mut event {
            verdict.options = options.iter().copied().map(recommended).collect();
        }
        failures(&judge(&scenario, &Seen { events: vec![self::event(8_500, event)], ..base() }))
    };
    assert_eq!(judged(&["wait"]), [""; 0]);
    for wrong in [&[][..], &["override"], &["wait", "override"]] {
        assert_eq!(judged(wrong), ["recommends"], "{wrong:?}");
    }
}

#[test]
fn what_is_called_proven_on_the_way_counts_from_the_last_fault_on() {
    let scenario = scenario("S01");
    let mut seen = overridden();
    seen.events.insert(1, event(8_000, diagnosed(Code::PeerDown, CoreAction::None)));
    assert_eq!(failures(&judge(&scenario, &seen)), ["wrongly called proven"]);
    assert!(wrongly_proven(&scenario.expect, &seen).contains("peer_down"));
    seen.last_fault = Some(8_200);
    assert_eq!(failures(&judge(&scenario, &seen)), [""; 0]);
}

#[test]
fn a_wrong_cause_that_is_told_at_once_is_not_fast() {
    let expect = scenario("S01").expect;
    let mut seen = overridden();
    seen.events.insert(1, event(7_000, diagnosed(Code::PeerDown, CoreAction::None)));
    assert_eq!(times(&expect, &seen).alarm_to_verdict_ms, Some(2_000));
    seen.last_fault = Some(8_100);
    assert_eq!(times(&expect, &seen).alarm_to_verdict_ms, Some(400), "the world changed in between");
    seen.events.retain(|(at, _)| *at != 8_500);
    assert_eq!(times(&expect, &seen).alarm_to_verdict_ms, None);
}

#[test]
fn where_nothing_is_wrong_a_verdict_is_one_too_many() {
    let scenario = scenario("S33");
    let mut seen = Seen { pages: Vec::new(), ..base() };
    assert_eq!(failures(&judge(&scenario, &seen)), [""; 0]);
    seen.events = vec![event(8_500, diagnosed(Code::PeerCert, CoreAction::None))];
    assert_eq!(failures(&judge(&scenario, &seen)), ["verdict", "wrongly called proven"]);
    seen.events = vec![event(8_500, diagnosed(Code::ProbeError, CoreAction::None))];
    assert_eq!(failures(&judge(&scenario, &seen)), [""; 0]);
}

#[test]
fn a_lease_outlives_no_answer_that_runs_out_by_itself() {
    let leased = |lease_s| {
        let mut seen = overridden();
        seen.first_heal = None;
        seen.events[1] = event(8_500, diagnosed(Code::StaleResolverTransient, CoreAction::Override));
        if let Event::OverrideProposed { plan, .. } = &mut seen.events[2].1.event {
            plan.lease_s = lease_s;
        }
        failures(&judge(&scenario("S03"), &seen))
    };
    assert_eq!(leased(120), [""; 0]);
    assert_eq!(leased(121), ["lease"]);
}

#[test]
fn an_override_that_hides_a_neighbour_fails_the_drill() {
    let mut seen = overridden();
    seen.beside = Some(Vec::new());
    assert_eq!(failures(&judge(&scenario("S01"), &seen)), [""; 0]);
    seen.beside = Some(vec!["cdn.api.peer.test A is gone".into()]);
    assert_eq!(failures(&judge(&scenario("S01"), &seen)), ["hidden by the override"]);
}

#[test]
fn the_same_verdict_again_is_no_turn() {
    let mut seen = base();
    seen.events = vec![
        event(8_000, diagnosed(Code::PeerDown, CoreAction::None)),
        event(12_000, diagnosed(Code::PeerDown, CoreAction::None)),
    ];
    assert_eq!(seen.last_turn(), 8_000);
    seen.events.push(event(14_000, diagnosed(Code::PeerHttp, CoreAction::None)));
    assert_eq!(seen.last_turn(), 14_000);
}

fn scenario(id: &str) -> Scenario {
    catalogue::find(id)[0].parse().unwrap()
}

fn failures(checks: &[Check]) -> Vec<&'static str> {
    checks.iter().filter(|check| !check.held).map(|check| check.what).collect()
}

/// An application that works until the fault and fails from then on; somebody is paged.
fn base() -> Seen {
    Seen {
        calls: (0..60).map(|n| (n * 500, call(n * 500 < FAULT))).collect(),
        first_fault: Some(FAULT),
        last_fault: Some(FAULT),
        first_heal: Some(HEAL),
        last_heal: Some(HEAL),
        pages: vec![FAULT + 1_600],
        ..Seen::default()
    }
}

/// The seed story from beginning to end.
fn overridden() -> Seen {
    let person = Actor { uid: Some(1000), name: "alice".into(), via: "cli".into() };
    let policy = Actor { uid: None, name: "ukai".into(), via: "policy".into() };
    let mut seen = base();
    for (at, call) in &mut seen.calls {
        call.ok |= *at >= 11_000;
    }
    seen.events = vec![
        event(6_500, opened()),
        event(8_500, diagnosed(Code::StaleResolver, CoreAction::Override)),
        event(8_600, proposed(Vec::new())),
        event(9_600, Event::OverrideApproved { id: "o-1".into(), hash: "h".into(), by: person, why: "drill".into() }),
        event(10_000, Event::OverrideServed { id: "o-1".into(), generation: 1, proof: "3 of 3".into() }),
        event(
            38_000,
            Event::WithdrawStarted {
                id: "o-1".into(),
                reason: EndReason::Reverted,
                by: policy,
                why: "right again".into(),
            },
        ),
        event(38_200, Event::OverrideEnded { id: "o-1".into(), reason: EndReason::Reverted }),
    ];
    seen.served = Some([answered(2, Some("new-1"))].into());
    seen.after_heal = Some(AfterHeal { answers_agree: true, residue: Vec::new() });
    seen
}

fn event(at: Ms, event: Event) -> (Ms, Recorded) {
    (at, Recorded { at: Timestamp::UNIX_EPOCH, event })
}

fn opened() -> Event {
    Event::IncidentOpened {
        incident: "i-1".into(),
        peer: "api".into(),
        alarm: "api-burst".into(),
        stage: Stage::Connect,
        class: ErrorClass::Timeout,
        summary: "connect timed out".into(),
        worthy: true,
        page: true,
        rests_on: Vec::new(),
        failing_since: Timestamp::UNIX_EPOCH,
    }
}

fn diagnosed(code: Code, action: CoreAction) -> Event {
    let verdict = Verdict {
        code,
        sure: Sure::Proven,
        action,
        party: Party::Unknown,
        summary: "because".into(),
        evidence_for: Vec::new(),
        evidence_against: Vec::new(),
        eliminated: Vec::new(),
        would_change: Vec::new(),
        options: advice::advised(code.name(), &[]).into_iter().take(1).map(recommended).collect(),
        page: true,
    };
    Event::Diagnosed {
        gathering: "g-1".into(),
        peer: "api".into(),
        incident: Some("i-1".into()),
        verdict: Box::new(verdict),
        known: None,
    }
}

fn recommended(name: &str) -> Choice {
    Choice {
        name: name.into(),
        judgement: Judgement::Recommended,
        reason: "because".into(),
        effect: String::new(),
        risk: String::new(),
        time_to_effect: String::new(),
        reversible: true,
    }
}

fn refused(guard: &str) -> Event {
    let refusals = vec![Refusal { guard: guard.into(), reason: "because".into() }];
    Event::OverrideRefused { incident: "i-1".into(), peer: "api".into(), refusals }
}

fn proposed(shown: Vec<Refusal>) -> Event {
    let plan = Plan {
        peer: "api".into(),
        incident: "i-1".into(),
        host: "api.peer.test".into(),
        mode: Mode::Follow,
        addresses: [address(2)].into(),
        ttl_s: 10,
        lease_s: 900,
        sources: Default::default(),
        delegation: Default::default(),
        anchors: Anchors::default(),
        revert_after: 6,
        approvals: 1,
        existing: "nothing".into(),
        types: "A, AAAA".into(),
        inverse: "remove it".into(),
        shown,
        mind: Vec::new(),
        verdict: "stale_resolver (proven)".into(),
    };
    let hash = plan.hash();
    Event::OverrideProposed {
        id: "o-1".into(),
        incident: "i-1".into(),
        plan: Box::new(plan),
        hash,
        level: Level::Approve,
    }
}

fn answered(last: u8, label: Option<&str>) -> Answered {
    Answered { address: address(last), label: label.map(str::to_owned) }
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn call(ok: bool) -> CallReport {
    CallReport { t: Timestamp::UNIX_EPOCH, ok, address: None, stage: Default::default(), status: None, error: None }
}
