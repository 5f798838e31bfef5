//! The message, the events and the history items of a change of state, in the recorded order of their fields.

use jiff::Timestamp;
use serde_json::json;
use ukai_core::alarm::AlarmState;
use ukai_core::alarm::definition::Definition;
use ukai_core::alarm::history::{self, ActionOutcome, ConfigurationChange, Configured, HistoryItem};
use ukai_core::alarm::payload::{StateChange, StateThen, Suppression, event, sns, uuid_of};
use ukai_core::alarm::reason::TriggeringChild;
use ukai_core::alarm::suppress::SuppressedBy;

const CHILD: &str = "arn:aws:cloudwatch:ap-northeast-1:111122223333:alarm:pay-down";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn definition(wire: serde_json::Value) -> Definition {
    serde_json::from_value(wire).unwrap()
}

fn pay_down() -> Definition {
    definition(json!({
        "AlarmName": "pay-down", "AlarmDescription": "Payments do not answer.", "Namespace": "Ukai/Peer",
        "MetricName": "ProbeSuccess", "Dimensions": [{"Name": "Peer", "Value": "pay"}], "Statistic": "SampleCount",
        "Unit": "Count", "Period": 10, "EvaluationPeriods": 3, "DatapointsToAlarm": 2, "Threshold": 1,
        "ComparisonOperator": "LessThanThreshold", "TreatMissingData": "breaching",
        "AlarmActions": ["arn:aws:sns:ap-northeast-1:111122223333:ops", "ukai:incident:pay"],
    }))
}

fn either_down() -> Definition {
    definition(json!({
        "AlarmName": "either-down", "AlarmRule": "ALARM(pay-down) OR ALARM(ship-down)", "ActionsSuppressor": "deploying",
        "ActionsSuppressorWaitPeriod": 60, "ActionsSuppressorExtensionPeriod": 90,
    }))
}

