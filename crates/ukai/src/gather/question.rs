//! One question to one server, put on record whatever comes of it.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use ukai_core::diagnose::evidence::{Answer, Asked, ExtendedError, Outcome, Rcode, Silence, Soa, Source};
use ukai_dns::{AskError, AskOptions, Client, Question, RecordType, Reply, Transport, Upstream};
use ukai_probe::escape::escape;

/// Longer than any healthy resolver takes to walk the world, short enough to be asked three times within the bound.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(2);
/// Addresses kept of one answer: twice what fits a plain 4 KiB message. The rest is counted by nobody's rule.
const ANSWER_ADDRESSES_MAX: usize = 256;

/// The time of the engine, carried on by the monotonic clock while evidence is gathered.
#[derive(Debug, Clone, Copy)]
pub struct Anchor {
    at: Timestamp,
    instant: Instant,
}

impl Anchor {
    /// `at` is now.
    pub fn new(at: Timestamp) -> Anchor {
        Anchor { at, instant: Instant::now() }
    }

    pub fn now(&self) -> Timestamp {
        self.at.checked_add(self.instant.elapsed()).unwrap_or(self.at)
    }
}

/// Who is asked, and as whose answer it counts.
#[derive(Debug, Clone)]
pub struct Whom {
    pub source: Source,
    /// For a person.
    pub server: String,
    /// What counts as one server.
    pub identity: String,
    pub upstream: Upstream,
}

impl Whom {
    /// A resolver, known by its URI.
    pub fn resolver(source: Source, upstream: &Upstream) -> Whom {
        let uri = upstream.to_string();
        Whom { source, server: uri.clone(), identity: uri, upstream: upstream.clone() }
    }

    /// The same server over TCP, where it is asked over UDP.
    pub fn over_tcp(&self) -> Option<Whom> {
        match self.upstream {
            Upstream::Udp(address) => Some(Whom { upstream: Upstream::Tcp(address), ..self.clone() }),
            _ => None,
        }
    }
}

/// Asks until the deadline of the gathering.
#[derive(Clone)]
pub struct Asker {
    pub dns: Client,
    pub host: String,
    pub anchor: Anchor,
    pub deadline: Instant,
}

impl Asker {
    pub async fn ask(&self, whom: &Whom, record_type: RecordType) -> Asked {
        self.put(whom, record_type, false).await
    }

    /// With validation turned off: a bogus answer becomes visible (RFC 4035, 3.2.2).
    pub async fn ask_unchecked(&self, whom: &Whom, record_type: RecordType) -> Asked {
        self.put(whom, record_type, true).await
    }

    async fn put(&self, whom: &Whom, record_type: RecordType, checking_disabled: bool) -> Asked {
        let at = self.anchor.now();
        let left = self.deadline.saturating_duration_since(Instant::now());
        let options = AskOptions {
            // An authority is asked as a resolver would ask it, everybody else as a client would.
            recursion_desired: whom.source != Source::Authority,
            checking_disabled,
            nsid: true,
            // Truncation is evidence (the same question goes over TCP on its own).
            tcp_on_truncation: false,
            timeout: QUERY_TIMEOUT.min(left),
            ..AskOptions::default()
        };
        let outcome = match Question::new(&self.host, record_type) {
            Err(error) => silent(Silence::Malformed, &error.to_string()),
            Ok(_) if left.is_zero() => {
                silent(Silence::Timeout, "the bound of the gathering was reached before it could be asked")
            }
            Ok(question) => match self.dns.ask(&whom.upstream, &question, &options).await {
                Ok(reply) => Outcome::Answered(answer(&reply)),
                Err(error) => silent(silence(&error), &error.to_string()),
            },
        };
        Asked {
            source: whom.source,
            server: whom.server.clone(),
            identity: whom.identity.clone(),
            transport: transport(whom.upstream.transport()).to_owned(),
            record_type: record_type.to_string(),
            checking_disabled,
            subnet: None,
            at,
            outcome,
            wire: None,
        }
    }
}

pub fn rcode(code: ukai_dns::Rcode) -> Rcode {
    match code {
        ukai_dns::Rcode::NOERROR => Rcode::Noerror,
        ukai_dns::Rcode::FORMERR => Rcode::Formerr,
        ukai_dns::Rcode::SERVFAIL => Rcode::Servfail,
        ukai_dns::Rcode::NXDOMAIN => Rcode::Nxdomain,
        ukai_dns::Rcode::NOTIMP => Rcode::Notimp,
        ukai_dns::Rcode::REFUSED => Rcode::Refused,
        _ => Rcode::Other,
    }
}

fn answer(reply: &Reply) -> Answer {
    let mut addresses = reply.addresses();
    addresses.truncate(ANSWER_ADDRESSES_MAX);
    Answer {
        rcode: rcode(reply.rcode),
        authoritative: reply.authoritative,
        recursion_available: reply.recursion_available,
        authentic_data: reply.authentic_data,
        truncated: reply.truncated,
        addresses,
        records: 0,
        chain: reply.cname_chain().iter().map(|name| escape(&name.to_string())).collect(),
        ttl: reply.min_ttl(),
        soa: reply.soa.as_ref().map(|soa| Soa { serial: soa.serial, negative_ttl: soa.ttl.min(soa.minimum) }),
        extended_errors: reply
            .extended_errors
            .iter()
            .map(|error| ExtendedError { code: error.code, text: escape(&error.text) })
            .collect(),
        nsid: reply.nsid.as_deref().map(escape),
        elapsed_us: u64::try_from(reply.elapsed.as_micros()).unwrap_or(u64::MAX),
    }
}

fn silent(why: Silence, detail: &str) -> Outcome {
    Outcome::Silent { why, detail: escape(detail) }
}

fn silence(error: &AskError) -> Silence {
    match error {
        AskError::Timeout { .. } => Silence::Timeout,
        AskError::ConnectionRefused => Silence::Refused,
        AskError::Unreachable | AskError::Closed | AskError::Network(_) => Silence::Unreachable,
        AskError::Tls(_) => Silence::Tls,
        AskError::HttpStatus(_) | AskError::Http(_) => Silence::Http,
        AskError::Malformed(_) => Silence::Malformed,
    }
}

fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
        Transport::Tls => "tls",
        Transport::Https => "https",
    }
}
