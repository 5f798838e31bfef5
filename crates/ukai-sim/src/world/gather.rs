//! Evidence, as the shell gathers it: everybody asked side by side, our resolver three times, each candidate proved.
//!
//! A gathering takes its time, and the world may change meanwhile: it has three steps, each made with the world of its own
//! moment. First everybody is asked, then our resolver again, and at the end once more.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use ukai_core::diagnose::evidence::{
    Answer, Asked, Canary, Candidate, DefaultSite, Delegation, Evidence, ExtendedError, LiveConnection, Outcome,
    OwnNetwork, Proof, Purpose, Rcode, Reached, Reuse, Silence, Source, VantageView,
};
use ukai_core::observe::Path;
use ukai_lab::scenario::{Egress, HostBehaviour, Parent, ServerMode};

use super::host::{From, Who};
use super::observe::{Answered, OUR_RESOLVER};
use super::zone::{Kind, Reply, STATIC_TTL, Subnet};
use super::{Ms, World, timestamp};

/// The bound of a gathering.
const BOUND_MS: Ms = 10_000;
/// A question is waited for that long.
const QUERY_MS: Ms = 2_000;
/// Our resolver is asked again so long after the first time.
const AGAIN_MS: Ms = 1_200;
/// The walk from the root, where nobody answers.
const WALK_MS: Ms = 5_000;
/// k proofs of each endpoint, so far apart.
const PROOFS: usize = 3;
const PROOF_SPACING_MS: Ms = 100;
/// Candidates that are proved, those that a resolver alone names, and addresses of before.
const CANDIDATES_MAX: usize = 32;
const BY_RESOLVERS_MAX: usize = 16;
const KNOWN_MAX: usize = 8;
/// Addresses on which a connection is used twice, and that are asked for their default certificate.
const REUSED_MAX: usize = 2;
const DEFAULT_SITES_MAX: usize = 4;
/// On whose behalf authorities and independent resolvers are asked besides (RFC 7871).
const SUBNETS: [&str; 2] = ["193.0.6.0/24", "202.12.29.0/24"];
/// Who answers when the walk ends above the peer's zone.
const TLD_SERVER: &str = "a.nic";
const INDEPENDENTS: [(&str, &str); 3] =
    [("udp://10.0.4.1:53", "udp"), ("tls://10.0.4.2:853", "tls"), ("https://10.0.4.3/dns-query", "https")];

/// What is to be gathered.
#[derive(Debug, Clone)]
pub struct Order {
    pub id: String,
    pub purpose: Purpose,
    pub also: BTreeSet<IpAddr>,
    pub known: BTreeSet<IpAddr>,
    /// What ukai's own server answers now, by type.
    pub embedded: Vec<(Kind, Answered)>,
    /// Where the application has a connection standing.
    pub connected: Option<IpAddr>,
}

/// A gathering under way.
#[derive(Debug, Clone)]
pub struct Gathering {
    pub order: Order,
    evidence: Evidence,
    candidates: BTreeMap<IpAddr, Candidate>,
    started: Ms,
    /// When everybody but our resolver has been heard, and when the last proof is done.
    heard: Ms,
    proved: Ms,
}

/// A question as it is put on record.
#[derive(Debug, Clone, Copy)]
struct Question<'a> {
    source: Source,
    server: &'a str,
    identity: &'a str,
    transport: &'a str,
    kind: Kind,
    unchecked: bool,
    subnet: Option<IpNet>,
}

impl<'a> Question<'a> {
    fn of(source: Source, identity: &'a str, transport: &'a str, kind: Kind) -> Question<'a> {
        Question { source, server: identity, identity, transport, kind, unchecked: false, subnet: None }
    }

    fn asked(&self, at: Ms, outcome: Outcome) -> Asked {
        Asked {
            source: self.source,
            server: self.server.to_owned(),
            identity: self.identity.to_owned(),
            transport: self.transport.to_owned(),
            record_type: self.kind.name().to_owned(),
            checking_disabled: self.unchecked,
            subnet: self.subnet,
            at: timestamp(at),
            outcome,
            wire: None,
        }
    }
}

fn outcome(answered: Answered) -> Outcome {
    match answered {
        Some(reply) => Outcome::Answered(answer(reply)),
        None => silent(Silence::Timeout),
    }
}

