//! One thread that answers datagrams: it waits, takes a batch, answers what it can at once, and asks upstream for the rest.

use std::io;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};

use super::answer::{Answerer, Decision, Limit, Scratch, turn_away};
use super::batch::{BATCH, Incoming, Outgoing, socket_addr};
use super::flight::{Datagram, Flight, Waiter};
use super::forward::{Boarded, Forwarder};
use super::legs::Legs;
use super::stats::Count;

/// Batches of one socket in a row, before the others have their turn.
const BATCHES_IN_A_ROW: usize = 8;
/// After an error of the poller, so that an error that stays does not eat a core.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);
/// How long a worker that is to stop waits for the answers to questions that it sent.
const GRACE: Duration = Duration::from_millis(1_500);
const EVENTS: usize = 64;
/// A worker that waits in its only socket looks so often whether it is to stop.
const LOOK_AT_STOP: Duration = Duration::from_millis(250);

/// Tells all workers to stop.
pub(crate) struct Stop {
    told: AtomicBool,
    wakers: Vec<OwnedFd>,
}

impl Stop {
    pub fn new(workers: usize) -> io::Result<Self> {
        let waker = |_| eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let wakers = (0..workers).map(waker).collect::<Result<_, _>>()?;
        Ok(Self { told: AtomicBool::new(false), wakers })
    }

    pub fn tell(&self) {
        self.told.store(true, Ordering::Release);
        for waker in &self.wakers {
            // It fails only when it was told already.
            let _ = rustix::io::write(waker, &1_u64.to_ne_bytes());
        }
    }

    pub fn is_told(&self) -> bool {
        self.told.load(Ordering::Acquire)
    }
}

pub(crate) struct Worker {
    answerer: Arc<Answerer>,
    clients: Vec<Arc<UdpSocket>>,
    stop: Arc<Stop>,
    /// Among the workers.
    number: usize,
    poller: OwnedFd,
    incoming: Incoming,
    /// One for each client socket.
    outgoing: Vec<Outgoing>,
    scratch: Scratch,
    legs: Legs,
}

/// What an event of the poller is about.
enum Token {
    Client(usize),
    Leg(usize),
    Stop,
}

const LEGS_FROM: u64 = 1 << 32;

impl Token {
    fn data(self) -> epoll::EventData {
        epoll::EventData::new_u64(match self {
            Self::Client(index) => index as u64,
            Self::Leg(slot) => LEGS_FROM + slot as u64,
            Self::Stop => u64::MAX,
        })
    }

    fn of(data: epoll::EventData) -> Self {
        match data.u64() {
            u64::MAX => Self::Stop,
            slot @ LEGS_FROM.. => Self::Leg((slot - LEGS_FROM) as usize),
            index => Self::Client(index as usize),
        }
    }
}

impl Worker {
    /// On the thread that is to run it.
    pub fn new(answerer: Arc<Answerer>, clients: Vec<UdpSocket>, stop: Arc<Stop>, number: usize) -> io::Result<Self> {
        let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (index, client) in clients.iter().enumerate() {
            // Sockets that systemd opened are shared by all workers: one is enough to be woken.
            let flags = epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE;
            epoll::add(&poller, client, Token::Client(index).data(), flags)?;
        }
        if let Some(waker) = stop.wakers.get(number) {
            epoll::add(&poller, waker, Token::Stop.data(), epoll::EventFlags::IN)?;
        }
        for client in &clients {
            // Every call but one says that it does not wait.
            client.set_nonblocking(false)?;
            client.set_read_timeout(Some(LOOK_AT_STOP))?;
        }
        let legs = Legs::new(Arc::clone(&answerer.forwarder));
        Ok(Self {
            outgoing: clients.iter().map(|_| Outgoing::new()).collect(),
            clients: clients.into_iter().map(Arc::new).collect(),
            answerer,
            stop,
            number,
            poller,
            incoming: Incoming::new(),
            scratch: Scratch::default(),
            legs,
        })
    }

