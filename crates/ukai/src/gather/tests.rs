mod asked;
mod bad_input;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;
use ukai_core::diagnose::answers::{Authority, authority};
use ukai_core::diagnose::evidence::{Evidence, Purpose};
use ukai_core::observe::Path;

use super::authorities::Authorities;
use super::name_server::{A, Mind, SOA, Said, Servers, address, cname, ns, refused, zone};
use super::*;
use crate::config::Config;

/// A peer, whose resolvers and authorities are at these places.
pub fn configured(resolver: SocketAddr, root: SocketAddr, more: &str) -> (Vantage, Subject) {
    let text = format!(
        "resolver = [\"{resolver}\"]\nindependent = [\"{resolver}\"]\nroot_hints = [\"{}\"]\nauthority_port = {}\n\
         evidence_bound = \"5s\"\nallow_addresses = [\"127.0.0.0/8\"]\n{more}\n\
         [[peer]]\nname = \"api\"\nurls = [\"http://api.peer.test:1/\"]\n",
        root.ip(),
        root.port()
    );
    let config = Config::parse(&text, std::path::Path::new("ukai.toml")).unwrap();
    let configured = configure(&config).unwrap();
    (configured.vantage, configured.subjects["api"].clone())
}

fn order(now: Timestamp) -> Order {
    Order { purpose: Purpose::Diagnose, also: BTreeSet::new(), known: BTreeSet::new(), now }
}

