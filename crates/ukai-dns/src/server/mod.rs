//! The embedded server: a caching forwarder that serves overrides, in a process that outlives whoever set them.
//!
//! ```text
//! datagrams ─► worker ─┐            ┌─ override (prepared) ─┐
//! stream ──────────────┴► decide ───┼─ special-use domain ──┼─► answer
//!                                   ├─ cache ───────────────┤
//!                                   └─ flight: leg or race ─┘
//! control socket ─► compare ─► disk ─► swap
//! file ─► watch ─► swap
//! ```
//!
//! The answer path never touches a disk or waits for a lock that is held over one. An override is on disk before it is
//! served, and its lease is enforced here, by two clocks, whether or not anybody who set it still lives.

mod answer;
mod batch;
mod cache;
mod clock;
mod config;
mod control;
mod control_client;
mod cookie;
mod file;
mod flight;
mod forward;
#[cfg(test)]
mod fuzz;
mod key;
mod lease;
mod legs;
mod limit;
mod listen;
mod lock;
mod policy;
mod query;
mod query_log;
mod random;
mod shared;
mod special;
mod stats;
mod store;
mod swap;
mod tcp;
mod upstreams;
mod worker;
mod zone;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

pub use config::{MAX_THREADS, Route, ServerConfig, Settings, local_networks};
pub use control::{Request, Response, Status};
pub use control_client::{CONTROL_TIMEOUT, ControlClient, ControlError, OfflineError, Withdrawn};
pub use file::FileError;
pub use lease::{Ended, MAX_LEASE, MAX_OVERRIDES, OverrideRecord, Refusal};
pub use lock::LockError;
pub use policy::{MAX_NOTIFIED, PolicyZone, PolicyZoneError};
pub use query_log::MAX_LOG_SECONDS;
pub use stats::{OverrideUse, Stats};
pub use store::StoreError;

use crate::client::{Client, ClientOptions};
use answer::Answerer;
use cache::Cache;
use clock::Moment;
use cookie::Cookies;
use file::Watch;
use forward::Forwarder;
use listen::{Pair, bind_all};
use lock::Lock;
use policy::Policy;
use shared::Shared;
use stats::Counters;
use store::Store;
use worker::{Stop, Worker};
use zone::{Layer, Zone};

