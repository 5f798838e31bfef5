//! What the zone provider says it serves, and what it ended by itself.

use std::collections::BTreeSet;

use super::change::policy;
use super::{Engine, Turn};
use crate::diagnose::reading::list;
use crate::event::{Actor, Event};
use crate::input::ServedNow;
use crate::overrides::{EndReason, Phase};

impl Engine {
    /// What the provider serves, against what it should: drift is reported, not fought.
    pub(super) fn provider_listed(&mut self, turn: &mut Turn, serving: &[ServedNow]) {
        for served in serving {
            match self.state.overrides.get(&served.id).map(|over| over.phase) {
                Some(phase) if phase.may_stand() => self.note_drift(turn, served),
                Some(_) => self.withdraw_leftover(turn, served),
                None if self.live.unknown.insert(served.id.clone()) => {
                    let what = format!(
                        "{} serves {} for {}, which this log does not know; it is left alone until its lease ends",
                        self.provider(),
                        served.id,
                        served.host
                    );
                    self.record(turn, Event::Troubled { what });
                }
                None => {}
            }
        }
        self.live.leftovers.retain(|id, _| serving.iter().any(|served| served.id == *id));
        let listed: BTreeSet<&str> = serving.iter().map(|served| served.id.as_str()).collect();
        let absent: BTreeSet<String> = self
            .state
            .overrides
            .values()
            .filter(|over| match over.phase {
                Phase::Applied | Phase::Served | Phase::Confirmed => true,
                // The set from before stands until the next one does.
                Phase::Applying => over.served_at.is_some(),
                _ => false,
            })
            .filter(|over| !listed.contains(over.id.as_str()))
            .map(|over| over.id.clone())
            .collect();
        // Twice in a row: a listing may be older than an apply that it crossed.
        let gone: Vec<String> = absent.intersection(&self.live.absent).cloned().collect();
        self.live.absent = absent;
        for id in gone {
            let why = format!("{} no longer has it; somebody or something removed it", self.provider());
            self.record(
                turn,
                Event::WithdrawStarted { id: id.clone(), reason: EndReason::Withdrawn, by: policy(), why },
            );
            self.end(turn, &id, EndReason::Withdrawn);
        }
    }

    pub(super) fn provider(&self) -> &str {
        self.settings.zone.as_deref().unwrap_or("our DNS server")
    }

    /// The same override, but not what was asked for: told once, not fought.
    fn note_drift(&mut self, turn: &mut Turn, served: &ServedNow) {
        let Some(over) = self.state.overrides.get(&served.id) else { return };
        let settled = matches!(over.phase, Phase::Served | Phase::Confirmed);
        let same = over.generation == served.generation && over.addresses == served.addresses;
        if settled && !same && self.live.unknown.insert(format!("{} drifted", served.id)) {
            let what = format!(
                "{} serves {} for {} (generation {}), and the log says {} (generation {})",
                self.provider(),
                list(&served.addresses),
                served.host,
                served.generation,
                list(&over.addresses),
                over.generation
            );
            self.record(turn, Event::Troubled { what });
        }
    }

    /// The provider ended it by itself, or a person did so with the daemon dead.
    pub(super) fn provider_ended(&mut self, turn: &mut Turn, id: &str, why: &str, offline_by: Option<Actor>) {
        let Some(over) = self.state.overrides.get(id) else { return };
        if let (true, Some(by)) = (over.phase.is_pending(), &offline_by) {
            let (by, why) = (by.clone(), why.to_owned());
            self.record(turn, Event::OverrideRejected { id: id.to_owned(), by, why });
            return;
        }
        if !over.phase.may_stand() {
            return;
        }
        let reason = match (over.phase, &offline_by) {
            (Phase::Withdrawing(reason), _) => reason,
            (_, Some(_)) => EndReason::RevertedByPerson,
            (_, None) => EndReason::Expired,
        };
        if over.phase.stands() {
            self.record(
                turn,
                Event::WithdrawStarted {
                    id: id.to_owned(),
                    reason,
                    by: offline_by.unwrap_or_else(policy),
                    why: why.to_owned(),
                },
            );
        }
        self.end(turn, id, reason);
    }
}
