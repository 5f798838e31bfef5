//! The embedded server: a caching forwarder that serves overrides, in a process that outlives whoever set them.
//!
//! ```text
//! datagram ─┐            ┌─ override (prepared) ─┐
//! stream ───┴► decide ───┼─ special-use domain ──┼─► answer
//!                        ├─ cache ───────────────┤
//!                        └─ forward (a task) ────┘
//! control socket ─► compare ─► disk ─► swap
//! ```
//!
//! The answer path never touches a disk or waits for a lock that is held over one. An override is on disk before it is
//! served, and its lease is enforced here, by two clocks, whether or not anybody who set it still lives.

mod answer;
mod cache;
mod clock;
mod config;
mod control;
mod control_client;
mod forward;
mod lease;
mod lock;
mod query;
mod shared;
mod special;
mod stats;
mod store;
mod tcp;
mod udp;
mod zone;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub use config::{ServerConfig, Settings, local_networks};
pub use control::{Request, Response, Status};
pub use control_client::{CONTROL_TIMEOUT, ControlClient, ControlError, OfflineError, Withdrawn};
pub use lease::{Ended, MAX_LEASE, MAX_OVERRIDES, OverrideRecord, Refusal};
pub use lock::LockError;
pub use stats::{OverrideUse, Stats};
pub use store::StoreError;

use crate::client::{Client, ClientOptions};
use answer::Answerer;
use clock::Moment;
use forward::Forwarder;
use lock::Lock;
use shared::Shared;
use stats::Counters;
use store::Store;
use zone::Zone;

/// A server that holds its sockets and is ready to answer.
pub struct Server {
    shared: Arc<Shared>,
    sockets: Vec<Pair>,
    control: UnixListener,
    control_path: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("no address to listen on is given")]
    NothingToListenOn,
    #[error("cannot listen on {address} ({transport}): {}", bind_cause(cause))]
    Listen { address: SocketAddr, transport: &'static str, cause: io::Error },
    #[error("cannot open the control socket {path}: {cause}")]
    Control { path: String, cause: io::Error },
    #[error("cannot use the state directory {dir}: {cause}")]
    StateDir { dir: String, cause: io::Error },
    #[error("cannot read the certificates in {path}: {cause}")]
    Ca { path: String, cause: String },
    #[error("the configuration cannot be used: {0}")]
    Config(Refusal),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn bind_cause(cause: &io::Error) -> String {
    match cause.kind() {
        io::ErrorKind::AddrInUse => "the port is in use; another DNS server may run there".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this host does not have that address".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "no permission; ports below 1024 need root or the capability CAP_NET_BIND_SERVICE".to_owned()
        }
        _ => cause.to_string(),
    }
}

impl Server {
    /// Takes the lock, reads the overrides, and binds every socket: when this returns, what is asked is answered as soon as
    /// [`Server::run`] is polled, and nothing was answered before the overrides were known.
    pub async fn start(config: ServerConfig) -> Result<Self, StartError> {
        let settings = config.settings();
        shared::check(&settings, &config.listen).map_err(StartError::Config)?;
        let client =
            Client::new(ClientOptions { extra_roots: read_roots(config.ca.as_deref())?, ..ClientOptions::default() });
        create_dir(&config.state_dir)?;
        let lock = Lock::take(&config.state_dir)?;
        let store = Store::load(&config.state_dir, Moment::now())?;
        if let Some(damage) = store.damaged() {
            tracing::error!("{damage}");
        }
        let sockets = bind_all(&config.listen)?;
        let listen: Vec<_> = sockets.iter().map(|pair| pair.address).collect();
        let control = control::bind(&config.control_socket)
            .map_err(|cause| StartError::Control { path: config.control_socket.display().to_string(), cause })?;
        let counters = Arc::new(Counters::default());
        let forwarder = Forwarder::new(client, &settings.upstreams, config.cache_entries, Arc::clone(&counters));
        let zone = Zone::build(store.leases(), &Zone::default());
        let answerer = Arc::new(Answerer::new(settings, zone, Arc::new(forwarder), counters));
        let shared = Arc::new(Shared::new(answerer, store, lock, listen));
        Ok(Self { shared, sockets, control, control_path: config.control_socket })
    }

