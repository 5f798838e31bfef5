//! Controls: unrelated names and addresses that tell our own fault from the peer's.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use jiff::Timestamp;
use ukai_core::diagnose::evidence::{ControlResult, Reached};
use ukai_core::observe::{AddressResult, ErrorClass, Resolution, Stage};
use ukai_probe::{Expectation, Request, StatusSet, Timeouts, explain};

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

async fn probe_one(vantage: &Vantage, control: &Control) -> ControlResult {
    let host = control.endpoint.host();
    let name = resolve(&vantage.dns, &vantage.resolvers, &host, QUERY_TIMEOUT);
    let (resolution, reached) = match control.known_address() {
        Some(address) => {
            let (resolution, result) = tokio::join!(name, reach(vantage, control, address));
            (resolution, Some(result))
        }
        None => {
            let resolution = name.await;
            let result = match resolution.addresses.first() {
                Some(address) => Some(reach(vantage, control, *address).await),
                None => None,
            };
            (resolution, result)
        }
    };
    if let Some((result, _)) = reached.as_ref().filter(|(result, _)| result.is_success()) {
        control.remember(result.address);
    }
    let v6 = reach_v6(vantage, control, &resolution).await;
    ControlResult { v6, ..judge(control, resolution.failure.map(|failure| failure.detail), reached) }
}

/// Over IPv6 too, where the control has such an address. A machine without a route for it is no finding.
async fn reach_v6(vantage: &Vantage, control: &Control, resolution: &Resolution) -> Option<Reached> {
    let resolved = || resolution.addresses.iter().copied().find(IpAddr::is_ipv6);
    let address = control.address_v6.map(IpAddr::from).or_else(resolved)?;
    if !(vantage.is_routed)(SocketAddr::new(address, control.endpoint.port())) {
        return None;
    }
    let (result, _) = reach(vantage, control, address).await;
    Some(match result.failure {
        // Somebody answered, whatever he showed.
        Some(failure) if failure.stage <= Stage::Connect => Reached::No(failure.detail),
        _ => Reached::Yes,
    })
}

/// With the moment of its answer by the machine's own clock: the engine's never goes back, and would show a clock that was
/// set back as one that is wrong.
async fn reach(vantage: &Vantage, control: &Control, address: IpAddr) -> (AddressResult, Timestamp) {
    // Whatever it answers, it answered: a control proves the way there, not the page.
    let expectation =
        Expectation { status: StatusSet::parse(&["100-599"]).unwrap_or_default(), ..Expectation::default() };
    let request = Request::default();
    let result =
        vantage.prober.probe_address(&control.endpoint, address, &expectation, &request, &CONTROL_TIMEOUTS).await;
    (result, Timestamp::now())
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
