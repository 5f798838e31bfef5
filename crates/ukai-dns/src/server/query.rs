//! A client's message, judged: what cannot be answered is dropped or refused here, the rest is a [`Query`].

use domain::base::Message;
use domain::base::iana::{Class, Opcode};

use crate::name::Name;
use crate::types::{ExtendedError, Rcode, RecordType};
use crate::wire::{self, HEADER_LEN, Opt, UDP_PAYLOAD};

/// Without EDNS a UDP message has no more octets than this (RFC 1035 section 2.3.4).
const PLAIN_UDP_PAYLOAD: u16 = 512;
/// Extended errors and octets of text repeated to a client; the text of an upstream is not ours to trust.
const MAX_ERRORS: usize = 4;
const MAX_ERROR_TEXT: usize = 200;

#[derive(Clone, Debug)]
pub(crate) struct Query {
    id: u16,
    /// The question section as it came, case and all.
    question: Vec<u8>,
    pub name: Name,
    pub qtype: RecordType,
    pub class: Class,
    pub recursion_desired: bool,
    pub checking_disabled: bool,
    authentic_data: bool,
    pub edns: Option<Edns>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Edns {
    payload: u16,
    pub version: u8,
    pub dnssec_ok: bool,
}

/// Why a message is no query.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reject {
    /// Too short for a header, or itself a response: answering could go round for ever.
    Drop,
    /// An answer that has a header and nothing else.
    Answer(Vec<u8>),
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
    pub errors: &'a [ExtendedError],
}

impl Response<'_> {
    pub const fn empty(rcode: Rcode) -> Self {
        Self { rcode, authoritative: false, authentic: false, answers: 0, authority: 0, body: &[], errors: &[] }
    }
}

impl Query {
    pub fn parse(bytes: &[u8]) -> Result<Self, Reject> {
        let message = Message::from_octets(bytes).map_err(|_| Reject::Drop)?;
        let header = message.header();
        if header.qr() {
            return Err(Reject::Drop);
        }
        if header.opcode() != Opcode::QUERY {
            return Err(Reject::Answer(header_only(bytes, Rcode::NOTIMP)));
        }
        Self::parse_question(&message).ok_or_else(|| Reject::Answer(header_only(bytes, Rcode::FORMERR)))
    }

    fn parse_question(message: &Message<&[u8]>) -> Option<Self> {
        let bytes = *message.as_octets();
        let header = message.header();
        let counts = message.header_counts();
        let asked = message.sole_question().ok()?;
        let name = Name::from_wire(asked.qname());
        let question = bytes.get(HEADER_LEN..HEADER_LEN + name.as_wire().len() + 4)?;
        // A question name has nothing before it that it could point to.
        if asked.qname().is_compressed() || counts.ancount() != 0 {
            return None;
        }
        Some(Self {
            id: header.id(),
            question: question.to_vec(),
            name,
            qtype: RecordType(asked.qtype().to_int()),
            class: asked.qclass(),
            recursion_desired: header.rd(),
            checking_disabled: header.cd(),
            authentic_data: header.ad(),
            edns: read_edns(message).ok()?,
        })
    }

    /// The most octets that the client takes in one datagram.
    pub fn udp_limit(&self) -> usize {
        let payload = self.edns.map_or(PLAIN_UDP_PAYLOAD, |edns| edns.payload.clamp(PLAIN_UDP_PAYLOAD, UDP_PAYLOAD));
        usize::from(payload)
    }

    pub fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    /// The message to send; what is longer than `limit` becomes an empty one with TC set.
    pub fn answer(&self, response: &Response<'_>, limit: usize) -> Vec<u8> {
        let whole = self.compose(response, false);
        if whole.len() <= limit {
            return whole;
        }
        self.compose(&Response { answers: 0, authority: 0, body: &[], ..*response }, true)
    }

