//! What was asked of whom, and what it answered. A stored evidence record replays to the same verdict.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::observe::{AddressResult, Observation, Stage};

/// Whose answer it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The resolver that the application's network uses, our own override left out.
    OurResolver,
    /// A name server of the peer's zone.
    Authority,
    /// A resolver that shares nothing with ours.
    Independent,
    /// The embedded server, an override included.
    Embedded,
}

/// The RCODE of an answer (RFC 1035, 4.1.1), as far as a diagnosis tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Rcode {
    Noerror,
    Formerr,
    Servfail,
    Nxdomain,
    Notimp,
    Refused,
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Soa {
    pub serial: u32,
    /// The negative TTL: the smaller of the record's TTL and its MINIMUM (RFC 2308, 5).
    pub negative_ttl: u32,
}

/// An answer that came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub rcode: Rcode,
    pub authoritative: bool,
    pub recursion_available: bool,
    pub authentic_data: bool,
    pub truncated: bool,
    /// Addresses at the end of the CNAME chain.
    pub addresses: Vec<IpAddr>,
    /// Records of the type that was asked for, whatever it is.
    #[serde(default)]
    pub records: usize,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<String>,
    /// The smallest TTL of the records that lead to the addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soa: Option<Soa>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extended_errors: Vec<ExtendedError>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nsid: Option<String>,
    pub elapsed_us: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtendedError {
    pub code: u16,
    pub text: String,
}

/// Why no answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Silence {
    Timeout,
    Refused,
    Unreachable,
    /// The connection was made, and ended before an answer was whole.
    Cut,
    Tls,
    Http,
    Malformed,
    /// It answers with aliases that come back to themselves, or are too many: nothing is said of the name.
    Endless,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Answered(Answer),
    Silent { why: Silence, detail: String },
}

/// One question to one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub source: Source,
    /// Who was asked, for a person: `ns-1.peer.test (192.0.2.1)`, `tls://9.9.9.9:853`.
    pub server: String,
    /// The server's name where it is an authority, its URI otherwise: what counts as one server.
    pub identity: String,
    /// `udp`, `tcp`, `tls`, `https`.
    pub transport: String,
    /// `A`, `AAAA`, `HTTPS`, `SOA`.
    pub record_type: String,
    pub checking_disabled: bool,
    /// The client subnet that the question carried (RFC 7871).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<IpNet>,
    pub at: Timestamp,
    pub outcome: Outcome,
    /// The message as it came, in base64, where it has at most `WIRE_MAX` bytes: also one that could not be read, or the first
    /// that does not answer the question. Where a chain of aliases was followed, it is what this server itself said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wire: Option<String>,
}

/// A whole answer over UDP; what is larger is evidence by its parts.
pub const WIRE_MAX: usize = 4096;

impl Asked {
    pub fn answer(&self) -> Option<&Answer> {
        match &self.outcome {
            Outcome::Answered(answer) => Some(answer),
            Outcome::Silent { .. } => None,
        }
    }

    /// A question for addresses, as a client here asks it: one with a client subnet of elsewhere is another matter.
    pub fn is_address_question(&self) -> bool {
        self.asks_for_addresses() && self.subnet.is_none()
    }

    pub fn asks_for_addresses(&self) -> bool {
        self.record_type == "A" || self.record_type == "AAAA"
    }
}

/// The way from the root to the servers of the name's zone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegation {
    pub zone: String,
    pub parent_ns: BTreeSet<String>,
    pub child_ns: BTreeSet<String>,
    /// Addresses of the delegated servers that were asked, as text `name (address)`.
    pub servers: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_rcode: Option<Rcode>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// An answer for a name that cannot exist, asked of an authority: port 53 is or is not what it seems (S39).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Canary {
    Clean,
    Intercepted(String),
    NoAnswer,
}

/// An address that might serve the endpoint, where it was learned, and its proofs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    pub address: IpAddr,
    pub learned_from: BTreeSet<Source>,
    /// An operator named it (a pin); then `learned_from` may be empty.
    pub by_operator: bool,
    /// k proofs of each endpoint of the host, in order, each an unauthenticated probe of this one address.
    pub proofs: Vec<Proof>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    pub endpoint: String,
    pub result: AddressResult,
}

impl Candidate {
    /// Every endpoint was proved `times` times and none of the proofs failed.
    pub fn is_proved(&self, endpoints: &[String], times: usize) -> bool {
        !endpoints.is_empty()
            && self.proofs.iter().all(|proof| proof.result.is_success())
            && endpoints
                .iter()
                .all(|endpoint| self.proofs.iter().filter(|proof| &proof.endpoint == endpoint).count() >= times)
    }

    pub fn first_failure(&self) -> Option<&crate::observe::Failure> {
        self.failures().next()
    }

    /// A connection to it was made, whatever became of it then.
    pub fn is_reached(&self) -> bool {
        let connected = |failure: &crate::observe::Failure| failure.stage > crate::observe::Stage::Connect;
        self.proofs.iter().any(|proof| proof.result.failure.as_ref().is_none_or(connected))
    }

    pub fn failures(&self) -> impl Iterator<Item = &crate::observe::Failure> {
        self.proofs.iter().filter_map(|proof| proof.result.failure.as_ref())
    }
}

