//! A client that asks the daemon's DNS server for the peer again and again, as impatient as any application.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::lookup;

const EVERY: Duration = Duration::from_millis(50);
/// Ten minutes of asking; no drill is as long.
const POLLS_MAX: usize = 12_000;

/// One question, for both families, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poll {
    pub asked: Timestamp,
    pub answered: Timestamp,
    /// None: no answer, or none that could be read.
    pub addresses: Option<BTreeSet<IpAddr>>,
}

/// Asks until it is dropped.
#[derive(Debug)]
pub struct Vigil {
    polls: Arc<Mutex<Vec<Poll>>>,
    _task: JoinSet<()>,
}

impl Vigil {
    pub fn start(server: SocketAddr, host: String) -> Vigil {
        let polls = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&polls);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut ticks = interval(EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            for _ in 0..POLLS_MAX {
                ticks.tick().await;
                let asked = Timestamp::now();
                let addresses = lookup::addresses(server, &host).await.ok();
                let poll = Poll { asked, answered: Timestamp::now(), addresses };
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(poll);
            }
        });
        Vigil { polls, _task: task }
    }

    pub fn polls(&self) -> Vec<Poll> {
        self.polls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
