//! Looking at the daemon: incidents, overrides, plans, events, reports.

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
use super::{BROKEN, DONE, Failed, export, status};

#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    #[command(flatten)]
    pub daemon: Daemon,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
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
pub(super) fn shown_verdict(code: &str, sure: &str) -> String {
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
    for line in status::leftovers(&value) {
        anstream::println!("{}", Painted(Tone::Bad, line));
    }
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

pub(super) fn json(value: &Value) -> anyhow::Result<ExitCode> {
    anstream::println!("{}", serde_json::to_string_pretty(value)?);
    Ok(ExitCode::from(DONE))
}
