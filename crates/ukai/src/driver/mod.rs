//! The daemon: one task owns the engine, and everything else hands it inputs.
//!
//! ```text
//! probes, gatherings, DNS process,      ┌──────── one step ────────┐
//! application, subscribers, socket ───► │ now ─► engine ─► append  │ ─► followers, terminal
//!                                       └───────────│──────────────┘
//!                                        durable?   ▼
//!                                            effects, side by side ───► their results are inputs again
//! ```
//!
//! Effects are released, and commands answered, only after the events of their step are durable. While the log cannot
//! be written nothing new is decided: the step waits and is tried again each second, what is served stays as it is
//! (the DNS process enforces expiry by itself), and whoever asks is told why.
//!
//! The order of the start is part of the contract: the data directory is locked, the DNS process found or started (it
//! serves its own overrides from its own disk, whatever has become of the log), the log read, and only then does
//! anything else begin.

mod alarm_history;
pub mod alarms;
mod delivery;
mod hands;
mod journal;
pub mod offline;
mod requests;
mod start;
mod verify;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use jiff::{SignedDuration, Timestamp};
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, oneshot, watch};
use ukai_core::effect::{Effect, Reply};
use ukai_core::engine::{Engine, Step};
use ukai_core::event::Recorded;
use ukai_core::input::Input;
use ukai_core::metric::Datum;

use crate::application::Reported;
use crate::cli::narrate;
use crate::clock::Clock;
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::gather::configure;
use crate::log::{AppendError, Position};
use crate::metrics::Put;
use crate::metrics::inputs::Inputs;
use crate::provider::Provider;
use crate::provider::embedded::Order;
use crate::socket::server::{Answer, Request};

use hands::Hands;
use journal::{Journal, JournalError};
pub use requests::NOT_FOUND;
pub use start::{Source, run};

/// Results on their way to the engine. Whoever waits to hand one over holds nothing that others need.
const INPUTS: usize = 1024;
/// Between two tries to append.
const APPEND_RETRY: Duration = Duration::from_secs(1);
/// How long the log may be unwritable before somebody is woken: a disk that is cleaned up by a timer is no page.
const BLIND_AT_MOST: Duration = Duration::from_secs(30);
/// The engine's timer is looked at again after this at the latest, whatever the clocks did meanwhile.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// An engine that wants a tick at once is not called more often than this.
const SLEEP_MIN: Duration = Duration::from_millis(5);
/// Taking over a configuration may start the DNS process anew.
const RECONFIGURE_BOUND: Duration = Duration::from_secs(20);
/// A checkpoint is made after so many events: a start then replays a second's work at most.
const CHECKPOINT_EVERY: Position = 5_000;
/// An SLA claim or an audit looks back a year; events of incidents that are over are kept a month longer.
const EVENTS_KEPT: SignedDuration = SignedDuration::from_hours(400 * 24);
/// Results taken in after the last change of a zone has ended.
const LAST_INPUTS: usize = INPUTS;

/// How often changed windows of metrics go to disk: what a kill loses is less than one round.
const KEEP_METRICS_EVERY: Duration = Duration::from_secs(5);
/// Chunks that one turn writes: about 2 MB, a fraction of a second's work of the disk.
const METRICS_KEPT_AT_ONCE: usize = 2_000;

struct Driver {
    engine: Engine,
    clock: Clock,
    journal: Journal,
    position: Position,
    /// The position of the last checkpoint.
    checkpoint: Position,
    hands: Hands,
    source: Source,
    config: Config,
    /// To the task that holds the DNS process, or the lease keeper.
    orders: Option<mpsc::Sender<Order>>,
    provider: Provider,
    /// Commands that the engine has not answered yet.
    waiting: BTreeMap<u64, mpsc::Sender<Answer>>,
    commands: u64,
    /// Where the log ends, for whoever follows it.
    positions: watch::Sender<Position>,
    hosts: watch::Sender<BTreeMap<String, String>>,
    /// While the log cannot be written.
    blind: Option<Blind>,
    /// It could be written again, which is to be an event itself.
    sees_again: Option<Blind>,
    /// None: they have ended.
    metrics: Option<Inputs>,
    /// Data since the start.
    /// When windows of metrics last went to disk.
    metrics_kept_at: tokio::time::Instant,
    /// Data of the application's own metrics that were taken, and that were refused.
    data_put: (u64, u64),
    narrate: bool,
    started_at: Timestamp,
    edges: Edges,
    data_dir: DataDir,
}

/// The log cannot be written: nothing is watched, nothing is decided.
struct Blind {
    since: Timestamp,
    /// By elapsed time.
    page_at: tokio::time::Instant,
    paged: bool,
    why: String,
}

