//! Answers that may be given again: the sections of an upstream's reply, their times to live counting down.
//!
//! In shards, each with a lock of its own, so that threads seldom meet; each shard in two halves: what is used moves to the
//! young half; when that is full the old half is forgotten.

mod read;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::flight::Flight;
use super::key::{ALL_TYPES, Kept, Key};
use super::query::{Response, error_options};
use crate::types::{ExtendedError, Rcode};
use crate::wire::Ttl;

pub(crate) use read::Unusable;

/// A day: RFC 8767 section 4 recommends days as the cap, and a longer life only delays what we watch for.
const MAX_TTL: u32 = 86_400;
/// RFC 2308 section 5 advises one to three hours.
const MAX_NEGATIVE_TTL: u32 = 3_600;
/// RFC 9520 section 3.2: at least one second, at most five minutes; short, because failures are what people wait to see the end of.
pub(crate) const FAILURE_LIFETIME: Duration = Duration::from_secs(5);
/// How long after its end an answer may stand in for one that cannot be had (RFC 8767 section 5 suggests one to three days):
/// an outage of a resolver is over, or somebody has acted, long before.
const STALE_MAX: Duration = Duration::from_secs(86_400);
/// The time to live of such an answer (RFC 8767 section 4).
const STALE_TTL: u32 = 30;
/// When less than this part of its life is left, an answer that is asked for is fetched anew.
const PREFETCH_PART: u32 = 10;
/// … unless it lives so short that every query would be one upstream.
const PREFETCH_LIFETIME_MIN: u32 = 10;
/// A power of two; so many that a few threads seldom want the same.
const SHARDS: usize = 64;

/// Most answers have one record or two and fit; longer ones are on the heap.
type Octets = SmallVec<[u8; 96]>;

/// One answer, as it came or as it was made up for a failure.
#[derive(Debug)]
pub(crate) struct Answer {
    pub rcode: Rcode,
    authentic: bool,
    answers: u16,
    authority: u16,
    /// The key it is found under, the sections, and EDNS options for clients that have EDNS: in one piece, because each
    /// piece is one more wait for the memory.
    octets: Octets,
    body: u16,
    options: u16,
    stored: Instant,
    /// Seconds.
    lifetime: u32,
    /// When it could not be fetched anew after its end: so many seconds after it was stored, or 0.
    failed: AtomicU32,
}

impl Answer {
    /// SERVFAIL, with the reason, remembered for a short while.
    pub fn failure(key: Kept<'_>, errors: &[ExtendedError], lifetime: Duration, now: Instant) -> Self {
        let options = error_options(errors);
        Self {
            rcode: Rcode::SERVFAIL,
            authentic: false,
            answers: 0,
            authority: 0,
            body: piece(key.0.len()),
            options: piece(key.0.len()),
            octets: join(&[key.0, &options]),
            stored: now,
            lifetime: u32::try_from(lifetime.as_secs()).unwrap_or(0),
            failed: AtomicU32::new(0),
        }
    }

    fn key(&self) -> &[u8] {
        self.octets.get(..usize::from(self.body)).unwrap_or_default()
    }

    fn body(&self) -> &[u8] {
        self.octets.get(usize::from(self.body)..usize::from(self.options)).unwrap_or_default()
    }

    fn options(&self) -> &[u8] {
        self.octets.get(usize::from(self.options)..).unwrap_or_default()
    }

