//! CloudWatch's embedded metric format: one JSON object a line, from which metrics are drawn.
//!
//! `_aws.CloudWatchMetrics` lists directives; a directive names metrics and sets of dimensions, and what they name are
//! members of the root object, never of one inside (`"a.b"` is a member of exactly that name). Each dimension set is a
//! metric of its own. Members that nothing names are ignored. Text before the object, as Lambda writes it, is too.
//!
//! Our choices, where the specification is silent: a line is taken whole or not at all; a namespace has 255 characters
//! at most, as everywhere else, and not 1024; a line yields [`DATA_PER_LINE`] data at most; a member that a directive
//! names and that is missing, or an array without a number, is an error.

use jiff::Timestamp;
use serde_json::{Map, Value};
use ukai_core::metric::{Datum, DatumValue, Dimensions, MetricId, Namespace, Unit};

use super::shown;

/// Of one event: CloudWatch Logs' own limit.
pub const LINE_BYTES: usize = 256 * 1024;
const METRICS_MAX: usize = 100;
const VALUES_MAX: usize = 100;
const SET_KEYS_MAX: usize = 30;
const KEY_CHARACTERS_MAX: usize = 250;
/// Dimension sets multiply metrics: without a bound, a line of 256 KB could ask for millions.
const DATA_PER_LINE: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EmfError {
    /// In a log file these are the application's other lines.
    #[error("the line is no embedded-metric-format event: it is not a JSON object with a member `_aws`")]
    NotAnEvent,
    #[error("the line is longer than {LINE_BYTES} bytes")]
    TooLong,
    #[error("{at}: {why}")]
    Wrong { at: String, why: String },
}

/// The data of one line.
pub fn parse(line: &[u8], now: Timestamp) -> Result<Vec<Datum>, EmfError> {
    if line.len() > LINE_BYTES {
        return Err(EmfError::TooLong);
    }
    let root = object(line)?;
    let at = "_aws";
    let aws = root.get(at).and_then(Value::as_object).ok_or_else(|| wrong(at, "it must be an object"))?;
    let time = time(aws)?;
    let at = "_aws.CloudWatchMetrics";
    let directives = list(aws.get("CloudWatchMetrics"), at)?;
    let mut data = Vec::new();
    for (index, directive) in directives.iter().enumerate() {
        let at = format!("{at}[{index}]");
        let directive = directive.as_object().ok_or_else(|| wrong(&at, "it must be an object"))?;
        take_directive(&at, directive, &root, time, &mut data)?;
    }
    if let Some(first) = data.first() {
        first.check_time(now).map_err(|error| wrong("_aws.Timestamp", error))?;
    }
    Ok(data)
}

fn object(line: &[u8]) -> Result<Map<String, Value>, EmfError> {
    const MARK: &[u8] = b"\"_aws\"";
    let start = line.iter().position(|byte| *byte == b'{').ok_or(EmfError::NotAnEvent)?;
    if !line.windows(MARK.len()).any(|window| window == MARK) {
        return Err(EmfError::NotAnEvent);
    }
    let root: Map<String, Value> = serde_json::from_slice(&line[start..])
        .map_err(|error| wrong("the line", format!("not one JSON object: {error}")))?;
    if root.contains_key("_aws") { Ok(root) } else { Err(EmfError::NotAnEvent) }
}

fn time(aws: &Map<String, Value>) -> Result<Timestamp, EmfError> {
    let at = "_aws.Timestamp";
    let written = aws.get("Timestamp").and_then(Value::as_f64);
    let ms = written.ok_or_else(|| wrong(at, "it must be a number, in milliseconds since 1970"))?;
    if ms.abs() >= 1e15 {
        return Err(wrong(at, "it must be in milliseconds since 1970"));
    }
    Timestamp::from_millisecond(ms as i64).map_err(|_| wrong(at, "it must be in milliseconds since 1970"))
}

