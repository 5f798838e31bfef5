//! Questions and replies: composed and taken apart once, at the edge.
//!
//! A [`Reply`] is plain data. Whatever bytes a server sends, [`Reply::parse`] ends with a reply or with one sentence.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use domain::base::Message;
use domain::base::iana::Class;
use domain::base::message::RecordSection;
use domain::base::opt::UnknownOptData;
use domain::base::rdata::UnknownRecordData;
use domain::base::record::ParsedRecord;
use domain::rdata::svcb::value::AllValues;
use domain::rdata::{A, Aaaa, Cname, Https, Ns, Soa as SoaData, Txt};
use serde::{Deserialize, Serialize};

use crate::client::AskOptions;
use crate::name::{Name, NameError};
use crate::types::{ExtendedError, Rcode, RecordType, Transport};
use crate::wire::{self, CLASS_IN, Opt};

mod dump;

pub use dump::{DUMP_MAX, dump};

/// No more records than this are read from one message; a message that claims more is malformed.
pub const MAX_RECORDS: usize = 10_000;
/// A CNAME chain longer than this is not followed; resolvers stop between 8 and 17.
pub const MAX_CHAIN: usize = 16;
/// The largest message that a two-octet length can carry.
pub const MAX_MESSAGE: usize = 65_535;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Question {
    pub name: Name,
    pub qtype: RecordType,
}

impl Question {
    pub fn new(name: &str, qtype: RecordType) -> Result<Self, NameError> {
        Ok(Self { name: name.parse()?, qtype })
    }
}

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    pub question: Question,
    pub rcode: Rcode,
    pub authoritative: bool,
    pub truncated: bool,
    pub recursion_available: bool,
    pub authentic_data: bool,
    pub answers: Vec<Record>,
    pub authority: Vec<Record>,
    /// Without the OPT record.
    pub additional: Vec<Record>,
    /// The first SOA of the authority section, or of the answer section when that was asked for.
    pub soa: Option<Soa>,
    /// Whether the server spoke EDNS.
    pub edns: bool,
    pub extended_errors: Vec<ExtendedError>,
    /// The server's own identity (RFC 5001), as text if it is text, else in hexadecimal.
    pub nsid: Option<String>,
    /// The scope of the client subnet (RFC 7871): above zero, the answer depends on who asks.
    pub subnet_scope: Option<u8>,
    pub transport: Transport,
    pub server: SocketAddr,
    pub elapsed: Duration,
    /// Replies that came for this query but did not match it (RFC 5452); anything above zero deserves a look.
    pub mismatched: u32,
    /// The message as it came.
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    pub name: Name,
    pub ttl: u32,
    pub data: Data,
}

/// The data of a record; the types that decide something are taken apart, the rest is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Cname(Name),
    Ns(Name),
    Soa(Soa),
    /// As in a zone file, and the addresses hinted at, which clients may use without ever asking for A or AAAA.
    Https {
        text: String,
        hints: Vec<IpAddr>,
    },
    Txt(String),
    Other {
        rtype: RecordType,
        data: Vec<u8>,
    },
}

/// A start of authority: who owns the zone, and for how long an absence may be remembered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Soa {
    pub zone: Name,
    pub mname: Name,
    pub serial: u32,
    pub minimum: u32,
    pub ttl: u32,
}

impl Record {
    pub fn rtype(&self) -> RecordType {
        match &self.data {
            Data::A(_) => RecordType::A,
            Data::Aaaa(_) => RecordType::AAAA,
            Data::Cname(_) => RecordType::CNAME,
            Data::Ns(_) => RecordType::NS,
            Data::Soa(_) => RecordType::SOA,
            Data::Https { .. } => RecordType::HTTPS,
            Data::Txt(_) => RecordType::TXT,
            Data::Other { rtype, .. } => *rtype,
        }
    }

    pub fn address(&self) -> Option<IpAddr> {
        match self.data {
            Data::A(address) => Some(IpAddr::V4(address)),
            Data::Aaaa(address) => Some(IpAddr::V6(address)),
            _ => None,
        }
    }
}

