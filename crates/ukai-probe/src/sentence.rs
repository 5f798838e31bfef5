//! One plain sentence on what is wrong, for somebody who was woken by it.

use ukai_core::observe::{AddressResult, ErrorClass, Failure, Resolution, Stage};

use crate::endpoint::Endpoint;
use crate::timing::human_us;

/// What came of one address.
pub fn explain(endpoint: &Endpoint, result: &AddressResult) -> String {
    match &result.failure {
        None => success(endpoint, result),
        Some(failure) => match reached(result, failure) {
            Some(reached) => format!("{reached}, but {}.", failure.detail),
            None => format!("{}.", capitalised(&failure.detail)),
        },
    }
}

/// What came of the name.
pub fn explain_resolution(endpoint: &Endpoint, resolution: &Resolution) -> String {
    let host = endpoint.host();
    let resolver = &resolution.resolver;
    let elapsed = human_us(resolution.elapsed_us);
    let Some(failure) = &resolution.failure else {
        let addresses = count(resolution.addresses_total.max(resolution.addresses.len()));
        return format!("{host} resolves to {addresses} according to {resolver}, in {elapsed}.");
    };
    let wrong = match failure.class {
        ErrorClass::Nxdomain => format!("{resolver} says that the name {host} does not exist"),
        ErrorClass::Nodata => format!("{resolver} says that {host} exists but has no address"),
        ErrorClass::Servfail => format!("{resolver} could not find out where {host} is (SERVFAIL)"),
        ErrorClass::Refused => format!("{resolver} gives no answer for {host}"),
        ErrorClass::Timeout => format!("{resolver} did not answer for {host}"),
        _ => format!("{host} could not be resolved by {resolver}"),
    };
    let detail = failure.detail.trim_end_matches('.');
    if detail.is_empty() { format!("{wrong}.") } else { format!("{wrong}: {detail}.") }
}

fn success(endpoint: &Endpoint, result: &AddressResult) -> String {
    let total = human_us(result.timings.total_us());
    let (address, port) = (result.address, result.port);
    match (&result.http, &result.identity) {
        (Some(http), _) => format!("{address} answered {} for {endpoint} in {total}.", http.status),
        (None, Some(_)) => {
            format!("{address} port {port} proved that it is {} in {total}.", endpoint.host())
        }
        (None, None) => format!("{address} port {port} accepted a connection in {total}."),
    }
}

/// What went well before the failure; None if nothing did, or if the failure tells the whole story.
fn reached(result: &AddressResult, failure: &Failure) -> Option<String> {
    let address = result.address;
    let connected = || result.timings.connect_us.map(|time| format!("Connected to {address} in {}", human_us(time)));
    let answered = || {
        let http = result.http.as_ref()?;
        let time = human_us(result.timings.total_us());
        Some(format!("{address} answered {} in {time}", http.status))
    };
    match (failure.class, failure.stage) {
        (ErrorClass::TooSlow | ErrorClass::ExpiresSoon, _) => answered().or_else(connected),
        (_, Stage::Resolve | Stage::Connect) => None,
        (_, Stage::Tls) => connected(),
        // The status is in the detail; saying it twice would read badly.
        (_, Stage::Processing) => connected(),
        (_, Stage::Transfer) => answered().or_else(connected),
    }
}

fn count(addresses: usize) -> String {
    if addresses == 1 { "1 address".to_owned() } else { format!("{addresses} addresses") }
}

fn capitalised(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().collect::<String>() + characters.as_str(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use ukai_core::observe::{HttpFacts, Timings};

    use super::*;

    #[test]
    fn one_sentence_per_stage() {
        let cases = [
            (
                Stage::Resolve,
                ErrorClass::NotAllowed,
                "10.0.0.1 is not a public address",
                None,
                "10.0.0.1 is not a public address.",
            ),
            (
                Stage::Connect,
                ErrorClass::Refused,
                "192.0.2.1 refused the connection to port 443",
                None,
                "192.0.2.1 refused the connection to port 443.",
            ),
            (
                Stage::Tls,
                ErrorClass::NameMismatch,
                "the TLS certificate is for other.test, not api.peer.test",
                None,
                "Connected to 192.0.2.1 in 12 ms, but the TLS certificate is for other.test, not api.peer.test.",
            ),
            (
                Stage::Processing,
                ErrorClass::HttpStatus,
                "it answered 503, and 200–399 was expected",
                Some(503),
                "Connected to 192.0.2.1 in 12 ms, but it answered 503, and 200–399 was expected.",
            ),
            (
                Stage::Transfer,
                ErrorClass::BodyMismatch,
                "its body does not contain \"ok\"",
                Some(200),
                "192.0.2.1 answered 200 in 12 ms, but its body does not contain \"ok\".",
            ),
            (
                Stage::Processing,
                ErrorClass::TooSlow,
                "it took 12 ms",
                Some(200),
                "192.0.2.1 answered 200 in 12 ms, but it took 12 ms.",
            ),
        ];
        for (stage, class, detail, status, sentence) in cases {
            let failure = Failure { stage, class, detail: detail.to_owned() };
            assert_eq!(explain(&endpoint(), &result(status, Some(failure))), sentence);
        }
        assert_eq!(
            explain(&endpoint(), &result(Some(200), None)),
            "192.0.2.1 answered 200 for https://api.peer.test/ in 12 ms."
        );
    }

    #[test]
    fn sentences_of_a_resolution() {
        let mut resolution = Resolution {
            resolver: "udp://192.0.2.53:53".to_owned(),
            addresses_total: 1,
            elapsed_us: 2_000,
            ..Resolution::default()
        };
        assert_eq!(
            explain_resolution(&endpoint(), &resolution),
            "api.peer.test resolves to 1 address according to udp://192.0.2.53:53, in 2 ms."
        );
        resolution.failure =
            Some(Failure { stage: Stage::Resolve, class: ErrorClass::Nxdomain, detail: String::new() });
        assert_eq!(
            explain_resolution(&endpoint(), &resolution),
            "udp://192.0.2.53:53 says that the name api.peer.test does not exist."
        );
    }

    fn endpoint() -> Endpoint {
        Endpoint::parse("https://api.peer.test/").unwrap()
    }

    fn result(status: Option<u16>, failure: Option<Failure>) -> AddressResult {
        AddressResult {
            address: "192.0.2.1".parse().unwrap(),
            port: 443,
            timings: Timings { connect_us: Some(12_000), ..Timings::default() },
            identity: None,
            http: status.map(|status| HttpFacts { status, ..HttpFacts::default() }),
            stalled_after: None,
            failure,
        }
    }
}
