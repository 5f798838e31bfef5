use std::net::SocketAddr;

use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::client::{
    Answer, Failure, PATIENCE, connect, get, get_elsewhere, handshake, handshake_with, request, request_at,
};
use super::{fault, scenario, start, world};
use crate::world::Caller;

async fn met(behaviour: &str) -> Result<Answer, Failure> {
    let world = world(&format!("hosts.old-1 = \"{behaviour}\"")).await;
    get(&world, "old-1").await
}

#[tokio::test]
async fn a_healthy_host_serves_the_expected_body_over_trusted_tls() {
    let answer = met("serve").await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (200, "{\"status\":\"ok\"}"));
    assert!(answer.head.contains("\r\ndate: "));
}

#[tokio::test]
async fn the_healthy_answer_is_what_the_scenario_expects() {
    let world = start(&scenario("expect = { status = 203, body = \"all good\" }", "hosts.old-1 = \"serve\"")).await;
    let answer = get(&world, "old-1").await.unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (203, "all good"));
}

#[tokio::test]
async fn a_host_can_fail_at_the_transport() {
    assert_eq!(met("refuse").await.unwrap_err(), Failure::Refused);
    assert_eq!(met("blackhole").await.unwrap_err(), Failure::ConnectTimeout);
    assert_eq!(met("reset").await.unwrap_err(), Failure::Reset);
}

#[tokio::test]
async fn a_host_can_fail_at_tls() {
    let says = |failure: Failure, what: &str| match failure {
        Failure::Tls(error) => assert!(error.contains(what), "{error}"),
        other => panic!("{other:?}"),
    };
    assert_eq!(met("tls-stall").await.unwrap_err(), Failure::TlsTimeout);
    assert_eq!(met("stall-after-200-bytes").await.unwrap_err(), Failure::TlsTimeout);
    says(met("tls-wrong-name").await.unwrap_err(), "not valid for name");
    says(met("tls-expired").await.unwrap_err(), "expired");
    says(met("tls-not-yet-valid").await.unwrap_err(), "not valid yet");
    says(met("tls-self-signed").await.unwrap_err(), "UnknownIssuer");
    says(met("tls-default-cert").await.unwrap_err(), "not valid for name");
    says(met("tls-old-version").await.unwrap_err(), "ProtocolVersion");
}

