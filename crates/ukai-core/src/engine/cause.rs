//! The cause: evidence is asked for and read, and a verdict given.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::SignedDuration;

use super::live::{BASELINE_EVERY, GATHERING_LOST, Look, Waiting};
use super::notices::Notice;
use super::{Engine, Turn, later};
use crate::alarm::AlarmState;
use crate::alarm::defaults::{outage, reachability};
use crate::diagnose::diagnose;
use crate::diagnose::evidence::{ApplicationCall, Evidence, Purpose};
use crate::diagnose::known::Known;
use crate::diagnose::reading::{Case, Overridden, Reading};
use crate::diagnose::verdict::{Code, Verdict};
use crate::effect::Effect;
use crate::event::{Event, NotificationKind};
use crate::peer::Mode;
use crate::plan::guard::Standing;

/// Pauses between gatherings while an incident is open, in seconds; the last one repeats.
const GATHER_AGAIN_S: [i64; 5] = [10, 30, 60, 120, 300];
/// Calls of the application that go with the evidence.
const CALLS_WITH_EVIDENCE: usize = 10;
/// Addresses of before that are tried in an incident: enough to see whether the peer left them.
const KNOWN_TRIED_MAX: usize = 8;
/// Before evidence that was of another configuration is asked for again.
const STALE_EVIDENCE_AGAIN_S: i64 = 2;

/// What a case is made from, owned, so that the engine can be changed while it is judged.
pub(super) struct Brief {
    pub known: Known,
    pub standing: Standing,
}

impl Brief {
    pub fn case<'a>(&'a self, evidence: &'a Evidence) -> Case<'a> {
        self.known.case(evidence)
    }
}

impl Engine {
    /// Asks for evidence again where an incident is open, and for a baseline in peace.
    pub(super) fn advance_cause(&mut self, turn: &mut Turn, peer: &str) {
        let incident = self.state.open_incident(peer).map(|incident| incident.id.clone());
        let stands = self.state.live_override(peer).is_some_and(|over| over.phase.stands());
        let Some(live) = self.live.peers.get_mut(peer) else { return };
        if live.look.as_ref().is_some_and(|look| turn.now >= look.waiting.lost_at) {
            live.look = None;
            if stands {
                live.standing_due = Some(turn.now);
            }
        }
        let lost = live.diagnose_lost_at.is_some_and(|at| turn.now >= at);
        let due = live.diagnose_due.is_some_and(|at| turn.now >= at);
        if lost {
            live.diagnose_lost_at = None;
        }
        if due {
            live.diagnose_due = None;
        }
        if live.look.is_none() {
            let purpose = if stands && live.standing_due.is_some_and(|at| turn.now >= at) {
                live.standing_due = None;
                Some(Purpose::Standing)
            } else if turn.now >= live.baseline_due {
                live.baseline_due = later(turn.now, BASELINE_EVERY);
                (incident.is_none() && !stands).then_some(Purpose::Baseline)
            } else {
                None
            };
            if let Some(purpose) = purpose {
                self.look(turn, peer, purpose);
            }
        }
        if let Some(incident) = incident
            && (lost || due)
        {
            if lost {
                self.ask_again(turn, peer);
            } else if !stands {
                self.request_gathering(turn, peer, Some(incident), Purpose::Diagnose);
            }
        }
    }

    /// Repeats what was asked for and never came back: an answer to either asking will do.
    fn ask_again(&mut self, turn: &mut Turn, peer: &str) {
        let pending: Vec<_> = self
            .state
            .gatherings
            .iter()
            .filter(|(_, gathering)| gathering.peer == peer)
            .map(|(id, gathering)| (id.clone(), gathering.purpose))
            .collect();
        for (id, purpose) in pending {
            let effect = self.gathering_of(id, peer, purpose);
            turn.effect(effect);
            if let Some(live) = self.live.peers.get_mut(peer) {
                live.diagnose_lost_at = Some(later(turn.now, GATHERING_LOST));
            }
        }
    }

