//! `ukai evidence`: one archive of an incident, for the peer's support or the cloud's.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;
use ukai_core::event::{Event, Recorded};

use super::daemon::Daemon;
use super::paint::{Painted, Tone};
use super::{BROKEN, DONE, Failed, USAGE};
use crate::config::{CONTACT_CHARACTERS, is_one_line, nearest};
use crate::evidence::{archive, contents, contents::Sender};
use crate::report::file_stem;

/// Incidents that are named to somebody who asks for one that is not there.
const LAST: usize = 5;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The incident, as `ukai incidents` shows it.
    #[arg(value_name = "ID")]
    incident: String,
    /// Where to write it. Default: ukai-evidence-ID.tar.gz in this directory.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace a file that is there.
    #[arg(long)]
    force: bool,
    /// Who answers for us, on the page. Default: `contact` in [report] of the configuration that --config names.
    #[arg(long, value_name = "TEXT")]
    contact: Option<String>,
    /// Keep the private addresses of our own resolvers, for whoever runs them.
    #[arg(long)]
    with_resolvers: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let sender = sender(&args)?;
    let records = args.daemon.records().await?;
    if !records.iter().any(|record| opened(record) == Some(&args.incident)) {
        return Err(Failed::with(BROKEN, unknown(&records, &args.incident)));
    }
    let contents =
        contents::of(&records, &args.incident, &sender).map_err(|error| Failed::with(BROKEN, format!("{error:#}")))?;
    let name = format!("ukai-evidence-{}", file_stem(&args.incident));
    let path = args.out.unwrap_or_else(|| PathBuf::from(format!("{name}.tar.gz")));
    let files: Vec<String> = contents.entries.iter().map(|(file, _)| file.clone()).collect();
    let bytes = archive::write(&path, &name, contents.at, contents.entries, args.force).map_err(|error| {
        let path = path.display();
        match error.kind() {
            ErrorKind::AlreadyExists => Failed::with(USAGE, format!("{path} is there already; --force replaces it")),
            _ => Failed::with(BROKEN, format!("{path} cannot be written: {error}")),
        }
    })?;
    if args.json {
        let told = json!({
            "incident": args.incident, "verdict": contents.verdict, "path": path, "bytes": bytes, "files": files,
            "redacted": contents.redacted,
        });
        anstream::println!("{told}");
        return Ok(ExitCode::from(DONE));
    }
    anstream::println!(
        "{}: {}, {} files, {} kB; begin with summary.en.md or summary.ja.md",
        path.display(),
        contents.verdict,
        files.len() + 1,
        bytes.div_ceil(1000),
    );
    for line in &contents.redacted {
        anstream::println!("{}", Painted(Tone::Faint, format_args!("  taken out: {line}")));
    }
    Ok(ExitCode::from(DONE))
}

/// What the page says of us.
fn sender(args: &Args) -> anyhow::Result<Sender> {
    let written = args.daemon.written()?;
    let contact = args.contact.clone().or(written.contact);
    if contact.as_ref().is_some_and(|contact| !is_one_line(contact)) {
        return Err(Failed::with(USAGE, format!("the contact is one line of at most {CONTACT_CHARACTERS} characters")));
    }
    Ok(Sender { vantage: written.vantage, contact, shows_resolvers: args.with_resolvers })
}

fn opened(record: &Recorded) -> Option<&String> {
    match &record.event {
        Event::IncidentOpened { incident, .. } => Some(incident),
        _ => None,
    }
}

/// What somebody may have meant: an incident of nearly this name, those that are open, the last ones.
fn unknown(records: &[Recorded], asked: &str) -> String {
    let mut open: Vec<&str> = Vec::new();
    for record in records {
        match &record.event {
            Event::IncidentOpened { incident, .. } | Event::IncidentReopened { incident, .. } => open.push(incident),
            Event::IncidentClosed { incident, .. } => open.retain(|id| id != incident),
            _ => {}
        }
    }
    let all: Vec<&str> = records.iter().filter_map(opened).map(String::as_str).collect();
    let last = &all[all.len().saturating_sub(LAST)..];
    let hint = match (nearest(asked, all.iter().copied()), all.is_empty()) {
        (_, true) => "it holds none".to_owned(),
        (Some(near), false) => format!("did you mean {near}?"),
        (None, false) => format!("the last are {}", last.join(", ")),
    };
    open.sort_unstable();
    open.dedup();
    let open = if open.is_empty() { String::new() } else { format!("; open now: {}", open.join(", ")) };
    format!("the log holds no incident {asked}; {hint}{open}")
}
