//! The modifiers of the catalogue, each a change to how a scenario is played.

use std::time::Duration;

use super::change::{
    before_last_fault, behaviours_mut, broken, changes_mut, cure, last_fault, merge, multiply, rename, tables_mut, undo,
};
use super::staging::{Staging, Then, Turn};
use crate::scenario::{
    Action, ClockShift, DaemonSignal, Deed, Egress, HostBehaviour, HostChange, Network, Provider, RecordTable, Records,
    ResolverMode, ResolverSetup, Scenario, ServerMode, Timed, WorldChange,
};

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

/// Whether the file wants an override, of its own accord or by a person.
pub fn wants_override(scenario: &Scenario) -> bool {
    let expect = &scenario.expect;
    let by_person = expect.action.contains(&Action::Escalate) && expect.serves.is_some();
    expect.action.contains(&Action::Override) || by_person
}

fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Changes what the last fault brings.
fn with_last_fault(staging: &mut Staging, change: WorldChange) -> bool {
    let Some(last) = staging.scenario.faults.iter_mut().max_by_key(|fault| fault.at) else { return false };
    merge(&mut last.change, change);
    true
}

fn flap(staging: &mut Staging, period_ms: u64) -> bool {
    const TIMES: u32 = 6;
    let scenario = &mut staging.scenario;
    let before = before_last_fault(scenario);
    let Some(last) = scenario.faults.iter().max_by_key(|fault| fault.at).cloned() else { return false };
    if last.change.daemon.is_some() {
        return false;
    }
    let back = undo(&last.change, &before);
    for time in 0..TIMES {
        let on = last.at + millis(period_ms) * time;
        scenario.faults.push(Timed { at: on + millis(period_ms) / 2, change: back.clone() });
        scenario.faults.push(Timed { at: on + millis(period_ms), change: last.change.clone() });
    }
    true
}

fn starve(staging: &mut Staging, after_ms: u64, for_ms: u64) -> bool {
    let from = last_fault(&staging.scenario) + millis(after_ms);
    staging.starved.push((from, from + millis(for_ms)));
    !staging.scenario.faults.is_empty()
}

fn slow(staging: &mut Staging) -> bool {
    let mut changed = false;
    for behaviour in behaviours_mut(&mut staging.scenario).filter(|behaviour| **behaviour == HostBehaviour::Serve) {
        *behaviour = HostBehaviour::Slow(millis(1_500));
        changed = true;
    }
    changed
}

fn change_resolver(staging: &mut Staging, change: impl Fn(&mut ResolverSetup)) -> bool {
    let mut setup = broken(&staging.scenario).resolver;
    change(&mut setup);
    let made = with_last_fault(staging, WorldChange { resolver: Some(setup), ..WorldChange::default() });
    // What heals the resolver heals its mode alone.
    for heal in &mut staging.scenario.heals {
        heal.change.resolver.iter_mut().for_each(&change);
    }
    made
}

fn change_server(staging: &mut Staging, names: &[&str], mode: ServerMode) -> bool {
    let delegation = broken(&staging.scenario).delegation();
    let state = broken(&staging.scenario);
    let own = names.iter().any(|name| state.servers.contains_key(*name));
    if own
        || state.egress != Egress::Ok
        || !names.iter().all(|name| delegation.iter().any(|delegated| delegated == name))
    {
        return false;
    }
    let servers = names.iter().map(|name| ((*name).to_owned(), mode.clone())).collect();
    with_last_fault(staging, WorldChange { servers, ..WorldChange::default() })
}

fn change_independent(staging: &mut Staging, mode: ResolverMode) -> bool {
    if broken(&staging.scenario).independents.contains_key("i-2") {
        return false;
    }
    let setup = ResolverSetup { mode, ..ResolverSetup::default() };
    let independents = [("i-2".to_owned(), setup)].into();
    with_last_fault(staging, WorldChange { independents, ..WorldChange::default() })
}

/// A peer of its own, of whom nothing else is known.
fn beside(staging: &mut Staging, behaviour: HostBehaviour, verdict: &str) -> bool {
    let Some(mut scenario) = Scenario::parse(BESIDE, "beside").ok() else { return false };
    let hosts = ["h-1", "h-2"].map(|label| {
        let (us, others) = (Some(behaviour.clone()), Some(behaviour.clone()));
        (label.to_owned(), HostChange { us, others, ..HostChange::default() })
    });
    let at = last_fault(&staging.scenario) + Duration::from_secs(1);
    scenario.faults = vec![Timed { at, change: WorldChange { hosts: hosts.into(), ..WorldChange::default() } }];
    scenario.expect.verdict = vec![verdict.to_owned()];
    staging.beside = Some(scenario);
    true
}

const BESIDE: &str = r#"
id = "beside"
title = "another peer"
[peer]
url = "https://pay.other-peer.test/health"
interval = "1s"
[policy]
level = "approve"
[[operator]]
on = "proposed"
wait = "1s"
does = "approve"
[app]
sign = true
[world]
authoritative = { A = ["h-1", "h-2"], ttl = 60 }
hosts.h-1 = "serve"
hosts.h-2 = "serve"
resolver = "honest"
[expect]
action = "none"
"#;

fn clear(staging: &mut Staging, on: Turn, after_ms: u64) -> bool {
    let change = cure(&staging.scenario);
    then(staging, Then { on, after: millis(after_ms), change, clears: true })
}

