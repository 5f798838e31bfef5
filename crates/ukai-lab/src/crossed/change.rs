//! Changes that are made of other changes: taken back, moved, spread over more hosts.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::scenario::{
    Egress, HostBehaviour, HostChange, NameState, RecordTable, Records, Scenario, WorldChange, WorldState,
};

/// The world right before the last fault.
pub fn before_last_fault(scenario: &Scenario) -> WorldState {
    let mut state = scenario.initial_state();
    let faults = scenario.faults.len().saturating_sub(1);
    scenario.faults.iter().take(faults).for_each(|fault| fault.change.apply_to(&mut state));
    state
}

/// The world when every fault has come, and nothing has healed.
pub fn broken(scenario: &Scenario) -> WorldState {
    let mut state = scenario.initial_state();
    scenario.faults.iter().for_each(|fault| fault.change.apply_to(&mut state));
    state
}

/// When the last fault comes.
pub fn last_fault(scenario: &Scenario) -> Duration {
    scenario.faults.iter().map(|fault| fault.at).max().unwrap_or_default()
}

/// Gives everything that a change names back to what it was.
pub fn undo(change: &WorldChange, before: &WorldState) -> WorldChange {
    let held = |state: &NameState| match &state.records {
        Records::Nxdomain => Records::Nxdomain,
        Records::Table(table) => {
            let (ttl, negative_ttl) = (Some(state.ttl), Some(state.negative_ttl));
            Records::Table(Box::new(RecordTable { ttl, negative_ttl, ..(**table).clone() }))
        }
    };
    let host = |label: &String| {
        let host = before.hosts.get(label).cloned().unwrap_or_default();
        (label.clone(), HostChange { us: Some(host.us), others: Some(host.others), ..HostChange::default() })
    };
    let named = |name: &String| (name.clone(), before.names.get(name).map_or(Records::Nxdomain, held));
    WorldChange {
        authoritative: change.authoritative.as_ref().map(|_| held(&before.authoritative)),
        servers: change.servers.keys().map(|name| (name.clone(), before.server(name).clone())).collect(),
        parent: change.parent.as_ref().map(|_| before.parent.clone()),
        names: change.names.keys().map(named).collect(),
        resolver: change.resolver.as_ref().map(|_| before.resolver.clone()),
        independents: change.independents.keys().map(|name| (name.clone(), before.independent(name))).collect(),
        hosts: change.hosts.keys().map(host).collect(),
        controls: change.controls.map(|_| before.controls),
        egress: change.egress.as_ref().map(|_| before.egress.clone()),
        clock: change.clock.map(|_| before.clock),
        provider: change.provider.as_ref().map(|_| before.provider.clone()),
        daemon: None,
        vantages: change.vantages.map(|_| before.vantages),
    }
}

/// What ends the outage: what the file heals; where it heals nothing, every fault taken back.
pub fn cure(scenario: &Scenario) -> WorldChange {
    let mut cure = WorldChange::default();
    if scenario.heals.is_empty() {
        let initial = scenario.initial_state();
        scenario.faults.iter().for_each(|fault| merge(&mut cure, undo(&fault.change, &initial)));
    }
    scenario.heals.iter().for_each(|heal| merge(&mut cure, heal.change.clone()));
    cure
}

/// Both changes at once; where they differ the second holds.
pub fn merge(first: &mut WorldChange, second: WorldChange) {
    first.authoritative = second.authoritative.or(first.authoritative.take());
    first.parent = second.parent.or(first.parent.take());
    first.resolver = second.resolver.or(first.resolver.take());
    first.controls = second.controls.or(first.controls);
    first.egress = second.egress.or(first.egress.take());
    first.clock = second.clock.or(first.clock);
    first.provider = second.provider.or(first.provider.take());
    first.daemon = second.daemon.or(first.daemon);
    first.vantages = second.vantages.or(first.vantages);
    first.servers.extend(second.servers);
    first.names.extend(second.names);
    first.independents.extend(second.independents);
    for (label, change) in second.hosts {
        let host = first.hosts.entry(label).or_default();
        let HostChange { us, others, network, v6, private } = change;
        host.us = us.or(host.us.take());
        host.others = others.or(host.others.take());
        host.network = network.or(host.network);
        host.v6 = v6.or(host.v6);
        host.private = private.or(host.private);
    }
}

