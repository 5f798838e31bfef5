//! A zone of somebody else's, whatever server holds it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ukai_core::input::ServedNow;

use super::claim::Claim;
use super::rfc2136::PolicyZone;
use super::unbound::Unbound;

/// Where overrides are written.
pub enum Place {
    Rfc2136(PolicyZone),
    Unbound(Unbound),
}

/// Why something was not done, and whether trying again can help.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub text: String,
    /// A moment later it may go well without anybody mending anything.
    pub passing: bool,
}

impl Fault {
    pub fn lasting(text: impl Into<String>) -> Fault {
        Fault { text: text.into(), passing: false }
    }

    pub fn passing(text: impl Into<String>) -> Fault {
        Fault { text: text.into(), passing: true }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// One override of ours up to a generation, as far as it is known: that is all that may be taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mine {
    pub owner: String,
    pub id: String,
    pub generation: u64,
    pub host: Option<String>,
    /// What was to be served. Records without a mark of ours that have none of them are no business of ours.
    pub addresses: BTreeSet<IpAddr>,
}

impl Mine {
    pub fn is(&self, claim: &Claim) -> bool {
        claim.is_of(&self.owner, &self.id) && self.host.as_ref().is_none_or(|host| *host == claim.host)
    }
}

/// What became of an override that was to be taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// Nothing of it stands.
    Gone,
    /// A later generation stands, which has a lease of its own: told as a sentence.
    Newer(String),
}

/// What stands in the zone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Ours, each with the addresses that really are there.
    pub ours: Vec<(Claim, BTreeSet<IpAddr>)>,
    /// Sentences on what is not ours at names that we watch.
    pub foreign: Vec<String>,
}

impl Found {
    pub fn serving(&self) -> Vec<ServedNow> {
        self.ours.iter().map(|(claim, addresses)| claim.served(addresses.clone())).collect()
    }
}

impl Place {
    /// Writes it, if what stands there is what is to be replaced, and waits until every server that is listed has it.
    pub async fn put(&self, claim: &Claim, replaces: Option<u64>) -> Result<(), Fault> {
        claim.check().map_err(Fault::lasting)?;
        match self {
            Place::Rfc2136(zone) => zone.put(claim, replaces).await,
            Place::Unbound(unbound) => unbound.put(claim, replaces).await,
        }
    }

    /// Takes away what we wrote, up to this generation. Nothing of ours there is success.
    pub async fn take(&self, mine: &Mine) -> Result<Taken, Fault> {
        match self {
            Place::Rfc2136(zone) => zone.take(mine).await,
            Place::Unbound(unbound) => unbound.take(mine).await,
        }
    }

    pub async fn look(&self, owner: &str, hosts: &BTreeSet<String>) -> Result<Found, Fault> {
        match self {
            Place::Rfc2136(zone) => zone.look(owner, hosts).await,
            Place::Unbound(unbound) => unbound.look(owner, hosts).await,
        }
    }

    /// What every server answers for the host.
    pub async fn answers(&self, host: &str) -> Result<BTreeSet<IpAddr>, Fault> {
        match self {
            Place::Rfc2136(zone) => zone.answers(host).await,
            Place::Unbound(unbound) => unbound.answers(host).await,
        }
    }

    /// Changes when the zone may have changed; cheap to ask. None: it must be looked at.
    pub async fn version(&self) -> Result<Option<u64>, Fault> {
        match self {
            Place::Rfc2136(zone) => zone.serial().await.map(|serial| Some(u64::from(serial))),
            Place::Unbound(_) => Ok(None),
        }
    }
}

/// The same text for the same place: leases name where they stand by it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Rfc2136(zone) => zone.fmt(f),
            Place::Unbound(unbound) => unbound.fmt(f),
        }
    }
}
