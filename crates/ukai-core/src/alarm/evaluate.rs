//! A metric alarm, judged over what the metrics hold.
//!
//! Nothing is kept from one evaluation to the next: the periods are read anew each time, so that a late datapoint changes
//! exactly the periods it belongs to, and a restart forgets nothing that the metrics remember.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::definition::{EvaluationWindow, LowSamples, MetricAlarm, MetricStat, Threshold, Watched};
use super::definition::{MetricDataQuery, Source};
use super::missing_data::{Judgement, Rule, Slot, judge};
use super::window::{self, SLOW_EVERY_S};
use crate::metric::band::{Band, HISTORY_MAX, POINTS_MIN};
use crate::metric::math::{self, Expression, Points, Validated, Value};
use crate::metric::series::Datapoint;
use crate::metric::store::Metrics;
use crate::metric::{MetricId, Unit};

/// What a band is learned from: a day shows the hours that differ, and is what is kept of every metric …
const BAND_HISTORY_S: i64 = 86_400;
/// … and of long periods so many, or there would never be enough for a band.
const BAND_PERIODS_MIN: i64 = 2 * POINTS_MIN as i64;
const BAND_PERIODS_MAX: usize = 10_000;
/// A band moves slowly: half of a day's points must move before it does. It is learned again after an hour …
const BAND_AGAIN_S: i64 = 3600;
/// … and looked for again after ten minutes while there is none.
const NO_BAND_AGAIN_S: i64 = 600;
/// Bands that are remembered; past it all are learned anew.
const BANDS_MAX: usize = 10_000;

/// One evaluation: what was read, and what follows from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    pub at: Timestamp,
    /// The whole evaluation range, oldest first.
    pub range: Vec<RangePoint>,
    pub judgement: Judgement,
}

/// One period of the range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RangePoint {
    pub start_s: i64,
    pub datapoint: Option<Datapoint>,
    /// Where the alarm compares with a band: its lower and upper edge.
    pub band: Option<(f64, f64)>,
    pub slot: Slot,
}

/// Evaluates alarms one after the other, with room that is used again.
#[derive(Debug, Default)]
pub struct Evaluator {
    /// Bands as they were learned, and when.
    bands: BTreeMap<BandKey, (i64, Option<Band>)>,
    datapoints: Vec<Option<Datapoint>>,
    slots: Vec<Slot>,
}

impl Evaluator {
    /// The judgement alone: what is asked of every alarm, every time.
    pub fn judge(&mut self, alarm: &MetricAlarm, metrics: &Metrics, now: Timestamp) -> Judgement {
        match (&alarm.watched, &alarm.window, &alarm.threshold) {
            (Watched::Metric(stat), EvaluationWindow::Sliding {}, Threshold::Value(threshold)) => {
                let end_s = window::sliding_end_s(stat.period_s, now);
                self.read(stat, metrics, end_s, alarm.evaluation_range());
                self.slots.clear();
                self.slots.extend(self.datapoints.iter().map(|point| match point {
                    None => Slot::Missing,
                    Some(point) if alarm.comparison_operator.is_breaching(point.value, *threshold) => Slot::Breaching,
                    Some(_) => Slot::Fine,
                }));
                judged(alarm, &self.slots, &self.datapoints)
            }
            _ => self.evaluate(alarm, metrics, now).judgement,
        }
    }

    /// The judgement with everything that it rests on: for a change of state, and for people.
    pub fn evaluate(&mut self, alarm: &MetricAlarm, metrics: &Metrics, now: Timestamp) -> Evaluation {
        let boundaries = window::boundaries(alarm, now);
        let (values, band) = match &alarm.watched {
            Watched::Metric(stat) => (self.series(stat, metrics, &boundaries), None),
            Watched::Math(_) => self.math(alarm, metrics, &boundaries),
        };
        let range: Vec<RangePoint> = values
            .into_iter()
            .enumerate()
            .map(|(place, datapoint)| {
                let band = band.as_ref().and_then(|band| band.get(place).copied().flatten());
                let slot = slot(alarm, datapoint, band);
                RangePoint { start_s: boundaries[place], datapoint, band, slot }
            })
            .collect();
        let slots: Vec<Slot> = range.iter().map(|point| point.slot).collect();
        let datapoints: Vec<Option<Datapoint>> = range.iter().map(|point| point.datapoint).collect();
        let judgement = judged(alarm, &slots, &datapoints);
        Evaluation { at: now, range, judgement }
    }

