//! How drills ended: one line each, the table over all of them, and who was taken for whom.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use ukai_lab::runner::DrillOutcome;
use ukai_lab::scenario::NO_VERDICT;
use ukai_lab::servers::Maker;

use super::confusion;
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
        "drill", "verdict", "given", "sure", "given", "action", "done", "alarm", "verdict", "served", "result",
    ]);
    for outcome in outcomes {
        let times = &outcome.times;
        let (expected, done) = (&outcome.expected, Some(outcome.action.as_str()));
        let row = vec![
            outcome.id.clone(),
            any_of(&expected.verdict),
            compared(&expected.verdict, outcome.verdict.as_deref()),
            any_of(&expected.sure),
            compared(&expected.sure, outcome.sure.as_deref()),
            any_of(&expected.action),
            compared(&expected.action, done),
            seconds(times.to_alarm_ms),
            seconds(times.alarm_to_verdict_ms),
            seconds(times.to_served_ms),
            result(outcome).to_owned(),
        ];
        table.row(if outcome.passed { Tone::Plain } else { Tone::Bad }, row);
    }
    anstream::print!("\n{table}");
    let legend = "  =: as expected. alarm: from the first fault; verdict: the first right one, from the alarm or from what changed \
                  since; served: from the fault";
    anstream::println!("{}", Painted(Tone::Faint, legend));
    anstream::print!("\n{}", confusion::matrix(&pairs(outcomes)));
    for outcome in outcomes.iter().filter(|outcome| !outcome.passed) {
        anstream::println!("{}", line(outcome));
        if let Some(trouble) = &outcome.trouble {
            anstream::println!("{}", Painted(Tone::Bad, format_args!("{}: {trouble}", outcome.id)));
        }
        if let Some(directory) = &outcome.directory {
            anstream::println!("{}", Painted(Tone::Faint, format_args!("{}: {}", outcome.id, directory.display())));
        }
    }
    let servers: BTreeSet<&Maker> = outcomes.iter().flat_map(|outcome| &outcome.servers).collect();
    for server in servers {
        anstream::println!("{}", Painted(Tone::Faint, format_args!("played with {server}")));
    }
    let tone = if outcomes.iter().all(|outcome| outcome.passed) { Tone::Good } else { Tone::Bad };
    anstream::println!("\n{}", Painted(tone, sum(outcomes)));
}

/// What was right and what was said. Where any of several is right, and one of them was said, that one was right.
fn pairs(outcomes: &[DrillOutcome]) -> Vec<confusion::Pair> {
    let of = |outcome: &DrillOutcome| {
        let said = given(outcome.verdict.as_deref());
        let right = outcome.expected.verdict.iter().find(|code| **code == said).or(outcome.expected.verdict.first())?;
        Some((right.clone(), said))
    };
    outcomes.iter().filter_map(of).collect()
}

/// The same as the table, for a machine.
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
        "undecided": count(outcomes, DrillOutcome::undecided),
        "wrong_and_proven": count(outcomes, DrillOutcome::wrong_and_proven),
        "servers": outcomes.iter().flat_map(|outcome| &outcome.servers).collect::<BTreeSet<_>>(),
        "rows": outcomes.iter().map(row).collect::<Vec<_>>(),
        "confusion": confusion::json(&pairs(outcomes)),
        "alarm_to_verdict_ms": { "median": median(&times), "worst": times.last() },
    })
}

fn row(outcome: &DrillOutcome) -> Value {
    let (expected, times) = (&outcome.expected, &outcome.times);
    let broken = outcome.checks.iter().filter(|check| !check.held).map(|check| check.what);
    json!({
        "drill": outcome.id,
        "verdict": { "expected": expected.verdict, "given": outcome.verdict },
        "sure": { "expected": expected.sure, "given": outcome.sure },
        "action": { "expected": expected.action, "given": outcome.action },
        "alarm_ms": times.to_alarm_ms,
        "alarm_to_verdict_ms": times.alarm_to_verdict_ms,
        "served_ms": times.to_served_ms,
        "passed": outcome.passed,
        "broken": broken.collect::<Vec<_>>(),
        "trouble": outcome.trouble,
    })
}

