//! The guards: each can refuse an override by itself, and says why.
//!
//! A guard *passes*, *refuses*, or leaves it to a *person* who is shown what it saw. All of them run
//! when a plan is drawn up, and again on fresh evidence right before it is applied.

use std::net::IpAddr;

use super::{ADDRESSES_MAX, LEASE_MAX_S, Origin, Refusal, Selection, is_fixed, is_overridable};
use crate::address::{is_global, is_within};
use crate::diagnose::answers::{self, Authority};
use crate::diagnose::evidence::{Canary, Source};
use crate::diagnose::reading::{CONTROLS_NEEDED, Continuity, Reading, list};
use crate::diagnose::verdict::{Action, Code, Sure, Verdict};
use crate::peer::Mode;

/// Overrides that may stand at once: more is not one peer's outage but our own.
pub const STANDING_MAX: usize = 3;
/// Changes of what is served within an hour: a bound on any flapping that other rules let through.
pub const CHANGES_PER_HOUR_MAX: usize = 6;

/// What the guards look at besides the evidence.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// Overrides of other peers that may stand now.
    pub others: usize,
    pub changes_in_the_last_hour: usize,
    pub frozen: bool,
    pub serves_dns: bool,
    /// … where an override hides every other type of the name: in a policy zone, or as local data.
    pub hides_types: bool,
}

/// A guard's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    Pass,
    Refuse(String),
    /// Only a person may pass it, having been shown this.
    Person(String),
}

/// All that a guard may look at.
#[derive(Debug)]
pub struct Proposal<'a> {
    pub reading: &'a Reading<'a>,
    pub verdict: &'a Verdict,
    pub selection: &'a Selection,
    pub standing: Standing,
}

/// A named guard.
#[derive(Debug)]
pub struct Guard {
    pub name: &'static str,
    /// What it holds against, in a line.
    pub doc: &'static str,
    pub judge: fn(&Proposal) -> Ruling,
}

/// Every guard, cheapest reason first.
pub const GUARDS: &[Guard] = &[
    Guard { name: "frozen", doc: "Somebody froze every automatic change.", judge: frozen },
    Guard {
        name: "provider",
        doc: "There is a zone provider in which an override would take effect.",
        judge: provider,
    },
    Guard {
        name: "limits",
        doc: "Not too many overrides at once, nor too many changes within an hour.",
        judge: limits,
    },
    Guard { name: "lease", doc: "The lease has an end, and not a far one.", judge: lease },
    Guard { name: "diagnosis", doc: "The diagnosis is one that an override mends.", judge: diagnosis },
    Guard {
        name: "current_answer_fails",
        doc: "The normal path really fails now, on every address that it leads to.",
        judge: current_answer_fails,
    },
    Guard {
        name: "local_fault",
        doc: "The fault is the name's alone: controls pass, by name and by address.",
        judge: local_fault,
    },
    Guard {
        name: "other_types",
        doc: "In a policy zone an override hides no other records of the name, unless a person was shown which.",
        judge: other_types,
    },
    Guard { name: "port_53", doc: "A canary has shown that port 53 is not intercepted.", judge: port_53 },
    Guard {
        name: "trusted_source",
        doc: "The candidate comes from the peer's own servers in agreement, from an operator, or with a person from agreeing independent resolvers or, where the peer's servers give none, from before.",
        judge: trusted_source,
    },
    Guard { name: "delegation", doc: "The delegation is the one from before the incident.", judge: delegation },
    Guard { name: "steered", doc: "A steered name is followed, never pinned.", judge: steered },
    Guard {
        name: "global_unicast",
        doc: "Every address is global unicast, unless the operator allows its network.",
        judge: global_unicast,
    },
    Guard { name: "parking", doc: "No address serves a parking page.", judge: parking },
    Guard {
        name: "proof",
        doc: "Every endpoint was proved on every address by TCP, TLS and HTTP, every time.",
        judge: proof,
    },
    Guard {
        name: "vantages",
        doc: "A candidate that another vantage tried proves itself at one of them at least.",
        judge: vantages,
    },
    Guard {
        name: "unauthenticated_answer",
        doc: "An endpoint that needs secrets answers a candidate's probe, which has none, as it did in peace.",
        judge: unauthenticated_answer,
    },
    Guard {
        name: "verified_tls",
        doc: "Without verified TLS there is no identity: only a pin that an operator gave.",
        judge: verified_tls,
    },
    Guard {
        name: "identity_continuity",
        doc: "Whoever answers is who answered before, or a person was shown old and new.",
        judge: identity_continuity,
    },
];

