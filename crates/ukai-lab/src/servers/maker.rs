//! Whose program a server is, and of which version: a result counts for that one.

use std::fmt;
use std::process::{Command, Stdio};

use serde::Serialize;

/// A program of somebody else's that takes part in a drill.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Maker {
    /// What it does there.
    pub role: &'static str,
    pub name: &'static str,
    pub program: &'static str,
    /// None: it does not say.
    pub version: Option<String>,
}

impl Maker {
    /// Asks the program itself.
    pub(super) fn of(program: &'static str, role: &'static str) -> Maker {
        let (name, option) = match program {
            "named" => ("BIND", "-V"),
            "knotd" => ("Knot DNS", "-V"),
            "unbound" => ("Unbound", "-V"),
            "kresd" => ("Knot Resolver", "-V"),
            "pdns_server" => ("PowerDNS Authoritative Server", "--version"),
            "pdns_recursor" => ("PowerDNS Recursor", "--version"),
            other => (other, "-V"),
        };
        let output = Command::new(program).arg(option).stdin(Stdio::null()).output();
        let version = output.ok().and_then(|output| {
            let said = [output.stdout, output.stderr].concat();
            version(&String::from_utf8_lossy(&said)).map(str::to_owned)
        });
        Maker { role, name, program, version }
    }
}

impl fmt::Display for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = self.version.as_deref().unwrap_or("of an unknown version");
        write!(f, "{} {version} ({}) {}", self.name, self.program, self.role)
    }
}

/// The first word that is written as a version; a time of day has no dots.
fn version(said: &str) -> Option<&str> {
    let is_version = |word: &&str| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.');
    said.split_whitespace().find(is_version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_program_says_its_version_in_its_own_way() {
        for (said, found) in [
            (
                "BIND 9.18.49-1~deb12u3-Debian (Extended Support Version) <id:>\nrunning on Linux 6.1",
                "9.18.49-1~deb12u3-Debian",
            ),
            ("knotd (Knot DNS), version 3.2.6", "3.2.6"),
            ("Nov 26 06:10:16 PowerDNS Authoritative Server 4.7.3 (C) 2001-2022 PowerDNS.COM BV", "4.7.3"),
            ("Version 1.17.1\n\nConfigure line: --build=x86_64-linux-gnu", "1.17.1"),
        ] {
            assert_eq!(version(said), Some(found));
        }
        assert_eq!(version("usage: -V"), None);
    }
}
