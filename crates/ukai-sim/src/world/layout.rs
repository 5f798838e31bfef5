//! Which address each label stands for. All are global unicast, but those that a scenario calls private.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ukai_lab::scenario::{self, Network, Scenario};

/// First of the peer's hosts in its /24.
const FIRST_HOST: u8 = 10;
/// Hosts of one /24; those that are left over have the next.
const HOSTS: usize = 240;
pub const CONTROLS: u8 = 3;

/// The names of the peer's world and the addresses of its hosts.
#[derive(Debug, Clone)]
pub struct Layout {
    pub hosts: BTreeMap<String, IpAddr>,
    labels: BTreeMap<IpAddr, String>,
    /// The name under watch.
    pub host: String,
    /// Its zone.
    pub home: String,
    /// Every zone that the peer's servers serve.
    pub zones: BTreeSet<String>,
}

impl Layout {
    /// `place` keeps the hosts of peers that are played side by side apart.
    pub fn new(scenario: &Scenario, place: u8) -> Layout {
        let hosts: BTreeMap<String, IpAddr> = scenario::hosts(scenario)
            .into_iter()
            .enumerate()
            .map(|(index, (label, host))| {
                let (row, last) = (u8::try_from(index / HOSTS).unwrap_or(9), (index % HOSTS) as u8 + FIRST_HOST);
                let third = row + if host.network == Network::A { 10 } else { 20 };
                let address: IpAddr = match (host.v6, host.private) {
                    (true, _) => {
                        Ipv6Addr::new(0x2600, 0x1f00 + u16::from(place), 0, 0, 0, 0, 0, u16::from(last)).into()
                    }
                    (false, true) => Ipv4Addr::new(10, place, third, last).into(),
                    (false, false) => Ipv4Addr::new(20, 100 + place, third, last).into(),
                };
                (label, address)
            })
            .collect();
        let labels = hosts.iter().map(|(label, address)| (*address, label.clone())).collect();
        let host = scenario.host().to_owned();
        let home = registered(&host).to_owned();
        let mut zones = BTreeSet::from([home.clone()]);
        for change in scenario.changes() {
            zones.extend(change.names.keys().map(|name| registered(name).to_owned()));
        }
        Layout { hosts, labels, host, home, zones }
    }

    pub fn label_of(&self, address: IpAddr) -> Option<&str> {
        self.labels.get(&address).map(String::as_str)
    }

    pub fn zone_of(&self, name: &str) -> Option<&str> {
        self.zones.iter().map(String::as_str).find(|zone| within(name, zone))
    }

    /// A name server of the peer, under the name that it is delegated to.
    pub fn server_host(&self, server: &str) -> String {
        format!("{server}.{}", self.home)
    }

    /// The top-level domain above the peer's zone.
    pub fn tld(&self) -> &str {
        self.home.rsplit('.').next().unwrap_or_default()
    }
}

pub fn within(name: &str, zone: &str) -> bool {
    name == zone || name.strip_suffix(zone).is_some_and(|front| front.ends_with('.'))
}

/// The last two labels: where a zone is cut below a top-level domain.
pub fn registered(name: &str) -> &str {
    match name.rmatch_indices('.').nth(1) {
        Some((dot, _)) => name.get(dot + 1..).unwrap_or(name),
        None => name,
    }
}

pub fn control_url(number: u8) -> String {
    format!("https://control-{number}.test/")
}
