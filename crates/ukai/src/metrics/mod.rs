//! The application's own metrics: what comes in, so that alarms can watch what the application itself sees.
//!
//! ```text
//! files of embedded-metric-format lines ─► tail ─┐
//! Prometheus targets ─────────────► scrape ──────┤
//! POST /v1/emf, /v1/metrics, /v1/metric-data ────┴─► Intake ─► Put ─► the driver
//! ```
//!
//! Each input parses what it is given into [`Datum`]s, which can only be right, and says of everything else what is
//! wrong with it, and where. What is refused is counted and told, within a bound, and never takes something good along:
//! the unit of refusal is a line of a file, a data point of OTLP, a series of a scrape, and one request of
//! `PutMetricData`, which CloudWatch takes whole or not at all.
//!
//! The queue to the driver is bounded in puts, and a put in data. Whoever reads at its own pace (tail, scrape) waits for
//! room; whoever posts is told to come again (429), and then nothing of the request was taken.

mod buckets;
pub mod emf;
mod gzip;
pub mod inputs;
pub mod otlp;
mod positions;
pub mod put;
pub mod scrape;
pub mod tail;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use ukai_core::metric::Datum;
use ukai_core::metric::datum::DATA_MAX;

#[cfg(test)]
pub use gzip::deflate;
pub use gzip::{InflateError, inflate};

/// Puts on their way to the engine: with [`DATA_MAX`] data each, some 20 MB at the very most.
const PUTS_QUEUED: usize = 64;
/// Refusals that are told in a minute; all are counted.
const TOLD_PER_MINUTE: u32 = 20;
/// Characters of hostile text that a sentence repeats.
const SHOWN_CHARACTERS: usize = 64;
/// Characters of what a parser says, with the place at its end.
const SAID_CHARACTERS: usize = 200;

/// Data of one source, at most [`DATA_MAX`], in the order in which they came.
#[derive(Debug, Clone, PartialEq)]
pub struct Put {
    pub source: String,
    pub data: Vec<Datum>,
}

/// Where inputs hand over what they took, and say what they refused. Clones share one account.
#[derive(Debug, Clone)]
pub struct Intake {
    puts: mpsc::Sender<Put>,
    refusals: Arc<Mutex<Refusals>>,
}

#[derive(Debug, Default)]
struct Refusals {
    count: u64,
    last: Option<String>,
    minute: Option<Instant>,
    told: u32,
}

/// There is no room for all of it now, or nobody who takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Intake {
    pub fn new() -> (Intake, mpsc::Receiver<Put>) {
        Intake::with_room(PUTS_QUEUED)
    }

    fn with_room(puts: usize) -> (Intake, mpsc::Receiver<Put>) {
        let (puts, receiver) = mpsc::channel(puts);
        (Intake { puts, refusals: Arc::default() }, receiver)
    }

    /// Waits for room. `Full`: the driver is gone.
    pub async fn put(&self, source: &str, data: Vec<Datum>) -> Result<(), Full> {
        for put in chunks(source, data) {
            self.puts.send(put).await.map_err(|_| Full)?;
        }
        Ok(())
    }

    /// All of it at once, or nothing.
    pub fn try_put(&self, source: &str, data: Vec<Datum>) -> Result<(), Full> {
        let puts: Vec<Put> = chunks(source, data).collect();
        if puts.is_empty() {
            return Ok(());
        }
        let permits = self.puts.try_reserve_many(puts.len()).map_err(|_| Full)?;
        for (permit, put) in permits.zip(puts) {
            permit.send(put);
        }
        Ok(())
    }

    pub fn refuse(&self, source: &str, count: u64, why: &str) {
        let mut refusals = self.refusals();
        refusals.count += count;
        let sentence = format!("{source}: {why}");
        if refusals.may_tell(Instant::now()) {
            tracing::warn!("metrics were refused: {sentence}");
        }
        refusals.last = Some(sentence);
    }

    /// How many, and why the last.
    pub fn refused(&self) -> (u64, Option<String>) {
        let refusals = self.refusals();
        (refusals.count, refusals.last.clone())
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refusals {
    fn may_tell(&mut self, now: Instant) -> bool {
        let is_new = self.minute.is_none_or(|minute| now.duration_since(minute) >= Duration::from_secs(60));
        if is_new {
            (self.minute, self.told) = (Some(now), 0);
        }
        self.told += 1;
        self.told <= TOLD_PER_MINUTE
    }
}

fn chunks(source: &str, data: Vec<Datum>) -> impl Iterator<Item = Put> {
    let mut data = data.into_iter();
    std::iter::from_fn(move || {
        let chunk: Vec<Datum> = data.by_ref().take(DATA_MAX).collect();
        (!chunk.is_empty()).then(|| Put { source: source.to_owned(), data: chunk })
    })
}

/// A text as a sentence repeats it: cut, and without control characters.
fn shown(text: &str) -> String {
    cut(text, SHOWN_CHARACTERS)
}

/// A parser's error as a sentence repeats it.
fn said(error: &impl std::fmt::Display) -> String {
    cut(&error.to_string(), SAID_CHARACTERS)
}

fn cut(text: &str, characters: usize) -> String {
    let mut cut: String = text.chars().take(characters).map(|c| if c.is_control() { '�' } else { c }).collect();
    if text.chars().nth(characters).is_some() {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use ukai_core::metric::{Dimensions, Namespace, Unit};

    use super::*;

    fn data(count: usize) -> Vec<Datum> {
        let namespace = Namespace::new("N").unwrap();
        let one =
            Datum::single(&namespace, "m", Dimensions::default(), Timestamp::UNIX_EPOCH, 1.0, Unit::None).unwrap();
        vec![one; count]
    }

    #[test]
    fn all_of_a_request_or_nothing() {
        let (intake, mut puts) = Intake::with_room(2);
        assert_eq!(intake.try_put("a", data(2 * DATA_MAX + 1)), Err(Full));
        assert!(puts.try_recv().is_err());
        assert_eq!(intake.try_put("a", data(DATA_MAX + 1)), Ok(()));
        assert_eq!(puts.try_recv().unwrap().data.len(), DATA_MAX);
        assert_eq!(puts.try_recv().unwrap().data.len(), 1);
        drop(puts);
        assert_eq!(intake.try_put("a", data(1)), Err(Full));
    }

    #[test]
    fn refusals_are_all_counted_and_told_within_a_bound() {
        let mut refusals = Refusals::default();
        let start = Instant::now();
        let told = (0..100).filter(|_| refusals.may_tell(start)).count();
        assert_eq!(told, TOLD_PER_MINUTE as usize);
        assert!(refusals.may_tell(start + Duration::from_secs(60)));
        let (intake, _puts) = Intake::new();
        intake.refuse("file", 2, "first");
        intake.refuse("file", 1, "second");
        assert_eq!(intake.refused(), (3, Some("file: second".to_owned())));
    }
}
