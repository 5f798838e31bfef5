//! One address of one endpoint, and all addresses of an answer.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use rustls::client::WebPkiServerVerifier;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::timeout;
use ukai_core::observe::{AddressResult, ErrorClass, Failure, Identity, Observation, Path, Resolution, Stage, Timings};

use crate::address::{is_global, is_within};
use crate::connect::connect;
use crate::counted::{Counted, Received};
use crate::endpoint::{Endpoint, Kind};
use crate::exchange::{Ask, exchange};
use crate::expect::Expectation;
use crate::handshake::{Hello, Trust, handshake};
use crate::request::Request;
use crate::roots::{ROOTS_MAX, root_store};
use crate::timing::{Timeouts, human, human_us};

/// Addresses of one answer that are probed: twice what fits into a UDP answer, and no way to make us a flood.
pub const ADDRESSES_MAX: usize = 64;
/// Addresses of one answer that are probed at the same time.
pub const SIDE_BY_SIDE: usize = 16;
/// How long a finished TLS connection may take to say goodbye.
const CLOSING: Duration = Duration::from_millis(100);

/// Whom to trust, what may be contacted, and how much at once.
#[derive(Debug, Clone)]
pub struct ProberOptions {
    /// PEM bundles of private CAs, trusted beside the system's.
    pub extra_roots: Vec<Vec<u8>>,
    /// Trust this machine's store, or Mozilla's list if it has none.
    pub use_system_roots: bool,
    /// Networks that are not global and may be contacted all the same.
    pub allow: Vec<IpNet>,
    /// Connections at the same time, over all endpoints.
    pub max_concurrent: usize,
}

impl Default for ProberOptions {
    fn default() -> Self {
        Self { extra_roots: Vec::new(), use_system_roots: true, allow: Vec::new(), max_concurrent: 64 }
    }
}

/// Why there can be no prober.
#[derive(Debug, thiserror::Error)]
pub enum ProberError {
    #[error("the extra CA file number {index} cannot be read as PEM certificates")]
    Pem { index: usize },
    #[error("the extra CA file number {index} holds no certificate")]
    NoCertificate { index: usize },
    #[error("the extra CA file number {index} holds more than {ROOTS_MAX} certificates")]
    TooManyRoots { index: usize },
    #[error("the extra CA file number {index} holds a certificate that cannot be a root: {source}")]
    Root { index: usize, source: rustls::Error },
    #[error("no certificate authority is trusted: use the system's or give one")]
    NoRoots,
    #[error("at least one connection at a time must be allowed")]
    NoConcurrency,
    #[error("the certificate verifier could not be built: {0}")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}

/// Probes addresses. Cheap to clone; clones share the bound on connections.
#[derive(Debug, Clone)]
pub struct Prober {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    trust: Trust,
    allow: Vec<IpNet>,
    permits: Semaphore,
}

/// One round over the addresses that somebody resolved.
#[derive(Debug, Clone)]
pub struct Round<'a> {
    pub peer: &'a str,
    pub path: Path,
    pub started_at: Timestamp,
    pub resolution: Resolution,
}

