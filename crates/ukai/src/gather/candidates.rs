//! Candidates: every address that anybody gave, each proved on its own, without secrets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use ukai_core::diagnose::evidence::{Asked, Candidate, DefaultSite, Proof, Purpose, Source};
use ukai_core::observe::{AddressResult, ErrorClass, Failure, Stage};
use ukai_probe::{Kind, Prober, Timeouts};

use super::Order;
use super::subject::{Subject, Vantage, Watched, join_all};

/// Addresses proved in one gathering; a set larger than this belongs to a fleet that must not be pinned anyway.
pub const CANDIDATES_MAX: usize = 32;
/// Of these, for those whom a flood must not crowd out: the authorities and the operator.
const RESERVED: usize = CANDIDATES_MAX / 2;
/// Addresses of before, which nobody names any more.
const KNOWN_MAX: usize = 8;
/// Candidates that are asked for the certificate of their default site.
const DEFAULT_SITES_MAX: usize = 8;
/// Of these, addresses of before: they are there first, and must leave room for what is named now.
const DEFAULT_SITES_KNOWN_MAX: usize = DEFAULT_SITES_MAX / 2;
/// k: an address that answers one time in two passes by luck one time in eight.
pub const PROOFS: usize = 3;
/// Far enough apart that a load balancer may choose again.
const PROOF_SPACING: Duration = Duration::from_millis(100);

/// Where askers report the addresses that they were given.
#[derive(Clone)]
pub struct Found {
    finds: mpsc::UnboundedSender<(IpAddr, Source)>,
    named: Named,
}

/// What has been named so far, for whoever cannot wait for the end.
#[derive(Clone, Default)]
pub struct Named(Arc<Mutex<BTreeMap<IpAddr, BTreeSet<Source>>>>);

impl Named {
    pub fn so_far(&self) -> BTreeMap<IpAddr, BTreeSet<Source>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Found {
    /// Unbounded by type, bounded by its senders: a gathering asks a fixed number of questions, and each answer is cut.
    pub fn channel() -> (Found, mpsc::UnboundedReceiver<(IpAddr, Source)>) {
        let (finds, receiver) = mpsc::unbounded_channel();
        (Found { finds, named: Named::default() }, receiver)
    }

    pub fn named(&self) -> Named {
        self.named.clone()
    }

    pub fn report(&self, asked: &Asked) {
        for address in asked.answer().into_iter().flat_map(|answer| &answer.addresses) {
            self.send(*address, asked.source);
        }
    }

    pub fn send(&self, address: IpAddr, source: Source) {
        self.named.0.lock().unwrap_or_else(PoisonError::into_inner).entry(address).or_default().insert(source);
        // The collector outlives every asker; if it is gone, so is the gathering.
        let _ = self.finds.send((address, source));
    }
}

/// The candidates with their proofs, and what some of them show to a client that names no server.
#[derive(Debug, Default)]
pub struct Collected {
    pub candidates: Vec<Candidate>,
    pub default_sites: Vec<DefaultSite>,
}

/// Proves addresses as they are found, until nobody can find another. Those of a family that cannot be left for from here are
/// listed without a proof, unless there is nothing else.
pub async fn collect(
    vantage: &Vantage,
    subject: &Subject,
    order: &Order,
    deadline: Instant,
    mut found: mpsc::UnboundedReceiver<(IpAddr, Source)>,
) -> Collected {
    let mut also = order.also.clone();
    if subject.is_literal() {
        also.extend(subject.host.parse::<IpAddr>());
    }
    let mut candidates = BTreeMap::new();
    let mut proving = Proving { subject, deadline, tasks: JoinSet::new(), default_sites: 0 };
    let sites_max = if order.purpose == Purpose::Diagnose { DEFAULT_SITES_MAX } else { 0 };
    let mut unrouted = Vec::new();
    let mut start = |proving: &mut Proving, address: IpAddr, sites_max: usize| {
        if subject.is_routed(vantage, address) {
            proving.start(address, sites_max);
        } else {
            unrouted.push(address);
        }
    };
    for address in also.iter().take(CANDIDATES_MAX) {
        candidates.insert(*address, fresh(*address, true));
        start(&mut proving, *address, sites_max);
    }
    for address in order.known.difference(&also).take(KNOWN_MAX) {
        candidates.insert(*address, fresh(*address, false));
        start(&mut proving, *address, sites_max.min(DEFAULT_SITES_KNOWN_MAX));
    }
    while let Some((address, source)) = found.recv().await {
        if !candidates.contains_key(&address) && has_room(&candidates, source) {
            candidates.insert(address, fresh(address, false));
            start(&mut proving, address, sites_max);
        }
        if let Some(candidate) = candidates.get_mut(&address) {
            candidate.learned_from.insert(source);
        }
    }
    if proving.tasks.is_empty() {
        unrouted.iter().for_each(|address| proving.start(*address, 0));
    }
    let mut default_sites = Vec::new();
    while let Some(done) = proving.tasks.join_next().await {
        if let Ok((address, proofs, default_site)) = done
            && let Some(candidate) = candidates.get_mut(&address)
        {
            candidate.proofs = proofs;
            default_sites.extend(default_site);
        }
    }
    default_sites.sort_by_key(|site| site.address);
    Collected { candidates: candidates.into_values().collect(), default_sites }
}

struct Proving<'a> {
    subject: &'a Subject,
    deadline: Instant,
    tasks: JoinSet<(IpAddr, Vec<Proof>, Option<DefaultSite>)>,
    default_sites: usize,
}

