//! The certificate zoo: four authorities that the drill trusts, and every way in which a certificate can be wrong.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sha2::{Digest, Sha256};

/// What signed the peer's certificate all along.
const PEER_ISSUER: &str = "Lab Peer CA";
const OTHER_ISSUER: &str = "Lab Other CA";
const WEB_ISSUER: &str = "Lab Web CA";
const PROXY_ISSUER: &str = "Corporate Proxy CA";
const DAY: Duration = Duration::from_secs(86_400);
/// When the world's clock is shifted, certificates are as short-lived as the shift is meant to show: half an hour each
/// side of the world's idea of now.
const SHIFTED_HALF_LIFE: Duration = Duration::from_secs(1_800);

#[derive(Debug, thiserror::Error)]
pub enum ZooError {
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    #[error("cannot serve a certificate: {0}")]
    Serve(#[from] rustls::Error),
}

/// Who a server of the lab says it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Identity {
    Peer,
    WrongName,
    Expired,
    NotYetValid,
    SelfSigned,
    /// The same issuer, as a renewal has it.
    NewKey,
    /// Another issuer, and so a key that it was made for: what somebody else gets who holds the name for an hour.
    NewIssuer,
    /// What a shared host shows for names it does not know.
    Default,
    /// A domain parking company: a fresh, valid certificate for the name.
    Parked,
    /// A web site that is not the peer's.
    Web(String),
    /// The same as a proxy on our path re-signs it.
    Intercepted(String),
    /// An independent resolver over TLS.
    Resolver(String),
}

#[derive(Debug)]
pub struct Zoo {
    host: String,
    peer: Authority,
    other: Authority,
    web: Authority,
    proxy: Authority,
    /// Made in peace, and the same for as long as the drill lasts.
    peer_key: KeyPair,
    configs: Mutex<BTreeMap<(Identity, i64), Arc<ServerConfig>>>,
    keys: Mutex<BTreeMap<Identity, Arc<KeyPair>>>,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

impl Zoo {
    pub fn new(host: &str) -> Result<Self, ZooError> {
        Ok(Self {
            host: host.to_owned(),
            peer: authority(PEER_ISSUER)?,
            other: authority(OTHER_ISSUER)?,
            web: authority(WEB_ISSUER)?,
            proxy: authority(PROXY_ISSUER)?,
            peer_key: KeyPair::generate()?,
            configs: Mutex::default(),
            keys: Mutex::default(),
        })
    }

    /// The trusted authorities as one PEM file.
    pub fn bundle(&self) -> String {
        [&self.peer, &self.other, &self.web, &self.proxy].map(Authority::pem).concat()
    }

    /// SHA-256 over the peer's SubjectPublicKeyInfo, in hex.
    pub fn peer_key_sha256(&self) -> String {
        hex(&Sha256::digest(self.peer_key.subject_public_key_info()))
    }

    /// As RFC 4514 writes it.
    pub fn peer_issuer(&self) -> String {
        format!("CN={PEER_ISSUER}")
    }

    /// How a server with that identity talks TLS, in a world whose clock is `shift` seconds from ours.
    pub fn server_config(&self, identity: &Identity, shift: i64) -> Result<Arc<ServerConfig>, ZooError> {
        let wanted = (identity.clone(), shift);
        if let Some(config) = lock(&self.configs).get(&wanted) {
            return Ok(config.clone());
        }
        let config = Arc::new(self.make_config(identity, shift)?);
        lock(&self.configs).insert(wanted, config.clone());
        Ok(config)
    }

    fn make_config(&self, identity: &Identity, shift: i64) -> Result<ServerConfig, ZooError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificates = Certificates {
            name: self.name(identity).to_owned(),
            named: Arc::new(self.certify(identity, shift)?),
            default: Arc::new(self.certify(&Identity::Default, shift)?),
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(certificates));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), b"dot".to_vec()];
        Ok(config)
    }

    fn certify(&self, identity: &Identity, shift: i64) -> Result<CertifiedKey, ZooError> {
        let (not_before, not_after) = validity(identity, shift);
        let subject = match identity {
            Identity::WrongName => "other.example.test",
            Identity::Default => "default.hosting.test",
            named => self.name(named),
        };
        let mut params = CertificateParams::new(vec![subject.to_owned()])?;
        params.distinguished_name = common_name(subject);
        params.not_before = not_before.into();
        params.not_after = not_after.into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let kept;
        let key = match identity {
            Identity::Peer | Identity::Expired | Identity::NotYetValid => &self.peer_key,
            strange => {
                kept = self.key(strange)?;
                &*kept
            }
        };
        let certificate = match identity {
            Identity::SelfSigned => params.self_signed(key)?,
            Identity::NewIssuer => params.signed_by(key, &self.other)?,
            Identity::Web(_) | Identity::Default => params.signed_by(key, &self.web)?,
            Identity::Intercepted(_) => params.signed_by(key, &self.proxy)?,
            _ => params.signed_by(key, &self.peer)?,
        };
        certified_key(certificate.der().clone(), key)
    }

    /// A stranger's key is as constant as the peer's own: reissuing for another clock does not change it.
    fn key(&self, identity: &Identity) -> Result<Arc<KeyPair>, ZooError> {
        let mut keys = lock(&self.keys);
        if let Some(key) = keys.get(identity) {
            return Ok(key.clone());
        }
        let key = Arc::new(KeyPair::generate()?);
        keys.insert(identity.clone(), key.clone());
        Ok(key)
    }

    fn name<'s>(&'s self, identity: &'s Identity) -> &'s str {
        match identity {
            Identity::Web(name) | Identity::Intercepted(name) | Identity::Resolver(name) => name,
            _ => &self.host,
        }
    }
}

/// Shows the named certificate to clients that ask for the name, and the host's default one to all others.
#[derive(Debug)]
struct Certificates {
    name: String,
    named: Arc<CertifiedKey>,
    default: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().is_some_and(|name| name.eq_ignore_ascii_case(&self.name));
        Some(if named { self.named.clone() } else { self.default.clone() })
    }
}

fn authority(name: &str) -> Result<Authority, ZooError> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name = common_name(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = SystemTime::now();
    params.not_before = (now - 365 * DAY).into();
    params.not_after = (now + 3_650 * DAY).into();
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished_name = DistinguishedName::new();
    distinguished_name.push(DnType::CommonName, name);
    distinguished_name
}

fn validity(identity: &Identity, shift: i64) -> (SystemTime, SystemTime) {
    let now = SystemTime::now();
    let away = Duration::from_secs(shift.unsigned_abs());
    let world_now = if shift < 0 { now - away } else { now + away };
    match identity {
        Identity::Expired => (world_now - 40 * DAY, world_now - 10 * DAY),
        Identity::NotYetValid => (world_now + 10 * DAY, world_now + 70 * DAY),
        _ if shift != 0 => (world_now - SHIFTED_HALF_LIFE, world_now + SHIFTED_HALF_LIFE),
        _ => (now - 30 * DAY, now + 60 * DAY),
    }
}

fn certified_key(certificate: CertificateDer<'static>, key: &KeyPair) -> Result<CertifiedKey, ZooError> {
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok(CertifiedKey::new(vec![certificate], rustls::crypto::ring::sign::any_ecdsa_type(&private)?))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
