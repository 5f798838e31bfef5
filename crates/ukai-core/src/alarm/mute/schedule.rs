//! When a mute rule's windows begin, in civil time of a zone, and how long they last.
//!
//! The zones are the ones linked in, so that a replay does not depend on the machine. Where the clocks change, by our
//! choice: a window that would begin at a time the clocks skip begins when they have skipped it; one that would begin
//! at a time that comes twice begins the first time only. The duration is always elapsed time.

use jiff::civil::DateTime;
use jiff::fmt::temporal::SpanParser;
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Span, Timestamp};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::ScheduleText;
use super::cron::{Cron, CronError, minute_after, minute_before};

/// `Expression`, `Duration` and `Timezone` (API model).
pub const MAX_EXPRESSION_CHARS: usize = 256;
pub const MAX_DURATION_CHARS: usize = 50;
pub const MAX_TIMEZONE_CHARS: usize = 50;
/// `PT1M` to `P15D` (CloudWatch).
pub const MIN_DURATION: SignedDuration = SignedDuration::from_mins(1);
pub const MAX_DURATION: SignedDuration = SignedDuration::from_hours(15 * 24);
/// Windows that are joined into one, in each direction: a daily rule is followed for a year, and a search stays short.
pub const MAX_JOINED_WINDOWS: usize = 366;
/// Starts passed over in a repeated stretch of civil time: one a minute, over a day (the date line moves).
const MAX_PASSED_OVER: usize = 24 * 60 + 1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    when: When,
    duration: SignedDuration,
    zone: TimeZone,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum When {
    Cron(Cron),
    At(DateTime),
}

/// A stretch of muting: from `start`, up to but not at `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MuteWindow {
    pub start: Timestamp,
    pub end: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ScheduleError {
    #[error("{field} has {length} characters; it must have 1 to {max}")]
    Length { field: &'static str, length: usize, max: usize },
    #[error("Expression `{0}` must be cron(minutes hours day-of-month month day-of-week) or at(yyyy-MM-ddThh:mm)")]
    Expression(String),
    #[error("Expression: {0}")]
    Cron(#[from] CronError),
    #[error("Expression: at({0}) is not a date and time; write at(yyyy-MM-ddThh:mm), such as at(2026-05-10T14:00)")]
    At(String),
    #[error(
        "Duration `{0}` is not an ISO 8601 duration in weeks, days, hours, minutes or seconds, such as PT4H or P2DT12H"
    )]
    Duration(String),
    #[error("Duration `{0}` is out of range; it must be PT1M (1 minute) to P15D (15 days)")]
    DurationRange(String),
    #[error("Timezone `{0}` is not known; write an IANA name such as Asia/Tokyo, or leave it out for UTC")]
    Timezone(String),
}

impl Schedule {
    pub fn new(text: &ScheduleText) -> Result<Schedule, ScheduleError> {
        check_length("Expression", &text.expression, MAX_EXPRESSION_CHARS)?;
        check_length("Duration", &text.duration, MAX_DURATION_CHARS)?;
        let zone = match &text.timezone {
            Some(name) => zone(name)?,
            None => TimeZone::UTC,
        };
        Ok(Schedule { when: when(&text.expression)?, duration: duration(&text.duration)?, zone })
    }

    /// The window `now` is in, joined with those that overlap or touch it.
    pub fn covering(&self, now: Timestamp) -> Option<MuteWindow> {
        let start = self.latest_start(now)?;
        let window = MuteWindow { start, end: self.end_of(start) };
        (now < window.end).then(|| MuteWindow { start: self.joined_start(window), end: self.joined_end(window) })
    }

    /// The first start after `now`.
    pub fn next_start(&self, now: Timestamp) -> Option<Timestamp> {
        let cron = match &self.when {
            When::At(at) => return self.instant(*at).filter(|start| *start > now),
            When::Cron(cron) => cron,
        };
        let mut from = self.zone.to_datetime(now);
        for _ in 0..MAX_PASSED_OVER {
            let at = cron.next(from)?;
            let start = self.instant(at)?;
            if start > now {
                return Some(start);
            }
            from = minute_after(at)?;
        }
        None
    }

    /// The last start at or before `now`.
    fn latest_start(&self, now: Timestamp) -> Option<Timestamp> {
        let cron = match &self.when {
            When::At(at) => return self.instant(*at).filter(|start| *start <= now),
            When::Cron(cron) => cron,
        };
        let mut from = self.latest_civil(now);
        for _ in 0..MAX_PASSED_OVER {
            let at = cron.previous(from)?;
            let start = self.instant(at)?;
            if start <= now {
                return Some(start);
            }
            from = minute_before(at)?;
        }
        None
    }

