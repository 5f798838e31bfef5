//! `ukai explain`: everybody is asked, every address is tried, and a verdict is given. No daemon is needed.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use ukai_core::diagnose::diagnose;
use ukai_core::diagnose::evidence::{Evidence, Purpose};
use ukai_core::diagnose::history::History;
use ukai_core::diagnose::reading::Case;
use ukai_core::diagnose::verdict::Verdict;
use ukai_core::peer::Peer;
use ukai_dns::Upstream;

use crate::config::Config;
use crate::gather::{Order, configure, gather};

use super::ask::{Place, certificates, read_bounded};
use super::matrix::{nothing_is_wrong, print_all_is_well, print_evidence, print_summary, print_verdict};
use super::paint::{Painted, Tone};
use super::{BROKEN, DONE, Failed, USAGE};

/// A gathering with every list at its bound is under a megabyte.
const SAVED_MAX: u64 = 16 * 1024 * 1024;
const SAVED_VERSION: u32 = 1;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A host, or a URL of it.
    #[arg(value_name = "HOST", required_unless_present = "from")]
    host: Option<String>,
    #[command(flatten)]
    place: Place,
    /// Take the resolvers, controls and the peer's expectations from this configuration.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Start the walk at this root server instead of IANA's. May be given several times.
    #[arg(long, value_name = "IP")]
    root_hints: Vec<IpAddr>,
    /// The port of authoritative servers.
    #[arg(long, value_name = "PORT")]
    authority_port: Option<u16>,
    /// Ask this resolver as an independent one. May be given several times.
    #[arg(long, value_name = "URI")]
    independent: Vec<Upstream>,
    /// The port of https://HOST.
    #[arg(long, default_value_t = 443)]
    port: u16,
    /// The path of https://HOST.
    #[arg(long, default_value = "/")]
    path: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Keep the evidence in this file, so that the verdict can be derived again.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Derive the verdict from evidence that was kept; nobody is asked.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["host", "save", "config"])]
    from: Option<PathBuf>,
}

/// Evidence as it is kept: all that a verdict without a daemon rests on.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    peer: Peer,
    allow_addresses: Vec<IpNet>,
    evidence: Evidence,
}

#[derive(Serialize)]
struct Explained<'a> {
    evidence: &'a Evidence,
    verdict: &'a Verdict,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let saved = match &args.from {
        Some(file) => load(file)?,
        None => look(&args).await?,
    };
    if let Some(file) = &args.save {
        let json = serde_json::to_vec_pretty(&saved)?;
        std::fs::write(file, json).with_context(|| format!("{} cannot be written", file.display()))?;
    }
    let verdict = judge(&saved);
    if args.json {
        let explained = Explained { evidence: &saved.evidence, verdict: &verdict };
        anstream::println!("{}", serde_json::to_string_pretty(&explained)?);
    } else {
        anstream::println!("{}", Painted(Tone::Strong, &saved.evidence.host));
        print_summary(&saved.evidence, &verdict);
        print_evidence(&saved.evidence);
        match nothing_is_wrong(&saved.evidence, &verdict) {
            Some(sentence) => print_all_is_well(&sentence, &verdict),
            None => print_verdict(&verdict),
        }
        anstream::println!(
            "\n{}",
            Painted(Tone::Faint, "Without a daemon there is no history: nothing is proven, at most likely.")
        );
    }
    let healthy = saved.evidence.observations.iter().all(|observation| !observation.any_failed());
    Ok(ExitCode::from(if healthy { DONE } else { BROKEN }))
}

fn judge(saved: &Saved) -> Verdict {
    let history = History::default();
    diagnose(&Case {
        peer: &saved.peer,
        evidence: &saved.evidence,
        history: &history,
        application: &[],
        moved_seen_at: None,
        allow_addresses: &saved.allow_addresses,
        overridden: None,
    })
}

fn load(file: &Path) -> anyhow::Result<Saved> {
    let bytes = read_bounded(file, SAVED_MAX)
        .map_err(|error| Failed::with(USAGE, format!("{} cannot be read: {error}", file.display())))?;
    let saved: Saved = serde_json::from_slice(&bytes)
        .map_err(|error| Failed::with(USAGE, format!("{} is not evidence kept by --save: {error}", file.display())))?;
    if saved.version != SAVED_VERSION {
        return Err(Failed::with(
            USAGE,
            format!("{} has version {}; this ukai reads version {SAVED_VERSION}", file.display(), saved.version),
        ));
    }
    Ok(saved)
}

async fn look(args: &Args) -> anyhow::Result<Saved> {
    let config = config(args)?;
    let peer = config.peers.first().context("the configuration names no peer")?;
    let configured = configure(&config)?;
    let subject = configured.subjects.get(&peer.name).context("the peer is not configured")?;
    let settings = config.settings();
    let order = Order {
        purpose: Purpose::Diagnose,
        also: Default::default(),
        known: Default::default(),
        now: Timestamp::now(),
    };
    let evidence = gather(&configured.vantage, subject, &order).await;
    let known = settings.peers.get(&peer.name).context("the peer is not configured")?;
    Ok(Saved {
        version: SAVED_VERSION,
        peer: known.clone(),
        allow_addresses: settings.allow_addresses.clone(),
        evidence,
    })
}

/// A configuration of one peer, from the file if there is one, and changed by what the command line says.
fn config(args: &Args) -> anyhow::Result<Config> {
    let host = args.host.clone().unwrap_or_default();
    let url = if host.contains("://") { host.clone() } else { format!("https://{host}:{}{}", args.port, args.path) };
    let usage = |message: String| Failed::with(USAGE, message);
    let mut config = Config::from_urls(&[&url]).map_err(|error| usage(error.to_string()))?;
    if let Some(file) = &args.config {
        let written = Config::load(file).map_err(|error| usage(error.to_string()))?;
        let wanted = config.peers.first().map(|peer| peer.host.clone()).unwrap_or_default();
        let peers = match written.peers.iter().find(|peer| peer.host == wanted) {
            Some(peer) => vec![peer.clone()],
            None => std::mem::take(&mut config.peers),
        };
        config = Config { peers, ..written };
    }
    // What is embedded belongs to a daemon; without one there is nothing there to ask.
    config.dns = None;
    if !args.place.resolver.is_empty() {
        config.resolver.clone_from(&args.place.resolver);
    }
    if !args.root_hints.is_empty() {
        config.root_hints.clone_from(&args.root_hints);
    }
    if let Some(port) = args.authority_port {
        config.authority_port = port;
    }
    if !args.independent.is_empty() {
        config.independent.clone_from(&args.independent);
    }
    config.allow_addresses.extend(&args.place.allow);
    config.ca.extend(certificates(&args.place)?);
    Ok(config)
}
