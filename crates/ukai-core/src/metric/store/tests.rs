use proptest::prelude::*;

use super::*;
use crate::metric::series::{HEAD, KEPT_DEFAULT, UNIT_ORDER};
use crate::metric::{DatumValue, Dimensions, StatisticSet};

const NOW: i64 = 1_800_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn id(name: &str) -> MetricId {
    MetricId::new(&Namespace::new("N").unwrap(), name, Dimensions::default()).unwrap()
}

fn datum(name: &str, seconds: i64, value: DatumValue, unit: Unit, high_resolution: bool) -> Datum {
    Datum { metric: id(name), at: at(seconds), value, unit, high_resolution }
}

fn one(name: &str, seconds: i64, value: f64) -> Datum {
    datum(name, seconds, DatumValue::Single(value), Unit::None, true)
}

fn read(metrics: &Metrics, name: &str, statistic: &str, end: i64, period: i64, periods: usize) -> Vec<Option<f64>> {
    let mut out = Vec::new();
    metrics.datapoints(&id(name), None, &statistic.parse().unwrap(), end, period, periods, &mut out);
    out.iter().map(|point| point.map(|point| point.value)).collect()
}

fn all_samples(metrics: &Metrics, name: &str, unit: Option<Unit>) -> Vec<Option<Samples>> {
    let mut out = Vec::new();
    metrics.window(&id(name), unit, NOW + 60, 10, 9000, &mut out);
    out
}

/// All that storage holds after taking everything.
fn saved(metrics: &mut Metrics, storage: &mut Vec<DirtyChunk>, most: usize) {
    loop {
        let taken = metrics.take_dirty(most);
        if taken.is_empty() {
            break;
        }
        for chunk in taken {
            let key = |c: &DirtyChunk| (c.metric.clone(), c.unit, c.resolution, c.start_s);
            storage.retain(|held| key(held) != key(&chunk));
            storage.push(chunk);
        }
    }
    for gone in metrics.forgotten() {
        storage.retain(|held| {
            (&held.metric, held.unit, held.resolution, held.start_s)
                != (&gone.metric, gone.unit, gone.resolution, gone.start_s)
        });
    }
}

fn restored(storage: &[DirtyChunk]) -> Metrics {
    let mut metrics = Metrics::default();
    for chunk in storage {
        metrics.restore_chunk(at(NOW), chunk.clone()).unwrap();
    }
    metrics
}

#[test]
fn periods_are_half_open_and_oldest_first() {
    let mut metrics = Metrics::default();
    for (seconds, value) in [(0, 1.0), (59, 2.0), (60, 4.0), (179, 8.0), (180, 16.0)] {
        metrics.put(at(NOW + 300), one("m", NOW + seconds, value)).unwrap();
    }
    assert_eq!(read(&metrics, "m", "Sum", NOW + 180, 60, 3), [Some(3.0), Some(4.0), Some(8.0)]);
    assert_eq!(
        read(&metrics, "m", "SampleCount", NOW + 240, 60, 5),
        [None, Some(2.0), Some(1.0), Some(1.0), Some(1.0)]
    );
    assert_eq!(read(&metrics, "m", "p100", NOW + 180, 90, 2), [Some(4.0), Some(8.0)]);
    assert_eq!(read(&metrics, "absent", "Sum", NOW, 60, 2), [None, None]);
    assert_eq!(metrics.latest(&id("m")), Some(at(NOW + 180)));
}

#[test]
fn standard_resolution_is_read_in_the_period_of_its_minute() {
    let mut metrics = Metrics::default();
    for value in [0.0, 2.0, 7.0, 100.0] {
        metrics.put(at(NOW), datum("m", NOW + 45, DatumValue::Single(value), Unit::Seconds, false)).unwrap();
    }
    assert_eq!(read(&metrics, "m", "Sum", NOW + 60, 30, 2), [Some(109.0), None]);
    metrics.put(at(NOW), datum("m", NOW + 45, DatumValue::Single(1.0), Unit::Seconds, true)).unwrap();
    assert_eq!(read(&metrics, "m", "Sum", NOW + 60, 60, 1), [Some(110.0)], "both resolutions together");
}

