//! What Unbound lists of its local data, read back: zones, records, and the marks among them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use sha2::{Digest, Sha256};

use super::ALWAYS;
use crate::provider::claim::{Claim, SUFFIX};

/// Octets of a mark's token: no two marks share one by chance.
const TOKEN_BYTES: usize = 8;
/// Names below a host that a sentence tells of.
const TOLD_MAX: usize = 5;

/// All that is local in it, as it lists it.
#[derive(Debug, Default)]
pub struct Local {
    /// Name and type.
    pub zones: Vec<(String, String)>,
    pub records: Vec<Record>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub name: String,
    pub rtype: String,
    pub data: String,
    pub line: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub name: String,
    /// None: it stands where marks do, and is none.
    pub claim: Option<Claim>,
}

impl Local {
    pub fn read(zones: &str, records: &str) -> Local {
        let zone = |line: &str| {
            let (name, kind) = line.trim().rsplit_once(' ')?;
            Some((canonical(name), kind.to_owned()))
        };
        Local {
            zones: zones.lines().filter_map(zone).collect(),
            records: records.lines().filter_map(Record::read).collect(),
        }
    }

    pub fn zone(&self, host: &str) -> Option<&str> {
        self.zones.iter().find(|(name, _)| name == host).map(|(_, kind)| kind.as_str())
    }

    pub fn at(&self, host: &str) -> Vec<&Record> {
        self.records.iter().filter(|record| record.name == host).collect()
    }

    pub fn addresses(&self, host: &str) -> BTreeSet<IpAddr> {
        self.at(host).into_iter().filter_map(Record::address).collect()
    }

    /// The addresses at the host that a query is answered with.
    pub fn answered(&self, host: &str) -> BTreeSet<IpAddr> {
        match self.zone(host) {
            Some(kind) if kind.starts_with(ALWAYS) => BTreeSet::new(),
            _ => self.addresses(host),
        }
    }

    /// Records and zones at names below the host.
    pub fn below(&self, host: &str) -> Vec<String> {
        let suffix = format!(".{host}");
        let zones = self.zones.iter().filter(|(name, _)| name.ends_with(&suffix));
        let records = self.records.iter().filter(|record| record.name.ends_with(&suffix));
        zones
            .map(|(name, kind)| format!("the local zone {name} {kind}"))
            .chain(records.map(|record| record.line.clone()))
            .take(TOLD_MAX)
            .collect()
    }

    pub fn all_marks(&self) -> Vec<Mark> {
        let of = |record: &Record| {
            let (_, host) = record.name.strip_suffix(SUFFIX)?.trim_end_matches('.').split_once('.')?;
            let claim = Claim::read(host, &record.texts());
            Some(Mark { name: record.name.clone(), claim })
        };
        self.records.iter().filter_map(of).collect()
    }

    pub fn marks(&self, host: &str) -> Vec<Mark> {
        let below = format!(".{host}.{SUFFIX}");
        let mut marks = self.all_marks();
        marks.retain(|mark| mark.name.strip_suffix(&below).is_some_and(|token| !token.contains('.')));
        marks
    }
}

impl Mark {
    pub fn is_of(&self, owner: &str, id: &str) -> bool {
        self.claim.as_ref().is_some_and(|claim| claim.is_of(owner, id))
    }

    pub fn told(&self) -> String {
        self.claim.as_ref().map_or_else(|| self.name.clone(), Claim::told)
    }
}

impl Record {
    /// `NAME<TAB>TTL<TAB>IN<TAB>TYPE<TAB>DATA`.
    pub fn read(line: &str) -> Option<Record> {
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

    pub fn address(&self) -> Option<IpAddr> {
        matches!(self.rtype.as_str(), "A" | "AAAA").then(|| self.data.parse().ok())?
    }

    /// One of these addresses.
    pub fn is_of(&self, addresses: &BTreeSet<IpAddr>) -> bool {
        self.address().is_some_and(|address| addresses.contains(&address))
    }

    /// None of ours has a quote in it.
    pub fn texts(&self) -> Vec<String> {
        self.data.split('"').skip(1).step_by(2).map(str::to_owned).collect()
    }
}

/// For a sentence.
pub fn lines(records: Vec<&Record>) -> String {
    let lines: Vec<&str> = records.iter().map(|record| record.line.as_str()).collect();
    lines.join(", ")
}

fn canonical(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

pub fn address_line(host: &str, ttl_s: u32, address: IpAddr) -> String {
    let rtype = if address.is_ipv4() { "A" } else { "AAAA" };
    format!("{host}. {ttl_s} IN {rtype} {address}")
}

pub fn mark_name(claim: &Claim) -> String {
    let digest = Sha256::digest(format!("{}/{}/{}", claim.owner, claim.id, claim.generation));
    let token: String = digest.iter().take(TOKEN_BYTES).map(|octet| format!("{octet:02x}")).collect();
    format!("{token}.{}.{SUFFIX}", claim.host)
}

pub fn mark_line(claim: &Claim) -> String {
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
