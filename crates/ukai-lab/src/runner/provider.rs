//! What can befall the daemon's DNS server, done to it as anybody on the machine could: nothing in the daemon knows of it.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// A server on this machine that takes longer to answer its control socket is as good as dead.
const ANSWER_BOUND: Duration = Duration::from_secs(2);
/// The daemon starts its server again within a second or so; somebody faster than that is needed once or twice.
const TAKE_BOUND: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

/// The directory in which the daemon's DNS server keeps what is its own.
#[derive(Debug, Clone)]
pub struct DnsServer(PathBuf);

/// Sockets that stand where the server should, and answer nobody.
#[derive(Debug)]
pub struct Taken {
    _udp: UdpSocket,
    _tcp: TcpListener,
}

impl DnsServer {
    pub fn of(data_dir: &Path) -> DnsServer {
        DnsServer(data_dir.join("dns"))
    }

    /// Kills the server and takes its address, so that it cannot come up again until what is returned is dropped.
    pub fn take_down(&self, address: SocketAddr) -> anyhow::Result<Taken> {
        let deadline = Instant::now() + TAKE_BOUND;
        loop {
            self.kill();
            match take(address) {
                Ok(taken) => return Ok(taken),
                Err(error) if Instant::now() >= deadline => {
                    return Err(error).with_context(|| format!("{address} cannot be taken from the DNS server"));
                }
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    /// Kills the server and removes what it had on disk: it comes up and knows of nothing.
    pub fn lose_everything(&self) -> anyhow::Result<()> {
        let lock = File::options().create(true).truncate(false).write(true).open(self.0.join("dns.lock"))?;
        self.kill();
        let deadline = Instant::now() + TAKE_BOUND;
        // While it is held here, no server starts.
        while lock.try_lock().is_err() {
            if Instant::now() >= deadline {
                bail!("the DNS server does not go");
            }
            self.kill();
            thread::sleep(PAUSE);
        }
        match fs::remove_file(self.0.join("overrides.json")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).context("the DNS server's overrides"),
            _ => Ok(()),
        }
    }

    /// Somebody else with access to the control socket leads what stands elsewhere.
    pub fn edit(&self, addresses: &[IpAddr]) -> anyhow::Result<()> {
        let listed = self.ask(&json!({ "op": "list" }))?;
        let Some(mut record) = listed["overrides"].as_array().and_then(|all| all.first()).cloned() else {
            bail!("no override stands that somebody could edit");
        };
        let generation = record["generation"].as_u64().unwrap_or_default();
        let of = |v6: bool| addresses.iter().filter(move |address| address.is_ipv6() == v6).collect::<Vec<_>>();
        record["a"] = json!(of(false));
        record["aaaa"] = json!(of(true));
        record["generation"] = json!(generation + 1);
        let answer = self.ask(&json!({ "op": "set", "override": record, "expect_generation": generation }))?;
        if answer["result"] != "done" {
            bail!("the DNS server does not take another's edit: {answer}");
        }
        Ok(())
    }

    /// SIGKILL. One that does not answer is down already, or on its way up.
    fn kill(&self) {
        let listed = self.ask(&json!({ "op": "list" })).unwrap_or_default();
        let pid = listed["process"].as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended by itself meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    fn ask(&self, request: &Value) -> anyhow::Result<Value> {
        let mut stream = UnixStream::connect(self.0.join("control.sock"))?;
        stream.set_read_timeout(Some(ANSWER_BOUND))?;
        stream.write_all(format!("{request}\n").as_bytes())?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }
}

fn take(address: SocketAddr) -> io::Result<Taken> {
    Ok(Taken { _udp: UdpSocket::bind(address)?, _tcp: TcpListener::bind(address)? })
}
