//! The peer's own servers give no address any more (S26): a person may confirm where it was before, and nothing else may.

use std::collections::BTreeSet;

use crate::play::{Play, world};
use crate::world::*;
use ukai_core::diagnose::evidence::{Canary, Rcode};
use ukai_core::diagnose::history::History;
use ukai_core::effect::Reply;
use ukai_core::event::{Event, NotificationKind};
use ukai_core::input::Command;
use ukai_core::overrides::Phase;
use ukai_core::peer::{Level, Mode};
use ukai_core::plan::{Plan, UNVOUCHED_LEASE_MAX_S};

fn emptied(level: Level, change: impl FnOnce(&mut World)) -> Play {
    let mut play = Play::new(world(level));
    play.run_for(120);
    play.world.authority = servers(&[]);
    play.world.independents = set(&[]);
    play.world.resolver = Err(Rcode::Nxdomain);
    change(&mut play.world);
    play.run_for(60);
    play
}

fn plan(play: &Play) -> Option<&Plan> {
    play.engine.state().overrides.values().next().map(|over| &over.plan)
}

#[test]
fn where_the_peer_was_is_put_before_a_person() {
    for level in [Level::Approve, Level::Auto] {
        let mut play = emptied(level, |_| ());
        let plan = plan(&play).unwrap().clone();
        assert_eq!((plan.mode, &plan.addresses), (Mode::Pin, &set(&[OLD])));
        assert!(plan.lease_s <= UNVOUCHED_LEASE_MAX_S, "{plan:#?}");
        let shown: Vec<&str> = plan.shown.iter().map(|shown| shown.guard.as_str()).collect();
        assert_eq!(shown, ["diagnosis", "trusted_source"]);
        assert!(play.applied.is_empty(), "never by itself");
        play.approve();
        play.run_for(30);
        assert_eq!(play.world.served, Some(set(&[OLD])));
        play.run_for(2 * 3600);
        assert_eq!(play.world.served, None, "nobody says it for longer than a quarter of an hour");
    }
}

#[test]
fn who_is_not_seen_to_be_the_peer_is_not_put_before_anybody() {
    for host in [Host::Silent, Host::Foreign, Host::Parked] {
        let play = emptied(Level::Approve, |world| {
            world.hosts.insert(ip(OLD), host);
        });
        assert_eq!(plan(&play), None, "{host:?}");
    }
    let mut unknown = Play::new(World { history: History::default(), ..world(Level::Approve) });
    unknown.world.authority = servers(&[]);
    unknown.world.resolver = Err(Rcode::Nxdomain);
    unknown.run_for(120);
    assert_eq!(plan(&unknown), None);
}

#[test]
fn what_the_peer_gives_again_ends_a_plan_that_rests_on_its_silence() {
    for given in [OLD, NEW] {
        let mut play = emptied(Level::Approve, |_| ());
        // Our resolver still holds the denial.
        play.world.authority = servers(&[given]);
        play.approve();
        play.run_for(30);
        assert!(play.applied.is_empty(), "{given}");
        let first = play.engine.state().overrides.values().next().unwrap();
        assert!(matches!(first.phase, Phase::Voided | Phase::Withheld), "{:?}", first.phase);
    }
}

/// What a person was shown, by guard.
fn shown(play: &Play) -> Vec<&str> {
    plan(play).unwrap().shown.iter().map(|shown| shown.guard.as_str()).collect()
}

#[test]
fn who_approves_is_shown_that_it_may_not_be_the_peer_who_says_so() {
    let play = emptied(Level::Approve, |world| world.canary = Canary::NoAnswer);
    assert!(shown(&play).contains(&"port_53"), "{:?}", shown(&play));
    let elsewhere: BTreeSet<String> = ["ns-1.other.example".to_owned(), "ns-2.other.example".to_owned()].into();
    let play = emptied(Level::Approve, |world| {
        world.authority = elsewhere.iter().map(|server| (server.clone(), set(&[]))).collect();
        world.parent_ns = elsewhere.clone();
    });
    assert!(shown(&play).contains(&"delegation"), "{:?}", shown(&play));
}

