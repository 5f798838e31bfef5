//! First attempts: one datagram to a plain UDP upstream, sent and received by the worker that has the question.
//!
//! A question has a random id, a random mix of cases (0x20), and a port that few others have: a socket is used for a few
//! questions or a short while, and then another is opened. So a forger must guess all three (RFC 5452) in the time that one
//! answer takes. What is slow or goes wrong is handed over to be raced among all upstreams; a late answer still counts.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch::{Incoming, Outgoing};
use super::cache::{Answer, Unusable};
use super::flight::Flight;
use super::forward::{Forwarder, HEDGE, TOTAL_TIMEOUT, Tried, Why};
use super::key::Kept;
use super::random::Random;
use super::upstreams::Server;
use crate::client::AskError;
use crate::types::Rcode;
use crate::upstream::Upstream;
use crate::wire::{self, CLASS_IN, HEADER_LEN, u16_at};

/// Questions for which one port is used, at most.
const PER_SOCKET: u32 = 32;
/// … and for how long.
const SOCKET_AGE: Duration = Duration::from_millis(100);
/// Open ports of one worker; when that many wait for answers, questions share them.
const MAX_SOCKETS: usize = 256;

pub(crate) struct Legs {
    forwarder: Arc<Forwarder>,
    sockets: Vec<Option<Port>>,
    /// Tells one socket in a slot from the one before.
    generation: u32,
    current: Option<usize>,
    hedges: VecDeque<Due>,
    ends: VecDeque<Due>,
    random: Random,
    outgoing: Outgoing,
}

/// One socket, connected to one upstream.
struct Port {
    socket: UdpSocket,
    server: Arc<Server>,
    generation: u32,
    used: u32,
    opened: Instant,
    under_way: Vec<Leg>,
}

struct Leg {
    id: u16,
    flight: Arc<Flight>,
    /// As it was sent, case and all.
    question: Box<[u8]>,
    handed_over: bool,
    /// Something answered it that did not repeat it exactly: a forger, or an upstream that cannot do better.
    doubted: bool,
}

#[derive(Clone, Copy)]
struct Due {
    at: Instant,
    slot: usize,
    generation: u32,
    id: u16,
}

impl Legs {
    pub fn new(forwarder: Arc<Forwarder>) -> Self {
        Self {
            forwarder,
            sockets: Vec::new(),
            generation: 0,
            current: None,
            hedges: VecDeque::new(),
            ends: VecDeque::new(),
            random: Random::new(),
            outgoing: Outgoing::new(),
        }
    }

    /// Sends the question of a flight, or hands it over to be raced. Queued until [`Legs::flush`]. A new socket is shown to
    /// `opened`, with its slot.
    pub fn launch(&mut self, flight: Arc<Flight>, now: Instant, opened: &mut impl FnMut(usize, &UdpSocket)) {
        let routes = self.forwarder.routes();
        let first = routes.first(flight.key().name(), now);
        let Some(server) = first.filter(|server| !server.is_peculiar()) else {
            return self.forwarder.race(flight, None);
        };
        let Upstream::Udp(address) = server.upstream else {
            return self.forwarder.race(flight, None);
        };
        match self.port(server, address, now, opened) {
            Ok(slot) => self.queue(slot, flight, now),
            Err(error) => {
                tracing::debug!(%error, "no socket for a question to an upstream");
                let why = Why::Error(AskError::from(error));
                self.forwarder.race(flight, Some(Tried { server: Arc::clone(server), why }));
            }
        }
    }

    /// Sends what was queued.
    pub fn flush(&mut self) {
        let Some(slot) = self.current.filter(|_| !self.outgoing.is_empty()) else { return };
        let Some(port) = self.sockets.get(slot).and_then(Option::as_ref) else { return };
        if let Err(error) = self.outgoing.send(&port.socket) {
            self.fail(slot, &error);
        }
    }

    /// Takes what came for a slot. Each flight that lands goes to `landed`.
    pub fn receive(&mut self, slot: usize, incoming: &mut Incoming, landed: &mut impl FnMut(&Arc<Flight>, Answer)) {
        let Some(port) = self.sockets.get_mut(slot).and_then(Option::as_mut) else { return };
        match incoming.receive(&port.socket) {
            Ok(_) => {}
            Err(error) => return self.fail(slot, &error),
        }
        for datagram in incoming.datagrams() {
            port.take(datagram.bytes, datagram.cut, &self.forwarder, landed);
        }
        self.close_if_done(slot);
    }

