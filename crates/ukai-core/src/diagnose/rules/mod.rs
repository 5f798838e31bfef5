//! The rules, in the order of elimination. The first that explains everything ends the search.
//!
//! A rule says one of three things: it *explains* what was seen; it is *excluded*, and by what; or
//! it is *unknown*, because the evidence that would decide it is missing, and then nothing that
//! comes after it can be proven.

use super::reading::Reading;
use super::verdict::{Action, Code, Party, Sure};

mod addresses;
mod client;
mod elsewhere;
mod name;
mod own;
mod stale;

/// What a rule says of a case.
#[derive(Debug)]
pub enum Ruling {
    Explains(Box<Finding>),
    Excluded(String),
    Unknown(String),
    /// The rule has nothing to say here, for or against.
    Beside,
}

/// A cause that explains what was seen.
#[derive(Debug)]
pub struct Finding {
    pub sure: Sure,
    pub action: Action,
    pub party: Party,
    pub page: bool,
    pub summary: String,
    pub evidence_for: Vec<String>,
    pub evidence_against: Vec<String>,
    pub would_change: Vec<String>,
}

impl Finding {
    fn new(action: Action, party: Party, summary: impl Into<String>) -> Finding {
        Finding {
            sure: Sure::Proven,
            action,
            party,
            page: true,
            summary: summary.into(),
            evidence_for: Vec::new(),
            evidence_against: Vec::new(),
            would_change: Vec::new(),
        }
    }

    fn because(mut self, reason: impl Into<String>) -> Finding {
        self.evidence_for.push(reason.into());
        self
    }

    fn against(mut self, reason: impl Into<String>) -> Finding {
        self.evidence_against.push(reason.into());
        self
    }

    fn unless(mut self, change: impl Into<String>) -> Finding {
        self.would_change.push(change.into());
        self
    }

    fn likely(mut self) -> Finding {
        self.sure = Sure::Likely;
        self
    }

    fn likely_if(self, cap: bool) -> Finding {
        if cap { self.likely() } else { self }
    }

    fn told_without_a_page(mut self) -> Finding {
        self.page = false;
        self
    }

    fn explains(self) -> Ruling {
        Ruling::Explains(Box::new(self))
    }
}

/// One row of the table.
#[derive(Debug)]
pub struct Rule {
    pub code: Code,
    /// What it looks for, in a line.
    pub doc: &'static str,
    pub judge: fn(&Reading) -> Ruling,
}

