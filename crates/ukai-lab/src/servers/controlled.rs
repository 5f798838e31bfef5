//! An Unbound that forwards everything, with its remote control on.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::maker::Maker;
use super::server::{Server, free_address};

#[derive(Debug)]
pub struct Controlled {
    server: Server,
    control: SocketAddr,
    dir: TempDir,
}

impl Controlled {
    /// On `address`, forwarding to `upstream`. Keys and certificates are those of `unbound-control-setup`.
    pub fn start(address: SocketAddr, upstream: SocketAddr) -> io::Result<Controlled> {
        let dir = TempDir::new()?;
        let control = free_address()?;
        run(Command::new("unbound-control-setup").arg("-d").arg(dir.path()))?;
        let place = dir.path().display();
        fs::write(
            dir.path().join("unbound.conf"),
            format!(
                "server:\n  interface: {}@{}\n  do-daemonize: no\n  username: \"\"\n  chroot: \"\"\n  directory: \"{place}\"\n  pidfile: \"\"\n  \
                 use-syslog: no\n  logfile: \"\"\n  num-threads: 1\n  do-not-query-localhost: no\n  module-config: \"iterator\"\n  \
                 local-zone: \"test.\" nodefault\n\
                 remote-control:\n  control-enable: yes\n  control-interface: {}\n  control-port: {}\n  \
                 server-key-file: \"{place}/unbound_server.key\"\n  server-cert-file: \"{place}/unbound_server.pem\"\n  \
                 control-key-file: \"{place}/unbound_control.key\"\n  control-cert-file: \"{place}/unbound_control.pem\"\n\
                 forward-zone:\n  name: \".\"\n  forward-addr: {}@{}\n",
                address.ip(),
                address.port(),
                control.ip(),
                control.port(),
                upstream.ip(),
                upstream.port()
            ),
        )?;
        let configuration = dir.path().join("unbound.conf").display().to_string();
        let server = Server::start("unbound", vec!["-d".into(), "-c".into(), configuration], dir.path(), address)?;
        Ok(Controlled { server, control, dir })
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

    pub fn control(&self) -> SocketAddr {
        self.control
    }

    /// A file of `unbound-control-setup`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `unbound-control`, as anybody would call it.
    pub fn command(&self, arguments: &[&str]) -> io::Result<String> {
        run(Command::new("unbound-control").arg("-c").arg(self.file("unbound.conf")).args(arguments))
    }

    /// Everything that is local in it, sorted.
    pub fn local(&self) -> io::Result<String> {
        let all = self.command(&["list_local_zones"])? + &self.command(&["list_local_data"])?;
        let mut lines: Vec<&str> = all.lines().filter(|line| !line.trim().is_empty()).collect();
        lines.sort_unstable();
        Ok(lines.join("\n"))
    }
}

fn run(command: &mut Command) -> io::Result<String> {
    let output = command.stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(text),
        false => Err(io::Error::other(format!("{text}{}", String::from_utf8_lossy(&output.stderr)))),
    }
}
