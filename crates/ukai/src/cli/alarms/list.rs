//! `ukai alarms` and `ukai alarms show`.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Context;
use ukai_core::alarm::AlarmState;
use ukai_core::alarm::missing_data::{Cell, Slot};

use super::treatment::{after, sentence};
use super::{Common, all, json_of};
use crate::cli::paint::{Painted, Table, Tone};
use crate::cli::{BROKEN, DONE, Failed};
use crate::config::suggestion;
use crate::driver::alarms::{AlarmInFull, Child, Judged, Period, ShownAlarm};
use crate::socket::Op;

#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Only alarms in this state.
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<AlarmState>,
    /// Only alarms about this peer.
    #[arg(long, value_name = "PEER")]
    peer: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The alarm, as `ukai alarms` lists it.
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    common: Common,
}

/// A state by CloudWatch's name for it.
pub fn state(text: &str) -> Result<AlarmState, String> {
    let all = [AlarmState::Ok, AlarmState::Alarm, AlarmState::InsufficientData];
    let found = all.into_iter().find(|state| state.name().eq_ignore_ascii_case(text));
    found.ok_or_else(|| "a state is OK, ALARM or INSUFFICIENT_DATA".to_owned())
}

pub fn tone(state: AlarmState) -> Tone {
    match state {
        AlarmState::Alarm => Tone::Bad,
        AlarmState::InsufficientData => Tone::Faint,
        AlarmState::Ok => Tone::Plain,
    }
}

pub async fn list(args: ListArgs) -> anyhow::Result<ExitCode> {
    let mut alarms = all(&args.common.daemon).await?;
    if let Some(peer) = &args.peer {
        check_peer(peer, &alarms)?;
    }
    alarms.retain(|alarm| args.state.is_none_or(|state| alarm.state == state));
    alarms.retain(|alarm| args.peer.as_ref().is_none_or(|peer| alarm.peer == *peer));
    alarms.sort_by_key(|alarm| match alarm.state {
        AlarmState::Alarm => 0,
        AlarmState::InsufficientData => 1,
        AlarmState::Ok => 2,
    });
    if args.common.json {
        return json_of(&alarms);
    }
    if alarms.is_empty() {
        match args.state {
            Some(state) => anstream::println!("no alarm is in {}", state.name()),
            None => anstream::println!("no alarms"),
        }
        return Ok(ExitCode::from(DONE));
    }
    let mut table = Table::with_header(&["state", "alarm", "since", "reason"]);
    for alarm in &alarms {
        let quiet = quiet(alarm).map(|why| format!("({why}) ")).unwrap_or_default();
        let reason = format!("{quiet}{}", alarm.reason);
        table.row(
            tone(alarm.state),
            vec![alarm.state.name().to_owned(), alarm.name.clone(), format!("{:.0}", alarm.since), reason],
        );
    }
    anstream::print!("{table}");
    Ok(ExitCode::from(DONE))
}

/// Each peer has alarms, so one without any is none: to say that nothing is wrong with it would be wrong.
fn check_peer(peer: &str, alarms: &[ShownAlarm]) -> anyhow::Result<()> {
    let peers: BTreeSet<&str> =
        alarms.iter().map(|alarm| alarm.peer.as_str()).filter(|name| !name.is_empty()).collect();
    if peers.contains(peer) {
        return Ok(());
    }
    let message = format!("there is no peer {peer}{}", suggestion(peer, peers));
    Err(Failed::with(BROKEN, message))
}

/// Why its actions would not run.
fn quiet(alarm: &ShownAlarm) -> Option<String> {
    match (&alarm.muted_by, alarm.definition.actions_enabled) {
        (_, false) => Some("actions disabled".to_owned()),
        (Some(rule), true) => {
            let until = alarm.muted_until.map(|at| format!(" until {at:.0}")).unwrap_or_default();
            Some(format!("muted by {rule}{until}"))
        }
        (None, true) => None,
    }
}

pub async fn show(args: ShowArgs) -> anyhow::Result<ExitCode> {
    let value = args.common.daemon.call(Op::Alarm { name: args.name }).await?;
    if args.common.json {
        return json_of(&value);
    }
    let full: AlarmInFull = serde_json::from_value(value).context("the daemon's answer is not understood")?;
    let alarm = &full.alarm;
    let since = format!("since {:.0}", alarm.since);
    anstream::println!(
        "{} {}, {since}",
        Painted(Tone::Strong, &alarm.name),
        Painted(tone(alarm.state), alarm.state.name())
    );
    anstream::println!("  {}", alarm.reason);
    if let Some(why) = quiet(alarm).or(full.suppressed.clone()) {
        anstream::println!("  {}", Painted(Tone::Warning, why));
    }
    let state_of = |child: &Child| child.state.map_or("does not exist", AlarmState::name);
    for child in &full.children {
        anstream::println!("  {} {}", child.name, state_of(child));
    }
    if let Some(suppressor) = &full.suppressor {
        anstream::println!("  suppressor: {} {}", suppressor.name, state_of(suppressor));
    }
    if let Some(judged) = &full.judged {
        print_judged(judged, alarm.state);
    }
    if let Some(data) = &full.reason_data {
        anstream::println!("{} {data}", Painted(Tone::Faint, "reason data"));
    }
    let kind = if alarm.is_default { "definition (a default)" } else { "definition" };
    let definition = serde_json::to_string_pretty(&alarm.definition)?;
    anstream::println!("{} {}\n{definition}", Painted(Tone::Faint, kind), full.arn);
    Ok(ExitCode::from(DONE))
}

fn print_judged(judged: &Judged, state: AlarmState) {
    let Judged { n, m, treat_missing_data, .. } = judged;
    anstream::println!("  {m} of {n} periods of {} s, missing data: {}", judged.period_s, treat_missing_data.name());
    let mut table = Table::with_header(&["period", "value", "samples", "is", "became"]);
    for period in &judged.periods {
        let value = period.value.map_or_else(|| "-".to_owned(), |value| value.to_string());
        let band = period.band.map(|(lower, upper)| format!(" (band {lower} to {upper})")).unwrap_or_default();
        table.row(
            if period.slot == Slot::Breaching { Tone::Bad } else { Tone::Plain },
            vec![
                format!("{:.0}", period.start),
                format!("{value}{band}"),
                period.sample_count.map_or_else(|| "-".to_owned(), |count| count.to_string()),
                slot_name(period.slot).to_owned(),
                became(period, *n),
            ],
        );
    }
    anstream::print!("{table}");
    let Judged { rule, filled, .. } = *judged;
    anstream::println!("  {}", sentence(rule, *n, *m, filled, *treat_missing_data));
    anstream::println!("  judged now: {}", after(judged.state, Some(state)));
}

fn became(period: &Period, n: usize) -> String {
    cell_name(period.became, n)
}

pub fn slot_name(slot: Slot) -> &'static str {
    match slot {
        Slot::Breaching => "breaching",
        Slot::Fine => "fine",
        Slot::Missing => "missing",
    }
}

pub fn cell_name(cell: Cell, n: usize) -> String {
    match cell {
        Cell::Judged => "judged".to_owned(),
        Cell::LeftOut => format!("left out: older than the newest {n}"),
        Cell::Missing => "missing".to_owned(),
    }
}
