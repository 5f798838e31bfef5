use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use ukai_core::alarm::AlarmState;
use ukai_core::diagnose::evidence::{
    Answer, ApplicationCall, Asked, Canary, Candidate, ControlResult, Delegation, Evidence, ExtendedError, Outcome,
    Proof, Purpose, Rcode, Silence, Source,
};
use ukai_core::diagnose::verdict::{Action, Choice, Code, Judgement, Party, Sure, Verdict};
use ukai_core::event::{Actor, Event, Notification, NotificationKind, Recorded};
use ukai_core::observe::{
    AddressResult, ErrorClass, Failure, HttpFacts, Observation, Path, Resolution, Stage, Timings,
};
use ukai_core::overrides::EndReason;
use ukai_core::peer::{Level, Mode};
use ukai_core::plan::{Anchors, Plan, Refusal};

use super::model::{NOT_OBSERVED, Report};
use super::{render_html, render_markdown, write};

#[test]
fn markdown_tells_the_whole_incident() {
    let report = Report::fold(&stale_resolver("ns-1.peer.test"), &samples(), "I-1").unwrap();
    insta::assert_snapshot!(render_markdown(&report));
}

#[test]
fn html_tells_the_whole_incident() {
    let report = Report::fold(&stale_resolver("ns-1.peer.test"), &samples(), "I-1").unwrap();
    insta::assert_snapshot!(render_html(&report).replace(include_str!("page.css"), "(style)\n"));
}

#[test]
fn the_same_log_gives_the_same_files() {
    let directory = tempfile::tempdir().unwrap();
    let records = stale_resolver("ns-1.peer.test");
    let paths = write(&records, &samples(), "I-1", directory.path()).unwrap();
    let first: Vec<String> = paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let names: Vec<_> = paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["I-1.md", "I-1.html", "I-1.json"]);
    write(&records, &samples(), "I-1", directory.path()).unwrap();
    let second: Vec<String> = paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    assert_eq!(first, second);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 3);
    let json: serde_json::Value = serde_json::from_str(&first[2]).unwrap();
    assert_eq!(json["finding"]["verdict"]["code"], "stale_resolver");
    assert_eq!(json["figures"][0]["ms"], 1200);
}

#[test]
fn what_was_not_seen_is_not_guessed() {
    let opening: Vec<Recorded> = stale_resolver("ns-1.peer.test")
        .into_iter()
        .filter(|record| matches!(record.event, Event::IncidentOpened { .. } | Event::PeerWatched { .. }))
        .collect();
    let report = Report::fold(&opening, &[], "I-1").unwrap();
    let texts: Vec<&str> = report.figures.iter().map(|figure| figure.text.as_str()).collect();
    assert_eq!(texts, ["1.2 s", NOT_OBSERVED, NOT_OBSERVED, NOT_OBSERVED, NOT_OBSERVED]);
    assert_eq!(report.closed, None);
    assert!(render_html(&report).contains("<h2>Latency per stage</h2>\n<p>not observed</p>"));
    assert!(render_markdown(&report).contains("the application did not report its calls"));
}

#[test]
fn another_incident_is_not_mixed_in() {
    let mut records = stale_resolver("ns-1.peer.test");
    let other = |event| Recorded { at: at(9_000), event };
    records.push(other(Event::Diagnosed {
        gathering: "g-9".into(),
        peer: "other".into(),
        incident: Some("I-2".into()),
        verdict: Box::new(verdict(Code::PeerDown, Action::None)),
        known: None,
    }));
    records.push(other(Event::OverrideEnded { id: "O-9".into(), reason: EndReason::Expired }));
    let before = Report::fold(&stale_resolver("ns-1.peer.test"), &[], "I-1").unwrap();
    assert_eq!(Report::fold(&records, &[], "I-1").unwrap(), before);
    assert_eq!(Report::fold(&records, &[], "I-2"), None);
}

