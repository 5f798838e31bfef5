//! The vantage's side: a listener with one path, a token, and a bound on everything.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use ukai_core::diagnose::evidence::Proof;
use ukai_core::observe::AddressResult;

use super::{ADDRESSES_MAX, PATH, QUESTION_BYTES, Question, RESULTS_MAX, Sight};
use crate::gather::{Configured, Subject, join_all, prove_once, resolve, usable};
use crate::secret::Secret;

/// Controllers keep no connection; a few of them ask at once.
const CONNECTIONS: usize = 32;
/// Looks under way at once, over all peers; more are told to come back.
const LOOKS: usize = 4;
/// Controllers that wait while the same peer is looked at for another one; more are told to come back.
const WAITING: usize = 2;
/// How long they wait. With a look after it, the answer still comes within a controller's bound.
const TURN_TIMEOUT: Duration = Duration::from_secs(2);
/// From accept to the end of the head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// A look ends within it, so that the controller hears of it within its own bound.
const LOOK_BOUND: Duration = Duration::from_secs(4);

pub struct VantageService {
    listener: TcpListener,
    shared: Arc<Shared>,
}

struct Shared {
    configured: Configured,
    token: Secret,
    looks: Semaphore,
    /// One look at a time for each peer.
    turns: BTreeMap<String, Turn>,
}

struct Turn {
    look: Semaphore,
    /// Who looks, and who waits.
    here: Semaphore,
}

type Refusal = (StatusCode, String);

impl VantageService {
    pub async fn bind(listen: SocketAddr, token: Secret, configured: Configured) -> io::Result<VantageService> {
        let listener = TcpListener::bind(listen).await?;
        let turn = || Turn { look: Semaphore::new(1), here: Semaphore::new(1 + WAITING) };
        let turns = configured.subjects.keys().map(|peer| (peer.clone(), turn())).collect();
        let shared = Shared { configured, token, looks: Semaphore::new(LOOKS), turns };
        Ok(VantageService { listener, shared: Arc::new(shared) })
    }

    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until it is dropped.
    pub async fn run(self) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let shared = Arc::clone(&self.shared);
                    tokio::spawn(async move {
                        serve(stream, shared).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the vantage could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&shared, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(QUESTION_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a controller's connection ended early");
    }
}

async fn answer(shared: &Shared, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (status, body) = match take(shared, request).await {
        Ok(sight) => (StatusCode::OK, serde_json::to_vec(&sight).unwrap_or_default()),
        Err((status, sentence)) => (status, serde_json::json!({ "error": sentence }).to_string().into_bytes()),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn take(shared: &Shared, request: Request<Incoming>) -> Result<Sight, Refusal> {
    if request.uri().path() != PATH {
        return Err((StatusCode::NOT_FOUND, format!("there is only this here: {PATH}")));
    }
    if request.method() != Method::POST {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "a question is sent with POST".to_owned()));
    }
    if !is_authorised(shared, request.headers().get(header::AUTHORIZATION)) {
        return Err((StatusCode::UNAUTHORIZED, "send the token as `Authorization: Bearer TOKEN`".to_owned()));
    }
    let body = timeout(BODY_TIMEOUT, Limited::new(request.into_body(), QUESTION_BYTES).collect()).await;
    let body = match body {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => {
            let sentence = format!("a question has at most {QUESTION_BYTES} bytes");
            return Err((StatusCode::PAYLOAD_TOO_LARGE, sentence));
        }
        Err(_) => return Err((StatusCode::REQUEST_TIMEOUT, "the question did not come in time".to_owned())),
    };
    let question: Question = serde_json::from_slice(&body)
        .map_err(|error| (StatusCode::BAD_REQUEST, format!("the question cannot be read: {error}")))?;
    if question.addresses.len() > ADDRESSES_MAX {
        return Err((StatusCode::BAD_REQUEST, format!("at most {ADDRESSES_MAX} addresses can be asked about")));
    }
    let peer = shared.configured.subjects.get(&question.peer).zip(shared.turns.get(&question.peer));
    let Some((subject, turn)) = peer else {
        let known: Vec<&str> = shared.configured.subjects.keys().map(String::as_str).collect();
        let sentence = format!("there is no peer of that name here; there is {}", known.join(", "));
        return Err((StatusCode::NOT_FOUND, sentence));
    };
    let busy = || (StatusCode::TOO_MANY_REQUESTS, "too many looks at once; ask again".to_owned());
    let _here = turn.here.try_acquire().map_err(|_| busy())?;
    let _turn = timeout(TURN_TIMEOUT, turn.look.acquire()).await.map_err(|_| busy())?;
    let _look = shared.looks.try_acquire().map_err(|_| busy())?;
    Ok(look(&shared.configured, subject, question.addresses).await)
}

fn is_authorised(shared: &Shared, header: Option<&HeaderValue>) -> bool {
    let offered = header.map(HeaderValue::as_bytes).and_then(|value| value.split_at_checked(7));
    offered.is_some_and(|(scheme, offered)| scheme.eq_ignore_ascii_case(b"bearer ") && shared.token.matches(offered))
}

/// Every address that our own resolver gives, and those that were asked about, each probed once. What cannot be left for from
/// here, and what the bound came before, is left out: it says nothing of the address.
async fn look(configured: &Configured, subject: &Subject, asked: BTreeSet<IpAddr>) -> Sight {
    let vantage = &configured.vantage;
    let deadline = Instant::now() + LOOK_BOUND;
    let most = RESULTS_MAX / subject.watched.len().max(1);
    let asked: BTreeSet<IpAddr> =
        asked.into_iter().filter(|address| subject.is_routed(vantage, *address)).take(most).collect();
    let resolved = async {
        let limit = subject.resolve_timeout.min(LOOK_BOUND / 2);
        let found = resolve(&vantage.dns, &vantage.resolvers, &subject.host, limit).await;
        let addresses = usable(found.addresses, |address| subject.is_routed(vantage, address));
        let resolved: BTreeSet<IpAddr> = addresses.into_iter().take(ADDRESSES_MAX).collect();
        let more = resolved.difference(&asked).take(most - asked.len());
        (probe(subject, more, deadline).await, resolved)
    };
    let (results, (more, resolved)) = tokio::join!(probe(subject, asked.iter(), deadline), resolved);
    Sight { results: results.into_iter().chain(more).collect(), resolved }
}

async fn probe(subject: &Subject, addresses: impl Iterator<Item = &IpAddr>, deadline: Instant) -> Vec<Proof> {
    let mut probes = Vec::new();
    for address in addresses {
        probes.extend(subject.watched.iter().map(|watched| prove_once(&subject.prober, watched, *address, deadline)));
    }
    join_all(probes).await.into_iter().flatten().map(without_identity).collect()
}

/// A controller reads how it went; names of certificates would fill its bound.
fn without_identity(proof: Proof) -> Proof {
    Proof { result: AddressResult { identity: None, ..proof.result }, ..proof }
}
