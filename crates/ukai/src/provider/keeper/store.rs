//! The leases on disk: written beside, synced and renamed, so that they are the old ones or the new ones.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{LEASES_MAX, Lease};

const LEASES_FILE: &str = "leases.json";
const LOCK_FILE: &str = "lock";
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnDisk {
    version: u32,
    /// The latest time that was seen: where the clock was set back meanwhile, leases count from here.
    highest_wall: Timestamp,
    leases: Vec<Lease>,
}

pub struct Store {
    dir: PathBuf,
    pub leases: Vec<Lease>,
    highest_wall: Timestamp,
    _lock: File,
}

impl Store {
    /// None: another keeper holds the directory.
    pub fn open(dir: &Path, now: Timestamp) -> anyhow::Result<Option<Store>> {
        fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
        let lock = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(dir.join(LOCK_FILE))
            .with_context(|| format!("{} cannot be locked", dir.display()))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(errno) => return Err(io::Error::from(errno)).context("the keeper's directory cannot be locked"),
        }
        let (leases, highest) = read(dir)?;
        Ok(Some(Store { dir: dir.to_owned(), leases, highest_wall: highest.max(now), _lock: lock }))
    }

    /// The time that leases count by: never earlier than any that was seen.
    pub fn time(&mut self, wall: Timestamp) -> Timestamp {
        self.highest_wall = self.highest_wall.max(wall);
        self.highest_wall
    }

    pub fn hold(&mut self, lease: Lease) -> Result<(), String> {
        let before = self.leases.clone();
        self.leases.retain(|held| !held.is(&lease));
        if self.leases.len() >= LEASES_MAX {
            self.leases = before;
            return Err(format!("{LEASES_MAX} leases are held already"));
        }
        self.leases.push(lease);
        self.save().map_err(|error| {
            self.leases = before;
            format!("the lease cannot be written: {error}")
        })
    }

    /// Forgets leases; a disk that is full does not make them stand again.
    pub fn drop_all(&mut self, is_over: impl Fn(&Lease) -> bool) {
        let before = self.leases.len();
        self.leases.retain(|lease| !is_over(lease));
        if self.leases.len() != before
            && let Err(error) = self.save()
        {
            tracing::warn!(%error, "leases that are over cannot be taken off the disk; they are looked at again after a restart");
        }
    }

    pub fn save(&self) -> io::Result<()> {
        let on_disk = OnDisk { version: VERSION, highest_wall: self.highest_wall, leases: self.leases.clone() };
        let (path, temporary) = (self.dir.join(LEASES_FILE), self.dir.join(format!("{LEASES_FILE}.new")));
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(&on_disk)?)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(&self.dir)?.sync_all()
    }
}

/// What is on disk while no keeper runs.
pub fn read(dir: &Path) -> anyhow::Result<(Vec<Lease>, Timestamp)> {
    let path = dir.join(LEASES_FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Vec::new(), Timestamp::MIN)),
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
    };
    let on_disk: OnDisk = serde_json::from_slice(&bytes).with_context(|| {
        format!(
            "{} is damaged: which overrides stand in the zone is not known here; look at the zone (`ukai provider list`), then \
             move the file aside",
            path.display()
        )
    })?;
    if on_disk.version != VERSION {
        bail!("{} has version {}, and {VERSION} is the one that is understood", path.display(), on_disk.version);
    }
    Ok((on_disk.leases, on_disk.highest_wall))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::claim::tests::claim;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn leases_survive_and_time_does_not_go_back() {
        let dir = tempfile::tempdir().unwrap();
        let lease = Lease::of(&claim(), "the zone".into());
        let mut store = Store::open(dir.path(), at(2000)).unwrap().unwrap();
        assert!(Store::open(dir.path(), at(2000)).unwrap().is_none(), "one keeper at a time");
        store.time(at(3000));
        store.hold(lease.clone()).unwrap();
        store.hold(lease.clone()).unwrap();
        store.hold(Lease { generation: 2, ..lease.clone() }).unwrap();
        drop(store);
        let mut store = Store::open(dir.path(), at(1000)).unwrap().unwrap();
        assert_eq!(store.leases.len(), 2);
        assert_eq!(store.time(at(1000)), at(3000));
        store.drop_all(|held| held.generation == 1);
        drop(store);
        assert_eq!(read(dir.path()).unwrap().0, [Lease { generation: 2, ..lease }]);
    }

    #[test]
    fn a_damaged_file_is_not_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(LEASES_FILE), "{").unwrap();
        assert!(Store::open(dir.path(), at(1)).is_err());
    }
}
