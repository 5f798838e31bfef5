//! The peer's own servers give no address any more (S26): a person may confirm where it was before, and nothing else may.

use crate::play::{Play, world};
use crate::world::*;
use ukai_core::diagnose::evidence::Rcode;
use ukai_core::diagnose::history::History;
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
