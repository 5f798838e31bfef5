//! The event log and the samples on a thread of their own: a slow disk must not stop the sockets.

use std::path::Path;
use std::sync::mpsc as blocking;
use std::thread;

use anyhow::Context;
use jiff::Timestamp;
use tokio::sync::oneshot;
use ukai_core::event::Recorded;
use ukai_core::metric::store::{DirtyChunk, ForgottenChunk};
use ukai_core::observe::{AddressResult, Failure, Observation, Resolution};
use ukai_core::state::State;

use crate::log::{AppendError, Log, LogError, Position, READ_LIMIT, Sample, Samples, Windows};

/// Jobs that may wait for the disk. The driver waits for each append, so what piles up here are samples.
const QUEUE: usize = 256;
/// Samples are pruned after so many additions: the bound is two million, so a few thousand more do no harm.
const PRUNE_EVERY: u32 = 5_000;

/// Why nothing was appended.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("the thread of the event log has ended")]
    Gone,
}

/// A handle to the thread. The thread ends, and closes the files, when the last handle is gone.
#[derive(Clone)]
pub struct Journal {
    jobs: blocking::SyncSender<Job>,
}

enum Job {
    Append { expected: Position, events: Vec<Recorded>, done: oneshot::Sender<Result<Position, AppendError>> },
    Read { after: Position, done: oneshot::Sender<Result<Vec<(Position, Recorded)>, LogError>> },
    AddSamples { observations: Vec<Observation>, now: Timestamp },
    KeepMetrics { changed: Vec<DirtyChunk>, forgotten: Vec<ForgottenChunk> },
    Checkpoint { state: String, before: Timestamp },
    Close { done: oneshot::Sender<()> },
    ReadSamples { peer: String, from: Timestamp, to: Timestamp, done: oneshot::Sender<Vec<Sample>> },
}

/// What the log holds, as the engine takes it up.
#[derive(Debug, Default)]
pub struct Known {
    /// The fold of everything up to the checkpoint.
    pub state: State,
    /// The events after it.
    pub recorded: Vec<Recorded>,
    pub checkpoint: Position,
    pub position: Position,
    /// When the last event happened.
    pub last_at: Option<Timestamp>,
    /// Windows of metrics, as they were last kept.
    pub windows: Vec<DirtyChunk>,
}

impl Journal {
    /// Opens the files; what the log holds is read and handed over.
    pub fn open(data_dir: &Path) -> anyhow::Result<(Journal, Known)> {
        let log = Log::open(data_dir)?;
        let samples = Samples::open(data_dir)?;
        if let Some(aside) = &samples.moved_aside {
            tracing::warn!(path = %aside.display(), "the samples were damaged and have been moved aside; charts start anew");
        }
        let windows = Windows::open(data_dir)?;
        if let Some(aside) = &windows.moved_aside {
            tracing::warn!(path = %aside.display(), "the windows of metrics were damaged and have been moved aside; alarms begin anew");
        }
        let mut known = known(&log)?;
        let (chunks, unreadable) = windows.read()?;
        if unreadable > 0 {
            tracing::warn!(unreadable, "some windows of metrics could not be read and are left out");
        }
        known.windows = chunks;
        let (jobs, queue) = blocking::sync_channel(QUEUE);
        thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || work(log, samples, windows, &queue))
            .context("the thread of the event log could not be started")?;
        Ok((Journal { jobs }, known))
    }

    /// When this returns, the events survive a power failure.
    pub async fn append(&self, expected: Position, events: Vec<Recorded>) -> Result<Position, JournalError> {
        let (done, result) = oneshot::channel();
        self.send(Job::Append { expected, events, done }).await?;
        Ok(result.await.map_err(|_| JournalError::Gone)??)
    }

    /// Events after this position, at most [`READ_LIMIT`].
    pub async fn read(&self, after: Position) -> Result<Vec<(Position, Recorded)>, JournalError> {
        let (done, result) = oneshot::channel();
        self.send(Job::Read { after, done }).await?;
        Ok(result.await.map_err(|_| JournalError::Gone)??)
    }

    /// Everything that the log holds.
    pub async fn read_all(&self) -> Result<Vec<Recorded>, JournalError> {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let page = self.read(after).await?;
            let Some((last, _)) = page.last() else { return Ok(all) };
            after = *last;
            all.extend(page.into_iter().map(|(_, recorded)| recorded));
        }
    }

    /// Lets the log forget what it no longer needs. A checkpoint that fails is made again later: nothing rests on it yet.
    pub fn checkpoint(&self, state: &State, before: Timestamp) -> Result<(), serde_json::Error> {
        let state = serde_json::to_string(state)?;
        if self.jobs.try_send(Job::Checkpoint { state, before }).is_err() {
            tracing::debug!("the checkpoint waits for a faster disk");
        }
        Ok(())
    }

    /// Losing samples costs a chart: nobody waits for them, and what the queue cannot hold is dropped.
    pub fn add_samples(&self, observations: Vec<Observation>, now: Timestamp) {
        if self.jobs.try_send(Job::AddSamples { observations, now }).is_err() {
            tracing::debug!("samples were dropped because the disk is slow");
        }
    }

    /// Waits for room in the queue, not for the disk: a chunk that is closed is handed over only once.
    pub async fn keep_metrics(&self, changed: Vec<DirtyChunk>, forgotten: Vec<ForgottenChunk>) {
        if self.send(Job::KeepMetrics { changed, forgotten }).await.is_err() {
            tracing::debug!("windows of metrics were not kept because the journal has ended");
        }
    }

    pub async fn samples(&self, peer: &str, from: Timestamp, to: Timestamp) -> Result<Vec<Observation>, JournalError> {
        let (done, result) = oneshot::channel();
        self.send(Job::ReadSamples { peer: peer.to_owned(), from, to, done }).await?;
        let samples = result.await.map_err(|_| JournalError::Gone)?;
        Ok(samples.into_iter().map(|sample| observation(peer, sample)).collect())
    }

    /// Closes the files, so that everything is in them and nothing beside them; whoever still holds a handle finds the
    /// thread gone.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.send(Job::Close { done }).await.is_ok() {
            // An error means that the thread had ended before.
            let _ = closed.await;
        }
    }

    async fn send(&self, job: Job) -> Result<(), JournalError> {
        match self.jobs.try_send(job) {
            Ok(()) => Ok(()),
            Err(blocking::TrySendError::Disconnected(_)) => Err(JournalError::Gone),
            Err(blocking::TrySendError::Full(job)) => {
                let jobs = self.jobs.clone();
                let sent = tokio::task::spawn_blocking(move || jobs.send(job)).await;
                sent.map_err(|_| JournalError::Gone)?.map_err(|_| JournalError::Gone)
            }
        }
    }
}

