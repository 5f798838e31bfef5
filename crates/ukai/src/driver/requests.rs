//! What the command line asks, answered from the engine's state.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use ukai_core::engine::Residue;
use ukai_core::input::{Command, Input};
use ukai_core::overrides::{Override, Phase};
use ukai_core::state::{Incident, State};

use crate::log::Position;
use crate::provider::Provider;
use crate::report::{Report, render_markdown};
use crate::socket::Op;
use crate::socket::server::{Answer, Request};

use super::alarm_history::{Past, recall};
use super::alarms::{MutedAlarm, no_such_alarm};
use super::journal::Journal;
use super::{Driver, Stop, alarms};

/// The key of an answer that says that there is no such thing: a sentence.
pub const NOT_FOUND: &str = "not_found";
/// Ended incidents and overrides in one answer, the newest first: it must fit into one line of the socket.
const ENDED_SHOWN: usize = 50;
/// Muted alarms of one status; the others are counted.
const MUTED_SHOWN: usize = 500;
/// Peers that one sentence names.
const PEERS_NAMED: usize = 20;
/// Commands that wait for the engine; the socket has fewer connections than this.
const WAITING_MAX: usize = 128;

impl Driver {
    pub(super) async fn request(&mut self, request: Request) -> anyhow::Result<Option<Stop>> {
        let Request { actor, op, answers } = request;
        match op {
            Op::Command { command } => {
                let command = match addressed(self.engine.state(), command) {
                    Ok(command) => command,
                    Err(unknown) => {
                        answer(&answers, unknown);
                        return Ok(None);
                    }
                };
                self.waiting.retain(|_, answers| !answers.is_closed());
                if self.waiting.len() >= WAITING_MAX {
                    answer(
                        &answers,
                        Answer::Refused("too many commands wait already; try again in a moment".to_owned()),
                    );
                    return Ok(None);
                }
                self.commands += 1;
                self.waiting.insert(self.commands, answers);
                self.take(Input::Command { id: self.commands, by: actor, command }).await
            }
            Op::Reload => {
                let (told, stop) = self.reload().await?;
                answer(
                    &answers,
                    match told {
                        Ok(()) => Answer::Value(json!({ "text": "the configuration was read again and is in force" })),
                        Err(error) => Answer::Refused(format!("{error:#}; the running configuration stays in force")),
                    },
                );
                Ok(stop)
            }
            op => {
                self.read(op, answers);
                Ok(None)
            }
        }
    }

    /// While the log cannot be written: reading goes on, and nothing is said to be done.
    pub(super) fn request_in_trouble(&mut self, request: Request) {
        match request.op {
            Op::Command { .. } | Op::Reload => {
                let why = self.blind.as_ref().map(|blind| blind.why.clone()).unwrap_or_default();
                answer(&request.answers, Answer::Refused(format!("nothing can be decided now: {why}")));
            }
            op => self.read(op, request.answers),
        }
    }

    fn read(&mut self, op: Op, answers: mpsc::Sender<Answer>) {
        let now = self.clock.now().now;
        let state = self.engine.state();
        match op {
            Op::Ping => answer(&answers, Answer::Value(json!({ "process": std::process::id() }))),
            Op::Status => answer(&answers, value(&self.status(state, now))),
            Op::Incidents => answer(&answers, value(&incidents(state))),
            Op::Overrides => self.overrides(state, answers),
            Op::Plan { override_id } => answer(
                &answers,
                match state.overrides.get(&override_id) {
                    Some(over) => value(over),
                    None => no_override(&override_id),
                },
            ),
            Op::Events { from, follow } => {
                tokio::spawn(stream(self.journal.clone(), self.positions.subscribe(), from, follow, answers));
            }
            Op::Report { incident } => self.report(state, incident, answers),
            Op::Alarms { after } => answer(&answers, value(&alarms::page(state, now, after.as_deref()))),
            Op::Alarm { name } => answer(
                &answers,
                match alarms::in_full(&self.engine, now, &name) {
                    Some(alarm) => value(&alarm),
                    None => no_alarm(state, &name),
                },
            ),
            Op::AlarmHistory { name } => self.alarm_history(state, now, name, answers),
            Op::MuteRules => answer(&answers, value(&alarms::mute_rules(state, now))),
            Op::Metrics { namespace, over_s } => {
                let over_s = over_s.unwrap_or(alarms::OVER_S);
                answer(&answers, Answer::Value(alarms::metrics(&self.engine, namespace.as_deref(), over_s)));
            }
            Op::Command { .. } | Op::Reload => {}
        }
    }

