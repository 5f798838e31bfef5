//! Who is looked at, and from where.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use ukai_core::observe::{Observation, Path, Resolution};
use ukai_dns::{Client, Upstream};
use ukai_probe::{Endpoint, Expectation, Prober, Request, Round, Secrets, StatusSet, Timeouts};

use crate::vantage::OtherVantage;

use super::families;
use super::own::SystemFiles;
use super::resolution::resolve;

/// Where we look from: the resolvers, the trust and the bounds of this network.
#[derive(Clone)]
pub struct Vantage {
    pub dns: Client,
    /// For controls; a peer has one of its own.
    pub prober: Prober,
    /// What the application's network resolves with, our own override left out.
    pub resolvers: Vec<Upstream>,
    /// The embedded server, where it is served.
    pub embedded: Option<SocketAddr>,
    /// What the application itself asks, where that is another resolver, which is led to the embedded server.
    pub application: Option<Upstream>,
    /// Whether a packet to there would leave this machine at all.
    pub is_routed: fn(SocketAddr) -> bool,
    pub independent: Vec<Upstream>,
    pub others: Vec<OtherVantage>,
    pub root_hints: Vec<IpAddr>,
    pub authority_port: u16,
    pub controls: Vec<Control>,
    /// Within which a gathering ends.
    pub bound: Duration,
    /// Networks on whose behalf authorities and independent resolvers are asked too.
    pub ecs_subnets: Vec<IpNet>,
    /// Overrides hide every other type of a name, so it must be known which there are.
    pub hides_types: bool,
    pub time_server: Option<SocketAddr>,
    pub system: SystemFiles,
}

/// A name and address that have nothing to do with the peer.
#[derive(Clone)]
pub struct Control {
    pub endpoint: Endpoint,
    /// Its known address, so that it can be reached without any name.
    pub address: Option<IpAddr>,
    pub address_v6: Option<Ipv6Addr>,
    /// Where it was last reached, for one whose address nobody configured.
    pub last_reached: Arc<Mutex<Option<IpAddr>>>,
}

impl Control {
    pub fn new(endpoint: Endpoint, address: Option<IpAddr>, address_v6: Option<Ipv6Addr>) -> Control {
        Control { endpoint, address, address_v6, last_reached: Arc::default() }
    }

    pub fn known_address(&self) -> Option<IpAddr> {
        self.address.or(*self.last_reached.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn known_v6(&self) -> Option<IpAddr> {
        self.address_v6.map(IpAddr::from).or(self.address.filter(IpAddr::is_ipv6))
    }

    pub fn remember(&self, address: IpAddr) {
        *self.last_reached.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
    }
}

/// One peer as it is probed.
#[derive(Clone)]
pub struct Subject {
    pub peer: String,
    /// Trusts what this peer's certificates are issued by.
    pub prober: Prober,
    /// Lower-case A-labels, no trailing dot.
    pub host: String,
    pub watched: Vec<Watched>,
    /// Servers that an operator named instead of the delegation.
    pub authority: Vec<SocketAddr>,
    pub resolve_timeout: Duration,
}

/// One endpoint, what is expected of it and what it is asked.
#[derive(Clone)]
pub struct Watched {
    pub endpoint: Endpoint,
    pub expectation: Expectation,
    /// What the endpoint says to somebody without secrets.
    pub unauthenticated: Option<Expectation>,
    pub request: Request,
    pub timeouts: Timeouts,
}

impl Vantage {
    /// What the application asks: its own resolver where it is told, else the embedded server, else the configured
    /// resolvers.
    pub fn application_resolvers(&self) -> Vec<Upstream> {
        match (&self.application, self.embedded) {
            (Some(resolver), _) => vec![resolver.clone()],
            (None, Some(address)) => vec![Upstream::Udp(address)],
            (None, None) => self.resolvers.clone(),
        }
    }

    /// One observation per endpoint; the name is resolved once for all of them. Past our override, where the application does
    /// not go, nobody gets a secret: who answers there may be why it stands.
    pub async fn observe(&self, subject: &Subject, path: Path, now: Timestamp) -> Vec<Observation> {
        let secrets = if path == Path::Normal { Secrets::With } else { Secrets::Without };
        self.observe_with(subject, path, secrets, now).await
    }

    pub async fn observe_with(
        &self,
        subject: &Subject,
        path: Path,
        secrets: Secrets,
        now: Timestamp,
    ) -> Vec<Observation> {
        let resolvers = match path {
            Path::Normal => self.application_resolvers(),
            Path::Bypass | Path::Chosen => self.resolvers.clone(),
        };
        let mut resolution = resolve(&self.dns, &resolvers, &subject.host, subject.resolve_timeout).await;
        if path != Path::Chosen {
            resolution.addresses = families::usable(resolution.addresses, |address| subject.is_routed(self, address));
        }
        subject.probe(path, secrets, now, &resolution).await
    }
}

impl Subject {
    /// Every endpoint, side by side, at addresses that are known already.
    async fn probe(
        &self,
        path: Path,
        secrets: Secrets,
        started_at: Timestamp,
        resolution: &Resolution,
    ) -> Vec<Observation> {
        join_all(self.watched.iter().map(async |watched| {
            let round = Round { peer: &self.peer, path, started_at, resolution: resolution.clone() };
            let (request, expectation) = match secrets {
                Secrets::With => (watched.request.clone(), watched.expectation.clone()),
                Secrets::Without => watched.proof(),
            };
            self.prober.probe_all(round, &watched.endpoint, &expectation, &request, &watched.timeouts).await
        }))
        .await
    }

    /// Whether the address can be left for from here.
    pub fn is_routed(&self, vantage: &Vantage, address: IpAddr) -> bool {
        let port = self.watched.first().map_or(families::ANY_PORT, |watched| watched.endpoint.port());
        (vantage.is_routed)(SocketAddr::new(address, port))
    }

    pub fn endpoints(&self) -> Vec<String> {
        self.watched.iter().map(|watched| watched.endpoint.to_string()).collect()
    }

    /// The host is an address: there is no name to ask anybody about.
    pub fn is_literal(&self) -> bool {
        self.watched.iter().any(|watched| watched.endpoint.host_address().is_some())
    }
}

impl Watched {
    /// What a candidate is asked, and what counts as its proof: never with a secret.
    pub fn proof(&self) -> (Request, Expectation) {
        let mut request = self.request.clone();
        request.secrets = Secrets::Without;
        if !self.request.has_secrets() {
            return (request, self.expectation.clone());
        }
        let expectation = self.unauthenticated.clone().unwrap_or_else(|| Expectation {
            status: unauthenticated_statuses(),
            address_ranges: self.expectation.address_ranges.clone(),
            certificate_days: self.expectation.certificate_days,
            ..Expectation::default()
        });
        (request, expectation)
    }
}

/// Without a baseline of its own, an endpoint that wants secrets is expected to ask for them, or to answer.
fn unauthenticated_statuses() -> StatusSet {
    StatusSet::parse(&["200-399", "401", "403"]).unwrap_or_default()
}

/// Drives futures together and keeps their order.
pub async fn join_all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut all_ready = true;
        for (future, output) in &mut waiting {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => all_ready = false,
                }
            }
        }
        if all_ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(|(_, output)| output).collect()
}
