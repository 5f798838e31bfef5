//! The world as the daemon and the application are pointed at it.

use std::net::SocketAddr;

use hickory_proto::rr::RecordType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::client::{get, labels, question, udp};
use super::{fault, scenario, start, world};
use crate::app::{self, CallReport, Pool, Stage};
use crate::world::layout::Layout;
use crate::world::{Caller, Slot, World};

/// Calls that the application makes before it is stopped.
async fn calls(options: app::AppOptions, count: usize) -> Vec<CallReport> {
    let mut calls = Vec::new();
    let ended = app::run(options, |report| {
        calls.push(report.clone());
        if calls.len() < count { Ok(()) } else { Err(std::io::ErrorKind::BrokenPipe.into()) }
    });
    assert!(ended.await.is_err());
    calls
}

/// As the daemon's server would stand there; the lab's own resolver does for the application.
fn options(world: &World) -> app::AppOptions {
    app::AppOptions { dns: world.resolver(), every_ms: 20, ..world.app_options() }
}

#[tokio::test]
async fn worlds_stand_side_by_side() {
    let text =
        "authoritative = { A = [\"old-1\"], AAAA = [\"six\"] }\nhosts.old-1 = \"serve\"\nhosts.six = { v6 = true }";
    let mut worlds = Vec::new();
    for _ in 0..8 {
        worlds.push(world(text).await);
    }
    fault(&mut worlds[3], "hosts.old-1 = \"status-500\"").await;
    let mut slots = std::collections::BTreeSet::new();
    for (number, world) in worlds.iter().enumerate() {
        assert!(slots.insert(world.slot()));
        assert_eq!(get(world, "old-1").await.unwrap().status, if number == 3 { 500 } else { 200 });
        assert_eq!(get(world, "six").await.unwrap().status, 200);
        assert_eq!(
            labels(world, &udp(world.resolver(), &question("api.peer.test.", RecordType::A)).await.unwrap()),
            ["old-1"]
        );
        assert_eq!(world.requests()["old-1"].requests, 1);
    }
}

#[test]
fn a_slot_is_held_until_it_is_dropped() {
    let first = Slot::claim().unwrap();
    let second = Slot::claim().unwrap();
    assert_ne!(first.number(), second.number());
}

#[tokio::test]
async fn a_port_that_a_process_of_an_earlier_drill_still_holds_is_passed_over() {
    let world = world("vantages = 1\nhosts.h-1 = \"serve\"").await;
    let next = || Layout::new(&world.live.slot, world.scenario()).unwrap();
    assert_eq!(next().dns_port, world.live.layout.dns_port);
    for address in [world.embedded_dns(), world.application_listener(), world.vantage_listener(1)] {
        let _left_over = std::net::TcpListener::bind(address).unwrap();
        assert_ne!(next().dns_port, world.live.layout.dns_port, "{address}");
    }
}

#[tokio::test]
async fn the_application_calls_through_the_resolver_and_says_how_far_it_came() {
    let mut world =
        world("authoritative = { A = [\"old-1\"], ttl = 0 }\nhosts.old-1 = \"serve\"\nhosts.new-1 = \"serve\"").await;
    let good = calls(options(&world), 2).await;
    assert!(good.iter().all(|call| call.ok && call.stage == Stage::Ok && call.status == Some(200)));
    assert_eq!(good[0].address, world.address_of("old-1"));
    assert_eq!(world.requests()["old-1"].requests_by(Caller::App), 2);
    for (lines, stage) in [
        ("hosts.old-1 = \"refuse\"", Stage::Connect),
        ("hosts.old-1 = \"blackhole\"", Stage::Connect),
        ("hosts.old-1 = \"tls-expired\"", Stage::Tls),
        ("hosts.old-1 = \"status-503\"", Stage::Http),
        ("hosts.old-1 = \"parked\"", Stage::Http),
        ("hosts.old-1 = \"cut-body\"", Stage::Http),
        ("resolver = \"servfail\"", Stage::Resolve),
    ] {
        fault(&mut world, lines).await;
        let bad = calls(options(&world), 1).await.remove(0);
        assert!(!bad.ok && bad.error.is_some(), "{lines}: {bad:?}");
        assert_eq!(bad.stage, stage, "{lines}: {bad:?}");
    }
    fault(&mut world, "resolver = \"honest\"\nauthoritative = { A = [\"new-1\"] }").await;
    let healed = calls(options(&world), 1).await.remove(0);
    assert!(healed.ok && healed.address == world.address_of("new-1"));
}

