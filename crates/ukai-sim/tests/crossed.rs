//! The crossed set holds: no wrong action, no wrong verdict that is called proven, and few that are wrong.

use ukai_lab::crossed::allowed::ALLOWED;
use ukai_lab::crossed::judge::rows;
use ukai_lab::crossed::{Combination, Judged, crossed};
use ukai_lab::runner::catalogue::ENTRIES;
use ukai_lab::scenario::Scenario;
use ukai_sim::crossed::{Score, play_all};

const SEED: u64 = 1;
const PAIRS: usize = 8;
const COMBINATIONS_MIN: usize = 300;

#[test]
fn every_combination_is_treated_rightly() {
    let scenarios: Vec<Scenario> = ENTRIES.iter().map(|entry| entry.parse().unwrap()).collect();
    let combinations = crossed(&scenarios, SEED, PAIRS);
    assert!(combinations.len() >= COMBINATIONS_MIN, "only {} combinations", combinations.len());
    let judged = play_all(&combinations, SEED, || {});
    let score = Score::of(&judged);
    for (combination, judged) in combinations.iter().zip(&judged) {
        if let Some(why) = &judged.wrong_action {
            println!("WRONG ACTION  {}: {why} [{} {}]", combination.name(), judged.verdict, judged.sure);
        }
        if !judged.verdict_right {
            println!(
                "verdict       {}: {} {} ({})",
                combination.name(),
                judged.verdict,
                judged.sure,
                judged.right.join(", ")
            );
        }
    }
    println!("{score:?}");
    for row in ALLOWED {
        let needs = |(combination, judged): (&Combination, &Judged)| {
            let own = &combination.staging.scenario.expect.verdict;
            let by_verdict = row.verdicts.contains(&judged.verdict.as_str()) && !own.contains(&judged.verdict);
            rows(combination).iter().any(|known| known.why == row.why)
                && (by_verdict || judged.open_because == Some(row.why))
        };
        assert!(combinations.iter().zip(&judged).any(needs), "no combination needs the row {row:?}");
    }
    assert!(score.holds(), "{score:?}");
}
