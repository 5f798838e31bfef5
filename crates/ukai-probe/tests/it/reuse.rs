//! What shows only on a second request, after the first bytes, or without a name.

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use socket2::SockRef;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use ukai_core::diagnose::evidence::{Reached, Reuse};
use ukai_core::observe::{ErrorClass, Stage};
use ukai_probe::{Request, Timeouts};

use crate::authority::{Authority, HOST};
use crate::server::{SOON, Server, Visit, assert_failure, prober, read_head, swallow, text};

const WHOLE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn twice(server: &Server) -> Reuse {
    let timeouts = Timeouts { processing: SOON * 4, ..Timeouts::default() };
    let (endpoint, address) = (server.endpoint("http"), server.address.ip());
    prober(vec![]).reuse(&endpoint, address, &Request::default(), &timeouts).await.unwrap()
}

/// Answers one request, and does this at the second.
async fn at_the_second(then: fn(TcpStream)) -> Server {
    Server::start(move |mut socket| async move {
        read_head(&mut socket).await;
        let _ = socket.write_all(WHOLE).await;
        read_head(&mut socket).await;
        then(socket);
    })
    .await
}

#[tokio::test]
async fn a_connection_that_serves_twice() {
    let server = Server::http(|_| text("ok")).await;
    let reuse = twice(&server).await;
    assert_eq!((reuse.first, reuse.second), (Reached::Yes, Some(Reached::Yes)));
    assert_eq!(server.accepted(), 1, "one connection");
}

#[tokio::test]
async fn a_connection_that_is_cut_when_it_is_used_again() {
    let server = at_the_second(|socket| SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap()).await;
    let reuse = twice(&server).await;
    assert_eq!(reuse.first, Reached::Yes);
    assert!(matches!(reuse.second, Some(Reached::No(_))), "{reuse:?}");
}

#[tokio::test]
async fn a_connection_that_is_silent_or_closed_when_it_is_used_again() {
    let silent = Server::start(|mut socket| async move {
        read_head(&mut socket).await;
        let _ = socket.write_all(WHOLE).await;
        swallow(&mut socket).await;
    })
    .await;
    let told = twice(&silent).await.second;
    assert_eq!(told, Some(Reached::No("it did not answer in time".to_owned())));
    // The request had been read, so it is no close between requests.
    let told = twice(&at_the_second(drop).await).await.second;
    assert!(matches!(&told, Some(Reached::No(how)) if how.contains("without answering")), "{told:?}");
}

#[tokio::test]
async fn an_idle_connection_that_is_reset() {
    let server = Server::start(|mut socket| async move {
        read_head(&mut socket).await;
        let _ = socket.write_all(WHOLE).await;
        SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap();
        // What was written must have arrived: a reset takes along what is still under way.
        tokio::time::sleep(Duration::from_millis(50)).await;
    })
    .await;
    let told = twice(&server).await;
    assert_eq!(told.first, Reached::Yes);
    assert!(matches!(&told.second, Some(Reached::No(how)) if how.contains("reset")), "{told:?}");
}

#[tokio::test]
async fn an_orderly_close_is_no_fault() {
    let server = Server::answering(WHOLE).await;
    let reuse = twice(&server).await;
    assert_eq!((reuse.first, reuse.second), (Reached::Yes, None));
    let later = Server::start(|mut socket| async move {
        read_head(&mut socket).await;
        let _ = socket.write_all(WHOLE).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    })
    .await;
    assert_eq!(twice(&later).await.second, None, "the close comes a moment after the answer");
    for said in [
        &b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"[..],
        b"HTTP/1.1 200 OK\r\nConnection: Foo, Close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let reuse = twice(&Server::saying(said).await).await;
        assert_eq!((reuse.first, reuse.second), (Reached::Yes, None));
    }
}

/// Over TLS, and without the goodbye that TLS asks for (RFC 8446, 6.1).
#[tokio::test]
async fn a_close_under_tls_is_no_fault() {
    let lab = Authority::new("lab");
    let server = Server::tls(lab.leaf(HOST).config(&["http/1.1"]), |mut stream| async move {
        read_head(&mut stream).await;
        let _ = stream.write_all(WHOLE).await;
        let _ = stream.flush().await;
    })
    .await;
    let (endpoint, address) = (server.endpoint("https"), server.address.ip());
    let reuse =
        prober(vec![lab.pem()]).reuse(&endpoint, address, &Request::default(), &Timeouts::default()).await.unwrap();
    assert_eq!((reuse.first, reuse.second), (Reached::Yes, None));
}

