//! The archive of a real outage: what is in it, what is not, and that it leads to the same verdict anywhere.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::drills::{Place, lines, outcome};
use crate::outage::Outage;

fn ukai(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ukai")).args(arguments).output().unwrap()
}

fn json(output: &Output) -> Value {
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {errors}"))
}

fn unpacked(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (name, bytes)
    });
    entries.collect()
}

fn said(verdict: &Value) -> [Value; 3] {
    ["code", "sure", "action"].map(|key| verdict[key].clone())
}

#[test]
fn an_outage_is_handed_over_whole_and_leads_to_the_same_verdict() {
    let place = Place::new();
    let drilled = place.drill(&["S10a", "--keep", "--json"]);
    let outcome = outcome(&lines(&drilled));
    assert_eq!(outcome["passed"], true, "{outcome:#}");
    let data = Path::new(outcome["directory"].as_str().unwrap()).join("data");
    let data = data.to_str().unwrap();
    let out = Path::new(outcome["directory"].as_str().unwrap()).join("for-support.tar.gz");
    let out = out.to_str().unwrap();

    let written = json(&ukai(&["evidence", "inc-1", "--data-dir", data, "--out", out, "--json"]));
    assert_eq!(written["path"], out);
    let again = ukai(&["evidence", "inc-1", "--data-dir", data, "--out", out]);
    assert_eq!(again.status.code(), Some(2), "what is there is not replaced unasked");
    let unknown = ukai(&["evidence", "inc-7", "--data-dir", data]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("did you mean inc-1?"), "{unknown:?}");

    let files = unpacked(Path::new(out));
    for name in ["summary.en.md", "summary.ja.md", "timeline.txt", "probes.txt", "candidates.json", "network.json"] {
        assert!(!files[name].is_empty(), "{name}");
    }
    let messages = files.keys().filter(|name| name.ends_with(".bin")).count();
    assert!(messages > 20, "raw messages: {messages}");
    let dumps = files.iter().filter(|(name, _)| name.ends_with("-A.txt"));
    assert!(dumps.into_iter().any(|(_, text)| String::from_utf8_lossy(text).contains("ANSWER SECTION")));
    for (name, bytes) in &files {
        let text = String::from_utf8_lossy(bytes);
        assert!(!text.contains("control-1.test"), "an unrelated name in {name}");
    }

    let kept = place.keep();
    let file = kept.join("evidence.json");
    std::fs::write(&file, &files["evidence.json"]).unwrap();
    let replayed = json(&ukai(&["explain", "--from", file.to_str().unwrap(), "--json"]));
    let by_incident = json(&ukai(&["explain", "--incident", "inc-1", "--data-dir", data, "--json"]));
    let log = ukai(&["log", "export", "--data-dir", data]);
    let diagnosed: Vec<Value> = lines(&log).into_iter().filter(|line| line["event"] == "diagnosed").collect();
    let last = &diagnosed.last().unwrap()["verdict"];
    assert_eq!(by_incident["verdict"], *last, "to the word, where nothing was taken out");
    let handed_over = said(&replayed["verdict"]);
    assert!(diagnosed.iter().any(|event| said(&event["verdict"]) == handed_over), "{handed_over:?}");
    assert_eq!(written["verdict"], "suspect_hijack (proven)");

    let why = ukai(&["explain", "--incident", "inc-1", "--data-dir", data, "--why-not", "peer_down"]);
    let why = String::from_utf8_lossy(&why.stdout).into_owned();
    assert!(why.contains("suspect_hijack was given"), "{why}");
    let typo = ukai(&["explain", "--incident", "inc-1", "--data-dir", data, "--why-not", "peer_donw"]);
    assert_eq!(typo.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&typo.stderr).contains("did you mean \"peer_down\""), "{typo:?}");
    std::fs::remove_dir_all(kept).unwrap();
}

