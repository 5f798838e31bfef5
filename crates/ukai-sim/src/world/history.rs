//! A week in which everything was well, as the lab teaches it to the daemon before a drill.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use ukai_core::diagnose::evidence::Source;
use ukai_core::diagnose::history::{History, ProvenIdentity, SeenAnswer, SeenDelegation};
use ukai_lab::scenario::{NameState, Records};

use super::host::{PEER_ISSUER, PEER_KEY};
use super::zone::{MAX_CHAIN, Subnet};
use super::{World, timestamp};

const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How far back a rotating set is found in other shapes, and in how many: more than make a name steered.
const ROTATION: SignedDuration = SignedDuration::from_hours(24);
const ROTATION_STEPS: i32 = 6;

impl World {
    pub fn history(&self) -> History {
        let until = timestamp(0);
        let since = until.checked_sub(WEEK).unwrap_or(until);
        let addresses: BTreeSet<IpAddr> =
            [Subnet::Us, Subnet::Others].into_iter().flat_map(|subnet| self.seen(subnet)).collect();
        let known = ProvenIdentity { key_sha256: PEER_KEY.to_owned(), issuer: PEER_ISSUER.to_owned(), addresses };
        let servers = self.scenario.own_servers();
        let servers: BTreeSet<String> = servers.iter().map(|server| self.layout.server_host(server)).collect();
        let unauthenticated: BTreeMap<String, u16> = match self.scenario.peer.auth {
            true => self.endpoints().into_iter().map(|endpoint| (endpoint, 401)).collect(),
            false => BTreeMap::new(),
        };
        History {
            since: Some(since),
            identities: if self.scenario.peer.tls { vec![known] } else { Vec::new() },
            answers: self.answers(since, until),
            delegation: Some(SeenDelegation {
                zone: self.layout.home.clone(),
                parent_ns: servers.clone(),
                child_ns: servers,
            }),
            next_delegation: None,
            controls: self.controls().into_iter().collect(),
            control_issuers: BTreeSet::new(),
            unauthenticated,
            steered: None,
        }
    }

    /// Every address that the name held in peace, for clients of that subnet.
    fn seen(&self, subnet: Subnet) -> BTreeSet<IpAddr> {
        let Records::Table(table) = &self.settled().records else { return BTreeSet::new() };
        let labels: Vec<&String> = match (&table.by_subnet, subnet) {
            (Some(split), Subnet::Us) => split.us.iter().collect(),
            (Some(split), Subnet::Others) => split.others.iter().collect(),
            (None, _) => table.a.iter().chain(&table.aaaa).collect(),
        };
        labels.into_iter().filter_map(|label| self.layout.hosts.get(label)).copied().collect()
    }

    /// What the name held before the run, at the end of its aliases.
    fn settled(&self) -> NameState {
        let state = self.scenario.initial_state();
        let mut held = state.authoritative.clone();
        for _ in 0..MAX_CHAIN {
            let target = match &held.records {
                Records::Table(table) => table.cname.clone(),
                Records::Nxdomain => None,
            };
            match target.and_then(|target| state.names.get(&target).cloned()) {
                Some(next) => held = next,
                None => break,
            }
        }
        held
    }

    fn answers(&self, since: Timestamp, until: Timestamp) -> Vec<SeenAnswer> {
        let held = self.settled();
        let all: Vec<IpAddr> = self.seen(Subnet::Us).into_iter().collect();
        let rotates = matches!(&held.records, Records::Table(table) if table.rotate) && all.len() > 1;
        let sightings = if rotates { rotation(&all, until) } else { vec![(all.into_iter().collect(), since, until)] };
        let sources = [Source::Authority, Source::OurResolver];
        let of = |source| {
            let ttl = held.ttl;
            sightings.iter().map(move |(addresses, first_seen, last_seen): &(BTreeSet<IpAddr>, _, _)| SeenAnswer {
                source,
                addresses: addresses.clone(),
                ttl,
                first_seen: *first_seen,
                last_seen: *last_seen,
            })
        };
        sources.into_iter().flat_map(of).collect()
    }
}

/// Half of the set at a time, in equal shares of the last day.
fn rotation(all: &[IpAddr], until: Timestamp) -> Vec<(BTreeSet<IpAddr>, Timestamp, Timestamp)> {
    let share = ROTATION / ROTATION_STEPS;
    let before = |steps: i32| until.checked_sub(share * steps).unwrap_or(until);
    (0..ROTATION_STEPS)
        .zip((0..all.len()).cycle())
        .map(|(step, start)| {
            let half = all.len().div_ceil(2);
            let set = all.iter().cycle().skip(start).take(half).copied().collect();
            (set, before(ROTATION_STEPS - step), before(ROTATION_STEPS - step - 1))
        })
        .collect()
}
