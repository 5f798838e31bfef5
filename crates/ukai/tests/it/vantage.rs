//! Two processes: a vantage, and whoever asks it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::place::{PAUSE, TRIES, closed, free, json, path, ukai};

const TOKEN: &str = "a-token-of-the-vantage";
const WRONG: &str = "another-token-of-nobody";

/// Answers every request, for as long as the test runs.
fn peer() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
        }
    });
    address
}

fn base(peer: SocketAddr) -> String {
    let refusing = closed();
    format!(
        "resolver = [\"{refusing}\"]\nindependent = [\"{refusing}\"]\nroot_hints = [\"127.0.0.1\"]\n\
         authority_port = {}\ncontrols = \"none\"\nevidence_bound = \"10s\"\nallow_addresses = [\"127.0.0.0/8\"]\n\
         [[peer]]\nname = \"api\"\nurls = [\"http://{peer}/\"]\n",
        refusing.port()
    )
}

/// `ukai vantage`, ended with the value.
struct Vantage {
    dir: TempDir,
    listen: SocketAddr,
    process: Option<Child>,
}

impl Vantage {
    fn start(peer: SocketAddr) -> Vantage {
        let (dir, listen) = (TempDir::new().unwrap(), free());
        fs::write(dir.path().join("token"), format!("{TOKEN}\n")).unwrap();
        let service = format!("[vantage_service]\nlisten = \"{listen}\"\ntoken_file = \"token\"\n");
        let config = path(dir.path(), "vantage.toml");
        fs::write(&config, format!("{}{service}", base(peer))).unwrap();
        let process = ukai()
            .args(["vantage", "--config", &config])
            .env("UKAI_LOG", "trace")
            .stdout(Stdio::piped())
            .stderr(fs::File::create(dir.path().join("said")).unwrap())
            .spawn()
            .unwrap();
        let vantage = Vantage { dir, listen, process: Some(process) };
        for _ in 0..TRIES {
            if TcpStream::connect(listen).is_ok() {
                return vantage;
            }
            thread::sleep(PAUSE);
        }
        panic!("the vantage does not listen");
    }

    /// The status of what it answers, and the body.
    fn post(&self, token: Option<&str>, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.listen).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let length = body.len();
        let head = format!(
            "POST /v1/vantage/look HTTP/1.1\r\nHost: vantage\r\nConnection: close\r\nContent-Length: {length}\r\n{token}\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        // It may refuse before it has read everything.
        let _ = stream.write_all(body.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Ends it as an init system does, and returns its exit code and what it had said.
    fn stop(mut self) -> (i32, String) {
        let mut process = self.process.take().unwrap();
        kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
        let code = process.wait().unwrap().code().unwrap();
        (code, fs::read_to_string(self.dir.path().join("said")).unwrap())
    }
}

impl Drop for Vantage {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

#[test]
fn a_controller_hears_what_a_vantage_sees_and_records_silence() {
    let peer = peer();
    let (vantage, dir) = (Vantage::start(peer), TempDir::new().unwrap());
    let others = [("osaka", vantage.listen, TOKEN), ("kobe", vantage.listen, WRONG), ("nara", closed(), TOKEN)];
    let mut config = base(peer);
    for (name, listen, token) in others {
        let file = path(dir.path(), name);
        fs::write(&file, token).unwrap();
        config += &format!(
            "[[other_vantage]]\nname = \"{name}\"\nurl = \"http://{listen}\"\ntoken = {{ file = \"{file}\" }}\n"
        );
    }
    let file = path(dir.path(), "ukai.toml");
    fs::write(&file, config).unwrap();
    let output =
        ukai().args(["explain", "127.0.0.1", "--config", &file, "--json"]).env("UKAI_LOG", "trace").output().unwrap();
    let explained = json(&output);
    let views = explained["evidence"]["vantages"].as_array().unwrap();
    let of = |name: &str| views.iter().find(|view| view["vantage"] == name).unwrap();
    assert_eq!(views.len(), 3);

    let osaka = of("osaka");
    assert_eq!((&osaka["silence"], &osaka["resolved"]), (&Value::Null, &serde_json::json!(["127.0.0.1"])));
    let results = osaka["results"].as_array().unwrap();
    assert_eq!(results.len(), 1);
    assert_eq!(
        (&results[0]["result"]["address"], &results[0]["result"]["failure"]),
        (&"127.0.0.1".into(), &Value::Null)
    );
    let kobe = of("kobe")["silence"].as_str().unwrap();
    assert!(kobe.starts_with("401"), "{kobe}");
    assert!(of("nara")["silence"].as_str().unwrap().contains("refused"), "{}", of("nara"));
    for silent in ["kobe", "nara"] {
        assert_eq!(of(silent)["results"], serde_json::json!([]));
    }

    let (code, said) = vantage.stop();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("the vantage answers"), "{said}");
    let told = [said, String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap()];
    for text in &told {
        assert!(!text.contains(TOKEN) && !text.contains(WRONG), "a token is told: {text}");
    }
}

#[test]
fn a_vantage_refuses_what_it_is_not_there_for() {
    let vantage = Vantage::start(peer());
    let question = |peer: &str, count: usize| {
        let addresses: Vec<String> = (1..=count).map(|last| format!("127.0.9.{last}")).collect();
        serde_json::json!({ "peer": peer, "addresses": addresses }).to_string()
    };
    assert_eq!(vantage.post(None, &question("api", 1)).0, 401);
    assert_eq!(vantage.post(Some(WRONG), &question("api", 1)).0, 401);
    let (status, said) = vantage.post(Some(TOKEN), &question("bill", 1));
    assert_eq!(status, 404);
    assert!(said.contains("there is no peer of that name here; there is api"), "{said}");
    let (status, said) = vantage.post(Some(TOKEN), &question("api", 33));
    assert_eq!(status, 400);
    assert!(said.contains("at most 32"), "{said}");
    for body in ["", "{}", "[]", "{\"peer\": \"api\", \"addresses\": [\"nowhere\"]}"] {
        assert_eq!(vantage.post(Some(TOKEN), body).0, 400, "{body}");
    }
    assert_eq!(vantage.post(Some(TOKEN), &"x".repeat(20_000)).0, 413);
    let (status, said) = vantage.post(Some(TOKEN), &question("api", 32));
    assert_eq!(status, 200, "{said}");
    let sight: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(sight["results"].as_array().unwrap().len(), 33, "what it was asked about, and what it is led to itself");
}

#[test]
fn a_vantage_without_a_place_of_its_own_says_what_to_write() {
    let dir = TempDir::new().unwrap();
    let config = path(dir.path(), "vantage.toml");
    fs::write(&config, base(closed())).unwrap();
    let (code, said) = crate::place::refusal(&["vantage", "--config", &config]);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("[vantage_service]") && said.contains("token_file"), "{said}");
}
