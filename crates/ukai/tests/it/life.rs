//! The daemon's life: one at a time, reloaded, stopped, spoken to.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::place::{PAUSE, Place, TRIES, free, json, refusal, subscriber};

/// A log that cannot be written is no page before half a minute.
const TOLD_WITHIN: Duration = Duration::from_secs(90);

#[test]
fn the_second_daemon_of_a_data_directory_is_refused() {
    let mut place = Place::with_config("");
    place.start();
    let (code, said) = refusal(&["run", "--config", &place.config_text()]);
    assert_eq!(code, 2);
    let process = place.status()["process"].to_string();
    assert!(said.contains(&process) && said.contains("data"), "{said}");
    assert!(place.ask(&["status"]).status.success(), "the first one runs on");
}

#[test]
fn a_bad_file_leaves_the_running_configuration_in_force() {
    let mut place = Place::with_config("");
    place.start();
    let good = fs::read_to_string(place.config()).unwrap();
    fs::write(place.config(), good.replace("interval", "intervall")).unwrap();
    place.signal(Signal::HUP);
    let told = place.wait_for("troubled");
    assert!(told["what"].as_str().unwrap().contains("intervall"), "{told}");
    assert_eq!(level(&place.status()), "observe");

    fs::write(place.config(), good.replace("interval = ", "level = \"propose\"\ninterval = ")).unwrap();
    place.signal(Signal::HUP);
    for _ in 0..TRIES {
        if level(&place.status()) == "propose" {
            return;
        }
        std::thread::sleep(PAUSE);
    }
    panic!("the good file was not taken over: {:?}", place.said());
}

#[test]
fn what_cannot_change_while_it_runs_is_refused_whole() {
    let mut place = Place::with_config("");
    place.start();
    let good = fs::read_to_string(place.config()).unwrap();
    let moved = good.replace("\"data\"", "\"elsewhere\"").replace("interval = ", "level = \"propose\"\ninterval = ");
    fs::write(place.config(), moved).unwrap();
    place.signal(Signal::HUP);
    let told = place.wait_for("troubled");
    assert!(told["what"].as_str().unwrap().contains("data_dir"), "{told}");
    assert_eq!(level(&place.status()), "observe");
}

#[test]
fn the_dns_process_outlives_a_stop_and_ends_with_a_person_at_the_keyboard() {
    let listen = free();
    let mut place = Place::with_config(&format!("[dns]\nlisten = [\"{listen}\"]"));
    place.start();
    assert!(place.dns_runs());
    place.signal(Signal::TERM);
    assert_eq!(place.ended(), 0);
    assert!(place.dns_runs(), "applications resolve with it");

    place.start();
    assert!(place.dns_runs());
    place.signal(Signal::INT);
    assert_eq!(place.ended(), 0);
    for _ in 0..TRIES {
        if !place.dns_runs() {
            return;
        }
        std::thread::sleep(PAUSE);
    }
    panic!("the DNS process still runs");
}

#[test]
fn a_dns_process_that_dies_is_started_again() {
    let listen = free();
    let mut place = Place::with_config(&format!("[dns]\nlisten = [\"{listen}\"]"));
    place.start();
    place.stop_dns();
    let told = place.wait_for("troubled");
    assert!(told["what"].as_str().unwrap().contains("DNS process"), "{told}");
    for _ in 0..TRIES {
        if place.dns_runs() {
            return;
        }
        std::thread::sleep(PAUSE);
    }
    panic!("the DNS process stays down: {:?}", place.said());
}

#[test]
fn a_peer_that_cannot_be_reached_becomes_an_incident_with_a_report() {
    let mut place = Place::with_config("");
    place.start();
    let opened = place.wait_for("incident_opened");
    let id = opened["incident"].as_str().unwrap().to_owned();
    assert_eq!(opened["stage"], "resolve");
    place.wait_for("diagnosed");
    let incident = json(&place.ask(&["incidents", &id, "--json"]));
    assert_eq!(incident["peer"], "api");
    let report = json(&place.ask(&["report", &id, "--json"]));
    assert!(report["markdown"].as_str().unwrap().contains(&id));
    assert!(place.ask(&["incidents"]).status.success());
    for unknown in [["report", "inc-99"], ["incidents", "inc-99"], ["plan", "ovr-99"], ["reject", "ovr-99"]] {
        let output = place.ask(&unknown);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{unknown:?}: {said}");
        assert!(said.contains(&format!("there is no {} {}", kind_of(unknown[1]), unknown[1])), "{said}");
    }
    // By its host, too: the incident is open, so the pin is taken up.
    let pinned = place.ask(&["pin", "api.peer.test", "192.0.2.7", "--why", "test"]);
    assert!(pinned.status.success(), "{}", String::from_utf8_lossy(&pinned.stderr));
    let nobody = place.ask(&["pin", "nobody.test", "192.0.2.7"]);
    let said = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert_eq!(nobody.status.code(), Some(1), "{said}");
    assert!(said.contains("there is no peer nobody.test; peers: api"), "{said}");
}

