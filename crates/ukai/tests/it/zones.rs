//! The outage of S01 where the team's own servers hold the zone: gone around through them, and ended without ukai.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use ukai_lab::servers::{Stack, Team, ZONE};

use crate::outage::Outage;
use crate::place::{PAUSE, TRIES, json, ukai};

/// Long enough to be served through a follower, short enough to wait for.
const LEASE: &str = "[[peer]]\nlease = \"20s\"\n";

struct Staged {
    outage: Outage,
    team: Team,
    before: String,
}

impl Staged {
    async fn with(stack: Stack, lease: bool) -> Staged {
        let mut team = None;
        let dir = tempfile::tempdir().unwrap().keep();
        let mut outage = Outage::stage_as(|world, config| {
            let started = Team::start(stack, world.embedded_dns(), world.resolver(), &dir).unwrap();
            let config = started.configure(config).unwrap();
            team = Some(started);
            if lease { config.replacen("[[peer]]\n", LEASE, 1) } else { config }
        })
        .await;
        let team = team.unwrap();
        let before = team.contents().unwrap();
        outage.break_it().await;
        let id = outage.place.wait_for("override_proposed")["id"].as_str().unwrap().to_owned();
        outage.approve(&id);
        outage.place.wait_for("override_served");
        assert_eq!(outage.answer().await, Some(outage.detour()));
        assert_ne!(team.contents().unwrap(), before);
        Staged { outage, team, before }
    }

    async fn until_answered(&self, is_so: impl Fn(&BTreeSet<IpAddr>) -> bool) {
        for _ in 0..TRIES * 2 {
            if self.outage.answer().await.is_some_and(|answer| is_so(&answer)) {
                return;
            }
            tokio::time::sleep(PAUSE).await;
        }
        panic!("the answers stay as they are; the resolver says:\n{}", self.outage.place.said().join("\n"));
    }

