//! The lab's authoritative servers: its root, its top-level domains, and everybody's but the peer's.

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{RData, Record, RecordType};

use super::Live;
use super::peer_zone;
use super::records::{
    self, DELEGATION_TTL, STATIC_TTL, Subnet, Zone, glue, last_label, name_server, soa, text, within,
};
use crate::scenario::{Controls, NAME_SERVERS, Parent, Signed};

/// Serial of the zones that no scenario edits.
const STATIC_SERIAL: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Server {
    Root,
    Tld,
    /// One of the peer's, by its name in the scenario.
    Peer(String),
    /// Serves the controls' and the independent resolvers' zones.
    Elsewhere,
}

/// The sections of an answer, before they become a message.
#[derive(Debug, Default)]
pub(super) struct Reply {
    pub code: ResponseCode,
    pub authoritative: bool,
    pub answers: Vec<Record>,
    pub authorities: Vec<Record>,
    pub additionals: Vec<Record>,
}

impl Reply {
    pub fn code(code: ResponseCode) -> Self {
        Self { code, ..Self::default() }
    }

    fn negative(code: ResponseCode, soa: Record) -> Self {
        Self { code, authoritative: true, authorities: vec![soa], ..Self::default() }
    }

    fn records(answers: Vec<Record>) -> Self {
        Self { authoritative: true, answers, ..Self::default() }
    }
}

/// What the server says, or `None` where it says nothing.
pub(super) fn reply(live: &Live, server: &Server, request: &Message, query: &Query) -> Option<Reply> {
    let zone = live.zone();
    let dnssec = request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
    match server {
        Server::Root => Some(root(live, query)),
        Server::Tld => Some(tld(live, &zone, query, dnssec)),
        Server::Elsewhere => Some(elsewhere(live, &zone, query)),
        Server::Peer(name) => peer_zone::reply(live, &zone, name, query, subnet(request)),
    }
}

/// The client subnet that the query names; everybody on this machine who names none is us.
pub(super) fn subnet(request: &Message) -> Subnet {
    let option = request.edns.as_ref().and_then(|edns| edns.option(EdnsCode::Subnet));
    match option {
        Some(EdnsOption::Subnet(subnet)) if subnet.source_prefix() > 0 && !subnet.addr().is_loopback() => {
            Subnet::Others
        }
        _ => Subnet::Us,
    }
}

fn root(live: &Live, query: &Query) -> Reply {
    let name = text(query.name());
    let server = "a.root-servers.lab";
    let soa = || soa("", server, STATIC_SERIAL, STATIC_TTL);
    if name.is_empty() {
        return match query.query_type() {
            RecordType::NS => Reply {
                additionals: vec![glue(server, live.layout.root_server(), STATIC_TTL)],
                ..Reply::records(vec![name_server("", server, STATIC_TTL)])
            },
            RecordType::SOA => Reply::records(vec![soa()]),
            _ => Reply::negative(ResponseCode::NoError, soa()),
        };
    }
    if name == server {
        return match query.query_type() {
            RecordType::A => Reply::records(vec![glue(server, live.layout.root_server(), STATIC_TTL)]),
            _ => Reply::negative(ResponseCode::NoError, soa()),
        };
    }
    let tld = last_label(&name);
    if !live.names.tlds().contains(tld) {
        return Reply::negative(ResponseCode::NXDomain, soa());
    }
    if query.query_type() == RecordType::DS && name == tld {
        return Reply::negative(ResponseCode::NoError, soa());
    }
    let server = tld_server_name(tld);
    Reply {
        authorities: vec![name_server(tld, &server, STATIC_TTL)],
        additionals: vec![glue(&server, live.layout.tld_server(), STATIC_TTL)],
        ..Reply::default()
    }
}

fn tld_server_name(tld: &str) -> String {
    format!("a.nic.{tld}")
}

