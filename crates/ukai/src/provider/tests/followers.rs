//! What an application sees through resolvers that follow the zone.

use std::net::SocketAddr;
use std::sync::Arc;

use ukai_dns::update::ZoneServer;
use ukai_dns::{AskOptions, Client, ClientOptions, Question, Rcode, RecordType, Upstream};
use ukai_lab::servers::{Authority, Follower, Key, Kind, Resolver, Role, ZONE};

use super::bench::{HOST, OWNER, key_of, mine, served, until};
use crate::gather::name_server::{Mind, Servers, address, zone};
use crate::provider::claim::Claim;
use crate::provider::rfc2136::PolicyZone;

const RESOLVERS: [Resolver; 3] = [Resolver::Bind, Resolver::Unbound, Resolver::PowerDns];

async fn ask(at: SocketAddr, name: &str, qtype: RecordType) -> Option<(Rcode, Vec<String>)> {
    let reply = Client::new(ClientOptions::default())
        .ask(&Upstream::Udp(at), &Question::new(name, qtype).unwrap(), &AskOptions::default())
        .await
        .ok()?;
    let addresses = reply.addresses().iter().map(ToString::to_string).collect();
    Some((reply.rcode, addresses))
}

/// The world: everything has the address .1, and the host a second family.
async fn world() -> Servers {
    let mind: Mind = Arc::new(|name, qtype, _| {
        let records = [address(name, "198.51.100.1"), address(HOST, "2001:db8::1")];
        zone("test", &records, name, qtype)
    });
    Servers::start(|_| vec![(1, mind.clone())]).await
}

#[tokio::test]
async fn the_name_is_led_elsewhere_and_nothing_else_is() {
    let world = world().await;
    for resolver in RESOLVERS {
        let key = Key::random("ukai");
        let at = Follower::address().unwrap();
        let primary = Authority::start(Kind::Bind, &Role::Primary, &key, &[at]).unwrap();
        let _follower = Follower::start(resolver, at, primary.address(), world.address(1), &key).unwrap();
        until("the resolver resolves", || async {
            ask(at, "other.peer.test", RecordType::A).await == Some((Rcode::NOERROR, vec!["198.51.100.1".into()]))
        })
        .await;
        let zone =
            PolicyZone::new(ZoneServer::new(primary.address(), ZONE.parse().unwrap(), Some(key_of(&key))), Vec::new());
        let served = served("ovr-1", &["192.0.2.7"]);
        zone.put(&Claim::of(&served, OWNER, served.expires_at), None).await.unwrap();
        let overridden = Some((Rcode::NOERROR, vec!["192.0.2.7".to_owned()]));
        until(&format!("{resolver:?} follows"), || async { ask(at, HOST, RecordType::A).await == overridden }).await;
        let nothing = Some((Rcode::NOERROR, Vec::new()));
        for qtype in [RecordType::AAAA, RecordType::HTTPS, RecordType::SVCB] {
            assert_eq!(ask(at, HOST, qtype).await, nothing, "{resolver:?} {qtype}");
        }
        let past = Some((Rcode::NOERROR, vec!["198.51.100.1".to_owned()]));
        for name in [format!("below.{HOST}"), "peer.test".to_owned(), "beside.peer.test".to_owned()] {
            assert_eq!(ask(at, &name, RecordType::A).await, past, "{resolver:?} {name}");
        }
        zone.take(&mine("ovr-1", 1)).await.unwrap();
        until(&format!("{resolver:?} is back in the world"), || async { ask(at, HOST, RecordType::A).await == past })
            .await;
        assert_eq!(
            ask(at, HOST, RecordType::AAAA).await,
            Some((Rcode::NOERROR, vec!["2001:db8::1".to_owned()])),
            "{resolver:?}"
        );
    }
}
