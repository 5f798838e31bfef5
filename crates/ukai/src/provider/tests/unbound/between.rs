//! Stands between ukai and Unbound's control: something happens right before a command, or one goes wrong.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Of a TLS record: type, version and length (RFC 8446, 5.1).
const HEADER: usize = 5;

/// What becomes of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Pass,
    /// It never reaches the server.
    Close,
    /// It is taken and never answered.
    Hang,
    /// The connection ends after so many TLS records of the server.
    Cut(usize),
}

pub struct Between {
    pub address: SocketAddr,
    commands: Arc<AtomicUsize>,
    has_cut: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Between {
    /// `before` is told how many commands there were before this one.
    pub async fn start(to: SocketAddr, mut before: impl FnMut(usize) -> Step + Send + 'static) -> Between {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (commands, has_cut) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (counted, noted) = (Arc::clone(&commands), Arc::clone(&has_cut));
        let task = tokio::spawn(async move {
            let mut hanging = Vec::new();
            while let Ok((mut client, _)) = listener.accept().await {
                match before(counted.fetch_add(1, Ordering::SeqCst)) {
                    Step::Pass => {
                        let mut server = TcpStream::connect(to).await.unwrap();
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                    Step::Close => drop(client),
                    Step::Hang => hanging.push(client),
                    Step::Cut(records) => {
                        let server = TcpStream::connect(to).await.unwrap();
                        cut(client, server, records, &noted).await;
                    }
                }
            }
        });
        Between { address, commands, has_cut, task }
    }

    /// Commands so far.
    pub fn commands(&self) -> usize {
        self.commands.load(Ordering::SeqCst)
    }

    /// Whether the connection that was to be cut had more to say.
    pub fn has_cut(&self) -> bool {
        self.has_cut.load(Ordering::SeqCst)
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn cut(client: TcpStream, server: TcpStream, records: usize, has_cut: &AtomicBool) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let asked = tokio::spawn(async move { copy(&mut from_client, &mut to_server).await });
    let mut passed = 0;
    let mut record = vec![0; HEADER];
    while from_server.read_exact(&mut record).await.is_ok() {
        if passed == records {
            has_cut.store(true, Ordering::SeqCst);
            break;
        }
        let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
        record.resize(HEADER + length, 0);
        from_server.read_exact(&mut record[HEADER..]).await.unwrap();
        if to_client.write_all(&record).await.is_err() {
            break;
        }
        record.truncate(HEADER);
        passed += 1;
    }
    let _ = to_client.shutdown().await;
    let _ = asked.await;
}
