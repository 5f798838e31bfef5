//! What a change of state says of itself: `StateReason`, for people, here, and `StateReasonData`, for programs, in
//! [`data`].
//!
//! Texts are those that CloudWatch was recorded with:
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
//! percentile over too few samples has a text of ours.

pub mod data;

use jiff::Timestamp;

pub use data::{
    EvaluatedDatapoint, ExplainedPeriod, Explanation, REASON_DATA_MAX, ReasonData, composite_reason_data, explain,
    reason_data,
};

use super::AlarmState;
use super::definition::{ComparisonOperator, MetricAlarm, Threshold, TreatMissingData};
use super::evaluate::{Evaluation, RangePoint};
use super::missing_data::{Cell, Rule, Slot, cells};
use super::text::{counted, date_of_datapoint, date_of_sentence, number, numbers, shortened, was};

/// Of a new alarm, before its first evaluation.
pub const UNCHECKED: &str = "Unchecked: Initial alarm creation";
/// Characters of `StateReason` (API reference).
pub const REASON_MAX: usize = 1023;
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
