//! What is asked besides the plain questions, and what a TTL looks like from here.

use std::collections::BTreeMap;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ukai_core::diagnose::answers::{addresses_of, independents, ttl_readings};
use ukai_core::diagnose::evidence::Rcode;

use super::super::name_server::{Voice, asked, reply, voice};
use super::*;

const QUIET: &str = "controls = \"none\"";
const CHECKING_DISABLED: u8 = 0x10;
const SERVFAIL: u8 = 2;

/// Family 1, /24, scope 0, three octets (RFC 7871, 6), of one of the two networks that are asked for if nothing is configured.
fn is_for_others(query: &[u8]) -> bool {
    let option = |octets: [u8; 3]| [&[0, 8, 0, 7, 0, 1, 24, 0], &octets[..]].concat();
    [[193, 0, 6], [202, 12, 29]].into_iter().any(|octets| query.windows(11).any(|window| window == option(octets)))
}

fn has_subnet(query: &[u8]) -> bool {
    query.windows(5).any(|window| window == [0, 8, 0, 7, 0])
}

fn peer_at(host: &'static str) -> Mind {
    Arc::new(move |name, qtype, _| {
        let servers = ["ns-1.peer.test", "ns-2.peer.test"].map(|server| ns("peer.test", server));
        zone("peer.test", &[&servers[..], &[address("api.peer.test", host)]].concat(), name, qtype)
    })
}

#[tokio::test]
async fn clients_elsewhere_are_asked_for_and_are_no_answer_to_us() {
    let steered = |here: &'static str, there: &'static str| -> Voice {
        Arc::new(move |query, by_tcp| {
            assert_eq!(has_subnet(query), is_for_others(query), "another network was named");
            vec![reply(query, &peer_at(if is_for_others(query) { there } else { here }), by_tcp)]
        })
    };
    let servers = Servers::start_voices(|ip| {
        let honest = steered("127.0.0.5", "127.0.0.6");
        vec![(1, voice(root(ip))), (2, honest.clone()), (3, honest.clone()), (4, honest)]
    })
    .await;
    let (vantage, subject) = configured(servers.address(2), servers.address(1), QUIET);
    let evidence = gather(&vantage, &subject, &order(Timestamp::UNIX_EPOCH)).await;
    let count = |source: Source, transport: &str| {
        let of = |asked: &&Asked| asked.source == source && asked.transport == transport && asked.subnet.is_some();
        evidence.asked.iter().filter(of).count()
    };
    // Two networks: of both servers, and of the one independent resolver; AAAA is not asked for, for nobody has any.
    assert_eq!((count(Source::Authority, "udp"), count(Source::Authority, "tcp")), (4, 0));
    assert_eq!((count(Source::Independent, "udp"), count(Source::OurResolver, "udp")), (2, 0));
    for source in [Source::Authority, Source::Independent, Source::OurResolver] {
        assert_eq!(addresses_of(&evidence, source), ips(&["127.0.0.5"]), "{source:?}");
    }
    assert_eq!(authority(&evidence), Authority::Agreed(ips(&["127.0.0.5"])));
    let tried: BTreeSet<IpAddr> = evidence.candidates.iter().map(|candidate| candidate.address).collect();
    assert_eq!(tried, ips(&["127.0.0.5", "127.0.0.6"]));

    let (vantage, subject) = configured(servers.address(2), servers.address(1), &format!("{QUIET}\necs_subnets = []"));
    let evidence = gather(&vantage, &subject, &order(Timestamp::UNIX_EPOCH)).await;
    assert!(evidence.asked.iter().all(|asked| asked.subnet.is_none()));
}

