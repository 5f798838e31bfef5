//! Alarms from CloudWatch and for it.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};
use ukai_core::alarm::defaults;
use ukai_core::alarm::definition::{Definition, Kind};
use ukai_core::alarm::exchange::{Format, ImportError, Options, Remark, export, import};

fn metric(name: &str, different: Value) -> Value {
    let mut wire = json!({
        "AlarmName": name, "Namespace": "N", "MetricName": "M", "Statistic": "Average", "Period": 60,
        "EvaluationPeriods": 1, "Threshold": 21.0, "ComparisonOperator": "GreaterThanThreshold",
    });
    for (member, value) in different.as_object().unwrap() {
        wire[member] = value.clone();
    }
    wire
}

fn definition(wire: Value) -> Definition {
    serde_json::from_value(wire).unwrap()
}

fn described(metrics: Vec<Value>, composites: Vec<Value>) -> String {
    json!({"MetricAlarms": metrics, "CompositeAlarms": composites}).to_string()
}

fn says(remarks: &[Remark], alarm: &str, part: &str) -> bool {
    remarks.iter().any(|remark| remark.alarm == alarm && remark.text.contains(part))
}

#[test]
fn state_beside_a_definition_is_left_alone() {
    let printed = metric(
        "a",
        json!({
            "AlarmArn": "arn:aws:cloudwatch:eu-west-1:1:alarm:a", "StateValue": "ALARM", "StateReason": "x",
            "StateReasonData": "{}", "StateUpdatedTimestamp": "2026-01-01T00:00:00+00:00", "Dimensions": [],
            "OKActions": [], "AlarmActions": ["arn:aws:sns:eu-west-1:1:t"], "InsufficientDataActions": [],
        }),
    );
    let imported = import(&described(vec![printed], vec![])).unwrap();
    assert_eq!(imported.taken, [definition(metric("a", json!({"AlarmActions": ["arn:aws:sns:eu-west-1:1:t"]})))]);
    assert!(imported.refused.is_empty() && imported.notes.is_empty(), "{imported:?}");
}

#[test]
fn one_bad_alarm_does_not_spoil_the_others() {
    let math = |name: &str, expression: &str, account: Value| {
        let stat = json!({"Metric": {"Namespace": "N", "MetricName": "M"}, "Period": 60, "Stat": "Sum"});
        json!({
            "AlarmName": name, "EvaluationPeriods": 1, "Threshold": 1, "ComparisonOperator": "GreaterThanThreshold",
            "Metrics": [
                {"Id": "e1", "Expression": expression, "ReturnData": true},
                {"Id": "m1", "MetricStat": stat, "ReturnData": false, "AccountId": account},
            ],
        })
    };
    let metrics = vec![
        metric("good", json!({})),
        metric("good", json!({"Threshold": 2.0})),
        metric("promql", json!({"EvaluationCriteria": {"PromQLCriteria": {"Query": "up"}}})),
        metric("odd period", json!({"Period": 61})),
        math("searches", "MAX(SEARCH('x', 'Average'))", Value::Null),
        math("insights", " select AVG(x) FROM y", Value::Null),
        math("elsewhere", "m1 * 2", json!("111122223333")),
        math("fine math", "m1 * 2", Value::Null),
        json!("not an object"),
    ];
    let text = json!({"MetricAlarms": metrics, "LogAlarms": [{"AlarmName": "logs"}], "NextToken": "x"}).to_string();
    let imported = import(&text).unwrap();
    let taken: Vec<&str> = imported.taken.iter().map(|definition| definition.name.as_str()).collect();
    assert_eq!(taken, ["good", "fine math"]);
    for (name, part) in [
        ("good", "there already"),
        ("promql", "PromQL"),
        ("odd period", "Period"),
        ("searches", "SEARCH looks for metrics"),
        ("insights", "Metrics Insights"),
        ("elsewhere", "another account"),
        ("logs", "log alarms"),
        ("(an alarm without AlarmName)", "not an object"),
    ] {
        assert!(says(&imported.refused, name, part), "{name}: {:?}", imported.refused);
    }
    assert_eq!(imported.refused.len(), 8);
}

