//! An archive of an outage, with secrets and names planted wherever they could be.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use ukai_core::alarm::AlarmState;
use ukai_core::diagnose::evidence::*;
use ukai_core::diagnose::known::Known;
use ukai_core::event::{Actor, Event, Notification, NotificationKind, Recorded};
use ukai_core::observe::*;
use ukai_core::peer::Level;

use super::contents::{Contents, Sender};
use super::*;
use crate::config::Config;

const SECRET: &str = "s3cr3t-token-of-ours";
const CONTROL: &str = "https://intranet.unrelated.example/";
const PERSON: &str = "hanako";
const VANTAGE: &str = "warehouse-kobe";
const SEARCH: &str = "corp.unrelated.example";
const OTHER: &str = "payments";
const OTHER_HOST: &str = "pay.elsewhere.example";
const RESOLVER: &str = "10.20.30.40";
const CONTACT: &str = "Network team <noc@ours.example>";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn known() -> Known {
    let text =
        "allow_addresses = [\"172.16.99.0/24\"]\n[[peer]]\nname = \"api\"\nurls = [\"https://api.peer.test/health\"]\n";
    let settings = Config::parse(text, Path::new("ukai.toml")).unwrap().settings();
    let mut known = Known::of(settings.peers["api"].clone(), settings.allow_addresses);
    known.history.controls = BTreeSet::from([CONTROL.to_owned()]);
    known.history.control_issuers = BTreeSet::from([format!("{CONTROL} CN=Web CA")]);
    let error = Some(format!("GET https://api.peer.test/?key={SECRET} failed for {PERSON}"));
    known.application = vec![ApplicationCall { at: at(1), ok: false, address: None, error }];
    known
}

/// An answer of our resolver: SERVFAIL, with an NSID that names our network.
fn wire() -> Vec<u8> {
    let mut bytes = vec![0, 7, 0x81, 0x82, 0, 1, 0, 0, 0, 0, 0, 1];
    bytes.extend(b"\x03api\x04peer\x04test\x00\x00\x01\x00\x01");
    let nsid = format!("ns1.{SEARCH}");
    bytes.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, u8::try_from(nsid.len()).unwrap() + 4, 0, 3, 0]);
    bytes.push(u8::try_from(nsid.len()).unwrap());
    bytes.extend(nsid.as_bytes());
    bytes
}

fn asked(source: Source, server: &str, outcome: Outcome, wire: Option<Vec<u8>>) -> Asked {
    Asked {
        source,
        server: server.into(),
        identity: server.into(),
        transport: "udp".into(),
        record_type: "A".into(),
        checking_disabled: false,
        subnet: None,
        at: at(1),
        outcome,
        wire: wire.map(|wire| STANDARD.encode(wire)),
    }
}

fn answer(rcode: Rcode, addresses: &[&str]) -> Answer {
    Answer {
        rcode,
        authoritative: false,
        recursion_available: true,
        authentic_data: false,
        truncated: false,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        records: addresses.len(),
        chain: Vec::new(),
        ttl: Some(60),
        soa: None,
        extended_errors: Vec::new(),
        nsid: None,
        elapsed_us: 900,
    }
}

fn questions() -> Vec<Asked> {
    let nsid = Some(format!("ns1.{SEARCH}"));
    let error = ExtendedError { code: 22, text: format!("forwarder dns2.{SEARCH} is silent") };
    let failing = Answer { nsid, extended_errors: vec![error], ..answer(Rcode::Servfail, &[]) };
    let mut whole = vec![0, 7, 0x84, 0, 0, 1, 0, 1, 0, 0, 0, 0];
    whole.extend(b"\x03api\x04peer\x04test\x00\x00\x01\x00\x01");
    whole.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 100, 1]);
    let good = Answer { authoritative: true, ..answer(Rcode::Noerror, &["192.0.100.1"]) };
    let silent = Outcome::Silent { why: Silence::Timeout, detail: format!("{RESOLVER}:53 is silent") };
    let resolver = format!("udp://{RESOLVER}:53");
    vec![
        asked(Source::OurResolver, &resolver, Outcome::Answered(failing), Some(wire())),
        asked(Source::OurResolver, &resolver, silent, None),
        asked(Source::Authority, "ns-1.peer.test (192.0.100.53)", Outcome::Answered(good), Some(whole)),
    ]
}