/// What the log folds to, for a command that runs while no daemon does.
pub fn state(data_dir: &Path) -> anyhow::Result<State> {
    let Known { mut state, recorded, .. } = known(&Log::open(data_dir)?)?;
    recorded.iter().for_each(|record| state.apply(record));
    Ok(state)
}

fn work(mut log: Log, mut samples: Samples, mut windows: Windows, queue: &blocking::Receiver<Job>) {
    let mut added = 0u32;
    // Whoever asked may have gone: what was written is written all the same.
    while let Ok(job) = queue.recv() {
        match job {
            Job::Append { expected, events, done } => {
                let _ = done.send(append(&mut log, expected, &events));
            }
            Job::Read { after, done } => {
                let _ = done.send(log.read_from(after, READ_LIMIT));
            }
            Job::AddSamples { observations, now } => {
                let mut result = samples.add(&observations);
                added += 1;
                if added.is_multiple_of(PRUNE_EVERY) {
                    result = result.and_then(|()| samples.prune(now).map(drop));
                }
                if let Err(error) = result {
                    tracing::debug!(%error, "samples were not kept");
                }
            }
            Job::KeepMetrics { changed, forgotten } => {
                if let Err(error) = windows.keep(&changed, &forgotten) {
                    tracing::debug!(%error, "windows of metrics were not kept");
                }
            }
            Job::Checkpoint { state, before } => match log.checkpoint(&state).and_then(|()| log.prune(before)) {
                Ok(removed) => tracing::debug!(removed, "a checkpoint was made"),
                Err(error) => tracing::warn!(%error, "no checkpoint was made"),
            },
            Job::Close { done } => {
                drop((log, samples, windows));
                let _ = done.send(());
                return;
            }
            Job::ReadSamples { peer, from, to, done } => {
                let read = samples.read(&peer, from, to).unwrap_or_else(|error| {
                    tracing::warn!(%error, "the report has no latencies");
                    Vec::new()
                });
                let _ = done.send(read);
            }
        }
    }
}

/// A commit that reported an error may have reached the disk; when it is repeated and what stands there is what was to
/// be written, it is done.
fn append(log: &mut Log, expected: Position, events: &[Recorded]) -> Result<Position, AppendError> {
    match log.append(expected, events) {
        Err(AppendError::Conflict { found, .. }) if found == expected + events.len() as Position => {
            let stands = log.read_from(expected, READ_LIMIT);
            let same = stands.is_ok_and(|stands| stands.iter().map(|(_, recorded)| recorded).eq(events));
            if same { Ok(found) } else { Err(AppendError::Conflict { expected, found }) }
        }
        result => result,
    }
}

