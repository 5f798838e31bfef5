//! Writes and reads alarms as CloudWatch has them, for the check against real tools (crates/ukai/tests/aws).
//!
//! `exchange export json|cloudformation` prints alarms of every kind, and remarks on stderr.
//! `exchange import FILE` reads what `aws cloudwatch describe-alarms` printed, and says what became of it.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example tells its results on the terminal")]

use std::process::ExitCode;

use serde_json::{Value, json};
use ukai_core::alarm::definition::Definition;
use ukai_core::alarm::exchange::{Format, Options, export, import};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["export", "json"] => written(Format::Json),
        ["export", "cloudformation"] => written(Format::CloudFormation),
        ["import", file] => read(file),
        _ => {
            eprintln!("usage: exchange export json|cloudformation, or exchange import FILE");
            ExitCode::from(2)
        }
    }
}

fn written(format: Format) -> ExitCode {
    let topic = match format {
        Format::Json => Some("arn:aws:sns:us-east-1:000000000000:ops"),
        Format::CloudFormation => None,
    };
    let exported = export(&definitions(), Options { format, topic });
    for note in &exported.notes {
        eprintln!("{}: {}", note.alarm, note.text);
    }
    print!("{}", exported.text);
    ExitCode::SUCCESS
}

fn read(file: &str) -> ExitCode {
    let imported = match std::fs::read_to_string(file).map_err(|error| error.to_string()) {
        Ok(text) => import(&text).map_err(|error| error.to_string()),
        Err(error) => Err(error),
    };
    match imported {
        Ok(imported) => {
            let told = json!({"taken": imported.taken, "refused": imported.refused, "notes": imported.notes});
            println!("{told:#}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{file}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn definitions() -> Vec<Definition> {
    let mut all = operators();
    all.extend(shapes());
    all.extend(composites());
    // A definition that does not hold here is a fault of this list, and is told by its absence in the output.
    all.into_iter()
        .filter_map(|wire| serde_json::from_value(wire).map_err(|error| eprintln!("not a definition: {error}")).ok())
        .collect()
}

fn alarm(name: &str, different: Value) -> Value {
    let mut wire = json!({
        "AlarmName": name, "Namespace": "Ukai/Peer", "MetricName": "ProbeSuccess",
        "Dimensions": [{"Name": "Peer", "Value": "pay"}], "Statistic": "Average", "Period": 60, "EvaluationPeriods": 3,
        "Threshold": 1.0, "ComparisonOperator": "LessThanThreshold",
    });
    for (name, value) in different.as_object().into_iter().flatten() {
        wire[name] = value.clone();
    }
    wire
}

fn operators() -> Vec<Value> {
    let each = [
        ("op-ge", "GreaterThanOrEqualToThreshold", "SampleCount"),
        ("op-gt", "GreaterThanThreshold", "Sum"),
        ("op-lt", "LessThanThreshold", "Minimum"),
        ("op-le", "LessThanOrEqualToThreshold", "Maximum"),
    ];
    each.map(|(name, operator, statistic)| alarm(name, json!({"ComparisonOperator": operator, "Statistic": statistic})))
        .to_vec()
}

fn stat(metric: &str, period: u32, statistic: &str) -> Value {
    let metric = json!({
        "Namespace": "Ukai/Peer", "MetricName": metric, "Dimensions": [{"Name": "Peer", "Value": "pay"}],
    });
    json!({"Metric": metric, "Period": period, "Stat": statistic})
}

/// The alarm without what belongs to one metric.
fn on_math(name: &str, different: Value) -> Value {
    let mut wire = alarm(name, different);
    for member in ["Namespace", "MetricName", "Dimensions", "Statistic", "Period"] {
        wire[member] = Value::Null;
    }
    wire
}

fn shapes() -> Vec<Value> {
    let share = json!([
        {"Id": "share", "Label": "share of failures", "Expression": "100 * (1 - ok / all)", "ReturnData": true},
        {"Id": "ok", "MetricStat": stat("ProbeSuccess", 60, "Sum"), "ReturnData": false},
        {"Id": "all", "MetricStat": stat("ProbeSuccess", 60, "SampleCount"), "ReturnData": false},
    ]);
    let band = |period: u32| {
        json!([
            {"Id": "m1", "MetricStat": stat("ConnectTime", period, "Average"), "ReturnData": true},
            {"Id": "ad1", "Expression": "ANOMALY_DETECTION_BAND(m1, 2)", "Label": "expected", "ReturnData": true},
        ])
    };
    let banded = |name: &str, operator: &str| {
        let different = json!({
            "Metrics": band(300), "Threshold": null, "ThresholdMetricId": "ad1", "ComparisonOperator": operator,
        });
        on_math(name, different)
    };
    let actions = json!({
        "AlarmActions": ["arn:aws:sns:us-east-1:000000000000:ops", "ukai:incident:pay"],
        "OKActions": ["arn:aws:sns:us-east-1:000000000000:ops"],
        "InsufficientDataActions": ["arn:aws:lambda:us-east-1:000000000000:function:tell"],
        "ActionsEnabled": false, "AlarmDescription": "A \"quoted\" text, 東京.",
    });
    vec![
        alarm("fast, m of n", json!({"Period": 10, "DatapointsToAlarm": 2, "TreatMissingData": "breaching"})),
        alarm("not breaching", json!({"TreatMissingData": "notBreaching", "Unit": "Count"})),
        alarm("ignored", json!({"TreatMissingData": "ignore", "Dimensions": []})),
        alarm("missing", json!({"TreatMissingData": "missing", "Threshold": 0.000_012_5})),
        alarm(
            "p99",
            json!({"Statistic": null, "ExtendedStatistic": "p99", "MetricName": "ConnectTime", "Unit": "Milliseconds",
                   "EvaluateLowSampleCountPercentile": "ignore", "ComparisonOperator": "GreaterThanThreshold"}),
        ),
        alarm("tm", json!({"Statistic": null, "ExtendedStatistic": "TM(10%:90%)"})),
        alarm(
            "hours",
            json!({"Period": 3600, "EvaluationPeriods": 24, "EvaluationWindow": {"WallClockWindow": {"Timezone": "Asia/Tokyo"}}}),
        ),
        on_math("math", json!({"Metrics": share, "Threshold": 5.0, "ComparisonOperator": "GreaterThanThreshold"})),
        banded("band both", "LessThanLowerOrGreaterThanUpperThreshold"),
        banded("band upper", "GreaterThanUpperThreshold"),
        banded("band lower", "LessThanLowerThreshold"),
        alarm("actions", actions),
        json!({"AlarmName": "pay unreachable", "Observed": {"Signal": "reachability", "Peer": "pay"}}),
        json!({"AlarmName": "controls", "Observed": {"Signal": "controls"}}),
    ]
}

fn composites() -> Vec<Value> {
    vec![
        json!({"AlarmName": "everything", "AlarmRule": "ALARM(\"pay down\") OR ALARM(\"fast, m of n\")"}),
        json!({
            "AlarmName": "pay down", "AlarmRule": "(ALARM(op-lt) OR ALARM(\"pay unreachable\")) AND NOT INSUFFICIENT_DATA(math)",
            "ActionsSuppressor": "op-gt", "ActionsSuppressorWaitPeriod": 60, "ActionsSuppressorExtensionPeriod": 120,
            "AlarmActions": ["arn:aws:sns:us-east-1:000000000000:ops"],
        }),
        json!({"AlarmName": "blind", "AlarmRule": "ALARM(controls)"}),
    ]
}
