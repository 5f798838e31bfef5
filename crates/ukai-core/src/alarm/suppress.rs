//! Action suppression of a composite alarm: when its actions run, and what holds them back.
//!
//! ```text
//!              composite changes                  W is over
//!   Quiet ───────────────────────► WaitPeriod ───────────────► run, Quiet
//!     ▲                             │      ▲ composite changes: W anew
//!     │ E is over: run              │ suppressor → ALARM: W dropped
//!   ExtensionPeriod ◄───────────── Alarm  (a change here waits for the suppressor; no W)
//!         │    suppressor quiet     ▲
//!         │ composite changes: E dropped, W
//!         └── suppressor → ALARM ───┘
//! ```
//! Suppression only holds actions back: the composite goes on changing state. One thing is remembered, whether the
//! latest transition is still *pending*, that is, its actions have not run. When a period is over, the actions of the
//! state that the composite has then run, once, if a transition is pending. So actions run for the current state only,
//! at most once for a transition, and a resolution is held back but never lost.
//!
//! Our choices, where CloudWatch documents nothing:
//! - With nothing pending the end of the extension period runs nothing: those actions have run.
//! - A suppressor that does not exist, or has `INSUFFICIENT_DATA`, is not in `ALARM` and suppresses nothing.
//! - A period whose end nobody looked at in time is judged together with what came next, as if that had come first.
//! - Another suppressor drops a running period (CloudWatch); a pending transition then waits W for the new one. New
//!   periods for the same suppressor leave a running one as it is. Without a suppressor, what is pending runs at once.
//! - `suppressed_by` tells what would hold an action back now, also when none is pending.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::AlarmState;

/// The longest period; the API's integer. CloudWatch states no other limit.
pub const MAX_PERIOD_S: i64 = i32::MAX as i64;

/// What to do now.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Nothing,
    /// Run the actions of this state, which is the composite's present one.
    RunActions {
        state: AlarmState,
    },
}

/// `ActionsSuppressedBy` of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SuppressedBy {
    WaitPeriod,
    ExtensionPeriod,
    Alarm,
}

impl SuppressedBy {
    pub fn name(self) -> &'static str {
        match self {
            SuppressedBy::WaitPeriod => "WaitPeriod",
            SuppressedBy::ExtensionPeriod => "ExtensionPeriod",
            SuppressedBy::Alarm => "Alarm",
        }
    }
}

