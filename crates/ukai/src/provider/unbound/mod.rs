//! Unbound as the application's resolver, told by its remote control what one name is.
//!
//! Local data has no transaction, so the order of commands makes every answer the old one or the new one:
//!
//! ```text
//! first:   local_zone NAME typetransparent   nothing is there: all of it still reaches the world
//!          local_datas …                     a type that has records is answered, any other reaches the world
//!          local_zone NAME transparent       types without records are NODATA; names below still reach the world
//! change:  local_zone NAME deny              records are answered as before
//!          local_data_remove NAME            a query of these few milliseconds gets no answer, and is asked again
//!          local_datas … ; local_zone NAME transparent
//! end:     local_zone_remove NAME ; flush NAME
//! ```
//! There is no compare and swap either. Each override has a mark of its own, a TXT record at `TOKEN.NAME._ukai.invalid`: it is
//! written first, and whoever sees another's mark after that takes his own back. Two at the same moment may both lose; both
//! never win. Unbound forgets all of it when it restarts: an override then ends.

mod control;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

pub use control::Control;

use super::claim::{Claim, SUFFIX};
use super::place::{Fault, Found, Mine, Taken};

/// Octets of a mark's token: no two marks share one by chance.
const TOKEN_BYTES: usize = 8;

pub struct Unbound {
    control: Control,
}

/// All that is local in it, as it lists it.
#[derive(Debug, Default)]
struct Local {
    /// Name and type.
    zones: Vec<(String, String)>,
    records: Vec<Record>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    name: String,
    rtype: String,
    data: String,
    line: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    name: String,
    /// None: it stands where marks do, and is none.
    claim: Option<Claim>,
}

impl Unbound {
    pub fn new(control: Control) -> Unbound {
        Unbound { control }
    }

    pub async fn put(&self, claim: &Claim, replaces: Option<u64>) -> Result<(), Fault> {
        let local = self.read().await?;
        let marks = local.marks(&claim.host);
        self.check(&local, &marks, claim, replaces)?;
        if claim.expires_at <= Timestamp::now() {
            return Err(Fault::lasting("the lease has run out already; nothing was written"));
        }
        let own = mark_name(claim);
        if !marks.iter().any(|mark| mark.name == own) {
            self.add(&[mark_line(claim)]).await?;
        }
        let seen = self.read().await?;
        if let Some(other) = seen.marks(&claim.host).iter().find(|mark| !mark.is_of(&claim.owner, &claim.id)) {
            self.remove(&own).await?;
            return Err(Fault::lasting(format!("{} stands in {self}: somebody was there first", other.told())));
        }
        self.install(&seen, claim).await?;
        for mark in marks.iter().filter(|mark| mark.name != own) {
            self.remove(&mark.name).await?;
        }
        let made = self.read().await?;
        match made.addresses(&claim.host) == claim.addresses && made.zone(&claim.host) == Some("transparent") {
            true => Ok(()),
            false => {
                Err(Fault::lasting(format!("{self} said ok, and does not have it; nothing is known of who took it")))
            }
        }
    }

    /// What stands must be nothing, the generation that is to be replaced, or this one, begun before.
    fn check(&self, local: &Local, marks: &[Mark], claim: &Claim, replaces: Option<u64>) -> Result<(), Fault> {
        if let Some(other) = marks.iter().find(|mark| !mark.is_of(&claim.owner, &claim.id)) {
            return Err(Fault::lasting(format!("{} stands in {self}; nothing was changed", other.told())));
        }
        let ours: Vec<&Claim> = marks.iter().filter_map(|mark| mark.claim.as_ref()).collect();
        let records = local.at(&claim.host);
        if ours.is_empty() {
            let zone = local.zone(&claim.host);
            return match (records.first(), zone, replaces) {
                (Some(record), ..) => Err(Fault::lasting(format!(
                    "{} stands in {self} and is not ours: take it away by hand if it may go; nothing was changed",
                    record.line
                ))),
                (None, Some(kind), _) => Err(Fault::lasting(format!(
                    "the local zone {} of type {kind} stands in {self} and is not ours; nothing was changed",
                    claim.host
                ))),
                (None, None, Some(generation)) => Err(Fault::lasting(format!(
                    "generation {generation} was expected for {}, but no such override stands; nothing was changed",
                    claim.host
                ))),
                (None, None, None) => Ok(()),
            };
        }
        let begun = ours.iter().any(|there| there.is_same(claim));
        let expected = ours.iter().any(|there| Some(there.generation) == replaces);
        if !begun && !expected || ours.iter().any(|there| there.generation > claim.generation) {
            let told: Vec<String> = ours.iter().map(|there| there.told()).collect();
            return Err(Fault::lasting(format!(
                "another generation was expected: {} stands in {self}",
                told.join(", ")
            )));
        }
        let known: BTreeSet<IpAddr> = ours.iter().flat_map(|there| there.addresses.iter().copied()).collect();
        let strangers = records.iter().any(|record| record.address().is_none_or(|address| !known.contains(&address)));
        // Fewer than ours: we were cut off, where this generation was begun; else somebody took some away.
        let missing = !begun && ours.iter().all(|there| there.addresses != local.addresses(&claim.host));
        if strangers || missing {
            return Err(Fault::lasting(format!(
                "somebody changed what stands at {} in {self}; put it back or take it away; nothing was changed",
                claim.host
            )));
        }
        Ok(())
    }

