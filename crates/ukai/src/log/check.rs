//! Whether a log is whole, and what to say if it is not.

use std::fs::File;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, OptionalExtension};
use sha2::{Digest, Sha256};
use ukai_core::event::{EVENT_VERSION, Recorded};

use super::{Chain, Checkpoint, LogError, Position, Tail, next_chain, sql, wal};

pub fn opening_failed(path: &Path, error: rusqlite::Error) -> LogError {
    let path = path.to_owned();
    let detail = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => LogError::InUse { path },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            LogError::Damaged { path, position: None, detail }
        }
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            LogError::ReadOnly { path, detail }
        }
        Some(ErrorCode::DiskFull) => LogError::Full { path },
        _ => LogError::Io { path, detail },
    }
}

/// A cut tail is what a crash leaves; anything acknowledged after a bad frame means damage.
pub fn wal_is_whole(path: &Path) -> Result<(), LogError> {
    let file = path.with_extension("sqlite-wal");
    match wal::examine(&file) {
        Ok(wal::Verdict::Whole | wal::Verdict::CutTail) => Ok(()),
        Ok(wal::Verdict::Damaged { frame, .. }) => Err(LogError::Damaged {
            path: path.to_owned(),
            position: None,
            detail: format!(
                "frame {frame} of its write-ahead log {} is damaged, and acknowledged events follow it",
                file.display()
            ),
        }),
        Err(error) => Err(LogError::Io { path: path.to_owned(), detail: error.to_string() }),
    }
}

/// Makes the tables in an empty file; refuses a file that is not ours or is from the future.
pub fn layout(db: &Connection, path: &Path, known: i64, application: i64, tables: &str) -> Result<(), LogError> {
    let failed = |error| opening_failed(path, error);
    let pragma = |name| db.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i64>(0));
    let (id, found) = (pragma("application_id").map_err(failed)?, pragma("user_version").map_err(failed)?);
    let objects: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    if objects == 0 {
        let marks = format!("PRAGMA application_id={application}; PRAGMA user_version={known};");
        return db.execute_batch(&format!("BEGIN EXCLUSIVE; {tables} {marks} COMMIT;")).map_err(failed);
    }
    if id != application {
        return Err(LogError::Foreign { path: path.to_owned() });
    }
    if found > known {
        return Err(LogError::Newer { path: path.to_owned(), found, known });
    }
    Ok(())
}

/// Reads everything once: the pages, then the chain. Says where the log ends.
pub fn whole(db: &Connection, path: &Path) -> Result<Tail, LogError> {
    let damaged = |detail: String| LogError::Damaged { path: path.to_owned(), position: None, detail };
    let quick: String =
        db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(|error| opening_failed(path, error))?;
    if quick != "ok" {
        return Err(damaged(quick));
    }
    let tail = chain(db, path)?;
    if let Some(checkpoint) = checkpoint(db, path)?
        && checkpoint.position > tail.position
    {
        let detail =
            format!("it ends at position {}, but its checkpoint stands at {}", tail.position, checkpoint.position);
        return Err(damaged(detail));
    }
    Ok(tail)
}

fn chain(db: &Connection, path: &Path) -> Result<Tail, LogError> {
    let failed = |error| opening_failed(path, error);
    let mut tail = base(db).map_err(failed)?;
    let mut statement =
        db.prepare("SELECT position, at, version, kind, json, chain FROM events ORDER BY position").map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let position: i64 = row.get(0).map_err(failed)?;
        let version: i64 = row.get(2).map_err(failed)?;
        let next = tail.position + 1;
        let damaged =
            |detail: &str| LogError::Damaged { path: path.to_owned(), position: Some(next), detail: detail.to_owned() };
        if position != sql(next) {
            return Err(damaged(&format!("the next event that is there has position {position}")));
        }
        let text = |column| row.get_ref(column).map_err(failed)?.as_str().map_err(|_| damaged("the event is not text"));
        let (at, kind, json) = (text(1)?, text(3)?, text(4)?);
        let stored: Vec<u8> = row.get(5).map_err(failed)?;
        let chain = next_chain(&tail.chain, next, at, version, kind, json);
        if stored != chain {
            return Err(damaged("the event is not what was written: its hash does not match"));
        }
        decode(path, next, version, json)?;
        tail = Tail { position: next, chain };
    }
    Ok(tail)
}

/// The last row, without a check: for a handle that has checked before.
pub fn tail(db: &Connection) -> rusqlite::Result<Tail> {
    let last = db
        .query_row("SELECT position, chain FROM events ORDER BY position DESC LIMIT 1", [], tail_of_row)
        .optional()?;
    last.map_or_else(|| base(db), Ok)
}

fn base(db: &Connection) -> rusqlite::Result<Tail> {
    db.query_row("SELECT position, chain FROM base", [], tail_of_row)
}

/// The position before the first event that is left.
pub fn tail_of_base(db: &Connection) -> rusqlite::Result<Position> {
    base(db).map(|tail| tail.position)
}

fn tail_of_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Tail> {
    let position: i64 = row.get(0)?;
    let chain: Chain = row.get(1)?;
    Ok(Tail { position: position.unsigned_abs(), chain })
}

pub fn decode(path: &Path, position: Position, version: i64, json: &str) -> Result<Recorded, LogError> {
    if version > i64::from(EVENT_VERSION) {
        return Err(LogError::Newer { path: path.to_owned(), found: version, known: i64::from(EVENT_VERSION) });
    }
    serde_json::from_str(json).map_err(|error| LogError::Damaged {
        path: path.to_owned(),
        position: Some(position),
        detail: format!("the event cannot be read: {error}"),
    })
}

pub fn checkpoint(db: &Connection, path: &Path) -> Result<Option<Checkpoint>, LogError> {
    let failed = |error| opening_failed(path, error);
    let row: Option<(i64, i64, String, Vec<u8>)> = db
        .query_row("SELECT position, version, json, sha256 FROM checkpoint", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .optional()
        .map_err(failed)?;
    let Some((position, version, state, sha256)) = row else {
        return Ok(None);
    };
    if version > i64::from(EVENT_VERSION) {
        return Err(LogError::Newer { path: path.to_owned(), found: version, known: i64::from(EVENT_VERSION) });
    }
    let position = position.unsigned_abs();
    if Sha256::digest(state.as_bytes()).as_slice() != sha256 {
        let detail = "the checkpoint is not what was written: its hash does not match".to_owned();
        return Err(LogError::Damaged { path: path.to_owned(), position: Some(position), detail });
    }
    Ok(Some(Checkpoint { position, state }))
}

/// A new file's name is durable only when its directory is.
pub fn sync_directory(dir: &Path) -> std::io::Result<()> {
    File::open(dir)?.sync_all()
}
