//! The servers of a team that has DNS already, in place of ukai's own: one that holds the policy zone, and a resolver that
//! follows it and that the application asks.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use toml::{Table, Value};

use super::{ALGORITHM, Authority, Follower, Key, Kind, Resolver, Role, ZONE};

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
}

impl FromStr for Stack {
    type Err = String;

    fn from_str(word: &str) -> Result<Stack, String> {
        match word {
            "bind" => Ok(Stack::Bind),
            "knot" => Ok(Stack::Knot),
            "pdns" => Ok(Stack::PowerDns),
            other => Err(format!("{other:?} is not known here; known here: bind, knot, pdns")),
        }
    }
}

/// Running servers.
#[derive(Debug)]
pub struct Team {
    pub authority: Authority,
    pub follower: Follower,
    pub key: Key,
    application: SocketAddr,
    secret: PathBuf,
}

impl Team {
    /// The resolver listens where the application asks, and forwards to `upstream`. The secret is written into `dir`.
    pub fn start(stack: Stack, application: SocketAddr, upstream: SocketAddr, dir: &Path) -> io::Result<Team> {
        let (kind, resolver) = match stack {
            // BIND listens on addresses of an interface only, and the application's is none.
            Stack::Bind => (Kind::Bind, Resolver::Unbound),
            Stack::Knot => (Kind::Knot, Resolver::Unbound),
            Stack::PowerDns => (Kind::PowerDns, Resolver::PowerDns),
        };
        let key = Key::random(KEY_NAME);
        let secret = dir.join(SECRET_FILE);
        std::fs::write(&secret, format!("{}\n", key.secret))?;
        let authority = Authority::start(kind, &Role::Primary, &key, &[application])?;
        let follower = Follower::start(resolver, application, authority.address(), upstream, &key)?;
        Ok(Team { authority, follower, key, application, secret })
    }

    /// The daemon's configuration with these servers in place of its own.
    ///
    /// # Errors
    /// It is no TOML.
    pub fn configure(&self, config: &str) -> Result<String, toml::de::Error> {
        let mut file: Table = config.parse()?;
        file.remove("dns");
        let text = |text: &dyn ToString| Value::String(text.to_string());
        let secret: Table = [("file".to_owned(), text(&self.secret.display()))].into_iter().collect();
        let tsig: Table = [
            ("name".to_owned(), text(&KEY_NAME)),
            ("algorithm".to_owned(), text(&ALGORITHM)),
            ("secret".to_owned(), Value::Table(secret)),
        ]
        .into_iter()
        .collect();
        let zone: Table = [
            ("server".to_owned(), text(&self.authority.address())),
            ("zone".to_owned(), text(&ZONE)),
            ("tsig".to_owned(), Value::Table(tsig)),
        ]
        .into_iter()
        .collect();
        file.insert("rfc2136".to_owned(), Value::Table(zone));
        if let Some(application) = file.get_mut("application").and_then(Value::as_table_mut) {
            application.insert("resolver".to_owned(), text(&format!("udp://{}", self.application)));
        }
        Ok(file.to_string())
    }
}
