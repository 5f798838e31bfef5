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

/// Faults of the rules that are known and not mended yet: scenarios or families of them, modifiers, what is wrong. They are left out of the
/// score, and one that nothing needs any more is taken off.
const KNOWN: &[(&[&str], &[&str], &str)] = &[
    (
        &[
            "S01", "S02a", "S02b", "S03", "S08", "S09", "S11b", "S11c", "S12b", "S13b", "S25", "S28", "S36", "S37",
            "S38b", "S40b",
        ],
        &["clock-2h-behind", "clock-2h-ahead"],
        "one address that is dead hides that the others, and every control, fail on dates: peer_down instead of clock_skew",
    ),
    (
        &["S01", "S02a", "S04b", "S25"],
        &["200-addresses"],
        "a revert wants the identity of every address that is answered, and thirty-two are proved: it never comes",
    ),
    (
        &["S11"],
        &["flapping-7s"],
        "an incident about an identity is closed while the stranger answers, and its key is not looked at again",
    ),
    (
        &["S11", "S40"],
        &["and-port-53-is-closed"],
        "a new identity is looked for at the addresses of the peer's own servers alone, and none of them is heard",
    ),
    (
        &["S16", "S36"],
        &["shared-address"],
        "peer_cert is called proven although another vantage, or another region, shows the right certificate",
    ),
    (
        &["S01", "S25", "S37"],
        &["resolver-truncates"],
        "over TCP our resolver is asked once, and one reading of a TTL is taken for one that falls: a brief lease, and called proven",
    ),
    (
        &["S04b"],
        &["other-records"],
        "our server forwards every other type, and its denial is our resolver's own: a right override is taken for what hides them",
    ),
    (
        &["S38"],
        &["and-the-peer-fails"],
        "peer_down is called proven because another vantage fails too, whatever it fails at",
    ),
    (&["S28b"], &["*"], "most name servers are lame, and no rule explains it: open instead of lame_delegation"),
    (
        &["S12b", "S13b"],
        &["and-port-53-is-closed"],
        "what independent resolvers agree on is parked or private: peer_down instead of that",
    ),
];

fn is_known(combination: &Combination, known: &(&[&str], &[&str], &str)) -> bool {
    let id = combination.staging.scenario.id.as_str();
    let with = |modifier: &&str| *modifier == "*" || combination.modifiers.iter().any(|made| made.id == *modifier);
    let family = id.trim_end_matches(|c: char| c.is_ascii_lowercase());
    (known.0.contains(&id) || known.0.contains(&family)) && known.1.iter().any(with)
}

fn is_wrong(judged: &Judged) -> bool {
    judged.wrong_action.is_some() || judged.wrong_and_proven.is_some() || !judged.verdict_right
}

fn scenarios() -> Vec<Scenario> {
    ENTRIES.iter().map(|entry| entry.parse().unwrap_or_else(|error| panic!("{error}"))).collect()
}

#[test]
fn every_combination_is_treated_rightly() {
    let combinations = crossed(&scenarios(), SEED, PAIRS);
    assert!(combinations.len() >= COMBINATIONS_MIN, "only {} combinations", combinations.len());
    let judged = play_all(&combinations, SEED, || {});
    let all = || combinations.iter().zip(&judged);
    let mut counted = Vec::new();
    for (combination, judged) in all() {
        if KNOWN.iter().any(|known| is_known(combination, known)) {
            continue;
        }
        counted.push(judged.clone());
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
    let score = Score::of(&counted);
    println!("{score:?}");
    for known in KNOWN {
        let needed = all().any(|(combination, judged)| is_known(combination, known) && is_wrong(judged));
        assert!(needed, "this holds by now, and is still listed: {known:?}");
    }
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
