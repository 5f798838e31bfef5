//! ukai's own DNS server as the zone provider: it serves an override or forwards, and outlives the controller.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ukai_core::diagnose::evidence::Rcode;
use ukai_core::effect::ServedOverride;
use ukai_core::input::ServedNow;
use ukai_lab::scenario::Provider;

use crate::world::zone::{Kind, Reply};
use crate::world::{Ms, World, timestamp};

/// A change, and one that takes long; a server that does not answer is tried three times.
const CHANGE_MS: Ms = 5;
const SLOW_MS: Ms = 5_000;
const DOWN_MS: Ms = 3_000;
/// No answer for a watched name is kept for longer, by a client or by the server.
const WATCHED_TTL_MAX_S: u32 = 10;
const DOWN: &str = "the DNS server does not answer";

#[derive(Debug, Default)]
pub struct Embedded {
    overrides: BTreeMap<String, ServedOverride>,
    cache: BTreeMap<(String, Kind), (Reply, Ms)>,
    /// Ended by itself, because the lease was over; told once.
    expired: Vec<String>,
}

impl Embedded {
    /// What the application is answered. None: nothing.
    pub fn answer(&mut self, world: &mut World, kind: Kind, now: Ms) -> Option<Reply> {
        self.expire(now);
        let host = world.layout.host.clone();
        // Every other type is the world's, an override or not.
        let over = self.overrides.get(&host).filter(|_| !Kind::BESIDE.contains(&kind));
        if let Some(over) = over {
            let holds = |address: &&IpAddr| match kind {
                Kind::A => address.is_ipv4(),
                Kind::Aaaa => address.is_ipv6(),
                _ => false,
            };
            let addresses: Vec<IpAddr> = served(world, over).iter().filter(holds).copied().collect();
            let ttl = (!addresses.is_empty()).then_some(over.ttl_s);
            return Some(Reply {
                records: addresses.len(),
                addresses,
                ttl,
                recursion: true,
                ..Reply::code(Rcode::Noerror)
            });
        }
        let held = |reply: Reply| {
            let ttl = reply.lifetime().min(WATCHED_TTL_MAX_S);
            reply.with_ttl(ttl)
        };
        if let Some((reply, until)) = self.cache.get(&(host.clone(), kind))
            && now < *until
        {
            let left = u32::try_from((until - now).div_ceil(1000)).unwrap_or(0);
            return Some(reply.clone().with_ttl(left));
        }
        let reply = world.our_resolver_whole(kind, now).unwrap_or_else(|| Reply::code(Rcode::Servfail));
        let reply = held(reply);
        if reply.rcode != Rcode::Servfail && reply.lifetime() > 0 {
            self.cache.insert((host, kind), (reply.clone(), now + u64::from(reply.lifetime()) * 1000));
        }
        Some(reply)
    }

    /// Serves exactly this, if what it is to replace is what stands. How it went, and when that is known.
    pub fn apply(&mut self, world: &World, over: &ServedOverride, now: Ms) -> (Result<(), String>, Ms) {
        self.expire(now);
        let took = match world.state().provider {
            Provider::Down => return (Err(DOWN.to_owned()), DOWN_MS),
            Provider::LosesUpdate => return (Ok(()), CHANGE_MS),
            Provider::Slow => SLOW_MS,
            Provider::Ok | Provider::ForeignEdit(_) => CHANGE_MS,
        };
        let standing = self.overrides.get(&over.host);
        if standing == Some(over) {
            return (Ok(()), took);
        }
        if standing.map(|standing| standing.generation) != over.replaces_generation {
            return (Err(format!("another override stands at {}", over.host)), took);
        }
        self.overrides.insert(over.host.clone(), over.clone());
        self.forget(&over.host);
        (Ok(()), took)
    }

    pub fn withdraw(&mut self, world: &World, id: &str) -> (Result<(), String>, Ms) {
        let took = match world.state().provider {
            Provider::Down => return (Err(DOWN.to_owned()), DOWN_MS),
            Provider::Slow => SLOW_MS,
            _ => CHANGE_MS,
        };
        let host = self.overrides.values().find(|over| over.id == id).map(|over| over.host.clone());
        if let Some(host) = host {
            self.overrides.remove(&host);
            self.forget(&host);
        }
        (Ok(()), took)
    }

    fn forget(&mut self, host: &str) {
        self.cache.retain(|(of, _), _| of != host);
    }

    fn expire(&mut self, now: Ms) {
        let now = timestamp(now);
        let over: Vec<ServedOverride> =
            self.overrides.values().filter(|over| over.expires_at <= now).cloned().collect();
        for over in over {
            self.overrides.remove(&over.host);
            self.forget(&over.host);
            self.expired.push(over.id);
        }
    }

    /// Ids whose lease ran out since this was last asked.
    pub fn take_expired(&mut self, now: Ms) -> Vec<String> {
        self.expire(now);
        std::mem::take(&mut self.expired)
    }

    pub fn is_empty(&self) -> bool {
        self.overrides.is_empty()
    }

    pub fn serving(&self, worlds: &[World]) -> Vec<ServedNow> {
        let of = |over: &ServedOverride| {
            let world = worlds.iter().find(|world| world.layout.host == over.host);
            ServedNow {
                id: over.id.clone(),
                host: over.host.clone(),
                generation: over.generation,
                addresses: world.map_or_else(|| over.addresses.clone(), |world| served(world, over)),
                expires_at: over.expires_at,
            }
        };
        self.overrides.values().map(of).collect()
    }
}

/// What stands there: ours, unless somebody else has edited it.
fn served(world: &World, over: &ServedOverride) -> BTreeSet<IpAddr> {
    match &world.state().provider {
        Provider::ForeignEdit(labels) => {
            labels.iter().filter_map(|label| world.layout.hosts.get(label)).copied().collect()
        }
        _ => over.addresses.clone(),
    }
}