#[test]
fn nothing_that_a_peer_says_becomes_markup() {
    let hostile = "<script>alert(1)</script>|`[x](https://evil.test)\u{1b}[31m\n# owned";
    let report = Report::fold(&stale_resolver(hostile), &samples(), "I-1").unwrap();
    let html = render_html(&report);
    assert!(!html.contains("<script"), "a script element came through");
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(!html.contains('\u{1b}'));
    let markdown = render_markdown(&report);
    assert!(!markdown.contains('\u{1b}'));
    assert!(!markdown.contains("\n# owned"));
    // Within a code span everything stands for itself, and no backtick of a peer ends one.
    let running: String = markdown.replace("\\`", "").split('`').step_by(2).collect();
    assert!(!running.contains("[x](https://"));
    assert!(!running.contains("<script>"));
    let bars = |line: &str| line.replace("\\|", "").matches('|').count();
    let matrix: Vec<&str> = markdown.lines().filter(|line| line.starts_with("| authority")).collect();
    assert!(!matrix.is_empty());
    assert!(matrix.iter().all(|line| bars(line) == 9), "a cell broke its row: {matrix:?}");
}

#[test]
fn an_id_cannot_leave_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let id = "../../etc/I-1";
    let records: Vec<Recorded> = stale_resolver("x")
        .into_iter()
        .filter_map(|mut record| match &mut record.event {
            Event::IncidentOpened { incident, .. } => {
                *incident = id.to_owned();
                Some(record)
            }
            _ => None,
        })
        .collect();
    let paths = write(&records, &[], id, directory.path()).unwrap();
    assert!(paths.iter().all(|path| path.parent() == Some(directory.path())), "{paths:?}");
}

/// The seed story: a resolver stays with the old address. `server` stands wherever a peer can put words.
fn stale_resolver(server: &str) -> Vec<Recorded> {
    let person = Actor { uid: Some(1000), name: "alice".into(), via: "cli".into() };
    let policy = Actor { uid: None, name: "ukai".into(), via: "policy".into() };
    let id = || "O-1".to_owned();
    let call = |ms, ok| ApplicationCall {
        at: at(ms),
        ok,
        address: Some(address(if ok { 2 } else { 1 })),
        error: (!ok).then(|| format!("connect timed out ({server})")),
    };
    let notification = |key: &str, kind, page, subject: &str| Event::NotificationQueued {
        notification: Notification {
            key: key.into(),
            incident: Some("I-1".into()),
            peer: "api".into(),
            kind,
            page,
            subject: subject.into(),
            text: "…".into(),
            alarm: None,
        },
        subscribers: vec!["drill".into()],
    };
    let events = vec![
        (-60_000, Event::Started { version: "0.1.0".into() }),
        (-60_000, Event::PeerWatched { peer: "api".into(), host: "api.peer.test".into(), level: Level::Approve }),
        (
            1_200,
            Event::AlarmChanged {
                alarm: "api-burst".into(),
                peer: "api".into(),
                before: AlarmState::Ok,
                after: AlarmState::Alarm,
                reason: "3 of 3 probes failed".into(),
                reason_data: None,
                by: None,
            },
        ),
        (
            1_200,
            Event::IncidentOpened {
                incident: "I-1".into(),
                peer: "api".into(),
                alarm: "api-burst".into(),
                stage: Stage::Connect,
                class: ErrorClass::Timeout,
                summary: "connect to 192.0.2.1 timed out".into(),
                worthy: true,
                page: true,
                rests_on: vec![],
                failing_since: at(0),
            },
        ),
        (1_200, notification("n-1", NotificationKind::Opened, true, "api.peer.test fails in the connect stage")),
        (1_400, Event::NotificationDelivered { key: "n-1".into(), subscriber: "drill".into(), attempts: 1 }),
        (
            3_000,
            Event::EvidenceGathered {
                gathering: "g-1".into(),
                peer: "api".into(),
                incident: Some("I-1".into()),
                evidence: Box::new(evidence(server)),
                application: vec![call(500, false), call(1_000, false)],
            },
        ),
        (
            3_100,
            Event::Diagnosed {
                gathering: "g-1".into(),
                peer: "api".into(),
                incident: Some("I-1".into()),
                verdict: Box::new(verdict(Code::StaleResolver, Action::Override)),
                known: None,
            },
        ),
        (
            3_150,
            Event::OverrideRefused {
                incident: "I-1".into(),
                peer: "api".into(),
                refusals: vec![Refusal { guard: "lasting".into(), reason: "failing for less than 3 s".into() }],
            },
        ),
        (
            3_200,
            Event::OverrideProposed {
                id: id(),
                incident: "I-1".into(),
                plan: Box::new(plan()),
                hash: plan().hash(),
                level: Level::Approve,
            },
        ),
        (4_200, Event::OverrideApproved { id: id(), hash: plan().hash(), by: person, why: "drill".into() }),
        (
            4_300,
            Event::ApplyStarted {
                id: id(),
                generation: 1,
                addresses: BTreeSet::from([address(2)]),
                expires_at: at(904_300),
            },
        ),
        (4_350, Event::Applied { id: id(), generation: 1 }),
        (4_600, Event::OverrideServed { id: id(), generation: 1, proof: "3 of 3 probes".into() }),
        (5_100, Event::OverrideConfirmed { id: id(), call: call(5_000, true) }),
        (30_000, Event::NormalPathProved { id: id(), times: 6 }),
        (
            30_100,
            Event::WithdrawStarted {
                id: id(),
                reason: EndReason::Reverted,
                by: policy,
                why: "the normal path is right".into(),
            },
        ),
        (30_200, Event::OverrideEnded { id: id(), reason: EndReason::Reverted }),
        (31_000, Event::IncidentClosed { incident: "I-1".into(), reason: "healthy, no override left".into() }),
        (31_000, notification("n-2", NotificationKind::Closed, false, "api.peer.test is healthy again")),
        (
            31_500,
            Event::NotificationFailed {
                key: "n-2".into(),
                subscriber: "drill".into(),
                attempts: 4,
                detail: "410 Gone".into(),
                retried: false,
            },
        ),
    ];
    events.into_iter().map(|(ms, event)| Recorded { at: at(ms), event }).collect()
}

