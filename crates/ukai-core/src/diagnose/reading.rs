//! A case read once: the facts that the rules are judged on.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::answers::{self, Authority, OurAnswer};
use super::evidence::{ApplicationCall, Candidate, ControlResult, Evidence, Proof, Source, VantageView};
use super::history::{History, network};
use crate::address::{is_global, is_within};
use crate::observe::{ErrorClass, Failure, Identity, Observation, Stage};
use crate::peer::{Mode, Peer};

/// Consecutive proofs of a candidate before it may be used.
pub const CANDIDATE_PROOFS: usize = 3;
/// TTLs at or below this, with churn, mark a steered name (CDN, GSLB, load balancer).
pub const STEERED_TTL_S: u32 = 60;
/// Changes of the set within a day, above which a short TTL marks a steered name.
pub const STEERED_CHANGES: usize = 2;
/// Live controls without which nothing is proven.
pub const CONTROLS_NEEDED: usize = 2;
/// Clocks of others that differ from ours by more are not a rounding of theirs.
pub const CLOCK_TOLERANCE_S: i64 = 300;

/// CDN and GSLB names that a chain may enter; what lies below them is steered by design.
const STEERING_SUFFIXES: [&str; 16] = [
    "cloudfront.net",
    "elb.amazonaws.com",
    "s3.amazonaws.com",
    "awsglobalaccelerator.com",
    "akamaiedge.net",
    "akamai.net",
    "edgekey.net",
    "edgesuite.net",
    "akadns.net",
    "fastly.net",
    "cdn.cloudflare.net",
    "azureedge.net",
    "azurefd.net",
    "trafficmanager.net",
    "googlehosted.com",
    "netlify.app",
];

/// Everything that a diagnosis is made from.
#[derive(Debug, Clone)]
pub struct Case<'a> {
    pub peer: &'a Peer,
    pub evidence: &'a Evidence,
    pub history: &'a History,
    /// Calls that the application reported, oldest first.
    pub application: &'a [ApplicationCall],
    /// Since when an authority was seen to give another set than in peace.
    pub moved_seen_at: Option<Timestamp>,
    pub allow_addresses: &'a [IpNet],
    /// The override of ours that stands, if one does.
    pub overridden: Option<&'a Overridden>,
}

/// An override of ours, as far as a diagnosis must know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overridden {
    pub since: Timestamp,
    pub mode: Mode,
    pub addresses: BTreeSet<IpAddr>,
}

/// Passed and failed, counted over live controls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Score {
    pub passed: usize,
    pub failed: usize,
}

/// Whether a candidate is who the peer was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Continuity {
    Continuous(String),
    Broken { old: String, new: String },
    NoHistory,
    NoIdentity,
}

/// The facts.
#[derive(Debug)]
pub struct Reading<'a> {
    pub case: &'a Case<'a>,
    pub live: Vec<&'a ControlResult>,
    pub by_address: Score,
    /// Controls to which a connection was made, whatever became of it then.
    pub connected: Score,
    pub by_name: Score,
    pub ours: OurAnswer,
    pub our_set: BTreeSet<IpAddr>,
    pub authority: Authority,
    pub authority_set: BTreeSet<IpAddr>,
    pub independents: Option<BTreeSet<IpAddr>>,
    /// Addresses that proved every endpoint, every time.
    pub proved: BTreeSet<IpAddr>,
    /// What each address of the normal path came to, past our override.
    pub current: BTreeMap<IpAddr, Vec<Option<Failure>>>,
    pub steered: Option<Steering>,
}

/// A name whose answers differ by design, and how that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steering {
    pub how: SteeredBy,
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SteeredBy {
    /// The chain of aliases enters a CDN or a GSLB.
    Alias,
    /// One server gives different sets, or they change many times a day.
    Churn,
    /// The answer depends on where the client is.
    Subnet,
}

impl std::fmt::Display for Steering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

