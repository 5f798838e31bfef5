//! The time line, and when it is over; what a drill on real sockets does, with virtual time.

use std::collections::BTreeSet;
use std::time::Duration;

use ukai_core::event::Event;
use ukai_core::input::Input;
use ukai_core::overrides::Phase;
use ukai_lab::app::CallReport;
use ukai_lab::crossed::{Served, Turn};
use ukai_lab::runner::judge;
use ukai_lab::runner::seen::{AfterHeal, Answered};
use ukai_lab::scenario::{DaemonSignal, History, Moment, WorldChange};

use super::{Due, Ending, POLL_MS, Play, TICK_MS, app};
use crate::world::Ms;
use crate::world::zone::Kind;

/// Probes of a healthy peer that show that the daemon is at work, and by when it must be seen so.
const HEALTHY_PROBES: usize = 2;
const HEALTHY_WITHIN_MS: Ms = 60_000;
/// After the last fault and the last turn of the daemon's mind this long must pass before "nothing" is an answer.
const SETTLE_MS: Ms = 8_000;
const HARD_END_MS: Ms = 75_000;
const END_AFTER_LAST_STEP_MS: Ms = 60_000;
const GIVE_UP_MS: Ms = 3 * SETTLE_MS;
const GIVE_UP_PROBES: u32 = 8;
const LOOK_EVERY_MS: Ms = 700;
/// Once everything is judged, how long the report of a healed incident is waited for.
const REPORT_WITHIN_MS: Ms = 6_000;
/// Without a turn for so long nothing more is coming: a gathering that never came back is missed after two minutes.
const QUIET_MS: Ms = 150_000;
/// By then a run is over, whatever is still going on.
const SETTLED_BY_MS: Ms = 900_000;
/// What was true when the evidence was gathered may be served, and proved for half a minute, before it is known to be over.
const EVIDENCE_HOLDS_MS: Ms = 45_000;
const SECOND_MS: Ms = 1_000;
const SERVED_MS: Ms = 10;

pub fn ms(time: Duration) -> Ms {
    Ms::try_from(time.as_millis()).unwrap_or(Ms::MAX)
}

