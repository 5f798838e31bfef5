//! What real AWS answered, rebuilt from its own inputs and compared, with placeholders in the place of dates and names.
//!
//! The recordings are not part of this repository. They are looked for in `UKAI_SUITES`, else at `../shared/suites` beside
//! the workspace; without them the test says so. What must always hold is in `alarm_reason` and `alarm_payload`.

use std::path::PathBuf;

use jiff::Timestamp;
use serde_json::{Value, json};
use ukai_core::alarm::AlarmState;
use ukai_core::alarm::definition::Definition;
use ukai_core::alarm::evaluate::{Evaluation, RangePoint};
use ukai_core::alarm::history;
use ukai_core::alarm::missing_data::{Slot, judge};
use ukai_core::alarm::payload::{StateChange, StateThen, event, sns};
use ukai_core::alarm::reason::{self, TriggeringChild};
use ukai_core::metric::series::Datapoint;

const FILES: [&str; 2] = ["test_cloudwatch.snapshot.json", "test_cloudwatch_metrics.snapshot.json"];
const ACCOUNT: &str = "111111111111";
/// Stands for itself, as every code that no table knows.
const REGION: &str = "<region>";
const DATE_IN_TEXT: &str = "(MM/DD/YY HH:MM:SS)";
/// Any time will do: it becomes a placeholder.
const SOME_TIME: &str = "2025-09-19T21:12:40Z";

/// How many of each kind were compared.
#[derive(Debug, Default, PartialEq)]
struct Compared {
    reasons: usize,
    reason_data: usize,
    messages: usize,
    functions: usize,
    history: usize,
    composites: usize,
}

#[test]
fn recorded_answers_are_rebuilt() {
    let Some(folder) = suites() else {
        println!("skipped: the AWS recordings are not here (set UKAI_SUITES to the folder that holds aws-recordings)");
        return;
    };
    let mut compared = Compared::default();
    for file in FILES {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let recordings: Value = serde_json::from_str(&text).unwrap();
        for (test, recording) in recordings.as_object().unwrap() {
            let content = &recording["recorded-content"];
            let mut definitions = Vec::new();
            each_object(content, &mut |object| collect_definition(object, &mut definitions));
            each_object(content, &mut |object| compare(test, object, &definitions, &mut compared));
        }
    }
    println!("{compared:?}");
    assert!(compared.reasons >= 24 && compared.reason_data >= 5, "{compared:?}");
    assert!(compared.messages >= 8 && compared.functions >= 1, "{compared:?}");
    assert!(compared.history >= 1 && compared.composites >= 15, "{compared:?}");
}

fn suites() -> Option<PathBuf> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/suites");
    let folder = std::env::var_os("UKAI_SUITES").map_or_else(|| PathBuf::from(beside), PathBuf::from);
    Some(folder.join("aws-recordings")).filter(|folder| folder.is_dir())
}

fn each_object(value: &Value, visit: &mut dyn FnMut(&Value)) {
    match value {
        Value::Object(members) => {
            visit(value);
            members.values().for_each(|member| each_object(member, visit));
        }
        Value::Array(items) => items.iter().for_each(|item| each_object(item, visit)),
        _ => {}
    }
}

fn collect_definition(object: &Value, definitions: &mut Vec<Definition>) {
    if object.get("AlarmName").is_some() && object.get("AlarmArn").is_some() && object.get("StateValue").is_some() {
        definitions.push(serde_json::from_value(object.clone()).unwrap());
    }
}

fn compare(test: &str, object: &Value, definitions: &[Definition], compared: &mut Compared) {
    if object.get("StateReasonData").is_some_and(|data| data.get("evaluatedDatapoints").is_some()) {
        metric_reason(test, object, &object["StateReasonData"]);
        compared.reasons += 1;
        compared.reason_data += 1;
    } else if object.get("StateReason") == Some(&json!(reason::UNCHECKED)) {
        assert_eq!(object["StateValue"], "INSUFFICIENT_DATA", "{test}");
        compared.reasons += 1;
    } else if let Some(triggering) = object.get("StateReasonData").and_then(|data| data.get("triggeringAlarms")) {
        composite_reason(test, object, triggering);
        compared.composites += 1;
    } else if object.get("NewStateValue").is_some() {
        message(test, object, definitions);
        compared.messages += 1;
    } else if object.get("alarmData").is_some() {
        function(test, object);
        compared.functions += 1;
    } else if object.get("HistoryItemType") == Some(&json!("StateUpdate")) {
        history_item(test, object, definitions);
        compared.history += 1;
    }
}

