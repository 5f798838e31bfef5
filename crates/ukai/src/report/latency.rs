//! Time per stage over the incident, from the stored samples.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use ukai_core::observe::{Observation, Path, Stage, Timings};

/// Points of the chart; more would be less than a pixel apart.
const POINTS_MAX: usize = 240;

pub const STAGES: [Stage; 5] = [Stage::Resolve, Stage::Connect, Stage::Tls, Stage::Processing, Stage::Transfer];

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Latency {
    pub points: Vec<Point>,
}

/// The slowest that each stage was within one step of time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Point {
    pub at: Timestamp,
    /// In the order of [`STAGES`], microseconds. None: no probe got that far.
    pub stages_us: [Option<u64>; 5],
    pub probes: usize,
    pub failed: usize,
}

pub fn of(samples: &[Observation], peer: &str) -> Latency {
    let mut own: Vec<&Observation> =
        samples.iter().filter(|sample| sample.peer == peer && sample.path == Path::Normal).collect();
    own.sort_by_key(|sample| sample.started_at);
    let (Some(first), Some(last)) = (own.first(), own.last()) else {
        return Latency::default();
    };
    let start = first.started_at.as_millisecond();
    let width = last.started_at.as_millisecond() - start;
    let step = (width / POINTS_MAX as i64 + 1).max(1);
    let mut points: BTreeMap<i64, Point> = BTreeMap::new();
    for sample in own {
        let slot = (sample.started_at.as_millisecond() - start) / step;
        let point = points.entry(slot).or_insert_with(|| Point {
            at: sample.started_at,
            stages_us: [None; 5],
            probes: 0,
            failed: 0,
        });
        point.take(sample);
    }
    Latency { points: points.into_values().collect() }
}

impl Point {
    fn take(&mut self, sample: &Observation) {
        self.probes += 1;
        self.failed += usize::from(sample.any_failed());
        self.slower(0, (sample.resolution.elapsed_us > 0).then_some(sample.resolution.elapsed_us));
        for result in &sample.results {
            let Timings { resolve_us: _, connect_us, tls_us, processing_us, transfer_us } = result.timings;
            for (stage, time) in [connect_us, tls_us, processing_us, transfer_us].into_iter().enumerate() {
                self.slower(stage + 1, time);
            }
        }
    }

    fn slower(&mut self, stage: usize, time: Option<u64>) {
        if let Some(slot) = self.stages_us.get_mut(stage) {
            *slot = (*slot).max(time);
        }
    }
}
