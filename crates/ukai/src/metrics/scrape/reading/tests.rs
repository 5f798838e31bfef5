use std::time::Duration;

use ukai_core::metric::Namespace;

use super::super::Keep;
use super::*;

fn target(keep: &[&str]) -> Target {
    Target {
        url: "http://127.0.0.1:9100/metrics".parse().unwrap(),
        interval: Duration::from_secs(10),
        namespace: Namespace::new("Prometheus").unwrap(),
        keep: keep.iter().map(|keep| Keep::new(keep)).collect(),
        token: None,
    }
}

fn now() -> Timestamp {
    Timestamp::from_second(1_767_225_600).unwrap()
}

fn shown_data(read: &Read) -> Vec<(String, f64)> {
    read.data
        .iter()
        .map(|datum| match &datum.value {
            DatumValue::Single(value) => (datum.metric.to_string(), *value),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_counter_is_what_it_grew_by_and_starts_again() {
    let mut reading = Reading::new(&target(&[]));
    let mut values = Vec::new();
    for value in [100, 130, 130, 20, 25] {
        let text = format!("# TYPE c_total counter\nc_total{{a=\"b\"}} {value}\n");
        let read = reading.read(&text, Format::Text, now());
        values.extend(shown_data(&read));
    }
    let name = "Prometheus c_total {a=b, instance=127.0.0.1:9100}";
    assert_eq!(values, [30.0, 0.0, 20.0, 5.0].map(|value| (name.to_owned(), value)));
    // A series that was away is new again.
    reading.read("", Format::Text, now());
    assert!(reading.read("# TYPE c_total counter\nc_total{a=\"b\"} 99\n", Format::Text, now()).data.is_empty());
}

#[test]
fn gauges_are_as_they_are_and_what_is_no_number_is_refused() {
    let mut reading = Reading::new(&target(&[]));
    let text = "# TYPE g gauge\ng{instance=\"x\",empty=\"\"} -1.5\ng2 NaN\ng3 +Inf\nage_seconds 4 1767225590000\n";
    let read = reading.read(text, Format::Text, now());
    assert_eq!(
        shown_data(&read),
        [
            ("Prometheus g {exported_instance=x, instance=127.0.0.1:9100}".to_owned(), -1.5),
            ("Prometheus age_seconds {instance=127.0.0.1:9100}".to_owned(), 4.0),
        ]
    );
    assert_eq!((read.data[1].unit, read.data[1].at.as_second()), (Unit::Seconds, 1_767_225_590));
    assert_eq!((read.refused, read.first_refusal.as_deref()), (2, Some("line 3, g2: NaN is no value")));
    assert_eq!((read.data[0].at, read.data[0].high_resolution), (now(), true));
}

#[test]
fn a_histogram_is_what_came_into_each_bucket() {
    let mut reading = Reading::new(&target(&[]));
    let text = |low: u32, mid: u32, all: u32| {
        format!(
            "# TYPE h_seconds histogram\nh_seconds_bucket{{p=\"/\",le=\"+Inf\"}} {all}\nh_seconds_bucket{{p=\"/\",le=\"1\"}} {low}\n\
             h_seconds_bucket{{p=\"/\",le=\"3\"}} {mid}\nh_seconds_sum{{p=\"/\"}} {all}\nh_seconds_count{{p=\"/\"}} {all}\n"
        )
    };
    let mut many = |text: String| -> Vec<DatumValue> {
        let read = reading.read(&text, Format::Text, now());
        assert_eq!(read.refused, 0, "{:?}", read.first_refusal);
        read.data
            .into_iter()
            .filter(|datum| &*datum.metric.metric_name == "h_seconds")
            .map(|datum| datum.value)
            .collect()
    };
    assert!(many(text(1, 1, 1)).is_empty());
    assert_eq!(many(text(3, 7, 8)), [DatumValue::Many(vec![(0.5, 2.0), (2.0, 4.0), (3.0, 1.0)])]);
    assert!(many(text(3, 7, 8)).is_empty(), "nothing came");
    assert_eq!(many(text(1, 1, 1)), [DatumValue::Many(vec![(0.5, 1.0)])], "it started again");
    assert!(many(text(1, 1, 1).replace("\"3\"", "\"4\"")).is_empty(), "other buckets");
}

#[test]
fn what_is_kept_is_named() {
    let text = "# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_count 1\nnode_load1 1\nnode_load15 2\nnode_network_up 1\nother 1\n";
    let mut reading = Reading::new(&target(&["node_load1", "node_network_*", "h"]));
    let names: Vec<String> =
        shown_data(&reading.read(text, Format::Text, now())).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!((reading.histograms.len(), reading.counters.len()), (1, 1));
}

#[test]
fn a_bad_series_is_told_and_the_others_are_taken() {
    let labels: Vec<String> = (0..30).map(|n| format!("l{n}=\"v\"")).collect();
    let text = format!(
        "good 1\nwrong\nmany{{{}}} 1\nforeign{{a=\"ü\"}} 1\nold 1 1\nhuge 1e200\n# TYPE h histogram\nh_bucket{{}} 1\nh_bucket{{le=\"1\"}} -1\ngood2 2\n",
        labels.join(",")
    );
    let read = Reading::new(&target(&[])).read(&text, Format::Text, now());
    assert_eq!((read.data.len(), read.refused), (2, 7));
    assert_eq!(read.first_refusal.as_deref(), Some("line 2: a sample needs a name and a value"));
}

#[test]
fn a_huge_exporter_is_cut_at_the_bound() {
    let text: String = (0..SERIES_MAX + 10).map(|n| format!("g{n} 1\n")).collect();
    let read = Reading::new(&target(&[])).read(&text, Format::Text, now());
    assert_eq!((read.data.len(), read.refused), (SERIES_MAX, 10));
    assert!(read.first_refusal.unwrap().contains("`keep`"));
}

#[test]
fn units_come_from_names() {
    for (name, declared, is_counter, expected) in [
        ("a_seconds_total", None, true, Unit::Seconds),
        ("a_seconds_sum", None, true, Unit::Seconds),
        ("a_bytes", None, false, Unit::Bytes),
        ("a_total", None, true, Unit::Count),
        ("a_ratio", None, false, Unit::None),
        ("a", Some("seconds"), false, Unit::Seconds),
    ] {
        assert_eq!(unit(name, declared, is_counter), expected, "{name}");
    }
}
