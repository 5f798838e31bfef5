//! `ukai run`: the daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::driver::{self, Source};

use super::{Failed, USAGE};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// URLs to watch, with good defaults and no configuration: nothing is changed, only said.
    #[arg(value_name = "URL")]
    urls: Vec<String>,
    /// The configuration. `ukai init URL` writes one. SIGHUP reads it again.
    #[arg(long, value_name = "FILE", conflicts_with = "urls")]
    config: Option<PathBuf>,
    /// Keep the log, the overrides and the reports here.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Do not tell on the terminal what happens.
    #[arg(long)]
    quiet: bool,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if args.config.is_none() && args.urls.is_empty() {
        return Err(Failed::with(
            USAGE,
            "there is nothing to watch: give a URL (ukai run https://HOST/PATH) or a configuration (ukai run --config ukai.toml)",
        ));
    }
    ukai_dnsd::log_to_stderr();
    let source = Source { file: args.config, urls: args.urls, data_dir: args.data_dir };
    driver::run(source, !args.quiet).await
}
