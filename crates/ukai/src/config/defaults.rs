//! What holds where the file is silent. Each value is named, with its reason.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Often enough to notice within seconds with a burst, seldom enough for any public service.
pub const INTERVAL: Duration = Duration::from_secs(10);
pub const INTERVAL_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(3600));
/// Half a working day: an override that nobody looks at ends the same day.
pub const LEASE: Duration = Duration::from_secs(4 * 3600);
/// The embedded server refuses longer ones.
pub const LEASE_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));
/// Slow name servers answer within two retries of 3 s.
pub const EVIDENCE_BOUND: Duration = Duration::from_secs(10);
pub const EVIDENCE_BOUND_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
pub const TIMEOUT_RANGE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(60));
/// A stub resolver's usual patience is 5 s; below that a retry to the next server still fits.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);
/// There is one vantage until somebody names several.
pub const VANTAGE: &str = "local";
/// No Region and no account of AWS: what is not theirs does not look like it.
pub const REGION: &str = "local";
pub const ACCOUNT_ID: &str = "000000000000";
pub const AUTHORITY_PORT: u16 = 53;
/// More than any host that serves names has to spare for it.
pub const DNS_CACHE_MIB_MAX: u32 = 65_536;
pub const DNS_LISTEN: &str = "127.0.0.1:5300";
pub const APPLICATION_LISTEN: &str = "127.0.0.1:7070";
pub const SOCKET_NAME: &str = "ukai.sock";
/// A socket's path must fit into `sockaddr_un` with its final NUL.
pub const SOCKET_PATH_BYTES: usize = 107;
/// As often as peers are probed: an alarm of 10 s periods has its datapoint.
pub const SCRAPE_INTERVAL: Duration = INTERVAL;
pub const SCRAPE_NAMESPACE: &str = "Prometheus";
pub const OTLP_NAMESPACE: &str = "OTel";
/// Each is looked at every second.
pub const EMF_FILES: usize = 64;
pub const SCRAPES: usize = 64;
pub const PEERS: usize = 1000;
pub const URLS_PER_PEER: usize = 16;
pub const CONTROLS: usize = 16;
pub const SUBSCRIBERS: usize = 32;
/// Addresses, networks, servers of one list.
pub const LIST: usize = 256;
/// A PEM bundle of all public authorities is a tenth of this.
pub const PEM_BYTES: u64 = 4 * 1024 * 1024;

/// Three companies, three networks, three transports past port 53.
pub const INDEPENDENT: [&str; 3] =
    ["tls://1.1.1.1#cloudflare-dns.com", "tls://9.9.9.9#dns.quad9.net", "https://8.8.8.8/dns-query#dns.google"];

/// Beside the application's own listener.
pub const VANTAGE_LISTEN: &str = "127.0.0.1:9155";
/// All are asked at once, in each gathering of an incident.
pub const OTHER_VANTAGES: usize = 16;

/// Clients far from each other, so that wherever we are one of them is elsewhere: the networks in which the RIPE NCC (Amsterdam)
/// and APNIC (Brisbane) have kept their own whois servers for decades. Registries do not move and are nobody's customers, and
/// these are not anycast. Networks for documentation would not do: they are nowhere, and get what nobody in particular gets.
pub const ECS_SUBNETS: [&str; 2] = ["193.0.6.0/24", "202.12.29.0/24"];
/// Each is one more question to every server.
pub const ECS_SUBNETS_MAX: usize = 4;
/// Longer ones name a client more closely than anybody may (RFC 7871, 11.1).
pub const ECS_PREFIX_MAX: (u8, u8) = (24, 56);
/// RFC 5905, 7.2.
pub const TIME_SERVER_PORT: u16 = 123;

/// Run by three organisations in networks of their own. The first two have lived at one address for years, so that
/// they tell a broken resolver from a broken network; the third depends on neither of the companies above.
pub const CONTROLS_BUILT_IN: [(&str, Option<&str>); 3] = [
    ("https://one.one.one.one/", Some("1.1.1.1")),
    ("https://dns.google/", Some("8.8.8.8")),
    ("https://www.wikipedia.org/", None),
];

/// `$XDG_STATE_HOME/ukai`, else `~/.local/state/ukai`; `/var/lib/ukai` for root and for who has no home.
pub fn default_data_dir() -> PathBuf {
    data_dir_for(rustix::process::geteuid().is_root(), |name| std::env::var_os(name))
}

fn data_dir_for(root: bool, variable: impl Fn(&str) -> Option<OsString>) -> PathBuf {
    let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if root {
        return PathBuf::from("/var/lib/ukai");
    }
    match (absolute("XDG_STATE_HOME"), absolute("HOME")) {
        (Some(state), _) => state.join("ukai"),
        (None, Some(home)) => home.join(".local/state/ukai"),
        (None, None) => PathBuf::from("/var/lib/ukai"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_directory_follows_the_environment() {
        let with = |root, state: Option<&str>, home: Option<&str>| {
            data_dir_for(root, |name| if name == "HOME" { home } else { state }.map(OsString::from))
        };
        assert_eq!(with(true, Some("/s"), Some("/h")), PathBuf::from("/var/lib/ukai"));
        assert_eq!(with(false, Some("/s"), Some("/h")), PathBuf::from("/s/ukai"));
        assert_eq!(with(false, None, Some("/h")), PathBuf::from("/h/.local/state/ukai"));
        assert_eq!(with(false, Some("relative"), Some("/h")), PathBuf::from("/h/.local/state/ukai"));
        assert_eq!(with(false, None, None), PathBuf::from("/var/lib/ukai"));
    }
}
