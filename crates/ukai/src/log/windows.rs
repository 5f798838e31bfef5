//! Windows of metrics, kept so that a restart does not forget M of N: one row for each chunk of a series.
//!
//! What the last seconds before a kill added may be lost, and nothing else. A chunk carries its own version and checksum;
//! one that cannot be read is left out, and a damaged file is moved aside rather than refused: alarms then begin anew.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};
use ukai_core::metric::series::Resolution;
use ukai_core::metric::store::{DirtyChunk, ForgottenChunk};
use ukai_core::metric::{MetricId, Unit};

pub const WINDOWS_FILE: &str = "metrics.sqlite";

#[derive(Debug, thiserror::Error)]
#[error("the windows of metrics {} cannot be used: {source}", path.display())]
pub struct WindowsError {
    path: PathBuf,
    source: rusqlite::Error,
}

#[derive(Debug)]
pub struct Windows {
    db: Connection,
    path: PathBuf,
    /// Where a damaged file was moved to when this one was opened.
    pub moved_aside: Option<PathBuf>,
}

impl Windows {
    pub fn open(dir: &Path) -> Result<Windows, WindowsError> {
        let path = dir.join(WINDOWS_FILE);
        let opened = super::samples::open_or_move_aside(&path, connect);
        let (db, moved_aside) = opened.map_err(|source| WindowsError { path: path.clone(), source })?;
        Ok(Windows { db, path, moved_aside })
    }

    /// What changed first, then what is gone, as the store hands them over.
    pub fn keep(&mut self, changed: &[DirtyChunk], forgotten: &[ForgottenChunk]) -> Result<(), WindowsError> {
        let path = self.path.clone();
        keep(&mut self.db, changed, forgotten).map_err(|source| WindowsError { path, source })
    }

    /// Everything that can be read, and how many rows could not.
    pub fn read(&self) -> Result<(Vec<DirtyChunk>, usize), WindowsError> {
        read(&self.db).map_err(|source| WindowsError { path: self.path.clone(), source })
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open(path)?;
    db.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;
         CREATE TABLE IF NOT EXISTS metrics (id INTEGER PRIMARY KEY, metric TEXT NOT NULL UNIQUE) STRICT;
         CREATE TABLE IF NOT EXISTS chunks (
             metric INTEGER NOT NULL REFERENCES metrics (id), unit TEXT NOT NULL, resolution INTEGER NOT NULL,
             start_s INTEGER NOT NULL, bytes BLOB NOT NULL,
             PRIMARY KEY (metric, unit, resolution, start_s)
         ) STRICT, WITHOUT ROWID;",
    )?;
    super::samples::checked(db)
}

fn keep(db: &mut Connection, changed: &[DirtyChunk], forgotten: &[ForgottenChunk]) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    {
        let mut known =
            transaction.prepare_cached("INSERT INTO metrics (metric) VALUES (?1) ON CONFLICT DO NOTHING")?;
        let mut put = transaction.prepare_cached(
            "INSERT OR REPLACE INTO chunks (metric, unit, resolution, start_s, bytes)
             VALUES ((SELECT id FROM metrics WHERE metric = ?1), ?2, ?3, ?4, ?5)",
        )?;
        for chunk in changed {
            let metric = name(&chunk.metric)?;
            known.execute([&metric])?;
            put.execute(params![metric, chunk.unit.name(), chunk.resolution.seconds(), chunk.start_s, chunk.bytes])?;
        }
        let mut delete = transaction.prepare_cached(
            "DELETE FROM chunks WHERE metric = (SELECT id FROM metrics WHERE metric = ?1)
             AND unit = ?2 AND resolution = ?3 AND start_s = ?4",
        )?;
        let mut forget = transaction.prepare_cached(
            "DELETE FROM metrics WHERE metric = ?1 AND NOT EXISTS (SELECT 1 FROM chunks WHERE chunks.metric = metrics.id)",
        )?;
        for chunk in forgotten {
            let metric = name(&chunk.metric)?;
            delete.execute(params![metric, chunk.unit.name(), chunk.resolution.seconds(), chunk.start_s])?;
            // Names come and go with what they are made of; without this the file would only ever grow.
            forget.execute([&metric])?;
        }
    }
    transaction.commit()
}

