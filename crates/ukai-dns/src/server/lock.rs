//! One server per state directory.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

const FILE: &str = "dns.lock";

/// Held until dropped, and by the kernel no longer than the process lives.
pub(crate) struct Lock {
    _file: File,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("another DNS server already runs on {dir}")]
    Held { dir: String },
    #[error("cannot lock {path}: {cause}")]
    Io { path: String, cause: io::Error },
}

impl Lock {
    pub fn take(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join(FILE);
        let fail = |cause| LockError::Io { path: path.display().to_string(), cause };
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(fail)?;
        match file.try_lock() {
            Ok(()) => Ok(Self { _file: file }),
            Err(TryLockError::WouldBlock) => Err(LockError::Held { dir: dir.display().to_string() }),
            Err(TryLockError::Error(cause)) => Err(fail(cause)),
        }
    }
}
