//! Two requests on one connection, as an application with a pool makes them (RFC 9112, 9.3), and the certificate that a
//! client gets who names no server.

use std::net::IpAddr;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::timeout;
use ukai_core::diagnose::evidence::{DefaultSite, Reached, Reuse};
use ukai_core::observe::Timings;

use crate::connect::connect;
use crate::counted::{Counted, Received};
use crate::endpoint::{Endpoint, Kind};
use crate::exchange::{HEAD_MAX, HEADERS_MAX, read_to_end};
use crate::fault::processing_failure;
use crate::handshake::{Hello, handshake};
use crate::probe::Prober;
use crate::request::Request;
use crate::timing::Timeouts;

/// Names of a default certificate that are kept.
const NAMES_MAX: usize = 10;

/// How a second request on a connection ended.
enum Second {
    Answered,
    /// The far side had closed in order, as HTTP allows at any time between requests.
    ClosedInOrder,
    Failed(String),
}

impl Prober {
    /// Asks twice on one HTTP/1.1 connection to this address. None: the address may not be contacted, or it is no HTTP.
    pub async fn reuse(
        &self,
        endpoint: &Endpoint,
        address: IpAddr,
        request: &Request,
        timeouts: &Timeouts,
    ) -> Option<Reuse> {
        if !matches!(endpoint.kind(), Kind::Http | Kind::Https) || !self.may_contact(address) {
            return None;
        }
        // The semaphore is never closed.
        let _permit = self.permit().await;
        let told = |first, second| Some(Reuse { endpoint: endpoint.to_string(), address, first, second });
        let mut timings = Timings::default();
        let stream = match connect(address, endpoint.port(), timeouts.connect, &mut timings).await {
            Ok(stream) => Counted::new(stream, Received::default()),
            Err(failure) => return told(Reached::No(failure.detail), None),
        };
        let asked = if endpoint.kind() == Kind::Http {
            ask_twice(stream, endpoint, request, timeouts).await
        } else {
            let hello = Hello { server_name: true, protocols: &[b"http/1.1"] };
            match handshake(stream, endpoint, request, self.trust(), hello, timeouts.tls, &mut timings).await.outcome {
                Ok(stream) => ask_twice(stream, endpoint, request, timeouts).await,
                Err(failure) => return told(Reached::No(failure.detail), None),
            }
        };
        match asked {
            Err(first) => told(Reached::No(first), None),
            Ok(Second::Answered) => told(Reached::Yes, Some(Reached::Yes)),
            Ok(Second::ClosedInOrder) => told(Reached::Yes, None),
            Ok(Second::Failed(why)) => told(Reached::Yes, Some(Reached::No(why))),
        }
    }

    /// The certificate that is shown to a client that sends no server name. No request is made.
    pub async fn default_site(&self, endpoint: &Endpoint, address: IpAddr, timeouts: &Timeouts) -> Option<DefaultSite> {
        if !matches!(endpoint.kind(), Kind::Tls | Kind::Https) || !self.may_contact(address) {
            return None;
        }
        let _permit = self.permit().await;
        let mut timings = Timings::default();
        let stream = connect(address, endpoint.port(), timeouts.connect, &mut timings).await.ok()?;
        let stream = Counted::new(stream, Received::default());
        let hello = Hello { server_name: false, protocols: &[] };
        let request = Request::default();
        let shaken = handshake(stream, endpoint, &request, self.trust(), hello, timeouts.tls, &mut timings).await;
        let identity = shaken.identity?;
        Some(DefaultSite {
            address,
            certificate_sha256: identity.certificate_sha256,
            // The verifier checked it against the endpoint's name, though the far side was not told that.
            is_for_host: identity.verified,
            names: identity.names.into_iter().take(NAMES_MAX).collect(),
        })
    }
}

async fn ask_twice<S>(stream: S, endpoint: &Endpoint, request: &Request, timeouts: &Timeouts) -> Result<Second, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let one = || request.to_http(endpoint, false).map_err(|error| error.to_string());
    let shaken = http1::Builder::new()
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| processing_failure(&error).detail)?;
    let (mut sender, connection) = shaken;
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let silent = || "it did not answer in time".to_owned();
    let first = timeout(timeouts.processing, sender.send_request(one()?)).await.map_err(|_| silent())?;
    let response = first.map_err(|error| processing_failure(&error).detail)?;
    let closes = response.headers().get(hyper::header::CONNECTION).is_some_and(|value| value == "close");
    timeout(timeouts.transfer, read_to_end(response)).await.map_err(|_| silent())?.map_err(|failure| failure.detail)?;
    if closes || sender.ready().await.is_err() {
        return Ok(Second::ClosedInOrder);
    }
    let second = timeout(timeouts.processing, sender.send_request(one()?)).await;
    Ok(match second {
        Err(_) => Second::Failed(silent()),
        Ok(Ok(_)) => Second::Answered,
        // The close and our request crossed on the way; then the request never reached anybody.
        Ok(Err(error)) if error.is_canceled() || error.is_closed() => Second::ClosedInOrder,
        Ok(Err(error)) => Second::Failed(processing_failure(&error).detail),
    })
}
