//! A small world in memory: what the shell would have asked and seen.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use ukai_core::diagnose::evidence::*;
use ukai_core::diagnose::history::{History, ProvenIdentity, SeenAnswer, SeenDelegation};
use ukai_core::diagnose::reading::Case;
use ukai_core::diagnose::verdict::{Judgement, Verdict};
use ukai_core::event::Actor;
use ukai_core::observe::*;
use ukai_core::peer::{Level, Mode, Peer, Settings, Subscriber};

pub const HOST: &str = "api.peer.example";
pub const ENDPOINT: &str = "https://api.peer.example/health";
pub const OLD: &str = "192.0.100.1";
pub const NEW: &str = "192.0.101.1";
pub const EVIL: &str = "203.1.2.3";

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn set(addresses: &[&str]) -> BTreeSet<IpAddr> {
    addresses.iter().map(|address| ip(address)).collect()
}

pub fn start() -> Timestamp {
    "2026-01-10T03:00:00Z".parse().unwrap()
}

/// As it is judged, where nothing but the evidence says anything.
pub fn case<'a>(history: &'a History, peer: &'a Peer, evidence: &'a Evidence) -> Case<'a> {
    Case { peer, evidence, history, application: &[], moved_seen_at: None, allow_addresses: &[], overridden: None }
}

/// What a host does when it is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    Serves,
    NewKey,
    ThirdKey,
    Silent,
    Foreign,
    Expired,
    Parked,
    Status(u16),
    Fails(Stage, ErrorClass),
}

/// The world outside, as it is now.
#[derive(Debug, Clone)]
pub struct World {
    pub now: Timestamp,
    pub level: Level,
    pub authority: BTreeMap<String, BTreeSet<IpAddr>>,
    pub resolver: Result<BTreeSet<IpAddr>, Rcode>,
    pub resolver_ttls: [u32; 3],
    pub independents: BTreeSet<IpAddr>,
    pub hosts: BTreeMap<IpAddr, Host>,
    pub controls_reached: bool,
    pub control_names: bool,
    /// A proxy of ours answers TLS for every control, with an issuer that nobody here trusts.
    pub controls_intercepted: bool,
    pub canary: Canary,
    pub parent_ns: BTreeSet<String>,
    pub served: Option<BTreeSet<IpAddr>>,
    pub history: History,
    pub rotates: bool,
    /// What the name is an alias of, where it has an address.
    pub alias: Option<String>,
    /// How wrong our clock is, as the controls' `Date` says.
    pub clock_offset_s: i64,
    /// Other peers that are watched, and what their hosts do.
    pub others: BTreeMap<String, Host>,
}

impl World {
    pub fn healthy() -> World {
        World {
            now: start(),
            level: Level::Approve,
            authority: servers(&[OLD]),
            resolver: Ok(set(&[OLD])),
            resolver_ttls: [60, 59, 55],
            independents: set(&[OLD]),
            hosts: BTreeMap::from([(ip(OLD), Host::Serves), (ip(NEW), Host::Serves), (ip(EVIL), Host::Foreign)]),
            controls_reached: true,
            control_names: true,
            controls_intercepted: false,
            canary: Canary::Clean,
            parent_ns: names(),
            served: None,
            history: history(),
            rotates: false,
            alias: None,
            clock_offset_s: 0,
            others: BTreeMap::new(),
        }
    }

    /// S01: the peer moved, and our resolver goes on giving the old address.
    pub fn stale() -> World {
        let mut world = World::healthy();
        world.go_stale();
        world
    }

    pub fn go_stale(&mut self) {
        self.authority = servers(&[NEW]);
        self.independents = set(&[NEW]);
        self.hosts.insert(ip(OLD), Host::Silent);
        self.resolver_ttls = [60, 60, 60];
    }

    pub fn heal(&mut self) {
        self.resolver = Ok(set(&[NEW]));
        self.resolver_ttls = [60, 59, 55];
    }

    pub fn peer(&self) -> Peer {
        Peer {
            name: "api".into(),
            host: HOST.into(),
            endpoints: vec![ENDPOINT.into()],
            interval: Duration::from_secs(10),
            level: self.level,
            approvals: 1,
            lease: Duration::from_secs(4 * 3600),
            mode: Mode::Follow,
            pin: Vec::new(),
            networks: Vec::new(),
            verified_tls: true,
            needs_secret: false,
            default_alarms: true,
        }
    }

