//! From an upstream's message to an [`Answer`]: walked once, nothing built that is not kept.

use std::sync::atomic::AtomicU32;
use std::time::Instant;

use super::{Answer, MAX_NEGATIVE_TTL, MAX_TTL, join, piece};
use crate::server::key::{ALL_TYPES, Kept};
use crate::server::query::error_options;
use crate::types::{ExtendedError, Rcode, RecordType};
use crate::wire::{self, HEADER_LEN, OPTION_EXTENDED_ERROR, QUESTION_POINTER, u16_at};

/// Aliases that are followed before a chain counts as endless.
const MAX_CHAIN: usize = 16;
/// Up to so many records their sets are told apart; beyond, all share the lowest time to live.
const MAX_APART: usize = 64;
/// DNAME, whose record may be compressed like that of a CNAME (RFC 6672 section 2.5 forbids it, and some do).
const DNAME: u16 = 39;
const PTR: u16 = 12;
const OPT: u16 = RecordType::OPT.0;
/// RFC 6895 section 3.1: TKEY, TSIG and what only questions have.
const META_FROM: u16 = 249;
const META_TO: u16 = 255;

/// Why a message is no answer to give to a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    Truncated,
    /// A server that fails, refuses or does not understand is not the last word (RFC 9520 section 2).
    Failed {
        rcode: Rcode,
        errors: Vec<ExtendedError>,
        edns: bool,
    },
    Malformed,
}

struct Record {
    owner: usize,
    rtype: u16,
    /// Where the time to live stands.
    ttl: usize,
    data: usize,
    end: usize,
}

/// What the OPT record says.
#[derive(Default)]
struct Edns {
    present: bool,
    extended_rcode: u8,
    errors: Vec<ExtendedError>,
}

impl Answer {
    /// The caller has checked that `message` answers the question of `key`.
    pub fn read(message: &[u8], key: Kept<'_>, now: Instant) -> Result<Self, Unusable> {
        let start = HEADER_LEN + key.name().len() + 4;
        let header = message.first_chunk::<HEADER_LEN>().ok_or(Unusable::Malformed)?;
        let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let (answers, authority, additional) = (count(6), count(8), count(10));
        if header[2] & 0x02 != 0 {
            return Err(Unusable::Truncated);
        }
        let (records, end) =
            read_records(message, start, usize::from(answers) + usize::from(authority)).ok_or(Unusable::Malformed)?;
        let edns = read_edns(message, end, additional).ok_or(Unusable::Malformed)?;
        let rcode = Rcode(u16::from(edns.extended_rcode) << 4 | u16::from(header[3] & 0x0f));
        // Those that need EDNS to be said (RFC 6891 section 6.1.3) are between the upstream and us.
        let is_extended = edns.extended_rcode != 0;
        if is_extended || matches!(rcode, Rcode::SERVFAIL | Rcode::REFUSED | Rcode::FORMERR | Rcode::NOTIMP) {
            return Err(Unusable::Failed { rcode, errors: edns.errors, edns: edns.present });
        }
        let reading = Reading {
            message,
            key,
            rcode,
            authoritative: header[2] & 0x04 != 0,
            answers: &records[..usize::from(answers)],
            authority: &records[usize::from(answers)..],
        };
        let sections = message.get(start..end).ok_or(Unusable::Malformed)?;
        let options = error_options(&edns.errors);
        let mut octets = join(&[key.0, sections, &options]);
        if octets.len() > usize::from(u16::MAX) {
            return Err(Unusable::Malformed);
        }
        let (body, after) = (key.0.len(), key.0.len() + sections.len());
        let lifetime = reading.settle(&mut octets[body..after], start);
        // A load balancer that has no AAAA may deny the whole name (RFC 4074 section 4.2): what is said of other types than
        // A must not hide the addresses.
        if rcode == Rcode::NXDOMAIN && answers == 0 && key.qtype() == RecordType::A {
            octets[..2].copy_from_slice(&ALL_TYPES.0.to_be_bytes());
        }
        Ok(Self {
            rcode,
            authentic: header[3] & 0x20 != 0,
            answers,
            authority,
            octets,
            body: piece(body),
            options: piece(after),
            stored: now,
            lifetime,
            failed: AtomicU32::new(0),
        })
    }
}

struct Reading<'a> {
    message: &'a [u8],
    key: Kept<'a>,
    rcode: Rcode,
    authoritative: bool,
    answers: &'a [Record],
    authority: &'a [Record],
}

