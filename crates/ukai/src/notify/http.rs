//! A small HTTPS client for notifications, which finds its way when the system's resolver does not. Scrapes of metrics
//! use it too, with nothing but the system's resolver.
//!
//! The host is looked up by three ways in turn: as the system does it, at independent resolvers, and from memory,
//! where the address that last proved itself under TLS is kept. A way that gives addresses which do not connect, or
//! whose TLS does not verify, is as good as a way that gives none. TLS makes the order safe: whoever answers must
//! prove to be the host. Redirects are not followed, and a body is read up to a bound.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use ukai_dns::{AskOptions, Client, ClientOptions, Question, RecordType, Upstream};
use url::{Host, Url};

use super::{Headers, NotifyError};

/// One attempt, everything included.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// One way of looking the host up; getaddrinfo alone may take a minute.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);
/// TCP and TLS to one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Of one way; more would use up the attempt.
const ADDRESSES: usize = 3;
/// Enough for the sentence that says what is wrong.
const BODY_BYTES: usize = 16 * 1024;
const EXCERPT_CHARACTERS: usize = 200;
/// Hosts whose last good address is kept; there is one per subscriber.
const REMEMBERED: usize = 64;

#[derive(Debug, Clone, Default)]
pub struct HttpsOptions {
    /// Asked first. Empty: as the system resolves, hosts file included.
    pub resolver: Vec<Upstream>,
    /// Asked where that leads nowhere.
    pub independent: Vec<Upstream>,
    /// Trusted besides the machine's own trust store.
    pub ca: Vec<CertificateDer<'static>>,
}

/// Cheap to clone; clones share what they remember.
#[derive(Clone)]
pub struct HttpsClient(Arc<Shared>);

struct Shared {
    options: HttpsOptions,
    dns: Client,
    tls: TlsConnector,
    last_good: Mutex<BTreeMap<String, IpAddr>>,
}

/// The answer that came.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub retry_after: Option<Duration>,
    pub headers: HeaderMap,
    /// None: it was cut, or longer than the bound.
    pub body: Option<Bytes>,
}

