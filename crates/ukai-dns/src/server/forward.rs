//! Asking upstream: cache first, one query for many askers, the next server when one is slow or fails.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::cache::{Answer, Cache, FAILURE_LIFETIME, Key};
use super::query::Query;
use super::stats::Counters;
use crate::client::race;
use crate::client::{AskError, AskOptions, Client};
use crate::message::{Question, Reply};
use crate::name::Name;
use crate::types::{ExtendedError, Rcode};
use crate::upstream::Upstream;

/// For one client query, all upstreams together: clients ask again after two seconds or more, and must find an answer then.
const TOTAL_TIMEOUT: Duration = Duration::from_millis(1_500);
/// A resolver with the answer in its cache needs a tenth of this from anywhere on the continent.
const HEDGE: Duration = Duration::from_millis(300);
/// Queries under way upstream; each holds a socket.
const MAX_FLIGHTS: usize = 512;
/// After so many failures in a row an upstream is asked last …
const FAILURES_UNTIL_DOWN: u32 = 3;
/// … and tried again in its place after this.
const RETRY_DOWN: Duration = Duration::from_secs(5);

pub(crate) struct Forwarder {
    client: Client,
    counters: Arc<Counters>,
    upstreams: RwLock<Arc<[Arc<Server>]>>,
    cache: Mutex<Cache>,
    flights: Mutex<BTreeMap<Key, Flight>>,
    /// Counts what was forgotten, so that a query sent before does not bring it back.
    epoch: AtomicU64,
}

type Flight = watch::Receiver<Option<Arc<Answer>>>;

impl Forwarder {
    pub fn new(client: Client, upstreams: &[Upstream], cache_entries: usize, counters: Arc<Counters>) -> Self {
        Self {
            client,
            counters,
            upstreams: RwLock::new(servers(upstreams)),
            cache: Mutex::new(Cache::new(cache_entries)),
            flights: Mutex::new(BTreeMap::new()),
            epoch: AtomicU64::new(0),
        }
    }

    pub fn cached(&self, key: &Key) -> Option<Arc<Answer>> {
        lock(&self.cache).find(key, Instant::now())
    }

    pub fn cache_len(&self) -> usize {
        lock(&self.cache).len()
    }

    /// Joins the query that is already under way for the same key, or sends one.
    pub async fn fetch(self: &Arc<Self>, key: Key) -> Arc<Answer> {
        let Some(mut flight) = self.board(key.clone()) else {
            return not_ready("too many queries under way");
        };
        let landed = flight.wait_for(Option::is_some).await.ok().and_then(|answer| answer.clone());
        landed.unwrap_or_else(|| {
            // The task ended without an answer, which it does only when the server stops.
            lock(&self.flights).remove(&key);
            not_ready("stopping")
        })
    }

    pub fn forget(&self, name: &Name) {
        // Order matters: a query already under way sees the new epoch when it wants to store its answer.
        self.epoch.fetch_add(1, Ordering::SeqCst);
        lock(&self.flights).clear();
        lock(&self.cache).forget(name);
    }

    pub fn replace_upstreams(&self, upstreams: &[Upstream]) {
        *self.upstreams.write().unwrap_or_else(PoisonError::into_inner) = servers(upstreams);
        self.epoch.fetch_add(1, Ordering::SeqCst);
        lock(&self.flights).clear();
        lock(&self.cache).clear();
    }

    /// The flight runs as a task of its own, so that a client which goes away cancels nobody else's answer.
    fn board(self: &Arc<Self>, key: Key) -> Option<Flight> {
        let mut flights = lock(&self.flights);
        if let Some(flight) = flights.get(&key) {
            return Some(flight.clone());
        }
        if flights.len() >= MAX_FLIGHTS {
            return None;
        }
        let (sender, flight) = watch::channel(None);
        flights.insert(key.clone(), flight.clone());
        let forwarder = Arc::clone(self);
        tokio::spawn(async move {
            let epoch = forwarder.epoch.load(Ordering::SeqCst);
            let answer = Arc::new(forwarder.ask_upstreams(&key).await);
            forwarder.land(key, epoch, &answer);
            sender.send_replace(Some(answer));
        });
        Some(flight)
    }

    fn land(&self, key: Key, epoch: u64, answer: &Arc<Answer>) {
        let mut flights = lock(&self.flights);
        if self.epoch.load(Ordering::SeqCst) == epoch {
            flights.remove(&key);
            lock(&self.cache).insert(key, Arc::clone(answer));
        }
    }