    /// Hands over what is slow, and ends what is late.
    pub fn keep_time(&mut self, now: Instant) {
        self.forget_landed();
        while let Some(due) = pop_due(&mut self.hedges, now) {
            let Some((port, at)) = self.find(due) else { continue };
            let leg = &mut port.under_way[at];
            leg.handed_over = true;
            if leg.flight.has_landed() {
                continue;
            }
            let (flight, server, doubted) = (Arc::clone(&leg.flight), Arc::clone(&port.server), leg.doubted);
            let why = if doubted { Why::Peculiar } else { Why::Silent };
            match doubted {
                true => server.set_peculiar(),
                false => server.failed(),
            }
            self.forwarder.race(flight, Some(Tried { server, why }));
        }
        while let Some(due) = pop_due(&mut self.ends, now) {
            if let Some((port, at)) = self.find(due) {
                port.under_way.swap_remove(at);
                self.close_if_done(due.slot);
            }
        }
    }

    /// What has been answered needs no time kept; the oldest are at the front.
    fn forget_landed(&mut self) {
        while self.hedges.front().copied().is_some_and(|due| self.find(due).is_none()) {
            self.hedges.pop_front();
        }
        while self.ends.front().copied().is_some_and(|due| self.find(due).is_none()) {
            self.ends.pop_front();
        }
    }

    /// When [`Legs::keep_time`] has something to do next.
    pub fn next_due(&self) -> Option<Instant> {
        self.hedges.front().into_iter().chain(self.ends.front()).map(|due| due.at).min()
    }

    /// Nothing is waited for, not even late.
    pub fn are_idle(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn are_under_way(&self) -> bool {
        self.sockets.iter().flatten().any(|port| port.under_way.iter().any(|leg| !leg.handed_over))
    }

    fn queue(&mut self, slot: usize, flight: Arc<Flight>, now: Instant) {
        let Some(port) = self.sockets.get_mut(slot).and_then(Option::as_mut) else { return };
        let Ok(random) = self.random.take::<34>() else {
            return self.forwarder.race(flight, None);
        };
        let mut id = u16::from_be_bytes([random[0], random[1]]);
        while port.under_way.iter().any(|leg| leg.id == id) {
            id = id.wrapping_add(1);
        }
        let question = mixed_case(flight.key(), &random[2..]);
        compose(self.outgoing.octets(), id, flight.key(), &question);
        self.outgoing.push(None);
        port.used += 1;
        port.under_way.push(Leg { id, flight, question, handed_over: false, doubted: false });
        let generation = port.generation;
        let due = |after| Due { at: now + after, slot, generation, id };
        self.hedges.push_back(due(HEDGE));
        self.ends.push_back(due(TOTAL_TIMEOUT));
        if self.outgoing.is_full() {
            self.flush();
        }
    }

    /// The current port, if it may still be used, or a new one.
    fn port(
        &mut self,
        server: &Arc<Server>,
        address: SocketAddr,
        now: Instant,
        opened: &mut impl FnMut(usize, &UdpSocket),
    ) -> io::Result<usize> {
        if let Some(slot) = self.current
            && let Some(port) = self.sockets.get(slot).and_then(Option::as_ref)
            && Arc::ptr_eq(&port.server, server)
        {
            let is_spent = port.used >= PER_SOCKET || now.saturating_duration_since(port.opened) >= SOCKET_AGE;
            let is_shared = self.sockets.len() >= MAX_SOCKETS && !self.sockets.iter().any(Option::is_none);
            if !is_spent || is_shared && port.under_way.len() < usize::from(u16::MAX) / 2 {
                return Ok(slot);
            }
        }
        self.flush();
        if let Some(spent) = self.current.take() {
            self.close_if_done(spent);
        }
        let socket = open(address)?;
        let free = self.sockets.iter().position(Option::is_none);
        if free.is_none() && self.sockets.len() >= MAX_SOCKETS {
            return Err(io::Error::other("too many sockets wait for upstreams"));
        }
        let slot = free.unwrap_or_else(|| {
            self.sockets.push(None);
            self.sockets.len() - 1
        });
        self.generation = self.generation.wrapping_add(1);
        opened(slot, &socket);
        self.sockets[slot] = Some(Port {
            socket,
            server: Arc::clone(server),
            generation: self.generation,
            used: 0,
            opened: now,
            under_way: Vec::new(),
        });
        self.current = Some(slot);
        Ok(slot)
    }

    /// A port that is not in use any more and waits for nothing is closed.
    fn close_if_done(&mut self, slot: usize) {
        let is_done = self.sockets.get(slot).and_then(Option::as_ref).is_some_and(|port| port.under_way.is_empty());
        if is_done && self.current != Some(slot) {
            self.sockets[slot] = None;
        }
    }

    /// The socket failed: what it carries is raced.
    fn fail(&mut self, slot: usize, error: &io::Error) {
        if self.current == Some(slot) {
            self.current = None;
            // Meant for this socket.
            self.outgoing.clear();
        }
        let Some(port) = self.sockets.get_mut(slot).and_then(Option::take) else { return };
        port.server.failed();
        for leg in port.under_way.into_iter().filter(|leg| !leg.handed_over) {
            let why = Why::Error(AskError::from(io::Error::from(error.kind())));
            self.forwarder.race(leg.flight, Some(Tried { server: Arc::clone(&port.server), why }));
        }
    }

    fn find(&mut self, due: Due) -> Option<(&mut Port, usize)> {
        let port = self.sockets.get_mut(due.slot)?.as_mut().filter(|port| port.generation == due.generation)?;
        let at = port.under_way.iter().position(|leg| leg.id == due.id)?;
        Some((port, at))
    }
}

impl Port {
    fn take(
        &mut self,
        bytes: &[u8],
        cut: bool,
        forwarder: &Arc<Forwarder>,
        landed: &mut impl FnMut(&Arc<Flight>, Answer),
    ) {
        let Some((at, is_exact)) = self.answered(bytes) else { return };
        if !is_exact {
            // Whoever guessed id and port is not to talk us out of checking the case: the exact answer may be on its way.
            self.under_way[at].doubted = true;
            return;
        }
        let leg = self.under_way.swap_remove(at);
        self.server.replied();
        let key = leg.flight.key();
        let why = match Answer::read(bytes, key, Instant::now()) {
            _ if cut => Why::Truncated,
            Ok(answer) => return landed(&leg.flight, answer),
            Err(Unusable::Truncated) => Why::Truncated,
            Err(Unusable::Failed { rcode: Rcode::FORMERR | Rcode::NOTIMP, edns: false, .. }) => Why::Peculiar,
            Err(Unusable::Failed { rcode, errors, .. }) => Why::Failed { rcode, errors },
            Err(Unusable::Malformed) => Why::Error(AskError::Malformed("the reply cannot be read".to_owned())),
        };
        if matches!(why, Why::Peculiar) {
            self.server.set_peculiar();
        }
        if !leg.handed_over {
            forwarder.race(leg.flight, Some(Tried { server: Arc::clone(&self.server), why }));
        }
    }