#[test]
fn a_plan_for_one_cause_is_not_applied_for_another() {
    let changes: [fn(&mut World); 3] = [
        |world| world.canary = Canary::Intercepted("a name that cannot exist was answered".into()),
        |world| world.canary = Canary::NoAnswer,
        |world| {
            world.parent_ns = ["ns-1.other.example".to_owned()].into();
            world.authority = world.parent_ns.iter().map(|server| (server.clone(), set(&[]))).collect();
        },
    ];
    for (place, change) in changes.into_iter().enumerate() {
        let mut play = emptied(Level::Approve, |_| ());
        change(&mut play.world);
        play.approve();
        play.run_for(30);
        assert!(play.applied.is_empty(), "change {place}");
    }
}

#[test]
fn nobody_extends_it_beyond_a_quarter_of_an_hour() {
    let mut play = emptied(Level::Approve, |_| ());
    play.approve();
    play.run_for(30);
    let id = play.engine.state().overrides.keys().next().unwrap().clone();
    let extend = |lease_s| Command::Extend { id: id.clone(), lease_s, why: "longer".into() };
    play.command(extend(3600), 1000);
    play.run_for(1);
    assert!(
        matches!(play.replies.last(), Some(Reply::Refused { text }) if text.contains("15 min")),
        "{:?}",
        play.replies
    );
    play.command(extend(UNVOUCHED_LEASE_MAX_S), 1000);
    play.run_for(600);
    assert!(matches!(play.replies.last(), Some(Reply::Done { .. })), "{:?}", play.replies);
    let told = |event: &Event| match event {
        Event::NotificationQueued { notification, .. } => notification.text.contains("--lease 15m"),
        _ => false,
    };
    assert!(play.saw(told), "the warning names a lease that may be had");
}

#[test]
fn where_the_peer_had_left_before_is_not_put_before_anybody() {
    let mut world = world(Level::Approve);
    world.authority = servers(&[NEW]);
    world.independents = set(&[NEW]);
    world.resolver = Ok(set(&[NEW]));
    let mut play = Play::new(world);
    play.run_for(120);
    let history = &play.engine.state().peers["api"].history;
    assert!(history.knows_address(ip(NEW)) && history.knows_address(ip(OLD)));
    play.world.authority = servers(&[]);
    play.world.independents = set(&[]);
    play.world.resolver = Err(Rcode::Nxdomain);
    play.world.hosts.insert(ip(NEW), Host::Silent);
    play.run_for(300);
    assert_eq!(plan(&play), None, "the old place shows the peer's key still, and the peer is not there");
}

#[test]
fn a_rejection_holds_for_what_is_left_of_the_rejected() {
    let mut world = world(Level::Approve);
    world.authority = servers(&[OLD, NEW]);
    world.independents = set(&[OLD, NEW]);
    world.resolver = Ok(set(&[OLD, NEW]));
    let mut play = Play::new(world);
    play.run_for(120);
    play.world.authority = servers(&[]);
    play.world.independents = set(&[]);
    play.world.resolver = Err(Rcode::Nxdomain);
    play.run_for(60);
    assert_eq!(plan(&play).unwrap().addresses, set(&[OLD, NEW]));
    let id = play.engine.state().overrides.keys().next().unwrap().clone();
    play.command(Command::Reject { id, why: "they moved out".into() }, 1000);
    play.world.hosts.insert(ip(NEW), Host::Silent);
    play.run_for(900);
    assert_eq!(play.engine.state().overrides.len(), 1);
}

#[test]
fn a_plan_that_nobody_decided_does_not_stand_in_the_way_of_the_right_one() {
    let mut play = emptied(Level::Auto, |_| ());
    assert!(plan(&play).is_some() && play.applied.is_empty());
    // The peer is back, and our resolver holds on to the denial.
    play.world.authority = servers(&[OLD]);
    play.world.independents = set(&[OLD]);
    play.run_for(400);
    assert_eq!(play.world.served, Some(set(&[OLD])));
    let states: Vec<_> = play.engine.state().overrides.values().map(|over| (over.plan.mode, over.phase)).collect();
    assert_eq!(states[0], (Mode::Pin, Phase::Voided), "{states:?}");
    assert_eq!(states[1].0, Mode::Follow, "{states:?}");
}

