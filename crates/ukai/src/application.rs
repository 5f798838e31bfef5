//! Where the application says how its own calls went.
//!
//! A probe shows that the peer can be reached; only the application can say that *it* reaches the peer. So it posts
//! each call, or a sample of them, to this listener: `POST /v1/application/calls` with a bearer token and
//! `{"peer":"api","host":"api.peer.test","ok":true,"address":"192.0.2.1","error":null}`, or an array of these. The
//! answer to a good request is 204; every other answer is `{"error":"…"}`, a sentence.
//!
//! What arrives is evidence and nothing else: it can confirm an override or cast doubt on it, never make one.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes};
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use ukai_core::diagnose::evidence::ApplicationCall;

use crate::secret::Secret;

pub const PATH: &str = "/v1/application/calls";
pub const BODY_BYTES: usize = 16 * 1024;
pub const CALLS_PER_REQUEST: usize = 100;
/// Calls on their way to the engine; a hundred requests of one call each at once are an ordinary burst.
pub const CALLS_QUEUED: usize = 1024;
/// Characters of an error text that are kept.
pub const ERROR_CHARACTERS: usize = 200;
/// One process with a connection pool, several times over.
const CONNECTIONS: usize = 256;
/// Requests a second on average, and at once: far above one application, far below what would slow the engine.
const RATE_PER_SECOND: u32 = 200;
const RATE_BURST: u32 = 400;
/// From accept, or from one request to the next.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// One call that the application reported. Its time is this machine's wall clock; whoever hands it to the engine puts
/// engine time there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    pub peer: String,
    pub call: ApplicationCall,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {listen} for the application's calls: {}; change application.listen", reason(source))]
pub struct ListenError {
    pub listen: SocketAddr,
    pub source: io::Error,
}

#[derive(Debug)]
pub struct ApplicationListener {
    listener: TcpListener,
    door: Arc<Door>,
}