fn change<'a>(definition: &'a Definition, children: &'a [TriggeringChild]) -> StateChange<'a> {
    StateChange {
        definition,
        account_id: "111122223333",
        region: "ap-northeast-1",
        configuration_updated_at: at("2026-01-01T00:00:00Z"),
        old: StateThen { state: AlarmState::Ok, reason: "fine", reason_data: None, at: at("2026-01-01T00:01:00Z") },
        new: StateThen {
            state: AlarmState::Alarm,
            reason: "bad",
            reason_data: Some(r#"{"version":"1.0","period":10,"a":1}"#),
            at: at("2026-01-01T00:03:00.042Z"),
        },
        triggering_children: children,
        suppression: None,
        after_mute_window: Some(false),
    }
}

fn child() -> TriggeringChild {
    TriggeringChild { arn: CHILD.to_owned(), state: AlarmState::Alarm, at: at("2026-01-01T00:02:59.500Z") }
}

#[test]
fn the_message_of_a_metric_alarm() {
    let definition = pay_down();
    let change = change(&definition, &[]);
    let wanted = [
        r#"{"AlarmName":"pay-down","AlarmDescription":"Payments do not answer.","AWSAccountId":"111122223333","#,
        r#""AlarmConfigurationUpdatedTimestamp":"2026-01-01T00:00:00.000+0000","NewStateValue":"ALARM","#,
        r#""NewStateReason":"bad","StateChangeTime":"2026-01-01T00:03:00.042+0000","Region":"Asia Pacific (Tokyo)","#,
        r#""AlarmArn":"arn:aws:cloudwatch:ap-northeast-1:111122223333:alarm:pay-down","OldStateValue":"OK","#,
        r#""ActionExecutedAfterMuteWindow":false,"OKActions":[],"#,
        r#""AlarmActions":["arn:aws:sns:ap-northeast-1:111122223333:ops","ukai:incident:pay"],"#,
        r#""InsufficientDataActions":[],"Trigger":{"MetricName":"ProbeSuccess","Namespace":"Ukai/Peer","#,
        r#""StatisticType":"Statistic","Statistic":"SAMPLE_COUNT","Unit":"Count","#,
        r#""Dimensions":[{"value":"pay","name":"Peer"}],"Period":10,"EvaluationPeriods":3,"DatapointsToAlarm":2,"#,
        r#""ComparisonOperator":"LessThanThreshold","Threshold":1.0,"TreatMissingData":"breaching","#,
        r#""EvaluateLowSampleCountPercentile":""}}"#,
    ];
    assert_eq!(sns::message(&change), wanted.concat());
    assert_eq!(sns::subject(&change), "ALARM: \"pay-down\" in Asia Pacific (Tokyo)");
}

#[test]
fn what_is_not_set_is_null_or_left_out() {
    let definition = definition(json!({
        "AlarmName": "p99", "Namespace": "N", "MetricName": "M", "ExtendedStatistic": "p99", "Period": 60,
        "EvaluationPeriods": 1, "Threshold": 2.5, "ComparisonOperator": "GreaterThanThreshold",
        "EvaluateLowSampleCountPercentile": "ignore",
    }));
    let change = StateChange { after_mute_window: None, region: "xx-moon-1", ..change(&definition, &[]) };
    let message: serde_json::Value = serde_json::from_str(&sns::message(&change)).unwrap();
    assert!(message["AlarmDescription"].is_null() && message.get("AlarmDescription").is_some());
    assert!(message.get("ActionExecutedAfterMuteWindow").is_none());
    assert_eq!(message["Region"], "xx-moon-1");
    let trigger = &message["Trigger"];
    assert!(trigger["Unit"].is_null() && trigger.get("Unit").is_some());
    assert!(trigger.get("DatapointsToAlarm").is_none());
    assert_eq!((&trigger["StatisticType"], &trigger["Statistic"]), (&json!("ExtendedStatistic"), &json!("p99")));
    assert_eq!(trigger["TreatMissingData"], "missing");
    assert_eq!(trigger["EvaluateLowSampleCountPercentile"], "ignore");
}

#[test]
fn the_message_of_metric_math() {
    let stat = |name: &str| {
        json!({"Metric": {"Namespace": "AWS/NetworkELB", "MetricName": name, "Dimensions": [{"Name": "TargetGroup", "Value": "t"}]},
               "Period": 60, "Stat": "Average"})
    };
    let definition = definition(json!({
        "AlarmName": "share", "EvaluationPeriods": 5, "Threshold": 65, "ComparisonOperator": "LessThanThreshold",
        "Metrics": [
            {"Id": "expr_1", "Expression": "100*(healthy/fleet)", "ReturnData": true},
            {"Id": "healthy", "Label": "HealthyHostCount", "MetricStat": stat("HealthyHostCount"), "ReturnData": false},
            {"Id": "fleet", "MetricStat": stat("GroupDesiredCapacity"), "ReturnData": false},
        ],
    }));
    let message = sns::message(&change(&definition, &[]));
    let wanted = [
        r#""Trigger":{"Period":60,"EvaluationPeriods":5,"ComparisonOperator":"LessThanThreshold","Threshold":65.0,"#,
        r#""TreatMissingData":"missing","EvaluateLowSampleCountPercentile":"","Metrics":["#,
        r#"{"Expression":"100*(healthy/fleet)","Id":"expr_1","ReturnData":true},"#,
        r#"{"Id":"healthy","Label":"HealthyHostCount","MetricStat":{"Metric":{"#,
        r#""Dimensions":[{"value":"t","name":"TargetGroup"}],"MetricName":"HealthyHostCount","Namespace":"AWS/NetworkELB"},"#,
        r#""Period":60,"Stat":"Average"},"ReturnData":false},"#,
        r#"{"Id":"fleet","MetricStat":{"Metric":{"Dimensions":[{"value":"t","name":"TargetGroup"}],"#,
        r#""MetricName":"GroupDesiredCapacity","Namespace":"AWS/NetworkELB"},"Period":60,"Stat":"Average"},"#,
        r#""ReturnData":false}]}}"#,
    ];
    assert!(message.ends_with(&wanted.concat()), "{message}");
}

#[test]
fn the_message_of_a_composite_alarm() {
    let (definition, children) = (either_down(), [child()]);
    let change = StateChange { after_mute_window: None, ..change(&definition, &children) };
    let wanted = [
        r#"{"AlarmName":"either-down","AlarmDescription":null,"AWSAccountId":"111122223333","NewStateValue":"ALARM","#,
        r#""NewStateReason":"bad","StateChangeTime":"2026-01-01T00:03:00.042+0000","Region":"Asia Pacific (Tokyo)","#,
        r#""AlarmArn":"arn:aws:cloudwatch:ap-northeast-1:111122223333:alarm:either-down","OKActions":[],"#,
        r#""AlarmActions":[],"InsufficientDataActions":[],"OldStateValue":"OK","#,
        r#""AlarmRule":"ALARM(pay-down) OR ALARM(ship-down)","TriggeringChildren":["#,
        r#"{"Arn":"arn:aws:cloudwatch:ap-northeast-1:111122223333:alarm:pay-down","#,
        r#""State":{"Value":"ALARM","Timestamp":"2026-01-01T00:02:59.500+0000"}}]}"#,
    ];
    assert_eq!(sns::message(&change), wanted.concat());
}

#[test]
fn an_observed_alarm_shows_what_comes_nearest() {
    let definition = definition(json!({"AlarmName": "pay", "Observed": {"Signal": "reachability", "Peer": "pay"}}));
    let message: serde_json::Value = serde_json::from_str(&sns::message(&change(&definition, &[]))).unwrap();
    assert_eq!(message["Trigger"]["MetricName"], "ProbeSuccess");
    assert_eq!(message["Trigger"]["Dimensions"], json!([{"name": "Peer", "value": "pay"}]));
    let unknown = Definition {
        name: "identity".to_owned(),
        ..self::definition(json!({"AlarmName": "c", "Observed": {"Signal": "identity"}}))
    };
    let message: serde_json::Value = serde_json::from_str(&sns::message(&change(&unknown, &[]))).unwrap();
    assert!(message.get("Trigger").is_none());
}

#[test]
fn a_subject_fits_into_a_hundred_characters_of_ascii() {
    let name = format!("東京 決済 {}", "x".repeat(200));
    let definition = Definition { name, ..pay_down() };
    let subject = sns::subject(&change(&definition, &[]));
    assert!(subject.is_ascii() && subject.len() == 100, "{subject}");
    assert!(subject.starts_with("ALARM: \"_ _ xxx") && subject.ends_with("...\" in Asia Pacific (Tokyo)"), "{subject}");
}

#[test]
fn the_event_of_a_function() {
    let definition = pay_down();
    let id = uuid_of("arn:aws:cloudwatch:ap-northeast-1:111122223333:alarm:pay-down metric");
    let wanted = [
        r#"{"source":"aws.cloudwatch","alarmArn":"arn:aws:cloudwatch:ap-northeast-1:111122223333:alarm:pay-down","#,
        r#""accountId":"111122223333","time":"2026-01-01T00:03:00.042+0000","region":"ap-northeast-1","#,
        r#""alarmData":{"alarmName":"pay-down","state":{"value":"ALARM","reason":"bad","#,
        r#""reasonData":"{\"version\":\"1.0\",\"period\":10,\"a\":1}","timestamp":"2026-01-01T00:03:00.042+0000"},"#,
        r#""previousState":{"value":"OK","reason":"fine","timestamp":"2026-01-01T00:01:00.000+0000"},"#,
        r#""configuration":{"description":"Payments do not answer.","metrics":[{"id":""#,
        &id,
        r#"","metricStat":{"metric":{"namespace":"Ukai/Peer","name":"ProbeSuccess","dimensions":{"Peer":"pay"}},"#,
        r#""period":10,"stat":"SampleCount","unit":"Count"},"returnData":true}]}}}"#,
    ];
    assert_eq!(event::lambda(&change(&definition, &[])), wanted.concat());
}

#[test]
fn the_event_of_the_bus() {
    let (definition, children) = (either_down(), [child()]);
    let suppression = Suppression { by: SuppressedBy::WaitPeriod, reason: "Actions suppressed by WaitPeriod" };
    let change = StateChange { suppression: Some(suppression), ..change(&definition, &children) };
    let event = event::event_bridge(&change);
    let wanted = [
        r#""detail-type":"CloudWatch Alarm State Change","source":"aws.cloudwatch","account":"111122223333","#,
        r#""time":"2026-01-01T00:03:00Z","region":"ap-northeast-1","#,
        r#""resources":["arn:aws:cloudwatch:ap-northeast-1:111122223333:alarm:either-down"],"#,
        r#""detail":{"alarmName":"either-down","state":{"value":"ALARM","reason":"bad","#,
        r#""reasonData":"{\"version\":\"1.0\",\"period\":10,\"a\":1}","timestamp":"2026-01-01T00:03:00.042+0000","#,
        r#""actionsSuppressedBy":"WaitPeriod","actionsSuppressedReason":"Actions suppressed by WaitPeriod"},"#,
        r#""previousState":{"value":"OK","reason":"fine","timestamp":"2026-01-01T00:01:00.000+0000"},"#,
        r#""configuration":{"alarmRule":"ALARM(pay-down) OR ALARM(ship-down)","actionsSuppressor":"deploying","#,
        r#""actionsSuppressorWaitPeriod":60,"actionsSuppressorExtensionPeriod":90}}}"#,
    ];
    assert!(event.starts_with(r#"{"version":"0","id":""#) && event.ends_with(&wanted.concat()), "{event}");
    assert_eq!(event, event::event_bridge(&change), "an id is not drawn");
}

#[test]
fn the_history_of_a_state_keeps_the_order_of_the_data() {
    let definition = pay_down();
    let item = history::state_update(&change(&definition, &[]));
    assert_eq!(item.history_summary, "Alarm updated from OK to ALARM");
    assert_eq!(
        item.history_data,
        r#"{"version":"1.0","oldState":{"stateValue":"OK","stateReason":"fine"},"#.to_owned()
            + r#""newState":{"stateValue":"ALARM","stateReason":"bad","#
            + r#""stateReasonData":{"version":"1.0","period":10,"a":1}}}"#
    );
    let shown = serde_json::to_value(&item).unwrap();
    assert_eq!((&shown["AlarmType"], &shown["HistoryItemType"]), (&json!("MetricAlarm"), &json!("StateUpdate")));
    assert_eq!(serde_json::from_value::<HistoryItem>(shown).unwrap(), item);
}

#[test]
fn the_history_of_a_definition() {
    let (definition, previous) = (pay_down(), Definition { description: None, actions_enabled: false, ..pay_down() });
    let configured = Configured {
        definition: &definition,
        account_id: "111122223333",
        region: "ap-northeast-1",
        at: at("2026-01-01T00:00:00Z"),
        state: AlarmState::InsufficientData,
        state_at: at("2026-01-01T00:00:00Z"),
    };
    let created = history::configuration_update(&configured, ConfigurationChange::Created);
    assert_eq!(created.history_summary, "Alarm \"pay-down\" created");
    let wanted = [
        r#"{"version":"1.0","type":"Create","createdAlarm":{"alarmName":"pay-down","#,
        r#""alarmDescription":"Payments do not answer.","#,
        r#""alarmArn":"arn:aws:cloudwatch:ap-northeast-1:111122223333:alarm:pay-down","#,
        r#""alarmConfigurationUpdatedTimestamp":"2026-01-01T00:00:00.000+0000","namespace":"Ukai/Peer","#,
        r#""metricName":"ProbeSuccess","statistic":"SampleCount","period":10,"#,
        r#""dimensions":[{"value":"pay","name":"Peer"}],"unit":"Count","threshold":1.0,"#,
        r#""comparisonOperator":"LessThanThreshold","evaluationPeriods":3,"datapointsToAlarm":2,"#,
        r#""treatMissingData":"breaching","stateValue":"INSUFFICIENT_DATA","#,
        r#""stateUpdatedTimestamp":"2026-01-01T00:00:00.000+0000","actionsEnabled":true,"#,
        r#""alarmActions":["arn:aws:sns:ap-northeast-1:111122223333:ops","ukai:incident:pay"],"#,
        r#""insufficientDataActions":[],"okactions":[]}}"#,
    ];
    assert_eq!(created.history_data, wanted.concat());

    let updated = history::configuration_update(&configured, ConfigurationChange::Updated { previous: &previous });
    let data: serde_json::Value = serde_json::from_str(&updated.history_data).unwrap();
    assert_eq!(updated.history_summary, "Alarm \"pay-down\" updated");
    assert_eq!(data["originalUpdatedFields"], json!({"actionsEnabled": false}));
    let deleted = history::configuration_update(&configured, ConfigurationChange::Deleted);
    assert!(deleted.history_data.contains(r#""type":"Delete","deletedAlarm""#));
}

#[test]
fn the_history_of_actions() {
    let definition = pay_down();
    let change = change(&definition, &[]);
    let topic = "arn:aws:sns:ap-northeast-1:111122223333:ops";
    let done = |outcome| history::action(&change, topic, outcome, at("2026-01-01T00:03:01Z"));
    let succeeded = done(ActionOutcome::Succeeded { message: Some("{}") });
    assert_eq!(succeeded.history_summary, format!("Successfully executed action {topic}"));
    assert_eq!(
        succeeded.history_data,
        format!(
            r#"{{"actionState":"Succeeded","stateUpdateTimestamp":1767225780042,"notificationResource":"{topic}","publishedMessage":"{{}}","error":null}}"#
        )
    );
    let failed = done(ActionOutcome::Failed { error: "not authorized" });
    assert_eq!(failed.history_summary, format!("Failed to execute action {topic}. Received error: \"not authorized\""));
    let muted = done(ActionOutcome::Muted { rule: "nights", until: at("2026-01-01T06:00:00Z") });
    assert_eq!(muted.history_summary, format!("Action {topic} muted by nights"));
    assert!(muted.history_data.ends_with(r#""muteWindowEndTimestamp":1767247200000}"#), "{}", muted.history_data);
    let by = Suppression { by: SuppressedBy::Alarm, reason: "deploying is in ALARM" };
    assert_eq!(done(ActionOutcome::Suppressed(by)).history_summary, format!("Action {topic} suppressed by Alarm"));
}

#[test]
fn history_stays_within_its_limits_and_stays_json() {
    let long = "\u{1}".repeat(1000);
    let data = format!(r#"{{"recentDatapoints":[{}0]}}"#, "0.125,".repeat(600));
    let definition = Definition { name: "n".repeat(255), description: Some(long.clone()), ..pay_down() };
    let mut change = change(&definition, &[]);
    change.new.reason_data = Some(&data);
    change.old.reason = &long;
    let configured = Configured {
        definition: &definition,
        account_id: "111122223333",
        region: "ap-northeast-1",
        at: at("2026-01-01T00:00:00Z"),
        state: AlarmState::Ok,
        state_at: at("2026-01-01T00:00:00Z"),
    };
    let action = ActionOutcome::Succeeded { message: Some(&data) };
    let items = [
        history::state_update(&change),
        history::configuration_update(&configured, ConfigurationChange::Created),
        history::action(&change, "arn:aws:sns:x", action, at("2026-01-01T00:00:00Z")),
        history::action(&change, "arn:aws:sns:x", ActionOutcome::Failed { error: &long }, at("2026-01-01T00:00:00Z")),
    ];
    for item in items {
        assert!(item.history_summary.chars().count() <= history::SUMMARY_MAX);
        assert!(item.history_data.chars().count() <= history::DATA_MAX, "{}", item.history_data.len());
        assert!(serde_json::from_str::<serde_json::Value>(&item.history_data).is_ok());
    }
}
