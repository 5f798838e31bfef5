use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn now() -> Timestamp {
    Timestamp::from_second(1_767_225_600).unwrap()
}

fn put(datum: Value) -> Result<Vec<Datum>, PutError> {
    parse(json!({"Namespace": "N", "MetricData": [datum]}).to_string().as_bytes(), now())
}

fn refusal(datum: Value) -> (Code, String) {
    let error = put(datum).unwrap_err();
    (error.code, error.message)
}

#[test]
fn what_ukai_itself_measures_is_not_taken() {
    let body = json!({"Namespace": "Ukai/Peer", "MetricData": [{"MetricName": "ProbeSuccess", "Value": 0}]});
    let error = parse(body.to_string().as_bytes(), now()).unwrap_err();
    assert_eq!(error.code, Code::InvalidParameterValue);
    assert!(error.message.contains("what ukai itself measures"), "{}", error.message);
}

#[test]
fn the_three_forms_are_taken() {
    let data = parse(
        json!({"Namespace": "Shop/Peer", "MetricData": [
            {"MetricName": "ProbeSuccess", "Dimensions": [{"Name": "Vantage", "Value": "vpc-a"}, {"Name": "Peer", "Value": "pay"}],
             "Timestamp": 1_767_225_600.5, "Value": 0, "Unit": "Count", "StorageResolution": 1},
            {"MetricName": "Time", "Timestamp": "2026-01-01T00:00:00+09:00", "Values": [31, 34, 90], "Counts": [4, 5, 1], "Unit": "Milliseconds"},
            {"MetricName": "Plain", "Values": [1, 1]},
            {"MetricName": "Set", "StatisticValues": {"SampleCount": 2, "Sum": 3, "Minimum": 1, "Maximum": 2}},
        ]})
        .to_string()
        .as_bytes(),
        now(),
    )
    .unwrap();
    assert_eq!(data[0].metric.to_string(), "Shop/Peer ProbeSuccess {Peer=pay, Vantage=vpc-a}");
    assert_eq!(
        (data[0].value.clone(), data[0].unit, data[0].high_resolution),
        (DatumValue::Single(0.0), Unit::Count, true)
    );
    assert_eq!(data[0].at.as_millisecond(), 1_767_225_600_500);
    assert_eq!(data[1].value, DatumValue::Many(vec![(31.0, 4.0), (34.0, 5.0), (90.0, 1.0)]));
    assert_eq!(data[1].at, "2025-12-31T15:00:00Z".parse().unwrap());
    assert_eq!((data[2].value.clone(), data[2].at), (DatumValue::Many(vec![(1.0, 1.0), (1.0, 1.0)]), now()));
    let set = StatisticSet { sample_count: 2.0, sum: 3.0, minimum: 1.0, maximum: 2.0 };
    assert_eq!((data[3].value.clone(), data[3].high_resolution), (DatumValue::Set(set), false));
}

/// What real CloudWatch was recorded to answer (`test_put_metric_data_validation`, 2025-09-19).
#[test]
fn the_recorded_texts() {
    let set = json!({"SampleCount": 1, "Sum": 1, "Minimum": 1, "Maximum": 1});
    let recorded = [
        (
            json!({"MetricName": "m", "Value": 21, "Unit": "Seconds", "Values": [5, 1]}),
            Code::InvalidParameterCombination,
            "The parameters MetricData.member.1.Value and MetricData.member.1.Values are mutually exclusive and you have specified both.",
        ),
        (
            json!({"MetricName": "m", "Unit": "Seconds", "Values": [5, 1], "Counts": [1]}),
            Code::InvalidParameterValue,
            "The parameters MetricData.member.1.Values and MetricData.member.1.Counts must be of the same size.",
        ),
        (
            json!({"MetricName": "m", "Value": 1, "StatisticValues": set}),
            Code::InvalidParameterCombination,
            "The parameters MetricData.member.1.Value and MetricData.member.1.StatisticValues are mutually exclusive and you have specified both.",
        ),
    ];
    for (datum, code, text) in recorded {
        assert_eq!(refusal(datum), (code, text.to_owned()));
    }
}