impl<'a> Reading<'a> {
    pub fn of(case: &'a Case<'a>) -> Reading<'a> {
        let evidence = case.evidence;
        let live: Vec<&ControlResult> = evidence
            .controls
            .iter()
            .filter(|control| case.history.controls.contains(&control.control) || control.passed())
            .collect();
        let ours = answers::ours(evidence);
        let our_set = match &ours {
            OurAnswer::Addresses(set) => set.clone(),
            _ => BTreeSet::new(),
        };
        let proved = evidence
            .candidates
            .iter()
            .filter(|candidate| candidate.is_proved(&evidence.endpoints, CANDIDATE_PROOFS))
            .map(|candidate| candidate.address)
            .collect();
        let mut reading = Reading {
            case,
            by_address: by_address(&live),
            connected: connected(&live),
            by_name: by_name(&live),
            live,
            ours,
            our_set,
            authority: answers::authority(evidence),
            authority_set: answers::authority_addresses(evidence),
            independents: answers::independents(evidence),
            proved,
            current: current(&evidence.observations),
            steered: None,
        };
        reading.steered = reading.steering();
        reading
    }

    pub fn evidence(&self) -> &'a Evidence {
        self.case.evidence
    }

    /// The normal path, past our override, works on every address that it leads to.
    pub fn works_now(&self) -> bool {
        !self.evidence().observations.is_empty() && !self.evidence().observations.iter().any(Observation::any_failed)
    }

    /// The first failure of the normal path in stage order.
    pub fn failure(&self) -> Option<&'a Failure> {
        self.evidence().observations.iter().filter_map(Observation::failure).min_by_key(|failure| failure.stage)
    }

    /// Failures of the addresses that are answered now: those of the observation, else of the proofs.
    pub fn failures_now(&self) -> BTreeMap<IpAddr, Option<Failure>> {
        if !self.current.is_empty() {
            return self
                .current
                .iter()
                .map(|(address, results)| {
                    (*address, results.iter().flatten().min_by_key(|failure| failure.stage).cloned())
                })
                .collect();
        }
        self.evidence()
            .candidates
            .iter()
            .filter(|candidate| self.our_set.contains(&candidate.address))
            .map(|candidate| (candidate.address, candidate.first_failure().cloned()))
            .collect()
    }

    /// An address is seen to fail: every probe of it failed. One that nobody probed, or that proved itself, is not.
    pub fn is_failing(&self, address: IpAddr) -> bool {
        if self.proved.contains(&address) {
            return false;
        }
        match self.current.get(&address) {
            Some(results) => !results.is_empty() && results.iter().all(Option::is_some),
            None => self.candidate(address).is_some_and(|candidate| candidate.first_failure().is_some()),
        }
    }

    pub fn is_tried(&self, address: IpAddr) -> bool {
        self.current.contains_key(&address)
            || self.candidate(address).is_some_and(|candidate| !candidate.proofs.is_empty())
    }

    /// Addresses that work now for at least one endpoint.
    pub fn working(&self) -> BTreeSet<IpAddr> {
        let works = |results: &Vec<Option<Failure>>| results.iter().any(Option::is_none);
        self.current.iter().filter(|(_, results)| works(results)).map(|(address, _)| *address).collect()
    }

    /// Both sets of name servers were read in this gathering.
    pub fn delegation_read(&self) -> bool {
        let read = |delegation: &super::evidence::Delegation| {
            !delegation.parent_ns.is_empty() && !delegation.child_ns.is_empty()
        };
        self.evidence().delegation.as_ref().is_some_and(read)
    }

    /// What became of one address, whoever named it.
    pub fn candidate(&self, address: IpAddr) -> Option<&'a Candidate> {
        self.evidence().candidates.iter().find(|candidate| candidate.address == address)
    }

    /// What independent resolvers agree on stands for the authorities where none of these can be heard (S37).
    pub fn named(&self) -> BTreeSet<IpAddr> {
        let standing_in = self.independents.iter().flatten().filter(|_| self.authority == Authority::Silent);
        self.our_set.iter().chain(&self.authority_set).chain(standing_in).copied().collect()
    }

    /// Addresses that our resolver or an authority leads to, where somebody else answered the handshake
    /// and that were never the peer's.
    pub fn foreign(&self) -> BTreeMap<IpAddr, Failure> {
        let mut foreign = BTreeMap::new();
        let named = self.named();
        let led_to = |address: &IpAddr| named.contains(address) || self.current.contains_key(address);
        for candidate in &self.evidence().candidates {
            if let Some(failure) = candidate.failures().find(|failure| failure.class.is_foreign_identity()) {
                foreign.insert(candidate.address, failure.clone());
            }
        }
        for (address, results) in &self.current {
            if let Some(failure) = results.iter().flatten().find(|failure| failure.class.is_foreign_identity()) {
                foreign.insert(*address, failure.clone());
            }
        }
        foreign.retain(|address, _| led_to(address) && !self.case.history.knows_address(*address));
        foreign
    }

    /// Addresses whose page is that of a registrar.
    pub fn parked(&self) -> BTreeSet<IpAddr> {
        let is_parked = |failure: &Failure| failure.class == ErrorClass::Parked;
        let named = self.named();
        let led_to = self.evidence().candidates.iter().filter(|candidate| named.contains(&candidate.address));
        let proofs = led_to.filter_map(|candidate| candidate.failures().any(is_parked).then_some(candidate.address));
        let observed = self
            .current
            .iter()
            .filter_map(|(address, results)| results.iter().flatten().any(is_parked).then_some(*address));
        proofs.chain(observed).collect()
    }

    /// Addresses that no public service may have, unless the operator lists them.
    pub fn not_global(&self) -> BTreeSet<IpAddr> {
        let named = self.named();
        named
            .iter()
            .chain(self.current.keys())
            .copied()
            .filter(|address| !is_global(*address) && !is_within(*address, self.case.allow_addresses))
            .collect()
    }

    /// The name servers are others than in peace.
    pub fn delegation_changed(&self) -> Option<String> {
        let before = self.case.history.delegation.as_ref()?;
        let now = self.evidence().delegation.as_ref()?;
        if !now.parent_ns.is_empty() && now.parent_ns != before.parent_ns {
            return Some(format!(
                "the parent delegates to {} now, and to {} before the incident",
                list(&now.parent_ns),
                list(&before.parent_ns)
            ));
        }
        if !now.child_ns.is_empty() && now.child_ns != before.child_ns {
            return Some(format!(
                "the zone names {} as its servers now, and {} before the incident",
                list(&now.child_ns),
                list(&before.child_ns)
            ));
        }
        None
    }

    /// The identities that a candidate proved by verified handshakes, each key once: two endpoints of it, or two machines
    /// behind it, may show different ones.
    pub fn identities(&self, address: IpAddr) -> Vec<&'a Identity> {
        let mut shown: Vec<&Identity> = Vec::new();
        for proof in self.candidate(address).into_iter().flat_map(|candidate| &candidate.proofs) {
            if let Some(identity) = proof.result.identity.as_ref().filter(|identity| identity.verified)
                && !shown
                    .iter()
                    .any(|known| (&known.key_sha256, &known.issuer) == (&identity.key_sha256, &identity.issuer))
            {
                shown.push(identity);
            }
        }
        shown
    }

    /// Continuity as the design defines it: the same key, or the same issuer and a known network. It holds of every
    /// identity that the address showed, and of every proof by TLS.
    pub fn continuity(&self, address: IpAddr) -> Continuity {
        let of = |identity: &Identity| continuity(self.case.peer, self.case.history, identity, address);
        let all: Vec<Continuity> = self.identities(address).into_iter().map(of).collect();
        if let Some(broken) = all.iter().find(|one| matches!(one, Continuity::Broken { .. })) {
            return broken.clone();
        }
        let mut proofs = self.candidate(address).into_iter().flat_map(|candidate| &candidate.proofs);
        if proofs.any(is_unidentified) {
            return Continuity::NoIdentity;
        }
        all.into_iter().next().unwrap_or(Continuity::NoIdentity)
    }

    /// Other vantages that answered.
    pub fn vantages(&self) -> impl Iterator<Item = &'a VantageView> {
        self.evidence().vantages.iter().filter(|view| view.silence.is_none())
    }

    /// What a vantage saw of this address under the watched name: another name at it is another matter.
    fn seen_there<'v>(&self, view: &'v VantageView, address: IpAddr) -> impl Iterator<Item = &'v Proof> {
        let host = host_of(&self.evidence().host);
        view.results.iter().filter(move |proof| proof.result.address == address && host_of(&proof.endpoint) == host)
    }

    /// Vantages at which every endpoint passes on this address.
    pub fn passes_at(&self, address: IpAddr) -> Vec<&'a str> {
        let passes = |view: &&VantageView| {
            let mut tried = self.seen_there(view, address).peekable();
            tried.peek().is_some() && tried.all(|proof| self.is_served_there(proof))
        };
        self.vantages().filter(passes).map(|view| view.vantage.as_str()).collect()
    }

    /// Vantages that connect to this address, whatever becomes of it then.
    pub fn reached_at(&self, address: IpAddr) -> Vec<&'a str> {
        self.vantages_where(address, |failure| failure.is_none_or(|failure| failure.stage > Stage::Connect))
    }

    /// Vantages that cannot connect to this address either.
    pub fn unreached_at(&self, address: IpAddr) -> Vec<&'a str> {
        self.vantages_where(address, |failure| failure.is_some_and(|failure| failure.stage <= Stage::Connect))
    }

    fn vantages_where(&self, address: IpAddr, holds: impl Fn(Option<&Failure>) -> bool) -> Vec<&'a str> {
        let meets = |view: &&VantageView| {
            let mut tried = self.seen_there(view, address);
            tried.any(|proof| is_telling(proof) && holds(proof.result.failure.as_ref()))
        };
        self.vantages().filter(meets).map(|view| view.vantage.as_str()).collect()
    }

    /// Vantages that tried this address, and failed.
    pub fn fails_at(&self, address: IpAddr) -> Vec<&'a str> {
        let fails = |view: &&VantageView| {
            self.seen_there(view, address).any(|proof| !self.is_served_there(proof) && is_telling(proof))
        };
        self.vantages().filter(fails).map(|view| view.vantage.as_str()).collect()
    }

    /// A vantage has no secrets: where one is needed, what anybody without it was answered in peace is the good answer, and
    /// no other is.
    fn is_served_there(&self, proof: &Proof) -> bool {
        let path = path_of(&proof.endpoint);
        let in_peace = self.case.history.unauthenticated.iter().find(|(endpoint, _)| path_of(endpoint) == path);
        let failure = proof.result.failure.as_ref();
        match (in_peace.filter(|_| self.case.peer.needs_secret), &proof.result.http) {
            (Some((_, known)), Some(http)) => {
                http.status == *known && failure.is_none_or(|failure| failure.class == ErrorClass::HttpStatus)
            }
            _ => failure.is_none(),
        }
    }

    /// Addresses where the peer was proven before, that nobody names now and that prove themselves still.
    pub fn left_behind(&self) -> BTreeSet<IpAddr> {
        let named = |address: &IpAddr| self.our_set.contains(address) || self.authority_set.contains(address);
        let known = |address: &IpAddr| self.case.history.knows_address(*address);
        self.proved.iter().copied().filter(|address| known(address) && !named(address)).collect()
    }

    /// Addresses that an authority or an independent resolver gave us, each by its own word alone, and our resolver did not.
    pub fn given_elsewhere(&self) -> BTreeSet<IpAddr> {
        let independents = answers::addresses_of(self.evidence(), Source::Independent);
        independents.union(&self.authority_set).filter(|address| !self.our_set.contains(address)).copied().collect()
    }

    /// What clients elsewhere are led to, by the authorities' answers for their subnets and by independent resolvers, and not
    /// we; of it, what proves itself.
    pub fn proves_elsewhere(&self) -> BTreeSet<IpAddr> {
        let by_subnet = answers::by_subnet(self.evidence());
        let others = by_subnet.into_values().flatten().chain(self.independents.iter().flatten().copied());
        others.filter(|address| !self.our_set.contains(address) && self.proved.contains(address)).collect()
    }

    /// Why the name is steered, if it is.
    fn steering(&self) -> Option<Steering> {
        let because = |how, why: String| Some(Steering { how, why });
        let chain =
            self.evidence().asked.iter().filter_map(|asked| asked.answer()).flat_map(|answer| answer.chain.iter());
        for name in chain {
            let target = name.trim_end_matches('.').to_ascii_lowercase();
            let known =
                STEERING_SUFFIXES.iter().find(|suffix| target == **suffix || target.ends_with(&format!(".{suffix}")));
            if let Some(suffix) = known {
                return because(SteeredBy::Alias, format!("its CNAME chain enters {suffix}, which steers by design"));
            }
        }
        if let Some(why) = self.subnet_steering() {
            return because(SteeredBy::Subnet, why);
        }
        let ttl = answers::authority_ttl(self.evidence())
            .or_else(|| self.case.history.authority_answer().map(|answer| answer.ttl))?;
        if ttl > STEERED_TTL_S {
            return None;
        }
        if answers::rotates_within(self.evidence()) {
            let why = format!("one server gave different sets within this gathering, with a TTL of {ttl} s");
            return because(SteeredBy::Churn, why);
        }
        let changes = self.changes_in_the_last_day();
        let why = format!("its addresses changed {changes} times within a day, with a TTL of {ttl} s");
        (changes > STEERED_CHANGES).then_some(Steering { how: SteeredBy::Churn, why })
    }

    /// One authority answers a client elsewhere with another set than us, as often as it is asked.
    fn subnet_steering(&self) -> Option<String> {
        let plain = answers::plain_by_server(self.evidence());
        if plain.values().any(|sets| sets.len() > 1) {
            return None;
        }
        answers::by_subnet(self.evidence()).into_iter().find_map(|((server, subnet, family), set)| {
            let here = plain.get(&(server, family))?.first()?;
            (*here != set && !here.is_empty() && !set.is_empty())
                .then(|| format!("{server} leads clients in {subnet} to {}, and us to {}", list(&set), list(here)))
        })
    }

    /// Changes of the set, source by source, in the day before the gathering; the most of one source.
    fn changes_in_the_last_day(&self) -> usize {
        let from = self.evidence().started_at.as_second() - 86_400;
        [Source::Authority, Source::OurResolver]
            .into_iter()
            .map(|source| {
                let recent: Vec<_> = self
                    .case
                    .history
                    .answers
                    .iter()
                    .filter(|seen| seen.source == source && seen.last_seen.as_second() >= from)
                    .collect();
                recent.windows(2).filter(|pair| pair[0].addresses != pair[1].addresses).count()
            })
            .max()
            .unwrap_or(0)
    }
}

