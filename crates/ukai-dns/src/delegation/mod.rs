//! Who speaks for a name: the walk from the root down the referrals, without anybody's cache in between.
//!
//! ```text
//! root ─referral─► test ─referral─► peer.test ─answer─► api.peer.test
//!                  parent            zone
//! ```
//!
//! The parent says who should answer, the zone's own servers say who does; the two are compared, and every server of either
//! is listed. What did not work on the way is a sentence in `problems`, not an error: a broken delegation is a finding.

mod authority;
mod canary;
mod descent;
mod glue;
mod hints;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use authority::{AuthorityAnswer, AuthorityOptions, ask_authorities};
pub use canary::{Canary, canary};
pub use hints::{ROOT_SERVERS, RootServer, root_hints};

use crate::client::Client;
use crate::message::Reply;
use crate::name::Name;
use crate::types::Rcode;
use descent::{Descent, Walker};

/// CNAMEs that lead from one zone to the next; resolvers give up at about the same.
const MAX_ZONES_IN_CHAIN: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalkOptions {
    pub root_hints: Vec<IpAddr>,
    /// 53 everywhere but in a lab.
    pub authority_port: u16,
    /// For the whole walk.
    pub bound: Duration,
    pub query_timeout: Duration,
    /// Real trees have at most five cuts above a name.
    pub max_referrals: usize,
    /// Addresses asked or listed for one zone; real zones have up to 13 names.
    pub max_servers: usize,
}

impl Default for WalkOptions {
    fn default() -> Self {
        Self {
            root_hints: root_hints(),
            authority_port: 53,
            bound: Duration::from_secs(10),
            query_timeout: Duration::from_secs(2),
            max_referrals: 16,
            max_servers: 16,
        }
    }
}

/// Who speaks for a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegation {
    pub host: Name,
    /// The zone that holds the host, or the deepest one that was found.
    pub zone: Name,
    /// Whether a server of the zone gave an authoritative answer.
    pub complete: bool,
    pub parent: Parent,
    /// Name servers by the parent's referral, sorted.
    pub parent_ns: Vec<Name>,
    /// Name servers by the zone's own apex, sorted; empty when none of its servers said.
    pub child_ns: Vec<Name>,
    pub servers: Vec<Authority>,
    /// Set when a zone above denied that the branch exists, or could only answer with an error.
    pub parent_says: Option<Rcode>,
    /// Whether the parent holds a DS record: clients that validate will take an override for a forgery.
    pub signed: bool,
    /// The CNAMEs met, in order, inside the zone and out of it.
    pub aliases: Vec<Alias>,
    /// The delegations of the zones that the CNAMEs lead into, in order.
    pub chain: Vec<Delegation>,
    pub problems: Vec<String>,
}

impl Delegation {
    /// The delegation whose zone holds the addresses: the last of the chain.
    pub fn target(&self) -> &Self {
        self.chain.last().unwrap_or(self)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    pub zone: Name,
    /// The servers that answered, or failed to, before one was useful.
    pub servers: Vec<SocketAddr>,
}

/// One address of one name server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Authority {
    pub name: Name,
    pub address: SocketAddr,
    /// Whether the parent refers to it; a server that only the zone itself names is not counted on.
    pub delegated: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alias {
    pub name: Name,
    pub target: Name,
}

/// Walks from the root to the zone that holds `host`, and on along CNAMEs that leave it, each believed from one answer.
pub async fn walk(client: &Client, host: &Name, options: &WalkOptions) -> Delegation {
    let walker = Arc::new(Walker::new(client.clone(), options.clone()));
    let (mut delegation, mut reply) = walk_one(&walker, host).await;
    let mut seen = BTreeSet::from([host.clone()]);
    let mut zone = delegation.zone.clone();
    while let Some(target) = next_target(&mut delegation, reply.as_ref(), &zone) {
        if !seen.insert(target.clone()) {
            delegation.problems.push(format!("the CNAMEs come back to {target}"));
            break;
        }
        if delegation.chain.len() >= MAX_ZONES_IN_CHAIN {
            delegation.problems.push(format!("the CNAMEs lead through more than {MAX_ZONES_IN_CHAIN} zones"));
            break;
        }
        let (next, next_reply) = walk_one(&walker, &target).await;
        zone = next.zone.clone();
        delegation.chain.push(next);
        reply = next_reply;
    }
    delegation
}

/// Walks to the zone that holds `host`, and no further: where a CNAME leads out of it, `aliases` tells what one server said
/// over UDP. Whoever follows it asks all of them first.
pub async fn walk_zone(client: &Client, host: &Name, options: &WalkOptions) -> Delegation {
    let walker = Arc::new(Walker::new(client.clone(), options.clone()));
    let (mut delegation, reply) = walk_one(&walker, host).await;
    let zone = delegation.zone.clone();
    // Noted among the aliases; following it is the caller's.
    let _ = next_target(&mut delegation, reply.as_ref(), &zone);
    delegation
}

/// Notes the CNAMEs of one answer, and tells where they lead when this zone does not hold the end.
fn next_target(delegation: &mut Delegation, reply: Option<&Reply>, zone: &Name) -> Option<Name> {
    let reply = reply?;
    let mut name = reply.question.name.clone();
    for target in reply.cname_chain() {
        delegation.aliases.push(Alias { name, target: target.clone() });
        name = target.clone();
        // What a server says beyond its own zone is not authoritative, whatever its flags.
        if !target.is_at_or_below(zone) {
            return Some(target);
        }
    }
    (name != reply.question.name && reply.addresses().is_empty() && reply.rcode == Rcode::NOERROR).then_some(name)
}

async fn walk_one(walker: &Arc<Walker>, host: &Name) -> (Delegation, Option<Reply>) {
    let descent = Arc::clone(walker).descend(host.clone(), 0).await;
    let Descent { zone, parent, mut problems, answer, .. } = descent;
    let parent_says = match &answer {
        Some(reply) => walker.denial(host, &zone, reply).await,
        None => descent.error.filter(|_| zone.name.label_count() <= 1),
    };
    let child_ns = if answer.is_some() { walker.child_servers(&zone).await } else { Vec::new() };
    let mut servers = zone.servers.clone();
    let glue = glue::compare(walker, &parent.zone, &zone, answer.is_some()).await;
    problems.extend(glue.problems);
    servers.extend(glue.servers);
    for name in &child_ns {
        if !servers.iter().any(|server| server.name == *name) {
            let found = walker.host(name, 0).await.addresses;
            let delegated = zone.ns.contains(name);
            servers.extend(found.into_iter().map(|address| Authority { name: name.clone(), address, delegated }));
        }
    }
    problems.extend(glue::without(walker, &zone, &servers));
    if !child_ns.is_empty() && child_ns != zone.ns {
        problems.push(format!("{} names other servers for {} than the zone does", parent.zone, zone.name));
    }
    servers.sort_by_key(|server| (!server.delegated, server.address.is_ipv6(), server.name.clone(), server.address));
    servers.dedup();
    servers.truncate(walker.options().max_servers);
    let delegation = Delegation {
        host: host.clone(),
        zone: zone.name,
        complete: answer.is_some(),
        parent,
        parent_ns: zone.ns,
        child_ns,
        servers,
        parent_says,
        signed: zone.signed,
        aliases: Vec::new(),
        chain: Vec::new(),
        problems,
    };
    (delegation, answer)
}
