//! Checks, once the whole file is read, that every name in it names something.

use std::collections::{BTreeMap, BTreeSet};

use super::Scenario;
use super::reader::{Result, ScenarioError, Source, Use, UseKind, nearest};
use super::state::{HostBehaviour, HostSetup, NAME_SERVERS};

pub(super) fn check(source: &Source<'_>, scenario: &Scenario) -> Result<()> {
    let hosts = hosts(scenario);
    let servers = servers(scenario);
    for used in source.uses() {
        match used.kind {
            UseKind::Server => check_server(source, &used, &servers)?,
            UseKind::Host | UseKind::HostForA | UseKind::HostForAaaa => check_host(source, &used, &hosts)?,
        }
    }
    check_families(source, scenario, &hosts)?;
    check_tls(source, scenario)
}

/// Every host that the scenario ever gives a behaviour, with the address facts that were given anywhere.
pub fn hosts(scenario: &Scenario) -> BTreeMap<String, HostSetup> {
    let mut hosts: BTreeMap<String, HostSetup> = BTreeMap::new();
    for change in scenario.changes() {
        for (label, host) in &change.hosts {
            hosts.entry(label.clone()).or_default().change(host);
        }
    }
    hosts
}

/// The three that always exist, and every other that was given something to say.
pub fn servers(scenario: &Scenario) -> BTreeSet<String> {
    let mut servers: BTreeSet<String> = NAME_SERVERS.map(str::to_owned).into();
    servers.extend(scenario.changes().flat_map(|change| change.servers.keys().cloned()));
    servers
}

fn check_server(source: &Source<'_>, used: &Use, servers: &BTreeSet<String>) -> Result<()> {
    if servers.contains(&used.name) {
        return Ok(());
    }
    let error =
        source.error(used.span.clone(), format!("name server \"{}\" is never given anything to serve", used.name));
    Err(ScenarioError { nearest: nearest(&used.name, servers.iter().map(String::as_str)), ..error })
}

fn check_host(source: &Source<'_>, used: &Use, hosts: &BTreeMap<String, HostSetup>) -> Result<()> {
    let Some(host) = hosts.get(&used.name) else {
        let error = source.error(used.span.clone(), format!("host \"{}\" is never given a behaviour", used.name));
        return Err(ScenarioError { nearest: nearest(&used.name, hosts.keys().map(String::as_str)), ..error });
    };
    let wrong_family = match used.kind {
        UseKind::HostForA if host.v6 => "an IPv6 host; it belongs in AAAA",
        UseKind::HostForAaaa if !host.v6 => "not an IPv6 host; give it v6 = true",
        _ => return Ok(()),
    };
    Err(source.error(used.span.clone(), format!("host \"{}\" is {wrong_family}", used.name)))
}

fn check_families(source: &Source<'_>, scenario: &Scenario, hosts: &BTreeMap<String, HostSetup>) -> Result<()> {
    let six: Vec<&str> = hosts.iter().filter(|(_, host)| host.v6).map(|(label, _)| label.as_str()).collect();
    if let [first, second, ..] = six.as_slice() {
        return Err(
            source.error(source.find(second), format!("one IPv6 host per scenario: {first} and {second} are two"))
        );
    }
    for (label, settled) in hosts {
        let mut setup = HostSetup::default();
        let mut given = false;
        for change in scenario.changes().filter_map(|change| change.hosts.get(label)) {
            let before = setup.clone();
            setup.change(change);
            let moved = setup.network != before.network || setup.v6 != before.v6 || setup.private != before.private;
            if given && moved {
                return Err(source.error(
                    source.find(label),
                    format!("host \"{label}\" cannot move; net, v6 and private are given once, where it first stands"),
                ));
            }
            given = true;
        }
        if settled.v6 && settled.private {
            return Err(source.error(source.find(label), format!("host \"{label}\" cannot be both v6 and private")));
        }
    }
    Ok(())
}

fn check_tls(source: &Source<'_>, scenario: &Scenario) -> Result<()> {
    if scenario.peer.tls {
        return Ok(());
    }
    let needs_tls = |behaviour: &Option<HostBehaviour>| behaviour.as_ref().is_some_and(HostBehaviour::needs_tls);
    for change in scenario.changes() {
        for (label, host) in &change.hosts {
            if needs_tls(&host.us) || needs_tls(&host.others) {
                return Err(source
                    .error(source.find(label), format!("host \"{label}\" has a TLS fault, and the peer has no TLS")));
            }
        }
    }
    Ok(())
}
