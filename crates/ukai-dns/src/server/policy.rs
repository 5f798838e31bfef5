//! What is overridden, as a response-policy zone that other resolvers transfer and follow (AXFR, RFC 5936; NOTIFY, RFC 1996).
//!
//! It is made anew from what is served for each transfer, so it holds nothing that is not served and no lease that is over.
//! Who follows is told of changes at once. The SOA asks him to look every [`REFRESH_S`], and to drop the zone [`EXPIRE_S`] after
//! this server fell silent; BIND 9.18 does if its own limits let it, Unbound 1.17 does not.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use domain::base::iana::{Class, Opcode, Rcode, Rtype, TsigRcode};
use domain::base::message_builder::{AdditionalBuilder, PushError};
use domain::base::name::{Name as WireName, ParsedName};
use domain::base::rdata::UnknownRecordData;
use domain::base::{Message, MessageBuilder, Record, Serial, Ttl};
use domain::rdata::tsig::Time48;
use domain::rdata::{Ns, Soa};
use domain::tsig::{Algorithm, Key, KeyName, ServerSequence};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::answer::Limit;
use super::clock::Moment;
use super::swap::Swap;
use super::upstreams::is_at_or_below;
use super::zone::Zone;
use crate::name::Name;
use crate::update::{KeyError, TsigKey};
use crate::wire::UDP_PAYLOAD;

/// How often whoever missed a notification asks.
const REFRESH_S: u32 = 10;
const RETRY_S: u32 = 5;
/// RFC 1912 section 2.2 wants weeks, for zones that are better old than gone. An override is not.
const EXPIRE_S: u32 = 300;
/// How long an absence is remembered: the end of an override takes effect as soon.
const MINIMUM_S: u32 = 5;
/// Of one message of a transfer. The largest possible would hold up the first record.
const MESSAGE_OCTETS: usize = 16 * 1024;
/// At once: each holds the whole zone.
const MAX_TRANSFERS: usize = 4;
/// Resolvers that are told of changes.
pub const MAX_NOTIFIED: usize = 16;
const NOTIFY_TRIES: u32 = 3;
const NOTIFY_TIMEOUT: Duration = Duration::from_secs(1);
const TELL_REFUSAL_EVERY_S: u32 = 10;
/// In the state directory.
const SERIAL_FILE: &str = "policy.serial";
/// Labels that mean something else than a name in a policy zone.
const TRIGGERS: [&[u8]; 4] = [b"rpz-ip", b"rpz-nsip", b"rpz-nsdname", b"rpz-client-ip"];

/// The zone under which what is overridden may be transferred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyZone {
    pub name: Name,
    /// Holds one key as `ALGORITHM:NAME:BASE64`: whoever signs with it may transfer.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Who may transfer without a key.
    #[serde(default)]
    pub allow_transfer: Vec<IpNet>,
    /// Who is told of changes.
    #[serde(default)]
    pub notify: Vec<SocketAddr>,
}

/// Why the zone cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum PolicyZoneError {
    #[error("the policy zone {zone} has neither a key nor networks that may transfer it, so nobody could follow it")]
    ForNobody { zone: Name },
    #[error("the root cannot be a policy zone")]
    Root,
    #[error("the policy zone {zone} notifies {count} servers; {MAX_NOTIFIED} are possible")]
    TooManyNotified { zone: Name, count: usize },
    #[error("cannot read the key in {path}: {cause}")]
    Key { path: String, cause: String },
}

/// What to send, one after the other, and the right to transfer while that lasts.
#[derive(Default)]
pub(crate) struct Answers {
    pub messages: Vec<Vec<u8>>,
    pub transfer: Option<OwnedSemaphorePermit>,
}

impl From<Vec<Vec<u8>>> for Answers {
    fn from(messages: Vec<Vec<u8>>) -> Self {
        Self { messages, transfer: None }
    }
}

