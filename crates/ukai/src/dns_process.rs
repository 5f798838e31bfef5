//! The DNS process: started, found again, watched. It is a process of its own and outlives the controller.
//!
//! ```text
//! absent ──start──► starting ──control socket answers──► attached ──it dies──► absent (backoff)
//!    └───────────── it runs already: attach ────────────────┘
//! ```
//! Its state directory holds its overrides, its configuration as last started (`dns.json`), its log and its control
//! socket. A process that runs with the right addresses is told what changed; one with other addresses is stopped and
//! started again, and its overrides come back from its disk before it answers anybody.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::{Child, Command};
use tokio::time::Instant;
use ukai_dns::Name;
use ukai_dns::server::{ControlClient, PolicyZone, ServerConfig, Status};

use crate::child::{open_log, program, tail};
use crate::cli::REFUSED;
use crate::config::{Config, ServedZone, SigningKey};
use crate::gather::{pem, resolvers};

/// Binding sockets and reading a page of overrides; a loaded machine gets patience.
const START_BOUND: Duration = Duration::from_secs(10);
const START_POLL: Duration = Duration::from_millis(20);
/// Before the directory is tried again that another DNS process held.
const START_AGAIN: Duration = Duration::from_millis(100);
const STOP_BOUND: Duration = Duration::from_secs(5);
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// A port that somebody else took comes back within a minute, or a person is needed.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Where the DNS process keeps what is its own.
#[derive(Debug, Clone)]
pub struct StateDir(PathBuf);

impl StateDir {
    pub fn of(data_dir: &Path) -> StateDir {
        StateDir(data_dir.join("dns"))
    }

