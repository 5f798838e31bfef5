//! What a hostile reading found: each was a way to harm once.

use crate::play::Play;
use crate::world::*;
use jiff::SignedDuration;
use std::collections::BTreeSet;
use ukai_core::diagnose::diagnose;
use ukai_core::diagnose::evidence::*;
use ukai_core::effect::Effect;
use ukai_core::event::Event;
use ukai_core::input::{Command, Input};
use ukai_core::observe::Path;
use ukai_core::overrides::Phase;
use ukai_core::peer::Level;

fn world(level: Level) -> World {
    let mut w = World::healthy();
    w.level = level;
    w
}
fn served(level: Level) -> Play {
    let mut play = Play::new(world(level));
    play.run_for(60);
    play.world.go_stale();
    play.run_for(30);
    if level == Level::Approve {
        play.approve();
    }
    play.run_for(30);
    assert!(play.saw(|e| matches!(e, Event::OverrideServed { .. })));
    play
}
fn reconf(play: &mut Play, f: impl FnOnce(&mut ukai_core::peer::Settings)) {
    let mut s = play.world.settings();
    f(&mut s);
    play.input(Input::Reconfigured { settings: Box::new(s) });
}

#[test]
fn policy_does_not_undo_a_persons_revert() {
    let mut play = served(Level::Auto);
    let id = play.engine.state().overrides.keys().next().unwrap().clone();
    play.command(Command::Revert { id, why: "no".into() }, 1000);
    play.run_for(120);

    assert_eq!(play.world.served, None);
}

#[test]
fn policy_does_not_undo_revert_all() {
    let mut play = served(Level::Auto);
    play.command(Command::RevertAll { why: "no".into() }, 1000);
    play.run_for(120);

    assert_eq!(play.world.served, None);
}

#[test]
fn a_level_lowered_after_the_proposal_counts() {
    let mut play = Play::new(world(Level::Approve));
    play.run_for(60);
    play.world.go_stale();
    play.run_for(30);
    let over = play.engine.state().overrides.values().next().unwrap();
    let (id, hash) = (over.id.clone(), over.hash.clone());
    reconf(&mut play, |s| s.peers.get_mut("api").unwrap().level = Level::Observe);
    play.command(Command::Approve { id, hash, why: String::new() }, 1000);
    play.run_for(30);

    assert!(play.applied.is_empty());
}

#[test]
fn approvals_raised_after_the_proposal_count() {
    let mut play = Play::new(world(Level::Approve));
    play.run_for(60);
    play.world.go_stale();
    play.run_for(30);
    let over = play.engine.state().overrides.values().next().unwrap();
    let (id, hash) = (over.id.clone(), over.hash.clone());
    reconf(&mut play, |s| s.peers.get_mut("api").unwrap().approvals = 2);
    play.command(Command::Approve { id, hash, why: String::new() }, 1000);
    play.run_for(30);
    assert!(play.applied.is_empty());
}

#[test]
fn policy_applies_only_what_is_still_proven() {
    let mut play = Play::new(world(Level::Auto));
    play.run_for(60);
    play.world.go_stale();
    for _ in 0..100000 {
        if play.waiting.iter().any(|e| matches!(e, Effect::Gather { purpose: Purpose::Apply, .. })) {
            break;
        }
        if !play.carry_out() {
            let at = play.engine.poll_timeout().unwrap();
            play.world.now = play.world.now.max(at);
            play.input(Input::Tick);
        }
    }
    play.world.independents = set(&[OLD]); // independents now contradict
    play.run_for(30);

    assert_eq!(play.world.served, None);
}

