//! The API's JSON of an alarm, as `PutMetricAlarm` and `PutCompositeAlarm` take it and `DescribeAlarms` shows it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    ACTION_LENGTH_MAX, ACTIONS_MAX, Actions, ComparisonOperator, CompositeAlarm, DESCRIPTION_MAX, Definition,
    DefinitionError, EvaluationWindow, Kind, LONG_SPAN_MAX_S, LowSamples, MetricAlarm, MetricDataQuery, MetricStat,
    NAME_MAX, ObservedAlarm, QUERIES_MAX, SPAN_MAX_S, Source, Threshold, TreatMissingData, Watched,
};
use crate::alarm::composite::AlarmExpression;
use crate::alarm::evaluate::validated;
use crate::alarm::suppress::Suppressor;
use crate::metric::identity::MetricId;
use crate::metric::statistic::Statistic;
use crate::metric::{Dimensions, Namespace};

/// Members that are not known are left alone: `DescribeAlarms` shows state beside the definition.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Wire {
    pub alarm_name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarm_description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions_enabled: Option<bool>,
    #[serde(rename = "OKActions")]
    pub ok_actions: Vec<String>,
    pub alarm_actions: Vec<String>,
    pub insufficient_data_actions: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statistic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extended_statistic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<Vec<WireDimension>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation_periods: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datapoints_to_alarm: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison_operator: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub treat_missing_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluate_low_sample_count_percentile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Vec<WireQuery>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold_metric_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation_window: Option<EvaluationWindow>,
    /// PromQL and log alarms; known so that they can be refused by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evaluation_criteria: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarm_rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions_suppressor: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions_suppressor_wait_period: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions_suppressor_extension_period: Option<i64>,
    /// ukai's own kind of alarm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<ObservedAlarm>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct WireDimension {
    pub name: String,
    pub value: String,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WireQuery {
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric_stat: Option<WireStat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub return_data: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WireStat {
    pub metric: WireMetric,
    pub period: i64,
    pub stat: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WireMetric {
    pub namespace: String,
    pub metric_name: String,
    pub dimensions: Vec<WireDimension>,
}

impl TryFrom<Wire> for Definition {
    type Error = DefinitionError;

    fn try_from(wire: Wire) -> Result<Definition, DefinitionError> {
        check_name(&wire.alarm_name)?;
        if wire.alarm_description.as_ref().is_some_and(|text| text.chars().count() > DESCRIPTION_MAX) {
            return Err(DefinitionError::new("AlarmDescription", "it has at most 1024 characters"));
        }
        let actions = Actions {
            ok: actions("OKActions", &wire.ok_actions)?,
            alarm: actions("AlarmActions", &wire.alarm_actions)?,
            insufficient_data: actions("InsufficientDataActions", &wire.insufficient_data_actions)?,
        };
        let kind = kind(&wire)?;
        Ok(Definition {
            name: wire.alarm_name,
            description: wire.alarm_description,
            actions_enabled: wire.actions_enabled.unwrap_or(true),
            actions,
            kind,
        })
    }
}

fn kind(wire: &Wire) -> Result<Kind, DefinitionError> {
    if wire.evaluation_criteria.is_some() {
        let why = "PromQL and log alarms are not evaluated by ukai; it judges metric alarms and composite alarms";
        return Err(DefinitionError::new("EvaluationCriteria", why));
    }
    if let Some(observed) = &wire.observed {
        return Ok(Kind::Observed(observed.clone()));
    }
    match &wire.alarm_rule {
        Some(rule) => composite(wire, rule).map(Kind::Composite),
        None => metric(wire).map(Kind::Metric),
    }
}

fn composite(wire: &Wire, rule: &str) -> Result<CompositeAlarm, DefinitionError> {
    AlarmExpression::parse(rule).map_err(|error| DefinitionError::new("AlarmRule", error.to_string()))?;
    let suppressor = Suppressor::new(
        wire.actions_suppressor.as_deref(),
        wire.actions_suppressor_wait_period,
        wire.actions_suppressor_extension_period,
    )
    .map_err(|error| DefinitionError::new("ActionsSuppressor", error.to_string()))?;
    Ok(CompositeAlarm { rule: rule.to_owned(), suppressor })
}

fn metric(wire: &Wire) -> Result<MetricAlarm, DefinitionError> {
    let watched = match (&wire.metrics, &wire.metric_name) {
        (Some(_), Some(_)) => {
            return Err(DefinitionError::new("Metrics", "give either Metrics or MetricName, not both"));
        }
        (Some(queries), None) => Watched::Math(math(queries)?),
        (None, Some(name)) => Watched::Metric(single(wire, name)?),
        (None, None) => {
            return Err(DefinitionError::new("MetricName", "it is missing, and so are Metrics and AlarmRule"));
        }
    };
    let written = required("ComparisonOperator", wire.comparison_operator.as_ref())?;
    let comparison_operator: ComparisonOperator = enumerated("ComparisonOperator", written)?;
    let n = required("EvaluationPeriods", wire.evaluation_periods.as_ref())?;
    let evaluation_periods = at_least_one("EvaluationPeriods", *n)?;
    let datapoints_to_alarm = wire.datapoints_to_alarm.map(|m| at_least_one("DatapointsToAlarm", m)).transpose()?;
    if datapoints_to_alarm.is_some_and(|m| m > evaluation_periods) {
        return Err(DefinitionError::new("DatapointsToAlarm", "it must not be greater than EvaluationPeriods"));
    }
    let alarm = MetricAlarm {
        threshold: threshold(wire, comparison_operator, &watched)?,
        watched,
        evaluation_periods,
        datapoints_to_alarm,
        comparison_operator,
        treat_missing_data: optional("TreatMissingData", wire.treat_missing_data.as_ref())?,
        low_samples: optional::<LowSamples>(
            "EvaluateLowSampleCountPercentile",
            wire.evaluate_low_sample_count_percentile.as_ref().filter(|text| !text.is_empty()),
        )?,
        window: wire.evaluation_window.clone().unwrap_or_default(),
    };
    check_span(&alarm)?;
    check_window(&alarm)?;
    Ok(alarm)
}

fn single(wire: &Wire, name: &str) -> Result<MetricStat, DefinitionError> {
    let namespace = required("Namespace", wire.namespace.as_ref())?;
    let statistic = match (&wire.statistic, &wire.extended_statistic) {
        (Some(plain), None) => {
            let statistic: Statistic = parsed("Statistic", plain)?;
            if !is_plain(&statistic) {
                let why = format!("{plain} belongs into ExtendedStatistic");
                return Err(DefinitionError::new("Statistic", why));
            }
            statistic
        }
        (None, Some(extended)) => parsed("ExtendedStatistic", extended)?,
        _ => return Err(DefinitionError::new("Statistic", "give either Statistic or ExtendedStatistic")),
    };
    let period = required("Period", wire.period.as_ref())?;
    Ok(MetricStat {
        metric: metric_id(namespace, name, wire.dimensions.as_deref().unwrap_or_default())?,
        statistic,
        period_s: period_s(*period)?,
        unit: wire.unit.as_ref().map(|unit| parsed("Unit", unit)).transpose()?,
    })
}

fn math(queries: &[WireQuery]) -> Result<Vec<MetricDataQuery>, DefinitionError> {
    let read: Vec<MetricDataQuery> = queries.iter().map(query).collect::<Result<_, _>>()?;
    let stats: Vec<&MetricStat> = read
        .iter()
        .filter_map(|query| match &query.source {
            Source::Stat(stat) => Some(stat),
            Source::Expression(_) => None,
        })
        .collect();
    if stats.is_empty() || stats.len() > QUERIES_MAX {
        return Err(DefinitionError::new("Metrics", format!("an alarm uses 1 to {QUERIES_MAX} metrics")));
    }
    if stats.windows(2).any(|pair| pair[0].period_s != pair[1].period_s) {
        return Err(DefinitionError::new("Metrics", "every metric must have the same Period"));
    }
    validated(&read).map_err(|error| DefinitionError::new("Metrics", error.to_string()))?;
    Ok(read)
}

fn query(wire: &WireQuery) -> Result<MetricDataQuery, DefinitionError> {
    let named = |why: &str| DefinitionError::new(format!("Metrics {:?}", wire.id), why);
    let first = wire.id.chars().next();
    if !first.is_some_and(|c| c.is_ascii_lowercase())
        || wire.id.len() > NAME_MAX
        || !wire.id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    {
        return Err(named("an Id starts with a lower-case letter, and holds letters, digits and underscores"));
    }
    if wire.account_id.is_some() {
        return Err(named("metrics of another account (AccountId) are not here; leave it out"));
    }
    let source = match (&wire.metric_stat, &wire.expression) {
        (Some(stat), None) => Source::Stat(MetricStat {
            metric: metric_id(&stat.metric.namespace, &stat.metric.metric_name, &stat.metric.dimensions)?,
            statistic: parsed("Stat", &stat.stat)?,
            period_s: period_s(stat.period)?,
            unit: stat.unit.as_ref().map(|unit| parsed("Unit", unit)).transpose()?,
        }),
        (None, Some(expression)) => Source::Expression(expression.clone()),
        _ => return Err(named("give either MetricStat or Expression")),
    };
    Ok(MetricDataQuery {
        id: wire.id.clone(),
        label: wire.label.clone(),
        source,
        return_data: wire.return_data.unwrap_or(true),
    })
}

/// Which query is judged: the one that returns data and is not the band.
fn threshold(wire: &Wire, operator: ComparisonOperator, watched: &Watched) -> Result<Threshold, DefinitionError> {
    let queries: &[MetricDataQuery] = match watched {
        Watched::Metric(_) => &[],
        Watched::Math(queries) => queries,
    };
    let threshold = match (wire.threshold, &wire.threshold_metric_id) {
        (Some(value), None) if value.is_finite() && !operator.needs_band() => Threshold::Value(value),
        (Some(_), None) if operator.needs_band() => {
            return Err(DefinitionError::new("ThresholdMetricId", "this ComparisonOperator compares with a band"));
        }
        (Some(_), None) => return Err(DefinitionError::new("Threshold", "it must be a finite number")),
        (None, Some(id)) if operator.needs_band() && queries.iter().any(|query| &query.id == id) => {
            Threshold::Band(id.clone())
        }
        (None, Some(_)) => {
            let why =
                "it must be the Id of an ANOMALY_DETECTION_BAND in Metrics, with an operator that compares with a band";
            return Err(DefinitionError::new("ThresholdMetricId", why));
        }
        _ => return Err(DefinitionError::new("Threshold", "give either Threshold or ThresholdMetricId")),
    };
    let is_band = |query: &&MetricDataQuery| matches!(&threshold, Threshold::Band(id) if *id == query.id);
    let returning = queries.iter().filter(|query| query.return_data && !is_band(query)).count();
    if matches!(watched, Watched::Math(_)) && returning != 1 {
        let why = format!("exactly one query has ReturnData true beside a band, not {returning}");
        return Err(DefinitionError::new("Metrics", why));
    }
    Ok(threshold)
}

fn check_span(alarm: &MetricAlarm) -> Result<(), DefinitionError> {
    let period_s = u64::from(alarm.period_s());
    let most = if period_s >= 3600 { LONG_SPAN_MAX_S } else { SPAN_MAX_S };
    if period_s * u64::from(alarm.evaluation_periods) > most {
        let why = format!("Period × EvaluationPeriods must not be greater than {most} s");
        return Err(DefinitionError::new("EvaluationPeriods", why));
    }
    Ok(())
}

fn check_window(alarm: &MetricAlarm) -> Result<(), DefinitionError> {
    let EvaluationWindow::WallClock { timezone } = &alarm.window else { return Ok(()) };
    if !matches!(alarm.period_s(), 60 | 300 | 3600 | 86_400 | 604_800) {
        let why = "a WallClockWindow needs a Period of 60, 300, 3600, 86400 or 604800 s";
        return Err(DefinitionError::new("EvaluationWindow", why));
    }
    crate::alarm::window::zone(timezone.as_deref()).map(drop)
}

fn check_name(name: &str) -> Result<(), DefinitionError> {
    let why = match name.chars().count() {
        0 => "it is missing",
        1..=NAME_MAX if name.chars().any(|c| c.is_ascii_control()) => "it must not hold control characters",
        1..=NAME_MAX => return Ok(()),
        _ => "it has at most 255 characters",
    };
    Err(DefinitionError::new("AlarmName", why))
}

fn actions(field: &str, written: &[String]) -> Result<Vec<String>, DefinitionError> {
    if written.len() > ACTIONS_MAX {
        return Err(DefinitionError::new(field, "at most 5 actions for a state"));
    }
    if written.iter().any(|action| action.is_empty() || action.len() > ACTION_LENGTH_MAX) {
        return Err(DefinitionError::new(field, "an action has 1 to 1024 characters"));
    }
    Ok(written.to_vec())
}

fn metric_id(namespace: &str, name: &str, dimensions: &[WireDimension]) -> Result<MetricId, DefinitionError> {
    let of = |error: crate::metric::DatumError| DefinitionError::new("Metric", error.to_string());
    let pairs = dimensions.iter().map(|dimension| (dimension.name.clone(), dimension.value.clone()));
    MetricId::new(&Namespace::new(namespace).map_err(of)?, name, Dimensions::new(pairs).map_err(of)?).map_err(of)
}

fn period_s(written: i64) -> Result<u32, DefinitionError> {
    let fine = matches!(written, 10 | 20 | 30) || (written >= 60 && written % 60 == 0);
    u32::try_from(written)
        .ok()
        .filter(|_| fine)
        .ok_or_else(|| DefinitionError::new("Period", format!("it is 10, 20, 30 or a multiple of 60 s, not {written}")))
}

fn is_plain(statistic: &Statistic) -> bool {
    matches!(
        statistic,
        Statistic::SampleCount | Statistic::Sum | Statistic::Average | Statistic::Minimum | Statistic::Maximum
    )
}

fn at_least_one(field: &str, written: i64) -> Result<u32, DefinitionError> {
    u32::try_from(written)
        .ok()
        .filter(|count| *count >= 1)
        .ok_or_else(|| DefinitionError::new(field, format!("it must be at least 1, not {written}")))
}

fn required<'a, T>(field: &str, value: Option<&'a T>) -> Result<&'a T, DefinitionError> {
    value.ok_or_else(|| DefinitionError::new(field, "it is missing"))
}