#[test]
fn what_is_different_here_is_told() {
    let stop = "arn:aws:automate:eu-west-1:ec2:stop";
    let metrics = vec![
        metric("stops", json!({"AlarmActions": [stop, "arn:aws:sns:eu-west-1:1:t", "ukai:incident:pay"]})),
        metric("warms", json!({"WarmUpConfiguration": {"WarmUpPeriod": 60}})),
        metric("refused", json!({"Period": 7})),
        metric("both", json!({"Statistic": "Average", "ExtendedStatistic": "p99", "Metrics": [], "Unit": ""})),
    ];
    let composites = vec![json!({"AlarmName": "either", "AlarmRule": "ALARM(stops) OR ALARM(\"refused\")"})];
    let imported = import(&described(metrics, composites)).unwrap();
    assert_eq!(imported.taken[0].actions.alarm[0], stop, "it is kept");
    assert!(says(&imported.notes, "stops", "does not run this action"));
    assert!(says(&imported.notes, "warms", "WarmUpConfiguration"));
    assert!(says(&imported.notes, "either", "\"refused\""));
    assert!(says(&imported.notes, "both", "ExtendedStatistic"));
    assert_eq!(imported.notes.len(), 4, "{:?}", imported.notes);
}

#[test]
fn a_misspelt_member_is_told_whether_its_alarm_is_taken_or_not() {
    let misspelt = metric("misspelt", json!({"TreatMissingDate": "ignore"}));
    let mut without = metric("without", json!({"Treshold": 3.0}));
    without.as_object_mut().unwrap().remove("Threshold");
    let logs = json!({"AlarmName": "logs", "Pattern": "x"});
    let text = json!({"MetricAlarms": [misspelt, without], "LogAlarms": [logs]}).to_string();
    let imported = import(&text).unwrap();
    assert!(says(&imported.notes, "misspelt", "TreatMissingDate (did you mean TreatMissingData?)"), "{imported:?}");
    assert!(says(&imported.refused, "without", "Treshold (did you mean Threshold?)"), "{imported:?}");
    assert!(!says(&imported.refused, "logs", "Pattern"), "nothing of it is taken");
}

#[test]
fn what_is_not_json_says_where() {
    let error = import("{\n  \"MetricAlarms\": [,]\n}").unwrap_err();
    let ImportError::Json { line, column, why } = &error else { panic!("{error:?}") };
    assert_eq!((*line, *column, why.as_str()), (2, 20, "expected value"));
    assert_eq!(error.to_string(), "line 2, column 20: expected value");
    for text in ["3", "{}", "{\"MetricAlarms\": 1}", "{\"Stacks\": []}"] {
        let error = import(text).unwrap_err().to_string();
        assert!(error.contains("describe-alarms --output json"), "{error}");
    }
    assert_eq!(import("{\"MetricAlarms\": []}").unwrap().taken.len(), 0);
}

#[test]
fn an_export_replaces_what_only_ukai_can_do() {
    let own =
        definition(metric("own", json!({"AlarmActions": ["ukai:incident:a", "ukai:incident:b", "arn:aws:sns:x:1:t"]})));
    let with_topic =
        export(std::slice::from_ref(&own), Options { format: Format::Json, topic: Some("arn:aws:sns:x:1:t") });
    let read: Value = serde_json::from_str(&with_topic.text).unwrap();
    assert_eq!(read[0]["AlarmActions"], json!(["arn:aws:sns:x:1:t"]));
    let without = export(std::slice::from_ref(&own), Options { format: Format::Json, topic: None });
    assert!(says(&without.notes, "own", "ukai:incident:b is left out"), "{:?}", without.notes);
    let template = export(&[own], Options { format: Format::CloudFormation, topic: None });
    let read: Value = serde_json::from_str(&template.text).unwrap();
    assert_eq!(
        read["Resources"]["Own"]["Properties"]["AlarmActions"],
        json!([{"Ref": "AlarmTopic"}, "arn:aws:sns:x:1:t"])
    );
    assert_eq!(read["Parameters"]["AlarmTopic"]["Type"], "String");
}

#[test]
fn observed_alarms_become_what_comes_nearest() {
    let observed = |name: &str, signal: &str| {
        definition(json!({"AlarmName": name, "Observed": {"Signal": signal, "Peer": "pay"}}))
    };
    let composite = |name: &str, rule: &str| definition(json!({"AlarmName": name, "AlarmRule": rule}));
    let suppressed = definition(json!({
        "AlarmName": "held", "AlarmRule": "ALARM(down)", "ActionsSuppressor": "controls",
        "ActionsSuppressorWaitPeriod": 1, "ActionsSuppressorExtensionPeriod": 2,
    }));
    let all = [
        composite("far", "ALARM(near)"),
        composite("near", "ALARM(down) AND NOT ALARM(controls)"),
        suppressed,
        composite("kept", "ALARM(down) OR ALARM(elsewhere)"),
        observed("down", "reachability"),
        observed("controls", "application"),
    ];
    let exported = export(&all, Options { format: Format::CloudFormation, topic: None });
    let read: Value = serde_json::from_str(&exported.text).unwrap();
    let names: Vec<&String> = read["Resources"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["Down", "Held", "Kept"]);
    let down = &read["Resources"]["Down"]["Properties"];
    assert_eq!(
        (&down["MetricName"], &down["Period"], &down["DatapointsToAlarm"]),
        (&json!("ProbeSuccess"), &json!(10), &json!(3))
    );
    assert_eq!(read["Resources"]["Held"]["DependsOn"], json!(["Down"]));
    for (name, part) in [
        ("controls", "left out: no metric says"),
        ("near", "left out: its rule names \"controls\""),
        ("far", "left out: its rule names \"near\""),
        ("held", "without its suppressor \"controls\""),
        ("kept", "\"elsewhere\", which is not exported"),
        ("down", "becomes a metric alarm"),
    ] {
        assert!(says(&exported.notes, name, part), "{name}: {:?}", exported.notes);
    }
}

