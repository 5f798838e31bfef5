//! Metric alarms as the engine judges them: data in, states out.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::json;
use ukai_core::alarm::AlarmState::{self, Alarm, InsufficientData, Ok as Fine};
use ukai_core::event::{ActionOutcome, Event};
use ukai_core::input::Command;

use crate::desk::*;

const KEEP: Option<AlarmState> = None;
const OK: Option<AlarmState> = Some(Fine);
const ALARM: Option<AlarmState> = Some(Alarm);
const NO_DATA: Option<AlarmState> = Some(InsufficientData);
const TREATMENTS: [&str; 4] = ["missing", "ignore", "breaching", "notBreaching"];

type Row = (&'static str, [Option<AlarmState>; 4]);

/// CloudWatch's two documented tables: N = 3, five periods fetched; M = 3 and M = 2.
const TABLES: [(u32, [Row; 5]); 2] = [
    (
        3,
        [
            ("0 - X - X", [OK, OK, OK, OK]),
            ("0 - - - -", [OK, OK, OK, OK]),
            ("- - - - -", [NO_DATA, KEEP, ALARM, OK]),
            ("0 X X - X", [ALARM, ALARM, ALARM, ALARM]),
            ("- - X - -", [ALARM, KEEP, ALARM, OK]),
        ],
    ),
    (
        2,
        [
            ("0 - X - X", [ALARM, ALARM, ALARM, ALARM]),
            ("0 0 X 0 X", [ALARM, ALARM, ALARM, ALARM]),
            ("0 - X - -", [OK, OK, ALARM, OK]),
            ("- - - - 0", [OK, OK, ALARM, OK]),
            ("- - - X -", [ALARM, KEEP, ALARM, OK]),
        ],
    ),
];

/// The five minutes before noon as a row of the tables has them.
fn play_row(desk: &mut Desk, row: &str) {
    for (place, cell) in row.split(' ').enumerate() {
        let at = after_noon(60 * (place as i64 - 5) + 30);
        match cell {
            "X" => desk.datum(at, 1.0),
            "0" => desk.datum(at, 0.0),
            _ => {}
        }
    }
}

#[test]
fn every_cell_of_the_documented_tables_played_as_datapoints_from_every_state() {
    let mut cells = 0;
    for (m, row, treatment, wanted) in TABLES.iter().flat_map(|(m, rows)| {
        rows.iter()
            .flat_map(move |(row, wanted)| TREATMENTS.iter().zip(wanted).map(move |(treat, is)| (m, row, treat, is)))
    }) {
        for before in [Fine, Alarm, InsufficientData] {
            let mut desk = Desk::new();
            desk.now = after_noon(-20);
            let members = json!({ "EvaluationPeriods": 3, "DatapointsToAlarm": m, "TreatMissingData": treatment });
            desk.put(metric("a", members)).unwrap();
            play_row(&mut desk, row);
            desk.set("a", before);
            desk.run_until(after_noon(DELAY_S));
            assert_eq!(desk.state("a"), wanted.unwrap_or(before), "M={m} `{row}` {treatment} from {before:?}");
        }
        cells += 1;
    }
    assert_eq!(cells, 40);
}

#[test]
fn a_period_fires_as_soon_as_its_window_is_full() {
    for (period_s, every_s) in [(10, 10), (20, 10), (30, 10), (60, 60), (300, 60)] {
        let mut desk = Desk::new();
        desk.now = after_noon(-15);
        let members = json!({ "EvaluationPeriods": 3, "Period": period_s, "TreatMissingData": "notBreaching" });
        desk.put(metric("a", members)).unwrap();
        for second in (0..900).step_by(10) {
            desk.run_until(after_noon(second));
            let now = desk.now;
            desk.datum(now, 1.0);
        }
        // The oldest of three periods must hold the first datum.
        let fires = after_noon(2 * period_s + every_s + DELAY_S);
        assert_eq!(desk.changes("a").last(), Some(&(fires, Alarm)), "{period_s} s");
    }
}

#[test]
fn actions_run_on_a_change_only_and_not_while_they_are_disabled() {
    let mut desk = Desk::new();
    desk.run_until(after_noon(-15));
    desk.put(metric("a", json!({ "TreatMissingData": "notBreaching" }))).unwrap();
    for minute in 0..10 {
        desk.run_until(after_noon(60 * minute + 30));
        let now = desk.now;
        desk.datum(now, 1.0);
    }
    assert_eq!(desk.messages.len(), 2, "one change to ALARM, two that listen to the topic");
    // Until the last datum has left the evaluation range: one period, and two more.
    desk.run_for(240);
    assert_eq!(desk.state("a"), Fine);
    desk.command(Command::SetAlarmActions { alarms: vec!["a".into()], enabled: false }).unwrap();
    let now = desk.now;
    desk.datum(now, 1.0);
    desk.run_for(60);
    assert_eq!((desk.state("a"), desk.messages.len()), (Alarm, 2));
    let disabled = |event: &Event| matches!(event, Event::AlarmActed { outcome: ActionOutcome::Disabled, .. });
    assert_eq!(desk.count(disabled), 1);
}

#[test]
fn a_state_that_was_set_lasts_until_the_next_evaluation() {
    let mut desk = Desk::new();
    desk.now = after_noon(10);
    desk.put(metric("a", json!({ "TreatMissingData": "notBreaching" }))).unwrap();
    desk.set("a", Alarm);
    assert_eq!(desk.messages.len(), 2, "its actions run");
    desk.run_until(after_noon(60 + DELAY_S - 1));
    assert_eq!(desk.state("a"), Alarm);
    desk.run_until(after_noon(60 + DELAY_S));
    assert_eq!(desk.state("a"), Fine);
}

#[test]
fn a_put_replaces_the_whole_configuration_and_keeps_the_state() {
    let mut desk = Desk::new();
    desk.now = after_noon(10);
    desk.put(metric("a", json!({ "TreatMissingData": "ignore", "AlarmDescription": "old" }))).unwrap();
    desk.set("a", Alarm);
    let since = desk.record("a").since;
    desk.now = after_noon(20);
    desk.put(metric("a", json!({ "TreatMissingData": "ignore", "Period": 300, "AlarmActions": [] }))).unwrap();
    let record = desk.record("a");
    assert_eq!((record.state, record.since, record.configured_at), (Alarm, since, after_noon(20)));
    assert_eq!((&record.definition.description, record.definition.actions.alarm.len()), (&None, 0));
    desk.now = after_noon(30);
    desk.put(composite("a", "TRUE")).unwrap();
    assert!(desk.record("a").definition.composite().is_some(), "another kind starts anew");
}

#[test]
fn another_period_under_a_live_alarm_is_judged_at_once_over_the_same_data() {
    let mut desk = Desk::new();
    desk.now = after_noon(10);
    desk.datum(after_noon(-250), 1.0);
    desk.put(metric("a", json!({ "TreatMissingData": "notBreaching" }))).unwrap();
    assert_eq!(desk.state("a"), Fine);
    desk.put(metric("a", json!({ "TreatMissingData": "notBreaching", "Period": 300 }))).unwrap();
    assert_eq!(desk.state("a"), Alarm);
    desk.put(metric("a", json!({ "TreatMissingData": "notBreaching", "Period": 10 }))).unwrap();
    assert_eq!(desk.state("a"), Fine);
    desk.run_until(after_noon(19));
    desk.datum(after_noon(15), 1.0);
    desk.run_until(after_noon(20 + DELAY_S));
    assert_eq!(desk.state("a"), Alarm, "it is judged every ten seconds now");
}

#[test]
fn a_metric_that_never_comes_is_what_its_treatment_says() {
    for (treatment, wanted) in TREATMENTS.into_iter().zip([InsufficientData, InsufficientData, Alarm, Fine]) {
        let mut desk = Desk::new();
        desk.put(metric("a", json!({ "TreatMissingData": treatment }))).unwrap();
        desk.run_for(7200);
        assert_eq!(desk.state("a"), wanted, "{treatment}");
        assert!(desk.changes("a").len() <= 1, "{treatment}");
    }
}

/// "Alarms that evaluate metrics in the AWS/DynamoDB namespace always ignore missing data" (User Guide).
#[test]
fn missing_data_of_dynamodb_is_ignored_whatever_the_alarm_says() {
    let mut desk = Desk::new();
    desk.put(metric("a", json!({ "Namespace": "AWS/DynamoDB", "TreatMissingData": "breaching" }))).unwrap();
    desk.run_for(300);
    assert_eq!(desk.state("a"), InsufficientData);
    desk.set("a", Fine);
    desk.run_for(300);
    assert_eq!(desk.state("a"), Fine);
}

fn band(name: &str, unit: Option<&str>) -> serde_json::Value {
    let mut stat =
        json!({ "Metric": { "Namespace": "Shop", "MetricName": "Failed" }, "Period": 3600, "Stat": "Average" });
    if let Some(unit) = unit {
        stat["Unit"] = json!(unit);
    }
    json!({
        "AlarmName": name, "EvaluationPeriods": 1, "ComparisonOperator": "GreaterThanUpperThreshold",
        "ThresholdMetricId": "band", "TreatMissingData": "missing",
        "Metrics": [
            { "Id": "m", "MetricStat": stat },
            { "Id": "band", "Expression": "ANOMALY_DETECTION_BAND(m, 2)" },
        ],
    })
}

/// A day of hours is too few for a band; and the band of a unit that has no data is no other unit's.
#[test]
fn an_hourly_metric_has_a_band_and_each_unit_its_own() {
    let mut desk = Desk::new();
    desk.put_all(vec![band("of-another-unit", Some("Seconds")), band("usual", None)]).unwrap();
    for hour in 0..72 {
        desk.run_until(after_noon(hour * 3600 + 20));
        desk.datum(desk.now, if hour == 71 { 500.0 } else { 100.0 + (hour % 7) as f64 });
    }
    assert_eq!(desk.state("usual"), Fine);
    desk.run_until(after_noon(72 * 3600 + 10));
    assert_eq!((desk.state("usual"), desk.state("of-another-unit")), (Alarm, InsufficientData));
}

#[test]
fn a_late_datum_changes_only_the_period_it_belongs_to() {
    let mut desk = Desk::new();
    desk.now = after_noon(10);
    desk.put(metric(
        "three",
        json!({ "EvaluationPeriods": 3, "DatapointsToAlarm": 3, "TreatMissingData": "notBreaching" }),
    ))
    .unwrap();
    desk.put(metric("newest", json!({ "TreatMissingData": "ignore", "AlarmActions": [] }))).unwrap();
    desk.data(&[(after_noon(-150), 1.0), (after_noon(-90), 0.0), (after_noon(-30), 1.0)]);
    desk.run_until(after_noon(40));
    assert_eq!((desk.state("three"), desk.state("newest")), (Fine, InsufficientData));
    desk.datum(after_noon(-85), 5.0);
    // Judged with the next window, which still has all three in its range.
    desk.run_until(after_noon(60 + DELAY_S));
    assert_eq!(desk.state("three"), Alarm);
    assert_eq!(desk.state("newest"), Alarm);
    desk.datum(after_noon(-95), 50.0);
    desk.run_until(after_noon(30 * 60));
    assert_eq!(desk.changes("newest").len(), 1, "what is out of the window changes nothing");
}

#[test]
fn a_clock_that_jumps_back_an_hour_loses_nothing() {
    let mut desk = Desk::new();
    desk.now = after_noon(10);
    desk.put(metric("a", json!({ "TreatMissingData": "notBreaching" }))).unwrap();
    desk.now = after_noon(10 - 3600);
    for minute in 0..60 {
        desk.now = after_noon(10 - 3600 + 60 * minute);
        let now = desk.now;
        desk.datum(now, 1.0);
    }
    desk.set("a", Fine);
    assert!(desk.log.windows(2).all(|pair| pair[0].at <= pair[1].at), "time in the log never goes back");
    desk.run_until(after_noon(180 + DELAY_S));
    assert_eq!(desk.state("a"), Fine, "the data of the hour that came twice is not of now");
    desk.datum(after_noon(190), 1.0);
    desk.run_until(after_noon(240 + DELAY_S));
    assert_eq!(desk.state("a"), Alarm);
    assert_eq!(desk.engine.data_counts(), (61, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_arrival_within_a_period_does_not_matter(
        (given, shuffled) in prop::collection::vec((0i64..300, -5i64..6), 1..40)
            .prop_flat_map(|data| (Just(data.clone()), Just(data).prop_shuffle())),
        statistic in prop::sample::select(vec!["Sum", "Average", "Minimum", "Maximum", "SampleCount"]),
    ) {
        let judged = |data: &[(i64, i64)]| {
            let mut desk = Desk::new();
            desk.now = after_noon(310);
            for (second, value) in data {
                desk.datum(after_noon(*second), *value as f64);
            }
            let members = json!({ "Statistic": statistic, "EvaluationPeriods": 3, "DatapointsToAlarm": 2 });
            desk.put(metric("a", members)).unwrap();
            let record = desk.record("a");
            (record.state, record.reason.clone(), record.reason_data.clone())
        };
        prop_assert_eq!(judged(&given), judged(&shuffled));
    }

    /// As one that looks at the same data afresh has it.
    #[test]
    fn a_running_alarm_is_never_another_than_a_new_one(
        data in prop::collection::vec((0i64..600, -2i64..3, 0i64..120), 0..40),
        m in 1u32..4,
        treatment in prop::sample::select(vec!["missing", "breaching", "notBreaching"]),
    ) {
        let mut desk = Desk::new();
        desk.now = after_noon(0);
        let members = json!({ "EvaluationPeriods": 3, "DatapointsToAlarm": m, "TreatMissingData": treatment });
        desk.put(metric("running", members.clone())).unwrap();
        let mut coming: Vec<(i64, i64, i64)> = data.iter().map(|(at, value, late)| (at + late, *at, *value)).collect();
        coming.sort_unstable();
        for (arrives, at, value) in coming {
            let arrives: Timestamp = after_noon(arrives);
            desk.run_until(arrives.max(desk.now));
            desk.datum(after_noon(at), value as f64);
        }
        let minute = desk.now.as_second().div_euclid(60) * 60 + 60 + DELAY_S;
        desk.run_until(Timestamp::from_second(minute).unwrap());
        desk.put(metric("new", members)).unwrap();
        let late = SignedDuration::from_secs(1);
        prop_assert!(desk.record("running").since <= desk.now + late);
        prop_assert_eq!(desk.state("running"), desk.state("new"));
    }
}

#[test]
fn who_puts_an_alarm_is_told_which_of_its_actions_will_not_run() {
    let mut desk = Desk::new();
    let actions = json!([TOPIC, "arn:aws:sns:eu-west-1:111122223333:else", "ukai:page:nobody"]);
    let said = desk.put(metric("a", json!({ "AlarmActions": actions }))).unwrap();
    assert_eq!(
        said,
        "a is put; actions that will not run: arn:aws:sns:eu-west-1:111122223333:else (no subscriber lists it in its \
         topics), ukai:page:nobody (no peer is named nobody)"
    );
    assert_eq!(desk.put(metric("b", json!({ "AlarmActions": [TOPIC] }))), Ok("b is put".to_owned()));
}

#[test]
fn who_puts_a_mute_rule_is_told_when_it_mutes() {
    let mut desk = Desk::new();
    desk.put(metric("a", json!({}))).unwrap();
    let mut put = |expression: &str, alarms: &[&str]| {
        let rule = serde_json::from_value(json!({
            "Name": "quiet",
            "Rule": { "Schedule": { "Expression": expression, "Duration": "PT1H" } },
            "MuteTargets": { "AlarmNames": alarms },
        }));
        desk.command(Command::PutMuteRule { rule: Box::new(rule.unwrap()) }).unwrap()
    };
    assert_eq!(
        put("cron(* * * * *)", &["a"]).split(", until").next(),
        Some("the mute rule quiet is put; it mutes now")
    );
    assert!(put("at(2999-01-01T00:00)", &["a"]).ends_with("it mutes from 2999-01-01T00:00:00Z"));
    assert!(put("at(2001-01-01T00:00)", &["a"]).ends_with("its time is over, so it mutes nothing"));
    assert!(put("cron(* * * * *)", &[]).ends_with("it names no alarm, so it mutes nothing"));
}
