use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType as Rtype};
use ukai_dns::delegation::{
    AuthorityOptions, Canary, Delegation, WalkOptions, ask_authorities, canary, walk, walk_zone,
};
use ukai_dns::{AskError, Client, ClientOptions, Name, Rcode, RecordType, Transport};

use crate::peer::{Handler, Peer, Via, a, asked, cname, name, ns, reply, soa};

/// What one server does: the zones that it holds, each with records, and the cuts below it as NS records.
#[derive(Clone, Default)]
pub struct Zones {
    /// Apex and records; NS records below the apex are cuts, their addresses glue.
    zones: Vec<(&'static str, Vec<Record>)>,
    trouble: Trouble,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Trouble {
    #[default]
    None,
    /// Answers without authority, as a server that does not have the zone.
    Lame,
    Silent,
    Code(ResponseCode),
    UdpOnly,
    /// Another's resolver answers in its place.
    Intercepted,
}

impl Zones {
    pub fn of(apex: &'static str, records: Vec<Record>) -> Self {
        Self { zones: vec![(apex, records)], trouble: Trouble::None }
    }

    fn and(mut self, apex: &'static str, records: Vec<Record>) -> Self {
        self.zones.push((apex, records));
        self
    }

    fn with(mut self, trouble: Trouble) -> Self {
        self.trouble = trouble;
        self
    }

    fn answer(&self, query: &Message, via: Via) -> Option<Message> {
        let mut message = reply(query, ResponseCode::Refused);
        message.metadata.recursion_available = false;
        match self.trouble {
            Trouble::Silent => return None,
            Trouble::UdpOnly if via == Via::Tcp => return None,
            Trouble::Lame => {
                message.metadata.response_code = ResponseCode::NoError;
                return Some(message);
            }
            Trouble::Code(code) => {
                message.metadata.response_code = code;
                return Some(message);
            }
            Trouble::Intercepted => {
                message.metadata.response_code = ResponseCode::NXDomain;
                message.metadata.recursion_available = true;
                return Some(message);
            }
            Trouble::None | Trouble::UdpOnly => {}
        }
        let asked_name = name(&asked(query));
        let holding = self
            .zones
            .iter()
            .filter(|(apex, _)| name(apex).zone_of(&asked_name))
            .max_by_key(|(apex, _)| name(apex).num_labels());
        let Some((apex, records)) = holding else {
            return Some(message);
        };
        let apex = name(apex);
        message.metadata.response_code = ResponseCode::NoError;
        let is_cut = |record: &&Record| {
            matches!(record.data, RData::NS(_)) && record.name != apex && record.name.zone_of(&asked_name)
        };
        let cut: Vec<_> = records.iter().filter(is_cut).cloned().collect();
        if !cut.is_empty() {
            for record in &cut {
                let RData::NS(server) = &record.data else {
                    continue;
                };
                message.add_additionals(records.iter().filter(|glue| glue.name == server.0).cloned());
            }
            message.add_authorities(cut);
            return Some(message);
        }
        message.metadata.authoritative = true;
        let qtype = query.queries[0].query_type();
        let here: Vec<_> = records.iter().filter(|record| record.name == asked_name).collect();
        let matching =
            here.iter().filter(|record| record.record_type() == qtype || record.record_type() == Rtype::CNAME);
        message.add_answers(matching.map(|record| (*record).clone()));
        let start_of_authority = soa(&apex.to_string(), 60);
        if qtype == Rtype::SOA && asked_name == apex {
            message.add_answer(start_of_authority);
        } else if message.answers.is_empty() {
            message.add_authority(start_of_authority);
            if here.is_empty() && asked_name != apex {
                message.metadata.response_code = ResponseCode::NXDomain;
            }
        }
        Some(message)
    }
}

/// Servers on addresses of their own, all on one port, as port 53 is in the world.
pub struct Tree {
    port: u16,
    net: u8,
    _peers: Vec<Peer>,
}

/// Each tree gets its own 127.x.0.0/24, so that trees stand side by side.
static NEXT_NET: AtomicU8 = AtomicU8::new(90);

const ROOT: u8 = 1;

impl Tree {
    pub async fn start(build: impl Fn(&dyn Fn(u8) -> String) -> BTreeMap<u8, Zones>) -> Self {
        for _ in 0..32 {
            let net = NEXT_NET.fetch_add(1, Ordering::SeqCst);
            let servers = build(&|host| format!("127.{net}.0.{host}"));
            if let Some(tree) = Self::bind(net, servers).await {
                return tree;
            }
        }
        panic!("no port is free on all the addresses");
    }

    async fn bind(net: u8, servers: BTreeMap<u8, Zones>) -> Option<Self> {
        let mut tree = Self { port: 0, net, _peers: Vec::new() };
        for (host, zones) in servers {
            let handler: Handler =
                Arc::new(move |query, via| zones.answer(query, via).map(|reply| reply.to_vec().unwrap()));
            let peer = Peer::bind(tree.address(host), Duration::ZERO, handler).await.ok()?;
            tree.port = peer.address.port();
            tree._peers.push(peer);
        }
        Some(tree)
    }

    pub fn address(&self, host: u8) -> SocketAddr {
        (Ipv4Addr::new(127, self.net, 0, host), self.port).into()
    }

    fn options(&self) -> WalkOptions {
        WalkOptions {
            root_hints: vec![self.address(ROOT).ip()],
            authority_port: self.port,
            query_timeout: Duration::from_millis(500),
            ..WalkOptions::default()
        }
    }

    pub async fn walk(&self, host: &str) -> Delegation {
        walk(&client(), &host.parse().unwrap(), &self.options()).await
    }
}

fn client() -> Client {
    Client::new(ClientOptions { system_roots: false, ..ClientOptions::default() })
}

fn names(names: &[Name]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Root (1), test (2), and peer.test on 3 and 4.
pub fn three_levels(ip: &dyn Fn(u8) -> String) -> BTreeMap<u8, Zones> {
    let zone = vec![
        ns("peer.test", "ns-1.peer.test"),
        ns("peer.test", "ns-2.peer.test"),
        a("ns-1.peer.test", 60, &ip(3)),
        a("ns-2.peer.test", 60, &ip(4)),
        a("api.peer.test", 60, "192.0.2.1"),
    ];
    let mut top = zone[..4].to_vec();
    top.push(ns("test", "ns.test"));
    top.push(a("ns.test", 60, &ip(2)));
    BTreeMap::from([
        (ROOT, Zones::of(".", vec![ns("test", "ns.test"), a("ns.test", 60, &ip(2))])),
        (2, Zones::of("test", top)),
        (3, Zones::of("peer.test", zone.clone())),
        (4, Zones::of("peer.test", zone)),
    ])
}

#[tokio::test]
async fn down_three_levels() {
    let tree = Tree::start(three_levels).await;
    let found = tree.walk("api.peer.test").await;
    assert_eq!((found.zone.to_string().as_str(), found.parent.zone.to_string().as_str()), ("peer.test", "test"));
    assert_eq!(found.parent.servers, [tree.address(2)]);
    assert_eq!(names(&found.parent_ns), ["ns-1.peer.test", "ns-2.peer.test"]);
    assert_eq!(found.parent_ns, found.child_ns);
    assert!(found.complete && !found.signed && found.problems.is_empty(), "{:?}", found.problems);
    let servers: Vec<_> =
        found.servers.iter().map(|server| (server.name.to_string(), server.address, server.delegated)).collect();
    assert_eq!(
        servers,
        [("ns-1.peer.test".to_owned(), tree.address(3), true), ("ns-2.peer.test".to_owned(), tree.address(4), true)]
    );
    assert_eq!((found.parent_says, found.aliases.len(), found.chain.len()), (None, 0, 0));
}

#[tokio::test]
async fn everyone_is_asked_everything() {
    let tree = Tree::start(|ip| {
        let mut servers = three_levels(ip);
        servers.entry(4).and_modify(|zones| zones.trouble = Trouble::UdpOnly);
        servers
    })
    .await;
    let found = tree.walk("api.peer.test").await;
    let options = AuthorityOptions { timeout: Duration::from_millis(500), ..AuthorityOptions::default() };
    let answers = ask_authorities(&client(), &found.servers, &found.host, &options).await;
    assert_eq!(answers.len(), 16);
    for answer in answers {
        let silent = answer.server.address == tree.address(4) && answer.transport == Transport::Tcp;
        match answer.result {
            Err(error) => assert!(silent && matches!(error, AskError::Timeout { .. }), "{error}"),
            Ok(reply) => {
                assert!(!silent && reply.authoritative);
                assert_eq!(reply.transport, answer.transport);
                let expected: &[IpAddr] =
                    if answer.qtype == RecordType::A { &["192.0.2.1".parse().unwrap()] } else { &[] };
                assert_eq!(reply.addresses(), expected);
                assert_eq!(reply.soa.is_some(), answer.qtype != RecordType::A);
            }
        }
    }
}

#[tokio::test]
async fn a_lame_server_and_a_silent_one_are_walked_around() {
    let tree = Tree::start(|ip| {
        let mut servers = three_levels(ip);
        servers.entry(3).and_modify(|zones| zones.trouble = Trouble::Lame);
        servers
    })
    .await;
    let found = tree.walk("api.peer.test").await;
    assert!(found.complete);
    assert_eq!(found.servers.len(), 2);
    let lame = format!("{}, asked as a server of peer.test: it is lame", tree.address(3));
    assert!(found.problems.iter().any(|problem| problem.starts_with(&lame)), "{:?}", found.problems);

    let tree = Tree::start(|ip| {
        let mut servers = three_levels(ip);
        servers.entry(3).and_modify(|zones| zones.trouble = Trouble::Silent);
        servers
    })
    .await;
    assert!(tree.walk("api.peer.test").await.complete);
}

#[tokio::test]
async fn a_zone_whose_servers_are_all_silent_is_still_found() {
    let tree = Tree::start(|ip| {
        let mut servers = three_levels(ip);
        servers.entry(3).and_modify(|zones| zones.trouble = Trouble::Silent);
        servers.entry(4).and_modify(|zones| zones.trouble = Trouble::Code(ResponseCode::ServFail));
        servers
    })
    .await;
    let found = tree.walk("api.peer.test").await;
    assert_eq!((found.zone.to_string().as_str(), found.complete, found.servers.len()), ("peer.test", false, 2));
    assert!(found.child_ns.is_empty());
    assert_eq!(found.parent_says, None);
    assert!(found.problems.iter().any(|problem| problem.contains("SERVFAIL")), "{:?}", found.problems);
    assert!(found.problems.iter().any(|problem| problem.contains("no server of peer.test")), "{:?}", found.problems);
}

#[tokio::test]
async fn a_bound_that_is_too_short_ends_the_walk() {
    let tree = Tree::start(|ip| {
        let mut servers = three_levels(ip);
        servers.entry(ROOT).and_modify(|zones| zones.trouble = Trouble::Silent);
        servers
    })
    .await;
    let options =
        WalkOptions { bound: Duration::from_millis(50), query_timeout: Duration::from_secs(60), ..tree.options() };
    let found = walk(&client(), &"api.peer.test".parse().unwrap(), &options).await;
    assert_eq!((found.zone.to_string().as_str(), found.complete), (".", false));
    assert!(found.problems.iter().any(|problem| problem.contains("ran out of its 50 ms")), "{:?}", found.problems);
}

#[tokio::test]
async fn the_parent_denies_or_fails() {
    let tree = Tree::start(|ip| {
        let mut servers = three_levels(ip);
        servers.insert(2, Zones::of("test", vec![ns("test", "ns.test"), a("ns.test", 60, &ip(2))]));
        servers
    })
    .await;
    let found = tree.walk("api.peer.test").await;
    assert_eq!((found.zone.to_string().as_str(), found.parent_says), ("test", Some(Rcode::NXDOMAIN)));

    let tree = Tree::start(|ip| {
        let mut servers = three_levels(ip);
        servers.entry(2).and_modify(|zones| zones.trouble = Trouble::Code(ResponseCode::ServFail));
        servers
    })
    .await;
    let found = tree.walk("api.peer.test").await;
    assert_eq!((found.complete, found.parent_says), (false, Some(Rcode::SERVFAIL)));

    // A name that only the zone itself denies is another matter.
    let tree = Tree::start(three_levels).await;
    let found = tree.walk("gone.peer.test").await;
    assert_eq!((found.zone.to_string().as_str(), found.parent_says, found.complete), ("peer.test", None, true));
}

#[tokio::test]
async fn parent_and_child_disagree() {
    let tree = Tree::start(|ip| {
        let mut servers = three_levels(ip);
        let zone = vec![
            ns("peer.test", "ns-1.peer.test"),
            ns("peer.test", "ns-3.peer.test"),
            a("ns-1.peer.test", 60, &ip(3)),
            a("ns-3.peer.test", 60, &ip(5)),
            a("api.peer.test", 60, "192.0.2.1"),
        ];
        for host in [3, 4, 5] {
            servers.insert(host, Zones::of("peer.test", zone.clone()));
        }
        servers
    })
    .await;
    let found = tree.walk("api.peer.test").await;
    assert_eq!(names(&found.parent_ns), ["ns-1.peer.test", "ns-2.peer.test"]);
    assert_eq!(names(&found.child_ns), ["ns-1.peer.test", "ns-3.peer.test"]);
    let delegated: Vec<_> = found.servers.iter().map(|server| (server.address, server.delegated)).collect();
    assert_eq!(delegated, [(tree.address(3), true), (tree.address(4), true), (tree.address(5), false)]);
    assert!(found.problems.iter().any(|problem| problem.contains("names other servers")), "{:?}", found.problems);
}

#[tokio::test]
async fn name_servers_without_glue_are_walked_to_and_cycles_end() {
    let tree = Tree::start(|ip| {
        let mut servers = three_levels(ip);
        let hosted = vec![ns("shop.test", "ns-1.peer.test"), a("www.shop.test", 60, "192.0.2.8")];
        let mut top = vec![
            ns("shop.test", "ns-9.peer.test"),
            ns("one.test", "ns.two.test"),
            ns("two.test", "ns.one.test"),
            ns("peer.test", "ns-1.peer.test"),
            a("ns-1.peer.test", 60, &ip(3)),
        ];
        top.push(ns("test", "ns.test"));
        servers.insert(2, Zones::of("test", top));
        let peer =
            vec![ns("peer.test", "ns-1.peer.test"), a("ns-1.peer.test", 60, &ip(3)), a("ns-9.peer.test", 60, &ip(6))];
        servers.insert(3, Zones::of("peer.test", peer));
        servers.insert(6, Zones::of("shop.test", hosted));
        servers
    })
    .await;
    let found = tree.walk("www.shop.test").await;
    assert!(found.complete, "{:?}", found.problems);
    assert!(found.servers.iter().any(|server| server.address == tree.address(6) && server.delegated));
    let cycle = tree.walk("www.one.test").await;
    assert_eq!((cycle.zone.to_string().as_str(), cycle.complete), ("one.test", false));
    assert!(
        cycle.problems.iter().any(|problem| problem.contains("no address could be found for")),
        "{:?}",
        cycle.problems
    );
}

#[tokio::test]
async fn one_server_for_parent_and_child_hides_the_cut() {
    let tree = Tree::start(|ip| {
        let peer = vec![ns("peer.test", "ns.test"), a("api.peer.test", 60, "192.0.2.1")];
        let top = vec![ns("test", "ns.test"), a("ns.test", 60, &ip(2)), ns("peer.test", "ns.test")];
        BTreeMap::from([
            (ROOT, Zones::of(".", vec![ns("test", "ns.test"), a("ns.test", 60, &ip(2))])),
            (2, Zones::of("test", top).and("peer.test", peer)),
        ])
    })
    .await;
    let found = tree.walk("api.peer.test").await;
    assert_eq!((found.zone.to_string().as_str(), found.parent.zone.to_string().as_str()), ("peer.test", "test"));
    assert_eq!(names(&found.child_ns), ["ns.test"]);
    assert_eq!(found.servers.iter().map(|server| server.address).collect::<Vec<_>>(), [tree.address(2)]);
}

#[tokio::test]
async fn cnames_are_followed_from_zone_to_zone_and_no_further_than_once_round() {
    let tree = Tree::start(|ip| {
        let mut servers = three_levels(ip);
        let mut top = vec![ns("test", "ns.test")];
        for (zone, host) in [("peer.test", 3u8), ("cdn.test", 4)] {
            top.push(ns(zone, &format!("ns.{zone}")));
            top.push(a(&format!("ns.{zone}"), 60, &ip(host)));
        }
        servers.insert(2, Zones::of("test", top));
        let peer = vec![
            ns("peer.test", "ns.peer.test"),
            a("ns.peer.test", 60, &ip(3)),
            cname("api.peer.test", "edge.cdn.test"),
            cname("loop.peer.test", "loop.cdn.test"),
        ];
        let cdn = vec![
            ns("cdn.test", "ns.cdn.test"),
            a("ns.cdn.test", 60, &ip(4)),
            a("edge.cdn.test", 60, "192.0.2.5"),
            cname("loop.cdn.test", "loop.peer.test"),
        ];
        servers.insert(3, Zones::of("peer.test", peer));
        servers.insert(4, Zones::of("cdn.test", cdn));
        servers
    })
    .await;
    let found = tree.walk("api.peer.test").await;
    assert_eq!(found.aliases.iter().map(|alias| alias.target.to_string()).collect::<Vec<_>>(), ["edge.cdn.test"]);
    assert_eq!(found.chain.len(), 1);
    assert_eq!(found.target().zone, "cdn.test");
    assert!(found.target().servers.iter().any(|server| server.address == tree.address(4)));
    let zone = walk_zone(&client(), &"api.peer.test".parse().unwrap(), &tree.options()).await;
    assert_eq!((zone.zone.to_string().as_str(), zone.chain.len()), ("peer.test", 0));
    assert_eq!(zone.aliases[0].target.to_string(), "edge.cdn.test");
    let round = tree.walk("loop.peer.test").await;
    assert!(
        round.problems.iter().any(|problem| problem.contains("come back to loop.peer.test")),
        "{:?}",
        round.problems
    );
    assert_eq!(round.chain.len(), 1);
}

#[tokio::test]
async fn the_canary_knows_an_authority_from_somebody_in_the_middle() {
    let tree = Tree::start(|ip| {
        let mut servers = three_levels(ip);
        servers.insert(4, Zones::default().with(Trouble::Intercepted));
        servers.insert(5, Zones::default().with(Trouble::Silent));
        servers.insert(6, Zones::of("invalid", vec![ns("invalid", "x.invalid")]));
        servers.insert(7, Zones::default().with(Trouble::Lame));
        servers.insert(8, Zones::of(".", vec![ns(".", "x.invalid")]));
        servers
    })
    .await;
    let fly = async |host: u8| canary(&client(), tree.address(host), Duration::from_millis(500)).await;
    assert_eq!(fly(3).await, Canary::Clean);
    assert_eq!(fly(7).await, Canary::Clean);
    assert!(matches!(fly(4).await, Canary::Intercepted(why) if why.contains("offers recursion")));
    assert!(matches!(fly(6).await, Canary::Intercepted(why) if why.contains("as if the name were its own")));
    assert!(matches!(fly(5).await, Canary::NoAnswer(_)));
    assert!(matches!(fly(8).await, Canary::NoAnswer(why) if why.contains("root")), "the root may deny it");
}

#[tokio::test]
async fn the_canary_sees_an_answer_out_of_nothing() {
    let peer = Peer::start(|query, _| {
        let mut message = reply(query, ResponseCode::NoError);
        message.metadata.recursion_available = false;
        message.add_answer(a(&asked(query), 60, "192.0.2.99"));
        Some(message)
    })
    .await;
    let seen = canary(&client(), peer.address, Duration::from_secs(5)).await;
    assert!(matches!(seen, Canary::Intercepted(why) if why.contains("192.0.2.99")));
}
