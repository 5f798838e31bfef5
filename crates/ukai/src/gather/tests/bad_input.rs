//! Servers that say anything: it is on record as what it is, it costs a bounded time and size, and nothing is concluded from
//! it. Beside them stand live controls and a history, so that an honest world is diagnosed as proven.

use tokio::task::JoinSet;
use ukai_core::diagnose::diagnose;
use ukai_core::diagnose::evidence::{Asked, Outcome, Silence, WIRE_MAX};
use ukai_core::diagnose::history::History;
use ukai_core::diagnose::reading::{CANDIDATE_PROOFS, Case};
use ukai_core::diagnose::verdict::{Code, Sure, Verdict};

use super::super::name_server::{Voice, asked, reply, voice};
use super::*;
use crate::socket::LINE_BYTES;

/// The bound that is configured, and as much again for a busy machine: a gathering that hangs is ended here.
const PATIENCE: Duration = Duration::from_secs(20);
const HOST: &str = "api.peer.test";
/// Where what lies leads to; it answers as the peer does.
const LIE: &str = "127.0.0.66";
/// Where the honest lead to; nobody is there.
const HOME: &str = "127.0.0.5";

/// Answers every request, whatever it is.
async fn site(address: &str, tasks: &mut JoinSet<()>) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    tasks.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let date = Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            let answer = format!("HTTP/1.1 204 No Content\r\nDate: {date}\r\nConnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.ok();
        }
    });
    at
}

fn peer_zone_at(host: &'static str) -> Mind {
    Arc::new(move |name, qtype, _| {
        if let "control-1.test" | "control-2.test" = name {
            return zone("test", &[address(name, "127.0.0.1")], name, qtype);
        }
        if !name.ends_with("peer.test") {
            return refused();
        }
        let servers = ["ns-1.peer.test", "ns-2.peer.test"].map(|server| ns("peer.test", server));
        zone("peer.test", &[&servers[..], &[address(HOST, host)]].concat(), name, qtype)
    })
}

/// Honest for every other name.
fn about_the_host(lie: impl Fn(&[u8], bool) -> Vec<Vec<u8>> + Send + Sync + 'static) -> Voice {
    let honest = voice(peer_zone_at(HOME));
    Arc::new(move |query, by_tcp| if asked(query).0 == HOST { lie(query, by_tcp) } else { honest(query, by_tcp) })
}

/// What is gathered of a peer whose own servers speak so, and its resolver so; and what the core says of it.
async fn gathered(resolver: Voice, own: Voice) -> (Evidence, Verdict) {
    let root_of = |ip: &dyn Fn(u8) -> String| voice(root(ip));
    gathered_under(resolver, own, root_of).await
}

async fn gathered_under(
    resolver: Voice,
    own: Voice,
    root: impl Fn(&dyn Fn(u8) -> String) -> Voice,
) -> (Evidence, Verdict) {
    let mut sites = JoinSet::new();
    let controls = [site("127.0.0.1", &mut sites).await, site("127.0.0.1", &mut sites).await];
    let peer_port = site(LIE, &mut sites).await.port();
    let servers =
        Servers::start_voices(|ip| vec![(1, root(ip)), (2, resolver.clone()), (3, own.clone()), (4, own.clone())])
            .await;
    let text = format!(
        "resolver = [\"{resolver}\"]\nindependent = [\"{resolver}\"]\nroot_hints = [\"{}\"]\nauthority_port = {port}\n\
         evidence_bound = \"10s\"\nallow_addresses = [\"127.0.0.0/8\"]\n\
         [[control]]\nurl = \"http://control-1.test:{}/\"\naddress = \"127.0.0.1\"\n\
         [[control]]\nurl = \"http://control-2.test:{}/\"\naddress = \"127.0.0.1\"\n\
         [[peer]]\nname = \"api\"\nurls = [\"http://{HOST}:{peer_port}/\"]\n",
        servers.address(1).ip(),
        controls[0].port(),
        controls[1].port(),
        resolver = servers.address(2),
        port = servers.port,
    );
    let config = Config::parse(&text, std::path::Path::new("ukai.toml")).unwrap();
    let configured = configure(&config).unwrap();
    let now = Timestamp::UNIX_EPOCH;
    let order = order(now);
    let gathering = gather(&configured.vantage, &configured.subjects["api"], &order);
    let evidence = tokio::time::timeout(PATIENCE, gathering).await.unwrap();
    let settings = config.settings();
    let history = History { since: Some(now), controls: settings.controls.into_iter().collect(), ..History::default() };
    let verdict = diagnose(&Case {
        peer: &settings.peers["api"],
        evidence: &evidence,
        history: &history,
        application: &[],
        moved_seen_at: None,
        allow_addresses: &settings.allow_addresses,
        overridden: None,
    });
    (evidence, verdict)
}

