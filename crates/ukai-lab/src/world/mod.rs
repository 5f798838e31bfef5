//! A world of real sockets on loopback, without privileges, that a drill plays in.
//!
//! What stands where (`P` is the drill's own octet, `Q` the next):
//!
//! | address | who |
//! | --- | --- |
//! | `127.P.0.1`, `127.P.0.2` | the root server, the servers of all top-level domains |
//! | `127.P.1.1`… | the peer's name servers `ns-1`, `ns-2`, `ns-3`, then any other that the scenario names |
//! | `127.P.2.1` | the name server of everybody else: the controls, the independent resolvers |
//! | `127.P.0.53` | the application's resolver |
//! | `127.P.0.54`, `.55`, `.56` | left for the daemon's DNS server and its application listener; the drill's webhook |
//! | `127.P.0.123` | the time server (SNTP) |
//! | `127.P.4.1`… | the independent resolvers `i-1` (UDP, TCP), `i-2` (and TLS), `i-3` (and HTTPS) |
//! | `127.P.10.x`, `127.P.20.x` | the peer's hosts in network a and in network b |
//! | `127.P.31.1`, `.32.1`, `.33.1` | the controls |
//! | `127.Q.10.x` | hosts at non-global addresses, which serve perfectly |
//! | `[::1]` | the one IPv6 host |
//!
//! All DNS is on one high port and everything that the world has on 443 is on another.
//!
//! What is not real, and matters when a drill is read:
//!
//! - A black hole is a listener with a full accept queue. A SYN to it is dropped and sent again by the client's kernel,
//!   which is what a client of a real black hole sees; a ping would not show the difference, and nothing here pings.
//! - The resolvers do not query over sockets what the lab's own servers would say; they are given the same answers in
//!   the same process. So nothing that happens to the network (`egress`) stands between a resolver and the servers,
//!   except `cut`, which leaves our own resolver with its cache.
//! - `signed` puts a DS record at the parent and a DNSKEY at the apex, whose digest matches when `valid` and does not when
//!   `bogus`. There are no RRSIG records: a `validating` resolver knows the state rather than checking signatures, and a
//!   client that validates for itself finds every answer bogus. The top-level domain and the root are unsigned.
//! - All vantages but ours are described (`vantages`, `others`) and not yet played: hosts do what `us` says. Queries that
//!   carry a client subnet that is not loopback, and the independent resolvers, get what `by_subnet` holds for `others`.

mod authority;
mod config;
mod dns_server;
mod host;
mod http;
mod layout;
mod listener;
mod records;
mod request_log;
mod resolver;
mod time_server;
mod webhook;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use hickory_proto::op::{Message, Query};
use hyper::StatusCode;
use hyper::header::{self, HeaderMap};
use rustls::ServerConfig;
use tempfile::TempDir;
use tokio::task::JoinSet;
use url::Url;

use crate::app::AppOptions;
use crate::certs::{Identity, Zoo, ZooError};
use crate::scenario::{INDEPENDENTS, ResolverMode, ResolverSetup, Scenario, WorldChange, WorldState};
use authority::Server;
use dns_server::{Role, Transport};
use host::Site;
use layout::Layout;
pub use layout::{SLOTS, Slot};
use listener::{Door, DoorControl};
use records::{Names, Zone};
pub use request_log::{Call, Caller, HostLog, Notification, RequestLog};
use resolver::Resolver;

/// The environment variable that carries the peer's secret to the daemon and to the application.
pub const SECRET_VARIABLE: &str = "UKAI_DRILL_SECRET";
/// The body of a healthy peer, unless the scenario expects something that is not in it.
const HEALTHY_BODY: &str = "{\"status\":\"ok\"}";
/// Serial of the peer's zone before the first fault; each edit adds one.
const FIRST_SERIAL: u32 = 100;
/// How long a change may take to have effect on every socket.
const SETTLE: Duration = Duration::from_secs(5);
const CONTROL_COUNT: u8 = 3;

#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    #[error("cannot build the drill's world: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Certificates(#[from] ZooError),
    #[error("cannot listen on {address}: {error}")]
    Listen { address: SocketAddr, error: io::Error },
    #[error("the world did not settle after a change")]
    Unsettled,
}

/// A running world. Dropping it closes every socket.
#[derive(Debug)]
pub struct World {
    scenario: Scenario,
    live: Arc<Live>,
    doors: Vec<(Who, DoorControl)>,
    directory: TempDir,
    slot: Slot,
    _tasks: JoinSet<()>,
}

