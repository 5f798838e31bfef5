//! `ukai lab-app`: the application of a drill, hidden because only the lab starts it.

use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The application's options, as the lab wrote them.
    json: String,
}

/// The application has a runtime of its own, as any application has.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    ukai_lab::app::main([args.json])?;
    Ok(ExitCode::SUCCESS)
}