/// Nothing is proven, nobody is trusted for what was said, and the record stays small.
#[track_caller]
fn is_held_back(evidence: &Evidence, verdict: &Verdict) {
    assert_ne!(verdict.sure, Sure::Proven, "{verdict:#?}");
    assert!(!matches!(authority(evidence), Authority::Agreed(_)), "{:#?}", evidence.asked);
    assert!(evidence.candidates.len() <= candidates::CANDIDATES_MAX);
    assert!(
        evidence.asked.iter().filter_map(|asked| asked.wire.as_ref()).all(|wire| wire.len() <= WIRE_MAX * 4 / 3 + 4)
    );
    assert!(serde_json::to_string(evidence).unwrap().len() < LINE_BYTES);
}

#[track_caller]
fn nobody_is_tried(evidence: &Evidence) {
    assert!(evidence.candidates.is_empty(), "{:#?}", evidence.candidates);
}

/// Why each question about addresses got no answer, once each.
fn silences(evidence: &Evidence, of: impl Fn(&Asked) -> bool) -> BTreeSet<Silence> {
    let asked = evidence.asked.iter().filter(|asked| asked.asks_for_addresses() && of(asked));
    asked
        .map(|asked| match &asked.outcome {
            Outcome::Silent { why, .. } => *why,
            Outcome::Answered(_) => panic!("{asked:#?}"),
        })
        .collect()
}

/// What a liar would say if it spoke as others do.
fn lying(query: &[u8], by_tcp: bool) -> Vec<u8> {
    reply(query, &peer_zone_at(LIE), by_tcp)
}

#[tokio::test]
async fn an_honest_world_is_diagnosed_as_proven() {
    let empty = || {
        about_the_host(|query, by_tcp| {
            let nothing: Mind = Arc::new(|name, qtype, _| zone("peer.test", &[], name, qtype));
            vec![reply(query, &nothing, by_tcp)]
        })
    };
    let (_, verdict) = gathered(empty(), empty()).await;
    assert_eq!((verdict.code, verdict.sure), (Code::PeerDnsEmpty, Sure::Proven), "{verdict:#?}");
    // And what the liars below lead to would prove itself, were they believed.
    let lies = || voice(peer_zone_at(LIE));
    let (evidence, _) = gathered(lies(), lies()).await;
    assert_eq!(authority(&evidence), Authority::Agreed(ips(&[LIE])));
    let lie = evidence.candidates.iter().find(|candidate| candidate.address.to_string() == LIE).unwrap();
    assert!(lie.is_proved(&evidence.endpoints, CANDIDATE_PROOFS), "{lie:#?}");
}

