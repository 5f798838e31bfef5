//! `ukai alarms test`: what an alarm would make of data, period by period, and which rule decides.
//!
//! Our choices: a row of X, 0 and - alone is taken as breaching, fine and missing; as soon as another number is in it, every
//! cell but - is a value, and 0 is the number. Fewer cells than the evaluation range are the newest, and what is older
//! counts as missing; more are refused.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;
use ukai_core::alarm::AlarmState;
use ukai_core::alarm::definition::{Definition, Kind, LowSamples, MetricAlarm, Threshold, TreatMissingData};
use ukai_core::alarm::exchange;
use ukai_core::alarm::missing_data::{Cell, Rule, Slot, cells, judge};

use super::list::{cell_name, slot_name};
use super::{Common, json_of, text_of};
use crate::cli::paint::{Painted, Table, Tone};
use crate::cli::{BROKEN, DONE, Failed, USAGE};
use crate::config::nearest;
use crate::driver::alarms::AlarmInFull;
use crate::socket::Op;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The alarm, as `ukai alarms` lists it, or as the file names it.
    #[arg(value_name = "NAME")]
    name: String,
    /// Periods, the newest on the right, with blanks between: X (breaching), 0 (fine) and - (missing), or numbers and -.
    #[arg(long, value_name = "CELLS", allow_hyphen_values = true)]
    data: String,
    /// Show what each of the four treatments of missing data would make of it.
    #[arg(long)]
    all_treatments: bool,
    /// Take the alarm from this file (what `describe-alarms` prints) and not from the daemon; - reads standard input.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Serialize)]
struct Tried {
    alarm: String,
    n: usize,
    m: usize,
    range: usize,
    /// Cells that were not given, and count as missing.
    padded: usize,
    cells: Vec<Shown>,
    results: Vec<Outcome>,
}

#[derive(Debug, Serialize)]
struct Shown {
    data: String,
    is: Slot,
    became: Cell,
}

#[derive(Debug, Serialize)]
struct Outcome {
    treat_missing_data: TreatMissingData,
    /// The alarm's own.
    own: bool,
    /// null: it keeps the state that it has.
    state: Option<AlarmState>,
    rule: Rule,
    filled: usize,
    why: String,
}

const TREATMENTS: [TreatMissingData; 4] =
    [TreatMissingData::Missing, TreatMissingData::Ignore, TreatMissingData::Breaching, TreatMissingData::NotBreaching];

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (definition, state) = match &args.file {
        Some(file) => (from_file(&args.name, &text_of(file)?)?, None),
        None => {
            let value = args.common.daemon.call(Op::Alarm { name: args.name.clone() }).await?;
            let full: AlarmInFull = serde_json::from_value(value).context("the daemon's answer is not understood")?;
            (full.alarm.definition, Some(full.alarm.state))
        }
    };
    let Kind::Metric(alarm) = &definition.kind else {
        let message = format!("{} judges no periods; only metric alarms can be tried on data", definition.name);
        return Err(Failed::with(USAGE, message));
    };
    let tried = try_on(&definition.name, alarm, &args.data, args.all_treatments)
        .map_err(|why| Failed::with(USAGE, format!("--data: {why}")))?;
    if args.common.json {
        return json_of(&tried);
    }
    print(&tried, alarm, state);
    Ok(ExitCode::from(DONE))
}

fn from_file(name: &str, text: &str) -> anyhow::Result<Definition> {
    let imported = exchange::import(text).map_err(|error| Failed::with(USAGE, format!("--file: {error}")))?;
    let meant = nearest(name, imported.taken.iter().map(|definition| definition.name.as_str()))
        .map(|meant| format!("; did you mean \"{meant}\"?"))
        .unwrap_or_default();
    if let Some(definition) = imported.taken.into_iter().find(|definition| definition.name == name) {
        return Ok(definition);
    }
    match imported.refused.into_iter().find(|remark| remark.alarm == name) {
        Some(remark) => Err(Failed::with(BROKEN, format!("{name} is not taken: {}", remark.text))),
        None => Err(Failed::with(BROKEN, format!("there is no alarm {name} in the file{meant}"))),
    }
}

