//! Who answered: the facts of a leaf certificate that rustls does not expose.

use std::net::IpAddr;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use ukai_core::observe::Identity;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use crate::escape::{escape, escape_bytes, hex};

/// Names of a certificate that are kept; a content network's certificate holds about this many.
pub const NAMES_MAX: usize = 100;
/// Names that are shown in a sentence.
const NAMES_SHOWN: usize = 3;

/// Facts of the leaf, or None if it cannot be read at all.
pub(crate) fn identity(leaf: &[u8], chain_length: usize, verified: bool) -> Option<Identity> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let (names, names_total) = names(&certificate);
    Some(Identity {
        key_sha256: hex(&Sha256::digest(certificate.public_key().raw)),
        certificate_sha256: hex(&Sha256::digest(leaf)),
        issuer: escape(&certificate.issuer().to_string()),
        names,
        names_total,
        not_before: timestamp(certificate.validity().not_before.timestamp()),
        not_after: timestamp(certificate.validity().not_after.timestamp()),
        chain_length,
        version: None,
        alpn: None,
        verified,
    })
}

/// Whether the leaf names itself as its issuer.
pub(crate) fn is_self_issued(leaf: &[u8]) -> bool {
    X509Certificate::from_der(leaf)
        .is_ok_and(|(_, certificate)| certificate.issuer().as_raw() == certificate.subject().as_raw())
}

/// Start and end of the leaf's validity, in seconds of Unix time.
pub(crate) fn validity(leaf: &[u8]) -> Option<(i64, i64)> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    let validity = certificate.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

/// `a.test, b.test, c.test and 9,997 more`.
pub(crate) fn names_text(identity: &Identity) -> String {
    if identity.names.is_empty() {
        return "no name at all".to_owned();
    }
    let shown = identity.names.iter().take(NAMES_SHOWN).cloned().collect::<Vec<_>>();
    let hidden = identity.names_total.saturating_sub(shown.len());
    let shown = shown.join(", ");
    if hidden == 0 { shown } else { format!("{shown} and {hidden} more") }
}

/// DNS names and addresses of the subject; the common name names nobody (RFC 9525, 2).
fn names(certificate: &X509Certificate<'_>) -> (Vec<String>, usize) {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else {
        return (Vec::new(), 0);
    };
    let mut kept = Vec::new();
    let mut total = 0;
    for name in &extension.value.general_names {
        let Some(text) = name_text(name, kept.len() < NAMES_MAX) else {
            continue;
        };
        total += 1;
        kept.extend(text);
    }
    (kept, total)
}

/// None for a name of another kind; `Some(None)` for one that counts but is not kept.
fn name_text(name: &GeneralName<'_>, keep: bool) -> Option<Option<String>> {
    match name {
        GeneralName::DNSName(name) => Some(keep.then(|| escape(name))),
        GeneralName::IPAddress(octets) => Some(keep.then(|| address_text(octets))),
        _ => None,
    }
}

fn address_text(octets: &[u8]) -> String {
    if let Ok(octets) = <[u8; 4]>::try_from(octets) {
        return IpAddr::from(octets).to_string();
    }
    match <[u8; 16]>::try_from(octets) {
        Ok(octets) => IpAddr::from(octets).to_string(),
        Err(_) => escape_bytes(octets),
    }
}

fn timestamp(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn facts_of_a_certificate() {
        let mut params = CertificateParams::new([
            "api.peer.test".to_owned(),
            "*.peer.test".to_owned(),
            "192.0.2.1".to_owned(),
            "2001:db8::1".to_owned(),
        ])
        .unwrap();
        params.distinguished_name.push(DnType::CommonName, "evil\u{1b}[2J");
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let identity = identity(der.der(), 3, false).unwrap();
        assert_eq!(identity.names, ["api.peer.test", "*.peer.test", "192.0.2.1", "2001:db8::1"]);
        assert_eq!(identity.names_total, 4);
        assert_eq!(identity.not_before.to_string(), "2020-01-01T00:00:00Z");
        assert_eq!(identity.not_after.to_string(), "2021-01-01T00:00:00Z");
        assert_eq!(identity.chain_length, 3);
        assert_eq!(identity.key_sha256.len(), 64);
        assert_ne!(identity.key_sha256, identity.certificate_sha256);
        assert!(!identity.issuer.contains('\u{1b}'), "{}", identity.issuer);
        assert!(is_self_issued(der.der()));
        assert_eq!(names_text(&identity), "api.peer.test, *.peer.test, 192.0.2.1 and 1 more");
    }

    #[test]
    fn names_beyond_the_bound_are_counted_and_not_kept() {
        let names = (0..10_000).map(|index| format!("{index}.t")).collect::<Vec<_>>();
        let params = CertificateParams::new(names).unwrap();
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let identity = identity(der.der(), 1, true).unwrap();
        assert_eq!((identity.names.len(), identity.names_total), (NAMES_MAX, 10_000));
    }

    #[test]
    fn rubbish_is_no_identity() {
        assert!(identity(b"\x30\x82", 1, false).is_none());
        assert!(!is_self_issued(b""));
    }
}
