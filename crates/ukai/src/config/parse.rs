//! From the file as written to what the daemon runs by.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use ipnet::IpNet;
use serde::Deserialize;
use toml::de::DeTable;
use ukai_core::metric::Dimensions;
use ukai_core::peer::Level;
use ukai_dns::server::{MAX_THREADS, Route};
use ukai_dns::{Name, Upstream};
use ukai_probe::{Endpoint, is_global};

use super::problem::{At, ConfigError, Problems, suggestion};
use super::reader::Reader;
use super::{
    Application, Config, Control, Dns, Peer, Socket, defaults, keys, metrics, peer, subscriber, v1, vantage, zone,
};

pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let name = path.display().to_string();
    let (parsed, syntax) = DeTable::parse_recoverable(text);
    if !syntax.is_empty() {
        let mut problems = Problems::new(name, text, None);
        for error in syntax {
            problems.push_span(error.span(), error.message().trim_end());
        }
        return Err(problems.into_error());
    }
    let mut known = parsed.clone();
    let mut problems = Problems::new(name, text, Some(parsed.get_ref()));
    keys::take_unknown(known.get_mut(), &super::json_schema(), &mut problems);
    match v1::File::deserialize(toml::de::Deserializer::from(known)) {
        Ok(file) => {
            let base = path.parent().unwrap_or(Path::new(""));
            let mut reader = Reader::new(base, problems);
            let config = config(file, &mut reader);
            finish(config, reader)
        }
        Err(error) => {
            problems.push_span(error.span(), of_the_file(error.message().trim_end()));
            Err(problems.into_error())
        }
    }
}

/// Serde names our own types; who writes the file knows tables.
fn of_the_file(message: &str) -> String {
    match message.split_once("expected struct ") {
        Some((before, _)) => format!("{before}expected a table, {{ KEY = VALUE }}"),
        None => message.to_owned(),
    }
}

pub fn from_urls<S: AsRef<str>>(urls: &[S]) -> Result<Config, ConfigError> {
    let mut by_host: BTreeMap<String, v1::Peer> = BTreeMap::new();
    let mut reader = Reader::new(Path::new(""), Problems::new(String::new(), "", None));
    for url in urls {
        match Endpoint::parse(url.as_ref()) {
            Ok(endpoint) => by_host.entry(endpoint.host()).or_default().urls.push(url.as_ref().to_owned()),
            Err(error) => reader.problem(&At::default(), format!("{:?}: {error}", shown(url.as_ref()))),
        }
    }
    if urls.is_empty() {
        reader.problem(&At::default(), "no URL to watch: give at least one, or a configuration file");
    }
    let file = v1::File { peer: Some(by_host.into_values().collect()), ..v1::File::default() };
    let config = config(file, &mut reader);
    finish(config, reader)
}

/// A URL for a message, without what may be secret in it.
fn shown(url: &str) -> String {
    let rest = url.split(['?', '#']).next().unwrap_or_default();
    match (rest.split_once("://"), rest.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        (_, Some((_, host))) => format!("…@{host}"),
        (_, None) => rest.to_owned(),
    }
}

fn finish(config: Config, mut reader: Reader<'_>) -> Result<Config, ConfigError> {
    if !reader.problems.is_empty() {
        return Err(reader.problems.into_error());
    }
    let mut found = reader.take_warnings();
    found.sort_by_key(|(offset, _)| *offset);
    Ok(Config { warnings: found.into_iter().map(|(_, warning)| warning).collect(), ..config })
}

/// Where reports go. Who answers for us is read by the command that writes it down.
fn report(report: v1::Report, reader: &mut Reader<'_>) -> Option<String> {
    if report.contact.is_some_and(|contact| !super::is_one_line(&contact)) {
        let message = format!("the contact is one line of at most {} characters", super::CONTACT_CHARACTERS);
        reader.problem(&At::default().key("report").key("contact"), message);
    }
    report.dir
}

