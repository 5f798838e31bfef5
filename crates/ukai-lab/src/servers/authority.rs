//! Who holds the policy zone.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::maker::Maker;
use super::server::{Server, free_address};
use super::{ALGORITHM, Key, ZONE};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Bind,
    Knot,
    PowerDns,
}

/// What the server is for the zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Takes updates signed with its key.
    Primary,
    /// The same, and signs the zone (DNSSEC). Knot only.
    Signing,
    /// Takes updates, and lets nobody transfer. Knot only.
    Closed,
    /// Lets our key transfer, and takes no update.
    ReadOnly,
    /// Transfers from there.
    Secondary(SocketAddr),
    /// Holds no zone at all, and knows the key.
    Empty,
}

/// A running name server with the zone.
#[derive(Debug)]
pub struct Authority {
    server: Server,
    dir: TempDir,
}

/// Whether all programs of the lab's servers are there; else what is missing.
pub fn is_installed() -> Result<(), String> {
    for program in [
        "named",
        "knotd",
        "pdns_server",
        "pdnsutil",
        "unbound",
        "unbound-control-setup",
        "openssl",
        "pdns_recursor",
        "kresd",
        "dig",
        "sqlite3",
    ] {
        let found = std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).chain(["/usr/sbin".into()]).any(|dir| dir.join(program).exists())
        });
        if !found {
            return Err(format!("{program} is not installed; `./test` installs it"));
        }
    }
    Ok(())
}

impl Authority {
    /// `notify`: who is told of changes, and may transfer without a key.
    pub fn start(kind: Kind, role: &Role, key: &Key, notify: &[SocketAddr]) -> io::Result<Authority> {
        Authority::start_at(free_address()?, kind, role, key, notify)
    }

    /// On an address that was told to somebody before.
    pub fn start_at(
        address: SocketAddr,
        kind: Kind,
        role: &Role,
        key: &Key,
        notify: &[SocketAddr],
    ) -> io::Result<Authority> {
        let temp = TempDir::new()?;
        let dir = temp.path();
        let setup = Setup { dir, address, role, key, notify };
        let (program, arguments) = match kind {
            Kind::Bind => setup.bind()?,
            Kind::Knot => setup.knot()?,
            Kind::PowerDns => setup.powerdns()?,
        };
        let server = Server::start(program, arguments, dir, address)?;
        Ok(Authority { server, dir: temp })
    }

    pub fn server(&mut self) -> &mut Server {
        &mut self.server
    }

    pub(super) fn maker(&self, role: &'static str) -> Maker {
        self.server.maker(role)
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Where Knot keeps the zone as a file.
    pub fn zone_file(&self) -> PathBuf {
        self.dir.path().join("zone.db")
    }

    /// The zone as it is transferred to somebody else's client, one record a line, sorted, without the SOA's serial.
    pub fn zone(&self, key: &Key) -> io::Result<String> {
        let address = self.server.address();
        let output = Command::new("dig")
            .arg(format!("@{}", address.ip()))
            .args(["-p", &address.port().to_string(), "-y", &format!("{ALGORITHM}:{}:{}", key.name, key.secret)])
            .args(["+noall", "+answer", "+tcp", "+tries=1", "+time=5", ZONE, "AXFR"])
            .stdin(Stdio::null())
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut lines: Vec<String> = text
            .lines()
            .filter(|line| !line.starts_with(';') && !line.trim().is_empty() && !line.contains("\tTSIG\t"))
            .map(without_serial)
            .collect();
        lines.sort();
        lines.dedup();
        if lines.is_empty() {
            return Err(io::Error::other(format!("the zone cannot be transferred: {text}")));
        }
        Ok(lines.join("\n"))
    }

    /// Somebody else's change, with `nsupdate`. Lines as it takes them, such as `add NAME 30 A 192.0.2.1`.
    pub fn change_by_hand(&self, key: &Key, lines: &[String]) -> io::Result<()> {
        use std::io::Write as _;
        let mut child = Command::new("nsupdate")
            .args(["-v", "-t", "5", "-y", &format!("{ALGORITHM}:{}:{}", key.name, key.secret)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let address = self.server.address();
        let mut text = format!("server {} {}\nzone {ZONE}\n", address.ip(), address.port());
        lines.iter().for_each(|line| {
            let _ = writeln!(text, "update {line}");
        });
        text.push_str("send\n");
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(text.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned())),
        }
    }
}

fn without_serial(line: &str) -> String {
    let fields: Vec<&str> = line.split_whitespace().collect();
    match fields.get(3) {
        Some(&"SOA") => {
            let kept = fields.iter().enumerate().filter(|(index, _)| *index != 6).map(|(_, field)| *field);
            kept.collect::<Vec<_>>().join(" ")
        }
        _ => fields.join(" "),
    }
}

const ZONE_FILE: &str = "$TTL 30\n@ IN SOA localhost. hostmaster.localhost. 1 2 1 3600 5\n@ IN NS localhost.\n";

struct Setup<'a> {
    dir: &'a Path,
    address: SocketAddr,
    role: &'a Role,
    key: &'a Key,
    notify: &'a [SocketAddr],
}

