//! A response-policy zone on BIND, Knot or PowerDNS, changed by UPDATE (RFC 2136) with TSIG over TCP.
//!
//! ```text
//! api.peer.example.rpz.example.                 10 IN A    192.0.2.7      the override: local data of the policy
//! api.peer.example._ukai.invalid.rpz.example.   10 IN TXT  "ukai=1" …     whose it is, and until when ([`super::claim`])
//! ```
//! A name with local data of some type answers NODATA for the others, so a family without addresses and HTTPS/SVCB are covered by
//! the policy itself; names below it and beside it reach the world.
//!
//! Every change reads the zone, decides, and sends one message whose prerequisites say what was read: whoever changed it in
//! between wins, and we change nothing. Then the zone is read again, because a server may say NOERROR and lose the update; and each
//! listed secondary is asked until it has it.

mod change;
mod follow;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jiff::Timestamp;
use ukai_dns::update::{Update, UpdateError, ZoneRecord, ZoneServer};
use ukai_dns::{Name, RecordType};

use super::claim::{Claim, SUFFIX};
use super::place::{Fault, Found, Mine, Taken};

/// A lease with less left than this is not written any more: what is under way must have ended before the keeper looks for
/// the last time.
const LEASE_MIN: Duration = Duration::from_secs(1);

/// RRSIG, NSEC and NSEC3: a server that signs the zone puts them beside what others write.
const OF_SIGNING: [RecordType; 3] = [RecordType(46), RecordType(47), RecordType(50)];

/// The policy zone at its primary, and who follows it.
pub struct PolicyZone {
    primary: ZoneServer,
    secondaries: Vec<SocketAddr>,
    /// How long secondaries may take to follow.
    patience: Duration,
}

/// What stands for one host.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Standing {
    /// Everything at the host's name.
    records: Vec<ZoneRecord>,
    /// Everything at the name of its ownership record.
    marks: Vec<ZoneRecord>,
}

impl Standing {
    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.marks.is_empty()
    }

    /// The ownership record, if it is the only thing there and is a ukai's.
    fn claim(&self, host: &str) -> Option<Claim> {
        match self.marks.as_slice() {
            [mark] => Claim::read(host, &mark.texts()?),
            _ => None,
        }
    }

    /// Every ownership record, whatever stands beside it.
    fn claims(&self, host: &str) -> Vec<Claim> {
        self.marks.iter().filter_map(|mark| Claim::read(host, &mark.texts()?)).collect()
    }

    /// Addresses that no ownership record speaks for.
    fn unclaimed(&self, host: &str) -> BTreeSet<IpAddr> {
        let claimed: BTreeSet<IpAddr> = self.claims(host).into_iter().flat_map(|claim| claim.addresses).collect();
        self.addresses().difference(&claimed).copied().collect()
    }

    fn addresses(&self) -> BTreeSet<IpAddr> {
        self.records.iter().filter_map(ZoneRecord::as_address).collect()
    }

    /// What is at the host's name and is not what the claim says.
    fn strangers(&self, claim: &Claim) -> Vec<&ZoneRecord> {
        self.records
            .iter()
            .filter(|record| record.as_address().is_none_or(|address| !claim.addresses.contains(&address)))
            .collect()
    }
}

/// The names of one host in the zone.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Names {
    policy: Name,
    mark: Name,
}

impl PolicyZone {
    pub fn new(primary: ZoneServer, secondaries: Vec<SocketAddr>) -> PolicyZone {
        PolicyZone { primary, secondaries, patience: follow::PROPAGATION_BOUND }
    }

    #[cfg(test)]
    pub fn with_patience(self, patience: Duration) -> PolicyZone {
        PolicyZone { patience, ..self }
    }

    fn names(&self, host: &str) -> Result<Names, Fault> {
        let too_long = || Fault::lasting(format!("{host} is too long a name for the zone {}", self.primary.zone));
        let host: Name = host.parse().map_err(|error| Fault::lasting(format!("{host} cannot be served: {error}")))?;
        let suffix: Name = SUFFIX.parse().map_err(|_| too_long())?;
        let policy = host.below(&self.primary.zone).ok_or_else(too_long)?;
        let mark = host.below(&suffix).and_then(|name| name.below(&self.primary.zone)).ok_or_else(too_long)?;
        Ok(Names { policy, mark })
    }

