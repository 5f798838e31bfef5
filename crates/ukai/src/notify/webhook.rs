//! The webhook: a signed JSON body.
//!
//! `Ukai-Signature: t=UNIX,v1=HEX`, where HEX is HMAC-SHA256 with the shared key over `UNIX.BODY`: the time is signed
//! too, so that a receiver can refuse what is older than a few minutes. `Idempotency-Key` is the notification's key
//! and the same on every attempt.

use hmac::{Hmac, Mac};
use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::Sha256;
use ukai_core::event::{Notification, NotificationKind};

use super::{Headers, NotifyError};
use crate::secret::Secret;

pub const SIGNATURE: HeaderName = HeaderName::from_static("ukai-signature");
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What a webhook receives.
#[derive(Debug, Serialize)]
struct Message<'a> {
    /// The idempotency key: whoever has seen it has seen this message.
    key: &'a str,
    /// `alarm`, `muted`, `opened`, `reopened`, `paged`, `diagnosed`, `proposed`, `refused`, `applied`, `confirmed`, `trouble`, `lease_warning`, `ended`,
    /// `closed`.
    kind: NotificationKind,
    /// Somebody must act now.
    page: bool,
    /// The incident's id; null where there is none.
    incident: Option<&'a str>,
    peer: &'a str,
    subject: &'a str,
    text: &'a str,
    /// Of an alarm's action: the message that Amazon SNS would carry, or the event that a Lambda function would get.
    #[serde(skip_serializing_if = "Option::is_none")]
    alarm: Option<&'a RawValue>,
    /// RFC 3339.
    sent_at: Timestamp,
    /// Sent before under the same key, perhaps in vain.
    repeated: bool,
}

pub fn compose(
    notification: &Notification,
    repeated: bool,
    sent_at: Timestamp,
    secret: Option<&Secret>,
) -> Result<(Headers, Bytes), NotifyError> {
    let Notification { key, incident, peer, kind, page, subject, text, alarm } = notification;
    let alarm = alarm.as_deref().map(serde_json::from_str::<&RawValue>).transpose();
    let message = Message {
        key,
        kind: *kind,
        page: *page,
        incident: incident.as_deref(),
        peer,
        subject,
        text,
        alarm: alarm.map_err(|error| permanent(error.to_string()))?,
        sent_at,
        repeated,
    };
    let body = serde_json::to_vec(&message).map_err(|error| permanent(error.to_string()))?;
    let header = |text: &str| HeaderValue::try_from(text).map_err(|error| permanent(error.to_string()));
    let mut headers = vec![(IDEMPOTENCY_KEY, header(key)?)];
    if let Some(secret) = secret {
        headers.push((SIGNATURE, header(&signature(secret, sent_at.as_second(), &body)?)?));
    }
    Ok((headers, Bytes::from(body)))
}

fn signature(secret: &Secret, unix: i64, body: &[u8]) -> Result<String, NotifyError> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).map_err(|error| permanent(error.to_string()))?;
    mac.update(format!("{unix}.").as_bytes());
    mac.update(body);
    let digest = mac.finalize().into_bytes();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("t={unix},v1={hex}"))
}

fn permanent(detail: String) -> NotifyError {
    NotifyError { retryable: false, retry_after: None, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digest is that of `printf '1800000000.{"a":1}' | openssl dgst -sha256 -hmac hunter2`.
    #[test]
    fn the_signature_is_what_others_compute() {
        let signed = signature(&Secret::new("hunter2"), 1_800_000_000, b"{\"a\":1}").unwrap();
        assert_eq!(signed, "t=1800000000,v1=b454ca5418b33f280fa7e66ff1206e7c72bab5bc10d681cb0875a1bfdf9be7dd");
    }
}