/// The table, in the order of elimination: clock, own egress, own resolver, intercepting proxy, the
/// peer's name, each address, HTTP, the client process.
pub const RULES: &[Rule] = &[
    Rule {
        code: Code::ClockSkew,
        doc: "Certificates fail on their dates while the clocks of at least two others disagree with ours.",
        judge: own::clock_skew,
    },
    Rule {
        code: Code::OwnEgress,
        doc: "Not one control can be reached by its known address: nothing leaves our network.",
        judge: own::own_egress,
    },
    Rule {
        code: Code::OwnResolver,
        doc: "Our resolver fails for the controls' names too, while their addresses are reached.",
        judge: own::own_resolver,
    },
    Rule {
        code: Code::Intercepted,
        doc: "Every control shows an issuer that none of them had in peace: a proxy stands between.",
        judge: own::intercepted,
    },
    Rule {
        code: Code::DnsIntercepted,
        doc: "A canary for a name that cannot exist is answered: port 53 ends in a box on our path.",
        judge: own::dns_intercepted,
    },
    Rule {
        code: Code::OverrideStale,
        doc: "An override of ours stands, nothing that it serves proves itself, and the peer is elsewhere.",
        judge: client::override_stale,
    },
    Rule {
        code: Code::OverrideBlast,
        doc: "An override of ours stands, and the peer's other records are gone with it.",
        judge: client::override_blast,
    },
    Rule {
        code: Code::Rebinding,
        doc: "The name leads to an address that no public service may have.",
        judge: name::rebinding,
    },
    Rule {
        code: Code::Parked,
        doc: "The name leads to the page of a registrar or a parking service.",
        judge: name::parked,
    },
    Rule {
        code: Code::DanglingCname,
        doc: "The name is an alias, and its target does not exist or is somebody else's.",
        judge: name::dangling_cname,
    },
    Rule {
        code: Code::SuspectHijack,
        doc: "The name leads, at some server at least, to an address never seen, where somebody else answers TLS.",
        judge: name::suspect_hijack,
    },
    Rule {
        code: Code::ClientPinned,
        doc: "The normal path works, and the application fails on addresses that are no longer answered.",
        judge: client::client_pinned,
    },
    Rule {
        code: Code::ConnReuse,
        doc: "The application fails where fresh probes are whole, and a connection that is used twice is cut.",
        judge: client::conn_reuse,
    },
    Rule {
        code: Code::ProbeError,
        doc: "The application succeeds at the very addresses whose answer our probe does not like.",
        judge: client::probe_error,
    },
    Rule {
        code: Code::Rotating,
        doc: "The answers differ from question to question by design, and every address proves itself.",
        judge: name::rotating,
    },
    Rule {
        code: Code::GeoSteered,
        doc: "The answer depends on the client's subnet, and every address proves itself.",
        judge: name::geo_steered,
    },
    Rule {
        code: Code::DelegationRemoved,
        doc: "The parent zone no longer knows the name.",
        judge: name::delegation_removed,
    },
    Rule {
        code: Code::PeerDnsEmpty,
        doc: "The peer's own servers agree that the name has no address.",
        judge: name::peer_dns_empty,
    },
    Rule {
        code: Code::DnssecBogus,
        doc: "Our resolver answers only with validation switched off.",
        judge: name::dnssec_bogus,
    },
    Rule {
        code: Code::NegativeCache,
        doc: "Our resolver holds on to there being no address, or to a failure, for this name alone.",
        judge: name::negative_cache,
    },
    Rule {
        code: Code::IdentityDiscontinuity,
        doc: "The name leads to somebody whose identity is valid, but was never the peer's.",
        judge: stale::identity_discontinuity,
    },
    Rule {
        code: Code::LameDelegation,
        doc: "The authoritative servers contradict each other, and what they differ in fails.",
        judge: name::lame_delegation,
    },
    Rule {
        code: Code::TtlViolation,
        doc: "Our resolver gives an old answer, with a TTL that the peer never gave.",
        judge: stale::ttl_violation,
    },
    Rule {
        code: Code::StaleResolverTransient,
        doc: "Our resolver gives another answer than the authoritative servers, within its TTL.",
        judge: stale::stale_resolver_transient,
    },
    Rule {
        code: Code::StaleResolver,
        doc: "Our resolver gives an old answer past its TTL; what the authoritative servers give proves itself.",
        judge: stale::stale_resolver,
    },
    Rule {
        code: Code::PeerCert,
        doc: "Every address of the peer shows a certificate that is expired or for another name.",
        judge: addresses::peer_cert,
    },
    Rule {
        code: Code::OwnV6,
        doc: "The peer's IPv6 addresses fail, and every control's too.",
        judge: addresses::own_v6,
    },
    Rule {
        code: Code::V6Path,
        doc: "Every IPv6 address fails and every IPv4 address works.",
        judge: addresses::v6_path,
    },
    Rule {
        code: Code::PartialAddress,
        doc: "Some of the addresses fail, others work.",
        judge: addresses::partial_address,
    },
    Rule {
        code: Code::PeerRegion,
        doc: "Where we are led fails; where clients of other subnets are led serves.",
        judge: elsewhere::peer_region,
    },
    Rule {
        code: Code::OwnFirewall,
        doc: "We are not let out to the peer's new addresses; the old ones, or other vantages, are served.",
        judge: elsewhere::own_firewall,
    },
    Rule { code: Code::TlsPolicy, doc: "Every address refuses the handshake itself.", judge: addresses::tls_policy },
    Rule { code: Code::RateLimited, doc: "Every address answers 429.", judge: addresses::rate_limited },
    Rule { code: Code::Auth, doc: "Every address refuses our key (401, or 403 to it alone).", judge: addresses::auth },
    Rule {
        code: Code::BlockedUs,
        doc: "Every address answers 403, or resets us, and lets others in.",
        judge: elsewhere::blocked_us,
    },
    Rule {
        code: Code::PathOrPop,
        doc: "Every address fails from here, and serves another vantage.",
        judge: elsewhere::path_or_pop,
    },
    Rule {
        code: Code::Mtu,
        doc: "Connections are made and begin to answer, and hang after some bytes.",
        judge: addresses::mtu,
    },
    Rule {
        code: Code::PeerHttp,
        doc: "Every address is reached and proves its identity, and answers what is not expected.",
        judge: addresses::peer_http,
    },
    Rule {
        code: Code::PeerDown,
        doc: "No address that anybody gives can be connected to.",
        judge: addresses::peer_down,
    },
];
