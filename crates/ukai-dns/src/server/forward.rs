//! Asking upstream: cache first, one question for many askers, the next server when one is slow or fails.
//!
//! A question to a plain UDP upstream is first sent by the worker that has it (see [`super::legs`]). When that is slow, fails
//! or needs a stream, and for every other transport, all upstreams are raced here.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use super::cache::{Answer, Cache, FAILURE_LIFETIME, Unusable};
use super::config::{Settings, Watched};
use super::flight::{Datagram, Flight, Landed, Waiter};
use super::key::{Hashing, Kept, Key};
use super::query::Ask;
use super::stats::{Count, Counters};
use super::swap::Swap;
use super::upstreams::{Attempt, Routes, Server};
use crate::client::race;
use crate::client::{AskError, AskOptions, Client};
use crate::message::Question;
use crate::name::Name;
use crate::types::{ExtendedError, Rcode};
use crate::upstream::Upstream;

/// For one client query, all upstreams together: clients ask again after two seconds or more, and must find an answer by then.
pub(super) const TOTAL_TIMEOUT: Duration = Duration::from_millis(1_400);
/// A resolver with the answer in its cache needs a tenth of this from anywhere on the continent.
pub(super) const HEDGE: Duration = Duration::from_millis(300);
/// Questions under way upstream, those for which one datagram is out included.
const MAX_FLIGHTS: usize = 4_096;
/// Those of them for which upstreams are raced; each holds a socket and up to 64 KiB for what comes.
const MAX_RACES: usize = 512;
/// Clients that wait for an upstream at once, over all sockets; each costs its question, about 200 octets.
const MAX_WAITING: usize = 16_384;

pub(crate) struct Forwarder {
    client: Client,
    runtime: Handle,
    counters: Arc<Counters>,
    routes: Swap<Arc<Routes>>,
    watched: Swap<Arc<Watched>>,
    pub cache: Cache,
    pub hashing: Hashing,
    races: Arc<Semaphore>,
    flights: AtomicUsize,
    waiting: AtomicUsize,
}

/// What became of a question.
pub(crate) enum Boarded {
    /// Somebody asks already.
    Joined,
    /// Whoever gets this must see that it lands.
    New(Arc<Flight>),
    /// There is no room for one more.
    Full,
}

/// Why a first attempt brought no answer.
pub(crate) enum Why {
    Silent,
    Truncated,
    /// Asked by a careful client it may answer.
    Peculiar,
    Error(AskError),
    Failed {
        rcode: Rcode,
        errors: Vec<ExtendedError>,
    },
}

pub(crate) struct Tried {
    pub server: Arc<Server>,
    pub why: Why,
}

impl Forwarder {
    /// Must be called on the runtime that is to race upstreams.
    pub fn new(client: Client, settings: &Settings, cache: Cache, counters: Arc<Counters>) -> Self {
        Self {
            client,
            runtime: Handle::current(),
            counters,
            routes: Swap::new(Arc::new(Routes::new(settings))),
            watched: Swap::new(Arc::new(Watched::new(settings))),
            cache,
            hashing: Hashing::default(),
            races: Arc::new(Semaphore::new(MAX_RACES)),
            flights: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
        }
    }

    pub fn routes(&self) -> Arc<Routes> {
        self.routes.get()
    }

    pub fn watched(&self) -> Arc<Watched> {
        self.watched.get()
    }

    pub fn forget(&self, name: &Name) {
        self.cache.forget(|known| known == name.as_wire());
    }

    /// Many at once, in one walk over the cache.
    pub fn forget_all(&self, names: &HashSet<Box<[u8]>>) {
        if !names.is_empty() {
            self.cache.forget(|known| names.contains(known));
        }
    }

    pub fn replace(&self, settings: &Settings, other_routes: bool) {
        self.watched.change(|before| *before = Arc::new(Watched::new(settings)));
        if other_routes {
            self.routes.change(|before| *before = Arc::new(Routes::new(settings)));
            self.cache.clear();
        }
    }

    /// Joins the question that is already under way, or begins one. Without a waiter, to have the answer in the cache.
    pub fn board(&self, key: &Key, hash: u64, waiter: Option<Waiter>) -> Boarded {
        let waits = usize::from(waiter.is_some());
        if self.waiting.fetch_add(waits, Ordering::Relaxed) >= MAX_WAITING {
            self.waiting.fetch_sub(waits, Ordering::Relaxed);
            return Boarded::Full;
        }
        let mut shard = self.cache.shard(hash);
        let mut waiter = waiter;
        if let Some(flight) = shard.flights.find(hash, |flight| flight.key().0 == key.octets()) {
            let Some(joining) = waiter else { return Boarded::Joined };
            match flight.join(joining) {
                Ok(()) => return Boarded::Joined,
                Err(too_late) => waiter = Some(too_late),
            }
        }
        if self.flights.fetch_add(1, Ordering::Relaxed) >= MAX_FLIGHTS {
            self.flights.fetch_sub(1, Ordering::Relaxed);
            self.waiting.fetch_sub(waits, Ordering::Relaxed);
            return Boarded::Full;
        }
        let flight = Arc::new(Flight::new(key.octets(), hash, waiter));
        shard.flights.insert_unique(hash, Arc::clone(&flight), |flight| flight.hash);
        Boarded::New(flight)
    }

