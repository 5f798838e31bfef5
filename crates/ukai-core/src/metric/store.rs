//! STUB, replaced by the real one.
use super::statistic::Statistic;
use super::{Datum, DatumValue, MetricId, Unit};
use jiff::Timestamp;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Datapoint {
    pub value: f64,
    pub sample_count: f64,
}

#[derive(Debug, Default)]
pub struct Metrics {
    data: Vec<Datum>,
}

impl Metrics {
    pub fn put(&mut self, _now: Timestamp, datum: Datum) -> Result<(), String> {
        self.data.push(datum);
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "stub")]
    pub fn datapoints(
        &self,
        id: &MetricId,
        _unit: Option<Unit>,
        statistic: &Statistic,
        end_s: i64,
        period_s: i64,
        periods: usize,
        out: &mut Vec<Option<Datapoint>>,
    ) {
        for back in (1..=periods as i64).rev() {
            let (from, to) = (end_s - back * period_s, end_s - (back - 1) * period_s);
            let values: Vec<f64> = self
                .data
                .iter()
                .filter(|d| &d.metric == id && (from..to).contains(&d.at.as_second()))
                .filter_map(|d| match &d.value {
                    DatumValue::Single(v) => Some(*v),
                    _ => None,
                })
                .collect();
            let n = values.len() as f64;
            out.push((n > 0.0).then(|| Datapoint {
                value: match statistic {
                    Statistic::SampleCount => n,
                    Statistic::Sum => values.iter().sum(),
                    Statistic::Minimum => values.iter().copied().fold(f64::MAX, f64::min),
                    Statistic::Maximum => values.iter().copied().fold(f64::MIN, f64::max),
                    _ => values.iter().sum::<f64>() / n,
                },
                sample_count: n,
            }));
        }
    }
}

impl Metrics {
    pub fn keep(&mut self, _id: &MetricId, _back_s: u64) {}
}