#[test]
fn the_identity_applied_is_the_one_that_was_shown() {
    // same address, valid cert; approved key-2 (shown), applied key-3
    let mut play = Play::new(world(Level::Approve));
    play.run_for(60);
    play.world.go_stale();
    play.world.hosts.insert(ip(NEW), Host::NewKey);
    play.run_for(30);

    play.world.hosts.insert(ip(NEW), Host::ThirdKey);
    play.approve();
    let mut applied = false;
    for _ in 0..2000 {
        if play.saw(|e| matches!(e, Event::ApplyStarted { .. })) {
            applied = true;
            break;
        }
        if !play.carry_out() {
            let at = play.engine.poll_timeout().unwrap();
            if at > play.world.now + SignedDuration::from_secs(30) {
                break;
            }
            play.world.now = play.world.now.max(at);
            play.input(Input::Tick);
        }
    }
    play.run_for(20);

    assert!(!applied);
}

fn standing_looks(play: &mut Play, seconds: i64) -> usize {
    let end = play.world.now + SignedDuration::from_secs(seconds);
    let mut n = 0;
    loop {
        while !play.waiting.is_empty() {
            if matches!(play.waiting[0], Effect::Gather { purpose: Purpose::Standing, .. }) {
                n += 1;
            }
            play.carry_out();
        }
        let at = play.engine.poll_timeout().unwrap();
        if at > end {
            play.world.now = end;
            return n;
        }
        play.world.now = play.world.now.max(at);
        play.input(Input::Tick);
    }
}
#[test]
fn a_restart_goes_on_watching_what_stands() {
    let mut play = served(Level::Approve);
    assert!(standing_looks(&mut play, 600) > 3);
    play.crash();
    let after = standing_looks(&mut play, 600);

    assert!(after > 3);
}

#[test]
fn another_valid_identity_is_noticed_after_a_restart() {
    let mut play = served(Level::Approve);
    play.crash();
    play.run_for(30);
    play.world.hosts.insert(ip(NEW), Host::ThirdKey);
    play.run_for(3600);

    assert_eq!(play.world.served, None);
}

#[test]
fn a_reload_does_not_end_a_verification() {
    let mut play = Play::new(world(Level::Approve));
    play.run_for(60);
    play.world.go_stale();
    play.run_for(30);
    play.approve();
    for _ in 0..2000 {
        if play.engine.state().overrides.values().any(|o| o.phase == Phase::Applied) {
            break;
        }
        assert!(play.carry_out());
    }
    play.world.served = None; // acknowledged, not served
    reconf(&mut play, |s| s.peers.get_mut("api").unwrap().lease = std::time::Duration::from_secs(7200));
    play.run_for(3 * 3600);

    assert!(!play.engine.state().overrides.values().any(|o| o.phase == Phase::Applied));
}

#[test]
fn an_extension_during_errors_holds() {
    let mut play = served(Level::Approve);
    play.world.hosts.insert(ip(NEW), Host::Status(503));
    let id = play.engine.state().overrides.keys().next().unwrap().clone();
    play.command(Command::Extend { id, lease_s: 3600, why: "x".into() }, 1000);
    play.run_for(40);

    assert!(play.world.served.is_some());
}

#[test]
fn a_change_that_the_server_refused_leaves_what_is_served() {
    let mut play = served(Level::Approve);
    let id = play.engine.state().overrides.keys().next().unwrap().clone();
    play.command(Command::Extend { id: id.clone(), lease_s: 3600, why: "x".into() }, 1000);
    let place = play.waiting.iter().position(|e| matches!(e, Effect::Apply(_))).unwrap();
    play.waiting.remove(place);
    play.input(Input::Applied { id, generation: 2, result: Err("the DNS server cannot be reached".into()) });
    play.run_for(5);

    assert!(play.world.served.is_some());
}

#[test]
fn a_level_raised_after_a_withheld_plan_proposes_it() {
    let mut play = Play::new(world(Level::Observe));
    play.run_for(60);
    play.world.go_stale();
    play.run_for(30);
    reconf(&mut play, |s| s.peers.get_mut("api").unwrap().level = Level::Approve);
    play.run_for(900);

    assert!(play.engine.state().overrides.len() > 1);
}

