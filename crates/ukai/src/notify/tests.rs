//! Real sockets on loopback: a receiver that answers as it is told, and a name server that knows one name.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde_json::Value;
use sha2::Sha256;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use ukai_core::event::NotificationKind;
use ukai_core::input::Input;

use super::*;
use crate::config::{Subscriber, SubscriberKind};

const HOST: &str = "hooks.subscriber.test";
const QUICK: Backoff = Backoff {
    first: Duration::from_millis(1),
    most: Duration::from_millis(4),
    give_up_after: Duration::from_secs(600),
};

#[tokio::test]
async fn a_webhook_is_signed_and_keyed() {
    let mut receiver = Receiver::start(vec![ok()], None).await;
    let notifier = webhook(&receiver, Some("hunter2"));
    notifier.send(&notification("k-1"), false).await.unwrap();
    let got = receiver.next().await;
    assert_eq!(got.header("idempotency-key"), Some("k-1"));
    assert_eq!(got.header("user-agent"), Some(ukai_probe::USER_AGENT));
    let body: Value = serde_json::from_slice(&got.body).unwrap();
    assert_eq!((&body["key"], &body["kind"], &body["page"]), (&"k-1".into(), &"opened".into(), &true.into()));
    assert_eq!((&body["incident"], &body["repeated"]), (&"i-1".into(), &false.into()));
    let signature = got.header("ukai-signature").unwrap();
    let (t, v1) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    use hmac::{Hmac, Mac};
    let mut mac = Hmac::<Sha256>::new_from_slice(b"hunter2").unwrap();
    mac.update(format!("{t}.").as_bytes());
    mac.update(&got.body);
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(v1, hex);
}

#[tokio::test]
async fn slack_gets_blocks() {
    let mut receiver = Receiver::start(vec![ok()], None).await;
    let subscriber = Subscriber { kind: SubscriberKind::Slack, ..subscriber(&receiver.url("127.0.0.1"), None) };
    Notifier::new(&subscriber, client(HttpsOptions::default()))
        .unwrap()
        .send(&notification("k-1"), true)
        .await
        .unwrap();
    let body: Value = serde_json::from_slice(&receiver.next().await.body).unwrap();
    assert!(body["text"].as_str().unwrap().contains("(repeated)"), "{body}");
    assert_eq!(body["blocks"][0]["type"], "section");
}

#[tokio::test]
async fn answers_are_judged() {
    let too_many = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\nslow".to_owned();
    let gone = "HTTP/1.1 410 Gone\r\nContent-Length: 11\r\n\r\nno_\u{1b}service".to_owned();
    let moved = "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n".to_owned();
    let endless = format!("HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n{}", "x".repeat(1 << 20));
    let junk = "SSH-2.0-OpenSSH\r\n\r\n".to_owned();
    let receiver = Receiver::start(vec![too_many, gone, moved, endless, junk], None).await;
    let notifier = webhook(&receiver, None);
    let told = notification("k-1");
    let error = notifier.send(&told, false).await.unwrap_err();
    assert_eq!((error.retryable, error.retry_after), (true, Some(Duration::from_secs(7))), "{error}");
    let error = notifier.send(&told, false).await.unwrap_err();
    assert!(!error.retryable && error.detail.contains("410 Gone: no_ service"), "{error}");
    let error = notifier.send(&told, false).await.unwrap_err();
    assert!(!error.retryable, "a redirect is not followed: {error}");
    notifier.send(&told, false).await.unwrap();
    assert!(notifier.send(&told, false).await.unwrap_err().retryable);
}

#[tokio::test]
async fn a_page_leaves_when_our_resolver_is_what_broke() {
    let ca = Authority::new();
    let mut receiver = Receiver::start(vec![ok(), ok()], Some(&ca)).await;
    let independent = name_server(Ipv4Addr::LOCALHOST).await;
    let options = HttpsOptions {
        resolver: vec![silent_upstream().await],
        independent: vec![independent],
        ca: vec![ca.certificate.clone()],
    };
    let notifier = Notifier::new(&subscriber(&receiver.url(HOST), None), client(options)).unwrap();
    notifier.send(&notification("k-1"), false).await.unwrap();
    assert_eq!(receiver.next().await.header("idempotency-key"), Some("k-1"));
}

#[tokio::test]
async fn a_resolver_that_lies_does_not_keep_a_page() {
    let ca = Authority::new();
    let mut receiver = Receiver::start(vec![ok()], Some(&ca)).await;
    let options = HttpsOptions {
        // Nothing listens at 127.0.0.2 on the receiver's port.
        resolver: vec![name_server(Ipv4Addr::new(127, 0, 0, 2)).await],
        independent: vec![name_server(Ipv4Addr::LOCALHOST).await],
        ca: vec![ca.certificate.clone()],
    };
    let notifier = Notifier::new(&subscriber(&receiver.url(HOST), None), client(options)).unwrap();
    notifier.send(&notification("k-1"), false).await.unwrap();
    receiver.next().await;
}

