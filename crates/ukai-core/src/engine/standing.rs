//! While an override stands: it is proved again and again, followed, held, or taken back.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::SignedDuration;

use super::change::policy;
use super::notices::Notice;
use super::rounds::is_failing;
use super::{Engine, Turn, later};
use crate::diagnose::answers::{Authority, sees_our_own_override};
use crate::diagnose::diagnose;
use crate::diagnose::evidence::Evidence;
use crate::diagnose::reading::{CONTROLS_NEEDED, Reading, list};
use crate::diagnose::verdict::{Code, Verdict};
use crate::event::{Event, NotificationKind};
use crate::observe::Observation;
use crate::overrides::{EndReason, Override, Phase};
use crate::peer::Mode;
use crate::plan::guard::{CHANGES_PER_HOUR_MAX, Proposal, Standing, examine};
use crate::plan::{Origin, Selection, within_anchors};

/// How often the sources are read again while an override stands.
pub(super) const LOOK_EVERY: SignedDuration = SignedDuration::from_secs(60);
/// The soonest that a failing override is looked at again.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(5);
/// Rounds in a row that a standing override must fail before anything is done about silence.
const ROUNDS_TO_ACT: u32 = 5;

/// What the evidence asks for while an override stands.
#[derive(Debug, PartialEq, Eq)]
enum Ruling {
    Hold,
    Withdraw(EndReason, String),
    Follow(BTreeSet<IpAddr>),
    Tell(String),
}

impl Engine {
    /// A round of the normal path with our override in it.
    pub(super) fn standing_round(&mut self, turn: &mut Turn, peer: &str, observations: &[Observation]) {
        let stands =
            self.state.live_override(peer).is_some_and(|over| matches!(over.phase, Phase::Served | Phase::Confirmed));
        let Some(live) = self.live.peers.get_mut(peer) else { return };
        if !stands {
            return;
        }
        if !is_failing(observations) {
            live.standing_bad = 0;
            return;
        }
        live.standing_bad += 1;
        let soon = if live.standing_bad == 1 { turn.now } else { later(turn.now, LOOK_AGAIN) };
        live.standing_due = Some(live.standing_due.map_or(soon, |due| due.min(soon)));
    }

    /// A round past our override: is the world right again?
    pub(super) fn bypass_round(&mut self, turn: &mut Turn, peer: &str, observations: &[Observation]) {
        let revert_after = match self.state.live_override(peer) {
            Some(over) if over.phase.stands() => over.plan.revert_after,
            _ => return,
        };
        let Some(live) = self.live.peers.get_mut(peer) else { return };
        if observations.is_empty() || is_failing(observations) {
            live.bypass_healthy = 0;
            let ttl = observations.iter().filter_map(|observation| observation.resolution.ttl).max().unwrap_or(0);
            let until = turn.after(i64::from(ttl));
            if let Some(live) = self.live.peers.get_mut(peer) {
                live.bad_until = until;
            }
            return;
        }
        live.bypass_healthy += 1;
        if live.bypass_healthy >= revert_after && turn.now >= live.bad_until {
            let soon = if live.bypass_healthy == revert_after { turn.now } else { later(turn.now, LOOK_AGAIN) };
            live.standing_due = Some(live.standing_due.map_or(soon, |due| due.min(soon)));
        }
    }

