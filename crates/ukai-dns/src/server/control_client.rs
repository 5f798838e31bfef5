//! The controller's side of the control socket, and what can be done when no server runs.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::BufReader;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::clock::Moment;
use super::config::Settings;
use super::control::{Line, Request, Response, Status, read_line, write_line};
use super::lease::{OverrideRecord, Refusal};
use super::lock::{Lock, LockError};
use super::stats::Stats;
use super::store::{Store, StoreError};
use crate::name::Name;

/// A change waits for a disk to sync; a disk that takes longer is as good as broken.
pub const CONTROL_TIMEOUT: Duration = Duration::from_secs(5);

/// Speaks to the running server; a connection for each request, so that nothing is left over when it restarts.
#[derive(Clone, Debug)]
pub struct ControlClient {
    path: PathBuf,
    timeout: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("the DNS server cannot be reached at {path}: {cause}")]
    Unreachable { path: String, cause: io::Error },
    #[error("the DNS server did not answer within {} ms; whether the change was made is not known", after.as_millis())]
    Timeout { after: Duration },
    #[error("the DNS server refused: {0}")]
    Refused(#[from] Refusal),
    #[error("the DNS server failed: {0}")]
    Failed(String),
    #[error("the DNS server's answer cannot be understood: {0}")]
    Protocol(String),
}

impl ControlClient {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), timeout: CONTROL_TIMEOUT }
    }

    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// When this returns `Ok`, the override is on disk and served.
    pub async fn set(&self, record: OverrideRecord, expect_generation: Option<u64>) -> Result<(), ControlError> {
        self.done(Request::Set { record, expect_generation }).await
    }

    /// When this returns `Ok`, nothing of that id is served.
    pub async fn clear(&self, id: &str, generation: Option<u64>, why: &str) -> Result<(), ControlError> {
        self.done(Request::Clear { id: id.to_owned(), generation, why: why.to_owned() }).await
    }

    pub async fn list(&self) -> Result<Status, ControlError> {
        match self.ask(Request::List).await? {
            Response::List(status) => Ok(*status),
            other => Err(unexpected(&other)),
        }
    }

    pub async fn stats(&self) -> Result<Stats, ControlError> {
        match self.ask(Request::Stats).await? {
            Response::Stats(stats) => Ok(stats),
            other => Err(unexpected(&other)),
        }
    }

    pub async fn reconfigure(&self, config: Settings) -> Result<(), ControlError> {
        self.done(Request::Reconfigure { config }).await
    }

    pub async fn flush(&self, name: &Name) -> Result<(), ControlError> {
        self.done(Request::Flush { name: name.clone() }).await
    }

    /// Has the server log what it is asked, for so many seconds, every so many-th query.
    pub async fn log(&self, seconds: u32, every: u32, clients: bool) -> Result<(), ControlError> {
        self.done(Request::Log { seconds, every, clients }).await
    }

    pub async fn stop(&self) -> Result<(), ControlError> {
        self.done(Request::Stop).await
    }

    /// Withdraws overrides while no server runs (it fails if one does), and tells which. A file that cannot be read is moved
    /// aside, and so withdraws all that was in it.
    pub fn edit_offline(
        state_dir: &Path,
        withdraw: impl Fn(&OverrideRecord) -> bool,
        why: &str,
    ) -> Result<Withdrawn, OfflineError> {
        let _lock = Lock::take(state_dir)?;
        let now = Moment::now();
        let mut store = Store::load(state_dir, now)?;
        let chosen: Vec<_> =
            store.leases().iter().map(|lease| lease.record.clone()).filter(|record| withdraw(record)).collect();
        for record in &chosen {
            store.clear(&record.id, None, why, now)?;
        }
        store.settle(now)?;
        Ok(Withdrawn { overrides: chosen, damaged: store.damaged().map(str::to_owned) })
    }

    async fn done(&self, request: Request) -> Result<(), ControlError> {
        match self.ask(request).await? {
            Response::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn ask(&self, request: Request) -> Result<Response, ControlError> {
        let response = match timeout(self.timeout, self.exchange(&request)).await {
            Ok(response) => response?,
            Err(_) => {
                return Err(ControlError::Timeout { after: self.timeout });
            }
        };
        match response {
            Response::Refused(refusal) => Err(refusal.into()),
            Response::Failed { cause } => Err(ControlError::Failed(cause)),
            answer => Ok(answer),
        }
    }

    async fn exchange(&self, request: &Request) -> Result<Response, ControlError> {
        let unreachable = |cause| ControlError::Unreachable { path: self.path.display().to_string(), cause };
        let (reader, mut writer) = UnixStream::connect(&self.path).await.map_err(unreachable)?.into_split();
        write_line(&mut writer, request).await.map_err(unreachable)?;
        match read_line(&mut BufReader::new(reader)).await.map_err(unreachable)? {
            Line::Whole(line) => {
                serde_json::from_slice(&line).map_err(|error| ControlError::Protocol(error.to_string()))
            }
            Line::TooLong => Err(ControlError::Protocol("it is too long".to_owned())),
            Line::End => Err(ControlError::Protocol("it ended before it began".to_owned())),
        }
    }
}

fn unexpected(response: &Response) -> ControlError {
    ControlError::Protocol(format!("it is the answer to something else: {response:?}"))
}

/// What was withdrawn offline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawn {
    pub overrides: Vec<OverrideRecord>,
    pub damaged: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Store(#[from] StoreError),
}
