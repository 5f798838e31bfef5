//! What a round of probes measures, under the namespace `Ukai/Peer`.
//!
//! Two sets of dimensions, since CloudWatch never adds metrics up over dimensions: for each endpoint and address family
//! (`Peer`, `Endpoint`, `AddressFamily`, `Vantage`) one sample for each address, and for the peer as a whole (`Peer`,
//! `Vantage`) one sample for each round. `ProbeSuccess` of an endpoint averages to the share of addresses that were whole;
//! `ProbeSuccess` of a peer is 1 while something answers at every endpoint. An explicit 0 is put rather than nothing, so
//! that a silent prober can be told from a broken peer.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;

use super::{Datum, DatumError, Dimensions, Namespace, Unit};
use crate::observe::{AddressResult, Observation};

pub const NAMESPACE: &str = "Ukai/Peer";
pub const PROBE_SUCCESS: &str = "ProbeSuccess";
pub const RESOLVE_TIME: &str = "ResolveTime";
pub const CONNECT_TIME: &str = "ConnectTime";
pub const TLS_TIME: &str = "TlsTime";
pub const PROCESSING_TIME: &str = "ProcessingTime";
pub const TRANSFER_TIME: &str = "TransferTime";
pub const TOTAL_TIME: &str = "TotalTime";
pub const CERTIFICATE_DAYS_LEFT: &str = "CertificateDaysLeft";
pub const ADDRESS_SET_CHANGES: &str = "AddressSetChanges";
pub const NEW_ADDRESSES: &str = "NewAddresses";
pub const RESOLVER_AGREEMENT: &str = "ResolverAgreement";
/// Of the vantage itself: the share of the controls that pass.
pub const CONTROL_SUCCESS: &str = "ControlSuccess";

const SECONDS_PER_DAY: f64 = 86_400.0;
/// An endpoint's URL as a dimension's value: CloudWatch takes 1024 characters of ASCII.
const ENDPOINT_MAX: usize = 1024;

/// What is known of the peer beside the observations.
#[derive(Debug, Clone, Copy)]
pub struct Round<'a> {
    pub peer: &'a str,
    pub vantage: &'a str,
    pub at: Timestamp,
    pub observations: &'a [Observation],
    /// The set that the normal path led to before, and all that it led to lately. None: it is ours (an override).
    pub known: Option<Known<'a>>,
}

#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    pub before: &'a BTreeSet<IpAddr>,
    pub seen: &'a BTreeSet<IpAddr>,
    /// What the peer's own name servers were last seen to agree on. None: not known, or they steer by who asks.
    pub authority: Option<&'a BTreeSet<IpAddr>>,
}

/// Everything that one round measures. What cannot be a metric (a name that is not ASCII) is left out.
pub fn of_round(round: &Round) -> Vec<Datum> {
    let mut data = Vec::new();
    for observation in round.observations {
        of_observation(round, observation, &mut data);
    }
    let Ok(dimensions) = Dimensions::new([("Peer", round.peer), ("Vantage", round.vantage)]) else { return data };
    let mut put = |name: &str, value: f64, unit: Unit| {
        data.extend(datum(name, dimensions.clone(), round.at, value, unit));
    };
    if !round.observations.is_empty() {
        let lost = round.observations.iter().any(Observation::all_failed);
        put(PROBE_SUCCESS, if lost { 0.0 } else { 1.0 }, Unit::Count);
    }
    if let Some(slowest) = slowest_us(round.observations) {
        put(TOTAL_TIME, milliseconds(slowest), Unit::Milliseconds);
    }
    let certificates = round.observations.iter().flat_map(|observation| &observation.results);
    if let Some(days) = certificates.filter_map(|result| days_left(result, round.at)).min_by(f64::total_cmp) {
        put(CERTIFICATE_DAYS_LEFT, days, Unit::Count);
    }
    of_addresses(round, &mut put);
    data
}

/// The share of controls that pass, of the vantage.
pub fn of_controls(vantage: &str, at: Timestamp, passed: usize, live: usize) -> Option<Datum> {
    let dimensions = Dimensions::new([("Vantage", vantage)]).ok()?;
    let share = if live == 0 { return None } else { passed as f64 / live as f64 };
    datum(CONTROL_SUCCESS, dimensions, at, share, Unit::None)
}

