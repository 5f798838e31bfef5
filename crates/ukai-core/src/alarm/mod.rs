//! Alarms as CloudWatch has them, and the burst alarm that is our own.
//!
//! A *metric alarm* judges M out of N periods, with CloudWatch's treatment of missing data. The
//! *burst alarm* is judged at each observation: a first failure is confirmed by a short burst of
//! probes before it counts, so that detection is fast while steady probing stays cheap.

use serde::{Deserialize, Serialize};

pub mod burst;
pub mod composite;
pub mod evaluate;
pub mod missing_data;
pub mod mute;
pub mod rule;
pub mod suppress;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AlarmState {
    Ok,
    Alarm,
    #[default]
    InsufficientData,
}

impl AlarmState {
    pub fn name(self) -> &'static str {
        match self {
            AlarmState::Ok => "OK",
            AlarmState::Alarm => "ALARM",
            AlarmState::InsufficientData => "INSUFFICIENT_DATA",
        }
    }
}
