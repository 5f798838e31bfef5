//! A raw HTTPS client that says at which layer it failed, and a raw DNS client.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::super::World;

/// Long enough for loopback, and how long something silent is waited for.
pub const PATIENCE: Duration = Duration::from_millis(400);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    Refused,
    ConnectTimeout,
    Reset,
    Tls(String),
    TlsTimeout,
    HttpTimeout,
    /// The connection ended with this much of an answer.
    Cut(String),
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
    pub key: Option<Vec<u8>>,
    pub issuer: Vec<u8>,
}

pub async fn connect(address: SocketAddr) -> Result<TcpStream, Failure> {
    match timeout(PATIENCE, TcpStream::connect(address)).await {
        Err(_) => Err(Failure::ConnectTimeout),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => Err(Failure::Refused),
        Ok(Err(_)) => Err(Failure::Reset),
        Ok(Ok(stream)) => Ok(stream),
    }
}

/// GET of the watched URL at one host.
pub async fn get(world: &World, label: &str) -> Result<Answer, Failure> {
    request(world, label, world.url().host_str().unwrap(), "curl/8", "").await
}

pub async fn request(world: &World, label: &str, name: &str, agent: &str, header: &str) -> Result<Answer, Failure> {
    let layout = &world.live.layout;
    let port = if label.starts_with("control-") { layout.control_port } else { layout.https_port };
    request_at(world, SocketAddr::new(world.address_of(label).unwrap(), port), name, agent, header).await
}

/// GET of the watched URL by the door for other networks.
pub async fn get_elsewhere(world: &World, label: &str) -> Result<Answer, Failure> {
    let address = SocketAddr::new(world.address_of(label).unwrap(), world.live.layout.elsewhere_port);
    request_at(world, address, world.url().host_str().unwrap(), "curl/8", "").await
}

pub async fn request_at(
    world: &World,
    address: SocketAddr,
    name: &str,
    agent: &str,
    header: &str,
) -> Result<Answer, Failure> {
    let stream = connect(address).await?;
    let head =
        format!("GET /health HTTP/1.1\r\nHost: {name}\r\nUser-Agent: {agent}\r\nConnection: close\r\n{header}\r\n");
    if world.url().scheme() == "http" {
        return exchange(stream, &head).await;
    }
    let stream = handshake(world, stream, name).await?;
    let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let mut answer = exchange(stream, &head).await?;
    answer.key = Some(certificate.clone());
    answer.issuer = certificate;
    Ok(answer)
}

pub type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

pub async fn handshake(world: &World, stream: TcpStream, name: &str) -> Result<TlsStream, Failure> {
    handshake_with(world, stream, name, &[]).await
}

pub async fn handshake_with(world: &World, stream: TcpStream, name: &str, alpn: &[&str]) -> Result<TlsStream, Failure> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(world.ca_file()).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    match timeout(PATIENCE, connector.connect(name, stream)).await {
        Err(_) => Err(Failure::TlsTimeout),
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionReset => Err(Failure::Reset),
        Ok(Err(error)) => Err(Failure::Tls(error.to_string())),
        Ok(Ok(stream)) => Ok(stream),
    }
}

async fn exchange<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, head: &str) -> Result<Answer, Failure> {
    stream.write_all(head.as_bytes()).await.map_err(|_| Failure::Reset)?;
    let mut bytes = Vec::new();
    let whole = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    match whole {
        Err(_) => return Err(Failure::HttpTimeout),
        Ok(Err(_)) => return Err(Failure::Cut(text)),
        Ok(Ok(_)) => {}
    }
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Err(Failure::Cut(text));
    };
    let length =
        head.lines().find_map(|line| line.strip_prefix("content-length: ")).and_then(|length| length.parse().ok());
    if length.is_some_and(|length: usize| length != body.len()) {
        return Err(Failure::Cut(text));
    }
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned(), key: None, issuer: Vec::new() })
}

pub fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(1_232).set_dnssec_ok(true);
    message.set_edns(edns);
    message
}

/// `None` when nothing comes back.
pub async fn udp(server: SocketAddr, message: &Message) -> Option<Message> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&message.to_vec().unwrap(), server).await.unwrap();
    let mut buffer = vec![0; 65_535];
    let (length, from) = timeout(PATIENCE, socket.recv_from(&mut buffer)).await.ok()?.ok()?;
    assert_eq!(from, server);
    let answer = Message::from_vec(&buffer[..length]).unwrap();
    assert_eq!(answer.metadata.id, message.metadata.id);
    Some(answer)
}

pub async fn tcp(server: SocketAddr, message: &Message) -> Result<Message, Failure> {
    let stream = connect(server).await?;
    framed(stream, message).await
}

pub async fn framed<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, message: &Message) -> Result<Message, Failure> {
    let wire = message.to_vec().unwrap();
    let mut bytes = u16::try_from(wire.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(wire);
    stream.write_all(&bytes).await.map_err(|_| Failure::Reset)?;
    let answer = timeout(PATIENCE, async {
        let length = stream.read_u16().await?;
        let mut wire = vec![0; usize::from(length)];
        stream.read_exact(&mut wire).await?;
        Ok::<_, std::io::Error>(wire)
    });
    let wire = answer.await.map_err(|_| Failure::HttpTimeout)?.map_err(|_| Failure::Cut(String::new()))?;
    Ok(Message::from_vec(&wire).unwrap())
}

pub fn addresses(message: &Message) -> Vec<IpAddr> {
    message
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(four) => Some(IpAddr::V4(four.0)),
            RData::AAAA(six) => Some(IpAddr::V6(six.0)),
            _ => None,
        })
        .collect()
}

/// The labels that an answer's addresses belong to, in order.
pub fn labels(world: &World, message: &Message) -> Vec<String> {
    let mut labels: Vec<String> =
        addresses(message).into_iter().map(|address| world.label_of(address).unwrap()).collect();
    labels.sort();
    labels
}
