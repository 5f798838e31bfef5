//! `ukai drill --crossed`: every built-in outage under many conditions, in virtual time, and what was right.

use std::process::ExitCode;

use serde_json::{Value, json};
use ukai_lab::crossed::{Combination, Judged, crossed};
use ukai_lab::scenario::Scenario;
use ukai_sim::crossed::{Score, play_all};

use crate::cli::paint::{Painted, Table, Tone};
use crate::cli::{BROKEN, DONE};

pub const SEED: u64 = 1;
/// Pairs of modifiers for each scenario, besides each modifier alone.
const PAIRS: usize = 4;

pub fn run(scenarios: &[Scenario], seed: u64, json: bool) -> anyhow::Result<ExitCode> {
    let combinations = crossed(scenarios, seed, PAIRS);
    let progress = super::progress(combinations.len(), json);
    let judged = play_all(&combinations, seed, || progress.inc(1));
    progress.finish_and_clear();
    let score = Score::of(&judged);
    if json {
        judged.iter().for_each(|judged| anstream::println!("{}", line(judged)));
        anstream::println!("{}", sum_as_json(&score, seed));
    } else {
        print(scenarios, &combinations, &judged, &score);
    }
    Ok(ExitCode::from(if score.holds() { DONE } else { BROKEN }))
}

fn line(judged: &Judged) -> Value {
    json!({ "kind": "combination", "combination": judged })
}

fn sum_as_json(score: &Score, seed: u64) -> Value {
    json!({ "kind": "crossed", "seed": seed, "score": score, "holds": score.holds() })
}

fn print(scenarios: &[Scenario], combinations: &[Combination], judged: &[Judged], score: &Score) {
    let mut table =
        Table::with_header(&["drill", "played", "verdict right", "served", "open", "wrong actions", "title"]);
    for scenario in scenarios {
        let of: Vec<Judged> = judged.iter().filter(|judged| judged.scenario == scenario.id).cloned().collect();
        let sum = Score::of(&of);
        let served = of.iter().filter(|judged| judged.served).count();
        let wrong = sum.wrong_actions > 0 || sum.wrong_and_proven > 0;
        let tone = if wrong { Tone::Bad } else { Tone::Plain };
        let counts =
            [sum.combinations, sum.verdicts_right, served, sum.open, sum.wrong_actions].map(|count| count.to_string());
        table.row(tone, [vec![scenario.id.clone()], counts.to_vec(), vec![scenario.title.clone()]].concat());
    }
    anstream::print!("{table}");
    for (combination, judged) in combinations.iter().zip(judged) {
        if let Some((tone, text)) = remark(judged) {
            anstream::println!("{}", Painted(tone, format_args!("{}: {text}", combination.name())));
        }
    }
    let tone = if score.holds() { Tone::Good } else { Tone::Bad };
    anstream::println!("{}", Painted(tone, sum(score)));
}

/// What a reader must know of a combination beyond its row.
fn remark(judged: &Judged) -> Option<(Tone, String)> {
    let said = format!("{} ({})", judged.verdict, judged.sure);
    if let Some(why) = &judged.wrong_action {
        return Some((Tone::Bad, format!("WRONG ACTION: {why}; {said}")));
    }
    let right = judged.right.join(" or ");
    if let Some(code) = &judged.wrong_and_proven {
        return Some((Tone::Bad, format!("WRONG AND PROVEN: {code}, expected {right}; in the end {said}")));
    }
    if !judged.verdict_right {
        return Some((Tone::Warning, format!("wrong: {said}, expected {right}")));
    }
    judged.open_because.map(|why| (Tone::Faint, format!("open: {why}")))
}

fn sum(score: &Score) -> String {
    format!(
        "{} combinations: {} wrong actions; {} verdicts right ({:.1} %), {} wrong and called proven; {} open, {} of them without a reason",
        score.combinations,
        score.wrong_actions,
        score.verdicts_right,
        100.0 * score.verdicts_right as f64 / score.combinations.max(1) as f64,
        score.wrong_and_proven,
        score.open,
        score.open_without_reason,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(verdict_right: bool, sure: &str) -> Judged {
        Judged {
            scenario: "S06".into(),
            modifiers: vec!["slow"],
            verdict: "peer_http".into(),
            sure: sure.into(),
            action: "none".into(),
            right: vec!["peer_down".into()],
            verdict_right,
            wrong_and_proven: (!verdict_right && sure == "proven").then(|| "peer_http".into()),
            open: false,
            open_because: None,
            wrong_action: None,
            paged: true,
            served: false,
            app_recovered: false,
        }
    }

    #[test]
    fn what_is_wrong_is_said_and_what_is_right_is_not() {
        assert_eq!(remark(&judged(true, "proven")), None);
        let (tone, text) = remark(&judged(false, "likely")).unwrap();
        assert_eq!((tone, text.as_str()), (Tone::Warning, "wrong: peer_http (likely), expected peer_down"));
        assert!(remark(&judged(false, "proven")).unwrap().1.starts_with("WRONG AND PROVEN"));
        let harmful = Judged { wrong_action: Some("missed".into()), ..judged(true, "proven") };
        assert_eq!(remark(&harmful).unwrap().0, Tone::Bad);
        let open = Judged { open: true, open_because: Some("it is brief"), ..judged(true, "open") };
        assert_eq!(remark(&open).unwrap().1, "open: it is brief");
    }

    #[test]
    fn the_sum_decides() {
        let right = vec![judged(true, "proven"); 99];
        let mostly = Score::of(&[right.clone(), vec![judged(false, "likely")]].concat());
        assert!(mostly.holds(), "one wrong in a hundred, and only likely");
        assert!(sum(&mostly).starts_with("100 combinations: 0 wrong actions; 99 verdicts right (99.0 %)"));
        assert!(!Score::of(&[right, vec![judged(false, "proven")]].concat()).holds());
        assert_eq!(sum_as_json(&mostly, 7)["score"]["verdicts_right"], 99);
    }
}
