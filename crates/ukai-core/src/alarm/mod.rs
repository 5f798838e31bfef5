//! Alarms as CloudWatch has them, and the observed alarms that are our own.
//!
//! A *metric alarm* judges M out of N periods, with CloudWatch's treatment of missing data. A *composite alarm* combines
//! the states of others. An *observed alarm* is judged at each observation: a first failure is confirmed by a short burst
//! of probes before it counts, so that detection is fast while steady probing stays cheap.
//!
//! ```text
//! definition    what an alarm is; read and written as the API's JSON
//! window        which periods it looks at
//! evaluate      their values, judged
//! missing_data  M out of N with gaps
//! composite     the rule language of composite alarms
//! suppress      when a composite's actions wait
//! mute          when actions are muted, by the calendar
//! reason        what a change of state says of itself
//! defaults      the alarms that a peer gets without asking
//! payload       the message and the events of a change of state
//! history       what DescribeAlarmHistory shows
//! exchange      alarms from and for CloudWatch
//! burst         a first failure, confirmed
//! ```

use serde::{Deserialize, Serialize};

pub mod burst;
pub mod composite;
pub mod counterpart;
pub mod defaults;
pub mod definition;
pub mod evaluate;
pub mod exchange;
pub mod history;
pub mod missing_data;
pub mod mute;
pub mod payload;
pub mod reason;
pub mod region;
pub mod suppress;
pub mod text;
pub mod window;

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