/// Where inputs come from.
struct Edges {
    inputs: mpsc::Receiver<Input>,
    requests: mpsc::Receiver<Request>,
    calls: mpsc::Receiver<Reported>,
    puts: mpsc::Receiver<Put>,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// Who ended the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Terminated,
    Interrupted,
}

enum Next {
    Input(Box<Input>),
    Request(Request),
    Call(Reported),
    Put(Put),
    Reload,
    Stop(Stop),
}

impl Driver {
    /// Takes inputs until a signal ends it.
    async fn drive(mut self, first: Vec<Input>) -> anyhow::Result<ExitCode> {
        if let Some(stop) = self.come_up(first).await? {
            return self.stop(stop).await;
        }
        offline::imported(self.data_dir.path())?;
        loop {
            let next = self.next().await;
            let stop = match next {
                Next::Input(input) => self.take(*input).await?,
                Next::Call(reported) => self.call(reported).await?,
                Next::Put(put) => self.metrics_put(put).await?,
                Next::Request(request) => self.request(request).await?,
                Next::Reload => {
                    let (told, stop) = self.reload().await?;
                    if let Err(error) = told {
                        tracing::error!("{error:#}; the running configuration stays in force");
                    }
                    stop
                }
                Next::Stop(stop) => Some(stop),
            };
            if let Some(stop) = stop {
                return self.stop(stop).await;
            }
        }
    }

    /// One step for all of it: what a person took back offline is known before anything that was begun is taken up.
    async fn come_up(&mut self, first: Vec<Input>) -> anyhow::Result<Option<Stop>> {
        let now = self.clock.now().now;
        let mut step = Step::default();
        for input in first {
            let Step { events, effects } = self.engine.handle(now, input);
            step.events.extend(events);
            step.effects.extend(effects);
        }
        self.settle(step, now).await
    }

    async fn next(&mut self) -> Next {
        if let Some(Blind { since, paged, why, .. }) = self.sees_again.take() {
            return Next::Input(Box::new(Input::LogWritable { since, why, paged }));
        }
        let wake = self.sleep();
        let edges = &mut self.edges;
        tokio::select! {
            _ = edges.terminate.recv() => Next::Stop(Stop::Terminated),
            _ = edges.interrupt.recv() => Next::Stop(Stop::Interrupted),
            _ = edges.hangup.recv() => Next::Reload,
            Some(request) = edges.requests.recv() => Next::Request(request),
            Some(input) = edges.inputs.recv() => Next::Input(Box::new(input)),
            Some(reported) = edges.calls.recv() => Next::Call(reported),
            Some(put) = edges.puts.recv() => Next::Put(put),
            () = tokio::time::sleep(wake) => Next::Input(Box::new(Input::Tick)),
        }
    }

    /// How long until the engine wants to be called.
    fn sleep(&mut self) -> Duration {
        let Some(at) = self.engine.poll_timeout() else { return SLEEP_MAX };
        let left = at.duration_since(self.clock.now().now);
        Duration::try_from(left).unwrap_or(Duration::ZERO).clamp(SLEEP_MIN, SLEEP_MAX)
    }

    /// One step: decided, durable, told, carried out.
    async fn take(&mut self, input: Input) -> anyhow::Result<Option<Stop>> {
        let reading = self.clock.now();
        if let Some(jump) = reading.jumped {
            let what =
                format!("the wall clock jumped by {} s; leases and schedules go on by elapsed time", jump.as_secs());
            tracing::warn!("{what}");
            let step = self.engine.handle(reading.now, Input::Troubled { what });
            if let Some(stop) = self.settle(step, reading.now).await? {
                return Ok(Some(stop));
            }
        }
        let step = self.engine.handle(reading.now, input);
        self.settle(step, reading.now).await
    }

    async fn settle(&mut self, step: Step, now: Timestamp) -> anyhow::Result<Option<Stop>> {
        if let Some(stop) = self.make_durable(step.events).await? {
            return Ok(Some(stop));
        }
        if self.position - self.checkpoint >= CHECKPOINT_EVERY {
            self.checkpoint = self.position;
            let before = now.checked_sub(EVENTS_KEPT).unwrap_or(Timestamp::MIN);
            self.journal.checkpoint(self.engine.state(), before)?;
        }
        self.keep_metrics(METRICS_KEPT_AT_ONCE).await;
        for effect in step.effects {
            match effect {
                Effect::Reply { command, reply } => self.reply(command, reply),
                effect => self.hands.carry_out(effect, self.engine.state(), now),
            }
        }
        Ok(None)
    }