fn of_observation(round: &Round, observation: &Observation, data: &mut Vec<Datum>) {
    let endpoint: String = observation.endpoint.chars().filter(char::is_ascii).take(ENDPOINT_MAX).collect();
    let dimensions = |family: &str| {
        Dimensions::new([
            ("Peer", round.peer),
            ("Endpoint", endpoint.as_str()),
            ("AddressFamily", family),
            ("Vantage", round.vantage),
        ])
    };
    if observation.resolution.failure.is_some() || observation.results.is_empty() {
        let known = round.known.map(|known| known.before);
        for family in families(known) {
            let Ok(dimensions) = dimensions(family) else { return };
            let elapsed = milliseconds(observation.resolution.elapsed_us);
            data.extend(datum(PROBE_SUCCESS, dimensions.clone(), round.at, 0.0, Unit::Count));
            data.extend(datum(RESOLVE_TIME, dimensions, round.at, elapsed, Unit::Milliseconds));
        }
        return;
    }
    for result in &observation.results {
        let Ok(dimensions) = dimensions(family(result.address)) else { return };
        let success = if result.is_success() { 1.0 } else { 0.0 };
        data.extend(datum(PROBE_SUCCESS, dimensions.clone(), round.at, success, Unit::Count));
        for (name, elapsed_us) in phases(observation, result) {
            let elapsed = elapsed_us.map(milliseconds);
            data.extend(elapsed.and_then(|value| datum(name, dimensions.clone(), round.at, value, Unit::Milliseconds)));
        }
        if let Some(days) = days_left(result, round.at) {
            data.extend(datum(CERTIFICATE_DAYS_LEFT, dimensions, round.at, days, Unit::Count));
        }
    }
}

fn of_addresses(round: &Round, put: &mut impl FnMut(&str, f64, Unit)) {
    let Some(known) = round.known else { return };
    let resolved = round.observations.iter().find(|observation| observation.resolution.failure.is_none());
    let Some(observation) = resolved else { return };
    let now: BTreeSet<IpAddr> = observation.resolution.addresses.iter().copied().collect();
    if now.is_empty() {
        return;
    }
    let changed = !known.before.is_empty() && *known.before != now;
    put(ADDRESS_SET_CHANGES, if changed { 1.0 } else { 0.0 }, Unit::Count);
    if !known.seen.is_empty() {
        put(NEW_ADDRESSES, now.difference(known.seen).count() as f64, Unit::Count);
    }
    if let Some(authority) = known.authority {
        put(RESOLVER_AGREEMENT, if now.is_disjoint(authority) { 0.0 } else { 1.0 }, Unit::Count);
    }
}

fn phases(observation: &Observation, result: &AddressResult) -> [(&'static str, Option<u64>); 6] {
    let timings = &result.timings;
    let resolve_us = timings.resolve_us.or(Some(observation.resolution.elapsed_us));
    let total_us = result.is_success().then(|| timings.total_us());
    [
        (RESOLVE_TIME, resolve_us),
        (CONNECT_TIME, timings.connect_us),
        (TLS_TIME, timings.tls_us),
        (PROCESSING_TIME, timings.processing_us),
        (TRANSFER_TIME, timings.transfer_us),
        (TOTAL_TIME, total_us),
    ]
}

/// Of what succeeded: a time-out is no latency.
fn slowest_us(observations: &[Observation]) -> Option<u64> {
    let results = observations.iter().flat_map(|observation| &observation.results);
    results.filter(|result| result.is_success()).map(|result| result.timings.total_us()).max()
}

fn days_left(result: &AddressResult, at: Timestamp) -> Option<f64> {
    let identity = result.identity.as_ref()?;
    let days = identity.not_after.duration_since(at).as_secs_f64() / SECONDS_PER_DAY;
    // Hundredths of a day say enough, and keep small.
    Some((days * 100.0).floor() / 100.0)
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ipv4" } else { "ipv6" }
}

/// The families that were known before the name stopped resolving.
fn families(before: Option<&BTreeSet<IpAddr>>) -> BTreeSet<&'static str> {
    let known: BTreeSet<&'static str> = before.into_iter().flatten().map(|address| family(*address)).collect();
    if known.is_empty() { BTreeSet::from(["ipv4"]) } else { known }
}

