//! `ukai dns`: the embedded DNS server. It leaves its parent's session, because it must outlive the controller.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};
use ukai_dns::Upstream;
use ukai_dns::server::{LockError, Server, ServerConfig, StartError};

use super::ask::{network, read_bounded};
use super::{DONE, Failed, REFUSED, USAGE};

const CONFIG_MAX: u64 = 1024 * 1024;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The whole configuration as JSON, as the daemon writes it.
    #[arg(long, value_name = "FILE", hide = true, conflicts_with_all = ["listen", "upstream", "overrides_dir", "allow_clients"])]
    config_json: Option<PathBuf>,
    /// Serve on this address, over UDP and TCP. May be given several times.
    #[arg(long, value_name = "ADDRESS:PORT", required_unless_present = "config_json")]
    listen: Vec<SocketAddr>,
    /// Forward to this resolver. May be given several times.
    #[arg(long, value_name = "URI", required_unless_present = "config_json")]
    upstream: Vec<Upstream>,
    /// Where overrides survive a restart, and where the control socket is.
    #[arg(long, value_name = "DIR", required_unless_present = "config_json")]
    overrides_dir: Option<PathBuf>,
    /// Answer clients in this network. Default: loopback and private networks.
    #[arg(long, value_name = "NET", value_parser = network)]
    allow_clients: Vec<IpNet>,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    super::log_to_stderr();
    let daemon_child = args.config_json.is_some();
    let config = config(args)?;
    if daemon_child {
        // Fails only where we lead a process group already, and then there is no session to leave.
        let _ = rustix::process::setsid();
    }
    let server = Server::start(config).await.map_err(|error| match error {
        // The daemon that started us attaches to the one that holds the directory.
        StartError::Lock(LockError::Held { .. }) => Failed::with(REFUSED, error.to_string()),
        error => Failed::with(USAGE, error.to_string()),
    })?;
    tracing::info!(listen = ?server.local_addresses(), process = std::process::id(), "the DNS server answers");
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be watched")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be watched")?;
    server
        .run(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await;
    tracing::info!("the DNS server has stopped; its overrides stay on disk");
    Ok(ExitCode::from(DONE))
}

fn config(args: Args) -> anyhow::Result<ServerConfig> {
    if let Some(file) = args.config_json {
        let json = read_bounded(&file, CONFIG_MAX).with_context(|| format!("{} cannot be read", file.display()))?;
        return serde_json::from_slice(&json).with_context(|| format!("{} cannot be understood", file.display()));
    }
    let dir = args.overrides_dir.context("--overrides-dir is needed")?;
    let control_socket = dir.join("control.sock");
    let mut config = ServerConfig::new(args.listen, args.upstream, dir, control_socket);
    if !args.allow_clients.is_empty() {
        config.allow_clients = args.allow_clients;
    }
    Ok(config)
}
