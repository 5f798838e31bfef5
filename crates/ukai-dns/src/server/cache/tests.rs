use std::net::Ipv4Addr;

use super::*;
use crate::client::AskOptions;
use crate::message::{Question, compose_query};
use crate::name::Name;
use crate::server::key::Hashing;
use crate::types::RecordType;
use crate::wire::{HEADER_LEN, QUESTION_POINTER, push_record, push_soa, set_u16};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn key(text: &str, qtype: RecordType) -> Key {
    Key::new(&name(text), qtype, false, false)
}

/// A reply to `text` A with these times to live, or without any record and with a SOA of this minimum.
fn reply(text: &str, rcode: Rcode, ttls: &[u32], soa_minimum: Option<u32>) -> Vec<u8> {
    let question = Question::new(text, RecordType::A).unwrap();
    let mut bytes = compose_query(1, &question, &AskOptions::default(), false);
    bytes[2] |= 0x80;
    bytes[3] |= rcode.0 as u8;
    for (index, ttl) in ttls.iter().enumerate() {
        push_record(&mut bytes, QUESTION_POINTER, RecordType::A, *ttl, &Ipv4Addr::new(192, 0, 2, index as u8).octets());
    }
    set_u16(&mut bytes, 6, ttls.len() as u16);
    if let Some(minimum) = soa_minimum {
        push_soa(&mut bytes, QUESTION_POINTER, 1, minimum);
        set_u16(&mut bytes, 8, 1);
    }
    bytes
}

fn read(text: &str, bytes: &[u8], now: Instant) -> Answer {
    Answer::read(bytes, Kept(key(text, RecordType::A).octets()), now).unwrap()
}

/// A cache with the hashing that names in it are looked up by.
struct Store {
    cache: Cache,
    hashing: Hashing,
}

impl Store {
    fn new(entries: usize) -> Self {
        Self { cache: Cache::new(entries, 1 << 24), hashing: Hashing::default() }
    }

    fn keep(&self, text: &str, qtype: RecordType, answer: Answer) {
        let key = key(text, qtype);
        let hash = self.hashing.of(key.name());
        self.cache.shard(hash).insert(hash, Arc::new(answer));
    }

    /// What a fresh answer looks like.
    fn find_key<T>(&self, key: &Key, now: Instant, look: impl FnOnce(&Answer, bool) -> T) -> Option<T> {
        let hash = self.hashing.of(key.name());
        match self.cache.shard(hash).find(key, hash, now) {
            Found::Fresh { answer, prefetch } => Some(look(answer, prefetch)),
            _ => None,
        }
    }

    fn has(&self, text: &str, qtype: RecordType, now: Instant) -> bool {
        self.find_key(&key(text, qtype), now, |_, _| ()).is_some()
    }
}

