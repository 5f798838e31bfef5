//! Peers that speak something else than what was asked for.

use ukai_core::observe::{ErrorClass, Stage};

use crate::authority::{Authority, HOST};
use crate::server::{Server, assert_failure, swallow, text};

/// A fatal alert in a record of TLS 1.2 (RFC 8446, 5.1 and 6).
macro_rules! alert {
    ($description:literal) => {
        &[21, 3, 3, 0, 2, 2, $description]
    };
}

#[tokio::test]
async fn alerts_are_named() {
    let lab = Authority::new("lab");
    let server = Server::saying(alert!(40)).await;
    let result = server.probe("https", &lab).await;
    let detail = assert_failure(&result, Stage::Tls, ErrorClass::TlsAlert);
    assert_eq!(detail, "it ended TLS with the alert handshake_failure");

    let server = Server::saying(alert!(112)).await;
    let result = server.probe("https", &lab).await;
    let detail = assert_failure(&result, Stage::Tls, ErrorClass::TlsAlert);
    assert!(detail.contains("unrecogni"), "{detail}");
}

#[tokio::test]
async fn old_versions_of_tls_are_told_apart() {
    let lab = Authority::new("lab");
    let server = Server::saying(alert!(70)).await;
    let result = server.probe("https", &lab).await;
    assert_failure(&result, Stage::Tls, ErrorClass::TlsVersion);

    let server = Server::saying(SERVER_HELLO_TLS_1_0).await;
    let result = server.probe("https", &lab).await;
    assert_failure(&result, Stage::Tls, ErrorClass::TlsVersion);
    assert_eq!(result.identity, None);
}

#[tokio::test]
async fn plain_http_on_a_tls_port() {
    let server = Server::saying(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
    let result = server.probe("https", &Authority::new("lab")).await;
    let detail = assert_failure(&result, Stage::Tls, ErrorClass::Protocol);
    assert_eq!(detail, "what answers on this port does not speak TLS");
}

#[tokio::test]
async fn tls_on_a_plain_port() {
    let server = Server::saying(alert!(80)).await;
    assert_failure(&server.probe_http().await, Stage::Processing, ErrorClass::Protocol);
}

#[tokio::test]
async fn something_that_is_not_http() {
    for junk in [
        &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"\x00\x01\x02\x03\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    ] {
        let server = Server::answering(junk).await;
        assert_failure(&server.probe_http().await, Stage::Processing, ErrorClass::Protocol);
    }
}

#[tokio::test]
async fn http2_was_agreed_and_something_else_is_spoken() {
    use tokio::io::AsyncWriteExt;

    let lab = Authority::new("lab");
    let server = Server::tls(lab.leaf(HOST).config(&["h2"]), |mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        swallow(&mut stream).await;
    })
    .await;
    let result = server.probe("https", &lab).await;
    assert_failure(&result, Stage::Processing, ErrorClass::Protocol);
}

#[tokio::test]
async fn a_goaway_is_an_end_with_a_reason() {
    use tokio::io::AsyncWriteExt;

    // SETTINGS, then GOAWAY with ENHANCE_YOUR_CALM (RFC 9113, 6.8).
    const FRAMES: &[u8] = &[
        0, 0, 0, 4, 0, 0, 0, 0, 0, //
        0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11,
    ];
    let lab = Authority::new("lab");
    let server = Server::tls(lab.leaf(HOST).config(&["h2"]), |mut stream| async move {
        let _ = stream.write_all(FRAMES).await;
        let _ = stream.flush().await;
        swallow(&mut stream).await;
    })
    .await;
    let result = server.probe("https", &lab).await;
    let detail = assert_failure(&result, Stage::Processing, ErrorClass::Reset);
    assert!(detail.contains("ENHANCE_YOUR_CALM"), "{detail}");
}

#[tokio::test]
async fn a_protocol_that_nobody_offered() {
    let lab = Authority::new("lab");
    let server = Server::https(lab.leaf(HOST).config(&["spdy/3"]), |_| text("ok")).await;
    let result = server.probe("https", &lab).await;
    let detail = assert_failure(&result, Stage::Tls, ErrorClass::TlsAlert);
    assert_eq!(detail, "it ended TLS with the alert no_application_protocol");
}

/// A ServerHello of TLS 1.0 with `TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA` (RFC 2246, 7.4.1.3).
const SERVER_HELLO_TLS_1_0: &[u8] = &[
    22, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1, //
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, //
    1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, //
    0, 0xc0, 0x13, 0,
];
