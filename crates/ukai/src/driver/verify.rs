//! How an applied override looks from where it counts.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use ukai_core::input::Verification;
use ukai_core::observe::{ErrorClass, Path, Resolution};
use ukai_dns::Upstream;

use crate::gather::{Subject, Vantage, resolve};
use crate::provider::Provider;

/// At the server, or every server of a zone, over TCP; as the application asks, over UDP or through the resolver of its own that is led to the server; and
/// a call to every endpoint by that same way.
pub async fn verify(vantage: &Vantage, subject: &Subject, provider: &Provider, now: Timestamp) -> Verification {
    let (at_server, by_resolver, observations) = tokio::join!(
        at_server(vantage, subject, provider),
        by_resolver(vantage, subject),
        vantage.observe(subject, Path::Normal, now),
    );
    Verification { at_server, by_resolver, observations }
}

async fn at_server(vantage: &Vantage, subject: &Subject, provider: &Provider) -> Result<BTreeSet<IpAddr>, String> {
    if let Some(answered) = provider.served_addresses(&subject.host).await {
        return answered;
    }
    let Some(address) = vantage.embedded else {
        return Err("no embedded server is configured".to_owned());
    };
    ask(vantage, subject, &[Upstream::Tcp(address)]).await
}

async fn by_resolver(vantage: &Vantage, subject: &Subject) -> Result<BTreeSet<IpAddr>, String> {
    ask(vantage, subject, &vantage.application_resolvers()).await
}

async fn ask(vantage: &Vantage, subject: &Subject, servers: &[Upstream]) -> Result<BTreeSet<IpAddr>, String> {
    addresses(resolve(&vantage.dns, servers, &subject.host, subject.resolve_timeout).await)
}

/// No address is an answer too; silence and failure are not.
fn addresses(resolution: Resolution) -> Result<BTreeSet<IpAddr>, String> {
    match resolution.failure {
        Some(failure) if !matches!(failure.class, ErrorClass::Nodata | ErrorClass::Nxdomain) => Err(failure.detail),
        _ => Ok(resolution.addresses.into_iter().collect()),
    }
}

/// Where the server that listens on `listen` is reached from this machine.
pub fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(v4) if v4.is_unspecified() => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        IpAddr::V6(v6) if v6.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ukai_core::observe::{Failure, Stage};

    use crate::gather::name_server::{Mind, Servers, address, zone};
    use crate::gather::tests::configured;

    use super::*;

    fn resolution(class: Option<ErrorClass>) -> Resolution {
        let failure = class.map(|class| Failure { stage: Stage::Resolve, class, detail: "why".into() });
        Resolution { failure, ..Resolution::default() }
    }

    #[test]
    fn nothing_is_an_answer_and_silence_is_not() {
        assert_eq!(addresses(resolution(Some(ErrorClass::Nodata))), Ok(BTreeSet::new()));
        assert_eq!(addresses(resolution(Some(ErrorClass::Timeout))), Err("why".to_owned()));
    }

    #[tokio::test]
    async fn the_application_s_own_resolver_is_asked_where_it_has_one() {
        let says = |ip: &'static str| -> Mind {
            Arc::new(move |name, qtype, _| zone("peer.test", &[address("api.peer.test", ip)], name, qtype))
        };
        let servers = Servers::start(|_| vec![(1, says("127.0.0.8")), (2, says("127.0.0.9"))]).await;
        let more = format!(
            "controls = \"none\"\n[application]\ntoken = {{ env = \"PATH\" }}\nresolver = \"{}\"",
            servers.address(2)
        );
        let (mut vantage, subject) = configured(servers.address(1), servers.address(1), &more);
        vantage.embedded = Some(servers.address(1));
        let verified = verify(&vantage, &subject, &Provider::Nowhere, Timestamp::UNIX_EPOCH).await;
        let set = |ip: &str| Ok(BTreeSet::from([ip.parse().unwrap()]));
        assert_eq!((verified.at_server, verified.by_resolver), (set("127.0.0.8"), set("127.0.0.9")));
        assert_eq!(verified.observations[0].results[0].address.to_string(), "127.0.0.9");
    }

    #[test]
    fn every_address_means_this_machine() {
        assert_eq!(reachable("0.0.0.0:53".parse().unwrap()).to_string(), "127.0.0.1:53");
        assert_eq!(reachable("[::]:53".parse().unwrap()).to_string(), "[::1]:53");
        assert_eq!(reachable("127.0.0.9:53".parse().unwrap()).to_string(), "127.0.0.9:53");
    }
}
