//! The leases on disk: written beside, synced and renamed, so that they are the old ones or the new ones.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use jiff::{SignedDuration, Timestamp};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::clock::{LeaseClock, Moment};
use super::{Kept, LEASES_MAX, Lease};

const LEASES_FILE: &str = "leases.json";
const LOCK_FILE: &str = "lock";
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnDisk {
    version: u32,
    /// The latest time that was seen: where the clock was set back meanwhile, leases count from here.
    highest_wall: Timestamp,
    leases: Vec<Kept>,
}

/// What is held, and the clock that it counts by. Only [`Page::write`] waits for the disk.
pub struct Store {
    pub kept: Vec<Kept>,
    clock: LeaseClock,
    disk: Arc<Disk>,
}

/// The directory, ours until the last page is written.
struct Disk {
    dir: PathBuf,
    _lock: File,
}

/// All leases as they were at one moment.
pub struct Page {
    on_disk: OnDisk,
    disk: Arc<Disk>,
}

impl Store {
    /// None: another keeper holds the directory.
    pub fn open(dir: &Path, now: Moment) -> anyhow::Result<Option<Store>> {
        make_dir(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
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
        let (kept, highest) = read(dir)?;
        let disk = Arc::new(Disk { dir: dir.to_owned(), _lock: lock });
        Ok(Some(Store { kept, clock: LeaseClock::resume(highest, now), disk }))
    }

    /// The time that leases count by: never earlier than any that was seen.
    pub fn time(&self, now: Moment) -> Timestamp {
        self.clock.read(now)
    }

    pub fn is_clock_behind(&self, now: Moment) -> bool {
        self.clock.behind(now) > SignedDuration::ZERO
    }

    /// Returns what it takes the place of.
    pub fn hold(&mut self, lease: Lease, now: Moment) -> Result<Option<Kept>, String> {
        let before = self.kept.iter().position(|kept| kept.lease.is(&lease));
        if before.is_none() && self.kept.len() >= LEASES_MAX {
            return Err(format!("{LEASES_MAX} leases are held already"));
        }
        let before = before.map(|index| self.kept.remove(index));
        let ends_at = self.clock.of_wall(lease.expires_at, now);
        self.kept.push(Kept { lease, ends_at, last_look: None });
        Ok(before)
    }

    /// The lease could not be written: what was there before it is there again.
    pub fn undo(&mut self, lease: &Lease, before: Option<Kept>) {
        self.drop_it(lease);
        self.kept.extend(before);
    }

    /// From now on these are over. Returns those that were not.
    pub fn end(&mut self, is_over: impl Fn(&Lease) -> bool, now: Moment) -> Vec<Lease> {
        let time = self.time(now);
        let ending = self.kept.iter_mut().filter(|kept| kept.ends_at > time && is_over(&kept.lease));
        ending
            .map(|kept| {
                kept.ends_at = time;
                kept.lease.clone()
            })
            .collect()
    }

    pub fn drop_it(&mut self, lease: &Lease) {
        self.kept.retain(|kept| !kept.lease.is(lease));
    }

    pub fn page(&self, now: Moment) -> Page {
        let on_disk = OnDisk { version: VERSION, highest_wall: self.time(now), leases: self.kept.clone() };
        Page { on_disk, disk: Arc::clone(&self.disk) }
    }
}

impl Page {
    pub fn write(&self) -> io::Result<()> {
        let dir = &self.disk.dir;
        let (path, temporary) = (dir.join(LEASES_FILE), dir.join(format!("{LEASES_FILE}.new")));
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&temporary)?;
        let (made, owner) = (file.metadata()?, fs::metadata(dir)?);
        if (made.uid(), made.gid()) != (owner.uid(), owner.gid()) {
            // Root takes back what the daemon's user has to read again.
            let _ = fchown(&file, Some(owner.uid()), Some(owner.gid()));
        }
        file.write_all(&serde_json::to_vec_pretty(&self.on_disk)?)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(dir)?.sync_all()
    }
}

/// For nobody else's eyes, also where an earlier version made it.
pub fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    match fs::metadata(dir)?.permissions().mode() & 0o077 {
        0 => Ok(()),
        _ => fs::set_permissions(dir, Permissions::from_mode(0o700)),
    }
}

