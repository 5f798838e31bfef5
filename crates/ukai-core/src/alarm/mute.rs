//! Alarm mute rules (`PutAlarmMuteRule`): windows of time in which the actions of named alarms do not run.
//!
//! A muted alarm goes on being evaluated and changes state; the actions of all its states are muted. `cron` and
//! `schedule` say when the windows are, `note` remembers what was muted and what is to run when they end.
//!
//! Our choices, where CloudWatch documents nothing:
//! - A rule without `MuteTargets` mutes nothing.
//! - `StartDate` and `ExpireDate` cut through a window: outside of them nothing is muted.
//! - Windows of one rule that overlap or touch are one window.
//! - Days and weeks of a `Duration` are 24 and 168 hours, also over a change of the clocks: a window never mutes for
//!   longer than it says. Years and months are refused, since they have no fixed length.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

pub mod cron;
pub mod note;
pub mod schedule;

#[cfg(test)]
mod tests;

pub use cron::CronError;
pub use note::{MutedChange, MutedNote, Noted, Released};
pub use schedule::{MuteWindow, Schedule, ScheduleError};

/// `Name` and each of `AlarmNames`: 1 to 255 characters (API model).
pub const MAX_NAME_CHARS: usize = 255;
/// `Description` (API model).
pub const MAX_DESCRIPTION_CHARS: usize = 1024;
/// `AlarmNames` of one rule (API model).
pub const MAX_ALARM_NAMES: usize = 100;

/// The request of `PutAlarmMuteRule`, as the API has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PutAlarmMuteRule {
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub rule: Rule,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mute_targets: Option<MuteTargets>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_date: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_date: Option<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Rule {
    pub schedule: ScheduleText,
}

/// `Schedule` as written: `cron(m h dom mon dow)` or `at(yyyy-MM-ddThh:mm)`, an ISO 8601 duration, an IANA time zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ScheduleText {
    pub expression: String,
    pub duration: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MuteTargets {
    pub alarm_names: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MuteRuleError {
    #[error("{field} has {length} characters; it must have 1 to {MAX_NAME_CHARS}")]
    NameLength { field: &'static str, length: usize },
    #[error("{0} contains a control character")]
    ControlCharacter(&'static str),
    #[error("Description has {0} characters; at most {MAX_DESCRIPTION_CHARS} are allowed")]
    DescriptionTooLong(usize),
    #[error("MuteTargets.AlarmNames has {0} names; at most {MAX_ALARM_NAMES} are allowed; split the rule")]
    TooManyAlarms(usize),
    #[error("ExpireDate ({expire}) must be later than StartDate ({start})")]
    ExpiresBeforeStart { start: Timestamp, expire: Timestamp },
    #[error("Rule.Schedule: {0}")]
    Schedule(#[from] ScheduleError),
}

/// `AlarmMuteRuleStatus` of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MuteRuleStatus {
    Scheduled,
    Active,
    Expired,
}

/// A rule that has been checked; it is stored as its request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PutAlarmMuteRule", into = "PutAlarmMuteRule")]
pub struct MuteRule {
    request: PutAlarmMuteRule,
    schedule: Schedule,
}

impl MuteRule {
    pub fn new(request: PutAlarmMuteRule) -> Result<MuteRule, MuteRuleError> {
        check_name("Name", &request.name)?;
        let described = request.description.as_deref().unwrap_or("").chars().count();
        if described > MAX_DESCRIPTION_CHARS {
            return Err(MuteRuleError::DescriptionTooLong(described));
        }
        let names = request.mute_targets.as_ref().map_or(&[][..], |targets| &targets.alarm_names);
        if names.len() > MAX_ALARM_NAMES {
            return Err(MuteRuleError::TooManyAlarms(names.len()));
        }
        names.iter().try_for_each(|name| check_name("MuteTargets.AlarmNames", name))?;
        if let (Some(start), Some(expire)) = (request.start_date, request.expire_date)
            && expire <= start
        {
            return Err(MuteRuleError::ExpiresBeforeStart { start, expire });
        }
        let schedule = Schedule::new(&request.rule.schedule)?;
        Ok(MuteRule { request, schedule })
    }

    pub fn name(&self) -> &str {
        &self.request.name
    }

    pub fn request(&self) -> &PutAlarmMuteRule {
        &self.request
    }

    /// Whether the rule is for this alarm; names are exact.
    pub fn targets(&self, alarm_name: &str) -> bool {
        self.request.mute_targets.iter().flat_map(|targets| &targets.alarm_names).any(|name| name == alarm_name)
    }

    /// The window that `now` is in: its start belongs to it, its end does not.
    pub fn is_muting(&self, now: Timestamp) -> Option<MuteWindow> {
        if !self.is_in_force(now) {
            return None;
        }
        let window = self.schedule.covering(now)?;
        let start = self.request.start_date.map_or(window.start, |date| date.max(window.start));
        let end = self.request.expire_date.map_or(window.end, |date| date.min(window.end));
        Some(MuteWindow { start, end })
    }

    /// When to look again: the end of this window, or the start of the next. None: never again.
    /// The end of a very long chain of joined windows may come early; looking again then goes on from there.
    pub fn next_change(&self, now: Timestamp) -> Option<Timestamp> {
        if let Some(window) = self.is_muting(now) {
            return Some(window.end);
        }
        let from = self.request.start_date.map_or(now, |date| date.max(now));
        let begins_at_once = from > now && self.schedule.covering(from).is_some();
        let next = if begins_at_once { Some(from) } else { self.schedule.next_start(from) };
        next.filter(|start| self.request.expire_date.is_none_or(|date| *start < date))
    }

    pub fn status(&self, now: Timestamp) -> MuteRuleStatus {
        if self.is_muting(now).is_some() {
            MuteRuleStatus::Active
        } else if self.next_change(now).is_some() {
            MuteRuleStatus::Scheduled
        } else {
            MuteRuleStatus::Expired
        }
    }

    fn is_in_force(&self, now: Timestamp) -> bool {
        self.request.start_date.is_none_or(|date| now >= date) && self.request.expire_date.is_none_or(|date| now < date)
    }
}

fn check_name(field: &'static str, name: &str) -> Result<(), MuteRuleError> {
    let length = name.chars().count();
    if length == 0 || length > MAX_NAME_CHARS {
        return Err(MuteRuleError::NameLength { field, length });
    }
    if name.chars().any(|c| c.is_ascii_control()) {
        return Err(MuteRuleError::ControlCharacter(field));
    }
    Ok(())
}

impl TryFrom<PutAlarmMuteRule> for MuteRule {
    type Error = MuteRuleError;

    fn try_from(request: PutAlarmMuteRule) -> Result<MuteRule, MuteRuleError> {
        MuteRule::new(request)
    }
}

impl From<MuteRule> for PutAlarmMuteRule {
    fn from(rule: MuteRule) -> PutAlarmMuteRule {
        rule.request
    }
}
