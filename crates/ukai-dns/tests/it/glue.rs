//! The addresses of name servers, as the parent gives them and as they are.

use std::collections::BTreeMap;

use hickory_proto::rr::Record;
use ukai_dns::delegation::Delegation;

use crate::delegation::{Tree, Zones, three_levels};
use crate::peer::{a, cname, ns};

/// The three levels, with other records at the top-level zone and below.
async fn tree(
    top: impl Fn(&dyn Fn(u8) -> String) -> Vec<Record>,
    below: impl Fn(&dyn Fn(u8) -> String) -> BTreeMap<u8, Zones>,
) -> Tree {
    Tree::start(|ip| {
        let mut servers = three_levels(ip);
        let mut records = vec![ns("test", "ns.test"), a("ns.test", 60, &ip(2))];
        records.extend(top(ip));
        servers.insert(2, Zones::of("test", records));
        servers.extend(below(ip));
        servers
    })
    .await
}

fn says(found: &Delegation, part: &str) -> bool {
    found.problems.iter().any(|problem| problem.contains(part))
}

#[tokio::test]
async fn glue_that_the_zone_itself_contradicts_is_told_and_both_are_asked() {
    let tree = tree(
        |ip| {
            vec![
                ns("peer.test", "ns-1.peer.test"),
                ns("peer.test", "ns-2.peer.test"),
                a("ns-1.peer.test", 60, &ip(9)),
                a("ns-2.peer.test", 60, &ip(4)),
            ]
        },
        |_| BTreeMap::new(),
    )
    .await;
    let found = tree.walk("api.peer.test").await;
    let (stale, own) = (tree.address(9).ip(), tree.address(3).ip());
    let told = format!("test gives {stale} as the address of ns-1.peer.test, peer.test itself {own}");
    assert!(says(&found, &told), "{:?}", found.problems);
    let of_ns_1: Vec<_> = found.servers.iter().filter(|server| server.name == "ns-1.peer.test").collect();
    assert_eq!(
        of_ns_1.iter().map(|server| (server.address, server.delegated)).collect::<Vec<_>>(),
        [(tree.address(3), true), (tree.address(9), true)]
    );
    assert!(!says(&found, "ns-2.peer.test"), "{:?}", found.problems);
}

#[tokio::test]
async fn glue_that_is_missing_is_told() {
    let tree = tree(
        |ip| {
            vec![ns("peer.test", "ns-1.peer.test"), ns("peer.test", "ns-2.peer.test"), a("ns-1.peer.test", 60, &ip(3))]
        },
        |_| BTreeMap::new(),
    )
    .await;
    let found = tree.walk("api.peer.test").await;
    assert!(found.complete);
    assert_eq!(found.problems, ["test gives no address for ns-2.peer.test, a name server inside peer.test"]);
    assert!(found.servers.iter().any(|server| server.address == tree.address(4) && server.delegated));
}

#[tokio::test]
async fn name_servers_that_are_aliases_or_do_not_exist() {
    let tree = tree(
        |ip| {
            vec![
                ns("shop.test", "alias.peer.test"),
                ns("shop.test", "gone.peer.test"),
                ns("shop.test", "empty.peer.test"),
                ns("peer.test", "ns-1.peer.test"),
                a("ns-1.peer.test", 60, &ip(3)),
            ]
        },
        |ip| {
            let peer = vec![
                ns("peer.test", "ns-1.peer.test"),
                a("ns-1.peer.test", 60, &ip(3)),
                cname("alias.peer.test", "dns.peer.test"),
                a("dns.peer.test", 60, &ip(4)),
                ns("empty.peer.test", "ns.elsewhere.test"),
            ];
            let shop = ["alias", "gone", "empty"].map(|host| ns("shop.test", &format!("{host}.peer.test")));
            let shop = shop.into_iter().chain([a("www.shop.test", 60, "192.0.2.8")]).collect();
            BTreeMap::from([(3, Zones::of("peer.test", peer)), (4, Zones::of("shop.test", shop))])
        },
    )
    .await;
    let found = tree.walk("www.shop.test").await;
    assert!(found.complete, "{:?}", found.problems);
    for told in [
        "the name server alias.peer.test is an alias of dns.peer.test",
        "the name server gone.peer.test does not exist",
        "no address could be found for the name server empty.peer.test",
    ] {
        assert!(says(&found, told), "{told}: {:?}", found.problems);
    }
}