/// Where something is wrong, a value that will never be used stands in its place: the caller looks at the problems.
fn config(file: v1::File, reader: &mut Reader<'_>) -> Config {
    let at = At::default();
    let data_dir = file.data_dir.map_or_else(defaults::default_data_dir, |dir| reader.path(&dir));
    let resolver: Vec<Upstream> = reader.list(&at.key("resolver"), file.resolver.as_deref());
    let authority_port = file.authority_port.unwrap_or(defaults::AUTHORITY_PORT);
    if authority_port == 0 {
        reader.problem(&at.key("authority_port"), "a port is a number from 1 to 65535");
    }
    let independent = match &file.independent {
        Some(_) => reader.list(&at.key("independent"), file.independent.as_deref()),
        None => defaults::INDEPENDENT.iter().filter_map(|text| text.parse().ok()).collect(),
    };
    let ecs_subnets = ecs_subnets(file.ecs_subnets.as_deref(), reader);
    let time_server = file.time_server.and_then(|text| time_server(&text, reader));
    let evidence_bound = reader.duration(
        &at.key("evidence_bound"),
        file.evidence_bound.as_deref(),
        defaults::EVIDENCE_BOUND,
        defaults::EVIDENCE_BOUND_RANGE,
    );
    let vantage = file.vantage.unwrap_or_else(|| defaults::VANTAGE.to_owned());
    if let Err(error) = Dimensions::new([("Vantage", vantage.as_str())]) {
        reader.problem(&at.key("vantage"), error.to_string());
    }
    let (region, account_id) = alarms(file.alarms.unwrap_or_default(), reader);
    let peers = peer::peers(file.peer.unwrap_or_default(), authority_port, reader);
    let subscribers = subscriber::subscribers(file.notify.unwrap_or_default(), &peers, reader);
    let allow_addresses: Vec<IpNet> = reader.list(&at.key("allow_addresses"), file.allow_addresses.as_deref());
    warn_of_addresses(&peers, &allow_addresses, reader);
    let dns = file.dns.map(|dns| self::dns(dns, &resolver, &peers, reader));
    // Known also where the section is wrong otherwise: what is written there is not missing.
    let follower = file.application.as_ref().and_then(|application| application.resolver.clone());
    let application = file.application.and_then(|application| self::application(application, reader));
    let zone = zone::zone(
        zone::Written { rfc2136: file.rfc2136, unbound: file.unbound },
        &zone::Beside { dns: dns.is_some(), resolver: &resolver, follower: follower.as_deref(), peers: &peers },
        reader,
    );
    let acts = peers.iter().any(|peer| peer.level >= Level::Approve);
    if acts && dns.is_none() && zone.is_none() {
        reader.warn(
            &at,
            "a peer's level is approve or auto, and there is nowhere for an override to take effect: every one is refused; add [dns], \
             [rfc2136] or [unbound]",
        );
    }
    let metrics = metrics::metrics(file.metrics.unwrap_or_default(), reader);
    if peers.is_empty() {
        let takes_metrics = application.is_some() || !metrics.emf.is_empty() || !metrics.scrape.is_empty();
        let what = if takes_metrics { "no peer is watched" } else { "nothing is watched" };
        reader.note(&format!(
            "{what}, for there is no [[peer]]; write one with urls = [\"https://HOST/PATH\"] (`ukai init URL` writes a whole file)"
        ));
    }
    Config {
        root_hints: reader.list(&at.key("root_hints"), file.root_hints.as_deref()),
        ca: file.ca.map(|ca| reader.certificates(&at.key("ca"), &ca)).unwrap_or_default(),
        allow_addresses,
        dns,
        zone,
        socket: socket(file.socket.unwrap_or_default(), &data_dir, reader),
        application,
        vantage,
        region,
        account_id,
        metrics,
        report_dir: match file.report.and_then(|report| self::report(report, reader)) {
            Some(dir) => reader.path(&dir),
            None => data_dir.join("reports"),
        },
        controls: controls(file.controls.as_deref(), file.control, reader),
        other_vantages: vantage::other_vantages(file.other_vantage.unwrap_or_default(), reader),
        vantage_service: file.vantage_service.and_then(|written| vantage::service(written, reader)),
        data_dir,
        resolver,
        authority_port,
        independent,
        ecs_subnets,
        time_server,
        evidence_bound,
        peers,
        subscribers,
        warnings: Vec::new(),
    }
}

