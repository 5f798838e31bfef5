//! The samples of one period, and what can be known of them.
//!
//! Count, sum, minimum and maximum are always known. The *distribution* is what percentiles and the other extended
//! statistics need. It is exact up to [`EXACT_MAX`] distinct values; beyond that values fall into cells 2 % wide, so a
//! percentile is right to 1 %; beyond [`CELLS_MAX`] cells it is dropped and extended statistics do not exist. A statistic
//! set has a distribution only if all its samples must be equal, and a negative value ends it (User Guide, "CloudWatch
//! statistics definitions"). Grid and caps are our choice; CloudWatch does not say how it keeps them.
//!
//! The order of merging changes nothing: which of the three forms holds depends only on the set of values, and the sum is
//! kept in two doubles, so it is exact before its one rounding as long as its samples lie within about 2^50 of each other
//! (further apart it is right to 2^-100). Counts are added as they are, which is exact for whole counts below 2^53.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::datum::{DatumValue, StatisticSet};

/// Distinct values kept exactly: more than one datum can hold (150), and a minute of 10 per second; 16 kB at most.
pub const EXACT_MAX: usize = 1000;
/// Cells of the coarse grid: 1.02^1000 spans from a microsecond to six minutes.
pub const CELLS_MAX: usize = 1000;
/// Width of a cell. The middle of a cell is at most 1 % from any value in it.
const CELL_GROWTH: f64 = 1.02;
/// The cell of zero, below every other.
const ZERO_CELL: i32 = i32::MIN;

#[derive(Debug, Clone, PartialEq)]
pub struct Samples {
    count: f64,
    sum: Total,
    minimum: f64,
    maximum: f64,
    distribution: Distribution,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Distribution {
    /// Every sample is `minimum`.
    Same,
    /// Distinct values, ascending, with their counts.
    Exact(Vec<(f64, f64)>),
    /// Cells, ascending, with their counts.
    Grid(Vec<(i32, f64)>),
    Unknown,
}

/// A sum in two doubles: `high` is the sum rounded once, `low` is what rounding lost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Total {
    pub high: f64,
    pub low: f64,
}

impl Samples {
    /// One sample.
    pub fn one(value: f64) -> Samples {
        Samples::repeated(value, 1.0)
    }

    /// The samples of a datum. The datum's value must have been checked ([`DatumValue::checked`]).
    pub fn of(value: &DatumValue) -> Samples {
        match value {
            DatumValue::Single(value) => Samples::one(*value),
            DatumValue::Set(set) => Samples::of_set(set),
            DatumValue::Many(values) => Samples::of_many(values),
        }
    }

    pub fn merge(&mut self, other: &Samples) {
        if !self.absorbs(other) {
            self.distribution = joined(self, other);
        }
        self.count = saturated(self.count + other.count);
        self.sum.add(other.sum);
        self.minimum = self.minimum.min(other.minimum);
        self.maximum = self.maximum.max(other.maximum);
    }

    pub fn count(&self) -> f64 {
        self.count
    }

    pub fn sum(&self) -> f64 {
        self.sum.high
    }

    pub fn minimum(&self) -> f64 {
        self.minimum
    }

    pub fn maximum(&self) -> f64 {
        self.maximum
    }

