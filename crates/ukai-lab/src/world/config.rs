//! What the daemon under drill is told: its configuration file, the files that it names, and a week of history.

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sha2::{Digest, Sha256};
use url::Url;

use super::records::{CONTROLS, Subnet};
use super::{Live, SECRET_VARIABLE, World};
use crate::app::{AppOptions, Sign};
use crate::certs::hex;
use crate::scenario::{Controls, NameState, Records, WorldState};

pub(super) const CA_FILE: &str = "ca.pem";
pub(super) const TOKEN_FILE: &str = "token";
pub(super) const VANTAGE_TOKEN_FILE: &str = "vantage-token";
pub(super) const WEBHOOK_SECRET_FILE: &str = "webhook-secret";
const HISTORY: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How far back a rotating set is found in other shapes.
const ROTATION: SignedDuration = SignedDuration::from_hours(24);
/// Enough changes within a day for a name to count as steered, which takes more than two.
const ROTATION_STEPS: i32 = 6;

pub(super) fn write_files(live: &Live, directory: &Path) -> io::Result<()> {
    std::fs::write(directory.join(CA_FILE), live.zoo.bundle())?;
    write_secret(&directory.join(TOKEN_FILE))?;
    write_secret(&directory.join(VANTAGE_TOKEN_FILE))?;
    write_secret(&directory.join(WEBHOOK_SECRET_FILE))
}

fn write_secret(path: &Path) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(random_word().as_bytes())
}

/// Unlike any other drill's, so that a secret that leaks is seen to be this one.
pub(super) fn random_word() -> String {
    (0..32).map(|_| fastrand::alphanumeric()).collect()
}

pub(super) fn daemon_config(world: &World, data_dir: &Path) -> String {
    let mut text = String::new();
    write_config(world, data_dir, &mut text);
    text
}

fn write_config(world: &World, data_dir: &Path, text: &mut String) {
    let layout = &world.live.layout;
    let (dns, https) = (layout.dns_port, layout.https_port);
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "{key} = {value}");
    };
    line("data_dir", quoted(&data_dir.display()));
    line("resolver", format!("[{}]", quoted(&layout.resolver())));
    line("root_hints", format!("[{}]", quoted(&layout.root_server())));
    line("authority_port", dns.to_string());
    line("ca", quoted(&world.ca_file().display()));
    line("allow_addresses", allowed(world));
    let independent = [
        quoted(&format!("udp://{}:{dns}", layout.independent(1))),
        quoted(&format!("tls://{}:{https}#i-2.test", layout.independent(2))),
        quoted(&format!("https://{}:{https}/dns-query#i-3.test", layout.independent(3))),
    ];
    line("independent", format!("[{}]", independent.join(", ")));
    line("time_server", quoted(&layout.time_server()));
    let _ = write!(text, "\n[dns]\nlisten = [{}]\n", quoted(&layout.embedded_dns()));
    if world.scenario.app.sign {
        let (listen, token) = (quoted(&layout.application()), quoted(&world.token_file().display()));
        let _ = write!(text, "\n[application]\nlisten = {listen}\ntoken_file = {token}\n");
    }
    for (number, url) in (1..).zip(control_urls(world)) {
        let address = quoted(&layout.control(number));
        let _ = write!(text, "\n[[control]]\nurl = {}\naddress = {address}\n", quoted(&url));
        if let Some(address) = layout.controls_v6() {
            let _ = writeln!(text, "address_v6 = {}", quoted(&address));
        }
    }
    for number in 1..=world.vantages() {
        let (url, token) = (format!("http://{}", layout.vantage(number)), vantage_token(world));
        let _ = write!(
            text,
            "\n[[other_vantage]]\nname = \"v-{number}\"\nurl = {}\ntoken = {{ file = {token} }}\n",
            quoted(&url)
        );
    }
    write_peer(world, text);
    let hook = quoted(&format!("http://{}/hook", layout.webhook()));
    let secret = quoted(&world.webhook_secret_file().display());
    let _ = write!(
        text,
        "\n[[notify]]\nname = \"drill\"\nkind = \"webhook\"\nurl = {hook}\nsecret = {{ file = {secret} }}\n"
    );
}

fn vantage_token(world: &World) -> String {
    quoted(&world.directory.path().join(VANTAGE_TOKEN_FILE).display())
}

/// Another network: its own resolver, and every host by its other door.
pub(super) fn vantage_config(world: &World, number: u8) -> String {
    let layout = &world.live.layout;
    let mut text = String::new();
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "{key} = {value}");
    };
    line("resolver", format!("[{}]", quoted(&format!("udp://{}:{}", layout.independent(1), layout.dns_port))));
    line("ca", quoted(&world.ca_file().display()));
    line("allow_addresses", allowed(world));
    line("controls", quoted(&"none"));
    let _ = write!(
        text,
        "\n[vantage_service]\nlisten = {}\ntoken_file = {}\n",
        quoted(&layout.vantage(number)),
        vantage_token(world)
    );
    let urls: Vec<String> = world.urls().iter().map(|url| elsewhere(url, layout.elsewhere_port)).collect();
    let _ = write!(text, "\n[[peer]]\nname = {}\nurls = [{}]\n", quoted(&peer_name(world)), urls.join(", "));
    if let Some(expect) = expectation(world) {
        let _ = writeln!(text, "expect = {expect}");
    }
    text
}

