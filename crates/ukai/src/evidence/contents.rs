//! What goes into the archive of an incident.

use anyhow::Context;
use jiff::Timestamp;
use serde_json::{Value, json};
use ukai_core::diagnose::evidence::Source;
use ukai_core::diagnose::verdict::Code;
use ukai_core::event::{Event, Recorded};
use ukai_core::observe::Observation;

use super::archive::Entry;
use super::redact::Redactor;
use super::saved::{Concluded, of_incident};
use super::summary::{Language, Page};
use super::{Saved, dump, timeline};
use crate::report::Report;

/// Other diagnoses of the incident that are kept, the last ones: an incident of days changes its mind more often.
const OTHERS_MAX: usize = 8;
/// Probes that the alarm rests on; a burst has three.
const ALARM_PROBES_MAX: usize = 16;

/// What only the configuration says, or whoever sends it.
#[derive(Debug, Clone, Default)]
pub struct Sender {
    pub vantage: Option<String>,
    /// Who answers for us.
    pub contact: Option<String>,
    /// Private addresses of our own resolvers stay.
    pub shows_resolvers: bool,
}

/// The files, and the moment that the archive is of.
#[derive(Debug)]
pub struct Contents {
    pub at: Timestamp,
    pub entries: Vec<Entry>,
    /// The verdict that it is about, as `code (sure)`.
    pub verdict: String,
    /// What was taken out, a line each.
    pub redacted: Vec<String>,
}

pub fn of(records: &[Recorded], incident: &str, sender: &Sender) -> anyhow::Result<Contents> {
    let report =
        Report::fold(records, &[], incident).with_context(|| format!("the log holds no incident {incident}"))?;
    let concluded = of_incident(records, incident);
    let chosen = chosen(&concluded, &report).with_context(|| {
        format!(
            "{incident} has no diagnosis with its evidence: it is not diagnosed yet, or its log is from an older ukai"
        )
    })?;
    let others = others(&concluded, chosen.gathering);
    let all: Vec<Saved> = std::iter::once(&chosen).chain(&others).map(Concluded::saved).collect();
    let mut redactor = Redactor::of(&all, records, sender.shows_resolvers);
    let mut all = all.into_iter().map(|saved| redactor.saved(saved)).collect::<Vec<_>>().into_iter();
    let main = all.next().context("there is no diagnosis")?;

    let (happened, names) = timeline::events(records, incident, &report.peer, &mut redactor);
    let told = Report::fold(&happened, &[], incident).context("the incident's opening is missing")?;
    let verdict = main.verdict.clone().unwrap_or_else(|| main.judge());
    let page = Page { saved: &main, verdict: &verdict, report: &told, sender };
    let evidence = &main.evidence;
    let mut entries: Vec<Entry> = vec![
        ("summary.en.md".into(), page.in_language(Language::English).into_bytes()),
        ("summary.ja.md".into(), page.in_language(Language::Japanese).into_bytes()),
        ("timeline.txt".into(), timeline::text(&told, &mut redactor, &names).into_bytes()),
        ("evidence.json".into(), serde_json::to_vec_pretty(&main)?),
        ("network.json".into(), serde_json::to_vec_pretty(&network(&main, sender))?),
        ("probes.txt".into(), dump::probes(evidence).into_bytes()),
    ];
    for (number, (saved, concluded)) in (1..).zip(all.zip(&others)) {
        let name = format!("diagnoses/{number:02}-{}.json", concluded.verdict.code.name());
        entries.push((name, serde_json::to_vec_pretty(&saved)?));
    }
    entries.extend(probes(&main, records, incident, &redactor)?);
    entries.extend(dump::certificates(evidence));
    entries.extend(dump::messages(evidence));
    let redacted: Vec<String> = redactor.list().map(str::to_owned).collect();
    entries.push(("redacted.txt".into(), taken_out(&redacted).into_bytes()));
    let at = report.closed.map_or(evidence.finished_at, |closed| closed.at);
    let verdict = format!("{} ({})", verdict.code.name(), verdict.sure.name());
    Ok(Contents { at, entries, verdict, redacted })
}

/// The diagnosis that was decided upon; where that names no cause, the last one that does.
fn chosen<'a>(concluded: &[Concluded<'a>], report: &Report) -> Option<Concluded<'a>> {
    let names_a_cause = |concluded: &&Concluded| concluded.verdict.code != Code::Open;
    let decided = report.finding.as_ref().map(|finding| finding.gathering.as_str());
    let found = concluded.iter().filter(names_a_cause).find(|concluded| Some(concluded.gathering) == decided);
    found.or_else(|| concluded.iter().rev().find(names_a_cause)).or(concluded.last()).copied()
}

/// Where the verdict changed.
fn others<'a>(concluded: &[Concluded<'a>], chosen: &str) -> Vec<Concluded<'a>> {
    let mut last = None;
    let changed = concluded.iter().filter(|concluded| last.replace(concluded.gist()) != Some(concluded.gist()));
    let mut others: Vec<Concluded> = changed.filter(|concluded| concluded.gathering != chosen).copied().collect();
    others.split_off(others.len().saturating_sub(OTHERS_MAX))
}

/// The probes as they are recorded: those that the alarm rests on, those of the gathering, of candidates, of other vantages.
fn probes(saved: &Saved, records: &[Recorded], incident: &str, redactor: &Redactor) -> anyhow::Result<Vec<Entry>> {
    let opening = records.iter().find_map(|record| match &record.event {
        Event::IncidentOpened { incident: of, rests_on, .. } if of == incident => Some(rests_on),
        _ => None,
    });
    let mut alarm: Vec<Observation> = opening.into_iter().flatten().take(ALARM_PROBES_MAX).cloned().collect();
    alarm.iter_mut().for_each(|observation| redactor.observation(observation));
    let files = [
        ("probes/alarm.json", serde_json::to_vec_pretty(&alarm)?),
        ("probes/normal-path.json", serde_json::to_vec_pretty(&saved.evidence.observations)?),
        ("probes/candidates.json", serde_json::to_vec_pretty(&saved.evidence.candidates)?),
        ("probes/controls.json", serde_json::to_vec_pretty(&saved.evidence.controls)?),
        ("probes/other-vantages.json", serde_json::to_vec_pretty(&saved.evidence.vantages)?),
    ];
    Ok(files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect())
}

/// What we know of our own side.
fn network(saved: &Saved, sender: &Sender) -> Value {
    let evidence = &saved.evidence;
    let ours = evidence.asked.iter().filter(|asked| asked.source == Source::OurResolver);
    let resolvers: std::collections::BTreeSet<&str> = ours.map(|asked| asked.server.as_str()).collect();
    let passed = evidence.controls.iter().filter(|control| control.passed()).count();
    json!({
        "vantage": sender.vantage,
        "looked_at": evidence.finished_at,
        "resolvers": resolvers,
        "own": evidence.own,
        "controls": { "passed": passed, "asked": evidence.controls.len() },
        "canary": evidence.canary,
        "connections_to_the_peer": evidence.connections,
    })
}

fn taken_out(redacted: &[String]) -> String {
    let mut text = "Never recorded, so not here: values of the headers that we send, client keys, tokens, cookies, bodies of \
                    answers, addresses of those who are told.\nAlways taken out: user information and queries of URLs.\n"
        .to_owned();
    if !redacted.is_empty() {
        text.push_str("\nTaken out of this archive:\n");
    }
    redacted.iter().for_each(|line| text.push_str(&format!("- {line}\n")));
    text
}
