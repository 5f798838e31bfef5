//! The modifiers of the catalogue, each a change to how a scenario is played.

mod make;

use std::time::Duration;

use super::change::{broken, cure, rename};
use super::staging::{Staging, Turn};
use crate::scenario::{Deed, Egress, HostBehaviour, Provider, ResolverMode, ServerMode, WorldChange};
pub use make::wants_override;
use make::*;

/// A condition that the scenarios' own rows do not speak of.
#[derive(Debug, Clone, Copy)]
pub struct Modifier {
    pub id: &'static str,
    /// What it does, in a line.
    pub doc: &'static str,
    /// What it does to an override that is right without it.
    pub gate: Gate,
    /// False: it has no meaning for that scenario.
    pub make: fn(&mut Staging) -> bool,
}

/// Whether an override that is right without a modifier is right with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gate {
    /// Candidates are named, agreed on and proved as before: not to serve it is a miss.
    Holds,
    /// It may be served or not.
    Free,
    /// Only by a person who was shown what speaks against it.
    Person,
    /// It must not be served.
    Closed,
}

/// Every modifier, in the order of the reference page.
pub const MODIFIERS: &[Modifier] = &[
    Modifier {
        id: "flapping-2s",
        doc: "the last fault comes and goes every second, six times, before it stays",
        gate: Gate::Holds,
        make: |staging| flap(staging, 2_000),
    },
    Modifier {
        id: "flapping-7s",
        doc: "the last fault comes and goes every 3.5 s, six times, before it stays",
        gate: Gate::Holds,
        make: |staging| flap(staging, 7_000),
    },
    Modifier {
        id: "flapping-30s",
        doc: "the last fault comes and goes every 15 s, six times, before it stays: it clears and comes back under a proposal",
        gate: Gate::Holds,
        make: |staging| flap(staging, 30_000),
    },
    Modifier {
        id: "starved-at-once",
        doc: "from the last fault on the prober gets nothing done for 20 s",
        gate: Gate::Holds,
        make: |staging| starve(staging, 0, 20_000),
    },
    Modifier {
        id: "starved-later",
        doc: "from 1.5 s after the last fault the prober gets nothing done for 40 s: what it has begun never comes back",
        gate: Gate::Holds,
        make: |staging| starve(staging, 1_500, 40_000),
    },
    Modifier {
        id: "slow",
        doc: "every host that serves takes 1.5 s to answer, from the beginning",
        gate: Gate::Holds,
        make: slow,
    },
    Modifier {
        id: "resolver-truncates",
        doc: "from the last fault on our resolver truncates every answer over UDP; over TCP it answers",
        gate: Gate::Holds,
        make: |staging| change_resolver(staging, |setup| setup.truncate_udp = true),
    },
    Modifier {
        id: "resolver-truncates-tcp-blocked",
        doc: "from the last fault on our resolver truncates every answer over UDP, and TCP to it is blocked",
        gate: Gate::Closed,
        make: |staging| {
            change_resolver(staging, |setup| {
                setup.truncate_udp = true;
                setup.block_tcp = true;
            })
        },
    },
    Modifier {
        id: "beside-a-peer-that-is-down",
        doc: "another peer is watched too, and goes down a second after the last fault",
        gate: Gate::Holds,
        make: |staging| beside(staging, HostBehaviour::Refuse, "peer_down"),
    },
    Modifier {
        id: "beside-a-peer-with-errors",
        doc: "another peer is watched too, and answers 503 from a second after the last fault",
        gate: Gate::Holds,
        make: |staging| beside(staging, HostBehaviour::Status(503), "peer_http"),
    },
    Modifier {
        id: "clears-under-approval",
        doc: "the fault goes away 5 s after an override is proposed; the person approves 15 s later",
        gate: Gate::Closed,
        make: |staging| {
            staging.scenario.operators.iter_mut().for_each(|operator| operator.wait = Duration::from_secs(20));
            clear(staging, Turn::Proposed, 5_000)
        },
    },
    Modifier {
        id: "clears-before-apply",
        doc: "the fault goes away the moment that the override is approved, before the guards are run once more",
        gate: Gate::Closed,
        make: |staging| clear(staging, Turn::Approved, 0),
    },
    Modifier {
        id: "clears-at-apply",
        doc: "the fault goes away when every guard has passed and the override is being applied",
        gate: Gate::Free,
        make: |staging| clear(staging, Turn::Applying, 0),
    },
    Modifier {
        id: "clears-once-served",
        doc: "the fault goes away 20 s after the override is served",
        gate: Gate::Holds,
        make: |staging| clear(staging, Turn::Served, 20_000),
    },
    Modifier {
        id: "and-the-peer-fails",
        doc: "with the last fault every host that serves begins to answer 503",
        gate: Gate::Closed,
        make: and_the_peer_fails,
    },
    Modifier {
        id: "and-a-server-is-lame",
        doc: "with the last fault one name server of three becomes lame",
        gate: Gate::Holds,
        make: |staging| change_server(staging, &["ns-3"], ServerMode::Lame),
    },
    Modifier {
        id: "and-a-server-is-silent",
        doc: "with the last fault one name server of three falls silent",
        gate: Gate::Holds,
        make: |staging| change_server(staging, &["ns-2"], ServerMode::Timeout),
    },
    Modifier {
        id: "and-two-servers-are-silent",
        doc: "with the last fault two name servers of three fall silent: there is no majority",
        gate: Gate::Closed,
        make: |staging| change_server(staging, &["ns-1", "ns-2"], ServerMode::Timeout),
    },
    Modifier {
        id: "and-a-server-lags",
        doc: "with the last fault one name server of three has the zone of before",
        gate: Gate::Closed,
        make: |staging| {
            // A zone that nobody edits is the same everywhere.
            let edited = staging.scenario.faults.iter().any(|fault| fault.change.edits_zone());
            edited && change_server(staging, &["ns-3"], ServerMode::OldSerial)
        },
    },
    Modifier {
        id: "and-an-independent-is-lost",
        doc: "with the last fault one independent resolver falls silent; two are left",
        gate: Gate::Holds,
        make: |staging| change_independent(staging, ResolverMode::TimeoutAll),
    },
    Modifier {
        id: "and-an-independent-is-stale",
        doc: "with the last fault one independent resolver goes on answering what it knew",
        gate: Gate::Holds,
        make: |staging| change_independent(staging, ResolverMode::Stale),
    },
    Modifier {
        id: "and-port-53-is-closed",
        doc: "with the last fault nothing but our own resolver answers on port 53",
        gate: Gate::Person,
        make: |staging| {
            let change = WorldChange { egress: Some(Egress::No53), ..WorldChange::default() };
            broken(&staging.scenario).egress == Egress::Ok && with_last_fault(staging, change)
        },
    },
    Modifier { id: "ttl-0", doc: "every record has TTL 0", gate: Gate::Holds, make: ttl_0 },
    Modifier {
        id: "200-addresses",
        doc: "the name holds two hundred addresses wherever it held some: no answer fits into UDP",
        gate: Gate::Holds,
        make: many_addresses,
    },
    Modifier {
        id: "other-records",
        doc: "the name has TXT and MX records too, wherever it has an address",
        gate: Gate::Holds,
        make: other_records,
    },
    Modifier {
        id: "idn",
        doc: "the host is written in mixed case and with letters beyond ASCII",
        gate: Gate::Holds,
        make: |staging| {
            rename(&mut staging.scenario, |name| name.replace("peer.test", "PEER-Bücher.test"));
            staging.scenario.host().contains("xn--")
        },
    },
    Modifier {
        id: "wildcard",
        doc: "the zone has a wildcard that leads to a shared host with another certificate",
        gate: Gate::Holds,
        make: wildcard,
    },
    Modifier {
        id: "shared-address",
        doc: "every address that is dead by the last fault belongs to a shared host by then, which shows its default certificate",
        gate: Gate::Holds,
        make: shared_address,
    },
    Modifier {
        id: "adds-ipv6-under-the-override",
        doc: "15 s after the override is served the peer adds an AAAA and an HTTPS record",
        gate: Gate::Holds,
        make: adds_ipv6,
    },
    Modifier {
        id: "clock-2min",
        doc: "with the last fault everybody else's clock is two minutes ahead of ours",
        gate: Gate::Holds,
        make: |staging| shift_clock(staging, 120),
    },
    Modifier {
        id: "clock-2h-behind",
        doc: "with the last fault our clock is two hours behind everybody else's",
        gate: Gate::Closed,
        make: |staging| shift_clock(staging, 7_200),
    },
    Modifier {
        id: "clock-2h-ahead",
        doc: "with the last fault our clock is two hours ahead of everybody else's",
        gate: Gate::Closed,
        make: |staging| shift_clock(staging, -7_200),
    },
    Modifier {
        id: "nobody-approves",
        doc: "whoever could approve cannot be reached",
        gate: Gate::Closed,
        make: |staging| {
            staging.scenario.operators.iter_mut().for_each(|operator| operator.does = Deed::Nothing);
            wants_override(&staging.scenario)
        },
    },
    Modifier {
        id: "provider-down-at-apply",
        doc: "the zone provider does not answer from the approval on",
        gate: Gate::Closed,
        make: |staging| provider(staging, Turn::Approved, Provider::Down),
    },
    Modifier {
        id: "provider-loses-the-update",
        doc: "the zone provider takes the override and does not serve it",
        gate: Gate::Closed,
        make: |staging| provider(staging, Turn::Approved, Provider::LosesUpdate),
    },
    Modifier {
        id: "provider-slow",
        doc: "the zone provider takes 5 s for every change",
        gate: Gate::Holds,
        make: |staging| provider(staging, Turn::Approved, Provider::Slow),
    },
    Modifier {
        id: "killed-at-apply",
        doc: "the daemon is killed and started again the moment that it applies an override",
        gate: Gate::Holds,
        make: |staging| restart(staging, Turn::Applying),
    },
    Modifier {
        id: "killed-once-served",
        doc: "the daemon is killed and started again when the override is served",
        gate: Gate::Holds,
        make: |staging| restart(staging, Turn::Served),
    },
    Modifier {
        id: "heals-and-the-peer-dies",
        doc: "20 s after the override is served our resolver is right again, and the address that it gives dies with it",
        gate: Gate::Holds,
        make: |staging| {
            let mut change = cure(&staging.scenario);
            kill(staging, &mut change) && then(staging, after_a_while(change))
        },
    },
    Modifier {
        id: "heals-while-the-new-address-dies",
        doc: "20 s after the override is served the fault goes away, and the address that is served dies with it",
        gate: Gate::Holds,
        make: heals_and_dies,
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::crossed::Combination;
    use crate::crossed::change::before_last_fault;
    use crate::runner::catalogue::ENTRIES;
    use crate::scenario::Records;

    #[test]
    fn the_reference_page_lists_each_as_it_is() {
        let page = include_str!("../../../../../docs/reference/modifiers.md");
        for modifier in MODIFIERS {
            assert!(page.contains(&format!("| `{}` | {} |", modifier.id, modifier.doc)), "{}", modifier.id);
        }
        let ids: BTreeSet<&str> = MODIFIERS.iter().map(|modifier| modifier.id).collect();
        assert_eq!(ids.len(), MODIFIERS.len());
    }

    #[test]
    fn a_fault_that_flaps_is_taken_back_to_the_letter() {
        let scenario = ENTRIES[0].parse().unwrap();
        let flapping = MODIFIERS.iter().find(|modifier| modifier.id == "flapping-7s").unwrap();
        let staging = Combination::of(&scenario, &[flapping]).unwrap().staging;
        let mut state = staging.scenario.initial_state();
        let mut states = Vec::new();
        for fault in &staging.scenario.faults {
            fault.change.apply_to(&mut state);
            states.push(state.clone());
        }
        assert_eq!(states.len(), 13);
        let broken = broken(&scenario);
        for (number, state) in states.iter().enumerate() {
            let wanted = if number % 2 == 0 { &broken } else { &before_last_fault(&scenario) };
            assert_eq!(
                (&state.resolver, &state.authoritative.ttl),
                (&wanted.resolver, &wanted.authoritative.ttl),
                "{number}"
            );
            assert_eq!(state.hosts["old-1"].us, wanted.hosts["old-1"].us, "{number}");
        }
    }

    #[test]
    fn two_hundred_addresses_are_two_hundred_hosts() {
        let scenario = ENTRIES[0].parse().unwrap();
        let many = MODIFIERS.iter().find(|modifier| modifier.id == "200-addresses").unwrap();
        let staging = Combination::of(&scenario, &[many]).unwrap().staging;
        let state = broken(&staging.scenario);
        let Records::Table(table) = &state.authoritative.records else { panic!("the name is gone") };
        assert_eq!(table.a.len(), 200);
        assert!(table.a.iter().all(|label| state.hosts.contains_key(label)), "an address without a host");
    }
}