#[tokio::test]
async fn messages_that_cannot_be_read() {
    let claims_more = |query: &[u8], by_tcp| {
        let mut message = lying(query, by_tcp);
        message[7] = 9;
        vec![message]
    };
    let points_at_itself = |query: &[u8], by_tcp| {
        let mut message = lying(query, by_tcp);
        let (_, _, end) = asked(query);
        message.truncate(end);
        message[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
        let pointer = [0xc0, u8::try_from(end).unwrap()];
        message.extend([&pointer[..], &[0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 66]].concat());
        vec![message]
    };
    let is_cut = |query: &[u8], by_tcp| {
        let mut message = lying(query, by_tcp);
        message.truncate(message.len() - 3);
        vec![message]
    };
    let (one, two, three) = tokio::join!(
        gathered(about_the_host(claims_more), about_the_host(claims_more)),
        gathered(about_the_host(points_at_itself), about_the_host(points_at_itself)),
        gathered(about_the_host(is_cut), about_the_host(is_cut)),
    );
    for (evidence, verdict) in [one, two, three] {
        is_held_back(&evidence, &verdict);
        let spoilt = |asked: &Asked| asked.record_type == "A";
        assert_eq!(silences(&evidence, spoilt), BTreeSet::from([Silence::Malformed]));
        assert!(evidence.asked.iter().filter(|asked| spoilt(asked)).all(|asked| asked.wire.is_some()));
        nobody_is_tried(&evidence);
    }
}

#[tokio::test]
async fn messages_that_answer_something_else() {
    let another_id = |query: &[u8], by_tcp| {
        let mut message = lying(query, by_tcp);
        message[0] ^= 0xff;
        vec![message]
    };
    let another_name = |query: &[u8], by_tcp| {
        let mut message = lying(query, by_tcp);
        message[13] ^= 1;
        vec![message]
    };
    let a_flood = |query: &[u8], by_tcp| {
        let mut message = lying(query, by_tcp);
        message[1] ^= 0xff;
        vec![message; 100]
    };
    let no_response = |query: &[u8], _| vec![query.to_vec()];
    let (one, two, three, four) = tokio::join!(
        gathered(about_the_host(another_id), about_the_host(another_id)),
        gathered(about_the_host(another_name), about_the_host(another_name)),
        gathered(about_the_host(a_flood), about_the_host(a_flood)),
        gathered(about_the_host(no_response), about_the_host(no_response)),
    );
    for (evidence, verdict) in [one, two, three, four] {
        is_held_back(&evidence, &verdict);
        assert_eq!(silences(&evidence, |_| true), BTreeSet::from([Silence::Malformed]));
        assert!(evidence.asked.iter().filter(|asked| asked.asks_for_addresses()).all(|asked| asked.wire.is_some()));
        nobody_is_tried(&evidence);
    }
}

/// As many addresses as fit: 65,535 octets over TCP, and what a datagram takes over UDP.
fn huge(query: &[u8], by_tcp: bool) -> Vec<Vec<u8>> {
    const UDP_MAX: usize = 65_507;
    const RECORD: usize = 16;
    let (_, qtype, end) = asked(query);
    let mut message = reply(query, &peer_zone_at(LIE), by_tcp);
    message.truncate(end);
    let limit = if by_tcp { 65_535 } else { UDP_MAX };
    // The last record takes what is left over.
    let count = (limit - end) / RECORD - 1;
    for number in 0..u16::try_from(count).unwrap() {
        let [high, low] = number.to_be_bytes();
        message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 66, high, low]);
    }
    let rest = limit - message.len() - 12;
    message.extend([0xc0, 12, 0, 99, 0, 1, 0, 0, 0, 60]);
    message.extend(u16::try_from(rest).unwrap().to_be_bytes());
    message.resize(limit, 0);
    message[6..12].fill(0);
    let records = if qtype == A { count + 1 } else { 0 };
    message[6..8].copy_from_slice(&u16::try_from(records).unwrap().to_be_bytes());
    vec![message]
}

#[tokio::test]
async fn answers_as_large_as_they_can_be() {
    let (evidence, verdict) = gathered(about_the_host(huge), voice(peer_zone_at(HOME))).await;
    assert_ne!(verdict.sure, Sure::Proven, "{verdict:#?}");
    let said = evidence.asked.iter().filter(|asked| asked.source == Source::OurResolver && asked.record_type == "A");
    let said: Vec<&Asked> = said.collect();
    assert!(said.iter().any(|asked| asked.transport == "tcp") && said.iter().any(|asked| asked.transport == "udp"));
    for asked in said {
        assert_eq!((asked.answer().unwrap().addresses.len(), &asked.wire), (256, &None));
    }
    let home: IpAddr = HOME.parse().unwrap();
    let kept = evidence.candidates.iter().map(|candidate| candidate.address).collect::<Vec<_>>();
    assert!(kept.contains(&home) && kept.len() <= candidates::CANDIDATES_MAX, "{kept:?}");
}

