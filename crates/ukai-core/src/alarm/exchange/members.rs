//! Members of an alarm that nothing is made of: a misspelt one must not be lost in silence.

use serde_json::Value;

/// Unknown members of one alarm that are named; the others are counted.
const NAMED_MAX: usize = 10;

/// What a definition is read from.
const ALARM: [&str; 25] = [
    "AlarmName",
    "AlarmDescription",
    "ActionsEnabled",
    "OKActions",
    "AlarmActions",
    "InsufficientDataActions",
    "MetricName",
    "Namespace",
    "Statistic",
    "ExtendedStatistic",
    "Dimensions",
    "Period",
    "Unit",
    "EvaluationPeriods",
    "DatapointsToAlarm",
    "Threshold",
    "ComparisonOperator",
    "TreatMissingData",
    "EvaluateLowSampleCountPercentile",
    "Metrics",
    "ThresholdMetricId",
    "EvaluationWindow",
    "EvaluationCriteria",
    "AlarmRule",
    "ActionsSuppressor",
];
const ALARM_TOO: [&str; 3] = ["ActionsSuppressorWaitPeriod", "ActionsSuppressorExtensionPeriod", "Observed"];

/// What `DescribeAlarms` shows beside a definition (API reference, `MetricAlarm` and `CompositeAlarm`).
const STATE: [&str; 10] = [
    "AlarmArn",
    "AlarmConfigurationUpdatedTimestamp",
    "StateValue",
    "StateReason",
    "StateReasonData",
    "StateUpdatedTimestamp",
    "StateTransitionedTimestamp",
    "EvaluationState",
    "ActionsSuppressedBy",
    "ActionsSuppressedReason",
];

const QUERY: [&str; 7] = ["Id", "MetricStat", "Expression", "Label", "ReturnData", "Period", "AccountId"];
const STAT: [&str; 4] = ["Metric", "Period", "Stat", "Unit"];
const METRIC: [&str; 3] = ["Namespace", "MetricName", "Dimensions"];
const DIMENSION: [&str; 2] = ["Name", "Value"];
const WALL_CLOCK: [&str; 1] = ["Timezone"];

/// Says which members are not taken, where there are any. `told`: members of which something is said elsewhere.
pub fn not_taken(alarm: &Value, told: &[&str]) -> Option<String> {
    let unknown = unknown(alarm, told);
    let named: Vec<&str> = unknown.iter().take(NAMED_MAX).map(String::as_str).collect();
    match (named.is_empty(), unknown.len() - named.len()) {
        (true, _) => None,
        (false, 0) => Some(format!("not taken, for there is no such member: {}", named.join(", "))),
        (false, more) => Some(format!("not taken, for there is no such member: {} and {more} more", named.join(", "))),
    }
}

fn unknown(alarm: &Value, told: &[&str]) -> Vec<String> {
    let known: Vec<&str> = [&ALARM[..], &ALARM_TOO, &STATE, told].concat();
    let mut found = Vec::new();
    look(alarm, "", &known, &mut found);
    dimensions(&alarm["Dimensions"], "", &mut found);
    look(&alarm["EvaluationWindow"]["WallClockWindow"], "EvaluationWindow.WallClockWindow.", &WALL_CLOCK, &mut found);
    for (place, query) in alarm["Metrics"].as_array().into_iter().flatten().enumerate() {
        let at = format!("Metrics[{place}].");
        look(query, &at, &QUERY, &mut found);
        look(&query["MetricStat"], &format!("{at}MetricStat."), &STAT, &mut found);
        let (metric, at) = (&query["MetricStat"]["Metric"], format!("{at}MetricStat.Metric."));
        look(metric, &at, &METRIC, &mut found);
        dimensions(&metric["Dimensions"], &at, &mut found);
    }
    found
}

