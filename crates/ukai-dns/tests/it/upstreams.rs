//! How upstreams are asked, and what is believed of what they say.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::RecordType;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use ukai_dns::server::Route;

use crate::peer::{Peer, Via, a, asked, reply, soa};
use crate::running::{Running, addresses, config, directory, errors, eventually};

fn answer(query: &Message, ttl: u32, address: &str) -> Message {
    let mut message = reply(query, ResponseCode::NoError);
    message.add_answer(a(&asked(query), ttl, address));
    message
}

async fn at(address: &'static str) -> Peer {
    Peer::start(move |query, _| Some(answer(query, 300, address))).await
}

fn codes(message: &Message) -> Vec<u16> {
    errors(message).into_iter().map(|error| error.0).collect()
}

#[tokio::test]
async fn a_domain_is_asked_of_its_own_servers_and_the_longest_wins() {
    let (world, corp, eu) = (at("192.0.2.1").await, at("192.0.2.2").await, at("192.0.2.3").await);
    let dir = directory();
    let mut config = config(dir.path(), &[world.address]);
    let route =
        |domain: &str, peer: &Peer| Route { domain: domain.parse().unwrap(), upstreams: vec![peer.address.into()] };
    config.settings.forward =
        vec![route("corp.example", &corp), route("EU.corp.example", &eu), route("office.local", &corp)];
    let server = Running::start(config.clone()).await;
    for (name, wanted) in [
        ("example", "192.0.2.1"),
        ("xcorp.example", "192.0.2.1"),
        ("corp.example", "192.0.2.2"),
        ("a.b.CORP.example", "192.0.2.2"),
        ("xeu.corp.example", "192.0.2.2"),
        ("eu.corp.example", "192.0.2.3"),
        ("a.eu.corp.example", "192.0.2.3"),
        // What the operator names wins over the special use of the domain above it.
        ("printer.office.local", "192.0.2.2"),
    ] {
        assert_eq!(addresses(&server.ask(name, RecordType::A).await), [wanted], "{name}");
    }
    let elsewhere = server.ask("printer.other.local", RecordType::A).await;
    assert_eq!(elsewhere.metadata.response_code, ResponseCode::NXDomain);
    // Its own servers only: the world is not asked what is not its business.
    drop(eu);
    let (before, dead) = (world.queries() + corp.queries(), server.ask("b.eu.corp.example", RecordType::A).await);
    assert_eq!(dead.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(world.queries() + corp.queries(), before);
    let mut settings = config.settings.clone();
    settings.forward.clear();
    server.control.reconfigure(settings).await.unwrap();
    assert_eq!(addresses(&server.ask("corp.example", RecordType::A).await), ["192.0.2.1"]);
}

#[tokio::test]
async fn what_is_asked_often_is_fetched_before_it_ends() {
    let peer = Peer::start(|query, _| Some(answer(query, 10, "192.0.2.1"))).await;
    let dir = directory();
    let server = Running::start(config(dir.path(), &[peer.address])).await;
    // The time for it is the last second; on a machine that stands still for so long it is over, and there is another try.
    for n in 0..3 {
        let (name, before) = (format!("www{n}.example.com"), peer.queries());
        server.ask(&name, RecordType::A).await;
        eventually("it is asked for anew", async || {
            assert_eq!(addresses(&server.ask(&name, RecordType::A).await), ["192.0.2.1"]);
            (peer.queries() == before + 2).then_some(())
        })
        .await;
        let stats = server.control.stats().await.unwrap();
        if (stats.misses, stats.prefetched) == (n + 1, 1) {
            return;
        }
    }
    panic!("somebody always had to wait for it");
}

/// An upstream that answers until it is told to fail.
struct Failing {
    peer: Peer,
    fails: Arc<AtomicBool>,
}

impl Failing {
    async fn start(how: Option<ResponseCode>) -> Self {
        let fails = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&fails);
        let peer = Peer::start(move |query, _| match told.load(Ordering::SeqCst) {
            true => how.map(|rcode| reply(query, rcode)),
            false if asked(query).starts_with("gone.") => {
                let mut message = reply(query, ResponseCode::NXDomain);
                message.add_authority(soa("example.com", 1));
                Some(message)
            }
            false => Some(answer(query, 1, "192.0.2.1")),
        })
        .await;
        Self { peer, fails }
    }
}

