//! Taking away: what is not ours stays, and is answered as before.

use std::collections::BTreeSet;
use std::process::Command;

use ukai_dns::RecordType;
use ukai_lab::servers::{Controlled, free_address};

use super::between::{Between, Step};
use super::written::{COMMANDS, server};
use super::{WORLD, asked, claim, direct, through, world};
use crate::provider::place::Taken;
use crate::provider::tests::bench::{HOST, OWNER, mine, next, served};
use crate::provider::unbound::Unbound;

const STRANGER: &str = "198.51.100.9";

/// What stands between backquotes, done by a shell.
fn follow(server: &Controlled, text: &str) {
    let with_configuration = format!("unbound-control -c '{}' ", server.file("unbound.conf").display());
    let commands: Vec<&str> = text.split('`').skip(1).step_by(2).collect();
    assert!(commands.len() >= 3 && commands.iter().all(|command| command.starts_with("unbound-control ")), "{text}");
    for command in commands {
        let command = command.replacen("unbound-control ", &with_configuration, 1);
        let output = Command::new("sh").arg("-c").arg(&command).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_strangers_record_nothing_is_touched_and_the_way_out_is_told() {
    let server = server();
    let place = direct(&server);
    place.put(&claim(&served("ovr-1", &["192.0.2.1", "2001:db8::7"])), None).await.unwrap();
    let strangers = [["A", STRANGER], ["TXT", "\"it's; theirs\""]];
    for [rtype, data] in strangers {
        server.command(&["local_data", HOST, "30", "IN", rtype, data]).unwrap();
    }
    let before = server.local().unwrap();
    for commands in 0..COMMANDS {
        let step = move |nth| if nth < commands { Step::Pass } else { Step::Close };
        let between = Between::start(server.control(), step).await;
        let told = Unbound::new(through(&server, between.address)).take(&mine("ovr-1", 1)).await.unwrap_err();
        assert_eq!(server.local().unwrap(), before, "after {commands} commands: {told}");
        if between.commands() > commands {
            continue;
        }
        assert!(!told.passing && told.text.contains("still answered"), "{told}");
        follow(&server, &told.text);
        let found = place.look(OWNER, &BTreeSet::new()).await.unwrap();
        assert!(found.ours[0].1.iter().all(|address| address.to_string() == STRANGER), "{found:?}");
        assert_eq!(place.take(&mine("ovr-1", 1)).await.unwrap(), Taken::Gone);
        let local = server.local().unwrap();
        assert!(strangers.iter().all(|[_, data]| local.contains(data)), "{local}");
        assert!(["_ukai", "192.0.2.1", "2001:db8::7"].iter().all(|ours| !local.contains(ours)), "{local}");
        return;
    }
    panic!("it never ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_below_the_host_meanwhile_stays() {
    let world = world().await;
    let below = format!("x.{HOST}");
    for command in [vec!["local_data", &below, "30", "IN", "A", STRANGER], vec!["local_zone", &below, "refuse"]] {
        let server = Controlled::start(free_address().unwrap(), world.address(1)).unwrap();
        let place = direct(&server);
        place.put(&claim(&served("ovr-1", &["192.0.2.1"])), None).await.unwrap();
        server.command(&command).unwrap();
        let said = asked(server.address(), &below, RecordType::A).await;
        assert_ne!(said, WORLD);
        for _ in 0..2 {
            assert_eq!(place.take(&mine("ovr-1", 1)).await.unwrap(), Taken::Gone);
            assert_eq!(asked(server.address(), &below, RecordType::A).await, said);
            assert_eq!(asked(server.address(), HOST, RecordType::A).await, WORLD);
            let local = server.local().unwrap();
            assert!(!local.contains("_ukai") && !local.contains("192.0.2.1"), "{local}");
            assert!(!local.contains(&format!("{HOST}. transparent")), "{local}");
        }
        let found = place.look(OWNER, &[HOST.to_owned()].into()).await.unwrap();
        let told = found.foreign.join("\n");
        assert_eq!(told.contains("typetransparent"), server.local().unwrap().contains("typetransparent"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_data_that_was_never_ours_ends_nothing() {
    let server = server();
    let place = direct(&server);
    server.command(&["local_data", HOST, "30", "IN", "A", STRANGER]).unwrap();
    let before = server.local().unwrap();
    place.put(&claim(&served("ovr-1", &["192.0.2.1"])), None).await.unwrap_err();
    assert_eq!(place.take(&mine("ovr-1", 1)).await.unwrap(), Taken::Gone);
    server.command(&["local_data", HOST, "30", "IN", "A", "192.0.2.1"]).unwrap();
    let told = place.take(&mine("ovr-1", 1)).await.unwrap_err();
    assert!(!told.passing && told.text.contains("192.0.2.1") && told.text.contains(HOST), "{told}");
    server.command(&["local_data_remove", HOST]).unwrap();
    server.command(&["local_data", HOST, "30", "IN", "A", STRANGER]).unwrap();
    assert_eq!(server.local().unwrap(), before);
}

/// Somebody gave the name to a type of zone that we never write.
#[tokio::test(flavor = "multi_thread")]
async fn a_zone_of_another_type_stays() {
    let server = server();
    let place = direct(&server);
    place.put(&claim(&served("ovr-1", &["192.0.2.1"])), None).await.unwrap();
    server.command(&["local_zone", HOST, "always_nxdomain"]).unwrap();
    let found = place.look(OWNER, &[HOST.to_owned()].into()).await.unwrap();
    assert!(found.ours[0].1.is_empty() && found.foreign[0].contains("always_nxdomain"), "{found:?}");
    let second = next(&served("ovr-1", &["192.0.2.1"]), &["192.0.2.2"]);
    let refused = place.put(&claim(&second), Some(1)).await.unwrap_err();
    assert!(refused.text.contains("changed"), "{refused}");
    assert_eq!(place.take(&mine("ovr-1", 1)).await.unwrap(), Taken::Gone);
    let local = server.local().unwrap();
    assert!(local.contains(&format!("{HOST}. always_nxdomain")), "{local}");
    assert!(!local.contains("_ukai") && !local.contains("192.0.2.1"), "{local}");
}
