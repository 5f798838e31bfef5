//! Looking at the daemon: status, incidents, overrides, plans, events, reports.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Context;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;
use ukai_core::diagnose::verdict::{Code, Verdict};
use ukai_core::input::ServedNow;
use ukai_core::overrides::{Override, Phase};
use ukai_core::state::Incident;

use crate::log::Position;
use crate::socket::Op;

use super::daemon::{Daemon, failed};
use super::matrix::print_verdict;
use super::narrate;
use super::paint::{Painted, Table, Tone, list, span, span_of};
use super::{BROKEN, DONE, Failed, export};

#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    #[command(flatten)]
    daemon: Daemon,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub async fn reload(args: ShowArgs) -> anyhow::Result<ExitCode> {
    let value = args.daemon.call(Op::Reload).await?;
    match args.json {
        true => anstream::println!("{value}"),
        false => anstream::println!("{}", value["text"].as_str().unwrap_or("done")),
    }
    Ok(ExitCode::from(DONE))
}

#[derive(Debug, clap::Args)]
pub struct IncidentsArgs {
    /// One incident in full, as `ukai incidents` lists it: inc-1.
    #[arg(value_name = "ID")]
    id: Option<String>,
    #[command(flatten)]
    show: ShowArgs,
}

#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    /// The override, as `ukai overrides` lists it: ovr-1.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    show: ShowArgs,
}

#[derive(Debug, clap::Args)]
pub struct ReportArgs {
    /// The incident, as `ukai incidents` lists it: inc-1.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    show: ShowArgs,
}

#[derive(Debug, clap::Args)]
pub struct EventsArgs {
    /// Only events after this position of the log.
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    from: Position,
    /// Wait for more.
    #[arg(long)]
    follow: bool,
    #[command(flatten)]
    show: ShowArgs,
}

pub async fn status(args: ShowArgs) -> anyhow::Result<ExitCode> {
    let status = args.daemon.call(Op::Status).await?;
    if args.json {
        return json(&status);
    }
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    anstream::println!(
        "ukai {}, process {}, up since {}, {} events in {}",
        text(&status["version"]),
        status["process"],
        whole_seconds(&status["started_at"]),
        status["position"],
        text(&status["data_dir"]),
    );
    match status["dns"].as_array() {
        Some(listen) => anstream::println!("serves DNS on {}", list(listen.iter().map(text))),
        None => match status["zone"].as_str() {
            Some(zone) => anstream::println!("overrides go into {zone}"),
            None => anstream::println!("serves no DNS: overrides have nowhere to take effect"),
        },
    }
    if let Some(trouble) = status["zone_trouble"].as_str() {
        anstream::println!("{}", Painted(Tone::Bad, format_args!("what stands there is not known: {trouble}")));
    }
    if let Some(trouble) = status["trouble"].as_str() {
        anstream::println!("{}", Painted(Tone::Bad, format_args!("nothing can be decided: {trouble}")));
    }
    let metrics = &status["metrics"];
    if metrics["received"] != 0 || metrics["refused"] != 0 {
        anstream::println!("metrics: {} data received, {} refused", metrics["received"], metrics["refused"]);
    }
    if let Some(refusal) = metrics["last_refusal"].as_str() {
        anstream::println!("{}", Painted(Tone::Warning, format_args!("metrics refused last: {refusal}")));
    }
    if !status["frozen"].is_null() {
        let frozen = &status["frozen"];
        let why = frozen["why"].as_str().filter(|why| !why.is_empty()).unwrap_or("no reason was given");
        let by = text(&frozen["by"]["name"]);
        let line =
            format!("frozen by {by} at {}: {why}; no automatic change until `ukai thaw`", whole_seconds(&frozen["at"]));
        anstream::println!("{}", Painted(Tone::Warning, line));
    }
    let mut table = Table::with_header(&["peer", "host", "level", "alarms", "incident", "override", "verdict"]);
    for peer in status["peers"].as_array().into_iter().flatten() {
        let alarms = peer["alarms"].as_array().cloned().unwrap_or_default();
        let in_alarm: Vec<&Value> = alarms.iter().filter(|alarm| alarm["state"] == "ALARM").collect();
        let shown = if alarms.is_empty() {
            "no data".to_owned()
        } else if in_alarm.is_empty() {
            "OK".to_owned()
        } else {
            let muted = |alarm: &Value| if alarm["muted_until"].is_null() { "" } else { " (muted)" };
            list(in_alarm.iter().map(|alarm| text(&alarm["alarm"]) + muted(alarm)))
        };
        let tone = if !in_alarm.is_empty() { Tone::Bad } else { Tone::Plain };
        let verdict = match &peer["verdict"] {
            Value::Null => "-".to_owned(),
            verdict => shown_verdict(&text(&verdict["code"]), &text(&verdict["sure"])),
        };
        let row = [&peer["name"], &peer["host"], &peer["level"]].map(text);
        let mut row = row.to_vec();
        row.extend([shown, text(&peer["incident"]), text(&peer["override"]), verdict]);
        table.row(tone, row);
    }
    anstream::print!("{table}");
    print_leftovers(&status["leftovers"]);
    for line in muted_alarms(&status) {
        anstream::println!("{}", Painted(Tone::Warning, line));
    }
    if let Some(overrides) = status["overrides"].as_array().filter(|overrides| !overrides.is_empty()) {
        anstream::print!("\n{}", live_overrides(overrides, Timestamp::now()));
    }
    Ok(ExitCode::from(DONE))
}

