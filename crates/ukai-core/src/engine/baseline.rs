//! In peace: what normal looks like is learned, slowly where it is new, and what is quietly odd is said.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::SignedDuration;

use super::incident::Opening;
use super::{Engine, Turn};
use crate::alarm::defaults::identity;
use crate::diagnose::account::{Said, Word, account};
use crate::diagnose::answers::{self, Authority};
use crate::diagnose::diagnose;
use crate::diagnose::evidence::{Canary, Evidence, Source};
use crate::diagnose::history::{History, SeenAnswer, SeenDelegation};
use crate::diagnose::reading::{Case, Continuity, Reading, SteeredBy};
use crate::diagnose::verdict::{Code, Verdict};
use crate::event::Event;

/// How long a new identity must be what everybody leads to before it counts as the peer's.
const NEW_IDENTITY_AFTER: SignedDuration = SignedDuration::from_hours(24);
/// A set seen again is written to the history at most this often.
const LEARNED_AGAIN: SignedDuration = SignedDuration::from_hours(1);

impl Engine {
    /// Evidence in peace: what normal looks like, and whether something quiet is odd.
    pub(super) fn in_peace(&mut self, turn: &mut Turn, peer: &str, gathering: &str, evidence: &Evidence) {
        if self.state.open_incident(peer).is_some() || self.state.live_override(peer).is_some() {
            return;
        }
        let Some(brief) = self.brief(peer) else { return };
        let case = brief.case(evidence);
        let reading = Reading::of(&case);
        let is_steered = reading.steered.is_some();
        self.live_mut(peer, |live| live.steered = Some(is_steered));
        if let Some(history) = learn(&reading) {
            self.record(turn, Event::BaselineLearned { peer: peer.to_owned(), history: Box::new(history) });
        }
        let verdict = diagnose(&case);
        if reading.works_now() && (verdict.code == Code::Intercepted || leads_to_a_stranger(&case)) {
            self.identity_changed(turn, peer, &reading, &verdict);
            return;
        }
        if !reading.works_now() || !matches!(verdict.code, Code::Rotating | Code::GeoSteered | Code::ClientPinned) {
            return;
        }
        let before = self.state.peers.get(peer).and_then(|peer| peer.quiet_verdict.as_ref());
        if before.is_some_and(|before| before.code == verdict.code && before.sure == verdict.sure) {
            return;
        }
        self.record(
            turn,
            Event::Diagnosed {
                gathering: gathering.to_owned(),
                peer: peer.to_owned(),
                incident: None,
                verdict: Box::new(verdict),
                known: None,
            },
        );
    }

    /// All is whole, and yet somebody else answers (S11, S40): people are told, once for each new key.
    fn identity_changed(&mut self, turn: &mut Turn, peer: &str, reading: &Reading, verdict: &Verdict) {
        let met: BTreeSet<IpAddr> =
            reading.authority_set.iter().chain(&reading.our_set).chain(reading.current.keys()).copied().collect();
        let broken = met
            .iter()
            .filter(|address| matches!(reading.continuity(**address), Continuity::Broken { .. }))
            .flat_map(|address| reading.identities(*address));
        let keys: BTreeSet<String> = broken.map(|identity| identity.key_sha256.clone()).collect();
        let told = self.state.peers.get(peer).is_some_and(|peer| keys.is_subset(&peer.told_keys));
        let alarm = identity(peer);
        // While a rule mutes it nobody is told; if he still answers when that ends, somebody must be.
        if told || self.muting(&alarm, turn.now).is_some() {
            return;
        }
        let mut reasons = verdict.evidence_for.clone();
        if verdict.code != Code::IdentityDiscontinuity {
            reasons.extend(met.iter().filter_map(|address| match reading.continuity(*address) {
                Continuity::Broken { old, new } => Some(format!("before: {old}; now: {new}")),
                _ => None,
            }));
        }
        let what = reasons.join("; ");
        let event = Event::IdentityChanged { peer: peer.to_owned(), keys, what: what.clone() };
        self.record(turn, event);
        let seen = reading.evidence().observations.clone();
        if self.is_free_to_act(turn, &alarm) {
            self.open_incident(turn, peer, Opening::by_identity(&alarm, seen, &what));
        }
    }
}

/// Whatever else explains it, and comes first: an intercepted port 53 is how strangers come to be led to.
fn leads_to_a_stranger(case: &Case) -> bool {
    let explains = |word: &Word| word.code == Code::IdentityDiscontinuity && matches!(word.said, Said::Explains { .. });
    account(case).iter().any(explains)
}