/// A server that holds its sockets and is ready to answer.
pub struct Server {
    shared: Arc<Shared>,
    sockets: Vec<Pair>,
    threads: usize,
    stop: Arc<Stop>,
    watch: Option<Watch>,
    control: UnixListener,
    control_path: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("no address to listen on is given")]
    NothingToListenOn,
    #[error("cannot listen on {address} ({transport}): {}", bind_cause(cause))]
    Listen { address: SocketAddr, transport: &'static str, cause: io::Error },
    #[error("systemd handed over socket {number}, which is neither UDP nor a TCP listener")]
    HandedOver { number: usize },
    #[error("the sockets that systemd handed over cannot be used: {cause}")]
    Activation { cause: io::Error },
    #[error("no worker can be started: {0}")]
    Worker(io::Error),
    #[error("no randomness for cookies: {0}")]
    Randomness(getrandom::Error),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    PolicyZone(#[from] PolicyZoneError),
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
        let threads = config.threads();
        let settings = config.settings;
        shared::check(&settings, &config.listen).map_err(StartError::Config)?;
        let client = Client::new(ClientOptions {
            extra_roots: read_roots(config.ca.as_deref())?,
            keep_connections: true,
            ..ClientOptions::default()
        });
        create_dir(&config.state_dir)?;
        let lock = Lock::take(&config.state_dir)?;
        let policy = config.policy_zone.as_ref().map(|zone| Policy::new(zone, &config.state_dir, Moment::now()));
        let policy = policy.transpose()?.map(Arc::new);
        let store = Store::load(&config.state_dir, Moment::now())?;
        if let Some(damage) = store.damaged() {
            tracing::error!("{damage}");
        }
        // Before anything is answered.
        let (watch, given) = match &config.overrides_file {
            Some(path) => {
                let watch = Watch::new(path)?;
                let given = watch.first()?;
                (Some(watch), given)
            }
            None => (None, Vec::new()),
        };
        let sockets = bind_all(&config.listen, threads)?;
        let listen: Vec<_> = sockets.iter().map(|pair| pair.address).collect();
        let control = control::bind(&config.control_socket)
            .map_err(|cause| StartError::Control { path: config.control_socket.display().to_string(), cause })?;
        let counters = Arc::new(Counters::default());
        let cache = Cache::new(config.cache_entries, config.cache_octets);
        let forwarder = Arc::new(Forwarder::new(client, &settings, cache, Arc::clone(&counters)));
        let hashing = &forwarder.hashing;
        let zone = Zone {
            leases: Arc::new(Layer::of_leases(store.leases(), &Layer::default(), hashing)),
            file: Arc::new(Layer::of_file(&given, hashing)),
        };
        let cookies = Cookies::new().map_err(StartError::Randomness)?;
        let answerer = Arc::new(Answerer::new(settings, zone, forwarder, counters, policy, cookies));
        let shared = Arc::new(Shared::new(answerer, store, lock, listen, config.policy_zone));
        let stop = Arc::new(Stop::new(threads).map_err(StartError::Worker)?);
        Ok(Self { shared, sockets, threads, stop, watch, control, control_path: config.control_socket })
    }

    /// To read the file of overrides and the key of the policy zone again, as after SIGHUP. It does nothing once the server has stopped.
    pub fn reloader(&self) -> impl Fn() + Send + 'static {
        // Whoever keeps it must not keep the lock on the directory.
        let shared = Arc::downgrade(&self.shared);
        move || {
            if let Some(shared) = shared.upgrade() {
                shared.reload_files();
            }
        }
    }

    /// As configured, with the ports that were found for port 0.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.shared.listen.clone()
    }

    /// Serves until `shutdown` ends or the control socket says stop. The overrides stay on disk.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut tasks = JoinSet::new();
        let connections = Arc::new(Semaphore::new(tcp::MAX_CONNECTIONS));
        let mut clients: Vec<Vec<UdpSocket>> = (0..self.threads).map(|_| Vec::new()).collect();
        for pair in self.sockets {
            for (of_worker, socket) in clients.iter_mut().zip(pair.udp) {
                of_worker.push(socket);
            }
            let Some(listener) = pair.tcp.map(TcpListener::from_std) else { continue };
            match listener {
                Ok(listener) => {
                    tasks.spawn(tcp::serve(listener, Arc::clone(&self.shared.answerer), Arc::clone(&connections)));
                }
                Err(error) => tracing::error!(%error, address = %pair.address, "streams are not answered"),
            }
        }
        let (ended, mut threads_ended) = mpsc::channel::<()>(1);
        let mut threads = Vec::new();
        for (number, clients) in clients.into_iter().enumerate() {
            let (answerer, stop, ended) = (Arc::clone(&self.shared.answerer), Arc::clone(&self.stop), ended.clone());
            let work = move || {
                let _told = TellsOnEnd(ended);
                match Worker::new(answerer, clients, stop, number) {
                    Ok(mut worker) => worker.run(),
                    Err(error) => tracing::error!(%error, "a worker cannot start"),
                }
            };
            threads.push(std::thread::Builder::new().name(format!("dns-{number}")).spawn(work));
        }
        if let Some(watch) = self.watch {
            let (shared, stop) = (Arc::clone(&self.shared), Arc::clone(&self.stop));
            let watch = move || {
                watch.run(|| stop.is_told(), || shared.is_to_read_file_again(), |read| shared.serve_file(read));
            };
            threads.push(std::thread::Builder::new().name("dns-file".to_owned()).spawn(watch));
        }
        drop(ended);
        tasks.spawn(control::serve(self.control, Arc::clone(&self.shared)));
        tasks.spawn(Arc::clone(&self.shared).keep_time());
        if let Some(policy) = &self.shared.answerer.policy {
            // Who followed an earlier process learns that this one is here.
            policy.change(Moment::now());
            tasks.spawn(Arc::clone(policy).keep_notifying());
        }
        tokio::select! {
            () = shutdown => {}
            () = self.shared.stop.notified() => {}
            _ = threads_ended.recv() => tracing::error!("a worker of the DNS server ended; stopping, to be started again"),
            ended = tasks.join_next() => tracing::error!(?ended, "a part of the DNS server ended; stopping, to be started again"),
        }
        self.stop.tell();
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                match thread.map(std::thread::JoinHandle::join) {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => tracing::error!("a thread of the DNS server had failed"),
                    Err(error) => tracing::error!(%error, "a thread of the DNS server could not be started"),
                }
            }
        });
        if let Err(error) = joined.await {
            tracing::error!(%error, "the threads of the DNS server were not waited for");
        }
        // The threads may have left questions to the runtime, and clients of streams wait there too.
        let_answers_arrive(&self.shared).await;
        tasks.shutdown().await;
        let_changes_end(&self.shared).await;
        if let Err(error) = std::fs::remove_file(&self.control_path) {
            tracing::debug!(%error, "the control socket was not removed");
        }
    }
}

/// However a worker ends, by a panic too, the others do not go on without it: its clients would get no answer.
struct TellsOnEnd(mpsc::Sender<()>);

impl Drop for TellsOnEnd {
    fn drop(&mut self) {
        // Full: somebody was first.
        let _ = self.0.try_send(());
    }
}

/// Whoever waits for an upstream gets his answer before the server is gone.
async fn let_answers_arrive(shared: &Arc<Shared>) {
    const PERIOD: Duration = Duration::from_millis(5);
    const PERIODS: usize = 300;
    /// Between an upstream's answer and a client's, another task takes the answer to its stream.
    const QUIET_PERIODS: usize = 3;
    let mut quiet = 0;
    for _ in 0..PERIODS {
        quiet = if shared.answerer.forwarder.waiting() == 0 { quiet + 1 } else { 0 };
        if quiet == QUIET_PERIODS {
            return;
        }
        tokio::time::sleep(PERIOD).await;
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
