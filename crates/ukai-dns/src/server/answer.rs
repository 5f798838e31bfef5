//! From a client's octets to ours: everything that can be decided at once is; only what must be asked upstream waits.

use std::net::IpAddr;
use std::sync::Arc;

use super::cache::Found;
use super::clock::Moment;
use super::config::{Settings, Watched};
use super::cookie::Cookies;
use super::forward::Forwarder;
use super::key::Key;
use super::limit::{Limited, Limiter};
use super::policy::{Answers, Policy};
use super::query::{Query, Reject, Response, error_options, write_header_only};
use super::query_log::QueryLog;
use super::special::Special;
use super::stats::{Count, Counters, OverrideUse, Stats, Tally};
use super::swap::Swap;
use super::zone::{Layer, Zone};
use crate::message::MAX_MESSAGE;
use crate::name::Name;
use crate::types::{ExtendedError, Rcode, RecordType};
use crate::wire::{CLASS_IN, QUESTION_POINTER, push_record};

/// RFC 8482 section 4.2; the value is the one of its example.
const ANY_TTL: u32 = 3_789;
const ANY_RDATA: &[u8] = b"\x07RFC8482\x00";
const CLASS_CH: u16 = 3;
/// Names in class CH that tell what a server is, in wire format.
const VERSION_NAMES: [&[u8]; 2] = [b"\x07version\x04bind\x00", b"\x07version\x06server\x00"];

/// What every socket shares.
pub(crate) struct Answerer {
    settings: Swap<Arc<Settings>>,
    zone: Swap<Zone>,
    pub forwarder: Arc<Forwarder>,
    pub counters: Arc<Counters>,
    pub log: QueryLog,
    pub policy: Option<Arc<Policy>>,
    cookies: Cookies,
    limiter: Limiter,
}

/// What holds while one batch of messages is answered.
pub(crate) struct View {
    pub settings: Arc<Settings>,
    pub zone: Zone,
    pub watched: Arc<Watched>,
    pub now: Moment,
}

/// What a thread uses for one message after the other.
#[derive(Default)]
pub(crate) struct Scratch {
    pub key: Key,
    pub hash: u64,
    pub tally: Tally,
}

/// What to do about one message.
pub(crate) enum Decision<'a> {
    Drop,
    /// The answer was written.
    Reply,
    /// The answer was written, and should be fetched anew before it ends.
    ReplyAndFetch,
    /// What is asked for is in the scratch's key.
    Forward(Query<'a>),
    /// To be sent on the stream, one after the other.
    Several(Answers),
}

/// How long an answer may be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    Datagram,
    Stream,
}

impl Limit {
    fn octets(self, query: &Query<'_>) -> usize {
        match self {
            Self::Datagram => query.udp_limit(),
            Self::Stream => MAX_MESSAGE,
        }
    }
}

impl Answerer {
    pub fn new(
        settings: Settings,
        zone: Zone,
        forwarder: Arc<Forwarder>,
        counters: Arc<Counters>,
        policy: Option<Arc<Policy>>,
        cookies: Cookies,
    ) -> Self {
        Self {
            settings: Swap::new(Arc::new(settings)),
            zone: Swap::new(zone),
            forwarder,
            counters,
            log: QueryLog::default(),
            policy,
            cookies,
            limiter: Limiter::default(),
        }
    }

    pub fn view(&self) -> View {
        View { settings: self.settings(), zone: self.zone(), watched: self.forwarder.watched(), now: Moment::now() }
    }

