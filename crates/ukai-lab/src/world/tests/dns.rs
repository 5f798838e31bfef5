use std::net::SocketAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsOption};
use hickory_proto::rr::{RData, RecordType};

use super::client::{Failure, addresses, labels, question, tcp, udp};
use super::{fault, world};
use crate::world::World;

const HOST: &str = "api.peer.test.";

fn server(world: &World, name: &str) -> SocketAddr {
    (world.live.layout.servers[name], world.live.layout.dns_port).into()
}

/// The addresses that a referral's glue leads to.
fn glue(world: &World, message: &hickory_proto::op::Message) -> Vec<SocketAddr> {
    let glue = message.additionals.iter().filter_map(|record| match &record.data {
        RData::A(address) => Some(SocketAddr::from((address.0, world.live.layout.dns_port))),
        _ => None,
    });
    glue.collect()
}

#[tokio::test]
async fn the_name_is_found_by_walking_from_the_root() {
    let world = world("authoritative = { A = [\"old-1\"], ttl = 2 }\nhosts.old-1 = \"serve\"").await;
    let asked = question(HOST, RecordType::A);
    let root = udp(world.root_server(), &asked).await.unwrap();
    assert!(!root.metadata.authoritative && root.answers.is_empty());
    assert_eq!(root.authorities[0].name.to_ascii(), "test.");
    let tld = udp(glue(&world, &root)[0], &asked).await.unwrap();
    assert!(!tld.metadata.authoritative && tld.answers.is_empty());
    assert_eq!(tld.authorities.len(), 3);
    assert_eq!(tld.authorities[0].name.to_ascii(), "peer.test.");
    for server in glue(&world, &tld) {
        let answer = udp(server, &asked).await.unwrap();
        assert!(answer.metadata.authoritative && !answer.metadata.recursion_available);
        assert_eq!(labels(&world, &answer), ["old-1"]);
        assert_eq!(answer.answers[0].ttl, 2);
        assert_eq!(tcp(server, &asked).await.unwrap().answers, answer.answers);
    }
}

#[tokio::test]
async fn what_does_not_exist_is_denied_with_a_soa() {
    let world = world("authoritative = { A = [\"old-1\"], negative_ttl = 7 }\nhosts.old-1 = \"serve\"\nnames.\"a.b.peer.test\" = { TXT = \"x\" }").await;
    let ns = server(&world, "ns-1");
    let denied = |name: &str, kind| udp_code(ns, name.to_owned(), kind);
    assert_eq!(denied(HOST, RecordType::AAAA).await, (ResponseCode::NoError, true));
    assert_eq!(denied("nothing.peer.test.", RecordType::A).await, (ResponseCode::NXDomain, true));
    assert_eq!(denied("b.peer.test.", RecordType::A).await, (ResponseCode::NoError, true));
    assert_eq!(denied("x.api.peer.test.", RecordType::A).await, (ResponseCode::NXDomain, true));
    assert_eq!(denied("other.test.", RecordType::A).await, (ResponseCode::Refused, false));
    let root = udp_code(world.root_server(), "example.com.".to_owned(), RecordType::A).await;
    assert_eq!(root, (ResponseCode::NXDomain, true));
    let soa = udp(ns, &question("nothing.peer.test.", RecordType::A)).await.unwrap();
    assert!(matches!(&soa.authorities[0].data, RData::SOA(soa) if soa.minimum == 7));
}

async fn udp_code(server: SocketAddr, name: String, kind: RecordType) -> (ResponseCode, bool) {
    let answer = udp(server, &question(&name, kind)).await.unwrap();
    assert!(answer.answers.is_empty());
    (answer.metadata.response_code, answer.authorities.iter().any(|record| record.record_type() == RecordType::SOA))
}

#[tokio::test]
async fn every_record_type_of_the_table_is_served() {
    let world = world(
        r#"
authoritative = { A = ["old-1"], AAAA = ["six"], HTTPS = ["old-1", "six"], TXT = ["a", "b"], MX = "mail.peer.test" }
names."www.peer.test" = { CNAME = "api.peer.test" }
names."out.peer.test" = { CNAME = "edge.cdn.test" }
names."edge.cdn.test" = { A = ["old-1"] }
hosts.old-1 = "serve"
hosts.six = { v6 = true }"#,
    )
    .await;
    let ns = server(&world, "ns-1");
    let count = async |name: &str, kind| udp(ns, &question(name, kind)).await.unwrap().answers.len();
    assert_eq!(count(HOST, RecordType::TXT).await, 2);
    assert_eq!(count(HOST, RecordType::MX).await, 1);
    assert_eq!(count("peer.test.", RecordType::NS).await, 3);
    assert_eq!(count("ns-2.peer.test.", RecordType::A).await, 1);
    let six = udp(ns, &question(HOST, RecordType::AAAA)).await.unwrap();
    assert_eq!(labels(&world, &six), ["six"]);
    let https = udp(ns, &question(HOST, RecordType::HTTPS)).await.unwrap();
    assert!(matches!(&https.answers[0].data, RData::HTTPS(https) if https.0.svc_params.len() == 3));
    for name in ["www.peer.test.", "out.peer.test."] {
        let chain = udp(ns, &question(name, RecordType::A)).await.unwrap();
        assert_eq!(chain.answers[0].record_type(), RecordType::CNAME);
        assert_eq!(labels(&world, &chain), ["old-1"]);
    }
}

