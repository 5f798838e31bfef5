//! What is served instead of the world: one prepared answer per family for each overridden name.
//!
//! A [`Zone`] never changes. A new one is built beside it and put in its place, so each query sees the old or the new.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use jiff::Timestamp;

use super::clock::Moment;
use super::query::Response;
use super::store::Lease;
use crate::name::Name;
use crate::types::{ExtendedError, Rcode, RecordType};
use crate::wire::{QUESTION_POINTER, push_record, push_soa};

/// How long a client may remember that a family is absent: it must forget soon after the override ends.
const NEGATIVE_TTL: u32 = 5;

#[derive(Default)]
pub(crate) struct Zone {
    entries: BTreeMap<Name, Entry>,
}

struct Entry {
    lease: Lease,
    a: Prepared,
    aaaa: Prepared,
    absent: Prepared,
    errors: [ExtendedError; 1],
    asked: Arc<Asked>,
}

/// The sections of an answer in wire format.
struct Prepared {
    answers: u16,
    authority: u16,
    body: Vec<u8>,
}

/// How often an override was asked for, and when last. For display: it says nothing about which application asked.
#[derive(Default)]
pub(crate) struct Asked {
    count: AtomicU64,
    last_ms: AtomicI64,
}

impl Asked {
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub fn last(&self) -> Option<Timestamp> {
        match self.last_ms.load(Ordering::Relaxed) {
            0 => None,
            ms => Timestamp::from_millisecond(ms).ok(),
        }
    }

    fn record(&self, now: Moment) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.last_ms.store(now.wall_ms(), Ordering::Relaxed);
    }
}

impl Zone {
    /// Counters are taken over from the zone before.
    pub fn build(leases: &[Lease], before: &Self) -> Self {
        let asked = |lease: &Lease| {
            let same = before.entries.values().find(|entry| entry.lease.record.id == lease.record.id);
            same.map(|entry| Arc::clone(&entry.asked)).unwrap_or_default()
        };
        let entries = leases.iter().map(|lease| (lease.record.name.clone(), Entry::new(lease, asked(lease)))).collect();
        Self { entries }
    }

    /// The answer, if the name and type are overridden: A and AAAA as given, and no HTTPS or SVCB, whose address hints
    /// would lead around the override. Every other type, and every name below, is the world's.
    pub fn answer(&self, name: &Name, qtype: RecordType) -> Option<Response<'_>> {
        let entry = self.entries.get(name)?;
        let prepared = match qtype {
            RecordType::A => &entry.a,
            RecordType::AAAA => &entry.aaaa,
            RecordType::HTTPS | RecordType::SVCB => &entry.absent,
            _ => return None,
        };
        let now = Moment::now();
        // The lease is enforced here as well: nothing is served late because a timer was.
        if entry.lease.is_over(now) {
            return None;
        }
        entry.asked.record(now);
        Some(Response {
            rcode: Rcode::NOERROR,
            authoritative: true,
            authentic: false,
            answers: prepared.answers,
            authority: prepared.authority,
            body: &prepared.body,
            errors: &entry.errors,
        })
    }

    pub fn holds(&self, name: &Name) -> bool {
        self.entries.contains_key(name)
    }

    pub fn usage(&self) -> impl Iterator<Item = (&str, &Asked)> {
        self.entries.values().map(|entry| (entry.lease.record.id.as_str(), entry.asked.as_ref()))
    }
}

impl Entry {
    fn new(lease: &Lease, asked: Arc<Asked>) -> Self {
        let record = &lease.record;
        let absent = || Prepared::absent(record.generation);
        let family = |rtype, data: Vec<Vec<u8>>| match data.is_empty() {
            true => absent(),
            false => Prepared::present(rtype, record.ttl, &data),
        };
        let text = format!("ukai override {} incident {} until {}", record.id, record.incident, record.expires_at);
        Self {
            a: family(RecordType::A, record.a.iter().map(|address| address.octets().to_vec()).collect()),
            aaaa: family(RecordType::AAAA, record.aaaa.iter().map(|address| address.octets().to_vec()).collect()),
            absent: absent(),
            errors: [ExtendedError::new(ExtendedError::FORGED_ANSWER, text)],
            lease: lease.clone(),
            asked,
        }
    }
}

impl Prepared {
    fn present(rtype: RecordType, ttl: u32, data: &[Vec<u8>]) -> Self {
        let mut body = Vec::new();
        for rdata in data {
            push_record(&mut body, QUESTION_POINTER, rtype, ttl, rdata);
        }
        Self { answers: u16::try_from(data.len()).unwrap_or(0), authority: 0, body }
    }

    fn absent(generation: u64) -> Self {
        let mut body = Vec::new();
        push_soa(&mut body, QUESTION_POINTER, generation as u32, NEGATIVE_TTL);
        Self { answers: 0, authority: 1, body }
    }
}