impl Reply {
    /// The names that the question name leads to inside the answer section, in order, the question name not included.
    pub fn cname_chain(&self) -> Vec<Name> {
        let mut chain: Vec<Name> = Vec::new();
        let mut seen = BTreeSet::from([self.question.name.clone()]);
        while chain.len() < MAX_CHAIN {
            let current = chain.last().unwrap_or(&self.question.name);
            let next = self.answers.iter().find_map(|record| match &record.data {
                Data::Cname(target) if record.name == *current => Some(target.clone()),
                _ => None,
            });
            match next {
                Some(target) if seen.insert(target.clone()) => chain.push(target),
                _ => break,
            }
        }
        chain
    }

    /// Why the CNAMEs have no end, if they have none: nothing can be said of the name then, not even that it has no address.
    pub fn endless_aliases(&self) -> Option<String> {
        let chain = self.cname_chain();
        let end = chain.last().unwrap_or(&self.question.name);
        let next = self.answers.iter().find_map(|record| match &record.data {
            Data::Cname(target) if record.name == *end => Some(target),
            _ => None,
        })?;
        if chain.len() == MAX_CHAIN {
            return Some(format!("there are more than {MAX_CHAIN} CNAMEs"));
        }
        // Asked for, a CNAME is itself the answer, wherever it leads.
        (self.question.qtype != RecordType::CNAME).then(|| format!("the CNAMEs come back to {next}"))
    }

    /// The addresses at the end of the CNAME chain that starts at the question name. Records at any other name are
    /// not an answer to what was asked.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let chain = self.cname_chain();
        let end = chain.last().unwrap_or(&self.question.name);
        self.answers.iter().filter(|record| record.name == *end).filter_map(Record::address).collect()
    }

    /// The shortest time to live in the answer section.
    pub fn min_ttl(&self) -> Option<u32> {
        self.answers.iter().map(|record| record.ttl).min()
    }

    /// Whether the name exists but has no record of the type asked for.
    pub fn is_nodata(&self) -> bool {
        let chain = self.cname_chain();
        let end = chain.last().unwrap_or(&self.question.name);
        // The question name counts as well: asked for, a CNAME is itself the answer.
        let has_type = |record: &Record| {
            (record.name == *end || record.name == self.question.name) && record.rtype() == self.question.qtype
        };
        self.rcode == Rcode::NOERROR
            && !self.answers.iter().any(has_type)
            && !self.is_referral()
            && self.endless_aliases().is_none()
    }

    /// Whether the server points below itself instead of answering (RFC 9499, "referral").
    pub fn is_referral(&self) -> bool {
        self.rcode == Rcode::NOERROR
            && !self.authoritative
            && self.answers.is_empty()
            && self.soa.is_none()
            && self.authority.iter().any(|record| matches!(record.data, Data::Ns(_)))
    }

    /// Takes a message apart. The caller has checked that it answers `question` (see [`matches_query`]). One that cannot be read
    /// is given back, with a sentence that says why.
    pub fn parse(
        question: &Question,
        transport: Transport,
        server: SocketAddr,
        bytes: Vec<u8>,
    ) -> Result<Self, (String, Vec<u8>)> {
        match Self::read(question, transport, server, &bytes) {
            Ok(reply) => Ok(Self { bytes, ..reply }),
            Err(cause) => Err((cause, bytes)),
        }
    }

    fn read(question: &Question, transport: Transport, server: SocketAddr, bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > MAX_MESSAGE {
            return Err(format!("the reply has {} octets, more than a message can have", bytes.len()));
        }
        let message = Message::from_octets(bytes).map_err(|_| "the reply is shorter than a DNS header".to_owned())?;
        let header = message.header();
        let counts = message.header_counts();
        let claimed = usize::from(counts.ancount()) + usize::from(counts.nscount()) + usize::from(counts.arcount());
        if claimed > MAX_RECORDS {
            return Err(format!("the reply claims {claimed} records, more than the {MAX_RECORDS} that are accepted"));
        }
        let sections = match Sections::read(&message) {
            Ok(sections) => sections,
            // A truncated message may end anywhere; what it holds must not be used for more than "ask again by TCP".
            Err(_) if header.tc() => Sections::default(),
            Err(cause) => return Err(format!("the reply cannot be read: {cause}")),
        };
        let edns = Edns::read(&message);
        Ok(Self {
            question: question.clone(),
            rcode: Rcode(message.opt_rcode().to_int()),
            authoritative: header.aa(),
            truncated: header.tc(),
            recursion_available: header.ra(),
            authentic_data: header.ad(),
            soa: sections.soa(),
            answers: sections.answers,
            authority: sections.authority,
            additional: sections.additional,
            edns: edns.present,
            extended_errors: edns.errors,
            nsid: edns.nsid,
            subnet_scope: edns.subnet_scope,
            transport,
            server,
            elapsed: Duration::ZERO,
            mismatched: 0,
            bytes: Vec::new(),
        })
    }
}

