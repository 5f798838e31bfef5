//! The change itself: approval, apply, verify, confirm; expiry and withdrawal.

use jiff::{SignedDuration, Timestamp};

use super::incident::ROUNDS_TO_CLOSE;
use super::live::Verifying;
use super::notices::{Notice, span};
use super::proposal::{fresh_set, nothing_new};
use super::{Engine, Turn, later};
use crate::diagnose::diagnose;
use crate::diagnose::evidence::{ApplicationCall, Evidence, Purpose};
use crate::diagnose::reading::{Reading, list};
use crate::effect::{Effect, ServedOverride};
use crate::event::{Actor, Event, NotificationKind};
use crate::input::Verification;
use crate::observe::Observation;
use crate::overrides::{EndReason, Override, Phase};
use crate::peer::Level;
use crate::plan::Plan;
use crate::plan::guard::{Proposal, examine, is_automatic};

/// How long an approval, and so a proposal, is good for.
pub const APPROVAL_VALID: SignedDuration = SignedDuration::from_mins(10);
/// Not served and proven within this: rolled back.
pub const SERVE_DEADLINE: SignedDuration = SignedDuration::from_secs(30);
/// Between two verifications.
const VERIFY_AGAIN_S: i64 = 1;
/// Before a withdrawal that failed is tried again; the pause doubles up to the longest.
const WITHDRAW_AGAIN_S: i64 = 5;
const WITHDRAW_AGAIN_MAX_S: i64 = 60;
/// A change whose outcome has not come back by then is asked for again; it is idempotent.
pub(super) const CHANGE_LOST_S: i64 = 60;
/// Before a change of what is served already is tried again.
const APPLY_AGAIN_S: i64 = 5;
/// A restart grants a verification that was under way at least this.
const VERIFY_AFTER_RESTART: SignedDuration = SignedDuration::from_secs(10);

/// The lease that a warning names, in seconds, where the plan may have it.
const LEASE_PROPOSED_S: u64 = 3600;

/// When an override next wants something of time alone.
pub(super) fn next_due(over: &Override) -> Option<Timestamp> {
    if over.phase.is_pending() {
        return Some(decided_by(over));
    }
    if !over.phase.stands() {
        return None;
    }
    [warning_due(over), over.expires_at].into_iter().flatten().min()
}

/// A proposal is good for ten minutes, and so is its approval.
fn decided_by(over: &Override) -> Timestamp {
    later(over.approved_at.unwrap_or(over.proposed_at), APPROVAL_VALID)
}

/// Half of the lease, then four fifths.
fn warning_due(over: &Override) -> Option<Timestamp> {
    let (from, to) = (over.lease_from?, over.expires_at?);
    let lease = to.duration_since(from);
    let share = match over.warnings {
        0 => lease / 2,
        1 => lease / 5 * 4,
        _ => return None,
    };
    Some(later(from, share))
}

/// ukai itself, as the one who acts.
pub(super) fn policy() -> Actor {
    Actor { uid: None, name: "ukai".to_owned(), via: "policy".to_owned() }
}

impl Engine {
    pub(super) fn advance_overrides(&mut self, turn: &mut Turn) {
        let ids: Vec<String> = self.state.overrides.keys().cloned().collect();
        for id in ids {
            self.advance_override(turn, &id);
        }
        let retries: Vec<String> =
            self.live.retries.iter().filter(|(_, at)| turn.now >= **at).map(|(id, _)| id.clone()).collect();
        for id in retries {
            self.live.retries.remove(&id);
            match self.state.overrides.get(&id).map(|over| over.phase) {
                Some(Phase::Applying) => self.ask_to_apply(turn, &id),
                _ => self.ask_to_withdraw(turn, &id),
            }
        }
    }

