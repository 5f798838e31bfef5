//! From the text of one scrape, and what is remembered of the one before, to data.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ukai_core::metric::{Datum, DatumValue, Dimensions, MetricId, Unit};

use super::super::{buckets, shown};
use super::exposition::{Format, Role, Sample, parse};
use super::{HIGH_RESOLUTION_BELOW, Target};

/// Series of one target, each bucket among them: a large node exporter has 2,000.
const SERIES_MAX: usize = 5_000;
const INSTANCE: &str = "instance";
const BOUND: &str = "le";

/// What one target is, and what it said last.
pub struct Reading {
    target: Target,
    counters: BTreeMap<String, f64>,
    histograms: BTreeMap<String, Vec<(f64, f64)>>,
}

#[derive(Debug, Default)]
pub struct Read {
    pub data: Vec<Datum>,
    pub refused: u64,
    pub first_refusal: Option<String>,
}

/// A histogram as its buckets come: upper bound and cumulative count.
struct Assembled {
    family: String,
    unit: Option<String>,
    labels: Vec<(String, String)>,
    at: Option<Timestamp>,
    buckets: Vec<(f64, f64)>,
}

impl Reading {
    pub fn new(target: &Target) -> Reading {
        Reading { target: target.clone(), counters: BTreeMap::new(), histograms: BTreeMap::new() }
    }

    pub fn read(&mut self, text: &str, format: Format, now: Timestamp) -> Read {
        let mut read = Read::default();
        let mut counters = BTreeMap::new();
        let mut assembled: BTreeMap<String, Assembled> = BTreeMap::new();
        let (mut series, mut surplus) = (0, 0);
        parse(text, format, |line, sample| {
            let sample = match sample {
                Ok(sample) if !self.keeps(&sample) || sample.role == Role::Created => return,
                Ok(sample) => sample,
                Err(why) => return read.refuse(1, || format!("line {line}: {why}")),
            };
            series += 1;
            if series > SERIES_MAX {
                surplus += 1;
            } else if sample.role == Role::Bucket {
                if let Err(why) = collect(&mut assembled, sample) {
                    read.refuse(1, || format!("line {line}: {why}"));
                }
            } else if !sample.value.is_finite() {
                // Also the quantiles of a summary that observed nothing: an alarm on them must find out why it has no data.
                read.refuse(1, || format!("line {line}, {}: {} is no value", shown(sample.name), sample.value));
            } else if let Some(value) = self.value(&sample, &mut counters) {
                let unit = unit(sample.name, sample.unit, sample.role == Role::Counter);
                let value = DatumValue::Single(value);
                let datum = self.datum(sample.name, owned(&sample.labels), unit, value, sample.at, now);
                read.take(datum, || format!("line {line}, {}", shown(sample.name)));
            }
        });
        self.counters = counters;
        self.read_histograms(assembled, now, &mut read);
        if surplus > 0 {
            read.refuse(surplus, || format!("{surplus} series beyond {SERIES_MAX}; name what is needed in `keep`"));
        }
        read
    }

    fn keeps(&self, sample: &Sample<'_>) -> bool {
        let keep = &self.target.keep;
        keep.is_empty() || keep.iter().any(|keep| keep.takes(sample.name) || keep.takes(sample.family))
    }

    /// None: nothing to put yet.
    fn value(&self, sample: &Sample<'_>, counters: &mut BTreeMap<String, f64>) -> Option<f64> {
        if sample.role != Role::Counter {
            return Some(sample.value);
        }
        let key = key(sample.name, sample.labels.iter().map(|(name, value)| (*name, value.as_str())));
        let before = self.counters.get(&key).copied();
        counters.insert(key, sample.value);
        let before = before?;
        Some(if sample.value >= before { sample.value - before } else { sample.value })
    }

