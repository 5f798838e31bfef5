//! What a hostile reading found of decisions, time and restarts: each was a way to harm once.

use crate::play::{Play, reconf, served, world};
use crate::world::*;
use jiff::SignedDuration;
use ukai_core::diagnose::evidence::*;
use ukai_core::effect::Effect;
use ukai_core::event::Event;
use ukai_core::input::{Command, Input};
use ukai_core::overrides::Phase;
use ukai_core::peer::Level;

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
fn a_lease_ends_with_the_answer_that_it_goes_around() {
    for (ttls, lease) in [([45, 44, 40], 40), ([25, 24, 20], 20), ([9, 8, 5], 10)] {
        let mut play = Play::new(world(Level::Approve));
        play.run_for(60);
        play.world.go_stale();
        play.world.resolver_ttls = ttls;
        play.run_for(30);
        let plan = |event: &Event| match event {
            Event::OverrideProposed { plan, .. } => Some((plan.verdict.clone(), plan.lease_s)),
            _ => None,
        };
        let (verdict, lease_s) = play.log.iter().find_map(|record| plan(&record.event)).unwrap();
        assert!(verdict.starts_with("stale_resolver_transient"), "{verdict}");
        assert_eq!(lease_s, lease, "{ttls:?}");
    }
}
