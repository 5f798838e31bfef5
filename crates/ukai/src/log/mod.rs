//! The event log: one SQLite file that only grows, and that says so when it does not.
//!
//! Every event is one row. An append is one transaction, synced to disk before it returns (WAL with
//! `synchronous=FULL`), and names the position that it expects to follow, so that two writers cannot both win.
//! Each row carries a SHA-256 over the chain before it and its own content: a row that was changed, lost or
//! exchanged breaks the chain, and the log is refused rather than half believed. What a crash leaves at the end of
//! the write-ahead log was never acknowledged, and SQLite drops it; damage before that end is told apart ([`wal`])
//! and refused too.
//!
//! A log does not have to be kept for ever. A *checkpoint* holds the state that the events up to a position fold
//! to; events before it can be pruned, except those from the first incident that is still open.
//!
//! Observations are not events. They are kept in a file of their own ([`samples`]), bounded by age and number, whose
//! loss costs a chart and nothing else.

mod append;
mod check;
mod export;
pub mod samples;
#[cfg(test)]
mod tests;
mod wal;
mod windows;

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};
use ukai_core::event::{EVENT_VERSION, Recorded};

pub use append::AppendError;
pub use export::{Exported, export};
pub use samples::{Sample, Samples};
pub use windows::Windows;

pub const LOG_FILE: &str = "log.sqlite";
/// The layout of the tables, kept in SQLite's `user_version`. The records have a version of their own.
const LAYOUT: i64 = 1;
/// Marks the file as ours: "ukai" in ASCII, in SQLite's `application_id`.
const APPLICATION_ID: i64 = 0x756b_6169;
/// Most events that one read returns.
pub const READ_LIMIT: usize = 1000;

const TABLES: &str = "
    CREATE TABLE events (
        position INTEGER PRIMARY KEY,
        at TEXT NOT NULL,
        version INTEGER NOT NULL,
        kind TEXT NOT NULL,
        json TEXT NOT NULL,
        chain BLOB NOT NULL
    ) STRICT;
    CREATE INDEX events_of_incidents ON events (kind, json_extract(json, '$.incident'))
        WHERE kind IN ('incident_opened', 'incident_closed');
    -- Where the chain starts: before the first row that is left.
    CREATE TABLE base (position INTEGER NOT NULL, chain BLOB NOT NULL) STRICT;
    INSERT INTO base VALUES (0, zeroblob(32));
    CREATE TABLE checkpoint (
        position INTEGER NOT NULL,
        version INTEGER NOT NULL,
        json TEXT NOT NULL,
        sha256 BLOB NOT NULL
    ) STRICT;
";

/// The number of an event. The first is 1; 0 is the position of an empty log.
pub type Position = u64;

type Chain = [u8; 32];

/// The one writer. It blocks on the disk: give it a thread of its own.
#[derive(Debug)]
pub struct Log {
    db: Connection,
    path: PathBuf,
    tail: Tail,
}

/// The last event that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Tail {
    position: Position,
    chain: Chain,
}

/// The state that the events up to `position` fold to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    pub position: Position,
    pub state: String,
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error(
        "the event log {} is damaged{}: {detail}. Nothing was changed. Save what can be read with `ukai log export`, then restore the file from a backup, or move it away to start with an empty log",
        path.display(), position.map(|position| format!(" at position {position}")).unwrap_or_default()
    )]
    Damaged { path: PathBuf, position: Option<Position>, detail: String },
    #[error(
        "the event log {} was written by a newer ukai (version {found}; this one knows {known}); run that version, or restore an older backup",
        path.display()
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
    #[error("{} is an SQLite file, but not an event log of ukai; move it away, or set data_dir to another", path.display())]
    Foreign { path: PathBuf },
    #[error("the event log {} is open in another process; only one may write it", path.display())]
    InUse { path: PathBuf },
    #[error("the event log {} cannot be written: {detail}; make the directory and the file writable for this user", path.display())]
    ReadOnly { path: PathBuf, detail: String },
    #[error("the disk that holds the event log {} is full; make room and start again", path.display())]
    Full { path: PathBuf },
    #[error("the event log {} cannot be used: {detail}", path.display())]
    Io { path: PathBuf, detail: String },
}

impl Log {
    /// Opens or creates the log in this directory, and reads it through to see that it is whole.
    pub fn open(dir: &Path) -> Result<Log, LogError> {
        let path = dir.join(LOG_FILE);
        let failed = |error| check::opening_failed(&path, error);
        // Before SQLite sees it: opening recovers the write-ahead log and thereby drops what comes after damage.
        check::wal_is_whole(&path)?;
        let is_new = !path.exists();
        let db = Connection::open(&path).map_err(failed)?;
        // Whoever holds the lock holds it until the process ends: waiting would not help.
        db.busy_timeout(Duration::ZERO).map_err(failed)?;
        db.execute_batch(
            "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; BEGIN EXCLUSIVE; COMMIT;",
        )
        .map_err(failed)?;
        check::layout(&db, &path, LAYOUT, APPLICATION_ID, TABLES)?;
        if is_new {
            check::sync_directory(dir)
                .map_err(|error| LogError::Io { path: path.clone(), detail: error.to_string() })?;
        }
        let tail = check::whole(&db, &path)?;
        Ok(Log { db, path, tail })
    }

