//! Composite alarms, suppressors, mute rules and the messages of actions, through the engine.

use serde_json::{Value, json};
use ukai_core::alarm::AlarmState::{Alarm, InsufficientData, Ok as Fine};
use ukai_core::alarm::mute::MuteRule;
use ukai_core::event::{ActionOutcome, Event, NotificationKind};
use ukai_core::input::Command;

use crate::desk::*;

fn arn(alarm: &str) -> String {
    format!("arn:aws:cloudwatch:ap-northeast-1:111122223333:alarm:{alarm}")
}

fn desk_with(alarms: Vec<Value>) -> Desk {
    let mut desk = Desk::new();
    desk.now = after_noon(10);
    desk.put_all(alarms).unwrap();
    desk
}

fn messages(desk: &Desk, to: &str) -> Vec<Value> {
    let of = desk.messages.iter().filter(|(subscriber, _)| subscriber == to);
    of.filter_map(|(_, notification)| serde_json::from_str(notification.alarm.as_deref()?).ok()).collect()
}

fn triggering(desk: &Desk) -> Vec<(String, String)> {
    let data: Value = serde_json::from_str(desk.record("both").reason_data.as_deref().unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let alarms = data["triggeringAlarms"].as_array().unwrap();
    alarms.iter().map(|one| (text(&one["arn"]), text(&one["state"]["value"]))).collect()
}

/// As recorded from AWS (`test_trigger_composite_alarm`).
#[test]
fn the_recorded_transitions_of_a_composite() {
    let rule = format!("ALARM(\"{}\") OR ALARM(\"{}\")", arn("one"), arn("two"));
    let mut desk = desk_with(vec![composite("both", &rule), kept("one"), kept("two")]);
    assert_eq!(desk.state("both"), Fine, "evaluated at the put");
    desk.messages.clear();
    for (child, state) in [("one", Alarm), ("one", Fine), ("two", Alarm), ("two", Fine), ("one", Alarm)] {
        desk.set(child, state);
        assert_eq!(desk.state("both"), state, "{child}");
        assert_eq!(triggering(&desk), [(arn(child), state.name().to_owned())]);
    }
    let before = desk.record("both").clone();
    desk.set("two", Alarm);
    assert_eq!(desk.record("both"), &before, "what is in ALARM already stays as it was");
    assert_eq!(messages(&desk, "mail").len(), 3);
    assert_eq!(messages(&desk, "hook").len(), 5, "the topic and the function");
}

#[test]
fn composites_of_composites_follow_in_one_step() {
    let mut desk = desk_with(vec![
        composite("top", "ALARM(middle) AND NOT OK(other)"),
        composite("middle", "ALARM(leaf) OR INSUFFICIENT_DATA(leaf)"),
        kept("leaf"),
        kept("other"),
    ]);
    assert_eq!((desk.state("middle"), desk.state("top")), (Alarm, Alarm));
    desk.set("leaf", Fine);
    assert_eq!((desk.state("middle"), desk.state("top")), (Fine, Fine));
    desk.set("leaf", Alarm);
    desk.set("other", Fine);
    assert_eq!((desk.state("middle"), desk.state("top")), (Alarm, Fine));
}

/// Evaluated after each change alone, it would fire for the moment between the two.
#[test]
fn alarms_that_change_together_are_one_change_to_a_composite() {
    let quiet = || json!({ "AlarmActions": [] });
    let mut desk = desk_with(vec![
        metric("a-down", quiet()),
        metric("b-blind", quiet()),
        composite("wake", "ALARM(a-down) AND NOT ALARM(b-blind)"),
    ]);
    desk.datum(after_noon(15), 0.0);
    desk.run_until(after_noon(70));
    assert_eq!((desk.state("a-down"), desk.state("b-blind"), desk.state("wake")), (Fine, Fine, Fine));
    let before = desk.changes("wake");
    desk.messages.clear();
    desk.datum(after_noon(75), 1.0);
    desk.run_until(after_noon(130));
    assert_eq!((desk.state("a-down"), desk.state("b-blind"), desk.state("wake")), (Alarm, Alarm, Fine));
    assert_eq!(desk.changes("wake"), before);
    assert_eq!(desk.messages, []);
}

/// Each level would double the changes of the one below.
#[test]
fn a_stack_of_composites_changes_once_at_each_level() {
    let mut alarms = vec![kept("q0")];
    for level in 1..15 {
        let (below, a, b) = (level - 1, format!("a{level}"), format!("b{level}"));
        alarms.push(composite(&a, &format!("ALARM(q{below})")));
        alarms.push(composite(&b, &format!("ALARM(q{below})")));
        alarms.push(composite(&format!("q{level}"), &format!("ALARM({a}) AND NOT OK({b})")));
        alarms.push(composite(&format!("never{level}"), &format!("ALARM({a}) AND NOT ALARM({b})")));
    }
    let mut desk = desk_with(alarms);
    desk.set("q0", Fine);
    let log = desk.log.len();
    desk.set("q0", Alarm);
    let changed = desk.log[log..].iter().filter(|record| matches!(record.event, Event::AlarmChanged { .. })).count();
    assert_eq!((desk.state("q14"), changed), (Alarm, 1 + 14 * 3));
}

#[test]
fn a_chain_of_as_many_composites_as_are_kept_is_followed_to_its_end() {
    let chain = (1..10_000).map(|number| composite(&format!("c{number}"), &format!("ALARM(c{})", number - 1)));
    let mut desk = desk_with([kept("c0")].into_iter().chain(chain).collect());
    desk.set("c0", Alarm);
    assert_eq!(desk.state("c9999"), Alarm);
    desk.set("c0", Fine);
    assert_eq!(desk.state("c9999"), Fine);
}

#[test]
fn a_child_that_starts_anew_as_another_kind_is_followed() {
    let mut desk = desk_with(vec![composite("top", "ALARM(middle)"), composite("middle", "TRUE")]);
    assert_eq!((desk.state("middle"), desk.state("top")), (Alarm, Alarm));
    desk.put(kept("middle")).unwrap();
    assert_eq!((desk.state("middle"), desk.state("top")), (InsufficientData, Fine));
}

#[test]
fn what_is_watched_cannot_be_deleted_alone() {
    let mut alarms = vec![composite("top", "ALARM(leaf)"), kept("leaf"), kept("calm")];
    alarms[0]["ActionsSuppressor"] = json!("calm");
    alarms[0]["ActionsSuppressorWaitPeriod"] = json!(10);
    alarms[0]["ActionsSuppressorExtensionPeriod"] = json!(10);
    let mut desk = desk_with(alarms);
    for child in ["leaf", "calm"] {
        let refused = desk.delete(&[child]).unwrap_err();
        assert!(refused.contains(child) && refused.contains("top"), "{refused}");
    }
    assert!(desk.delete(&["top", "nobody"]).unwrap_err().contains("nobody"));
    assert_eq!(desk.engine.state().alarms.records.len(), 3);
    desk.delete(&["leaf", "top", "calm"]).unwrap();
    assert!(desk.engine.state().alarms.records.is_empty());
}

#[test]
fn cycles_and_unknown_children_are_refused_and_nothing_of_the_put_stays() {
    let mut desk = desk_with(vec![composite("a", "ALARM(leaf)"), composite("b", "ALARM(a)"), kept("leaf")]);
    let log = desk.log.len();
    let cycle = desk.put(composite("a", "ALARM(leaf) OR ALARM(b)")).unwrap_err();
    assert!(cycle.contains("a → b → a") || cycle.contains("b → a → b"), "{cycle}");
    let itself = desk.put(composite("c", "ALARM(c)")).unwrap_err();
    assert!(itself.contains("c → c"), "{itself}");
    let together = desk.put_all(vec![composite("x", "ALARM(y)"), composite("y", "ALARM(x)")]).unwrap_err();
    assert!(together.contains('→'), "{together}");
    let unknown = desk.put_all(vec![kept("fine"), composite("c", "ALARM(nobody)")]).unwrap_err();
    assert!(unknown.contains("nobody"), "{unknown}");
    let twice = desk.put_all(vec![kept("fine"), kept("fine")]).unwrap_err();
    assert!(twice.contains("twice"), "{twice}");
    assert_eq!(desk.log.len(), log, "all or none");
}

#[test]
fn more_alarms_than_are_kept_are_refused() {
    let mut desk = Desk::new();
    let many = |count: usize| (0..count).map(|number| kept(&format!("alarm-{number}"))).collect();
    let refused = desk.put_all(many(10_001)).unwrap_err();
    assert!(refused.contains("10001") && refused.contains("10000"), "{refused}");
    assert!(desk.engine.state().alarms.records.is_empty());
}

fn suppressed() -> Desk {
    let mut alarms = vec![composite("both", "ALARM(leaf)"), kept("leaf"), kept("calm")];
    alarms[0]["ActionsSuppressor"] = json!("calm");
    alarms[0]["ActionsSuppressorWaitPeriod"] = json!(60);
    alarms[0]["ActionsSuppressorExtensionPeriod"] = json!(120);
    let mut desk = desk_with(alarms);
    // What the first evaluation had to say has been said by then.
    desk.run_for(300);
    desk.messages.clear();
    desk
}

#[test]
fn a_suppressor_that_comes_within_the_wait_period_holds_the_actions_back() {
    let mut desk = suppressed();
    desk.set("leaf", Alarm);
    assert_eq!((desk.state("both"), desk.messages.len()), (Alarm, 0));
    desk.run_for(59);
    desk.set("calm", Alarm);
    desk.run_for(3600);
    assert_eq!(desk.messages.len(), 0);
    desk.set("calm", Fine);
    desk.run_for(119);
    assert_eq!(desk.messages.len(), 0, "the extension");
    desk.run_for(1);
    assert_eq!(messages(&desk, "mail").len(), 1, "told once it is over, for it is in ALARM still");
}

#[test]
fn without_a_suppressor_in_alarm_the_actions_run_after_the_wait_period() {
    let mut desk = suppressed();
    desk.set("leaf", Alarm);
    desk.run_for(59);
    assert_eq!(desk.messages.len(), 0);
    desk.crash();
    desk.run_for(1);
    assert_eq!(messages(&desk, "mail").len(), 1, "a crash does not forget the wait");
}

#[test]
fn a_resolution_is_held_back_and_never_lost() {
    let mut desk = suppressed();
    desk.set("leaf", Alarm);
    desk.run_for(60);
    desk.set("calm", Alarm);
    desk.set("leaf", Fine);
    desk.run_for(600);
    let ended = |desk: &Desk| messages(desk, "hook").iter().filter(|message| message["alarmData"].is_object()).count();
    assert_eq!((desk.state("both"), ended(&desk)), (Fine, 0));
    desk.set("calm", Fine);
    desk.run_for(120);
    assert_eq!(ended(&desk), 1);
}

fn muted() -> Desk {
    let mut desk = desk_with(vec![metric("a", json!({ "TreatMissingData": "notBreaching" }))]);
    let rule: MuteRule = serde_json::from_value(json!({
        "Name": "deploy",
        "Rule": { "Schedule": { "Expression": "at(2026-01-10T12:10)", "Duration": "PT30M", "Timezone": "UTC" } },
        "MuteTargets": { "AlarmNames": ["a"] },
    }))
    .unwrap();
    desk.command(Command::PutMuteRule { rule: Box::new(rule) }).unwrap();
    desk.run_until(after_noon(600));
    desk
}

fn fails_until(desk: &mut Desk, end_s: i64) {
    while desk.now < after_noon(end_s) {
        let now = desk.now;
        desk.datum(now, 1.0);
        desk.run_for(30);
    }
}

#[test]
fn a_muted_alarm_changes_and_is_told_afterwards_and_acts_if_it_still_fails() {
    let mut desk = muted();
    fails_until(&mut desk, 2370);
    assert_eq!((desk.state("a"), desk.messages.len()), (Alarm, 0));
    desk.crash();
    fails_until(&mut desk, 2430);
    let [message] = &messages(&desk, "mail")[..] else { panic!("{:?}", desk.messages) };
    assert_eq!(message["ActionExecutedAfterMuteWindow"], true);
    assert_eq!((&message["NewStateValue"], &message["OldStateValue"]), (&json!("ALARM"), &json!("OK")));
    let told = |event: &Event| matches!(event, Event::NotificationQueued { notification, .. } if notification.kind == NotificationKind::Muted);
    assert_eq!(desk.count(told), 1);
}

#[test]
fn what_came_and_went_in_the_window_is_told_and_acts_no_more() {
    let mut desk = muted();
    fails_until(&mut desk, 900);
    desk.run_until(after_noon(3600));
    let acted = desk.messages.iter().filter(|(_, message)| message.kind == NotificationKind::Alarm).count();
    assert_eq!((desk.state("a"), acted), (Fine, 0));
    assert_eq!(desk.changes("a").len(), 3, "the first evaluation, there and back");
    assert_eq!(desk.count(|event| matches!(event, Event::MuteEnded { .. })), 1);
    assert_eq!(desk.count(|event| matches!(event, Event::AlarmActed { .. })), 0);
}

#[test]
fn a_mute_rule_that_is_deleted_mutes_nothing_any_more() {
    let mut desk = muted();
    fails_until(&mut desk, 900);
    assert_eq!(desk.messages.len(), 0);
    desk.command(Command::DeleteMuteRule { rule: "deploy".into() }).unwrap();
    assert_eq!(messages(&desk, "mail").len(), 1);
}

#[test]
fn an_action_reaches_exactly_those_that_list_its_topic_in_its_own_form() {
    let mut desk = Desk::new();
    desk.now = after_noon(-30);
    let actions = json!({
        "AlarmActions": [TOPIC, FUNCTION, "arn:aws:sns:ap-northeast-1:111122223333:nobody"],
        "AlarmDescription": "orders fail", "TreatMissingData": "notBreaching",
        "Dimensions": [],
    });
    desk.put(metric("a", actions)).unwrap();
    let put_at = desk.now;
    desk.run_until(after_noon(10));
    desk.datum(after_noon(10), 3.0);
    desk.run_until(after_noon(70));
    let names: Vec<&str> = desk.messages.iter().map(|(subscriber, _)| subscriber.as_str()).collect();
    assert_eq!(names, ["mail", "hook", "hook"]);
    let sns = &messages(&desk, "mail")[0];
    for (field, value) in [
        ("AlarmName", json!("a")),
        ("AlarmDescription", json!("orders fail")),
        ("AWSAccountId", json!("111122223333")),
        ("NewStateValue", json!("ALARM")),
        ("OldStateValue", json!("OK")),
        ("Region", json!("Asia Pacific (Tokyo)")),
        ("AlarmArn", json!(arn("a"))),
        ("StateChangeTime", json!("2026-01-10T12:01:02.000+0000")),
    ] {
        assert_eq!(sns[field], value, "{field}");
    }
    assert_eq!(sns["NewStateReason"], desk.record("a").reason.as_str());
    assert!(sns["NewStateReason"].as_str().unwrap().starts_with("Threshold Crossed: "), "{sns}");
    assert_eq!(sns["Trigger"]["MetricName"], "Failed");
    assert_eq!(sns["Trigger"]["Period"], 60);
    assert_eq!(sns["AlarmActions"].as_array().unwrap().len(), 3);
    let event = &messages(&desk, "hook")[1];
    assert_eq!((&event["source"], &event["alarmArn"]), (&json!("aws.cloudwatch"), &json!(arn("a"))));
    assert_eq!(event["alarmData"]["state"]["value"], "ALARM");
    assert_eq!(event["alarmData"]["previousState"]["value"], "OK");
    assert_eq!(event["alarmData"]["configuration"]["description"], "orders fail");
    assert_eq!(desk.record("a").configured_at, put_at);
    let unheard = |event: &Event| matches!(event, Event::AlarmActed { outcome: ActionOutcome::NotExecuted { .. }, .. });
    assert_eq!(desk.count(unheard), 1, "and the log says that nobody listens to the third");
    assert_eq!(desk.state("a"), Alarm);
    assert_ne!(desk.record("a").previous.as_ref().unwrap().state, InsufficientData);
}
