//! How CloudWatch writes dates and numbers in what it says about alarms.
//!
//! It is a Java program: a number is what `Double.toString` gives, so that 21 is `21.0` and ten thousand million is
//! `1.0E10`. Three forms of a date stand side by side: in JSON with milliseconds and `+0000`, in a list of datapoints with
//! a two-digit year, and in sentences with the name of the day.

use jiff::Timestamp;

/// Java writes a number plainly from here …
const PLAIN_FROM: f64 = 1e-3;
/// … up to here, and with an exponent beyond.
const PLAIN_BELOW: f64 = 1e7;

/// `2026-01-01T00:03:00.000+0000`.
pub fn date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%3f+0000").to_string()
}

/// `2026-01-01T00:03:00Z`, as the envelope of an event has it.
pub fn date_of_event(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `01/01/26 00:03:00`.
pub fn date_of_datapoint(start_s: i64) -> String {
    Timestamp::from_second(start_s).unwrap_or(Timestamp::UNIX_EPOCH).strftime("%d/%m/%y %H:%M:%S").to_string()
}

/// `Thursday 01 January, 2026 00:03:00 UTC`.
pub fn date_of_sentence(at: Timestamp) -> String {
    at.strftime("%A %d %B, %Y %H:%M:%S UTC").to_string()
}

/// `21.0`, `0.1`, `1.0E10`.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || (PLAIN_FROM..PLAIN_BELOW).contains(&size) {
        return format!("{value:?}");
    }
    let scientific = format!("{value:E}");
    match scientific.split_once('E') {
        Some((digits, exponent)) if !digits.contains('.') => format!("{digits}.0E{exponent}"),
        _ => scientific,
    }
}

/// `[1.0, 2.5]`, without the brackets.
pub fn numbers(values: impl Iterator<Item = f64>) -> String {
    values.map(number).collect::<Vec<_>>().join(", ")
}

/// `1 datapoint`, `2 datapoints`.
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// `was` or `were`.
pub fn was(count: usize) -> &'static str {
    if count == 1 { "was" } else { "were" }
}

/// At most so many characters; what is cut off ends in `...`.
pub fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most.saturating_sub(3)).collect();
    short.push_str("...");
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_java_writes_them() {
        let pairs = [
            (21.0, "21.0"),
            (0.1, "0.1"),
            (0.0, "0.0"),
            (-1.5, "-1.5"),
            (1e10, "1.0E10"),
            (1.5e-5, "1.5E-5"),
            (9_999_999.0, "9999999.0"),
            (1e7, "1.0E7"),
            (0.001, "0.001"),
            (12_345_678.9, "1.23456789E7"),
            (99.501_602_296_934_34, "99.50160229693434"),
        ];
        for (value, wanted) in pairs {
            assert_eq!(number(value), wanted);
        }
    }

    #[test]
    fn the_forms_of_a_date() {
        let at: Timestamp = "2023-06-02T12:30:05.004Z".parse().unwrap();
        assert_eq!(date(at), "2023-06-02T12:30:05.004+0000");
        assert_eq!(date_of_event(at), "2023-06-02T12:30:05Z");
        assert_eq!(date_of_datapoint(at.as_second()), "02/06/23 12:30:05");
        assert_eq!(date_of_sentence(at), "Friday 02 June, 2023 12:30:05 UTC");
    }

    #[test]
    fn a_text_is_cut_at_a_character() {
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("äöüßäöüß", 5), "äö...");
    }
}
