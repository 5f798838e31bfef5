//! The configuration: `ukai.toml` as it is written ([`v1`]), parsed into what the daemon runs by ([`Config`]).
//!
//! A file is taken whole or not at all. Everything that is wrong with it is told at once, each with its place in
//! the file and how to mend it; a key that is not known is an error, because a misspelt guard is no guard.
//! Secrets are read here, from the environment or from files, so that a reload meets a missing one before anything
//! is changed.

mod defaults;
mod duration;
mod expect;
mod keys;
mod metrics;
mod parse;
mod peer;
mod problem;
mod reader;
mod reference;
mod subscriber;
mod template;
#[cfg(test)]
mod tests;
pub mod v1;
mod vantage;
mod zone;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use rustls::pki_types::CertificateDer;
use ukai_core::peer::{Level, Mode};
use ukai_dns::Upstream;
use ukai_dns::server::Route;
use ukai_probe::{Endpoint, Expectation, Request, Timeouts};
use url::Url;

pub use defaults::{SOCKET_NAME, default_data_dir};
pub use problem::{ConfigError, Problem, nearest, suggestion};
pub use reference::reference;
pub use template::template;
pub use zone::{ServedZone, SigningKey, ZoneSettings};

use crate::metrics::inputs::Settings;
use crate::secret::Secret;

/// A thousand peers with everything written out are about this much.
const FILE_BYTES: u64 = 4 * 1024 * 1024;

/// A name, a team, an address of mail, a telephone number.
pub const CONTACT_CHARACTERS: usize = 200;

pub fn is_one_line(text: &str) -> bool {
    text.chars().count() <= CONTACT_CHARACTERS && !text.chars().any(char::is_control)
}

/// What the daemon runs by.
#[derive(Debug, Clone)]
pub struct Config {
    pub data_dir: PathBuf,
    /// Empty: the servers of `/etc/resolv.conf`.
    pub resolver: Vec<Upstream>,
    /// Empty: IANA's.
    pub root_hints: Vec<IpAddr>,
    pub authority_port: u16,
    /// Trusted besides the machine's own trust store.
    pub ca: Vec<CertificateDer<'static>>,
    pub allow_addresses: Vec<IpNet>,
    pub independent: Vec<Upstream>,
    /// Networks on whose behalf is asked too.
    pub ecs_subnets: Vec<IpNet>,
    pub time_server: Option<SocketAddr>,
    pub evidence_bound: Duration,
    /// None: no embedded server.
    pub dns: Option<Dns>,
    /// A zone of somebody else's, where overrides are written. Not together with `dns`.
    pub zone: Option<ZoneSettings>,
    pub socket: Socket,
    pub application: Option<Application>,
    pub metrics: Settings,
    /// Where this ukai looks from.
    pub vantage: String,
    /// Region and account in ARNs and alarm messages.
    pub region: String,
    pub account_id: String,
    pub report_dir: PathBuf,
    pub controls: Vec<Control>,
    pub other_vantages: Vec<OtherVantage>,
    pub vantage_service: Option<VantageService>,
    pub peers: Vec<Peer>,
    pub subscribers: Vec<Subscriber>,
    /// What is allowed, but should be known.
    pub warnings: Vec<Problem>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    pub listen: Vec<SocketAddr>,
    /// Empty: as [`Config::resolver`].
    pub upstream: Vec<Upstream>,
    /// Empty: loopback and private networks.
    pub allow_clients: Vec<IpNet>,
    /// Domains with resolvers of their own.
    pub forward: Vec<Route>,
    /// None: one for each core.
    pub threads: Option<u8>,
    pub cache_mib: Option<u32>,
    pub rate_limit: Option<u32>,
    pub version: Option<String>,
    pub policy_zone: Option<ServedZone>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Socket {
    pub path: PathBuf,
    pub group: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Application {
    pub listen: SocketAddr,
    pub token: Secret,
    /// What the application itself resolves with. None: the embedded server.
    pub resolver: Option<Upstream>,
}

#[derive(Debug, Clone)]
pub struct Control {
    pub endpoint: Endpoint,
    pub address: Option<IpAddr>,
    pub address_v6: Option<Ipv6Addr>,
}

/// Another ukai that is asked what it sees.
#[derive(Debug, Clone)]
pub struct OtherVantage {
    pub name: String,
    pub url: Url,
    pub token: Secret,
}

/// Where this ukai is asked what it sees.
#[derive(Debug, Clone)]
pub struct VantageService {
    pub listen: SocketAddr,
    pub token: Secret,
}

#[derive(Debug, Clone)]
pub struct Peer {
    pub name: String,
    /// Lower-case A-labels.
    pub host: String,
    /// All of this host.
    pub endpoints: Vec<Endpoint>,
    pub interval: Duration,
    pub level: Level,
    pub approvals: u8,
    pub lease: Duration,
    pub mode: Mode,
    /// The addresses of a pin.
    pub addresses: Vec<IpAddr>,
    pub networks: Vec<IpNet>,
    /// Empty: those that the delegation names.
    pub authority: Vec<SocketAddr>,
    pub expect: Expectation,
    /// None: as `expect`.
    pub unauthenticated: Option<Expectation>,
    /// Headers and client certificate, secrets among them.
    pub request: Request,
    pub resolve_timeout: Duration,
    pub timeouts: Timeouts,
    /// Trusted for this peer, besides [`Config::ca`].
    pub ca: Vec<CertificateDer<'static>>,
    pub default_alarms: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscriber {
    pub name: String,
    pub kind: SubscriberKind,
    /// Secret because it often holds a token.
    pub url: Secret,
    /// Empty: all peers.
    pub peers: BTreeSet<String>,
    /// ARNs of alarm actions that it listens to.
    pub topics: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubscriberKind {
    Webhook { secret: Option<Secret> },
    Slack,
}

impl Config {
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = read_bounded(path)?;
        Config::parse(&text, path)
    }

    /// `path` is for messages, and what relative paths in the file count from.
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        parse::parse(text, path)
    }

    /// No configuration at all: watch these URLs, say what is wrong, change nothing.
    pub fn from_urls<S: AsRef<str>>(urls: &[S]) -> Result<Config, ConfigError> {
        parse::from_urls(urls)
    }

    /// The core's view. It holds no secret.
    pub fn settings(&self) -> ukai_core::peer::Settings {
        ukai_core::peer::Settings {
            peers: self.peers.iter().map(|peer| (peer.name.clone(), peer.settings())).collect(),
            controls: self.controls.iter().map(|control| control.endpoint.to_string()).collect(),
            allow_addresses: self.allow_addresses.clone(),
            serves_dns: self.dns.is_some() || self.zone.is_some(),
            zone: self.zone.as_ref().map(ToString::to_string),
            hides_types: self.hides_types(),
            subscribers: self
                .subscribers
                .iter()
                .map(|subscriber| ukai_core::peer::Subscriber {
                    name: subscriber.name.clone(),
                    peers: subscriber.peers.clone(),
                    topics: subscriber.topics.clone(),
                })
                .collect(),
            application_reports: self.application.is_some(),
            vantage: self.vantage.clone(),
            region: self.region.clone(),
            account_id: self.account_id.clone(),
        }
    }

    /// An override hides every other type of its name from somebody.
    pub fn hides_types(&self) -> bool {
        self.zone.is_some() || self.dns.as_ref().is_some_and(|dns| dns.policy_zone.is_some())
    }

    pub fn peer(&self, name: &str) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.name == name)
    }

