//! One liar, or a gap in the evidence, turns no verdict to *proven* and no override to the better of a bad address.

use ukai_core::diagnose::diagnose;
use ukai_core::diagnose::evidence::*;
use ukai_core::diagnose::reading::{Case, Continuity, Overridden, Reading};
use ukai_core::diagnose::verdict::{Action, Code, Judgement, Sure, Verdict};
use ukai_core::event::Event;
use ukai_core::input::Command;
use ukai_core::observe::{AddressResult, ErrorClass, Failure, Stage};
use ukai_core::overrides::EndReason;
use ukai_core::peer::{Level, Mode};

use crate::play::Play;
use crate::world::*;

const V6: &str = "2600:1::1";

fn verdict(world: &World, evidence: &Evidence) -> Verdict {
    diagnose(&case(&world.history, &world.peer(), evidence))
}

fn gathered(world: &World) -> Evidence {
    world.evidence(Purpose::Diagnose, &Default::default())
}

fn silent() -> Outcome {
    Outcome::Silent { why: Silence::Timeout, detail: "as staged".into() }
}

/// Our resolver was asked for AAAA as well, and this came of it.
fn our_aaaa(evidence: &mut Evidence, outcome: &Outcome) {
    let asked = evidence.asked.iter().filter(|asked| asked.source == Source::OurResolver);
    let more: Vec<Asked> =
        asked.map(|asked| Asked { record_type: "AAAA".into(), outcome: outcome.clone(), ..asked.clone() }).collect();
    evidence.asked.extend(more);
}

fn each_answer(evidence: &mut Evidence, of: impl Fn(&Asked) -> bool, change: impl Fn(&mut Answer)) {
    for asked in evidence.asked.iter_mut().filter(|asked| of(asked)) {
        if let Outcome::Answered(answer) = &mut asked.outcome {
            change(answer);
        }
    }
}

fn is_ours(asked: &Asked) -> bool {
    asked.source == Source::OurResolver
}

fn says_of_authority(server: &'static str, record_type: &'static str) -> impl Fn(&Asked) -> bool {
    move |asked| asked.source == Source::Authority && asked.identity == server && asked.record_type == record_type
}

#[test]
fn a_server_that_was_half_heard_contradicts_all_the_same() {
    let mut world = World::stale();
    world.authority.insert("ns-3.peer.example".into(), set(&[OLD]));
    let mut evidence = gathered(&world);
    for asked in evidence.asked.iter_mut().filter(|asked| says_of_authority("ns-3.peer.example", "AAAA")(asked)) {
        asked.outcome = silent();
    }
    assert_ne!(verdict(&world, &evidence).action, Action::Override);
}

#[test]
fn servers_that_agree_on_what_a_newer_serial_replaced_do_not_agree() {
    let mut world = World::stale();
    world.authority.insert("ns-3.peer.example".into(), set(&["192.0.103.1"]));
    let mut evidence = gathered(&world);
    let soa = |serial| Some(Soa { serial, negative_ttl: 60 });
    let more: Vec<Asked> = names()
        .iter()
        .map(|server| {
            let mut asked = evidence
                .asked
                .iter()
                .find(|asked| asked.identity == *server && asked.transport == "tcp")
                .cloned()
                .unwrap();
            asked.record_type = "SOA".into();
            if let Outcome::Answered(answer) = &mut asked.outcome {
                answer.addresses.clear();
                answer.soa = soa(if server == "ns-3.peer.example" { 8 } else { 7 });
            }
            asked
        })
        .collect();
    for asked in evidence.asked.iter_mut().filter(|asked| asked.identity == "ns-3.peer.example") {
        asked.outcome = silent();
    }
    evidence.asked.extend(more);
    assert_ne!(verdict(&world, &evidence).sure, Sure::Proven, "{:#?}", verdict(&world, &evidence));
    assert_ne!(verdict(&world, &evidence).action, Action::Override);
}

#[test]
fn a_cut_answer_of_an_authority_is_no_answer() {
    let world = World::stale();
    let mut evidence = gathered(&world);
    each_answer(&mut evidence, |asked| asked.source == Source::Authority, |answer| answer.truncated = true);
    assert_ne!(verdict(&world, &evidence).action, Action::Override);
}

