//! The daemon's half.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use ukai_core::event::{Actor, Recorded};

use super::{Asked, Content, LINE_BYTES, Line, LineError, Op, Positioned, credentials, encode, read_line};
use crate::log::Position;

/// A few people and a few scripts; what is beyond is told to come back.
pub const CONNECTIONS: usize = 64;
/// A connection without a request is closed after this.
pub const REQUEST_IDLE: Duration = Duration::from_secs(60);
/// A client that reads nothing is let go after this.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// The first answer comes within this, or the daemon is not well.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Answers on their way to one client.
pub const ANSWERS: usize = 64;
/// Requests on their way to the daemon.
pub const REQUESTS: usize = 64;
const MODE: u32 = 0o660;

/// A request of somebody known.
#[derive(Debug)]
pub struct Request {
    pub actor: Actor,
    pub op: Op,
    /// One [`Answer::Value`] or [`Answer::Refused`]; for [`Op::Events`] any number of events, ended by dropping it.
    /// It is bounded: who streams events does so from a task of its own, never from the daemon's loop.
    pub answers: mpsc::Sender<Answer>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Value(serde_json::Value),
    /// A sentence for a person.
    Refused(String),
    Event(Position, Box<Recorded>),
}

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("another process answers on the control socket {}; stop it, or set socket.path to another", .0.display())]
    InUse(PathBuf),
    #[error("{} exists and is not a socket; remove it, or set socket.path to another", .0.display())]
    NotASocket(PathBuf),
    #[error("the group {group:?} cannot be given the control socket: {source}; check socket.group")]
    Group { group: String, source: io::Error },
    #[error("the control socket {} cannot be made: {source}; check that its directory exists and can be written", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// A bound socket. The file goes away with it.
#[derive(Debug)]
pub struct SocketServer {
    listener: UnixListener,
    path: PathBuf,
}

impl SocketServer {
    /// The socket appears at its path with its mode and group already set: nobody ever meets it wider open.
    pub async fn bind(path: &Path, group: Option<&str>) -> Result<SocketServer, BindError> {
        make_way(path).await?;
        let failed = |source| BindError::Io { path: path.to_owned(), source };
        let fresh = path.with_extension(format!("{}.new", std::process::id()));
        let _ = fs::remove_file(&fresh);
        let listener = UnixListener::bind(&fresh).map_err(failed)?;
        let placed = fs::set_permissions(&fresh, Permissions::from_mode(MODE))
            .map_err(failed)
            .and_then(|()| give(&fresh, group))
            .and_then(|()| fs::rename(&fresh, path).map_err(failed));
        if let Err(error) = placed {
            let _ = fs::remove_file(&fresh);
            return Err(error);
        }
        Ok(SocketServer { listener, path: path.to_owned() })
    }

    /// Serves until `requests` is closed.
    pub async fn run(self, requests: mpsc::Sender<Request>) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = requests.closed() => return,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: they come back as connections end.
                    tracing::warn!(%error, "the control socket could not accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            match Arc::clone(&slots).try_acquire_owned() {
                Ok(slot) => {
                    let requests = requests.clone();
                    tokio::spawn(async move {
                        serve(stream, requests).await;
                        drop(slot);
                    });
                }
                Err(_) => turn_away(stream),
            }
        }
    }
}