impl ApplicationListener {
    /// `hosts`: names and hosts of the peers; a reload sends new ones.
    pub async fn bind(
        listen: SocketAddr,
        token: Secret,
        hosts: watch::Receiver<BTreeMap<String, String>>,
        calls: mpsc::Sender<Reported>,
    ) -> Result<ApplicationListener, ListenError> {
        let failed = |source| ListenError { listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let rate = Mutex::new(Rate::full(Instant::now()));
        Ok(ApplicationListener { listener, door: Arc::new(Door { token, hosts, calls, rate }) })
    }

    #[cfg(test)]
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the receiver of the calls is dropped.
    pub async fn run(self) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            // Beyond the bound, connections wait in the kernel's queue.
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = self.door.calls.closed() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let door = Arc::clone(&self.door);
                    tokio::spawn(async move {
                        serve(stream, door).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the application's listener could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn serve(stream: TcpStream, door: Arc<Door>) {
    let service = service_fn(move |request| {
        let door = Arc::clone(&door);
        async move { Ok::<_, Infallible>(door.answer(request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(BODY_BYTES.max(8192))
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of the application ended early");
    }
}

#[derive(Debug)]
struct Door {
    token: Secret,
    hosts: watch::Receiver<BTreeMap<String, String>>,
    calls: mpsc::Sender<Reported>,
    rate: Mutex<Rate>,
}

/// What the application posts. Unknown fields are refused, so that a misspelt `ok` is not taken for a good call.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Posted {
    peer: String,
    host: String,
    ok: bool,
    #[serde(default)]
    address: Option<IpAddr>,
    #[serde(default)]
    error: Option<String>,
}

struct Refusal(StatusCode, String);

impl Door {
    async fn answer<B>(&self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match self.take(request).await {
            Ok(()) => response(StatusCode::NO_CONTENT, Bytes::new()),
            Err(Refusal(status, sentence)) => {
                let body = serde_json::json!({ "error": sentence }).to_string();
                response(status, Bytes::from(body))
            }
        }
    }

    async fn take<B>(&self, request: Request<B>) -> Result<(), Refusal>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if !self.rate.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()) {
            return Err(refused(
                StatusCode::TOO_MANY_REQUESTS,
                "too many requests; report calls in arrays, or a sample of them",
            ));
        }
        if request.uri().path() != PATH {
            return Err(refused(StatusCode::NOT_FOUND, format!("there is only {PATH} here")));
        }
        if request.method() != Method::POST {
            return Err(refused(StatusCode::METHOD_NOT_ALLOWED, "calls are reported with POST"));
        }
        if !self.is_authorised(request.headers().get(header::AUTHORIZATION)) {
            return Err(refused(StatusCode::UNAUTHORIZED, "send the token as `Authorization: Bearer TOKEN`"));
        }
        let body = read(request.into_body()).await?;
        let posted = parse(&body)?;
        let calls = posted.into_iter().map(|posted| self.check(posted)).collect::<Result<Vec<_>, _>>()?;
        self.forward(calls)
    }

    fn is_authorised(&self, header: Option<&HeaderValue>) -> bool {
        let Some((scheme, offered)) = header
            .map(HeaderValue::as_bytes)
            .and_then(|value| Some(value.split_at(value.iter().position(|byte| *byte == b' ')?)))
        else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"bearer") && self.token.matches(offered.trim_ascii())
    }

    fn check(&self, posted: Posted) -> Result<Reported, Refusal> {
        let Posted { peer, host, ok, address, error } = posted;
        let expected = self.hosts.borrow().get(&peer).cloned();
        let Some(expected) = expected else {
            return Err(refused(StatusCode::NOT_FOUND, format!("no peer is named {:?}", escaped(&peer))));
        };
        if !host.trim_end_matches('.').eq_ignore_ascii_case(&expected) {
            let sentence = format!("the peer {peer:?} is {expected}, not {:?}", escaped(&host));
            return Err(refused(StatusCode::BAD_REQUEST, sentence));
        }
        let error = error.as_deref().map(escaped);
        Ok(Reported { peer, call: ApplicationCall { at: Timestamp::now(), ok, address, error } })
    }

    /// All of a request's calls or none, so that a repeated request repeats the same.
    fn forward(&self, calls: Vec<Reported>) -> Result<(), Refusal> {
        if calls.is_empty() {
            return Ok(());
        }
        let Ok(permits) = self.calls.try_reserve_many(calls.len()) else {
            return Err(refused(
                StatusCode::TOO_MANY_REQUESTS,
                "more calls than can be taken now; try again in a second",
            ));
        };
        for (permit, call) in permits.zip(calls) {
            permit.send(call);
        }
        Ok(())
    }
}

async fn read<B>(body: B) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let too_large = || refused(StatusCode::PAYLOAD_TOO_LARGE, format!("a request holds at most {BODY_BYTES} bytes"));
    if body.size_hint().lower() > BODY_BYTES as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(refused(StatusCode::BAD_REQUEST, "the body ended early")),
        Err(_) => Err(refused(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
    }
}

fn parse(body: &[u8]) -> Result<Vec<Posted>, Refusal> {
    let is_array = body.trim_ascii_start().first() == Some(&b'[');
    let parsed = if is_array {
        serde_json::from_slice::<Vec<Posted>>(body)
    } else {
        serde_json::from_slice::<Posted>(body).map(|one| vec![one])
    };
    let posted = parsed.map_err(|error| {
        refused(
            StatusCode::BAD_REQUEST,
            format!(
                "send {{\"peer\",\"host\",\"ok\",\"address\",\"error\"}} or an array of these: {}",
                escaped(&error.to_string())
            ),
        )
    })?;
    if posted.len() > CALLS_PER_REQUEST {
        return Err(refused(
            StatusCode::BAD_REQUEST,
            format!("at most {CALLS_PER_REQUEST} calls fit into one request"),
        ));
    }
    Ok(posted)
}

fn refused(status: StatusCode, sentence: impl Into<String>) -> Refusal {
    Refusal(status, sentence.into())
}

fn response(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if status != StatusCode::NO_CONTENT {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    match status {
        StatusCode::UNAUTHORIZED => headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
        StatusCode::METHOD_NOT_ALLOWED => headers.insert(header::ALLOW, HeaderValue::from_static("POST")),
        StatusCode::TOO_MANY_REQUESTS => headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1")),
        _ => None,
    };
    response
}

/// Control characters become visible, and the text ends after [`ERROR_CHARACTERS`].
fn escaped(text: &str) -> String {
    let mut characters = text.chars().flat_map(|c| {
        let visible: Vec<char> = if c.is_control() { c.escape_default().collect() } else { vec![c] };
        visible
    });
    let mut kept: String = characters.by_ref().take(ERROR_CHARACTERS).collect();
    if characters.next().is_some() {
        kept.push('…');
    }
    kept
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is in use by another process".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege".to_owned(),
        _ => error.to_string(),
    }
}

/// A token bucket over requests of all connections.
#[derive(Debug)]
struct Rate {
    tokens: f64,
    at: Instant,
}

impl Rate {
    fn full(at: Instant) -> Rate {
        Rate { tokens: f64::from(RATE_BURST), at }
    }

    fn take(&mut self, now: Instant) -> bool {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() * f64::from(RATE_PER_SECOND);
        self.tokens = (self.tokens + gained).min(f64::from(RATE_BURST));
        self.at = now;
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const TOKEN: &str = "hunter2";

    #[tokio::test]
    async fn a_call_reaches_the_engine() {
        let (address, mut calls) = listen(8).await;
        let call = json!({"peer": "api", "host": "API.peer.test.", "ok": true, "address": "127.0.0.9", "error": null});
        assert_eq!(post(address, TOKEN, &call).await.0, 204);
        let reported = calls.recv().await.unwrap();
        assert_eq!((reported.peer.as_str(), reported.call.ok), ("api", true));
        assert_eq!(reported.call.address, "127.0.0.9".parse().ok());
        let failed =
            json!([{"peer": "api", "host": "api.peer.test", "ok": false, "error": "line\n\u{1b}[31m".repeat(100)}]);
        assert_eq!(post(address, TOKEN, &failed).await.0, 204);
        let error = calls.recv().await.unwrap().call.error.unwrap();
        assert_eq!(error.chars().count(), ERROR_CHARACTERS + 1);
        assert!(!error.contains(char::is_control), "{error}");
    }

    #[tokio::test]
    async fn every_refusal_is_a_sentence() {
        let (address, mut calls) = listen(8).await;
        let good = json!({"peer": "api", "host": "api.peer.test", "ok": true});
        let many = Value::Array(vec![good.clone(); CALLS_PER_REQUEST + 1]);
        let cases = [
            (request("POST", "/v1/elsewhere", TOKEN, &good.to_string()), 404),
            (request("GET", PATH, TOKEN, ""), 405),
            (request("POST", PATH, "wrong", &good.to_string()), 401),
            (request("POST", PATH, "", &good.to_string()), 401),
            (request("POST", PATH, TOKEN, "{"), 400),
            (request("POST", PATH, TOKEN, &json!({"peer": "api", "host": "api.peer.test"}).to_string()), 400),
            (
                request(
                    "POST",
                    PATH,
                    TOKEN,
                    &json!({"peer": "api", "host": "api.peer.test", "ok": true, "x": 1}).to_string(),
                ),
                400,
            ),
            (request("POST", PATH, TOKEN, &json!({"peer": "api", "host": "evil.test", "ok": true}).to_string()), 400),
            (
                request("POST", PATH, TOKEN, &json!({"peer": "none", "host": "api.peer.test", "ok": true}).to_string()),
                404,
            ),
            (request("POST", PATH, TOKEN, &many.to_string()), 400),
            (request("POST", PATH, TOKEN, &" ".repeat(BODY_BYTES + 1)), 413),
        ];
        for (request, status) in cases {
            let (found, body) = exchange(address, &request).await;
            assert_eq!(found, status, "{}", &request[..request.len().min(300)]);
            assert!(body["error"].as_str().is_some_and(|error| !error.is_empty()), "{body}");
        }
        assert!(calls.try_recv().is_err(), "nothing of that reached the engine");
    }

    #[tokio::test]
    async fn a_chunked_body_has_the_same_bound() {
        let (address, _calls) = listen(8).await;
        let chunk = format!("{:x}\r\n{}\r\n", 8192, " ".repeat(8192));
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nHost: ukai\r\nAuthorization: Bearer {TOKEN}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        );
        let (status, _) = exchange(address, &format!("{head}{}0\r\n\r\n", chunk.repeat(3))).await;
        assert_eq!(status, 413);
    }

    #[tokio::test]
    async fn a_full_queue_takes_all_of_a_request_or_nothing() {
        let (address, mut calls) = listen(2).await;
        let good = json!({"peer": "api", "host": "api.peer.test", "ok": true});
        assert_eq!(post(address, TOKEN, &Value::Array(vec![good.clone(); 3])).await.0, 429);
        assert!(calls.try_recv().is_err());
        assert_eq!(post(address, TOKEN, &Value::Array(vec![good; 2])).await.0, 204);
        assert!(calls.try_recv().is_ok() && calls.try_recv().is_ok());
    }

    #[tokio::test]
    async fn a_port_in_use_is_named() {
        let (address, _calls) = listen(1).await;
        let (_keep, hosts) = watch::channel(BTreeMap::new());
        let refused =
            ApplicationListener::bind(address, Secret::new(TOKEN), hosts, mpsc::channel(1).0).await.unwrap_err();
        let sentence = refused.to_string();
        assert!(sentence.contains(&address.to_string()) && sentence.contains("in use"), "{sentence}");
    }

    #[test]
    fn the_rate_is_bounded_and_comes_back() {
        let start = Instant::now();
        let mut rate = Rate::full(start);
        assert_eq!((0..RATE_BURST + 50).filter(|_| rate.take(start)).count(), RATE_BURST as usize);
        let later = start + Duration::from_secs(1);
        assert_eq!((0..RATE_BURST).filter(|_| rate.take(later)).count(), RATE_PER_SECOND as usize);
    }

    async fn listen(queue: usize) -> (SocketAddr, mpsc::Receiver<Reported>) {
        let (calls, receiver) = mpsc::channel(queue);
        let (keep, hosts) = watch::channel(BTreeMap::from([("api".to_owned(), "api.peer.test".to_owned())]));
        let listen = "127.0.0.1:0".parse().unwrap();
        let listener = ApplicationListener::bind(listen, Secret::new(TOKEN), hosts, calls).await.unwrap();
        let address = listener.local_address().unwrap();
        tokio::spawn(async move {
            listener.run().await;
            drop(keep);
        });
        (address, receiver)
    }

    async fn post(address: SocketAddr, token: &str, body: &Value) -> (u16, Value) {
        exchange(address, &request("POST", PATH, token, &body.to_string())).await
    }

    fn request(method: &str, path: &str, token: &str, body: &str) -> String {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: ukai\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    }

    async fn exchange(address: SocketAddr, request: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // A refusal can come before all of a large body is sent.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap_or_default().parse().unwrap_or_default();
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, serde_json::from_str(body).unwrap_or_default())
    }
}