type Keys = HashMap<(KeyName, Algorithm), Arc<Key>>;

pub(crate) struct Policy {
    origin: Name,
    key_file: Option<PathBuf>,
    keys: Swap<Arc<Keys>>,
    allow_transfer: Vec<IpNet>,
    notify: Vec<SocketAddr>,
    serial: AtomicU32,
    /// Where the serial is kept: after a clock was set back, the time alone would be older than what followers have.
    serial_file: PathBuf,
    changed: Notify,
    transfers: Arc<Semaphore>,
    /// When somebody was last told to have been refused, in seconds of the wall clock.
    refusal_told: AtomicU32,
}

impl Policy {
    pub fn new(zone: &PolicyZone, state_dir: &Path, now: Moment) -> Result<Self, PolicyZoneError> {
        if zone.name.is_root() {
            return Err(PolicyZoneError::Root);
        }
        if zone.key_file.is_none() && zone.allow_transfer.is_empty() {
            return Err(PolicyZoneError::ForNobody { zone: zone.name.clone() });
        }
        if zone.notify.len() > MAX_NOTIFIED {
            return Err(PolicyZoneError::TooManyNotified { zone: zone.name.clone(), count: zone.notify.len() });
        }
        let serial_file = state_dir.join(SERIAL_FILE);
        let kept = std::fs::read_to_string(&serial_file).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        Ok(Self {
            origin: zone.name.clone(),
            keys: Swap::new(Arc::new(read_keys(zone.key_file.as_deref())?)),
            key_file: zone.key_file.clone(),
            allow_transfer: zone.allow_transfer.clone(),
            notify: zone.notify.clone(),
            serial: AtomicU32::new(seconds(now).max(kept)),
            serial_file,
            changed: Notify::new(),
            transfers: Arc::new(Semaphore::new(MAX_TRANSFERS)),
            refusal_told: AtomicU32::new(0),
        })
    }

    /// Whether a name (wire format, lower case) is in the zone, and so nobody else's.
    pub fn holds(&self, name: &[u8]) -> bool {
        is_at_or_below(name, self.origin.as_wire())
    }

    /// Takes the key that is in the file now; one that cannot be read changes nothing.
    pub fn read_key_again(&self) {
        match read_keys(self.key_file.as_deref()) {
            Ok(keys) => {
                let names: Vec<_> = keys.keys().map(|(name, _)| name.to_string()).collect();
                self.keys.change(|before| *before = Arc::new(keys));
                tracing::info!(zone = %self.origin, keys = ?names, "the key of the policy zone was read again");
            }
            Err(error) => tracing::error!(%error, zone = %self.origin, "the key from before goes on"),
        }
    }

    /// What is served is not what it was. Called after the change, so that no follower has the new serial with the old content.
    pub fn change(&self, now: Moment) {
        // The time, so that it grows over restarts; one more than before where several changes fall into one second.
        let next = |serial: u32| Some(serial.wrapping_add(1).max(seconds(now)));
        let _ = self.serial.fetch_update(Ordering::AcqRel, Ordering::Acquire, next);
        if let Err(error) = std::fs::write(&self.serial_file, self.serial.load(Ordering::Acquire).to_string()) {
            tracing::warn!(%error, zone = %self.origin, "the serial of the policy zone cannot be kept");
        }
        self.changed.notify_one();
    }

    /// Once in a while: whoever sends a million queries does not fill the log.
    fn tell_refusal(&self, client: IpAddr, why: &str, now: Moment) {
        let (at, before) = (seconds(now), self.refusal_told.load(Ordering::Relaxed));
        if at.abs_diff(before) >= TELL_REFUSAL_EVERY_S {
            self.refusal_told.store(at, Ordering::Relaxed);
            tracing::warn!(client.address = %client, zone = %self.origin, why, "a query about the policy zone is refused; others may be too");
        }
    }

