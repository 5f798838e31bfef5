//! `ukai queries`: has the DNS process log what it is asked, for a while.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;
use ukai_dns::server::MAX_LOG_SECONDS;

use super::daemon::Daemon;
use super::{DONE, Failed, NO_DAEMON};
use crate::dns_process::StateDir;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    daemon: Daemon,
    /// Of a `ukai dns` that runs alone, with this directory.
    #[arg(long, value_name = "DIR")]
    overrides_dir: Option<PathBuf>,
    /// For so many seconds, at most an hour; it ends by itself.
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_LOG_SECONDS)))]
    seconds: u32,
    /// Only one of so many queries.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    /// With the clients' addresses, which say who uses what: only where that is yours to know.
    #[arg(long)]
    clients: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let state_dir = match &args.overrides_dir {
        Some(dir) => StateDir::alone(dir),
        None => StateDir::of(&args.daemon.data_dir()?),
    };
    let control = state_dir.control();
    if let Err(error) = control.list().await {
        let message = format!(
            "no DNS process answers in {}: {error}. Is there a [dns] section, and is it the right directory (--data-dir, --config, or \
             --overrides-dir of a `ukai dns` that runs alone)?",
            state_dir.path().display()
        );
        return Err(Failed::with(NO_DAEMON, message));
    }
    control.log(args.seconds, args.every, args.clients).await.context("the DNS process did not take it")?;
    let log = match args.overrides_dir {
        Some(_) => "the error stream of that process".to_owned(),
        None => state_dir.log_file().display().to_string(),
    };
    if args.json {
        anstream::println!(
            "{}",
            json!({ "log": log, "seconds": args.seconds, "every": args.every, "clients": args.clients })
        );
    } else {
        anstream::println!("What is asked is logged to {log} for {} s.", args.seconds);
    }
    Ok(ExitCode::from(DONE))
}
