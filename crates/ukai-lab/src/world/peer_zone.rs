//! The peer's own name servers: what its zones hold, told in whatever state the scenario has put a server.

use hickory_proto::op::{Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::Live;
use super::authority::Reply;
use super::records::{self, DELEGATION_TTL, STATIC_TTL, Subnet, Zone, name_server, text};
use crate::scenario::{NameState, Records, ServerMode, Signed};

/// Longest CNAME chain that is followed, as resolvers do.
pub(super) const MAX_CHAIN: usize = 8;

/// What one server says, or `None` where it says nothing.
pub(super) fn reply(live: &Live, zone: &Zone, server: &str, query: &Query, subnet: Subnet) -> Option<Reply> {
    let told = Told { live, zone, server, own: None, subnet };
    match zone.state.server(server) {
        ServerMode::Timeout => None,
        ServerMode::Refuse => Some(Reply::code(ResponseCode::Refused)),
        ServerMode::Servfail => Some(Reply::code(ResponseCode::ServFail)),
        // The classic lame server refers upwards, without the AA bit.
        ServerMode::Lame => {
            Some(Reply { authorities: vec![name_server("", "a.root-servers.lab", STATIC_TTL)], ..Reply::default() })
        }
        ServerMode::OldSerial => Some(Told { zone: &live.previous_zone(), ..told }.reply(query)),
        ServerMode::Own(table) => {
            let mut own = zone.state.authoritative.clone();
            own.replace(&Records::Table(table.clone()));
            Some(Told { own: Some(&own), ..told }.reply(query))
        }
        ServerMode::Serve | ServerMode::NoTcp | ServerMode::NoUdp | ServerMode::Truncate => Some(told.reply(query)),
    }
}

/// Where a CNAME leads, unless it is the CNAME itself that was asked for.
pub(super) fn chained(records: &[Record], kind: RecordType) -> Option<Name> {
    match records.last().map(|record| &record.data) {
        Some(RData::CNAME(target)) if kind != RecordType::CNAME => Some(target.0.clone()),
        _ => None,
    }
}

/// The zones as one server tells them.
#[derive(Clone, Copy)]
struct Told<'a> {
    live: &'a Live,
    zone: &'a Zone,
    server: &'a str,
    /// The watched name as this server alone has it.
    own: Option<&'a NameState>,
    subnet: Subnet,
}

impl<'a> Told<'a> {
    fn reply(&self, query: &Query) -> Reply {
        if self.live.names.zone_of(&text(query.name())).is_none() {
            return Reply::code(ResponseCode::Refused);
        }
        let mut reply = Reply { authoritative: true, ..Reply::default() };
        let mut owner = query.name().clone();
        for _ in 0..MAX_CHAIN {
            match self.at_name(&owner, query.query_type()) {
                Ok(records) => {
                    let target = chained(&records, query.query_type());
                    reply.answers.extend(records);
                    match target {
                        Some(target) if self.live.names.zone_of(&text(&target)).is_some() => owner = target,
                        _ => return reply,
                    }
                }
                Err(code) => {
                    reply.code = code;
                    reply.authorities.push(self.soa(&text(&owner)));
                    return reply;
                }
            }
        }
        reply
    }

    fn at_name(&self, owner: &Name, kind: RecordType) -> Result<Vec<Record>, ResponseCode> {
        let name = text(owner);
        let apex = self.apex(&name);
        if let Some(records) = self.at_apex(apex, kind).filter(|_| name == apex) {
            return Ok(records);
        }
        if let Some(address) = self.live.server_address(&name) {
            return match kind {
                RecordType::A => Ok(vec![Record::from_rdata(owner.clone(), DELEGATION_TTL, RData::A(address.into()))]),
                _ => Err(ResponseCode::NoError),
            };
        }
        let state = self.state(&name);
        let (names, layout) = (&self.live.names, &self.live.layout);
        match state.and_then(|state| records::records_at(names, layout, owner, state, kind, self.subnet)) {
            Some(records) if records.is_empty() => Err(ResponseCode::NoError),
            Some(records) => Ok(records),
            None if name == apex => Err(ResponseCode::NoError),
            None if state.is_none() && names.has_children(self.zone, &name) => Err(ResponseCode::NoError),
            None => Err(ResponseCode::NXDomain),
        }
    }

    fn at_apex(&self, apex: &str, kind: RecordType) -> Option<Vec<Record>> {
        match kind {
            RecordType::SOA => Some(vec![self.soa(apex)]),
            RecordType::NS => {
                let servers = self.child_servers();
                let record = |server: &String| name_server(apex, &self.live.server_host(server), DELEGATION_TTL);
                Some(servers.iter().map(record).collect())
            }
            RecordType::DNSKEY if apex == self.live.names.home => {
                let signed = self.zone.state.authoritative.signed() != Signed::No;
                signed.then(|| vec![records::dnskey(apex)])
            }
            _ => None,
        }
    }

    /// The peer's servers name each other; a server that stands outside names whom the parent names.
    fn child_servers(&self) -> Vec<String> {
        if self.live.own_servers.iter().any(|server| server == self.server) {
            self.live.own_servers.clone()
        } else {
            self.zone.state.delegation()
        }
    }

    fn soa(&self, name: &str) -> Record {
        let negative_ttl = self.state(name).unwrap_or(&self.zone.state.authoritative).negative_ttl;
        records::soa(self.apex(name), &self.live.server_host("ns-1"), self.zone.serial, negative_ttl)
    }

    fn state(&self, name: &str) -> Option<&NameState> {
        let own = self.own.filter(|_| name == self.live.names.host);
        own.or_else(|| self.live.names.state(self.zone, name))
    }

    fn apex(&self, name: &str) -> &'a str {
        self.live.names.zone_of(name).unwrap_or(&self.live.names.home)
    }
}