    /// Returns when the events are on disk, or with who stopped us while they were not.
    async fn make_durable(&mut self, events: Vec<Recorded>) -> anyhow::Result<Option<Stop>> {
        if events.is_empty() {
            return Ok(None);
        }
        loop {
            match self.journal.append(self.position, events.clone()).await {
                Ok(position) => {
                    if let Some(blind) = self.blind.take() {
                        tracing::warn!("the event log can be written again");
                        self.sees_again = Some(blind);
                    }
                    self.position = position;
                    self.publish(&events);
                    return Ok(None);
                }
                Err(
                    error @ (JournalError::Append(AppendError::Conflict { .. } | AppendError::Encode(_))
                    | JournalError::Gone),
                ) => {
                    bail!(
                        "the event log was written by somebody else or is gone, so ukai stops before it decides twice: {error}"
                    );
                }
                Err(error) => {
                    let sentence = error.to_string();
                    self.tell_who_waits(&sentence);
                    self.cry_out(sentence);
                    if let Some(stop) = self.wait_for_the_log().await {
                        return Ok(Some(stop));
                    }
                }
            }
        }
    }

    fn cry_out(&mut self, why: String) {
        let now = self.clock.now().now;
        let blind = self.blind.get_or_insert_with(|| {
            tracing::error!("{why}");
            Blind { since: now, page_at: tokio::time::Instant::now() + BLIND_AT_MOST, paged: false, why: String::new() }
        });
        blind.why = why;
        if blind.paged || tokio::time::Instant::now() < blind.page_at {
            return;
        }
        blind.paged = true;
        for page in self.engine.page_without_log(blind.since, &blind.why) {
            self.hands.carry_out(page, self.engine.state(), now);
        }
    }

    /// The command of the step that waits is decided, but not done before it is durable.
    fn tell_who_waits(&mut self, why: &str) {
        for answers in std::mem::take(&mut self.waiting).into_values() {
            let sentence = format!("not done yet: {why}; it takes effect when the log can be written again");
            // Whoever asked may have hung up.
            let _ = answers.try_send(Answer::Refused(sentence));
        }
    }

    /// Nothing is decided meanwhile, but whoever asks is answered, and signals are heard.
    async fn wait_for_the_log(&mut self) -> Option<Stop> {
        let until = tokio::time::Instant::now() + APPEND_RETRY;
        loop {
            let edges = &mut self.edges;
            tokio::select! {
                () = tokio::time::sleep_until(until) => return None,
                _ = edges.terminate.recv() => return Some(Stop::Terminated),
                _ = edges.interrupt.recv() => return Some(Stop::Interrupted),
                Some(request) = edges.requests.recv() => self.request_in_trouble(request),
            }
        }
    }

    fn publish(&mut self, events: &[Recorded]) {
        if self.narrate {
            events.iter().for_each(narrate::print);
        }
        self.positions.send_replace(self.position);
    }

    fn reply(&mut self, command: u64, reply: Reply) {
        let Some(answers) = self.waiting.remove(&command) else { return };
        let answer = match reply {
            Reply::Done { text } => Answer::Value(serde_json::json!({ "text": text })),
            Reply::Refused { text } => Answer::Refused(text),
        };
        // Whoever asked may have hung up; the command is in the log.
        let _ = answers.try_send(answer);
    }

    async fn call(&mut self, reported: Reported) -> anyhow::Result<Option<Stop>> {
        let Reported { peer, mut call } = reported;
        call.at = self.clock.now().now;
        self.take(Input::ApplicationCalled { peer, call }).await
    }

    async fn metrics_put(&mut self, put: Put) -> anyhow::Result<Option<Stop>> {
        let Put { source, mut data } = put;
        self.in_engine_time(&mut data);
        let before = self.engine.data_counts();
        let stop = self.take(Input::MetricsPut { source, data }).await?;
        // The engine counts what probes measured, too.
        let after = self.engine.data_counts();
        self.data_put.0 += after.0 - before.0;
        self.data_put.1 += after.1 - before.1;
        Ok(stop)
    }

    /// Where the wall clock was set back, what applications stamp by it lies in the past of every alarm, for ever.
    fn in_engine_time(&self, data: &mut [Datum]) {
        data.iter_mut().for_each(|datum| datum.at = self.clock.of_wall(datum.at));
    }

    /// Windows of metrics that changed go to disk. Losing the last ones costs a few datapoints, so nobody waits for it.
    async fn keep_metrics(&mut self, most: usize) {
        let now = tokio::time::Instant::now();
        if now < self.metrics_kept_at + KEEP_METRICS_EVERY && most != usize::MAX {
            return;
        }
        self.metrics_kept_at = now;
        let metrics = self.engine.metrics_mut();
        if let Some(shortened) = metrics.take_shortened() {
            tracing::warn!(
                metrics = shortened.metrics,
                first = %shortened.first,
                "metrics take more memory than they may; the longest-silent ones lost their older half"
            );
        }
        let (changed, forgotten) = (metrics.take_dirty(most), metrics.forgotten());
        if !changed.is_empty() || !forgotten.is_empty() {
            self.journal.keep_metrics(changed, forgotten).await;
        }
    }