    /// Distinct values, ascending, with their counts; none where CloudWatch has no extended statistics.
    pub fn distribution(&self) -> Option<Cow<'_, [(f64, f64)]>> {
        if self.minimum < 0.0 {
            return None;
        }
        match &self.distribution {
            Distribution::Same => Some(Cow::Owned(vec![(self.minimum, self.count)])),
            Distribution::Exact(values) => Some(Cow::Borrowed(values)),
            Distribution::Grid(cells) => {
                let value = |cell: i32| cell_value(cell).clamp(self.minimum, self.maximum);
                Some(Cow::Owned(cells.iter().map(|(cell, count)| (value(*cell), *count)).collect()))
            }
            Distribution::Unknown => None,
        }
    }

    /// One sample and nothing else: what a bucket can keep as a bare value.
    pub(crate) fn as_one(&self) -> Option<f64> {
        (self.count == 1.0 && self.distribution == Distribution::Same).then_some(self.minimum)
    }

    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        match &self.distribution {
            Distribution::Exact(values) => values.capacity() * size_of::<(f64, f64)>(),
            Distribution::Grid(cells) => cells.capacity() * size_of::<(i32, f64)>(),
            Distribution::Same | Distribution::Unknown => 0,
        }
    }

    pub(crate) fn parts(&self) -> (f64, Total, f64, f64, &Distribution) {
        (self.count, self.sum, self.minimum, self.maximum, &self.distribution)
    }

    /// From stored parts; none if they cannot be samples.
    pub(crate) fn from_parts(
        count: f64,
        sum: Total,
        minimum: f64,
        maximum: f64,
        distribution: Distribution,
    ) -> Option<Samples> {
        let finite = [count, sum.high, sum.low, minimum, maximum].iter().all(|number| number.is_finite());
        let ordered = match &distribution {
            Distribution::Same => minimum == maximum,
            Distribution::Exact(values) => {
                values.len() <= EXACT_MAX
                    && values.windows(2).all(|pair| pair[0].0 < pair[1].0)
                    && values.iter().all(|(value, count)| (minimum..=maximum).contains(value) && positive(*count))
            }
            Distribution::Grid(cells) => {
                cells.len() <= CELLS_MAX
                    && cells.windows(2).all(|pair| pair[0].0 < pair[1].0)
                    && cells.iter().all(|(_, count)| positive(*count))
            }
            Distribution::Unknown => true,
        };
        let right = finite && ordered && count > 0.0 && minimum <= maximum;
        right.then_some(Samples { count, sum, minimum, maximum, distribution })
    }

    /// The common case without building the list anew: equal samples join a distribution that has room.
    fn absorbs(&mut self, other: &Samples) -> bool {
        if other.distribution != Distribution::Same || self.minimum < 0.0 || other.minimum < 0.0 {
            return false;
        }
        let (value, count) = (other.minimum, other.count);
        match &mut self.distribution {
            Distribution::Exact(values) => add_to(values, value, count, EXACT_MAX, |(held, _)| held.total_cmp(&value)),
            Distribution::Grid(cells) => {
                let cell = cell_of(value);
                add_to(cells, cell, count, CELLS_MAX, |(held, _)| held.cmp(&cell))
            }
            Distribution::Same | Distribution::Unknown => false,
        }
    }

    fn repeated(value: f64, count: f64) -> Samples {
        // -0.0 becomes 0.0, so that equal values are equal bits.
        let value = value + 0.0;
        let distribution = if value < 0.0 { Distribution::Unknown } else { Distribution::Same };
        // A lone negative sample still is "one value" to a bucket.
        let distribution = if count == 1.0 { Distribution::Same } else { distribution };
        Samples { count, sum: Total::product(value, count), minimum: value, maximum: value, distribution }
    }

    fn of_set(set: &StatisticSet) -> Samples {
        let (minimum, maximum) = (set.minimum + 0.0, set.maximum + 0.0);
        let all_equal = minimum == maximum && set.sum == minimum * set.sample_count;
        if all_equal {
            return Samples::repeated(minimum, set.sample_count);
        }
        let sum = Total { high: set.sum + 0.0, low: 0.0 };
        Samples { count: set.sample_count, sum, minimum, maximum, distribution: Distribution::Unknown }
    }

    fn of_many(values: &[(f64, f64)]) -> Samples {
        let mut rest = values.iter().map(|(value, count)| Samples::repeated(*value, *count));
        let first = rest.next().unwrap_or_else(|| Samples::one(0.0));
        rest.fold(first, |mut all, more| {
            all.merge(&more);
            all
        })
    }
}

impl Total {
    /// `value` × `count` without the rounding of the product.
    fn product(value: f64, count: f64) -> Total {
        let high = saturated(value * count);
        let low = if count == 1.0 { 0.0 } else { value.mul_add(count, -high) };
        Total { high, low: if low.is_finite() { low } else { 0.0 } }
    }

    pub(crate) fn add(&mut self, other: Total) {
        let (high, lost) = two_sum(self.high, other.high);
        let (high, low) = two_sum(high, lost + self.low + other.low);
        *self = if high.is_finite() && low.is_finite() {
            Total { high, low }
        } else {
            Total { high: saturated(self.high + other.high), low: 0.0 }
        };
    }
}

