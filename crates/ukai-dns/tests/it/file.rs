//! Overrides that a file gives.

use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use jiff::Timestamp;
use tokio::task::JoinSet;
use ukai_dns::server::{OverrideRecord, Server, ServerConfig, StartError};

use crate::peer::{Peer, a, asked, cname, reply};
use crate::running::{Running, addresses, config, directory, errors, eventually};

/// The world: one address for everything, reached by an alias where the name says so.
async fn world() -> Peer {
    Peer::start(|query, _| {
        let (mut message, name) = (reply(query, ResponseCode::NoError), asked(query));
        if query.queries[0].query_type() == RecordType::A {
            if name.starts_with("alias.") {
                message.add_answer(cname(&name, "api.peer.example"));
                message.add_answer(a("api.peer.example", 300, "192.0.2.1"));
            } else {
                message.add_answer(a(&name, 300, "192.0.2.1"));
            }
        }
        Some(message)
    })
    .await
}

fn with_file(dir: &Path, world: &Peer, text: &str) -> (ServerConfig, PathBuf) {
    let path = dir.join("overrides");
    std::fs::write(&path, text).unwrap();
    let mut config = config(dir, &[world.address]);
    config.overrides_file = Some(path.clone());
    (config, path)
}

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, path).unwrap();
}

async fn becomes(server: &Running, name: &str, wanted: &[&str]) -> Message {
    eventually("the file's change is served", async || {
        let message = server.ask(name, RecordType::A).await;
        (addresses(&message) == wanted).then_some(message)
    })
    .await
}