impl Prober {
    pub fn new(options: ProberOptions) -> Result<Self, ProberError> {
        if options.max_concurrent == 0 {
            return Err(ProberError::NoConcurrency);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(root_store(&options)?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build()?;
        let permits = Semaphore::new(options.max_concurrent.min(Semaphore::MAX_PERMITS));
        let shared = Shared { trust: Trust { verifier, provider }, allow: options.allow, permits };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Probes one address as if the endpoint's name had resolved to it.
    pub async fn probe_address(
        &self,
        endpoint: &Endpoint,
        address: IpAddr,
        expectation: &Expectation,
        request: &Request,
        timeouts: &Timeouts,
    ) -> AddressResult {
        let failure = self.refusal(address, expectation);
        let mut result = AddressResult { failure, ..AddressResult::untried(address, endpoint.port()) };
        if result.failure.is_none() {
            let received = Received::default();
            // The semaphore is never closed, and the time spent waiting for it is not the peer's.
            let _permit = self.shared.permits.acquire().await;
            let ask = Ask { endpoint, request, expectation, timeouts };
            result.failure = self.walk(ask, &received, &mut result).await.err();
            let stalled = |failure: &Failure| failure.class == ErrorClass::Timeout && failure.stage > Stage::Connect;
            result.stalled_after = result.failure.as_ref().filter(|failure| stalled(failure)).map(|_| received.bytes());
            result.failure = result
                .failure
                .or_else(|| expires_soon(result.identity.as_ref(), expectation, Timestamp::now()))
                .or_else(|| too_slow(&result.timings, expectation));
        }
        result
    }

    /// Probes every address of an answer on its own, side by side, at most [`ADDRESSES_MAX`] of them.
    pub async fn probe_all(
        &self,
        round: Round<'_>,
        endpoint: &Endpoint,
        expectation: &Expectation,
        request: &Request,
        timeouts: &Timeouts,
    ) -> Observation {
        let mut resolution = round.resolution;
        let total = resolution.addresses.len().max(resolution.addresses_total);
        resolution.addresses_total = total;
        resolution.addresses = select(&resolution.addresses);
        if resolution.failure.is_none() && resolution.addresses.is_empty() {
            resolution.failure = Some(Failure {
                stage: Stage::Resolve,
                class: ErrorClass::Nodata,
                detail: format!("{} resolves to no address", endpoint.host()),
            });
        }
        let task = Task {
            prober: self.clone(),
            endpoint: endpoint.clone(),
            expectation: expectation.clone(),
            request: request.clone(),
            timeouts: *timeouts,
        };
        let addresses = match resolution.failure {
            Some(_) => &[],
            None => resolution.addresses.as_slice(),
        };
        let mut results = probe_side_by_side(Arc::new(task), addresses).await;
        for result in &mut results {
            result.timings.resolve_us = Some(resolution.elapsed_us);
        }
        Observation {
            peer: round.peer.to_owned(),
            endpoint: endpoint.to_string(),
            path: round.path,
            started_at: round.started_at,
            resolution,
            results,
        }
    }

    /// The operator allows the address, or it is a public one.
    pub(crate) fn may_contact(&self, address: IpAddr) -> bool {
        is_global(address) || is_within(address, &self.shared.allow)
    }

    pub(crate) fn trust(&self) -> &Trust {
        &self.shared.trust
    }

    /// A place among the connections that may be open at once.
    pub(crate) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        self.shared.permits.acquire().await.ok()
    }

    /// Why the address is not contacted at all.
    fn refusal(&self, address: IpAddr, expectation: &Expectation) -> Option<Failure> {
        let ranges = &expectation.address_ranges;
        let detail = if !self.may_contact(address) {
            format!(
                "{address} is not a public address and not in a network that may be probed (allow_addresses), so it was \
                 not contacted"
            )
        } else if !ranges.is_empty() && !is_within(address, ranges) {
            format!("{address} is outside the address ranges that the endpoint expects, so it was not contacted")
        } else {
            return None;
        };
        Some(Failure { stage: Stage::Resolve, class: ErrorClass::NotAllowed, detail })
    }

    /// The stages in order; what was found on the way stays in `result`, whatever fails.
    async fn walk(&self, ask: Ask<'_>, received: &Received, result: &mut AddressResult) -> Result<(), Failure> {
        let AddressResult { address, port, timings, .. } = result;
        let stream = connect(*address, *port, ask.timeouts.connect, timings).await?;
        let stream = Counted::new(stream, received.clone());
        match ask.endpoint.kind() {
            Kind::Tcp => Ok(()),
            Kind::Http => finish(exchange(stream, false, ask, timings).await, result),
            Kind::Tls | Kind::Https => self.walk_tls(stream, ask, result).await,
        }
    }

    async fn walk_tls(&self, stream: Counted, ask: Ask<'_>, result: &mut AddressResult) -> Result<(), Failure> {
        let timings = &mut result.timings;
        let limit = ask.timeouts.tls;
        let trust = &self.shared.trust;
        let protocols: &[&[u8]] = if ask.endpoint.kind() == Kind::Https { &[b"h2", b"http/1.1"] } else { &[] };
        let hello = Hello { server_name: true, protocols };
        let shaken = handshake(stream, ask.endpoint, ask.request, trust, hello, limit, timings).await;
        result.identity = shaken.identity;
        let mut stream = shaken.outcome?;
        if ask.endpoint.kind() == Kind::Tls {
            let _ = timeout(CLOSING, stream.shutdown()).await;
            return Ok(());
        }
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        finish(exchange(stream, http2, ask, timings).await, result)
    }
}

fn finish(exchanged: crate::exchange::Exchange, result: &mut AddressResult) -> Result<(), Failure> {
    result.http = exchanged.http;
    exchanged.failure.map_or(Ok(()), Err)
}

/// What one spawned probe needs, shared by all of a round.
struct Task {
    prober: Prober,
    endpoint: Endpoint,
    expectation: Expectation,
    request: Request,
    timeouts: Timeouts,
}

/// Results in the order of the addresses. Dropping the future ends every probe that is under way.
async fn probe_side_by_side(task: Arc<Task>, addresses: &[IpAddr]) -> Vec<AddressResult> {
    let mut waiting = addresses.iter().copied().enumerate();
    let mut running = JoinSet::new();
    let mut results = Vec::with_capacity(addresses.len());
    loop {
        while running.len() < SIDE_BY_SIDE
            && let Some((index, address)) = waiting.next()
        {
            let task = Arc::clone(&task);
            running.spawn(async move {
                let Task { prober, endpoint, expectation, request, timeouts } = &*task;
                (index, prober.probe_address(endpoint, address, expectation, request, timeouts).await)
            });
        }
        match running.join_next().await {
            Some(Ok(result)) => results.push(result),
            // A probe that panicked has no result; the panic itself is in the log.
            Some(Err(error)) => tracing::error!(%error, "a probe did not finish"),
            None => break,
        }
    }
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// At most [`ADDRESSES_MAX`] different addresses, both families in turn, each in the order of the answer.
fn select(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut seen = BTreeSet::new();
    let different = addresses.iter().copied().filter(|address| seen.insert(*address));
    let (v4, v6): (Vec<_>, Vec<_>) = different.partition(IpAddr::is_ipv4);
    let (mut v4, mut v6) = (v4.into_iter(), v6.into_iter());
    let mut selected = Vec::new();
    while selected.len() < ADDRESSES_MAX {
        let before = selected.len();
        selected.extend(v4.next());
        selected.extend(v6.next());
        if selected.len() == before {
            break;
        }
    }
    selected
}

fn expires_soon(identity: Option<&Identity>, expectation: &Expectation, now: Timestamp) -> Option<Failure> {
    let (identity, days) = (identity?, expectation.certificate_days?);
    let left = identity.not_after.duration_since(now);
    if left >= SignedDuration::from_hours(24 * i64::from(days)) {
        return None;
    }
    let left = match left.as_hours() / 24 {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    };
    let detail = format!("the TLS certificate expires in {left}, and at least {days} days were expected");
    Some(Failure { stage: Stage::Tls, class: ErrorClass::ExpiresSoon, detail })
}

/// Charged to the stage that took the longest, because that is where to look.
fn too_slow(timings: &Timings, expectation: &Expectation) -> Option<Failure> {
    let limit = expectation.max_time?;
    let total = timings.total_us();
    if u128::from(total) <= limit.as_micros() {
        return None;
    }
    let (_, stage) = [
        (timings.connect_us, Stage::Connect),
        (timings.tls_us, Stage::Tls),
        (timings.processing_us, Stage::Processing),
        (timings.transfer_us, Stage::Transfer),
    ]
    .into_iter()
    .max_by_key(|(time, _)| *time)?;
    let detail = format!(
        "it took {}, most of it in {}, and at most {} was expected",
        human_us(total),
        stage.name(),
        human(limit)
    );
    Some(Failure { stage, class: ErrorClass::TooSlow, detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selection_spreads_over_both_families() {
        let mut addresses =
            (0..5_000u16).map(|index| IpAddr::from([10, 0, (index >> 8) as u8, index as u8])).collect::<Vec<_>>();
        addresses.extend((0..40u16).map(|index| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, index])));
        let selected = select(&addresses);
        assert_eq!(selected.len(), ADDRESSES_MAX);
        assert_eq!(selected.iter().filter(|address| address.is_ipv6()).count(), 32);
        assert_eq!(selected[0], addresses[0]);

        let few = [addresses[1], addresses[1], addresses[0]];
        assert_eq!(select(&few), [addresses[1], addresses[0]]);
        assert_eq!(select(&addresses[..100]).len(), ADDRESSES_MAX);
        assert!(select(&[]).is_empty());
    }

    #[test]
    fn a_prober_needs_somebody_to_trust() {
        let build = |extra_roots: Vec<Vec<u8>>, max_concurrent| {
            let options = ProberOptions { extra_roots, use_system_roots: false, allow: vec![], max_concurrent };
            Prober::new(options).unwrap_err()
        };
        assert!(matches!(build(vec![], 1), ProberError::NoRoots));
        assert!(matches!(build(vec![], 0), ProberError::NoConcurrency));
        assert!(matches!(build(vec![b"text".to_vec()], 1), ProberError::NoCertificate { index: 0 }));
        let broken = b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n".to_vec();
        assert!(matches!(build(vec![broken], 1), ProberError::Pem { index: 0 }));
        let rubbish = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec();
        assert!(matches!(build(vec![rubbish], 1), ProberError::Root { index: 0, .. }));
    }

    #[test]
    fn slowness_is_charged_to_the_slowest_stage() {
        let expectation = Expectation { max_time: Some(Duration::from_millis(100)), ..Expectation::default() };
        let mut timings = Timings { connect_us: Some(10_000), tls_us: Some(90_000), ..Timings::default() };
        assert_eq!(too_slow(&timings, &expectation), None);
        timings.processing_us = Some(200_000);
        let failure = too_slow(&timings, &expectation).unwrap();
        assert_eq!((failure.stage, failure.class), (Stage::Processing, ErrorClass::TooSlow));
        assert!(failure.detail.starts_with("it took 300 ms, most of it in processing"));
    }
}
