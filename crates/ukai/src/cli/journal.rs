//! `ukai log`: the event log as a file, for somebody who must save it.

use std::io::{self, BufWriter, ErrorKind, Write};
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
    let mut out = BufWriter::new(UntilClosed(io::stdout().lock()));
    let exported = export(&dir, &mut out)?;
    out.flush()?;
    anstream::eprintln!("{}", told(&exported));
    Ok(ExitCode::from(if exported.is_whole() { DONE } else { BROKEN }))
}

fn told(exported: &Exported) -> String {
    let Exported { events, missing, cut, damage } = exported;
    let mut told = format!("{events} events written");
    if exported.is_whole() {
        return format!("{told}, none missing");
    }
    told.push_str(", but not all");
    if *missing > 0 {
        told.push_str(&format!("; {missing} are missing"));
    }
    if *cut {
        told.push_str("; the rest cannot be read");
    }
    if let Some(damage) = damage {
        told.push_str(&format!("; {damage}"));
    }
    told
}

/// A reader who has had enough is no error.
struct UntilClosed<W>(W);

impl<W: Write> Write for UntilClosed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.write(bytes) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(bytes.len()),
            result => result,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.0.flush() {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }
}
