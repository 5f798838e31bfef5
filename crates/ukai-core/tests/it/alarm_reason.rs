//! What a change of state says of itself, against texts that CloudWatch was recorded with.

use jiff::Timestamp;
use serde_json::json;
use ukai_core::alarm::AlarmState;
use ukai_core::alarm::definition::{Definition, MetricAlarm};
use ukai_core::alarm::evaluate::{Evaluation, RangePoint};
use ukai_core::alarm::missing_data::{Slot, judge};
use ukai_core::alarm::reason::{self, REASON_DATA_MAX, REASON_MAX};
use ukai_core::metric::series::Datapoint;

/// An alarm on one metric, with what a test wants to be different.
pub fn alarm(different: serde_json::Value) -> MetricAlarm {
    let mut wire = json!({
        "AlarmName": "a", "Namespace": "N", "MetricName": "M", "Statistic": "Average", "Period": 60,
        "EvaluationPeriods": 1, "Threshold": 21.0, "ComparisonOperator": "GreaterThanThreshold",
    });
    for (name, value) in different.as_object().unwrap() {
        match value {
            serde_json::Value::Null => wire.as_object_mut().unwrap().remove(name),
            value => wire.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    let definition: Definition = serde_json::from_value(wire).unwrap();
    definition.metric().unwrap().clone()
}

/// Values of the whole range, oldest first; the newest period starts at `newest`.
pub fn evaluation(alarm: &MetricAlarm, newest: &str, values: &[Option<f64>], band: Option<(f64, f64)>) -> Evaluation {
    let newest: Timestamp = newest.parse().unwrap();
    let period_s = i64::from(alarm.period_s());
    let point = |(place, value): (usize, &Option<f64>)| {
        let breaching = |value| match (&alarm.threshold, band) {
            (_, Some((lower, upper))) => alarm.comparison_operator.is_outside(value, lower, upper),
            (ukai_core::alarm::definition::Threshold::Value(threshold), None) => {
                alarm.comparison_operator.is_breaching(value, *threshold)
            }
            (ukai_core::alarm::definition::Threshold::Band(_), None) => false,
        };
        RangePoint {
            start_s: newest.as_second() - (values.len() - 1 - place) as i64 * period_s,
            datapoint: value.map(|value| Datapoint { value, sample_count: 2.0 }),
            band: value.and(band),
            slot: match value {
                None => Slot::Missing,
                Some(value) if breaching(*value) => Slot::Breaching,
                Some(_) => Slot::Fine,
            },
        }
    };
    let range: Vec<RangePoint> = values.iter().enumerate().map(point).collect();
    let slots: Vec<Slot> = range.iter().map(|point| point.slot).collect();
    let judgement = judge(&slots, alarm.n(), alarm.m(), alarm.treats_missing_data());
    Evaluation { at: newest + jiff::SignedDuration::from_millis(90_250), range, judgement }
}

fn said(different: serde_json::Value, newest: &str, values: &[Option<f64>]) -> String {
    let alarm = alarm(different);
    let evaluation = evaluation(&alarm, newest, values, None);
    reason::reason(&alarm, &evaluation, evaluation.judgement.state.unwrap())
}

const NOW: &str = "2026-08-19T05:50:00Z";

#[test]
fn all_datapoints_that_agree_are_listed_newest_first() {
    let values = [None, None, Some(1.0), Some(3.0), Some(2.0)];
    assert_eq!(
        said(json!({"Threshold": 0.0, "EvaluationPeriods": 3, "Period": 180}), NOW, &values),
        "Threshold Crossed: 3 datapoints [2.0 (19/08/26 05:50:00), 3.0 (19/08/26 05:47:00), 1.0 (19/08/26 05:44:00)] \
         were greater than the threshold (0.0)."
    );
    assert_eq!(
        said(json!({"Threshold": 0.0, "EvaluationPeriods": 3}), NOW, &[Some(2.0), Some(2.0), Some(0.0)]),
        "Threshold Crossed: 1 datapoint [0.0 (19/08/26 05:50:00)] was not greater than the threshold (0.0)."
    );
}

#[test]
fn m_of_n_tells_the_minimum_for_either_way() {
    let m_of_n = |n: u32, m: u32, operator: &str, threshold: f64| json!({"EvaluationPeriods": n, "DatapointsToAlarm": m, "ComparisonOperator": operator, "Threshold": threshold});
    assert_eq!(
        said(m_of_n(1, 1, "GreaterThanThreshold", 50.0), NOW, &[Some(99.501_602_296_934_34)]),
        "Threshold Crossed: 1 out of the last 1 datapoints [99.50160229693434 (19/08/26 05:50:00)] was greater than the \
         threshold (50.0) (minimum 1 datapoint for OK -> ALARM transition)."
    );
    assert_eq!(
        said(m_of_n(2, 2, "GreaterThanOrEqualToThreshold", 1.0), NOW, &[Some(1.0), Some(0.0)]),
        "Threshold Crossed: 1 out of the last 2 datapoints [0.0 (19/08/26 05:50:00)] was not greater than or equal to the \
         threshold (1.0) (minimum 1 datapoint for ALARM -> OK transition)."
    );
    let values = [Some(0.0), Some(1.0), Some(0.0), Some(0.0), Some(1.0)];
    assert_eq!(
        said(m_of_n(5, 3, "GreaterThanThreshold", 0.0), "2021-12-21T06:46:00Z", &values),
        "Threshold Crossed: 3 out of the last 5 datapoints [0.0 (21/12/21 06:45:00), 0.0 (21/12/21 06:44:00), \
         0.0 (21/12/21 06:42:00)] were not greater than the threshold (0.0) (minimum 3 datapoints for ALARM -> OK \
         transition)."
    );
}

#[test]
fn many_datapoints_are_listed_apart_the_newest_five() {
    let values = [Some(0.0); 7].map(|value: Option<f64>| value.map(|_| 59.5));
    let listed = "[59.5 (19/08/26 05:50:00), 59.5 (19/08/26 05:49:00), 59.5 (19/08/26 05:48:00), 59.5 (19/08/26 \
                  05:47:00), 59.5 (19/08/26 05:46:00)]";
    assert_eq!(
        said(json!({"EvaluationPeriods": 7}), NOW, &values),
        format!(
            "Threshold Crossed: 7 datapoints were greater than the threshold (21.0). The most recent datapoints which \
             crossed the threshold: {listed}."
        )
    );
    assert_eq!(
        said(json!({"EvaluationPeriods": 7, "DatapointsToAlarm": 7}), NOW, &values),
        format!(
            "Threshold Crossed: 7 out of the last 7 datapoints were greater than the threshold (21.0). The most recent \
             datapoints which crossed the threshold: {listed} (minimum 7 datapoints for OK -> ALARM transition)."
        )
    );
}

#[test]
fn what_was_filled_in_is_told() {
    let none = [None; 4];
    let treated = |treat: &str, n: u32| json!({"TreatMissingData": treat, "EvaluationPeriods": n});
    assert_eq!(
        said(treated("breaching", 2), NOW, &none),
        "Threshold Crossed: no datapoints were received for 2 periods and 2 missing datapoints were treated as \
         [Breaching]."
    );
    assert_eq!(
        said(treated("notBreaching", 1), NOW, &none),
        "Threshold Crossed: no datapoints were received for 1 period and 1 missing datapoint was treated as \
         [NonBreaching]."
    );
    assert_eq!(said(treated("missing", 5), NOW, &none), "Insufficient Data: 5 datapoints were unknown.");
    assert_eq!(said(treated("missing", 1), NOW, &none), "Insufficient Data: 1 datapoint was unknown.");

    let mut rare = vec![None; 19];
    rare.push(Some(613.0));
    let different = json!({
        "EvaluationPeriods": 20, "DatapointsToAlarm": 1, "TreatMissingData": "notBreaching",
        "ComparisonOperator": "GreaterThanOrEqualToThreshold", "Threshold": 1.0,
    });
    assert_eq!(
        said(different, "2024-03-16T12:15:00Z", &rare),
        "Threshold Crossed: 1 out of the last 20 datapoints [613.0 (16/03/24 12:15:00)] was greater than or equal to the \
         threshold (1.0) and 19 missing datapoints were treated as [NonBreaching] (minimum 1 datapoint for OK -> ALARM \
         transition)."
    );
    let back = json!({
        "EvaluationPeriods": 2, "TreatMissingData": "breaching", "ComparisonOperator": "LessThanThreshold", "Threshold": 1.0,
    });
    assert_eq!(
        said(back, "2026-09-25T21:51:00Z", &[None, None, None, Some(1.0)]),
        "Threshold Crossed: 1 datapoint [1.0 (25/09/26 21:51:00)] was not less than the threshold (1.0) and 1 missing \
         datapoint was treated as [Breaching]."
    );
    let only_filled = json!({"EvaluationPeriods": 3, "DatapointsToAlarm": 2, "TreatMissingData": "breaching"});
    assert_eq!(
        said(only_filled, NOW, &[None, None, Some(0.0), None, None]),
        "Threshold Crossed: 1 datapoint was received for 3 periods and 2 missing datapoints were treated as [Breaching]."
    );
}

fn banded(operator: &str) -> MetricAlarm {
    let stat = json!({
        "Metric": {"Namespace": "AWS/EC2", "MetricName": "CPUUtilization", "Dimensions": []}, "Period": 60, "Stat": "Average"
    });
    alarm(json!({
        "Namespace": null, "MetricName": null, "Statistic": null, "Period": null, "Threshold": null,
        "ThresholdMetricId": "ad1", "ComparisonOperator": operator, "DatapointsToAlarm": 1,
        "Metrics": [
            {"Id": "m1", "MetricStat": stat, "ReturnData": true},
            {"Id": "ad1", "Expression": "ANOMALY_DETECTION_BAND(m1, 2)", "ReturnData": true},
        ],
    }))
}

#[test]
fn a_band_names_its_edges() {
    let both = banded("LessThanLowerOrGreaterThanUpperThreshold");
    let band = Some((0.020_599_444_741_798_756, 0.300_691_535_273_246_1));
    let low = evaluation(&both, "2019-10-03T15:58:00Z", &[Some(0.0)], band);
    assert_eq!(
        reason::reason(&both, &low, AlarmState::Alarm),
        "Thresholds Crossed: 1 out of the last 1 datapoints [0.0 (03/10/19 15:58:00)] was less than the lower thresholds \
         [0.020599444741798756] or greater than the upper thresholds [0.3006915352732461] (minimum 1 datapoint for OK -> \
         ALARM transition)."
    );
    let within = evaluation(&both, "2019-10-03T15:58:00Z", &[Some(0.166)], band);
    assert_eq!(
        reason::reason(&both, &within, AlarmState::Ok),
        "Thresholds Crossed: 1 out of the last 1 datapoints [0.166 (03/10/19 15:58:00)] was not less than the lower \
         thresholds [0.020599444741798756] or not greater than the upper thresholds [0.3006915352732461] (minimum 1 \
         datapoint for ALARM -> OK transition)."
    );
    let upper = banded("GreaterThanUpperThreshold");
    let high = evaluation(&upper, "2024-07-25T07:21:00Z", &[Some(239.0)], Some((1.0, 225.75)));
    assert_eq!(
        reason::reason_data(&upper, &high).to_json(),
        r#"{"version":"1.0","queryDate":"2024-07-25T07:22:30.250+0000","startDate":"2024-07-25T07:21:00.000+0000","#
            .to_owned()
            + r#""period":60,"recentDatapoints":[239.0],"recentUpperThresholds":[225.75],"#
            + r#""evaluatedDatapoints":[{"timestamp":"2024-07-25T07:21:00.000+0000","value":239.0,"threshold":225.75}]}"#
    );
}

#[test]
fn the_data_has_the_recorded_fields_in_the_recorded_order() {
    let alarm = alarm(json!({"Unit": "Seconds", "Period": 300, "EvaluationPeriods": 2, "Threshold": 10.0}));
    let evaluation = evaluation(&alarm, "2020-10-05T06:25:00Z", &[None, Some(10.5), Some(10.25)], None);
    assert_eq!(
        reason::reason_data(&alarm, &evaluation).to_json(),
        r#"{"version":"1.0","queryDate":"2020-10-05T06:26:30.250+0000","startDate":"2020-10-05T06:20:00.000+0000","#
            .to_owned()
            + r#""unit":"Seconds","statistic":"Average","period":300,"recentDatapoints":[10.5,10.25],"threshold":10.0,"#
            + r#""evaluatedDatapoints":[{"timestamp":"2020-10-05T06:25:00.000+0000","sampleCount":2.0,"value":10.25},"#
            + r#"{"timestamp":"2020-10-05T06:20:00.000+0000","sampleCount":2.0,"value":10.5}]}"#
    );
}

#[test]
fn the_limits_of_the_api_are_kept_by_leaving_out_the_oldest() {
    let alarm = alarm(json!({"EvaluationPeriods": 1440, "DatapointsToAlarm": 1440}));
    let values: Vec<Option<f64>> = (0..1442).map(|value| Some(f64::from(value) + 100.125)).collect();
    let evaluation = evaluation(&alarm, NOW, &values, None);
    let json = reason::reason_data(&alarm, &evaluation).to_json();
    assert!(json.len() <= REASON_DATA_MAX && json.len() > REASON_DATA_MAX - 200, "{}", json.len());
    let read: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(read["evaluatedDatapoints"][0]["value"], 1541.125);
    assert_eq!(read["recentDatapoints"].as_array().unwrap().last().unwrap(), 1541.125);
    assert!(reason::reason(&alarm, &evaluation, AlarmState::Alarm).chars().count() <= REASON_MAX);
}

#[test]
fn an_explanation_names_the_rule_and_every_period() {
    let alarm = alarm(json!({"EvaluationPeriods": 3, "DatapointsToAlarm": 2, "TreatMissingData": "breaching"}));
    let evaluation = evaluation(&alarm, NOW, &[None, None, Some(0.0), None, None], None);
    let explained = serde_json::to_value(reason::explain(&alarm, &evaluation)).unwrap();
    assert_eq!(explained["rule"], "filled");
    assert_eq!(explained["evaluationRange"], 5);
    assert_eq!(explained["filled"], 2);
    assert_eq!(explained["periods"][2]["cell"], "judged");
    assert_eq!(explained["periods"][2]["timestamp"], "2026-08-19T05:48:00.000+0000");
}

#[test]
fn a_composite_names_the_child_that_moved() {
    use reason::{CompositeCause, TriggeringChild, composite_reason, composite_reason_data};
    let arn = "arn:aws:cloudwatch:us-east-1:123456789012:alarm:child";
    let at: Timestamp = "2022-07-22T15:57:45.394Z".parse().unwrap();
    assert_eq!(
        composite_reason(CompositeCause::Child { arn, state: AlarmState::Alarm, at }, AlarmState::Alarm),
        format!("{arn} transitioned to ALARM at Friday 22 July, 2022 15:57:45 UTC")
    );
    assert_eq!(
        composite_reason(CompositeCause::Created { arn }, AlarmState::Ok),
        format!("{arn} was created and its alarm rule evaluates to OK")
    );
    let child = TriggeringChild { arn: arn.to_owned(), state: AlarmState::Alarm, at };
    assert_eq!(
        composite_reason_data(std::slice::from_ref(&child)),
        r#"{"triggeringAlarms":[{"arn":"arn:aws:cloudwatch:us-east-1:123456789012:alarm:child","#.to_owned()
            + r#""state":{"value":"ALARM","timestamp":"2022-07-22T15:57:45.394+0000"}}]}"#
    );
    let many = vec![child; 100];
    assert!(composite_reason_data(&many).len() <= REASON_DATA_MAX);
}