impl Answer {
    /// The beginning of the body on one line, for a person.
    pub fn excerpt(&self) -> String {
        let text = String::from_utf8_lossy(self.body.as_deref().unwrap_or_default());
        let visible = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        visible.take(EXCERPT_CHARACTERS).collect::<String>().trim().to_owned()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    System,
    Independent,
    Memory,
}

const WAYS: [Way; 3] = [Way::System, Way::Independent, Way::Memory];

impl HttpsClient {
    pub fn new(options: HttpsOptions) -> Result<HttpsClient, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots(&options.ca))
            .with_no_client_auth();
        let dns = Client::new(ClientOptions { extra_roots: options.ca.clone(), ..ClientOptions::default() });
        let tls = TlsConnector::from(Arc::new(config));
        Ok(HttpsClient(Arc::new(Shared { options, dns, tls, last_good: Mutex::default() })))
    }

    pub async fn post(&self, url: &Url, headers: Headers, body: Bytes) -> Result<Answer, NotifyError> {
        self.post_within(url, headers, body, ATTEMPT_TIMEOUT, BODY_BYTES).await
    }

    /// One attempt within this bound, and at most so many bytes of the answer.
    pub async fn post_within(
        &self,
        url: &Url,
        headers: Headers,
        body: Bytes,
        bound: Duration,
        body_bytes: usize,
    ) -> Result<Answer, NotifyError> {
        let mut request = request(Method::POST, url, headers, body)?;
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.attempt_within(bound, url, request, body_bytes).await
    }

    /// One attempt, and at most so many bytes of the body.
    pub async fn get(
        &self,
        url: &Url,
        headers: Headers,
        bound: Duration,
        body_bytes: usize,
    ) -> Result<Answer, NotifyError> {
        let request = request(Method::GET, url, headers, Bytes::new())?;
        self.attempt_within(bound, url, request, body_bytes).await
    }

    async fn attempt_within(
        &self,
        bound: Duration,
        url: &Url,
        request: Request<Full<Bytes>>,
        body_bytes: usize,
    ) -> Result<Answer, NotifyError> {
        let attempt = async {
            match self.connect(url).await? {
                Stream::Plain(stream) => exchange(stream, request, body_bytes).await,
                Stream::Tls(stream) => exchange(*stream, request, body_bytes).await,
            }
        };
        match timeout(bound, attempt).await {
            Ok(result) => result,
            Err(_) => Err(retryable(format!("no answer within {} s", bound.as_secs()))),
        }
    }

    async fn connect(&self, url: &Url) -> Result<Stream, NotifyError> {
        let host = url.host().ok_or_else(|| permanent("the URL has no host"))?;
        let port = url.port_or_known_default().ok_or_else(|| permanent("the URL has no port"))?;
        let is_tls = url.scheme() == "https";
        let name = match host {
            Host::Ipv4(address) => {
                return self.open(address.into(), port, None, is_tls).await.map_err(retryable);
            }
            Host::Ipv6(address) => {
                return self.open(address.into(), port, None, is_tls).await.map_err(retryable);
            }
            Host::Domain(name) => name,
        };
        let mut tried = BTreeSet::new();
        let mut failures = Vec::new();
        for way in WAYS {
            let addresses = match self.look_up(way, name).await {
                Ok(addresses) => addresses,
                Err(failure) => {
                    failures.push(failure);
                    continue;
                }
            };
            for address in addresses.into_iter().filter(|address| tried.insert(*address)).take(ADDRESSES) {
                match self.open(address, port, Some(name), is_tls).await {
                    Ok(stream) => {
                        self.remember(name, address, is_tls);
                        return Ok(stream);
                    }
                    Err(failure) => failures.push(failure),
                }
            }
        }
        Err(retryable(failures.join("; ")))
    }

    async fn look_up(&self, way: Way, name: &str) -> Result<Vec<IpAddr>, String> {
        let shared = &self.0;
        match way {
            Way::System if shared.options.resolver.is_empty() => by_system(name).await,
            Way::System => self.ask(&shared.options.resolver, name).await,
            Way::Independent if shared.options.independent.is_empty() => Ok(Vec::new()),
            Way::Independent => self.ask(&shared.options.independent, name).await,
            Way::Memory => Ok(shared.last_good().get(name).copied().into_iter().collect()),
        }
    }

    /// All at once; the first that has addresses wins.
    async fn ask(&self, upstreams: &[Upstream], name: &str) -> Result<Vec<IpAddr>, String> {
        let mut asking = tokio::task::JoinSet::new();
        for upstream in upstreams {
            let (dns, upstream, name) = (self.0.dns.clone(), upstream.clone(), name.to_owned());
            asking.spawn(async move { ask_one(&dns, &upstream, &name).await });
        }
        let mut failure = format!("no resolver is configured for {name}");
        while let Some(asked) = asking.join_next().await {
            match asked {
                Ok(Ok(addresses)) => return Ok(addresses),
                Ok(Err(detail)) => failure = detail,
                Err(_) => {}
            }
        }
        Err(failure)
    }

    async fn open(&self, address: IpAddr, port: u16, name: Option<&str>, is_tls: bool) -> Result<Stream, String> {
        let opening = async {
            let tcp = TcpStream::connect(SocketAddr::new(address, port)).await.map_err(|error| error.to_string())?;
            if !is_tls {
                return Ok(Stream::Plain(tcp));
            }
            let server = match name {
                Some(name) => ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?,
                None => ServerName::IpAddress(address.into()),
            };
            let tls = self.0.tls.connect(server, tcp).await.map_err(|error| error.to_string())?;
            Ok(Stream::Tls(Box::new(tls)))
        };
        let opened: Result<Stream, String> = match timeout(CONNECT_TIMEOUT, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs())),
        };
        opened.map_err(|detail| format!("{address}: {detail}"))
    }

    /// Only what proved itself is worth remembering.
    fn remember(&self, name: &str, address: IpAddr, is_tls: bool) {
        let mut last_good = self.0.last_good();
        if is_tls && (last_good.len() < REMEMBERED || last_good.contains_key(name)) {
            last_good.insert(name.to_owned(), address);
        }
    }
}

