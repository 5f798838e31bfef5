//! The command line. Every command says what it did or what is wrong, on the terminal or as JSON.
//!
//! Exit codes: 0 done, or observed healthy; 1 the peer is broken, or it was not done, or there is no such incident,
//! override or alarm; 2 usage or configuration; 3 no daemon; 4 refused, by the daemon or because its socket is not for you.
//!
//! Everything is printed with `anstream`, which takes a reader who has had enough (`| head`) as no error.

mod alarms;
mod ask;
mod check;
mod configuration;
mod control;
mod daemon;
mod drill;
mod evidence;
mod explain;
mod export;
mod failure;
mod history;
mod journal;
mod keeper;
mod lab_app;
mod matrix;
mod metrics;
pub mod narrate;
mod offline;
mod overrides;
mod paint;
mod queries;
mod run;
mod vantage;

use std::process::ExitCode;

pub use failure::Failed;

use clap::{CommandFactory, Parser, Subcommand};

/// Done, or observed healthy.
pub const DONE: u8 = 0;
/// The peer is broken, or what was asked was not done.
pub const BROKEN: u8 = 1;
/// The command line or the configuration is wrong.
pub const USAGE: u8 = 2;
/// No daemon answers.
pub const NO_DAEMON: u8 = 3;
/// The daemon refused, or its socket is not for this user.
pub const REFUSED: u8 = 4;

/// ukai watches services that other people run, says which layer broke, and takes your application around the damage.
#[derive(Debug, Parser)]
#[command(
    name = "ukai",
    version,
    propagate_version = true,
    max_term_width = 110,
    after_help = "Exit codes: 0 done, or observed healthy; 1 the peer is broken, or it was not done, or there is no such \
                  incident, override or alarm; 2 usage or configuration; 3 no daemon; 4 refused, by the daemon or because \
                  its socket is not for you.\nWith --json an error is one object on standard error: \
                  {\"error\": {\"what\": …, \"mend\": … or null, \"exit_code\": …}}."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Probe one URL now, address by address and stage by stage.
    #[command(
        after_help = "Example:\n  ukai check https://api.peer.example/health\n  ukai check https://api.peer.example/health --address 192.0.2.7 --json"
    )]
    Check(check::Args),
    /// Ask everybody about a host, try every address, and say what is wrong and why. Needs no daemon.
    #[command(
        after_help = "Example:\n  ukai explain api.peer.example\n  ukai explain api.peer.example --json --save evidence.json\n  ukai explain --incident inc-1 --why-not peer_down\n  ukai explain --from evidence.json\n  ukai explain --rules"
    )]
    Explain(explain::Args),
    /// Watch peers: alarm, diagnose, propose, and apply what is approved.
    #[command(after_help = "Example:\n  ukai run https://api.peer.example/health\n  ukai run --config ukai.toml")]
    Run(run::Args),
    /// Write a commented ukai.toml for one URL.
    #[command(after_help = "Example:\n  ukai init https://api.peer.example/health")]
    Init(configuration::InitArgs),
    /// Check a configuration file, or print its JSON Schema.
    #[command(subcommand)]
    #[command(after_help = "Example:\n  ukai config check ukai.toml")]
    Config(configuration::Command),
    /// Teach the daemon what normal looks like from a record of the past.
    #[command(subcommand)]
    #[command(after_help = "Example:\n  ukai history import week.json --data-dir /var/lib/ukai")]
    History(history::Command),
    /// What is watched, how it is, and what stands.
    #[command(after_help = "Example:\n  ukai status\n  ukai status --json")]
    Status(control::ShowArgs),
    /// Alarms: list, show, try on data, move to and from CloudWatch, mute.
    #[command(
        after_help = "Example:\n  ukai alarms\n  ukai alarms --state ALARM --peer api\n  ukai alarms show api/errors"
    )]
    Alarms(alarms::Args),
    /// Metrics that are kept, with their newest values.
    #[command(after_help = "Example:\n  ukai metrics\n  ukai metrics --namespace Shop --over 15m")]
    Metrics(metrics::Args),
    /// Incidents, or one of them in full.
    #[command(after_help = "Example:\n  ukai incidents\n  ukai incidents inc-1")]
    Incidents(control::IncidentsArgs),
    /// Overrides that stand, are proposed or have ended.
    #[command(
        after_help = "Example:\n  ukai overrides\n  ukai overrides export --rpz rpz.example.net > rpz.zone\n  ukai overrides export --coredns"
    )]
    Overrides(control::OverridesArgs),
    /// One override's plan, its hash, and what a person must look at.
    #[command(after_help = "Example:\n  ukai plan ovr-1")]
    Plan(control::PlanArgs),
    /// Approve a plan, bound to the hash of what you saw.
    #[command(after_help = "Example:\n  ukai approve ovr-1 --why \"the peer confirmed the new address\"")]
    Approve(overrides::ApproveArgs),
    /// Reject a plan.
    #[command(after_help = "Example:\n  ukai reject ovr-1 --why \"the peer is back in ten minutes\"")]
    Reject(overrides::DecideArgs),
    /// Take an override back, or all of them.
    #[command(
        after_help = "Example:\n  ukai revert ovr-1 --why \"the peer called\"\n  ukai revert --all\n  ukai revert --all --offline"
    )]
    Revert(overrides::RevertArgs),
    /// Give a standing override more time.
    #[command(after_help = "Example:\n  ukai extend ovr-1 --lease 2h --why \"their resolver is still stale\"")]
    Extend(overrides::ExtendArgs),
    /// Ask for a plan that pins a peer to these addresses.
    #[command(after_help = "Example:\n  ukai pin api 192.0.2.7 --why \"given by the peer on the phone\"")]
    Pin(overrides::PinArgs),
    /// Stop every automatic change until `thaw`.
    #[command(after_help = "Example:\n  ukai freeze --why \"a deploy\"")]
    Freeze(overrides::WhyArgs),
    /// Allow automatic changes again.
    #[command(after_help = "Example:\n  ukai thaw --why \"the deploy is over\"")]
    Thaw(overrides::WhyArgs),
    /// The incident, told: time line, evidence, options, decisions.
    #[command(after_help = "Example:\n  ukai report inc-1")]
    Report(control::ReportArgs),
    /// Have the daemon read its configuration again, as SIGHUP does.
    #[command(after_help = "Example:\n  ukai reload")]
    Reload(control::ShowArgs),
    /// What happened, as recorded.
    #[command(after_help = "Example:\n  ukai events --follow\n  ukai events --from 120 --json")]
    Events(control::EventsArgs),
    /// The event log as a file.
    #[command(subcommand)]
    #[command(after_help = "Example:\n  ukai log export --data-dir /var/lib/ukai")]
    Log(journal::Command),
    /// Play outages on real sockets on this machine and see whether they end well.
    Drill(drill::Args),
    /// Write one archive of an incident for the peer's support or the cloud's: a page in English and Japanese, messages,
    /// probes, certificates, time line; without secrets and unrelated names.
    #[command(
        after_help = "Example:\n  ukai evidence inc-1\n  ukai evidence inc-1 --contact \"noc@example.com\" --out for-support.tar.gz"
    )]
    Evidence(evidence::Args),
    /// Say what this machine sees of a peer, to a controller in another network that asks.
    #[command(after_help = "Example:\n  ukai vantage --config vantage.toml")]
    Vantage(vantage::Args),
    #[command(about = ukai_dnsd::ABOUT, after_help = ukai_dnsd::EXAMPLE)]
    Dns(ukai_dnsd::Args),
    /// Have the DNS process log what it is asked, for a while.
    #[command(after_help = "Example:\n  ukai queries --for 60 --every 10\n  ukai queries --clients --for 10")]
    Queries(queries::Args),
    /// Print completions for a shell.
    #[command(after_help = "Example:\n  ukai completions bash > /etc/bash_completion.d/ukai")]
    Completions { shell: clap_complete::Shell },
    /// Ends leases in a zone of somebody else's when ukai is dead. `run` starts it where the configuration has [rfc2136] or [unbound].
    #[command(hide = true)]
    Keeper(keeper::Args),
    #[command(hide = true)]
    LabApp(lab_app::Args),
}

