//! An archive of an outage, with secrets and names planted wherever they could be.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use jiff::Timestamp;
use ukai_core::diagnose::evidence::*;
use ukai_core::diagnose::known::Known;
use ukai_core::event::{Actor, Event, Recorded};
use ukai_core::observe::*;

use super::*;
use crate::config::Config;

const SECRET: &str = "s3cr3t-token-of-ours";
const CONTROL: &str = "https://intranet.unrelated.example/";
const PERSON: &str = "hanako";
const VANTAGE: &str = "warehouse-kobe";
const SEARCH: &str = "corp.unrelated.example";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn known() -> Known {
    let text = "[[peer]]\nname = \"api\"\nurls = [\"https://api.peer.test/health\"]\n";
    let settings = Config::parse(text, Path::new("ukai.toml")).unwrap().settings();
    let mut known = Known::of(settings.peers["api"].clone(), Vec::new());
    known.history.controls = BTreeSet::from([CONTROL.to_owned()]);
    known.history.control_issuers = BTreeSet::from([format!("{CONTROL} CN=Web CA")]);
    let error = Some(format!("GET https://api.peer.test/?key={SECRET} failed for {PERSON}"));
    known.application = vec![ApplicationCall { at: at(1), ok: false, address: None, error }];
    known
}

/// A redirect to a login page, with a token in its query.
fn evidence() -> Evidence {
    let address = "192.0.100.1".parse().unwrap();
    let location = format!("https://login.peer.test/in?session={SECRET}");
    let detail = format!("it answers 302; it redirects to {location}, which is not followed");
    let failure = Failure { stage: Stage::Processing, class: ErrorClass::HttpStatus, detail };
    let http = HttpFacts { status: 302, location: Some(location), ..HttpFacts::default() };
    let result = AddressResult { http: Some(http), failure: Some(failure), ..AddressResult::untried(address, 443) };
    let control = ControlResult {
        address_tried: true,
        address_failure: Some(format!("{CONTROL} timed out")),
        name_failure: Some("intranet.unrelated.example: SERVFAIL".to_owned()),
        ..ControlResult::of(CONTROL.to_owned())
    };
    let observation = Observation {
        peer: "api".into(),
        endpoint: "https://api.peer.test/health".into(),
        path: ukai_core::observe::Path::Bypass,
        started_at: at(1),
        resolution: Resolution::default(),
        results: vec![result.clone()],
    };
    let view = VantageView {
        vantage: VANTAGE.into(),
        silence: None,
        resolved: BTreeSet::from([address]),
        results: vec![Proof { endpoint: "https://api.peer.test/health".into(), result }],
    };
    let own = OwnNetwork { search: vec![SEARCH.to_owned()], ..OwnNetwork::default() };
    Evidence {
        endpoints: vec!["https://api.peer.test/health".into()],
        observations: vec![observation],
        controls: vec![control.clone(), control],
        vantages: vec![view],
        own,
        ..Evidence::about("api", "api.peer.test", Purpose::Diagnose, at(1))
    }
}

fn records() -> Vec<Recorded> {
    let by = Actor { uid: Some(1042), name: PERSON.into(), via: "cli".into() };
    let verdict = Saved::new(known(), evidence(), None).judge();
    let events = vec![
        Event::IncidentOpened {
            incident: "inc-1".into(),
            peer: "api".into(),
            alarm: "api/reachability".into(),
            stage: Stage::Processing,
            class: ErrorClass::HttpStatus,
            summary: format!("api fails at processing: it redirects to https://login.peer.test/in?session={SECRET}"),
            page: false,
            worthy: true,
            rests_on: evidence().observations,
            failing_since: at(0),
        },
        Event::EvidenceGathered {
            gathering: "g-1".into(),
            peer: "api".into(),
            incident: Some("inc-1".into()),
            evidence: Box::new(evidence()),
            application: Vec::new(),
        },
        Event::Diagnosed {
            gathering: "g-1".into(),
            peer: "api".into(),
            incident: Some("inc-1".into()),
            verdict: Box::new(verdict),
            known: Some(Box::new(known())),
        },
        Event::Frozen { by, why: format!("{SECRET} was mentioned") },
    ];
    (1..).zip(events).map(|(second, event)| Recorded { at: at(second), event }).collect()
}

