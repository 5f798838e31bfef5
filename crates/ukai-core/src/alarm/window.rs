//! Which periods an alarm looks at.
//!
//! A *sliding* window ends at the last whole minute, or at the last whole ten seconds where the period is shorter than a
//! minute, and goes back period by period: a five-minute alarm judges minutes 1 to 5, a minute later 2 to 6. A *wall
//! clock* window has the complete hours, days or weeks of a time zone. CloudWatch does not say with which day a week
//! starts; here it is Monday, as ISO 8601 has it.

use std::str::FromStr;

use jiff::civil::Weekday;
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};

use super::definition::{DefinitionError, EvaluationWindow, MetricAlarm};

/// Alarms with shorter periods are evaluated every ten seconds, others every minute (CloudWatch User Guide,
/// "Alarm evaluation").
pub const SLOW_PERIOD_S: u32 = 60;
pub const FAST_EVERY_S: i64 = 10;
pub const SLOW_EVERY_S: i64 = 60;

/// How often an alarm of this period is evaluated.
pub fn every_s(period_s: u32) -> i64 {
    if period_s < SLOW_PERIOD_S { FAST_EVERY_S } else { SLOW_EVERY_S }
}

/// The end of the newest period of a sliding window.
pub fn sliding_end_s(period_s: u32, now: Timestamp) -> i64 {
    let every_s = every_s(period_s);
    now.as_second().div_euclid(every_s) * every_s
}

/// Starts of the periods of the evaluation range, and the end of the last: oldest first.
pub fn boundaries(alarm: &MetricAlarm, now: Timestamp) -> Vec<i64> {
    let (period_s, periods) = (alarm.period_s(), alarm.evaluation_range());
    match &alarm.window {
        EvaluationWindow::Sliding {} => {
            let end_s = sliding_end_s(period_s, now);
            (0..=periods).rev().map(|back| end_s - back as i64 * i64::from(period_s)).collect()
        }
        EvaluationWindow::WallClock { timezone } => {
            // A definition's zone has been looked up before; without a time zone database it is UTC.
            let zone = zone(timezone.as_deref()).unwrap_or(TimeZone::UTC);
            wall_clock(period_s, periods, &now.to_zoned(zone))
        }
    }
}

/// An IANA name, `UTC`, or an offset of whole five minutes such as `+05:30` or `UTC+05:30`.
pub fn zone(written: Option<&str>) -> Result<TimeZone, DefinitionError> {
    let Some(written) = written.filter(|text| !text.is_empty()) else { return Ok(TimeZone::UTC) };
    let unknown = || {
        let shown: String = written.chars().take(64).collect();
        let why = format!("{shown:?} is not an IANA time zone nor an offset of whole five minutes such as +05:30");
        DefinitionError::new("Timezone", why)
    };
    let bare = written.strip_prefix("UTC").filter(|rest| !rest.is_empty()).unwrap_or(written);
    match bare.as_bytes().first() {
        Some(b'+' | b'-') => offset(bare).ok_or_else(unknown),
        // The linked data, not the machine's: a replay elsewhere must see the same hours.
        _ => TimeZoneDatabase::bundled().get(written).map_err(|_| unknown()),
    }
}

fn offset(written: &str) -> Option<TimeZone> {
    let sign = if written.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = written[1..].split_once(':')?;
    if hours.len() != 2 || minutes.len() != 2 {
        return None;
    }
    let (hours, minutes) = (i32::from_str(hours).ok()?, i32::from_str(minutes).ok()?);
    if !(0..=18).contains(&hours) || !(0..60).contains(&minutes) || minutes % 5 != 0 {
        return None;
    }
    Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok().map(TimeZone::fixed)
}

fn wall_clock(period_s: u32, periods: usize, now: &Zoned) -> Vec<i64> {
    let mut starts = match period_s {
        86_400 | 604_800 => calendar(period_s, periods, now),
        _ => even(period_s, periods, now),
    };
    starts.reverse();
    starts
}

/// Days and weeks are as long as the calendar has them. Newest first.
fn calendar(period_s: u32, periods: usize, now: &Zoned) -> Vec<i64> {
    let today = now.date();
    let (mut date, step) = match period_s {
        86_400 => (today, 1.day()),
        _ => {
            let since_monday = i64::from(today.weekday().since(Weekday::Monday));
            (today.checked_sub(since_monday.days()).unwrap_or(today), 1.week())
        }
    };
    let mut starts = Vec::with_capacity(periods + 1);
    for _ in 0..=periods {
        match now.time_zone().to_zoned(date.at(0, 0, 0, 0)) {
            Ok(start) => starts.push(start.timestamp().as_second()),
            Err(_) => break,
        }
        date = date.checked_sub(step).unwrap_or(date);
    }
    starts
}

/// Minutes and hours are even in UTC; only where they start follows the offset. Newest first.
fn even(period_s: u32, periods: usize, now: &Zoned) -> Vec<i64> {
    let period_s = i64::from(period_s);
    let offset_s = i64::from(now.offset().seconds());
    let newest = (now.timestamp().as_second() + offset_s).div_euclid(period_s) * period_s - offset_s;
    (0..=periods).map(|back| newest - back as i64 * period_s).collect()
}

/// When an alarm of this period is next due after `now`: a little after its window moved on.
pub fn next_due(period_s: u32, now: Timestamp, delay: SignedDuration) -> Timestamp {
    let every_s = every_s(period_s);
    let moved = (now.as_second().div_euclid(every_s) + 1) * every_s;
    let moved = Timestamp::from_second(moved).unwrap_or(Timestamp::MAX);
    moved.checked_add(delay).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_sliding_window_moves_by_minutes_or_by_ten_seconds() {
        let now = at("2026-01-01T00:07:29Z");
        assert_eq!(sliding_end_s(300, now), at("2026-01-01T00:07:00Z").as_second());
        assert_eq!(sliding_end_s(30, now), at("2026-01-01T00:07:20Z").as_second());
    }

    #[test]
    fn offsets_and_names() {
        for fine in [None, Some("UTC"), Some("+05:30"), Some("UTC-03:00"), Some("-00:05"), Some("Asia/Tokyo")] {
            assert!(zone(fine).is_ok(), "{fine:?}");
        }
        for bad in ["+5:30", "+05:31", "Nowhere/Town", "+19:00", "+aa:bb", "+"] {
            assert!(zone(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn complete_days_of_a_time_zone() {
        let now = at("2026-01-08T16:00:00Z").to_zoned(zone(Some("+09:00")).unwrap());
        let days = wall_clock(86_400, 2, &now);
        assert_eq!(days.last().copied(), Some(at("2026-01-08T15:00:00Z").as_second()));
        let weeks = wall_clock(604_800, 1, &now);
        assert_eq!(weeks.last().copied(), Some(at("2026-01-04T15:00:00Z").as_second()), "Monday the 5th in Tokyo");
        let hours = wall_clock(3600, 1, &at("2026-01-08T16:10:00Z").to_zoned(zone(Some("+05:30")).unwrap()));
        assert_eq!(hours.last().copied(), Some(at("2026-01-08T15:30:00Z").as_second()));
    }

    #[test]
    fn a_day_of_summer_time_has_its_own_length() {
        let now = at("2026-03-30T12:00:00Z").to_zoned(zone(Some("Europe/Berlin")).unwrap());
        let days = wall_clock(86_400, 1, &now);
        assert_eq!(days[1] - days[0], 23 * 3600);
    }
}
