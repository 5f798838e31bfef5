//! `ukai check`: one staged probe of one URL, address by address.

use std::net::IpAddr;
use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;
use ukai_core::observe::{AddressResult, ErrorClass, Observation, Path, Resolution};
use ukai_probe::{Endpoint, Expectation, Request, Round, Timeouts, explain, explain_resolution, proxy_environment};

use crate::gather::{OPERATOR, chosen, resolve};

use super::ask::{Place, RESOLVE_TIMEOUT};
use super::paint::{Painted, Table, Tone, list, milliseconds};
use super::{BROKEN, DONE, Failed, USAGE};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// https://, http://, tls://HOST:PORT or tcp://HOST:PORT.
    url: String,
    /// Probe this address, with the host's own SNI, certificate check and Host header (as `curl --resolve` does).
    /// Needs no resolver. May be given several times.
    #[arg(long, value_name = "IP")]
    address: Vec<IpAddr>,
    #[command(flatten)]
    place: Place,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Checked<'a> {
    healthy: bool,
    /// One sentence for the name and one for each address.
    sentences: Vec<String>,
    /// Proxy settings of the environment, which a probe does not use.
    proxy_environment: Vec<String>,
    observation: &'a Observation,
}

pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let endpoint = Endpoint::parse(&args.url)
        .map_err(|error| Failed::with(USAGE, format!("this URL cannot be checked: {error}")))?;
    let prober = args.place.prober(&args.address)?;
    let resolution = resolution(&args, &endpoint).await?;
    let path = if args.address.is_empty() { Path::Bypass } else { Path::Chosen };
    let host = endpoint.host();
    let round = Round { peer: &host, path, started_at: Timestamp::now(), resolution };
    let observation =
        prober.probe_all(round, &endpoint, &Expectation::default(), &Request::default(), &Timeouts::default()).await;
    let healthy = !observation.any_failed();
    if args.json {
        let checked = Checked {
            healthy,
            sentences: sentences(&endpoint, &observation),
            proxy_environment: proxy_environment(),
            observation: &observation,
        };
        println!("{}", serde_json::to_string_pretty(&checked)?);
    } else {
        print(&endpoint, &observation);
    }
    Ok(ExitCode::from(if healthy { DONE } else { BROKEN }))
}

async fn resolution(args: &Args, endpoint: &Endpoint) -> anyhow::Result<Resolution> {
    if !args.address.is_empty() {
        return Ok(chosen(args.address.clone()));
    }
    if let Some(address) = endpoint.host_address() {
        return Ok(chosen(vec![address]));
    }
    let (dns, resolvers) = (args.place.dns()?, args.place.resolvers()?);
    Ok(resolve(&dns, &resolvers, &endpoint.host(), RESOLVE_TIMEOUT).await)
}

fn sentences(endpoint: &Endpoint, observation: &Observation) -> Vec<String> {
    std::iter::once(name_sentence(endpoint, &observation.resolution))
        .chain(observation.results.iter().map(|result| explain(endpoint, result)))
        .collect()
}

fn name_sentence(endpoint: &Endpoint, resolution: &Resolution) -> String {
    if resolution.resolver == OPERATOR {
        let count = resolution.addresses.len();
        return format!("{count} address{} given; no resolver was asked.", if count == 1 { " was" } else { "es were" });
    }
    explain_resolution(endpoint, resolution)
}

fn was_not_allowed(result: &AddressResult) -> bool {
    result.failure.as_ref().is_some_and(|failure| failure.class == ErrorClass::NotAllowed)
}

fn print(endpoint: &Endpoint, observation: &Observation) {
    anstream::println!("{}", Painted(Tone::Strong, endpoint));
    let resolution = &observation.resolution;
    anstream::println!("{}", name_sentence(endpoint, resolution));
    if !resolution.chain.is_empty() {
        anstream::println!("  by way of {}", resolution.chain.join(" → "));
    }
    for error in &resolution.extended_errors {
        anstream::println!("  the resolver adds: {error}");
    }
    if resolution.addresses_total > resolution.addresses.len() {
        anstream::println!(
            "  {} addresses, of which {} were probed",
            resolution.addresses_total,
            resolution.addresses.len()
        );
    }
    if !observation.results.is_empty() {
        anstream::println!();
        anstream::print!("{}", stages(&observation.results));
        anstream::println!();
    }
    for result in &observation.results {
        let tone = if result.is_success() { Tone::Good } else { Tone::Bad };
        anstream::println!("{}", Painted(tone, explain(endpoint, result)));
        facts(result);
    }
    if observation.results.iter().any(was_not_allowed) {
        anstream::println!(
            "{}",
            Painted(Tone::Faint, "to contact it all the same, give it with --address, or its network with --allow")
        );
    }
    let proxies = proxy_environment();
    if !proxies.is_empty() {
        let note = format!("not used: the proxy settings of this environment ({})", list(proxies));
        anstream::println!("{}", Painted(Tone::Faint, note));
    }
}

fn stages(results: &[AddressResult]) -> Table {
    let mut table =
        Table::with_header(&["address", "resolve", "connect", "tls", "processing", "transfer", "total", "outcome"]);
    for result in results {
        let timings = &result.timings;
        let outcome = match &result.failure {
            None => "ok".to_owned(),
            Some(failure) => format!("{}: {}", failure.stage.name(), failure.class.name()),
        };
        let tone = if result.is_success() { Tone::Good } else { Tone::Bad };
        table.row(
            tone,
            vec![
                result.address.to_string(),
                milliseconds(timings.resolve_us),
                milliseconds(timings.connect_us),
                milliseconds(timings.tls_us),
                milliseconds(timings.processing_us),
                milliseconds(timings.transfer_us),
                milliseconds(Some(timings.total_us())),
                outcome,
            ],
        );
    }
    table
}

fn facts(result: &AddressResult) {
    if let Some(identity) = &result.identity {
        let trusted = if identity.verified { "verified" } else { "not verified" };
        let protocol =
            [identity.version.as_deref(), identity.alpn.as_deref()].into_iter().flatten().collect::<Vec<_>>();
        anstream::println!(
            "  certificate  {} ({trusted}), chain of {}",
            names(&identity.names, identity.names_total),
            identity.chain_length
        );
        anstream::println!("  issuer       {}", identity.issuer);
        anstream::println!("  valid        {:.0} to {:.0}", identity.not_before, identity.not_after);
        anstream::println!("  key          sha256 {}", identity.key_sha256);
        if !protocol.is_empty() {
            anstream::println!("  protocol     {}", protocol.join(", "));
        }
    }
    if let Some(http) = &result.http {
        let server = http.server.as_deref().map(|server| format!(", server {server}")).unwrap_or_default();
        anstream::println!("  answer       {} {}, {} bytes{server}", http.version, http.status, http.body_bytes);
        if let Some(location) = &http.location {
            anstream::println!("  redirects to {location} (not followed)");
        }
        if let Some(proxy) = &http.proxy {
            anstream::println!("  by way of    {proxy}");
        }
        if let Some(seconds) = http.retry_after_s {
            anstream::println!("  retry after  {seconds} s");
        }
    }
}

/// The first few names; a certificate may hold thousands.
fn names(names: &[String], total: usize) -> String {
    const SHOWN: usize = 5;
    let shown = list(names.iter().take(SHOWN));
    match total.saturating_sub(SHOWN.min(names.len())) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
