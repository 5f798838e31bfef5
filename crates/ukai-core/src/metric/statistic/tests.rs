use super::*;
use crate::metric::{DatumValue, StatisticSet};

fn of(samples: &Samples, statistic: &str) -> Option<f64> {
    samples.statistic(&statistic.parse().unwrap())
}

fn array(values: &[(f64, f64)]) -> Samples {
    Samples::of(&DatumValue::Many(values.to_vec()))
}

fn singles(values: &[f64]) -> Samples {
    array(&values.iter().map(|value| (*value, 1.0)).collect::<Vec<_>>())
}

fn set(sample_count: f64, sum: f64, minimum: f64, maximum: f64) -> Samples {
    Samples::of(&DatumValue::Set(StatisticSet { sample_count, sum, minimum, maximum }))
}

/// What AWS answered (recorded 2025-09-19); the data are those of the public tests that asked.
#[test]
fn the_recorded_answers() {
    let values_and_counts = array(&[(1.0, 2.0), (10.0, 4.0)]);
    let zero_and_labels = singles(&[0.0, 2.0, 4.0, 3.5, 7.0, 100.0]);
    let one_to_eleven = singles(&(1..=11).map(f64::from).collect::<Vec<_>>());
    let zero_to_nine = singles(&(0..=9).map(f64::from).collect::<Vec<_>>());
    let rows: &[(&Samples, &str, f64)] = &[
        (&values_and_counts, "Maximum", 10.0),
        (&values_and_counts, "SampleCount", 6.0),
        (&values_and_counts, "Sum", 42.0),
        (&zero_and_labels, "Average", 19.416666666666668),
        (&zero_and_labels, "Sum", 116.5),
        (&zero_and_labels, "Minimum", 0.0),
        (&zero_and_labels, "Maximum", 100.0),
        (&one_to_eleven, "Sum", 66.0),
        (&one_to_eleven, "SampleCount", 11.0),
        (&one_to_eleven, "Minimum", 1.0),
        (&one_to_eleven, "Maximum", 11.0),
        (&one_to_eleven, "Average", 6.0),
        (&zero_to_nine, "Average", 4.5),
        (&zero_to_nine, "Sum", 45.0),
        (&zero_to_nine, "SampleCount", 10.0),
        (&singles(&[0.0, 2.0, 7.0, 100.0]), "Sum", 109.0),
    ];
    for (samples, statistic, answer) in rows {
        assert_eq!(of(samples, statistic), Some(*answer), "{statistic}");
    }
}

/// 10, 20, … 100, by hand.
#[test]
fn ten_samples_by_hand() {
    let ten = singles(&(1..=10).map(|n| f64::from(n) * 10.0).collect::<Vec<_>>());
    let rows: &[(&str, Option<f64>)] = &[
        ("p50", Some(50.0)),
        ("p95", Some(100.0)),
        ("p90", Some(90.0)),
        ("p90.0000000001", Some(100.0)),
        ("p0", Some(10.0)),
        ("p100", Some(100.0)),
        ("tm90", Some(50.0)),
        ("TM(:90%)", Some(50.0)),
        ("TM(10%:90%)", Some(55.0)),
        ("TM(10%:)", Some(60.0)),
        ("TM(20:50)", Some(40.0)),
        ("TM(:50)", Some(30.0)),
        ("TM(50:)", Some(80.0)),
        ("TM(200:300)", None),
        ("IQM", Some(55.0)),
        ("wm90", Some(54.0)),
        ("WM(10%:90%)", Some(55.0)),
        ("WM(30:80)", Some(55.0)),
        ("PR(:30)", Some(30.0)),
        ("PR(20:50)", Some(30.0)),
        ("PR(50:)", Some(50.0)),
        ("tc90", Some(9.0)),
        ("TC(20:50)", Some(3.0)),
        ("TC(200:300)", Some(0.0)),
        ("ts90", Some(450.0)),
        ("TS(80%:)", Some(190.0)),
        ("TS(20:50)", Some(120.0)),
    ];
    for (statistic, expected) in rows {
        assert_eq!(of(&ten, statistic), *expected, "{statistic}");
    }
}

