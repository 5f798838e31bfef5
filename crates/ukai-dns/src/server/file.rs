//! Overrides that a file gives: one record a line, `NAME TTL TYPE ADDRESS`, as in a zone file.
//!
//! The file is watched. Whoever changes it best writes a new one beside it and renames it, which a crash cannot leave half done;
//! one that is written in place is read when its writer has closed it, and nobody else has begun to write meanwhile.
//! A file that cannot be understood, or does not end with its last line, changes nothing: what was served goes on. A file that
//! is gone gives no overrides.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify;
use rustix::time::Timespec;

use super::lease::{MAX_ADDRESSES, MAX_TTL};
use crate::name::Name;

/// 100,000 names with two addresses each take less than half of it.
const MAX_FILE: u64 = 32 * 1024 * 1024;
/// In a volume of a ConfigMap every file is a link through this one, which is exchanged.
const KUBERNETES_DATA: &[u8] = b"..data";
/// How long the watching thread sleeps before it looks whether it is to end.
const LOOK_AT_STOP: Duration = Duration::from_millis(200);

/// Looks at a file that changes while it is read, before whoever else waits has his turn.
const READ_AGAIN: usize = 16;
/// How long what is less than before stands before it is believed, where a file is written in place.
const SETTLE: Duration = Duration::from_millis(250);

/// A name whose addresses a file gives. A family without addresses is answered with NODATA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileOverride {
    pub name: Name,
    pub ttl: u32,
    pub a: Vec<Ipv4Addr>,
    pub aaaa: Vec<Ipv6Addr>,
}

/// Why the overrides of a file cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot read the overrides in {path}: {cause}")]
    Read { path: String, cause: io::Error },
    #[error(
        "{path}, line {line}: {cause}; a line is NAME TTL A|AAAA ADDRESS, such as: api.peer.example 10 A 192.0.2.10"
    )]
    Line { path: String, line: usize, cause: String },
    #[error("cannot watch {path} for changes: {cause}")]
    Watch { path: String, cause: io::Error },
}

