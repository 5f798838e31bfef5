//! A provider with its servers, and the hands of somebody else in the same zone.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use ukai_core::effect::ServedOverride;
use ukai_core::input::ServedNow;
use ukai_dns::server::{ControlClient, OverrideRecord, Server, ServerConfig};
use ukai_dns::update::{TsigKey, ZoneServer};
use ukai_lab::servers::{ALGORITHM, Authority, Controlled, Key, Kind, Role, ZONE, free_address};

use crate::provider::keeper::{self, KeeperClient, KeeperDir};
use crate::provider::rfc2136::PolicyZone;
use crate::provider::unbound::{Control, Unbound};
use crate::provider::{Mine, Place, Provider, Withdrawn, Zone};

pub const HOST: &str = "api.peer.test";
pub const OWNER: &str = "0123456789abcdef";
/// Polls of something that must come; a loaded machine gets half a minute.
pub const TRIES: usize = 600;
/// Late enough for any test to come too late in it; looked for more often than in the real one.
pub const GRACE: Duration = Duration::from_secs(60);
pub const PAUSE: Duration = Duration::from_millis(50);

/// Which provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Embedded,
    Rfc2136(Kind),
    Unbound,
}

pub const ALL: [Which; 5] = [
    Which::Embedded,
    Which::Rfc2136(Kind::Bind),
    Which::Rfc2136(Kind::Knot),
    Which::Rfc2136(Kind::PowerDns),
    Which::Unbound,
];

pub struct Bench {
    pub provider: Provider,
    dir: TempDir,
    part: Part,
}

enum Part {
    Embedded { running: Option<Running>, control: ControlClient },
    Zone { authority: Box<Authority>, key: Key, keeper: Option<Running> },
    Unbound { server: Box<Controlled>, _keeper: Running },
}