#[test]
fn frozen_and_healed_is_said_once() {
    let mut play = served(Level::Approve);
    play.command(Command::Freeze { why: "x".into() }, 1000);
    play.world.heal();
    let n0 = play.log.len();
    play.run_for(3600);
    let blobs = play.log[n0..].iter().filter(|r| matches!(r.event, Event::EvidenceGathered { .. })).count();

    assert!(blobs < 20);
}

#[test]
fn a_decision_of_hours_ago_is_not_carried_out() {
    let mut play = Play::new(world(Level::Approve));
    play.run_for(60);
    play.world.go_stale();
    play.run_for(30);
    play.approve();
    for _ in 0..2000 {
        if play.saw(|e| matches!(e, Event::ApplyStarted { .. })) {
            break;
        }
        assert!(play.carry_out());
    }
    play.waiting.clear();
    play.world.heal();
    play.world.now += SignedDuration::from_hours(3);
    play.crash();
    play.run_for(3);

    assert!(play.applied.is_empty());
}

#[test]
fn a_truncated_answer_is_not_no_address() {
    // one of two addresses dead; the resolver truncates on UDP
    let mut w = World::healthy();
    w.authority = servers(&[OLD, NEW]);
    w.resolver = Ok(set(&[OLD, NEW]));
    w.independents = set(&[OLD, NEW]);
    w.hosts.insert(ip(OLD), Host::Silent);
    let mut e = w.evidence(Purpose::Diagnose, &Default::default());
    for a in &mut e.asked {
        if a.source == Source::OurResolver
            && let Outcome::Answered(x) = &mut a.outcome
        {
            x.truncated = true;
            x.addresses.clear();
        }
    }
    let peer = w.peer();
    let case = case(&w.history, &peer, &e);
    let v = diagnose(&case);
    assert_eq!(v.code.name(), "partial_address");
}

#[test]
fn nothing_is_proven_of_a_peer_never_seen_healthy() {
    let mut w = World::healthy();
    w.hosts.insert(ip(OLD), Host::Silent);
    w.history = Default::default();
    let mut play = Play::new(w);
    play.run_for(120);

    assert!(play.verdicts().iter().all(|v| !v.contains("proven")));
}

#[test]
fn an_address_that_proved_itself_is_not_failing() {
    // our resolver answers OLD (dead, observed) and 192.0.100.9 (works, not in the observation)
    let mut w = World::stale();
    const OK: &str = "192.0.100.9";
    w.hosts.insert(ip(OK), Host::Serves);
    let mut e = w.evidence(Purpose::Diagnose, &set(&[OK]));
    for a in &mut e.asked {
        if a.source == Source::OurResolver
            && let Outcome::Answered(x) = &mut a.outcome
        {
            x.addresses = vec![ip(OK)];
        }
    }
    let peer = w.peer();
    let case = case(&w.history, &peer, &e);
    let v = diagnose(&case);

    assert!(v.action != ukai_core::diagnose::verdict::Action::Override);
}

#[test]
fn an_endpoint_that_works_keeps_its_address() {
    let w = World::stale();
    let mut peer = w.peer();
    let second = "https://api.peer.example:8443/".to_string();
    peer.endpoints.push(second.clone());
    let mut w2 = w.clone();
    w2.hosts.insert(ip(OLD), Host::Serves);
    let mut e = w.evidence(Purpose::Diagnose, &Default::default());
    e.endpoints.push(second.clone());
    for c in &mut e.candidates {
        let more: Vec<_> = c
            .proofs
            .iter()
            .cloned()
            .map(|mut p| {
                p.endpoint = second.clone();
                p
            })
            .collect();
        c.proofs.extend(more);
    }
    let mut ok = w2.observation(Path::Bypass);
    ok.endpoint = second.clone();
    e.observations.push(ok); // endpoint 2 works at OLD
    let case = case(&w.history, &peer, &e);
    let v = diagnose(&case);
    let reading = ukai_core::diagnose::reading::Reading::of(&case);
    let sel = ukai_core::plan::select(&reading);
    let f = ukai_core::plan::guard::examine(&ukai_core::plan::guard::Proposal {
        reading: &reading,
        verdict: &v,
        selection: &sel,
        standing: ukai_core::plan::guard::Standing {
            others: 0,
            changes_in_the_last_hour: 0,
            frozen: false,
            serves_dns: true,
            hides_types: false,
        },
    });

    assert!(f.refusals.iter().any(|r| r.guard == "current_answer_fails"));
}

