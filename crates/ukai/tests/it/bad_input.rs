//! What is wrong is said, with where and how to mend it, and the exit code tells a script.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::net::{TcpListener, UdpSocket};

use crate::place::{Place, closed, free, path, refusal, run};

const USAGE: i32 = 2;

/// Everything that a refusal must hold.
fn assert_refused(arguments: &[&str], code: i32, parts: &[&str]) {
    let (found, said) = refusal(arguments);
    assert_eq!(found, code, "{arguments:?}: {said}");
    for part in parts {
        assert!(said.contains(part), "{arguments:?} should say {part:?}: {said}");
    }
}

#[test]
fn malformed_urls() {
    for (url, part) in [
        ("nonsense", "scheme"),
        ("ftp://a.test/", "ftp"),
        ("https://", "host"),
        ("tls://a.test", "port"),
        ("https://user:secret@a.test/", "user"),
        ("https://a.test/ b", "spaces"),
    ] {
        assert_refused(&["check", url], USAGE, &[part]);
        assert_refused(&["run", url, "--data-dir", "/nonexistent"], USAGE, &[part]);
    }
    let (_, said) = refusal(&["check", "https://user:secret@a.test/"]);
    assert!(!said.contains("secret"), "{said}");
}

#[test]
fn nothing_to_watch() {
    assert_refused(&["run"], USAGE, &["ukai run https://", "--config"]);
}

#[test]
fn a_key_that_is_not_known_is_named_with_its_place_and_the_nearest() {
    let place = Place::with_config("");
    fs::write(place.config(), "[[peer]]\nurls = [\"https://a.test/\"]\nintervall = \"1s\"\n").unwrap();
    let config = place.config_text();
    for arguments in [vec!["run", "--config", &config], vec!["config", "check", &config]] {
        assert_refused(&arguments, USAGE, &["ukai.toml:3:1", "intervall", "interval"]);
    }
}

#[test]
fn a_configuration_that_is_not_there() {
    assert_refused(&["run", "--config", "/nonexistent/ukai.toml"], USAGE, &["/nonexistent/ukai.toml"]);
    assert_refused(&["status", "--config", "/nonexistent/ukai.toml"], USAGE, &["/nonexistent/ukai.toml"]);
}

#[test]
fn listen_addresses_that_cannot_be() {
    for (listen, part) in [
        ("dns.example:53", "listen"),
        // TEST-NET-1: no host has it, so binding fails before anything is sent.
        ("192.0.2.1:5300", "does not have that address"),
    ] {
        let place = Place::with_config(&format!("[dns]\nlisten = [\"{listen}\"]"));
        assert_refused(&["run", "--config", &place.config_text()], USAGE, &[part]);
    }
}

#[test]
fn a_port_in_use_is_named() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let place = Place::with_config(&format!("[dns]\nlisten = [\"{address}\"]"));
    assert_refused(&["run", "--config", &place.config_text()], USAGE, &["in use", &address.to_string()]);

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let token = place.dir.path().join("token");
    fs::write(&token, "t0ken").unwrap();
    place.configure(&format!("[application]\nlisten = \"{address}\"\ntoken_file = \"token\""));
    assert_refused(&["run", "--config", &place.config_text()], USAGE, &["in use", &address.to_string()]);
}

#[test]
fn a_ca_that_cannot_be_read() {
    let place = Place::with_config("ca = \"missing.pem\"");
    assert_refused(&["run", "--config", &place.config_text()], USAGE, &["missing.pem", "ukai.toml:"]);
    let broken = place.dir.path().join("broken.pem");
    fs::write(&broken, "no certificate").unwrap();
    let (broken, url) = (broken.display().to_string(), format!("https://{}/", closed()));
    assert_refused(&["check", &url, "--ca", "/nonexistent.pem"], USAGE, &["/nonexistent.pem"]);
    assert_refused(&["check", &url, "--ca", &broken], USAGE, &["broken.pem"]);
}

#[test]
fn a_data_directory_that_cannot_be_written() {
    let place = Place::with_config("");
    let text = fs::read_to_string(place.config()).unwrap();
    // Not even root makes a directory there.
    fs::write(place.config(), text.replace("\"data\"", "\"/sys/ukai\"")).unwrap();
    assert_refused(&["run", "--config", &place.config_text()], USAGE, &["/sys/ukai", "data_dir"]);
}

