//! How the running server is told what to serve: one JSON object a line over a unix socket, one line back.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::config::Settings;
use super::lease::{Ended, OverrideRecord, Refusal};
use super::policy::PolicyZone;
use super::shared::Shared;
use super::stats::Stats;
use crate::name::Name;

/// 64 overrides with all their addresses take about 100 KiB.
pub(super) const MAX_LINE: u64 = 1024 * 1024;
/// Controllers, and people with a command line.
const MAX_CONNECTIONS: usize = 32;
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);
/// Owner and group: who may write here may change what a name means.
const MODE: u32 = 0o660;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    Set {
        #[serde(rename = "override")]
        record: OverrideRecord,
        /// The generation that is to be replaced; none when the name is expected to be free.
        #[serde(default)]
        expect_generation: Option<u64>,
    },
    Clear {
        id: String,
        #[serde(default)]
        generation: Option<u64>,
        why: String,
    },
    List,
    Reconfigure {
        config: Settings,
    },
    Flush {
        name: Name,
    },
    /// Writes what is asked to the log for so many seconds, every so many-th query, with the clients' addresses or without.
    Log {
        seconds: u32,
        every: u32,
        clients: bool,
    },
    Stats,
    Stop,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum Response {
    Done,
    List(Box<Status>),
    Stats(Stats),
    /// Nothing was changed, for a reason that the asker can act on.
    Refused(Refusal),
    /// Something here is broken.
    Failed {
        cause: String,
    },
}

/// What stands, what has ended, and how the server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub overrides: Vec<OverrideRecord>,
    pub ended: Vec<Ended>,
    /// Set when the overrides on disk could not be read at the start; none of them is served.
    pub damaged: Option<String>,
    /// Whether a change is served that could not yet be written.
    pub unwritten: bool,
    pub listen: Vec<std::net::SocketAddr>,
    pub process: u32,
    pub settings: Settings,
    #[serde(default)]
    pub policy_zone: Option<PolicyZone>,
}

/// Binds beside the final path and renames, so that the socket never stands there with other rights. The caller holds the lock
/// on the state directory; a socket found at the path is left over from a process that has ended.
pub(super) fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something else than a socket"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    std::fs::remove_file(&temporary).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })?;
    let listener = UnixListener::bind(&temporary)?;
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(MODE))?;
    std::fs::rename(&temporary, path)?;
    Ok(listener)
}

pub(super) async fn serve(listener: UnixListener, shared: Arc<Shared>) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a control connection could not be accepted");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            continue;
        };
        let shared = Arc::clone(&shared);
        tasks.spawn(async move {
            if let Err(error) = converse(stream, &shared).await {
                tracing::debug!(%error, "a control connection ended early");
            }
            drop(permit);
        });
    }
}

async fn converse(stream: UnixStream, shared: &Arc<Shared>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let line = match timeout(IDLE_TIMEOUT, read_line(&mut reader)).await?? {
            Line::End => return Ok(()),
            Line::TooLong => {
                let cause = format!("a request of more than {MAX_LINE} octets");
                return write_line(&mut writer, &Response::Failed { cause }).await;
            }
            Line::Whole(line) => line,
        };
        let (response, stop) = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => {
                let stop = request == Request::Stop;
                (shared.handle(request).await, stop)
            }
            Err(error) => (Response::Failed { cause: format!("the request cannot be understood: {error}") }, false),
        };
        // A client that asks and does not read must not keep others from withdrawing.
        timeout(IDLE_TIMEOUT, write_line(&mut writer, &response)).await??;
        if stop {
            // Only now, so that the asker gets its answer.
            shared.stop.notify_one();
        }
    }
}

pub(super) enum Line {
    Whole(Vec<u8>),
    TooLong,
    End,
}

pub(super) async fn read_line(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Line> {
    let mut line = Vec::new();
    reader.take(MAX_LINE + 1).read_until(b'\n', &mut line).await?;
    Ok(match line.last() {
        None => Line::End,
        _ if line.len() as u64 > MAX_LINE => Line::TooLong,
        _ => Line::Whole(line),
    })
}

pub(super) async fn write_line(
    writer: &mut (impl tokio::io::AsyncWrite + Unpin),
    value: &impl Serialize,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    writer.write_all(&line).await?;
    writer.flush().await
}
