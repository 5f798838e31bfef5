//! The peer's name servers: what each says of the name, in whatever state the scenario has put it.

use std::net::IpAddr;

use ukai_core::diagnose::evidence::{Rcode, Soa};
use ukai_lab::scenario::{NameState, Records, ServerMode, WorldState};

use super::World;

/// Longest chain of aliases that is followed, as resolvers do.
pub const MAX_CHAIN: usize = 8;
/// Addresses that fit a plain answer over UDP (1,232 bytes, 16 each, after the header and the question).
pub const UDP_ADDRESSES_MAX: usize = 70;
/// TTL of what no scenario changes: denials by the parent.
pub const STATIC_TTL: u32 = 300;

/// The peer's zone at one moment.
#[derive(Debug, Clone)]
pub struct Zone {
    pub state: WorldState,
    pub serial: u32,
}

/// Who a question is answered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subnet {
    Us,
    Others,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    A,
    Aaaa,
    Https,
    Soa,
    Txt,
    Mx,
    Caa,
}

impl Kind {
    pub const FAMILIES: [Kind; 2] = [Kind::A, Kind::Aaaa];
    pub const OF_AUTHORITIES: [Kind; 4] = [Kind::A, Kind::Aaaa, Kind::Soa, Kind::Https];
    /// What an override must not hide; asked for while one stands.
    pub const BESIDE: [Kind; 3] = [Kind::Txt, Kind::Mx, Kind::Caa];

    pub fn name(self) -> &'static str {
        match self {
            Kind::A => "A",
            Kind::Aaaa => "AAAA",
            Kind::Https => "HTTPS",
            Kind::Soa => "SOA",
            Kind::Txt => "TXT",
            Kind::Mx => "MX",
            Kind::Caa => "CAA",
        }
    }

    fn holds(self, address: &IpAddr) -> bool {
        match self {
            Kind::A => address.is_ipv4(),
            Kind::Aaaa => address.is_ipv6(),
            _ => false,
        }
    }
}

/// An answer, before it is put on record.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    pub rcode: Rcode,
    pub authoritative: bool,
    pub recursion: bool,
    pub authentic: bool,
    pub truncated: bool,
    pub addresses: Vec<IpAddr>,
    pub records: usize,
    pub chain: Vec<String>,
    pub ttl: Option<u32>,
    pub soa: Option<Soa>,
    pub extended_error: Option<u16>,
}

impl Reply {
    pub fn code(rcode: Rcode) -> Reply {
        Reply {
            rcode,
            authoritative: false,
            recursion: false,
            authentic: false,
            truncated: false,
            addresses: Vec::new(),
            records: 0,
            chain: Vec::new(),
            ttl: None,
            soa: None,
            extended_error: None,
        }
    }

    /// As it comes over UDP.
    pub fn over_udp(self) -> Reply {
        if self.addresses.len() <= UDP_ADDRESSES_MAX {
            return self;
        }
        self.cut()
    }

    /// Nothing but the TC bit.
    pub fn cut(self) -> Reply {
        Reply { truncated: true, addresses: Vec::new(), records: 0, chain: Vec::new(), ttl: None, soa: None, ..self }
    }

    pub fn with_ttl(mut self, ttl: u32) -> Reply {
        self.ttl = self.ttl.map(|_| ttl);
        self.soa = self.soa.map(|soa| Soa { negative_ttl: ttl, ..soa });
        self
    }

    /// How long it may be kept.
    pub fn lifetime(&self) -> u32 {
        self.ttl.into_iter().chain(self.soa.as_ref().map(|soa| soa.negative_ttl)).min().unwrap_or(0)
    }
}

impl World {
    /// What one server says of the name. None: nothing.
    pub fn authority(&mut self, zone: &Zone, server: &str, kind: Kind, subnet: Subnet) -> Option<Reply> {
        match zone.state.server(server).clone() {
            ServerMode::Timeout => None,
            ServerMode::Refuse => Some(Reply::code(Rcode::Refused)),
            ServerMode::Servfail => Some(Reply::code(Rcode::Servfail)),
            // The classic lame server refers upwards, without the AA bit.
            ServerMode::Lame => Some(Reply::code(Rcode::Noerror)),
            ServerMode::OldSerial => {
                let previous = self.previous.clone();
                Some(self.told(&previous, None, kind, subnet))
            }
            ServerMode::Own(table) => {
                let mut own = zone.state.authoritative.clone();
                own.replace(&Records::Table(table));
                Some(self.told(zone, Some(&own), kind, subnet))
            }
            ServerMode::Serve | ServerMode::NoTcp | ServerMode::NoUdp | ServerMode::Truncate => {
                Some(self.told(zone, None, kind, subnet))
            }
        }
    }