    fn kill_keeper(&self) {
        let pid = i32::try_from(self.keeper().unwrap()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }

    /// Standing and over.
    fn leases(&self) -> Vec<serde_json::Value> {
        self.kept().unwrap()["leases"].as_array().unwrap().clone()
    }

    fn revert_offline(&self) -> (Option<i32>, String) {
        let reverted = ukai()
            .args(["revert", "--all", "--offline", "--why", "night", "--config", &self.outage.place.config_text()])
            .envs(self.outage.place.environment.iter().cloned())
            .output()
            .unwrap();
        let told = [reverted.stdout, reverted.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (reverted.status.code(), told.concat())
    }

    fn zone(&self) -> String {
        self.team.contents().unwrap()
    }

    fn keeper(&self) -> Option<u32> {
        u32::try_from(self.kept()?["process"].as_u64()?).ok()
    }

    /// What the keeper says of itself.
    fn kept(&self) -> Option<serde_json::Value> {
        use std::io::{BufRead, BufReader, Write};
        let mut stream =
            std::os::unix::net::UnixStream::connect(self.outage.place.data().join("keeper").join("keeper.sock"))
                .ok()?;
        stream.write_all(b"{\"op\":\"list\"}\n").ok()?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).ok()?;
        serde_json::from_str(&line).ok()
    }
}

impl Drop for Staged {
    /// The keeper outlives its controller on purpose.
    fn drop(&mut self) {
        let pid = self.keeper().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

async fn ends_without_ukai(stack: Stack) {
    let mut staged = Staged::with(stack, true).await;
    staged.outage.place.kill();
    let detour = staged.outage.detour();
    staged.until_answered(|answer| *answer != detour).await;
    assert_eq!(staged.zone(), staged.before, "{stack:?}");
    // The next daemon knows what became of it.
    staged.outage.place.start();
    assert_eq!(staged.outage.place.wait_for("override_ended")["reason"], "expired", "{stack:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_bind_an_override_ends_in_time_although_ukai_was_killed() {
    ends_without_ukai(Stack::Bind).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_knot_and_unbound_an_override_ends_in_time_although_ukai_was_killed() {
    ends_without_ukai(Stack::Knot).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_powerdns_an_override_ends_in_time_although_ukai_was_killed() {
    ends_without_ukai(Stack::PowerDns).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_unbound_an_override_ends_in_time_although_ukai_was_killed() {
    ends_without_ukai(Stack::Unbound).await;
}

/// Daemon killed, keeper killed: a start takes up both, and a person takes everything back.
#[tokio::test(flavor = "multi_thread")]
async fn killed_together_they_are_taken_up_together() {
    let mut staged = Staged::with(Stack::Bind, false).await;
    let keeper = staged.keeper().unwrap();
    staged.outage.place.kill();
    staged.kill_keeper();
    assert_eq!(staged.outage.answer().await, Some(staged.outage.detour()), "what stands needs nobody");
    let on_its_way_out = hold_until_refused(&staged.outage.place.data().join("keeper"));
    staged.outage.place.start();
    on_its_way_out.join().unwrap();
    let again = staged.keeper().unwrap();
    assert_ne!(again, keeper);
    let listed = json(&staged.outage.place.ask(&["overrides", "--json"]));
    assert_eq!(listed["serving"].as_array().map(Vec::len), Some(1), "{listed}");
    let exported = staged.outage.place.ask(&["overrides", "export", "--rpz", ZONE]);
    let address = format!(" IN A {}\n", staged.outage.new);
    assert!(String::from_utf8_lossy(&exported.stdout).contains(&address), "{exported:?}");
    let reverted = staged.outage.place.ask(&["revert", "--all", "--why", "test"]);
    assert!(reverted.status.success(), "{}", String::from_utf8_lossy(&reverted.stderr));
    assert_eq!(staged.zone(), staged.before);
    let detour = staged.outage.detour();
    staged.until_answered(|answer| *answer != detour).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_daemon_dead_a_person_takes_everything_back() {
    let mut staged = Staged::with(Stack::Bind, false).await;
    staged.outage.place.kill();
    let (code, told) = staged.revert_offline();
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("no longer"), "{told}");
    assert_eq!(staged.zone(), staged.before);
    staged.outage.place.start();
    assert_eq!(staged.outage.place.wait_for("override_ended")["reason"], "reverted_by_person");
    assert!(!staged.zone().contains(&format!("_ukai.invalid.{ZONE}")));
}

/// As a keeper does that answers nobody any more: until the next one was refused.
fn hold_until_refused(dir: &Path) -> std::thread::JoinHandle<()> {
    let (log, lock) = (dir.join("keeper.log"), std::fs::File::open(dir.join("lock")).unwrap());
    // One that was killed has it until it is gone.
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    std::thread::spawn(move || {
        for _ in 0..TRIES {
            if std::fs::read_to_string(&log).unwrap().contains("another lease keeper holds the directory") {
                return drop(lock);
            }
            std::thread::sleep(PAUSE);
        }
        panic!("nobody was refused");
    })
}

/// The disk of the keeper is lost with it: what stands gets its lease again.
#[tokio::test(flavor = "multi_thread")]
async fn leases_that_were_lost_are_made_again_from_the_zone() {
    let mut staged = Staged::with(Stack::Bind, false).await;
    // When it ends by the keeper's own clock may differ by what passes between two looks at a clock.
    let but_for_its_clock = |mut leases: Vec<serde_json::Value>| {
        leases.iter_mut().for_each(|lease| drop(lease.as_object_mut().unwrap().remove("ends_at")));
        leases
    };
    let before = but_for_its_clock(staged.leases());
    assert_eq!(before.len(), 1);
    staged.outage.place.kill();
    staged.kill_keeper();
    std::fs::remove_file(staged.outage.place.data().join("keeper").join("leases.json")).unwrap();
    staged.outage.place.start();
    for _ in 0..TRIES {
        if !staged.leases().is_empty() {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    assert_eq!(but_for_its_clock(staged.leases()), before);
}

/// Nobody is left to look for what comes late, and the configuration is another one's: all of it is told.
#[tokio::test(flavor = "multi_thread")]
async fn taken_back_with_everything_dead_it_says_what_is_left_to_do() {
    let mut staged = Staged::with(Stack::Bind, false).await;
    staged.outage.place.kill();
    staged.kill_keeper();
    let data = staged.outage.place.data();
    let owner = std::fs::read_to_string(data.join("owner")).unwrap();

    std::fs::write(data.join("owner"), "").unwrap();
    let (code, told) = staged.revert_offline();
    assert!(code == Some(1) && told.contains("owner is damaged"), "{told}");
    std::fs::remove_file(data.join("owner")).unwrap();
    let (code, told) = staged.revert_offline();
    assert!(code == Some(1) && told.contains(owner.trim()), "{told}");
    assert!(!data.join("owner").exists());
    std::fs::write(data.join("owner"), &owner).unwrap();

    let written = std::fs::read_to_string(staged.outage.place.config()).unwrap();
    std::fs::write(staged.outage.place.config(), without_zone(&written)).unwrap();
    let (code, told) = staged.revert_offline();
    assert!(code == Some(1) && told.contains("stands in the zone"), "{told}");
    assert_ne!(staged.zone(), staged.before);

    std::fs::write(staged.outage.place.config(), &written).unwrap();
    let (code, told) = staged.revert_offline();
    assert!(code == Some(0) && told.contains("no lease keeper runs"), "{told}");
    assert_eq!(staged.zone(), staged.before);
    let kept = std::fs::read_to_string(data.join("keeper").join("leases.json")).unwrap();
    assert!(kept.contains("ends_at"), "over, and not forgotten: {kept}");
}

fn without_zone(config: &str) -> String {
    let mut table: toml::Table = config.parse().unwrap();
    table.remove("rfc2136").unwrap();
    table.to_string()
}

/// The scenario and its judge are those of every other drill.
#[test]
fn the_whole_outage_is_played_on_each_of_them() {
    let place = crate::drills::Place::new();
    std::thread::scope(|scope| {
        for (provider, programs) in [
            ("bind", &["named", "unbound"][..]),
            ("knot", &["knotd", "unbound"]),
            ("pdns", &["pdns_server", "pdns_recursor"]),
            ("unbound", &["unbound"]),
        ] {
            let place = &place;
            scope.spawn(move || {
                let lines = crate::drills::lines(&place.drill(&["S01", "--provider", provider, "--json"]));
                let outcome = crate::drills::outcome(&lines);
                assert_eq!(outcome["passed"], true, "{provider}: {outcome}");
                let told = lines.iter().find(|line| line["kind"] == "servers").unwrap();
                assert_eq!(told["servers"], outcome["servers"]);
                let servers = outcome["servers"].as_array().unwrap();
                let found: Vec<&str> = servers.iter().filter_map(|server| server["program"].as_str()).collect();
                assert_eq!(found, programs, "{provider}");
                assert!(servers.iter().all(|server| server["version"].is_string()), "{servers:?}");
            });
        }
    });
}
