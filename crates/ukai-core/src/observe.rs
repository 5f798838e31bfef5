//! What was seen: the outcome of one probe, stage by stage and address by address.
//!
//! A failed probe is an observation, not an error. The first stage that fails names the layer.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The stages of a probe, named and ordered as blackbox_exporter has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Resolve,
    Connect,
    Tls,
    Processing,
    Transfer,
}

impl Stage {
    pub fn name(self) -> &'static str {
        match self {
            Stage::Resolve => "resolve",
            Stage::Connect => "connect",
            Stage::Tls => "tls",
            Stage::Processing => "processing",
            Stage::Transfer => "transfer",
        }
    }
}

/// Why a stage failed. Together with [`Stage`] it says more than "failed".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// The name does not exist (RFC 2308).
    Nxdomain,
    /// The name exists, but has no address (RFC 2308).
    Nodata,
    Servfail,
    /// The name server answered REFUSED, or the host refused the connection.
    Refused,
    Timeout,
    Unreachable,
    Reset,
    /// An answer that is not the protocol that was asked for.
    Protocol,
    TlsAlert,
    UntrustedIssuer,
    SelfSigned,
    NameMismatch,
    Expired,
    NotYetValid,
    TlsVersion,
    /// The certificate expires within the days that the endpoint asks for.
    ExpiresSoon,
    HttpStatus,
    HeaderMismatch,
    BodyMismatch,
    /// The page of a registrar or a parking service, whatever its status (S12).
    Parked,
    TooSlow,
    /// The body ended before it was whole.
    CutOff,
    /// More header or body than is read of one answer.
    TooLarge,
    /// The application's own calls fail, while our probe of the same endpoint is whole.
    Application,
    /// An alarm on a metric; no probe names the layer.
    MetricAlarm,
    /// Verified, and yet nobody who was the peer before.
    IdentityChanged,
    /// The address is outside what may be contacted: recorded, not contacted.
    NotAllowed,
    /// A fault of this machine (no sockets left, no memory), never of the peer.
    Local,
}

impl ErrorClass {
    pub fn name(self) -> &'static str {
        match self {
            ErrorClass::Nxdomain => "nxdomain",
            ErrorClass::Nodata => "nodata",
            ErrorClass::Servfail => "servfail",
            ErrorClass::Refused => "refused",
            ErrorClass::Timeout => "timeout",
            ErrorClass::Unreachable => "unreachable",
            ErrorClass::Reset => "reset",
            ErrorClass::Protocol => "protocol",
            ErrorClass::TlsAlert => "tls_alert",
            ErrorClass::UntrustedIssuer => "untrusted_issuer",
            ErrorClass::SelfSigned => "self_signed",
            ErrorClass::NameMismatch => "name_mismatch",
            ErrorClass::Expired => "expired",
            ErrorClass::NotYetValid => "not_yet_valid",
            ErrorClass::TlsVersion => "tls_version",
            ErrorClass::ExpiresSoon => "expires_soon",
            ErrorClass::HttpStatus => "http_status",
            ErrorClass::HeaderMismatch => "header_mismatch",
            ErrorClass::BodyMismatch => "body_mismatch",
            ErrorClass::Parked => "parked",
            ErrorClass::TooSlow => "too_slow",
            ErrorClass::CutOff => "cut_off",
            ErrorClass::TooLarge => "too_large",
            ErrorClass::Application => "application",
            ErrorClass::MetricAlarm => "metric_alarm",
            ErrorClass::IdentityChanged => "identity_changed",
            ErrorClass::NotAllowed => "not_allowed",
            ErrorClass::Local => "local",
        }
    }

    /// Whether the far side showed an identity that is not the peer's.
    pub fn is_foreign_identity(self) -> bool {
        matches!(self, ErrorClass::UntrustedIssuer | ErrorClass::SelfSigned | ErrorClass::NameMismatch)
    }
}

/// One stage's failure, with a plain sentence for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub stage: Stage,
    pub class: ErrorClass,
    pub detail: String,
}

/// Time spent in each stage that was reached, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolve_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processing_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer_us: Option<u64>,
}

