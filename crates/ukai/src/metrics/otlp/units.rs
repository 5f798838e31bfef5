//! UCUM, as OpenTelemetry writes units, to CloudWatch's.

use ukai_core::metric::Unit;

/// None where CloudWatch has no such unit: a wrong one would hide the metric from its alarm.
pub fn unit(ucum: &str, is_sum: bool) -> Unit {
    let is_annotation = |text: &str| text.starts_with('{') && text.ends_with('}');
    match ucum {
        "s" => Unit::Seconds,
        "ms" => Unit::Milliseconds,
        "us" => Unit::Microseconds,
        "%" => Unit::Percent,
        // A ratio, or, of a sum, how many.
        "1" => {
            if is_sum {
                Unit::Count
            } else {
                Unit::None
            }
        }
        "By" => Unit::Bytes,
        "kBy" => Unit::Kilobytes,
        "MBy" => Unit::Megabytes,
        "GBy" => Unit::Gigabytes,
        "TBy" => Unit::Terabytes,
        "bit" => Unit::Bits,
        "kbit" => Unit::Kilobits,
        "Mbit" => Unit::Megabits,
        "Gbit" => Unit::Gigabits,
        "Tbit" => Unit::Terabits,
        "By/s" => Unit::BytesPerSecond,
        "kBy/s" => Unit::KilobytesPerSecond,
        "MBy/s" => Unit::MegabytesPerSecond,
        "GBy/s" => Unit::GigabytesPerSecond,
        "TBy/s" => Unit::TerabytesPerSecond,
        "bit/s" => Unit::BitsPerSecond,
        "kbit/s" => Unit::KilobitsPerSecond,
        "Mbit/s" => Unit::MegabitsPerSecond,
        "Gbit/s" => Unit::GigabitsPerSecond,
        "Tbit/s" => Unit::TerabitsPerSecond,
        text if is_annotation(text) => Unit::Count,
        text if text.strip_suffix("/s").is_some_and(is_annotation) => Unit::CountPerSecond,
        _ => Unit::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_have_is_translated() {
        for (ucum, expected) in [
            ("s", Unit::Seconds),
            ("By", Unit::Bytes),
            ("%", Unit::Percent),
            ("{request}", Unit::Count),
            ("{request}/s", Unit::CountPerSecond),
            ("1", Unit::None),
            ("", Unit::None),
            ("KiBy", Unit::None),
            ("Cel", Unit::None),
        ] {
            assert_eq!(unit(ucum, false), expected, "{ucum}");
        }
        assert_eq!(unit("1", true), Unit::Count);
    }
}
