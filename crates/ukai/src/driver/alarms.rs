//! What people ask of alarms, mute rules and metrics, answered from the engine's state.
//!
//! An answer is one line of the socket, which is bounded: alarms come in pages, the rest is cut and says so.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ukai_core::alarm::composite::{AlarmExpression, AlarmRef};
use ukai_core::alarm::definition::{Definition, Kind, MetricAlarm, TreatMissingData};
use ukai_core::alarm::evaluate::Evaluator;
use ukai_core::alarm::missing_data::{Cell, Rule, Slot, cells};
use ukai_core::alarm::mute::{MuteRule, MuteRuleStatus};
use ukai_core::alarm::{AlarmState, defaults, region};
use ukai_core::engine::Engine;
use ukai_core::event::Origin;
use ukai_core::metric::{MetricId, Namespace};
use ukai_core::state::{AlarmRecord, State};

use crate::config::nearest;
use crate::socket::LINE_BYTES;

/// Of an answer's room; the other half is for what JSON adds.
const PAGE_BYTES: usize = LINE_BYTES / 2;
/// Periods of one alarm that are shown, the newest: an alarm of ten-second periods may look back on thousands.
const PERIODS_SHOWN: usize = 500;
/// What a metric is summed up over: a minute where nothing is said, and a day at most, which is what is kept.
pub const OVER_S: u32 = 60;
pub const OVER_MAX_S: u32 = 86_400;

/// An alarm in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShownAlarm {
    pub name: String,
    pub state: AlarmState,
    pub since: Timestamp,
    pub reason: String,
    /// Empty: it is about no one peer.
    pub peer: String,
    /// One that the peer has without asking for it.
    pub is_default: bool,
    /// The mute rule that holds its actions back now, of several the one whose window ends last.
    pub muted_by: Option<String>,
    /// When that window ends.
    #[serde(default)]
    pub muted_until: Option<Timestamp>,
    /// As the API has it.
    pub definition: Definition,
}

/// Alarms by name, and the name after which the next page goes on.
#[derive(Debug, Serialize, Deserialize)]
pub struct AlarmPage {
    pub alarms: Vec<ShownAlarm>,
    pub next: Option<String>,
}

/// An alarm in full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlarmInFull {
    #[serde(flatten)]
    pub alarm: ShownAlarm,
    pub arn: String,
    pub configured_at: Timestamp,
    /// JSON, as `StateReasonData` has it.
    pub reason_data: Option<String>,
    /// Of a composite alarm whose actions wait: why.
    pub suppressed: Option<String>,
    /// Of a composite alarm.
    pub children: Vec<Child>,
    /// Of a composite alarm: the alarm that holds its actions back while it is in ALARM.
    pub suppressor: Option<Child>,
    /// Of a metric alarm: what it would be judged by now.
    pub judged: Option<Judged>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    pub name: String,
    /// None: there is no such alarm.
    pub state: Option<AlarmState>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    pub at: Timestamp,
    pub n: usize,
    pub m: usize,
    pub period_s: u32,
    pub treat_missing_data: TreatMissingData,
    /// None: it keeps the state that it has.
    pub state: Option<AlarmState>,
    pub rule: Rule,
    pub filled: usize,
    /// Oldest first.
    pub periods: Vec<Period>,
    /// Older periods that are not shown.
    pub left_out: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Period {
    pub start: Timestamp,
    pub value: Option<f64>,
    pub sample_count: Option<f64>,
    /// Lower and upper edge, where the alarm compares with a band.
    pub band: Option<(f64, f64)>,
    pub slot: Slot,
    pub became: Cell,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShownMuteRule {
    pub rule: MuteRule,
    pub status: MuteRuleStatus,
    /// The end of the window that mutes now.
    pub until: Option<Timestamp>,
    /// When the next window begins, where none does now.
    pub next: Option<Timestamp>,
}

/// An alarm whose actions do not run now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MutedAlarm {
    pub alarm: String,
    /// The rule, of several the one whose window ends last.
    pub by: String,
    /// When that window ends.
    pub until: Timestamp,
}

/// A metric that is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ShownMetric {
    #[serde(flatten)]
    pub metric: MetricId,
    /// The beginning of its newest second or minute.
    pub latest: Option<Timestamp>,
    pub units: Vec<UnitStatistics>,
}

