//! The processes of a drill: started, listened to, and taken down however the drill ends.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::sync::mpsc::{self, Receiver, Sender};
use ukai_core::event::Recorded;

use super::operator::Cli;
use super::provider::{DnsServer, Taken};
use super::{DrillOptions, Keep};
use crate::app::{AppOptions, CallReport, Sign};
use crate::scenario::{Person, Provider, Scenario};
use crate::servers::{Maker, Stack, Team, is_installed};
use crate::world::{SECRET_VARIABLE, World};

/// Lines waiting for the runner; it reads them as they come.
const WAITING_LINES: usize = 1_024;
/// Pause before the events are followed again, after the daemon went away.
const RECONNECT: Duration = Duration::from_millis(150);
/// How long the DNS process may take to obey.
const STOP_BOUND: Duration = Duration::from_secs(3);
/// How long another vantage may take to listen.
const VANTAGE_BOUND: Duration = Duration::from_secs(10);
/// How long a process may take to be gone once it was killed; one that waits for the disk takes its time.
const GONE_BOUND: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// What a process said.
#[derive(Debug)]
pub enum Heard {
    Event {
        position: u64,
        record: Box<Recorded>,
    },
    Call(CallReport),
    /// A line that is not what was agreed.
    Strange(String),
}

/// One line of `ukai events --json`.
#[derive(Debug, Deserialize)]
pub struct EventLine {
    pub position: u64,
    #[serde(flatten)]
    pub record: Recorded,
}

#[derive(Debug)]
pub struct Stage {
    directory: Option<TempDir>,
    path: PathBuf,
    pub cli: Cli,
    secret: String,
    daemon: Option<Child>,
    application: Option<Child>,
    vantages: Vec<Child>,
    /// While the daemon's DNS server is kept down.
    taken: Option<Taken>,
    /// Servers that hold the zone in its place.
    team: Option<Team>,
    follower: Follower,
    say: Sender<Heard>,
}

/// The process that follows the events, which comes and goes with the daemon.
#[derive(Debug, Clone, Default)]
struct Follower {
    child: Arc<Mutex<Option<Child>>>,
    stopping: Arc<AtomicBool>,
}

impl Stage {
    /// Programs that take the place of the daemon's own server.
    pub fn servers(&self) -> Vec<Maker> {
        self.team.as_ref().map(Team::makers).unwrap_or_default()
    }

    /// Writes what the daemon reads. Nothing runs yet.
    pub fn set_up(
        scenario: &Scenario,
        world: &World,
        options: &DrillOptions,
    ) -> anyhow::Result<(Stage, Receiver<Heard>)> {
        let directory = tempfile::Builder::new()
            .prefix(&format!("ukai-{}-", scenario.id.replace(|c: char| !c.is_ascii_alphanumeric(), "-")))
            .tempdir()
            .context("cannot create a directory for the drill")?;
        let path = directory.path().to_owned();
        let data_dir = path.join("data");
        let two_people = scenario.operators.iter().any(|operator| operator.who == Person::B);
        let mut config = world.daemon_config(&data_dir);
        let team = match options.servers {
            None => None,
            Some(stack) => Some(start_team(scenario, stack, world, &path)?),
        };
        if let Some(team) = &team {
            config = team.configure(&config).context("the daemon's configuration cannot be read")?;
        }
        let mut socket = None;
        if two_people {
            // The second person may enter the drill's directory and nothing in it but the socket.
            fs::set_permissions(&path, fs::Permissions::from_mode(0o711))?;
            let open = path.join("control.sock");
            config.push_str(&format!("\n[socket]\npath = {:?}\n", open.display().to_string()));
            socket = Some(open);
        }
        fs::write(path.join("ukai.toml"), config).context("cannot write the daemon's configuration")?;
        let (say, heard) = mpsc::channel(WAITING_LINES);
        let stage = Stage {
            directory: Some(directory),
            path,
            cli: Cli { ukai: options.ukai.clone(), data_dir, socket },
            secret: world.secret().to_owned(),
            daemon: None,
            application: None,
            vantages: Vec::new(),
            taken: None,
            team,
            follower: Follower::default(),
            say,
        };
        Ok((stage, heard))
    }

