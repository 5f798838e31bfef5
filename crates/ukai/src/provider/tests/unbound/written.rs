//! Writing: cut off anywhere, with somebody else at work between any two commands.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::{SignedDuration, Timestamp};
use ukai_core::effect::ServedOverride;
use ukai_dns::RecordType;
use ukai_lab::servers::{Controlled, free_address};

use super::between::{Between, Step};
use super::{WORLD, asked, claim, direct, through, world};
use crate::provider::place::Taken;
use crate::provider::tests::bench::{HOST, OWNER, mine, next, served};
use crate::provider::unbound::Unbound;

/// More commands than any change has.
pub const COMMANDS: usize = 40;
const STRANGER: &str = "198.51.100.9";

pub fn server() -> Arc<Controlled> {
    let nobody = "127.0.0.1:1".parse().unwrap();
    Arc::new(Controlled::start(free_address().unwrap(), nobody).unwrap())
}

/// Takes away what may stand at the host, as a person would.
pub fn clean(server: &Controlled) {
    server.command(&["local_zone_remove", HOST]).unwrap();
    for mark in marks(server) {
        server.command(&["local_data_remove", &mark]).unwrap();
    }
}

fn marks(server: &Controlled) -> Vec<String> {
    let all = server.command(&["list_local_data"]).unwrap();
    let names = all.lines().filter_map(|line| line.split('\t').next());
    names.filter(|name| name.ends_with("._ukai.invalid.")).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_cut_off_anywhere_drops_no_query_and_is_taken_up_or_ended() {
    let world = world().await;
    let server = Controlled::start(free_address().unwrap(), world.address(1)).unwrap();
    let (place, before) = (direct(&server), server.local().unwrap());
    let hosts = [HOST.to_owned()].into();
    for commands in 0..COMMANDS {
        let mut finished = false;
        for taken_up in [true, false] {
            let first = served("ovr-1", &["192.0.2.1"]);
            let second = next(&first, &["192.0.2.2", "2001:db8::8"]);
            place.put(&claim(&first), None).await.unwrap();
            let step = move |nth| if nth < commands { Step::Pass } else { Step::Close };
            let between = Between::start(server.control(), step).await;
            let put = Unbound::new(through(&server, between.address)).put(&claim(&second), Some(1)).await;
            finished = put.is_ok();

            let said = asked(server.address(), HOST, RecordType::A).await;
            assert!(["192.0.2.1", "192.0.2.2", WORLD].contains(&said.as_str()), "after {commands} commands: {said}");
            let found = place.look(OWNER, &hosts).await.unwrap();
            let [(told, addresses)] = found.ours.as_slice() else { panic!("{found:?}") };
            let is_whole = *addresses == told.addresses && found.foreign.is_empty();
            let is_so = told.addresses.iter().any(|address| address.to_string() == said)
                && server.local().unwrap().contains(&format!("{HOST}. transparent"));
            assert_eq!(is_whole, is_so, "after {commands} commands: {said} {found:?}");

            if taken_up {
                place.put(&claim(&second), Some(1)).await.unwrap();
                assert_eq!(asked(server.address(), HOST, RecordType::A).await, "192.0.2.2");
            }
            assert_eq!(place.take(&mine("ovr-1", 2)).await.unwrap(), Taken::Gone);
            assert_eq!(server.local().unwrap(), before, "after {commands} commands");
        }
        if finished {
            return;
        }
    }
    panic!("it never ended");
}

/// Before each command of a put, somebody writes a record at the host: it stays, whatever becomes of the put.
#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_record_survives_a_put_at_any_moment() {
    let server = server();
    let empty = server.local().unwrap();
    // The second is one that we are to write ourselves.
    for address in [STRANGER, "192.0.2.1"] {
        let line = [HOST, "30", "IN", "A", address];
        let write = move |server: &Controlled| {
            let mut command = vec!["local_data"];
            command.extend(line);
            server.command(&command).unwrap();
        };
        write(&server);
        let stranger_alone = server.local().unwrap();
        clean(&server);
        let mut untouched = 0;
        for moment in 0..COMMANDS {
            assert_eq!(server.local().unwrap(), empty);
            let by = Arc::clone(&server);
            let between = Between::start(server.control(), move |nth| {
                if nth == moment {
                    write(&by);
                }
                Step::Pass
            })
            .await;
            let wanted = claim(&served("ovr-1", &["192.0.2.1"]));
            let put = Unbound::new(through(&server, between.address)).put(&wanted, None).await;
            let local = server.local().unwrap();
            let came = between.commands() > moment;
            assert!(!came || local.contains(address), "before command {moment}: {put:?}\n{local}");
            match put {
                Err(_) if local == stranger_alone => untouched += 1,
                // Too late to be seen before our records stood: told, and ours by its mark.
                Err(_) => assert!(marks(&server).len() == 1 && untouched > 0, "before command {moment}:\n{local}"),
                Ok(()) => assert!(!came || address == "192.0.2.1", "before command {moment}:\n{local}"),
            }
            clean(&server);
            if !came {
                break;
            }
        }
        assert!(untouched >= 4, "both reads: {untouched}");
    }
}

