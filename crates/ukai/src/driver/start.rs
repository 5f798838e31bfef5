//! How the daemon comes up: what serves first, everything else after.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use ukai_core::engine::Engine;
use ukai_core::input::Input;

use crate::application::{ApplicationListener, CALLS_QUEUED, Destinations};
use crate::cli::{BROKEN, Failed, USAGE};
use crate::clock::Clock;
use crate::config::{Config, SOCKET_NAME};
use crate::data_dir::DataDir;
use crate::dns_process::{DnsProcess, StateDir};
use crate::gather::{configure, raise_file_limit};
use crate::metrics::Intake;
use crate::metrics::inputs::Inputs;
use crate::provider::embedded::{self as embedded_provider, Order};
use crate::provider::keeper::{KeeperDir, KeeperProcess, bound_elsewhere};
use crate::provider::{self, Provider, Zone};
use crate::socket::server::{REQUESTS, SocketServer};

use super::delivery::Subscribers;
use super::hands::Hands;
use super::journal::{Journal, Known};
use super::verify::reachable;
use super::{Driver, Edges, INPUTS, offline};

/// Where the configuration comes from, so that it can be read again.
#[derive(Debug, Clone)]
pub struct Source {
    pub file: Option<PathBuf>,
    pub urls: Vec<String>,
    pub data_dir: Option<PathBuf>,
}

impl Source {
    pub fn load(&self) -> anyhow::Result<Config> {
        let loaded = match &self.file {
            Some(file) => Config::load(file),
            None => Config::from_urls(&self.urls),
        };
        let mut config = loaded.map_err(|error| Failed::with(USAGE, error.to_string()))?;
        if let Some(dir) = &self.data_dir {
            move_data_dir(&mut config, dir.clone());
        }
        Ok(config)
    }

    /// With which the lease keeper reads the same configuration, secrets included, by itself.
    fn keeper_arguments(&self, data_dir: &Path) -> Vec<OsString> {
        let mut arguments = vec![OsString::from("--data-dir"), data_dir.into()];
        if let Some(file) = &self.file {
            arguments.extend([OsString::from("--config"), file.into()]);
        }
        arguments
    }
}

/// What had its default place in the old directory has it in the new one.
fn move_data_dir(config: &mut Config, dir: PathBuf) {
    let old = std::mem::replace(&mut config.data_dir, dir);
    if config.socket.path == old.join(SOCKET_NAME) {
        config.socket.path = config.data_dir.join(SOCKET_NAME);
    }
    if let Ok(below) = config.report_dir.strip_prefix(&old) {
        config.report_dir = config.data_dir.join(below);
    }
}

/// What a running daemon cannot exchange.
pub fn check_unchanged(running: &Config, read: &Config) -> anyhow::Result<()> {
    let changed = [
        ("data_dir", running.data_dir != read.data_dir),
        ("socket", running.socket != read.socket),
        ("[dns] (added or taken away)", running.dns.is_some() != read.dns.is_some()),
        ("[rfc2136] or [unbound]", running.zone != read.zone),
        (
            "application.listen",
            running.application.as_ref().map(|application| application.listen)
                != read.application.as_ref().map(|application| application.listen),
        ),
    ];
    let names: Vec<&str> = changed.iter().filter(|(_, changed)| *changed).map(|(name, _)| *name).collect();
    if names.is_empty() {
        return Ok(());
    }
    bail!("{} can only be changed by a restart of ukai", names.join(", "))
}

/// Where the embedded server is reached, as it says itself.
pub async fn embedded(provider: &Provider) -> Option<SocketAddr> {
    let Provider::Embedded(control) = provider else { return None };
    let status = control.list().await.ok()?;
    status.listen.first().copied().map(reachable)
}