    fn read(&mut self, stat: &MetricStat, metrics: &Metrics, end_s: i64, periods: usize) {
        self.datapoints.clear();
        let period_s = i64::from(stat.period_s);
        metrics.datapoints(&stat.metric, stat.unit, &stat.statistic, end_s, period_s, periods, &mut self.datapoints);
    }

    /// One statistic of each period between the boundaries. Days of a time zone may differ in length.
    fn series(&mut self, stat: &MetricStat, metrics: &Metrics, boundaries: &[i64]) -> Vec<Option<Datapoint>> {
        let (Some(end_s), periods) = (boundaries.last(), boundaries.len().saturating_sub(1)) else {
            return Vec::new();
        };
        let period_s = i64::from(stat.period_s);
        if boundaries.windows(2).all(|pair| pair[1] - pair[0] == period_s) {
            self.read(stat, metrics, *end_s, periods);
            return self.datapoints.clone();
        }
        let mut one = Vec::with_capacity(1);
        let mut all = Vec::with_capacity(periods);
        for pair in boundaries.windows(2) {
            one.clear();
            metrics.datapoints(&stat.metric, stat.unit, &stat.statistic, pair[1], pair[1] - pair[0], 1, &mut one);
            all.push(one.first().copied().flatten());
        }
        all
    }
}

/// The datapoints that are judged, and the edges of the band where there is one.
type Judged = (Vec<Option<Datapoint>>, Option<Vec<Option<(f64, f64)>>>);

impl Evaluator {
    /// Metric math: every metric read over the same periods, and the expressions over them.
    fn math(&mut self, alarm: &MetricAlarm, metrics: &Metrics, boundaries: &[i64]) -> Judged {
        let length = boundaries.len().saturating_sub(1);
        let nothing = || (vec![None; length], None);
        let Watched::Math(queries) = &alarm.watched else { return nothing() };
        // A definition's expressions have been parsed and validated before.
        let Ok(validated) = validated(queries) else { return nothing() };
        let learned: BTreeMap<&str, Option<Band>> = bands_asked_for(&validated)
            .filter_map(|id| Some((id, self.band(stat(queries, id)?, metrics, boundaries))))
            .collect();
        let bounds = |id: &str, width: f64| {
            let end_s = *boundaries.last()?;
            Some(learned.get(id)?.as_ref()?.bounds(end_s, i64::from(alarm.period_s()), length, width))
        };
        let mut counts: Vec<Option<f64>> = vec![None; length];
        let mut lookup = |id: &str| match stat(queries, id) {
            None => vec![None; length],
            Some(stat) => {
                let read = self.series(stat, metrics, boundaries);
                for (count, point) in counts.iter_mut().zip(&read) {
                    *count = point.map(|point| point.sample_count).or(*count);
                }
                read.into_iter().map(|point| point.map(|point| point.value)).collect()
            }
        };
        let Ok(values) = validated.values(length, i64::from(alarm.period_s()), &mut lookup, Some(&bounds)) else {
            return nothing();
        };
        let is_band = |id: &str| matches!(&alarm.threshold, Threshold::Band(band) if band == id);
        let returned = queries.iter().find(|query| query.return_data && !is_band(&query.id));
        let points = returned.and_then(|query| values.get(&query.id)).map(|value| points(value, length));
        let datapoints = points.unwrap_or_default().into_iter().zip(counts);
        let datapoints =
            datapoints.map(|(value, count)| value.map(|value| Datapoint { value, sample_count: count.unwrap_or(1.0) }));
        let band = queries.iter().find(|query| is_band(&query.id)).and_then(|query| values.get(&query.id)).map(edges);
        (datapoints.collect(), band)
    }

    /// The band of a metric, learned from what is kept of it before the periods that are judged, and now and then anew.
    fn band(&mut self, stat: &MetricStat, metrics: &Metrics, boundaries: &[i64]) -> Option<Band> {
        let (end_s, periods) = (*boundaries.last()?, boundaries.len().saturating_sub(1));
        let period_s = i64::from(stat.period_s);
        let key = (stat.metric.clone(), stat.unit, stat.statistic.to_string(), stat.period_s);
        if let Some((learned_s, band)) = self.bands.get(&key) {
            let again_s = if band.is_some() { BAND_AGAIN_S } else { NO_BAND_AGAIN_S };
            if (0..again_s).contains(&(end_s - learned_s)) {
                return band.clone();
            }
        }
        let history =
            usize::try_from(band_history_s(period_s) / period_s).ok()?.saturating_add(periods).min(BAND_PERIODS_MAX);
        let mut read = Vec::with_capacity(history);
        metrics.datapoints(&stat.metric, stat.unit, &stat.statistic, end_s, period_s, history, &mut read);
        let read: Vec<Option<f64>> = read.into_iter().map(|point| point.map(|point| point.value)).collect();
        let band = Band::learn(&read, end_s, period_s, periods);
        if self.bands.len() >= BANDS_MAX {
            self.bands.clear();
        }
        self.bands.insert(key, (end_s, band.clone()));
        band
    }
}

