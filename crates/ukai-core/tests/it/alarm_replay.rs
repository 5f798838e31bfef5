//! Whatever is done to alarms, and whenever the process dies: the log gives the state that was.

use proptest::prelude::*;
use serde_json::{Value, json};
use ukai_core::alarm::AlarmState;
use ukai_core::alarm::composite::AlarmExpression;
use ukai_core::alarm::mute::MuteRule;
use ukai_core::engine::Engine;
use ukai_core::event::{Event, Recorded};
use ukai_core::input::Command;

use crate::desk::*;

const BY_HAND: &str = "by hand";
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

#[derive(Debug, Clone)]
enum Move {
    Put(usize, Value),
    PutComposite(usize, usize, usize, bool),
    Delete(usize),
    Set(usize, AlarmState),
    Enable(usize, bool),
    Mute(usize, i64),
    Unmute,
    Data(i64, i64),
    Wait(i64),
    Back(i64),
    Crash,
}

fn name() -> impl Strategy<Value = usize> {
    0..NAMES.len()
}

fn put() -> impl Strategy<Value = Move> {
    let period = prop::sample::select(vec![10, 30, 60, 300]);
    let treatment = prop::sample::select(vec!["missing", "ignore", "breaching", "notBreaching"]);
    let statistic = prop::sample::select(vec!["Sum", "Minimum", "SampleCount"]);
    (name(), period, 1u32..4, treatment, statistic).prop_map(|(name, period, n, treatment, statistic)| {
        let members = json!({
            "Period": period, "EvaluationPeriods": n, "DatapointsToAlarm": n.min(2), "TreatMissingData": treatment,
            "Statistic": statistic, "OKActions": [FUNCTION], "InsufficientDataActions": [TOPIC],
        });
        Move::Put(name, members)
    })
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let state = prop::sample::select(vec![AlarmState::Ok, AlarmState::Alarm, AlarmState::InsufficientData]);
    let step = prop_oneof![
        4 => put(),
        3 => (name(), name(), name(), any::<bool>()).prop_map(|(of, one, two, held)| Move::PutComposite(of, one, two, held)),
        1 => name().prop_map(Move::Delete),
        4 => (name(), state).prop_map(|(name, state)| Move::Set(name, state)),
        1 => (name(), any::<bool>()).prop_map(|(name, enabled)| Move::Enable(name, enabled)),
        1 => (name(), 0i64..20).prop_map(|(name, minutes)| Move::Mute(name, minutes)),
        1 => Just(Move::Unmute),
        8 => (-400i64..60, -1i64..3).prop_map(|(at, value)| Move::Data(at, value)),
        8 => (1i64..400).prop_map(Move::Wait),
        1 => (1i64..4000).prop_map(Move::Back),
        2 => Just(Move::Crash),
    ];
    prop::collection::vec(step, 1..60)
}

fn rule(alarm: &str, minutes: i64, desk: &Desk) -> Box<MuteRule> {
    let start = desk.now.strftime("%Y-%m-%dT%H:%M").to_string();
    let rule = json!({
        "Name": "quiet",
        "Rule": { "Schedule": { "Expression": format!("at({start})"), "Duration": format!("PT{}M", minutes + 1), "Timezone": "UTC" } },
        "MuteTargets": { "AlarmNames": [alarm] },
    });
    Box::new(serde_json::from_value(rule).unwrap())
}

