//! Reads the world state keys, which `[world]`, faults and heals share.

use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use super::reader::{Field, Result, Section, UseKind, parse_duration};
use super::state::{
    BySubnet, ClockShift, Controls, DaemonSignal, Egress, HostBehaviour, HostChange, INDEPENDENTS, Network, Parent,
    Provider, RecordTable, Records, ResolverMode, ResolverSetup, ServerMode, Signed, WorldChange,
};

pub(super) const WORLD_KEYS: [&str; 13] = [
    "authoritative",
    "servers",
    "parent",
    "names",
    "resolver",
    "independent",
    "hosts",
    "controls",
    "egress",
    "clock",
    "provider",
    "daemon",
    "vantages",
];
const RECORD_KEYS: [&str; 11] =
    ["A", "AAAA", "CNAME", "HTTPS", "TXT", "MX", "ttl", "negative_ttl", "rotate", "by_subnet", "signed"];
const HOST_BEHAVIOURS: [&str; 22] = [
    "serve",
    "refuse",
    "blackhole",
    "reset",
    "tls-stall",
    "tls-wrong-name",
    "tls-expired",
    "tls-not-yet-valid",
    "tls-self-signed",
    "tls-new-key",
    "tls-new-issuer",
    "tls-default-cert",
    "tls-old-version",
    "status-N",
    "retry-after-N",
    "slow-Ns",
    "flaky-P",
    "wrong-body",
    "parked",
    "cut-body",
    "goaway",
    "stall-after-N-bytes",
];
const RESOLVER_MODES: [&str; 13] = [
    "honest",
    "stale",
    "ttl-clamp-N",
    "serve-stale",
    "negative-cached",
    "nxdomain",
    "servfail",
    "servfail-all",
    "timeout-all",
    "refuse",
    "hijack:HOST",
    "private:ADDR",
    "validating",
];
/// A week: longer TTLs are cut down by real resolvers too.
const MAX_TTL: u32 = 604_800;
/// Labels and servers become last octets of addresses.
const MAX_LIST: usize = 200;

pub(super) fn read_change(section: &Section<'_>) -> Result<WorldChange> {
    let mut change = WorldChange::default();
    if let Some(field) = section.find("authoritative") {
        change.authoritative = Some(read_records(&field)?);
    }
    for field in entries(section, "servers")? {
        field.source.record_use(&field, field.key, UseKind::Server);
        change.servers.insert(field.key.to_owned(), read_server(&field)?);
    }
    for field in entries(section, "names")? {
        change.names.insert(read_name(&field, field.key)?, read_records(&field)?);
    }
    for field in entries(section, "independent")? {
        if !INDEPENDENTS.contains(&field.key) {
            return Err(
                field.key_error(format!("unknown independent resolver \"{}\"; i-1, i-2 and i-3 exist", field.key))
            );
        }
        change.independents.insert(field.key.to_owned(), read_resolver(&field)?);
    }
    for field in entries(section, "hosts")? {
        check_label(&field, field.key)?;
        field.source.record_place(&field);
        change.hosts.insert(field.key.to_owned(), read_host(&field)?);
    }
    change.parent = section.find("parent").map(|field| read_parent(&field)).transpose()?;
    change.resolver = section.find("resolver").map(|field| read_resolver(&field)).transpose()?;
    change.controls = section.find("controls").map(|field| read_controls(&field)).transpose()?;
    change.egress = section.find("egress").map(|field| read_egress(&field)).transpose()?;
    change.clock = section.find("clock").map(|field| read_clock(&field)).transpose()?;
    change.provider = section.find("provider").map(|field| read_provider(&field)).transpose()?;
    change.daemon = section
        .find("daemon")
        .map(|field| field.choice(&[("kill", DaemonSignal::Kill), ("restart", DaemonSignal::Restart)]))
        .transpose()?;
    change.vantages = section.find("vantages").map(|field| field.number(0..=64)).transpose()?;
    Ok(change)
}

fn entries<'a>(section: &Section<'a>, key: &str) -> Result<Vec<Field<'a>>> {
    match section.find(key) {
        Some(field) => Ok(field.section()?.fields().collect()),
        None => Ok(Vec::new()),
    }
}

