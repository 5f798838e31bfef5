//! One process of somebody else's program.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::maker::Maker;

/// Until it listens; a loaded machine gets half a minute.
const POLL: Duration = Duration::from_millis(20);
const POLLS: usize = 1500;
const PORTS: Range<u32> = 10_000..20_000;
/// A process hardly needs more at the same time.
const PORTS_APART: u32 = 250;
const PORT_TRIES: usize = 1_000;
/// Of its log, shown when it does not come up.
const LOG_LINES: usize = 10;

/// The process, and how it is started again.
#[derive(Debug)]
pub struct Server {
    program: &'static str,
    arguments: Vec<String>,
    dir: PathBuf,
    address: SocketAddr,
    child: Option<Child>,
}

/// An address of loopback whose port is free for UDP and TCP. Nobody's outgoing connection takes it before it is used, for it
/// is below the kernel's ephemeral range, and this process gives it to nobody else.
pub fn free_address() -> io::Result<SocketAddr> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    // Processes that were started one after the other begin far from each other.
    let first = std::process::id().wrapping_mul(PORTS_APART);
    for _ in 0..PORT_TRIES {
        let number = first.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed)) % (PORTS.end - PORTS.start);
        let port = u16::try_from(PORTS.start + number).map_err(io::Error::other)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no port is free for both UDP and TCP"))
}

impl Server {
    pub(super) fn start(
        program: &'static str,
        arguments: Vec<String>,
        dir: &Path,
        address: SocketAddr,
    ) -> io::Result<Server> {
        let mut server = Server { program, arguments, dir: dir.to_owned(), address, child: None };
        server.start_again()?;
        Ok(server)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn maker(&self, role: &'static str) -> Maker {
        Maker::of(self.program, role)
    }

    /// Starts it, and waits until it listens.
    pub fn start_again(&mut self) -> io::Result<()> {
        self.kill();
        let log = File::options().create(true).append(true).open(self.log_file())?;
        let mut child = Command::new(self.program)
            .args(&self.arguments)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        for _ in 0..POLLS {
            if TcpStream::connect(self.address).is_ok() {
                self.child = Some(child);
                return Ok(());
            }
            if let Some(status) = child.try_wait()? {
                return Err(io::Error::other(format!("{} ended ({status}): {}", self.program, self.log())));
            }
            thread::sleep(POLL);
        }
        let _ = child.kill();
        let _ = child.wait();
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("{} does not listen: {}", self.program, self.log())))
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Its sockets stay and it does nothing.
    pub fn freeze(&self) -> io::Result<()> {
        self.signal(Signal::STOP)?;
        let Some(child) = &self.child else { return Ok(()) };
        for _ in 0..POLLS {
            let state = std::fs::read_to_string(format!("/proc/{}/stat", child.id()))?;
            // The state comes after the name, which stands in brackets.
            if state.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T')) {
                return Ok(());
            }
            thread::sleep(POLL);
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("{} does not stop", self.program)))
    }

    pub fn thaw(&self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }

    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        let Some(child) = &self.child else { return Ok(()) };
        kill_process(Pid::from_child(child), signal).map_err(io::Error::from)
    }

    fn log_file(&self) -> PathBuf {
        self.dir.join("server.log")
    }

    /// The last that it said.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
