//! What is known, as the fold of the log and of nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::diagnose::evidence::{Purpose, Source};
use crate::diagnose::history::{History, SeenAnswer};
use crate::diagnose::verdict::Verdict;
use crate::event::{Actor, Event, Notification, Recorded};
use crate::observe::{ErrorClass, Stage};
use crate::overrides::{Override, Phase};
use crate::peer::Level;
use crate::plan::Refusal;

mod alarms;

pub use alarms::{AlarmRecord, Alarms, Previous};

/// Closed incidents and ended overrides that stay in memory; the log keeps all of them.
pub const ENDED_KEPT: usize = 200;

/// New identities of one peer that are remembered as told; past it all are told anew.
pub const TOLD_KEYS_MAX: usize = 64;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub peers: BTreeMap<String, PeerState>,
    #[serde(default)]
    pub alarms: Alarms,
    pub incidents: BTreeMap<String, Incident>,
    pub overrides: BTreeMap<String, Override>,
    /// Gatherings that were asked for and have not come back.
    pub gatherings: BTreeMap<String, Gathering>,
    /// Notifications that some subscriber has not received yet, by key.
    pub undelivered: BTreeMap<String, Undelivered>,
    pub frozen: Option<Frozen>,
    /// When something was changed in a zone, within the last hour: the bound on changes.
    pub changes: Vec<Timestamp>,
    pub numbers: Numbers,
    /// Incidents whose report is still to be written.
    pub reports_due: BTreeSet<String>,
    pub reports: BTreeMap<String, Vec<String>>,
    pub last_at: Option<Timestamp>,
}

