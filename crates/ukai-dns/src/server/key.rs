//! What an answer depends on, in octets that are hashed and compared as they are.

use std::hash::{BuildHasher, RandomState};

use crate::types::RecordType;
use crate::wire::u16_at;

/// RFC 1035 section 2.3.4.
const MAX_NAME: usize = 255;
const MAX_LABEL: usize = 63;
/// Type and flags stand before the name.
const PREFIX: usize = 3;
const DNSSEC_OK: u8 = 1;
const CHECKING_DISABLED: u8 = 2;
/// Type 0 is reserved and never asked for: NXDOMAIN for an A holds for every type, and is kept under it.
pub(crate) const ALL_TYPES: RecordType = RecordType(0);

/// Type, flags and the name in lower case, in a buffer that is used for one query after the other.
#[derive(Clone)]
pub(crate) struct Key {
    octets: [u8; PREFIX + MAX_NAME],
    len: usize,
}

impl Default for Key {
    fn default() -> Self {
        Self { octets: [0; PREFIX + MAX_NAME], len: PREFIX }
    }
}

impl Key {
    /// Takes over the uncompressed name at the start of `bytes` and says how long it is.
    pub fn read_name(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            let len = usize::from(*bytes.get(at)?);
            if len > MAX_LABEL || at + len + 1 > MAX_NAME {
                return None;
            }
            let label = bytes.get(at..=at + len)?;
            let kept = self.octets.get_mut(PREFIX + at..=PREFIX + at + len)?;
            kept.copy_from_slice(label);
            // A length is no letter, so the whole may be lowered.
            kept.make_ascii_lowercase();
            at += len + 1;
            if len == 0 {
                self.len = PREFIX + at;
                return Some(at);
            }
        }
    }

    pub fn set_rest(&mut self, qtype: RecordType, dnssec_ok: bool, checking_disabled: bool) {
        let [high, low] = qtype.0.to_be_bytes();
        self.octets[..PREFIX].copy_from_slice(&[high, low, flags(dnssec_ok, checking_disabled)]);
    }

    pub fn octets(&self) -> &[u8] {
        &self.octets[..self.len]
    }

    /// In wire format, in lower case.
    pub fn name(&self) -> &[u8] {
        &self.octets[PREFIX..self.len]
    }
}

/// A key as it is kept.
#[derive(Clone, Copy)]
pub(crate) struct Kept<'a>(pub &'a [u8]);

impl<'a> Kept<'a> {
    pub fn name(self) -> &'a [u8] {
        self.0.get(PREFIX..).unwrap_or_default()
    }

    pub fn qtype(self) -> RecordType {
        RecordType(u16_at(self.0, 0).unwrap_or_default())
    }

    pub fn dnssec_ok(self) -> bool {
        self.0.get(2).is_some_and(|flags| flags & DNSSEC_OK != 0)
    }

    pub fn checking_disabled(self) -> bool {
        self.0.get(2).is_some_and(|flags| flags & CHECKING_DISABLED != 0)
    }
}

fn flags(dnssec_ok: bool, checking_disabled: bool) -> u8 {
    (u8::from(dnssec_ok) * DNSSEC_OK) | (u8::from(checking_disabled) * CHECKING_DISABLED)
}

/// How names are hashed: with a secret of this process, so that nobody outside can choose names that fall together.
#[derive(Clone, Default)]
pub(crate) struct Hashing(RandomState);

impl Hashing {
    /// `name` in wire format and lower case.
    pub fn of(&self, name: &[u8]) -> u64 {
        self.0.hash_one(name)
    }
}

#[cfg(test)]
impl Key {
    pub fn new(name: &crate::name::Name, qtype: RecordType, dnssec_ok: bool, checking_disabled: bool) -> Self {
        let mut key = Self::default();
        key.read_name(name.as_wire()).unwrap();
        key.set_rest(qtype, dnssec_ok, checking_disabled);
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_does_not_matter_and_the_rest_does() {
        let mut key = Key::default();
        assert_eq!(key.read_name(b"\x03ApI\x04Peer\x00\x00\x01"), Some(10));
        key.set_rest(RecordType::A, true, false);
        let same = Key::new(&"api.peer".parse().unwrap(), RecordType::A, true, false);
        assert_eq!(key.octets(), same.octets());
        let kept = Kept(key.octets());
        assert_eq!((kept.qtype(), kept.dnssec_ok(), kept.checking_disabled()), (RecordType::A, true, false));
        assert_eq!(kept.name(), b"\x03api\x04peer\x00");
        key.set_rest(RecordType::A, false, true);
        assert_ne!(key.octets(), same.octets());
    }

    #[test]
    fn what_is_no_name() {
        let long = [[63; 64].as_slice(), &[63; 64], &[63; 64], &[63; 64], &[0]].concat();
        for bytes in [b"\x03ab".as_slice(), b"", b"\xc0\x0c", b"\x40", &long] {
            assert_eq!(Key::default().read_name(bytes), None, "{bytes:?}");
        }
        assert_eq!(Key::default().read_name(b"\x00"), Some(1));
    }
}