fn try_on(name: &str, alarm: &MetricAlarm, data: &str, all: bool) -> Result<Tried, String> {
    let (n, m, range) = (alarm.n(), alarm.m(), alarm.evaluation_range());
    let mut written: Vec<&str> = data.split_whitespace().collect();
    if written.len() > range {
        let why = "it looks at so many for N = ";
        return Err(format!("these are {} cells, and {name} wants {range} ({why}{n})", written.len()));
    }
    let padded = range - written.len();
    written.splice(0..0, std::iter::repeat_n("-", padded));
    let slots = slots(alarm, &written)?;
    let shown = written.iter().zip(&slots).zip(cells(&slots, n)).map(|((data, is), became)| Shown {
        data: (*data).to_owned(),
        is: *is,
        became,
    });
    let own = alarm.treats_missing_data();
    let results = TREATMENTS.into_iter().filter(|treat| all || *treat == own).map(|treat| {
        let judgement = judge(&slots, n, m, treat);
        Outcome {
            treat_missing_data: treat,
            own: treat == own,
            state: judgement.state,
            rule: judgement.rule,
            filled: judgement.filled,
            why: sentence(judgement.rule, n, m, judgement.filled, treat),
        }
    });
    let (cells, results) = (shown.collect(), results.collect());
    Ok(Tried { alarm: name.to_owned(), n, m, range, padded, cells, results })
}

fn slots(alarm: &MetricAlarm, written: &[&str]) -> Result<Vec<Slot>, String> {
    let is_mark = |cell: &&str| matches!(*cell, "X" | "x" | "0" | "-");
    if written.iter().all(is_mark) {
        let slot = |cell: &&str| match *cell {
            "X" | "x" => Slot::Breaching,
            "0" => Slot::Fine,
            _ => Slot::Missing,
        };
        return Ok(written.iter().map(slot).collect());
    }
    written.iter().map(|cell| of_number(alarm, cell)).collect()
}

fn of_number(alarm: &MetricAlarm, cell: &str) -> Result<Slot, String> {
    if cell == "-" {
        return Ok(Slot::Missing);
    }
    if matches!(cell, "X" | "x") {
        return Err("X stands among numbers; write X, 0 and -, or numbers and -".to_owned());
    }
    let Threshold::Value(threshold) = alarm.threshold else {
        return Err("this alarm compares with a band, so a number says nothing; write X, 0 and -".to_owned());
    };
    let value = cell.parse::<f64>().ok().filter(|value| value.is_finite());
    let value = value.ok_or_else(|| format!("{cell:?} is neither X, 0, - nor a number"))?;
    let breaching = alarm.comparison_operator.is_breaching(value, threshold);
    Ok(if breaching { Slot::Breaching } else { Slot::Fine })
}

fn print(tried: &Tried, alarm: &MetricAlarm, state: Option<AlarmState>) {
    let Tried { n, m, range, padded, .. } = tried;
    let name = Painted(Tone::Strong, &tried.alarm);
    let threshold = match &alarm.threshold {
        Threshold::Value(value) => format!("{:?} {value}", alarm.comparison_operator),
        Threshold::Band(id) => format!("{:?} {id}", alarm.comparison_operator),
    };
    anstream::println!("{name}: {threshold} in {m} of {n} periods; it looks at {range}");
    if *padded > 0 {
        let text = format!("{padded} older periods were not given and count as missing");
        anstream::println!("  {}", Painted(Tone::Warning, text));
    }
    let mut table = Table::with_header(&["periods ago", "data", "is", "became"]);
    for (place, cell) in tried.cells.iter().enumerate() {
        let tone = if cell.is == Slot::Breaching { Tone::Bad } else { Tone::Plain };
        let ago = (range - 1 - place).to_string();
        table.row(tone, vec![ago, cell.data.clone(), slot_name(cell.is).to_owned(), cell_name(cell.became, *n)]);
    }
    anstream::print!("{table}");
    for result in &tried.results {
        let own = if result.own { " (its own)" } else { "" };
        anstream::println!("{}{own}: {}", result.treat_missing_data.name(), after(result.state, state));
        anstream::println!("  {}", result.why);
    }
    if alarm.low_samples == Some(LowSamples::Ignore) {
        anstream::println!("With too few samples for its percentile the alarm keeps its state, whatever stands here.");
    }
}

