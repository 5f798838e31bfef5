//! How each modifier changes a staging. False: it has no meaning there.

use std::time::Duration;

use super::super::change::{
    before_last_fault, behaviours_mut, broken, changes_mut, cure, last_fault, merge, multiply, tables_mut, undo,
};
use super::super::staging::{Staging, Then, Turn};
use crate::scenario::{
    Action, ClockShift, DaemonSignal, Egress, HostBehaviour, HostChange, Network, Provider, RecordTable, Records,
    ResolverMode, ResolverSetup, Scenario, ServerMode, Timed, WorldChange,
};

/// Whether the file wants an override, of its own accord or by a person.
pub fn wants_override(scenario: &Scenario) -> bool {
    let expect = &scenario.expect;
    let by_person = expect.action.contains(&Action::Escalate) && expect.serves.is_some();
    expect.action.contains(&Action::Override) || by_person
}

pub(super) fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Changes what the last fault brings.
pub(super) fn with_last_fault(staging: &mut Staging, change: WorldChange) -> bool {
    let Some(last) = staging.scenario.faults.iter_mut().max_by_key(|fault| fault.at) else { return false };
    merge(&mut last.change, change);
    true
}

pub(super) fn flap(staging: &mut Staging, period_ms: u64) -> bool {
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

pub(super) fn starve(staging: &mut Staging, after_ms: u64, for_ms: u64) -> bool {
    let from = last_fault(&staging.scenario) + millis(after_ms);
    staging.starved.push((from, from + millis(for_ms)));
    !staging.scenario.faults.is_empty()
}

pub(super) fn slow(staging: &mut Staging) -> bool {
    let mut changed = false;
    for behaviour in behaviours_mut(&mut staging.scenario).filter(|behaviour| **behaviour == HostBehaviour::Serve) {
        *behaviour = HostBehaviour::Slow(millis(1_500));
        changed = true;
    }
    changed
}

pub(super) fn change_resolver(staging: &mut Staging, change: impl Fn(&mut ResolverSetup)) -> bool {
    let mut setup = broken(&staging.scenario).resolver;
    change(&mut setup);
    let made = with_last_fault(staging, WorldChange { resolver: Some(setup), ..WorldChange::default() });
    // What heals the resolver heals its mode alone.
    for heal in &mut staging.scenario.heals {
        heal.change.resolver.iter_mut().for_each(&change);
    }
    made
}

pub(super) fn change_server(staging: &mut Staging, names: &[&str], mode: ServerMode) -> bool {
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

pub(super) fn change_independent(staging: &mut Staging, mode: ResolverMode) -> bool {
    if broken(&staging.scenario).independents.contains_key("i-2") {
        return false;
    }
    let setup = ResolverSetup { mode, ..ResolverSetup::default() };
    let independents = [("i-2".to_owned(), setup)].into();
    with_last_fault(staging, WorldChange { independents, ..WorldChange::default() })
}

/// A peer of its own, of whom nothing else is known.
pub(super) fn beside(staging: &mut Staging, behaviour: HostBehaviour, verdict: &str) -> bool {
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

pub(super) fn clear(staging: &mut Staging, on: Turn, after_ms: u64) -> bool {
    let change = cure(&staging.scenario);
    then(staging, Then { on, after: millis(after_ms), change, clears: true })
}

pub(super) fn then(staging: &mut Staging, then: Then) -> bool {
    let free = staging.then.is_none();
    if then.clears {
        staging.scenario.heals.clear();
    }
    staging.then = Some(then);
    free && wants_override(&staging.scenario)
}

pub(super) fn and_the_peer_fails(staging: &mut Staging) -> bool {
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

pub(super) fn ttl_0(staging: &mut Staging) -> bool {
    changes_mut(&mut staging.scenario).flat_map(tables_mut).for_each(|table| table.ttl = Some(0));
    // Without a TTL nobody holds on to anything, and there is no outage.
    !staging.scenario.expect.verdict.iter().any(|code| code == "stale_resolver_transient")
}

pub(super) fn many_addresses(staging: &mut Staging) -> bool {
    multiply(&mut staging.scenario, 200);
    true
}

pub(super) fn other_records(staging: &mut Staging) -> bool {
    let mut changed = false;
    for change in changes_mut(&mut staging.scenario) {
        let authoritative = change.authoritative.iter_mut().filter_map(|records| match records {
            Records::Table(table) if !table.a.is_empty() => Some(table),
            _ => None,
        });
        for table in authoritative {
            table.txt = vec!["v=spf1 -all".to_owned()];
            table.mx = vec!["mail.example.test".to_owned()];
            changed = true;
        }
    }
    changed
}

pub(super) fn wildcard(staging: &mut Staging) -> bool {
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

pub(super) fn shared_address(staging: &mut Staging) -> bool {
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

pub(super) fn adds_ipv6(staging: &mut Staging) -> bool {
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

pub(super) fn shift_clock(staging: &mut Staging, seconds: i64) -> bool {
    if broken(&staging.scenario).clock != ClockShift(0) {
        return false;
    }
    with_last_fault(staging, WorldChange { clock: Some(ClockShift(seconds)), ..WorldChange::default() })
}

pub(super) fn provider(staging: &mut Staging, on: Turn, provider: Provider) -> bool {
    let change = WorldChange { provider: Some(provider), ..WorldChange::default() };
    then(staging, Then { on, after: Duration::ZERO, change, clears: false })
}

pub(super) fn restart(staging: &mut Staging, on: Turn) -> bool {
    let change = WorldChange { daemon: Some(DaemonSignal::Restart), ..WorldChange::default() };
    then(staging, Then { on, after: Duration::ZERO, change, clears: false })
}

/// Whole again, and everybody led there: at the address of before.
pub(super) fn heals_and_dies(staging: &mut Staging) -> bool {
    let initial = staging.scenario.initial_state();
    let held =
        |label: &String| matches!(&initial.authoritative.records, Records::Table(table) if table.a.contains(label));
    if staging.scenario.expect.serves.iter().flatten().any(held) {
        return false;
    }
    let mut change = undo(&all_faults(&staging.scenario), &initial);
    kill(staging, &mut change) && then(staging, after_a_while(change))
}

pub(super) fn after_a_while(change: WorldChange) -> Then {
    Then { on: Turn::Served, after: Duration::from_secs(20), change, clears: true }
}

/// What the override serves falls silent.
pub(super) fn kill(staging: &Staging, change: &mut WorldChange) -> bool {
    let silent = || Some(HostBehaviour::Blackhole);
    let dead = |label: &String| (label.clone(), HostChange { us: silent(), others: silent(), ..HostChange::default() });
    let labels = staging.scenario.expect.serves.as_ref();
    change.hosts.extend(labels.into_iter().flatten().map(dead));
    labels.is_some()
}

pub(super) fn all_faults(scenario: &Scenario) -> WorldChange {
    let mut all = WorldChange::default();
    scenario.faults.iter().for_each(|fault| merge(&mut all, fault.change.clone()));
    all
}
