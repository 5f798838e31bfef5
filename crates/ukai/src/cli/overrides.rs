//! Deciding: approve, reject, revert, extend, pin, freeze. The daemon knows who speaks from the socket.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use ukai_core::input::Command;
use ukai_core::overrides::Override;

use crate::socket::Op;

use super::control::print_plan;
use super::daemon::Daemon;
use super::{BROKEN, DONE, Failed, NO_DAEMON, REFUSED, USAGE, offline};

/// How long a withdrawal is waited for: three tries of the daemon's, each with its own time-out.
const WITHDRAW_POLLS: usize = 60;
const WITHDRAW_POLL: Duration = Duration::from_millis(250);

#[derive(Debug, clap::Args)]
pub struct ApproveArgs {
    /// The override, as `ukai overrides` lists it: ovr-1.
    #[arg(value_name = "ID")]
    id: String,
    /// The hash of the plan that you saw. Without it the plan is shown and you are asked.
    #[arg(long, value_name = "SHA256")]
    hash: Option<String>,
    /// Do not ask; approve the plan as it stands now.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    common: WhyArgs,
}

#[derive(Debug, clap::Args)]
pub struct DecideArgs {
    /// The override, as `ukai overrides` lists it: ovr-1.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    common: WhyArgs,
}

#[derive(Debug, clap::Args)]
pub struct RevertArgs {
    /// The override, as `ukai overrides` lists it: ovr-1.
    #[arg(value_name = "ID", conflicts_with = "all")]
    id: Option<String>,
    /// Every override.
    #[arg(long)]
    all: bool,
    /// Without the daemon: through the DNS process, or on its disk when it is down too.
    #[arg(long, requires = "all")]
    offline: bool,
    #[command(flatten)]
    common: WhyArgs,
}

#[derive(Debug, clap::Args)]
pub struct ExtendArgs {
    /// The override, as `ukai overrides` lists it: ovr-1.
    #[arg(value_name = "ID")]
    id: String,
    /// How long from now, such as 90m or 4h.
    #[arg(long, value_name = "DURATION")]
    lease: String,
    #[command(flatten)]
    common: WhyArgs,
}

#[derive(Debug, clap::Args)]
pub struct PinArgs {
    /// The peer's name or host, as `ukai status` shows them.
    #[arg(value_name = "PEER")]
    peer: String,
    /// The addresses to pin it to.
    #[arg(value_name = "IP", required = true)]
    addresses: Vec<IpAddr>,
    #[command(flatten)]
    common: WhyArgs,
}

#[derive(Debug, clap::Args)]
pub struct WhyArgs {
    /// Why, for the record.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub why: String,
    #[command(flatten)]
    pub daemon: Daemon,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

pub async fn approve(args: ApproveArgs) -> anyhow::Result<ExitCode> {
    let hash = match args.hash {
        Some(hash) => hash,
        None => {
            let value = args.common.daemon.call(Op::Plan { override_id: args.id.clone() }).await?;
            let over: Override = serde_json::from_value(value).context("the daemon's answer is not understood")?;
            if !args.yes {
                print_plan(&over);
                ask(&args.id, &over.hash)?;
            }
            over.hash
        }
    };
    let why = args.common.why.clone();
    tell(&args.common, Command::Approve { id: args.id, hash, why }).await
}

/// On a terminal a person is asked; a script must say --yes or name the hash.
fn ask(id: &str, hash: &str) -> anyhow::Result<()> {
    if !std::io::stdin().is_terminal() {
        let message = format!("this is no terminal to ask on; approve with --hash {hash}, or with --yes");
        return Err(Failed::with(USAGE, message));
    }
    anstream::eprint!("Apply {id}? Type yes: ");
    std::io::stderr().flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    if line.trim().eq_ignore_ascii_case("yes") {
        return Ok(());
    }
    Err(Failed::with(REFUSED, "not approved"))
}

pub async fn reject(args: DecideArgs) -> anyhow::Result<ExitCode> {
    let why = args.common.why.clone();
    tell(&args.common, Command::Reject { id: args.id, why }).await
}

pub async fn revert(args: RevertArgs) -> anyhow::Result<ExitCode> {
    let why = args.common.why.clone();
    if args.offline {
        return offline::revert_all(&args.common).await;
    }
    let command = match (args.id, args.all) {
        (Some(id), _) => Command::Revert { id, why },
        (None, true) => Command::RevertAll { why },
        (None, false) => {
            let message = "which one? `ukai revert ID` takes one override back (`ukai overrides` lists them), \
                           `ukai revert --all` every one";
            return Err(Failed::with(USAGE, message));
        }
    };
    tell(&args.common, command).await.map_err(past_the_daemon)?;
    until_gone(&args.common).await
}

/// With the daemon dead there is another way, and this is when it is needed.
fn past_the_daemon(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<Failed>() {
        Some(failed) if failed.code == NO_DAEMON => {
            let message = format!(
                "{failed}. With the daemon dead, `ukai revert --all --offline --data-dir DIR` takes everything back"
            );
            Failed::with(NO_DAEMON, message)
        }
        _ => error,
    }
}

/// Done means seen: nothing is being withdrawn any more.
async fn until_gone(args: &WhyArgs) -> anyhow::Result<ExitCode> {
    let mut trouble = None;
    for _ in 0..WITHDRAW_POLLS {
        let value = args.daemon.call(Op::Overrides).await?;
        let withdrawing = value["overrides"]
            .as_array()
            .is_some_and(|overrides| overrides.iter().any(|over| over["phase"]["phase"] == "withdrawing"));
        trouble = value["overrides"]
            .as_array()
            .and_then(|overrides| overrides.iter().find_map(|over| over["trouble"].as_str().map(str::to_owned)));
        if !withdrawing {
            return Ok(ExitCode::from(DONE));
        }
        tokio::time::sleep(WITHDRAW_POLL).await;
    }
    let why = trouble.map(|trouble| format!(": {trouble}")).unwrap_or_default();
    let message = format!(
        "it may still be served{why}; the daemon tries again within a minute, the same command at once, and `ukai overrides` shows \
         it. Only with the daemon stopped does `ukai revert --all --offline` go past it"
    );
    Err(Failed::with(BROKEN, message))
}

pub async fn extend(args: ExtendArgs) -> anyhow::Result<ExitCode> {
    let lease = args
        .lease
        .parse::<jiff::SignedDuration>()
        .ok()
        .and_then(|lease| u64::try_from(lease.as_secs()).ok())
        .ok_or_else(|| Failed::with(USAGE, "--lease wants a duration such as 90m or 4h"))?;
    let why = args.common.why.clone();
    tell(&args.common, Command::Extend { id: args.id, lease_s: lease, why }).await
}

pub async fn pin(args: PinArgs) -> anyhow::Result<ExitCode> {
    let addresses: BTreeSet<IpAddr> = args.addresses.into_iter().collect();
    let why = args.common.why.clone();
    tell(&args.common, Command::Pin { peer: args.peer, addresses, why }).await
}

pub async fn freeze(args: WhyArgs) -> anyhow::Result<ExitCode> {
    let why = args.why.clone();
    tell(&args, Command::Freeze { why }).await
}

pub async fn thaw(args: WhyArgs) -> anyhow::Result<ExitCode> {
    let why = args.why.clone();
    tell(&args, Command::Thaw { why }).await
}

async fn tell(args: &WhyArgs, command: Command) -> anyhow::Result<ExitCode> {
    let text = args.daemon.command(command).await?;
    if args.json {
        anstream::println!("{}", json!({ "text": text }));
    } else {
        anstream::println!("{text}");
    }
    Ok(ExitCode::from(DONE))
}
