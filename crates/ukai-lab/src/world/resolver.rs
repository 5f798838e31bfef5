//! Recursive resolvers as the application's network and the world outside have them, honest or lying.
//!
//! An honest one asks the delegated servers in the state in which the scenario has put them, keeps answers for their TTL
//! and counts it down. Each lie is told about the peer's names only, unless its name ends in `-all` or it refuses.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::Live;
use super::authority::{self, Reply};
use super::peer_zone::{self, MAX_CHAIN, chained};
use super::records::{self, STATIC_TTL, Subnet, Zone, soa, text};
use crate::scenario::{Egress, Parent, ResolverMode, ResolverSetup, STALE_TTL, ServerMode, Signed};

/// Entries that a resolver keeps; when it is full it forgets everything, which a drill never sees.
const MAX_ENTRIES: usize = 10_000;
/// RFC 8914: Stale Answer, DNSSEC Bogus.
const EDE_STALE: u16 = 3;
const EDE_BOGUS: u16 = 6;

#[derive(Debug, Default)]
pub(super) struct Resolver {
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    cache: HashMap<(String, RecordType), Entry>,
    /// What the world said when the resolver stopped being honest.
    known: Option<Known>,
}

#[derive(Debug, Clone)]
struct Known {
    zone: Zone,
    since: Instant,
}

#[derive(Debug, Clone)]
struct Entry {
    outcome: Outcome,
    since: Instant,
}

/// What recursion came to.
#[derive(Debug, Clone, Default)]
struct Outcome {
    code: ResponseCode,
    answers: Vec<Record>,
    soa: Option<Record>,
    signed: bool,
}

impl Outcome {
    fn ttl(&self) -> u32 {
        self.answers.iter().chain(&self.soa).map(|record| record.ttl).min().unwrap_or(0)
    }

    fn code(code: ResponseCode) -> Self {
        Self { code, ..Self::default() }
    }
}

/// An answer with the extended error that explains it.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    pub reply: Reply,
    pub extended_error: Option<u16>,
    pub authentic: bool,
}

impl Resolver {
    /// Called when the scenario changes the mode, with the world as it was just before.
    pub fn switch(&self, before: &Zone, mode: &ResolverMode) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match mode {
            ResolverMode::Stale
            | ResolverMode::TtlClamp(_)
            | ResolverMode::ServeStale
            | ResolverMode::NegativeCached => {
                memory.cache.retain(|_, entry| entry.remaining(now, entry.outcome.ttl()).is_some());
                if memory.known.is_none() {
                    memory.known = Some(Known { zone: before.clone(), since: now });
                }
            }
            _ => *memory = Memory::default(),
        }
    }

    /// `None` where the resolver says nothing at all.
    pub fn answer(
        &self,
        live: &Live,
        setup: &ResolverSetup,
        ours: bool,
        request: &Message,
        query: &Query,
    ) -> Option<Resolved> {
        let zone = live.zone();
        let name = text(query.name());
        match setup.mode {
            ResolverMode::TimeoutAll => return None,
            ResolverMode::ServfailAll => return Some(Resolved::code(ResponseCode::ServFail)),
            ResolverMode::Refuse => return Some(Resolved::code(ResponseCode::Refused)),
            _ => {}
        }
        let subnet = if ours { authority::subnet(request) } else { Subnet::Others };
        let ask = Ask { resolver: self, live, zone: &zone, ours, subnet, query };
        if live.names.zone_of(&name).is_none() {
            return Some(ask.honestly());
        }
        Some(ask.about_peer(&setup.mode, request.metadata.checking_disabled))
    }
}

impl Resolved {
    fn code(code: ResponseCode) -> Self {
        Self { reply: Reply::code(code), ..Self::default() }
    }

    fn outcome(outcome: Outcome) -> Self {
        let reply = Reply {
            code: outcome.code,
            answers: outcome.answers,
            authorities: outcome.soa.into_iter().collect(),
            ..Reply::default()
        };
        Self { reply, authentic: outcome.signed, extended_error: None }
    }

    fn with_ttl(mut self, ttl: u32) -> Self {
        for record in self.reply.answers.iter_mut().chain(&mut self.reply.authorities) {
            record.ttl = ttl;
        }
        self
    }
}

impl Entry {
    /// Seconds that the entry still holds when it may be kept for `lifetime`.
    fn remaining(&self, now: Instant, lifetime: u32) -> Option<u32> {
        let age = now.saturating_duration_since(self.since);
        let left = Duration::from_secs(lifetime.into()).checked_sub(age).filter(|left| !left.is_zero())?;
        // Rounded up: a fresh answer has its whole TTL, and one with part of a second left is not yet zero.
        Some(u32::try_from(left.as_millis().div_ceil(1_000)).unwrap_or(lifetime))
    }
}

