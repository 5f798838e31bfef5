//! STUB, replaced by the real one.
use serde_json::Value;
use super::AlarmState;
use super::definition::MetricAlarm;
use super::evaluate::Evaluation;
pub fn reason(_: &MetricAlarm, _: AlarmState, _: &Evaluation, to: AlarmState) -> String { to.name().to_owned() }
pub fn reason_data(_: &MetricAlarm, _: AlarmState, _: &Evaluation, _: AlarmState) -> Value { Value::Null }
