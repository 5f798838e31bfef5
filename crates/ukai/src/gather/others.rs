//! Other vantages: what the same addresses do for another network of ours.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;
use ukai_core::diagnose::evidence::{Purpose, Source, VantageView};

use super::candidates::Named;
use super::question::QUERY_TIMEOUT;
use super::subject::{Subject, Vantage, join_all};
use super::{Order, resolve};
use crate::vantage::ADDRESSES_MAX;

/// By then the authorities have usually named their addresses, and the vantages still have the time they need.
const ASKED_AFTER: Duration = Duration::from_millis(600);
/// Of the addresses that are asked about, for those that our resolver names: a flood must not crowd the others out.
const OURS_MAX: usize = ADDRESSES_MAX / 2;

/// Each is asked once, all at the same time, about what we are led to, what is known of before and what was named so far.
/// In peace nobody is asked.
pub async fn ask(
    vantage: &Vantage,
    subject: &Subject,
    order: &Order,
    named: &Named,
    deadline: Instant,
) -> Vec<VantageView> {
    if vantage.others.is_empty() || !matches!(order.purpose, Purpose::Diagnose | Purpose::Apply) {
        return Vec::new();
    }
    let (resolution, ()) = tokio::join!(
        resolve(&vantage.dns, &vantage.resolvers, &subject.host, QUERY_TIMEOUT),
        tokio::time::sleep(ASKED_AFTER),
    );
    let addresses = worth_asking(&resolution.addresses, order, named);
    let asked = vantage.others.iter().map(|other| other.look(&subject.peer, addresses.clone(), deadline));
    join_all(asked).await
}

/// Our own path first, then what an operator or an override names, what the authorities say, and what else there is.
fn worth_asking(ours: &[IpAddr], order: &Order, named: &Named) -> BTreeSet<IpAddr> {
    let named = named.so_far();
    let by_authority = |by: bool| {
        let of = named.iter().filter(move |(_, sources)| sources.contains(&Source::Authority) == by);
        of.map(|(address, _)| address)
    };
    let wanted = ours.iter().take(OURS_MAX).chain(&order.also).chain(by_authority(true));
    let mut worth = BTreeSet::new();
    for address in wanted.chain(&order.known).chain(by_authority(false)) {
        if worth.len() < ADDRESSES_MAX {
            worth.insert(*address);
        }
    }
    worth
}