fn evidence(server: &str) -> Evidence {
    let asked = |source, who: &str, transport: &str, outcome| Asked {
        source,
        server: who.into(),
        identity: who.into(),
        transport: transport.into(),
        record_type: "A".into(),
        checking_disabled: false,
        subnet: None,
        at: at(1_500),
        outcome,
        wire: None,
    };
    let answered = |last, ttl, text: &str| {
        Outcome::Answered(Answer {
            rcode: Rcode::Noerror,
            authoritative: text.is_empty(),
            recursion_available: !text.is_empty(),
            authentic_data: false,
            truncated: false,
            addresses: vec![address(last)],
            records: 1,
            chain: vec![],
            ttl: Some(ttl),
            soa: None,
            extended_errors: (!text.is_empty())
                .then(|| ExtendedError { code: 3, text: text.to_owned() })
                .into_iter()
                .collect(),
            nsid: None,
            elapsed_us: 1_900,
        })
    };
    Evidence {
        peer: "api".into(),
        host: "api.peer.test".into(),
        purpose: Purpose::Diagnose,
        started_at: at(1_300),
        finished_at: at(2_900),
        endpoints: vec!["https://api.peer.test/health".into()],
        asked: vec![
            asked(Source::Authority, server, "tcp", answered(2, 2, "")),
            asked(Source::OurResolver, "udp://192.0.2.53:53", "udp", answered(1, 2, server)),
            asked(Source::Authority, server, "udp", Outcome::Silent { why: Silence::Timeout, detail: server.into() }),
        ],
        delegation: Some(Delegation {
            zone: "peer.test".into(),
            parent_ns: BTreeSet::from([server.to_owned()]),
            child_ns: BTreeSet::from([server.to_owned()]),
            servers: vec![server.into()],
            parent_rcode: None,
            problems: vec![],
        }),
        canary: Canary::Clean,
        candidates: vec![
            candidate(2, Source::Authority, None),
            candidate(1, Source::OurResolver, Some(failure(server))),
        ],
        controls: vec![ControlResult {
            address_tried: true,
            control: "https://control-1.test/".into(),
            name_failure: None,
            address_failure: None,
            issuer: Some("CN=Web CA".into()),
            dates_failure: false,
            clock_offset_s: Some(0),
            tls_verified: true,
            failed_at: None,
            v6: None,
        }],
        ..Evidence::about("api", "api.peer.test", Purpose::Diagnose, at(1_300))
    }
}

