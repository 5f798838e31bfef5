//! Domain names: parsed once, compared without regard to case, printed without the trailing dot.

use std::fmt;
use std::str::FromStr;

use domain::base::name::{Name as WireName, ToName};
use serde::{Deserialize, Serialize};

/// An absolute domain name in canonical (lower) case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(WireName<Vec<u8>>);

impl Name {
    pub fn root() -> Self {
        Self(WireName::root_vec())
    }

    pub fn is_root(&self) -> bool {
        self.0.is_root()
    }

    /// The number of labels, the root label not counted.
    pub fn label_count(&self) -> usize {
        self.0.label_count().saturating_sub(1)
    }

    pub fn parent(&self) -> Option<Self> {
        self.0.parent().map(|name| Self::from_wire(&name))
    }

    pub fn is_at_or_below(&self, zone: &Self) -> bool {
        self.0.ends_with(&zone.0)
    }

    pub fn is_below(&self, zone: &Self) -> bool {
        self != zone && self.is_at_or_below(zone)
    }

    /// The ancestor of this name (or the name itself) that has so many labels.
    pub(crate) fn suffix(&self, labels: usize) -> Self {
        let skip = self.label_count().saturating_sub(labels);
        self.0.iter_suffixes().nth(skip).map_or_else(|| self.clone(), |name| Self::from_wire(&name))
    }

    /// The uncompressed wire format.
    pub(crate) fn as_wire(&self) -> &[u8] {
        self.0.as_slice()
    }

    pub(crate) fn to_wire_name(&self) -> WireName<Vec<u8>> {
        self.0.clone()
    }

    /// This name below `zone`: `api.peer.example` in `rpz` is `api.peer.example.rpz`. None: it would be too long.
    pub fn below(&self, zone: &Self) -> Option<Self> {
        let own = self.0.as_slice();
        let mut wire = own.get(..own.len() - 1)?.to_vec();
        wire.extend_from_slice(zone.0.as_slice());
        WireName::from_octets(wire).ok().map(Self)
    }

    /// The other way round: what stands before `zone`. None: it is not below it.
    pub fn before(&self, zone: &Self) -> Option<Self> {
        if !self.is_below(zone) {
            return None;
        }
        let kept = self.0.as_slice().len() - zone.0.as_slice().len();
        let mut wire = self.0.as_slice().get(..kept)?.to_vec();
        wire.push(0);
        WireName::from_octets(wire).ok().map(Self)
    }

    /// From octets that are one whole uncompressed name.
    pub(crate) fn from_wire_bytes(octets: &[u8]) -> Option<Self> {
        WireName::from_octets(octets).ok().map(|name| Self::from_wire(&name))
    }

    pub(crate) fn from_wire(name: &impl ToName) -> Self {
        Self(name.to_canonical_name())
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let fail = |cause: &str| NameError { text: text.to_owned(), cause: cause.to_owned() };
        if text.is_empty() {
            return Err(fail("it is empty"));
        }
        if !text.is_ascii() {
            return Err(fail("an internationalised name must be given as A-labels (xn--…)"));
        }
        let name = WireName::vec_from_str(text).map_err(|error| fail(&error.to_string()))?;
        Ok(Self::from_wire(&name))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        other.parse::<Self>().is_ok_and(|other| *self == other)
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        *self == **other
    }
}

impl Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Why a text is no domain name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a domain name: {cause}")]
pub struct NameError {
    pub text: String,
    pub cause: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn case_and_trailing_dot_do_not_matter() {
        assert_eq!(name("API.Peer.test."), name("api.peer.test"));
        assert_eq!(name("API.Peer.test.").to_string(), "api.peer.test");
        assert_eq!(name(".").to_string(), ".");
        assert_eq!(name("_dns.resolver.arpa"), "_dns.resolver.arpa");
    }

    #[test]
    fn ancestors() {
        assert!(name("a.b.c").is_at_or_below(&name("b.c")));
        assert!(!name("ab.c").is_at_or_below(&name("b.c")));
        assert!(!name("b.c").is_below(&name("b.c")));
        assert!(name("b.c").is_below(&Name::root()));
        assert_eq!(name("a.b.c").parent(), Some(name("b.c")));
        assert_eq!(name("a.b.c").suffix(1), name("c"));
        assert_eq!(name("a.b.c").suffix(0), Name::root());
        assert_eq!(Name::root().parent(), None);
        assert_eq!(Name::root().label_count(), 0);
    }

    #[test]
    fn into_a_zone_and_out_again() {
        let inside = name("api.peer.test").below(&name("rpz.example")).unwrap();
        assert_eq!(inside, "api.peer.test.rpz.example");
        assert_eq!(inside.before(&name("rpz.example")), Some(name("api.peer.test")));
        assert_eq!(inside.before(&name("example.org")), None);
        assert_eq!(name("rpz").before(&name("rpz")), None);
        let long = ["a".repeat(60), "b".repeat(60), "c".repeat(60), "d".repeat(60)].join(".");
        assert_eq!(name(&long).below(&name("rpz.example.org")), None);
    }

    #[test]
    fn refusals() {
        let long = format!("{}.test", "a".repeat(64));
        for text in ["", "a..b", "münchen.example", long.as_str()] {
            assert!(text.parse::<Name>().is_err(), "{text:?}");
        }
        let too_long = ["a".repeat(60), "b".repeat(60), "c".repeat(60), "d".repeat(60), "e".repeat(60)].join(".");
        assert!(too_long.parse::<Name>().is_err());
    }
}
