//! From a client's octets to ours: everything that can be decided at once is; only what must be asked upstream waits.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use domain::base::iana::Class;

use super::cache::Key;
use super::config::Settings;
use super::forward::Forwarder;
use super::query::{Query, Reject, Response};
use super::special::Special;
use super::stats::{Counters, OverrideUse, Stats};
use super::zone::Zone;
use crate::message::MAX_MESSAGE;
use crate::types::{ExtendedError, Rcode, RecordType};
use crate::wire::{QUESTION_POINTER, push_record};

/// RFC 8482 section 4.2; the value is the one of its example.
const ANY_TTL: u32 = 3_789;
const ANY_RDATA: &[u8] = b"\x07RFC8482\x00";

/// What every socket shares.
pub(crate) struct Answerer {
    settings: RwLock<Arc<Settings>>,
    zone: RwLock<Arc<Zone>>,
    pub forwarder: Arc<Forwarder>,
    pub counters: Arc<Counters>,
}

/// What to do about one message.
pub(crate) enum Action {
    Drop,
    Reply(Vec<u8>),
    Forward(Box<Query>),
}

/// How long an answer may be.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    Datagram,
    Stream,
}

impl Limit {
    fn octets(self, query: &Query) -> usize {
        match self {
            Self::Datagram => query.udp_limit(),
            Self::Stream => MAX_MESSAGE,
        }
    }
}

impl Answerer {
    pub fn new(settings: Settings, zone: Zone, forwarder: Arc<Forwarder>, counters: Arc<Counters>) -> Self {
        Self { settings: RwLock::new(Arc::new(settings)), zone: RwLock::new(Arc::new(zone)), forwarder, counters }
    }

    /// Never waits.
    pub fn decide(&self, bytes: &[u8], client: IpAddr, limit: Limit) -> Action {
        self.count(|counters| &counters.queries);
        let settings = self.settings();
        let allowed = settings.allows(client);
        let query = match Query::parse(bytes) {
            Ok(query) => query,
            Err(Reject::Answer(answer)) if allowed => {
                self.count(|counters| &counters.malformed);
                return Action::Reply(answer);
            }
            Err(_) => {
                self.count(|counters| &counters.malformed);
                return Action::Drop;
            }
        };
        let reply = |response: &Response<'_>| Action::Reply(query.answer(response, limit.octets(&query)));
        if !allowed {
            return self.refuse(reply, None);
        }
        if query.edns.is_some_and(|edns| edns.version > 0) {
            return reply(&Response::empty(Rcode::BADVERS));
        }
        // CHAOS (`version.bind`) and the rest are nobody's business.
        if query.class != Class::IN {
            return self.refuse(reply, None);
        }
        match query.qtype {
            RecordType::ANY => return reply(&any(&any_body())),
            qtype if is_meta(qtype) => {
                return self.refuse(reply, Some(ExtendedError::NOT_SUPPORTED));
            }
            _ => {}
        }
        let zone = self.zone();
        if let Some(response) = zone.answer(&query.name, query.qtype) {
            self.count(|counters| &counters.overridden);
            return reply(&response);
        }
        if !zone.holds(&query.name)
            && let Some(special) = Special::answer(&query.name, query.qtype, &settings)
        {
            self.count(|counters| &counters.special);
            return reply(&special.response());
        }
        let cap = settings.ttl_cap(&query.name);
        let now = Instant::now();
        if let Some(answer) = self.forwarder.cached(&Key::of(&query)).filter(|answer| !answer.is_older_than(cap, now)) {
            self.count(|counters| &counters.hits);
            return answer.respond(now, cap, reply);
        }
        if !query.recursion_desired {
            return self.refuse(reply, Some(ExtendedError::NOT_AUTHORITATIVE));
        }
        self.count(|counters| &counters.misses);
        Action::Forward(Box::new(query))
    }

    pub async fn forward(&self, query: &Query, limit: Limit) -> Vec<u8> {
        let answer = self.forwarder.fetch(Key::of(query)).await;
        let cap = self.settings().ttl_cap(&query.name);
        answer.respond(Instant::now(), cap, |response| query.answer(response, limit.octets(query)))
    }

    /// For a query that there is no room for.
    pub fn turn_away(&self, query: &Query, limit: Limit) -> Vec<u8> {
        self.count(|counters| &counters.dropped);
        let errors = [ExtendedError::new(ExtendedError::NOT_READY, "too many queries under way")];
        query.answer(&Response { errors: &errors, ..Response::empty(Rcode::SERVFAIL) }, limit.octets(query))
    }

    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn zone(&self) -> Arc<Zone> {
        Arc::clone(&self.zone.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn replace_zone(&self, zone: Zone) {
        *self.zone.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(zone);
    }

    pub fn replace_settings(&self, settings: Settings) {
        if settings.upstreams != self.settings().upstreams {
            self.forwarder.replace_upstreams(&settings.upstreams);
        }
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    pub fn stats(&self) -> Stats {
        let usage = |(id, asked): (&str, &super::zone::Asked)| OverrideUse {
            id: id.to_owned(),
            answers: asked.count(),
            last_asked: asked.last(),
        };
        let mut overrides: Vec<_> = self.zone().usage().map(usage).collect();
        overrides.sort_by(|one, other| one.id.cmp(&other.id));
        self.counters.snapshot(self.forwarder.cache_len(), overrides)
    }

    fn refuse(&self, reply: impl Fn(&Response<'_>) -> Action, error: Option<u16>) -> Action {
        self.count(|counters| &counters.refused);
        let errors: Vec<_> = error.map(|code| ExtendedError::new(code, "")).into_iter().collect();
        reply(&Response { errors: &errors, ..Response::empty(Rcode::REFUSED) })
    }

    fn count(&self, counter: impl Fn(&Counters) -> &AtomicU64) {
        counter(&self.counters).fetch_add(1, Ordering::Relaxed);
    }
}

/// Transfers, TSIG and the other types that only exist in questions (RFC 6895 section 3.1), and the reserved zero.
fn is_meta(qtype: RecordType) -> bool {
    matches!(qtype.0, 0 | 41 | 128..=254)
}

fn any_body() -> Vec<u8> {
    let mut body = Vec::new();
    push_record(&mut body, QUESTION_POINTER, RecordType::HINFO, ANY_TTL, ANY_RDATA);
    body
}

fn any(body: &[u8]) -> Response<'_> {
    Response { answers: 1, body, ..Response::empty(Rcode::NOERROR) }
}