    fn advance_override(&mut self, turn: &mut Turn, id: &str) {
        let Some(over) = self.state.overrides.get(id) else { return };
        if over.phase.is_pending() && turn.now >= decided_by(over) {
            let reason = match over.phase {
                Phase::Approved => "the evidence to apply it did not come in time",
                _ => "nobody decided within ten minutes",
            };
            let is_known =
                over.phase == Phase::Proposed && self.was_left_undecided(&over.incident, &over.plan, over.proposed_at);
            self.void(turn, id, reason, !is_known);
            return;
        }
        if !over.phase.stands() {
            return;
        }
        if over.expires_at.is_some_and(|at| turn.now >= at) {
            let why = "the lease ran out".to_owned();
            self.withdraw(turn, id, EndReason::Expired, policy(), why);
            return;
        }
        if warning_due(over).is_some_and(|at| turn.now >= at) {
            self.warn_of_lease(turn, id);
        }
    }

    fn warn_of_lease(&mut self, turn: &mut Turn, id: &str) {
        let Some(over) = self.state.overrides.get(id) else { return };
        let Some(expires_at) = over.expires_at else { return };
        let left_s = expires_at.duration_since(turn.now).as_secs();
        let (peer, incident) = (over.peer.clone(), over.incident.clone());
        let lease = if over.plan.lease_max_s() < LEASE_PROPOSED_S { "15m" } else { "1h" };
        self.record(turn, Event::LeaseWarned { id: id.to_owned(), left_s });
        self.tell(
            turn,
            Notice {
                kind: NotificationKind::LeaseWarning,
                peer: peer.clone(),
                incident: Some(incident),
                page: false,
                subject: format!("{peer}: {id} ends in {}", span(left_s)),
                text: format!(
                    "Then the name resolves as before. `ukai extend {id} --lease {lease}` is an approval of its own."
                ),
            },
        );
    }

    pub(super) fn approve_by_policy(&mut self, turn: &mut Turn, id: &str, hash: &str) {
        let why = "the diagnosis is proven and no guard needs a person".to_owned();
        self.record(turn, Event::OverrideApproved { id: id.to_owned(), hash: hash.to_owned(), by: policy(), why });
        self.approved(turn, id);
    }

    /// Enough people said yes: every guard is run again, on fresh evidence.
    pub(super) fn approved(&mut self, turn: &mut Turn, id: &str) {
        let Some(over) = self.state.overrides.get(id) else { return };
        if over.phase != Phase::Approved {
            return;
        }
        let (peer, incident) = (over.peer.clone(), over.incident.clone());
        self.request_gathering(turn, &peer, Some(incident), Purpose::Apply);
    }

    /// The fresh evidence is there: apply, or void the plan.
    pub(super) fn apply_on(&mut self, turn: &mut Turn, peer: &str, gathering: &str, evidence: &Evidence) {
        let approved = self
            .state
            .live_override(peer)
            .filter(|over| over.phase == Phase::Approved)
            .map(|over| (over.id.clone(), over.plan.clone(), over.is_by_policy()));
        let Some((id, plan, by_policy)) = approved else { return };
        if let Err(reason) = self.may_change(&plan) {
            return self.void(turn, &id, &reason, true);
        }
        let Some(brief) = self.brief(peer) else { return };
        let case = brief.case(evidence);
        let reading = Reading::of(&case);
        let verdict = diagnose(&case);
        let judged = fresh_set(&plan, &reading).and_then(|(selection, set)| {
            let proposal =
                Proposal { reading: &reading, verdict: &verdict, selection: &selection, standing: brief.standing };
            let findings = examine(&proposal);
            if by_policy && !is_automatic(&proposal, &findings) {
                return Err(format!("policy approved what was proven; it is {} now", verdict.sure.name()));
            }
            nothing_new(&plan, &verdict, &findings).map(|()| set)
        });
        let addresses = match judged {
            Ok(set) if !set.is_empty() => set,
            Ok(_) => return self.void(turn, &id, "there is no address to serve any more", true),
            Err(reason) => {
                let reason = format!("the world changed before it was applied: {reason} ({gathering})");
                return self.void(turn, &id, &reason, true);
            }
        };
        let lease = i64::try_from(plan.lease_s).unwrap_or(i64::MAX);
        let generation = self.state.overrides.get(&id).map_or(0, |over| over.generation) + 1;
        let expires_at = turn.after(lease);
        self.record(turn, Event::ApplyStarted { id: id.clone(), generation, addresses, expires_at });
        self.ask_to_apply(turn, &id);
    }

