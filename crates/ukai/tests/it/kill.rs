//! SIGKILL at the first event of every kind of a whole incident: the daemon comes back, goes on or takes back what was
//! begun, and what was served stays served meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::Child;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use ukai_dns::{Client, ClientOptions, Upstream};
use ukai_lab::runner::catalogue;
use ukai_lab::scenario::Scenario;
use ukai_lab::world::{SECRET_VARIABLE, Slot, World};

use crate::place::{PAUSE, Place, json};

/// Events from the first probe to the report, with what every restart adds; far more means that it goes in circles.
const EVENTS_MAX: usize = 1_000;
/// Looks: a few minutes, were nothing to happen any more.
const LOOKS_MAX: usize = 3_000;
const IDLE: Duration = Duration::from_millis(100);
/// Of the incident, in the order in which an outage has them: this is what must have been reached.
const MILESTONES: [&str; 9] = [
    "incident_opened",
    "diagnosed",
    "override_proposed",
    "override_approved",
    "apply_started",
    "applied",
    "override_served",
    "override_ended",
    "incident_closed",
];

struct Outage {
    world: World,
    scenario: Scenario,
    place: Place,
}

impl Outage {
    async fn stage() -> Outage {
        let scenario = catalogue::find("S01").first().unwrap().parse().unwrap();
        let world = World::start(&scenario, Slot::claim().unwrap()).await.unwrap();
        let mut place = Place::new();
        place.environment.push((SECRET_VARIABLE.to_owned(), world.secret().to_owned()));
        fs::write(place.config(), world.daemon_config(&place.data())).unwrap();
        let history = place.dir.path().join("history.json");
        fs::write(&history, world.history().to_string()).unwrap();
        let imported = place.ask(&["history", "import", &history.display().to_string()]);
        assert!(imported.status.success(), "{}", String::from_utf8_lossy(&imported.stderr));
        place.start();
        Outage { world, scenario, place }
    }

    async fn break_it(&mut self) {
        let change = self.scenario.faults[0].change.clone();
        self.world.apply(&change).await.unwrap();
    }

    async fn heal(&mut self) {
        let change = self.scenario.heals[0].change.clone();
        self.world.apply(&change).await.unwrap();
    }

    /// What an application would get now.
    async fn served(&self) -> BTreeSet<String> {
        let dns = Client::new(ClientOptions::default());
        let question = ukai_dns::Question::new(self.scenario.host(), ukai_dns::RecordType::A).unwrap();
        let server: SocketAddr = self.world.embedded_dns();
        let options = ukai_dns::AskOptions::default();
        let reply = dns.ask(&Upstream::Udp(server), &question, &options).await.unwrap();
        reply.addresses().iter().map(ToString::to_string).collect()
    }

