//! What is overridden, transferred as a policy zone by those who may, and by nobody else.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::UdpSocket;
use tokio::time::timeout;
use ukai_dns::server::{PolicyZone, ServerConfig, StartError};
use ukai_dns::update::{TsigFault, TsigKey, UpdateError, ZoneRecord, ZoneServer};
use ukai_dns::{OverrideRecord, Server};

use crate::peer::Peer;
use crate::running::{PATIENCE, Running, config, directory, eventually};

const ZONE: &str = "rpz.ukai.test";
const SECRET: [u8; 32] = [7; 32];

fn key(name: &str, secret: &[u8]) -> Option<TsigKey> {
    Some(TsigKey::new(name, "hmac-sha256", secret).unwrap())
}

/// Signed transfers only.
fn signed(dir: &Path, upstream: SocketAddr) -> ServerConfig {
    let key_file = dir.join("transfer.key");
    std::fs::write(&key_file, "hmac-sha256:ukai:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n").unwrap();
    let policy_zone = Some(PolicyZone {
        name: ZONE.parse().unwrap(),
        key_file: Some(key_file),
        allow_transfer: Vec::new(),
        notify: Vec::new(),
    });
    ServerConfig { policy_zone, ..config(dir, &[upstream]) }
}

fn over(name: &str, generation: u64) -> OverrideRecord {
    OverrideRecord {
        id: format!("ovr-{name}"),
        name: name.parse().unwrap(),
        a: vec!["192.0.2.7".parse().unwrap()],
        aaaa: vec!["2001:db8::7".parse().unwrap()],
        ttl: 10,
        expires_at: Timestamp::now() + Duration::from_secs(600),
        incident: "inc-1".to_owned(),
        generation,
        set_at: Timestamp::now(),
    }
}

fn zone_at(address: SocketAddr, key: Option<TsigKey>) -> ZoneServer {
    ZoneServer::new(address, ZONE.parse().unwrap(), key)
}

fn policies(zone: &[ZoneRecord]) -> Vec<String> {
    let mut policies: Vec<_> =
        zone.iter().filter(|record| record.as_address().is_some()).map(ToString::to_string).collect();
    policies.sort();
    policies
}

#[tokio::test]
async fn the_zone_is_what_is_served_and_its_serial_grows() {
    let peer = Peer::silent().await;
    let dir = directory();
    let file = dir.path().join("overrides");
    std::fs::write(
        &file,
        "b.test 20 A 192.0.2.1\na.test 20 A 192.0.2.2\n*.c.test 20 A 192.0.2.3\n32.1.2.0.192.rpz-ip 20 A 192.0.2.4\n",
    )
    .unwrap();
    let mut config = signed(dir.path(), peer.address);
    config.overrides_file = Some(file.clone());
    let server = Running::start(config).await;
    let zone = zone_at(server.address, key("ukai", &SECRET));
    let of_file = ["a.test.rpz.ukai.test. 20 IN A 192.0.2.2", "b.test.rpz.ukai.test. 20 IN A 192.0.2.1"];
    assert_eq!(policies(&zone.transfer().await.unwrap()), of_file, "neither the wildcard nor the trigger");
    let serial = zone.serial().await.unwrap();
    server.control.set(over("a.test", 1), None).await.unwrap();
    let leased = [
        "a.test.rpz.ukai.test. 10 IN A 192.0.2.7",
        "a.test.rpz.ukai.test. 10 IN AAAA 2001:db8::7",
        "b.test.rpz.ukai.test. 20 IN A 192.0.2.1",
    ];
    assert_eq!(policies(&zone.transfer().await.unwrap()), leased, "a lease is before the file");
    let later = zone.serial().await.unwrap();
    assert!(later > serial);
    server.control.clear("ovr-a.test", Some(1), "test").await.unwrap();
    assert_eq!(policies(&zone.transfer().await.unwrap()), of_file);
    assert!(zone.serial().await.unwrap() > later);
    let many: String = (0..3_000).map(|n| format!("n{n}.test 20 A 192.0.2.9\n")).collect();
    std::fs::write(&file, many).unwrap();
    let all = eventually("the zone has several messages", async || {
        let all = policies(&zone.transfer().await.unwrap());
        (all.len() == 3_000).then_some(all)
    })
    .await;
    assert!(all.contains(&"n2999.test.rpz.ukai.test. 20 IN A 192.0.2.9".to_owned()));
}

/// As after a clock that was a day ahead and is set right: followers would not take a serial that is lower.
#[tokio::test]
async fn the_serial_never_goes_back() {
    let peer = Peer::silent().await;
    let dir = directory();
    let server = Running::start(signed(dir.path(), peer.address)).await;
    let serial = zone_at(server.address, key("ukai", &SECRET)).serial().await.unwrap();
    server.stop().await;
    let ahead = serial + 86_400;
    let kept = signed(dir.path(), peer.address).state_dir.join("policy.serial");
    std::fs::write(&kept, ahead.to_string()).unwrap();
    let server = Running::start(signed(dir.path(), peer.address)).await;
    let zone = zone_at(server.address, key("ukai", &SECRET));
    let first = zone.serial().await.unwrap();
    assert!(first > ahead);
    server.control.set(over("a.test", 1), None).await.unwrap();
    assert!(zone.serial().await.unwrap() > first);
}