fn take_directive(
    at: &str,
    directive: &Map<String, Value>,
    root: &Map<String, Value>,
    time: Timestamp,
    data: &mut Vec<Datum>,
) -> Result<(), EmfError> {
    let namespace = text(directive.get("Namespace"), &format!("{at}.Namespace"))?;
    let namespace = Namespace::of_others(namespace).map_err(|error| wrong(&format!("{at}.Namespace"), error))?;
    let sets = list(directive.get("Dimensions"), &format!("{at}.Dimensions"))?;
    if sets.is_empty() {
        return Err(wrong(&format!("{at}.Dimensions"), "at least one set must be given; it may be empty: [[]]"));
    }
    let metrics = list(directive.get("Metrics"), &format!("{at}.Metrics"))?;
    if metrics.len() > METRICS_MAX {
        return Err(wrong(&format!("{at}.Metrics"), format!("{} metrics, at most {METRICS_MAX}", metrics.len())));
    }
    if data.len() + sets.len() * metrics.len() > DATA_PER_LINE {
        return Err(wrong(at, format!("a line yields at most {DATA_PER_LINE} data: dimension sets times metrics")));
    }
    let mut dimensions = Vec::with_capacity(sets.len());
    for (index, set) in sets.iter().enumerate() {
        dimensions.push(dimension_set(&format!("{at}.Dimensions[{index}]"), set, root)?);
    }
    for (index, metric) in metrics.iter().enumerate() {
        let at = format!("{at}.Metrics[{index}]");
        let metric = definition(&at, metric, root)?;
        for dimensions in &dimensions {
            let id = MetricId::new(&namespace, metric.name, dimensions.clone());
            let id = id.map_err(|error| wrong(&format!("{at}.Name"), error))?;
            let Definition { value, unit, high_resolution, .. } = &metric;
            data.push(Datum {
                metric: id,
                at: time,
                value: value.clone(),
                unit: *unit,
                high_resolution: *high_resolution,
            });
        }
    }
    Ok(())
}

fn dimension_set(at: &str, set: &Value, root: &Map<String, Value>) -> Result<Dimensions, EmfError> {
    let keys = list(Some(set), at)?;
    if keys.len() > SET_KEYS_MAX {
        return Err(wrong(at, format!("{} keys, at most {SET_KEYS_MAX}", keys.len())));
    }
    let mut pairs = Vec::with_capacity(keys.len());
    for key in keys {
        let key = text(Some(key), at)?;
        if key.chars().count() > KEY_CHARACTERS_MAX {
            let why = format!("the key {:?} is longer than {KEY_CHARACTERS_MAX} characters", shown(key));
            return Err(wrong(at, why));
        }
        let value = root.get(key).and_then(Value::as_str);
        let value = value.ok_or_else(|| wrong(at, format!("the root has no text named {:?}", shown(key))))?;
        pairs.push((key, value));
    }
    Dimensions::new(pairs).map_err(|error| wrong(at, error))
}

struct Definition<'a> {
    name: &'a str,
    value: DatumValue,
    unit: Unit,
    high_resolution: bool,
}

fn definition<'a>(at: &str, metric: &'a Value, root: &Map<String, Value>) -> Result<Definition<'a>, EmfError> {
    let metric = metric.as_object().ok_or_else(|| wrong(at, "it must be an object"))?;
    let name = text(metric.get("Name"), &format!("{at}.Name"))?;
    let unit = match metric.get("Unit") {
        None => Unit::None,
        Some(unit) => {
            let at = format!("{at}.Unit");
            text(Some(unit), &at)?.parse().map_err(|error| wrong(&at, error))?
        }
    };
    let resolution = metric.get("StorageResolution").map(Value::as_f64);
    let high_resolution = match resolution {
        None => false,
        Some(Some(60.0)) => false,
        Some(Some(1.0)) => true,
        Some(_) => return Err(wrong(&format!("{at}.StorageResolution"), "it must be 1 or 60")),
    };
    Ok(Definition { name, value: target(at, name, root)?, unit, high_resolution })
}

