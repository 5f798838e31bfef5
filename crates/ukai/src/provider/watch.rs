//! Watches a zone and its keeper, and tells the engine what stands there.

use std::collections::BTreeSet;
use std::time::Duration;

use std::sync::Arc;

use tokio::sync::mpsc;
use ukai_core::input::Input;

use super::Zone;
use super::embedded::Order;
use super::keeper::KeeperProcess;
use super::place::Found;

/// A serial is one small question.
const POLL: Duration = Duration::from_secs(5);
/// The whole zone is read again after so many polls, for whoever changes it without raising the serial.
const LOOK_ANYWAY: u32 = 12;

/// Until it is told to stop, or nobody is left to tell.
pub async fn watch(
    zone: Arc<Zone>,
    mut keeper: KeeperProcess,
    mut hosts: BTreeSet<String>,
    inputs: mpsc::Sender<Input>,
    mut orders: mpsc::Receiver<Order>,
) {
    let mut seen = Seen::default();
    let mut poll = tokio::time::interval(POLL);
    poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                None => return,
                Some(Order::Reconfigure { config, done }) => {
                    // The zone itself cannot be exchanged while it runs; which names are watched can.
                    hosts = watched(&config);
                    seen.version = None;
                    let _ = done.send(Ok(()));
                }
                Some(Order::Stop { done }) => {
                    let _ = done.send(keeper.stop_idle().await);
                    return;
                }
            },
            _ = poll.tick() => {
                let mut told = seen.keeper(&mut keeper).await;
                told.extend(seen.zone(&zone, &hosts).await);
                for input in told {
                    if inputs.send(input).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// The names that are peers'.
pub fn watched(config: &crate::config::Config) -> BTreeSet<String> {
    config.peers.iter().map(|peer| peer.host.clone()).filter(|host| host.parse::<std::net::IpAddr>().is_err()).collect()
}

/// What was seen and told, so that it is told once.
#[derive(Default)]
struct Seen {
    version: Option<u64>,
    found: Found,
    polls: u32,
    unreadable: bool,
    keeper_down: bool,
    keeper_trouble: Option<String>,
    foreign: BTreeSet<String>,
}

impl Seen {
    async fn keeper(&mut self, keeper: &mut KeeperProcess) -> Vec<Input> {
        let status = match keeper.client().list().await {
            Ok(status) => status,
            Err(error) => {
                let mut told = Vec::new();
                if !std::mem::replace(&mut self.keeper_down, true) {
                    told.push(troubled(format!("{error}; it is started again, and until then nothing is applied")));
                }
                if let Err(error) = keeper.revive().await {
                    tracing::warn!("{error:#}");
                }
                return told;
            }
        };
        let mut told = Vec::new();
        if std::mem::take(&mut self.keeper_down) {
            told.push(troubled(format!("the lease keeper answers again (process {})", status.process)));
        }
        if status.trouble.is_some() && status.trouble != self.keeper_trouble {
            told.extend(
                status.trouble.iter().map(|trouble| troubled(format!("a lease is over, and not ended: {trouble}"))),
            );
        }
        self.keeper_trouble = status.trouble;
        told
    }

    async fn zone(&mut self, zone: &Zone, hosts: &BTreeSet<String>) -> Vec<Input> {
        let mut told = Vec::new();
        match self.look(zone, hosts).await {
            Ok(()) => {
                if std::mem::take(&mut self.unreadable) {
                    told.push(troubled(format!("{} can be read again", zone.place())));
                }
                let new = self.found.foreign.iter().filter(|text| !self.foreign.contains(*text));
                told.extend(new.cloned().map(troubled));
                self.foreign = self.found.foreign.iter().cloned().collect();
                told.push(Input::ProviderListed { serving: self.found.serving() });
            }
            Err(text) => {
                self.version = None;
                if !std::mem::replace(&mut self.unreadable, true) {
                    told.push(troubled(format!("what stands in {} is not known now: {text}", zone.place())));
                }
            }
        }
        told
    }

    async fn look(&mut self, zone: &Zone, hosts: &BTreeSet<String>) -> Result<(), String> {
        let version = zone.place().version().await.map_err(|fault| fault.to_string())?;
        self.polls += 1;
        if version.is_some() && version == self.version && self.polls < LOOK_ANYWAY {
            return Ok(());
        }
        self.found = zone.look(hosts).await.map_err(|fault| fault.to_string())?;
        (self.version, self.polls) = (version, 0);
        Ok(())
    }
}

fn troubled(what: String) -> Input {
    Input::Troubled { what }
}