/// Metric, unit, statistic, period.
type BandKey = (MetricId, Option<Unit>, String, u32);

fn band_history_s(period_s: i64) -> i64 {
    period_s.saturating_mul(BAND_PERIODS_MIN).clamp(BAND_HISTORY_S, HISTORY_MAX)
}

/// How long what an alarm reads must be kept, in seconds: its range, which may end up to a period ago, and what a band is
/// learned from before it.
pub fn looks_back_s(alarm: &MetricAlarm) -> i64 {
    let period_s = i64::from(alarm.period_s());
    let range_s = alarm.evaluation_range() as i64 * period_s + period_s.max(SLOW_EVERY_S);
    match alarm.threshold {
        Threshold::Value(_) => range_s,
        Threshold::Band(_) => range_s + band_history_s(period_s),
    }
}

fn bands_asked_for(validated: &Validated) -> impl Iterator<Item = &str> {
    validated.queries().iter().flat_map(|(_, source)| match source {
        math::Source::Metric => Vec::new(),
        math::Source::Expression(expression) => expression.bands().into_iter().map(|(id, _)| id).collect(),
    })
}

/// Ids, references and expressions, checked: a definition that passes can be evaluated.
pub fn validated(queries: &[MetricDataQuery]) -> Result<Validated, math::MathError> {
    let source = |query: &MetricDataQuery| {
        let source = match &query.source {
            Source::Stat(_) => math::Source::Metric,
            Source::Expression(text) => math::Source::Expression(Expression::parse(text)?),
        };
        Ok((query.id.clone(), source))
    };
    math::validate(queries.iter().map(source).collect::<Result<_, math::MathError>>()?)
}

fn stat<'a>(queries: &'a [MetricDataQuery], id: &str) -> Option<&'a MetricStat> {
    queries.iter().filter(|query| query.id == id).find_map(|query| match &query.source {
        Source::Stat(stat) => Some(stat),
        Source::Expression(_) => None,
    })
}

fn points(value: &Value, length: usize) -> Points {
    match value {
        Value::Scalar(value) => vec![Some(*value); length],
        Value::Series(points) => points.clone(),
        Value::Array(all) => all.first().cloned().unwrap_or_else(|| vec![None; length]),
    }
}

/// A band is an array of its upper and its lower edge.
fn edges(value: &Value) -> Vec<Option<(f64, f64)>> {
    let Value::Array(both) = value else { return Vec::new() };
    let [upper, lower] = &both[..] else { return Vec::new() };
    upper.iter().zip(lower).map(|(upper, lower)| Some(((*lower)?, (*upper)?))).collect()
}

fn slot(alarm: &MetricAlarm, datapoint: Option<Datapoint>, band: Option<(f64, f64)>) -> Slot {
    let Some(Datapoint { value, .. }) = datapoint else { return Slot::Missing };
    let breaching = match (&alarm.threshold, band) {
        (Threshold::Value(threshold), _) => alarm.comparison_operator.is_breaching(value, *threshold),
        (Threshold::Band(_), Some((lower, upper))) => alarm.comparison_operator.is_outside(value, lower, upper),
        // A band that is not known yet says nothing.
        (Threshold::Band(_), None) => return Slot::Missing,
    };
    if breaching { Slot::Breaching } else { Slot::Fine }
}

fn judged(alarm: &MetricAlarm, slots: &[Slot], datapoints: &[Option<Datapoint>]) -> Judgement {
    if alarm.low_samples == Some(LowSamples::Ignore) && has_low_samples(alarm, datapoints) {
        return Judgement { state: None, rule: Rule::LowSamples, filled: 0 };
    }
    judge(slots, alarm.n(), alarm.m(), alarm.treats_missing_data())
}

/// A percentile over fewer samples than its tail needs, counted over the newest N periods that have any.
fn has_low_samples(alarm: &MetricAlarm, datapoints: &[Option<Datapoint>]) -> bool {
    let Watched::Metric(stat) = &alarm.watched else { return false };
    let counts: Vec<f64> = datapoints.iter().rev().flatten().take(alarm.n()).map(|point| point.sample_count).collect();
    !counts.is_empty() && stat.statistic.is_low_sample(counts.iter().sum())
}