/// Over the time that was asked for, up to the end of its newest minute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct UnitStatistics {
    pub unit: String,
    pub sample_count: f64,
    pub sum: f64,
    pub minimum: f64,
    pub maximum: f64,
}

pub fn page(state: &State, now: Timestamp, after: Option<&str>) -> AlarmPage {
    use std::ops::Bound;

    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut page = AlarmPage { alarms: Vec::new(), next: None };
    let mut bytes = 0;
    for (_, record) in state.alarms.records.range::<str, _>((from, Bound::Unbounded)) {
        let shown = shown(state, record, now);
        bytes += serde_json::to_string(&shown).map_or(0, |text| text.len());
        if bytes > PAGE_BYTES && !page.alarms.is_empty() {
            page.next = page.alarms.last().map(|last| last.name.clone());
            break;
        }
        page.alarms.push(shown);
    }
    page
}

fn shown(state: &State, record: &AlarmRecord, now: Timestamp) -> ShownAlarm {
    let name = &record.definition.name;
    let rules = state.alarms.mute_rules.values().filter(|rule| rule.targets(name));
    let muting = rules.filter_map(|rule| Some((rule, rule.is_muting(now)?.end))).max_by_key(|(_, until)| *until);
    ShownAlarm {
        name: name.clone(),
        state: record.state,
        since: record.since,
        reason: record.reason.clone(),
        peer: peer_of(state, record),
        is_default: matches!(record.origin, Origin::Default { .. }),
        muted_by: muting.map(|(rule, _)| rule.name().to_owned()),
        muted_until: muting.map(|(_, until)| until),
        definition: (*record.definition).clone(),
    }
}

/// As the engine has it: of a default, of what it observes, or of what its actions name.
fn peer_of(state: &State, record: &AlarmRecord) -> String {
    let own = match (&record.origin, &record.definition.kind) {
        (Origin::Default { peer: Some(peer) }, _) => Some(peer.as_str()),
        (_, Kind::Observed(observed)) => observed.peer.as_deref(),
        _ => None,
    };
    let by_action = || {
        let prefixes = [defaults::OPEN_INCIDENT, defaults::PAGE, defaults::INFORM];
        let mut actions = record.definition.actions.alarm.iter();
        actions.find_map(|action| prefixes.iter().find_map(|prefix| action.strip_prefix(prefix)))
    };
    own.or_else(by_action).filter(|peer| state.peers.contains_key(*peer)).unwrap_or_default().to_owned()
}

/// None: there is no such alarm.
pub fn in_full(engine: &Engine, now: Timestamp, name: &str) -> Option<AlarmInFull> {
    let state = engine.state();
    let record = state.alarms.records.get(name)?;
    let settings = engine.settings();
    Some(AlarmInFull {
        alarm: shown(state, record, now),
        arn: region::alarm_arn(&settings.region, &settings.account_id, name),
        configured_at: record.configured_at,
        reason_data: record.reason_data.clone(),
        suppressed: record
            .suppression
            .as_ref()
            .filter(|suppression| suppression.is_pending())
            .and_then(|suppression| suppression.suppressed_reason())
            .map(str::to_owned),
        children: children(state, &record.definition),
        suppressor: suppressor(state, &record.definition),
        judged: record.definition.metric().map(|alarm| judged(alarm, engine, now)),
    })
}

fn children(state: &State, definition: &Definition) -> Vec<Child> {
    let rule = definition.composite().and_then(|composite| AlarmExpression::parse(&composite.rule).ok());
    rule.iter().flat_map(|rule| rule.children()).map(|name| child(state, name)).collect()
}

fn suppressor(state: &State, definition: &Definition) -> Option<Child> {
    let suppressor = definition.composite()?.suppressor.as_ref()?;
    Some(child(state, suppressor.alarm()))
}

fn child(state: &State, name_or_arn: &str) -> Child {
    let named = AlarmRef::new(name_or_arn).ok();
    let name = named.as_ref().map_or(name_or_arn, |named| named.alarm_name());
    Child { name: name.to_owned(), state: state.alarms.records.get(name).map(|record| record.state) }
}