/// The rounded sum and exactly what the rounding lost.
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_part = sum - a;
    (sum, (a - (sum - b_part)) + (b - b_part))
}

fn saturated(number: f64) -> f64 {
    number.clamp(-f64::MAX, f64::MAX)
}

fn positive(count: f64) -> bool {
    count.is_finite() && count > 0.0
}

fn joined(one: &Samples, other: &Samples) -> Distribution {
    use Distribution::{Exact, Grid, Same, Unknown};
    if one.minimum < 0.0 || other.minimum < 0.0 {
        return Unknown;
    }
    let (ones, others) = match (&one.distribution, &other.distribution) {
        (Unknown, _) | (_, Unknown) => return Unknown,
        (Same, Same) if one.minimum == other.minimum => return Same,
        (Grid(_), _) | (_, Grid(_)) => return coarse(&cells(one), &cells(other)),
        (Exact(ones), Exact(others)) => (Cow::Borrowed(ones.as_slice()), Cow::Borrowed(others.as_slice())),
        (Exact(ones), Same) => (Cow::Borrowed(ones.as_slice()), Cow::Owned(vec![(other.minimum, other.count)])),
        (Same, Exact(others)) => (Cow::Owned(vec![(one.minimum, one.count)]), Cow::Borrowed(others.as_slice())),
        (Same, Same) => (Cow::Owned(vec![(one.minimum, one.count)]), Cow::Owned(vec![(other.minimum, other.count)])),
    };
    let values = merged(&ones, &others, f64::total_cmp);
    if values.len() <= EXACT_MAX { Exact(values) } else { coarse(&cells_of(&values), &[]) }
}

fn coarse(one: &[(i32, f64)], other: &[(i32, f64)]) -> Distribution {
    let cells = merged(one, other, i32::cmp);
    if cells.len() <= CELLS_MAX { Distribution::Grid(cells) } else { Distribution::Unknown }
}

fn cells(samples: &Samples) -> Cow<'_, [(i32, f64)]> {
    match &samples.distribution {
        Distribution::Grid(cells) => Cow::Borrowed(cells),
        Distribution::Exact(values) => Cow::Owned(cells_of(values)),
        Distribution::Same => Cow::Owned(vec![(cell_of(samples.minimum), samples.count)]),
        Distribution::Unknown => Cow::Owned(Vec::new()),
    }
}

fn cells_of(values: &[(f64, f64)]) -> Vec<(i32, f64)> {
    let mut cells: Vec<(i32, f64)> = Vec::new();
    for (value, count) in values {
        let cell = cell_of(*value);
        match cells.last_mut() {
            Some((last, held)) if *last == cell => *held = saturated(*held + count),
            _ => cells.push((cell, *count)),
        }
    }
    cells
}

fn cell_of(value: f64) -> i32 {
    if value <= 0.0 { ZERO_CELL } else { (value.ln() / CELL_GROWTH.ln()).floor() as i32 }
}

fn cell_value(cell: i32) -> f64 {
    if cell == ZERO_CELL { 0.0 } else { CELL_GROWTH.powf(f64::from(cell) + 0.5) }
}

/// Whether the key could be counted in the ascending list without more than `most` entries.
fn add_to<K>(list: &mut Vec<(K, f64)>, key: K, count: f64, most: usize, order: impl Fn(&(K, f64)) -> Ordering) -> bool {
    match list.binary_search_by(order) {
        Ok(place) => list[place].1 = saturated(list[place].1 + count),
        Err(_) if list.len() >= most => return false,
        Err(place) => list.insert(place, (key, count)),
    }
    true
}

