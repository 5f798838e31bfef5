//! All metrics that are kept.
//!
//! Bounded thrice: so many metrics ([`SERIES_MAX`]), so many buckets and seconds for each ([`super::series`]), and so many
//! bytes in all ([`BYTES_MAX`]). A new metric beyond the first bound is refused; the others go on. When bytes run out, the
//! metrics that have been silent longest lose the older half of what they keep, then the next longest, until an eighth is
//! free; [`Metrics::take_shortened`] says how many. A metric that has been silent for two weeks is forgotten.
//!
//! Persistence is by chunk: [`Metrics::take_dirty`] gives those that changed, [`Metrics::forgotten`] those to delete,
//! [`Metrics::restore_chunk`] takes them back, in any order. Of a chunk and a head from different moments the chunk is right
//! for its time, so a crash between two writes neither loses nor repeats a sample that was written.

use std::collections::VecDeque;
use std::hash::{BuildHasherDefault, DefaultHasher};

use indexmap::IndexMap;
use jiff::Timestamp;

use super::datum::{Datum, DatumError};
use super::identity::{MetricId, Namespace};
use super::samples::Samples;
use super::series::{ChunkError, Datapoint, Resolution, Series};
use super::statistic::Statistic;
use super::unit::Unit;

/// Metrics that are kept: one for each of a million alarms.
pub const SERIES_MAX: usize = 1_000_000;
/// Bytes of all metrics: 50,000 of them with a day of 10 s latencies.
pub const BYTES_MAX: usize = 1 << 30;
/// Seconds of silence after which a metric is forgotten (CloudWatch no longer lists it then).
pub const SILENT_MAX: i64 = 14 * 24 * 3600;
/// Chunks to delete that are remembered. Beyond it they stay in storage, where the age limit of a restore ignores them.
pub const FORGOTTEN_MAX: usize = 1_000_000;
/// Wishes to keep metrics longer, for metrics that may not exist yet: several for each possible metric make no sense.
pub const WISHES_MAX: usize = SERIES_MAX;

type Hasher = BuildHasherDefault<DefaultHasher>;

#[derive(Debug, Clone)]
pub struct Metrics {
    series: IndexMap<MetricId, Series, Hasher>,
    limits: Limits,
    bytes: usize,
    wishes: IndexMap<MetricId, i64, Hasher>,
    /// Places of series that may have changed parts; a place may be stale.
    dirty: VecDeque<u32>,
    forgotten: Vec<ForgottenChunk>,
    shortened: Option<Shortened>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub series: usize,
    pub bytes: usize,
}

/// A changed part of a metric, for storage under the key of its first five fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirtyChunk {
    pub metric: MetricId,
    pub unit: Unit,
    pub resolution: Resolution,
    /// The time of its first bucket, or [`super::series::HEAD`].
    pub start_s: i64,
    pub bytes: Vec<u8>,
}

/// The key of a stored part that is to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgottenChunk {
    pub metric: MetricId,
    pub unit: Unit,
    pub resolution: Resolution,
    pub start_s: i64,
}

/// What lost samples because bytes ran out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortened {
    pub metrics: usize,
    pub bytes: usize,
    /// The one that had been silent longest.
    pub first: MetricId,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PutError {
    #[error(transparent)]
    Datum(#[from] DatumError),
    #[error(
        "the metric {metric} is not taken: {most} metrics are kept already; publish fewer combinations of dimensions"
    )]
    TooManyMetrics { metric: Box<MetricId>, most: usize },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    #[error(transparent)]
    Chunk(#[from] ChunkError),
    #[error("the stored metric {metric} is not taken: {most} metrics are kept already")]
    TooManyMetrics { metric: Box<MetricId>, most: usize },
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::with_limits(Limits { series: SERIES_MAX, bytes: BYTES_MAX })
    }
}

impl Metrics {
    pub fn with_limits(limits: Limits) -> Metrics {
        Metrics {
            series: IndexMap::default(),
            limits,
            bytes: 0,
            wishes: IndexMap::default(),
            dirty: VecDeque::new(),
            forgotten: Vec::new(),
            shortened: None,
        }
    }

    /// Of a datum that is older than its metric is kept only the metric's name is kept.
    pub fn put(&mut self, now: Timestamp, datum: Datum) -> Result<(), PutError> {
        datum.check_time(now)?;
        datum.value.check()?;
        let (now_s, at_s) = (floor_seconds(now), floor_seconds(datum.at));
        let resolution = Resolution::of(datum.high_resolution);
        let place = match self.series.get_index_of(&datum.metric) {
            Some(place) => place,
            None => self.add(datum.metric)?,
        };
        let series = &mut self.series[place];
        if !series.queued {
            series.queued = true;
            self.dirty.push_back(place as u32);
        }
        let before = series.heap();
        if series.put(now_s, at_s, datum.unit, resolution, &datum.value) {
            let after = series.count_heap();
            self.bytes = (self.bytes + after).saturating_sub(before);
            if self.bytes > self.limits.bytes {
                self.shorten();
            }
        }
        Ok(())
    }

