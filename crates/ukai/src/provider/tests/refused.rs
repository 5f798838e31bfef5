//! What can be wrong with somebody else's server: each said with server, zone and mend, and the zone as it was.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use ukai_dns::update::{Change, TsigFault, TsigKey, Update, UpdateError, ZoneRecord, ZoneServer};
use ukai_lab::servers::{ALGORITHM, Authority, Key, Kind, Role, ZONE};

use super::bench::{HOST, OWNER, key_of, served, zone_at};
use crate::provider::claim::Claim;
use crate::provider::rfc2136::PolicyZone;

const KINDS: [Kind; 3] = [Kind::Bind, Kind::Knot, Kind::PowerDns];
/// An hour, where five minutes are allowed.
const WRONG_CLOCK_S: i64 = 3600;
/// UPDATE (RFC 2136).
const OPCODE_UPDATE: u8 = 5;

fn claim() -> Claim {
    let served = served("ovr-1", &["192.0.2.7"]);
    Claim::of(&served, OWNER, served.expires_at)
}

fn server(address: SocketAddr, key: TsigKey) -> ZoneServer {
    ZoneServer::new(address, ZONE.parse().unwrap(), Some(key))
}

/// Any change at all.
fn update() -> Update {
    let name = format!("{HOST}.{ZONE}").parse().unwrap();
    Update {
        changes: vec![Change::Add(ZoneRecord::address(name, 10, "192.0.2.7".parse().unwrap()))],
        ..Update::default()
    }
}

/// The whole change, and the bare message: both fail, both say where and how to mend it, and nothing was changed.
async fn refuses(kind: Kind, authority: &Authority, key: &Key, server: ZoneServer, mend: &str) -> UpdateError {
    let before = authority.zone(key).unwrap();
    let error = server.update(&update()).await.unwrap_err();
    let told = PolicyZone::new(server, Vec::new()).put(&claim(), None).await.unwrap_err();
    for text in [error.to_string(), told.to_string()] {
        assert!(text.contains(&authority.address().to_string()) && text.contains(ZONE), "{kind:?}: {text}");
        assert!(text.contains(mend), "{kind:?}: {text}");
        assert!(!text.contains(&key.secret), "{text}");
    }
    assert_eq!(authority.zone(key).unwrap(), before, "{kind:?}");
    error
}

fn fault(error: &UpdateError) -> Option<TsigFault> {
    match error {
        UpdateError::Tsig { fault, .. } => Some(*fault),
        _ => None,
    }
}

/// Knot says BADKEY where a key is known, but not allowed this.
fn is_refusal(error: &UpdateError) -> bool {
    matches!(error, UpdateError::Refused { .. }) || fault(error) == Some(TsigFault::BadKey)
}

#[tokio::test]
async fn a_wrong_key_a_wrong_secret_and_a_wrong_clock() {
    for kind in KINDS {
        let key = Key::random("ukai");
        let authority = Authority::start(kind, &Role::Primary, &key, &[]).unwrap();
        let stranger = key_of(&Key::random("stranger"));
        let error = refuses(kind, &authority, &key, server(authority.address(), stranger), "TSIG key stranger").await;
        // PowerDNS answers an update with a key that it does not know as one that is not allowed.
        let refused = matches!(error, UpdateError::Refused { .. });
        assert!(refused || fault(&error) == Some(TsigFault::BadKey), "{kind:?}: {error}");
        let other = key_of(&Key { name: "ukai".into(), ..Key::random("ukai") });
        let error = refuses(kind, &authority, &key, server(authority.address(), other), "TSIG key").await;
        assert!(is_refusal(&error) || fault(&error) == Some(TsigFault::BadSignature), "{kind:?}: {error}");
        for clock_error_s in [WRONG_CLOCK_S, -WRONG_CLOCK_S] {
            let skewed = ZoneServer { clock_error_s, ..server(authority.address(), key_of(&key)) };
            let error = refuses(kind, &authority, &key, skewed, "clock").await;
            let told = matches!(fault(&error), Some(TsigFault::BadTime { .. }));
            assert!(told || matches!(error, UpdateError::Refused { .. }), "{kind:?}: {error}");
            println!("{kind:?} {error}");
        }
    }
}

