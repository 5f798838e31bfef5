//! Counters of the running server.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[derive(Default)]
pub(crate) struct Counters {
    pub queries: AtomicU64,
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    pub overridden: AtomicU64,
    pub special: AtomicU64,
    pub refused: AtomicU64,
    pub malformed: AtomicU64,
    pub dropped: AtomicU64,
    pub upstream_failures: AtomicU64,
    pub unanswered: AtomicU64,
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
    /// Not answered because too much was under way.
    pub dropped: u64,
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
    pub fn snapshot(&self, cache_entries: usize, overrides: Vec<OverrideUse>) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            queries: read(&self.queries),
            hits: read(&self.hits),
            misses: read(&self.misses),
            overridden: read(&self.overridden),
            special: read(&self.special),
            refused: read(&self.refused),
            malformed: read(&self.malformed),
            dropped: read(&self.dropped),
            upstream_failures: read(&self.upstream_failures),
            unanswered: read(&self.unanswered),
            cache_entries,
            overrides,
        }
    }
}
