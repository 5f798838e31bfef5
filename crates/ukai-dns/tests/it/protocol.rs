use std::net::UdpSocket;

use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use ukai_dns::server::{Server, StartError};

use crate::peer::{framed, world};
use crate::running::{PATIENCE, Running, addresses, config, directory, errors, query};

fn rcode(message: &Message) -> ResponseCode {
    message.metadata.response_code
}

#[tokio::test]
async fn who_is_not_allowed_is_refused() {
    let (world, dir) = (world().await, directory());
    let mut config = config(dir.path(), &[world.address]);
    config.settings.allow_clients = vec!["10.0.0.0/8".parse().unwrap()];
    let server = Running::start(config.clone()).await;
    assert_eq!(rcode(&server.ask("www.example.com", RecordType::A).await), ResponseCode::Refused);
    assert_eq!(world.queries(), 0);
    let mut settings = config.settings.clone();
    settings.allow_clients = vec!["127.0.0.0/8".parse().unwrap()];
    server.control.reconfigure(settings).await.unwrap();
    assert_eq!(addresses(&server.ask("www.example.com", RecordType::A).await), ["192.0.2.1"]);
}

#[tokio::test]
async fn questions_that_have_a_fixed_answer() {
    let (world, dir) = (world().await, directory());
    let server = Running::start(config(dir.path(), &[world.address])).await;
    let any = server.ask("www.example.com", RecordType::ANY).await;
    assert!(matches!(&any.answers[0].data, RData::HINFO(hinfo) if &*hinfo.cpu == b"RFC8482"));
    let transfer = server.ask("example.com", RecordType::AXFR).await;
    assert_eq!((rcode(&transfer), errors(&transfer)[0].0), (ResponseCode::Refused, 21));
    let chaos = server
        .ask_with("version.bind", RecordType::TXT, |message| {
            message.queries[0].set_query_class(DNSClass::CH);
        })
        .await;
    assert_eq!(rcode(&chaos), ResponseCode::Refused);
    let newer = server
        .ask_with("www.example.com", RecordType::A, |message| {
            message.edns.as_mut().unwrap().set_version(1);
        })
        .await;
    // BADVERS and BADSIG are the same number.
    assert_eq!(u16::from(rcode(&newer)), 16);
    assert!(newer.answers.is_empty());
    let not_recursive =
        server.ask_with("www.example.com", RecordType::A, |message| message.metadata.recursion_desired = false).await;
    assert_eq!((rcode(&not_recursive), errors(&not_recursive)[0].0), (ResponseCode::Refused, 20));
    let notify =
        server.ask_with("example.com", RecordType::SOA, |message| message.metadata.op_code = OpCode::Notify).await;
    assert_eq!(rcode(&notify), ResponseCode::NotImp);
    assert_eq!(world.queries(), 0);
}

#[tokio::test]
async fn what_is_malformed_is_told_so_or_ignored() {
    let (world, dir) = (world().await, directory());
    let server = Running::start(config(dir.path(), &[world.address])).await;
    let good = query("www.example.com", RecordType::A).to_vec().unwrap();
    let answer = server.exchange(&good[..20]).await.unwrap();
    assert_eq!((answer.len(), answer[3] & 0xf), (12, 1));
    assert_eq!(&answer[..2], &good[..2]);
    let mut two = query("www.example.com", RecordType::A);
    two.add_query(Query::query("a.example.com.".parse().unwrap(), RecordType::A));
    assert_eq!(server.exchange(&two.to_vec().unwrap()).await.unwrap()[3] & 0xf, 1);

    // Neither a response nor half a header is answered: the answer that comes is the one to the query sent after them.
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server.address).await.unwrap();
    let mut response = good.clone();
    response[2] |= 0x80;
    response[0] ^= 0xff;
    for bytes in [&response[..], &good[..11], &[], &good[..]] {
        socket.send(bytes).await.unwrap();
    }
    let mut buffer = [0; 4096];
    let len = timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
    assert_eq!(&buffer[..2], &good[..2]);
    assert_eq!(addresses(&Message::from_vec(&buffer[..len]).unwrap()), ["192.0.2.1"]);
}

