//! `ukai alarms history`.

use std::process::ExitCode;

use anyhow::Context;
use serde::Deserialize;
use ukai_core::alarm::history::{HistoryItem, HistoryItemType};

use super::{Common, json_of};
use crate::cli::DONE;
use crate::cli::paint::{Table, Tone};
use crate::socket::Op;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The alarm, as `ukai alarms` lists it; one that was deleted has its history still.
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Told {
    alarm_history_items: Vec<HistoryItem>,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let value = args.common.daemon.call(Op::AlarmHistory { name: args.name }).await?;
    if args.common.json {
        return json_of(&value);
    }
    let told: Told = serde_json::from_value(value).context("the daemon's answer is not understood")?;
    if told.alarm_history_items.is_empty() {
        anstream::println!("nothing happened to it within two weeks");
        return Ok(ExitCode::from(DONE));
    }
    let mut table = Table::with_header(&["at", "item", "what"]);
    for item in told.alarm_history_items {
        let (kind, tone) = match item.history_item_type {
            HistoryItemType::ConfigurationUpdate => ("ConfigurationUpdate", Tone::Faint),
            HistoryItemType::StateUpdate => ("StateUpdate", Tone::Strong),
            HistoryItemType::Action => ("Action", Tone::Plain),
        };
        table.row(tone, vec![format!("{:.0}", item.timestamp), kind.to_owned(), item.history_summary]);
    }
    anstream::print!("{table}");
    Ok(ExitCode::from(DONE))
}
