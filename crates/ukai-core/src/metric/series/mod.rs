//! One metric's window of samples: compressed, and bounded in time and in bytes.
//!
//! Samples are kept by the second (`StorageResolution` 1) or by the minute (60), in a stream for each unit. A bucket is the
//! samples of one such second or minute; reading puts together the buckets that begin in a period. Reading without a unit
//! reads *one* unit: recorded AWS answers never mix units, but take the first that has data in an order of their own
//! ([`UNIT_ORDER`], as the authors of those recordings observed it).

mod bytes;
mod chunk;
mod stream;
mod values;

pub use chunk::ChunkError;
pub use stream::BUCKETS_MAX;

use super::datum::DatumValue;
use super::samples::Samples;
use super::statistic::Statistic;
use super::unit::Unit;
use stream::{Simple, Stream};

/// Seconds that every metric is kept: a day, and an hour for what comes late.
pub const KEPT_DEFAULT: i64 = 25 * 3600;
/// Seconds that an alarm may ask for: its longest evaluation range is three periods of a week, and in a window of the wall
/// clock the newest of them may have ended almost a week ago.
pub const KEPT_MAX: i64 = 29 * 24 * 3600;
/// The key of the head in storage, where chunks have the time of their first bucket.
pub const HEAD: i64 = i64::MAX;
/// Datapoints of one read (`GetMetricData` gives as many).
pub const PERIODS_MAX: usize = 100_800;
/// Which unit a read without a unit takes, if several have data.
pub const UNIT_ORDER: [Unit; 27] = [
    Unit::Megabits,
    Unit::Terabits,
    Unit::Gigabits,
    Unit::Count,
    Unit::Bytes,
    Unit::Gigabytes,
    Unit::GigabytesPerSecond,
    Unit::Kilobytes,
    Unit::KilobitsPerSecond,
    Unit::Terabytes,
    Unit::TerabitsPerSecond,
    Unit::BytesPerSecond,
    Unit::Percent,
    Unit::Megabytes,
    Unit::MegabitsPerSecond,
    Unit::Milliseconds,
    Unit::Microseconds,
    Unit::KilobytesPerSecond,
    Unit::GigabitsPerSecond,
    Unit::MegabytesPerSecond,
    Unit::Bits,
    Unit::BitsPerSecond,
    Unit::CountPerSecond,
    Unit::Seconds,
    Unit::Kilobits,
    Unit::TerabytesPerSecond,
    Unit::None,
];

/// `StorageResolution`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resolution {
    Second,
    Minute,
}

/// What a period comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Datapoint {
    pub value: f64,
    pub sample_count: f64,
}

/// Half-open periods of equal length, one after the other.
#[derive(Debug, Clone, Copy)]
struct Periods {
    start: i64,
    end: i64,
    length: i64,
}

#[derive(Debug, Clone)]
pub struct Series {
    streams: Vec<Stream>,
    kept: i64,
    latest: i64,
    /// Heap bytes when they were last counted.
    heap: usize,
    /// Waits to be asked for its changed parts.
    pub(crate) queued: bool,
}

impl Default for Series {
    fn default() -> Series {
        Series { streams: Vec::new(), kept: KEPT_DEFAULT, latest: i64::MIN, heap: 0, queued: false }
    }
}

impl Resolution {
    pub fn of(high: bool) -> Resolution {
        if high { Resolution::Second } else { Resolution::Minute }
    }

    pub fn from_seconds(seconds: i64) -> Option<Resolution> {
        match seconds {
            1 => Some(Resolution::Second),
            60 => Some(Resolution::Minute),
            _ => None,
        }
    }

    pub fn seconds(self) -> i64 {
        match self {
            Resolution::Second => 1,
            Resolution::Minute => 60,
        }
    }
}

impl Series {
    /// Keeps at least so many seconds, at most [`KEPT_MAX`].
    pub fn keep(&mut self, seconds: i64) {
        self.kept = self.kept.max(seconds.min(KEPT_MAX));
    }

