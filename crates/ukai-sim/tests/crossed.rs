//! The crossed set holds: no wrong action, no wrong verdict that is called proven, and few that are wrong.

use ukai_lab::crossed::allowed::ALLOWED;
use ukai_lab::crossed::judge::rows;
use ukai_lab::crossed::modifiers::MODIFIERS;
use ukai_lab::crossed::{Combination, Judged, crossed};
use ukai_lab::runner::catalogue::ENTRIES;
use ukai_lab::scenario::Scenario;
use ukai_sim::crossed::{Score, play_all, play_one};

const SEED: u64 = 1;
const PAIRS: usize = 4;
const COMBINATIONS_MIN: usize = 300;

fn scenarios() -> Vec<Scenario> {
    ENTRIES.iter().map(|entry| entry.parse().unwrap_or_else(|error| panic!("{error}"))).collect()
}

#[test]
fn every_combination_is_treated_rightly() {
    let combinations = crossed(&scenarios(), SEED, PAIRS);
    assert!(combinations.len() >= COMBINATIONS_MIN, "only {} combinations", combinations.len());
    let judged = play_all(&combinations, SEED, || {});
    let all = || combinations.iter().zip(&judged);
    for (combination, judged) in all() {
        let said = format!("{}: {} {}", combination.name(), judged.verdict, judged.sure);
        if let Some(code) = &judged.wrong_and_proven {
            println!("WRONG AND PROVEN {said}: {code} ({})", judged.right.join(", "));
        }
        match &judged.wrong_action {
            Some(why) => println!("WRONG ACTION {said}: {why}"),
            None if !judged.verdict_right => println!("verdict {said} ({})", judged.right.join(", ")),
            None => {}
        }
    }
    let score = Score::of(&judged);
    println!("{score:?}");
    for row in ALLOWED {
        let needs = |(combination, judged): (&Combination, &Judged)| {
            let own = &combination.staging.scenario.expect.verdict;
            let by_verdict = row.verdicts.contains(&judged.verdict.as_str()) && !own.contains(&judged.verdict);
            rows(combination).iter().any(|known| known.why == row.why)
                && (by_verdict || judged.open_because == Some(row.why))
        };
        assert!(all().any(needs), "no combination needs the row {row:?}");
    }
    for modifier in MODIFIERS {
        let used =
            combinations.iter().any(|combination| combination.modifiers.iter().any(|made| made.id == modifier.id));
        assert!(used, "{} has no meaning for any scenario", modifier.id);
    }
    assert!(score.holds(), "{score:?}");
}

#[test]
fn a_wrong_action_is_seen() {
    let scenario = scenarios().into_iter().find(|scenario| scenario.id == "S01").unwrap();
    let right = Combination::of(&scenario, &[]).unwrap();
    assert_eq!(play_one(&right, SEED).wrong_action, None);
    let mut unwanted = right.clone();
    unwanted.staging.scenario.expect.action = vec![ukai_lab::scenario::Action::None];
    unwanted.staging.scenario.expect.serves = None;
    assert!(play_one(&unwanted, SEED).wrong_action.unwrap().contains("where none is right"));
    let mut missed = right.clone();
    missed.staging.scenario.operators.clear();
    assert!(play_one(&missed, SEED).wrong_action.unwrap().starts_with("missed"));
    let mut elsewhere = right.clone();
    elsewhere.staging.scenario.expect.serves = Some(vec!["old-1".to_owned()]);
    // Where the peer's own servers lead is never wrong, wherever the file thought that it is.
    assert_eq!(play_one(&elsewhere, SEED).wrong_action, None);
    let closed = MODIFIERS.iter().find(|modifier| modifier.id == "nobody-approves").unwrap();
    let mut approved = Combination::of(&scenario, &[closed]).unwrap();
    approved.staging.scenario.operators = scenario.operators.clone();
    assert!(play_one(&approved, SEED).wrong_action.unwrap().contains("gate"));
}