    fn status(&self, state: &State, now: jiff::Timestamp) -> Status {
        let muted = alarms::muted(state, now);
        let peers = state.peers.iter().map(|(name, peer)| PeerStatus {
            name: name.clone(),
            host: peer.host.clone(),
            level: peer.level.name(),
            alarms: alarms_of(state, name, &muted),
            addresses: peer.normal_set.iter().map(ToString::to_string).collect(),
            incident: peer.incident.clone(),
            r#override: state.live_override(name).map(|over| over.id.clone()),
            verdict: peer
                .incident
                .as_ref()
                .and_then(|id| state.incidents.get(id)?.verdict.as_ref())
                .or(peer.quiet_verdict.as_ref())
                .map(|verdict| json!({ "code": verdict.code, "sure": verdict.sure, "action": verdict.action, "summary": verdict.summary })),
            history_since: peer.history.since.map(|since| since.to_string()),
        });
        Status {
            version: env!("CARGO_PKG_VERSION"),
            process: std::process::id(),
            started_at: self.started_at,
            position: self.position,
            data_dir: self.config.data_dir.display().to_string(),
            dns: self.config.dns.as_ref().map(|dns| dns.listen.iter().map(ToString::to_string).collect()),
            zone: self.config.zone.as_ref().map(ToString::to_string),
            zone_trouble: self.provider.trouble(),
            frozen: state.frozen.as_ref().map(|frozen| json!({ "by": frozen.by, "why": frozen.why, "at": frozen.at })),
            trouble: self.blind.as_ref().map(|blind| blind.why.clone()),
            metrics: self.metrics(),
            undelivered: state.undelivered.len(),
            peers: peers.collect(),
            leftovers: self.engine.residues().into_iter().map(ShownResidue::from).collect(),
            muted_total: muted.len(),
            muted: muted.values().take(MUTED_SHOWN).cloned().collect(),
            overrides: state
                .overrides
                .values()
                .filter(|over| over.phase.is_pending() || over.phase.may_stand())
                .map(|over| OverrideStatus {
                    id: over.id.clone(),
                    peer: over.peer.clone(),
                    host: over.plan.host.clone(),
                    phase: over.phase.name(),
                    // Before it is applied, what it would serve.
                    addresses: if over.addresses.is_empty() { &over.plan.addresses } else { &over.addresses }
                        .iter()
                        .map(ToString::to_string)
                        .collect(),
                    expires_at: over.expires_at,
                    application_seen_at: over.confirmed_at,
                })
                .collect(),
        }
    }

    fn metrics(&self) -> MetricsStatus {
        let (refused, last_refusal) = self.metrics.as_ref().map(|inputs| inputs.intake.refused()).unwrap_or_default();
        let (received, refused_by_store) = self.data_put;
        let metrics = self.engine.metrics();
        let (kept, bytes) = (metrics.len(), metrics.bytes());
        MetricsStatus { received, refused: refused + refused_by_store, last_refusal, kept, bytes }
    }

    /// The engine's view beside the zone provider's own: what should stand, and what does.
    fn overrides(&self, state: &State, answers: mpsc::Sender<Answer>) {
        let known =
            newest(state.overrides.values(), |over: &&Override| over.ended_at.is_none(), |over| over.proposed_at);
        let known = serde_json::to_value(known);
        let leftovers: Vec<ShownResidue> = self.engine.residues().into_iter().map(ShownResidue::from).collect();
        let provider = self.provider.clone();
        tokio::spawn(async move {
            let (serving, trouble) = match &provider {
                Provider::Nowhere => (None, None),
                provider => match provider.list().await {
                    Ok(serving) => (Some(serving), None),
                    Err(error) => (None, Some(error)),
                },
            };
            answer(
                &answers,
                match known {
                    Ok(known) => Answer::Value(json!({
                        "overrides": known, "serving": serving, "trouble": trouble, "leftovers": leftovers,
                    })),
                    Err(error) => Answer::Refused(format!("the overrides cannot be shown: {error}")),
                },
            );
        });
    }