/// The keeper ends the lease while it is being written: no record stays without a mark.
#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_ended_during_a_put_leaves_nothing() {
    let server = server();
    let before = server.local().unwrap();
    for moment in 0..COMMANDS {
        let (by, ended) = (Arc::clone(&server), Arc::new(AtomicBool::new(false)));
        let noted = Arc::clone(&ended);
        let between = Between::start(server.control(), move |nth| {
            if nth == moment {
                noted.store(!marks(&by).is_empty(), Ordering::SeqCst);
                clean(&by);
            }
            Step::Pass
        })
        .await;
        let wanted = claim(&served("ovr-1", &["192.0.2.1", "2001:db8::7"]));
        let put = Unbound::new(through(&server, between.address)).put(&wanted, None).await;
        if ended.load(Ordering::SeqCst) {
            assert!(put.is_err(), "before command {moment}: {}", server.local().unwrap());
            assert_eq!(server.local().unwrap(), before, "before command {moment}: {put:?}");
        } else {
            put.unwrap();
        }
        clean(&server);
        if between.commands() <= moment {
            return;
        }
    }
    panic!("it never ended");
}

#[tokio::test]
async fn a_put_ends_before_its_lease_does() {
    let server = server();
    let before = server.local().unwrap();
    let left = |milliseconds| {
        let expires_at = Timestamp::now() + SignedDuration::from_millis(milliseconds);
        claim(&ServedOverride { expires_at, ..served("ovr-1", &["192.0.2.1"]) })
    };
    let refused = direct(&server).put(&left(500), None).await.unwrap_err();
    assert!(refused.text.contains("run out") && !refused.passing, "{refused}");
    assert_eq!(server.local().unwrap(), before);
    let hangs = |nth| if nth < 2 { Step::Pass } else { Step::Hang };
    let between = Between::start(server.control(), hangs).await;
    let told = Unbound::new(through(&server, between.address)).put(&left(3000), None).await.unwrap_err();
    assert!(told.text.contains("not known") && told.passing, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_put_above_what_stands_below_the_host() {
    let server = server();
    let below = format!("x.{HOST}");
    for command in [vec!["local_data", &below, "30", "IN", "A", STRANGER], vec!["local_zone", &below, "static"]] {
        server.command(&["local_zone", "peer.test", "transparent"]).unwrap();
        server.command(&command).unwrap();
        let before = server.local().unwrap();
        let refused = direct(&server).put(&claim(&served("ovr-1", &["192.0.2.1"])), None).await.unwrap_err();
        assert!(refused.text.contains(&below) && !refused.passing, "{refused}");
        assert_eq!(server.local().unwrap(), before);
        server.command(&["local_zone_remove", &below]).unwrap();
        server.command(&["local_zone_remove", "peer.test"]).unwrap();
    }
    // Nor where it comes between the two reads.
    let by = Arc::clone(&server);
    let name = below.clone();
    let between = Between::start(server.control(), move |nth| {
        if nth == 2 {
            by.command(&["local_data", &name, "30", "IN", "A", STRANGER]).unwrap();
        }
        Step::Pass
    })
    .await;
    let wanted = claim(&served("ovr-1", &["192.0.2.1"]));
    let refused = Unbound::new(through(&server, between.address)).put(&wanted, None).await.unwrap_err();
    assert!(refused.text.contains(&below), "{refused}");
    let local = server.local().unwrap();
    assert!(local.contains(STRANGER) && !local.contains("_ukai") && !local.contains("192.0.2.1"), "{local}");
}
