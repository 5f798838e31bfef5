//! `StateReasonData`, in the recorded order of its fields, and what CloudWatch does not tell.
//!
//! `recentDatapoints` has the oldest first, `evaluatedDatapoints` the newest; `startDate` is that of the oldest point that was
//! judged and is not there where there was none; metric math has no statistic, unit or number of samples; a band has its
//! edges in the place of the threshold.
//!
//! Our choices: the missing periods in `evaluatedDatapoints` are the newest ones, as many as were filled in; a band with two
//! edges has `lowerThreshold` and `upperThreshold` there (one edge, `threshold`, was recorded). Which rule decided is not
//! in the data, which stays as CloudWatch has it, but in [`explain`].

use jiff::Timestamp;
use serde::Serialize;

use super::{TriggeringChild, judged};
use crate::alarm::definition::{ComparisonOperator, MetricAlarm, Threshold, Watched};
use crate::alarm::evaluate::{Evaluation, RangePoint};
use crate::alarm::missing_data::{Cell, Rule, Slot, cells};
use crate::alarm::text::date;

/// Characters of `StateReasonData` (API reference).
pub const REASON_DATA_MAX: usize = 4000;
/// More evaluated datapoints than that are longer than the limit: one has at least 44 characters.
const EVALUATED_FIT: usize = 90;

/// `StateReasonData` of a metric alarm. The order of its fields is the recorded one.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReasonData {
    pub version: &'static str,
    pub query_date: String,
    /// Of the oldest datapoint that was judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_date: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<&'static str>,
    /// None for metric math.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statistic: Option<String>,
    pub period: u32,
    /// Oldest first.
    pub recent_datapoints: Vec<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recent_lower_thresholds: Option<Vec<f64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recent_upper_thresholds: Option<Vec<f64>>,
    /// Newest first.
    pub evaluated_datapoints: Vec<EvaluatedDatapoint>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EvaluatedDatapoint {
    pub timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_count: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lower_threshold: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upper_threshold: Option<f64>,
}

impl ReasonData {
    /// Within the limit of the API: the newest datapoints that fit.
    pub fn to_json(&self) -> String {
        let mut kept = self.evaluated_datapoints.len().max(self.recent_datapoints.len()).min(EVALUATED_FIT);
        loop {
            let text = serde_json::to_string(&self.newest(kept)).unwrap_or_default();
            if text.len() <= REASON_DATA_MAX || kept == 0 {
                return text;
            }
            kept -= 1;
        }
    }

    fn newest(&self, kept: usize) -> ReasonData {
        let recent = |list: &Vec<f64>| list[list.len().saturating_sub(kept)..].to_vec();
        ReasonData {
            recent_datapoints: recent(&self.recent_datapoints),
            recent_lower_thresholds: self.recent_lower_thresholds.as_ref().map(recent),
            recent_upper_thresholds: self.recent_upper_thresholds.as_ref().map(recent),
            evaluated_datapoints: self.evaluated_datapoints.iter().take(kept).cloned().collect(),
            ..self.clone()
        }
    }
}

pub fn reason_data(alarm: &MetricAlarm, evaluation: &Evaluation) -> ReasonData {
    let judged = judged(alarm, evaluation);
    let oldest_first = || judged.iter().rev();
    let (has_lower, has_upper) = edges_of(alarm.comparison_operator);
    let recent = |has: bool, edge: fn((f64, f64)) -> f64| {
        has.then(|| oldest_first().filter_map(|point| point.band.map(edge)).collect::<Vec<f64>>())
    };
    let (unit, statistic) = match &alarm.watched {
        Watched::Metric(stat) => (stat.unit.map(|unit| unit.name()), Some(stat.statistic.to_string())),
        Watched::Math(_) => (None, None),
    };
    ReasonData {
        version: "1.0",
        query_date: date(evaluation.at),
        start_date: judged.last().map(|point| date(start(point))),
        unit,
        statistic,
        period: alarm.period_s(),
        recent_datapoints: oldest_first().filter_map(|point| point.datapoint).map(|point| point.value).collect(),
        threshold: match alarm.threshold {
            Threshold::Value(value) => Some(value),
            Threshold::Band(_) => None,
        },
        recent_lower_thresholds: recent(has_lower, |band| band.0),
        recent_upper_thresholds: recent(has_upper, |band| band.1),
        evaluated_datapoints: evaluated(alarm, evaluation),
    }
}

