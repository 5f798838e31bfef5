//! The archive itself: a gzipped tar that is the same for the same contents, written whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use flate2::{Compression, GzBuilder};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// A file of the archive: its name, and what it holds.
pub type Entry = (String, Vec<u8>);

/// Of what is unpacked. Everything that goes in is bounded by itself; this holds for all of it together.
pub const BYTES_MAX: usize = 64 * 1024 * 1024;

/// Writes the entries and a manifest below one directory of this name; how many bytes the archive has.
///
/// # Errors
/// `AlreadyExists`: something is there already, and is not to be replaced. Whatever goes wrong, nothing half is left.
pub fn write(path: &Path, name: &str, at: Timestamp, mut entries: Vec<Entry>, replace: bool) -> io::Result<usize> {
    entries.push(("MANIFEST.txt".to_owned(), manifest(&entries)));
    entries.sort();
    if entries.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the evidence is larger than an archive may be"));
    }
    let seconds = u64::try_from(at.as_second()).unwrap_or_default();
    let bytes = packed(name, seconds, &entries)?;
    let unfinished = beside(path);
    // Nobody else's file is followed or written to, as in a directory that others may write.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    let placed = fill(file, &bytes).and_then(|()| place(&unfinished, path, replace));
    if placed.is_err() {
        // What could not be placed is of no use; that it was not placed is what is told.
        let _ = fs::remove_file(&unfinished);
    }
    placed.map(|()| bytes.len())
}

fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.unfinished", std::process::id()));
    path.with_file_name(name)
}

fn fill(mut file: File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()
}

fn place(unfinished: &Path, path: &Path, replace: bool) -> io::Result<()> {
    if replace {
        return fs::rename(unfinished, path);
    }
    // A link is made only where nothing is; a name that somebody takes meanwhile is not taken from him.
    match fs::hard_link(unfinished, path) {
        Ok(()) => fs::remove_file(unfinished),
        // A file system without links.
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists && !path.exists() => fs::rename(unfinished, path),
        Err(error) => Err(error),
    }
}

fn packed(name: &str, seconds: u64, entries: &[Entry]) -> io::Result<Vec<u8>> {
    let gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::default());
    let mut tar = tar::Builder::new(gzip);
    for (file, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(seconds);
        header.set_entry_type(tar::EntryType::Regular);
        tar.append_data(&mut header, format!("{name}/{file}"), bytes.as_slice())?;
    }
    tar.into_inner()?.finish()
}

/// As `sha256sum --check` reads it.
fn manifest(entries: &[Entry]) -> Vec<u8> {
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort();
    let lines = sorted.into_iter().map(|(file, bytes)| {
        let hash: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{hash}  {file}\n")
    });
    lines.collect::<String>().into_bytes()
}