fn unpacked(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).unwrap();
        (name, bytes)
    });
    entries.collect()
}

#[test]
fn nothing_that_is_secret_or_unrelated_leaves_the_house() {
    let contents = contents::of(&records(), "inc-1").unwrap();
    for (name, bytes) in &contents.entries {
        let text = String::from_utf8_lossy(bytes);
        for planted in [SECRET, PERSON, VANTAGE, SEARCH, "unrelated.example", "uid 1042"] {
            assert!(!text.contains(planted), "{planted} in {name}:\n{text}");
        }
    }
    let list = contents.redacted.join("\n");
    for what in ["sites that are probed", "who decided", "names of our other networks", "search domains", "application"]
    {
        assert!(list.contains(what), "{what}: {list}");
    }
    let text = |wanted: &str| {
        let (_, bytes) = contents.entries.iter().find(|(name, _)| name == wanted).unwrap();
        String::from_utf8(bytes.clone()).unwrap()
    };
    assert!(text("summary.en.md").contains("api.peer.test cannot be used from our network"));
    assert!(text("summary.ja.md").contains("api.peer.test を利用できません"));
    assert!(text("timeline.txt").contains("UTC"));
    assert!(text("probes.txt").contains("192.0.100.1"));
}

#[test]
fn what_leaves_the_house_gives_the_same_verdict_there() {
    let contents = contents::of(&records(), "inc-1").unwrap();
    let (_, bytes) = contents.entries.iter().find(|(name, _)| name == "evidence.json").unwrap();
    let saved = Saved::read(bytes).unwrap();
    let before = Saved::new(known(), evidence(), None).judge();
    let after = saved.judge();
    assert_eq!((after.code, after.sure, after.action), (before.code, before.sure, before.action));
    assert_eq!(saved.verdict, Some(after));
}

#[test]
fn the_archive_is_whole_private_and_the_same_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        let contents = contents::of(&records(), "inc-1").unwrap();
        let path = dir.path().join(name);
        archive::write(&path, "ukai-evidence-inc-1", contents.at, contents.entries).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::read(path).unwrap()
    };
    let first = write("a.tar.gz");
    assert_eq!(first, write("b.tar.gz"));
    let files = unpacked(&first);
    let manifest = String::from_utf8(files["ukai-evidence-inc-1/MANIFEST.txt"].clone()).unwrap();
    assert_eq!(manifest.lines().count(), files.len() - 1, "every file but itself");
}

#[test]
fn an_incident_that_is_not_there_or_not_diagnosed_is_said_to_be() {
    let unknown = contents::of(&records(), "inc-9").unwrap_err();
    assert!(format!("{unknown:#}").contains("no incident inc-9"));
    let undiagnosed: Vec<Recorded> = records().into_iter().take(1).collect();
    let error = contents::of(&undiagnosed, "inc-1").unwrap_err();
    assert!(format!("{error:#}").contains("no diagnosis"), "{error:#}");
}

#[test]
fn evidence_of_before_is_still_read() {
    let (known, evidence) = (known(), evidence());
    let old = serde_json::json!({
        "version": 1, "peer": known.peer, "allow_addresses": known.allow_addresses, "evidence": evidence,
    });
    let saved = Saved::read(&serde_json::to_vec(&old).unwrap()).unwrap();
    assert!(saved.known.history.is_empty());
    assert!(matches!(Saved::read(b"{\"version\":9}"), Err(saved::SavedError::Version(9))));
    assert!(matches!(Saved::read(b"nothing"), Err(saved::SavedError::Unreadable(_))));
}
