//! Files of embedded-metric-format lines, followed by looking again each second.
//!
//! A file that is there when it is first looked at is followed from its end; one that comes later, from its beginning.
//! After a restart it goes on where it stopped, also where the file was renamed meanwhile and lies beside. Rotation by
//! renaming is seen by another file in the same place: the old one is read to its end, and once more at the next look,
//! since its writer may still hold it. Rotation by truncation is seen by a file that is shorter than what was read of it;
//! one that has grown beyond that point between two looks cannot be told from a file that was written on.
//!
//! Positions are kept after the lines were handed over. A daemon that is stopped loses and repeats nothing; one that is
//! killed can lose what stood in the queue, or repeat the lines of one look.
//!
//! Lines without `_aws` are the application's other log lines, and are passed over.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use ukai_core::metric::datum::DATA_MAX;

use super::emf::{self, EmfError, LINE_BYTES};
use super::positions::{Position, Positions};
use super::{Full, Intake};

/// Alarms by the second need their data within seconds; a look costs a few system calls.
const LOOK: Duration = Duration::from_secs(1);
/// Of one file at one look. A file that has more is looked at again at once, after the others.
const BYTES_PER_LOOK: usize = 1024 * 1024;
/// Names in a directory that are looked through for a renamed file.
const SIBLINGS: usize = 1000;

/// Follows until the sender of the files is dropped.
pub async fn run(data_dir: PathBuf, mut files: watch::Receiver<Vec<PathBuf>>, intake: Intake) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let Ok(mut tail) = tokio::task::spawn_blocking(move || Tail::new(&data_dir)).await else { return };
    loop {
        tail.follow(&files.borrow_and_update());
        let looked = tokio::task::spawn_blocking(move || {
            let looked = tail.look();
            (tail, looked)
        });
        let Ok((returned, looked)) = looked.await else { return };
        tail = returned;
        let more = looked.iter().any(|looked| looked.more);
        for looked in looked {
            if take(looked, &mut tail, &intake).await.is_err() {
                return;
            }
        }
        let Ok(returned) = tokio::task::spawn_blocking(move || tail.save()).await else { return };
        tail = returned;
        tokio::select! {
            _ = ticks.tick(), if !more => {}
            () = tokio::task::yield_now(), if more => {}
            changed = files.changed() => if changed.is_err() { return },
        }
    }
}

async fn take(looked: Looked, tail: &mut Tail, intake: &Intake) -> Result<(), Full> {
    let source = format!("EMF file {}", looked.path.display());
    let mut data = Vec::new();
    for line in looked.lines {
        match line.map_or(Err(EmfError::TooLong), |line| emf::parse(&line, Timestamp::now())) {
            Ok(parsed) => data.extend(parsed),
            Err(EmfError::NotAnEvent) => {}
            Err(error) => intake.refuse(&source, 1, &error.to_string()),
        }
        if data.len() >= DATA_MAX {
            intake.put(&source, std::mem::take(&mut data)).await?;
        }
    }
    intake.put(&source, data).await?;
    if let Some(position) = looked.position {
        tail.changed |= tail.positions.set(&looked.path, position);
    }
    Ok(())
}

struct Tail {
    positions: Positions,
    followers: BTreeMap<PathBuf, Follower>,
    changed: bool,
    trouble: Option<String>,
}

/// What one look at one file brought.
struct Looked {
    path: PathBuf,
    /// None: one that is too long.
    lines: Vec<Option<Vec<u8>>>,
    position: Option<Position>,
    more: bool,
}

impl Tail {
    fn new(data_dir: &Path) -> Tail {
        let positions = Positions::load(data_dir);
        Tail { positions, followers: BTreeMap::new(), changed: false, trouble: None }
    }

    fn follow(&mut self, files: &[PathBuf]) {
        self.positions.retain(files);
        self.followers.retain(|path, _| files.contains(path));
        for file in files {
            let known = || self.positions.get(file).cloned();
            self.followers.entry(file.clone()).or_insert_with(|| Follower::new(file.clone(), known()));
        }
    }

    fn look(&mut self) -> Vec<Looked> {
        self.followers.values_mut().map(Follower::look).collect()
    }

    fn save(mut self) -> Tail {
        if !self.changed {
            return self;
        }
        match self.positions.save() {
            Ok(()) => (self.changed, self.trouble) = (false, None),
            Err(error) => {
                let sentence = error.to_string();
                if self.trouble.as_ref() != Some(&sentence) {
                    tracing::error!("the positions in EMF files cannot be kept: {sentence}");
                }
                self.trouble = Some(sentence);
            }
        }
        self
    }
}

struct Follower {
    path: PathBuf,
    /// Where to go on, before the file is open.
    known: Option<Position>,
    open: Option<Open>,
    trouble: Option<String>,
}

struct Open {
    file: File,
    offset: u64,
    skipping: bool,
    /// Another file was in its place at the look before.
    replaced: bool,
}

impl Follower {
    fn new(path: PathBuf, known: Option<Position>) -> Follower {
        Follower { path, known, open: None, trouble: None }
    }