/// A redirect to a login page, with a token in its query.
fn evidence() -> Evidence {
    let address = "192.0.100.1".parse().unwrap();
    let location = format!("https://{PERSON}:{SECRET}@login.peer.test/in?session={SECRET}");
    let detail = format!("it answers 302; it redirects to {location}, which is not followed");
    let failure = Failure { stage: Stage::Processing, class: ErrorClass::HttpStatus, detail };
    let http = HttpFacts {
        status: 302,
        location: Some(format!("/in?session={SECRET}")),
        proxy: Some(format!("1.1 squid.{SEARCH}")),
        ..HttpFacts::default()
    };
    let identity = Identity {
        key_sha256: "aa".repeat(32),
        certificate_sha256: "bb".repeat(32),
        issuer: "CN=Web CA".into(),
        names: vec!["api.peer.test".into()],
        names_total: 1,
        not_before: at(-1000),
        not_after: at(1000),
        chain_length: 2,
        version: Some("TLSv1.3".into()),
        alpn: None,
        verified: true,
    };
    let result = AddressResult {
        http: Some(http),
        failure: Some(failure),
        identity: Some(identity),
        ..AddressResult::untried(address, 443)
    };
    let control = ControlResult {
        address_tried: true,
        address_failure: Some(format!("{CONTROL} timed out")),
        name_failure: Some("intranet.UNRELATED.example: SERVFAIL".to_owned()),
        ..ControlResult::of(CONTROL.to_owned())
    };
    let resolution = Resolution {
        resolver: format!("udp://{RESOLVER}:53"),
        addresses: vec![address],
        addresses_total: 1,
        ..Resolution::default()
    };
    let observation = Observation {
        peer: "api".into(),
        endpoint: "https://api.peer.test/health".into(),
        path: ukai_core::observe::Path::Bypass,
        started_at: at(1),
        resolution,
        results: vec![result.clone()],
    };
    let view = VantageView {
        vantage: VANTAGE.into(),
        silence: Some(format!("{VANTAGE} did not answer")),
        resolved: BTreeSet::from([address]),
        results: vec![Proof { endpoint: "https://api.peer.test/health".into(), result }],
    };
    let own = OwnNetwork {
        search: vec![SEARCH.to_owned()],
        name_servers: vec![RESOLVER.to_owned(), "127.0.0.53".to_owned()],
        ..OwnNetwork::default()
    };
    Evidence {
        endpoints: vec!["https://api.peer.test/health".into()],
        asked: questions(),
        observations: vec![observation],
        controls: vec![control.clone(), control],
        vantages: vec![view],
        own,
        ..Evidence::about("api", "api.peer.test", Purpose::Diagnose, at(1))
    }
}

fn records() -> Vec<Recorded> {
    let by = Actor { uid: Some(1042), name: PERSON.into(), via: "cli".into() };
    let why = || format!("{SECRET} was mentioned by {PERSON} of {OTHER}");
    let verdict = Saved::new(known(), evidence(), None).judge();
    let watched =
        |peer: &str, host: &str| Event::PeerWatched { peer: peer.into(), host: host.into(), level: Level::Approve };
    let notification = Notification {
        key: "n-1".into(),
        incident: Some("inc-1".into()),
        peer: "api".into(),
        kind: NotificationKind::Opened,
        page: true,
        subject: why(),
        text: why(),
        alarm: None,
    };
    let events = vec![
        watched("api", "api.peer.test"),
        watched(OTHER, OTHER_HOST),
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
        Event::NotificationQueued { notification, subscribers: vec![PERSON.into()] },
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
        Event::IncidentPaged { incident: "inc-1".into(), reason: format!("api fails: {}", why()) },
        Event::PageSuppressed { incident: "inc-1".into(), by: format!("{OTHER}/errors") },
        Event::AlarmChanged {
            alarm: "api/errors".into(),
            peer: "api".into(),
            before: AlarmState::Ok,
            after: AlarmState::Alarm,
            reason: why(),
            reason_data: None,
            by: Some(by.clone()),
        },
        Event::Troubled { what: why() },
        Event::Frozen { by, why: why() },
        Event::IncidentClosed {
            incident: "inc-1".into(),
            reason: format!("{PERSON} looked at {OTHER_HOST} and {OTHER}"),
        },
    ];
    (1..).zip(events).map(|(second, event)| Recorded { at: at(second), event }).collect()
}

fn contents() -> Contents {
    let sender = Sender { vantage: Some("tokyo-1".into()), contact: Some(CONTACT.into()), shows_resolvers: false };
    contents::of(&records(), "inc-1", &sender).unwrap()
}

fn text(contents: &Contents, wanted: &str) -> String {
    let (_, bytes) = contents.entries.iter().find(|(name, _)| name == wanted).unwrap_or_else(|| panic!("no {wanted}"));
    String::from_utf8(bytes.clone()).unwrap()
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
    let contents = contents();
    let planted =
        [SECRET, PERSON, VANTAGE, SEARCH, "unrelated.example", "1042", OTHER, OTHER_HOST, RESOLVER, "172.16.99"];
    for (name, bytes) in &contents.entries {
        let text = format!("{name}\n{}", String::from_utf8_lossy(bytes)).to_lowercase();
        for planted in planted {
            assert!(!text.contains(planted), "{planted} in {name}:\n{text}");
        }
        // Not behind an encoding either.
        for word in text.split('"').filter(|word| word.len() > 40) {
            let decoded = STANDARD.decode(word).unwrap_or_default();
            assert!(!String::from_utf8_lossy(&decoded).contains(SEARCH), "{word} in {name}");
        }
    }
    let list = text(&contents, "redacted.txt");
    for what in [
        "sites that are probed",
        "people who decided",
        "names of our other networks",
        "search domains",
        "our application wrote",
        "hosts of other services",
        "other services that are watched",
        "private addresses of our own resolvers",
        "messages from the wire",
        "reasons that people gave",
        "networks of ours",
    ] {
        assert!(list.contains(what), "{what}: {list}");
    }
}

