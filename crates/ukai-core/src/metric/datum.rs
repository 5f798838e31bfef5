//! One datum: what `PutMetricData` takes, parsed once into what can be right (API model, `MetricDatum`).

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::identity::{Dimensions, MetricId, Namespace};
use super::unit::Unit;

/// Distinct values of one datum.
pub const VALUES_MAX: usize = 150;
/// Data of one request.
pub const DATA_MAX: usize = 1000;
/// Bytes of one request.
pub const REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// A time stamp may be so far in the past, …
pub const PAST_MAX: SignedDuration = SignedDuration::from_hours(14 * 24);
/// … or in the future.
pub const FUTURE_MAX: SignedDuration = SignedDuration::from_hours(2);
/// Values lie within −2^360 and 2^360.
const MAGNITUDE_MAX: f64 = 2.348_542_582_773_833_3e108;

/// One or more samples of one metric at one time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Datum {
    pub metric: MetricId,
    pub at: Timestamp,
    pub value: DatumValue,
    pub unit: Unit,
    /// Kept by the second (`StorageResolution` 1) rather than by the minute (60).
    pub high_resolution: bool,
}

/// One of the three forms. Only [`DatumValue::checked`] values go into a store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum DatumValue {
    Single(f64),
    Set(StatisticSet),
    /// Each value with how often it was seen.
    Many(Vec<(f64, f64)>),
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct StatisticSet {
    pub sample_count: f64,
    pub sum: f64,
    pub minimum: f64,
    pub maximum: f64,
}

/// Why a datum is refused. The texts are CloudWatch's where it was seen to say them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatumError {
    #[error("{what} {written:?} is invalid: {why}")]
    Invalid { what: String, why: String, written: String },
    #[error("a metric has at most 30 dimensions")]
    TooManyDimensions,
    #[error("the dimension {name:?} is given twice")]
    DuplicateDimension { name: String },
    #[error(
        "{written:?} is not a unit of CloudWatch (such as Seconds, Milliseconds, Count, Percent, Bytes/Second, None)"
    )]
    Unit { written: String },
    #[error("the value {written} is invalid: it must be a number from -2^360 to 2^360, not NaN and not infinite")]
    Value { written: String },
    #[error("the statistic set is invalid: {why}")]
    StatisticSet { why: String },
    #[error("the counts are invalid: each must be a positive number")]
    Counts,
    #[error("a datum has 1 to 150 distinct values, not {found}")]
    ValueCount { found: usize },
    #[error("the time stamp {at} is invalid: it must lie from two weeks in the past to two hours in the future")]
    Time { at: Timestamp },
    #[error("StorageResolution must be 1 or 60, not {written}")]
    StorageResolution { written: i64 },
}

impl Datum {
    /// A datum of one value, by the second.
    pub fn single(
        namespace: &Namespace,
        metric_name: &str,
        dimensions: Dimensions,
        at: Timestamp,
        value: f64,
        unit: Unit,
    ) -> Result<Datum, DatumError> {
        let metric = MetricId::new(namespace, metric_name, dimensions)?;
        let value = DatumValue::Single(value).checked()?;
        Ok(Datum { metric, at, value, unit, high_resolution: true })
    }

    /// Whether its time may be put at this moment.
    pub fn check_time(&self, now: Timestamp) -> Result<(), DatumError> {
        check_time(self.at, now)
    }
}

/// Whether a datum of this time may be put at this moment.
pub fn check_time(at: Timestamp, now: Timestamp) -> Result<(), DatumError> {
    let age = now.duration_since(at);
    if age > PAST_MAX || age < -FUTURE_MAX { Err(DatumError::Time { at }) } else { Ok(()) }
}

impl DatumValue {
    pub fn checked(self) -> Result<DatumValue, DatumError> {
        self.check()?;
        Ok(self)
    }

    pub fn check(&self) -> Result<(), DatumError> {
        match self {
            DatumValue::Single(value) => check_value(*value)?,
            DatumValue::Set(set) => set.check()?,
            DatumValue::Many(values) => {
                if values.is_empty() || values.len() > VALUES_MAX {
                    return Err(DatumError::ValueCount { found: values.len() });
                }
                for (value, count) in values {
                    check_value(*value)?;
                    if !(count.is_finite() && *count > 0.0) {
                        return Err(DatumError::Counts);
                    }
                }
            }
        }
        Ok(())
    }
}

impl StatisticSet {
    fn check(&self) -> Result<(), DatumError> {
        let bad = |why: &str| Err(DatumError::StatisticSet { why: why.to_owned() });
        for value in [self.sum, self.minimum, self.maximum] {
            check_value(value)?;
        }
        if !(self.sample_count.is_finite() && self.sample_count > 0.0) {
            return bad("SampleCount must be a positive number");
        }
        if self.minimum > self.maximum {
            return bad("Minimum must not be greater than Maximum");
        }
        Ok(())
    }
}

fn check_value(value: f64) -> Result<(), DatumError> {
    if value.is_finite() && value.abs() <= MAGNITUDE_MAX {
        return Ok(());
    }
    Err(DatumError::Value { written: value.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_number_is_refused() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 2f64.powi(361), -(2f64.powi(361))] {
            assert!(DatumValue::Single(value).checked().is_err(), "{value}");
        }
        for value in [0.0, -1.5, 2f64.powi(360), -(2f64.powi(360))] {
            assert!(DatumValue::Single(value).checked().is_ok(), "{value}");
        }
    }

    #[test]
    fn two_weeks_back_and_two_hours_ahead() {
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let datum = |seconds: i64| {
            let at = Timestamp::from_second(1_800_000_000 + seconds).unwrap();
            let namespace = Namespace::new("N").unwrap();
            Datum::single(&namespace, "m", Dimensions::default(), at, 1.0, Unit::None).unwrap()
        };
        for (seconds, fine) in [(0, true), (7200, true), (7201, false), (-1_209_600, true), (-1_209_601, false)] {
            assert_eq!(datum(seconds).check_time(now).is_ok(), fine, "{seconds}");
        }
    }

    #[test]
    fn sets_and_counts_must_make_sense() {
        let set = |sample_count, sum, minimum, maximum| {
            DatumValue::Set(StatisticSet { sample_count, sum, minimum, maximum }).checked().is_ok()
        };
        assert!(set(2.0, 3.0, 1.0, 2.0));
        assert!(!set(0.0, 0.0, 0.0, 0.0) && !set(1.0, 1.0, 2.0, 1.0) && !set(1.0, f64::NAN, 1.0, 1.0));
        let many = |values: Vec<(f64, f64)>| DatumValue::Many(values).checked().is_ok();
        assert!(many(vec![(1.0, 2.0)]) && !many(vec![]) && !many(vec![(1.0, 0.0)]) && !many(vec![(1.0, f64::NAN)]));
        assert!(many(vec![(1.0, 1.0); 150]) && !many(vec![(1.0, 1.0); 151]));
    }
}