/// Two ascending lists as one, counts of equal keys added.
fn merged<K: Copy>(one: &[(K, f64)], other: &[(K, f64)], order: fn(&K, &K) -> Ordering) -> Vec<(K, f64)> {
    let mut all = Vec::with_capacity(one.len() + other.len());
    let (mut i, mut j) = (0, 0);
    while let (Some(a), Some(b)) = (one.get(i), other.get(j)) {
        match order(&a.0, &b.0) {
            Ordering::Less => (all.push(*a), i += 1).1,
            Ordering::Greater => (all.push(*b), j += 1).1,
            Ordering::Equal => (all.push((a.0, saturated(a.1 + b.1))), i += 1, j += 1).2,
        }
    }
    all.extend_from_slice(&one[i..]);
    all.extend_from_slice(&other[j..]);
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metric::Statistic;

    fn all_of(values: &[f64]) -> Samples {
        let mut all = Samples::one(values[0]);
        values[1..].iter().for_each(|value| all.merge(&Samples::one(*value)));
        all
    }

    #[test]
    fn counts_are_samples() {
        let one = Samples::of(&DatumValue::Many(vec![(0.1, 3.0), (7.0, 1.0)]));
        assert_eq!(one, all_of(&[7.0, 0.1, 0.1, 0.1]));
        assert_eq!((one.count(), one.sum()), (4.0, 7.3));
    }

    #[test]
    fn beyond_the_exact_values_a_percentile_is_right_to_one_per_cent() {
        let values: Vec<f64> = (1..=5000).map(f64::from).collect();
        let all = all_of(&values);
        assert!(matches!(all.distribution, Distribution::Grid(_)));
        for (statistic, exact) in [("p50", 2500.0), ("p99", 4950.0), ("p0.1", 5.0)] {
            let found = all.statistic(&statistic.parse().unwrap()).unwrap();
            assert!((found / exact - 1.0).abs() <= 0.0101, "{statistic}: {found}");
        }
        assert_eq!((all.count(), all.sum(), all.maximum()), (5000.0, 12_502_500.0, 5000.0));
    }

    #[test]
    fn beyond_the_grid_there_is_no_distribution() {
        let values: Vec<f64> = (0..2200).map(|n| 1.021f64.powi(n)).collect();
        assert_eq!(all_of(&values).distribution, Distribution::Unknown);
        assert_eq!(all_of(&values).statistic(&"p50".parse().unwrap()), None);
        assert!(all_of(&values).statistic(&Statistic::Average).is_some());
    }

    #[test]
    fn the_largest_values_stay_finite() {
        let most = 2f64.powi(360);
        let mut all = Samples::of(&DatumValue::Many(vec![(most, 1e300), (-most, 1e300)]));
        all.merge(&Samples::of(&DatumValue::Many(vec![(most, f64::MAX)])));
        for statistic in ["Sum", "Average", "SampleCount", "Minimum"] {
            assert!(all.statistic(&statistic.parse().unwrap()).unwrap().is_finite(), "{statistic}");
        }
    }

    const STATISTICS: [&str; 12] = [
        "SampleCount",
        "Sum",
        "Average",
        "Minimum",
        "Maximum",
        "p50",
        "p99.9",
        "TM(10%:90%)",
        "WM(5:50)",
        "PR(:30)",
        "TC(10%:)",
        "TS(1:)",
    ];

    proptest! {
        #[test]
        fn the_order_of_merging_changes_no_statistic(
            data in prop::collection::vec((-200i64..2_000_000, 1u32..5), 1..40),
            negative in any::<bool>(),
            turn in any::<prop::sample::Index>(),
        ) {
            let values: Vec<Samples> = data.iter().map(|(value, count)| {
                let value = if negative { *value } else { value.abs() } as f64 / 1000.0;
                Samples::repeated(value, f64::from(*count))
            }).collect();
            let join = |parts: &mut dyn Iterator<Item = &Samples>| {
                let mut all = parts.next().unwrap().clone();
                parts.for_each(|more| all.merge(more));
                all
            };
            let place = turn.index(values.len());
            let forward = join(&mut values.iter());
            let backward = join(&mut values.iter().rev());
            let mut halves = join(&mut values[place..].iter());
            if place > 0 {
                halves.merge(&join(&mut values[..place].iter()));
            }
            for statistic in STATISTICS {
                let statistic: Statistic = statistic.parse().unwrap();
                prop_assert_eq!(forward.statistic(&statistic), backward.statistic(&statistic), "{}", statistic);
                prop_assert_eq!(forward.statistic(&statistic), halves.statistic(&statistic), "{}", statistic);
            }
        }
    }
}
