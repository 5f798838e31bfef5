//! What is served instead of the world: one prepared answer per family for each overridden name.
//!
//! A [`Layer`] never changes. A new one is built beside it and put in its place, so each query sees the old or the new.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use hashbrown::HashTable;
use jiff::Timestamp;

use super::clock::Moment;
use super::file::FileOverride;
use super::key::Hashing;
use super::query::{Response, error_options};
use super::store::Lease;
use crate::name::Name;
use crate::types::{ExtendedError, Rcode, RecordType};
use crate::wire::{QUESTION_POINTER, Ttl, push_record, push_soa};

/// How long a client may remember that a family is absent: it must forget soon after the override ends.
const NEGATIVE_TTL: u32 = 5;

/// Leases first, then what a file gives.
#[derive(Clone, Default)]
pub(crate) struct Zone {
    pub leases: Arc<Layer>,
    pub file: Arc<Layer>,
}

#[derive(Default)]
pub(crate) struct Layer {
    entries: HashTable<Entry>,
}

struct Entry {
    hash: u64,
    /// Wire format.
    name: Box<[u8]>,
    lease: Option<Lease>,
    a: Prepared,
    aaaa: Prepared,
    absent: Prepared,
    options: Box<[u8]>,
    asked: Arc<Asked>,
}

/// One record that is served.
#[derive(Clone, Copy)]
pub(crate) struct Given<'a> {
    /// Wire format, lower case.
    pub name: &'a [u8],
    pub rtype: RecordType,
    pub ttl: u32,
    pub rdata: &'a [u8],
}

/// The sections of an answer in wire format.
struct Prepared {
    answers: u16,
    authority: u16,
    body: Box<[u8]>,
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
    /// The answer, if the name and type are overridden: A and AAAA as given, and no HTTPS or SVCB, whose address hints
    /// would lead around the override. Every other type, and every name below, is the world's.
    /// `name` in wire format and lower case.
    pub fn answer(&self, name: &[u8], hash: u64, qtype: RecordType, now: Moment) -> Option<Response<'_>> {
        self.leases.answer(name, hash, qtype, now).or_else(|| self.file.answer(name, hash, qtype, now))
    }

    pub fn holds(&self, name: &[u8], hash: u64) -> bool {
        self.leases.entry(name, hash).is_some() || self.file.entry(name, hash).is_some()
    }

    /// Every record that is served, as it stands: what a lease and the file both give is the lease's.
    pub fn records(&self, now: Moment) -> impl Iterator<Item = Given<'_>> {
        let leases = self.leases.standing(now);
        let of_file = self
            .file
            .standing(now)
            .filter(move |entry| self.leases.entry(&entry.name, entry.hash).is_none_or(|lease| !lease.stands(now)));
        leases.chain(of_file).flat_map(Entry::records)
    }

    /// Of the leases.
    pub fn usage(&self) -> impl Iterator<Item = (&str, &Asked)> {
        self.leases
            .entries
            .iter()
            .filter_map(|entry| Some((entry.lease.as_ref()?.record.id.as_str(), entry.asked.as_ref())))
    }
}

impl Layer {
    /// Counters are taken over from the layer before.
    pub fn of_leases(leases: &[Lease], before: &Self, hashing: &Hashing) -> Self {
        let asked = |lease: &Lease| {
            let is_same = |entry: &&Entry| entry.lease.as_ref().is_some_and(|old| old.record.id == lease.record.id);
            before.entries.iter().find(is_same).map(|entry| Arc::clone(&entry.asked)).unwrap_or_default()
        };
        Self::of(leases.iter().map(|lease| Entry::of_lease(lease, asked(lease), hashing)))
    }

    pub fn of_file(overrides: &[FileOverride], hashing: &Hashing) -> Self {
        Self::of(overrides.iter().map(|given| Entry::of_file(given, hashing)))
    }

    fn of(given: impl Iterator<Item = Entry>) -> Self {
        let mut entries = HashTable::with_capacity(given.size_hint().0);
        for entry in given {
            entries.insert_unique(entry.hash, entry, |entry: &Entry| entry.hash);
        }
        Self { entries }
    }

    /// Names, in wire format, that one layer has and the other has not.
    pub fn difference(&self, other: &Self) -> HashSet<Box<[u8]>> {
        let only_in = |one: &Self, other: &Self| -> Vec<Box<[u8]>> {
            let is_new = |entry: &&Entry| other.entry(&entry.name, entry.hash).is_none();
            one.entries.iter().filter(is_new).map(|entry| entry.name.clone()).collect()
        };
        only_in(self, other).into_iter().chain(only_in(other, self)).collect()
    }

