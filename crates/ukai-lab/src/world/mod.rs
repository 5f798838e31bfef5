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
//! | `127.P.5.1`… | other vantages, processes of their own, which find every host at a third port |
//! | `127.P.4.1`… | the independent resolvers `i-1` (UDP, TCP), `i-2` (and TLS), `i-3` (and HTTPS) |
//! | `127.P.10.x`, `127.P.20.x` | the peer's hosts in network a and in network b |
//! | `127.P.31.1`, `.32.1`, `.33.1` | the controls |
//! | `127.Q.10.x` | hosts at non-global addresses, which serve perfectly |
//! | `[::1]` | the one IPv6 host, and at the controls' port the controls |
//!
//! All DNS is on one high port and everything that the world has on 443 is on another, but for the controls, which have a
//! port of their own: there is one IPv6 address for them and the peer's host.
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
//! - Another vantage is `ukai vantage` with the first independent resolver as its own. It finds every host at the same
//!   address and another port, where the host does what `others` says and nothing of our `egress` stands between. Queries that
//!   carry a client subnet that is not loopback, and the independent resolvers, get what `by_subnet` holds for `others`.

mod authority;
mod config;
mod dns_server;
mod host;
mod http;
mod layout;
mod listener;
mod live;
mod peer_zone;
mod records;
mod request_log;
mod resolver;
mod time_server;
mod webhook;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::JoinSet;
use url::Url;

use crate::app::AppOptions;
use crate::certs::ZooError;
use crate::scenario::{Scenario, WorldChange, WorldState};
use authority::Server;
use dns_server::{Role, Transport};
use host::Site;
use layout::Layout;
pub use layout::{SLOTS, Slot};
use listener::{Door, DoorControl};
use live::{Live, lock};
pub use request_log::{Call, Caller, HostLog, Notification, RequestLog};

/// The environment variable that carries the peer's secret to the daemon and to the application.
pub const SECRET_VARIABLE: &str = "UKAI_DRILL_SECRET";
/// How long a change may take to have effect on every socket.
const SETTLE: Duration = Duration::from_secs(5);
const OPEN_TRIES: u32 = 50;
const OPEN_WAIT: Duration = Duration::from_millis(20);
const CONTROL_COUNT: u8 = 3;
/// Each is a process.
const VANTAGES_MAX: u8 = 5;

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
        let live = Arc::new(Live::new(scenario, layout, slot)?);
        let directory = tempfile::Builder::new().prefix("ukai-drill-").tempdir()?;
        config::write_files(&live, directory.path())?;
        let (tasks, doors) = open_patiently(&live).await?;
        let mut world = Self { scenario: scenario.clone(), live, doors, directory, _tasks: tasks };
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
        std::iter::once(&self.scenario.peer.url)
            .chain(&self.scenario.peer.also)
            .map(|url| self.live.with_port(url))
            .collect()
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

    /// An independent resolver over UDP and TCP, counted from 1.
    pub fn independent(&self, number: u8) -> SocketAddr {
        (self.live.layout.independent(number), self.live.layout.dns_port).into()
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
    pub fn ca_file(&self) -> PathBuf {
        self.directory.path().join(config::CA_FILE)
    }

    pub fn token_file(&self) -> PathBuf {
        self.directory.path().join(config::TOKEN_FILE)
    }

    /// Other vantages of the scenario, from the beginning.
    pub fn vantages(&self) -> u8 {
        u8::try_from(self.scenario.initial_state().vantages).unwrap_or(u8::MAX).min(VANTAGES_MAX)
    }

    /// What another vantage is told; `number` counts from 1.
    pub fn vantage_config(&self, number: u8) -> String {
        config::vantage_config(self, number)
    }

    pub fn vantage_listener(&self, number: u8) -> SocketAddr {
        self.live.layout.vantage(number)
    }

    pub fn webhook_secret_file(&self) -> PathBuf {
        self.directory.path().join(config::WEBHOOK_SECRET_FILE)
    }

    /// The value for [`SECRET_VARIABLE`]: what the peer wants to see as `Authorization`.
    pub fn secret(&self) -> &str {
        &self.live.secret
    }

    pub fn slot(&self) -> u8 {
        self.live.slot.number()
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

/// The world that had the slot before may still have its last socket open for a moment.
async fn open_patiently(live: &Arc<Live>) -> Result<(JoinSet<()>, Vec<(Who, DoorControl)>), WorldError> {
    let mut tries = 0;
    loop {
        let mut tasks = JoinSet::new();
        match open(live, &mut tasks) {
            Ok(doors) => return Ok((tasks, doors)),
            Err(WorldError::Listen { error, .. }) if error.kind() == io::ErrorKind::AddrInUse && tries < OPEN_TRIES => {
                tasks.shutdown().await;
                tokio::time::sleep(OPEN_WAIT).await;
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

fn open(live: &Arc<Live>, tasks: &mut JoinSet<()>) -> Result<Vec<(Who, DoorControl)>, WorldError> {
    let mut doors = Vec::new();
    for (address, role) in dns_servers(live) {
        let address = SocketAddr::from((address, live.layout.dns_port));
        dns_server::spawn_udp(tasks, live, address, role.clone())
            .map_err(|error| WorldError::Listen { address, error })?;
        doors.push(open_door(live, tasks, address, Who::PlainDns(role))?);
    }
    for number in [2, 3] {
        let address = (live.layout.independent(number), live.layout.https_port).into();
        doors.push(open_door(live, tasks, address, Who::EncryptedDns(Role::Independent(number)))?);
    }
    for (site, address, port) in sites(live) {
        doors.push(open_door(live, tasks, (address, port).into(), Who::Site(site))?);
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

fn sites(live: &Live) -> Vec<(Site, IpAddr, u16)> {
    let (port, elsewhere) = (live.layout.https_port, live.layout.elsewhere_port);
    let hosts = live.layout.hosts.iter().flat_map(|(label, address)| {
        [(Site::Host(label.clone()), *address, port), (Site::Elsewhere(label.clone()), *address, elsewhere)]
    });
    let control_port = live.layout.control_port;
    let controls =
        (1..=CONTROL_COUNT).map(|number| (Site::Control(number), live.layout.control(number).into(), control_port));
    let controls_v6 = live.layout.controls_v6().map(|address| (Site::ControlsV6, address.into(), control_port));
    hosts.chain(controls).chain(controls_v6).collect()
}

fn open_door(
    live: &Arc<Live>,
    tasks: &mut JoinSet<()>,
    address: SocketAddr,
    who: Who,
) -> Result<(Who, DoorControl), WorldError> {
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

#[cfg(test)]
mod tests;