#[test]
fn one_family_that_is_empty_is_not_a_name_without_addresses() {
    // A is not answered at all; that there is no AAAA is as it always was
    let mut world = World::stale();
    world.resolver = Ok(set(&[]));
    let mut evidence = gathered(&world);
    let empty = evidence.asked.iter().find(|asked| is_ours(asked)).unwrap().outcome.clone();
    our_aaaa(&mut evidence, &empty);
    for asked in evidence.asked.iter_mut().filter(|asked| is_ours(asked) && asked.record_type == "A") {
        asked.outcome = silent();
    }
    let verdict = verdict(&world, &evidence);
    assert_ne!(verdict.sure, Sure::Proven, "{verdict:#?}");
    assert!(!verdict.summary.contains("no address"), "{verdict:#?}");
}

/// Independent resolvers that were asked for AAAA as well; the first never answered for A.
fn half_heard(world: &World, more: &[&str]) -> Evidence {
    let mut evidence = gathered(world);
    let is_independent = |asked: &&Asked| asked.source == Source::Independent;
    let first = evidence.asked.iter().find(is_independent).unwrap().clone();
    evidence.asked.extend(more.iter().map(|server| Asked { identity: (*server).into(), ..first.clone() }));
    let mut none = first.clone();
    if let Outcome::Answered(answer) = &mut none.outcome {
        answer.addresses.clear();
    }
    let aaaa: Vec<Asked> = evidence
        .asked
        .iter()
        .filter(is_independent)
        .map(|asked| Asked { record_type: "AAAA".into(), outcome: none.outcome.clone(), ..asked.clone() })
        .collect();
    evidence.asked.iter_mut().find(|asked| asked.source == Source::Independent).unwrap().outcome = silent();
    evidence.asked.extend(aaaa);
    evidence
}

#[test]
fn a_resolver_that_was_half_heard_neither_vouches_nor_contradicts() {
    let world = World::stale();
    let three = half_heard(&world, &["udp://192.0.99.1:53"]);
    assert_eq!(verdict(&world, &three).sure, Sure::Proven, "the other two agree");
    assert_eq!(verdict(&world, &half_heard(&world, &[])).sure, Sure::Likely, "one alone agrees with nobody");
    let mut apart = three;
    let first = apart.asked.iter().find(|asked| asked.source == Source::Independent).unwrap().identity.clone();
    each_answer(&mut apart, |asked| asked.identity == first, |answer| answer.addresses = vec![ip(V6)]);
    assert_eq!(verdict(&world, &apart).sure, Sure::Likely, "what it did say is another family");
}

#[test]
fn an_answer_that_is_half_known_is_not_proven_to_be_old() {
    // v6 was never whole here, and our resolver's A was lost: nothing shows that it holds on to an old address
    let mut world = World::healthy();
    world.authority = servers(&[OLD, V6]);
    world.independents = set(&[OLD, V6]);
    world.resolver = Ok(set(&[V6]));
    world.resolver_ttls = [60, 60, 60];
    world.hosts.insert(ip(V6), Host::Silent);
    let mut evidence = gathered(&world);
    for asked in evidence.asked.iter_mut().filter(|asked| is_ours(asked)) {
        asked.record_type = "AAAA".into();
    }
    let mut lost: Vec<Asked> = evidence.asked.iter().filter(|asked| is_ours(asked)).cloned().collect();
    for asked in &mut lost {
        asked.record_type = "A".into();
        asked.outcome = silent();
    }
    evidence.asked.extend(lost);
    let verdict = verdict(&world, &evidence);
    assert_ne!(verdict.sure, Sure::Proven, "{verdict:#?}");
}

#[test]
fn an_address_that_the_peer_still_gives_is_not_proven_to_be_old() {
    let mut world = World::healthy();
    world.authority = servers(&[OLD, NEW]);
    world.independents = set(&[OLD, NEW]);
    world.hosts.insert(ip(OLD), Host::Silent);
    world.resolver_ttls = [60, 60, 60];
    let verdict = verdict(&world, &gathered(&world));
    assert_ne!(verdict.sure, Sure::Proven, "{verdict:#?}");
}

#[test]
fn a_delegation_never_seen_in_peace_caps_the_verdict() {
    let mut world = World::stale();
    world.history.delegation = None;
    assert_eq!(verdict(&world, &gathered(&world)).sure, Sure::Likely);
}

type Change = fn(&mut World);

