//! The peer's own name servers: found from the root, and asked one by one. Where the host is an alias, they and the servers of
//! its target are read together in [`alias`].

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use ukai_core::diagnose::evidence::{Asked, Canary, Delegation, Outcome, Silence, Source};
use ukai_dns::delegation::{self, WalkOptions};
use ukai_dns::{AskOptions, Name, Question, RecordType, Upstream};
use ukai_probe::escape::escape;

use super::FAMILIES;
use super::alias::{self, Followed};
use super::candidates::Found;
use super::elsewhere;
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

#[derive(Clone)]
pub struct Server {
    name: String,
    address: SocketAddr,
}

/// One zone and who answers for it.
pub struct Zone {
    /// None: the servers are those that the configuration names, and stand for whatever they say.
    pub apex: Option<Name>,
    pub delegation: Delegation,
    servers: Vec<Server>,
}

/// Who looks, and where it tells the addresses that it finds.
pub struct Look<'a> {
    pub vantage: &'a Vantage,
    pub asker: &'a Asker,
    pub found: &'a Found,
}

/// `also`: types to ask for besides the addresses.
pub async fn ask(
    vantage: &Vantage,
    subject: &Subject,
    asker: &Asker,
    found: &Found,
    also: &[RecordType],
) -> Authorities {
    if subject.is_literal() {
        return Authorities { asked: Vec::new(), delegation: None, canary: Canary::NoAnswer };
    }
    let look = Look { vantage, asker, found };
    let zone = match subject.host.parse::<Name>() {
        _ if !subject.authority.is_empty() => named(subject),
        Ok(host) => look.walk(&host).await,
        Err(error) => lost(format!("{} cannot be asked for: {error}", subject.host)),
    };
    let (followed, canary, plain) = tokio::join!(
        look.ask_and_follow(&zone, also),
        canary(vantage, asker, &zone.servers),
        answer_without_edns(vantage, asker, &zone.servers),
    );
    let mut delegation = zone.delegation;
    delegation.parent_rcode = delegation.parent_rcode.or(followed.parent_says);
    delegation.problems.extend(followed.problems);
    delegation.problems.extend(plain.iter().filter(|server| is_silent(&followed.asked, server)).map(|server| {
        escape(&format!("{server} answers over UDP only without EDNS (RFC 6891), which not every resolver tries"))
    }));
    Authorities { asked: followed.asked, delegation: Some(delegation), canary }
}

fn lost(problem: String) -> Zone {
    let delegation = Delegation { problems: vec![problem], ..Delegation::default() };
    Zone { apex: None, delegation, servers: Vec::new() }
}

/// Servers that the configuration names stand for the delegation; nothing is walked.
fn named(subject: &Subject) -> Zone {
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
    Zone { apex: None, delegation, servers }
}

