use std::net::Ipv4Addr;

use super::*;
use crate::client::AskOptions;
use crate::message::{Question, compose_query};
use crate::types::Transport;
use crate::wire::{QUESTION_POINTER, push_record, push_soa, set_u16};

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn key(text: &str, qtype: RecordType) -> Key {
    Key { name: name(text), qtype, dnssec_ok: false, checking_disabled: false }
}

/// A reply to `text` A with these times to live, or without any record and with a SOA of this minimum.
fn reply(text: &str, rcode: Rcode, ttls: &[u32], soa_minimum: Option<u32>) -> Reply {
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
    Reply::parse(&question, Transport::Udp, "127.0.0.1:53".parse().unwrap(), bytes).unwrap()
}

fn answer(reply: &Reply, now: Instant) -> Arc<Answer> {
    Arc::new(Answer::from_reply(reply, now).unwrap())
}

fn ttls(answer: &Answer, now: Instant) -> Vec<u32> {
    answer.respond(now, u32::MAX, |response| answer.ttl_offsets.iter().map(|&at| ttl_at(response.body, at)).collect())
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn the_lowest_of_a_set_counts_down_until_nothing_is_left() {
    let now = Instant::now();
    let mut cache = Cache::new(10);
    cache.insert(key("a.test", RecordType::A), answer(&reply("a.test", Rcode::NOERROR, &[100, 30, 200], None), now));
    let found = cache.find(&key("a.test", RecordType::A), now + 10 * SECOND).unwrap();
    assert_eq!(ttls(&found, now + 10 * SECOND), [20, 20, 20]);
    assert!(cache.find(&key("a.test", RecordType::A), now + 29 * SECOND).is_some());
    assert!(cache.find(&key("a.test", RecordType::A), now + 30 * SECOND).is_none());
}

#[test]
fn times_to_live_are_capped_and_the_top_bit_is_zero() {
    let now = Instant::now();
    assert_eq!(ttls(&answer(&reply("a.test", Rcode::NOERROR, &[1_000_000], None), now), now), [86_400]);
    let zero = answer(&reply("a.test", Rcode::NOERROR, &[0x8000_0001], None), now);
    assert!(zero.lifetime.is_zero());
    let mut cache = Cache::new(10);
    cache.insert(key("a.test", RecordType::A), zero);
    assert_eq!(cache.len(), 0);
}

#[test]
fn an_absent_name_is_absent_for_every_type_and_an_absent_type_is_not() {
    let now = Instant::now();
    let mut cache = Cache::new(10);
    cache.insert(key("gone.test", RecordType::A), answer(&reply("gone.test", Rcode::NXDOMAIN, &[], Some(30)), now));
    cache.insert(key("half.test", RecordType::A), answer(&reply("half.test", Rcode::NOERROR, &[], Some(30)), now));
    assert!(cache.find(&key("gone.test", RecordType::TXT), now).is_some());
    assert!(cache.find(&key("half.test", RecordType::A), now).is_some());
    assert!(cache.find(&key("half.test", RecordType::TXT), now).is_none());
    assert!(cache.find(&key("gone.test", RecordType::A), now + 30 * SECOND).is_none());
}

#[test]
fn an_absence_lasts_an_hour_at_most_and_not_at_all_without_soa() {
    let now = Instant::now();
    assert_eq!(answer(&reply("a.test", Rcode::NXDOMAIN, &[], Some(99_999)), now).lifetime, 3_600 * SECOND);
    assert!(answer(&reply("a.test", Rcode::NXDOMAIN, &[], None), now).lifetime.is_zero());
    assert!(answer(&reply("a.test", Rcode::NOERROR, &[], None), now).lifetime.is_zero());
}

#[test]
fn a_failure_given_again_says_so() {
    let now = Instant::now();
    let mut cache = Cache::new(10);
    let failure = Answer::failure(vec![ExtendedError::new(22, "dead")], FAILURE_LIFETIME, now);
    cache.insert(key("a.test", RecordType::A), Arc::new(failure));
    let again = cache.find(&key("a.test", RecordType::A), now + SECOND).unwrap();
    assert_eq!(again.errors.iter().map(|error| error.code).collect::<Vec<_>>(), [22, 13]);
    assert!(cache.find(&key("a.test", RecordType::A), now + FAILURE_LIFETIME).is_none());
}

#[test]
fn do_and_cd_are_answers_of_their_own() {
    let now = Instant::now();
    let mut cache = Cache::new(10);
    cache.insert(key("a.test", RecordType::A), answer(&reply("a.test", Rcode::NOERROR, &[9], None), now));
    assert!(cache.find(&Key { dnssec_ok: true, ..key("a.test", RecordType::A) }, now).is_none());
    assert!(cache.find(&Key { checking_disabled: true, ..key("a.test", RecordType::A) }, now).is_none());
}

#[test]
fn it_never_grows_beyond_its_bound_and_keeps_what_is_used() {
    let now = Instant::now();
    let mut cache = Cache::new(100);
    for n in 0..1_000 {
        let text = format!("n{n}.test");
        cache.insert(key(&text, RecordType::A), answer(&reply(&text, Rcode::NOERROR, &[60], None), now));
        assert!(cache.len() <= 100);
        assert!(cache.find(&key("n0.test", RecordType::A), now).is_some(), "after {n}");
    }
    assert!(cache.find(&key("n1.test", RecordType::A), now).is_none());
}

#[test]
fn what_names_it_on_the_way_is_forgotten_as_well() {
    let now = Instant::now();
    let mut cache = Cache::new(10);
    let mut via = reply("www.test", Rcode::NOERROR, &[60], None);
    via.answers[0].name = name("a.test");
    cache.insert(key("www.test", RecordType::A), answer(&via, now));
    cache.insert(key("a.test", RecordType::TXT), answer(&reply("a.test", Rcode::NOERROR, &[60], None), now));
    cache.insert(key("b.test", RecordType::A), answer(&reply("b.test", Rcode::NOERROR, &[60], None), now));
    cache.forget(&name("a.test"));
    assert_eq!(cache.len(), 1);
    assert!(cache.find(&key("b.test", RecordType::A), now).is_some());
}