/// Recorded on AWS: without a unit one unit is read and nothing is converted.
#[test]
fn without_a_unit_the_first_unit_with_data_is_read() {
    let mut metrics = Metrics::default();
    let put = |metrics: &mut Metrics, value, unit| {
        metrics.put(at(NOW), datum("m", NOW, DatumValue::Single(value), unit, false)).unwrap();
    };
    put(&mut metrics, 60_000.0, Unit::Milliseconds);
    put(&mut metrics, 60.0, Unit::Seconds);
    assert_eq!(read(&metrics, "m", "Sum", NOW + 60, 60, 1), [Some(60_000.0)]);
    put(&mut metrics, 60_000.0, Unit::Milliseconds);
    put(&mut metrics, 60.0, Unit::Seconds);
    assert_eq!(read(&metrics, "m", "Sum", NOW + 60, 60, 1), [Some(120_000.0)]);
    put(&mut metrics, 5.0, Unit::Count);
    assert_eq!(read(&metrics, "m", "Sum", NOW + 60, 60, 1), [Some(5.0)]);
    let mut out = Vec::new();
    metrics.datapoints(&id("m"), Some(Unit::Seconds), &Statistic::Sum, NOW + 60, 60, 1, &mut out);
    assert_eq!(out, [Some(Datapoint { value: 120.0, sample_count: 2.0 })]);
    metrics.datapoints(&id("m"), Some(Unit::Bytes), &Statistic::Sum, NOW + 60, 60, 1, &mut out);
    assert_eq!(out, [None]);
    assert_eq!(metrics.units_of(&id("m")), [Unit::Count, Unit::Milliseconds, Unit::Seconds]);
    let mut order = UNIT_ORDER;
    order.sort();
    assert_eq!(order.as_slice(), Unit::ALL);
}

#[test]
fn what_cannot_be_put_is_refused_and_nothing_changes() {
    let mut metrics = Metrics::with_limits(Limits { series: 1, bytes: BYTES_MAX });
    metrics.put(at(NOW), one("m", NOW, 1.0)).unwrap();
    let refused = metrics.put(at(NOW), one("n", NOW, 1.0)).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the metric N n is not taken: 1 metrics are kept already; publish fewer combinations of dimensions"
    );
    metrics.put(at(NOW), one("m", NOW, 2.0)).unwrap();
    assert!(metrics.put(at(NOW), one("m", NOW, f64::NAN)).is_err());
    for seconds in [NOW + 7201, NOW - 14 * 86_400 - 1, -377_705_023_201 + 1, 253_402_207_200] {
        assert!(matches!(metrics.put(at(NOW), one("m", seconds, 1.0)), Err(PutError::Datum(DatumError::Time { .. }))));
    }
    assert_eq!(read(&metrics, "m", "Sum", NOW + 60, 60, 1), [Some(3.0)]);
}

#[test]
fn a_window_is_as_long_as_is_asked() {
    let mut metrics = Metrics::default();
    metrics.keep(&id("long"), 3 * 86_400);
    for name in ["short", "long"] {
        for step in (0..3 * 8640).rev() {
            let seconds = NOW - step * 10;
            metrics.put(at(seconds), one(name, seconds, 1.0)).unwrap();
        }
    }
    metrics.tend(at(NOW));
    let count = |name| read(&metrics, name, "SampleCount", NOW + 10, 4 * 86_400, 1)[0].unwrap() as i64;
    assert!((KEPT_DEFAULT / 10..KEPT_DEFAULT / 10 + 1100).contains(&count("short")), "{}", count("short"));
    assert_eq!(count("long"), 3 * 8640);
}