/// The history with what this gathering adds, if it adds something and may be trusted to.
pub(super) fn learn(reading: &Reading) -> Option<History> {
    if !reading.works_now() {
        return None;
    }
    let evidence = reading.evidence();
    let before = reading.case.history;
    let mut history = before.clone();
    history.since.get_or_insert(evidence.started_at);
    for control in &reading.live {
        if control.passed() {
            history.controls.insert(control.control.clone());
            if let (true, Some(issuer)) = (control.tls_verified, &control.issuer) {
                history.control_issuers.insert(format!("{} {issuer}", control.control));
            }
        }
    }
    learn_delegation(reading, &mut history);
    learn_answers(reading, &mut history);
    learn_steering(reading, &mut history);
    for address in &reading.proved {
        let agreed = matches!(&reading.authority, Authority::Agreed(set) if set.contains(address));
        let led_to = reading.our_set.contains(address) || agreed;
        if led_to && is_vouched(reading, &history, *address) {
            for identity in reading.identities(*address) {
                history.learn_identity(&identity.key_sha256, &identity.issuer, *address);
            }
            learn_unauthenticated(reading, &mut history, *address);
        }
    }
    is_news(before, &history).then_some(history)
}

/// Who may be remembered as the peer. A new identity is learned only after every server has led to it for a day:
/// hijacks last hours, and one that was learned would be continuous ever after.
fn is_vouched(reading: &Reading, history: &History, address: IpAddr) -> bool {
    match reading.continuity(address) {
        Continuity::Continuous(_) | Continuity::NoHistory => true,
        Continuity::NoIdentity => false,
        Continuity::Broken { .. } => {
            let now = reading.evidence().started_at;
            let stable = history
                .authority_gives_since(address)
                .is_some_and(|since| now.duration_since(since) >= NEW_IDENTITY_AFTER);
            stable
                && matches!(&reading.authority, Authority::Agreed(set) if set.contains(&address))
                && reading.independents.as_ref().is_some_and(|set| set.contains(&address))
                && reading.evidence().canary == Canary::Clean
                && reading.delegation_changed().is_none()
        }
    }
}

fn learn_unauthenticated(reading: &Reading, history: &mut History, address: IpAddr) {
    if !reading.case.peer.needs_secret {
        return;
    }
    for proof in reading.candidate(address).into_iter().flat_map(|candidate| &candidate.proofs) {
        if let Some(http) = &proof.result.http {
            history.unauthenticated.insert(proof.endpoint.clone(), http.status);
        }
    }
}

fn learn_delegation(reading: &Reading, history: &mut History) {
    let Some(now) = &reading.evidence().delegation else { return };
    if now.parent_ns.is_empty() || now.child_ns.is_empty() {
        return;
    }
    let seen =
        SeenDelegation { zone: now.zone.clone(), parent_ns: now.parent_ns.clone(), child_ns: now.child_ns.clone() };
    let at = reading.evidence().started_at;
    match (&history.delegation, &history.next_delegation) {
        (None, _) => history.delegation = Some(seen),
        (Some(known), _) if *known == seen => history.next_delegation = None,
        (_, Some((next, since))) if *next == seen => {
            if at.duration_since(*since) >= NEW_IDENTITY_AFTER {
                history.delegation = Some(seen);
                history.next_delegation = None;
            }
        }
        _ => history.next_delegation = Some((seen, at)),
    }
}

/// That the set changes often, the answers themselves remember.
fn learn_steering(reading: &Reading, history: &mut History) {
    let why = match reading.steered.as_ref().map(|steering| steering.how) {
        Some(SteeredBy::Alias) => "its CNAME chain entered a CDN or a GSLB",
        Some(SteeredBy::Subnet) => "its answer depended on the client's subnet",
        None if matches!(reading.authority, Authority::Agreed(_)) => {
            history.steered = None;
            return;
        }
        Some(SteeredBy::Churn) | None => return,
    };
    history.steered = Some(why.to_owned());
}

fn learn_answers(reading: &Reading, history: &mut History) {
    let evidence = reading.evidence();
    let at = evidence.started_at;
    if let Authority::Agreed(set) = &reading.authority {
        history.learn_answer(SeenAnswer {
            source: Source::Authority,
            addresses: set.clone(),
            ttl: answers::authority_ttl(evidence).unwrap_or(0),
            first_seen: at,
            last_seen: at,
        });
    }
}

/// Something new was learned, or a set was seen again after long enough.
fn is_news(before: &History, after: &History) -> bool {
    if before.identities != after.identities
        || before.delegation != after.delegation
        || before.next_delegation != after.next_delegation
        || before.controls != after.controls
        || before.control_issuers != after.control_issuers
        || before.since != after.since
        || before.unauthenticated != after.unauthenticated
        || before.steered != after.steered
        || before.answers.len() != after.answers.len()
    {
        return true;
    }
    before.answers.iter().zip(&after.answers).any(|(before, after)| {
        before.addresses != after.addresses
            || before.ttl != after.ttl
            || after.last_seen.duration_since(before.last_seen) >= LEARNED_AGAIN
    })
}