/// A peer whose URL is an address that may not be contacted fails for ever.
fn warn_of_addresses(peers: &[Peer], allowed: &[IpNet], reader: &mut Reader<'_>) {
    for (index, peer) in peers.iter().enumerate() {
        let address = peer.endpoints.first().and_then(Endpoint::host_address);
        let refused =
            address.filter(|address| !is_global(*address) && !allowed.iter().any(|net| net.contains(address)));
        if let Some(address) = refused {
            reader.warn(
                &At::default().key("peer").index(index).key("urls"),
                format!("{address} is not a public address, so it will not be contacted; list its network in allow_addresses"),
            );
        }
    }
}

fn ecs_subnets(written: Option<&[String]>, reader: &mut Reader<'_>) -> Vec<IpNet> {
    let at = At::default().key("ecs_subnets");
    let Some(written) = written else {
        return defaults::ECS_SUBNETS.iter().filter_map(|text| text.parse().ok()).collect();
    };
    reader.at_most(&at, written.len(), defaults::ECS_SUBNETS_MAX, "networks");
    let subnets: Vec<IpNet> = reader.list(&at, Some(written));
    let (v4, v6) = defaults::ECS_PREFIX_MAX;
    for subnet in &subnets {
        let longest = if subnet.addr().is_ipv4() { v4 } else { v6 };
        if subnet.prefix_len() == 0 || subnet.prefix_len() > longest {
            let message = format!("{subnet}: a prefix from /1 to /{longest}, so that it names a network and no client");
            reader.problem(&at, message);
        }
    }
    subnets.iter().map(IpNet::trunc).collect()
}

/// By address: a name would have to be resolved by what may be broken.
fn time_server(text: &str, reader: &mut Reader<'_>) -> Option<SocketAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let parsed = match bare.parse::<IpAddr>() {
        Ok(address) => Ok(SocketAddr::new(address, defaults::TIME_SERVER_PORT)),
        Err(_) => text.parse::<SocketAddr>().map_err(|_| {
            format!(
                "{text:?} is no time server; write an IP address, with a port if it is not 123 (names are not resolved)"
            )
        }),
    };
    reader.problems.check(&At::default().key("time_server"), parsed)
}

fn alarms(written: v1::Alarms, reader: &mut Reader<'_>) -> (String, String) {
    let at = At::default().key("alarms");
    let region = written.region.unwrap_or_else(|| defaults::REGION.to_owned());
    let account_id = written.account_id.unwrap_or_else(|| defaults::ACCOUNT_ID.to_owned());
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if region.is_empty() || !region.chars().all(is_word) {
        reader.problem(&at.key("region"), "a Region is written as its code, such as \"eu-west-1\"");
    }
    if account_id.len() != 12 || !account_id.chars().all(|c| c.is_ascii_digit()) {
        reader.problem(&at.key("account_id"), "an account is twelve digits");
    }
    (region, account_id)
}