#[test]
fn a_negative_answer_is_held_to_what_a_stale_one_is() {
    let negative = || {
        let mut world = World::stale();
        world.resolver = Err(Rcode::Nxdomain);
        world
    };
    let good = negative();
    let said = verdict(&good, &gathered(&good));
    assert_eq!((said.code, said.sure), (Code::NegativeCache, Sure::Proven), "{said:#?}");
    let worse: [(&str, Change); 4] = [
        ("another delegation", |world| {
            world.history.delegation.as_mut().unwrap().parent_ns = ["ns-9.peer.example".to_owned()].into();
        }),
        ("no delegation to compare with", |world| world.history.delegation = None),
        ("independent resolvers that say otherwise", |world| world.independents = set(&[OLD])),
        ("a new key", |world| {
            world.hosts.insert(ip(NEW), Host::NewKey);
        }),
    ];
    for (what, change) in worse {
        let mut world = negative();
        change(&mut world);
        let said = verdict(&world, &gathered(&world));
        assert_ne!(said.sure, Sure::Proven, "{what}: {said:#?}");
    }
}

#[test]
fn a_ttl_that_rises_may_be_of_another_cache() {
    let mut world = World::stale();
    world.resolver_ttls = [20, 18, 50];
    let evidence = gathered(&world);
    assert_eq!(verdict(&world, &evidence).sure, Sure::Likely, "two caches behind one address");
    let mut named = evidence.clone();
    each_answer(&mut named, is_ours, |answer| answer.nsid = Some("node-1".into()));
    assert_eq!(verdict(&world, &named).sure, Sure::Proven, "one cache, by its own word");
}

#[test]
fn without_a_ttl_nothing_is_said_to_fall() {
    let world = World::stale();
    let mut evidence = gathered(&world);
    each_answer(&mut evidence, is_ours, |answer| answer.ttl = None);
    let verdict = verdict(&world, &evidence);
    assert_ne!(verdict.sure, Sure::Proven, "{verdict:#?}");
}

#[test]
fn the_largest_ttl_breaks_nothing() {
    let mut world = World::stale();
    world.history.answers[0].ttl = u32::MAX;
    verdict(&world, &gathered(&world));
}

#[test]
fn a_broken_signature_is_proven_by_the_answer_without_validation() {
    let mut world = World::healthy();
    world.resolver = Err(Rcode::Servfail);
    let mut evidence = gathered(&world);
    let error = ExtendedError { code: 6, text: String::new() };
    each_answer(&mut evidence, is_ours, |answer| answer.extended_errors = vec![error.clone()]);
    let said = verdict(&world, &evidence);
    assert_eq!((said.code, said.sure), (Code::DnssecBogus, Sure::Likely), "{said:#?}");
    assert!(!said.evidence_for.iter().any(|reason| reason.contains("CD=1")), "nobody asked that: {said:#?}");
    // a resolver that validates and finds nothing wrong contradicts it
    let unchecked: Vec<Asked> = evidence
        .asked
        .iter()
        .filter(|asked| is_ours(asked))
        .map(|asked| {
            let outcome = evidence.asked.iter().find(|asked| asked.source == Source::Independent).unwrap();
            Asked { checking_disabled: true, outcome: outcome.outcome.clone(), ..asked.clone() }
        })
        .collect();
    evidence.asked.extend(unchecked);
    assert_eq!(verdict(&world, &evidence).sure, Sure::Proven);
    let independent = |asked: &Asked| asked.source == Source::Independent;
    each_answer(&mut evidence, independent, |answer| answer.authentic_data = true);
    assert_eq!(verdict(&world, &evidence).sure, Sure::Likely);
}

#[test]
fn a_vantage_speaks_for_an_endpoint_that_it_tried() {
    let mut world = World::healthy();
    world.hosts.insert(ip(OLD), Host::Silent);
    let mut evidence = gathered(&world);
    evidence.vantages.push(VantageView {
        vantage: "tokyo".into(),
        silence: None,
        resolved: set(&[OLD]),
        results: vec![Proof {
            endpoint: "https://other.example/".into(),
            result: AddressResult::untried(ip(OLD), 443),
        }],
    });
    let said = verdict(&world, &evidence);
    assert_ne!(said.code, Code::PathOrPop, "{said:#?}");
}

#[test]
fn a_look_without_a_result_is_not_a_path_that_works() {
    let world = World::stale();
    let mut evidence = gathered(&world);
    for observation in &mut evidence.observations {
        observation.results.clear();
    }
    let peer = world.peer();
    let case = case(&world.history, &peer, &evidence);
    assert!(!Reading::of(&case).works_now());
}

