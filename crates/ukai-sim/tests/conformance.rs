//! Every built-in scenario, in virtual time, comes to what its file expects: the same words as on real sockets.

use ukai_lab::crossed::Staging;
use ukai_lab::runner::catalogue::ENTRIES;
use ukai_lab::runner::judge::judge;
use ukai_sim::{Ending, play};

/// Times in the network, rotations and luck are others with each seed; what is concluded is not.
const SEEDS: u64 = 5;

#[test]
fn every_built_in_scenario_holds() {
    let mut wrong = Vec::new();
    for (entry, seed) in ENTRIES.iter().flat_map(|entry| (1..=SEEDS).map(move |seed| (entry, seed))) {
        let staging = Staging::plain(entry.parse().unwrap());
        let played = play(&staging, seed, Ending::AsDrill);
        let checks = judge(&staging.scenario, &played.seen);
        assert!(!checks.is_empty(), "{} states nothing", entry.id);
        for check in checks.into_iter().filter(|check| !check.held) {
            let (what, expected, saw) = (check.what, check.expected, check.seen);
            wrong.push(format!("{} (seed {seed}): {what}: expected {expected}, saw {saw}", entry.id));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let log = |seed| play(&Staging::plain(ENTRIES[0].parse().unwrap()), seed, Ending::AsDrill).log;
    let first = log(7);
    assert!(first.len() > 20);
    assert_eq!(first, log(7));
    assert_ne!(first, log(8), "the seed moves nothing");
}
