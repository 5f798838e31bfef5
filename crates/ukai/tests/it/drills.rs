//! Whole outages, by `ukai drill`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// Between them a tick of every kind of moment of a drill; none takes as long.
const LINES_MAX: usize = 5_000;

#[test]
fn every_built_in_outage_ends_as_it_should() {
    let place = Place::new();
    let output = place.drill(&["--all", "--json", "--jobs", "4"]);
    let lines = lines(&output);
    let failed: Vec<&Value> = lines
        .iter()
        .filter(|line| line["kind"] == "ended" && line["outcome"]["passed"] == false)
        .map(|line| &line["outcome"])
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let score = lines.last().expect("a score");
    assert_eq!(score["kind"], "score");
    assert_eq!(score["drills"], score["passed"]);
    assert_eq!(score["wrong_overrides"], 0);
    assert_eq!(score["missed_overrides"], 0);
    assert!(score["drills"].as_u64() >= Some(40));
    assert!(output.status.success());
    place.assert_nothing_runs();
}

#[test]
fn an_override_survives_the_daemon_and_is_still_taken_back() {
    let heal = "[[heal]]\nat = \"30s\"";
    let restart = "[[fault]]\nat = \"23s\"\ndaemon = \"restart\"\n\n[[heal]]\nat = \"34s\"";
    let place = Place::new();
    let output = place.drill(&[&place.variant(&[(heal, restart)]), "--json"]);
    let outcome = outcome(&lines(&output));
    assert_eq!(outcome["passed"], true, "{outcome:#}");
    let starts = lines(&output).iter().filter(|line| line["record"]["event"] == "started").count();
    assert_eq!(starts, 2, "the daemon was to be started twice");
    assert!(output.status.success());
    let reports: Vec<&str> = outcome["reports"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(reports.len(), 3);
    assert!(reports.iter().all(|report| Path::new(report).exists()), "{reports:?}");
}

#[test]
fn a_dns_server_that_is_kept_down_delays_the_detour_and_no_more() {
    let heal = "[[heal]]\nat = \"30s\"";
    let down = "[[fault]]\nat = \"12s\"\nprovider = \"down\"\n\n[[fault]]\nat = \"20s\"\nprovider = \"ok\"\n\n\
                [[heal]]\nat = \"45s\"";
    let place = Place::new();
    let output = place.drill(&[&place.variant(&[(heal, down)]), "--json"]);
    let lines = lines(&output);
    let outcome = outcome(&lines);
    assert_eq!(outcome["passed"], true, "{outcome:#}");
    let troubled =
        |what: &str| lines.iter().any(|line| line["record"]["what"].as_str().is_some_and(|told| told.contains(what)));
    assert!(troubled("does not answer") && troubled("answers again"));
    place.assert_nothing_runs();
}

#[test]
fn an_override_that_the_dns_server_lost_is_noticed_and_decided_anew() {
    let heal = "[[heal]]\nat = \"30s\"";
    let lost = "[[fault]]\nat = \"24s\"\nprovider = \"loses-update\"\n\n[[heal]]\nat = \"40s\"";
    let place = Place::new();
    let output = place.drill(&[&place.variant(&[(heal, lost)]), "--json"]);
    let outcome = outcome(&lines(&output));
    assert_eq!(outcome["passed"], true, "{outcome:#}");
    let approved = lines(&output).iter().filter(|line| line["record"]["event"] == "override_approved").count();
    assert_eq!(approved, 2, "what was lost is not put back without a decision");
    place.assert_nothing_runs();
}

#[test]
fn two_people_decide_where_there_can_be_two() {
    let level = "level = \"approve\"";
    let decides = "wait = \"1s\"\ndoes = \"approve\"";
    let second =
        format!("{decides}\n\n[[operator]]\non = \"proposed\"\nwait = \"2s\"\ndoes = \"approve\"\nwho = \"b\"");
    let place = Place::new();
    let file = place.variant(&[(level, &format!("{level}\napprovals = 2")), (decides, &second)]);
    let output = place.drill(&[&file, "--json"]);
    let lines = lines(&output);
    let outcome = outcome(&lines);
    if rustix::process::geteuid().is_root() {
        assert_eq!(outcome["passed"], true, "{outcome:#}");
        let approved = lines.iter().filter(|line| line["record"]["event"] == "override_approved");
        let people: Vec<u64> = approved.filter_map(|line| line["record"]["by"]["uid"].as_u64()).collect();
        assert!(people.len() == 2 && people[0] != people[1], "{people:?}");
    } else {
        assert_eq!(outcome["passed"], false);
        assert!(outcome["trouble"].as_str().is_some_and(|why| why.contains("root")), "{outcome:#}");
    }
    place.assert_nothing_runs();
}

#[test]
fn an_override_that_nobody_expects_fails_the_drill_outright() {
    let place = Place::new();
    let wanted = "action = \"override\"\nmode = \"follow\"\nserves = [\"new-1\"]";
    let output = place.drill(&[&place.variant(&[(wanted, "action = \"none\"")]), "--json"]);
    let outcome = outcome(&lines(&output));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(outcome["wrong_override"], true, "{outcome:#}");
    assert_eq!(outcome["passed"], false);
    let kept = Path::new(outcome["directory"].as_str().expect("the logs of a drill that failed"));
    assert!(kept.join("daemon.log").exists());
    place.assert_nothing_runs();
}

#[test]
fn an_interrupted_drill_leaves_nothing_running() {
    let place = Place::new();
    let mut child = place.start(&["S06", "--json"]);
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok).take(LINES_MAX);
    let healthy = output.any(|line| json(&line)["kind"] == "healthy");
    assert!(healthy, "the drill did not get going");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let last = output.last().map(|line| json(&line)).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(last["kind"], "ended");
    assert_eq!(last["outcome"]["trouble"].as_str().unwrap().lines().next(), Some("interrupted"));
    place.assert_nothing_runs();
}

