//! The data directory: one daemon at a time, nobody else's eyes.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

pub const LOCK_FILE: &str = "ukai.lock";

/// A directory that is ours until this value is dropped, or the process ends in whatever way.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// The lock is the open file description's (flock), so a killed process leaves none behind.
    _lock: File,
}

#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error(
        "another ukai{} runs on the data directory {}; stop it first, or give this one a data_dir of its own",
        pid.map(|pid| format!(" (process {pid})")).unwrap_or_default(), path.display()
    )]
    InUse { path: PathBuf, pid: Option<u32> },
    #[error(
        "the data directory {} cannot be written: {source}; make it writable for this user, or set data_dir to another",
        path.display()
    )]
    NotWritable { path: PathBuf, source: io::Error },
    #[error("the data directory {} is not a directory", path.display())]
    NotADirectory { path: PathBuf },
    #[error("the data directory {} cannot be opened: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl DataDir {
    /// Creates the directory (mode 0700) where it is missing, and locks it.
    pub fn open(path: &Path) -> Result<DataDir, DataDirError> {
        create(path)?;
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(LOCK_FILE))
            .map_err(|source| failed(path, source))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(DataDirError::InUse { path: path.into(), pid: written_pid(&mut lock) });
            }
            Err(errno) => return Err(failed(path, errno.into())),
        }
        write_pid(&mut lock).map_err(|source| failed(path, source))?;
        Ok(DataDir { path: path.into(), _lock: lock })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether a daemon holds the directory now, and its process id. For the offline commands.
pub fn holder(path: &Path) -> Option<u32> {
    let mut lock = OpenOptions::new().read(true).open(path.join(LOCK_FILE)).ok()?;
    match flock(&lock, FlockOperation::NonBlockingLockShared) {
        Err(rustix::io::Errno::WOULDBLOCK) => Some(written_pid(&mut lock).unwrap_or_default()),
        _ => None,
    }
}

fn create(path: &Path) -> Result<(), DataDirError> {
    if path.exists() && !path.is_dir() {
        return Err(DataDirError::NotADirectory { path: path.into() });
    }
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| failed(path, source))
}

fn failed(path: &Path, source: io::Error) -> DataDirError {
    match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            DataDirError::NotWritable { path: path.into(), source }
        }
        io::ErrorKind::NotADirectory => DataDirError::NotADirectory { path: path.into() },
        _ => DataDirError::Io { path: path.into(), source },
    }
}

fn write_pid(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

fn written_pid(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_new_directory_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let data = DataDir::open(&path).unwrap();
        assert_eq!(data.path(), path);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn the_second_daemon_is_refused_and_told_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(holder(dir.path()), None);
        let first = DataDir::open(dir.path()).unwrap();
        let refused = DataDir::open(dir.path()).unwrap_err().to_string();
        assert!(refused.contains(&std::process::id().to_string()), "{refused}");
        assert!(refused.contains(&dir.path().display().to_string()), "{refused}");
        assert_eq!(holder(dir.path()), Some(std::process::id()));
        drop(first);
        assert_eq!(holder(dir.path()), None);
        DataDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "").unwrap();
        assert!(matches!(DataDir::open(&path), Err(DataDirError::NotADirectory { .. })));
        assert!(matches!(DataDir::open(&path.join("below")), Err(DataDirError::NotADirectory { .. })));
    }

    /// sysfs refuses new directories to everybody, root included.
    #[test]
    fn a_read_only_place_is_refused_with_what_to_do() {
        let refused = DataDir::open(Path::new("/sys/ukai")).unwrap_err();
        assert!(matches!(refused, DataDirError::NotWritable { .. }), "{refused:?}");
        assert!(refused.to_string().contains("data_dir"), "{refused}");
    }
}