/// `ActionsSuppressor` with its periods: `ActionsSuppressorWaitPeriod`, `ActionsSuppressorExtensionPeriod`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppressor {
    alarm: String,
    wait_period_s: u32,
    extension_period_s: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SuppressorError {
    #[error("{0} is required with ActionsSuppressor; give it in seconds (60 is a good start)")]
    PeriodMissing(&'static str),
    #[error("{0} needs an ActionsSuppressor; name the alarm that suppresses, or leave the period out")]
    SuppressorMissing(&'static str),
    #[error("{name} is {value}; it must be 0 to {MAX_PERIOD_S} seconds")]
    PeriodOutOfRange { name: &'static str, value: i64 },
    #[error("ActionsSuppressor is empty; give the name or ARN of an alarm, or leave it out")]
    EmptySuppressor,
}

/// A composite alarm's suppression, with or without a suppressor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppression {
    state: AlarmState,
    /// The latest transition's actions have not run yet.
    pending: bool,
    suppressor: Option<Suppressor>,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    Quiet,
    Wait {
        until: Timestamp,
    },
    Extension {
        until: Timestamp,
    },
    /// The suppressor is in `ALARM`.
    Alarm,
}

const WAIT: &str = "ActionsSuppressorWaitPeriod";
const EXTENSION: &str = "ActionsSuppressorExtensionPeriod";

impl Suppressor {
    /// From the three parameters of `PutCompositeAlarm`; periods in seconds.
    pub fn new(
        alarm: Option<&str>,
        wait_period: Option<i64>,
        extension_period: Option<i64>,
    ) -> Result<Option<Suppressor>, SuppressorError> {
        match (alarm, wait_period, extension_period) {
            (None, None, None) => Ok(None),
            (None, Some(_), _) => Err(SuppressorError::SuppressorMissing(WAIT)),
            (None, None, Some(_)) => Err(SuppressorError::SuppressorMissing(EXTENSION)),
            (Some(""), _, _) => Err(SuppressorError::EmptySuppressor),
            (Some(alarm), wait, extension) => Ok(Some(Suppressor {
                alarm: alarm.to_owned(),
                wait_period_s: period(WAIT, wait)?,
                extension_period_s: period(EXTENSION, extension)?,
            })),
        }
    }

    /// The suppressor's name or ARN, as given.
    pub fn alarm(&self) -> &str {
        &self.alarm
    }

    pub fn wait_period_s(&self) -> u32 {
        self.wait_period_s
    }

    pub fn extension_period_s(&self) -> u32 {
        self.extension_period_s
    }
}

fn period(name: &'static str, value: Option<i64>) -> Result<u32, SuppressorError> {
    let value = value.ok_or(SuppressorError::PeriodMissing(name))?;
    let valid = u32::try_from(value).ok().filter(|seconds| i64::from(*seconds) <= MAX_PERIOD_S);
    valid.ok_or(SuppressorError::PeriodOutOfRange { name, value })
}

impl Suppression {
    /// Of a composite in `state`, whose actions for it have run or need not.
    /// `suppressor_state` is None when the suppressor does not exist.
    pub fn new(state: AlarmState, suppressor: Option<Suppressor>, suppressor_state: Option<AlarmState>) -> Suppression {
        let phase = if suppressor.is_some() && suppressor_state == Some(AlarmState::Alarm) {
            Phase::Alarm
        } else {
            Phase::Quiet
        };
        Suppression { state, pending: false, suppressor, phase }
    }

    /// The composite went to `to`. The state it has already is no transition.
    pub fn composite_changed(&mut self, to: AlarmState, at: Timestamp) -> Decision {
        if to == self.state {
            return self.advance(at);
        }
        self.state = to;
        self.pending = true;
        if self.phase != Phase::Alarm {
            self.phase = self.wait_from(at);
        }
        self.advance(at)
    }

    /// The suppressor has this state; None when it does not exist.
    pub fn suppressor_changed(&mut self, state: Option<AlarmState>, at: Timestamp) -> Decision {
        let in_alarm = self.suppressor.is_some() && state == Some(AlarmState::Alarm);
        match (in_alarm, self.phase) {
            (true, _) => self.phase = Phase::Alarm,
            (false, Phase::Alarm) => self.phase = self.extension_from(at),
            (false, Phase::Quiet | Phase::Wait { .. } | Phase::Extension { .. }) => {}
        }
        self.advance(at)
    }

    /// The composite's configuration was put again, with this suppressor or none.
    pub fn put_suppressor(
        &mut self,
        suppressor: Option<Suppressor>,
        suppressor_state: Option<AlarmState>,
        at: Timestamp,
    ) -> Decision {
        let alarm_of = |suppressor: &Option<Suppressor>| suppressor.as_ref().map(|one| one.alarm.clone());
        let is_another = alarm_of(&self.suppressor) != alarm_of(&suppressor);
        self.suppressor = suppressor;
        if is_another {
            self.phase = if self.pending { self.wait_from(at) } else { Phase::Quiet };
        }
        self.suppressor_changed(suppressor_state, at)
    }

    /// Time has come to `now`.
    pub fn advance(&mut self, now: Timestamp) -> Decision {
        match self.phase {
            Phase::Wait { until } | Phase::Extension { until } if now >= until => self.phase = Phase::Quiet,
            Phase::Quiet | Phase::Wait { .. } | Phase::Extension { .. } | Phase::Alarm => {}
        }
        if self.phase == Phase::Quiet && std::mem::take(&mut self.pending) {
            return Decision::RunActions { state: self.state };
        }
        Decision::Nothing
    }

    /// When `advance` is wanted next.
    pub fn next_due(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::Wait { until } | Phase::Extension { until } => Some(until),
            Phase::Quiet | Phase::Alarm => None,
        }
    }

    pub fn suppressed_by(&self) -> Option<SuppressedBy> {
        match self.phase {
            Phase::Quiet => None,
            Phase::Wait { .. } => Some(SuppressedBy::WaitPeriod),
            Phase::Extension { .. } => Some(SuppressedBy::ExtensionPeriod),
            Phase::Alarm => Some(SuppressedBy::Alarm),
        }
    }

    /// `ActionsSuppressedReason`. The wording for the wait period is recorded; the others follow it.
    pub fn suppressed_reason(&self) -> Option<&'static str> {
        self.suppressed_by().map(|by| match by {
            SuppressedBy::WaitPeriod => "Actions suppressed by WaitPeriod",
            SuppressedBy::ExtensionPeriod => "Actions suppressed by ExtensionPeriod",
            SuppressedBy::Alarm => "Actions suppressed by Alarm",
        })
    }

    /// Whether actions of the present state are held back.
    pub fn is_pending(&self) -> bool {
        self.pending
    }

    pub fn state(&self) -> AlarmState {
        self.state
    }

    pub fn suppressor(&self) -> Option<&Suppressor> {
        self.suppressor.as_ref()
    }

    fn wait_from(&self, at: Timestamp) -> Phase {
        match &self.suppressor {
            Some(suppressor) => Phase::Wait { until: later(at, suppressor.wait_period_s) },
            None => Phase::Quiet,
        }
    }

    fn extension_from(&self, at: Timestamp) -> Phase {
        match &self.suppressor {
            Some(suppressor) => Phase::Extension { until: later(at, suppressor.extension_period_s) },
            None => Phase::Quiet,
        }
    }
}

fn later(at: Timestamp, seconds: u32) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(i64::from(seconds))).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests;