    fn alarm_history(&self, state: &State, now: jiff::Timestamp, name: String, answers: mpsc::Sender<Answer>) {
        let journal = self.journal.clone();
        let known = state.alarms.records.get(&name).map(|record| record.definition.clone());
        let unknown = no_alarm(state, &name);
        let settings = self.engine.settings();
        let past = Past::of(&name, known, &settings.region, &settings.account_id);
        tokio::spawn(async move {
            let told = recall(&journal, past).await;
            answer(
                &answers,
                match told {
                    Ok(past) if past.is_known => Answer::Value(past.answer(now)),
                    Ok(_) => unknown,
                    Err(error) => Answer::Refused(format!("the history cannot be read: {error:#}")),
                },
            );
        });
    }

    fn report(&self, state: &State, incident: String, answers: mpsc::Sender<Answer>) {
        let journal = self.journal.clone();
        let paths = state.reports.get(&incident).cloned().unwrap_or_default();
        let span =
            state.incidents.get(&incident).map(|known| (known.peer.clone(), known.failing_since, known.closed_at));
        tokio::spawn(async move {
            let told = tell(&journal, &incident, span).await;
            answer(
                &answers,
                match told {
                    Ok(Some(markdown)) => {
                        Answer::Value(json!({ "incident": incident, "markdown": markdown, "paths": paths }))
                    }
                    Ok(None) => not_found(format!("there is no incident {incident}; `ukai incidents` lists them")),
                    Err(error) => Answer::Refused(format!("the report cannot be made: {error:#}")),
                },
            );
        });
    }
}

type Span = (String, jiff::Timestamp, Option<jiff::Timestamp>);

async fn tell(journal: &Journal, incident: &str, span: Option<Span>) -> anyhow::Result<Option<String>> {
    let records = journal.read_all().await?;
    let samples = match span {
        Some((peer, from, to)) => journal.samples(&peer, from, to.unwrap_or(jiff::Timestamp::MAX)).await?,
        None => Vec::new(),
    };
    Ok(Report::fold(&records, &samples, incident).map(|report| render_markdown(&report)))
}

#[derive(Serialize)]
struct Status {
    version: &'static str,
    process: u32,
    started_at: jiff::Timestamp,
    position: Position,
    data_dir: String,
    dns: Option<Vec<String>>,
    /// The zone of somebody else's that overrides go into.
    zone: Option<String>,
    /// Why that zone cannot be read now.
    zone_trouble: Option<String>,
    frozen: Option<Value>,
    /// Why nothing can be decided now.
    trouble: Option<String>,
    metrics: MetricsStatus,
    undelivered: usize,
    peers: Vec<PeerStatus>,
    /// Overrides that are over and still stand.
    leftovers: Vec<ShownResidue>,
    /// Alarms whose actions a mute rule holds back now, the first of `muted_total`.
    muted: Vec<MutedAlarm>,
    muted_total: usize,
    overrides: Vec<OverrideStatus>,
}

/// Of the application's own metrics, since the start.
#[derive(Serialize)]
struct MetricsStatus {
    /// Data.
    received: u64,
    /// Lines, points, series and requests.
    refused: u64,
    last_refusal: Option<String>,
    /// Metrics that are kept, and the memory that they take.
    kept: usize,
    bytes: usize,
}

/// One that is over and still stands, because it cannot be taken away.
#[derive(Serialize)]
struct ShownResidue {
    id: String,
    host: String,
    /// What is answered for the host, as far as it is known.
    addresses: Vec<String>,
    /// null: its withdrawal is under way.
    why: Option<String>,
}

impl From<Residue> for ShownResidue {
    fn from(residue: Residue) -> ShownResidue {
        let Residue { id, host, addresses, why } = residue;
        ShownResidue { id, host, addresses: addresses.iter().map(ToString::to_string).collect(), why }
    }
}

