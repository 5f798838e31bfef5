//! The overrides on disk: durable before served, compared before swapped, ended when their lease ends.
//!
//! The whole set is one file, written beside the old one, synced, and renamed over it. A file that cannot be understood is
//! moved aside, not guessed at: nothing of it is served.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::clock::{LeaseClock, Moment, until};
use super::lease::{Ended, MAX_ENDED, MAX_LEASE, MAX_OVERRIDES, OverrideRecord, Refusal};

const FILE: &str = "overrides.json";
const VERSION: u32 = 1;
/// 64 overrides and 256 ended ones, each as long as it may be, take about 600 KiB.
const MAX_FILE: u64 = 1024 * 1024;

pub(crate) struct Store {
    dir: PathBuf,
    leases: Vec<Lease>,
    ended: VecDeque<Ended>,
    clock: LeaseClock,
    /// Where an unreadable file was moved to, and why.
    damaged: Option<String>,
    /// What is served is less than what the file says, because the file could not be written.
    unwritten: bool,
}

/// A standing override and the instant at which it ends whatever the wall clock says.
#[derive(Clone)]
pub(crate) struct Lease {
    pub record: OverrideRecord,
    pub deadline: Instant,
}

impl Lease {
    pub fn is_over(&self, now: Moment) -> bool {
        now.monotonic >= self.deadline || now.wall >= self.record.expires_at
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OnDisk {
    version: u32,
    highest_wall_ms: i64,
    overrides: Vec<OverrideRecord>,
    #[serde(default)]
    ended: VecDeque<Ended>,
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("cannot {action} {path}: {cause}")]
    Io { action: &'static str, path: String, cause: io::Error },
}

impl Store {
    pub fn load(dir: &Path, now: Moment) -> Result<Self, StoreError> {
        let path = dir.join(FILE);
        let mut store = Self {
            dir: dir.to_owned(),
            leases: Vec::new(),
            ended: VecDeque::new(),
            clock: LeaseClock::resume(now.wall_ms(), now),
            damaged: None,
            unwritten: false,
        };
        let Some(bytes) = read(&path)? else {
            return Ok(store);
        };
        match OnDisk::parse(&bytes) {
            Ok(on_disk) => store.adopt(on_disk, now),
            Err(cause) => store.damaged = Some(move_aside(&path, &cause, now)?),
        }
        Ok(store)
    }

    pub fn leases(&self) -> &[Lease] {
        &self.leases
    }

    pub fn ended(&self) -> impl Iterator<Item = &Ended> {
        self.ended.iter()
    }

    pub fn damaged(&self) -> Option<&str> {
        self.damaged.as_deref()
    }

    pub fn is_unwritten(&self) -> bool {
        self.unwritten
    }

    /// Compare and swap. A repetition of what already stands changes nothing and succeeds.
    pub fn set(
        &mut self,
        record: OverrideRecord,
        expect_generation: Option<u64>,
        now: Moment,
    ) -> Result<(), StoreError> {
        if self.leases.iter().any(|lease| lease.record == record && !lease.is_over(now)) {
            return Ok(());
        }
        let replaces = self.check_set(&record, expect_generation)?;
        if self.leases.is_empty() {
            // No lease stands that a clock set back could prolong, so a highest time left by a clock that ran ahead is forgotten.
            self.clock = LeaseClock::resume(now.wall_ms(), now);
        }
        let remaining = until(now.wall_ms(), record.expires_at).ok_or(Refusal::LeaseOver)?;
        if remaining > MAX_LEASE {
            return Err(Refusal::LeaseTooLong.into());
        }
        let lease = Lease { record, deadline: now.monotonic + remaining };
        let mut leases = self.leases.clone();
        match replaces {
            Some(index) => leases[index] = lease,
            None => leases.push(lease),
        }
        self.write(&leases, &self.ended, now)?;
        self.leases = leases;
        self.unwritten = false;
        Ok(())
    }

    /// Idempotent. What is cleared is withdrawn even when that cannot be written: `Err` then means "withdrawn, but not durably".
    pub fn clear(
        &mut self,
        id: &str,
        generation: Option<u64>,
        why: &str,
        now: Moment,
    ) -> Result<Option<OverrideRecord>, StoreError> {
        let Some(index) = self.leases.iter().position(|lease| lease.record.id == id) else {
            // An earlier withdrawal may be in memory only: done means durable.
            self.settle(now)?;
            return Ok(None);
        };
        let standing = &self.leases[index].record;
        // Whoever clears a generation knows of every one before it; a newer one was set by somebody else.
        if generation.is_some_and(|generation| generation < standing.generation) {
            return Err(conflict(standing).into());
        }
        let lease = self.leases.remove(index);
        self.remember(&lease.record, why, false, now);
        self.save(now)?;
        Ok(Some(lease.record))
    }

    /// Ends every lease that is over, and tells which.
    pub fn expire(&mut self, now: Moment) -> Vec<OverrideRecord> {
        let (over, standing): (Vec<_>, Vec<_>) = self.leases.drain(..).partition(|lease| lease.is_over(now));
        self.leases = standing;
        for lease in &over {
            self.remember(&lease.record, "the lease ran out", true, now);
        }
        if !over.is_empty() {
            self.unwritten = true;
        }
        over.into_iter().map(|lease| lease.record).collect()
    }

    /// Writes what is not yet written.
    pub fn settle(&mut self, now: Moment) -> Result<(), StoreError> {
        if self.unwritten { self.save(now) } else { Ok(()) }
    }

    /// Stores how far the clock has come, if any lease depends on it.
    pub fn store_clock(&mut self, now: Moment) -> Result<(), StoreError> {
        if self.leases.is_empty() { Ok(()) } else { self.save(now) }
    }

    /// Which lease the record replaces, or why it may not stand.
    fn check_set(&self, record: &OverrideRecord, expect_generation: Option<u64>) -> Result<Option<usize>, Refusal> {
        record.check()?;
        if let Some(ended) =
            self.ended.iter().find(|ended| ended.id == record.id && ended.generation >= record.generation)
        {
            return Err(Refusal::HasEnded {
                id: ended.id.clone(),
                generation: ended.generation,
                why: ended.why.clone(),
            });
        }
        let clash = |lease: &Lease| lease.record.name == record.name || lease.record.id == record.id;
        let Some(index) = self.leases.iter().position(clash) else {
            return match expect_generation {
                Some(expected) => Err(Refusal::NotThere { expected }),
                None if self.leases.len() >= MAX_OVERRIDES => Err(Refusal::TooMany),
                None => Ok(None),
            };
        };
        let standing = &self.leases[index].record;
        let same = standing.id == record.id && standing.name == record.name;
        if same && expect_generation == Some(standing.generation) && record.generation > standing.generation {
            Ok(Some(index))
        } else {
            Err(conflict(standing))
        }
    }

    /// Takes over what the file says. A start with a clock that is earlier than one seen before counts from that one.
    fn adopt(&mut self, on_disk: OnDisk, now: Moment) {
        self.clock = LeaseClock::resume(on_disk.highest_wall_ms, now);
        self.ended = on_disk.ended;
        let lease_now_ms = self.clock.read_ms(now);
        for record in on_disk.overrides {
            match until(lease_now_ms, record.expires_at) {
                Some(remaining) => self.leases.push(Lease { record, deadline: now.monotonic + remaining }),
                None => {
                    self.remember(&record, "the lease ran out while the server was not running", true, now);
                    self.unwritten = true;
                }
            }
        }
    }

    fn remember(&mut self, record: &OverrideRecord, why: &str, expired: bool, now: Moment) {
        while self.ended.len() >= MAX_ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(Ended {
            id: record.id.clone(),
            name: record.name.clone(),
            incident: record.incident.clone(),
            generation: record.generation,
            at: now.wall,
            why: why.chars().take(256).collect(),
            expired,
        });
    }

    fn save(&mut self, now: Moment) -> Result<(), StoreError> {
        self.unwritten = true;
        self.write(&self.leases, &self.ended, now)?;
        self.unwritten = false;
        Ok(())
    }

    fn write(&self, leases: &[Lease], ended: &VecDeque<Ended>, now: Moment) -> Result<(), StoreError> {
        let on_disk = OnDisk {
            version: VERSION,
            highest_wall_ms: self.clock.read_ms(now),
            overrides: leases.iter().map(|lease| lease.record.clone()).collect(),
            ended: ended.clone(),
        };
        replace_file(&self.dir, &on_disk)
    }
}

fn conflict(standing: &OverrideRecord) -> Refusal {
    Refusal::Conflict { id: standing.id.clone(), name: standing.name.clone(), generation: standing.generation }
}

impl OnDisk {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() as u64 > MAX_FILE {
            return Err(format!("it is larger than {MAX_FILE} octets"));
        }
        let on_disk: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if on_disk.version != VERSION {
            return Err(format!("it has version {}, and {VERSION} is the one that is understood", on_disk.version));
        }
        on_disk.check()?;
        Ok(on_disk)
    }

    /// A file that this program wrote always passes; one that does not was changed by something else.
    fn check(&self) -> Result<(), String> {
        if self.overrides.len() > MAX_OVERRIDES || self.ended.len() > MAX_ENDED {
            return Err("it holds more overrides than can stand".to_owned());
        }
        for (index, record) in self.overrides.iter().enumerate() {
            record.check().map_err(|refusal| format!("override {:?}: {refusal}", record.id))?;
            if until(self.highest_wall_ms, record.expires_at).is_some_and(|remaining| remaining > MAX_LEASE) {
                return Err(format!("override {:?}: {}", record.id, Refusal::LeaseTooLong));
            }
            let twice = |other: &OverrideRecord| other.id == record.id || other.name == record.name;
            if self.overrides[..index].iter().any(twice) {
                return Err(format!("override {:?} at {} stands twice", record.id, record.name));
            }
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let fail = |cause| StoreError::Io { action: "read", path: path.display().to_string(), cause };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(fail)?;
    Ok(Some(bytes))
}

fn move_aside(path: &Path, cause: &str, now: Moment) -> Result<String, StoreError> {
    let aside = path.with_file_name(format!("{FILE}.damaged-{}", now.wall_ms()));
    fs::rename(path, &aside).map_err(|cause| StoreError::Io {
        action: "move aside",
        path: path.display().to_string(),
        cause,
    })?;
    Ok(format!("{} was damaged ({cause}); nothing of it is served; it was kept as {}", path.display(), aside.display()))
}

/// Old or new, never half: written beside, synced, renamed, and the directory synced so that the rename itself lasts.
fn replace_file(dir: &Path, on_disk: &OnDisk) -> Result<(), StoreError> {
    let path = dir.join(FILE);
    let temporary = dir.join(format!("{FILE}.new"));
    let attempt = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(&serde_json::to_vec_pretty(on_disk)?)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(dir)?.sync_all()
    };
    attempt().map_err(|cause| StoreError::Io { action: "write", path: path.display().to_string(), cause })
}

#[cfg(test)]
mod tests;