#[test]
fn every_proof_of_an_address_must_be_who_the_peer_was() {
    let world = World::stale();
    let mut evidence = gathered(&world);
    let other = World { hosts: [(ip(NEW), Host::NewKey)].into(), ..World::stale() }.result(ip(NEW));
    let candidate = evidence.candidates.iter_mut().find(|candidate| candidate.address == ip(NEW)).unwrap();
    candidate.proofs[2].result = other;
    let peer = world.peer();
    let case = case(&world.history, &peer, &evidence);
    assert!(matches!(Reading::of(&case).continuity(ip(NEW)), Continuity::Broken { .. }));
    assert_eq!(diagnose(&case).sure, Sure::Likely);
}

#[test]
fn a_proof_without_an_identity_is_no_continuity() {
    let world = World::stale();
    let mut evidence = gathered(&world);
    let candidate = evidence.candidates.iter_mut().find(|candidate| candidate.address == ip(NEW)).unwrap();
    candidate.proofs[2].result.identity = None;
    let peer = world.peer();
    let case = case(&world.history, &peer, &evidence);
    assert_eq!(Reading::of(&case).continuity(ip(NEW)), Continuity::NoIdentity);
}

#[test]
fn a_stranger_behind_a_first_silence_is_seen() {
    let mut world = World::healthy();
    world.resolver = Ok(set(&[EVIL]));
    let mut evidence = gathered(&world);
    let candidate = evidence.candidates.iter_mut().find(|candidate| candidate.address == ip(EVIL)).unwrap();
    let failure = Failure { stage: Stage::Connect, class: ErrorClass::Timeout, detail: "as staged".into() };
    let first = Proof {
        endpoint: ENDPOINT.into(),
        result: AddressResult { failure: Some(failure), ..AddressResult::untried(ip(EVIL), 443) },
    };
    candidate.proofs.insert(0, first);
    evidence.observations.clear();
    assert_eq!(verdict(&world, &evidence).code, Code::SuspectHijack);
}

#[test]
fn an_alias_is_dead_by_the_word_of_more_than_our_resolver() {
    let mut world = World::healthy();
    world.authority = servers(&[]);
    world.independents = set(&[]);
    world.resolver = Err(Rcode::Nxdomain);
    let mut evidence = gathered(&world);
    each_answer(&mut evidence, |_| true, |answer| answer.chain = vec!["edge.cdn.example".into()]);
    let said = verdict(&world, &evidence);
    assert_eq!(said.code, Code::DanglingCname, "{said:#?}");
    assert_eq!(said.sure, Sure::Likely, "our resolver alone says that it does not exist");
}

#[test]
fn a_parent_alone_does_not_outweigh_everybody_else() {
    let mut world = World::healthy();
    world.resolver = Err(Rcode::Servfail);
    let mut evidence = gathered(&world);
    evidence.delegation.as_mut().unwrap().parent_rcode = Some(Rcode::Nxdomain);
    let said = verdict(&world, &evidence);
    assert_ne!(said.sure, Sure::Proven, "{said:#?}");
}

#[test]
fn an_override_of_nothing_is_not_stale() {
    let world = World::healthy();
    let evidence = gathered(&world);
    let peer = world.peer();
    let over = Overridden { since: start(), mode: Mode::Follow, addresses: set(&[]) };
    let said = diagnose(&Case { overridden: Some(&over), ..case(&world.history, &peer, &evidence) });
    assert_ne!(said.code, Code::OverrideStale, "{said:#?}");
}

#[test]
fn a_control_without_a_name_says_nothing_of_our_resolver() {
    let world = World::stale();
    let mut evidence = gathered(&world);
    let mut world = world;
    for (control, url) in
        evidence.controls.iter_mut().zip(["https://1.1.1.1/", "https://[2620:fe::9]:443/", "https://9.9.9.9/"])
    {
        control.control = url.into();
        world.history.controls.insert(url.into());
        world.history.control_issuers.insert(format!("{url} CN=Web CA"));
    }
    let said = verdict(&world, &evidence);
    assert_eq!(said.sure, Sure::Likely, "{said:#?}");
    assert!(said.evidence_against.iter().any(|why| why.contains("own_resolver")), "{said:#?}");
}