/// The words against a proposal.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Findings {
    pub refusals: Vec<Refusal>,
    /// What only a person may pass.
    pub for_a_person: Vec<Refusal>,
}

/// Runs every guard.
pub fn examine(proposal: &Proposal) -> Findings {
    let mut findings = Findings::default();
    for guard in GUARDS {
        let said = |reason| Refusal { guard: guard.name.to_owned(), reason };
        match (guard.judge)(proposal) {
            Ruling::Pass => {}
            Ruling::Refuse(reason) => findings.refusals.push(said(reason)),
            Ruling::Person(reason) => findings.for_a_person.push(said(reason)),
        }
    }
    findings
}

/// What policy alone needs, besides no word against it.
pub fn is_automatic(proposal: &Proposal, findings: &Findings) -> bool {
    findings.refusals.is_empty()
        && findings.for_a_person.is_empty()
        && proposal.verdict.sure == Sure::Proven
        && proposal.selection.origin == Origin::Authority
}

fn frozen(proposal: &Proposal) -> Ruling {
    if proposal.standing.frozen {
        return Ruling::Refuse("every change is frozen; `ukai thaw` ends it".to_owned());
    }
    Ruling::Pass
}

fn provider(proposal: &Proposal) -> Ruling {
    if proposal.standing.serves_dns {
        return Ruling::Pass;
    }
    Ruling::Refuse(
        "no zone provider is configured, so an override would take effect nowhere; add a [dns] section, or [rfc2136] or \
         [unbound] for servers of yours"
            .to_owned(),
    )
}

fn other_types(proposal: &Proposal) -> Ruling {
    if !proposal.standing.hides_types {
        return Ruling::Pass;
    }
    let host = &proposal.reading.case.peer.host;
    match answers::other_types(proposal.reading.evidence()) {
        None => Ruling::Person(format!(
            "whether {host} has MX, TXT or CAA records is not known; if it has, they vanish while an override stands"
        )),
        Some(types) if types.is_empty() => Ruling::Pass,
        Some(types) => {
            let types: Vec<&str> = types.into_iter().collect();
            Ruling::Person(format!("the {} records of {host} vanish while an override stands", types.join(", ")))
        }
    }
}

fn limits(proposal: &Proposal) -> Ruling {
    let standing = proposal.standing;
    if standing.others >= STANDING_MAX {
        return Ruling::Refuse(format!(
            "{} overrides stand already (at most {STANDING_MAX}): so many at once is a fault of our own",
            standing.others
        ));
    }
    if standing.changes_in_the_last_hour >= CHANGES_PER_HOUR_MAX {
        return Ruling::Refuse(format!(
            "{} changes were made within the hour (at most {CHANGES_PER_HOUR_MAX})",
            standing.changes_in_the_last_hour
        ));
    }
    Ruling::Pass
}

fn lease(proposal: &Proposal) -> Ruling {
    let lease_s = proposal.reading.case.peer.lease.as_secs();
    if lease_s == 0 || lease_s > LEASE_MAX_S {
        return Ruling::Refuse(format!("a lease of {lease_s} s is outside 1 to {LEASE_MAX_S} s"));
    }
    Ruling::Pass
}

fn diagnosis(proposal: &Proposal) -> Ruling {
    let verdict = proposal.verdict;
    if is_fixed(proposal.selection.origin) && !is_overridable(verdict.code) {
        // A person who names addresses may know more than the evidence; they are shown what it says.
        return Ruling::Person(format!("{}: {}", verdict.code.name(), verdict.summary));
    }
    if !is_overridable(verdict.code) || verdict.action == Action::None {
        return Ruling::Refuse(format!("{}: {}", verdict.code.name(), verdict.summary));
    }
    if verdict.sure == Sure::Open {
        return Ruling::Refuse("the cause is not known".to_owned());
    }
    if verdict.code == Code::IdentityDiscontinuity {
        return Ruling::Person(verdict.summary.clone());
    }
    Ruling::Pass
}

