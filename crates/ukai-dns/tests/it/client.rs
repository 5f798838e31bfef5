use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::{Edns, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsOption, NSIDPayload};
use tokio::net::{TcpListener, UdpSocket};
use ukai_dns::{AskError, AskOptions, Client, ClientOptions, Question, Rcode, RecordType, Trace, Transport, Upstream};

use crate::peer::{Peer, Via, a, asked, cname, framed, read_framed, reply};
use crate::running::{PATIENCE, eventually};

fn client() -> Client {
    Client::new(ClientOptions { system_roots: false, ..ClientOptions::default() })
}

fn question() -> Question {
    Question::new("api.peer.test", RecordType::A).unwrap()
}

fn patient() -> AskOptions {
    AskOptions { timeout: PATIENCE, ..AskOptions::default() }
}

fn quick() -> AskOptions {
    AskOptions { timeout: Duration::from_millis(300), ..AskOptions::default() }
}

#[tokio::test]
async fn a_cname_chain_by_both_transports() {
    let peer = Peer::start(|query, _| {
        let mut message = reply(query, ResponseCode::NoError);
        message.add_answer(cname(&asked(query), "x.cdn.test"));
        message.add_answer(a("x.cdn.test", 60, "192.0.2.1"));
        message.add_answer(a("unrelated.test", 60, "192.0.2.66"));
        Some(message)
    })
    .await;
    for (upstream, transport) in
        [(Upstream::Udp(peer.address), Transport::Udp), (Upstream::Tcp(peer.address), Transport::Tcp)]
    {
        let reply = client().ask(&upstream, &question(), &patient()).await.unwrap();
        assert_eq!(reply.addresses(), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(reply.cname_chain()[0], "x.cdn.test");
        assert_eq!((reply.transport, reply.server, reply.min_ttl()), (transport, peer.address, Some(60)));
    }
    assert_eq!(peer.queries(), 2);
}

#[tokio::test]
async fn replies_to_another_query_are_dropped() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let mut buffer = [0; 1024];
        let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
        let query = hickory_proto::op::Message::from_vec(&buffer[..len]).unwrap();
        let mut wrong_id = reply(&query, ResponseCode::NoError);
        wrong_id.metadata.id ^= 1;
        wrong_id.add_answer(a("api.peer.test", 60, "192.0.2.66"));
        let mut wrong_name = reply(&query, ResponseCode::NoError);
        wrong_name.queries[0].set_name("evil.test.".parse().unwrap());
        let mut right = reply(&query, ResponseCode::NoError);
        right.add_answer(a("API.peer.test", 60, "192.0.2.1"));
        right.queries[0].set_name("API.PEER.test.".parse().unwrap());
        for message in [wrong_id, wrong_name, right] {
            socket.send_to(&message.to_vec().unwrap(), from).await.unwrap();
        }
    });
    let reply = client().ask(&Upstream::Udp(address), &question(), &patient()).await.unwrap();
    assert_eq!(reply.addresses(), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    assert_eq!(reply.mismatched, 2);
    server.await.unwrap();
}

#[tokio::test]
async fn a_lost_datagram_is_sent_again_once() {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let peer = Peer::start(move |query, _| {
        (counter.fetch_add(1, Ordering::SeqCst) > 0).then(|| reply(query, ResponseCode::NoError))
    })
    .await;
    let options = AskOptions { timeout: Duration::from_secs(3), ..AskOptions::default() };
    client().ask(&Upstream::Udp(peer.address), &question(), &options).await.unwrap();
    assert_eq!(count.load(Ordering::SeqCst), 2);
    let silent = Peer::silent().await;
    let error = client().ask(&Upstream::Udp(silent.address), &question(), &quick()).await.unwrap_err();
    assert_eq!(error, AskError::Timeout { after: quick().timeout });
    assert_eq!(error.to_string(), "no reply within 300 ms");
    eventually("both have come", async || (silent.queries() == 2).then_some(())).await;
}

#[tokio::test]
async fn truncation() {
    let peer = Peer::start(|query, via| {
        let mut message = reply(query, ResponseCode::NoError);
        message.metadata.truncation = via == Via::Udp;
        if via == Via::Tcp {
            message.add_answer(a(&asked(query), 60, "192.0.2.1"));
        }
        Some(message)
    })
    .await;
    let upstream = Upstream::Udp(peer.address);
    let whole = client().ask(&upstream, &question(), &patient()).await.unwrap();
    assert_eq!((whole.transport, whole.truncated, whole.addresses().len()), (Transport::Tcp, false, 1));
    let options = AskOptions { tcp_on_truncation: false, ..patient() };
    let cut = client().ask(&upstream, &question(), &options).await.unwrap();
    assert_eq!((cut.transport, cut.truncated, cut.addresses().len()), (Transport::Udp, true, 0));
}

#[tokio::test]
async fn a_server_from_before_edns() {
    let peer = Peer::start(|query, _| {
        let mut message =
            reply(query, if query.edns.is_some() { ResponseCode::FormErr } else { ResponseCode::NoError });
        message.edns = None;
        Some(message)
    })
    .await;
    let reply = client().ask(&Upstream::Udp(peer.address), &question(), &patient()).await.unwrap();
    assert_eq!((reply.rcode, reply.edns), (Rcode::NOERROR, false));
    assert_eq!(peer.queries(), 2);
}