    async fn read(&self) -> Result<Vec<ZoneRecord>, Fault> {
        self.primary.transfer().await.map_err(|error| fault(&error))
    }

    /// What there is of ours at the names of one host, even where the zone cannot be transferred any more.
    async fn standing_now(&self, names: &Names) -> Result<Standing, Fault> {
        let unread = match self.read().await {
            Ok(zone) => return Ok(Self::standing(&zone, names)),
            Err(unread) => unread,
        };
        // Who does not hold the zone any more says nothing of what stands in it.
        let of = async |name: &Name, rtype| follow::authoritative(&self.primary, name, rtype).await;
        let asked = async {
            let mut records = of(&names.policy, RecordType::A).await?;
            records.extend(of(&names.policy, RecordType::AAAA).await?);
            Ok::<_, UpdateError>(Standing { records, marks: of(&names.mark, RecordType::TXT).await? })
        };
        asked.await.map_err(|_| unread)
    }

    fn standing(zone: &[ZoneRecord], names: &Names) -> Standing {
        let at = |name: &Name| {
            let is_there = |record: &&ZoneRecord| record.name == *name && !OF_SIGNING.contains(&record.rtype);
            let mut records: Vec<ZoneRecord> = zone.iter().filter(is_there).cloned().collect();
            records.sort();
            records
        };
        Standing { records: at(&names.policy), marks: at(&names.mark) }
    }

    pub async fn put(&self, claim: &Claim, replaces: Option<u64>) -> Result<(), Fault> {
        let names = self.names(&claim.host)?;
        let standing = Self::standing(&self.read().await?, &names);
        if !stands(&standing, claim) {
            if claim.expires_at < Timestamp::now() + LEASE_MIN {
                return Err(Fault::lasting("the lease has run out already; nothing was written"));
            }
            let update = change::put(&standing, &names, claim, replaces)
                .map_err(|why| Fault::lasting(format!("{why} ({self}); nothing was changed")))?;
            self.send(&update, &names, |standing| stands(standing, claim)).await?;
        }
        self.everywhere(&names, Some(claim)).await
    }

    pub async fn take(&self, mine: &Mine) -> Result<Taken, Fault> {
        let host = match &mine.host {
            Some(host) => host.clone(),
            None => match self.claims(&self.read().await?).into_values().find(|claim| mine.is(claim)) {
                Some(claim) => claim.host,
                None => return Ok(Taken::Gone),
            },
        };
        let names = self.names(&host)?;
        let standing = self.standing_now(&names).await?;
        let ours = standing.claims(&host).into_iter().find(|claim| mine.is(claim));
        match &ours {
            Some(claim) if claim.generation <= mine.generation => {
                let update = change::take(&standing, &names, claim);
                self.send(&update, &names, |standing| is_gone(standing, claim)).await?;
                self.everywhere(&names, None).await?;
                Ok(Taken::Gone)
            }
            Some(claim) => Ok(Taken::Newer(format!("{} stands in {self}", claim.told()))),
            None if standing.is_empty() => self.everywhere(&names, None).await.map(|()| Taken::Gone),
            // Somebody else's, who was there first, or of a later override, whose mark says so: ours is gone, or was refused.
            None if standing.unclaimed(&host).is_disjoint(&mine.addresses) => Ok(Taken::Gone),
            None => Err(Fault::lasting(format!(
                "the ownership record {} is gone or was changed, but {} stands in {self}: it is not touched. Whoever changed it \
                 takes it away, for example with nsupdate",
                names.mark,
                list(standing.records.iter().chain(&standing.marks)),
            ))),
        }
    }

    pub async fn look(&self, owner: &str, hosts: &BTreeSet<String>) -> Result<Found, Fault> {
        let zone = self.read().await?;
        let claims = self.claims(&zone);
        let mut found = Found::default();
        for claim in claims.values().filter(|claim| claim.owner == owner) {
            let Ok(names) = self.names(&claim.host) else { continue };
            let standing = Self::standing(&zone, &names);
            found.ours.push((claim.clone(), standing.addresses()));
        }
        for host in hosts {
            let Ok(names) = self.names(host) else { continue };
            let standing = Self::standing(&zone, &names);
            found.foreign.extend(self.foreign(owner, host, &names, &standing));
        }
        Ok(found)
    }

