//! Killed anywhere, told twice, told late: nothing is lost and nothing that matters is done twice.

use proptest::prelude::*;
use ukai_core::engine::Engine;
use ukai_core::event::{Event, Recorded};
use ukai_core::input::Input;
use ukai_core::state::State;

use crate::play::Play;
use crate::world::*;

#[derive(Debug, Clone)]
enum Move {
    CarryOut,
    CarryOutLast,
    RepeatFirst,
    DropFirst,
    Wait(i64),
    Stale,
    Heal,
    Foreign,
    Approve,
    Reject,
    RevertAll,
    Freeze,
    Thaw,
    Crash,
    ApplicationFails,
    ApplicationWorks,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let step = prop_oneof![
        12 => Just(Move::CarryOut),
        2 => Just(Move::CarryOutLast),
        2 => Just(Move::RepeatFirst),
        1 => Just(Move::DropFirst),
        12 => (1i64..40).prop_map(Move::Wait),
        3 => Just(Move::Stale),
        2 => Just(Move::Heal),
        1 => Just(Move::Foreign),
        4 => Just(Move::Approve),
        1 => Just(Move::Reject),
        1 => Just(Move::RevertAll),
        1 => Just(Move::Freeze),
        1 => Just(Move::Thaw),
        2 => Just(Move::Crash),
        1 => Just(Move::ApplicationFails),
        1 => Just(Move::ApplicationWorks),
    ];
    prop::collection::vec(step, 1..60)
}

fn play_move(play: &mut Play, step: Move) {
    match step {
        Move::CarryOut => {
            play.carry_out();
        }
        Move::CarryOutLast => {
            if let Some(last) = play.waiting.pop() {
                play.waiting.insert(0, last);
                play.carry_out();
            }
        }
        Move::RepeatFirst => {
            if let Some(first) = play.waiting.first().cloned() {
                play.waiting.push(first);
            }
        }
        Move::DropFirst => {
            if !play.waiting.is_empty() {
                play.waiting.remove(0);
            }
        }
        Move::Wait(seconds) => play.run_for(seconds),
        Move::Stale => play.world.go_stale(),
        Move::Heal => play.world.heal(),
        Move::Foreign => {
            play.world.hosts.insert(ip(NEW), Host::Foreign);
        }
        Move::Approve => {
            let pending = play.engine.state().overrides.values().any(|over| over.phase.is_pending());
            if pending {
                play.approve();
            }
        }
        Move::Reject | Move::RevertAll => {
            let why = String::new();
            play.command(ukai_core::input::Command::RevertAll { why }, 7);
        }
        Move::Freeze => {
            play.command(ukai_core::input::Command::Freeze { why: String::new() }, 7);
        }
        Move::Thaw => play.command(ukai_core::input::Command::Thaw { why: String::new() }, 7),
        Move::Crash => play.crash(),
        Move::ApplicationFails => play.application_calls(false, OLD, 6),
        Move::ApplicationWorks => play.application_calls(true, NEW, 3),
    }
}

