//! Anomaly bands. **CloudWatch's algorithm is not published; this is our own**, so an alarm on a band may judge otherwise
//! here than on AWS.
//!
//! The band is a centre ± k spreads. The centre is the median of the history, for each hour of the day (UTC) where two
//! weeks are known. The spread is 1.4826 × the median distance from the centre (for normal noise that is the standard
//! deviation), at least [`SPREAD_FLOOR`] of the centre, so that a metric that hardly moves has a band. Where more than half
//! of the points are equal, the mean distance takes its place.
//!
//! The newest points, those an alarm is judging, are left out, and a median moves only when half of the history has moved:
//! a shift of level is outside the band for long, and does not teach it within one evaluation range. With fewer than
//! [`POINTS_MIN`] points there is no band.

/// Points without which there is no band: fewer do not show what is normal.
pub const POINTS_MIN: usize = 30;
/// The least spread, as a part of the centre: a hundredth of a latency is no anomaly.
pub const SPREAD_FLOOR: f64 = 0.01;
/// Seconds of history that are looked at: CloudWatch trains on two weeks too.
pub const HISTORY_MAX: i64 = 14 * DAY;
/// Days on which an hour must have been seen before it has a centre of its own.
const HOUR_DAYS_MIN: usize = 10;
/// The standard deviation of normal noise, from its median distance and from its mean distance.
const FROM_MEDIAN: f64 = 1.4826;
const FROM_MEAN: f64 = 1.2533;
const DAY: i64 = 86_400;
const HOUR: i64 = 3600;

#[derive(Debug, Clone, PartialEq)]
pub struct Band {
    centre: f64,
    /// Empty, or one for each hour of the day.
    hours: Vec<f64>,
    spread: f64,
}

/// Lower and upper bounds, one for each period, oldest first.
pub type Bounds = (Vec<Option<f64>>, Vec<Option<f64>>);

impl Band {
    /// From the datapoints of one statistic and one period, oldest first, of which the last period ends at `end_s`. The
    /// newest `left_out` are those that are to be judged.
    pub fn learn(history: &[Option<f64>], end_s: i64, period_s: i64, left_out: usize) -> Option<Band> {
        let period_s = period_s.max(1);
        let most = usize::try_from(HISTORY_MAX / period_s).unwrap_or(usize::MAX);
        let past = &history[..history.len().saturating_sub(left_out)];
        let past = &past[past.len().saturating_sub(most)..];
        let last = end_s.saturating_sub(period_s.saturating_mul(i64::try_from(left_out).ok()?));
        let start = last.saturating_sub(period_s.saturating_mul(i64::try_from(past.len()).ok()?));
        let at = |place: usize| start.saturating_add(period_s.saturating_mul(place as i64));
        let points: Vec<(i64, f64)> = past
            .iter()
            .enumerate()
            .filter_map(|(place, point)| point.filter(|value| value.is_finite()).map(|value| (at(place), value)))
            .collect();
        if points.len() < POINTS_MIN {
            return None;
        }
        let centre = median(points.iter().map(|(_, value)| *value).collect())?;
        let hours = hours(&points, period_s).unwrap_or_default();
        let band = Band { centre, hours, spread: 0.0 };
        let spread = spread(points.iter().map(|(at, value)| (value - band.centre_at(*at)).abs()).collect())?;
        Some(Band { spread, ..band })
    }

    /// Lower and upper bound at a time, `width` spreads from the centre.
    pub fn at(&self, at_s: i64, width: f64) -> (f64, f64) {
        let centre = self.centre_at(at_s);
        let reach = width * self.spread.max(SPREAD_FLOOR * centre.abs());
        (centre - reach, centre + reach)
    }

    /// The bounds of periods of which the last ends at `end_s`.
    pub fn bounds(&self, end_s: i64, period_s: i64, periods: usize, width: f64) -> Bounds {
        let finite = |bound: f64| bound.is_finite().then_some(bound);
        (0..periods)
            .rev()
            .map(|before| {
                let start = end_s.saturating_sub(period_s.saturating_mul(before as i64 + 1));
                let (lower, upper) = self.at(start, width);
                (finite(lower), finite(upper))
            })
            .unzip()
    }

    fn centre_at(&self, at_s: i64) -> f64 {
        self.hours.get(hour_of(at_s)).copied().unwrap_or(self.centre)
    }
}

/// A centre for each hour of the day, if each was seen on enough days.
fn hours(points: &[(i64, f64)], period_s: i64) -> Option<Vec<f64>> {
    if period_s > HOUR {
        return None;
    }
    let mut by_hour: Vec<Vec<(i64, f64)>> = vec![Vec::new(); 24];
    for (at, value) in points {
        by_hour[hour_of(*at)].push((at.div_euclid(DAY), *value));
    }
    let centre = |seen: Vec<(i64, f64)>| {
        // In order of time, so days are together.
        let days = seen.chunk_by(|a, b| a.0 == b.0).count();
        if days < HOUR_DAYS_MIN { None } else { median(seen.into_iter().map(|(_, value)| value).collect()) }
    };
    by_hour.into_iter().map(centre).collect()
}

