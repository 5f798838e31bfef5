//! The two clocks that a lease is measured by.
//!
//! The wall clock can be set back (and then a lease would last longer), the monotonic clock does not survive a restart (and
//! then a lease would start again). So a lease ends when *either* says so, and the highest wall time ever seen is stored:
//! a start with an earlier clock counts from there.

use std::time::{Duration, Instant};

use jiff::Timestamp;

/// One instant, on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub wall: Timestamp,
    pub monotonic: Instant,
}

impl Moment {
    pub fn now() -> Self {
        Self { wall: Timestamp::now(), monotonic: Instant::now() }
    }

    pub fn wall_ms(self) -> i64 {
        self.wall.as_millisecond()
    }
}

/// A wall clock that never goes back: the stored highest time, advanced by the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeaseClock {
    base_ms: i64,
    base: Instant,
}

impl LeaseClock {
    /// `highest_wall_ms` is what was stored.
    pub fn resume(highest_wall_ms: i64, now: Moment) -> Self {
        Self { base_ms: highest_wall_ms.max(now.wall_ms()), base: now.monotonic }
    }

    /// Never earlier than the wall clock, and never earlier than any result before.
    pub fn read_ms(self, now: Moment) -> i64 {
        let elapsed = now.monotonic.saturating_duration_since(self.base);
        let elapsed_ms = i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX);
        self.base_ms.saturating_add(elapsed_ms).max(now.wall_ms())
    }
}

/// From one wall time in milliseconds until a time stamp; `None` when it has passed.
pub(crate) fn until(from_ms: i64, end: Timestamp) -> Option<Duration> {
    let remaining = end.as_millisecond().saturating_sub(from_ms);
    u64::try_from(remaining).ok().filter(|remaining| *remaining > 0).map(Duration::from_millis)
}
