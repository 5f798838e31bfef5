//! Answers that may be given again: the sections of an upstream's reply, their times to live counting down.

#![allow(
    clippy::disallowed_types,
    reason = "thousands of names are looked up by hash on the answer path; nothing that is seen depends on their order"
)]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::base::Message;

use super::query::Response;
use crate::message::{Data, Reply};
use crate::name::Name;
use crate::types::{ExtendedError, Rcode, RecordType};
use crate::wire::{HEADER_LEN, u16_at};

/// A day: RFC 8767 section 4 recommends days as the cap, and a longer life only delays what we watch for.
const MAX_TTL: u32 = 86_400;
/// RFC 2308 section 5 advises one to three hours.
const MAX_NEGATIVE_TTL: u32 = 3_600;
/// RFC 9520 section 3.2: at least one second, at most five minutes; short, because failures are what people wait to see the end of.
pub(crate) const FAILURE_LIFETIME: Duration = Duration::from_secs(5);
/// Both halves together hold no more than this, however large the answers are.
const MAX_OCTETS: usize = 64 * 1024 * 1024;

/// What an answer depends on. NXDOMAIN holds for every type and is kept under [`ALL_TYPES`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    pub name: Name,
    pub qtype: RecordType,
    pub dnssec_ok: bool,
    pub checking_disabled: bool,
}

/// Type 0 is reserved and never asked for.
const ALL_TYPES: RecordType = RecordType(0);

/// One answer, as it came or as it was made up for a failure.
#[derive(Debug)]
pub(crate) struct Answer {
    pub rcode: Rcode,
    authentic: bool,
    answers: u16,
    authority: u16,
    body: Vec<u8>,
    /// Where in the body the times to live stand.
    ttl_offsets: Vec<usize>,
    /// Names that the answer says something about, the question name aside.
    owners: Vec<Name>,
    pub errors: Vec<ExtendedError>,
    stored: Instant,
    lifetime: Duration,
}

impl Answer {
    /// `None` for a reply whose sections cannot be taken over as they are.
    pub fn from_reply(reply: &Reply, now: Instant) -> Option<Self> {
        let message = Message::from_octets(reply.bytes.as_slice()).ok()?;
        let start = HEADER_LEN + reply.question.name.as_wire().len() + 4;
        if message.answer().ok()?.pos() != start {
            return None;
        }
        // Pointers lead backwards only, so the additional section can be cut off the end.
        let end = message.additional().ok()?.pos();
        let counts = message.header_counts();
        let mut body = reply.bytes.get(start..end)?.to_vec();
        let ttl_offsets = ttl_offsets(&body, usize::from(counts.ancount()) + usize::from(counts.nscount()))?;
        let lifetime = settle_ttls(reply, &message, &mut body, &ttl_offsets)?;
        let mut owners: Vec<Name> = reply.answers.iter().map(|record| record.name.clone()).collect();
        owners.sort_unstable();
        owners.dedup();
        owners.retain(|owner| *owner != reply.question.name);
        Some(Self {
            rcode: reply.rcode,
            authentic: reply.authentic_data,
            answers: counts.ancount(),
            authority: counts.nscount(),
            body,
            ttl_offsets,
            owners,
            errors: reply.extended_errors.clone(),
            stored: now,
            lifetime: Duration::from_secs(lifetime.into()),
        })
    }

    /// SERVFAIL, with the reason, remembered for a short while.
    pub fn failure(errors: Vec<ExtendedError>, lifetime: Duration, now: Instant) -> Self {
        Self {
            rcode: Rcode::SERVFAIL,
            authentic: false,
            answers: 0,
            authority: 0,
            body: Vec::new(),
            ttl_offsets: Vec::new(),
            owners: Vec::new(),
            errors,
            stored: now,
            lifetime,
        }
    }

    /// Hands the answer, as it is at `now` and with no time to live above `cap`, to `compose`.
    pub fn respond<T>(&self, now: Instant, cap: u32, compose: impl FnOnce(&Response<'_>) -> T) -> T {
        let age = u32::try_from(now.saturating_duration_since(self.stored).as_secs()).unwrap_or(u32::MAX);
        let mut body = self.body.clone();
        for &at in &self.ttl_offsets {
            set_ttl(&mut body, at, ttl_at(&self.body, at).saturating_sub(age).min(cap));
        }
        compose(&Response {
            rcode: self.rcode,
            authoritative: false,
            authentic: self.authentic,
            answers: self.answers,
            authority: self.authority,
            body: &body,
            errors: &self.errors,
        })
    }

    /// The same failure, given again: RFC 8914 section 4.14.
    fn replayed(&self) -> Self {
        let mut errors = self.errors.clone();
        errors.push(ExtendedError::new(ExtendedError::CACHED_ERROR, ""));
        Self::failure(errors, self.lifetime, self.stored)
    }

    pub fn is_older_than(&self, seconds: u32, now: Instant) -> bool {
        now.saturating_duration_since(self.stored) >= Duration::from_secs(seconds.into())
    }

    fn is_fresh(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.stored) < self.lifetime
    }

    fn mentions(&self, name: &Name) -> bool {
        self.owners.contains(name)
    }

    fn octets(&self) -> usize {
        // The fixed part of an entry, its key and two maps' slots come to about this.
        const OVERHEAD: usize = 512;
        self.body.len() + self.ttl_offsets.len() * size_of::<usize>() + OVERHEAD
    }
}

/// A bounded cache in two halves: what is used moves to the young half; when that is full the old half is forgotten.
pub(crate) struct Cache {
    young: HashMap<Key, Arc<Answer>>,
    old: HashMap<Key, Arc<Answer>>,
    young_octets: usize,
    half: usize,
}

