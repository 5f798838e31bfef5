//! The conclusion: a named cause, the reasons, how sure, and what to do.

use serde::{Deserialize, Serialize};

/// The catalogue's diagnosis codes that this version can conclude.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    ClockSkew,
    OwnEgress,
    OwnResolver,
    Intercepted,
    DnsIntercepted,
    Rebinding,
    Parked,
    SuspectHijack,
    IdentityDiscontinuity,
    DnssecBogus,
    DelegationRemoved,
    PeerDnsEmpty,
    LameDelegation,
    NegativeCache,
    StaleResolverTransient,
    TtlViolation,
    StaleResolver,
    Rotating,
    GeoSteered,
    PeerCert,
    TlsPolicy,
    PartialAddress,
    V6Path,
    OwnV6,
    PathOrPop,
    OwnFirewall,
    Mtu,
    ConnReuse,
    PeerRegion,
    DanglingCname,
    OverrideBlast,
    ProbeError,
    RateLimited,
    Auth,
    BlockedUs,
    PeerHttp,
    PeerDown,
    OverrideStale,
    ClientPinned,
    /// No rule explains everything that was seen.
    Open,
}

impl Code {
    pub fn name(self) -> &'static str {
        match self {
            Code::ClockSkew => "clock_skew",
            Code::OwnEgress => "own_egress",
            Code::OwnResolver => "own_resolver",
            Code::Intercepted => "intercepted",
            Code::DnsIntercepted => "dns_intercepted",
            Code::Rebinding => "rebinding",
            Code::Parked => "parked",
            Code::SuspectHijack => "suspect_hijack",
            Code::IdentityDiscontinuity => "identity_discontinuity",
            Code::DnssecBogus => "dnssec_bogus",
            Code::DelegationRemoved => "delegation_removed",
            Code::PeerDnsEmpty => "peer_dns_empty",
            Code::LameDelegation => "lame_delegation",
            Code::NegativeCache => "negative_cache",
            Code::StaleResolverTransient => "stale_resolver_transient",
            Code::TtlViolation => "ttl_violation",
            Code::StaleResolver => "stale_resolver",
            Code::Rotating => "rotating",
            Code::GeoSteered => "geo_steered",
            Code::PeerCert => "peer_cert",
            Code::TlsPolicy => "tls_policy",
            Code::PartialAddress => "partial_address",
            Code::V6Path => "v6_path",
            Code::OwnV6 => "own_v6",
            Code::PathOrPop => "path_or_pop",
            Code::OwnFirewall => "own_firewall",
            Code::Mtu => "mtu",
            Code::ConnReuse => "conn_reuse",
            Code::PeerRegion => "peer_region",
            Code::DanglingCname => "dangling_cname",
            Code::OverrideBlast => "override_blast",
            Code::ProbeError => "probe_error",
            Code::RateLimited => "rate_limited",
            Code::Auth => "auth",
            Code::BlockedUs => "blocked_us",
            Code::PeerHttp => "peer_http",
            Code::PeerDown => "peer_down",
            Code::OverrideStale => "override_stale",
            Code::ClientPinned => "client_pinned",
            Code::Open => "open",
        }
    }
}

/// How sure a verdict is. Missing evidence caps it at *likely*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sure {
    Open,
    Likely,
    Proven,
}

impl Sure {
    pub fn name(self) -> &'static str {
        match self {
            Sure::Open => "open",
            Sure::Likely => "likely",
            Sure::Proven => "proven",
        }
    }
}

/// What the verdict means for DNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// An override is right, if every guard agrees.
    Override,
    /// No DNS action helps.
    None,
    /// An override was considered and must not be made.
    Refuse,
    /// The standing override is what is wrong.
    Revert,
    /// A person must decide, and is shown why.
    Escalate,
}

impl Action {
    pub fn name(self) -> &'static str {
        match self {
            Action::Override => "override",
            Action::None => "none",
            Action::Refuse => "refuse",
            Action::Revert => "revert",
            Action::Escalate => "escalate",
        }
    }
}

/// Whose fault it is, as far as the evidence says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    Peer,
    OurNetwork,
    OurResolver,
    OurApplication,
    Attacker,
    Unknown,
}

/// One configuration change that was considered; waiting is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// `wait`, `flush_cache`, `switch_resolver`, `forward`, `override`, `recycle_clients`, `ask_peer`, `fix_own_network`, `fix_clock`, `revert`.
    pub name: String,
    pub judgement: Judgement,
    /// One sentence that a tired person understands.
    pub reason: String,
    pub effect: String,
    pub risk: String,
    pub time_to_effect: String,
    pub reversible: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    Recommended,
    Possible,
    Useless,
    Refused,
}

/// A named cause with its reasons. It can be derived again from its evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    pub code: Code,
    pub sure: Sure,
    pub action: Action,
    pub party: Party,
    /// The cause in one sentence.
    pub summary: String,
    pub evidence_for: Vec<String>,
    pub evidence_against: Vec<String>,
    /// Earlier causes in the order of elimination, and what excluded each.
    pub eliminated: Vec<String>,
    /// What would have to be seen for another verdict, or for a surer one.
    pub would_change: Vec<String>,
    pub options: Vec<Choice>,
    /// Whether somebody must act now, whatever the hour.
    pub page: bool,
}