    /// The sources were read again while an override stands.
    pub(super) fn standing_evidence(&mut self, turn: &mut Turn, peer: &str, gathering: &str, evidence: &Evidence) {
        let Some(over) = self
            .state
            .live_override(peer)
            .filter(|over| matches!(over.phase, Phase::Served | Phase::Confirmed))
            .cloned()
        else {
            return;
        };
        let Some(brief) = self.brief(peer) else { return };
        let Some(live) = self.live.peers.get_mut(peer) else { return };
        live.standing_due.get_or_insert(later(turn.now, LOOK_EVERY));
        let (bypass_healthy, standing_bad) = (live.bypass_healthy, live.standing_bad);
        let right_again = bypass_healthy >= over.plan.revert_after && turn.now >= live.bad_until;
        let case = brief.case(evidence);
        let reading = Reading::of(&case);
        let verdict = diagnose(&case);
        let ruling = match rule(&over, &reading, right_again, standing_bad) {
            ruling @ Ruling::Withdraw(..) => ruling,
            _ if verdict.code == Code::OverrideBlast => {
                Ruling::Withdraw(EndReason::RolledBack, verdict.summary.clone())
            }
            ruling => ruling,
        };
        if ruling == Ruling::Hold {
            return;
        }
        let ruling = self.within_bounds(&over, &reading, &verdict, brief.standing, ruling);
        if matches!(&ruling, Ruling::Tell(reason) if over.trouble.as_ref() == Some(reason)) {
            return;
        }
        let application = self.recent_calls(peer);
        self.record(
            turn,
            Event::EvidenceGathered {
                gathering: gathering.to_owned(),
                peer: peer.to_owned(),
                incident: Some(over.incident.clone()),
                evidence: Box::new(evidence.clone()),
                application,
            },
        );
        if matches!(verdict.code, Code::OverrideStale | Code::OverrideBlast) {
            self.conclude(turn, peer, gathering, &over.incident, &verdict, &brief.known);
        }
        self.act_on(turn, &over, ruling, bypass_healthy);
    }

    fn act_on(&mut self, turn: &mut Turn, over: &Override, ruling: Ruling, bypass_healthy: u32) {
        match ruling {
            Ruling::Hold => {}
            Ruling::Withdraw(reason @ (EndReason::Withdrawn | EndReason::RolledBack), why) => {
                self.withdraw(turn, &over.id, reason, policy(), why);
            }
            Ruling::Withdraw(reason, why) => {
                self.record(turn, Event::NormalPathProved { id: over.id.clone(), times: bypass_healthy });
                self.withdraw(turn, &over.id, reason, policy(), why);
            }
            Ruling::Follow(addresses) => {
                let generation = over.generation + 1;
                self.record(turn, Event::FollowStarted { id: over.id.clone(), generation, addresses });
                self.ask_to_apply(turn, &over.id);
            }
            Ruling::Tell(reason) => self.trouble(turn, over, reason),
        }
    }

    /// What is asked for, or why it may not be done now.
    fn within_bounds(
        &self,
        over: &Override,
        reading: &Reading,
        verdict: &Verdict,
        standing: Standing,
        ruling: Ruling,
    ) -> Ruling {
        match ruling {
            // Serving somebody else is worse than any change: this holds even when frozen.
            Ruling::Withdraw(EndReason::Withdrawn, _) => ruling,
            Ruling::Withdraw(..) | Ruling::Follow(_) if standing.frozen => {
                Ruling::Tell("a change is due, but every automatic change is frozen".to_owned())
            }
            Ruling::Follow(addresses) => match self.may_follow(over, reading, verdict, standing, &addresses) {
                Ok(()) => Ruling::Follow(addresses),
                Err(why) => Ruling::Tell(why),
            },
            ruling => ruling,
        }
    }

    /// A set within the approved anchors passes the guards as the first one did, but for those that ask whether an
    /// override is called for at all.
    fn may_follow(
        &self,
        over: &Override,
        reading: &Reading,
        verdict: &Verdict,
        standing: Standing,
        addresses: &BTreeSet<IpAddr>,
    ) -> Result<(), String> {
        self.may_change(&over.plan)?;
        if standing.changes_in_the_last_hour >= CHANGES_PER_HOUR_MAX {
            return Err(format!("the peer moved, but {CHANGES_PER_HOUR_MAX} changes were made within the hour"));
        }
        let selection =
            Selection { addresses: addresses.clone(), sources: over.plan.sources.clone(), origin: Origin::Authority };
        let findings = examine(&Proposal { reading, verdict, selection: &selection, standing });
        let about_need = |guard: &str| matches!(guard, "diagnosis" | "current_answer_fails" | "limits");
        if let Some(refusal) = findings.refusals.iter().find(|refusal| !about_need(&refusal.guard)) {
            return Err(format!("the peer moved, but {}", refusal.reason));
        }
        let unseen = findings.for_a_person.iter().find(|finding| {
            finding.guard != "diagnosis" && !over.plan.shown.iter().any(|shown| shown.guard == finding.guard)
        });
        match unseen {
            Some(finding) => Err(format!("the peer moved, but a person must look first: {}", finding.reason)),
            None => Ok(()),
        }
    }