fn tld(live: &Live, zone: &Zone, query: &Query, dnssec: bool) -> Reply {
    let name = text(query.name());
    let tld = last_label(&name);
    if !live.names.tlds().contains(tld) {
        return Reply::code(ResponseCode::Refused);
    }
    let server = tld_server_name(tld);
    let soa = soa(tld, &server, STATIC_SERIAL, DELEGATION_TTL);
    if name == tld {
        return match query.query_type() {
            RecordType::NS => Reply::records(vec![name_server(tld, &server, STATIC_TTL)]),
            RecordType::SOA => Reply::records(vec![soa]),
            _ => Reply::negative(ResponseCode::NoError, soa),
        };
    }
    if name == server && query.query_type() == RecordType::A {
        return Reply::records(vec![glue(&server, live.layout.tld_server(), STATIC_TTL)]);
    }
    if let Some(child) = live.names.zone_of(&name) {
        return delegation(live, zone, child, query, dnssec, soa);
    }
    if let Some(child) = records::static_zone(&name) {
        return static_delegation(live, zone, child, query, soa);
    }
    let exists = server == name || within(&server, &name);
    Reply::negative(if exists { ResponseCode::NoError } else { ResponseCode::NXDomain }, soa)
}

fn delegation(live: &Live, zone: &Zone, child: &str, query: &Query, dnssec: bool, soa: Record) -> Reply {
    let home = child == live.names.home;
    if home && zone.state.parent == Parent::Nxdomain {
        return Reply::negative(ResponseCode::NXDomain, soa);
    }
    let signed = if home { zone.state.authoritative.signed() } else { Signed::No };
    let signer = (signed != Signed::No).then(|| records::delegation_signer(child, signed));
    if query.query_type() == RecordType::DS && text(query.name()) == child {
        return match signer {
            Some(signer) => Reply::records(vec![signer]),
            None => Reply::negative(ResponseCode::NoError, soa),
        };
    }
    let servers = if home { zone.state.delegation() } else { NAME_SERVERS.map(str::to_owned).to_vec() };
    let mut reply = Reply::default();
    for server in &servers {
        let host = live.server_host(server);
        reply.authorities.push(name_server(child, &host, DELEGATION_TTL));
        if let Some(address) = live.layout.servers.get(server) {
            reply.additionals.push(glue(&host, *address, DELEGATION_TTL));
        }
    }
    reply.authorities.extend(signer.filter(|_| dnssec));
    reply
}

fn static_delegation(live: &Live, zone: &Zone, child: &str, query: &Query, soa: Record) -> Reply {
    if records::static_address(&live.layout, &zone.state, child).is_none() {
        return Reply::negative(ResponseCode::NXDomain, soa);
    }
    if query.query_type() == RecordType::DS && text(query.name()) == child {
        return Reply::negative(ResponseCode::NoError, soa);
    }
    let server = format!("ns.{child}");
    Reply {
        authorities: vec![name_server(child, &server, DELEGATION_TTL)],
        additionals: vec![glue(&server, live.layout.elsewhere_server(), DELEGATION_TTL)],
        ..Reply::default()
    }
}

/// The controls' and resolvers' own zones.
pub(super) fn elsewhere(live: &Live, zone: &Zone, query: &Query) -> Reply {
    let name = text(query.name());
    let Some(child) = records::static_zone(&name) else {
        return Reply::code(ResponseCode::Refused);
    };
    if zone.state.controls == Controls::NamesFail && records::CONTROLS.contains(&child) {
        return Reply::code(ResponseCode::ServFail);
    }
    let server = format!("ns.{child}");
    let soa = soa(child, &server, STATIC_SERIAL, DELEGATION_TTL);
    let address = if name == server {
        Some(live.layout.elsewhere_server())
    } else if name == child {
        records::static_address(&live.layout, &zone.state, child)
    } else {
        None
    };
    let Some(address) = address else {
        return Reply::negative(ResponseCode::NXDomain, soa);
    };
    match query.query_type() {
        RecordType::A => {
            Reply::records(vec![Record::from_rdata(query.name().clone(), STATIC_TTL, RData::A(address.into()))])
        }
        RecordType::NS if name == child => Reply::records(vec![name_server(child, &server, DELEGATION_TTL)]),
        RecordType::SOA if name == child => Reply::records(vec![soa]),
        _ => Reply::negative(ResponseCode::NoError, soa),
    }
}
