//! Prometheus targets, scraped.
//!
//! A counter becomes what it grew by since the scrape before, and all it holds where it started again; so the first
//! scrape of a series yields nothing of it. A gauge, a quantile of a summary and whatever has no type are taken as they
//! are. A histogram's buckets become values with counts ([`super::buckets`]) under the family's name, and its `_sum` and
//! `_count` are counters. NaN and infinities are passed over: Prometheus means "stale" or "nothing yet" by them.
//!
//! The labels are the dimensions, with `instance` (host and port) added as Prometheus adds it; a label of that name
//! becomes `exported_instance`. Each scrape also puts `up`, 1 or 0, as the guide advises: silence of the scraper and of
//! the target can then be told apart. The units come from the names' endings, by Prometheus' convention.

mod exposition;
mod reading;

use std::time::Duration;

use hyper::header::{self, HeaderValue};
use jiff::Timestamp;
use tokio::time::MissedTickBehavior;
use ukai_core::metric::{Datum, Dimensions, Namespace, Unit};
use url::Url;

use super::Intake;
use crate::notify::HttpsClient;
use crate::secret::Secret;
use exposition::Format;
use reading::Reading;

/// A large node exporter answers with 200 KB.
const BODY_BYTES: usize = 16 * 1024 * 1024;
/// Looking up, connecting and reading; no more than the interval, where that gives a busy target a fair chance.
const TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT_LEAST: Duration = Duration::from_secs(3);
/// Above this the interval is long enough for data by the minute.
const HIGH_RESOLUTION_BELOW: Duration = Duration::from_secs(60);
const ACCEPT: &str = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

/// `[[metrics.scrape]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub url: Url,
    pub interval: Duration,
    pub namespace: Namespace,
    /// Empty: everything, up to the bound.
    pub keep: Vec<Keep>,
    pub token: Option<Secret>,
}

/// `"name"`, or `"beginning*"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keep {
    text: String,
    is_prefix: bool,
}

impl Keep {
    pub fn new(written: &str) -> Keep {
        let prefix = written.strip_suffix('*');
        Keep { text: prefix.unwrap_or(written).to_owned(), is_prefix: prefix.is_some() }
    }

    fn takes(&self, name: &str) -> bool {
        if self.is_prefix { name.starts_with(&self.text) } else { name == self.text }
    }
}

impl Target {
    /// As Prometheus writes it.
    fn instance(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        self.url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

/// Scrapes until the daemon is gone. The first scrape comes after a random part of the interval, so that many targets
/// are not scraped at once.
pub async fn run(target: Target, client: HttpsClient, intake: Intake) {
    let spread = target.interval.mul_f64(fastrand::f64());
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + spread, target.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let source = format!("scrape of {}", target.instance());
    let mut reading = Reading::new(&target);
    let mut was_up = true;
    loop {
        ticks.tick().await;
        let fetched = fetch(&target, &client).await;
        let now = Timestamp::now();
        match &fetched {
            Err(why) if was_up => tracing::warn!("{source} failed: {why}"),
            Ok(_) if !was_up => tracing::info!("{source} answers again"),
            _ => {}
        }
        was_up = fetched.is_ok();
        let mut data: Vec<Datum> = up(&target, now, was_up).into_iter().collect();
        if let Ok((text, format)) = &fetched {
            let read = reading.read(text, *format, now);
            data.extend(read.data);
            if let Some(why) = read.first_refusal {
                intake.refuse(&source, read.refused, &why);
            }
        }
        if intake.put(&source, data).await.is_err() {
            return;
        }
    }
}

fn up(target: &Target, now: Timestamp, is_up: bool) -> Option<Datum> {
    let dimensions = Dimensions::new([("instance", target.instance())]).ok()?;
    let value = f64::from(u8::from(is_up));
    let datum = Datum::single(&target.namespace, "up", dimensions, now, value, Unit::None).ok()?;
    Some(Datum { high_resolution: target.interval < HIGH_RESOLUTION_BELOW, ..datum })
}

async fn fetch(target: &Target, client: &HttpsClient) -> Result<(String, Format), String> {
    let mut headers = vec![(header::ACCEPT, HeaderValue::from_static(ACCEPT))];
    if let Some(token) = &target.token {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .map_err(|_| "the token cannot be sent in a header".to_owned())?;
        value.set_sensitive(true);
        headers.push((header::AUTHORIZATION, value));
    }
    let answer = client.get(&target.url, headers, target.interval.clamp(TIMEOUT_LEAST, TIMEOUT), BODY_BYTES).await;
    let answer = answer.map_err(|error| error.to_string())?;
    if !answer.status.is_success() {
        return Err(format!("the answer is {}", answer.status));
    }
    let body = answer.body.ok_or_else(|| format!("the body was cut, or is longer than {BODY_BYTES} bytes"))?;
    let text = String::from_utf8(body.into()).map_err(|_| "the body is not UTF-8".to_owned())?;
    let kind = answer.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_open = kind.trim_start().starts_with("application/openmetrics-text");
    Ok((text, if is_open { Format::OpenMetrics } else { Format::Text }))
}

#[cfg(test)]
mod tests;
