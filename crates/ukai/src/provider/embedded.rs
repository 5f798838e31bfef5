//! The embedded DNS server as the engine's zone provider: changed with compare and swap, listed, watched, revived.
//!
//! The engine's time may be ahead of the machine's, never behind it. The DNS process ends leases by the machine's, so what
//! is handed over is how long a lease still lasts, and what is listed says the end by the machine's clock.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use ukai_core::effect::ServedOverride;
use ukai_core::input::{Input, ServedNow};
use ukai_dns::Name;
use ukai_dns::server::{ControlClient, ControlError, Ended, OverrideRecord, Status};

use crate::config::Config;
use crate::dns_process::DnsProcess;

/// How long a DNS process that died is not missed: applications resolve with it. A look costs next to nothing.
const POLL: Duration = Duration::from_secs(1);
/// A change is idempotent, so one that got no answer is made again.
const TRIES: usize = 3;
const TRY_SPACING: Duration = Duration::from_millis(300);

/// Makes the server serve exactly this. `now` is the engine's.
pub async fn apply(control: &ControlClient, served: &ServedOverride, now: Timestamp) -> Result<(), String> {
    let record = record(served, now, Timestamp::now())?;
    let mut result = Ok(());
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::time::sleep(TRY_SPACING).await;
        }
        result = apply_once(control, &record, served.replaces_generation).await;
        if !is_worth_repeating(&result) {
            break;
        }
    }
    result.map_err(|error| error.to_string())
}

async fn apply_once(
    control: &ControlClient,
    record: &OverrideRecord,
    replaces_generation: Option<u64>,
) -> Result<(), ControlError> {
    if stands(control, record).await? {
        return Ok(());
    }
    match control.set(record.clone(), replaces_generation).await {
        // The very same may have been on its way from a controller that was killed, and have come first.
        Err(ControlError::Refused(refusal)) => match stands(control, record).await? {
            true => Ok(()),
            false => Err(refusal.into()),
        },
        result => result,
    }
}

async fn stands(control: &ControlClient, record: &OverrideRecord) -> Result<bool, ControlError> {
    Ok(control.list().await?.overrides.iter().any(|standing| is_same(standing, record)))
}

/// Makes the server stop serving it.
pub async fn withdraw(control: &ControlClient, id: &str, generation: u64, why: &str) -> Result<(), String> {
    let mut result = Ok(());
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::time::sleep(TRY_SPACING).await;
        }
        result = control.clear(id, Some(generation), why).await;
        if !is_worth_repeating(&result) {
            break;
        }
    }
    result.map_err(|error| error.to_string())
}

fn is_worth_repeating(result: &Result<(), ControlError>) -> bool {
    matches!(result, Err(ControlError::Unreachable { .. } | ControlError::Timeout { .. }))
}

fn record(served: &ServedOverride, now: Timestamp, wall: Timestamp) -> Result<OverrideRecord, String> {
    let name: Name = served.host.parse().map_err(|error| format!("{} cannot be served: {error}", served.host))?;
    let mut record = OverrideRecord {
        id: served.id.clone(),
        name,
        a: Vec::new(),
        aaaa: Vec::new(),
        ttl: served.ttl_s,
        expires_at: expires_at(served.expires_at, now, wall),
        incident: served.incident.clone(),
        generation: served.generation,
        set_at: wall,
    };
    for address in &served.addresses {
        match address {
            IpAddr::V4(v4) => record.a.push(*v4),
            IpAddr::V6(v6) => record.aaaa.push(*v6),
        }
    }
    Ok(record)
}

/// By the machine's clock, as long after its present as the lease still lasts, and never later than the engine says.
pub(super) fn expires_at(at: Timestamp, now: Timestamp, wall: Timestamp) -> Timestamp {
    wall.checked_add(at.duration_since(now)).map_or(at, |by_wall| by_wall.min(at))
}

/// The same but for when it was set and ends: a generation has one lease, and only its end by the machine's clock differs
/// from one try to the next.
fn is_same(standing: &OverrideRecord, wanted: &OverrideRecord) -> bool {
    OverrideRecord { set_at: wanted.set_at, expires_at: wanted.expires_at, ..standing.clone() } == *wanted
}

pub fn serving(status: &Status) -> Vec<ServedNow> {
    status
        .overrides
        .iter()
        .map(|record| ServedNow {
            id: record.id.clone(),
            host: record.name.to_string(),
            generation: record.generation,
            addresses: record.addresses().collect(),
            expires_at: record.expires_at,
        })
        .collect()
}

/// What a controller asks of the task that holds the DNS process.
pub enum Order {
    Reconfigure { config: Box<Config>, done: oneshot::Sender<anyhow::Result<()>> },
    Stop { done: oneshot::Sender<anyhow::Result<()>> },
}