fn silent(why: Silence) -> Outcome {
    let detail = match why {
        Silence::Refused => "the connection was refused",
        _ => "no answer within 2 s",
    };
    Outcome::Silent { why, detail: detail.to_owned() }
}

fn answer(reply: Reply) -> Answer {
    Answer {
        rcode: reply.rcode,
        authoritative: reply.authoritative,
        recursion_available: reply.recursion,
        authentic_data: reply.authentic,
        truncated: reply.truncated,
        addresses: reply.addresses,
        records: reply.records,
        chain: reply.chain,
        ttl: reply.ttl,
        soa: reply.soa,
        extended_errors: reply
            .extended_error
            .into_iter()
            .map(|code| ExtendedError { code, text: String::new() })
            .collect(),
        nsid: None,
        elapsed_us: 2_000,
    }
}

fn is_silent(asked: &Asked) -> bool {
    asked.answer().is_none()
}

fn subnets() -> impl Iterator<Item = IpNet> {
    SUBNETS.iter().filter_map(|text| text.parse().ok())
}

/// The transport by which a whole answer of our resolver came.
fn heard_by(evidence: &Evidence) -> &'static str {
    let cut =
        |asked: &Asked| asked.source == Source::OurResolver && asked.answer().is_some_and(|answer| answer.truncated);
    if evidence.asked.iter().any(cut) { "tcp" } else { "udp" }
}

impl World {
    /// The first step. Returns when the second is due.
    pub fn gather(&mut self, order: Order, now: Ms) -> (Gathering, Ms) {
        let (peer, host) = (self.peer(), self.layout.host.clone());
        let mut evidence = Evidence::about(&peer, &host, order.purpose, timestamp(now));
        evidence.endpoints = self.endpoints();
        let mut ours = self.ask_ours(&["udp", "tcp"], now);
        for kind in Kind::FAMILIES {
            let failed = |asked: &Asked| {
                asked.record_type == kind.name() && asked.answer().is_some_and(|answer| answer.rcode == Rcode::Servfail)
            };
            if ours.iter().any(failed) {
                let question =
                    Question { unchecked: true, ..Question::of(Source::OurResolver, OUR_RESOLVER, "udp", kind) };
                let answered = self.our_resolver(kind, false, true, now);
                ours.push(question.asked(now, outcome(answered)));
            }
        }
        let first = if ours.iter().any(is_silent) { QUERY_MS } else { self.about(4) };
        evidence.asked.extend(ours);
        let authorities = self.ask_authorities(&mut evidence, order.purpose, now);
        let independents = self.ask_independents(&mut evidence, now);
        for (kind, answered) in order.embedded.clone() {
            let question = Question::of(Source::Embedded, super::observe::EMBEDDED, "udp", kind);
            evidence.asked.push(question.asked(now, outcome(answered)));
        }
        let (controls, controls_took) = self.probe_controls(now);
        evidence.controls = controls;
        let answers = Kind::FAMILIES.map(|kind| self.our_resolver_whole(kind, now));
        let (resolution, resolved) = self.resolution(OUR_RESOLVER, answers);
        let (observations, observed) = self.observe(Path::Bypass, &resolution, resolved, now);
        evidence.observations = observations;
        evidence.own = self.own_network();
        let mut gathering = Gathering {
            order,
            evidence,
            candidates: BTreeMap::new(),
            started: now,
            heard: now + authorities.max(independents).max(controls_took).max(observed),
            proved: now,
        };
        self.prove_known(&mut gathering, now);
        self.prove_named(&mut gathering, now);
        self.look_around(&mut gathering, now);
        (gathering, now + AGAIN_MS.max(first))
    }

    /// The second step: our resolver again. Returns when the last is due.
    pub fn gather_again(&mut self, gathering: &mut Gathering, now: Ms) -> Ms {
        let again = self.ask_ours(&[heard_by(&gathering.evidence)], now);
        let took = if again.iter().any(is_silent) { QUERY_MS } else { self.about(4) };
        gathering.evidence.asked.extend(again);
        self.prove_named(gathering, now);
        let bound = gathering.started + BOUND_MS;
        gathering.heard.max(now + took).min(bound)
    }

