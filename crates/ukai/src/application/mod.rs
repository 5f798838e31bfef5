//! Where the application says how its own calls went, and where it posts its metrics.
//!
//! A probe shows that the peer can be reached; only the application can say that *it* reaches the peer. So it posts
//! each call, or a sample of them, to this listener: `POST /v1/application/calls` with a bearer token and
//! `{"peer":"api","host":"api.peer.test","ok":true,"address":"192.0.2.1","error":null}`, or an array of these. The
//! answer to a good request is 204; every other answer is `{"error":"…"}`, a sentence.
//!
//! What arrives there is evidence and nothing else: it can confirm an override or cast doubt on it, never make one.
//!
//! Metrics come to `POST /v1/metrics` (OTLP), `/v1/emf` (lines of the embedded metric format) and `/v1/metric-data`
//! (`PutMetricData`), with the same token; [`metrics`] says how these are answered.

mod calls;
mod door;
mod metrics;
mod rate;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::metrics::Intake;
use crate::metrics::otlp::OtlpReceiver;
use crate::secret::Secret;

pub use calls::{CALLS_QUEUED, Reported};
use door::Door;

/// One process with a connection pool, several times over.
const CONNECTIONS: usize = 256;
/// From accept, or from one request to the next.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A request's line and headers.
const HEADER_BYTES: usize = 16 * 1024;

/// Where what arrives goes.
#[derive(Debug)]
pub struct Destinations {
    /// Names and hosts of the peers; a reload sends new ones.
    pub hosts: watch::Receiver<BTreeMap<String, String>>,
    pub calls: mpsc::Sender<Reported>,
    pub intake: Intake,
    pub otlp: OtlpReceiver,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {listen} for the application's calls: {}; change application.listen", reason(source))]
pub struct ListenError {
    pub listen: SocketAddr,
    pub source: io::Error,
}

#[derive(Debug)]
pub struct ApplicationListener {
    listener: TcpListener,
    door: Arc<Door>,
}

impl ApplicationListener {
    pub async fn bind(
        listen: SocketAddr,
        token: Secret,
        destinations: Destinations,
    ) -> Result<ApplicationListener, ListenError> {
        let failed = |source| ListenError { listen, source };
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        Ok(ApplicationListener { listener, door: Arc::new(Door::new(token, destinations)) })
    }

    #[cfg(test)]
    fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the receiver of the calls is dropped.
    pub async fn run(self) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            // Beyond the bound, connections wait in the kernel's queue.
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
                return;
            };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = self.door.closed() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let door = Arc::clone(&self.door);
                    tokio::spawn(async move {
                        serve(stream, door).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the application's listener could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn serve(stream: TcpStream, door: Arc<Door>) {
    let service = service_fn(move |request| {
        let door = Arc::clone(&door);
        async move { Ok::<_, Infallible>(door.answer(request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of the application ended early");
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is in use by another process".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        io::ErrorKind::PermissionDenied => "ports below 1024 need a privilege".to_owned(),
        _ => error.to_string(),
    }
}
