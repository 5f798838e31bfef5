//! The whole path: from the first failed probe to the closed incident.

use ukai_core::effect::Reply;
use ukai_core::event::Event;
use ukai_core::input::Command;
use ukai_core::overrides::EndReason;
use ukai_core::peer::Level;

use crate::play::Play;
use crate::world::*;

fn proposed() -> Play {
    let mut play = Play::new(World::healthy());
    play.run_for(60);
    play.world.go_stale();
    play.run_for(30);
    play
}

#[test]
fn a_stale_resolver_is_gone_around_and_the_detour_is_taken_back() {
    let mut play = proposed();
    assert_eq!(play.verdicts(), ["stale_resolver proven"]);
    assert!(play.saw(|event| matches!(event, Event::OverrideProposed { .. })));
    assert!(play.applied.is_empty(), "nothing is applied before a person says so");

    play.approve();
    play.run_for(20);
    assert_eq!(play.world.served, Some(set(&[NEW])));
    assert!(play.saw(|event| matches!(event, Event::OverrideServed { .. })));
    assert!(!play.saw(|event| matches!(event, Event::OverrideConfirmed { .. })));

    play.application_calls(true, NEW, 1);
    play.run_for(1);
    assert!(play.saw(|event| matches!(event, Event::OverrideConfirmed { .. })));

    play.world.heal();
    play.run_for(300);
    assert_eq!(play.world.served, None);
    assert!(play.saw(|event| { matches!(event, Event::OverrideEnded { reason: EndReason::Reverted, .. }) }));
    assert!(play.saw(|event| matches!(event, Event::IncidentClosed { .. })));
    assert!(play.saw(|event| matches!(event, Event::ReportWritten { .. })));
    assert!(play.engine.state().undelivered.is_empty());
}

#[test]
fn the_level_observe_changes_nothing() {
    let mut world = World::healthy();
    world.level = Level::Observe;
    let mut play = Play::new(world);
    play.run_for(30);
    play.world.go_stale();
    play.run_for(900);
    assert!(play.saw(|event| matches!(event, Event::OverrideProposed { .. })));
    let over = play.engine.state().overrides.values().next().unwrap();
    let (id, hash) = (over.id.clone(), over.hash.clone());
    play.command(Command::Approve { id, hash, why: String::new() }, 1000);
    play.run_for(60);
    assert!(matches!(play.replies.last(), Some(Reply::Refused { .. })));
    assert!(play.applied.is_empty());
}

#[test]
fn auto_applies_what_is_proven_without_a_person() {
    let mut world = World::healthy();
    world.level = Level::Auto;
    let mut play = Play::new(world);
    play.run_for(60);
    play.world.go_stale();
    play.run_for(60);
    assert_eq!(play.world.served, Some(set(&[NEW])));
}

#[test]
fn auto_waits_for_a_person_where_the_identity_is_new() {
    let mut world = World::healthy();
    world.level = Level::Auto;
    let mut play = Play::new(world);
    play.run_for(60);
    play.world.go_stale();
    play.world.hosts.insert(ip(NEW), Host::NewKey);
    play.run_for(120);
    assert!(play.applied.is_empty());
}

#[test]
fn an_approval_is_for_what_was_shown() {
    let mut play = proposed();
    let id = play.engine.state().overrides.keys().next().unwrap().clone();
    play.command(Command::Approve { id, hash: "0123456789abcdef".into(), why: String::new() }, 1000);
    play.run_for(30);
    assert!(matches!(play.replies.last(), Some(Reply::Refused { .. })));
    assert!(play.applied.is_empty());
}

#[test]
fn two_approvals_are_two_people() {
    let mut play = Play::new(World::healthy());
    let mut settings = play.world.settings();
    settings.peers.get_mut("api").unwrap().approvals = 2;
    play.input(ukai_core::input::Input::Reconfigured { settings: Box::new(settings) });
    play.run_for(60);
    play.world.go_stale();
    play.run_for(30);
    play.approve();
    play.approve();
    play.run_for(30);
    assert!(play.applied.is_empty(), "the same person twice is one person");
    let over = play.engine.state().overrides.values().next().unwrap();
    let (id, hash) = (over.id.clone(), over.hash.clone());
    play.command(Command::Approve { id, hash, why: String::new() }, 1001);
    play.run_for(30);
    assert_eq!(play.applied.len(), 1);
}

#[test]
fn a_fault_that_clears_during_approval_voids_the_plan() {
    let mut play = proposed();
    play.world.heal();
    play.approve();
    play.run_for(120);
    assert!(play.applied.is_empty());
    assert!(play.saw(|event| matches!(event, Event::OverrideVoided { .. })));
}

#[test]
fn a_world_that_changed_between_approval_and_apply_voids_the_plan() {
    let mut play = proposed();
    play.world.hosts.insert(ip(NEW), Host::Foreign);
    play.approve();
    play.run_for(60);
    assert!(play.applied.is_empty());
    assert!(play.saw(|event| matches!(event, Event::OverrideVoided { .. })));
}

#[test]
fn an_approval_that_never_comes_changes_nothing() {
    let mut play = proposed();
    play.run_for(700);
    assert!(play.applied.is_empty());
    assert!(play.saw(|event| matches!(event, Event::OverrideVoided { .. })));
}

#[test]
fn an_override_that_is_not_served_is_rolled_back() {
    let mut play = proposed();
    play.approve();
    // The provider acknowledges, but nothing is served.
    for _ in 0..200 {
        if play.world.served.is_some() {
            break;
        }
        assert!(play.carry_out());
    }
    play.world.served = None;
    play.run_for(60);
    assert!(play.saw(|event| { matches!(event, Event::OverrideEnded { reason: EndReason::RolledBack, .. }) }));
}

