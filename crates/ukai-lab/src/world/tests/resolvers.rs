use std::net::SocketAddr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;

use super::client::{Failure, addresses, connect, framed, handshake_with, labels, question, tcp, udp};
use super::{fault, world};
use crate::world::World;

const HOST: &str = "api.peer.test.";
const MOVED: &str = "authoritative = { A = [\"new-1\"], ttl = 40 }";

async fn before() -> World {
    let world = world(
        "authoritative = { A = [\"old-1\"], ttl = 40 }\nhosts.old-1 = \"serve\"\nhosts.new-1 = \"serve\"\nhosts.evil-1 = \"serve\"",
    )
    .await;
    assert_eq!(labels(&world, &ask(&world).await), ["old-1"]);
    world
}

async fn ask(world: &World) -> Message {
    udp(world.resolver(), &question(HOST, RecordType::A)).await.unwrap()
}

async fn code(world: &World, name: &str) -> ResponseCode {
    udp(world.resolver(), &question(name, RecordType::A)).await.unwrap().metadata.response_code
}

fn extended_error(message: &Message) -> Option<u16> {
    match message.edns.as_ref()?.option(EdnsCode::from(15))? {
        EdnsOption::Unknown(_, data) => Some(u16::from_be_bytes([data[0], data[1]])),
        _ => None,
    }
}

#[tokio::test]
async fn an_honest_resolver_keeps_answers_for_their_ttl_and_asks_again_when_emptied() {
    let mut world = before().await;
    fault(&mut world, MOVED).await;
    let kept = ask(&world).await;
    assert_eq!(labels(&world, &kept), ["old-1"]);
    assert!(kept.metadata.recursion_available && !kept.metadata.authoritative && kept.answers[0].ttl <= 40);
    fault(&mut world, "resolver = \"servfail\"").await;
    fault(&mut world, "resolver = \"honest\"").await;
    assert_eq!(labels(&world, &ask(&world).await), ["new-1"]);
}

