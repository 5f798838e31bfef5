//! What is asked, for a person who looks for something: off until asked for, a sample, and for a while only.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};

use super::clock::Moment;
use super::key::Key;
use crate::name::Name;
use crate::types::RecordType;

/// Nobody forgets it for longer.
pub const MAX_LOG_SECONDS: u32 = 3_600;

#[derive(Default)]
pub(crate) struct QueryLog {
    /// Milliseconds since 1970.
    until: AtomicI64,
    every: AtomicU32,
    seen: AtomicU32,
    with_clients: AtomicBool,
}

impl QueryLog {
    pub fn start(&self, seconds: u32, every: u32, with_clients: bool, now: Moment) {
        self.every.store(every.max(1), Ordering::Relaxed);
        self.with_clients.store(with_clients, Ordering::Relaxed);
        let until = now.wall_ms() + i64::from(seconds.min(MAX_LOG_SECONDS)) * 1_000;
        self.until.store(until, Ordering::Relaxed);
    }

    pub fn note(&self, key: &Key, qtype: RecordType, client: IpAddr, now: Moment) {
        let until = self.until.load(Ordering::Relaxed);
        if until == 0 || now.wall_ms() >= until {
            return;
        }
        if !self.seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(self.every.load(Ordering::Relaxed).max(1)) {
            return;
        }
        let name = Name::from_wire_bytes(key.name()).map(|name| name.to_string()).unwrap_or_default();
        match self.with_clients.load(Ordering::Relaxed) {
            true => {
                tracing::info!(dns.question.name = name, dns.question.r#type = %qtype, client.address = %client, "asked")
            }
            false => tracing::info!(dns.question.name = name, dns.question.r#type = %qtype, "asked"),
        }
    }
}