fn milliseconds(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

fn datum(name: &str, dimensions: Dimensions, at: Timestamp, value: f64, unit: Unit) -> Option<Datum> {
    let made: Result<Datum, DatumError> =
        Namespace::new(NAMESPACE).and_then(|namespace| Datum::single(&namespace, name, dimensions, at, value, unit));
    made.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::DatumValue;
    use crate::observe::{ErrorClass, Failure, Path, Resolution, Stage, Timings};

    fn at() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn result(address: &str, whole: bool) -> AddressResult {
        AddressResult {
            address: address.parse().unwrap(),
            port: 443,
            timings: Timings { connect_us: Some(1_500), tls_us: Some(2_000), ..Timings::default() },
            identity: None,
            http: None,
            stalled_after: None,
            failure: (!whole).then(|| Failure {
                stage: Stage::Tls,
                class: ErrorClass::Timeout,
                detail: "as staged".to_owned(),
            }),
        }
    }

    fn observation(results: Vec<AddressResult>) -> Observation {
        Observation {
            peer: "api".to_owned(),
            endpoint: "https://api.test/".to_owned(),
            path: Path::Normal,
            started_at: at(),
            resolution: Resolution {
                addresses: results.iter().map(|result| result.address).collect(),
                elapsed_us: 900,
                ..Resolution::default()
            },
            results,
        }
    }

    fn values(data: &[Datum], name: &str, dimension: (&str, &str)) -> Vec<f64> {
        data.iter()
            .filter(|datum| &*datum.metric.metric_name == name)
            .filter(|datum| datum.metric.dimensions.value(dimension.0) == Some(dimension.1))
            .map(|datum| match datum.value {
                DatumValue::Single(value) => value,
                DatumValue::Set(_) | DatumValue::Many(_) => panic!("one value"),
            })
            .collect()
    }

    #[test]
    fn each_address_is_a_sample_and_the_peer_one() {
        let observations =
            [observation(vec![result("192.0.2.1", true), result("192.0.2.2", false), result("2001:db8::1", false)])];
        let (before, seen) = (BTreeSet::new(), BTreeSet::new());
        let known = Some(Known { before: &before, seen: &seen, authority: None });
        let round = Round { peer: "api", vantage: "here", at: at(), observations: &observations, known };
        let data = of_round(&round);
        assert_eq!(values(&data, PROBE_SUCCESS, ("AddressFamily", "ipv4")), [1.0, 0.0]);
        assert_eq!(values(&data, PROBE_SUCCESS, ("AddressFamily", "ipv6")), [0.0]);
        assert_eq!(values(&data, CONNECT_TIME, ("AddressFamily", "ipv6")), [1.5]);
        let of_the_peer: Vec<&Datum> = data.iter().filter(|datum| datum.metric.dimensions.len() == 2).collect();
        let success = of_the_peer.iter().find(|datum| &*datum.metric.metric_name == PROBE_SUCCESS).unwrap();
        assert_eq!(success.value, DatumValue::Single(1.0), "something answers");
    }

    #[test]
    fn a_name_that_does_not_resolve_puts_a_zero_for_each_known_family() {
        let mut gone = observation(vec![]);
        gone.resolution.failure =
            Some(Failure { stage: Stage::Resolve, class: ErrorClass::Nxdomain, detail: "gone".to_owned() });
        let before = BTreeSet::from(["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()]);
        let seen = before.clone();
        let observations = [gone];
        let known = Some(Known { before: &before, seen: &seen, authority: None });
        let data = of_round(&Round { peer: "api", vantage: "here", at: at(), observations: &observations, known });
        for family in ["ipv4", "ipv6"] {
            assert_eq!(values(&data, PROBE_SUCCESS, ("AddressFamily", family)), [0.0]);
        }
        assert!(values(&data, ADDRESS_SET_CHANGES, ("Peer", "api")).is_empty());
    }

    #[test]
    fn changes_new_addresses_and_agreement() {
        let observations = [observation(vec![result("192.0.2.1", true)])];
        let set = |text: &str| BTreeSet::from([text.parse::<IpAddr>().unwrap()]);
        let (before, seen, authority) = (set("192.0.2.9"), set("192.0.2.9"), set("192.0.2.9"));
        let known = Some(Known { before: &before, seen: &seen, authority: Some(&authority) });
        let round = Round { peer: "api", vantage: "here", at: at(), observations: &observations, known };
        let data = of_round(&round);
        assert_eq!(values(&data, ADDRESS_SET_CHANGES, ("Peer", "api")), [1.0]);
        assert_eq!(values(&data, NEW_ADDRESSES, ("Peer", "api")), [1.0]);
        assert_eq!(values(&data, RESOLVER_AGREEMENT, ("Peer", "api")), [0.0]);
        let ours = of_round(&Round { known: None, ..round });
        assert!(values(&ours, ADDRESS_SET_CHANGES, ("Peer", "api")).is_empty(), "an override is no news");
    }
}
