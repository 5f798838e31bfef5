//! `ukai explain`: everybody is asked, every address is tried, and a verdict is given. No daemon is needed.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use ukai_core::diagnose::account::{Said, account};
use ukai_core::diagnose::evidence::{Evidence, Purpose};
use ukai_core::diagnose::known::Known;
use ukai_core::diagnose::rules::RULES;
use ukai_core::diagnose::verdict::{Action, Code, Sure, Verdict};
use ukai_dns::Upstream;

use crate::config::{Config, suggestion};
use crate::evidence::{Concluded, Saved, of_incident};
use crate::gather::{Order, configure, gather};

use super::ask::{Place, certificates};
use super::daemon::Daemon;
use super::matrix::{nothing_is_wrong, print_all_is_well, print_evidence, print_summary, print_verdict};
use super::paint::{Painted, Table, Tone};
use super::{BROKEN, DONE, Failed, USAGE};
use ukai_dnsd::read_bounded;

/// A gathering with every list at its bound is under a megabyte.
const SAVED_MAX: u64 = 16 * 1024 * 1024;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// A host, or a URL of it.
    #[arg(value_name = "HOST", required_unless_present_any = ["from", "incident", "rules"])]
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
    /// Explain what the daemon last concluded in this incident; nobody is asked.
    #[arg(long, value_name = "ID", conflicts_with_all = ["host", "from"])]
    incident: Option<String>,
    /// With --incident: the daemon's data directory.
    #[arg(long, value_name = "DIR", requires = "incident")]
    data_dir: Option<PathBuf>,
    /// Say why this verdict was not given.
    #[arg(long, value_name = "CODE")]
    why_not: Option<String>,
    /// List the rules in the order in which causes are eliminated.
    #[arg(long, conflicts_with_all = ["host", "from", "incident", "why_not"])]
    rules: bool,
}

#[derive(Serialize)]
struct Explained<'a> {
    evidence: &'a Evidence,
    verdict: &'a Verdict,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.rules {
        return rules(args.json);
    }
    if let Some(code) = &args.why_not {
        place_of(code)?;
    }
    let saved = match (&args.from, &args.incident) {
        (Some(file), _) => load(file)?,
        (None, Some(incident)) => of_the_daemon(&args, incident).await?,
        (None, None) => look(&args).await?,
    };
    if let Some(file) = &args.save {
        let json = serde_json::to_vec_pretty(&saved)?;
        std::fs::write(file, json).with_context(|| format!("{} cannot be written", file.display()))?;
    }
    let verdict = saved.judge();
    if let Some(kept) = saved.verdict.as_ref().filter(|kept| gist(kept) != gist(&verdict)) {
        let (code, sure) = (kept.code.name(), kept.sure.name());
        anstream::eprintln!("another version of ukai said {code} ({sure}) of the same evidence");
    }
    if let Some(code) = &args.why_not {
        return why_not(&saved, &verdict, code, args.json);
    }
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
        if saved.known.history.is_empty() {
            let text = "Without a daemon there is no history: nothing is proven, at most likely.";
            anstream::println!("\n{}", Painted(Tone::Faint, text));
        }
    }
    let healthy = saved.evidence.observations.iter().all(|observation| !observation.any_failed());
    Ok(ExitCode::from(if healthy { DONE } else { BROKEN }))
}

/// Another sentence for the same is no other verdict.
fn gist(verdict: &Verdict) -> (Code, Sure, Action) {
    (verdict.code, verdict.sure, verdict.action)
}

/// The table of rules, in the order of elimination.
fn rules(json: bool) -> anyhow::Result<ExitCode> {
    if json {
        let rules: Vec<_> = RULES.iter().map(|rule| json!({ "code": rule.code, "looks_for": rule.doc })).collect();
        anstream::println!("{}", serde_json::to_string_pretty(&rules)?);
        return Ok(ExitCode::from(DONE));
    }
    let mut table = Table::with_header(&["", "code", "looks for"]);
    for (number, rule) in (1..).zip(RULES) {
        table.row(Tone::Plain, vec![format!("{number}"), rule.code.name().to_owned(), rule.doc.to_owned()]);
    }
    anstream::print!("{table}");
    Ok(ExitCode::from(DONE))
}

/// The place of a code in the table. Asked for before anybody is asked anything.
fn place_of(asked: &str) -> anyhow::Result<usize> {
    RULES.iter().position(|rule| rule.code.name() == asked).ok_or_else(|| {
        let hint = suggestion(asked, RULES.iter().map(|rule| rule.code.name()).collect::<Vec<_>>());
        let message = format!("{asked} is no code that a rule gives{hint}; `ukai explain --rules` lists them");
        Failed::with(USAGE, message)
    })
}

/// Why another verdict was not given: what its rule said, and where it stands beside the one that was.
fn why_not(saved: &Saved, verdict: &Verdict, asked: &str, as_json: bool) -> anyhow::Result<ExitCode> {
    let words = account(&saved.known.case(&saved.evidence));
    let place = place_of(asked)?;
    let word = &words[place];
    let given = words.iter().position(|word| word.code == verdict.code);
    if as_json {
        let told =
            json!({ "asked": word, "place": place + 1, "given": verdict.code, "given_place": given.map(|at| at + 1) });
        anstream::println!("{}", serde_json::to_string_pretty(&told)?);
        return Ok(ExitCode::from(DONE));
    }
    anstream::println!("{} looks for this: {}", Painted(Tone::Strong, asked), word.looks_for);
    let said = match &word.said {
        Said::Explains { sure, summary } => format!("It explains what was seen ({}): {summary}", sure.name()),
        Said::Excluded(why) => format!("It is excluded: {why}."),
        Said::Unknown(why) => format!("It could not be decided: {why}."),
        Said::NotSeen => "What it looks for was not seen.".to_owned(),
    };
    anstream::println!("{said}");
    let place = match given {
        _ if word.code == verdict.code => "It is the verdict that was given.".to_owned(),
        Some(given) if given < place => format!(
            "{} was given: it explains what was seen, and comes before it in the order of elimination ({} and {} of {}).",
            verdict.code.name(),
            given + 1,
            place + 1,
            words.len()
        ),
        Some(_) => {
            format!("{} was given: it comes later, and is the first that explains what was seen.", verdict.code.name())
        }
        None => "No rule explains everything that was seen, so the verdict is open.".to_owned(),
    };
    anstream::println!("{place}");
    Ok(ExitCode::from(DONE))
}

fn load(file: &Path) -> anyhow::Result<Saved> {
    let bytes = read_bounded(file, SAVED_MAX)
        .map_err(|error| Failed::with(USAGE, format!("{} cannot be read: {error}", file.display())))?;
    Saved::read(&bytes).map_err(|error| Failed::with(USAGE, format!("{}: {error}", file.display())))
}

/// What the daemon last concluded in an incident.
async fn of_the_daemon(args: &Args, incident: &str) -> anyhow::Result<Saved> {
    let daemon = Daemon { socket: None, data_dir: args.data_dir.clone(), config: args.config.clone() };
    let records = daemon.records().await?;
    let last = of_incident(&records, incident).last().map(Concluded::saved);
    last.ok_or_else(|| {
        Failed::with(BROKEN, format!("{incident} has no diagnosis in the log; `ukai incidents` lists what there is"))
    })
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
    Ok(Saved::new(Known::of(known.clone(), settings.allow_addresses.clone()), evidence, None))
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
