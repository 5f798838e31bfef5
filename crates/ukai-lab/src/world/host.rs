//! The peer's hosts and the controls: TCP, TLS and HTTP, each broken in the way that the scenario says.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode};
use jiff::{SignedDuration, Timestamp};
use rustls::server::Acceptor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;

use super::Live;
use super::http::{Answer, Budgeted, serve_until, swallow};
use super::listener::Door;
use super::records::CONTROLS;
use super::request_log::{Call, Caller};
use crate::certs::Identity;
use crate::scenario::{Controls, Egress, HostBehaviour};

/// A client that does not finish its handshake is let go.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Announced body length of an answer that breaks off, far more than is sent.
const CUT_LENGTH: u64 = 4_096;
/// As much of a body as is read of any.
const STALLED_BODY_MAX: usize = 1 << 20;
const PARKING_PAGE: &str = "<html><title>api</title><h1>This domain is for sale</h1><p>Buy it now.</p></html>";
const WRONG_BODY: &str = "<html><h1>It works!</h1></html>";

/// Somebody who serves HTTP in the lab.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Site {
    Host(String),
    /// The same host, as other networks meet it.
    Elsewhere(String),
    /// Counted from 1, as in `control-1`.
    Control(u8),
    /// All of them at their one address over IPv6; TLS says which is meant.
    ControlsV6,
}

impl Site {
    pub fn label(&self) -> String {
        match self {
            Self::Host(label) | Self::Elsewhere(label) => label.clone(),
            Self::Control(number) => format!("control-{number}"),
            Self::ControlsV6 => "controls-v6".to_owned(),
        }
    }

    fn is_control(&self) -> bool {
        matches!(self, Self::Control(_) | Self::ControlsV6)
    }

    fn is_v6(&self, live: &Live) -> bool {
        match self {
            Self::Host(label) | Self::Elsewhere(label) => live.layout.hosts.get(label).is_some_and(IpAddr::is_ipv6),
            Self::Control(_) => false,
            Self::ControlsV6 => true,
        }
    }

    pub fn door(&self, live: &Live) -> Door {
        let zone = live.zone();
        let state = &zone.state;
        match (self, &state.egress) {
            // What our own network lets out is no matter there.
            (Self::Elsewhere(_), _) => {}
            (_, Egress::Cut) => return Door::Silent,
            (_, Egress::NoV6) if self.is_v6(live) => return Door::Silent,
            (Self::Host(label), Egress::Allow(allowed)) if !allowed.contains(label) => {
                return Door::Silent;
            }
            _ => {}
        }
        match self {
            Self::Control(_) | Self::ControlsV6 => match state.controls {
                Controls::AddressesFail => Door::Silent,
                Controls::None => Door::Closed,
                Controls::Ok | Controls::NamesFail | Controls::Intercepted => Door::Open,
            },
            Self::Host(_) | Self::Elsewhere(_) => match self.behaviour(live) {
                HostBehaviour::Blackhole => Door::Silent,
                HostBehaviour::Refuse => Door::Closed,
                _ => Door::Open,
            },
        }
    }

    /// What our vantage meets, or the others.
    fn behaviour(&self, live: &Live) -> HostBehaviour {
        match self {
            Self::Control(_) | Self::ControlsV6 => HostBehaviour::Serve,
            // A host that only a later fault names is there from the beginning, as a machine that serves.
            Self::Host(label) => live.zone().state.hosts.get(label).map(|host| host.us.clone()).unwrap_or_default(),
            Self::Elsewhere(label) => {
                live.zone().state.hosts.get(label).map(|host| host.others.clone()).unwrap_or_default()
            }
        }
    }

    /// `asked` is the server name that the client sent.
    fn identity(&self, live: &Live, behaviour: &HostBehaviour, asked: Option<&str>) -> Identity {
        let control = match self {
            Self::Control(number) => CONTROLS.get(usize::from(*number).saturating_sub(1)),
            Self::ControlsV6 => CONTROLS.iter().find(|name| asked == Some(**name)).or(CONTROLS.first()),
            Self::Host(_) | Self::Elsewhere(_) => None,
        };
        if let Some(name) = control {
            let name = (*name).to_owned();
            let intercepted = live.zone().state.controls == Controls::Intercepted;
            return if intercepted { Identity::Intercepted(name) } else { Identity::Web(name) };
        }
        match behaviour {
            HostBehaviour::TlsWrongName => Identity::WrongName,
            HostBehaviour::TlsExpired => Identity::Expired,
            HostBehaviour::TlsNotYetValid => Identity::NotYetValid,
            HostBehaviour::TlsSelfSigned => Identity::SelfSigned,
            HostBehaviour::TlsNewKey => Identity::NewKey,
            HostBehaviour::TlsNewIssuer => Identity::NewIssuer,
            HostBehaviour::TlsDefaultCert => Identity::Default,
            HostBehaviour::Parked => Identity::Parked,
            _ => Identity::Peer,
        }
    }

    pub async fn serve(self, live: Arc<Live>, stream: TcpStream) {
        live.log(&self.label(), |log| log.accepts += 1);
        let behaviour = self.behaviour(&live);
        match behaviour {
            HostBehaviour::Reset => {
                // Closing with a zero linger time sends RST instead of FIN.
                let _ = stream.set_zero_linger();
            }
            HostBehaviour::TlsStall => swallow(stream).await,
            HostBehaviour::TlsOldVersion => {
                let _ = refuse_version(stream).await;
            }
            _ => {
                let _ = self.serve_http(live, stream, &behaviour).await;
            }
        }
    }

