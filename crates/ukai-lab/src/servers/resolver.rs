//! Resolvers of a team, which follow the policy zone and forward everything to one server.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tempfile::TempDir;

use super::authority::{Authority, Kind, Role};
use super::maker::Maker;
use super::server::{Server, free_address};
use super::{ALGORITHM, Key, ZONE};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolver {
    Bind,
    Unbound,
    PowerDns,
    /// Reads policy zones from files only: a Knot DNS follows for it.
    KnotResolver,
}

/// A running resolver that follows the zone.
#[derive(Debug)]
pub struct Follower {
    server: Server,
    _dir: TempDir,
    _secondary: Option<Authority>,
}

impl Follower {
    /// Following `primary`, which notifies `address`, and forwarding to `upstream`.
    pub fn start(
        kind: Resolver,
        address: SocketAddr,
        primary: SocketAddr,
        upstream: SocketAddr,
        key: &Key,
    ) -> io::Result<Follower> {
        let secondary = match kind {
            Resolver::KnotResolver => Some(with_zone_file(address, primary, key)?),
            Resolver::Bind | Resolver::Unbound | Resolver::PowerDns => None,
        };
        let address = if secondary.is_some() { free_address()? } else { address };
        let temp = TempDir::new()?;
        let dir = temp.path().display().to_string();
        let write = |name: &str, text: String| fs::write(temp.path().join(name), text);
        let (ip, port, p, u) = (address.ip(), address.port(), primary, upstream);
        let (program, arguments) = match kind {
            Resolver::Bind => {
                let Key { name, secret } = key;
                write(
                    "named.conf",
                    format!(
                        "key \"{name}\" {{ algorithm {ALGORITHM}; secret \"{secret}\"; }};\n\
                         options {{ directory \"{dir}\"; pid-file \"{dir}/named.pid\"; session-keyfile \"{dir}/session.key\"; \
                         lock-file none; managed-keys-directory \"{dir}\"; listen-on port {port} {{ {ip}; }}; \
                         listen-on-v6 {{ none; }}; recursion yes; allow-recursion {{ any; }}; dnssec-validation no; empty-zones-enable no; \
                         forward only; forwarders {{ {} port {}; }}; \
                         response-policy {{ zone \"{ZONE}\" min-update-interval 0; }} qname-wait-recurse no; }};\n\
                         controls {{ }};\n\
                         zone \"{ZONE}\" {{ type secondary; file \"copy.db\"; primaries {{ {} port {} key {name}; }}; \
                         allow-notify {{ any; }}; }};\n",
                        u.ip(),
                        u.port(),
                        p.ip(),
                        p.port()
                    ),
                )?;
                ("named", vec!["-g".into(), "-n".into(), "1".into(), "-c".into(), format!("{dir}/named.conf")])
            }
            Resolver::Unbound => {
                write(
                    "unbound.conf",
                    format!(
                        "server:\n  interface: {ip}@{port}\n  do-daemonize: no\n  username: \"\"\n  chroot: \"\"\n  directory: \"{dir}\"\n  \
                         pidfile: \"\"\n  use-syslog: no\n  logfile: \"\"\n  num-threads: 1\n  do-not-query-localhost: no\n  \
                         module-config: \"respip iterator\"\n  local-zone: \"test.\" nodefault\n  cache-max-ttl: 5\n\
                         remote-control:\n  control-enable: no\n\
                         forward-zone:\n  name: \".\"\n  forward-addr: {}@{}\n\
                         rpz:\n  name: {ZONE}\n  primary: {}@{}\n  allow-notify: 127.0.0.0/8\n  zonefile: \"{dir}/copy.db\"\n",
                        u.ip(),
                        u.port(),
                        p.ip(),
                        p.port()
                    ),
                )?;
                ("unbound", vec!["-d".into(), "-c".into(), format!("{dir}/unbound.conf")])
            }
            Resolver::PowerDns => {
                let Key { name, secret } = key;
                write(
                    "rpz.lua",
                    format!(
                        "rpzPrimary({{\"{p}\"}}, \"{ZONE}\", {{tsigname=\"{name}\", tsigalgo=\"{ALGORITHM}\", tsigsecret=\"{secret}\", refresh=1, maxTTL=10}})\n"
                    ),
                )?;
                write(
                    "recursor.conf",
                    format!(
                        "local-address={ip}\nlocal-port={port}\nsocket-dir={dir}\ndaemon=no\nwrite-pid=no\nsetuid=\nsetgid=\nthreads=1\n\
                         dnssec=off\nforward-zones-recurse=.={u}\nlua-config-file={dir}/rpz.lua\nserve-rfc1918=no\ndont-query=\n\
                         hint-file=no\nallow-from=127.0.0.0/8\nwebserver=no\nsecurity-poll-suffix=\npacketcache-ttl=1\n"
                    ),
                )?;
                ("pdns_recursor", vec![format!("--config-dir={dir}")])
            }
            Resolver::KnotResolver => {
                let file = secondary.as_ref().map(Authority::zone_file).unwrap_or_default();
                write(
                    "kresd.conf",
                    format!(
                        "net.listen('{ip}', {port}, {{ kind = 'dns' }})\nnet.ipv6 = false\ntrust_anchors.remove('.')\n\
                         modules.unload('ta_update')\nmodules.unload('ta_signal_query')\nmodules.unload('priming')\n\
                         modules = {{ 'policy' }}\ncache.open(50 * MB, 'lmdb://{dir}/cache')\ncache.max_ttl(5)\n\
                         policy.add(policy.rpz(policy.DENY, '{}', true))\n\
                         policy.add(policy.all(policy.FORWARD('{}@{}')))\n",
                        file.display(),
                        u.ip(),
                        u.port()
                    ),
                )?;
                ("kresd", vec!["--noninteractive".into(), "-c".into(), format!("{dir}/kresd.conf"), dir.clone()])
            }
        };
        let server = Server::start(program, arguments, temp.path(), address)?;
        Ok(Follower { server, _dir: temp, _secondary: secondary })
    }

    pub fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    pub(super) fn maker(&self, role: &'static str) -> Maker {
        self.server.maker(role)
    }

    /// Where it resolves.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }
}

/// Knot DNS, once it has the zone as a file.
fn with_zone_file(address: SocketAddr, primary: SocketAddr, key: &Key) -> io::Result<Authority> {
    const POLL: Duration = Duration::from_millis(50);
    const POLLS: usize = 600;
    let secondary = Authority::start_at(address, Kind::Knot, &Role::Secondary(primary), key, &[])?;
    for _ in 0..POLLS {
        if secondary.zone_file().exists() {
            return Ok(secondary);
        }
        std::thread::sleep(POLL);
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "Knot DNS has not got the zone"))
}
