//! Overrides in a zone of somebody else's, which ends nothing by itself.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use ukai_core::diagnose::diagnose;
use ukai_core::diagnose::evidence::{Evidence, Outcome, Purpose, Source};
use ukai_core::diagnose::reading::Reading;
use ukai_core::plan::{Provided, draw_up, select};

use ukai_core::effect::{Effect, ServedOverride};
use ukai_core::event::Event;
use ukai_core::input::{Command, Input, ServedNow};
use ukai_core::overrides::{EndReason, Phase};
use ukai_core::peer::Level;

use crate::play::{Play, reconf, serve, world};
use crate::world::{Host, NEW, World, case, history, ip, servers, set};

const ZONE: &str = "the zone rpz.ukai.test at 192.0.2.53:53";

/// An override that stands, and its id.
pub fn served() -> (Play, String) {
    let mut play = Play::new(world(Level::Approve));
    with_the_zone(&mut play);
    let play = serve(play, Level::Approve);
    let id = play.engine.state().overrides.keys().next().unwrap().clone();
    assert!(play.engine.state().overrides[&id].phase.stands());
    (play, id)
}

pub fn with_the_zone(play: &mut Play) {
    reconf(play, |settings| {
        settings.zone = Some(ZONE.to_owned());
        settings.hides_types = true;
    });
}

pub fn listed(served: &ServedOverride) -> ServedNow {
    ServedNow {
        id: served.id.clone(),
        host: served.host.clone(),
        generation: served.generation,
        addresses: served.addresses.clone(),
        expires_at: served.expires_at,
    }
}

/// Lets time go on; withdrawals fail.
fn cut_off_for(play: &mut Play, duration: SignedDuration) {
    let end = play.world.now + duration;
    while let Some(at) = play.engine.poll_timeout().filter(|at| *at <= end) {
        match play.waiting.first().cloned() {
            Some(Effect::Withdraw { id, generation, .. }) => {
                play.waiting.remove(0);
                play.input(Input::Withdrawn { id, generation, result: Err("the zone cannot be reached".into()) });
            }
            Some(_) => drop(play.carry_out()),
            None => {
                play.world.now = play.world.now.max(at);
                play.input(Input::Tick);
            }
        }
    }
    play.world.now = end;
}

#[test]
fn what_cannot_be_taken_out_is_not_called_ended_by_its_lease() {
    let (mut play, id) = served();
    play.command(Command::Revert { id: id.clone(), why: "enough".into() }, 1);
    cut_off_for(&mut play, SignedDuration::from_hours(6));
    assert!(matches!(play.engine.state().overrides[&id].phase, Phase::Withdrawing(_)));
    let told = |part: &str| {
        play.log
            .iter()
            .filter(|record| matches!(&record.event, Event::NotificationQueued { notification, .. } if notification.page && notification.text.contains(part)))
            .count()
    };
    assert_eq!((told("cannot be withdrawn yet: the zone cannot be reached"), told("its lease is over")), (1, 1));
    assert!(told(ZONE) > 0);
    // The zone is there again.
    play.run_for(600);
    assert_eq!(play.engine.state().overrides[&id].phase, Phase::Ended(EndReason::RevertedByPerson));
}

#[test]
fn a_change_of_what_is_gone_is_given_up() {
    const NEWER: &str = "192.0.102.1";
    let (mut play, id) = served();
    play.world.authority = servers(&[NEWER]);
    play.world.independents = set(&[NEWER]);
    play.world.hosts.insert(ip(NEWER), Host::Serves);
    play.world.hosts.insert(ip(NEW), Host::Silent);
    let refused = || Err("generation 1 was expected, but no such override stands".to_owned());
    let mut refusals = 0;
    let end = play.world.now + SignedDuration::from_mins(5);
    while let Some(at) = play.engine.poll_timeout().filter(|at| *at <= end) {
        match play.waiting.first().cloned() {
            Some(Effect::Apply(change)) => {
                play.waiting.remove(0);
                refusals += 1;
                play.input(Input::Applied { id: change.id, generation: change.generation, result: refused() });
                play.input(Input::ProviderListed { serving: Vec::new() });
            }
            Some(_) => drop(play.carry_out()),
            None => {
                play.world.now = play.world.now.max(at);
                play.input(Input::Tick);
            }
        }
    }
    assert!(refusals >= 1, "the peer has moved on, and what is served follows");
    assert!(refusals <= 3, "{refusals}");
    assert_eq!(play.engine.state().overrides[&id].phase, Phase::Ended(EndReason::Withdrawn));
}

#[test]
fn what_ended_and_stands_is_asked_for_once_a_minute() {
    let (mut play, id) = served();
    let standing = listed(play.applied.last().unwrap());
    play.command(Command::Revert { id: id.clone(), why: "enough".into() }, 1);
    play.run_for(10);
    assert_eq!(play.engine.state().overrides[&id].phase, Phase::Ended(EndReason::RevertedByPerson));
    let mut asked = 0;
    for _ in 0..24 {
        play.input(Input::ProviderListed { serving: vec![standing.clone()] });
        asked += play.waiting.iter().filter(|effect| matches!(effect, Effect::Withdraw { .. })).count();
        play.waiting.retain(|effect| !matches!(effect, Effect::Withdraw { .. }));
        play.run_for(5);
    }
    assert_eq!(asked, 2);
}

#[test]
fn a_plan_says_what_else_it_changes() {
    let world = World::stale();
    let (history, peer) = (history(), world.peer());
    let mut evidence = world.evidence(Purpose::Diagnose, &BTreeSet::new());
    let mind = |evidence: &Evidence, zone: Option<&str>| {
        let provided = Provided { zone, hides_types: zone.is_some() };
        let case = case(&history, &peer, evidence);
        let (reading, verdict) = (Reading::of(&case), diagnose(&case));
        draw_up(&reading, &verdict, "inc-1", &select(&reading), Vec::new(), &provided).mind
    };
    assert!(mind(&evidence, None).is_empty());
    assert!(mind(&evidence, Some(ZONE))[0].contains("MX"), "a policy zone answers for every type of a name");
    let vouched = evidence.asked.iter_mut().find(|asked| {
        asked.source == Source::Independent && asked.answer().is_some_and(|answer| !answer.addresses.is_empty())
    });
    if let Some(Outcome::Answered(answer)) = vouched.map(|asked| &mut asked.outcome) {
        answer.authentic_data = true;
    }
    let minded = mind(&evidence, None);
    assert!(minded.len() == 1 && minded[0].contains("DNSSEC"), "{minded:?}");
}
