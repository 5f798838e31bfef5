//! One stream: the buckets of one unit at one resolution.
//!
//! New buckets go into the *head*, which is not compressed, so that what alarms look at is at hand. When the head is full
//! its older half goes to the last chunk, which is encoded again until it is full; so a chunk keeps its first time, which is
//! its key in storage. A late datapoint changes the one chunk (or the head) that its time belongs to.

use super::bytes::Corrupt;
use super::chunk::{self, Bucket, CHUNK_BUCKETS_MAX, Chunk, ChunkError, Held, Item, Reader, Summary};
use super::{HEAD, Resolution};
use crate::metric::datum::DatumValue;
use crate::metric::samples::{Samples, Total};
use crate::metric::unit::Unit;

/// Buckets that are not compressed, 24 bytes each: 6 minutes of 10 s data, 36 of 60 s data.
const HEAD_MAX: usize = 36;
/// How many of them stay when the head is full: what an alarm of 10 minutes fetches.
const HEAD_KEPT: usize = 12;
/// Buckets of one stream: two weeks of 10 s data, or two days of 1 s data.
pub const BUCKETS_MAX: usize = 200_000;

#[derive(Debug, Clone)]
pub(super) struct Stream {
    pub unit: Unit,
    pub resolution: Resolution,
    head_dirty: bool,
    head_stored: bool,
    head: Vec<Bucket>,
    chunks: Vec<Chunk>,
    /// First times of chunks that were stored and are no more.
    gone: Vec<i64>,
}

