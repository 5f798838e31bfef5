//! Alarms as people meet them: put, judged, told of, moved, muted, across restarts.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::process::Output;
use std::thread;

use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::place::{PAUSE, Place, TRIES, free, json, subscriber, ukai};

const TOKEN: &str = "t0ken";

/// A daemon with a listener for the application.
pub fn listening(more: &str) -> (Place, SocketAddr) {
    let address = free();
    let mut place = Place::new();
    fs::write(place.dir.path().join("token"), TOKEN).unwrap();
    place.configure(&format!("[application]\nlisten = \"{address}\"\ntoken_file = \"token\"\n{more}"));
    place.start();
    (place, address)
}

/// `PutMetricData`, by a client that is not ours.
fn put(address: SocketAddr, data: &[Value]) {
    let body = json!({"Namespace": "T", "MetricData": data}).to_string();
    let output = std::process::Command::new("curl")
        .args(["-sS", "--fail-with-body", "-H", &format!("Authorization: Bearer {TOKEN}")])
        .args(["-H", "Content-Type: application/json", "--data-binary", &body])
        .arg(format!("http://{address}/v1/metric-data"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn datum(metric: &str, at_s: i64, value: f64) -> Value {
    json!({"MetricName": metric, "Timestamp": at_s, "Value": value})
}

fn alarm(name: &str, metric: &str, more: Value) -> Value {
    let mut alarm = json!({
        "AlarmName": name, "Namespace": "T", "MetricName": metric, "Statistic": "Maximum", "Period": 60,
        "EvaluationPeriods": 3, "Threshold": 1.0, "ComparisonOperator": "GreaterThanThreshold",
    });
    alarm.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    alarm
}

pub fn import(place: &Place, alarms: &[Value]) -> Output {
    let file = place.dir.path().join("alarms.json");
    fs::write(&file, json!({"MetricAlarms": alarms}).to_string()).unwrap();
    place.ask(&["alarms", "import", &file.display().to_string()])
}

pub fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(both).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

pub fn show(place: &Place, name: &str) -> Value {
    let output = place.ask(&["alarms", "show", name, "--json"]);
    assert_eq!(code(&output), 0, "{}", said(&output));
    json(&output)
}

pub fn wait_for_state(place: &Place, name: &str, state: &str) -> Value {
    for _ in 0..3 * TRIES {
        let shown = show(place, name);
        if shown["state"] == state {
            return shown;
        }
        thread::sleep(PAUSE);
    }
    panic!("{name} never was {state}: {}", show(place, name));
}

fn history(place: &Place, name: &str) -> Vec<Value> {
    let output = place.ask(&["alarms", "history", name, "--json"]);
    assert_eq!(code(&output), 0, "{}", said(&output));
    json(&output)["AlarmHistoryItems"].as_array().unwrap().clone()
}

/// The end of the last whole minute, with time left in this one for what comes.
fn minute() -> i64 {
    loop {
        let second = Timestamp::now().as_second();
        if (5..40).contains(&second.rem_euclid(60)) {
            return second.div_euclid(60) * 60;
        }
        thread::sleep(PAUSE);
    }
}

/// `0 - X`, the newest on the right, as values of one metric.
fn row(metric: &str, cells: &str, end_s: i64) -> Vec<Value> {
    let cells: Vec<&str> = cells.split(' ').collect();
    let value = |cell: &str| match cell {
        "X" => Some(2.0),
        "0" => Some(0.0),
        _ => None,
    };
    let count = i64::try_from(cells.len()).unwrap();
    let start = |place: usize| end_s - (count - i64::try_from(place).unwrap()) * 60;
    cells.iter().enumerate().filter_map(|(place, cell)| Some(datum(metric, start(place), value(cell)?))).collect()
}

/// Row, and what missing, ignore, breaching and notBreaching make of it (CloudWatch User Guide, "Configuring how CloudWatch
/// alarms treat missing data"): M, N = 3, range 5.
const TABLES: [(u32, &str, [&str; 4]); 10] = [
    (3, "0 - X - X", ["OK", "OK", "OK", "OK"]),
    (3, "0 - - - -", ["OK", "OK", "OK", "OK"]),
    (3, "- - - - -", ["INSUFFICIENT_DATA", "keep", "ALARM", "OK"]),
    (3, "0 X X - X", ["ALARM", "ALARM", "ALARM", "ALARM"]),
    (3, "- - X - -", ["ALARM", "keep", "ALARM", "OK"]),
    (2, "0 - X - X", ["ALARM", "ALARM", "ALARM", "ALARM"]),
    (2, "0 0 X 0 X", ["ALARM", "ALARM", "ALARM", "ALARM"]),
    (2, "0 - X - -", ["OK", "OK", "ALARM", "OK"]),
    (2, "- - - - 0", ["OK", "OK", "ALARM", "OK"]),
    (2, "- - - X -", ["ALARM", "keep", "ALARM", "OK"]),
];
const TREATMENTS: [&str; 4] = ["missing", "ignore", "breaching", "notBreaching"];

#[test]
fn all_forty_cells_of_the_documented_tables() {
    let (place, address) = listening("");
    let (mut alarms, mut wanted) = (Vec::new(), BTreeMap::new());
    for (number, (m, _, states)) in TABLES.iter().enumerate() {
        for (treat, state) in TREATMENTS.iter().zip(states) {
            let name = format!("row-{number}-{treat}");
            let more = json!({"DatapointsToAlarm": m, "TreatMissingData": treat});
            alarms.push(alarm(&name, &format!("row-{number}"), more));
            wanted.insert(name, *state);
        }
    }
    let end_s = minute();
    for (number, (_, cells, _)) in TABLES.iter().enumerate() {
        let data = row(&format!("row-{number}"), cells, end_s);
        if !data.is_empty() {
            put(address, &data);
        }
    }
    let imported = import(&place, &alarms);
    let listed = json(&place.ask(&["alarms", "--json"]));
    assert_eq!(
        Timestamp::now().as_second().div_euclid(60) * 60,
        end_s,
        "the minute was over too soon for this machine"
    );
    assert_eq!(code(&imported), 0, "{}", said(&imported));
    let mut seen = BTreeMap::new();
    for one in listed.as_array().unwrap() {
        let name = one["name"].as_str().unwrap().to_owned();
        if let Some(wanted) = wanted.get(&name) {
            let untouched = one["reason"] == "Unchecked: Initial alarm creation";
            assert_eq!(untouched, matches!(*wanted, "keep" | "INSUFFICIENT_DATA"), "{one}");
            let state = if *wanted == "keep" { "INSUFFICIENT_DATA" } else { wanted };
            assert_eq!(one["state"], state, "{one}");
            seen.insert(name, *wanted);
        }
    }
    assert_eq!(seen, wanted);
    for (name, wanted) in wanted.iter().filter(|(name, _)| name.starts_with("row-4") || name.starts_with("row-2")) {
        let before_s = (end_s + 60) * 1000;
        let updates = history(&place, name).into_iter().filter(|item| {
            let at: Timestamp = item["Timestamp"].as_str().unwrap().parse().unwrap();
            item["HistoryItemType"] == "StateUpdate" && at.as_millisecond() < before_s
        });
        let is_kept = matches!(*wanted, "keep" | "INSUFFICIENT_DATA");
        assert_eq!(updates.count(), usize::from(!is_kept), "{name}");
    }
}

/// The windows of the metric `m`, as they are on the disk.
fn windows(place: &Place) -> String {
    let db = rusqlite::Connection::open(place.data().join("metrics.sqlite")).unwrap();
    let chunks = "SELECT ifnull(group_concat(hex(bytes)), '') FROM chunks \
                  JOIN metrics ON metrics.id = chunks.metric WHERE metrics.metric LIKE '%\"MetricName\":\"m\"%'";
    db.query_row(chunks, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_restart_and_a_kill_keep_m_of_n() {
    let (mut place, address) = listening("");
    let of_n = alarm(
        "m-of-n",
        "m",
        json!({"EvaluationPeriods": 10, "DatapointsToAlarm": 3, "TreatMissingData": "notBreaching"}),
    );
    let end_s = minute();
    put(address, &[datum("m", end_s - 240, 2.0)]);
    assert_eq!(code(&import(&place, std::slice::from_ref(&of_n))), 0);
    assert_eq!(wait_for_state(&place, "m-of-n", "OK")["judged"]["rule"], "filled");
    place.signal(Signal::TERM);
    assert_eq!(place.ended(), 0);

    place.start();
    let before = windows(&place);
    assert!(!before.is_empty(), "the stop kept nothing");
    put(address, &[datum("m", end_s - 180, 3.0)]);
    for _ in 0..TRIES {
        if windows(&place) != before {
            break;
        }
        thread::sleep(PAUSE);
    }
    assert_ne!(windows(&place), before, "the windows were never kept");
    place.kill();

    place.start();
    assert_eq!(show(&place, "m-of-n")["state"], "OK");
    put(address, &[datum("m", end_s - 120, 4.0)]);
    // Put again, it is judged at once.
    assert_eq!(code(&import(&place, &[of_n])), 0);
    let shown = wait_for_state(&place, "m-of-n", "ALARM");
    let periods = shown["judged"]["periods"].as_array().unwrap();
    let real: Vec<&Value> =
        periods.iter().filter(|period| period["became"] == "judged").map(|one| &one["value"]).collect();
    assert_eq!(real, [&json!(2.0), &json!(3.0), &json!(4.0)]);
    let kinds: Vec<Value> = history(&place, "m-of-n").iter().map(|item| item["HistorySummary"].clone()).collect();
    let wanted = [
        "Alarm updated from OK to ALARM",
        "Alarm \"m-of-n\" updated",
        "Alarm updated from INSUFFICIENT_DATA to OK",
        "Alarm \"m-of-n\" created",
    ];
    assert_eq!(kinds, wanted.map(Value::from));
}

#[test]
fn an_action_reaches_who_listens_to_its_topic_and_a_state_set_by_hand_snaps_back() {
    let (listener, taken) = subscriber();
    let topic = "arn:aws:sns:ap-northeast-1:111122223333:ops";
    let notify = format!(
        "[[notify]]\nname = \"ops\"\nkind = \"webhook\"\nurl = \"http://{listener}/\"\ntopics = [\"{topic}\"]\n"
    );
    let (place, address) = listening(&notify);
    put(address, &[datum("m", Timestamp::now().as_second() - 60, 0.5)]);
    // Ten-second periods: judged again within ten seconds.
    let more = json!({
        "Period": 10, "EvaluationPeriods": 1, "TreatMissingData": "notBreaching",
        "AlarmActions": [topic, "arn:aws:sns:ap-northeast-1:111122223333:nobody"], "AlarmDescription": "for a test",
    });
    assert_eq!(code(&import(&place, &[alarm("loud", "m", more)])), 0);
    wait_for_state(&place, "loud", "OK");
    let set = place.ask(&[
        "alarms",
        "set-state",
        "loud",
        "ALARM",
        "--reason",
        "does it arrive?",
        "--reason-data",
        "{\"by\":1}",
    ]);
    assert_eq!(said(&set), "loud is ALARM, until it is evaluated again\n");
    let message = loop {
        let message: Value = taken.recv_timeout(30 * std::time::Duration::from_secs(1)).unwrap();
        if message["kind"] == "alarm" && !message["alarm"].is_null() {
            break message;
        }
    };
    let sns = &message["alarm"];
    assert_eq!(message["subject"].as_str().unwrap().split('"').nth(1), Some("loud"), "{message}");
    assert_eq!(sns["AlarmName"], "loud");
    assert_eq!((&sns["OldStateValue"], &sns["NewStateValue"]), (&json!("OK"), &json!("ALARM")));
    assert_eq!(sns["NewStateReason"], "does it arrive?");
    assert_eq!(sns["Trigger"]["MetricName"], "m");
    wait_for_state(&place, "loud", "OK");

    let items = history(&place, "loud");
    let of = |kind: &str| items.iter().filter(|item| item["HistoryItemType"] == kind).count();
    assert_eq!((of("Action"), of("StateUpdate"), of("ConfigurationUpdate")), (2, 3, 1), "{items:?}");
    let published =
        items.iter().find(|item| item["HistorySummary"] == format!("Successfully executed action {topic}")).unwrap();
    let data: Value = serde_json::from_str(published["HistoryData"].as_str().unwrap()).unwrap();
    assert_eq!(data["actionState"], "Succeeded");
    let failed =
        items.iter().find(|item| item["HistorySummary"].as_str().unwrap().starts_with("Failed to execute")).unwrap();
    assert!(failed["HistorySummary"].as_str().unwrap().contains("nobody"), "{failed}");
    let told = said(&place.ask(&["alarms", "history", "loud"]));
    assert!(told.contains("StateUpdate") && told.contains("Alarm \"loud\" created"), "{told}");

    for unknown in [vec!["show", "loude"], vec!["history", "loude"], vec!["test", "loude", "--data", "0"]] {
        let refused = place.ask(&[&["alarms"], &unknown[..]].concat());
        assert_eq!(code(&refused), 1, "{unknown:?}");
        assert!(said(&refused).contains("did you mean \"loud\"?"), "{}", said(&refused));
    }

    // Muted, it changes and says nothing.
    let put = [
        "alarms",
        "mute",
        "put",
        "--name",
        "quiet",
        "--alarms",
        "loud",
        "--schedule",
        "cron(* * * * *)",
        "--duration",
        "PT2H",
    ];
    let put = said(&place.ask(&put));
    assert!(put.starts_with("the mute rule quiet is put; it mutes now, until 20"), "{put}");
    let rules = json(&place.ask(&["alarms", "mute", "--json"]));
    assert_eq!((&rules[0]["rule"]["Name"], &rules[0]["status"]), (&json!("quiet"), &json!("ACTIVE")), "{rules}");
    assert!(said(&place.ask(&["alarms", "mute"])).contains("ACTIVE"));
    let muted = &place.status()["muted"];
    assert_eq!(muted, &json!([{"alarm": "loud", "by": "quiet", "until": rules[0]["until"]}]));
    let shown = said(&place.ask(&["status"]));
    assert!(shown.contains("muted until 20") && shown.contains(" by quiet: loud\n"), "{shown}");
    assert!(said(&place.ask(&["alarms"])).contains("(muted by quiet until 20"));
    assert_eq!(code(&place.ask(&["alarms", "set-state", "loud", "ALARM", "--reason", "quiet?"])), 0);
    let items = history(&place, "loud");
    let muted = items.iter().find(|item| item["HistorySummary"] == format!("Action {topic} muted by quiet"));
    assert!(muted.is_some(), "{items:?}");
    assert_eq!(said(&place.ask(&["alarms", "mute", "delete", "quiet"])), "the mute rule quiet is deleted\n");
    assert_eq!(code(&place.ask(&["alarms", "mute", "delete", "quiet"])), 1);
}

#[test]
fn what_is_said_of_files_that_are_wrong() {
    let mut place = Place::with_config("");
    place.start();
    let path = |name: &str, text: &str| {
        let file = place.dir.path().join(name);
        fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let bad = path("bad.json", "{\n  \"MetricAlarms\": [,]\n}\n");
    let refused = place.ask(&["alarms", "import", &bad]);
    assert_eq!(code(&refused), 2);
    assert!(said(&refused).contains("bad.json:2:20: "), "{}", said(&refused));
    assert_eq!(code(&place.ask(&["alarms", "import", &path("shape.json", "{\"Metrics\": []}")])), 2);
    assert_eq!(code(&place.ask(&["alarms", "import", &path("none.json", "{\"MetricAlarms\": []}")])), 1);

    let good = alarm("good", "m", json!({"AlarmActions": ["arn:aws:automate:us-east-1:ec2:stop"]}));
    let search = json!({"AlarmName": "search", "Metrics": [{"Id": "e1", "Expression": "SEARCH('x', 'Sum', 60)"}],
        "EvaluationPeriods": 1, "Threshold": 1.0, "ComparisonOperator": "GreaterThanThreshold"});
    let own = alarm("api/outage", "m", json!({}));
    let composite = |name: &str, rule: &str| json!({"AlarmName": name, "AlarmRule": rule});
    let mixed = json!({
        "MetricAlarms": [good, search, own],
        "CompositeAlarms": [composite("top", "ALARM(good) OR ALARM(\"api/errors\")"), composite("orphan", "ALARM(search)"),
                            composite("above", "ALARM(orphan)"),
                            composite("round", "ALARM(about)"), composite("about", "ALARM(round)")],
    });
    let mixed = path("mixed.json", &mixed.to_string());
    let dry = place.ask(&["alarms", "import", "--dry-run", "--json", &mixed]);
    assert_eq!(code(&dry), 1, "{}", said(&dry));
    let told = json(&dry);
    assert_eq!((&told["taken"], &told["put"]), (&json!(["good", "top"]), &json!(false)), "{told}");
    let names = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|one| one["alarm"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&told["refused"]), ["search", "api/outage", "round", "about", "orphan", "above"]);
    assert!(told["refused"].to_string().contains("round → about → round"), "{told}");
    assert_eq!(names(&told["notes"])[0], "good");
    assert_eq!(code(&place.ask(&["alarms", "show", "good"])), 1, "a dry run puts nothing");
    let taken = place.ask(&["alarms", "import", &mixed]);
    assert_eq!(code(&taken), 1);
    assert!(said(&taken).contains("ec2:stop (no subscriber lists it in its topics)"), "{}", said(&taken));
    assert!(said(&taken).contains("2 taken, 6 refused"), "{}", said(&taken));
    let top = show(&place, "top");
    let children: Vec<&Value> = top["children"].as_array().unwrap().iter().map(|child| &child["name"]).collect();
    assert_eq!(children, ["api/errors", "good"]);

    for (words, wanted) in [
        (vec!["delete", "good"], 4),
        (vec!["delete", "api/errors"], 4),
        (vec!["delete", "nothing"], 1),
        (vec!["history", "nothing"], 1),
        (vec!["export", "nothing"], 1),
        (vec!["export", "--topic", "ops"], 2),
        (vec!["--peer", "nothing"], 1),
        (vec!["--peer", "api"], 0),
        (vec!["mute", "put"], 2),
        (vec!["set-state", "api/outage", "OK", "--reason", "x"], 4),
        (vec!["set-state", "good", "BAD", "--reason", "x"], 2),
        (vec!["disable-actions", "good", "nothing"], 1),
        (vec!["disable-actions", "good"], 0),
        (vec!["delete", "good", "top"], 0),
        (vec!["history", "good"], 0),
        (vec!["mute", "put", "--name", "x"], 2),
        (
            vec!["mute", "put", "--name", "x", "--alarms", "a", "--schedule", "cron(99 * * * *)", "--duration", "PT1H"],
            2,
        ),
    ] {
        let output = place.ask(&[&["alarms"], &words[..]].concat());
        assert_eq!(code(&output), wanted, "{words:?}: {}", said(&output));
    }
    place.kill();
    assert_eq!(code(&place.ask(&["alarms"])), 3);
    assert_eq!(code(&place.ask(&["alarms", "import", "--dry-run", &bad])), 2);
    let dry = place.ask(&["alarms", "import", "--dry-run", &mixed]);
    assert!(code(&dry) == 1 && said(&dry).contains("only the file was looked at"), "{}", said(&dry));
}

#[test]
fn an_alarm_is_tried_on_data() {
    let mut place = Place::with_config("");
    place.start();
    assert_eq!(code(&import(&place, &[alarm("slow", "m", json!({"TreatMissingData": "breaching"}))])), 0);
    let tried = place.ask(&["alarms", "test", "slow", "--data", "- - X - -", "--all-treatments", "--json"]);
    let told = json(&tried);
    let states: Vec<&Value> = told["results"].as_array().unwrap().iter().map(|result| &result["state"]).collect();
    assert_eq!(states, [&json!("ALARM"), &Value::Null, &json!("ALARM"), &json!("OK")]);
    let text = said(&place.ask(&["alarms", "test", "slow", "--data", "0.5 3 - 4 7"]));
    assert!(
        text.contains("left out: older than the newest 3") && text.contains("breaching (its own): ALARM"),
        "{text}"
    );
    let text = said(&place.ask(&["alarms", "test", "slow", "--data", "0 -"]));
    assert!(text.contains("3 older periods were not given") && text.contains("filled in as breaching"), "{text}");
    let long = place.ask(&["alarms", "test", "slow", "--data", "0 0 0 0 0 0"]);
    assert!(code(&long) == 2 && said(&long).contains("wants 5"), "{}", said(&long));
    assert_eq!(code(&place.ask(&["alarms", "test", "api/outage", "--data", "0"])), 2);
    // Without any daemon.
    let file = place.dir.path().join("alarms.json").display().to_string();
    let output = ukai().args(["alarms", "test", "slow", "--data", "X X X", "--file", &file]).output().unwrap();
    assert!(code(&output) == 0 && said(&output).contains("ALARM"), "{}", said(&output));
    let output = ukai().args(["alarms", "test", "fast", "--data", "X X X", "--file", &file]).output().unwrap();
    assert_eq!(code(&output), 1);
}

#[test]
fn defaults_are_exported_and_what_is_exported_is_taken() {
    let mut place = Place::with_config("");
    place.start();
    assert_eq!(code(&import(&place, &[alarm("mine", "m", json!({"AlarmActions": ["ukai:incident:api"]}))])), 0);
    let topic = "arn:aws:sns:us-east-1:111122223333:ops";
    let output = place.ask(&["alarms", "export", "--topic", topic]);
    assert_eq!(code(&output), 0);
    let exported = json(&output);
    let names: Vec<&str> = exported.as_array().unwrap().iter().map(|one| one["AlarmName"].as_str().unwrap()).collect();
    for name in ["mine", "api/errors", "api/latency", "api/certificate", "api/outage"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(exported.to_string().contains(topic) && !exported.to_string().contains("ukai:"), "{exported}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("note"));
    let one = json(&place.ask(&["alarms", "export", "mine", "--json"]));
    assert_eq!(one["exported"].as_array().unwrap().len(), 1);
    let template = json(&place.ask(&["alarms", "export", "--format", "cloudformation"]));
    assert!(template["Resources"].as_object().unwrap().len() > 5, "{template}");

    let file = place.dir.path().join("exported.json");
    fs::write(&file, &output.stdout).unwrap();
    let told = json(&place.ask(&["alarms", "import", "--json", &file.display().to_string()]));
    let taken: Vec<&str> = told["taken"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    assert!(taken.contains(&"mine") && taken.contains(&"api/errors"), "{told}");
    let replaced = told["notes"].as_array().unwrap().iter().find(|note| note["alarm"] == "api/errors").unwrap();
    assert!(replaced["text"].as_str().unwrap().contains("ukai:incident:api goes with that"), "{told}");
    assert!(!show(&place, "api/errors")["is_default"].as_bool().unwrap());
    // The default comes back.
    assert_eq!(code(&place.ask(&["alarms", "delete", "api/errors"])), 0);
    assert!(show(&place, "api/errors")["is_default"].as_bool().unwrap());
    let listed = said(&place.ask(&["alarms", "--peer", "api"]));
    assert!(listed.contains("api/errors") && !listed.contains('\u{1b}'), "{listed}");
    wait_for_state(&place, "api/reachability", "ALARM");
    let first = said(&place.ask(&["alarms"])).lines().nth(1).unwrap().to_owned();
    assert!(first.trim_start().starts_with("ALARM"), "{first}");
    let only = json(&place.ask(&["alarms", "--state", "alarm", "--json"]));
    assert!(only.as_array().unwrap().iter().all(|one| one["state"] == "ALARM"), "{only}");
}
