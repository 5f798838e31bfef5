use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use ukai_core::metric::{Datum, DatumValue, StatisticSet, Unit};

use super::*;
use crate::metrics::Put;
use wire::{Gauge, KeyValue, Metric, NumberDataPoint, Resource, ResourceMetrics, ScopeMetrics};

const NANO: u64 = 1_000_000_000;
/// We began, …
const BEGAN: u64 = 1_767_225_600;
/// … and it is now.
const NOW: u64 = BEGAN + 100;

struct Place {
    receiver: OtlpReceiver,
    puts: mpsc::Receiver<Put>,
    _options: watch::Sender<Options>,
}

fn at(second: u64) -> Timestamp {
    Timestamp::from_second(second as i64).unwrap()
}

impl Place {
    fn new(dimensions: Option<&[&str]>) -> Place {
        Place::with_room(dimensions, 64)
    }

    fn with_room(dimensions: Option<&[&str]>, room: usize) -> Place {
        let (intake, puts) = Intake::with_room(room);
        let dimensions = dimensions.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
        let (options, receiver) = watch::channel(Options { namespace: Namespace::new("OTel").unwrap(), dimensions });
        Place { receiver: OtlpReceiver::new(receiver, intake, at(BEGAN)), puts, _options: options }
    }

    fn post(&self, metric: Value) -> Value {
        let attributes = json!([{"key": "service.name", "value": {"stringValue": "shop"}}, {"key": "host.id", "value": {"stringValue": "h"}}]);
        let body = json!({"resourceMetrics": [{"resource": {"attributes": attributes},
            "scopeMetrics": [{"scope": {"name": "s"}, "metrics": [metric]}]}]});
        let answer = self.receiver.take(body.to_string().as_bytes(), Encoding::Json, at(NOW)).unwrap();
        serde_json::from_slice(&answer).unwrap()
    }

    fn data(&mut self) -> Vec<Datum> {
        std::iter::from_fn(|| self.puts.try_recv().ok()).flat_map(|put| put.data).collect()
    }

    fn values(&mut self) -> Vec<DatumValue> {
        self.data().into_iter().map(|datum| datum.value).collect()
    }
}

fn nanos(second: u64) -> String {
    (second * NANO).to_string()
}

fn sum(temporality: u32, is_monotonic: bool, second: u64, value: &str) -> Value {
    let point = json!({"startTimeUnixNano": nanos(BEGAN + 1), "timeUnixNano": nanos(second), "asInt": value});
    json!({"name": "calls", "unit": "{call}", "sum": {"aggregationTemporality": temporality, "isMonotonic": is_monotonic, "dataPoints": [point]}})
}

fn histogram(temporality: u32, second: u64, counts: [u64; 3]) -> Value {
    let counts: Vec<String> = counts.iter().map(ToString::to_string).collect();
    json!({"name": "time", "unit": "s", "histogram": {"aggregationTemporality": temporality, "dataPoints": [{
        "startTimeUnixNano": nanos(BEGAN + 1), "timeUnixNano": nanos(second), "count": "3", "sum": 4.5,
        "bucketCounts": counts, "explicitBounds": [1.0, 3], "min": 0.5, "max": 4}]}})
}

#[test]
fn a_gauge_with_all_its_attributes() {
    let mut place = Place::new(None);
    let attributes = json!([
        {"key": "route", "value": {"stringValue": "/pay"}}, {"key": "ok", "value": {"boolValue": false}},
        {"key": "code", "value": {"intValue": "503"}}, {"key": "weight", "value": {"doubleValue": 0.5}},
        {"key": "list", "value": {"arrayValue": {"values": [{"intValue": 1}]}}}, {"key": "blank", "value": {"stringValue": ""}},
    ]);
    let answer = place.post(json!({"name": "queue.depth", "unit": "By", "later": 1, "gauge": {"dataPoints": [
        {"attributes": attributes, "timeUnixNano": nanos(NOW - 5), "asDouble": 1.5},
        {"timeUnixNano": 0, "asInt": 2}, {"asInt": 3, "flags": 1},
    ]}}));
    assert_eq!(answer, json!({}), "all of it was taken");
    let data = place.data();
    assert_eq!(
        data[0].metric.to_string(),
        "OTel queue.depth {code=503, ok=false, route=/pay, service.name=shop, weight=0.5}"
    );
    assert_eq!((data[0].at, data[0].unit, data[0].high_resolution), (at(NOW - 5), Unit::Bytes, true));
    assert_eq!((data.len(), data[1].at, data[1].value.clone()), (2, at(NOW), DatumValue::Single(2.0)));
}

#[test]
fn listed_dimensions_come_from_the_point_or_the_resource() {
    let mut place = Place::new(Some(&["host.id", "route", "nobody"]));
    let attributes =
        json!([{"key": "route", "value": {"stringValue": "/pay"}}, {"key": "user", "value": {"stringValue": "u1"}}]);
    place.post(json!({"name": "g", "gauge": {"dataPoints": [{"attributes": attributes, "asInt": "1"}]}}));
    assert_eq!(place.data()[0].metric.to_string(), "OTel g {host.id=h, route=/pay}");
}