impl Shared {
    fn last_good(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, IpAddr>> {
        self.last_good.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

async fn by_system(name: &str) -> Result<Vec<IpAddr>, String> {
    match timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((name, 0))).await {
        Ok(Ok(found)) => Ok(found.map(|address| address.ip()).collect()),
        Ok(Err(error)) => Err(format!("the system resolves {name} to nothing: {error}")),
        Err(_) => Err(format!("the system did not resolve {name} within {} s", LOOKUP_TIMEOUT.as_secs())),
    }
}

async fn ask_one(dns: &Client, upstream: &Upstream, name: &str) -> Result<Vec<IpAddr>, String> {
    let options = AskOptions { timeout: LOOKUP_TIMEOUT, ..AskOptions::default() };
    let question = |qtype| Question::new(name, qtype).map_err(|error| error.to_string());
    let (a, aaaa) = (question(RecordType::A)?, question(RecordType::AAAA)?);
    let (a, aaaa) = tokio::join!(dns.ask(upstream, &a, &options), dns.ask(upstream, &aaaa, &options));
    let addresses: Vec<IpAddr> = [&a, &aaaa].into_iter().flatten().flat_map(|reply| reply.addresses()).collect();
    match (addresses.is_empty(), a) {
        (false, _) => Ok(addresses),
        (true, Err(error)) => Err(format!("{upstream} on {name}: {error}")),
        (true, Ok(_)) => Err(format!("{upstream} knows no address of {name}")),
    }
}

fn roots(ca: &[CertificateDer<'static>]) -> RootCertStore {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if store.is_empty() {
        store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    store.add_parsable_certificates(ca.iter().cloned());
    store
}

fn request(method: Method, url: &Url, headers: Headers, body: Bytes) -> Result<Request<Full<Bytes>>, NotifyError> {
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let host = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => return Err(permanent("the URL has no host")),
    };
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, host)
        .header(header::USER_AGENT, ukai_probe::USER_AGENT)
        .header(header::CONNECTION, "close")
        .body(Full::new(body))
        .map_err(|_| permanent("the URL cannot be sent in a request"))?;
    request.headers_mut().extend(headers);
    Ok(request)
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>, body_bytes: usize) -> Result<Answer, NotifyError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |error: hyper::Error| retryable(format!("the exchange failed: {error}"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let driving = tokio::spawn(connection);
    let answered = read_answer(sender.send_request(request).await.map_err(failed), body_bytes).await;
    driving.abort();
    answered
}

async fn read_answer(
    response: Result<hyper::Response<hyper::body::Incoming>, NotifyError>,
    body_bytes: usize,
) -> Result<Answer, NotifyError> {
    let (parts, body) = response?.into_parts();
    let retry_after = retry_after(&parts.headers, SystemTime::now());
    // A body that is too long or cut changes nothing about the status.
    let body = Limited::new(body, body_bytes).collect().await.ok().map(|collected| collected.to_bytes());
    Ok(Answer { status: parts.status, retry_after, headers: parts.headers, body })
}

/// Seconds or a date (RFC 9110, 10.2.3) in any of the three forms that a date may have (5.6.7). A date is one of the
/// subscriber's clock, which need not be ours: it counts from the answer's own.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text: &str| httpdate::parse_http_date(text).ok();
    let answered = headers.get(header::DATE).and_then(|value| date(value.to_str().ok()?));
    Some(date(text)?.duration_since(answered.unwrap_or(now)).unwrap_or_default())
}

fn retryable(detail: impl Into<String>) -> NotifyError {
    NotifyError { retryable: true, retry_after: None, detail: detail.into() }
}

fn permanent(detail: &str) -> NotifyError {
    NotifyError { retryable: false, retry_after: None, detail: detail.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let of = |text: &'static str, date: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(text));
            headers.extend(date.map(|date| (header::DATE, HeaderValue::from_static(date))));
            retry_after(&headers, now)
        };
        assert_eq!(of("120", None), Some(Duration::from_secs(120)));
        // RFC 9110, 5.6.7: as it is sent today, and the two that are obsolete.
        for half_a_minute_later in
            ["Sun, 06 Nov 1994 08:50:07 GMT", "Sunday, 06-Nov-94 08:50:07 GMT", "Sun Nov  6 08:50:07 1994"]
        {
            assert_eq!(of(half_a_minute_later, None), Some(Duration::from_secs(30)), "{half_a_minute_later}");
        }
        assert_eq!(of("Sun, 06 Nov 1994 08:49:36 GMT", None), Some(Duration::ZERO), "in the past");
        let an_hour_ahead = Some("Sun, 06 Nov 1994 09:49:37 GMT");
        assert_eq!(of("Sun, 06 Nov 1994 09:50:07 GMT", an_hour_ahead), Some(Duration::from_secs(30)));
        assert_eq!(of("soon", None), None);
    }
}
