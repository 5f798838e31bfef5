//! The sockets of the lab's DNS servers: UDP, TCP, TLS and HTTPS in front of what a server has to say.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::DNSClass;
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Live;
use super::authority::{self, Reply, Server};
use super::listener::Door;
use super::resolver::Resolved;
use crate::certs::Identity;
use crate::scenario::{Egress, ResolverMode, ServerMode};

/// What servers send over UDP at most, since the DNS flag day of 2020.
const MAX_UDP: usize = 1_232;
/// Without EDNS: RFC 1035 section 4.2.1.
const PLAIN_UDP: usize = 512;
/// A client that sends nothing for this long over TCP is closed: RFC 7766 section 6.2.3 asks for seconds.
const IDLE: Duration = Duration::from_secs(10);
/// RFC 8484 messages are DNS messages.
const MAX_BODY: usize = 65_535;

/// Who answers at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    Authority(Server),
    /// The application's own resolver.
    Resolver,
    /// Counted from 1, as in `i-1`.
    Independent(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Udp,
    Tcp,
    Encrypted,
}

impl Role {
    /// What a TCP client of port 53 meets.
    pub fn tcp_door(&self, live: &Live) -> Door {
        let zone = live.zone();
        let state = &zone.state;
        let setup = match self {
            Self::Resolver => state.resolver.clone(),
            Self::Independent(number) => state.independent(&format!("i-{number}")),
            Self::Authority(_) => Default::default(),
        };
        if *self != Self::Resolver && matches!(state.egress, Egress::Cut | Egress::No53) {
            return Door::Silent;
        }
        if setup.block_tcp || setup.mode == ResolverMode::TimeoutAll {
            return Door::Silent;
        }
        match self {
            Self::Authority(Server::Peer(name)) if state.egress != Egress::Intercept53 => match state.server(name) {
                ServerMode::Timeout => Door::Silent,
                ServerMode::NoTcp => Door::Closed,
                _ => Door::Open,
            },
            _ => Door::Open,
        }
    }

    /// What a client over TLS or HTTPS meets, which only the independent resolvers offer.
    pub fn tls_door(&self, live: &Live) -> Door {
        if live.zone().state.egress == Egress::Cut { Door::Silent } else { Door::Open }
    }

    /// The answer to one message, or `None` for silence.
    pub fn respond(&self, live: &Live, wire: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let request = Message::from_vec(wire).ok()?;
        if request.metadata.message_type != MessageType::Query {
            return None;
        }
        let mut response = Message::new(request.metadata.id, MessageType::Response, request.metadata.op_code);
        response.metadata = Metadata::response_from_request(&request.metadata);
        response.queries.clone_from(&request.queries);
        response.edns = request.edns.as_ref().map(|_| own_edns());
        match question(&request) {
            Ok(query) => self.fill(live, &request, query, transport, &mut response)?,
            Err(code) => response.metadata.response_code = code,
        }
        fit(live, self, &request, response, transport)
    }

    fn fill(
        &self,
        live: &Live,
        request: &Message,
        query: &Query,
        transport: Transport,
        response: &mut Message,
    ) -> Option<()> {
        let egress = live.zone().state.egress.clone();
        let plain = transport != Transport::Encrypted;
        if plain && *self != Self::Resolver {
            match egress {
                Egress::Cut | Egress::No53 => return None,
                // One box on our path answers in everybody's name, as our own resolver would, and claims authority.
                Egress::Intercept53 => {
                    let resolved = live.resolve(0, request, query)?;
                    put(response, resolved.reply);
                    response.metadata.authoritative = true;
                    response.metadata.recursion_available = true;
                    return Some(());
                }
                Egress::Ok | Egress::NoV6 | Egress::Allow(_) => {}
            }
        }
        match self {
            Self::Authority(server) => {
                if transport == Transport::Udp && is_mode(live, server, &ServerMode::NoUdp) {
                    return None;
                }
                put(response, authority::reply(live, server, request, query)?);
                echo_subnet(request, response);
            }
            Self::Resolver => self.fill_resolved(live.resolve(0, request, query)?, response),
            Self::Independent(number) => self.fill_resolved(live.resolve(*number, request, query)?, response),
        }
        Some(())
    }

    fn fill_resolved(&self, resolved: Resolved, response: &mut Message) {
        put(response, resolved.reply);
        response.metadata.authoritative = false;
        response.metadata.recursion_available = true;
        response.metadata.authentic_data = resolved.authentic;
        if let (Some(code), Some(edns)) = (resolved.extended_error, response.edns.as_mut()) {
            // RFC 8914 section 2: INFO-CODE, then text, of which there is none.
            edns.options_mut().insert(EdnsOption::Unknown(15, code.to_be_bytes().to_vec()));
        }
    }

    fn truncates(&self, live: &Live) -> bool {
        let zone = live.zone();
        match self {
            Self::Authority(server) => is_mode(live, server, &ServerMode::Truncate),
            Self::Resolver => zone.state.resolver.truncate_udp,
            Self::Independent(number) => zone.state.independent(&format!("i-{number}")).truncate_udp,
        }
    }
}

fn is_mode(live: &Live, server: &Server, mode: &ServerMode) -> bool {
    matches!(server, Server::Peer(name) if live.zone().state.server(name) == mode)
}

fn question(request: &Message) -> Result<&Query, ResponseCode> {
    if request.metadata.op_code != OpCode::Query {
        return Err(ResponseCode::NotImp);
    }
    match request.queries.as_slice() {
        [query] if query.query_class() == DNSClass::IN => Ok(query),
        [_] => Err(ResponseCode::Refused),
        _ => Err(ResponseCode::FormErr),
    }
}