/// What is refused is refused: nothing may panic.
fn play(desk: &mut Desk, step: Move) {
    let alarm = |name: usize| NAMES[name].to_owned();
    match step {
        Move::Put(name, members) => _ = desk.put(metric(NAMES[name], members)),
        Move::PutComposite(of, one, two, held) => {
            let mut alarm = composite(NAMES[of], &format!("ALARM({}) OR NOT OK({})", NAMES[one], NAMES[two]));
            if held {
                alarm["ActionsSuppressor"] = json!(NAMES[two]);
                alarm["ActionsSuppressorWaitPeriod"] = json!(30);
                alarm["ActionsSuppressorExtensionPeriod"] = json!(90);
            }
            _ = desk.put(alarm);
        }
        Move::Delete(name) => _ = desk.delete(&[NAMES[name]]),
        Move::Set(name, state) => {
            let reason = BY_HAND.to_owned();
            _ = desk.command(Command::SetAlarmState { alarm: alarm(name), state, reason, reason_data: None });
        }
        Move::Enable(name, enabled) => {
            _ = desk.command(Command::SetAlarmActions { alarms: vec![alarm(name)], enabled });
        }
        Move::Mute(name, minutes) => {
            let rule = rule(NAMES[name], minutes, desk);
            _ = desk.command(Command::PutMuteRule { rule });
        }
        Move::Unmute => _ = desk.command(Command::DeleteMuteRule { rule: "quiet".into() }),
        Move::Data(at, value) => {
            let at = desk.now + jiff::SignedDuration::from_secs(at);
            desk.datum(at, value as f64);
        }
        Move::Wait(seconds) => desk.run_for(seconds),
        Move::Back(seconds) => desk.now -= jiff::SignedDuration::from_secs(seconds),
        Move::Crash => desk.crash(),
    }
}

/// A composite is what its rule says, unless a person set it.
fn check_composites(desk: &Desk) {
    let records = &desk.engine.state().alarms.records;
    for (name, record) in records {
        let Some(composite) = record.definition.composite() else { continue };
        if record.reason == BY_HAND {
            continue;
        }
        let rule = AlarmExpression::parse(&composite.rule).unwrap();
        let wanted = rule.eval(&|child| records.get(child).map(|record| record.state)).state();
        assert_eq!(record.state, wanted, "{name}: {}", composite.rule);
    }
}

/// Every change leads somewhere else, and its actions ran, or what held them back is in the log.
fn check_log(desk: &Desk) {
    assert!(desk.log.windows(2).all(|pair| pair[0].at <= pair[1].at));
    for (place, record) in desk.log.iter().enumerate() {
        let Event::AlarmChanged { alarm, before, after, .. } = &record.event else { continue };
        assert_ne!(before, after, "{alarm}");
        let definition = desk.log[..place].iter().rev().find_map(|record| match &record.event {
            Event::AlarmPut { definition, .. } if definition.name == *alarm => Some(definition),
            _ => None,
        });
        let definition = definition.unwrap();
        if definition.composite().is_some() || definition.actions_for(*after).is_empty() {
            continue;
        }
        let acted =
            desk.log[place..].iter().take_while(|later| later.at == record.at).any(|later| match &later.event {
                Event::AlarmActed { alarm: of, state, .. } => of == alarm && state == after,
                Event::AlarmMuted { alarm: of, change } => of == alarm && change.to == *after,
                _ => false,
            });
        assert!(acted, "{alarm} changed to {after:?}, and nothing ran nor was held back");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn replay_equals_live_whatever_is_done_to_alarms(steps in moves()) {
        let mut desk = Desk::new();
        desk.now = after_noon(0);
        for (place, name) in NAMES.iter().enumerate() {
            let treatment = ["missing", "ignore", "breaching", "notBreaching"][place % 4];
            desk.put(metric(name, json!({ "TreatMissingData": treatment }))).unwrap();
        }
        for step in steps {
            play(&mut desk, step);
            let replayed = Engine::replay(desk.log.clone());
            prop_assert_eq!(replayed.state(), desk.engine.state());
            check_composites(&desk);
        }
        check_log(&desk);
        let json = serde_json::to_string(&desk.log).unwrap();
        let again: Vec<Recorded> = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(&again, &desk.log);
        let due = desk.engine.poll_timeout();
        desk.run_for(3600);
        prop_assert!(due.is_some() || desk.engine.state().alarms.records.is_empty());
    }
}
