//! What clients get beside answers: cookies, limits, what the server tells of itself, and what it notes of them.

use std::collections::HashSet;
use std::fmt::{self, Write};
use std::sync::Mutex;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{DNSClass, RData, RecordType};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UdpSocket, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::field::{Field, Visit};
use tracing::span;

use crate::peer::world;
use crate::running::{PATIENCE, Running, addresses, config, directory, query};

const COOKIE: u16 = 10;

fn with_cookie(text: &str, cookie: &[u8]) -> Message {
    let mut message = query(text, RecordType::A);
    message.edns.as_mut().unwrap().options_mut().insert(EdnsOption::Unknown(COOKIE, cookie.to_vec()));
    message
}

fn cookie(message: &Message) -> Option<Vec<u8>> {
    match message.edns.as_ref()?.option(EdnsCode::Cookie)? {
        EdnsOption::Unknown(_, cookie) => Some(cookie.clone()),
        other => panic!("{other:?} is no cookie"),
    }
}

#[tokio::test]
async fn a_client_with_a_cookie_gets_one() {
    let (world, dir) = (world().await, directory());
    let server = Running::start(config(dir.path(), &[world.address])).await;
    let exchange = async |message: &Message| {
        Message::from_vec(&server.exchange(&message.to_vec().unwrap()).await.unwrap()).unwrap()
    };
    let own = [1, 2, 3, 4, 5, 6, 7, 8];
    // One that is asked upstream, one from the cache, and one over a stream.
    for _ in 0..2 {
        let message = exchange(&with_cookie("www.example.com", &own)).await;
        let cookie = cookie(&message).unwrap();
        assert_eq!((addresses(&message).len(), cookie.len(), &cookie[..8], cookie[8]), (1, 24, &own[..], 1));
        let again = exchange(&with_cookie("www.example.com", &cookie)).await;
        assert_eq!(addresses(&again), ["192.0.2.1"]);
    }
    let stream = server.exchange_tcp(&[with_cookie("www.example.com", &own).to_vec().unwrap()]).await;
    assert_eq!(cookie(&stream[0]).unwrap().len(), 24);
    assert_eq!(cookie(&server.ask("www.example.com", RecordType::A).await), None, "who has none gets none");
    // A whole one that is not ours is as good as half of one.
    let other = exchange(&with_cookie("www.example.com", &[9; 24])).await;
    assert_eq!((addresses(&other).len(), cookie(&other).unwrap()[..8].to_vec()), (1, vec![9; 8]));
    for len in [0, 7, 9, 15, 41] {
        let message = exchange(&with_cookie("www.example.com", &vec![1; len])).await;
        assert_eq!(message.metadata.response_code, ResponseCode::FormErr, "{len} octets");
    }
}

#[tokio::test]
async fn above_the_limit_a_client_must_show_who_it_is() {
    let (world, dir) = (world().await, directory());
    let mut config = config(dir.path(), &[world.address]);
    (config.settings.rate_limit, config.threads) = (Some(5), 1);
    let server = Running::start(config).await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server.address).await.unwrap();
    let own = [7; 8];
    let first = server.ask_with("www.example.com", RecordType::A, |message| {
        message.edns.as_mut().unwrap().options_mut().insert(EdnsOption::Unknown(COOKIE, own.to_vec()));
    });
    let known = cookie(&first.await).unwrap();
    const MANY: usize = 60;
    let burst = async |cookie: &[u8]| {
        for _ in 0..MANY {
            socket.send(&with_cookie("www.example.com", cookie).to_vec().unwrap()).await.unwrap();
        }
        // Answered in order, so its answer is the last.
        let mut last = with_cookie("www.example.com", &known);
        last.metadata.id = 0;
        socket.send(&last.to_vec().unwrap()).await.unwrap();
        let (mut whole, mut truncated) = (0, 0);
        loop {
            let mut buffer = [0; 4_096];
            let len = timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
            let message = Message::from_vec(&buffer[..len]).unwrap();
            if message.metadata.id == 0 {
                return (whole, truncated);
            }
            match message.metadata.truncation {
                true => truncated += 1,
                false => whole += usize::from(addresses(&message) == ["192.0.2.1"]),
            }
        }
    };
    assert_eq!(burst(&known).await, (MANY, 0), "whoever has our cookie is no forgery");
    let (whole, truncated) = burst(&own).await;
    assert!(truncated > 0 && whole < MANY && whole + truncated < MANY, "{whole} whole, {truncated} truncated");
    assert!(server.control.stats().await.unwrap().limited as usize >= MANY - whole);
    let streamed: Vec<_> = (0..MANY).map(|_| query("www.example.com", RecordType::A).to_vec().unwrap()).collect();
    let answers = server.exchange_tcp(&streamed).await;
    assert!(answers.iter().all(|answer| addresses(answer) == ["192.0.2.1"]));
}

