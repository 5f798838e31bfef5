//! Metrics as CloudWatch has them.
//!
//! A metric is a namespace, a name and the exact set of its dimensions; asking with fewer dimensions finds nothing. A
//! *datum* is one value, a statistic set, or values with counts, at one time, in one unit. What is put is kept as
//! *series* of samples, one for each unit, in seconds or in minutes, bounded in time and in bytes. A *statistic* turns the
//! samples of one period into a datapoint, and an expression combines datapoints of several metrics.

pub mod band;
pub mod datum;
pub mod identity;
pub mod math;
pub mod of_probe;
pub mod samples;
pub mod series;
pub mod statistic;
pub mod store;
pub mod unit;

pub use datum::{Datum, DatumError, DatumValue, StatisticSet};
pub use identity::{Dimensions, MetricId, Namespace};
pub use samples::Samples;
pub use series::{Datapoint, Resolution, Series};
pub use statistic::{Statistic, StatisticError};
pub use store::{Metrics, PutError};
pub use unit::Unit;