    fn read_histograms(&mut self, assembled: BTreeMap<String, Assembled>, now: Timestamp, read: &mut Read) {
        let before = std::mem::take(&mut self.histograms);
        for (key, mut histogram) in assembled {
            histogram.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            if let Some(grown) = before.get(&key).and_then(|before| grown(before, &histogram.buckets)) {
                let finite: Vec<f64> =
                    histogram.buckets.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite()).collect();
                let Some(values) = buckets::values(&finite, &grown, None, None) else {
                    let family = shown(&histogram.family);
                    read.refuse(1, || format!("the buckets of {family} are not one for each bound and one for +Inf"));
                    continue;
                };
                let unit = unit(&histogram.family, histogram.unit.as_deref(), false);
                for value in values {
                    let datum = self.datum(&histogram.family, histogram.labels.clone(), unit, value, histogram.at, now);
                    read.take(datum, || shown(&histogram.family));
                }
            }
            self.histograms.insert(key, histogram.buckets);
        }
    }

    fn datum(
        &self,
        name: &str,
        labels: Vec<(String, String)>,
        unit: Unit,
        value: DatumValue,
        at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Datum, ukai_core::metric::DatumError> {
        let exported = |name: String| if name == INSTANCE { format!("exported_{INSTANCE}") } else { name };
        // To Prometheus, an empty label is none.
        let labels =
            labels.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| (exported(name), value));
        let dimensions = Dimensions::new(labels.chain([(INSTANCE.to_owned(), self.target.instance())]))?;
        let metric = MetricId::new(&self.target.namespace, name, dimensions)?;
        let high_resolution = self.target.interval < HIGH_RESOLUTION_BELOW;
        let datum = Datum { metric, at: at.unwrap_or(now), value: value.checked()?, unit, high_resolution };
        datum.check_time(now)?;
        Ok(datum)
    }
}

impl Read {
    fn take(&mut self, datum: Result<Datum, ukai_core::metric::DatumError>, at: impl Fn() -> String) {
        match datum {
            Ok(datum) => self.data.push(datum),
            Err(error) => self.refuse(1, || format!("{}: {error}", at())),
        }
    }

    fn refuse(&mut self, count: u64, why: impl Fn() -> String) {
        self.refused += count;
        self.first_refusal.get_or_insert_with(why);
    }
}

fn collect(assembled: &mut BTreeMap<String, Assembled>, sample: Sample<'_>) -> Result<(), &'static str> {
    let bound = sample.labels.iter().find(|(name, _)| *name == BOUND).and_then(|(_, value)| value.parse::<f64>().ok());
    let bound = bound.filter(|bound| !bound.is_nan()).ok_or("a bucket needs a label le with a number")?;
    if !(sample.value.is_finite() && sample.value >= 0.0) {
        return Err("a bucket's count is not a positive number");
    }
    let rest = sample.labels.iter().filter(|(name, _)| *name != BOUND);
    let key = key(sample.family, rest.clone().map(|(name, value)| (*name, value.as_str())));
    let histogram = assembled.entry(key).or_insert_with(|| Assembled {
        family: sample.family.to_owned(),
        unit: sample.unit.map(str::to_owned),
        labels: rest.map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        at: sample.at,
        buckets: Vec::new(),
    });
    histogram.buckets.push((bound, sample.value));
    Ok(())
}

/// What came into each bucket alone. None: the bounds are others than before.
fn grown(before: &[(f64, f64)], now: &[(f64, f64)]) -> Option<Vec<f64>> {
    if before.len() != now.len() || before.iter().zip(now).any(|(before, now)| before.0 != now.0) {
        return None;
    }
    let started_again = before.iter().zip(now).any(|(before, now)| now.1 < before.1);
    let mut below = 0.0;
    let alone = before.iter().zip(now).map(|(before, now)| {
        let cumulative = if started_again { now.1 } else { now.1 - before.1 };
        // Counts that sink from bucket to bucket are an exporter's race: never less than nothing.
        let alone = (cumulative - below).max(0.0);
        below = cumulative;
        alone
    });
    Some(alone.collect())
}

fn owned(labels: &[(&str, String)]) -> Vec<(String, String)> {
    labels.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

/// Neither byte occurs in a name; in a value they could only make two hostile series of one target one.
fn key<'a>(name: &str, labels: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut sorted: Vec<(&str, &str)> = labels.collect();
    sorted.sort_unstable();
    sorted.iter().fold(name.to_owned(), |key, (name, value)| key + "\u{1}" + name + "\u{2}" + value)
}

/// By Prometheus' naming convention: base units, at the end of the name, before `_total`.
fn unit(name: &str, declared: Option<&str>, is_counter: bool) -> Unit {
    let name = name.trim_end_matches("_total").trim_end_matches("_sum");
    match declared.or_else(|| name.rsplit('_').next()) {
        Some("seconds") => Unit::Seconds,
        Some("milliseconds") => Unit::Milliseconds,
        Some("microseconds") => Unit::Microseconds,
        Some("bytes") => Unit::Bytes,
        Some("percent") => Unit::Percent,
        _ if is_counter => Unit::Count,
        _ => Unit::None,
    }
}

#[cfg(test)]
mod tests;