    /// As it is at `now`, with no time to live above `cap`.
    pub fn response(&self, now: Instant, cap: u32) -> Response<'_> {
        let by = u32::try_from(self.age(now).as_secs()).unwrap_or(u32::MAX);
        Response {
            rcode: self.rcode,
            authoritative: false,
            authentic: self.authentic,
            answers: self.answers,
            authority: self.authority,
            body: self.body(),
            options: self.options(),
            ttl: Ttl::Aged { by, cap },
        }
    }

    /// In the place of one that cannot be had. What it was validated by may have ended with it.
    pub fn stale_response(&self) -> Response<'_> {
        let options = match self.rcode {
            Rcode::NXDOMAIN => STALE_NXDOMAIN_OPTION,
            _ => STALE_OPTION,
        };
        Response { authentic: false, options, ttl: Ttl::All(STALE_TTL), ..self.response(self.stored, u32::MAX) }
    }

    /// A failure given again says so (RFC 8914 section 4.14).
    pub fn options_when_cached(&self) -> Vec<u8> {
        [self.options(), CACHED_ERROR_OPTION].concat()
    }

    fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.stored)
    }

    pub fn is_older_than(&self, seconds: u32, now: Instant) -> bool {
        self.age(now) >= Duration::from_secs(seconds.into())
    }

    fn is_fresh(&self, now: Instant) -> bool {
        !self.is_older_than(self.lifetime, now)
    }

    fn may_be_given_stale(&self, now: Instant) -> bool {
        self.rcode != Rcode::SERVFAIL
            && !self.is_older_than(self.lifetime.saturating_add(STALE_MAX.as_secs() as u32), now)
    }

    fn is_failing(&self, now: Instant) -> bool {
        let failed = self.failed.load(Ordering::Relaxed);
        let until = Duration::from_secs(failed.into()) + FAILURE_LIFETIME;
        failed > 0 && self.age(now) < until
    }

    fn wants_prefetch(&self, now: Instant) -> bool {
        let left = Duration::from_secs(self.lifetime.into()).saturating_sub(self.age(now));
        self.lifetime >= PREFETCH_LIFETIME_MIN
            && self.rcode != Rcode::SERVFAIL
            && left < Duration::from_secs((self.lifetime / PREFETCH_PART).into())
    }
}

/// One option each: code 15, length 2, the error.
const CACHED_ERROR_OPTION: &[u8] = &[0, 15, 0, 2, 0, ExtendedError::CACHED_ERROR as u8];
const STALE_OPTION: &[u8] = &[0, 15, 0, 2, 0, ExtendedError::STALE_ANSWER as u8];
const STALE_NXDOMAIN_OPTION: &[u8] = &[0, 15, 0, 2, 0, ExtendedError::STALE_NXDOMAIN as u8];

/// What the cache has for a question.
pub(crate) enum Found<'a> {
    Fresh {
        answer: &'a Answer,
        prefetch: bool,
    },
    /// It is over, but the attempt to fetch it anew failed a moment ago.
    Stale(&'a Answer),
    Nothing,
}

pub(crate) struct Cache {
    shards: Box<[Mutex<Shard>]>,
}

#[derive(Default)]
pub(crate) struct Shard {
    young: HashTable<Entry>,
    old: HashTable<Entry>,
    young_octets: usize,
    max_entries: usize,
    max_octets: usize,
    /// Questions that are being asked upstream, which others may join.
    pub flights: HashTable<Arc<Flight>>,
}

struct Entry {
    hash: u64,
    answer: Arc<Answer>,
}

fn join(pieces: &[&[u8]]) -> Octets {
    let mut octets = Octets::with_capacity(pieces.iter().map(|piece| piece.len()).sum());
    pieces.iter().for_each(|piece| octets.extend_from_slice(piece));
    octets
}

/// Where a piece of an answer begins; the longest message and key together are a little longer than this can say.
fn piece(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}

/// Where answers may be found under `key`: its own type, or the one that stands for all.
fn answers_for(kept: &[u8], key: &[u8]) -> bool {
    kept.len() == key.len() && kept[2..] == key[2..] && (kept[..2] == key[..2] || Kept(kept).qtype() == ALL_TYPES)
}

impl Cache {
    /// Bounded by both: `entries`, and `octets` over all, keys and overhead included.
    pub fn new(entries: usize, octets: usize) -> Self {
        let shard = || Shard {
            // Half of them in each half, one at least.
            max_entries: (entries / SHARDS / 2).max(1),
            max_octets: octets / SHARDS / 2,
            ..Shard::default()
        };
        Self { shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect() }
    }

