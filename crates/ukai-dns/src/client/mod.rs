//! Asking one server one question: UDP, TCP, TLS or HTTPS, on a socket made for that question.
//!
//! A fresh socket means a fresh random port; with a random id and a checked question that is what RFC 5452 asks.
//! Every exchange ends within its time-out, whatever the server does.

mod https;
mod pool;
pub(crate) mod race;
mod stream;
mod tls;
mod trace;
mod udp;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rustls::pki_types::CertificateDer;

use crate::message::{Question, Reply, compose_query};
use crate::types::{Rcode, Transport};
use crate::upstream::Upstream;
use crate::wire::{self, HEADER_LEN};

use pool::{Idle, Pool};
pub use trace::Trace;

/// Long enough for a resolver that must ask the world, short enough for a person who waits.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// Trusted in addition to the machine's own trust store.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// Whether the machine's own trust store is used at all.
    pub system_roots: bool,
    /// Whether a connection over TLS is used for the next question too. A forwarder wants that; who measures a server does not.
    pub keep_connections: bool,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self { extra_roots: Vec::new(), system_roots: true, keep_connections: false }
    }
}

/// How a question is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskOptions {
    pub recursion_desired: bool,
    /// Turns validation off at the resolver, so that a bogus answer can be seen.
    pub checking_disabled: bool,
    pub dnssec_ok: bool,
    /// Off, the question is one from before EDNS (RFC 6891): without an OPT record, whatever else is wanted.
    pub edns: bool,
    /// Asks the server whether it holds the answer to be authentic, without asking for signatures (RFC 6840, 5.7).
    pub authentic_data: bool,
    /// Asks which of its instances answers (RFC 5001).
    pub nsid: bool,
    pub client_subnet: Option<IpNet>,
    /// Over UDP the letters of the name go out in random case, and a reply must repeat them: one thing more that a forger must
    /// guess (0x20). A server that does not keep the case is [`AskError::CaseChanged`].
    pub mixed_case: bool,
    /// A truncated UDP reply is asked again over TCP; off, the truncated reply is the result.
    pub tcp_on_truncation: bool,
    /// For the whole exchange, retries included.
    pub timeout: Duration,
}

impl Default for AskOptions {
    fn default() -> Self {
        Self {
            recursion_desired: true,
            checking_disabled: false,
            dnssec_ok: false,
            edns: true,
            authentic_data: false,
            nsid: false,
            client_subnet: None,
            mixed_case: false,
            tcp_on_truncation: true,
            timeout: DEFAULT_TIMEOUT,
        }
    }
}

/// Asks questions; cheap to clone.
#[derive(Clone)]
pub struct Client {
    tls: Arc<tls::Trust>,
    pool: Option<Arc<Pool>>,
}

impl Client {
    pub fn new(options: ClientOptions) -> Self {
        let pool = options.keep_connections.then(Arc::default);
        Self { tls: Arc::new(tls::Trust::new(options)), pool }
    }

    pub async fn ask(&self, upstream: &Upstream, question: &Question, options: &AskOptions) -> Result<Reply, AskError> {
        self.ask_traced(upstream, question, options, &Trace::default()).await
    }

    /// The same, and `trace` shows what came where no reply did.
    pub async fn ask_traced(
        &self,
        upstream: &Upstream,
        question: &Question,
        options: &AskOptions,
        trace: &Trace,
    ) -> Result<Reply, AskError> {
        let start = Instant::now();
        let exchange = self.exchange(upstream, question, options, trace, start);
        match tokio::time::timeout(options.timeout, exchange).await {
            Ok(result) => result,
            Err(_) => Err(AskError::Timeout { after: options.timeout }),
        }
    }

