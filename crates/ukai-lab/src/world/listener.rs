//! A TCP listener that can be shut, or go silent as a black hole does, and come back, while the world runs.
//!
//! Silence needs no privilege: the kernel drops every SYN to a listener whose accept queue is full, so that a connect to
//! it times out. `listen(fd, 0)` leaves room for one connection, a filler takes it, and nobody accepts. Connections
//! that already stand are simply no longer served: their peer's data is acknowledged by the kernel and never answered.

use std::collections::HashSet;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Connections that may wait to be accepted while the door is open.
const BACKLOG: i32 = 1_024;
/// Connections that one listener serves at a time; more are closed at once.
const MAX_CONNECTIONS: usize = 512;
/// A handshake on loopback is done within the system call that begins it; one not done by now was dropped.
const FILLER_WAIT: Duration = Duration::from_millis(50);
/// One filler takes the only place; a few more are needed when clients stood in the queue already.
const MAX_FILLERS: usize = 8;
/// A port just closed can be taken again at once, but for a straggler in the kernel.
const REBIND_TRIES: u32 = 50;
const REBIND_WAIT: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    Open,
    /// Nobody listens: connections are refused.
    Closed,
    /// A black hole.
    Silent,
}

/// The side that says what the door should be, and learns when it is.
#[derive(Debug)]
pub(super) struct DoorControl {
    want: watch::Sender<Door>,
    have: watch::Receiver<Option<Door>>,
}

impl DoorControl {
    pub fn set(&self, door: Door) {
        self.want.send_if_modified(|current| std::mem::replace(current, door) != door);
    }

    /// Waits until the door is as was asked.
    pub async fn settled(&mut self) {
        let want = *self.want.borrow();
        // An error means that the listener is gone, and with it the world.
        let _ = self.have.wait_for(|have| *have == Some(want)).await;
    }
}

/// Starts a listener. Binding happens before this returns, so that a port in use is an error here.
pub(super) fn spawn<F, Served>(
    tasks: &mut JoinSet<()>,
    address: SocketAddr,
    door: Door,
    serve: F,
) -> io::Result<DoorControl>
where
    F: Fn(TcpStream, SocketAddr) -> Served + Send + Sync + 'static,
    Served: Future<Output = ()> + Send + 'static,
{
    let listener = if door == Door::Closed { None } else { Some(bind(address)?) };
    let (want, wanted) = watch::channel(door);
    let (have, has) = watch::channel(None);
    tasks.spawn(Listener { address, listener, wanted, have, fillers: Vec::new(), used: HashSet::new() }.run(serve));
    Ok(DoorControl { want, have: has })
}

struct Listener {
    address: SocketAddr,
    listener: Option<TcpListener>,
    wanted: watch::Receiver<Door>,
    have: watch::Sender<Option<Door>>,
    fillers: Vec<TcpStream>,
    /// Our own fillers' addresses, which are not clients.
    used: HashSet<SocketAddr>,
}

impl Listener {
    async fn run<F, Served>(mut self, serve: F)
    where
        F: Fn(TcpStream, SocketAddr) -> Served + Send + Sync + 'static,
        Served: Future<Output = ()> + Send + 'static,
    {
        let mut connections = JoinSet::new();
        loop {
            let door = *self.wanted.borrow_and_update();
            if let Err(error) = self.become_door(door).await {
                tracing::warn!(server.address = %self.address, %error, "the lab's listener cannot change");
            }
            self.have.send_replace(Some(door));
            if self.accept_until_changed(door, &serve, &mut connections).await.is_none() {
                return;
            }
        }
    }

    async fn become_door(&mut self, door: Door) -> io::Result<()> {
        match door {
            Door::Closed => {
                self.fillers.clear();
                self.listener = None;
            }
            Door::Open => {
                self.fillers.clear();
                let listener = self.listening().await?;
                SockRef::from(listener).listen(BACKLOG)?;
            }
            Door::Silent => {
                let listener = self.listening().await?;
                SockRef::from(listener).listen(0)?;
                self.fill().await?;
            }
        }
        Ok(())
    }

    async fn listening(&mut self) -> io::Result<&TcpListener> {
        let mut tries = 0;
        while self.listener.is_none() {
            match bind(self.address) {
                Ok(listener) => self.listener = Some(listener),
                Err(error) if tries == REBIND_TRIES => return Err(error),
                Err(_) => tokio::time::sleep(REBIND_WAIT).await,
            }
            tries += 1;
        }
        self.listener.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    async fn fill(&mut self) -> io::Result<()> {
        for _ in 0..MAX_FILLERS {
            let socket = if self.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.bind((self.address.ip(), 0).into())?;
            let from = socket.local_addr()?;
            self.used.insert(from);
            match timeout(FILLER_WAIT, socket.connect(self.address)).await {
                Ok(connected) => self.fillers.push(connected?),
                Err(_dropped) => return Ok(()),
            }
        }
        Ok(())
    }

    /// `None` when the world is gone.
    async fn accept_until_changed<F, Served>(
        &mut self,
        door: Door,
        serve: &F,
        connections: &mut JoinSet<()>,
    ) -> Option<()>
    where
        F: Fn(TcpStream, SocketAddr) -> Served + Send + Sync + 'static,
        Served: Future<Output = ()> + Send + 'static,
    {
        loop {
            let accepted = match (&self.listener, door) {
                (Some(listener), Door::Open) => tokio::select! {
                    changed = self.wanted.changed() => return changed.ok(),
                    Some(_) = connections.join_next() => continue,
                    accepted = listener.accept() => accepted,
                },
                _ => tokio::select! {
                    changed = self.wanted.changed() => return changed.ok(),
                    Some(_) = connections.join_next() => continue,
                },
            };
            let Ok((stream, from)) = accepted else {
                continue;
            };
            if self.used.remove(&from) || connections.len() >= MAX_CONNECTIONS {
                continue;
            }
            let _ = stream.set_nodelay(true);
            connections.spawn(while_open(self.wanted.clone(), serve(stream, from)));
        }
    }
}

/// Serves a connection as long as the door is open, leaves it hanging while silent, and drops it when closed.
async fn while_open(mut door: watch::Receiver<Door>, work: impl Future<Output = ()>) {
    let mut work = pin!(work);
    loop {
        let now = *door.borrow_and_update();
        match now {
            Door::Open => tokio::select! {
                () = &mut work => return,
                changed = door.changed() => if changed.is_err() { return },
            },
            Door::Silent => {
                if door.changed().await.is_err() {
                    return;
                }
            }
            Door::Closed => return,
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