    /// Until told to stop, and what is under way has landed.
    pub fn run(&mut self) {
        let mut events = Vec::with_capacity(EVENTS);
        let mut stop_at = None;
        loop {
            if self.waits_for_one() && !self.stop.is_told() {
                self.wait_in_socket();
                continue;
            }
            let now = Instant::now();
            if self.stop.is_told() {
                let stop_at = *stop_at.get_or_insert_with(|| self.close(now));
                if now >= stop_at || !self.legs.are_under_way() {
                    return;
                }
            }
            events.clear();
            let due = self.legs.next_due().into_iter().chain(stop_at).min();
            let wait = due.map(|due| round_up(due.saturating_duration_since(now)));
            match epoll::wait(&self.poller, rustix::buffer::spare_capacity(&mut events), wait.as_ref()) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "the DNS server cannot wait for datagrams");
                    std::thread::sleep(PAUSE_AFTER_ERROR);
                }
            }
            for event in &events {
                match Token::of(event.data) {
                    Token::Client(index) => self.serve(index),
                    Token::Leg(slot) => self.receive(slot),
                    Token::Stop => {}
                }
            }
            if due.is_some() {
                self.legs.keep_time(Instant::now());
            }
        }
    }

    /// What waits in the sockets is answered; what comes after is not for us.
    fn close(&mut self, now: Instant) -> Instant {
        for index in 0..self.clients.len() {
            self.serve(index);
            let _ = epoll::delete(&self.poller, &self.clients[index]);
        }
        if let Some(waker) = self.stop.wakers.get(self.number) {
            let _ = epoll::delete(&self.poller, waker);
        }
        now + GRACE
    }

    /// One socket and nothing under way: to wait and to receive is one system call then, not two.
    fn waits_for_one(&self) -> bool {
        self.clients.len() == 1 && self.legs.are_idle()
    }

    fn wait_in_socket(&mut self) {
        match self.incoming.wait(&self.clients[0]) {
            Ok(0) => {}
            Ok(_) => self.answer(0),
            Err(error) => {
                tracing::debug!(%error, "datagrams could not be received");
                std::thread::sleep(PAUSE_AFTER_ERROR);
            }
        }
    }

    fn serve(&mut self, index: usize) {
        for _ in 0..BATCHES_IN_A_ROW {
            match self.incoming.receive(&self.clients[index]) {
                Ok(0) => return,
                Ok(count) => {
                    self.answer(index);
                    if count < BATCH {
                        return;
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "datagrams could not be received");
                    return std::thread::sleep(PAUSE_AFTER_ERROR);
                }
            }
        }
    }

    /// What was received on a client socket.
    fn answer(&mut self, index: usize) {
        let view = self.answerer.view();
        let Self { answerer, clients, incoming, outgoing, scratch, legs, poller, .. } = self;
        let out = &mut outgoing[index];
        for datagram in incoming.datagrams() {
            let Some(from) = datagram.from else { continue };
            // Port 0 is nobody.
            let Some(client) = socket_addr(&from).filter(|client| client.port() != 0) else { continue };
            if datagram.cut {
                scratch.tally.add(Count::Malformed);
                continue;
            }
            let decision = answerer.decide(&view, scratch, datagram.bytes, client.ip(), Limit::Datagram, out.octets());
            let mut launch = |flight| {
                legs.launch(flight, view.now.monotonic, &mut |slot, socket: &UdpSocket| watch(poller, slot, socket));
            };
            match decision {
                // Datagrams have one answer.
                Decision::Drop | Decision::Several(_) => {}
                Decision::Reply => out.push(Some(from)),
                Decision::ReplyAndFetch => {
                    out.push(Some(from));
                    if let Boarded::New(flight) = answerer.forwarder.board(&scratch.key, scratch.hash, None) {
                        scratch.tally.add(Count::Prefetched);
                        launch(flight);
                    }
                }
                Decision::Forward(query) => {
                    let socket = Arc::clone(&clients[index]);
                    let waiter = Waiter::Datagram(Datagram { socket, client, ask: query.keep() });
                    match answerer.forwarder.board(&scratch.key, scratch.hash, Some(waiter)) {
                        Boarded::Joined => {}
                        Boarded::New(flight) => launch(flight),
                        Boarded::Full => {
                            turn_away(&query, scratch, Limit::Datagram, out.octets());
                            out.push(Some(from));
                        }
                    }
                }
            }
        }
        // Whoever has his answer finds it counted.
        answerer.counters.take(&mut scratch.tally);
        send(out, &clients[index]);
        legs.flush();
    }

    /// What an upstream sent.
    fn receive(&mut self, slot: usize) {
        let Self { answerer, clients, incoming, outgoing, legs, .. } = self;
        let forwarder = &answerer.forwarder;
        let watched = forwarder.watched();
        legs.receive(slot, incoming, &mut |flight: &Arc<Flight>, answer| {
            let Some((landed, waiters)) = forwarder.land(flight, answer) else { return };
            let cap = watched.ttl_cap(flight.key().name());
            for waiter in waiters {
                match waiter {
                    Waiter::Task(sender) => drop(sender.send(landed.clone())),
                    Waiter::Datagram(Datagram { socket, client, ask }) => {
                        let index = clients.iter().position(|own| Arc::ptr_eq(own, &socket));
                        let Some(index) = index else {
                            Forwarder::tell(&landed, &Datagram { socket, client, ask }, cap);
                            continue;
                        };
                        let out = &mut outgoing[index];
                        landed.write(&ask, ask.udp_limit(), cap, out.octets());
                        out.push(Some(client.into()));
                        if out.is_full() {
                            send(out, &clients[index]);
                        }
                    }
                }
            }
        });
        for (out, client) in outgoing.iter_mut().zip(clients) {
            send(out, client);
        }
    }
}

fn send(out: &mut Outgoing, socket: &UdpSocket) {
    if !out.is_empty()
        && let Err(error) = out.send(socket)
    {
        tracing::debug!(%error, "an answer could not be sent");
    }
}

fn watch(poller: &OwnedFd, slot: usize, socket: &UdpSocket) {
    if let Err(error) = epoll::add(poller, socket, Token::Leg(slot).data(), epoll::EventFlags::IN) {
        // What is sent through it is slow, and so is raced.
        tracing::warn!(%error, "an upstream's answers cannot be waited for");
    }
}

/// The poller must not wake before the time.
fn round_up(wait: Duration) -> Timespec {
    let wait = Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).saturating_add(1));
    Timespec { tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(wait.subsec_nanos()) }
}
