//! The definition of an alarm, in CloudWatch's own words (`PutMetricAlarm`, `PutCompositeAlarm`).
//!
//! A [`Definition`] has passed every documented limit: whatever holds one may evaluate it. It is read from and written as
//! the API's JSON ([`wire`]), in the event log too, so that a person finds there what they know.
//!
//! Beside metric and composite alarms there are *observed* alarms, our own kind: they are judged at each observation of a
//! peer rather than at the end of a period. CloudWatch has no such thing; an export says what becomes of them there.

pub mod wire;

use serde::{Deserialize, Serialize};

use super::suppress::Suppressor;
use crate::metric::statistic::Statistic;
use crate::metric::{MetricId, Unit};

pub const NAME_MAX: usize = 255;
pub const DESCRIPTION_MAX: usize = 1024;
/// Actions for each state.
pub const ACTIONS_MAX: usize = 5;
pub const ACTION_LENGTH_MAX: usize = 1024;
/// Metrics that the expressions of one alarm may use.
pub const QUERIES_MAX: usize = 10;
/// The namespace of which alarms ignore missing data, whatever they say.
const ALWAYS_IGNORING: &str = "AWS/DynamoDB";
/// Period × EvaluationPeriods, for periods under an hour …
pub const SPAN_MAX_S: u64 = 86_400;
/// … and for longer ones.
pub const LONG_SPAN_MAX_S: u64 = 604_800;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "wire::Wire", into = "wire::Wire")]
pub struct Definition {
    pub name: String,
    pub description: Option<String>,
    /// States change all the same where this is false; only no action runs.
    pub actions_enabled: bool,
    pub actions: Actions,
    pub kind: Kind,
}

/// What runs when a state is entered: ARNs, or actions of ukai's own (`ukai:incident:PEER`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Actions {
    pub ok: Vec<String>,
    pub alarm: Vec<String>,
    pub insufficient_data: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Metric(MetricAlarm),
    Composite(CompositeAlarm),
    Observed(ObservedAlarm),
}