fn candidate(last: u8, source: Source, failure: Option<Failure>) -> Candidate {
    let result = AddressResult {
        address: address(last),
        port: 443,
        timings: Timings::default(),
        identity: None,
        http: failure.is_none().then(|| HttpFacts { status: 200, ..HttpFacts::default() }),
        stalled_after: None,
        failure,
    };
    let proof = Proof { endpoint: "https://api.peer.test/health".into(), result };
    Candidate {
        address: address(last),
        learned_from: BTreeSet::from([source]),
        by_operator: false,
        proofs: vec![proof.clone(), proof],
    }
}

fn failure(detail: &str) -> Failure {
    Failure { stage: Stage::Connect, class: ErrorClass::Timeout, detail: detail.into() }
}

fn verdict(code: Code, action: Action) -> Verdict {
    let choice = |name: &str, judgement, reason: &str| Choice {
        name: name.into(),
        judgement,
        reason: reason.into(),
        effect: "calls go to the new address".into(),
        risk: "the peer may move again".into(),
        time_to_effect: "10 s".into(),
        reversible: true,
    };
    Verdict {
        code,
        sure: Sure::Proven,
        action,
        party: Party::OurResolver,
        summary: "Our resolver still answers 192.0.2.1; the peer moved to 192.0.2.2.".into(),
        evidence_for: vec!["All 3 authoritative servers answer 192.0.2.2.".into()],
        evidence_against: vec![],
        eliminated: vec!["own_egress: 3 of 3 controls pass.".into()],
        would_change: vec!["An authoritative server that answers 192.0.2.1.".into()],
        options: vec![
            choice("override", Judgement::Recommended, "The new address proves itself."),
            choice("wait", Judgement::Useless, "The TTL does not fall."),
        ],
        page: true,
    }
}

fn plan() -> Plan {
    Plan {
        peer: "api".into(),
        incident: "I-1".into(),
        host: "api.peer.test".into(),
        mode: Mode::Follow,
        addresses: BTreeSet::from([address(2)]),
        ttl_s: 10,
        lease_s: 900,
        sources: BTreeSet::from(["ns-1.peer.test".into()]),
        delegation: BTreeSet::from(["ns-1.peer.test".into()]),
        anchors: Anchors::default(),
        revert_after: 6,
        approvals: 1,
        existing: "nothing".into(),
        types: "A and AAAA are answered, HTTPS and SVCB are empty, others are forwarded".into(),
        inverse: "remove override O-1".into(),
        shown: vec![],
        mind: vec![],
        verdict: "stale_resolver (proven)".into(),
    }
}

fn samples() -> Vec<Observation> {
    (0..40)
        .map(|n| {
            let broken = (10..16).contains(&n);
            let result = AddressResult {
                address: address(if n < 16 { 1 } else { 2 }),
                port: 443,
                timings: Timings {
                    resolve_us: None,
                    connect_us: Some(if broken { 3_000_000 } else { 400 + n }),
                    tls_us: (!broken).then_some(2_100),
                    processing_us: (!broken).then_some(900),
                    transfer_us: (!broken).then_some(120),
                },
                identity: None,
                http: None,
                stalled_after: None,
                failure: broken.then(|| failure("connect timed out")),
            };
            Observation {
                peer: "api".into(),
                endpoint: "https://api.peer.test/health".into(),
                path: Path::Normal,
                started_at: at(i64::try_from(n).unwrap() * 1_000 - 10_000),
                resolution: Resolution { elapsed_us: 300, ..Resolution::default() },
                results: vec![result],
            }
        })
        .collect()
}

fn at(ms: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_767_225_600) + SignedDuration::from_millis(ms)
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}
