//! The little composing that we do ourselves: queries, and answers whose names are pointers to the question.

use crate::types::RecordType;

pub(crate) const HEADER_LEN: usize = 12;
/// A compression pointer to the question name, which always follows the header.
pub(crate) const QUESTION_POINTER: u16 = 0xC000 | HEADER_LEN as u16;
/// What operators agreed fits every path without fragments (DNS flag day 2020).
pub(crate) const UDP_PAYLOAD: u16 = 1232;
pub(crate) const CLASS_IN: u16 = 1;

pub(crate) const OPTION_NSID: u16 = 3;
pub(crate) const OPTION_CLIENT_SUBNET: u16 = 8;
pub(crate) const OPTION_COOKIE: u16 = 10;
pub(crate) const OPTION_EXTENDED_ERROR: u16 = 15;
/// A client's 8 octets and the 16 of RFC 9018 section 4.
pub(crate) const COOKIE_LEN: usize = 24;

/// How the times to live of a body become those of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ttl {
    AsWritten,
    /// So many seconds have passed; none is above the cap.
    Aged {
        by: u32,
        cap: u32,
    },
    /// All the same (RFC 8767 section 4: stale data).
    All(u32),
}

/// An OPT record to be written.
#[derive(Default)]
pub(crate) struct Opt {
    pub extended_rcode: u8,
    pub dnssec_ok: bool,
    pub options: Vec<u8>,
}

impl Opt {
    pub fn push(&mut self, code: u16, data: &[u8]) {
        push_option(&mut self.options, code, data);
    }

    pub fn compose(&self, out: &mut Vec<u8>) {
        push_opt(out, self.extended_rcode, self.dnssec_ok, u16::try_from(self.options.len()).unwrap_or(0));
        out.extend_from_slice(&self.options);
    }
}

/// Appends an OPT record whose options, of `len` octets, follow.
pub(crate) fn push_opt(out: &mut Vec<u8>, extended_rcode: u8, dnssec_ok: bool, len: u16) {
    let (rtype, payload, len) = (RecordType::OPT.0.to_be_bytes(), UDP_PAYLOAD.to_be_bytes(), len.to_be_bytes());
    let flags = u8::from(dnssec_ok) << 7;
    out.extend_from_slice(&[
        0,
        rtype[0],
        rtype[1],
        payload[0],
        payload[1],
        extended_rcode,
        0,
        flags,
        0,
        len[0],
        len[1],
    ]);
}

/// Appends one EDNS option; one that is too long for its length field is left out.
pub(crate) fn push_option(out: &mut Vec<u8>, code: u16, data: &[u8]) {
    let Ok(len) = u16::try_from(data.len()) else {
        return;
    };
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(data);
}

/// The options of an OPT record; `None` for what does not fit into it.
pub(crate) fn options(mut rdata: &[u8]) -> impl Iterator<Item = Option<(u16, &[u8])>> {
    std::iter::from_fn(move || {
        if rdata.is_empty() {
            return None;
        }
        let option = first_option(rdata);
        rdata = option.map_or(&[], |(.., rest)| rest);
        Some(option.map(|(code, data, _)| (code, data)))
    })
}

fn first_option(rdata: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let (code, len) = (u16_at(rdata, 0)?, usize::from(u16_at(rdata, 2)?));
    let (data, rest) = rdata.get(4..)?.split_at_checked(len)?;
    Some((code, data, rest))
}

/// Past the name at `at`, which may end in a pointer. Where a pointer leads is not looked at.
pub(crate) fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            len if len & 0xC0 == 0xC0 => {
                bytes.get(at + 1)?;
                return Some(at + 2);
            }
            len if len & 0xC0 != 0 => return None,
            len => at += 1 + usize::from(len),
        }
    }
}

/// Makes of a body that was kept, and is known to be well-formed, one for a client: his are the times to live of the first
/// `count` records, and the case of owners that repeat the name he asked for.
pub(crate) fn fit_body(body: &mut [u8], count: u32, name: &[u8], ttl: Ttl) {
    let mut at = 0;
    for _ in 0..count {
        let Some(fixed) = skip_name(body, at) else { return };
        if let Some(owner) = body.get_mut(at..fixed)
            && owner.len() > 2
        {
            fit_case(owner, name);
        }
        let Some(len) = u16_at(body, fixed + 8) else { return };
        let Some(octets) = body.get_mut(fixed + 4..fixed + 8) else { return };
        let written = u32::from_be_bytes([octets[0], octets[1], octets[2], octets[3]]);
        let changed = match ttl {
            Ttl::AsWritten => written,
            Ttl::Aged { by, cap } => written.saturating_sub(by).min(cap),
            Ttl::All(seconds) => seconds,
        };
        octets.copy_from_slice(&changed.to_be_bytes());
        at = fixed + 10 + usize::from(len);
    }
}

/// An owner that is the name of the question, be it in full or with its end a pointer into the question.
fn fit_case(owner: &mut [u8], name: &[u8]) {
    let written = match owner {
        whole if whole.eq_ignore_ascii_case(name) => whole,
        [labels @ .., high @ 0xC0..=0xFF, low]
            if usize::from(u16::from_be_bytes([*high, *low]) & 0x3FFF) == HEADER_LEN + labels.len() =>
        {
            labels
        }
        _ => return,
    };
    if let Some(same) = name.get(..written.len())
        && same.eq_ignore_ascii_case(written)
    {
        written.copy_from_slice(same);
    }
}

/// Each letter in upper case or as it is, by one bit of `random` (0x20).
pub(crate) fn mix_case(name: &mut [u8], random: &[u8]) {
    for (index, octet) in name.iter_mut().enumerate() {
        let bit = random.get(index / 8 % random.len().max(1)).map_or(0, |octet| octet >> (index % 8) & 1);
        if bit == 1 {
            octet.make_ascii_uppercase();
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

#[cfg(test)]
pub(crate) fn set_u16(bytes: &mut [u8], at: usize, value: u16) {
    if let Some(slot) = bytes.get_mut(at..at + 2) {
        slot.copy_from_slice(&value.to_be_bytes());
    }
}

/// The name at `at`, in lower case and without compression. `None` if it is too long, runs out of the message, or points
/// anywhere but backwards.
pub(crate) fn expand_name(message: &[u8], mut at: usize) -> Option<Vec<u8>> {
    const MAX_NAME: usize = 255;
    let mut name = Vec::with_capacity(32);
    // Each pointer must lead before the one that led there, so there is an end.
    let mut before = at;
    loop {
        let len = usize::from(*message.get(at)?);
        if len & 0xC0 == 0xC0 {
            let target = usize::from(u16_at(message, at)? & 0x3FFF);
            if target >= before || target < HEADER_LEN {
                return None;
            }
            (at, before) = (target, target);
            continue;
        }
        if len & 0xC0 != 0 || name.len() + len + 1 > MAX_NAME {
            return None;
        }
        name.extend_from_slice(message.get(at..=at + len)?);
        if len == 0 {
            name.make_ascii_lowercase();
            return Some(name);
        }
        at += len + 1;
    }
}
