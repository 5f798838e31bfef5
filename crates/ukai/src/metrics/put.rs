//! `PutMetricData`, the JSON form of the API: taken whole, or refused whole with what CloudWatch says.
//!
//! The answer to a wrong request is `{"__type": CODE, "message": TEXT}`. The texts about exclusive parameters and about
//! sizes are those that CloudWatch was recorded to give; the others are worded after them, and that is our choice. So is
//! it that a dimension given twice is refused, and that members which the API has and we do not know (`Entity`, …) are
//! ignored as CloudWatch ignores them.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use ukai_core::metric::datum::{DATA_MAX, REQUEST_BYTES_MAX};
use ukai_core::metric::identity::DIMENSIONS_MAX;
use ukai_core::metric::{Datum, DatumError, DatumValue, Dimensions, MetricId, Namespace, StatisticSet, Unit};

use super::said;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    InvalidParameterCombination,
    InvalidParameterValue,
    MissingParameter,
    SerializationException,
    RequestEntityTooLarge,
}

impl Code {
    pub fn name(self) -> &'static str {
        match self {
            Code::InvalidParameterCombination => "InvalidParameterCombination",
            Code::InvalidParameterValue => "InvalidParameterValue",
            Code::MissingParameter => "MissingParameter",
            Code::SerializationException => "SerializationException",
            Code::RequestEntityTooLarge => "RequestEntityTooLarge",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PutError {
    pub code: Code,
    pub message: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Request {
    namespace: Option<String>,
    metric_data: Option<Vec<Written>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Written {
    metric_name: Option<String>,
    #[serde(default)]
    dimensions: Vec<WrittenDimension>,
    timestamp: Option<Time>,
    #[serde(default, deserialize_with = "optional_number")]
    value: Option<f64>,
    statistic_values: Option<WrittenSet>,
    values: Option<Vec<Number>>,
    counts: Option<Vec<Number>>,
    unit: Option<String>,
    storage_resolution: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WrittenDimension {
    name: Option<String>,
    value: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WrittenSet {
    sample_count: Option<Number>,
    sum: Option<Number>,
    minimum: Option<Number>,
    maximum: Option<Number>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a time stamp is seconds since 1970, or a text such as \"2026-01-01T00:00:00Z\"")]
enum Time {
    Seconds(f64),
    Text(String),
}

/// The API writes what JSON cannot as a text.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "a number")]
enum Number {
    Plain(f64),
    Special(Special),
}

#[derive(Debug, Clone, Copy, Deserialize)]
enum Special {
    NaN,
    Infinity,
    #[serde(rename = "-Infinity")]
    NegativeInfinity,
}

impl Number {
    fn value(self) -> f64 {
        match self {
            Number::Plain(value) => value,
            Number::Special(Special::NaN) => f64::NAN,
            Number::Special(Special::Infinity) => f64::INFINITY,
            Number::Special(Special::NegativeInfinity) => f64::NEG_INFINITY,
        }
    }
}

fn optional_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    Ok(Option::<Number>::deserialize(from)?.map(Number::value))
}

/// All data of a request. `now` is the time of those that name none.
pub fn parse(body: &[u8], now: Timestamp) -> Result<Vec<Datum>, PutError> {
    if body.len() > REQUEST_BYTES_MAX {
        return fail(Code::RequestEntityTooLarge, format!("Request size must be at most {REQUEST_BYTES_MAX} bytes."));
    }
    let request: Request = serde_json::from_slice(body).map_err(|error| PutError {
        code: Code::SerializationException,
        message: format!("The body is not a PutMetricData request in JSON: {}.", said(&error)),
    })?;
    let namespace = request.namespace.ok_or_else(|| missing("Namespace"))?;
    let namespace = Namespace::of_others(&namespace).map_err(|error| invalid("Namespace", &error))?;
    let written = request.metric_data.ok_or_else(|| missing("MetricData"))?;
    if written.is_empty() {
        return Err(missing("MetricData"));
    }
    if written.len() > DATA_MAX {
        return fail(Code::InvalidParameterValue, too_many("MetricData", DATA_MAX));
    }
    written
        .into_iter()
        .enumerate()
        .map(|(index, written)| datum(&format!("MetricData.member.{}", index + 1), &namespace, written, now))
        .collect()
}

fn datum(at: &str, namespace: &Namespace, written: Written, now: Timestamp) -> Result<Datum, PutError> {
    let value = value(at, &written)?;
    let name = written.metric_name.ok_or_else(|| missing(&format!("{at}.MetricName")))?;
    let dimensions = dimensions(at, written.dimensions)?;
    let metric =
        MetricId::new(namespace, &name, dimensions).map_err(|error| invalid(&format!("{at}.MetricName"), &error))?;
    let unit = match written.unit {
        None => Unit::None,
        Some(unit) => unit.parse().map_err(|_| unit_error(at))?,
    };
    let high_resolution = match written.storage_resolution {
        None | Some(60) => false,
        Some(1) => true,
        Some(written) => {
            let error = DatumError::StorageResolution { written };
            return Err(invalid(&format!("{at}.StorageResolution"), &error));
        }
    };
    let datum = Datum { metric, at: time(at, written.timestamp, now)?, value, unit, high_resolution };
    datum.check_time(now).map_err(|error| invalid(&format!("{at}.Timestamp"), &error))?;
    Ok(datum)
}

fn value(at: &str, written: &Written) -> Result<DatumValue, PutError> {
    let Written { value, values, statistic_values, counts, .. } = written;
    let both = |one: &str, other: &str| {
        let text =
            format!("The parameters {at}.{one} and {at}.{other} are mutually exclusive and you have specified both.");
        fail(Code::InvalidParameterCombination, text)
    };
    let (field, value) = match (value, values, statistic_values) {
        (Some(_), Some(_), _) => return both("Value", "Values"),
        (Some(_), _, Some(_)) => return both("Value", "StatisticValues"),
        (_, Some(_), Some(_)) => return both("StatisticValues", "Values"),
        (Some(_), None, None) if counts.is_some() => return both("Value", "Counts"),
        (None, None, Some(_)) if counts.is_some() => return both("StatisticValues", "Counts"),
        (Some(value), None, None) => ("Value", DatumValue::Single(*value)),
        (None, Some(values), None) => ("Values", DatumValue::Many(counted(at, values, counts.as_deref())?)),
        (None, None, Some(set)) => ("StatisticValues", DatumValue::Set(statistic_set(at, set)?)),
        (None, None, None) => {
            let text = format!(
                "At least one of the parameters {at}.Value, {at}.Values, {at}.StatisticValues must be specified."
            );
            return fail(Code::MissingParameter, text);
        }
    };
    value.checked().map_err(|error| invalid(&format!("{at}.{field}"), &error))
}

fn counted(at: &str, values: &[Number], counts: Option<&[Number]>) -> Result<Vec<(f64, f64)>, PutError> {
    let Some(counts) = counts else { return Ok(values.iter().map(|value| (value.value(), 1.0)).collect()) };
    if values.len() != counts.len() {
        let text = format!("The parameters {at}.Values and {at}.Counts must be of the same size.");
        return fail(Code::InvalidParameterValue, text);
    }
    Ok(values.iter().zip(counts).map(|(value, count)| (value.value(), count.value())).collect())
}

fn statistic_set(at: &str, set: &WrittenSet) -> Result<StatisticSet, PutError> {
    let of = |value: Option<Number>, name: &str| {
        value.map(Number::value).ok_or_else(|| missing(&format!("{at}.StatisticValues.{name}")))
    };
    Ok(StatisticSet {
        sample_count: of(set.sample_count, "SampleCount")?,
        sum: of(set.sum, "Sum")?,
        minimum: of(set.minimum, "Minimum")?,
        maximum: of(set.maximum, "Maximum")?,
    })
}

fn dimensions(at: &str, written: Vec<WrittenDimension>) -> Result<Dimensions, PutError> {
    let at = format!("{at}.Dimensions");
    if written.len() > DIMENSIONS_MAX {
        return fail(Code::InvalidParameterValue, too_many(&at, DIMENSIONS_MAX));
    }
    let mut pairs = Vec::with_capacity(written.len());
    for (index, WrittenDimension { name, value }) in written.into_iter().enumerate() {
        let at = format!("{at}.member.{}", index + 1);
        let name = name.ok_or_else(|| missing(&format!("{at}.Name")))?;
        pairs.push((name, value.ok_or_else(|| missing(&format!("{at}.Value")))?));
    }
    Dimensions::new(pairs).map_err(|error| invalid(&at, &error))
}

fn time(at: &str, written: Option<Time>, now: Timestamp) -> Result<Timestamp, PutError> {
    let parsed = match &written {
        None => Some(now),
        Some(Time::Text(text)) => text.parse().ok(),
        // Beyond this, nanoseconds do not fit; far beyond what may be put.
        Some(Time::Seconds(seconds)) if seconds.abs() < 1e11 => {
            Timestamp::from_nanosecond((seconds * 1e9).round() as i128).ok()
        }
        Some(Time::Seconds(_)) => None,
    };
    parsed.ok_or_else(|| PutError {
        code: Code::InvalidParameterValue,
        message: format!(
            "The parameter {at}.Timestamp must be seconds since 1970, or a time such as 2026-01-01T00:00:00Z."
        ),
    })
}

fn unit_error(at: &str) -> PutError {
    let names: Vec<&str> = Unit::ALL.iter().map(|unit| unit.name()).collect();
    let message = format!("The parameter {at}.Unit must be a value in the set [ {} ].", names.join(", "));
    PutError { code: Code::InvalidParameterValue, message }
}

fn too_many(what: &str, most: usize) -> String {
    format!("The collection {what} must not have a size greater than {most}.")
}

fn missing(what: &str) -> PutError {
    PutError { code: Code::MissingParameter, message: format!("The parameter {what} is required.") }
}

fn invalid(what: &str, why: &DatumError) -> PutError {
    PutError { code: Code::InvalidParameterValue, message: format!("The parameter {what} is invalid: {why}.") }
}

fn fail<T>(code: Code, message: String) -> Result<T, PutError> {
    Err(PutError { code, message })
}

#[cfg(test)]
mod tests;
