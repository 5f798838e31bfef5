//! What the keeper owes: leases end whatever its disk, its clock or a secondary does, and what comes late is taken away.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use ukai_core::effect::ServedOverride;
use ukai_dns::update::ZoneServer;
use ukai_lab::servers::{Authority, Key, Kind, Role, ZONE, free_address};

use super::bench::{Bench, GRACE, HOST, OWNER, Which, key_of, served, until, zone_provider};
use crate::provider::claim::Claim;
use crate::provider::rfc2136::PolicyZone;
use crate::provider::{Place, Provider};

/// Enough for an apply on a loaded machine.
const SOON: SignedDuration = SignedDuration::from_secs(5);

fn soon(id: &str, host: &str) -> ServedOverride {
    ServedOverride { host: host.to_owned(), expires_at: Timestamp::now() + SOON, ..served(id, &["192.0.2.7"]) }
}

/// The server had stalled with an update that was given up, and takes it after the override was withdrawn.
#[tokio::test]
async fn an_update_that_comes_late_is_taken_away() {
    for kind in [Kind::Bind, Kind::Knot] {
        let bench = Bench::start(Which::Rfc2136(kind)).await;
        let before = bench.residue().await;
        let wanted = served("ovr-1", &["192.0.2.7"]);
        bench.apply(&wanted).await.unwrap();
        bench.withdraw("ovr-1", 1).await.unwrap();
        assert_eq!(bench.residue().await, before);
        let claim = Claim::of(&wanted, OWNER, wanted.expires_at);
        // It fails where it is taken away already when the zone is read after the update.
        let _ = bench.zone().unwrap().place().put(&claim, None).await;
        until("what came late is gone", || async { bench.residue().await == before }).await;
    }
}

#[tokio::test]
async fn what_is_gone_long_enough_is_forgotten() {
    let bench = Bench::with_grace(Which::Rfc2136(Kind::Bind), Duration::from_secs(2)).await;
    bench.apply(&served("ovr-1", &["192.0.2.7"])).await.unwrap();
    bench.withdraw("ovr-1", 1).await.unwrap();
    until("it is forgotten", || async { bench.keeper().list().await.unwrap().leases.is_empty() }).await;
    bench.apply(&served("ovr-2", &["192.0.2.7"])).await.unwrap();
    assert_eq!(bench.keeper().list().await.unwrap().leases.len(), 1);
}

/// What stands beside it is not ours, and Unbound takes away a whole name only.
#[tokio::test]
async fn what_cannot_be_ended_is_said_until_it_is_gone() {
    let bench = Bench::start(Which::Unbound).await;
    bench.apply(&soon("ovr-1", HOST)).await.unwrap();
    bench.write_by_hand("198.51.100.9").await;
    let stuck = || async { bench.keeper().list().await.unwrap().stuck };
    until("the keeper says that it cannot", || async { !stuck().await.is_empty() }).await;
    let said = stuck().await.remove(0);
    assert_eq!((said.id.as_str(), said.host.as_str()), ("ovr-1", HOST));
    assert!(said.why.contains("still answered"), "{}", said.why);
    bench.change_by_hand("192.0.2.7", "198.51.100.9").await;
    until("a person has taken ours away", || async { stuck().await.is_empty() }).await;
}

/// Opening a FIFO waits for whoever reads it, as a disk that hangs waits for its controller.
#[tokio::test]
async fn a_lease_ends_although_the_disk_hangs() {
    let bench = Bench::start(Which::Rfc2136(Kind::Bind)).await;
    let before = bench.residue().await;
    bench.apply(&soon("ovr-1", "api.peer.test")).await.unwrap();
    let page = bench.keeper_dir().path().join("leases.json.new");
    mknodat(CWD, &page, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let refused = bench.apply(&soon("ovr-2", "other.peer.test")).await.unwrap_err();
    assert!(refused.contains("nothing was written"), "{refused}");
    until("the lease ends", || async { bench.residue().await == before }).await;
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
    let _reader = OpenOptions::new().read(true).custom_flags(nonblocking).open(&page).unwrap();
    fs::remove_file(&page).unwrap();
}

#[tokio::test]
async fn on_a_full_disk_a_keeper_starts_ends_what_it_has_and_takes_nothing_new() {
    let mut bench = Bench::start(Which::Rfc2136(Kind::Bind)).await;
    let before = bench.residue().await;
    bench.apply(&soon("ovr-1", "api.peer.test")).await.unwrap();
    // What is there cannot be opened as a file.
    fs::create_dir(bench.keeper_dir().path().join("leases.json.new")).unwrap();
    bench.keeper_again().await;
    let refused = bench.apply(&soon("ovr-2", "other.peer.test")).await.unwrap_err();
    assert!(refused.contains("cannot be written"), "{refused}");
    until("the lease ends", || async { bench.residue().await == before }).await;
}

/// Both are gone from the primary while the first still waits for a secondary that does not answer.
#[tokio::test]
async fn one_lease_does_not_wait_for_the_secondary_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let key = Key::random("ukai");
    let address = free_address().unwrap();
    let primary = Authority::start(Kind::Bind, &Role::Primary, &key, &[address]).unwrap();
    let role = Role::Secondary(primary.address());
    let mut secondary = Authority::start_at(address, Kind::Knot, &role, &key, &[]).unwrap();
    until("the secondary has the zone", || async { secondary.zone(&key).is_ok() }).await;
    let before = primary.zone(&key).unwrap();
    let place = || {
        let at = ZoneServer::new(primary.address(), ZONE.parse().unwrap(), Some(key_of(&key)));
        Place::Rfc2136(PolicyZone::new(at, vec![address]).with_patience(Duration::from_secs(60)))
    };
    let (provider, _keeper) = zone_provider(&dir, place, GRACE).await;
    for (id, host) in [("ovr-1", "api.peer.test"), ("ovr-2", "other.peer.test")] {
        provider.apply(&soon(id, host), Timestamp::now()).await.unwrap();
    }
    secondary.server().freeze().unwrap();
    until("nothing is left at the primary", || async { primary.zone(&key).unwrap() == before }).await;
    let Provider::Zone(zone) = &provider else { unreachable!() };
    assert_eq!(zone.keeper.list().await.unwrap().trouble, None, "no try has come to its end yet");
    secondary.server().thaw().unwrap();
}
