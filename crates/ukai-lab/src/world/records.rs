//! What the lab's zones hold: labels turned into addresses, record tables into records.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};

use hickory_proto::rr::rdata::svcb::{Alpn, IpHint, SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, HTTPS, MX, NS, NULL, SOA, SVCB, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use sha2::{Digest, Sha256};

use super::layout::Layout;
use crate::scenario::{Controls, NameState, RecordTable, Records, Scenario, Signed, WorldState};

/// The peer's zone at one moment, with everything that its answers depend on.
#[derive(Debug, Clone)]
pub(super) struct Zone {
    pub state: WorldState,
    pub serial: u32,
}

/// Who a query is answered for, where answers depend on the client subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subnet {
    Us,
    Others,
}

/// The controls and resolvers whose names are not the peer's.
pub(super) const CONTROLS: [&str; 3] = ["control-1.test", "control-2.test", "control-3.test"];
const RESOLVERS: [&str; 3] = ["i-1.test", "i-2.test", "i-3.test"];
/// TTL of what never changes during a drill.
pub(super) const STATIC_TTL: u32 = 300;
/// TTL of delegations; real ones are a day or two, this lets a replaced delegation be seen.
pub(super) const DELEGATION_TTL: u32 = 60;

/// The names that exist, and in which zones.
#[derive(Debug)]
pub(super) struct Names {
    /// The name under watch.
    pub host: String,
    /// Its zone, which the name servers' own names are in too.
    pub home: String,
    /// Every zone that the peer's name servers serve.
    pub zones: BTreeSet<String>,
    spin: AtomicUsize,
}

impl Names {
    pub fn new(scenario: &Scenario) -> Self {
        let host = scenario.host().to_owned();
        let home = registered(&host).to_owned();
        let mut zones = BTreeSet::from([home.clone()]);
        for change in scenario.changes() {
            zones.extend(change.names.keys().map(|name| registered(name).to_owned()));
        }
        Self { host, home, zones, spin: AtomicUsize::new(0) }
    }

    /// The peer's zone that holds `name`, if one does.
    pub fn zone_of(&self, name: &str) -> Option<&str> {
        self.zones.iter().map(String::as_str).find(|zone| within(name, zone))
    }

    pub fn tlds(&self) -> BTreeSet<&str> {
        self.zones.iter().map(|zone| last_label(zone)).chain(["test"]).collect()
    }

    pub fn state<'z>(&self, zone: &'z Zone, name: &str) -> Option<&'z NameState> {
        self.state_in(&zone.state, name)
    }

    pub fn state_in<'s>(&self, state: &'s WorldState, name: &str) -> Option<&'s NameState> {
        if name == self.host { Some(&state.authoritative) } else { state.names.get(name) }
    }

    /// Whether something exists below `name`, which makes it an empty non-terminal.
    pub fn has_children(&self, zone: &Zone, name: &str) -> bool {
        let names = zone.state.names.keys().map(String::as_str).chain([self.host.as_str()]);
        names.into_iter().any(|other| other != name && within(other, name))
    }
}

/// The records of one type at a name of the peer; `None` where the name does not exist.
pub(super) fn records_at(
    names: &Names,
    layout: &Layout,
    owner: &Name,
    state: &NameState,
    kind: RecordType,
    subnet: Subnet,
) -> Option<Vec<Record>> {
    let Records::Table(table) = &state.records else {
        return None;
    };
    if let Some(target) = &table.cname {
        return Some(vec![Record::from_rdata(owner.clone(), state.ttl, RData::CNAME(CNAME(fqdn(target))))]);
    }
    let data = match kind {
        RecordType::A | RecordType::AAAA => addresses(names, layout, table, kind, subnet),
        RecordType::HTTPS if !table.https.is_empty() => vec![https(layout, &table.https)],
        RecordType::TXT => table.txt.iter().map(|text| RData::TXT(TXT::from_bytes(vec![text.as_bytes()]))).collect(),
        RecordType::MX => table.mx.iter().map(|mail| RData::MX(MX::new(10, fqdn(mail)))).collect(),
        _ => Vec::new(),
    };
    Some(data.into_iter().map(|data| Record::from_rdata(owner.clone(), state.ttl, data)).collect())
}

fn addresses(names: &Names, layout: &Layout, table: &RecordTable, kind: RecordType, subnet: Subnet) -> Vec<RData> {
    let labels: Vec<&String> = match (&table.by_subnet, subnet) {
        (Some(split), Subnet::Us) => split.us.iter().collect(),
        (Some(split), Subnet::Others) => split.others.iter().collect(),
        (None, _) if kind == RecordType::A => table.a.iter().collect(),
        (None, _) => table.aaaa.iter().collect(),
    };
    let chosen = if table.rotate { names.turn(&labels) } else { labels };
    chosen
        .into_iter()
        .filter_map(|label| layout.hosts.get(label))
        .filter_map(|address| match (address, kind) {
            (IpAddr::V4(four), RecordType::A) => Some(RData::A(A(*four))),
            (IpAddr::V6(six), RecordType::AAAA) => Some(RData::AAAA(AAAA(*six))),
            _ => None,
        })
        .collect()
}

impl Names {
    /// Half of the set, beginning one further at every query.
    fn turn<'l>(&self, labels: &[&'l String]) -> Vec<&'l String> {
        let from = self.spin.fetch_add(1, Ordering::Relaxed);
        let size = labels.len().div_ceil(2);
        (0..size).filter_map(|step| labels.get((from + step) % labels.len())).copied().collect()
    }
}

