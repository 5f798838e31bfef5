//! `ukai dns`: the embedded DNS server as a process of its own. It leaves its parent's session, because it must outlive the
//! controller.
//!
//! A crate of its own, so that what this process once touched of a large program, and so stays in its memory, is small: code
//! that is made from generics lies where it is used.

use std::ffi::OsString;
use std::fmt;
use std::io::{IsTerminal, Read};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstyle::AnsiColor;
use clap::Parser;
use ipnet::IpNet;
use tokio::signal::unix::{Signal, SignalKind, signal};
use ukai_dns::server::{LockError, MAX_THREADS, PolicyZone, Route, Server, ServerConfig, StartError};
use ukai_dns::{Name, Upstream};

pub const ABOUT: &str =
    "The embedded DNS server, a process of its own. `run` starts it where the configuration has a [dns] section";
pub const EXAMPLE: &str =
    "Example:\n  ukai dns --listen 127.0.0.1:5300 --upstream 127.0.0.53 --overrides-dir /var/lib/ukai/dns";

const CONFIG_MAX: u64 = 1024 * 1024;
/// For what datagrams do not need: streams, races of upstreams, the control socket.
const RUNTIME_THREADS: usize = 2;

/// Why it ended, other than by being told to.
#[derive(Debug)]
enum Ended {
    /// The command line or the configuration is wrong.
    Usage(String),
    /// Another DNS process holds the directory.
    Held(String),
    /// Something of the machine's does not work.
    Broken(String),
}

impl Ended {
    /// As every command of ukai ends.
    fn exit_code(&self) -> u8 {
        match self {
            Self::Broken(_) => 1,
            Self::Usage(_) => 2,
            Self::Held(_) => 4,
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Usage(text) | Self::Held(text) | Self::Broken(text)) = self;
        f.write_str(text)
    }
}

#[derive(Debug, Parser)]
#[command(name = "ukai dns", bin_name = "ukai dns", about = ABOUT, after_help = EXAMPLE, version, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

/// `ukai dns` on its own: `args` are the program's name and what follows the command.
pub fn main(args: Vec<OsString>) -> ExitCode {
    serve(Cli::parse_from(args).args)
}

/// Until it is told to stop.
pub fn serve(args: Args) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(RUNTIME_THREADS).enable_all().build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(run(args));
            // A name lookup or a file on a dead disk must not keep the process.
            runtime.shutdown_background();
            ended
        }
        Err(error) => Err(Ended::Broken(format!("the asynchronous runtime could not be started: {error}"))),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(ended) => {
            let style = AnsiColor::Red.on_default().bold();
            anstream::eprintln!("{style}ukai:{style:#} {ended}");
            ExitCode::from(ended.exit_code())
        }
    }
}

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

async fn run(args: Args) -> Result<(), Ended> {
    log_to_stderr();
    let daemon_child = args.config_json.is_some();
    let config = config(args)?;
    if daemon_child {
        // Fails only where we lead a process group already, and then there is no session to leave.
        let _ = rustix::process::setsid();
    }
    let server = Server::start(config).await.map_err(|error| match error {
        // The daemon that started us attaches to the one that holds the directory.
        StartError::Lock(LockError::Held { .. }) => Ended::Held(error.to_string()),
        error => Ended::Usage(error.to_string()),
    })?;
    tracing::info!(listen = ?server.local_addresses(), process = std::process::id(), "the DNS server answers");
    let reload = server.reloader();
    let mut hangup = watch(SignalKind::hangup(), "SIGHUP")?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            reload();
        }
    });
    let mut terminate = watch(SignalKind::terminate(), "SIGTERM")?;
    let mut interrupt = watch(SignalKind::interrupt(), "SIGINT")?;
    server
        .run(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await;
    tracing::info!("the DNS server has stopped; its overrides stay on disk");
    Ok(())
}

fn watch(kind: SignalKind, name: &str) -> Result<Signal, Ended> {
    signal(kind).map_err(|error| Ended::Broken(format!("{name} cannot be watched: {error}")))
}

fn config(args: Args) -> Result<ServerConfig, Ended> {
    if let Some(file) = args.config_json {
        let json = read_bounded(&file, CONFIG_MAX)
            .map_err(|error| Ended::Broken(format!("{} cannot be read: {error}", file.display())))?;
        return serde_json::from_slice(&json)
            .map_err(|error| Ended::Broken(format!("{} cannot be understood: {error}", file.display())));
    }
    let dir = args.overrides_dir.ok_or_else(|| Ended::Usage("--overrides-dir is needed".to_owned()))?;
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

/// No more than a bound of a file.
///
/// # Errors
/// It cannot be read, or is larger.
pub fn read_bounded(path: &Path, bound: u64) -> std::io::Result<Vec<u8>> {
    let file = std::fs::File::open(path)?;
    let mut bytes = Vec::new();
    file.take(bound + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 <= bound {
        true => Ok(bytes),
        false => Err(std::io::Error::other(format!("it is larger than {bound} bytes"))),
    }
}

/// A network as `ADDRESS/PREFIX`; an address alone is a network of one.
pub fn network(text: &str) -> Result<IpNet, String> {
    let parsed = text.parse::<IpNet>().or_else(|error| text.parse::<IpAddr>().map(IpNet::from).map_err(|_| error));
    parsed.map_err(|_| {
        let address = text.split('/').next().unwrap_or_default().parse::<IpAddr>();
        match address {
            Ok(IpAddr::V4(_)) => format!("the prefix of an IPv4 network is 0 to 32, as in 10.0.0.0/8; this is {text}"),
            Ok(IpAddr::V6(_)) => format!("the prefix of an IPv6 network is 0 to 128, as in fd00::/8; this is {text}"),
            Err(_) => format!("a network is ADDRESS/PREFIX, as in 10.0.0.0/8 or fd00::/8; {text:?} is none"),
        }
    })
}

/// Structured logs on the error stream; `UKAI_LOG` takes the filter, as `info` or `ukai=debug`.
pub fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_env_var("UKAI_LOG")
        .with_default_directive(tracing_subscriber::filter::LevelFilter::INFO.into())
        .from_env_lossy();
    // Only the first subscriber counts; a second command in one process does not happen.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        // A log that cannot be written, as on a full disk, must not end what serves names.
        .log_internal_errors(false)
        .try_init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_is_none_is_told_what_one_is() {
        assert_eq!(network("10.0.0.0/8").unwrap().prefix_len(), 8);
        assert_eq!(network("127.0.0.1").unwrap().prefix_len(), 32);
        for (text, part) in [("127.0.0.0/33", "0 to 32"), ("fd00::/129", "0 to 128"), ("lan", "ADDRESS/PREFIX")] {
            let refused = network(text).unwrap_err();
            assert!(refused.contains(part) && refused.contains(text), "{refused}");
        }
    }
}
