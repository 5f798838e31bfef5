//! What all servers of one world share: its state now, and what has been seen.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use hickory_proto::op::{Message, Query};
use hyper::StatusCode;
use hyper::header::{self, HeaderMap};
use rustls::ServerConfig;
use url::Url;

use super::layout::{Layout, Slot};
use super::records::{Names, Zone};
use super::request_log::{HostLog, Notification, RequestLog};
use super::resolver::{Resolved, Resolver};
use super::{WorldError, config, host};
use crate::certs::{Identity, Zoo, ZooError};
use crate::scenario::{INDEPENDENTS, ResolverSetup, Scenario, WorldChange, WorldState};

/// The body of a healthy peer, unless the scenario expects something that is not in it.
const HEALTHY_BODY: &str = "{\"status\":\"ok\"}";
/// Serial of the peer's zone before the first fault; each edit adds one.
const FIRST_SERIAL: u32 = 100;

/// What all servers of one world share.
#[derive(Debug)]
pub(super) struct Live {
    /// Held by every task, so that the slot is free no sooner than its sockets.
    pub slot: Slot,
    pub layout: Layout,
    pub names: Names,
    pub zoo: Zoo,
    pub secret: String,
    /// Servers that the peer's zone names as its own.
    pub own_servers: Vec<String>,
    tls: bool,
    auth: bool,
    pub healthy: (StatusCode, String),
    now: RwLock<Moments>,
    resolvers: [Resolver; 4],
    pub log: Mutex<RequestLog>,
    pub notifications: Mutex<Vec<Notification>>,
}

#[derive(Debug)]
struct Moments {
    zone: Arc<Zone>,
    /// The zone before its last edit, which a server that missed it still serves.
    previous: Arc<Zone>,
}

impl Live {
    pub fn new(scenario: &Scenario, layout: Layout, slot: Slot) -> Result<Self, WorldError> {
        let zone = Arc::new(Zone { state: scenario.initial_state(), serial: FIRST_SERIAL });
        let previous = Arc::new(Zone { serial: FIRST_SERIAL - 1, ..(*zone).clone() });
        let expect = scenario.peer.expect.clone().unwrap_or_default();
        let body = expect.body.filter(|body| !HEALTHY_BODY.contains(body)).unwrap_or_else(|| HEALTHY_BODY.to_owned());
        let status = expect.status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::OK);
        Ok(Self {
            slot,
            layout,
            names: Names::new(scenario),
            zoo: Zoo::new(scenario.host())?,
            secret: format!("Bearer {}", config::random_word()),
            own_servers: scenario.own_servers(),
            tls: scenario.peer.tls,
            auth: scenario.peer.auth,
            healthy: (status, body),
            now: RwLock::new(Moments { zone, previous }),
            resolvers: Default::default(),
            log: Mutex::default(),
            notifications: Mutex::default(),
        })
    }

    pub fn zone(&self) -> Arc<Zone> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).zone.clone()
    }

    pub fn previous_zone(&self) -> Arc<Zone> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).previous.clone()
    }

    pub fn change(&self, change: &WorldChange) {
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
    pub fn switch_resolvers(&self, before: &Zone, was: &WorldState) {
        let zone = self.zone();
        for (number, resolver) in (0_u8..).zip(&self.resolvers) {
            let mode = setup(&zone.state, number).mode;
            if mode != setup(was, number).mode {
                resolver.switch(before, &mode);
            }
        }
    }

    /// Resolver 0 is the application's own; the others are independent.
    pub fn resolve(&self, number: u8, request: &Message, query: &Query) -> Option<Resolved> {
        let setup = setup(&self.zone().state, number);
        self.resolvers.get(usize::from(number))?.answer(self, &setup, number == 0, request, query)
    }

    /// The name that a name server of the peer is delegated to under.
    pub fn server_host(&self, server: &str) -> String {
        format!("{server}.{}", self.names.home)
    }

    /// The address behind such a name.
    pub fn server_address(&self, name: &str) -> Option<Ipv4Addr> {
        let server = name.strip_suffix(&self.names.home)?.strip_suffix('.')?;
        self.layout.servers.get(server).copied()
    }

    pub fn tls_config(&self, identity: &Identity) -> Result<Arc<ServerConfig>, ZooError> {
        self.zoo.server_config(identity, self.zone().state.clock.0)
    }

    pub fn log(&self, label: &str, record: impl FnOnce(&mut HostLog)) {
        record(lock(&self.log).entry(label.to_owned()).or_default());
    }

    pub fn carries_secret(&self, headers: &HeaderMap) -> bool {
        host::text(headers, &header::AUTHORIZATION) == self.secret
    }

    /// Whether the peer is served over TLS.
    pub fn peer_tls(&self) -> bool {
        self.tls
    }

    /// Whether the peer wants a secret.
    pub fn peer_auth(&self) -> bool {
        self.auth
    }

    pub fn healthy_answer(&self) -> (StatusCode, String) {
        self.healthy.clone()
    }

    pub fn with_port(&self, url: &Url) -> Url {
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

/// A poisoned lock still guards whole data: nothing here is left half-written.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
