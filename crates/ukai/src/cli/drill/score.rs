//! How drills ended, one line each, and the table over all of them.

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
        "drill",
        "verdict",
        "sure",
        "action",
        "wrong",
        "missed",
        "alarm",
        "verdict",
        "served",
        "outage after",
        "result",
    ]);
    for outcome in outcomes {
        let times = &outcome.times;
        let row = vec![
            outcome.id.clone(),
            against(outcome, "verdict", outcome.verdict.as_deref()),
            against(outcome, "sure", outcome.sure.as_deref()),
            against(outcome, "action", Some(&outcome.action)),
            mark(outcome.wrong_override),
            mark(outcome.missed_override),
            seconds(times.to_alarm_ms),
            seconds(times.to_verdict_ms),
            seconds(times.to_served_ms),
            seconds(times.outage_after_action_ms),
            if outcome.passed { "passed" } else { "FAILED" }.to_owned(),
        ];
        table.row(if outcome.passed { Tone::Plain } else { Tone::Bad }, row);
    }
    anstream::print!("\n{table}");
    for outcome in outcomes.iter().filter(|outcome| !outcome.passed) {
        if let Some(trouble) = &outcome.trouble {
            anstream::println!("{}", Painted(Tone::Bad, format_args!("{}: {trouble}", outcome.id)));
        }
        if let Some(directory) = &outcome.directory {
            anstream::println!("{}", Painted(Tone::Faint, format_args!("{}: {}", outcome.id, directory.display())));
        }
    }
    let tone = if outcomes.iter().all(|outcome| outcome.passed) { Tone::Good } else { Tone::Bad };
    anstream::println!("{}", Painted(tone, sum(outcomes)));
}

pub fn json(outcomes: &[DrillOutcome]) -> Value {
    json!({
        "kind": "score",
        "drills": outcomes.len(),
        "passed": count(outcomes, |outcome| outcome.passed),
        "wrong_overrides": count(outcomes, |outcome| outcome.wrong_override),
        "missed_overrides": count(outcomes, |outcome| outcome.missed_override),
    })
}

fn sum(outcomes: &[DrillOutcome]) -> String {
    format!(
        "{} of {} drills passed; {} wrong overrides, {} missed",
        count(outcomes, |outcome| outcome.passed),
        outcomes.len(),
        count(outcomes, |outcome| outcome.wrong_override),
        count(outcomes, |outcome| outcome.missed_override),
    )
}

fn count(outcomes: &[DrillOutcome], of: impl Fn(&DrillOutcome) -> bool) -> usize {
    outcomes.iter().filter(|outcome| of(outcome)).count()
}

/// What was given, and what was expected where it is something else.
fn against(outcome: &DrillOutcome, what: &str, given: Option<&str>) -> String {
    let given = given.unwrap_or("-");
    match outcome.checks.iter().find(|check| check.what == what && !check.held) {
        Some(check) => format!("{given} (expected {})", check.expected),
        None => given.to_owned(),
    }
}

fn mark(is: bool) -> String {
    if is { "YES" } else { "-" }.to_owned()
}

fn seconds(ms: Option<u64>) -> String {
    ms.map_or_else(|| "-".to_owned(), |ms| format!("{}.{} s", ms / 1000, ms % 1000 / 100))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ukai_lab::runner::{Check, Times};

    fn outcome(passed: bool) -> DrillOutcome {
        DrillOutcome {
            id: "S06".into(),
            title: "The peer is down".into(),
            passed,
            checks: vec![Check {
                what: "verdict",
                expected: "peer_down".into(),
                seen: "peer_http".into(),
                held: passed,
            }],
            trouble: None,
            wrong_override: !passed,
            missed_override: false,
            verdict: Some("peer_http".into()),
            sure: None,
            action: "none".into(),
            times: Times::default(),
            kills: 0,
            reports: Vec::new(),
            directory: None,
        }
    }

    #[test]
    fn what_did_not_hold_is_named() {
        let text = anstream::adapter::strip_str(&line(&outcome(false))).to_string();
        assert_eq!(text, "FAILED S06 The peer is down (verdict: expected peer_down, seen peer_http)");
        assert_eq!(against(&outcome(false), "verdict", Some("peer_http")), "peer_http (expected peer_down)");
        assert_eq!(against(&outcome(true), "verdict", Some("peer_down")), "peer_down");
    }

    #[test]
    fn wrong_overrides_are_counted_by_themselves() {
        let outcomes = [outcome(true), outcome(false), outcome(false)];
        assert_eq!(sum(&outcomes), "1 of 3 drills passed; 2 wrong overrides, 0 missed");
        assert_eq!(json(&outcomes)["wrong_overrides"], 2);
    }

    #[test]
    fn figures() {
        assert_eq!(seconds(Some(4_260)), "4.2 s");
        assert_eq!(seconds(None), "-");
    }
}