fn ttls(answer: &Answer, now: Instant) -> Vec<u32> {
    let response = answer.response(now, u32::MAX);
    let mut body = response.body.to_vec();
    let records = u32::from(response.answers) + u32::from(response.authority);
    crate::wire::fit_body(&mut body, records, &[], response.ttl);
    // Every record of these tests has an owner of two octets.
    let mut at = 0;
    (0..records)
        .map(|_| {
            let ttl = u32::from_be_bytes(body[at + 6..at + 10].try_into().unwrap());
            at += 12 + usize::from(u16::from_be_bytes([body[at + 10], body[at + 11]]));
            ttl
        })
        .collect()
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_lowest_of_a_set_counts_down_until_nothing_is_left() {
    let now = Instant::now();
    let store = Store::new(1_000);
    store.keep("a.test", RecordType::A, read("a.test", &reply("a.test", Rcode::NOERROR, &[100, 30, 200], None), now));
    let later = now + 10 * SECOND;
    let seen = store.find_key(&key("a.test", RecordType::A), later, |answer, _| ttls(answer, later));
    assert_eq!(seen.unwrap(), [20, 20, 20]);
    assert!(store.has("a.test", RecordType::A, now + 29 * SECOND));
    assert!(!store.has("a.test", RecordType::A, now + 30 * SECOND));
}

#[test]
fn times_to_live_are_capped_and_the_top_bit_is_zero() {
    let now = Instant::now();
    let long = read("a.test", &reply("a.test", Rcode::NOERROR, &[1_000_000], None), now);
    assert_eq!(ttls(&long, now), [86_400]);
    let zero = read("a.test", &reply("a.test", Rcode::NOERROR, &[0x8000_0001], None), now);
    assert_eq!(zero.lifetime, 0);
    let store = Store::new(1_000);
    store.keep("a.test", RecordType::A, zero);
    assert_eq!(store.cache.len(), 0);
}

#[test]
fn an_absent_name_is_absent_for_every_type_and_an_absent_type_is_not() {
    let now = Instant::now();
    let store = Store::new(1_000);
    let absent = |text: &str, rcode| read(text, &reply(text, rcode, &[], Some(30)), now);
    store.keep("gone.test", RecordType::A, absent("gone.test", Rcode::NXDOMAIN));
    store.keep("half.test", RecordType::A, absent("half.test", Rcode::NOERROR));
    assert!(store.has("gone.test", RecordType::TXT, now));
    assert!(store.has("half.test", RecordType::A, now));
    assert!(!store.has("half.test", RecordType::TXT, now));
    assert!(!store.has("gone.test", RecordType::A, now + 30 * SECOND));
    store.keep("gone.test", RecordType::A, read("gone.test", &reply("gone.test", Rcode::NOERROR, &[60], None), now));
    assert!(!store.has("gone.test", RecordType::TXT, now), "a name that came back is absent for no type");
    assert_eq!(store.cache.len(), 2);
}

#[test]
fn who_denies_a_name_for_its_aaaa_does_not_deny_its_a() {
    let now = Instant::now();
    let store = Store::new(1_000);
    for qtype in [RecordType::AAAA, RecordType::HTTPS] {
        let name = format!("lb{}.test", qtype.0);
        let message = reply(&name, Rcode::NXDOMAIN, &[], Some(30));
        let absent = Answer::read(&message, Kept(key(&name, qtype).octets()), now).unwrap();
        store.keep(&name, qtype, absent);
        assert!(store.has(&name, qtype, now));
        assert!(!store.has(&name, RecordType::A, now), "{qtype}");
    }
}

#[test]
fn an_absence_lasts_an_hour_at_most_and_not_at_all_without_soa() {
    let now = Instant::now();
    let lifetime = |rcode, minimum| read("a.test", &reply("a.test", rcode, &[], minimum), now).lifetime;
    assert_eq!(lifetime(Rcode::NXDOMAIN, Some(99_999)), 3_600);
    assert_eq!(lifetime(Rcode::NXDOMAIN, None), 0);
    assert_eq!(lifetime(Rcode::NOERROR, None), 0);
}

#[test]
fn a_failure_lasts_seconds() {
    let now = Instant::now();
    let store = Store::new(1_000);
    let failure = Answer::failure(
        Kept(key("a.test", RecordType::A).octets()),
        &[ExtendedError::new(22, "dead")],
        FAILURE_LIFETIME,
        now,
    );
    store.keep("a.test", RecordType::A, failure);
    let options = store.find_key(&key("a.test", RecordType::A), now + SECOND, |answer, _| answer.options_when_cached());
    assert_eq!(options.unwrap(), b"\x00\x0f\x00\x06\x00\x16dead\x00\x0f\x00\x02\x00\x0d");
    assert!(!store.has("a.test", RecordType::A, now + FAILURE_LIFETIME));
}

#[test]
fn do_and_cd_are_answers_of_their_own() {
    let now = Instant::now();
    let store = Store::new(1_000);
    store.keep("a.test", RecordType::A, read("a.test", &reply("a.test", Rcode::NOERROR, &[9], None), now));
    for (dnssec_ok, checking_disabled) in [(true, false), (false, true)] {
        let key = Key::new(&name("a.test"), RecordType::A, dnssec_ok, checking_disabled);
        assert!(store.find_key(&key, now, |_, _| ()).is_none());
    }
}

#[test]
fn it_never_grows_beyond_its_bounds_and_keeps_what_is_used() {
    let now = Instant::now();
    for store in [Store::new(64 * 20), Store { cache: Cache::new(1 << 20, 64 * 20 * 400), hashing: Hashing::default() }]
    {
        for n in 0..10_000 {
            let text = format!("n{n}.test");
            store.keep(&text, RecordType::A, read(&text, &reply(&text, Rcode::NOERROR, &[60], None), now));
            assert!(store.cache.len() <= 64 * 45);
            assert!(store.has("n0.test", RecordType::A, now), "after {n}");
        }
        assert!(!store.has("n1.test", RecordType::A, now));
        assert!(store.cache.len() > 64 * 5, "{}", store.cache.len());
    }
}

#[test]
fn what_names_it_on_the_way_is_forgotten_as_well() {
    let now = Instant::now();
    let store = Store::new(1_000);
    let mut via = reply("www.test", Rcode::NOERROR, &[], None);
    // CNAME to a.test, whose last label is in the question; then the address at a.test.
    let start = via.len();
    push_record(&mut via, QUESTION_POINTER, RecordType::CNAME, 60, b"\x01a\xc0\x10");
    let target = (0xC000 | (start + 12)) as u16;
    push_record(&mut via, target, RecordType::A, 60, &[192, 0, 2, 1]);
    set_u16(&mut via, 6, 2);
    store.keep("www.test", RecordType::A, read("www.test", &via, now));
    for text in ["a.test", "b.test"] {
        store.keep(text, RecordType::A, read(text, &reply(text, Rcode::NOERROR, &[60], None), now));
    }
    store.cache.forget(|known| known == name("a.test").as_wire());
    assert_eq!(store.cache.len(), 1);
    assert!(store.has("b.test", RecordType::A, now));
}

#[test]
fn what_is_over_is_given_only_while_nothing_newer_can_be_had() {
    let now = Instant::now();
    let store = Store::new(1_000);
    store.keep("a.test", RecordType::A, read("a.test", &reply("a.test", Rcode::NOERROR, &[60], None), now));
    let key = key("a.test", RecordType::A);
    let hash = store.hashing.of(key.name());
    let find = |at: Instant| match store.cache.shard(hash).find(&key, hash, at) {
        Found::Fresh { .. } => "fresh",
        Found::Stale(answer) => {
            assert_eq!(answer.stale_response().ttl, Ttl::All(30));
            "stale"
        }
        Found::Nothing => "nothing",
    };
    let over = now + 61 * SECOND;
    assert_eq!(find(over), "nothing", "nobody has tried");
    assert!(store.cache.shard(hash).failed(key.octets(), hash, over).is_some());
    assert_eq!(find(over), "stale");
    assert_eq!(find(over + FAILURE_LIFETIME), "nothing", "it is tried again");
    let long_over = over + STALE_MAX;
    assert!(store.cache.shard(hash).failed(key.octets(), hash, long_over).is_none(), "bounded");
    assert_eq!(find(long_over), "nothing");
}

#[test]
fn what_is_asked_for_is_fetched_before_it_ends() {
    let now = Instant::now();
    let store = Store::new(1_000);
    for (text, ttl) in [("long.test", 100), ("short.test", 9)] {
        store.keep(text, RecordType::A, read(text, &reply(text, Rcode::NOERROR, &[ttl], None), now));
    }
    let wants =
        |text: &str, seconds| store.find_key(&key(text, RecordType::A), now + seconds * SECOND, |_, prefetch| prefetch);
    assert_eq!(wants("long.test", 90), Some(false));
    assert_eq!(wants("long.test", 91), Some(true));
    assert_eq!(wants("short.test", 8), Some(false));
}

#[test]
fn what_goes_round_in_circles_is_no_answer() {
    let ask = |bytes: &[u8]| Answer::read(bytes, Kept(key("a.test", RecordType::A).octets()), Instant::now());
    let good = reply("a.test", Rcode::NOERROR, &[60], None);
    assert!(ask(&good).is_ok());
    let start = HEADER_LEN + name("a.test").as_wire().len() + 4;
    for pointer in [start as u16, start as u16 + 2, 4, 0x3FFF] {
        let mut bytes = good.clone();
        set_u16(&mut bytes, start, 0xC000 | pointer);
        assert_eq!(ask(&bytes).unwrap_err(), Unusable::Malformed, "{pointer}");
    }
    for len in start..good.len() {
        assert_eq!(ask(&good[..len]).unwrap_err(), Unusable::Malformed, "{len}");
    }
}
