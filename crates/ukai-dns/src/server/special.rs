//! Special-use domains, answered here so that they do not leak: RFC 6761, 6762, 7686, 8375, 9476.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use super::config::Settings;
use super::query::Response;
use crate::name::Name;
use crate::types::{Rcode, RecordType};
use crate::wire::{HEADER_LEN, QUESTION_POINTER, Ttl, push_record, push_soa};

/// RFC 6761 asks for no particular value; a day would outlast a change of configuration, so ten minutes.
const TTL: u32 = 600;

static LOCALHOST: LazyLock<Name> = LazyLock::new(|| name("localhost"));
static HOME_ARPA: LazyLock<Name> = LazyLock::new(|| name("home.arpa"));

/// Domains in which nothing exists as far as the world is concerned.
static ABSENT: LazyLock<Vec<Name>> = LazyLock::new(|| {
    let mut absent: Vec<Name> =
        ["test", "invalid", "local", "onion", "alt", "home.arpa", "10.in-addr.arpa", "168.192.in-addr.arpa"]
            .into_iter()
            .map(name)
            .collect();
    absent.extend((16..32).map(|octet| name(&format!("{octet}.172.in-addr.arpa"))));
    absent
});

fn name(text: &str) -> Name {
    // The constants above all parse (a test says so); the root would be the harmless outcome if one did not.
    text.parse().unwrap_or_else(|_| Name::root())
}

/// An answer that is made here.
pub(crate) struct Special {
    rcode: Rcode,
    answers: u16,
    authority: u16,
    body: Vec<u8>,
}

impl Special {
    /// Whether a name (wire format, lower case) may be special at all: a look at its last label tells for nearly every name.
    pub fn may_be(name: &[u8]) -> bool {
        const LAST: [&[u8]; 7] =
            [b"\x09localhost", b"\x04test", b"\x07invalid", b"\x05local", b"\x05onion", b"\x03alt", b"\x04arpa"];
        let name = name.strip_suffix(&[0]).unwrap_or(name);
        LAST.iter().any(|label| name.ends_with(label))
    }

    /// `None` for a name that is not special, or that the settings send upstream all the same.
    pub fn answer(name: &Name, qtype: RecordType, settings: &Settings) -> Option<Self> {
        if name.is_at_or_below(&LOCALHOST) {
            return Some(Self::localhost(name, qtype));
        }
        let domain = ABSENT.iter().find(|domain| !domain.is_root() && name.is_at_or_below(domain))?;
        // RFC 8375 section 4: the DS of home.arpa itself is the world's, or validation below it breaks.
        let is_delegation_signer = *name == *HOME_ARPA && qtype == RecordType::DS;
        if is_delegation_signer || is_forwarded(name, domain, settings) {
            return None;
        }
        Some(Self::absent(name, domain))
    }

    pub fn response(&self) -> Response<'_> {
        Response {
            rcode: self.rcode,
            authoritative: true,
            authentic: false,
            answers: self.answers,
            authority: self.authority,
            body: &self.body,
            options: &[],
            ttl: Ttl::AsWritten,
        }
    }

    fn localhost(name: &Name, qtype: RecordType) -> Self {
        let mut body = Vec::new();
        match qtype {
            RecordType::A => push_record(&mut body, QUESTION_POINTER, qtype, TTL, &Ipv4Addr::LOCALHOST.octets()),
            RecordType::AAAA => push_record(&mut body, QUESTION_POINTER, qtype, TTL, &Ipv6Addr::LOCALHOST.octets()),
            _ => {
                push_soa(&mut body, pointer_to(name, &LOCALHOST), 1, TTL);
                return Self { rcode: Rcode::NOERROR, answers: 0, authority: 1, body };
            }
        }
        Self { rcode: Rcode::NOERROR, answers: 1, authority: 0, body }
    }

    fn absent(name: &Name, domain: &Name) -> Self {
        let mut body = Vec::new();
        push_soa(&mut body, pointer_to(name, domain), 1, TTL);
        let rcode = if name == domain { Rcode::NOERROR } else { Rcode::NXDOMAIN };
        Self { rcode, answers: 0, authority: 1, body }
    }
}

/// What the operator named wins: a watched name opens the whole special domain it is in, a listed one, or one with servers of
/// its own, what is at or below it.
fn is_forwarded(name: &Name, domain: &Name, settings: &Settings) -> bool {
    settings.watched.iter().any(|watched| watched.is_at_or_below(domain))
        || settings.forward_special_use.iter().any(|listed| name.is_at_or_below(listed))
        || settings.forward.iter().any(|route| name.is_at_or_below(&route.domain))
}

/// A compression pointer to where `domain` begins inside the question name.
fn pointer_to(name: &Name, domain: &Name) -> u16 {
    let offset = HEADER_LEN + name.as_wire().len() - domain.as_wire().len();
    0xC000 | offset as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(watched: &[&str], forwarded: &[&str]) -> Settings {
        let names = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Settings { watched: names(watched), forward_special_use: names(forwarded), ..Settings::default() }
    }

    fn rcode(text: &str, qtype: RecordType, settings: &Settings) -> Option<Rcode> {
        Special::answer(&text.parse().unwrap(), qtype, settings).map(|special| special.rcode)
    }

    #[test]
    fn every_constant_parses() {
        assert_eq!(ABSENT.len(), 24);
        assert!(ABSENT.iter().chain([&*LOCALHOST, &*HOME_ARPA]).all(|name| !name.is_root()));
    }

    #[test]
    fn a_look_at_the_last_label_misses_none() {
        let special = ABSENT.iter().chain([&*LOCALHOST, &*HOME_ARPA]);
        for name in special {
            assert!(Special::may_be(name.as_wire()), "{name}");
        }
        assert!(!Special::may_be(b"\x03api\x07example\x00"));
    }

    #[test]
    fn kept_here() {
        let settings = settings(&[], &[]);
        for text in [
            "x.test",
            "a.b.onion",
            "printer.local",
            "x.invalid",
            "x.alt",
            "nas.home.arpa",
            "1.2.3.10.in-addr.arpa",
            "1.0.20.172.in-addr.arpa",
        ] {
            assert_eq!(rcode(text, RecordType::A, &settings), Some(Rcode::NXDOMAIN), "{text}");
        }
        for text in ["example.com", "attest", "1.1.32.172.in-addr.arpa", "."] {
            assert_eq!(rcode(text, RecordType::A, &settings), None, "{text}");
        }
        assert_eq!(rcode("home.arpa", RecordType::DS, &settings), None);
        assert_eq!(rcode("home.arpa", RecordType::A, &settings), Some(Rcode::NOERROR));
        assert_eq!(rcode("a.localhost", RecordType::A, &settings), Some(Rcode::NOERROR));
    }

    #[test]
    fn what_is_watched_or_listed_goes_upstream() {
        let watching = settings(&["api.peer.test"], &["corp.local", "10.in-addr.arpa"]);
        assert_eq!(rcode("ns-1.peer.test", RecordType::A, &watching), None);
        assert_eq!(rcode("x.corp.local", RecordType::A, &watching), None);
        assert_eq!(rcode("x.other.local", RecordType::A, &watching), Some(Rcode::NXDOMAIN));
        assert_eq!(rcode("1.2.3.10.in-addr.arpa", RecordType::A, &watching), None);
    }
}