    /// The last step. Returns when the evidence is there.
    pub fn gather_last(&mut self, gathering: &mut Gathering, now: Ms) -> Ms {
        let transport = heard_by(&gathering.evidence);
        let mut last = self.ask_ours(&[transport], now);
        if gathering.order.purpose == Purpose::Standing {
            for kind in Kind::BESIDE {
                let answered = self.our_resolver(kind, transport == "tcp", false, now);
                let question = Question::of(Source::OurResolver, OUR_RESOLVER, transport, kind);
                last.push(question.asked(now, outcome(answered)));
            }
        }
        let took = if last.iter().any(is_silent) { QUERY_MS } else { self.about(4) };
        gathering.evidence.asked.extend(last);
        self.prove_named(gathering, now);
        gathering.proved.max(now + took).min(gathering.started + BOUND_MS).max(now)
    }

    fn ask_ours(&mut self, transports: &[&str], now: Ms) -> Vec<Asked> {
        let mut asked = Vec::new();
        for transport in transports {
            for kind in Kind::FAMILIES {
                let answered = self.our_resolver(kind, *transport == "tcp", false, now);
                asked.push(
                    Question::of(Source::OurResolver, OUR_RESOLVER, transport, kind).asked(now, outcome(answered)),
                );
            }
        }
        asked
    }

    /// The walk from the root, then every delegated server; how long that took.
    fn ask_authorities(&mut self, evidence: &mut Evidence, purpose: Purpose, now: Ms) -> Ms {
        let state = self.state().clone();
        if matches!(state.egress, Egress::Cut | Egress::No53) {
            let problems = vec!["no server of the root answered".to_owned()];
            evidence.delegation = Some(Delegation { problems, ..Delegation::default() });
            return WALK_MS;
        }
        if state.egress == Egress::Intercept53 {
            return self.ask_the_box(evidence, now);
        }
        if state.parent == Parent::Nxdomain {
            return self.ask_the_parent(evidence, now);
        }
        let servers = state.delegation();
        let names: BTreeSet<String> = servers.iter().map(|server| self.layout.server_host(server)).collect();
        let child = servers.iter().find(|server| speaks_for_the_zone(state.server(server)));
        let own = self.scenario.own_servers();
        let child_ns: BTreeSet<String> = match child {
            Some(server) if own.contains(server) => own.iter().map(|server| self.layout.server_host(server)).collect(),
            Some(_) => names.clone(),
            None => BTreeSet::new(),
        };
        evidence.delegation = Some(Delegation {
            zone: self.layout.home.clone(),
            parent_ns: names.clone(),
            child_ns,
            servers: names.iter().map(|name| format!("{name} (20.99.1.1)")).collect(),
            parent_rcode: None,
            problems: Vec::new(),
        });
        let mut silences = 0;
        let beside: &[Kind] = if purpose == Purpose::Standing { &Kind::BESIDE } else { &[] };
        for server in &servers {
            for transport in ["udp", "tcp"] {
                for kind in Kind::OF_AUTHORITIES.iter().chain(beside) {
                    let asked = self.ask_authority(server, transport, *kind, now);
                    silences += usize::from(asked.iter().any(is_silent));
                    evidence.asked.extend(asked);
                }
            }
        }
        self.settle_alias(evidence);
        let canaries = servers.iter().take(2).filter(|server| answers_udp(state.server(server)));
        evidence.canary = if canaries.count() > 0 { Canary::Clean } else { Canary::NoAnswer };
        let walk =
            if servers.iter().any(|server| answers_udp(state.server(server))) { self.about(10) } else { WALK_MS };
        walk + if silences > 0 { QUERY_MS } else { self.about(8) }
    }

    /// One question over one transport, and over UDP for clients elsewhere too.
    fn ask_authority(&mut self, server: &str, transport: &str, kind: Kind, now: Ms) -> Vec<Asked> {
        let name = self.layout.server_host(server);
        let shown = format!("{name} (20.99.1.1)");
        let question = Question { server: &shown, ..Question::of(Source::Authority, &name, transport, kind) };
        let zone = self.zone.clone();
        let mode = zone.state.server(server).clone();
        let plain = match (&mode, transport) {
            (ServerMode::NoTcp, "tcp") => silent(Silence::Refused),
            (ServerMode::NoUdp, "udp") => silent(Silence::Timeout),
            _ => {
                let reply = self.authority(&zone, server, kind, Subnet::Us);
                outcome(reply.map(|reply| fitted(reply, &mode, transport)))
            }
        };
        let mut asked = vec![question.asked(now, plain)];
        let worth = asked[0].answer().is_some_and(|answer| {
            matches!(answer.rcode, Rcode::Noerror | Rcode::Nxdomain)
                && (!answer.addresses.is_empty() || kind == Kind::A)
        });
        if transport == "udp" && Kind::FAMILIES.contains(&kind) && worth {
            for subnet in subnets() {
                let reply = self.authority(&zone, server, kind, Subnet::Others);
                let answered = outcome(reply.map(|reply| fitted(reply, &mode, transport)));
                asked.push(Question { subnet: Some(subnet), ..question }.asked(now, answered));
            }
        }
        asked
    }

