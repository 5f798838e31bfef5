//! From the points of one request to data.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use ukai_core::metric::datum::check_time;
use ukai_core::metric::{Datum, DatumError, DatumValue, Dimensions, MetricId, StatisticSet, Unit};

use super::super::{buckets, shown};
use super::streams::{Changes, Key, Point, Staged};
use super::units::unit;
use super::wire::{
    AnyValue, CUMULATIVE, DELTA, ExportMetricsServiceRequest, HistogramDataPoint, KeyValue, Metric, NumberDataPoint,
    Sum,
};
use super::{DATA_PER_REQUEST, Options, OtlpError};

/// More buckets are a mistake, and each cumulative stream keeps its counts.
const BUCKETS_MAX: usize = 256;
/// Reasons that the answer repeats.
const REASONS: usize = 5;
/// `DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK`.
const NO_RECORDED_VALUE: u32 = 1;
const NO_TEMPORALITY: &str = "it has no aggregation temporality";
const SERVICE_NAME: &str = "service.name";

pub struct Points<'a> {
    options: &'a Options,
    staged: Staged<'a>,
    now: Timestamp,
    data: Vec<Datum>,
    refusals: Refusals,
}

#[derive(Debug, Default)]
pub struct Refusals {
    pub count: u64,
    reasons: BTreeMap<String, u64>,
    further: u64,
}

/// What the points of one resource have in common, worked out once: it may be as large as the request.
struct Origin {
    /// Dimensions that come from the resource.
    dimensions: BTreeMap<String, String>,
    identity: Key,
}

/// What the points of one metric have in common.
struct Context<'a> {
    metric: &'a str,
    unit: Unit,
    origin: &'a Origin,
    identity: Key,
}