/// Whether an operator looks at the lower and at the upper edge of a band.
fn edges_of(operator: ComparisonOperator) -> (bool, bool) {
    match operator {
        ComparisonOperator::LessThanLowerThreshold => (true, false),
        ComparisonOperator::GreaterThanUpperThreshold => (false, true),
        ComparisonOperator::LessThanLowerOrGreaterThanUpperThreshold => (true, true),
        ComparisonOperator::GreaterThanOrEqualToThreshold
        | ComparisonOperator::GreaterThanThreshold
        | ComparisonOperator::LessThanThreshold
        | ComparisonOperator::LessThanOrEqualToThreshold => (false, false),
    }
}

/// The judged points, and as many of the newest gaps as were filled in.
fn evaluated(alarm: &MetricAlarm, evaluation: &Evaluation) -> Vec<EvaluatedDatapoint> {
    let slots: Vec<Slot> = evaluation.range.iter().map(|point| point.slot).collect();
    let mut gaps = evaluation.judgement.filled;
    let mut all = Vec::with_capacity(alarm.n());
    for (point, cell) in evaluation.range.iter().zip(cells(&slots, alarm.n())).rev() {
        match cell {
            Cell::Judged => all.push(evaluated_point(alarm, point)),
            Cell::Missing if gaps > 0 => {
                gaps -= 1;
                all.push(EvaluatedDatapoint { timestamp: date(start(point)), ..nothing() });
            }
            Cell::Missing | Cell::LeftOut => {}
        }
    }
    all
}

fn evaluated_point(alarm: &MetricAlarm, point: &RangePoint) -> EvaluatedDatapoint {
    let counts = matches!(alarm.watched, Watched::Metric(_));
    let (lower, upper) = match (edges_of(alarm.comparison_operator), point.band) {
        ((has_lower, has_upper), Some(band)) => (has_lower.then_some(band.0), has_upper.then_some(band.1)),
        (_, None) => (None, None),
    };
    let both = lower.is_some() && upper.is_some();
    EvaluatedDatapoint {
        timestamp: date(start(point)),
        sample_count: point.datapoint.filter(|_| counts).map(|datapoint| datapoint.sample_count),
        value: point.datapoint.map(|datapoint| datapoint.value),
        threshold: if both { None } else { lower.or(upper) },
        lower_threshold: lower.filter(|_| both),
        upper_threshold: upper.filter(|_| both),
    }
}

fn nothing() -> EvaluatedDatapoint {
    EvaluatedDatapoint {
        timestamp: String::new(),
        sample_count: None,
        value: None,
        threshold: None,
        lower_threshold: None,
        upper_threshold: None,
    }
}

fn start(point: &RangePoint) -> Timestamp {
    Timestamp::from_second(point.start_s).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// What CloudWatch does not tell: which rule decided, over which range, and what became of each period.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    pub rule: Rule,
    pub evaluation_range: usize,
    pub filled: usize,
    /// Oldest first.
    pub periods: Vec<ExplainedPeriod>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedPeriod {
    pub timestamp: String,
    pub value: Option<f64>,
    pub slot: Slot,
    pub cell: Cell,
}

pub fn explain(alarm: &MetricAlarm, evaluation: &Evaluation) -> Explanation {
    let slots: Vec<Slot> = evaluation.range.iter().map(|point| point.slot).collect();
    let each = evaluation.range.iter().zip(cells(&slots, alarm.n())).map(|(point, cell)| ExplainedPeriod {
        timestamp: date(start(point)),
        value: point.datapoint.map(|datapoint| datapoint.value),
        slot: point.slot,
        cell,
    });
    Explanation {
        rule: evaluation.judgement.rule,
        evaluation_range: evaluation.range.len(),
        filled: evaluation.judgement.filled,
        periods: each.collect(),
    }
}

/// `StateReasonData` of a composite alarm, as JSON; what does not fit is left out at the end.
pub fn composite_reason_data(children: &[TriggeringChild]) -> String {
    let mut triggering: Vec<TriggeringAlarm<'_>> = children
        .iter()
        .map(|child| TriggeringAlarm {
            arn: &child.arn,
            state: TriggeringState { value: child.state.name(), timestamp: date(child.at) },
        })
        .collect();
    loop {
        let data = CompositeReasonData { triggering_alarms: &triggering };
        let text = serde_json::to_string(&data).unwrap_or_default();
        if text.len() <= REASON_DATA_MAX || triggering.pop().is_none() {
            return text;
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CompositeReasonData<'a> {
    triggering_alarms: &'a [TriggeringAlarm<'a>],
}

#[derive(Serialize)]
struct TriggeringAlarm<'a> {
    arn: &'a str,
    state: TriggeringState,
}

#[derive(Serialize)]
struct TriggeringState {
    value: &'static str,
    timestamp: String,
}
