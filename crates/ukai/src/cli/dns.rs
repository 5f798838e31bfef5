//! `ukai dns`: the embedded DNS server. It leaves its parent's session, because it must outlive the controller.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};
use ukai_dns::server::{LockError, MAX_THREADS, PolicyZone, Route, Server, ServerConfig, StartError};
use ukai_dns::{Name, Upstream};

use super::ask::{network, read_bounded};
use super::{DONE, Failed, REFUSED, USAGE};

pub const ABOUT: &str =
    "The embedded DNS server, a process of its own. `run` starts it where the configuration has a [dns] section";
pub const EXAMPLE: &str =
    "Example:\n  ukai dns --listen 127.0.0.1:5300 --upstream 127.0.0.53 --overrides-dir /var/lib/ukai/dns";

const CONFIG_MAX: u64 = 1024 * 1024;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The whole configuration as JSON, as the daemon writes it.
    #[arg(long, value_name = "FILE", hide = true, exclusive = true)]
    config_json: Option<PathBuf>,
    /// Serve on this address, over UDP and TCP. May be given several times.
    /// With sockets from systemd (LISTEN_FDS), not needed.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Vec<SocketAddr>,
    /// Forward to this resolver. May be given several times.
    #[arg(long, value_name = "URI", required_unless_present = "config_json")]
    upstream: Vec<Upstream>,
    /// Ask this resolver for a domain and all below it; the longest domain wins. May be given several times.
    #[arg(long, value_name = "DOMAIN=URI", value_parser = route)]
    forward: Vec<Route>,
    /// Serve the overrides of this file, one record a line (NAME TTL A|AAAA ADDRESS). It is read again when it changes, and on SIGHUP.
    #[arg(long, value_name = "FILE")]
    overrides: Option<PathBuf>,
    /// Where overrides of the control socket survive a restart, and where that socket is.
    #[arg(long, value_name = "DIR", required_unless_present = "config_json")]
    overrides_dir: Option<PathBuf>,
    /// Answer clients in this network. Default: loopback and private networks.
    #[arg(long, value_name = "NET", value_parser = network)]
    allow_clients: Vec<IpNet>,
    /// Threads that answer datagrams. Default: one for each core, at most 8.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=MAX_THREADS as i64))]
    threads: Option<u8>,
    /// What the cache may take, in MiB. Default: 64.
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(1..))]
    cache_mib: Option<u32>,
    /// Give one client network (/24, /56) at most so many answers a second by UDP. Default: no limit.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate_limit: Option<u32>,
    /// Serve what is overridden as this response-policy zone too, for other resolvers to transfer and follow.
    #[arg(long, value_name = "ZONE")]
    policy_zone: Option<Name>,
    /// The key that transfers are signed with, in a file: ALGORITHM:NAME:SECRET. It is read again on SIGHUP.
    #[arg(long, value_name = "FILE", requires = "policy_zone")]
    policy_key: Option<PathBuf>,
    /// Let this network transfer the policy zone without a key. May be given several times.
    #[arg(long, value_name = "NET", value_parser = network, requires = "policy_zone")]
    policy_allow: Vec<IpNet>,
    /// Tell this resolver of changes of the policy zone. May be given several times.
    #[arg(long, value_name = "ADDRESS:PORT", requires = "policy_zone")]
    policy_notify: Vec<SocketAddr>,
    /// Answer version.bind and version.server (class CH) with this text. Default: they are refused.
    #[arg(long, value_name = "TEXT")]
    version_text: Option<String>,
}

fn route(text: &str) -> Result<Route, String> {
    let (domain, upstream) = text.split_once('=').ok_or("a domain and a resolver are given as DOMAIN=URI")?;
    let domain = domain.parse().map_err(|error| format!("{error}"))?;
    let upstream: Upstream = upstream.parse().map_err(|error| format!("{error}"))?;
    Ok(Route { domain, upstreams: vec![upstream] })
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
    let reload = server.reloader();
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP cannot be watched")?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            reload();
        }
    });
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
        config.settings.allow_clients = args.allow_clients;
    }
    config.threads = args.threads.map_or(0, usize::from);
    if let Some(mib) = args.cache_mib {
        config.cache_octets = usize::try_from(mib).unwrap_or(usize::MAX).saturating_mul(1024 * 1024);
    }
    config.overrides_file = args.overrides;
    config.policy_zone = args.policy_zone.map(|name| PolicyZone {
        name,
        key_file: args.policy_key,
        allow_transfer: args.policy_allow,
        notify: args.policy_notify,
    });
    config.settings.rate_limit = args.rate_limit;
    config.settings.version = args.version_text;
    for route in args.forward {
        match config.settings.forward.iter_mut().find(|known| known.domain == route.domain) {
            Some(known) => known.upstreams.extend(route.upstreams),
            None => config.settings.forward.push(route),
        }
    }
    Ok(config)
}