    /// Which question a datagram answers, and whether it repeats it exactly. Anything else is dropped.
    fn answered(&self, bytes: &[u8]) -> Option<(usize, bool)> {
        let header = bytes.first_chunk::<HEADER_LEN>()?;
        let (id, questions) = (u16::from_be_bytes([header[0], header[1]]), u16_at(bytes, 4)?);
        // A response, and to a query.
        if header[2] & 0xf8 != 0x80 {
            return None;
        }
        let at = self.under_way.iter().position(|leg| leg.id == id)?;
        if questions == 0 {
            // Some servers leave the question out of a FORMERR, having not understood it.
            return (header[3] & 0x0f == Rcode::FORMERR.0 as u8).then_some((at, false));
        }
        let sent = &self.under_way[at].question;
        let repeated = bytes.get(HEADER_LEN..HEADER_LEN + sent.len())?;
        if questions != 1 || !repeated.eq_ignore_ascii_case(sent) {
            return None;
        }
        Some((at, **sent == *repeated))
    }
}

fn pop_due(queue: &mut VecDeque<Due>, now: Instant) -> Option<Due> {
    queue.pop_front_if(|due| due.at <= now)
}

/// Name, type and class, the letters of the name in random case.
fn mixed_case(key: Kept<'_>, random: &[u8]) -> Box<[u8]> {
    let mut question = Vec::with_capacity(key.name().len() + 4);
    question.extend_from_slice(key.name());
    wire::mix_case(&mut question, random);
    question.extend_from_slice(&key.qtype().0.to_be_bytes());
    question.extend_from_slice(&CLASS_IN.to_be_bytes());
    question.into()
}

fn compose(out: &mut Vec<u8>, id: u16, key: Kept<'_>, question: &[u8]) {
    let [high, low] = id.to_be_bytes();
    // RD; AD, to be told what was validated (RFC 6840 section 5.7), and CD as the client has it.
    let flags = 0x20 | u8::from(key.checking_disabled()) << 4;
    out.extend_from_slice(&[high, low, 1, flags, 0, 1, 0, 0, 0, 0, 0, 1]);
    out.extend_from_slice(question);
    wire::push_opt(out, 0, key.dnssec_ok(), 0);
}

/// The kernel picks a random port for port 0.
fn open(server: SocketAddr) -> io::Result<UdpSocket> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    socket.connect(server)?;
    Ok(socket)
}
