//! A private certificate authority of the tests.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

pub const HOST: &str = "api.peer.test";

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A leaf and its key.
pub struct Leaf {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: KeyPair,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    pub fn pem(&self) -> Vec<u8> {
        self.issuer.pem().into_bytes()
    }

    pub fn leaf(&self, name: &str) -> Leaf {
        self.leaf_with(vec![name.to_owned()], |_| {})
    }

    pub fn leaf_with(&self, names: Vec<String>, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "leaf");
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf { chain: vec![certificate.der().clone()], key }
    }

    pub fn client_leaf(&self) -> Leaf {
        self.leaf_with(vec!["client.test".to_owned()], |params| {
            params.insert_extended_key_usage(ExtendedKeyUsagePurpose::ClientAuth);
        })
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        roots
    }
}

impl Leaf {
    /// A certificate that signed itself, as `openssl req -x509` makes them when it also says that it is a CA.
    pub fn self_signed(name: &str, says_it_is_a_ca: bool) -> Self {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        if says_it_is_a_ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        }
        let key = KeyPair::generate().unwrap();
        Self { chain: vec![params.self_signed(&key).unwrap().der().clone()], key }
    }

    pub fn chain_pem(&self) -> String {
        use std::fmt::Write;
        self.chain.iter().fold(String::new(), |mut pem, certificate| {
            let text = base64(certificate);
            let _ = write!(pem, "-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
            pem
        })
    }

    pub fn config(&self, protocols: &[&str]) -> ServerConfig {
        self.config_of(rustls::ALL_VERSIONS, protocols)
    }

    pub fn config_of(&self, versions: &[&'static SupportedProtocolVersion], protocols: &[&str]) -> ServerConfig {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain.clone(), der(&self.key))
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    /// A server that demands a certificate of `clients`.
    pub fn config_for_clients(
        &self,
        clients: &Authority,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ServerConfig {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(clients.roots()), provider());
        ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(self.chain.clone(), der(&self.key))
            .unwrap()
    }

    pub fn certified(&self) -> Arc<CertifiedKey> {
        let key = provider().key_provider.load_private_key(der(&self.key)).unwrap();
        Arc::new(CertifiedKey::new(self.chain.clone(), key))
    }

    /// A server that shows this certificate and holds another key.
    pub fn config_with_key_of(&self, other: &Leaf) -> ServerConfig {
        let key = provider().key_provider.load_private_key(der(&other.key)).unwrap();
        let certified = CertifiedKey::new(self.chain.clone(), key);
        ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn der(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(key.serialize_der()).into()
}

/// RFC 4648, 4; in one line, which PEM readers accept.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte));
        let word = word << (8 * (3 - chunk.len()));
        for index in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * index) & 63) as usize] as char;
            out.push(if index <= chunk.len() { digit } else { '=' });
        }
    }
    out
}