impl Cache {
    pub fn new(entries: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), young_octets: 0, half: (entries / 2).max(1) }
    }

    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    pub fn find(&mut self, key: &Key, now: Instant) -> Option<Arc<Answer>> {
        let answer =
            self.find_exact(key, now).or_else(|| self.find_exact(&Key { qtype: ALL_TYPES, ..key.clone() }, now))?;
        if answer.rcode == Rcode::SERVFAIL {
            return Some(Arc::new(answer.replayed()));
        }
        Some(answer)
    }

    pub fn insert(&mut self, key: Key, answer: Arc<Answer>) {
        if answer.lifetime.is_zero() {
            return;
        }
        let for_all_types = answer.rcode == Rcode::NXDOMAIN && answer.answers == 0;
        let key = if for_all_types { Key { qtype: ALL_TYPES, ..key } } else { key };
        self.old.remove(&key);
        self.keep(key, answer);
    }

    /// Forgets what is known of a name, be it the one asked for or one on the way.
    pub fn forget(&mut self, name: &Name) {
        let keep = |key: &Key, answer: &mut Arc<Answer>| key.name != *name && !answer.mentions(name);
        self.young.retain(keep);
        self.old.retain(keep);
        self.young_octets = self.young.values().map(|answer| answer.octets()).sum();
    }

    pub fn clear(&mut self) {
        *self = Self::new(self.half * 2);
    }

    fn find_exact(&mut self, key: &Key, now: Instant) -> Option<Arc<Answer>> {
        if let Some(answer) = self.young.get(key) {
            return answer.is_fresh(now).then(|| Arc::clone(answer));
        }
        let answer = self.old.remove(key).filter(|answer| answer.is_fresh(now))?;
        self.keep(key.clone(), Arc::clone(&answer));
        Some(answer)
    }

    fn keep(&mut self, key: Key, answer: Arc<Answer>) {
        if self.young.len() >= self.half || self.young_octets + answer.octets() > MAX_OCTETS / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_octets = 0;
        }
        self.young_octets += answer.octets();
        if let Some(replaced) = self.young.insert(key, answer) {
            self.young_octets -= replaced.octets();
        }
    }
}

/// Writes the times to live as they are to be counted down, and says for how long the whole may be kept.
fn settle_ttls(reply: &Reply, message: &Message<&[u8]>, body: &mut [u8], offsets: &[usize]) -> Option<u32> {
    let negative = negative_ttl(reply);
    let records: Vec<(Name, RecordType)> = message
        .answer()
        .ok()?
        .chain(message.authority().ok()?)
        .map(|record| record.ok().map(|record| (Name::from_wire(&record.owner()), RecordType(record.rtype().to_int()))))
        .collect::<Option<_>>()?;
    // RFC 2181 section 5.2: the records of a set share one time to live, the lowest that any of them came with.
    let mut lowest: HashMap<&(Name, RecordType), u32> = HashMap::new();
    for (record, &at) in records.iter().zip(offsets) {
        let mut ttl = match ttl_at(body, at) {
            ttl if ttl > i32::MAX as u32 => 0,
            ttl => ttl.min(MAX_TTL),
        };
        if let (RecordType::SOA, Some(negative)) = (record.1, negative) {
            ttl = ttl.min(negative);
        }
        lowest.entry(record).and_modify(|lowest| *lowest = ttl.min(*lowest)).or_insert(ttl);
    }
    for (record, &at) in records.iter().zip(offsets) {
        set_ttl(body, at, lowest.get(record).copied().unwrap_or(0));
    }
    let shortest = lowest.values().copied().min().unwrap_or(0);
    let keepable = matches!(reply.rcode, Rcode::NOERROR | Rcode::NXDOMAIN) && !reply.truncated;
    let absent = reply.rcode == Rcode::NXDOMAIN || reply.is_nodata();
    Some(match (keepable, absent, negative) {
        (true, true, Some(negative)) => shortest.min(negative),
        (true, false, _) if !reply.is_referral() => shortest,
        // RFC 2308 section 5: what says "absent" without an SOA is not kept.
        _ => 0,
    })
}

fn negative_ttl(reply: &Reply) -> Option<u32> {
    let absent = reply.rcode == Rcode::NXDOMAIN || reply.is_nodata();
    reply
        .authority
        .iter()
        .find_map(|record| match &record.data {
            Data::Soa(soa) => Some(soa.ttl.min(soa.minimum).min(MAX_NEGATIVE_TTL)),
            _ => None,
        })
        .filter(|_| absent)
}

/// Walks `count` records; the message has been read once, so `None` is not expected.
fn ttl_offsets(body: &[u8], count: usize) -> Option<Vec<usize>> {
    let mut offsets = Vec::with_capacity(count);
    let mut at = 0;
    for _ in 0..count {
        at = skip_name(body, at)?;
        offsets.push(at + 4);
        at += 10 + usize::from(u16_at(body, at + 8)?);
    }
    (at == body.len()).then_some(offsets)
}

fn skip_name(body: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *body.get(at)? {
            0 => return Some(at + 1),
            len if len & 0xC0 == 0xC0 => return Some(at + 2),
            len => at += 1 + usize::from(len),
        }
    }
}

fn ttl_at(body: &[u8], at: usize) -> u32 {
    body.get(at..at + 4).and_then(|octets| octets.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn set_ttl(body: &mut [u8], at: usize, ttl: u32) {
    if let Some(octets) = body.get_mut(at..at + 4) {
        octets.copy_from_slice(&ttl.to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