    /// Keeps at least so many seconds of a metric, which may come later. At most [`super::series::KEPT_MAX`].
    pub fn keep(&mut self, metric: &MetricId, seconds: i64) {
        if let Some(series) = self.series.get_mut(metric) {
            series.keep(seconds);
        }
        if let Some(wish) = self.wishes.get_mut(metric) {
            *wish = seconds.max(*wish);
        } else if self.wishes.len() < WISHES_MAX {
            self.wishes.insert(metric.clone(), seconds);
        }
    }

    /// The samples of each period, oldest first, in half-open periods of which the last ends at `end_s`. Without a unit: of
    /// the first unit of [`super::series::UNIT_ORDER`] that has data. Empty if the periods make no sense.
    pub fn window(
        &self,
        metric: &MetricId,
        unit: Option<Unit>,
        end_s: i64,
        period_s: i64,
        periods: usize,
        out: &mut Vec<Option<Samples>>,
    ) {
        self.series.get(metric).unwrap_or(&Series::default()).window(unit, end_s, period_s, periods, out);
    }

    /// As [`Metrics::window`], of one statistic.
    #[expect(clippy::too_many_arguments, reason = "it is the read of GetMetricStatistics, which has as many")]
    pub fn datapoints(
        &self,
        metric: &MetricId,
        unit: Option<Unit>,
        statistic: &Statistic,
        end_s: i64,
        period_s: i64,
        periods: usize,
        out: &mut Vec<Option<Datapoint>>,
    ) {
        let series = self.series.get(metric);
        series.unwrap_or(&Series::default()).datapoints(unit, statistic, end_s, period_s, periods, out);
    }

    pub fn list(&self, namespace: Option<&Namespace>) -> impl Iterator<Item = &MetricId> {
        self.series.keys().filter(move |metric| namespace.is_none_or(|namespace| metric.namespace == *namespace))
    }

    pub fn units_of(&self, metric: &MetricId) -> Vec<Unit> {
        self.series.get(metric).map(|series| series.units().collect()).unwrap_or_default()
    }

    /// The beginning of its newest second or minute.
    pub fn latest(&self, metric: &MetricId) -> Option<Timestamp> {
        Timestamp::from_second(self.series.get(metric)?.latest()?).ok()
    }

    pub fn len(&self) -> usize {
        self.series.len()
    }

    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    /// Bytes of all metrics: names, windows and the room between them; not what the allocator adds.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Once in a while: drops what is older than is kept, and forgets metrics that have been silent for two weeks. Says
    /// how many were forgotten.
    pub fn tend(&mut self, now: Timestamp) -> usize {
        let now_s = floor_seconds(now);
        let mut forgotten = 0;
        // From the end, because a removal moves the last one into the gap.
        for place in (0..self.series.len()).rev() {
            let series = &mut self.series[place];
            if series.latest().is_none_or(|latest| latest < now_s.saturating_sub(SILENT_MAX)) {
                self.remove(place);
                forgotten += 1;
                continue;
            }
            let before = series.heap();
            series.trim(now_s);
            self.bytes = (self.bytes + series.count_heap()).saturating_sub(before);
            self.queue(place);
        }
        forgotten
    }

    /// Parts that changed since they were last taken, at most `most`; the rest comes next time.
    pub fn take_dirty(&mut self, most: usize) -> Vec<DirtyChunk> {
        let mut taken = Vec::new();
        while taken.len() < most
            && let Some(place) = self.dirty.front().map(|place| *place as usize)
        {
            let Some((metric, series)) = self.series.get_index_mut(place) else {
                self.dirty.pop_front();
                continue;
            };
            match series.take_dirty() {
                Some((unit, resolution, start_s, bytes)) => {
                    taken.push(DirtyChunk { metric: metric.clone(), unit, resolution, start_s, bytes });
                }
                None => {
                    let room = FORGOTTEN_MAX.saturating_sub(self.forgotten.len());
                    for (unit, resolution, start_s) in series.take_gone().into_iter().take(room) {
                        self.forgotten.push(ForgottenChunk { metric: metric.clone(), unit, resolution, start_s });
                    }
                    series.queued = false;
                    self.dirty.pop_front();
                }
            }
        }
        taken
    }

