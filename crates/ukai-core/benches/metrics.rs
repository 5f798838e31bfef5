//! Figures of metrics and alarms on one core: `cargo bench -p ukai-core --bench metrics`.
#![expect(clippy::disallowed_types, reason = "a benchmark reads the clock; the core does not")]

use std::time::Instant;

use jiff::Timestamp;
use ukai_core::alarm::AlarmState;
use ukai_core::alarm::definition::{ComparisonOperator, EvaluationWindow, MetricAlarm, MetricStat, Threshold, Watched};
use ukai_core::alarm::evaluate::Evaluator;
use ukai_core::metric::{Datum, DatumValue, Dimensions, MetricId, Metrics, Namespace, Statistic, Unit};

/// 2026-01-01.
const START: i64 = 1_767_225_600;
const DAY: i64 = 86_400;

fn main() {
    ingest();
    memory();
    alarms();
}

/// Data are made before the clock starts, so that only `put` is measured; they come a second (or more) apart, as they do
/// from probes, and in turn, as they do from many metrics.
fn ingest() {
    println!("ingest through Metrics::put, one core");
    // How many metrics, how many data of each, and how many of these in one second.
    for (metrics, each, together) in
        [(1usize, 1_000_000usize, 1i64), (1, 1_000_000, 100), (1_000, 1_000, 1), (100_000, 30, 1)]
    {
        let ids: Vec<MetricId> = (0..metrics).map(metric).collect();
        let mut store = Metrics::default();
        let (mut data, mut seconds, mut busy, mut puts) = (Vec::new(), 0.0, 0.0, 0usize);
        let mut noise = Noise(1);
        for round in 0..each {
            let at =
                Timestamp::from_second(START + round as i64 * if metrics == 1 { 1 } else { 10 }).expect("in range");
            data.extend(ids.iter().map(|id| Datum {
                metric: id.clone(),
                at,
                value: DatumValue::Single(latency(&mut noise)),
                unit: Unit::Milliseconds,
                high_resolution: true,
            }));
            if data.len() >= 100_000 || round + 1 == each {
                puts += data.len();
                let (begin, begin_busy) = (Instant::now(), processor_seconds());
                for datum in data.drain(..) {
                    let now = datum.at;
                    store.put(now, datum).expect("a datum that is right");
                }
                seconds += begin.elapsed().as_secs_f64();
                busy += processor_seconds() - begin_busy;
            }
        }
        println!(
            "  {metrics:>7} metrics, {together:>3} data in a second: {:>9.0}/s ({:.0} per second of processor time), {} kB",
            puts as f64 / seconds,
            puts as f64 / busy,
            store.bytes() / 1000
        );
    }
}

fn memory() {
    println!("bytes of one metric with a day of 10 s data, all told (aim: 20,000 and 2,000)");
    let mut noise = Noise(7);
    println!("  latency-like, ms with 3 decimals: {:>6}", day_of(|| latency(&mut noise)));
    let mut noise = Noise(9);
    println!(
        "  success-like, 1 % failures:       {:>6}",
        day_of(|| f64::from(u8::from(!noise.next().is_multiple_of(100))))
    );
    println!("  success-like, no failure:         {:>6}", day_of(|| 1.0));
}

fn day_of(mut value: impl FnMut() -> f64) -> usize {
    let mut store = Metrics::default();
    for second in (0..DAY).step_by(10) {
        let at = Timestamp::from_second(START + second).expect("in range");
        let id = metric(0);
        let datum =
            Datum::single(&id.namespace, &id.metric_name, id.dimensions.clone(), at, value(), Unit::Milliseconds);
        store.put(at, datum.expect("a datum that is right")).expect("a datum that is right");
    }
    store.bytes()
}

/// Every alarm judged once: M = 3, N = 5, period 60 s, every period of the range full of six samples.
fn alarms() {
    println!("evaluation of metric alarms, one core (M = 3, N = 5, period 60 s, full windows)");
    for count in [10_000, 100_000, 1_000_000] {
        let mut store = Metrics::default();
        let alarms: Vec<MetricAlarm> = (0..count).map(alarm).collect();
        for step in 0..42 {
            let at = Timestamp::from_second(START + step * 10).expect("in range");
            for alarm in &alarms {
                let metric = alarm.metrics().next().expect("one metric").metric.clone();
                let value = DatumValue::Single(1.0);
                let datum = Datum { metric, at, value, unit: Unit::Count, high_resolution: true };
                store.put(at, datum).expect("a datum that is right");
            }
        }
        let now = Timestamp::from_second(START + 420).expect("in range");
        let mut evaluator = Evaluator::default();
        let (begin, busy) = (Instant::now(), processor_seconds());
        let alarming =
            alarms.iter().filter(|alarm| evaluator.judge(alarm, &store, now).state == Some(AlarmState::Alarm)).count();
        let (seconds, busy) = (begin.elapsed().as_secs_f64(), processor_seconds() - busy);
        println!("  {count:>9} alarms in {seconds:.3} s, {busy:.3} s of processor time ({alarming} in ALARM)");
    }
}

fn alarm(number: usize) -> MetricAlarm {
    MetricAlarm {
        watched: Watched::Metric(MetricStat {
            metric: metric(number),
            statistic: Statistic::Average,
            period_s: 60,
            unit: None,
        }),
        evaluation_periods: 5,
        datapoints_to_alarm: Some(3),
        comparison_operator: ComparisonOperator::LessThanThreshold,
        threshold: Threshold::Value(0.9),
        treat_missing_data: None,
        low_samples: None,
        window: EvaluationWindow::default(),
    }
}

/// What this thread has had of a processor, so that a busy machine does not spoil the figure; 0 where Linux does not tell.
fn processor_seconds() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = told.split_whitespace().next().and_then(|number| number.parse::<f64>().ok());
    nanoseconds.unwrap_or(0.0) / 1e9
}

fn metric(number: usize) -> MetricId {
    let namespace = Namespace::new("Ukai/Peer").expect("a namespace");
    let endpoint = format!("https://peer-{number}.example/health");
    let pairs = [("Peer", format!("peer-{number}")), ("Endpoint", endpoint), ("Family", "ipv4".to_owned())];
    let dimensions = Dimensions::new(pairs).expect("dimensions");
    MetricId::new(&namespace, "ProcessingTime", dimensions).expect("a metric")
}

/// Around 20 ms, noisy by about 5 ms, with a tail; in microseconds.
fn latency(noise: &mut Noise) -> f64 {
    let spread: u64 = (0..4).map(|_| noise.next() % 8_000).sum();
    let tail = if noise.next().is_multiple_of(50) { noise.next() % 100_000 } else { 0 };
    (4_000 + spread + tail) as f64 / 1000.0
}

/// A small generator of our own (SplitMix64's step), so that figures are the same each time.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