#[tokio::test]
async fn each_server_misbehaves_as_it_is_told() {
    let mut world = world("authoritative = { A = [\"old-1\"] }\nhosts.old-1 = \"serve\"\nhosts.new-1 = \"serve\"\nservers.ns-1 = \"serve\"").await;
    let ns = server(&world, "ns-1");
    let asked = question(HOST, RecordType::A);
    fault(&mut world, "servers.ns-1 = \"lame\"").await;
    let lame = udp(ns, &asked).await.unwrap();
    assert!(!lame.metadata.authoritative && lame.answers.is_empty() && lame.authorities[0].name.is_root());
    fault(&mut world, "servers.ns-1 = \"timeout\"").await;
    assert!(udp(ns, &asked).await.is_none());
    assert_eq!(tcp(ns, &asked).await.unwrap_err(), Failure::ConnectTimeout);
    for (mode, code) in [("refuse", ResponseCode::Refused), ("servfail", ResponseCode::ServFail)] {
        fault(&mut world, &format!("servers.ns-1 = \"{mode}\"")).await;
        assert_eq!(udp(ns, &asked).await.unwrap().metadata.response_code, code);
    }
    fault(&mut world, "servers.ns-1 = \"no-tcp\"").await;
    assert_eq!(labels(&world, &udp(ns, &asked).await.unwrap()), ["old-1"]);
    assert_eq!(tcp(ns, &asked).await.unwrap_err(), Failure::Refused);
    fault(&mut world, "servers.ns-1 = \"no-udp\"").await;
    assert!(udp(ns, &asked).await.is_none());
    assert_eq!(labels(&world, &tcp(ns, &asked).await.unwrap()), ["old-1"]);
    fault(&mut world, "servers.ns-1 = \"truncate\"").await;
    let cut = udp(ns, &asked).await.unwrap();
    assert!(cut.metadata.truncation && cut.answers.is_empty());
    assert_eq!(labels(&world, &tcp(ns, &asked).await.unwrap()), ["old-1"]);
    fault(&mut world, "servers.ns-1 = { A = [\"new-1\"], ttl = 9 }").await;
    let own = udp(ns, &asked).await.unwrap();
    assert_eq!((labels(&world, &own), own.answers[0].ttl), (vec!["new-1".to_owned()], 9));
    assert_eq!(labels(&world, &udp(server(&world, "ns-2"), &asked).await.unwrap()), ["old-1"]);
}

#[tokio::test]
async fn a_server_with_an_old_serial_missed_the_last_edit() {
    let mut world = world("authoritative = { A = [\"old-1\"] }\nhosts.old-1 = \"serve\"\nhosts.new-1 = \"serve\"\nservers.ns-2 = \"serve\"").await;
    fault(&mut world, "authoritative = { A = [\"new-1\"] }\nservers.ns-2 = \"old-serial\"").await;
    let state = async |name: &str| {
        let ns = server(&world, name);
        let soa = udp(ns, &question("peer.test.", RecordType::SOA)).await.unwrap();
        let RData::SOA(soa) = &soa.answers[0].data else { panic!("no SOA") };
        let answer = udp(ns, &question(HOST, RecordType::A)).await.unwrap();
        (soa.serial, labels(&world, &answer))
    };
    assert_eq!(state("ns-1").await, (101, vec!["new-1".to_owned()]));
    assert_eq!(state("ns-2").await, (100, vec!["old-1".to_owned()]));
}

