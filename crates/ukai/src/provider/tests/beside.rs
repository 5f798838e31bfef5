//! What others put beside an override, or take from us while it stands, does not keep it from being taken back.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use ukai_dns::update::ZoneServer;
use ukai_lab::servers::{Authority, Key, Kind, Role, ZONE};

use super::bench::{HOST, OWNER, key_of, mine, served};
use crate::provider::claim::{Claim, SUFFIX};
use crate::provider::rfc2136::PolicyZone;
use crate::provider::{Mine, Taken};

fn claim() -> Claim {
    let served = served("ovr-1", &["192.0.2.7", "2001:db8::7"]);
    Claim::of(&served, OWNER, served.expires_at)
}

fn zone(authority: &Authority, key: &Key) -> PolicyZone {
    PolicyZone::new(ZoneServer::new(authority.address(), ZONE.parse().unwrap(), Some(key_of(key))), Vec::new())
}

#[tokio::test]
async fn records_beside_the_mark() {
    let key = Key::random("ukai");
    for kind in [Kind::Bind, Kind::Knot, Kind::PowerDns] {
        let authority = Authority::start(kind, &Role::Primary, &key, &[]).unwrap();
        let zone = zone(&authority, &key);
        zone.put(&claim(), None).await.unwrap();
        let mark = format!("{HOST}.{SUFFIX}.{ZONE}.");
        let foreign = [format!("add {mark} 30 TXT \"v=spf1 -all\""), format!("add {mark} 30 HINFO left alone")];
        authority.change_by_hand(&key, &foreign).unwrap();
        assert_eq!(zone.take(&mine("ovr-1", 1)).await.unwrap(), Taken::Gone, "{kind:?}");
        let left = authority.zone(&key).unwrap();
        assert!(left.contains("v=spf1") && left.contains("HINFO"), "{kind:?}: {left}");
        assert!(!left.contains("192.0.2.7") && !left.contains("ukai=1"), "{kind:?}: {left}");
    }
}

#[tokio::test]
async fn a_zone_that_the_server_signs() {
    let key = Key::random("ukai");
    let authority = Authority::start(Kind::Knot, &Role::Signing, &key, &[]).unwrap();
    let zone = zone(&authority, &key);
    zone.put(&claim(), None).await.unwrap();
    assert!(authority.zone(&key).unwrap().contains("RRSIG"));
    let next = Claim { generation: 2, addresses: ["192.0.2.8".parse().unwrap()].into(), ..claim() };
    zone.put(&next, Some(1)).await.unwrap();
    let standing = zone.look(OWNER, &[HOST.to_owned()].into()).await.unwrap();
    assert_eq!((standing.ours.len(), standing.foreign.len()), (1, 0), "{standing:?}");
    assert_eq!(zone.take(&mine("ovr-1", 2)).await.unwrap(), Taken::Gone);
    assert!(!authority.zone(&key).unwrap().contains("192.0.2."));
}

/// What one name needs can be asked for: a zone that has grown too large, or is not transferred any more, keeps no override.
#[tokio::test]
async fn a_zone_that_may_not_be_transferred_any_more() {
    let key = Key::random("ukai");
    let authority = Authority::start(Kind::Knot, &Role::Closed, &key, &[]).unwrap();
    let zone = zone(&authority, &key);
    let refused = zone.put(&claim(), None).await.unwrap_err();
    assert!(refused.text.contains("let it do this"), "{refused}");
    let lines = [
        format!("add {HOST}.{ZONE}. 10 A 192.0.2.7"),
        format!("add {HOST}.{ZONE}. 10 AAAA 2001:db8::7"),
        format!(
            "add {HOST}.{SUFFIX}.{ZONE}. 10 TXT {}",
            claim().texts().iter().map(|text| format!("\"{text}\"")).collect::<Vec<_>>().join(" ")
        ),
    ];
    authority.change_by_hand(&key, &lines).unwrap();
    assert_eq!(zone.answers(HOST).await.unwrap().len(), 2);
    assert_eq!(zone.take(&mine("ovr-1", 1)).await.unwrap(), Taken::Gone);
    assert!(zone.answers(HOST).await.unwrap().is_empty());
    let again = Mine { host: Some(HOST.to_owned()), ..mine("ovr-1", 1) };
    assert_eq!(zone.take(&again).await.unwrap(), Taken::Gone);
}

/// A server that lost the zone and answers as a resolver does: NOERROR, nothing, and without authority. That is not the absence
/// of the override, which is there again when the zone is.
#[tokio::test]
async fn a_primary_that_lost_the_zone_is_not_one_without_the_override() {
    for holds_it in [false, true] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = ZoneServer::new(listener.local_addr().unwrap(), ZONE.parse().unwrap(), None);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(nothing_at_all(stream, holds_it));
            }
        });
        let taken = PolicyZone::new(at, Vec::new()).take(&mine("ovr-1", 1)).await;
        match holds_it {
            true => assert_eq!(taken.unwrap(), Taken::Gone),
            false => drop(taken.unwrap_err()),
        }
        serving.abort();
    }
}

/// Transfers are refused; every question has an empty answer.
async fn nothing_at_all(mut client: TcpStream, authoritative: bool) {
    const AXFR: [u8; 2] = [0, 252];
    let Ok(length) = client.read_u16().await else { return };
    let mut message = vec![0; usize::from(length)];
    client.read_exact(&mut message).await.unwrap();
    let question = message.len() - 4;
    message[2] = 0x80 | u8::from(authoritative) << 2;
    message[3] = if message[question..question + 2] == AXFR { 5 } else { 0 };
    client.write_u16(length).await.unwrap();
    client.write_all(&message).await.unwrap();
}