/// Whether `reply` has the query's id, is a response, and repeats the question (case aside).
pub(crate) fn matches_query(id: u16, question: &Question, reply: &[u8]) -> bool {
    let Ok(message) = Message::from_octets(reply) else {
        return false;
    };
    let header = message.header();
    if header.id() != id || !header.qr() {
        return false;
    }
    if message.header_counts().qdcount() == 0 {
        // Some servers leave the question out of a FORMERR, having not understood it.
        return Rcode(header.rcode().to_int().into()) == Rcode::FORMERR;
    }
    message.sole_question().is_ok_and(|asked| {
        asked.qtype().to_int() == question.qtype.0
            && asked.qclass() == Class::IN
            && Name::from_wire(asked.qname()) == question.name
    })
}

/// A query in wire format.
pub(crate) fn compose_query(id: u16, question: &Question, options: &AskOptions, edns: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(&id.to_be_bytes());
    out.push(u8::from(options.recursion_desired));
    out.push(u8::from(options.authentic_data) << 5 | u8::from(options.checking_disabled) << 4);
    for count in [1u16, 0, 0, u16::from(edns)] {
        out.extend_from_slice(&count.to_be_bytes());
    }
    out.extend_from_slice(question.name.as_wire());
    out.extend_from_slice(&question.qtype.0.to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
    if edns {
        let mut opt = Opt { dnssec_ok: options.dnssec_ok, ..Opt::default() };
        if options.nsid {
            opt.push(wire::OPTION_NSID, &[]);
        }
        if let Some(subnet) = options.client_subnet {
            opt.push(wire::OPTION_CLIENT_SUBNET, &subnet_option(subnet));
        }
        opt.compose(&mut out);
    }
    out
}

/// RFC 7871 section 6: family, source and scope prefix length, and no more octets of the address than the prefix has.
fn subnet_option(subnet: ipnet::IpNet) -> Vec<u8> {
    let (family, octets) = match subnet.network() {
        IpAddr::V4(address) => (1u8, address.octets().to_vec()),
        IpAddr::V6(address) => (2u8, address.octets().to_vec()),
    };
    let mut data = vec![0, family, subnet.prefix_len(), 0];
    data.extend_from_slice(&octets[..usize::from(subnet.prefix_len().div_ceil(8))]);
    data
}

#[derive(Default)]
struct Sections {
    answers: Vec<Record>,
    authority: Vec<Record>,
    additional: Vec<Record>,
}

impl Sections {
    fn read(message: &Message<&[u8]>) -> Result<Self, String> {
        let section = |result: Result<RecordSection<'_, &[u8]>, _>| -> Result<Vec<Record>, String> {
            let mut records = Vec::new();
            for record in result.map_err(|error: domain::base::wire::ParseError| error.to_string())? {
                let record = record.map_err(|error| error.to_string())?;
                if record.class() == Class::IN && record.rtype().to_int() != RecordType::OPT.0 {
                    records.push(read_record(&record)?);
                }
            }
            Ok(records)
        };
        Ok(Self {
            answers: section(message.answer())?,
            authority: section(message.authority())?,
            additional: section(message.additional())?,
        })
    }

    fn soa(&self) -> Option<Soa> {
        self.authority.iter().chain(&self.answers).find_map(|record| match &record.data {
            Data::Soa(soa) => Some(soa.clone()),
            _ => None,
        })
    }
}