impl Look<'_> {
    /// From the root to the zone that holds the name, and no further.
    pub async fn walk(&self, name: &Name) -> Zone {
        let mut options = WalkOptions {
            authority_port: self.vantage.authority_port,
            bound: WALK_BOUND.min(self.asker.deadline.saturating_duration_since(Instant::now())),
            ..WalkOptions::default()
        };
        if !self.vantage.root_hints.is_empty() {
            options.root_hints.clone_from(&self.vantage.root_hints);
        }
        let walked = delegation::walk_zone(&self.vantage.dns, name, &options).await;
        // Where the walk ended at the root or a TLD without an answer, the servers there are nobody's authority but their own.
        let is_lost = !walked.complete && walked.zone.label_count() <= 1;
        let servers: Vec<Server> = walked
            .servers
            .iter()
            .filter(|server| server.delegated && !is_lost)
            .map(|server| Server { name: server.name.to_string(), address: server.address })
            .collect();
        let delegation = Delegation {
            zone: walked.zone.to_string(),
            parent_ns: walked.parent_ns.iter().map(ToString::to_string).collect(),
            child_ns: walked.child_ns.iter().map(ToString::to_string).collect(),
            servers: servers.iter().map(Server::shown).collect(),
            parent_rcode: walked.parent_says.map(rcode),
            problems: walked.problems.iter().map(|problem| escape(problem)).collect(),
        };
        Zone { apex: Some(walked.zone), delegation, servers }
    }

    async fn ask_and_follow(&self, zone: &Zone, also: &[RecordType]) -> Followed {
        let types = [&TYPES, also].concat();
        let asked = self.ask_zone(zone, &self.asker.host, &types).await;
        alias::follow(self, zone, asked).await
    }

    /// Every server of the zone over UDP and TCP, and over UDP for clients elsewhere too. What one says beyond its zone is not authoritative, whatever its flags.
    pub async fn ask_zone(&self, zone: &Zone, host: &str, types: &[RecordType]) -> Vec<Asked> {
        let slots = Semaphore::new(QUESTIONS_AT_ONCE);
        let asker = &Asker { host: host.to_owned(), ..self.asker.clone() };
        let mut questions = Vec::new();
        for whom in zone.servers.iter().flat_map(Server::transports) {
            questions.extend(types.iter().map(|record_type| (whom.clone(), *record_type)));
        }
        let asked = join_all(questions.into_iter().map(|(whom, record_type)| {
            let slots = &slots;
            async move {
                // The semaphore is never closed; without a permit the question would only go out sooner.
                let slot = slots.acquire().await;
                let plain = self.within(zone, asker.ask(&whom, record_type).await);
                drop(slot);
                let mut asked = vec![plain];
                if FAMILIES.contains(&record_type) && matches!(whom.upstream, Upstream::Udp(_)) {
                    let _slot = slots.acquire().await;
                    let subnets = &self.vantage.ecs_subnets;
                    let others = elsewhere::on_behalf(asker, &whom, &asked[0], record_type, subnets).await;
                    asked.extend(others.into_iter().map(|other| self.within(zone, other)));
                }
                asked
            }
        }))
        .await;
        asked.into_iter().flatten().collect()
    }

    /// The answer as far as the server may speak, its addresses told to who proves them.
    fn within(&self, zone: &Zone, mut asked: Asked) -> Asked {
        if let Some(apex) = &zone.apex {
            alias::cut(&mut asked, apex);
        }
        self.found.report(&asked);
        asked
    }
}

impl Zone {
    /// Whose majority counts.
    pub fn names(&self) -> BTreeSet<String> {
        match self.delegation.parent_ns.is_empty() {
            true => self.servers.iter().map(|server| server.name.clone()).collect(),
            false => self.delegation.parent_ns.clone(),
        }
    }
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

/// Those that answer a question from before EDNS, which some servers and boxes on the way drop without a word.
async fn answer_without_edns(vantage: &Vantage, asker: &Asker, servers: &[Server]) -> Vec<String> {
    let Ok(question) = Question::new(&asker.host, RecordType::A) else { return Vec::new() };
    let left = asker.deadline.saturating_duration_since(Instant::now());
    let options = AskOptions {
        recursion_desired: false,
        edns: false,
        tcp_on_truncation: false,
        timeout: QUERY_TIMEOUT.min(left),
        ..AskOptions::default()
    };
    let asked = join_all(servers.iter().map(async |server| {
        let reply = vantage.dns.ask(&Upstream::Udp(server.address), &question, &options).await;
        reply.is_ok().then(|| server.shown())
    }));
    asked.await.into_iter().flatten().collect()
}

/// Nothing came over UDP, whatever was asked.
fn is_silent(asked: &[Asked], server: &str) -> bool {
    let is_timeout = |asked: &Asked| matches!(asked.outcome, Outcome::Silent { why: Silence::Timeout, .. });
    let mut by_udp = asked.iter().filter(|asked| asked.server == server && asked.transport == "udp").peekable();
    by_udp.peek().is_some() && by_udp.all(is_timeout)
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