type Start = (&'static str, Vec<String>);

impl Setup<'_> {
    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        fs::write(self.dir.join(name), text)
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn bind(&self) -> io::Result<Start> {
        let Key { name, secret } = self.key;
        let dir = self.dir.display();
        let also: String = self.notify.iter().map(|to| format!("{} port {}; ", to.ip(), to.port())).collect();
        let zone = match self.role {
            Role::Primary | Role::Signing | Role::Closed => {
                format!("type primary; file \"zone.db\"; update-policy {{ grant {name} zonesub ANY; }};")
            }
            Role::ReadOnly => "type primary; file \"zone.db\";".to_owned(),
            Role::Secondary(primary) => {
                let (ip, port) = (primary.ip(), primary.port());
                format!("type secondary; file \"copy.db\"; primaries {{ {ip} port {port} key {name}; }};")
            }
            Role::Empty => String::new(),
        };
        let zone = match zone.is_empty() {
            true => String::new(),
            false => format!("zone \"{ZONE}\" {{ {zone} notify explicit; also-notify {{ {also} }}; }};\n"),
        };
        self.write("zone.db", ZONE_FILE)?;
        self.write(
            "named.conf",
            &format!(
                "key \"{name}\" {{ algorithm {ALGORITHM}; secret \"{secret}\"; }};\n\
                 options {{ directory \"{dir}\"; pid-file \"{dir}/named.pid\"; session-keyfile \"{dir}/session.key\"; \
                 lock-file none; managed-keys-directory \"{dir}\"; listen-on port {port} {{ 127.0.0.1; }}; \
                 listen-on-v6 {{ none; }}; recursion no; dnssec-validation no; allow-transfer {{ key {name}; 127.0.0.1; }}; \
                 notify-delay 0; startup-notify-rate 100; notify-rate 100; }};\n\
                 controls {{ }};\n{zone}",
                port = self.address.port(),
            ),
        )?;
        Ok(("named", ["-g", "-n", "1", "-c", &self.path("named.conf")].map(str::to_owned).to_vec()))
    }

    fn knot(&self) -> io::Result<Start> {
        let Key { name, secret } = self.key;
        let dir = self.dir.display();
        let mut remotes = String::new();
        for (index, to) in self.notify.iter().enumerate() {
            let _ = write!(remotes, "  - id: follower{index}\n    address: {}@{}\n", to.ip(), to.port());
        }
        if let Role::Secondary(primary) = self.role {
            let _ =
                write!(remotes, "  - id: primary\n    address: {}@{}\n    key: {name}\n", primary.ip(), primary.port());
        }
        let remotes = if remotes.is_empty() { remotes } else { format!("remote:\n{remotes}") };
        let told: Vec<String> = (0..self.notify.len()).map(|index| format!("follower{index}")).collect();
        let notify = match told.is_empty() {
            true => String::new(),
            false => format!("    notify: [{}]\n", told.join(", ")),
        };
        let (action, local) = match self.role {
            Role::Primary | Role::Signing => ("[transfer, update]", "[transfer, notify]"),
            Role::Closed => ("update", "notify"),
            Role::ReadOnly | Role::Secondary(_) | Role::Empty => ("transfer", "[transfer, notify]"),
        };
        let signing = if *self.role == Role::Signing { "    dnssec-signing: on\n" } else { "" };
        let master = if matches!(self.role, Role::Secondary(_)) { "    master: primary\n" } else { "" };
        let zone = match self.role {
            Role::Empty => String::new(),
            _ => format!(
                "zone:\n  - domain: {ZONE}\n    storage: {dir}\n    file: zone.db\n    acl: [by-key, local]\n{master}{notify}{signing}    zonefile-sync: 0\n",
            ),
        };
        if !matches!(self.role, Role::Secondary(_)) {
            self.write("zone.db", ZONE_FILE)?;
        }
        self.write(
            "knot.conf",
            &format!(
                "server:\n    rundir: {dir}\n    listen: 127.0.0.1@{port}\n    udp-workers: 1\n    tcp-workers: 1\n    background-workers: 1\n\
                 database:\n    storage: {dir}\nlog:\n  - target: stderr\n    any: info\n\
                 key:\n  - id: {name}\n    algorithm: {ALGORITHM}\n    secret: {secret}\n\
                 acl:\n  - id: by-key\n    key: {name}\n    action: {action}\n  - id: local\n    address: 127.0.0.0/8\n    action: {local}\n\
                 {remotes}{zone}",
                port = self.address.port(),
            ),
        )?;
        Ok(("knotd", ["-c", &self.path("knot.conf")].map(str::to_owned).to_vec()))
    }

    fn powerdns(&self) -> io::Result<Start> {
        let dir = self.dir.display();
        let also: Vec<String> = self.notify.iter().map(ToString::to_string).collect();
        self.write(
            "pdns.conf",
            &format!(
                "launch=gsqlite3\ngsqlite3-database={dir}/zones.db\ngsqlite3-pragma-synchronous=0\nlocal-address=127.0.0.1\n\
                 local-port={port}\nsocket-dir={dir}\ndnsupdate=yes\nallow-dnsupdate-from={from}\nallow-axfr-ips=127.0.0.0/8\n\
                 primary=yes\nsecondary=yes\nalso-notify={also}\ncache-ttl=0\nquery-cache-ttl=0\nnegquery-cache-ttl=0\n\
                 zone-cache-refresh-interval=0\nxfr-cycle-interval=1\nguardian=no\ndaemon=no\nwrite-pid=no\nsetuid=\nsetgid=\n\
                 receiver-threads=1\ndistributor-threads=1\nsend-signed-notify=no\n",
                port = self.address.port(),
                also = also.join(","),
                from = if *self.role == Role::Primary { "127.0.0.0/8" } else { "" },
            ),
        )?;
        let schema = fs::read_to_string("/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql")
            .or_else(|_| fs::read_to_string("/usr/share/doc/pdns-backend-sqlite3/schema.sqlite3.sql"))?;
        self.run("sqlite3", &[&self.path("zones.db"), &schema])?;
        let configuration = format!("--config-dir={dir}");
        let pdnsutil = |arguments: &[&str]| {
            let all: Vec<&str> = [configuration.as_str()].into_iter().chain(arguments.iter().copied()).collect();
            self.run("pdnsutil", &all)
        };
        let Key { name, secret } = self.key;
        pdnsutil(&["import-tsig-key", name, ALGORITHM, secret])?;
        match self.role {
            Role::Empty => return Ok(("pdns_server", vec![configuration])),
            Role::Secondary(primary) => {
                pdnsutil(&["create-secondary-zone", ZONE, &primary.to_string()])?;
                pdnsutil(&["set-meta", ZONE, "AXFR-MASTER-TSIG", name])?;
                pdnsutil(&["set-meta", ZONE, "TSIG-ALLOW-AXFR", name])?;
            }
            Role::Primary | Role::Signing | Role::Closed | Role::ReadOnly => {
                pdnsutil(&["create-zone", ZONE, "localhost"])?;
                pdnsutil(&["set-kind", ZONE, "primary"])?;
                pdnsutil(&["set-meta", ZONE, "TSIG-ALLOW-AXFR", name])?;
                pdnsutil(&["set-meta", ZONE, "SOA-EDIT-DNSUPDATE", "INCREASE"])?;
            }
        }
        if *self.role == Role::Primary {
            pdnsutil(&["set-meta", ZONE, "TSIG-ALLOW-DNSUPDATE", name])?;
        }
        pdnsutil(&["set-meta", ZONE, "NOTIFY-DNSUPDATE", "1"])?;
        Ok(("pdns_server", vec![configuration]))
    }

    fn run(&self, program: &str, arguments: &[&str]) -> io::Result<()> {
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(io::Error::other(format!("{program}: {}", String::from_utf8_lossy(&output.stderr)))),
        }
    }
}
