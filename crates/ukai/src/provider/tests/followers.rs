//! What an application sees through resolvers that follow the zone: one that ukai writes on another server, or its own.

use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::oneshot;
use ukai_dns::server::{ControlClient, PolicyZone as Served, Server, ServerConfig};
use ukai_dns::update::ZoneServer;
use ukai_dns::{AskOptions, Client, ClientOptions, Question, Rcode, RecordType, Upstream};
use ukai_lab::servers::{ALGORITHM, Authority, Follower, Key, Kind, Resolver, Role, ZONE, free_address};

use super::bench::{HOST, OWNER, key_of, mine, served, until};
use crate::gather::name_server::{Mind, Servers, address, zone};
use crate::provider::claim::Claim;
use crate::provider::embedded;
use crate::provider::rfc2136::PolicyZone;

const RESOLVERS: [Resolver; 4] = [Resolver::Bind, Resolver::Unbound, Resolver::PowerDns, Resolver::KnotResolver];
const OVERRIDDEN: &str = "192.0.2.7";
const WORLD: &str = "198.51.100.1";

async fn ask(at: SocketAddr, name: &str, qtype: RecordType) -> Option<(Rcode, Vec<String>)> {
    let reply = Client::new(ClientOptions::default())
        .ask(&Upstream::Udp(at), &Question::new(name, qtype).unwrap(), &AskOptions::default())
        .await
        .ok()?;
    let addresses = reply.addresses().iter().map(ToString::to_string).collect();
    Some((reply.rcode, addresses))
}

fn says(address: &str) -> Option<(Rcode, Vec<String>)> {
    Some((Rcode::NOERROR, vec![address.to_owned()]))
}

/// The world: everything has the address .1, and the host a second family.
async fn world() -> Servers {
    let mind: Mind = Arc::new(|name, qtype, _| {
        let records = [address(name, WORLD), address(HOST, "2001:db8::1")];
        zone("test", &records, name, qtype)
    });
    Servers::start(|_| vec![(1, mind.clone())]).await
}

async fn resolves(at: SocketAddr) {
    until("the resolver resolves", || async { ask(at, "other.peer.test", RecordType::A).await == says(WORLD) }).await;
}

/// The host has one address of the override, and no data of other types; what is below and beside it is the world's.
async fn is_overridden(resolver: Resolver, at: SocketAddr) {
    until(&format!("{resolver:?} follows"), || async { ask(at, HOST, RecordType::A).await == says(OVERRIDDEN) }).await;
    for qtype in [RecordType::AAAA, RecordType::HTTPS, RecordType::SVCB] {
        assert_eq!(ask(at, HOST, qtype).await, Some((Rcode::NOERROR, Vec::new())), "{resolver:?} {qtype}");
    }
    for name in [format!("below.{HOST}"), "peer.test".to_owned(), "beside.peer.test".to_owned()] {
        assert_eq!(ask(at, &name, RecordType::A).await, says(WORLD), "{resolver:?} {name}");
    }
}

async fn is_the_worlds(resolver: Resolver, at: SocketAddr) {
    let back = format!("{resolver:?} is back in the world");
    until(&back, || async { ask(at, HOST, RecordType::A).await == says(WORLD) }).await;
    until(&back, || async { ask(at, HOST, RecordType::AAAA).await == says("2001:db8::1") }).await;
}

#[tokio::test]
async fn the_name_is_led_elsewhere_and_nothing_else_is() {
    let world = world().await;
    for resolver in RESOLVERS {
        let key = Key::random("ukai");
        let notified = free_address().unwrap();
        let primary = Authority::start(Kind::Bind, &Role::Primary, &key, &[notified]).unwrap();
        let follower = Follower::start(resolver, notified, primary.address(), world.address(1), &key).unwrap();
        let at = follower.address();
        resolves(at).await;
        let zone =
            PolicyZone::new(ZoneServer::new(primary.address(), ZONE.parse().unwrap(), Some(key_of(&key))), Vec::new());
        let served = served("ovr-1", &[OVERRIDDEN]);
        zone.put(&Claim::of(&served, OWNER, served.expires_at), None).await.unwrap();
        is_overridden(resolver, at).await;
        zone.take(&mine("ovr-1", 1)).await.unwrap();
        is_the_worlds(resolver, at).await;
    }
}

/// The embedded server gives its overrides as a policy zone: signed, or to whoever cannot sign.
#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_server_is_followed_too() {
    let world = world().await;
    for resolver in RESOLVERS {
        let (key, dir) = (Key::random("ukai"), tempfile::tempdir().unwrap());
        let notified = free_address().unwrap();
        let key_file = dir.path().join("transfer.key");
        std::fs::write(&key_file, format!("{ALGORITHM}:{}:{}\n", key.name, key.secret)).unwrap();
        let signs = resolver != Resolver::Unbound;
        let mut config = ServerConfig::new(
            vec!["127.0.0.1:0".parse().unwrap()],
            vec![Upstream::Udp(world.address(1))],
            dir.path().join("dns"),
            dir.path().join("control.sock"),
        );
        config.policy_zone = Some(Served {
            name: ZONE.parse().unwrap(),
            key_file: Some(key_file),
            allow_transfer: if signs { Vec::new() } else { vec!["127.0.0.0/8".parse().unwrap()] },
            notify: vec![notified],
        });
        let server = Server::start(config).await.unwrap();
        let primary = server.local_addresses()[0];
        let (_shutdown, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(server.run(async move { drop(stopped.await) }));
        let control = ControlClient::new(dir.path().join("control.sock"));
        let upstream = world.address(1);
        let follower =
            tokio::task::spawn_blocking(move || Follower::start(resolver, notified, primary, upstream, &key));
        let follower = follower.await.unwrap().unwrap();
        let at = follower.address();
        resolves(at).await;
        embedded::apply(&control, &served("ovr-1", &[OVERRIDDEN]), Timestamp::now()).await.unwrap();
        is_overridden(resolver, at).await;
        embedded::withdraw(&control, "ovr-1", 1, "a test").await.unwrap();
        is_the_worlds(resolver, at).await;
        running.abort();
    }
}
