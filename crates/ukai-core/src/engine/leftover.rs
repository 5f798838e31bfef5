//! What is over and stands all the same, because it cannot be taken away: a person must hear of it, for nobody else ends it.
//!
//! Two sources tell of it: the provider's listing, whose mark is ours although the log says that it ended, and the lease keeper,
//! which also finds addresses of ours whose mark somebody took away.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};

use super::change::CHANGE_LOST_S;
use super::notices::Notice;
use super::{Engine, Turn, later};
use crate::diagnose::reading::list;
use crate::effect::Effect;
use crate::event::{Event, NotificationKind};
use crate::input::{ServedNow, StuckLease};

/// What went away and came back is told of again after this.
const TOLD_AGAIN: SignedDuration = SignedDuration::from_hours(1);

/// As the provider lists it, and what was done about it.
#[derive(Debug, Clone)]
pub(super) struct Leftover {
    served: ServedNow,
    /// When its withdrawal is asked for again.
    again: Timestamp,
    /// Why the last try failed.
    why: Option<String>,
    told: Option<Told>,
}

/// What the keeper could not end.
#[derive(Debug, Clone)]
pub(super) struct Stuck {
    lease: StuckLease,
    is_told: bool,
}

/// A page wakes somebody: what was only worth knowing may become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Told {
    Information,
    Page,
}

/// For people: an override that is over and may still be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Residue {
    pub id: String,
    pub host: String,
    /// What is answered for the host, as far as it is known.
    pub addresses: BTreeSet<IpAddr>,
    /// Why it could not be taken away.
    pub why: String,
}

impl Engine {
    /// Overrides that are over and still stand, by id: those that a try could not take away.
    pub fn residues(&self) -> Vec<Residue> {
        let failed = self.live.leftovers.values().filter_map(|left| Some((&left.served, left.why.clone()?)));
        let listed = failed.map(|(served, why)| Residue {
            id: served.id.clone(),
            host: served.host.clone(),
            addresses: served.addresses.clone(),
            why,
        });
        let is_listed = |id: &String| self.live.leftovers.get(id).is_some_and(|left| left.why.is_some());
        let is_new = |stuck: &&Stuck| stuck.is_told && !is_listed(&stuck.lease.id);
        let kept = self.live.stuck.values().filter(is_new).map(|stuck| Residue {
            id: stuck.lease.id.clone(),
            host: stuck.lease.host.clone(),
            addresses: BTreeSet::new(),
            why: stuck.lease.why.clone(),
        });
        listed.chain(kept).collect()
    }

    /// What ended and is served all the same. A listing comes every few seconds, a withdrawal may take a minute.
    pub(super) fn withdraw_leftover(&mut self, turn: &mut Turn, served: &ServedNow) {
        let again = turn.after(CHANGE_LOST_S);
        match self.live.leftovers.get_mut(&served.id) {
            Some(left) if left.served.generation == served.generation => {
                left.served = served.clone();
                if turn.now < left.again {
                    return;
                }
                left.again = again;
            }
            _ => {
                let left = Leftover { served: served.clone(), again, why: None, told: None };
                self.live.leftovers.insert(served.id.clone(), left);
            }
        }
        turn.effect(Effect::Withdraw {
            id: served.id.clone(),
            generation: served.generation,
            why: "its life ended, but the provider still served it".to_owned(),
        });
    }

    /// A person has mended something: the next try is now. False: nothing of it is known to stand.
    pub(super) fn try_leftover_again(&mut self, turn: &mut Turn, id: &str) -> bool {
        let Some(left) = self.live.leftovers.get_mut(id) else { return false };
        left.again = turn.now;
        let served = left.served.clone();
        self.withdraw_leftover(turn, &served);
        true
    }

    /// What came of it. That it is gone, the next listing says.
    pub(super) fn leftover_withdrawn(
        &mut self,
        turn: &mut Turn,
        id: &str,
        generation: u64,
        result: Result<(), String>,
    ) {
        let (Some(left), Err(detail)) = (self.live.leftovers.get_mut(id), result) else { return };
        if left.served.generation != generation {
            return;
        }
        left.why = Some(detail.clone());
        // The name leads to what is served there: what is only a mark leads nobody astray.
        let tell = if left.served.addresses.is_empty() { Told::Information } else { Told::Page };
        if left.told.is_some_and(|told| told >= tell) {
            return;
        }
        left.told = Some(tell);
        let served = match left.served.addresses.is_empty() {
            true => "a mark of it".to_owned(),
            false => list(&left.served.addresses),
        };
        let host = left.served.host.clone();
        let text = format!(
            "{id} has ended, but {served} still stands in {} for {host} and cannot be taken away: {detail}. It is tried again until \
             it is gone; `ukai revert {id}` tries at once",
            self.provider()
        );
        self.tell_residue(turn, id, &host, text, tell);
    }

    /// All that the keeper cannot end now. What is being withdrawn is told of by its withdrawal.
    pub(super) fn leases_stuck(&mut self, turn: &mut Turn, leases: Vec<StuckLease>) {
        let mut before = std::mem::take(&mut self.live.stuck);
        for lease in leases {
            let key = (lease.id.clone(), lease.host.clone());
            let was_told = before.remove(&key).is_some_and(|stuck| stuck.is_told);
            let may_stand = self.state.overrides.get(&lease.id).is_some_and(|over| over.phase.may_stand());
            let is_listed = self.live.leftovers.get(&lease.id).is_some_and(|left| left.told == Some(Told::Page));
            if !was_told && !may_stand && !is_listed {
                let text = format!(
                    "the lease of {} for {} is over, but what it allowed cannot be taken out of {} and may still be answered: {}. It \
                     is tried again until it is gone",
                    lease.id,
                    lease.host,
                    self.provider(),
                    lease.why
                );
                self.tell_residue(turn, &lease.id, &lease.host, text, Told::Page);
            }
            self.live.stuck.insert(key, Stuck { lease, is_told: !may_stand });
        }
    }

    /// Told once by whichever source comes first, though what it says varies and listings come and go. Over restarts the log
    /// remembers the last trouble of each override.
    fn tell_residue(&mut self, turn: &mut Turn, id: &str, host: &str, text: String, tell: Told) {
        let key = (id.to_owned(), host.to_owned());
        self.live.residues_told.retain(|_, (_, at)| turn.now < later(*at, TOLD_AGAIN));
        if self.live.residues_told.get(&key).is_some_and(|(told, _)| *told >= tell) {
            return;
        }
        self.live.residues_told.insert(key, (tell, turn.now));
        let page = tell == Told::Page;
        let known = self.state.overrides.get(id).map(|over| (over.peer.clone(), over.incident.clone()));
        if self.state.overrides.get(id).is_some_and(|over| over.trouble.as_ref() == Some(&text)) {
            return;
        }
        let event = match known {
            Some(_) => Event::OverrideTroubled { id: id.to_owned(), reason: text.clone() },
            None => Event::Troubled { what: text.clone() },
        };
        self.record(turn, event);
        let of_host = || self.state.peers.iter().find(|(_, peer)| peer.host == host).map(|(name, _)| name.clone());
        let (peer, incident) = match known {
            Some((peer, incident)) => (peer, Some(incident)),
            None => (of_host().unwrap_or_default(), None),
        };
        let about = if peer.is_empty() { host } else { peer.as_str() };
        let subject = format!("{about}: {id} is over and still there");
        self.tell(turn, Notice { kind: NotificationKind::Trouble, peer, incident, page, subject, text });
    }
}