    /// Names and hosts of the peers, as the application's listener checks calls against.
    pub fn hosts(&self) -> BTreeMap<String, String> {
        self.peers.iter().map(|peer| (peer.name.clone(), peer.host.clone())).collect()
    }
}

impl Dns {
    /// Whether the embedded server is reached there.
    pub fn is_own(&self, address: SocketAddr) -> bool {
        let is_local = || {
            address.ip().is_loopback() || address.ip().is_unspecified() || UdpSocket::bind((address.ip(), 0)).is_ok()
        };
        self.listen.iter().any(|listen| {
            listen.port() == address.port()
                && (listen.ip() == address.ip() || listen.ip().is_unspecified() && is_local())
        })
    }
}

impl Peer {
    /// Every endpoint is reached over verified TLS.
    pub fn verified_tls(&self) -> bool {
        self.endpoints.iter().all(|endpoint| endpoint.kind().is_tls())
    }

    fn settings(&self) -> ukai_core::peer::Peer {
        ukai_core::peer::Peer {
            name: self.name.clone(),
            host: self.host.clone(),
            endpoints: self.endpoints.iter().map(Endpoint::to_string).collect(),
            interval: self.interval,
            level: self.level,
            approvals: self.approvals,
            lease: self.lease,
            pin: self.addresses.clone(),
            mode: self.mode,
            networks: self.networks.clone(),
            verified_tls: self.verified_tls(),
            needs_secret: self.request.has_secrets(),
            default_alarms: self.default_alarms,
        }
    }
}

/// The JSON Schema of `ukai.toml`.
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(v1::File).to_value()
}

fn read_bounded(path: &Path) -> Result<String, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.into(), source };
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > FILE_BYTES {
        return Err(ConfigError::TooLarge { path: path.into(), limit: FILE_BYTES });
    }
    Ok(text)
}
