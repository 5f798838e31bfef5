//! The incident as a report tells it: a pure fold of its events.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::Serialize;
use ukai_core::diagnose::evidence::{ApplicationCall, Evidence};
use ukai_core::diagnose::verdict::Verdict;
use ukai_core::event::{Actor, Event, Notification, NotificationKind, Recorded};
use ukai_core::observe::Observation;
use ukai_core::overrides::EndReason;
use ukai_core::peer::Level;
use ukai_core::plan::{Plan, Refusal};
use ukai_core::state::override_id;

use super::latency::{self, Latency};
use super::matrix::{CandidateRow, ControlRow, MatrixRow};
use super::story::{self, Row};
use super::todo;

/// The version of the JSON form.
pub const REPORT_VERSION: u32 = 1;
pub const NOT_OBSERVED: &str = "not observed";
/// Rows of the time line; an incident of many days says more in its log than a person reads.
const TIMELINE_MAX: usize = 500;
/// The application's calls that are counted; the newest within the incident.
const CALLS_MAX: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub version: u32,
    pub incident: String,
    pub peer: String,
    pub host: Option<String>,
    pub opened: Opened,
    pub closed: Option<Closed>,
    pub summary: Vec<String>,
    pub figures: Vec<Figure>,
    pub timeline: Vec<Row>,
    /// Rows that the bound on the time line left out.
    pub timeline_cut: usize,
    pub finding: Option<Finding>,
    /// Every change of mind, in order.
    pub verdicts: Vec<Conclusion>,
    pub refusals: Vec<RefusedAt>,
    pub overrides: Vec<OverrideStory>,
    pub application: Application,
    pub notifications: Vec<Told>,
    pub left_to_do: Vec<String>,
    pub latency: Latency,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Opened {
    pub at: Timestamp,
    pub failing_since: Timestamp,
    pub alarm: String,
    pub stage: String,
    pub class: String,
    pub summary: String,
    pub paged: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Closed {
    pub at: Timestamp,
    pub reason: String,
}

/// A time span that people ask for, measured from the first failed probe.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    pub name: &'static str,
    pub meaning: &'static str,
    pub ms: Option<i64>,
    pub text: String,
}

