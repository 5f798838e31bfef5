//! Whether every listed server has what the primary has.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::time::Instant;
use ukai_dns::update::{UpdateError, ZoneRecord, ZoneServer};
use ukai_dns::{Name, RecordType};

use super::{Names, PolicyZone, fault};
use crate::provider::claim::Claim;
use crate::provider::place::Fault;

/// NOTIFY and a transfer take well under a second, and a server that gathers changes sends them every few; the engine gives
/// a change 60 s before it asks again.
pub(super) const PROPAGATION_BOUND: Duration = Duration::from_secs(20);
const PROPAGATION_POLL: Duration = Duration::from_millis(100);

impl PolicyZone {
    /// Waits until each secondary has the claim, or has none.
    pub(super) async fn everywhere(&self, names: &Names, claim: Option<&Claim>) -> Result<(), Fault> {
        let begun = Instant::now();
        for secondary in &self.secondaries {
            self.at_secondary(*secondary, names, claim, begun).await?;
        }
        Ok(())
    }

    async fn at_secondary(
        &self,
        secondary: SocketAddr,
        names: &Names,
        claim: Option<&Claim>,
        begun: Instant,
    ) -> Result<(), Fault> {
        let server = self.secondary(secondary);
        loop {
            let seen = has(&server, names, claim).await;
            if let Ok(true) = seen {
                let delay_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(zone = %server.zone, %secondary, delay_ms, "the secondary has the change");
                return Ok(());
            }
            if begun.elapsed() >= self.patience {
                let seen = match seen {
                    Err(error) => error.to_string(),
                    Ok(_) => "it still answers what was before".to_owned(),
                };
                return Err(Fault::passing(format!(
                    "the secondary {secondary} has not followed {self} within {} s ({seen}); NOTIFY must reach it and it must be \
                     allowed to transfer. The primary has the change",
                    self.patience.as_secs()
                )));
            }
            tokio::time::sleep(PROPAGATION_POLL).await;
        }
    }

    /// Reading needs no key there: resolvers do so, too.
    fn secondary(&self, address: SocketAddr) -> ZoneServer {
        ZoneServer::new(address, self.primary.zone.clone(), None)
    }

    /// What the primary and every secondary answer for the host. They must agree.
    pub async fn answers(&self, host: &str) -> Result<BTreeSet<IpAddr>, Fault> {
        let names = self.names(host)?;
        let at_primary = addresses(&self.primary, &names).await.map_err(|error| fault(&error))?;
        for secondary in &self.secondaries {
            let there = addresses(&self.secondary(*secondary), &names).await.map_err(|error| fault(&error))?;
            if there != at_primary {
                return Err(Fault::passing(format!("the secondary {secondary} answers otherwise than {self}")));
            }
        }
        Ok(at_primary)
    }
}

async fn has(server: &ZoneServer, names: &Names, claim: Option<&Claim>) -> Result<bool, UpdateError> {
    let marks = authoritative(server, &names.mark, RecordType::TXT).await?;
    let Some(claim) = claim else {
        return Ok(marks.iter().filter_map(ZoneRecord::texts).all(|texts| Claim::read("", &texts).is_none()));
    };
    let there = marks.first().and_then(ZoneRecord::texts).and_then(|texts| Claim::read(&claim.host, &texts));
    if !there.is_some_and(|there| there.is_same(claim)) {
        return Ok(false);
    }
    Ok(addresses(server, names).await? == claim.addresses)
}

async fn addresses(server: &ZoneServer, names: &Names) -> Result<BTreeSet<IpAddr>, UpdateError> {
    let mut addresses = BTreeSet::new();
    for rtype in [RecordType::A, RecordType::AAAA] {
        let records = authoritative(server, &names.policy, rtype).await?;
        addresses.extend(records.iter().filter_map(ZoneRecord::as_address));
    }
    Ok(addresses)
}

/// What a server that holds the zone has of a name. One that does not may say NOERROR and nothing, as a resolver does.
pub(super) async fn authoritative(
    server: &ZoneServer,
    name: &Name,
    rtype: RecordType,
) -> Result<Vec<ZoneRecord>, UpdateError> {
    let answer = server.query(name, rtype).await?;
    match answer.authoritative {
        true => Ok(answer.records),
        false => Err(UpdateError::NoZone { server: server.address, zone: server.zone.clone(), rcode: answer.rcode }),
    }
}