    /// Idempotent: the same id and generation always ask for the same.
    pub(super) fn ask_to_apply(&mut self, turn: &mut Turn, id: &str) {
        let Some(over) = self.state.overrides.get(id) else { return };
        let Some(expires_at) = over.expires_at else { return };
        self.live.retries.insert(id.to_owned(), turn.after(CHANGE_LOST_S));
        turn.effect(Effect::Apply(ServedOverride {
            id: over.id.clone(),
            incident: over.incident.clone(),
            host: over.plan.host.clone(),
            addresses: over.addresses.clone(),
            ttl_s: over.plan.ttl_s,
            expires_at,
            generation: over.generation,
            replaces_generation: over.generation.checked_sub(1).filter(|before| *before > 0),
        }));
    }

    pub(super) fn applied(&mut self, turn: &mut Turn, id: &str, generation: u64, result: Result<(), String>) {
        let Some(over) = self.state.overrides.get(id) else { return };
        if over.phase != Phase::Applying || over.generation != generation {
            return;
        }
        let (peer, served_before) = (over.peer.clone(), over.served_at.is_some());
        match result {
            Ok(()) => {
                self.live.retries.remove(id);
                self.record(turn, Event::Applied { id: id.to_owned(), generation });
                self.begin_verification(turn, &peer, id);
            }
            Err(detail) if served_before => {
                // What is served is the set from before, which proved itself: it stays, and the change is tried again.
                self.record(turn, Event::ApplyFailed { id: id.to_owned(), generation, detail });
                self.live.retries.insert(id.to_owned(), turn.after(APPLY_AGAIN_S));
            }
            Err(detail) => {
                self.record(turn, Event::ApplyFailed { id: id.to_owned(), generation, detail: detail.clone() });
                let why = format!("the zone provider refused it: {detail}");
                self.withdraw(turn, id, EndReason::RolledBack, policy(), why);
            }
        }
    }

    pub(super) fn begin_verification(&mut self, turn: &mut Turn, peer: &str, id: &str) {
        let first_applied = self
            .state
            .overrides
            .get(id)
            .filter(|over| over.served_at.is_none())
            .and_then(|over| over.applied_at)
            .unwrap_or(turn.now);
        // Counted from the change itself, so that restarts do not put the rollback off for ever.
        let deadline = later(first_applied, SERVE_DEADLINE).max(later(turn.now, VERIFY_AFTER_RESTART));
        if let Some(live) = self.live.peers.get_mut(peer) {
            live.verifying = Some(Verifying { id: id.to_owned(), deadline, next_at: turn.now, in_flight: false });
        }
    }

    /// Asks again until it is served and proven, or the time for it is over.
    pub(super) fn advance_verification(&mut self, turn: &mut Turn, peer: &str) {
        let Some(verifying) = self.live.peers.get(peer).and_then(|live| live.verifying.clone()) else {
            let applied = self.state.live_override(peer).filter(|over| over.phase == Phase::Applied);
            if let Some(id) = applied.map(|over| over.id.clone()) {
                self.begin_verification(turn, peer, &id);
            }
            return;
        };
        let over = self.state.overrides.get(&verifying.id).filter(|over| over.phase == Phase::Applied);
        let Some(over) = over else {
            self.end_verification(peer);
            return;
        };
        let served_before = over.served_at.is_some();
        if turn.now >= verifying.deadline {
            self.end_verification(peer);
            let seconds = SERVE_DEADLINE.as_secs();
            if served_before {
                self.hold_unverified(turn, &verifying.id);
            } else {
                let why = format!("it was not served and proven within {seconds} s");
                self.withdraw(turn, &verifying.id, EndReason::RolledBack, policy(), why);
            }
            return;
        }
        if verifying.in_flight || turn.now < verifying.next_at {
            return;
        }
        turn.effect(Effect::Verify {
            id: over.id.clone(),
            generation: over.generation,
            peer: peer.to_owned(),
            addresses: over.addresses.clone(),
        });
        if let Some(verifying) = self.live.peers.get_mut(peer).and_then(|live| live.verifying.as_mut()) {
            verifying.in_flight = true;
        }
    }