    /// An alias that leads out of the zone: over UDP each server is believed no further than its zone ends; over TCP its
    /// answers are made whole with what the target's servers agree on, and left out where nobody says anything.
    fn settle_alias(&self, evidence: &mut Evidence) {
        let leads_out = |asked: &Asked| {
            let answer = asked.answer()?;
            answer.chain.iter().position(|name| !super::layout::within(name, &self.layout.home))
        };
        let is_address = |asked: &Asked| asked.asks_for_addresses() && asked.source == Source::Authority;
        let nobody = |asked: &Asked| {
            let last = asked.answer().and_then(|answer| answer.chain.last().cloned());
            last.is_some_and(|target| self.layout.zone_of(&target).is_none())
        };
        let mut denied = false;
        evidence.asked.retain(|asked| {
            let gone = is_address(asked) && asked.transport == "tcp" && nobody(asked);
            denied |= gone;
            !gone
        });
        for asked in evidence.asked.iter_mut().filter(|asked| is_address(asked) && asked.transport == "udp") {
            let Some(at) = leads_out(asked) else { continue };
            if let Outcome::Answered(answer) = &mut asked.outcome {
                answer.chain.truncate(at + 1);
                answer.addresses.clear();
                answer.records = 0;
            }
        }
        if let Some(delegation) = evidence.delegation.as_mut().filter(|_| denied) {
            delegation.parent_rcode = Some(Rcode::Nxdomain);
            delegation.problems.push("the target of the alias has no servers".to_owned());
        }
    }

    /// The parent denies the name: the walk ends there, and its servers are all that is heard.
    fn ask_the_parent(&mut self, evidence: &mut Evidence, now: Ms) -> Ms {
        let tld = self.layout.tld().to_owned();
        let server = format!("{TLD_SERVER}.{tld}");
        let names = BTreeSet::from([server.clone()]);
        evidence.delegation = Some(Delegation {
            zone: tld,
            parent_ns: names.clone(),
            child_ns: names,
            servers: vec![format!("{server} (20.99.0.2)")],
            parent_rcode: Some(Rcode::Nxdomain),
            problems: Vec::new(),
        });
        let soa = Some(ukai_core::diagnose::evidence::Soa { serial: 1, negative_ttl: STATIC_TTL });
        for transport in ["udp", "tcp"] {
            for kind in Kind::OF_AUTHORITIES {
                let reply = Reply { authoritative: true, soa: soa.clone(), ..Reply::code(Rcode::Nxdomain) };
                let question = Question::of(Source::Authority, &server, transport, kind);
                evidence.asked.push(question.asked(now, outcome(Some(reply))));
            }
        }
        evidence.canary = Canary::Clean;
        self.about(12)
    }

    /// Port 53 ends in one box on our path, which answers for everybody as our resolver does and claims authority.
    fn ask_the_box(&mut self, evidence: &mut Evidence, now: Ms) -> Ms {
        let server = "a.root-servers.lab";
        evidence.delegation =
            Some(Delegation { servers: vec![format!("{server} (20.99.0.1)")], ..Delegation::default() });
        for transport in ["udp", "tcp"] {
            for kind in Kind::FAMILIES {
                let answered = self.our_resolver(kind, transport == "tcp", false, now);
                let answered = answered.map(|reply| Reply { authoritative: true, ..reply });
                evidence
                    .asked
                    .push(Question::of(Source::Authority, server, transport, kind).asked(now, outcome(answered)));
            }
        }
        evidence.canary = Canary::Intercepted(format!(
            "asked for a name that does not exist, {server} answered NXDOMAIN as if the name were its own"
        ));
        self.about(12)
    }