#[test]
fn ttls_of_two_resolvers_are_not_compared() {
    let mut w = World::stale();
    w.resolver_ttls = [60, 59, 58];
    let mut e = w.evidence(Purpose::Diagnose, &Default::default());
    let second: Vec<_> = e
        .asked
        .iter()
        .filter(|a| a.source == Source::OurResolver)
        .cloned()
        .enumerate()
        .map(|(n, mut a)| {
            a.identity = "udp://127.0.0.54:53".into();
            a.at += SignedDuration::from_millis(700);
            if let Outcome::Answered(x) = &mut a.outcome {
                x.ttl = Some(600 - n as u32 * 2);
            }
            a
        })
        .collect();
    e.asked.extend(second);
    let peer = w.peer();
    let mut h = w.history.clone();
    h.answers[0].ttl = 3600;
    let case = case(&h, &peer, &e);
    let v = diagnose(&case);

    assert_eq!(v.code.name(), "stale_resolver_transient");
}

#[test]
fn authorities_heard_over_udp_only_are_not_silent() {
    // authorities answer over UDP only and contradict the independents
    let mut w = World::stale();
    w.independents = set(&["192.0.100.55"]);
    w.hosts.insert(ip("192.0.100.55"), Host::Serves);
    let mut e = w.evidence(Purpose::Diagnose, &Default::default());
    e.asked.retain(|a| !(a.source == Source::Authority && a.transport == "tcp"));
    let peer = w.peer();
    let case = case(&w.history, &peer, &e);
    let reading = ukai_core::diagnose::reading::Reading::of(&case);
    let sel = ukai_core::plan::select(&reading);

    assert!(sel.addresses.is_empty());
}

#[test]
fn a_pin_waits_for_its_own_proofs() {
    let mut play = Play::new(world(Level::Approve));
    play.run_for(60);
    play.world.go_stale();
    play.world.authority.clear();
    play.world.independents.clear();
    const PIN: &str = "192.0.100.66";
    play.world.hosts.insert(ip(PIN), Host::Serves);
    // go until a diagnose gathering is in flight
    for _ in 0..5000 {
        if play.waiting.iter().any(|e| matches!(e, Effect::Gather { purpose: Purpose::Diagnose, .. })) {
            break;
        }
        if !play.carry_out() {
            let at = play.engine.poll_timeout().unwrap();
            play.world.now = play.world.now.max(at);
            play.input(Input::Tick);
        }
    }
    play.command(Command::Pin { peer: "api".into(), addresses: set(&[PIN]), why: "".into() }, 1000);

    play.run_for(900);

    let pinned = play.engine.state().overrides.values().any(|o| o.plan.addresses == set(&[PIN]));
    assert!(pinned);
}

#[test]
fn another_hosts_addresses_are_never_served() {
    let mut play = served(Level::Approve);
    const B: &str = "192.0.101.200";
    // host b in the same zone, the same certificate
    play.world.hosts.insert(ip(B), Host::Serves);
    play.world.authority = servers(&[B]);
    play.world.independents = set(&[B]);
    play.world.resolver = Ok(set(&[OLD]));
    reconf(&mut play, |s| s.peers.get_mut("api").unwrap().host = "other.peer.example".into());
    play.world.hosts.insert(ip(OLD), Host::Silent);
    // rounds of the new host fail in a normal look; force one look
    play.world.hosts.insert(ip(NEW), Host::Silent);
    play.run_for(120);
    assert!(play.applied.iter().all(|s| s.host != HOST || !s.addresses.contains(&ip(B))));
}