    /// A change of a served override that did not prove itself in time: silence or errors are held and told, and
    /// what stands is judged like any standing override.
    fn hold_unverified(&mut self, turn: &mut Turn, id: &str) {
        let Some(over) = self.state.overrides.get(id).cloned() else { return };
        let proof = "served, but not proven within the time for it".to_owned();
        self.record(turn, Event::OverrideServed { id: id.to_owned(), generation: over.generation, proof });
        self.trouble(turn, &over, "the change that was made last did not prove itself in time".to_owned());
        if let Some(live) = self.live.peers.get_mut(&over.peer) {
            live.standing_due = Some(turn.now);
        }
    }

    fn end_verification(&mut self, peer: &str) {
        if let Some(live) = self.live.peers.get_mut(peer) {
            live.verifying = None;
        }
    }

    pub(super) fn verified(&mut self, turn: &mut Turn, id: &str, generation: u64, verification: &Verification) {
        let Some(over) = self.state.overrides.get(id) else { return };
        if over.phase != Phase::Applied || over.generation != generation {
            return;
        }
        let (peer, incident) = (over.peer.clone(), over.incident.clone());
        let first = over.served_at.is_none();
        match proof_of(over, verification, self.provider()) {
            Ok(proof) => {
                self.end_verification(&peer);
                self.record(turn, Event::OverrideServed { id: id.to_owned(), generation, proof: proof.clone() });
                if let Some(live) = self.live.peers.get_mut(&peer) {
                    live.bypass_healthy = 0;
                    live.standing_bad = 0;
                    live.standing_due = Some(later(turn.now, super::standing::LOOK_EVERY));
                }
                if first {
                    self.tell(
                        turn,
                        Notice {
                            kind: NotificationKind::Applied,
                            peer: peer.clone(),
                            incident: Some(incident),
                            page: false,
                            subject: format!("{peer}: override {id} is served"),
                            text: format!("{proof}. The application has not been seen yet."),
                        },
                    );
                }
            }
            Err(_) => {
                let next_at = turn.after(VERIFY_AGAIN_S);
                if let Some(verifying) = self.live.peers.get_mut(&peer).and_then(|live| live.verifying.as_mut()) {
                    verifying.in_flight = false;
                    verifying.next_at = next_at;
                }
            }
        }
    }

    /// A call of the application itself, to an address that is served, made since it was.
    pub(super) fn confirm_by(&mut self, turn: &mut Turn, peer: &str, call: &ApplicationCall) {
        let Some(over) = self.state.live_override(peer).filter(|over| over.phase == Phase::Served) else {
            return;
        };
        let since = over.applied_at.is_some_and(|at| call.at >= at);
        let address = call.address.is_some_and(|address| over.addresses.contains(&address));
        if !call.ok || !since || !address {
            return;
        }
        let (id, incident) = (over.id.clone(), over.incident.clone());
        self.record(turn, Event::OverrideConfirmed { id: id.clone(), call: call.clone() });
        self.tell(
            turn,
            Notice {
                kind: NotificationKind::Confirmed,
                peer: peer.to_owned(),
                incident: Some(incident),
                page: false,
                subject: format!("{peer}: the application is through"),
                text: format!("The application's own call succeeded through override {id}."),
            },
        );
    }

