//! Peers that never end, end too early, or send more than anybody should read.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use ukai_core::diagnose::evidence::Reached;
use ukai_core::observe::{AddressResult, ErrorClass, Stage};
use ukai_probe::{Expectation, JsonExpectation, Request, Timeouts};

use crate::authority::{Authority, HOST};
use crate::server::{SOON, Server, Visit, assert_failure, assert_success, prober, swallow, text};

const MEBIBYTE: u64 = 1 << 20;

/// A chunk of 1 KiB (RFC 9112, 7.1).
const CHUNK: [u8; 1031] = {
    let mut chunk = [b'x'; 1031];
    [chunk[0], chunk[1], chunk[2], chunk[3], chunk[4]] = *b"400\r\n";
    [chunk[1029], chunk[1030]] = *b"\r\n";
    chunk
};

#[tokio::test]
async fn a_header_without_end_is_not_read_to_its_end() {
    let server = Server::endless(b"HTTP/1.1 200 OK\r\nX-Long: ", &[b'x'; 8192]).await;
    let result = server.probe_http().await;
    assert_failure(&result, Stage::Processing, ErrorClass::TooLarge);

    let server = Server::endless(b"HTTP/1.1 200 OK\r\n", b"X-Again: and again\r\n").await;
    let result = server.probe_http().await;
    assert_failure(&result, Stage::Processing, ErrorClass::TooLarge);
}

#[tokio::test]
async fn informational_answers_without_end_run_out_of_time() {
    let server = Server::endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n").await;
    let timeouts = Timeouts { processing: SOON, ..Timeouts::default() };
    let result = Visit::new(&server, "http").within(timeouts).go().await;
    assert_failure(&result, Stage::Processing, ErrorClass::Timeout);
}

#[tokio::test]
async fn a_large_head_over_http2() {
    let lab = Authority::new("lab");
    // h2 does not tell a head just beyond the bound from a malformed one.
    for (headers, class) in [(9, ErrorClass::Protocol), (40, ErrorClass::TooLarge)] {
        let server = Server::https(lab.leaf(HOST).config(&["h2"]), move |_| {
            let mut response = Response::new(Full::from(Bytes::new()));
            for index in 0..headers {
                let name = hyper::header::HeaderName::try_from(format!("x-{index}")).unwrap();
                response.headers_mut().insert(name, "y".repeat(8_000).parse().unwrap());
            }
            response
        })
        .await;
        let result = server.probe("https", &lab).await;
        let detail = assert_failure(&result, Stage::Processing, class);
        assert!(detail.starts_with("the head of its answer is larger than"), "{detail}");
        assert!(result.http.is_none());
    }
}

#[tokio::test]
async fn a_body_without_end_is_cut_at_the_bound() {
    let endless: [(&[u8], &[u8]); 3] = [
        (b"HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 8192]),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n", &[b'x'; 8192]),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", &CHUNK),
    ];
    for (first, again) in endless {
        let server = Server::endless(first, again).await;
        let result = server.probe_http().await;
        assert_failure(&result, Stage::Transfer, ErrorClass::TooLarge);
        assert_eq!(result.http.unwrap().body_bytes, MEBIBYTE);
    }
}

#[tokio::test]
async fn a_chunk_extension_without_end() {
    let first = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;";
    let server = Server::endless(first, &[b'e'; 8192]).await;
    let result = server.probe_http().await;
    assert_failure(&result, Stage::Transfer, ErrorClass::Protocol);
    assert_eq!(result.http.unwrap().body_bytes, 0);
}

#[tokio::test]
async fn a_long_body_that_says_so_is_judged_by_what_was_read() {
    let first = b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\nstart ";
    let server = Server::endless(first, &[b'x'; 8192]).await;
    assert_success(&expecting(&server, Expectation::default()).await);

    let found = Expectation::default().body_containing("start").unwrap();
    assert_success(&expecting(&server, found).await);

    let missing = Expectation::default().body_containing("end").unwrap();
    let result = expecting(&server, missing).await;
    assert_failure(&result, Stage::Transfer, ErrorClass::TooLarge);

    let json = JsonExpectation::exists("$.status").unwrap();
    let json = Expectation { body_json: Some(json), ..Expectation::default() };
    let result = expecting(&server, json).await;
    assert_failure(&result, Stage::Transfer, ErrorClass::TooLarge);
}

