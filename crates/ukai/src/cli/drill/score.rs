//! How drills ended: one line each, the table over all of them, and who was taken for whom.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use ukai_lab::runner::DrillOutcome;

use crate::cli::paint::{Painted, Table, Tone};

/// One drill in one line.
pub fn line(outcome: &DrillOutcome) -> String {
    let (tone, word) = if outcome.passed { (Tone::Good, "PASSED") } else { (Tone::Bad, "FAILED") };
    let mut text = format!("{} {} {}", Painted(tone, word), outcome.id, outcome.title);
    let failed: Vec<String> = outcome
        .checks
        .iter()
        .filter(|check| !check.held)
        .map(|check| format!("{}: expected {}, seen {}", check.what, check.expected, check.seen))
        .collect();
    if !failed.is_empty() {
        text.push_str(&format!(" ({})", failed.join("; ")));
    }
    text
}

pub fn print(outcomes: &[DrillOutcome]) {
    let mut table = Table::with_header(&[
        "drill", "expected", "given", "sure", "expected", "done", "alarm", "verdict", "served", "result",
    ]);
    for outcome in outcomes {
        let times = &outcome.times;
        let row = vec![
            outcome.id.clone(),
            any_of(&outcome.expected.verdict),
            given(outcome.verdict.as_deref()),
            given(outcome.sure.as_deref()),
            any_of(&outcome.expected.action),
            outcome.action.clone(),
            seconds(times.to_alarm_ms),
            seconds(times.alarm_to_verdict_ms),
            seconds(times.to_served_ms),
            result(outcome).to_owned(),
        ];
        table.row(if outcome.passed { Tone::Plain } else { Tone::Bad }, row);
    }
    anstream::print!("\n{table}");
    anstream::println!(
        "{}",
        Painted(
            Tone::Faint,
            "  alarm: from the first fault; verdict: the first, from the alarm; served: from the fault"
        )
    );
    anstream::print!("\n{}", matrix(outcomes));
    for outcome in outcomes.iter().filter(|outcome| !outcome.passed) {
        if let Some(trouble) = &outcome.trouble {
            anstream::println!("{}", Painted(Tone::Bad, format_args!("{}: {trouble}", outcome.id)));
        }
        if let Some(directory) = &outcome.directory {
            anstream::println!("{}", Painted(Tone::Faint, format_args!("{}: {}", outcome.id, directory.display())));
        }
    }
    let tone = if outcomes.iter().all(|outcome| outcome.passed) { Tone::Good } else { Tone::Bad };
    anstream::println!("\n{}", Painted(tone, sum(outcomes)));
}

/// Rows: what was right; columns: what was said. A letter stands for a code.
fn matrix(outcomes: &[DrillOutcome]) -> String {
    let told: Vec<(String, String)> = outcomes.iter().filter_map(pair).collect();
    let codes: BTreeSet<&str> = told.iter().flat_map(|(right, said)| [right.as_str(), said.as_str()]).collect();
    let codes: Vec<&str> = codes.into_iter().collect();
    let letters: Vec<char> = ('a'..='z').chain('A'..='Z').take(codes.len()).collect();
    let width = codes.iter().map(|code| code.len()).max().unwrap_or(0);
    let mut text = format!("  {:width$}    said\n  {:width$}   ", "right", "");
    letters.iter().for_each(|letter| text.push_str(&format!(" {letter}")));
    text.push('\n');
    for (row, letter) in codes.iter().zip(&letters) {
        text.push_str(&format!("  {row:width$}  {letter}"));
        for column in &codes {
            let count = told.iter().filter(|(right, said)| right == row && said == column).count();
            text.push_str(&if count == 0 { " ·".to_owned() } else { format!(" {count}") });
        }
        text.push('\n');
    }
    text
}

/// Where any of several is right, what was said counts as right if it is one of them.
fn pair(outcome: &DrillOutcome) -> Option<(String, String)> {
    let said = given(outcome.verdict.as_deref());
    let right = outcome.expected.verdict.iter().find(|code| **code == said).or(outcome.expected.verdict.first())?;
    Some((right.clone(), said))
}

pub fn json(outcomes: &[DrillOutcome]) -> Value {
    let times = verdict_times(outcomes);
    json!({
        "kind": "score",
        "drills": outcomes.len(),
        "passed": count(outcomes, |outcome| outcome.passed),
        "wrong_overrides": count(outcomes, |outcome| outcome.wrong_override),
        "missed_overrides": count(outcomes, |outcome| outcome.missed_override),
        "wrong_actions": count(outcomes, DrillOutcome::wrong_action),
        "wrong_verdicts": count(outcomes, DrillOutcome::wrong_verdict),
        "wrong_and_proven": count(outcomes, DrillOutcome::wrong_and_proven),
        "confusion": outcomes.iter().filter_map(pair).collect::<Vec<_>>(),
        "alarm_to_verdict_ms": { "median": median(&times), "worst": times.last() },
    })
}

