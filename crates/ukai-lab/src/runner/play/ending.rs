//! When a drill is over: what was expected has come, or will not come any more.

use std::net::SocketAddr;

use super::super::judge::{self, Check};
use super::super::operator::Cli;
use super::super::seen::{AfterHeal, Ms};
use super::super::{lookup, residue};
use super::{Done, Play, Step, ms};

/// After the last fault and the last turn of the daemon's mind this long must pass before "nothing" is an answer.
const SETTLE: Ms = 8_000;
/// Whatever is expected must have come by then, counted from the first healthy moment.
const HARD_END: Ms = 75_000;
/// … or, where the world changes late, so long after its last change.
const END_AFTER_LAST_STEP: Ms = 60_000;
/// What a kill may cost on top: the daemon comes up, and what it was looking at is looked at again.
const KILL_COSTS: Ms = 4_000;
/// Once everything is judged, how long the report of a healed incident is waited for.
const REPORT_WITHIN: Ms = 6_000;
/// Without a turn for so long, nothing more is coming: what does not hold by then does not hold.
const GIVE_UP: Ms = 3 * SETTLE;
/// Nor is it given up before that many probes could have been made: slow peers are watched slowly.
const GIVE_UP_PROBES: u32 = 8;
/// How often it is looked whether everything is as before, after the last heal.
const LOOK_EVERY: Ms = 700;

impl Play<'_> {
    pub(super) fn look_after_heal(&mut self, now: Ms) {
        let healed = self.seen.last_heal.is_some() && self.scenario.expect.after_heal.is_some();
        if !healed || now < self.looked_at + LOOK_EVERY || !self.background.is_empty() {
            return;
        }
        self.looked_at = now;
        let look = look(
            self.stage.cli.clone(),
            self.world.embedded_dns(),
            self.world.resolver(),
            self.scenario.host().to_owned(),
        );
        self.background.spawn(look);
    }

    pub(super) fn is_over(&self, now: Ms, zero: Ms) -> bool {
        if judge::wrong_override(self.scenario, &self.seen) && self.seen.served.is_some() {
            return true;
        }
        let last_step = self.scenario.faults.iter().chain(&self.scenario.heals).map(|step| ms(step.at)).max();
        let patience = ms(self.scenario.patience());
        let hard_end = HARD_END.max(last_step.unwrap_or(0) + END_AFTER_LAST_STEP + patience);
        if now >= zero + hard_end + KILL_COSTS * Ms::from(self.seen.kills) {
            return true;
        }
        let pending = self.agenda.iter().any(|(_, step)| matches!(step, Step::Fault(_) | Step::Heal(_)));
        let checks: Vec<Check> = judge::judge(self.scenario, &self.seen);
        if pending {
            return false;
        }
        if checks.iter().any(|check| !check.held) {
            return now >= self.given_up_at() && !self.waits_for_a_revert();
        }
        match self.seen.last_heal {
            None => now >= self.settled_at(),
            Some(heal) => self.is_told(now, heal),
        }
    }

    /// The world is healed, and the last bad answer has still to run out: a revert waits for its TTL.
    fn waits_for_a_revert(&self) -> bool {
        let wanted = self.scenario.expect.after_heal.as_ref().is_some_and(|after| after.reverted == Some(true));
        wanted && self.seen.last_heal.is_some() && self.seen.served_at().is_some() && !self.seen.override_ended()
    }

    fn settled_at(&self) -> Ms {
        self.last_change() + SETTLE
    }

    fn given_up_at(&self) -> Ms {
        let probes = ms(self.scenario.interval() * GIVE_UP_PROBES);
        self.last_change() + GIVE_UP.max(probes)
    }

    /// Of the world, or of the daemon's mind.
    fn last_change(&self) -> Ms {
        let world = self.seen.last_fault.max(self.seen.last_heal).unwrap_or(0);
        world.max(self.seen.last_turn())
    }

    /// A healed incident is closed and reported; for that the drill waits a little, and does not judge it.
    fn is_told(&self, now: Ms, heal: Ms) -> bool {
        if self.seen.opened_at().is_none() {
            return now >= heal + SETTLE;
        }
        let judged_at = self.seen.last_turn().max(heal);
        let told = !self.reports.is_empty()
            && (self.options.kill_after.is_none() || self.killer.is_done() && self.seen.not_arrived().is_empty());
        told || now >= judged_at + REPORT_WITHIN
    }
}

async fn look(cli: Cli, embedded: SocketAddr, resolver: SocketAddr, host: String) -> Done {
    let (ours, theirs) = tokio::join!(lookup::addresses(embedded, &host), lookup::addresses(resolver, &host));
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => Done::Looked(AfterHeal {
            answers_agree: ours == theirs && !ours.is_empty(),
            residue: residue::residue(&cli).await,
        }),
        _ => Done::Silent,
    }
}