    /// What the configuration of now allows for a plan of earlier.
    pub(super) fn may_change(&self, plan: &Plan) -> Result<(), String> {
        let Some(peer) = self.settings.peers.get(&plan.peer) else {
            return Err(format!("{} is no longer configured", plan.peer));
        };
        if peer.level < Level::Approve {
            return Err(format!("the level of {} is {} now", plan.peer, peer.level.name()));
        }
        if peer.host != plan.host {
            return Err(format!("{} is {} now, and the plan is for {}", plan.peer, peer.host, plan.host));
        }
        if peer.approvals > plan.approvals {
            return Err(format!("{} asks for {} approvals now", plan.peer, peer.approvals));
        }
        Ok(())
    }

    pub(super) fn void(&mut self, turn: &mut Turn, id: &str, reason: &str, tell: bool) {
        let Some(over) = self.state.overrides.get(id) else { return };
        let (peer, incident) = (over.peer.clone(), over.incident.clone());
        let voided_before =
            self.state.overrides.values().any(|over| over.incident == incident && over.phase == Phase::Voided);
        self.record(turn, Event::OverrideVoided { id: id.to_owned(), reason: reason.to_owned() });
        if tell {
            self.tell(
                turn,
                Notice {
                    kind: NotificationKind::Trouble,
                    peer: peer.clone(),
                    incident: Some(incident),
                    page: !voided_before,
                    subject: format!("{peer}: {id} was not applied"),
                    text: format!("{reason}. Nothing was changed."),
                },
            );
        }
    }

    /// The normal path is whole again before anything was changed: nothing is left to decide.
    pub(super) fn void_needless(&mut self, turn: &mut Turn, peer: &str) {
        let pending = self.state.live_override(peer).filter(|over| over.phase.is_pending()).map(|over| over.id.clone());
        if let Some(id) = pending {
            let reason = format!("the normal path was whole {ROUNDS_TO_CLOSE} times in a row");
            self.void(turn, &id, &reason, false);
        }
    }

    pub(super) fn withdraw(&mut self, turn: &mut Turn, id: &str, reason: EndReason, by: Actor, why: String) {
        let stands = self.state.overrides.get(id).is_some_and(|over| over.phase.stands());
        if !stands {
            return;
        }
        let peer = self.state.overrides.get(id).map(|over| over.peer.clone());
        if let Some(live) = peer.and_then(|peer| self.live.peers.get_mut(&peer)) {
            live.standing_due = None;
            live.verifying = None;
        }
        self.record(turn, Event::WithdrawStarted { id: id.to_owned(), reason, by, why });
        self.live.withdrawals.remove(id);
        self.ask_to_withdraw(turn, id);
    }

    pub(super) fn ask_to_withdraw(&mut self, turn: &mut Turn, id: &str) {
        let Some(over) = self.state.overrides.get(id) else { return };
        if let Phase::Withdrawing(_) = over.phase {
            self.live.retries.insert(id.to_owned(), turn.after(CHANGE_LOST_S));
            turn.effect(Effect::Withdraw { id: over.id.clone(), generation: over.generation, why: over.why.clone() });
        }
    }

    pub(super) fn withdrawn(&mut self, turn: &mut Turn, id: &str, generation: u64, result: Result<(), String>) {
        let Some(over) = self.state.overrides.get(id) else { return };
        let Phase::Withdrawing(reason) = over.phase else {
            return self.leftover_withdrawn(turn, id, generation, result);
        };
        if over.generation != generation {
            return;
        }
        match result {
            Ok(()) => self.end(turn, id, reason),
            Err(detail) => self.withdraw_failed(turn, id, detail),
        }
    }

