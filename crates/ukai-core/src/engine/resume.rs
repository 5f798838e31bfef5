//! Coming up: the configuration is taken in, and what was begun is taken up again.

use jiff::SignedDuration;

use super::live::{GATHERING_LOST, LivePeer};
use super::{Engine, Turn, later};
use crate::diagnose::evidence::Purpose;
use crate::effect::Effect;
use crate::event::Event;
use crate::overrides::Phase;
use crate::peer::Settings;

impl Engine {
    pub(super) fn start(&mut self, turn: &mut Turn, version: String, settings: Settings) {
        self.record(turn, Event::Started { version });
        self.configure(turn, settings);
        self.take_up_overrides(turn);
        self.take_up_gatherings(turn);
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
        for peer in settings.peers.values() {
            let known = self.state.peers.get(&peer.name);
            if known.is_none_or(|known| known.host != peer.host || known.level != peer.level) {
                self.record(
                    turn,
                    Event::PeerWatched { peer: peer.name.clone(), host: peer.host.clone(), level: peer.level },
                );
            }
            if self.settings.peers.get(&peer.name) != Some(peer) {
                self.live.peers.insert(peer.name.clone(), LivePeer::new(peer, turn.now));
            }
        }
        let gone: Vec<String> =
            self.state.peers.keys().filter(|name| !settings.peers.contains_key(*name)).cloned().collect();
        for peer in gone {
            self.live.peers.remove(&peer);
            if self.state.live_override(&peer).is_some_and(|over| over.phase.may_stand()) {
                let what = format!(
                    "{peer} is no longer configured, but an override for it stands until its lease ends; `ukai revert` takes it back now"
                );
                self.record(turn, Event::Troubled { what });
            } else {
                self.record(turn, Event::PeerForgotten { peer });
            }
        }
        self.settings = settings;
    }

    fn take_up_overrides(&mut self, turn: &mut Turn) {
        let ids: Vec<String> = self.state.overrides.keys().cloned().collect();
        for id in ids {
            let Some(over) = self.state.overrides.get(&id) else { continue };
            let peer = over.peer.clone();
            match over.phase {
                Phase::Applying => self.ask_to_apply(turn, &id),
                Phase::Applied => self.begin_verification(turn, &peer, &id),
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
                let also = self.also_for(&peer);
                turn.effect(Effect::Gather { id, peer: peer.clone(), purpose, also });
                if let Some(live) = self.live.peers.get_mut(&peer) {
                    live.diagnose_lost_at = Some(later(turn.now, GATHERING_LOST));
                }
            }
        }
        for peer in self.state.peers.keys() {
            let waits = self.state.gatherings.values().any(|gathering| &gathering.peer == peer);
            if self.state.open_incident(peer).is_some()
                && !waits
                && let Some(live) = self.live.peers.get_mut(peer)
            {
                live.diagnose_due = Some(later(turn.now, SignedDuration::from_secs(5)));
            }
        }
    }
}