#[tokio::test]
async fn a_host_can_fail_at_http() {
    assert_eq!(met("status-503").await.unwrap().status, 503);
    let limited = met("retry-after-30").await.unwrap();
    assert!(limited.status == 429 && limited.head.contains("retry-after: 30"));
    assert!(met("wrong-body").await.unwrap().body.contains("It works"));
    assert!(met("parked").await.unwrap().body.contains("for sale"));
    assert_eq!(met("slow-9s").await.unwrap_err(), Failure::HttpTimeout);
    assert!(matches!(met("flaky-1").await.unwrap_err(), Failure::Cut(_)));
    assert!(met("flaky-0").await.is_ok());
    for bytes in [1_400, 20_000] {
        assert!(
            met(&format!("stall-after-{bytes}-bytes")).await.is_err(),
            "{bytes} bytes and no more are a whole answer"
        );
    }
    match met("cut-body").await.unwrap_err() {
        Failure::Cut(text) => assert!(text.contains("content-length: 4096") && text.ends_with("{\"sta"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_key_is_the_same_in_peace_and_another_for_a_stranger() {
    let mut world = world("hosts.old-1 = \"serve\"\nhosts.new-1 = \"serve\"\nhosts.evil-1 = \"tls-new-key\"").await;
    let key = |answer: Answer| spki(&answer.key.unwrap());
    let (old, new, evil) = (
        key(get(&world, "old-1").await.unwrap()),
        key(get(&world, "new-1").await.unwrap()),
        key(get(&world, "evil-1").await.unwrap()),
    );
    assert_eq!(old, new);
    assert_ne!(old, evil);
    fault(&mut world, "hosts.evil-1 = \"tls-new-issuer\"").await;
    let other = get(&world, "evil-1").await.unwrap();
    assert!(contains(&other.issuer, b"Lab Other CA"));
    fault(&mut world, "hosts.evil-1 = \"parked\"").await;
    let parked = get(&world, "evil-1").await.unwrap();
    assert!(contains(&parked.issuer, b"Lab Peer CA"));
    assert_ne!(spki(&parked.key.unwrap()), old);
}

/// The public key, found by the P-256 algorithm identifier that stands before it.
fn spki(certificate: &[u8]) -> Vec<u8> {
    let prime256v1 = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    let at = certificate.windows(prime256v1.len()).position(|window| window == prime256v1).unwrap();
    certificate[at..at + prime256v1.len() + 68].to_vec()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test]
async fn a_black_hole_opens_and_closes_while_the_world_runs() {
    let mut world = world("hosts.old-1 = \"serve\"").await;
    for _ in 0..3 {
        assert!(get(&world, "old-1").await.is_ok());
        fault(&mut world, "hosts.old-1 = \"blackhole\"").await;
        for _ in 0..3 {
            assert_eq!(get(&world, "old-1").await.unwrap_err(), Failure::ConnectTimeout);
        }
        fault(&mut world, "hosts.old-1 = \"refuse\"").await;
        assert_eq!(get(&world, "old-1").await.unwrap_err(), Failure::Refused);
        fault(&mut world, "hosts.old-1 = \"serve\"").await;
    }
    let log = &world.requests()["old-1"];
    assert_eq!(log.requests, 3, "the fillers of the accept queue are not clients: {log:?}");
}

#[tokio::test]
async fn a_standing_connection_goes_silent_in_a_black_hole_and_comes_back() {
    let mut world = world("hosts.old-1 = \"serve\"").await;
    let address = SocketAddr::new(world.address_of("old-1").unwrap(), world.url().port().unwrap());
    let stream = connect(address).await.unwrap();
    let mut stream = handshake(&world, stream, "api.peer.test").await.unwrap();
    let request = b"GET /health HTTP/1.1\r\nHost: api.peer.test\r\n\r\n";
    let mut buffer = [0; 4_096];
    stream.write_all(request).await.unwrap();
    assert!(stream.read(&mut buffer).await.unwrap() > 0);
    fault(&mut world, "hosts.old-1 = \"blackhole\"").await;
    stream.write_all(request).await.unwrap();
    assert!(timeout(PATIENCE, stream.read(&mut buffer)).await.is_err());
    fault(&mut world, "hosts.old-1 = \"serve\"").await;
    let length = timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap().unwrap();
    assert!(buffer[..length].starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn an_aged_connection_is_cut_and_a_fresh_one_served() {
    let world = world("hosts.old-1 = \"goaway\"").await;
    let address = SocketAddr::new(world.address_of("old-1").unwrap(), world.url().port().unwrap());
    let mut stream = handshake(&world, connect(address).await.unwrap(), "api.peer.test").await.unwrap();
    let request = b"GET /health HTTP/1.1\r\nHost: api.peer.test\r\n\r\n";
    let mut buffer = [0; 4_096];
    stream.write_all(request).await.unwrap();
    assert!(stream.read(&mut buffer).await.unwrap() > 0);
    stream.write_all(request).await.unwrap();
    assert!(!matches!(stream.read(&mut buffer).await, Ok(1..)));
    assert!(get(&world, "old-1").await.is_ok());
}

#[tokio::test]
async fn http_2_is_spoken_to_those_who_ask_and_an_aged_connection_says_goaway() {
    let world = world("hosts.old-1 = \"goaway\"").await;
    let address = SocketAddr::new(world.address_of("old-1").unwrap(), world.url().port().unwrap());
    let stream = handshake_with(&world, connect(address).await.unwrap(), "api.peer.test", &["h2"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut requests, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = hyper::Request::get(world.url().as_str()).body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    let first = requests.send_request(request.clone()).await.unwrap();
    assert_eq!(first.status(), 200);
    first.into_body().collect().await.unwrap();
    let ended = timeout(PATIENCE, driver).await;
    assert!(ended.is_ok(), "the connection goes once what was begun is done");
    assert!(requests.send_request(request).await.is_err());
}

#[tokio::test]
async fn without_tls_the_host_speaks_plain_http() {
    let world = start(&scenario("tls = false", "hosts.old-1 = \"serve\"")).await;
    assert_eq!(world.url().scheme(), "http");
    assert_eq!(get(&world, "old-1").await.unwrap().status, 200);
}

#[tokio::test]
async fn an_endpoint_with_a_secret_answers_401_without_it_and_the_log_tells_who_had_it() {
    let world = start(&scenario("auth = true", "hosts.old-1 = \"serve\"")).await;
    assert_eq!(get(&world, "old-1").await.unwrap().status, 401);
    let header = format!("Authorization: {}\r\n", world.secret());
    let answer = request(&world, "old-1", "api.peer.test", "ukai/0.1", &header).await.unwrap();
    assert_eq!(answer.status, 200);
    request(&world, "old-1", "api.peer.test", "drill-app/1", "").await.unwrap();
    let log = &world.requests()["old-1"];
    assert_eq!((log.accepts, log.handshakes, log.requests, log.secrets), (3, 3, 3, 1));
    let who: Vec<(Caller, bool, Option<u16>)> =
        log.calls.iter().map(|call| (call.who, call.secret, call.status)).collect();
    assert_eq!(
        who,
        [(Caller::Other, false, Some(401)), (Caller::Prober, true, Some(200)), (Caller::App, false, Some(401))]
    );
    assert_eq!(log.requests_by(Caller::App), 1);
}

#[tokio::test]
async fn a_shifted_clock_shows_in_dates_and_certificates() {
    let mut world = world("hosts.old-1 = \"serve\"").await;
    let key = spki(&get(&world, "old-1").await.unwrap().key.unwrap());
    fault(&mut world, "clock = \"+2h\"").await;
    for site in ["old-1", "control-2"] {
        let name = if site == "old-1" { "api.peer.test" } else { "control-2.test" };
        match request(&world, site, name, "curl/8", "").await.unwrap_err() {
            Failure::Tls(error) => assert!(error.contains("not valid yet"), "{error}"),
            other => panic!("{other:?}"),
        }
    }
    fault(&mut world, "clock = \"+20m\"").await;
    let answer = get(&world, "old-1").await.unwrap();
    assert_eq!(spki(&answer.key.unwrap()), key);
    let date = answer.head.lines().find_map(|line| line.strip_prefix("date: ")).unwrap();
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(date).unwrap();
    let ahead = date.duration_since(jiff::Timestamp::now()).as_secs();
    assert!((1_100..=1_200).contains(&ahead), "{ahead}");
}

#[tokio::test]
async fn controls_fail_by_address_or_are_intercepted_or_are_not_there() {
    let mut world = world("hosts.old-1 = \"serve\"").await;
    let control = async |world: &_| request(world, "control-1", "control-1.test", "curl/8", "").await;
    assert!(contains(&control(&world).await.unwrap().issuer, b"Lab Web CA"));
    fault(&mut world, "controls = \"intercepted\"").await;
    assert!(contains(&control(&world).await.unwrap().issuer, b"Corporate Proxy CA"));
    fault(&mut world, "controls = \"addresses-fail\"").await;
    assert_eq!(control(&world).await.unwrap_err(), Failure::ConnectTimeout);
    fault(&mut world, "controls = \"none\"").await;
    assert_eq!(control(&world).await.unwrap_err(), Failure::Refused);
    assert!(get(&world, "old-1").await.is_ok());
}

#[tokio::test]
async fn egress_can_be_cut_or_held_to_a_list() {
    let mut world = world("hosts.old-1 = \"serve\"\nhosts.new-1 = \"serve\"").await;
    fault(&mut world, "egress = { allow = [\"old-1\"] }").await;
    assert!(get(&world, "old-1").await.is_ok());
    assert_eq!(get(&world, "new-1").await.unwrap_err(), Failure::ConnectTimeout);
    assert!(request(&world, "control-3", "control-3.test", "curl/8", "").await.is_ok());
    fault(&mut world, "egress = \"cut\"").await;
    for site in ["old-1", "new-1", "control-1"] {
        assert_eq!(get(&world, site).await.unwrap_err(), Failure::ConnectTimeout);
    }
    fault(&mut world, "egress = \"ok\"").await;
    assert!(get(&world, "new-1").await.is_ok());
}

#[tokio::test]
async fn hosts_stand_in_the_network_that_the_scenario_says() {
    let world = world(
        "hosts.old-1 = \"serve\"\nhosts.new-1 = \"serve\"\nhosts.far-1 = { net = \"b\" }\nhosts.in-1 = { private = true }\nhosts.six = { v6 = true }",
    )
    .await;
    let octets = |label: &str| match world.address_of(label).unwrap() {
        std::net::IpAddr::V4(address) => address.octets(),
        std::net::IpAddr::V6(address) => panic!("{address}"),
    };
    assert_eq!(octets("old-1")[..3], octets("new-1")[..3]);
    assert_ne!(octets("old-1")[3], octets("new-1")[3]);
    assert_eq!(octets("old-1")[..2], octets("far-1")[..2]);
    assert_ne!(octets("old-1")[2], octets("far-1")[2]);
    assert_ne!(octets("old-1")[1], octets("in-1")[1]);
    assert!(world.address_of("six").unwrap().is_ipv6());
    for label in ["old-1", "far-1", "in-1", "six"] {
        assert_eq!(get(&world, label).await.unwrap().status, 200);
        assert_eq!(world.label_of(world.address_of(label).unwrap()).as_deref(), Some(label));
    }
}

#[tokio::test]
async fn other_networks_meet_a_host_by_a_door_of_their_own() {
    let mut world = world("hosts.h-1 = \"serve\"\nhosts.h-2 = { us = \"serve\", others = \"status-503\" }").await;
    assert_eq!(get_elsewhere(&world, "h-1").await.unwrap().status, 200);
    assert_eq!(
        (get(&world, "h-2").await.unwrap().status, get_elsewhere(&world, "h-2").await.unwrap().status),
        (200, 503)
    );
    // One word is for everybody, a table for whom it names.
    fault(&mut world, "hosts.h-1 = { us = \"blackhole\", others = \"serve\" }\nhosts.h-2 = \"refuse\"").await;
    assert_eq!(get(&world, "h-1").await.unwrap_err(), Failure::ConnectTimeout);
    assert_eq!(get_elsewhere(&world, "h-1").await.unwrap().status, 200);
    assert_eq!(get_elsewhere(&world, "h-2").await.unwrap_err(), Failure::Refused);
}

#[tokio::test]
async fn what_our_network_lets_out_is_no_matter_elsewhere() {
    let mut world = world("hosts.h-1 = \"serve\"\nhosts.h-2 = \"serve\"").await;
    for egress in ["\"cut\"", "{ allow = [\"h-2\"] }"] {
        fault(&mut world, &format!("egress = {egress}")).await;
        assert_eq!(get(&world, "h-1").await.unwrap_err(), Failure::ConnectTimeout, "{egress}");
        assert_eq!(get_elsewhere(&world, "h-1").await.unwrap().status, 200, "{egress}");
    }
}

#[tokio::test]
async fn controls_are_reached_over_ipv6_beside_the_peers_host_until_that_family_is_cut() {
    let mut world = world("hosts.h-1 = \"serve\"\nhosts.six = { v6 = true }").await;
    let layout = &world.live.layout;
    let controls = SocketAddr::new(layout.controls_v6().unwrap().into(), layout.control_port);
    for name in ["control-1.test", "control-3.test"] {
        let answer = request_at(&world, controls, name, "curl/8", "").await.unwrap();
        assert!(contains(&answer.issuer, b"Lab Web CA") && contains(&answer.issuer, name.as_bytes()), "{name}");
    }
    fault(&mut world, "egress = \"no-v6\"").await;
    assert_eq!(
        request_at(&world, controls, "control-1.test", "curl/8", "").await.unwrap_err(),
        Failure::ConnectTimeout
    );
    assert_eq!(get(&world, "six").await.unwrap_err(), Failure::ConnectTimeout);
    assert_eq!(get_elsewhere(&world, "six").await.unwrap().status, 200);
    assert!(get(&world, "h-1").await.is_ok());
    assert!(request(&world, "control-1", "control-1.test", "curl/8", "").await.is_ok());
    fault(&mut world, "egress = \"ok\"").await;
    assert!(get(&world, "six").await.is_ok());
}

#[tokio::test]
async fn without_an_ipv6_host_nobody_stands_at_the_ipv6_address() {
    let world = world("hosts.h-1 = \"serve\"").await;
    assert_eq!(world.live.layout.controls_v6(), None);
    let address = SocketAddr::new(std::net::Ipv6Addr::LOCALHOST.into(), world.live.layout.control_port);
    assert_eq!(connect(address).await.unwrap_err(), Failure::Refused);
}

#[tokio::test]
async fn whoever_sends_no_server_name_is_shown_the_hosts_default_certificate() {
    let world = world("hosts.h-1 = \"serve\"").await;
    let address = SocketAddr::new(world.address_of("h-1").unwrap(), world.url().port().unwrap());
    // An address is no server name: RFC 6066 section 3.
    let stream = connect(address).await.unwrap();
    match handshake(&world, stream, &address.ip().to_string()).await.unwrap_err() {
        Failure::Tls(error) => assert!(error.contains("default.hosting.test"), "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(get(&world, "h-1").await.is_ok());
}
