//! What `DescribeAlarmHistory` shows: one item for each change of state, change of a definition, and action.
//!
//! Recorded: the whole of a state update; "Alarm "x" created" with its `createdAlarm`; "Successfully executed action ARN"
//! and "Failed to execute action ARN. Received error: "…"" with the members of their data. `okactions` is written so there.
//! Our choices: the texts of actions that were suppressed or muted; where data is longer than the limit, the message that
//! was published, then the data of the reasons, then the rest is left out, so that what remains is JSON.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::AlarmState;
use super::definition::wire::Wire;
use super::definition::{Definition, Kind};
use super::payload::{StateChange, StateThen, Suppression};
use super::region::alarm_arn;
use super::text::{date, shortened};

/// Characters of `HistorySummary` (API reference).
pub const SUMMARY_MAX: usize = 255;
/// Characters of `HistoryData` (API reference).
pub const DATA_MAX: usize = 4095;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HistoryItem {
    pub alarm_name: String,
    pub alarm_type: AlarmType,
    pub timestamp: Timestamp,
    pub history_item_type: HistoryItemType,
    pub history_summary: String,
    /// JSON.
    pub history_data: String,
}

/// The last is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AlarmType {
    MetricAlarm,
    CompositeAlarm,
    ObservedAlarm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HistoryItemType {
    ConfigurationUpdate,
    StateUpdate,
    Action,
}

/// A definition at the time when it was put or deleted.
#[derive(Debug, Clone, Copy)]
pub struct Configured<'a> {
    pub definition: &'a Definition,
    pub account_id: &'a str,
    pub region: &'a str,
    pub at: Timestamp,
    pub state: AlarmState,
    pub state_at: Timestamp,
}

#[derive(Debug, Clone, Copy)]
pub enum ConfigurationChange<'a> {
    Created,
    Updated { previous: &'a Definition },
    Deleted,
}

/// What became of one action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionOutcome<'a> {
    /// With what was published, where it was a message.
    Succeeded {
        message: Option<&'a str>,
    },
    Failed {
        error: &'a str,
    },
    Suppressed(Suppression<'a>),
    Muted {
        rule: &'a str,
        until: Timestamp,
    },
}

impl AlarmType {
    pub fn of(definition: &Definition) -> AlarmType {
        match definition.kind {
            Kind::Metric(_) => AlarmType::MetricAlarm,
            Kind::Composite(_) => AlarmType::CompositeAlarm,
            Kind::Observed(_) => AlarmType::ObservedAlarm,
        }
    }
}

pub fn state_update(change: &StateChange<'_>) -> HistoryItem {
    let (old, new) = (change.old, change.new);
    let summary = format!("Alarm updated from {} to {}", old.state.name(), new.state.name());
    let data = |old_data, new_data| {
        json(&StateData { version: VERSION, old_state: state(old, old_data), new_state: state(new, new_data) })
    };
    let data = first_that_fits([data(true, true), data(false, true), data(false, false)]);
    item(change.definition, new.at, HistoryItemType::StateUpdate, &summary, data)
}