#[tokio::test]
async fn a_server_says_who_it_is() {
    let peer = Peer::start(|query, _| {
        let mut message = reply(query, ResponseCode::NXDomain);
        let asked = query
            .edns
            .as_ref()
            .is_some_and(|edns| edns.option(hickory_proto::rr::rdata::opt::EdnsCode::NSID).is_some());
        if asked {
            let edns = message.edns.get_or_insert_with(Edns::new);
            edns.options_mut().insert(EdnsOption::NSID(NSIDPayload::new(b"ns-1.example".to_vec()).unwrap()));
        }
        Some(message)
    })
    .await;
    let options = AskOptions { nsid: true, ..patient() };
    let reply = client().ask(&Upstream::Udp(peer.address), &question(), &options).await.unwrap();
    assert_eq!((reply.nsid.as_deref(), reply.rcode), (Some("ns-1.example"), Rcode::NXDOMAIN));
}

#[tokio::test]
async fn four_thousand_addresses_in_one_answer() {
    let peer = Peer::raw(|query, via| {
        let mut message = reply(query, ResponseCode::NoError);
        message.metadata.truncation = via == Via::Udp;
        message.edns = None;
        let mut bytes = message.to_vec().unwrap();
        if via == Via::Tcp {
            // By hand, because each name must be two octets for so many to fit.
            for n in 0..4_000u32 {
                bytes.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                bytes.extend_from_slice(&(0x0a00_0000 + n).to_be_bytes());
            }
            bytes[6..8].copy_from_slice(&4_000u16.to_be_bytes());
        }
        Some(bytes)
    })
    .await;
    let reply = client().ask(&Upstream::Udp(peer.address), &question(), &patient()).await.unwrap();
    assert_eq!(reply.addresses().len(), 4_000);
}

#[tokio::test]
async fn a_message_that_claims_ten_thousand_addresses_is_malformed() {
    let peer = Peer::raw(|query, _| {
        let mut message = reply(query, ResponseCode::NoError);
        message.add_answer(a(&asked(query), 60, "192.0.2.1"));
        let mut bytes = message.to_vec().unwrap();
        bytes[6..8].copy_from_slice(&10_000u16.to_be_bytes());
        Some(bytes)
    })
    .await;
    let error = client().ask(&Upstream::Udp(peer.address), &question(), &patient()).await.unwrap_err();
    assert!(matches!(error, AskError::Malformed(_)), "{error:?}");
    assert_eq!(error.class(), "malformed");
}

#[tokio::test]
async fn what_came_instead_of_a_reply_is_shown() {
    let unreadable = Peer::raw(|query, _| {
        let mut bytes = reply(query, ResponseCode::NoError).to_vec().unwrap();
        bytes[6..8].copy_from_slice(&9u16.to_be_bytes());
        Some(bytes)
    })
    .await;
    let trace = Trace::default();
    let error =
        client().ask_traced(&Upstream::Udp(unreadable.address), &question(), &patient(), &trace).await.unwrap_err();
    assert!(matches!(error, AskError::Malformed(_)), "{error:?}");
    assert_eq!(trace.strange_count(), 0);
    assert_eq!(trace.into_message()[6..8], [0, 9]);

    let stranger = Peer::raw(|query, _| {
        let mut bytes = reply(query, ResponseCode::NoError).to_vec().unwrap();
        bytes[0] ^= 1;
        Some(bytes)
    })
    .await;
    let trace = Trace::default();
    let error = client().ask_traced(&Upstream::Udp(stranger.address), &question(), &quick(), &trace).await.unwrap_err();
    assert!(matches!(error, AskError::Timeout { .. }), "{error:?}");
    assert!(trace.strange_count() > 0);
    assert!(!trace.into_message().is_empty());
}

#[tokio::test]
async fn nothing_listens_there() {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(
        client().ask(&Upstream::Tcp(tcp), &question(), &patient()).await.unwrap_err(),
        AskError::ConnectionRefused
    );
    assert_eq!(
        client().ask(&Upstream::Udp(udp), &question(), &patient()).await.unwrap_err(),
        AskError::ConnectionRefused
    );
}

#[tokio::test]
async fn what_is_cut_short_and_cannot_be_had_whole_is_neither_an_answer_nor_silence() {
    // Over UDP alone; nothing listens on the same port over TCP.
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let mut query = vec![0; 512];
        let (len, from) = socket.recv_from(&mut query).await.unwrap();
        query.truncate(len);
        query[2] |= 0x82;
        socket.send_to(&query, from).await.unwrap();
        socket
    });
    let error = client().ask(&Upstream::Udp(address), &question(), &patient()).await.unwrap_err();
    assert_eq!(error, AskError::Truncated { tcp: Box::new(AskError::ConnectionRefused) });
    assert!(error.to_string().starts_with("its answer over UDP is truncated, and over TCP the server's host refused"));
    server.await.unwrap();
}

#[tokio::test]
async fn a_question_from_before_edns() {
    let peer = Peer::start(|query, _| Some(reply(query, ResponseCode::NoError)).filter(|_| query.edns.is_none())).await;
    let plain = AskOptions { edns: false, nsid: true, ..patient() };
    let answer = client().ask(&Upstream::Udp(peer.address), &question(), &plain).await.unwrap();
    assert!(!answer.edns);
    assert!(client().ask(&Upstream::Udp(peer.address), &question(), &quick()).await.is_err());
}

#[tokio::test]
async fn a_stream_that_ends_early_or_talks_of_other_things() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_framed(&mut stream).await.unwrap();
        drop(stream);
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut query = read_framed(&mut stream).await.unwrap();
        query[0] ^= 0xff;
        query[2] |= 0x80;
        for _ in 0..100 {
            if tokio::io::AsyncWriteExt::write_all(&mut stream, &framed(&query)).await.is_err() {
                break;
            }
        }
    });
    let upstream = Upstream::Tcp(address);
    assert_eq!(client().ask(&upstream, &question(), &patient()).await.unwrap_err(), AskError::Closed);
    assert!(matches!(client().ask(&upstream, &question(), &patient()).await.unwrap_err(), AskError::Malformed(_)));
    server.await.unwrap();
}