    /// The messages to send for a query about the zone: none for what is no message, several for a transfer over a stream.
    pub fn answer(&self, bytes: &[u8], client: IpAddr, limit: Limit, zone: &dyn Fn() -> Zone, now: Moment) -> Answers {
        self.try_answer(bytes, client, limit, zone, now).unwrap_or_else(|_| {
            tracing::error!(zone = %self.origin, "an answer about the policy zone could not be composed");
            Answers::default()
        })
    }

    fn try_answer(
        &self,
        bytes: &[u8],
        client: IpAddr,
        limit: Limit,
        zone: &dyn Fn() -> Zone,
        now: Moment,
    ) -> Result<Answers, PushError> {
        let Ok(mut query) = Message::from_octets(bytes.to_vec()) else { return Ok(Answers::default()) };
        let at = Time48::from_u64(u64::from(seconds(now)));
        let signed = match ServerSequence::request(&*self.keys.get(), &mut query, at) {
            Ok(signed) => signed,
            Err(error) => {
                let is_wrong_signature = error.error() == TsigRcode::FORMERR;
                let why = match error.error() {
                    TsigRcode::FORMERR => "its signature does not fit the key (BADSIG): the secret differs".to_owned(),
                    other => format!("its signature is not taken: {other}"),
                };
                self.tell_refusal(client, &why, now);
                let mut message = error.build_message(&query, MessageBuilder::new_vec())?.finish();
                if is_wrong_signature && message.get(3).is_some_and(|flags| flags & 0x0f == Rcode::NOTAUTH.to_int()) {
                    say_bad_signature(&mut message);
                }
                return Ok(vec![message].into());
            }
        };
        let is_allowed = self.allow_transfer.iter().any(|network| network.contains(&client.to_canonical()));
        let answer = Answering { query: &query, signed, at, messages: Vec::new() };
        let Ok(question) = query.sole_question() else { return answer.only(Rcode::FORMERR) };
        if answer.signed.is_none() && !is_allowed {
            self.tell_refusal(client, "it is neither signed nor in allow_transfer", now);
            return answer.only(Rcode::REFUSED);
        }
        let is_origin = Name::from_wire(question.qname()) == self.origin;
        let serial = self.serial.load(Ordering::Acquire);
        match question.qtype() {
            _ if !is_origin || question.qclass() != Class::IN => answer.only(Rcode::REFUSED),
            Rtype::SOA => answer.soa(&self.origin, serial),
            Rtype::NS => answer.ns(&self.origin),
            // RFC 1995 sections 2 and 4: whoever is up to date, or cannot take more, is told the serial.
            Rtype::IXFR if limit == Limit::Datagram || known_serial(&query) == Some(serial) => {
                answer.soa(&self.origin, serial)
            }
            Rtype::AXFR | Rtype::IXFR if limit == Limit::Stream => {
                let Ok(transfer) = Arc::clone(&self.transfers).try_acquire_owned() else {
                    return answer.only(Rcode::SERVFAIL);
                };
                tracing::info!(client.address = %client, zone = %self.origin, serial, "the policy zone is transferred");
                // After the serial: whoever has the new one must not have the old content.
                let messages = answer.transfer(&self.origin, serial, &zone(), Moment::now())?.messages;
                Ok(Answers { messages, transfer: Some(transfer) })
            }
            Rtype::AXFR => answer.only(Rcode::FORMERR),
            _ => answer.only(Rcode::REFUSED),
        }
    }

    /// Tells those who follow of each change, for as long as the server runs.
    pub async fn keep_notifying(self: Arc<Self>) {
        loop {
            self.changed.notified().await;
            let mut told = JoinSet::new();
            for follower in self.notify.clone() {
                let policy = Arc::clone(&self);
                told.spawn_blocking(move || policy.notify(follower));
            }
            while told.join_next().await.is_some() {}
        }
    }