fn dns(mut dns: v1::Dns, resolver: &[Upstream], peers: &[Peer], reader: &mut Reader<'_>) -> Dns {
    let at = At::default().key("dns");
    let listen: Vec<SocketAddr> = match &dns.listen {
        Some(listen) => {
            if listen.is_empty() {
                reader.problem(&at.key("listen"), "no address to listen on; write one, or leave the key out");
            }
            listen
                .iter()
                .enumerate()
                .filter_map(|(index, text)| reader.listen(&at.key("listen").index(index), text))
                .collect()
        }
        None => defaults::DNS_LISTEN.parse().into_iter().collect(),
    };
    let allow_clients = reader.list(&at.key("allow_clients"), dns.allow_clients.as_deref());
    let policy_zone =
        dns.policy_zone.take().and_then(|written| zone::served_zone(&at.key("policy_zone"), written, reader));
    if let Some(zone) = &policy_zone {
        for peer in
            peers.iter().filter(|peer| peer.host.parse::<Name>().is_ok_and(|host| host.is_at_or_below(&zone.name)))
        {
            let message =
                format!("{} lies in it, and would not be resolved; name a zone that exists nowhere else", peer.host);
            reader.problem(&at.key("policy_zone").key("name"), message);
        }
    }
    let dns = Dns {
        listen,
        allow_clients,
        upstream: reader.list(&at.key("upstream"), dns.upstream.as_deref()),
        forward: routes(&dns, reader),
        threads: within(&at.key("threads"), dns.threads, 1..=MAX_THREADS as u8, reader),
        cache_mib: within(&at.key("cache_mib"), dns.cache_mib, 1..=defaults::DNS_CACHE_MIB_MAX, reader),
        rate_limit: within(&at.key("rate_limit"), dns.rate_limit, 1..=u32::MAX, reader),
        version: dns.version.clone(),
        policy_zone,
    };
    if dns.version.as_ref().is_some_and(|text| text.len() > u8::MAX.into()) {
        reader.problem(&at.key("version"), "one text of DNS has at most 255 octets");
    }
    for upstream in dns.upstream.iter().filter(|upstream| dns.is_own(upstream.address())) {
        let message = format!("{upstream} is the embedded server itself: it would forward to itself");
        reader.problem(&at.key("upstream"), message);
    }
    for route in &dns.forward {
        for upstream in route.upstreams.iter().filter(|upstream| dns.is_own(upstream.address())) {
            let message = format!("{upstream} is the embedded server itself: it would forward to itself");
            reader.problem(&at.key("forward").key(&route.domain.to_string()), message);
        }
    }
    way_past_the_override(&dns, resolver, peers, reader);
    dns
}

fn routes(dns: &v1::Dns, reader: &mut Reader<'_>) -> Vec<Route> {
    let at = At::default().key("dns").key("forward");
    let mut routes = Vec::new();
    for (domain, upstreams) in dns.forward.iter().flatten() {
        let at = at.key(domain);
        if upstreams.is_empty() {
            reader.problem(&at, "no resolver is given for this domain; name one, or leave the domain out");
        }
        let domain: Option<Name> = reader.one(&at, domain);
        let upstreams = reader.list(&at, Some(upstreams));
        routes.extend(domain.map(|domain| Route { domain, upstreams }));
    }
    routes
}

fn within<T: PartialOrd + Copy + std::fmt::Display>(
    at: &At,
    written: Option<T>,
    range: std::ops::RangeInclusive<T>,
    reader: &mut Reader<'_>,
) -> Option<T> {
    if written.is_some_and(|written| !range.contains(&written)) {
        reader.problem(at, format!("a number from {} to {}", range.start(), range.end()));
    }
    written
}

/// What the resolver answers past our override is what a revert is decided on.
fn way_past_the_override(dns: &Dns, resolver: &[Upstream], peers: &[Peer], reader: &mut Reader<'_>) {
    let at = At::default();
    for own in resolver.iter().filter(|resolver| dns.is_own(resolver.address())) {
        let message = format!(
            "{own} is the embedded server itself: it would forward to itself, and the way past an override would lead back to it"
        );
        reader.problem(&at.key("resolver"), message);
    }
    let Some(highest) = peers.iter().map(|peer| peer.level).max().filter(|_| resolver.is_empty()) else { return };
    const MEND: &str =
        "set `resolver` to the servers behind the embedded one: /etc/resolv.conf usually leads back to it";
    if highest >= Level::Approve {
        let message = format!("{MEND}, and an override that is seen past itself is taken back at once");
        reader.problem(&at.key("dns"), message);
    } else {
        reader.warn(&at.key("dns"), format!("{MEND}; from level = \"approve\" on it must be written"));
    }
}

