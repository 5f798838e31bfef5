//! `ukai alarms mute`: windows in which the actions of alarms do not run.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use jiff::Timestamp;
use ukai_core::alarm::mute::{MuteRule, MuteRuleStatus, MuteTargets, PutAlarmMuteRule, Rule, ScheduleText};
use ukai_core::input::Command as Order;

use super::{Common, json_of, shown_name, tell, text_of};
use crate::cli::paint::{Table, Tone, list};
use crate::cli::{DONE, Failed, USAGE};
use crate::driver::alarms::ShownMuteRule;
use crate::socket::Op;

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Put a mute rule: from the JSON of PutAlarmMuteRule, or from these options.
    #[command(
        after_help = "Example:\n  ukai alarms mute put rule.json\n  ukai alarms mute put --name deploy --alarms \
                      api/errors,api/latency --schedule \"at(2026-03-01T02:00)\" --duration PT2H"
    )]
    Put(PutArgs),
    /// Delete a mute rule; what it held back is told, and runs where it still holds.
    #[command(after_help = "Example:\n  ukai alarms mute delete deploy")]
    Delete(DeleteArgs),
}

const NO_RULE: &str = "which rule? give --name, --alarms, --schedule and --duration, or a file with the JSON of \
                       PutAlarmMuteRule; `ukai alarms mute put --help` has an example of each";

#[derive(Debug, clap::Args)]
struct PutArgs {
    /// The JSON of PutAlarmMuteRule; - reads standard input.
    #[arg(value_name = "FILE", conflicts_with_all = ["name", "alarms", "schedule", "duration", "timezone"])]
    file: Option<PathBuf>,
    /// The rule's name.
    #[arg(long, requires_all = ["alarms", "schedule", "duration"])]
    name: Option<String>,
    /// Alarms that it mutes, with commas between.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    alarms: Vec<String>,
    /// When windows begin: cron(minute hour day-of-month month day-of-week) or at(yyyy-MM-ddThh:mm).
    #[arg(long, value_name = "EXPRESSION")]
    schedule: Option<String>,
    /// How long a window is, as ISO 8601 has it: PT2H.
    #[arg(long, value_name = "DURATION")]
    duration: Option<String>,
    /// The time zone of the schedule, as Asia/Tokyo. Default: UTC.
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
struct DeleteArgs {
    /// The rule, as `ukai alarms mute` lists it.
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    common: Common,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        None => show(args.common).await,
        Some(Command::Put(args)) => put(args).await,
        Some(Command::Delete(DeleteArgs { name, common })) => tell(&common, Order::DeleteMuteRule { rule: name }).await,
    }
}

async fn show(common: Common) -> anyhow::Result<ExitCode> {
    let value = common.daemon.call(Op::MuteRules).await?;
    if common.json {
        return json_of(&value);
    }
    let rules: Vec<ShownMuteRule> = serde_json::from_value(value).context("the daemon's answer is not understood")?;
    if rules.is_empty() {
        anstream::println!("no mute rules");
        return Ok(ExitCode::from(DONE));
    }
    let mut table = Table::with_header(&["rule", "status", "when", "window", "alarms"]);
    let moment = |at: Timestamp| format!("{at:.0}");
    for shown in rules {
        let request = shown.rule.request();
        let (status, tone) = match shown.status {
            MuteRuleStatus::Active => ("ACTIVE", Tone::Warning),
            MuteRuleStatus::Scheduled => ("SCHEDULED", Tone::Plain),
            MuteRuleStatus::Expired => ("EXPIRED", Tone::Faint),
        };
        let when = match (shown.until, shown.next) {
            (Some(until), _) => format!("until {}", moment(until)),
            (None, Some(next)) => format!("from {}", moment(next)),
            (None, None) => "never again".to_owned(),
        };
        let ScheduleText { expression, duration, timezone } = &request.rule.schedule;
        let window = format!("{expression} {duration} {}", timezone.as_deref().unwrap_or("UTC"));
        let alarms = list(request.mute_targets.iter().flat_map(|targets| &targets.alarm_names));
        table.row(tone, vec![request.name.clone(), status.to_owned(), when, window, alarms]);
    }
    anstream::print!("{table}");
    Ok(ExitCode::from(DONE))
}

async fn put(args: PutArgs) -> anyhow::Result<ExitCode> {
    let request = match &args.file {
        Some(file) => {
            let read = serde_json::from_str::<PutAlarmMuteRule>(&text_of(file)?);
            read.map_err(|error| Failed::with(USAGE, format!("{}: {error}", shown_name(file))))?
        }
        None => PutAlarmMuteRule {
            name: args.name.ok_or_else(|| Failed::with(USAGE, NO_RULE))?,
            description: None,
            rule: Rule {
                schedule: ScheduleText {
                    expression: args.schedule.unwrap_or_default(),
                    duration: args.duration.unwrap_or_default(),
                    timezone: args.timezone,
                },
            },
            mute_targets: Some(MuteTargets { alarm_names: args.alarms }),
            start_date: None,
            expire_date: None,
        },
    };
    let rule = MuteRule::new(request).map_err(|error| Failed::with(USAGE, error.to_string()))?;
    tell(&args.common, Order::PutMuteRule { rule: Box::new(rule) }).await
}
