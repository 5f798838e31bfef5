use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;

use crate::peer::{Peer, Via, a, asked, reply, soa, with_error};
use crate::running::{Running, addresses, config, directory, errors, eventually, query};

fn answer(query: &Message) -> Message {
    let mut message = reply(query, ResponseCode::NoError);
    message.add_answer(a(&asked(query), 100, "192.0.2.1"));
    message
}

#[tokio::test]
async fn an_answer_is_kept_and_counts_down() {
    let peer = Peer::start(|query, _| Some(answer(query))).await;
    let dir = directory();
    let server = Running::start(config(dir.path(), &[peer.address])).await;
    let first = server.ask("WWW.example.com", RecordType::A).await;
    assert_eq!(addresses(&first), ["192.0.2.1"]);
    assert_eq!(first.queries[0].name().to_string(), "WWW.example.com.");
    assert_eq!(first.answers[0].name.to_string(), "WWW.example.com.");
    let metadata = first.metadata;
    assert!(
        metadata.recursion_available
            && metadata.recursion_desired
            && !metadata.authoritative
            && !metadata.authentic_data
    );
    let ttl = eventually("the time to live is less", async || {
        let ttl = server.ask("www.EXAMPLE.com", RecordType::A).await.answers[0].ttl;
        (ttl < 100).then_some(ttl)
    })
    .await;
    assert!(ttl > 50);
    assert_eq!(peer.queries(), 1);
    let stats = server.control.stats().await.unwrap();
    assert_eq!((stats.misses, stats.cache_entries), (1, 1));
    assert!(stats.hits >= 1);
    server.control.flush(&"www.example.com".parse().unwrap()).await.unwrap();
    server.ask("www.example.com", RecordType::A).await;
    assert_eq!(peer.queries(), 2);
}

/// Servers compress in their own ways: the owner in full, only its first labels before a pointer, or a pointer alone.
#[tokio::test]
async fn the_case_of_the_question_is_that_of_the_answer_however_it_is_compressed() {
    for owner in
        [b"\x03www\x07example\x03com\x00".as_slice(), b"\x03www\xC0\x10", b"\x03www\x07example\xC0\x18", b"\xC0\x0C"]
    {
        let peer = Peer::raw(move |query, _| {
            let mut bytes = reply(query, ResponseCode::NoError).to_vec().unwrap();
            bytes.truncate(12 + 17 + 4);
            bytes[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
            bytes.extend_from_slice(owner);
            bytes.extend_from_slice(&[0, 1, 0, 1, 0, 0, 0, 100, 0, 4, 192, 0, 2, 1]);
            Some(bytes)
        })
        .await;
        let dir = directory();
        let server = Running::start(config(dir.path(), &[peer.address])).await;
        for asked in ["WWW.eXample.COM.", "www.example.com.", "wwW.EXAMPLE.com."] {
            let message = server.ask(asked, RecordType::A).await;
            assert_eq!(message.answers[0].name.to_string(), asked, "{owner:?}");
        }
    }
}

#[tokio::test]
async fn a_set_shares_its_lowest_time_to_live() {
    let peer = Peer::start(|query, _| {
        let mut message = reply(query, ResponseCode::NoError);
        message.add_answer(a(&asked(query), 1_000, "192.0.2.1"));
        message.add_answer(a(&asked(query), 50, "192.0.2.2"));
        Some(message)
    })
    .await;
    let dir = directory();
    let server = Running::start(config(dir.path(), &[peer.address])).await;
    let message = server.ask("www.example.com", RecordType::A).await;
    assert_eq!(message.answers[0].ttl, message.answers[1].ttl);
    assert!(message.answers[0].ttl <= 50);
}

#[tokio::test]
async fn an_absence_is_kept_if_there_is_an_soa() {
    let peer = Peer::start(|query, _| {
        let mut message = reply(query, ResponseCode::NXDomain);
        if asked(query) != "bare.example.com" {
            message.add_authority(soa("example.com", 60));
        }
        Some(message)
    })
    .await;
    let dir = directory();
    let server = Running::start(config(dir.path(), &[peer.address])).await;
    for rtype in [RecordType::A, RecordType::AAAA, RecordType::TXT] {
        let message = server.ask("gone.example.com", rtype).await;
        assert_eq!(message.metadata.response_code, ResponseCode::NXDomain);
        assert!(message.authorities[0].ttl <= 60, "RFC 2308: the SOA's own time to live is the lower of its two");
    }
    assert_eq!(peer.queries(), 1);
    for _ in 0..2 {
        server.ask("bare.example.com", RecordType::A).await;
    }
    assert_eq!(peer.queries(), 3);
}

#[tokio::test]
async fn many_askers_make_one_query() {
    let peer = Peer::slow(Duration::from_millis(200), |query, _| Some(answer(query))).await;
    let dir = directory();
    let server = std::sync::Arc::new(Running::start(config(dir.path(), &[peer.address])).await);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let server = std::sync::Arc::clone(&server);
        tasks.spawn(async move { addresses(&server.ask("www.example.com", RecordType::A).await) });
    }
    let answers = tasks.join_all().await;
    assert!(answers.iter().all(|answer| answer == &["192.0.2.1"]), "{answers:?}");
    assert_eq!(peer.queries(), 1);
}

