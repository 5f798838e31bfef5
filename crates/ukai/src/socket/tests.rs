use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use ukai_core::event::{Event, Recorded};

use super::client::{CallError, ConnectError, SocketClient};
use super::server::{Answer, BindError, CONNECTIONS, REQUESTS, Request, SocketServer};
use super::*;

#[tokio::test]
async fn a_request_reaches_the_daemon_with_the_callers_uid() {
    let daemon = Daemon::start(echo).await;
    let mut client = daemon.client().await;
    let own = rustix::process::geteuid().as_raw();
    let answer = client.call(Op::Status).await.unwrap();
    assert_eq!(answer["actor"]["uid"], own);
    assert_eq!(answer["actor"]["name"], credentials::user_name(own));
    assert_eq!(answer["actor"]["via"], "cli");
    let command = Command::Freeze { why: "testing".to_owned() };
    let answer = client.call(Op::Command { command: command.clone() }).await.unwrap();
    assert_eq!(answer["op"], serde_json::to_value(Op::Command { command }).unwrap());
}

#[tokio::test]
async fn every_operation_survives_the_wire() {
    let commands = [
        Command::Approve { id: "o-1".into(), hash: "abc".into(), why: "w".into() },
        Command::Pin { peer: "api".into(), addresses: ["127.0.0.1".parse().unwrap()].into(), why: "w".into() },
    ];
    let ops = [
        Op::Ping,
        Op::Status,
        Op::Incidents,
        Op::Overrides,
        Op::Plan { override_id: "o-1".into() },
        Op::Events { from: 3, follow: true },
        Op::Report { incident: "i-1".into() },
        Op::Reload,
    ];
    let commands = commands.into_iter().map(|command| Op::Command { command });
    for op in ops.into_iter().chain(commands) {
        let asked = Asked { id: 7, op };
        let line = encode(&asked).unwrap();
        assert_eq!(serde_json::from_slice::<Asked>(&line).unwrap(), asked);
    }
}

#[tokio::test]
async fn a_refusal_is_the_daemons_sentence() {
    let daemon = Daemon::start(|request: Request| async move {
        request.answers.send(Answer::Refused("frozen by root".to_owned())).await.unwrap();
    })
    .await;
    let error = daemon.client().await.call(Op::Reload).await.unwrap_err();
    assert_eq!(error.to_string(), "frozen by root");
}