    pub(super) fn trouble(&mut self, turn: &mut Turn, over: &Override, reason: String) {
        if over.trouble.as_ref() == Some(&reason) {
            return;
        }
        self.record(turn, Event::OverrideTroubled { id: over.id.clone(), reason: reason.clone() });
        self.tell(
            turn,
            Notice {
                kind: NotificationKind::Trouble,
                peer: over.peer.clone(),
                incident: Some(over.incident.clone()),
                page: true,
                subject: format!("{}: override {} needs a look", over.peer, over.id),
                text: reason,
            },
        );
    }
}

/// What to do with a standing override, by the order of what is worst.
fn rule(over: &Override, reading: &Reading, right_again: bool, standing_bad: u32) -> Ruling {
    let controls_pass = reading.by_address.passed >= CONTROLS_NEEDED;
    if controls_pass && let Some(why) = somebody_else(over, reading) {
        return Ruling::Withdraw(EndReason::Withdrawn, why);
    }
    if right_again {
        if sees_our_own_override(reading.evidence()) {
            return Ruling::Tell(
                "the resolver that is asked past the override leads back to it, so a revert cannot be decided; set `resolver`"
                    .to_owned(),
            );
        }
        if let Some(why) = normal_path_is_right(over, reading) {
            return Ruling::Withdraw(EndReason::Reverted, why);
        }
    }
    let proves: BTreeSet<IpAddr> = over.addresses.intersection(&reading.proved).copied().collect();
    if reading.steered.is_some() && proves == over.addresses {
        return Ruling::Hold;
    }
    match agreed_elsewhere(over, reading) {
        Some(Ok(set)) => return Ruling::Follow(set),
        Some(Err(_)) => {
            return Ruling::Tell(
                "the peer's servers now agree on a set outside what was approved, which needs a new approval"
                    .to_owned(),
            );
        }
        None => {}
    }
    if right_again && reading.works_now() && !leads_to_the_approved(over, reading) {
        return Ruling::Tell(
            "the normal path works, but leads to somebody outside what was approved, so it is not taken back by \
             itself: look who that is, then `ukai revert` it or let its lease end"
                .to_owned(),
        );
    }
    if let Some(set) = the_peer_answers_elsewhere(over, reading) {
        return Ruling::Tell(format!(
            "it rests on the peer's servers giving no address, and now they give {}: it is held until its lease ends, unless you \
             `ukai revert` it",
            list(&set)
        ));
    }
    if !proves.is_empty() || standing_bad < ROUNDS_TO_ACT {
        return Ruling::Hold;
    }
    if controls_pass && let Some(set) = left_behind_by_the_peer(over, reading) {
        return Ruling::Withdraw(
            EndReason::RolledBack,
            format!("the pin failed {standing_bad} times in a row, and the peer's servers now give {}", list(&set)),
        );
    }
    if controls_pass && reading.works_now() {
        if !leads_to_the_approved(over, reading) {
            return Ruling::Tell(
                "what it serves does not prove itself, and the normal path leads to somebody who was never the peer: \
                 a person must decide; it is held until its lease ends"
                    .to_owned(),
            );
        }
        return Ruling::Withdraw(
            EndReason::Reverted,
            format!("what it served failed {standing_bad} times in a row, and the normal path works"),
        );
    }
    Ruling::Tell(
        "what it serves does not prove itself, and nothing better is known; it is held until its lease ends".to_owned(),
    )
}