fn current_answer_fails(proposal: &Proposal) -> Ruling {
    let reading = proposal.reading;
    if reading.evidence().observations.is_empty() {
        return Ruling::Refuse("the normal path was not probed".to_owned());
    }
    if reading.works_now() {
        return Ruling::Refuse("the normal path works now: there is nothing to go around".to_owned());
    }
    let working = reading.working();
    let lost: Vec<&IpAddr> = working.difference(&proposal.selection.addresses).collect();
    if !lost.is_empty() {
        return Ruling::Refuse(format!("{} works now and would be lost by the override", list(lost)));
    }
    Ruling::Pass
}

fn local_fault(proposal: &Proposal) -> Ruling {
    let reading = proposal.reading;
    let (address, name) = (reading.by_address, reading.by_name);
    if reading.live.len() < CONTROLS_NEEDED {
        return Ruling::Person(format!(
            "only {} live controls: our own fault cannot be told from the peer's",
            reading.live.len()
        ));
    }
    if address.passed < CONTROLS_NEEDED || address.failed > address.passed {
        return Ruling::Refuse(format!(
            "{} of {} controls fail by address: the fault may be our own path",
            address.failed,
            reading.live.len()
        ));
    }
    if name.passed + name.failed < CONTROLS_NEEDED {
        return Ruling::Person(format!(
            "only {} live controls have a name: a fault of our resolver cannot be told from the peer's",
            name.passed + name.failed
        ));
    }
    if name.passed < CONTROLS_NEEDED || name.failed > name.passed {
        return Ruling::Refuse(format!(
            "{} of {} controls fail by name: the fault may be our resolver's",
            name.failed,
            name.passed + name.failed
        ));
    }
    Ruling::Pass
}

/// The peer's servers named the addresses, or they are of before because these servers give none.
fn rests_on_the_peers_servers(origin: Origin) -> bool {
    matches!(origin, Origin::Authority | Origin::History)
}

fn port_53(proposal: &Proposal) -> Ruling {
    if !rests_on_the_peers_servers(proposal.selection.origin) {
        return Ruling::Pass;
    }
    match &proposal.reading.evidence().canary {
        Canary::Clean => Ruling::Pass,
        Canary::Intercepted(how) => {
            Ruling::Refuse(format!("port 53 is intercepted, so agreement proves nothing: {how}"))
        }
        Canary::NoAnswer => {
            Ruling::Person("the canary was not answered: it is not known whether port 53 is intercepted".to_owned())
        }
    }
}

fn trusted_source(proposal: &Proposal) -> Ruling {
    if proposal.selection.addresses.is_empty() {
        let why = match &proposal.reading.authority {
            Authority::Contradicting(_) => "the authoritative servers contradict each other",
            Authority::Silent => "no authoritative server answered, and no two independent resolvers agree",
            Authority::Empty { .. } => "the authoritative servers give no address",
            Authority::TooFew { .. } => {
                "fewer than a majority of the authoritative servers answered from the newest zone"
            }
            Authority::Agreed(_) => "the agreed set is empty",
        };
        return Ruling::Refuse(format!("there is no candidate to trust: {why}"));
    }
    if proposal.selection.addresses.len() > ADDRESSES_MAX {
        return Ruling::Refuse(format!("more than {ADDRESSES_MAX} addresses"));
    }
    match proposal.selection.origin {
        Origin::Authority | Origin::Operator => Ruling::Pass,
        Origin::Independents => {
            Ruling::Person("no authoritative server can be reached from here; independent resolvers agree".to_owned())
        }
        Origin::History => Ruling::Person(unvouched(proposal.reading)),
        Origin::Nobody => Ruling::Refuse("nobody whose word counts named these addresses".to_owned()),
    }
}

fn unvouched(reading: &Reading) -> String {
    let still = answers::addresses_of(reading.evidence(), Source::Independent);
    let said = "the peer's own servers give no address: these were the peer's before";
    match still.is_empty() {
        true => format!("{said}, and nobody says that they are to be used still"),
        false => format!("{said}; independent resolvers give {}, which may be newer or only kept", list(&still)),
    }
}

fn delegation(proposal: &Proposal) -> Ruling {
    if !rests_on_the_peers_servers(proposal.selection.origin) {
        return Ruling::Pass;
    }
    if let Some(changed) = proposal.reading.delegation_changed() {
        return Ruling::Person(changed);
    }
    if !proposal.reading.delegation_read() {
        return Ruling::Person("the delegation could not be read, so it may be another one".to_owned());
    }
    if proposal.reading.case.history.delegation.is_none() {
        return Ruling::Person("the delegation was never seen in peace".to_owned());
    }
    Ruling::Pass
}