    fn entry(&self, name: &[u8], hash: u64) -> Option<&Entry> {
        self.entries.find(hash, |entry| *entry.name == *name)
    }

    fn standing(&self, now: Moment) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.stands(now))
    }

    fn answer(&self, name: &[u8], hash: u64, qtype: RecordType, now: Moment) -> Option<Response<'_>> {
        let entry = self.entry(name, hash)?;
        let prepared = match qtype {
            RecordType::A => &entry.a,
            RecordType::AAAA => &entry.aaaa,
            RecordType::HTTPS | RecordType::SVCB => &entry.absent,
            _ => return None,
        };
        // The lease is enforced here as well: nothing is served late because a timer was.
        if !entry.stands(now) {
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
            options: &entry.options,
            ttl: Ttl::AsWritten,
        })
    }
}

impl Entry {
    fn stands(&self, now: Moment) -> bool {
        !self.lease.as_ref().is_some_and(|lease| lease.is_over(now))
    }

    fn records(&self) -> impl Iterator<Item = Given<'_>> {
        let (a, aaaa) = (self.a.records(RecordType::A), self.aaaa.records(RecordType::AAAA));
        a.chain(aaaa).map(|(rtype, ttl, rdata)| Given { name: &self.name, rtype, ttl, rdata })
    }

    fn of_lease(lease: &Lease, asked: Arc<Asked>, hashing: &Hashing) -> Self {
        let record = &lease.record;
        let text = format!("ukai override {} incident {} until {}", record.id, record.incident, record.expires_at);
        let addresses = Addresses {
            a: record.a.iter().map(|address| address.octets().to_vec()).collect(),
            aaaa: record.aaaa.iter().map(|address| address.octets().to_vec()).collect(),
            ttl: record.ttl,
            serial: record.generation,
        };
        Self { lease: Some(lease.clone()), asked, ..Self::new(&record.name, &addresses, text, hashing) }
    }

    fn of_file(given: &FileOverride, hashing: &Hashing) -> Self {
        let addresses = Addresses {
            a: given.a.iter().map(|address| address.octets().to_vec()).collect(),
            aaaa: given.aaaa.iter().map(|address| address.octets().to_vec()).collect(),
            ttl: given.ttl,
            serial: 1,
        };
        Self::new(&given.name, &addresses, "ukai override from a file".to_owned(), hashing)
    }

    fn new(name: &Name, addresses: &Addresses, text: String, hashing: &Hashing) -> Self {
        let absent = || Prepared::absent(addresses.serial);
        let family = |rtype, data: &[Vec<u8>]| match data.is_empty() {
            true => absent(),
            false => Prepared::present(rtype, addresses.ttl, data),
        };
        Self {
            hash: hashing.of(name.as_wire()),
            name: name.as_wire().into(),
            lease: None,
            a: family(RecordType::A, &addresses.a),
            aaaa: family(RecordType::AAAA, &addresses.aaaa),
            absent: absent(),
            options: error_options(&[ExtendedError::new(ExtendedError::FORGED_ANSWER, text)]).into(),
            asked: Arc::default(),
        }
    }
}

struct Addresses {
    a: Vec<Vec<u8>>,
    aaaa: Vec<Vec<u8>>,
    ttl: u32,
    serial: u64,
}

impl Prepared {
    fn present(rtype: RecordType, ttl: u32, data: &[Vec<u8>]) -> Self {
        let mut body = Vec::new();
        for rdata in data {
            push_record(&mut body, QUESTION_POINTER, rtype, ttl, rdata);
        }
        Self { answers: u16::try_from(data.len()).unwrap_or(0), authority: 0, body: body.into() }
    }

    /// Those of the answer section, all of one type.
    fn records(&self, rtype: RecordType) -> impl Iterator<Item = (RecordType, u32, &[u8])> {
        let mut rest: &[u8] = &self.body;
        (0..self.answers).map_while(move |_| {
            // Pointer, type, class, time to live, length.
            let (fixed, after) = rest.split_first_chunk::<12>()?;
            let len = usize::from(u16::from_be_bytes([fixed[10], fixed[11]]));
            let (rdata, after) = after.split_at_checked(len)?;
            rest = after;
            Some((rtype, u32::from_be_bytes([fixed[6], fixed[7], fixed[8], fixed[9]]), rdata))
        })
    }

    fn absent(generation: u64) -> Self {
        let mut body = Vec::new();
        push_soa(&mut body, QUESTION_POINTER, generation as u32, NEGATIVE_TTL);
        Self { answers: 0, authority: 1, body: body.into() }
    }
}