/// Runs the command line and says how it ended.
pub fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let program = args.next().unwrap_or_default();
    if args.next().is_some_and(|command| command == "dns") {
        // The whole command line is not even built: this process stays, and is to stay small.
        return ukai_dnsd::main(std::iter::once(program).chain(args).collect());
    }
    let as_json = failure::wants_json(std::env::args_os());
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return failure::tell_usage(&error, as_json),
    };
    with_runtime(as_json, |runtime| match cli.command {
        Command::LabApp(args) => lab_app::run(args),
        command => runtime.block_on(dispatch(command)),
    })
}

fn with_runtime(as_json: bool, run: impl FnOnce(&tokio::runtime::Runtime) -> anyhow::Result<ExitCode>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let error = anyhow::Error::new(error).context("the asynchronous runtime could not be started");
            return failure::tell(&error, as_json);
        }
    };
    let result = run(&runtime);
    // A name lookup or a file on a dead disk must not keep the process.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) => failure::tell(&error, as_json),
    }
}

async fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Check(args) => check::run(args).await,
        Command::Explain(args) => explain::run(args).await,
        Command::Run(args) => run::run(args).await,
        Command::Init(args) => configuration::init(args),
        Command::Config(command) => configuration::run(command),
        Command::History(command) => history::run(command).await,
        Command::Status(args) => control::status(args).await,
        Command::Alarms(args) => alarms::run(args).await,
        Command::Metrics(args) => metrics::run(args).await,
        Command::Incidents(args) => control::incidents(args).await,
        Command::Overrides(args) => control::overrides(args).await,
        Command::Plan(args) => control::plan(args).await,
        Command::Approve(args) => overrides::approve(args).await,
        Command::Reject(args) => overrides::reject(args).await,
        Command::Revert(args) => overrides::revert(args).await,
        Command::Extend(args) => overrides::extend(args).await,
        Command::Pin(args) => overrides::pin(args).await,
        Command::Freeze(args) => overrides::freeze(args).await,
        Command::Thaw(args) => overrides::thaw(args).await,
        Command::Reload(args) => control::reload(args).await,
        Command::Report(args) => control::report(args).await,
        Command::Events(args) => control::events(args).await,
        Command::Log(command) => journal::run(command),
        Command::Drill(args) => drill::run(args).await,
        Command::Evidence(args) => evidence::run(args).await,
        Command::Vantage(args) => vantage::run(args).await,
        Command::Dns(args) => Ok(tokio::task::block_in_place(|| ukai_dnsd::serve(args))),
        Command::Keeper(args) => keeper::run(args).await,
        Command::Queries(args) => queries::run(args).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "ukai", &mut script);
            anstream::print!("{}", String::from_utf8_lossy(&script));
            Ok(ExitCode::from(DONE))
        }
        Command::LabApp(args) => lab_app::run(args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_command_has_help() {
        let command = Cli::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            assert!(sub.get_about().is_some(), "{} has no help", sub.get_name());
        }
    }
}