fn read_records(field: &Field<'_>) -> Result<Records> {
    if field.is_table() {
        return Ok(Records::Table(Box::new(read_table(&field.section()?)?)));
    }
    match field.text()? {
        "nxdomain" => Ok(Records::Nxdomain),
        other => Err(field.unknown(other, &["nxdomain"])),
    }
}

fn read_table(section: &Section<'_>) -> Result<RecordTable> {
    section.only(&RECORD_KEYS)?;
    let labels = |key: &str, kind| match section.find(key) {
        Some(field) => read_labels(&field, kind),
        None => Ok(Vec::new()),
    };
    Ok(RecordTable {
        a: labels("A", UseKind::HostForA)?,
        aaaa: labels("AAAA", UseKind::HostForAaaa)?,
        cname: section.find("CNAME").map(|field| read_name(&field, field.text()?)).transpose()?,
        https: labels("HTTPS", UseKind::Host)?,
        txt: section.find("TXT").map(|field| read_words(&field)).transpose()?.unwrap_or_default(),
        mx: match section.find("MX") {
            Some(field) => field.one_or_many()?.iter().map(read_mail_host).collect::<Result<_>>()?,
            None => Vec::new(),
        },
        ttl: section.find("ttl").map(|field| field.number(0..=MAX_TTL)).transpose()?,
        negative_ttl: section.find("negative_ttl").map(|field| field.number(0..=MAX_TTL)).transpose()?,
        rotate: section.find("rotate").map(|field| field.flag()).transpose()?.unwrap_or(false),
        by_subnet: section.find("by_subnet").map(|field| read_by_subnet(&field)).transpose()?,
        signed: match section.find("signed") {
            Some(field) => field.choice(&[("no", Signed::No), ("valid", Signed::Valid), ("bogus", Signed::Bogus)])?,
            None => Signed::No,
        },
    })
}

/// An exchange, with or without its preference (RFC 1035, 3.3.9): which comes first matters to nobody here.
fn read_mail_host(item: &Field<'_>) -> Result<String> {
    let text = item.text()?;
    let (preference, name) = text.split_once(' ').unwrap_or(("0", text));
    if preference.parse::<u16>().is_err() {
        return Err(item.error(format!("\"{preference}\" is not a preference, a number up to 65535")));
    }
    read_name(item, name.trim())
}

fn read_words(field: &Field<'_>) -> Result<Vec<String>> {
    field.one_or_many()?.iter().map(|item| item.text().map(str::to_owned)).collect()
}

fn read_by_subnet(field: &Field<'_>) -> Result<BySubnet> {
    let section = field.section()?;
    section.only(&["us", "others"])?;
    Ok(BySubnet {
        us: read_labels(&section.need("us")?, UseKind::Host)?,
        others: read_labels(&section.need("others")?, UseKind::Host)?,
    })
}

pub(super) fn read_labels(field: &Field<'_>, kind: UseKind) -> Result<Vec<String>> {
    let items = field.items()?;
    if items.len() > MAX_LIST {
        return Err(field.error(format!("at most {MAX_LIST} entries")));
    }
    items
        .iter()
        .map(|item| {
            let label = item.text()?;
            item.source.record_use(item, label, kind);
            Ok(label.to_owned())
        })
        .collect()
}

fn read_name(field: &Field<'_>, text: &str) -> Result<String> {
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    let good_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    if name.len() > 253 || name.split('.').count() < 2 || !name.split('.').all(good_label) {
        return Err(field.error(format!("\"{text}\" is not a host name of at least two labels")));
    }
    Ok(name)
}

fn check_label(field: &Field<'_>, text: &str) -> Result<()> {
    let good = !text.is_empty()
        && text.len() <= 40
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if good { Ok(()) } else { Err(field.key_error(format!("\"{text}\" is not a label: use a-z, 0-9 and -"))) }
}

fn read_server(field: &Field<'_>) -> Result<ServerMode> {
    check_label(field, field.key)?;
    if field.is_table() {
        return Ok(ServerMode::Own(Box::new(read_table(&field.section()?)?)));
    }
    let modes = [
        ("serve", ServerMode::Serve),
        ("lame", ServerMode::Lame),
        ("timeout", ServerMode::Timeout),
        ("refuse", ServerMode::Refuse),
        ("servfail", ServerMode::Servfail),
        ("old-serial", ServerMode::OldSerial),
        ("no-tcp", ServerMode::NoTcp),
        ("no-udp", ServerMode::NoUdp),
        ("truncate", ServerMode::Truncate),
    ];
    let text = field.text()?;
    match modes.iter().find(|(word, _)| *word == text) {
        Some((_, mode)) => Ok(mode.clone()),
        None => Err(field.unknown(text, &modes.iter().map(|(word, _)| *word).collect::<Vec<_>>())),
    }
}