/// The alarm is evaluated over the datapoints that it was recorded with.
fn metric_reason(test: &str, recorded: &Value, data: &Value) {
    let definition: Definition = serde_json::from_value(recorded.clone()).unwrap();
    let alarm = definition.metric().unwrap();
    let Some(threshold) = recorded["Threshold"].as_f64() else { panic!("{test}: no threshold") };
    let evaluated = data["evaluatedDatapoints"].as_array().unwrap();
    let point = |(place, point): (usize, &Value)| {
        let datapoint = point["value"]
            .as_f64()
            .map(|value| Datapoint { value, sample_count: point["sampleCount"].as_f64().unwrap_or_default() });
        let breaching = |point: &Datapoint| alarm.comparison_operator.is_breaching(point.value, threshold);
        let slot = match &datapoint {
            None => Slot::Missing,
            Some(point) if breaching(point) => Slot::Breaching,
            Some(_) => Slot::Fine,
        };
        RangePoint { start_s: 60 * place as i64, datapoint, band: None, slot }
    };
    let range: Vec<RangePoint> = evaluated.iter().rev().enumerate().map(point).collect();
    let slots: Vec<Slot> = range.iter().map(|point| point.slot).collect();
    let judgement = judge(&slots, alarm.n(), alarm.m(), alarm.treats_missing_data());
    let evaluation = Evaluation { at: time(), range, judgement };
    let new = evaluation.judgement.state.unwrap();
    assert_eq!(recorded["StateValue"], new.name(), "{test}");
    let text = Value::from(reason::reason(alarm, &evaluation, new));
    assert_eq!(with_placeholders(text), recorded["StateReason"], "{test}");
    let rebuilt: Value = serde_json::from_str(&reason::reason_data(alarm, &evaluation).to_json()).unwrap();
    assert_eq!(with_placeholders(rebuilt), *data, "{test}");
}

fn composite_reason(test: &str, recorded: &Value, triggering: &Value) {
    assert!(recorded.get("AlarmRule").is_some(), "{test}");
    let children: Vec<TriggeringChild> = triggering
        .as_array()
        .unwrap()
        .iter()
        .map(|child| TriggeringChild {
            arn: child["arn"].as_str().unwrap().to_owned(),
            state: state(&child["state"]["value"]),
            at: time(),
        })
        .collect();
    let rebuilt: Value = serde_json::from_str(&reason::composite_reason_data(&children)).unwrap();
    assert_eq!(with_placeholders(rebuilt), recorded["StateReasonData"], "{test}");
}

fn message(test: &str, recorded: &Value, definitions: &[Definition]) {
    let named = |definition: &&Definition| recorded["AlarmName"] == definition.name.as_str();
    let definition = definitions.iter().find(named).unwrap_or_else(|| panic!("{test}: the alarm is not described"));
    let (old, new) = (then(&recorded["OldStateValue"], ""), recorded["NewStateReason"].as_str().unwrap());
    let change = StateChange {
        after_mute_window: recorded.get("ActionExecutedAfterMuteWindow").and_then(Value::as_bool),
        ..change(definition, old, then(&recorded["NewStateValue"], new))
    };
    let mut rebuilt: Value = serde_json::from_str(&sns::message(&change)).unwrap();
    assert_eq!(rebuilt["Region"], REGION);
    rebuilt["Region"] = json!("<region-name-full:1>");
    assert_eq!(with_placeholders(rebuilt), *recorded, "{test}");
}

