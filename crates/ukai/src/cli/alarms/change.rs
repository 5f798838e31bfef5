//! Setting a state by hand, switching actions, deleting.

use std::process::ExitCode;

use ukai_core::alarm::AlarmState;
use ukai_core::input::Command;

use super::{Common, list, tell};
use crate::cli::{Failed, USAGE};

#[derive(Debug, clap::Args)]
pub struct SetStateArgs {
    /// The alarm, as `ukai alarms` lists it.
    #[arg(value_name = "NAME")]
    name: String,
    /// OK, ALARM or INSUFFICIENT_DATA.
    #[arg(value_name = "STATE", value_parser = list::state)]
    state: AlarmState,
    /// Why; it becomes the reason of the state.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// More of the reason, as JSON.
    #[arg(long, value_name = "JSON")]
    reason_data: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub struct NamesArgs {
    /// Alarms, as `ukai alarms` lists them.
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    #[command(flatten)]
    common: Common,
}

pub async fn set_state(args: SetStateArgs) -> anyhow::Result<ExitCode> {
    if let Some(data) = &args.reason_data
        && let Err(error) = serde_json::from_str::<serde_json::Value>(data)
    {
        return Err(Failed::with(USAGE, format!("--reason-data is not JSON: {error}")));
    }
    let SetStateArgs { name, state, reason, reason_data, common } = args;
    tell(&common, Command::SetAlarmState { alarm: name, state, reason, reason_data }).await
}

pub async fn set_actions(args: NamesArgs, enabled: bool) -> anyhow::Result<ExitCode> {
    tell(&args.common, Command::SetAlarmActions { alarms: args.names, enabled }).await
}

pub async fn delete(args: NamesArgs) -> anyhow::Result<ExitCode> {
    tell(&args.common, Command::DeleteAlarms { alarms: args.names }).await
}
