//! `ukai log`: the event log as a file, for somebody who must save it.

use std::io::{BufWriter, Write};
use std::process::ExitCode;

use crate::data_dir;
use crate::log::{Exported, export};

use super::daemon::Daemon;
use super::{BROKEN, DONE, Failed, REFUSED};

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Write every event that can still be read as JSON lines, damaged log or not. The daemon must be stopped;
    /// while it runs, `ukai events --json` gives the same.
    Export {
        #[command(flatten)]
        daemon: Daemon,
    },
}

pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    let Command::Export { daemon } = command;
    let dir = daemon.data_dir()?;
    if let Some(process) = data_dir::holder(&dir) {
        let message = format!("the daemon runs (process {process}) and holds the log; use `ukai events --json`");
        return Err(Failed::with(REFUSED, message));
    }
    let mut out = BufWriter::new(std::io::stdout().lock());
    let Exported { events, missing, cut } = export(&dir, &mut out)?;
    out.flush()?;
    anstream::eprintln!(
        "{events} events written, {missing} missing{}",
        if cut { ", and the rest cannot be read" } else { "" }
    );
    Ok(ExitCode::from(if missing == 0 && !cut { DONE } else { BROKEN }))
}
