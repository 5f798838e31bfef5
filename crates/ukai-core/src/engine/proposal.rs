//! An override is proposed, or refused with every reason; and once more held against the world before it is applied.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;

use super::cause::Brief;
use super::notices::{Notice, span};
use super::{Engine, Turn};
use crate::diagnose::answers::Authority;
use crate::diagnose::reading::{Reading, list};
use crate::diagnose::verdict::{Action, Code, Verdict};
use crate::event::{Event, NotificationKind};
use crate::overrides::{EndReason, Phase};
use crate::peer::{Level, Mode};
use crate::plan::guard::{Findings, Proposal, examine, is_automatic};
use crate::plan::{
    Origin, Plan, Provided, Refusal, Selection, draw_up, is_overridable, left_in_peace, select, within_anchors,
};

impl Engine {
    /// Proposes an override, or refuses it with every guard's reason.
    pub(super) fn consider(
        &mut self,
        turn: &mut Turn,
        brief: &Brief,
        reading: &Reading,
        verdict: &Verdict,
        incident: &str,
    ) {
        let settings = &brief.known.peer;
        let peer = &settings.name;
        let asked_for = settings.mode == Mode::Pin && !settings.pin.is_empty();
        self.void_what_the_peer_answers(turn, peer, reading);
        if verdict.action == Action::None && !asked_for || self.state.live_override(peer).is_some() {
            return;
        }
        let left = left_in_peace(reading).filter(|_| verdict.code == Code::PeerDnsEmpty && !asked_for);
        let is_left = left.is_some();
        let selection = left.unwrap_or_else(|| select(reading));
        let proposal = Proposal { reading, verdict, selection: &selection, standing: brief.standing };
        let findings = examine(&proposal);
        let called_for = matches!(verdict.action, Action::Override | Action::Escalate) && is_overridable(verdict.code);
        let wanted = called_for || asked_for || is_left;
        if !wanted || !findings.refusals.is_empty() {
            self.refuse(turn, peer, incident, verdict, findings.refusals);
            return;
        }
        let automatic = is_automatic(&proposal, &findings);
        let plan = draw_up(
            reading,
            verdict,
            incident,
            &selection,
            findings.for_a_person,
            &Provided { zone: self.settings.zone.as_deref(), hides_types: self.settings.hides_types },
        );
        self.propose(turn, incident, plan, automatic);
    }

    /// The last one of the incident before then asked the same, and nobody decided on it. A peer may stay silent for weeks: what it
    /// was before is there to be approved all the while, and told of once.
    pub(super) fn was_left_undecided(&self, incident: &str, plan: &Plan, before: Timestamp) -> bool {
        let earlier =
            self.state.overrides.values().filter(|over| over.incident == incident && over.proposed_at < before);
        earlier.max_by_key(|over| over.proposed_at).is_some_and(|last| {
            plan.is_of_peace()
                && last.phase == Phase::Voided
                && last.approvals.is_empty()
                && says_no_more(&last.plan, plan)
        })
    }

    /// A plan that rests on the peer's silence and is not decided is over once the peer gives an address, and makes room.
    fn void_what_the_peer_answers(&mut self, turn: &mut Turn, peer: &str, reading: &Reading) {
        let Authority::Agreed(set) = &reading.authority else { return };
        let undecided = self.state.live_override(peer).filter(|over| over.phase == Phase::Proposed);
        let Some(id) = undecided.filter(|over| over.plan.is_of_peace()).map(|over| over.id.clone()) else { return };
        let reason = format!("the peer's servers give {} now", list(set));
        self.void(turn, &id, &reason, false);
    }

    fn refuse(&mut self, turn: &mut Turn, peer: &str, incident: &str, verdict: &Verdict, refusals: Vec<Refusal>) {
        let known = self.state.incidents.get(incident).map(|known| known.refusals.clone());
        let names = |refusals: &[Refusal]| -> BTreeSet<String> {
            refusals.iter().map(|refusal| refusal.guard.clone()).collect()
        };
        if refusals.is_empty() || known.is_some_and(|known| names(&known) == names(&refusals)) {
            return;
        }
        let reasons: Vec<String> =
            refusals.iter().map(|refusal| format!("{}: {}", refusal.guard, refusal.reason)).collect();
        self.record(turn, Event::OverrideRefused { incident: incident.to_owned(), peer: peer.to_owned(), refusals });
        self.tell(
            turn,
            Notice {
                kind: NotificationKind::Refused,
                peer: peer.to_owned(),
                incident: Some(incident.to_owned()),
                page: false,
                subject: format!("{peer}: no override ({})", verdict.code.name()),
                text: format!("An override was considered and refused. {}", reasons.join("; ")),
            },
        );
    }

