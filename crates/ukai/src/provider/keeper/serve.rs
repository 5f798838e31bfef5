//! The keeper itself: takes leases, and ends them.

use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Notify};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::Instant;

use super::clock::Moment;
use super::held::Held;
use super::process::KeeperDir;
use super::store::Store;
use super::{Kept, LINE_MAX, Lease, Request, Response, Status};
use crate::provider::place::Place;

/// A lease ends within this of its time.
const LOOK: Duration = Duration::from_millis(200);
/// How long after its end what was late on its way is looked for. A server that stalls may take an update long after we gave up
/// waiting, and TSIG lets it until the signature is older than its fudge of 300 s (RFC 8945, 10); with some room for clocks.
pub const GRACE: Duration = Duration::from_secs(330);
/// Each may wait for a secondary that is dead; the next one's primary does not wait with it.
const ENDS_AT_ONCE: usize = 8;
/// The time is written down this often, for a start after the clock was set back.
const REMEMBER_TIME: Duration = Duration::from_secs(60);
/// While the clock is behind, the time on disk is all that a start has: a keeper that crashes again and again loses less than this.
const REMEMBER_TIME_BEHIND: Duration = Duration::from_secs(2);
const CONVERSATION: Duration = Duration::from_secs(5);

/// Serves until it is told to stop, or is not needed any more. False: another keeper holds the directory. What was late on its
/// way when a lease ended is looked for during `grace`, which is [`GRACE`].
pub async fn run(
    dir: &KeeperDir,
    place: Place,
    grace: Duration,
    until: impl Future<Output = ()>,
) -> anyhow::Result<bool> {
    let Some(store) = Store::open(dir.path(), Moment::now())? else { return Ok(false) };
    check_place(&store.kept, &place)?;
    let listener = listen(&dir.socket())?;
    let keeper = Arc::new(Keeper {
        place,
        held: Mutex::new(Held::new(store, grace)),
        writing: Arc::default(),
        changed: Notify::new(),
        stop: Notify::new(),
    });
    // What is held ends without the disk; only a new lease needs it.
    keeper.changed.notify_one();
    tracing::info!(place = %keeper.place, process = std::process::id(), "leases are kept");
    tokio::select! {
        () = keeper.end_leases() => {}
        () = keeper.write_changes() => {}
        () = accept(listener, Arc::clone(&keeper)) => {}
        () = keeper.stop.notified() => {}
        () = until => {}
    }
    Ok(true)
}

/// A lease of another place could not be ended there.
fn check_place(kept: &[Kept], place: &Place) -> anyhow::Result<()> {
    let here = place.to_string();
    match kept.iter().map(|kept| &kept.lease).find(|lease| lease.place != here) {
        None => Ok(()),
        Some(lease) => anyhow::bail!(
            "{} for {} stands in {}, and the configuration names {here}; take it back first",
            lease.id,
            lease.host,
            lease.place
        ),
    }
}

fn listen(socket: &Path) -> anyhow::Result<UnixListener> {
    // The directory is locked: a socket that is there was left by a process that has ended.
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket).with_context(|| format!("{} cannot be made", socket.display()))?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

struct Keeper {
    place: Place,
    /// Never held while something is waited for.
    held: Mutex<Held>,
    /// One page is written at a time. A disk may hang: nothing that ends leases waits for this.
    writing: Arc<Mutex<()>>,
    /// Something is to be written, and nobody waits for it.
    changed: Notify,
    /// What is under way is dropped: it is idempotent, and taken up at the next start.
    stop: Notify,
}