    async fn install(&self, seen: &Local, claim: &Claim) -> Result<(), Fault> {
        let host = &claim.host;
        let there = seen.addresses(host);
        if there == claim.addresses && seen.at(host).len() == there.len() {
            return self.zone_is(host, "transparent").await;
        }
        if there.is_empty() {
            self.zone_is(host, "typetransparent").await?;
        } else {
            self.zone_is(host, "deny").await?;
            self.remove(host).await?;
        }
        let lines: Vec<String> =
            claim.addresses.iter().map(|address| address_line(host, claim.ttl_s, *address)).collect();
        self.add(&lines).await?;
        self.zone_is(host, "transparent").await
    }

    pub async fn take(&self, mine: &Mine) -> Result<Taken, Fault> {
        let local = self.read().await?;
        let all = local.all_marks();
        let ours: Vec<&Mark> =
            all.iter().filter(|mark| mark.claim.as_ref().is_some_and(|claim| mine.is(claim))).collect();
        let claims: Vec<&Claim> = ours.iter().filter_map(|mark| mark.claim.as_ref()).collect();
        if let Some(newer) = claims.iter().find(|claim| claim.generation > mine.generation) {
            return Ok(Taken::Newer(format!("{} stands in {self}", newer.told())));
        }
        let Some(first) = claims.first() else {
            let left = mine.host.as_deref().filter(|host| local.marks(host).is_empty() && !local.at(host).is_empty());
            return match left {
                None => Ok(Taken::Gone),
                Some(host) => Err(Fault::lasting(format!(
                    "no mark of ours is left, but {} has local data in {self}: it is not touched. Whoever put it there takes it away \
                     with `unbound-control local_data_remove {host}`",
                    host
                ))),
            };
        };
        let host = first.host.clone();
        let known: BTreeSet<IpAddr> = claims.iter().flat_map(|claim| claim.addresses.iter().copied()).collect();
        let strangers: Vec<String> = local
            .at(&host)
            .iter()
            .filter(|record| record.address().is_none_or(|address| !known.contains(&address)))
            .map(|record| record.line.clone())
            .collect();
        if strangers.is_empty() {
            if local.zone(&host).is_some() {
                self.control.run(&format!("local_zone_remove {host}."), &[]).await?;
            }
            // What it had in its cache from before is as old as the override.
            self.control.run(&format!("flush {host}."), &[]).await?;
        } else {
            self.zone_is(&host, "deny").await?;
            self.remove(&host).await?;
            self.add(&strangers).await?;
            self.zone_is(&host, "transparent").await?;
        }
        for mark in ours {
            self.remove(&mark.name).await?;
        }
        Ok(Taken::Gone)
    }

    pub async fn look(&self, owner: &str, hosts: &BTreeSet<String>) -> Result<Found, Fault> {
        let local = self.read().await?;
        let mut found = Found::default();
        let marks = local.all_marks();
        let mut ours: Vec<Claim> =
            marks.iter().filter_map(|mark| mark.claim.clone()).filter(|claim| claim.owner == owner).collect();
        // Where a change was cut off there are two marks; the later one is the one that is taken up.
        ours.sort_by(|a, b| (&a.id, b.generation).cmp(&(&b.id, a.generation)));
        ours.dedup_by(|later, kept| later.id == kept.id);
        for claim in ours {
            let addresses = local.addresses(&claim.host);
            found.ours.push((claim, addresses));
        }
        for host in hosts {
            let marks = local.marks(host);
            let known: BTreeSet<IpAddr> = marks
                .iter()
                .filter_map(|mark| mark.claim.as_ref())
                .filter(|claim| claim.owner == owner)
                .flat_map(|claim| claim.addresses.iter().copied())
                .collect();
            let strangers = local
                .at(host)
                .into_iter()
                .filter(|record| record.address().is_none_or(|address| !known.contains(&address)));
            let strangers: Vec<String> = strangers.map(|record| record.line.clone()).collect();
            if !strangers.is_empty() {
                found
                    .foreign
                    .push(format!("{} stands in {self} and is not ours; it is not touched", strangers.join(", ")));
            }
        }
        Ok(found)
    }

    pub async fn answers(&self, host: &str) -> Result<BTreeSet<IpAddr>, Fault> {
        Ok(self.read().await?.addresses(host))
    }

    async fn read(&self) -> Result<Local, Fault> {
        let zones = self.control.run("list_local_zones", &[]).await?;
        let records = self.control.run("list_local_data", &[]).await?;
        Ok(Local::read(&zones, &records))
    }

    async fn zone_is(&self, host: &str, kind: &str) -> Result<(), Fault> {
        self.control.run(&format!("local_zone {host}. {kind}"), &[]).await.map(drop)
    }

