//! Alarms without peers: definitions, data and time go in, states and messages come out.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use ukai_core::alarm::AlarmState;
use ukai_core::alarm::definition::Definition;
use ukai_core::effect::{Effect, Reply};
use ukai_core::engine::{Engine, Step};
use ukai_core::event::{Event, Notification, Recorded};
use ukai_core::input::{Command, Input};
use ukai_core::metric::{Datum, Dimensions, Namespace, Unit};
use ukai_core::peer::{Settings, Subscriber};
use ukai_core::state::AlarmRecord;

use crate::world::person;

pub const TOPIC: &str = "arn:aws:sns:ap-northeast-1:111122223333:on-call";
pub const FUNCTION: &str = "arn:aws:lambda:ap-northeast-1:111122223333:function:heal";
/// Windows are judged so long after they moved.
pub const DELAY_S: i64 = 2;

/// A whole hour.
pub fn noon() -> Timestamp {
    "2026-01-10T12:00:00Z".parse().unwrap()
}

pub fn after_noon(seconds: i64) -> Timestamp {
    noon() + SignedDuration::from_secs(seconds)
}

pub struct Desk {
    pub engine: Engine,
    pub now: Timestamp,
    pub log: Vec<Recorded>,
    pub messages: Vec<(String, Notification)>,
    pub reply: Option<Result<String, String>>,
}

impl Desk {
    pub fn new() -> Desk {
        let now = after_noon(-3600);
        let mut desk = Desk { engine: Engine::default(), now, log: Vec::new(), messages: Vec::new(), reply: None };
        desk.start();
        desk
    }

    pub fn start(&mut self) {
        let subscriber = |name: &str, topics: &[&str]| Subscriber {
            name: name.to_owned(),
            peers: ["nobody".to_owned()].into(),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        };
        let settings = Settings {
            subscribers: vec![
                subscriber("mail", &[TOPIC]),
                subscriber("hook", &[TOPIC, FUNCTION]),
                subscriber("deaf", &[]),
            ],
            vantage: "here".into(),
            region: "ap-northeast-1".into(),
            account_id: "111122223333".into(),
            ..Settings::default()
        };
        self.input(Input::Started { version: "test".into(), settings: Box::new(settings) });
    }

    pub fn input(&mut self, input: Input) {
        let Step { events, effects } = self.engine.handle(self.now, input);
        self.log.extend(events);
        for effect in effects {
            match effect {
                Effect::Notify { notification, subscriber } => self.messages.push((subscriber, notification)),
                Effect::Reply { reply: Reply::Done { text }, .. } => self.reply = Some(Ok(text)),
                Effect::Reply { reply: Reply::Refused { text }, .. } => self.reply = Some(Err(text)),
                _ => {}
            }
        }
    }

    pub fn command(&mut self, command: Command) -> Result<String, String> {
        self.reply = None;
        self.input(Input::Command { id: 1, by: person(7), command });
        self.reply.take().unwrap()
    }

    pub fn put(&mut self, definition: Value) -> Result<String, String> {
        self.put_all(vec![definition])
    }

    pub fn put_all(&mut self, definitions: Vec<Value>) -> Result<String, String> {
        let definitions = definitions.into_iter().map(definition).collect();
        self.command(Command::PutAlarms { definitions })
    }

    pub fn set(&mut self, alarm: &str, state: AlarmState) {
        let reason = format!("to {}", state.name());
        let command = Command::SetAlarmState { alarm: alarm.to_owned(), state, reason, reason_data: None };
        self.command(command).unwrap();
    }

    pub fn delete(&mut self, alarms: &[&str]) -> Result<String, String> {
        self.command(Command::DeleteAlarms { alarms: alarms.iter().map(|alarm| (*alarm).to_owned()).collect() })
    }

    pub fn datum(&mut self, at: Timestamp, value: f64) {
        self.data(&[(at, value)]);
    }

    pub fn data(&mut self, data: &[(Timestamp, f64)]) {
        let namespace = Namespace::new("Shop").unwrap();
        let data = data
            .iter()
            .map(|(at, value)| {
                Datum::single(&namespace, "Failed", Dimensions::default(), *at, *value, Unit::Count).unwrap()
            })
            .collect();
        self.input(Input::MetricsPut { source: "shop".into(), data });
    }

    pub fn run_until(&mut self, end: Timestamp) {
        while let Some(at) = self.engine.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.input(Input::Tick);
        }
        self.now = end;
        self.input(Input::Tick);
    }

    pub fn run_for(&mut self, seconds: i64) {
        self.run_until(self.now + SignedDuration::from_secs(seconds));
    }

    /// The windows of metrics are on disk, and are taken back before anything is judged.
    pub fn crash(&mut self) {
        let metrics = self.engine.metrics().clone();
        self.engine = Engine::replay(self.log.clone());
        *self.engine.metrics_mut() = metrics;
        self.start();
    }

    pub fn state(&self, alarm: &str) -> AlarmState {
        self.record(alarm).state
    }

    pub fn record(&self, alarm: &str) -> &AlarmRecord {
        &self.engine.state().alarms.records[alarm]
    }

    pub fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.log.iter().filter(|record| wanted(&record.event)).count()
    }

    /// Times at which it changed its state, and to which.
    pub fn changes(&self, of: &str) -> Vec<(Timestamp, AlarmState)> {
        let change = |record: &Recorded| match &record.event {
            Event::AlarmChanged { alarm, after, .. } if alarm == of => Some((record.at, *after)),
            _ => None,
        };
        self.log.iter().filter_map(change).collect()
    }
}

pub fn definition(definition: Value) -> Definition {
    serde_json::from_value(definition).unwrap()
}

/// An alarm on `Failed` above nothing, with these members in the place of the usual ones.
pub fn metric(name: &str, members: Value) -> Value {
    let mut alarm = json!({
        "AlarmName": name, "Namespace": "Shop", "MetricName": "Failed", "Statistic": "Sum", "Period": 60,
        "EvaluationPeriods": 1, "Threshold": 0.0, "ComparisonOperator": "GreaterThanThreshold",
        "AlarmActions": [TOPIC],
    });
    let members = members.as_object().unwrap().clone();
    alarm.as_object_mut().unwrap().extend(members);
    alarm
}

/// An alarm that keeps whatever state it is set to.
pub fn kept(name: &str) -> Value {
    metric(name, json!({ "MetricName": "Never", "TreatMissingData": "ignore", "AlarmActions": [] }))
}

pub fn composite(name: &str, rule: &str) -> Value {
    json!({ "AlarmName": name, "AlarmRule": rule, "AlarmActions": [TOPIC], "OKActions": [FUNCTION] })
}