    fn look(&mut self) -> Looked {
        let mut looked = Looked { path: self.path.clone(), lines: Vec::new(), position: None, more: false };
        let trouble = self.try_look(&mut looked).err().map(|error| error.to_string());
        if let Some(sentence) = trouble.as_ref().filter(|sentence| self.trouble.as_ref() != Some(sentence)) {
            tracing::warn!("the EMF file {} cannot be read now: {sentence}", self.path.display());
        }
        self.trouble = trouble;
        looked
    }

    fn try_look(&mut self, looked: &mut Looked) -> io::Result<()> {
        if self.open.is_none() {
            match self.find() {
                Ok(open) => self.open = Some(open),
                Err(error) => {
                    if error.kind() == io::ErrorKind::NotFound && self.known.is_none() {
                        self.known = Some(Position::absent());
                        looked.position = self.known.clone();
                    }
                    return Err(error);
                }
            }
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        let is_end = open.read(looked)?;
        looked.position = Some(Position::of(&open.file, open.offset, open.skipping)?);
        looked.more = !is_end;
        if is_end && is_replaced(&self.path, &open.file)? {
            if open.replaced {
                open.read_rest(looked)?;
                let next = Open::at(regular(&self.path)?, 0, false);
                looked.position = Some(Position::of(&next.file, 0, false)?);
                looked.more = true;
                self.open = Some(next);
            } else {
                open.replaced = true;
            }
        }
        Ok(())
    }

    fn find(&mut self) -> io::Result<Open> {
        let opened = regular(&self.path);
        let Some(known) = &self.known else { return Open::at_end(opened?) };
        if let Ok(file) = &opened
            && known.is_in(file)?
        {
            return Ok(Open::at(opened?, known.offset, known.skipping));
        }
        match renamed(&self.path, known) {
            Some(file) => Ok(Open::at(file, known.offset, known.skipping)),
            None => Ok(Open::at(opened?, 0, false)),
        }
    }
}

impl Open {
    fn at(file: File, offset: u64, skipping: bool) -> Open {
        Open { file, offset, skipping, replaced: false }
    }

    /// The rest of a line that is being written is no line.
    fn at_end(file: File) -> io::Result<Open> {
        let length = file.metadata()?.len();
        let mut last = [b'\n'];
        if let Some(before) = length.checked_sub(1) {
            file.read_at(&mut last, before)?;
        }
        Ok(Open::at(file, length, last != *b"\n"))
    }

    /// True: to the end, but for a line that is not finished.
    fn read(&mut self, looked: &mut Looked) -> io::Result<bool> {
        if self.file.metadata()?.len() < self.offset {
            tracing::info!("the EMF file {} was truncated; it is read from its beginning", looked.path.display());
            (self.offset, self.skipping) = (0, false);
        }
        let bytes = self.bytes()?;
        let mut rest = &bytes[..];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.line(&rest[..end], looked);
            rest = &rest[end + 1..];
        }
        self.offset += (bytes.len() - rest.len()) as u64;
        if self.skipping || rest.len() > LINE_BYTES {
            self.offset += rest.len() as u64;
            if !rest.is_empty() && !std::mem::replace(&mut self.skipping, true) {
                looked.lines.push(None);
            }
        }
        Ok(bytes.len() < BYTES_PER_LOOK)
    }

    /// The last line of a file that nobody writes any more needs no end.
    fn read_rest(&mut self, looked: &mut Looked) -> io::Result<()> {
        let bytes = self.bytes()?;
        if !bytes.is_empty() {
            self.line(&bytes, looked);
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8], looked: &mut Looked) {
        if !std::mem::replace(&mut self.skipping, false) {
            looked.lines.push(Some(line.to_vec()));
        }
    }

    fn bytes(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; BYTES_PER_LOOK];
        let mut filled = 0;
        while filled < bytes.len() {
            match self.file.read_at(&mut bytes[filled..], self.offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }
}

/// A named pipe would keep us waiting, and a directory has no lines.
fn regular(path: &Path) -> io::Result<File> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    File::open(path)
}

fn is_replaced(path: &Path, file: &File) -> io::Result<bool> {
    let ours = file.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) != (ours.dev(), ours.ino())),
        // Renamed, and nothing new yet: its writer may go on with it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The file that was read before, under the name that rotation gave it: `app.log.1`, `app.log-20260101`.
fn renamed(path: &Path, known: &Position) -> Option<File> {
    let name = path.file_name()?.to_str()?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut siblings = fs::read_dir(directory).ok()?.take(SIBLINGS).filter_map(Result::ok);
    siblings.find_map(|entry| {
        let is_sibling = entry.file_name().to_str().is_some_and(|sibling| sibling.starts_with(name));
        let is_it = || entry.metadata().is_ok_and(|metadata| metadata.ino() == known.inode && metadata.is_file());
        let file = (is_sibling && is_it()).then(|| File::open(entry.path()).ok())??;
        known.is_in(&file).unwrap_or(false).then_some(file)
    })
}

#[cfg(test)]
mod tests;
