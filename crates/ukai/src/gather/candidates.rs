//! Candidates: every address that anybody gave, each proved on its own, without secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use ukai_core::diagnose::evidence::{Asked, Candidate, Proof, Source};
use ukai_core::observe::{AddressResult, ErrorClass, Failure, Stage};
use ukai_probe::{Prober, Timeouts};

use super::subject::{Subject, Vantage, Watched, join_all};

/// Addresses proved in one gathering; a set larger than this belongs to a fleet that must not be pinned anyway.
pub const CANDIDATES_MAX: usize = 32;
/// Of these, for those whom a flood must not crowd out: the authorities and the operator.
const RESERVED: usize = CANDIDATES_MAX / 2;
/// Addresses of before, which nobody names any more.
const KNOWN_MAX: usize = 8;
/// k: an address that answers one time in two passes by luck one time in eight.
pub const PROOFS: usize = 3;
/// Far enough apart that a load balancer may choose again.
const PROOF_SPACING: Duration = Duration::from_millis(100);

/// Where askers report the addresses that they were given.
#[derive(Clone)]
pub struct Found(mpsc::UnboundedSender<(IpAddr, Source)>);

impl Found {
    /// Unbounded by type, bounded by its senders: a gathering asks a fixed number of questions, and each answer is cut.
    pub fn channel() -> (Found, mpsc::UnboundedReceiver<(IpAddr, Source)>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Found(sender), receiver)
    }

    pub fn report(&self, asked: &Asked) {
        for address in asked.answer().into_iter().flat_map(|answer| &answer.addresses) {
            self.send(*address, asked.source);
        }
    }

    pub fn send(&self, address: IpAddr, source: Source) {
        // The collector outlives every asker; if it is gone, so is the gathering.
        let _ = self.0.send((address, source));
    }
}

/// Proves addresses as they are found, until nobody can find another. Those of a family that cannot be left for from here are
/// listed without a proof, unless there is nothing else.
pub async fn collect(
    vantage: &Vantage,
    subject: &Subject,
    (also, known): (&BTreeSet<IpAddr>, &BTreeSet<IpAddr>),
    deadline: Instant,
    mut found: mpsc::UnboundedReceiver<(IpAddr, Source)>,
) -> Vec<Candidate> {
    let mut candidates = BTreeMap::new();
    let mut proving = JoinSet::new();
    let mut unrouted = Vec::new();
    let mut start = |address: IpAddr| {
        if subject.is_routed(vantage, address) {
            spawn(&mut proving, subject, address, deadline);
        } else {
            unrouted.push(address);
        }
    };
    for address in also.iter().take(CANDIDATES_MAX) {
        candidates.insert(*address, fresh(*address, true));
        start(*address);
    }
    for address in known.difference(also).take(KNOWN_MAX) {
        candidates.insert(*address, fresh(*address, false));
        start(*address);
    }
    while let Some((address, source)) = found.recv().await {
        if !candidates.contains_key(&address) && has_room(&candidates, source) {
            candidates.insert(address, fresh(address, false));
            start(address);
        }
        if let Some(candidate) = candidates.get_mut(&address) {
            candidate.learned_from.insert(source);
        }
    }
    if proving.is_empty() {
        unrouted.iter().for_each(|address| spawn(&mut proving, subject, *address, deadline));
    }
    while let Some(done) = proving.join_next().await {
        if let Ok((address, proofs)) = done
            && let Some(candidate) = candidates.get_mut(&address)
        {
            candidate.proofs = proofs;
        }
    }
    candidates.into_values().collect()
}

fn spawn(proving: &mut JoinSet<(IpAddr, Vec<Proof>)>, subject: &Subject, address: IpAddr, deadline: Instant) {
    let subject = subject.clone();
    proving.spawn(async move { (address, prove(&subject, address, deadline).await) });
}

/// A resolver may fill half of it, whatever it answers.
fn has_room(candidates: &BTreeMap<IpAddr, Candidate>, source: Source) -> bool {
    let is_reserved =
        |candidate: &&Candidate| candidate.by_operator || candidate.learned_from.contains(&Source::Authority);
    let others = candidates.len() - candidates.values().filter(is_reserved).count();
    candidates.len() < CANDIDATES_MAX && (source == Source::Authority || others < CANDIDATES_MAX - RESERVED)
}

fn fresh(address: IpAddr, by_operator: bool) -> Candidate {
    Candidate { address, learned_from: BTreeSet::new(), by_operator, proofs: Vec::new() }
}

/// Every endpoint k times in a row; the first failure ends it.
async fn prove(subject: &Subject, address: IpAddr, deadline: Instant) -> Vec<Proof> {
    let mut proofs = Vec::new();
    for time in 0..PROOFS {
        if time > 0 {
            tokio::time::sleep(PROOF_SPACING).await;
        }
        let round =
            join_all(subject.watched.iter().map(|watched| prove_once(&subject.prober, watched, address, deadline)))
                .await;
        let failed = round.iter().any(|proof| !proof.result.is_success());
        proofs.extend(round);
        if failed {
            break;
        }
    }
    proofs
}

pub async fn prove_once(prober: &Prober, watched: &Watched, address: IpAddr, deadline: Instant) -> Proof {
    let (request, expectation) = watched.proof();
    let left = deadline.saturating_duration_since(Instant::now());
    let timeouts = within(&watched.timeouts, left);
    let probe = prober.probe_address(&watched.endpoint, address, &expectation, &request, &timeouts);
    let result = match tokio::time::timeout_at(deadline, probe).await {
        Ok(result) => result,
        Err(_) => cut(address, watched.endpoint.port()),
    };
    Proof { endpoint: watched.endpoint.to_string(), result }
}

/// The stages share what is left, so that the stage that hangs is the one that is named.
fn within(timeouts: &Timeouts, left: Duration) -> Timeouts {
    let share = left / 4;
    Timeouts {
        connect: timeouts.connect.min(share),
        tls: timeouts.tls.min(share),
        processing: timeouts.processing.min(share),
        transfer: timeouts.transfer.min(share),
    }
}

fn cut(address: IpAddr, port: u16) -> AddressResult {
    let detail = "the bound of the gathering was reached before this proof ended".to_owned();
    let failure = Some(Failure { stage: Stage::Connect, class: ErrorClass::Timeout, detail });
    AddressResult { failure, ..AddressResult::untried(address, port) }
}
