//! The keeper's process as the controller holds it: started before anything is applied, looked after, and left behind.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::client::KeeperClient;
use super::store;
use crate::child::{open_log, program, tail};
use crate::cli::REFUSED;

/// Reading a page of leases; a loaded machine gets patience.
const START_BOUND: Duration = Duration::from_secs(10);
const STOP_BOUND: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);
/// Before the directory is tried again that another keeper held.
const START_AGAIN: Duration = Duration::from_millis(100);

/// Where the keeper keeps what is its own.
#[derive(Debug, Clone)]
pub struct KeeperDir(PathBuf);

impl KeeperDir {
    pub fn of(data_dir: &Path) -> KeeperDir {
        KeeperDir(data_dir.join("keeper"))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn socket(&self) -> PathBuf {
        self.0.join("keeper.sock")
    }

    pub fn client(&self) -> KeeperClient {
        KeeperClient::new(self.socket())
    }

    fn log(&self) -> PathBuf {
        self.0.join("keeper.log")
    }
}

/// The process, and how it is started again.
pub struct KeeperProcess {
    dir: KeeperDir,
    /// Arguments after `ukai keeper`.
    arguments: Vec<std::ffi::OsString>,
    child: Option<Child>,
}

impl KeeperProcess {
    /// Starts it anew, so that it is of this program and this configuration. Its leases are on disk meanwhile.
    pub async fn start(dir: KeeperDir, arguments: Vec<std::ffi::OsString>) -> anyhow::Result<KeeperProcess> {
        let mut process = KeeperProcess { dir, arguments, child: None };
        process.stop_running().await?;
        process.bring_up().await?;
        Ok(process)
    }

    pub fn client(&self) -> KeeperClient {
        self.dir.client()
    }

    /// Called when it does not answer.
    pub async fn revive(&mut self) -> anyhow::Result<()> {
        if let Some(child) = &mut self.child {
            // What hangs is ended; what has ended is reaped.
            let _ = child.start_kill();
            let _ = child.wait().await;
        }
        self.bring_up().await
    }

    /// Ends it where it holds no lease. One that looks for what may come late ends by itself.
    pub async fn stop_idle(mut self) -> anyhow::Result<()> {
        match self.client().list().await {
            Ok(status) if status.leases.is_empty() => self.stop_running().await,
            _ => Ok(()),
        }
    }

    async fn stop_running(&mut self) -> anyhow::Result<()> {
        if self.client().stop().await.is_err() {
            return Ok(());
        }
        let deadline = Instant::now() + STOP_BOUND;
        while self.client().list().await.is_ok() {
            if Instant::now() >= deadline {
                bail!("the lease keeper did not stop within {} s", STOP_BOUND.as_secs());
            }
            tokio::time::sleep(POLL).await;
        }
        if let Some(child) = &mut self.child {
            let _ = tokio::time::timeout(STOP_BOUND, child.wait()).await;
        }
        Ok(())
    }

    async fn bring_up(&mut self) -> anyhow::Result<()> {
        store::make_dir(self.dir.path()).with_context(|| format!("{} cannot be made", self.dir.path().display()))?;
        let log_file = self.dir.log();
        let log = open_log(&log_file).with_context(|| format!("{} cannot be written", log_file.display()))?;
        let starts_at = log.metadata().map(|metadata| metadata.len()).unwrap_or_default();
        let mut child = self.spawn(&log)?;
        let deadline = Instant::now() + START_BOUND;
        let mut refused_until = None;
        loop {
            let ended = child.try_wait()?;
            if let Ok(status) = self.client().list().await {
                let is_ours = child.id() == Some(status.process);
                self.child = is_ours.then_some(child);
                return Ok(());
            }
            let now = Instant::now();
            // Another one holds the directory and does not answer: it is on its way out.
            let is_refused = ended.is_some_and(|status| status.code() == Some(i32::from(REFUSED)))
                && now < *refused_until.get_or_insert(now + STOP_BOUND);
            if is_refused {
                tokio::time::sleep(START_AGAIN).await;
                child = self.spawn(&log)?;
            } else if ended.is_some() || now >= deadline {
                let _ = child.start_kill();
                bail!("the lease keeper does not come up: {}", tail(&log_file, starts_at));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn spawn(&self, log: &File) -> anyhow::Result<Child> {
        Command::new(program()?)
            .arg("keeper")
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.try_clone()?)
            .kill_on_drop(false)
            .spawn()
            .context("the lease keeper could not be started")
    }
}
