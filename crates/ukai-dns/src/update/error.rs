//! What can go wrong with somebody else's server, each in a sentence that names server, zone and how to mend it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::name::Name;
use crate::types::Rcode;

/// What the server holds against our signature, or we against its.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TsigFault {
    /// It does not know the key, or not with this algorithm.
    BadKey,
    /// The secrets differ.
    BadSignature,
    /// The clocks differ by so many seconds, if it says by how many; positive: ours is ahead.
    ///
    /// Heard even where the signature on it cannot be checked: nothing is done on it but telling a person.
    BadTime { ahead_s: Option<i64> },
    /// Its answer carries no signature.
    Unsigned,
    /// Its answer is signed, but wrongly.
    Answer,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    #[error(
        "the name server {server} cannot be reached over TCP ({cause}); it must run, listen on TCP and be let through"
    )]
    Unreachable { server: SocketAddr, cause: String },
    #[error("the name server {server} did not answer about {zone} within {} s", after.as_secs())]
    Timeout { server: SocketAddr, zone: Name, after: Duration },
    #[error("the name server {server} closed the connection before it had answered about {zone} ({cause})")]
    CutOff { server: SocketAddr, zone: Name, cause: String },
    #[error("{}", tsig(*.server, .zone, .key, *.fault))]
    Tsig { server: SocketAddr, zone: Name, key: String, fault: TsigFault },
    #[error(
        "what was expected in {zone} at {server} is not what stands there ({rcode}): somebody else changed it; nothing was changed"
    )]
    Prerequisite { server: SocketAddr, zone: Name, rcode: Rcode },
    #[error("{}", refused(*.server, .zone, *.rcode, .what, .key))]
    Refused { server: SocketAddr, zone: Name, rcode: Rcode, what: &'static str, key: String },
    #[error("{server} does not hold the zone {zone} ({rcode}); make the zone there, or name the server that holds it")]
    NoZone { server: SocketAddr, zone: Name, rcode: Rcode },
    #[error("the answer of {server} about {zone} cannot be understood: {cause}")]
    Malformed { server: SocketAddr, zone: Name, cause: String },
    #[error("the zone {zone} at {server} is larger than {limit}; give ukai a response-policy zone of its own")]
    TooLarge { server: SocketAddr, zone: Name, limit: String },
}

/// What was asked for, for the sentence.
pub(super) const AN_UPDATE: &str = "an update";
pub(super) const A_TRANSFER: &str = "a transfer (AXFR)";
pub(super) const A_QUERY: &str = "a query";

impl UpdateError {
    /// Whether a request may have had its effect although no good answer came: it must be looked at.
    pub fn may_have_been_made(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::CutOff { .. } | Self::Malformed { .. } => true,
            Self::Tsig { fault, .. } => matches!(fault, TsigFault::Unsigned | TsigFault::Answer),
            Self::Refused { rcode, .. } => *rcode == Rcode::SERVFAIL,
            Self::Unreachable { .. } | Self::Prerequisite { .. } | Self::NoZone { .. } | Self::TooLarge { .. } => false,
        }
    }

    /// Whether the same may go well a moment later without anybody mending anything.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Timeout { .. } | Self::CutOff { .. })
            || matches!(self, Self::Refused { rcode, .. } if *rcode == Rcode::SERVFAIL)
    }
}

fn tsig(server: SocketAddr, zone: &Name, key: &str, fault: TsigFault) -> String {
    match fault {
        TsigFault::BadKey => format!(
            "{server} does not know the TSIG key {key} for {zone}, or does not let it do this (BADKEY); configure the same name and \
             algorithm on both sides, and allow it there"
        ),
        TsigFault::BadSignature => format!(
            "{server} finds our signature on {zone} wrong (BADSIG): the secret of the TSIG key {key} differs; copy it again"
        ),
        TsigFault::BadTime { ahead_s } => {
            let by = match ahead_s {
                Some(ahead) if ahead >= 0 => format!("ours is {ahead} s ahead of its"),
                Some(behind) => format!("ours is {} s behind its", behind.unsigned_abs()),
                None => "they are more than 300 s apart".to_owned(),
            };
            format!("{server} takes no signature on {zone} because the clocks differ (BADTIME): {by}; set both by NTP")
        }
        TsigFault::Unsigned => format!(
            "the answer of {server} about {zone} is not signed with the TSIG key {key}, so it is not believed; is a server \
             without the key, or something in between, answering there?"
        ),
        TsigFault::Answer => format!(
            "the signature on the answer of {server} about {zone} is wrong (TSIG key {key}), so it is not believed; compare \
             the key on both sides, and the clocks"
        ),
    }
}

fn refused(server: SocketAddr, zone: &Name, rcode: Rcode, what: &str, key: &str) -> String {
    const NOTAUTH: u16 = 9;
    const NOTZONE: u16 = 10;
    let mend = match rcode {
        Rcode::REFUSED if what == AN_UPDATE => {
            "allow it for that key on the primary (BIND `update-policy` or `allow-update`, Knot an `acl` with `action: update`, \
             PowerDNS `dnsupdate=yes` and TSIG-ALLOW-DNSUPDATE); a secondary takes none, and PowerDNS answers so to a wrong secret \
             or clock, too"
        }
        Rcode::REFUSED if what == A_TRANSFER => {
            "allow it for that key (BIND `allow-transfer`, Knot an `acl` with `action: transfer`, PowerDNS TSIG-ALLOW-AXFR)"
        }
        Rcode::REFUSED => {
            "the zone is not there (BIND answers so where it does not recurse), or our address or key may not ask"
        }
        Rcode(NOTAUTH) => {
            "it is not an authority for this zone: the zone is missing there or written differently, or it is not the primary; PowerDNS \
             answers so to a wrong secret or clock, too"
        }
        Rcode(NOTZONE) => "a name of ours lies outside the zone; the zone's name in the configuration is wrong",
        Rcode::NOTIMP => "it does not take updates; switch them on, or name another server",
        Rcode::SERVFAIL => "it failed by itself; its log says why, often a zone file or journal that it may not write",
        _ => "its log says why",
    };
    let signed = if key.is_empty() { "not signed".to_owned() } else { format!("signed with the TSIG key {key}") };
    format!("{server} answered {what} of {zone}, {signed}, with {rcode}: {mend}")
}