/// Whose listener a door is.
#[derive(Debug, Clone)]
enum Who {
    Site(Site),
    PlainDns(Role),
    EncryptedDns(Role),
    Webhook,
}

impl Who {
    fn door(&self, live: &Live) -> Door {
        match self {
            Self::Site(site) => site.door(live),
            Self::PlainDns(role) => role.tcp_door(live),
            Self::EncryptedDns(role) => role.tls_door(live),
            Self::Webhook => Door::Open,
        }
    }
}

impl World {
    /// Opens every socket of the scenario's world, as it is before anything breaks.
    pub async fn start(scenario: &Scenario, slot: Slot) -> Result<Self, WorldError> {
        let layout = Layout::new(&slot, scenario)?;
        let live = Arc::new(Live::new(scenario, layout)?);
        let directory = tempfile::Builder::new().prefix("ukai-drill-").tempdir()?;
        config::write_files(&live, directory.path())?;
        let mut tasks = JoinSet::new();
        let doors = open(&live, &mut tasks)?;
        let mut world =
            Self { scenario: scenario.clone(), live, doors, directory, slot, _tasks: tasks };
        let before = world.live.zone();
        world.live.switch_resolvers(&before, &WorldState::default());
        world.settle().await?;
        Ok(world)
    }

    /// Changes the world, and returns once every socket behaves accordingly. `daemon` is left to the caller.
    pub async fn apply(&mut self, change: &WorldChange) -> Result<(), WorldError> {
        self.live.change(change);
        self.settle().await
    }

    async fn settle(&mut self) -> Result<(), WorldError> {
        for (who, door) in &self.doors {
            door.set(who.door(&self.live));
        }
        let settled = async {
            for (_, door) in &mut self.doors {
                door.settled().await;
            }
        };
        tokio::time::timeout(SETTLE, settled).await.map_err(|_| WorldError::Unsettled)
    }

    pub fn scenario(&self) -> &Scenario {
        &self.scenario
    }

    /// The state of everything that the scenario can set, now.
    pub fn state(&self) -> WorldState {
        self.live.zone().state.clone()
    }

    /// The watched URL, with the lab's port.
    pub fn url(&self) -> Url {
        self.live.with_port(&self.scenario.peer.url)
    }

    /// The watched URL and those of `also`.
    pub fn urls(&self) -> Vec<Url> {
        std::iter::once(&self.scenario.peer.url).chain(&self.scenario.peer.also).map(|url| self.live.with_port(url)).collect()
    }

    /// The scenario's label for an address, controls included.
    pub fn label_of(&self, address: IpAddr) -> Option<String> {
        let control = (1..=CONTROL_COUNT).find(|number| IpAddr::V4(self.live.layout.control(*number)) == address);
        match control {
            Some(number) => Some(Site::Control(number).label()),
            None => self.live.layout.label_of(address).map(str::to_owned),
        }
    }

    pub fn address_of(&self, label: &str) -> Option<IpAddr> {
        let control = (1..=CONTROL_COUNT).find(|number| Site::Control(*number).label() == label);
        match control {
            Some(number) => Some(self.live.layout.control(number).into()),
            None => self.live.layout.hosts.get(label).copied(),
        }
    }

    pub fn requests(&self) -> RequestLog {
        lock(&self.live.log).clone()
    }

    /// What came in at the drill's webhook, in order.
    pub fn notifications(&self) -> Vec<Notification> {
        lock(&self.live.notifications).clone()
    }

    /// The application's resolver.
    pub fn resolver(&self) -> SocketAddr {
        self.live.layout.resolver()
    }

    pub fn root_server(&self) -> SocketAddr {
        (self.live.layout.root_server(), self.live.layout.dns_port).into()
    }

    /// Where the daemon under drill serves DNS, and what the application has as its resolver.
    pub fn embedded_dns(&self) -> SocketAddr {
        self.live.layout.embedded_dns()
    }

    /// Where the daemon under drill hears the application's own success metric, when `app.sign` is set.
    pub fn application_listener(&self) -> SocketAddr {
        self.live.layout.application()
    }

    pub fn time_server(&self) -> SocketAddr {
        self.live.layout.time_server()
    }

    /// A file of every authority that the drill trusts.
    pub fn ca_file(&self) -> std::path::PathBuf {
        self.directory.path().join(config::CA_FILE)
    }

