//! A chunk: buckets of one stream, closed and compressed.
//!
//! Bytes: how many buckets; their times as runs of equal steps; which of them hold one sample and which more, as run
//! lengths; the single values ([`super::values`]); and the richer samples with everything they know. Kept in memory they are
//! just that. Sealed for storage they begin with a version byte and end with a CRC-32.

use super::bytes::{Corrupt, Cursor, checksum, put_number, put_varint, unzigzag, zigzag};
use super::values::{self, Values};
use crate::metric::samples::{CELLS_MAX, Distribution, EXACT_MAX, Samples, Total};

/// Buckets of one chunk. Large enough that its header costs nothing, small enough to decode in some microseconds.
pub(super) const CHUNK_BUCKETS_MAX: usize = 1024;
/// Bytes after which a chunk takes no more: a late datapoint decodes and encodes all of them again.
pub(super) const CHUNK_BYTES_FULL: usize = 640;
/// A sealed chunk of this size was never written by us: 1024 buckets of 1000 distinct values each, 18 bytes a pair.
const SEALED_BYTES_MAX: usize = 20 * 1024 * 1024;
const VERSION: u8 = 1;
/// Seconds that a stored time may lie from 1970 (a jiff time stamp reaches to the year 9999).
const SECONDS_MAX: i64 = 400_000_000_000;

/// Samples of one second or minute.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Bucket {
    /// Its beginning, in seconds since 1970.
    pub at: i64,
    pub samples: Held,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Held {
    One(f64),
    Many(Box<Samples>),
}

#[derive(Debug, Clone)]
pub(super) struct Chunk {
    pub first: i64,
    pub last: i64,
    pub count: u32,
    /// Changed since it was last taken for storage.
    pub dirty: bool,
    /// Was taken for storage, so that its end must be told.
    pub stored: bool,
    pub bytes: Box<[u8]>,
}

/// A sealed chunk that cannot be restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error(
        "the stored chunk has the version {0}, this program reads version 1; start with a program that wrote it, or delete it"
    )]
    Version(u8),
    #[error("the stored chunk is damaged: its checksum is wrong; delete it")]
    Checksum,
    #[error("the stored chunk is damaged: its contents make no sense; delete it")]
    Contents,
}

impl Held {
    pub(super) fn merge(&mut self, other: &Samples) {
        match self {
            Held::Many(samples) => samples.merge(other),
            Held::One(value) => {
                let mut all = Samples::one(*value);
                all.merge(other);
                *self = Held::of(all);
            }
        }
    }

    pub(super) fn of(samples: Samples) -> Held {
        match samples.as_one() {
            Some(value) => Held::One(value),
            None => Held::Many(Box::new(samples)),
        }
    }

    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Held::One(_) => 0,
            Held::Many(samples) => size_of::<Samples>() + samples.heap_bytes(),
        }
    }
}

impl Chunk {
    /// Of at least one bucket, in order of time.
    pub(super) fn of(buckets: &[Bucket], resolution: i64) -> Option<Chunk> {
        let (first, last) = (buckets.first()?, buckets.last()?);
        let bytes = encode(buckets, resolution).into_boxed_slice();
        Some(Chunk { first: first.at, last: last.at, count: buckets.len() as u32, dirty: true, stored: false, bytes })
    }

    pub(super) fn is_full(&self) -> bool {
        self.count as usize >= CHUNK_BUCKETS_MAX || self.bytes.len() >= CHUNK_BYTES_FULL
    }

    pub(super) fn buckets(&self, resolution: i64) -> Vec<Bucket> {
        let mut all = Vec::with_capacity(self.count as usize + 32);
        // What is in memory was encoded here or checked when it was restored.
        if let Ok(mut reader) = Reader::new(&self.bytes, resolution) {
            while let Ok(Some((at, item))) = reader.next() {
                if let Ok(samples) = item.held() {
                    all.push(Bucket { at, samples });
                }
            }
        }
        all
    }
}

pub(super) fn seal(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(bytes.len() + 5);
    sealed.push(VERSION);
    sealed.extend_from_slice(bytes);
    let sum = checksum(&sealed);
    sealed.extend_from_slice(&sum.to_le_bytes());
    sealed
}