#[tokio::test]
async fn events_stream_until_the_daemon_ends_them() {
    let daemon = Daemon::start(|request: Request| async move {
        let Op::Events { from, follow: false } = request.op else { panic!("{:?}", request.op) };
        // More than the channel holds, so that the stream waits for its reader.
        for position in from + 1..=from + 500 {
            request.answers.send(Answer::Event(position, Box::new(recorded(position)))).await.unwrap();
        }
    })
    .await;
    let mut events = daemon.client().await.events(41, false).await.unwrap();
    for position in 42..=541 {
        let event = events.next().await.unwrap().unwrap();
        assert_eq!(event, Positioned { position, recorded: recorded(position) });
    }
    assert_eq!(events.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_follower_that_hangs_up_is_noticed() {
    let (gone, mut is_gone) = mpsc::channel(1);
    let daemon = Daemon::start(move |request: Request| {
        let gone = gone.clone();
        async move {
            request.answers.send(Answer::Event(1, Box::new(recorded(1)))).await.unwrap();
            request.answers.closed().await;
            gone.send(()).await.unwrap();
        }
    })
    .await;
    let mut events = daemon.client().await.events(0, true).await.unwrap();
    assert!(events.next().await.unwrap().is_some());
    drop(events);
    is_gone.recv().await.unwrap();
}

#[tokio::test]
async fn a_daemon_that_drops_a_request_is_stopping() {
    let daemon = Daemon::start(|request: Request| async move { drop(request) }).await;
    let error = daemon.client().await.call(Op::Ping).await.unwrap_err();
    assert!(error.to_string().contains("stopping"), "{error}");
}

#[tokio::test]
async fn what_is_no_request_is_answered_and_the_next_is_served() {
    let daemon = Daemon::start(echo).await;
    let mut stream = UnixStream::connect(&daemon.path).await.unwrap();
    for (line, id) in [("{]", 0), (r#"{"id":5,"op":"dance"}"#, 5), (r#"{"op":"ping"}"#, 0)] {
        stream.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        let answer = read_json(&mut stream).await;
        assert_eq!(answer["id"], id, "{line}");
        assert!(answer["error"].as_str().unwrap().contains("not understood"), "{answer}");
    }
    stream.write_all(b"{\"id\":6,\"op\":\"ping\"}\n").await.unwrap();
    assert_eq!(read_json(&mut stream).await["ok"]["op"]["op"], "ping");
}

#[tokio::test]
async fn an_endless_line_is_cut_off() {
    let daemon = Daemon::start(echo).await;
    let (mut reader, mut writer) = UnixStream::connect(&daemon.path).await.unwrap().into_split();
    let writing = tokio::spawn(async move {
        let chunk = vec![b'x'; 64 * 1024];
        for _ in 0..1000 {
            if writer.write_all(&chunk).await.is_err() {
                return true;
            }
        }
        false
    });
    let mut all = Vec::new();
    let _ = reader.read_to_end(&mut all).await;
    assert!(writing.await.unwrap(), "the server hung up before 64 MB were read");
}

#[tokio::test]
async fn connections_are_bounded() {
    let daemon = Daemon::start(echo).await;
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = daemon.client().await;
        client.call(Op::Ping).await.unwrap();
        open.push(client);
    }
    let error = daemon.client().await.call(Op::Ping).await.unwrap_err();
    assert!(matches!(error, CallError::Refused(_)), "{error:?}");
    open.clear();
    for _ in 0..1000 {
        if daemon.client().await.call(Op::Ping).await.is_ok() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("slots did not come back");
}

#[tokio::test]
async fn the_socket_is_for_owner_and_group() {
    let daemon = Daemon::start(echo).await;
    assert_eq!(std::fs::metadata(&daemon.path).unwrap().permissions().mode() & 0o777, 0o660);
    let left: Vec<_> = std::fs::read_dir(daemon.path.parent().unwrap()).unwrap().collect();
    assert_eq!(left.len(), 1, "no other name is left behind");

    let dir = tempfile::tempdir().unwrap();
    let own = rustix::process::getegid().as_raw().to_string();
    let server = SocketServer::bind(&dir.path().join("s"), Some(&own)).await.unwrap();
    assert_eq!(std::fs::metadata(dir.path().join("s")).unwrap().gid().to_string(), own);
    drop(server);
    assert!(!dir.path().join("s").exists(), "the file goes with the server");
    let refused = SocketServer::bind(&dir.path().join("s"), Some("no-such-group")).await.unwrap_err();
    assert!(matches!(refused, BindError::Group { .. }), "{refused}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(matches!(SocketClient::connect(&path).await, Err(ConnectError::Stale(_))));
    let server = SocketServer::bind(&path, None).await.unwrap();
    assert!(matches!(SocketServer::bind(&path, None).await, Err(BindError::InUse(_))));
    drop(server);
    std::fs::write(&path, "a file").unwrap();
    assert!(matches!(SocketServer::bind(&path, None).await, Err(BindError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file");
}

#[tokio::test]
async fn without_a_daemon_the_error_says_how_to_start_one() {
    let error = SocketClient::connect(Path::new("/nonexistent/ukai.sock")).await.unwrap_err();
    assert!(error.to_string().contains("ukai run"), "{error}");
}

struct Daemon {
    path: PathBuf,
    _dir: TempDir,
}

impl Daemon {
    async fn start<F>(answer: impl Fn(Request) -> F + Send + 'static) -> Daemon
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ukai.sock");
        let server = SocketServer::bind(&path, None).await.unwrap();
        let (sender, mut receiver) = mpsc::channel::<Request>(REQUESTS);
        tokio::spawn(server.run(sender));
        tokio::spawn(async move {
            while let Some(request) = receiver.recv().await {
                tokio::spawn(answer(request));
            }
        });
        Daemon { path, _dir: dir }
    }

    async fn client(&self) -> SocketClient {
        SocketClient::connect(&self.path).await.unwrap()
    }
}

async fn echo(request: Request) {
    let value = json!({"actor": request.actor, "op": request.op});
    request.answers.send(Answer::Value(value)).await.unwrap();
}

fn recorded(position: Position) -> Recorded {
    let at = Timestamp::from_second(1_800_000_000).unwrap();
    Recorded { at, event: Event::Troubled { what: format!("trouble {position}") } }
}

async fn read_json(stream: &mut UnixStream) -> serde_json::Value {
    let mut reader = tokio::io::BufReader::new(stream);
    let line = read_line(&mut reader).await.unwrap().unwrap();
    serde_json::from_slice(&line).unwrap()
}
