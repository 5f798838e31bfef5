//! A client's message, judged: what cannot be answered is dropped or refused here, the rest is a [`Query`].
//!
//! Nothing here allocates: a query borrows the client's octets, and an answer is written into the caller's buffer.

use super::key::Key;
use crate::types::{ExtendedError, Rcode, RecordType};
use crate::wire::{self, HEADER_LEN, OPTION_COOKIE, Ttl, UDP_PAYLOAD, u16_at};

/// Without EDNS a UDP message has no more octets than this (RFC 1035 section 2.3.4).
const PLAIN_UDP_PAYLOAD: u16 = 512;
/// Extended errors and octets of text repeated to a client; the text of an upstream is not ours to trust.
const MAX_ERRORS: usize = 4;
const MAX_ERROR_TEXT: usize = 200;
/// RFC 7873 section 4: a client's half, alone or with a server's half of 8 to 32 octets behind it.
const CLIENT_COOKIE: usize = 8;
const WHOLE_COOKIE: std::ops::RangeInclusive<usize> = 16..=40;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<'a> {
    /// The question section as it came, case and all.
    question: &'a [u8],
    pub qtype: RecordType,
    pub class: u16,
    pub cookie: Option<&'a [u8]>,
    asker: Asker,
}

/// What an answer repeats of the query, besides the question.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    id: u16,
    pub recursion_desired: bool,
    pub checking_disabled: bool,
    authentic_data: bool,
    pub edns: Option<Edns>,
    /// The cookie that goes back to the client (RFC 7873).
    pub answer_cookie: Option<[u8; wire::COOKIE_LEN]>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Edns {
    payload: u16,
    pub version: u8,
    pub dnssec_ok: bool,
}

/// A query that waits for an upstream.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    question: Box<[u8]>,
    asker: Asker,
}

/// Why a message is no query.
#[derive(Debug)]
pub(crate) enum Reject<'a> {
    /// Too short for a header, or itself a response: answering could go round for ever.
    Drop,
    /// Answered by a header and nothing else.
    Header(Rcode),
    /// Something is wrong behind the question: a FORMERR, with an OPT record, for one was read in it (RFC 6891 section 7; of
    /// cookies RFC 7873 section 5.2.2).
    Additional(Query<'a>),
}

/// The sections of an answer, ready for any client: names in `body` point to the question or into `body` itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Response<'a> {
    pub rcode: Rcode,
    pub authoritative: bool,
    pub authentic: bool,
    pub answers: u16,
    pub authority: u16,
    pub body: &'a [u8],
    /// EDNS options in wire format, for a client that has EDNS.
    pub options: &'a [u8],
    pub ttl: Ttl,
}

impl Response<'_> {
    pub const fn empty(rcode: Rcode) -> Self {
        Self {
            rcode,
            authoritative: false,
            authentic: false,
            answers: 0,
            authority: 0,
            body: &[],
            options: &[],
            ttl: Ttl::AsWritten,
        }
    }
}

