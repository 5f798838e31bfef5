//! The event that a Lambda action is invoked with, and the event on the bus (`CloudWatch Alarm State Change`).
//!
//! Both hold the same account of the alarm, the bus under `detail` and the function under `alarmData`. Here the dimensions
//! are a map, statistics are written as in the API, and an alarm on one metric gets an id for it: CloudWatch draws one at
//! random, here it follows from the alarm's ARN. The time of the bus's envelope is in whole seconds with `Z`, all others
//! have milliseconds and `+0000`.
//!
//! Our choices: a query is `id`, `metricStat` or `expression`, `label`, `returnData` (the documentation's examples
//! disagree in the order); what suppresses the actions of a composite stands at the end of its state.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{StateChange, StateThen, Suppression, uuid_of};
use crate::alarm::counterpart::counterpart;
use crate::alarm::definition::{Definition, Kind, MetricAlarm, MetricDataQuery, MetricStat, Source, Watched};
use crate::alarm::suppress::Suppressor;
use crate::alarm::text::{date, date_of_event};

/// What a Lambda function gets, as JSON.
pub fn lambda(change: &StateChange<'_>) -> String {
    let event = LambdaEvent {
        source: "aws.cloudwatch",
        alarm_arn: change.arn(),
        account_id: change.account_id,
        time: date(change.new.at),
        region: change.region,
        alarm_data: detail(change),
    };
    serde_json::to_string(&event).unwrap_or_default()
}

/// What the event bus gets, as JSON.
pub fn event_bridge(change: &StateChange<'_>) -> String {
    let arn = change.arn();
    let event = BusEvent {
        version: "0",
        id: uuid_of(&format!("{arn} {} {}", change.new.state.name(), date(change.new.at))),
        detail_type: "CloudWatch Alarm State Change",
        source: "aws.cloudwatch",
        account: change.account_id,
        time: date_of_event(change.new.at),
        region: change.region,
        resources: [arn],
        detail: detail(change),
    };
    serde_json::to_string(&event).unwrap_or_default()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LambdaEvent<'a> {
    source: &'static str,
    alarm_arn: String,
    account_id: &'a str,
    time: String,
    region: &'a str,
    alarm_data: Detail<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct BusEvent<'a> {
    version: &'static str,
    id: String,
    detail_type: &'static str,
    source: &'static str,
    account: &'a str,
    time: String,
    region: &'a str,
    resources: [String; 1],
    detail: Detail<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Detail<'a> {
    alarm_name: &'a str,
    state: State<'a>,
    previous_state: State<'a>,
    configuration: Configuration<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct State<'a> {
    value: &'static str,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason_data: Option<&'a str>,
    timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    actions_suppressed_by: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actions_suppressed_reason: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Configuration<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<Vec<Query>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alarm_rule: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actions_suppressor: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actions_suppressor_wait_period: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actions_suppressor_extension_period: Option<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Query {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    metric_stat: Option<Stat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expression: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    return_data: bool,
}

#[derive(Serialize)]
struct Stat {
    metric: Metric,
    period: u32,
    stat: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
}

#[derive(Serialize)]
struct Metric {
    namespace: String,
    name: String,
    dimensions: BTreeMap<String, String>,
}

fn detail<'a>(change: &StateChange<'a>) -> Detail<'a> {
    Detail {
        alarm_name: &change.definition.name,
        state: state(change.new, change.suppression),
        previous_state: state(change.old, None),
        configuration: configuration(change.definition, &change.arn()),
    }
}

fn state<'a>(then: StateThen<'a>, suppression: Option<Suppression<'a>>) -> State<'a> {
    State {
        value: then.state.name(),
        reason: then.reason,
        reason_data: then.reason_data,
        timestamp: date(then.at),
        actions_suppressed_by: suppression.map(|suppression| suppression.by.name()),
        actions_suppressed_reason: suppression.map(|suppression| suppression.reason),
    }
}

fn configuration<'a>(definition: &'a Definition, arn: &str) -> Configuration<'a> {
    let (metrics, composite) = match &definition.kind {
        Kind::Metric(metric) => (Some(metrics(metric, arn)), None),
        Kind::Observed(observed) => (counterpart(observed).map(|metric| metrics(&metric, arn)), None),
        Kind::Composite(composite) => (None, Some(composite)),
    };
    let suppressor = composite.and_then(|composite| composite.suppressor.as_ref());
    Configuration {
        description: definition.description.as_deref(),
        metrics,
        alarm_rule: composite.map(|composite| composite.rule.as_str()),
        actions_suppressor: suppressor.map(Suppressor::alarm),
        actions_suppressor_wait_period: suppressor.map(Suppressor::wait_period_s),
        actions_suppressor_extension_period: suppressor.map(Suppressor::extension_period_s),
    }
}

fn metrics(alarm: &MetricAlarm, arn: &str) -> Vec<Query> {
    match &alarm.watched {
        Watched::Metric(one) => {
            let id = uuid_of(&format!("{arn} metric"));
            vec![Query { id, metric_stat: Some(stat(one)), expression: None, label: None, return_data: true }]
        }
        Watched::Math(queries) => queries.iter().map(query).collect(),
    }
}

fn query(query: &MetricDataQuery) -> Query {
    let (metric_stat, expression) = match &query.source {
        Source::Stat(one) => (Some(stat(one)), None),
        Source::Expression(text) => (None, Some(text.clone())),
    };
    let (id, label) = (query.id.clone(), query.label.clone());
    Query { id, metric_stat, expression, label, return_data: query.return_data }
}

fn stat(of: &MetricStat) -> Stat {
    let dimensions = of.metric.dimensions.iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    Stat {
        metric: Metric {
            namespace: of.metric.namespace.as_str().to_owned(),
            name: of.metric.metric_name.to_string(),
            dimensions: dimensions.collect(),
        },
        period: of.period_s,
        stat: of.statistic.to_string(),
        unit: of.unit.map(|unit| unit.name()),
    }
}
