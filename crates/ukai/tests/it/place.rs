//! A directory with a configuration, the daemon that runs by it, and people who call the command line.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// Polls of something that must come; a loaded machine gets half a minute.
pub const TRIES: usize = 600;
pub const PAUSE: Duration = Duration::from_millis(50);

pub fn ukai() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ukai"));
    command.stdin(Stdio::null()).env_remove("UKAI_LOG");
    command
}

pub fn run(arguments: &[&str]) -> Output {
    ukai().args(arguments).output().unwrap()
}

/// Exit code and what was said on the error stream.
pub fn refusal(arguments: &[&str]) -> (i32, String) {
    let output = run(arguments);
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

pub fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// An address on which nothing listens: whoever asks there is refused at once.
pub fn closed() -> SocketAddr {
    // Bound and dropped: the port is not handed out again soon.
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap()
}

/// A port that is free for UDP and TCP.
pub fn free() -> SocketAddr {
    ukai_lab::servers::free_address().unwrap()
}

/// A place of its own for one daemon.
pub struct Place {
    pub dir: TempDir,
    daemon: Option<Child>,
    /// Lines of the daemon's error stream.
    said: Option<Receiver<String>>,
    pub environment: Vec<(String, String)>,
}

impl Place {
    pub fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap(), daemon: None, said: None, environment: Vec::new() }
    }

    /// A peer that cannot be reached, resolvers that refuse, and nothing outside this machine.
    pub fn with_config(more: &str) -> Place {
        let place = Place::new();
        place.configure(more);
        place
    }

    pub fn configure(&self, more: &str) {
        let refusing = closed();
        let text = format!(
            "data_dir = \"data\"\nresolver = [\"{refusing}\"]\nindependent = [\"{refusing}\"]\nroot_hints = [\"127.0.0.1\"]\n\
             authority_port = {}\ncontrols = \"none\"\nevidence_bound = \"3s\"\n{more}\n\
             [[peer]]\nname = \"api\"\nurls = [\"https://api.peer.test/health\"]\ninterval = \"1s\"\n",
            refusing.port()
        );
        std::fs::write(self.config(), text).unwrap();
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("ukai.toml")
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn config_text(&self) -> String {
        self.config().display().to_string()
    }

    /// Starts the daemon and waits until it answers.
    pub fn start(&mut self) {
        let mut command = ukai();
        command.args(["run", "--config", &self.config_text()]);
        self.start_as(command);
    }

    /// With a bound on the size of every file: beyond it, writing fails as it does on a full disk.
    pub fn start_on_small_disk(&mut self, bytes: u64) {
        let mut command = Command::new("sh");
        // A signal that is ignored stays so across exec: the write fails, and the process lives to say so.
        let script = format!("trap '' XFSZ; ulimit -S -f {}; exec \"$@\"", bytes / 512);
        command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_ukai"), "run", "--config", &self.config_text()]);
        self.start_as(command);
    }

    /// Somebody made room.
    pub fn make_room(&self) {
        let pid = rustix::process::Pid::from_child(self.daemon.as_ref().unwrap());
        let unlimited = rustix::process::Rlimit { current: None, maximum: None };
        rustix::process::prlimit(Some(pid), rustix::process::Resource::Fsize, unlimited).unwrap();
    }

    fn start_as(&mut self, mut command: Command) {
        let mut child = command
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (say, said) = channel();
        let errors = child.stderr.take().unwrap();
        thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                if say.send(line).is_err() {
                    return;
                }
            }
        });
        self.daemon = Some(child);
        self.said = Some(said);
        for _ in 0..TRIES {
            if self.ask(&["status"]).status.success() {
                return;
            }
            let ended = self.daemon.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "the daemon ended: {:?}", self.said());
            thread::sleep(PAUSE);
        }
        panic!("the daemon does not answer: {:?}", self.said());
    }

    /// Calls a command for this daemon.
    pub fn ask(&self, arguments: &[&str]) -> Output {
        ukai().args(arguments).args(["--data-dir", &self.data().display().to_string()]).output().unwrap()
    }

    pub fn status(&self) -> Value {
        json(&self.ask(&["status", "--json"]))
    }

    /// Events of one kind, so far.
    pub fn events(&self, kind: &str) -> Vec<Value> {
        let output = self.ask(&["events", "--json"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|event| event["event"] == kind)
            .collect()
    }

    /// Waits for an event of this kind and returns the latest.
    pub fn wait_for(&self, kind: &str) -> Value {
        for _ in 0..TRIES {
            if let Some(event) = self.events(kind).pop() {
                return event;
            }
            thread::sleep(PAUSE);
        }
        panic!("no {kind} came; the daemon said {:?}", self.said());
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(self.daemon.as_ref().unwrap());
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }

    /// Waits until the daemon has ended by itself.
    pub fn ended(&mut self) -> i32 {
        let mut daemon = self.daemon.take().unwrap();
        for _ in 0..TRIES {
            if let Some(status) = daemon.try_wait().unwrap() {
                return status.code().unwrap();
            }
            thread::sleep(PAUSE);
        }
        let _ = daemon.kill();
        panic!("the daemon did not end: {:?}", self.said());
    }

    pub fn said(&self) -> Vec<String> {
        self.said.iter().flat_map(|said| said.try_iter()).collect()
    }

    /// Whether the DNS process answers on its control socket.
    pub fn dns_runs(&self) -> bool {
        UnixStream::connect(self.dns_socket()).is_ok()
    }

    pub fn stop_dns(&self) {
        let Ok(mut stream) = UnixStream::connect(self.dns_socket()) else { return };
        let _ = stream.set_read_timeout(Some(Duration::from_secs(3)));
        let _ = stream.write_all(b"{\"op\":\"stop\"}\n").and_then(|()| stream.read(&mut [0; 256]));
        for _ in 0..TRIES {
            if !self.dns_runs() {
                return;
            }
            thread::sleep(PAUSE);
        }
    }

    fn dns_socket(&self) -> PathBuf {
        self.data().join("dns").join("control.sock")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        self.stop_dns();
    }
}

pub fn path(dir: &Path, name: &str) -> String {
    dir.join(name).display().to_string()
}

/// A subscriber that takes everything.
pub fn subscriber() -> (SocketAddr, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (take, taken) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
            let body = loop {
                let length = stream.read(&mut buffer).unwrap();
                read.extend_from_slice(&buffer[..length]);
                let text = String::from_utf8_lossy(&read).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let wanted =
                    head.to_lowercase().split("content-length: ").nth(1).unwrap().lines().next().unwrap().to_owned();
                if body.len() >= wanted.parse().unwrap() {
                    break body.to_owned();
                }
            };
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
            if take.send(serde_json::from_str(&body).unwrap()).is_err() {
                return;
            }
        }
    });
    (address, taken)
}
