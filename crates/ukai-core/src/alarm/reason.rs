//! What a change of state says of itself: `StateReason`, for people, and `StateReasonData`, for programs.
//!
//! Texts and fields are those that CloudWatch was recorded with:
//!
//! ```text
//! Threshold Crossed: 1 datapoint [21.5 (24/09/25 10:11:00)] was greater than the threshold (21.0).
//! Threshold Crossed: 1 out of the last 20 datapoints [613.0 (…)] was greater than or equal to the threshold (1.0)
//!     and 19 missing datapoints were treated as [NonBreaching] (minimum 1 datapoint for OK -> ALARM transition).
//! Threshold Crossed: 24 datapoints were greater than the threshold (0.0).
//!     The most recent datapoints which crossed the threshold: [1.0 (…), …].
//! Threshold Crossed: no datapoints were received for 2 periods and 2 missing datapoints were treated as [Breaching].
//! Threshold Crossed: 1 datapoint was received for 3 periods and 2 missing datapoints were treated as [Breaching].
//! Thresholds Crossed: 1 out of the last 1 datapoints [0.1 (…)] was not less than the lower thresholds [0.02]
//!     or not greater than the upper thresholds [0.3] (minimum 1 datapoint for ALARM -> OK transition).
//! Insufficient Data: 5 datapoints were unknown.
//! ```
//!
//! "Out of the last" and the minimum stand where `DatapointsToAlarm` is set. Only the points that agree with the new state
//! are listed, newest first; to leave ALARM, N − M + 1 of them are needed.
//!
//! Our choices, because no recording was found: more than three points are listed in a sentence of their own (three were
//! seen inline, five were not); for OK that sentence says "which did not cross"; a state that no real point agrees with
//! uses the "was received" form, for `[Missing]` and `[Ignore]` too; a band with nothing received says "Thresholds"; a
//! percentile over too few samples has a text of ours. In `evaluatedDatapoints` the missing periods are the newest ones,
//! and a band with two edges has `lowerThreshold` and `upperThreshold` there (one edge, `threshold`, was recorded).

use jiff::Timestamp;
use serde::Serialize;

use super::AlarmState;
use super::definition::{ComparisonOperator, MetricAlarm, Threshold, TreatMissingData, Watched};
use super::evaluate::{Evaluation, RangePoint};
use super::missing_data::{Cell, Rule, Slot, cells};
use super::text::{counted, date, date_of_datapoint, date_of_sentence, number, numbers, shortened, was};

/// Of a new alarm, before its first evaluation.
pub const UNCHECKED: &str = "Unchecked: Initial alarm creation";
/// Characters of `StateReason` (API reference).
pub const REASON_MAX: usize = 1023;
/// Characters of `StateReasonData` (API reference).
pub const REASON_DATA_MAX: usize = 4000;
/// More evaluated datapoints than that are longer than the limit: one has at least 44 characters.
const EVALUATED_FIT: usize = 90;
const LOW_SAMPLES: &str = "Unchecked: there are too few samples for the percentile";
/// So many datapoints are listed within the sentence.
const INLINE_MAX: usize = 3;
/// So many are listed at all.
const LISTED_MAX: usize = 5;

/// `StateReason` of the state that an evaluation came to.
pub fn reason(alarm: &MetricAlarm, evaluation: &Evaluation, new: AlarmState) -> String {
    let text = match (evaluation.judgement.rule, new) {
        (Rule::LowSamples, _) => LOW_SAMPLES.to_owned(),
        (_, AlarmState::InsufficientData) => {
            let n = alarm.n();
            format!("Insufficient Data: {} {} unknown.", counted(n, "datapoint"), was(n))
        }
        (_, AlarmState::Ok | AlarmState::Alarm) => crossed(alarm, evaluation, new),
    };
    shortened(&text, REASON_MAX)
}