/// Runs the daemon until a signal ends it. The DNS process comes before everything else: what it serves from its own
/// disk needs neither the log nor an engine, and must not wait for them.
pub async fn run(source: Source, narrate: bool) -> anyhow::Result<ExitCode> {
    let config = source.load()?;
    raise_file_limit();
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    // Heard from the first moment: what is begun below must not be cut off half way.
    let signals = Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hangup: signal(SignalKind::hangup())?,
    };
    let data_dir = DataDir::open(&config.data_dir).map_err(|error| Failed::with(USAGE, error.to_string()))?;
    let hosts = provider::watched(&config);
    let (process, provider) =
        bring_up(&source, &config, &data_dir).await.map_err(|error| Failed::with(USAGE, format!("{error:#}")))?;
    let (mut driver, inputs) = match assemble(source, config, narrate, data_dir, provider.clone(), signals).await {
        Ok(assembled) => assembled,
        Err(error) => {
            match process {
                Process::None => {}
                Process::Dns(process) => process.step_back().await,
                Process::Keeper(keeper) => {
                    if let Err(error) = keeper.stop_idle().await {
                        tracing::warn!("{error:#}");
                    }
                }
            }
            return Err(error);
        }
    };
    let first = driver.first_inputs()?;
    let (orders, receiver) = mpsc::channel::<Order>(1);
    driver.orders = match (process, provider) {
        (Process::Dns(process), _) => {
            tokio::spawn(embedded_provider::watch(*process, inputs, receiver));
            Some(orders)
        }
        (Process::Keeper(keeper), Provider::Zone(zone)) => {
            tokio::spawn(provider::watch(zone, *keeper, hosts, inputs, receiver));
            Some(orders)
        }
        (Process::None | Process::Keeper(_), _) => None,
    };
    let ended = driver.drive(first).await;
    ended.map_err(|error| match error.downcast_ref::<Failed>() {
        Some(_) => error,
        None => Failed::with(BROKEN, format!("{error:#}")),
    })
}

/// What runs beside the daemon, so that what stands needs no daemon.
enum Process {
    None,
    Dns(Box<DnsProcess>),
    Keeper(Box<KeeperProcess>),
}