    /// The position of the last event.
    pub fn position(&self) -> Position {
        self.tail.position
    }

    /// When the last event happened.
    pub fn last_at(&self) -> Result<Option<Timestamp>, LogError> {
        let text: Option<String> = self
            .db
            .query_row("SELECT at FROM events ORDER BY position DESC LIMIT 1", [], |row| row.get(0))
            .optional()
            .map_err(|error| self.failed(error))?;
        Ok(text.and_then(|text| text.parse().ok()))
    }

    /// Events after this position, in order, at most `limit` and [`READ_LIMIT`].
    pub fn read_from(&self, position: Position, limit: usize) -> Result<Vec<(Position, Recorded)>, LogError> {
        let limit = limit.min(READ_LIMIT);
        let mut statement = self
            .db
            .prepare_cached("SELECT position, version, json FROM events WHERE position > ?1 ORDER BY position LIMIT ?2")
            .map_err(|error| self.failed(error))?;
        let mut rows = statement.query(params![sql(position), limit as i64]).map_err(|error| self.failed(error))?;
        let mut events = Vec::new();
        while let Some(row) = rows.next().map_err(|error| self.failed(error))? {
            let position: i64 = row.get(0).map_err(|error| self.failed(error))?;
            let version: i64 = row.get(1).map_err(|error| self.failed(error))?;
            let json: String = row.get(2).map_err(|error| self.failed(error))?;
            events.push((position.unsigned_abs(), check::decode(&self.path, position.unsigned_abs(), version, &json)?));
        }
        Ok(events)
    }

    /// Stores the state that all events so far fold to, in place of the checkpoint before.
    pub fn checkpoint(&mut self, state: &str) -> Result<(), LogError> {
        let path = self.path.clone();
        let position = self.tail.position;
        self.db
            .transaction()
            .and_then(|transaction| {
                transaction.execute("DELETE FROM checkpoint", [])?;
                transaction.execute(
                    "INSERT INTO checkpoint VALUES (?1, ?2, ?3, ?4)",
                    params![sql(position), EVENT_VERSION, state, Sha256::digest(state.as_bytes()).as_slice()],
                )?;
                transaction.commit()
            })
            .map_err(|error| check::opening_failed(&path, error))
    }

    /// What to fold the events after its position onto. None: fold from the first event.
    pub fn latest_checkpoint(&self) -> Result<Option<Checkpoint>, LogError> {
        check::checkpoint(&self.db, &self.path)
    }

    /// Removes events from before this time that the checkpoint covers, up to the first incident still open.
    /// Says how many.
    pub fn prune(&mut self, before: Timestamp) -> Result<u64, LogError> {
        let Some(checkpoint) = self.latest_checkpoint()? else {
            return Ok(0);
        };
        let path = self.path.clone();
        prune(&mut self.db, checkpoint.position, before).map_err(|error| check::opening_failed(&path, error))
    }

    fn failed(&self, error: rusqlite::Error) -> LogError {
        check::opening_failed(&self.path, error)
    }
}

/// Always a prefix: a hole in the middle could not be told from damage.
fn prune(db: &mut Connection, covered: Position, before: Timestamp) -> rusqlite::Result<u64> {
    let transaction = db.transaction()?;
    let first_open: Option<i64> = transaction.query_row(
        "SELECT min(position) FROM events AS opened WHERE kind = 'incident_opened' AND NOT EXISTS (
             SELECT 1 FROM events AS closed WHERE closed.kind = 'incident_closed'
             AND json_extract(closed.json, '$.incident') = json_extract(opened.json, '$.incident'))",
        [],
        |row| row.get(0),
    )?;
    let first_late: Option<i64> =
        transaction
            .query_row("SELECT min(position) FROM events WHERE at >= ?1", [text_of(before)], |row| row.get(0))?;
    let keep_from = [first_open, first_late].into_iter().flatten().min().unwrap_or(i64::MAX);
    let last: Option<(i64, Vec<u8>)> = transaction
        .query_row(
            "SELECT position, chain FROM events WHERE position < ?1 AND position <= ?2 ORDER BY position DESC LIMIT 1",
            params![keep_from, sql(covered)],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let Some((last, chain)) = last else {
        return Ok(0);
    };
    let removed = transaction.execute("DELETE FROM events WHERE position <= ?1", [last])?;
    transaction.execute("UPDATE base SET position = ?1, chain = ?2", params![last, chain])?;
    transaction.commit()?;
    Ok(removed as u64)
}

/// The chain after a row: over the chain before it and everything the row says, each part with its length.
fn next_chain(before: &Chain, position: Position, at: &str, version: i64, kind: &str, json: &str) -> Chain {
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update(position.to_be_bytes());
    hash.update(version.to_be_bytes());
    for part in [at, kind, json] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

/// A fixed number of digits, so that the text sorts as the time does.
fn text_of(at: Timestamp) -> String {
    format!("{at:.9}")
}

/// SQLite's integers are signed; no log reaches their end.
fn sql(position: Position) -> i64 {
    i64::try_from(position).unwrap_or(i64::MAX)
}