pub(crate) fn read(path: &Path) -> Result<Vec<FileOverride>, FileError> {
    let fail = |cause| FileError::Read { path: path.display().to_string(), cause };
    let size = std::fs::metadata(path).map_err(fail)?.len();
    if size > MAX_FILE {
        return Err(fail(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {MAX_FILE} octets"))));
    }
    let text = std::fs::read_to_string(path).map_err(fail)?;
    parse(&text).map_err(|(line, cause)| FileError::Line { path: path.display().to_string(), line, cause })
}

fn parse(text: &str) -> Result<Vec<FileOverride>, (usize, String)> {
    // 192.0.2.1 may be the first half of 192.0.2.10: a file that is being written must not lead anybody astray.
    if !text.is_empty() && !text.ends_with('\n') {
        return Err((text.lines().count(), "the last line does not end, so the file may not be whole".to_owned()));
    }
    let mut overrides: BTreeMap<Name, FileOverride> = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.split([';', '#']).next().unwrap_or_default().trim();
        if !line.is_empty() {
            parse_line(line, &mut overrides).map_err(|cause| (index + 1, cause))?;
        }
    }
    Ok(overrides.into_values().collect())
}

fn parse_line(line: &str, overrides: &mut BTreeMap<Name, FileOverride>) -> Result<(), String> {
    let [name, ttl, rtype, address] = line.split_whitespace().collect::<Vec<_>>()[..] else {
        return Err("it does not have four words".to_owned());
    };
    let name: Name = name.parse().map_err(|error: crate::name::NameError| error.to_string())?;
    if name.is_root() {
        return Err("the root cannot be overridden".to_owned());
    }
    let ttl = ttl.parse().ok().filter(|ttl| *ttl <= MAX_TTL);
    let ttl = ttl.ok_or_else(|| format!("the time to live is a number of seconds up to {MAX_TTL}"))?;
    let given = overrides.entry(name.clone()).or_insert(FileOverride { name, ttl, a: Vec::new(), aaaa: Vec::new() });
    if given.ttl != ttl {
        return Err(format!("{} has another time to live above", given.name));
    }
    match rtype.to_ascii_uppercase().as_str() {
        "A" => given.a.push(address.parse().map_err(|_| format!("{address} is no IPv4 address"))?),
        "AAAA" => given.aaaa.push(address.parse().map_err(|_| format!("{address} is no IPv6 address"))?),
        _ => return Err(format!("{rtype} is not a type that can be overridden")),
    }
    if given.a.len() > MAX_ADDRESSES || given.aaaa.len() > MAX_ADDRESSES {
        return Err(format!("{} has more than {MAX_ADDRESSES} addresses of one family", given.name));
    }
    Ok(())
}

/// Tells when a file was written, put in place or taken away.
pub(crate) struct Watch {
    path: PathBuf,
    inotify: OwnedFd,
    /// How many addresses there were when it was last read.
    before: Cell<usize>,
}

/// What happened to the file.
#[derive(Clone, Copy, Default)]
struct Happened {
    changed: bool,
    /// Somebody has written to it and not closed it.
    being_written: bool,
    /// The last change was a writer's close, not a rename.
    in_place: bool,
    directory_gone: bool,
}

impl Happened {
    fn any(self) -> bool {
        self.changed || self.being_written
    }
}

fn addresses(given: &[FileOverride]) -> usize {
    given.iter().map(|given| given.a.len() + given.aaaa.len()).sum()
}

impl Watch {
    pub fn new(path: &Path) -> Result<Self, FileError> {
        let fail =
            |cause: rustix::io::Errno| FileError::Watch { path: path.display().to_string(), cause: cause.into() };
        let inotify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK).map_err(fail)?;
        watch_directory(&inotify, path).map_err(fail)?;
        Ok(Self { path: path.to_owned(), inotify, before: Cell::new(0) })
    }

    /// What the file gives at the start, when nobody is told of anything yet.
    pub fn first(&self) -> Result<Vec<FileOverride>, FileError> {
        let given = read(&self.path)?;
        self.before.set(addresses(&given));
        Ok(given)
    }

    /// Calls `changed` after each change, and when `again` says so, until `stop` does. Blocks its thread.
    pub fn run(
        &self,
        stop: impl Fn() -> bool,
        again: impl Fn() -> bool,
        changed: impl Fn(Result<Vec<FileOverride>, FileError>),
    ) {
        let nap = Timespec::try_from(LOOK_AT_STOP).unwrap_or_default();
        let mut happened = Happened::default();
        while !stop() {
            let mut waits = [PollFd::new(&self.inotify, PollFlags::IN)];
            if poll(&mut waits, Some(&nap)).is_err() {
                std::thread::sleep(LOOK_AT_STOP);
            }
            self.drain(&mut happened);
            happened.changed |= again();
            if happened.directory_gone {
                // Exchanged for another, or taken away; until there is one, what was served goes on.
                happened.directory_gone = watch_directory(&self.inotify, &self.path).is_err();
                happened.changed |= !happened.directory_gone;
            }
            // While somebody writes there may be half of it; his close is told.
            if happened.changed
                && !happened.being_written
                && let Some(read) = self.read_closed(&mut happened)
            {
                changed(read);
            }
        }
    }

    /// What was read while nobody wrote. A write is told only after its octets can be read, and on a busy disk long after: what is less
    /// than before may be the half of something, and is looked at once more, unless it was put in place whole. None: somebody
    /// writes, and his close will be told.
    fn read_closed(&self, happened: &mut Happened) -> Option<Result<Vec<FileOverride>, FileError>> {
        for _ in 0..READ_AGAIN {
            happened.changed = false;
            let read = read(&self.path);
            self.drain(happened);
            let is_less = match &read {
                Ok(given) => happened.in_place && addresses(given) < self.before.get(),
                // Some programs take a file away before they make the new one.
                Err(FileError::Read { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => self.before.get() > 0,
                Err(_) => false,
            };
            if !happened.any() && is_less {
                std::thread::sleep(SETTLE);
                self.drain(happened);
            }
            if !happened.any() {
                self.before.set(match &read {
                    Ok(given) => addresses(given),
                    Err(_) => self.before.get(),
                });
                return Some(read);
            }
            if happened.being_written {
                happened.changed = true;
                return None;
            }
        }
        // It changes all the time; the next time is soon.
        happened.changed = true;
        None
    }

    fn drain(&self, happened: &mut Happened) {
        let mut buffer = [MaybeUninit::uninit(); 4_096];
        let mut events = inotify::Reader::new(&self.inotify, &mut buffer);
        while let Ok(event) = events.next() {
            let events = event.events();
            if events.intersects(
                inotify::ReadFlags::MOVE_SELF | inotify::ReadFlags::DELETE_SELF | inotify::ReadFlags::IGNORED,
            ) {
                happened.directory_gone = true;
                continue;
            }
            if events.contains(inotify::ReadFlags::QUEUE_OVERFLOW) {
                // Anything may have happened, a writer who has not finished too.
                (happened.changed, happened.in_place) = (true, true);
                continue;
            }
            let is_about = event.file_name().is_none_or(|name| {
                let own = self.path.file_name().is_some_and(|own| own.as_encoded_bytes() == name.to_bytes());
                own || name.to_bytes() == KUBERNETES_DATA
            });
            if is_about {
                happened.being_written = events.contains(inotify::ReadFlags::MODIFY);
                happened.changed |= !happened.being_written;
                happened.in_place = events.contains(inotify::ReadFlags::CLOSE_WRITE);
            }
        }
    }
}

/// The directory, because a rename replaces the file. Whoever still writes to a file that was replaced is not heard.
fn watch_directory(inotify: &OwnedFd, path: &Path) -> rustix::io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let events = inotify::WatchFlags::CLOSE_WRITE
        | inotify::WatchFlags::MODIFY
        | inotify::WatchFlags::MOVED_TO
        | inotify::WatchFlags::MOVED_FROM
        | inotify::WatchFlags::DELETE
        | inotify::WatchFlags::MOVE_SELF
        | inotify::WatchFlags::DELETE_SELF
        | inotify::WatchFlags::EXCL_UNLINK;
    inotify::add_watch(inotify, parent, events).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_says() {
        let text = "; comment\n\nAPI.peer.example. 10 A 192.0.2.1 # one\napi.peer.example 10 a 192.0.2.2\n\
                    api.peer.example\t10\tAAAA 2001:db8::1\nother.example 60 A 192.0.2.3\n";
        let overrides = parse(text).unwrap();
        assert_eq!(overrides.len(), 2);
        let api = overrides.iter().find(|given| given.name == "api.peer.example").unwrap();
        assert_eq!((api.a.len(), api.aaaa.len(), api.ttl), (2, 1, 10));
    }

    #[test]
    fn what_is_wrong_is_told_by_line() {
        for (text, part) in [
            ("a.example 10 A\n", "four words"),
            (". 10 A 192.0.2.1\n", "root"),
            ("a..b 10 A 192.0.2.1\n", "not a domain name"),
            ("a.example x A 192.0.2.1\n", "time to live"),
            ("a.example 86400 A 192.0.2.1\n", "time to live"),
            ("a.example 10 A 2001:db8::1\n", "IPv4"),
            ("a.example 10 CNAME b.example\n", "cannot be overridden|type that can"),
            ("a.example 10 A 192.0.2.1\na.example 20 A 192.0.2.2\n", "another time to live"),
        ] {
            let (line, cause) = parse(text).unwrap_err();
            assert_eq!(line, text.lines().count());
            let (_, unfinished) = parse(text.trim_end_matches('\n')).unwrap_err();
            assert!(unfinished.contains("may not be whole"), "{unfinished}");
            assert!(part.split('|').any(|part| cause.contains(part)), "{cause}");
        }
    }
}