fn sum(outcomes: &[DrillOutcome]) -> String {
    let times = verdict_times(outcomes);
    format!(
        "{} of {} drills passed; {} wrong overrides, {} missed, {} wrong actions; {} wrong verdicts, {} of them called proven; \
         from alarm to verdict {} (median), {} (worst)",
        count(outcomes, |outcome| outcome.passed),
        outcomes.len(),
        count(outcomes, |outcome| outcome.wrong_override),
        count(outcomes, |outcome| outcome.missed_override),
        count(outcomes, DrillOutcome::wrong_action),
        count(outcomes, DrillOutcome::wrong_verdict),
        count(outcomes, DrillOutcome::wrong_and_proven),
        seconds(median(&times)),
        seconds(times.last().copied()),
    )
}

fn count(outcomes: &[DrillOutcome], of: impl Fn(&DrillOutcome) -> bool) -> usize {
    outcomes.iter().filter(|outcome| of(outcome)).count()
}

fn verdict_times(outcomes: &[DrillOutcome]) -> Vec<u64> {
    let mut times: Vec<u64> = outcomes.iter().filter_map(|outcome| outcome.times.alarm_to_verdict_ms).collect();
    times.sort_unstable();
    times
}

fn median(sorted: &[u64]) -> Option<u64> {
    sorted.get(sorted.len() / 2).copied()
}

fn result(outcome: &DrillOutcome) -> &'static str {
    match (outcome.wrong_override, outcome.missed_override, outcome.wrong_and_proven(), outcome.passed) {
        (true, ..) => "WRONG OVERRIDE",
        (_, true, ..) => "MISSED OVERRIDE",
        (_, _, true, _) => "WRONG AND PROVEN",
        (.., true) => "passed",
        (.., false) => "FAILED",
    }
}

fn any_of<T: AsRef<str>>(words: &[T]) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    if words.is_empty() { "-".to_owned() } else { words.join("|") }
}

fn given(word: Option<&str>) -> String {
    word.unwrap_or("none").to_owned()
}

fn seconds(ms: Option<u64>) -> String {
    ms.map_or_else(|| "-".to_owned(), |ms| format!("{}.{} s", ms / 1000, ms % 1000 / 100))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ukai_lab::runner::{Check, Expected, Times};

    fn outcome(given: &str, sure: &'static str) -> DrillOutcome {
        let passed = given == "peer_down";
        DrillOutcome {
            id: "S06".into(),
            title: "The peer is down".into(),
            passed,
            checks: vec![Check { what: "verdict", expected: "peer_down".into(), seen: given.into(), held: passed }],
            trouble: None,
            wrong_override: false,
            missed_override: false,
            expected: Expected { verdict: vec!["peer_down".into()], sure: vec![], action: vec!["none"] },
            verdict: Some(given.into()),
            sure: Some(sure.into()),
            action: "none".into(),
            times: Times { alarm_to_verdict_ms: Some(1300), ..Times::default() },
            kills: 0,
            reports: Vec::new(),
            directory: None,
        }
    }

    #[test]
    fn what_did_not_hold_is_named() {
        let text = anstream::adapter::strip_str(&line(&outcome("peer_http", "likely"))).to_string();
        assert_eq!(text, "FAILED S06 The peer is down (verdict: expected peer_down, seen peer_http)");
    }

    #[test]
    fn what_is_wrong_is_counted_by_how_wrong_it_is() {
        let wrong =
            DrillOutcome { wrong_override: true, action: "override".into(), ..outcome("stale_resolver", "proven") };
        let outcomes = [outcome("peer_down", "proven"), outcome("peer_http", "likely"), wrong];
        let score = json(&outcomes);
        for (what, expected) in [
            ("passed", 1),
            ("wrong_overrides", 1),
            ("wrong_actions", 1),
            ("wrong_verdicts", 2),
            ("wrong_and_proven", 1),
        ] {
            assert_eq!(score[what], expected, "{what}");
        }
        assert_eq!(score["alarm_to_verdict_ms"]["median"], 1300);
        assert_eq!(result(&outcomes[2]), "WRONG OVERRIDE");
        assert_eq!(result(&outcome("own_egress", "proven")), "WRONG AND PROVEN");
    }

    #[test]
    fn the_matrix_shows_who_was_taken_for_whom() {
        let text =
            matrix(&[outcome("peer_down", "proven"), outcome("peer_down", "likely"), outcome("peer_http", "likely")]);
        assert!(text.contains("peer_down  a 2 1\n"), "{text}");
        assert!(text.contains("peer_http  b · ·\n"), "{text}");
    }

    #[test]
    fn figures() {
        assert_eq!(seconds(Some(4_260)), "4.2 s");
        assert_eq!(seconds(None), "-");
    }
}
