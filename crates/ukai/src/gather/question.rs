//! One question to one server, put on record whatever comes of it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ipnet::IpNet;
use jiff::Timestamp;
use tokio::time::Instant;
use ukai_core::diagnose::evidence::{Answer, Asked, ExtendedError, Outcome, Rcode, Silence, Soa, Source, WIRE_MAX};
use ukai_dns::{AskError, AskOptions, Client, Question, RecordType, Reply, Trace, Transport, Upstream};
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

/// What sets a question apart from the one that a client here asks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Twist {
    /// Validation turned off: a bogus answer becomes visible (RFC 4035, 3.2.2).
    pub checking_disabled: bool,
    /// On behalf of a client in this network (RFC 7871). Without it the question has no such option: it says nothing of where we
    /// are.
    pub subnet: Option<IpNet>,
}

impl Asker {
    pub async fn ask(&self, whom: &Whom, record_type: RecordType) -> Asked {
        self.ask_with(whom, record_type, Twist::default()).await
    }

    pub async fn ask_with(&self, whom: &Whom, record_type: RecordType, twist: Twist) -> Asked {
        let at = self.anchor.now();
        let left = self.deadline.saturating_duration_since(Instant::now());
        let options = AskOptions {
            // An authority is asked as a resolver would ask it, everybody else as a client would.
            recursion_desired: whom.source != Source::Authority,
            checking_disabled: twist.checking_disabled,
            client_subnet: twist.subnet,
            nsid: true,
            // Truncation is evidence (the same question goes over TCP on its own).
            tcp_on_truncation: false,
            timeout: QUERY_TIMEOUT.min(left),
            ..AskOptions::default()
        };
        let (outcome, message) = match Question::new(&self.host, record_type) {
            Err(error) => (silent(Silence::Malformed, &error.to_string()), Vec::new()),
            Ok(_) if left.is_zero() => {
                let detail = "the bound of the gathering was reached before it could be asked";
                (silent(Silence::Timeout, detail), Vec::new())
            }
            Ok(question) => self.exchange(&whom.upstream, &question, &options).await,
        };
        Asked {
            source: whom.source,
            server: whom.server.clone(),
            identity: whom.identity.clone(),
            transport: transport(whom.upstream.transport()).to_owned(),
            record_type: record_type.to_string(),
            checking_disabled: twist.checking_disabled,
            subnet: twist.subnet,
            at,
            outcome,
            wire: wire(&message),
        }
    }

    /// What came of it, and the message as it came.
    async fn exchange(&self, upstream: &Upstream, question: &Question, options: &AskOptions) -> (Outcome, Vec<u8>) {
        let trace = Trace::default();
        match self.dns.ask_traced(upstream, question, options, &trace).await {
            Ok(reply) => (outcome(&reply), reply.bytes),
            Err(error) => (unanswered(&error, trace.strange_count()), trace.into_message()),
        }
    }
}

/// Who sends only what answers another question is not silent: somebody guesses, or the server is broken.
fn unanswered(error: &AskError, strange: u32) -> Outcome {
    match (error, strange) {
        (AskError::Timeout { .. }, 1..) => {
            let detail = format!("{error}; what came does not answer the question ({strange} messages)");
            silent(Silence::Malformed, &detail)
        }
        _ => silent(silence(error), &error.to_string()),
    }
}

fn wire(message: &[u8]) -> Option<String> {
    (!message.is_empty() && message.len() <= WIRE_MAX).then(|| BASE64.encode(message))
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

fn outcome(reply: &Reply) -> Outcome {
    match reply.endless_aliases() {
        Some(why) => silent(Silence::Endless, &why),
        None => Outcome::Answered(answer(reply)),
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
        records: reply.answers.iter().filter(|record| record.rtype() == reply.question.qtype).count(),
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
        AskError::Unreachable | AskError::Network(_) => Silence::Unreachable,
        AskError::Closed => Silence::Cut,
        AskError::Truncated { tcp } => silence(tcp),
        AskError::Tls(_) => Silence::Tls,
        AskError::HttpStatus(_) | AskError::Http(_) => Silence::Http,
        AskError::Malformed(_) | AskError::CaseChanged => Silence::Malformed,
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