#[tokio::test]
async fn old_answers_stand_in_for_those_that_cannot_be_had_but_never_for_a_watched_name() {
    for how in [Some(ResponseCode::ServFail), Some(ResponseCode::Refused), None] {
        let upstream = Failing::start(how).await;
        let dir = directory();
        let server = Running::start(config(dir.path(), &[upstream.peer.address])).await;
        for name in ["www.example.com", "gone.example.com", "api.peer.test"] {
            assert!(codes(&server.ask(name, RecordType::A).await).is_empty());
        }
        upstream.fails.store(true, Ordering::SeqCst);
        let stale = eventually("an old answer", async || {
            let message = server.ask("www.example.com", RecordType::A).await;
            (!codes(&message).is_empty()).then_some(message)
        })
        .await;
        assert_eq!((codes(&stale), addresses(&stale)), (vec![3], vec!["192.0.2.1".to_owned()]));
        assert_eq!((stale.metadata.response_code, stale.answers[0].ttl), (ResponseCode::NoError, 30));
        let gone = eventually("an old absence", async || {
            let message = server.ask("gone.example.com", RecordType::AAAA).await;
            (!codes(&message).is_empty()).then_some(message)
        })
        .await;
        assert_eq!((codes(&gone), gone.metadata.response_code), (vec![19], ResponseCode::NXDomain));
        assert_eq!(gone.authorities[0].ttl, 30);
        eventually("the watched name fails", async || {
            let message = server.ask("api.peer.test", RecordType::A).await;
            assert!(!codes(&message).contains(&3), "{message:?}");
            (message.metadata.response_code == ResponseCode::ServFail).then_some(())
        })
        .await;
        assert!(addresses(&server.ask("api.peer.test", RecordType::A).await).is_empty());
        // While it stands in, the upstream has peace.
        let before = upstream.peer.queries();
        assert_eq!(codes(&server.ask("www.example.com", RecordType::A).await), [3]);
        assert!(upstream.peer.queries() <= before + 1);
        upstream.fails.store(false, Ordering::SeqCst);
        for name in ["www.example.com", "api.peer.test"] {
            eventually("the upstream is believed again", async || {
                let message = server.ask(name, RecordType::A).await;
                (codes(&message).is_empty() && addresses(&message) == ["192.0.2.1"]).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test]
async fn case_is_mixed_and_one_who_does_not_keep_it_is_answered_all_the_same() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let peer = Peer::start(move |query, _| {
        noted.lock().unwrap().push(query.queries[0].name().to_string());
        let mut message = answer(query, 300, "192.0.2.1");
        let lower = message.queries[0].name().to_lowercase();
        message.queries[0].set_name(lower);
        Some(message)
    })
    .await;
    let dir = directory();
    let server = Running::start(config(dir.path(), &[peer.address])).await;
    for n in 0..5 {
        let name = format!("Quite-Long-Name-{n}.example.com");
        let message = server.ask(&name, RecordType::A).await;
        assert_eq!(addresses(&message), ["192.0.2.1"]);
        assert_eq!(message.queries[0].name().to_string(), format!("{name}."), "the client's own case");
    }
    let seen = seen.lock().unwrap().clone();
    assert!(seen[0].chars().any(char::is_uppercase) && seen[0].chars().any(char::is_lowercase), "{seen:?}");
    // Once it is known, it is asked but once.
    assert!(seen.len() < 10, "{seen:?}");
}

/// The second upstream is asked in a race, where the case is mixed and checked as well.
#[tokio::test]
async fn who_is_asked_second_is_asked_in_mixed_case_too() {
    for keeps in [true, false] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        let silent = Peer::silent().await;
        let second = Peer::start(move |query, _| {
            noted.lock().unwrap().push(query.queries[0].name().to_string());
            let mut message = answer(query, 300, "192.0.2.1");
            if !keeps {
                let lower = message.queries[0].name().to_lowercase();
                message.queries[0].set_name(lower);
            }
            Some(message)
        })
        .await;
        let dir = directory();
        let server = Running::start(config(dir.path(), &[silent.address, second.address])).await;
        let message = server.ask("quite-long-name.example.com", RecordType::A).await;
        assert_eq!(addresses(&message), ["192.0.2.1"], "{keeps}");
        let seen = seen.lock().unwrap().clone();
        assert!(seen[0].chars().any(char::is_uppercase) && seen[0].chars().any(char::is_lowercase), "{seen:?}");
        assert_eq!(seen.len(), if keeps { 1 } else { 2 }, "{seen:?}");
    }
}

/// An upstream to whose every answer a forger is quicker.
struct Forged {
    address: SocketAddr,
    queries: Arc<AtomicUsize>,
    ports: Arc<Mutex<HashSet<u16>>>,
    task: JoinHandle<()>,
}

impl Forged {
    async fn start(forge: impl Fn(&[u8], Vec<u8>) -> Vec<u8> + Send + 'static, from_elsewhere: bool) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let elsewhere = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let (queries, ports) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(HashSet::new())));
        let (counted, seen) = (Arc::clone(&queries), Arc::clone(&ports));
        let task = tokio::spawn(async move {
            let mut buffer = [0; 4_096];
            loop {
                let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                seen.lock().unwrap().insert(from.port());
                let query = Message::from_vec(&buffer[..len]).unwrap();
                let with = |address: &str| answer(&query, 300, address).to_vec().unwrap();
                let forged = forge(&buffer[..len], with("192.0.2.66"));
                let sender = if from_elsewhere { &elsewhere } else { &socket };
                for _ in 0..3 {
                    sender.send_to(&forged, from).await.unwrap();
                }
                socket.send_to(&with("192.0.2.1"), from).await.unwrap();
            }
        });
        Self { address, queries, ports, task }
    }
}

impl Drop for Forged {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn a_forged_answer_is_dropped_and_the_right_one_taken() {
    type Forge = fn(&[u8], Vec<u8>) -> Vec<u8>;
    let forgeries: [(&str, Forge, bool); 6] = [
        ("another id", |_, mut bytes| (bytes[1] ^= 1, bytes).1, false),
        ("another case", |_, mut bytes| (bytes[13..16].iter_mut().for_each(|octet| *octet ^= 0x20), bytes).1, false),
        ("another name", |_, mut bytes| (bytes[13] = b'y', bytes).1, false),
        ("another type", |_, mut bytes| (bytes[12 + 17 + 1] = 28, bytes).1, false),
        ("a query", |query, _| query.to_vec(), false),
        ("another port", |_, bytes| bytes, true),
    ];
    for (what, forge, from_elsewhere) in forgeries {
        let forged = Forged::start(forge, from_elsewhere).await;
        let dir = directory();
        let server = Running::start(config(dir.path(), &[forged.address])).await;
        for n in 0..40 {
            let message = server.ask(&format!("www{n:02}.example.com"), RecordType::A).await;
            assert_eq!(addresses(&message), ["192.0.2.1"], "{what}");
        }
        let asked = forged.queries.load(Ordering::SeqCst);
        assert!(asked < 60, "{what}: {asked} questions; a forged answer must not cost a second one");
        assert!(forged.ports.lock().unwrap().len() > 1, "a port is not used for long");
    }
}

#[tokio::test]
async fn a_late_answer_still_counts() {
    for delay in [400, 700] {
        // What is asked again is not answered: only the first datagram's answer can be the one that is taken.
        let seen = Mutex::new(HashSet::new());
        let peer = Peer::slow(Duration::from_millis(delay), move |query, via| {
            (via == Via::Udp && seen.lock().unwrap().insert(asked(query))).then(|| answer(query, 300, "192.0.2.1"))
        })
        .await;
        let dir = directory();
        let server = Running::start(config(dir.path(), &[peer.address])).await;
        let message = server.ask("www.example.com", RecordType::A).await;
        assert_eq!(addresses(&message), ["192.0.2.1"], "after {delay} ms");
        assert_eq!(addresses(&server.ask("www.example.com", RecordType::A).await), ["192.0.2.1"]);
    }
}

#[tokio::test]
async fn one_from_before_edns_is_asked_without() {
    for (rcode, repeats_question) in
        [(ResponseCode::FormErr, true), (ResponseCode::FormErr, false), (ResponseCode::NotImp, true)]
    {
        let peer = Peer::start(move |query, _| {
            if query.edns.is_none() {
                return Some(answer(query, 300, "192.0.2.1"));
            }
            let mut message = reply(query, rcode);
            message.edns = None;
            if !repeats_question {
                message.queries.clear();
            }
            Some(message)
        })
        .await;
        let dir = directory();
        let server = Running::start(config(dir.path(), &[peer.address])).await;
        for n in 0..3 {
            let message = server.ask(&format!("www{n}.example.com"), RecordType::A).await;
            assert_eq!(addresses(&message), ["192.0.2.1"], "{rcode} {repeats_question}");
            assert!(message.edns.is_some(), "what an upstream lacks is not the client's loss");
        }
    }
}

/// What only makes sense between us and the upstream, and what a client without EDNS could not even be told.
#[tokio::test]
async fn an_extended_rcode_is_a_failure_of_the_upstream() {
    for code in [16_u8, 23] {
        let peer = Peer::start(move |query, _| {
            let mut message = reply(query, ResponseCode::from(code >> 4, code & 0xf));
            message.edns.get_or_insert_with(Edns::new);
            Some(message)
        })
        .await;
        let good = at("192.0.2.1").await;
        let dir = directory();
        let server = Running::start(config(dir.path(), &[peer.address])).await;
        for with_edns in [true, false] {
            let ask = server
                .ask_with("www.example.com", RecordType::A, |query| {
                    if !with_edns {
                        query.edns = None;
                    }
                })
                .await;
            assert_eq!(ask.metadata.response_code, ResponseCode::ServFail, "{code} {with_edns}");
        }
        drop(server);
        let dir = directory();
        let server = Running::start(config(dir.path(), &[peer.address, good.address])).await;
        assert_eq!(addresses(&server.ask("www.example.com", RecordType::A).await), ["192.0.2.1"], "the next is asked");
    }
}

#[tokio::test]
async fn silence_and_refusal_are_told_apart_on_a_stream_too() {
    let silent = Peer::silent().await;
    let closed = Peer::silent().await.address;
    for (upstream, code) in [(silent.address, 22), (closed, 23)] {
        let dir = directory();
        let server = Running::start(config(dir.path(), &[upstream])).await;
        eventually("the reason is given", async || {
            let bytes = crate::running::query("www.example.com", RecordType::A).to_vec().unwrap();
            let message = server.exchange_tcp(&[bytes]).await.remove(0);
            assert_eq!(message.metadata.response_code, ResponseCode::ServFail);
            codes(&message).contains(&code).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_answer_that_may_not_be_kept_makes_nothing_older_good_again() {
    let asked_before = AtomicBool::new(false);
    let peer = Peer::start(move |query, _| match asked_before.swap(true, Ordering::SeqCst) {
        false => Some(answer(query, 1, "192.0.2.1")),
        true => Some(answer(query, 0, "192.0.2.2")),
    })
    .await;
    let dir = directory();
    let server = Running::start(config(dir.path(), &[peer.address])).await;
    assert_eq!(addresses(&server.ask("www.example.com", RecordType::A).await), ["192.0.2.1"]);
    eventually("the first answer is over", async || {
        let message = server.ask("www.example.com", RecordType::A).await;
        (addresses(&message) == ["192.0.2.2"]).then_some(())
    })
    .await;
    for _ in 0..3 {
        let message = server.ask("www.example.com", RecordType::A).await;
        assert_eq!((addresses(&message), codes(&message)), (vec!["192.0.2.2".to_owned()], vec![]));
    }
}