#[test]
fn what_is_wrong_is_refused_with_its_place() {
    let dimensions = |names: &[String]| -> Value { names.iter().map(|n| json!({"Name": n, "Value": "v"})).collect() };
    let names: Vec<String> = (0..31).map(|n| format!("d{n}")).collect();
    let cases = [
        (json!({"Value": 1}), Code::MissingParameter, "member.1.MetricName is required"),
        (json!({"MetricName": "m"}), Code::MissingParameter, "At least one of the parameters"),
        (
            json!({"MetricName": "m", "Value": "NaN"}),
            Code::InvalidParameterValue,
            "member.1.Value is invalid: the value NaN",
        ),
        (json!({"MetricName": "m", "Value": "Infinity"}), Code::InvalidParameterValue, "the value inf"),
        (json!({"MetricName": "m", "Value": "-Infinity"}), Code::InvalidParameterValue, "the value -inf"),
        (json!({"MetricName": "m", "Value": 1e120}), Code::InvalidParameterValue, "member.1.Value is invalid"),
        (json!({"MetricName": "m", "Value": "one"}), Code::SerializationException, "a number at line 1 column "),
        (
            json!({"MetricName": "m", "Values": vec![1; 151]}),
            Code::InvalidParameterValue,
            "150 distinct values, not 151",
        ),
        (json!({"MetricName": "m", "Values": [1], "Counts": [0]}), Code::InvalidParameterValue, "counts are invalid"),
        (
            json!({"MetricName": "m", "Value": 1, "Counts": [1]}),
            Code::InvalidParameterCombination,
            "Value and MetricData.member.1.Counts",
        ),
        (
            json!({"MetricName": "m", "StatisticValues": {"Sum": 1}}),
            Code::MissingParameter,
            "StatisticValues.SampleCount",
        ),
        (
            json!({"MetricName": "m", "Value": 1, "Unit": "seconds"}),
            Code::InvalidParameterValue,
            "Unit must be a value in the set [ Seconds, ",
        ),
        (
            json!({"MetricName": "m", "Value": 1, "StorageResolution": 10}),
            Code::InvalidParameterValue,
            "must be 1 or 60, not 10",
        ),
        (
            json!({"MetricName": "m", "Value": 1, "Timestamp": 1_766_015_999}),
            Code::InvalidParameterValue,
            "two weeks in the past",
        ),
        (
            json!({"MetricName": "m", "Value": 1, "Timestamp": 1_767_232_801}),
            Code::InvalidParameterValue,
            "two hours in the future",
        ),
        (
            json!({"MetricName": "m", "Value": 1, "Timestamp": 1e300}),
            Code::InvalidParameterValue,
            "Timestamp must be seconds",
        ),
        (
            json!({"MetricName": "m", "Value": 1, "Timestamp": "yesterday"}),
            Code::InvalidParameterValue,
            "Timestamp must be seconds",
        ),
        (
            json!({"MetricName": "m", "Value": 1, "Dimensions": dimensions(&names)}),
            Code::InvalidParameterValue,
            "The collection MetricData.member.1.Dimensions must not have a size greater than 30.",
        ),
        (
            json!({"MetricName": "m", "Value": 1, "Dimensions": dimensions(&["a".into(), "a".into()])}),
            Code::InvalidParameterValue,
            "\"a\" is given twice",
        ),
        (
            json!({"MetricName": "m", "Value": 1, "Dimensions": [{"Name": "a"}]}),
            Code::MissingParameter,
            "Dimensions.member.1.Value",
        ),
    ];
    for (datum, code, part) in cases {
        let (found, message) = refusal(datum.clone());
        assert!(found == code && message.contains(part), "{datum}: {found:?} {message}");
    }
}

#[test]
fn a_request_is_refused_whole() {
    let good = json!({"MetricName": "m", "Value": 1});
    let mut many = vec![good.clone(); 1001];
    let of = |body: &Value| parse(body.to_string().as_bytes(), now());
    assert_eq!(
        of(&json!({"Namespace": "N", "MetricData": many})).unwrap_err().message,
        "The collection MetricData must not have a size greater than 1000."
    );
    many.pop();
    assert_eq!(of(&json!({"Namespace": "N", "MetricData": many})).unwrap().len(), 1000);
    many[999] = json!({"MetricName": "m", "Value": "NaN"});
    assert!(of(&json!({"Namespace": "N", "MetricData": many})).unwrap_err().message.contains("member.1000.Value"));
    for body in [json!({"MetricData": [good]}), json!({"Namespace": "N"}), json!({"Namespace": "N", "MetricData": []})]
    {
        assert_eq!(of(&body).unwrap_err().code, Code::MissingParameter, "{body}");
    }
    assert_eq!(of(&json!({"Namespace": ":N", "MetricData": [good]})).unwrap_err().code, Code::InvalidParameterValue);
    assert_eq!(parse(&vec![b' '; REQUEST_BYTES_MAX + 1], now()).unwrap_err().code, Code::RequestEntityTooLarge);
    assert_eq!(parse(b"{", now()).unwrap_err().code, Code::SerializationException);
}

proptest! {
    #[test]
    fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200), seconds in any::<f64>()) {
        let _ = parse(&body, now());
        let _ = put(json!({"MetricName": "m", "Value": seconds, "Timestamp": seconds}));
    }
}
