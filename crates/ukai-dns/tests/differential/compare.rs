//! What two answers to the same octets differ in, in few words, so that what has one reason is one kind.

use std::collections::BTreeSet;
use std::fmt;

use hickory_proto::op::Message;
use hickory_proto::rr::{RData, Record};

use crate::queries::Sent;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    pub kind: &'static str,
    pub field: &'static str,
    pub ours: String,
    pub theirs: String,
    pub resolver: &'static str,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, field, ours, theirs, resolver } = self;
        write!(f, "{kind} | {field} | {ours} | {theirs} | {resolver}")
    }
}

type Field = (&'static str, String, String);

pub fn differences(resolver: &'static str, sent: &Sent, ours: Option<&[u8]>, theirs: Option<&[u8]>) -> Vec<Difference> {
    let kind = sent.kind;
    let fields = fields(sent, ours, theirs);
    fields.into_iter().map(|(field, ours, theirs)| Difference { kind, field, ours, theirs, resolver }).collect()
}

fn fields(sent: &Sent, ours: Option<&[u8]>, theirs: Option<&[u8]>) -> Vec<Field> {
    let (one, other) = (rcode(ours), rcode(theirs));
    if one != other {
        return vec![("rcode", one, other)];
    }
    // Of what is no question the rest is whatever a server made of it.
    let (Some(ours), Some(theirs)) = (ours, theirs) else { return Vec::new() };
    if sent.kind == "malformed" {
        return Vec::new();
    }
    let (Ok(one), Ok(other)) = (Message::from_vec(ours), Message::from_vec(theirs)) else {
        return vec![("unreadable", readable(ours), readable(theirs))];
    };
    let mut fields = vec![
        ("flags", flags(ours), flags(theirs)),
        ("question", question(&one, &sent.bytes), question(&other, &sent.bytes)),
        ("edns", edns(&one), edns(&other)),
        ("errors", option(&one, 15), option(&other, 15)),
        ("other options", options(&one), options(&other)),
    ];
    // Of what is cut off each keeps what it likes.
    if !one.metadata.truncation && !other.metadata.truncation {
        let (field, ours, theirs) = section("answer", &one.answers, &other.answers);
        // So many types that every name would be a kind of its own.
        let theirs = if sent.kind == "any" && ours == "HINFO" { "records".to_owned() } else { theirs };
        fields.push((field, ours, theirs));
        fields.push(section("authority", &one.authorities, &other.authorities));
        fields.push(section("additional", &one.additionals, &other.additionals));
    }
    fields.retain(|(_, ours, theirs)| ours != theirs);
    fields
}

fn readable(bytes: &[u8]) -> String {
    Message::from_vec(bytes).map_or_else(|error| error.to_string(), |_| "fine".to_owned())
}

fn rcode(answer: Option<&[u8]>) -> String {
    let Some(bytes) = answer else { return "no answer".to_owned() };
    let Some(header) = bytes.first_chunk::<12>() else { return "half a header".to_owned() };
    let low = u16::from(header[3] & 0xf);
    let rcode = Message::from_vec(bytes).map_or(low, |message| u16::from(message.metadata.response_code));
    match rcode {
        0 => "NOERROR".to_owned(),
        1 => "FORMERR".to_owned(),
        2 => "SERVFAIL".to_owned(),
        3 => "NXDOMAIN".to_owned(),
        4 => "NOTIMP".to_owned(),
        5 => "REFUSED".to_owned(),
        9 => "NOTAUTH".to_owned(),
        16 => "BADVERS".to_owned(),
        other => other.to_string(),
    }
}

fn flags(bytes: &[u8]) -> String {
    let bits = u16::from_be_bytes([bytes[2], bytes[3]]);
    let names = [(15, "qr"), (10, "aa"), (9, "tc"), (8, "rd"), (7, "ra"), (6, "z"), (5, "ad"), (4, "cd")];
    let set: Vec<_> = names.iter().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, name)| *name).collect();
    let opcode = bits >> 11 & 0xf;
    if opcode == 0 { set.join(" ") } else { format!("{} opcode {opcode}", set.join(" ")) }
}

/// Case and all.
fn question(message: &Message, sent: &[u8]) -> String {
    let asked = Message::from_vec(sent).map(|sent| sent.queries).unwrap_or_default();
    match &message.queries[..] {
        [] => "none".to_owned(),
        [one] if asked.first().is_none_or(|asked| asked.to_string() == one.to_string()) => "as asked".to_owned(),
        [_] => "another".to_owned(),
        many => format!("{} questions", many.len()),
    }
}

fn edns(message: &Message) -> String {
    let Some(edns) = &message.edns else { return "none".to_owned() };
    format!("version {}{}", edns.version(), if edns.flags().dnssec_ok { " do" } else { "" })
}

fn codes(message: &Message) -> BTreeSet<u16> {
    let options = message.edns.as_ref().map(|edns| edns.options().as_ref().iter().map(|(code, _)| u16::from(*code)));
    options.into_iter().flatten().collect()
}

fn option(message: &Message, code: u16) -> String {
    if codes(message).contains(&code) { "given".to_owned() } else { "none".to_owned() }
}

fn options(message: &Message) -> String {
    let codes: Vec<_> = codes(message).into_iter().filter(|code| *code != 15).map(|code| code.to_string()).collect();
    if codes.is_empty() { "none".to_owned() } else { codes.join(" ") }
}

/// As sets, without times to live.
fn section(field: &'static str, ours: &[Record], theirs: &[Record]) -> Field {
    let (one, other): (BTreeSet<_>, BTreeSet<_>) =
        (ours.iter().map(shown).collect(), theirs.iter().map(shown).collect());
    match one == other {
        true => (field, String::new(), String::new()),
        false if types(ours) == types(theirs) => (field, types(ours), format!("other {}", types(theirs))),
        false => (field, types(ours), types(theirs)),
    }
}

fn shown(record: &Record) -> String {
    let data = match &record.data {
        RData::TXT(text) => text.to_string(),
        other => other.to_string().to_lowercase(),
    };
    let owner = record.name.to_lowercase();
    format!("{owner} {} {} {data}", record.dns_class, record.record_type())
}

fn types(records: &[Record]) -> String {
    let types: BTreeSet<_> = records.iter().map(|record| record.record_type().to_string()).collect();
    if types.is_empty() { "none".to_owned() } else { types.into_iter().collect::<Vec<_>>().join(" ") }
}