#[tokio::test]
async fn whoever_takes_no_updates_says_so() {
    for kind in KINDS {
        let key = Key::random("ukai");
        let authority = Authority::start(kind, &Role::ReadOnly, &key, &[]).unwrap();
        let error = refuses(kind, &authority, &key, server(authority.address(), key_of(&key)), "").await;
        assert!(is_refusal(&error), "{kind:?}: {error}");
        let primary = Authority::start(kind, &Role::Primary, &key, &[]).unwrap();
        let secondary = Authority::start(kind, &Role::Secondary(primary.address()), &key, &[]).unwrap();
        super::bench::until("the secondary has the zone", || async { secondary.zone(&key).is_ok() }).await;
        let error = refuses(kind, &secondary, &key, server(secondary.address(), key_of(&key)), "").await;
        assert!(is_refusal(&error), "{kind:?}: {error}");
        println!("{kind:?} {error}");
    }
}

#[tokio::test]
async fn a_zone_that_is_not_there() {
    for kind in KINDS {
        let key = Key::random("ukai");
        let authority = Authority::start(kind, &Role::Empty, &key, &[]).unwrap();
        let error = server(authority.address(), key_of(&key)).update(&update()).await.unwrap_err();
        let told = zone_at(&authority, &key).put(&claim(), None).await.unwrap_err();
        println!("{kind:?} {error}\n{told}");
        assert!(told.to_string().contains(ZONE), "{told}");
        assert!(matches!(error, UpdateError::Refused { .. }), "{kind:?}: {error}");
        let serial = server(authority.address(), key_of(&key)).serial().await.unwrap_err();
        assert!(serial.to_string().contains(ZONE), "{serial}");
    }
}

/// It signs NOERROR, and the zone does not have it: updates go to another server than reads.
#[tokio::test]
async fn a_server_that_loses_updates_is_caught() {
    for kind in KINDS {
        let key = Key::random("ukai");
        let read = Authority::start(kind, &Role::Primary, &key, &[]).unwrap();
        let lost = Authority::start(kind, &Role::Primary, &key, &[]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (reads, updates) = (read.address(), lost.address());
        let proxy = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass_on(stream, reads, updates));
            }
        });
        let zone = PolicyZone::new(server(address, key_of(&key)), Vec::new());
        let told = zone.put(&claim(), None).await.unwrap_err();
        assert!(told.text.contains("NOERROR") && told.text.contains("lost"), "{told}");
        assert!(lost.zone(&key).unwrap().contains("192.0.2.7"), "the other server did take it");
        proxy.abort();
    }
}

async fn pass_on(mut client: TcpStream, reads: SocketAddr, updates: SocketAddr) {
    let Ok(length) = client.read_u16().await else { return };
    let mut message = vec![0; usize::from(length)];
    client.read_exact(&mut message).await.unwrap();
    let to = if message[2] >> 3 & 0xf == OPCODE_UPDATE { updates } else { reads };
    let mut server = TcpStream::connect(to).await.unwrap();
    server.write_u16(length).await.unwrap();
    server.write_all(&message).await.unwrap();
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

/// A server that hangs: nothing is known, and it is said so.
#[tokio::test]
async fn a_server_that_hangs_is_given_up_in_time() {
    let key = Key::random("ukai");
    let mut authority = Authority::start(Kind::Bind, &Role::Primary, &key, &[]).unwrap();
    authority.server().freeze().unwrap();
    let error = server(authority.address(), key_of(&key)).update(&update()).await.unwrap_err();
    authority.server().thaw().unwrap();
    assert!(
        matches!(error, UpdateError::Timeout { .. }) && error.may_have_been_made() && error.is_passing(),
        "{error}"
    );
    assert!(error.to_string().contains(&authority.address().to_string()), "{error}");
}

#[test]
fn what_is_weaker_than_sha256_is_no_key() {
    for algorithm in ["hmac-md5", "hmac-sha1"] {
        assert!(TsigKey::new("ukai", algorithm, &[0; 32]).is_err());
    }
    assert!(TsigKey::new("ukai", ALGORITHM, &[0; 32]).is_ok());
}
