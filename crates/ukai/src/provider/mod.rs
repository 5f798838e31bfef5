//! Where overrides take effect: one interface, behind which the embedded DNS server stands, or a zone that a team has already.
//!
//! | provider | changed by | compare and swap | ends by itself |
//! | --- | --- | --- | --- |
//! | [`embedded`] | its control socket | its own | its own leases |
//! | [`rfc2136`] | UPDATE with TSIG into a response-policy zone | prerequisites | the [`keeper`] |
//! | [`unbound`] | `local_data` by its remote control over TLS | marks, written first | the [`keeper`] |
//!
//! A zone of somebody else's does not know of leases. So before anything is written there, the [`keeper`] (a process of its own
//! that outlives the controller) has the lease on its disk; if it cannot confirm that, nothing is applied.

pub mod claim;
pub mod embedded;
pub mod keeper;
mod owner;
mod place;
pub mod rfc2136;
pub mod unbound;
mod watch;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use ukai_core::effect::ServedOverride;
use ukai_core::input::ServedNow;
use ukai_dns::server::ControlClient;

pub use owner::{known_owner, owner};
pub use place::{Fault, Found, Mine, Place, Taken};
pub use watch::{watch, watched};

use claim::Claim;
use keeper::{KeeperClient, Lease};

/// Where an override goes. Cheap to clone.
#[derive(Clone)]
pub enum Provider {
    /// The configuration names none.
    Nowhere,
    Embedded(ControlClient),
    Zone(Arc<Zone>),
}

/// A zone at servers that are not ours, and who ends leases there.
pub struct Zone {
    place: Place,
    keeper: KeeperClient,
    owner: String,
    /// Why it cannot be read now.
    trouble: Mutex<Option<String>>,
    /// By id and generation: refused before anything was sent, so that nothing of it can stand.
    unwritten: Mutex<BTreeSet<(String, u64)>>,
}

impl Zone {
    pub fn new(place: Place, keeper: KeeperClient, owner: String) -> Zone {
        Zone { place, keeper, owner, trouble: Mutex::default(), unwritten: Mutex::default() }
    }

    fn set_trouble(&self, trouble: Option<String>) {
        *lock(&self.trouble) = trouble;
    }

    /// What cannot be read is not written to. An override of which a lease is held already may have been written before.
    async fn is_readable(&self, claim: &Claim, replaces: Option<u64>) -> Result<(), String> {
        let Err(fault) = self.look(&BTreeSet::new()).await else { return Ok(()) };
        let held = self.keeper.list().await.map(|status| status.leases);
        let is_new = held.is_ok_and(|held| held.iter().all(|kept| kept.lease.id != claim.id));
        if replaces.is_none() && is_new {
            lock(&self.unwritten).insert((claim.id.clone(), claim.generation));
        }
        Err(format!("nothing was written: {fault}"))
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What stands of ours, and what else stands at the names of `hosts`.
    pub async fn look(&self, hosts: &BTreeSet<String>) -> Result<Found, Fault> {
        self.place.look(&self.owner, hosts).await
    }

    /// The lease is held before anything is written.
    pub async fn apply(&self, claim: &Claim, replaces: Option<u64>) -> Result<(), String> {
        self.is_readable(claim, replaces).await?;
        lock(&self.unwritten).remove(&(claim.id.clone(), claim.generation));
        let lease = Lease::of(claim, self.place.to_string());
        self.keeper.hold(&lease).await.map_err(|error| {
            format!(
                "nothing was written to {}: nobody would end the override there if ukai died, because {error}",
                self.place
            )
        })?;
        self.place.put(claim, replaces).await.map_err(|fault| fault.to_string())
    }

    pub async fn withdraw(&self, withdrawn: &Withdrawn) -> Result<(), String> {
        if lock(&self.unwritten).remove(&(withdrawn.id.clone(), withdrawn.generation)) {
            return Ok(());
        }
        let mine = Mine {
            owner: self.owner.clone(),
            id: withdrawn.id.clone(),
            generation: withdrawn.generation,
            host: withdrawn.host.as_deref().map(canonical),
            addresses: withdrawn.addresses.clone(),
        };
        if let Taken::Newer(newer) = self.place.take(&mine).await.map_err(|fault| fault.to_string())? {
            return Err(format!("generation {} is not the last one: {newer}", mine.generation));
        }
        // An update of ours that was given up may come late: the keeper looks for it. One that is down does so when the lease ends.
        if let Err(error) = self.keeper.release(&mine).await {
            tracing::debug!(%error, "the keeper was not told that an override was withdrawn");
        }
        Ok(())
    }
}

/// An override that is to be served no longer, with what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawn {
    pub id: String,
    pub generation: u64,
    pub host: Option<String>,
    pub addresses: BTreeSet<IpAddr>,
}

impl Withdrawn {
    pub fn of(claim: &Claim) -> Withdrawn {
        Withdrawn {
            id: claim.id.clone(),
            generation: claim.generation,
            host: Some(claim.host.clone()),
            addresses: claim.addresses.clone(),
        }
    }
}

impl Provider {
    /// Makes it serve exactly this. `now` is the engine's. Idempotent by id and generation.
    pub async fn apply(&self, served: &ServedOverride, now: Timestamp) -> Result<(), String> {
        match self {
            Provider::Nowhere => Err(NOWHERE.to_owned()),
            Provider::Embedded(control) => embedded::apply(control, served, now).await,
            Provider::Zone(zone) => {
                let expires_at = embedded::expires_at(served.expires_at, now, Timestamp::now());
                let claim = Claim::of(served, &zone.owner, expires_at);
                zone.apply(&claim, served.replaces_generation).await
            }
        }
    }

    /// Makes it stop serving that.
    pub async fn withdraw(&self, withdrawn: &Withdrawn, why: &str) -> Result<(), String> {
        match self {
            Provider::Nowhere => Err(NOWHERE.to_owned()),
            Provider::Embedded(control) => embedded::withdraw(control, &withdrawn.id, withdrawn.generation, why).await,
            Provider::Zone(zone) => zone.withdraw(withdrawn).await,
        }
    }

    /// What is served now.
    pub async fn list(&self) -> Result<Vec<ServedNow>, String> {
        match self {
            Provider::Nowhere => Ok(Vec::new()),
            Provider::Embedded(control) => {
                control.list().await.map(|status| embedded::serving(&status)).map_err(|error| error.to_string())
            }
            Provider::Zone(zone) => {
                zone.look(&BTreeSet::new()).await.map(|found| found.serving()).map_err(|fault| fault.to_string())
            }
        }
    }

    /// Why the zone cannot be read now, if it cannot.
    pub fn trouble(&self) -> Option<String> {
        match self {
            Provider::Nowhere | Provider::Embedded(_) => None,
            Provider::Zone(zone) => lock(&zone.trouble).clone(),
        }
    }

    /// What every server of the zone answers for a host; an error names the one that does not.
    pub async fn served_addresses(&self, host: &str) -> Option<Result<BTreeSet<IpAddr>, String>> {
        match self {
            Provider::Nowhere | Provider::Embedded(_) => None,
            Provider::Zone(zone) => Some(zone.place.answers(host).await.map_err(|fault| fault.to_string())),
        }
    }
}

const NOWHERE: &str = "no zone provider is configured: there is nowhere to serve an override";

/// Nothing panics while holding these; if something did, the data is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn canonical(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}