/// The buckets of a sealed chunk, all checked.
pub(super) fn open(sealed: &[u8], resolution: i64) -> Result<Vec<Bucket>, ChunkError> {
    let (body, sum) = sealed.split_last_chunk::<4>().ok_or(ChunkError::Contents)?;
    match body.first() {
        Some(&VERSION) => {}
        Some(version) => return Err(ChunkError::Version(*version)),
        None => return Err(ChunkError::Contents),
    }
    if checksum(body) != u32::from_le_bytes(*sum) {
        return Err(ChunkError::Checksum);
    }
    if sealed.len() > SEALED_BYTES_MAX {
        return Err(ChunkError::Contents);
    }
    read_all(&body[1..], resolution).map_err(|Corrupt| ChunkError::Contents)
}

fn read_all(bytes: &[u8], resolution: i64) -> Result<Vec<Bucket>, Corrupt> {
    let mut reader = Reader::new(bytes, resolution)?;
    let mut all: Vec<Bucket> = Vec::new();
    while let Some((at, item)) = reader.next()? {
        let in_order = all.last().is_none_or(|last| last.at < at) && at.abs() <= SECONDS_MAX;
        let samples = item.held()?;
        let finite = !matches!(samples, Held::One(value) if !value.is_finite());
        if !in_order || !finite {
            return Err(Corrupt);
        }
        all.push(Bucket { at, samples });
    }
    if all.is_empty() { Err(Corrupt) } else { Ok(all) }
}

fn encode(buckets: &[Bucket], resolution: i64) -> Vec<u8> {
    let mut out = Vec::with_capacity(buckets.len() * 2 + 32);
    put_varint(&mut out, buckets.len() as u64);
    encode_times(buckets, resolution, &mut out);
    for run in buckets.chunk_by(|a, b| is_one(a) == is_one(b)) {
        // The lowest bit: whether they hold one sample each.
        put_varint(&mut out, (run.len() as u64) << 1 | u64::from(is_one(&run[0])));
    }
    let ones: Vec<f64> = buckets
        .iter()
        .filter_map(|bucket| match bucket.samples {
            Held::One(value) => Some(value),
            Held::Many(_) => None,
        })
        .collect();
    values::encode(&ones, &mut out);
    for bucket in buckets {
        if let Held::Many(samples) = &bucket.samples {
            encode_samples(samples, &mut out);
        }
    }
    out
}

fn is_one(bucket: &Bucket) -> bool {
    matches!(bucket.samples, Held::One(_))
}

fn encode_times(buckets: &[Bucket], resolution: i64, out: &mut Vec<u8>) {
    let first = buckets.first().map_or(0, |bucket| bucket.at / resolution);
    put_varint(out, zigzag(first));
    let step = |pair: &[Bucket]| ((pair[1].at - pair[0].at) / resolution) as u64;
    let (mut last, mut times) = (0, 0u64);
    for pair in buckets.windows(2) {
        if step(pair) != last && times > 0 {
            put_varint(out, last);
            put_varint(out, times);
            times = 0;
        }
        last = step(pair);
        times += 1;
    }
    if times > 0 {
        put_varint(out, last);
        put_varint(out, times);
    }
}

fn encode_samples(samples: &Samples, out: &mut Vec<u8>) {
    let (count, sum, minimum, maximum, distribution) = samples.parts();
    for number in [count, sum.high, sum.low, minimum, maximum] {
        put_number(out, number);
    }
    let mut body = Vec::new();
    match distribution {
        Distribution::Same => body.push(0),
        Distribution::Unknown => body.push(1),
        Distribution::Exact(values) => {
            body.push(2);
            put_varint(&mut body, values.len() as u64);
            let only: Vec<f64> = values.iter().map(|(value, _)| *value).collect();
            values::encode(&only, &mut body);
            values.iter().for_each(|(_, count)| put_number(&mut body, *count));
        }
        Distribution::Grid(cells) => {
            body.push(3);
            put_varint(&mut body, cells.len() as u64);
            for (cell, count) in cells {
                put_varint(&mut body, zigzag(i64::from(*cell)));
                put_number(&mut body, *count);
            }
        }
    }
    put_varint(out, body.len() as u64);
    out.extend_from_slice(&body);
}

/// Reads a chunk bucket by bucket. Nothing is allocated until a distribution is asked for.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    left: u64,
    at: i64,
    resolution: i64,
    times: Cursor<'a>,
    step: i64,
    steps: u64,
    forms: Cursor<'a>,
    one: bool,
    run: u64,
    values: Values<'a>,
    many: Cursor<'a>,
}

/// What a bucket holds, as far as it is read.
#[derive(Debug)]
pub(super) enum Item<'a> {
    One(f64),
    Many(Summary<'a>),
}

