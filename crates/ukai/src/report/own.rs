//! The events of one incident, picked out of the log, and what each part of the report draws from them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use ukai_core::diagnose::evidence::{ApplicationCall, Evidence};
use ukai_core::event::{Event, Notification, Recorded};
use ukai_core::plan::Refusal;
use ukai_core::state::override_id;

use super::matrix::{self, CandidateRow, ControlRow, MatrixRow};
use super::model::{Application, Closed, Conclusion, Delivery, Finding, Opened, OverrideStory, RefusedAt, Told};

/// The application's calls that are counted; the newest within the incident.
const CALLS_MAX: usize = 10_000;

/// The events of one incident, in order.
pub struct Own<'a> {
    pub peer: &'a str,
    pub host: Option<String>,
    pub opened: Opened,
    pub closed: Option<Closed>,
    pub records: Vec<&'a Recorded>,
}

impl<'a> Own<'a> {
    pub fn select(records: &'a [Recorded], incident: &str) -> Option<Own<'a>> {
        let (peer, mut opened) = records.iter().find_map(|record| opened(record, incident))?;
        let mut closed = None;
        let mut host = None;
        let mut overrides: BTreeSet<&str> = BTreeSet::new();
        let mut keys: BTreeSet<&str> = BTreeSet::new();
        let mut own = Vec::new();
        for record in records {
            match &record.event {
                Event::PeerWatched { peer: watched, host: name, .. } if watched == peer => {
                    host = Some(name.clone());
                }
                Event::OverrideProposed { id, incident: of, .. } if of == incident => {
                    overrides.insert(id);
                }
                Event::NotificationQueued { notification, .. }
                    if notification.incident.as_deref() == Some(incident) =>
                {
                    keys.insert(&notification.key);
                }
                Event::IncidentClosed { incident: of, reason } if of == incident => {
                    closed = Some(Closed { at: record.at, reason: reason.clone() });
                }
                Event::IncidentReopened { incident: of, .. } if of == incident => closed = None,
                Event::IncidentPaged { incident: of, .. } if of == incident => opened.paged = true,
                _ => {}
            }
            let during = record.at >= opened.failing_since && (closed.is_none() || is_closing(&closed, record));
            if belongs(&record.event, incident, peer, &overrides, &keys, during) {
                own.push(record);
            }
        }
        Some(Own { peer, host, opened, closed, records: own })
    }

    pub fn find<T>(&self, wanted: impl Fn(&Event) -> Option<T>) -> Option<(Timestamp, T)> {
        self.records.iter().find_map(|record| Some((record.at, wanted(&record.event)?)))
    }

    fn each<T>(&self, wanted: impl Fn(&'a Event) -> Option<T>) -> Vec<(Timestamp, T)> {
        self.records.iter().filter_map(|record| Some((record.at, wanted(&record.event)?))).collect()
    }

    /// The last verdict before the first proposal; without a proposal, the last one given.
    pub fn finding(&self) -> Option<Finding> {
        let proposed = self
            .records
            .iter()
            .position(|record| matches!(record.event, Event::OverrideProposed { .. }))
            .unwrap_or(self.records.len());
        let (at, gathering, verdict) =
            self.records.get(..proposed)?.iter().rev().find_map(|record| match &record.event {
                Event::Diagnosed { gathering, verdict, .. } => Some((record.at, gathering, verdict)),
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
            delegation: evidence.and_then(matrix::delegation),
            canary: evidence.map(matrix::canary),
        })
    }

    fn evidence(&self, wanted: &str) -> Option<&'a Evidence> {
        self.records.iter().find_map(|record| match &record.event {
            Event::EvidenceGathered { gathering, evidence, .. } if gathering == wanted => Some(&**evidence),
            _ => None,
        })
    }

    pub fn verdicts(&self) -> Vec<Conclusion> {
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
                (last.code, last.sure, last.action) == (conclusion.code, conclusion.sure, conclusion.action)
            };
            if !all.last().is_some_and(same) {
                all.push(conclusion);
            }
        }
        all
    }

    pub fn refusals(&self) -> Vec<RefusedAt> {
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

    pub fn overrides(&self) -> Vec<OverrideStory> {
        let mut all: BTreeMap<&str, OverrideStory> = BTreeMap::new();
        for record in &self.records {
            if let Event::OverrideProposed { id, plan, hash, level, .. } = &record.event {
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

    pub fn application(&self) -> Application {
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
        let failed: Vec<&ApplicationCall> = calls.values().copied().filter(|call| !call.ok).collect();
        Application {
            calls: calls.len(),
            failed: failed.len(),
            first_failed: failed.first().map(|call| (*call).clone()),
            last_failed: failed.last().map(|call| (*call).clone()),
            confirming,
        }
    }

    pub fn notifications(&self) -> Vec<Told> {
        let queued = self.each(|event| match event {
            Event::NotificationQueued { notification, subscribers } => Some((notification, subscribers)),
            _ => None,
        });
        queued
            .into_iter()
            .map(|(at, (notification, subscribers))| Told {
                at,
                kind: notification.kind,
                page: notification.page,
                subject: notification.subject.clone(),
                deliveries: subscribers.iter().map(|subscriber| self.delivery(notification, subscriber)).collect(),
            })
            .collect()
    }

    fn delivery(&self, notification: &Notification, to: &str) -> Delivery {
        let outcomes = self.each(|event| match event {
            Event::NotificationDelivered { key, subscriber, attempts }
                if *key == notification.key && subscriber == to =>
            {
                Some((*attempts, None))
            }
            Event::NotificationFailed { key, subscriber, attempts, detail, .. }
                if *key == notification.key && subscriber == to =>
            {
                Some((*attempts, Some(detail.clone())))
            }
            _ => None,
        });
        let subscriber = to.to_owned();
        // The last one says what came of it in the end.
        match outcomes.into_iter().next_back() {
            Some((at, (attempts, failure))) => Delivery { subscriber, at: Some(at), attempts, failure },
            None => Delivery { subscriber, at: None, attempts: 0, failure: None },
        }
    }
}

fn opened<'a>(record: &'a Recorded, wanted: &str) -> Option<(&'a str, Opened)> {
    match &record.event {
        Event::IncidentOpened { incident, peer, alarm, stage, class, summary, page, failing_since, .. }
            if incident == wanted =>
        {
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
        | Event::IncidentReopened { incident: of, .. }
        | Event::PageSuppressed { incident: of, .. }
        | Event::FailureWatched { incident: of, .. }
        | Event::FailureBroke { incident: of }
        | Event::IncidentPaged { incident: of, .. }
        | Event::IncidentClosed { incident: of, .. }
        | Event::OverrideRefused { incident: of, .. }
        | Event::OverrideProposed { incident: of, .. } => of == incident,
        Event::EvidenceRequested { incident: of, .. }
        | Event::EvidenceGathered { incident: of, .. }
        | Event::Diagnosed { incident: of, .. } => of.as_deref() == Some(incident),
        Event::NotificationQueued { notification, .. } => keys.contains(notification.key.as_str()),
        Event::NotificationDelivered { key, .. } | Event::NotificationFailed { key, .. } => keys.contains(key.as_str()),
        Event::AlarmChanged { peer: of, .. } | Event::AddressSetChanged { peer: of, .. } => during && of == peer,
        Event::Started { .. } | Event::Frozen { .. } | Event::Thawed { .. } | Event::Troubled { .. } => during,
        Event::PeerWatched { .. }
        | Event::PeerForgotten { .. }
        | Event::BaselineLearned { .. }
        | Event::HistoryImported { .. }
        | Event::ReportWritten { .. } => false,
        _ => override_id(event).is_some_and(|id| overrides.contains(id)),
    }
}
