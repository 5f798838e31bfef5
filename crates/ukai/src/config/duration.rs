//! Durations as people write them: `500ms`, `10s`, `5m`, `4h`, `2d`.

use std::time::Duration;

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// One whole number and one unit, nothing else: `1.5h` and `1h30m` are refused with what to write.
pub fn parse(text: &str) -> Result<Duration, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let (Ok(number), Some(factor)) = (number.parse::<u64>(), factor) else {
        return Err(format!(
            "{text:?} is not a duration; write a whole number and a unit: \"500ms\", \"10s\", \"5m\", \"4h\", \"2d\""
        ));
    };
    number
        .checked_mul(factor)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is longer than can be counted"))
}

/// The shortest text that [`parse`] reads back as the same duration, in whole milliseconds.
pub fn show(duration: Duration) -> String {
    let ms = duration.as_millis();
    let (unit, factor) =
        UNITS.iter().rev().find(|(_, factor)| ms != 0 && ms.is_multiple_of(u128::from(*factor))).unwrap_or(&UNITS[1]);
    format!("{}{unit}", ms / u128::from(*factor))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_unit_is_read() {
        for (text, ms) in
            [("500ms", 500), ("10s", 10_000), ("5m", 300_000), ("4h", 14_400_000), ("2d", 172_800_000), ("0s", 0)]
        {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_what_to_write() {
        for text in ["", "10", "s", "1.5h", "1h30m", "-1s", "10 s", "10S", "10sec", "99999999999999999999s"] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("10").unwrap_err().contains("\"10s\""));
        assert!(parse("18446744073709551615d").is_err());
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(ms in 0u64..1_000_000_000) {
            let duration = Duration::from_millis(ms);
            prop_assert_eq!(parse(&show(duration)), Ok(duration));
        }
    }
}