#[test]
fn people_are_known_by_their_uid_and_refusals_have_a_code_of_their_own() {
    let mut place = Place::with_config("");
    place.start();
    let frozen = place.ask(&["freeze", "--why", "night shift"]);
    assert!(frozen.status.success(), "{}", String::from_utf8_lossy(&frozen.stderr));
    let event = place.wait_for("frozen");
    assert_eq!(event["by"]["uid"], rustix::process::getuid().as_raw());
    assert_eq!(event["why"], "night shift");
    assert!(!place.status()["frozen"].is_null());
    let shown = String::from_utf8(place.ask(&["status"]).stdout).unwrap();
    assert!(shown.contains("night shift"), "{shown}");
    assert!(place.ask(&["thaw"]).status.success());
    assert!(place.status()["frozen"].is_null());

    let unknown = place.ask(&["approve", "ovr-9", "--hash", "00"]);
    assert_eq!(unknown.status.code(), Some(1), "{}", String::from_utf8_lossy(&unknown.stderr));
    let listed = json(&place.ask(&["overrides", "--json"]));
    assert_eq!(listed["overrides"], Value::Array(Vec::new()));
    let reverted = json(&place.ask(&["revert", "--all", "--json"]));
    assert!(reverted["text"].is_string(), "{reverted}");
}

#[test]
fn a_full_disk_decides_nothing_pages_and_goes_on_when_there_is_room() {
    let (listener, taken) = subscriber();
    let mut place =
        Place::with_config(&format!("[[notify]]\nname = \"ops\"\nkind = \"webhook\"\nurl = \"http://{listener}/\"\n"));
    // The empty log takes about 100 KiB.
    place.start_on_small_disk(512 * 1024);
    let long = "x".repeat(20_000);
    let mut refused = None;
    for command in ["freeze", "thaw"].into_iter().cycle().take(TRIES) {
        let output = place.ask(&[command, "--why", &long]);
        if !output.status.success() {
            refused = Some(output);
            break;
        }
    }
    let refused = refused.expect("the disk is full at some time");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(4), "{said}");
    assert!(said.contains("not done yet") || said.contains("nothing can be decided"), "{said}");
    assert!(place.status()["trouble"].is_string(), "{said}");
    let thaw = place.ask(&["thaw"]);
    assert_eq!(thaw.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&thaw.stderr).contains("event log"), "it says what is wrong");
    let told = |page: bool, subject: &str| {
        let is_it = |message: &Value| message["page"] == page && message["subject"].as_str().unwrap().contains(subject);
        while !is_it(&taken.recv_timeout(TOLD_WITHIN).expect(subject)) {}
    };
    told(true, "it cannot write its log");

    place.make_room();
    told(false, "ukai watches again");
    assert!(place.status()["trouble"].is_null());
    assert!(place.ask(&["thaw"]).status.success());
    assert!(place.status()["frozen"].is_null());
    let events = String::from_utf8(place.ask(&["events", "--json"]).stdout).unwrap();
    assert!(events.lines().any(|line| line.contains("nothing was watched or decided")), "{events}");
}

#[test]
fn offline_is_for_a_daemon_that_is_dead() {
    let mut place = Place::with_config("");
    place.start();
    let refused = place.ask(&["revert", "--all", "--offline"]);
    assert_eq!(refused.status.code(), Some(4));
    place.kill();
    let done = place.ask(&["revert", "--all", "--offline"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.contains("no override stood") && said.contains(&place.data().display().to_string()), "{said}");
    let deed = fs::read_to_string(place.data().join("offline.jsonl")).unwrap();
    assert!(deed.contains("\"all\""), "who and why, though nothing stood: {deed}");
    // What was taken down is told to the daemon, and is harmless where nothing had begun.
    place.start();
    assert!(!place.data().join("offline.jsonl").exists());
    assert!(place.status()["trouble"].is_null());
}

/// An all-clear must not be given of a place that was not looked into.
#[test]
fn offline_gives_no_all_clear_that_it_cannot_give() {
    let place = Place::new();
    let refused = |part: &str| {
        let output = place.ask(&["revert", "--all", "--offline"]);
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(part) && said.contains(&place.data().display().to_string()), "{said}");
        assert!(!said.contains("no override stood"), "{said}");
    };
    refused("does not exist");
    fs::create_dir(place.data()).unwrap();
    refused("--data-dir");
    fs::create_dir(place.data().join("dns")).unwrap();
    fs::write(place.data().join("dns").join("overrides.json"), "{\"version\":").unwrap();
    refused("was damaged");
    assert!(fs::read_to_string(place.data().join("offline.jsonl")).unwrap().contains("\"all\""));
}

#[test]
fn whoever_reverts_without_a_daemon_is_shown_the_way() {
    let place = Place::new();
    let output = place.ask(&["revert", "--all"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--offline"));
    let output = place.ask(&["revert"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("revert ID") && said.contains("--all"), "{said}");
}

fn kind_of(id: &str) -> &str {
    if id.starts_with("inc") { "incident" } else { "override" }
}

fn level(status: &Value) -> &str {
    status["peers"][0]["level"].as_str().unwrap()
}