#[tokio::test]
async fn a_pinned_application_keeps_its_address_and_its_connection() {
    let mut world =
        world("authoritative = { A = [\"old-1\"], ttl = 0 }\nhosts.old-1 = \"serve\"\nhosts.new-1 = \"serve\"").await;
    let pinned = app::AppOptions { pool: Pool::Pinned, ..options(&world) };
    assert!(calls(pinned.clone(), 3).await.iter().all(|call| call.ok));
    assert_eq!(world.requests()["old-1"].accepts, 1);
    let moved = super::change(&world, "authoritative = { A = [\"new-1\"] }\nhosts.old-1 = \"refuse\"");
    let old = world.address_of("old-1");
    let (first, seen) = tokio::sync::oneshot::channel();
    let mut first = Some(first);
    let (stop, mut stopped) = tokio::sync::mpsc::unbounded_channel();
    let running = tokio::spawn(app::run(pinned, move |report| {
        if let Some(first) = first.take() {
            let _ = first.send(report.ok);
        }
        stop.send(report.clone()).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }));
    assert!(seen.await.unwrap());
    world.apply(&moved).await.unwrap();
    for _ in 0..200 {
        let call = stopped.recv().await.unwrap();
        assert_eq!(call.address, old);
        if !call.ok {
            drop(stopped);
            assert!(running.await.unwrap().is_err());
            return;
        }
    }
    panic!("the application never noticed that its host was gone");
}

#[tokio::test]
async fn the_application_signs_its_calls_when_it_is_told_to() {
    let text =
        format!("{}[app]\nsign = true\n", scenario("", "authoritative = { A = [\"old-1\"] }\nhosts.old-1 = \"serve\""));
    let world = start(&text).await;
    let listener = tokio::net::TcpListener::bind(world.application_listener()).await.unwrap();
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = Vec::new();
        while !String::from_utf8_lossy(&bytes).contains("\"peer\"") {
            assert!(stream.read_buf(&mut bytes).await.unwrap() > 0);
        }
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        String::from_utf8(bytes).unwrap()
    });
    let report = calls(options(&world), 1);
    let two = calls(app::AppOptions { every_ms: 50, ..options(&world) }, 2);
    let _ = (report.await, two.await);
    let heard = heard.await.unwrap();
    let token = std::fs::read_to_string(world.token_file()).unwrap();
    assert!(heard.starts_with("POST /v1/application/calls HTTP/1.1\r\n"));
    assert!(heard.contains(&format!("authorization: Bearer {token}\r\n")));
    assert!(heard.contains("\"host\":\"api.peer.test\"") && heard.contains("\"ok\":true"), "{heard}");
}

#[tokio::test]
async fn the_webhook_keeps_what_comes() {
    let world = world("hosts.old-1 = \"serve\"").await;
    let mut stream = TcpStream::connect(world.live.layout.webhook()).await.unwrap();
    let message =
        "POST /hook HTTP/1.1\r\nHost: x\r\nIdempotency-Key: k1\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    stream.write_all(message.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"));
    let heard = world.notifications();
    assert_eq!((heard.len(), heard[0].body.as_str(), heard[0].headers["idempotency-key"].as_str()), (1, "{}", "k1"));
}

#[tokio::test]
async fn the_time_server_tells_the_worlds_time() {
    let mut world = world("hosts.old-1 = \"serve\"").await;
    let before = sntp(world.time_server()).await;
    fault(&mut world, "clock = \"+2h\"").await;
    let after = sntp(world.time_server()).await;
    assert!((7_100..=7_300).contains(&(after - before)), "{before} {after}");
}

async fn sntp(server: SocketAddr) -> i64 {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut packet = [0; 48];
    packet[0] = 0b0010_0011;
    socket.send_to(&packet, server).await.unwrap();
    let mut answer = [0; 48];
    assert_eq!(socket.recv(&mut answer).await.unwrap(), 48);
    i64::from(u32::from_be_bytes([answer[40], answer[41], answer[42], answer[43]]))
}

#[tokio::test]
async fn the_daemon_is_configured_with_what_the_scenario_gives_and_no_more() {
    let world = world("authoritative = { A = [\"old-1\"] }\nhosts.old-1 = \"serve\"").await;
    let config: toml::Table = world.daemon_config(std::path::Path::new("/tmp/a \"b\"")).parse().unwrap();
    assert_eq!(config["data_dir"].as_str(), Some("/tmp/a \"b\""));
    assert_eq!(config["time_server"].as_str(), Some(world.time_server().to_string().as_str()));
    assert_eq!(config["resolver"][0].as_str(), Some(world.resolver().to_string().as_str()));
    assert_eq!(config["dns"]["listen"][0].as_str(), Some(world.embedded_dns().to_string().as_str()));
    assert_eq!(config["allow_addresses"].as_array().map(Vec::len), Some(1));
    assert_eq!(config["control"].as_array().map(Vec::len), Some(3));
    let peer = config["peer"][0].as_table().unwrap();
    assert_eq!(peer["urls"][0].as_str(), Some(world.url().as_str()));
    assert_eq!(peer.keys().collect::<Vec<_>>(), ["name", "urls"]);
    assert!(!config.contains_key("application"));

    let text = format!(
        "{}[policy]\nlevel = \"approve\"\napprovals = 2\nlease = \"15m\"\n[app]\nsign = true\n",
        scenario(
            "interval = \"500ms\"\nauth = true\nalso = [\"https://api.peer.test/v2\"]\nexpect = { status = 200, body = \"o\\\"k\" }",
            "hosts.six = { v6 = true }\ncontrols = \"none\""
        )
    );
    let world = start(&text).await;
    let config: toml::Table = world.daemon_config(std::path::Path::new("/d")).parse().unwrap();
    let peer = config["peer"][0].as_table().unwrap();
    assert_eq!(peer["urls"].as_array().map(Vec::len), Some(2));
    assert_eq!((peer["interval"].as_str(), peer["lease"].as_str()), (Some("500ms"), Some("900s")));
    assert_eq!((peer["level"].as_str(), peer["approvals"].as_integer()), (Some("approve"), Some(2)));
    assert_eq!(peer["expect"]["body_contains"].as_str(), Some("o\"k"));
    assert_eq!(peer["headers"]["Authorization"]["env"].as_str(), Some("UKAI_DRILL_SECRET"));
    assert_eq!(config["allow_addresses"][1].as_str(), Some("::1/128"));
    assert!(config.contains_key("application") && !config.contains_key("control"));
}

