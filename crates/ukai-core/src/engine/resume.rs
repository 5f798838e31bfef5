//! Coming up: the configuration is taken in, and what was begun is taken up again.

use jiff::{SignedDuration, Timestamp};

use super::change::{SERVE_DEADLINE, policy};
use super::live::{GATHERING_LOST, LivePeer};
use super::{Engine, Turn, later};
use crate::diagnose::evidence::Purpose;
use crate::effect::Effect;
use crate::event::Event;
use crate::overrides::{EndReason, Override, Phase};
use crate::peer::{Peer, Settings};

/// A bad answer of longer TTL than this is not waited for after a restart: the sources are read again anyway.
const BAD_TTL_MAX_S: u32 = 3600;
/// A cause that was being looked for is looked for again so long after a start.
const DIAGNOSE_AGAIN: SignedDuration = SignedDuration::from_secs(5);

impl Engine {
    pub(super) fn start(&mut self, turn: &mut Turn, version: String, settings: Settings) {
        let ran_until = self.state.last_at.unwrap_or(turn.now);
        self.record(turn, Event::Started { version });
        let renewed = self.take_settings(turn, settings);
        self.take_up_overrides(turn);
        self.take_up_gatherings(turn);
        self.look_again(turn, &renewed, ran_until);
        for waiting in self.state.undelivered.values() {
            for subscriber in &waiting.subscribers {
                turn.effect(Effect::Notify {
                    notification: waiting.notification.clone(),
                    subscriber: subscriber.clone(),
                });
            }
        }
        for incident in &self.state.reports_due {
            turn.effect(Effect::WriteReport { incident: incident.clone() });
        }
    }

    pub(super) fn configure(&mut self, turn: &mut Turn, settings: Settings) {
        let renewed = self.take_settings(turn, settings);
        self.look_again(turn, &renewed, turn.now);
    }

    /// Returns the peers whose settings are new or changed. What is volatile of a known peer stays: a verification or a
    /// streak is not begun anew because an interval changed.
    fn take_settings(&mut self, turn: &mut Turn, settings: Settings) -> Vec<String> {
        let before = std::mem::replace(&mut self.settings, settings);
        let mut renewed = Vec::new();
        let peers: Vec<Peer> = self.settings.peers.values().cloned().collect();
        for peer in &peers {
            let known = self.state.peers.get(&peer.name);
            if known.is_none_or(|known| known.host != peer.host || known.level != peer.level) {
                self.record(
                    turn,
                    Event::PeerWatched { peer: peer.name.clone(), host: peer.host.clone(), level: peer.level },
                );
            }
            let was = before.peers.get(&peer.name);
            if was == Some(peer) {
                continue;
            }
            renewed.push(peer.name.clone());
            match self.live.peers.get_mut(&peer.name).filter(|_| was.is_some_and(|was| was.host == peer.host)) {
                Some(live) => live.round_due = turn.now,
                None => {
                    self.live.peers.insert(peer.name.clone(), LivePeer::new(turn.now));
                }
            }
            self.hold_to_settings(turn, was, peer);
        }
        let gone: Vec<String> =
            self.state.peers.keys().filter(|name| !self.settings.peers.contains_key(*name)).cloned().collect();
        for peer in gone {
            self.let_go(turn, &peer);
        }
        self.regraph();
        self.put_defaults(turn);
        self.retain_windows();
        self.live.mute_due = self.next_mute_end(turn.now);
        renewed
    }

    /// A peer that is no longer configured: nothing of ours may stay behind unwatched.
    fn let_go(&mut self, turn: &mut Turn, peer: &str) {
        let why = format!("{peer} is no longer configured");
        if let Some(over) = self.state.live_override(peer).cloned() {
            if over.phase.is_pending() {
                self.void(turn, &over.id, &why, false);
            } else {
                self.withdraw(turn, &over.id, EndReason::Withdrawn, policy(), why.clone());
            }
        }
        if let Some(incident) = self.state.open_incident(peer).map(|incident| incident.id.clone()) {
            self.record(turn, Event::IncidentClosed { incident: incident.clone(), reason: why });
            turn.effect(Effect::WriteReport { incident });
        }
        self.live.peers.remove(peer);
        self.record(turn, Event::PeerForgotten { peer: peer.to_owned() });
    }