#[tokio::test]
async fn an_answer_that_is_too_large_to_read_says_nothing() {
    let server = Server::endless(b"HTTP/1.1 200 OK\r\nContent-Length: 9000000\r\n\r\n", &[b'x'; 8192]).await;
    let (endpoint, address) = (server.endpoint("http"), server.address.ip());
    let told = prober(vec![]).reuse(&endpoint, address, &Request::default(), &Timeouts::default()).await;
    assert_eq!(told, None);
}

#[tokio::test]
async fn a_first_request_that_fails_says_nothing_of_reuse() {
    let server = Server::answering(b"").await;
    let reuse = twice(&server).await;
    assert!(matches!(reuse.first, Reached::No(_)));
    assert_eq!(reuse.second, None);
}

#[tokio::test]
async fn what_may_not_be_contacted_is_not() {
    let server = Server::http(|_| text("ok")).await;
    let endpoint = server.endpoint("http");
    let forbidden = "10.0.0.7".parse().unwrap();
    let (request, timeouts) = (Request::default(), Timeouts::default());
    assert_eq!(prober(vec![]).reuse(&endpoint, forbidden, &request, &timeouts).await, None);
    assert_eq!(prober(vec![]).default_site(&server.endpoint("https"), forbidden, &timeouts).await, None);
}

#[tokio::test]
async fn a_stall_says_how_much_had_come() {
    let timeouts = Timeouts { tls: SOON, processing: SOON, transfer: SOON, ..Timeouts::default() };
    let silent = Server::start(|mut socket| async move { swallow(&mut socket).await }).await;
    let result = Visit::new(&silent, "https").within(timeouts).go().await;
    assert_failure(&result, Stage::Tls, ErrorClass::Timeout);
    assert_eq!(result.stalled_after, Some(0));

    // The head of a record that is never finished (RFC 8446, 5.1).
    let begun = Server::saying(b"\x16\x03\x03\x10\x00\x02\x00").await;
    let result = Visit::new(&begun, "https").within(timeouts).go().await;
    assert_failure(&result, Stage::Tls, ErrorClass::Timeout);
    assert_eq!(result.stalled_after, Some(7));

    let half = Server::start(|mut socket| async move {
        read_head(&mut socket).await;
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\nhalf").await;
        swallow(&mut socket).await;
    })
    .await;
    let result = Visit::new(&half, "http").within(timeouts).go().await;
    assert_failure(&result, Stage::Transfer, ErrorClass::Timeout);
    assert_eq!(result.stalled_after, Some(45));

    let refused = Server::answering(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(refused.probe_http().await.stalled_after, None, "nothing stalled");
}

/// The peer's certificate for who names it, another one for who does not.
#[derive(Debug)]
struct Shared {
    named: Arc<CertifiedKey>,
    default: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Shared {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(if hello.server_name() == Some(HOST) { self.named.clone() } else { self.default.clone() })
    }
}

#[tokio::test]
async fn a_default_site_is_told_from_the_peer() {
    let lab = Authority::new("lab");
    let shared = Shared { named: lab.leaf(HOST).certified(), default: lab.leaf("default.hosting.test").certified() };
    let mut config = lab.leaf(HOST).config(&[]);
    config.cert_resolver = Arc::new(shared);
    let server = Server::tls(config, |mut stream| async move { swallow(&mut stream).await }).await;
    let prober = prober(vec![lab.pem()]);
    let (endpoint, address) = (server.endpoint("tls"), server.address.ip());
    let site = prober.default_site(&endpoint, address, &Timeouts::default()).await.unwrap();
    assert_eq!((site.names, site.is_for_host), (vec!["default.hosting.test".to_owned()], false));
    let probed = server.probe("tls", &lab).await;
    assert!(probed.is_success(), "with the name it is the peer: {probed:?}");

    let alone = Server::tls(lab.leaf(HOST).config(&[]), |mut stream| async move { swallow(&mut stream).await }).await;
    let site = prober.default_site(&alone.endpoint("tls"), alone.address.ip(), &Timeouts::default()).await.unwrap();
    assert!(site.is_for_host);
}