    fn look(&mut self, turn: &mut Turn, peer: &str, purpose: Purpose) {
        self.live.gatherings += 1;
        let id = format!("l-{}", self.live.gatherings);
        let waiting = Waiting { id: id.clone(), lost_at: later(turn.now, GATHERING_LOST) };
        let effect = self.gathering_of(id, peer, purpose);
        turn.effect(effect);
        if let Some(live) = self.live.peers.get_mut(peer) {
            live.look = Some(Look { waiting, purpose });
        }
    }

    pub(super) fn is_gathering(&self, peer: &str, purpose: Purpose) -> bool {
        self.state.gatherings.values().any(|gathering| gathering.peer == peer && gathering.purpose == purpose)
    }

    pub(super) fn request_gathering(
        &mut self,
        turn: &mut Turn,
        peer: &str,
        incident: Option<String>,
        purpose: Purpose,
    ) {
        if self.is_gathering(peer, purpose) {
            return;
        }
        let gathering = format!("g-{}", self.state.numbers.gathering + 1);
        self.record(
            turn,
            Event::EvidenceRequested { gathering: gathering.clone(), peer: peer.to_owned(), incident, purpose },
        );
        let effect = self.gathering_of(gathering, peer, purpose);
        turn.effect(effect);
        if let Some(live) = self.live.peers.get_mut(peer) {
            live.diagnose_lost_at = Some(later(turn.now, GATHERING_LOST));
        }
    }

    pub(super) fn gathering_of(&self, id: String, peer: &str, purpose: Purpose) -> Effect {
        let known = self.known_for(peer, purpose);
        Effect::Gather { id, peer: peer.to_owned(), purpose, also: self.also_for(peer), known }
    }

    /// In an incident: where the peer was last, and where it was proven before, the newest identity first.
    fn known_for(&self, peer: &str, purpose: Purpose) -> BTreeSet<IpAddr> {
        let history = self.state.peers.get(peer).filter(|_| purpose == Purpose::Diagnose).map(|peer| &peer.history);
        let Some(history) = history else { return BTreeSet::new() };
        let last = history.authority_answer().into_iter().flat_map(|answer| answer.addresses.iter().copied());
        let last = last.filter(|address| history.knows_address(*address));
        let before = history.identities.iter().rev().flat_map(|identity| identity.addresses.iter().copied());
        let mut tried = BTreeSet::new();
        for address in last.chain(before) {
            if tried.len() == KNOWN_TRIED_MAX {
                break;
            }
            tried.insert(address);
        }
        tried
    }

    /// Addresses to prove besides those that the sources name.
    pub(super) fn also_for(&self, peer: &str) -> BTreeSet<IpAddr> {
        let mut also = BTreeSet::new();
        if let Some(settings) = self.settings.peers.get(peer) {
            also.extend(settings.pin.iter().copied());
        }
        if let Some(pin) = self.live.peers.get(peer).and_then(|live| live.pin.as_ref()) {
            also.extend(pin.iter().copied());
        }
        if let Some(over) = self.state.live_override(peer) {
            also.extend(over.addresses.iter().copied());
        }
        also
    }

    pub(super) fn brief(&self, peer: &str) -> Option<Brief> {
        let mut settings = self.settings.peers.get(peer)?.clone();
        let known = self.state.peers.get(peer)?;
        let live = self.live.peers.get(peer)?;
        if let Some(pin) = &live.pin {
            settings.mode = Mode::Pin;
            settings.pin = pin.iter().copied().collect();
        }
        let others = self.state.overrides.values().filter(|over| over.peer != peer && over.phase.may_stand()).count();
        let hour_ago = later(self.live.last_now, SignedDuration::from_hours(-1));
        let standing = Standing {
            others,
            changes_in_the_last_hour: self.state.changes.iter().filter(|at| **at > hour_ago).count(),
            frozen: self.state.frozen.is_some(),
            serves_dns: self.settings.serves_dns,
            hides_types: self.settings.hides_types,
        };
        let over = self.state.live_override(peer);
        let known = Known {
            peer: settings,
            history: known.history.clone(),
            application: self.recent_calls(peer),
            moved_seen_at: self.state.open_incident(peer).and_then(|known| known.moved_seen_at),
            overridden: over.and_then(|over| {
                let (mode, addresses) = (over.plan.mode, over.addresses.clone());
                over.applied_at.map(|since| Overridden { since, mode, addresses })
            }),
            allow_addresses: self.settings.allow_addresses.clone(),
        };
        Some(Brief { known, standing })
    }

