//! Recursive resolvers, ours and the independent ones, honest or lying, as the lab has them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ukai_core::diagnose::evidence::{Rcode, Soa};
use ukai_lab::scenario::{Egress, Parent, ResolverMode, ServerMode, Signed};

use super::zone::{Kind, Reply, STATIC_TTL, Subnet, Zone};
use super::{Ms, World};

/// TTL of a stale answer (RFC 8767, 4).
const STALE_TTL: u32 = 30;
/// Extended errors (RFC 8914): Stale Answer, DNSSEC Bogus.
const EDE_STALE: u16 = 3;
const EDE_BOGUS: u16 = 6;

/// What one resolver remembers.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    cache: BTreeMap<Kind, (Reply, Ms)>,
    /// What the world said when it stopped being honest.
    known: Option<(Arc<Zone>, Ms)>,
}

impl Memory {
    /// Called when its mode changes, with the world as it was just before.
    pub fn switch(&mut self, before: &Arc<Zone>, mode: &ResolverMode, now: Ms) {
        match mode {
            ResolverMode::Stale
            | ResolverMode::TtlClamp(_)
            | ResolverMode::ServeStale
            | ResolverMode::NegativeCached => {
                self.cache.retain(|_, (reply, since)| left(*since, reply.lifetime(), now).is_some());
                self.known.get_or_insert_with(|| (before.clone(), now));
            }
            _ => *self = Memory::default(),
        }
    }
}

/// Seconds, rounded up, that what was learned then still holds.
fn left(since: Ms, lifetime: u32, now: Ms) -> Option<u32> {
    let left = (u64::from(lifetime) * 1000).checked_sub(now.saturating_sub(since)).filter(|left| *left > 0)?;
    u32::try_from(left.div_ceil(1000)).ok()
}

/// One question to a resolver: 0 is ours.
#[derive(Debug, Clone, Copy)]
struct Ask {
    number: usize,
    kind: Kind,
    subnet: Subnet,
    now: Ms,
}

impl World {
    /// What a resolver says of the name. None: nothing.
    pub fn resolver(&mut self, number: usize, kind: Kind, unchecked: bool, subnet: Subnet, now: Ms) -> Option<Reply> {
        let mode = self.setup(number).mode;
        let ask = Ask { number, kind, subnet, now };
        let reply = match mode {
            ResolverMode::TimeoutAll => return None,
            ResolverMode::ServfailAll | ResolverMode::Servfail => Reply::code(Rcode::Servfail),
            ResolverMode::Refuse => Reply::code(Rcode::Refused),
            ResolverMode::Stale => self.stale(ask, None),
            ResolverMode::ServeStale => self.stale(ask, Some(STALE_TTL)),
            ResolverMode::TtlClamp(minimum) => self.clamped(ask, minimum),
            ResolverMode::NegativeCached => self.negative(ask),
            ResolverMode::Nxdomain => self.nxdomain(None),
            ResolverMode::Hijack(label) => {
                let address = self.layout.hosts.get(&label).copied();
                self.substitute(kind, address)
            }
            ResolverMode::Private(address) => self.substitute(kind, Some(address)),
            ResolverMode::Validating => {
                if self.zone.state.authoritative.signed() == Signed::Bogus && !unchecked {
                    Reply { extended_error: Some(EDE_BOGUS), ..Reply::code(Rcode::Servfail) }
                } else {
                    let authentic = self.zone.state.authoritative.signed() == Signed::Valid;
                    Reply { authentic, ..self.honest(ask) }
                }
            }
            ResolverMode::Honest => self.honest(ask),
        };
        Some(Reply { authoritative: false, recursion: true, ..reply })
    }

    /// Every address that the zone gives us now.
    pub fn named(&mut self) -> BTreeSet<IpAddr> {
        let zone = self.zone.clone();
        let mut told = |kind| self.told(&zone, None, kind, Subnet::Us).addresses;
        Kind::FAMILIES.into_iter().flat_map(&mut told).collect()
    }

    fn memory(&mut self, ask: Ask) -> &mut Memory {
        &mut self.memories[ask.number]
    }

    fn honest(&mut self, ask: Ask) -> Reply {
        let zone = self.zone.clone();
        self.cached(ask, 0, &zone)
    }