#[tokio::test]
async fn the_last_good_address_is_remembered_under_tls() {
    let ca = Authority::new();
    let mut receiver = Receiver::start(vec![ok(), ok()], Some(&ca)).await;
    let (server, upstream) = stoppable_name_server(Ipv4Addr::LOCALHOST).await;
    let options = HttpsOptions { resolver: vec![upstream], independent: Vec::new(), ca: vec![ca.certificate.clone()] };
    let notifier = Notifier::new(&subscriber(&receiver.url(HOST), None), client(options)).unwrap();
    notifier.send(&notification("k-1"), false).await.unwrap();
    server.abort();
    let _ = server.await;
    notifier.send(&notification("k-2"), false).await.unwrap();
    receiver.next().await;
    assert_eq!(receiver.next().await.header("idempotency-key"), Some("k-2"));
}

#[tokio::test]
async fn a_stranger_gets_no_page() {
    let (ours, strangers) = (Authority::new(), Authority::new());
    let receiver = Receiver::start(vec![ok()], Some(&strangers)).await;
    let options = HttpsOptions {
        resolver: vec![name_server(Ipv4Addr::LOCALHOST).await],
        independent: Vec::new(),
        ca: vec![ours.certificate.clone()],
    };
    let notifier = Notifier::new(&subscriber(&receiver.url(HOST), None), client(options)).unwrap();
    let error = notifier.send(&notification("k-1"), false).await.unwrap_err();
    assert!(error.retryable && error.detail.contains("certificate"), "{error}");
}

#[tokio::test]
async fn every_attempt_has_the_same_key_and_says_that_it_is_repeated() {
    let unavailable = || "HTTP/1.1 503 Unavailable\r\nContent-Length: 0\r\n\r\n".to_owned();
    let mut receiver = Receiver::start(vec![unavailable(), unavailable(), ok()], None).await;
    let (results, mut inputs) = mpsc::channel(16);
    let delivery = Delivery::spawn(vec![webhook(&receiver, None)], QUICK, results);
    delivery.send("hook", notification("k-1"), false);
    for repeated in [false, true, true] {
        let got = receiver.next().await;
        let body: Value = serde_json::from_slice(&got.body).unwrap();
        assert_eq!((got.header("idempotency-key"), &body["repeated"]), (Some("k-1"), &Value::from(repeated)));
    }
    let first = result(&mut inputs).await;
    assert_eq!((first.0.as_str(), first.1), ("k-1", 1));
    assert!(first.2.unwrap_err().contains("tried again"));
    assert_eq!(result(&mut inputs).await, ("k-1".to_owned(), 3, Ok(())));
}

