//! The peer's own name servers: found from the root, and asked one by one.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use ukai_core::diagnose::evidence::{Asked, Canary, Delegation, Outcome, Source};
use ukai_dns::delegation::{self, WalkOptions};
use ukai_dns::{Name, RecordType, Upstream};
use ukai_probe::escape::escape;

use super::candidates::Found;
use super::question::{Asker, QUERY_TIMEOUT, Whom, rcode};
use super::subject::{Subject, Vantage, join_all};

/// Root, TLD and zone at two seconds each, were two of three servers silent; then the authorities need their time.
const WALK_BOUND: Duration = Duration::from_secs(5);
/// Questions under way at once: enough for all of a usual delegation, few enough not to look like an attack.
const QUESTIONS_AT_ONCE: usize = 16;
/// Authorities that are asked for a name that cannot exist.
const CANARIES: usize = 2;
const TYPES: [RecordType; 4] = [RecordType::A, RecordType::AAAA, RecordType::SOA, RecordType::HTTPS];

pub struct Authorities {
    pub asked: Vec<Asked>,
    pub delegation: Option<Delegation>,
    pub canary: Canary,
}

struct Server {
    name: String,
    address: SocketAddr,
}

/// Who answers for the addresses, and for which name: where the host is an alias, its target's servers do.
struct Way {
    delegation: Delegation,
    servers: Vec<Server>,
    /// The targets of the CNAMEs that lead to another zone, where the host is an alias; the last one is asked for.
    aliases: Vec<String>,
}

pub async fn ask(vantage: &Vantage, subject: &Subject, asker: &Asker, found: &Found) -> Authorities {
    if subject.is_literal() {
        return Authorities { asked: Vec::new(), delegation: None, canary: Canary::NoAnswer };
    }
    let way = if subject.authority.is_empty() { walk(vantage, subject, asker).await } else { named(subject) };
    let (asked, canary) = tokio::join!(ask_all(asker, &way, found), canary(vantage, asker, &way.servers));
    Authorities { asked, delegation: Some(way.delegation), canary }
}

async fn walk(vantage: &Vantage, subject: &Subject, asker: &Asker) -> Way {
    let host = match subject.host.parse::<Name>() {
        Ok(host) => host,
        Err(error) => return lost(format!("{} cannot be asked for: {error}", subject.host)),
    };
    let mut options = WalkOptions {
        authority_port: vantage.authority_port,
        bound: WALK_BOUND.min(asker.deadline.saturating_duration_since(Instant::now())),
        ..WalkOptions::default()
    };
    if !vantage.root_hints.is_empty() {
        options.root_hints.clone_from(&vantage.root_hints);
    }
    let walked = delegation::walk(&vantage.dns, &host, &options).await;
    let target = walked.target();
    // Where the walk ended at the root or a TLD without an answer, the servers there are nobody's authority but their own.
    let is_lost = !target.complete && target.zone.label_count() <= 1;
    let servers: Vec<Server> = target
        .servers
        .iter()
        .filter(|server| server.delegated && !is_lost)
        .map(|server| Server { name: server.name.to_string(), address: server.address })
        .collect();
    let mut aliases: Vec<String> = walked.aliases.iter().map(|alias| alias.target.to_string()).collect();
    let last = target.host.to_string();
    let leads_there = aliases.iter().position(|alias| *alias == last).map_or(0, |at| at + 1);
    aliases.truncate(leads_there);
    let delegation = Delegation {
        zone: target.zone.to_string(),
        parent_ns: target.parent_ns.iter().map(ToString::to_string).collect(),
        child_ns: target.child_ns.iter().map(ToString::to_string).collect(),
        servers: servers.iter().map(Server::shown).collect(),
        parent_rcode: walked.parent_says.or(target.parent_says).map(rcode),
        problems: walked.problems.iter().map(|problem| escape(problem)).collect(),
    };
    Way { delegation, servers, aliases }
}

fn lost(problem: String) -> Way {
    let delegation = Delegation { problems: vec![problem], ..Delegation::default() };
    Way { delegation, servers: Vec::new(), aliases: Vec::new() }
}

/// Servers that the configuration names stand for the delegation; nothing is walked.
fn named(subject: &Subject) -> Way {
    let servers: Vec<Server> =
        subject.authority.iter().map(|address| Server { name: address.to_string(), address: *address }).collect();
    let names: BTreeSet<String> = servers.iter().map(|server| server.name.clone()).collect();
    let delegation = Delegation {
        zone: subject.host.clone(),
        parent_ns: names.clone(),
        child_ns: names,
        servers: servers.iter().map(Server::shown).collect(),
        parent_rcode: None,
        problems: Vec::new(),
    };
    Way { delegation, servers, aliases: Vec::new() }
}

async fn ask_all(asker: &Asker, way: &Way, found: &Found) -> Vec<Asked> {
    let slots = Semaphore::new(QUESTIONS_AT_ONCE);
    let host = way.aliases.last().unwrap_or(&asker.host).clone();
    let asker = &Asker { host, ..asker.clone() };
    let questions = way.servers.iter().flat_map(Server::transports).flat_map(|whom| TYPES.map(|t| (whom.clone(), t)));
    join_all(questions.map(|(whom, record_type)| {
        let slots = &slots;
        async move {
            // The semaphore is never closed; without a permit the question would only go out sooner.
            let _slot = slots.acquire().await;
            let mut asked = asker.ask(&whom, record_type).await;
            if let Outcome::Answered(answer) = &mut asked.outcome {
                answer.chain.splice(0..0, way.aliases.iter().cloned());
            }
            found.report(&asked);
            asked
        }
    }))
    .await
}

/// One intercepted server is enough: the box on the path answers for all of them.
async fn canary(vantage: &Vantage, asker: &Asker, servers: &[Server]) -> Canary {
    let asked = servers.iter().take(CANARIES).map(|server| {
        let left = asker.deadline.saturating_duration_since(Instant::now());
        delegation::canary(&vantage.dns, server.address, QUERY_TIMEOUT.min(left))
    });
    let mut seen = Canary::NoAnswer;
    for result in join_all(asked).await {
        match result {
            delegation::Canary::Intercepted(reason) => return Canary::Intercepted(escape(&reason)),
            delegation::Canary::Clean => seen = Canary::Clean,
            delegation::Canary::NoAnswer(_) => {}
        }
    }
    seen
}

impl Server {
    fn shown(&self) -> String {
        format!("{} ({})", self.name, self.address.ip())
    }

    fn transports(&self) -> [Whom; 2] {
        [Upstream::Udp(self.address), Upstream::Tcp(self.address)].map(|upstream| Whom {
            source: Source::Authority,
            server: self.shown(),
            identity: self.name.clone(),
            upstream,
        })
    }
}
