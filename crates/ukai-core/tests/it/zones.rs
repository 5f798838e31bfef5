//! Broken zones and resolvers with a will of their own: what each is called, and that none of it is *proven* to be something else.

use ukai_core::diagnose::diagnose;
use ukai_core::diagnose::evidence::*;
use ukai_core::diagnose::reading::{Case, Overridden};
use ukai_core::diagnose::verdict::{Action, Code, Sure, Verdict};
use ukai_core::peer::Mode;

use crate::world::*;

fn verdict(world: &World, evidence: &Evidence) -> Verdict {
    diagnose(&case(&world.history, &world.peer(), evidence))
}

fn gathered(world: &World) -> Evidence {
    world.evidence(Purpose::Diagnose, &Default::default())
}

fn each_answer(evidence: &mut Evidence, source: Source, change: impl Fn(&str, &mut Answer)) {
    for asked in evidence.asked.iter_mut().filter(|asked| asked.source == source) {
        if let Outcome::Answered(answer) = &mut asked.outcome {
            change(&asked.record_type, answer);
        }
    }
}

fn negative() -> World {
    let mut world = World::stale();
    world.resolver = Err(Rcode::Nxdomain);
    world
}

#[test]
fn what_our_resolver_holds_itself_is_not_proven_to_be_old() {
    for (world, code) in [(World::stale(), Code::StaleResolver), (negative(), Code::NegativeCache)] {
        let mut evidence = gathered(&world);
        let said = verdict(&world, &evidence);
        assert_eq!((said.code, said.sure), (code, Sure::Proven), "{said:#?}");
        each_answer(&mut evidence, Source::OurResolver, |_, answer| answer.authoritative = true);
        let said = verdict(&world, &evidence);
        assert_eq!((said.code, said.sure), (code, Sure::Likely), "{said:#?}");
        assert!(said.evidence_against.iter().any(|reason| reason.contains("holds the name itself")), "{said:#?}");
        // One of the peer's own servers is what we resolve with.
        evidence.delegation.as_mut().unwrap().servers.push("ns-1.peer.example (127.0.0.53)".into());
        assert_eq!(verdict(&world, &evidence).sure, Sure::Proven);
    }
}

#[test]
fn one_answer_with_authority_among_others_is_one_that_was_passed_on() {
    let world = World::stale();
    let mut evidence = gathered(&world);
    let first = evidence.asked.iter_mut().find(|asked| asked.source == Source::OurResolver).unwrap();
    if let Outcome::Answered(answer) = &mut first.outcome {
        answer.authoritative = true;
    }
    assert_eq!(verdict(&world, &evidence).sure, Sure::Proven);
}

#[test]
fn a_denial_without_soa_is_not_proven_to_be_cached() {
    let world = negative();
    let mut evidence = gathered(&world);
    each_answer(&mut evidence, Source::OurResolver, |_, answer| answer.soa = None);
    let said = verdict(&world, &evidence);
    assert_eq!((said.code, said.sure), (Code::NegativeCache, Sure::Likely), "{said:#?}");
}

#[test]
fn a_resolver_that_says_it_leads_elsewhere_is_not_stale() {
    let world = World::stale();
    for code in [4, 15, 17] {
        let mut evidence = gathered(&world);
        let error = ExtendedError { code, text: "policy".into() };
        each_answer(&mut evidence, Source::OurResolver, |_, answer| answer.extended_errors = vec![error.clone()]);
        let said = verdict(&world, &evidence);
        assert_eq!((said.code, said.action), (Code::OwnResolver, Action::None), "{said:#?}");
        // Where an override of ours stands, it is that.
        let over = Overridden { since: start(), mode: Mode::Follow, addresses: set(&[OLD]) };
        let peer = world.peer();
        let overridden = diagnose(&Case { overridden: Some(&over), ..case(&world.history, &peer, &evidence) });
        assert_ne!(overridden.code, Code::OwnResolver, "{overridden:#?}");
    }
    let working = World::healthy();
    let mut evidence = gathered(&working);
    let error = ExtendedError { code: 15, text: "policy".into() };
    each_answer(&mut evidence, Source::OurResolver, |_, answer| answer.extended_errors = vec![error.clone()]);
    assert_eq!(verdict(&working, &evidence).code, Code::Open);
}

#[test]
fn a_resolver_that_filters_ipv6_alone_leads_nobody_elsewhere() {
    let world = World::stale();
    let mut evidence = gathered(&world);
    let ours: Vec<Asked> = evidence.asked.iter().filter(|asked| asked.source == Source::OurResolver).cloned().collect();
    for mut asked in ours {
        asked.record_type = "AAAA".into();
        if let Outcome::Answered(answer) = &mut asked.outcome {
            answer.addresses.clear();
            answer.extended_errors = vec![ExtendedError { code: 17, text: "filtered".into() }];
        }
        evidence.asked.push(asked);
    }
    let said = verdict(&world, &evidence);
    assert_eq!((said.code, said.sure), (Code::StaleResolver, Sure::Proven), "{said:#?}");
}

/// That server denies the whole name where it only lacks an AAAA (RFC 4074, 4.2).
fn denies_aaaa(evidence: &mut Evidence, server: &str) {
    for asked in evidence.asked.iter_mut().filter(|asked| asked.identity == server && asked.record_type == "AAAA") {
        if let Outcome::Answered(answer) = &mut asked.outcome {
            answer.rcode = Rcode::Nxdomain;
        }
    }
}

#[test]
fn a_load_balancer_that_denies_aaaa_contradicts_nobody() {
    let world = World::stale();
    let mut evidence = gathered(&world);
    denies_aaaa(&mut evidence, "ns-2.peer.example");
    let said = verdict(&world, &evidence);
    assert_eq!((said.code, said.sure), (Code::StaleResolver, Sure::Proven), "{said:#?}");
}

