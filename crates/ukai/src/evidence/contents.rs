//! What goes into the archive of an incident.

use anyhow::Context;
use jiff::Timestamp;
use serde_json::json;
use ukai_core::event::Recorded;

use super::archive::Entry;
use super::redact::Redactor;
use super::summary::{Language, page};
use super::{Saved, dump, of_incident};
use crate::report::Report;
use crate::report::story::Kind;

/// Diagnoses of one incident that are kept, the last ones: an incident of days changes its mind more often.
const DIAGNOSES_MAX: usize = 8;

/// The files, and the moment that the archive is of.
#[derive(Debug)]
pub struct Contents {
    pub at: Timestamp,
    pub entries: Vec<Entry>,
    /// What was taken out, a line each.
    pub redacted: Vec<String>,
}

pub fn of(records: &[Recorded], incident: &str) -> anyhow::Result<Contents> {
    let report =
        Report::fold(records, &[], incident).with_context(|| format!("the log holds no incident {incident}"))?;
    let mut all = of_incident(records, incident);
    let saved = all.split_off(all.len().saturating_sub(DIAGNOSES_MAX));
    let mut redactor = Redactor::of(&saved, records);
    let saved: Vec<Saved> = saved.into_iter().map(|saved| redactor.saved(saved)).collect();
    let last = saved.last().with_context(|| {
        format!(
            "{incident} has no diagnosis with its evidence: it is not diagnosed yet, or its log is from an older ukai"
        )
    })?;
    let verdict = last.judge();
    let evidence = &last.evidence;
    let timeline = timeline(&report, &mut redactor);
    let mut entries: Vec<Entry> = vec![
        ("summary.en.md".into(), page(last, &verdict, Language::English).into_bytes()),
        ("summary.ja.md".into(), page(last, &verdict, Language::Japanese).into_bytes()),
        ("evidence.json".into(), serde_json::to_vec_pretty(last)?),
        ("probes.txt".into(), dump::probes(evidence).into_bytes()),
        ("certificates.txt".into(), dump::certificates(evidence).into_bytes()),
        ("timeline.txt".into(), timeline.into_bytes()),
        ("network.json".into(), serde_json::to_vec_pretty(&network(last))?),
    ];
    for (number, saved) in (1..).zip(&saved[..saved.len() - 1]) {
        entries.push((format!("earlier/{number:02}-evidence.json"), serde_json::to_vec_pretty(saved)?));
    }
    entries.extend(dump::messages(evidence));
    let entries: Vec<Entry> = entries.into_iter().map(|entry| cleaned(&redactor, entry)).collect();
    let redacted: Vec<String> = redactor.list().map(str::to_owned).collect();
    let mut entries = entries;
    entries.push(("redacted.txt".into(), told(&redacted).into_bytes()));
    Ok(Contents { at: evidence.finished_at, entries, redacted })
}

/// Texts once more: what a sentence says in passing goes too. Messages from the wire stay as they came; they are about the
/// peer's names alone.
fn cleaned(redactor: &Redactor, (name, bytes): Entry) -> Entry {
    if name.ends_with(".bin") {
        return (name, bytes);
    }
    let text = String::from_utf8_lossy(&bytes);
    (name, redactor.text(&text).into_bytes())
}

/// What happened, and when; who decided and who was told is nobody else's business.
fn timeline(report: &Report, redactor: &mut Redactor) -> String {
    let ours = |kind: Kind| matches!(kind, Kind::Decision | Kind::Told | Kind::Note);
    let kept: Vec<String> = report
        .timeline
        .iter()
        .filter(|row| !ours(row.kind))
        .map(|row| format!("{}  {}\n", row.at.strftime("%Y-%m-%d %H:%M:%S UTC"), redactor.text(&row.text)))
        .collect();
    let left_out = report.timeline.len() - kept.len() + report.timeline_cut;
    if left_out > 0 {
        redactor.note(format!("{left_out} lines of the time line about decisions, notifications and notes: left out"));
    }
    kept.concat()
}

fn network(saved: &Saved) -> serde_json::Value {
    let resolvers: std::collections::BTreeSet<&str> = saved
        .evidence
        .asked
        .iter()
        .filter(|asked| asked.source == ukai_core::diagnose::evidence::Source::OurResolver)
        .map(|asked| asked.server.as_str())
        .collect();
    json!({
        "resolvers": resolvers,
        "own": saved.evidence.own,
        "live_connections": saved.evidence.connections,
        "delegation": saved.evidence.delegation,
        "canary": saved.evidence.canary,
    })
}

fn told(redacted: &[String]) -> String {
    let always = "Never recorded, so not here: values of secret headers, client keys, tokens, cookies, bodies of answers.\n\
                  Queries of URLs: withheld wherever a URL has one.\n";
    redacted.iter().fold(always.to_owned(), |text, line| text + line + ".\n")
}
