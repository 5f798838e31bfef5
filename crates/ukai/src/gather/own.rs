//! How this machine itself resolves, leaves and tells the time: read from its files, asked of its routing table.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use ukai_core::diagnose::evidence::OwnNetwork;
use ukai_dns::SystemResolver;
use ukai_dns::system::RESOLV_CONF;
use ukai_probe::escape::escape;

use super::families::ANY_PORT;
use super::sntp;
use super::subject::Vantage;

/// Lists that block advertisements have some megabytes.
const FILE_BYTES: u64 = 8 * 1024 * 1024;
/// Lines of one kind that are kept: the C library itself reads three name servers and six search domains.
const KEPT: usize = 16;
/// Where a packet to the world goes: an address of a.root-servers.net in each family. Nothing is sent there.
const THE_WORLD: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(198, 41, 0, 4)), IpAddr::V6(Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30))];

/// Where the system keeps what is read here.
#[derive(Debug, Clone)]
pub struct SystemFiles {
    pub resolv_conf: PathBuf,
    pub hosts: PathBuf,
    pub nsswitch: PathBuf,
    /// The system's tables of TCP connections, proc_pid_net(5).
    pub tcp: Vec<PathBuf>,
    /// The descriptors that this process has open, proc_pid_fd(5).
    pub descriptors: PathBuf,
}

impl Default for SystemFiles {
    fn default() -> Self {
        Self {
            resolv_conf: RESOLV_CONF.into(),
            hosts: "/etc/hosts".into(),
            nsswitch: "/etc/nsswitch.conf".into(),
            tcp: vec!["/proc/net/tcp".into(), "/proc/net/tcp6".into()],
            descriptors: "/proc/self/fd".into(),
        }
    }
}

/// A file that cannot be read says nothing, and a time server that does not answer tells no time.
pub async fn read(vantage: &Vantage, host: &str) -> OwnNetwork {
    let (files, name) = (vantage.system.clone(), host.to_owned());
    let read = tokio::task::spawn_blocking(move || from_files(&files, &name));
    let offset = async {
        match vantage.time_server {
            Some(server) => sntp::offset_ms(server).await.ok(),
            None => None,
        }
    };
    let (read, time_server_offset_ms) = tokio::join!(read, offset);
    let [v4, v6] = THE_WORLD.map(|address| (vantage.is_routed)(SocketAddr::new(address, ANY_PORT)));
    OwnNetwork { ipv4_route: v4, ipv6_route: v6, time_server_offset_ms, ..read.unwrap_or_default() }
}

fn from_files(files: &SystemFiles, host: &str) -> OwnNetwork {
    let resolv_conf = text(&files.resolv_conf);
    let resolver = resolv_conf.as_deref().map(SystemResolver::parse);
    OwnNetwork {
        name_servers: resolv_conf.as_deref().map(name_servers).unwrap_or_default(),
        ndots: resolver.as_ref().map(|resolver| resolver.ndots),
        search: resolver.iter().flat_map(|it| &it.search).take(KEPT).map(|domain| escape(domain)).collect(),
        nsswitch: text(&files.nsswitch).and_then(|text| hosts_line(&text)),
        hosts_file: text(&files.hosts).map(|text| addresses_of(&text, host)).unwrap_or_default(),
        ..OwnNetwork::default()
    }
}

/// As they are written: one that the C library leaves out is a finding.
fn name_servers(resolv_conf: &str) -> Vec<String> {
    let lines = resolv_conf.lines().map(uncommented);
    let servers = lines.filter_map(|line| match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["nameserver", server, ..] => Some(escape(server)),
        _ => None,
    });
    servers.take(KEPT).collect()
}

/// nsswitch.conf(5): the sources for the database `hosts`, in order.
fn hosts_line(nsswitch: &str) -> Option<String> {
    let mut lines = nsswitch.lines().map(uncommented);
    lines.find_map(|line| {
        let sources = line.trim_start().strip_prefix("hosts")?.trim_start().strip_prefix(':')?;
        Some(escape(&sources.split_whitespace().collect::<Vec<_>>().join(" ")))
    })
}