    pub fn config_file(&self) -> PathBuf {
        self.path.join("ukai.toml")
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `ukai run`, as anybody would start it.
    pub fn start_daemon(&mut self) -> anyhow::Result<()> {
        let log = self.log("daemon.log")?;
        let child = Command::new(&self.cli.ukai)
            .arg("run")
            .arg("--config")
            .arg(self.config_file())
            .env(SECRET_VARIABLE, &self.secret)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {} run", self.cli.ukai.display()))?;
        self.daemon = Some(child);
        Ok(())
    }

    /// `ukai vantage`, once for each network that looks besides ours.
    pub fn start_vantages(&mut self, world: &World) -> anyhow::Result<()> {
        for number in 1..=world.vantages() {
            let file = self.path.join(format!("vantage-{number}.toml"));
            fs::write(&file, world.vantage_config(number)).context("cannot write a vantage's configuration")?;
            let log = self.log(&format!("vantage-{number}.log"))?;
            let child = Command::new(&self.cli.ukai)
                .args(["vantage", "--config"])
                .arg(&file)
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()
                .context("cannot start a vantage")?;
            self.vantages.push(child);
        }
        let deadline = Instant::now() + VANTAGE_BOUND;
        for number in 1..=world.vantages() {
            while TcpStream::connect(world.vantage_listener(number)).is_err() {
                if Instant::now() >= deadline {
                    let name = format!("vantage-{number}.log");
                    bail!("vantage {number} does not answer:\n{}", self.log_tail(&name));
                }
                thread::sleep(POLL);
            }
        }
        Ok(())
    }

    /// SIGKILL, to the controller alone: the DNS process is not asked.
    pub fn kill_daemon(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            end(&mut child);
        }
    }

    /// What befalls the daemon's DNS server.
    pub fn befall(&mut self, provider: &Provider, world: &World) -> anyhow::Result<()> {
        let server = DnsServer::of(&self.cli.data_dir);
        match provider {
            Provider::Ok => self.taken = None,
            Provider::Down => self.taken = Some(server.take_down(world.embedded_dns())?),
            Provider::LosesUpdate => server.lose_everything()?,
            Provider::ForeignEdit(labels) => {
                let addresses: Vec<_> = labels.iter().filter_map(|label| world.address_of(label)).collect();
                server.edit(&addresses)?;
            }
            // Nothing that the embedded server can be: see the scenario format.
            Provider::Slow => {}
        }
        Ok(())
    }

    /// How the daemon ended, if it did so by itself.
    pub fn daemon_ended(&mut self) -> Option<ExitStatus> {
        self.daemon.as_mut()?.try_wait().ok()?
    }

    pub fn start_application(&mut self, scenario: &Scenario, world: &World) -> anyhow::Result<()> {
        let options = serde_json::to_string(&application(scenario, world)?)?;
        let mut child = Command::new(&self.cli.ukai)
            .arg("lab-app")
            .arg(options)
            .env(SECRET_VARIABLE, &self.secret)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(self.log("application.log")?)
            .spawn()
            .context("cannot start the application")?;
        let output = child.stdout.take().context("the application has no output")?;
        self.application = Some(child);
        let (say, log) = (self.say.clone(), self.log("application.jsonl")?);
        thread::spawn(move || hear_calls(output, log, &say));
        Ok(())
    }

    pub fn follow_events(&self) -> anyhow::Result<()> {
        let (cli, follower, say) = (self.cli.clone(), self.follower.clone(), self.say.clone());
        let log = self.log("events.log")?;
        thread::spawn(move || follower.follow(&cli, &say, &log));
        Ok(())
    }