    /// Stored parts to delete, after what [`Metrics::take_dirty`] gave is stored.
    pub fn forgotten(&mut self) -> Vec<ForgottenChunk> {
        std::mem::take(&mut self.forgotten)
    }

    /// Takes back a stored part. One that is older than what is kept is dropped, so [`Metrics::keep`] comes first.
    pub fn restore_chunk(&mut self, now: Timestamp, chunk: DirtyChunk) -> Result<(), RestoreError> {
        let place = match self.series.get_index_of(&chunk.metric) {
            Some(place) => place,
            None => self.add(chunk.metric).map_err(|refused| match refused {
                PutError::TooManyMetrics { metric, most } => RestoreError::TooManyMetrics { metric, most },
                PutError::Datum(_) => RestoreError::Chunk(ChunkError::Contents),
            })?,
        };
        let series = &mut self.series[place];
        let before = series.heap();
        let restored = series.restore(chunk.unit, chunk.resolution, chunk.start_s, &chunk.bytes);
        series.trim(floor_seconds(now));
        self.bytes = (self.bytes + series.count_heap()).saturating_sub(before);
        self.queue(place);
        if self.bytes > self.limits.bytes {
            self.shorten();
        }
        Ok(restored?)
    }

    /// What lost samples since the last call because bytes ran out.
    pub fn take_shortened(&mut self) -> Option<Shortened> {
        self.shortened.take()
    }

    fn add(&mut self, metric: MetricId) -> Result<usize, PutError> {
        if self.series.len() >= self.limits.series {
            return Err(PutError::TooManyMetrics { metric: Box::new(metric), most: self.limits.series });
        }
        let mut series = Series::default();
        if let Some(seconds) = self.wishes.get(&metric) {
            series.keep(*seconds);
        }
        self.bytes += entry_bytes(&metric);
        Ok(self.series.insert_full(metric, series).0)
    }

    fn queue(&mut self, place: usize) {
        let series = &mut self.series[place];
        if !series.queued && series.is_dirty() {
            series.queued = true;
            self.dirty.push_back(place as u32);
        }
    }

    fn remove(&mut self, place: usize) {
        let Some((metric, series)) = self.series.swap_remove_index(place) else { return };
        self.bytes = self.bytes.saturating_sub(entry_bytes(&metric) + series.heap());
        for (unit, resolution, start_s) in series.stored() {
            if self.forgotten.len() < FORGOTTEN_MAX {
                self.forgotten.push(ForgottenChunk { metric: metric.clone(), unit, resolution, start_s });
            }
        }
        // The last one has moved here.
        if self.series.get_index(place).is_some_and(|(_, moved)| moved.queued) {
            self.dirty.push_back(place as u32);
        }
    }

    /// Until an eighth is free: the longest silent lose the older half of what they keep.
    fn shorten(&mut self) {
        let goal = self.limits.bytes / 8 * 7;
        let before = self.bytes;
        let mut silent: Vec<(i64, usize)> = self
            .series
            .values()
            .enumerate()
            .map(|(place, series)| (series.latest().unwrap_or(i64::MIN), place))
            .collect();
        silent.sort_unstable();
        let Some(first) = silent.first().and_then(|(_, place)| self.series.get_index(*place)).map(|(id, _)| id.clone())
        else {
            return;
        };
        let mut metrics = 0;
        while self.bytes > goal {
            let mut left = false;
            for (_, place) in &silent {
                if self.bytes <= goal {
                    break;
                }
                let series = &mut self.series[*place];
                let held = series.heap();
                left |= series.shorten();
                self.bytes = (self.bytes + series.count_heap()).saturating_sub(held);
                metrics += 1;
                self.queue(*place);
            }
            if !left {
                break;
            }
        }
        let bytes = before.saturating_sub(self.bytes);
        match &mut self.shortened {
            Some(told) => (told.metrics, told.bytes) = (told.metrics + metrics, told.bytes + bytes),
            None => self.shortened = Some(Shortened { metrics, bytes, first }),
        }
    }
}

fn floor_seconds(at: Timestamp) -> i64 {
    at.as_second() - i64::from(at.subsec_nanosecond() < 0)
}

/// Bytes of a metric's name and of its place in the table.
fn entry_bytes(metric: &MetricId) -> usize {
    let table = size_of::<MetricId>() + size_of::<Series>() + 3 * size_of::<usize>();
    table + metric.namespace.as_str().len() + metric.metric_name.len() + metric.dimensions.heap_bytes()
}

#[cfg(test)]
mod tests;