/// The zone provider that the configuration names, and the process behind it.
async fn bring_up(source: &Source, config: &Config, data_dir: &DataDir) -> anyhow::Result<(Process, Provider)> {
    let keeper_dir = KeeperDir::of(data_dir.path());
    let place = config.zone.as_ref().map(|settings| settings.place()).transpose()?;
    let written = place.as_ref().map(ToString::to_string);
    if let Some(elsewhere) = bound_elsewhere(&keeper_dir, written.as_deref()).await? {
        bail!("{elsewhere}");
    }
    // Also where the configuration has no embedded server: one that an earlier configuration started is stopped.
    let dns = DnsProcess::attach_or_start(config, data_dir.path()).await?;
    if let Some(dns) = dns {
        let provider = Provider::Embedded(StateDir::of(data_dir.path()).control());
        return Ok((Process::Dns(Box::new(dns)), provider));
    }
    let Some(place) = place else { return Ok((Process::None, Provider::Nowhere)) };
    let owner = provider::owner(data_dir.path())?;
    let keeper = KeeperProcess::start(keeper_dir, source.keeper_arguments(data_dir.path())).await?;
    let provider = Provider::Zone(Arc::new(Zone::new(place, keeper.client(), owner)));
    Ok((Process::Keeper(Box::new(keeper)), provider))
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// Everything but the DNS process, and where inputs are handed in.
async fn assemble(
    source: Source,
    config: Config,
    narrate: bool,
    data_dir: DataDir,
    provider: Provider,
    signals: Signals,
) -> anyhow::Result<(Driver, mpsc::Sender<Input>)> {
    let (journal, known) = Journal::open(data_dir.path())?;
    let Known { state, recorded, checkpoint, position, last_at, windows } = known;
    let mut engine = Engine::resume_from(state, recorded);
    let mut clock = Clock::open(data_dir.path(), last_at).context("the stored time cannot be read")?;
    let started_at = clock.now().now;
    let left_out = engine.restore_metrics(started_at, windows);
    if left_out > 0 {
        tracing::warn!(left_out, "some windows of metrics could not be taken up again");
    }

    let mut configured = configure(&config)?;
    configured.vantage.embedded = self::embedded(&provider).await;
    let (inputs, inputs_receiver) = mpsc::channel(INPUTS);
    let (requests, requests_receiver) = mpsc::channel(REQUESTS);
    let (calls, calls_receiver) = mpsc::channel(CALLS_QUEUED);
    let (hosts, hosts_receiver) = watch::channel(config.hosts());
    let socket = SocketServer::bind(&config.socket.path, config.socket.group.as_deref())
        .await
        .map_err(|error| Failed::with(USAGE, error.to_string()))?;
    let (intake, puts) = Intake::new();
    let metrics = Inputs::start(&config, intake.clone())?;
    if let Some(application) = &config.application {
        let otlp = metrics.otlp_receiver(jiff::Timestamp::now());
        let destinations = Destinations { hosts: hosts_receiver, calls, intake, otlp };
        let listener = ApplicationListener::bind(application.listen, application.token.clone(), destinations)
            .await
            .map_err(|error| Failed::with(USAGE, error.to_string()))?;
        tokio::spawn(listener.run());
    }
    let begun = engine.state().undelivered.keys().cloned().collect();
    let subscribers = Subscribers::start(&config, begun, inputs.clone())?;
    let hands = Hands::new(
        configured,
        provider.clone(),
        journal.clone(),
        inputs.clone(),
        subscribers,
        config.report_dir.clone(),
    );
    tokio::spawn(socket.run(requests));
    let Signals { terminate, interrupt, hangup } = signals;
    let driver = Driver {
        engine,
        clock,
        journal,
        position,
        checkpoint,
        hands,
        source,
        config,
        orders: None,
        provider,
        waiting: Default::default(),
        commands: 0,
        positions: watch::Sender::new(position),
        hosts,
        blind: None,
        sees_again: None,
        metrics: Some(metrics),
        metrics_kept_at: tokio::time::Instant::now(),
        data_put: (0, 0),
        narrate,
        started_at,
        edges: Edges {
            inputs: inputs_receiver,
            requests: requests_receiver,
            calls: calls_receiver,
            puts,
            terminate,
            interrupt,
            hangup,
        },
        data_dir,
    };
    Ok((driver, inputs))
}

impl Driver {
    /// That the daemon came up, and what was done while it was down.
    fn first_inputs(&self) -> anyhow::Result<Vec<Input>> {
        let settings = Box::new(self.config.settings());
        let mut first = vec![Input::Started { version: env!("CARGO_PKG_VERSION").to_owned(), settings }];
        let done = offline::read(self.data_dir.path(), self.engine.state());
        first.extend(done.context("offline.jsonl cannot be read")?);
        Ok(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_data_directory_takes_its_defaults_along() {
        let source =
            Source { file: None, urls: vec!["https://api.peer.test/".into()], data_dir: Some("/tmp/elsewhere".into()) };
        let config = source.load().unwrap();
        assert_eq!(config.data_dir, PathBuf::from("/tmp/elsewhere"));
        assert_eq!(config.socket.path, PathBuf::from("/tmp/elsewhere").join(SOCKET_NAME));
        assert!(config.report_dir.starts_with("/tmp/elsewhere"));
        let mut other = config.clone();
        check_unchanged(&config, &other).unwrap();
        other.data_dir = "/tmp/third".into();
        assert!(check_unchanged(&config, &other).unwrap_err().to_string().contains("data_dir"));
    }

    #[test]
    fn bad_urls_are_a_usage_error() {
        let source = Source { file: None, urls: vec!["no url".into()], data_dir: None };
        let error = source.load().unwrap_err();
        assert_eq!(error.downcast_ref::<Failed>().unwrap().code, USAGE);
    }
}
