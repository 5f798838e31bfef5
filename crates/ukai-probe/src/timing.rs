//! How long a stage may take, and how long it took.

use std::time::{Duration, Instant};

/// A handshake over any real path takes under a second; three allow two lost SYNs (RFC 6298: 1 s, then 2 s).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Two round trips and a signature, and one retransmission of each.
pub const TLS_TIMEOUT: Duration = Duration::from_secs(3);
/// The first byte of an answer; beyond this an application's own time-outs have usually fired.
pub const PROCESSING_TIMEOUT: Duration = Duration::from_secs(5);
/// The whole body, of which at most 1 MiB is read.
pub const TRANSFER_TIMEOUT: Duration = Duration::from_secs(5);

/// One time-out per stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    pub connect: Duration,
    pub tls: Duration,
    pub processing: Duration,
    pub transfer: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: CONNECT_TIMEOUT, tls: TLS_TIMEOUT, processing: PROCESSING_TIMEOUT, transfer: TRANSFER_TIMEOUT }
    }
}

/// A duration as a person reads it: `340 µs`, `12 ms`, `3 s`, `1.5 s`.
pub fn human(duration: Duration) -> String {
    let micros = duration.as_micros();
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{} ms", micros / 1_000),
        _ if micros.is_multiple_of(1_000_000) => format!("{} s", micros / 1_000_000),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

/// [`human`] for the microseconds of an observation.
pub(crate) fn human_us(micros: u64) -> String {
    human(Duration::from_micros(micros))
}

pub(crate) fn elapsed_us(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        for (micros, text) in
            [(340, "340 µs"), (12_900, "12 ms"), (999_999, "999 ms"), (3_000_000, "3 s"), (1_540_000, "1.5 s")]
        {
            assert_eq!(human_us(micros), text);
        }
    }
}
