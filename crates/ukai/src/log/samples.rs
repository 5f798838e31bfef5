//! Observations, kept for charts: one row per address probed, bounded by age and by number.
//!
//! Losing the last ones in a power failure is harmless, so they are not synced one by one, and a damaged file is moved
//! aside rather than refused.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use ukai_core::observe::{ErrorClass, Observation, Path as ProbePath, Stage, Timings};

pub const SAMPLES_FILE: &str = "samples.sqlite";
/// Two weeks: enough to compare an incident with the same hours of the week before.
pub const SAMPLE_AGE: Duration = Duration::from_secs(14 * 24 * 3600);
/// About 250 bytes each, so at most half a gigabyte.
pub const SAMPLES: u64 = 2_000_000;
/// Most samples that one chart reads.
pub const SAMPLES_READ: usize = 100_000;

/// One address at one time, or a resolution that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    pub at: Timestamp,
    pub endpoint: String,
    pub path: ProbePath,
    /// None: the name did not resolve.
    pub address: Option<IpAddr>,
    pub timings: Timings,
    pub failure: Option<(Stage, ErrorClass)>,
}

impl Sample {
    pub fn of(observation: &Observation) -> Vec<Sample> {
        let resolution = &observation.resolution;
        let sample = |address, timings, failure: Option<&ukai_core::observe::Failure>| Sample {
            at: observation.started_at,
            endpoint: observation.endpoint.clone(),
            path: observation.path,
            address,
            timings,
            failure: failure.map(|failure| (failure.stage, failure.class)),
        };
        if resolution.failure.is_some() || observation.results.is_empty() {
            let timings = Timings { resolve_us: Some(resolution.elapsed_us), ..Timings::default() };
            return vec![sample(None, timings, resolution.failure.as_ref())];
        }
        let of_result = |result: &ukai_core::observe::AddressResult| {
            let resolve_us = result.timings.resolve_us.or(Some(resolution.elapsed_us));
            sample(Some(result.address), Timings { resolve_us, ..result.timings }, result.failure.as_ref())
        };
        observation.results.iter().map(of_result).collect()
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the samples {} cannot be used: {source}", path.display())]
pub struct SamplesError {
    path: PathBuf,
    source: rusqlite::Error,
}

#[derive(Debug)]
pub struct Samples {
    db: Connection,
    path: PathBuf,
    /// Where a damaged file was moved to when this one was opened.
    pub moved_aside: Option<PathBuf>,
}

impl Samples {
    pub fn open(dir: &Path) -> Result<Samples, SamplesError> {
        let path = dir.join(SAMPLES_FILE);
        let opened = open_or_move_aside(&path, connect);
        let (db, moved_aside) = opened.map_err(|source| SamplesError { path: path.clone(), source })?;
        Ok(Samples { db, path, moved_aside })
    }

    pub fn add(&mut self, observations: &[Observation]) -> Result<(), SamplesError> {
        let path = self.path.clone();
        add(&mut self.db, observations).map_err(|source| SamplesError { path, source })
    }

    /// Samples of a peer from `from` (inclusive) to `to` (exclusive), in order of time, the latest [`SAMPLES_READ`].
    pub fn read(&self, peer: &str, from: Timestamp, to: Timestamp) -> Result<Vec<Sample>, SamplesError> {
        let failed = |source| SamplesError { path: self.path.clone(), source };
        let mut statement = self
            .db
            .prepare_cached(
                "SELECT json FROM samples WHERE peer = ?1 AND at_us >= ?2 AND at_us < ?3 ORDER BY at_us DESC, id DESC LIMIT ?4",
            )
            .map_err(failed)?;
        let parameters = params![peer, from.as_microsecond(), to.as_microsecond(), SAMPLES_READ as i64];
        let rows = statement.query_map(parameters, |row| row.get::<_, String>(0)).map_err(failed)?;
        let texts = rows.collect::<rusqlite::Result<Vec<String>>>().map_err(failed)?;
        Ok(texts.iter().rev().filter_map(|text| serde_json::from_str(text).ok()).collect())
    }

    /// Removes what is older than [`SAMPLE_AGE`] or beyond [`SAMPLES`]. Says how many.
    pub fn prune(&mut self, now: Timestamp) -> Result<u64, SamplesError> {
        self.prune_to(now, SAMPLES)
    }

    fn prune_to(&mut self, now: Timestamp, most: u64) -> Result<u64, SamplesError> {
        let oldest = now.as_microsecond().saturating_sub(SAMPLE_AGE.as_micros() as i64);
        let removed = self.db.execute("DELETE FROM samples WHERE at_us < ?1", [oldest]).and_then(|old| {
            let surplus = self.db.execute(
                "DELETE FROM samples WHERE id <= (SELECT id FROM samples ORDER BY id DESC LIMIT 1 OFFSET ?1)",
                [i64::try_from(most).unwrap_or(i64::MAX)],
            )?;
            Ok((old + surplus) as u64)
        });
        removed.map_err(|source| SamplesError { path: self.path.clone(), source })
    }
}

/// Opens what may be lost; where it is damaged, a new file takes its place, and the second is where the old one went.
pub(super) fn open_or_move_aside(
    path: &Path,
    connect: impl Fn(&Path) -> rusqlite::Result<Connection>,
) -> rusqlite::Result<(Connection, Option<PathBuf>)> {
    match connect(path) {
        Ok(db) => Ok((db, None)),
        Err(error) if is_damage(&error) => {
            let aside = path.with_extension("sqlite-damaged");
            // Best effort: where moving fails too, opening the new file fails with the reason.
            let _ = std::fs::rename(path, &aside);
            for log in ["sqlite-wal", "sqlite-shm"] {
                let _ = std::fs::remove_file(path.with_extension(log));
            }
            Ok((connect(path)?, Some(aside)))
        }
        Err(error) => Err(error),
    }
}

pub(super) fn checked(db: Connection) -> rusqlite::Result<Connection> {
    let quick: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if quick == "ok" { Ok(db) } else { Err(damage(quick)) }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    db.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;
         CREATE TABLE IF NOT EXISTS samples (
             id INTEGER PRIMARY KEY, peer TEXT NOT NULL, at_us INTEGER NOT NULL, json TEXT NOT NULL
         ) STRICT;
         CREATE INDEX IF NOT EXISTS samples_by_peer ON samples (peer, at_us);
         CREATE INDEX IF NOT EXISTS samples_by_age ON samples (at_us);",
    )?;
    checked(db)
}

fn add(db: &mut Connection, observations: &[Observation]) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    {
        let mut statement =
            transaction.prepare_cached("INSERT INTO samples (peer, at_us, json) VALUES (?1, ?2, ?3)")?;
        for observation in observations {
            for sample in Sample::of(observation) {
                let json = serde_json::to_string(&sample)
                    .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
                statement.execute(params![observation.peer, sample.at.as_microsecond(), json])?;
            }
        }
    }
    transaction.commit()
}