    async fn ask_upstreams(&self, key: &Key) -> Answer {
        let question = Question { name: key.name.clone(), qtype: key.qtype };
        let options = AskOptions {
            checking_disabled: key.checking_disabled,
            dnssec_ok: key.dnssec_ok,
            authentic_data: true,
            timeout: TOTAL_TIMEOUT,
            ..AskOptions::default()
        };
        let deadline = tokio::time::Instant::now() + TOTAL_TIMEOUT;
        let attempts = self.in_order().into_iter().map(|server| {
            let (client, question, options) = (self.client.clone(), question.clone(), options.clone());
            async move { server.ask(&client, &question, &options).await }
        });
        let mut failures = Failures::default();
        let answer = race::first(attempts, HEDGE, deadline, |attempt: Attempt| {
            let answer = usable(&attempt);
            if answer.is_none() {
                self.counters.upstream_failures.fetch_add(1, Ordering::Relaxed);
                failures.add(attempt);
            }
            answer
        })
        .await;
        answer.unwrap_or_else(|| {
            self.counters.unanswered.fetch_add(1, Ordering::Relaxed);
            Answer::failure(failures.errors(), FAILURE_LIFETIME, Instant::now())
        })
    }

    fn in_order(&self) -> Vec<Arc<Server>> {
        let upstreams = Arc::clone(&self.upstreams.read().unwrap_or_else(PoisonError::into_inner));
        let now = Instant::now();
        let (up, down): (Vec<_>, Vec<_>) = upstreams.iter().cloned().partition(|server| server.is_up(now));
        up.into_iter().chain(down).collect()
    }
}

impl Key {
    pub fn of(query: &Query) -> Self {
        Self {
            name: query.name.clone(),
            qtype: query.qtype,
            dnssec_ok: query.dnssec_ok(),
            checking_disabled: query.checking_disabled,
        }
    }
}

/// One upstream and how it has been doing.
struct Server {
    upstream: Upstream,
    health: Mutex<Health>,
}

#[derive(Default)]
struct Health {
    failures: u32,
    retry_at: Option<Instant>,
}

struct Attempt {
    upstream: Upstream,
    result: Result<Reply, AskError>,
}

impl Server {
    /// A failure is counted when the query is sent and taken back when a reply comes, so that one given up on counts too.
    async fn ask(&self, client: &Client, question: &Question, options: &AskOptions) -> Attempt {
        let failures = lock(&self.health).failures;
        lock(&self.health).failures = failures.saturating_add(1);
        let result = client.ask(&self.upstream, question, options).await;
        if result.is_ok() {
            *lock(&self.health) = Health::default();
        }
        Attempt { upstream: self.upstream.clone(), result }
    }

    /// Whoever finds that a retry is due makes it, and nobody else until the next.
    fn is_up(&self, now: Instant) -> bool {
        let mut health = lock(&self.health);
        if health.failures < FAILURES_UNTIL_DOWN {
            return true;
        }
        match health.retry_at {
            Some(retry_at) if now < retry_at => false,
            Some(_) => {
                health.retry_at = Some(now + RETRY_DOWN);
                true
            }
            None => {
                health.retry_at = Some(now + RETRY_DOWN);
                false
            }
        }
    }
}

fn servers(upstreams: &[Upstream]) -> Arc<[Arc<Server>]> {
    upstreams.iter().map(|upstream| Arc::new(Server { upstream: upstream.clone(), health: Mutex::default() })).collect()
}

fn not_ready(text: &str) -> Arc<Answer> {
    let error = ExtendedError::new(ExtendedError::NOT_READY, text);
    Arc::new(Answer::failure(vec![error], Duration::ZERO, Instant::now()))
}

/// A reply that answers. A resolver that fails, refuses or does not understand is not the last word (RFC 9520 section 2).
fn usable(attempt: &Attempt) -> Option<Answer> {
    let reply = attempt.result.as_ref().ok()?;
    let failed = matches!(reply.rcode, Rcode::SERVFAIL | Rcode::REFUSED | Rcode::FORMERR | Rcode::NOTIMP);
    if failed || reply.truncated {
        return None;
    }
    Answer::from_reply(reply, Instant::now())
}

/// What went wrong at each upstream, told to the client as extended errors.
#[derive(Default)]
struct Failures {
    passed_on: Vec<ExtendedError>,
    texts: Vec<String>,
    /// Some upstream could be talked to, or stayed silent: then it is not our network alone.
    reached: bool,
}

impl Failures {
    fn add(&mut self, attempt: Attempt) {
        let upstream = attempt.upstream;
        match attempt.result {
            Ok(reply) => {
                self.reached = true;
                self.passed_on.extend(reply.extended_errors);
                self.texts.push(format!("{upstream}: {}", reply.rcode));
            }
            Err(error) => {
                self.reached |= matches!(error, AskError::Timeout { .. });
                self.texts.push(format!("{upstream}: {error}"));
            }
        }
    }

    fn errors(self) -> Vec<ExtendedError> {
        // No upstream at all answered before the deadline when there are no texts.
        let code = match self.reached || self.texts.is_empty() {
            true => ExtendedError::NO_REACHABLE_AUTHORITY,
            false => ExtendedError::NETWORK_ERROR,
        };
        let text =
            if self.texts.is_empty() { "no upstream answered in time".to_owned() } else { self.texts.join("; ") };
        let mut errors = self.passed_on;
        errors.truncate(3);
        errors.push(ExtendedError::new(code, text));
        errors
    }
}

/// Nothing panics while holding these locks; if something did, the data is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
