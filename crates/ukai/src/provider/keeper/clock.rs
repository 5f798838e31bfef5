//! The two clocks that a lease is measured by.
//!
//! The wall clock can be set back (and then a lease would last longer), the monotonic one does not survive a restart (and then a
//! lease would start again). So the highest wall time that was seen is stored, and while the wall clock is behind it, it goes on
//! by elapsed time.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

/// One instant, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub wall: Timestamp,
    pub monotonic: Instant,
}

impl Moment {
    pub fn now() -> Moment {
        Moment { wall: Timestamp::now(), monotonic: Instant::now() }
    }
}

/// A wall clock that never goes back.
#[derive(Debug, Clone, Copy)]
pub struct LeaseClock {
    base: Timestamp,
    since: Instant,
}

impl LeaseClock {
    /// `highest` is what was stored.
    pub fn resume(highest: Timestamp, now: Moment) -> LeaseClock {
        LeaseClock { base: highest.max(now.wall), since: now.monotonic }
    }

    /// Never earlier than the wall clock, and never earlier than any result before.
    pub fn read(self, now: Moment) -> Timestamp {
        let elapsed = now.monotonic.saturating_duration_since(self.since);
        self.base.checked_add(elapsed).unwrap_or(Timestamp::MAX).max(now.wall)
    }

    /// What the present wall clock calls `at`, by this one.
    pub fn of_wall(self, at: Timestamp, now: Moment) -> Timestamp {
        at.checked_add(self.behind(now)).unwrap_or(Timestamp::MAX)
    }

    /// How far the wall clock is behind.
    pub fn behind(self, now: Moment) -> SignedDuration {
        self.read(now).duration_since(now.wall)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_goes_on_while_the_wall_clock_is_behind() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let begun = Instant::now();
        let moment = |wall, after| Moment { wall: at(wall), monotonic: begun + Duration::from_secs(after) };
        let clock = LeaseClock::resume(at(3000), moment(1000, 0));
        assert_eq!(clock.read(moment(1000, 0)), at(3000));
        assert_eq!(clock.read(moment(1000, 40)), at(3040));
        assert_eq!(clock.of_wall(at(1100), moment(1000, 0)), at(3100));
        assert_eq!(clock.read(moment(5000, 41)), at(5000));
        assert_eq!(LeaseClock::resume(Timestamp::MIN, moment(1000, 0)).of_wall(at(1100), moment(1000, 0)), at(1100));
    }
}