/// Whether an identity at an address is who the peer was.
pub fn continuity(peer: &Peer, history: &History, identity: &Identity, address: IpAddr) -> Continuity {
    if history.identities.is_empty() {
        return Continuity::NoHistory;
    }
    let same_key = history.identities.iter().any(|known| known.key_sha256 == identity.key_sha256);
    if same_key {
        return Continuity::Continuous(format!(
            "{address} shows the public key that was proven before ({})",
            short(&identity.key_sha256)
        ));
    }
    let same_issuer = history.identities.iter().any(|known| known.issuer == identity.issuer);
    let known_network = history.knows_network(address) || peer.networks.iter().any(|listed| listed.contains(&address));
    if same_issuer && known_network {
        return Continuity::Continuous(format!(
            "{address} has a new key, but from the same issuer ({}) and in a network proven before ({})",
            identity.issuer,
            network(address)
        ));
    }
    let old: Vec<String> = history
        .identities
        .iter()
        .map(|known| format!("key {} from {}", short(&known.key_sha256), known.issuer))
        .collect();
    Continuity::Broken {
        old: old.join("; "),
        new: format!("key {} from {} at {address}", short(&identity.key_sha256), identity.issuer),
    }
}

/// A proof by TLS that passed, and shows nobody.
fn is_unidentified(proof: &Proof) -> bool {
    let by_tls = ["https://", "tls://"].iter().any(|scheme| proof.endpoint.starts_with(scheme));
    let verified = proof.result.identity.as_ref().is_some_and(|identity| identity.verified);
    by_tls && proof.result.is_success() && !verified
}

