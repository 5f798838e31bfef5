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

/// Where certificates are renewed by a machine, that is long overdue.
const EXPIRES_SOON_DAYS: i64 = 14;

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
        anstream::println!("{}", serde_json::to_string_pretty(&checked)?);
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
        facts(result, observation.started_at);
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

fn facts(result: &AddressResult, now: Timestamp) {
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
        let (left, remark) = days_left(identity.not_after, now);
        anstream::println!("  valid        {:.0} to {:.0} ({left})", identity.not_before, identity.not_after);
        if let Some(remark) = remark {
            anstream::println!("  {}", Painted(Tone::Warning, remark));
        }
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

/// How long a certificate is still good, and what to say of it when that is not long.
fn days_left(not_after: Timestamp, now: Timestamp) -> (String, Option<String>) {
    let seconds = not_after.duration_since(now).as_secs();
    let days = |seconds: i64| match seconds / 86_400 {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    };
    if seconds < 0 {
        let ago = days(-seconds);
        return (format!("ended {ago} ago"), Some(format!("the certificate expired {ago} ago")));
    }
    let left = days(seconds);
    let remark = (seconds < EXPIRES_SOON_DAYS * 86_400)
        .then(|| format!("the certificate expires in {left}: its owner should renew it now"));
    (format!("{left} left"), remark)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_how_long_it_is_good() {
        let now = Timestamp::UNIX_EPOCH;
        let told =
            |days: i64, hours: i64| days_left(Timestamp::from_second(days * 86_400 + hours * 3_600).unwrap(), now);
        assert_eq!(told(90, 1), ("90 days left".to_owned(), None));
        assert_eq!(told(14, 0).1, None);
        let (left, remark) = told(13, 23);
        assert_eq!(left, "13 days left");
        assert!(remark.unwrap().contains("expires in 13 days"));
        assert!(told(0, 3).0.contains("less than a day"));
        assert!(told(-3, 0).1.unwrap().contains("expired 3 days ago"));
    }
}
