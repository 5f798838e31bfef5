//! The little composing that we do ourselves: queries, and answers whose names are pointers to the question.

use crate::types::{ExtendedError, RecordType};

pub(crate) const HEADER_LEN: usize = 12;
/// A compression pointer to the question name, which always follows the header.
pub(crate) const QUESTION_POINTER: u16 = 0xC000 | HEADER_LEN as u16;
/// What operators agreed fits every path without fragments (DNS flag day 2020).
pub(crate) const UDP_PAYLOAD: u16 = 1232;
pub(crate) const CLASS_IN: u16 = 1;

pub(crate) const OPTION_NSID: u16 = 3;
pub(crate) const OPTION_CLIENT_SUBNET: u16 = 8;
pub(crate) const OPTION_EXTENDED_ERROR: u16 = 15;

/// An OPT record to be written.
#[derive(Default)]
pub(crate) struct Opt {
    pub extended_rcode: u8,
    pub dnssec_ok: bool,
    pub options: Vec<u8>,
}

impl Opt {
    pub fn push(&mut self, code: u16, data: &[u8]) {
        let Ok(len) = u16::try_from(data.len()) else {
            return;
        };
        self.options.extend_from_slice(&code.to_be_bytes());
        self.options.extend_from_slice(&len.to_be_bytes());
        self.options.extend_from_slice(data);
    }

    pub fn push_error(&mut self, error: &ExtendedError) {
        let mut data = error.code.to_be_bytes().to_vec();
        data.extend_from_slice(error.text.as_bytes());
        self.push(OPTION_EXTENDED_ERROR, &data);
    }

    pub fn compose(&self, out: &mut Vec<u8>) {
        out.push(0);
        out.extend_from_slice(&RecordType::OPT.0.to_be_bytes());
        out.extend_from_slice(&UDP_PAYLOAD.to_be_bytes());
        out.extend_from_slice(&[self.extended_rcode, 0, u8::from(self.dnssec_ok) << 7, 0]);
        let len = u16::try_from(self.options.len()).unwrap_or(0);
        out.extend_from_slice(&len.to_be_bytes());
        if len > 0 {
            out.extend_from_slice(&self.options);
        }
    }
}

/// Appends one record of class IN whose owner is `pointer`.
pub(crate) fn push_record(out: &mut Vec<u8>, pointer: u16, rtype: RecordType, ttl: u32, rdata: &[u8]) {
    out.extend_from_slice(&pointer.to_be_bytes());
    out.extend_from_slice(&rtype.0.to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
    out.extend_from_slice(&ttl.to_be_bytes());
    out.extend_from_slice(&u16::try_from(rdata.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(rdata);
}

/// Appends an SOA whose owner and primary are `pointer` and whose negative time to live is `minimum`.
pub(crate) fn push_soa(out: &mut Vec<u8>, pointer: u16, serial: u32, minimum: u32) {
    let mut rdata = pointer.to_be_bytes().to_vec();
    rdata.extend_from_slice(b"\x0ahostmaster");
    rdata.extend_from_slice(&pointer.to_be_bytes());
    // Refresh, retry and expire mean nothing without secondaries; the values are those of RFC 1912 section 2.2.
    for value in [serial, 1200, 180, 1_209_600, minimum] {
        rdata.extend_from_slice(&value.to_be_bytes());
    }
    push_record(out, pointer, RecordType::SOA, minimum, &rdata);
}

/// Big-endian u16 at `at`, if the slice is long enough.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

pub(crate) fn set_u16(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(slot) = bytes.get_mut(at..at + 2) {
        slot.copy_from_slice(&value.to_be_bytes());
    }
}
