//! A metric alarm over its own bounded window of periods.

use std::collections::VecDeque;

use jiff::Timestamp;

use super::AlarmState;
use super::missing_data::{Slot, judge};
use super::rule::{AlarmRule, Statistic};

/// One period's samples, folded as they come: order does not matter.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Period {
    start_s: i64,
    count: f64,
    sum: f64,
    minimum: f64,
    maximum: f64,
}

impl Period {
    fn value(&self, statistic: Statistic) -> f64 {
        match statistic {
            Statistic::SampleCount => self.count,
            Statistic::Sum => self.sum,
            Statistic::Average => self.sum / self.count,
            Statistic::Minimum => self.minimum,
            Statistic::Maximum => self.maximum,
        }
    }
}

/// A rule with the datapoints it needs, and no more.
#[derive(Debug, Clone)]
pub struct MetricAlarm {
    rule: AlarmRule,
    periods: VecDeque<Period>,
}

impl MetricAlarm {
    pub fn new(rule: AlarmRule) -> MetricAlarm {
        MetricAlarm { rule, periods: VecDeque::new() }
    }

    pub fn rule(&self) -> &AlarmRule {
        &self.rule
    }

    /// Takes a sample in. One that is not finite, or older than the window, is left out.
    pub fn put(&mut self, at: Timestamp, value: f64) {
        if !value.is_finite() {
            return;
        }
        let start_s = self.start_of(at);
        let place = self.periods.partition_point(|period| period.start_s < start_s);
        match self.periods.get_mut(place).filter(|period| period.start_s == start_s) {
            Some(period) => {
                period.count += 1.0;
                period.sum += value;
                period.minimum = period.minimum.min(value);
                period.maximum = period.maximum.max(value);
            }
            None => {
                self.periods.insert(place, Period { start_s, count: 1.0, sum: value, minimum: value, maximum: value })
            }
        }
        // One more than the range: the period that is still filling.
        while self.periods.len() > self.rule.evaluation_range() + 1 {
            self.periods.pop_front();
        }
    }

    /// Judges the whole periods before `now`. None: keep the present state.
    pub fn evaluate(&self, now: Timestamp) -> Option<(AlarmState, String)> {
        let range = self.range(now);
        let slots: Vec<Slot> = range.iter().map(|value| self.slot(*value)).collect();
        let n = self.rule.evaluation_periods as usize;
        let m = self.rule.datapoints_to_alarm as usize;
        let state = judge(&slots, n, m, self.rule.treat_missing_data)?;
        Some((state, self.reason(&range, &slots)))
    }

    /// The values of the evaluation range, oldest first.
    fn range(&self, now: Timestamp) -> Vec<Option<f64>> {
        let period_s = self.period_s();
        let length = self.rule.evaluation_range() as i64;
        let end_s = self.start_of(now);
        (1..=length)
            .rev()
            .map(|back| {
                let start_s = end_s - back * period_s;
                let period = self.periods.iter().find(|period| period.start_s == start_s)?;
                Some(period.value(self.rule.statistic))
            })
            .collect()
    }

    fn slot(&self, value: Option<f64>) -> Slot {
        match value {
            None => Slot::Missing,
            Some(value) if self.rule.comparison_operator.is_breaching(value, self.rule.threshold) => Slot::Breaching,
            Some(_) => Slot::Fine,
        }
    }

    fn reason(&self, range: &[Option<f64>], slots: &[Slot]) -> String {
        let breaching = slots.iter().filter(|slot| **slot == Slot::Breaching).count();
        let values: Vec<String> = range.iter().flatten().map(|value| format!("{value:.3}")).collect();
        format!(
            "{breaching} of the last {} datapoints [{}] of {} breach the threshold ({}); {} needed",
            values.len(),
            values.join(", "),
            self.rule.metric_name,
            self.rule.threshold,
            self.rule.datapoints_to_alarm
        )
    }

    fn period_s(&self) -> i64 {
        i64::try_from(self.rule.period.as_secs()).unwrap_or(60).max(1)
    }

    fn start_of(&self, at: Timestamp) -> i64 {
        at.as_second().div_euclid(self.period_s()) * self.period_s()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::alarm::rule::{ComparisonOperator, TreatMissingData};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn success_rule() -> AlarmRule {
        AlarmRule {
            alarm_name: "a".into(),
            metric_name: "Success".into(),
            statistic: Statistic::Average,
            period: Duration::from_secs(60),
            evaluation_periods: 3,
            datapoints_to_alarm: 2,
            threshold: 0.9,
            comparison_operator: ComparisonOperator::LessThanThreshold,
            treat_missing_data: TreatMissingData::Missing,
        }
    }

    #[test]
    fn two_bad_minutes_of_three_alarm() {
        let mut alarm = MetricAlarm::new(success_rule());
        for (second, value) in [(0, 1.0), (60, 0.0), (120, 0.0), (150, 1.0)] {
            alarm.put(at(second), value);
        }
        let (state, reason) = alarm.evaluate(at(180)).unwrap();
        assert_eq!(state, AlarmState::Alarm, "{reason}");
    }

    #[test]
    fn the_period_that_is_still_filling_is_not_judged() {
        let mut alarm = MetricAlarm::new(success_rule());
        for second in [0, 60, 120] {
            alarm.put(at(second), 1.0);
        }
        alarm.put(at(180), 0.0);
        assert_eq!(alarm.evaluate(at(190)).unwrap().0, AlarmState::Ok);
    }

    #[test]
    fn silence_is_insufficient_data() {
        let mut alarm = MetricAlarm::new(success_rule());
        alarm.put(at(0), 1.0);
        assert_eq!(alarm.evaluate(at(3600)).unwrap().0, AlarmState::InsufficientData);
    }

    proptest! {
        #[test]
        fn order_of_arrival_does_not_matter(mut samples in prop::collection::vec((0i64..300, 0u8..2), 0..40), seed in any::<u64>()) {
            let mut forwards = MetricAlarm::new(success_rule());
            for (second, value) in &samples {
                forwards.put(at(*second), f64::from(*value));
            }
            let length = samples.len();
            if length > 1 {
                for place in 0..length {
                    let other = (seed as usize).wrapping_mul(place + 1) % length;
                    samples.swap(place, other);
                }
            }
            let mut shuffled = MetricAlarm::new(success_rule());
            for (second, value) in &samples {
                shuffled.put(at(*second), f64::from(*value));
            }
            prop_assert_eq!(forwards.evaluate(at(300)), shuffled.evaluate(at(300)));
        }
    }
}
