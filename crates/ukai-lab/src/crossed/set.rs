//! Every combination: each scenario as it is, with each modifier, and with pairs of them.

use std::time::Duration;

use super::change::last_fault;
use super::judge::rows;
use super::modifiers::{Gate, MODIFIERS, Modifier};
use super::staging::Staging;
use crate::scenario::Scenario;

/// What a file heals is healed so much later: a slow conclusion must not be overtaken by the end of the outage.
const HEALS_LATER: Duration = Duration::from_secs(240);

/// A scenario under conditions.
#[derive(Debug, Clone)]
pub struct Combination {
    pub staging: Staging,
    pub modifiers: Vec<&'static Modifier>,
    /// When the last fault of the file comes: from then on the modifiers are in force.
    pub from: Duration,
}

impl Combination {
    /// None: one of the modifiers has no meaning here.
    pub fn of(scenario: &Scenario, modifiers: &[&'static Modifier]) -> Option<Combination> {
        let from = last_fault(scenario);
        let mut staging = Staging::plain(scenario.clone());
        staging.scenario.heals.iter_mut().for_each(|heal| heal.at += HEALS_LATER);
        // What comes and goes does so with all that the others have put into it.
        let (last, first): (Vec<&&Modifier>, Vec<&&Modifier>) =
            modifiers.iter().partition(|modifier| is_flapping(modifier));
        let made = first.into_iter().chain(last).all(|modifier| (modifier.make)(&mut staging));
        (made && !contradict(&staging, modifiers)).then(|| Combination { staging, modifiers: modifiers.to_vec(), from })
    }

    /// What all modifiers together leave of the gate.
    pub fn gate(&self) -> Gate {
        let by_row = rows(self).into_iter().filter_map(|row| row.gate);
        let by_modifier = self.modifiers.iter().map(|modifier| modifier.gate).max().unwrap_or(Gate::Holds);
        by_row.max().unwrap_or(by_modifier)
    }

    /// What ends the outage does not make everything whole.
    pub fn may_stay_broken(&self) -> bool {
        const BROKEN: [&str; 8] = [
            "heals-and-the-peer-dies",
            "and-the-peer-fails",
            "provider-down-at-apply",
            "clock-2h-behind",
            "clock-2h-ahead",
            "and-two-servers-are-silent",
            "resolver-truncates-tcp-blocked",
            "and-port-53-is-closed",
        ];
        self.modifiers.iter().any(|modifier| BROKEN.contains(&modifier.id))
    }

    /// The outage is over from time to time.
    pub fn comes_and_goes(&self) -> bool {
        self.modifiers.iter().any(|modifier| is_flapping(modifier))
    }

    pub fn name(&self) -> String {
        let modifiers: Vec<&str> = self.modifiers.iter().map(|modifier| modifier.id).collect();
        match modifiers.is_empty() {
            true => self.staging.scenario.id.clone(),
            false => format!("{} × {}", self.staging.scenario.id, modifiers.join(" × ")),
        }
    }
}

/// Each scenario plain, with every modifier, and with `pairs` pairs of them that the seed picks.
pub fn crossed(scenarios: &[Scenario], seed: u64, pairs: usize) -> Vec<Combination> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut all = Vec::new();
    for scenario in scenarios {
        all.extend(Combination::of(scenario, &[]));
        all.extend(MODIFIERS.iter().filter_map(|modifier| Combination::of(scenario, &[modifier])));
        let mut drawn: Vec<(usize, usize)> = Vec::new();
        // Many draws have no meaning for a scenario; so many find enough that have.
        for _ in 0..pairs * 20 {
            let (first, second) = (rng.usize(0..MODIFIERS.len()), rng.usize(0..MODIFIERS.len()));
            let pair = (first.min(second), first.max(second));
            if first == second || drawn.contains(&pair) || drawn.len() == pairs {
                continue;
            }
            if let Some(combination) = Combination::of(scenario, &[&MODIFIERS[pair.0], &MODIFIERS[pair.1]]) {
                drawn.push(pair);
                all.push(combination);
            }
        }
    }
    all
}

fn is_flapping(modifier: &Modifier) -> bool {
    modifier.id.starts_with("flapping")
}

/// Modifiers that cannot hold together: what has gone away for good does not come back; two name servers lost by two
/// modifiers are another modifier; and what a server says is nothing to somebody who cannot ask it.
fn contradict(staging: &Staging, modifiers: &[&'static Modifier]) -> bool {
    let begin = |with: &str| modifiers.iter().filter(|modifier| modifier.id.starts_with(with)).count();
    let clears = staging.then.as_ref().is_some_and(|then| then.clears);
    let servers = begin("and-a-server") + begin("and-two-servers");
    begin("flapping") > 0 && clears || servers > 1 || servers + begin("and-port-53") > 1
}
