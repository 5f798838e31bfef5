//! Mute rules as they are put, and the windows they make, through the changes of the clocks.

use jiff::civil::DateTime;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, ToSpan};
use proptest::prelude::*;
use serde_json::json;

use super::cron::Cron;
use super::*;

fn rule(expression: &str, duration: &str, timezone: Option<&str>) -> MuteRule {
    MuteRule::new(request(expression, duration, timezone)).expect(expression)
}

fn request(expression: &str, duration: &str, timezone: Option<&str>) -> PutAlarmMuteRule {
    let schedule = ScheduleText {
        expression: expression.into(),
        duration: duration.into(),
        timezone: timezone.map(str::to_owned),
    };
    PutAlarmMuteRule {
        name: "nightly".into(),
        description: None,
        rule: Rule { schedule },
        mute_targets: Some(MuteTargets { alarm_names: vec!["pay-down".into()] }),
        start_date: None,
        expire_date: None,
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().expect(text)
}

fn window(start: &str, end: &str) -> Option<MuteWindow> {
    Some(MuteWindow { start: at(start), end: at(end) })
}

/// The windows from `from` on, found by going from change to change.
fn windows(rule: &MuteRule, from: &str, count: usize) -> Vec<(String, String)> {
    let mut now = at(from);
    let mut found = Vec::new();
    while found.len() < count {
        if let Some(window) = rule.is_muting(now) {
            found.push((window.start.to_string(), window.end.to_string()));
        }
        let Some(next) = rule.next_change(now) else { break };
        assert!(next > now, "it must get on: {now}");
        now = next;
    }
    found
}

fn pairs(found: &[(String, String)]) -> Vec<(&str, &str)> {
    found.iter().map(|(start, end)| (&**start, &**end)).collect()
}

#[test]
fn a_rule_reads_and_writes_the_shape_of_the_api() {
    let text = json!({
        "Name": "nightly", "Description": "backups",
        "Rule": {"Schedule": {"Expression": "cron(0 2 * * *)", "Duration": "PT4H", "Timezone": "Asia/Tokyo"}},
        "MuteTargets": {"AlarmNames": ["pay-down", "pay-slow"]},
        "StartDate": "2026-01-01T00:00:00Z", "ExpireDate": "2027-01-01T00:00:00Z"
    });
    let rule: MuteRule = serde_json::from_value(text.clone()).unwrap();
    assert_eq!(serde_json::to_value(&rule).unwrap(), text);
    assert!(rule.targets("pay-slow") && !rule.targets("pay") && !rule.targets("Pay-Down"));
    assert_eq!(rule.name(), "nightly");
    let least = json!({"Name": "n", "Rule": {"Schedule": {"Expression": "at(2026-05-10T14:00)", "Duration": "PT1M"}}});
    let rule: MuteRule = serde_json::from_value(least.clone()).unwrap();
    assert_eq!(serde_json::to_value(&rule).unwrap(), least);
    assert!(!rule.targets("n"));
    let wrong = json!({"Name": "n", "Rule": {"Schedule": {"Expression": "rate(1 day)", "Duration": "PT1M"}}});
    assert!(serde_json::from_value::<MuteRule>(wrong).unwrap_err().to_string().contains("Expression `rate(1 day)`"));
}

#[test]
fn a_window_begins_at_its_start_and_is_over_at_its_end() {
    let daily = rule("cron(0 2 * * *)", "PT4H", None);
    assert_eq!(daily.is_muting(at("2026-01-01T01:59:59.999Z")), None);
    assert_eq!(daily.is_muting(at("2026-01-01T02:00:00Z")), window("2026-01-01T02:00:00Z", "2026-01-01T06:00:00Z"));
    assert_eq!(daily.is_muting(at("2026-01-01T05:59:59.999Z")), window("2026-01-01T02:00:00Z", "2026-01-01T06:00:00Z"));
    assert_eq!(daily.is_muting(at("2026-01-01T06:00:00Z")), None);
    assert_eq!(daily.next_change(at("2026-01-01T01:00:30Z")), Some(at("2026-01-01T02:00:00Z")));
    assert_eq!(daily.next_change(at("2026-01-01T02:00:00Z")), Some(at("2026-01-01T06:00:00Z")));
    assert_eq!(daily.next_change(at("2026-01-01T06:00:00Z")), Some(at("2026-01-02T02:00:00Z")));
    assert_eq!(daily.status(at("2026-01-01T03:00:00Z")), MuteRuleStatus::Active);
    assert_eq!(daily.status(at("2026-01-01T07:00:00Z")), MuteRuleStatus::Scheduled);
}

#[test]
fn a_weekend_in_tokyo() {
    let weekend = rule("cron(0 18 * * FRI)", "P2DT12H", Some("Asia/Tokyo"));
    let found = windows(&weekend, "2026-01-01T00:00:00Z", 1);
    assert_eq!(pairs(&found), [("2026-01-02T09:00:00Z", "2026-01-04T21:00:00Z")]);
}

#[test]
fn at_comes_once() {
    let once = rule("at(2026-05-10T14:00)", "PT90M", Some("Europe/Berlin"));
    assert_eq!(
        windows(&once, "2026-01-01T00:00:00Z", 9),
        [("2026-05-10T12:00:00Z".into(), "2026-05-10T13:30:00Z".into())]
    );
    assert_eq!(once.status(at("2026-05-10T11:00:00Z")), MuteRuleStatus::Scheduled);
    assert_eq!(once.status(at("2026-05-10T13:30:00Z")), MuteRuleStatus::Expired);
    assert_eq!(once.next_change(at("2026-05-10T13:30:00Z")), None);
}

#[test]
fn a_window_whose_start_the_clocks_skip_begins_when_they_have() {
    // New York, 8 March 2026: 02:00 EST is followed by 03:00 EDT, at 07:00Z.
    let nightly = rule("cron(30 2 * * *)", "PT1H", Some("America/New_York"));
    let found = windows(&nightly, "2026-03-07T12:00:00Z", 2);
    assert_eq!(
        pairs(&found),
        [("2026-03-08T07:00:00Z", "2026-03-08T08:00:00Z"), ("2026-03-09T06:30:00Z", "2026-03-09T07:30:00Z")]
    );
    let once = rule("at(2026-03-08T02:59)", "PT1M", Some("America/New_York"));
    assert_eq!(once.is_muting(at("2026-03-08T07:00:30Z")), window("2026-03-08T07:00:00Z", "2026-03-08T07:01:00Z"));
    // Several skipped starts are one, and one with that of 03:00.
    let often = rule("cron(0,20,40 2,3 * * *)", "PT5M", Some("America/New_York"));
    let found = windows(&often, "2026-03-08T06:00:00Z", 2);
    assert_eq!(
        pairs(&found),
        [("2026-03-08T07:00:00Z", "2026-03-08T07:05:00Z"), ("2026-03-08T07:20:00Z", "2026-03-08T07:25:00Z")]
    );
}

#[test]
fn a_start_that_comes_twice_starts_once() {
    // New York, 1 November 2026: 01:30 comes at 05:30Z (EDT) and again at 06:30Z (EST).
    let nightly = rule("cron(30 1 * * *)", "PT20M", Some("America/New_York"));
    let found = windows(&nightly, "2026-11-01T00:00:00Z", 2);
    assert_eq!(
        pairs(&found),
        [("2026-11-01T05:30:00Z", "2026-11-01T05:50:00Z"), ("2026-11-02T06:30:00Z", "2026-11-02T06:50:00Z")]
    );
    assert_eq!(nightly.is_muting(at("2026-11-01T06:35:00Z")), None);
    // In the second pass, before the civil time of the start, a window of the first pass still lasts.
    let long = rule("cron(30 1 * * *)", "PT1H", Some("America/New_York"));
    assert_eq!(long.is_muting(at("2026-11-01T06:10:00Z")), window("2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z"));
}

#[test]
fn a_day_is_24_hours_also_over_a_change_of_the_clocks() {
    let day = rule("cron(0 12 * * SAT)", "P1D", Some("America/New_York"));
    let found = windows(&day, "2026-03-06T00:00:00Z", 1);
    assert_eq!(pairs(&found), [("2026-03-07T17:00:00Z", "2026-03-08T17:00:00Z")]);
}

#[test]
fn a_day_that_a_zone_leaves_out_is_skipped_to_its_end() {
    // Samoa left out 30 December 2011.
    let daily = rule("cron(0 9 * * *)", "PT1H", Some("Pacific/Apia"));
    let found = windows(&daily, "2011-12-29T12:00:00Z", 3);
    assert_eq!(
        pairs(&found),
        [
            ("2011-12-29T19:00:00Z", "2011-12-29T20:00:00Z"),
            ("2011-12-30T10:00:00Z", "2011-12-30T11:00:00Z"),
            ("2011-12-30T19:00:00Z", "2011-12-30T20:00:00Z")
        ]
    );
}

#[test]
fn windows_that_overlap_or_touch_are_one() {
    let touching = rule("cron(0 2,3,5 * * *)", "PT1H", None);
    let found = windows(&touching, "2026-01-01T00:00:00Z", 2);
    assert_eq!(
        pairs(&found),
        [("2026-01-01T02:00:00Z", "2026-01-01T04:00:00Z"), ("2026-01-01T05:00:00Z", "2026-01-01T06:00:00Z")]
    );
    assert_eq!(touching.is_muting(at("2026-01-01T03:30:00Z")), window("2026-01-01T02:00:00Z", "2026-01-01T04:00:00Z"));
    let overlapping = rule("cron(*/10 2 * * *)", "PT45M", None);
    for second in ["2026-01-01T02:00:00Z", "2026-01-01T02:33:00Z", "2026-01-01T03:34:59Z"] {
        assert_eq!(
            overlapping.is_muting(at(second)),
            window("2026-01-01T02:00:00Z", "2026-01-01T03:35:00Z"),
            "{second}"
        );
    }
}

#[test]
fn a_rule_that_always_mutes_is_looked_at_again_and_again() {
    let always = rule("cron(* * * * *)", "PT1M", None);
    let mut now = at("2026-01-01T00:00:30Z");
    for _ in 0..20 {
        let next = always.next_change(now).unwrap();
        assert!(next > now && always.is_muting(next).is_some());
        now = next;
    }
    assert!(now > at("2026-01-03T00:00:00Z"));
}

#[test]
fn start_and_expire_dates_cut_through_windows() {
    let dated = |start: Option<&str>, expire: Option<&str>| {
        let mut request = request("cron(0 2 * * *)", "PT4H", None);
        (request.start_date, request.expire_date) = (start.map(at), expire.map(at));
        MuteRule::new(request).unwrap()
    };
    let late = dated(Some("2026-01-01T03:00:00Z"), Some("2026-01-02T04:00:00Z"));
    assert_eq!(
        windows(&late, "2025-12-30T00:00:00Z", 9),
        [
            ("2026-01-01T03:00:00Z".into(), "2026-01-01T06:00:00Z".into()),
            ("2026-01-02T02:00:00Z".into(), "2026-01-02T04:00:00Z".into())
        ]
    );
    assert_eq!(late.status(at("2026-01-02T04:00:00Z")), MuteRuleStatus::Expired);
    let between = dated(Some("2026-01-01T10:00:00Z"), Some("2026-01-01T20:00:00Z"));
    assert_eq!(between.next_change(at("2025-12-30T00:00:00Z")), None);
    let exact = dated(Some("2026-01-01T02:00:00Z"), None);
    assert_eq!(exact.next_change(at("2025-12-30T00:00:00Z")), Some(at("2026-01-01T02:00:00Z")));
}

#[test]
fn what_is_wrong_is_said() {
    let error = |expression: &str, duration: &str, zone: Option<&str>| {
        MuteRule::new(request(expression, duration, zone)).expect_err(expression).to_string()
    };
    for expression in [
        "cron 0 2 * * *",
        "at()",
        "",
        "cron(0 2 * * *",
        "at(2026-5-1T1:00)",
        "at(2026-02-30T10:00)",
        "at(2026-05-10 14:00)",
    ] {
        assert!(error(expression, "PT1H", None).starts_with("Rule.Schedule: Expression"), "{expression}");
    }
    for duration in ["1h", "PT", "P1M", "P1Y", "-PT1H", "PT1H30", "PT90.5S", "3600"] {
        assert!(error("cron(0 2 * * *)", duration, None).contains("is not an ISO 8601 duration"), "{duration}");
    }
    for duration in ["PT59S", "P15DT1S", "P3W", "PT361H"] {
        assert!(error("cron(0 2 * * *)", duration, None).contains("PT1M (1 minute) to P15D"), "{duration}");
    }
    for duration in ["PT1M", "PT60S", "P15D", "P2W", "PT360H", "P2DT12H"] {
        assert!(MuteRule::new(request("cron(0 2 * * *)", duration, None)).is_ok(), "{duration}");
    }
    for zone in ["Mars/Olympus", "+09:00", "", "../etc/passwd"] {
        assert!(error("cron(0 2 * * *)", "PT1H", Some(zone)).contains("Timezone"), "{zone}");
    }
    assert!(MuteRule::new(request("cron(0 2 * * *)", "PT1H", Some("UTC"))).is_ok());
}

#[test]
fn names_counts_and_dates_are_checked() {
    let broken = |change: &dyn Fn(&mut PutAlarmMuteRule)| {
        let mut request = request("cron(0 2 * * *)", "PT1H", None);
        change(&mut request);
        MuteRule::new(request).expect_err("must be refused")
    };
    let targets = |names: Vec<String>| Some(MuteTargets { alarm_names: names });
    assert_eq!(broken(&|r| r.name.clear()), MuteRuleError::NameLength { field: "Name", length: 0 });
    assert_eq!(broken(&|r| r.name = "é".repeat(256)), MuteRuleError::NameLength { field: "Name", length: 256 });
    assert_eq!(broken(&|r| r.name = "a\nb".into()), MuteRuleError::ControlCharacter("Name"));
    assert_eq!(broken(&|r| r.description = Some("x".repeat(1025))), MuteRuleError::DescriptionTooLong(1025));
    assert_eq!(broken(&|r| r.mute_targets = targets(vec!["a".into(); 101])), MuteRuleError::TooManyAlarms(101));
    assert!(matches!(broken(&|r| r.mute_targets = targets(vec![String::new()])), MuteRuleError::NameLength { .. }));
    let same = |r: &mut PutAlarmMuteRule| {
        (r.start_date, r.expire_date) = (Some(Timestamp::UNIX_EPOCH), Some(Timestamp::UNIX_EPOCH))
    };
    assert!(matches!(broken(&same), MuteRuleError::ExpiresBeforeStart { .. }));
}

fn any_rule() -> impl Strategy<Value = MuteRule> {
    let expressions = vec![
        "cron(0 2 * * *)",
        "cron(30 1 * * *)",
        "cron(*/20 * * * *)",
        "cron(15 0-3 * * SAT-SUN)",
        "cron(0 0 1 * *)",
        "cron(30 2 8 3 *)",
        "at(2026-03-08T02:30)",
        "at(2026-11-01T01:30)",
        "cron(0 0 29 2 *)",
    ];
    let durations = vec!["PT1M", "PT20M", "PT1H", "PT4H", "P1D", "P15D"];
    let zones =
        vec![None, Some("America/New_York"), Some("Australia/Lord_Howe"), Some("Asia/Tokyo"), Some("Pacific/Apia")];
    (prop::sample::select(expressions), prop::sample::select(durations), prop::sample::select(zones))
        .prop_map(|(expression, duration, zone)| rule(expression, duration, zone))
}

proptest! {
    #[test]
    fn between_two_changes_nothing_changes(
        rule in any_rule(),
        start in prop::sample::select(vec!["2026-03-05T00:00:00Z", "2026-04-03T00:00:00Z", "2026-10-30T00:00:00Z"]),
        minutes in 0i64..6_000,
        parts in prop::collection::vec(1i64..1_000, 1..8),
    ) {
        let now = at(start).checked_add(minutes.minutes()).unwrap();
        let muting = rule.is_muting(now);
        if let Some(window) = muting {
            prop_assert!(window.start <= now && now < window.end);
        }
        let Some(next) = rule.next_change(now) else { return Ok(()) };
        prop_assert!(next > now);
        // Joined windows may go on past the end that was told, but only where the bound on joining was reached.
        let goes_on = muting.is_some() && rule.is_muting(next).is_some();
        prop_assert!(!goes_on || next.duration_since(now) > SignedDuration::from_hours(5 * 24));
        prop_assert!(goes_on || muting.is_some() != rule.is_muting(next).is_some());
        let length = next.duration_since(now).as_secs();
        for part in parts {
            let inside = now.checked_add(SignedDuration::from_secs(length * part / 1_000)).unwrap();
            prop_assert_eq!(rule.is_muting(inside).is_some(), muting.is_some(), "at {}", inside);
            let told = rule.next_change(inside);
            prop_assert!(told == Some(next) || (goes_on && told > Some(next)), "at {}: {:?}", inside, told);
        }
    }

    #[test]
    fn it_mutes_exactly_where_looking_at_each_minute_says(
        expression in prop::sample::select(vec!["0 2 * * *", "30 1 * * *", "*/45 1-2 * * *", "10 0 * * SUN", "59 23 * * *"]),
        zone in prop::sample::select(vec!["America/New_York", "Australia/Lord_Howe", "Europe/Dublin", "UTC"]),
        minutes in prop::sample::select(vec![1i64, 20, 60, 240]),
        day in prop::sample::select(vec![
            "2026-03-08T00:00:00Z", "2026-11-01T00:00:00Z", "2026-04-04T09:00:00Z", "2026-10-03T09:00:00Z",
            "2026-03-28T20:00:00Z", "2026-10-24T20:00:00Z",
        ]),
        offset in 0i64..1_500,
    ) {
        let rule = rule(&format!("cron({expression})"), &format!("PT{minutes}M"), Some(zone));
        let cron = Cron::parse(expression).unwrap();
        let zone = TimeZoneDatabase::bundled().get(zone).unwrap();
        let now = at(day).checked_add(offset.minutes()).unwrap();
        let covered = (0..minutes).any(|back| starts_at(&cron, &zone, now.checked_sub(back.minutes()).unwrap()));
        prop_assert_eq!(rule.is_muting(now).is_some(), covered, "at {}", now);
    }
}

/// Whether a window begins in this minute, told from the clocks alone.
fn starts_at(cron: &Cron, zone: &TimeZone, minute: Timestamp) -> bool {
    let matches = |civil: DateTime| cron.next(civil) == Some(civil);
    let civil = zone.to_datetime(minute);
    let before = zone.to_datetime(minute.checked_sub(1.minute()).unwrap()).checked_add(1.minute()).unwrap();
    let skipped =
        (0..civil.duration_since(before).as_mins()).any(|on| matches(before.checked_add(on.minutes()).unwrap()));
    let second_time = zone.to_timestamp(civil).unwrap() != minute;
    skipped || (matches(civil) && !second_time)
}