fn read_parent(field: &Field<'_>) -> Result<Parent> {
    if field.is_table() {
        let section = field.section()?;
        section.only(&["ns"])?;
        let servers = section.need("ns")?;
        let names = read_labels(&servers, UseKind::Server)?;
        return if names.is_empty() {
            Err(servers.error("a delegation names at least one server"))
        } else {
            Ok(Parent::Servers(names))
        };
    }
    match field.text()? {
        "serve" => Ok(Parent::Serve),
        "nxdomain" => Ok(Parent::Nxdomain),
        other => Err(field.unknown(other, &["serve", "nxdomain"])),
    }
}

fn read_resolver(field: &Field<'_>) -> Result<ResolverSetup> {
    if !field.is_table() {
        return Ok(ResolverSetup { mode: read_resolver_mode(field)?, ..ResolverSetup::default() });
    }
    let section = field.section()?;
    section.only(&["mode", "udp", "tcp"])?;
    Ok(ResolverSetup {
        mode: section.find("mode").map(|mode| read_resolver_mode(&mode)).transpose()?.unwrap_or_default(),
        truncate_udp: section.find("udp").map(|udp| udp.choice(&[("truncate", true)])).transpose()?.unwrap_or(false),
        block_tcp: section.find("tcp").map(|tcp| tcp.choice(&[("blocked", true)])).transpose()?.unwrap_or(false),
    })
}

fn read_resolver_mode(field: &Field<'_>) -> Result<ResolverMode> {
    let text = field.text()?;
    let mode = match text {
        "honest" => Some(ResolverMode::Honest),
        "stale" => Some(ResolverMode::Stale),
        "serve-stale" => Some(ResolverMode::ServeStale),
        "negative-cached" => Some(ResolverMode::NegativeCached),
        "nxdomain" => Some(ResolverMode::Nxdomain),
        "servfail" => Some(ResolverMode::Servfail),
        "servfail-all" => Some(ResolverMode::ServfailAll),
        "timeout-all" => Some(ResolverMode::TimeoutAll),
        "refuse" => Some(ResolverMode::Refuse),
        "validating" => Some(ResolverMode::Validating),
        _ => between(text, "ttl-clamp-", "").map(ResolverMode::TtlClamp).or_else(|| {
            text.strip_prefix("private:").and_then(|address| IpAddr::from_str(address).ok()).map(ResolverMode::Private)
        }),
    };
    if let Some(host) = text.strip_prefix("hijack:").filter(|host| !host.is_empty()) {
        field.source.record_use(field, host, UseKind::Host);
        return Ok(ResolverMode::Hijack(host.to_owned()));
    }
    mode.ok_or_else(|| field.unknown(text, &RESOLVER_MODES))
}

fn read_host(field: &Field<'_>) -> Result<HostChange> {
    if !field.is_table() {
        let behaviour = read_behaviour(field)?;
        return Ok(HostChange { us: Some(behaviour.clone()), others: Some(behaviour), ..HostChange::default() });
    }
    let section = field.section()?;
    section.only(&["us", "others", "net", "v6", "private"])?;
    let behaviour = |key: &str| section.find(key).map(|value| read_behaviour(&value)).transpose();
    Ok(HostChange {
        us: behaviour("us")?,
        others: behaviour("others")?,
        network: section.find("net").map(|net| net.choice(&[("a", Network::A), ("b", Network::B)])).transpose()?,
        v6: section.find("v6").map(|v6| v6.flag()).transpose()?,
        private: section.find("private").map(|private| private.flag()).transpose()?,
    })
}

fn read_behaviour(field: &Field<'_>) -> Result<HostBehaviour> {
    let text = field.text()?;
    parse_behaviour(text).ok_or_else(|| field.unknown(text, &HOST_BEHAVIOURS))
}