    /// The latest civil time that has been by `now`: where it comes twice, the whole stretch may have been.
    fn latest_civil(&self, now: Timestamp) -> DateTime {
        let civil = self.zone.to_datetime(now);
        match self.zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Fold { before, after } => civil.saturating_add(before.duration_since(after)),
            AmbiguousOffset::Gap { .. } | AmbiguousOffset::Unambiguous { .. } => civil,
        }
    }

    fn instant(&self, civil: DateTime) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(civil).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(civil).ok(),
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(civil).ok(),
            // Read with the later offset, a skipped time lies before the change.
            AmbiguousOffset::Gap { after, .. } => {
                let before_change = after.to_timestamp(civil).ok()?;
                self.zone.following(before_change).next().map(|change| change.timestamp())
            }
        }
    }

    fn end_of(&self, start: Timestamp) -> Timestamp {
        start.checked_add(self.duration).unwrap_or(Timestamp::MAX)
    }

    fn joined_start(&self, window: MuteWindow) -> Timestamp {
        let mut start = window.start;
        for _ in 0..MAX_JOINED_WINDOWS {
            // All windows are equally long, so the earliest one that reaches `start` began at most that long before.
            let reach = self.duration + SignedDuration::from_nanos(1);
            let earliest = start.checked_sub(reach).ok().and_then(|from| self.next_start(from));
            match earliest.filter(|earliest| *earliest < start) {
                Some(earliest) => start = earliest,
                None => break,
            }
        }
        start
    }

    fn joined_end(&self, window: MuteWindow) -> Timestamp {
        let mut end = window.end;
        for _ in 0..MAX_JOINED_WINDOWS {
            let last = self.latest_start(end).map(|start| self.end_of(start));
            match last.filter(|last| *last > end) {
                Some(last) => end = last,
                None => break,
            }
        }
        end
    }
}

fn check_length(field: &'static str, text: &str, max: usize) -> Result<(), ScheduleError> {
    let length = text.chars().count();
    if length == 0 || length > max { Err(ScheduleError::Length { field, length, max }) } else { Ok(()) }
}

fn zone(name: &str) -> Result<TimeZone, ScheduleError> {
    check_length("Timezone", name, MAX_TIMEZONE_CHARS)?;
    TimeZoneDatabase::bundled().get(name).map_err(|_| ScheduleError::Timezone(name.to_owned()))
}

fn when(expression: &str) -> Result<When, ScheduleError> {
    let inside = |prefix: &str| expression.strip_prefix(prefix)?.strip_suffix(')');
    if let Some(fields) = inside("cron(") {
        return Ok(When::Cron(Cron::parse(fields)?));
    }
    let text = inside("at(").ok_or_else(|| ScheduleError::Expression(expression.to_owned()))?;
    // The length keeps out what strptime would also take, such as single digits.
    let at = DateTime::strptime("%Y-%m-%dT%H:%M", text).ok().filter(|_| text.len() == "yyyy-MM-ddThh:mm".len());
    at.map(When::At).ok_or_else(|| ScheduleError::At(text.to_owned()))
}

fn duration(text: &str) -> Result<SignedDuration, ScheduleError> {
    let not_understood = || ScheduleError::Duration(text.to_owned());
    if !text.starts_with('P') {
        return Err(not_understood());
    }
    let span = SpanParser::new().parse_span(text).map_err(|_| not_understood())?;
    let duration = elapsed(&span).ok_or_else(not_understood)?;
    let fits = (MIN_DURATION..=MAX_DURATION).contains(&duration);
    if fits { Ok(duration) } else { Err(ScheduleError::DurationRange(text.to_owned())) }
}

/// Whole seconds; None with years, months or fractions.
fn elapsed(span: &Span) -> Option<SignedDuration> {
    let fractions = span.get_milliseconds() != 0 || span.get_microseconds() != 0 || span.get_nanoseconds() != 0;
    if span.get_years() != 0 || span.get_months() != 0 || fractions {
        return None;
    }
    let days = i64::from(span.get_weeks()) * 7 + i64::from(span.get_days());
    let hours = days * 24 + i64::from(span.get_hours());
    Some(SignedDuration::from_secs(hours * 3600 + span.get_minutes() * 60 + span.get_seconds()))
}
