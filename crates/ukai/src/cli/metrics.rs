//! `ukai metrics`: what is kept.

use std::process::ExitCode;

use anyhow::Context;
use serde::Deserialize;

use super::daemon::Daemon;
use super::paint::{Painted, Table, Tone, list};
use super::{DONE, Failed, USAGE};
use crate::driver::alarms::{OVER_MAX_S, OVER_S, ShownMetric};
use crate::socket::Op;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only metrics of this namespace.
    #[arg(long)]
    namespace: Option<String>,
    /// Sum each up over so much time, to the end of its newest minute: 1m to 24h.
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    over: String,
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize)]
struct Told {
    metrics: Vec<ShownMetric>,
    left_out: usize,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let over = args.over.parse::<jiff::SignedDuration>().ok().and_then(|over| u32::try_from(over.as_secs()).ok());
    let over_s = over.filter(|over| (OVER_S..=OVER_MAX_S).contains(over));
    let over_s = over_s.ok_or_else(|| Failed::with(USAGE, "--over wants a duration from 1m to 24h"))?;
    let namespace = args.namespace.clone();
    let value = args.daemon.call(Op::Metrics { namespace, over_s: Some(over_s) }).await?;
    if args.json {
        anstream::println!("{}", serde_json::to_string_pretty(&value)?);
        return Ok(ExitCode::from(DONE));
    }
    let told: Told = serde_json::from_value(value).context("the daemon's answer is not understood")?;
    if told.metrics.is_empty() {
        match &args.namespace {
            Some(namespace) => anstream::println!("no metrics in {namespace}; `ukai metrics` lists all there are"),
            None => anstream::println!("no metrics"),
        }
        return Ok(ExitCode::from(DONE));
    }
    let mut table =
        Table::with_header(&["metric", "latest", "unit", "samples", "sum", "average", "minimum", "maximum"]);
    for shown in &told.metrics {
        let latest = shown.latest.map_or_else(|| "-".to_owned(), |at| format!("{at:.0}"));
        for unit in &shown.units {
            let figures = [unit.sample_count, unit.sum, unit.sum / unit.sample_count, unit.minimum, unit.maximum];
            let mut row = vec![shown.metric.to_string(), latest.clone(), unit.unit.clone()];
            row.extend(figures.map(|figure| figure.to_string()));
            table.row(Tone::Plain, row);
        }
        if shown.units.is_empty() {
            table.row(Tone::Faint, vec![shown.metric.to_string(), latest, list(Vec::<String>::new())]);
        }
    }
    anstream::print!("{table}");
    if told.left_out > 0 {
        let text = format!("{} more are not shown; name a namespace with --namespace", told.left_out);
        anstream::eprintln!("{}", Painted(Tone::Warning, text));
    }
    Ok(ExitCode::from(DONE))
}