    async fn exchange(
        &self,
        upstream: &Upstream,
        question: &Question,
        options: &AskOptions,
        trace: &Trace,
        start: Instant,
    ) -> Result<Reply, AskError> {
        let mut reply = self.attempt(upstream, &Query::new(question, options, options.edns, trace)?, options).await?;
        // RFC 6891 section 7: a server from before EDNS says FORMERR (or NOTIMP) to the OPT record.
        if options.edns && !reply.edns && matches!(reply.rcode, Rcode::FORMERR | Rcode::NOTIMP) {
            reply = self.attempt(upstream, &Query::new(question, options, false, trace)?, options).await?;
        }
        reply.elapsed = start.elapsed();
        Ok(reply)
    }

    async fn attempt(&self, upstream: &Upstream, query: &Query<'_>, options: &AskOptions) -> Result<Reply, AskError> {
        let (bytes, mismatched) = match upstream {
            Upstream::Udp(server) => {
                let (bytes, mismatched) = udp::exchange(*server, query, options.timeout).await?;
                if options.tcp_on_truncation && is_truncated(&bytes) {
                    let whole = self.attempt_tcp(*server, query).await;
                    let mut reply = whole.map_err(|error| AskError::Truncated { tcp: Box::new(error) })?;
                    reply.mismatched += mismatched;
                    return Ok(reply);
                }
                (bytes, mismatched)
            }
            Upstream::Tcp(server) => return self.attempt_tcp(*server, query).await,
            Upstream::Tls { address, server_name } => {
                self.ask_tls(upstream, *address, server_name.as_deref(), query).await?
            }
            Upstream::Https { address, path, server_name } => {
                self.ask_https(upstream, *address, path, server_name.as_deref(), query).await?
            }
        };
        query.parse(upstream.transport(), upstream.address(), bytes, mismatched)
    }

    async fn ask_tls(
        &self,
        upstream: &Upstream,
        address: SocketAddr,
        server_name: Option<&str>,
        query: &Query<'_>,
    ) -> Result<(Vec<u8>, u32), AskError> {
        if let Some(Idle::Dns(mut stream)) = self.idle(upstream) {
            match stream::exchange(&mut stream, query).await {
                Ok(reply) => {
                    self.keep(upstream, Idle::Dns(stream));
                    return Ok(reply);
                }
                // The server may have closed it meanwhile; that says nothing of a new one.
                Err(error) => tracing::debug!(%error, server.address = %address, "a kept connection was no good"),
            }
        }
        let mut stream = self.tls.connect(address, server_name, tls::Protocol::Dns).await?;
        let reply = stream::exchange(&mut stream, query).await?;
        self.keep(upstream, Idle::Dns(Box::new(stream)));
        Ok(reply)
    }

    async fn ask_https(
        &self,
        upstream: &Upstream,
        address: SocketAddr,
        path: &str,
        server_name: Option<&str>,
        query: &Query<'_>,
    ) -> Result<(Vec<u8>, u32), AskError> {
        let target = https::Target { address, path, server_name };
        if let Some(Idle::Http(sender)) = self.idle(upstream) {
            match https::exchange_again(sender, target, query).await {
                Ok(reply) => return Ok(reply),
                Err(error) => tracing::debug!(%error, server.address = %address, "a kept connection was no good"),
            }
        }
        let stream = self.tls.connect(address, server_name, tls::Protocol::Http).await?;
        https::exchange(stream, target, query, |sender| self.keep(upstream, Idle::Http(sender))).await
    }

    fn idle(&self, upstream: &Upstream) -> Option<Idle> {
        self.pool.as_ref()?.take(upstream)
    }

    fn keep(&self, upstream: &Upstream, connection: Idle) {
        if let Some(pool) = &self.pool {
            pool.put(upstream, connection);
        }
    }

    async fn attempt_tcp(&self, server: SocketAddr, query: &Query<'_>) -> Result<Reply, AskError> {
        let mut stream = stream::connect(server).await?;
        let (bytes, mismatched) = stream::exchange(&mut stream, query).await?;
        query.parse(Transport::Tcp, server, bytes, mismatched)
    }
}

/// One composed query and what its reply must look like.
struct Query<'a> {
    id: u16,
    question: &'a Question,
    bytes: Vec<u8>,
    /// Its letters are in random case.
    is_mixed: bool,
    trace: &'a Trace,
}

