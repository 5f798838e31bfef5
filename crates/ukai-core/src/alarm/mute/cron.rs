//! The five fields of `cron(minute hour day-of-month month day-of-week)`, over civil time.
//!
//! CloudWatch calls it standard cron syntax and names `*`, `-`, `,` and English names. So, as crontab(5) has it:
//! Sunday is 0 or 7; and when both day fields are restricted, that is, neither begins with `*`, a day that matches
//! either of them matches. Steps (`*/5`, `8-18/2`, `30/10`) are from there too; CloudWatch does not document them, so a
//! rule that is to move to AWS does better without. Names may be in any case; a range may end in SUN but not wrap.

use jiff::ToSpan;
use jiff::civil::{Date, DateTime};
use thiserror::Error;

/// How far a search goes. Between two 29ths of February there are at most 8 years (1896 to 1904, 2096 to 2104).
pub const MAX_SEARCH_DAYS: usize = 8 * 366 + 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    days_restricted: bool,
    weekdays_restricted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CronError {
    #[error("cron has {0} fields; it must have 5: minutes, hours, day of month, month, day of week")]
    FieldCount(usize),
    #[error("cron, {field}: `{text}` is not understood; write *, a value, a range such as 1-5, or a list of them")]
    NotUnderstood { field: &'static str, text: String },
    #[error("cron, {field}: `{text}` is out of range; it must be {min} to {max}")]
    OutOfRange { field: &'static str, text: String, min: u8, max: u8 },
    #[error("cron, {field}: the range `{text}` ends before it begins")]
    Backwards { field: &'static str, text: String },
    #[error("cron, {field}: the step of `{text}` must be 1 or more")]
    ZeroStep { field: &'static str, text: String },
    #[error("cron never comes: no month named has a day {0}")]
    Never(u8),
}

struct Field {
    name: &'static str,
    min: u8,
    max: u8,
    names: &'static [&'static str],
}

const MINUTES: Field = Field { name: "minutes", min: 0, max: 59, names: &[] };
const HOURS: Field = Field { name: "hours", min: 0, max: 23, names: &[] };
const DAYS: Field = Field { name: "day of month", min: 1, max: 31, names: &[] };
const MONTHS: Field = Field {
    name: "month",
    min: 1,
    max: 12,
    names: &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"],
};
const WEEKDAYS: Field =
    Field { name: "day of week", min: 0, max: 7, names: &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"] };
const SUNDAY: u8 = 0;
const SUNDAY_AGAIN: u8 = 7;

impl Cron {
    pub fn parse(text: &str) -> Result<Cron, CronError> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(CronError::FieldCount(fields.len()));
        };
        let mut on_weekdays = WEEKDAYS.parse(weekdays)?;
        if on_weekdays & bit(SUNDAY_AGAIN) != 0 {
            on_weekdays = on_weekdays & !bit(SUNDAY_AGAIN) | bit(SUNDAY);
        }
        let cron = Cron {
            minutes: MINUTES.parse(minutes)?,
            hours: HOURS.parse(hours)?,
            days: DAYS.parse(days)?,
            months: MONTHS.parse(months)?,
            weekdays: on_weekdays,
            days_restricted: !days.starts_with('*'),
            weekdays_restricted: !weekdays.starts_with('*'),
        };
        cron.check_it_comes()?;
        Ok(cron)
    }

    /// The first match at or after this minute.
    pub fn next(&self, from: DateTime) -> Option<DateTime> {
        let mut date = from.date();
        let (mut hour, mut minute) = (from.hour(), from.minute());
        for _ in 0..MAX_SEARCH_DAYS {
            if self.matches_day(date)
                && let Some((hour, minute)) = self.next_time(hour as u8, minute as u8)
            {
                return Some(date.at(hour as i8, minute as i8, 0, 0));
            }
            date = date.tomorrow().ok()?;
            (hour, minute) = (0, 0);
        }
        None
    }

    /// The last match at or before this minute.
    pub fn previous(&self, from: DateTime) -> Option<DateTime> {
        let mut date = from.date();
        let (mut hour, mut minute) = (from.hour(), from.minute());
        for _ in 0..MAX_SEARCH_DAYS {
            if self.matches_day(date)
                && let Some((hour, minute)) = self.previous_time(hour as u8, minute as u8)
            {
                return Some(date.at(hour as i8, minute as i8, 0, 0));
            }
            date = date.yesterday().ok()?;
            (hour, minute) = (23, 59);
        }
        None
    }

    fn next_time(&self, hour: u8, minute: u8) -> Option<(u8, u8)> {
        let first = first_at_least(self.hours, hour)?;
        if first > hour {
            return Some((first, first_at_least(self.minutes, 0)?));
        }
        match first_at_least(self.minutes, minute) {
            Some(minute) => Some((hour, minute)),
            None => Some((first_at_least(self.hours, hour + 1)?, first_at_least(self.minutes, 0)?)),
        }
    }

    fn previous_time(&self, hour: u8, minute: u8) -> Option<(u8, u8)> {
        let last = last_at_most(self.hours, hour)?;
        if last < hour {
            return Some((last, last_at_most(self.minutes, 59)?));
        }
        match last_at_most(self.minutes, minute) {
            Some(minute) => Some((hour, minute)),
            None => Some((last_at_most(self.hours, hour.checked_sub(1)?)?, last_at_most(self.minutes, 59)?)),
        }
    }

    fn matches_day(&self, date: Date) -> bool {
        let day = self.days & bit(date.day() as u8) != 0;
        let weekday = self.weekdays & bit(date.weekday().to_sunday_zero_offset() as u8) != 0;
        let on_day = if self.days_restricted && self.weekdays_restricted { day || weekday } else { day && weekday };
        on_day && self.months & bit(date.month() as u8) != 0
    }

    fn check_it_comes(&self) -> Result<(), CronError> {
        let earliest = first_at_least(self.days, 1).unwrap_or(1);
        let days_in = |month: u8| match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let comes = (1..=12).any(|month| self.months & bit(month) != 0 && earliest <= days_in(month));
        if comes || (self.days_restricted && self.weekdays_restricted) {
            Ok(())
        } else {
            Err(CronError::Never(earliest))
        }
    }
}

impl Field {
    fn parse(&self, text: &str) -> Result<u64, CronError> {
        text.split(',').try_fold(0, |mask, part| Ok(mask | self.part(part)?))
    }

    fn part(&self, text: &str) -> Result<u64, CronError> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(self.step(text, step)?)),
            None => (text, None),
        };
        let (low, high) = match range.split_once('-') {
            _ if range == "*" => (self.min, self.max),
            Some((low, high)) => (self.value(low)?, self.range_end(high)?),
            None => {
                let value = self.value(range)?;
                (value, if step.is_some() { self.max } else { value })
            }
        };
        if high < low {
            return Err(CronError::Backwards { field: self.name, text: text.to_owned() });
        }
        Ok((low..=high).step_by(usize::from(step.unwrap_or(1))).fold(0, |mask, value| mask | bit(value)))
    }

    fn value(&self, text: &str) -> Result<u8, CronError> {
        if let Some(place) = self.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
            return Ok(self.min + place as u8);
        }
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(CronError::NotUnderstood { field: self.name, text: text.to_owned() });
        }
        let value = text.parse::<u8>().ok().filter(|value| (self.min..=self.max).contains(value));
        value.ok_or_else(|| CronError::OutOfRange {
            field: self.name,
            text: text.to_owned(),
            min: self.min,
            max: self.max,
        })
    }

    /// `SAT-SUN`: at the end of a range Sunday is the seventh day.
    fn range_end(&self, text: &str) -> Result<u8, CronError> {
        let value = self.value(text)?;
        Ok(if self.max == SUNDAY_AGAIN && text.eq_ignore_ascii_case("SUN") { SUNDAY_AGAIN } else { value })
    }

    fn step(&self, part: &str, text: &str) -> Result<u8, CronError> {
        let not_understood = || CronError::NotUnderstood { field: self.name, text: part.to_owned() };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        match text.parse::<u8>().ok().filter(|_| digits) {
            Some(0) => Err(CronError::ZeroStep { field: self.name, text: part.to_owned() }),
            Some(step) => Ok(step),
            None => Err(not_understood()),
        }
    }
}