fn judged(alarm: &MetricAlarm, engine: &Engine, now: Timestamp) -> Judged {
    let evaluation = Evaluator::default().evaluate(alarm, engine.metrics(), now);
    let slots: Vec<Slot> = evaluation.range.iter().map(|point| point.slot).collect();
    let became = cells(&slots, alarm.n());
    let left_out = slots.len().saturating_sub(PERIODS_SHOWN);
    let periods = evaluation.range.iter().zip(became).skip(left_out).map(|(point, became)| Period {
        start: Timestamp::from_second(point.start_s).unwrap_or_default(),
        value: point.datapoint.map(|datapoint| datapoint.value),
        sample_count: point.datapoint.map(|datapoint| datapoint.sample_count),
        band: point.band,
        slot: point.slot,
        became,
    });
    Judged {
        at: now,
        n: alarm.n(),
        m: alarm.m(),
        period_s: alarm.period_s(),
        treat_missing_data: alarm.treats_missing_data(),
        state: evaluation.judgement.state,
        rule: evaluation.judgement.rule,
        filled: evaluation.judgement.filled,
        periods: periods.collect(),
        left_out,
    }
}

pub fn mute_rules(state: &State, now: Timestamp) -> Vec<ShownMuteRule> {
    let rules = state.alarms.mute_rules.values();
    rules
        .map(|rule| {
            let window = rule.is_muting(now);
            ShownMuteRule {
                rule: rule.clone(),
                status: rule.status(now),
                until: window.map(|window| window.end),
                next: if window.is_some() { None } else { rule.next_change(now) },
            }
        })
        .collect()
}

/// That there is no such alarm, and which was likely meant: one that is written nearly so, or so behind its peer.
pub fn no_such_alarm<'k>(name: &str, known: impl Iterator<Item = &'k str> + Clone) -> String {
    let behind = format!("/{name}");
    let meant = nearest(name, known.clone()).or_else(|| known.clone().find(|known| known.ends_with(&behind)));
    match meant {
        Some(meant) => format!("there is no alarm {name}; did you mean \"{meant}\"? `ukai alarms` lists them"),
        None => format!("there is no alarm {name}; `ukai alarms` lists them"),
    }
}

/// Each alarm whose actions a rule holds back now, by name.
pub fn muted(state: &State, now: Timestamp) -> BTreeMap<&str, MutedAlarm> {
    let mut muted: BTreeMap<&str, MutedAlarm> = BTreeMap::new();
    for rule in state.alarms.mute_rules.values() {
        let Some(window) = rule.is_muting(now) else { continue };
        let targets = rule.request().mute_targets.iter().flat_map(|targets| &targets.alarm_names);
        for name in targets.filter(|name| state.alarms.records.contains_key(*name)) {
            if muted.get(name.as_str()).is_none_or(|known| known.until < window.end) {
                let alarm = MutedAlarm { alarm: name.clone(), by: rule.name().to_owned(), until: window.end };
                muted.insert(name, alarm);
            }
        }
    }
    muted
}

/// By namespace, name and dimensions. What has no room is counted.
pub fn metrics(engine: &Engine, namespace: Option<&str>, over_s: u32) -> Value {
    let kept = engine.metrics();
    let namespace = namespace.map(Namespace::new);
    let mut ids: Vec<&MetricId> = match &namespace {
        None => kept.list(None).collect(),
        Some(Ok(namespace)) => kept.list(Some(namespace)).collect(),
        // What cannot be the name of a namespace has no metrics.
        Some(Err(_)) => Vec::new(),
    };
    ids.sort();
    let total = ids.len();
    let (mut shown, mut bytes) = (Vec::new(), 0);
    for id in ids {
        let Ok(metric) = serde_json::to_value(shown_metric(engine, id, over_s)) else { continue };
        bytes += metric.to_string().len();
        if bytes > PAGE_BYTES {
            break;
        }
        shown.push(metric);
    }
    let left_out = total - shown.len();
    json!({ "metrics": shown, "left_out": left_out, "over_s": over_s })
}