#[tokio::test]
async fn a_refusal_for_good_is_final() {
    let mut receiver =
        Receiver::start(vec!["HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(), ok()], None).await;
    let (results, mut inputs) = mpsc::channel(16);
    let delivery = Delivery::spawn(vec![webhook(&receiver, None)], QUICK, results);
    delivery.send("hook", notification("k-1"), false);
    let (_, attempts, outcome) = result(&mut inputs).await;
    assert_eq!(attempts, 1);
    assert!(outcome.unwrap_err().contains("not be tried again"));
    delivery.send("hook", notification("k-2"), false);
    assert_eq!(result(&mut inputs).await, ("k-2".to_owned(), 1, Ok(())));
    receiver.next().await;
    assert_eq!(receiver.next().await.header("idempotency-key"), Some("k-2"));
}

#[tokio::test]
async fn delivery_gives_up_in_the_end() {
    let (results, mut inputs) = mpsc::channel(16);
    let backoff = Backoff { give_up_after: Duration::from_millis(1), ..QUICK };
    let delivery = Delivery::spawn(vec![dead_webhook("hook").await], backoff, results);
    delivery.send("hook", notification("k-1"), false);
    let (_, attempts, outcome) = result(&mut inputs).await;
    assert!(attempts == 1 && outcome.unwrap_err().contains("given up"));
}

#[tokio::test]
async fn a_dead_subscriber_delays_nobody() {
    // It accepts and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", silent.local_addr().unwrap());
    let dead = Notifier::new(
        &Subscriber { name: "dead".to_owned(), ..subscriber(&url, None) },
        client(HttpsOptions::default()),
    )
    .unwrap();
    let receiver = Receiver::start((0..20).map(|_| ok()).collect(), None).await;
    let (results, mut inputs) = mpsc::channel(16);
    let delivery = Delivery::spawn(vec![dead, webhook(&receiver, None)], Backoff::default(), results);
    for number in 0..20 {
        let told = notification(&format!("k-{number}"));
        delivery.send("dead", told.clone(), false);
        delivery.send("hook", told, false);
    }
    for number in 0..20 {
        // Only the living one has results: the other's first attempt still waits.
        assert_eq!(result(&mut inputs).await, (format!("k-{number}"), 1, Ok(())));
    }
    drop(silent);
}

#[tokio::test]
async fn a_full_queue_and_an_unknown_subscriber_are_reported() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", silent.local_addr().unwrap());
    let notifier = Notifier::new(&subscriber(&url, None), client(HttpsOptions::default())).unwrap();
    let (results, mut inputs) = mpsc::channel(2 * delivery::QUEUE);
    let delivery = Delivery::spawn(vec![notifier], Backoff::default(), results);
    for number in 0..delivery::QUEUE + 2 {
        delivery.send("hook", notification(&format!("k-{number}")), false);
    }
    let (_, attempts, outcome) = result(&mut inputs).await;
    assert!(attempts == 0 && outcome.unwrap_err().contains("wait for this subscriber"));
    delivery.send("nobody", notification("k"), false);
    let mut outcomes = Vec::new();
    for _ in 0..2 {
        outcomes.push(result(&mut inputs).await.2.unwrap_err());
    }
    assert!(outcomes.iter().any(|outcome| outcome.contains("no such subscriber")), "{outcomes:?}");
}

#[tokio::test]
async fn a_reload_keeps_what_waits() {
    let mut receiver = Receiver::start(vec![ok()], None).await;
    let (results, mut inputs) = mpsc::channel(16);
    let mut delivery = Delivery::spawn(vec![dead_webhook("hook").await], QUICK, results);
    delivery.send("hook", notification("k-1"), false);
    assert!(result(&mut inputs).await.2.is_err());
    delivery.reconfigure(vec![webhook(&receiver, None)]);
    assert_eq!(receiver.next().await.header("idempotency-key"), Some("k-1"));
    assert_eq!(result(&mut inputs).await.2, Ok(()));
    delivery.reconfigure(Vec::new());
    delivery.send("hook", notification("k-2"), false);
    assert!(result(&mut inputs).await.2.unwrap_err().contains("no such subscriber"));
}

/// Who hears of what is the engine's to say: the page of the vantage has no peer, and a topic is heard whatever the peer.
#[tokio::test]
async fn a_page_that_is_about_no_peer_reaches_a_subscriber_of_some_peers() {
    let mut receiver = Receiver::start(vec![ok()], None).await;
    let of_others = Subscriber { peers: ["other".to_owned()].into(), ..subscriber(&receiver.url("127.0.0.1"), None) };
    let notifier = Notifier::new(&of_others, client(HttpsOptions::default())).unwrap();
    let (results, mut inputs) = mpsc::channel(16);
    let delivery = Delivery::spawn(vec![notifier], QUICK, results);
    delivery.send("hook", Notification { peer: String::new(), ..notification("k-1") }, false);
    assert_eq!(result(&mut inputs).await, ("k-1".to_owned(), 1, Ok(())));
    assert_eq!(receiver.next().await.header("idempotency-key"), Some("k-1"));
}

/// A storm of alarms must not keep a page out, nor make it wait.
#[tokio::test]
async fn a_page_finds_room_where_nothing_else_does_and_leaves_first() {
    let mut receiver = Receiver::start(vec![ok()], None).await;
    let (results, mut inputs) = mpsc::channel(2 * delivery::QUEUE);
    let delivery = Delivery::spawn(vec![webhook(&receiver, None)], QUICK, results);
    for number in 0..delivery::QUEUE {
        delivery.send("hook", Notification { page: false, ..notification(&format!("k-{number}")) }, false);
    }
    delivery.send("hook", notification("page"), false);
    delivery.send("hook", Notification { page: false, ..notification("surplus") }, false);
    let (key, attempts, outcome) = result(&mut inputs).await;
    assert!(key == "surplus" && attempts == 0 && outcome.is_err(), "{key} {attempts} {outcome:?}");
    assert_eq!(receiver.next().await.header("idempotency-key"), Some("page"));
}

fn notification(key: &str) -> Notification {
    Notification {
        key: key.to_owned(),
        incident: Some("i-1".to_owned()),
        peer: "api".to_owned(),
        kind: NotificationKind::Opened,
        page: true,
        subject: "api: connect times out".to_owned(),
        text: "details".to_owned(),
        alarm: None,
    }
}

fn subscriber(url: &str, secret: Option<&str>) -> Subscriber {
    Subscriber {
        name: "hook".to_owned(),
        kind: SubscriberKind::Webhook { secret: secret.map(Secret::new) },
        url: Secret::new(url),
        peers: BTreeSet::new(),
        topics: Default::default(),
    }
}

fn client(options: HttpsOptions) -> HttpsClient {
    HttpsClient::new(options).unwrap()
}

fn webhook(receiver: &Receiver, secret: Option<&str>) -> Notifier {
    Notifier::new(&subscriber(&receiver.url("127.0.0.1"), secret), client(HttpsOptions::default())).unwrap()
}

/// Its port was free a moment ago, and is bound again so that nobody else gets it, but never listens.
async fn dead_webhook(name: &str) -> Notifier {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/", socket.local_addr().unwrap());
    std::mem::forget(socket);
    let subscriber = Subscriber { name: name.to_owned(), ..subscriber(&url, None) };
    Notifier::new(&subscriber, client(HttpsOptions::default())).unwrap()
}

async fn result(inputs: &mut mpsc::Receiver<Input>) -> (String, u32, Result<(), String>) {
    match inputs.recv().await.unwrap() {
        Input::NotificationDelayed { key, attempts, detail, .. } => {
            assert!(detail.ends_with("it will be tried again"), "{detail}");
            (key, attempts, Err(detail))
        }
        Input::NotificationSent { key, attempts, result, .. } => (key, attempts, result),
        other => panic!("{other:?}"),
    }
}

fn ok() -> String {
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_owned()
}

struct Got {
    head: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Got {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

struct Receiver {
    address: SocketAddr,
    is_tls: bool,
    got: mpsc::Receiver<Got>,
}

impl Receiver {
    /// Gives one answer to each request, in order, and then none.
    async fn start(answers: Vec<String>, ca: Option<&Authority>) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, got) = mpsc::channel(64);
        let acceptor = ca.map(Authority::acceptor);
        let is_tls = acceptor.is_some();
        tokio::spawn(async move {
            for answer in answers {
                let (stream, _) = listener.accept().await.unwrap();
                match &acceptor {
                    Some(acceptor) => match acceptor.accept(stream).await {
                        Ok(stream) => serve(stream, &answer, &sender).await,
                        Err(_) => continue,
                    },
                    None => serve(stream, &answer, &sender).await,
                }
            }
        });
        Receiver { address, is_tls, got }
    }

    fn url(&self, host: &str) -> String {
        let scheme = if self.is_tls { "https" } else { "http" };
        format!("{scheme}://{host}:{}/hook?token=hunter2", self.address.port())
    }

    async fn next(&mut self) -> Got {
        self.got.recv().await.unwrap()
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str, sender: &mpsc::Sender<Got>) {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    let mut line = String::new();
    reader.read_line(&mut line).await.unwrap();
    assert_eq!(line, "POST /hook?token=hunter2 HTTP/1.1\r\n");
    loop {
        line.clear();
        reader.read_line(&mut line).await.unwrap();
        let Some((name, value)) = line.trim().split_once(": ") else {
            break;
        };
        head.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let mut got = Got { head, body: Vec::new() };
    got.body = vec![0; got.header("content-length").unwrap().parse().unwrap()];
    reader.read_exact(&mut got.body).await.unwrap();
    sender.send(got).await.unwrap();
    let stream = reader.get_mut();
    // Whoever has read enough hangs up before an endless body ends.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// A certificate of its own for [`HOST`], and what vouches for it.
struct Authority {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Authority {
    fn new() -> Authority {
        let made = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
        Authority { certificate: made.cert.der().clone(), key: made.signing_key.serialize_der() }
    }

    fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], PrivatePkcs8KeyDer::from(self.key.clone()).into())
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// Bound, so that nobody else answers there, and silent.
async fn silent_upstream() -> ukai_dns::Upstream {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let upstream = ukai_dns::Upstream::Udp(socket.local_addr().unwrap());
    tokio::spawn(async move {
        let mut query = [0; 512];
        while socket.recv_from(&mut query).await.is_ok() {}
    });
    upstream
}

async fn name_server(address: Ipv4Addr) -> ukai_dns::Upstream {
    stoppable_name_server(address).await.1
}

async fn stoppable_name_server(address: Ipv4Addr) -> (tokio::task::JoinHandle<()>, ukai_dns::Upstream) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let upstream = ukai_dns::Upstream::Udp(socket.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query).await {
            let answer = dns_answer(&query[..length], address);
            let _ = socket.send_to(&answer, from).await;
        }
    });
    (serving, upstream)
}

/// The address for an A question, nothing for any other (RFC 1035, 4.1); no EDNS.
fn dns_answer(query: &[u8], address: Ipv4Addr) -> Vec<u8> {
    let name_end = 12 + query[12..].iter().position(|byte| *byte == 0).unwrap();
    let question = &query[12..name_end + 5];
    let is_a = question[question.len() - 4..question.len() - 2] == [0, 1];
    let mut answer = Vec::from(&query[..2]);
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_a), 0, 0, 0, 0]);
    answer.extend(question);
    if is_a {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(address.octets());
    }
    answer
}