fn steered(proposal: &Proposal) -> Ruling {
    let before =
        proposal.reading.case.history.steered.as_ref().filter(|_| proposal.selection.origin == Origin::History);
    if let Some(why) = before {
        return Ruling::Refuse(format!("a steered name may only be followed, and in peace it was: {why}"));
    }
    let Some(why) = &proposal.reading.steered else {
        return Ruling::Pass;
    };
    if is_fixed(proposal.selection.origin) || proposal.reading.case.peer.mode == Mode::Pin {
        return Ruling::Refuse(format!("a steered name may only be followed: {why}"));
    }
    Ruling::Pass
}

fn global_unicast(proposal: &Proposal) -> Ruling {
    let allow = proposal.reading.case.allow_addresses;
    let bad: Vec<&IpAddr> = proposal
        .selection
        .addresses
        .iter()
        .filter(|address| !is_global(**address) && !is_within(**address, allow))
        .collect();
    if bad.is_empty() {
        return Ruling::Pass;
    }
    Ruling::Refuse(format!("{} is not global unicast and not in allow_addresses", list(bad)))
}

fn parking(proposal: &Proposal) -> Ruling {
    let parked = proposal.reading.parked();
    let bad: Vec<&IpAddr> = proposal.selection.addresses.intersection(&parked).collect();
    if bad.is_empty() {
        return Ruling::Pass;
    }
    Ruling::Refuse(format!("{} serves a parking page", list(bad)))
}

fn proof(proposal: &Proposal) -> Ruling {
    let reading = proposal.reading;
    for address in &proposal.selection.addresses {
        if reading.proved.contains(address) {
            continue;
        }
        let why = reading
            .candidate(*address)
            .and_then(|candidate| candidate.first_failure())
            .map_or("it was not probed often enough".to_owned(), |failure| failure.detail.clone());
        return Ruling::Refuse(format!("{address} did not prove itself: {why}"));
    }
    Ruling::Pass
}

/// What serves us alone may be a trap laid on our own path.
fn vantages(proposal: &Proposal) -> Ruling {
    for address in &proposal.selection.addresses {
        let (passes, fails) = (proposal.reading.passes_at(*address), proposal.reading.fails_at(*address));
        if passes.is_empty() && !fails.is_empty() {
            return Ruling::Person(format!("{address} proves itself here, and fails at {}", list(fails)));
        }
    }
    Ruling::Pass
}

fn unauthenticated_answer(proposal: &Proposal) -> Ruling {
    let reading = proposal.reading;
    if !reading.case.peer.needs_secret {
        return Ruling::Pass;
    }
    for address in &proposal.selection.addresses {
        for proof in reading.candidate(*address).into_iter().flat_map(|candidate| &candidate.proofs) {
            let Some(before) = reading.case.history.unauthenticated.get(&proof.endpoint) else {
                return Ruling::Person(format!(
                    "{} needs a secret, and what it answers without one was never seen in peace",
                    proof.endpoint
                ));
            };
            let now = proof.result.http.as_ref().map(|http| http.status);
            if now != Some(*before) {
                return Ruling::Refuse(format!(
                    "without the secret {address} answers {}, and the peer answered {before} in peace",
                    now.map_or("nothing".to_owned(), |status| status.to_string())
                ));
            }
        }
    }
    Ruling::Pass
}

fn verified_tls(proposal: &Proposal) -> Ruling {
    if proposal.reading.case.peer.verified_tls || proposal.selection.origin == Origin::Operator {
        return Ruling::Pass;
    }
    Ruling::Refuse("an endpoint without verified TLS has no identity to follow; only an operator may pin it".to_owned())
}

fn identity_continuity(proposal: &Proposal) -> Ruling {
    if !proposal.reading.case.peer.verified_tls {
        return Ruling::Person("the endpoint has no verified TLS, so nobody proves who answers".to_owned());
    }
    for address in &proposal.selection.addresses {
        match proposal.reading.continuity(*address) {
            Continuity::Continuous(_) => {}
            Continuity::Broken { old, new } => {
                return Ruling::Person(format!("before: {old}; now: {new}"));
            }
            Continuity::NoHistory => {
                return Ruling::Person(
                    "the peer was never seen healthy from here, so there is nobody to compare with".to_owned(),
                );
            }
            Continuity::NoIdentity => {
                return Ruling::Refuse(format!("{address} showed no verified identity"));
            }
        }
    }
    Ruling::Pass
}
