//! Plays one scenario against the very daemon that `ukai run` runs, and judges what was seen.
//!
//! Nothing in the path is special to a drill. The runner opens the [`World`](crate::world::World), writes an ordinary
//! `ukai.toml`, starts `ukai run` and the application as processes, follows `ukai events`, and lets operators act by
//! `ukai approve` and its like. It then plays the faults and the heals at their times, counted from the moment when the
//! peer was seen healthy by both the daemon and the application.
//!
//! - [`catalogue`] holds the scenarios that are built in.
//! - [`play`] is the time line: what happens when, and when the drill is over.
//! - [`stage`] holds the processes, and takes them down however the drill ends.
//! - [`seen`] is what was observed, from outside: the daemon's events, the application's own calls, the webhook, the
//!   hosts' request logs, the answers of the DNS server.
//! - [`judge`] compares it with what the file expects. It is pure.
//! - `advice` is what must be recommended for each cause, `beside` what an override must not hide.
//! - [`kills`] has the controller killed at chosen events, [`vigil`] watches its DNS server meanwhile, [`replay`] reads
//!   its log, and [`endured`] judges what came of it.
//!
//! Only what the file states is checked. An override that is served and not expected is a *wrong override* and fails the
//! drill outright, whatever else held; one that is expected and never served is *missed*.

mod advice;
mod beside;
pub mod catalogue;
mod endured;
pub mod judge;
pub mod kills;
mod lookup;
mod operator;
mod play;
mod provider;
mod replay;
mod residue;
pub mod seen;
mod stage;
mod tell;
pub mod vigil;

use std::path::PathBuf;

use serde::Serialize;
use tokio::sync::watch;

use crate::scenario::{NO_VERDICT, Scenario};
use crate::servers::{Maker, Stack};
pub use judge::{Check, Times};
pub use kills::Kill;
pub use tell::{Change, DrillEvent, Told};

/// The code of a diagnosis that found no cause.
const UNKNOWN: &str = "open";

/// How a drill is run.
#[derive(Debug, Clone)]
pub struct DrillOptions {
    /// The product itself.
    pub ukai: PathBuf,
    pub keep: Keep,
    /// Whether the controller is killed on the way. Then more is expected than the file says.
    pub kill_after: Option<Kill>,
    /// Whose servers the override goes to. None: the daemon's own.
    pub servers: Option<Stack>,
    /// Becomes true when the drill is to end at once, as on Ctrl-C.
    pub stop: watch::Receiver<bool>,
}

/// What stays on disk of a drill that passed. One that failed keeps everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    Nothing,
    /// The incident's reports.
    Reports,
    Everything,
}

/// How a drill ended.
#[derive(Debug, Clone, Serialize)]
pub struct DrillOutcome {
    pub id: String,
    pub title: String,
    /// Every expectation held.
    pub passed: bool,
    pub checks: Vec<Check>,
    /// What went wrong with the drill itself.
    pub trouble: Option<String>,
    pub wrong_override: bool,
    pub missed_override: bool,
    /// What the file expects, as far as it says: any of these.
    pub expected: Expected,
    pub verdict: Option<String>,
    pub sure: Option<String>,
    pub action: String,
    /// Codes that were called proven on the way and are not right.
    pub wrongly_proven: Vec<String>,
    pub times: Times,
    /// How often the controller was killed because [`DrillOptions::kill_after`] asked for it.
    pub kills: u32,
    /// Programs that the override went to, and those that follow them; none where it was the daemon's own.
    pub servers: Vec<Maker>,
    /// Reports that are still there.
    pub reports: Vec<PathBuf>,
    /// Logs and data, if they were kept.
    pub directory: Option<PathBuf>,
}

/// Verdict, how sure, and action, each as any of these; empty where the file does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Expected {
    pub verdict: Vec<String>,
    pub sure: Vec<&'static str>,
    pub action: Vec<&'static str>,
}

impl Expected {
    pub fn of(scenario: &Scenario) -> Expected {
        let expect = &scenario.expect;
        Expected {
            verdict: expect.verdict.clone(),
            sure: expect.sure.iter().map(|sure| sure.as_str()).collect(),
            action: expect.action.iter().map(|action| action.as_str()).collect(),
        }
    }
}

impl DrillOutcome {
    /// Another cause than any that is right; to say that it is not known is none.
    pub fn wrong_verdict(&self) -> bool {
        let given = self.verdict.as_ref().filter(|given| *given != UNKNOWN);
        !self.expected.verdict.is_empty() && given.is_some_and(|given| !self.expected.verdict.contains(given))
    }

    /// There is a cause, and none was named.
    pub fn undecided(&self) -> bool {
        let said = self.verdict.as_deref().filter(|given| *given != UNKNOWN).unwrap_or(NO_VERDICT);
        said == NO_VERDICT && !self.expected.verdict.is_empty() && !self.expected.verdict.iter().any(|one| one == said)
    }

    /// Something wrong was called proven, in the end or on the way: the one thing that must never be.
    pub fn wrong_and_proven(&self) -> bool {
        !self.wrongly_proven.is_empty()
    }

    pub fn wrong_action(&self) -> bool {
        let right = self.expected.action.is_empty() || self.expected.action.contains(&self.action.as_str());
        self.wrong_override || self.missed_override || !right
    }
}

/// Plays a scenario to its end. Whatever happens, no process and no socket of it is left.
pub async fn run_drill(
    scenario: &Scenario,
    options: &DrillOptions,
    tell: &mut (dyn FnMut(Told) + Send),
) -> DrillOutcome {
    play::play(scenario, options, tell).await
}