    pub fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // The table takes its bits from both ends; these are in the middle.
        lock(&self.shards[(hash >> 32) as usize % SHARDS])
    }

    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Forgets what is known of names (wire format, lower case), be it the one asked for or one on the way. Questions that are
    /// under way are answered, and what comes back is not kept.
    pub fn forget(&self, is_changed: impl Fn(&[u8]) -> bool) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.flights.clear();
            shard.retain(|entry| {
                let key = Kept(entry.answer.key());
                let records = usize::from(entry.answer.answers) + usize::from(entry.answer.authority);
                !is_changed(key.name()) && !read::mentions(key, entry.answer.body(), records, &is_changed)
            });
        }
    }

    pub fn clear(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.flights.clear();
            shard.retain(|_| false);
        }
    }
}

impl Shard {
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    pub fn find(&mut self, key: &Key, hash: u64, now: Instant) -> Found<'_> {
        let Some(entry) = self.entry(key.octets(), hash) else { return Found::Nothing };
        if entry.answer.is_fresh(now) {
            return Found::Fresh { prefetch: entry.answer.wants_prefetch(now), answer: &entry.answer };
        }
        match entry.answer.is_failing(now) && entry.answer.may_be_given_stale(now) {
            true => Found::Stale(&entry.answer),
            false => Found::Nothing,
        }
    }

    pub fn insert(&mut self, hash: u64, answer: Arc<Answer>) {
        if answer.lifetime == 0 {
            return;
        }
        let key = answer.key();
        // What it contradicts goes, be it older or of one type.
        while self.remove(hash, |kept| answers_for(kept, key) || answers_for(key, kept)).is_some() {}
        self.keep(Entry { hash, answer });
    }

    /// It could not be fetched anew: whatever is left of it may be given, for a while.
    pub fn failed(&mut self, key: &[u8], hash: u64, now: Instant) -> Option<Arc<Answer>> {
        let entry = self.entry(key, hash).filter(|entry| entry.answer.may_be_given_stale(now))?;
        let after = u32::try_from(entry.answer.age(now).as_secs()).unwrap_or(u32::MAX);
        entry.answer.failed.store(after.max(1), Ordering::Relaxed);
        Some(Arc::clone(&entry.answer))
    }

    /// What is used moves to the young half.
    fn entry(&mut self, key: &[u8], hash: u64) -> Option<&Entry> {
        if !self.old.is_empty()
            && let Ok(found) = self.old.find_entry(hash, |entry| entry.is_at(hash, key))
        {
            let (entry, _) = found.remove();
            self.keep(entry);
        }
        self.young.find(hash, |entry| entry.is_at(hash, key))
    }

    fn remove(&mut self, hash: u64, is_it: impl Fn(&[u8]) -> bool) -> Option<()> {
        if let Ok(found) = self.young.find_entry(hash, |entry| is_it(entry.answer.key())) {
            let (entry, _) = found.remove();
            self.young_octets -= entry.octets();
            return Some(());
        }
        let found = self.old.find_entry(hash, |entry| is_it(entry.answer.key())).ok()?;
        found.remove();
        Some(())
    }

    fn keep(&mut self, entry: Entry) {
        let octets = entry.octets();
        if self.young.len() >= self.max_entries || self.young_octets + octets > self.max_octets {
            self.old = std::mem::take(&mut self.young);
            self.young_octets = 0;
        }
        self.young_octets += octets;
        self.young.insert_unique(entry.hash, entry, |entry| entry.hash);
    }

    fn retain(&mut self, keep: impl Fn(&Entry) -> bool) {
        self.young.retain(|entry| keep(entry));
        self.old.retain(|entry| keep(entry));
        self.young_octets = self.young.iter().map(Entry::octets).sum();
    }
}

impl Entry {
    /// The hash is here, the key somewhere else.
    fn is_at(&self, hash: u64, key: &[u8]) -> bool {
        self.hash == hash && answers_for(self.answer.key(), key)
    }

    fn octets(&self) -> usize {
        // Two slots of a table that is half full, an Arc, and what the allocator adds to each piece.
        const OVERHEAD: usize = 2 * (size_of::<Entry>() + 1) + size_of::<Answer>() + 16 + 16;
        let octets = &self.answer.octets;
        OVERHEAD + if octets.spilled() { octets.capacity() + 16 } else { 0 }
    }
}

/// Nothing panics while holding these locks; if something did, the data is still whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