#[test]
fn nobody_reading_ends_the_drill_as_well() {
    let place = Place::new();
    let mut child = place.start(&["S06"]);
    let output = child.stdout.take().unwrap();
    let first = BufReader::new(output).lines().next().unwrap().unwrap();
    assert!(first.starts_with("DRILL S06"), "{first}");
    assert_eq!(child.wait().unwrap().code(), Some(1));
    place.assert_nothing_runs();
}

#[test]
fn a_mistake_in_a_file_is_pointed_at() {
    let place = Place::new();
    let output = place.drill(&[&place.variant(&[("resolver = \"stale\"", "resolvr = \"stale\"")])]);
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains(":37:1: unknown key \"resolvr\""), "{errors}");
    assert!(errors.contains("did you mean \"resolver\"?"), "{errors}");
    let output = place.drill(&["no-such-drill"]);
    assert_eq!(output.status.code(), Some(2));
}

/// A temporary directory that everything of a drill stands in.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    /// Leaves everything for somebody to look at.
    pub fn keep(self) -> PathBuf {
        self.0.keep()
    }

    fn variant(&self, replacements: &[(&str, &str)]) -> String {
        self.variant_as("variant", replacements)
    }

    /// S01 with some of its text replaced, in a file of its own.
    pub fn variant_as(&self, name: &str, replacements: &[(&str, &str)]) -> String {
        let mut text = include_str!("../../../ukai-lab/scenarios/s01-stale-resolver.toml").to_owned();
        for (from, to) in replacements {
            assert!(text.contains(from), "S01 no longer holds {from:?}");
            text = text.replace(from, to);
        }
        let file = self.0.path().join(name).with_extension("toml");
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    }

    pub fn drill(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ukai"));
        command.env("TMPDIR", self.0.path()).arg("drill").args(arguments);
        command
    }

    pub fn assert_nothing_runs(&self) {
        let wanted = self.0.path().display().to_string();
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            assert!(!command.contains(&wanted), "still running: {command}");
        }
    }
}

pub fn lines(output: &Output) -> Vec<Value> {
    String::from_utf8_lossy(&output.stdout).lines().map(json).collect()
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

pub fn outcome(lines: &[Value]) -> Value {
    let ended = lines.iter().rfind(|line| line["kind"] == "ended");
    ended.expect("an outcome")["outcome"].clone()
}
