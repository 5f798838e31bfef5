//! A metric alarm, judged over what the metrics hold.
//!
//! Nothing is kept from one evaluation to the next: the periods are read anew each time, so that a late datapoint changes
//! exactly the periods it belongs to, and a restart forgets nothing that the metrics remember.

use jiff::Timestamp;

use super::definition::{EvaluationWindow, LowSamples, MetricAlarm, MetricStat, Threshold, Watched};
use super::missing_data::{Judgement, Rule, Slot, judge};
use super::window;
use crate::metric::store::{Datapoint, Metrics};

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

impl Evaluator {
    /// STUB: metric math is connected when it is there.
    fn math(&mut self, _alarm: &MetricAlarm, _metrics: &Metrics, boundaries: &[i64]) -> Math {
        (vec![None; boundaries.len().saturating_sub(1)], None)
    }
}

type Math = (Vec<Option<Datapoint>>, Option<Vec<Option<(f64, f64)>>>);

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
