//! The engine: `handle(now, input)` yields events to record and effects to carry out.
//!
//! One input at a time goes in, together with the time. What it means is decided here and nowhere
//! else; what it leads to comes out as a [`Step`]. The shell makes the step's events durable, and
//! only then carries out its effects. [`State`] is the fold of those events; what is merely
//! volatile (rounds in flight, bursts, streaks, windows of samples) is in `live` and is rebuilt
//! after a restart.
//!
//! ```text
//! rounds      probe, burst
//! measure     what was seen becomes metrics
//! alarms      alarms judged, and what follows from a change
//! composites  … for the alarms that watch others
//! actions     what runs when an alarm enters a state
//! paging      who is woken, and when
//! incident    opened by an alarm, closed when all is whole
//! baseline    what normal looks like
//! cause       evidence asked for and read, verdict, plan or refusal
//! change      approval, apply, verify, confirm, withdraw
//! standing    while it stands: proved again, followed, held, taken back
//! provider    what the zone provider says it serves
//! commands    what people ask for
//! notices     what people are told
//! ```

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use crate::alarm::AlarmState;
use crate::effect::Effect;
use crate::event::{Event, Recorded};
use crate::input::Input;
use crate::metric::store::{DirtyChunk, Metrics};
use crate::peer::Settings;
use crate::state::State;
pub use leftover::Residue;
use live::Live;

mod actions;
mod alarm_commands;
mod alarms;
mod baseline;
mod cause;
mod change;
mod commands;
mod composites;
mod incident;
mod leftover;
mod live;
mod measure;
mod notices;
mod paging;
mod proposal;
mod provider;
mod resume;
mod rounds;
mod standing;

/// What one input leads to. Effects are released only after the events are durable.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Step {
    pub events: Vec<Recorded>,
    pub effects: Vec<Effect>,
}

/// The step that is being built, and the time it is built at.
#[derive(Debug)]
struct Turn {
    now: Timestamp,
    step: Step,
    /// Alarms that changed, with the state that they had before; composites follow at the end.
    changed: BTreeMap<String, AlarmState>,
}

impl Turn {
    fn effect(&mut self, effect: Effect) {
        self.step.effects.push(effect);
    }

    fn after(&self, seconds: i64) -> Timestamp {
        later(self.now, SignedDuration::from_secs(seconds))
    }
}

#[derive(Debug, Default)]
pub struct Engine {
    state: State,
    settings: Settings,
    live: Live,
    metrics: Metrics,
}

impl Engine {
    /// An engine that goes on from what the log holds. The first input must be `Started`.
    pub fn replay(recorded: impl IntoIterator<Item = Recorded>) -> Engine {
        let mut state = State::default();
        for record in recorded {
            state.apply(&record);
        }
        Engine { state, ..Engine::default() }
    }

    /// An engine that goes on from a checkpoint of its state and the events after it.
    pub fn resume_from(state: State, recorded: impl IntoIterator<Item = Recorded>) -> Engine {
        let mut engine = Engine { state, ..Engine::default() };
        for record in recorded {
            engine.state.apply(&record);
        }
        engine
    }

    pub fn state(&self) -> &State {
        &self.state
    }

    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// For the shell, which keeps the windows of metrics on disk.
    pub fn metrics_mut(&mut self) -> &mut Metrics {
        &mut self.metrics
    }

    /// Takes up the windows that were kept, before the first input; alarms' own needs are known from the log. Says how many
    /// could not be taken.
    pub fn restore_metrics(&mut self, now: Timestamp, chunks: Vec<DirtyChunk>) -> usize {
        self.retain_windows();
        chunks.into_iter().filter_map(|chunk| self.metrics.restore_chunk(now, chunk).err()).count()
    }

    /// Data taken in and refused since the start.
    pub fn data_counts(&self) -> (u64, u64) {
        (self.live.data_received, self.live.data_refused)
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Decides. Time never goes backwards here: an earlier `now` counts as the last one.
    pub fn handle(&mut self, now: Timestamp, input: Input) -> Step {
        let now = self.state.last_at.map_or(now, |last| now.max(last)).max(self.live.last_now);
        self.live.last_now = now;
        let mut turn = Turn { now, step: Step::default(), changed: BTreeMap::new() };
        self.take(&mut turn, input);
        self.advance(&mut turn);
        turn.step
    }

    /// When the engine next wants a `Tick`, if nothing else happens before.
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        let peers = self.live.peers.values().filter_map(|live| live.next_due());
        let overrides = self.state.overrides.values().filter_map(change::next_due);
        let alarms = self.next_alarm_due().into_iter().chain(self.next_page_due());
        peers.chain(overrides).chain(self.live.retries.values().copied()).chain(alarms).min()
    }

    fn take(&mut self, turn: &mut Turn, input: Input) {
        match input {
            Input::Started { version, settings } => self.start(turn, version, *settings),
            Input::Reconfigured { settings } => self.configure(turn, *settings),
            Input::Observed { id, peer, observations } => {
                self.observed(turn, &id, &peer, observations);
            }
            Input::EvidenceGathered { id, evidence } => self.gathered(turn, &id, *evidence),
            Input::Applied { id, generation, result } => {
                self.applied(turn, &id, generation, result);
            }
            Input::Verified { id, generation, verification } => {
                self.verified(turn, &id, generation, &verification);
            }
            Input::Withdrawn { id, generation, result } => {
                self.withdrawn(turn, &id, generation, result);
            }
            Input::ProviderListed { serving } => self.provider_listed(turn, &serving),
            Input::LeasesStuck { leases } => self.leases_stuck(turn, leases),
            Input::ProviderEnded { id, why, offline_by } => {
                self.provider_ended(turn, &id, &why, offline_by);
            }
            Input::NotificationDelayed { key, subscriber, attempts, detail } => {
                self.notification_delayed(turn, key, subscriber, attempts, detail);
            }
            Input::NotificationSent { key, subscriber, attempts, result } => {
                self.notification_sent(turn, key, subscriber, attempts, result);
            }
            Input::ApplicationCalled { peer, call } => self.application_called(turn, &peer, call),
            Input::ControlsObserved { id, results } => self.controls_observed(turn, &id, &results),
            Input::MetricsPut { source, data } => self.put_all(turn, &source, data),
            Input::ReportWritten { incident, result } => {
                self.report_written(turn, incident, result);
            }
            Input::Command { id, by, command } => self.command(turn, id, by, command),
            Input::LogWritable { since, why, paged } => self.log_writable(turn, since, &why, paged),
            Input::Troubled { what } => self.record(turn, Event::Troubled { what }),
            Input::Tick => {}
        }
    }

    /// Everything that time alone brings about.
    fn advance(&mut self, turn: &mut Turn) {
        self.advance_controls(turn);
        let peers: Vec<String> = self.live.peers.keys().cloned().collect();
        for peer in &peers {
            self.advance_rounds(turn, peer);
            self.advance_cause(turn, peer);
            self.advance_verification(turn, peer);
        }
        self.advance_overrides(turn);
        self.advance_alarms(turn);
    }

    fn record(&mut self, turn: &mut Turn, event: Event) {
        let record = Recorded { at: turn.now, event };
        self.state.apply(&record);
        turn.step.events.push(record);
    }
}

/// A time so much later, or the end of time.
fn later(at: Timestamp, span: SignedDuration) -> Timestamp {
    at.checked_add(span).unwrap_or(Timestamp::MAX)
}