fn target(at: &str, name: &str, root: &Map<String, Value>) -> Result<DatumValue, EmfError> {
    let wrong = |why: &str| wrong(at, format!("the member {:?} {why}", shown(name)));
    let value = match root.get(name) {
        None => return Err(wrong("is missing in the root")),
        Some(Value::Array(values)) if values.len() > VALUES_MAX => {
            return Err(wrong(&format!("has {} values, at most {VALUES_MAX}", values.len())));
        }
        Some(Value::Array(values)) => {
            let numbers: Option<Vec<(f64, f64)>> = values.iter().map(|value| Some((value.as_f64()?, 1.0))).collect();
            DatumValue::Many(numbers.ok_or_else(|| wrong("holds something that is not a number"))?)
        }
        Some(value) => DatumValue::Single(value.as_f64().ok_or_else(|| wrong("is not a number or an array of them"))?),
    };
    value.checked().map_err(|error| wrong(&format!("is refused: {error}")))
}

fn list<'a>(value: Option<&'a Value>, at: &str) -> Result<&'a [Value], EmfError> {
    value.and_then(Value::as_array).map(Vec::as_slice).ok_or_else(|| wrong(at, "it must be an array"))
}

fn text<'a>(value: Option<&'a Value>, at: &str) -> Result<&'a str, EmfError> {
    value.and_then(Value::as_str).ok_or_else(|| wrong(at, "it must be a text"))
}

