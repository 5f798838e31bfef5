//! `ukai keeper`: ends leases in a zone of somebody else's, whatever becomes of the daemon.

use std::path::PathBuf;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::driver::Source;
use crate::provider::keeper::{self, KeeperDir};

use super::{DONE, Failed, REFUSED, USAGE};

/// How soon it takes over where the keeper before it was killed.
const STANDBY_LOOK: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The daemon's configuration.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The daemon's data directory.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Stay, and take over whenever the keeper that `ukai run` started has ended and has left leases, as with its container.
    #[arg(long)]
    standby: bool,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    ukai_dnsd::log_to_stderr();
    // Fails only where we lead a process group already, and then there is no session to leave.
    let _ = rustix::process::setsid();
    let Args { config, data_dir, standby } = args;
    let config = Source { file: Some(config), urls: Vec::new(), data_dir }.load()?;
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
    let dir = KeeperDir::of(&config.data_dir);
    let mut until = pin!(until);
    if !standby {
        return match keeper::run(&dir, place, keeper::GRACE, until).await? {
            true => Ok(ExitCode::from(DONE)),
            false => Err(Failed::with(REFUSED, "another lease keeper holds the directory")),
        };
    }
    loop {
        tokio::select! {
            () = until.as_mut() => return Ok(ExitCode::from(DONE)),
            () = tokio::time::sleep(STANDBY_LOOK) => {}
        }
        let left = keeper::kept_on_disk(&dir);
        if left.as_ref().is_ok_and(Vec::is_empty) {
            continue;
        }
        let (mut told, place) = (false, settings.place()?);
        let watched = async {
            until.as_mut().await;
            told = true;
        };
        match keeper::run(&dir, place, keeper::GRACE, watched).await {
            Ok(_) if told => return Ok(ExitCode::from(DONE)),
            Ok(_) => {}
            Err(error) => tracing::warn!("{error:#}"),
        }
    }
}