fn parsed<T: std::str::FromStr>(field: &str, text: &str) -> Result<T, DefinitionError>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error: T::Err| DefinitionError::new(field, error.to_string()))
}

fn enumerated<T: serde::de::DeserializeOwned>(field: &str, text: &str) -> Result<T, DefinitionError> {
    serde_json::from_value(Value::from(text)).map_err(|error| DefinitionError::new(field, error.to_string()))
}

fn optional<T: serde::de::DeserializeOwned>(field: &str, text: Option<&String>) -> Result<Option<T>, DefinitionError> {
    text.map(|text| enumerated(field, text)).transpose()
}

impl From<Definition> for Wire {
    fn from(definition: Definition) -> Wire {
        let mut wire = Wire {
            alarm_name: definition.name,
            alarm_description: definition.description,
            actions_enabled: Some(definition.actions_enabled),
            ok_actions: definition.actions.ok,
            alarm_actions: definition.actions.alarm,
            insufficient_data_actions: definition.actions.insufficient_data,
            ..Wire::default()
        };
        match definition.kind {
            Kind::Metric(metric) => write_metric(&mut wire, metric),
            Kind::Composite(CompositeAlarm { rule, suppressor }) => {
                wire.alarm_rule = Some(rule);
                if let Some(suppressor) = suppressor {
                    wire.actions_suppressor = Some(suppressor.alarm().to_owned());
                    wire.actions_suppressor_wait_period = Some(i64::from(suppressor.wait_period_s()));
                    wire.actions_suppressor_extension_period = Some(i64::from(suppressor.extension_period_s()));
                }
            }
            Kind::Observed(observed) => wire.observed = Some(observed),
        }
        wire
    }
}