    /// What was read from files before the stop is taken in, so that the positions there are right.
    async fn stop_metrics(&mut self) -> anyhow::Result<()> {
        let Some(inputs) = self.metrics.take() else { return Ok(()) };
        let mut stopping = std::pin::pin!(inputs.stop());
        loop {
            tokio::select! {
                () = &mut stopping => break,
                Some(put) = self.edges.puts.recv() => self.last_put(put).await?,
            }
        }
        while let Ok(put) = self.edges.puts.try_recv() {
            self.last_put(put).await?;
        }
        self.keep_metrics(usize::MAX).await;
        Ok(())
    }

    /// The data are kept; what alarms would make of them is taken up at the next start. While the log cannot be written no
    /// event follows from them either.
    async fn last_put(&mut self, mut put: Put) -> anyhow::Result<()> {
        let now = self.clock.now().now;
        self.in_engine_time(&mut put.data);
        let metrics = self.engine.metrics_mut();
        for datum in put.data {
            // One that is refused was counted as the others are; the counts end here.
            let _ = metrics.put(now, datum);
        }
        Ok(())
    }

    /// The file is taken whole or not at all.
    async fn reload(&mut self) -> anyhow::Result<(anyhow::Result<()>, Option<Stop>)> {
        match self.prepare().await {
            Ok(settings) => {
                tracing::info!("the configuration was read again");
                let input = Input::Reconfigured { settings: Box::new(settings) };
                Ok((Ok(()), self.take(input).await?))
            }
            Err(error) => {
                let what = format!("the configuration was not taken over: {error:#}");
                Ok((Err(error), self.take(Input::Troubled { what }).await?))
            }
        }
    }

    async fn prepare(&mut self) -> anyhow::Result<ukai_core::peer::Settings> {
        let config = self.source.load()?;
        start::check_unchanged(&self.config, &config)?;
        let mut configured = configure(&config)?;
        if let Some(orders) = &self.orders {
            let (done, result) = oneshot::channel();
            let order = Order::Reconfigure { config: Box::new(config.clone()), done };
            if orders.send(order).await.is_err() {
                bail!("the task that watches the zone provider has ended; restart ukai");
            }
            tokio::time::timeout(RECONFIGURE_BOUND, result).await???;
        }
        configured.vantage.embedded = start::embedded(&self.provider).await;
        self.hands.reconfigure(configured, &config)?;
        if let Some(metrics) = &mut self.metrics {
            metrics.reconfigure(&config)?;
        }
        self.hosts.send_replace(config.hosts());
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        let settings = config.settings();
        self.config = config;
        Ok(settings)
    }

    async fn stop(mut self, stop: Stop) -> anyhow::Result<ExitCode> {
        self.hands.finish().await;
        self.stop_metrics().await?;
        if self.blind.is_none() {
            self.take_last_inputs().await?;
        }
        self.journal.close().await;
        let stands = self.engine.state().overrides.values().any(|over| over.phase.may_stand());
        let Some(orders) = self.orders.take() else { return Ok(ExitCode::SUCCESS) };
        if let Provider::Zone(zone) = &self.provider {
            if stands {
                anstream::eprintln!(
                    "ukai stopped; what stands stays in {}, and the lease keeper ends it in time",
                    zone.place()
                );
                return Ok(ExitCode::SUCCESS);
            }
            order_stop(&orders).await?;
            anstream::eprintln!("ukai stopped: no override stands");
            return Ok(ExitCode::SUCCESS);
        }
        if stands || stop == Stop::Terminated {
            let why = if stands { "an override may stand" } else { "applications resolve with it" };
            anstream::eprintln!("ukai stopped; the DNS process goes on serving, because {why}");
            return Ok(ExitCode::SUCCESS);
        }
        order_stop(&orders).await?;
        anstream::eprintln!("ukai stopped, and the DNS process too: no override stands");
        Ok(ExitCode::SUCCESS)
    }

    /// What came of the last changes is kept; what would follow from it is taken up at the next start.
    async fn take_last_inputs(&mut self) -> anyhow::Result<()> {
        for _ in 0..LAST_INPUTS {
            let Ok(input) = self.edges.inputs.try_recv() else { break };
            let now = self.clock.now().now;
            let step = self.engine.handle(now, input);
            if self.make_durable(step.events).await?.is_some() {
                break;
            }
        }
        Ok(())
    }
}

async fn order_stop(orders: &mpsc::Sender<Order>) -> anyhow::Result<()> {
    let (done, result) = oneshot::channel();
    if orders.send(Order::Stop { done }).await.is_ok() {
        result.await??;
    }
    Ok(())
}
