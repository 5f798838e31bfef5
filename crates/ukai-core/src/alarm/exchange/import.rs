//! Reads alarms that CloudWatch printed.
//!
//! Taken are metric alarms, alarms on metric math and composite alarms; state beside the definition is left alone, and any other
//! member that is not known is named. Refused
//! are PromQL and log alarms, metrics of other accounts, and functions that look for metrics or ask a service (`SEARCH`,
//! `INSIGHT_RULE`, Metrics Insights). Actions that ukai cannot carry out are kept, so that an export gives them back.
//!
//! What [`export`](super::export) writes as JSON is taken too.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::members;
use super::order::needs;
use super::{Remark, Runner, runner};
use crate::alarm::definition::{Definition, Kind, Source, Watched};

/// Everything that was read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Imported {
    pub taken: Vec<Definition>,
    /// Not taken, and why.
    pub refused: Vec<Remark>,
    /// Taken, and what is different here.
    pub notes: Vec<Remark>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    #[error("line {line}, column {column}: {why}")]
    Json { line: usize, column: usize, why: String },
    #[error(
        "{what}; give what `aws cloudwatch describe-alarms --output json` prints: an object with MetricAlarms and \
         CompositeAlarms"
    )]
    Shape { what: String },
}

/// Members of the answer, with what is said of alarms that are not taken at all.
const LISTS: [(&str, Option<&str>); 3] = [
    ("MetricAlarms", None),
    ("CompositeAlarms", None),
    ("LogAlarms", Some("log alarms are not evaluated by ukai; it judges metric alarms and composite alarms")),
];

/// Functions that alarms cannot have here, with why.
const FUNCTIONS: [(&str, &str); 5] = [
    ("SEARCH(", "SEARCH looks for metrics by pattern"),
    ("INSIGHT_RULE(", "INSIGHT_RULE asks Contributor Insights"),
    ("INSIGHT_RULE_METRIC(", "INSIGHT_RULE_METRIC asks Contributor Insights"),
    ("DB_PERF_INSIGHTS(", "DB_PERF_INSIGHTS asks a database"),
    ("LAMBDA(", "LAMBDA asks a function for the metric"),
];

/// Members that CloudWatch obeys and ukai does not.
const IGNORED: [(&str, &str); 2] = [
    ("WarmUpConfiguration", "WarmUpConfiguration is left out: ukai evaluates an alarm from the start"),
    ("EvaluationInterval", "EvaluationInterval is left out: the period decides how often an alarm is evaluated"),
];

/// Some emulators print these empty where CloudWatch leaves them out.
const EMPTY_IS_ABSENT: [&str; 9] = [
    "Metrics",
    "Unit",
    "Statistic",
    "ExtendedStatistic",
    "TreatMissingData",
    "EvaluateLowSampleCountPercentile",
    "ThresholdMetricId",
    "ActionsSuppressor",
    "EvaluationCriteria",
];

pub fn import(text: &str) -> Result<Imported, ImportError> {
    let read: Value = serde_json::from_str(text).map_err(|error| ImportError::Json {
        line: error.line(),
        column: error.column(),
        why: without_place(&error.to_string()),
    })?;
    let mut imported = Imported::default();
    let mut names = BTreeSet::new();
    for (alarm, refusal) in alarms(&read)? {
        let name = alarm.get("AlarmName").and_then(Value::as_str).unwrap_or("(an alarm without AlarmName)");
        let taken = match refusal {
            Some(why) => Err(why.to_owned()),
            None if names.contains(name) => Err("an alarm of this name is there already".to_owned()),
            None => definition(alarm).map_err(|why| match not_taken(alarm) {
                Some(unknown) => format!("{why}; {unknown}"),
                None => why,
            }),
        };
        match taken {
            Ok(definition) => {
                names.insert(definition.name.clone());
                imported.notes.extend(notes(alarm, &definition));
                imported.taken.push(definition);
            }
            Err(why) => imported.refused.push(Remark::new(name, why)),
        }
    }
    let missing = imported.taken.iter().flat_map(|definition| missing(definition, &names));
    imported.notes.extend(missing.collect::<Vec<_>>());
    Ok(imported)
}

type Listed<'a> = (&'a Value, Option<&'static str>);