/// No apply without an approval in the log before it; and nothing is applied that is not announced there.
fn check_applies(play: &Play) {
    for (place, record) in play.log.iter().enumerate() {
        let Event::ApplyStarted { id, .. } = &record.event else { continue };
        let approved = play.log[..place]
            .iter()
            .any(|before| matches!(&before.event, Event::OverrideApproved { id: of, .. } if of == id));
        assert!(approved, "{id} was applied without an approval");
    }
    for served in &play.applied {
        let announced = play.log.iter().any(|record| match &record.event {
            Event::ApplyStarted { id, generation, addresses, .. }
            | Event::FollowStarted { id, generation, addresses } => {
                (id, *generation, addresses) == (&served.id, served.generation, &served.addresses)
            }
            _ => false,
        });
        assert!(announced, "{served:?} was applied before the log said so");
        assert!(!served.addresses.contains(&ip(EVIL)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn replay_equals_live_whatever_happens(steps in moves()) {
        let mut play = Play::new(World::healthy());
        play.run_for(30);
        for step in steps {
            play_move(&mut play, step);
            let replayed = Engine::replay(play.log.clone());
            prop_assert_eq!(replayed.state(), play.engine.state());
        }
        check_applies(&play);
    }

}

proptest! {
    // Each case lives through more than a day of rounds.
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_override_ends(steps in moves()) {
        let mut play = Play::new(World::healthy());
        play.run_for(30);
        for step in steps {
            play_move(&mut play, step);
        }
        play.run_for(30 * 3600);
        let standing = play.engine.state().overrides.values().any(|over| over.phase.may_stand());
        prop_assert!(!standing);
        prop_assert_eq!(&play.world.served, &None);
    }
}

#[test]
fn a_crash_after_every_single_event_of_a_detour_ends_well() {
    let mut steps = 0;
    for crash_after in 0..200 {
        let mut play = Play::new(World::healthy());
        let mut crashed = false;
        play.run_for(30);
        play.world.go_stale();
        let base = play.log.len();
        for _ in 0..600 {
            if !crashed && play.log.len() >= base + crash_after {
                play.crash();
                crashed = true;
            }
            let pending =
                play.engine.state().overrides.values().any(|over| over.phase == ukai_core::overrides::Phase::Proposed);
            if pending {
                play.approve();
            } else if !play.carry_out() {
                let at = play.engine.poll_timeout().unwrap();
                play.world.now = play.world.now.max(at);
                play.input(Input::Tick);
            }
            if play.saw(|event| matches!(event, Event::OverrideServed { .. })) {
                break;
            }
        }
        assert_eq!(play.world.served, Some(set(&[NEW])), "crash after {crash_after} events");
        check_applies(&play);
        play.world.heal();
        play.run_for(600);
        assert_eq!(play.world.served, None, "crash after {crash_after} events");
        assert!(play.saw(|event| matches!(event, Event::IncidentClosed { .. })));
        steps = steps.max(play.log.len() - base);
        if !crashed {
            break;
        }
    }
    assert!(steps > 15);
}

#[test]
fn records_survive_their_own_format() {
    let mut play = Play::new(World::healthy());
    play.run_for(60);
    play.world.go_stale();
    play.run_for(30);
    play.approve();
    play.run_for(60);
    let again: Vec<Recorded> =
        play.log.iter().map(|record| serde_json::from_str(&serde_json::to_string(record).unwrap()).unwrap()).collect();
    assert_eq!(again, play.log);
    let state = State::fold(&again);
    assert_eq!(&state, play.engine.state());
    let json = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<State>(&json).unwrap(), state);
}

/// Served, and looked at only once a minute.
fn served() -> Play {
    let mut play = Play::new(World::healthy());
    play.run_for(30);
    play.world.go_stale();
    play.run_for(30);
    play.approve();
    play.run_for(10);
    assert_eq!(play.world.served, Some(set(&[NEW])));
    play
}

#[test]
fn what_stands_is_followed_after_a_crash_and_after_a_reload_as_well() {
    let crash = |play: &mut Play| play.crash();
    let reload = |play: &mut Play| {
        let mut settings = play.world.settings();
        settings.peers.get_mut("api").unwrap().interval *= 2;
        play.input(Input::Reconfigured { settings: Box::new(settings) });
    };
    for forget in [crash, reload as fn(&mut Play)] {
        let mut play = served();
        forget(&mut play);
        let newest = "192.0.102.1";
        play.world.authority = servers(&[newest]);
        play.world.independents = set(&[newest]);
        play.world.hosts.insert(ip(newest), Host::Serves);
        play.run_for(90);
        assert_eq!(play.world.served, Some(set(&[newest])));
    }
}

#[test]
fn a_verification_that_a_reload_forgot_is_begun_anew() {
    let mut play = Play::new(World::healthy());
    play.run_for(30);
    play.world.go_stale();
    play.run_for(30);
    play.approve();
    for _ in 0..200 {
        if play.saw(|event| matches!(event, Event::Applied { .. })) {
            break;
        }
        assert!(play.carry_out(), "nothing is on its way");
    }
    assert!(!play.saw(|event| matches!(event, Event::OverrideServed { .. })));
    play.waiting.clear();
    let mut settings = play.world.settings();
    settings.peers.get_mut("api").unwrap().interval *= 2;
    play.input(Input::Reconfigured { settings: Box::new(settings) });
    play.run_for(5);
    assert!(play.saw(|event| matches!(event, Event::OverrideServed { .. })));
}

#[test]
fn what_a_person_took_back_offline_is_told_with_who_and_why() {
    let mut play = served();
    play.crash();
    play.world.served = None;
    let ended = Input::ProviderEnded { id: "ovr-1".into(), why: "by hand".into(), offline_by: Some(person(7)) };
    play.input(ended.clone());
    play.input(ended);
    play.run_for(5);
    let ends = play.log.iter().filter(|record| matches!(record.event, Event::OverrideEnded { .. })).count();
    assert_eq!(ends, 1);
    let told = play.log.iter().rev().find_map(|record| match &record.event {
        Event::NotificationQueued { notification, .. } if notification.subject.contains("ended") => Some(notification),
        _ => None,
    });
    let text = &told.unwrap().text;
    assert!(text.contains(&person(7).name) && text.contains("by hand"), "{text}");
}

#[test]
fn what_was_only_approved_is_not_applied_after_it_was_taken_back_offline() {
    let mut play = Play::new(World::healthy());
    play.run_for(30);
    play.world.go_stale();
    play.run_for(30);
    play.approve();
    play.crash();
    play.input(Input::ProviderEnded { id: "ovr-1".into(), why: "by hand".into(), offline_by: Some(person(7)) });
    play.run_for(60);
    assert_eq!(play.applied.len(), 0);
    assert!(play.saw(|event| matches!(event, Event::OverrideRejected { by, .. } if by.uid == Some(7))));
}