#[tokio::test]
async fn a_ttl_runs_out() {
    let mut world =
        world("authoritative = { A = [\"old-1\"], ttl = 1 }\nhosts.old-1 = \"serve\"\nhosts.new-1 = \"serve\"").await;
    assert_eq!(labels(&world, &ask(&world).await), ["old-1"]);
    fault(&mut world, "authoritative = { A = [\"new-1\"] }").await;
    for _ in 0..30 {
        if labels(&world, &ask(&world).await) == ["new-1"] {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("the old answer outlived its TTL");
}

#[tokio::test]
async fn a_stale_resolver_goes_on_with_what_it_knew_at_a_ttl_that_does_not_fall() {
    let mut world = before().await;
    fault(&mut world, &format!("{MOVED}\nresolver = \"stale\"")).await;
    for _ in 0..3 {
        let answer = ask(&world).await;
        assert_eq!((labels(&world, &answer), answer.answers[0].ttl), (vec!["old-1".to_owned()], 40));
    }
    // What it was never asked before it knows as of then, too.
    let six = udp(world.resolver(), &question(HOST, RecordType::AAAA)).await.unwrap();
    assert_eq!((six.metadata.response_code, six.answers.len()), (ResponseCode::NoError, 0));
    assert_eq!(code(&world, "control-1.test.").await, ResponseCode::NoError);
    fault(&mut world, "resolver = \"honest\"").await;
    assert_eq!(labels(&world, &ask(&world).await), ["new-1"]);
}

#[tokio::test]
async fn a_resolver_that_was_never_asked_is_stale_as_of_the_fault() {
    let mut world =
        world("authoritative = { A = [\"old-1\"] }\nhosts.old-1 = \"serve\"\nhosts.new-1 = \"serve\"").await;
    fault(&mut world, "authoritative = { A = [\"new-1\"] }\nresolver = \"stale\"").await;
    assert_eq!(labels(&world, &ask(&world).await), ["old-1"]);
}

#[tokio::test]
async fn ttls_are_violated_by_clamping_and_by_serving_stale() {
    let mut world = before().await;
    fault(&mut world, &format!("{MOVED}\nresolver = \"serve-stale\"")).await;
    let stale = ask(&world).await;
    assert_eq!((labels(&world, &stale), stale.answers[0].ttl), (vec!["old-1".to_owned()], 30));
    assert_eq!(extended_error(&stale), Some(3));
    fault(&mut world, "resolver = \"ttl-clamp-300\"").await;
    let clamped = ask(&world).await;
    assert_eq!(labels(&world, &clamped), ["old-1"]);
    assert!((200..=300).contains(&clamped.answers[0].ttl));
}

#[tokio::test]
async fn a_negative_answer_is_kept_for_the_zones_negative_ttl() {
    let mut world = world("authoritative = { A = [\"old-1\"], negative_ttl = 50 }\nhosts.old-1 = \"serve\"").await;
    fault(&mut world, "resolver = \"negative-cached\"").await;
    let denied = ask(&world).await;
    assert_eq!(denied.metadata.response_code, ResponseCode::NXDomain);
    assert!((40..=50).contains(&denied.authorities[0].ttl));
    assert_eq!(code(&world, "control-1.test.").await, ResponseCode::NoError);
}

#[tokio::test]
async fn failures_are_of_the_peers_names_alone_unless_they_are_of_all() {
    let mut world = before().await;
    for (mode, peer, other) in [
        ("nxdomain", ResponseCode::NXDomain, ResponseCode::NoError),
        ("servfail", ResponseCode::ServFail, ResponseCode::NoError),
        ("servfail-all", ResponseCode::ServFail, ResponseCode::ServFail),
        ("refuse", ResponseCode::Refused, ResponseCode::Refused),
    ] {
        fault(&mut world, &format!("resolver = \"{mode}\"")).await;
        assert_eq!((code(&world, HOST).await, code(&world, "control-2.test.").await), (peer, other), "{mode}");
    }
    fault(&mut world, "resolver = \"timeout-all\"").await;
    assert!(udp(world.resolver(), &question("control-1.test.", RecordType::A)).await.is_none());
    assert_eq!(tcp(world.resolver(), &question(HOST, RecordType::A)).await.unwrap_err(), Failure::ConnectTimeout);
    fault(&mut world, "resolver = \"honest\"\ncontrols = \"names-fail\"").await;
    assert_eq!(
        (code(&world, HOST).await, code(&world, "control-3.test.").await),
        (ResponseCode::NoError, ResponseCode::ServFail)
    );
}

#[tokio::test]
async fn a_resolver_can_lie_about_the_address() {
    let mut world = before().await;
    fault(&mut world, "resolver = \"hijack:evil-1\"").await;
    assert_eq!(labels(&world, &ask(&world).await), ["evil-1"]);
    fault(&mut world, "resolver = \"private:10.9.8.7\"").await;
    assert_eq!(addresses(&ask(&world).await), ["10.9.8.7".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(code(&world, "control-1.test.").await, ResponseCode::NoError);
}

#[tokio::test]
async fn a_validating_resolver_refuses_what_is_bogus_unless_told_not_to_check() {
    let mut world = before().await;
    fault(&mut world, "resolver = \"validating\"\nauthoritative = { A = [\"new-1\"], signed = \"valid\" }").await;
    let valid = ask(&world).await;
    assert!(valid.metadata.authentic_data && labels(&world, &valid) == ["new-1"]);
    fault(&mut world, "authoritative = { A = [\"new-1\"], signed = \"bogus\" }").await;
    let bogus = ask(&world).await;
    assert_eq!((bogus.metadata.response_code, extended_error(&bogus)), (ResponseCode::ServFail, Some(6)));
    let mut unchecked = question(HOST, RecordType::A);
    unchecked.metadata.checking_disabled = true;
    let answer = udp(world.resolver(), &unchecked).await.unwrap();
    assert_eq!(labels(&world, &answer), ["new-1"]);
}

#[tokio::test]
async fn transports_can_be_broken_one_by_one() {
    let mut world = before().await;
    fault(&mut world, "resolver = { mode = \"honest\", udp = \"truncate\", tcp = \"blocked\" }").await;
    assert!(ask(&world).await.metadata.truncation);
    assert_eq!(tcp(world.resolver(), &question(HOST, RecordType::A)).await.unwrap_err(), Failure::ConnectTimeout);
    fault(&mut world, "resolver = { udp = \"truncate\" }").await;
    assert_eq!(labels(&world, &tcp(world.resolver(), &question(HOST, RecordType::A)).await.unwrap()), ["old-1"]);
}

#[tokio::test]
async fn cut_off_our_resolver_lives_on_its_cache() {
    let mut world = before().await;
    fault(&mut world, "egress = \"cut\"").await;
    assert_eq!(labels(&world, &ask(&world).await), ["old-1"]);
    assert_eq!(code(&world, "www.peer.test.").await, ResponseCode::ServFail);
    let independent: SocketAddr = (world.live.layout.independent(1), world.live.layout.dns_port).into();
    assert!(udp(independent, &question(HOST, RecordType::A)).await.is_none());
}

#[tokio::test]
async fn a_resolver_library_gets_its_answer() {
    let world = before().await;
    let mut server = NameServerConfig::udp_and_tcp(world.resolver().ip());
    server.connections.iter_mut().for_each(|connection| connection.port = world.resolver().port());
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let resolver = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build().unwrap();
    let found: Vec<_> = resolver.lookup_ip(HOST).await.unwrap().iter().collect();
    assert_eq!(found, [world.address_of("old-1").unwrap()]);
    assert!(resolver.lookup_ip("nothing.peer.test.").await.unwrap_err().is_nx_domain());
    let control: Vec<_> = resolver.lookup_ip("control-1.test.").await.unwrap().iter().collect();
    assert_eq!(control, [world.address_of("control-1").unwrap()]);
}

#[tokio::test]
async fn independent_resolvers_answer_over_tls_and_https_even_where_53_is_closed() {
    let mut world = before().await;
    fault(&mut world, "egress = \"no-53\"").await;
    let layout = world.live.layout.clone();
    let asked = question(HOST, RecordType::A);
    assert!(udp((layout.independent(2), layout.dns_port).into(), &asked).await.is_none());

    let stream = connect((layout.independent(2), layout.https_port).into()).await.unwrap();
    let stream = handshake_with(&world, stream, "i-2.test", &[]).await.unwrap();
    assert_eq!(labels(&world, &framed(stream, &asked).await.unwrap()), ["old-1"]);

    for alpn in ["h2", "http/1.1"] {
        let stream = connect((layout.independent(3), layout.https_port).into()).await.unwrap();
        let stream = handshake_with(&world, stream, "i-3.test", &[alpn]).await.unwrap();
        let answer = over_https(stream, alpn == "h2", &asked, layout.https_port).await;
        assert_eq!(labels(&world, &answer), ["old-1"]);
    }
}

async fn over_https(stream: super::client::TlsStream, h2: bool, asked: &Message, port: u16) -> Message {
    use http_body_util::{BodyExt, Full};
    let io = hyper_util::rt::TokioIo::new(stream);
    let request = hyper::Request::post(format!("https://i-3.test:{port}/dns-query"))
        .header("content-type", "application/dns-message")
        .header("host", "i-3.test")
        .body(Full::new(bytes::Bytes::from(asked.to_vec().unwrap())))
        .unwrap();
    let response = if h2 {
        let executor = hyper_util::rt::TokioExecutor::new();
        let (mut requests, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
        tokio::spawn(connection);
        requests.send_request(request).await.unwrap()
    } else {
        let (mut requests, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        requests.send_request(request).await.unwrap()
    };
    assert_eq!(response.headers()["content-type"], "application/dns-message");
    Message::from_vec(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
}
