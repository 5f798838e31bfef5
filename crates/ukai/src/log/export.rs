//! What can still be read of a log, damaged or not, as JSON lines.

use std::io::Write;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::{LOG_FILE, LogError, Position, check};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    pub events: u64,
    /// Positions that should be there and are not.
    pub missing: u64,
    /// Reading ended early, because the file could not be read on.
    pub cut: bool,
}

/// Writes one line `{"position":…,"at":…,"event":…}` per event that can be read, without changing the log. The daemon
/// must be stopped: it holds the log alone.
pub fn export(dir: &Path, out: &mut impl Write) -> Result<Exported, LogError> {
    let path = dir.join(LOG_FILE);
    let failed = |error| check::opening_failed(&path, error);
    let db = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
    let mut statement = db.prepare("SELECT position, json FROM events ORDER BY position").map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let mut exported = Exported::default();
    let mut last: Option<Position> = None;
    loop {
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => return Ok(exported),
            Err(_) => {
                return Ok(Exported { cut: true, ..exported });
            }
        };
        let (Ok(position), Ok(json)) = (row.get::<_, i64>(0), row.get::<_, String>(1)) else {
            exported.missing += 1;
            continue;
        };
        let position = position.unsigned_abs();
        exported.missing += last.map_or(0, |last| position.saturating_sub(last + 1));
        last = Some(position);
        let body = json.strip_prefix('{').unwrap_or(&json);
        writeln!(out, "{{\"position\":{position},{body}").map_err(|error| LogError::Io {
            path: path.clone(),
            detail: format!("the export cannot be written: {error}"),
        })?;
        exported.events += 1;
    }
}
