//! How many requests are taken.

use std::time::Instant;

/// Requests a second on average, and at once: far above one application, far below what would slow the engine.
pub const RATE_PER_SECOND: u32 = 200;
pub const RATE_BURST: u32 = 400;

/// A token bucket over requests of all connections.
#[derive(Debug)]
pub struct Rate {
    tokens: f64,
    at: Instant,
}

impl Rate {
    pub fn full(at: Instant) -> Rate {
        Rate { tokens: f64::from(RATE_BURST), at }
    }

    pub fn take(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * f64::from(RATE_PER_SECOND);
        self.tokens = (self.tokens + gained).min(f64::from(RATE_BURST));
        self.at = now;
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}