impl Timings {
    pub fn total_us(&self) -> u64 {
        [self.resolve_us, self.connect_us, self.tls_us, self.processing_us, self.transfer_us]
            .into_iter()
            .flatten()
            .sum()
    }
}

/// Who answered the handshake. Recorded also when verification failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// SHA-256 of the leaf's SubjectPublicKeyInfo (DER), in hex.
    pub key_sha256: String,
    /// SHA-256 of the leaf certificate (DER), in hex.
    pub certificate_sha256: String,
    /// Issuer's distinguished name, as `CN=…, O=…`.
    pub issuer: String,
    /// DNS names and addresses of the leaf, at most 100; `names_total` says how many there are.
    pub names: Vec<String>,
    pub names_total: usize,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub chain_length: usize,
    /// `TLSv1.3`, `TLSv1.2`; absent where the handshake did not finish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpn: Option<String>,
    /// Chain, name and dates were verified against our trust store.
    pub verified: bool,
}

/// What an HTTP answer said of itself. No header that could hold a secret is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpFacts {
    pub status: u16,
    pub version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The `Date` header: a second clock (RFC 9110, 6.6.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
    /// The `Via`, or another sign that a proxy stands between (RFC 9110, 7.6.3).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    pub body_bytes: u64,
    /// SHA-256 of the body that was read, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_sha256: Option<String>,
}

/// One address of one endpoint, probed on its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressResult {
    pub address: IpAddr,
    pub port: u16,
    pub timings: Timings,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpFacts>,
    /// Bytes that had come from the far side when a stage timed out: a peer that is silent has sent none, and one whose
    /// large packets are lost has sent some (S31).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalled_after: Option<u64>,
    /// None: every stage met what the endpoint expects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

impl AddressResult {
    /// Nothing tried yet, and nothing failed.
    pub fn untried(address: IpAddr, port: u16) -> AddressResult {
        AddressResult {
            address,
            port,
            timings: Timings::default(),
            identity: None,
            http: None,
            stalled_after: None,
            failure: None,
        }
    }

    pub fn is_success(&self) -> bool {
        self.failure.is_none()
    }
}

/// What the name resolved to, and who said so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    /// The resolver that answered, as an upstream URI (`udp://127.0.0.53:53`); `operator` where the address was given.
    pub resolver: String,
    pub addresses: Vec<IpAddr>,
    /// How many addresses the answer held before the bound on how many are probed.
    pub addresses_total: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    /// Names of the CNAME chain, the queried name left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<String>,
    /// Extended DNS errors (RFC 8914) as `code text`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extended_errors: Vec<String>,
    pub elapsed_us: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
}

/// Which way a probe took to its addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    /// As the application goes: through the resolver it uses, an override included.
    Normal,
    /// The same, but past our own override: what the application would meet without it.
    Bypass,
    /// Addresses that were chosen: candidates, `--address`.
    Chosen,
}

/// One probe of one endpoint: resolve once, then every address on its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    pub peer: String,
    /// The endpoint as configured, without user information and query.
    pub endpoint: String,
    pub path: Path,
    pub started_at: Timestamp,
    pub resolution: Resolution,
    pub results: Vec<AddressResult>,
}

impl Observation {
    /// The first failure in stage order, preferring what the most addresses share: the layer that broke.
    pub fn failure(&self) -> Option<&Failure> {
        if let Some(failure) = &self.resolution.failure {
            return Some(failure);
        }
        self.results.iter().filter_map(|result| result.failure.as_ref()).min_by_key(|failure| failure.stage)
    }

    /// An application that tries one address of the answer can fail if any address fails; it surely fails if all do.
    pub fn all_failed(&self) -> bool {
        self.resolution.failure.is_some() || self.results.iter().all(|result| !result.is_success())
    }

    /// Where no address was tried, nothing was seen to work.
    pub fn any_failed(&self) -> bool {
        self.resolution.failure.is_some()
            || self.results.is_empty()
            || self.results.iter().any(|result| !result.is_success())
    }
}