    /// Never waits. An answer is appended to `out`.
    pub fn decide<'a>(
        &self,
        view: &View,
        scratch: &mut Scratch,
        bytes: &'a [u8],
        client: IpAddr,
        limit: Limit,
        out: &mut Vec<u8>,
    ) -> Decision<'a> {
        scratch.tally.add(Count::Queries);
        let allowed = view.settings.allows(client);
        let mut query = match Query::parse(bytes, &mut scratch.key) {
            Ok(query) => query,
            Err(reject) => {
                scratch.tally.add(Count::Malformed);
                return match reject {
                    Reject::Additional(query) if allowed => {
                        query.write(out, &Response::empty(Rcode::FORMERR), limit.octets(&query));
                        Decision::Reply
                    }
                    Reject::Header(rcode) if allowed => {
                        write_header_only(out, bytes, rcode);
                        Decision::Reply
                    }
                    _ => Decision::Drop,
                };
            }
        };
        if let Some(policy) = self.policy.as_deref().filter(|policy| policy.holds(scratch.key.name())) {
            let answers = policy.answer(bytes, client, limit, &|| self.zone(), view.now);
            return match (limit, answers.messages.first()) {
                (_, None) => Decision::Drop,
                (Limit::Datagram, Some(message)) => {
                    out.extend_from_slice(message);
                    Decision::Reply
                }
                (Limit::Stream, Some(_)) => Decision::Several(answers),
            };
        }
        if !allowed {
            return refuse(&query, scratch, limit, None, out);
        }
        if let Some(decision) = self.vet(view, scratch, &mut query, client, limit, out) {
            return decision;
        }
        scratch.hash = self.forwarder.hashing.of(scratch.key.name());
        self.log.note(&scratch.key, query.qtype, client, view.now);
        self.resolve(view, scratch, query, limit, out)
    }

    /// Cookies, rate limit, and what is answered whatever the name.
    fn vet<'a>(
        &self,
        view: &View,
        scratch: &mut Scratch,
        query: &mut Query<'a>,
        client: IpAddr,
        limit: Limit,
        out: &mut Vec<u8>,
    ) -> Option<Decision<'a>> {
        let now_s = view.now.wall.as_second() as u32;
        let cookie = query.cookie.and_then(|sent| self.cookies.answer(sent, client, now_s));
        if let Some((cookie, _)) = cookie {
            query.set_answer_cookie(cookie);
        }
        if let Some(per_second) = view.settings.rate_limit
            && limit == Limit::Datagram
            && !cookie.is_some_and(|(_, is_known)| is_known)
        {
            match self.limiter.count(client, per_second, now_s) {
                Limited::No => {}
                Limited::Truncate => {
                    scratch.tally.add(Count::Limited);
                    query.write_truncated(out);
                    return Some(Decision::Reply);
                }
                Limited::Drop => {
                    scratch.tally.add(Count::Limited);
                    return Some(Decision::Drop);
                }
            }
        }
        let mut reply = |response: &Response<'_>| {
            query.write(out, response, limit.octets(query));
            Some(Decision::Reply)
        };
        if query.edns().is_some_and(|edns| edns.version > 0) {
            return reply(&Response::empty(Rcode::BADVERS));
        }
        if query.class == CLASS_CH
            && let Some(text) = view.settings.version.as_deref()
            && VERSION_NAMES.contains(&scratch.key.name())
            && matches!(query.qtype, RecordType::TXT | RecordType::ANY)
        {
            return reply(&Response { answers: 1, body: &version_body(text), ..Response::empty(Rcode::NOERROR) });
        }
        // What else there is in other classes is nobody's business.
        if query.class != CLASS_IN {
            return Some(refuse(query, scratch, limit, None, out));
        }
        match query.qtype {
            RecordType::ANY => reply(&Response { answers: 1, body: &any_body(), ..Response::empty(Rcode::NOERROR) }),
            qtype if is_meta(qtype) => Some(refuse(query, scratch, limit, Some(ExtendedError::NOT_SUPPORTED), out)),
            _ => None,
        }
    }

    /// Override, special-use domain, cache, or the world.
    fn resolve<'a>(
        &self,
        view: &View,
        scratch: &mut Scratch,
        query: Query<'a>,
        limit: Limit,
        out: &mut Vec<u8>,
    ) -> Decision<'a> {
        let Scratch { key, hash, tally } = scratch;
        let octets = limit.octets(&query);
        if let Some(response) = view.zone.answer(key.name(), *hash, query.qtype, view.now) {
            tally.add(Count::Overridden);
            query.write(out, &response, octets);
            return Decision::Reply;
        }
        if Special::may_be(key.name())
            && !view.zone.holds(key.name(), *hash)
            && let Some(name) = Name::from_wire_bytes(key.name())
            && let Some(special) = Special::answer(&name, query.qtype, &view.settings)
        {
            tally.add(Count::Special);
            query.write(out, &special.response(), octets);
            return Decision::Reply;
        }
        let (cap, now) = (view.watched.ttl_cap(key.name()), view.now.monotonic);
        let is_watched = cap != u32::MAX;
        match self.forwarder.cache.shard(*hash).find(key, *hash, now) {
            Found::Fresh { answer, prefetch } if !answer.is_older_than(cap, now) => {
                tally.add(Count::Hits);
                let response = answer.response(now, cap);
                if answer.rcode == Rcode::SERVFAIL {
                    query.write(out, &Response { options: &answer.options_when_cached(), ..response }, octets);
                } else {
                    query.write(out, &response, octets);
                }
                return if prefetch && !is_watched { Decision::ReplyAndFetch } else { Decision::Reply };
            }
            Found::Stale(answer) if !is_watched => {
                tally.add(Count::Stale);
                query.write(out, &answer.stale_response(), octets);
                return Decision::Reply;
            }
            _ => {}
        }
        if !query.recursion_desired() {
            return refuse(&query, scratch, limit, Some(ExtendedError::NOT_AUTHORITATIVE), out);
        }
        tally.add(Count::Misses);
        Decision::Forward(query)
    }

    pub fn settings(&self) -> Arc<Settings> {
        self.settings.get()
    }

    pub fn zone(&self) -> Zone {
        self.zone.get()
    }

    pub fn replace_leases(&self, leases: Layer) {
        let is_other = !leases.gives_the_same_as(&self.zone().leases);
        self.zone.change(|zone| zone.leases = Arc::new(leases));
        self.tell_followers(is_other);
    }

    pub fn replace_file(&self, file: Layer) {
        let is_other = !file.gives_the_same_as(&self.zone().file);
        self.zone.change(|zone| zone.file = Arc::new(file));
        self.tell_followers(is_other);
    }

    /// Of what is read again and says the same as before, nobody needs to be told.
    fn tell_followers(&self, is_other: bool) {
        if let Some(policy) = self.policy.as_ref().filter(|_| is_other) {
            policy.change(Moment::now());
        }
    }

    pub fn replace_settings(&self, settings: Settings) {
        let before = self.settings();
        let other_routes = settings.upstreams != before.upstreams || settings.forward != before.forward;
        self.forwarder.replace(&settings, other_routes);
        self.settings.change(|before| *before = Arc::new(settings));
    }

    pub fn stats(&self) -> Stats {
        let usage = |(id, asked): (&str, &super::zone::Asked)| OverrideUse {
            id: id.to_owned(),
            answers: asked.count(),
            last_asked: asked.last(),
        };
        let zone = self.zone();
        let mut overrides: Vec<_> = zone.usage().map(usage).collect();
        overrides.sort_by(|one, other| one.id.cmp(&other.id));
        self.counters.snapshot(self.forwarder.cache.len(), overrides)
    }
}