fn wrong(at: &str, why: impl ToString) -> EmfError {
    EmfError::Wrong { at: at.to_owned(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_millisecond(1_767_225_600_123).unwrap()
    }

    fn good() -> Value {
        json!({
            "_aws": {"Timestamp": 1_767_225_600_123_u64, "CloudWatchMetrics": [{
                "Namespace": "Shop/Peer",
                "Dimensions": [["Peer", "Vantage"], ["Peer"], []],
                "Metrics": [
                    {"Name": "ProbeSuccess", "Unit": "Count", "StorageResolution": 1},
                    {"Name": "a.b"},
                ],
            }]},
            "Peer": "pay", "Vantage": "vpc-a", "ProbeSuccess": 0, "a.b": [1, 2.5, 1], "a": {"b": 9}, "answer": "192.0.2.10",
        })
    }

    fn taken(value: &Value) -> Result<Vec<Datum>, String> {
        parse(value.to_string().as_bytes(), now()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_ukai_itself_measures_is_not_taken() {
        let mut own = good();
        own["_aws"]["CloudWatchMetrics"][0]["Namespace"] = json!("Ukai/Peer");
        let why = taken(&own).unwrap_err();
        assert!(why.contains("CloudWatchMetrics[0].Namespace") && why.contains("what ukai itself measures"), "{why}");
    }

    #[test]
    fn each_dimension_set_is_a_metric_of_its_own() {
        let data = taken(&good()).unwrap();
        let shown: Vec<String> = data.iter().map(|datum| datum.metric.to_string()).collect();
        assert_eq!(
            shown,
            [
                "Shop/Peer ProbeSuccess {Peer=pay, Vantage=vpc-a}",
                "Shop/Peer ProbeSuccess {Peer=pay}",
                "Shop/Peer ProbeSuccess",
                "Shop/Peer a.b {Peer=pay, Vantage=vpc-a}",
                "Shop/Peer a.b {Peer=pay}",
                "Shop/Peer a.b",
            ]
        );
        assert_eq!(data[0].value, DatumValue::Single(0.0));
        assert_eq!((data[0].unit, data[0].high_resolution, data[0].at), (Unit::Count, true, now()));
        assert_eq!(data[5].value, DatumValue::Many(vec![(1.0, 1.0), (2.5, 1.0), (1.0, 1.0)]));
        assert_eq!((data[5].unit, data[5].high_resolution), (Unit::None, false));
    }

    #[test]
    fn text_before_the_object_is_tolerated() {
        let line = format!("2026-01-01T00:00:00.123Z\t8b0f6c1e\tINFO\t{}\r", good());
        assert_eq!(parse(line.as_bytes(), now()).unwrap().len(), 6);
    }

    #[test]
    fn other_lines_of_a_log_are_no_events() {
        for line in ["", "GET / 200", "{\"level\":\"info\"}", "[1]", "{\"msg\": {\"_aws\": 1}}"] {
            assert_eq!(parse(line.as_bytes(), now()), Err(EmfError::NotAnEvent), "{line}");
        }
    }

    /// A change to the good event, and what must be said about it.
    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let names: Vec<String> = (0..31).map(|n| format!("d{n}")).collect();
        let metrics: Vec<Value> = (0..101).map(|n| json!({"Name": format!("m{n}")})).collect();
        let directive = "/_aws/CloudWatchMetrics/0";
        let cases = [
            ("/_aws", json!(1), "_aws: it must be an object"),
            ("/_aws/Timestamp", json!("2026"), "_aws.Timestamp: it must be a number"),
            ("/_aws/Timestamp", json!(1_767_225_600), "_aws.Timestamp: the time stamp 1970-01-21"),
            ("/_aws/Timestamp", json!(1e300), "_aws.Timestamp: it must be in milliseconds"),
            ("/_aws/CloudWatchMetrics", json!({}), "_aws.CloudWatchMetrics: it must be an array"),
            ("/Namespace", json!(""), "_aws.CloudWatchMetrics[0].Namespace: Namespace"),
            ("/Dimensions", json!([]), "_aws.CloudWatchMetrics[0].Dimensions: at least one set"),
            ("/Dimensions", json!([["Nobody"]]), "Dimensions[0]: the root has no text named \"Nobody\""),
            ("/Dimensions", json!([["ProbeSuccess"]]), "no text named \"ProbeSuccess\""),
            ("/Dimensions", json!([["Peer", "Peer"]]), "\"Peer\" is given twice"),
            ("/Dimensions", json!([names]), "Dimensions[0]: 31 keys, at most 30"),
            ("/Dimensions", json!([["x".repeat(251)]]), "longer than 250 characters"),
            ("/Dimensions", json!(vec![json!([]); 5001]), "at most 10000 data"),
            ("/Metrics", json!(metrics), "Metrics: 101 metrics, at most 100"),
            ("/Metrics/0/Name", json!("gone"), "Metrics[0]: the member \"gone\" is missing"),
            ("/Metrics/0/Name", json!("Peer"), "Metrics[0]: the member \"Peer\" is not a number"),
            ("/Metrics/0/Unit", json!("count"), "Metrics[0].Unit: \"count\" is not a unit"),
            ("/Metrics/0/StorageResolution", json!(10), "Metrics[0].StorageResolution: it must be 1 or 60"),
            ("/a.b", json!([1, null]), "Metrics[1]: the member \"a.b\" holds something that is not a number"),
            ("/a.b", json!([]), "Metrics[1]: the member \"a.b\" is refused"),
            ("/a.b", json!(vec![1; 101]), "Metrics[1]: the member \"a.b\" has 101 values"),
            ("/a.b", json!(1e200), "Metrics[1]: the member \"a.b\" is refused: the value 1"),
        ];
        for (pointer, value, part) in cases {
            let mut event = good();
            let inside = event.pointer_mut(&format!("{directive}{pointer}")).is_some();
            let pointer = if inside { format!("{directive}{pointer}") } else { pointer.to_owned() };
            *event.pointer_mut(&pointer).unwrap() = value;
            let said = taken(&event).unwrap_err();
            assert!(said.contains(part), "{pointer}: {said}");
        }
        let huge = format!("{{\"_aws\": 1, \"x\": \"{}\"}}", "x".repeat(LINE_BYTES));
        assert_eq!(parse(huge.as_bytes(), now()), Err(EmfError::TooLong));
        let broken = parse(b"{\"_aws\": {\"Timestamp\": NaN}}", now()).unwrap_err().to_string();
        assert!(broken.contains("not one JSON object") && broken.contains("column"), "{broken}");
    }

    proptest! {
        #[test]
        fn no_line_panics(line in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..400) {
            let _ = parse(&line, now());
            let good = good().to_string();
            let _ = parse(&good.as_bytes()[..cut.min(good.len())], now());
        }
    }
}
