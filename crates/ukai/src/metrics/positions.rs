//! Up to where each followed file was read, kept over restarts in `emf-positions.json`.
//!
//! An inode alone does not name a file: the next file often gets the number of one that was removed. So a position also
//! holds the hash of the file's first bytes, as far as they had been read.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const FILE: &str = "emf-positions.json";
/// The first line of a log, which holds a time, is no longer than this.
const HEAD_BYTES: usize = 256;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub device: u64,
    pub inode: u64,
    pub offset: u64,
    /// Inside a line that is too long.
    pub skipping: bool,
    head: String,
}

impl Position {
    /// Of a file that was not there: whatever comes is new.
    pub fn absent() -> Position {
        Position::default()
    }

    pub fn of(file: &File, offset: u64, skipping: bool) -> io::Result<Position> {
        let metadata = file.metadata()?;
        let head = head(file, offset)?;
        Ok(Position { device: metadata.dev(), inode: metadata.ino(), offset, skipping, head })
    }

    /// Whether this is the file, and still holds what was read of it.
    pub fn is_in(&self, file: &File) -> io::Result<bool> {
        let metadata = file.metadata()?;
        let same = metadata.dev() == self.device && metadata.ino() == self.inode && metadata.len() >= self.offset;
        Ok(same && head(file, self.offset)? == self.head)
    }
}

fn head(file: &File, offset: u64) -> io::Result<String> {
    let mut bytes = vec![0; HEAD_BYTES.min(usize::try_from(offset).unwrap_or(HEAD_BYTES))];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

#[derive(Debug)]
pub struct Positions {
    path: PathBuf,
    known: BTreeMap<PathBuf, Position>,
}

impl Positions {
    /// What cannot be read is told and begun anew: files are then followed from their ends.
    pub fn load(data_dir: &Path) -> Positions {
        let path = data_dir.join(FILE);
        let read = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        };
        let known = read.unwrap_or_else(|error| {
            tracing::error!("{} cannot be read: {error}; files are followed from their ends", path.display());
            BTreeMap::new()
        });
        Positions { path, known }
    }

    pub fn get(&self, file: &Path) -> Option<&Position> {
        self.known.get(file)
    }

    /// True: it changed.
    pub fn set(&mut self, file: &Path, position: Position) -> bool {
        self.known.insert(file.to_owned(), position.clone()) != Some(position)
    }

    /// What is no longer followed is forgotten.
    pub fn retain(&mut self, files: &[PathBuf]) {
        self.known.retain(|file, _| files.contains(file));
    }

    /// Whole or not at all.
    pub fn save(&self) -> io::Result<()> {
        let next = self.path.with_extension("json.next");
        let mut file = File::create(&next)?;
        file.write_all(&serde_json::to_vec(&self.known)?)?;
        file.sync_all()?;
        fs::rename(&next, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_what_is_damaged_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("app.log");
        fs::write(&log, "one\ntwo\n").unwrap();
        let position = Position::of(&File::open(&log).unwrap(), 4, false).unwrap();
        let mut positions = Positions::load(dir.path());
        assert!(positions.set(&log, position.clone()) && !positions.set(&log, position.clone()));
        positions.save().unwrap();
        let mut loaded = Positions::load(dir.path());
        assert_eq!(loaded.get(&log), Some(&position));
        loaded.retain(&[]);
        assert_eq!(loaded.get(&log), None);
        fs::write(dir.path().join(FILE), "{").unwrap();
        assert_eq!(Positions::load(dir.path()).get(&log), None);
    }

    #[test]
    fn another_file_in_the_same_place_is_not_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("app.log");
        fs::write(&log, "one\ntwo\n").unwrap();
        let position = Position::of(&File::open(&log).unwrap(), 4, false).unwrap();
        let is_in = || position.is_in(&File::open(&log).unwrap()).unwrap();
        fs::write(&log, "one\ntwo\nthree\n").unwrap();
        assert!(is_in(), "written on");
        fs::write(&log, "two\none\nthree\n").unwrap();
        assert!(!is_in(), "the same inode, other bytes");
        fs::write(&log, "one").unwrap();
        assert!(!is_in(), "shorter than what was read");
    }
}
