//! The crossed set, played and judged.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use serde::Serialize;
use ukai_lab::crossed::judge::judge;
use ukai_lab::crossed::{Combination, Course, Judged};

use crate::play::{Ending, play};

/// What came of a set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Score {
    pub combinations: usize,
    pub verdicts_right: usize,
    pub wrong_and_proven: usize,
    pub wrong_actions: usize,
    pub open: usize,
    /// Open, and no row of the table says why that is honest.
    pub open_without_reason: usize,
}

/// Of every hundred verdicts at least so many must be right.
pub const RIGHT_OF_100: usize = 95;

impl Score {
    pub fn of(judged: &[Judged]) -> Score {
        let count = |is: fn(&Judged) -> bool| judged.iter().filter(|judged| is(judged)).count();
        Score {
            combinations: judged.len(),
            verdicts_right: count(|judged| judged.verdict_right),
            wrong_and_proven: count(|judged| judged.wrong_and_proven.is_some()),
            wrong_actions: count(|judged| judged.wrong_action.is_some()),
            open: count(|judged| judged.open),
            open_without_reason: count(|judged| judged.open && judged.open_because.is_none()),
        }
    }

    /// No wrong action, nothing wrong that is called proven, enough right verdicts, and a reason for each that is open.
    pub fn holds(&self) -> bool {
        self.wrong_actions == 0
            && self.wrong_and_proven == 0
            && self.open_without_reason == 0
            && self.verdicts_right * 100 >= self.combinations * RIGHT_OF_100
    }
}

/// Plays every combination, as many at a time as this machine has processors. The same seed gives the same result.
pub fn play_all(combinations: &[Combination], seed: u64, progress: impl Fn() + Sync) -> Vec<Judged> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(combinations.len()));
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(combination) = combinations.get(number) else { return };
                    let judged = play_one(combination, seed);
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((number, judged));
                    progress();
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, judged)| judged).collect()
}

pub fn play_one(combination: &Combination, seed: u64) -> Judged {
    let played = play(&combination.staging, seed, Ending::Settled);
    let course = Course { beside: played.beside.as_ref(), served: &played.served, cleared_at: played.cleared_at };
    judge(combination, &played.seen, course)
}