fn https(layout: &Layout, labels: &[String]) -> RData {
    let (mut four, mut six) = (Vec::new(), Vec::new());
    for address in labels.iter().filter_map(|label| layout.hosts.get(label)) {
        match address {
            IpAddr::V4(address) => four.push(A(*address)),
            IpAddr::V6(address) => six.push(AAAA(*address)),
        }
    }
    let alpn = Alpn(vec!["h2".to_owned(), "http/1.1".to_owned()]);
    let mut parameters = vec![(SvcParamKey::Alpn, SvcParamValue::Alpn(alpn))];
    if !four.is_empty() {
        parameters.push((SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(IpHint(four))));
    }
    if !six.is_empty() {
        parameters.push((SvcParamKey::Ipv6Hint, SvcParamValue::Ipv6Hint(IpHint(six))));
    }
    RData::HTTPS(HTTPS(SVCB::new(1, Name::root(), parameters)))
}

/// Names outside the peer's zones that exist for as long as the drill does.
pub(super) fn static_address(layout: &Layout, state: &WorldState, name: &str) -> Option<Ipv4Addr> {
    let number =
        |names: &[&str]| names.iter().position(|known| *known == name).and_then(|at| u8::try_from(at + 1).ok());
    match number(&CONTROLS) {
        Some(_) if state.controls == Controls::None => None,
        Some(control) => Some(layout.control(control)),
        None => number(&RESOLVERS).map(|resolver| layout.independent(resolver)),
    }
}

/// The zones that [`static_address`] has names in; each is its own zone.
pub(super) fn static_zone(name: &str) -> Option<&'static str> {
    CONTROLS.into_iter().chain(RESOLVERS).find(|zone| within(name, zone))
}

pub(super) fn soa(zone: &str, mname: &str, serial: u32, negative_ttl: u32) -> Record {
    let data = SOA::new(fqdn(mname), fqdn(&format!("hostmaster.{mname}")), serial, 3_600, 600, 604_800, negative_ttl);
    Record::from_rdata(fqdn(zone), negative_ttl, RData::SOA(data))
}

pub(super) fn name_server(zone: &str, server: &str, ttl: u32) -> Record {
    Record::from_rdata(fqdn(zone), ttl, RData::NS(NS(fqdn(server))))
}

pub(super) fn glue(server: &str, address: Ipv4Addr, ttl: u32) -> Record {
    Record::from_rdata(fqdn(server), ttl, RData::A(A(address)))
}

/// The key that the child zone shows. It signs nothing: see the notes on `signed` at the top of [`crate::world`].
pub(super) fn dnskey(zone: &str) -> Record {
    unknown_type(zone, RecordType::DNSKEY, key_data(zone))
}

/// The digest that the parent shows for the child's key, of another key when the chain is bogus.
pub(super) fn delegation_signer(zone: &str, signed: Signed) -> Record {
    let shown = key_data(zone);
    let digested = if signed == Signed::Bogus { key_data(&format!("withdrawn.{zone}")) } else { shown.clone() };
    let mut owner = Vec::new();
    for label in zone.split('.') {
        owner.push(u8::try_from(label.len()).unwrap_or(63));
        owner.extend_from_slice(label.as_bytes());
    }
    owner.push(0);
    let mut data = key_tag(&digested).to_be_bytes().to_vec();
    // Algorithm 13 (ECDSA P-256), digest type 2 (SHA-256): RFC 4034 section 5.1, RFC 4509.
    data.extend([13, 2]);
    data.extend(Sha256::new().chain_update(&owner).chain_update(&digested).finalize());
    unknown_type(zone, RecordType::DS, data)
}

fn key_data(zone: &str) -> Vec<u8> {
    // Flags 257 (zone key, secure entry point), protocol 3, algorithm 13: RFC 4034 section 2.1.
    let mut data = vec![1, 1, 3, 13];
    data.extend(Sha256::digest(zone));
    data.extend(Sha256::digest(format!("{zone}.")));
    data
}

/// RFC 4034 appendix B.
fn key_tag(data: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for (index, byte) in data.iter().enumerate() {
        sum += if index % 2 == 0 { u32::from(*byte) << 8 } else { u32::from(*byte) };
    }
    sum += (sum >> 16) & 0xffff;
    (sum & 0xffff) as u16
}

fn unknown_type(zone: &str, code: RecordType, data: Vec<u8>) -> Record {
    Record::from_rdata(fqdn(zone), DELEGATION_TTL, RData::Unknown { code, rdata: NULL::with(data) })
}

pub(super) fn within(name: &str, zone: &str) -> bool {
    name == zone || name.strip_suffix(zone).is_some_and(|front| front.ends_with('.'))
}

pub(super) fn last_label(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// The last two labels, which is where the lab puts the zone cut below a top-level domain.
pub(super) fn registered(name: &str) -> &str {
    match name.rmatch_indices('.').nth(1) {
        Some((dot, _)) => name.get(dot + 1..).unwrap_or(name),
        None => name,
    }
}

/// A name as text, lower case, without the last dot; the root is empty.
pub(super) fn text(name: &Name) -> String {
    name.to_ascii().trim_end_matches('.').to_ascii_lowercase()
}

/// Names come from a checked scenario or from this crate, so that they always parse.
pub(super) fn fqdn(name: &str) -> Name {
    Name::from_ascii(format!("{name}.")).unwrap_or_else(|_| Name::root())
}