/// The largest message that is kept whole, and as many addresses as are kept of one answer.
fn just_kept(query: &[u8], by_tcp: bool) -> Vec<Vec<u8>> {
    let mut message = huge(query, by_tcp).remove(0);
    let (_, qtype, end) = asked(query);
    let count = if qtype == A { (WIRE_MAX - end) / 16 } else { 0 };
    message.truncate(end + count * 16);
    message[6..8].copy_from_slice(&u16::try_from(count).unwrap().to_be_bytes());
    vec![message]
}

#[tokio::test]
async fn a_crowd_of_servers_with_much_to_say() {
    let crowded = |ip: &dyn Fn(u8) -> String| {
        let three = ip(3);
        voice(Arc::new(move |_, _, _| {
            let names: Vec<String> = (0..16).map(|number| format!("ns-{number}.peer.test")).collect();
            Said {
                authority: names.iter().map(|server| ns("peer.test", server)).collect(),
                additional: names.iter().map(|server| address(server, &three)).collect(),
                ..Said::default()
            }
        }))
    };
    let (evidence, verdict) = gathered_under(about_the_host(just_kept), about_the_host(just_kept), crowded).await;
    is_held_back(&evidence, &verdict);
    assert!(evidence.asked.iter().any(|asked| asked.wire.as_ref().is_some_and(|wire| wire.len() > WIRE_MAX)));
    let is_too_much =
        |asked: &&Asked| matches!(&asked.outcome, Outcome::Silent { detail, .. } if detail.contains("more than"));
    assert!(evidence.asked.iter().any(|asked| is_too_much(&asked)));
    assert!(evidence.asked.iter().any(|asked| asked.wire.is_none()));
}

#[tokio::test]
async fn aliases_without_an_end() {
    let always = |records: fn(&str) -> Vec<(&str, String)>| {
        about_the_host(move |query, by_tcp| {
            let mind: Mind = Arc::new(move |name, _, _| {
                let answers = records(name).iter().map(|(owner, target)| cname(owner, target)).collect();
                Said { authoritative: true, answers, ..Said::default() }
            });
            vec![reply(query, &mind, by_tcp)]
        })
    };
    let ring = || {
        always(|name| {
            let names = [("b.peer.test", "c.peer.test".to_owned()), ("c.peer.test", name.to_owned())];
            std::iter::once((name, "b.peer.test".to_owned())).chain(names).collect()
        })
    };
    let itself = || always(|name| vec![(name, name.to_owned())]);
    let (one, two) = tokio::join!(gathered(ring(), ring()), gathered(itself(), itself()));
    for (evidence, verdict) in [one, two] {
        is_held_back(&evidence, &verdict);
        assert_eq!(silences(&evidence, |_| true), BTreeSet::from([Silence::Endless]));
        nobody_is_tried(&evidence);
        let observed = evidence.observations[0].failure().unwrap();
        assert!(observed.detail.contains("the CNAMEs come back to"), "{observed:?}");
    }
}

#[tokio::test]
async fn aliases_that_lead_in_a_circle_of_zones() {
    let back: Mind = Arc::new(|name, qtype, _| {
        let servers = ["ns-a.cdn.test", "ns-b.cdn.test"].map(|server| ns("cdn.test", server));
        zone("cdn.test", &[&servers[..], &[cname("edge.cdn.test", HOST)]].concat(), name, qtype)
    });
    let out = || peer_zone("edge.cdn.test");
    let (told, read) = authorities([out(), out(), back.clone(), back]).await;
    assert!(problems(&told).contains("the CNAMEs come back to api.peer.test"), "{}", problems(&told));
    let own = told.asked.iter().filter(|asked| asked.identity == "ns-1.peer.test" && asked.transport == "tcp");
    let endless = |asked: &&Asked| matches!(asked.outcome, Outcome::Silent { why: Silence::Endless, .. });
    assert_eq!(own.filter(|asked| asked.is_address_question()).filter(endless).count(), 2, "{:#?}", told.asked);
    assert!(matches!(read, Authority::TooFew { .. }), "{read:?}");
}