    fn peers(&self) -> BTreeMap<String, Peer> {
        let others = self.others.keys().map(|name| {
            let (host, endpoints) = (format!("{name}.peer.example"), vec![format!("https://{name}.peer.example/")]);
            (name.clone(), Peer { name: name.clone(), host, endpoints, ..self.peer() })
        });
        others.chain([("api".to_owned(), self.peer())]).collect()
    }

    /// The world as another peer has it: the same addresses, with what its own host does.
    fn of_peer(&self, peer: &str) -> World {
        let host = self.others.get(peer).copied();
        let mut world = self.clone();
        world.hosts.extend(host.map(|host| (ip(OLD), host)));
        world
    }

    pub fn observation_of(&self, peer: &str, path: Path) -> Observation {
        let endpoint = self.peers()[peer].endpoints[0].clone();
        Observation { peer: peer.to_owned(), endpoint, ..self.of_peer(peer).observation(path) }
    }

    pub fn evidence_of(
        &self,
        peer: &str,
        purpose: Purpose,
        also: &BTreeSet<IpAddr>,
        known: &BTreeSet<IpAddr>,
    ) -> Evidence {
        let settings = &self.peers()[peer];
        let (host, endpoints) = (settings.host.clone(), settings.endpoints.clone());
        let mut evidence =
            Evidence { peer: peer.to_owned(), host, endpoints, ..self.of_peer(peer).evidence(purpose, also) };
        let named: BTreeSet<IpAddr> = evidence.candidates.iter().map(|candidate| candidate.address).collect();
        for address in known.difference(&named) {
            evidence.candidates.push(self.of_peer(peer).candidate(*address));
        }
        for observation in &mut evidence.observations {
            *observation = self.observation_of(peer, observation.path);
        }
        for proof in evidence.candidates.iter_mut().flat_map(|candidate| &mut candidate.proofs) {
            proof.endpoint.clone_from(&evidence.endpoints[0]);
        }
        evidence
    }

    pub fn settings(&self) -> Settings {
        Settings {
            peers: self.peers(),
            controls: controls(),
            allow_addresses: Vec::new(),
            serves_dns: true,
            zone: None,
            hides_types: false,
            subscribers: vec![Subscriber { name: "team".into(), peers: BTreeSet::new(), topics: BTreeSet::new() }],
            application_reports: true,
            vantage: "here".into(),
            region: "ap-northeast-1".into(),
            account_id: "111122223333".into(),
        }
    }

    pub fn result(&self, address: IpAddr) -> AddressResult {
        let host = self.hosts.get(&address).copied().unwrap_or(Host::Silent);
        let failed = |stage, class| Some(Failure { stage, class, detail: "as staged".into() });
        let (identity, failure, status) = match host {
            Host::Serves => (Some(identity("key-1", true)), None, Some(200)),
            Host::ThirdKey => (Some(identity("key-3", true)), None, Some(200)),
            Host::NewKey => (Some(identity("key-2", true)), None, Some(200)),
            Host::Silent => (None, failed(Stage::Connect, ErrorClass::Timeout), None),
            Host::Foreign => (Some(identity("evil", false)), failed(Stage::Tls, ErrorClass::SelfSigned), None),
            Host::Expired => (Some(identity("key-1", false)), failed(Stage::Tls, ErrorClass::Expired), None),
            Host::Parked => (Some(identity("parking", true)), failed(Stage::Transfer, ErrorClass::Parked), Some(200)),
            Host::Fails(stage, class) => (stage > Stage::Tls)
                .then(|| identity("key-1", true))
                .map_or((None, failed(stage, class), None), |known| (Some(known), failed(stage, class), Some(200))),
            Host::Status(code) => {
                (Some(identity("key-1", true)), failed(Stage::Processing, ErrorClass::HttpStatus), Some(code))
            }
        };
        AddressResult {
            address,
            port: 443,
            timings: Timings::default(),
            identity,
            http: status.map(|status| HttpFacts { status, ..HttpFacts::default() }),
            stalled_after: None,
            failure,
        }
    }