/// Each alarm, and the refusal that its list implies.
fn alarms(read: &Value) -> Result<Vec<Listed<'_>>, ImportError> {
    let shape = |what: &str| ImportError::Shape { what: what.to_owned() };
    if let Value::Array(list) = read {
        return Ok(list.iter().map(|alarm| (alarm, None)).collect());
    }
    let members = read.as_object().ok_or_else(|| shape("this is neither an object nor a list"))?;
    if members.contains_key("AlarmName") {
        return Ok(vec![(read, None)]);
    }
    let mut all = Vec::new();
    let mut is_known = false;
    for (member, refusal) in LISTS {
        match members.get(member) {
            None | Some(Value::Null) => {}
            Some(Value::Array(list)) => {
                is_known = true;
                all.extend(list.iter().map(|alarm| (alarm, refusal)));
            }
            Some(_) => return Err(shape(&format!("{member} is not a list"))),
        }
    }
    if is_known { Ok(all) } else { Err(shape("there is no list of alarms")) }
}

fn definition(alarm: &Value) -> Result<Definition, String> {
    let members = alarm.as_object().ok_or("it is not an object")?;
    for query in members.get("Metrics").and_then(Value::as_array).into_iter().flatten() {
        if let Some(why) = query.get("Expression").and_then(Value::as_str).and_then(unsupported) {
            return Err(why);
        }
    }
    let mut cleaned = cleaned(members);
    if has_both_statistics(alarm) {
        cleaned.remove("Statistic");
    }
    let cleaned = Value::Object(cleaned);
    serde_json::from_value(cleaned).map_err(|error| error.to_string())
}

/// CloudWatch never prints both; an emulator does, with a `Statistic` that nobody put.
fn has_both_statistics(alarm: &Value) -> bool {
    let is_given = |member: &str| alarm.get(member).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    is_given("Statistic") && is_given("ExtendedStatistic")
}

fn unsupported(expression: &str) -> Option<String> {
    let upper = expression.to_ascii_uppercase();
    let is_query = upper.trim_start().starts_with("SELECT");
    let found = FUNCTIONS.iter().find(|(function, _)| contains_call(&upper, function)).map(|(_, why)| *why);
    let why = found.or(is_query.then_some("SELECT is a Metrics Insights query"))?;
    Some(format!("{why}, which ukai does not do; name the metrics one by one"))
}

/// `function` ends in its parenthesis; a longer name that ends the same is another function.
fn contains_call(upper: &str, function: &str) -> bool {
    upper
        .match_indices(function)
        .any(|(place, _)| !upper[..place].ends_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '_'))
}

fn cleaned(members: &Map<String, Value>) -> Map<String, Value> {
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    let keep = |name: &str, value: &Value| !(value.is_null() || EMPTY_IS_ABSENT.contains(&name) && is_empty(value));
    let kept = members.iter().filter(|(name, value)| keep(name, value));
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn notes(alarm: &Value, definition: &Definition) -> Vec<Remark> {
    let name = &definition.name;
    let ignored = IGNORED.iter().filter(|(member, _)| alarm.get(member).is_some_and(|value| !value.is_null()));
    let mut notes: Vec<Remark> = ignored.map(|(_, what)| Remark::new(name, *what)).collect();
    notes.extend(not_taken(alarm).map(|unknown| Remark::new(name, unknown)));
    if has_both_statistics(alarm) {
        notes.push(Remark::new(name, "Statistic is left out: ExtendedStatistic is given too, and it is what counts"));
    }
    let actions = &definition.actions;
    let all: BTreeSet<&String> = actions.ok.iter().chain(&actions.alarm).chain(&actions.insufficient_data).collect();
    for action in all.into_iter().filter(|action| runner(action) == Runner::Aws) {
        notes.push(Remark::new(name, format!("ukai does not run this action; it is kept: {action}")));
    }
    if uses_band(definition) {
        let what = "the band of ANOMALY_DETECTION_BAND is ukai's own model, and not the one of CloudWatch";
        notes.push(Remark::new(name, what));
    }
    notes
}

fn not_taken(alarm: &Value) -> Option<String> {
    members::not_taken(alarm, &IGNORED.map(|(member, _)| member))
}

fn uses_band(definition: &Definition) -> bool {
    let Kind::Metric(metric) = &definition.kind else { return false };
    let Watched::Math(queries) = &metric.watched else { return false };
    queries.iter().any(|query| match &query.source {
        Source::Expression(text) => contains_call(&text.to_ascii_uppercase(), "ANOMALY_DETECTION_BAND("),
        Source::Stat(_) => false,
    })
}

/// Alarms that a composite names and that were not taken.
fn missing(definition: &Definition, names: &BTreeSet<String>) -> Vec<Remark> {
    let absent = needs(definition).into_iter().filter(|name| !names.contains(name));
    absent
        .map(|name| Remark::new(&definition.name, format!("it names {name:?}, which is not among these alarms")))
        .collect()
}

/// serde_json ends its texts with the place, which stands at the front here.
fn without_place(text: &str) -> String {
    text.split(" at line ").next().unwrap_or(text).to_owned()
}
