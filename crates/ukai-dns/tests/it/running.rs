//! A server under test, and raw questions to it, read with the other library.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, OpCode, Query};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{RData, RecordType};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use ukai_dns::Upstream;
use ukai_dns::server::{ControlClient, Server, ServerConfig};

use crate::peer::{framed, name, read_framed};

/// Far longer than anything here takes; only a defect reaches it.
pub const PATIENCE: Duration = Duration::from_secs(10);

pub struct Running {
    pub address: SocketAddr,
    pub control: ControlClient,
    shutdown: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Running {
    pub async fn start(config: ServerConfig) -> Self {
        let control = ControlClient::new(&config.control_socket);
        let server = Server::start(config).await.unwrap();
        let address = server.local_addresses()[0];
        let (shutdown, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.run(async move { drop(stopped.await) }));
        Self { address, control, shutdown: Some(shutdown), task }
    }

    pub async fn stop(mut self) {
        drop(self.shutdown.take());
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }

    /// Until the control socket's `stop` has done its work.
    pub async fn ended(self) {
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }

    pub async fn ask(&self, text: &str, rtype: RecordType) -> Message {
        self.ask_with(text, rtype, |_| {}).await
    }

    pub async fn ask_with(&self, text: &str, rtype: RecordType, change: impl FnOnce(&mut Message)) -> Message {
        let mut message = query(text, rtype);
        change(&mut message);
        Message::from_vec(&self.exchange(&message.to_vec().unwrap()).await.unwrap()).unwrap()
    }

    /// One datagram there, one back, or nothing.
    pub async fn exchange(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(self.address).await.unwrap();
        socket.send(bytes).await.unwrap();
        let mut buffer = vec![0; 65_535];
        let len = timeout(PATIENCE, socket.recv(&mut buffer)).await.ok()?.unwrap();
        buffer.truncate(len);
        Some(buffer)
    }

    /// All the messages in one write, and as many answers, in the order in which they come.
    pub async fn exchange_tcp(&self, messages: &[Vec<u8>]) -> Vec<Message> {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let written: Vec<u8> = messages.iter().flat_map(|message| framed(message)).collect();
        stream.write_all(&written).await.unwrap();
        let mut answers = Vec::new();
        for _ in messages {
            let bytes = timeout(PATIENCE, read_framed(&mut stream)).await.unwrap().unwrap();
            answers.push(Message::from_vec(&bytes).unwrap());
        }
        answers
    }
}

/// A directory for the server's files.
pub fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

pub fn config(dir: &Path, upstreams: &[SocketAddr]) -> ServerConfig {
    let upstreams = upstreams.iter().map(|address| Upstream::Udp(*address)).collect();
    let mut config =
        ServerConfig::new(vec!["127.0.0.1:0".parse().unwrap()], upstreams, dir.join("state"), dir.join("control.sock"));
    config.settings.watched = vec!["api.peer.test".parse().unwrap()];
    config
}

pub fn query(text: &str, rtype: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.op_code = OpCode::Query;
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name(text), rtype));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    message.set_edns(edns);
    message
}

pub fn addresses(message: &Message) -> Vec<String> {
    message
        .answers
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(address) => Some(address.0.to_string()),
            RData::AAAA(address) => Some(address.0.to_string()),
            _ => None,
        })
        .collect()
}

/// The extended errors of an answer.
pub fn errors(message: &Message) -> Vec<(u16, String)> {
    let Some(edns) = &message.edns else {
        return Vec::new();
    };
    let options = edns.options().get_all(EdnsCode::Unknown(15));
    let mut errors: Vec<_> = options
        .into_iter()
        .map(|option| match option {
            EdnsOption::Unknown(_, data) => {
                (u16::from_be_bytes([data[0], data[1]]), String::from_utf8_lossy(&data[2..]).into_owned())
            }
            other => panic!("{other:?} is no extended error"),
        })
        .collect();
    errors.sort();
    errors
}

/// Asks again and again until `done`, or fails; for what happens by itself after a while.
pub async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..200 {
        if let Some(found) = attempt().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}