fn write_metric(wire: &mut Wire, alarm: MetricAlarm) {
    match alarm.watched {
        Watched::Metric(stat) => {
            let text = stat.statistic.to_string();
            if is_plain(&stat.statistic) {
                wire.statistic = Some(text);
            } else {
                wire.extended_statistic = Some(text);
            }
            wire.metric_name = Some(stat.metric.metric_name.to_string());
            wire.namespace = Some(stat.metric.namespace.as_str().to_owned());
            wire.dimensions = Some(dimensions(&stat.metric.dimensions));
            wire.period = Some(i64::from(stat.period_s));
            wire.unit = stat.unit.map(|unit| unit.name().to_owned());
        }
        Watched::Math(queries) => wire.metrics = Some(queries.into_iter().map(write_query).collect()),
    }
    match alarm.threshold {
        Threshold::Value(value) => wire.threshold = Some(value),
        Threshold::Band(id) => wire.threshold_metric_id = Some(id),
    }
    wire.evaluation_periods = Some(i64::from(alarm.evaluation_periods));
    wire.datapoints_to_alarm = alarm.datapoints_to_alarm.map(i64::from);
    wire.comparison_operator = Some(format!("{:?}", alarm.comparison_operator));
    wire.treat_missing_data = alarm.treat_missing_data.map(|treat: TreatMissingData| treat.name().to_owned());
    wire.evaluate_low_sample_count_percentile = alarm.low_samples.map(|low| {
        match low {
            LowSamples::Evaluate => "evaluate",
            LowSamples::Ignore => "ignore",
        }
        .to_owned()
    });
    wire.evaluation_window = Some(alarm.window).filter(|window| *window != EvaluationWindow::default());
}

fn write_query(query: MetricDataQuery) -> WireQuery {
    let mut wire =
        WireQuery { id: query.id, label: query.label, return_data: Some(query.return_data), ..WireQuery::default() };
    match query.source {
        Source::Expression(text) => wire.expression = Some(text),
        Source::Stat(stat) => {
            wire.metric_stat = Some(WireStat {
                metric: WireMetric {
                    namespace: stat.metric.namespace.as_str().to_owned(),
                    metric_name: stat.metric.metric_name.to_string(),
                    dimensions: dimensions(&stat.metric.dimensions),
                },
                period: i64::from(stat.period_s),
                stat: stat.statistic.to_string(),
                unit: stat.unit.map(|unit| unit.name().to_owned()),
            });
        }
    }
    wire
}

fn dimensions(of: &Dimensions) -> Vec<WireDimension> {
    of.iter().map(|(name, value)| WireDimension { name: name.to_owned(), value: value.to_owned() }).collect()
}
