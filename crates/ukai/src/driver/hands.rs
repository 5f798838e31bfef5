//! Effects carried out: each in a task of its own, bounded, its result handed back as an input.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use ukai_core::diagnose::evidence::Purpose;
use ukai_core::effect::{Effect, ServedOverride};
use ukai_core::input::{Input, Verification};
use ukai_core::observe::Path;
use ukai_core::overrides::Phase;
use ukai_core::state::State;

use crate::config::Config;
use crate::gather::{Anchor, Configured, Order, controls, gather};
use crate::provider::{Provider, Withdrawn};
use crate::report;

use super::delivery::Subscribers;
use super::journal::Journal;
use super::verify::verify;

/// Probes under way; the prober bounds the connections beneath. A hundred peers that are dead at once have a dozen each.
const PROBES_AT_ONCE: usize = 2_048;
/// A gathering is about a hundred packets in its first second, and waits for the rest of its ten.
const GATHERINGS_AT_ONCE: usize = 64;
/// What normal looks like can wait, and keeps no cause waiting.
const BASELINES_AT_ONCE: usize = 8;
/// Before the first failure of an incident, so that its charts show what normal was.
const CHART_LEAD: SignedDuration = SignedDuration::from_mins(5);
/// How long what was begun in a zone may take to end when the daemon stops.
const FINISH_BOUND: Duration = Duration::from_secs(6);

/// What effects are carried out with.
pub struct Hands {
    configured: Arc<Configured>,
    provider: Provider,
    journal: Journal,
    inputs: mpsc::Sender<Input>,
    subscribers: Subscribers,
    report_dir: PathBuf,
    probes: Arc<Semaphore>,
    gatherings: Arc<Semaphore>,
    baselines: Arc<Semaphore>,
    /// What must not be cut off in the middle.
    changes: JoinSet<()>,
    /// Closed when the change that was begun last has ended: changes are made one after the other, in the order that
    /// they were asked for, so that an apply never lands after the withdrawal that followed it.
    last_change: Option<oneshot::Receiver<()>>,
    looks: JoinSet<()>,
}

impl Hands {
    pub fn new(
        configured: Configured,
        provider: Provider,
        journal: Journal,
        inputs: mpsc::Sender<Input>,
        subscribers: Subscribers,
        report_dir: PathBuf,
    ) -> Hands {
        Hands {
            configured: Arc::new(configured),
            provider,
            journal,
            inputs,
            subscribers,
            report_dir,
            probes: Arc::new(Semaphore::new(PROBES_AT_ONCE)),
            gatherings: Arc::new(Semaphore::new(GATHERINGS_AT_ONCE)),
            baselines: Arc::new(Semaphore::new(BASELINES_AT_ONCE)),
            changes: JoinSet::new(),
            last_change: None,
            looks: JoinSet::new(),
        }
    }

    /// What is under way goes on as it was begun; what comes next goes by the new configuration.
    pub fn reconfigure(&mut self, configured: Configured, config: &Config) -> anyhow::Result<()> {
        self.subscribers.reconfigure(config)?;
        self.configured = Arc::new(configured);
        self.report_dir.clone_from(&config.report_dir);
        Ok(())
    }

    /// Starts one effect. Replies are the driver's own.
    pub fn carry_out(&mut self, effect: Effect, state: &State, now: Timestamp) {
        while self.changes.try_join_next().is_some() {}
        while self.looks.try_join_next().is_some() {}
        match effect {
            Effect::Probe { id, peer, path } => self.probe(id, peer, path, now),
            Effect::ProbeControls { id } => self.probe_controls(id),
            Effect::Gather { id, peer, purpose, also, known } => {
                self.gather(id, &peer, Order { purpose, also, known, now });
            }
            // It ended between being asked for and now, as by a person while the daemon was down.
            Effect::Apply(served) if !is_wanted(&served, state) => {}
            Effect::Apply(served) => {
                let anchor = Anchor::new(now);
                self.change(move |provider| async move {
                    let result = provider.apply(&served, anchor.now()).await;
                    Input::Applied { id: served.id, generation: served.generation, result }
                })
            }
            Effect::Withdraw { id, generation, why } => {
                let over = state.overrides.get(&id);
                let withdrawn = Withdrawn {
                    id,
                    generation,
                    host: over.map(|over| over.plan.host.clone()),
                    addresses: over.map(|over| over.addresses.clone()).unwrap_or_default(),
                };
                self.change(move |provider| async move {
                    let result = provider.withdraw(&withdrawn, &why).await;
                    Input::Withdrawn { id: withdrawn.id, generation, result }
                });
            }
            Effect::Verify { id, generation, peer, .. } => self.verify(id, generation, &peer, now),
            Effect::Notify { notification, subscriber } => self.subscribers.tell(&subscriber, notification),
            Effect::WriteReport { incident } => self.write_report(incident, state, now),
            Effect::Reply { .. } => {}
        }
    }

    /// Lets what changes a zone come to its end; what only looks is dropped.
    pub async fn finish(&mut self) {
        self.looks.abort_all();
        let ended = tokio::time::timeout(FINISH_BOUND, async { while self.changes.join_next().await.is_some() {} });
        if ended.await.is_err() {
            tracing::warn!("a change was still under way when ukai stopped; it is taken up again at the next start");
        }
    }