/// An unrelated name and address, probed to tell our own fault from the peer's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ControlResult {
    /// The control's URL.
    pub control: String,
    /// What our resolver said of the control's name: None passed, a sentence otherwise.
    pub name_failure: Option<String>,
    /// An address of it was known, so that it could be tried. One that was not tried says nothing of our way out.
    pub address_tried: bool,
    /// What became of a connection to that address: None passed or not tried, a sentence otherwise.
    pub address_failure: Option<String>,
    /// Issuer of the certificate it showed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The stage that the connection to that address failed in. Past *connect*, something was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Stage>,
    /// What became of a connection over IPv6, for a control that is known to have such an address. None: not tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v6: Option<Reached>,
    /// The handshake failed on dates.
    pub dates_failure: bool,
    /// Its `Date` header minus our clock, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_offset_s: Option<i64>,
    /// The TLS handshake verified.
    pub tls_verified: bool,
}

impl Evidence {
    /// Nothing asked yet.
    pub fn about(peer: &str, host: &str, purpose: Purpose, at: Timestamp) -> Evidence {
        Evidence {
            peer: peer.to_owned(),
            host: host.to_owned(),
            purpose,
            started_at: at,
            finished_at: at,
            endpoints: Vec::new(),
            asked: Vec::new(),
            delegation: None,
            canary: Canary::NoAnswer,
            candidates: Vec::new(),
            controls: Vec::new(),
            observations: Vec::new(),
            vantages: Vec::new(),
            reuse: Vec::new(),
            default_sites: Vec::new(),
            connections: Vec::new(),
            own: OwnNetwork::default(),
        }
    }
}

impl ControlResult {
    /// Nothing tried yet.
    pub fn of(control: String) -> ControlResult {
        ControlResult {
            control,
            name_failure: None,
            address_tried: false,
            address_failure: None,
            issuer: None,
            failed_at: None,
            v6: None,
            dates_failure: false,
            clock_offset_s: None,
            tls_verified: false,
        }
    }

    /// A connection was made, whatever became of it then: something lets us out.
    pub fn is_connected(&self) -> bool {
        let beyond = self.failed_at.is_some_and(|stage| stage > Stage::Connect);
        self.address_tried && (self.address_failure.is_none() || beyond)
    }

    pub fn passed_by_address(&self) -> bool {
        self.address_tried && self.address_failure.is_none()
    }

    pub fn passed(&self) -> bool {
        self.name_failure.is_none() && self.passed_by_address()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reached {
    Yes,
    No(String),
}

/// The peer from another network, as another ukai saw it when it was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VantageView {
    /// Its name, as it is configured here.
    pub vantage: String,
    /// Why nothing came from it. None: it answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silence: Option<String>,
    /// What its own resolver leads to.
    pub resolved: BTreeSet<IpAddr>,
    /// One probe of each address and endpoint, without secrets: of what it resolved, and of what it was asked about.
    pub results: Vec<Proof>,
}

/// A second request on a connection that the first one had left open (S35).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reuse {
    pub endpoint: String,
    pub address: IpAddr,
    pub first: Reached,
    /// None: the far side closed in order after the first, as HTTP allows.
    pub second: Option<Reached>,
}

/// What an address shows to a client that sends no server name: the certificate of its default site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultSite {
    pub address: IpAddr,
    pub certificate_sha256: String,
    pub names: Vec<String>,
    /// It names the watched host.
    pub is_for_host: bool,
}

/// A connection of this machine to an address that the peer has or had, as the system lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveConnection {
    pub address: IpAddr,
    pub established: usize,
    /// A SYN that nobody has answered yet.
    pub waiting: usize,
}

/// How this machine itself resolves and leaves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnNetwork {
    /// `nameserver` lines of resolv.conf.
    pub name_servers: Vec<String>,
    pub search: Vec<String>,
    /// Dots from which on a name is asked for as it is, before the search domains are tried (resolv.conf(5)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ndots: Option<u8>,
    /// The `hosts` line of nsswitch.conf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nsswitch: Option<String>,
    /// What the hosts file says of the watched name: it wins over any DNS.
    pub hosts_file: BTreeSet<IpAddr>,
    pub ipv4_route: bool,
    pub ipv6_route: bool,
    /// A time server's clock minus ours, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_server_offset_ms: Option<i64>,
}

/// A call that the application itself reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationCall {
    pub at: Timestamp,
    pub ok: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Why evidence was gathered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// In peace: what normal looks like.
    Baseline,
    /// To name the cause.
    Diagnose,
    /// To run every guard again right before a change.
    Apply,
    /// To watch what a standing override serves.
    Standing,
}

/// All that one gathering found, bounded in time and size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    pub peer: String,
    pub host: String,
    pub purpose: Purpose,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
    /// The endpoints of the host that each candidate must prove.
    pub endpoints: Vec<String>,
    pub asked: Vec<Asked>,
    pub delegation: Option<Delegation>,
    pub canary: Canary,
    pub candidates: Vec<Candidate>,
    pub controls: Vec<ControlResult>,
    /// A probe of each endpoint by the normal path, past our override, made during the gathering.
    pub observations: Vec<Observation>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vantages: Vec<VantageView>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reuse: Vec<Reuse>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub default_sites: Vec<DefaultSite>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connections: Vec<LiveConnection>,
    #[serde(default)]
    pub own: OwnNetwork,
}
