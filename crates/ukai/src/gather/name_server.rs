//! A name server for tests: what it says is a function of the question.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

pub const A: u16 = 1;
const NS: u16 = 2;
const CNAME: u16 = 5;
pub const SOA: u16 = 6;
const AAAA: u16 = 28;
const REFUSED: u8 = 5;

/// Owner, type and data in wire format.
type Record = (String, u16, Vec<u8>);

#[derive(Clone, Default)]
pub struct Said {
    pub authoritative: bool,
    pub rcode: u8,
    pub answers: Vec<Record>,
    pub authority: Vec<Record>,
    pub additional: Vec<Record>,
}

/// Asked for a name, lower-case, and a type; by TCP or not.
pub type Mind = Arc<dyn Fn(&str, u16, bool) -> Said + Send + Sync>;

/// The messages that are sent for a query; by TCP or not. It may say anything.
pub type Voice = Arc<dyn Fn(&[u8], bool) -> Vec<Vec<u8>> + Send + Sync>;

/// What an honest server sends.
pub fn voice(mind: Mind) -> Voice {
    Arc::new(move |query, by_tcp| vec![reply(query, &mind, by_tcp)])
}

pub fn address(owner: &str, address: &str) -> Record {
    match address.parse().unwrap() {
        IpAddr::V4(v4) => (owner.to_owned(), A, v4.octets().to_vec()),
        IpAddr::V6(v6) => (owner.to_owned(), AAAA, v6.octets().to_vec()),
    }
}

pub fn cname(owner: &str, target: &str) -> Record {
    (owner.to_owned(), CNAME, wire(target))
}

pub fn ns(owner: &str, server: &str) -> Record {
    (owner.to_owned(), NS, wire(server))
}

fn soa(zone: &str) -> Record {
    let mut data = [wire("ns.test"), wire("h.test")].concat();
    data.extend([7u32, 1, 1, 1, 60].iter().flat_map(|number| number.to_be_bytes()));
    (zone.to_owned(), SOA, data)
}

pub fn refused() -> Said {
    Said { rcode: REFUSED, ..Said::default() }
}

/// What a zone says by its records: those of the type, or the CNAME, or that there are none.
pub fn zone(apex: &str, records: &[Record], name: &str, qtype: u16) -> Said {
    let answers: Vec<Record> = records
        .iter()
        .filter(|(owner, kind, _)| owner == name && (*kind == qtype || *kind == CNAME))
        .cloned()
        .chain((qtype == SOA && name == apex).then(|| soa(apex)))
        .collect();
    let authority = if answers.is_empty() { vec![soa(apex)] } else { Vec::new() };
    Said { authoritative: true, answers, authority, ..Said::default() }
}

/// Servers on addresses of their own, all on one port, as port 53 is in the world.
pub struct Servers {
    pub port: u16,
    net: u8,
    _tasks: JoinSet<()>,
}

static NEXT_NET: AtomicU8 = AtomicU8::new(30);

impl Servers {
    /// `minds`: by the last octet of the server's address, given the function that makes addresses of octets.
    pub async fn start(minds: impl Fn(&dyn Fn(u8) -> String) -> Vec<(u8, Mind)>) -> Servers {
        Servers::start_voices(|ip| minds(ip).into_iter().map(|(octet, mind)| (octet, voice(mind))).collect()).await
    }

    pub async fn start_voices(voices: impl Fn(&dyn Fn(u8) -> String) -> Vec<(u8, Voice)>) -> Servers {
        for _ in 0..32 {
            let net = NEXT_NET.fetch_add(1, Ordering::SeqCst);
            let voices = voices(&|octet| format!("127.{net}.0.{octet}"));
            if let Some(servers) = Servers::bind(net, voices).await {
                return servers;
            }
        }
        panic!("no port is free on all the addresses");
    }

    async fn bind(net: u8, voices: Vec<(u8, Voice)>) -> Option<Servers> {
        let mut servers = Servers { port: 0, net, _tasks: JoinSet::new() };
        for (octet, voice) in voices {
            let udp = UdpSocket::bind(servers.address(octet)).await.ok()?;
            servers.port = udp.local_addr().unwrap().port();
            let tcp = TcpListener::bind(servers.address(octet)).await.ok()?;
            servers._tasks.spawn(serve_udp(udp, voice.clone()));
            servers._tasks.spawn(serve_tcp(tcp, voice));
        }
        Some(servers)
    }

    pub fn address(&self, octet: u8) -> SocketAddr {
        (Ipv4Addr::new(127, self.net, 0, octet), self.port).into()
    }
}

async fn serve_udp(socket: UdpSocket, voice: Voice) {
    let mut query = vec![0; 4096];
    while let Ok((length, from)) = socket.recv_from(&mut query).await {
        for message in voice(&query[..length], false) {
            socket.send_to(&message, from).await.ok();
        }
    }
}

async fn serve_tcp(listener: TcpListener, voice: Voice) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(converse(stream, voice.clone()));
    }
}

async fn converse(mut stream: TcpStream, voice: Voice) {
    while let Ok(length) = stream.read_u16().await {
        let mut query = vec![0; usize::from(length)];
        if stream.read_exact(&mut query).await.is_err() {
            return;
        }
        for message in voice(&query, true) {
            let framed = [&u16::try_from(message.len()).unwrap().to_be_bytes(), message.as_slice()].concat();
            stream.write_all(&framed).await.ok();
        }
    }
}

pub fn reply(query: &[u8], mind: &Mind, by_tcp: bool) -> Vec<u8> {
    let (name, qtype, end) = asked(query);
    let said = mind(&name, qtype, by_tcp);
    let sections = [&said.answers, &said.authority, &said.additional];
    let mut reply = query[..2].to_vec();
    reply.extend([0x80 | u8::from(said.authoritative) << 2, said.rcode, 0, 1]);
    reply.extend(sections.iter().flat_map(|section| u16::try_from(section.len()).unwrap().to_be_bytes()));
    reply.extend(&query[12..end]);
    for (owner, kind, data) in sections.into_iter().flatten() {
        reply.extend(wire(owner));
        reply.extend(kind.to_be_bytes());
        reply.extend([0, 1, 0, 0, 0, 60]);
        reply.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        reply.extend(data);
    }
    reply
}

/// Name, type and where the question section ends.
pub fn asked(query: &[u8]) -> (String, u16, usize) {
    let (mut labels, mut at) = (Vec::new(), 12);
    while query[at] != 0 {
        let end = at + 1 + usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_ascii_lowercase());
        at = end;
    }
    (labels.join("."), u16::from_be_bytes([query[at + 1], query[at + 2]]), at + 5)
}

fn wire(name: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        wire.push(u8::try_from(label.len()).unwrap());
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    wire
}
