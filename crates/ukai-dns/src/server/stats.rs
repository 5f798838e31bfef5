//! Counters of the running server.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What is counted.
#[derive(Clone, Copy)]
pub(crate) enum Count {
    Queries,
    Hits,
    Misses,
    Overridden,
    Special,
    Refused,
    Malformed,
    Limited,
    Dropped,
    Prefetched,
    Stale,
    UpstreamFailures,
    Unanswered,
}

const COUNTS: usize = Count::Unanswered as usize + 1;

/// What all threads counted together.
#[derive(Default)]
pub(crate) struct Counters([AtomicU64; COUNTS]);

/// What one thread counts, for itself until it has a moment.
#[derive(Default)]
pub(crate) struct Tally([u64; COUNTS]);

impl Tally {
    pub fn add(&mut self, count: Count) {
        self.0[count as usize] += 1;
    }
}

/// Totals since the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    pub queries: u64,
    /// Answered from the cache.
    pub hits: u64,
    /// Asked upstream.
    pub misses: u64,
    /// Answered from an override.
    pub overridden: u64,
    /// Special-use names answered here.
    pub special: u64,
    pub refused: u64,
    pub malformed: u64,
    /// Over the rate limit: not answered, or told to ask over TCP.
    #[serde(default)]
    pub limited: u64,
    /// Not answered because too much was under way.
    pub dropped: u64,
    /// Fetched anew before they ended.
    #[serde(default)]
    pub prefetched: u64,
    /// Answered with what was over, because nothing newer could be had.
    #[serde(default)]
    pub stale: u64,
    /// Attempts at one upstream that brought no usable reply.
    pub upstream_failures: u64,
    /// Queries for which no upstream had a usable reply.
    pub unanswered: u64,
    pub cache_entries: usize,
    pub overrides: Vec<OverrideUse>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverrideUse {
    pub id: String,
    pub answers: u64,
    /// For display only: a query at this server is no sign that the application is well.
    pub last_asked: Option<Timestamp>,
}

impl Counters {
    pub fn add(&self, count: Count) {
        self.0[count as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The tally is empty afterwards.
    pub fn take(&self, tally: &mut Tally) {
        for (total, counted) in self.0.iter().zip(&mut tally.0) {
            if *counted > 0 {
                total.fetch_add(std::mem::take(counted), Ordering::Relaxed);
            }
        }
    }

    pub fn snapshot(&self, cache_entries: usize, overrides: Vec<OverrideUse>) -> Stats {
        let read = |count: Count| self.0[count as usize].load(Ordering::Relaxed);
        Stats {
            queries: read(Count::Queries),
            hits: read(Count::Hits),
            misses: read(Count::Misses),
            overridden: read(Count::Overridden),
            special: read(Count::Special),
            refused: read(Count::Refused),
            malformed: read(Count::Malformed),
            limited: read(Count::Limited),
            dropped: read(Count::Dropped),
            prefetched: read(Count::Prefetched),
            stale: read(Count::Stale),
            upstream_failures: read(Count::UpstreamFailures),
            unanswered: read(Count::Unanswered),
            cache_entries,
            overrides,
        }
    }
}