#[tokio::test]
async fn a_lease_that_is_over_is_not_in_the_zone() {
    let peer = Peer::silent().await;
    let dir = directory();
    let server = Running::start(signed(dir.path(), peer.address)).await;
    let zone = zone_at(server.address, key("ukai", &SECRET));
    let soon = OverrideRecord { expires_at: Timestamp::now() + Duration::from_secs(5), ..over("a.test", 1) };
    server.control.set(soon, None).await.unwrap();
    let serial = zone.serial().await.unwrap();
    eventually("the zone is empty and has a new serial", async || {
        let empty = policies(&zone.transfer().await.unwrap()).is_empty();
        (empty && zone.serial().await.unwrap() > serial).then_some(())
    })
    .await;
}

#[tokio::test]
async fn nobody_else_may_have_it() {
    let peer = Peer::silent().await;
    let dir = directory();
    let server = Running::start(signed(dir.path(), peer.address)).await;
    let refused = zone_at(server.address, None).transfer().await.unwrap_err();
    assert!(matches!(&refused, UpdateError::Refused { .. }), "{refused}");
    let refused = zone_at(server.address, None).serial().await.unwrap_err();
    assert!(matches!(&refused, UpdateError::Refused { .. }), "{refused}");
    let fault = async |zone: ZoneServer| match zone.transfer().await.unwrap_err() {
        UpdateError::Tsig { fault, .. } => fault,
        other => panic!("{other}"),
    };
    assert_eq!(fault(zone_at(server.address, key("ukai", &[8; 32]))).await, TsigFault::BadSignature);
    assert_eq!(fault(zone_at(server.address, key("other", &SECRET))).await, TsigFault::BadKey);
    let wrong_clock = ZoneServer { clock_error_s: 3_600, ..zone_at(server.address, key("ukai", &SECRET)) };
    assert!(matches!(fault(wrong_clock).await, TsigFault::BadTime { .. }));
    // What is in the zone is not asked of the world either.
    server.ask(&format!("a.test.{ZONE}"), hickory_proto::rr::RecordType::A).await;
    assert_eq!(peer.queries(), 0);
}

#[tokio::test]
async fn who_may_transfer_without_a_key_is_told_of_changes() {
    let peer = Peer::silent().await;
    let dir = directory();
    let follower = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let policy_zone = Some(PolicyZone {
        name: ZONE.parse().unwrap(),
        key_file: None,
        allow_transfer: vec!["127.0.0.1/32".parse().unwrap()],
        notify: vec![follower.local_addr().unwrap()],
    });
    let server = Running::start(ServerConfig { policy_zone, ..config(dir.path(), &[peer.address]) }).await;
    let zone = zone_at(server.address, None);
    let mut told = [0; 512];
    let mut serials = Vec::new();
    for generation in 1..3 {
        // Each is sent again until it is acknowledged; the first is about the start.
        let (len, from) = timeout(PATIENCE, follower.recv_from(&mut told)).await.unwrap().unwrap();
        assert_eq!(told[2] & 0xf8, 4 << 3, "NOTIFY");
        // The serial is the first of the SOA's five numbers.
        serials.push(u32::from_be_bytes(told[len - 20..len - 16].try_into().unwrap()));
        told[2] |= 0x80;
        follower.send_to(&told[..len], from).await.unwrap();
        server.control.set(over("a.test", generation), (generation > 1).then_some(generation - 1)).await.unwrap();
        assert_eq!(policies(&zone.transfer().await.unwrap()).len(), 2);
    }
    assert!(serials[1] > serials[0], "{serials:?}");
}

#[tokio::test]
async fn what_cannot_be_followed_does_not_start() {
    let dir = directory();
    let upstream: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let good = signed(dir.path(), upstream);
    let start = async |change: &dyn Fn(&mut PolicyZone)| {
        let mut config = good.clone();
        change(config.policy_zone.as_mut().unwrap());
        match Server::start(config).await {
            Err(StartError::PolicyZone(error)) => error.to_string(),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it started"),
        }
    };
    assert!(start(&|zone| zone.key_file = None).await.contains("nobody could follow"));
    assert!(start(&|zone| zone.name = ".".parse().unwrap()).await.contains("root"));
    assert!(start(&|zone| zone.notify = vec![upstream; 17]).await.contains("16 are possible"));
    let bad = dir.path().join("bad.key");
    std::fs::write(&bad, "hmac-md5:ukai:BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=").unwrap();
    assert!(start(&|zone| zone.key_file = Some(bad.clone())).await.contains("hmac-sha256"));
    assert!(start(&|zone| zone.key_file = Some("/nowhere".into())).await.contains("/nowhere"));
}
