//! What was done while no daemon ran: `offline.jsonl`, written before the deed, read at the next start.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use ukai_core::event::Actor;
use ukai_core::input::Input;
use ukai_core::overrides::Override;
use ukai_core::state::State;

use super::journal;
use crate::log::LOG_FILE;

const FILE: &str = "offline.jsonl";
const IMPORTED: &str = "offline.imported.jsonl";
/// Far more overrides than can stand.
const LINES_MAX: usize = 10_000;

/// In place of an id: whatever the log had begun by then, also what could not be read of it.
pub const ALL: &str = "all";

/// One override that a person took back without the daemon, or [`ALL`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deed {
    pub at: Timestamp,
    pub id: String,
    pub by: Actor,
    pub why: String,
}

/// Who and why, durable before anything is done.
pub fn record(data_dir: &Path, deeds: &[Deed]) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(data_dir.join(FILE))?;
    let mut lines = String::new();
    for deed in deeds {
        lines.push_str(&serde_json::to_string(deed)?);
        lines.push('\n');
    }
    file.write_all(lines.as_bytes())?;
    file.sync_all()?;
    File::open(data_dir)?.sync_all()
}

/// Overrides that the log knows as pending or standing, wherever they are served or not.
pub fn begun(data_dir: &Path) -> anyhow::Result<Vec<String>> {
    if !data_dir.join(LOG_FILE).exists() {
        return Ok(Vec::new());
    }
    let state = journal::state(data_dir)?;
    Ok(state.overrides.into_values().filter(is_begun).map(|over| over.id).collect())
}

/// What the engine has to be told, whose state is this. A line that cannot be read is told as trouble, not skipped in
/// silence. Whoever took everything back where nothing had begun changes nothing.
pub fn read(data_dir: &Path, state: &State) -> io::Result<Vec<Input>> {
    let file = match File::open(data_dir.join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut inputs = Vec::new();
    for line in BufReader::new(file).lines().take(LINES_MAX) {
        let line = line?;
        match serde_json::from_str::<Deed>(&line) {
            Ok(deed) if deed.id == ALL => {
                let ids = state.overrides.values().filter(|over| is_begun(over)).map(|over| over.id.clone());
                inputs.extend(ids.map(|id| ended(Deed { id, ..deed.clone() })));
            }
            Ok(deed) => inputs.push(ended(deed)),
            Err(error) => {
                inputs.push(Input::Troubled { what: format!("a line of {FILE} cannot be read: {error}") });
            }
        }
    }
    Ok(inputs)
}

fn ended(deed: Deed) -> Input {
    Input::ProviderEnded { id: deed.id, why: deed.why, offline_by: Some(deed.by) }
}

fn is_begun(over: &Override) -> bool {
    over.phase.is_pending() || over.phase.may_stand()
}

/// Called once the log holds it all. The file is kept for whoever asks what happened.
pub fn imported(data_dir: &Path) -> io::Result<()> {
    let pending = data_dir.join(FILE);
    let text = match std::fs::read(&pending) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut kept = OpenOptions::new().create(true).append(true).mode(0o600).open(data_dir.join(IMPORTED))?;
    kept.write_all(&text)?;
    kept.sync_all()?;
    std::fs::remove_file(pending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deeds_are_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let by = Actor { uid: Some(7), name: "mika".into(), via: "offline".into() };
        let deed = Deed { at: Timestamp::UNIX_EPOCH, id: "o-1".into(), by: by.clone(), why: "night".into() };
        assert!(read(dir.path(), &State::default()).unwrap().is_empty());
        record(dir.path(), std::slice::from_ref(&deed)).unwrap();
        record(dir.path(), &[deed]).unwrap();
        let told = read(dir.path(), &State::default()).unwrap();
        assert_eq!(told.len(), 2);
        assert_eq!(told[0], Input::ProviderEnded { id: "o-1".into(), why: "night".into(), offline_by: Some(by) });
        imported(dir.path()).unwrap();
        assert!(read(dir.path(), &State::default()).unwrap().is_empty());
        imported(dir.path()).unwrap();
    }

    #[test]
    fn everything_is_nothing_where_nothing_had_begun() {
        let dir = tempfile::tempdir().unwrap();
        let by = Actor { uid: None, name: "mika".into(), via: "offline".into() };
        let deed = Deed { at: Timestamp::UNIX_EPOCH, id: ALL.into(), by, why: String::new() };
        record(dir.path(), &[deed]).unwrap();
        assert!(read(dir.path(), &State::default()).unwrap().is_empty());
    }

    #[test]
    fn a_broken_line_is_told() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "{\"at\":\n").unwrap();
        assert!(matches!(read(dir.path(), &State::default()).unwrap()[..], [Input::Troubled { .. }]));
    }
}