fn ips(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// The root delegates peer.test to the servers 3 and 4, cdn.test to 5 and 6.
fn root(ip: &dyn Fn(u8) -> String) -> Mind {
    let delegations = [
        ("peer.test", [("ns-1.peer.test", ip(3)), ("ns-2.peer.test", ip(4))]),
        ("cdn.test", [("ns-a.cdn.test", ip(5)), ("ns-b.cdn.test", ip(6))]),
    ];
    Arc::new(move |name, _, _| {
        let Some((apex, servers)) = delegations.iter().find(|(apex, _)| name.ends_with(apex)) else {
            return zone("", &[], name, A);
        };
        Said {
            authority: servers.iter().map(|(server, _)| ns(apex, server)).collect(),
            additional: servers.iter().map(|(server, ip)| address(server, ip)).collect(),
            ..Said::default()
        }
    })
}

fn peer_zone(target: &'static str) -> Mind {
    Arc::new(move |name, qtype, _| {
        let servers = ["ns-1.peer.test", "ns-2.peer.test"].map(|server| ns("peer.test", server));
        let alias = cname("api.peer.test", target);
        zone("peer.test", &[&servers[..], &[alias]].concat(), name, qtype)
    })
}

fn cdn_zone(edge: &'static str, other: &'static str) -> Mind {
    Arc::new(move |name, qtype, _| {
        let servers = ["ns-a.cdn.test", "ns-b.cdn.test"].map(|server| ns("cdn.test", server));
        let addresses = [address("edge.cdn.test", edge), address("other.cdn.test", other)];
        zone("cdn.test", &[servers, addresses].concat(), name, qtype)
    })
}

/// What the authorities say of api.peer.test, with what the core reads from it.
async fn authorities(minds: [Mind; 4]) -> (Authorities, Authority) {
    let [one, two, a, b] = minds;
    let servers =
        Servers::start(|ip| vec![(1, root(ip)), (3, one.clone()), (4, two.clone()), (5, a.clone()), (6, b.clone())])
            .await;
    let (vantage, subject) = configured(servers.address(1), servers.address(1), "controls = \"none\"");
    let deadline = Instant::now() + vantage.bound;
    let anchor = Anchor::new(Timestamp::UNIX_EPOCH);
    let asker = Asker { dns: vantage.dns.clone(), host: subject.host.clone(), anchor, deadline };
    let (found, _finds) = Found::channel();
    let told = authorities::ask(&vantage, &subject, &asker, &found, &[]).await;
    let evidence = Evidence {
        asked: told.asked.clone(),
        delegation: told.delegation.clone(),
        ..Evidence::about("api", &subject.host, Purpose::Diagnose, Timestamp::UNIX_EPOCH)
    };
    let read = authority(&evidence);
    (told, read)
}

fn problems(told: &Authorities) -> String {
    told.delegation.as_ref().unwrap().problems.join("\n")
}

#[tokio::test]
async fn an_alias_that_all_servers_lead_to_is_agreed_on_by_the_own_zone() {
    let edge = || cdn_zone("192.0.2.5", "192.0.2.66");
    let (told, read) = authorities([peer_zone("edge.cdn.test"), peer_zone("edge.cdn.test"), edge(), edge()]).await;
    assert_eq!(read, Authority::Agreed(ips(&["192.0.2.5"])), "{:#?}", told.asked);
    let delegation = told.delegation.as_ref().unwrap();
    assert_eq!(delegation.zone, "peer.test");
    let names = BTreeSet::from(["ns-1.peer.test".to_owned(), "ns-2.peer.test".to_owned()]);
    assert_eq!((&delegation.parent_ns, &delegation.child_ns), (&names, &names));
    assert_eq!(problems(&told), "");
    let whole = told.asked.iter().filter_map(Asked::answer).filter(|answer| !answer.addresses.is_empty());
    assert!(whole.clone().count() >= 6 && whole.clone().all(|answer| answer.chain == ["edge.cdn.test"]));
    assert!(told.asked.iter().any(|asked| asked.identity == "ns-a.cdn.test"));
}

#[tokio::test]
async fn servers_that_lead_apart_contradict_each_other() {
    let edge = || cdn_zone("192.0.2.5", "192.0.2.66");
    let (told, read) = authorities([peer_zone("edge.cdn.test"), peer_zone("other.cdn.test"), edge(), edge()]).await;
    let Authority::Contradicting(sets) = read else { panic!("{read:?}") };
    assert_eq!((&sets["ns-1.peer.test"], &sets["ns-2.peer.test"]), (&ips(&["192.0.2.5"]), &ips(&["192.0.2.66"])));
    let sentence = "lead apart: ns-1.peer.test to edge.cdn.test, ns-2.peer.test to other.cdn.test";
    assert!(problems(&told).contains(sentence), "{}", problems(&told));
}

#[tokio::test]
async fn leading_apart_to_the_same_addresses_is_no_agreement() {
    let edge = || cdn_zone("192.0.2.5", "192.0.2.5");
    let (told, read) = authorities([peer_zone("edge.cdn.test"), peer_zone("other.cdn.test"), edge(), edge()]).await;
    assert_eq!(read, Authority::TooFew { answered: 0, delegated: 2 });
    assert!(problems(&told).contains("lead apart"), "{}", problems(&told));
}

#[tokio::test]
async fn an_alias_told_over_udp_alone_leads_nowhere() {
    let forged = || -> Mind {
        let (truth, lie) = (peer_zone("edge.cdn.test"), peer_zone("other.cdn.test"));
        Arc::new(move |name, qtype, by_tcp| if by_tcp { truth(name, qtype, true) } else { lie(name, qtype, false) })
    };
    let edge = || cdn_zone("192.0.2.5", "192.0.2.66");
    let (_, read) = authorities([forged(), forged(), edge(), edge()]).await;
    assert_eq!(read, Authority::Agreed(ips(&["192.0.2.5"])));
}

#[tokio::test]
async fn what_a_server_says_of_another_zone_is_cut_off() {
    let meddling = || -> Mind {
        let honest = peer_zone("edge.cdn.test");
        Arc::new(move |name, qtype, by_tcp| {
            let mut said = honest(name, qtype, by_tcp);
            if name == "api.peer.test" && qtype == A {
                said.answers.push(address("edge.cdn.test", "192.0.2.99"));
            }
            said
        })
    };
    let edge = || cdn_zone("192.0.2.5", "192.0.2.66");
    let (told, read) = authorities([meddling(), meddling(), edge(), edge()]).await;
    assert_eq!(read, Authority::Agreed(ips(&["192.0.2.5"])));
    let said: BTreeSet<IpAddr> =
        told.asked.iter().filter_map(Asked::answer).flat_map(|answer| answer.addresses.clone()).collect();
    assert_eq!(said, ips(&["192.0.2.5"]));
}

#[tokio::test]
async fn the_servers_of_the_target_must_agree_too() {
    let leads = || peer_zone("edge.cdn.test");
    let (_, read) = authorities([leads(), leads(), cdn_zone("192.0.2.5", "::1"), cdn_zone("192.0.2.7", "::1")]).await;
    assert!(matches!(read, Authority::Contradicting(_)), "{read:?}");

    let half: Mind = Arc::new(|name, qtype, by_tcp| {
        let truth = cdn_zone("192.0.2.5", "::1");
        if by_tcp && qtype != SOA { refused() } else { truth(name, qtype, by_tcp) }
    });
    let (told, read) = authorities([leads(), leads(), cdn_zone("192.0.2.5", "::1"), half]).await;
    assert_eq!(read, Authority::TooFew { answered: 0, delegated: 2 });
    assert!(problems(&told).contains("1 of 2 name servers of cdn.test"), "{}", problems(&told));
}

/// A resolver that gives a dual-stack answer.
async fn dual_stack() -> Servers {
    let mind: Mind = Arc::new(|name, qtype, _| {
        zone("peer.test", &[address("api.peer.test", "127.0.0.1"), address("api.peer.test", "::1")], name, qtype)
    });
    Servers::start(|_| vec![(1, mind.clone())]).await
}

#[tokio::test]
async fn a_family_that_this_machine_lacks_is_not_probed() {
    let resolver = dual_stack().await;
    let (mut vantage, subject) = configured(resolver.address(1), resolver.address(1), "controls = \"none\"");
    vantage.is_routed = |address| address.is_ipv4();
    for path in [Path::Normal, Path::Bypass] {
        let observed = vantage.observe(&subject, path, Timestamp::UNIX_EPOCH).await;
        let probed: BTreeSet<IpAddr> = observed[0].results.iter().map(|result| result.address).collect();
        assert_eq!(probed, ips(&["127.0.0.1"]));
        assert_eq!(observed[0].resolution.addresses_total, 2);
    }
    let evidence = gather(&vantage, &subject, &order(Timestamp::UNIX_EPOCH)).await;
    assert!(
        evidence
            .asked
            .iter()
            .filter_map(Asked::answer)
            .any(|answer| answer.addresses == ["::1".parse::<IpAddr>().unwrap()])
    );
    let proofs: Vec<(IpAddr, bool)> =
        evidence.candidates.iter().map(|candidate| (candidate.address, candidate.proofs.is_empty())).collect();
    assert_eq!(proofs, [("127.0.0.1".parse().unwrap(), false), ("::1".parse().unwrap(), true)]);

    vantage.is_routed = |_| false;
    let observed = vantage.observe(&subject, Path::Normal, Timestamp::UNIX_EPOCH).await;
    assert_eq!(observed[0].results.len(), 2);
    let evidence = gather(&vantage, &subject, &order(Timestamp::UNIX_EPOCH)).await;
    assert!(evidence.candidates.iter().all(|candidate| !candidate.proofs.is_empty()));
}

#[tokio::test]
async fn a_flood_of_addresses_leaves_room_for_the_authorities() {
    let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let (vantage, subject) = configured(nobody, nobody, "controls = \"none\"");
    let (found, finds) = Found::channel();
    for host in 0..200 {
        found.send(IpAddr::from([192, 0, 2, host]), Source::OurResolver);
    }
    for host in 1..=16 {
        found.send(IpAddr::from([198, 51, 100, host]), Source::Authority);
    }
    drop(found);
    let deadline = Instant::now() + Duration::from_secs(5);
    let candidates =
        candidates::collect(&vantage, &subject, &order(Timestamp::UNIX_EPOCH), deadline, finds).await.candidates;
    assert_eq!(candidates.len(), candidates::CANDIDATES_MAX);
    let ours = candidates.iter().filter(|candidate| candidate.learned_from.contains(&Source::Authority)).count();
    assert_eq!(ours, 16);
}

#[tokio::test]
async fn controls_are_compared_with_the_clock_on_the_wall() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let control = listener.local_addr().unwrap();
    let site = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let date = Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            let answer = format!("HTTP/1.1 204 No Content\r\nDate: {date}\r\nConnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.ok();
        }
    });
    let nobody: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let control = format!("[[control]]\nurl = \"http://control.test:{}/\"\naddress = \"127.0.0.1\"", control.port());
    let (vantage, subject) = configured(nobody, nobody, &control);
    let ahead = Timestamp::now() + SignedDuration::from_hours(24);
    let evidence = gather(&vantage, &subject, &order(ahead)).await;
    let offset = evidence.controls[0].clock_offset_s.unwrap_or_else(|| panic!("{:?}", evidence.controls));
    assert!(offset.abs() < 3600, "{offset}");
    site.abort();
}
