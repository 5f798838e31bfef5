//! `ukai history import`: what normal looked like, from a record of the past that an operator vouches for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use ukai_core::diagnose::evidence::Source;
use ukai_core::diagnose::history::{ANSWERS_MAX, History, IDENTITIES_MAX, ProvenIdentity, SeenAnswer, SeenDelegation};
use ukai_core::event::{Actor, Event, Recorded};
use ukai_core::input::Command as EngineCommand;
use ukai_core::peer::Level;
use ukai_core::state::State;

use crate::config::Config;
use crate::data_dir::{self, DataDir};
use crate::log::{Log, READ_LIMIT};
use crate::socket::credentials::user_name;

use super::daemon::Daemon;
use super::{DONE, Failed, USAGE};
use ukai_dnsd::read_bounded;

/// Every list at its bound fits several times over.
const FILE_MAX: u64 = 1024 * 1024;
const VERSION: u32 = 1;

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Import a JSON file: identities, answers, delegation and controls of one peer.
    Import(ImportArgs),
}

#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The file, version 1.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    /// The peer's name in the configuration.
    peer: String,
    host: String,
    since: Timestamp,
    until: Timestamp,
    identities: Vec<WrittenIdentity>,
    answers: Vec<WrittenAnswer>,
    #[serde(default)]
    delegation: Option<WrittenDelegation>,
    /// URLs of controls that passed.
    #[serde(default)]
    controls: BTreeSet<String>,
    /// Issuers that the controls showed, as `URL issuer`.
    #[serde(default)]
    control_issuers: BTreeSet<String>,
    /// HTTP status that each endpoint gave to somebody without the secret that it needs.
    #[serde(default)]
    unauthenticated: BTreeMap<String, u16>,
    /// Kept by tools that write such files; nothing is concluded from it.
    #[serde(default, rename = "body_sha256")]
    _body_sha256: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenIdentity {
    key_sha256: String,
    issuer: String,
    addresses: BTreeSet<IpAddr>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenAnswer {
    source: WrittenSource,
    addresses: BTreeSet<IpAddr>,
    ttl: u32,
    first_seen: Timestamp,
    last_seen: Timestamp,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenSource {
    Authority,
    Resolver,
    Independent,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenDelegation {
    zone: String,
    parent_ns: BTreeSet<String>,
    child_ns: BTreeSet<String>,
}

pub async fn run(command: Command) -> anyhow::Result<ExitCode> {
    let Command::Import(args) = command;
    let written = read(&args.file)
        .with_context(|| format!("{} cannot be imported", args.file.display()))
        .map_err(|error| Failed::with(USAGE, format!("{error:#}")))?;
    let (peer, host) = (written.peer.clone(), written.host.clone());
    let history = history(written);
    let dir = args.daemon.data_dir()?;
    let text = if args.daemon.socket.is_some() || data_dir::holder(&dir).is_some() {
        let command = EngineCommand::ImportHistory { peer: peer.clone(), history: Box::new(history) };
        args.daemon.command(command).await?
    } else {
        let level = level(&args.daemon, &peer)?;
        tokio::task::spawn_blocking(move || append(&dir, &peer, &host, level, history)).await??
    };
    if args.json {
        anstream::println!("{}", json!({ "text": text }));
    } else {
        anstream::println!("{text}");
    }
    Ok(ExitCode::from(DONE))
}

fn read(file: &Path) -> anyhow::Result<Written> {
    let written: Written = serde_json::from_slice(&read_bounded(file, FILE_MAX)?)?;
    ensure!(written.version == VERSION, "it has version {}; this ukai reads version {VERSION}", written.version);
    ensure!(written.since <= written.until, "it ends ({}) before it begins ({})", written.until, written.since);
    ensure!(written.identities.len() <= IDENTITIES_MAX, "it has more than {IDENTITIES_MAX} identities");
    ensure!(written.answers.len() <= ANSWERS_MAX, "it has more than {ANSWERS_MAX} answers");
    for identity in &written.identities {
        let is_hash =
            identity.key_sha256.len() == 64 && identity.key_sha256.bytes().all(|byte| byte.is_ascii_hexdigit());
        ensure!(is_hash, "key_sha256 {:?} is not a SHA-256 in hexadecimal", identity.key_sha256);
    }
    Ok(written)
}

fn history(written: Written) -> History {
    History {
        since: Some(written.since),
        identities: written
            .identities
            .into_iter()
            .map(|identity| ProvenIdentity {
                key_sha256: identity.key_sha256.to_lowercase(),
                issuer: identity.issuer,
                addresses: identity.addresses,
            })
            .collect(),
        answers: written
            .answers
            .into_iter()
            .map(|answer| SeenAnswer {
                source: match answer.source {
                    WrittenSource::Authority => Source::Authority,
                    WrittenSource::Resolver => Source::OurResolver,
                    WrittenSource::Independent => Source::Independent,
                },
                addresses: answer.addresses,
                ttl: answer.ttl,
                first_seen: answer.first_seen,
                last_seen: answer.last_seen,
            })
            .collect(),
        delegation: written.delegation.map(|delegation| SeenDelegation {
            zone: delegation.zone,
            parent_ns: delegation.parent_ns,
            child_ns: delegation.child_ns,
        }),
        next_delegation: None,
        controls: written.controls,
        control_issuers: written.control_issuers,
        unauthenticated: written.unauthenticated,
        steered: None,
    }
}

/// What the configuration allows for the peer; without one, nothing may be changed.
fn level(daemon: &Daemon, peer: &str) -> anyhow::Result<Level> {
    let Some(file) = &daemon.config else { return Ok(Level::default()) };
    let config = Config::load(file).map_err(|error| Failed::with(USAGE, error.to_string()))?;
    Ok(config.peer(peer).map(|peer| peer.level).unwrap_or_default())
}

/// No daemon runs: the log is ours for a moment.
fn append(dir: &Path, peer: &str, host: &str, level: Level, history: History) -> anyhow::Result<String> {
    let dir = DataDir::open(dir).map_err(|error| Failed::with(USAGE, error.to_string()))?;
    let mut log = Log::open(dir.path())?;
    let mut state = State::default();
    let mut after = 0;
    loop {
        let page = log.read_from(after, READ_LIMIT)?;
        let Some((last, _)) = page.last() else { break };
        after = *last;
        page.iter().for_each(|(_, recorded)| state.apply(recorded));
    }
    // The log's time never goes back, whatever this machine's clock does.
    let at = log.last_at()?.map_or_else(Timestamp::now, |last| last.max(Timestamp::now()));
    let mut events = Vec::new();
    match state.peers.get(peer) {
        Some(known) if known.host != host => {
            return Err(Failed::with(
                USAGE,
                format!("the peer {peer} is {}, but the file is about {host}", known.host),
            ));
        }
        Some(_) => {}
        None => events.push(Event::PeerWatched { peer: peer.to_owned(), host: host.to_owned(), level }),
    }
    let uid = rustix::process::getuid().as_raw();
    let by = Actor { uid: Some(uid), name: user_name(uid), via: "offline".to_owned() };
    events.push(Event::HistoryImported { peer: peer.to_owned(), history: Box::new(history), by });
    let records: Vec<Recorded> = events.into_iter().map(|event| Recorded { at, event }).collect();
    log.append(log.position(), &records)?;
    Ok(format!("imported the history of {peer} ({host}) into the log"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{ "version": 1, "peer": "api", "host": "api.peer.test",
        "since": "2026-01-01T00:00:00Z", "until": "2026-01-08T00:00:00Z",
        "identities": [{ "key_sha256": "AA00000000000000000000000000000000000000000000000000000000000000",
            "issuer": "CN=x", "addresses": ["192.0.2.1"] }],
        "answers": [{ "source": "resolver", "addresses": ["192.0.2.1"], "ttl": 2,
            "first_seen": "2026-01-01T00:00:00Z", "last_seen": "2026-01-08T00:00:00Z" }],
        "delegation": { "zone": "peer.test", "parent_ns": ["ns-1.peer.test"], "child_ns": ["ns-1.peer.test"] },
        "controls": ["https://control-1.test/"], "body_sha256": "00" }"#;

    fn written(text: &str) -> anyhow::Result<Written> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("history.json");
        std::fs::write(&file, text).unwrap();
        read(&file)
    }

    #[test]
    fn a_file_becomes_history() {
        let history = history(written(FILE).unwrap());
        assert!(history.identities[0].key_sha256.starts_with("aa"));
        assert_eq!(history.answers[0].source, Source::OurResolver);
        assert!(history.controls.contains("https://control-1.test/"));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (from, to) in [
            ("\"version\": 1", "\"version\": 2"),
            ("\"ttl\": 2", "\"tll\": 2"),
            ("\"resolver\"", "\"nobody\""),
            ("AA00", "ZZ00"),
            ("\"until\": \"2026", "\"until\": \"2025"),
        ] {
            assert!(written(&FILE.replace(from, to)).is_err(), "{to}");
        }
    }

    #[test]
    fn offline_the_log_takes_it_and_another_host_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let import = |host: &str| append(dir.path(), "api", host, Level::Approve, history(written(FILE).unwrap()));
        import("api.peer.test").unwrap();
        import("api.peer.test").unwrap();
        import("other.test").unwrap_err();
        let log = Log::open(dir.path()).unwrap();
        let kinds: Vec<bool> = log
            .read_from(0, READ_LIMIT)
            .unwrap()
            .iter()
            .map(|(_, recorded)| matches!(recorded.event, Event::PeerWatched { .. }))
            .collect();
        assert_eq!(kinds, [true, false, false]);
    }
}