    /// The answer is kept, and those who waited for it are handed out; nothing for whoever comes second.
    pub fn land(&self, flight: &Arc<Flight>, answer: Answer) -> Option<(Landed, Vec<Waiter>)> {
        let mut landed = Landed { answer: Arc::new(answer), stale: false };
        {
            let mut shard = self.cache.shard(flight.hash);
            // What was forgotten meanwhile is not brought back.
            let under_way = shard.flights.find_entry(flight.hash, |known| Arc::ptr_eq(known, flight)).ok();
            if under_way.map(hashbrown::hash_table::OccupiedEntry::remove).is_some() {
                let key = flight.key();
                // Never for a watched name: that it cannot be had is what people must see.
                let may_be_stale = landed.answer.rcode == Rcode::SERVFAIL && !self.watched().contains(key.name());
                let stale = may_be_stale.then(|| shard.failed(key.0, flight.hash, Instant::now())).flatten();
                match stale {
                    Some(stale) => landed = Landed { answer: stale, stale: true },
                    None => shard.insert(flight.hash, Arc::clone(&landed.answer)),
                }
            }
        }
        let waiters = flight.land()?;
        self.flights.fetch_sub(1, Ordering::Relaxed);
        self.waiting.fetch_sub(waiters.len(), Ordering::Relaxed);
        Some((landed, waiters))
    }

    /// Lands it and tells everybody who waits, one message at a time.
    fn land_and_tell(&self, flight: &Arc<Flight>, answer: Answer) {
        let Some((landed, waiters)) = self.land(flight, answer) else { return };
        let cap = self.watched().ttl_cap(flight.key().name());
        for waiter in waiters {
            match waiter {
                Waiter::Task(sender) => drop(sender.send(landed.clone())),
                Waiter::Datagram(datagram) => Self::tell(&landed, &datagram, cap),
            }
        }
    }

    /// One client, by one message.
    pub fn tell(landed: &Landed, datagram: &Datagram, cap: u32) {
        let mut out = Vec::new();
        landed.write(&datagram.ask, datagram.ask.udp_limit(), cap, &mut out);
        if let Err(error) = datagram.socket.send_to(&out, datagram.client) {
            tracing::debug!(%error, "an answer could not be sent");
        }
    }

    /// Clients that wait for an upstream.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// For a stream.
    pub async fn fetch(self: &Arc<Self>, key: &Key, hash: u64) -> Landed {
        let (sender, receiver) = oneshot::channel();
        match self.board(key, hash, Some(Waiter::Task(sender))) {
            Boarded::Joined => {}
            Boarded::New(flight) => self.race(flight, None),
            Boarded::Full => return Landed { answer: Arc::new(not_ready("too many queries under way")), stale: false },
        }
        // The sender is dropped only when the server stops.
        receiver.await.unwrap_or_else(|_| Landed { answer: Arc::new(not_ready("stopping")), stale: false })
    }

    /// Asks all upstreams, in a task of its own, so that a client which goes away cancels nobody else's answer.
    pub fn race(self: &Arc<Self>, flight: Arc<Flight>, tried: Option<Tried>) {
        let Ok(permit) = Arc::clone(&self.races).try_acquire_owned() else {
            self.counters.add(Count::Dropped);
            return self.land_and_tell(&flight, not_ready("too many queries under way"));
        };
        let forwarder = Arc::clone(self);
        self.runtime.spawn(async move {
            let answer = forwarder.ask_upstreams(&flight, tried).await;
            forwarder.land_and_tell(&flight, answer);
            drop(permit);
        });
    }

