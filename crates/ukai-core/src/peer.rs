//! Third-party services: their names, their endpoints, and how far we may go for them.
//!
//! This is the core's view of the configuration. It holds no secret: the shell keeps those.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The ladder of trust. A team climbs it as it comes to trust what it sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Diagnoses and says what it would do. May write nothing.
    #[default]
    Observe,
    /// Prints the exact change and its inverse, for a person to run.
    Propose,
    /// Applies what a person approved.
    Approve,
    /// Applies by policy, and only for a diagnosis marked proven.
    Auto,
}

impl Level {
    pub fn name(self) -> &'static str {
        match self {
            Level::Observe => "observe",
            Level::Propose => "propose",
            Level::Approve => "approve",
            Level::Auto => "auto",
        }
    }
}

/// How an override finds its addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Re-read the authoritative servers, prove again, serve what proves itself.
    #[default]
    Follow,
    /// Fixed addresses that a person gave or confirmed.
    Pin,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Follow => "follow",
            Mode::Pin => "pin",
        }
    }
}

/// One peer, as the core knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    pub name: String,
    /// Lower-case A-labels, no trailing dot.
    pub host: String,
    /// Endpoints of this host, as they are shown: without user information and query.
    pub endpoints: Vec<String>,
    pub interval: Duration,
    pub level: Level,
    /// How many different persons must approve: 1 or 2.
    pub approvals: u8,
    pub lease: Duration,
    pub mode: Mode,
    /// Addresses that an operator gave for a pin.
    pub pin: Vec<IpAddr>,
    /// Networks that the operator lists as the peer's own, for identity continuity.
    pub networks: Vec<IpNet>,
    /// Every endpoint is reached over verified TLS: without it there is no identity to be continuous.
    pub verified_tls: bool,
    /// Calls need a secret that a candidate must not be given.
    pub needs_secret: bool,
    /// It gets the metric alarms that nobody has to write.
    pub default_alarms: bool,
}

/// Somebody who is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscriber {
    pub name: String,
    /// The peers that it hears of. Empty: all.
    pub peers: BTreeSet<String>,
    /// ARNs of alarm actions that it listens to.
    pub topics: BTreeSet<String>,
}

/// What the core is told of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub peers: BTreeMap<String, Peer>,
    /// URLs of the controls.
    pub controls: Vec<String>,
    /// Non-global networks that may be contacted and served.
    pub allow_addresses: Vec<IpNet>,
    /// There is a zone provider, so that an override has somewhere to take effect.
    pub serves_dns: bool,
    /// A zone of somebody else's, as people are told of it: it does not end overrides by itself, as the embedded server does.
    #[serde(default)]
    pub zone: Option<String>,
    /// Overrides stand in a policy zone or as local data, and so hide every other type of a name: in a zone of somebody else's, or
    /// at those who follow the embedded server's.
    #[serde(default)]
    pub hides_types: bool,
    pub subscribers: Vec<Subscriber>,
    /// The application reports its own calls, so that *confirmed* can be reached.
    pub application_reports: bool,
    /// Where this ukai looks from: the dimension `Vantage` of its metrics.
    pub vantage: String,
    /// Region and account in ARNs and alarm messages.
    pub region: String,
    pub account_id: String,
}