    fn notify(&self, follower: SocketAddr) {
        let told = (0..NOTIFY_TRIES).find_map(|_| self.notify_once(follower).ok());
        match told {
            Some(()) => tracing::debug!(%follower, zone = %self.origin, "a follower is told of a change"),
            None => {
                tracing::warn!(%follower, zone = %self.origin, "a follower did not acknowledge a change; it learns of it when it asks by itself");
            }
        }
    }

    fn notify_once(&self, follower: SocketAddr) -> std::io::Result<()> {
        let any = if follower.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(follower)?;
        socket.set_read_timeout(Some(NOTIFY_TIMEOUT))?;
        let mut id = [0; 2];
        getrandom::fill(&mut id).map_err(|error| std::io::Error::other(error.to_string()))?;
        let id = u16::from_be_bytes(id);
        let message = self.notification(id).map_err(|_| std::io::Error::other("too long"))?;
        socket.send(&message)?;
        let mut answer = [0; UDP_PAYLOAD as usize];
        let len = socket.recv(&mut answer)?;
        match answer.get(..len) {
            Some([high, low, flags, ..]) if u16::from_be_bytes([*high, *low]) == id && flags & 0x80 != 0 => Ok(()),
            _ => Err(std::io::Error::other("it answers something else")),
        }
    }

    fn notification(&self, id: u16) -> Result<Vec<u8>, PushError> {
        let mut builder = MessageBuilder::new_vec();
        builder.header_mut().set_id(id);
        builder.header_mut().set_opcode(Opcode::NOTIFY);
        builder.header_mut().set_aa(true);
        let mut question = builder.question();
        question.push((self.origin.to_wire_name(), Rtype::SOA, Class::IN))?;
        let mut answer = question.answer();
        answer.push(soa(&self.origin, self.serial.load(Ordering::Acquire)))?;
        Ok(answer.finish())
    }
}

/// The answers to one query, each signed where that was.
struct Answering<'a> {
    query: &'a Message<Vec<u8>>,
    signed: Option<ServerSequence<Arc<Key>>>,
    at: Time48,
    messages: Vec<Vec<u8>>,
}

impl Answering<'_> {
    fn only(mut self, rcode: Rcode) -> Result<Answers, PushError> {
        let message = MessageBuilder::new_vec().start_answer(self.query, rcode)?.additional();
        self.push(message)?;
        Ok(self.messages.into())
    }

    fn soa(mut self, origin: &Name, serial: u32) -> Result<Answers, PushError> {
        let mut message = self.start()?;
        message.push(soa(origin, serial))?;
        self.push(message.additional())?;
        Ok(self.messages.into())
    }

    fn ns(mut self, origin: &Name) -> Result<Answers, PushError> {
        let mut message = self.start()?;
        message.push(ns(origin))?;
        self.push(message.additional())?;
        Ok(self.messages.into())
    }

    /// From SOA to SOA, in as many messages as it takes.
    fn transfer(mut self, origin: &Name, serial: u32, zone: &Zone, now: Moment) -> Result<Answers, PushError> {
        let mut message = self.start()?;
        message.push(soa(origin, serial))?;
        message.push(ns(origin))?;
        for given in zone.records(now) {
            let Some(owner) = policy_owner(given.name, origin) else {
                tracing::debug!(name = ?Name::from_wire_bytes(given.name), zone = %origin, "an override has no place in a policy zone");
                continue;
            };
            if message.as_slice().len() >= MESSAGE_OCTETS {
                let full = std::mem::replace(&mut message, self.start()?);
                self.push(full.additional())?;
            }
            let Ok(data) = UnknownRecordData::from_octets(Rtype::from_int(given.rtype.0), given.rdata) else {
                continue;
            };
            message.push(Record::new(owner.to_wire_name(), Class::IN, Ttl::from_secs(given.ttl), data))?;
        }
        message.push(soa(origin, serial))?;
        self.push(message.additional())?;
        Ok(self.messages.into())
    }

    fn start(&self) -> Result<domain::base::message_builder::AnswerBuilder<Vec<u8>>, PushError> {
        let mut builder = MessageBuilder::new_vec().start_answer(self.query, Rcode::NOERROR)?;
        builder.header_mut().set_aa(true);
        Ok(builder)
    }

    fn push(&mut self, mut message: AdditionalBuilder<Vec<u8>>) -> Result<(), PushError> {
        // RFC 6891 section 6.1.1: whoever sends an OPT record gets one.
        if self.messages.is_empty() && self.query.opt().is_some() {
            message.opt(|opt| {
                opt.set_udp_payload_size(UDP_PAYLOAD);
                Ok(())
            })?;
        }
        if let Some(signed) = &mut self.signed {
            signed.answer(&mut message, self.at)?;
        }
        self.messages.push(message.finish());
        Ok(())
    }
}