    /// Evidence came back. What nobody waits for any more changes nothing.
    pub(super) fn gathered(&mut self, turn: &mut Turn, id: &str, evidence: Evidence) {
        let pending = self.state.gatherings.get(id).cloned();
        if let Some(pending) = pending {
            if !self.is_of_today(&pending.peer, &evidence) {
                // It was asked for before the configuration changed: it is asked for again.
                let soon = turn.after(STALE_EVIDENCE_AGAIN_S);
                if let Some(live) = self.live.peers.get_mut(&pending.peer) {
                    live.diagnose_lost_at = Some(soon);
                }
                return;
            }
            if let Some(live) = self.live.peers.get_mut(&pending.peer) {
                live.diagnose_lost_at = None;
            }
            let application = self.recent_calls(&pending.peer);
            self.record(
                turn,
                Event::EvidenceGathered {
                    gathering: id.to_owned(),
                    peer: pending.peer.clone(),
                    incident: pending.incident.clone(),
                    evidence: Box::new(evidence.clone()),
                    application,
                },
            );
            match pending.purpose {
                Purpose::Apply => self.apply_on(turn, &pending.peer, id, &evidence),
                Purpose::Diagnose | Purpose::Baseline | Purpose::Standing => {
                    self.judge(turn, &pending.peer, id, pending.incident, &evidence);
                }
            }
            return;
        }
        let found = self.live.peers.iter_mut().find_map(|(peer, live)| {
            live.look.take_if(|look| look.waiting.id == id).map(|look| (peer.clone(), look.purpose))
        });
        let Some((peer, purpose)) = found else { return };
        if !self.is_of_today(&peer, &evidence) {
            return;
        }
        match purpose {
            Purpose::Standing => self.standing_evidence(turn, &peer, id, &evidence),
            _ => self.in_peace(turn, &peer, id, &evidence),
        }
    }

    /// The evidence is of the name and the endpoints that are configured now.
    fn is_of_today(&self, peer: &str, evidence: &Evidence) -> bool {
        self.settings
            .peers
            .get(peer)
            .is_some_and(|settings| settings.host == evidence.host && settings.endpoints == evidence.endpoints)
    }

    pub(super) fn recent_calls(&self, peer: &str) -> Vec<ApplicationCall> {
        let Some(live) = self.live.peers.get(peer) else { return Vec::new() };
        let skip = live.application.len().saturating_sub(CALLS_WITH_EVIDENCE);
        live.application.iter().skip(skip).cloned().collect()
    }

    /// Names the cause within an incident, and weighs an override.
    fn judge(&mut self, turn: &mut Turn, peer: &str, gathering: &str, incident: Option<String>, evidence: &Evidence) {
        let Some(incident) = incident else { return };
        let Some(brief) = self.brief(peer) else { return };
        let case = brief.case(evidence);
        let verdict = diagnose(&case);
        self.schedule_next(turn, peer, &incident);
        let known = self.state.incidents.get(&incident);
        if known.is_none_or(|known| known.closed_at.is_some()) {
            return;
        }
        self.conclude(turn, peer, gathering, &incident, &verdict, &brief.known);
        let reading = Reading::of(&case);
        // Such an incident is open until everybody has led to him for long enough to count as the peer, so that is learned here.
        if self.is_about_a_stranger(peer, &incident)
            && let Some(history) = super::baseline::learn(&reading)
        {
            self.record(turn, Event::BaselineLearned { peer: peer.to_owned(), history: Box::new(history) });
        }
        let judge = self.pin_was_looked_at(peer, evidence);
        if judge {
            self.consider(turn, &brief, &reading, &verdict, &incident);
        }
        if let Some(live) = self.live.peers.get_mut(peer) {
            match judge {
                true => live.pin = None,
                false => live.diagnose_due = Some(turn.now),
            }
        }
    }