    pub fn token_file(&self) -> std::path::PathBuf {
        self.directory.path().join(config::TOKEN_FILE)
    }

    pub fn webhook_secret_file(&self) -> std::path::PathBuf {
        self.directory.path().join(config::WEBHOOK_SECRET_FILE)
    }

    /// The value for [`SECRET_VARIABLE`]: what the peer wants to see as `Authorization`.
    pub fn secret(&self) -> &str {
        &self.live.secret
    }

    pub fn slot(&self) -> u8 {
        self.slot.number()
    }

    /// The ordinary configuration of the daemon under drill.
    pub fn daemon_config(&self, data_dir: &Path) -> String {
        config::daemon_config(self, data_dir)
    }

    /// What the application under drill is told.
    pub fn app_options(&self) -> AppOptions {
        config::app_options(self)
    }

    /// A week in which everything was well, for the daemon to import before the drill.
    pub fn history(&self) -> serde_json::Value {
        config::history(self)
    }

    /// The world in a few lines for the terminal.
    pub fn describe(&self) -> Vec<String> {
        config::describe(self)
    }
}

/// What all servers of one world share.
#[derive(Debug)]
pub(crate) struct Live {
    layout: Layout,
    names: Names,
    zoo: Zoo,
    secret: String,
    tls: bool,
    auth: bool,
    healthy: (StatusCode, String),
    now: RwLock<Moments>,
    resolvers: [Resolver; 4],
    log: Mutex<RequestLog>,
    notifications: Mutex<Vec<Notification>>,
}

#[derive(Debug)]
struct Moments {
    zone: Arc<Zone>,
    /// The zone before its last edit, which a server that missed it still serves.
    previous: Arc<Zone>,
}

impl Live {
    fn new(scenario: &Scenario, layout: Layout) -> Result<Self, WorldError> {
        let zone = Arc::new(Zone { state: scenario.initial_state(), serial: FIRST_SERIAL });
        let previous = Arc::new(Zone { serial: FIRST_SERIAL - 1, ..(*zone).clone() });
        let expect = scenario.peer.expect.clone().unwrap_or_default();
        let body = expect.body.filter(|body| !HEALTHY_BODY.contains(body)).unwrap_or_else(|| HEALTHY_BODY.to_owned());
        let status = expect.status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::OK);
        Ok(Self {
            layout,
            names: Names::new(scenario),
            zoo: Zoo::new(scenario.host())?,
            secret: format!("Bearer {}", config::random_word()),
            tls: scenario.peer.tls,
            auth: scenario.peer.auth,
            healthy: (status, body),
            now: RwLock::new(Moments { zone, previous }),
            resolvers: Default::default(),
            log: Mutex::default(),
            notifications: Mutex::default(),
        })
    }

    fn zone(&self) -> Arc<Zone> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).zone.clone()
    }

    fn previous_zone(&self) -> Arc<Zone> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).previous.clone()
    }

    fn change(&self, change: &WorldChange) {
        let before = self.zone();
        let mut after = (*before).clone();
        change.apply_to(&mut after.state);
        {
            let mut now = self.now.write().unwrap_or_else(PoisonError::into_inner);
            if change.edits_zone() {
                after.serial += 1;
                now.previous = before.clone();
            }
            now.zone = Arc::new(after);
        }
        self.switch_resolvers(&before, &before.state);
    }

    /// Tells every resolver whose mode is another than in `was`, with what the world said just before.
    fn switch_resolvers(&self, before: &Zone, was: &WorldState) {
        let zone = self.zone();
        for (number, resolver) in (0_u8..).zip(&self.resolvers) {
            let mode: ResolverMode = setup(&zone.state, number).mode;
            if mode != setup(was, number).mode {
                resolver.switch(before, &mode);
            }
        }
    }

    /// Resolver 0 is the application's own; the others are independent.
    fn resolve(&self, number: u8, request: &Message, query: &Query) -> Option<resolver::Resolved> {
        let setup = setup(&self.zone().state, number);
        self.resolvers.get(usize::from(number))?.answer(self, &setup, number == 0, request, query)
    }

    fn server_host(&self, server: &str) -> String {
        format!("{server}.{}", self.names.home)
    }

    /// The address of a name server, by the name that it is delegated to under.
    fn server_address(&self, name: &str) -> Option<Ipv4Addr> {
        let server = name.strip_suffix(&self.names.home)?.strip_suffix('.')?;
        self.layout.servers.get(server).copied()
    }

    fn tls_config(&self, identity: &Identity) -> Result<Arc<ServerConfig>, ZooError> {
        self.zoo.server_config(identity, self.zone().state.clock.0)
    }

    fn log(&self, label: &str, record: impl FnOnce(&mut HostLog)) {
        record(lock(&self.log).entry(label.to_owned()).or_default());
    }

    fn carries_secret(&self, headers: &HeaderMap) -> bool {
        host::text(headers, &header::AUTHORIZATION) == self.secret
    }

    fn peer_tls(&self) -> bool {
        self.tls
    }

    fn peer_auth(&self) -> bool {
        self.auth
    }

    fn healthy_answer(&self) -> (StatusCode, String) {
        self.healthy.clone()
    }

    fn with_port(&self, url: &Url) -> Url {
        let mut url = url.clone();
        // A URL with a host always takes a port, and the grammar admits no other.
        let _ = url.set_port(Some(self.layout.https_port));
        url
    }
}