    pub(super) fn told(&mut self, zone: &Zone, own: Option<&NameState>, kind: Kind, subnet: Subnet) -> Reply {
        let mut reply = Reply { authoritative: true, ..Reply::code(Rcode::Noerror) };
        let host = self.layout.host.clone();
        let mut owner = host.clone();
        for _ in 0..MAX_CHAIN {
            let state = own.filter(|_| owner == host).cloned().or_else(|| self.state_of(&zone.state, &owner));
            let negative_ttl = state.as_ref().unwrap_or(&zone.state.authoritative).negative_ttl;
            let soa = Some(Soa { serial: zone.serial, negative_ttl });
            if kind == Kind::Soa {
                return Reply { soa, records: usize::from(owner == self.layout.home), ..reply };
            }
            let Some((state, table)) = state.as_ref().and_then(|state| match &state.records {
                Records::Table(table) => Some((state, table)),
                Records::Nxdomain => None,
            }) else {
                let rcode = if self.is_above_a_name(zone, &owner) { Rcode::Noerror } else { Rcode::Nxdomain };
                return Reply { rcode, soa, ..reply };
            };
            if let Some(target) = &table.cname {
                reply.ttl = reply.ttl.into_iter().chain([state.ttl]).min();
                reply.chain.push(target.clone());
                if self.layout.zone_of(target).is_none() {
                    return reply;
                }
                owner = target.clone();
                continue;
            }
            if !Kind::FAMILIES.contains(&kind) {
                let records = match kind {
                    Kind::Https => usize::from(!table.https.is_empty()),
                    Kind::Txt => table.txt.len(),
                    Kind::Mx => table.mx.len(),
                    _ => 0,
                };
                let ttl = (records > 0).then_some(state.ttl);
                return Reply { records, ttl, soa: soa.filter(|_| records == 0), ..reply };
            }
            let labels: Vec<&String> = match (&table.by_subnet, subnet) {
                (Some(split), Subnet::Us) => split.us.iter().collect(),
                (Some(split), Subnet::Others) => split.others.iter().collect(),
                (None, _) if kind == Kind::A => table.a.iter().collect(),
                (None, _) => table.aaaa.iter().collect(),
            };
            let chosen = if table.rotate { self.turn(&labels) } else { labels };
            let addresses: Vec<IpAddr> = chosen
                .into_iter()
                .filter_map(|label| self.layout.hosts.get(label))
                .copied()
                .filter(|ip| kind.holds(ip))
                .collect();
            if addresses.is_empty() {
                return Reply { soa, ..reply };
            }
            let ttl = reply.ttl.into_iter().chain([state.ttl]).min();
            return Reply { records: addresses.len(), addresses, ttl, ..reply };
        }
        Reply::code(Rcode::Servfail)
    }

    /// What the zone holds at a name; below a wildcard, what the wildcard holds (RFC 4592).
    fn state_of(&self, state: &WorldState, name: &str) -> Option<NameState> {
        let exact = if name == self.layout.host { Some(&state.authoritative) } else { state.names.get(name) };
        match exact {
            Some(held) if held.records != Records::Nxdomain => Some(held.clone()),
            other => self.wildcard(state, name).or_else(|| other.cloned()),
        }
    }

    fn wildcard(&self, state: &WorldState, name: &str) -> Option<NameState> {
        let (_, parent) = name.split_once('.')?;
        state.names.get(&format!("*.{parent}")).cloned()
    }

    /// Something exists below it, so that it exists itself.
    fn is_above_a_name(&self, zone: &Zone, name: &str) -> bool {
        zone.state.names.keys().any(|other| other != name && super::layout::within(other, name))
    }

    /// Half of the set, beginning one further at every question.
    fn turn<'l>(&mut self, labels: &[&'l String]) -> Vec<&'l String> {
        if labels.is_empty() {
            return Vec::new();
        }
        self.spin += 1;
        let size = labels.len().div_ceil(2);
        (0..size).map(|step| labels[(self.spin + step) % labels.len()]).collect()
    }
}