    fn compose(&self, response: &Response<'_>, truncated: bool) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_LEN + self.question.len() + response.body.len() + 64);
        let authentic = response.authentic && (self.authentic_data || self.dnssec_ok());
        out.extend_from_slice(&self.id.to_be_bytes());
        out.push(
            0x80 | u8::from(response.authoritative) << 2 | u8::from(truncated) << 1 | u8::from(self.recursion_desired),
        );
        let low_rcode = (response.rcode.0 & 0x0f) as u8;
        out.push(0x80 | u8::from(authentic) << 5 | u8::from(self.checking_disabled) << 4 | low_rcode);
        for count in [1, response.answers, response.authority, u16::from(self.edns.is_some())] {
            out.extend_from_slice(&count.to_be_bytes());
        }
        out.extend_from_slice(&self.question);
        out.extend_from_slice(response.body);
        if let Some(edns) = self.edns {
            let mut opt =
                Opt { extended_rcode: (response.rcode.0 >> 4) as u8, dnssec_ok: edns.dnssec_ok, ..Opt::default() };
            for error in response.errors.iter().take(MAX_ERRORS) {
                opt.push_error(&ExtendedError::new(error.code, shortened(&error.text)));
            }
            opt.compose(&mut out);
        }
        out
    }
}

/// `Err` for a message that has several OPT records, or one that is malformed or not at the root (RFC 6891 section 6.1.1).
fn read_edns(message: &Message<&[u8]>) -> Result<Option<Edns>, ()> {
    let mut found = None;
    for record in message.additional().map_err(drop)? {
        let record = record.map_err(drop)?;
        if record.rtype().to_int() != RecordType::OPT.0 {
            continue;
        }
        if found.is_some() || !record.owner().is_root() {
            return Err(());
        }
        found = Some(Edns {
            payload: record.class().to_int(),
            version: (record.ttl().as_secs() >> 16 & 0xff) as u8,
            dnssec_ok: record.ttl().as_secs() & 0x8000 != 0,
        });
    }
    if found.is_some() && message.opt().is_none() {
        return Err(());
    }
    Ok(found)
}

fn header_only(bytes: &[u8], rcode: Rcode) -> Vec<u8> {
    let mut out = bytes[..HEADER_LEN].to_vec();
    // QR, the opcode and RD as they came, RA; every count is zero.
    out[2] = 0x80 | out[2] & 0x79;
    out[3] = 0x80 | (rcode.0 & 0x0f) as u8;
    for at in [4, 6, 8, 10] {
        wire::set_u16(&mut out, at, 0);
    }
    out
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
    use proptest::prelude::*;

    use super::*;
    use crate::client::AskOptions;
    use crate::message::{Question, compose_query};

    fn query_bytes() -> Vec<u8> {
        compose_query(7, &Question::new("Api.Peer.test", RecordType::A).unwrap(), &AskOptions::default(), true)
    }

    #[test]
    fn a_response_is_never_answered() {
        let mut bytes = query_bytes();
        bytes[2] |= 0x80;
        assert_eq!(Query::parse(&bytes).unwrap_err(), Reject::Drop);
        assert_eq!(Query::parse(&bytes[..11]).unwrap_err(), Reject::Drop);
    }

    #[test]
    fn other_opcodes_and_broken_questions() {
        let mut notify = query_bytes();
        notify[2] |= 4 << 3;
        let Err(Reject::Answer(answer)) = Query::parse(&notify) else { panic!("NOTIFY is not answered") };
        assert_eq!((answer.len(), answer[2] >> 3 & 0xf, answer[3] & 0xf), (12, 4, 4));
        let mut two_questions = query_bytes();
        two_questions[5] = 2;
        let mut cut = query_bytes();
        cut.truncate(20);
        let mut two_opts = query_bytes();
        two_opts.extend_from_slice(&[0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0]);
        two_opts[11] = 2;
        let mut pointer = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        pointer.extend_from_slice(&[1, b'a', 0xc0, 4, 0, 1, 0, 1]);
        for bytes in [two_questions, cut, two_opts, pointer] {
            let Err(Reject::Answer(answer)) = Query::parse(&bytes) else { panic!("{bytes:?} passes") };
            assert_eq!(answer[3] & 0xf, 1);
        }
    }

    #[test]
    fn an_answer_that_is_too_long_is_truncated() {
        let query = Query::parse(&query_bytes()).unwrap();
        assert_eq!(query.udp_limit(), 1232);
        let body = vec![0; 1300];
        let answer =
            query.answer(&Response { answers: 1, body: &body, ..Response::empty(Rcode::NOERROR) }, query.udp_limit());
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
        let out = match Query::parse(bytes) {
            Ok(query) => query.answer(&Response::empty(Rcode::REFUSED), query.udp_limit()),
            Err(Reject::Answer(out)) => out,
            Err(Reject::Drop) => return,
        };
        assert_eq!(&out[..2], &bytes[..2]);
        let message = Message::from_octets(&out).unwrap();
        assert!(message.header().qr());
        assert!(message.sections().is_ok());
    }
}
