//! `ukai drill`: plays outages on real sockets on this machine, against the very daemon that `ukai run` runs.

mod confusion;
mod crossed;
mod narration;
mod score;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use ukai_lab::runner::catalogue::{self, ENTRIES, FIRST};
use ukai_lab::runner::{DrillOptions, DrillOutcome, Keep, Kill, Told, run_drill};
use ukai_lab::scenario::Scenario;
use ukai_lab::servers::Stack;

use super::paint::{Table, Tone};
use super::{BROKEN, DONE, Failed, USAGE};
use narration::Narration;
use ukai_dnsd::read_bounded;

/// A scenario is a page that a person wrote.
const FILE_MAX: u64 = 1024 * 1024;
/// Each drill is a daemon, a DNS server and an application; more than this at once only slows them all.
const JOBS_MAX: i64 = 16;

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  ukai drill                 the outage that ukai was made for\n  \
                        ukai drill --all           all of them, with a score table\n  \
                        ukai drill my-outage.toml  one of your own\n  \
                        ukai drill S01 --provider bind   the outage on BIND's zone instead of ukai's own server
  \
                        ukai drill --crossed       all of them under many conditions, simulated\n\n\
                        Exit code 0 only if every expectation held: no wrong action, nothing wrong that was called proven, nothing else that a file \
                        states.")]
pub struct Args {
    /// A scenario file, or the id of a built-in scenario.
    #[arg(value_name = "SCENARIO", default_value = FIRST, conflicts_with_all = ["all", "list", "crossed"])]
    scenario: String,
    /// List the built-in scenarios.
    #[arg(long, conflicts_with_all = ["all", "crossed"])]
    list: bool,
    /// Play every built-in scenario and print a score table.
    #[arg(long)]
    all: bool,
    /// Cross every built-in scenario with every modifier, play all of it in virtual time, and print what was right.
    #[arg(long, conflicts_with = "all")]
    crossed: bool,
    /// With --crossed: the same seed draws the same pairs of modifiers and gives the same result.
    #[arg(long, value_name = "N", default_value_t = crossed::SEED, requires = "crossed")]
    seed: u64,
    /// How many drills run side by side with --all.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=JOBS_MAX), requires = "all")]
    jobs: u8,
    /// Print JSON lines.
    #[arg(long)]
    json: bool,
    /// Keep the logs and the data of every drill, not only of those that failed.
    #[arg(long)]
    keep: bool,
    /// Put the override on servers of another maker, which must be installed: bind, knot, pdns or unbound. Default: ukai's own.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["list", "crossed"])]
    provider: Option<Stack>,
    /// Kill the daemon (SIGKILL) after this event of the outage, or after `every` one, and see that it goes on.
    #[arg(long, value_name = "N|every", hide = true)]
    kill_after: Option<Kill>,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.list {
        return list(args.json);
    }
    if args.crossed {
        let scenarios = ENTRIES.iter().map(|entry| entry.parse().map_err(usage)).collect::<Result<Vec<_>, _>>()?;
        return tokio::task::spawn_blocking(move || crossed::run(&scenarios, args.seed, args.json)).await?;
    }
    let (stop, stopped) = stop_on_signals()?;
    let ukai = std::env::current_exe().context("cannot find out which program this is")?;
    let keep = match (args.keep, args.all) {
        (true, _) => Keep::Everything,
        (false, true) => Keep::Nothing,
        (false, false) => Keep::Reports,
    };
    let options = DrillOptions { ukai, keep, kill_after: args.kill_after, servers: args.provider, stop: stopped };
    let outcomes = if args.all {
        let scenarios = ENTRIES.iter().map(|entry| entry.parse().map_err(usage)).collect::<Result<Vec<_>, _>>()?;
        play_side_by_side(scenarios, &options, usize::from(args.jobs), args.json).await?
    } else {
        play_in_turn(&chosen(&args.scenario)?, &options, &stop, args.json).await
    };
    let right = |outcome: &DrillOutcome| !outcome.wrong_action() && !outcome.wrong_and_proven();
    let passed = outcomes.iter().all(|outcome| outcome.passed && right(outcome));
    Ok(ExitCode::from(if passed { DONE } else { BROKEN }))
}