    pub fn observation(&self, path: Path) -> Observation {
        let answered = match (&self.served, path) {
            (Some(served), Path::Normal) => Ok(served.clone()),
            _ => self.resolver.clone(),
        };
        let (addresses, failure) = match answered {
            Ok(addresses) if addresses.is_empty() => {
                let detail = "as staged".to_owned();
                (addresses, Some(Failure { stage: Stage::Resolve, class: ErrorClass::Nodata, detail }))
            }
            Ok(addresses) => (addresses, None),
            Err(rcode) => {
                let class = match rcode {
                    Rcode::Nxdomain => ErrorClass::Nxdomain,
                    _ => ErrorClass::Servfail,
                };
                let detail = "as staged".to_owned();
                (BTreeSet::new(), Some(Failure { stage: Stage::Resolve, class, detail }))
            }
        };
        Observation {
            peer: "api".into(),
            endpoint: ENDPOINT.into(),
            path,
            started_at: self.now,
            resolution: Resolution {
                resolver: "udp://127.0.0.53:53".into(),
                addresses: addresses.iter().copied().collect(),
                addresses_total: addresses.len(),
                ttl: Some(60),
                failure,
                ..Resolution::default()
            },
            results: addresses.iter().map(|address| self.result(*address)).collect(),
        }
    }

    pub fn evidence(&self, purpose: Purpose, also: &BTreeSet<IpAddr>) -> Evidence {
        let mut asked = Vec::new();
        for (server, addresses) in &self.authority {
            for transport in ["udp", "tcp"] {
                let mut answer = answer(addresses, 60, true);
                if self.rotates && transport == "udp" {
                    answer.addresses.pop();
                }
                asked.push(question(Source::Authority, server, transport, self.now, answer));
                asked.push(no_ipv6(server, transport, self.now));
            }
        }
        for (place, ttl) in self.resolver_ttls.into_iter().enumerate() {
            let at = self.now + SignedDuration::from_millis(1500 * place as i64);
            let answer = match &self.resolver {
                Ok(addresses) => answer(addresses, ttl, false),
                Err(rcode) => {
                    let soa = (*rcode == Rcode::Nxdomain).then_some(Soa { serial: 7, negative_ttl: 900 });
                    Answer { rcode: *rcode, soa, ..answer(&BTreeSet::new(), ttl, false) }
                }
            };
            asked.push(question(Source::OurResolver, "udp://127.0.0.53:53", "udp", at, answer));
        }
        for asked in &mut asked {
            if let Outcome::Answered(answer) = &mut asked.outcome {
                let alias = self.alias.iter().filter(|_| !answer.addresses.is_empty());
                answer.chain.extend(alias.cloned());
            }
        }
        for server in ["tls://9.9.9.9:853", "tls://1.1.1.1:853"] {
            let answer = answer(&self.independents, 60, false);
            asked.push(question(Source::Independent, server, "tls", self.now, answer));
        }
        let mut candidates: BTreeMap<IpAddr, BTreeSet<Source>> = BTreeMap::new();
        for asked in &asked {
            for address in asked.answer().iter().flat_map(|answer| &answer.addresses) {
                candidates.entry(*address).or_default().insert(asked.source);
            }
        }
        for address in also {
            candidates.entry(*address).or_default();
        }
        Evidence {
            peer: "api".into(),
            host: HOST.into(),
            purpose,
            started_at: self.now,
            finished_at: self.now + SignedDuration::from_secs(3),
            endpoints: vec![ENDPOINT.into()],
            asked,
            delegation: Some(Delegation {
                zone: "peer.example".into(),
                parent_ns: self.parent_ns.clone(),
                child_ns: self.parent_ns.clone(),
                servers: Vec::new(),
                parent_rcode: None,
                problems: Vec::new(),
            }),
            canary: self.canary.clone(),
            candidates: candidates
                .into_iter()
                .map(|(address, learned_from)| Candidate {
                    address,
                    learned_from,
                    by_operator: also.contains(&address),
                    proofs: self.proofs(address),
                })
                .collect(),
            controls: controls().into_iter().map(|control| self.control(control)).collect(),
            observations: vec![self.observation(Path::Bypass)],
            ..Evidence::about("api", HOST, purpose, self.now)
        }
    }

    fn candidate(&self, address: IpAddr) -> Candidate {
        Candidate { address, learned_from: BTreeSet::new(), by_operator: false, proofs: self.proofs(address) }
    }

    fn proofs(&self, address: IpAddr) -> Vec<Proof> {
        let result = self.result(address);
        let times = if result.is_success() { 3 } else { 1 };
        (0..times).map(|_| Proof { endpoint: ENDPOINT.into(), result: result.clone() }).collect()
    }