fn elsewhere(url: &Url, port: u16) -> String {
    let mut url = url.clone();
    // A URL with a host always takes a port.
    let _ = url.set_port(Some(port));
    quoted(&url)
}

fn allowed(world: &World) -> String {
    let layout = &world.live.layout;
    let six = layout.controls_v6().map(|address| quoted(&format!("{address}/128")));
    let allowed: Vec<String> = std::iter::once(quoted(&layout.public_network())).chain(six).collect();
    format!("[{}]", allowed.join(", "))
}

pub(super) fn app_options(world: &World) -> AppOptions {
    let app = &world.scenario.app;
    let (status, body) = world.live.healthy_answer();
    let sign = app.sign.then(|| Url::parse(&format!("http://{}/v1/application/calls", world.application_listener())));
    AppOptions {
        url: world.url(),
        dns: world.embedded_dns(),
        ca: world.ca_file(),
        every_ms: u64::try_from(app.every.as_millis()).unwrap_or(u64::MAX),
        pool: app.pool,
        sign: sign.and_then(Result::ok).map(|url| Sign { url, token_file: world.token_file(), peer: peer_name(world) }),
        secret_env: world.scenario.peer.auth.then(|| SECRET_VARIABLE.to_owned()),
        status: status.as_u16(),
        body_contains: body,
    }
}

fn write_peer(world: &World, text: &mut String) {
    let scenario = &world.scenario;
    let urls: Vec<String> = world.urls().iter().map(quoted).collect();
    let _ = write!(text, "\n[[peer]]\nname = {}\nurls = [{}]\n", quoted(&peer_name(world)), urls.join(", "));
    let mut given = |key: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = writeln!(text, "{key} = {value}");
        }
    };
    given("interval", scenario.peer.interval.map(duration));
    given("level", scenario.policy.level.map(|level| quoted(&level.as_str())));
    given("approvals", scenario.policy.approvals.map(|count| count.to_string()));
    given("lease", scenario.policy.lease.map(duration));
    given("expect", expectation(world));
    let secret = format!("{{ Authorization = {{ env = {} }} }}", quoted(&SECRET_VARIABLE));
    given("headers", scenario.peer.auth.then_some(secret));
}

fn expectation(world: &World) -> Option<String> {
    let expect = world.scenario.peer.expect.as_ref()?;
    let status = expect.status.map(|status| format!("status = [{status}]"));
    let body = expect.body.as_ref().map(|body| format!("body_contains = {}", quoted(body)));
    let stated: Vec<String> = status.into_iter().chain(body).collect();
    (!stated.is_empty()).then(|| format!("{{ {} }}", stated.join(", ")))
}

/// The first label of the host, which is what people call a peer.
fn peer_name(world: &World) -> String {
    world.scenario.host().split('.').next().unwrap_or_default().to_owned()
}

fn control_urls(world: &World) -> Vec<String> {
    if world.scenario.initial_state().controls == Controls::None {
        return Vec::new();
    }
    CONTROLS.iter().map(|name| format!("https://{name}:{}/", world.live.layout.control_port)).collect()
}

/// A TOML string.
fn quoted(text: &impl ToString) -> String {
    toml::Value::String(text.to_string()).to_string()
}

fn duration(time: Duration) -> String {
    let millis = time.as_millis();
    if millis.is_multiple_of(1_000) { format!("\"{}s\"", millis / 1_000) } else { format!("\"{millis}ms\"") }
}

/// What each endpoint answered in peace to somebody without the secret.
fn unauthenticated(world: &World) -> serde_json::Value {
    if !world.scenario.peer.auth {
        return json!({});
    }
    world.urls().iter().map(|url| (url.to_string(), json!(401))).collect::<serde_json::Map<_, _>>().into()
}

pub(super) fn history(world: &World) -> serde_json::Value {
    let until = Timestamp::now();
    let since = until.checked_sub(HISTORY).unwrap_or(until);
    let state = world.scenario.initial_state();
    let identities = if world.scenario.peer.tls {
        json!([{
            "key_sha256": world.live.zoo.peer_key_sha256(),
            "issuer": world.live.zoo.peer_issuer(),
            "addresses": addresses(world, &state),
        }])
    } else {
        json!([])
    };
    let servers: Vec<String> = world.live.own_servers.iter().map(|server| world.live.server_host(server)).collect();
    json!({
        "version": 1,
        "peer": peer_name(world),
        "host": world.scenario.host(),
        "since": since,
        "until": until,
        "identities": identities,
        "answers": answers(world, &state, since, until),
        "delegation": { "zone": world.live.names.home, "parent_ns": servers, "child_ns": servers },
        "controls": control_urls(world),
        "unauthenticated": unauthenticated(world),
        "body_sha256": hex(&Sha256::digest(&world.live.healthy.1)),
    })
}