/// Every diagnosis of a whole outage, also the one over our own detour, is derived again from what the log holds of it.
#[test]
fn every_diagnosis_of_an_outage_is_derived_again_to_the_word() {
    let place = Place::new();
    let drilled = place.drill(&["S24b", "--keep", "--json"]);
    let outcome = outcome(&lines(&drilled));
    assert_eq!(outcome["passed"], true, "{outcome:#}");
    let kept = Path::new(outcome["directory"].as_str().unwrap()).to_owned();
    let log = lines(&ukai(&["log", "export", "--data-dir", kept.join("data").to_str().unwrap()]));
    let file = kept.join("saved.json");
    let (mut derived, mut standing, mut with_calls) = (0, 0, 0);
    for diagnosed in log.iter().filter(|event| event["event"] == "diagnosed" && event["known"].is_object()) {
        let is_its =
            |event: &&Value| event["event"] == "evidence_gathered" && event["gathering"] == diagnosed["gathering"];
        let evidence = &log.iter().find(is_its).unwrap()["evidence"];
        let saved = json!({ "version": 2, "known": diagnosed["known"], "evidence": evidence });
        std::fs::write(&file, saved.to_string()).unwrap();
        let output = ukai(&["explain", "--from", file.to_str().unwrap(), "--json"]);
        assert_eq!(json(&output)["verdict"], diagnosed["verdict"], "{}", diagnosed["gathering"]);
        derived += 1;
        standing += usize::from(diagnosed["known"]["overridden"].is_object());
        with_calls += usize::from(diagnosed["known"]["application"].as_array().is_some_and(|calls| !calls.is_empty()));
    }
    assert!(
        derived >= 2 && standing > 0 && with_calls > 0,
        "{derived} derived, {standing} over a detour, {with_calls} with calls"
    );
    place.keep();
    std::fs::remove_dir_all(kept).unwrap();
}

/// With the daemon at work and with the daemon dead, and with secrets and other services in its configuration.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_configuration_is_handed_over() {
    const TOKEN: &str = "T0PSECRETPATH";
    let more = format!(
        "[report]\ncontact = \"noc@ours.example\"\n\n[[notify]]\nname = \"hanako-phone\"\nkind = \"slack\"\n\
         url = \"http://127.0.0.1:9/{TOKEN}\"\n\n[[peer]]\nname = \"payments\"\n\
         urls = [\"https://pay.elsewhere.example/\"]\ninterval = \"1s\"\n"
    );
    let mut outage = Outage::stage_with(&more).await;
    outage.break_it().await;
    let incident = outage.place.wait_for("override_proposed")["incident"].as_str().unwrap().to_owned();
    let secret = outage.world.secret().to_owned();
    let hand_over = |outage: &Outage, name: &str| {
        let out = outage.place.dir.path().join(name);
        let config = outage.place.config_text();
        let written = ukai(&["evidence", &incident, "--config", &config, "--out", out.to_str().unwrap(), "--json"]);
        assert!(written.status.success(), "{}", String::from_utf8_lossy(&written.stderr));
        let mut files = unpacked(&out);
        for (name, bytes) in &files {
            let text = String::from_utf8_lossy(bytes);
            for planted in [TOKEN, &secret, "hanako", "payments", "pay.elsewhere", "control-1.test"] {
                assert!(!text.contains(planted), "{planted} in {name}");
            }
        }
        let page = String::from_utf8(files.remove("summary.ja.md").unwrap()).unwrap();
        assert!(page.contains("noc@ours.example") && page.contains("stale_resolver"), "{page}");
        json(&written)["verdict"].clone()
    };
    let alive = hand_over(&outage, "alive.tar.gz");
    outage.place.kill();
    assert_eq!(hand_over(&outage, "dead.tar.gz"), alive);
}

#[test]
fn the_rules_are_listed_in_their_order() {
    let rules = json(&ukai(&["explain", "--rules", "--json"]));
    let codes: Vec<&str> = rules.as_array().unwrap().iter().map(|rule| rule["code"].as_str().unwrap()).collect();
    assert_eq!(codes.first(), Some(&"clock_skew"));
    assert_eq!(codes.last(), Some(&"peer_down"));
    assert!(codes.len() >= 39);
}

#[test]
fn the_page_of_diagnoses_lists_the_rules_as_they_are() {
    let page = include_str!("../../../../docs/reference/diagnosis.md");
    let rules = json(&ukai(&["explain", "--rules", "--json"]));
    for (number, rule) in (1..).zip(rules.as_array().unwrap()) {
        let (code, looks_for) = (rule["code"].as_str().unwrap(), rule["looks_for"].as_str().unwrap());
        assert!(page.contains(&format!("| {number} | `{code}` | {looks_for} |")), "{number} {code}");
    }
}
