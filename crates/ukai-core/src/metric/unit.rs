//! Units of a datum. They are never converted: samples of different units are separate streams.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::datum::DatumError;

macro_rules! units {
    ($($variant:ident = $name:literal),+ $(,)?) => {
        /// `StandardUnit` of the CloudWatch API.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Unit {
            $(#[serde(rename = $name)] $variant,)+
            #[default]
            None,
        }

        impl Unit {
            pub const ALL: &'static [Unit] = &[$(Unit::$variant,)+ Unit::None];

            pub fn name(self) -> &'static str {
                match self {
                    $(Unit::$variant => $name,)+
                    Unit::None => "None",
                }
            }
        }
    };
}

units! {
    Seconds = "Seconds",
    Microseconds = "Microseconds",
    Milliseconds = "Milliseconds",
    Bytes = "Bytes",
    Kilobytes = "Kilobytes",
    Megabytes = "Megabytes",
    Gigabytes = "Gigabytes",
    Terabytes = "Terabytes",
    Bits = "Bits",
    Kilobits = "Kilobits",
    Megabits = "Megabits",
    Gigabits = "Gigabits",
    Terabits = "Terabits",
    Percent = "Percent",
    Count = "Count",
    BytesPerSecond = "Bytes/Second",
    KilobytesPerSecond = "Kilobytes/Second",
    MegabytesPerSecond = "Megabytes/Second",
    GigabytesPerSecond = "Gigabytes/Second",
    TerabytesPerSecond = "Terabytes/Second",
    BitsPerSecond = "Bits/Second",
    KilobitsPerSecond = "Kilobits/Second",
    MegabitsPerSecond = "Megabits/Second",
    GigabitsPerSecond = "Gigabits/Second",
    TerabitsPerSecond = "Terabits/Second",
    CountPerSecond = "Count/Second",
}

impl fmt::Display for Unit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl FromStr for Unit {
    type Err = DatumError;

    fn from_str(text: &str) -> Result<Unit, DatumError> {
        Unit::ALL
            .iter()
            .copied()
            .find(|unit| unit.name() == text)
            .ok_or_else(|| DatumError::Unit { written: super::identity::shown(text) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_is_read_as_it_is_written() {
        assert_eq!(Unit::ALL.len(), 27);
        for unit in Unit::ALL {
            assert_eq!(unit.name().parse::<Unit>().unwrap(), *unit);
            assert_eq!(serde_json::to_value(unit).unwrap(), unit.name());
        }
        assert!("seconds".parse::<Unit>().is_err());
    }
}
