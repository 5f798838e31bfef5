//! `ukai lab-app`: the application of a drill, hidden because only the lab starts it.

use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The application's options, as the lab wrote them.
    json: String,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    ukai_lab::app::main(&args.json).await?;
    Ok(ExitCode::SUCCESS)
}