#[test]
fn an_outage_is_held_back_by_the_controls_there_too() {
    let all: Vec<Definition> =
        defaults::of_peer("pay", "here").into_iter().chain([defaults::of_vantage("here")]).collect();
    let exported = export(&all, Options { format: Format::Json, topic: Some("arn:aws:sns:eu-west-1:1:t") });
    let read: Vec<Value> = serde_json::from_str(&exported.text).unwrap();
    let named = |name: &str| read.iter().find(|alarm| alarm["AlarmName"] == name).unwrap();
    let outage = named("pay/outage");
    assert_eq!(outage["AlarmRule"], "ALARM(\"pay/reachability\")");
    assert_eq!(
        (&outage["ActionsSuppressor"], &outage["ActionsSuppressorWaitPeriod"]),
        (&json!("ukai/controls"), &json!(60))
    );
    assert_eq!(named("ukai/controls")["MetricName"], "ControlSuccess");
    let dimensions = json!([{"Name": "Peer", "Value": "pay"}, {"Name": "Vantage", "Value": "here"}]);
    assert_eq!(named("pay/reachability")["Dimensions"], dimensions);
    assert!(says(&exported.notes, "pay/identity", "left out"));
}

const NAMES: [&str; 6] = ["a", "b c", "d-e", "f\"g", "東京", "h(i)"];

fn watched() -> impl Strategy<Value = Value> {
    let statistic = prop_oneof![
        prop::sample::select(vec!["SampleCount", "Sum", "Average", "Minimum", "Maximum"])
            .prop_map(|text| json!({"Statistic": text})),
        prop::sample::select(vec!["p99", "p50.5", "IQM", "TM(10%:90%)"])
            .prop_map(|text| json!({"ExtendedStatistic": text})),
    ];
    let dimensions = prop::collection::btree_map("[A-Za-z]{1,8}", "[ -~]{0,8}[!-~]", 0..3);
    let unit = prop::option::of(prop::sample::select(vec!["Count", "Seconds", "None", "Bytes/Second"]));
    let single = (statistic, dimensions, unit).prop_map(|(statistic, dimensions, unit)| {
        let dimensions: Vec<Value> =
            dimensions.into_iter().map(|(name, value)| json!({"Name": name, "Value": value})).collect();
        let mut wire = json!({"Namespace": "Ukai/Peer", "MetricName": "M", "Dimensions": dimensions, "Unit": unit});
        wire.as_object_mut().unwrap().extend(statistic.as_object().unwrap().clone());
        wire
    });
    let stat = json!({"Metric": {"Namespace": "N", "MetricName": "M", "Dimensions": []}, "Period": 300, "Stat": "p90"});
    let math = (any::<bool>(), any::<bool>()).prop_map(move |(labelled, banded)| {
        let label = labelled.then_some("a label");
        let expression = if banded { "ANOMALY_DETECTION_BAND(m1, 2)" } else { "m1 / 2" };
        json!({"Metrics": [
            {"Id": "m1", "MetricStat": stat, "ReturnData": banded, "Label": label},
            {"Id": "e1", "Expression": expression, "ReturnData": true},
        ]})
    });
    prop_oneof![single, math]
}