#[tokio::test]
async fn a_truncated_answer_is_fetched_by_tcp_and_truncated_for_clients_that_take_less() {
    let peer = Peer::start(|query, via| {
        let mut message = reply(query, ResponseCode::NoError);
        match via {
            Via::Udp => message.metadata.truncation = true,
            Via::Tcp => {
                message.add_answers((0..100).map(|n| a(&asked(query), 60, &format!("192.0.2.{n}"))));
            }
        }
        Some(message)
    })
    .await;
    let dir = directory();
    let server = Running::start(config(dir.path(), &[peer.address])).await;
    let datagram = server.ask("many.example.com", RecordType::A).await;
    assert!(datagram.metadata.truncation);
    assert!(datagram.answers.is_empty());
    let stream = server.exchange_tcp(&[query("many.example.com", RecordType::A).to_vec().unwrap()]).await;
    assert!(!stream[0].metadata.truncation);
    assert_eq!(addresses(&stream[0]).len(), 100);
    assert_eq!(peer.queries(), 2);
}

#[tokio::test]
async fn the_next_upstream_answers_when_one_is_silent() {
    let (silent, peer) = (Peer::silent().await, Peer::start(|query, _| Some(answer(query))).await);
    let dir = directory();
    let server = Running::start(config(dir.path(), &[silent.address, peer.address])).await;
    for n in 0..6 {
        assert_eq!(addresses(&server.ask(&format!("n{n}.example.com"), RecordType::A).await), ["192.0.2.1"]);
    }
    assert_eq!(peer.queries(), 6);
    assert!(silent.queries() <= 5, "an upstream that is silent must not be asked first for ever");
}

#[tokio::test]
async fn the_next_upstream_answers_when_one_fails() {
    let broken = Peer::start(|query, _| Some(reply(query, ResponseCode::ServFail))).await;
    let peer = Peer::start(|query, _| Some(answer(query))).await;
    let dir = directory();
    let server = Running::start(config(dir.path(), &[broken.address, peer.address])).await;
    assert_eq!(addresses(&server.ask("www.example.com", RecordType::A).await), ["192.0.2.1"]);
    assert_eq!(server.control.stats().await.unwrap().upstream_failures, 1);
}