#[test]
fn where_nobody_answered_nothing_is_excluded_by_it() {
    let mut world = World::healthy();
    world.controls_reached = false;
    world.control_names = false;
    world.history = Default::default();
    world.resolver = Err(Rcode::Servfail);
    world.canary = Canary::NoAnswer;
    let mut evidence = gathered(&world);
    evidence.delegation = None;
    evidence.candidates.clear();
    evidence.asked.iter_mut().for_each(|asked| asked.outcome = silent());
    let said = verdict(&world, &evidence);
    assert_eq!(said.code, Code::Open, "{said:#?}");
    for rule in ["rebinding", "dangling_cname", "lame_delegation", "stale_resolver"] {
        assert!(!said.eliminated.iter().any(|why| why.starts_with(&format!("{rule}:"))), "{rule}: {said:#?}");
    }
    // The failure is before any date is looked at, so of the clock it can be said.
    let useless = said.options.iter().filter(|option| option.judgement == Judgement::Useless);
    for option in useless.filter(|option| option.name != "fix_clock") {
        assert!(!option.reason.contains("is not the cause") && !option.reason.starts_with("Neither"), "{option:?}");
    }
}

#[test]
fn numbers_without_bounds_break_nothing() {
    let world = World::stale();
    let mut evidence = gathered(&world);
    evidence.controls[0].clock_offset_s = Some(i64::MIN);
    evidence.own.time_server_offset_ms = Some(i64::MIN);
    let live = LiveConnection { address: ip(NEW), established: usize::MAX, waiting: usize::MAX };
    evidence.connections.push(live);
    let said = verdict(&world, &evidence);
    assert!(said.eliminated.iter().any(|why| why.starts_with("clock_skew: 2 controls")), "{said:#?}");
}

fn ended(play: &Play) -> Vec<EndReason> {
    let ended = play.log.iter().filter_map(|record| match record.event {
        Event::OverrideEnded { reason, .. } => Some(reason),
        _ => None,
    });
    ended.collect()
}

fn served() -> Play {
    let mut world = World::healthy();
    world.level = Level::Approve;
    let mut play = Play::new(world);
    play.run_for(60);
    play.world.go_stale();
    play.run_for(30);
    play.approve();
    play.run_for(30);
    assert_eq!(play.world.served, Some(set(&[NEW])));
    play
}

#[test]
fn what_fails_is_not_given_up_for_a_stranger() {
    let mut play = served();
    play.world.hosts.insert(ip(NEW), Host::Silent);
    play.world.hosts.insert(ip(EVIL), Host::NewKey);
    play.world.resolver = Ok(set(&[EVIL]));
    play.run_for(900);
    assert_eq!(ended(&play), [], "the normal path leads to a valid stranger");
    assert!(play.saw(|event| matches!(event, Event::OverrideTroubled { .. })));
}

#[test]
fn what_fails_is_given_up_for_the_peer() {
    let mut play = served();
    play.world.hosts.insert(ip(NEW), Host::Silent);
    play.world.hosts.insert(ip(OLD), Host::Serves);
    play.run_for(900);
    assert!(ended(&play).contains(&EndReason::Reverted), "{:?}", ended(&play));
}

/// A person named the peer's own address because the whole name was taken, and has not approved yet.
fn pin_proposed() -> Play {
    let mut world = World::healthy();
    world.level = Level::Approve;
    let mut play = Play::new(world);
    play.run_for(60);
    play.world.go_stale();
    play.world.authority.clear();
    play.world.independents.clear();
    play.run_for(30);
    play.command(Command::Pin { peer: "api".into(), addresses: set(&[NEW]), why: String::new() }, 1000);
    play.run_for(60);
    play
}

fn pinned() -> Play {
    let mut play = pin_proposed();
    play.approve();
    play.run_for(30);
    assert_eq!(play.world.served, Some(set(&[NEW])));
    play
}

#[test]
fn a_pin_approved_against_one_diagnosis_is_not_applied_against_another() {
    let mut play = pin_proposed();
    play.world.authority = servers(&[]);
    play.approve();
    play.run_for(30);
    assert!(play.applied.is_empty(), "{:?}", play.verdicts());
    let why = |event: &Event| matches!(event, Event::OverrideVoided { reason, .. } if reason.contains("it is peer_dns_empty now"));
    assert!(play.saw(why));
}

#[test]
fn a_pin_is_not_taken_back_to_a_stranger() {
    let mut play = pinned();
    play.world.hosts.insert(ip(EVIL), Host::NewKey);
    play.world.authority = servers(&[EVIL]);
    play.world.independents = set(&[EVIL]);
    play.world.resolver = Ok(set(&[EVIL]));
    play.run_for(900);
    assert_eq!(ended(&play), [], "servers in agreement lead to a valid stranger");
}

#[test]
fn a_pin_is_taken_back_to_the_peer() {
    let mut play = pinned();
    play.world.authority = servers(&[NEW]);
    play.world.independents = set(&[NEW]);
    play.world.heal();
    play.run_for(900);
    assert_eq!(ended(&play), [EndReason::Reverted]);
}
