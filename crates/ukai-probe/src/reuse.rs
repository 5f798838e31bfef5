//! Two requests on one connection, as an application with a pool makes them (RFC 9112, 9.3), and the certificate that a
//! client gets who names no server.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::timeout;
use ukai_core::diagnose::evidence::{DefaultSite, Reached, Reuse};
use ukai_core::observe::{ErrorClass, Timings};

use crate::connect::connect;
use crate::counted::{Counted, Received};
use crate::endpoint::{Endpoint, Kind};
use crate::exchange::{HEAD_MAX, HEADERS_MAX, read_to_end};
use crate::fault::{processing_failure, root_io};
use crate::handshake::{Hello, handshake};
use crate::probe::Prober;
use crate::request::Request;
use crate::timing::Timeouts;

/// Names of a default certificate that are kept.
const NAMES_MAX: usize = 10;

/// Between the two requests, so that a close on its way arrives before the second one is sent: a request that crosses it
/// would be cut, and nobody would be at fault.
const PAUSE: Duration = Duration::from_millis(250);

/// What became of two requests on one connection.
enum Twice {
    Answered,
    /// The far side had closed in order, as HTTP allows at any time between requests.
    ClosedInOrder,
    FirstFailed(String),
    SecondFailed(String),
    /// The first answer is too large to be read to its end, so the connection cannot be used again.
    Untold,
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
            Twice::Answered => told(Reached::Yes, Some(Reached::Yes)),
            Twice::ClosedInOrder => told(Reached::Yes, None),
            Twice::FirstFailed(why) => told(Reached::No(why), None),
            Twice::SecondFailed(why) => told(Reached::Yes, Some(Reached::No(why))),
            Twice::Untold => None,
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

async fn ask_twice<S>(stream: S, endpoint: &Endpoint, request: &Request, timeouts: &Timeouts) -> Twice
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (one, two) = match (request.to_http(endpoint, false), request.to_http(endpoint, false)) {
        (Ok(one), Ok(two)) => (one, two),
        (Err(error), _) | (_, Err(error)) => return Twice::FirstFailed(error.to_string()),
    };
    let shaken = http1::Builder::new().max_headers(HEADERS_MAX).max_buf_size(HEAD_MAX).handshake(TokioIo::new(stream));
    let (mut sender, connection) = match shaken.await {
        Ok(pair) => pair,
        Err(error) => return Twice::FirstFailed(processing_failure(&error).detail),
    };
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let silent = || "it did not answer in time".to_owned();
    let response = match timeout(timeouts.processing, sender.send_request(one)).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => return Twice::FirstFailed(processing_failure(&error).detail),
        Err(_) => return Twice::FirstFailed(silent()),
    };
    let closes = says_close(&response);
    match timeout(timeouts.transfer, read_to_end(response)).await {
        Ok(Ok(())) => {}
        Ok(Err(failure)) if failure.class == ErrorClass::TooLarge => return Twice::Untold,
        Ok(Err(failure)) => return Twice::FirstFailed(failure.detail),
        Err(_) => return Twice::FirstFailed(silent()),
    }
    if closes {
        return Twice::ClosedInOrder;
    }
    tokio::time::sleep(PAUSE).await;
    match timeout(timeouts.processing, sender.ready()).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => return how_it_closed(&mut driver, timeouts).await,
        Err(_) => return Twice::SecondFailed(silent()),
    }
    match timeout(timeouts.processing, sender.send_request(two)).await {
        Err(_) => Twice::SecondFailed(silent()),
        Ok(Ok(_)) => Twice::Answered,
        // The request never left.
        Ok(Err(error)) if error.is_canceled() || error.is_closed() => how_it_closed(&mut driver, timeouts).await,
        Ok(Err(error)) => Twice::SecondFailed(processing_failure(&error).detail),
    }
}

/// `Connection: close` (RFC 9112, 9.6), or a version that closes unless it says otherwise.
fn says_close(response: &Response<Incoming>) -> bool {
    let has = |token: &str| {
        let values = response.headers().get_all(hyper::header::CONNECTION).iter();
        let mut tokens = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
        tokens.any(|told| told.trim().eq_ignore_ascii_case(token))
    };
    has("close") || response.version() == hyper::Version::HTTP_10 && !has("keep-alive")
}

/// An idle connection that is gone: ended in order, with or without TLS's goodbye, or reset.
async fn how_it_closed(driver: &mut JoinSet<hyper::Result<()>>, timeouts: &Timeouts) -> Twice {
    let ended = timeout(timeouts.processing, driver.join_next()).await;
    match ended {
        Ok(Some(Ok(Err(error)))) if is_reset(&error) => {
            Twice::SecondFailed("it reset the connection while it was idle".to_owned())
        }
        _ => Twice::ClosedInOrder,
    }
}

fn is_reset(error: &hyper::Error) -> bool {
    root_io(error)
        .is_some_and(|io| matches!(io.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted))
}
