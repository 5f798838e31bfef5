//! What every request must be before it is looked at: within the rate, to a path that exists, with the token, and no
//! larger than its path allows.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use ukai_core::metric::datum::REQUEST_BYTES_MAX;

use super::Destinations;
use super::calls::{self, Calls};
use super::metrics::{self, Metrics};
use super::rate::Rate;
use crate::metrics::otlp::{self, Encoding};
use crate::secret::Secret;

const BODY_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub struct Door {
    token: Secret,
    rate: Mutex<Rate>,
    calls: Calls,
    metrics: Metrics,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Calls,
    Otlp,
    Emf,
    MetricData,
}

impl Route {
    fn of(path: &str) -> Option<Route> {
        match path {
            calls::PATH => Some(Route::Calls),
            metrics::OTLP_PATH => Some(Route::Otlp),
            metrics::EMF_PATH => Some(Route::Emf),
            metrics::METRIC_DATA_PATH => Some(Route::MetricData),
            _ => None,
        }
    }

    fn body_bytes(self) -> usize {
        if self == Route::Calls { calls::BODY_BYTES } else { REQUEST_BYTES_MAX }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Refusal(pub StatusCode, pub String);

pub fn refused(status: StatusCode, sentence: impl Into<String>) -> Refusal {
    Refusal(status, sentence.into())
}

/// Status, media type and body.
#[derive(Debug)]
pub struct Answer(pub StatusCode, pub &'static str, pub Vec<u8>);

pub const JSON: &str = "application/json";

impl Door {
    pub fn new(token: Secret, destinations: Destinations) -> Door {
        let Destinations { hosts, calls, intake, otlp } = destinations;
        let rate = Mutex::new(Rate::full(Instant::now()));
        Door { token, rate, calls: Calls { hosts, calls }, metrics: Metrics::new(intake, otlp) }
    }

    /// When nobody takes calls any more.
    pub async fn closed(&self) {
        self.calls.calls.closed().await;
    }

    pub async fn answer<B>(self: Arc<Door>, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let is_otlp = Route::of(request.uri().path()) == Some(Route::Otlp);
        let encoding = is_otlp.then(|| encoding(request.headers()).unwrap_or(Encoding::Json));
        let answer = self.take(request).await.unwrap_or_else(|Refusal(status, sentence)| match encoding {
            Some(encoding) => {
                let body = otlp::status(status.as_u16(), &sentence, encoding);
                Answer(status, encoding.content_type(), body)
            }
            None => Answer(status, JSON, serde_json::json!({ "error": sentence }).to_string().into_bytes()),
        });
        response(answer)
    }

    async fn take<B>(self: Arc<Door>, request: Request<B>) -> Result<Answer, Refusal>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if !self.rate.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()) {
            return Err(refused(
                StatusCode::TOO_MANY_REQUESTS,
                "too many requests; report calls in arrays, or a sample of them, and metrics in batches",
            ));
        }
        let Some(route) = Route::of(request.uri().path()) else {
            let paths = [calls::PATH, metrics::OTLP_PATH, metrics::EMF_PATH, metrics::METRIC_DATA_PATH];
            return Err(refused(StatusCode::NOT_FOUND, format!("there is only this here: {}", paths.join(", "))));
        };
        if request.method() != Method::POST {
            return Err(refused(StatusCode::METHOD_NOT_ALLOWED, "calls and metrics are sent with POST"));
        }
        if !self.is_authorised(request.headers().get(header::AUTHORIZATION)) {
            let sentence = match request.headers().contains_key(header::AUTHORIZATION) {
                true => "this is not the token of [application]; it is sent as `Authorization: Bearer TOKEN`",
                false => "send the token as `Authorization: Bearer TOKEN`",
            };
            return Err(refused(StatusCode::UNAUTHORIZED, sentence));
        }
        let (parts, body) = request.into_parts();
        if route == Route::Calls {
            self.calls.take(&read(body, route.body_bytes()).await?)?;
            return Ok(Answer(StatusCode::NO_CONTENT, JSON, Vec::new()));
        }
        let encoding = encoding(&parts.headers);
        if route == Route::Otlp && encoding.is_none() {
            let sentence = "Content-Type must be application/x-protobuf or application/json";
            return Err(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, sentence));
        }
        let _slot = self.metrics.slot().await;
        let body = read(body, route.body_bytes()).await?;
        // Parsing a megabyte takes a while, and must not hold up who else is served.
        let door = Arc::clone(&self);
        let parsing = tokio::task::spawn_blocking(move || {
            let body = metrics::plain(&parts.headers, body)?;
            match (route, encoding) {
                (Route::Otlp, Some(encoding)) => door.metrics.otlp(&body, encoding),
                (Route::Emf, _) => door.metrics.emf(&body),
                _ => door.metrics.metric_data(&body),
            }
        });
        parsing.await.unwrap_or_else(|_| Err(refused(StatusCode::INTERNAL_SERVER_ERROR, "the request was not read")))
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
}

fn encoding(headers: &HeaderMap) -> Option<Encoding> {
    Encoding::of(headers.get(header::CONTENT_TYPE)?.to_str().ok()?)
}

async fn read<B>(body: B, limit: usize) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let too_large = || refused(StatusCode::PAYLOAD_TOO_LARGE, format!("a request holds at most {limit} bytes"));
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(refused(StatusCode::BAD_REQUEST, "the body ended early")),
        Err(_) => Err(refused(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time")),
    }
}

fn response(Answer(status, content_type, body): Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    if status != StatusCode::NO_CONTENT {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    match status {
        StatusCode::UNAUTHORIZED => headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
        StatusCode::METHOD_NOT_ALLOWED => headers.insert(header::ALLOW, HeaderValue::from_static("POST")),
        StatusCode::TOO_MANY_REQUESTS => headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1")),
        _ => None,
    };
    response
}
