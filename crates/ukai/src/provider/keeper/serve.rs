//! The keeper itself: takes leases, and ends them.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use super::process::KeeperDir;
use super::store::Store;
use super::{Key, LINE_MAX, Lease, Request, Response, Status};
use crate::provider::place::Place;

/// A lease ends within this of its time.
const LOOK: Duration = Duration::from_millis(200);
/// What was on its way when a lease ended has arrived by then (a read and an update are bounded by 20 s), and is looked for
/// once more.
const GRACE: Duration = Duration::from_secs(30);
/// Between two tries to end what cannot be ended.
const AGAIN_FIRST: Duration = Duration::from_secs(1);
const AGAIN_MAX: Duration = Duration::from_secs(30);
/// With no lease and nobody who asks, it is not needed.
const IDLE: Duration = Duration::from_secs(60);
/// The time is written down this often, for a start after the clock was set back.
const REMEMBER_TIME: Duration = Duration::from_secs(60);
const CONVERSATION: Duration = Duration::from_secs(5);

/// Serves until it is told to stop, or is not needed any more. False: another keeper holds the directory.
pub async fn run(dir: &KeeperDir, place: Place, until: impl Future<Output = ()>) -> anyhow::Result<bool> {
    let Some(store) = Store::open(dir.path(), Timestamp::now())? else { return Ok(false) };
    check_place(&store.leases, &place)?;
    let listener = listen(&dir.socket())?;
    let keeper = Arc::new(Keeper {
        place,
        held: Mutex::new(Held { store, running: BTreeMap::new(), trouble: None, asked_at: Instant::now() }),
        stop: Notify::new(),
    });
    {
        let mut held = keeper.held.lock().await;
        held.start_all();
        held.store.save().context("the leases cannot be written")?;
    }
    tracing::info!(place = %keeper.place, process = std::process::id(), "leases are kept");
    tokio::select! {
        () = keeper.end_leases() => {}
        () = accept(listener, Arc::clone(&keeper)) => {}
        () = keeper.stop.notified() => {}
        () = until => {}
    }
    Ok(true)
}

/// A lease of another place could not be ended there.
fn check_place(leases: &[Lease], place: &Place) -> anyhow::Result<()> {
    let here = place.to_string();
    match leases.iter().find(|lease| lease.place != here) {
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
    held: Mutex<Held>,
    /// What is under way is dropped: it is idempotent, and taken up at the next start.
    stop: Notify,
}

struct Held {
    store: Store,
    running: BTreeMap<Key, Running>,
    trouble: Option<String>,
    asked_at: Instant,
}

/// A lease as it runs: by the machine's clock and by elapsed time, whichever comes first.
struct Running {
    ends: Instant,
    /// When it was found gone.
    gone: Option<Instant>,
    again: Instant,
    pause: Duration,
}

impl Held {
    fn start_all(&mut self) {
        let leases = self.store.leases.clone();
        leases.iter().for_each(|lease| self.start(lease));
    }

    fn start(&mut self, lease: &Lease) {
        let left = lease.expires_at.duration_since(self.store.time(Timestamp::now()));
        let left = Duration::try_from(left).unwrap_or(Duration::ZERO);
        let now = Instant::now();
        let running = Running { ends: now + left, gone: None, again: now, pause: Duration::ZERO };
        self.running.insert(lease.key(), running);
    }

    /// Leases that are over and want something done.
    fn due(&mut self) -> Vec<Lease> {
        let (now, wall) = (Instant::now(), self.store.time(Timestamp::now()));
        let is_due = |lease: &&Lease| {
            self.running.get(&lease.key()).is_some_and(|running| {
                let over = now >= running.ends || wall >= lease.expires_at;
                over && now >= running.gone.map_or(running.again, |gone| gone + GRACE)
            })
        };
        self.store.leases.iter().filter(is_due).cloned().collect()
    }

    fn drop_all(&mut self, is_over: impl Fn(&Lease) -> bool) {
        self.store.drop_all(is_over);
        let left: BTreeSet<_> = self.store.leases.iter().map(Lease::key).collect();
        self.running.retain(|key, _| left.contains(key));
    }

    fn is_idle(&self) -> bool {
        self.store.leases.is_empty() && self.asked_at.elapsed() >= IDLE
    }
}

impl Keeper {
    /// Until it is not needed.
    async fn end_leases(&self) {
        let mut remembered = Instant::now();
        loop {
            let due = {
                let mut held = self.held.lock().await;
                if held.is_idle() {
                    return;
                }
                if remembered.elapsed() >= REMEMBER_TIME {
                    remembered = Instant::now();
                    let now = Timestamp::now();
                    held.store.time(now);
                    if let Err(error) = held.store.save() {
                        tracing::warn!(%error, "the time cannot be written down");
                    }
                }
                held.due()
            };
            for lease in due {
                self.end(&lease).await;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn end(&self, lease: &Lease) {
        let taken = self.place.take(&lease.mine()).await;
        let mut held = self.held.lock().await;
        let Some(running) = held.running.get_mut(&lease.key()) else { return };
        match taken {
            Ok(_) if running.gone.is_some() => {
                held.drop_all(|other| other.is(lease));
                held.trouble = None;
            }
            Ok(_) => {
                running.gone = Some(Instant::now());
                held.trouble = None;
                tracing::info!(
                    id = lease.id,
                    host = lease.host,
                    generation = lease.generation,
                    "the lease is over and nothing of it stands"
                );
            }
            Err(fault) => {
                running.pause = (running.pause * 2).clamp(AGAIN_FIRST, AGAIN_MAX);
                running.again = Instant::now() + running.pause;
                running.gone = None;
                tracing::warn!(
                    id = lease.id,
                    host = lease.host,
                    "the lease is over, but the override cannot be taken away: {fault}"
                );
                held.trouble = Some(format!("{} for {}: {fault}", lease.id, lease.host));
            }
        }
    }

    async fn handle(&self, request: Request) -> Response {
        let mut held = self.held.lock().await;
        held.asked_at = Instant::now();
        match request {
            Request::Hold { lease } if lease.place != self.place.to_string() => Response::Failed {
                cause: format!("it keeps leases of {}, not of {}; restart ukai", self.place, lease.place),
            },
            Request::Hold { lease } => {
                let now = Timestamp::now();
                held.store.time(now);
                match held.store.hold(lease.clone()) {
                    Ok(()) => {
                        held.start(&lease);
                        Response::Done
                    }
                    Err(cause) => Response::Failed { cause },
                }
            }
            Request::Release { owner, id, host, generation } => {
                held.drop_all(|lease| {
                    lease.owner == owner
                        && lease.id == id
                        && host.as_ref().is_none_or(|host| *host == lease.host)
                        && lease.generation <= generation
                });
                Response::Done
            }
            Request::List => Response::List(Status {
                process: std::process::id(),
                place: self.place.to_string(),
                leases: held.store.leases.clone(),
                trouble: held.trouble.clone(),
            }),
            Request::Stop => {
                self.stop.notify_one();
                Response::Done
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
