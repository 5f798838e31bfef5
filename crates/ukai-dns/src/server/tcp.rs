//! Streams (RFC 7766): several queries on one connection, answered as the answers come.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::answer::{Answerer, Decision, Limit, Scratch};
use super::policy::Answers;
use crate::message::MAX_MESSAGE;

/// RFC 7766 section 6.2.3 asks for seconds; a connection is cheap to make again.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// A client that does not take its answers.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// For all messages of a transfer.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(60);
/// Connections over all listeners. Each may hold a message of 64 KiB.
pub(super) const MAX_CONNECTIONS: usize = 100;
/// Queries under way on one connection; more are read only when some are answered.
const MAX_PIPELINED: usize = 32;
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);

pub(super) async fn serve(listener: TcpListener, answerer: Arc<Answerer>, connections: Arc<Semaphore>) {
    let mut tasks = JoinSet::new();
    loop {
        while tasks.try_join_next().is_some() {}
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                continue;
            }
        };
        // One too many is closed at once: a client that is told goes elsewhere sooner than one that waits.
        let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
            continue;
        };
        let answerer = Arc::clone(&answerer);
        tasks.spawn(async move {
            if let Err(error) = converse(stream, client.ip(), answerer).await {
                tracing::debug!(%error, client.address = %client, "a connection ended early");
            }
            drop(permit);
        });
    }
}

async fn converse(stream: TcpStream, client: IpAddr, answerer: Arc<Answerer>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    let (answers, outgoing) = mpsc::channel(MAX_PIPELINED);
    let (read, written) =
        tokio::join!(read_queries(reader, client, answerer, answers), write_answers(writer, outgoing));
    read.and(written)
}

/// Ends when the client closes, is idle for too long, sends what is no message, or no longer takes answers.
async fn read_queries(
    mut reader: OwnedReadHalf,
    client: IpAddr,
    answerer: Arc<Answerer>,
    answers: mpsc::Sender<Vec<u8>>,
) -> io::Result<()> {
    let mut scratch = Scratch::default();
    let under_way = Arc::new(Semaphore::new(MAX_PIPELINED));
    let mut tasks = JoinSet::new();
    while let Ok(permit) = Arc::clone(&under_way).acquire_owned().await {
        while tasks.try_join_next().is_some() {}
        let Ok(message) = timeout(IDLE_TIMEOUT, read_message(&mut reader)).await else {
            break;
        };
        let Some(bytes) = message? else { break };
        let mut answer = Vec::new();
        let decision = answerer.decide(&answerer.view(), &mut scratch, &bytes, client, Limit::Stream, &mut answer);
        answerer.counters.take(&mut scratch.tally);
        match decision {
            Decision::Drop => break,
            Decision::Reply | Decision::ReplyAndFetch => {
                if answers.send(answer).await.is_err() {
                    return Ok(());
                }
            }
            Decision::Several(Answers { messages, transfer }) => {
                let sent = timeout(TRANSFER_TIMEOUT, async {
                    for message in messages {
                        answers.send(message).await.ok()?;
                    }
                    Some(())
                });
                let sent = sent.await;
                drop(transfer);
                if sent != Ok(Some(())) {
                    return Ok(());
                }
            }
            Decision::Forward(query) => {
                let (answerer, answers) = (Arc::clone(&answerer), answers.clone());
                let (ask, key, hash) = (query.keep(), scratch.key.clone(), scratch.hash);
                tasks.spawn(async move {
                    let landed = answerer.forwarder.fetch(&key, hash).await;
                    let cap = answerer.forwarder.watched().ttl_cap(key.name());
                    landed.write(&ask, MAX_MESSAGE, cap, &mut answer);
                    // The writer has gone when the client has.
                    answers.send(answer).await.ok();
                    drop(permit);
                });
            }
        }
    }
    // What was asked before the client stopped asking is still answered.
    while tasks.join_next().await.is_some() {}
    Ok(())
}

/// `None` at the end of the stream.
async fn read_message(reader: &mut OwnedReadHalf) -> io::Result<Option<Vec<u8>>> {
    let len = match reader.read_u16().await {
        Ok(len) => len,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; usize::from(len)];
    reader.read_exact(&mut bytes).await?;
    Ok(Some(bytes))
}

async fn write_answers(mut writer: OwnedWriteHalf, mut answers: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    while let Some(answer) = answers.recv().await {
        let Ok(len) = u16::try_from(answer.len()) else {
            continue;
        };
        let mut framed = len.to_be_bytes().to_vec();
        framed.extend_from_slice(&answer);
        timeout(WRITE_TIMEOUT, writer.write_all(&framed)).await??;
    }
    writer.shutdown().await
}
