//! The end of a server, and a start with sockets that somebody else opened.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use ukai_dns::server::{ControlClient, Server};

use crate::peer::{Peer, a, asked, framed, read_framed, reply};
use crate::running::{PATIENCE, Running, addresses, config, directory, eventually, query};

async fn world(delay: Duration) -> Peer {
    Peer::slow(delay, |query, _| {
        let mut message = reply(query, ResponseCode::NoError);
        message.add_answer(a(&asked(query), 300, "192.0.2.1"));
        Some(message)
    })
    .await
}

/// Also what takes so long that all upstreams are raced.
#[tokio::test]
async fn what_was_asked_is_answered_before_the_end() {
    const MANY: usize = 20;
    for delay in [100, 600] {
        let (world, dir) = (world(Duration::from_millis(delay)).await, directory());
        let mut config = config(dir.path(), &[world.address]);
        config.threads = 2;
        let server = Running::start(config).await;
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(server.address).await.unwrap();
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        for n in 0..MANY {
            socket.send(&query(&format!("u{n}.example.com"), RecordType::A).to_vec().unwrap()).await.unwrap();
            let message = query(&format!("t{n}.example.com"), RecordType::A).to_vec().unwrap();
            stream.write_all(&framed(&message)).await.unwrap();
        }
        eventually("all have been passed on", async || (world.queries() >= 2 * MANY).then_some(())).await;
        server.stop().await;
        let mut buffer = [0; 4_096];
        for n in 0..MANY {
            let len = socket.try_recv(&mut buffer).unwrap_or_else(|error| panic!("datagram {n}: {error}"));
            assert_eq!(addresses(&Message::from_vec(&buffer[..len]).unwrap()), ["192.0.2.1"]);
            let bytes = timeout(PATIENCE, read_framed(&mut stream)).await.unwrap();
            let bytes = bytes.unwrap_or_else(|| panic!("the stream ended after {n} answers"));
            assert_eq!(addresses(&Message::from_vec(&bytes).unwrap()), ["192.0.2.1"]);
        }
        assert!(timeout(PATIENCE, read_framed(&mut stream)).await.unwrap().is_none(), "and then it is closed");
    }
}

/// A client that keeps its connection must not keep the server.
#[tokio::test]
async fn an_idle_connection_does_not_delay_the_end() {
    let (world, dir) = (world(Duration::ZERO).await, directory());
    let server = Running::start(config(dir.path(), &[world.address])).await;
    let answers = server.exchange_tcp(&[query("www.example.com", RecordType::A).to_vec().unwrap()]).await;
    assert_eq!(addresses(&answers[0]), ["192.0.2.1"]);
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    idle.write_all(&[0]).await.unwrap();
    // `stop` has a bound of its own.
    server.stop().await;
    assert!(timeout(PATIENCE, read_framed(&mut idle)).await.unwrap().is_none());
}

/// Opens sockets and becomes the command, as systemd does: descriptors from 3 on, and who they are for.
const ACTIVATE: &str = r#"
import os, socket, sys
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
for attempt in range(16):
    udp.bind(("127.0.0.1", 0))
    try:
        tcp.bind(udp.getsockname())
        break
    except OSError:
        udp.close()
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
tcp.listen(16)
print(udp.getsockname()[1], flush=True)
first, second = os.dup(udp.fileno()), os.dup(tcp.fileno())
if first == 4:
    first = os.dup(first)
os.dup2(second, 4)
os.dup2(first, 3)
os.environ["LISTEN_FDS"] = "2"
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[1], sys.argv[1:])
"#;

const DIR: &str = "UKAI_DNS_TEST_DIR";
const UPSTREAM: &str = "UKAI_DNS_TEST_UPSTREAM";

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test]
async fn sockets_that_were_opened_for_us_are_used() {
    let (world, dir) = (world(Duration::ZERO).await, directory());
    let child = Command::new("python3")
        .args(["-c", ACTIVATE])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "stopping::serves_what_was_handed_over", "--ignored"])
        .env(DIR, dir.path())
        .env(UPSTREAM, world.address.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Ended(child);
    let mut line = String::new();
    BufReader::new(child.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let address = format!("127.0.0.1:{}", line.trim());
    // The sockets are there before the server is: what is asked meanwhile waits.
    let sockets = [(); 20].map(|()| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    for (n, socket) in sockets.iter().enumerate() {
        socket.send_to(&query(&format!("n{n}.example.com"), RecordType::A).to_vec().unwrap(), &address).unwrap();
    }
    for socket in sockets {
        socket.set_nonblocking(true).unwrap();
        let socket = UdpSocket::from_std(socket).unwrap();
        let mut buffer = [0; 4_096];
        let len = timeout(PATIENCE, socket.recv(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(addresses(&Message::from_vec(&buffer[..len]).unwrap()), ["192.0.2.1"]);
    }
    let mut stream = TcpStream::connect(&address).await.unwrap();
    stream.write_all(&framed(&query("www.example.com", RecordType::A).to_vec().unwrap())).await.unwrap();
    let bytes = timeout(PATIENCE, read_framed(&mut stream)).await.unwrap().unwrap();
    assert_eq!(addresses(&Message::from_vec(&bytes).unwrap()), ["192.0.2.1"]);
    let control = ControlClient::new(dir.path().join("control.sock"));
    assert_eq!(control.list().await.unwrap().listen, [address.parse().unwrap()], "one address, not two");
    control.stop().await.unwrap();
    let status = tokio::task::spawn_blocking(move || child.0.wait()).await.unwrap().unwrap();
    assert!(status.success());
}

#[tokio::test]
#[ignore = "the process that another test starts"]
async fn serves_what_was_handed_over() {
    let (Ok(dir), Ok(upstream)) = (std::env::var(DIR), std::env::var(UPSTREAM)) else { return };
    let mut config = config(dir.as_ref(), &[upstream.parse().unwrap()]);
    // Not one that could be bound.
    config.listen = vec!["192.0.2.1:53".parse().unwrap()];
    config.threads = 2;
    Server::start(config).await.unwrap().run(std::future::pending()).await;
}

#[tokio::test]
async fn who_may_have_the_file_read_again_does_not_keep_the_directory() {
    let (world, dir) = (world(Duration::ZERO).await, directory());
    let config = config(dir.path(), &[world.address]);
    let server = Server::start(config.clone()).await.unwrap();
    let reload = server.reloader();
    server.run(std::future::ready(())).await;
    let again = Server::start(config).await;
    assert!(again.is_ok(), "{:?}", again.err().map(|error| error.to_string()));
    reload();
}