/// Why a composite alarm is in the state that it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompositeCause<'a> {
    Created { arn: &'a str },
    Updated { arn: &'a str },
    Child { arn: &'a str, state: AlarmState, at: Timestamp },
}

pub fn composite_reason(cause: CompositeCause<'_>, new: AlarmState) -> String {
    let text = match cause {
        CompositeCause::Created { arn } => {
            format!("{arn} was created and its alarm rule evaluates to {}", new.name())
        }
        CompositeCause::Updated { arn } => {
            format!("{arn} was updated and its alarm rule evaluates to {}", new.name())
        }
        CompositeCause::Child { arn, state, at } => {
            format!("{arn} transitioned to {} at {}", state.name(), date_of_sentence(at))
        }
    };
    shortened(&text, REASON_MAX)
}

/// A child whose state decided a composite alarm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TriggeringChild {
    pub arn: String,
    pub state: AlarmState,
    pub at: Timestamp,
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

fn crossed(alarm: &MetricAlarm, evaluation: &Evaluation, new: AlarmState) -> String {
    let judged = judged(alarm, evaluation);
    let wanted = if new == AlarmState::Alarm { Slot::Breaching } else { Slot::Fine };
    let agreeing: Vec<&RangePoint> = judged.iter().copied().filter(|point| point.slot == wanted).collect();
    let crossed = match alarm.threshold {
        Threshold::Value(_) => "Threshold Crossed",
        Threshold::Band(_) => "Thresholds Crossed",
    };
    if agreeing.is_empty() {
        return format!("{crossed}: {}.", received(alarm, judged.len(), evaluation.judgement.filled));
    }
    let missing = treated(alarm, evaluation.judgement.filled);
    let (minimum, many) = match alarm.datapoints_to_alarm {
        None => (String::new(), counted(agreeing.len(), "datapoint")),
        Some(_) => (minimum(alarm, new), format!("{} out of the last {} datapoints", agreeing.len(), alarm.n())),
    };
    let compared = compared(alarm, &agreeing, new);
    if agreeing.len() <= INLINE_MAX {
        return format!("{crossed}: {many} [{}] {compared}{missing}{minimum}.", listed(&agreeing));
    }
    let not = if new == AlarmState::Alarm { "crossed" } else { "did not cross" };
    let recent = listed(&agreeing[..agreeing.len().min(LISTED_MAX)]);
    format!(
        "{crossed}: {many} {compared}{missing}. The most recent datapoints which {not} the threshold: [{recent}]{minimum}."
    )
}

/// `no datapoints were received for 2 periods and 2 missing datapoints were treated as [Breaching]`.
fn received(alarm: &MetricAlarm, real: usize, filled: usize) -> String {
    let many = if real == 0 {
        "no datapoints were".to_owned()
    } else {
        format!("{} {}", counted(real, "datapoint"), was(real))
    };
    let missing = as_treated(alarm.treats_missing_data(), filled);
    format!("{many} received for {}{missing}", counted(alarm.n(), "period"))
}

/// Where the treatment put something in the place of what is missing.
fn treated(alarm: &MetricAlarm, filled: usize) -> String {
    match alarm.treats_missing_data() {
        TreatMissingData::Missing | TreatMissingData::Ignore => String::new(),
        treat @ (TreatMissingData::Breaching | TreatMissingData::NotBreaching) => as_treated(treat, filled),
    }
}

fn as_treated(treat: TreatMissingData, filled: usize) -> String {
    let name = match treat {
        TreatMissingData::Missing => "Missing",
        TreatMissingData::Ignore => "Ignore",
        TreatMissingData::Breaching => "Breaching",
        TreatMissingData::NotBreaching => "NonBreaching",
    };
    match filled {
        0 => String::new(),
        _ => format!(" and {} {} treated as [{name}]", counted(filled, "missing datapoint"), was(filled)),
    }
}

fn minimum(alarm: &MetricAlarm, new: AlarmState) -> String {
    let (least, transition) = match new {
        AlarmState::Alarm => (alarm.m(), "OK -> ALARM"),
        AlarmState::Ok | AlarmState::InsufficientData => (alarm.n() + 1 - alarm.m(), "ALARM -> OK"),
    };
    format!(" (minimum {} for {transition} transition)", counted(least, "datapoint"))
}

/// `was not greater than the threshold (21.0)`.
fn compared(alarm: &MetricAlarm, agreeing: &[&RangePoint], new: AlarmState) -> String {
    let not = if new == AlarmState::Alarm { "" } else { "not " };
    let shown = &agreeing[..agreeing.len().min(LISTED_MAX)];
    let lower = || format!("{not}less than the lower thresholds [{}]", numbers(edges(shown, |band| band.0)));
    let upper = || format!("{not}greater than the upper thresholds [{}]", numbers(edges(shown, |band| band.1)));
    let than = match alarm.comparison_operator {
        ComparisonOperator::GreaterThanOrEqualToThreshold => "greater than or equal to",
        ComparisonOperator::GreaterThanThreshold => "greater than",
        ComparisonOperator::LessThanThreshold => "less than",
        ComparisonOperator::LessThanOrEqualToThreshold => "less than or equal to",
        ComparisonOperator::LessThanLowerThreshold => return format!("{} {}", was(agreeing.len()), lower()),
        ComparisonOperator::GreaterThanUpperThreshold => return format!("{} {}", was(agreeing.len()), upper()),
        ComparisonOperator::LessThanLowerOrGreaterThanUpperThreshold => {
            return format!("{} {} or {}", was(agreeing.len()), lower(), upper());
        }
    };
    let threshold = match alarm.threshold {
        Threshold::Value(value) => number(value),
        Threshold::Band(_) => String::new(),
    };
    format!("{} {not}{than} the threshold ({threshold})", was(agreeing.len()))
}

fn edges<'a>(points: &'a [&RangePoint], edge: fn((f64, f64)) -> f64) -> impl Iterator<Item = f64> + 'a {
    points.iter().filter_map(move |point| point.band.map(edge))
}

fn listed(points: &[&RangePoint]) -> String {
    let each = points.iter().filter_map(|point| {
        let value = point.datapoint?.value;
        Some(format!("{} ({})", number(value), date_of_datapoint(point.start_s)))
    });
    each.collect::<Vec<_>>().join(", ")
}

/// The real points that were judged, newest first.
fn judged<'a>(alarm: &MetricAlarm, evaluation: &'a Evaluation) -> Vec<&'a RangePoint> {
    let slots: Vec<Slot> = evaluation.range.iter().map(|point| point.slot).collect();
    let cells = cells(&slots, alarm.n());
    let all = evaluation.range.iter().zip(cells).rev();
    all.filter(|(_, cell)| *cell == Cell::Judged).map(|(point, _)| point).collect()
}

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