#[tokio::test]
async fn history_holds_the_week_that_was_well() {
    let world = world("authoritative = { A = [\"h-1\", \"h-2\", \"h-3\"], ttl = 20, rotate = true }\nhosts.h-1 = \"serve\"\nhosts.h-2 = \"serve\"\nhosts.h-3 = \"serve\"").await;
    let history = world.history();
    assert_eq!(history["identities"][0]["issuer"], "CN=Lab Peer CA");
    assert_eq!(history["identities"][0]["addresses"].as_array().map(Vec::len), Some(3));
    let sets: std::collections::BTreeSet<String> = history["answers"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|answer| answer["source"] == "authority")
        .map(|answer| answer["addresses"].to_string())
        .collect();
    assert_eq!(sets.len(), 3);
    assert_eq!(history["answers"].as_array().map(Vec::len), Some(12));
    assert_eq!(history["delegation"]["parent_ns"][0], "ns-1.peer.test");
    assert_eq!(history["controls"].as_array().map(Vec::len), Some(3));
    // SHA-256 of {"status":"ok"}
    assert_eq!(
        history["body_sha256"],
        crate::certs::hex(&<sha2::Sha256 as sha2::Digest>::digest("{\"status\":\"ok\"}"))
    );
    assert!(world.describe().iter().any(|line| line.contains("h-2")));
}

#[tokio::test]
async fn another_vantage_looks_by_the_other_door_and_the_daemon_is_told_where_it_answers() {
    let lines = "authoritative = { A = [\"h-1\"] }\nhosts.h-1 = \"serve\"\nvantages = 2";
    let world = start(&scenario("expect = { status = 200, body = \"ok\" }", lines)).await;
    assert_eq!(world.vantages(), 2);
    let daemon: toml::Table = world.daemon_config(std::path::Path::new("/d")).parse().unwrap();
    let told = daemon["other_vantage"].as_array().unwrap();
    assert_eq!(told.len(), 2);
    for (number, told) in (1..).zip(told) {
        let config: toml::Table = world.vantage_config(number).parse().unwrap();
        let service = &config["vantage_service"];
        let listen = service["listen"].as_str().unwrap();
        assert_eq!(listen, world.vantage_listener(number).to_string());
        assert_eq!(told["url"].as_str(), Some(format!("http://{listen}").as_str()));
        assert_eq!(told["token"]["file"], service["token_file"]);
        assert_eq!(config["resolver"][0].as_str(), Some(format!("udp://{}", world.independent(1)).as_str()));
        let (theirs, ours) = (&config["peer"][0], &daemon["peer"][0]);
        assert_eq!((&theirs["name"], &theirs["expect"]), (&ours["name"], &ours["expect"]));
        let url: url::Url = theirs["urls"][0].as_str().unwrap().parse().unwrap();
        assert_eq!(url.host_str(), world.url().host_str());
        assert_eq!(url.port(), Some(world.live.layout.elsewhere_port));
        // A vantage is told no secret, and has no part in the drill's controls.
        assert!(theirs.get("headers").is_none() && config["controls"].as_str() == Some("none"));
    }
}

#[tokio::test]
async fn controls_have_an_ipv6_address_only_where_ipv6_plays_a_part() {
    let with = world("hosts.h-1 = \"serve\"\nhosts.six = { v6 = true }").await;
    let without = world("hosts.h-1 = \"serve\"").await;
    let control = |world: &World| {
        let config: toml::Table = world.daemon_config(std::path::Path::new("/d")).parse().unwrap();
        config["control"][1].clone()
    };
    assert_eq!(control(&with)["address_v6"].as_str(), Some("::1"));
    assert!(control(&without).get("address_v6").is_none());
}