    /// Makes a change when the one before it has ended.
    fn change<F: Future<Output = Input> + Send + 'static>(
        &mut self,
        make: impl FnOnce(Provider) -> F + Send + 'static,
    ) {
        let (ended, waits) = oneshot::channel::<()>();
        let before = self.last_change.replace(waits);
        let (inputs, provider) = (self.inputs.clone(), self.provider.clone());
        self.changes.spawn(async move {
            if let Some(before) = before {
                // Nothing is ever sent: it ends when its sender is dropped.
                let _ = before.await;
            }
            let input = make(provider).await;
            drop(ended);
            hand_back(&inputs, input).await;
        });
    }

    fn probe(&mut self, id: String, peer: String, path: Path, now: Timestamp) {
        let (configured, inputs) = (Arc::clone(&self.configured), self.inputs.clone());
        let (journal, slots) = (self.journal.clone(), Arc::clone(&self.probes));
        let anchor = Anchor::new(now);
        self.looks.spawn(async move {
            // The semaphore is never closed.
            let _slot = slots.acquire().await;
            let observations = match configured.subjects.get(&peer) {
                Some(subject) => configured.vantage.observe(subject, path, anchor.now()).await,
                None => Vec::new(),
            };
            journal.add_samples(observations.clone(), anchor.now());
            hand_back(&inputs, Input::Observed { id, peer, observations }).await;
        });
    }

    fn probe_controls(&mut self, id: String) {
        let (configured, inputs) = (Arc::clone(&self.configured), self.inputs.clone());
        self.looks.spawn(async move {
            let results = controls::probe(&configured.vantage).await;
            hand_back(&inputs, Input::ControlsObserved { id, results }).await;
        });
    }

    fn gather(&mut self, id: String, peer: &str, order: Order) {
        let Some(subject) = self.configured.subjects.get(peer).cloned() else { return };
        let (configured, inputs) = (Arc::clone(&self.configured), self.inputs.clone());
        let slots = Arc::clone(if order.purpose == Purpose::Baseline { &self.baselines } else { &self.gatherings });
        let anchor = Anchor::new(order.now);
        self.looks.spawn(async move {
            let _slot = slots.acquire().await;
            let order = Order { now: anchor.now(), ..order };
            let evidence = gather(&configured.vantage, &subject, &order).await;
            hand_back(&inputs, Input::EvidenceGathered { id, evidence: Box::new(evidence) }).await;
        });
    }

    fn verify(&mut self, id: String, generation: u64, peer: &str, now: Timestamp) {
        let subject = self.configured.subjects.get(peer).cloned();
        let (configured, inputs, journal) = (Arc::clone(&self.configured), self.inputs.clone(), self.journal.clone());
        let provider = self.provider.clone();
        self.looks.spawn(async move {
            let verification = match &subject {
                Some(subject) => verify(&configured.vantage, subject, &provider, now).await,
                None => unknown_peer(),
            };
            journal.add_samples(verification.observations.clone(), now);
            hand_back(&inputs, Input::Verified { id, generation, verification }).await;
        });
    }

    fn write_report(&mut self, incident: String, state: &State, now: Timestamp) {
        let (journal, inputs, dir) = (self.journal.clone(), self.inputs.clone(), self.report_dir.clone());
        let known = state.incidents.get(&incident);
        let span = known.map(|known| (known.peer.clone(), known.failing_since, known.closed_at.unwrap_or(now)));
        self.looks.spawn(async move {
            let written = write_report(&journal, &incident, span, dir).await;
            let result = written.map_err(|error| format!("{error:#}"));
            hand_back(&inputs, Input::ReportWritten { incident, result }).await;
        });
    }
}

fn is_wanted(served: &ServedOverride, state: &State) -> bool {
    let over = state.overrides.get(&served.id);
    over.is_some_and(|over| over.phase == Phase::Applying && over.generation == served.generation)
}

fn unknown_peer() -> Verification {
    let gone = || Err("the peer is no longer configured".to_owned());
    Verification { at_server: gone(), by_resolver: gone(), observations: Vec::new() }
}

/// The driver outlives its effects; where it does not, nobody needs the result.
async fn hand_back(inputs: &mpsc::Sender<Input>, input: Input) {
    let _ = inputs.send(input).await;
}

async fn write_report(
    journal: &Journal,
    incident: &str,
    span: Option<(String, Timestamp, Timestamp)>,
    dir: PathBuf,
) -> anyhow::Result<Vec<String>> {
    let records = journal.read_all().await?;
    let samples = match span {
        Some((peer, from, to)) => {
            let from = from.checked_sub(CHART_LEAD).unwrap_or(from);
            journal.samples(&peer, from, to).await?
        }
        None => Vec::new(),
    };
    let incident = incident.to_owned();
    let paths = tokio::task::spawn_blocking(move || report::write(&records, &samples, &incident, &dir))
        .await
        .context("the report could not be written")??;
    Ok(paths.iter().map(|path| path.display().to_string()).collect())
}
