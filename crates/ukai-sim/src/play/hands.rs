//! Effects carried out against the world, each answered after the time that it takes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ukai_core::diagnose::evidence::Purpose;
use ukai_core::effect::Effect;
use ukai_core::input::{Input, Verification};
use ukai_core::observe::{Observation, Path};

use super::{Due, Play};
use crate::world::Ms;
use crate::world::gather::Order;
use crate::world::observe::{EMBEDDED, OUR_RESOLVER};
use crate::world::zone::Kind;

/// Until a notification has arrived, and until a report is written.
const NOTIFIED_MS: Ms = 20;
const WRITTEN_MS: Ms = 100;
const QUERY_MS: Ms = 2_000;

pub fn carry_out(play: &mut Play<'_>, effect: Effect) {
    match effect {
        Effect::Probe { id, peer, path } => {
            let Some(place) = place(play, &peer) else { return };
            if play.is_starved() {
                return;
            }
            let (observations, took) = observe(play, place, path);
            later(play, took, Input::Observed { id, peer, observations });
        }
        Effect::ProbeControls { id } => {
            if play.is_starved() {
                return;
            }
            let (results, took) = play.worlds[0].probe_controls(play.now);
            later(play, took, Input::ControlsObserved { id, results });
        }
        Effect::Gather { id, peer, purpose, also, known } => {
            let Some(place) = place(play, &peer) else { return };
            if play.is_starved() {
                return;
            }
            let now = play.now;
            let beside: &[Kind] = if purpose == Purpose::Standing { &Kind::BESIDE } else { &[] };
            let kinds = Kind::FAMILIES.iter().chain(beside);
            let embedded =
                kinds.map(|kind| (*kind, play.embedded.answer(&mut play.worlds[place], *kind, now))).collect();
            let order = Order { id, purpose, also, known, embedded, connected: play.apps[place].connected() };
            let (gathering, again) = play.worlds[place].gather(order, now);
            play.queue.push(again, Due::GatherAgain(play.generation, place, Box::new(gathering)));
        }
        Effect::Apply(served) => {
            let Some(place) = play.worlds.iter().position(|world| world.layout.host == served.host) else { return };
            let (result, took) = play.embedded.apply(&play.worlds[place], &served, play.now);
            later(play, took, Input::Applied { id: served.id, generation: served.generation, result });
        }
        Effect::Withdraw { id, generation, .. } => {
            let place = play.owners.get(&id).copied().unwrap_or(0);
            let (result, took) = play.embedded.withdraw(&play.worlds[place], &id);
            later(play, took, Input::Withdrawn { id, generation, result });
        }
        Effect::Verify { id, generation, peer, .. } => {
            let Some(place) = place(play, &peer) else { return };
            let (verification, took) = verify(play, place);
            later(play, took, Input::Verified { id, generation, verification });
        }
        Effect::Notify { notification, subscriber } => {
            if notification.page {
                let place = place(play, &notification.peer);
                for place in 0..play.seen.len() {
                    let concerned =
                        notification.peer.is_empty() || self::place(play, &notification.peer) == Some(place);
                    if concerned {
                        play.queue.push(play.now + NOTIFIED_MS, Due::Paged(place));
                    }
                }
                debug_assert!(place.is_some() || notification.peer.is_empty());
            }
            let key = notification.key;
            later(play, NOTIFIED_MS, Input::NotificationSent { key, subscriber, attempts: 1, result: Ok(()) });
        }
        Effect::WriteReport { incident } => {
            let result = Ok(vec![format!("{incident}.md")]);
            later(play, WRITTEN_MS, Input::ReportWritten { incident, result });
        }
        Effect::Reply { .. } => {}
    }
}

fn place(play: &Play<'_>, peer: &str) -> Option<usize> {
    play.worlds.iter().position(|world| world.peer() == peer)
}

fn later(play: &mut Play<'_>, took: Ms, input: Input) {
    play.queue.push(play.now + took, Due::Input(play.generation, Box::new(input)));
}

fn observe(play: &mut Play<'_>, place: usize, path: Path) -> (Vec<Observation>, Ms) {
    let now = play.now;
    let world = &mut play.worlds[place];
    let (resolver, answers) = match path {
        Path::Normal => (EMBEDDED, Kind::FAMILIES.map(|kind| play.embedded.answer(world, kind, now))),
        Path::Bypass | Path::Chosen => (OUR_RESOLVER, Kind::FAMILIES.map(|kind| world.our_resolver_whole(kind, now))),
    };
    let (resolution, took) = world.resolution(resolver, answers);
    world.observe(path, &resolution, took, now)
}

fn verify(play: &mut Play<'_>, place: usize) -> (Verification, Ms) {
    let now = play.now;
    let world = &mut play.worlds[place];
    let answers = Kind::FAMILIES.map(|kind| play.embedded.answer(world, kind, now));
    let silent = answers.iter().any(Option::is_none);
    let addresses: BTreeSet<IpAddr> = answers.iter().flatten().flat_map(|reply| reply.addresses.clone()).collect();
    let said = || if silent { Err("no answer within 3 s".to_owned()) } else { Ok(addresses.clone()) };
    let (observations, took) = observe(play, place, Path::Normal);
    let verification = Verification { at_server: said(), by_resolver: said(), observations };
    (verification, took.max(if silent { QUERY_MS } else { 0 }))
}