    fn log(&self, name: &str) -> anyhow::Result<File> {
        let path = self.path.join(name);
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// The end of a log, for a drill that failed to get going.
    pub fn log_tail(&self, name: &str) -> String {
        const TAIL: usize = 1_200;
        let text = fs::read_to_string(self.path.join(name)).unwrap_or_default();
        let start = text.len().saturating_sub(TAIL);
        let start = (start..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        text.get(start..).unwrap_or_default().trim().to_owned()
    }

    /// Ends every process. Harmless when repeated.
    pub fn take_down(&mut self) {
        self.follower.stop();
        if let Some(mut child) = self.application.take() {
            end(&mut child);
        }
        self.vantages.drain(..).for_each(|mut child| end(&mut child));
        self.kill_daemon();
        self.taken = None;
        stop_dns(&self.cli.data_dir.join("dns").join("control.sock"));
        end_left_over(&self.cli.ukai, &self.path);
        self.team = None;
    }

    /// Leaves on disk what is to be kept: the reports that are there, and the directory if it is kept whole.
    pub fn tidy(&mut self, keep: Keep, reports: &[PathBuf]) -> (Vec<PathBuf>, Option<PathBuf>) {
        let Some(directory) = self.directory.take() else {
            return (Vec::new(), None);
        };
        match keep {
            Keep::Nothing => (Vec::new(), None),
            Keep::Everything => (reports.to_vec(), Some(directory.keep())),
            Keep::Reports if reports.is_empty() => (Vec::new(), None),
            Keep::Reports => (only_reports(&directory.keep(), reports), None),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.take_down();
    }
}

impl Follower {
    fn follow(&self, cli: &Cli, say: &Sender<Heard>, log: &File) {
        let mut last = None;
        while !self.stopping.load(Ordering::Acquire) {
            let mut command = Command::new(&cli.ukai);
            command.args(["events", "--follow", "--json"]).args(cli.place());
            if let Some(last) = last {
                command.args(["--from".to_owned(), format!("{last}")]);
            }
            let errors = log.try_clone().map_or(Stdio::null(), Stdio::from);
            let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors).spawn();
            let Some(output) = child.ok().and_then(|child| self.hold(child)) else {
                return;
            };
            if !hear_events(output, say, &mut last) {
                return;
            }
            self.reap();
            thread::sleep(RECONNECT);
        }
    }

    fn hold(&self, mut child: Child) -> Option<impl Read + use<>> {
        let output = child.stdout.take();
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        if self.stopping.load(Ordering::Acquire) {
            self.reap();
        }
        output
    }

    fn reap(&self) {
        if let Some(mut child) = self.child.lock().unwrap_or_else(PoisonError::into_inner).take() {
            end(&mut child);
        }
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.reap();
    }
}

/// False: nobody listens any more.
fn hear_events(output: impl Read, say: &Sender<Heard>, last: &mut Option<u64>) -> bool {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        let heard = match serde_json::from_str::<EventLine>(&line) {
            // Where the stream begins again, the last event may come once more.
            Ok(event) if last.is_some_and(|last| event.position <= last) => continue,
            Ok(event) => {
                *last = Some(event.position);
                Heard::Event { position: event.position, record: Box::new(event.record) }
            }
            Err(error) => Heard::Strange(format!("an event that cannot be read ({error}): {line}")),
        };
        if say.blocking_send(heard).is_err() {
            return false;
        }
    }
    true
}

fn hear_calls(output: impl Read, mut log: File, say: &Sender<Heard>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        // The log is for people who look into a failed drill; the drill does not depend on it.
        let _ = writeln!(log, "{line}");
        let heard = match serde_json::from_str(&line) {
            Ok(call) => Heard::Call(call),
            Err(error) => Heard::Strange(format!("a call that cannot be read ({error}): {line}")),
        };
        if say.blocking_send(heard).is_err() {
            return;
        }
    }
}

