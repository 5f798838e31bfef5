//! One descent through the tree, with a budget of time and queries that everything below it shares.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Authority, Parent, ROOT_SERVERS, WalkOptions};
use crate::client::race;
use crate::client::{AskError, AskOptions, Client};
use crate::message::{Data, Question, Record, Reply};
use crate::name::Name;
use crate::types::{Rcode, RecordType};
use crate::upstream::Upstream;

/// A server with a warm answer is here in a tenth of this; a dead one must not hold up the walk.
const HEDGE: Duration = Duration::from_millis(250);
/// All queries of one walk together. A healthy walk takes about ten; a hostile tree must not make us hammer it (RFC 9520).
const MAX_QUERIES: usize = 256;
/// Name servers whose names need a walk, whose servers' names need a walk …
const MAX_DEPTH: usize = 3;
/// NS names taken from one referral.
const MAX_NS: usize = 16;

pub(super) struct Walker {
    client: Client,
    options: WalkOptions,
    deadline: Instant,
    queries: AtomicUsize,
    hosts: Mutex<BTreeMap<Name, Host>>,
}

/// A name server's name, and what a walk of its own found.
#[derive(Clone, Debug, Default)]
pub(super) struct Host {
    pub addresses: Vec<SocketAddr>,
    /// It is an alias of this name.
    pub alias: Option<Name>,
    /// What its zone says of it. None: nobody answered for it, or the way to it leads back to itself.
    pub denied: Option<Rcode>,
}

/// A zone as its parent describes it.
#[derive(Clone, Debug)]
pub(super) struct Zone {
    pub name: Name,
    pub ns: Vec<Name>,
    pub servers: Vec<Authority>,
    pub signed: bool,
    /// A referral named the servers; otherwise they are those of the zone above, in which no cut was seen.
    pub referred: bool,
}

/// How far it went.
pub(super) struct Descent {
    pub zone: Zone,
    pub parent: Parent,
    pub problems: Vec<String>,
    /// The authoritative answer to (name, A), if there was one.
    pub answer: Option<Reply>,
    /// The last error that a server of the last zone answered with.
    pub error: Option<Rcode>,
}

/// What a server's reply means for the descent.
enum Step {
    Answer(Box<Reply>),
    Referral(Box<Reply>, Name),
}