#[tokio::test]
async fn the_delegation_can_be_removed_or_replaced() {
    let mut world = world(
        "authoritative = { A = [\"old-1\"] }\nhosts.old-1 = \"serve\"\nhosts.evil-1 = \"serve\"\nservers.evil-ns = { A = [\"evil-1\"] }",
    )
    .await;
    let tld = SocketAddr::from((world.live.layout.tld_server(), world.live.layout.dns_port));
    let asked = question(HOST, RecordType::A);
    fault(&mut world, "parent = \"nxdomain\"").await;
    assert_eq!(udp(tld, &asked).await.unwrap().metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(labels(&world, &udp(server(&world, "ns-1"), &asked).await.unwrap()), ["old-1"]);
    let evil = "servers.evil-ns = { A = [\"evil-1\"] }\nparent = { ns = [\"evil-ns\"] }";
    fault(&mut world, evil).await;
    let referral = udp(tld, &asked).await.unwrap();
    assert_eq!(glue(&world, &referral), [server(&world, "evil-ns")]);
    let answer = udp(glue(&world, &referral)[0], &asked).await.unwrap();
    assert_eq!(labels(&world, &answer), ["evil-1"]);
    let resolved = udp(world.resolver(), &asked).await.unwrap();
    assert_eq!(labels(&world, &resolved), ["evil-1"]);
}

#[tokio::test]
async fn answers_rotate_and_depend_on_the_client_subnet() {
    let hosts = "hosts.h-1 = \"serve\"\nhosts.h-2 = \"serve\"\nhosts.h-3 = \"serve\"\nhosts.h-4 = \"serve\"";
    let mut world =
        world(&format!("authoritative = {{ A = [\"h-1\", \"h-2\", \"h-3\", \"h-4\"], rotate = true }}\n{hosts}")).await;
    let ns = server(&world, "ns-1");
    let asked = question(HOST, RecordType::A);
    let first = labels(&world, &udp(ns, &asked).await.unwrap());
    let second = labels(&world, &udp(ns, &asked).await.unwrap());
    assert!(first.len() == 2 && second.len() == 2 && first != second);
    fault(&mut world, "authoritative = { by_subnet = { us = [\"h-1\"], others = [\"h-2\"] } }").await;
    assert_eq!(labels(&world, &udp(ns, &asked).await.unwrap()), ["h-1"]);
    let mut elsewhere = asked.clone();
    let subnet = ClientSubnet::new("192.0.2.0".parse().unwrap(), 24, 0);
    elsewhere.edns.as_mut().unwrap().options_mut().insert(EdnsOption::Subnet(subnet));
    let answer = udp(ns, &elsewhere).await.unwrap();
    assert_eq!(labels(&world, &answer), ["h-2"]);
    assert_eq!(labels(&world, &udp(world.resolver(), &asked).await.unwrap()), ["h-1"]);
    let independent = (world.live.layout.independent(1), world.live.layout.dns_port).into();
    assert_eq!(labels(&world, &udp(independent, &asked).await.unwrap()), ["h-2"]);
}

#[tokio::test]
async fn an_answer_too_large_for_udp_is_whole_over_tcp() {
    let labels: Vec<String> = (0..150).map(|number| format!("h-{number}")).collect();
    let hosts: String = labels.iter().map(|label| format!("hosts.{label} = \"serve\"\n")).collect();
    let world = world(&format!("authoritative = {{ A = {labels:?} }}\n{hosts}")).await;
    let ns = server(&world, "ns-3");
    let asked = question(HOST, RecordType::A);
    assert!(udp(ns, &asked).await.unwrap().metadata.truncation);
    assert_eq!(addresses(&tcp(ns, &asked).await.unwrap()).len(), 150);
}

#[tokio::test]
async fn a_signed_zone_has_a_ds_at_its_parent_and_a_key_at_its_apex() {
    let mut world = world("authoritative = { A = [\"old-1\"], signed = \"valid\" }\nhosts.old-1 = \"serve\"").await;
    let tld = SocketAddr::from((world.live.layout.tld_server(), world.live.layout.dns_port));
    let ns = server(&world, "ns-1");
    let valid = udp(tld, &question("peer.test.", RecordType::DS)).await.unwrap().answers;
    let key = udp(ns, &question("peer.test.", RecordType::DNSKEY)).await.unwrap().answers;
    assert_eq!((valid.len(), key.len()), (1, 1));
    let referral = udp(tld, &question(HOST, RecordType::A)).await.unwrap();
    assert!(referral.authorities.iter().any(|record| record.record_type() == RecordType::DS));
    fault(&mut world, "authoritative = { A = [\"old-1\"], signed = \"bogus\" }").await;
    let bogus = udp(tld, &question("peer.test.", RecordType::DS)).await.unwrap().answers;
    assert_ne!(valid, bogus);
    assert_eq!(udp(ns, &question("peer.test.", RecordType::DNSKEY)).await.unwrap().answers, key);
}

#[tokio::test]
async fn port_53_can_be_closed_or_intercepted() {
    let mut world =
        world("authoritative = { A = [\"new-1\"] }\nhosts.new-1 = \"serve\"\nhosts.evil-1 = \"serve\"").await;
    let asked = question(HOST, RecordType::A);
    let ns = server(&world, "ns-1");
    fault(&mut world, "egress = \"no-53\"").await;
    assert!(udp(ns, &asked).await.is_none());
    assert_eq!(tcp(ns, &asked).await.unwrap_err(), Failure::ConnectTimeout);
    assert!(udp(world.root_server(), &asked).await.is_none());
    assert_eq!(labels(&world, &udp(world.resolver(), &asked).await.unwrap()), ["new-1"]);
    fault(&mut world, "egress = \"intercept-53\"\nresolver = \"hijack:evil-1\"").await;
    for server in [ns, world.root_server()] {
        let boxed = udp(server, &asked).await.unwrap();
        assert!(boxed.metadata.authoritative && boxed.metadata.recursion_available);
        assert_eq!(labels(&world, &boxed), ["evil-1"]);
        assert_eq!(tcp(server, &asked).await.unwrap().answers, boxed.answers);
        let canary = udp(server, &question("no-such-name.test.", RecordType::A)).await.unwrap();
        assert_eq!(canary.metadata.response_code, ResponseCode::NXDomain);
        assert!(canary.metadata.recursion_available);
    }
}