/// One that stands, is going, or waits for somebody.
#[derive(Serialize)]
struct OverrideStatus {
    id: String,
    peer: String,
    host: String,
    /// In words.
    phase: &'static str,
    addresses: Vec<String>,
    expires_at: Option<jiff::Timestamp>,
    /// When the application itself was first seen to succeed.
    application_seen_at: Option<jiff::Timestamp>,
}

#[derive(Serialize)]
struct PeerStatus {
    name: String,
    host: String,
    level: &'static str,
    alarms: Vec<Value>,
    addresses: Vec<String>,
    incident: Option<String>,
    r#override: Option<String>,
    verdict: Option<Value>,
    history_since: Option<String>,
}

fn alarms_of(state: &State, peer: &str, muted: &BTreeMap<&str, MutedAlarm>) -> Vec<Value> {
    let prefix = format!("{peer}/");
    let of_peer = state.alarms.records.iter().filter(|(name, record)| {
        name.starts_with(&prefix) && matches!(record.origin, ukai_core::event::Origin::Default { .. })
    });
    of_peer
        .map(|(alarm, now)| {
            let muted_until = muted.get(alarm.as_str()).map(|muted| muted.until);
            json!({
                "alarm": alarm, "state": now.state, "since": now.since, "reason": now.reason, "muted_until": muted_until,
            })
        })
        .collect()
}

/// An incident, and how its last override is.
#[derive(Serialize)]
struct ShownIncident<'a> {
    #[serde(flatten)]
    incident: &'a Incident,
    override_phase: Option<Phase>,
}

