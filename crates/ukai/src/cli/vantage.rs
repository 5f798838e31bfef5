//! `ukai vantage`: says what it sees of a peer to a controller in another network.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::{DONE, Failed, USAGE};
use crate::config::Config;
use crate::gather::configure;
use crate::vantage::VantageService;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration: its peers, its resolver, and `[vantage_service]`.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    ukai_dnsd::log_to_stderr();
    let config = Config::load(&args.config).map_err(|error| Failed::with(USAGE, error.to_string()))?;
    let service = config.vantage_service.clone().ok_or_else(|| {
        let sentence = "has no [vantage_service]; write one with a token, such as token_file = \"vantage.token\"";
        Failed::with(USAGE, format!("{} {sentence}", args.config.display()))
    })?;
    let service = VantageService::bind(service.listen, service.token, configure(&config)?)
        .await
        .with_context(|| format!("cannot listen on {}; change vantage_service.listen", service.listen))?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be watched")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be watched")?;
    tracing::info!(listen = %service.local_address()?, peers = config.peers.len(), "the vantage answers");
    tokio::select! {
        () = service.run() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(ExitCode::from(DONE))
}
