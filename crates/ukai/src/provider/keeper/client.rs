//! The controller's side of the keeper's socket: one JSON object a line, one back.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::{LINE_MAX, Lease, Request, Response, Status};
use crate::provider::place::Mine;

/// It waits for a disk to sync.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// Speaks to the keeper of a data directory, a connection for each request.
#[derive(Debug, Clone)]
pub struct KeeperClient {
    socket: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    #[error("the lease keeper cannot be reached at {}: {cause}", socket.display())]
    Unreachable { socket: PathBuf, cause: io::Error },
    #[error("the lease keeper did not answer within {} s", ASK_TIMEOUT.as_secs())]
    Timeout,
    #[error("the lease keeper refused: {0}")]
    Failed(String),
    #[error("the lease keeper's answer cannot be understood: {0}")]
    Protocol(String),
}

impl KeeperClient {
    pub fn new(socket: PathBuf) -> KeeperClient {
        KeeperClient { socket }
    }

    /// When this returns `Ok`, the lease ends even if ukai does.
    pub async fn hold(&self, lease: &Lease) -> Result<(), KeeperError> {
        self.done(&Request::Hold { lease: lease.clone() }).await
    }

    pub async fn release(&self, mine: &Mine) -> Result<(), KeeperError> {
        let (owner, id, host) = (mine.owner.clone(), mine.id.clone(), mine.host.clone());
        self.done(&Request::Release { owner, id, host, generation: mine.generation }).await
    }

    pub async fn stop(&self) -> Result<(), KeeperError> {
        self.done(&Request::Stop).await
    }

    pub async fn list(&self) -> Result<Status, KeeperError> {
        match self.ask(&Request::List).await? {
            Response::List(status) => Ok(status),
            other => Err(KeeperError::Protocol(format!("{other:?}"))),
        }
    }

    async fn done(&self, request: &Request) -> Result<(), KeeperError> {
        match self.ask(request).await? {
            Response::Done => Ok(()),
            Response::Failed { cause } => Err(KeeperError::Failed(cause)),
            other @ Response::List(_) => Err(KeeperError::Protocol(format!("{other:?}"))),
        }
    }

    async fn ask(&self, request: &Request) -> Result<Response, KeeperError> {
        tokio::time::timeout(ASK_TIMEOUT, self.exchange(request)).await.unwrap_or(Err(KeeperError::Timeout))
    }

    async fn exchange(&self, request: &Request) -> Result<Response, KeeperError> {
        let unreachable = |cause| KeeperError::Unreachable { socket: self.socket.clone(), cause };
        let mut stream = UnixStream::connect(&self.socket).await.map_err(unreachable)?;
        let mut line = serde_json::to_vec(request).map_err(|error| KeeperError::Protocol(error.to_string()))?;
        line.push(b'\n');
        stream.write_all(&line).await.map_err(unreachable)?;
        let mut answer = Vec::new();
        BufReader::new(stream.take(LINE_MAX)).read_until(b'\n', &mut answer).await.map_err(unreachable)?;
        serde_json::from_slice(&answer).map_err(|error| KeeperError::Protocol(error.to_string()))
    }
}
