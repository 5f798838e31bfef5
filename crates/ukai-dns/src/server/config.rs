//! What the server is told at its start, and the part of it that can change while it runs.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::policy::PolicyZone;
use crate::name::Name;
use crate::upstream::Upstream;

/// It is the octets that bound the cache.
const DEFAULT_CACHE_ENTRIES: usize = 1_000_000_000;
/// About a quarter of a million answers of the usual size.
const DEFAULT_CACHE_OCTETS: usize = 64 * 1024 * 1024;
/// One answers some hundred thousand queries a second; more than this many serve no single network.
pub const MAX_THREADS: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Each is served by UDP and TCP. With port 0 both get the same free port.
    pub listen: Vec<SocketAddr>,
    /// Where the overrides survive a restart.
    pub state_dir: PathBuf,
    pub control_socket: PathBuf,
    pub settings: Settings,
    #[serde(default = "default_cache_entries")]
    pub cache_entries: usize,
    /// What the cache may take, in octets, keys and overhead included.
    #[serde(default = "default_cache_octets")]
    pub cache_octets: usize,
    /// Threads that answer; 0 is one for each core, at most [`MAX_THREADS`].
    #[serde(default)]
    pub threads: usize,
    /// Overrides that a file gives, beside those of the control socket.
    #[serde(default)]
    pub overrides_file: Option<PathBuf>,
    /// What is overridden, for other resolvers to follow.
    #[serde(default)]
    pub policy_zone: Option<PolicyZone>,
    /// Certificates (PEM) trusted for `tls://` and `https://` upstreams, in addition to the machine's.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

impl ServerConfig {
    pub fn new(listen: Vec<SocketAddr>, upstreams: Vec<Upstream>, state_dir: PathBuf, control_socket: PathBuf) -> Self {
        Self {
            listen,
            state_dir,
            control_socket,
            settings: Settings { upstreams, allow_clients: local_networks(), ..Settings::default() },
            cache_entries: DEFAULT_CACHE_ENTRIES,
            cache_octets: DEFAULT_CACHE_OCTETS,
            threads: 0,
            overrides_file: None,
            policy_zone: None,
            ca: None,
        }
    }

    pub(crate) fn threads(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        if self.threads == 0 { cores.min(MAX_THREADS) } else { self.threads.min(MAX_THREADS) }
    }
}

/// A domain, the name itself and all below it, and the servers that know it. The longest domain wins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    pub domain: Name,
    pub upstreams: Vec<Upstream>,
}

/// That of an override: a watched name changes hands no slower with one than without.
pub const WATCHED_TTL_MAX_S: u32 = 10;

/// What can change while the server runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Asked in this order.
    pub upstreams: Vec<Upstream>,
    /// Who may ask; everybody else is refused, so that this is no open resolver.
    #[serde(default = "local_networks")]
    pub allow_clients: Vec<IpNet>,
    /// Names that are watched, and so are asked upstream even where a special-use domain would keep them here.
    #[serde(default)]
    pub watched: Vec<Name>,
    /// Special-use domains (or names below them) that are asked upstream all the same.
    #[serde(default)]
    pub forward_special_use: Vec<Name>,
    /// Domains that are asked of servers of their own.
    #[serde(default)]
    pub forward: Vec<Route>,
    /// Answers a second by UDP for one client network (/24, /56); clients with a cookie of ours have no limit.
    #[serde(default)]
    pub rate_limit: Option<u32>,
    /// What `version.bind` and `version.server` (class CH) say; refused without.
    #[serde(default)]
    pub version: Option<String>,
}

/// The watched names, to be looked up in wire format.
pub(crate) struct Watched(BTreeSet<Vec<u8>>);

impl Watched {
    pub fn new(settings: &Settings) -> Self {
        Self(settings.watched.iter().map(|name| name.as_wire().to_vec()).collect())
    }

    pub fn contains(&self, name: &[u8]) -> bool {
        self.0.contains(name)
    }

    /// No answer for a watched name is kept for longer than this, by a client or by us: an override, and the end of one,
    /// takes effect within seconds also where a client has a cache of its own, and we are never ourselves the cache
    /// that still holds the old address when the resolver behind us is right again.
    pub fn ttl_cap(&self, name: &[u8]) -> u32 {
        if self.contains(name) { WATCHED_TTL_MAX_S } else { u32::MAX }
    }
}

impl Settings {
    pub(crate) fn allows(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.allow_clients.iter().any(|network| network.contains(&client))
    }

    /// A forwarder that asks itself answers nobody.
    pub(crate) fn looping_upstream(&self, listen: &[SocketAddr]) -> Option<&Upstream> {
        let all = self.upstreams.iter().chain(self.forward.iter().flat_map(|route| &route.upstreams));
        all.into_iter().find(|upstream| {
            let to = upstream.address();
            listen.iter().any(|own| {
                own.port() == to.port() && (own.ip() == to.ip() || own.ip().is_unspecified() && to.ip().is_loopback())
            })
        })
    }
}

fn default_cache_octets() -> usize {
    DEFAULT_CACHE_OCTETS
}

fn default_cache_entries() -> usize {
    DEFAULT_CACHE_ENTRIES
}

/// Loopback, private (RFC 1918, RFC 4193), shared (RFC 6598) and link-local addresses.
pub fn local_networks() -> Vec<IpNet> {
    [
        "127.0.0.0/8",
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "::1/128",
        "fc00::/7",
        "fe80::/10",
    ]
    .iter()
    .filter_map(|text| text.parse().ok())
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(upstream: &str) -> Settings {
        Settings { upstreams: vec![upstream.parse().unwrap()], allow_clients: local_networks(), ..Settings::default() }
    }

    #[test]
    fn local_networks_are_all_there() {
        assert_eq!(local_networks().len(), 9);
    }

    #[test]
    fn who_may_ask() {
        let settings = settings("192.0.2.1");
        for (client, allowed) in
            [("127.3.2.1", true), ("::ffff:10.1.2.3", true), ("192.0.2.9", false), ("2001:db8::1", false)]
        {
            assert_eq!(settings.allows(client.parse().unwrap()), allowed, "{client}");
        }
    }

    #[test]
    fn a_loop_is_seen() {
        let listen = ["127.0.0.1:53".parse().unwrap(), "0.0.0.0:54".parse().unwrap()];
        assert!(settings("127.0.0.1").looping_upstream(&listen).is_some());
        assert!(settings("127.0.0.9:54").looping_upstream(&listen).is_some());
        assert!(settings("127.0.0.2").looping_upstream(&listen).is_none());
    }

    #[test]
    fn unknown_keys_are_refused() {
        let config = ServerConfig::new(Vec::new(), Vec::new(), "a".into(), "b".into());
        let mut json = serde_json::to_value(&config).unwrap();
        assert_eq!(serde_json::from_value::<ServerConfig>(json.clone()).unwrap(), config);
        json["upstream"] = "1.2.3.4".into();
        assert!(serde_json::from_value::<ServerConfig>(json).is_err());
    }
}
