//! The servers of a team that has DNS already, in place of ukai's own: one that holds the policy zone, and a resolver that
//! follows it and that the application asks.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use toml::{Table, Value};

use super::{ALGORITHM, Authority, Controlled, Follower, Key, Kind, Maker, Resolver, Role, ZONE};

const KEY_NAME: &str = "ukai";
const SECRET_FILE: &str = "tsig.secret";

/// Which programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stack {
    /// BIND holds the zone, Unbound follows it.
    Bind,
    /// Knot holds the zone, Unbound follows it.
    Knot,
    /// PowerDNS's authoritative server and its recursor.
    PowerDns,
    /// Unbound alone, told by its remote control.
    Unbound,
}

impl FromStr for Stack {
    type Err = String;

    fn from_str(word: &str) -> Result<Stack, String> {
        match word {
            "bind" => Ok(Stack::Bind),
            "knot" => Ok(Stack::Knot),
            "pdns" => Ok(Stack::PowerDns),
            "unbound" => Ok(Stack::Unbound),
            other => Err(format!("{other:?} is not known here; known here: bind, knot, pdns, unbound")),
        }
    }
}

/// Running servers.
#[derive(Debug)]
pub struct Team {
    servers: Servers,
    application: SocketAddr,
}

#[derive(Debug)]
enum Servers {
    Zone { authority: Box<Authority>, follower: Box<Follower>, key: Key, secret: PathBuf },
    Unbound(Box<Controlled>),
}

impl Team {
    /// The resolver listens where the application asks, and forwards to `upstream`. A secret is written into `dir`.
    pub fn start(stack: Stack, application: SocketAddr, upstream: SocketAddr, dir: &Path) -> io::Result<Team> {
        let (kind, resolver) = match stack {
            // BIND listens on addresses of an interface only, and the application's is none.
            Stack::Bind => (Kind::Bind, Resolver::Unbound),
            Stack::Knot => (Kind::Knot, Resolver::Unbound),
            Stack::PowerDns => (Kind::PowerDns, Resolver::PowerDns),
            Stack::Unbound => {
                let unbound = Controlled::start(application, upstream)?;
                return Ok(Team { servers: Servers::Unbound(Box::new(unbound)), application });
            }
        };
        let key = Key::random(KEY_NAME);
        let secret = dir.join(SECRET_FILE);
        std::fs::write(&secret, format!("{}\n", key.secret))?;
        let authority = Box::new(Authority::start(kind, &Role::Primary, &key, &[application])?);
        let follower = Follower::start(resolver, application, authority.address(), upstream, &key)?;
        Ok(Team { servers: Servers::Zone { authority, follower: Box::new(follower), key, secret }, application })
    }

    /// Whose programs they are.
    pub fn makers(&self) -> Vec<Maker> {
        match &self.servers {
            Servers::Zone { authority, follower, .. } => {
                vec![authority.maker("holds the policy zone"), follower.maker("follows it")]
            }
            Servers::Unbound(unbound) => vec![unbound.maker("is told by its remote control")],
        }
    }

    /// Everything that overrides may leave behind, by the eyes of another program.
    ///
    /// # Errors
    /// The server does not answer it.
    pub fn contents(&self) -> io::Result<String> {
        match &self.servers {
            Servers::Zone { authority, key, .. } => authority.zone(key),
            Servers::Unbound(unbound) => unbound.local(),
        }
    }

    /// The daemon's configuration with these servers in place of its own.
    ///
    /// # Errors
    /// It is no TOML.
    pub fn configure(&self, config: &str) -> Result<String, toml::de::Error> {
        let mut file: Table = config.parse()?;
        file.remove("dns");
        let (name, section) = self.section();
        file.insert(name.to_owned(), Value::Table(section));
        if let Some(application) = file.get_mut("application").and_then(Value::as_table_mut) {
            application.insert("resolver".to_owned(), text(&format!("udp://{}", self.application)));
        }
        Ok(file.to_string())
    }

    fn section(&self) -> (&'static str, Table) {
        match &self.servers {
            Servers::Zone { authority, secret, .. } => {
                let secret = table([("file", text(&secret.display()))]);
                let tsig = table([
                    ("name", text(&KEY_NAME)),
                    ("algorithm", text(&ALGORITHM)),
                    ("secret", Value::Table(secret)),
                ]);
                let zone =
                    [("server", text(&authority.address())), ("zone", text(&ZONE)), ("tsig", Value::Table(tsig))];
                ("rfc2136", table(zone))
            }
            Servers::Unbound(unbound) => {
                let file = |name: &str| text(&unbound.file(name).display());
                let control = [
                    ("control", text(&unbound.control())),
                    ("server_certificate", file("unbound_server.pem")),
                    ("certificate", file("unbound_control.pem")),
                    ("key", file("unbound_control.key")),
                ];
                ("unbound", table(control))
            }
        }
    }
}

fn text(text: &dyn ToString) -> Value {
    Value::String(text.to_string())
}

fn table<const N: usize>(entries: [(&str, Value); N]) -> Table {
    entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