    async fn serve_http(self, live: Arc<Live>, stream: TcpStream, behaviour: &HostBehaviour) -> io::Result<()> {
        let left = match behaviour {
            HostBehaviour::StallAfter(bytes) => Some(*bytes),
            _ => None,
        };
        let stream = Budgeted { stream, left };
        let tls = live.peer_tls() || self.is_control();
        let leave = Arc::new(Notify::new());
        let service =
            Conversation { site: self.clone(), live: live.clone(), served: Arc::default(), leave: leave.clone() };
        let service = hyper::service::service_fn(move |request| service.clone().answer(request));
        if !tls {
            serve_until(stream, false, service, leave).await;
            return Ok(());
        }
        let hello = timeout(HANDSHAKE, LazyConfigAcceptor::new(Acceptor::default(), stream)).await??;
        let identity = self.identity(&live, behaviour, hello.client_hello().server_name());
        let config = live.tls_config(&identity).map_err(io::Error::other)?;
        let stream = timeout(HANDSHAKE, hello.into_stream(config)).await??;
        live.log(&self.label(), |log| log.handshakes += 1);
        let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        serve_until(stream, h2, service, leave).await;
        Ok(())
    }
}

/// A server too old for the client: RFC 5246 section 7.2.2, fatal alert 70, protocol_version.
async fn refuse_version(mut stream: TcpStream) -> io::Result<()> {
    let mut hello = [0; 4_096];
    let _ = timeout(HANDSHAKE, stream.read(&mut hello)).await??;
    stream.write_all(&[21, 3, 1, 0, 2, 2, 70]).await?;
    stream.shutdown().await?;
    swallow(stream).await;
    Ok(())
}

/// The requests of one connection.
#[derive(Clone)]
struct Conversation {
    site: Site,
    live: Arc<Live>,
    served: Arc<AtomicUsize>,
    leave: Arc<Notify>,
}

impl Conversation {
    async fn answer(self, request: Request<Incoming>) -> io::Result<Response<Answer>> {
        let before = self.served.fetch_add(1, Ordering::Relaxed);
        let behaviour = self.site.behaviour(&self.live);
        let secret = self.live.carries_secret(request.headers());
        let response = self.respond(&behaviour, before, secret).await;
        let call = Call {
            at: Timestamp::now(),
            who: Caller::of(text(request.headers(), &header::USER_AGENT)),
            path: request.uri().path().to_owned(),
            secret,
            status: response.as_ref().ok().map(|response| response.status().as_u16()),
        };
        self.live.log(&self.site.label(), |log| log.record(call));
        response.map(|response| self.dated(response))
    }

    async fn respond(&self, behaviour: &HostBehaviour, before: usize, secret: bool) -> io::Result<Response<Answer>> {
        match behaviour {
            HostBehaviour::Status(code) => {
                let status = StatusCode::from_u16(*code).map_err(io::Error::other)?;
                return Ok(answer(status, Answer::whole(format!("{{\"status\":{code}}}")), "application/json"));
            }
            HostBehaviour::RetryAfter(seconds) => {
                let body = Answer::whole("{\"error\":\"too many requests\"}");
                let mut response = answer(StatusCode::TOO_MANY_REQUESTS, body, "application/json");
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(*seconds));
                return Ok(response);
            }
            HostBehaviour::Flaky(probability) if fastrand::f64() < *probability => {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            HostBehaviour::Slow(time) => tokio::time::sleep(*time).await,
            HostBehaviour::WrongBody => {
                return Ok(answer(StatusCode::OK, Answer::whole(WRONG_BODY), "text/html"));
            }
            HostBehaviour::Parked => {
                return Ok(answer(StatusCode::OK, Answer::whole(PARKING_PAGE), "text/html"));
            }
            // A connection that has aged: what is fresh is served, what is reused is cut.
            HostBehaviour::Goaway if before > 0 => {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            HostBehaviour::Goaway => self.leave.notify_one(),
            _ => {}
        }
        Ok(self.healthy(behaviour, secret))
    }

    fn healthy(&self, behaviour: &HostBehaviour, secret: bool) -> Response<Answer> {
        if self.site.is_control() {
            return answer(StatusCode::OK, Answer::whole("ok\n"), "text/plain");
        }
        if self.live.peer_auth() && !secret {
            let body = lengthened("{\"error\":\"unauthorized\"}".to_owned(), behaviour);
            let mut response = answer(StatusCode::UNAUTHORIZED, Answer::whole(body), "application/json");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return response;
        }
        let (status, body) = self.live.healthy_answer();
        if *behaviour != HostBehaviour::CutBody {
            return answer(status, Answer::whole(lengthened(body, behaviour)), "application/json");
        }
        let mut response = answer(status, Answer::cut("{\"sta"), "application/json");
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(CUT_LENGTH));
        response
    }

    /// Every host of the world goes by the world's clock.
    fn dated(&self, mut response: Response<Answer>) -> Response<Answer> {
        let shift = SignedDuration::from_secs(self.live.zone().state.clock.0);
        let date = Timestamp::now()
            .checked_add(shift)
            .ok()
            .and_then(|now| jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&now).ok())
            .and_then(|date| HeaderValue::from_str(&date).ok());
        if let Some(date) = date {
            response.headers_mut().insert(header::DATE, date);
        }
        response
    }
}

/// Where the path takes so many bytes and no more, there is always more to come.
fn lengthened(mut body: String, behaviour: &HostBehaviour) -> String {
    if let HostBehaviour::StallAfter(bytes) = behaviour {
        body.push_str(&" ".repeat((*bytes).min(STALLED_BODY_MAX)));
    }
    body
}

fn answer(status: StatusCode, body: Answer, kind: &'static str) -> Response<Answer> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

pub(super) fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