#[test]
fn counts_weigh() {
    let weighed = array(&[(31.0, 4.0), (34.0, 5.0), (90.0, 1.0)]);
    let rows: &[(&str, f64)] =
        &[("p40", 31.0), ("p50", 34.0), ("p90", 34.0), ("p91", 90.0), ("PR(:31)", 40.0), ("tm90", 294.0 / 9.0)];
    for (statistic, expected) in rows {
        assert_eq!(of(&weighed, statistic), Some(*expected), "{statistic}");
    }
    let hundred = array(&(1..=100).map(|n| (f64::from(n), 1.0)).collect::<Vec<_>>());
    assert_eq!(of(&hundred, "p7"), Some(7.0), "0.07 x 100 is a little more than 7 in doubles");
}

#[test]
fn where_extended_statistics_do_not_exist() {
    let rows: &[(Samples, Option<f64>)] = &[
        (set(1.0, 5.0, 5.0, 5.0), Some(5.0)),
        (set(4.0, 20.0, 5.0, 5.0), Some(5.0)),
        (set(4.0, 21.0, 5.0, 5.0), None),
        (set(2.0, 3.0, 1.0, 2.0), None),
        (set(1.0, -5.0, -5.0, -5.0), None),
        (singles(&[-1.0, 5.0, 9.0]), None),
        (array(&[(-1.0, 1.0)]), None),
        (singles(&[0.0]), Some(0.0)),
    ];
    for (samples, median) in rows {
        for statistic in ["p50", "tm100", "IQM", "wm100", "TM(0%:100%)"] {
            assert_eq!(of(samples, statistic), *median, "{samples:?} {statistic}");
        }
        assert_eq!(of(samples, "TC(0%:)").is_some(), median.is_some());
        assert!(of(samples, "Average").is_some());
    }
    let mut mixed = singles(&[1.0, 2.0]);
    mixed.merge(&set(2.0, 3.0, 1.0, 2.0));
    assert_eq!(of(&mixed, "p50"), None, "one set without a distribution ends the distribution");
}

#[test]
fn what_is_written_is_read_and_written_again() {
    for text in [
        "SampleCount",
        "Sum",
        "Average",
        "Minimum",
        "Maximum",
        "IQM",
        "p99",
        "p99.9",
        "p0.0000000001",
        "p100",
        "p0",
        "tm99",
        "tc90",
        "ts0.5",
        "wm98.75",
        "TM(2%:98%)",
        "TM(150:1000)",
        "TC(0.005:0.03)",
        "TS(80%:)",
        "WM(:95.5%)",
        "PR(:300)",
        "PR(100:2000)",
        "PR(10:)",
    ] {
        let statistic: Statistic = text.parse().unwrap();
        assert_eq!(statistic.to_string(), text);
        assert_eq!(serde_json::to_value(statistic).unwrap(), text);
        assert_eq!(serde_json::from_value::<Statistic>(text.into()).unwrap(), statistic);
    }
    assert_eq!("TC(0.005:0.030)".parse::<Statistic>().unwrap().to_string(), "TC(0.005:0.03)");
}

#[test]
fn what_is_no_statistic_is_refused() {
    for text in [
        "",
        "average",
        "SUM",
        "P99",
        "p",
        "p101",
        "p-1",
        "p99.",
        "p1e1",
        "p99.00000000001",
        "TM99",
        "tm(10%:90%)",
        "TM()",
        "TM(:)",
        "TM(5)",
        "TM(10%:90)",
        "TM(90%:10%)",
        "TM(5:5)",
        "PR(10%:90%)",
        "pr50",
        "iqm",
        "TM(-1:2)",
        "TM(1:2",
        "TM(1:2:3)",
        "pNaN",
        "TM(inf:)",
        "p99 ",
        "XX(1:2)",
    ] {
        assert!(text.parse::<Statistic>().is_err(), "{text}");
    }
    assert!("1".repeat(100_000).parse::<Statistic>().is_err());
}

#[test]
fn few_samples_for_a_percentile() {
    let rows: &[(&str, f64, bool)] = &[
        ("p99", 999.0, true),
        ("p99", 1000.0, false),
        ("p50", 19.0, true),
        ("p50", 20.0, false),
        ("p10", 99.0, true),
        ("p10", 100.0, false),
        ("p100", 1.0, false),
        ("p0", 1.0, false),
        ("Average", 1.0, false),
        ("tm99", 1.0, false),
    ];
    for (statistic, count, low) in rows {
        assert_eq!(statistic.parse::<Statistic>().unwrap().is_low_sample(*count), *low, "{statistic} {count}");
    }
}
