//! Metrics that the application posts, at most 1 MB a request, before and after gzip.
//!
//! | path | body | good | wrong |
//! | --- | --- | --- | --- |
//! | `/v1/metrics` | OTLP, protobuf or JSON | 200 `ExportMetricsServiceResponse`, points refused in it | 4xx `google.rpc.Status` |
//! | `/v1/emf` | lines of the embedded metric format | 200 `{"lines","data","refused","errors":[{"line","error"}]}` | 400, the same, where no line is good |
//! | `/v1/metric-data` | `PutMetricData` in JSON | 204 | 400 `{"__type","message"}`, nothing taken |
//!
//! Where there is no room, 429 and `Retry-After`: nothing was taken, and the same request may be sent again.

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{self, HeaderMap};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::{Semaphore, SemaphorePermit};
use ukai_core::metric::datum::REQUEST_BYTES_MAX;

use super::door::{Answer, JSON, Refusal, refused};
use crate::metrics::otlp::{self, Encoding, OtlpError, OtlpReceiver};
use crate::metrics::put::{self, Code};
use crate::metrics::{InflateError, Intake, emf, inflate};

pub const OTLP_PATH: &str = "/v1/metrics";
pub const EMF_PATH: &str = "/v1/emf";
pub const METRIC_DATA_PATH: &str = "/v1/metric-data";
/// Bodies that are read and parsed at the same time: what they take in memory is bounded by this.
const BODIES: usize = 8;
/// Data of one request of EMF lines: less than the queue holds.
const DATA_PER_REQUEST: usize = 20_000;
/// Lines whose errors an answer tells.
const ERRORS_TOLD: usize = 20;
const FULL: &str = "more metrics than can be taken now; try again in a second";

#[derive(Debug)]
pub struct Metrics {
    intake: Intake,
    otlp: OtlpReceiver,
    slots: Semaphore,
}

impl Metrics {
    pub fn new(intake: Intake, otlp: OtlpReceiver) -> Metrics {
        Metrics { intake, otlp, slots: Semaphore::new(BODIES) }
    }

    /// Held while a body is read and parsed. None: the semaphore is never closed.
    pub async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        self.slots.acquire().await.ok()
    }

    pub fn otlp(&self, body: &[u8], encoding: Encoding) -> Result<Answer, Refusal> {
        match self.otlp.take(body, encoding, Timestamp::now()) {
            Ok(answer) => Ok(Answer(StatusCode::OK, encoding.content_type(), answer)),
            Err(error) => {
                if error != OtlpError::Full {
                    self.intake.refuse(otlp::SOURCE, 1, &error.to_string());
                }
                let status = match error {
                    OtlpError::Undecodable(_) => StatusCode::BAD_REQUEST,
                    OtlpError::TooMany => StatusCode::PAYLOAD_TOO_LARGE,
                    OtlpError::Full => StatusCode::TOO_MANY_REQUESTS,
                };
                Err(refused(status, error.to_string()))
            }
        }
    }

    pub fn emf(&self, body: &[u8]) -> Result<Answer, Refusal> {
        let now = Timestamp::now();
        let (mut lines, mut data, mut errors) = (0, Vec::new(), Vec::new());
        for (index, line) in body.split(|byte| *byte == b'\n').enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            lines += 1;
            match emf::parse(line, now) {
                Ok(parsed) => data.extend(parsed),
                Err(error) => errors.push((index + 1, error.to_string())),
            }
            if data.len() > DATA_PER_REQUEST {
                let sentence = format!("a request yields at most {DATA_PER_REQUEST} data; send fewer lines at once");
                return Err(refused(StatusCode::PAYLOAD_TOO_LARGE, sentence));
            }
        }
        let (count, refused_lines) = (data.len(), errors.len());
        self.intake.try_put("EMF", data).map_err(|_| refused(StatusCode::TOO_MANY_REQUESTS, FULL))?;
        for (line, error) in &errors {
            self.intake.refuse("EMF", 1, &format!("line {line}: {error}"));
        }
        errors.truncate(ERRORS_TOLD);
        let errors: Vec<_> = errors.iter().map(|(line, error)| json!({ "line": line, "error": error })).collect();
        let body = json!({ "lines": lines, "data": count, "refused": refused_lines, "errors": errors });
        let is_bad = refused_lines > 0 && refused_lines == lines;
        let status = if is_bad { StatusCode::BAD_REQUEST } else { StatusCode::OK };
        Ok(Answer(status, JSON, body.to_string().into_bytes()))
    }

    pub fn metric_data(&self, body: &[u8]) -> Result<Answer, Refusal> {
        const SOURCE: &str = "PutMetricData";
        let data = match put::parse(body, Timestamp::now()) {
            Ok(data) => data,
            Err(error) => {
                self.intake.refuse(SOURCE, 1, &error.message);
                let status = match error.code {
                    Code::RequestEntityTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
                    _ => StatusCode::BAD_REQUEST,
                };
                let body = json!({ "__type": error.code.name(), "message": error.message });
                return Ok(Answer(status, JSON, body.to_string().into_bytes()));
            }
        };
        self.intake.try_put(SOURCE, data).map_err(|_| refused(StatusCode::TOO_MANY_REQUESTS, FULL))?;
        Ok(Answer(StatusCode::NO_CONTENT, JSON, Vec::new()))
    }
}

/// The body without its gzip.
pub fn plain(headers: &HeaderMap, body: Bytes) -> Result<Bytes, Refusal> {
    let encoding = headers.get(header::CONTENT_ENCODING).map_or("identity", |value| value.to_str().unwrap_or("?"));
    match encoding.trim().to_ascii_lowercase().as_str() {
        "identity" | "" => Ok(body),
        "gzip" | "x-gzip" => match inflate(&body, REQUEST_BYTES_MAX) {
            Ok(plain) => Ok(plain.into()),
            Err(error @ InflateError::TooLarge { .. }) => {
                Err(refused(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()))
            }
            Err(error @ InflateError::Broken) => Err(refused(StatusCode::BAD_REQUEST, error.to_string())),
        },
        _ => Err(refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Content-Encoding must be gzip or identity")),
    }
}
