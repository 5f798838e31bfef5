//! Watches a zone and its keeper, and tells the engine what stands there.

use std::collections::BTreeSet;
use std::time::Duration;

use std::sync::Arc;

use tokio::sync::mpsc;
use ukai_core::input::Input;

use super::Zone;
use super::embedded::Order;
use super::keeper::{KeeperClient, KeeperError, KeeperProcess, Kept, Lease, doubt};
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
    /// Of the zone as it was read last.
    version: Option<u64>,
    /// Since then.
    polls: u32,
    unreadable: bool,
    keeper_down: bool,
    keeper_process: Option<u32>,
    /// Why it would not outlive us.
    doubt: Option<String>,
    keeper_trouble: Option<String>,
    /// Something that is over may still be answered.
    has_stuck: bool,
    foreign: BTreeSet<String>,
    lease_trouble: Option<String>,
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
        if self.keeper_process.replace(status.process) != Some(status.process)
            && let Some(doubt) = doubt(status.process).await
            && self.doubt.as_ref() != Some(&doubt)
        {
            tracing::warn!("{doubt}");
            told.push(troubled(doubt.clone()));
            self.doubt = Some(doubt);
        }
        if std::mem::take(&mut self.keeper_down) {
            told.push(troubled(format!("the lease keeper answers again (process {})", status.process)));
        }
        // What may still be answered is told by the engine, once, and to everybody who is to hear of it.
        if !status.stuck.is_empty() || std::mem::take(&mut self.has_stuck) {
            self.has_stuck = !status.stuck.is_empty();
            told.push(Input::LeasesStuck { leases: status.stuck.clone() });
        }
        if status.stuck.is_empty() && status.trouble.is_some() && status.trouble != self.keeper_trouble {
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
            Ok(found) => {
                zone.set_trouble(None);
                if std::mem::take(&mut self.unreadable) {
                    told.push(troubled(format!("{} can be read again", zone.place())));
                }
                // Only what was read now: an older listing would deny an override that was applied since.
                let Some(found) = found else { return told };
                told.extend(self.leases(&zone.keeper, &zone.place().to_string(), &found).await);
                let new = found.foreign.iter().filter(|text| !self.foreign.contains(*text));
                told.extend(new.cloned().map(troubled));
                self.foreign = found.foreign.iter().cloned().collect();
                told.push(Input::ProviderListed { serving: found.serving() });
            }
            Err(text) => {
                self.version = None;
                zone.set_trouble(Some(text.clone()));
                if !std::mem::replace(&mut self.unreadable, true) {
                    told.push(troubled(format!("what stands in {} is not known now: {text}", zone.place())));
                }
            }
        }
        told
    }

    /// None: nothing has changed, and it was not read.
    async fn look(&mut self, zone: &Zone, hosts: &BTreeSet<String>) -> Result<Option<Found>, String> {
        let version = zone.place().version().await.map_err(|fault| fault.to_string())?;
        self.polls += 1;
        if !self.is_to_be_read(version) {
            return Ok(None);
        }
        let found = zone.look(hosts).await.map_err(|fault| fault.to_string())?;
        // After a change it is read once more: what is missing is believed when it is missing twice in a row.
        let polls = if version == self.version { 0 } else { LOOK_ANYWAY };
        (self.version, self.polls) = (version, polls);
        Ok(Some(found))
    }

    fn is_to_be_read(&self, version: Option<u64>) -> bool {
        version.is_none() || version != self.version || self.polls >= LOOK_ANYWAY
    }

    /// What stands without a lease gets one again, and ends in time: its keeper may have lost its disk.
    async fn leases(&mut self, keeper: &KeeperClient, place: &str, found: &Found) -> Option<Input> {
        let trouble = hold_again(keeper, place, found)
            .await
            .err()
            .map(|error| format!("what stands in {place} may have no lease, and end only while ukai runs: {error}"));
        let new = trouble.clone().filter(|trouble| self.lease_trouble.as_ref() != Some(trouble));
        self.lease_trouble = trouble;
        new.map(troubled)
    }
}

async fn hold_again(keeper: &KeeperClient, place: &str, found: &Found) -> Result<(), KeeperError> {
    if found.ours.is_empty() {
        return Ok(());
    }
    // Asked after the zone was read: an override gets its lease before it is written.
    let kept = keeper.list().await?.leases;
    for lease in without_lease(found, &kept, place) {
        tracing::warn!(id = lease.id, host = lease.host, "an override stands without a lease; it gets one again");
        keeper.hold(&lease).await?;
    }
    Ok(())
}

fn without_lease(found: &Found, kept: &[Kept], place: &str) -> Vec<Lease> {
    let of_claims = found.ours.iter().map(|(claim, _)| Lease::of(claim, place.to_owned()));
    of_claims.filter(|lease| kept.iter().all(|kept| !kept.lease.is(lease))).collect()
}

fn troubled(what: String) -> Input {
    Input::Troubled { what }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::claim::tests::claim;

    #[test]
    fn the_zone_is_read_when_it_changed_once_more_after_that_and_now_and_then() {
        let mut seen = Seen { version: Some(7), polls: 1, ..Seen::default() };
        assert!(!seen.is_to_be_read(Some(7)));
        assert!(seen.is_to_be_read(Some(8)));
        assert!(seen.is_to_be_read(None), "nothing is known of when it changes");
        seen.polls = LOOK_ANYWAY;
        assert!(seen.is_to_be_read(Some(7)));
    }

    #[test]
    fn what_stands_without_a_lease_is_found() {
        let later = super::super::claim::Claim { generation: 2, ..claim() };
        let found =
            Found { ours: vec![(claim(), BTreeSet::new()), (later.clone(), BTreeSet::new())], ..Found::default() };
        let lease = Lease::of(&claim(), "here".to_owned());
        let kept = Kept { ends_at: lease.expires_at, lease, last_look: None };
        assert_eq!(without_lease(&found, &[kept], "here"), [Lease::of(&later, "here".to_owned())]);
    }
}