    /// From the cache, counting down; kept at least `minimum` seconds.
    fn cached(&mut self, ask: Ask, minimum: u32, zone: &Zone) -> Reply {
        if let Some((reply, since)) = self.memory(ask).cache.get(&ask.kind)
            && let Some(left) = left(*since, reply.lifetime().max(minimum), ask.now)
        {
            return reply.clone().with_ttl(left);
        }
        let reply = self.recurse(ask, zone);
        let lifetime = reply.lifetime().max(minimum);
        if lifetime > 0 && reply.rcode != Rcode::Servfail {
            self.memory(ask).cache.insert(ask.kind, (reply.clone(), ask.now));
        }
        if minimum > 0 { reply.with_ttl(lifetime) } else { reply }
    }

    /// Goes on answering what it knew: at its full TTL each time, or marked as stale.
    fn stale(&mut self, ask: Ask, ttl: Option<u32>) -> Reply {
        let memory = self.memory(ask);
        let kept = memory.cache.get(&ask.kind).map(|(reply, _)| reply.clone());
        let known = memory.known.clone().map(|(zone, _)| zone);
        let reply = match (kept, known) {
            (Some(reply), _) => reply,
            (None, Some(zone)) => self.recurse(ask, &zone),
            (None, None) => {
                let zone = self.zone.clone();
                self.recurse(ask, &zone)
            }
        };
        match ttl {
            Some(ttl) => Reply { extended_error: Some(EDE_STALE), ..reply.with_ttl(ttl) },
            None => reply,
        }
    }

    fn clamped(&mut self, ask: Ask, minimum: u32) -> Reply {
        let known = self.memory(ask).known.clone();
        let held = known.filter(|(_, since)| ask.now.saturating_sub(*since) < u64::from(minimum) * 1000);
        let zone = held.map_or_else(|| self.zone.clone(), |(zone, _)| zone);
        self.cached(ask, minimum, &zone)
    }

    /// A denial from the cache, until its time has run out; from then on honest.
    fn negative(&mut self, ask: Ask) -> Reply {
        let Some((_, since)) = self.memory(ask).known.clone() else { return self.nxdomain(None) };
        match left(since, self.zone.state.authoritative.negative_ttl, ask.now) {
            Some(left) => self.nxdomain(Some(left)),
            None => self.honest(ask),
        }
    }

    fn nxdomain(&self, ttl: Option<u32>) -> Reply {
        let negative_ttl = ttl.unwrap_or(self.zone.state.authoritative.negative_ttl);
        Reply { soa: Some(Soa { serial: self.zone.serial, negative_ttl }), ..Reply::code(Rcode::Nxdomain) }
    }

    /// Another address in place of the name's own.
    fn substitute(&self, kind: Kind, address: Option<IpAddr>) -> Reply {
        let addresses: Vec<IpAddr> = address
            .filter(|address| matches!((kind, address), (Kind::A, IpAddr::V4(_)) | (Kind::Aaaa, IpAddr::V6(_))))
            .into_iter()
            .collect();
        let ttl = (!addresses.is_empty()).then_some(self.zone.state.authoritative.ttl);
        Reply { records: addresses.len(), addresses, ttl, ..Reply::code(Rcode::Noerror) }
    }

    /// Asks the delegated servers.
    fn recurse(&mut self, ask: Ask, zone: &Zone) -> Reply {
        if ask.number == 0 && self.zone.state.egress == Egress::Cut {
            return Reply::code(Rcode::Servfail);
        }
        let denied = Soa { serial: 1, negative_ttl: STATIC_TTL };
        if zone.state.parent == Parent::Nxdomain {
            return Reply { soa: Some(denied), ..Reply::code(Rcode::Nxdomain) };
        }
        let subnet = if ask.number == 0 { ask.subnet } else { Subnet::Others };
        let mut servers = zone.state.delegation();
        self.rng.shuffle(&mut servers);
        for server in &servers {
            if *zone.state.server(server) == ServerMode::NoUdp {
                continue;
            }
            let Some(reply) = self.authority(zone, server, ask.kind, subnet).filter(|reply| reply.authoritative) else {
                continue;
            };
            let leads_out = reply.addresses.is_empty()
                && reply.rcode == Rcode::Noerror
                && reply.chain.last().is_some_and(|target| self.layout.zone_of(target).is_none());
            return match leads_out {
                // Whoever is asked of the target denies it: no scenario gives other zones.
                true => Reply { rcode: Rcode::Nxdomain, soa: Some(denied), ..reply },
                false => reply,
            };
        }
        Reply::code(Rcode::Servfail)
    }
}