fn list(json: bool) -> anyhow::Result<ExitCode> {
    let mut table = Table::with_header(&["id", "verdict", "action", "title"]);
    for entry in ENTRIES {
        let scenario = entry.parse().map_err(usage)?;
        let actions: Vec<&str> = scenario.expect.action.iter().map(|action| action.as_str()).collect();
        let verdict = scenario.expect.verdict.join(" or ");
        if json {
            let line = serde_json::json!({
                "id": scenario.id, "title": scenario.title, "story": scenario.story.trim(),
                "verdict": scenario.expect.verdict, "action": actions,
            });
            anstream::println!("{line}");
        } else {
            table.row(Tone::Plain, vec![scenario.id, verdict, actions.join(" or "), scenario.title]);
        }
    }
    if !json {
        anstream::print!("{table}");
    }
    Ok(ExitCode::from(DONE))
}

/// A file, or the built-in scenarios of that id.
fn chosen(written: &str) -> anyhow::Result<Vec<Scenario>> {
    let entries = catalogue::find(written);
    if !entries.is_empty() {
        return entries.iter().map(|entry| entry.parse().map_err(usage)).collect();
    }
    let path = Path::new(written);
    if !path.exists() {
        let hint = match catalogue::nearest(written) {
            Some(id) => format!("did you mean {id}?"),
            None => "`ukai drill --list` lists what is built in".to_owned(),
        };
        let message = format!("{written} is neither a file nor the id of a built-in scenario; {hint}");
        return Err(Failed::with(USAGE, message));
    }
    let bytes = read_bounded(path, FILE_MAX).map_err(|error| Failed::with(USAGE, format!("{error:#}")))?;
    let text = String::from_utf8(bytes).map_err(|_| Failed::with(USAGE, format!("{written} is not UTF-8 text")))?;
    Ok(vec![Scenario::parse(&text, written).map_err(usage)?])
}

fn usage(error: impl std::error::Error) -> anyhow::Error {
    Failed::with(USAGE, error.to_string())
}

async fn play_in_turn(
    scenarios: &[Scenario],
    options: &DrillOptions,
    stop: &watch::Sender<bool>,
    json: bool,
) -> Vec<DrillOutcome> {
    let mut outcomes = Vec::new();
    for scenario in scenarios {
        let mut narration = Narration::default();
        let mut tell = |told: Told| {
            let read = if json { print_json(&told) } else { narration.tell(&told) };
            if read.is_err() {
                // Nobody reads any more, as after `ukai drill | head`.
                stop.send_replace(true);
            }
        };
        outcomes.push(run_drill(scenario, options, &mut tell).await);
    }
    outcomes
}

async fn play_side_by_side(
    scenarios: Vec<Scenario>,
    options: &DrillOptions,
    jobs: usize,
    json: bool,
) -> anyhow::Result<Vec<DrillOutcome>> {
    let places = Arc::new(Semaphore::new(jobs));
    let progress = progress(scenarios.len(), json);
    let mut drills = JoinSet::new();
    for (number, scenario) in scenarios.into_iter().enumerate() {
        let (options, places) = (options.clone(), places.clone());
        drills.spawn(async move {
            let _place = places.acquire_owned().await;
            let outcome = run_drill(&scenario, &options, &mut |_| {}).await;
            (number, outcome)
        });
    }
    let mut outcomes = Vec::new();
    while let Some(ended) = drills.join_next().await {
        let (number, outcome) = ended.context("a drill broke down")?;
        progress.inc(1);
        if json {
            anstream::println!("{}", serde_json::json!({ "kind": "ended", "outcome": outcome }));
        } else {
            progress.suspend(|| anstream::println!("{}", score::line(&outcome)));
        }
        outcomes.push((number, outcome));
    }
    progress.finish_and_clear();
    outcomes.sort_by_key(|(number, _)| *number);
    let outcomes: Vec<DrillOutcome> = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    if json {
        anstream::println!("{}", score::json(&outcomes));
    } else {
        score::print(&outcomes);
    }
    Ok(outcomes)
}

fn progress(drills: usize, hidden: bool) -> ProgressBar {
    if hidden {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(drills as u64);
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos} of {len} drills, {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(std::time::Duration::from_millis(250));
    bar
}

fn print_json(told: &Told) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, told)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Ctrl-C and SIGTERM end a drill in good order: nothing of it may go on running.
fn stop_on_signals() -> anyhow::Result<(Arc<watch::Sender<bool>>, watch::Receiver<bool>)> {
    let (stop, stopped) = watch::channel(false);
    let stop = Arc::new(stop);
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let stopper = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stopper.send_replace(true);
    });
    Ok((stop, stopped))
}
