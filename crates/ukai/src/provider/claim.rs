//! The ownership record: what is ours in a zone of somebody else's, as the texts of one TXT record beside it.
//!
//! It stands at `HOST._ukai.invalid` in the policy zone. Everything in a response-policy zone is a policy for some name, and this
//! one is a policy for a name below `invalid`, which exists nowhere and never will (RFC 6761, 6.4): nobody looks it up, and no name
//! of the peer's is touched. It holds the whole of what was written, so that ours is told from somebody else's without any log.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use ukai_core::effect::ServedOverride;
use ukai_core::input::ServedNow;

/// Below this stand the ownership records.
pub const SUFFIX: &str = "_ukai.invalid";
/// The first text of each.
const MARK: &str = "ukai=1";
/// As many of a family as the embedded server takes.
pub const ADDRESSES_MAX: usize = 64;
/// A character string holds 255 octets; names of keys are shorter than the rest.
const TEXT_MAX: usize = 200;

/// One override as it stands in a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The data directory that it belongs to.
    pub owner: String,
    pub id: String,
    pub incident: String,
    pub host: String,
    pub generation: u64,
    pub addresses: BTreeSet<IpAddr>,
    pub ttl_s: u32,
    /// By this machine's clock.
    pub expires_at: Timestamp,
}

impl Claim {
    pub fn of(served: &ServedOverride, owner: &str, expires_at: Timestamp) -> Claim {
        Claim {
            owner: owner.to_owned(),
            id: served.id.clone(),
            incident: served.incident.clone(),
            host: super::canonical(&served.host),
            generation: served.generation,
            addresses: served.addresses.clone(),
            ttl_s: served.ttl_s,
            expires_at,
        }
    }

    /// What cannot be written into a zone.
    pub fn check(&self) -> Result<(), String> {
        for (what, text) in [("id", &self.id), ("incident", &self.incident)] {
            let is_plain = text.bytes().all(|octet| octet.is_ascii_graphic() && !matches!(octet, b'"' | b'\\' | b';'));
            if text.is_empty() || text.len() > TEXT_MAX || !is_plain {
                return Err(format!("the {what} {text:?} cannot be written into a TXT record"));
            }
        }
        if self.addresses.is_empty() {
            return Err("an override without any address would make the name vanish".to_owned());
        }
        if self.addresses.len() > ADDRESSES_MAX {
            return Err(format!("at most {ADDRESSES_MAX} addresses can be served"));
        }
        Ok(())
    }

    /// The texts of its record, in one order, so that the same claim is always the same record.
    pub fn texts(&self) -> Vec<String> {
        let mut texts = vec![
            MARK.to_owned(),
            format!("owner={}", self.owner),
            format!("id={}", self.id),
            format!("incident={}", self.incident),
            format!("generation={}", self.generation),
            format!("expires={}", self.expires_at),
            format!("ttl={}", self.ttl_s),
        ];
        texts.extend(self.addresses.iter().map(|address| format!("address={address}")));
        texts
    }

    /// None: it is no record of a ukai.
    pub fn read(host: &str, texts: &[String]) -> Option<Claim> {
        if texts.first().map(String::as_str) != Some(MARK) {
            return None;
        }
        let value = |key: &str| texts.iter().find_map(|text| text.strip_prefix(key)?.strip_prefix('='));
        let addresses: Option<BTreeSet<IpAddr>> =
            texts.iter().filter_map(|text| text.strip_prefix("address=")).map(|text| text.parse().ok()).collect();
        Some(Claim {
            owner: value("owner")?.to_owned(),
            id: value("id")?.to_owned(),
            incident: value("incident")?.to_owned(),
            host: host.to_owned(),
            generation: value("generation")?.parse().ok()?,
            addresses: addresses?,
            ttl_s: value("ttl")?.parse().ok()?,
            expires_at: value("expires")?.parse().ok()?,
        })
    }

    /// The same but for the end of its lease: a generation has one lease, and only its end by the machine's clock differs from
    /// one try to the next.
    pub fn is_same(&self, other: &Claim) -> bool {
        Claim { expires_at: other.expires_at, ..self.clone() } == *other
    }

    pub fn is_of(&self, owner: &str, id: &str) -> bool {
        self.owner == owner && self.id == id
    }

    /// As the engine has it, with what is really served.
    pub fn served(&self, addresses: BTreeSet<IpAddr>) -> ServedNow {
        ServedNow {
            id: self.id.clone(),
            host: self.host.clone(),
            generation: self.generation,
            addresses,
            expires_at: self.expires_at,
        }
    }

    /// For a sentence.
    pub fn told(&self) -> String {
        format!(
            "override {} generation {} of ukai {} for {} (incident {}, until {})",
            self.id, self.generation, self.owner, self.host, self.incident, self.expires_at
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn claim() -> Claim {
        Claim {
            owner: "0123456789abcdef".into(),
            id: "ovr-1".into(),
            incident: "inc-1".into(),
            host: "api.peer.test".into(),
            generation: 1,
            addresses: ["192.0.2.7", "2001:db8::7"].iter().map(|text| text.parse().unwrap()).collect(),
            ttl_s: 10,
            expires_at: Timestamp::from_second(4_000_000_000).unwrap(),
        }
    }

    #[test]
    fn it_comes_back_from_its_texts() {
        assert_eq!(Claim::read("api.peer.test", &claim().texts()), Some(claim()));
        for missing in 0..claim().texts().len() - 2 {
            let mut texts = claim().texts();
            let taken = texts.remove(missing);
            assert_eq!(Claim::read("api.peer.test", &texts), None, "without {taken}");
        }
        assert_eq!(Claim::read("a", &["v=spf1 -all".to_owned()]), None);
    }

    #[test]
    fn only_the_end_of_a_lease_may_differ() {
        let later = Claim { expires_at: Timestamp::from_second(4_000_000_009).unwrap(), ..claim() };
        assert!(later.is_same(&claim()));
        assert!(!Claim { generation: 2, ..claim() }.is_same(&claim()));
    }

    #[test]
    fn what_would_break_a_record_is_refused() {
        claim().check().unwrap();
        for id in ["", "a\"b", "a b", "a\\b"] {
            assert!(Claim { id: id.into(), ..claim() }.check().is_err(), "{id:?}");
        }
        assert!(Claim { addresses: BTreeSet::new(), ..claim() }.check().is_err());
    }
}
