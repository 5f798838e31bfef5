//! Records with their data as octets, so that what was read is what can be named in a prerequisite.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use domain::base::Serial;
use domain::base::iana::Rtype;
use domain::base::record::ParsedRecord;
use domain::base::zonefile_fmt::ZonefileFmt;
use domain::rdata::AllRecordData;

use crate::name::Name;
use crate::types::RecordType;

/// A record of a zone. Its data are in wire format, names uncompressed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ZoneRecord {
    pub name: Name,
    pub rtype: RecordType,
    pub ttl: u32,
    pub data: Vec<u8>,
}

impl ZoneRecord {
    pub fn address(name: Name, ttl: u32, address: IpAddr) -> Self {
        let (rtype, data) = match address {
            IpAddr::V4(v4) => (RecordType::A, v4.octets().to_vec()),
            IpAddr::V6(v6) => (RecordType::AAAA, v6.octets().to_vec()),
        };
        Self { name, rtype, ttl, data }
    }

    /// Each text is cut at the 255 octets that a character string holds.
    pub fn txt<T: AsRef<str>>(name: Name, ttl: u32, texts: impl IntoIterator<Item = T>) -> Self {
        let mut data = Vec::new();
        for text in texts {
            let text = text.as_ref().as_bytes();
            let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
            data.push(length);
            data.extend_from_slice(&text[..usize::from(length)]);
        }
        Self { name, rtype: RecordType::TXT, ttl, data }
    }

    /// The address of an A or AAAA record.
    pub fn as_address(&self) -> Option<IpAddr> {
        match self.rtype {
            RecordType::A => <[u8; 4]>::try_from(self.data.as_slice()).ok().map(|octets| Ipv4Addr::from(octets).into()),
            RecordType::AAAA => {
                <[u8; 16]>::try_from(self.data.as_slice()).ok().map(|octets| Ipv6Addr::from(octets).into())
            }
            _ => None,
        }
    }

    /// The character strings of a TXT record.
    pub fn texts(&self) -> Option<Vec<String>> {
        if self.rtype != RecordType::TXT {
            return None;
        }
        let (mut texts, mut rest) = (Vec::new(), self.data.as_slice());
        while let Some((length, after)) = rest.split_first() {
            let (text, after) = after.split_at_checked(usize::from(*length))?;
            texts.push(String::from_utf8(text.to_vec()).ok()?);
            rest = after;
        }
        Some(texts)
    }

    /// The serial of a SOA record: after two names, the first of five numbers.
    pub(super) fn serial(&self) -> Option<u32> {
        if self.rtype != RecordType::SOA {
            return None;
        }
        let numbers = self.data.len().checked_sub(20)?;
        let serial = self.data.get(numbers..numbers + 4)?;
        Some(Serial(u32::from_be_bytes(serial.try_into().ok()?)).into_int())
    }

    pub(super) fn read(record: &ParsedRecord<'_, Vec<u8>>) -> Option<Self> {
        let name = Name::from_wire(&record.owner());
        let rtype = RecordType(record.rtype().to_int());
        let ttl = record.ttl().as_secs();
        let known = record.to_any_record::<AllRecordData<_, _>>().ok()?;
        let mut data = Vec::new();
        domain::base::rdata::ComposeRecordData::compose_rdata(known.data(), &mut data).ok()?;
        Some(Self { name, rtype, ttl, data })
    }
}

/// As in a zone file.
impl fmt::Display for ZoneRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. {} IN {} ", self.name, self.ttl, self.rtype)?;
        let rtype = Rtype::from_int(self.rtype.0);
        let mut parser = domain::dep::octseq::Parser::from_ref(self.data.as_slice());
        match <AllRecordData<_, domain::base::name::ParsedName<_>> as domain::base::rdata::ParseAnyRecordData<_>>::parse_any_rdata(
            rtype,
            &mut parser,
        ) {
            Ok(data) => write!(f, "{}", data.display_zonefile(domain::base::zonefile_fmt::DisplayKind::Simple)),
            // RFC 3597, 5
            Err(_) => {
                write!(f, "\\# {}", self.data.len())?;
                self.data.iter().try_for_each(|octet| write!(f, " {octet:02x}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_addresses_come_back() {
        let name: Name = "a.example".parse().unwrap();
        let txt = ZoneRecord::txt(name.clone(), 0, ["one", "", "t h r e e"]);
        assert_eq!(txt.texts().unwrap(), ["one", "", "t h r e e"]);
        assert_eq!(txt.to_string(), r#"a.example. 0 IN TXT "one" "" "t h r e e""#);
        for text in ["192.0.2.1", "2001:db8::1"] {
            let record = ZoneRecord::address(name.clone(), 10, text.parse().unwrap());
            assert_eq!(record.as_address().unwrap().to_string(), text);
            assert!(record.to_string().ends_with(text), "{record}");
        }
        let cut = ZoneRecord { data: vec![9, b'x'], ..txt };
        assert_eq!(cut.texts(), None);
    }
}