#[derive(Debug)]
pub(super) struct Summary<'a> {
    pub count: f64,
    pub sum: Total,
    pub minimum: f64,
    pub maximum: f64,
    distribution: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8], resolution: i64) -> Result<Reader<'a>, Corrupt> {
        let mut cursor = Cursor(bytes);
        let count = cursor.length(2 * CHUNK_BUCKETS_MAX)? as u64;
        let first = unzigzag(cursor.varint()?).checked_mul(resolution).ok_or(Corrupt)?;
        let times = cursor;
        skip_runs(&mut cursor, count.saturating_sub(1), |cursor| {
            cursor.varint()?;
            cursor.varint()
        })?;
        let forms = cursor;
        skip_runs(&mut cursor, count, |cursor| Ok(cursor.varint()? >> 1))?;
        let length = cursor.length(cursor.0.len())?;
        let values = Values::read(cursor.take(length)?)?;
        let (many, one) = (cursor, false);
        // The first bucket is reached by one step of nothing.
        Ok(Reader { left: count, at: first, resolution, times, step: 0, steps: 1, forms, one, run: 0, values, many })
    }

    pub(super) fn next(&mut self) -> Result<Option<(i64, Item<'a>)>, Corrupt> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        if self.steps == 0 {
            let step = i64::try_from(self.times.varint()?).map_err(|_| Corrupt)?;
            self.step = step.checked_mul(self.resolution).ok_or(Corrupt)?;
            self.steps = self.times.varint()?;
        }
        self.steps -= 1;
        self.at = self.at.checked_add(self.step).ok_or(Corrupt)?;
        if self.run == 0 {
            let form = self.forms.varint()?;
            (self.one, self.run) = (form & 1 == 1, form >> 1);
        }
        self.run -= 1;
        let item = if self.one { Item::One(self.values.next()?) } else { Item::Many(Summary::read(&mut self.many)?) };
        Ok(Some((self.at, item)))
    }
}

/// Runs that cover exactly `count`; none is empty.
fn skip_runs(
    cursor: &mut Cursor<'_>,
    count: u64,
    mut run: impl FnMut(&mut Cursor<'_>) -> Result<u64, Corrupt>,
) -> Result<(), Corrupt> {
    let mut left = count;
    while left > 0 {
        let covered = run(cursor)?;
        if covered == 0 {
            return Err(Corrupt);
        }
        left = left.checked_sub(covered).ok_or(Corrupt)?;
    }
    Ok(())
}

impl<'a> Summary<'a> {
    fn read(cursor: &mut Cursor<'a>) -> Result<Summary<'a>, Corrupt> {
        let count = cursor.number()?;
        let sum = Total { high: cursor.number()?, low: cursor.number()? };
        let (minimum, maximum) = (cursor.number()?, cursor.number()?);
        let length = cursor.length(cursor.0.len())?;
        Ok(Summary { count, sum, minimum, maximum, distribution: cursor.take(length)? })
    }

    pub(super) fn samples(&self) -> Result<Samples, Corrupt> {
        let distribution = read_distribution(Cursor(self.distribution))?;
        Samples::from_parts(self.count, self.sum, self.minimum, self.maximum, distribution).ok_or(Corrupt)
    }
}

impl Item<'_> {
    pub(super) fn held(&self) -> Result<Held, Corrupt> {
        match self {
            Item::One(value) => Ok(Held::One(*value)),
            Item::Many(summary) => Ok(Held::Many(Box::new(summary.samples()?))),
        }
    }
}

fn read_distribution(mut cursor: Cursor<'_>) -> Result<Distribution, Corrupt> {
    match cursor.byte()? {
        0 => Ok(Distribution::Same),
        1 => Ok(Distribution::Unknown),
        2 => {
            let count = cursor.length(EXACT_MAX)?;
            let length = cursor.length(cursor.0.len())?;
            let mut values = Values::read(cursor.take(length)?)?;
            (0..count)
                .map(|_| Ok((values.next()?, cursor.number()?)))
                .collect::<Result<_, _>>()
                .map(Distribution::Exact)
        }
        3 => {
            let count = cursor.length(CELLS_MAX)?;
            let cell = |cursor: &mut Cursor<'_>| i32::try_from(unzigzag(cursor.varint()?)).map_err(|_| Corrupt);
            (0..count)
                .map(|_| Ok((cell(&mut cursor)?, cursor.number()?)))
                .collect::<Result<_, _>>()
                .map(Distribution::Grid)
        }
        _ => Err(Corrupt),
    }
}
