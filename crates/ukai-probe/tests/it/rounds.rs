//! All addresses of an answer, each on its own.

use std::net::{IpAddr, Ipv4Addr};

use jiff::Timestamp;
use ukai_core::observe::{ErrorClass, Failure, Observation, Path, Resolution, Stage};
use ukai_probe::{Expectation, Prober, Request, Round, Timeouts};

use crate::authority::Authority;
use crate::server::{Server, prober, swallow};

#[tokio::test]
async fn one_dead_address_of_three_is_seen_as_exactly_that() {
    let server = listening().await;
    let addresses = ["127.0.0.1", "127.0.0.9", "10.0.0.1"].map(|text| text.parse().unwrap());
    let observation = observe(&prober(vec![]), &server, resolution(addresses.to_vec())).await;
    let seen = observation.results.iter().map(|result| result.failure.as_ref().map(|failure| failure.class));
    assert_eq!(seen.collect::<Vec<_>>(), [None, Some(ErrorClass::Refused), Some(ErrorClass::NotAllowed)]);
    assert_eq!(observation.peer, "peer");
    assert_eq!(observation.endpoint, server.endpoint("tcp").to_string());
    assert!(observation.results.iter().all(|result| result.timings.resolve_us == Some(700)));
    assert!(observation.any_failed() && !observation.all_failed());
}

#[tokio::test]
async fn of_ten_thousand_addresses_sixty_four_are_probed() {
    let server = listening().await;
    let addresses = (0..10_000u32)
        .map(|index| IpAddr::from(Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + index)))
        .collect::<Vec<_>>();
    let observation = observe(&prober(vec![]), &server, resolution(addresses.clone())).await;
    assert_eq!(observation.resolution.addresses_total, 10_000);
    assert_eq!(observation.resolution.addresses.len(), 64);
    let probed = observation.results.iter().map(|result| result.address).collect::<Vec<_>>();
    assert_eq!(probed, addresses[..64]);
    assert_eq!(observation.results.iter().filter(|result| result.is_success()).count(), 1);
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_name_that_did_not_resolve_is_not_probed() {
    let server = listening().await;
    let mut failed = resolution(vec![server.address.ip()]);
    failed.failure =
        Some(Failure { stage: Stage::Resolve, class: ErrorClass::Servfail, detail: "SERVFAIL".to_owned() });
    let observation = observe(&prober(vec![]), &server, failed).await;
    assert!(observation.results.is_empty() && observation.all_failed());
    assert_eq!(server.accepted(), 0);

    let empty = observe(&prober(vec![]), &server, resolution(vec![])).await;
    let failure = empty.failure().unwrap();
    assert_eq!((failure.stage, failure.class), (Stage::Resolve, ErrorClass::Nodata));
}

#[tokio::test]
async fn one_connection_at_a_time_is_enough_for_many_addresses() {
    let server = listening().await;
    let narrow = Prober::new(ukai_probe::ProberOptions {
        extra_roots: vec![Authority::new("lab").pem()],
        use_system_roots: false,
        allow: vec!["127.0.0.0/8".parse().unwrap()],
        max_concurrent: 1,
    })
    .unwrap();
    let addresses = (1..=20).map(|last| IpAddr::from([127, 0, 0, last])).collect();
    let observation = observe(&narrow, &server, resolution(addresses)).await;
    assert_eq!(observation.results.len(), 20);
    assert_eq!(observation.results.iter().filter(|result| result.is_success()).count(), 1);
}

async fn listening() -> Server {
    Server::start(|mut socket| async move { swallow(&mut socket).await }).await
}

async fn observe(prober: &Prober, server: &Server, resolution: Resolution) -> Observation {
    let round = Round { peer: "peer", path: Path::Normal, started_at: Timestamp::UNIX_EPOCH, resolution };
    let endpoint = server.endpoint("tcp");
    let (expectation, request) = (Expectation::default(), Request::default());
    prober.probe_all(round, &endpoint, &expectation, &request, &Timeouts::default()).await
}

fn resolution(addresses: Vec<IpAddr>) -> Resolution {
    Resolution {
        resolver: "udp://127.0.0.53:53".to_owned(),
        addresses_total: addresses.len(),
        addresses,
        elapsed_us: 700,
        ..Resolution::default()
    }
}