    /// As configured, with the ports that were found for port 0.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.shared.listen.clone()
    }

    /// Serves until `shutdown` ends or the control socket says stop. The overrides stay on disk.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut tasks = JoinSet::new();
        let waiting = Arc::new(Semaphore::new(udp::MAX_WAITING));
        let connections = Arc::new(Semaphore::new(tcp::MAX_CONNECTIONS));
        for pair in self.sockets {
            tasks.spawn(udp::serve(Arc::new(pair.udp), Arc::clone(&self.shared.answerer), Arc::clone(&waiting)));
            tasks.spawn(tcp::serve(pair.tcp, Arc::clone(&self.shared.answerer), Arc::clone(&connections)));
        }
        tasks.spawn(control::serve(self.control, Arc::clone(&self.shared)));
        tasks.spawn(Arc::clone(&self.shared).keep_time());
        tokio::select! {
            () = shutdown => {}
            () = self.shared.stop.notified() => {}
            ended = tasks.join_next() => tracing::error!(?ended, "a part of the DNS server ended; stopping, to be started again"),
        }
        tasks.shutdown().await;
        let_changes_end(&self.shared).await;
        if let Err(error) = std::fs::remove_file(&self.control_path) {
            tracing::debug!(%error, "the control socket was not removed");
        }
    }
}

/// A change that is being written cannot be cancelled; the lock on the directory must outlast it.
async fn let_changes_end(shared: &Arc<Shared>) {
    const PERIOD: Duration = Duration::from_millis(5);
    const PERIODS: usize = 1_000;
    for _ in 0..PERIODS {
        if Arc::strong_count(shared) == 1 {
            return;
        }
        tokio::time::sleep(PERIOD).await;
    }
    tracing::warn!("a change was still being written when the server stopped");
}

/// UDP and TCP on the same address.
struct Pair {
    address: SocketAddr,
    udp: UdpSocket,
    tcp: TcpListener,
}

/// For port 0 the kernel chooses by UDP, and TCP may be taken there; after so many tries something else is wrong.
const PORT_TRIES: usize = 16;
/// As most servers have it; the kernel caps it.
const TCP_BACKLOG: i32 = 128;

fn bind_all(listen: &[SocketAddr]) -> Result<Vec<Pair>, StartError> {
    if listen.is_empty() {
        return Err(StartError::NothingToListenOn);
    }
    listen.iter().map(|address| bind_pair(*address)).collect()
}

fn bind_pair(address: SocketAddr) -> Result<Pair, StartError> {
    if address.ip().is_unspecified() {
        tracing::warn!(%address, "answers leave from the address that the kernel chooses; on a host with several, name each instead");
    }
    let mut tries = if address.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        let udp = bind_udp(address).map_err(|cause| StartError::Listen { address, transport: "udp", cause })?;
        let chosen = udp.local_addr().map_err(|cause| StartError::Listen { address, transport: "udp", cause })?;
        match bind_tcp(chosen) {
            Ok(tcp) => {
                return Ok(Pair { address: chosen, udp, tcp });
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
            Err(cause) => {
                return Err(StartError::Listen { address: chosen, transport: "tcp", cause });
            }
        }
    }
}

fn bind_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    separate_families(&socket, address)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    separate_families(&socket, address)?;
    // So that a restart need not wait for old connections to be forgotten.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(TCP_BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// `[::]` beside `0.0.0.0` is two addresses.
fn separate_families(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() { socket.set_only_v6(true) } else { Ok(()) }
}

fn create_dir(dir: &Path) -> Result<(), StartError> {
    std::fs::create_dir_all(dir).map_err(|cause| StartError::StateDir { dir: dir.display().to_string(), cause })
}

fn read_roots(path: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let Some(path) = path else {
        return Ok(Vec::new());
    };
    let fail = |cause: String| StartError::Ca { path: path.display().to_string(), cause };
    let roots: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| fail(error.to_string()))?;
    if roots.is_empty() {
        return Err(fail("there is no certificate in it".to_owned()));
    }
    Ok(roots)
}
