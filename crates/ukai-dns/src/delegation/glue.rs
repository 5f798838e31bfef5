//! The addresses of name servers: what the parent gives along with its referral (glue), and what is said of them elsewhere.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::Authority;
use super::descent::{Walker, Zone};
use crate::message::{Question, Reply};
use crate::name::Name;
use crate::types::{Rcode, RecordType};

/// What the zone says of its own name servers, where that is not what the parent says.
#[derive(Default)]
pub(super) struct Glue {
    /// At the addresses that only the zone itself gives.
    pub servers: Vec<Authority>,
    pub problems: Vec<String>,
}

/// For the name servers inside the zone. `is_heard`: a server of the zone answered, so that it can be asked.
///
/// A family that the parent leaves out altogether is no finding, as one address is enough to get there; nor is a zone that has no
/// word on its servers' addresses, as the parent's lead to them.
pub(super) async fn compare(walker: &Arc<Walker>, parent: &Name, zone: &Zone, is_heard: bool) -> Glue {
    let mut glue = Glue::default();
    let mut asked = JoinSet::new();
    for name in zone.ns.iter().filter(|name| zone.referred && name.is_at_or_below(&zone.name)) {
        let given = given(zone, name);
        if given.is_empty() {
            glue.problems.push(format!("{parent} gives no address for {name}, a name server inside {}", zone.name));
        }
        for qtype in [RecordType::A, RecordType::AAAA] {
            let of_family: BTreeSet<IpAddr> =
                given.iter().copied().filter(|ip| ip.is_ipv6() == (qtype == RecordType::AAAA)).collect();
            if is_heard && !of_family.is_empty() {
                let (walker, zone) = (Arc::clone(walker), zone.clone());
                let question = Question { name: name.clone(), qtype };
                asked.spawn(async move { (of_family, walker.said(&zone, &question).await) });
            }
        }
    }
    let mut replies: Vec<(BTreeSet<IpAddr>, Reply)> = Vec::new();
    while let Some(finished) = asked.join_next().await {
        replies.extend(finished.ok().and_then(|(given, reply)| Some((given, reply?))));
    }
    replies.sort_by(|(_, one), (_, other)| one.question.name.cmp(&other.question.name));
    for (given, reply) in replies {
        let name = &reply.question.name;
        let alias = reply.cname_chain().first().map(|target| alias(name, target));
        let own: BTreeSet<IpAddr> = reply.addresses().into_iter().collect();
        if !own.is_empty() && own != given {
            let (given, own) = (list(&given), list(&own));
            glue.problems.push(format!("{parent} gives {given} as the address of {name}, {} itself {own}", zone.name));
        }
        glue.problems.extend(alias.filter(|told| !glue.problems.contains(told)));
        glue.servers.extend(own.difference(&given).map(|ip| Authority {
            name: name.clone(),
            address: walker.socket_address(*ip),
            delegated: true,
        }));
    }
    glue
}

/// Name servers of the delegation that are aliases, and those that lead to no server.
pub(super) fn without(walker: &Walker, zone: &Zone, servers: &[Authority]) -> Vec<String> {
    let mut problems = Vec::new();
    for name in zone.ns.iter().filter(|name| !zone.referred || !name.is_at_or_below(&zone.name)) {
        let host = walker.known_host(name).unwrap_or_default();
        problems.extend(host.alias.map(|target| alias(name, &target)));
        if !servers.iter().any(|server| server.name == *name) {
            problems.push(match host.denied {
                Some(Rcode::NXDOMAIN) => format!("the name server {name} does not exist"),
                Some(_) => format!("the name server {name} has no address"),
                None => format!("no address could be found for the name server {name}"),
            });
        }
    }
    problems
}

fn given(zone: &Zone, name: &Name) -> BTreeSet<IpAddr> {
    zone.servers.iter().filter(|server| server.name == *name).map(|server| server.address.ip()).collect()
}

/// RFC 2181, 10.3: the name of a name server must not be an alias. Some resolvers follow it, some do not.
fn alias(name: &Name, target: &Name) -> String {
    format!("the name server {name} is an alias of {target}, which not every resolver follows (RFC 2181, 10.3)")
}

fn list(addresses: &BTreeSet<IpAddr>) -> String {
    let texts: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    texts.join(", ")
}