fn socket(socket: v1::Socket, data_dir: &Path, reader: &mut Reader<'_>) -> Socket {
    let at = At::default().key("socket");
    let path = match &socket.path {
        Some(path) => reader.path(path),
        None => data_dir.join(defaults::SOCKET_NAME),
    };
    if path.as_os_str().len() > defaults::SOCKET_PATH_BYTES {
        reader.problem(
            &at.key("path"),
            format!(
                "the control socket's path {} is longer than {} bytes; set socket.path to a shorter one, such as /run/ukai.sock",
                path.display(),
                defaults::SOCKET_PATH_BYTES
            ),
        );
    }
    if socket.group.is_some() && path.starts_with(data_dir) {
        reader.warn(
            &at.key("group"),
            "the group cannot reach a socket inside data_dir, which is private (0700); set socket.path to a place outside, such as /run/ukai/ukai.sock",
        );
    }
    Socket { path, group: socket.group }
}

fn application(application: v1::Application, reader: &mut Reader<'_>) -> Option<Application> {
    let at = At::default().key("application");
    let listen = application.listen.as_deref().unwrap_or(defaults::APPLICATION_LISTEN);
    let listen = reader.listen(&at.key("listen"), listen);
    if listen.is_some_and(|listen| !listen.ip().is_loopback()) {
        reader.warn(&at.key("listen"), "the application's token will cross the network in plain HTTP");
    }
    let (token, file) = (application.token.as_ref(), application.token_file.as_deref());
    let token = reader.token(&at, token, file, "the application needs a token to report its calls with");
    let resolver = application.resolver.and_then(|text| reader.one(&at.key("resolver"), &text));
    Some(Application { listen: listen?, token: token?, resolver })
}

fn controls(word: Option<&str>, written: Option<Vec<v1::Control>>, reader: &mut Reader<'_>) -> Vec<Control> {
    let at = At::default().key("controls");
    match (word, written) {
        (Some("none"), None) => {
            reader.warn(&at, "without controls no diagnosis is ever proven, and nothing is automatic");
            Vec::new()
        }
        (Some("none"), Some(_)) => {
            reader.problem(&at, "controls = \"none\" and [[control]] contradict; remove one of them");
            Vec::new()
        }
        (None | Some("default"), None) => {
            reader.note("the built-in controls are probed every minute and whenever evidence is gathered: Cloudflare, Google and Wikimedia; list your own as [[control]], or set controls = \"none\"");
            built_in_controls()
        }
        (None | Some("default"), Some(written)) => written_controls(written, reader),
        (Some(other), _) => {
            reader.problem(&at, format!("{other:?} is not known here{}", suggestion(other, ["none", "default"])));
            Vec::new()
        }
    }
}

fn built_in_controls() -> Vec<Control> {
    defaults::CONTROLS_BUILT_IN
        .iter()
        .filter_map(|(url, address)| {
            let endpoint = Endpoint::parse(url).ok()?;
            let address = address.and_then(|address| address.parse().ok());
            Some(Control { endpoint, address, address_v6: None })
        })
        .collect()
}

fn written_controls(written: Vec<v1::Control>, reader: &mut Reader<'_>) -> Vec<Control> {
    let at = At::default().key("control");
    reader.at_most(&at, written.len(), defaults::CONTROLS, "controls");
    if written.len() < 2 {
        reader.warn(&at, "fewer than two controls: no diagnosis is ever proven, and nothing is automatic");
    }
    let mut controls = Vec::new();
    for (index, control) in written.into_iter().enumerate() {
        let at = at.index(index);
        let endpoint = reader.problems.check(&at.key("url"), Endpoint::parse(&control.url));
        let address = control.address.and_then(|text| reader.one::<IpAddr>(&at.key("address"), &text));
        let address_v6 = control.address_v6.and_then(|text| reader.one(&at.key("address_v6"), &text));
        controls.extend(endpoint.map(|endpoint| Control { endpoint, address, address_v6 }));
    }
    controls
}