/// RFC 8945 section 5.2.2 has BADSIG for a signature that does not fit; the library says FORMERR in that place. The record is
/// the last, and ends with the error and the length of nothing more.
fn say_bad_signature(message: &mut [u8]) {
    if let Some([error @ .., 0, 0]) = message.last_chunk_mut::<4>() {
        *error = TsigRcode::BADSIG.to_int().to_be_bytes();
    }
}

type Wire = WireName<Vec<u8>>;

fn soa(origin: &Name, serial: u32) -> Record<Wire, Soa<Wire>> {
    let origin = origin.to_wire_name();
    let seconds = Ttl::from_secs;
    let data = Soa::new(
        origin.clone(),
        origin.clone(),
        Serial(serial),
        seconds(REFRESH_S),
        seconds(RETRY_S),
        seconds(EXPIRE_S),
        seconds(MINIMUM_S),
    );
    Record::new(origin, Class::IN, seconds(MINIMUM_S), data)
}

fn ns(origin: &Name) -> Record<Wire, Ns<Wire>> {
    let origin = origin.to_wire_name();
    Record::new(origin.clone(), Class::IN, Ttl::from_secs(MINIMUM_S), Ns::new(origin))
}

/// Where a name's policy stands. None: it would be too long, or mean something else there: a wildcard overrides many names,
/// some labels select addresses.
fn policy_owner(name: &[u8], origin: &Name) -> Option<Name> {
    let name = Name::from_wire_bytes(name)?;
    let top = name.suffix(1);
    let top = top.as_wire();
    let is_trigger = TRIGGERS.iter().any(|trigger| top.get(1..top.len() - 1) == Some(trigger));
    let is_wildcard = name.as_wire().starts_with(b"\x01*");
    if is_trigger || is_wildcard { None } else { name.below(origin) }
}

/// What an IXFR query says the asker has.
fn known_serial(query: &Message<Vec<u8>>) -> Option<u32> {
    let authority = query.authority().ok()?;
    let soa = authority.limit_to_in::<Soa<ParsedName<_>>>().next()?.ok()?;
    Some(soa.data().serial().into_int())
}

/// Of the wall clock, in 32 bits, which wrap as serials may (RFC 1982).
fn seconds(now: Moment) -> u32 {
    (now.wall.as_second() & 0xffff_ffff) as u32
}

fn read_keys(path: Option<&Path>) -> Result<Keys, PolicyZoneError> {
    let mut keys = Keys::new();
    if let Some(path) = path {
        let fail = |cause| PolicyZoneError::Key { path: path.display().to_string(), cause };
        let key = read_key(path).map_err(fail)?.key();
        keys.insert((key.name().clone(), key.algorithm()), key);
    }
    Ok(keys)
}

fn read_key(path: &Path) -> Result<TsigKey, String> {
    const MAX_KEY_FILE: u64 = 4_096;
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > MAX_KEY_FILE {
        return Err(format!("it has more than {MAX_KEY_FILE} octets"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    TsigKey::from_text(text.trim()).map_err(|error: KeyError| error.to_string())
}
