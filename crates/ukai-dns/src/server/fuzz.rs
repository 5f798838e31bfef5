//! Damaged messages by the ten thousand, from a committed corpus: what clients send and what upstreams answer.
//!
//! The seeds are fixed, so that a failure can be had again; one more is new in each run and printed with what failed.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::base::Message as Other;
use domain::base::opt::UnknownOptData;
use domain::base::rdata::UnknownRecordData;
use hickory_proto::op::Message;

use domain::rdata::tsig::Time48;
use domain::tsig::ClientSequence;

use super::answer::{Answerer, Decision, Limit, Scratch};
use super::cache::{Answer, Cache};
use super::clock::Moment;
use super::config::{ServerConfig, Settings};
use super::cookie::Cookies;
use super::file::FileOverride;
use super::forward::Forwarder;
use super::key::{Kept, Key};
use super::policy::{Policy, PolicyZone};
use super::query::{Query, Response};
use super::stats::Counters;
use super::zone::{Layer, Zone};
use crate::client::{Client, ClientOptions};
use crate::name::Name;
use crate::types::{Rcode, RecordType};
use crate::update::{self, TsigKey};
use crate::wire::{HEADER_LEN, UDP_PAYLOAD, u16_at};

const SEEDS: [u64; 3] = [1, 2, 3];
const ROUNDS: usize = 50_000;
/// The highest time to live that is passed on.
const MAX_TTL: u32 = 86_400;

const QUERIES: &str = include_str!("../../tests/corpus/queries.txt");
const ANSWERS: &str = include_str!("../../tests/corpus/answers.txt");

fn corpus(text: &str) -> Vec<Vec<u8>> {
    let digit = |octet: u8| (octet as char).to_digit(16).unwrap() as u8;
    let line = |line: &str| line.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect();
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(line).collect()
}

/// SplitMix64: the same numbers for ever.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn octet(&mut self) -> u8 {
        // Those that mean something to a parser come more often.
        const LIKELY: [u8; 12] = [0, 1, 2, 12, 41, 63, 64, 0x7f, 0x80, 0xc0, 0xc1, 0xff];
        if self.below(2) == 0 { LIKELY[self.below(LIKELY.len())] } else { self.next() as u8 }
    }
}

/// Changes what lies from `from` on, a few times.
fn damage(bytes: &mut Vec<u8>, from: usize, other: &[u8], random: &mut Random) {
    for _ in 0..1 + random.below(4) {
        if bytes.len() <= from {
            return;
        }
        let at = from + random.below(bytes.len() - from);
        match random.below(10) {
            0..5 => bytes[at] = random.octet(),
            5 => bytes[at] ^= 1 << random.below(8),
            6 => bytes.truncate(at),
            7 => drop(bytes.remove(at)),
            8 => bytes.insert(at, random.octet()),
            _ => {
                let start = random.below(other.len());
                let piece = &other[start..other.len().min(start + 1 + random.below(40))];
                bytes.splice(at..at, piece.iter().copied());
            }
        }
    }
}

