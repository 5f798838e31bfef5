//! `ukai evidence`: one archive of an incident, for the peer's support or the cloud's.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;
use ukai_core::event::{Event, Recorded};

use super::daemon::Daemon;
use super::paint::{Painted, Tone};
use super::{BROKEN, DONE, Failed, USAGE};
use crate::evidence::{archive, contents};

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
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    daemon: Daemon,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let records = args.daemon.records().await?;
    let known = incidents(&records);
    if !known.contains(&args.incident) {
        let last = known.iter().rev().take(5).cloned().collect::<Vec<_>>().join(", ");
        let hint = if known.is_empty() { "it holds none".to_owned() } else { format!("the last are {last}") };
        return Err(Failed::with(BROKEN, format!("the log holds no incident {}; {hint}", args.incident)));
    }
    let contents =
        contents::of(&records, &args.incident).map_err(|error| Failed::with(BROKEN, format!("{error:#}")))?;
    let name = format!("ukai-evidence-{}", args.incident);
    let path = args.out.unwrap_or_else(|| PathBuf::from(format!("{name}.tar.gz")));
    if path.exists() && !args.force {
        return Err(Failed::with(USAGE, format!("{} is there already; --force replaces it", path.display())));
    }
    let files: Vec<String> = contents.entries.iter().map(|(file, _)| file.clone()).collect();
    archive::write(&path, &name, contents.at, contents.entries)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    if args.json {
        anstream::println!("{}", json!({ "path": path, "files": files, "redacted": contents.redacted }));
        return Ok(ExitCode::from(DONE));
    }
    anstream::println!(
        "{}: {} files; begin with {name}/summary.en.md or summary.ja.md",
        path.display(),
        files.len() + 1
    );
    for line in &contents.redacted {
        anstream::println!("{}", Painted(Tone::Faint, format_args!("  redacted: {line}")));
    }
    Ok(ExitCode::from(DONE))
}

fn incidents(records: &[Recorded]) -> Vec<String> {
    let opened = records.iter().filter_map(|record| match &record.event {
        Event::IncidentOpened { incident, .. } => Some(incident.clone()),
        _ => None,
    });
    opened.collect()
}
