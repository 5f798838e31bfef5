use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use ukai_dns::server::{ControlClient, ControlError, OfflineError, OverrideRecord, Refusal, Server, StartError};

use crate::peer::{Peer, a, asked, reply, txt};
use crate::running::{Running, addresses, config, directory, errors, eventually, query};

const HOST: &str = "api.peer.test";

/// The world: one address for everything, and a text.
async fn world() -> Peer {
    Peer::start(|query, _| Some(world_answer(query))).await
}

fn world_answer(query: &Message) -> Message {
    let mut message = reply(query, ResponseCode::NoError);
    match query.queries[0].query_type() {
        RecordType::A => message.answers.push(a(&asked(query), 300, "192.0.2.1")),
        RecordType::TXT => message.answers.push(txt(&asked(query), "the world's")),
        _ => {}
    }
    message
}

fn record(lease: Duration) -> OverrideRecord {
    let now = Timestamp::now();
    OverrideRecord {
        id: "o-1".to_owned(),
        name: HOST.parse().unwrap(),
        a: vec!["198.51.100.7".parse().unwrap(), "198.51.100.8".parse().unwrap()],
        aaaa: Vec::new(),
        ttl: 10,
        expires_at: now + lease,
        incident: "inc-42".to_owned(),
        generation: 1,
        set_at: now,
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

async fn served(server: &Running) -> Vec<String> {
    addresses(&server.ask(HOST, RecordType::A).await)
}

#[tokio::test]
async fn exactly_the_name_is_overridden() {
    let (world, dir) = (world().await, directory());
    let server = Running::start(config(dir.path(), &[world.address])).await;
    assert_eq!(served(&server).await, ["192.0.2.1"]);
    let record = record(HOUR);
    server.control.set(record.clone(), None).await.unwrap();

    let message = server.ask("Api.Peer.TEST", RecordType::A).await;
    assert_eq!(addresses(&message), ["198.51.100.7", "198.51.100.8"]);
    assert!(message.metadata.authoritative && message.metadata.recursion_available);
    assert!(message.answers.iter().all(|answer| answer.ttl == 10 && answer.name.to_string() == "Api.Peer.TEST."));
    assert_eq!(errors(&message), [(4, format!("ukai override o-1 incident inc-42 until {}", record.expires_at))]);

    for rtype in [RecordType::AAAA, RecordType::HTTPS, RecordType::SVCB] {
        let message = server.ask(HOST, rtype).await;
        assert_eq!(message.metadata.response_code, ResponseCode::NoError);
        assert!(message.answers.is_empty() && message.metadata.authoritative);
        let RData::SOA(soa) = &message.authorities[0].data else { panic!("no SOA for {rtype}") };
        assert_eq!((soa.minimum, message.authorities[0].ttl), (5, 5));
        assert_eq!(message.authorities[0].name.to_string(), "api.peer.test.");
        assert_eq!(errors(&message).len(), 1);
    }

    let text = server.ask(HOST, RecordType::TXT).await;
    assert!(matches!(&text.answers[0].data, RData::TXT(text) if text.to_string() == "the world's"));
    for other in ["below.api.peer.test", "www.peer.test", "peer.test", "xapi.peer.test"] {
        assert_eq!(addresses(&server.ask(other, RecordType::A).await), ["192.0.2.1"], "{other}");
    }
    let plain = server.ask_with(HOST, RecordType::A, |query| query.edns = None).await;
    assert!(plain.edns.is_none());
    assert_eq!(addresses(&plain).len(), 2);
    let stream = server.exchange_tcp(&[query(HOST, RecordType::A).to_vec().unwrap()]).await;
    assert_eq!(addresses(&stream[0]).len(), 2);

    let stats = server.control.stats().await.unwrap();
    assert_eq!((stats.overrides[0].id.as_str(), stats.overrides[0].answers, stats.overridden), ("o-1", 6, 6));
    assert!(stats.overrides[0].last_asked.is_some());
}

#[tokio::test]
async fn what_was_cleared_is_the_worlds_again_at_once() {
    let (world, dir) = (world().await, directory());
    let server = Running::start(config(dir.path(), &[world.address])).await;
    let before = world.queries();
    server.control.set(record(HOUR), None).await.unwrap();
    assert_eq!(served(&server).await.len(), 2);
    assert_eq!(world.queries(), before);
    server.control.clear("o-1", Some(1), "healed").await.unwrap();
    server.control.clear("o-1", Some(1), "healed").await.unwrap();
    assert_eq!(served(&server).await, ["192.0.2.1"]);
    let status = server.control.list().await.unwrap();
    assert!(status.overrides.is_empty());
    assert_eq!(
        (status.ended[0].id.as_str(), status.ended[0].why.as_str(), status.ended[0].expired),
        ("o-1", "healed", false)
    );
}

#[tokio::test]
async fn what_the_cache_knew_of_the_name_is_forgotten_with_every_change() {
    let (world, dir) = (world().await, directory());
    let server = Running::start(config(dir.path(), &[world.address])).await;
    let text = async || drop(server.ask(HOST, RecordType::TXT).await);
    text().await;
    text().await;
    assert_eq!(world.queries(), 1);
    server.control.set(record(HOUR), None).await.unwrap();
    text().await;
    assert_eq!(world.queries(), 2);
    server.control.clear("o-1", None, "healed").await.unwrap();
    text().await;
    assert_eq!(world.queries(), 3);
}

#[tokio::test]
async fn a_lease_ends_by_itself_and_the_end_is_told() {
    let (world, dir) = (world().await, directory());
    let server = Running::start(config(dir.path(), &[world.address])).await;
    server.control.set(record(Duration::from_secs(3)), None).await.unwrap();
    eventually("the world answers again", async || (served(&server).await == ["192.0.2.1"]).then_some(())).await;
    let ended = eventually("the end is told", async || server.control.list().await.unwrap().ended.pop()).await;
    assert!(ended.expired);
    assert_eq!((ended.id.as_str(), ended.incident.as_str()), ("o-1", "inc-42"));
    // Durable as well: nothing of it comes back.
    let on_disk = eventually("the file says so", async || {
        let text = std::fs::read_to_string(dir.path().join("state/overrides.json")).unwrap();
        let file: serde_json::Value = serde_json::from_str(&text).unwrap();
        (file["overrides"].as_array().unwrap().is_empty()).then_some(file)
    })
    .await;
    assert_eq!(on_disk["ended"][0]["id"], "o-1");
    assert!(matches!(
        server.control.set(record(HOUR), None).await,
        Err(ControlError::Refused(Refusal::HasEnded { .. }))
    ));
}

#[tokio::test]
async fn an_override_outlives_the_process_and_needs_nobody() {
    let (silent, dir) = (Peer::silent().await, directory());
    let config = config(dir.path(), &[silent.address]);
    let server = Running::start(config.clone()).await;
    server.control.set(record(HOUR), None).await.unwrap();
    server.stop().await;
    let server = Running::start(config.clone()).await;
    assert_eq!(served(&server).await.len(), 2);
    assert_eq!(server.control.list().await.unwrap().overrides[0].id, "o-1");
    server.control.stop().await.unwrap();
    let control = server.control.clone();
    server.ended().await;
    assert!(matches!(control.list().await, Err(ControlError::Unreachable { .. })));
    assert!(!config.control_socket.exists());
}

#[tokio::test]
async fn a_clock_set_back_does_not_prolong_a_lease() {
    let (world, dir) = (world().await, directory());
    let config = config(dir.path(), &[world.address]);
    std::fs::create_dir_all(&config.state_dir).unwrap();
    // Written when the clock showed an hour more than it does now; the lease had half an hour less to run.
    let highest = (Timestamp::now() + HOUR).as_millisecond();
    let file = serde_json::json!({ "version": 1, "highest_wall_ms": highest, "overrides": [record(HOUR / 2)] });
    std::fs::write(config.state_dir.join("overrides.json"), file.to_string()).unwrap();
    let server = Running::start(config).await;
    assert_eq!(served(&server).await, ["192.0.2.1"]);
    assert!(server.control.list().await.unwrap().ended[0].expired);
}

#[tokio::test]
async fn a_damaged_file_is_moved_aside_and_the_world_is_served() {
    let (world, dir) = (world().await, directory());
    let config = config(dir.path(), &[world.address]);
    std::fs::create_dir_all(&config.state_dir).unwrap();
    std::fs::write(config.state_dir.join("overrides.json"), "{\"version\":1,\"highest_wall_ms\":0,\"overr").unwrap();
    let server = Running::start(config.clone()).await;
    assert_eq!(served(&server).await, ["192.0.2.1"]);
    let damaged = server.control.list().await.unwrap().damaged.unwrap();
    assert!(damaged.contains("was damaged") && damaged.contains("overrides.json.damaged-"), "{damaged}");
    server.control.set(record(HOUR), None).await.unwrap();
    assert_eq!(served(&server).await.len(), 2);
}

#[tokio::test]
async fn a_change_names_what_it_replaces() {
    let (world, dir) = (world().await, directory());
    let server = Running::start(config(dir.path(), &[world.address])).await;
    let first = record(HOUR);
    server.control.set(first.clone(), None).await.unwrap();
    server.control.set(first.clone(), None).await.unwrap();
    let other = OverrideRecord { id: "o-2".to_owned(), ..first.clone() };
    match server.control.set(other, None).await {
        Err(ControlError::Refused(Refusal::Conflict { id, generation, .. })) => {
            assert_eq!((id.as_str(), generation), ("o-1", 1))
        }
        result => panic!("{result:?}"),
    }
    let second = OverrideRecord { generation: 2, a: vec!["198.51.100.9".parse().unwrap()], ..first };
    assert!(matches!(
        server.control.set(second.clone(), Some(5)).await,
        Err(ControlError::Refused(Refusal::Conflict { .. }))
    ));
    server.control.set(second, Some(1)).await.unwrap();
    assert_eq!(served(&server).await, ["198.51.100.9"]);
    let late = server.control.clear("o-1", Some(1), "late").await;
    assert!(matches!(late, Err(ControlError::Refused(Refusal::Conflict { generation: 2, .. }))));
}

#[tokio::test]
async fn what_cannot_be_written_is_not_served() {
    let (world, dir) = (world().await, directory());
    let config = config(dir.path(), &[world.address]);
    let server = Running::start(config.clone()).await;
    std::fs::create_dir(config.state_dir.join("overrides.json.new")).unwrap();
    let error = server.control.set(record(HOUR), None).await.unwrap_err();
    assert!(error.to_string().contains("cannot write"), "{error}");
    assert_eq!(served(&server).await, ["192.0.2.1"]);
}

#[tokio::test]
async fn one_server_for_a_directory() {
    let (world, dir) = (world().await, directory());
    let config = config(dir.path(), &[world.address]);
    let server = Running::start(config.clone()).await;
    server.control.set(record(HOUR), None).await.unwrap();
    let Err(error) = Server::start(config.clone()).await else { panic!("a second server started") };
    assert!(matches!(error, StartError::Lock(_)));
    assert!(error.to_string().contains("another DNS server already runs on"), "{error}");
    assert!(matches!(ControlClient::edit_offline(&config.state_dir, |_| true, "by hand"), Err(OfflineError::Lock(_))));
    // Neither took anything from the one that runs.
    assert_eq!(served(&server).await.len(), 2);
}

#[tokio::test]
async fn with_no_server_running_overrides_can_be_withdrawn() {
    let (world, dir) = (world().await, directory());
    let config = config(dir.path(), &[world.address]);
    let server = Running::start(config.clone()).await;
    let other = OverrideRecord { id: "o-2".to_owned(), name: "www.peer.test".parse().unwrap(), ..record(HOUR) };
    server.control.set(record(HOUR), None).await.unwrap();
    server.control.set(other, None).await.unwrap();
    server.stop().await;
    let withdrawn =
        ControlClient::edit_offline(&config.state_dir, |record| record.id == "o-1", "revert --offline").unwrap();
    assert_eq!(withdrawn.overrides.iter().map(|record| record.id.as_str()).collect::<Vec<_>>(), ["o-1"]);
    let server = Running::start(config.clone()).await;
    assert_eq!(served(&server).await, ["192.0.2.1"]);
    let status = server.control.list().await.unwrap();
    assert_eq!((status.overrides[0].id.as_str(), status.ended[0].why.as_str()), ("o-2", "revert --offline"));
}

#[tokio::test]
async fn the_control_socket_is_for_owner_and_group_and_says_what_it_does_not_understand() {
    let (world, dir) = (world().await, directory());
    let config = config(dir.path(), &[world.address]);
    let _server = Running::start(config.clone()).await;
    let mode = std::fs::metadata(&config.control_socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let mut stream = BufReader::new(UnixStream::connect(&config.control_socket).await.unwrap());
    let mut lines = String::new();
    for request in ["nonsense", "{\"op\":\"explode\"}", "{\"op\":\"list\",\"x\":1}", "{\"op\":\"stats\"}"] {
        stream.write_all(format!("{request}\n").as_bytes()).await.unwrap();
        stream.read_line(&mut lines).await.unwrap();
    }
    let results: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        results.iter().map(|result| result["result"].as_str().unwrap()).collect::<Vec<_>>(),
        ["failed", "failed", "list", "stats"]
    );
    let long = vec![b' '; 1024 * 1024 + 2];
    stream.write_all(&long).await.ok();
    lines.clear();
    stream.read_line(&mut lines).await.unwrap();
    assert!(lines.contains("more than 1048576 octets"), "{lines}");
}

#[tokio::test]
async fn thirty_two_addresses_of_a_family_fit_and_a_small_client_is_told_to_use_tcp() {
    let (world, dir) = (world().await, directory());
    let server = Running::start(config(dir.path(), &[world.address])).await;
    let many =
        OverrideRecord { aaaa: (0..32).map(|n| format!("2001:db8::{n:x}").parse().unwrap()).collect(), ..record(HOUR) };
    server.control.set(many, None).await.unwrap();
    assert_eq!(addresses(&server.ask(HOST, RecordType::AAAA).await).len(), 32);
    let small = server.ask_with(HOST, RecordType::AAAA, |query| query.edns = None).await;
    assert!(small.metadata.truncation && small.answers.is_empty());
}