fn then(staging: &mut Staging, then: Then) -> bool {
    let free = staging.then.is_none();
    if then.clears {
        staging.scenario.heals.clear();
    }
    staging.then = Some(then);
    free && wants_override(&staging.scenario)
}

fn and_the_peer_fails(staging: &mut Staging) -> bool {
    let state = broken(&staging.scenario);
    let failing = HostBehaviour::Status(503);
    let hosts = state.hosts.iter().filter(|(_, host)| matches!(host.us, HostBehaviour::Serve | HostBehaviour::Slow(_)));
    let hosts = hosts.map(|(label, _)| {
        let (us, others) = (Some(failing.clone()), Some(failing.clone()));
        (label.clone(), HostChange { us, others, ..HostChange::default() })
    });
    let change = WorldChange { hosts: hosts.collect(), ..WorldChange::default() };
    !change.hosts.is_empty() && with_last_fault(staging, change)
}

fn ttl_0(staging: &mut Staging) -> bool {
    changes_mut(&mut staging.scenario).flat_map(tables_mut).for_each(|table| table.ttl = Some(0));
    // Without a TTL nobody holds on to anything, and there is no outage.
    !staging.scenario.expect.verdict.iter().any(|code| code == "stale_resolver_transient")
}

fn many_addresses(staging: &mut Staging) -> bool {
    multiply(&mut staging.scenario, 200);
    true
}

fn wildcard(staging: &mut Staging) -> bool {
    let Some((_, zone)) = staging.scenario.host().split_once('.') else { return false };
    let name = format!("*.{zone}");
    let table = RecordTable { a: vec!["wild-1".to_owned()], ttl: Some(60), ..RecordTable::default() };
    let host = HostChange {
        us: Some(HostBehaviour::TlsDefaultCert),
        others: Some(HostBehaviour::TlsDefaultCert),
        network: Some(Network::B),
        ..HostChange::default()
    };
    staging.scenario.world.names.insert(name, Records::Table(Box::new(table)));
    staging.scenario.world.hosts.insert("wild-1".to_owned(), host);
    staging.scenario.peer.tls
}

fn shared_address(staging: &mut Staging) -> bool {
    let mut changed = false;
    for fault in &mut staging.scenario.faults {
        for behaviour in fault.change.hosts.values_mut().flat_map(|host| host.us.iter_mut().chain(&mut host.others)) {
            if matches!(behaviour, HostBehaviour::Blackhole | HostBehaviour::Refuse) {
                *behaviour = HostBehaviour::TlsDefaultCert;
                changed = true;
            }
        }
    }
    changed && staging.scenario.peer.tls
}

fn adds_ipv6(staging: &mut Staging) -> bool {
    let state = broken(&staging.scenario);
    let Records::Table(table) = &state.authoritative.records else { return false };
    if state.hosts.values().any(|host| host.v6) || table.cname.is_some() {
        return false;
    }
    let six = "six-1".to_owned();
    let host = HostChange { us: Some(HostBehaviour::Serve), v6: Some(true), ..HostChange::default() };
    staging.scenario.world.hosts.insert(six.clone(), host);
    let ttl = Some(state.authoritative.ttl);
    let table = RecordTable { aaaa: vec![six.clone()], https: vec![six], ttl, ..(**table).clone() };
    let change = WorldChange { authoritative: Some(Records::Table(Box::new(table))), ..WorldChange::default() };
    then(staging, Then { on: Turn::Served, after: Duration::from_secs(15), change, clears: false })
}

fn shift_clock(staging: &mut Staging, seconds: i64) -> bool {
    if broken(&staging.scenario).clock != ClockShift(0) {
        return false;
    }
    with_last_fault(staging, WorldChange { clock: Some(ClockShift(seconds)), ..WorldChange::default() })
}

fn provider(staging: &mut Staging, on: Turn, provider: Provider) -> bool {
    let change = WorldChange { provider: Some(provider), ..WorldChange::default() };
    then(staging, Then { on, after: Duration::ZERO, change, clears: false })
}

fn restart(staging: &mut Staging, on: Turn) -> bool {
    let change = WorldChange { daemon: Some(DaemonSignal::Restart), ..WorldChange::default() };
    then(staging, Then { on, after: Duration::ZERO, change, clears: false })
}

/// Whole again, and everybody led there: at the address of before.
fn heals_and_dies(staging: &mut Staging) -> bool {
    let initial = staging.scenario.initial_state();
    let held =
        |label: &String| matches!(&initial.authoritative.records, Records::Table(table) if table.a.contains(label));
    if staging.scenario.expect.serves.iter().flatten().any(held) {
        return false;
    }
    let mut change = undo(&all_faults(&staging.scenario), &initial);
    kill(staging, &mut change) && then(staging, after_a_while(change))
}

fn after_a_while(change: WorldChange) -> Then {
    Then { on: Turn::Served, after: Duration::from_secs(20), change, clears: true }
}

/// What the override serves falls silent.
fn kill(staging: &Staging, change: &mut WorldChange) -> bool {
    let silent = || Some(HostBehaviour::Blackhole);
    let dead = |label: &String| (label.clone(), HostChange { us: silent(), others: silent(), ..HostChange::default() });
    let labels = staging.scenario.expect.serves.as_ref();
    change.hosts.extend(labels.into_iter().flatten().map(dead));
    labels.is_some()
}

fn all_faults(scenario: &Scenario) -> WorldChange {
    let mut all = WorldChange::default();
    scenario.faults.iter().for_each(|fault| merge(&mut all, fault.change.clone()));
    all
}
