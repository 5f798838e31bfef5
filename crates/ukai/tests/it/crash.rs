//! SIGKILL, to the controller, to its DNS process, to both: what was begun is finished or undone, what is served stays
//! served, and nothing is said or done twice.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use serde_json::Value;

use crate::drills::{self, lines, outcome};
use crate::outage::Outage;
use crate::place::{PAUSE, TRIES, free, json, ukai};

/// A drill mostly waits.
const SIDE_BY_SIDE: usize = 8;
/// Far more than the outage has events: the drills end with the first event that never came.
const EVENTS_MAX: u32 = 110;
/// Fewer, and the drills did not go through the outage.
const EVENTS_MIN: usize = 30;
/// The drill that is killed after every event.
const EVERY: u32 = 0;
/// Events of the outage that must have been struck, each with its own beginning and end to be lost.
const MILESTONES: [&str; 17] = [
    "alarm_changed",
    "incident_opened",
    "notification_queued",
    "notification_delivered",
    "evidence_requested",
    "evidence_gathered",
    "diagnosed",
    "override_proposed",
    "override_approved",
    "apply_started",
    "applied",
    "override_served",
    "override_confirmed",
    "withdraw_started",
    "override_ended",
    "incident_closed",
    "report_written",
];

/// The runner judges each: all of S01's own expectations, every answer while the override stood (asked for every
/// 50 ms), the keys of all messages, one apply for one approval, and the log read again from its beginning.
#[test]
fn a_daemon_killed_at_any_event_of_an_outage_goes_on_where_it_was() {
    let place = drills::Place::new();
    let fault = ("at = \"5s\"", "at = \"2s\"");
    // As soon after the detour as a kill on the way there allows; later where every event brings one.
    let once = place.variant_as("once", &[fault, ("at = \"30s\"", "at = \"26s\"")]);
    let every = place.variant_as("every", &[fault, ("at = \"30s\"", "at = \"45s\"")]);
    let (next, beyond, ended) = (AtomicU32::new(EVERY), AtomicBool::new(false), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number > EVENTS_MAX || beyond.load(Ordering::Relaxed) {
                        return;
                    }
                    let when = if number == EVERY { "every".to_owned() } else { number.to_string() };
                    let file = if number == EVERY { &every } else { &once };
                    let lines = lines(&place.drill(&[file, "--json", "--kill-after", &when]));
                    let kills = outcome(&lines)["kills"].as_u64().unwrap();
                    beyond.fetch_or(kills == 0, Ordering::Relaxed);
                    ended.lock().unwrap().push((number, kills, lines));
                }
            });
        }
    });
    let ended = ended.into_inner().unwrap();
    let failed: Vec<String> =
        ended.iter().filter_map(|(number, kills, lines)| failure(*number, *kills, lines)).collect();
    if !failed.is_empty() {
        panic!("{}\nlogs and data: {}", failed.join("\n"), place.keep().display());
    }
    let struck: BTreeSet<&str> = ended.iter().flat_map(|(_, _, lines)| struck(lines)).collect();
    for milestone in MILESTONES {
        assert!(struck.contains(milestone), "no drill was killed at {milestone}: {struck:?}");
    }
    let killed = ended.iter().filter(|(number, kills, _)| *number != EVERY && *kills == 1).count();
    assert!(killed >= EVENTS_MIN, "only {killed} drills were killed");
    let (_, every, _) = ended.iter().find(|(number, ..)| *number == EVERY).unwrap();
    assert!(*every >= EVENTS_MIN as u64, "only {every} kills, after every event");
    assert!(beyond.into_inner(), "the outage has more than {EVENTS_MAX} events");
    place.assert_nothing_runs();
}