fn read_record(record: &ParsedRecord<'_, &[u8]>) -> Result<Record, String> {
    let name = Name::from_wire(&record.owner());
    // RFC 2181 section 8: a time to live with the top bit set is zero.
    let ttl = match record.ttl().as_secs() {
        ttl if ttl > i32::MAX as u32 => 0,
        ttl => ttl,
    };
    let data = read_data(record, &name, ttl).map_err(|cause| format!("{cause} in a record of {name}"))?;
    Ok(Record { name, ttl, data })
}

fn read_data(record: &ParsedRecord<'_, &[u8]>, owner: &Name, ttl: u32) -> Result<Data, String> {
    macro_rules! data {
        ($rdata:ty) => {
            record
                .to_record::<$rdata>()
                .map_err(|error| error.to_string())?
                .ok_or_else(|| "another type than announced".to_owned())?
                .into_data()
        };
    }
    Ok(match RecordType(record.rtype().to_int()) {
        RecordType::A => Data::A(data!(A).addr()),
        RecordType::AAAA => Data::Aaaa(data!(Aaaa).addr()),
        RecordType::CNAME => Data::Cname(Name::from_wire(data!(Cname<_>).cname())),
        RecordType::NS => Data::Ns(Name::from_wire(data!(Ns<_>).nsdname())),
        RecordType::SOA => {
            let soa = data!(SoaData<_>);
            Data::Soa(Soa {
                zone: owner.clone(),
                mname: Name::from_wire(soa.mname()),
                serial: soa.serial().into_int(),
                minimum: soa.minimum().as_secs(),
                ttl,
            })
        }
        RecordType::HTTPS => {
            let https = data!(Https<_, _>);
            Data::Https { text: https.to_string(), hints: hints(https.params().iter_all()) }
        }
        RecordType::TXT => {
            let text: Vec<u8> = data!(Txt<_>).text();
            Data::Txt(String::from_utf8_lossy(&text).into_owned())
        }
        rtype => Data::Other { rtype, data: data!(UnknownRecordData<_>).data().to_vec() },
    })
}

fn hints<'a, E>(values: impl Iterator<Item = Result<AllValues<&'a [u8]>, E>>) -> Vec<IpAddr> {
    values
        .flatten()
        .flat_map(|value| match value {
            AllValues::Ipv4Hint(hint) => hint.iter().map(IpAddr::V4).collect::<Vec<_>>(),
            AllValues::Ipv6Hint(hint) => hint.iter().map(IpAddr::V6).collect(),
            _ => Vec::new(),
        })
        .collect()
}

#[derive(Default)]
struct Edns {
    present: bool,
    errors: Vec<ExtendedError>,
    nsid: Option<String>,
    subnet_scope: Option<u8>,
}

impl Edns {
    /// More extended errors than this in one reply say nothing more.
    const MAX_ERRORS: usize = 16;

    fn read(message: &Message<&[u8]>) -> Self {
        let mut edns = Self::default();
        let Some(opt) = message.opt() else {
            return edns;
        };
        edns.present = true;
        for option in opt.opt().iter::<UnknownOptData<_>>().flatten() {
            let data: &[u8] = option.as_slice();
            match option.code().to_int() {
                wire::OPTION_EXTENDED_ERROR if edns.errors.len() < Self::MAX_ERRORS => {
                    if let Some(code) = wire::u16_at(data, 0) {
                        edns.errors.push(ExtendedError::new(code, String::from_utf8_lossy(&data[2..])));
                    }
                }
                wire::OPTION_NSID => edns.nsid = Some(printable(data)),
                wire::OPTION_CLIENT_SUBNET => edns.subnet_scope = data.get(3).copied(),
                _ => {}
            }
        }
        edns
    }
}

fn printable(data: &[u8]) -> String {
    match std::str::from_utf8(data) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => data.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

#[cfg(test)]
mod tests;
