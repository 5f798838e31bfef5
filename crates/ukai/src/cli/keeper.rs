//! `ukai keeper`: ends leases in a zone of somebody else's, whatever becomes of the daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::driver::Source;
use crate::provider::keeper::{self, KeeperDir};

use super::{DONE, Failed, REFUSED, USAGE};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The daemon's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The daemon's data directory.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    super::log_to_stderr();
    // Fails only where we lead a process group already, and then there is no session to leave.
    let _ = rustix::process::setsid();
    let config = Source { file: Some(args.config), urls: Vec::new(), data_dir: args.data_dir }.load()?;
    let settings = config.zone.as_ref().ok_or_else(|| {
        Failed::with(USAGE, "the configuration names no zone of somebody else's; there is nothing to keep")
    })?;
    let place = settings.place().map_err(|error| Failed::with(USAGE, format!("{error:#}")))?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be watched")?;
    // Leases go on whoever is interrupted at a terminal.
    let _interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be watched")?;
    let until = async move {
        terminate.recv().await;
    };
    match keeper::run(&KeeperDir::of(&config.data_dir), place, keeper::GRACE, until).await? {
        true => Ok(ExitCode::from(DONE)),
        false => Err(Failed::with(REFUSED, "another lease keeper holds the directory")),
    }
}