/// The next free number of each kind of id.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    pub incident: u64,
    pub r#override: u64,
    pub gathering: u64,
    pub notification: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerState {
    pub host: String,
    pub level: Level,
    pub history: History,
    /// The addresses that the normal path last led to.
    pub normal_set: BTreeSet<IpAddr>,
    pub incident: Option<String>,
    /// Keys of new identities that people were told of.
    #[serde(default)]
    pub told_keys: BTreeSet<String>,
    /// The last verdict given without an incident.
    pub quiet_verdict: Option<Verdict>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    pub id: String,
    pub peer: String,
    pub alarm: String,
    pub stage: Stage,
    pub class: ErrorClass,
    pub summary: String,
    pub failing_since: Timestamp,
    pub opened_at: Timestamp,
    /// Somebody is to be paged if it lasts.
    #[serde(default)]
    pub worthy: bool,
    pub paged: bool,
    /// It was paged, and closed, and failed again: if that lasts, it is paged once more.
    #[serde(default)]
    pub page_if_it_lasts: bool,
    /// Since when no probe was whole, while that is being watched.
    #[serde(default)]
    pub watched_since: Option<Timestamp>,
    /// How often it failed again soon after it was closed.
    #[serde(default)]
    pub reopened: u32,
    pub verdict: Option<Verdict>,
    pub diagnosed_at: Option<Timestamp>,
    /// When the evidence last asked for came back, and how often it was asked for.
    pub gathered_at: Option<Timestamp>,
    pub gatherings: u32,
    /// Since when an authority was seen to give another set than before the incident.
    pub moved_seen_at: Option<Timestamp>,
    pub refusals: Vec<Refusal>,
    pub r#override: Option<String>,
    pub closed_at: Option<Timestamp>,
    pub close_reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gathering {
    pub peer: String,
    pub incident: Option<String>,
    pub purpose: Purpose,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undelivered {
    pub notification: Notification,
    pub subscribers: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    pub by: Actor,
    pub why: String,
    pub at: Timestamp,
}

impl State {
    /// The state after these events, from nothing.
    pub fn fold<'a>(recorded: impl IntoIterator<Item = &'a Recorded>) -> State {
        let mut state = State::default();
        for record in recorded {
            state.apply(record);
        }
        state
    }

    pub fn open_incident(&self, peer: &str) -> Option<&Incident> {
        let id = self.peers.get(peer)?.incident.as_ref()?;
        self.incidents.get(id)
    }

    /// The override of a peer that is pending or may stand.
    pub fn live_override(&self, peer: &str) -> Option<&Override> {
        self.overrides.values().find(|over| over.peer == peer && (over.phase.is_pending() || over.phase.may_stand()))
    }

    /// Takes one event in. The only way that state changes.
    pub fn apply(&mut self, record: &Recorded) {
        let at = record.at;
        self.last_at = Some(at);
        match &record.event {
            Event::PeerWatched { peer, host, level } => self.watch(peer, host, *level),
            Event::PeerForgotten { peer } => {
                self.gatherings.retain(|_, gathering| &gathering.peer != peer);
                self.peers.remove(peer);
            }
            Event::BaselineLearned { peer, history } | Event::HistoryImported { peer, history, .. } => {
                if let Some(peer) = self.peers.get_mut(peer) {
                    peer.history = (**history).clone();
                }
            }
            Event::AddressSetChanged { peer, after, ttl, .. } => {
                if let Some(peer) = self.peers.get_mut(peer) {
                    peer.normal_set = after.clone();
                    peer.history.learn_answer(SeenAnswer {
                        source: Source::OurResolver,
                        addresses: after.clone(),
                        ttl: ttl.unwrap_or(0),
                        first_seen: at,
                        last_seen: at,
                    });
                }
            }
            Event::IdentityChanged { peer, keys, .. } => {
                if let Some(peer) = self.peers.get_mut(peer) {
                    if peer.told_keys.len() + keys.len() > TOLD_KEYS_MAX {
                        peer.told_keys.clear();
                    }
                    peer.told_keys.extend(keys.iter().cloned());
                }
            }
            Event::Frozen { by, why } => {
                self.frozen = Some(Frozen { by: by.clone(), why: why.clone(), at });
            }
            Event::Thawed { .. } => self.frozen = None,
            Event::Started { .. } | Event::PinRequested { .. } | Event::Troubled { .. } => {}
            _ => {
                self.alarms.apply(at, &record.event);
                self.apply_incident(at, &record.event);
                self.apply_override(at, &record.event);
                self.apply_notification(&record.event);
            }
        }
    }

    fn watch(&mut self, peer: &str, host: &str, level: Level) {
        let known = self.peers.entry(peer.to_owned()).or_insert_with(|| PeerState {
            host: host.to_owned(),
            level,
            history: History::default(),
            normal_set: BTreeSet::new(),
            incident: None,
            told_keys: BTreeSet::new(),
            quiet_verdict: None,
        });
        if known.host != host {
            known.history = History::default();
            known.host = host.to_owned();
        }
        known.level = level;
    }

    fn apply_incident(&mut self, at: Timestamp, event: &Event) {
        match event {
            Event::IncidentOpened {
                incident, peer, alarm, stage, class, summary, page, worthy, failing_since, ..
            } => {
                self.numbers.incident += 1;
                if let Some(peer) = self.peers.get_mut(peer) {
                    peer.incident = Some(incident.clone());
                }
                let opened = Incident {
                    id: incident.clone(),
                    peer: peer.clone(),
                    alarm: alarm.clone(),
                    stage: *stage,
                    class: *class,
                    summary: summary.clone(),
                    failing_since: *failing_since,
                    opened_at: at,
                    worthy: *worthy,
                    paged: *page,
                    page_if_it_lasts: false,
                    watched_since: None,
                    reopened: 0,
                    verdict: None,
                    diagnosed_at: None,
                    gathered_at: None,
                    gatherings: 0,
                    moved_seen_at: None,
                    refusals: Vec::new(),
                    r#override: None,
                    closed_at: None,
                    close_reason: None,
                };
                self.incidents.insert(incident.clone(), opened);
            }
            Event::IncidentReopened { incident, summary, page_again, worthy, stage, class, .. } => {
                let Some(known) = self.incidents.get_mut(incident) else { return };
                known.summary.clone_from(summary);
                known.stage = stage.unwrap_or(known.stage);
                known.class = class.unwrap_or(known.class);
                known.worthy = *worthy;
                known.page_if_it_lasts = known.paged && !page_again;
                known.paged &= !page_again;
                known.reopened += 1;
                known.closed_at = None;
                known.close_reason = None;
                if let Some(peer) = self.peers.get_mut(&known.peer) {
                    peer.incident = Some(incident.clone());
                }
                self.reports_due.remove(incident);
            }
            Event::IncidentWorsened { incident, stage, class, summary } => {
                self.incident_mut(incident, |known| {
                    known.worthy = true;
                    known.stage = *stage;
                    known.class = *class;
                    known.summary.clone_from(summary);
                });
            }
            Event::FailureWatched { incident, since } => {
                self.incident_mut(incident, |known| known.watched_since = Some(*since));
            }
            Event::FailureBroke { incident } => {
                self.incident_mut(incident, |known| known.watched_since = None);
            }
            Event::IncidentPaged { incident, .. } => {
                self.incident_mut(incident, |known| {
                    known.paged = true;
                    known.page_if_it_lasts = false;
                    known.watched_since = None;
                });
            }
            Event::EvidenceRequested { gathering, peer, incident, purpose } => {
                self.numbers.gathering += 1;
                let asked = Gathering { peer: peer.clone(), incident: incident.clone(), purpose: *purpose };
                self.gatherings.insert(gathering.clone(), asked);
                if let Some(incident) = incident {
                    self.incident_mut(incident, |known| known.gatherings += 1);
                }
            }
            Event::EvidenceGathered { gathering, incident, evidence, peer, .. } => {
                self.gatherings.remove(gathering);
                let before = self.peers.get(peer).and_then(|peer| peer.history.authority_answer());
                let given = crate::diagnose::answers::authority_addresses(evidence);
                let moved = before.is_some_and(|before| !given.is_empty() && given.is_disjoint(&before.addresses));
                // It gives the old address again: whoever asks now gets it with a whole TTL.
                let back = before.is_some_and(|before| !given.is_disjoint(&before.addresses));
                if let Some(incident) = incident {
                    self.incident_mut(incident, |known| {
                        known.gathered_at = Some(at);
                        match (moved, back) {
                            (true, _) if known.moved_seen_at.is_none() => {
                                known.moved_seen_at = Some(evidence.started_at);
                            }
                            (_, true) => known.moved_seen_at = None,
                            _ => {}
                        }
                    });
                }
            }
            Event::Diagnosed { peer, incident, verdict, .. } => match incident {
                Some(incident) => self.incident_mut(incident, |known| {
                    known.diagnosed_at.get_or_insert(at);
                    known.verdict = Some((**verdict).clone());
                }),
                None => {
                    if let Some(peer) = self.peers.get_mut(peer) {
                        peer.quiet_verdict = Some((**verdict).clone());
                    }
                }
            },
            Event::OverrideRefused { incident, refusals, .. } => {
                self.incident_mut(incident, |known| known.refusals = refusals.clone());
            }
            Event::IncidentClosed { incident, reason } => {
                if let Some(known) = self.incidents.get_mut(incident) {
                    known.closed_at = Some(at);
                    known.watched_since = None;
                    known.close_reason = Some(reason.clone());
                    if let Some(peer) = self.peers.get_mut(&known.peer) {
                        peer.incident = None;
                    }
                }
                self.reports_due.insert(incident.clone());
                self.forget_ended();
            }
            Event::ReportWritten { incident, paths } => {
                self.reports_due.remove(incident);
                self.reports.insert(incident.clone(), paths.clone());
            }
            _ => {}
        }
    }

    fn incident_mut(&mut self, id: &str, change: impl FnOnce(&mut Incident)) {
        if let Some(incident) = self.incidents.get_mut(id) {
            change(incident);
        }
    }

    fn apply_override(&mut self, at: Timestamp, event: &Event) {
        if let Event::OverrideProposed { id, incident, plan, hash, level } = event {
            self.numbers.r#override += 1;
            self.incident_mut(incident, |known| {
                known.r#override = Some(id.clone());
                known.refusals.clear();
            });
            self.overrides.insert(id.clone(), planned(at, id, plan, hash, *level));
            return;
        }
        if matches!(event, Event::ApplyStarted { .. } | Event::FollowStarted { .. }) {
            self.changes.retain(|change| at.duration_since(*change).as_secs() < 3600);
            self.changes.push(at);
        }
        let Some(over) = override_id(event).and_then(|id| self.overrides.get_mut(id)) else {
            return;
        };
        match event {
            Event::OverrideApproved { by, .. } => {
                over.approvals.push(by.clone());
                let needed = usize::from(over.needed_approvals());
                if over.approvals.len() >= needed {
                    over.phase = Phase::Approved;
                    over.approved_at = Some(at);
                }
            }
            Event::OverrideRejected { .. } => over.end(at, Phase::Rejected),
            Event::OverrideVoided { .. } => over.end(at, Phase::Voided),
            Event::ApplyStarted { generation, addresses, expires_at, .. } => {
                over.phase = Phase::Applying;
                over.generation = *generation;
                over.addresses = addresses.clone();
                over.expires_at = Some(*expires_at);
            }
            Event::Applied { .. } => {
                if over.phase == Phase::Applying {
                    over.phase = Phase::Applied;
                }
                over.applied_at.get_or_insert(at);
                over.lease_from.get_or_insert(at);
            }
            Event::OverrideServed { .. } => {
                over.trouble = None;
                over.served_at.get_or_insert(at);
                if over.phase == Phase::Applied {
                    over.phase = Phase::Served;
                }
            }
            Event::OverrideConfirmed { .. } => {
                over.phase = Phase::Confirmed;
                over.confirmed_at.get_or_insert(at);
            }
            Event::FollowStarted { generation, addresses, .. } => {
                over.generation = *generation;
                over.addresses = addresses.clone();
                over.phase = Phase::Applying;
            }
            Event::LeaseWarned { .. } => over.warnings += 1,
            Event::LeaseExtended { expires_at, .. } => {
                over.expires_at = Some(*expires_at);
                over.warnings = 0;
                over.lease_from = Some(at);
                over.generation += 1;
                over.phase = Phase::Applying;
            }
            Event::OverrideTroubled { reason, .. } => over.trouble = Some(reason.clone()),
            Event::WithdrawStarted { reason, why, by, .. } => {
                over.phase = Phase::Withdrawing(*reason);
                over.why = why.clone();
                over.withdrawn_by = Some(by.clone());
            }
            Event::OverrideEnded { reason, .. } => over.end(at, Phase::Ended(*reason)),
            _ => {}
        }
    }

    fn apply_notification(&mut self, event: &Event) {
        match event {
            Event::NotificationQueued { notification, subscribers } => {
                self.numbers.notification += 1;
                if subscribers.is_empty() {
                    return;
                }
                let waiting = Undelivered {
                    notification: notification.clone(),
                    subscribers: subscribers.iter().cloned().collect(),
                };
                self.undelivered.insert(notification.key.clone(), waiting);
            }
            Event::NotificationFailed { retried: true, .. } => {}
            Event::NotificationDelivered { key, subscriber, .. }
            | Event::NotificationFailed { key, subscriber, .. } => {
                if let Some(waiting) = self.undelivered.get_mut(key) {
                    waiting.subscribers.remove(subscriber);
                    if waiting.subscribers.is_empty() {
                        self.undelivered.remove(key);
                    }
                }
            }
            _ => {}
        }
    }

    /// Drops the oldest of what has ended, so that a daemon of years stays small.
    fn forget_ended(&mut self) {
        let mut ended: Vec<(Timestamp, String)> =
            self.incidents.values().filter_map(|known| Some((known.closed_at?, known.id.clone()))).collect();
        ended.sort();
        let surplus = ended.len().saturating_sub(ENDED_KEPT);
        for (_, id) in ended.into_iter().take(surplus) {
            self.incidents.remove(&id);
            self.reports.remove(&id);
            self.overrides.retain(|_, over| over.incident != id || over.phase.may_stand() || over.phase.is_pending());
        }
    }
}

impl Override {
    /// Nobody but policy approved it.
    pub fn is_by_policy(&self) -> bool {
        self.approvals.iter().any(|actor| actor.uid.is_none())
    }

    /// Policy approves alone; people are counted as the plan says.
    fn needed_approvals(&self) -> u8 {
        if self.is_by_policy() { 1 } else { self.plan.approvals }
    }

    fn end(&mut self, at: Timestamp, phase: Phase) {
        self.phase = phase;
        self.ended_at = Some(at);
    }
}

fn planned(at: Timestamp, id: &str, plan: &crate::plan::Plan, hash: &str, level: Level) -> Override {
    let phase = match level {
        Level::Observe | Level::Propose => Phase::Withheld,
        Level::Approve | Level::Auto => Phase::Proposed,
    };
    Override {
        id: id.to_owned(),
        peer: plan.peer.clone(),
        incident: plan.incident.clone(),
        plan: plan.clone(),
        hash: hash.to_owned(),
        level,
        phase,
        proposed_at: at,
        approvals: Vec::new(),
        approved_at: None,
        generation: 0,
        addresses: plan.addresses.clone(),
        applied_at: None,
        lease_from: None,
        expires_at: None,
        served_at: None,
        confirmed_at: None,
        ended_at: None,
        warnings: 0,
        trouble: None,
        why: String::new(),
        withdrawn_by: None,
    }
}

/// The override that an event is about.
pub fn override_id(event: &Event) -> Option<&str> {
    match event {
        Event::OverrideProposed { id, .. }
        | Event::OverrideApproved { id, .. }
        | Event::OverrideRejected { id, .. }
        | Event::OverrideVoided { id, .. }
        | Event::ApplyStarted { id, .. }
        | Event::Applied { id, .. }
        | Event::ApplyFailed { id, .. }
        | Event::OverrideServed { id, .. }
        | Event::OverrideConfirmed { id, .. }
        | Event::FollowStarted { id, .. }
        | Event::LeaseWarned { id, .. }
        | Event::LeaseExtended { id, .. }
        | Event::OverrideTroubled { id, .. }
        | Event::WithdrawStarted { id, .. }
        | Event::WithdrawFailed { id, .. }
        | Event::OverrideEnded { id, .. }
        | Event::NormalPathProved { id, .. } => Some(id),
        _ => None,
    }
}
