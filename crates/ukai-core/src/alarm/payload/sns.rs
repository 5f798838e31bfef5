//! The message of an SNS action, and its subject.
//!
//! Traps, all recorded: `Region` is the display name; a plain statistic is in upper case with underscores (`SAMPLE_COUNT`)
//! and an extended one is not; the keys of dimensions are in lower case, value first; `Unit` is null where the alarm has
//! none, and `AlarmDescription` likewise; `DatapointsToAlarm` is there only when it is set; `TreatMissingData` is the bare
//! word and never missing; `EvaluateLowSampleCountPercentile` is empty where it is not set; an alarm on metric math has
//! `Metrics` in the place of the fields of one metric. A composite alarm has `AlarmRule` and `TriggeringChildren`, no
//! `Trigger` and no time of its configuration.
//!
//! Our choices: `ActionExecutedAfterMuteWindow` follows `OldStateValue` (recorded without an order); an observed alarm
//! shows the metric alarm that comes nearest to it. A subject has at most 100 characters of ASCII (SNS, `Publish`): the
//! name of the alarm is shortened, and what is not ASCII in it becomes an underscore.

use serde::Serialize;

use super::StateChange;
use crate::alarm::counterpart::counterpart;
use crate::alarm::definition::{
    CompositeAlarm, Kind, LowSamples, MetricAlarm, MetricDataQuery, MetricStat, Source, Threshold, Watched,
};
use crate::alarm::region::display_name;
use crate::alarm::text::{date, shortened};
use crate::metric::Dimensions;
use crate::metric::statistic::Statistic;

/// SNS refuses longer ones.
const SUBJECT_MAX: usize = 100;

/// The `Message` of the notification, as JSON.
pub fn message(change: &StateChange<'_>) -> String {
    let text = match &change.definition.kind {
        Kind::Metric(metric) => serde_json::to_string(&of_metric(change, Some(metric))),
        Kind::Observed(observed) => serde_json::to_string(&of_metric(change, counterpart(observed).as_ref())),
        Kind::Composite(composite) => serde_json::to_string(&of_composite(change, composite)),
    };
    text.unwrap_or_default()
}

/// `ALARM: "pay-down" in Asia Pacific (Tokyo)`.
pub fn subject(change: &StateChange<'_>) -> String {
    let state = change.new.state.name();
    let region = display_name(change.region);
    let room = SUBJECT_MAX.saturating_sub(state.len() + region.len() + ": \"\" in ".len());
    let name = shortened(&ascii(&change.definition.name), room);
    format!("{state}: \"{name}\" in {region}")
}