#[test]
fn sums() {
    let mut place = Place::new(None);
    for metric in [
        sum(2, true, BEGAN + 10, "7"),
        sum(2, true, BEGAN + 20, "9"),
        sum(2, true, BEGAN + 20, "9"),
        sum(1, true, BEGAN + 20, "4"),
        sum(2, false, BEGAN + 20, "-3"),
    ] {
        assert_eq!(place.post(metric), json!({}));
    }
    let data = place.data();
    assert!(data.iter().all(|datum| datum.unit == Unit::Count));
    let values: Vec<DatumValue> = data.into_iter().map(|datum| datum.value).collect();
    assert_eq!(values, [7.0, 2.0, 4.0, -3.0].map(DatumValue::Single));
    let answer = place.post(sum(0, true, BEGAN + 20, "9"));
    assert_eq!(answer["partialSuccess"]["errorMessage"], "calls: it has no aggregation temporality (1 data points)");
}

#[test]
fn a_point_of_a_wrong_clock_does_not_silence_its_stream() {
    let mut place = Place::new(None);
    place.post(sum(2, true, NOW - 20, "10"));
    let answer = place.post(sum(2, true, NOW + 86_400, "11"));
    assert!(answer.to_string().contains("time stamp"), "{answer}");
    place.data();
    place.post(sum(2, true, NOW - 10, "14"));
    assert_eq!(place.values(), [DatumValue::Single(4.0)]);
}

/// Points that are told apart only by what is no dimension are streams of their own.
#[test]
fn streams_are_told_apart_by_everything() {
    let mut place = Place::new(Some(&[]));
    let metric = |user: &str, second: u64, value: u32| {
        let mut metric = sum(2, true, second, &value.to_string());
        metric["sum"]["dataPoints"][0]["attributes"] = json!([{"key": "user", "value": {"stringValue": user}}]);
        metric
    };
    for (user, second, value) in [("a", 10, 5), ("b", 10, 100), ("a", 20, 6), ("b", 20, 101)] {
        place.post(metric(user, BEGAN + second, value));
    }
    assert_eq!(place.values(), [5.0, 100.0, 1.0, 1.0].map(DatumValue::Single));
}

#[test]
fn the_order_of_attributes_does_not_matter() {
    let mut place = Place::new(None);
    for (second, value, names) in [(10, "5", ["a", "b"]), (20, "7", ["b", "a"])] {
        let mut metric = sum(2, true, BEGAN + second, value);
        let attributes = names.map(|name| json!({"key": name, "value": {"stringValue": name}}));
        metric["sum"]["dataPoints"][0]["attributes"] = json!(attributes);
        place.post(metric);
    }
    assert_eq!(place.values(), [5.0, 2.0].map(DatumValue::Single));
}

#[test]
fn histograms() {
    let mut place = Place::new(None);
    for metric in [histogram(1, NOW, [1, 2, 0]), histogram(2, NOW, [1, 2, 0]), histogram(2, NOW + 1, [1, 2, 5])] {
        assert_eq!(place.post(metric), json!({}));
    }
    let whole = DatumValue::Many(vec![(0.75, 1.0), (2.0, 2.0)]);
    assert_eq!(place.values(), [whole.clone(), whole, DatumValue::Many(vec![(3.5, 5.0)])]);
    for temporality in [1, 2] {
        let mut bare = histogram(temporality, NOW, [0; 3]);
        bare["name"] = json!("bare");
        let point = &mut bare["histogram"]["dataPoints"][0];
        (point["bucketCounts"], point["explicitBounds"]) = (json!(["3"]), json!([]));
        assert_eq!(place.post(bare), json!({}));
    }
    let set = StatisticSet { sample_count: 3.0, sum: 4.5, minimum: 0.5, maximum: 4.0 };
    assert_eq!(place.values(), [DatumValue::Set(set), DatumValue::Many(vec![(1.5, 3.0)])]);
}

