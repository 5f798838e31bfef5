//! `check` and `explain`: looking without a daemon.

use std::fs;
use std::net::UdpSocket;

use crate::outage::Outage;
use crate::place::{Place, closed, json, path, refusal, run, ukai};

#[test]
fn a_refused_connection_is_told_address_by_address() {
    let port = closed().port();
    let url = format!("https://api.peer.test:{port}/");
    let output = run(&["check", &url, "--address", "127.0.0.1", "--address", "127.0.0.2", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let checked = json(&output);
    assert_eq!(checked["healthy"], false);
    let results = checked["observation"]["results"].as_array().unwrap();
    assert_eq!(results.len(), 2);
    for result in results {
        assert_eq!(result["failure"]["stage"], "connect");
        assert_eq!(result["failure"]["class"], "refused");
    }
    let human = run(&["check", &url, "--address", "127.0.0.1"]);
    let text = String::from_utf8(human.stdout).unwrap();
    assert!(text.contains("connect: refused") && !text.contains('\u{1b}'), "{text}");
}

#[test]
fn a_resolver_without_an_answer_is_a_failed_resolution() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let resolver = silent.local_addr().unwrap().to_string();
    let output = run(&["check", "https://api.peer.test/", "--resolver", &resolver, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let resolution = &json(&output)["observation"]["resolution"];
    assert_eq!(resolution["failure"]["stage"], "resolve");
    assert_eq!(resolution["failure"]["class"], "timeout");
}

#[test]
fn an_address_that_is_not_public_is_recorded_and_not_contacted() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("https://localhost:{}/", listener.local_addr().unwrap().port());
    let output = run(&["check", &url, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json(&output)["observation"]["results"][0]["failure"]["class"], "not_allowed");
    assert!(listener.accept().is_err(), "nobody may have connected");
}

#[test]
fn what_nobody_answers_is_on_record_and_derives_the_same_verdict_again() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap();
    let place = Place::with_config("");
    let kept = path(place.dir.path(), "evidence.json");
    let arguments = [
        "explain",
        "api.peer.test",
        "--config",
        &place.config_text(),
        "--resolver",
        &silent.to_string(),
        "--save",
        &kept,
        "--json",
    ];
    let output = run(&arguments);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let explained = json(&output);
    let asked = explained["evidence"]["asked"].as_array().unwrap();
    let of = |source: &str| asked.iter().filter(|asked| asked["source"] == source).collect::<Vec<_>>();
    let ours = of("our_resolver");
    assert!(ours.len() >= 6, "asked at the start by UDP and TCP, again, and at the end: {}", ours.len());
    assert!(ours.iter().any(|asked| asked["outcome"]["silent"]["why"] == "timeout"));
    assert!(of("independent").iter().all(|asked| asked["outcome"]["silent"]["why"] == "refused"));
    assert!(explained["evidence"]["delegation"]["problems"].as_array().is_some_and(|problems| !problems.is_empty()));

    let again = json(&run(&["explain", "--from", &kept, "--json"]));
    assert_eq!(again["verdict"], explained["verdict"]);
    assert!(run(&["explain", "--from", &kept]).stdout.windows(7).any(|window| window == b"Verdict"));
    fs::write(&kept, "{}").unwrap();
    assert_eq!(run(&["explain", "--from", &kept]).status.code(), Some(2));
}

/// As `| head` leaves it: the reader is gone before the first word.
#[test]
fn nobody_reading_is_no_error() {
    let place = Place::new();
    for arguments in [
        vec!["config", "schema"],
        vec!["config", "reference"],
        vec!["init", "https://api.peer.test/", "-o", "-"],
        vec!["completions", "bash"],
        vec!["drill", "--list"],
        vec!["drill", "--list", "--json"],
        vec!["--help"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = ukai().args(&arguments).current_dir(place.dir.path()).stdout(writer).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn nobody_listening_reads_otherwise_than_a_server_that_refuses() {
    let place = Place::with_config("");
    let output = run(&["explain", "api.peer.test", "--config", &place.config_text()]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("nothing listens there (connection refused)"), "{text}");
    let (first, tables) = text.split_once("Who answers what").unwrap();
    assert!(first.lines().count() >= 2 && first.contains("action"), "the verdict comes first: {first}");
    assert!(tables.contains("Verdict"), "{text}");
    let mut useless = tables.lines().skip_while(|line| !line.trim_start().starts_with("useless"));
    if let (Some(_), Some(next)) = (useless.next(), useless.next()) {
        assert!(!next.trim_start().starts_with("effect:"), "{text}");
    }
}

/// Nothing has failed yet: the lab's world before its fault.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_well_reads_as_well() {
    let outage = Outage::stage().await;
    let host = outage.place.status()["peers"][0]["host"].as_str().unwrap().to_owned();
    let output = ukai()
        .args(["explain", &host, "--config", &outage.place.config_text()])
        .envs(outage.place.environment.iter().cloned())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.matches("nothing is wrong: ").count(), 2, "first and last: {text}");
    assert!(!text.contains("open (open)") && !text.contains("Options"), "{text}");
}

#[test]
fn what_is_no_network_or_no_certificate_is_told() {
    let url = format!("https://{}/", closed());
    let (code, said) = refusal(&["check", &url, "--allow", "127.0.0.0/33"]);
    assert_eq!(code, 2);
    assert!(said.contains("0 to 32"), "{said}");
    let place = Place::new();
    let empty = path(place.dir.path(), "empty.pem");
    fs::write(&empty, "").unwrap();
    let (code, said) = refusal(&["check", &url, "--ca", &empty]);
    assert_eq!(code, 2);
    assert!(said.contains("empty.pem") && said.contains("no certificate"), "{said}");
}

#[test]
fn completions_know_every_command() {
    let output = run(&["completions", "bash"]);
    let text = String::from_utf8(output.stdout).unwrap();
    for command in ["check", "explain", "approve", "drill"] {
        assert!(text.contains(command), "{command}");
    }
}