/// An address that is served shows an identity outside the approved one.
fn somebody_else(over: &Override, reading: &Reading) -> Option<String> {
    for address in &over.addresses {
        let mut failures = reading.candidate(*address).into_iter().flat_map(|candidate| candidate.failures());
        if let Some(failure) = failures.find(|failure| failure.class.is_foreign_identity()) {
            return Some(format!("somebody else answers at {address}: {}", failure.detail));
        }
        if !reading.identities(*address).iter().all(|identity| over.plan.anchors.hold(identity, *address)) {
            return Some(format!("{address} shows an identity outside the approved one"));
        }
    }
    None
}

/// Our resolver gives what the peer's servers agree on, it works, and it is who was approved.
fn normal_path_is_right(over: &Override, reading: &Reading) -> Option<String> {
    if !reading.works_now() || reading.our_set.is_empty() {
        return None;
    }
    let agreed = match &reading.authority {
        Authority::Agreed(set) => reading.our_set.is_subset(set),
        // Not seen from here: then only what was served all along counts as right.
        Authority::Silent => reading.our_set.is_subset(&over.addresses),
        Authority::Contradicting(_) | Authority::TooFew { .. } | Authority::Empty { .. } => false,
    };
    (agreed && leads_to_the_approved(over, reading))
        .then(|| format!("the normal path gives {} again, and it works", list(&reading.our_set)))
}

/// Whoever the normal path leads to is who was approved. Of a large set only so many are proved; none of these may be
/// somebody else. Where the peer has no verified TLS there is no identity, and a pin is not held back by that.
fn leads_to_the_approved(over: &Override, reading: &Reading) -> bool {
    let led_to = reading.our_set.iter().chain(reading.current.keys()).copied();
    let looked_at: BTreeSet<IpAddr> = led_to.filter(|address| !reading.identities(*address).is_empty()).collect();
    let observed = reading.evidence().observations.iter().flat_map(|observation| &observation.results);
    let strange = observed
        .filter_map(|result| Some((result.address, result.identity.as_ref().filter(|identity| identity.verified)?)))
        .any(|(address, identity)| !over.plan.anchors.hold(identity, address));
    if strange {
        return false;
    }
    match looked_at.is_empty() {
        true => over.plan.mode == Mode::Pin && !reading.case.peer.verified_tls,
        false => within_anchors(&over.plan, reading, &looked_at).is_ok(),
    }
}

/// A pin is not moved: it is taken back when the peer's servers agree on what proves itself, and it does not (S24). What is
/// to be served then is a new plan.
fn left_behind_by_the_peer(over: &Override, reading: &Reading) -> Option<BTreeSet<IpAddr>> {
    let Authority::Agreed(agreed) = &reading.authority else { return None };
    let proved: BTreeSet<IpAddr> = agreed.intersection(&reading.proved).copied().collect();
    let left = over.plan.mode == Mode::Pin && over.addresses.is_disjoint(agreed);
    (left && !proved.is_empty()).then_some(proved)
}

/// What it was approved for is over: the peer's servers give addresses again, and not all that are served are among them.
fn the_peer_answers_elsewhere(over: &Override, reading: &Reading) -> Option<BTreeSet<IpAddr>> {
    let Authority::Agreed(agreed) = &reading.authority else { return None };
    let proves = !over.addresses.is_disjoint(&reading.proved);
    (over.plan.is_of_peace() && proves && !over.addresses.is_subset(agreed)).then(|| agreed.clone())
}

/// The peer's servers agree on a set that what is served is no longer part of.
fn agreed_elsewhere(over: &Override, reading: &Reading) -> Option<Result<BTreeSet<IpAddr>, String>> {
    let Authority::Agreed(agreed) = &reading.authority else {
        return None;
    };
    if over.plan.mode == Mode::Pin || over.addresses.is_subset(agreed) {
        return None;
    }
    let proved: BTreeSet<IpAddr> = agreed.intersection(&reading.proved).copied().collect();
    if proved.is_empty() {
        return None;
    }
    Some(within_anchors(&over.plan, reading, &proved).map(|()| proved))
}