#[tokio::test]
async fn silence_everywhere_is_a_failure_with_its_reason_and_is_remembered() {
    let silent = Peer::silent().await;
    let dir = directory();
    let server = Running::start(config(dir.path(), &[silent.address])).await;
    let message = server.ask("www.example.com", RecordType::A).await;
    assert_eq!(message.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(errors(&message).iter().map(|error| error.0).collect::<Vec<_>>(), [22]);
    let asked = silent.queries();
    let again = server.ask("www.example.com", RecordType::A).await;
    assert_eq!(again.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(errors(&again).iter().map(|error| error.0).collect::<Vec<_>>(), [13, 22]);
    assert_eq!(silent.queries(), asked);
}

#[tokio::test]
async fn a_host_that_refuses_is_a_network_error() {
    let closed = Peer::silent().await.address;
    let dir = directory();
    let server = Running::start(config(dir.path(), &[closed])).await;
    let message = eventually("the port is closed", async || {
        let message = server.ask("www.example.com", RecordType::A).await;
        errors(&message).iter().any(|error| error.0 == 23).then_some(message)
    })
    .await;
    assert_eq!(message.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn an_upstreams_reasons_are_passed_on() {
    let peer = Peer::start(|query, _| Some(with_error(reply(query, ResponseCode::ServFail), 6, "bogus"))).await;
    let dir = directory();
    let server = Running::start(config(dir.path(), &[peer.address])).await;
    let message = server.ask("www.example.com", RecordType::A).await;
    assert_eq!(message.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(errors(&message).iter().map(|error| error.0).collect::<Vec<_>>(), [0, 6]);
    assert!(errors(&message).contains(&(6, "bogus".to_owned())));
}

#[tokio::test]
async fn an_upstream_that_refuses_is_not_out_of_reach() {
    let peer = Peer::start(|query, _| Some(reply(query, ResponseCode::Refused))).await;
    let dir = directory();
    let server = Running::start(config(dir.path(), &[peer.address])).await;
    let message = server.ask("www.example.com", RecordType::A).await;
    let errors = errors(&message);
    assert!(matches!(errors.as_slice(), [(0, text)] if text.ends_with(": REFUSED")), "{errors:?}");
}

#[tokio::test]
async fn ad_is_passed_on_to_those_who_ask_and_the_key_has_do_and_cd() {
    let peer = Peer::start(|query, _| {
        let mut message = answer(query);
        message.metadata.authentic_data = query.metadata.authentic_data;
        message.answers[0].ttl = 60 + u32::from(query.metadata.checking_disabled);
        Some(message)
    })
    .await;
    let dir = directory();
    let server = Running::start(config(dir.path(), &[peer.address])).await;
    assert!(!server.ask("www.example.com", RecordType::A).await.metadata.authentic_data);
    let asking = server.ask_with("www.example.com", RecordType::A, |query| query.metadata.authentic_data = true).await;
    assert!(asking.metadata.authentic_data);
    assert_eq!(peer.queries(), 1);
    let unchecked =
        server.ask_with("www.example.com", RecordType::A, |query| query.metadata.checking_disabled = true).await;
    assert!(unchecked.metadata.checking_disabled);
    assert_eq!(unchecked.answers[0].ttl, 61);
    assert_eq!(peer.queries(), 2);
}

#[tokio::test]
async fn new_upstreams_are_asked_and_nothing_of_the_old_ones_is_kept() {
    let (old, new) = (Peer::start(|query, _| Some(answer(query))).await, AtomicUsize::new(0));
    let fresh = Peer::start(move |query, _| {
        new.fetch_add(1, Ordering::SeqCst);
        let mut message = reply(query, ResponseCode::NoError);
        message.add_answer(a(&asked(query), 100, "192.0.2.2"));
        Some(message)
    })
    .await;
    let dir = directory();
    let config = config(dir.path(), &[old.address]);
    let server = Running::start(config.clone()).await;
    assert_eq!(addresses(&server.ask("www.example.com", RecordType::A).await), ["192.0.2.1"]);
    let mut settings = config.settings.clone();
    settings.upstreams = vec![fresh.address.into()];
    server.control.reconfigure(settings.clone()).await.unwrap();
    assert_eq!(addresses(&server.ask("www.example.com", RecordType::A).await), ["192.0.2.2"]);
    settings.upstreams = vec![server.address.into()];
    let error = server.control.reconfigure(settings.clone()).await.unwrap_err();
    assert!(error.to_string().contains("is this server itself"), "{error}");
    settings.upstreams.clear();
    assert!(server.control.reconfigure(settings).await.is_err());
}

#[tokio::test]
async fn upstreams_speak_tcp_as_well() {
    let peer = Peer::start(|query, via| (via == Via::Tcp).then(|| answer(query))).await;
    let dir = directory();
    let mut config = config(dir.path(), &[]);
    config.settings.upstreams = vec![ukai_dns::Upstream::Tcp(peer.address)];
    let server = Running::start(config).await;
    assert_eq!(addresses(&server.ask("www.example.com", RecordType::A).await), ["192.0.2.1"]);
}

/// A client with a cache of its own must not hold on to what an override is about to replace.
#[tokio::test]
async fn a_watched_name_is_never_given_for_long() {
    let peer = Peer::start(|query, _| Some(answer(query))).await;
    let dir = directory();
    let server = Running::start(config(dir.path(), &[peer.address])).await;
    for _ in 0..2 {
        let watched = server.ask("api.peer.test", RecordType::A).await;
        assert!(watched.answers[0].ttl <= 10, "{watched:?}");
    }
    assert_eq!(peer.queries(), 1);
    let other = server.ask("www.peer.test", RecordType::A).await;
    assert!(other.answers[0].ttl > 10);
}