fn dimensions(list: &Value, at: &str, found: &mut Vec<String>) {
    for (place, dimension) in list.as_array().into_iter().flatten().enumerate() {
        look(dimension, &format!("{at}Dimensions[{place}]."), &DIMENSION, found);
    }
}

/// A member that is null says nothing, whatever its name.
fn look(object: &Value, at: &str, known: &[&str], found: &mut Vec<String>) {
    for (member, value) in object.as_object().into_iter().flatten() {
        if !value.is_null() && !known.contains(&member.as_str()) {
            let meant = nearest(member, known).map(|meant| format!(" (did you mean {meant}?)")).unwrap_or_default();
            found.push(format!("{at}{member}{meant}"));
        }
    }
}

fn nearest<'k>(member: &str, known: &[&'k str]) -> Option<&'k str> {
    let far = |word: &str| strsim::damerau_levenshtein(&member.to_lowercase(), &word.to_lowercase());
    let near = known.iter().map(|word| (far(word), *word)).filter(|(far, word)| *far <= word.len() / 3);
    near.min_by_key(|(far, _)| *far).map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::alarm::definition::wire::Wire;

    #[test]
    fn every_member_that_is_read_is_known() {
        let stat = json!({
            "Metric": { "Namespace": "N", "MetricName": "M", "Dimensions": [{ "Name": "a", "Value": "b" }] },
            "Period": 60, "Stat": "Sum", "Unit": "Count",
        });
        let full = json!({
            "AlarmName": "a", "AlarmDescription": "d", "MetricName": "m", "Namespace": "N", "Statistic": "Sum",
            "ExtendedStatistic": "p9", "Dimensions": [{ "Name": "a", "Value": "b" }], "Period": 60, "Unit": "Count",
            "EvaluationPeriods": 1, "DatapointsToAlarm": 1, "Threshold": 1.0, "ComparisonOperator": "c",
            "TreatMissingData": "missing", "EvaluateLowSampleCountPercentile": "ignore", "ActionsEnabled": true,
            "Metrics": [{ "Id": "m", "MetricStat": stat, "Expression": "e", "Label": "l", "ReturnData": true,
                          "Period": 60, "AccountId": "1" }],
            "ThresholdMetricId": "m", "EvaluationWindow": { "WallClockWindow": { "Timezone": "UTC" } },
            "EvaluationCriteria": {}, "AlarmRule": "TRUE", "ActionsSuppressor": "s",
            "ActionsSuppressorWaitPeriod": 1, "ActionsSuppressorExtensionPeriod": 1,
        });
        let read: Wire = serde_json::from_value(full.clone()).unwrap();
        let written = serde_json::to_value(&read).unwrap();
        assert_eq!(written.as_object().unwrap().len() + 1, ALARM.len() + ALARM_TOO.len(), "all but Observed");
        assert_eq!(not_taken(&written, &[]), None);
    }

    #[test]
    fn what_is_misspelt_is_named_with_its_place_and_what_was_meant() {
        let alarm = json!({
            "AlarmName": "a", "TreatMissingDate": "ignore", "Owner": "pay", "Nothing": null, "StateValue": "OK",
            "Metrics": [{ "Id": "m", "MetricStat": { "Sta": "Sum", "Metric": { "dimensions": [] } } }],
        });
        let said = not_taken(&alarm, &["Owner"]).unwrap();
        for part in [
            "TreatMissingDate (did you mean TreatMissingData?)",
            "Metrics[0].MetricStat.Sta (did you mean Stat?)",
            "Metrics[0].MetricStat.Metric.dimensions (did you mean Dimensions?)",
        ] {
            assert!(said.contains(part), "{said}");
        }
        assert!(!said.contains("Owner") && !said.contains("Nothing") && !said.contains("StateValue"), "{said}");
        let many: serde_json::Map<String, Value> = (0..30).map(|number| (format!("x{number}"), json!(1))).collect();
        assert!(not_taken(&many.into(), &[]).unwrap().ends_with(" and 20 more"));
    }
}