/// What came of asking the servers of one zone.
struct Round {
    step: Option<Step>,
    asked: Vec<SocketAddr>,
    problems: Vec<String>,
    error: Option<Rcode>,
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Walker {
    pub fn new(client: Client, options: WalkOptions) -> Self {
        let deadline = Instant::now() + options.bound;
        Self { client, options, deadline, queries: AtomicUsize::new(0), hosts: Mutex::default() }
    }

    pub fn options(&self) -> &WalkOptions {
        &self.options
    }

    /// Follows referrals from the root to an authoritative answer about `name`.
    pub fn descend(self: Arc<Self>, name: Name, depth: usize) -> Boxed<Descent> {
        Box::pin(async move {
            let mut zone = self.root();
            let mut descent = Descent {
                parent: Parent { zone: Name::root(), servers: Vec::new() },
                zone: zone.clone(),
                problems: Vec::new(),
                answer: None,
                error: None,
            };
            for _ in 0..=self.options.max_referrals {
                let round = self.ask_zone(&zone, &Question { name: name.clone(), qtype: RecordType::A }).await;
                descent.problems.extend(round.problems);
                descent.error = round.error;
                descent.zone = zone.clone();
                match round.step {
                    None => {
                        descent.problems.push(format!("no server of {} answered usefully about {name}", zone.name));
                        return descent;
                    }
                    Some(Step::Answer(reply)) => {
                        self.settle_apex(&mut descent, &reply, round.asked).await;
                        descent.answer = Some(*reply);
                        return descent;
                    }
                    Some(Step::Referral(reply, child)) => {
                        descent.parent = Parent { zone: zone.name.clone(), servers: round.asked };
                        zone = self.zone_below(&zone, child, &reply, depth).await;
                    }
                }
            }
            descent.problems.push(format!("more than {} referrals above {name}", self.options.max_referrals));
            descent
        })
    }

    /// The servers of the zone as its own apex names them, sorted.
    pub async fn child_servers(&self, zone: &Zone) -> Vec<Name> {
        let question = Question { name: zone.name.clone(), qtype: RecordType::NS };
        self.said(zone, &question).await.map_or_else(Vec::new, |reply| names_of(&reply.answers, &zone.name))
    }

    /// A name server, by a walk of its own.
    pub async fn host(self: &Arc<Self>, name: &Name, depth: usize) -> Host {
        if depth >= MAX_DEPTH {
            return Host::default();
        }
        if let Some(known) = self.known().get(name) {
            return known.clone();
        }
        // Found empty by anybody who needs it in order to find it: a cycle of glueless names has no way in.
        self.known().insert(name.clone(), Host::default());
        let descent = Arc::clone(self).descend(name.clone(), depth + 1).await;
        let Some(reply) = descent.answer else {
            return Host::default();
        };
        let mut found = reply.addresses();
        let question = Question { name: name.clone(), qtype: RecordType::AAAA };
        found.extend(self.said(&descent.zone, &question).await.iter().flat_map(Reply::addresses));
        let chain = reply.cname_chain();
        let mut host = Host {
            addresses: found.into_iter().map(|ip| self.socket_address(ip)).collect(),
            alias: chain.first().cloned(),
            denied: Some(reply.rcode),
        };
        if let (true, Some(end)) = (host.addresses.is_empty(), chain.last()) {
            let end = Box::pin(self.host(end, depth + 1)).await;
            host = Host { alias: host.alias, ..end };
        }
        self.known().insert(name.clone(), host.clone());
        host
    }

    /// What the servers of the zone say with authority, the first that says anything.
    pub async fn said(&self, zone: &Zone, question: &Question) -> Option<Reply> {
        match self.ask_zone(zone, question).await.step {
            Some(Step::Answer(reply)) => Some(*reply),
            Some(Step::Referral(..)) | None => None,
        }
    }

    /// Whether a denial comes from above the zone that the host should have: from the root or a top-level zone, or from one that
    /// denies the whole branch which it would have to delegate.
    pub async fn denial(&self, host: &Name, zone: &Zone, reply: &Reply) -> Option<Rcode> {
        if reply.rcode != Rcode::NXDOMAIN || *host == zone.name || !reply.answers.is_empty() {
            return None;
        }
        let branch = host.suffix(zone.name.label_count() + 1);
        if zone.name.label_count() <= 1 {
            return Some(reply.rcode);
        }
        if branch == *host {
            return None;
        }
        let above = self.said(zone, &Question { name: branch, qtype: RecordType::NS }).await?;
        (above.rcode == Rcode::NXDOMAIN).then_some(above.rcode)
    }

    fn root(&self) -> Zone {
        let known = |ip: IpAddr| ROOT_SERVERS.iter().find(|root| ip == root.v4 || ip == root.v6);
        let hints = self.options.root_hints.iter().take(2 * self.options.max_servers);
        let servers = hints.map(|&ip| Authority {
            name: known(ip).and_then(|root| root.name.parse().ok()).unwrap_or_else(Name::root),
            address: self.socket_address(ip),
            delegated: true,
        });
        Zone { name: Name::root(), ns: Vec::new(), servers: servers.collect(), signed: false, referred: false }
    }

    /// Asks the servers of a zone until one gives an authoritative answer or a referral that leads down.
    async fn ask_zone(&self, zone: &Zone, question: &Question) -> Round {
        let mut round = Round { step: None, asked: Vec::new(), problems: Vec::new(), error: None };
        let options = AskOptions {
            recursion_desired: false,
            // So that a referral comes with its DS.
            dnssec_ok: true,
            timeout: self.options.query_timeout,
            ..AskOptions::default()
        };
        let addresses: Vec<SocketAddr> = zone.servers.iter().map(|server| server.address).collect();
        let attempts = addresses.into_iter().take_while(|_: &SocketAddr| self.spend()).map(|address| {
            let (client, question, options) = (self.client.clone(), question.clone(), options.clone());
            async move { (address, client.ask(&Upstream::Udp(address), &question, &options).await) }
        });
        let accept = |(address, result): (SocketAddr, Result<Reply, AskError>)| {
            round.asked.push(address);
            match read_step(zone, question, result) {
                Ok(step) => Some(step),
                Err((problem, rcode)) => {
                    round.problems.push(format!("{address}, asked as a server of {}: {problem}", zone.name));
                    round.error = rcode.or(round.error);
                    None
                }
            }
        };
        round.step = race::first(attempts, HEDGE, self.deadline, accept).await;
        if round.step.is_none() && Instant::now() >= self.deadline {
            round.problems.push(format!("the walk ran out of its {} ms", self.options.bound.as_millis()));
        }
        round
    }

    fn spend(&self) -> bool {
        self.queries.fetch_add(1, Ordering::Relaxed) < MAX_QUERIES
    }

    /// Finds the zone that an answer belongs to: one set of servers may hold several, and then no referral shows the cut.
    async fn settle_apex(&self, descent: &mut Descent, reply: &Reply, asked: Vec<SocketAddr>) {
        let zone = descent.zone.clone();
        let mut apex = reply.soa.as_ref().map(|soa| soa.zone.clone());
        if apex.is_none() {
            let question = Question { name: reply.question.name.clone(), qtype: RecordType::SOA };
            apex = self.said(&zone, &question).await.and_then(|reply| reply.soa).map(|soa| soa.zone);
        }
        let Some(apex) = apex.filter(|apex| apex.is_below(&zone.name) && reply.question.name.is_at_or_below(apex))
        else {
            return;
        };
        let unnamed = Zone { name: apex.clone(), ns: Vec::new(), referred: false, ..zone.clone() };
        let ns = self.child_servers(&unnamed).await;
        descent.parent = Parent { zone: zone.name, servers: asked };
        descent.zone = Zone { ns, ..unnamed };
    }

    async fn zone_below(self: &Arc<Self>, parent: &Zone, child: Name, referral: &Reply, depth: usize) -> Zone {
        let mut ns = names_of(&referral.authority, &child);
        ns.truncate(MAX_NS);
        let mut servers: BTreeSet<Authority> = BTreeSet::new();
        for name in &ns {
            let glue =
                referral.additional.iter().filter(|record| record.name == *name && name.is_at_or_below(&parent.name));
            let addresses: Vec<_> = glue.filter_map(Record::address).map(|ip| self.socket_address(ip)).collect();
            servers.extend(addresses.into_iter().map(|address| Authority {
                name: name.clone(),
                address,
                delegated: true,
            }));
        }
        // Names without glue cost a walk each; they are walked only to be listed at the end, or when there is no other way down.
        let without_glue: Vec<_> =
            ns.iter().filter(|name| !servers.iter().any(|server| server.name == **name)).cloned().collect();
        for name in without_glue {
            // A name inside the zone cannot be found without its glue.
            if !name.is_at_or_below(&child) {
                let addresses = self.host(&name, depth).await.addresses;
                servers.extend(addresses.into_iter().map(|address| Authority {
                    name: name.clone(),
                    address,
                    delegated: true,
                }));
            }
        }
        let signed = referral.authority.iter().any(|record| record.name == child && record.rtype() == RecordType::DS);
        let mut servers: Vec<_> = servers.into_iter().collect();
        servers.sort_by_key(|server| (server.address.is_ipv6(), server.name.clone(), server.address));
        servers.truncate(self.options.max_servers);
        Zone { name: child, ns, servers, signed, referred: true }
    }

    pub fn socket_address(&self, ip: IpAddr) -> SocketAddr {
        SocketAddr::new(ip, self.options.authority_port)
    }

    /// What was found of a name server that was walked to.
    pub fn known_host(&self, name: &Name) -> Option<Host> {
        self.known().get(name).cloned()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<Name, Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error is a sentence about the server, and the code it answered with if it did.
fn read_step(
    zone: &Zone,
    question: &Question,
    result: Result<Reply, AskError>,
) -> Result<Step, (String, Option<Rcode>)> {
    let reply = result.map_err(|error| (error.to_string(), None))?;
    if !matches!(reply.rcode, Rcode::NOERROR | Rcode::NXDOMAIN) {
        return Err((format!("it answered {}", reply.rcode), Some(reply.rcode)));
    }
    if reply.authoritative {
        return Ok(Step::Answer(Box::new(reply)));
    }
    if !reply.is_referral() {
        return Err(("it is lame: its answer is not authoritative".to_owned(), None));
    }
    let owner =
        reply.authority.iter().find(|record| matches!(record.data, Data::Ns(_))).map(|record| record.name.clone());
    match owner {
        Some(child) if child.is_below(&zone.name) && question.name.is_at_or_below(&child) => {
            Ok(Step::Referral(Box::new(reply), child))
        }
        Some(child) => Err((format!("it is lame: it refers to {child}, which leads nowhere from here"), None)),
        None => Err(("its referral names nobody".to_owned(), None)),
    }
}

fn names_of(records: &[Record], owner: &Name) -> Vec<Name> {
    let names: BTreeSet<Name> = records
        .iter()
        .filter_map(|record| match &record.data {
            Data::Ns(name) if record.name == *owner => Some(name.clone()),
            _ => None,
        })
        .collect();
    names.into_iter().collect()
}
