//! The control socket: how the command line talks to the daemon.
//!
//! A Unix stream socket of mode 0660. Who speaks is the peer credential that the kernel gives (`SO_PEERCRED`), never
//! what the other side says of itself. Both directions carry JSON, one object a line:
//!
//! ```text
//! → {"id":1,"op":"status"}
//! ← {"id":1,"ok":{…}}
//! → {"id":2,"op":"command","command":{"command":"approve","id":"o-1","hash":"…","why":"…"}}
//! ← {"id":2,"error":"…"}
//! → {"id":3,"op":"events","from":41,"follow":false}
//! ← {"id":3,"event":{"position":42,"at":"…","event":"…"}}
//! ← {"id":3,"end":true}
//! ```
//!
//! One connection carries one request at a time; a request that is still answered is ended by closing the
//! connection. [`server`] accepts and bounds, and hands each request to the daemon through a channel; [`client`] is
//! the command line's half.

pub mod client;
pub mod credentials;
pub mod server;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufRead, AsyncBufReadExt};
use ukai_core::event::Recorded;
use ukai_core::input::Command;

use crate::log::Position;

/// Longest line, either way: an imported history of a peer with many identities fits several times over.
pub const LINE_BYTES: usize = 1024 * 1024;

/// What is asked of the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Op {
    Ping,
    Status,
    Incidents,
    Overrides,
    /// The plan of a proposed override, with the hash that an approval must name.
    Plan {
        override_id: String,
    },
    /// Something that changes state: the daemon gives it to the engine in the name of the actor.
    Command {
        command: Command,
    },
    /// Events after this position; with `follow`, also those to come.
    Events {
        from: Position,
        #[serde(default)]
        follow: bool,
    },
    Report {
        incident: String,
    },
    /// Alarms by name, a page at a time: those after this name.
    Alarms {
        #[serde(default)]
        after: Option<String>,
    },
    /// One alarm in full, with the periods that it judges now.
    Alarm {
        name: String,
    },
    /// As `DescribeAlarmHistory` has it, newest first.
    AlarmHistory {
        name: String,
    },
    MuteRules,
    /// Metrics that are kept, summed up over so many seconds.
    Metrics {
        #[serde(default)]
        namespace: Option<String>,
        #[serde(default)]
        over_s: Option<u32>,
    },
    /// Read the configuration again.
    Reload,
}

/// One line from the client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    pub id: u64,
    #[serde(flatten)]
    pub op: Op,
}

/// One line from the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub id: u64,
    #[serde(flatten)]
    pub content: Content,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    Ok(Value),
    /// A sentence for a person: what was refused, why, and how to mend it.
    Error(String),
    Event(Box<Positioned>),
    /// No more events.
    End(bool),
}

/// An event with its place in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Positioned {
    pub position: Position,
    #[serde(flatten)]
    pub recorded: Recorded,
}

#[derive(Debug, thiserror::Error)]
enum LineError {
    #[error("the line is longer than {LINE_BYTES} bytes")]
    TooLong,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The next line without its end; None: the other side closed. Never holds more than [`LINE_BYTES`].
async fn read_line(reader: &mut (impl AsyncBufRead + Unpin)) -> Result<Option<Vec<u8>>, LineError> {
    let mut line = Vec::new();
    loop {
        let available = reader.fill_buf().await?;
        if available.is_empty() {
            return Ok(None);
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(available.len());
        if line.len() + taken > LINE_BYTES {
            return Err(LineError::TooLong);
        }
        line.extend_from_slice(&available[..taken]);
        reader.consume(end.map_or(taken, |end| end + 1));
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}
