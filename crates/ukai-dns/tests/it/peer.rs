//! A DNS server for tests: a function from query to reply, over UDP and TCP on one address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, NS, SOA, TXT};
use hickory_proto::rr::{Name, RData, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Via {
    Udp,
    Tcp,
}

/// `None` is silence.
pub type Handler = Arc<dyn Fn(&Message, Via) -> Option<Vec<u8>> + Send + Sync>;

pub struct Peer {
    pub address: SocketAddr,
    pub udp_queries: Arc<AtomicUsize>,
    pub tcp_queries: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Peer {
    pub async fn start(handler: impl Fn(&Message, Via) -> Option<Message> + Send + Sync + 'static) -> Self {
        Self::raw(move |query, via| handler(query, via).map(|reply| reply.to_vec().unwrap())).await
    }

    pub async fn raw(handler: impl Fn(&Message, Via) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        Self::anywhere(Duration::ZERO, Arc::new(handler)).await
    }

    /// Each reply is held back for so long.
    pub async fn slow(
        delay: Duration,
        handler: impl Fn(&Message, Via) -> Option<Message> + Send + Sync + 'static,
    ) -> Self {
        Self::anywhere(delay, Arc::new(move |query, via| handler(query, via).map(|reply| reply.to_vec().unwrap())))
            .await
    }

    async fn anywhere(delay: Duration, handler: Handler) -> Self {
        for _ in 0..16 {
            if let Ok(peer) = Self::bind((Ipv4Addr::LOCALHOST, 0).into(), delay, Arc::clone(&handler)).await {
                return peer;
            }
        }
        panic!("no port is free for both UDP and TCP");
    }

    pub async fn silent() -> Self {
        Self::start(|_, _| None).await
    }

    pub async fn bind(address: SocketAddr, delay: Duration, handler: Handler) -> std::io::Result<Self> {
        let udp = UdpSocket::bind(address).await?;
        let address = udp.local_addr()?;
        let tcp = TcpListener::bind(address).await?;
        let (udp_queries, tcp_queries) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_udp(Arc::new(udp), Arc::clone(&handler), delay, Arc::clone(&udp_queries)));
        tasks.spawn(serve_tcp(tcp, handler, delay, Arc::clone(&tcp_queries)));
        Ok(Self { address, udp_queries, tcp_queries, _tasks: tasks })
    }

    pub fn queries(&self) -> usize {
        self.udp_queries.load(Ordering::SeqCst) + self.tcp_queries.load(Ordering::SeqCst)
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, handler: Handler, delay: Duration, count: Arc<AtomicUsize>) {
    let mut buffer = vec![0; 65_535];
    loop {
        let Ok((len, from)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        count.fetch_add(1, Ordering::SeqCst);
        let Ok(query) = Message::from_vec(&buffer[..len]) else {
            continue;
        };
        let Some(reply) = handler(&query, Via::Udp) else {
            continue;
        };
        let socket = Arc::clone(&socket);
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            socket.send_to(&reply, from).await.ok();
        });
    }
}

async fn serve_tcp(listener: TcpListener, handler: Handler, delay: Duration, count: Arc<AtomicUsize>) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            continue;
        };
        let (handler, count) = (Arc::clone(&handler), Arc::clone(&count));
        tokio::spawn(async move {
            while let Some(query) = read_framed(&mut stream).await {
                count.fetch_add(1, Ordering::SeqCst);
                let Ok(query) = Message::from_vec(&query) else {
                    break;
                };
                let Some(reply) = handler(&query, Via::Tcp) else {
                    continue;
                };
                tokio::time::sleep(delay).await;
                if stream.write_all(&framed(&reply)).await.is_err() {
                    break;
                }
            }
        });
    }
}

pub async fn read_framed(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let len = stream.read_u16().await.ok()?;
    let mut bytes = vec![0; usize::from(len)];
    stream.read_exact(&mut bytes).await.ok()?;
    Some(bytes)
}

pub fn framed(bytes: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

pub fn name(text: &str) -> Name {
    Name::from_ascii(format!("{}.", text.trim_end_matches('.'))).unwrap()
}

/// A resolver's reply without records.
pub fn reply(query: &Message, rcode: ResponseCode) -> Message {
    let mut reply = query.clone();
    reply.metadata.message_type = MessageType::Response;
    reply.metadata.recursion_available = true;
    reply.metadata.authentic_data = false;
    reply.metadata.response_code = rcode;
    reply.edns = query.edns.as_ref().map(|_| Edns::new());
    reply
}

pub fn asked(query: &Message) -> String {
    query.queries[0].name().to_lowercase().to_string().trim_end_matches('.').to_owned()
}

pub fn a(owner: &str, ttl: u32, address: &str) -> Record {
    let rdata = match address.parse().unwrap() {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    };
    Record::from_rdata(name(owner), ttl, rdata)
}

pub fn cname(owner: &str, target: &str) -> Record {
    Record::from_rdata(name(owner), 60, RData::CNAME(CNAME(name(target))))
}

pub fn ns(owner: &str, server: &str) -> Record {
    Record::from_rdata(name(owner), 60, RData::NS(NS(name(server))))
}

pub fn txt(owner: &str, text: &str) -> Record {
    Record::from_rdata(name(owner), 60, RData::TXT(TXT::new(vec![text.to_owned()])))
}

pub fn soa(zone: &str, minimum: u32) -> Record {
    let soa = SOA::new(name(&format!("ns.{zone}")), name(&format!("h.{zone}")), 7, 1, 1, 1, minimum);
    Record::from_rdata(name(zone), 600, RData::SOA(soa))
}

pub fn with_error(mut reply: Message, code: u16, text: &str) -> Message {
    let mut data = code.to_be_bytes().to_vec();
    data.extend_from_slice(text.as_bytes());
    reply.edns.get_or_insert_with(Edns::new).options_mut().insert(EdnsOption::Unknown(15, data));
    reply
}

/// Gives everything the same address.
pub async fn world() -> Peer {
    Peer::start(|query, _| {
        let mut message = reply(query, ResponseCode::NoError);
        message.add_answer(a(&asked(query), 300, "192.0.2.1"));
        Some(message)
    })
    .await
}
