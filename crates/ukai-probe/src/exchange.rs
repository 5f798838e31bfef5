//! The `processing` and `transfer` stages: one request, one bounded answer, over a connection that is ours.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::http::response::Parts;
use hyper::{Request as HttpRequest, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::timeout;
use ukai_core::observe::{ErrorClass, Failure, HttpFacts, Timings};

use crate::endpoint::Endpoint;
use crate::escape::{escape, hex};
use crate::expect::Expectation;
use crate::fault::{processing, processing_failure, too_large, transfer, transfer_failure};
use crate::request::Request;
use crate::timing::{Timeouts, elapsed_us, human};
use crate::{facts, parking};

/// Bytes of a body that are read: a health answer has a thousandth of this.
pub const BODY_MAX: usize = 1 << 20;
/// Headers of an answer; hyper's own default, twice what large sites send.
pub const HEADERS_MAX: usize = 100;
/// Bytes of an answer's head: four times what common servers allow themselves to receive.
pub const HEAD_MAX: usize = 64 * 1024;
/// How long a finished connection may take to say goodbye.
const CLOSING: Duration = Duration::from_millis(100);

/// What the peer answered, and what of it is wrong.
pub(crate) struct Exchange {
    pub(crate) http: Option<HttpFacts>,
    pub(crate) failure: Option<Failure>,
}

/// What is asked, and what must come of it.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) request: &'a Request,
    pub(crate) expectation: &'a Expectation,
    pub(crate) timeouts: &'a Timeouts,
}

pub(crate) async fn exchange<S>(stream: S, http2: bool, ask: Ask<'_>, timings: &mut Timings) -> Exchange
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = match ask.request.to_http(ask.endpoint, http2) {
        Ok(request) => request,
        Err(error) => {
            let detail = format!("this machine could not write the request: {error}");
            return failed(processing(ErrorClass::Local, detail));
        }
    };
    let limit = ask.timeouts.processing;
    let started = Instant::now();
    let mut connection = Connection::default();
    let answer = timeout(limit, connection.send(stream, http2, request)).await;
    timings.processing_us = Some(elapsed_us(started));
    let response = match answer {
        Ok(Ok(response)) => response,
        Ok(Err(failure)) => return failed(failure),
        Err(_) => {
            let detail = format!("it did not answer the request within {}", human(limit));
            return failed(processing(ErrorClass::Timeout, detail));
        }
    };
    let (parts, incoming) = response.into_parts();
    let started = Instant::now();
    let body = read_body(incoming, ask.timeouts.transfer).await;
    timings.transfer_us = Some(elapsed_us(started));
    connection.close(&body).await;
    judge(&parts, &body, ask)
}

/// The task that drives the connection, ended with it, and the handle that keeps it open.
#[derive(Default)]
struct Connection {
    driver: JoinSet<hyper::Result<()>>,
    sender: Option<Sender>,
}

enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Connection {
    async fn send<S>(
        &mut self,
        stream: S,
        http2: bool,
        request: HttpRequest<Empty<Bytes>>,
    ) -> Result<Response<Incoming>, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = TokioIo::new(stream);
        let sent = if http2 { self.send_http2(io, request).await } else { self.send_http1(io, request).await };
        match sent {
            Ok(response) => Ok(response),
            // The driver knows why the connection died before the request could go out.
            Err(error) if error.is_canceled() || error.is_closed() => match self.driver.join_next().await {
                Some(Ok(Err(cause))) => Err(processing_failure(&cause)),
                _ => Err(processing_failure(&error)),
            },
            Err(error) => Err(processing_failure(&error)),
        }
    }

    async fn send_http1<I>(&mut self, io: I, request: HttpRequest<Empty<Bytes>>) -> hyper::Result<Response<Incoming>>
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (mut sender, driver) =
            http1::Builder::new().max_headers(HEADERS_MAX).max_buf_size(HEAD_MAX).handshake(io).await?;
        self.driver.spawn(driver);
        let response = sender.send_request(request).await;
        self.sender = Some(Sender::Http1(sender));
        response
    }

    async fn send_http2<I>(&mut self, io: I, request: HttpRequest<Empty<Bytes>>) -> hyper::Result<Response<Incoming>>
    where
        I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (mut sender, driver) =
            http2::Builder::new(TokioExecutor::new()).max_header_list_size(HEAD_MAX as u32).handshake(io).await?;
        self.driver.spawn(driver);
        let response = sender.send_request(request).await;
        self.sender = Some(Sender::Http2(sender));
        response
    }

    /// Says goodbye where the answer was read to its end; else the connection is simply dropped.
    async fn close(mut self, body: &Body) {
        match self.sender.take() {
            Some(Sender::Http1(sender)) => drop(sender),
            Some(Sender::Http2(sender)) => drop(sender),
            None => {}
        }
        if matches!(body.end, End::Whole) {
            let _ = timeout(CLOSING, self.driver.join_next()).await;
        }
    }
}

/// As much of a body as is read.
struct Body {
    bytes: Vec<u8>,
    /// The answer said how long its body is.
    announced: bool,
    end: End,
}

enum End {
    Whole,
    /// [`BODY_MAX`] was reached.
    Bounded,
    Failed(Failure),
}