#[test]
fn an_unattended_night_is_not_a_page_storm() {
    let mut play = Play::new(world(Level::Approve));
    play.run_for(60);
    play.world.go_stale();
    play.run_for(8 * 3600);
    let pages = play
        .log
        .iter()
        .filter(|r| matches!(&r.event, Event::NotificationQueued { notification, .. } if notification.page))
        .count();

    assert!(pages < 10);
}

#[test]
fn a_withdrawal_that_fails_backs_off_and_ends_with_the_lease() {
    let mut play = served(Level::Approve);
    let id = play.engine.state().overrides.keys().next().unwrap().clone();
    play.command(Command::Revert { id, why: "x".into() }, 1);
    let end = play.world.now + SignedDuration::from_hours(6);
    let (mut fails, mut spins) = (0, 0);
    for _ in 0..400000 {
        if let Some(first) = play.waiting.first().cloned() {
            if let Effect::Withdraw { id, generation, .. } = first {
                play.waiting.remove(0);
                fails += 1;
                play.input(Input::Withdrawn { id, generation, result: Err("down".into()) });
                continue;
            }
            play.carry_out();
            continue;
        }
        let at = play.engine.poll_timeout().unwrap();
        if at > end {
            break;
        }
        if at <= play.world.now {
            spins += 1;
            if spins > 1000 {
                println!("SPINS at {}", play.world.now);
                break;
            }
            play.world.now += SignedDuration::from_millis(5);
        } else {
            play.world.now = at;
        }
        play.input(Input::Tick);
    }

    assert!(fails < 2000 && spins < 1000, "{fails} {spins}");
    assert!(!play.engine.state().overrides.values().any(|over| over.phase.may_stand()));
    let pages = play
        .log
        .iter()
        .filter(|r| matches!(&r.event, Event::NotificationQueued { notification, .. } if notification.page))
        .count();
    assert!(pages < 6, "{pages}");
}

/// A person's revert holds policy back for the rest of the incident; the same person may think again.
#[test]
fn who_took_a_pin_back_may_pin_again() {
    let mut play = served(Level::Approve);
    let proposed = |play: &Play| play.log.iter().filter(|r| matches!(r.event, Event::OverrideProposed { .. })).count();
    let refused = |play: &Play| play.log.iter().filter(|r| matches!(r.event, Event::OverrideRefused { .. })).count();
    let before = refused(&play);
    for round in 1..3 {
        let standing = play.engine.state().overrides.values().find(|over| over.phase.may_stand()).unwrap().id.clone();
        play.command(Command::Revert { id: standing, why: "x".into() }, 1000);
        play.run_for(60);
        assert_eq!(proposed(&play), round, "policy does not ask again");
        let addresses = [ip(NEW)].into();
        play.command(Command::Pin { peer: "api".into(), addresses, why: "again".into() }, 1000);
        play.run_for(60);
        assert_eq!(proposed(&play), round + 1);
        play.approve();
        play.run_for(60);
    }
    assert_eq!(refused(&play), before, "a pin that is being proved is not refused meanwhile");
}

#[test]
fn an_extension_is_not_warned_of_at_once() {
    let mut play = served(Level::Approve);
    play.run_for(3 * 3600 + 1800);
    let id = play.engine.state().overrides.keys().next().unwrap().clone();
    let n = play.log.len();
    play.command(Command::Extend { id, lease_s: 3600, why: "x".into() }, 1000);
    play.run_for(2);
    let w = play.log[n..].iter().filter(|r| matches!(r.event, Event::LeaseWarned { .. })).count();

    assert_eq!(w, 0);
}

#[test]
fn networks_of_the_operator_are_anchors() {
    let mut w = World::healthy();
    w.level = Level::Approve;
    let mut play = Play::new(w);
    reconf(&mut play, |s| s.peers.get_mut("api").unwrap().networks = vec!["192.0.96.0/20".parse().unwrap()]);
    play.run_for(60);
    play.world.go_stale();
    play.run_for(30);
    play.approve();
    play.run_for(30);
    const N2: &str = "192.0.105.1";
    play.world.hosts.insert(ip(N2), Host::NewKey);
    play.world.authority = servers(&[N2]);
    play.world.independents = set(&[N2]);
    play.world.hosts.insert(ip(NEW), Host::Silent);
    play.run_for(120);

    assert_eq!(play.world.served, Some(set(&[N2])));
}

