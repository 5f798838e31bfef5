//! The normal path past our override: a probe of each endpoint, and what only shows when it is used further.

use std::net::IpAddr;

use jiff::Timestamp;
use ukai_core::diagnose::evidence::{Purpose, Reuse};
use ukai_core::observe::{Observation, Path};
use ukai_probe::Secrets;

use super::subject::{Subject, Vantage, Watched, join_all};

/// Addresses on which a connection is used twice: connections age at the peer, not at one of its machines.
const REUSED_MAX: usize = 2;

#[derive(Debug, Default)]
pub struct Walked {
    pub observations: Vec<Observation>,
    pub reuse: Vec<Reuse>,
}

pub async fn walk(vantage: &Vantage, subject: &Subject, purpose: Purpose, now: Timestamp) -> Walked {
    // While an override stands the application does not go there.
    let secrets = if purpose == Purpose::Standing { Secrets::Without } else { Secrets::With };
    let observations = vantage.observe_with(subject, Path::Bypass, secrets, now).await;
    if purpose != Purpose::Diagnose {
        return Walked { observations, ..Walked::default() };
    }
    let reuse = reuse(subject, &observations).await;
    Walked { observations, reuse }
}

/// Where a fresh connection is served.
async fn reuse(subject: &Subject, observations: &[Observation]) -> Vec<Reuse> {
    let results = observations.iter().flat_map(|observation| &observation.results);
    let served = distinct(results.filter(|result| result.is_success()).map(|result| result.address), REUSED_MAX);
    let mut asked = Vec::new();
    for address in served {
        asked.extend(subject.watched.iter().map(|watched| reuse_one(subject, watched, address)));
    }
    join_all(asked).await.into_iter().flatten().collect()
}

async fn reuse_one(subject: &Subject, watched: &Watched, address: IpAddr) -> Option<Reuse> {
    let (request, _) = watched.proof();
    subject.prober.reuse(&watched.endpoint, address, &request, &watched.timeouts).await
}

fn distinct(addresses: impl Iterator<Item = IpAddr>, most: usize) -> Vec<IpAddr> {
    let mut seen = Vec::new();
    for address in addresses {
        if seen.len() < most && !seen.contains(&address) {
            seen.push(address);
        }
    }
    seen
}