    /// What was planned, or stands, under other settings than those of now: such a plan is void, and an override for
    /// another name is withdrawn.
    fn hold_to_settings(&mut self, turn: &mut Turn, was: Option<&Peer>, now: &Peer) {
        let Some(over) = self.state.live_override(&now.name).cloned() else { return };
        if over.phase.stands() && over.plan.host != now.host {
            let why = format!("{} is {} now", now.name, now.host);
            self.withdraw(turn, &over.id, EndReason::Withdrawn, policy(), why);
            return;
        }
        let changed = was.is_some_and(|was| {
            (was.level, was.approvals, was.mode) != (now.level, now.approvals, now.mode)
                || was.host != now.host
                || was.endpoints != now.endpoints
        });
        if over.phase.is_pending() && (changed || self.may_change(&over.plan).is_err()) {
            self.void(turn, &over.id, "the configuration of the peer changed", false);
        }
    }

    fn take_up_overrides(&mut self, turn: &mut Turn) {
        let ids: Vec<String> = self.state.overrides.keys().cloned().collect();
        for id in ids {
            let Some(over) = self.state.overrides.get(&id) else { continue };
            let peer = over.peer.clone();
            match over.phase {
                Phase::Applying if is_too_old(over, turn.now) => {
                    let why = "the decision was made too long before it could be carried out".to_owned();
                    self.withdraw(turn, &id, EndReason::RolledBack, policy(), why);
                }
                Phase::Applying => self.ask_to_apply(turn, &id),
                Phase::Withdrawing(_) => self.ask_to_withdraw(turn, &id),
                Phase::Approved if !self.is_gathering(&peer, Purpose::Apply) => {
                    let incident = over.incident.clone();
                    self.request_gathering(turn, &peer, Some(incident), Purpose::Apply);
                }
                _ => {}
            }
        }
    }

    fn take_up_gatherings(&mut self, turn: &mut Turn) {
        let pending: Vec<_> = self
            .state
            .gatherings
            .iter()
            .map(|(id, gathering)| (id.clone(), gathering.peer.clone(), gathering.purpose))
            .collect();
        for (id, peer, purpose) in pending {
            if self.settings.peers.contains_key(&peer) {
                let effect = self.gathering_of(id, &peer, purpose);
                turn.effect(effect);
            }
        }
    }

    /// What was under way for these peers and is not in the log is begun anew: a verification, the look at what stands,
    /// the search for a cause. The last bad answer may still be in somebody's cache.
    fn look_again(&mut self, turn: &mut Turn, peers: &[String], ran_until: Timestamp) {
        for peer in peers {
            let over = self.state.live_override(peer).map(|over| (over.id.clone(), over.phase));
            if let Some((id, Phase::Applied)) = &over {
                match self.live.peers.get_mut(peer).and_then(|live| live.verifying.as_mut()) {
                    Some(verifying) => verifying.in_flight = false,
                    None => self.begin_verification(turn, peer, id),
                }
            }
            self.watch_on(turn, peer, ran_until);
            let waits = self.state.gatherings.values().any(|gathering| &gathering.peer == peer);
            let is_open = self.state.open_incident(peer).is_some();
            let ttl = self.state.peers.get(peer).map_or(0, longest_ttl);
            let Some(live) = self.live.peers.get_mut(peer) else { continue };
            if matches!(over, Some((_, Phase::Served | Phase::Confirmed))) {
                live.standing_due = Some(turn.now);
                live.bad_until = live.bad_until.max(turn.after(i64::from(ttl)));
            }
            if waits {
                live.diagnose_lost_at = Some(later(turn.now, GATHERING_LOST));
            } else if is_open {
                live.diagnose_due = Some(later(turn.now, DIAGNOSE_AGAIN));
            }
        }
    }
}

fn longest_ttl(peer: &crate::state::PeerState) -> u32 {
    peer.history.answers.iter().map(|answer| answer.ttl).max().unwrap_or(0).min(BAD_TTL_MAX_S)
}

/// An apply that was begun, and then nothing ran for longer than a change may take to be served.
fn is_too_old(over: &Override, now: Timestamp) -> bool {
    let lease = SignedDuration::from_secs(i64::try_from(over.plan.lease_s).unwrap_or(i64::MAX));
    let begun = over.expires_at.and_then(|at| at.checked_sub(lease).ok());
    over.served_at.is_none() && begun.is_some_and(|at| now.duration_since(at) > SERVE_DEADLINE)
}