impl Drop for SocketServer {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// A socket that nobody listens on is what a killed daemon leaves; renaming replaces it.
async fn make_way(path: &Path) -> Result<(), BindError> {
    let failed = |source| BindError::Io { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => Err(BindError::NotASocket(path.to_owned())),
        Ok(_) => match UnixStream::connect(path).await {
            Ok(_) => Err(BindError::InUse(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(failed(error)),
        },
    }
}

fn give(path: &Path, group: Option<&str>) -> Result<(), BindError> {
    let Some(group) = group else { return Ok(()) };
    credentials::group_id(group)
        .and_then(|gid| chown(path, None, Some(gid)))
        .map_err(|source| BindError::Group { group: group.to_owned(), source })
}

/// Not worth waiting for: the line fits into an empty socket buffer.
fn turn_away(stream: UnixStream) {
    let error = Content::Error(format!("{CONNECTIONS} connections are open already; try again in a moment"));
    if let Ok(line) = encode(&Line { id: 0, content: error }) {
        let _ = stream.try_write(&line);
    }
}

async fn serve(stream: UnixStream, requests: mpsc::Sender<Request>) {
    let Ok(credentials) = stream.peer_cred() else {
        return;
    };
    let uid = credentials.uid();
    let actor = Actor { uid: Some(uid), name: credentials::user_name(uid), via: "cli".to_owned() };
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let line = match timeout(REQUEST_IDLE, read_line(&mut reader)).await {
            Ok(Ok(Some(line))) => line,
            Ok(Err(LineError::TooLong)) => {
                let sentence = format!("a request is at most {LINE_BYTES} bytes");
                let _ = write(&mut writer, 0, Content::Error(sentence)).await;
                return;
            }
            Ok(Ok(None) | Err(LineError::Io(_))) | Err(_) => return,
        };
        let asked = match serde_json::from_slice::<Asked>(&line) {
            Ok(asked) => asked,
            Err(error) => {
                let sentence = format!("the request is not understood: {error}");
                if write(&mut writer, id_of(&line), Content::Error(sentence)).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let follows = matches!(asked.op, Op::Events { follow: true, .. });
        let answered = tokio::select! {
            answered = answer(&mut writer, &requests, actor.clone(), asked) => answered,
            // Only a follower can outlive its reader; all else is bounded, and `nc` half-closes before it reads.
            () = hung_up(&mut reader), if follows => return,
        };
        if answered.is_err() {
            return;
        }
    }
}

/// The id of a line that is JSON, but no request, so that the client can tell what was refused.
fn id_of(line: &[u8]) -> u64 {
    let value: Option<serde_json::Value> = serde_json::from_slice(line).ok();
    value.and_then(|value| value.get("id")?.as_u64()).unwrap_or_default()
}

/// Returns when the other side is gone; a request that comes early waits in the buffer.
async fn hung_up(reader: &mut BufReader<tokio::net::unix::OwnedReadHalf>) {
    use tokio::io::AsyncBufReadExt;
    loop {
        match reader.fill_buf().await {
            Ok([]) | Err(_) => return,
            Ok(_) => std::future::pending::<()>().await,
        }
    }
}

async fn answer(
    writer: &mut OwnedWriteHalf,
    requests: &mpsc::Sender<Request>,
    actor: Actor,
    Asked { id, op }: Asked,
) -> io::Result<()> {
    let streams = matches!(op, Op::Events { .. });
    let (answers, mut receiver) = mpsc::channel(ANSWERS);
    let request = Request { actor, op, answers };
    match timeout(ANSWER_TIMEOUT, requests.send(request)).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) => return write(writer, id, Content::Error(STOPPING.to_owned())).await,
        Err(_) => return write(writer, id, Content::Error(BUSY.to_owned())).await,
    }
    if streams { stream_events(writer, id, receiver).await } else { single(writer, id, &mut receiver).await }
}

const STOPPING: &str = "the daemon is stopping; try again when it runs";
const BUSY: &str = "the daemon did not answer in time; it may be waiting for its disk: see its log";

async fn single(writer: &mut OwnedWriteHalf, id: u64, receiver: &mut mpsc::Receiver<Answer>) -> io::Result<()> {
    let content = match timeout(ANSWER_TIMEOUT, receiver.recv()).await {
        Ok(Some(answer)) => content(answer),
        Ok(None) => Content::Error(STOPPING.to_owned()),
        Err(_) => Content::Error(BUSY.to_owned()),
    };
    write(writer, id, content).await
}

async fn stream_events(writer: &mut OwnedWriteHalf, id: u64, mut receiver: mpsc::Receiver<Answer>) -> io::Result<()> {
    while let Some(answer) = receiver.recv().await {
        let content = content(answer);
        let is_last = matches!(content, Content::Error(_));
        write(writer, id, content).await?;
        if is_last {
            return Ok(());
        }
    }
    write(writer, id, Content::End(true)).await
}

fn content(answer: Answer) -> Content {
    match answer {
        Answer::Value(value) => Content::Ok(value),
        Answer::Refused(sentence) => Content::Error(sentence),
        Answer::Event(position, recorded) => Content::Event(Box::new(Positioned { position, recorded: *recorded })),
    }
}

async fn write(writer: &mut OwnedWriteHalf, id: u64, content: Content) -> io::Result<()> {
    let mut line = encode(&Line { id, content })?;
    if line.len() > LINE_BYTES {
        let sentence = format!("the answer is longer than {LINE_BYTES} bytes; ask for less");
        line = encode(&Line { id, content: Content::Error(sentence) })?;
    }
    match timeout(WRITE_TIMEOUT, writer.write_all(&line)).await {
        Ok(written) => written,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
