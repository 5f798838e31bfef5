//! Requests as octets: an UPDATE, a query, an AXFR.

use std::sync::Arc;

use domain::base::iana::{Class, Opcode, Rtype};
use domain::base::message_builder::{AdditionalBuilder, AnswerBuilder, PushError};
use domain::base::name::Name as WireName;
use domain::base::rdata::UnknownRecordData;
use domain::base::{MessageBuilder, Record, Ttl};
use domain::tsig::{ClientSequence, Key};

use super::{CLASS_ANY, CLASS_IN, CLASS_NONE, Change, Prerequisite, Update};
use crate::name::Name;
use crate::types::RecordType;

/// Larger than any message can be.
type Error = PushError;
type Builder = MessageBuilder<Vec<u8>>;

/// A request with, if it is signed, what its answers are checked by.
pub struct Request {
    pub id: u16,
    pub bytes: Vec<u8>,
    pub signed: Option<ClientSequence<Arc<Key>>>,
}

fn builder(id: u16, opcode: Opcode) -> Builder {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(id);
    builder.header_mut().set_opcode(opcode);
    builder
}

/// A query is the same for AXFR: only the type differs.
pub fn query(id: u16, name: &Name, rtype: RecordType) -> Result<AdditionalBuilder<Vec<u8>>, Error> {
    let mut question = builder(id, Opcode::QUERY).question();
    question.push((wire(name), Rtype::from_int(rtype.0), Class::IN))?;
    Ok(question.additional())
}

pub fn update(id: u16, zone: &Name, update: &Update) -> Result<AdditionalBuilder<Vec<u8>>, Error> {
    let mut question = builder(id, Opcode::UPDATE).question();
    question.push((wire(zone), Rtype::SOA, Class::IN))?;
    // The sections are renamed (RFC 2136, 2): answer holds prerequisites, authority the changes.
    let mut prerequisites = question.answer();
    for prerequisite in &update.prerequisites {
        push_prerequisite(&mut prerequisites, prerequisite)?;
    }
    let mut changes = prerequisites.authority();
    for change in &update.changes {
        let record = match change {
            Change::Add(record) => raw(&record.name, CLASS_IN, record.ttl, record.rtype, &record.data),
            Change::Delete { name, rtype, data } => raw(name, CLASS_NONE, 0, *rtype, data),
        };
        changes.push(record)?;
    }
    Ok(changes.additional())
}

fn push_prerequisite(section: &mut AnswerBuilder<Vec<u8>>, prerequisite: &Prerequisite) -> Result<(), Error> {
    match prerequisite {
        Prerequisite::NameNotInUse(name) => section.push(raw(name, CLASS_NONE, 0, RecordType::ANY, &[])),
        Prerequisite::Absent(name, rtype) => section.push(raw(name, CLASS_NONE, 0, *rtype, &[])),
        Prerequisite::Exactly { name, rtype, data } => {
            data.iter().try_for_each(|data| section.push(raw(name, CLASS_IN, 0, *rtype, data)))
        }
    }
}

type Raw<'d> = Record<WireName<Vec<u8>>, UnknownRecordData<&'d [u8]>>;

fn raw<'d>(name: &Name, class: u16, ttl: u32, rtype: RecordType, data: &'d [u8]) -> Raw<'d> {
    debug_assert!(class != CLASS_ANY || data.is_empty());
    // Data longer than 65,535 octets cannot come from a record that was read; cut rather than panic.
    let data = &data[..data.len().min(usize::from(u16::MAX))];
    let data = match UnknownRecordData::from_octets(Rtype::from_int(rtype.0), data) {
        Ok(data) => data,
        Err(_) => unreachable!("it was cut to the length that is allowed"),
    };
    Record::new(wire(name), Class::from_int(class), Ttl::from_secs(ttl), data)
}

fn wire(name: &Name) -> WireName<Vec<u8>> {
    name.to_wire_name()
}