    fn ask_independents(&mut self, evidence: &mut Evidence, now: Ms) -> Ms {
        let egress = self.state().egress.clone();
        let mut silences = 0;
        for (number, (identity, transport)) in (1..).zip(INDEPENDENTS) {
            let plain = transport == "udp";
            let lost = egress == Egress::Cut || plain && egress == Egress::No53;
            let boxed = plain && egress == Egress::Intercept53;
            for kind in Kind::FAMILIES {
                let ask = |world: &mut World, unchecked, subnet| match (lost, boxed) {
                    (true, _) => None,
                    (false, true) => world.our_resolver(kind, false, unchecked, now),
                    (false, false) => world.resolver_over(number, kind, !plain, unchecked, subnet, now),
                };
                let question = Question::of(Source::Independent, identity, transport, kind);
                let answered = ask(self, false, Subnet::Others);
                silences += usize::from(answered.is_none());
                let rcode = answered.as_ref().map(|reply| reply.rcode);
                let has_addresses = answered.as_ref().is_some_and(|reply| !reply.addresses.is_empty());
                evidence.asked.push(question.asked(now, outcome(answered)));
                if rcode == Some(Rcode::Servfail) {
                    let answered = ask(self, true, Subnet::Others);
                    evidence.asked.push(Question { unchecked: true, ..question }.asked(now, outcome(answered)));
                } else if rcode.is_some() && (has_addresses || kind == Kind::A) {
                    for subnet in subnets() {
                        let answered = ask(self, false, Subnet::Others);
                        let question = Question { subnet: Some(subnet), ..question };
                        evidence.asked.push(question.asked(now, outcome(answered)));
                    }
                }
            }
        }
        if silences > 0 { QUERY_MS } else { self.about(10) }
    }

    fn own_network(&self) -> OwnNetwork {
        let state = self.state();
        OwnNetwork {
            name_servers: vec!["10.0.0.53".to_owned()],
            ipv4_route: true,
            ipv6_route: self.layout.hosts.values().any(IpAddr::is_ipv6),
            time_server_offset_ms: (state.egress != Egress::Cut).then_some(state.clock.0 * 1000),
            ..OwnNetwork::default()
        }
    }

    /// What an operator gave or stands, and where the peer was before.
    fn prove_known(&mut self, gathering: &mut Gathering, now: Ms) {
        let (also, known) = (gathering.order.also.clone(), gathering.order.known.clone());
        for address in also.iter().take(CANDIDATES_MAX) {
            self.prove(gathering, *address, true, now);
        }
        for address in known.difference(&also).take(KNOWN_MAX) {
            self.prove(gathering, *address, false, now);
        }
    }

    /// Every address that anybody gave so far, each once.
    fn prove_named(&mut self, gathering: &mut Gathering, now: Ms) {
        let named: Vec<(IpAddr, Source)> = gathering
            .evidence
            .asked
            .iter()
            .filter(|asked| asked.source != Source::Embedded && !asked.checking_disabled)
            .flat_map(|asked| {
                asked.answer().into_iter().flat_map(|answer| answer.addresses.iter().map(|it| (*it, asked.source)))
            })
            .collect();
        for (address, source) in named {
            if !gathering.candidates.contains_key(&address) && has_room(&gathering.candidates, source) {
                self.prove(gathering, address, false, now);
            }
            if let Some(candidate) = gathering.candidates.get_mut(&address) {
                candidate.learned_from.insert(source);
            }
        }
    }

    /// Every endpoint k times in a row; the first failure ends it.
    fn prove(&mut self, gathering: &mut Gathering, address: IpAddr, by_operator: bool, now: Ms) {
        let (mut proofs, mut at) = (Vec::new(), now);
        for _ in 0..PROOFS {
            let (mut failed, mut longest) = (false, 0);
            for endpoint in self.endpoints() {
                let met = self.meet(address, Who::Proof, From::Here, at);
                failed |= !met.result.is_success();
                longest = longest.max(met.took);
                proofs.push(Proof { endpoint, result: met.result });
            }
            at += longest + PROOF_SPACING_MS;
            if failed {
                break;
            }
        }
        gathering.proved = gathering.proved.max(at);
        let candidate = Candidate { address, learned_from: BTreeSet::new(), by_operator, proofs };
        gathering.candidates.insert(address, candidate);
    }