#[test]
fn a_file_is_not_overwritten_by_init() {
    let place = Place::new();
    let file = path(place.dir.path(), "new.toml");
    assert!(run(&["init", "https://api.peer.test/", "--output", &file]).status.success());
    let checked = run(&["config", "check", &file, "--json"]);
    assert!(checked.status.success());
    let told: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(told["peers"].as_array().unwrap().len(), 1, "{told}");
    assert_refused(&["init", "https://api.peer.test/", "--output", &file], USAGE, &["exists", "--output"]);
}

#[test]
fn a_log_that_is_damaged_in_the_middle_is_refused_and_can_be_exported() {
    let mut place = Place::with_config("");
    place.start();
    place.wait_for("started");
    place.signal(rustix::process::Signal::TERM);
    assert_eq!(place.ended(), 0);
    let log = place.data().join("log.sqlite");
    let bytes = fs::read(&log).unwrap();
    let needle = b"peer_watched";
    // SQLite may leave a copy in a page that was split: every one is damaged.
    let places = bytes.windows(needle.len()).enumerate().filter(|(_, window)| window == needle);
    let places: Vec<usize> = places.map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "the event is in the file");
    let mut file = fs::OpenOptions::new().write(true).open(&log).unwrap();
    for at in places {
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.write_all(b"peer_wotched").unwrap();
    }
    drop(file);
    let (code, said) = refusal(&["run", "--config", &place.config_text()]);
    assert_eq!(code, 1, "{said}");
    for part in ["damaged", "ukai log export", "log.sqlite"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let exported = place.ask(&["log", "export"]);
    assert!(String::from_utf8_lossy(&exported.stdout).contains("\"started\""));
}

#[test]
fn nobody_to_talk_to() {
    let place = Place::with_config("");
    for arguments in [vec!["status"], vec!["approve", "ovr-1", "--yes"], vec!["events"], vec!["freeze"]] {
        let output = place.ask(&arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{arguments:?}: {said}");
        assert!(said.contains("ukai run"), "{said}");
    }
}

#[test]
fn with_json_an_error_is_one_object() {
    let place = Place::with_config("");
    let config = place.config_text();
    for (arguments, code, what, mend) in [
        (vec!["status", "--json", "--config", &config], 3, "no ukai daemon listens on ", "start one with `ukai run`"),
        (vec!["status", "--json", "--config", "/nonexistent/ukai.toml"], USAGE, "/nonexistent/ukai.toml", ""),
        (vec!["check", "nonsense", "--json"], USAGE, "scheme", ""),
        (vec!["status", "--json", "--jsn"], USAGE, "unexpected argument '--jsn'", "--json"),
        (vec!["alarms", "show", "--json"], USAGE, "required arguments", "Usage: "),
    ] {
        let (found, said) = refusal(&arguments);
        let told: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        let error = &told["error"];
        assert_eq!((found, error["exit_code"].as_i64()), (code, Some(code.into())), "{arguments:?}: {said}");
        assert!(error["what"].as_str().unwrap().contains(what), "{arguments:?}: {said}");
        assert!(error["mend"].as_str().unwrap_or_default().contains(mend), "{arguments:?}: {said}");
    }
    let help = run(&["status", "--json", "--help"]);
    assert!(help.status.success() && help.stdout.starts_with(b"What is watched"), "help is no error");
}

#[test]
fn a_history_that_is_not_one() {
    let place = Place::with_config("");
    let file = path(place.dir.path(), "history.json");
    fs::write(&file, "{\"version\": 9}").unwrap();
    let output = place.ask(&["history", "import", &file]);
    assert_eq!(output.status.code(), Some(USAGE));
    assert!(String::from_utf8_lossy(&output.stderr).contains("history.json"));
}

#[test]
fn the_dns_server_alone_says_what_it_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().display().to_string();
    let listen = free().to_string();
    assert_refused(&["dns", "--listen", &listen], USAGE, &["--upstream"]);
    assert_refused(
        &["dns", "--listen", &listen, "--upstream", &listen, "--overrides-dir", &dir],
        USAGE,
        &["configuration cannot be used"],
    );
}