impl Keeper {
    /// Until it is not needed.
    async fn end_leases(self: &Arc<Self>) {
        let mut ends = JoinSet::new();
        let mut remembered = Instant::now();
        loop {
            while ends.try_join_next().is_some() {}
            {
                let mut held = self.held.lock().await;
                if held.is_done() {
                    return;
                }
                let pause =
                    if held.store.is_clock_behind(Moment::now()) { REMEMBER_TIME_BEHIND } else { REMEMBER_TIME };
                if remembered.elapsed() >= pause {
                    remembered = Instant::now();
                    self.changed.notify_one();
                }
                for kept in held.due(ENDS_AT_ONCE.saturating_sub(ends.len())) {
                    let (keeper, lease) = (Arc::clone(self), kept.lease.clone());
                    let end = ends.spawn(async move { keeper.end(&kept).await });
                    held.is_under_way(&lease, end);
                }
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn end(&self, kept: &Kept) {
        let begun = Instant::now();
        let taken = self.place.take(&kept.lease.mine()).await;
        let gone = self.held.lock().await.ended(kept, begun, taken.map(drop));
        if gone {
            self.changed.notify_one();
        }
    }

    /// Writes what is held now.
    async fn save(&self) -> io::Result<()> {
        let turn = Arc::clone(&self.writing).lock_owned().await;
        let page = self.held.lock().await.store.page(Moment::now());
        // Whoever waits for it may be cut off: the next page is written after this one all the same.
        let written = spawn_blocking(move || {
            let written = page.write();
            drop(turn);
            written
        });
        written.await.map_err(io::Error::other)?
    }

    async fn write_changes(&self) {
        let mut failed = false;
        loop {
            self.changed.notified().await;
            match self.save().await {
                Ok(()) => failed = false,
                Err(error) => {
                    self.held.lock().await.is_abandoned |= error.kind() == ErrorKind::NotFound;
                    if !std::mem::replace(&mut failed, true) {
                        tracing::warn!(%error, "leases cannot be written; those that are held end all the same, new ones are refused");
                    }
                }
            }
        }
    }

    async fn handle(&self, request: Request) -> Response {
        self.held.lock().await.asked_at = Instant::now();
        match request {
            Request::Hold { lease } if lease.place != self.place.to_string() => Response::Failed {
                cause: format!("it keeps leases of {}, not of {}; restart ukai", self.place, lease.place),
            },
            Request::Hold { lease } => self.hold(lease).await,
            Request::Release { owner, id, host, generation } => {
                let is_over = |lease: &Lease| {
                    lease.owner == owner
                        && lease.id == id
                        && host.as_ref().is_none_or(|host| *host == lease.host)
                        && lease.generation <= generation
                };
                self.held.lock().await.end(is_over);
                if let Err(error) = self.save().await {
                    tracing::warn!(%error, "that an override was withdrawn cannot be written; after a restart its lease ends in time");
                }
                Response::Done
            }
            Request::List => {
                let held = self.held.lock().await;
                Response::List(Status {
                    process: std::process::id(),
                    place: self.place.to_string(),
                    leases: held.told(Timestamp::now()),
                    trouble: held.trouble(),
                    stuck: held.stuck(),
                })
            }
            Request::Stop => {
                self.stop.notify_one();
                Response::Done
            }
        }
    }

    /// It counts from now on, and is confirmed when it is on disk.
    async fn hold(&self, lease: Lease) -> Response {
        let before = match self.held.lock().await.hold(&lease) {
            Ok(before) => before,
            Err(cause) => return Response::Failed { cause },
        };
        match self.save().await {
            Ok(()) => Response::Done,
            Err(error) => {
                self.held.lock().await.undo(&lease, before);
                Response::Failed { cause: format!("the lease cannot be written: {error}") }
            }
        }
    }
}

async fn accept(listener: UnixListener, keeper: Arc<Keeper>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let keeper = Arc::clone(&keeper);
                tokio::spawn(async move {
                    // Only its own user can connect, and each conversation is bounded.
                    let _ = tokio::time::timeout(CONVERSATION, converse(stream, &keeper)).await;
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, keeper: &Keeper) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = Vec::new();
    BufReader::new(reader.take(LINE_MAX)).read_until(b'\n', &mut line).await?;
    let response = match serde_json::from_slice::<Request>(&line) {
        Ok(request) => keeper.handle(request).await,
        Err(error) => Response::Failed { cause: format!("the request cannot be understood: {error}") },
    };
    let mut answer = serde_json::to_vec(&response)?;
    answer.push(b'\n');
    writer.write_all(&answer).await
}