/// What a reader sees of one bucket.
#[derive(Debug)]
pub(super) enum Seen<'a> {
    One(f64),
    Open(&'a Samples),
    Closed(Summary<'a>),
}

/// What the five simple statistics need.
#[derive(Debug, Clone, Copy)]
pub(super) struct Simple {
    pub count: f64,
    pub sum: Total,
    pub minimum: f64,
    pub maximum: f64,
}

impl Stream {
    pub(super) fn new(unit: Unit, resolution: Resolution) -> Stream {
        Stream {
            unit,
            resolution,
            head_dirty: false,
            head_stored: false,
            head: Vec::new(),
            chunks: Vec::new(),
            gone: Vec::new(),
        }
    }

    /// Whether memory may have changed by more than a sample in place.
    pub(super) fn put(&mut self, at: i64, value: &DatumValue) -> bool {
        let newest = self.head.last().map_or(i64::MIN, |bucket| bucket.at);
        if at > newest && self.chunks.last().is_none_or(|last| at > last.last) {
            self.head_dirty = true;
            let room = self.head.capacity();
            if self.head.len() == room {
                // Never more room than is used in the end.
                self.head.reserve_exact(if room < HEAD_KEPT {
                    HEAD_KEPT.min(room + 4) - room
                } else {
                    HEAD_MAX - room
                });
            }
            self.head.push(Bucket { at, samples: first_of(value) });
            let grown = self.head.capacity() != room || !matches!(value, DatumValue::Single(_));
            if self.head.len() < HEAD_MAX {
                return grown;
            }
            self.spill();
            return true;
        }
        self.put_late(at, value);
        true
    }

    pub(super) fn latest(&self) -> Option<i64> {
        self.head.last().map(|bucket| bucket.at).or(self.chunks.last().map(|chunk| chunk.last))
    }

    /// Calls with each bucket that begins in `from..to`, in order of time.
    pub(super) fn walk<'a>(&'a self, from: i64, to: i64, mut call: impl FnMut(i64, Seen<'a>)) {
        let first_open = self.head.first().map_or(i64::MAX, |bucket| bucket.at);
        if from < first_open {
            let start = self.chunks.partition_point(|chunk| chunk.last < from);
            for chunk in self.chunks[start..].iter().take_while(|chunk| chunk.first < to) {
                // What is in memory was encoded here or checked when it was restored, so it can be read.
                let _: Result<(), Corrupt> = walk_chunk(chunk, self.resolution.seconds(), from, to, &mut call);
            }
        }
        let start = self.head.partition_point(|bucket| bucket.at < from);
        for bucket in self.head[start..].iter().take_while(|bucket| bucket.at < to) {
            match &bucket.samples {
                Held::One(value) => call(bucket.at, Seen::One(*value)),
                Held::Many(samples) => call(bucket.at, Seen::Open(samples)),
            }
        }
    }

    /// Drops what ended before `cutoff`, by whole chunks, and what is too much.
    pub(super) fn trim(&mut self, cutoff: i64) {
        let mut old = self.chunks.partition_point(|chunk| chunk.last < cutoff);
        let mut buckets: usize = self.chunks[old..].iter().map(|chunk| chunk.count as usize).sum();
        while buckets > BUCKETS_MAX {
            buckets -= self.chunks[old].count as usize;
            old += 1;
        }
        self.drop_chunks(old);
        let old = self.head.partition_point(|bucket| bucket.at < cutoff);
        if old > 0 {
            self.head.drain(..old);
            self.head_dirty = true;
        }
    }

    /// Drops the older half of the chunks, or the head if no chunk is left. How little is left is what memory allows.
    pub(super) fn shorten(&mut self) {
        if self.chunks.is_empty() {
            self.head = Vec::new();
            self.head_dirty = true;
        } else {
            self.drop_chunks(self.chunks.len().div_ceil(2));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head.is_empty() && self.chunks.is_empty()
    }

    pub(super) fn heap_bytes(&self) -> usize {
        let head: usize = self.head.iter().map(|bucket| bucket.samples.heap_bytes()).sum();
        let chunks: usize = self.chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        head + self.head.capacity() * size_of::<Bucket>()
            + chunks
            + self.chunks.capacity() * size_of::<Chunk>()
            + self.gone.capacity() * size_of::<i64>()
    }

    /// The next changed part, sealed, with its key; chunks before the head, so that nothing is missing in between.
    pub(super) fn take_dirty(&mut self) -> Option<(i64, Vec<u8>)> {
        if let Some(chunk) = self.chunks.iter_mut().find(|chunk| chunk.dirty) {
            (chunk.dirty, chunk.stored) = (false, true);
            return Some((chunk.first, chunk::seal(&chunk.bytes)));
        }
        if !self.head_dirty {
            return None;
        }
        self.head_dirty = false;
        match Chunk::of(&self.head, self.resolution.seconds()) {
            Some(head) => {
                self.head_stored = true;
                Some((HEAD, chunk::seal(&head.bytes)))
            }
            None => {
                if std::mem::take(&mut self.head_stored) {
                    self.gone.push(HEAD);
                }
                None
            }
        }
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.head_dirty || !self.gone.is_empty() || self.chunks.iter().any(|chunk| chunk.dirty)
    }

    pub(super) fn take_gone(&mut self) -> Vec<i64> {
        std::mem::take(&mut self.gone)
    }

    /// The keys of everything that was stored.
    pub(super) fn stored(&self) -> impl Iterator<Item = i64> {
        let chunks = self.chunks.iter().filter(|chunk| chunk.stored).map(|chunk| chunk.first);
        chunks.chain(self.head_stored.then_some(HEAD)).chain(self.gone.iter().copied())
    }

    /// Takes back what [`Stream::take_dirty`] gave. What a closed chunk covers is not taken again from an older head.
    pub(super) fn restore(&mut self, start: i64, sealed: &[u8]) -> Result<(), ChunkError> {
        let resolution = self.resolution.seconds();
        let mut buckets = chunk::open(sealed, resolution)?;
        if start == HEAD {
            let closed = self.chunks.last().map_or(i64::MIN, |last| last.last);
            buckets.retain(|bucket| bucket.at > closed);
            if !self.head.is_empty() {
                return Err(ChunkError::Contents);
            }
            self.head = buckets;
            self.head_stored = true;
            // A program with a longer head may have written it.
            while self.head.len() >= HEAD_MAX {
                self.spill();
            }
            return Ok(());
        }
        let Some(mut restored) = Chunk::of(&buckets, resolution) else { return Err(ChunkError::Contents) };
        let place = self.chunks.partition_point(|chunk| chunk.first < restored.first);
        let overlaps = place.checked_sub(1).is_some_and(|before| self.chunks[before].last >= restored.first)
            || self.chunks.get(place).is_some_and(|after| after.first <= restored.last);
        if overlaps || restored.first != start || buckets.len() > CHUNK_BUCKETS_MAX {
            return Err(ChunkError::Contents);
        }
        (restored.dirty, restored.stored) = (false, true);
        self.head.retain(|bucket| bucket.at > restored.last);
        self.chunks.insert(place, restored);
        Ok(())
    }

    /// The older half of the head goes to the last chunk.
    fn spill(&mut self) {
        let old: Vec<Bucket> = self.head.drain(..HEAD_MAX - HEAD_KEPT).collect();
        self.head_dirty = true;
        let resolution = self.resolution.seconds();
        match self.chunks.last_mut() {
            Some(last) if !last.is_full() => {
                let mut buckets = last.buckets(resolution);
                buckets.extend(old);
                replace(last, &buckets, resolution);
            }
            _ => {
                self.chunks.reserve_exact(1);
                self.chunks.extend(Chunk::of(&old, resolution));
            }
        }
    }

    fn put_late(&mut self, at: i64, value: &DatumValue) {
        if self.chunks.last().is_none_or(|last| at > last.last) {
            merge_into(&mut self.head, at, value);
            self.head_dirty = true;
            if self.head.len() >= HEAD_MAX {
                self.spill();
            }
            return;
        }
        let place = self.chunks.partition_point(|chunk| chunk.first <= at).saturating_sub(1);
        let resolution = self.resolution.seconds();
        let mut buckets = self.chunks[place].buckets(resolution);
        merge_into(&mut buckets, at, value);
        if self.chunks[place].stored && self.chunks[place].first > at {
            self.gone.push(self.chunks[place].first);
            self.chunks[place].stored = false;
        }
        let middle = if buckets.len() > CHUNK_BUCKETS_MAX { buckets.len() / 2 } else { buckets.len() };
        replace(&mut self.chunks[place], &buckets[..middle], resolution);
        if let Some(second) = Chunk::of(&buckets[middle..], resolution) {
            self.chunks.insert(place + 1, second);
        }
    }

    fn drop_chunks(&mut self, count: usize) {
        let gone = self.chunks.drain(..count).filter(|chunk| chunk.stored).map(|chunk| chunk.first);
        self.gone.extend(gone);
    }
}

impl Seen<'_> {
    pub(super) fn simple(&self) -> Simple {
        match self {
            Seen::One(value) => {
                let sum = Total { high: *value, low: 0.0 };
                Simple { count: 1.0, sum, minimum: *value, maximum: *value }
            }
            Seen::Open(samples) => {
                let (count, sum, minimum, maximum, _) = samples.parts();
                Simple { count, sum, minimum, maximum }
            }
            Seen::Closed(Summary { count, sum, minimum, maximum, .. }) => {
                Simple { count: *count, sum: *sum, minimum: *minimum, maximum: *maximum }
            }
        }
    }

    pub(super) fn samples(self) -> Option<Samples> {
        match self {
            Seen::One(value) => Some(Samples::one(value)),
            Seen::Open(samples) => Some(samples.clone()),
            Seen::Closed(summary) => summary.samples().ok(),
        }
    }
}

impl Simple {
    pub(super) fn merge(&mut self, other: Simple) {
        self.count += other.count;
        self.sum.add(other.sum);
        self.minimum = self.minimum.min(other.minimum);
        self.maximum = self.maximum.max(other.maximum);
    }
}

fn first_of(value: &DatumValue) -> Held {
    match value {
        // As samples do: -0.0 becomes 0.0.
        DatumValue::Single(value) => Held::One(value + 0.0),
        more => Held::of(Samples::of(more)),
    }
}

fn merge_into(buckets: &mut Vec<Bucket>, at: i64, value: &DatumValue) {
    match buckets.binary_search_by_key(&at, |bucket| bucket.at) {
        Ok(place) => buckets[place].samples.merge(&Samples::of(value)),
        Err(place) => buckets.insert(place, Bucket { at, samples: first_of(value) }),
    }
}

fn replace(chunk: &mut Chunk, buckets: &[Bucket], resolution: i64) {
    if let Some(new) = Chunk::of(buckets, resolution) {
        *chunk = Chunk { stored: chunk.stored, ..new };
    }
}

fn walk_chunk<'a>(
    chunk: &'a Chunk,
    resolution: i64,
    from: i64,
    to: i64,
    call: &mut impl FnMut(i64, Seen<'a>),
) -> Result<(), Corrupt> {
    let mut reader = Reader::new(&chunk.bytes, resolution)?;
    while let Some((at, item)) = reader.next()? {
        if at >= to {
            break;
        }
        if at >= from {
            call(
                at,
                match item {
                    Item::One(value) => Seen::One(value),
                    Item::Many(summary) => Seen::Closed(summary),
                },
            );
        }
    }
    Ok(())
}