impl<'a> Points<'a> {
    pub fn new(options: &'a Options, staged: Staged<'a>, now: Timestamp) -> Points<'a> {
        Points { options, staged, now, data: Vec::new(), refusals: Refusals::default() }
    }

    pub fn take(&mut self, request: ExportMetricsServiceRequest) -> Result<(), OtlpError> {
        for resource_metrics in &request.resource_metrics {
            let resource = resource_metrics.resource.as_ref().map_or(&[][..], |resource| &resource.attributes);
            let origin = Origin::new(self.options, resource);
            for scope_metrics in &resource_metrics.scope_metrics {
                let scope = hash(&(origin.identity, &scope_metrics.scope));
                for metric in &scope_metrics.metrics {
                    let unit = unit(&metric.unit, metric.sum.is_some());
                    let identity = hash(&(scope, &metric.name, &metric.unit));
                    self.metric(metric, &Context { metric: &metric.name, unit, origin: &origin, identity })?;
                }
            }
        }
        Ok(())
    }

    pub fn finish(self) -> (Vec<Datum>, Refusals, Changes) {
        (self.data, self.refusals, self.staged.finish())
    }

    fn metric(&mut self, metric: &Metric, context: &Context<'_>) -> Result<(), OtlpError> {
        for point in metric.gauge.iter().flat_map(|gauge| &gauge.data_points).filter(|point| is_there(point.flags)) {
            let values = number(point).map(|value| vec![DatumValue::Single(value)]);
            self.point(context, &point.attributes, point.time_unix_nano, values)?;
        }
        if let Some(sum) = &metric.sum {
            for point in sum.data_points.iter().filter(|point| is_there(point.flags)) {
                let values = self.sum(context, point, sum);
                self.point(context, &point.attributes, point.time_unix_nano, values)?;
            }
        }
        if let Some(histogram) = &metric.histogram {
            for point in histogram.data_points.iter().filter(|point| is_there(point.flags)) {
                let values = self.histogram(context, point, histogram.aggregation_temporality);
                self.point(context, &point.attributes, point.time_unix_nano, values)?;
            }
        }
        let unread = [(&metric.exponential_histogram, "an exponential histogram"), (&metric.summary, "a summary")];
        for (unread, what) in unread {
            if let Some(unread) = unread {
                let why = format!("{what} is not taken; use a histogram with explicit buckets");
                self.refusals.add(&metric.name, unread.data_points.len() as u64, &why);
            }
        }
        Ok(())
    }

    fn point(
        &mut self,
        context: &Context<'_>,
        attributes: &[KeyValue],
        time: u64,
        values: Result<Vec<DatumValue>, String>,
    ) -> Result<(), OtlpError> {
        let data = values.and_then(|values| self.data_of(context, attributes, time, values));
        match data {
            Ok(data) => self.data.extend(data),
            Err(why) => self.refusals.add(context.metric, 1, &why),
        }
        if self.data.len() > DATA_PER_REQUEST { Err(OtlpError::TooMany) } else { Ok(()) }
    }

    fn data_of(
        &self,
        context: &Context<'_>,
        attributes: &[KeyValue],
        time: u64,
        values: Vec<DatumValue>,
    ) -> Result<Vec<Datum>, String> {
        let dimensions = context.origin.dimensions(self.options, attributes)?;
        let metric = MetricId::new(&self.options.namespace, context.metric, dimensions).map_err(text)?;
        let at = self.time(time)?;
        let datum = |value: DatumValue| {
            let value = value.checked().map_err(text)?;
            Ok(Datum { metric: metric.clone(), at, value, unit: context.unit, high_resolution: true })
        };
        values.into_iter().map(datum).collect()
    }

    fn time(&self, nanoseconds: u64) -> Result<Timestamp, String> {
        let at = match nanoseconds {
            0 => self.now,
            nanoseconds => Timestamp::from_nanosecond(i128::from(nanoseconds)).map_err(text)?,
        };
        check_time(at, self.now).map_err(text)?;
        Ok(at)
    }

    /// A point that is refused for its time must not count as the stream's last: every later one would be a repetition.
    fn grown(&mut self, key: Key, point: Point) -> Result<Option<Vec<f64>>, String> {
        self.time(point.time)?;
        self.staged.grown(key, point).map_err(text)
    }

    /// Empty: nothing to put.
    fn sum(&mut self, context: &Context<'_>, point: &NumberDataPoint, sum: &Sum) -> Result<Vec<DatumValue>, String> {
        let value = number(point)?;
        match (sum.aggregation_temporality, sum.is_monotonic) {
            (DELTA, _) | (CUMULATIVE, false) => Ok(vec![DatumValue::Single(value)]),
            (CUMULATIVE, true) => {
                let key = key(context, &point.attributes, &[]);
                let point =
                    Point { start: point.start_time_unix_nano, time: point.time_unix_nano, values: finite([value])? };
                let grown = self.grown(key, point)?;
                Ok(grown.into_iter().flatten().map(DatumValue::Single).collect())
            }
            (_, _) => Err(NO_TEMPORALITY.to_owned()),
        }
    }

    fn histogram(
        &mut self,
        context: &Context<'_>,
        point: &HistogramDataPoint,
        temporality: i32,
    ) -> Result<Vec<DatumValue>, String> {
        let count = point.bucket_counts.len().max(point.explicit_bounds.len());
        if count > BUCKETS_MAX {
            return Err(format!("{count} buckets, at most {BUCKETS_MAX}"));
        }
        let has_buckets = !point.explicit_bounds.is_empty();
        let counts = match has_buckets {
            true => point.bucket_counts.iter().map(|count| *count as f64).collect(),
            false => finite([point.count as f64, point.sum.ok_or("it has neither buckets nor a sum")?])?,
        };
        let (is_delta, counts) = match temporality {
            DELTA => (true, Some(counts)),
            CUMULATIVE => {
                let key = key(context, &point.attributes, &point.explicit_bounds);
                let (start, time) = (point.start_time_unix_nano, point.time_unix_nano);
                (false, self.grown(key, Point { start, time, values: counts })?)
            }
            _ => return Err(NO_TEMPORALITY.to_owned()),
        };
        let Some(counts) = counts else { return Ok(Vec::new()) };
        if has_buckets {
            let values = buckets::values(&point.explicit_bounds, &counts, point.min, point.max);
            return values.ok_or_else(|| "its buckets and bounds do not fit each other".to_owned());
        }
        // The minimum and maximum of a cumulative stream are those of its whole life.
        let extremes = point.min.zip(point.max).filter(|_| is_delta);
        Ok(unbucketed(&counts, extremes).into_iter().collect())
    }
}