fn known(log: &Log) -> anyhow::Result<Known> {
    let mut known = Known { position: log.position(), last_at: log.last_at()?, ..Known::default() };
    if let Some(checkpoint) = log.latest_checkpoint()? {
        match serde_json::from_str(&checkpoint.state) {
            Ok(state) => {
                known.state = state;
                known.checkpoint = checkpoint.position;
            }
            // A checkpoint is only a short cut while the events that it covers are still there.
            Err(_) if log.read_from(0, 1)?.first().is_some_and(|(position, _)| *position == 1) => {}
            Err(error) => {
                return Err(error)
                    .context("the checkpoint of the event log cannot be read, and the events before it are gone");
            }
        }
    }
    let mut after = known.checkpoint;
    loop {
        let page = log.read_from(after, READ_LIMIT)?;
        let Some((last, _)) = page.last() else { return Ok(known) };
        after = *last;
        known.recorded.extend(page.into_iter().map(|(_, recorded)| recorded));
    }
}

/// A sample as the report charts it: one address at one time.
fn observation(peer: &str, sample: Sample) -> Observation {
    let failure = sample.failure.map(|(stage, class)| Failure { stage, class, detail: String::new() });
    let mut resolution =
        Resolution { elapsed_us: sample.timings.resolve_us.unwrap_or_default(), ..Resolution::default() };
    let mut results = Vec::new();
    match sample.address {
        None => resolution.failure = failure,
        Some(address) => {
            resolution.addresses = vec![address];
            resolution.addresses_total = 1;
            results.push(AddressResult {
                address,
                port: 0,
                timings: sample.timings,
                identity: None,
                http: None,
                stalled_after: None,
                failure,
            });
        }
    }
    Observation {
        peer: peer.to_owned(),
        endpoint: sample.endpoint,
        path: sample.path,
        started_at: sample.at,
        resolution,
        results,
    }
}

#[cfg(test)]
mod tests {
    use ukai_core::event::Event;

    use super::*;

    fn started(second: i64) -> Recorded {
        Recorded {
            at: Timestamp::from_second(second).unwrap(),
            event: Event::Started { version: format!("0.0.{second}") },
        }
    }

    #[tokio::test]
    async fn what_was_appended_is_read_back_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, known) = Journal::open(dir.path()).unwrap();
        assert_eq!((known.position, known.recorded.len()), (0, 0));
        let position = journal.append(0, vec![started(1), started(2)]).await.unwrap();
        assert_eq!(position, 2);
        assert_eq!(journal.read(1).await.unwrap(), [(2, started(2))]);
        assert_eq!(journal.read_all().await.unwrap(), [started(1), started(2)]);
        let conflict = journal.append(0, vec![started(3)]).await.unwrap_err();
        assert!(matches!(conflict, JournalError::Append(AppendError::Conflict { found: 2, .. })), "{conflict}");
    }

    #[tokio::test]
    async fn a_checkpoint_and_what_follows_make_the_same_state() {
        let dir = tempfile::tempdir().unwrap();
        let frozen = |second: i64, why: &str| Recorded {
            at: Timestamp::from_second(second).unwrap(),
            event: Event::Frozen {
                by: ukai_core::event::Actor { uid: Some(1), name: "mika".into(), via: "cli".into() },
                why: why.into(),
            },
        };
        let (journal, _) = Journal::open(dir.path()).unwrap();
        journal.append(0, vec![frozen(1, "first")]).await.unwrap();
        let state = State::fold(&[frozen(1, "first")]);
        journal.checkpoint(&state, Timestamp::from_second(9).unwrap()).unwrap();
        journal.append(1, vec![frozen(2, "second")]).await.unwrap();
        journal.close().await;
        let opened = Journal::open(dir.path());
        let (_, known) = opened.unwrap();
        assert_eq!((known.checkpoint, known.position), (1, 2));
        assert_eq!(known.recorded, [frozen(2, "second")]);
        assert_eq!(known.state, state);
    }

    #[tokio::test]
    async fn a_repetition_of_what_stands_is_done() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path()).unwrap();
        journal.append(0, vec![started(1)]).await.unwrap();
        assert_eq!(journal.append(0, vec![started(1)]).await.unwrap(), 1);
        journal.append(0, vec![started(9)]).await.unwrap_err();
    }
}