    /// Tried again, ever more slowly; recorded and paged once. The embedded server itself ends what is past its lease; a zone of
    /// somebody else's does not, so what stands there past its lease is paged once more, and tried until it is gone.
    fn withdraw_failed(&mut self, turn: &mut Turn, id: &str, detail: String) {
        let Some(over) = self.state.overrides.get(id).cloned() else { return };
        let gone_at = over.expires_at.map(|at| later(at, SignedDuration::from_secs(i64::from(over.plan.ttl_s))));
        let is_past = gone_at.is_some_and(|at| turn.now >= at);
        if is_past && self.settings.zone.is_none() {
            return self.end(turn, id, EndReason::Expired);
        }
        let tries = self.live.withdrawals.entry(id.to_owned()).or_insert(0);
        *tries += 1;
        let tries = *tries;
        let pause = (WITHDRAW_AGAIN_S << (tries - 1).min(4)).min(WITHDRAW_AGAIN_MAX_S);
        self.live.retries.insert(id.to_owned(), turn.after(pause));
        if tries == 1 {
            let text = format!("it cannot be withdrawn yet: {detail}. It is tried again until it is gone");
            self.record(turn, Event::WithdrawFailed { id: id.to_owned(), detail });
            self.trouble(turn, &over, text);
        }
        if let (true, Some(zone)) = (is_past, self.settings.zone.clone()) {
            let text = format!("its lease is over, and it cannot be taken out of {zone}; it may still be served there");
            self.trouble(turn, &over, text);
        }
    }

    pub(super) fn end(&mut self, turn: &mut Turn, id: &str, reason: EndReason) {
        let Some(over) = self.state.overrides.get(id) else { return };
        let (peer, incident, mut text) = (over.peer.clone(), over.incident.clone(), over.why.clone());
        if let Some(by) = over.withdrawn_by.as_ref().filter(|by| by.uid.is_some()) {
            let why = if text.is_empty() { String::new() } else { format!(": {text}") };
            text = format!("{} took it back ({}){why}", by.name, by.via);
        }
        self.live.retries.remove(id);
        self.live.withdrawals.remove(id);
        self.record(turn, Event::OverrideEnded { id: id.to_owned(), reason });
        if let Some(live) = self.live.peers.get_mut(&peer) {
            live.healthy = 0;
            live.standing_due = None;
            live.bypass = None;
            live.diagnose_due = Some(later(turn.now, SignedDuration::from_secs(10)));
        }
        let page = matches!(reason, EndReason::RolledBack | EndReason::Withdrawn);
        self.tell(
            turn,
            Notice {
                kind: NotificationKind::Ended,
                peer: peer.clone(),
                incident: Some(incident),
                page,
                subject: format!("{peer}: override {id} ended ({})", reason.name()),
                text,
            },
        );
    }
}

/// Served is proved at the server, through the resolver's path, and by a probe on the normal path.
fn proof_of(over: &Override, verification: &Verification, provider: &str) -> Result<String, String> {
    let at_server = verification.at_server.as_ref().map_err(Clone::clone)?;
    let by_resolver = verification.by_resolver.as_ref().map_err(Clone::clone)?;
    if at_server != &over.addresses {
        return Err(format!("the server answers {}", list(at_server)));
    }
    if by_resolver != &over.addresses {
        return Err(format!("the resolver's path answers {}", list(by_resolver)));
    }
    if verification.observations.is_empty() {
        return Err("no endpoint was probed".to_owned());
    }
    if let Some(failure) = verification.observations.iter().find_map(Observation::failure) {
        return Err(failure.detail.clone());
    }
    let strays: Vec<_> = verification
        .observations
        .iter()
        .flat_map(|observation| &observation.results)
        .map(|result| result.address)
        .filter(|address| !over.addresses.contains(address))
        .collect();
    if !strays.is_empty() {
        return Err(format!("the normal path still leads to {}", list(strays)));
    }
    Ok(format!(
        "{} is served by {provider} and through the resolver's path, and every endpoint answered there",
        list(&over.addresses)
    ))
}
