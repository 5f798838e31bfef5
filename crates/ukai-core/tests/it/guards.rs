//! Each guard where it is the only thing that stands between a plan and harm.

use ukai_core::diagnose::diagnose;
use ukai_core::diagnose::evidence::{Canary, Evidence, Purpose};
use ukai_core::diagnose::reading::Reading;
use ukai_core::peer::{Mode, Peer};
use ukai_core::plan::guard::{Findings, Proposal, Standing, examine};
use ukai_core::plan::select;

use crate::world::*;

const CALM: Standing =
    Standing { others: 0, changes_in_the_last_hour: 0, frozen: false, serves_dns: true, hides_types: false };

fn findings_of(world: &World, peer: &Peer, evidence: &Evidence, standing: Standing) -> Findings {
    let case = case(&world.history, peer, evidence);
    let reading = Reading::of(&case);
    let verdict = diagnose(&case);
    let selection = select(&reading);
    examine(&Proposal { reading: &reading, verdict: &verdict, selection: &selection, standing })
}

fn findings(world: &World) -> Findings {
    let evidence = world.evidence(Purpose::Diagnose, &Default::default());
    findings_of(world, &world.peer(), &evidence, CALM)
}

#[track_caller]
fn only_refused_by(findings: &Findings, guard: &str) {
    let names: Vec<&str> = findings.refusals.iter().map(|refusal| refusal.guard.as_str()).collect();
    assert_eq!(names, [guard], "{findings:#?}");
}

#[track_caller]
fn only_for_a_person(findings: &Findings, guard: &str) {
    assert!(findings.refusals.is_empty(), "{findings:#?}");
    let names: Vec<&str> = findings.for_a_person.iter().map(|refusal| refusal.guard.as_str()).collect();
    assert_eq!(names, [guard], "{findings:#?}");
}

#[test]
fn a_good_override_passes_every_guard() {
    assert_eq!(findings(&World::stale()), Findings::default());
}

fn with_standing(standing: Standing) -> Findings {
    let world = World::stale();
    let evidence = world.evidence(Purpose::Diagnose, &Default::default());
    findings_of(&world, &world.peer(), &evidence, standing)
}

#[test]
fn frozen() {
    only_refused_by(&with_standing(Standing { frozen: true, ..CALM }), "frozen");
}

#[test]
fn nowhere_to_take_effect() {
    only_refused_by(&with_standing(Standing { serves_dns: false, ..CALM }), "provider");
}

#[test]
fn too_many_at_once_or_too_often() {
    only_refused_by(&with_standing(Standing { others: 3, ..CALM }), "limits");
    only_refused_by(&with_standing(Standing { changes_in_the_last_hour: 6, ..CALM }), "limits");
}

#[test]
fn a_lease_without_end() {
    let world = World::stale();
    let mut peer = world.peer();
    peer.lease = std::time::Duration::from_secs(48 * 3600);
    let evidence = world.evidence(Purpose::Diagnose, &Default::default());
    only_refused_by(&findings_of(&world, &peer, &evidence, CALM), "lease");
}

#[test]
fn a_control_that_fails_leaves_it_open_whose_fault_it_is() {
    let world = World::stale();
    let mut evidence = world.evidence(Purpose::Diagnose, &Default::default());
    for control in evidence.controls.iter_mut().take(2) {
        control.address_failure = Some("timed out".into());
    }
    let findings = findings_of(&world, &world.peer(), &evidence, CALM);
    assert!(findings.refusals.iter().any(|refusal| refusal.guard == "local_fault"));
}

#[test]
fn a_canary_that_nobody_answered_needs_a_person() {
    let mut world = World::stale();
    world.canary = Canary::NoAnswer;
    only_for_a_person(&findings(&world), "port_53");
}

#[test]
fn another_delegation_needs_a_person() {
    let mut world = World::stale();
    world.history.delegation.as_mut().unwrap().parent_ns = ["ns-9.peer.example".to_owned()].into();
    only_for_a_person(&findings(&world), "delegation");
}

#[test]
fn another_identity_needs_a_person() {
    let mut world = World::stale();
    world.hosts.insert(ip(NEW), Host::NewKey);
    let findings = findings(&world);
    assert!(findings.refusals.is_empty());
    assert!(findings.for_a_person.iter().any(|shown| shown.guard == "identity_continuity"));
}

#[test]
fn a_new_key_from_the_same_issuer_in_a_known_network_is_continuous() {
    let mut world = World::stale();
    const NEAR: &str = "192.0.100.77";
    world.authority = servers(&[NEAR]);
    world.independents = set(&[NEAR]);
    world.hosts.insert(ip(NEAR), Host::NewKey);
    assert_eq!(findings(&world), Findings::default());
}

#[test]
fn a_steered_name_is_never_pinned() {
    let mut world = World::stale();
    world.rotates = true;
    world.authority = servers(&[NEW, "192.0.101.2"]);
    world.hosts.insert(ip("192.0.101.2"), Host::Serves);
    let mut peer = world.peer();
    peer.mode = Mode::Pin;
    peer.pin = vec![ip(NEW)];
    let evidence = world.evidence(Purpose::Diagnose, &Default::default());
    let findings = findings_of(&world, &peer, &evidence, CALM);
    assert!(findings.refusals.iter().any(|refusal| refusal.guard == "steered"), "{findings:#?}");
}

#[test]
fn a_candidate_that_failed_once_is_no_candidate() {
    let world = World::stale();
    let mut evidence = world.evidence(Purpose::Diagnose, &Default::default());
    let candidate = evidence.candidates.iter_mut().find(|candidate| candidate.address == ip(NEW)).unwrap();
    candidate.proofs[1].result = world.result(ip(OLD));
    let findings = findings_of(&world, &world.peer(), &evidence, CALM);
    assert!(findings.refusals.iter().any(|refusal| refusal.guard == "proof"), "{findings:#?}");
}

#[test]
fn an_endpoint_without_tls_is_never_followed() {
    let world = World::stale();
    let mut peer = world.peer();
    peer.verified_tls = false;
    let evidence = world.evidence(Purpose::Diagnose, &Default::default());
    only_refused_by(&findings_of(&world, &peer, &evidence, CALM), "verified_tls");
}

#[test]
fn authorities_that_contradict_are_no_source() {
    let mut world = World::stale();
    world.authority.insert("ns-3.peer.example".into(), set(&[OLD]));
    let findings = findings(&world);
    assert!(findings.refusals.iter().any(|refusal| refusal.guard == "trusted_source"));
}

#[test]
fn a_working_path_is_left_alone() {
    let mut world = World::stale();
    world.hosts.insert(ip(OLD), Host::Serves);
    let findings = findings(&world);
    assert!(findings.refusals.iter().any(|refusal| refusal.guard == "current_answer_fails"));
}

#[test]
fn private_and_parked_candidates() {
    let mut world = World::stale();
    world.authority = servers(&["10.0.0.7"]);
    world.hosts.insert(ip("10.0.0.7"), Host::Serves);
    let private = findings(&world);
    assert!(private.refusals.iter().any(|refusal| refusal.guard == "global_unicast"));

    let mut world = World::stale();
    world.hosts.insert(ip(NEW), Host::Parked);
    let parked = findings(&world);
    assert!(parked.refusals.iter().any(|refusal| refusal.guard == "parking"));
}