    /// That of a `ukai dns` without a daemon.
    pub fn alone(dir: &Path) -> StateDir {
        StateDir(dir.to_owned())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn control(&self) -> ControlClient {
        ControlClient::new(self.control_socket())
    }

    pub fn control_socket(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    fn config_file(&self) -> PathBuf {
        self.0.join("dns.json")
    }

    pub fn log_file(&self) -> PathBuf {
        self.0.join("dns.log")
    }

    fn transfer_key(&self) -> PathBuf {
        self.0.join("transfer.key")
    }

    fn ca_file(&self) -> PathBuf {
        self.0.join("ca.pem")
    }
}

/// The DNS process as the controller holds it.
pub struct DnsProcess {
    state_dir: StateDir,
    config: ServerConfig,
    /// None: it was running when we came.
    child: Option<Child>,
    retry: Retry,
}

impl DnsProcess {
    /// Attaches to the process of this data directory, or starts it. It serves when this returns.
    pub async fn attach_or_start(config: &Config, data_dir: &Path) -> anyhow::Result<Option<DnsProcess>> {
        let state_dir = StateDir::of(data_dir);
        let Some(server) = server_config(config, &state_dir)? else {
            stop_left_over(&state_dir).await?;
            return Ok(None);
        };
        let mut process = DnsProcess { state_dir, config: server, child: None, retry: Retry::default() };
        process.bring_up().await?;
        Ok(Some(process))
    }

    pub fn control(&self) -> ControlClient {
        self.state_dir.control()
    }

    /// Takes over a new configuration. Only another listen address or policy zone needs a restart.
    pub async fn reconfigure(&mut self, config: &Config) -> anyhow::Result<()> {
        let Some(server) = server_config(config, &self.state_dir)? else {
            bail!("taking the [dns] section away needs a restart of ukai");
        };
        let before = std::mem::replace(&mut self.config, server);
        if let Err(error) = self.bring_up().await {
            self.config = before;
            self.bring_up()
                .await
                .context("the DNS process could not be brought back with the configuration in force")?;
            return Err(error);
        }
        Ok(())
    }

    /// Called when the process does not answer: starts it again, later and later while that fails.
    pub async fn revive(&mut self) -> anyhow::Result<()> {
        if !self.retry.is_due(Instant::now()) {
            bail!("the DNS process is down and will be started again soon");
        }
        match self.bring_up().await {
            Ok(()) => {
                self.retry = Retry::default();
                Ok(())
            }
            Err(error) => {
                self.retry.failed(Instant::now());
                Err(error)
            }
        }
    }

    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.control().stop().await.context("the DNS process could not be stopped")?;
        wait_until_gone(&self.control()).await?;
        if let Some(child) = &mut self.child {
            let _ = tokio::time::timeout(STOP_BOUND, child.wait()).await;
        }
        Ok(())
    }

    /// The controller does not come up after all: a process that it has just started, and that serves no override, ends
    /// with it.
    pub async fn step_back(self) {
        if self.child.is_none() {
            return;
        }
        match self.control().list().await {
            Ok(status) if status.overrides.is_empty() => {
                if let Err(error) = self.stop().await {
                    tracing::warn!("{error:#}");
                }
            }
            Ok(status) => {
                let ids: Vec<&str> = status.overrides.iter().map(|over| over.id.as_str()).collect();
                tracing::warn!(
                    "the DNS process (process {}) goes on serving {}; `ukai revert --all --offline` takes it back",
                    status.process,
                    ids.join(", ")
                );
            }
            Err(error) => tracing::warn!("the DNS process does not answer: {error}"),
        }
    }

    async fn bring_up(&mut self) -> anyhow::Result<()> {
        if self.attach().await? || self.start().await? || self.attach().await? {
            return Ok(());
        }
        bail!("a DNS process came up and went away again; see {}", self.state_dir.log_file().display())
    }

    /// False: none runs. One that listens on other addresses is stopped.
    async fn attach(&mut self) -> anyhow::Result<bool> {
        let control = self.control();
        let Ok(status) = control.list().await else { return Ok(false) };
        if serves_on(&status, &self.config) {
            control
                .reconfigure(self.config.settings.clone())
                .await
                .context("the running DNS process did not take the configuration")?;
            return Ok(true);
        }
        tracing::info!(
            "the DNS process has another policy zone, or other addresses, than configured; it is started again"
        );
        control.stop().await.context("the running DNS process could not be stopped")?;
        wait_until_gone(&control).await?;
        Ok(false)
    }

    /// False: another one was being started at the same time, as by a controller that was killed, and is up now.
    async fn start(&mut self) -> anyhow::Result<bool> {
        let json = serde_json::to_vec_pretty(&self.config)?;
        let config_file = self.state_dir.config_file();
        std::fs::write(&config_file, json).with_context(|| format!("{} cannot be written", config_file.display()))?;
        let log_file = self.state_dir.log_file();
        let log = open_log(&log_file).with_context(|| format!("{} cannot be written", log_file.display()))?;
        let starts_at = log.metadata().map(|metadata| metadata.len()).unwrap_or_default();
        let mut child = self.spawn(&log)?;
        let deadline = Instant::now() + START_BOUND;
        loop {
            let ended = child.try_wait()?;
            if let Ok(status) = self.control().list().await {
                let is_ours = child.id() == Some(status.process);
                self.child = is_ours.then_some(child);
                return Ok(is_ours);
            }
            if let Some(status) = ended.filter(|status| status.code() != Some(i32::from(REFUSED))) {
                bail!("the DNS process ended at its start ({status}): {}", tail(&log_file, starts_at));
            }
            if Instant::now() >= deadline {
                if ended.is_none() {
                    child.start_kill()?;
                }
                bail!(
                    "the DNS process did not come up within {} s: {}",
                    START_BOUND.as_secs(),
                    tail(&log_file, starts_at)
                );
            }
            if ended.is_some() {
                // Another one holds the directory and does not answer: it is on its way up, or on its way out.
                tokio::time::sleep(START_AGAIN).await;
                child = self.spawn(&log)?;
            }
            tokio::time::sleep(START_POLL).await;
        }
    }

    fn spawn(&self, log: &File) -> anyhow::Result<Child> {
        Command::new(program()?)
            .arg("dns")
            .arg("--config-json")
            .arg(self.state_dir.config_file())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.try_clone()?)
            .kill_on_drop(false)
            .spawn()
            .context("the DNS process could not be started")
    }
}

/// Waits longer after each failure.
#[derive(Default)]
struct Retry {
    next: Option<Instant>,
    pause: Duration,
}

impl Retry {
    fn is_due(&self, now: Instant) -> bool {
        self.next.is_none_or(|next| now >= next)
    }

    fn failed(&mut self, now: Instant) {
        self.pause = (self.pause * 2).clamp(BACKOFF_FIRST, BACKOFF_MAX);
        self.next = Some(now + self.pause);
    }
}