    /// The checked value goes into the bucket of its time, unless that is older than what is kept. Says whether the bytes
    /// may have changed.
    pub fn put(&mut self, now_s: i64, at_s: i64, unit: Unit, resolution: Resolution, value: &DatumValue) -> bool {
        let at = at_s.div_euclid(resolution.seconds()) * resolution.seconds();
        let cutoff = now_s.saturating_sub(self.kept);
        self.latest = self.latest.max(at);
        if at < cutoff {
            return false;
        }
        let known = self.streams.iter_mut().find(|stream| stream.unit == unit && stream.resolution == resolution);
        if let Some(stream) = known {
            let changed = stream.put(at, value);
            if changed {
                stream.trim(cutoff);
            }
            return changed;
        }
        let mut stream = Stream::new(unit, resolution);
        stream.put(at, value);
        self.streams.reserve_exact(1);
        self.streams.push(stream);
        true
    }

    /// The beginning of the newest bucket ever put, in seconds since 1970.
    pub fn latest(&self) -> Option<i64> {
        (self.latest != i64::MIN).then_some(self.latest)
    }

    pub fn units(&self) -> impl Iterator<Item = Unit> {
        UNIT_ORDER
            .into_iter()
            .filter(|unit| self.streams.iter().any(|stream| stream.unit == *unit && !stream.is_empty()))
    }

    /// Bytes on the heap when they were last counted.
    pub(crate) fn heap(&self) -> usize {
        self.heap
    }

    pub(crate) fn count_heap(&mut self) -> usize {
        let streams: usize = self.streams.iter().map(Stream::heap_bytes).sum();
        self.heap = streams + self.streams.capacity() * size_of::<Stream>();
        self.heap
    }

    /// The samples of each period, oldest first; the last period ends at `end_s`.
    pub fn window(
        &self,
        unit: Option<Unit>,
        end_s: i64,
        period_s: i64,
        periods: usize,
        out: &mut Vec<Option<Samples>>,
    ) {
        out.clear();
        let Some(range) = Periods::new(end_s, period_s, periods) else { return };
        out.resize(periods, None);
        self.each_unit(unit, |series, unit| {
            let mut found = false;
            for stream in series.streams.iter().filter(|stream| stream.unit == unit) {
                stream.walk(range.start, range.end, |at, seen| {
                    found = true;
                    let Some(more) = seen.samples() else { return };
                    match &mut out[range.place(at)] {
                        Some(samples) => samples.merge(&more),
                        empty => *empty = Some(more),
                    }
                });
            }
            found
        });
    }

    /// A statistic of each period, oldest first; the last period ends at `end_s`. The five simple statistics of a unit that
    /// has one resolution are read without allocating.
    pub fn datapoints(
        &self,
        unit: Option<Unit>,
        statistic: &Statistic,
        end_s: i64,
        period_s: i64,
        periods: usize,
        out: &mut Vec<Option<Datapoint>>,
    ) {
        out.clear();
        let Some(range) = Periods::new(end_s, period_s, periods) else { return };
        let mixed = self.streams.iter().any(|stream| stream.resolution != self.streams[0].resolution);
        if mixed || statistic.is_extended() {
            let mut samples = Vec::new();
            self.window(unit, end_s, period_s, periods, &mut samples);
            out.extend(samples.iter().map(|samples| {
                let samples = samples.as_ref()?;
                Some(Datapoint { value: samples.statistic(statistic)?, sample_count: samples.count() })
            }));
            return;
        }
        out.resize(periods, None);
        self.each_unit(unit, |series, unit| {
            series.streams.iter().any(|stream| stream.unit == unit && read_simple(stream, statistic, range, out))
        });
    }

    /// Calls for the asked unit, or for one after the other until one has data.
    fn each_unit(&self, unit: Option<Unit>, mut call: impl FnMut(&Series, Unit) -> bool) {
        match (unit, self.streams.as_slice()) {
            (Some(unit), _) => _ = call(self, unit),
            (None, [only]) => _ = call(self, only.unit),
            (None, _) => _ = self.units().any(|unit| call(self, unit)),
        }
    }