#[test]
fn what_is_silent_for_two_weeks_is_forgotten_with_its_chunks() {
    let mut metrics = Metrics::default();
    metrics.put(at(NOW), one("old", NOW, 1.0)).unwrap();
    metrics.put(at(NOW), one("unstored", NOW - 10, 1.0)).unwrap();
    assert_eq!(metrics.take_dirty(1).len(), 1);
    metrics.put(at(NOW + SILENT_MAX), one("new", NOW + SILENT_MAX, 1.0)).unwrap();
    assert_eq!(metrics.tend(at(NOW + SILENT_MAX)), 1);
    assert_eq!(metrics.tend(at(NOW + SILENT_MAX + 1)), 1);
    let gone: Vec<(MetricId, i64)> = metrics.forgotten().into_iter().map(|gone| (gone.metric, gone.start_s)).collect();
    assert_eq!(gone, [(id("old"), HEAD)]);
    assert_eq!(metrics.list(None).collect::<Vec<_>>(), [&id("new")]);
    let taken: Vec<MetricId> = metrics.take_dirty(10).into_iter().map(|chunk| chunk.metric).collect();
    assert_eq!(taken, [id("new")]);
    assert_eq!(metrics.tend(at(NOW + 3 * SILENT_MAX)), 1);
    assert_eq!(metrics.bytes(), 0);
}

#[test]
fn when_bytes_run_out_the_longest_silent_are_shortened_first() {
    let mut metrics = Metrics::with_limits(Limits { series: 100, bytes: 60_000 });
    for (name, begin) in [("silent", NOW), ("live", NOW + 80_000)] {
        for step in 0..8000 {
            let seconds = begin + step * 10;
            let value = (step * 7919 % 10_007) as f64 / 1000.0;
            metrics.put(at(seconds), one(name, seconds, value)).unwrap();
            assert!(metrics.bytes() <= 60_000);
        }
    }
    for step in 0..30_000 {
        let seconds = NOW + 90_000 + step;
        metrics.put(at(seconds), one("third", seconds, (step * 7919 % 10_007) as f64 / 1000.0)).unwrap();
        assert!(metrics.bytes() <= 60_000);
    }
    let told = metrics.take_shortened().unwrap();
    assert_eq!(told.first, id("silent"));
    assert_eq!(metrics.take_shortened(), None);
    let count = |name| read(&metrics, name, "SampleCount", NOW + 200_000, 200_000, 1)[0].unwrap_or(0.0);
    assert!(count("silent") < 4000.0 && count("third") > 10_000.0, "{} {}", count("silent"), count("third"));
}

#[test]
fn a_second_begins_before_its_fractions_also_before_1970() {
    for (nanoseconds, second) in [(-1, -1), (-1_000_000_000, -1), (-1_000_000_001, -2), (0, 0), (999_999_999, 0)] {
        assert_eq!(floor_seconds(Timestamp::from_nanosecond(nanoseconds).unwrap()), second);
    }
}

#[test]
fn no_read_panics() {
    let mut metrics = Metrics::default();
    metrics.put(at(NOW), one("m", NOW, 1.0)).unwrap();
    for end in [i64::MIN, -1, 0, NOW + 1, i64::MAX] {
        for period in [i64::MIN, -1, 0, 1, 60, i64::MAX] {
            for periods in [0, 1, 5, 100_800, usize::MAX] {
                for statistic in ["Sum", "p50"] {
                    let found = read(&metrics, "m", statistic, end, period, periods);
                    assert!(found.is_empty() || found.len() == periods);
                }
            }
        }
    }
}