async fn read_body(mut incoming: Incoming, limit: Duration) -> Body {
    let announced = incoming.size_hint().exact().is_some();
    let mut bytes = Vec::new();
    let end = timeout(limit, read_frames(&mut incoming, &mut bytes)).await;
    let end = end.unwrap_or_else(|_| {
        let detail = format!("its body did not end within {} ({} bytes had come)", human(limit), bytes.len());
        End::Failed(transfer(ErrorClass::Timeout, detail))
    });
    Body { bytes, announced, end }
}

/// A whole body, of which nothing is kept. What is longer than [`BODY_MAX`] is not read to its end.
pub(crate) async fn read_to_end(response: Response<Incoming>) -> Result<(), Failure> {
    match read_frames(&mut response.into_body(), &mut Vec::new()).await {
        End::Whole => Ok(()),
        End::Bounded => Err(too_large("its body does not end within 1 MiB")),
        End::Failed(failure) => Err(failure),
    }
}

async fn read_frames(incoming: &mut Incoming, bytes: &mut Vec<u8>) -> End {
    while let Some(frame) = incoming.frame().await {
        let data = match frame.map(|frame| frame.into_data()) {
            Ok(Ok(data)) => data,
            Ok(Err(_trailers)) => continue,
            Err(error) => return End::Failed(transfer_failure(&error, bytes.len())),
        };
        let room = BODY_MAX - bytes.len();
        bytes.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            return End::Bounded;
        }
    }
    End::Whole
}

/// What is wrong with the answer: somebody else's page first, then the head, then the body.
fn judge(parts: &Parts, body: &Body, ask: Ask<'_>) -> Exchange {
    let mut http = facts::of_head(parts, ask.endpoint, Timestamp::now());
    http.body_bytes = body.bytes.len() as u64;
    http.body_sha256 = (!body.bytes.is_empty()).then(|| hex(&Sha256::digest(&body.bytes)));
    let expectation = ask.expectation;
    let failure = parked(parts, &http, body, ask)
        .or_else(|| {
            let detail = expectation.status_mismatch(parts.status)?;
            Some(processing(ErrorClass::HttpStatus, with_location(detail, &http)))
        })
        .or_else(|| {
            let detail = expectation.header_mismatch(&parts.headers)?;
            Some(processing(ErrorClass::HeaderMismatch, detail))
        })
        .or_else(|| body_failure(parts, body, ask));
    Exchange { http: Some(http), failure }
}

fn parked(parts: &Parts, http: &HttpFacts, body: &Body, ask: Ask<'_>) -> Option<Failure> {
    if let Some(service) = http.location.as_deref().and_then(parking::parked_redirect) {
        let detail = format!("it redirects to {service}, which parks or sells domains");
        return Some(processing(ErrorClass::Parked, detail));
    }
    // Whoever serves what the operator said to look for is the peer, whatever else the page says.
    if ask.expectation.looks_at_body() && ask.expectation.body_mismatch(&body.bytes).is_none() {
        return None;
    }
    let phrase = parking::parked_page(&ask.endpoint.host(), &parts.headers, &body.bytes)?;
    let detail = format!("it serves the page of a registrar or parking service: {:?}", escape(&phrase));
    Some(transfer(ErrorClass::Parked, detail))
}

fn with_location(detail: String, http: &HttpFacts) -> String {
    match (&http.location, &http.proxy) {
        (Some(location), _) if (300..400).contains(&http.status) => {
            escape(&format!("{detail}; it redirects to {location}, which is not followed"))
        }
        (_, Some(proxy)) if http.status == 407 => escape(&format!("{detail}; a proxy stands between: {proxy}")),
        _ => detail,
    }
}

/// A body longer than [`BODY_MAX`] is judged by what was read. That is enough if the answer announced a length, so that
/// the body has an end, and if nothing that is expected could still lie beyond.
fn body_failure(parts: &Parts, body: &Body, ask: Ask<'_>) -> Option<Failure> {
    // HEAD has the headers of a body and none (RFC 9110, 9.3.2).
    if ask.request.method == crate::request::Method::Head {
        return None;
    }
    let mismatch = || ask.expectation.body_mismatch(&body.bytes);
    match &body.end {
        End::Failed(failure) => Some(failure.clone()),
        End::Bounded if !body.announced => {
            Some(too_large("its body does not end within 1 MiB and does not say how long it is"))
        }
        End::Bounded if ask.expectation.looks_at_body() => {
            let _ = mismatch()?;
            Some(too_large("what is expected of its body is not within the first 1 MiB"))
        }
        End::Bounded => None,
        End::Whole => {
            let detail = mismatch()?;
            Some(transfer(ErrorClass::BodyMismatch, with_encoding(detail, parts)))
        }
    }
}

fn with_encoding(detail: String, parts: &Parts) -> String {
    match parts.headers.get(hyper::header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            let encoding = String::from_utf8_lossy(encoding.as_bytes()).into_owned();
            escape(&format!("{detail}; the body is {encoding}-encoded although plain text was asked for"))
        }
        _ => detail,
    }
}

fn failed(failure: Failure) -> Exchange {
    Exchange { http: None, failure: Some(failure) }
}
