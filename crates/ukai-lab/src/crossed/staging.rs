//! How a scenario is played beyond what its file can say.

use std::time::Duration;

use crate::scenario::{Scenario, WorldChange};

/// A scenario with what happens around it. Times count from the first healthy moment, as in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Staging {
    pub scenario: Scenario,
    /// Another peer that is watched by the same daemon, and what happens to it.
    pub beside: Option<Scenario>,
    /// From when to when the prober gets nothing done: probes and gatherings that are begun then never come back.
    pub starved: Vec<(Duration, Duration)>,
    pub then: Option<Then>,
}

/// What happens when the daemon does something, once.
#[derive(Debug, Clone, PartialEq)]
pub struct Then {
    pub on: Turn,
    pub after: Duration,
    pub change: WorldChange,
    /// With it the fault is gone.
    pub clears: bool,
}

/// What the daemon does that something can happen at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// An override is proposed, and somebody thinks about it.
    Proposed,
    /// It is approved, and the guards are run once more.
    Approved,
    /// Every guard has passed, and it is being applied.
    Applying,
    /// It is served.
    Served,
    /// It is being taken back.
    Reverting,
}

impl Staging {
    /// The scenario as it stands in its file.
    pub fn plain(scenario: Scenario) -> Staging {
        Staging { scenario, beside: None, starved: Vec::new(), then: None }
    }
}