impl Reading<'_> {
    /// Writes the times to live as they are to be counted down, and says for how many seconds the whole may be kept.
    fn settle(&self, body: &mut [u8], start: usize) -> u32 {
        let absent = self.rcode == Rcode::NXDOMAIN || self.is_nodata();
        let negative = if absent { self.negative_ttl() } else { None };
        let records: Vec<&Record> = self.answers.iter().chain(self.authority).collect();
        let mut ttls: Vec<u32> = records.iter().map(|record| self.effective_ttl(record, negative)).collect();
        self.level(&records, &mut ttls);
        for (record, ttl) in records.iter().zip(&ttls) {
            let at = record.ttl - start;
            if let Some(octets) = body.get_mut(at..at + 4) {
                octets.copy_from_slice(&ttl.to_be_bytes());
            }
        }
        let shortest = ttls.iter().copied().min().unwrap_or(0);
        let keepable = matches!(self.rcode, Rcode::NOERROR | Rcode::NXDOMAIN);
        match (keepable, absent, negative) {
            (true, true, Some(negative)) => shortest.min(negative),
            (true, false, _) if !self.is_referral() => shortest,
            // RFC 2308 section 5: what says "absent" without an SOA is not kept.
            _ => 0,
        }
    }

    fn effective_ttl(&self, record: &Record, negative: Option<u32>) -> u32 {
        // RFC 2181 section 8: with the top bit set it is zero.
        let ttl = match self.u32_at(record.ttl) {
            ttl if ttl > i32::MAX as u32 => 0,
            ttl => ttl.min(MAX_TTL),
        };
        match negative {
            Some(negative) if record.rtype == RecordType::SOA.0 => ttl.min(negative),
            _ => ttl,
        }
    }

    /// RFC 2181 section 5.2: the records of a set share one time to live, the lowest that any of them came with.
    fn level(&self, records: &[&Record], ttls: &mut [u32]) {
        if records.len() > MAX_APART {
            let lowest = ttls.iter().copied().min().unwrap_or(0);
            return ttls.fill(lowest);
        }
        for one in 0..records.len() {
            let same = |other: &usize| {
                records[one].rtype == records[*other].rtype
                    && self.is_same_name(records[one].owner, records[*other].owner)
            };
            let set: Vec<usize> = (one..records.len()).filter(same).collect();
            if set.len() > 1 {
                let lowest = set.iter().map(|&at| ttls[at]).min().unwrap_or(0);
                set.iter().for_each(|&at| ttls[at] = lowest);
            }
        }
    }

    fn negative_ttl(&self) -> Option<u32> {
        let soa = self.authority.iter().find(|record| record.rtype == RecordType::SOA.0)?;
        let minimum = self.u32_at(soa.end - 4);
        Some(self.u32_at(soa.ttl).min(minimum).min(MAX_NEGATIVE_TTL))
    }

    /// The server points below itself instead of answering (RFC 9499, "referral").
    fn is_referral(&self) -> bool {
        let has = |rtype: RecordType| self.authority.iter().any(|record| record.rtype == rtype.0);
        self.rcode == Rcode::NOERROR
            && !self.authoritative
            && self.answers.is_empty()
            && !has(RecordType::SOA)
            && has(RecordType::NS)
    }

    fn is_nodata(&self) -> bool {
        if self.rcode != Rcode::NOERROR {
            return false;
        }
        let qtype = self.key.qtype().0;
        let at_question = |record: &Record| record.rtype == qtype && self.is_question(record.owner);
        if self.answers.iter().any(at_question) {
            return false;
        }
        // Chains without an end say nothing of the name, not even that it has no address.
        let Some(end) = self.chain_end() else { return false };
        let at_end = |record: &Record| record.rtype == qtype && self.is_named(record.owner, &end);
        !self.answers.iter().any(at_end) && !self.is_referral()
    }

    /// Where the aliases lead; `None` if they lead nowhere.
    fn chain_end(&self) -> Option<Vec<u8>> {
        let mut seen = vec![self.key.name().to_vec()];
        while let Some(current) = seen.last() {
            let next = self
                .answers
                .iter()
                .find(|record| record.rtype == RecordType::CNAME.0 && self.is_named(record.owner, current));
            let Some(next) = next else { break };
            let target = wire::expand_name(self.message, next.data)?;
            if seen.len() > MAX_CHAIN || seen.contains(&target) {
                return None;
            }
            seen.push(target);
        }
        seen.pop()
    }

    fn is_question(&self, at: usize) -> bool {
        u16_at(self.message, at) == Some(QUESTION_POINTER) || self.is_named(at, self.key.name())
    }

    fn is_named(&self, at: usize, name: &[u8]) -> bool {
        wire::expand_name(self.message, at).is_some_and(|expanded| expanded == name)
    }

    fn is_same_name(&self, one: usize, other: usize) -> bool {
        let (first, second) = (u16_at(self.message, one), u16_at(self.message, other));
        let are_pointers = first.is_some_and(|pointer| pointer >= 0xC000);
        if are_pointers && first == second {
            return true;
        }
        wire::expand_name(self.message, one) == wire::expand_name(self.message, other)
    }

    fn u32_at(&self, at: usize) -> u32 {
        let octets = self.message.get(at..at + 4).and_then(|octets| octets.try_into().ok());
        octets.map_or(0, u32::from_be_bytes)
    }
}