/// Every change of the scenario, to be altered.
pub fn changes_mut(scenario: &mut Scenario) -> impl Iterator<Item = &mut WorldChange> {
    let Scenario { world, faults, heals, .. } = scenario;
    std::iter::once(world).chain(faults.iter_mut().chain(heals).map(|timed| &mut timed.change))
}

/// Every record table, whosever it is.
pub fn tables_mut(change: &mut WorldChange) -> impl Iterator<Item = &mut RecordTable> {
    let records = change.authoritative.iter_mut().chain(change.names.values_mut());
    let own = change.servers.values_mut().filter_map(|mode| match mode {
        crate::scenario::ServerMode::Own(table) => Some(&mut **table),
        _ => None,
    });
    let of_names = records.filter_map(|records| match records {
        Records::Table(table) => Some(&mut **table),
        Records::Nxdomain => None,
    });
    of_names.chain(own)
}

/// What our vantage meets at each host, wherever it is given.
pub fn behaviours_mut(scenario: &mut Scenario) -> impl Iterator<Item = &mut HostBehaviour> {
    changes_mut(scenario).flat_map(|change| change.hosts.values_mut()).flat_map(|host| host.us.iter_mut())
}

/// Stands every host of an A set beside as many of its kind that the name holds `size` addresses.
pub fn multiply(scenario: &mut Scenario, size: usize) {
    let mut copies: BTreeMap<String, usize> = BTreeMap::new();
    for change in changes_mut(scenario) {
        for table in tables_mut(change) {
            let labels = std::mem::take(&mut table.a);
            let each = size.checked_div(labels.len()).unwrap_or(0).max(1);
            for label in &labels {
                let known = copies.entry(label.clone()).or_insert(each);
                *known = (*known).max(each);
            }
            table.a = labels.iter().flat_map(|label| copies_of(label, each)).collect();
        }
    }
    for change in changes_mut(scenario) {
        let hosts = std::mem::take(&mut change.hosts);
        for (label, host) in hosts {
            let each = copies.get(&label).copied().unwrap_or(1);
            change.hosts.extend(copies_of(&label, each).map(|label| (label, host.clone())));
        }
        if let Some(Egress::Allow(labels)) = &mut change.egress {
            let listed = labels.iter().flat_map(|label| copies_of(label, copies.get(label).copied().unwrap_or(1)));
            *labels = listed.collect();
        }
    }
}

/// The first bears the label itself.
fn copies_of(label: &str, each: usize) -> impl Iterator<Item = String> {
    (0..each).map(move |number| if number == 0 { label.to_owned() } else { format!("{label}~{number}") })
}

/// The label that a copy was made of.
pub fn original(label: &str) -> &str {
    label.split_once('~').map_or(label, |(label, _)| label)
}

/// Calls the peer by another name.
pub fn rename(scenario: &mut Scenario, rename: impl Fn(&str) -> String) {
    let host = scenario.host().to_owned();
    let name = rename(&host);
    for url in std::iter::once(&mut scenario.peer.url).chain(&mut scenario.peer.also) {
        // A name that the URL refuses stays as it was.
        let _ = url.set_host(Some(&name));
    }
    for change in changes_mut(scenario) {
        change.names =
            std::mem::take(&mut change.names).into_iter().map(|(name, held)| (rename(&name), held)).collect();
        for table in tables_mut(change) {
            table.cname = table.cname.take().map(|target| rename(&target));
        }
    }
}
