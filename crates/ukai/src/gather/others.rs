//! Other vantages: what the same addresses do for another network of ours.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ukai_core::diagnose::evidence::{Purpose, VantageView};

use super::question::QUERY_TIMEOUT;
use super::subject::{Subject, Vantage, join_all};
use super::{Order, resolve};

/// Each is asked once, all at the same time, about what we are led to and what is known of before. In peace nobody is asked.
pub async fn ask(vantage: &Vantage, subject: &Subject, order: &Order) -> Vec<VantageView> {
    if vantage.others.is_empty() || !matches!(order.purpose, Purpose::Diagnose | Purpose::Apply) {
        return Vec::new();
    }
    let resolution = resolve(&vantage.dns, &vantage.resolvers, &subject.host, QUERY_TIMEOUT).await;
    let addresses: BTreeSet<IpAddr> =
        resolution.addresses.into_iter().chain(order.also.iter().chain(&order.known).copied()).collect();
    let mut asked = Vec::new();
    for other in &vantage.others {
        asked.push(other.look(&subject.peer, addresses.clone()));
    }
    join_all(asked).await
}
