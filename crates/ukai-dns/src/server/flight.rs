//! A question that is being asked upstream, and who waits for it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::oneshot;

use super::cache::{Answer, lock};
use super::key::Kept;
use super::query::Ask;

/// Whoever lands it first, by a leg or by a race of all upstreams, answers everybody.
pub(crate) struct Flight {
    key: Box<[u8]>,
    pub hash: u64,
    pub started: Instant,
    /// None once it has landed.
    waiters: Mutex<Option<Vec<Waiter>>>,
}

pub(crate) enum Waiter {
    Datagram(Datagram),
    Task(oneshot::Sender<Landed>),
}

pub(crate) struct Datagram {
    pub socket: Arc<UdpSocket>,
    pub client: SocketAddr,
    pub ask: Ask,
}

/// What a flight brought.
#[derive(Clone)]
pub(crate) struct Landed {
    pub answer: Arc<Answer>,
    /// It is an old one, because there is no new one.
    pub stale: bool,
}

impl Flight {
    pub fn new(key: &[u8], hash: u64, waiter: Option<Waiter>) -> Self {
        let waiters = Mutex::new(Some(waiter.into_iter().collect()));
        Self { key: key.into(), hash, started: Instant::now(), waiters }
    }

    pub fn key(&self) -> Kept<'_> {
        Kept(&self.key)
    }

    /// Gives the waiter back if it has landed already.
    pub fn join(&self, waiter: Waiter) -> Result<(), Waiter> {
        match lock(&self.waiters).as_mut() {
            Some(waiters) => {
                waiters.push(waiter);
                Ok(())
            }
            None => Err(waiter),
        }
    }

    /// `None` for everybody but the first.
    pub fn land(&self) -> Option<Vec<Waiter>> {
        lock(&self.waiters).take()
    }

    pub fn has_landed(&self) -> bool {
        lock(&self.waiters).is_none()
    }
}