/// What is over and still stands: nobody else ends it.
fn print_leftovers(leftovers: &Value) {
    for left in leftovers.as_array().into_iter().flatten() {
        let text = |key: &str| left[key].as_str().unwrap_or("-");
        let addresses = left["addresses"].as_array().filter(|addresses| !addresses.is_empty());
        let stands =
            addresses.map(|all| format!(" ({})", list(all.iter().filter_map(Value::as_str)))).unwrap_or_default();
        let why = left["why"].as_str().unwrap_or("it is being taken away");
        let line = format!("{} for {} is over and still there{stands}: {why}", text("id"), text("host"));
        anstream::println!("{}", Painted(Tone::Bad, line));
    }
}

/// Whose actions do not run now, and until when: a line for each rule.
fn muted_alarms(status: &Value) -> Vec<String> {
    let muted = status["muted"].as_array().map_or(&[][..], Vec::as_slice);
    let mut by_rule: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for one in muted {
        let text = |key: &str| one[key].as_str().unwrap_or("-");
        by_rule.entry((text("until"), text("by"))).or_default().push(text("alarm"));
    }
    let mut lines: Vec<String> = by_rule
        .into_iter()
        .map(|((until, by), alarms)| {
            let until = until.parse().map_or_else(|_| until.to_owned(), |at: Timestamp| format!("{at:.0}"));
            format!("muted until {until} by {by}: {}", list(alarms))
        })
        .collect();
    let more = status["muted_total"].as_u64().unwrap_or(0).saturating_sub(muted.len() as u64);
    if more > 0 {
        lines.push(format!("and {more} more alarms are muted; `ukai alarms mute` lists the rules"));
    }
    lines
}

/// What stands, is going or waits for somebody, from the daemon's status.
fn live_overrides(overrides: &[Value], now: Timestamp) -> Table {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let mut table = Table::with_header(&["override", "peer", "state", "addresses", "until", "application"]);
    for over in overrides {
        let until = match moment(&over["expires_at"]) {
            Some(at) => format!("{at:.0} (in {})", span(at.duration_since(now).as_secs())),
            None => "not applied yet".to_owned(),
        };
        let application = match moment(&over["application_seen_at"]) {
            Some(at) => format!("seen to succeed at {at:.0}"),
            None => "not seen".to_owned(),
        };
        let addresses = list(over["addresses"].as_array().into_iter().flatten().map(text));
        table.row(
            Tone::Warning,
            vec![text(&over["id"]), text(&over["peer"]), text(&over["phase"]), addresses, until, application],
        );
    }
    table
}

fn moment(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

fn whole_seconds(value: &Value) -> String {
    moment(value).map_or_else(|| "-".to_owned(), |at| format!("{at:.0}"))
}

pub async fn incidents(args: IncidentsArgs) -> anyhow::Result<ExitCode> {
    let value = args.show.daemon.call(Op::Incidents).await?;
    let incidents: Vec<ShownIncident> =
        serde_json::from_value(value.clone()).context("the daemon's answer is not understood")?;
    let Some(id) = &args.id else {
        if args.show.json {
            return json(&value);
        }
        return table_of(&incidents);
    };
    let shown = incidents.iter().find(|shown| &shown.incident.id == id).ok_or_else(|| {
        Failed::with(BROKEN, format!("there is no incident {id} among the recent ones; `ukai incidents` lists them"))
    })?;
    let incident = &shown.incident;
    if args.show.json {
        return json(&serde_json::to_value(incident)?);
    }
    anstream::println!("{} {}", Painted(Tone::Strong, &incident.id), incident.summary);
    anstream::println!(
        "  {} fails at {} ({}) since {:.0}; opened {:.0}{}",
        incident.peer,
        incident.stage.name(),
        incident.class.name(),
        incident.failing_since,
        incident.opened_at,
        incident
            .closed_at
            .map(|at| format!("; closed {at:.0}: {}", incident.close_reason.as_deref().unwrap_or("")))
            .unwrap_or_default(),
    );
    for refusal in &incident.refusals {
        anstream::println!(
            "  {} {}: {}",
            Painted(Tone::Warning, "an override is refused by"),
            refusal.guard,
            refusal.reason
        );
    }
    if let Some(over) = &incident.r#override {
        anstream::println!("  override {}; see `ukai plan {over}`", shown.shown_override());
    }
    if let Some(verdict) = &incident.verdict {
        print_verdict(verdict);
    }
    Ok(ExitCode::from(DONE))
}