fn function(test: &str, recorded: &Value) {
    let data = &recorded["alarmData"];
    let configuration = &data["configuration"];
    let stat = &configuration["metrics"][0]["metricStat"];
    let definition: Definition = serde_json::from_value(json!({
        "AlarmName": data["alarmName"], "AlarmDescription": configuration["description"],
        "Namespace": stat["metric"]["namespace"], "MetricName": stat["metric"]["name"], "Period": stat["period"],
        "Statistic": stat["stat"], "EvaluationPeriods": 1, "Threshold": 1, "ComparisonOperator": "GreaterThanThreshold",
    }))
    .unwrap();
    let state = |state: &'static str| (&data[state]["value"], data[state]["reason"].as_str().unwrap());
    let ((old, old_reason), (new, new_reason)) = (state("previousState"), state("state"));
    let change = change(&definition, then(old, old_reason), then(new, new_reason));
    let mut rebuilt: Value = serde_json::from_str(&event::lambda(&change)).unwrap();
    rebuilt["alarmData"]["configuration"]["metrics"][0]["id"] = json!("<uuid:1>");
    assert_eq!(with_placeholders(rebuilt), *recorded, "{test}");
}

fn history_item(test: &str, recorded: &Value, definitions: &[Definition]) {
    let data = &recorded["HistoryData"];
    let texts = |state: &str| {
        let reason_data = data[state].get("stateReasonData").map(Value::to_string);
        (data[state]["stateReason"].as_str().unwrap().to_owned(), reason_data)
    };
    let ((old_reason, old_data), (new_reason, new_data)) = (texts("oldState"), texts("newState"));
    let state = |state: &'static str| &data[state]["stateValue"];
    let old = StateThen { reason_data: old_data.as_deref(), ..then(state("oldState"), &old_reason) };
    let new = StateThen { reason_data: new_data.as_deref(), ..then(state("newState"), &new_reason) };
    let item = history::state_update(&change(&definitions[0], old, new));
    let mut rebuilt = serde_json::to_value(&item).unwrap();
    rebuilt["HistoryData"] = serde_json::from_str(&item.history_data).unwrap();
    rebuilt["Timestamp"] = json!("timestamp");
    assert_eq!(rebuilt, *recorded, "{test}");
}

fn change<'a>(definition: &'a Definition, old: StateThen<'a>, new: StateThen<'a>) -> StateChange<'a> {
    StateChange {
        definition,
        account_id: ACCOUNT,
        region: REGION,
        configuration_updated_at: time(),
        old,
        new,
        triggering_children: &[],
        suppression: None,
        after_mute_window: None,
    }
}

fn then<'a>(value: &Value, reason: &'a str) -> StateThen<'a> {
    StateThen { state: state(value), reason, reason_data: None, at: time() }
}

fn state(value: &Value) -> AlarmState {
    serde_json::from_value(value.clone()).unwrap()
}

fn time() -> Timestamp {
    SOME_TIME.parse().unwrap()
}

/// Our dates and our partition, as the recordings have theirs.
fn with_placeholders(value: Value) -> Value {
    match value {
        Value::String(text) if text.len() == 28 && text.ends_with("+0000") => json!("date"),
        Value::String(text) => json!(without_dates(&text).replace("arn:aws:", "arn:<partition>:")),
        Value::Array(items) => items.into_iter().map(with_placeholders).collect(),
        Value::Object(members) => members.into_iter().map(|(name, value)| (name, with_placeholders(value))).collect(),
        other => other,
    }
}

fn without_dates(text: &str) -> String {
    let is_date = |part: &str| {
        let shape: String = part.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        shape.starts_with("(00/00/00 00:00:00)")
    };
    let mut out = String::new();
    let mut rest = text;
    while let Some(place) = rest.find('(') {
        out.push_str(&rest[..place]);
        let skip = if is_date(&rest[place..]) {
            out.push_str(DATE_IN_TEXT);
            DATE_IN_TEXT.len()
        } else {
            out.push('(');
            1
        };
        rest = &rest[place + skip..];
    }
    out + rest
}