/// A run of anything else becomes one underscore.
fn ascii(name: &str) -> String {
    let mut plain = String::with_capacity(name.len());
    let mut in_run = false;
    for letter in name.chars() {
        let is_plain = letter == ' ' || letter.is_ascii_graphic();
        if is_plain {
            plain.push(letter);
        } else if !in_run {
            plain.push('_');
        }
        in_run = !is_plain;
    }
    plain
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MetricMessage<'a> {
    alarm_name: &'a str,
    alarm_description: Option<&'a str>,
    #[serde(rename = "AWSAccountId")]
    aws_account_id: &'a str,
    alarm_configuration_updated_timestamp: String,
    new_state_value: &'static str,
    new_state_reason: &'a str,
    state_change_time: String,
    region: &'a str,
    alarm_arn: String,
    old_state_value: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    action_executed_after_mute_window: Option<bool>,
    #[serde(rename = "OKActions")]
    ok_actions: &'a [String],
    alarm_actions: &'a [String],
    insufficient_data_actions: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    trigger: Option<Trigger>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CompositeMessage<'a> {
    alarm_name: &'a str,
    alarm_description: Option<&'a str>,
    #[serde(rename = "AWSAccountId")]
    aws_account_id: &'a str,
    new_state_value: &'static str,
    new_state_reason: &'a str,
    state_change_time: String,
    region: &'a str,
    alarm_arn: String,
    #[serde(rename = "OKActions")]
    ok_actions: &'a [String],
    alarm_actions: &'a [String],
    insufficient_data_actions: &'a [String],
    old_state_value: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    action_executed_after_mute_window: Option<bool>,
    alarm_rule: &'a str,
    triggering_children: Vec<Child<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Child<'a> {
    arn: &'a str,
    state: ChildState,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ChildState {
    value: &'static str,
    timestamp: String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Trigger {
    Metric(MetricTrigger),
    Math(MathTrigger),
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MetricTrigger {
    metric_name: String,
    namespace: String,
    statistic_type: &'static str,
    statistic: String,
    unit: Option<&'static str>,
    dimensions: Vec<Dimension>,
    #[serde(flatten)]
    judged: Judged,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct MathTrigger {
    #[serde(flatten)]
    judged: Judged,
    metrics: Vec<Query>,
}

/// How the value is judged: the same for one metric and for metric math.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Judged {
    period: u32,
    evaluation_periods: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    datapoints_to_alarm: Option<u32>,
    comparison_operator: crate::alarm::definition::ComparisonOperator,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold_metric_id: Option<String>,
    treat_missing_data: &'static str,
    evaluate_low_sample_count_percentile: &'static str,
}

#[derive(Serialize)]
struct Dimension {
    value: String,
    name: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Query {
    #[serde(skip_serializing_if = "Option::is_none")]
    expression: Option<String>,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric_stat: Option<QueryStat>,
    return_data: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct QueryStat {
    metric: QueryMetric,
    period: u32,
    stat: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct QueryMetric {
    dimensions: Vec<Dimension>,
    metric_name: String,
    namespace: String,
}

fn of_metric<'a>(change: &StateChange<'a>, metric: Option<&MetricAlarm>) -> MetricMessage<'a> {
    let definition = change.definition;
    MetricMessage {
        alarm_name: &definition.name,
        alarm_description: definition.description.as_deref(),
        aws_account_id: change.account_id,
        alarm_configuration_updated_timestamp: date(change.configuration_updated_at),
        new_state_value: change.new.state.name(),
        new_state_reason: change.new.reason,
        state_change_time: date(change.new.at),
        region: display_name(change.region),
        alarm_arn: change.arn(),
        old_state_value: change.old.state.name(),
        action_executed_after_mute_window: change.after_mute_window,
        ok_actions: &definition.actions.ok,
        alarm_actions: &definition.actions.alarm,
        insufficient_data_actions: &definition.actions.insufficient_data,
        trigger: metric.map(trigger),
    }
}

fn of_composite<'a>(change: &StateChange<'a>, composite: &'a CompositeAlarm) -> CompositeMessage<'a> {
    let definition = change.definition;
    let child = |child: &'a crate::alarm::reason::TriggeringChild| Child {
        arn: &child.arn,
        state: ChildState { value: child.state.name(), timestamp: date(child.at) },
    };
    CompositeMessage {
        alarm_name: &definition.name,
        alarm_description: definition.description.as_deref(),
        aws_account_id: change.account_id,
        new_state_value: change.new.state.name(),
        new_state_reason: change.new.reason,
        state_change_time: date(change.new.at),
        region: display_name(change.region),
        alarm_arn: change.arn(),
        ok_actions: &definition.actions.ok,
        alarm_actions: &definition.actions.alarm,
        insufficient_data_actions: &definition.actions.insufficient_data,
        old_state_value: change.old.state.name(),
        action_executed_after_mute_window: change.after_mute_window,
        alarm_rule: &composite.rule,
        triggering_children: change.triggering_children.iter().map(child).collect(),
    }
}

fn trigger(alarm: &MetricAlarm) -> Trigger {
    let judged = judged(alarm);
    match &alarm.watched {
        Watched::Metric(stat) => {
            let (statistic_type, statistic) = statistic(&stat.statistic);
            Trigger::Metric(MetricTrigger {
                metric_name: stat.metric.metric_name.to_string(),
                namespace: stat.metric.namespace.as_str().to_owned(),
                statistic_type,
                statistic,
                unit: stat.unit.map(|unit| unit.name()),
                dimensions: dimensions(&stat.metric.dimensions),
                judged,
            })
        }
        Watched::Math(queries) => Trigger::Math(MathTrigger { judged, metrics: queries.iter().map(query).collect() }),
    }
}

fn judged(alarm: &MetricAlarm) -> Judged {
    let (threshold, threshold_metric_id) = match &alarm.threshold {
        Threshold::Value(value) => (Some(*value), None),
        Threshold::Band(id) => (None, Some(id.clone())),
    };
    Judged {
        period: alarm.period_s(),
        evaluation_periods: alarm.evaluation_periods,
        datapoints_to_alarm: alarm.datapoints_to_alarm,
        comparison_operator: alarm.comparison_operator,
        threshold,
        threshold_metric_id,
        treat_missing_data: alarm.treat_missing_data.unwrap_or_default().name(),
        evaluate_low_sample_count_percentile: match alarm.low_samples {
            None => "",
            Some(LowSamples::Evaluate) => "evaluate",
            Some(LowSamples::Ignore) => "ignore",
        },
    }
}

fn statistic(statistic: &Statistic) -> (&'static str, String) {
    let plain = match statistic {
        Statistic::SampleCount => "SAMPLE_COUNT",
        Statistic::Sum => "SUM",
        Statistic::Average => "AVERAGE",
        Statistic::Minimum => "MINIMUM",
        Statistic::Maximum => "MAXIMUM",
        extended => return ("ExtendedStatistic", extended.to_string()),
    };
    ("Statistic", plain.to_owned())
}

fn query(query: &MetricDataQuery) -> Query {
    let (expression, metric_stat) = match &query.source {
        Source::Expression(text) => (Some(text.clone()), None),
        Source::Stat(stat) => (None, Some(query_stat(stat))),
    };
    Query { expression, id: query.id.clone(), label: query.label.clone(), metric_stat, return_data: query.return_data }
}

fn query_stat(stat: &MetricStat) -> QueryStat {
    QueryStat {
        metric: QueryMetric {
            dimensions: dimensions(&stat.metric.dimensions),
            metric_name: stat.metric.metric_name.to_string(),
            namespace: stat.metric.namespace.as_str().to_owned(),
        },
        period: stat.period_s,
        stat: stat.statistic.to_string(),
        unit: stat.unit.map(|unit| unit.name()),
    }
}

fn dimensions(of: &Dimensions) -> Vec<Dimension> {
    of.iter().map(|(name, value)| Dimension { value: value.to_owned(), name: name.to_owned() }).collect()
}