/// Where the labels of the names read so far begin, in order. A pointer must lead to one of them: elsewhere it could lead to
/// what changes on its way to a client, such as a time to live, and he would read another name than we did, or none.
#[derive(Default)]
struct Names {
    labels: Vec<u16>,
}

impl Names {
    /// Past the name.
    fn read(&mut self, message: &[u8], start: usize) -> Option<usize> {
        // That it ends, and is not too long.
        wire::expand_name(message, start)?;
        let mut at = start;
        loop {
            let len = usize::from(*message.get(at)?);
            if len & 0xC0 != 0 {
                let target = u16_at(message, at)? & 0x3FFF;
                self.labels.binary_search(&target).ok()?;
                return Some(at + 2);
            }
            // What lies beyond cannot be pointed to.
            if at <= 0x3FFF {
                self.labels.push(at as u16);
            }
            at += len + 1;
            if len == 0 {
                return Some(at);
            }
        }
    }
}

fn read_records(message: &[u8], mut at: usize, count: usize) -> Option<(Vec<Record>, usize)> {
    // Each takes eleven octets at least.
    let mut records = Vec::with_capacity(count.min(message.len() / 11));
    let mut names = Names::default();
    names.read(message, HEADER_LEN)?;
    for _ in 0..count {
        let record = read_record(message, at, &mut names)?;
        at = record.end;
        records.push(record);
    }
    Some((records, at))
}

fn read_record(message: &[u8], owner: usize, names: &mut Names) -> Option<Record> {
    let fixed = match u16_at(message, owner)? {
        QUESTION_POINTER => owner + 2,
        _ => names.read(message, owner)?,
    };
    let data = fixed + 10;
    let end = data + usize::from(u16_at(message, fixed + 8)?);
    let record = Record { owner, rtype: u16_at(message, fixed)?, ttl: fixed + 4, data, end };
    message.get(data..end)?;
    is_sound(message, &record, names).then_some(record)
}

/// Addresses have their length, and names are names in the types whose data may hold compressed ones (RFC 3597 section 4).
/// What only the additional section or a question may hold is no answer.
fn is_sound(message: &[u8], record: &Record, names: &mut Names) -> bool {
    let mut name = |at: usize| names.read(message, at);
    let end = match record.rtype {
        1 => Some(record.data + 4),
        28 => Some(record.data + 16),
        0 | OPT | META_FROM..=META_TO => None,
        2 | 5 | PTR | DNAME => name(record.data),
        15 => name(record.data + 2),
        6 => name(record.data).and_then(&mut name).map(|at| at + 20),
        _ => return true,
    };
    end == Some(record.end)
}

fn read_edns(message: &[u8], mut at: usize, additional: u16) -> Option<Edns> {
    let mut edns = Edns::default();
    for _ in 0..additional {
        let fixed = wire::skip_name(message, at)?;
        let data = fixed + 10;
        let end = data + usize::from(u16_at(message, fixed + 8)?);
        let rdata = message.get(data..end)?;
        if u16_at(message, fixed)? == RecordType::OPT.0 {
            edns.present = true;
            edns.extended_rcode = *message.get(fixed + 4)?;
            edns.errors = wire::options(rdata).filter_map(|option| extended_error(option?)).collect();
        }
        at = end;
    }
    Some(edns)
}

fn extended_error((code, data): (u16, &[u8])) -> Option<ExtendedError> {
    let (info, text) = data.split_first_chunk::<2>().filter(|_| code == OPTION_EXTENDED_ERROR)?;
    Some(ExtendedError::new(u16::from_be_bytes(*info), String::from_utf8_lossy(text)))
}

/// Whether some record of the body is at a name that is looked for, and that is not the one of the question.
pub(super) fn mentions(key: Kept<'_>, body: &[u8], records: usize, is_wanted: impl Fn(&[u8]) -> bool) -> bool {
    let mut message = vec![0; HEADER_LEN];
    message.extend_from_slice(key.name());
    message.extend_from_slice(&[0; 4]);
    let start = message.len();
    message.extend_from_slice(body);
    read_records(&message, start, records).is_some_and(|(records, _)| {
        records.iter().any(|record| wire::expand_name(&message, record.owner).is_some_and(|owner| is_wanted(&owner)))
    })
}
