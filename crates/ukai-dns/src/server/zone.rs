//! What is served instead of the world: one prepared answer per family for each overridden name.
//!
//! A [`Layer`] never changes. A new one is built beside it and put in its place, so each query sees the old or the new.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};
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
    /// The name in wire format, then the bodies of the answers: A, AAAA, and that there is nothing. In one piece, because each
    /// piece is one more wait for the memory.
    octets: Box<[u8]>,
    /// Where the name ends, and the bodies of A and AAAA.
    ends: [u16; 3],
    /// Records of A and of AAAA; a family without any is answered by the last body.
    counts: [u16; 2],
    /// None for what a file gives.
    leased: Option<Box<Leased>>,
    options: Arc<[u8]>,
}

struct Leased {
    lease: Lease,
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
            .filter(move |entry| self.leases.entry(entry.name(), entry.hash).is_none_or(|lease| !lease.stands(now)));
        leases.chain(of_file).flat_map(Entry::records)
    }

    /// Of the leases.
    pub fn usage(&self) -> impl Iterator<Item = (&str, &Asked)> {
        self.leases
            .entries
            .iter()
            .filter_map(|entry| entry.leased.as_deref())
            .map(|leased| (leased.lease.record.id.as_str(), leased.asked.as_ref()))
    }
}

impl Layer {
    /// Counters are taken over from the layer before.
    pub fn of_leases(leases: &[Lease], before: &Self, hashing: &Hashing) -> Self {
        let asked = |lease: &Lease| {
            let mut before = before.entries.iter().filter_map(|entry| entry.leased.as_deref());
            let same = before.find(|old| old.lease.record.id == lease.record.id);
            same.map(|old| Arc::clone(&old.asked)).unwrap_or_default()
        };
        Self::of(leases.iter().map(|lease| Entry::of_lease(lease, asked(lease), hashing)))
    }

    pub fn of_file(overrides: &[FileOverride], hashing: &Hashing) -> Self {
        let options: Arc<[u8]> = told("ukai override from a file".to_owned());
        Self::of(overrides.iter().map(|given| Entry::of_file(given, &options, hashing)))
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
            let is_new = |entry: &&Entry| other.entry(entry.name(), entry.hash).is_none();
            one.entries.iter().filter(is_new).map(|entry| entry.name().into()).collect()
        };
        only_in(self, other).into_iter().chain(only_in(other, self)).collect()
    }

    /// The same names with the same records.
    pub fn gives_the_same_as(&self, other: &Self) -> bool {
        let is_there =
            |entry: &Entry| other.entry(entry.name(), entry.hash).is_some_and(|before| before.octets == entry.octets);
        self.entries.len() == other.entries.len() && self.entries.iter().all(is_there)
    }

    fn entry(&self, name: &[u8], hash: u64) -> Option<&Entry> {
        self.entries.find(hash, |entry| entry.hash == hash && entry.name() == name)
    }

    fn standing(&self, now: Moment) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(move |entry| entry.stands(now))
    }

    fn answer(&self, name: &[u8], hash: u64, qtype: RecordType, now: Moment) -> Option<Response<'_>> {
        let entry = self.entry(name, hash)?;
        let (answers, body) = match qtype {
            RecordType::A => entry.family(0),
            RecordType::AAAA => entry.family(1),
            RecordType::HTTPS | RecordType::SVCB => (0, entry.absent()),
            _ => return None,
        };
        // The lease is enforced here as well: nothing is served late because a timer was.
        if !entry.stands(now) {
            return None;
        }
        if let Some(leased) = &entry.leased {
            leased.asked.record(now);
        }
        Some(Response {
            rcode: Rcode::NOERROR,
            authoritative: true,
            authentic: false,
            answers,
            authority: u16::from(answers == 0),
            body,
            options: &entry.options,
            ttl: Ttl::AsWritten,
        })
    }
}

impl Entry {
    fn name(&self) -> &[u8] {
        self.piece(0, self.ends[0])
    }