/// None: the alarm keeps what it has, which is known where a daemon was asked.
pub fn after(judged: Option<AlarmState>, has: Option<AlarmState>) -> String {
    match (judged, has) {
        (Some(state), _) => state.name().to_owned(),
        (None, Some(has)) => format!("keeps the state that it has, {}", has.name()),
        (None, None) => "keeps the state that it has".to_owned(),
    }
}

/// The rule that decided, for people.
pub fn sentence(rule: Rule, n: usize, m: usize, filled: usize, treat: TreatMissingData) -> String {
    let name = treat.name();
    match rule {
        Rule::AllMissing => format!("Nothing real is in the range, so the treatment alone decides ({name})."),
        Rule::NewestReal => {
            format!("At least {n} of the range are real: the newest {n} are judged, and the treatment is not asked.")
        }
        Rule::EnoughBreaching => {
            format!("{filled} of {n} are missing, but {m} real points breach already: no filling could change that.")
        }
        Rule::Filled => format!("{filled} of {n} are missing and were filled in as {name}."),
        Rule::OldBreach => format!(
            "{filled} of {n} are missing and everything real breaches; the oldest breach is at least {m} periods old, \
             so it counts (with ignore, the state is kept)."
        ),
        Rule::YoungBreach => format!(
            "{filled} of {n} are missing and everything real breaches, but the oldest breach is younger than {m} \
             periods: it is too early to fire."
        ),
        Rule::NotEnoughBreaching => {
            format!("{filled} of {n} are missing; something real is fine, and fewer than {m} real points breach.")
        }
        Rule::LowSamples => "There are too few samples for the percentile, and the alarm ignores that.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm() -> MetricAlarm {
        let wire = serde_json::json!({
            "AlarmName": "a", "Namespace": "N", "MetricName": "m", "Statistic": "Sum", "Period": 60,
            "EvaluationPeriods": 3, "Threshold": 1.0, "ComparisonOperator": "GreaterThanThreshold",
        });
        let definition: Definition = serde_json::from_value(wire).unwrap();
        definition.metric().unwrap().clone()
    }

    fn is(data: &str) -> Vec<Slot> {
        try_on("a", &alarm(), data, false).unwrap().cells.iter().map(|cell| cell.is).collect()
    }

    #[test]
    fn cells_are_marks_or_numbers() {
        use Slot::{Breaching, Fine, Missing};
        assert_eq!(is("0 - X - x"), [Fine, Missing, Breaching, Missing, Breaching]);
        assert_eq!(is("0 - 2 1 1.5"), [Fine, Missing, Breaching, Fine, Breaching]);
        assert_eq!(is("X"), [Missing, Missing, Missing, Missing, Breaching], "older periods are missing");
        let refused = |data: &str| try_on("a", &alarm(), data, false).unwrap_err();
        assert!(refused("0 0 0 0 0 0").contains("wants 5"));
        assert!(refused("X 2").contains("among numbers"));
        assert!(refused("inf").contains("inf"));
    }

    #[test]
    fn a_row_of_the_documentation() {
        let tried = try_on("a", &alarm(), "- - X - -", true).unwrap();
        let states: Vec<Option<AlarmState>> = tried.results.iter().map(|result| result.state).collect();
        assert_eq!(states, [Some(AlarmState::Alarm), None, Some(AlarmState::Alarm), Some(AlarmState::Ok)]);
        assert!(tried.results[0].own && tried.results.iter().filter(|result| result.own).count() == 1);
        assert_eq!(tried.results[2].filled, 2);
        assert!(tried.results[2].why.contains("filled in as breaching"), "{}", tried.results[2].why);
    }
}
