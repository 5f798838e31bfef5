//! The incident as a report tells it: a pure fold of its events.

use jiff::Timestamp;
use serde::Serialize;
use ukai_core::diagnose::evidence::ApplicationCall;
use ukai_core::diagnose::verdict::Verdict;
use ukai_core::event::{Actor, Event, NotificationKind, Recorded};
use ukai_core::observe::Observation;
use ukai_core::overrides::EndReason;
use ukai_core::peer::Level;
use ukai_core::plan::Plan;

use super::latency::{self, Latency};
use super::matrix::{CandidateRow, ControlRow, MatrixRow};
use super::own::Own;
use super::story::{self, Row};
use super::todo;

/// The version of the JSON form.
pub const REPORT_VERSION: u32 = 1;
pub const NOT_OBSERVED: &str = "not observed";
/// Rows of the time line; an incident of many days says more in its log than a person reads.
const TIMELINE_MAX: usize = 500;

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

impl OverrideStory {
    pub(super) fn take(&mut self, at: Timestamp, event: &Event) {
        let mut decided = |what, by: &Actor, why: &str| {
            self.decisions.push(Decision { at, what, by: by.clone(), why: why.to_owned() });
        };
        match event {
            Event::OverrideApproved { by, why, .. } => decided("approved", by, why),
            Event::OverrideRejected { by, why, .. } => decided("rejected", by, why),
            Event::LeaseExtended { by, why, expires_at, .. } => {
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
            Event::OverrideEnded { reason, .. } => self.ended = Some(Ended { at, reason: *reason }),
            Event::OverrideVoided { reason, .. } => self.voided = Some(reason.clone()),
            _ => {}
        }
    }

    pub fn stands(&self) -> bool {
        self.served_at.is_some() && self.ended.is_none()
    }
}

fn figures(report: &Report, own: &Own<'_>) -> Vec<Figure> {
    let served = report.overrides.iter().filter_map(|story| story.served_at).min();
    let confirmed = report.overrides.iter().filter_map(|story| story.confirmed_at).min();
    let diagnosed = report.verdicts.first().map(|first| first.at);
    let proved = own.find(|event| matches!(event, Event::NormalPathProved { .. }).then_some(()));
    let recovered = proved.map(|(at, ())| at).or(report.closed.as_ref().map(|closed| closed.at));
    let since = report.opened.failing_since;
    [
        ("to detect", "until the incident was opened", Some(report.opened.at)),
        ("to diagnose", "until the first cause was named", diagnosed),
        ("to mitigate, served", "until the override was proved on the normal path", served),
        ("to mitigate, confirmed", "until the application itself succeeded over it", confirmed),
        ("to recover", "until the normal path was right again", recovered),
    ]
    .into_iter()
    .map(|(name, meaning, until)| {
        let ms = until.map(|until| until.duration_since(since).as_millis()).and_then(|ms| i64::try_from(ms).ok());
        Figure { name, meaning, ms, text: ms.map_or(NOT_OBSERVED.to_owned(), story::span) }
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
        Some(finding) => {
            format!("{} ({}).", finding.verdict.summary.trim_end_matches('.'), finding.verdict.sure.name())
        }
        None => "No cause was named.".to_owned(),
    });
    lines.extend(report.overrides.iter().map(fate));
    if report.overrides.is_empty() {
        lines.push("Nothing was changed in DNS.".to_owned());
    }
    lines.push(match &report.closed {
        Some(closed) => format!("Closed {}: {}.", story::utc(closed.at), closed.reason.trim_end_matches('.')),
        None => "The incident is still open.".to_owned(),
    });
    lines
}

fn fate(story: &OverrideStory) -> String {
    let addresses: Vec<String> = story.plan.addresses.iter().map(ToString::to_string).collect();
    let what = format!("Override {} ({}) to {}", story.id, story.plan.mode.name(), addresses.join(", "));
    match (story.served_at, &story.ended) {
        (Some(_), Some(ended)) => {
            format!("{what} was served and ended {} ({}).", story::utc(ended.at), ended.reason.name().replace('_', " "))
        }
        (Some(_), None) => format!("{what} stands."),
        (None, _) => format!("{what} was proposed and never served."),
    }
}
