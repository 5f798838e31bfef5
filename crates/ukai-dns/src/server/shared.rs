//! The server's state and the few ways in which it changes: told to, or because a lease ran out.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::answer::Answerer;
use super::clock::Moment;
use super::config::Settings;
use super::control::{Request, Response, Status};
use super::file::{FileError, FileOverride};
use super::lease::{OverrideRecord, Refusal};
use super::lock::Lock;
use super::policy::PolicyZone;
use super::store::{Store, StoreError};
use super::zone::Layer;
use crate::name::Name;

/// Leases are looked at this often; the answer path checks them as well, so this is only how soon the rest follows.
const EXPIRY_PERIOD: Duration = Duration::from_secs(1);
/// How often the highest wall time is stored while a lease stands: a clock set back during a stop gains no more than this.
const CLOCK_PERIOD: Duration = Duration::from_secs(60);

pub(super) struct Shared {
    pub answerer: Arc<Answerer>,
    pub stop: Notify,
    pub listen: Vec<SocketAddr>,
    read_file_again: AtomicBool,
    policy_zone: Option<PolicyZone>,
    /// Held over disk and swap, so that the two happen in the same order for every change. Never taken by the answer path.
    store: Mutex<Store>,
    /// Here, so that it is held until the last change that is under way has ended.
    _lock: Lock,
}

impl Shared {
    pub fn new(
        answerer: Arc<Answerer>,
        store: Store,
        lock: Lock,
        listen: Vec<SocketAddr>,
        policy_zone: Option<PolicyZone>,
    ) -> Self {
        let (stop, store) = (Notify::new(), Mutex::new(store));
        let read_file_again = AtomicBool::new(false);
        Self { answerer, stop, listen, read_file_again, policy_zone, store, _lock: lock }
    }

    pub async fn handle(self: &Arc<Self>, request: Request) -> Response {
        match request {
            Request::Set { record, expect_generation } => {
                self.change(move |shared, store| shared.set(store, record, expect_generation)).await
            }
            Request::Clear { id, generation, why } => {
                self.change(move |shared, store| shared.clear(store, &id, generation, &why)).await
            }
            Request::List => self.change(|shared, store| Ok(Response::List(Box::new(shared.status(store))))).await,
            Request::Reconfigure { config } => self.reconfigure(config),
            Request::Flush { name } => {
                self.answerer.forwarder.forget(&name);
                Response::Done
            }
            Request::Log { seconds, every, clients } => {
                tracing::info!(seconds, every, clients, "what is asked is logged for a while");
                self.answerer.log.start(seconds, every, clients, Moment::now());
                Response::Done
            }
            Request::Stats => Response::Stats(self.answerer.stats()),
            Request::Stop => Response::Done,
        }
    }

    /// Ends leases and stores the clock, for as long as the server runs.
    pub async fn keep_time(self: Arc<Self>) {
        let mut ticks = interval_at(Instant::now() + EXPIRY_PERIOD, EXPIRY_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut store_clock_at = Instant::now() + CLOCK_PERIOD;
        let mut reported = None;
        loop {
            ticks.tick().await;
            let store_clock = Instant::now() >= store_clock_at;
            if store_clock {
                store_clock_at = Instant::now() + CLOCK_PERIOD;
            }
            let response = self.change(move |shared, store| shared.tick(store, store_clock)).await;
            // Once for each cause, not once a second.
            let failure = match response {
                Response::Failed { cause } => Some(cause),
                _ => None,
            };
            if failure != reported {
                if let Some(cause) = &failure {
                    tracing::error!(cause, "the overrides on disk are not what is served");
                }
                reported = failure;
            }
        }
    }

    /// Disks block; the answer path must not.
    async fn change(
        self: &Arc<Self>,
        change: impl FnOnce(&Self, &mut Store) -> Result<Response, StoreError> + Send + 'static,
    ) -> Response {
        let shared = Arc::clone(self);
        let changed = tokio::task::spawn_blocking(move || {
            let mut store = shared.store.lock().unwrap_or_else(PoisonError::into_inner);
            change(&shared, &mut store)
        });
        match changed.await {
            Ok(Ok(response)) => response,
            Ok(Err(StoreError::Refused(refusal))) => Response::Refused(refusal),
            Ok(Err(error)) => Response::Failed { cause: error.to_string() },
            Err(error) => Response::Failed { cause: error.to_string() },
        }
    }

    fn set(
        &self,
        store: &mut Store,
        record: OverrideRecord,
        expect_generation: Option<u64>,
    ) -> Result<Response, StoreError> {
        let now = Moment::now();
        self.expire(store, now);
        let (name, id, expires_at) = (record.name.clone(), record.id.clone(), record.expires_at);
        store.set(record, expect_generation, now)?;
        self.serve(store, [&name]);
        tracing::info!(dns.question.name = %name, override_id = id, %expires_at, "an override is served");
        Ok(Response::Done)
    }

    fn clear(&self, store: &mut Store, id: &str, generation: Option<u64>, why: &str) -> Result<Response, StoreError> {
        let standing = store.leases().iter().find(|lease| lease.record.id == id).map(|lease| lease.record.name.clone());
        let cleared = store.clear(id, generation, why, Moment::now());
        // Withdrawn even if that could not be written.
        if let Some(name) = standing
            && !store.leases().iter().any(|lease| lease.record.name == name)
        {
            self.serve(store, [&name]);
            tracing::info!(dns.question.name = %name, override_id = id, why, "an override is withdrawn");
        }
        cleared.map(|_| Response::Done)
    }

    fn tick(&self, store: &mut Store, store_clock: bool) -> Result<Response, StoreError> {
        let now = Moment::now();
        self.expire(store, now);
        if store_clock {
            store.store_clock(now)?;
        }
        store.settle(now)?;
        Ok(Response::Done)
    }

    fn expire(&self, store: &mut Store, now: Moment) {
        let expired = store.expire(now);
        if expired.is_empty() {
            return;
        }
        self.serve(store, expired.iter().map(|record| &record.name));
        for record in &expired {
            tracing::warn!(dns.question.name = %record.name, override_id = record.id, "an override's lease ran out; it is withdrawn");
        }
    }

    /// Swaps the zone, then forgets what the cache knows of the names that changed.
    fn serve<'a>(&self, store: &Store, changed: impl IntoIterator<Item = &'a Name>) {
        let hashing = &self.answerer.forwarder.hashing;
        self.answerer.replace_leases(Layer::of_leases(store.leases(), &self.answerer.zone().leases, hashing));
        for name in changed {
            self.answerer.forwarder.forget(name);
        }
    }

