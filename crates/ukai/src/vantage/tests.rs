//! A controller and a vantage, over a real socket.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::Instant;
use ukai_core::diagnose::evidence::VantageView;
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
        Pair::with(&format!("tcp://127.0.0.1:{port}"), |_| true).await
    }

    async fn with(url: &str, is_routed: fn(SocketAddr) -> bool) -> Pair {
        let text = format!(
            "resolver = [\"udp://127.0.0.1:1\"]\nallow_addresses = [\"127.0.0.0/8\", \"::1/128\"]\ncontrols = \"none\"\n\
             [[peer]]\nname = \"api\"\nurls = [\"{url}\"]\n"
        );
        let config = Config::parse(&text, Path::new("vantage.toml")).unwrap();
        let mut configured = configure(&config).unwrap();
        configured.vantage.is_routed = is_routed;
        let listen = "127.0.0.1:0".parse().unwrap();
        let service = VantageService::bind(listen, Secret::new(TOKEN), configured).await.unwrap();
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
async fn what_a_vantage_has_no_route_to_is_left_out() {
    let (port, _listener) = peer().await;
    let asked = || set(&["127.0.0.1", "::1"]);
    let addresses =
        |view: VantageView| -> BTreeSet<IpAddr> { view.results.iter().map(|proof| proof.result.address).collect() };
    let url = format!("tcp://127.0.0.1:{port}");
    let both = Pair::with(&url, |_| true).await.controller(TOKEN).look("api", asked(), soon()).await;
    assert_eq!(addresses(both), asked());
    let v4 = Pair::with(&url, |address| address.is_ipv4()).await;
    assert_eq!(addresses(v4.controller(TOKEN).look("api", asked(), soon()).await), set(&["127.0.0.1"]));
}

/// A peer that takes every connection and says nothing; how many it held at most at the same time.
async fn silent_peer(tasks: &mut JoinSet<()>) -> (u16, Arc<AtomicUsize>) {
    let (port, listener) = peer().await;
    let most = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&most);
    tasks.spawn(async move {
        let (mut held, here) = (JoinSet::new(), Arc::new(AtomicUsize::new(0)));
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_max(here.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let here = Arc::clone(&here);
            held.spawn(async move {
                while matches!(stream.read(&mut [0; 1024]).await, Ok(read) if read > 0) {}
                here.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    (port, most)
}

#[tokio::test]
async fn a_peer_is_looked_at_for_one_controller_at_a_time() {
    let mut tasks = JoinSet::new();
    let (port, most) = silent_peer(&mut tasks).await;
    let pair = Pair::with(&format!("http://127.0.0.1:{port}/"), |_| true).await;
    let mut looks = JoinSet::new();
    for _ in 0..5 {
        let controller = pair.controller(TOKEN);
        looks.spawn(async move { controller.look("api", set(&["127.0.0.1"]), soon()).await });
    }
    let views = looks.join_all().await;
    let busy = |view: &&VantageView| view.silence.as_ref().is_some_and(|silence| silence.starts_with("429"));
    let (busy, others): (Vec<_>, Vec<_>) = views.iter().partition(busy);
    assert!(busy.len() >= 2, "one is served and two wait: {views:#?}");
    let served = others.iter().filter(|view| view.silence.is_none()).count();
    assert!(served >= 1, "{views:#?}");
    assert_eq!(most.load(Ordering::SeqCst), 1, "never two looks at once");
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
