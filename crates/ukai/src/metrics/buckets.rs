//! Histograms of other systems as values with counts, so that percentiles can be asked of them.
//!
//! Our choice: what lies in a bucket is taken to lie in its middle, or, in the last bucket, which has no end, at its
//! beginning; a known minimum and maximum narrow the first and the last. The error of a percentile is then half a bucket
//! at most, and the sum is near, not exact. A statistic set would have the exact sum and no percentiles at all.

use ukai_core::metric::DatumValue;
use ukai_core::metric::datum::VALUES_MAX;

/// `counts` has one more entry than `bounds`; None: they do not fit each other.
pub fn values(bounds: &[f64], counts: &[f64], minimum: Option<f64>, maximum: Option<f64>) -> Option<Vec<DatumValue>> {
    if counts.len() != bounds.len() + 1 || !bounds.windows(2).all(|pair| pair[0] < pair[1]) {
        return None;
    }
    let seen: Vec<(f64, f64)> = counts
        .iter()
        .enumerate()
        .filter(|(_, count)| **count > 0.0)
        .map(|(index, count)| (middle(bounds, index, minimum, maximum), *count))
        .collect();
    Some(seen.chunks(VALUES_MAX).map(|chunk| DatumValue::Many(chunk.to_vec())).collect())
}

fn middle(bounds: &[f64], index: usize, minimum: Option<f64>, maximum: Option<f64>) -> f64 {
    let below = index.checked_sub(1).and_then(|index| bounds.get(index)).copied();
    let above = bounds.get(index).copied();
    let (low, high) = match (below, above) {
        (Some(low), Some(high)) => (low, high),
        // A first bucket of times or sizes begins at nought.
        (None, Some(high)) => (minimum.unwrap_or(if high > 0.0 { 0.0 } else { high }), high),
        (Some(low), None) => (low, maximum.unwrap_or(low)),
        (None, None) => (minimum.unwrap_or(0.0), maximum.unwrap_or(0.0)),
    };
    let low = minimum.map_or(low, |minimum| low.max(minimum));
    let high = maximum.map_or(high, |maximum| high.min(maximum));
    low + (high - low) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_counts_in_its_middle() {
        let many = |values: &[(f64, f64)]| Some(vec![DatumValue::Many(values.to_vec())]);
        let bounds = [1.0, 3.0];
        assert_eq!(values(&bounds, &[2.0, 4.0, 1.0], None, None), many(&[(0.5, 2.0), (2.0, 4.0), (3.0, 1.0)]));
        assert_eq!(values(&bounds, &[0.0, 4.0, 0.0], None, None), many(&[(2.0, 4.0)]));
        let narrowed = values(&bounds, &[2.0, 0.0, 1.0], Some(0.8), Some(5.0));
        assert_eq!(narrowed, many(&[(0.9, 2.0), (4.0, 1.0)]));
        assert_eq!(values(&[-1.0], &[1.0, 0.0], None, None), many(&[(-1.0, 1.0)]));
        assert_eq!(values(&bounds, &[0.0; 3], None, None), Some(vec![]));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_what_is_long_is_split() {
        assert_eq!(values(&[1.0, 3.0], &[1.0], None, None), None);
        assert_eq!(values(&[3.0, 1.0], &[1.0; 3], None, None), None);
        let bounds: Vec<f64> = (1..=200).map(f64::from).collect();
        let split = values(&bounds, &[1.0; 201], None, None).unwrap();
        assert_eq!(split.len(), 2);
        assert!(split.into_iter().all(|value| value.checked().is_ok()));
    }
}