#[test]
fn a_damaged_chunk_is_refused() {
    let mut metrics = Metrics::default();
    for step in 0..100 {
        metrics.put(at(NOW), one("m", NOW - 1000 + step * 10, step as f64)).unwrap();
    }
    let chunk = metrics.take_dirty(1).remove(0);
    for place in 0..chunk.bytes.len() {
        for flip in [1, 128, 255] {
            let mut damaged = chunk.clone();
            damaged.bytes[place] ^= flip;
            assert!(Metrics::default().restore_chunk(at(NOW), damaged).is_err());
        }
        let cut = DirtyChunk { bytes: chunk.bytes[..place].to_vec(), ..chunk.clone() };
        assert!(Metrics::default().restore_chunk(at(NOW), cut).is_err());
    }
    let mut twice = restored(std::slice::from_ref(&chunk));
    assert!(twice.restore_chunk(at(NOW), chunk).is_err(), "the same chunk twice would count its samples twice");
}

#[test]
fn a_crash_between_two_writes_repeats_nothing() {
    let mut metrics = Metrics::default();
    let mut storage = Vec::new();
    for step in 0..30 {
        metrics.put(at(NOW), one("m", NOW - 3000 + step * 10, 1.0)).unwrap();
    }
    saved(&mut metrics, &mut storage, 10);
    for step in 30..60 {
        metrics.put(at(NOW), one("m", NOW - 3000 + step * 10, 1.0)).unwrap();
    }
    // Only the chunk that the old head became part of is written, not the new head.
    storage.extend(metrics.take_dirty(1));
    for order in [[0, 1], [1, 0]] {
        let kept = restored(&order.map(|place: usize| storage[place].clone()));
        let count = read(&kept, "m", "SampleCount", NOW, 86_400, 1)[0].unwrap();
        assert!((30.0..=60.0).contains(&count), "{count}");
        assert_eq!(read(&kept, "m", "SampleCount", NOW - 2700, 10, 30), vec![Some(1.0); 30]);
    }
}

/// Data in any order, of all forms, with whole counts.
fn some_data() -> impl Strategy<Value = Vec<Datum>> {
    let number = (-50i64..100_000, 0u32..5).prop_map(|(number, decimals)| number as f64 / 10f64.powi(decimals as i32));
    let value = prop_oneof![
        6 => number.clone().prop_map(DatumValue::Single),
        1 => prop::collection::vec((number.clone(), (1u32..4).prop_map(f64::from)), 1..5).prop_map(DatumValue::Many),
        1 => (number, 0u32..9, 1u32..9).prop_map(|(least, more, count)| {
            let (count, maximum) = (f64::from(count), least + f64::from(more));
            DatumValue::Set(StatisticSet { sample_count: count, sum: least * count, minimum: least, maximum })
        }),
    ];
    let unit = prop_oneof![9 => Just(Unit::None), 1 => Just(Unit::Count)];
    let one = (0i64..8000, value, unit, prop::bool::weighted(0.8), 0usize..2)
        .prop_map(|(step, value, unit, high, name)| datum(["a", "b"][name], NOW - step * 10, value, unit, high));
    prop::collection::vec(one, 1..400)
}

