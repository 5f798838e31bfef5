//! Cumulative streams: what each said last, so that the next tells what came since.
//!
//! A stream that we hear of for the first time is taken whole if it says that it began after we did, since then nothing
//! of it was taken before; otherwise it is only remembered, because what it counted earlier was not counted now. A later
//! start, or a number that sank, is a stream that began again, and it is taken whole. A point that is no newer than the
//! last is a repetition and yields nothing.
//!
//! A request that cannot be handed over changes nothing here ([`Staged`]), so that its repetition is not taken for one.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

/// Each with up to a few hundred buckets: 20 MB at the very most.
const STREAMS_MAX: usize = 10_000;
/// After so long a stream makes room for others, when there are too many.
const IDLE: SignedDuration = SignedDuration::from_hours(1);

pub type Key = [u8; 32];

#[derive(Debug)]
pub struct Streams {
    /// Whatever began after this was never forgotten.
    since: Timestamp,
    known: BTreeMap<Key, Last>,
}

#[derive(Debug, Clone)]
struct Last {
    start: u64,
    time: u64,
    heard: Timestamp,
    values: Vec<f64>,
}

/// A point of a cumulative stream: its total, or the count in each bucket.
#[derive(Debug)]
pub struct Point {
    pub start: u64,
    pub time: u64,
    pub values: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {STREAMS_MAX} cumulative streams; use delta temporality, or fewer attributes")]
pub struct TooManyStreams;

/// What a request would change.
#[derive(Debug)]
pub struct Staged<'a> {
    streams: &'a Streams,
    now: Timestamp,
    changed: BTreeMap<Key, Last>,
    fresh: usize,
}

/// What [`Streams::commit`] is given once the data were handed over.
#[derive(Debug)]
pub struct Changes(BTreeMap<Key, Last>);

impl Streams {
    pub fn new(now: Timestamp) -> Streams {
        Streams { since: now, known: BTreeMap::new() }
    }

    pub fn stage(&mut self, now: Timestamp) -> Staged<'_> {
        if self.known.len() >= STREAMS_MAX {
            self.known.retain(|_, last| now.duration_since(last.heard) < IDLE);
            self.since = now;
        }
        Staged { streams: self, now, changed: BTreeMap::new(), fresh: 0 }
    }

    pub fn commit(&mut self, Changes(changed): Changes) {
        self.known.extend(changed);
    }
}

impl Staged<'_> {
    /// What came since the last point. None: nothing that could be told.
    pub fn grown(&mut self, key: Key, point: Point) -> Result<Option<Vec<f64>>, TooManyStreams> {
        let Point { start, time, values } = point;
        let before = self.changed.get(&key).or_else(|| self.streams.known.get(&key));
        let grown = match before {
            Some(before) if time <= before.time => return Ok(None),
            Some(before) if before.began_again(start, &values) => Some(values.clone()),
            Some(before) => Some(values.iter().zip(&before.values).map(|(now, before)| now - before).collect()),
            None => {
                if self.streams.known.len() + self.fresh >= STREAMS_MAX {
                    return Err(TooManyStreams);
                }
                self.fresh += 1;
                (i128::from(start) >= self.streams.since.as_nanosecond()).then(|| values.clone())
            }
        };
        self.changed.insert(key, Last { start, time, heard: self.now, values });
        Ok(grown)
    }

    pub fn finish(self) -> Changes {
        Changes(self.changed)
    }
}

impl Last {
    fn began_again(&self, start: u64, values: &[f64]) -> bool {
        start > self.start
            || values.len() != self.values.len()
            || values.iter().zip(&self.values).any(|(now, before)| now < before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn point(start: u64, time: u64, value: f64) -> Point {
        Point { start: start * SECOND, time: time * SECOND, values: vec![value] }
    }

    fn at(second: u64) -> Timestamp {
        Timestamp::from_second(second as i64).unwrap()
    }

    fn key(number: usize) -> Key {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_be_bytes());
        key
    }

    #[test]
    fn a_total_becomes_what_came_since() {
        let mut streams = Streams::new(at(100));
        let mut grown = |point| {
            let mut staged = streams.stage(at(200));
            let grown = staged.grown(key(1), point).unwrap();
            let changes = staged.finish();
            streams.commit(changes);
            grown.map(|values| values[0])
        };
        assert_eq!(grown(point(50, 110, 7.0)), None, "it began before us");
        assert_eq!(grown(point(50, 120, 9.0)), Some(2.0));
        assert_eq!(grown(point(50, 120, 9.0)), None, "repeated");
        assert_eq!(grown(point(50, 130, 9.0)), Some(0.0));
        assert_eq!(grown(point(140, 150, 20.0)), Some(20.0), "it says that it began again");
        assert_eq!(grown(point(140, 160, 3.0)), Some(3.0), "it does not say so, but it did");
    }

    #[test]
    fn a_stream_that_began_after_us_is_taken_whole() {
        let mut streams = Streams::new(at(100));
        let mut staged = streams.stage(at(200));
        assert_eq!(staged.grown(key(1), point(101, 110, 7.0)), Ok(Some(vec![7.0])));
        assert_eq!(staged.grown(key(1), point(101, 120, 8.0)), Ok(Some(vec![1.0])), "twice in one request");
        assert_eq!(staged.grown(key(2), point(0, 110, 7.0)), Ok(None), "nobody knows when it began");
    }

    #[test]
    fn what_was_not_handed_over_is_taken_again() {
        let mut streams = Streams::new(at(100));
        assert_eq!(streams.stage(at(200)).grown(key(1), point(101, 110, 7.0)), Ok(Some(vec![7.0])));
        assert_eq!(streams.stage(at(200)).grown(key(1), point(101, 110, 7.0)), Ok(Some(vec![7.0])));
    }

    #[test]
    fn streams_are_bounded_and_silent_ones_make_room() {
        let mut streams = Streams::new(at(100));
        let mut staged = streams.stage(at(200));
        for number in 0..STREAMS_MAX {
            staged.grown(key(number), point(101, 110, 1.0)).unwrap();
        }
        assert_eq!(staged.grown(key(STREAMS_MAX), point(101, 110, 1.0)), Err(TooManyStreams));
        assert_eq!(staged.grown(key(0), point(101, 120, 2.0)), Ok(Some(vec![1.0])), "those that are known go on");
        let changes = staged.finish();
        streams.commit(changes);
        let mut later = streams.stage(at(200 + 3601));
        assert_eq!(later.grown(key(0), point(101, 4000, 5.0)), Ok(None), "forgotten: not taken twice");
        assert!(later.grown(key(STREAMS_MAX), point(4000, 4001, 1.0)).is_ok());
    }
}