/// The verdict that the decision rests on, with what it rests on itself.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    pub at: Timestamp,
    pub gathering: String,
    pub verdict: Verdict,
    pub evidence_at: Option<Timestamp>,
    pub matrix: Vec<MatrixRow>,
    pub candidates: Vec<CandidateRow>,
    pub controls: Vec<ControlRow>,
    pub delegation: Option<String>,
    pub canary: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Conclusion {
    pub at: Timestamp,
    pub code: &'static str,
    pub sure: &'static str,
    pub action: &'static str,
    pub summary: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RefusedAt {
    pub at: Timestamp,
    pub guard: String,
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OverrideStory {
    pub id: String,
    pub hash: String,
    pub level: Level,
    pub plan: Plan,
    pub proposed_at: Timestamp,
    pub decisions: Vec<Decision>,
    pub served_at: Option<Timestamp>,
    pub confirmed_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub ended: Option<Ended>,
    pub voided: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decision {
    pub at: Timestamp,
    pub what: &'static str,
    pub by: Actor,
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ended {
    pub at: Timestamp,
    pub reason: EndReason,
}

/// The application's own calls, as it reported them.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Application {
    pub calls: usize,
    pub failed: usize,
    pub first_failed: Option<ApplicationCall>,
    pub last_failed: Option<ApplicationCall>,
    /// The call that confirmed the override.
    pub confirming: Option<ApplicationCall>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Told {
    pub at: Timestamp,
    pub kind: NotificationKind,
    pub page: bool,
    pub subject: String,
    pub deliveries: Vec<Delivery>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Delivery {
    pub subscriber: String,
    pub at: Option<Timestamp>,
    pub attempts: u32,
    pub failure: Option<String>,
}

impl Report {
    /// None: the log holds no such incident.
    pub fn fold(records: &[Recorded], samples: &[Observation], incident: &str) -> Option<Report> {
        let own = Own::select(records, incident)?;
        let mut report = Report {
            version: REPORT_VERSION,
            incident: incident.to_owned(),
            peer: own.peer.to_owned(),
            host: own.host.clone(),
            opened: own.opened.clone(),
            closed: own.closed.clone(),
            summary: Vec::new(),
            figures: Vec::new(),
            timeline: Vec::new(),
            timeline_cut: 0,
            finding: own.finding(),
            verdicts: own.verdicts(),
            refusals: own.refusals(),
            overrides: own.overrides(),
            application: own.application(),
            notifications: own.notifications(),
            left_to_do: Vec::new(),
            latency: latency::of(samples, own.peer),
        };
        let mut rows = story::rows(&own.opened, &own.records);
        report.timeline_cut = rows.len().saturating_sub(TIMELINE_MAX);
        rows.truncate(TIMELINE_MAX);
        report.timeline = rows;
        report.figures = figures(&report, &own);
        report.left_to_do = todo::left(&report);
        report.summary = summary(&report);
        Some(report)
    }
}

/// The events of one incident, in order.
struct Own<'a> {
    peer: &'a str,
    host: Option<String>,
    opened: Opened,
    closed: Option<Closed>,
    records: Vec<&'a Recorded>,
}

impl<'a> Own<'a> {
    fn select(records: &'a [Recorded], incident: &str) -> Option<Own<'a>> {
        let (peer, mut opened) = records.iter().find_map(|record| opened(record, incident))?;
        let mut closed = None;
        let mut host = None;
        let mut overrides: BTreeSet<&str> = BTreeSet::new();
        let mut keys: BTreeSet<&str> = BTreeSet::new();
        let mut own = Vec::new();
        for record in records {
            match &record.event {
                Event::PeerWatched {
                    peer: watched,
                    host: name,
                    ..
                } if watched == peer => {
                    host = Some(name.clone());
                }
                Event::OverrideProposed {
                    id, incident: of, ..
                } if of == incident => {
                    overrides.insert(id);
                }
                Event::NotificationQueued { notification, .. }
                    if notification.incident.as_deref() == Some(incident) =>
                {
                    keys.insert(&notification.key);
                }
                Event::IncidentClosed {
                    incident: of,
                    reason,
                } if of == incident => {
                    closed = Some(Closed {
                        at: record.at,
                        reason: reason.clone(),
                    });
                }
                Event::IncidentPaged { incident: of, .. } if of == incident => opened.paged = true,
                _ => {}
            }
            let during = record.at >= opened.failing_since
                && (closed.is_none() || is_closing(&closed, record));
            if belongs(&record.event, incident, peer, &overrides, &keys, during) {
                own.push(record);
            }
        }
        Some(Own {
            peer,
            host,
            opened,
            closed,
            records: own,
        })
    }

    fn find<T>(&self, wanted: impl Fn(&Event) -> Option<T>) -> Option<(Timestamp, T)> {
        self.records
            .iter()
            .find_map(|record| Some((record.at, wanted(&record.event)?)))
    }

    fn each<T>(&self, wanted: impl Fn(&'a Event) -> Option<T>) -> Vec<(Timestamp, T)> {
        self.records
            .iter()
            .filter_map(|record| Some((record.at, wanted(&record.event)?)))
            .collect()
    }

    /// The last verdict before the first proposal; without a proposal, the last one given.
    fn finding(&self) -> Option<Finding> {
        let proposed = self
            .records
            .iter()
            .position(|record| matches!(record.event, Event::OverrideProposed { .. }))
            .unwrap_or(self.records.len());
        let (at, gathering, verdict) =
            self.records
                .get(..proposed)?
                .iter()
                .rev()
                .find_map(|record| match &record.event {
                    Event::Diagnosed {
                        gathering, verdict, ..
                    } => Some((record.at, gathering, verdict)),
                    _ => None,
                })?;
        let evidence = self.evidence(gathering);
        Some(Finding {
            at,
            gathering: gathering.clone(),
            verdict: (**verdict).clone(),
            evidence_at: evidence.map(|evidence| evidence.finished_at),
            matrix: evidence.map(MatrixRow::all).unwrap_or_default(),
            candidates: evidence.map(CandidateRow::all).unwrap_or_default(),
            controls: evidence.map(ControlRow::all).unwrap_or_default(),
            delegation: evidence.and_then(super::matrix::delegation),
            canary: evidence.map(super::matrix::canary),
        })
    }

    fn evidence(&self, wanted: &str) -> Option<&'a Evidence> {
        self.records.iter().find_map(|record| match &record.event {
            Event::EvidenceGathered {
                gathering,
                evidence,
                ..
            } if gathering == wanted => Some(&**evidence),
            _ => None,
        })
    }

    fn verdicts(&self) -> Vec<Conclusion> {
        let mut all: Vec<Conclusion> = Vec::new();
        let given = self.each(|event| match event {
            Event::Diagnosed { verdict, .. } => Some(verdict),
            _ => None,
        });
        for (at, verdict) in given {
            let conclusion = Conclusion {
                at,
                code: verdict.code.name(),
                sure: verdict.sure.name(),
                action: verdict.action.name(),
                summary: verdict.summary.clone(),
            };
            let same = |last: &Conclusion| {
                (last.code, last.sure, last.action)
                    == (conclusion.code, conclusion.sure, conclusion.action)
            };
            if !all.last().is_some_and(same) {
                all.push(conclusion);
            }
        }
        all
    }

    fn refusals(&self) -> Vec<RefusedAt> {
        let mut seen: BTreeSet<&Refusal> = BTreeSet::new();
        let mut all = Vec::new();
        for (at, refusals) in self.each(|event| match event {
            Event::OverrideRefused { refusals, .. } => Some(refusals),
            _ => None,
        }) {
            for refusal in refusals {
                if seen.insert(refusal) {
                    let Refusal { guard, reason } = refusal.clone();
                    all.push(RefusedAt { at, guard, reason });
                }
            }
        }
        all
    }

    fn overrides(&self) -> Vec<OverrideStory> {
        let mut all: BTreeMap<&str, OverrideStory> = BTreeMap::new();
        for record in &self.records {
            if let Event::OverrideProposed {
                id,
                plan,
                hash,
                level,
                ..
            } = &record.event
            {
                let story = OverrideStory {
                    id: id.clone(),
                    hash: hash.clone(),
                    level: *level,
                    plan: (**plan).clone(),
                    proposed_at: record.at,
                    decisions: Vec::new(),
                    served_at: None,
                    confirmed_at: None,
                    expires_at: None,
                    ended: None,
                    voided: None,
                };
                all.insert(id, story);
            } else if let Some(story) = override_id(&record.event).and_then(|id| all.get_mut(id)) {
                story.take(record.at, &record.event);
            }
        }
        let mut stories: Vec<OverrideStory> = all.into_values().collect();
        stories.sort_by(|a, b| (a.proposed_at, &a.id).cmp(&(b.proposed_at, &b.id)));
        stories
    }

    fn application(&self) -> Application {
        let mut calls: BTreeMap<Timestamp, &ApplicationCall> = BTreeMap::new();
        let mut confirming = None;
        for record in &self.records {
            match &record.event {
                Event::EvidenceGathered { application, .. } => {
                    calls.extend(application.iter().map(|call| (call.at, call)));
                }
                Event::OverrideConfirmed { call, .. } => {
                    calls.insert(call.at, call);
                    confirming = confirming.or_else(|| Some(call.clone()));
                }
                _ => {}
            }
        }
        while calls.len() > CALLS_MAX {
            calls.pop_first();
        }
        let failed: Vec<&ApplicationCall> =
            calls.values().copied().filter(|call| !call.ok).collect();
        Application {
            calls: calls.len(),
            failed: failed.len(),
            first_failed: failed.first().map(|call| (*call).clone()),
            last_failed: failed.last().map(|call| (*call).clone()),
            confirming,
        }
    }

    fn notifications(&self) -> Vec<Told> {
        let queued = self.each(|event| match event {
            Event::NotificationQueued {
                notification,
                subscribers,
            } => Some((notification, subscribers)),
            _ => None,
        });
        queued
            .into_iter()
            .map(|(at, (notification, subscribers))| Told {
                at,
                kind: notification.kind,
                page: notification.page,
                subject: notification.subject.clone(),
                deliveries: subscribers
                    .iter()
                    .map(|subscriber| self.delivery(notification, subscriber))
                    .collect(),
            })
            .collect()
    }

    fn delivery(&self, notification: &Notification, to: &str) -> Delivery {
        let outcome = self.find(|event| match event {
            Event::NotificationDelivered {
                key,
                subscriber,
                attempts,
            } if *key == notification.key && subscriber == to => Some((*attempts, None)),
            Event::NotificationFailed {
                key,
                subscriber,
                attempts,
                detail,
            } if *key == notification.key && subscriber == to => {
                Some((*attempts, Some(detail.clone())))
            }
            _ => None,
        });
        let subscriber = to.to_owned();
        match outcome {
            Some((at, (attempts, failure))) => Delivery {
                subscriber,
                at: Some(at),
                attempts,
                failure,
            },
            None => Delivery {
                subscriber,
                at: None,
                attempts: 0,
                failure: None,
            },
        }
    }
}

impl OverrideStory {
    fn take(&mut self, at: Timestamp, event: &Event) {
        let mut decided = |what, by: &Actor, why: &str| {
            self.decisions.push(Decision {
                at,
                what,
                by: by.clone(),
                why: why.to_owned(),
            });
        };
        match event {
            Event::OverrideApproved { by, why, .. } => decided("approved", by, why),
            Event::OverrideRejected { by, why, .. } => decided("rejected", by, why),
            Event::LeaseExtended {
                by,
                why,
                expires_at,
                ..
            } => {
                decided("extended the lease of", by, why);
                self.expires_at = Some(*expires_at);
            }
            Event::WithdrawStarted { by, why, .. } => decided("withdrew", by, why),
            Event::ApplyStarted { expires_at, .. } => self.expires_at = Some(*expires_at),
            Event::OverrideServed { .. } => {
                self.served_at.get_or_insert(at);
            }
            Event::OverrideConfirmed { .. } => {
                self.confirmed_at.get_or_insert(at);
            }
            Event::OverrideEnded { reason, .. } => {
                self.ended = Some(Ended {
                    at,
                    reason: *reason,
                })
            }
            Event::OverrideVoided { reason, .. } => self.voided = Some(reason.clone()),
            _ => {}
        }
    }

    pub fn stands(&self) -> bool {
        self.served_at.is_some() && self.ended.is_none()
    }
}

fn opened<'a>(record: &'a Recorded, wanted: &str) -> Option<(&'a str, Opened)> {
    match &record.event {
        Event::IncidentOpened {
            incident,
            peer,
            alarm,
            stage,
            class,
            summary,
            page,
            failing_since,
            ..
        } if incident == wanted => {
            let opened = Opened {
                at: record.at,
                failing_since: *failing_since,
                alarm: alarm.clone(),
                stage: stage.name().to_owned(),
                class: class.name().to_owned(),
                summary: summary.clone(),
                paged: *page,
            };
            Some((peer, opened))
        }
        _ => None,
    }
}

fn is_closing(closed: &Option<Closed>, record: &Recorded) -> bool {
    closed.as_ref().is_some_and(|closed| closed.at == record.at)
}

fn belongs(
    event: &Event,
    incident: &str,
    peer: &str,
    overrides: &BTreeSet<&str>,
    keys: &BTreeSet<&str>,
    during: bool,
) -> bool {
    match event {
        Event::IncidentOpened { incident: of, .. }
        | Event::IncidentPaged { incident: of, .. }
        | Event::IncidentClosed { incident: of, .. }
        | Event::OverrideRefused { incident: of, .. }
        | Event::OverrideProposed { incident: of, .. } => of == incident,
        Event::EvidenceRequested { incident: of, .. }
        | Event::EvidenceGathered { incident: of, .. }
        | Event::Diagnosed { incident: of, .. } => of.as_deref() == Some(incident),
        Event::NotificationQueued { notification, .. } => keys.contains(notification.key.as_str()),
        Event::NotificationDelivered { key, .. } | Event::NotificationFailed { key, .. } => {
            keys.contains(key.as_str())
        }
        Event::AlarmChanged { peer: of, .. } | Event::AddressSetChanged { peer: of, .. } => {
            during && of == peer
        }
        Event::Started { .. }
        | Event::Frozen { .. }
        | Event::Thawed { .. }
        | Event::Troubled { .. } => during,
        Event::PeerWatched { .. }
        | Event::PeerForgotten { .. }
        | Event::BaselineLearned { .. }
        | Event::HistoryImported { .. }
        | Event::ReportWritten { .. } => false,
        _ => override_id(event).is_some_and(|id| overrides.contains(id)),
    }
}

fn figures(report: &Report, own: &Own<'_>) -> Vec<Figure> {
    let served = report
        .overrides
        .iter()
        .filter_map(|story| story.served_at)
        .min();
    let confirmed = report
        .overrides
        .iter()
        .filter_map(|story| story.confirmed_at)
        .min();
    let diagnosed = report.verdicts.first().map(|first| first.at);
    let proved = own.find(|event| matches!(event, Event::NormalPathProved { .. }).then_some(()));
    let recovered = proved
        .map(|(at, ())| at)
        .or(report.closed.as_ref().map(|closed| closed.at));
    let since = report.opened.failing_since;
    [
        (
            "to detect",
            "until the incident was opened",
            Some(report.opened.at),
        ),
        ("to diagnose", "until the first cause was named", diagnosed),
        (
            "to mitigate, served",
            "until the override was proved on the normal path",
            served,
        ),
        (
            "to mitigate, confirmed",
            "until the application itself succeeded over it",
            confirmed,
        ),
        (
            "to recover",
            "until the normal path was right again",
            recovered,
        ),
    ]
    .into_iter()
    .map(|(name, meaning, until)| {
        let ms = until
            .map(|until| until.duration_since(since).as_millis())
            .and_then(|ms| i64::try_from(ms).ok());
        Figure {
            name,
            meaning,
            ms,
            text: ms.map_or(NOT_OBSERVED.to_owned(), story::span),
        }
    })
    .collect()
}

fn summary(report: &Report) -> Vec<String> {
    let host = report.host.as_deref().unwrap_or(&report.peer);
    let mut lines = vec![format!(
        "{host} failed in the {} stage ({}) from {}.",
        report.opened.stage,
        report.opened.class,
        story::utc(report.opened.failing_since)
    )];
    lines.push(match &report.finding {
        Some(finding) => format!(
            "{} ({}).",
            finding.verdict.summary.trim_end_matches('.'),
            finding.verdict.sure.name()
        ),
        None => "No cause was named.".to_owned(),
    });
    lines.extend(report.overrides.iter().map(fate));
    if report.overrides.is_empty() {
        lines.push("Nothing was changed in DNS.".to_owned());
    }
    lines.push(match &report.closed {
        Some(closed) => format!(
            "Closed {}: {}.",
            story::utc(closed.at),
            closed.reason.trim_end_matches('.')
        ),
        None => "The incident is still open.".to_owned(),
    });
    lines
}

fn fate(story: &OverrideStory) -> String {
    let addresses: Vec<String> = story
        .plan
        .addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    let what = format!(
        "Override {} ({}) to {}",
        story.id,
        story.plan.mode.name(),
        addresses.join(", ")
    );
    match (story.served_at, &story.ended) {
        (Some(_), Some(ended)) => {
            format!(
                "{what} was served and ended {} ({}).",
                story::utc(ended.at),
                ended.reason.name().replace('_', " ")
            )
        }
        (Some(_), None) => format!("{what} stands."),
        (None, _) => format!("{what} was proposed and never served."),
    }
}