/// For a query that there is no room for.
pub(crate) fn turn_away(query: &Query<'_>, scratch: &mut Scratch, limit: Limit, out: &mut Vec<u8>) {
    scratch.tally.add(Count::Dropped);
    let options = error_options(&[ExtendedError::new(ExtendedError::NOT_READY, "too many queries under way")]);
    query.write(out, &Response { options: &options, ..Response::empty(Rcode::SERVFAIL) }, limit.octets(query));
}

fn refuse<'a>(
    query: &Query<'_>,
    scratch: &mut Scratch,
    limit: Limit,
    error: Option<u16>,
    out: &mut Vec<u8>,
) -> Decision<'a> {
    scratch.tally.add(Count::Refused);
    let errors: Vec<_> = error.map(|code| ExtendedError::new(code, "")).into_iter().collect();
    let options = error_options(&errors);
    query.write(out, &Response { options: &options, ..Response::empty(Rcode::REFUSED) }, limit.octets(query));
    Decision::Reply
}

/// Transfers, TSIG and the other types that only exist in questions (RFC 6895 section 3.1), and the reserved zero.
fn is_meta(qtype: RecordType) -> bool {
    matches!(qtype.0, 0 | 41 | 128..=254)
}

fn any_body() -> Vec<u8> {
    let mut body = Vec::new();
    push_record(&mut body, QUESTION_POINTER, RecordType::HINFO, ANY_TTL, ANY_RDATA);
    body
}

/// One TXT record of class CH.
fn version_body(text: &str) -> Vec<u8> {
    let text = &text.as_bytes()[..text.len().min(255)];
    let rdata = [&[text.len() as u8], text].concat();
    let mut body = Vec::new();
    push_record(&mut body, QUESTION_POINTER, RecordType::TXT, 0, &rdata);
    // The class, after owner and type.
    body[4..6].copy_from_slice(&CLASS_CH.to_be_bytes());
    body
}

#[cfg(test)]
mod tests {
    use super::super::file::FileOverride;
    use super::super::fuzz::{answerer, given};
    use super::super::policy::PolicyZone;
    use super::*;

    #[tokio::test]
    async fn followers_are_told_of_changes_alone() {
        let dir = tempfile::tempdir().unwrap();
        let zone = PolicyZone {
            name: "rpz.ukai.test".parse().unwrap(),
            key_file: None,
            allow_transfer: vec!["127.0.0.0/8".parse().unwrap()],
            notify: Vec::new(),
        };
        let answerer = answerer(Some(Policy::new(&zone, dir.path(), Moment::now()).unwrap()));
        // Written with each new serial.
        let serial = || std::fs::read_to_string(dir.path().join("policy.serial")).ok();
        let give = |given: &[FileOverride]| answerer.replace_file(Layer::of_file(given, &answerer.forwarder.hashing));
        give(&[given()]);
        assert_eq!(serial(), None, "the file was read again, and says what it said");
        answerer.replace_leases(Layer::default());
        assert_eq!(serial(), None);
        give(&[FileOverride { ttl: 11, ..given() }]);
        let first = serial();
        assert!(first.is_some());
        give(&[]);
        assert_ne!(serial(), first);
    }
}