/// An incident, and how its last override is.
#[derive(Deserialize)]
struct ShownIncident {
    #[serde(flatten)]
    incident: Incident,
    override_phase: Option<Phase>,
}

impl ShownIncident {
    /// One that is over is not the incident's override any more, and is shown as what it was.
    fn shown_override(&self) -> String {
        match (&self.incident.r#override, self.override_phase) {
            (None, _) => "-".to_owned(),
            (Some(id), Some(phase)) if phase.is_pending() || phase.may_stand() => format!("{id}: {}", phase.name()),
            (Some(id), Some(Phase::Withheld)) => format!("none ({id} was only shown)"),
            (Some(id), Some(phase)) => format!("none ({id} is over: {})", phase.name()),
            (Some(id), None) => format!("none ({id} is over)"),
        }
    }
}

fn table_of(incidents: &[ShownIncident]) -> anyhow::Result<ExitCode> {
    if incidents.is_empty() {
        anstream::println!("no incidents");
    } else {
        let mut table = Table::with_header(&["incident", "peer", "opened", "state", "layer", "verdict", "override"]);
        for shown in incidents {
            let incident = &shown.incident;
            let state = incident.closed_at.map_or_else(|| "open".to_owned(), |at| format!("closed {at:.0}"));
            let verdict = |verdict: &Verdict| shown_verdict(verdict.code.name(), verdict.sure.name());
            table.row(
                if incident.closed_at.is_none() { Tone::Bad } else { Tone::Plain },
                vec![
                    incident.id.clone(),
                    incident.peer.clone(),
                    format!("{:.0}", incident.opened_at),
                    state,
                    format!("{}: {}", incident.stage.name(), incident.class.name()),
                    incident.verdict.as_ref().map_or_else(|| "-".to_owned(), verdict),
                    shown.shown_override(),
                ],
            );
        }
        anstream::print!("{table}");
    }
    Ok(ExitCode::from(DONE))
}

/// The code and how sure it is; of a cause that is not known there is nothing to be sure of.
fn shown_verdict(code: &str, sure: &str) -> String {
    if code == Code::Open.name() { "not known yet".to_owned() } else { format!("{code} ({sure})") }
}