    fn control(&self, control: String) -> ControlResult {
        ControlResult {
            control,
            name_failure: (!self.control_names).then(|| "SERVFAIL".into()),
            address_tried: true,
            address_failure: match (self.controls_reached, self.controls_intercepted) {
                (false, _) => Some("timed out".into()),
                (true, true) => Some("tls: untrusted issuer".into()),
                (true, false) => None,
            },
            issuer: self
                .controls_reached
                .then(|| if self.controls_intercepted { "CN=Proxy" } else { "CN=Web CA" }.into()),
            dates_failure: false,
            clock_offset_s: self.controls_reached.then_some(self.clock_offset_s),
            tls_verified: self.controls_reached && !self.controls_intercepted,
            failed_at: match (self.controls_reached, self.controls_intercepted) {
                (false, _) => Some(Stage::Connect),
                (true, true) => Some(Stage::Tls),
                (true, false) => None,
            },
            v6: None,
        }
    }
}

fn no_ipv6(server: &str, transport: &str, at: Timestamp) -> Asked {
    let answer = answer(&BTreeSet::new(), 60, true);
    let mut asked = question(Source::Authority, server, transport, at, answer);
    asked.record_type = "AAAA".into();
    asked
}

fn controls() -> Vec<String> {
    (1..=3).map(|number| format!("https://control-{number}.example/")).collect()
}

pub fn names() -> BTreeSet<String> {
    (1..=3).map(|number| format!("ns-{number}.peer.example")).collect()
}

pub fn servers(addresses: &[&str]) -> BTreeMap<String, BTreeSet<IpAddr>> {
    names().into_iter().map(|server| (server, set(addresses))).collect()
}

fn identity(key: &str, verified: bool) -> Identity {
    Identity {
        key_sha256: key.to_owned(),
        certificate_sha256: format!("certificate of {key}"),
        issuer: "CN=Peer CA".into(),
        names: vec![HOST.into()],
        names_total: 1,
        not_before: start() - SignedDuration::from_hours(240),
        not_after: start() + SignedDuration::from_hours(2400),
        chain_length: 2,
        version: Some("TLSv1.3".into()),
        alpn: None,
        verified,
    }
}

fn answer(addresses: &BTreeSet<IpAddr>, ttl: u32, authoritative: bool) -> Answer {
    Answer {
        rcode: Rcode::Noerror,
        authoritative,
        recursion_available: !authoritative,
        authentic_data: false,
        truncated: false,
        addresses: addresses.iter().copied().collect(),
        records: addresses.len(),
        chain: Vec::new(),
        ttl: Some(ttl),
        soa: None,
        extended_errors: Vec::new(),
        nsid: None,
        elapsed_us: 500,
    }
}

fn question(source: Source, server: &str, transport: &str, at: Timestamp, answer: Answer) -> Asked {
    Asked {
        source,
        server: server.to_owned(),
        identity: server.to_owned(),
        transport: transport.to_owned(),
        record_type: "A".into(),
        checking_disabled: false,
        subnet: None,
        at,
        outcome: Outcome::Answered(answer),
        wire: None,
    }
}

pub fn history() -> History {
    let since = start() - SignedDuration::from_hours(168);
    History {
        since: Some(since),
        identities: vec![ProvenIdentity {
            key_sha256: "key-1".into(),
            issuer: "CN=Peer CA".into(),
            addresses: set(&[OLD]),
        }],
        answers: vec![SeenAnswer {
            source: Source::Authority,
            addresses: set(&[OLD]),
            ttl: 60,
            first_seen: since,
            last_seen: start(),
        }],
        delegation: Some(SeenDelegation { zone: "peer.example".into(), parent_ns: names(), child_ns: names() }),
        controls: controls().into_iter().collect(),
        control_issuers: controls().into_iter().map(|control| format!("{control} CN=Web CA")).collect(),
        next_delegation: None,
        unauthenticated: BTreeMap::new(),
        steered: None,
    }
}

/// What the verdict recommends: always one option.
pub fn recommended(verdict: &Verdict) -> Vec<&str> {
    let options = verdict.options.iter().filter(|option| option.judgement == Judgement::Recommended);
    options.map(|option| option.name.as_str()).collect()
}

pub fn person(uid: u32) -> Actor {
    Actor { uid: Some(uid), name: format!("person-{uid}"), via: "cli".into() }
}