/// A task of ours that serves until it is told to stop.
pub struct Running {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Running {
    async fn end(mut self) {
        drop(self.stop.take());
        self.task.await.unwrap();
    }
}

pub fn key_of(key: &Key) -> TsigKey {
    use base64::Engine;
    let secret = base64::engine::general_purpose::STANDARD.decode(&key.secret).unwrap();
    TsigKey::new(&key.name, ALGORITHM, &secret).unwrap()
}

pub fn zone_at(authority: &Authority, key: &Key) -> PolicyZone {
    PolicyZone::new(ZoneServer::new(authority.address(), ZONE.parse().unwrap(), Some(key_of(key))), Vec::new())
}

pub fn unbound_at(server: &Controlled) -> Place {
    let read = |name: &str| std::fs::read(server.file(name)).unwrap();
    let certificate = |name: &str| CertificateDer::from_pem_slice(&read(name)).unwrap();
    let control = Control::new(
        server.control(),
        certificate("unbound_server.pem"),
        vec![certificate("unbound_control.pem")],
        PrivateKeyDer::from_pem_slice(&read("unbound_control.key")).unwrap(),
    );
    Place::Unbound(Unbound::new(control.unwrap()))
}

/// With a keeper that runs as a task.
pub async fn zone_provider(dir: &TempDir, place: impl Fn() -> Place, grace: Duration) -> (Provider, Running) {
    let keeper_dir = KeeperDir::of(dir.path());
    let (stop, stopped) = oneshot::channel::<()>();
    let (kept, of_task) = (place(), keeper_dir.clone());
    let task = tokio::spawn(async move {
        let until = async {
            let _ = stopped.await;
        };
        assert!(keeper::run(&of_task, kept, grace, until).await.unwrap(), "another keeper runs");
    });
    let client = keeper_dir.client();
    until("the keeper answers", || async { client.list().await.is_ok() }).await;
    let zone = Zone::new(place(), keeper_dir.client(), OWNER.to_owned());
    (Provider::Zone(Arc::new(zone)), Running { stop: Some(stop), task })
}

/// Waits for what must come.
pub async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    for _ in 0..TRIES {
        if is_so().await {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
    panic!("it never came: {what}");
}

async fn serve(dir: &TempDir) -> Running {
    let state = dir.path().join("dns");
    std::fs::create_dir_all(&state).unwrap();
    let upstream = "udp://127.0.0.1:1".parse().unwrap();
    let config = ServerConfig::new(
        vec!["127.0.0.1:0".parse().unwrap()],
        vec![upstream],
        state.clone(),
        state.join("control.sock"),
    );
    let server = Server::start(config).await.unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    Running { stop: Some(stop), task }
}

impl Bench {
    pub async fn start(which: Which) -> Bench {
        Bench::with_grace(which, GRACE).await
    }

    pub async fn with_grace(which: Which, grace: Duration) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let (provider, part) = match which {
            Which::Embedded => {
                let running = serve(&dir).await;
                let control = ControlClient::new(dir.path().join("dns").join("control.sock"));
                (Provider::Embedded(control.clone()), Part::Embedded { running: Some(running), control })
            }
            Which::Rfc2136(kind) => {
                let key = Key::random("ukai");
                let authority = Authority::start(kind, &Role::Primary, &key, &[]).unwrap();
                let (provider, keeper) = zone_provider(&dir, || Place::Rfc2136(zone_at(&authority, &key)), grace).await;
                (provider, Part::Zone { authority: Box::new(authority), key, keeper: Some(keeper) })
            }
            Which::Unbound => {
                let nobody = "127.0.0.1:1".parse().unwrap();
                let server = Controlled::start(free_address().unwrap(), nobody).unwrap();
                let (provider, keeper) = zone_provider(&dir, || unbound_at(&server), grace).await;
                (provider, Part::Unbound { server: Box::new(server), _keeper: keeper })
            }
        };
        Bench { provider, dir, part }
    }

    pub fn keeper_dir(&self) -> KeeperDir {
        KeeperDir::of(self.dir.path())
    }

    pub fn keeper(&self) -> KeeperClient {
        self.keeper_dir().client()
    }

    /// Another keeper on the same directory, after the one that runs.
    pub async fn keeper_again(&mut self) {
        let Part::Zone { authority, key, keeper } = &mut self.part else { panic!("it has no keeper") };
        let before = keeper.take().unwrap();
        before.end().await;
        let place = || Place::Rfc2136(zone_at(authority, key));
        let (provider, running) = zone_provider(&self.dir, place, GRACE).await;
        (self.provider, *keeper) = (provider, Some(running));
    }

    /// None: it ends its leases itself.
    pub fn zone(&self) -> Option<&Zone> {
        match &self.provider {
            Provider::Zone(zone) => Some(zone),
            _ => None,
        }
    }

    /// Whether it has its overrides on disk.
    pub fn survives_a_restart(&self) -> bool {
        !matches!(self.part, Part::Unbound { .. })
    }

    /// Whether it can make one of two writers win; else both may lose.
    pub fn compares_and_swaps(&self) -> bool {
        !matches!(self.part, Part::Unbound { .. })
    }

    pub async fn apply(&self, served: &ServedOverride) -> Result<(), String> {
        self.provider.apply(served, Timestamp::now()).await
    }

    pub async fn withdraw(&self, id: &str, generation: u64) -> Result<(), String> {
        let mine = mine(id, generation);
        let withdrawn =
            Withdrawn { id: mine.id, generation: mine.generation, host: mine.host, addresses: mine.addresses };
        self.provider.withdraw(&withdrawn, "a test").await
    }

    /// Somebody else's server, which knows of no leases.
    pub fn is_a_zone(&self) -> bool {
        !matches!(self.part, Part::Embedded { .. })
    }

    /// What stands, with addresses as text.
    pub async fn standing(&self) -> Vec<(String, u64, String)> {
        let listed: Vec<ServedNow> = self.provider.list().await.unwrap();
        listed.into_iter().map(|now| (now.id, now.generation, text(&now.addresses))).collect()
    }

    /// Everything that is in the zone, by the eyes of another program where there is one.
    pub async fn residue(&self) -> String {
        match &self.part {
            Part::Embedded { control, .. } => format!("{:?}", control.list().await.unwrap().overrides),
            Part::Zone { authority, key, .. } => authority.zone(key).unwrap(),
            Part::Unbound { server, .. } => server.local().unwrap(),
        }
    }

    /// Somebody else writes an address at the host's name.
    pub async fn write_by_hand(&self, address: &str) {
        match &self.part {
            Part::Embedded { control, .. } => {
                let record = OverrideRecord {
                    id: "somebody".into(),
                    name: HOST.parse().unwrap(),
                    a: vec![address.parse().unwrap()],
                    aaaa: Vec::new(),
                    ttl: 10,
                    expires_at: Timestamp::now() + SignedDuration::from_mins(5),
                    incident: "theirs".into(),
                    generation: 1,
                    set_at: Timestamp::now(),
                };
                control.set(record, None).await.unwrap();
            }
            Part::Zone { authority, key, .. } => {
                authority.change_by_hand(key, &[format!("add {HOST}.{ZONE} 30 A {address}")]).unwrap();
            }
            Part::Unbound { server, .. } => {
                server.command(&["local_data", HOST, "30", "IN", "A", address]).unwrap();
            }
        }
    }

    /// Somebody else exchanges the address that an override serves.
    pub async fn change_by_hand(&self, from: &str, to: &str) {
        match &self.part {
            Part::Embedded { control, .. } => {
                let mut record = control.list().await.unwrap().overrides.remove(0);
                record.a = vec![to.parse().unwrap()];
                let before = record.generation;
                record.generation += 1;
                control.set(record, Some(before)).await.unwrap();
            }
            Part::Zone { authority, key, .. } => {
                let lines = [format!("delete {HOST}.{ZONE} A {from}"), format!("add {HOST}.{ZONE} 10 A {to}")];
                authority.change_by_hand(key, &lines).unwrap();
            }
            Part::Unbound { server, .. } => {
                server.command(&["local_data_remove", HOST]).unwrap();
                server.command(&["local_data", HOST, "10", "IN", "A", to]).unwrap();
            }
        }
    }

    pub async fn down(&mut self) {
        match &mut self.part {
            Part::Embedded { running, .. } => running.take().unwrap().end().await,
            Part::Zone { authority, .. } => authority.server().kill(),
            Part::Unbound { server, .. } => server.server().kill(),
        }
    }

    pub async fn up(&mut self) {
        match &mut self.part {
            Part::Embedded { running, .. } => *running = Some(serve(&self.dir).await),
            Part::Zone { authority, .. } => authority.server().start_again().unwrap(),
            Part::Unbound { server, .. } => server.server().start_again().unwrap(),
        }
    }
}

fn text(addresses: &BTreeSet<IpAddr>) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Generation 1 of an override, for five minutes.
/// Whatever a test serves.
pub fn mine(id: &str, generation: u64) -> Mine {
    let addresses = ["192.0.2.1", "192.0.2.2", "192.0.2.7", "192.0.2.8", "192.0.2.9", "2001:db8::7", "2001:db8::8"];
    Mine {
        owner: OWNER.to_owned(),
        id: id.to_owned(),
        generation,
        host: Some(HOST.to_owned()),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
    }
}

pub fn served(id: &str, addresses: &[&str]) -> ServedOverride {
    ServedOverride {
        id: id.into(),
        incident: "inc-1".into(),
        host: HOST.into(),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        ttl_s: 10,
        expires_at: Timestamp::now() + SignedDuration::from_mins(5),
        generation: 1,
        replaces_generation: None,
    }
}

/// The next generation of it.
pub fn next(before: &ServedOverride, addresses: &[&str]) -> ServedOverride {
    ServedOverride {
        generation: before.generation + 1,
        replaces_generation: Some(before.generation),
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        ..before.clone()
    }
}