pub fn configuration_update(configured: &Configured<'_>, change: ConfigurationChange<'_>) -> HistoryItem {
    let (verb, kind, member) = match change {
        ConfigurationChange::Created => ("created", "Create", "createdAlarm"),
        ConfigurationChange::Updated { .. } => ("updated", "Update", "updatedAlarm"),
        ConfigurationChange::Deleted => ("deleted", "Delete", "deletedAlarm"),
    };
    let summary = format!("Alarm \"{}\" {verb}", configured.definition.name);
    let alarm = json(&AlarmDocument::of(configured));
    let original = match change {
        ConfigurationChange::Updated { previous } => {
            format!(r#","originalUpdatedFields":{}"#, original_fields(configured, previous))
        }
        ConfigurationChange::Created | ConfigurationChange::Deleted => String::new(),
    };
    let head = format!(r#"{{"version":"{VERSION}","type":"{kind}""#);
    let data = first_that_fits([
        format!(r#"{head},"{member}":{alarm}{original}}}"#),
        format!(r#"{head},"{member}":{alarm}}}"#),
        format!("{head}}}"),
    ]);
    item(configured.definition, configured.at, HistoryItemType::ConfigurationUpdate, &summary, data)
}

/// `at` is when the outcome was known.
pub fn action(change: &StateChange<'_>, action: &str, outcome: ActionOutcome<'_>, at: Timestamp) -> HistoryItem {
    let (summary, state) = match outcome {
        ActionOutcome::Succeeded { .. } => (format!("Successfully executed action {action}"), "Succeeded"),
        ActionOutcome::Failed { error } => {
            (format!("Failed to execute action {action}. Received error: \"{error}\""), "Failed")
        }
        ActionOutcome::Suppressed(by) => (format!("Action {action} suppressed by {}", by.by.name()), "Suppressed"),
        ActionOutcome::Muted { rule, .. } => (format!("Action {action} muted by {rule}"), "Muted"),
    };
    let data = |with_message: bool| {
        json(&ActionData {
            action_state: state,
            state_update_timestamp: change.new.at.as_millisecond(),
            notification_resource: action,
            published_message: match outcome {
                ActionOutcome::Succeeded { message } => message.filter(|_| with_message),
                _ => None,
            },
            error: match outcome {
                ActionOutcome::Failed { error } => Some(shortened(error, ERROR_MAX)),
                ActionOutcome::Suppressed(suppression) => Some(shortened(suppression.reason, ERROR_MAX)),
                ActionOutcome::Succeeded { .. } | ActionOutcome::Muted { .. } => None,
            },
            mute_window_end_timestamp: match outcome {
                ActionOutcome::Muted { until, .. } => Some(until.as_millisecond()),
                _ => None,
            },
        })
    };
    let data = first_that_fits([data(true), data(false)]);
    item(change.definition, at, HistoryItemType::Action, &summary, data)
}

const VERSION: &str = "1.0";
/// An error that is longer than a reason may be tells nothing more.
const ERROR_MAX: usize = 1023;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StateData<'a> {
    version: &'static str,
    old_state: StateDocument<'a>,
    new_state: StateDocument<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StateDocument<'a> {
    state_value: &'static str,
    state_reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_reason_data: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ActionData<'a> {
    action_state: &'static str,
    state_update_timestamp: i64,
    notification_resource: &'a str,
    published_message: Option<&'a str>,
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mute_window_end_timestamp: Option<i64>,
}

/// A definition as the history has it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlarmDocument {
    alarm_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    alarm_description: Option<String>,
    alarm_arn: String,
    alarm_configuration_updated_timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    statistic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extended_statistic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    period: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<Vec<Dimension>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    threshold_metric_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comparison_operator: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evaluation_periods: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    datapoints_to_alarm: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    treat_missing_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    evaluate_low_sample_count_percentile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alarm_rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actions_suppressor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actions_suppressor_wait_period: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actions_suppressor_extension_period: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    observed: Option<Value>,
    state_value: &'static str,
    state_updated_timestamp: String,
    actions_enabled: bool,
    alarm_actions: Vec<String>,
    insufficient_data_actions: Vec<String>,
    okactions: Vec<String>,
}

#[derive(Serialize)]
struct Dimension {
    value: String,
    name: String,
}

impl AlarmDocument {
    fn of(configured: &Configured<'_>) -> AlarmDocument {
        let wire = Wire::from(configured.definition.clone());
        let dimensions = wire.dimensions.map(|all| {
            all.into_iter().map(|each| Dimension { value: each.value, name: each.name }).collect::<Vec<_>>()
        });
        AlarmDocument {
            alarm_arn: alarm_arn(configured.region, configured.account_id, &wire.alarm_name),
            alarm_name: wire.alarm_name,
            alarm_description: wire.alarm_description,
            alarm_configuration_updated_timestamp: date(configured.at),
            namespace: wire.namespace,
            metric_name: wire.metric_name,
            statistic: wire.statistic,
            extended_statistic: wire.extended_statistic,
            period: wire.period,
            dimensions,
            unit: wire.unit,
            metrics: wire.metrics.and_then(|metrics| serde_json::to_value(metrics).ok()),
            threshold: wire.threshold,
            threshold_metric_id: wire.threshold_metric_id,
            comparison_operator: wire.comparison_operator,
            evaluation_periods: wire.evaluation_periods,
            datapoints_to_alarm: wire.datapoints_to_alarm,
            treat_missing_data: wire.treat_missing_data,
            evaluate_low_sample_count_percentile: wire.evaluate_low_sample_count_percentile,
            alarm_rule: wire.alarm_rule,
            actions_suppressor: wire.actions_suppressor,
            actions_suppressor_wait_period: wire.actions_suppressor_wait_period,
            actions_suppressor_extension_period: wire.actions_suppressor_extension_period,
            observed: wire.observed.and_then(|observed| serde_json::to_value(observed).ok()),
            state_value: configured.state.name(),
            state_updated_timestamp: date(configured.state_at),
            actions_enabled: wire.actions_enabled.unwrap_or(true),
            alarm_actions: wire.alarm_actions,
            insufficient_data_actions: wire.insufficient_data_actions,
            okactions: wire.ok_actions,
        }
    }
}

/// The members that were different before.
fn original_fields(configured: &Configured<'_>, previous: &Definition) -> Value {
    let members = |definition| {
        let document = AlarmDocument::of(&Configured { definition, ..*configured });
        serde_json::to_value(document).ok().and_then(|value| value.as_object().cloned()).unwrap_or_default()
    };
    let new = members(configured.definition);
    let old = members(previous).into_iter().filter(|(name, value)| new.get(name) != Some(value));
    Value::Object(old.collect())
}

fn state(then: StateThen<'_>, with_data: bool) -> StateDocument<'_> {
    let data = then.reason_data.filter(|_| with_data);
    StateDocument {
        state_value: then.state.name(),
        state_reason: then.reason,
        // Data that somebody set by hand and that is not JSON is left out.
        state_reason_data: data.and_then(|text| serde_json::from_str(text).ok()),
    }
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Nothing is better than half a document.
fn first_that_fits<const N: usize>(choices: [String; N]) -> String {
    let fitting = choices.into_iter().find(|choice| choice.chars().count() <= DATA_MAX);
    fitting.unwrap_or_else(|| format!(r#"{{"version":"{VERSION}"}}"#))
}

fn item(of: &Definition, at: Timestamp, kind: HistoryItemType, summary: &str, data: String) -> HistoryItem {
    HistoryItem {
        alarm_name: of.name.clone(),
        alarm_type: AlarmType::of(of),
        timestamp: at,
        history_item_type: kind,
        history_summary: shortened(summary, SUMMARY_MAX),
        history_data: data,
    }
}
