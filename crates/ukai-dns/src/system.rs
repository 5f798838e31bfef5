//! What the machine's applications ask: `resolv.conf` as the C library reads it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use serde::Serialize;

use crate::upstream::Upstream;

pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The C library uses no more than three name servers (resolv.conf(5), MAXNS).
const MAX_SERVERS: usize = 3;
/// A resolv.conf is a page at most; more is not one.
const MAX_FILE: u64 = 64 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SystemResolver {
    pub servers: Vec<Upstream>,
    pub search: Vec<String>,
    pub ndots: u8,
    /// Seconds for one server.
    pub timeout_secs: u8,
    pub attempts: u8,
    pub rotate: bool,
    pub use_tcp: bool,
    /// Lines that the C library, or we, do not understand.
    pub ignored: Vec<String>,
}

impl SystemResolver {
    pub fn read(path: &Path) -> Result<Self, SystemError> {
        let fail = |cause: io::Error| SystemError { path: path.display().to_string(), cause: cause.to_string() };
        let file = std::fs::File::open(path).map_err(fail)?;
        let text = io::read_to_string(io::Read::take(file, MAX_FILE)).map_err(fail)?;
        Ok(Self::parse(&text))
    }

    pub fn parse(text: &str) -> Self {
        let mut resolver = Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout_secs: 5,
            attempts: 2,
            rotate: false,
            use_tcp: false,
            ignored: Vec::new(),
        };
        for line in text.lines() {
            resolver.parse_line(line);
        }
        if resolver.servers.is_empty() {
            resolver.servers.push(Upstream::Udp(SocketAddr::from((Ipv4Addr::LOCALHOST, 53))));
        }
        if resolver.use_tcp {
            resolver.servers = resolver.servers.iter().map(|server| Upstream::Tcp(server.address())).collect();
        }
        resolver
    }

    fn parse_line(&mut self, line: &str) {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match words.next() {
            None | Some("sortlist") => {}
            Some("nameserver") => match words.next().and_then(|word| word.parse::<IpAddr>().ok()) {
                Some(ip) if self.servers.len() < MAX_SERVERS => {
                    self.servers.push(Upstream::Udp(SocketAddr::new(ip, 53)))
                }
                _ => self.ignored.push(line.to_owned()),
            },
            // The last of `search` and `domain` wins.
            Some("search" | "domain") => self.search = words.map(str::to_owned).collect(),
            Some("options") => words.for_each(|option| self.parse_option(option)),
            Some(_) => self.ignored.push(line.to_owned()),
        }
    }

    fn parse_option(&mut self, option: &str) {
        let (name, value) = option.split_once(':').unwrap_or((option, ""));
        let number = |default: u8, max: u8| value.parse::<u8>().map_or(default, |value| value.min(max));
        // The caps are the C library's own.
        match name {
            "ndots" => self.ndots = number(self.ndots, 15),
            "timeout" => self.timeout_secs = number(self.timeout_secs, 30),
            "attempts" => self.attempts = number(self.attempts, 5),
            "rotate" => self.rotate = true,
            "use-vc" => self.use_tcp = true,
            _ => {}
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {path}: {cause}")]
pub struct SystemError {
    pub path: String,
    pub cause: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_file() {
        let text = "# made by hand\ndomain old.test\nnameserver 192.0.2.53 # first\nnameserver ::1\nsearch a.test b.test\n\
                    options ndots:5 timeout:1 attempts:99 rotate edns0\nnameserver fe80::1%eth0\nnonsense here\n";
        let resolver = SystemResolver::parse(text);
        assert_eq!(resolver.servers, ["192.0.2.53", "::1"].map(|text| text.parse().unwrap()));
        assert_eq!(resolver.search, ["a.test", "b.test"]);
        assert_eq!((resolver.ndots, resolver.timeout_secs, resolver.attempts, resolver.rotate), (5, 1, 5, true));
        assert_eq!(resolver.ignored, ["nameserver fe80::1%eth0", "nonsense here"]);
    }

    #[test]
    fn nothing_said_means_this_host() {
        assert_eq!(SystemResolver::parse("").servers, ["127.0.0.1".parse().unwrap()]);
    }

    #[test]
    fn no_more_than_three() {
        let resolver = SystemResolver::parse(
            "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\noptions use-vc",
        );
        assert_eq!(resolver.servers.len(), 3);
        assert_eq!(resolver.servers[0].to_string(), "tcp://192.0.2.1:53");
    }

    #[test]
    fn a_file_that_is_not_there() {
        let error = SystemResolver::read(Path::new("/nonexistent/resolv.conf")).unwrap_err();
        assert!(error.to_string().starts_with("cannot read /nonexistent/resolv.conf: "), "{error}");
    }
}
