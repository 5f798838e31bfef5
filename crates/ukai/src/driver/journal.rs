//! The event log and the samples on a thread of their own: a slow disk must not stop the sockets.

use std::path::Path;
use std::sync::mpsc as blocking;
use std::thread;

use anyhow::Context;
use jiff::Timestamp;
use tokio::sync::oneshot;
use ukai_core::event::Recorded;
use ukai_core::observe::{AddressResult, Failure, Observation, Resolution};

use crate::log::{AppendError, Log, LogError, Position, READ_LIMIT, Sample, Samples};

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
    ReadSamples { peer: String, from: Timestamp, to: Timestamp, done: oneshot::Sender<Vec<Sample>> },
}

impl Journal {
    /// Opens the files; everything that the log holds is read and handed over.
    pub fn open(data_dir: &Path) -> anyhow::Result<(Journal, Vec<(Position, Recorded)>)> {
        let log = Log::open(data_dir)?;
        let samples = Samples::open(data_dir)?;
        if let Some(aside) = &samples.moved_aside {
            tracing::warn!(path = %aside.display(), "the samples were damaged and have been moved aside; charts start anew");
        }
        let recorded = read_all(&log)?;
        let (jobs, queue) = blocking::sync_channel(QUEUE);
        thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || work(log, samples, &queue))
            .context("the thread of the event log could not be started")?;
        Ok((Journal { jobs }, recorded))
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

    /// Losing samples costs a chart: nobody waits for them, and what the queue cannot hold is dropped.
    pub fn add_samples(&self, observations: Vec<Observation>, now: Timestamp) {
        if self.jobs.try_send(Job::AddSamples { observations, now }).is_err() {
            tracing::debug!("samples were dropped because the disk is slow");
        }
    }

    pub async fn samples(&self, peer: &str, from: Timestamp, to: Timestamp) -> Result<Vec<Observation>, JournalError> {
        let (done, result) = oneshot::channel();
        self.send(Job::ReadSamples { peer: peer.to_owned(), from, to, done }).await?;
        let samples = result.await.map_err(|_| JournalError::Gone)?;
        Ok(samples.into_iter().map(|sample| observation(peer, sample)).collect())
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

fn work(mut log: Log, mut samples: Samples, queue: &blocking::Receiver<Job>) {
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

fn read_all(log: &Log) -> Result<Vec<(Position, Recorded)>, LogError> {
    let (mut all, mut after) = (Vec::new(), 0);
    loop {
        let page = log.read_from(after, READ_LIMIT)?;
        let Some((last, _)) = page.last() else { return Ok(all) };
        after = *last;
        all.extend(page);
    }
}

/// A sample as the report charts it: one address at one time.
fn observation(peer: &str, sample: Sample) -> Observation {
    let failure = sample.failure.map(|(stage, class)| Failure { stage, class, detail: String::new() });
    let mut resolution = Resolution {
        elapsed_us: sample.timings.resolve_us.unwrap_or_default(),
        ..Resolution::default()
    };
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
        let (journal, recorded) = Journal::open(dir.path()).unwrap();
        assert!(recorded.is_empty());
        let position = journal.append(0, vec![started(1), started(2)]).await.unwrap();
        assert_eq!(position, 2);
        assert_eq!(journal.read(1).await.unwrap(), [(2, started(2))]);
        assert_eq!(journal.read_all().await.unwrap(), [started(1), started(2)]);
        let conflict = journal.append(0, vec![started(3)]).await.unwrap_err();
        assert!(matches!(conflict, JournalError::Append(AppendError::Conflict { found: 2, .. })), "{conflict}");
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