fn sum(outcomes: &[DrillOutcome]) -> String {
    let times = verdict_times(outcomes);
    let counted = |of: fn(&DrillOutcome) -> bool| count(outcomes, of);
    format!(
        "{} of {} drills passed; {} wrong overrides, {} missed, {} wrong actions; {} wrong verdicts, {} undecided, {} wrong and \
         called proven; from alarm to verdict {} (median), {} (worst)",
        counted(|outcome| outcome.passed),
        outcomes.len(),
        counted(|outcome| outcome.wrong_override),
        counted(|outcome| outcome.missed_override),
        counted(DrillOutcome::wrong_action),
        counted(DrillOutcome::wrong_verdict),
        counted(DrillOutcome::undecided),
        counted(DrillOutcome::wrong_and_proven),
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

/// What was said; where only one thing was right and it was that, a sign is easier to read than the word again.
fn compared<T: AsRef<str>>(expected: &[T], said: Option<&str>) -> String {
    match expected {
        [one] if Some(one.as_ref()) == said => "=".to_owned(),
        _ => given(said),
    }
}

fn given(word: Option<&str>) -> String {
    word.unwrap_or(NO_VERDICT).to_owned()
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
            wrongly_proven: if passed || sure != "proven" { vec![] } else { vec![given.into()] },
            times: Times { alarm_to_verdict_ms: Some(1300), ..Times::default() },
            kills: 0,
            servers: Vec::new(),
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
        let on_the_way = DrillOutcome { wrongly_proven: vec!["peer_http".into()], ..outcome("peer_down", "proven") };
        let outcomes = [outcome("peer_http", "likely"), outcome("open", "open"), wrong, on_the_way];
        let score = json(&outcomes);
        for (what, expected) in [
            ("passed", 1),
            ("wrong_overrides", 1),
            ("wrong_actions", 1),
            ("wrong_verdicts", 2),
            ("undecided", 1),
            ("wrong_and_proven", 2),
        ] {
            assert_eq!(score[what], expected, "{what}");
        }
        assert_eq!(score["alarm_to_verdict_ms"]["median"], 1300);
        assert_eq!(result(&outcomes[2]), "WRONG OVERRIDE");
        assert_eq!(result(&outcome("own_egress", "proven")), "WRONG AND PROVEN");
    }

    #[test]
    fn a_machine_is_told_what_the_table_tells() {
        let score = json(&[outcome("peer_http", "likely")]);
        let row = &score["rows"][0];
        assert_eq!(row["verdict"], json!({ "expected": ["peer_down"], "given": "peer_http" }));
        assert_eq!(row["action"], json!({ "expected": ["none"], "given": "none" }));
        assert_eq!((&row["alarm_to_verdict_ms"], &row["broken"]), (&json!(1300), &json!(["verdict"])));
        assert_eq!(score["confusion"], json!([{ "right": "peer_down", "said": "peer_http", "count": 1 }]));
    }

    #[test]
    fn what_was_right_among_several_is_what_was_said() {
        let mut either = outcome("own_v6", "proven");
        either.expected.verdict = vec!["v6_path".into(), "own_v6".into()];
        assert_eq!(pairs(&[either]), [("own_v6".to_owned(), "own_v6".to_owned())]);
    }

    #[test]
    fn what_was_expected_is_not_said_twice() {
        assert_eq!(compared(&["none"], Some("none")), "=");
        assert_eq!(compared(&["none", "probe_error"], None), "none");
        assert_eq!(compared(&["peer_down"], Some("open")), "open");
    }

    #[test]
    fn figures() {
        assert_eq!(seconds(Some(4_260)), "4.2 s");
        assert_eq!(seconds(None), "-");
    }
}