#[test]
fn what_is_refused_is_told_and_the_rest_is_taken() {
    let mut place = Place::new(None);
    let many: Vec<Value> = (0..30).map(|n| json!({"key": format!("a{n}"), "value": {"intValue": n}})).collect();
    let answer = place.post(json!({"name": "g", "gauge": {"dataPoints": [
        {"asInt": 1}, {"asDouble": "NaN"}, {"asDouble": "Infinity"}, {}, {"asInt": 1, "timeUnixNano": "1"},
        {"asInt": 1, "attributes": many}, {"asInt": 1, "attributes": [{"key": "ü", "value": {"intValue": 1}}]}, {"asInt": 2},
    ]}}));
    assert_eq!(answer["partialSuccess"]["rejectedDataPoints"], "6");
    let said = answer["partialSuccess"]["errorMessage"].as_str().unwrap();
    for part in
        ["g: the value NaN", "g: it has no value", "g: the time stamp 1970", "metrics.otlp.dimensions", "other reasons"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(place.values(), [1.0, 2.0].map(DatumValue::Single));
    assert_eq!(place.receiver.intake.refused().0, 6);
    for (kind, name) in [("summary", "a summary"), ("exponentialHistogram", "an exponential histogram")] {
        let answer = place.post(json!({"name": "x", kind: {"dataPoints": [{"count": "1"}, {}]}}));
        assert_eq!(answer["partialSuccess"]["rejectedDataPoints"], "2");
        let said = answer["partialSuccess"]["errorMessage"].as_str().unwrap();
        assert!(said.starts_with(&format!("x: {name} is not taken")), "{said}");
    }
    let mut misfit = histogram(1, NOW, [1, 1, 1]);
    misfit["histogram"]["dataPoints"][0]["bucketCounts"] = json!(["1"]);
    assert_eq!(place.post(misfit)["partialSuccess"]["rejectedDataPoints"], "1");
}

#[test]
fn a_request_without_room_is_taken_whole_later() {
    let mut place = Place::with_room(None, 1);
    place.post(json!({"name": "g", "gauge": {"dataPoints": [{"asInt": 1}]}}));
    let body =
        json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [sum(2, true, BEGAN + 10, "7")]}]}]}).to_string();
    let take = |place: &Place| place.receiver.take(body.as_bytes(), Encoding::Json, at(NOW));
    assert_eq!(take(&place), Err(OtlpError::Full));
    place.data();
    assert!(take(&place).is_ok());
    assert_eq!(place.values(), [DatumValue::Single(7.0)]);
}

#[test]
fn protobuf_is_the_same() {
    let mut place = Place::new(None);
    let attributes = vec![KeyValue {
        key: "service.name".into(),
        value: Some(wire::AnyValue { string_value: Some("shop".into()), ..Default::default() }),
    }];
    let point = NumberDataPoint { as_int: Some(-4), time_unix_nano: NOW * NANO, ..Default::default() };
    let metric = Metric { name: "g".into(), gauge: Some(Gauge { data_points: vec![point] }), ..Default::default() };
    let request = ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(Resource { attributes }),
            scope_metrics: vec![ScopeMetrics { scope: None, metrics: vec![metric] }],
        }],
    };
    let body = request.encode_to_vec();
    assert_eq!(place.receiver.take(&body, Encoding::Protobuf, at(NOW)), Ok(Vec::new()), "an empty message");
    assert_eq!(place.data()[0].metric.to_string(), "OTel g {service.name=shop}");
    assert!(matches!(place.receiver.take(b"\xff\xff", Encoding::Protobuf, at(NOW)), Err(OtlpError::Undecodable(_))));
    assert!(matches!(place.receiver.take(b"[1]", Encoding::Json, at(NOW)), Err(OtlpError::Undecodable(_))));
    // google.rpc.Status: code 3, message "no".
    assert_eq!(status(400, "no", Encoding::Protobuf), [0x08, 3, 0x12, 2, b'n', b'o']);
    assert_eq!(status(429, "no", Encoding::Json), br#"{"code":8,"message":"no"}"#);
}

#[test]
fn a_request_with_too_many_points_is_refused() {
    let place = Place::new(None);
    let points = vec![json!({"asInt": 1}); DATA_PER_REQUEST + 1];
    let body =
        json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": "g", "gauge": {"dataPoints": points}}]}]}]});
    let taken = place.receiver.take(body.to_string().as_bytes(), Encoding::Json, at(NOW));
    assert_eq!(taken, Err(OtlpError::TooMany));
}

proptest! {
    #[test]
    fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..200), value in any::<f64>(), start in any::<u64>(), time in any::<u64>()) {
        let mut place = Place::new(None);
        let _ = place.receiver.take(&body, Encoding::Protobuf, at(NOW));
        let _ = place.receiver.take(&body, Encoding::Json, at(NOW));
        let point = NumberDataPoint { start_time_unix_nano: start, time_unix_nano: time, as_double: Some(value), ..Default::default() };
        let sum = wire::Sum { data_points: vec![point.clone(), point], aggregation_temporality: 2, is_monotonic: true };
        let metric = Metric { name: "s".into(), sum: Some(sum), ..Default::default() };
        let scope_metrics = vec![ScopeMetrics { scope: None, metrics: vec![metric] }];
        let request = ExportMetricsServiceRequest { resource_metrics: vec![ResourceMetrics { resource: None, scope_metrics }] };
        prop_assert!(place.receiver.take(&request.encode_to_vec(), Encoding::Protobuf, at(NOW)).is_ok());
        prop_assert!(place.data().into_iter().all(|datum| datum.value.checked().is_ok()));
    }
}
