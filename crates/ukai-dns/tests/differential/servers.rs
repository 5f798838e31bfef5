//! The upstream, the other resolvers, and our own: processes and a thread on loopback, with files in one directory.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use ukai_dns::server::{Server, ServerConfig};

use crate::zone;

pub struct Upstream {
    pub address: SocketAddr,
    _process: Process,
}

pub struct Resolver {
    pub name: &'static str,
    pub address: SocketAddr,
    _process: Process,
}

/// Ended when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Upstream {
    /// `None` if it is not installed.
    pub fn start(dir: &Path) -> Option<Self> {
        let program = find("knotd")?;
        let (dir, address) = (subdirectory(dir, "knot"), free_address());
        std::fs::write(dir.join("root.zone"), zone::text()).unwrap();
        let config = include_str!("knot.conf");
        let path = write_config(&dir, "knot.conf", config, address, address);
        let process = Process(spawn(&program, &dir, &["-c", &path]));
        wait_for("knotd", address);
        Some(Self { address, _process: process })
    }
}

impl Resolver {
    /// All that are installed.
    pub fn start_all(dir: &Path, upstream: SocketAddr) -> Vec<Self> {
        let unbound = ("unbound", "unbound", "unbound.conf", include_str!("unbound.conf"), &["-d", "-c"][..]);
        let named = ("bind", "named", "named.conf", include_str!("named.conf"), &["-f", "-n", "1", "-c"][..]);
        let kresd =
            ("knot-resolver", "kresd", "kresd.conf", include_str!("kresd.conf"), &["--noninteractive", "-c"][..]);
        let recursor =
            ("pdns-recursor", "pdns_recursor", "recursor.conf", include_str!("recursor.conf"), &["--config-dir=."][..]);
        let mut started = Vec::new();
        for (name, program, file, config, args) in [unbound, named, kresd, recursor] {
            let Some(program) = find(program) else {
                eprintln!("{program} is not installed, and so not compared with");
                continue;
            };
            let (dir, address) = (subdirectory(dir, name), free_address());
            let path = write_config(&dir, file, config, address, upstream);
            let mut args = args.to_vec();
            match name {
                "pdns-recursor" => {}
                "knot-resolver" => args.extend([path.as_str(), "."]),
                _ => args.push(&path),
            }
            let process = Process(spawn(&program, &dir, &args));
            started.push(Self { name, address, _process: process });
        }
        for resolver in &started {
            wait_for(resolver.name, resolver.address);
        }
        started
    }
}

/// The server that all this is about.
pub struct Own {
    pub address: SocketAddr,
    _shutdown: oneshot::Sender<()>,
    _runtime: Runtime,
}

impl Own {
    pub fn start(dir: &Path, upstream: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listen = vec!["127.0.0.1:0".parse().unwrap()];
        let mut config = ServerConfig::new(listen, vec![upstream.into()], dir.join("state"), dir.join("control.sock"));
        config.threads = 2;
        let server = runtime.block_on(Server::start(config)).unwrap();
        let address = server.local_addresses()[0];
        let (shutdown, stopped) = oneshot::channel::<()>();
        runtime.spawn(server.run(async move { drop(stopped.await) }));
        wait_for("ukai", address);
        Self { address, _shutdown: shutdown, _runtime: runtime }
    }
}

/// Also where only an administrator's path leads.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    dirs.map(|dir| dir.join(program)).find(|file| file.is_file())
}

fn subdirectory(dir: &Path, name: &str) -> PathBuf {
    let dir = dir.join(name);
    std::fs::create_dir(&dir).unwrap();
    dir
}

fn write_config(dir: &Path, file: &str, text: &str, address: SocketAddr, upstream: SocketAddr) -> String {
    let text = text
        .replace("@DIR@", &dir.display().to_string())
        .replace("@PORT@", &address.port().to_string())
        .replace("@UPSTREAM@", &upstream.port().to_string());
    let path = dir.join(file);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn spawn(program: &Path, dir: &Path, args: &[&str]) -> Child {
    let mut command = Command::new(program);
    command.current_dir(dir).args(args).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(std::fs::File::create(dir.join("stderr")).unwrap()).spawn().unwrap()
}

/// Free for UDP and TCP a moment ago.
fn free_address() -> SocketAddr {
    loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

fn wait_for(name: &str, address: SocketAddr) {
    const QUERY: &[u8] =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05ready\x04zone\x07example\x00\x00\x01\x00\x01";
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    for _ in 0..100 {
        let mut buffer = [0; 512];
        if socket.send(QUERY).is_ok() && socket.recv(&mut buffer).is_ok() && buffer[7] == 1 {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{name} does not answer at {address}");
}
