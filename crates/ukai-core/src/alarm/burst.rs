//! The burst alarm: a first failure, confirmed by a few probes in quick succession.

use jiff::Timestamp;

use crate::observe::Observation;

/// Probes that must agree with the first failure before it counts.
pub const BURST_PROBES: usize = 3;
/// Between their starts: long enough to outlive one lost packet, short enough to page in seconds.
pub const BURST_SPACING_MS: i64 = 200;

/// A failure that is being confirmed.
#[derive(Debug, Clone)]
pub struct Burst {
    pub started_at: Timestamp,
    pub failing_since: Timestamp,
    /// The failure that started it, then the confirmations as they come.
    pub seen: Vec<Observation>,
    pub asked: usize,
    pub answered: usize,
    pub next_at: Timestamp,
}

/// What a burst has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    Waiting,
    /// Every probe of the burst failed as well.
    Confirmed,
    /// At least one was fine: noise.
    Cleared,
}

impl Burst {
    pub fn started(now: Timestamp, first: Vec<Observation>) -> Burst {
        let failing_since = first.iter().map(|observation| observation.started_at).min().unwrap_or(now);
        Burst { started_at: now, failing_since, seen: first, asked: 0, answered: 0, next_at: now }
    }

    /// Takes one confirmation in: an observation for each endpoint.
    pub fn answered(&mut self, observations: &[Observation]) -> Judgement {
        self.answered += 1;
        if !observations.iter().any(Observation::any_failed) {
            return Judgement::Cleared;
        }
        self.seen.extend(observations.iter().cloned());
        if self.answered >= BURST_PROBES { Judgement::Confirmed } else { Judgement::Waiting }
    }

    pub fn wants_probe(&self, now: Timestamp) -> bool {
        self.asked < BURST_PROBES && now >= self.next_at
    }
}