/// The host of a URL without user information: without brackets, port and trailing dot, in lower case.
fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let port = authority.rfind(':').filter(|at| !authority[*at..].contains(']')).unwrap_or(authority.len());
    authority[..port].trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase()
}

/// What follows the host and the port of a URL: another vantage may reach an endpoint by another port.
fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').map_or("/", |at| &rest[at..])
}

/// A vantage that may not contact an address, or cannot open a socket, has not tried it.
fn is_telling(proof: &Proof) -> bool {
    let untried = |failure: &Failure| matches!(failure.class, ErrorClass::NotAllowed | ErrorClass::Local);
    !proof.result.failure.as_ref().is_some_and(untried)
}

/// Only over those whose address was known.
fn by_address(live: &[&ControlResult]) -> Score {
    let tried = live.iter().filter(|control| control.address_tried).count();
    let passed = live.iter().filter(|control| control.passed_by_address()).count();
    Score { passed, failed: tried - passed }
}

fn connected(live: &[&ControlResult]) -> Score {
    let tried = live.iter().filter(|control| control.address_tried).count();
    let passed = live.iter().filter(|control| control.is_connected()).count();
    Score { passed, failed: tried - passed }
}

/// Only over those that have a name: an address in a URL is asked of nobody.
fn by_name(live: &[&ControlResult]) -> Score {
    let named = live.iter().filter(|control| host_of(&control.control).parse::<IpAddr>().is_err());
    let (passed, failed): (Vec<&&ControlResult>, Vec<_>) = named.partition(|control| control.name_failure.is_none());
    Score { passed: passed.len(), failed: failed.len() }
}

fn current(observations: &[Observation]) -> BTreeMap<IpAddr, Vec<Option<Failure>>> {
    let mut current: BTreeMap<IpAddr, Vec<Option<Failure>>> = BTreeMap::new();
    for result in observations.iter().flat_map(|observation| &observation.results) {
        current.entry(result.address).or_default().push(result.failure.clone());
    }
    current
}

/// The first stage that any of these failed in.
pub fn is_before_tls(failure: &Failure) -> bool {
    failure.stage < Stage::Tls
}

fn short(hex: &str) -> &str {
    hex.get(..12).unwrap_or(hex)
}

/// Names or addresses in a sentence: at most eight, then how many more.
pub fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    const SHOWN: usize = 8;
    let all: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    if all.is_empty() {
        return "nothing".to_owned();
    }
    let more = all.len().saturating_sub(SHOWN);
    let shown = all[..all.len() - more].join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}
