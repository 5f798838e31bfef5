//! Telling people: webhooks and Slack, at least once, always under the same key.
//!
//! A page must leave when name resolution is what broke, so [`http`] finds its way by itself: the system's resolver,
//! then independent ones, then the address that last proved itself. [`delivery`] gives every subscriber a queue and a
//! task of its own, so that a dead one delays nobody.

pub mod delivery;
pub mod http;
mod slack;
#[cfg(test)]
mod tests;
mod webhook;

use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use jiff::Timestamp;
use ukai_core::event::Notification;
use url::Url;

pub use delivery::{Backoff, Delivery};
pub use http::{HttpsClient, HttpsOptions};

use crate::config;
use crate::secret::Secret;

/// One subscriber that can be told.
#[derive(Clone)]
pub struct Notifier {
    name: String,
    kind: Kind,
    url: Url,
    http: HttpsClient,
}

#[derive(Clone)]
enum Kind {
    Webhook { secret: Option<Secret> },
    Slack,
}

/// Why a notification did not arrive, as far as we know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct NotifyError {
    /// False: trying again would get the same answer.
    pub retryable: bool,
    /// How long the subscriber asked us to wait.
    pub retry_after: Option<Duration>,
    /// Names no URL: a URL can be a secret.
    pub detail: String,
}

impl Notifier {
    pub fn new(subscriber: &config::Subscriber, http: HttpsClient) -> Result<Notifier, url::ParseError> {
        let kind = match &subscriber.kind {
            config::SubscriberKind::Webhook { secret } => Kind::Webhook { secret: secret.clone() },
            config::SubscriberKind::Slack => Kind::Slack,
        };
        let url = Url::parse(subscriber.url.expose())?;
        Ok(Notifier { name: subscriber.name.clone(), kind, url, http })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// One attempt. `repeated`: the subscriber may have it already, under the same key.
    pub async fn send(&self, notification: &Notification, repeated: bool) -> Result<(), NotifyError> {
        let sent_at = Timestamp::now();
        let (headers, body) = match &self.kind {
            Kind::Webhook { secret } => webhook::compose(notification, repeated, sent_at, secret.as_ref())?,
            Kind::Slack => (Vec::new(), slack::compose(notification, repeated)),
        };
        let answer = self.http.post(&self.url, headers, body).await?;
        judge(answer)
    }
}

type Headers = Vec<(HeaderName, HeaderValue)>;

/// 2xx is done. 408, 425, 429 and 5xx pass by themselves; every other answer would be the same tomorrow.
fn judge(answer: http::Answer) -> Result<(), NotifyError> {
    let status = answer.status;
    if status.is_success() {
        return Ok(());
    }
    let retryable = status.is_server_error() || matches!(status.as_u16(), 408 | 425 | 429);
    let said = answer.excerpt();
    let detail = match said.is_empty() {
        true => format!("the subscriber answered {status}"),
        false => format!("the subscriber answered {status}: {said}"),
    };
    Err(NotifyError { retryable, retry_after: answer.retry_after, detail })
}