fn metric_alarm() -> impl Strategy<Value = Value> {
    let operators = vec![
        "GreaterThanOrEqualToThreshold",
        "GreaterThanThreshold",
        "LessThanThreshold",
        "LessThanOrEqualToThreshold",
    ];
    let treatments = vec!["missing", "ignore", "breaching", "notBreaching"];
    let action = prop::collection::vec("arn:aws:sns:[a-z]{1,4}:1:[a-z]{1,4}", 0..3);
    let window = prop::option::of(prop::option::of(prop::sample::select(vec!["Asia/Tokyo", "+05:30"])));
    (
        watched(),
        (1i64..6, prop::option::of(1i64..6)),
        prop::sample::select(operators),
        -1e12f64..1e12,
        (
            prop::option::of(prop::sample::select(treatments)),
            prop::option::of(prop::sample::select(vec!["evaluate", "ignore"])),
        ),
        (prop::option::of("\\PC{0,20}"), any::<bool>(), action.clone(), action),
        window,
    )
        .prop_map(
            |(mut wire, (n, m), operator, threshold, (treat, low), (description, enabled, ok, alarm), window)| {
                let is_banded = wire["Metrics"][0]["ReturnData"] == json!(true);
                let more = json!({
                    "AlarmDescription": description, "ActionsEnabled": enabled, "OKActions": ok, "AlarmActions": alarm,
                    "EvaluationPeriods": n, "DatapointsToAlarm": m.map(|m| m.min(n)), "TreatMissingData": treat,
                    "EvaluateLowSampleCountPercentile": low,
                    "Threshold": (!is_banded).then_some(threshold),
                    "ThresholdMetricId": is_banded.then_some("e1"),
                    "ComparisonOperator": if is_banded { "GreaterThanUpperThreshold" } else { operator },
                });
                if wire.get("MetricName").is_some() {
                    wire["Period"] = json!(if window.is_some() { 300 } else { 10 * n });
                    if n > 3 && window.is_none() {
                        wire["Period"] = json!(60 * n);
                    }
                }
                wire.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                if let Some(timezone) = window {
                    wire["EvaluationWindow"] = json!({"WallClockWindow": {"Timezone": timezone}});
                }
                wire
            },
        )
}

fn composite_alarm() -> impl Strategy<Value = Value> {
    let suppressor = prop::option::of((0u32..1000, 0u32..1000));
    (prop::sample::select(vec!["a", "b c", "東京"]), any::<bool>(), suppressor).prop_map(|(child, not, suppressor)| {
        let rule = format!("{}ALARM(\"{child}\")", if not { "NOT " } else { "" });
        let mut wire = json!({"AlarmRule": rule});
        if let Some((wait, extension)) = suppressor {
            wire["ActionsSuppressor"] = json!("d-e");
            wire["ActionsSuppressorWaitPeriod"] = json!(wait);
            wire["ActionsSuppressorExtensionPeriod"] = json!(extension);
        }
        wire
    })
}

fn any_definitions() -> impl Strategy<Value = Vec<Definition>> {
    let any_alarm = prop_oneof![3 => metric_alarm(), 1 => composite_alarm()];
    prop::collection::vec(any_alarm, 1..NAMES.len()).prop_map(|wires| {
        let named = wires.into_iter().zip(NAMES).map(|(mut wire, name)| {
            wire["AlarmName"] = json!(name);
            definition(wire)
        });
        named.collect()
    })
}

proptest! {
    #[test]
    fn what_is_exported_is_imported_the_same(definitions in any_definitions()) {
        let exported = export(&definitions, Options { format: Format::Json, topic: None });
        let imported = import(&exported.text).unwrap();
        prop_assert_eq!(&imported.refused, &[]);
        let sorted = |mut all: Vec<Definition>| {
            all.sort_by(|one, other| one.name.cmp(&other.name));
            all
        };
        let is_composite = |definition: &Definition| matches!(definition.kind, Kind::Composite(_));
        prop_assert!(imported.taken.is_sorted_by_key(is_composite), "metric alarms first");
        prop_assert_eq!(sorted(imported.taken), sorted(definitions.clone()));
        let template = export(&definitions, Options { format: Format::CloudFormation, topic: None });
        let read: Value = serde_json::from_str(&template.text).unwrap();
        prop_assert_eq!(read["Resources"].as_object().unwrap().len(), definitions.len());
    }

    #[test]
    fn no_text_makes_an_import_panic(text in "[\\[\\]{}:,\"a-zA-Z0-9 ]{0,80}") {
        let _ = import(&text);
    }
}

#[test]
fn a_child_stands_before_its_composite_in_every_format() {
    let all = [
        definition(json!({"AlarmName": "top", "AlarmRule": "ALARM(middle)"})),
        definition(json!({"AlarmName": "middle", "AlarmRule": "ALARM(leaf)"})),
        definition(metric("leaf", json!({}))),
    ];
    let exported = export(&all, Options { format: Format::Json, topic: None });
    let read: Vec<Value> = serde_json::from_str(&exported.text).unwrap();
    let names: Vec<&str> = read.iter().map(|alarm| alarm["AlarmName"].as_str().unwrap()).collect();
    assert_eq!(names, ["leaf", "middle", "top"]);
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), 3);
}