fn store_of<'a>(data: impl Iterator<Item = &'a Datum>) -> Metrics {
    let mut metrics = Metrics::default();
    data.for_each(|datum| metrics.put(at(NOW), datum.clone()).unwrap());
    metrics
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_arrival_changes_nothing(data in some_data(), sorted in any::<bool>()) {
        let mut ordered = data.clone();
        if sorted { ordered.sort_by_key(|datum| datum.at) } else { ordered.reverse() }
        let (one, other) = (store_of(data.iter()), store_of(ordered.iter()));
        for name in ["a", "b"] {
            for statistic in ["SampleCount", "Sum", "Average", "Minimum", "Maximum", "p50", "TM(10%:90%)"] {
                for (period, periods) in [(10, 8001), (300, 268), (86_400, 1)] {
                    prop_assert_eq!(
                        read(&one, name, statistic, NOW + 10, period, periods),
                        read(&other, name, statistic, NOW + 10, period, periods)
                    );
                }
            }
        }
    }

    #[test]
    fn simple_reads_equal_reads_of_samples(data in some_data()) {
        let metrics = store_of(data.iter());
        for unit in [None, Some(Unit::None), Some(Unit::Count)] {
            let mut samples = Vec::new();
            metrics.window(&id("a"), unit, NOW + 10, 60, 1400, &mut samples);
            for statistic in [Statistic::Sum, Statistic::Minimum, Statistic::Average] {
                let mut points = Vec::new();
                metrics.datapoints(&id("a"), unit, &statistic, NOW + 10, 60, 1400, &mut points);
                for (samples, point) in samples.iter().zip(&points) {
                    let expected = samples.as_ref().and_then(|samples| samples.statistic(&statistic));
                    prop_assert_eq!(expected, point.map(|point| point.value));
                }
            }
        }
    }

    #[test]
    fn a_late_datapoint_changes_only_its_own_period(data in some_data(), step in 0i64..8000, high in any::<bool>()) {
        let mut metrics = store_of(data.iter());
        let before = all_samples(&metrics, "a", Some(Unit::None));
        metrics.put(at(NOW), datum("a", NOW - step * 10, DatumValue::Single(3.5), Unit::None, high)).unwrap();
        let after = all_samples(&metrics, "a", Some(Unit::None));
        let begins = if high { NOW - step * 10 } else { (NOW - step * 10).div_euclid(60) * 60 };
        for (place, (before, after)) in before.iter().zip(&after).enumerate() {
            let start = NOW + 60 - 90_000 + place as i64 * 10;
            if (start..start + 10).contains(&begins) {
                let count = before.as_ref().map_or(0.0, Samples::count);
                prop_assert_eq!(after.as_ref().map(Samples::count), Some(count + 1.0));
            } else {
                prop_assert_eq!(before, after);
            }
        }
    }

    #[test]
    fn what_is_saved_is_restored(data in some_data(), pause in any::<prop::sample::Index>(), most in 1usize..9) {
        let pause = pause.index(data.len());
        let mut metrics = store_of(data[..pause].iter());
        let mut storage = Vec::new();
        saved(&mut metrics, &mut storage, most);
        data[pause..].iter().for_each(|datum| metrics.put(at(NOW), datum.clone()).unwrap());
        saved(&mut metrics, &mut storage, most);
        let again = restored(&storage);
        for name in ["a", "b"] {
            for unit in [Unit::None, Unit::Count] {
                prop_assert_eq!(all_samples(&metrics, name, Some(unit)), all_samples(&again, name, Some(unit)));
            }
            prop_assert_eq!(metrics.latest(&id(name)), again.latest(&id(name)));
        }
        prop_assert_eq!(metrics.take_dirty(1), vec![]);
    }

    #[test]
    fn no_stored_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), start in any::<i64>(), right in any::<bool>()) {
        let mut bytes = bytes;
        if right {
            // As if the checksum were right: the contents are read.
            bytes = crate::metric::series::sealed(&bytes);
        }
        let chunk = DirtyChunk { metric: id("m"), unit: Unit::None, resolution: Resolution::Minute, start_s: start, bytes };
        let _ = Metrics::default().restore_chunk(at(NOW), chunk);
    }

    #[test]
    fn no_datum_panics(seconds in any::<i64>(), now in any::<i64>(), value in any::<f64>(), count in any::<f64>(), high in any::<bool>()) {
        let within = |seconds: i64| at(seconds.rem_euclid(253_402_207_200 * 2) - 253_402_207_200).max(Timestamp::MIN);
        let mut metrics = Metrics::default();
        for value in [DatumValue::Single(value), DatumValue::Many(vec![(value, count), (1.0, 1.0)]), DatumValue::Many(vec![])] {
            for (now, at) in [(within(now), within(seconds)), (Timestamp::MAX, Timestamp::MAX), (Timestamp::MIN, Timestamp::MIN)] {
                let datum = Datum { metric: id("m"), at, value: value.clone(), unit: Unit::Bits, high_resolution: high };
                let _ = metrics.put(now, datum);
                metrics.tend(now);
            }
        }
    }
}