/// Watches the DNS process until it is told to stop it, or until nobody is left to tell.
pub async fn watch(mut process: DnsProcess, inputs: mpsc::Sender<Input>, mut orders: mpsc::Receiver<Order>) {
    let mut told = Told::default();
    let mut poll = tokio::time::interval(POLL);
    poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                None => return,
                Some(Order::Reconfigure { config, done }) => {
                    // Whoever asked may have stopped waiting; the configuration is in force all the same.
                    let _ = done.send(process.reconfigure(&config).await);
                }
                Some(Order::Stop { done }) => {
                    let _ = done.send(process.stop().await);
                    return;
                }
            },
            _ = poll.tick() => {
                for input in look(&mut process, &mut told).await {
                    if inputs.send(input).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// What was told already, so that it is told once.
#[derive(Default)]
struct Told {
    /// Bounded by what the server remembers of ended overrides.
    ended: BTreeSet<(String, u64)>,
    down: bool,
    damaged: bool,
}

async fn look(process: &mut DnsProcess, told: &mut Told) -> Vec<Input> {
    let mut inputs = Vec::new();
    let status = match process.control().list().await {
        Ok(status) => status,
        Err(error) => {
            if !told.down {
                told.down = true;
                inputs.push(Input::Troubled {
                    what: format!("the DNS process does not answer: {error}; it is started again"),
                });
            }
            if let Err(error) = process.revive().await {
                tracing::warn!(error = format!("{error:#}"), "the DNS process is still down");
            }
            return inputs;
        }
    };
    if std::mem::take(&mut told.down) {
        inputs.push(Input::Troubled { what: format!("the DNS process answers again (process {})", status.process) });
    }
    if let Some(damage) = &status.damaged
        && !std::mem::replace(&mut told.damaged, true)
    {
        inputs.push(Input::Troubled { what: damage.clone() });
    }
    inputs.push(Input::ProviderListed { serving: serving(&status) });
    inputs.extend(status.ended.iter().filter(|ended| ended.expired).filter_map(|ended| told.ended(ended)));
    let remembered: BTreeSet<_> = status.ended.iter().map(key).collect();
    told.ended.retain(|ended| remembered.contains(ended));
    inputs
}

impl Told {
    fn ended(&mut self, ended: &Ended) -> Option<Input> {
        self.ended.insert(key(ended)).then(|| Input::ProviderEnded {
            id: ended.id.clone(),
            why: ended.why.clone(),
            offline_by: None,
        })
    }
}

fn key(ended: &Ended) -> (String, u64) {
    (ended.id.clone(), ended.generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served() -> ServedOverride {
        ServedOverride {
            id: "o-1".into(),
            incident: "i-1".into(),
            host: "api.peer.test".into(),
            addresses: BTreeSet::from(["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()]),
            ttl_s: 10,
            expires_at: Timestamp::from_second(2_000_000_000).unwrap(),
            generation: 2,
            replaces_generation: Some(1),
        }
    }

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn families_part_and_come_together_again() {
        let record = record(&served(), Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!((record.a.len(), record.aaaa.len()), (1, 1));
        let addresses: BTreeSet<IpAddr> = record.addresses().collect();
        assert_eq!(addresses, served().addresses);
    }

    #[test]
    fn a_repetition_at_another_time_is_the_same() {
        let made = |served: &ServedOverride, now, wall| record(served, second(now), second(wall)).unwrap();
        let first = made(&served(), 1_999_999_000, 1_999_990_000);
        let again = made(&served(), 1_999_999_009, 1_999_990_010);
        assert_ne!(first.expires_at, again.expires_at);
        assert!(is_same(&first, &again));
        let other = made(&ServedOverride { generation: 3, ..served() }, 1_999_999_009, 1_999_990_009);
        assert!(!is_same(&first, &other));
        let addresses = BTreeSet::from(["192.0.2.9".parse().unwrap()]);
        assert!(!is_same(&first, &made(&ServedOverride { addresses, ..served() }, 1_999_999_000, 1_999_990_000)));
    }

    #[test]
    fn what_is_left_of_a_lease_counts_and_not_the_clock() {
        let ends = |now, wall| record(&served(), second(now), second(wall)).unwrap().expires_at.as_second();
        assert_eq!(ends(1_999_999_400, 1_999_999_400), 2_000_000_000);
        assert_eq!(
            ends(1_999_999_400, 1_999_900_000),
            1_999_900_600,
            "the engine is ahead of a clock that was set back"
        );
        assert_eq!(ends(1_999_999_400, 1_999_999_900), 2_000_000_000, "never longer than the engine's");
        assert_eq!(ends(2_000_000_010, 1_999_900_000), 1_999_899_990, "a lease that is over stays over");
    }

    #[test]
    fn an_end_is_told_once() {
        let ended = Ended {
            id: "o-1".into(),
            name: "api.peer.test".parse().unwrap(),
            incident: "i-1".into(),
            generation: 1,
            at: Timestamp::UNIX_EPOCH,
            why: "the lease ran out".into(),
            expired: true,
        };
        let mut told = Told::default();
        assert!(told.ended(&ended).is_some());
        assert!(told.ended(&ended).is_none());
    }
}
