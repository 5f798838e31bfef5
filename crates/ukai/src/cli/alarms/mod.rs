//! Alarms: looking at them, trying one on data, moving them to and from CloudWatch, changing them.

mod change;
mod exchange;
mod history;
mod list;
mod mute;
mod treatment;

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use serde_json::json;
use ukai_core::input::Command as Order;

use super::daemon::Daemon;
use super::{DONE, Failed, USAGE};
use crate::driver::alarms::{AlarmPage, ShownAlarm};
use crate::socket::Op;
use ukai_dnsd::read_bounded;

/// Of a file with alarms: the 5,000 that a Region may have by default, with much to say of each.
const FILE_MAX: u64 = 16 * 1024 * 1024;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: list::ListArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// One alarm in full, with the periods that it judges now.
    #[command(after_help = "Example:\n  ukai alarms show api/errors")]
    Show(list::ShowArgs),
    /// What happened to an alarm within two weeks, newest first, as DescribeAlarmHistory has it.
    #[command(after_help = "Example:\n  ukai alarms history api/errors\n  ukai alarms history api/errors --json")]
    History(history::Args),
    /// What an alarm would make of these data, period by period.
    #[command(after_help = "Example:\n  ukai alarms test api/errors --data \"0 - X - X\" --all-treatments\n  \
                      ukai alarms test slow --file alarms.json --data \"210 190 - 350 400\"")]
    Test(treatment::Args),
    /// Take alarms that `aws cloudwatch describe-alarms --output json` printed.
    #[command(after_help = "Example:\n  aws cloudwatch describe-alarms --output json | ukai alarms import -\n  \
                      ukai alarms import alarms.json --dry-run")]
    Import(exchange::ImportArgs),
    /// Print alarms for CloudWatch: inputs of `put-metric-alarm` and `put-composite-alarm`, or a template.
    #[command(
        after_help = "Example:\n  ukai alarms export --topic arn:aws:sns:eu-west-1:111122223333:ops > alarms.json\n  \
                      ukai alarms export --format cloudformation > alarms.template.json"
    )]
    Export(exchange::ExportArgs),
    /// Set the state of an alarm until it is evaluated again, to see what its actions do.
    #[command(after_help = "Example:\n  ukai alarms set-state api/errors ALARM --reason \"does the page arrive?\"")]
    SetState(change::SetStateArgs),
    /// Let the actions of alarms run again.
    #[command(after_help = "Example:\n  ukai alarms enable-actions api/latency api/resolver")]
    EnableActions(change::NamesArgs),
    /// Keep the actions of alarms from running; their states go on changing.
    #[command(after_help = "Example:\n  ukai alarms disable-actions api/latency")]
    DisableActions(change::NamesArgs),
    /// Delete alarms that somebody put.
    #[command(after_help = "Example:\n  ukai alarms delete slow")]
    Delete(change::NamesArgs),
    /// Mute rules: list, put, delete.
    #[command(
        after_help = "Example:\n  ukai alarms mute\n  ukai alarms mute put --name deploy --alarms api/errors,api/latency \
                      --schedule \"cron(0 2 * * *)\" --duration PT2H --timezone Asia/Tokyo\n  \
                      ukai alarms mute delete deploy"
    )]
    Mute(mute::Args),
}

#[derive(Debug, Clone, clap::Args)]
pub struct Common {
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        None => list::list(args.list).await,
        Some(Command::Show(args)) => list::show(args).await,
        Some(Command::History(args)) => history::run(args).await,
        Some(Command::Test(args)) => treatment::run(args).await,
        Some(Command::Import(args)) => exchange::import(args).await,
        Some(Command::Export(args)) => exchange::export(args).await,
        Some(Command::SetState(args)) => change::set_state(args).await,
        Some(Command::EnableActions(args)) => change::set_actions(args, true).await,
        Some(Command::DisableActions(args)) => change::set_actions(args, false).await,
        Some(Command::Delete(args)) => change::delete(args).await,
        Some(Command::Mute(args)) => mute::run(args).await,
    }
}

/// Every alarm, by name.
async fn all(daemon: &Daemon) -> anyhow::Result<Vec<ShownAlarm>> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let value = daemon.call(Op::Alarms { after }).await?;
        let page: AlarmPage = serde_json::from_value(value).context("the daemon's answer is not understood")?;
        all.extend(page.alarms);
        after = page.next;
        if after.is_none() {
            return Ok(all);
        }
    }
}

/// Hands a command to the daemon, and says what it said.
async fn tell(common: &Common, command: Order) -> anyhow::Result<ExitCode> {
    let text = common.daemon.command(command).await?;
    match common.json {
        true => anstream::println!("{}", json!({ "text": text })),
        false => anstream::println!("{text}"),
    }
    Ok(ExitCode::from(DONE))
}

fn json_of(value: &impl serde::Serialize) -> anyhow::Result<ExitCode> {
    anstream::println!("{}", serde_json::to_string_pretty(value)?);
    Ok(ExitCode::from(DONE))
}

/// A file, or what comes on standard input where it is `-`.
fn text_of(file: &Path) -> anyhow::Result<String> {
    let read = || -> anyhow::Result<String> {
        let bytes = if file == Path::new("-") {
            let mut bytes = Vec::new();
            std::io::stdin().lock().take(FILE_MAX + 1).read_to_end(&mut bytes)?;
            anyhow::ensure!(bytes.len() as u64 <= FILE_MAX, "it is larger than {FILE_MAX} bytes");
            bytes
        } else {
            read_bounded(file, FILE_MAX)?
        };
        Ok(String::from_utf8(bytes)?)
    };
    read().map_err(|error| Failed::with(USAGE, format!("{} cannot be read: {error:#}", shown_name(file))))
}

fn shown_name(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() }
}