fn hour_of(at_s: i64) -> usize {
    (at_s.rem_euclid(DAY) / HOUR) as usize
}

fn spread(distances: Vec<f64>) -> Option<f64> {
    let mean = distances.iter().sum::<f64>() / distances.len() as f64;
    let spread = match median(distances)? {
        0.0 => FROM_MEAN * mean,
        median => FROM_MEDIAN * median,
    };
    spread.is_finite().then_some(spread)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    let middle = values.len() / 2;
    let even = values.len().is_multiple_of(2);
    if values.is_empty() {
        return None;
    }
    let (below, upper, _) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let upper = *upper;
    let lower = if even { below.iter().copied().max_by(f64::total_cmp)? } else { upper };
    Some(lower / 2.0 + upper / 2.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Midnight.
    const END: i64 = 20_000 * DAY;

    /// 100 ± 3, without a pattern.
    fn noisy(count: usize) -> Vec<Option<f64>> {
        (0..count).map(|n| Some(100.0 + ((n * 7919 % 61) as f64 - 30.0) / 10.0)).collect()
    }

    #[test]
    fn too_little_is_no_band() {
        assert_eq!(Band::learn(&noisy(POINTS_MIN + 4), END, 60, 5), None);
        assert!(Band::learn(&noisy(POINTS_MIN + 5), END, 60, 5).is_some());
        assert_eq!(Band::learn(&[None; 5000], END, 60, 5), None);
        assert_eq!(Band::learn(&noisy(5), END, 60, 50), None);
    }

    #[test]
    fn the_band_holds_the_noise_and_not_the_outlier() {
        let mut history = noisy(500);
        // A few outliers, as an outage leaves them, do not widen it.
        history[100..120].fill(Some(5000.0));
        let (lower, upper) = Band::learn(&history, END, 60, 5).unwrap().at(END, 2.0);
        assert!((93.0..97.0).contains(&lower) && (103.0..107.0).contains(&upper), "{lower} {upper}");
    }

    #[test]
    fn a_shift_of_level_does_not_teach_within_an_evaluation_range() {
        let mut history = noisy(100);
        let before = Band::learn(&history, END, 60, 5).unwrap().at(END, 2.0);
        // A shift fills the evaluation range, and as much again.
        history.extend([Some(200.0); 10]);
        let after = Band::learn(&history, END + 600, 60, 5).unwrap().at(END, 2.0);
        assert!((before.1 - after.1).abs() < 1.0 && after.1 < 110.0, "{before:?} {after:?}");
    }

    #[test]
    fn what_hardly_moves_has_a_band() {
        assert_eq!(Band::learn(&[Some(50.0); 100], END, 60, 5).unwrap().at(END, 2.0), (49.0, 51.0));
        assert_eq!(Band::learn(&[Some(0.0); 100], END, 60, 5).unwrap().at(END, 2.0), (0.0, 0.0));
        let mut rare = vec![Some(1.0); 100];
        rare[50] = Some(0.0);
        let (lower, _) = Band::learn(&rare, END, 60, 5).unwrap().at(END, 3.0);
        assert!((0.9..0.98).contains(&lower), "{lower}");
    }

    #[test]
    fn after_two_weeks_each_hour_has_its_own_centre() {
        // Twice as slow from 08:00 to 18:00 UTC, every five minutes.
        let level = |place: i64| if (8..18).contains(&((place * 300).rem_euclid(DAY) / HOUR)) { 200.0 } else { 100.0 };
        let history = |days: i64| -> Vec<Option<f64>> { (0..days * 288).map(|place| Some(level(place))).collect() };
        let band = Band::learn(&history(14), END, 300, 3).unwrap();
        assert_eq!(band.at(END + 12 * HOUR, 2.0), (196.0, 204.0));
        assert_eq!(band.at(END + 3 * HOUR, 2.0), (98.0, 102.0));
        let band = Band::learn(&history(9), END, 300, 3).unwrap();
        assert_eq!(band.at(END + 12 * HOUR, 2.0), band.at(END + 3 * HOUR, 2.0), "nine days are too few");
        let (lower, upper) = Band::learn(&history(14), END, 300, 3).unwrap().bounds(END + 9 * HOUR, HOUR, 3, 2.0);
        assert_eq!(lower, [Some(98.0), Some(98.0), Some(196.0)]);
        assert_eq!(upper, [Some(102.0), Some(102.0), Some(204.0)]);
    }

    proptest! {
        #[test]
        fn no_history_panics(
            history in prop::collection::vec(prop::option::of(any::<f64>()), 0..80),
            end in any::<i64>(), period in any::<i64>(), left_out in 0usize..100, width in any::<f64>(),
        ) {
            if let Some(band) = Band::learn(&history, end, period, left_out) {
                band.bounds(end, period, 4, width);
            }
        }
    }
}
