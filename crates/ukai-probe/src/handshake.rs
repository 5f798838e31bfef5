//! The `tls` stage: a handshake with the endpoint's real name, and who answered it.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, InvalidMessage, PeerIncompatible};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use ukai_core::observe::{ErrorClass, Failure, Identity, Stage, Timings};

use crate::certificate::names_text;
use crate::counted::Counted;
use crate::endpoint::Endpoint;
use crate::escape::escape;
use crate::request::Request;
use crate::timing::{elapsed_us, human};
use crate::verifier::RecordingVerifier;

/// Whom we trust, and the cryptography to check it with.
#[derive(Debug, Clone)]
pub(crate) struct Trust {
    pub(crate) verifier: Arc<WebPkiServerVerifier>,
    pub(crate) provider: Arc<CryptoProvider>,
}

/// What the handshake yields: the stream or why there is none, and in both cases who answered.
pub(crate) struct Handshake {
    pub(crate) identity: Option<Identity>,
    pub(crate) outcome: Result<TlsStream<Counted>, Failure>,
}

/// What the client says of itself.
#[derive(Clone, Copy)]
pub(crate) struct Hello<'a> {
    /// The server's name is sent (RFC 6066, 3). Without it a shared host shows its default certificate.
    pub(crate) server_name: bool,
    /// Application protocols that are offered (RFC 7301).
    pub(crate) protocols: &'a [&'a [u8]],
}

pub(crate) async fn handshake(
    stream: Counted,
    endpoint: &Endpoint,
    request: &Request,
    trust: &Trust,
    hello: Hello<'_>,
    limit: Duration,
    timings: &mut Timings,
) -> Handshake {
    let verifier = Arc::new(RecordingVerifier::new(Arc::clone(&trust.verifier)));
    let prepared = client_config(request, trust, hello, Arc::clone(&verifier));
    let (config, name) = match (prepared, endpoint.server_name()) {
        (Ok(config), Ok(name)) => (config, name),
        (Err(error), _) => return unprepared(&error.to_string()),
        (_, Err(error)) => return unprepared(&error.to_string()),
    };
    let started = Instant::now();
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let outcome = timeout(limit, connecting).await;
    timings.tls_us = Some(elapsed_us(started));
    let identity = verifier.identity();
    match outcome {
        Ok(Ok(stream)) => {
            Handshake { identity: identity.map(|identity| negotiated(identity, &stream)), outcome: Ok(stream) }
        }
        Ok(Err(error)) => {
            let shown = Shown {
                identity: identity.as_ref(),
                host: endpoint.host(),
                self_issued: verifier.is_self_issued(),
                lacks_key: verifier.lacks_key(),
            };
            let failure = io_failure(&error, &shown);
            Handshake { identity, outcome: Err(failure) }
        }
        Err(_) => {
            let detail = format!("the TLS handshake did not finish within {}", human(limit));
            Handshake { identity, outcome: Err(tls_failure(ErrorClass::Timeout, detail)) }
        }
    }
}

/// A fault of TLS that came to light after the handshake, such as an alert about our client certificate (RFC 8446, 6.2).
pub(crate) fn late_failure(error: &io::Error) -> Option<Failure> {
    let (class, detail) = describe(rustls_error(error)?, &Shown::default());
    Some(tls_failure(class, detail))
}

/// What the far side showed before the handshake failed.
#[derive(Default)]
struct Shown<'a> {
    identity: Option<&'a Identity>,
    host: String,
    self_issued: bool,
    lacks_key: bool,
}

fn client_config(
    request: &Request,
    trust: &Trust,
    hello: Hello<'_>,
    verifier: Arc<RecordingVerifier>,
) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(&trust.provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match request.presented_certificate() {
        Some(certificate) => builder.with_client_cert_resolver(certificate.resolver()),
        None => builder.with_no_client_auth(),
    };
    // Every probe must see the certificate, which a resumed session does not show.
    config.resumption = Resumption::disabled();
    config.enable_sni = hello.server_name;
    config.alpn_protocols = hello.protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

fn unprepared(reason: &str) -> Handshake {
    let detail = format!("this machine could not begin a TLS handshake: {}", escape(reason));
    Handshake { identity: None, outcome: Err(tls_failure(ErrorClass::Local, detail)) }
}

fn negotiated(mut identity: Identity, stream: &TlsStream<Counted>) -> Identity {
    let (_, connection) = stream.get_ref();
    identity.version =
        connection.protocol_version().and_then(|version| version.as_str().map(|text| text.replace('_', ".")));
    identity.alpn = connection.alpn_protocol().map(crate::escape::escape_bytes);
    identity
}

fn io_failure(error: &io::Error, shown: &Shown<'_>) -> Failure {
    if let Some(error) = rustls_error(error) {
        let (class, detail) = describe(error, shown);
        return tls_failure(class, detail);
    }
    let (class, detail) = match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            (ErrorClass::Reset, "it closed the connection during the TLS handshake".to_owned())
        }
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
            (ErrorClass::Reset, "it reset the connection during the TLS handshake".to_owned())
        }
        io::ErrorKind::TimedOut => (ErrorClass::Timeout, "it fell silent during the TLS handshake".to_owned()),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            (ErrorClass::Unreachable, format!("the route broke during the TLS handshake: {error}"))
        }
        _ => (ErrorClass::Local, format!("this machine failed during the TLS handshake: {error}")),
    };
    tls_failure(class, detail)
}