    fn propose(&mut self, turn: &mut Turn, incident: &str, plan: Plan, automatic: bool) {
        let level = self.settings.peers.get(&plan.peer).map_or(Level::Observe, |peer| peer.level);
        let said_before = self.state.overrides.values().any(|over| {
            over.incident == incident
                && is_said(over.phase, level)
                && says_no_more(&over.plan, &plan)
                && over.plan.mode == plan.mode
        });
        // A person who names addresses now has thought again.
        let asked_now =
            plan.mode == Mode::Pin && self.live.peers.get(&plan.peer).is_some_and(|live| live.pin.is_some());
        if said_before && !asked_now {
            return;
        }
        // What a person or the world undid once in this incident, policy alone does not do again.
        let undone = self.state.overrides.values().any(|over| {
            over.incident == incident
                && matches!(
                    over.phase,
                    Phase::Rejected
                        | Phase::Ended(EndReason::RevertedByPerson | EndReason::Withdrawn | EndReason::Expired)
                )
        });
        let automatic = automatic && !undone;
        let is_known = self.was_left_undecided(incident, &plan, turn.now);
        let asked_before = self.state.overrides.values().any(|over| over.incident == incident);
        let id = format!("ovr-{}", self.state.numbers.r#override + 1);
        let hash = plan.hash();
        let peer = plan.peer.clone();
        let text = proposal_text(&id, &hash, &plan, level, automatic);
        self.record(
            turn,
            Event::OverrideProposed {
                id: id.clone(),
                incident: incident.to_owned(),
                plan: Box::new(plan),
                hash: hash.clone(),
                level,
            },
        );
        if !is_known {
            self.tell(
                turn,
                Notice {
                    kind: NotificationKind::Proposed,
                    peer: peer.clone(),
                    incident: Some(incident.to_owned()),
                    page: level >= Level::Approve && !automatic && !asked_before,
                    subject: format!("{peer}: override {id} proposed"),
                    text,
                },
            );
        }
        if level == Level::Auto && automatic {
            self.approve_by_policy(turn, &id, &hash);
        }
    }
}

/// Addresses that only prove themselves again and again are not another proposal for being fewer.
fn says_no_more(said: &Plan, plan: &Plan) -> bool {
    let fewer = said.is_of_peace() && plan.is_of_peace() && plan.addresses.is_subset(&said.addresses);
    fewer || said.addresses == plan.addresses
}

/// A decision of a person's stands for the whole incident; what was only shown is shown again once more is allowed.
fn is_said(phase: Phase, level: Level) -> bool {
    match phase {
        Phase::Rejected | Phase::Ended(EndReason::RevertedByPerson) => true,
        Phase::Withheld => level < Level::Approve,
        _ => false,
    }
}

fn proposal_text(id: &str, hash: &str, plan: &Plan, level: Level, automatic: bool) -> String {
    let what = format!(
        "{} would answer {} for up to {} (plan {}).",
        plan.host,
        list(&plan.addresses),
        span(i64::try_from(plan.lease_s).unwrap_or(i64::MAX)),
        hash.get(..12).unwrap_or(hash)
    );
    let next = match level {
        Level::Observe => "The level is observe, so nothing is changed; this is what ukai would do.".to_owned(),
        Level::Propose => format!("The level is propose: `ukai plan {id}` prints the change and its inverse."),
        Level::Auto if automatic => "Policy approves it; every guard is run again first.".to_owned(),
        Level::Approve | Level::Auto => {
            format!("`ukai plan {id}` shows it; `ukai approve {id}` or `ukai reject {id}` decides.")
        }
    };
    let shown: Vec<String> =
        plan.shown.iter().map(|shown| format!(" Look at {}: {}.", shown.guard, shown.reason)).collect();
    let mind: Vec<String> = plan.mind.iter().map(|mind| format!(" Mind: {mind}.")).collect();
    format!("{what}{}{} {next}", shown.concat(), mind.concat())
}

/// The fresh findings hold nothing that the approved plan did not show.
pub(super) fn nothing_new(plan: &Plan, verdict: &Verdict, findings: &Findings) -> Result<(), String> {
    if let Some(refusal) = findings.refusals.first() {
        return Err(format!("{}: {}", refusal.guard, refusal.reason));
    }
    let unseen =
        findings.for_a_person.iter().find(|finding| !plan.shown.iter().any(|shown| shown.guard == finding.guard));
    // Whoever approved against one diagnosis has not seen another.
    if findings.for_a_person.iter().any(|finding| finding.guard == "diagnosis") && verdict.code.name() != plan.code() {
        return Err(format!("it was approved for {}, and it is {} now", plan.verdict, verdict.code.name()));
    }
    match unseen {
        Some(finding) => Err(format!("{} was not shown to whoever approved: {}", finding.guard, finding.reason)),
        None => Ok(()),
    }
}

/// What an override would serve now, for a plan that was approved earlier.
pub(super) fn fresh_set(plan: &Plan, reading: &Reading) -> Result<(Selection, BTreeSet<IpAddr>), String> {
    if plan.is_of_peace() {
        let mut selection = left_in_peace(reading).unwrap_or_default();
        selection.addresses.retain(|address| plan.addresses.contains(address));
        let set = selection.addresses.clone();
        if set.is_empty() {
            let why = "the peer's servers give an address again, or no approved one proves to be the peer any more";
            return Err(why.to_owned());
        }
        within_anchors(plan, reading, &set)?;
        return Ok((selection, set));
    }
    if plan.mode == Mode::Pin {
        let selection =
            Selection { addresses: plan.addresses.clone(), sources: plan.sources.clone(), origin: Origin::Operator };
        if reading.case.peer.verified_tls {
            within_anchors(plan, reading, &plan.addresses)?;
        }
        return Ok((selection, plan.addresses.clone()));
    }
    let selection = select(reading);
    let set = selection.addresses.clone();
    if reading.case.peer.verified_tls {
        within_anchors(plan, reading, &set)?;
    }
    Ok((selection, set))
}