#[test]
fn servers_that_differ_in_how_they_say_no_agree_on_it() {
    let mut world = World::healthy();
    world.resolver = Err(Rcode::Nxdomain);
    world.authority = servers(&[]);
    let mut evidence = gathered(&world);
    denies_aaaa(&mut evidence, "ns-2.peer.example");
    let said = verdict(&world, &evidence);
    assert_eq!(said.code, Code::PeerDnsEmpty, "{said:#?}");
    assert!(said.summary.contains("no address"), "{said:#?}");
}

fn nobody_answers(evidence: &mut Evidence) {
    evidence.asked.retain(|asked| asked.source == Source::OurResolver);
    evidence.candidates.clear();
}

#[test]
fn a_delegation_to_servers_without_addresses_is_lame() {
    let mut world = World::healthy();
    world.resolver = Err(Rcode::Servfail);
    let mut evidence = gathered(&world);
    nobody_answers(&mut evidence);
    let problem = "the name server ns-1.peer.example does not exist";
    evidence.delegation.as_mut().unwrap().problems = vec![problem.into()];
    let said = verdict(&world, &evidence);
    assert_eq!(
        (said.code, said.sure, said.action),
        (Code::LameDelegation, Sure::Likely, Action::Escalate),
        "{said:#?}"
    );
    assert!(said.evidence_for.iter().any(|reason| reason == problem), "{said:#?}");
    // With no delegation read at all, nothing is known of its servers: and nobody says that they agree.
    evidence.delegation = None;
    let said = verdict(&world, &evidence);
    assert_ne!(said.code, Code::LameDelegation, "{said:#?}");
    assert!(!said.eliminated.iter().any(|reason| reason.starts_with("lame_delegation")), "{said:#?}");
}

#[test]
fn aliases_without_an_end_lead_nowhere() {
    let mut world = World::healthy();
    world.resolver = Err(Rcode::Servfail);
    let mut evidence = gathered(&world);
    evidence.candidates.clear();
    evidence.asked.retain(|asked| asked.source != Source::Independent);
    let detail = "the CNAMEs come back to api.peer.example";
    for asked in evidence.asked.iter_mut().filter(|asked| asked.source == Source::Authority) {
        asked.outcome = Outcome::Silent { why: Silence::Endless, detail: detail.into() };
    }
    let said = verdict(&world, &evidence);
    assert_eq!((said.code, said.sure, said.action), (Code::DanglingCname, Sure::Likely, Action::Refuse), "{said:#?}");
    assert!(said.evidence_for.iter().any(|reason| reason.contains(detail)), "{said:#?}");
}

#[test]
fn an_alias_of_which_nobody_knows_the_end_is_not_known_to_lead_anywhere() {
    let mut world = World::healthy();
    world.resolver = Err(Rcode::Servfail);
    let mut evidence = gathered(&world);
    evidence.candidates.clear();
    each_answer(&mut evidence, Source::Authority, |_, answer| {
        answer.addresses.clear();
        answer.chain = vec!["edge.cdn.example".into()];
        answer.rcode = Rcode::Servfail;
    });
    let said = verdict(&world, &evidence);
    assert!(!said.eliminated.iter().any(|reason| reason.contains("leads to an address")), "{said:#?}");
}

#[test]
fn a_server_that_lags_is_named_with_its_serial() {
    let mut world = World::stale();
    world.authority.insert("ns-3.peer.example".into(), set(&[OLD]));
    let mut evidence = gathered(&world);
    // The newest has wrapped round (RFC 1982).
    let serials = [("ns-1.peer.example", 3), ("ns-2.peer.example", 3), ("ns-3.peer.example", u32::MAX)];
    for (server, serial) in serials {
        let mut asked =
            evidence.asked.iter().find(|asked| asked.identity == server && asked.transport == "tcp").unwrap().clone();
        asked.record_type = "SOA".into();
        if let Outcome::Answered(answer) = &mut asked.outcome {
            answer.addresses.clear();
            answer.soa = Some(Soa { serial, negative_ttl: 60 });
        }
        evidence.asked.push(asked);
    }
    let said = verdict(&world, &evidence);
    assert_eq!(said.code, Code::LameDelegation, "{said:#?}");
    let told = format!("ns-3.peer.example answers {OLD}, from serial {}; the newest is 3", u32::MAX);
    assert!(said.evidence_for.contains(&told), "{said:#?}");
    assert!(said.evidence_for.contains(&format!("ns-1.peer.example answers {NEW}")), "{said:#?}");
}

#[test]
fn servers_that_are_lame_are_named_with_what_they_do() {
    let mut world = World::healthy();
    world.resolver = Err(Rcode::Servfail);
    let mut evidence = gathered(&world);
    evidence.candidates.clear();
    each_answer(&mut evidence, Source::Authority, |_, answer| {
        answer.addresses.clear();
        answer.authoritative = false;
    });
    for asked in evidence.asked.iter_mut().filter(|asked| asked.identity == "ns-2.peer.example") {
        if let Outcome::Answered(answer) = &mut asked.outcome {
            answer.rcode = Rcode::Refused;
        }
    }
    let said = verdict(&world, &evidence);
    assert_eq!(said.code, Code::LameDelegation, "{said:#?}");
    let told =
        "ns-1.peer.example (without authority), ns-2.peer.example (REFUSED), ns-3.peer.example (without authority)";
    assert!(said.evidence_for.iter().any(|reason| reason.ends_with(told)), "{said:#?}");
}