impl<'a> Query<'a> {
    fn new(question: &'a Question, options: &AskOptions, edns: bool, trace: &'a Trace) -> Result<Self, AskError> {
        let mut id = [0; 2];
        getrandom::fill(&mut id)
            .map_err(|error| AskError::Network(format!("no randomness for the query id: {error}")))?;
        let id = u16::from_be_bytes(id);
        let mut query =
            Self { id, question, bytes: compose_query(id, question, options, edns), is_mixed: false, trace };
        if options.mixed_case {
            query.mix()?;
        }
        Ok(query)
    }

    fn mix(&mut self) -> Result<(), AskError> {
        let mut random = [0; 32];
        getrandom::fill(&mut random)
            .map_err(|error| AskError::Network(format!("no randomness for the query's case: {error}")))?;
        let question = self.question_octets();
        let name = question.start..question.end - 4;
        wire::mix_case(&mut self.bytes[name], &random);
        self.is_mixed = true;
        Ok(())
    }

    fn question_octets(&self) -> std::ops::Range<usize> {
        HEADER_LEN..HEADER_LEN + self.question.name.as_wire().len() + 4
    }

    /// Beyond [`Query::is_answered_by`]: it repeats the question letter for letter.
    fn is_repeated_by(&self, reply: &[u8]) -> bool {
        let question = self.question_octets();
        !self.is_mixed || reply.get(question.clone()) == self.bytes.get(question)
    }

    /// What does not answer it is noted.
    fn is_answered_by(&self, reply: &[u8]) -> bool {
        let is_answer = crate::message::matches_query(self.id, self.question, reply);
        if !is_answer {
            self.trace.strange(reply);
        }
        is_answer
    }

    fn parse(
        &self,
        transport: Transport,
        server: SocketAddr,
        bytes: Vec<u8>,
        mismatched: u32,
    ) -> Result<Reply, AskError> {
        let mut reply = Reply::parse(self.question, transport, server, bytes).map_err(|(cause, bytes)| {
            self.trace.unreadable(bytes);
            AskError::Malformed(cause)
        })?;
        reply.mismatched = mismatched;
        Ok(reply)
    }
}

fn is_truncated(bytes: &[u8]) -> bool {
    bytes.get(2).is_some_and(|flags| flags & 0x02 != 0)
}

/// Why there is no reply. Replies that do not match the query are dropped and never surface here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    #[error("no reply within {} ms", after.as_millis())]
    Timeout { after: Duration },
    #[error("the server's host refused: nothing listens on that port")]
    ConnectionRefused,
    #[error("the server's network or host cannot be reached")]
    Unreachable,
    #[error("the connection was cut before a reply came")]
    Closed,
    /// Over UDP there was an answer, cut short; the whole one was not to be had.
    #[error("its answer over UDP is truncated, and over TCP {tcp}")]
    Truncated { tcp: Box<AskError> },
    #[error("the server does not repeat the case of the question")]
    CaseChanged,
    #[error("the socket failed: {0}")]
    Network(String),
    #[error("the TLS handshake failed: {0}")]
    Tls(String),
    #[error("the server answered with HTTP status {0}")]
    HttpStatus(u16),
    #[error("the HTTP exchange failed: {0}")]
    Http(String),
    #[error("{0}")]
    Malformed(String),
}

impl AskError {
    /// A stable word for metrics and JSON.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Timeout { .. } => "timeout",
            Self::ConnectionRefused => "refused",
            Self::Unreachable => "unreachable",
            Self::Closed => "closed",
            Self::Truncated { tcp } => tcp.class(),
            Self::CaseChanged => "case_changed",
            Self::Network(_) => "network",
            Self::Tls(_) => "tls",
            Self::HttpStatus(_) | Self::Http(_) => "http",
            Self::Malformed(_) => "malformed",
        }
    }
}

impl From<io::Error> for AskError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::ConnectionRefused,
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable | io::ErrorKind::AddrNotAvailable => {
                Self::Unreachable
            }
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Network(error.to_string()),
        }
    }
}