fn damage(detail: String) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), Some(detail))
}

fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_by_peer_and_time() {
        let dir = tempfile::tempdir().unwrap();
        let mut samples = Samples::open(dir.path()).unwrap();
        samples.add(&[observation("api", 1), observation("api", 2), observation("other", 2)]).unwrap();
        samples.add(&[observation("api", 3)]).unwrap();
        let read = samples.read("api", at(1), at(3)).unwrap();
        assert_eq!(read.iter().map(|sample| sample.at).collect::<Vec<_>>(), [at(1), at(2)]);
        assert_eq!(read[0].timings.connect_us, Some(12_000));
        assert_eq!(read[0].timings.resolve_us, Some(900));
        assert_eq!(read[0].failure, Some((Stage::Tls, ErrorClass::Expired)));
    }

    #[test]
    fn a_failed_resolution_is_one_sample() {
        let mut failed = observation("api", 1);
        failed.results.clear();
        let samples = Sample::of(&failed);
        assert_eq!(samples.len(), 1);
        assert_eq!((samples[0].address, samples[0].timings.resolve_us), (None, Some(900)));
    }

    #[test]
    fn age_and_number_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let mut samples = Samples::open(dir.path()).unwrap();
        let all: Vec<Observation> = (0..10).map(|second| observation("api", second)).collect();
        samples.add(&all).unwrap();
        let aged = at(3) + jiff::SignedDuration::try_from(SAMPLE_AGE).unwrap();
        assert_eq!(samples.prune(aged).unwrap(), 3);
        assert_eq!(samples.prune_to(at(9), 4).unwrap(), 3);
        let left = samples.read("api", at(0), at(100)).unwrap();
        assert_eq!(left.first().map(|sample| sample.at), Some(at(6)));
        assert_eq!(left.len(), 4);
    }

    #[test]
    fn a_damaged_file_is_moved_aside() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(SAMPLES_FILE), "no database".repeat(1000)).unwrap();
        let mut samples = Samples::open(dir.path()).unwrap();
        assert!(samples.moved_aside.as_ref().is_some_and(|aside| aside.exists()));
        samples.add(&[observation("api", 1)]).unwrap();
        assert_eq!(samples.read("api", at(0), at(2)).unwrap().len(), 1);
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn observation(peer: &str, second: i64) -> Observation {
        serde_json::from_value(serde_json::json!({
            "peer": peer, "endpoint": "https://api.peer.test/", "path": "normal", "started_at": at(second),
            "resolution": {"resolver": "udp://127.0.0.53:53", "addresses": ["192.0.2.1"], "addresses_total": 1, "elapsed_us": 900},
            "results": [{
                "address": "192.0.2.1", "port": 443, "timings": {"connect_us": 12_000},
                "failure": {"stage": "tls", "class": "expired", "detail": "expired"},
            }],
        }))
        .unwrap()
    }
}
