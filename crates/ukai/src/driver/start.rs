//! How the daemon comes up: what serves first, everything else after.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use ukai_core::engine::Engine;
use ukai_core::input::Input;
use ukai_dns::server::ControlClient;

use crate::application::{ApplicationListener, CALLS_QUEUED, Destinations};
use crate::cli::{BROKEN, Failed, USAGE};
use crate::clock::Clock;
use crate::config::{Config, SOCKET_NAME};
use crate::data_dir::DataDir;
use crate::dns_process::{DnsProcess, StateDir};
use crate::gather::configure;
use crate::metrics::Intake;
use crate::metrics::inputs::Inputs;
use crate::socket::server::{REQUESTS, SocketServer};

use super::delivery::Subscribers;
use super::hands::Hands;
use super::journal::{Journal, Known};
use super::verify::reachable;
use super::{Driver, Edges, INPUTS, offline, provider};

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
pub async fn embedded(control: Option<&ControlClient>) -> Option<SocketAddr> {
    let status = control?.list().await.ok()?;
    status.listen.first().copied().map(reachable)
}

/// Runs the daemon until a signal ends it. The DNS process comes before everything else: what it serves from its own
/// disk needs neither the log nor an engine, and must not wait for them.
pub async fn run(source: Source, narrate: bool) -> anyhow::Result<ExitCode> {
    let config = source.load()?;
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
    let process = DnsProcess::attach_or_start(&config, data_dir.path())
        .await
        .map_err(|error| Failed::with(USAGE, format!("{error:#}")))?;
    let control = process.as_ref().map(|_| StateDir::of(data_dir.path()).control());
    let (mut driver, inputs) = match assemble(source, config, narrate, data_dir, control, signals).await {
        Ok(assembled) => assembled,
        Err(error) => {
            if let Some(process) = process {
                process.step_back().await;
            }
            return Err(error);
        }
    };
    let first = driver.first_inputs()?;
    driver.provider = process.map(|process| {
        let (orders, receiver) = mpsc::channel(1);
        tokio::spawn(provider::watch(process, inputs, receiver));
        orders
    });
    let ended = driver.drive(first).await;
    ended.map_err(|error| match error.downcast_ref::<Failed>() {
        Some(_) => error,
        None => Failed::with(BROKEN, format!("{error:#}")),
    })
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
    control: Option<ControlClient>,
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
    configured.vantage.embedded = embedded(control.as_ref()).await;
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
        control.clone(),
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
        provider: None,
        control,
        waiting: Default::default(),
        commands: 0,
        positions: watch::Sender::new(position),
        hosts,
        trouble: None,
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
