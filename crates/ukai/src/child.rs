//! Processes of this same program that outlive the controller: how they are started, and what they wrote.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Octets. A log that is longer is put aside at the next start.
const LOG_MAX: u64 = 1024 * 1024;
/// Octets of a log, shown when a process does not come up.
const LOG_TAIL: u64 = 2000;

/// This very program, also after its file was exchanged for a newer one.
pub fn program() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("the path of this program is not known")?;
    Ok(if program.exists() { program } else { PathBuf::from("/proc/self/exe") })
}

/// Its log, to append to.
pub fn open_log(log_file: &Path) -> io::Result<File> {
    if std::fs::metadata(log_file).is_ok_and(|metadata| metadata.len() > LOG_MAX) {
        std::fs::rename(log_file, log_file.with_extension("log.old"))?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(log_file)
}

/// The end of what was written since `from`.
pub fn tail(log_file: &Path, from: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log_file)?;
        let start = from.max(file.metadata()?.len().saturating_sub(LOG_TAIL));
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let Ok(bytes) = read() else { return "it wrote no log".to_owned() };
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim();
    if text.is_empty() { format!("see {}", log_file.display()) } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_log_that_has_grown_is_put_aside_and_only_its_end_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let log_file = dir.path().join("child.log");
        let mut log = open_log(&log_file).unwrap();
        log.write_all(&vec![b'x'; usize::try_from(LOG_MAX).unwrap()]).unwrap();
        open_log(&log_file).unwrap().write_all(b" the end").unwrap();
        let told = tail(&log_file, 0);
        assert!(told.ends_with("x the end") && told.len() <= usize::try_from(LOG_TAIL).unwrap(), "{}", told.len());
        assert_eq!(tail(&log_file, LOG_MAX), "the end");
        open_log(&log_file).unwrap();
        assert_eq!(std::fs::metadata(&log_file).unwrap().len(), 0);
        assert!(std::fs::metadata(dir.path().join("child.log.old")).unwrap().len() > LOG_MAX);
    }
}