fn shown_metric(engine: &Engine, id: &MetricId, over_s: u32) -> ShownMetric {
    let kept = engine.metrics();
    let latest = kept.latest(id);
    let over_s = i64::from(over_s.clamp(OVER_S, OVER_MAX_S) / OVER_S * OVER_S);
    let minute = i64::from(OVER_S);
    let end_s = latest.map_or(0, |at| (at.as_second().div_euclid(minute) + 1) * minute);
    let units = kept.units_of(id).into_iter().filter_map(|unit| {
        let mut read = Vec::with_capacity(1);
        kept.window(id, Some(unit), end_s, over_s, 1, &mut read);
        let samples = read.pop().flatten()?;
        Some(UnitStatistics {
            unit: unit.name().to_owned(),
            sample_count: samples.count(),
            sum: samples.sum(),
            minimum: samples.minimum(),
            maximum: samples.maximum(),
        })
    });
    let units = units.collect();
    ShownMetric { metric: id.clone(), latest, units }
}

#[cfg(test)]
mod tests {
    use ukai_core::event::{Actor, Event, Recorded};

    use super::*;

    fn put(state: &mut State, event: Event) {
        state.apply(&Recorded { at: Timestamp::UNIX_EPOCH, event });
    }

    fn operator() -> Actor {
        Actor { uid: None, name: "operator".into(), via: "cli".into() }
    }

    #[test]
    fn a_muted_alarm_is_muted_until_the_last_of_its_windows_ends() {
        let mut state = State::default();
        for name in ["loud", "other"] {
            let definition = serde_json::from_value(json!({ "AlarmName": name, "AlarmRule": "TRUE" })).unwrap();
            let (definition, origin) = (Box::new(definition), Origin::Operator);
            put(&mut state, Event::AlarmPut { definition, origin, by: operator() });
        }
        for (name, duration) in [("longer", "PT3H"), ("shorter", "PT1H"), ("over", "PT1M")] {
            let rule = serde_json::from_value(json!({
                "Name": name,
                "Rule": { "Schedule": { "Expression": "at(2026-01-01T00:00)", "Duration": duration } },
                "MuteTargets": { "AlarmNames": ["loud", "not there"] },
            }));
            put(&mut state, Event::MuteRulePut { rule: Box::new(rule.unwrap()), by: operator() });
        }
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let muted = muted(&state, at("2026-01-01T00:30:00Z"));
        let until = at("2026-01-01T03:00:00Z");
        let loud = MutedAlarm { alarm: "loud".into(), by: "longer".into(), until };
        assert_eq!(muted.into_values().collect::<Vec<_>>(), [loud]);
        let page = page(&state, at("2026-01-01T00:30:00Z"), None);
        assert_eq!((page.alarms[0].muted_by.as_deref(), page.alarms[0].muted_until), (Some("longer"), Some(until)));
        assert_eq!(page.alarms[1].muted_until, None);
    }

    #[test]
    fn an_alarm_that_is_not_there_may_be_another() {
        let known = ["api/errors", "api/latency", "slow"];
        let said = |name: &str| no_such_alarm(name, known.into_iter());
        assert_eq!(
            said("api/erors"),
            "there is no alarm api/erors; did you mean \"api/errors\"? `ukai alarms` lists them"
        );
        assert!(said("latency").contains("did you mean \"api/latency\"?"));
        assert_eq!(said("disk"), "there is no alarm disk; `ukai alarms` lists them");
    }

    #[test]
    fn pages_fit_into_a_line_and_leave_nothing_out() {
        let mut state = State::default();
        for number in 0..2_000 {
            let wire = json!({
                "AlarmName": format!("alarm-{number}"), "AlarmDescription": "d".repeat(1000), "AlarmRule": "TRUE",
            });
            let definition = serde_json::from_value(wire).unwrap();
            let by = Actor { uid: None, name: "mika".into(), via: "cli".into() };
            let event = Event::AlarmPut { definition: Box::new(definition), origin: Origin::Operator, by };
            state.apply(&Recorded { at: Timestamp::UNIX_EPOCH, event });
        }
        let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = page(&state, Timestamp::UNIX_EPOCH, after.as_deref());
            assert!(serde_json::to_string(&page).unwrap().len() < LINE_BYTES);
            seen.extend(page.alarms.into_iter().map(|alarm| alarm.name));
            pages += 1;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert!(pages > 1);
        assert_eq!(seen, state.alarms.records.keys().cloned().collect::<Vec<_>>());
    }
}
