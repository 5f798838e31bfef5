//! Controls: unrelated names and addresses that tell our own fault from the peer's.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jiff::Timestamp;
use ukai_core::diagnose::evidence::{ControlResult, Reached};
use ukai_core::observe::{AddressResult, ErrorClass, Failure, Stage};
use ukai_probe::{Endpoint, Expectation, Kind, Request, StatusSet, Timeouts, explain};

use super::question::QUERY_TIMEOUT;
use super::resolution::resolve;
use super::subject::{Control, Vantage, join_all};

/// A control is a large, near site: what it does not do in two seconds it does not do now. Four stages stay below
/// the bound of a gathering.
const CONTROL_TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(2),
    tls: Duration::from_secs(2),
    processing: Duration::from_secs(2),
    transfer: Duration::from_secs(1),
};

/// Every control, side by side.
pub async fn probe(vantage: &Vantage) -> Vec<ControlResult> {
    join_all(vantage.controls.iter().map(|control| probe_one(vantage, control))).await
}

/// By its name and by its known addresses at the same time; where none is known, at what its name gives.
async fn probe_one(vantage: &Vantage, control: &Control) -> ControlResult {
    let (known, known_v6) = (control.known_address(), control.known_v6());
    let by_name = async {
        let resolution = resolve(&vantage.dns, &vantage.resolvers, &control.endpoint.host(), QUERY_TIMEOUT).await;
        let first = resolution.addresses.first().copied().filter(|_| known.is_none());
        let v6 = resolution.addresses.iter().copied().find(IpAddr::is_ipv6).filter(|_| known_v6.is_none());
        let (reached, v6) = tokio::join!(reach(vantage, control, first), reach_v6(vantage, control, v6));
        (resolution.failure, reached, v6)
    };
    let ((name_failure, reached, v6), reached_known, v6_known) =
        tokio::join!(by_name, reach(vantage, control, known), reach_v6(vantage, control, known_v6));
    let (reached, v6) = (reached_known.or(reached), v6_known.or(v6));
    if let Some((result, _)) = reached.as_ref().filter(|(result, _)| result.is_success()) {
        control.remember(result.address);
    }
    ControlResult { v6, ..judge(control, name_failure.map(|failure| failure.detail), reached) }
}

/// Over IPv6, as far as the handshake. A machine without a route for it is no finding.
async fn reach_v6(vantage: &Vantage, control: &Control, address: Option<IpAddr>) -> Option<Reached> {
    let address = address.filter(|address| (vantage.is_routed)(SocketAddr::new(*address, control.endpoint.port())))?;
    let endpoint = up_to_the_handshake(&control.endpoint)?;
    let (expectation, request) = (Expectation::default(), Request::default());
    let probe = vantage.prober.probe_address(&endpoint, address, &expectation, &request, &CONTROL_TIMEOUTS);
    Some(match probe.await.failure {
        Some(failure) if is_unanswered(&failure) => Reached::No(failure.detail),
        // Somebody answered, whatever he showed.
        _ => Reached::Yes,
    })
}

fn up_to_the_handshake(endpoint: &Endpoint) -> Option<Endpoint> {
    let scheme = if matches!(endpoint.kind(), Kind::Tls | Kind::Https) { "tls" } else { "tcp" };
    let place = match endpoint.host_address() {
        Some(address) => SocketAddr::new(address, endpoint.port()).to_string(),
        None => format!("{}:{}", endpoint.host(), endpoint.port()),
    };
    Endpoint::parse(&format!("{scheme}://{place}")).ok()
}

/// No connection, or one on which nobody spoke: a way that loses all but the smallest packets is none.
fn is_unanswered(failure: &Failure) -> bool {
    let lost = matches!(failure.class, ErrorClass::Timeout | ErrorClass::Reset | ErrorClass::Unreachable);
    failure.stage <= Stage::Connect || lost
}

/// With the moment of its answer by the machine's own clock: the engine's never goes back, and would show a clock that was
/// set back as one that is wrong.
async fn reach(vantage: &Vantage, control: &Control, address: Option<IpAddr>) -> Option<(AddressResult, Timestamp)> {
    let address = address?;
    // Whatever it answers, it answered: a control proves the way there, not the page.
    let expectation =
        Expectation { status: StatusSet::parse(&["100-599"]).unwrap_or_default(), ..Expectation::default() };
    let request = Request::default();
    let result =
        vantage.prober.probe_address(&control.endpoint, address, &expectation, &request, &CONTROL_TIMEOUTS).await;
    Some((result, Timestamp::now()))
}

fn judge(
    control: &Control,
    name_failure: Option<String>,
    reached: Option<(AddressResult, Timestamp)>,
) -> ControlResult {
    let answered_at = reached.as_ref().map(|(_, at)| *at);
    let reached = reached.as_ref().map(|(result, _)| result);
    let identity = reached.and_then(|result| result.identity.as_ref());
    let failure = reached.and_then(|result| result.failure.as_ref());
    let address_failure = match reached {
        None => None,
        Some(result) => result.failure.as_ref().map(|_| explain(&control.endpoint, result)),
    };
    let date = reached.and_then(|result| result.http.as_ref()).and_then(|http| http.date);
    ControlResult {
        control: control.endpoint.to_string(),
        name_failure,
        address_tried: reached.is_some(),
        address_failure,
        issuer: identity.map(|identity| identity.issuer.clone()),
        dates_failure: failure
            .is_some_and(|failure| matches!(failure.class, ErrorClass::Expired | ErrorClass::NotYetValid)),
        failed_at: failure.map(|failure| failure.stage),
        v6: None,
        clock_offset_s: date.zip(answered_at).map(|(date, at)| date.duration_since(at).as_secs()),
        tls_verified: identity.is_some_and(|identity| identity.verified),
    }
}