fn put(response: &mut Message, reply: Reply) {
    response.metadata.response_code = reply.code;
    response.metadata.authoritative = reply.authoritative;
    response.answers = reply.answers;
    response.authorities = reply.authorities;
    response.additionals = reply.additionals;
}

fn own_edns() -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(MAX_UDP as u16);
    edns
}

/// RFC 7871 section 7.2.1: the subnet comes back, with the scope that the answer was made for.
fn echo_subnet(request: &Message, response: &mut Message) {
    let asked = request.edns.as_ref().and_then(|edns| edns.option(EdnsCode::Subnet));
    if let (Some(EdnsOption::Subnet(subnet)), Some(edns)) = (asked, response.edns.as_mut()) {
        let scoped = ClientSubnet::new(subnet.addr(), subnet.source_prefix(), subnet.source_prefix());
        edns.options_mut().insert(EdnsOption::Subnet(scoped));
    }
}

fn fit(live: &Live, role: &Role, request: &Message, response: Message, transport: Transport) -> Option<Vec<u8>> {
    let wire = response.to_vec().ok()?;
    if transport != Transport::Udp {
        return Some(wire);
    }
    let room =
        request.edns.as_ref().map_or(PLAIN_UDP, |edns| usize::from(edns.max_payload()).clamp(PLAIN_UDP, MAX_UDP));
    if wire.len() <= room && !role.truncates(live) {
        return Some(wire);
    }
    let mut cut = response;
    cut.metadata.truncation = true;
    cut.answers.clear();
    cut.authorities.clear();
    cut.additionals.clear();
    cut.to_vec().ok()
}

/// Serves UDP until the world ends.
pub(super) fn spawn_udp(tasks: &mut JoinSet<()>, live: &Arc<Live>, address: SocketAddr, role: Role) -> io::Result<()> {
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(socket)?;
    let live = live.clone();
    tasks.spawn(async move {
        let mut buffer = vec![0; MAX_BODY];
        loop {
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                continue;
            };
            let answer = buffer.get(..length).and_then(|wire| role.respond(&live, wire, Transport::Udp));
            if let Some(answer) = answer {
                let _ = socket.send_to(&answer, from).await;
            }
        }
    });
    Ok(())
}

/// One connection of length-prefixed messages, over TCP or TLS.
pub(super) async fn serve_stream<S: AsyncRead + AsyncWrite + Unpin>(
    live: &Live,
    role: &Role,
    mut stream: S,
    transport: Transport,
) -> io::Result<()> {
    loop {
        let Ok(length) = timeout(IDLE, stream.read_u16()).await else {
            return Ok(());
        };
        let mut wire = vec![0; usize::from(length?)];
        timeout(IDLE, stream.read_exact(&mut wire)).await??;
        let Some(answer) = role.respond(live, &wire, transport) else {
            continue;
        };
        let Ok(length) = u16::try_from(answer.len()) else {
            return Ok(());
        };
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend(answer);
        stream.write_all(&framed).await?;
    }
}

/// DNS over TLS, or over HTTPS where the client says so by ALPN.
pub(super) async fn serve_encrypted(live: Arc<Live>, number: u8, stream: TcpStream) -> io::Result<()> {
    let role = Role::Independent(number);
    let identity = Identity::Resolver(format!("i-{number}.test"));
    let config = live.tls_config(&identity).map_err(io::Error::other)?;
    let stream = timeout(IDLE, tokio_rustls::TlsAcceptor::from(config).accept(stream)).await??;
    // i-2 is the one that speaks DNS over TLS, i-3 the one that speaks it over HTTPS.
    if number == 2 {
        return serve_stream(&live, &role, stream, Transport::Encrypted).await;
    }
    let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = hyper::service::service_fn(move |request| {
        let live = live.clone();
        async move { Ok::<_, std::convert::Infallible>(serve_https(&live, number, request).await) }
    });
    super::http::serve_connection(stream, h2, service).await;
    Ok(())
}

async fn serve_https(live: &Live, number: u8, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let refuse = |status: StatusCode| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        response
    };
    if request.uri().path() != "/dns-query" {
        return refuse(StatusCode::NOT_FOUND);
    }
    let wire = match *request.method() {
        Method::POST => {
            Limited::new(request.into_body(), MAX_BODY).collect().await.ok().map(|body| body.to_bytes().to_vec())
        }
        Method::GET => request.uri().query().and_then(query_message),
        _ => return refuse(StatusCode::METHOD_NOT_ALLOWED),
    };
    let Some(wire) = wire else {
        return refuse(StatusCode::BAD_REQUEST);
    };
    match Role::Independent(number).respond(live, &wire, Transport::Encrypted) {
        Some(answer) => {
            let mut response = Response::new(Full::new(Bytes::from(answer)));
            let kind = hyper::header::HeaderValue::from_static("application/dns-message");
            response.headers_mut().insert(hyper::header::CONTENT_TYPE, kind);
            response
        }
        // A resolver that never answers does not answer over HTTPS either.
        None => std::future::pending().await,
    }
}

/// RFC 8484 section 4.1: `dns=` holds the message in base64url without padding.
fn query_message(query: &str) -> Option<Vec<u8>> {
    let text = query.split('&').find_map(|pair| pair.strip_prefix("dns="))?;
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0_u32, 0);
    for letter in text.bytes() {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'-' => 62,
            b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(value)) & 0xff_ffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 0xff) as u8);
        }
    }
    Some(bytes)
}