#[tokio::test]
async fn messages_are_kept_as_they_came() {
    let servers = Servers::start(|ip| vec![(1, root(ip)), (3, peer_at("127.0.0.5")), (4, peer_at("127.0.0.5"))]).await;
    let (vantage, subject) = configured(servers.address(3), servers.address(1), QUIET);
    let evidence = gather(&vantage, &subject, &order(Timestamp::UNIX_EPOCH)).await;
    for told in evidence.asked.iter().filter(|asked| asked.answer().is_some()) {
        let message = BASE64.decode(told.wire.as_ref().unwrap()).unwrap();
        let (name, _, _) = asked(&message);
        assert_eq!(name, "api.peer.test", "{told:?}");
        if told.answer().is_some_and(|answer| !answer.addresses.is_empty()) {
            assert!(message.ends_with(&[127, 0, 0, 5]), "{told:?}");
        }
    }
}

#[tokio::test]
async fn who_fails_is_asked_without_validation() {
    let bogus: Voice = Arc::new(|query, by_tcp| {
        let mut message = reply(query, &peer_at("127.0.0.66"), by_tcp);
        if query[3] & CHECKING_DISABLED == 0 {
            message[3] = SERVFAIL;
            message[6..8].fill(0);
        }
        vec![message]
    });
    let servers = Servers::start_voices(|ip| vec![(1, voice(root(ip))), (2, bogus.clone())]).await;
    let (vantage, subject) = configured(servers.address(2), servers.address(1), QUIET);
    let evidence = gather(&vantage, &subject, &order(Timestamp::UNIX_EPOCH)).await;
    for source in [Source::OurResolver, Source::Independent] {
        let mut unchecked: BTreeMap<&str, (Rcode, usize)> = BTreeMap::new();
        for asked in evidence.asked.iter().filter(|asked| asked.source == source && asked.checking_disabled) {
            let answer = asked.answer().unwrap();
            unchecked.insert(&asked.record_type, (answer.rcode, answer.addresses.len()));
        }
        assert_eq!(unchecked, BTreeMap::from([("A", (Rcode::Noerror, 1)), ("AAAA", (Rcode::Noerror, 0))]));
        assert_eq!(addresses_of(&evidence, source), BTreeSet::new(), "what fails validation is no answer");
    }
    assert_eq!(independents(&evidence), None);
    assert!(evidence.candidates.is_empty());
}

#[tokio::test]
async fn how_a_ttl_moves_is_seen() {
    let started = Instant::now();
    let counting = move |ttl: u32| ttl - u32::try_from(started.elapsed().as_secs()).unwrap();
    let resolver = |ttl: Arc<dyn Fn() -> u32 + Send + Sync>| -> Voice {
        Arc::new(move |query, by_tcp| {
            let mut message = reply(query, &peer_at("127.0.0.5"), by_tcp);
            let (_, _, question_end) = asked(query);
            // Of the one record: its owner, in as many octets as the question has it, then type and class.
            let at = question_end + (question_end - 16) + 4;
            if message.len() > at + 4 && message[7] == 1 {
                message[at..at + 4].copy_from_slice(&ttl().to_be_bytes());
            }
            vec![message]
        })
    };
    let readings = async |ttl: Arc<dyn Fn() -> u32 + Send + Sync>| {
        let servers = Servers::start_voices(|ip| vec![(1, voice(root(ip))), (2, resolver(ttl.clone()))]).await;
        let (vantage, subject) = configured(servers.address(2), servers.address(1), QUIET);
        let evidence = gather(&vantage, &subject, &order(Timestamp::UNIX_EPOCH)).await;
        let read: Vec<u32> = ttl_readings(&evidence).into_iter().map(|reading| reading.ttl).collect();
        assert_eq!(read.len(), 3);
        read
    };
    let (counts_down, frozen, again) =
        tokio::join!(readings(Arc::new(move || counting(1000))), readings(Arc::new(|| 77)), readings(Arc::new(|| 30)),);
    assert!(counts_down[1] < counts_down[0] && counts_down[2] <= counts_down[1], "{counts_down:?}");
    assert_eq!((frozen, again), (vec![77; 3], vec![30; 3]));
}
