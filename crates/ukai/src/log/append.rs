//! Adding events: all of them durable, or none of them there.

use rusqlite::{Connection, ErrorCode, TransactionBehavior, params};
use ukai_core::event::{EVENT_VERSION, Recorded};

use super::{Log, Position, Tail, check, next_chain, sql, text_of};

/// Why nothing was appended. Whatever the reason, the log stands as it stood before.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    #[error("another writer was first: the log ends at position {found}, not at {expected}")]
    Conflict { expected: Position, found: Position },
    #[error("the disk that holds the event log is full; nothing is decided until there is room")]
    Full,
    #[error("the event log cannot be written: {0}; nothing is decided until it can")]
    ReadOnly(String),
    #[error("the event log could not be written: {0}")]
    Io(String),
    #[error("an event cannot be encoded: {0}")]
    Encode(#[from] serde_json::Error),
}

impl Log {
    /// Appends after `expected`, which must be the last position. On return the events survive a power failure.
    pub fn append(&mut self, expected: Position, events: &[Recorded]) -> Result<Position, AppendError> {
        if expected != self.tail.position {
            return Err(AppendError::Conflict { expected, found: self.tail.position });
        }
        if events.is_empty() {
            return Ok(self.tail.position);
        }
        let rows = encode(events)?;
        match insert(&mut self.db, self.tail, &rows) {
            Ok(tail) => {
                self.tail = tail;
                Ok(tail.position)
            }
            Err(error) => {
                // A commit that reports an error may still have reached the disk: what stands there decides.
                if let Ok(tail) = check::tail(&self.db) {
                    self.tail = tail;
                }
                Err(failed(error))
            }
        }
    }
}

struct Row {
    at: String,
    kind: String,
    json: String,
}

fn encode(events: &[Recorded]) -> Result<Vec<Row>, serde_json::Error> {
    events
        .iter()
        .map(|recorded| {
            let value = serde_json::to_value(recorded)?;
            let kind = value.get("event").and_then(|kind| kind.as_str()).unwrap_or_default().to_owned();
            Ok(Row { at: text_of(recorded.at), kind, json: value.to_string() })
        })
        .collect()
}

fn insert(db: &mut Connection, mut tail: Tail, rows: &[Row]) -> rusqlite::Result<Tail> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut statement = transaction.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        for Row { at, kind, json } in rows {
            let position = tail.position + 1;
            let chain = next_chain(&tail.chain, position, at, i64::from(EVENT_VERSION), kind, json);
            statement.execute(params![sql(position), at, EVENT_VERSION, kind, json, chain.as_slice()])?;
            tail = Tail { position, chain };
        }
    }
    transaction.commit()?;
    Ok(tail)
}

fn failed(error: rusqlite::Error) -> AppendError {
    let detail = error.to_string();
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => AppendError::Full,
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => AppendError::ReadOnly(detail),
        _ => AppendError::Io(detail),
    }
}