/// One query to one resolver.
struct Ask<'a> {
    resolver: &'a Resolver,
    live: &'a Live,
    zone: &'a Zone,
    ours: bool,
    subnet: Subnet,
    query: &'a Query,
}

impl Ask<'_> {
    fn about_peer(&self, mode: &ResolverMode, checking_disabled: bool) -> Resolved {
        match mode {
            ResolverMode::Stale => self.stale(None),
            ResolverMode::ServeStale => self.stale(Some(STALE_TTL)),
            ResolverMode::TtlClamp(seconds) => self.clamped(*seconds),
            ResolverMode::NegativeCached => self.negative(),
            ResolverMode::Nxdomain => self.nxdomain(None),
            ResolverMode::Servfail => Resolved::code(ResponseCode::ServFail),
            ResolverMode::Hijack(label) => self.substitute(self.live.layout.hosts.get(label).copied()),
            ResolverMode::Private(address) => self.substitute(Some(*address)),
            ResolverMode::Validating => self.validated(checking_disabled),
            ResolverMode::Honest | ResolverMode::ServfailAll | ResolverMode::TimeoutAll | ResolverMode::Refuse => {
                self.unvalidated()
            }
        }
    }

    fn honestly(&self) -> Resolved {
        self.cached(0, self.zone)
    }

    /// Only a validating resolver sets the AD bit.
    fn unvalidated(&self) -> Resolved {
        Resolved { authentic: false, ..self.honestly() }
    }

    /// From the cache, counting down; answers are kept at least `minimum` seconds.
    fn cached(&self, minimum: u32, zone: &Zone) -> Resolved {
        let key = self.key();
        let now = Instant::now();
        let mut memory = self.resolver.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = memory.cache.get(&key)
            && let Some(left) = entry.remaining(now, entry.outcome.ttl().max(minimum))
        {
            return Resolved::outcome(entry.outcome.clone()).with_ttl(left);
        }
        let outcome = self.recurse(zone);
        let lifetime = outcome.ttl().max(minimum);
        if lifetime > 0 && outcome.code != ResponseCode::ServFail {
            if memory.cache.len() >= MAX_ENTRIES {
                memory.cache.clear();
            }
            memory.cache.insert(key, Entry { outcome: outcome.clone(), since: now });
        }
        let fresh = Resolved::outcome(outcome);
        if minimum > 0 { fresh.with_ttl(lifetime) } else { fresh }
    }

    /// Goes on answering what it knew: at its full TTL each time, or marked as stale.
    fn stale(&self, ttl: Option<u32>) -> Resolved {
        let (kept, known) = {
            let memory = self.resolver.memory.lock().unwrap_or_else(PoisonError::into_inner);
            (memory.cache.get(&self.key()).cloned(), memory.known.clone())
        };
        let outcome = match (kept, known) {
            (Some(entry), _) => entry.outcome,
            (None, Some(known)) => self.recurse(&known.zone),
            (None, None) => self.recurse(self.zone),
        };
        let resolved = Resolved { authentic: false, ..Resolved::outcome(outcome) };
        match ttl {
            Some(ttl) => Resolved { extended_error: Some(EDE_STALE), ..resolved.with_ttl(ttl) },
            None => resolved,
        }
    }

    fn clamped(&self, minimum: u32) -> Resolved {
        let known = self.known().filter(|known| known.since.elapsed() < Duration::from_secs(minimum.into()));
        let zone = known.map_or_else(|| self.zone.clone(), |known| known.zone);
        Resolved { authentic: false, ..self.cached(minimum, &zone) }
    }

    /// A negative answer from the cache, until its time has run out; from then on honest.
    fn negative(&self) -> Resolved {
        let Some(known) = self.known() else {
            return self.nxdomain(None);
        };
        let name = text(self.query.name());
        let state = self.live.names.state(self.zone, &name);
        let lifetime = state.unwrap_or(&self.zone.state.authoritative).negative_ttl;
        let entry = Entry { outcome: Outcome::default(), since: known.since };
        match entry.remaining(Instant::now(), lifetime) {
            Some(left) => self.nxdomain(Some(left)),
            None => self.unvalidated(),
        }
    }

    fn nxdomain(&self, ttl: Option<u32>) -> Resolved {
        let home = &self.live.names.home;
        let negative_ttl = self.zone.state.authoritative.negative_ttl;
        let soa = soa(home, &self.live.server_host("ns-1"), self.zone.serial, negative_ttl);
        let resolved = Resolved::outcome(Outcome { soa: Some(soa), ..Outcome::code(ResponseCode::NXDomain) });
        resolved.with_ttl(ttl.unwrap_or(negative_ttl))
    }

    /// Another address in place of the watched name's own.
    fn substitute(&self, address: Option<IpAddr>) -> Resolved {
        if text(self.query.name()) != self.live.names.host {
            return self.unvalidated();
        }
        let data = match (address, self.query.query_type()) {
            (Some(IpAddr::V4(four)), RecordType::A) => Some(RData::A(A(four))),
            (Some(IpAddr::V6(six)), RecordType::AAAA) => Some(RData::AAAA(AAAA(six))),
            _ => None,
        };
        let ttl = self.zone.state.authoritative.ttl;
        let answers = data.map(|data| Record::from_rdata(self.query.name().clone(), ttl, data));
        Resolved::outcome(Outcome { answers: answers.into_iter().collect(), ..Outcome::default() })
    }

    fn validated(&self, checking_disabled: bool) -> Resolved {
        let bogus = self.zone.state.authoritative.signed() == Signed::Bogus;
        let signed_zone = records::within(&text(self.query.name()), &self.live.names.home);
        if bogus && signed_zone && !checking_disabled {
            return Resolved { extended_error: Some(EDE_BOGUS), ..Resolved::code(ResponseCode::ServFail) };
        }
        self.honestly()
    }

    fn known(&self) -> Option<Known> {
        self.resolver.memory.lock().unwrap_or_else(PoisonError::into_inner).known.clone()
    }

    fn key(&self) -> (String, RecordType) {
        (text(self.query.name()), self.query.query_type())
    }

    /// Asks the delegated servers, following CNAMEs across zones.
    fn recurse(&self, zone: &Zone) -> Outcome {
        if self.ours && self.zone.state.egress == Egress::Cut {
            return Outcome::code(ResponseCode::ServFail);
        }
        let mut outcome = Outcome {
            signed: zone.state.authoritative.signed() == Signed::Valid
                && records::within(&text(self.query.name()), &self.live.names.home),
            ..Outcome::default()
        };
        let mut owner = self.query.name().clone();
        for _ in 0..MAX_CHAIN {
            let reply = self.ask_servers(zone, &owner);
            outcome.code = reply.code;
            outcome.soa = reply.authorities.into_iter().find(|record| record.record_type() == RecordType::SOA);
            outcome.answers.extend(reply.answers);
            match chained(&outcome.answers, self.query.query_type()) {
                Some(target) if outcome.code == ResponseCode::NoError && outcome.soa.is_none() => owner = target,
                _ => break,
            }
        }
        outcome
    }

    fn ask_servers(&self, zone: &Zone, owner: &Name) -> Reply {
        let query = Query::query(owner.clone(), self.query.query_type());
        let name = text(owner);
        let Some(apex) = self.live.names.zone_of(&name) else {
            return self.ask_elsewhere(zone, &query);
        };
        let home = apex == self.live.names.home;
        if home && zone.state.parent == Parent::Nxdomain {
            return self.absent(&name);
        }
        if query.query_type() == RecordType::DS && name == apex {
            let signed = if home { zone.state.authoritative.signed() } else { Signed::No };
            let signer = (signed != Signed::No).then(|| records::delegation_signer(apex, signed));
            return Reply { answers: signer.into_iter().collect(), ..Reply::default() };
        }
        let mut servers = zone.state.delegation();
        fastrand::shuffle(&mut servers);
        servers
            .iter()
            .filter(|server| *zone.state.server(server) != ServerMode::NoUdp)
            .filter_map(|server| peer_zone::reply(self.live, zone, server, &query, self.subnet))
            .find(|reply| reply.authoritative)
            .unwrap_or_else(|| Reply::code(ResponseCode::ServFail))
    }

    fn ask_elsewhere(&self, zone: &Zone, query: &Query) -> Reply {
        let name = text(query.name());
        let exists = records::static_zone(&name)
            .is_some_and(|child| records::static_address(&self.live.layout, &zone.state, child).is_some());
        if exists { authority::elsewhere(self.live, zone, query) } else { self.absent(&name) }
    }

    /// As the root or the top-level domain denies it.
    fn absent(&self, name: &str) -> Reply {
        let tld = records::last_label(name);
        let parent = if self.live.names.tlds().contains(tld) { tld } else { "" };
        let soa = soa(parent, "a.root-servers.lab", 1, STATIC_TTL);
        Reply { code: ResponseCode::NXDomain, authorities: vec![soa], ..Reply::default() }
    }
}
