//! Changing a zone that somebody else's server holds: UPDATE (RFC 2136), read back by AXFR (RFC 5936) and by queries, all over
//! TCP and signed with TSIG (RFC 8945).
//!
//! An [`Update`] is one message, and the server does all of it or nothing (RFC 2136, 3.4); its [`Prerequisite`]s make it compare
//! and swap. What an [`UpdateError`] leaves open is said by [`UpdateError::may_have_been_made`].

mod error;
mod exchange;
mod key;
mod message;
mod record;

use std::net::SocketAddr;
use std::time::Duration;

pub use error::{TsigFault, UpdateError};
pub use key::{KeyError, KeyStatement, TsigKey, key_statement};
#[cfg(test)]
pub(crate) use message::query;
pub use record::ZoneRecord;

use crate::name::Name;
use crate::types::RecordType;
use crate::wire::CLASS_IN;

/// For one exchange: a server that has to write its journal is given as long as our own disk.
pub const EXCHANGE_TIMEOUT: Duration = Duration::from_secs(5);
/// For a whole transfer.
pub const TRANSFER_TIMEOUT: Duration = Duration::from_secs(15);
/// A policy zone of our own holds a few records; one shared with a block list a few hundred thousand. Beyond, it is refused.
pub const MAX_ZONE_RECORDS: usize = 1_000_000;
/// The same bound in octets of messages.
pub const MAX_ZONE_BYTES: usize = 64 * 1024 * 1024;

/// What must hold for an update to be made (RFC 2136, 2.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prerequisite {
    /// No record of any type is there.
    NameNotInUse(Name),
    /// There are no records of this type.
    Absent(Name, RecordType),
    /// Exactly these records of the type are there; their times to live do not count.
    Exactly { name: Name, rtype: RecordType, data: Vec<Vec<u8>> },
}

/// One change (RFC 2136, 2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Add(ZoneRecord),
    /// That one record, whatever its time to live.
    Delete {
        name: Name,
        rtype: RecordType,
        data: Vec<u8>,
    },
}

/// Made as a whole or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Update {
    pub prerequisites: Vec<Prerequisite>,
    pub changes: Vec<Change>,
}

/// A zone at one server, and what we sign with there.
#[derive(Clone, Debug)]
pub struct ZoneServer {
    pub address: SocketAddr,
    pub zone: Name,
    /// None: unsigned, for reading only.
    pub key: Option<TsigKey>,
    /// How far our clock is ahead of the one that signs, in seconds: for trying what a wrong clock does.
    pub clock_error_s: i64,
}

/// What a server holds of one name and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub rcode: crate::types::Rcode,
    pub authoritative: bool,
    /// Of the name and type that were asked for.
    pub records: Vec<ZoneRecord>,
}

impl ZoneServer {
    pub fn new(address: SocketAddr, zone: Name, key: Option<TsigKey>) -> Self {
        Self { address, zone, key, clock_error_s: 0 }
    }

    /// Has the update made. An error that may have been made all the same says so.
    ///
    /// # Errors
    /// A prerequisite did not hold, the server refused or failed, a signature was wrong, or nothing came back.
    pub async fn update(&self, update: &Update) -> Result<(), UpdateError> {
        exchange::update(self, update).await
    }

    /// Asks for one name and type, without recursion.
    ///
    /// # Errors
    /// No usable answer came; a negative one is no error.
    pub async fn query(&self, name: &Name, rtype: RecordType) -> Result<Answer, UpdateError> {
        exchange::query(self, name, rtype).await
    }

    /// The serial of the zone's SOA.
    ///
    /// # Errors
    /// The server does not hold the zone, or no usable answer came.
    pub async fn serial(&self) -> Result<u32, UpdateError> {
        let answer = self.query(&self.zone, RecordType::SOA).await?;
        answer.records.iter().find_map(ZoneRecord::serial).ok_or_else(|| UpdateError::NoZone {
            server: self.address,
            zone: self.zone.clone(),
            rcode: answer.rcode,
        })
    }

    /// The whole zone, the SOA once.
    ///
    /// # Errors
    /// The transfer was refused, cut off, wrongly signed, or larger than [`MAX_ZONE_RECORDS`] or [`MAX_ZONE_BYTES`].
    pub async fn transfer(&self) -> Result<Vec<ZoneRecord>, UpdateError> {
        exchange::transfer(self).await
    }
}

const CLASS_NONE: u16 = 254;
const CLASS_ANY: u16 = 255;