    fn log(&self) -> Vec<Value> {
        let output = self.place.ask(&["events", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_killed_at_every_kind_of_event_finishes_what_it_began() {
    let mut outage = Outage::stage().await;
    outage.place.wait_for("address_set_changed");
    outage.break_it().await;
    let new = outage.world.address_of("new-1").unwrap().to_string();
    let (mut killed_at, mut healed, mut last) = (BTreeSet::new(), false, 0);
    let mut follower = Follower::start(&outage.place, last);
    for _ in 0..LOOKS_MAX {
        let Some(event) = follower.next() else {
            let log = outage.log();
            assert!(log.len() < EVENTS_MAX, "it goes in circles: {killed_at:?}");
            if has(&log, "incident_closed") && last == log.len() as u64 {
                break;
            }
            approve(&outage, &log);
            if stands(&log) && !std::mem::replace(&mut healed, true) {
                outage.heal().await;
            }
            continue;
        };
        last = event["position"].as_u64().unwrap();
        if killed_at.insert(kind(&event)) {
            outage.place.kill();
            let stood = kind(&event) == "override_served";
            if stood {
                assert_eq!(outage.served().await, BTreeSet::from([new.clone()]), "served with the daemon dead");
            }
            outage.place.start();
            follower = Follower::start(&outage.place, last);
        }
    }
    let log = outage.log();
    for milestone in MILESTONES {
        assert!(has(&log, milestone), "{milestone} was not reached: {:?}", log.iter().map(kind).collect::<Vec<_>>());
        assert!(killed_at.contains(milestone), "the daemon was not killed at {milestone}");
    }
    let listed = json(&outage.place.ask(&["overrides", "--json"]));
    assert_eq!(listed["serving"], Value::Array(Vec::new()), "{listed}");
    assert_same_key_same_message(&outage.world);
}

/// Events as they are appended, so that the kill comes right behind them.
struct Follower {
    child: Child,
    lines: Receiver<String>,
}

impl Follower {
    fn start(place: &Place, from: u64) -> Follower {
        let mut child = place.follow(from);
        let (say, lines) = channel();
        let output = child.stdout.take().unwrap();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if say.send(line).is_err() {
                    return;
                }
            }
        });
        Follower { child, lines }
    }

    /// None: nothing came for a while.
    fn next(&self) -> Option<Value> {
        let line = self.lines.recv_timeout(IDLE).ok()?;
        Some(serde_json::from_str(&line).unwrap())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_override_can_be_taken_back_with_the_daemon_dead() {
    for dns_dies_too in [false, true] {
        let mut outage = Outage::stage().await;
        outage.place.wait_for("address_set_changed");
        outage.break_it().await;
        let new = outage.world.address_of("new-1").unwrap().to_string();
        for _ in 0..LOOKS_MAX {
            let log = outage.log();
            if has(&log, "override_served") {
                break;
            }
            approve(&outage, &log);
            thread::sleep(PAUSE);
        }
        assert_eq!(outage.served().await, BTreeSet::from([new.clone()]));
        outage.place.kill();
        if dns_dies_too {
            outage.place.stop_dns();
        }
        let reverted = json(&outage.place.ask(&["revert", "--all", "--offline", "--why", "by hand", "--json"]));
        assert_eq!(reverted["reverted"].as_array().unwrap().len(), 1, "{reverted}");
        outage.place.start();
        assert!(!outage.served().await.contains(&new), "the override is gone");
        let ended = outage.place.wait_for("override_ended");
        assert_eq!(ended["reason"], "reverted_by_person", "{ended}");
        assert!(!outage.place.data().join("offline.jsonl").exists(), "it is told once");
    }
}

fn approve(outage: &Outage, log: &[Value]) {
    let proposed = log.iter().rev().find(|event| kind(event) == "override_proposed");
    let Some(id) = proposed.and_then(|event| event["id"].as_str()) else { return };
    let decided = ["override_approved", "override_voided", "override_ended", "apply_started"];
    let is_over = log.iter().any(|event| event["id"] == id && decided.contains(&kind(event).as_str()));
    if !is_over {
        // Refused while the daemon is still coming up, or when it thought of something better: then there is a next time.
        outage.place.ask(&["approve", id, "--yes", "--why", "test"]);
    }
}

fn kind(event: &Value) -> String {
    event["event"].as_str().unwrap().to_owned()
}

fn has(log: &[Value], wanted: &str) -> bool {
    log.iter().any(|event| kind(event) == wanted)
}

/// An override is served and nothing has begun to take it away.
fn stands(log: &[Value]) -> bool {
    let last = |wanted: &str| log.iter().rposition(|event| kind(event) == wanted);
    last("override_served") > last("withdraw_started")
}

/// At least once, and a repetition says the same under the same key.
fn assert_same_key_same_message(world: &World) {
    let mut told: BTreeMap<String, (Value, Value)> = BTreeMap::new();
    let received = world.notifications();
    assert!(!received.is_empty());
    for notification in received {
        let body: Value = serde_json::from_str(&notification.body).unwrap();
        let key = body["key"].as_str().unwrap().to_owned();
        assert_eq!(notification.headers.get("idempotency-key"), Some(&key));
        let message = (body["subject"].clone(), body["text"].clone());
        let before = told.entry(key.clone()).or_insert_with(|| message.clone());
        assert_eq!(*before, message, "{key} says two things");
    }
}