/// For every seed and the new one.
fn with_seeds(mut test: impl FnMut(u64, &mut Random)) {
    let mut new = [0; 8];
    getrandom::fill(&mut new).unwrap();
    for seed in SEEDS.into_iter().chain([u64::from_ne_bytes(new)]) {
        test(seed, &mut Random(seed));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The test's own words for what failed: how to have it again.
fn context(seed: u64, bytes: &[u8]) -> String {
    format!("seed {seed}, message {}", hex(bytes))
}

pub(super) fn answerer(policy: Option<Policy>) -> Answerer {
    let upstream = "192.0.2.1".parse().unwrap();
    let mut settings: Settings = ServerConfig::new(Vec::new(), vec![upstream], "a".into(), "b".into()).settings;
    settings.version = Some("ukai".to_owned());
    let counters = Arc::new(Counters::default());
    let client = Client::new(ClientOptions { system_roots: false, ..ClientOptions::default() });
    let forwarder = Arc::new(Forwarder::new(client, &settings, Cache::new(1_000, 1_000_000), Arc::clone(&counters)));
    let zone = Zone { leases: Arc::default(), file: Arc::new(Layer::of_file(&[given()], &forwarder.hashing)) };
    Answerer::new(settings, zone, forwarder, counters, policy.map(Arc::new), Cookies::new().unwrap())
}

/// What it serves from a file.
pub(super) fn given() -> FileOverride {
    let name = "api.peer.example".parse().unwrap();
    FileOverride { name, ttl: 10, a: vec![Ipv4Addr::new(192, 0, 2, 10)], aaaa: Vec::new() }
}

/// The key and the question of a message that has one, as it was asked.
fn question(bytes: &[u8]) -> Option<(Key, usize)> {
    let mut key = Key::default();
    let name_len = key.read_name(bytes.get(HEADER_LEN..)?)?;
    key.set_rest(RecordType(u16_at(bytes, HEADER_LEN + name_len)?), false, false);
    Some((key, HEADER_LEN + name_len + 4))
}

#[tokio::test]
async fn damaged_queries() {
    let (queries, answers, answerer) = (corpus(QUERIES), corpus(ANSWERS), answerer(None));
    for answer in &answers {
        let (key, _) = question(answer).unwrap();
        let hash = answerer.forwarder.hashing.of(key.name());
        if let Ok(read) = Answer::read(answer, Kept(key.octets()), Instant::now()) {
            answerer.forwarder.cache.shard(hash).insert(hash, Arc::new(read));
        }
    }
    let client = IpAddr::from(Ipv4Addr::LOCALHOST);
    let (mut scratch, mut replies, mut asked) = (Scratch::default(), 0, 0);
    with_seeds(|seed, random| {
        for round in 0..ROUNDS {
            let mut bytes = queries[random.below(queries.len())].clone();
            // First the corpus as it is.
            match queries.get(round) {
                Some(query) => bytes.clone_from(query),
                None => damage(&mut bytes, 0, &queries[random.below(queries.len())], random),
            }
            let limit = if random.below(2) == 0 { Limit::Datagram } else { Limit::Stream };
            // Something is in the buffer already, as in a batch.
            let mut out = vec![7; random.below(3)];
            let start = out.len();
            match answerer.decide(&answerer.view(), &mut scratch, &bytes, client, limit, &mut out) {
                Decision::Drop => {
                    assert_eq!(out.len(), start, "{}", context(seed, &bytes));
                    assert!(bytes.len() < HEADER_LEN || bytes[2] & 0x80 != 0, "{}", context(seed, &bytes));
                }
                Decision::Reply | Decision::ReplyAndFetch => {
                    replies += 1;
                    check_reply(&out[start..], &bytes, &context(seed, &bytes));
                    let is_datagram = limit == Limit::Datagram;
                    assert!(!is_datagram || out.len() - start <= usize::from(UDP_PAYLOAD), "{}", context(seed, &bytes));
                }
                Decision::Several(_) => panic!("there is no policy zone: {}", context(seed, &bytes)),
                Decision::Forward(query) => {
                    asked += 1;
                    let ask = query.keep();
                    ask.write(&mut out, &Response::empty(Rcode::SERVFAIL), ask.udp_limit());
                    check_reply(&out[start..], &bytes, &context(seed, &bytes));
                }
            }
        }
    });
    assert!(replies > ROUNDS && asked > ROUNDS / 10, "{replies} replies, {asked} asked: that tries little");
}

/// Signed and not, for transfers and serials: whatever comes, what goes out are answers to it.
#[tokio::test]
async fn damaged_queries_about_the_policy_zone() {
    let origin: Name = "rpz.ukai.test".parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let key_file = dir.path().join("key");
    std::fs::write(&key_file, "hmac-sha256:ukai:MDEyMzQ1Njc4OWFiY2RlZg==").unwrap();
    let zone = PolicyZone {
        name: origin.clone(),
        key_file: Some(key_file),
        allow_transfer: vec!["127.0.0.0/8".parse().unwrap()],
        notify: Vec::new(),
    };
    let answerer = answerer(Some(Policy::new(&zone, dir.path(), Moment::now()).unwrap()));
    let key = TsigKey::from_text("hmac-sha256:ukai:MDEyMzQ1Njc4OWFiY2RlZg==").unwrap();
    let mut queries = Vec::new();
    for rtype in [6, 2, 251, 252] {
        for is_signed in [false, true] {
            let mut query = update::query(7, &origin, RecordType(rtype)).unwrap();
            if is_signed {
                let now = Time48::from_u64(u64::try_from(Moment::now().wall.as_second()).unwrap());
                ClientSequence::request(key.key(), &mut query, now).unwrap();
            }
            queries.push(query.finish());
        }
    }
    let client = IpAddr::from(Ipv4Addr::LOCALHOST);
    let (mut scratch, mut sent) = (Scratch::default(), 0);
    with_seeds(|seed, random| {
        for round in 0..ROUNDS {
            let mut bytes = queries[random.below(queries.len())].clone();
            match queries.get(round) {
                Some(query) => bytes.clone_from(query),
                // The name stays, else it is a query like any other.
                None => damage(&mut bytes, HEADER_LEN + 15, &queries[random.below(queries.len())], random),
            }
            let limit = if random.below(2) == 0 { Limit::Datagram } else { Limit::Stream };
            let mut out = Vec::new();
            let messages = match answerer.decide(&answerer.view(), &mut scratch, &bytes, client, limit, &mut out) {
                Decision::Several(answers) => answers.messages,
                Decision::Reply => vec![out],
                _ => continue,
            };
            for message in messages {
                sent += 1;
                assert!(message.len() >= HEADER_LEN && message.len() <= 512, "{}", context(seed, &bytes));
                assert_eq!(message[..2], bytes[..2], "{}", context(seed, &bytes));
                assert!(message[2] & 0x80 != 0, "{}", context(seed, &bytes));
            }
        }
    });
    assert!(sent > ROUNDS, "{sent} sent: that tries little");
}

#[test]
fn damaged_answers() {
    let answers = corpus(ANSWERS);
    let (mut kept, mut refused) = (0, 0);
    with_seeds(|seed, random| {
        for round in 0..ROUNDS {
            let mut bytes = answers[random.below(answers.len())].clone();
            match answers.get(round) {
                Some(answer) => bytes.clone_from(answer),
                None => {
                    // Whoever reads it has seen that the question is the right one.
                    let (_, end) = question(&bytes).unwrap();
                    let (counts, flags) = (4 + 2 * random.below(4), 2 + random.below(2));
                    damage(&mut bytes, end, &answers[random.below(answers.len())], random);
                    match random.below(6) {
                        0 => bytes[counts + 1] = random.octet() % 6,
                        1 => bytes[flags] = random.octet() | 0x80 & !u8::from(flags == 3).wrapping_neg(),
                        _ => {}
                    }
                }
            }
            let (key, _) = question(&bytes).unwrap();
            match Answer::read(&bytes, Kept(key.octets()), Instant::now()) {
                Ok(answer) => {
                    kept += 1;
                    check_answer(&answer, &bytes, &context(seed, &bytes));
                }
                Err(_) => refused += 1,
            }
        }
    });
    assert!(kept > ROUNDS / 2 && refused > ROUNDS / 2, "{kept} kept, {refused} refused: that tries little");
}

/// As it goes to a client whose question has a case of its own, at different times.
fn check_answer(answer: &Answer, upstream: &[u8], context: &str) {
    let (_, end) = question(upstream).unwrap();
    let mut sent = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    sent.extend(upstream[HEADER_LEN..end].to_ascii_uppercase());
    // A length is no letter, but a type may look like one.
    sent.splice(sent.len() - 4.., upstream[end - 4..end].iter().copied());
    sent.extend([0, 0, 41, 0xff, 0xff, 0, 0, 0, 0, 0, 0]);
    let mut key = Key::default();
    let Ok(query) = Query::parse(&sent, &mut key) else { panic!("{context}") };
    let now = Instant::now();
    for (response, all) in [
        (answer.response(now, u32::MAX), None),
        (answer.response(now + Duration::from_secs(100_000), 10), Some(0..=10)),
        (answer.stale_response(), Some(30..=30)),
    ] {
        let mut out = Vec::new();
        query.write(&mut out, &response, usize::from(u16::MAX));
        let ttls = check_reply(&out, &sent, context);
        let allowed = all.unwrap_or(0..=MAX_TTL);
        assert!(ttls.iter().all(|ttl| allowed.contains(ttl)), "{ttls:?} {context}");
    }
}

/// What goes out is a response with the query's id that two libraries can read. Gives the times to live.
fn check_reply(out: &[u8], query: &[u8], context: &str) -> Vec<u32> {
    assert_eq!(out[..2], query[..2], "{context}");
    assert_eq!((out[2] & 0x80, out[2] & 0x78, out[3] & 0x40), (0x80, query[2] & 0x78, 0), "{context}");
    let ttls = read_with_domain(out).unwrap_or_else(|error| panic!("domain: {error}; {} from {context}", hex(out)));
    if let Some(opaque) = with_opaque_data(out)
        && let Err(error) = Message::from_vec(&opaque)
    {
        panic!("hickory: {error}; {} from {context}", hex(&opaque));
    }
    ttls
}

fn read_with_domain(out: &[u8]) -> Result<Vec<u32>, String> {
    let tell = |error: &dyn std::fmt::Display| error.to_string();
    let message = Other::from_octets(out).map_err(|error| tell(&error))?;
    for question in message.question() {
        question.map_err(|error| tell(&error))?;
    }
    let mut ttls = Vec::new();
    let (_, answer, authority, additional) = message.sections().map_err(|error| tell(&error))?;
    for record in answer.chain(authority) {
        let record = record.map_err(|error| tell(&error))?;
        record.to_record::<UnknownRecordData<_>>().map_err(|error| tell(&error))?;
        ttls.push(record.ttl().as_secs());
    }
    for record in additional {
        record.map_err(|error| tell(&error))?;
    }
    if let Some(opt) = message.opt() {
        for option in opt.opt().iter::<UnknownOptData<_>>() {
            option.map_err(|error| tell(&error))?;
        }
    }
    let walked: usize = walk(out).map(|records| records.last().map_or(out.len(), |(_, end)| *end)).ok_or("walk")?;
    if walked == out.len() { Ok(ttls) } else { Err("there are octets behind it".to_owned()) }
}

/// Data that we pass on unread may be anything; the other library reads all that it knows. So those types become unknown.
/// `None` for a record with no data at all, which it does not take.
fn with_opaque_data(out: &[u8]) -> Option<Vec<u8>> {
    const OPT: u16 = RecordType::OPT.0;
    const READ: [u16; 8] = [1, 2, 5, 6, 12, 15, 28, OPT];
    let mut opaque = out.to_vec();
    for (at, end) in walk(out)? {
        let rtype = u16_at(out, at)?;
        if rtype != OPT && end == at + 10 {
            return None;
        }
        if !READ.contains(&rtype) {
            opaque[at..at + 2].copy_from_slice(&65_280_u16.to_be_bytes());
        }
    }
    Some(opaque)
}

/// Where the type of each record stands, and where the record ends.
fn walk(bytes: &[u8]) -> Option<Vec<(usize, usize)>> {
    let count = |at: usize| u16_at(bytes, at).map(usize::from);
    let mut at = HEADER_LEN;
    for _ in 0..count(4)? {
        at = crate::wire::skip_name(bytes, at)? + 4;
    }
    let mut records = Vec::new();
    for _ in 0..count(6)? + count(8)? + count(10)? {
        let fixed = crate::wire::skip_name(bytes, at)?;
        at = fixed + 10 + count(fixed + 8)?;
        records.push((fixed, at));
    }
    Some(records)
}