#[test]
fn what_concerns_the_reader_is_there() {
    let contents = contents();
    let names: Vec<&str> = contents.entries.iter().map(|(name, _)| name.as_str()).collect();
    assert!(names.contains(&"dns/003-authority-ns-1.peer.test__192.0.100.53_-udp-A.bin"), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("our-resolver") && name.ends_with(".bin")), "{names:?}");
    let withheld = text(&contents, "dns/001-our-resolver-private-resolver-1_53-udp-A.txt");
    assert!(withheld.contains("SERVFAIL") && withheld.contains("NSID ns1.search-1"), "{withheld}");
    let dumped = text(&contents, "dns/003-authority-ns-1.peer.test__192.0.100.53_-udp-A.txt");
    assert!(dumped.contains("192.0.100.1") && dumped.contains("HEADER"), "{dumped}");
    assert!(text(&contents, "timeline.txt").contains("UTC  Incident inc-1 was opened"));
    assert!(text(&contents, "timeline.txt").contains("person-1 looked at other-host-1 and service-1"));
    assert!(text(&contents, "probes.txt").contains("192.0.100.1"));
    assert!(text(&contents, "probes/alarm.json").contains("302"));
    assert!(text(&contents, "certificates/01.txt").contains(&"aa".repeat(32)));
    let network: serde_json::Value = serde_json::from_str(&text(&contents, "network.json")).unwrap();
    assert_eq!(network["vantage"], "tokyo-1");
    assert_eq!(network["own"]["name_servers"], serde_json::json!(["private-resolver-1", "127.0.0.53"]));
}

#[test]
fn whoever_runs_our_resolvers_may_be_told_where_they_are() {
    let sender = Sender { shows_resolvers: true, ..Sender::default() };
    let contents = contents::of(&records(), "inc-1", &sender).unwrap();
    assert!(text(&contents, "network.json").contains(RESOLVER));
    assert!(!text(&contents, "redacted.txt").contains("resolvers"));
}

#[test]
fn the_page_in_english_and_in_japanese() {
    let contents = contents();
    let pages = [text(&contents, "summary.en.md"), text(&contents, "summary.ja.md")];
    for page in &pages {
        assert!(page.contains("api.peer.test") && page.contains(CONTACT) && page.contains("2027-01-15"), "{page}");
        assert!(page.lines().count() <= 45, "more than a page:\n{page}");
    }
    insta::assert_snapshot!(pages.join("\n---\n"));
}

#[test]
fn what_leaves_the_house_gives_the_same_verdict_there() {
    let contents = contents();
    let saved = Saved::read(text(&contents, "evidence.json").as_bytes()).unwrap();
    let before = Saved::new(known(), evidence(), None).judge();
    let after = saved.judge();
    assert_eq!((after.code, after.sure, after.action), (before.code, before.sure, before.action));
    assert_eq!(saved.verdict, Some(after));
}

#[test]
fn the_archive_is_whole_private_and_the_same_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, replace: bool| {
        let contents = contents();
        let path = dir.path().join(name);
        archive::write(&path, "ukai-evidence-inc-1", contents.at, contents.entries, replace)?;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::read(path)
    };
    let first = write("a.tar.gz", false).unwrap();
    assert_eq!(first, write("b.tar.gz", false).unwrap());
    let files = unpacked(&first);
    let manifest = String::from_utf8(files["ukai-evidence-inc-1/MANIFEST.txt"].clone()).unwrap();
    assert_eq!(manifest.lines().count(), files.len() - 1, "every file but itself");
    assert!(manifest.lines().is_sorted_by_key(|line| line.split_once("  ").unwrap().1.to_owned()));

    std::fs::write(dir.path().join("b.tar.gz"), "somebody's").unwrap();
    assert_eq!(write("b.tar.gz", false).unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(dir.path().join("b.tar.gz")).unwrap(), b"somebody's");
    assert_eq!(write("b.tar.gz", true).unwrap(), first);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "something unfinished is left");
}

#[test]
fn an_incident_that_is_not_there_or_not_diagnosed_is_said_to_be() {
    let unknown = contents::of(&records(), "inc-9", &Sender::default()).unwrap_err();
    assert!(format!("{unknown:#}").contains("no incident inc-9"));
    let undiagnosed: Vec<Recorded> = records().into_iter().take(3).collect();
    let error = contents::of(&undiagnosed, "inc-1", &Sender::default()).unwrap_err();
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