    /// Other vantages, what only shows when a connection is used further, connections that stand.
    fn look_around(&mut self, gathering: &mut Gathering, now: Ms) {
        let purpose = gathering.order.purpose;
        if matches!(purpose, Purpose::Diagnose | Purpose::Apply) {
            self.ask_others(gathering, now);
        }
        if purpose == Purpose::Diagnose {
            self.use_further(gathering);
        }
        if let Some(address) = gathering.order.connected {
            gathering.evidence.connections.push(LiveConnection { address, established: 1, waiting: 0 });
        }
    }

    /// Each about what we are led to, what is known of before, and what it is led to itself.
    fn ask_others(&mut self, gathering: &mut Gathering, now: Ms) {
        let ours = Kind::FAMILIES.map(|kind| self.our_resolver_whole(kind, now));
        let ours: Vec<IpAddr> = ours.into_iter().flatten().flat_map(|reply| reply.addresses).collect();
        for number in 1..=self.scenario.initial_state().vantages {
            let theirs = Kind::FAMILIES.map(|kind| self.resolver(1, kind, false, Subnet::Others, now));
            let resolved: BTreeSet<IpAddr> = theirs.into_iter().flatten().flat_map(|reply| reply.addresses).collect();
            let order = &gathering.order;
            let addresses: BTreeSet<IpAddr> =
                ours.iter().chain(&order.also).chain(&order.known).chain(&resolved).copied().collect();
            let endpoints = self.endpoints();
            let mut results = Vec::new();
            for address in addresses {
                for endpoint in &endpoints {
                    let met = self.meet(address, Who::Proof, From::Elsewhere, now);
                    results.push(Proof { endpoint: endpoint.clone(), result: met.result });
                }
            }
            let vantage = format!("v-{number}");
            gathering.evidence.vantages.push(VantageView { vantage, silence: None, resolved, results });
        }
    }

    /// A second request on a connection, and the certificate for a client that names nobody.
    fn use_further(&mut self, gathering: &mut Gathering) {
        let results = || gathering.evidence.observations.iter().flat_map(|observation| &observation.results);
        let served = distinct(results().filter(|result| result.is_success()).map(|result| result.address), REUSED_MAX);
        let shook = distinct(results().filter(|it| it.identity.is_some()).map(|it| it.address), DEFAULT_SITES_MAX);
        for address in served {
            let cut = self.behaviour(address, From::Here) == Some(HostBehaviour::Goaway);
            let second = if cut { Reached::No("it reset the connection".to_owned()) } else { Reached::Yes };
            gathering.evidence.reuse.extend(self.endpoints().into_iter().map(|endpoint| Reuse {
                endpoint,
                address,
                first: Reached::Yes,
                second: Some(second.clone()),
            }));
        }
        gathering.evidence.default_sites = shook
            .into_iter()
            .map(|address| DefaultSite {
                address,
                certificate_sha256: "certificate of the default site".to_owned(),
                names: vec!["default.hosting.test".to_owned()],
                is_for_host: false,
            })
            .collect();
    }
}

fn distinct(addresses: impl Iterator<Item = IpAddr>, most: usize) -> BTreeSet<IpAddr> {
    addresses.collect::<BTreeSet<IpAddr>>().into_iter().take(most).collect()
}

impl Gathering {
    pub fn finish(self, now: Ms) -> Evidence {
        Evidence { finished_at: timestamp(now), candidates: self.candidates.into_values().collect(), ..self.evidence }
    }
}

/// As much of it as comes over this transport.
fn fitted(reply: Reply, mode: &ServerMode, transport: &str) -> Reply {
    match (transport, mode) {
        ("udp", ServerMode::Truncate) => reply.cut(),
        ("udp", _) => reply.over_udp(),
        _ => reply,
    }
}

fn answers_udp(mode: &ServerMode) -> bool {
    !matches!(mode, ServerMode::Timeout | ServerMode::NoUdp)
}

fn speaks_for_the_zone(mode: &ServerMode) -> bool {
    answers_udp(mode) && !matches!(mode, ServerMode::Lame | ServerMode::Refuse | ServerMode::Servfail)
}

/// A resolver may fill half of it, whatever it answers.
fn has_room(candidates: &BTreeMap<IpAddr, Candidate>, source: Source) -> bool {
    let reserved =
        |candidate: &&Candidate| candidate.by_operator || candidate.learned_from.contains(&Source::Authority);
    let others = candidates.len() - candidates.values().filter(reserved).count();
    candidates.len() < CANDIDATES_MAX && (source == Source::Authority || others < BY_RESOLVERS_MAX)
}