#[tokio::test]
async fn a_thousand_name_servers() {
    let crowded = |ip: &dyn Fn(u8) -> String| {
        let (three, four) = (ip(3), ip(4));
        voice(Arc::new(move |name, _, _| {
            if !name.ends_with("peer.test") {
                return zone("", &[], name, A);
            }
            let names: Vec<String> = (0..1000).map(|number| format!("ns-{number}.peer.test")).collect();
            let glue = |number: usize| if number.is_multiple_of(2) { &three } else { &four };
            Said {
                authority: names.iter().map(|server| ns("peer.test", server)).collect(),
                additional: (0..200).map(|number| address(&names[number], glue(number))).collect(),
                ..Said::default()
            }
        }))
    };
    let honest = || voice(peer_zone_at(HOME));
    let (evidence, verdict) = gathered_under(honest(), honest(), crowded).await;
    assert_ne!(verdict.sure, Sure::Proven, "{verdict:#?}");
    let delegation = evidence.delegation.as_ref().unwrap();
    assert!(delegation.parent_ns.len() <= 1000 && delegation.servers.len() <= 16, "{delegation:?}");
    // Sixteen servers, four types over two transports, and two networks for both families over one.
    let authorities = evidence.asked.iter().filter(|asked| asked.source == Source::Authority).count();
    assert!((1..=16 * (4 * 2 + 2 * 2)).contains(&authorities), "{authorities}");
}

#[tokio::test]
async fn servers_that_take_a_connection_and_say_nothing() {
    let over_udp_alone = |query: &[u8], by_tcp| if by_tcp { Vec::new() } else { vec![lying(query, by_tcp)] };
    let dead = |_: &[u8], _| Vec::new();
    let (half, whole) = tokio::join!(
        gathered(about_the_host(over_udp_alone), about_the_host(over_udp_alone)),
        gathered(about_the_host(dead), about_the_host(dead)),
    );
    for (evidence, verdict) in [&half, &whole] {
        is_held_back(evidence, verdict);
        assert_eq!(silences(evidence, |asked| asked.transport == "tcp"), BTreeSet::from([Silence::Timeout]));
    }
    // What UDP alone says is tried, and believed of nobody.
    assert!(half.0.candidates.iter().any(|candidate| candidate.address.to_string() == LIE));
    assert_eq!(silences(&whole.0, |_| true), BTreeSet::from([Silence::Timeout]));
    nobody_is_tried(&whole.0);
}

#[tokio::test]
async fn servers_that_answer_only_without_edns_are_told_from_silent_ones() {
    let without_edns = || -> Voice {
        let honest = voice(peer_zone_at(HOME));
        // The count of additional records: with EDNS there is one.
        Arc::new(move |query, by_tcp| if query[11] == 0 || by_tcp { honest(query, by_tcp) } else { Vec::new() })
    };
    let (old, silent) = tokio::join!(
        gathered(voice(peer_zone_at(HOME)), without_edns()),
        gathered(voice(peer_zone_at(HOME)), Arc::new(|_, _| Vec::new())),
    );
    let told = "ns-1.peer.test (";
    let is_told = |evidence: &Evidence| {
        let problems = &evidence.delegation.as_ref().unwrap().problems;
        problems.iter().any(|problem| problem.starts_with(told) && problem.contains("only without EDNS"))
    };
    assert!(is_told(&old.0), "{:#?}", old.0.delegation);
    assert!(!is_told(&silent.0), "{:#?}", silent.0.delegation);
}