#[tokio::test]
async fn what_the_server_is_it_tells_only_when_configured() {
    let (world, dir) = (world().await, directory());
    let config = config(dir.path(), &[world.address]);
    let server = Running::start(config.clone()).await;
    let ask = async |name: &str, rtype| {
        let in_chaos = |message: &mut Message| {
            message.queries[0].set_query_class(DNSClass::CH);
        };
        server.ask_with(name, rtype, in_chaos).await
    };
    for name in ["version.bind", "version.server", "id.server", "hostname.bind"] {
        assert_eq!(ask(name, RecordType::TXT).await.metadata.response_code, ResponseCode::Refused, "{name}");
    }
    let mut settings = config.settings.clone();
    settings.version = Some("ukai".to_owned());
    server.control.reconfigure(settings).await.unwrap();
    for name in ["VERSION.bind", "version.server"] {
        let message = ask(name, RecordType::TXT).await;
        let record = &message.answers[0];
        assert!(matches!(&record.data, RData::TXT(text) if text.to_string() == "ukai"), "{message:?}");
        assert_eq!(record.dns_class, DNSClass::CH);
    }
    for (name, rtype) in [("version.bind", RecordType::A), ("id.server", RecordType::TXT)] {
        assert_eq!(ask(name, rtype).await.metadata.response_code, ResponseCode::Refused, "{name}");
    }
    assert_eq!(world.queries(), 0);
}

#[tokio::test]
async fn every_client_is_answered_by_whichever_thread() {
    let world = world().await;
    for threads in [2, 4] {
        let dir = directory();
        let mut config = config(dir.path(), &[world.address]);
        config.threads = threads;
        let server = std::sync::Arc::new(Running::start(config).await);
        let mut clients = JoinSet::new();
        for client in 0..100 {
            let server = std::sync::Arc::clone(&server);
            clients.spawn(async move {
                for name in [format!("own-{client}.example.com"), "all.example.com".to_owned()] {
                    assert_eq!(addresses(&server.ask(&name, RecordType::A).await), ["192.0.2.1"]);
                }
            });
        }
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
        let stats = server.control.stats().await.unwrap();
        assert_eq!((stats.queries, stats.unanswered, stats.dropped), (200, 0, 0));
    }
}

/// The notes of the whole process; every test looks for names of its own.
struct Notes(Mutex<Vec<String>>);

static NOTES: Notes = Notes(Mutex::new(Vec::new()));

struct Collector;

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl tracing::Subscriber for Collector {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::INFO
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        NOTES.0.lock().unwrap().push(line.0);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

fn noted(domain: &str) -> Vec<String> {
    NOTES.0.lock().unwrap().iter().filter(|line| line.contains(domain)).cloned().collect()
}

#[tokio::test]
async fn what_is_asked_is_noted_only_on_demand_and_without_who() {
    tracing::subscriber::set_global_default(Collector).unwrap();
    let (world, dir) = (world().await, directory());
    let config = config(dir.path(), &[world.address]);
    let socket = config.control_socket.clone();
    let server = Running::start(config).await;
    let ask = async |domain: &str| {
        for n in 0..10 {
            server.ask(&format!("n{n}.{domain}"), RecordType::A).await;
        }
    };
    let log = async |seconds: u32, every: u32, clients: bool| {
        let mut stream = BufReader::new(UnixStream::connect(&socket).await.unwrap());
        let request = serde_json::json!({ "op": "log", "seconds": seconds, "every": every, "clients": clients });
        stream.write_all(format!("{request}\n").as_bytes()).await.unwrap();
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        assert!(line.contains("done"), "{line}");
    };
    ask("before.example").await;
    assert_eq!(noted("before.example"), Vec::<String>::new());
    log(60, 1, false).await;
    ask("all.example").await;
    let lines = noted("all.example");
    let names: HashSet<_> = lines.iter().filter(|line| line.contains("asked")).collect();
    assert_eq!(names.len(), 10, "{lines:?}");
    assert!(lines.iter().all(|line| !line.contains("127.0.0.1") && !line.contains("client")), "{lines:?}");
    log(60, 5, false).await;
    ask("some.example").await;
    assert_eq!(noted("some.example").len(), 2);
    log(60, 1, true).await;
    ask("who.example").await;
    assert!(noted("who.example").iter().all(|line| line.contains("127.0.0.1")));
    log(0, 1, true).await;
    ask("after.example").await;
    assert_eq!(noted("after.example"), Vec::<String>::new());
}