impl Play<'_> {
    pub(super) fn call(&mut self, place: usize) {
        let (report, took) = self.apps[place].call(&mut self.worlds[place], &mut self.embedded, self.now);
        self.queue.push(self.now + took, Due::Called(place, Box::new(report)));
        let every = ms(self.worlds[place].scenario.app.every).max(1);
        self.queue.push(self.now + took.max(every), Due::Call(place));
    }

    pub(super) fn called(&mut self, place: usize, report: CallReport) {
        self.seen[place].calls.push((self.now, report.clone()));
        if self.worlds[place].scenario.app.sign {
            let peer = self.worlds[place].peer();
            self.handle(Input::ApplicationCalled { peer, call: app::sign(&report) });
        }
    }

    /// What people do, and what the world does by itself, when the daemon does something.
    pub(super) fn turned(&mut self, place: usize, event: &Event) {
        let turn = match event {
            Event::IncidentOpened { .. } => {
                self.on(place, Moment::Alarm, None);
                None
            }
            Event::OverrideProposed { id, .. } => {
                self.on(place, Moment::Proposed, Some(id));
                Some(Turn::Proposed)
            }
            Event::OverrideApproved { .. } => Some(Turn::Approved),
            Event::ApplyStarted { .. } => Some(Turn::Applying),
            Event::Applied { id, .. } => {
                self.on(place, Moment::Applied, Some(id));
                None
            }
            Event::WithdrawStarted { id, .. } => {
                self.on(place, Moment::Reverting, Some(id));
                Some(Turn::Reverting)
            }
            Event::OverrideServed { .. } => {
                self.queue.push(self.now + SERVED_MS, Due::LookAtServed(place));
                Some(Turn::Served)
            }
            Event::ReportWritten { .. } => {
                self.reported[place] = true;
                None
            }
            _ => None,
        };
        let then = self.staging.then.as_ref().filter(|then| place == 0 && Some(then.on) == turn);
        if let Some(then) = then
            && !std::mem::replace(&mut self.has_turned, true)
        {
            self.pending += 1;
            // At once means before anything that the daemon does next.
            match ms(then.after) {
                0 => self.then(),
                after => self.queue.push(self.now + after, Due::Then),
            }
        }
    }

    pub(super) fn look_at_served(&mut self, place: usize) {
        let now = self.now;
        let world = &mut self.worlds[place];
        let answers = Kind::FAMILIES.map(|kind| self.embedded.answer(world, kind, now));
        let served: BTreeSet<Answered> = answers
            .iter()
            .flatten()
            .flat_map(|reply| &reply.addresses)
            .map(|address| Answered { address: *address, label: world.layout.label_of(*address).map(str::to_owned) })
            .collect();
        if place == 0 {
            let mut named = world.named();
            let lately = self.named.iter().filter(|(until, _)| now < *until + EVIDENCE_HOLDS_MS);
            named.extend(lately.flat_map(|(_, set)| set));
            let stood = |answered: &Answered| {
                let label = answered.label.clone()?;
                let host = world.state().hosts.get(&label).cloned().unwrap_or_default();
                let named = named.contains(&answered.address);
                Some(Served { at: now, label, behaviour: host.us, private: host.private, named })
            };
            self.served.extend(served.iter().filter_map(stood));
        }
        self.seen[place].served = Some(served);
    }

    pub(super) fn fault(&mut self, place: usize, number: usize) {
        self.pending = self.pending.saturating_sub(1);
        let Some(change) = self.worlds[place].scenario.faults.get(number).map(|fault| fault.change.clone()) else {
            return;
        };
        self.seen[place].first_fault.get_or_insert(self.now);
        self.seen[place].last_fault = Some(self.now);
        self.change(place, &change);
    }

    pub(super) fn heal(&mut self, place: usize, number: usize) {
        self.pending = self.pending.saturating_sub(1);
        let Some(change) = self.worlds[place].scenario.heals.get(number).map(|heal| heal.change.clone()) else {
            return;
        };
        self.healed(place, &change);
    }

    pub(super) fn then(&mut self) {
        self.pending = self.pending.saturating_sub(1);
        let Some(then) = self.staging.then.clone() else { return };
        if then.clears {
            self.cleared_at = Some(self.now);
            self.healed(0, &then.change);
        } else {
            self.change(0, &then.change);
        }
    }

    fn healed(&mut self, place: usize, change: &WorldChange) {
        self.seen[place].first_heal.get_or_insert(self.now);
        self.seen[place].last_heal = Some(self.now);
        self.change(place, change);
    }

    fn change(&mut self, place: usize, change: &WorldChange) {
        if place == 0 {
            let named = self.worlds[0].named();
            self.named.push((self.now, named));
        }
        self.worlds[place].change(change, self.now);
        if place == 0 {
            let shared = self.worlds[0].share();
            for world in self.worlds.iter_mut().skip(1) {
                world.change(&shared, self.now);
            }
        }
        if let Some(signal) = change.daemon {
            self.queue.push(self.now, Due::Signal(signal));
        }
    }

    pub(super) fn signal(&mut self, signal: DaemonSignal) {
        self.kill_daemon();
        if signal == DaemonSignal::Restart {
            self.start_daemon();
        }
    }

    /// The zone provider says what it serves, and what it ended by itself.
    pub(super) fn poll(&mut self) {
        self.queue.push(self.now + POLL_MS, Due::Poll);
        let stands = self
            .engine
            .as_ref()
            .is_some_and(|engine| engine.state().overrides.values().any(|over| over.phase.may_stand()));
        if stands || !self.embedded.is_empty() {
            let serving = self.embedded.serving(&self.worlds);
            self.handle(Input::ProviderListed { serving });
        }
        for id in self.embedded.take_expired(self.now) {
            self.handle(Input::ProviderEnded { id, why: "the lease ran out".to_owned(), offline_by: None });
        }
        self.worlds.iter().zip(&mut self.seen).for_each(|(world, seen)| seen.hosts.clone_from(&world.hosts));
    }

    pub(super) fn tick(&mut self) {
        self.queue.push(self.now + TICK_MS, Due::Tick);
        let Some(zero) = self.zero else { return self.wait_until_healthy() };
        self.look_after_heal();
        self.done = match self.ending {
            Ending::AsDrill => self.is_over_as_a_drill(zero),
            Ending::Settled => self.is_settled(zero),
        };
        if self.done {
            self.worlds.iter().zip(&mut self.seen).for_each(|(world, seen)| seen.hosts.clone_from(&world.hosts));
        }
    }

    fn wait_until_healthy(&mut self) {
        let healthy = (0..self.worlds.len()).all(|place| {
            let begins_broken = self.worlds[place].scenario.policy.history == History::None;
            let called = self.seen[place].calls.iter().any(|(_, call)| call.ok);
            let at_work = called && self.worlds[place].probed >= HEALTHY_PROBES;
            at_work || begins_broken && !self.seen[place].calls.is_empty()
        });
        if healthy {
            self.zero = Some(self.now);
            self.plan();
        } else if self.now >= HEALTHY_WITHIN_MS {
            self.done = true;
        }
    }

    fn plan(&mut self) {
        let zero = self.now;
        for place in 0..self.worlds.len() {
            let scenario = self.worlds[place].scenario.clone();
            for (number, fault) in scenario.faults.iter().enumerate() {
                self.queue.push(zero + ms(fault.at), Due::Fault(place, number));
            }
            for (number, heal) in scenario.heals.iter().enumerate() {
                self.queue.push(zero + ms(heal.at), Due::Heal(place, number));
            }
            self.pending += scenario.faults.len() + scenario.heals.len();
            for operator in &scenario.operators {
                if let Moment::At(at) = operator.on {
                    let due = Due::Deed { place, operator: *operator, over: None, tries: 0 };
                    self.queue.push(zero + ms(at + operator.wait), due);
                }
            }
            if scenario.faults.is_empty() {
                self.seen[place].first_fault = Some(zero);
                self.seen[place].last_fault = Some(zero);
            }
        }
    }

    fn look_after_heal(&mut self) {
        if self.now < self.looked_at + LOOK_EVERY_MS {
            return;
        }
        self.looked_at = self.now;
        for place in 0..self.worlds.len() {
            if self.seen[place].last_heal.is_some() {
                let now = self.now;
                let world = &mut self.worlds[place];
                let ours = Kind::FAMILIES.map(|kind| self.embedded.answer(world, kind, now));
                let theirs = Kind::FAMILIES.map(|kind| world.our_resolver_whole(kind, now));
                if ours.iter().chain(&theirs).any(Option::is_none) {
                    continue;
                }
                let set = |answers: &[Option<crate::world::zone::Reply>; 2]| -> BTreeSet<std::net::IpAddr> {
                    answers.iter().flatten().flat_map(|reply| reply.addresses.clone()).collect()
                };
                let (ours, theirs) = (set(&ours), set(&theirs));
                let answers_agree = ours == theirs && !ours.is_empty();
                self.seen[place].after_heal = Some(AfterHeal { answers_agree, residue: self.residue(place) });
            }
        }
    }

    fn residue(&self, place: usize) -> Vec<String> {
        let peer = self.worlds[place].peer();
        let Some(engine) = &self.engine else { return vec!["the daemon does not say what it holds".to_owned()] };
        let is_over =
            |phase: Phase| matches!(phase, Phase::Ended(_) | Phase::Rejected | Phase::Voided | Phase::Withheld);
        let held = engine.state().overrides.values().filter(|over| over.peer == peer && !is_over(over.phase));
        let held = held.map(|over| format!("the daemon still holds override {}", over.id));
        let host = &self.worlds[place].layout.host;
        let served = self.embedded.serving(&self.worlds).into_iter().filter(|over| over.host == *host);
        held.chain(served.map(|over| format!("the DNS server still serves override {}", over.id))).collect()
    }

    fn is_over_as_a_drill(&self, zero: Ms) -> bool {
        let (scenario, seen) = (&self.staging.scenario, &self.seen[0]);
        let last_step = scenario.faults.iter().chain(&scenario.heals).map(|step| ms(step.at)).max();
        let patience = ms(scenario.patience());
        let hard_end = HARD_END_MS.max(last_step.unwrap_or(0) + END_AFTER_LAST_STEP_MS + patience);
        if judge::wrong_override(scenario, seen) && seen.served.is_some() || self.now >= zero + hard_end {
            return true;
        }
        if self.pending > 0 {
            return false;
        }
        let world = seen.last_fault.max(seen.last_heal).unwrap_or(0);
        let last = world.max(seen.last_turn());
        if judge::judge(scenario, seen).iter().any(|check| !check.held) {
            let probes = ms(scenario.interval() * GIVE_UP_PROBES);
            let wanted = scenario.expect.after_heal.as_ref().is_some_and(|after| after.reverted == Some(true));
            let waits = wanted && seen.last_heal.is_some() && seen.served_at().is_some() && !seen.override_ended();
            return self.now >= last + GIVE_UP_MS.max(probes) && !waits;
        }
        match seen.last_heal {
            None => self.now >= last + SETTLE_MS,
            Some(heal) if seen.opened_at().is_none() => self.now >= heal + SETTLE_MS,
            Some(heal) => self.reported[0] || self.now >= seen.last_turn().max(heal) + REPORT_WITHIN_MS,
        }
    }

    fn is_settled(&self, zero: Ms) -> bool {
        if self.pending > 0 || self.now % SECOND_MS >= TICK_MS {
            return false;
        }
        let last = self.seen.iter().map(|seen| seen.last_fault.max(seen.last_heal).unwrap_or(0).max(seen.last_turn()));
        // An override goes when the last bad answer has run out everywhere, which may take its whole TTL.
        let healed = self.seen.iter().any(|seen| seen.last_heal.is_some());
        let stands = healed && !self.embedded.is_empty();
        self.now >= last.max().unwrap_or(0) + QUIET_MS && !stands || self.now >= zero + SETTLED_BY_MS
    }
}
