//! The archive itself: a gzipped tar that is the same for the same contents, written whole or not at all.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use flate2::{Compression, GzBuilder};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

/// A file of the archive: its name, and what it holds.
pub type Entry = (String, Vec<u8>);

/// Of what is unpacked. Everything that goes in is bounded by itself; this holds for all of it together.
pub const BYTES_MAX: usize = 64 * 1024 * 1024;

/// Writes the entries and a manifest below one directory of this name.
pub fn write(path: &Path, name: &str, at: Timestamp, mut entries: Vec<Entry>) -> io::Result<()> {
    entries.push(("MANIFEST.txt".to_owned(), manifest(&entries)));
    entries.sort();
    if entries.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the evidence is larger than an archive may be"));
    }
    let seconds = u64::try_from(at.as_second()).unwrap_or_default();
    let bytes = packed(name, seconds, &entries)?;
    let unfinished = path.with_extension("unfinished");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
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
    let mut lines: Vec<String> = entries
        .iter()
        .map(|(file, bytes)| {
            let hash: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{hash}  {file}\n")
        })
        .collect();
    lines.sort_by(|a, b| a[64..].cmp(&b[64..]));
    lines.concat().into_bytes()
}