/// None: the configuration has no embedded server.
fn server_config(config: &Config, state_dir: &StateDir) -> anyhow::Result<Option<ServerConfig>> {
    let Some(dns) = &config.dns else { return Ok(None) };
    std::fs::create_dir_all(state_dir.path())
        .with_context(|| format!("{} cannot be made", state_dir.path().display()))?;
    let upstreams = if dns.upstream.is_empty() { resolvers(config)? } else { dns.upstream.clone() };
    let mut server =
        ServerConfig::new(dns.listen.clone(), upstreams, state_dir.path().to_owned(), state_dir.control_socket());
    if !dns.allow_clients.is_empty() {
        server.settings.allow_clients.clone_from(&dns.allow_clients);
    }
    server.settings.forward.clone_from(&dns.forward);
    server.threads = dns.threads.map_or(0, usize::from);
    if let Some(mib) = dns.cache_mib {
        server.cache_octets = usize::try_from(mib).unwrap_or(usize::MAX).saturating_mul(1024 * 1024);
    }
    server.settings.rate_limit = dns.rate_limit;
    server.settings.version.clone_from(&dns.version);
    if let Some(zone) = &dns.policy_zone {
        server.policy_zone = Some(policy_zone(zone, state_dir)?);
    }
    server.settings.watched = config
        .peers
        .iter()
        .map(|peer| peer.host.as_str())
        .chain(
            config
                .controls
                .iter()
                .map(|control| control.endpoint.host())
                .collect::<Vec<_>>()
                .iter()
                .map(String::as_str),
        )
        .filter(|host| host.parse::<std::net::IpAddr>().is_err())
        .map(|host| host.parse::<Name>().with_context(|| format!("{host} is not a name that can be served")))
        .collect::<anyhow::Result<_>>()?;
    if !config.ca.is_empty() {
        let bundle: Vec<u8> = config.ca.iter().flat_map(|certificate| pem(certificate)).collect();
        std::fs::write(state_dir.ca_file(), bundle)
            .with_context(|| format!("{} cannot be written", state_dir.ca_file().display()))?;
        server.ca = Some(state_dir.ca_file());
    }
    Ok(Some(server))
}

/// The key goes by a file of its own, which nobody else reads.
fn policy_zone(zone: &ServedZone, state_dir: &StateDir) -> anyhow::Result<PolicyZone> {
    let key_file = match &zone.key {
        Some(key) => {
            let path = state_dir.transfer_key();
            write_key(&path, key).with_context(|| format!("{} cannot be written", path.display()))?;
            Some(path)
        }
        None => None,
    };
    Ok(PolicyZone {
        name: zone.name.clone(),
        key_file,
        allow_transfer: zone.allow_transfer.clone(),
        notify: zone.notify.clone(),
    })
}

fn write_key(path: &Path, key: &SigningKey) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let _ = std::fs::remove_file(&temporary);
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&temporary)?;
    writeln!(file, "{}:{}:{}", key.algorithm, key.name, key.secret.expose().trim())?;
    std::fs::rename(&temporary, path)
}

fn serves_on(status: &Status, config: &ServerConfig) -> bool {
    status.policy_zone == config.policy_zone
        && status.listen.len() == config.listen.len()
        && config.listen.iter().all(|wanted| {
            status.listen.iter().any(|have| have == wanted || wanted.port() == 0 && have.ip() == wanted.ip())
        })
}

/// A configuration without [dns] stops the process of an earlier one, unless an override still stands there.
async fn stop_left_over(state_dir: &StateDir) -> anyhow::Result<()> {
    let Ok(status) = state_dir.control().list().await else { return Ok(()) };
    if !status.overrides.is_empty() {
        bail!(
            "the configuration has no [dns] section, but the DNS process of this data directory (process {}) serves {} \
             override(s); take them back first (ukai revert --all --offline) or put the section back",
            status.process,
            status.overrides.len()
        );
    }
    state_dir.control().stop().await.context("the DNS process of an earlier configuration could not be stopped")?;
    wait_until_gone(&state_dir.control()).await
}

async fn wait_until_gone(control: &ControlClient) -> anyhow::Result<()> {
    let deadline = Instant::now() + STOP_BOUND;
    while control.list().await.is_ok() {
        if Instant::now() >= deadline {
            bail!("the DNS process did not stop within {} s", STOP_BOUND.as_secs());
        }
        tokio::time::sleep(START_POLL).await;
    }
    Ok(())
}

/// What the process wrote since it was started.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_waits_longer_and_none_for_ever() {
        let now = Instant::now();
        let mut retry = Retry::default();
        assert!(retry.is_due(now));
        retry.failed(now);
        assert!(!retry.is_due(now));
        assert!(retry.is_due(now + BACKOFF_FIRST));
        for _ in 0..20 {
            retry.failed(now);
        }
        assert_eq!(retry.pause, BACKOFF_MAX);
    }

    #[test]
    fn other_addresses_need_a_restart_and_port_zero_does_not() {
        let config =
            |listen: &str| ServerConfig::new(vec![listen.parse().unwrap()], Vec::new(), "a".into(), "b".into());
        let served = config("127.0.0.1:5300");
        let status = Status {
            overrides: Vec::new(),
            ended: Vec::new(),
            damaged: None,
            unwritten: false,
            listen: served.listen.clone(),
            process: 1,
            settings: served.settings.clone(),
            policy_zone: None,
        };
        assert!(serves_on(&status, &served));
        assert!(serves_on(&status, &config("127.0.0.1:0")));
        assert!(!serves_on(&status, &config("127.0.0.2:5300")));
        assert!(!serves_on(&status, &config("127.0.0.1:5301")));
    }
}
