//! `ukai init` and `ukai config`: a configuration written, checked, described.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde_json::json;

use crate::config::{Config, json_schema, reference, template};

use super::paint::{Painted, Tone};
use super::{DONE, Failed, USAGE};

#[derive(Debug, clap::Args)]
pub struct InitArgs {
    /// The URL to watch.
    url: String,
    /// Where to write; `-` is the terminal. An existing file is not overwritten.
    #[arg(long, short, value_name = "FILE", default_value = "ukai.toml")]
    output: PathBuf,
}

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Say everything that is wrong with a configuration file.
    Check {
        #[arg(value_name = "FILE", default_value = "ukai.toml")]
        file: PathBuf,
        /// One JSON object: what is watched, and the warnings.
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of ukai.toml, for editors.
    Schema,
    /// Print the reference of every key, as Markdown.
    Reference,
}

pub fn init(args: InitArgs) -> anyhow::Result<ExitCode> {
    let text =
        template(&args.url).map_err(|error| Failed::with(USAGE, format!("this URL cannot be watched: {error}")))?;
    if args.output.as_os_str() == "-" {
        anstream::print!("{text}");
        return Ok(ExitCode::from(DONE));
    }
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(0o640).open(&args.output) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let message =
                format!("{} exists and is left as it is; choose another with --output", args.output.display());
            return Err(Failed::with(USAGE, message));
        }
        Err(error) => return Err(error).with_context(|| format!("{} cannot be written", args.output.display())),
    };
    file.write_all(text.as_bytes()).with_context(|| format!("{} cannot be written", args.output.display()))?;
    anstream::println!("wrote {0}; read it, then: ukai run --config {0}", args.output.display());
    Ok(ExitCode::from(DONE))
}

pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Schema => anstream::println!("{}", serde_json::to_string_pretty(&json_schema())?),
        Command::Reference => anstream::print!("{}", reference()),
        Command::Check { file, json } => {
            let config = Config::load(&file).map_err(|error| Failed::with(USAGE, error.to_string()))?;
            if json {
                let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
                let peers: Vec<&str> = config.peers.iter().map(|peer| peer.name.as_str()).collect();
                let said = json!({ "peers": peers, "controls": config.controls.len(), "warnings": warnings });
                anstream::println!("{said}");
                return Ok(ExitCode::from(DONE));
            }
            for warning in &config.warnings {
                anstream::eprintln!("{} {warning}", Painted(Tone::Warning, "warning:"));
            }
            let (peers, controls) = (config.peers.len(), config.controls.len());
            match peers {
                0 => anstream::println!("{} has no error, and watches no peer: {controls} control(s)", file.display()),
                _ => anstream::println!("{} is in order: {peers} peer(s), {controls} control(s)", file.display()),
            }
        }
    }
    Ok(ExitCode::from(DONE))
}