/// A drill that ended before its event came was not killed; everything else must have held all the same.
fn failure(number: u32, kills: u64, lines: &[Value]) -> Option<String> {
    let outcome = outcome(lines);
    let wrong: Vec<String> = outcome["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["held"] == false)
        .filter(|check| kills > 0 || check["what"] != "the controller is killed")
        .map(|check| format!("{}: {}", check["what"], check["seen"]))
        .collect();
    let trouble = &outcome["trouble"];
    let ok = wrong.is_empty() && trouble.is_null();
    (!ok).then(|| format!("killed at {number} ({:?}): {wrong:?} {trouble} {}", struck(lines), outcome["directory"]))
}

/// The events after which the daemon was killed.
fn struck(lines: &[Value]) -> Vec<&str> {
    let kinds = |line: &Value| line["kind"] == "killed";
    let events = lines.windows(2).filter(|pair| kinds(&pair[1]));
    events.filter_map(|pair| pair[0]["record"]["event"].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_override_comes_back_with_whoever_comes_back_first() {
    let mut outage = Outage::standing().await;
    let vigil = outage.watch();

    // The DNS process alone: its controller starts it again.
    let killed = outage.kill_dns().await;
    outage.until_served().await;
    assert_ne!(outage.dns_process().await, Some(killed));
    let told = outage.place.wait_for("troubled");
    assert!(told["what"].as_str().unwrap().contains("DNS process"), "{told}");

    // Both, and then `ukai dns` by hand, which the controller finds.
    outage.kill_both().await;
    let mut by_hand = outage.start_dns(outage.world.embedded_dns());
    outage.until_served().await;
    outage.place.start();
    assert_eq!(outage.dns_process().await, Some(by_hand.id()));

    // Both, and then both at the same time: one holds the overrides, and the controller has it.
    outage.kill_both().await;
    by_hand.wait().unwrap();
    let mut at_once = outage.start_dns(outage.world.embedded_dns());
    outage.place.start();
    outage.until_served().await;
    assert!(outage.dns_process().await.is_some());

    // Both, and then `ukai dns` where no application asks: the controller puts it right.
    outage.kill_both().await;
    at_once.wait().unwrap();
    let mut elsewhere = outage.start_dns(free());
    wait_for_dns(&outage, elsewhere.id()).await;
    outage.place.start();
    outage.until_served().await;
    elsewhere.wait().unwrap();

    // Both, and then the controller alone.
    outage.kill_both().await;
    outage.place.start();
    outage.until_served().await;

    let polls = vigil.polls();
    let wrong = polls.iter().find(|poll| poll.addresses.as_ref().is_some_and(|given| *given != outage.detour()));
    assert_eq!(wrong, None, "silence is one thing, another answer is another");
    assert_eq!(outage.place.events("apply_started").len(), 1);
    assert!(outage.place.events("withdraw_started").is_empty());

    outage.heal().await;
    assert_eq!(outage.place.wait_for("override_ended")["reason"], "reverted");
    outage.place.wait_for("incident_closed");
    assert!(outage.place.status()["trouble"].is_null());
}

async fn wait_for_dns(outage: &Outage, process: u32) {
    for _ in 0..TRIES {
        if outage.dns_process().await == Some(process) {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("the DNS process does not come up");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_needs_no_log_to_be_served_or_taken_back() {
    let mut outage = Outage::standing().await;
    outage.kill_both().await;
    damage_log(&outage);
    let (code, said) = refused_start(&outage);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("damaged") && said.contains("goes on serving"), "{said}");
    assert_eq!(outage.answer().await, Some(outage.detour()), "the log is damaged, and the override is served");
    let reverted = json(&outage.place.ask(&["revert", "--all", "--offline", "--json"]));
    assert_eq!(reverted["reverted"].as_array().unwrap().len(), 1, "{reverted}");
    assert_eq!(reverted["problems"].as_array().unwrap().len(), 1, "{reverted}");
    assert_ne!(outage.answer().await, Some(outage.detour()));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_override_can_be_taken_back_with_the_daemon_dead_and_is_told_afterwards() {
    for dns_dies_too in [false, true] {
        let mut outage = Outage::standing().await;
        outage.place.kill();
        if dns_dies_too {
            outage.kill_dns().await;
        }
        let reverted = json(&outage.place.ask(&["revert", "--all", "--offline", "--why", "by hand", "--json"]));
        assert_eq!(reverted["reverted"].as_array().unwrap().len(), 1, "{reverted}");
        assert_ne!(outage.answer().await, Some(outage.detour()), "gone at once, DNS process dead: {dns_dies_too}");
        outage.place.start();
        assert_ne!(outage.answer().await, Some(outage.detour()), "and gone it stays");
        let begun = outage.place.wait_for("withdraw_started");
        let uid = rustix::process::getuid().as_raw();
        assert_eq!((&begun["by"]["uid"], &begun["by"]["via"]), (&Value::from(uid), &Value::from("offline")), "{begun}");
        assert_eq!(begun["why"], "by hand");
        assert_eq!(outage.place.wait_for("override_ended")["reason"], "reverted_by_person");
        let told = until(|| outage.told("ended").pop());
        let text = told["text"].as_str().unwrap();
        let name = begun["by"]["name"].as_str().unwrap();
        assert!(text.contains("by hand") && text.contains(name), "{told}");

        // Once: the next start has nothing more to tell.
        outage.place.kill();
        outage.place.start();
        assert_eq!(outage.place.events("started").len(), 3);
        assert_eq!(outage.place.events("override_ended").len(), 1);
        assert!(!outage.place.data().join("offline.jsonl").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_only_approved_is_not_applied_after_everything_was_taken_back() {
    let (mut outage, id) = Outage::proposed().await;
    outage.approve(&id);
    outage.place.kill();
    let reverted = json(&outage.place.ask(&["revert", "--all", "--offline", "--why", "by hand", "--json"]));
    assert_eq!(
        (&reverted["reverted"], &reverted["dropped"]),
        (&Value::from(Vec::<Value>::new()), &Value::from(vec![id]))
    );
    outage.place.start();
    let rejected = outage.place.wait_for("override_rejected");
    assert_eq!(rejected["why"], "by hand", "{rejected}");
    // The evidence that was asked for before the kill still comes, and no longer leads anywhere.
    until(|| (outage.place.events("evidence_gathered").len() >= 2).then_some(()));
    assert!(outage.place.events("apply_started").is_empty());
    assert_ne!(outage.answer().await, Some(outage.detour()));
}

/// Killed between an event and its effect: no signal comes that exactly, so the log is cut behind the event and the DNS
/// process's disk put back to what it was then.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_begun_and_not_done_is_done_once() {
    let mut outage = Outage::standing().await;
    outage.kill_both().await;
    cut_log_behind(&outage, "apply_started");
    let on_disk = outage.dns_dir().join("overrides.json");
    let with_override = fs::read(&on_disk).unwrap();
    fs::remove_file(&on_disk).unwrap();
    outage.place.start();
    outage.until_served().await;
    let served = outage.place.wait_for("override_served");
    assert_eq!(served["generation"], 1, "{served}");
    assert_eq!(outage.place.events("apply_started").len(), 1);

    let id = served["id"].as_str().unwrap();
    assert!(outage.place.ask(&["revert", id, "--why", "by hand"]).status.success());
    outage.kill_both().await;
    cut_log_behind(&outage, "withdraw_started");
    fs::write(&on_disk, with_override).unwrap();
    outage.place.start();
    assert_eq!(outage.place.wait_for("override_ended")["reason"], "reverted_by_person");
    assert_ne!(outage.answer().await, Some(outage.detour()));
    until(|| (outage.told("ended").len() == 2).then_some(()));
    let keys: BTreeSet<String> = outage.told("ended").iter().map(|told| told["key"].to_string()).collect();
    assert_eq!(keys.len(), 1, "said again under the same key: {keys:?}");
}

/// Leaves the log as a crash right behind the last event of this kind would have.
fn cut_log_behind(outage: &Outage, kind: &str) {
    let db = rusqlite::Connection::open(outage.place.data().join("log.sqlite")).unwrap();
    let last = "SELECT max(position) FROM events WHERE kind = ?1";
    let cut = db.execute(&format!("DELETE FROM events WHERE position > ({last})"), [kind]).unwrap();
    assert!(cut > 0, "nothing came after {kind}");
}

/// Changes a letter in the middle, wherever the killed daemon had it: in the file or in what is to be written to it.
fn damage_log(outage: &Outage) {
    let needle = b"override_served";
    let changed = ["log.sqlite", "log.sqlite-wal"].iter().any(|name| {
        let file = outage.place.data().join(name);
        let mut bytes = fs::read(&file).unwrap_or_default();
        let Some(at) = bytes.windows(needle.len()).position(|window| window == needle) else { return false };
        bytes[at] ^= 1;
        fs::write(&file, bytes).is_ok()
    });
    assert!(changed, "the log holds no override");
}

/// How `ukai run` ended by itself, and what it said.
fn refused_start(outage: &Outage) -> (Option<i32>, String) {
    let file = outage.place.dir.path().join("refused.log");
    let errors = fs::File::create(&file).unwrap();
    let mut daemon = ukai().args(["run", "--config", &outage.place.config_text()]).stderr(errors).spawn().unwrap();
    for _ in 0..TRIES {
        if let Some(status) = daemon.try_wait().unwrap() {
            return (status.code(), fs::read_to_string(file).unwrap());
        }
        thread::sleep(PAUSE);
    }
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    panic!("the daemon runs on a damaged log");
}

fn until<T>(found: impl Fn() -> Option<T>) -> T {
    for _ in 0..TRIES {
        if let Some(found) = found() {
            return found;
        }
        thread::sleep(PAUSE);
    }
    panic!("it never came");
}