#[test]
fn that_the_peer_gives_another_address_while_it_stands_is_told_once() {
    let mut play = emptied(Level::Approve, |_| ());
    play.approve();
    play.run_for(30);
    assert_eq!(play.world.served, Some(set(&[OLD])));
    play.world.authority = servers(&[NEW]);
    play.world.independents = set(&[NEW]);
    play.run_for(400);
    let troubles = play.log.iter().filter(|record| matches!(record.event, Event::OverrideTroubled { .. })).count();
    assert_eq!(troubles, 1);
    assert_eq!(play.world.served, Some(set(&[OLD])), "a person decides; it still serves");
}

#[test]
fn what_others_still_give_is_said() {
    let play = emptied(Level::Approve, |world| world.independents = set(&[NEW]));
    let source = plan(&play).unwrap().shown.iter().find(|shown| shown.guard == "trusted_source").unwrap();
    assert!(source.reason.contains(NEW), "{source:?}");
}

#[test]
fn a_name_that_was_steered_in_peace_is_not_pinned_once_it_is_empty() {
    let mut world = world(Level::Approve);
    world.alias = Some("edge-1.cloudfront.net".into());
    let mut play = Play::new(world);
    play.run_for(120);
    play.world.authority = servers(&[]);
    play.world.independents = set(&[]);
    play.world.resolver = Err(Rcode::Nxdomain);
    play.run_for(120);
    assert_eq!(plan(&play), None);
    let refused = |event: &Event| match event {
        Event::OverrideRefused { refusals, .. } => refusals.iter().any(|refusal| refusal.guard == "steered"),
        _ => false,
    };
    assert!(play.saw(refused));
}

#[test]
fn where_it_was_last_is_tried_before_where_it_was_ever() {
    let mut world = world(Level::Approve);
    let ever = (1..=20).map(|number| ip(&format!("192.0.99.{number}")));
    world.history.identities[0].addresses.extend(ever);
    let mut play = Play::new(world);
    play.run_for(120);
    play.world.authority = servers(&[]);
    play.world.independents = set(&[]);
    play.world.resolver = Err(Rcode::Nxdomain);
    play.run_for(60);
    assert_eq!(plan(&play).map(|plan| &plan.addresses), Some(&set(&[OLD])));
}

#[test]
fn who_does_not_decide_is_asked_once() {
    let mut play = emptied(Level::Approve, |_| ());
    play.run_for(24 * 3600);
    let told = |play: &Play, kind| {
        let is_told = |event: &Event| match event {
            Event::NotificationQueued { notification, .. } => notification.kind == kind,
            _ => false,
        };
        play.log.iter().filter(|record| is_told(&record.event)).count()
    };
    assert_eq!((told(&play, NotificationKind::Proposed), told(&play, NotificationKind::Trouble)), (1, 1));
    // It is there to be approved all the while; what comes after that is told again.
    while !play.engine.state().overrides.values().any(|over| over.phase.is_pending()) {
        play.run_for(10);
    }
    play.approve();
    play.run_for(3600);
    assert_eq!((told(&play, NotificationKind::Proposed), told(&play, NotificationKind::Applied)), (2, 1));
}

#[test]
fn what_only_some_servers_say_is_no_silence() {
    let some = |play: &mut Play| {
        play.world.authority = servers(&[]);
        play.world.authority.insert("ns-3.peer.example".into(), set(&[OLD]));
    };
    let mut play = Play::new(world(Level::Approve));
    play.run_for(120);
    some(&mut play);
    play.world.independents = set(&[]);
    play.world.resolver = Err(Rcode::Nxdomain);
    play.run_for(300);
    assert_eq!(plan(&play), None);
    let mut play = emptied(Level::Approve, |_| ());
    some(&mut play);
    play.approve();
    play.run_for(30);
    assert!(play.applied.is_empty(), "one of them gives an address again");
}

#[test]
fn a_crash_lets_it_stand_no_longer() {
    let mut play = emptied(Level::Approve, |_| ());
    play.approve();
    play.run_for(30);
    play.crash();
    play.run_for(i64::try_from(UNVOUCHED_LEASE_MAX_S).unwrap());
    assert_eq!(play.world.served, None);
}