fn rustls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref::<Error>()
}

fn describe(error: &Error, shown: &Shown<'_>) -> (ErrorClass, String) {
    match error {
        Error::InvalidCertificate(error) => certificate_fault(error, shown),
        Error::AlertReceived(AlertDescription::ProtocolVersion) => {
            (ErrorClass::TlsVersion, "it speaks neither TLS 1.2 nor TLS 1.3 (alert protocol_version)".to_owned())
        }
        Error::AlertReceived(alert) => {
            (ErrorClass::TlsAlert, format!("it ended TLS with the alert {}", alert_name(*alert)))
        }
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => (ErrorClass::TlsVersion, "it speaks neither TLS 1.2 nor TLS 1.3".to_owned()),
        Error::InvalidMessage(
            InvalidMessage::CertificatePayloadTooLarge
            | InvalidMessage::HandshakePayloadTooLarge
            | InvalidMessage::MessageTooLarge,
        ) => (
            ErrorClass::TooLarge,
            "its TLS handshake is too large: a certificate of more than 64 KiB is not read".to_owned(),
        ),
        Error::InvalidMessage(_) => (ErrorClass::Protocol, "what answers on this port does not speak TLS".to_owned()),
        Error::NoCertificatesPresented => (ErrorClass::Protocol, "it presented no TLS certificate".to_owned()),
        Error::FailedToGetCurrentTime | Error::FailedToGetRandomBytes => {
            (ErrorClass::Local, format!("this machine failed during the TLS handshake: {error}"))
        }
        error => (ErrorClass::Protocol, escape(&format!("its TLS handshake breaks the rules: {error}"))),
    }
}

fn certificate_fault(error: &CertificateError, shown: &Shown<'_>) -> (ErrorClass, String) {
    let identity = shown.identity;
    let host = &shown.host;
    let date = |date: fn(&Identity) -> jiff::Timestamp| {
        identity.map_or_else(
            || "an unknown date".to_owned(),
            |identity| date(identity).to_zoned(TimeZone::UTC).strftime("%Y-%m-%d %H:%M UTC").to_string(),
        )
    };
    let issuer = identity.map_or("an unreadable issuer", |identity| identity.issuer.as_str());
    match error {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            let names = identity.map_or_else(|| "another name".to_owned(), names_text);
            (ErrorClass::NameMismatch, escape(&format!("the TLS certificate is for {names}, not {host}")))
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
            ErrorClass::Expired,
            format!(
                "the TLS certificate, or one that it rests on, has expired; its own date is {}",
                date(|identity| identity.not_after)
            ),
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => (
            ErrorClass::NotYetValid,
            format!("the TLS certificate is not valid before {}", date(|identity| identity.not_before)),
        ),
        CertificateError::BadEncoding => (ErrorClass::Protocol, "its TLS certificate cannot be read".to_owned()),
        CertificateError::BadSignature if shown.lacks_key => {
            (ErrorClass::UntrustedIssuer, "it shows a TLS certificate whose key it does not hold".to_owned())
        }
        _ if shown.self_issued => (
            ErrorClass::SelfSigned,
            escape(&format!("the TLS certificate is self-signed by {issuer} and not trusted here")),
        ),
        CertificateError::UnknownIssuer => (
            ErrorClass::UntrustedIssuer,
            escape(&format!("the TLS certificate is from an issuer that is not trusted here: {issuer}")),
        ),
        error => (
            ErrorClass::UntrustedIssuer,
            escape(&format!("the TLS certificate from {issuer} cannot be trusted: {error}")),
        ),
    }
}

/// `HandshakeFailure` as RFC 8446 writes it: `handshake_failure`.
fn alert_name(alert: AlertDescription) -> String {
    let Some(name) = alert.as_str() else {
        return u8::from(alert).to_string();
    };
    let mut out = String::new();
    for (index, character) in name.chars().enumerate() {
        if character.is_ascii_uppercase() && index > 0 {
            out.push('_');
        }
        out.push(character.to_ascii_lowercase());
    }
    out
}

fn tls_failure(class: ErrorClass, detail: String) -> Failure {
    Failure { stage: Stage::Tls, class, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_named_as_the_rfc_names_them() {
        assert_eq!(alert_name(AlertDescription::HandshakeFailure), "handshake_failure");
        assert_eq!(alert_name(AlertDescription::UnrecognisedName), "unrecognised_name");
        assert_eq!(alert_name(AlertDescription::Unknown(200)), "200");
    }
}
