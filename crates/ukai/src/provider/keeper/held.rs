//! What is held, and which of it is to be ended now.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::task::AbortHandle;
use tokio::time::Instant;
use ukai_core::input::StuckLease;

use super::clock::Moment;
use super::store::Store;
use super::{Kept, Key, Lease};
use crate::provider::place::Fault;

/// Between two tries to end what cannot be ended.
const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(30);
/// So often, for what may be late on its way.
const LOOKS_IN_GRACE: u32 = 22;
/// With no lease and nobody who asks, it is not needed.
const IDLE: Duration = Duration::from_secs(60);

pub struct Held {
    pub store: Store,
    /// One for each lease.
    running: BTreeMap<Key, Running>,
    grace: Duration,
    pub asked_at: Instant,
    /// Somebody removed the directory.
    pub is_abandoned: bool,
}

/// What is done about a lease that is over.
struct Running {
    /// Since when nothing of it was found.
    gone: Option<Instant>,
    /// Nothing of it was found, whatever became of later looks.
    was_gone: bool,
    again: Instant,
    pause: Duration,
    trouble: Option<String>,
    /// Why the last try failed.
    fault: Option<Fault>,
    under_way: Option<AbortHandle>,
}

impl Running {
    fn new() -> Running {
        Running {
            gone: None,
            was_gone: false,
            again: Instant::now(),
            pause: Duration::ZERO,
            trouble: None,
            fault: None,
            under_way: None,
        }
    }

    fn is_under_way(&self) -> bool {
        self.under_way.as_ref().is_some_and(|end| !end.is_finished())
    }
}

impl Held {
    pub fn new(store: Store, grace: Duration) -> Held {
        let running = store.kept.iter().map(|kept| (kept.lease.key(), Running::new())).collect();
        Held { store, running, grace, asked_at: Instant::now(), is_abandoned: false }
    }

    /// Returns what it takes the place of.
    pub fn hold(&mut self, lease: &Lease) -> Result<Option<Kept>, String> {
        let before = self.store.hold(lease.clone(), Moment::now())?;
        self.running.insert(lease.key(), Running::new());
        Ok(before)
    }

    pub fn undo(&mut self, lease: &Lease, before: Option<Kept>) {
        if before.is_none() {
            self.running.remove(&lease.key());
        }
        self.store.undo(lease, before);
    }

    /// From now on these are over.
    pub fn end(&mut self, is_over: impl Fn(&Lease) -> bool) {
        for lease in self.store.end(is_over, Moment::now()) {
            self.running.insert(lease.key(), Running::new());
        }
    }

    /// Leases that are over and want something done, those first that have waited longest. One at a time for each host: two
    /// changes of the same records would be in each other's way.
    pub fn due(&self, most: usize) -> Vec<Kept> {
        let (now, time) = (Instant::now(), self.store.time(Moment::now()));
        let of = |kept: &Kept| self.running.get(&kept.lease.key());
        let busy = self.store.kept.iter().filter(|kept| of(kept).is_some_and(Running::is_under_way));
        let mut hosts: BTreeSet<&str> = busy.map(|kept| kept.lease.host.as_str()).collect();
        let over = self.store.kept.iter().filter(|kept| kept.ends_at <= time);
        let mut due: Vec<(Instant, &Kept)> = over
            .filter_map(|kept| of(kept).map(|running| (running.again, kept)))
            .filter(|(again, _)| *again <= now)
            .collect();
        due.sort_by_key(|(again, _)| *again);
        due.into_iter()
            .filter(|(_, kept)| hosts.insert(kept.lease.host.as_str()))
            .take(most)
            .map(|(_, kept)| kept.clone())
            .collect()
    }

    pub fn is_under_way(&mut self, lease: &Lease, end: AbortHandle) {
        if let Some(running) = self.running.get_mut(&lease.key()) {
            running.under_way = Some(end);
        }
    }

    /// What came of a try to end it that was begun then. True: it is forgotten now.
    pub fn ended(&mut self, kept: &Kept, begun: Instant, taken: Result<(), Fault>) -> bool {
        // It may have been held anew meanwhile.
        if !self.store.kept.contains(kept) {
            return false;
        }
        let Some(running) = self.running.get_mut(&kept.lease.key()) else { return false };
        let lease = &kept.lease;
        let now = Instant::now();
        match taken {
            Ok(()) => {
                if !running.was_gone || running.trouble.is_some() {
                    tracing::info!(
                        id = lease.id,
                        host = lease.host,
                        generation = lease.generation,
                        "the lease is over and nothing of it stands"
                    );
                }
                (running.was_gone, running.pause, running.trouble) = (true, Duration::ZERO, None);
                running.fault = None;
                let gone = *running.gone.get_or_insert(now);
                if begun.saturating_duration_since(gone) >= self.grace {
                    self.store.drop_it(lease);
                    self.running.remove(&lease.key());
                    return true;
                }
                running.again = (gone + self.grace).min(now + self.grace / LOOKS_IN_GRACE);
            }
            Err(fault) => {
                running.pause = (running.pause * 2).clamp(AGAIN_FIRST, AGAIN_MAX);
                running.again = now + running.pause;
                running.gone = None;
                let trouble = format!("{} for {}: {fault}", lease.id, lease.host);
                if running.trouble.as_ref() != Some(&trouble) {
                    tracing::warn!(
                        id = lease.id,
                        host = lease.host,
                        "the lease is over, but the override cannot be taken away: {fault}"
                    );
                }
                running.trouble = Some(trouble);
                running.fault = Some(fault);
            }
        }
        false
    }

    /// Each with until when it is looked for.
    pub fn told(&self, wall: Timestamp) -> Vec<Kept> {
        let now = Instant::now();
        let last_look = |kept: &Kept| {
            let gone = self.running.get(&kept.lease.key())?.gone?;
            let left = SignedDuration::try_from((gone + self.grace).saturating_duration_since(now)).ok()?;
            wall.checked_add(left).ok()
        };
        self.store.kept.iter().map(|kept| Kept { last_look: last_look(kept), ..kept.clone() }).collect()
    }

    /// What is over and may still be answered. Where nothing of it was found before, a look that failed in passing says nothing.
    pub fn stuck(&self) -> Vec<StuckLease> {
        let of = |kept: &Kept| {
            let running = self.running.get(&kept.lease.key())?;
            let fault = running.fault.as_ref().filter(|fault| !(running.was_gone && fault.passing))?;
            Some(StuckLease { id: kept.lease.id.clone(), host: kept.lease.host.clone(), why: fault.text.clone() })
        };
        self.store.kept.iter().filter_map(of).collect()
    }

    pub fn trouble(&self) -> Option<String> {
        self.running.values().find_map(|running| running.trouble.clone())
    }

    /// Where the directory was removed, nobody comes back for what is gone from the zone already.
    pub fn is_done(&self) -> bool {
        match self.store.kept.is_empty() {
            true => self.asked_at.elapsed() >= IDLE,
            false => self.is_abandoned && self.running.values().all(|running| running.was_gone),
        }
    }
}