/// One minute on or back, for the search that goes on past a match.
pub(super) fn minute_after(at: DateTime) -> Option<DateTime> {
    at.checked_add(1.minute()).ok()
}

pub(super) fn minute_before(at: DateTime) -> Option<DateTime> {
    at.checked_sub(1.minute()).ok()
}

fn bit(value: u8) -> u64 {
    1 << value
}

fn first_at_least(mask: u64, value: u8) -> Option<u8> {
    let rest = mask & (u64::MAX << value);
    (rest != 0).then(|| rest.trailing_zeros() as u8)
}

fn last_at_most(mask: u64, value: u8) -> Option<u8> {
    let rest = mask & (u64::MAX >> (63 - value));
    (rest != 0).then(|| 63 - rest.leading_zeros() as u8)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    fn cron(text: &str) -> Cron {
        Cron::parse(text).expect(text)
    }

    /// The next matches from Thursday 1 January 2026, 00:00.
    fn next(text: &str, count: usize) -> Vec<String> {
        let mut from = date(2026, 1, 1).at(0, 0, 0, 0);
        let mut found = Vec::new();
        for _ in 0..count {
            let at = cron(text).next(from).expect(text);
            found.push(at.strftime("%a %d %b %Y %H:%M").to_string());
            from = minute_after(at).unwrap();
        }
        found
    }

    #[test]
    fn the_documented_examples() {
        assert_eq!(next("0 2 * * *", 2), ["Thu 01 Jan 2026 02:00", "Fri 02 Jan 2026 02:00"]);
        assert_eq!(next("0 2 * * SUN", 2), ["Sun 04 Jan 2026 02:00", "Sun 11 Jan 2026 02:00"]);
        assert_eq!(next("0 1 1 * *", 2), ["Thu 01 Jan 2026 01:00", "Sun 01 Feb 2026 01:00"]);
        assert_eq!(next("0 18 * * FRI", 1), ["Fri 02 Jan 2026 18:00"]);
    }

    #[test]
    fn lists_ranges_steps_and_names() {
        assert_eq!(
            next("5,10 8-9 * * *", 3),
            ["Thu 01 Jan 2026 08:05", "Thu 01 Jan 2026 08:10", "Thu 01 Jan 2026 09:05"]
        );
        assert_eq!(
            next("*/25 0 * * *", 3),
            ["Thu 01 Jan 2026 00:00", "Thu 01 Jan 2026 00:25", "Thu 01 Jan 2026 00:50"]
        );
        assert_eq!(next("50/5 0 * * *", 2), ["Thu 01 Jan 2026 00:50", "Thu 01 Jan 2026 00:55"]);
        assert_eq!(next("0 0 * feb,Dec mon-tue", 1), ["Mon 02 Feb 2026 00:00"]);
        assert_eq!(
            next("0 0 * * SAT-SUN", 3),
            ["Sat 03 Jan 2026 00:00", "Sun 04 Jan 2026 00:00", "Sat 10 Jan 2026 00:00"]
        );
        assert_eq!(cron("0 0 * * 7"), cron("0 0 * * 0"));
        assert_eq!(cron("0 0 * * 0-6"), cron("0 0 * * 1-7"));
    }

    #[test]
    fn two_restricted_day_fields_match_either() {
        assert_eq!(
            next("0 0 13 * FRI", 3),
            ["Fri 02 Jan 2026 00:00", "Fri 09 Jan 2026 00:00", "Tue 13 Jan 2026 00:00"]
        );
        assert_eq!(
            next("0 0 */13 * FRI", 2),
            ["Fri 27 Feb 2026 00:00", "Fri 27 Mar 2026 00:00"],
            "* leaves it to both"
        );
    }

    #[test]
    fn the_29th_of_february_is_found_over_a_century_without_a_leap_day() {
        let leap = cron("0 0 29 2 *");
        assert_eq!(leap.next(date(2096, 3, 1).at(0, 0, 0, 0)), Some(date(2104, 2, 29).at(0, 0, 0, 0)));
        assert_eq!(leap.previous(date(2104, 2, 28).at(0, 0, 0, 0)), Some(date(2096, 2, 29).at(0, 0, 0, 0)));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |text: &str| Cron::parse(text).expect_err(text).to_string();
        assert_eq!(Cron::parse("0 2 * *"), Err(CronError::FieldCount(4)));
        assert_eq!(Cron::parse("0 2 * * * *"), Err(CronError::FieldCount(6)));
        assert!(error("60 2 * * *").contains("minutes: `60` is out of range; it must be 0 to 59"));
        assert!(error("0 2 0 * *").contains("day of month: `0` is out of range; it must be 1 to 31"));
        assert!(error("0 2 * 999 *").contains("month: `999` is out of range"));
        assert!(error("0 2 * * FRI-MON").contains("day of week: the range `FRI-MON` ends before it begins"));
        assert!(error("*/0 2 * * *").contains("step"));
        for text in [
            "0 2 ? * *",
            "0 2 L * *",
            "0 2 * * MON#1",
            "0,,1 2 * * *",
            "-1 2 * * *",
            "*/ 2 * * *",
            "+1 2 * * *",
            "1-2-3 2 * * *",
        ] {
            assert!(error(text).contains("is not understood"), "{text}: {}", error(text));
        }
        assert_eq!(Cron::parse("0 0 31 4,6 *"), Err(CronError::Never(31)));
        assert_eq!(Cron::parse("0 0 30 FEB *"), Err(CronError::Never(30)));
        assert!(Cron::parse("0 0 30 FEB MON").is_ok(), "the Mondays come");
    }

    fn any_cron() -> impl Strategy<Value = Cron> {
        let days = prop::sample::select(vec!["*", "1", "*/9", "29", "5-7,31"]);
        let months = prop::sample::select(vec!["*", "2,3", "12", "*/5"]);
        let weekdays = prop::sample::select(vec!["*", "MON", "0-3/2", "SAT-SUN"]);
        let minutes = prop::sample::select(vec!["*", "0", "59", "*/7", "3,30"]);
        let hours = prop::sample::select(vec!["*", "0", "23", "2-5"]);
        (minutes, hours, days, months, weekdays)
            .prop_map(|(m, h, day, month, weekday)| cron(&format!("{m} {h} {day} {month} {weekday}")))
    }

    proptest! {
        #[test]
        fn next_and_previous_agree_with_looking_at_each_minute(cron in any_cron(), start in 0i32..60_000) {
            let from = date(2027, 12, 20).at(0, 0, 0, 0).checked_add(i64::from(start).minutes()).unwrap();
            let matches = |at: DateTime| {
                cron.matches_day(at.date()) && cron.hours & bit(at.hour() as u8) != 0 && cron.minutes & bit(at.minute() as u8) != 0
            };
            let mut at = from;
            for _ in 0..3_000 {
                if matches(at) { break; }
                at = minute_after(at).unwrap();
            }
            let found = cron.next(from).unwrap();
            prop_assert!(found >= at && matches(found));
            prop_assert!(!matches(at) || found == at);
            prop_assert_eq!(cron.previous(found), Some(found));
            if found > from {
                let before = cron.previous(minute_before(found).unwrap()).unwrap();
                prop_assert!(before < from && matches(before));
            }
        }

        #[test]
        fn no_text_panics(text in "[-*/,0-9A-Z ]{0,30}") {
            let _ = Cron::parse(&text);
        }
    }
}
