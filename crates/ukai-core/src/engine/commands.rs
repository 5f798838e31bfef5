//! What people ask for. Every answer says what was done, or what was not, why, and how to mend it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::SignedDuration;

use super::change::APPROVAL_VALID;
use super::notices::{moment, span};
use super::{Engine, Turn, later};
use crate::diagnose::evidence::Purpose;
use crate::diagnose::history::History;
use crate::effect::{Effect, Reply};
use crate::event::{Actor, Event};
use crate::input::Command;
use crate::overrides::{EndReason, Phase};
use crate::plan::{ADDRESSES_MAX, LEASE_MAX_S};

/// The shortest part of a plan's hash that names it.
const HASH_PREFIX_MIN: usize = 12;
/// The longest reason that is kept.
const WHY_MAX: usize = 500;

impl Engine {
    pub(super) fn command(&mut self, turn: &mut Turn, number: u64, by: Actor, command: Command) {
        let answer = match command {
            Command::Approve { id, hash, why } => self.approve(turn, &id, &hash, by, short(why)),
            Command::Reject { id, why } => self.reject(turn, &id, by, short(why)),
            Command::Revert { id, why } => self.revert(turn, &id, by, short(why)),
            Command::RevertAll { why } => self.revert_all(turn, by, short(why)),
            Command::Extend { id, lease_s, why } => self.extend(turn, &id, lease_s, by, short(why)),
            Command::Pin { peer, addresses, why } => self.pin(turn, &peer, addresses, by, short(why)),
            Command::Freeze { why } => self.freeze(turn, by, short(why)),
            Command::Thaw { why } => self.thaw(turn, by, short(why)),
            Command::ImportHistory { peer, history } => self.import(turn, &peer, *history, by),
            Command::PutAlarms { definitions } => self.put_alarms(turn, definitions, by),
            Command::DeleteAlarms { alarms } => self.delete_alarms(turn, alarms, by),
            Command::SetAlarmState { alarm, state, reason, reason_data } => {
                self.set_state_by_hand(turn, &alarm, state, reason, reason_data, by)
            }
            Command::SetAlarmActions { alarms, enabled } => self.set_alarm_actions(turn, alarms, enabled, by),
            Command::PutMuteRule { rule } => self.put_mute_rule(turn, *rule, by),
            Command::DeleteMuteRule { rule } => self.delete_mute_rule(turn, &rule, by),
        };
        let reply = match answer {
            Ok(text) => Reply::Done { text },
            Err(text) => Reply::Refused { text },
        };
        turn.effect(Effect::Reply { command: number, reply });
    }

    fn approve(&mut self, turn: &mut Turn, id: &str, hash: &str, by: Actor, why: String) -> Result<String, String> {
        let over = self.state.overrides.get(id).ok_or_else(|| unknown(id))?;
        match over.phase {
            Phase::Proposed => {}
            Phase::Withheld => {
                return Err(format!(
                    "{id} was only shown: the level of {} is {}; set `level = \"approve\"` for it and reload",
                    over.peer,
                    over.level.name()
                ));
            }
            phase => return Err(format!("{id} is {}; there is nothing to approve", phase.name())),
        }
        if hash.len() < HASH_PREFIX_MIN || !over.hash.starts_with(hash) {
            return Err(format!(
                "the plan's hash is {}, not {hash}; look at `ukai plan {id}` again before you approve",
                over.hash
            ));
        }
        if turn.now >= later(over.proposed_at, APPROVAL_VALID) {
            return Err(format!("{id} was proposed more than ten minutes ago"));
        }
        if by.uid.is_none() {
            return Err("an approval needs a person; nobody could be told from this call".to_owned());
        }
        if over.approvals.iter().any(|actor| actor.uid == by.uid) {
            return Err(format!("{} approved {id} already; another person must", by.name));
        }
        let needed = over.plan.approvals;
        self.may_change(&over.plan.clone())?;
        self.record(turn, Event::OverrideApproved { id: id.to_owned(), hash: hash.to_owned(), by, why });
        let have = self.state.overrides.get(id).map_or(0, |over| over.approvals.len());
        if have < usize::from(needed) {
            return Ok(format!("{id} has {have} of {needed} approvals; another person must approve too"));
        }
        self.approved(turn, id);
        Ok(format!("{id} is approved; every guard is run again on fresh evidence before it is applied"))
    }

    fn reject(&mut self, turn: &mut Turn, id: &str, by: Actor, why: String) -> Result<String, String> {
        let over = self.state.overrides.get(id).ok_or_else(|| unknown(id))?;
        if !over.phase.is_pending() && over.phase != Phase::Withheld {
            return Err(format!("{id} is {}; there is nothing to reject", over.phase.name()));
        }
        self.record(turn, Event::OverrideRejected { id: id.to_owned(), by, why });
        Ok(format!("{id} is rejected; nothing was changed"))
    }

    fn revert(&mut self, turn: &mut Turn, id: &str, by: Actor, why: String) -> Result<String, String> {
        let over = self.state.overrides.get(id).ok_or_else(|| unknown(id))?;
        if over.phase.is_pending() {
            return self.reject(turn, id, by, why);
        }
        let (ttl_s, phase) = (over.plan.ttl_s, over.phase);
        if matches!(phase, Phase::Withdrawing(_)) {
            self.ask_to_withdraw(turn, id);
            return Ok(format!("{id} is being taken back already; it is tried again now"));
        }
        if !phase.may_stand() {
            return match self.try_leftover_again(turn, id) {
                true => Ok(format!("{id} has ended and is still there; it is tried again now")),
                false => Err(format!("{id} does not stand: it is {}", phase.name())),
            };
        }
        self.withdraw(turn, id, EndReason::RevertedByPerson, by, why);
        Ok(format!("{id} is being taken back; clients may hold its answer for {ttl_s} s more"))
    }