fn parse_behaviour(text: &str) -> Option<HostBehaviour> {
    Some(match text {
        "serve" => HostBehaviour::Serve,
        "refuse" => HostBehaviour::Refuse,
        "blackhole" => HostBehaviour::Blackhole,
        "reset" => HostBehaviour::Reset,
        "tls-stall" => HostBehaviour::TlsStall,
        "tls-wrong-name" => HostBehaviour::TlsWrongName,
        "tls-expired" => HostBehaviour::TlsExpired,
        "tls-not-yet-valid" => HostBehaviour::TlsNotYetValid,
        "tls-self-signed" => HostBehaviour::TlsSelfSigned,
        "tls-new-key" => HostBehaviour::TlsNewKey,
        "tls-new-issuer" => HostBehaviour::TlsNewIssuer,
        "tls-default-cert" => HostBehaviour::TlsDefaultCert,
        "tls-old-version" => HostBehaviour::TlsOldVersion,
        "wrong-body" => HostBehaviour::WrongBody,
        "parked" => HostBehaviour::Parked,
        "cut-body" => HostBehaviour::CutBody,
        "goaway" => HostBehaviour::Goaway,
        _ => return parse_numbered(text),
    })
}

fn parse_numbered(text: &str) -> Option<HostBehaviour> {
    if let Some(status) = between::<u16>(text, "status-", "") {
        return (200..=599).contains(&status).then_some(HostBehaviour::Status(status));
    }
    if let Some(seconds) = between::<u32>(text, "slow-", "s") {
        return (seconds <= 3_600).then(|| HostBehaviour::Slow(Duration::from_secs(seconds.into())));
    }
    if let Some(share) = between::<f64>(text, "flaky-", "") {
        // Above 1 it can only be meant as a percentage.
        let probability = if share > 1.0 { share / 100.0 } else { share };
        let is_clear = !(share > 1.0 && share < 2.0);
        return (is_clear && (0.0..=1.0).contains(&probability)).then_some(HostBehaviour::Flaky(probability));
    }
    between(text, "retry-after-", "")
        .map(HostBehaviour::RetryAfter)
        .or_else(|| between(text, "stall-after-", "-bytes").map(HostBehaviour::StallAfter))
}

fn between<T: FromStr>(text: &str, prefix: &str, suffix: &str) -> Option<T> {
    let number = text.strip_prefix(prefix)?.strip_suffix(suffix)?;
    number.starts_with(|c: char| c.is_ascii_digit()).then(|| number.parse().ok()).flatten()
}

fn read_controls(field: &Field<'_>) -> Result<Controls> {
    field.choice(&[
        ("ok", Controls::Ok),
        ("names-fail", Controls::NamesFail),
        ("addresses-fail", Controls::AddressesFail),
        ("intercepted", Controls::Intercepted),
        ("none", Controls::None),
    ])
}

fn read_egress(field: &Field<'_>) -> Result<Egress> {
    if field.is_table() {
        let section = field.section()?;
        section.only(&["allow"])?;
        return Ok(Egress::Allow(read_labels(&section.need("allow")?, UseKind::Host)?));
    }
    match field.text()? {
        "ok" => Ok(Egress::Ok),
        "cut" => Ok(Egress::Cut),
        "no-53" => Ok(Egress::No53),
        "intercept-53" => Ok(Egress::Intercept53),
        "no-v6" => Ok(Egress::NoV6),
        other => Err(field.unknown(other, &["ok", "cut", "no-53", "intercept-53", "no-v6"])),
    }
}

fn read_clock(field: &Field<'_>) -> Result<ClockShift> {
    let text = field.text()?;
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or_default()),
    };
    parse_duration(rest)
        .and_then(|shift| i64::try_from(shift.as_secs()).ok())
        .map(|seconds| ClockShift(sign * seconds))
        .ok_or_else(|| field.error(format!("\"{text}\" is not a clock shift such as \"+2h\" or \"-30m\"")))
}

fn read_provider(field: &Field<'_>) -> Result<Provider> {
    if field.is_table() {
        let section = field.section()?;
        section.only(&["foreign_edit"])?;
        return Ok(Provider::ForeignEdit(read_labels(&section.need("foreign_edit")?, UseKind::Host)?));
    }
    match field.text()? {
        "ok" => Ok(Provider::Ok),
        "down" => Ok(Provider::Down),
        "slow" => Ok(Provider::Slow),
        "loses-update" => Ok(Provider::LosesUpdate),
        other => Err(field.unknown(other, &["ok", "down", "slow", "loses-update"])),
    }
}