fn read(db: &Connection) -> rusqlite::Result<(Vec<DirtyChunk>, usize)> {
    let mut statement = db.prepare(
        "SELECT metrics.metric, unit, resolution, start_s, bytes FROM chunks JOIN metrics ON metrics.id = chunks.metric",
    )?;
    let rows = statement.query_map([], |row| {
        let (metric, unit): (String, String) = (row.get(0)?, row.get(1)?);
        let (resolution, start_s): (i64, i64) = (row.get(2)?, row.get(3)?);
        let bytes: Vec<u8> = row.get(4)?;
        Ok(chunk(&metric, &unit, resolution, start_s, bytes))
    })?;
    let (mut chunks, mut unreadable) = (Vec::new(), 0);
    for row in rows {
        match row? {
            Some(chunk) => chunks.push(chunk),
            None => unreadable += 1,
        }
    }
    Ok((chunks, unreadable))
}

fn chunk(metric: &str, unit: &str, resolution: i64, start_s: i64, bytes: Vec<u8>) -> Option<DirtyChunk> {
    let metric: MetricId = serde_json::from_str(metric).ok()?;
    let unit: Unit = unit.parse().ok()?;
    Some(DirtyChunk { metric, unit, resolution: Resolution::from_seconds(resolution)?, start_s, bytes })
}

fn name(metric: &MetricId) -> rusqlite::Result<String> {
    serde_json::to_string(metric).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use ukai_core::metric::series::Datapoint;
    use ukai_core::metric::statistic::Statistic;
    use ukai_core::metric::store::Metrics;
    use ukai_core::metric::{Datum, Dimensions, Namespace};

    use super::*;

    fn metrics(values: &[(i64, f64)]) -> (Metrics, MetricId) {
        let mut metrics = Metrics::default();
        let namespace = Namespace::new("N").unwrap();
        for (second, value) in values {
            let at = Timestamp::from_second(*second).unwrap();
            let datum = Datum::single(&namespace, "m", Dimensions::default(), at, *value, Unit::Count).unwrap();
            metrics.put(Timestamp::from_second(1_800_000_100).unwrap(), datum).unwrap();
        }
        (metrics, MetricId::new(&namespace, "m", Dimensions::default()).unwrap())
    }

    #[test]
    fn what_was_kept_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let (mut before, metric) = metrics(&[(1_800_000_000, 1.0), (1_800_000_060, 2.5)]);
        let mut windows = Windows::open(dir.path()).unwrap();
        windows.keep(&before.take_dirty(100), &before.forgotten()).unwrap();
        drop(windows);
        let (chunks, unreadable) = Windows::open(dir.path()).unwrap().read().unwrap();
        assert_eq!(unreadable, 0);
        let mut after = Metrics::default();
        for chunk in chunks {
            after.restore_chunk(Timestamp::from_second(1_800_000_100).unwrap(), chunk).unwrap();
        }
        let mut points: Vec<Option<Datapoint>> = Vec::new();
        after.datapoints(&metric, None, &Statistic::Sum, 1_800_000_120, 60, 2, &mut points);
        let values: Vec<Option<f64>> = points.iter().map(|point| point.map(|point| point.value)).collect();
        assert_eq!(values, [Some(1.0), Some(2.5)]);
    }

    #[test]
    fn a_metric_that_is_forgotten_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (mut kept, _) = metrics(&[(1_800_000_000, 1.0)]);
        let mut windows = Windows::open(dir.path()).unwrap();
        windows.keep(&kept.take_dirty(100), &kept.forgotten()).unwrap();
        let names = |windows: &Windows| -> i64 {
            windows.db.query_row("SELECT count(*) FROM metrics", [], |row| row.get(0)).unwrap()
        };
        assert_eq!(names(&windows), 1);
        assert_eq!(kept.tend(Timestamp::from_second(1_800_000_000 + 15 * 86_400).unwrap()), 1);
        windows.keep(&kept.take_dirty(100), &kept.forgotten()).unwrap();
        assert_eq!((windows.read().unwrap().0.len(), names(&windows)), (0, 0));
    }

    #[test]
    fn damage_costs_the_windows_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(WINDOWS_FILE), "no database".repeat(1000)).unwrap();
        let windows = Windows::open(dir.path()).unwrap();
        assert!(windows.moved_aside.as_ref().is_some_and(|aside| aside.exists()));
        assert_eq!(windows.read().unwrap().0.len(), 0);
    }
}
