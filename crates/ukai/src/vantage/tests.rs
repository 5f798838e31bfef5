//! A controller and a vantage, over a real socket.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use ukai_core::observe::{ErrorClass, Stage};
use url::Url;

use super::*;
use crate::config::Config;
use crate::gather::configure;
use crate::notify::http::{HttpsClient, HttpsOptions};
use crate::secret::Secret;

const TOKEN: &str = "a-token-of-the-vantage";

/// A vantage that watches this port of loopback, and the controller that knows it.
struct Pair {
    service: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Pair {
    async fn watching(port: u16) -> Pair {
        let text = format!(
            "resolver = [\"udp://127.0.0.1:1\"]\nallow_addresses = [\"127.0.0.0/8\"]\ncontrols = \"none\"\n\
             [[peer]]\nname = \"api\"\nurls = [\"tcp://127.0.0.1:{port}\"]\n"
        );
        let config = Config::parse(&text, Path::new("vantage.toml")).unwrap();
        let listen = "127.0.0.1:0".parse().unwrap();
        let service = VantageService::bind(listen, Secret::new(TOKEN), configure(&config).unwrap()).await.unwrap();
        let address = service.local_address().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(service.run());
        Pair { service: address, _tasks: tasks }
    }

    fn controller(&self, token: &str) -> OtherVantage {
        let url = Url::parse(&format!("http://{}", self.service)).unwrap();
        let http = HttpsClient::new(HttpsOptions::default()).unwrap();
        OtherVantage::new("osaka".into(), url, Secret::new(token), http)
    }
}

/// When the gathering ends that asks.
fn soon() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

fn set(addresses: &[&str]) -> BTreeSet<IpAddr> {
    addresses.iter().map(|address| address.parse().unwrap()).collect()
}

/// A peer at one loopback address; at the others nobody listens.
async fn peer() -> (u16, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    (listener.local_addr().unwrap().port(), listener)
}

#[tokio::test]
async fn a_vantage_says_what_it_sees_of_each_address() {
    let (port, _listener) = peer().await;
    let pair = Pair::watching(port).await;
    let view = pair.controller(TOKEN).look("api", set(&["127.0.0.1", "127.0.0.9"]), soon()).await;
    assert_eq!((view.vantage.as_str(), view.silence), ("osaka", None));
    assert_eq!(view.resolved, set(&["127.0.0.1"]), "its own URL leads there");
    let at = |address: &str| view.results.iter().find(|proof| proof.result.address.to_string() == address).unwrap();
    assert!(at("127.0.0.1").result.is_success());
    let failure = at("127.0.0.9").result.failure.as_ref().unwrap();
    assert_eq!((failure.stage, failure.class), (Stage::Connect, ErrorClass::Refused));
}

#[tokio::test]
async fn a_vantage_contacts_no_address_that_it_may_not() {
    let (port, _listener) = peer().await;
    let pair = Pair::watching(port).await;
    let view = pair.controller(TOKEN).look("api", set(&["10.0.0.7"]), soon()).await;
    let result = view.results.iter().find(|proof| proof.result.address.to_string() == "10.0.0.7").unwrap();
    assert_eq!(result.result.failure.as_ref().unwrap().class, ErrorClass::NotAllowed);
}

#[tokio::test]
async fn without_the_token_nothing_is_said() {
    let (port, listener) = peer().await;
    let pair = Pair::watching(port).await;
    let view = pair.controller("another-token").look("api", set(&["127.0.0.1"]), soon()).await;
    let silence = view.silence.unwrap();
    assert!(silence.starts_with("401") && !silence.contains("another-token"), "{silence}");
    assert!(view.results.is_empty());
    let tried = tokio::time::timeout(Duration::from_millis(100), listener.accept()).await;
    assert!(tried.is_err(), "the peer was not touched");
}

#[tokio::test]
async fn a_peer_that_the_vantage_does_not_know() {
    let (port, _listener) = peer().await;
    let silence = Pair::watching(port).await.controller(TOKEN).look("bill", set(&[]), soon()).await.silence.unwrap();
    assert!(silence.contains("no peer of that name here; there is api"), "{silence}");
}

#[tokio::test]
async fn a_vantage_that_is_gone_is_silent() {
    let (port, _listener) = peer().await;
    let pair = Pair::watching(port).await;
    let controller = pair.controller(TOKEN);
    drop(pair);
    let view = controller.look("api", set(&["127.0.0.1"]), soon()).await;
    assert!(view.silence.is_some() && view.results.is_empty());
}

/// A vantage that answers this to anybody.
async fn saying(answer: String) -> VantageView {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", answer.len());
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    });
    let http = HttpsClient::new(HttpsOptions::default()).unwrap();
    OtherVantage::new("osaka".into(), url, Secret::new(TOKEN), http).look("api", BTreeSet::new(), soon()).await
}

use ukai_core::diagnose::evidence::VantageView;

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_silence() {
    for answer in ["", "{}", "[1]", "{\"resolved\":[],\"results\":[],\"more\":1", "not json"] {
        let view = saying(answer.to_owned()).await;
        assert!(view.silence.is_some(), "{answer:?}");
    }
    let huge = saying("x".repeat(512 * 1024)).await;
    assert!(huge.silence.is_some());
}

#[tokio::test]
async fn what_a_vantage_says_is_bounded_and_escaped() {
    let proof = serde_json::json!({
        "endpoint": "https://api.peer.test/\u{1b}[31m",
        "result": {
            "address": "192.0.2.1", "port": 443, "timings": {},
            "failure": { "stage": "tls", "class": "timeout", "detail": format!("\u{1b}]0;x\u{7}{}", "y".repeat(400)) },
        },
    });
    let answer = serde_json::json!({ "resolved": ["192.0.2.1"], "results": vec![proof; 200] });
    let view = saying(answer.to_string()).await;
    assert_eq!(view.silence, None);
    assert!(view.results.len() <= 128, "{}", view.results.len());
    let first = &view.results[0];
    let detail = &first.result.failure.as_ref().unwrap().detail;
    assert!(detail.len() < 2000 && !detail.contains('\u{1b}') && !first.endpoint.contains('\u{1b}'));
}
