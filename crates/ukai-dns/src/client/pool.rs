//! Connections over TLS that wait for the next question: a forwarder that shakes hands for each one is slow, and no guest
//! that servers like (RFC 7858 section 3.4, RFC 8484 section 5.2).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::SendRequest;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::upstream::Upstream;

/// Servers close what is idle for longer; most wait ten seconds or more.
const IDLE_MAX: Duration = Duration::from_secs(5);
/// Over all upstreams.
const CONNECTIONS_MAX: usize = 32;

/// What can be asked again.
pub(super) enum Idle {
    /// Nobody else asks on it meanwhile.
    Dns(Box<TlsStream<TcpStream>>),
    /// Many may ask at once.
    Http(SendRequest<Full<Bytes>>),
}

#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<Vec<(Upstream, Instant, Idle)>>,
}

impl Pool {
    /// The one that was used last.
    pub fn take(&self, upstream: &Upstream) -> Option<Idle> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(_, since, _)| since.elapsed() < IDLE_MAX);
        let at = idle.iter().rposition(|(of, ..)| of == upstream)?;
        if let (_, since, Idle::Http(sender)) = &mut idle[at] {
            *since = Instant::now();
            return (!sender.is_closed()).then(|| Idle::Http(sender.clone()));
        }
        Some(idle.swap_remove(at).2)
    }

    pub fn put(&self, upstream: &Upstream, connection: Idle) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(connection, Idle::Http(_)) {
            idle.retain(|(of, _, known)| of != upstream || !matches!(known, Idle::Http(_)));
        }
        if idle.len() >= CONNECTIONS_MAX {
            idle.remove(0);
        }
        idle.push((upstream.clone(), Instant::now(), connection));
    }
}