    fn revert_all(&mut self, turn: &mut Turn, by: Actor, why: String) -> Result<String, String> {
        let ids: BTreeSet<String> = self
            .state
            .overrides
            .values()
            .filter(|over| over.phase.may_stand() || over.phase.is_pending())
            .map(|over| over.id.clone())
            .chain(self.live.leftovers.keys().cloned())
            .collect();
        for id in &ids {
            self.revert(turn, id, by.clone(), why.clone())?;
        }
        Ok(match ids.len() {
            0 => "no override stands".to_owned(),
            _ => format!("being taken back: {}", ids.into_iter().collect::<Vec<_>>().join(", ")),
        })
    }

    fn extend(&mut self, turn: &mut Turn, id: &str, lease_s: u64, by: Actor, why: String) -> Result<String, String> {
        let over = self.state.overrides.get(id).ok_or_else(|| unknown(id))?;
        if !matches!(over.phase, Phase::Served | Phase::Confirmed) {
            return Err(format!("{id} is {}; only a served override is extended", over.phase.name()));
        }
        self.may_change(&over.plan)?;
        if by.uid.is_none() {
            return Err("extending is an approval, and needs a person".to_owned());
        }
        if over.plan.approvals > 1 {
            return Err(format!(
                "{} asks for {} approvals; let the lease end and approve a new plan",
                over.peer, over.plan.approvals
            ));
        }
        if lease_s == 0 || lease_s > LEASE_MAX_S {
            return Err(format!("a lease is 1 s to {LEASE_MAX_S} s (24 h), not {lease_s} s"));
        }
        if lease_s > over.plan.lease_max_s() {
            let longest = span(i64::try_from(over.plan.lease_max_s()).unwrap_or(i64::MAX));
            return Err(format!(
                "the peer's own servers gave no address when {id} was approved, so it may go on for {longest} from now at most, not \
                 {lease_s} s"
            ));
        }
        let expires_at = turn.after(i64::try_from(lease_s).unwrap_or(0));
        self.record(turn, Event::LeaseExtended { id: id.to_owned(), expires_at, by, why });
        self.ask_to_apply(turn, id);
        Ok(format!("{id} now ends at {}", moment(expires_at)))
    }

    fn pin(
        &mut self,
        turn: &mut Turn,
        peer: &str,
        addresses: BTreeSet<IpAddr>,
        by: Actor,
        why: String,
    ) -> Result<String, String> {
        if addresses.is_empty() {
            return Err("give at least one address to pin".to_owned());
        }
        if addresses.len() > ADDRESSES_MAX {
            return Err(format!("{} addresses cannot be pinned; at most {ADDRESSES_MAX} are served", addresses.len()));
        }
        let incident = self
            .state
            .open_incident(peer)
            .map(|incident| incident.id.clone())
            .ok_or_else(|| format!("{peer} has no open incident: there is nothing to go around"))?;
        if self.state.live_override(peer).is_some() {
            return Err(format!("{peer} has an override already; decide on that one first"));
        }
        let live = self.live.peers.get_mut(peer).ok_or_else(|| format!("{peer} is not a configured peer"))?;
        live.pin = Some(addresses.clone());
        self.record(turn, Event::PinRequested { peer: peer.to_owned(), addresses, by, why });
        self.request_gathering(turn, peer, Some(incident), Purpose::Diagnose);
        Ok("the addresses are being proved; a plan to pin them follows, if every guard agrees".to_owned())
    }

    fn freeze(&mut self, turn: &mut Turn, by: Actor, why: String) -> Result<String, String> {
        if self.state.frozen.is_some() {
            return Ok("every automatic change was frozen already".to_owned());
        }
        self.record(turn, Event::Frozen { by, why });
        Ok("every automatic change is frozen; what is served stays, and leases still end".to_owned())
    }

    fn thaw(&mut self, turn: &mut Turn, by: Actor, why: String) -> Result<String, String> {
        if self.state.frozen.is_none() {
            return Ok("nothing was frozen".to_owned());
        }
        self.record(turn, Event::Thawed { by, why });
        Ok("changes are possible again".to_owned())
    }

    fn import(&mut self, turn: &mut Turn, peer: &str, history: History, by: Actor) -> Result<String, String> {
        if !self.state.peers.contains_key(peer) {
            return Err(format!("{peer} is not a configured peer"));
        }
        self.record(turn, Event::HistoryImported { peer: peer.to_owned(), history: Box::new(history), by });
        if let Some(live) = self.live.peers.get_mut(peer) {
            live.baseline_due = later(turn.now, SignedDuration::from_secs(1));
        }
        Ok(format!("the history of {peer} is imported"))
    }
}

fn unknown(id: &str) -> String {
    format!("there is no override {id}; `ukai overrides` lists them")
}

fn short(mut why: String) -> String {
    if let Some((end, _)) = why.char_indices().nth(WHY_MAX) {
        why.truncate(end);
    }
    why
}