impl<'a> Query<'a> {
    /// The name, in lower case, and what else an answer depends on go into `key`.
    pub fn parse(bytes: &'a [u8], key: &mut Key) -> Result<Self, Reject<'a>> {
        let header = bytes.first_chunk::<HEADER_LEN>().ok_or(Reject::Drop)?;
        if header[2] & 0x80 != 0 {
            return Err(Reject::Drop);
        }
        if header[2] & 0x78 != 0 {
            return Err(Reject::Header(Rcode::NOTIMP));
        }
        let (mut query, end) = Self::parse_question(header, bytes, key).ok_or(Reject::Header(Rcode::FORMERR))?;
        let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        match query.read_additional(bytes, end, count(8), count(10)) {
            Some(()) => {}
            None if query.edns().is_some() => return Err(Reject::Additional(query)),
            None => return Err(Reject::Header(Rcode::FORMERR)),
        }
        key.set_rest(query.qtype, query.dnssec_ok(), query.asker.checking_disabled);
        Ok(query)
    }

    /// The query as far as its question says, and where that ends.
    fn parse_question(header: &[u8; HEADER_LEN], bytes: &'a [u8], key: &mut Key) -> Option<(Self, usize)> {
        let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        if count(4) != 1 || count(6) != 0 {
            return None;
        }
        // A question name has nothing before it that it could point to.
        let name_len = key.read_name(bytes.get(HEADER_LEN..)?)?;
        let end = HEADER_LEN + name_len + 4;
        let question = bytes.get(HEADER_LEN..end)?;
        let qtype = u16_at(question, name_len)?;
        let query = Self {
            question,
            qtype: RecordType(qtype),
            class: u16_at(question, name_len + 2)?,
            cookie: None,
            asker: Asker {
                id: count(0),
                recursion_desired: header[2] & 1 != 0,
                checking_disabled: header[3] & 0x10 != 0,
                authentic_data: header[3] & 0x20 != 0,
                edns: None,
                answer_cookie: None,
            },
        };
        Some((query, end))
    }

    /// `None` for a message that has several OPT records, or one that is malformed or not at the root (RFC 6891 section 6.1.1).
    fn read_additional(&mut self, bytes: &'a [u8], mut at: usize, authority: u16, additional: u16) -> Option<()> {
        for index in 0..u32::from(authority) + u32::from(additional) {
            let start = at;
            at = wire::skip_name(bytes, at)?;
            let rtype = u16_at(bytes, at)?;
            let data = at + 10;
            at = data + usize::from(u16_at(bytes, at + 8)?);
            let rdata = bytes.get(data..at)?;
            if rtype != RecordType::OPT.0 || index < u32::from(authority) {
                continue;
            }
            if self.asker.edns.is_some() || bytes[start] != 0 {
                return None;
            }
            self.asker.edns = Some(Edns {
                payload: u16_at(bytes, start + 3)?,
                version: bytes[start + 6],
                dnssec_ok: bytes[start + 7] & 0x80 != 0,
            });
            self.read_options(rdata)?;
        }
        Some(())
    }

    fn read_options(&mut self, rdata: &'a [u8]) -> Option<()> {
        for option in wire::options(rdata) {
            let (code, data) = option?;
            if code == OPTION_COOKIE {
                // RFC 7873 section 5.2.2: a cookie of another length is a FORMERR.
                if data.len() != CLIENT_COOKIE && !WHOLE_COOKIE.contains(&data.len()) {
                    return None;
                }
                self.cookie = Some(data);
            }
        }
        Some(())
    }

    pub fn edns(&self) -> Option<Edns> {
        self.asker.edns
    }

    pub fn recursion_desired(&self) -> bool {
        self.asker.recursion_desired
    }

    pub fn dnssec_ok(&self) -> bool {
        self.asker.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    pub fn set_answer_cookie(&mut self, cookie: [u8; wire::COOKIE_LEN]) {
        self.asker.answer_cookie = Some(cookie);
    }

    /// The most octets that the client takes in one datagram.
    pub fn udp_limit(&self) -> usize {
        self.asker.udp_limit()
    }

    /// Appends the message to send; what is longer than `limit` becomes an empty one with TC set.
    pub fn write(&self, out: &mut Vec<u8>, response: &Response<'_>, limit: usize) {
        self.asker.write(out, self.question, response, limit);
    }

    /// An answer that says nothing but "ask again over TCP".
    pub fn write_truncated(&self, out: &mut Vec<u8>) {
        self.asker.compose(out, self.question, &Response::empty(Rcode::NOERROR), true);
    }

    pub fn keep(&self) -> Ask {
        Ask { question: self.question.into(), asker: self.asker }
    }
}

impl Ask {
    pub fn write(&self, out: &mut Vec<u8>, response: &Response<'_>, limit: usize) {
        self.asker.write(out, &self.question, response, limit);
    }

    pub fn udp_limit(&self) -> usize {
        self.asker.udp_limit()
    }
}

impl Asker {
    fn udp_limit(&self) -> usize {
        let payload = self.edns.map_or(PLAIN_UDP_PAYLOAD, |edns| edns.payload.clamp(PLAIN_UDP_PAYLOAD, UDP_PAYLOAD));
        usize::from(payload)
    }

    fn write(&self, out: &mut Vec<u8>, question: &[u8], response: &Response<'_>, limit: usize) {
        let start = out.len();
        self.compose(out, question, response, false);
        if out.len() - start > limit {
            out.truncate(start);
            self.compose(out, question, &Response { answers: 0, authority: 0, body: &[], ..*response }, true);
        }
    }

    fn compose(&self, out: &mut Vec<u8>, question: &[u8], response: &Response<'_>, truncated: bool) {
        let wants_authentic = self.authentic_data || self.edns.is_some_and(|edns| edns.dnssec_ok);
        let authentic = response.authentic && wants_authentic;
        let id = self.id.to_be_bytes();
        let flags =
            0x80 | u8::from(response.authoritative) << 2 | u8::from(truncated) << 1 | u8::from(self.recursion_desired);
        let low_rcode = (response.rcode.0 & 0x0f) as u8;
        let more = 0x80 | u8::from(authentic) << 5 | u8::from(self.checking_disabled) << 4 | low_rcode;
        let (answers, authority) = (response.answers.to_be_bytes(), response.authority.to_be_bytes());
        out.extend_from_slice(&[
            id[0],
            id[1],
            flags,
            more,
            0,
            1,
            answers[0],
            answers[1],
            authority[0],
            authority[1],
            0,
            u8::from(self.edns.is_some()),
        ]);
        out.extend_from_slice(question);
        let body = out.len();
        out.extend_from_slice(response.body);
        if response.ttl != Ttl::AsWritten {
            let records = u32::from(response.answers) + u32::from(response.authority);
            // The question is the name, its type and its class.
            let name = &question[..question.len().saturating_sub(4)];
            wire::fit_body(&mut out[body..], records, name, response.ttl);
        }
        if let Some(edns) = self.edns {
            let extended_rcode = (response.rcode.0 >> 4) as u8;
            let cookie = self.answer_cookie.as_ref();
            let len = response.options.len() + cookie.map_or(0, |cookie| 4 + cookie.len());
            wire::push_opt(out, extended_rcode, edns.dnssec_ok, u16::try_from(len).unwrap_or(0));
            if let Some(cookie) = cookie {
                wire::push_option(out, OPTION_COOKIE, cookie);
            }
            out.extend_from_slice(response.options);
        }
    }
}

/// Writes the answer that has a header and nothing else. The caller has seen that there is one.
pub(crate) fn write_header_only(out: &mut Vec<u8>, bytes: &[u8], rcode: Rcode) {
    let Some(header) = bytes.first_chunk::<HEADER_LEN>() else { return };
    // QR, the opcode and RD as they came, RA, CD as it came; every count is zero.
    let [id, id2, flags, more, ..] = *header;
    out.extend_from_slice(&[
        id,
        id2,
        0x80 | flags & 0x79,
        0x80 | more & 0x10 | (rcode.0 & 0x0f) as u8,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ]);
}

/// Extended errors as EDNS options (RFC 8914), so many and so long as a client may be given.
pub(crate) fn error_options(errors: &[ExtendedError]) -> Vec<u8> {
    let mut options = Vec::new();
    for error in errors.iter().take(MAX_ERRORS) {
        let mut data = error.code.to_be_bytes().to_vec();
        data.extend_from_slice(shortened(&error.text).as_bytes());
        wire::push_option(&mut options, wire::OPTION_EXTENDED_ERROR, &data);
    }
    options
}

fn shortened(text: &str) -> &str {
    let mut end = text.len().min(MAX_ERROR_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use domain::base::Message;
    use proptest::prelude::*;

    use super::*;
    use crate::client::AskOptions;
    use crate::message::{Question, compose_query};

    fn parse(bytes: &[u8]) -> Result<Query<'_>, Reject<'_>> {
        Query::parse(bytes, &mut Key::default())
    }

    fn written(query: &Query<'_>, response: &Response<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        query.write(&mut out, response, query.udp_limit());
        out
    }

    fn query_bytes() -> Vec<u8> {
        compose_query(7, &Question::new("Api.Peer.test", RecordType::A).unwrap(), &AskOptions::default(), true)
    }

    #[test]
    fn a_response_is_never_answered() {
        let mut bytes = query_bytes();
        bytes[2] |= 0x80;
        assert!(matches!(parse(&bytes), Err(Reject::Drop)));
        assert!(matches!(parse(&bytes[..11]), Err(Reject::Drop)));
    }

    #[test]
    fn other_opcodes_and_broken_questions() {
        let mut notify = query_bytes();
        notify[2] |= 4 << 3;
        assert!(matches!(parse(&notify), Err(Reject::Header(Rcode::NOTIMP))));
        notify[3] |= 0x70;
        let mut answer = Vec::new();
        write_header_only(&mut answer, &notify, Rcode::NOTIMP);
        assert_eq!((answer.len(), answer[2] >> 3 & 0xf, answer[3] & 0xf), (12, 4, 4));
        assert_eq!(answer[3] & 0x70, 0x10, "CD is repeated; AD would be a lie, and the bit before it is reserved");
        let mut two_questions = query_bytes();
        two_questions[5] = 2;
        let mut cut = query_bytes();
        cut.truncate(20);
        let mut pointer = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        pointer.extend_from_slice(&[1, b'a', 0xc0, 4, 0, 1, 0, 1]);
        for bytes in [two_questions, cut, pointer] {
            assert!(matches!(parse(&bytes), Err(Reject::Header(Rcode::FORMERR))), "{bytes:?}");
        }
    }

    /// The query with its OPT record's data in place of none.
    fn with_options(data: &[u8]) -> Vec<u8> {
        let mut bytes = query_bytes();
        bytes.truncate(HEADER_LEN + "\x03api\x04peer\x04test\x00".len() + 4);
        bytes.extend_from_slice(&[0, 0, 41, 4, 0xd0, 0, 0, 0x80, 0, 0, data.len() as u8]);
        bytes.extend_from_slice(data);
        bytes
    }

    #[test]
    fn whose_opt_record_was_read_gets_one_with_a_formerr() {
        let mut two_opts = with_options(&[]);
        two_opts.extend_from_slice(&[0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0]);
        two_opts[11] = 2;
        let bad_cookie = with_options(&[0, 10, 0, 7, 1, 2, 3, 4, 5, 6, 7]);
        let past_the_end = with_options(&[0, 3, 0, 9, 1]);
        for bytes in [two_opts, bad_cookie, past_the_end] {
            let Err(Reject::Additional(query)) = parse(&bytes) else { panic!("{bytes:?}") };
            let answer = written(&query, &Response::empty(Rcode::FORMERR));
            let message = Message::from_octets(&answer).unwrap();
            let opt = message.opt().unwrap();
            assert_eq!((message.header().rcode().to_int(), opt.version(), opt.dnssec_ok()), (1, 0, true));
            assert_eq!(message.header_counts().qdcount(), 1);
            assert!(answer.len() <= bytes.len());
        }
        let mut not_at_the_root = query_bytes();
        not_at_the_root.truncate(HEADER_LEN + 15 + 4);
        not_at_the_root.extend_from_slice(&[1, b'a', 0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0]);
        assert!(matches!(parse(&not_at_the_root), Err(Reject::Header(Rcode::FORMERR))));
    }

    #[test]
    fn an_answer_that_is_too_long_is_truncated() {
        let bytes = query_bytes();
        let query = parse(&bytes).unwrap();
        assert_eq!(query.udp_limit(), 1232);
        let body = vec![0; 1300];
        let answer = written(&query, &Response { answers: 1, body: &body, ..Response::empty(Rcode::NOERROR) });
        assert!(answer.len() < 100);
        assert_eq!(answer[2] & 2, 2);
        assert_eq!(&answer[6..8], [0, 0]);
    }

    proptest! {
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            check(&bytes);
        }

        #[test]
        fn mutated_queries(at in 0..45usize, value in any::<u8>(), cut in 0..60usize) {
            let mut bytes = query_bytes();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            bytes.truncate(cut.max(1));
            check(&bytes);
        }
    }

    /// Whatever comes, what goes out is a response with the same id that can be read.
    fn check(bytes: &[u8]) {
        let out = match parse(bytes) {
            Ok(query) => written(&query, &Response::empty(Rcode::REFUSED)),
            Err(Reject::Header(rcode)) => {
                let mut out = Vec::new();
                write_header_only(&mut out, bytes, rcode);
                out
            }
            Err(Reject::Additional(query)) => written(&query, &Response::empty(Rcode::FORMERR)),
            Err(Reject::Drop) => return,
        };
        assert_eq!(&out[..2], &bytes[..2]);
        let message = Message::from_octets(&out).unwrap();
        assert!(message.header().qr());
        assert!(message.sections().is_ok());
    }
}