    pub(crate) fn trim(&mut self, now_s: i64) {
        let cutoff = now_s.saturating_sub(self.kept);
        self.streams.iter_mut().for_each(|stream| stream.trim(cutoff));
    }

    /// Gives memory back; whether anything is left.
    pub(crate) fn shorten(&mut self) -> bool {
        self.streams.iter_mut().for_each(Stream::shorten);
        self.streams.iter().any(|stream| !stream.is_empty())
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.streams.iter().any(Stream::is_dirty)
    }

    pub(crate) fn take_dirty(&mut self) -> Option<(Unit, Resolution, i64, Vec<u8>)> {
        self.streams
            .iter_mut()
            .find_map(|stream| stream.take_dirty().map(|(start, bytes)| (stream.unit, stream.resolution, start, bytes)))
    }

    pub(crate) fn take_gone(&mut self) -> Vec<(Unit, Resolution, i64)> {
        let of = |stream: &mut Stream| {
            stream.take_gone().into_iter().map(|start| (stream.unit, stream.resolution, start)).collect::<Vec<_>>()
        };
        self.streams.iter_mut().flat_map(of).collect()
    }

    pub(crate) fn stored(&self) -> Vec<(Unit, Resolution, i64)> {
        let of =
            |stream: &Stream| stream.stored().map(|start| (stream.unit, stream.resolution, start)).collect::<Vec<_>>();
        self.streams.iter().flat_map(of).collect()
    }

    pub(crate) fn restore(
        &mut self,
        unit: Unit,
        resolution: Resolution,
        start_s: i64,
        sealed: &[u8],
    ) -> Result<(), ChunkError> {
        let known = self.streams.iter().position(|stream| stream.unit == unit && stream.resolution == resolution);
        let place = known.unwrap_or_else(|| {
            self.streams.push(Stream::new(unit, resolution));
            self.streams.len() - 1
        });
        let restored = self.streams[place].restore(start_s, sealed);
        self.latest = self.latest.max(self.streams[place].latest().unwrap_or(i64::MIN));
        restored
    }
}

impl Periods {
    /// None if the periods make no sense: no length, too many, or beyond all time.
    fn new(end: i64, length: i64, count: usize) -> Option<Periods> {
        if length <= 0 || count > PERIODS_MAX {
            return None;
        }
        let start = end.checked_sub(length.checked_mul(i64::try_from(count).ok()?)?)?;
        Some(Periods { start, end, length })
    }

    fn place(self, at: i64) -> usize {
        ((at - self.start) / self.length) as usize
    }
}

fn read_simple(stream: &Stream, statistic: &Statistic, range: Periods, out: &mut [Option<Datapoint>]) -> bool {
    let mut open: Option<(usize, Simple)> = None;
    let mut found = false;
    stream.walk(range.start, range.end, |at, seen| {
        let place = range.place(at);
        match &mut open {
            Some((current, simple)) if *current == place => simple.merge(seen.simple()),
            _ => {
                found = true;
                if let Some((current, simple)) = open.replace((place, seen.simple())) {
                    out[current] = simple.datapoint(statistic);
                }
            }
        }
    });
    if let Some((current, simple)) = open {
        out[current] = simple.datapoint(statistic);
    }
    found
}

impl Simple {
    fn datapoint(&self, statistic: &Statistic) -> Option<Datapoint> {
        let value = match statistic {
            Statistic::SampleCount => self.count,
            Statistic::Sum => self.sum.high,
            Statistic::Average => self.sum.high / self.count,
            Statistic::Minimum => self.minimum,
            Statistic::Maximum => self.maximum,
            _ => return None,
        };
        Some(Datapoint { value, sample_count: self.count })
    }
}

#[cfg(test)]
pub(crate) fn sealed(bytes: &[u8]) -> Vec<u8> {
    chunk::seal(bytes)
}
