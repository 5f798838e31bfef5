//! The keeper's process as the controller holds it: started before anything is applied, looked after, and left behind.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::client::KeeperClient;
use super::store;

/// Reading a page of leases; a loaded machine gets patience.
const START_BOUND: Duration = Duration::from_secs(10);
const STOP_BOUND: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);
/// Of its log, shown when it does not come up.
const LOG_TAIL: usize = 2000;

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

/// Leases that stand elsewhere than in `place`, told as a sentence: they would be ended by nobody.
pub async fn bound_elsewhere(dir: &KeeperDir, place: Option<&str>) -> anyhow::Result<Option<String>> {
    let leases = match dir.client().list().await {
        Ok(status) => status.leases,
        Err(_) if dir.path().exists() => store::read(dir.path())?.0,
        Err(_) => return Ok(None),
    };
    Ok(leases.iter().find(|lease| Some(lease.place.as_str()) != place).map(|lease| {
        format!(
            "{} for {} stands in {}, where the configuration does not look any more; put that section back, or take it back first \
             with the old configuration (`ukai revert --all --offline --config FILE`)",
            lease.id, lease.host, lease.place
        )
    }))
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

    /// Ends it where it holds no lease.
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
        std::fs::create_dir_all(self.dir.path())
            .with_context(|| format!("{} cannot be made", self.dir.path().display()))?;
        let log_file = self.dir.log();
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log_file)
            .with_context(|| format!("{} cannot be written", log_file.display()))?;
        let starts_at = log.metadata().map(|metadata| metadata.len()).unwrap_or_default();
        let program = std::env::current_exe().context("the path of this program is not known")?;
        let mut child = Command::new(program)
            .arg("keeper")
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(false)
            .spawn()
            .context("the lease keeper could not be started")?;
        let deadline = Instant::now() + START_BOUND;
        loop {
            let ended = child.try_wait()?;
            if self.client().list().await.is_ok() {
                self.child = Some(child);
                return Ok(());
            }
            if ended.is_some() || Instant::now() >= deadline {
                let _ = child.start_kill();
                bail!("the lease keeper does not come up: {}", tail(&log_file, starts_at));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

fn tail(log_file: &Path, from: u64) -> String {
    let Ok(bytes) = std::fs::read(log_file) else { return "it wrote no log".to_owned() };
    let from = usize::try_from(from).unwrap_or(0).min(bytes.len());
    let text = String::from_utf8_lossy(&bytes[from..]);
    let start = text.char_indices().rev().nth(LOG_TAIL).map_or(0, |(at, _)| at);
    let text = text[start..].trim();
    if text.is_empty() { format!("see {}", log_file.display()) } else { text.to_owned() }
}