    /// Of the records of one family, how many there are and what they are; none and the absence if there are none.
    fn family(&self, family: usize) -> (u16, &[u8]) {
        match self.counts[family] {
            0 => (0, self.absent()),
            count => (count, self.piece(self.ends[family], self.ends[family + 1])),
        }
    }

    fn absent(&self) -> &[u8] {
        self.octets.get(usize::from(self.ends[2])..).unwrap_or_default()
    }

    fn piece(&self, from: u16, to: u16) -> &[u8] {
        self.octets.get(usize::from(from)..usize::from(to)).unwrap_or_default()
    }

    fn stands(&self, now: Moment) -> bool {
        !self.leased.as_ref().is_some_and(|leased| leased.lease.is_over(now))
    }

    fn records(&self) -> impl Iterator<Item = Given<'_>> {
        let of = |family, rtype| {
            let (count, body) = self.family(family);
            records(count, body).map(move |(ttl, rdata)| Given { name: self.name(), rtype, ttl, rdata })
        };
        of(0, RecordType::A).chain(of(1, RecordType::AAAA))
    }

    fn of_lease(lease: &Lease, asked: Arc<Asked>, hashing: &Hashing) -> Self {
        let record = &lease.record;
        let text = format!("ukai override {} incident {} until {}", record.id, record.incident, record.expires_at);
        let addresses = Addresses { a: &record.a, aaaa: &record.aaaa, ttl: record.ttl, serial: record.generation };
        let leased = Some(Box::new(Leased { lease: lease.clone(), asked }));
        Self { leased, ..Self::new(&record.name, &addresses, told(text), hashing) }
    }

    fn of_file(given: &FileOverride, options: &Arc<[u8]>, hashing: &Hashing) -> Self {
        let addresses = Addresses { a: &given.a, aaaa: &given.aaaa, ttl: given.ttl, serial: 1 };
        Self::new(&given.name, &addresses, Arc::clone(options), hashing)
    }

    fn new(name: &Name, addresses: &Addresses<'_>, options: Arc<[u8]>, hashing: &Hashing) -> Self {
        let mut octets = name.as_wire().to_vec();
        // A name, and 64 addresses at most.
        let end = |octets: &[u8]| u16::try_from(octets.len()).unwrap_or(u16::MAX);
        let mut ends = [end(&octets); 3];
        for address in addresses.a {
            push_record(&mut octets, QUESTION_POINTER, RecordType::A, addresses.ttl, &address.octets());
        }
        ends[1] = end(&octets);
        for address in addresses.aaaa {
            push_record(&mut octets, QUESTION_POINTER, RecordType::AAAA, addresses.ttl, &address.octets());
        }
        ends[2] = end(&octets);
        push_soa(&mut octets, QUESTION_POINTER, addresses.serial as u32, NEGATIVE_TTL);
        let count = |count: usize| u16::try_from(count).unwrap_or(0);
        Self {
            hash: hashing.of(name.as_wire()),
            octets: octets.into(),
            ends,
            counts: [count(addresses.a.len()), count(addresses.aaaa.len())],
            leased: None,
            options,
        }
    }
}

/// The option that says by whom a client is led elsewhere.
fn told(text: String) -> Arc<[u8]> {
    error_options(&[ExtendedError::new(ExtendedError::FORGED_ANSWER, text)]).into()
}

/// The times to live and the data of the first `count` records of a body, whose owners are pointers.
fn records(count: u16, body: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    let mut rest = body;
    (0..count).map_while(move |_| {
        // Pointer, type, class, time to live, length.
        let (fixed, after) = rest.split_first_chunk::<12>()?;
        let len = usize::from(u16::from_be_bytes([fixed[10], fixed[11]]));
        let (rdata, after) = after.split_at_checked(len)?;
        rest = after;
        Some((u32::from_be_bytes([fixed[6], fixed[7], fixed[8], fixed[9]]), rdata))
    })
}

struct Addresses<'a> {
    a: &'a [Ipv4Addr],
    aaaa: &'a [Ipv6Addr],
    ttl: u32,
    serial: u64,
}