impl Origin {
    fn new(options: &Options, resource: &[KeyValue]) -> Origin {
        let is_wanted = |name: &str| match &options.dimensions {
            Some(names) => names.iter().any(|wanted| wanted == name),
            None => name == SERVICE_NAME,
        };
        let dimensions = scalars(resource, is_wanted).map(|(name, value)| (name.to_owned(), value)).collect();
        Origin { dimensions, identity: hash(&sorted(resource)) }
    }

    /// With the point's own attributes, which come before the resource's.
    fn dimensions(&self, options: &Options, attributes: &[KeyValue]) -> Result<Dimensions, String> {
        let is_wanted = |name: &str| options.dimensions.as_ref().is_none_or(|names| names.iter().any(|n| n == name));
        let of_resource = self.dimensions.iter().map(|(name, value)| (name.as_str(), value.clone()));
        let pairs: BTreeMap<&str, String> = of_resource.chain(scalars(attributes, is_wanted)).collect();
        Dimensions::new(pairs).map_err(|error| match error {
            DatumError::TooManyDimensions => format!("{error}; list those that matter in metrics.otlp.dimensions"),
            error => error.to_string(),
        })
    }
}

impl Refusals {
    fn add(&mut self, metric: &str, count: u64, why: &str) {
        self.count += count;
        let reason = format!("{}: {why}", shown(metric));
        if self.reasons.len() < REASONS || self.reasons.contains_key(&reason) {
            *self.reasons.entry(reason).or_default() += count;
        } else {
            self.further += count;
        }
    }

    /// None: nothing was refused.
    pub fn message(&self) -> Option<String> {
        if self.reasons.is_empty() {
            return None;
        }
        let mut reasons: Vec<String> =
            self.reasons.iter().map(|(reason, count)| format!("{reason} ({count} data points)")).collect();
        if self.further > 0 {
            reasons.push(format!("and {} data points for other reasons", self.further));
        }
        Some(reasons.join("; "))
    }
}

fn is_there(flags: u32) -> bool {
    flags & NO_RECORDED_VALUE == 0
}

fn number(point: &NumberDataPoint) -> Result<f64, String> {
    let value = point.as_double.or(point.as_int.map(|value| value as f64));
    value.ok_or_else(|| "it has no value".to_owned())
}

/// NaN would make every later difference NaN.
fn finite<const N: usize>(values: [f64; N]) -> Result<Vec<f64>, String> {
    match values.iter().find(|value| !value.is_finite()) {
        Some(value) => Err(format!("the value {value} is not a number")),
        None => Ok(values.to_vec()),
    }
}

fn unbucketed(counted: &[f64], extremes: Option<(f64, f64)>) -> Option<DatumValue> {
    let [sample_count, sum] = *counted else { return None };
    if sample_count <= 0.0 {
        return None;
    }
    Some(match extremes {
        Some((minimum, maximum)) => DatumValue::Set(StatisticSet { sample_count, sum, minimum, maximum }),
        None => DatumValue::Many(vec![(sum / sample_count, sample_count)]),
    })
}

fn scalars(attributes: &[KeyValue], is_wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = (&str, String)> {
    let wanted = attributes.iter().filter(move |attribute| is_wanted(&attribute.key));
    wanted.filter_map(|attribute| Some((attribute.key.as_str(), scalar(attribute.value.as_ref()?)?)))
}

/// None: an array, a map, or a text that is blank.
fn scalar(value: &AnyValue) -> Option<String> {
    let text = value.string_value.clone().filter(|text| !text.trim().is_empty());
    text.or_else(|| value.bool_value.map(|value| value.to_string()))
        .or_else(|| value.int_value.map(|value| value.to_string()))
        .or_else(|| value.double_value.map(|value| value.to_string()))
}

/// All that a stream is told apart by, whether it is a dimension or not.
fn key(context: &Context<'_>, attributes: &[KeyValue], bounds: &[f64]) -> Key {
    hash(&(context.identity, sorted(attributes), bounds))
}

fn sorted(attributes: &[KeyValue]) -> Vec<String> {
    let mut texts: Vec<String> = attributes.iter().map(|attribute| format!("{attribute:?}")).collect();
    texts.sort_unstable();
    texts
}

fn hash(whole: &impl std::fmt::Debug) -> Key {
    Sha256::digest(format!("{whole:?}").as_bytes()).into()
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