#[derive(Deserialize)]
struct Overrides {
    overrides: Vec<Override>,
    /// What the DNS process itself says; None: there is none, or it does not answer.
    serving: Option<Vec<ServedNow>>,
    trouble: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct OverridesArgs {
    #[command(subcommand)]
    command: Option<OverridesCommand>,
    #[command(flatten)]
    show: ShowArgs,
}

#[derive(Debug, clap::Subcommand)]
enum OverridesCommand {
    /// What stands, for DNS servers that ukai does not write to.
    #[command(after_help = "Example:\n  ukai overrides export --rpz rpz.example.net > rpz.zone")]
    Export(export::Args),
}

pub async fn overrides(args: OverridesArgs) -> anyhow::Result<ExitCode> {
    if let Some(OverridesCommand::Export(export)) = args.command {
        return export::run(export).await;
    }
    let args = args.show;
    let value = args.daemon.call(Op::Overrides).await?;
    if args.json {
        return json(&value);
    }
    print_leftovers(&value["leftovers"]);
    let Overrides { overrides, serving, trouble } =
        serde_json::from_value(value).context("the daemon's answer is not understood")?;
    if let Some(trouble) = trouble {
        anstream::println!("{}", Painted(Tone::Bad, trouble));
    }
    let served: BTreeMap<String, ServedNow> =
        serving.into_iter().flatten().map(|served| (served.id.clone(), served)).collect();
    if overrides.is_empty() && served.is_empty() {
        anstream::println!("no overrides");
        return Ok(ExitCode::from(DONE));
    }
    let mut table = Table::with_header(&["override", "host", "state", "addresses", "until", "served"]);
    for over in &overrides {
        let tone = if over.phase.stands() { Tone::Warning } else { Tone::Plain };
        let until = over.expires_at.filter(|_| over.ended_at.is_none()).map_or_else(
            || "-".to_owned(),
            |at| format!("{at:.0} (in {})", span(at.duration_since(Timestamp::now()).as_secs())),
        );
        let now = served.get(&over.id).map_or_else(|| "no".to_owned(), |served| list(&served.addresses));
        table.row(
            tone,
            vec![
                over.id.clone(),
                over.plan.host.clone(),
                over.phase.name().to_owned(),
                list(&over.addresses),
                until,
                now,
            ],
        );
    }
    for unknown in served.values().filter(|served| !overrides.iter().any(|over| over.id == served.id)) {
        let row = vec![
            unknown.id.clone(),
            unknown.host.clone(),
            "not known to the daemon".to_owned(),
            list(&unknown.addresses),
            format!("{:.0}", unknown.expires_at),
            "yes".to_owned(),
        ];
        table.row(Tone::Bad, row);
    }
    anstream::print!("{table}");
    Ok(ExitCode::from(DONE))
}

pub async fn plan(args: PlanArgs) -> anyhow::Result<ExitCode> {
    let value = args.show.daemon.call(Op::Plan { override_id: args.id }).await?;
    if args.show.json {
        return json(&value);
    }
    print_plan(&serde_json::from_value(value).context("the daemon's answer is not understood")?);
    Ok(ExitCode::from(DONE))
}

/// The plan as somebody reads it who is about to say yes.
pub fn print_plan(over: &Override) {
    let plan = &over.plan;
    let row =
        |name: &str, text: String| anstream::println!("  {} {text}", Painted(Tone::Faint, format_args!("{name:<11}")));
    anstream::println!("{} for {}: {}", Painted(Tone::Strong, &over.id), plan.host, over.phase.name());
    row("incident", format!("{}, {}", plan.incident, plan.verdict));
    row("serve", format!("{} ({}, TTL {} s)", list(&plan.addresses), plan.mode.name(), plan.ttl_s));
    row("in place of", plan.existing.clone());
    row("types", plan.types.clone());
    row("sources", list(&plan.sources));
    row(
        "must prove",
        format!(
            "keys {}; issuers {}; networks {}",
            list(&plan.anchors.keys),
            list(&plan.anchors.issuers),
            list(&plan.anchors.networks)
        ),
    );
    row("lease", format!("{}, reverted after {} good checks in a row", span_of(plan.lease_s), plan.revert_after));
    row("inverse", plan.inverse.clone());
    row("approvals", format!("{} of {}", over.approvals.len(), plan.approvals));
    for approval in &over.approvals {
        row("", narrate::person(approval));
    }
    for shown in &plan.shown {
        anstream::println!("  {} {}: {}", Painted(Tone::Warning, "look at"), shown.guard, shown.reason);
    }
    for mind in &plan.mind {
        anstream::println!("  {} {mind}", Painted(Tone::Warning, "mind"));
    }
    row("hash", over.hash.clone());
}

pub async fn report(args: ReportArgs) -> anyhow::Result<ExitCode> {
    let value = args.show.daemon.call(Op::Report { incident: args.id }).await?;
    if args.show.json {
        return json(&value);
    }
    anstream::println!("{}", value["markdown"].as_str().unwrap_or_default());
    let paths: Vec<&str> = value["paths"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !paths.is_empty() {
        anstream::eprintln!("{}", Painted(Tone::Faint, format_args!("also in {}", list(paths))));
    }
    Ok(ExitCode::from(DONE))
}

pub async fn events(args: EventsArgs) -> anyhow::Result<ExitCode> {
    let client = args.show.daemon.connect().await?;
    let mut events = client.events(args.from, args.follow).await.map_err(failed)?;
    while let Some(event) = events.next().await.map_err(failed)? {
        if args.show.json {
            use std::io::Write;
            let mut out = std::io::stdout().lock();
            let line = serde_json::to_string(&event)?;
            // Whoever reads has had enough.
            if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
                break;
            }
        } else if narrate::print_to_stdout(&event.recorded).is_err() {
            break;
        }
    }
    Ok(ExitCode::from(DONE))
}

fn json(value: &Value) -> anyhow::Result<ExitCode> {
    anstream::println!("{}", serde_json::to_string_pretty(value)?);
    Ok(ExitCode::from(DONE))
}
