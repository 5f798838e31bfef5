//! The servers that questions are sent to: which ones for which name, and how they have been doing.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::cache::lock;
use super::config::Settings;
use crate::client::{AskError, AskOptions, Client};
use crate::message::{Question, Reply};
use crate::upstream::Upstream;

/// After so many failures in a row an upstream is asked last …
const FAILURES_UNTIL_DOWN: u32 = 3;
/// … and tried again in its place after this.
const RETRY_DOWN: Duration = Duration::from_secs(5);

/// How long an upstream is asked carefully after it was peculiar.
const PECULIAR_FOR: Duration = Duration::from_secs(600);

/// One upstream and how it has been doing.
pub(crate) struct Server {
    pub upstream: Upstream,
    health: Mutex<Health>,
    /// It does not know EDNS, or does not keep the case of a question: it gets the careful treatment until then. Not for ever: one
    /// strange answer may be a forger's, and servers are exchanged.
    peculiar_until: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Health {
    failures: u32,
    retry_at: Option<Instant>,
}

pub(crate) struct Attempt {
    pub upstream: Upstream,
    pub result: Result<Reply, AskError>,
}

impl Server {
    fn new(upstream: &Upstream) -> Arc<Self> {
        Arc::new(Self { upstream: upstream.clone(), health: Mutex::default(), peculiar_until: Mutex::default() })
    }

    /// By another transport than configured when `via` says so. A failure is counted when the query is sent and taken back
    /// when a reply comes, so that one given up on counts too.
    pub async fn ask(&self, via: &Upstream, client: &Client, question: &Question, options: &AskOptions) -> Attempt {
        self.failed();
        let started = Instant::now();
        let mixed_case = matches!(via, Upstream::Udp(_)) && !self.is_peculiar();
        let options = AskOptions { mixed_case, ..options.clone() };
        let mut result = client.ask(via, question, &options).await;
        if matches!(result, Err(AskError::CaseChanged)) {
            self.set_peculiar();
            let timeout = options.timeout.saturating_sub(started.elapsed());
            let as_it_is = AskOptions { mixed_case: false, timeout, ..options };
            result = client.ask(via, question, &as_it_is).await;
        }
        if result.is_ok() {
            self.replied();
        }
        Attempt { upstream: via.clone(), result }
    }

    pub fn failed(&self) {
        let mut health = lock(&self.health);
        health.failures = health.failures.saturating_add(1);
    }

    pub fn replied(&self) {
        let mut health = lock(&self.health);
        if health.failures > 0 {
            *health = Health::default();
        }
    }

    pub fn set_peculiar(&self) {
        let now = Instant::now();
        let before = lock(&self.peculiar_until).replace(now + PECULIAR_FOR);
        if before.is_none_or(|until| until <= now) {
            tracing::info!(server.address = %self.upstream, "this upstream does not know EDNS or changes the case of questions; it is asked more slowly");
        }
    }

    pub fn is_peculiar(&self) -> bool {
        lock(&self.peculiar_until).is_some_and(|until| Instant::now() < until)
    }

    /// Whoever finds that a retry is due makes it, and nobody else until the next.
    fn is_up(&self, now: Instant) -> bool {
        let mut health = lock(&self.health);
        if health.failures < FAILURES_UNTIL_DOWN {
            return true;
        }
        match health.retry_at {
            Some(retry_at) if now < retry_at => false,
            Some(_) => {
                health.retry_at = Some(now + RETRY_DOWN);
                true
            }
            None => {
                health.retry_at = Some(now + RETRY_DOWN);
                false
            }
        }
    }
}

/// Which servers are asked for which names.
pub(crate) struct Routes {
    world: Vec<Arc<Server>>,
    /// Domains in wire format with their own servers, the longest first.
    domains: Vec<(Vec<u8>, Vec<Arc<Server>>)>,
}

impl Routes {
    pub fn new(settings: &Settings) -> Self {
        let servers = |upstreams: &[Upstream]| upstreams.iter().map(Server::new).collect::<Vec<_>>();
        let mut domains: Vec<_> =
            settings.forward.iter().map(|route| (route.domain.as_wire().to_vec(), servers(&route.upstreams))).collect();
        domains.sort_by_key(|(domain, _)| std::cmp::Reverse(domain.len()));
        Self { world: servers(&settings.upstreams), domains }
    }

    /// In the order in which they are to be asked for `name` (wire format, lower case): those that fail come last.
    pub fn in_order(&self, name: &[u8], now: Instant) -> Vec<Arc<Server>> {
        let (up, down): (Vec<_>, Vec<_>) = self.of(name).iter().cloned().partition(|server| server.is_up(now));
        up.into_iter().chain(down).collect()
    }

    pub fn first(&self, name: &[u8], now: Instant) -> Option<&Arc<Server>> {
        let servers = self.of(name);
        match servers {
            [one] => Some(one),
            _ => servers.iter().find(|server| server.is_up(now)).or(servers.first()),
        }
    }

    fn of(&self, name: &[u8]) -> &[Arc<Server>] {
        let own = self.domains.iter().find(|(domain, _)| is_at_or_below(name, domain));
        own.map_or(&self.world, |(_, servers)| servers)
    }
}

/// Both in wire format and lower case.
pub(crate) fn is_at_or_below(mut name: &[u8], domain: &[u8]) -> bool {
    while name.len() > domain.len() {
        let label = name.first().map_or(0, |len| usize::from(*len));
        name = name.get(label + 1..).unwrap_or_default();
    }
    name == domain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::Name;

    fn wire(text: &str) -> Vec<u8> {
        text.parse::<Name>().unwrap().as_wire().to_vec()
    }

    #[test]
    fn the_longest_domain_wins() {
        let upstream = |text: &str| -> Upstream { text.parse().unwrap() };
        let route = |domain: &str, text: &str| super::super::config::Route {
            domain: domain.parse().unwrap(),
            upstreams: vec![upstream(text)],
        };
        let settings = Settings {
            upstreams: vec![upstream("192.0.2.1")],
            forward: vec![route("corp.example", "192.0.2.2"), route("eu.corp.example", "192.0.2.3")],
            ..Settings::default()
        };
        let routes = Routes::new(&settings);
        for (name, wanted) in [
            ("www.example", "192.0.2.1"),
            ("xcorp.example", "192.0.2.1"),
            ("corp.example", "192.0.2.2"),
            ("a.b.corp.example", "192.0.2.2"),
            ("a.eu.corp.example", "192.0.2.3"),
        ] {
            let first = routes.first(&wire(name), Instant::now()).unwrap();
            assert_eq!(first.upstream, upstream(wanted), "{name}");
        }
    }

    #[test]
    fn one_that_fails_is_asked_last() {
        let settings = Settings {
            upstreams: vec!["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()],
            ..Settings::default()
        };
        let routes = Routes::new(&settings);
        let (name, now) = (wire("a.example"), Instant::now());
        (0..FAILURES_UNTIL_DOWN).for_each(|_| routes.world[0].failed());
        assert_eq!(routes.in_order(&name, now)[0].upstream, settings.upstreams[1]);
        assert_eq!(routes.first(&name, now + RETRY_DOWN).unwrap().upstream, settings.upstreams[0], "tried again");
        assert_eq!(routes.first(&name, now + RETRY_DOWN).unwrap().upstream, settings.upstreams[1], "but once");
        routes.world[0].replied();
        assert_eq!(routes.first(&name, now + RETRY_DOWN).unwrap().upstream, settings.upstreams[0]);
    }
}