    /// A pin that was asked for is judged once its addresses were proved, not on evidence from before: nothing is said of it then.
    fn pin_was_looked_at(&self, peer: &str, evidence: &Evidence) -> bool {
        let looked_at = |address: &IpAddr| evidence.candidates.iter().any(|known| known.address == *address);
        let pin = self.live.peers.get(peer).and_then(|live| live.pin.as_ref());
        pin.is_none_or(|pin| pin.iter().all(looked_at))
    }

    fn schedule_next(&mut self, turn: &Turn, peer: &str, incident: &str) {
        let asked = self.state.incidents.get(incident).map_or(0, |known| known.gatherings) as usize;
        let place = asked.saturating_sub(1).min(GATHER_AGAIN_S.len() - 1);
        let next = turn.after(GATHER_AGAIN_S[place]);
        if let Some(live) = self.live.peers.get_mut(peer) {
            live.diagnose_due = Some(next);
        }
    }

    pub(super) fn conclude(
        &mut self,
        turn: &mut Turn,
        peer: &str,
        gathering: &str,
        incident: &str,
        verdict: &Verdict,
        known: &Known,
    ) {
        let Some(told) = self.state.incidents.get(incident) else { return };
        let same = told.verdict.as_ref().is_some_and(|before| {
            (before.code, before.sure, before.action) == (verdict.code, verdict.sure, verdict.action)
        });
        // Something failed; that all is well just now, by design, is not why.
        let no_cause = matches!(verdict.code, Code::Rotating | Code::GeoSteered);
        if same || no_cause || (verdict.code == Code::Open && told.verdict.is_some()) {
            return;
        }
        self.record(
            turn,
            Event::Diagnosed {
                gathering: gathering.to_owned(),
                peer: peer.to_owned(),
                incident: Some(incident.to_owned()),
                verdict: Box::new(verdict.clone()),
                known: Some(Box::new(known.clone())),
            },
        );
        let recommended =
            verdict.options.iter().find(|option| option.judgement == crate::diagnose::verdict::Judgement::Recommended);
        let advice =
            recommended.map(|option| format!(" Recommended: {} ({})", option.name, option.reason)).unwrap_or_default();
        self.tell(
            turn,
            Notice {
                kind: NotificationKind::Diagnosed,
                peer: peer.to_owned(),
                incident: Some(incident.to_owned()),
                page: false,
                subject: match verdict.code {
                    Code::Open => format!("{peer}: the cause is not known yet"),
                    code => format!("{peer}: {} ({})", code.name(), verdict.sure.name()),
                },
                text: format!("{}{advice}", verdict.summary),
            },
        );
        self.page_by_verdict(turn, peer, incident);
    }

    /// The cause that was found asks for somebody, and the fault has been seen to last.
    fn page_by_verdict(&mut self, turn: &mut Turn, peer: &str, incident: &str) {
        let opened_by = self.state.incidents.get(incident).map(|known| known.alarm.clone());
        let lasting = opened_by.is_some_and(|alarm| alarm != reachability(peer));
        let alarm = outage(peer);
        let outage = self.state.alarms.state(&alarm) == AlarmState::Alarm && self.is_free_to_act(turn, &alarm);
        if lasting || outage {
            self.want_page(turn, peer, false);
        }
    }
}