#[tokio::test]
async fn a_file_is_served_watched_and_when_broken_left_alone() {
    let (world, dir) = (world().await, directory());
    let (config, path) = with_file(dir.path(), &world, "api.peer.example 10 A 198.51.100.1\n");
    let server = Running::start(config).await;
    let message = server.ask("api.peer.example", RecordType::A).await;
    assert_eq!(addresses(&message), ["198.51.100.1"]);
    assert_eq!((message.answers[0].ttl, errors(&message)[0].0), (10, 4));
    assert!(server.ask("api.peer.example", RecordType::AAAA).await.answers.is_empty());
    assert_eq!(addresses(&server.ask("www.peer.example", RecordType::A).await), ["192.0.2.1"]);

    replace(&path, "api.peer.example 10 A 198.51.100.2\nwww.peer.example 10 A 198.51.100.3\n");
    becomes(&server, "api.peer.example", &["198.51.100.2"]).await;
    assert_eq!(addresses(&server.ask("www.peer.example", RecordType::A).await), ["198.51.100.3"]);
    // In place as well.
    std::fs::write(&path, "api.peer.example 10 A 198.51.100.4\nwww.peer.example 10 A 198.51.100.3\n").unwrap();
    becomes(&server, "api.peer.example", &["198.51.100.4"]).await;

    replace(&path, "api.peer.example 10 A 198.51.100.5\nwww.peer.example ten A 198.51.100.3\n");
    // Half of a file, as it is while somebody writes it.
    replace(
        &path,
        "api.peer.example 10 A 198.51.100.4\nwww.peer.example 10 A 198.51.100.3\napi.peer.example 10 A 198.51.100.1",
    );
    // Nothing tells that nothing happens, but what comes after it.
    replace(&path, "other.example 10 A\n");
    for _ in 0..20 {
        assert_eq!(addresses(&server.ask("api.peer.example", RecordType::A).await), ["198.51.100.4"]);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    replace(&path, "api.peer.example 10 A 198.51.100.6\n");
    becomes(&server, "api.peer.example", &["198.51.100.6"]).await;
    std::fs::remove_file(&path).unwrap();
    becomes(&server, "api.peer.example", &["192.0.2.1"]).await;
    server.stop().await;
}

#[tokio::test]
async fn what_the_file_no_longer_has_is_the_worlds_and_asked_anew() {
    let (world, dir) = (world().await, directory());
    let (config, path) = with_file(dir.path(), &world, "");
    let server = Running::start(config).await;
    for name in ["api.peer.example", "alias.peer.example"] {
        server.ask(name, RecordType::A).await;
    }
    assert_eq!(world.queries(), 2);
    replace(&path, "api.peer.example 10 A 198.51.100.1\n");
    becomes(&server, "api.peer.example", &["198.51.100.1"]).await;
    replace(&path, "# nothing\n");
    becomes(&server, "api.peer.example", &["192.0.2.1"]).await;
    assert_eq!(world.queries(), 3, "what was known before the override is not believed after it");
    server.ask("alias.peer.example", RecordType::A).await;
    assert_eq!(world.queries(), 4, "nor what leads there");
    assert_eq!(addresses(&server.ask("www.peer.example", RecordType::A).await), ["192.0.2.1"]);
}

#[tokio::test]
async fn a_lease_wins_over_the_file() {
    let (world, dir) = (world().await, directory());
    let (config, _) = with_file(dir.path(), &world, "api.peer.example 10 A 198.51.100.1\n");
    let server = Running::start(config).await;
    server.control.set(lease(1, "203.0.113.1"), None).await.unwrap();
    assert_eq!(addresses(&server.ask("api.peer.example", RecordType::A).await), ["203.0.113.1"]);
    server.control.clear("o-1", None, "healed").await.unwrap();
    assert_eq!(addresses(&server.ask("api.peer.example", RecordType::A).await), ["198.51.100.1"]);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_told_at_the_start() {
    let (world, dir) = (world().await, directory());
    let (mut config, path) = with_file(dir.path(), &world, "api.peer.example 10 A nonsense\n");
    let Err(error) = Server::start(config.clone()).await else { panic!("it started") };
    assert!(matches!(error, StartError::File(_)));
    assert!(error.to_string().contains("line 1: nonsense is no IPv4 address"), "{error}");
    config.overrides_file = Some(path.with_extension("missing"));
    let Err(error) = Server::start(config).await else { panic!("it started") };
    assert!(error.to_string().contains("cannot read the overrides in"), "{error}");
}

fn lease(generation: u64, address: &str) -> OverrideRecord {
    let now = Timestamp::now();
    OverrideRecord {
        id: "o-1".to_owned(),
        name: "api.peer.example".parse().unwrap(),
        a: vec![address.parse().unwrap()],
        aaaa: Vec::new(),
        ttl: 10,
        expires_at: now + Duration::from_secs(3_600),
        incident: "inc-1".to_owned(),
        generation,
        set_at: now,
    }
}

/// As a kubelet does when a ConfigMap changes: no file is touched, a link is put in the place of another.
#[tokio::test]
async fn a_config_map_that_changes_is_served() {
    let (world, dir) = (world().await, directory());
    let volume = dir.path().join("volume");
    let put = |version: &str, address: &str| {
        std::fs::create_dir_all(volume.join(version)).unwrap();
        std::fs::write(volume.join(version).join("overrides"), format!("api.peer.example 10 A {address}\n")).unwrap();
        std::os::unix::fs::symlink(version, volume.join("..data_tmp")).unwrap();
        std::fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    };
    put("..1", "192.0.2.10");
    std::os::unix::fs::symlink("..data/overrides", volume.join("overrides")).unwrap();
    let (mut config, _) = with_file(dir.path(), &world, "");
    config.overrides_file = Some(volume.join("overrides"));
    let server = Running::start(config).await;
    becomes(&server, "api.peer.example", &["192.0.2.10"]).await;
    put("..2", "192.0.2.11");
    becomes(&server, "api.peer.example", &["192.0.2.11"]).await;
}

/// As editors and `git checkout` do: taken away, and made anew a moment later. Nothing is the world's in between.
#[tokio::test]
async fn a_file_that_is_made_anew_keeps_its_overrides_meanwhile() {
    let (world, dir) = (world().await, directory());
    let (config, path) = with_file(dir.path(), &world, "api.peer.example 10 A 192.0.2.10\n");
    let server = Running::start(config).await;
    for number in 11..15 {
        std::fs::remove_file(&path).unwrap();
        for _ in 0..20 {
            let seen = addresses(&server.ask("api.peer.example", RecordType::A).await);
            assert_ne!(seen, ["192.0.2.1"], "the world's");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        std::fs::write(&path, format!("api.peer.example 10 A 192.0.2.{number}\n")).unwrap();
        becomes(&server, "api.peer.example", &[&format!("192.0.2.{number}")]).await;
    }
    assert_eq!(world.queries(), 0);
}

/// The directory itself is exchanged for another.
#[tokio::test]
async fn a_directory_that_is_exchanged_is_followed() {
    let (world, dir) = (world().await, directory());
    let place = dir.path().join("place");
    let make = |at: &Path, address: &str| {
        std::fs::create_dir(at).unwrap();
        std::fs::write(at.join("overrides"), format!("api.peer.example 10 A {address}\n")).unwrap();
    };
    make(&place, "192.0.2.10");
    let (mut config, _) = with_file(dir.path(), &world, "");
    config.overrides_file = Some(place.join("overrides"));
    let server = Running::start(config).await;
    becomes(&server, "api.peer.example", &["192.0.2.10"]).await;
    make(&dir.path().join("next"), "192.0.2.11");
    std::fs::rename(&place, dir.path().join("old")).unwrap();
    std::fs::rename(dir.path().join("next"), &place).unwrap();
    becomes(&server, "api.peer.example", &["192.0.2.11"]).await;
    replace(&place.join("overrides"), "api.peer.example 10 A 192.0.2.12\n");
    becomes(&server, "api.peer.example", &["192.0.2.12"]).await;
}

/// The two addresses of change number `n`.
fn pair(n: usize) -> [String; 2] {
    let [high, low] = u16::try_from(n).unwrap().to_be_bytes();
    [Ipv4Addr::new(198, 18, high, low).to_string(), Ipv4Addr::new(198, 19, high, low).to_string()]
}

const CHANGES: usize = 300;

/// Asks without pause while `change` makes all the changes; every answer is that of one change, and none is older than one
/// that the same client has seen.
async fn under_queries(server: Arc<Running>, mut change: impl AsyncFnMut(usize)) {
    let (done, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..8 {
        let (server, done, answered) = (Arc::clone(&server), Arc::clone(&done), Arc::clone(&answered));
        clients.spawn(async move {
            let mut newest = 0;
            while !done.load(Ordering::SeqCst) {
                let seen = addresses(&server.ask("api.peer.example", RecordType::A).await);
                let octets = seen[0].parse::<Ipv4Addr>().unwrap().octets();
                let number = usize::from(u16::from_be_bytes([octets[2], octets[3]]));
                assert_eq!(seen, pair(number), "the addresses of two changes are mixed");
                assert!(number >= newest, "change {number} came after {newest}");
                newest = number;
                answered.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    for number in 1..=CHANGES {
        change(number).await;
    }
    becomes(&server, "api.peer.example", &pair(CHANGES).each_ref().map(String::as_str)).await;
    done.store(true, Ordering::SeqCst);
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    assert!(answered.load(Ordering::SeqCst) > CHANGES / 4, "there were too few queries to see anything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_is_lost_or_mixed_while_the_file_changes() {
    let (world, dir) = (world().await, directory());
    let text = |n| pair(n).map(|address| format!("api.peer.example 10 A {address}\n")).concat();
    let (mut config, path) = with_file(dir.path(), &world, &text(0));
    config.threads = 2;
    let server = Arc::new(Running::start(config).await);
    under_queries(Arc::clone(&server), async |number| {
        replace(&path, &text(number));
        tokio::time::sleep(Duration::from_millis(2)).await;
    })
    .await;
    assert_eq!(world.queries(), 0, "not for a moment was it the world's");
}

/// Whoever writes the same file again cuts it off first, and may take his time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_is_lost_or_mixed_while_the_file_is_written_in_place() {
    // In memory: a busy disk may show a file that was cut off for seconds before it tells.
    let dir = tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| directory());
    let world = world().await;
    let lines = |n| pair(n).map(|address| format!("api.peer.example 10 A {address}\n"));
    let (mut config, path) = with_file(dir.path(), &world, &lines(0).concat());
    config.threads = 2;
    let server = Arc::new(Running::start(config).await);
    under_queries(Arc::clone(&server), async |number| {
        let mut file = std::fs::File::create(&path).unwrap();
        for line in lines(number) {
            if number % 8 == 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            file.write_all(line.as_bytes()).unwrap();
        }
        drop(file);
        if number % 2 == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    assert_eq!(world.queries(), 0, "not for a moment was it the world's");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_is_lost_or_mixed_while_leases_change() {
    let (world, dir) = (world().await, directory());
    let mut config = config(dir.path(), &[world.address]);
    config.threads = 2;
    let server = Arc::new(Running::start(config).await);
    let record = |n: usize| OverrideRecord {
        a: pair(n).map(|address| address.parse().unwrap()).to_vec(),
        ..lease(n as u64 + 1, "192.0.2.1")
    };
    server.control.set(record(0), None).await.unwrap();
    let control = server.control.clone();
    under_queries(server, async |number| control.set(record(number), Some(number as u64)).await.unwrap()).await;
    assert_eq!(world.queries(), 0, "not for a moment was it the world's");
}
