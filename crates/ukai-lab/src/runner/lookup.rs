//! Asks a DNS server what it answers, with a library that is not the product's.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// A server on this machine that takes longer is as good as silent.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// EDNS is not asked for, so no answer is longer (RFC 1035, 4.2.1).
const MAX_ANSWER: usize = 512;

/// The addresses that the server answers for a name, both families.
pub async fn addresses(server: SocketAddr, host: &str) -> io::Result<BTreeSet<IpAddr>> {
    let mut all = BTreeSet::new();
    for record_type in [RecordType::A, RecordType::AAAA] {
        all.extend(timeout(PATIENCE, ask(server, host, record_type)).await??);
    }
    Ok(all)
}

async fn ask(server: SocketAddr, host: &str, record_type: RecordType) -> io::Result<Vec<IpAddr>> {
    let answer = exchange(server, host, record_type).await?;
    Ok(answer.answers.iter().filter_map(|record| address(&record.data)).collect())
}

async fn exchange(server: SocketAddr, host: &str, record_type: RecordType) -> io::Result<Message> {
    let mut name = Name::from_utf8(host).map_err(io::Error::other)?;
    name.set_fqdn(true);
    let id = fastrand::u16(..);
    let mut question = Message::new(id, MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = true;
    question.queries.push(Query::query(name, record_type));
    let from: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let socket = UdpSocket::bind((from, 0)).await?;
    socket.connect(server).await?;
    socket.send(&question.to_vec().map_err(io::Error::other)?).await?;
    let mut wire = [0; MAX_ANSWER];
    loop {
        let length = socket.recv(&mut wire).await?;
        let answer = Message::from_vec(wire.get(..length).unwrap_or_default()).map_err(io::Error::other)?;
        if answer.metadata.id == id {
            return Ok(answer);
        }
    }
}

/// Everything that the server answers for a name and type, as text; empty where it denies it.
pub async fn records(server: SocketAddr, name: &str, record_type: RecordType) -> io::Result<BTreeSet<String>> {
    let answer = timeout(PATIENCE, exchange(server, name, record_type)).await??;
    Ok(answer.answers.iter().map(|record| record.data.to_string()).collect())
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    }
}
