//! The command line's half.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::{Asked, Content, Line, LineError, Op, Positioned, credentials, encode, read_line};
use crate::log::Position;

/// Longer than the daemon's own bound, so that its sentence arrives rather than ours.
const CALL_TIMEOUT: Duration = Duration::from_secs(45);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("no ukai daemon listens on {}; start one with `ukai run`, or say which with --config, --data-dir or --socket", .0.display())]
    NotRunning(PathBuf),
    #[error("the daemon that made the socket {} has ended; start it again with `ukai run`", .0.display())]
    Stale(PathBuf),
    #[error("you may not use the socket {}: it is for the group {group:?}; become a member, or ask somebody who is", path.display())]
    Permission { path: PathBuf, group: String },
    #[error("the socket {} cannot be reached: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The daemon's own sentence.
    #[error("{0}")]
    Refused(String),
    #[error("the daemon closed the connection before it answered")]
    Closed,
    #[error("the daemon did not answer within {} s", CALL_TIMEOUT.as_secs())]
    Timeout,
    #[error("the daemon's answer is not understood; is it of another version? ({0})")]
    Protocol(String),
    #[error("the connection to the daemon failed: {0}")]
    Io(#[from] io::Error),
}

#[derive(Debug)]
pub struct SocketClient {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    last_id: u64,
}

/// Events in the order of the log.
#[derive(Debug)]
pub struct Events {
    client: SocketClient,
    follow: bool,
}

impl SocketClient {
    pub async fn connect(path: &Path) -> Result<SocketClient, ConnectError> {
        let connected = match timeout(CONNECT_TIMEOUT, UnixStream::connect(path)).await {
            Ok(connected) => connected,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let stream = connected.map_err(|error| not_connected(path, error))?;
        let (reader, writer) = stream.into_split();
        Ok(SocketClient { reader: BufReader::new(reader), writer, last_id: 0 })
    }

    pub async fn call(&mut self, op: Op) -> Result<Value, CallError> {
        self.send(op).await?;
        match timeout(CALL_TIMEOUT, self.receive()).await {
            Err(_) => Err(CallError::Timeout),
            Ok(Err(error)) => Err(error),
            Ok(Ok(Content::Ok(value))) => Ok(value),
            Ok(Ok(Content::Error(sentence))) => Err(CallError::Refused(sentence)),
            Ok(Ok(Content::Event(_) | Content::End(_))) => {
                Err(CallError::Protocol("an event where a value was expected".to_owned()))
            }
        }
    }

    /// Events after `from`; with `follow` the stream ends only with the daemon.
    pub async fn events(mut self, from: Position, follow: bool) -> Result<Events, CallError> {
        self.send(Op::Events { from, follow }).await?;
        Ok(Events { client: self, follow })
    }

    async fn send(&mut self, op: Op) -> Result<(), CallError> {
        self.last_id += 1;
        let line = encode(&Asked { id: self.last_id, op }).map_err(|error| CallError::Protocol(error.to_string()))?;
        match timeout(CALL_TIMEOUT, self.writer.write_all(&line)).await {
            // The daemon may have said why it hung up: that is still to be read.
            Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
            Ok(Ok(()) | Err(_)) => Ok(()),
            Err(_) => Err(CallError::Timeout),
        }
    }

    async fn receive(&mut self) -> Result<Content, CallError> {
        let line = match read_line(&mut self.reader).await {
            Ok(Some(line)) => line,
            Ok(None) => return Err(CallError::Closed),
            Err(LineError::TooLong) => {
                return Err(CallError::Protocol(LineError::TooLong.to_string()));
            }
            Err(LineError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Err(CallError::Closed);
            }
            Err(LineError::Io(error)) => return Err(error.into()),
        };
        let line: Line = serde_json::from_slice(&line).map_err(|error| CallError::Protocol(error.to_string()))?;
        match line.content {
            // Id 0: the daemon could not tell which request it refuses.
            content if line.id == self.last_id || line.id == 0 => Ok(content),
            _ => Err(CallError::Protocol(format!("an answer to request {}", line.id))),
        }
    }
}

impl Events {
    /// None: there are no more.
    pub async fn next(&mut self) -> Result<Option<Positioned>, CallError> {
        let received = if self.follow {
            self.client.receive().await
        } else {
            timeout(CALL_TIMEOUT, self.client.receive()).await.unwrap_or(Err(CallError::Timeout))
        };
        match received? {
            Content::Event(event) => Ok(Some(*event)),
            Content::End(_) => Ok(None),
            Content::Error(sentence) => Err(CallError::Refused(sentence)),
            Content::Ok(_) => Err(CallError::Protocol("a value where an event was expected".to_owned())),
        }
    }
}

fn not_connected(path: &Path, error: io::Error) -> ConnectError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::NotFound => ConnectError::NotRunning(path),
        io::ErrorKind::ConnectionRefused => ConnectError::Stale(path),
        io::ErrorKind::PermissionDenied => ConnectError::Permission { group: group_of(&path), path },
        _ => ConnectError::Io { path, source: error },
    }
}

/// The socket's group, or the directory's where that is what keeps us out.
fn group_of(path: &Path) -> String {
    let of = |path: &Path| fs::metadata(path).ok().map(|found| found.gid());
    let gid = of(path).or_else(|| path.parent().and_then(of));
    gid.map_or_else(|| "unknown".to_owned(), credentials::group_name)
}