#[tokio::test]
async fn several_questions_on_one_connection() {
    let (world, dir) = (world().await, directory());
    let server = Running::start(config(dir.path(), &[world.address])).await;
    let queries: Vec<_> = (0..40).map(|n| query(&format!("n{n}.example.com"), RecordType::A)).collect();
    let bytes: Vec<_> = queries.iter().map(|query| query.to_vec().unwrap()).collect();
    let answers = server.exchange_tcp(&bytes).await;
    let mut ids: Vec<_> = answers.iter().map(|answer| answer.metadata.id).collect();
    let mut sent: Vec<_> = queries.iter().map(|query| query.metadata.id).collect();
    ids.sort_unstable();
    sent.sort_unstable();
    assert_eq!(ids, sent);
    assert!(answers.iter().all(|answer| addresses(answer) == ["192.0.2.1"]));
}

#[tokio::test]
async fn a_client_that_closes_its_side_still_gets_its_answer() {
    let (world, dir) = (world().await, directory());
    let server = Running::start(config(dir.path(), &[world.address])).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&framed(&query("www.example.com", RecordType::A).to_vec().unwrap())).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.unwrap().unwrap();
    assert_eq!(addresses(&Message::from_vec(&bytes[2..]).unwrap()), ["192.0.2.1"]);
}

#[tokio::test]
async fn a_hundred_connections_are_enough() {
    let (world, dir) = (world().await, directory());
    let server = Running::start(config(dir.path(), &[world.address])).await;
    let mut held = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        // Answered, so certainly accepted.
        stream.write_all(&framed(&query("www.example.com", RecordType::A).to_vec().unwrap())).await.unwrap();
        timeout(PATIENCE, stream.read_u16()).await.unwrap().unwrap();
        held.push(stream);
    }
    let mut one_more = TcpStream::connect(server.address).await.unwrap();
    assert!(timeout(PATIENCE, one_more.read_u16()).await.unwrap().is_err(), "it is closed");
    assert_eq!(addresses(&server.ask("www.example.com", RecordType::A).await), ["192.0.2.1"]);
}

#[tokio::test]
async fn special_names_stay_here_unless_they_are_watched() {
    let (world, dir) = (world().await, directory());
    let server = Running::start(config(dir.path(), &[world.address])).await;
    let onion = server.ask("x.onion", RecordType::A).await;
    assert_eq!(rcode(&onion), ResponseCode::NXDomain);
    assert_eq!(onion.authorities[0].name.to_string(), "onion.");
    assert_eq!(addresses(&server.ask("localhost", RecordType::A).await), ["127.0.0.1"]);
    assert_eq!(addresses(&server.ask("a.localhost", RecordType::AAAA).await), ["::1"]);
    let text = server.ask("localhost", RecordType::TXT).await;
    assert_eq!((rcode(&text), text.authorities.len()), (ResponseCode::NoError, 1));
    assert_eq!(world.queries(), 0);
    assert_eq!(addresses(&server.ask("api.peer.test", RecordType::A).await), ["192.0.2.1"]);
    assert_eq!(server.control.stats().await.unwrap().special, 4);
}

#[tokio::test]
async fn a_start_that_cannot_succeed_says_why() {
    let (world, dir) = (world().await, directory());
    let holder = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let good = config(dir.path(), &[world.address]);
    let failure = async |change: &dyn Fn(&mut ukai_dns::server::ServerConfig)| {
        let mut config = good.clone();
        change(&mut config);
        match Server::start(config).await {
            Ok(_) => panic!("it started"),
            Err(error) => (error.to_string(), error),
        }
    };
    let (text, error) = failure(&|config| config.listen = vec![taken]).await;
    assert!(matches!(error, StartError::Listen { .. }));
    assert!(text.contains(&taken.to_string()) && text.contains("in use"), "{text}");
    let (text, _) = failure(&|config| config.listen.clear()).await;
    assert!(text.contains("no address"), "{text}");
    let (text, _) = failure(&|config| config.settings.upstreams.clear()).await;
    assert!(text.contains("no upstream"), "{text}");
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let (text, _) = failure(&|config| config.state_dir = file.clone()).await;
    assert!(text.contains("cannot use the state directory"), "{text}");
    let (text, _) = failure(&|config| config.control_socket = file.clone()).await;
    assert!(text.contains("something else than a socket"), "{text}");
    let (text, _) = failure(&|config| config.ca = Some(file.clone())).await;
    assert!(text.contains("no certificate"), "{text}");
    let (text, _) = failure(&|config| {
        config.listen = vec!["127.0.0.1:5".parse().unwrap()];
        config.settings.upstreams = vec!["127.0.0.1:5".parse().unwrap()];
    })
    .await;
    assert!(text.contains("is this server itself"), "{text}");
}
