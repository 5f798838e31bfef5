//! What a hostile reading found of evidence that says less than it seems to: each was a way to harm once.

use crate::play::{Play, reconf, served, world};
use crate::world::*;
use jiff::SignedDuration;
use std::collections::BTreeSet;
use ukai_core::diagnose::diagnose;
use ukai_core::diagnose::evidence::*;
use ukai_core::effect::Effect;
use ukai_core::input::Input;
use ukai_core::observe::Path;
use ukai_core::peer::Level;

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
fn another_key_of_the_same_issuer_in_a_new_network_is_somebody_else() {
    let mut play = served(Level::Approve);
    play.world.hosts.insert(ip(NEW), Host::ThirdKey);
    play.run_for(900);

    assert_eq!(play.world.served, None);
}