/// hosts(5): an address, then its names, on each line.
fn addresses_of(hosts: &str, host: &str) -> BTreeSet<IpAddr> {
    let is_host = |name: &str| name.trim_end_matches('.').eq_ignore_ascii_case(host);
    let of_line = |line: &str| {
        let mut words = uncommented(line).split_whitespace();
        let address = words.next()?;
        // An address of a link may name its interface.
        let address = address.split('%').next()?.parse::<IpAddr>().ok()?;
        words.any(is_host).then_some(address)
    };
    hosts.lines().filter_map(of_line).take(KEPT).collect()
}

fn uncommented(line: &str) -> &str {
    line.split('#').next().unwrap_or_default()
}

fn text(path: &Path) -> Option<String> {
    bounded(path, FILE_BYTES).ok()
}

/// The head of a file, as text.
pub fn bounded(path: &Path, bytes: u64) -> io::Result<String> {
    let mut head = Vec::new();
    std::fs::File::open(path)?.take(bytes).read_to_end(&mut head)?;
    Ok(String::from_utf8_lossy(&head).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(resolv_conf: &str, hosts: &str, nsswitch: &str) -> OwnNetwork {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(directory.path().join(name), text).unwrap();
            directory.path().join(name)
        };
        let files = SystemFiles {
            resolv_conf: write("resolv.conf", resolv_conf),
            hosts: write("hosts", hosts),
            nsswitch: write("nsswitch.conf", nsswitch),
            ..SystemFiles::default()
        };
        from_files(&files, "api.peer.test")
    }

    #[test]
    fn the_files_of_a_usual_machine() {
        let own = written(
            "# by hand\ndomain old.test\nnameserver 192.0.2.53 # first\nnameserver fe80::1%eth0\nsearch a.test b.test\noptions ndots:5\n",
            "127.0.0.1 localhost\n192.0.2.7\tdb.test API.Peer.test. # pinned\n192.0.2.8 other.peer.test\n\
             fe80::7%eth0 api.peer.test\n#192.0.2.9 api.peer.test\nnonsense api.peer.test\n",
            "passwd: files\nhosts:  files  mdns4_minimal [NOTFOUND=return] dns # usual\n",
        );
        assert_eq!(own.name_servers, ["192.0.2.53", "fe80::1%eth0"]);
        assert_eq!((own.search, own.ndots), (vec!["a.test".to_owned(), "b.test".to_owned()], Some(5)));
        assert_eq!(own.nsswitch.as_deref(), Some("files mdns4_minimal [NOTFOUND=return] dns"));
        let pinned = ["192.0.2.7", "fe80::7"].map(|text| text.parse::<IpAddr>().unwrap());
        assert_eq!(own.hosts_file, BTreeSet::from(pinned));
    }

    #[test]
    fn files_that_say_nothing_and_files_that_are_not_there() {
        let empty = written("", "", "");
        assert_eq!(empty, OwnNetwork { ndots: Some(1), ..OwnNetwork::default() });
        let nowhere = PathBuf::from("/nonexistent/file");
        let files = SystemFiles {
            resolv_conf: nowhere.clone(),
            hosts: nowhere.clone(),
            nsswitch: nowhere,
            ..SystemFiles::default()
        };
        assert_eq!(from_files(&files, "api.peer.test"), OwnNetwork::default());
    }

    #[test]
    fn a_file_without_end_is_cut() {
        let head = bounded(Path::new("/dev/zero"), 1000).unwrap();
        assert_eq!(head.len(), 1000);
        let long = written(&"nameserver 192.0.2.1\n".repeat(1000), "", "hosts: \u{1b}[31mfiles\n");
        assert_eq!(long.name_servers.len(), KEPT);
        assert!(!long.nsswitch.unwrap().contains('\u{1b}'));
    }
}