    async fn add(&self, lines: &[String]) -> Result<(), Fault> {
        let answer = self.control.run("local_datas", lines).await?;
        // A line that it does not take is told in between, and the last line counts the others.
        match answer.contains("error") {
            true => Err(Fault::lasting(format!("{self} did not take all of it: {}", answer.trim()))),
            false => Ok(()),
        }
    }

    async fn remove(&self, name: &str) -> Result<(), Fault> {
        self.control.run(&format!("local_data_remove {name}."), &[]).await.map(drop)
    }
}

/// The same text for the same place.
impl fmt::Display for Unbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.control.fmt(f)
    }
}

impl Local {
    fn read(zones: &str, records: &str) -> Local {
        let zone = |line: &str| {
            let (name, kind) = line.trim().rsplit_once(' ')?;
            Some((canonical(name), kind.to_owned()))
        };
        Local {
            zones: zones.lines().filter_map(zone).collect(),
            records: records.lines().filter_map(Record::read).collect(),
        }
    }

    fn zone(&self, host: &str) -> Option<&str> {
        self.zones.iter().find(|(name, _)| name == host).map(|(_, kind)| kind.as_str())
    }

    fn at(&self, host: &str) -> Vec<&Record> {
        self.records.iter().filter(|record| record.name == host).collect()
    }

    fn addresses(&self, host: &str) -> BTreeSet<IpAddr> {
        self.at(host).into_iter().filter_map(Record::address).collect()
    }

    fn all_marks(&self) -> Vec<Mark> {
        let of = |record: &Record| {
            let (_, host) = record.name.strip_suffix(SUFFIX)?.trim_end_matches('.').split_once('.')?;
            let claim = Claim::read(host, &record.texts());
            Some(Mark { name: record.name.clone(), claim })
        };
        self.records.iter().filter_map(of).collect()
    }

    fn marks(&self, host: &str) -> Vec<Mark> {
        let below = format!(".{host}.{SUFFIX}");
        let mut marks = self.all_marks();
        marks.retain(|mark| mark.name.strip_suffix(&below).is_some_and(|token| !token.contains('.')));
        marks
    }
}

impl Mark {
    fn is_of(&self, owner: &str, id: &str) -> bool {
        self.claim.as_ref().is_some_and(|claim| claim.is_of(owner, id))
    }

    fn told(&self) -> String {
        self.claim.as_ref().map_or_else(|| self.name.clone(), Claim::told)
    }
}

impl Record {
    /// `NAME<TAB>TTL<TAB>IN<TAB>TYPE<TAB>DATA`.
    fn read(line: &str) -> Option<Record> {
        let mut fields = line.trim().splitn(5, '\t');
        let (name, _, _, rtype, data) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        Some(Record {
            name: canonical(name),
            rtype: rtype.to_owned(),
            data: data.to_owned(),
            line: line.trim().replace('\t', " "),
        })
    }

    fn address(&self) -> Option<IpAddr> {
        matches!(self.rtype.as_str(), "A" | "AAAA").then(|| self.data.parse().ok())?
    }

    /// None of ours has a quote in it.
    fn texts(&self) -> Vec<String> {
        self.data.split('"').skip(1).step_by(2).map(str::to_owned).collect()
    }
}

fn canonical(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

fn address_line(host: &str, ttl_s: u32, address: IpAddr) -> String {
    let rtype = if address.is_ipv4() { "A" } else { "AAAA" };
    format!("{host}. {ttl_s} IN {rtype} {address}")
}

fn mark_name(claim: &Claim) -> String {
    let digest = Sha256::digest(format!("{}/{}/{}", claim.owner, claim.id, claim.generation));
    let token: String = digest.iter().take(TOKEN_BYTES).map(|octet| format!("{octet:02x}")).collect();
    format!("{token}.{}.{SUFFIX}", claim.host)
}

fn mark_line(claim: &Claim) -> String {
    let texts: Vec<String> = claim.texts().iter().map(|text| format!("\"{text}\"")).collect();
    format!("{}. {} IN TXT {}", mark_name(claim), claim.ttl_s, texts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::claim::tests::claim;

    #[test]
    fn a_listing_is_read_back() {
        let line = mark_line(&claim()).replacen(' ', "\t", 1).replacen(" IN TXT ", "\tIN\tTXT\t", 1);
        let data =
            format!("api.peer.test.\t10\tIN\tA\t192.0.2.7\n\n{line}\n\nAPI.peer.test.\t10\tIN\tAAAA\t2001:db8::7\n");
        let local = Local::read("api.peer.test. transparent\ninvalid. static\n", &data);
        assert_eq!(local.zone("api.peer.test"), Some("transparent"));
        assert_eq!(local.addresses("api.peer.test"), claim().addresses);
        assert_eq!(local.marks("api.peer.test"), [Mark { name: mark_name(&claim()), claim: Some(claim()) }]);
        assert!(local.marks("peer.test").is_empty());
    }
}