#[derive(Debug, Clone, PartialEq)]
pub struct MetricAlarm {
    pub watched: Watched,
    /// N: how many periods are looked at.
    pub evaluation_periods: u32,
    /// M: how many of them must breach. None: all of them.
    pub datapoints_to_alarm: Option<u32>,
    pub comparison_operator: ComparisonOperator,
    pub threshold: Threshold,
    pub treat_missing_data: Option<TreatMissingData>,
    pub low_samples: Option<LowSamples>,
    pub window: EvaluationWindow,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Watched {
    Metric(MetricStat),
    /// Exactly one of the queries is what the alarm judges.
    Math(Vec<MetricDataQuery>),
}

/// One metric, read as one statistic of each period.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricStat {
    pub metric: MetricId,
    pub statistic: Statistic,
    pub period_s: u32,
    /// None: every unit together.
    pub unit: Option<Unit>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct MetricDataQuery {
    pub id: String,
    pub label: Option<String>,
    pub source: Source,
    pub return_data: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    Stat(MetricStat),
    Expression(String),
}

/// What the watched value is compared with.
#[derive(Debug, Clone, PartialEq)]
pub enum Threshold {
    Value(f64),
    /// The id of the query that is an `ANOMALY_DETECTION_BAND`.
    Band(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ComparisonOperator {
    GreaterThanOrEqualToThreshold,
    GreaterThanThreshold,
    LessThanThreshold,
    LessThanOrEqualToThreshold,
    LessThanLowerOrGreaterThanUpperThreshold,
    LessThanLowerThreshold,
    GreaterThanUpperThreshold,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TreatMissingData {
    #[default]
    Missing,
    Ignore,
    Breaching,
    NotBreaching,
}

/// What a percentile over too few samples is worth (`EvaluateLowSampleCountPercentile`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LowSamples {
    #[default]
    Evaluate,
    /// The state is kept while there are too few.
    Ignore,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EvaluationWindow {
    /// Periods end at the last whole minute (or ten seconds, for periods under a minute).
    #[serde(rename = "SlidingWindow")]
    Sliding {},
    /// Periods are those of the wall clock in this time zone: an IANA name, or an offset such as `+09:00`.
    #[serde(rename = "WallClockWindow")]
    WallClock {
        #[serde(rename = "Timezone", default, skip_serializing_if = "Option::is_none")]
        timezone: Option<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompositeAlarm {
    /// As it was written; it has been parsed.
    pub rule: String,
    pub suppressor: Option<Suppressor>,
}

/// What an observed alarm looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ObservedAlarm {
    pub signal: Signal,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Where it is observed from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vantage: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// A failed probe was confirmed by a burst.
    Reachability,
    /// Reachability has been lost without a break ever since.
    Outage,
    /// The application's own calls fail.
    Application,
    /// Somebody whom nobody knows answers.
    Identity,
    /// Everything fails that has nothing to do with any peer: the fault is ours.
    Controls,
}

/// Why a definition is refused: which field, what is wrong with it, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct DefinitionError {
    pub field: String,
    pub why: String,
}

impl DefinitionError {
    pub fn new(field: impl Into<String>, why: impl Into<String>) -> DefinitionError {
        DefinitionError { field: field.into(), why: why.into() }
    }
}

impl Definition {
    /// What runs on entering a state.
    pub fn actions_for(&self, state: super::AlarmState) -> &[String] {
        match state {
            super::AlarmState::Ok => &self.actions.ok,
            super::AlarmState::Alarm => &self.actions.alarm,
            super::AlarmState::InsufficientData => &self.actions.insufficient_data,
        }
    }

    pub fn is_observed(&self) -> bool {
        matches!(self.kind, Kind::Observed(_))
    }

    pub fn metric(&self) -> Option<&MetricAlarm> {
        match &self.kind {
            Kind::Metric(metric) => Some(metric),
            Kind::Composite(_) | Kind::Observed(_) => None,
        }
    }

    pub fn composite(&self) -> Option<&CompositeAlarm> {
        match &self.kind {
            Kind::Composite(composite) => Some(composite),
            Kind::Metric(_) | Kind::Observed(_) => None,
        }
    }
}

impl MetricAlarm {
    pub fn period_s(&self) -> u32 {
        match &self.watched {
            Watched::Metric(stat) => stat.period_s,
            Watched::Math(queries) => queries
                .iter()
                .find_map(|query| match &query.source {
                    Source::Stat(stat) => Some(stat.period_s),
                    Source::Expression(_) => None,
                })
                .unwrap_or(60),
        }
    }

    /// N.
    pub fn n(&self) -> usize {
        self.evaluation_periods as usize
    }

    /// M.
    pub fn m(&self) -> usize {
        self.datapoints_to_alarm.unwrap_or(self.evaluation_periods) as usize
    }

    /// How many periods CloudWatch fetches. Its size is not documented; every documented example
    /// has 5 for N = 3, which this gives.
    pub fn evaluation_range(&self) -> usize {
        let n = self.n();
        n + (n / 3).max(2)
    }

    /// What it is judged by: of metrics of `AWS/DynamoDB` missing data are always ignored (CloudWatch User Guide,
    /// "Configuring how CloudWatch alarms treat missing data").
    pub fn treats_missing_data(&self) -> TreatMissingData {
        if self.metrics().any(|stat| stat.metric.namespace.as_str() == ALWAYS_IGNORING) {
            return TreatMissingData::Ignore;
        }
        self.treat_missing_data.unwrap_or_default()
    }

    /// The metrics that are read, with how far back.
    pub fn metrics(&self) -> impl Iterator<Item = &MetricStat> {
        let (single, queries): (Option<&MetricStat>, &[MetricDataQuery]) = match &self.watched {
            Watched::Metric(stat) => (Some(stat), &[]),
            Watched::Math(queries) => (None, queries),
        };
        single.into_iter().chain(queries.iter().filter_map(|query| match &query.source {
            Source::Stat(stat) => Some(stat),
            Source::Expression(_) => None,
        }))
    }
}

impl ComparisonOperator {
    /// Against a value. The operators of a band have none, and breach nothing here.
    pub fn is_breaching(self, value: f64, threshold: f64) -> bool {
        match self {
            ComparisonOperator::GreaterThanOrEqualToThreshold => value >= threshold,
            ComparisonOperator::GreaterThanThreshold => value > threshold,
            ComparisonOperator::LessThanThreshold => value < threshold,
            ComparisonOperator::LessThanOrEqualToThreshold => value <= threshold,
            ComparisonOperator::LessThanLowerOrGreaterThanUpperThreshold
            | ComparisonOperator::LessThanLowerThreshold
            | ComparisonOperator::GreaterThanUpperThreshold => false,
        }
    }

    pub fn is_outside(self, value: f64, lower: f64, upper: f64) -> bool {
        match self {
            ComparisonOperator::LessThanLowerOrGreaterThanUpperThreshold => value < lower || value > upper,
            ComparisonOperator::LessThanLowerThreshold => value < lower,
            ComparisonOperator::GreaterThanUpperThreshold => value > upper,
            ComparisonOperator::GreaterThanOrEqualToThreshold
            | ComparisonOperator::GreaterThanThreshold
            | ComparisonOperator::LessThanThreshold
            | ComparisonOperator::LessThanOrEqualToThreshold => false,
        }
    }

    pub fn needs_band(self) -> bool {
        matches!(
            self,
            ComparisonOperator::LessThanLowerOrGreaterThanUpperThreshold
                | ComparisonOperator::LessThanLowerThreshold
                | ComparisonOperator::GreaterThanUpperThreshold
        )
    }
}

impl Default for EvaluationWindow {
    fn default() -> EvaluationWindow {
        EvaluationWindow::Sliding {}
    }
}

// Every number in a definition is finite, so that equality is total.
impl Eq for Definition {}

impl TreatMissingData {
    pub fn name(self) -> &'static str {
        match self {
            TreatMissingData::Missing => "missing",
            TreatMissingData::Ignore => "ignore",
            TreatMissingData::Breaching => "breaching",
            TreatMissingData::NotBreaching => "notBreaching",
        }
    }
}
