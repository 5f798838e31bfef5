//! The `connect` stage, and connections that end without a word.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use ukai_core::observe::{ErrorClass, Stage};
use ukai_probe::{Endpoint, Expectation, Prober, ProberOptions, Request, Timeouts, explain};

use crate::authority::{Authority, HOST};
use crate::server::{SOON, Server, Visit, assert_failure, assert_success, prober, read_head, swallow};

#[tokio::test]
async fn an_open_port_is_enough_for_tcp() {
    let server = Server::start(|mut socket| async move { swallow(&mut socket).await }).await;
    let result = server.probe("tcp", &Authority::new("any")).await;
    assert_success(&result);
    assert!(result.timings.connect_us.is_some());
    assert_eq!(result.timings.tls_us, None);
    assert!(explain(&server.endpoint("tcp"), &result).contains("accepted a connection"));
}

#[tokio::test]
async fn a_closed_port_refuses() {
    // Bound and not listening: nobody else can get the port meanwhile.
    let socket = bound();
    let result = visit(&socket).await;
    let detail = assert_failure(&result, Stage::Connect, ErrorClass::Refused);
    assert!(detail.starts_with("127.0.0.1 refused the connection to port"), "{detail}");
    assert!(result.timings.connect_us.is_some());
}

#[tokio::test]
async fn a_full_backlog_is_silence() {
    let socket = bound();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap();
    let _fillers = (0..4).map(|_| filler(&address)).collect::<Vec<_>>();
    let result = visit(&socket).await;
    let detail = assert_failure(&result, Stage::Connect, ErrorClass::Timeout);
    assert!(detail.ends_with("did not answer within 150 ms"), "{detail}");
}

#[tokio::test]
async fn ipv6_is_probed_as_ipv4_is() {
    let server = Server::start_at("::1", |mut socket| async move {
        let head = read_head(&mut socket).await;
        let status = if head.contains(&format!("\r\nhost: {HOST}:")) { 200 } else { 421 };
        let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
        let _ = socket.write_all(answer.as_bytes()).await;
        swallow(&mut socket).await;
    })
    .await;
    let result = server.probe_http().await;
    assert_success(&result);
    assert_eq!(result.address.to_string(), "::1");
}

#[tokio::test]
async fn what_is_not_allowed_never_sees_a_connection() {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let prober = Prober::new(ProberOptions {
        extra_roots: vec![Authority::new("lab").pem()],
        use_system_roots: false,
        allow: vec!["127.0.0.2/32".parse().unwrap()],
        max_concurrent: 1,
    })
    .unwrap();
    let result = probe(&prober, address, &Expectation::default()).await;
    let detail = assert_failure(&result, Stage::Resolve, ErrorClass::NotAllowed);
    assert!(detail.contains("not a public address"), "{detail}");
    assert_eq!(result.timings.connect_us, None);
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn an_address_outside_the_expected_ranges_is_not_contacted() {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let ranges = |text: &str| Expectation { address_ranges: vec![text.parse().unwrap()], ..Expectation::default() };
    let outside = probe(&prober(vec![]), address, &ranges("203.0.113.0/24")).await;
    assert_failure(&outside, Stage::Resolve, ErrorClass::NotAllowed);
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_success(&probe(&prober(vec![]), address, &ranges("127.0.0.0/24")).await);
}

#[tokio::test]
async fn a_reset_names_the_stage_it_came_in() {
    let at_once = Server::start(|socket| async move { reset(socket) }).await;
    let result = at_once.probe("https", &Authority::new("lab")).await;
    assert_failure(&result, Stage::Tls, ErrorClass::Reset);
    assert!(result.timings.tls_us.is_some());

    let after_request = Server::start(|mut socket| async move {
        read_head(&mut socket).await;
        reset(socket);
    })
    .await;
    assert_failure(&after_request.probe_http().await, Stage::Processing, ErrorClass::Reset);
}

#[tokio::test]
async fn a_close_without_a_word_is_told_as_one() {
    let server = Server::start(|socket| async move { drop(socket) }).await;
    assert_failure(&server.probe("tls", &Authority::new("lab")).await, Stage::Tls, ErrorClass::Reset);

    let server = Server::answering(b"").await;
    let result = server.probe_http().await;
    let detail = assert_failure(&result, Stage::Processing, ErrorClass::Reset);
    assert_eq!(detail, "it closed the connection without answering the request");
}

#[tokio::test]
async fn silence_names_the_stage_it_fell_in() {
    let silent = Server::start(|mut socket| async move { swallow(&mut socket).await }).await;
    let timeouts = Timeouts { tls: SOON, ..Timeouts::default() };
    let result = Visit::new(&silent, "https").within(timeouts).go().await;
    assert_failure(&result, Stage::Tls, ErrorClass::Timeout);

    let timeouts = Timeouts { processing: SOON, ..Timeouts::default() };
    let result = Visit::new(&silent, "http").within(timeouts).go().await;
    assert_failure(&result, Stage::Processing, ErrorClass::Timeout);

    let authority = Authority::new("lab");
    for protocols in [&["h2"][..], &["http/1.1"][..]] {
        let config = authority.leaf(HOST).config(protocols);
        let silent = Server::tls(config, |mut stream| async move { swallow(&mut stream).await }).await;
        let visit = Visit::new(&silent, "https").trusting(&authority).within(timeouts);
        let result = visit.go().await;
        assert_failure(&result, Stage::Processing, ErrorClass::Timeout);
        assert!(result.identity.unwrap().verified);
    }
}

async fn visit(socket: &Socket) -> ukai_core::observe::AddressResult {
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    probe(&prober(vec![]), address, &Expectation::default()).await
}

async fn probe(prober: &Prober, address: SocketAddr, expectation: &Expectation) -> ukai_core::observe::AddressResult {
    let endpoint = Endpoint::parse(&format!("tcp://{HOST}:{}", address.port())).unwrap();
    let timeouts = Timeouts { connect: SOON, ..Timeouts::default() };
    prober.probe_address(&endpoint, address.ip(), expectation, &Request::default(), &timeouts).await
}

fn bound() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    socket
}

/// A connection that is never accepted, so that it stays in the backlog.
fn filler(address: &socket2::SockAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    let _ = socket.connect(address);
    socket
}

/// Closes with RST.
fn reset(socket: TcpStream) {
    SockRef::from(&socket).set_linger(Some(std::time::Duration::ZERO)).unwrap();
}
