//! OTLP/HTTP metrics, as an OpenTelemetry SDK or collector posts them, in protobuf or JSON.
//!
//! | what comes | what it becomes |
//! | --- | --- |
//! | gauge; sum that may fall, cumulative | the value as it is |
//! | sum, delta | the value |
//! | sum that only grows, cumulative | what came since the last point ([`streams`]) |
//! | histogram with buckets | values with counts, in the middle of each bucket (`metrics::buckets`) |
//! | histogram without | a statistic set where it has minimum and maximum of its own time, else its mean, counted |
//! | exponential histogram, summary | refused by name in `partial_success` |
//!
//! The dimensions are the resource's `service.name` and the point's own attributes, or those that
//! `metrics.otlp.dimensions` lists; arrays and maps are no dimensions, and empty texts are left out. Units are translated
//! from UCUM where CloudWatch has the same, otherwise there is none. All of it is kept by the second.
//!
//! A point is refused alone; the answer is then still 200, with how many were refused and why, and the client must not
//! send them again (OTLP 1.x, "Partial Success"). A request that there is no room for is refused whole, with 429.

mod points;
mod streams;
mod units;
mod wire;

use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use prost::Message;
use tokio::sync::watch;
use ukai_core::metric::Namespace;

use super::{Intake, said};
use points::Points;
use streams::Streams;
use wire::{ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse, Status};

/// Data of one request: far more than an SDK collects, and less than the queue holds.
const DATA_PER_REQUEST: usize = 20_000;
pub const SOURCE: &str = "OTLP";

/// `[metrics.otlp]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    pub namespace: Namespace,
    /// None: `service.name` and the point's attributes.
    pub dimensions: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Protobuf,
    Json,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OtlpError {
    #[error("the body is not an ExportMetricsServiceRequest: {0}")]
    Undecodable(String),
    #[error("a request holds at most {DATA_PER_REQUEST} data points; send fewer at once")]
    TooMany,
    #[error("more metrics than can be taken now; try again in a second")]
    Full,
}

#[derive(Debug)]
pub struct OtlpReceiver {
    options: watch::Receiver<Options>,
    intake: Intake,
    /// Also holds back a second request while the first is decoded, which takes fifty times its bytes at worst.
    streams: Mutex<Streams>,
}

impl OtlpReceiver {
    pub fn new(options: watch::Receiver<Options>, intake: Intake, now: Timestamp) -> OtlpReceiver {
        OtlpReceiver { options, intake, streams: Mutex::new(Streams::new(now)) }
    }

    /// The body of the answer.
    pub fn take(&self, body: &[u8], encoding: Encoding, now: Timestamp) -> Result<Vec<u8>, OtlpError> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let request = decode(body, encoding)?;
        let options = self.options.borrow().clone();
        let mut points = Points::new(&options, streams.stage(now), now);
        points.take(request)?;
        let (data, refusals, changes) = points.finish();
        self.intake.try_put(SOURCE, data).map_err(|_| OtlpError::Full)?;
        streams.commit(changes);
        drop(streams);
        let partial_success = refusals.message().map(|error_message| {
            self.intake.refuse(SOURCE, refusals.count, &error_message);
            let rejected_data_points = i64::try_from(refusals.count).unwrap_or(i64::MAX);
            ExportMetricsPartialSuccess { rejected_data_points, error_message }
        });
        Ok(encode(&ExportMetricsServiceResponse { partial_success }, encoding))
    }
}

impl Encoding {
    /// By the media type; parameters are passed over.
    pub fn of(content_type: &str) -> Option<Encoding> {
        match content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "application/x-protobuf" => Some(Encoding::Protobuf),
            "application/json" => Some(Encoding::Json),
            _ => None,
        }
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Encoding::Protobuf => "application/x-protobuf",
            Encoding::Json => "application/json",
        }
    }
}

/// `google.rpc.Status` for a refused request. The code is that of gRPC which OTLP sets beside the HTTP status.
pub fn status(http: u16, message: &str, encoding: Encoding) -> Vec<u8> {
    let code = match http {
        401 => 16,
        408 => 4,
        413 | 429 => 8,
        503 => 14,
        _ => 3,
    };
    encode(&Status { code, message: message.to_owned() }, encoding)
}

fn encode(message: &(impl Message + serde::Serialize), encoding: Encoding) -> Vec<u8> {
    match encoding {
        Encoding::Protobuf => message.encode_to_vec(),
        Encoding::Json => serde_json::to_vec(message).unwrap_or_default(),
    }
}

fn decode(body: &[u8], encoding: Encoding) -> Result<ExportMetricsServiceRequest, OtlpError> {
    match encoding {
        Encoding::Protobuf => {
            ExportMetricsServiceRequest::decode(body).map_err(|error| OtlpError::Undecodable(said(&error)))
        }
        Encoding::Json => serde_json::from_slice(body).map_err(|error| OtlpError::Undecodable(said(&error))),
    }
}

#[cfg(test)]
mod tests;