/// What is on disk while no keeper runs, and the latest time that was seen.
pub fn read(dir: &Path) -> anyhow::Result<(Vec<Kept>, Timestamp)> {
    let path = dir.join(LEASES_FILE);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Vec::new(), Timestamp::MIN)),
        Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
    };
    let on_disk: OnDisk = serde_json::from_slice(&bytes).with_context(|| {
        format!(
            "{} is damaged: move it aside and start ukai with the same configuration; it makes the leases again from what stands in \
             the zone (`ukai overrides` shows it)",
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
    use std::time::{Duration, Instant};

    use super::*;
    use crate::provider::claim::tests::claim;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn moment(wall: i64) -> Moment {
        Moment { wall: at(wall), monotonic: Instant::now() }
    }

    fn lease() -> Lease {
        Lease::of(&claim(), "the zone".into())
    }

    fn generations(dir: &Path) -> Vec<u64> {
        read(dir).unwrap().0.iter().map(|kept| kept.lease.generation).collect()
    }

    #[test]
    fn leases_survive_and_time_does_not_go_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(dir.path(), moment(2000)).unwrap().unwrap();
        assert!(Store::open(dir.path(), moment(2000)).unwrap().is_none(), "one keeper at a time");
        store.hold(lease(), moment(3000)).unwrap();
        store.hold(lease(), moment(3000)).unwrap();
        store.hold(Lease { generation: 2, ..lease() }, moment(3000)).unwrap();
        store.page(moment(3000)).write().unwrap();
        drop(store);
        let mut store = Store::open(dir.path(), moment(1000)).unwrap().unwrap();
        assert_eq!(store.kept.len(), 2);
        assert!(store.time(moment(1000)) >= at(3000));
        store.drop_it(&lease());
        store.page(moment(1000)).write().unwrap();
        assert_eq!(generations(dir.path()), [2]);
    }

    #[test]
    fn a_crash_loop_with_the_clock_set_back_comes_to_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let first = moment(3000);
        Store::open(dir.path(), first).unwrap().unwrap().page(first).write().unwrap();
        let begun = moment(1000);
        let store = Store::open(dir.path(), begun).unwrap().unwrap();
        let later = Moment { monotonic: begun.monotonic + Duration::from_secs(40), ..begun };
        store.page(later).write().unwrap();
        assert_eq!(read(dir.path()).unwrap().1, at(3040));
    }

    #[test]
    fn a_lease_is_as_long_as_it_says_although_the_clock_was_set_back() {
        let dir = tempfile::tempdir().unwrap();
        let first = moment(3000);
        Store::open(dir.path(), first).unwrap().unwrap().page(first).write().unwrap();
        let now = moment(1000);
        let mut store = Store::open(dir.path(), now).unwrap().unwrap();
        store.hold(Lease { expires_at: at(1060), ..lease() }, now).unwrap();
        assert_eq!(store.kept[0].ends_at, at(3060));
        assert_eq!(store.kept[0].lease.expires_at, at(1060), "as it is displayed");
    }

    #[test]
    fn what_is_taken_back_is_over_and_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let now = moment(2000);
        let mut store = Store::open(dir.path(), now).unwrap().unwrap();
        store.hold(lease(), now).unwrap();
        assert_eq!(store.end(|_| true, now), [lease()]);
        assert!(store.end(|_| true, now).is_empty(), "it was over already");
        store.page(now).write().unwrap();
        let (kept, _) = read(dir.path()).unwrap();
        assert_eq!(kept, [Kept { lease: lease(), ends_at: at(2000), last_look: None }]);
    }

    #[test]
    fn what_could_not_be_written_is_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let now = moment(2000);
        let mut store = Store::open(dir.path(), now).unwrap().unwrap();
        store.hold(lease(), now).unwrap();
        let longer = Lease { expires_at: at(4_000_000_060), ..lease() };
        let before = store.hold(longer.clone(), now).unwrap();
        store.undo(&longer, before);
        assert_eq!(store.kept.iter().map(|kept| kept.lease.clone()).collect::<Vec<_>>(), [lease()]);
        fs::create_dir(dir.path().join(format!("{LEASES_FILE}.new"))).unwrap();
        store.page(now).write().unwrap_err();
    }

    #[test]
    fn a_damaged_file_is_not_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(LEASES_FILE), "{").unwrap();
        let told = format!("{:#}", Store::open(dir.path(), moment(1)).err().unwrap());
        assert!(told.contains("move it aside") && told.contains("`ukai overrides`"), "{told}");
    }

    #[test]
    fn the_directory_is_for_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = dir.path().join("keeper");
        let mode = || fs::metadata(&keeper).unwrap().permissions().mode() & 0o777;
        make_dir(&keeper).unwrap();
        assert_eq!(mode(), 0o700);
        fs::set_permissions(&keeper, Permissions::from_mode(0o755)).unwrap();
        make_dir(&keeper).unwrap();
        assert_eq!(mode(), 0o700);
    }
}