fn incidents(state: &State) -> Vec<ShownIncident<'_>> {
    let phase = |incident: &Incident| Some(state.overrides.get(incident.r#override.as_ref()?)?.phase);
    newest(state.incidents.values(), |incident| incident.closed_at.is_none(), |incident| incident.opened_at)
        .into_iter()
        .map(|incident| ShownIncident { incident, override_phase: phase(incident) })
        .collect()
}

/// The command with the peer's name in place of its host; or that there is nothing it could be about.
fn addressed(state: &State, command: Command) -> Result<Command, Answer> {
    match &command {
        Command::Approve { id, .. }
        | Command::Reject { id, .. }
        | Command::Revert { id, .. }
        | Command::Extend { id, .. } => match state.overrides.contains_key(id) {
            true => Ok(command),
            false => Err(no_override(id)),
        },
        Command::Pin { peer, addresses, why } => {
            Ok(Command::Pin { peer: peer_named(state, peer)?, addresses: addresses.clone(), why: why.clone() })
        }
        Command::ImportHistory { peer, history } => {
            Ok(Command::ImportHistory { peer: peer_named(state, peer)?, history: history.clone() })
        }
        Command::DeleteAlarms { alarms } | Command::SetAlarmActions { alarms, .. } => {
            match alarms.iter().find(|alarm| !state.alarms.records.contains_key(*alarm)) {
                None => Ok(command),
                Some(alarm) => Err(no_alarm(state, alarm)),
            }
        }
        Command::SetAlarmState { alarm, .. } if !state.alarms.records.contains_key(alarm) => {
            Err(no_alarm(state, alarm))
        }
        Command::DeleteMuteRule { rule } if !state.alarms.mute_rules.contains_key(rule) => {
            Err(not_found(format!("there is no mute rule {rule}; `ukai alarms mute` lists them")))
        }
        Command::PutAlarms { .. }
        | Command::SetAlarmState { .. }
        | Command::PutMuteRule { .. }
        | Command::DeleteMuteRule { .. } => Ok(command),
        Command::RevertAll { .. } | Command::Freeze { .. } | Command::Thaw { .. } => Ok(command),
    }
}

/// A peer by its name, or by its host where only one peer has it.
fn peer_named(state: &State, written: &str) -> Result<String, Answer> {
    if state.peers.contains_key(written) {
        return Ok(written.to_owned());
    }
    let host = written.trim_end_matches('.').to_lowercase();
    let of_host: Vec<&str> =
        state.peers.iter().filter(|(_, peer)| peer.host == host).map(|(name, _)| name.as_str()).collect();
    match of_host[..] {
        [name] => Ok(name.to_owned()),
        [] => {
            let names: Vec<&str> = state.peers.keys().map(String::as_str).take(PEERS_NAMED).collect();
            let more = if state.peers.len() > names.len() { ", …" } else { "" };
            Err(not_found(format!("there is no peer {written}; peers: {}{more}", names.join(", "))))
        }
        _ => Err(not_found(format!("{written} is the host of several peers; name one: {}", of_host.join(", ")))),
    }
}

fn no_override(id: &str) -> Answer {
    not_found(format!("there is no override {id}; `ukai overrides` lists them"))
}

fn no_alarm(state: &State, name: &str) -> Answer {
    not_found(no_such_alarm(name, state.alarms.records.keys().map(String::as_str)))
}

fn not_found(sentence: String) -> Answer {
    Answer::Value(json!({ NOT_FOUND: sentence }))
}

/// All that is open, and the newest of the rest; oldest first.
fn newest<T, K: Ord>(all: impl Iterator<Item = T>, is_open: impl Fn(&T) -> bool, key: impl Fn(&T) -> K) -> Vec<T> {
    let (open, mut ended): (Vec<T>, Vec<T>) = all.partition(|one| is_open(one));
    ended.sort_by_key(|one| key(one));
    let surplus = ended.len().saturating_sub(ENDED_SHOWN);
    let mut shown: Vec<T> = ended.into_iter().skip(surplus).chain(open).collect();
    shown.sort_by_key(|one| key(one));
    shown
}

/// Pages from the log, and then, for a follower, whatever is appended.
async fn stream(
    journal: Journal,
    mut positions: watch::Receiver<Position>,
    from: Position,
    follow: bool,
    answers: mpsc::Sender<Answer>,
) {
    let mut last = from;
    loop {
        positions.mark_unchanged();
        let page = match journal.read(last).await {
            Ok(page) => page,
            Err(error) => {
                let _ = answers.send(Answer::Refused(error.to_string())).await;
                return;
            }
        };
        let is_end = page.is_empty();
        for (position, recorded) in page {
            last = position;
            if answers.send(Answer::Event(position, Box::new(recorded))).await.is_err() {
                return;
            }
        }
        if !is_end {
            continue;
        }
        if !follow {
            return;
        }
        tokio::select! {
            changed = positions.changed() => if changed.is_err() { return },
            () = answers.closed() => return,
        }
    }
}

fn value(shown: &impl Serialize) -> Answer {
    match serde_json::to_value(shown) {
        Ok(value) => Answer::Value(value),
        Err(error) => Answer::Refused(format!("the answer cannot be written as JSON: {error}")),
    }
}

/// The channel has room for the one answer of a request; whoever hung up needs none.
fn answer(answers: &mpsc::Sender<Answer>, with: Answer) {
    let _ = answers.try_send(with);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_known_by_its_name_and_by_its_host() {
        let mut state = State::default();
        for (name, host) in [("api", "api.peer.test"), ("one", "two.test"), ("two", "two.test")] {
            let watched = ukai_core::event::Event::PeerWatched {
                peer: name.into(),
                host: host.into(),
                level: ukai_core::peer::Level::Observe,
            };
            state.apply(&ukai_core::event::Recorded { at: jiff::Timestamp::UNIX_EPOCH, event: watched });
        }
        let said = |written: &str| match peer_named(&state, written) {
            Ok(name) => name,
            Err(Answer::Value(value)) => value[NOT_FOUND].as_str().unwrap().to_owned(),
            Err(_) => panic!("not a sentence"),
        };
        for written in ["api", "api.peer.test", "API.peer.test."] {
            assert_eq!(said(written), "api");
        }
        assert_eq!(said("apo"), "there is no peer apo; peers: api, one, two");
        assert!(said("two.test").contains("several peers"), "{}", said("two.test"));
    }

    #[test]
    fn what_is_open_is_always_shown() {
        let all: Vec<u32> = (0..200).collect();
        let shown = newest(all.iter(), |n| **n == 3, |n| **n);
        assert_eq!(shown.len(), ENDED_SHOWN + 1);
        assert_eq!((*shown[0], *shown[1]), (3, 150));
    }
}