fn application(scenario: &Scenario, world: &World) -> anyhow::Result<AppOptions> {
    let expect = scenario.peer.expect.clone().unwrap_or_default();
    let sign = scenario.app.sign.then(|| -> anyhow::Result<Sign> {
        let url = format!("http://{}/v1/application/calls", world.application_listener());
        Ok(Sign {
            url: url.parse().context("the application's listener has no URL")?,
            token_file: world.token_file(),
            peer: scenario.host().split('.').next().unwrap_or_default().to_owned(),
        })
    });
    Ok(AppOptions {
        url: world.url(),
        dns: world.embedded_dns(),
        ca: world.ca_file(),
        every_ms: u64::try_from(scenario.app.every.as_millis())?,
        pool: scenario.app.pool,
        sign: sign.transpose()?,
        secret_env: scenario.peer.auth.then(|| SECRET_VARIABLE.to_owned()),
        status: expect.status.unwrap_or(200),
        body_contains: expect.body.unwrap_or_default(),
    })
}

/// What befalls a provider is written for the daemon's own server, and two people would have to reach the secret.
fn start_team(scenario: &Scenario, stack: Stack, world: &World, dir: &Path) -> anyhow::Result<Team> {
    let changes = scenario.faults.iter().chain(&scenario.heals);
    if changes.into_iter().any(|change| change.change.provider.is_some()) {
        bail!("{} does something to the embedded server itself; it is played without --provider", scenario.id);
    }
    is_installed().map_err(anyhow::Error::msg)?;
    Team::start(stack, world.embedded_dns(), world.resolver(), dir).context("the team's servers do not come up")
}

fn end(child: &mut Child) {
    // It may have ended by itself: then there is only its status to be taken.
    let _ = child.kill();
    let _ = child.wait();
}

/// Asks the DNS process to stop, and waits until its socket is gone.
fn stop_dns(socket: &Path) {
    let Ok(mut stream) = UnixStream::connect(socket) else {
        return;
    };
    let asked = stream
        .set_read_timeout(Some(STOP_BOUND))
        .and_then(|()| stream.write_all(b"{\"op\":\"stop\"}\n"))
        .and_then(|()| stream.read(&mut [0; 256]));
    let deadline = Instant::now() + STOP_BOUND;
    while asked.is_ok() && UnixStream::connect(socket).is_ok() && Instant::now() < deadline {
        thread::sleep(POLL);
    }
}

/// Ends what did not obey, and waits until it is gone: the next drill may want its address.
fn end_left_over(ukai: &Path, directory: &Path) {
    let deadline = Instant::now() + GONE_BOUND;
    loop {
        let left = left_over(ukai, directory);
        if left.is_empty() || Instant::now() >= deadline {
            return;
        }
        for pid in left {
            // It may be gone already.
            let _ = kill_process(pid, Signal::KILL);
        }
        thread::sleep(POLL);
    }
}

/// Processes of this very program that were started for this very drill. One whose parent was killed before it became
/// what it was to be still has its parent's arguments, which name the directory, too.
fn left_over(ukai: &Path, directory: &Path) -> Vec<Pid> {
    let Ok(own) = fs::canonicalize(ukai) else {
        return Vec::new();
    };
    let place = directory.display().to_string();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let of_this_drill = processes.filter(|entry| {
        let path = entry.path();
        fs::read_link(path.join("exe")).is_ok_and(|exe| exe == own)
            && fs::read(path.join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(&place))
    });
    of_this_drill.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// Moves the reports to the top of the directory and removes everything else in it.
fn only_reports(directory: &Path, reports: &[PathBuf]) -> Vec<PathBuf> {
    let kept: Vec<PathBuf> = reports
        .iter()
        .filter_map(|report| {
            let place = directory.join(report.file_name()?);
            fs::rename(report, &place).ok().map(|()| place)
        })
        .collect();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if !kept.contains(&path) {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            // What cannot be removed is only litter in a temporary directory.
            let _ = removed;
        }
    }
    kept
}

/// A scenario that needs two people needs two uids.
pub fn check_people(scenario: &Scenario) -> anyhow::Result<()> {
    let two = scenario.operators.iter().any(|operator| operator.who == Person::B);
    if two && !super::operator::may_be_a_second_person() {
        bail!("cannot be staged without root: two people are two uids, and only root can be a second one");
    }
    Ok(())
}