impl Proving<'_> {
    /// With a look at its default site, as long as fewer than `sites_max` were looked at.
    fn start(&mut self, address: IpAddr, sites_max: usize) {
        let (subject, deadline) = (self.subject.clone(), self.deadline);
        let looks = self.default_sites < sites_max;
        self.default_sites += usize::from(looks);
        self.tasks.spawn(async move {
            let default_site = async { if looks { default_site(&subject, address, deadline).await } else { None } };
            let (proofs, default_site) = tokio::join!(prove(&subject, address, deadline), default_site);
            (address, proofs, default_site)
        });
    }
}

async fn default_site(subject: &Subject, address: IpAddr, deadline: Instant) -> Option<DefaultSite> {
    let is_tls = |watched: &&Watched| matches!(watched.endpoint.kind(), Kind::Tls | Kind::Https);
    let watched = subject.watched.iter().find(is_tls)?;
    let timeouts = within(&watched.timeouts, deadline.saturating_duration_since(Instant::now()));
    let shown = subject.prober.default_site(&watched.endpoint, address, &timeouts);
    tokio::time::timeout_at(deadline, shown).await.ok().flatten()
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
        let once = async |watched: &Watched| {
            let proof = prove_once(&subject.prober, watched, address, deadline).await;
            proof.unwrap_or_else(|| cut(watched, address))
        };
        let round = join_all(subject.watched.iter().map(once)).await;
        let failed = round.iter().any(|proof| !proof.result.is_success());
        proofs.extend(round);
        if failed {
            break;
        }
    }
    proofs
}

/// None: the deadline came first, which says nothing of the address.
pub async fn prove_once(prober: &Prober, watched: &Watched, address: IpAddr, deadline: Instant) -> Option<Proof> {
    let (request, expectation) = watched.proof();
    let left = deadline.saturating_duration_since(Instant::now());
    let timeouts = within(&watched.timeouts, left);
    let probe = prober.probe_address(&watched.endpoint, address, &expectation, &request, &timeouts);
    let result = tokio::time::timeout_at(deadline, probe).await.ok()?;
    Some(Proof { endpoint: watched.endpoint.to_string(), result })
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

fn cut(watched: &Watched, address: IpAddr) -> Proof {
    let detail = "the bound of the gathering was reached before this proof ended".to_owned();
    let failure = Some(Failure { stage: Stage::Connect, class: ErrorClass::Timeout, detail });
    let result = AddressResult { failure, ..AddressResult::untried(address, watched.endpoint.port()) };
    Proof { endpoint: watched.endpoint.to_string(), result }
}