#[test]
fn a_removed_peer_leaves_no_open_incident() {
    let mut play = Play::new(world(Level::Observe));
    play.run_for(60);
    play.world.go_stale();
    play.run_for(30);
    reconf(&mut play, |s| s.peers.clear());
    play.run_for(3600);

    assert!(play.engine.state().incidents.values().all(|i| i.closed_at.is_some()));
}

#[test]
fn an_intercepted_port_53_is_not_followed() {
    let mut play = served(Level::Approve);
    const N2: &str = "192.0.105.1";
    play.world.hosts.insert(ip(N2), Host::Serves);
    play.world.authority = servers(&[N2]);
    play.world.canary = Canary::Intercepted("x".into());
    play.world.hosts.insert(ip(NEW), Host::Serves);
    play.run_for(180);

    assert_eq!(play.world.served, Some(set(&[NEW])));
}

#[test]
fn an_unread_delegation_proves_nothing() {
    let mut w = World::stale();
    w.parent_ns = BTreeSet::new();
    let e = w.evidence(Purpose::Diagnose, &Default::default());
    let peer = w.peer();
    let case = case(&w.history, &peer, &e);
    let v = diagnose(&case);

    assert!(v.sure < ukai_core::diagnose::verdict::Sure::Proven);
}

#[test]
fn one_family_is_no_agreement() {
    // all authorities answer A only (AAAA lost); the resolver gives old v4 and v6: the override makes AAAA vanish
    let mut w = World::stale();
    w.resolver = Ok(set(&[OLD, "2600::1"]));
    let mut e = w.evidence(Purpose::Diagnose, &Default::default());
    e.asked.retain(|asked| asked.record_type != "AAAA");
    let peer = w.peer();
    let case = case(&w.history, &peer, &e);
    let v = diagnose(&case);

    assert!(v.action != ukai_core::diagnose::verdict::Action::Override, "{v:?}");
}

#[test]
fn an_application_that_stopped_reporting_holds_nothing_open() {
    let mut play = Play::new(world(Level::Observe));
    play.run_for(60);
    play.application_calls(false, OLD, 6);
    play.run_for(24 * 3600);

    assert!(play.engine.state().peers["api"].incident.is_none());
}

#[test]
fn a_late_approval_still_gets_its_evidence() {
    let mut play = Play::new(world(Level::Approve));
    play.run_for(60);
    play.world.go_stale();
    play.run_for(20);
    let at = play.engine.state().overrides.values().next().unwrap().proposed_at;
    play.run_for((at + SignedDuration::from_secs(595)).duration_since(play.world.now).as_secs());
    play.approve();
    // evidence takes eight seconds
    play.world.now += SignedDuration::from_secs(8);
    play.input(Input::Tick);
    play.run_for(20);

    assert_eq!(play.applied.len(), 1);
}

#[test]
fn an_expired_lease_is_not_renewed_by_policy() {
    let mut play = served(Level::Auto);
    play.run_for(13 * 3600);

    assert_eq!(play.world.served, None);
}

#[test]
fn a_removed_peer_leaves_no_override() {
    let mut play = served(Level::Approve);
    let n = play.log.len();
    reconf(&mut play, |s| s.peers.clear());
    play.world.hosts.insert(ip(NEW), Host::Foreign);
    play.run_for(3 * 3600);

    assert_eq!(play.world.served, None);
    assert!(play.log[n..].iter().any(|r| matches!(r.event, Event::NotificationQueued { .. })));
}