    /// Serves what the file gives now, or goes on as before if it cannot be understood. Whoever took the file away took the
    /// overrides back.
    pub fn serve_file(&self, read: Result<Vec<FileOverride>, FileError>) {
        let read = match read {
            Err(FileError::Read { path, cause }) if cause.kind() == std::io::ErrorKind::NotFound => {
                tracing::warn!(path, "the file of overrides is gone, and so are they");
                Ok(Vec::new())
            }
            read => read,
        };
        match read {
            Ok(overrides) => {
                let forwarder = &self.answerer.forwarder;
                let (layer, before) = (Layer::of_file(&overrides, &forwarder.hashing), self.answerer.zone().file);
                let changed = layer.difference(&before);
                self.answerer.replace_file(layer);
                // What was known of a name before its override is not believed after it.
                forwarder.forget_all(&changed);
                tracing::info!(overrides = overrides.len(), "the overrides of the file are served");
            }
            Err(error) => {
                tracing::error!(%error, "the overrides of the file were not read again; those from before are served")
            }
        }
    }

    pub fn is_to_read_file_again(&self) -> bool {
        self.read_file_again.swap(false, Ordering::AcqRel)
    }

    /// The files that are not watched, or whose watch may have missed a change.
    pub fn reload_files(&self) {
        if let Some(policy) = &self.answerer.policy {
            policy.read_key_again();
        }
        // By the thread that watches it, so that an older reading never comes after a newer one.
        self.read_file_again.store(true, Ordering::Release);
    }

    fn reconfigure(&self, settings: Settings) -> Response {
        if let Err(refusal) = check(&settings, &self.listen) {
            return Response::Refused(refusal);
        }
        self.answerer.replace_settings(settings);
        if let Some(policy) = &self.answerer.policy {
            policy.read_key_again();
        }
        Response::Done
    }

    fn status(&self, store: &Store) -> Status {
        Status {
            overrides: store.leases().iter().map(|lease| lease.record.clone()).collect(),
            ended: store.ended().cloned().collect(),
            damaged: store.damaged().map(str::to_owned),
            unwritten: store.is_unwritten(),
            listen: self.listen.clone(),
            process: std::process::id(),
            settings: Settings::clone(&self.answerer.settings()),
            policy_zone: self.policy_zone.clone(),
        }
    }
}

/// What settings must have to be of use.
pub(super) fn check(settings: &Settings, listen: &[SocketAddr]) -> Result<(), Refusal> {
    if settings.upstreams.is_empty() {
        return Err(Refusal::Invalid { cause: "no upstream is given, so nothing could be resolved".to_owned() });
    }
    match settings.looping_upstream(listen) {
        Some(upstream) => Err(Refusal::Invalid { cause: format!("the upstream {upstream} is this server itself") }),
        None => Ok(()),
    }
}