    async fn ask_upstreams(&self, flight: &Flight, tried: Option<Tried>) -> Answer {
        let key = flight.key();
        let Some(name) = Name::from_wire_bytes(key.name()) else { return not_ready("the name cannot be read") };
        let question = Question { name, qtype: key.qtype() };
        let left = TOTAL_TIMEOUT.saturating_sub(flight.started.elapsed());
        let options = AskOptions {
            checking_disabled: key.checking_disabled(),
            dnssec_ok: key.dnssec_ok(),
            authentic_data: true,
            timeout: left,
            ..AskOptions::default()
        };
        let deadline = tokio::time::Instant::now() + left;
        let mut failures = Failures::default();
        let attempts = self.attempts(key, tried, &mut failures).into_iter().map(|(server, via)| {
            let (client, question, options) = (self.client.clone(), question.clone(), options.clone());
            async move { server.ask(&via, &client, &question, &options).await }
        });
        let answer = race::first(attempts, HEDGE, deadline, |attempt: Attempt| {
            let answer = failures.sort(attempt, key);
            if answer.is_none() {
                self.counters.add(Count::UpstreamFailures);
            }
            answer
        })
        .await;
        answer.unwrap_or_else(|| {
            self.counters.add(Count::Unanswered);
            Answer::failure(key, &failures.errors(), FAILURE_LIFETIME, Instant::now())
        })
    }

    /// Whom to ask, and how: what was tried already comes last, over a stream if that is what it lacks, or not at all.
    fn attempts(&self, key: Kept<'_>, tried: Option<Tried>, failures: &mut Failures) -> Vec<(Arc<Server>, Upstream)> {
        let mut attempts: Vec<_> = self
            .routes()
            .in_order(key.name(), Instant::now())
            .into_iter()
            .map(|server| (Arc::clone(&server), server.upstream.clone()))
            .collect();
        let Some(Tried { server, why }) = tried else { return attempts };
        attempts.retain(|(other, _)| !Arc::ptr_eq(other, &server));
        let upstream = server.upstream.clone();
        match why {
            Why::Truncated => attempts.insert(0, (server, Upstream::Tcp(upstream.address()))),
            Why::Peculiar => attempts.insert(0, (server, upstream)),
            Why::Silent => attempts.push((server, upstream)),
            Why::Error(error) => {
                self.counters.add(Count::UpstreamFailures);
                failures.add_error(&upstream, &error);
            }
            Why::Failed { rcode, errors } => {
                self.counters.add(Count::UpstreamFailures);
                failures.add_rcode(&upstream, rcode, errors);
            }
        }
        attempts
    }
}

impl Landed {
    pub fn write(&self, ask: &Ask, limit: usize, cap: u32, out: &mut Vec<u8>) {
        let response = match self.stale {
            true => self.answer.stale_response(),
            false => self.answer.response(Instant::now(), cap),
        };
        ask.write(out, &response, limit);
    }
}

fn not_ready(text: &str) -> Answer {
    let errors = [ExtendedError::new(ExtendedError::NOT_READY, text)];
    Answer::failure(Kept(&[]), &errors, Duration::ZERO, Instant::now())
}

/// What went wrong at each upstream, told to the client as extended errors.
#[derive(Default)]
struct Failures {
    passed_on: Vec<ExtendedError>,
    texts: Vec<String>,
    /// Some upstream could be talked to, or stayed silent: then it is not our network alone.
    reached: bool,
    /// Some upstream said itself that it fails.
    answered: bool,
}

impl Failures {
    /// The answer, if there is one in it.
    fn sort(&mut self, attempt: Attempt, key: Kept<'_>) -> Option<Answer> {
        let reply = match attempt.result {
            Ok(reply) => reply,
            Err(error) => {
                self.add_error(&attempt.upstream, &error);
                return None;
            }
        };
        match Answer::read(&reply.bytes, key, Instant::now()) {
            Ok(answer) => return Some(answer),
            Err(Unusable::Failed { rcode, errors, .. }) => self.add_rcode(&attempt.upstream, rcode, errors),
            Err(unusable) => {
                self.reached = true;
                let what = if unusable == Unusable::Truncated { "truncated" } else { "unreadable" };
                self.texts.push(format!("{}: {what}", attempt.upstream));
            }
        }
        None
    }

    fn add_rcode(&mut self, upstream: &Upstream, rcode: Rcode, errors: Vec<ExtendedError>) {
        self.reached = true;
        self.answered = true;
        self.passed_on.extend(errors);
        self.texts.push(format!("{upstream}: {rcode}"));
    }

    fn add_error(&mut self, upstream: &Upstream, error: &AskError) {
        self.reached |= matches!(error, AskError::Timeout { .. } | AskError::Truncated { .. });
        self.texts.push(format!("{upstream}: {error}"));
    }

    fn errors(self) -> Vec<ExtendedError> {
        // No upstream at all answered before the deadline when there are no texts.
        let code = match self.reached || self.texts.is_empty() {
            // Why it fails is its to say: that no authority can be reached is not ours to add.
            _ if self.answered => ExtendedError::OTHER,
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
