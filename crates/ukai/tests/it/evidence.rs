//! The archive of a real outage: what is in it, what is not, and that it leads to the same verdict anywhere.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::drills::{Place, lines, outcome};

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
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("the last are inc-1"), "{unknown:?}");

    let files = unpacked(Path::new(out));
    for name in ["summary.en.md", "summary.ja.md", "timeline.txt", "probes.txt", "certificates.txt", "network.json"] {
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
    assert_eq!(said(&replayed["verdict"]), said(last));
    assert_eq!(by_incident["verdict"], *last, "to the word, where nothing was taken out");

    let why = ukai(&["explain", "--incident", "inc-1", "--data-dir", data, "--why-not", "peer_down"]);
    let why = String::from_utf8_lossy(&why.stdout).into_owned();
    assert!(why.contains("suspect_hijack was given"), "{why}");
    let typo = ukai(&["explain", "--incident", "inc-1", "--data-dir", data, "--why-not", "peer_donw"]);
    assert_eq!(typo.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&typo.stderr).contains("did you mean \"peer_down\""), "{typo:?}");
    std::fs::remove_dir_all(kept).unwrap();
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