/// Every address that the name held in peace, for anybody.
fn addresses(world: &World, state: &WorldState) -> Vec<IpAddr> {
    let mut labels = labels_seen(world, state, Subnet::Us);
    labels.extend(labels_seen(world, state, Subnet::Others));
    resolved(world, &labels)
}

/// The labels behind the name as that subnet is told, through a CNAME if there is one.
fn labels_seen(world: &World, state: &WorldState, subnet: Subnet) -> Vec<String> {
    let Records::Table(table) = &settled(world, state).records else {
        return Vec::new();
    };
    match (&table.by_subnet, subnet) {
        (Some(split), Subnet::Us) => split.us.clone(),
        (Some(split), Subnet::Others) => split.others.clone(),
        (None, _) => table.a.iter().chain(&table.aaaa).cloned().collect(),
    }
}

fn resolved(world: &World, labels: &[String]) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = labels.iter().filter_map(|label| world.address_of(label)).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

fn settled<'s>(world: &World, state: &'s WorldState) -> &'s NameState {
    let mut held = &state.authoritative;
    for _ in 0..super::peer_zone::MAX_CHAIN {
        let target = match &held.records {
            Records::Table(table) => table.cname.as_ref(),
            Records::Nxdomain => None,
        };
        match target.and_then(|target| world.live.names.state_in(state, target)) {
            Some(next) => held = next,
            None => break,
        }
    }
    held
}

/// What a week of looking would have found: one set for the whole week, or a rotating one's last day.
fn answers(world: &World, state: &WorldState, since: Timestamp, until: Timestamp) -> serde_json::Value {
    let held = settled(world, state);
    let all = resolved(world, &labels_seen(world, state, Subnet::Us));
    let rotates = matches!(&held.records, Records::Table(table) if table.rotate) && all.len() > 1;
    let sightings = if rotates { rotation(&all, until) } else { vec![(all, since, until)] };
    let mut answers = Vec::new();
    for source in ["authority", "resolver"] {
        for (set, first, last) in &sightings {
            answers.push(json!({
                "source": source, "addresses": set, "ttl": held.ttl, "first_seen": first, "last_seen": last,
            }));
        }
    }
    json!(answers)
}

/// Half of the set at a time, in equal shares of the last day.
fn rotation(all: &[IpAddr], until: Timestamp) -> Vec<(Vec<IpAddr>, Timestamp, Timestamp)> {
    let share = ROTATION / ROTATION_STEPS;
    let before = |steps: i32| until.checked_sub(share * steps).unwrap_or(until);
    (0..ROTATION_STEPS)
        .zip((0..all.len()).cycle())
        .map(|(step, start)| {
            let half = all.len().div_ceil(2);
            let mut set: Vec<IpAddr> = all.iter().cycle().skip(start).take(half).copied().collect();
            set.sort();
            (set, before(ROTATION_STEPS - step), before(ROTATION_STEPS - step - 1))
        })
        .collect()
}

pub(super) fn describe(world: &World) -> Vec<String> {
    let layout = &world.live.layout;
    let state = world.scenario.initial_state();
    let mut lines = vec![
        format!("peer        {}", world.url()),
        format!("authority   root {}, {}, port {}", layout.root_server(), servers(world), layout.dns_port),
        format!("resolver    {} ({})", layout.resolver(), state.resolver.mode),
    ];
    for (label, address) in &layout.hosts {
        let behaviour =
            state.hosts.get(label).map(|host| host.us.to_string()).unwrap_or_else(|| "not in use yet".to_owned());
        lines.push(format!("host        {label} = {address} ({behaviour})"));
    }
    lines.push(format!(
        "answers     {} → {} (TTL {})",
        world.scenario.host(),
        held(world, &state),
        state.authoritative.ttl
    ));
    if state.controls != Controls::None {
        lines.push(format!("controls    {}", CONTROLS.join(", ")));
    }
    lines.push(format!("application asks {}", layout.embedded_dns()));
    lines
}

fn servers(world: &World) -> String {
    let named: Vec<String> =
        world.live.layout.servers.iter().map(|(name, address)| format!("{name} {address}")).collect();
    named.join(", ")
}

fn held(world: &World, state: &WorldState) -> String {
    let named: Vec<String> = addresses(world, state)
        .iter()
        .map(|address| world.label_of(*address).unwrap_or_else(|| address.to_string()))
        .collect();
    if named.is_empty() { "nothing".to_owned() } else { named.join(", ") }
}