#[test]
fn a_second_resolver_does_not_make_a_ttl_rise() {
    let mut w = World::stale();
    w.resolver_ttls = [60, 59, 58];
    let mut e = w.evidence(Purpose::Diagnose, &Default::default());
    let second: Vec<_> = e
        .asked
        .iter()
        .filter(|a| a.source == Source::OurResolver)
        .cloned()
        .enumerate()
        .map(|(n, mut a)| {
            a.identity = "udp://127.0.0.54:53".into();
            if let Outcome::Answered(x) = &mut a.outcome {
                x.ttl = Some(20 - n as u32 * 2);
            }
            a
        })
        .collect();
    e.asked.extend(second);
    let peer = w.peer();
    let case = case(&w.history, &peer, &e);
    let v = diagnose(&case);

    assert_eq!(v.code.name(), "stale_resolver_transient");
}

#[test]
fn the_first_resolver_is_the_one_that_counts() {
    let w = World::stale();
    let mut e = w.evidence(Purpose::Diagnose, &Default::default());
    let second: Vec<_> = e
        .asked
        .iter()
        .filter(|a| a.source == Source::OurResolver)
        .cloned()
        .map(|mut a| {
            a.identity = "udp://127.0.0.54:53".into();
            if let Outcome::Answered(x) = &mut a.outcome {
                x.addresses = vec![ip(NEW)];
            }
            a
        })
        .collect();
    e.asked.extend(second);
    let peer = w.peer();
    let case = case(&w.history, &peer, &e);
    let v = diagnose(&case);

    assert_eq!(v.code.name(), "stale_resolver");
}

#[test]
fn a_lowered_level_ends_following_and_extending() {
    let mut play = served(Level::Approve);
    reconf(&mut play, |s| s.peers.get_mut("api").unwrap().level = Level::Observe);
    const N2: &str = "192.0.105.1";
    play.world.hosts.insert(ip(N2), Host::Serves);
    play.world.authority = servers(&[N2]);
    play.world.independents = set(&[N2]);
    play.world.hosts.insert(ip(NEW), Host::Silent);
    play.run_for(180);

    let id = play.engine.state().overrides.keys().next().unwrap().clone();
    play.command(Command::Extend { id, lease_s: 86400, why: "".into() }, 1);
    play.run_for(2);

    assert_eq!(play.world.served, Some(set(&[NEW])));
    assert!(matches!(play.replies.last(), Some(ukai_core::effect::Reply::Refused { .. })));
}

#[test]
fn evidence_of_another_host_is_dropped() {
    let mut play = Play::new(world(Level::Approve));
    play.run_for(60);
    play.world.go_stale();
    for _ in 0..5000 {
        if play.waiting.iter().any(|e| matches!(e, Effect::Gather { purpose: Purpose::Diagnose, .. })) {
            break;
        }
        if !play.carry_out() {
            let at = play.engine.poll_timeout().unwrap();
            play.world.now = play.world.now.max(at);
            play.input(Input::Tick);
        }
    }
    reconf(&mut play, |s| s.peers.get_mut("api").unwrap().host = "other.peer.example".into());
    play.run_for(3);
    assert!(play.engine.state().overrides.is_empty());
}

#[test]
fn trouble_that_flips_is_told_once() {
    // two endpoints of follow: trouble reasons flip
    let mut play = served(Level::Approve);
    for n in 0..30 {
        let a = format!("192.0.{}.9", 110 + n % 2);
        play.world.hosts.insert(ip(&a), Host::ThirdKey);
        play.world.authority = servers(&[&a]);
        play.run_for(61);
    }

    let pages = play
        .log
        .iter()
        .filter(|r| matches!(&r.event, Event::NotificationQueued { notification, .. } if notification.page))
        .count();
    assert!(pages < 6, "{pages}");
}

#[test]
fn another_key_of_the_same_issuer_in_a_new_network_is_somebody_else() {
    let mut play = served(Level::Approve);
    play.world.hosts.insert(ip(NEW), Host::ThirdKey);
    play.run_for(900);

    assert_eq!(play.world.served, None);
}
