//! A provider with its servers, and the hands of somebody else in the same zone.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use ukai_core::effect::ServedOverride;
use ukai_core::input::ServedNow;
use ukai_dns::server::{ControlClient, OverrideRecord, Server, ServerConfig};
use ukai_dns::update::{TsigKey, ZoneServer};
use ukai_lab::servers::{ALGORITHM, Authority, Key, Kind, Role, ZONE};

use crate::provider::keeper::{self, KeeperDir};
use crate::provider::rfc2136::PolicyZone;
use crate::provider::{Place, Provider, Zone};

pub const HOST: &str = "api.peer.test";
pub const OWNER: &str = "0123456789abcdef";
/// Polls of something that must come; a loaded machine gets half a minute.
pub const TRIES: usize = 600;
pub const PAUSE: Duration = Duration::from_millis(50);

/// Which provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Embedded,
    Rfc2136(Kind),
}

pub const ALL: [Which; 4] =
    [Which::Embedded, Which::Rfc2136(Kind::Bind), Which::Rfc2136(Kind::Knot), Which::Rfc2136(Kind::PowerDns)];

pub struct Bench {
    pub provider: Provider,
    dir: TempDir,
    part: Part,
}

enum Part {
    Embedded { running: Option<Running>, control: ControlClient },
    Zone { authority: Box<Authority>, key: Key, _keeper: Running },
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

/// With a keeper that runs as a task.
pub async fn zone_provider(dir: &TempDir, place: impl Fn() -> PolicyZone) -> (Provider, Running) {
    let keeper_dir = KeeperDir::of(dir.path());
    let (stop, stopped) = oneshot::channel::<()>();
    let (kept, of_task) = (Place::Rfc2136(place()), keeper_dir.clone());
    let task = tokio::spawn(async move {
        let until = async {
            let _ = stopped.await;
        };
        assert!(keeper::run(&of_task, kept, until).await.unwrap(), "another keeper runs");
    });
    let client = keeper_dir.client();
    until("the keeper answers", || async { client.list().await.is_ok() }).await;
    let zone = Zone::new(Place::Rfc2136(place()), keeper_dir.client(), OWNER.to_owned());
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
                let (provider, keeper) = zone_provider(&dir, || zone_at(&authority, &key)).await;
                (provider, Part::Zone { authority: Box::new(authority), key, _keeper: keeper })
            }
        };
        Bench { provider, dir, part }
    }

    pub async fn apply(&self, served: &ServedOverride) -> Result<(), String> {
        self.provider.apply(served, Timestamp::now()).await
    }

    pub async fn withdraw(&self, id: &str, generation: u64) -> Result<(), String> {
        self.provider.withdraw(id, generation, Some(HOST), "a test").await
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
        }
    }

    pub async fn down(&mut self) {
        match &mut self.part {
            Part::Embedded { running, .. } => running.take().unwrap().end().await,
            Part::Zone { authority, .. } => authority.server().kill(),
        }
    }

    pub async fn up(&mut self) {
        match &mut self.part {
            Part::Embedded { running, .. } => *running = Some(serve(&self.dir).await),
            Part::Zone { authority, .. } => authority.server().start_again().unwrap(),
        }
    }
}

fn text(addresses: &BTreeSet<IpAddr>) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Generation 1 of an override, for five minutes.
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
