//! What can still be read of a log, damaged or not, as JSON lines.

use std::io::Write;
use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::{LOG_FILE, LogError, Position, check, wal};

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exported {
    pub events: u64,
    /// Positions that should be there and are not.
    pub missing: u64,
    /// Reading ended early, because the file could not be read on.
    pub cut: bool,
    /// The write-ahead log is damaged: what comes after is lost without a gap in the positions.
    pub damage: Option<String>,
}

impl Exported {
    pub fn is_whole(&self) -> bool {
        self.missing == 0 && !self.cut && self.damage.is_none()
    }
}

/// Writes one line `{"position":…,"at":…,"event":…}` per event that can be read, without changing the log. The daemon
/// must be stopped: it holds the log alone.
pub fn export(dir: &Path, out: &mut impl Write) -> Result<Exported, LogError> {
    let path = dir.join(LOG_FILE);
    let failed = |error| check::opening_failed(&path, error);
    // Before SQLite sees it, which silently ends at the first bad frame.
    let damage = damage(&path)?;
    let db = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(failed)?;
    let mut statement = match db.prepare("SELECT position, json FROM events ORDER BY position") {
        Ok(statement) => statement,
        // Even the tables were in what is lost.
        Err(_) if damage.is_some() => return Ok(Exported { damage, cut: true, ..Exported::default() }),
        Err(error) => return Err(failed(error)),
    };
    let mut rows = statement.query([]).map_err(failed)?;
    let mut exported = Exported { damage, ..Exported::default() };
    // A log that was pruned starts later; one whose start cannot be told is counted from its first event.
    let mut last: Option<Position> = check::tail_of_base(&db).ok();
    loop {
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => break,
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
    // The checkpoint is a second witness of how far the log went.
    if let Ok(Some(checkpoint)) = check::checkpoint(&db, &path) {
        exported.missing += checkpoint.position.saturating_sub(last.unwrap_or(0));
    }
    Ok(exported)
}

fn damage(path: &Path) -> Result<Option<String>, LogError> {
    let file = path.with_extension("sqlite-wal");
    match wal::examine(&file) {
        Ok(wal::Verdict::Whole | wal::Verdict::CutTail) => Ok(None),
        Ok(wal::Verdict::Damaged { frame, commits }) => Ok(Some(format!(
            "the write-ahead log {} is damaged at frame {frame}, and the events of up to {commits} transactions from \
             there on may be missing",
            file.display()
        ))),
        Err(error) => Err(LogError::Io { path: file, detail: error.to_string() }),
    }
}