fn setup(state: &WorldState, number: u8) -> ResolverSetup {
    match number {
        0 => state.resolver.clone(),
        number => state.independent(INDEPENDENTS.get(usize::from(number) - 1).copied().unwrap_or_default()),
    }
}

fn open(live: &Arc<Live>, tasks: &mut JoinSet<()>) -> Result<Vec<(Who, DoorControl)>, WorldError> {
    let mut doors = Vec::new();
    for (address, role) in dns_servers(live) {
        let address = SocketAddr::from((address, live.layout.dns_port));
        dns_server::spawn_udp(tasks, live, address, role.clone()).map_err(|error| WorldError::Listen { address, error })?;
        doors.push(open_door(live, tasks, address, Who::PlainDns(role))?);
    }
    for number in [2, 3] {
        let address = (live.layout.independent(number), live.layout.https_port).into();
        doors.push(open_door(live, tasks, address, Who::EncryptedDns(Role::Independent(number)))?);
    }
    for (site, address) in sites(live) {
        doors.push(open_door(live, tasks, (address, live.layout.https_port).into(), Who::Site(site))?);
    }
    doors.push(open_door(live, tasks, live.layout.webhook(), Who::Webhook)?);
    time_server::spawn(tasks, live)?;
    Ok(doors)
}

fn dns_servers(live: &Live) -> Vec<(Ipv4Addr, Role)> {
    let layout = &live.layout;
    let mut servers = vec![
        (layout.root_server(), Role::Authority(Server::Root)),
        (layout.tld_server(), Role::Authority(Server::Tld)),
        (layout.elsewhere_server(), Role::Authority(Server::Elsewhere)),
    ];
    for (name, address) in &layout.servers {
        servers.push((*address, Role::Authority(Server::Peer(name.clone()))));
    }
    if let IpAddr::V4(resolver) = layout.resolver().ip() {
        servers.push((resolver, Role::Resolver));
    }
    servers.extend((1..=3).map(|number| (layout.independent(number), Role::Independent(number))));
    servers
}

fn sites(live: &Live) -> Vec<(Site, IpAddr)> {
    let hosts = live.layout.hosts.iter().map(|(label, address)| (Site::Host(label.clone()), *address));
    let controls = (1..=CONTROL_COUNT).map(|number| (Site::Control(number), live.layout.control(number).into()));
    hosts.chain(controls).collect()
}

fn open_door(live: &Arc<Live>, tasks: &mut JoinSet<()>, address: SocketAddr, who: Who) -> Result<(Who, DoorControl), WorldError> {
    let door = who.door(live);
    let (shared, served) = (live.clone(), who.clone());
    let control = listener::spawn(tasks, address, door, move |stream, _| serve(shared.clone(), served.clone(), stream))
        .map_err(|error| WorldError::Listen { address, error })?;
    Ok((who, control))
}

async fn serve(live: Arc<Live>, who: Who, stream: tokio::net::TcpStream) {
    // How a conversation ends is for its client to find out.
    match who {
        Who::Site(site) => site.serve(live, stream).await,
        Who::PlainDns(role) => {
            let _ = dns_server::serve_stream(&live, &role, stream, Transport::Tcp).await;
        }
        Who::EncryptedDns(Role::Independent(number)) => {
            let _ = dns_server::serve_encrypted(live, number, stream).await;
        }
        Who::EncryptedDns(_) => {}
        Who::Webhook => webhook::serve(live, stream).await,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}


#[cfg(test)]
mod tests;