#[tokio::test]
async fn a_body_that_ends_early_is_cut_off() {
    for answer in [
        &b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"[..],
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf",
    ] {
        let server = Server::answering(answer).await;
        let result = server.probe_http().await;
        let detail = assert_failure(&result, Stage::Transfer, ErrorClass::CutOff);
        assert_eq!(detail, "its body ended after 4 bytes, before the body was whole");
        assert_eq!(result.http.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_body_of_broken_chunks_breaks_the_rules() {
    let server = Server::answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n").await;
    let result = server.probe_http().await;
    assert_failure(&result, Stage::Transfer, ErrorClass::Protocol);
}

#[tokio::test]
async fn a_slow_body_runs_out_of_time() {
    let server = Server::start(|mut socket| async move {
        use tokio::io::AsyncWriteExt;
        crate::server::read_head(&mut socket).await;
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome";
        let _ = socket.write_all(head).await;
        crate::server::swallow(&mut socket).await;
    })
    .await;
    let timeouts = Timeouts { transfer: SOON, ..Timeouts::default() };
    let result = Visit::new(&server, "http").within(timeouts).go().await;
    let detail = assert_failure(&result, Stage::Transfer, ErrorClass::Timeout);
    assert!(detail.ends_with("(4 bytes had come)"), "{detail}");
    assert_eq!(result.http.unwrap().body_bytes, 4);
}

#[tokio::test]
async fn nothing_that_a_peer_says_steers_a_terminal() {
    let server = Server::answering(
        b"HTTP/1.1 302 Found\r\nServer: \xff\xe2\x80\xae\r\nVia: \xc2\x9b2J\r\n\
          Location: http://[\x80\r\nContent-Length: 0\r\n\r\n",
    )
    .await;
    let result = server.probe_http().await;
    let http = result.http.unwrap();
    for told in [http.server.unwrap(), http.proxy.unwrap(), http.location.unwrap()] {
        assert!(told.chars().count() <= 200);
        assert!(!told.chars().any(|character| character.is_control() || character == '\u{202e}'), "{told:?}");
    }
}

/// Shows this in place of the leaf's certificate.
async fn showing(lab: &Authority, certificate: Vec<u8>) -> Server {
    let leaf = lab.leaf(HOST);
    let mut config = leaf.config(&[]);
    let key = leaf.certified().key.clone();
    let shown = CertifiedKey::new(vec![CertificateDer::from(certificate)], key);
    config.cert_resolver = Arc::new(SingleCertAndKey::from(shown));
    Server::https(config, |_| text("ok")).await
}

#[tokio::test]
async fn certificates_that_cannot_be_read() {
    let lab = Authority::new("lab");
    let whole = lab.leaf(HOST).chain[0].to_vec();
    let mut spoilt = vec![vec![0], b"no certificate".to_vec(), vec![0x30; 200], [&whole[..], b"more"].concat()];
    spoilt.extend((1..whole.len()).step_by(23).map(|length| whole[..length].to_vec()));
    spoilt.extend((0..whole.len()).step_by(29).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0xff;
        bytes
    }));
    let prober = prober(vec![lab.pem()]);
    for certificate in spoilt {
        let server = showing(&lab, certificate.clone()).await;
        let result = server.probe("https", &lab).await;
        let failure = result.failure.unwrap_or_else(|| panic!("{certificate:x?} passes"));
        assert_eq!(failure.stage, Stage::Tls, "{}", failure.detail);
        assert!(!result.identity.is_some_and(|identity| identity.verified));
        let (endpoint, address) = (server.endpoint("https"), server.address.ip());
        let site = prober.default_site(&endpoint, address, &Timeouts::default()).await;
        assert!(!site.is_some_and(|site| site.is_for_host));
    }
    let server = showing(&lab, b"no certificate".to_vec()).await;
    let detail = server.probe("https", &lab).await;
    assert_eq!(detail.identity, None);
    assert_eq!(assert_failure(&detail, Stage::Tls, ErrorClass::Protocol), "its TLS certificate cannot be read");
}

/// Whoever takes a connection and says nothing holds nobody up.
#[tokio::test]
async fn a_silent_host_is_asked_nothing_further() {
    let silent = Server::start(|mut socket| async move { swallow(&mut socket).await }).await;
    let timeouts = Timeouts { tls: SOON, processing: SOON, transfer: SOON, ..Timeouts::default() };
    let prober = prober(vec![]);
    let address = silent.address.ip();
    for scheme in ["http", "https"] {
        let told = prober.reuse(&silent.endpoint(scheme), address, &Request::default(), &timeouts).await.unwrap();
        assert!(matches!(told.first, Reached::No(_)), "{told:?}");
        assert_eq!(told.second, None);
    }
    assert_eq!(prober.default_site(&silent.endpoint("https"), address, &timeouts).await, None);
}

#[tokio::test]
async fn a_head_without_end_on_a_connection_that_was_to_be_used_again() {
    let server = Server::endless(b"HTTP/1.1 200 OK\r\nX-Long: ", &[b'x'; 8192]).await;
    let (endpoint, address) = (server.endpoint("http"), server.address.ip());
    let told = prober(vec![]).reuse(&endpoint, address, &Request::default(), &Timeouts::default()).await.unwrap();
    assert!(matches!(&told.first, Reached::No(why) if why.contains("larger than")), "{told:?}");
}

async fn expecting(server: &Server, expectation: Expectation) -> AddressResult {
    Visit::new(server, "http").expecting(expectation).go().await
}