    fn foreign(&self, owner: &str, host: &str, names: &Names, standing: &Standing) -> Option<String> {
        match standing.claim(host) {
            Some(claim) if claim.owner == owner => {
                let strangers = standing.strangers(&claim);
                (!strangers.is_empty()).then(|| {
                    format!(
                        "beside {} somebody else's {} stands in {self}; it is not touched",
                        claim.id,
                        list(strangers)
                    )
                })
            }
            Some(claim) => Some(format!("{} stands in {self}; it is not touched", claim.told())),
            None if standing.is_empty() => None,
            None => Some(format!(
                "{} stands in {self} without an ownership record of ours at {}; it is not touched",
                list(standing.records.iter().chain(&standing.marks)),
                names.mark
            )),
        }
    }

    /// By host.
    fn claims(&self, zone: &[ZoneRecord]) -> BTreeMap<String, Claim> {
        let Ok(below) = format!("{SUFFIX}.{}", self.primary.zone).parse::<Name>() else { return BTreeMap::new() };
        zone.iter()
            .filter(|record| record.rtype == RecordType::TXT)
            .filter_map(|record| {
                let host = record.name.before(&below)?.to_string();
                let claim = Claim::read(&host, &record.texts()?)?;
                Some((host, claim))
            })
            .collect()
    }

    /// One message; then the zone is looked at, whatever was said of it.
    async fn send(&self, update: &Update, names: &Names, is_made: impl Fn(&Standing) -> bool) -> Result<(), Fault> {
        let sent = self.primary.update(update).await;
        let found = self.standing_now(names).await;
        match (sent, found) {
            (Ok(()), Ok(standing)) if is_made(&standing) => Ok(()),
            (Ok(()), Ok(standing)) => Err(Fault::lasting(format!(
                "{self} answered the update with NOERROR and does not have it: the update was lost. Is the server a secondary that \
                 passes updates on, or does something overwrite the zone? {} stands there now",
                if standing.is_empty() {
                    "nothing".to_owned()
                } else {
                    list(standing.records.iter().chain(&standing.marks))
                }
            ))),
            // It was made all the same, or an earlier try of ours was.
            (Err(error), Ok(standing)) if is_made(&standing) => {
                tracing::info!(%error, "the update is in the zone although it was not confirmed");
                Ok(())
            }
            (Err(error), Ok(_)) => {
                Err(Fault { text: format!("{error}; the zone was read: nothing was changed"), ..fault(&error) })
            }
            (Ok(()), Err(unread)) => Err(Fault::passing(format!(
                "the update was confirmed, but the zone cannot be read: {unread}; it is taken up again"
            ))),
            (Err(error), Err(_)) if !error.may_have_been_made() => {
                Err(Fault { text: format!("{error}; nothing was changed"), ..fault(&error) })
            }
            (Err(error), Err(_)) => Err(Fault {
                text: format!(
                    "{error}; whether the change was made is not known, because the zone cannot be read either"
                ),
                passing: true,
            }),
        }
    }

    pub async fn serial(&self) -> Result<u32, Fault> {
        self.primary.serial().await.map_err(|error| fault(&error))
    }
}

/// The same text for the same place.
impl fmt::Display for PolicyZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the zone {} at {}", self.primary.zone, self.primary.address)
    }
}

fn fault(error: &UpdateError) -> Fault {
    Fault { text: error.to_string(), passing: error.is_passing() }
}

/// Exactly this, and nothing of anybody else's beside it.
fn stands(standing: &Standing, claim: &Claim) -> bool {
    standing.claim(&claim.host).is_some_and(|there| there.is_same(claim))
        && standing.addresses() == claim.addresses
        && standing.strangers(claim).is_empty()
}

/// Nothing that the claim says is left; what somebody else put there may be.
fn is_gone(standing: &Standing, claim: &Claim) -> bool {
    let gone = standing.claims(&claim.host).iter().all(|there| !there.is_of(&claim.owner, &claim.id));
    gone && standing.addresses().is_disjoint(&claim.addresses)
}

/// Bounded, for a sentence.
fn list<'r>(records: impl IntoIterator<Item = &'r ZoneRecord>) -> String {
    const SHOWN: usize = 4;
    let all: Vec<&ZoneRecord> = records.into_iter().collect();
    let shown: Vec<String> = all.iter().take(SHOWN).map(|record| record.to_string()).collect();
    let more = if all.len() > SHOWN { format!(" and {} more", all.len() - SHOWN) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}