#[test]
fn a_lease_ends_by_itself_and_is_warned_of() {
    let mut play = proposed();
    play.approve();
    play.run_for(4 * 3600 + 120);
    let warnings = play.log.iter().filter(|record| matches!(record.event, Event::LeaseWarned { .. })).count();
    assert_eq!(warnings, 2);
    assert!(play.saw(|event| { matches!(event, Event::OverrideEnded { reason: EndReason::Expired, .. }) }));
    assert_eq!(play.applied.iter().filter(|served| served.generation == 1).count(), 1);
}

#[test]
fn somebody_else_at_a_served_address_ends_it_at_once() {
    let mut play = proposed();
    play.approve();
    play.run_for(20);
    assert!(play.world.served.is_some());
    play.world.hosts.insert(ip(NEW), Host::Foreign);
    play.run_for(40);
    assert_eq!(play.world.served, None);
    assert!(play.saw(|event| { matches!(event, Event::OverrideEnded { reason: EndReason::Withdrawn, .. }) }));
}

#[test]
fn silence_of_what_is_served_is_held_and_told() {
    let mut play = proposed();
    play.approve();
    play.run_for(20);
    play.world.hosts.insert(ip(NEW), Host::Silent);
    play.run_for(300);
    assert_eq!(play.world.served, Some(set(&[NEW])), "silence has not moved");
    assert!(play.saw(|event| matches!(event, Event::OverrideTroubled { .. })));
}

#[test]
fn a_follow_override_moves_with_the_peer() {
    const NEWER: &str = "192.0.102.1";
    let mut play = proposed();
    play.approve();
    play.run_for(20);
    play.world.authority = servers(&[NEWER]);
    play.world.independents = set(&[NEWER]);
    play.world.hosts.insert(ip(NEWER), Host::Serves);
    play.world.hosts.insert(ip(NEW), Host::Silent);
    play.run_for(120);
    assert_eq!(play.world.served, Some(set(&[NEWER])));
}

#[test]
fn silent_authorities_have_not_moved() {
    let mut play = proposed();
    play.approve();
    play.run_for(20);
    play.world.authority.clear();
    play.run_for(600);
    assert_eq!(play.world.served, Some(set(&[NEW])));
}

#[test]
fn a_flapping_normal_path_is_not_reverted_to() {
    let mut play = proposed();
    play.approve();
    play.run_for(20);
    for _ in 0..10 {
        play.world.heal();
        play.run_for(35);
        play.world.resolver = Ok(set(&[OLD]));
        play.run_for(25);
    }
    assert_eq!(play.world.served, Some(set(&[NEW])));
}

#[test]
fn frozen_means_no_change_until_thawed() {
    let mut play = proposed();
    play.command(Command::Freeze { why: "a deploy".into() }, 1000);
    play.approve();
    play.run_for(60);
    assert!(play.applied.is_empty());
}

#[test]
fn a_person_takes_an_override_back() {
    let mut play = proposed();
    play.approve();
    play.run_for(20);
    let id = play.engine.state().overrides.keys().next().unwrap().clone();
    play.command(Command::Revert { id, why: "the peer called".into() }, 1000);
    play.run_for(5);
    assert_eq!(play.world.served, None);
    assert!(play.saw(|event| { matches!(event, Event::OverrideEnded { reason: EndReason::RevertedByPerson, .. }) }));
}

#[test]
fn one_failed_probe_wakes_nobody() {
    let mut play = Play::new(World::healthy());
    play.run_for(60);
    play.world.hosts.insert(ip(OLD), Host::Silent);
    // The round fails, then the world is fine before the burst.
    while !matches!(play.waiting.first(), Some(ukai_core::effect::Effect::Probe { .. })) {
        let at = play.engine.poll_timeout().unwrap();
        play.world.now = play.world.now.max(at);
        play.input(ukai_core::input::Input::Tick);
    }
    play.carry_out();
    play.world.hosts.insert(ip(OLD), Host::Serves);
    play.run_for(60);
    assert!(!play.saw(|event| matches!(event, Event::IncidentOpened { .. })));
}

#[test]
fn a_new_identity_that_works_is_told_once_and_never_learned_at_once() {
    let mut play = Play::new(World::healthy());
    play.run_for(60);
    play.world.authority = servers(&[NEW]);
    play.world.resolver = Ok(set(&[NEW]));
    play.world.independents = set(&[NEW]);
    play.world.hosts.insert(ip(NEW), Host::NewKey);
    play.run_for(3600);
    assert_eq!(play.verdicts(), ["identity_discontinuity likely"]);
    let opened = play.log.iter().filter(|record| matches!(record.event, Event::IncidentPaged { .. }));
    assert_eq!(opened.count(), 1);
    assert!(play.applied.is_empty());
    let keys = |play: &Play| {
        let history = &play.engine.state().peers["api"].history;
        history.identities.iter().map(|known| known.key_sha256.clone()).collect::<Vec<_>>()
    };
    assert_eq!(keys(&play), ["key-1"]);
    play.run_for(25 * 3600);
    assert_eq!(keys(&play), ["key-1", "key-2"], "what everybody leads to for a day is the peer");
}

#[test]
fn an_application_that_fails_alone_is_said_to_fail_alone() {
    let mut play = Play::new(World::healthy());
    play.run_for(60);
    play.world.hosts.insert(ip(NEW), Host::Silent);
    play.application_calls(false, NEW, 6);
    play.run_for(10);
    assert_eq!(play.verdicts(), ["client_pinned proven"]);
    assert!(play.applied.is_empty());
}
