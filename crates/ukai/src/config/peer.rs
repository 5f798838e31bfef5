//! `[[peer]]`: a service that is watched.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ukai_core::peer::{Level, Mode};
use ukai_probe::{ClientCertificate, Endpoint, Request, Timeouts};

use super::problem::At;
use super::reader::Reader;
use super::{Peer, defaults, expect, v1};
use crate::secret::Secret;

const LEVELS: [(&str, Level); 4] =
    [("observe", Level::Observe), ("propose", Level::Propose), ("approve", Level::Approve), ("auto", Level::Auto)];
const MODES: [(&str, Mode); 2] = [("follow", Mode::Follow), ("pin", Mode::Pin)];
const NAME_BYTES: usize = 253;
/// Headers whose value is a secret even where the file spells it out.
const SECRET_HEADERS: [&str; 4] = ["authorization", "cookie", "x-api-key", "api-key"];

pub fn peers(written: Vec<v1::Peer>, authority_port: u16, reader: &mut Reader<'_>) -> Vec<Peer> {
    let at = At::default().key("peer");
    reader.at_most(&at, written.len(), defaults::PEERS, "peers");
    let mut peers: Vec<Peer> = Vec::new();
    let (mut names, mut hosts) = (BTreeSet::new(), BTreeMap::new());
    for (index, peer) in written.into_iter().enumerate() {
        let at = at.index(index);
        let Some(peer) = self::peer(&at, peer, authority_port, reader) else {
            continue;
        };
        if !names.insert(peer.name.clone()) {
            reader.problem(&at.key("name"), format!("the name {:?} is used twice", peer.name));
        }
        if let Some(other) = hosts.insert(peer.host.clone(), peer.name.clone()) {
            reader.problem(
                &at.key("urls"),
                format!("the peer {other:?} already watches {}; an override has one owner, so list all URLs of a host in one peer", peer.host),
            );
        }
        peers.push(peer);
    }
    peers
}

fn peer(at: &At, written: v1::Peer, authority_port: u16, reader: &mut Reader<'_>) -> Option<Peer> {
    let endpoints = endpoints(at, &written.urls, reader);
    let mode = reader.word(&at.key("mode"), written.mode.as_deref(), &MODES).unwrap_or_default();
    let level = reader.word(&at.key("level"), written.level.as_deref(), &LEVELS).unwrap_or_default();
    let request = request(at, written.headers, written.client_certificate, reader);
    let unauthenticated =
        written.unauthenticated.map(|expect| expect::expectation(&at.key("unauthenticated"), expect, reader));
    let peer = Peer {
        interval: reader.duration(
            &at.key("interval"),
            written.interval.as_deref(),
            defaults::INTERVAL,
            defaults::INTERVAL_RANGE,
        ),
        lease: reader.duration(&at.key("lease"), written.lease.as_deref(), defaults::LEASE, defaults::LEASE_RANGE),
        approvals: written.approvals.unwrap_or(1),
        addresses: reader.list(&at.key("addresses"), written.addresses.as_deref()),
        networks: reader.list(&at.key("networks"), written.networks.as_deref()),
        authority: authority(at, written.authority.unwrap_or_default(), authority_port, reader),
        expect: expect::expectation(&at.key("expect"), written.expect.unwrap_or_default(), reader),
        resolve_timeout: defaults::RESOLVE_TIMEOUT,
        timeouts: Timeouts::default(),
        ca: written.ca.map(|ca| reader.certificates(&at.key("ca"), &ca)).unwrap_or_default(),
        default_alarms: written.default_alarms.unwrap_or(true),
        host: endpoints.first()?.host(),
        name: written.name.unwrap_or_else(|| endpoints.first().map(Endpoint::host).unwrap_or_default()),
        endpoints,
        level,
        mode,
        unauthenticated,
        request,
    };
    let peer = with_timeouts(at, peer, &written.timeouts.unwrap_or_default(), reader);
    check(at, &peer, reader);
    Some(peer)
}

fn endpoints(at: &At, urls: &[String], reader: &mut Reader<'_>) -> Vec<Endpoint> {
    let at = at.key("urls");
    if urls.is_empty() {
        reader.problem(&at, "a peer needs at least one URL: urls = [\"https://HOST/PATH\"]");
    }
    reader.at_most(&at, urls.len(), defaults::URLS_PER_PEER, "URLs");
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for (index, url) in urls.iter().enumerate() {
        let at = at.index(index);
        let Some(endpoint) = reader.problems.check(&at, Endpoint::parse(url)) else {
            continue;
        };
        if let Some(first) = endpoints.first().filter(|first| first.host() != endpoint.host()) {
            reader.problem(
                &at,
                format!(
                    "this URL is of {}, the first is of {}; make it a peer of its own",
                    endpoint.host(),
                    first.host()
                ),
            );
        }
        if endpoints.iter().any(|other| other.to_string() == endpoint.to_string()) {
            reader.problem(&at, format!("{endpoint} is listed twice (the query is not told apart)"));
        }
        endpoints.push(endpoint);
    }
    endpoints
}

fn authority(at: &At, written: Vec<String>, port: u16, reader: &mut Reader<'_>) -> Vec<SocketAddr> {
    let at = at.key("authority");
    reader.at_most(&at, written.len(), defaults::LIST, "entries");
    let mut servers = Vec::new();
    for (index, text) in written.iter().enumerate() {
        let parsed = text
            .parse::<IpAddr>()
            .map(|address| SocketAddr::new(address, port))
            .or_else(|_| text.parse())
            .map_err(|_| format!("{text:?} is not a name server; write ADDRESS or ADDRESS:PORT"));
        servers.extend(reader.problems.check(&at.index(index), parsed));
    }
    servers
}

fn request(
    at: &At,
    headers: Option<BTreeMap<String, v1::SecretSource>>,
    certificate: Option<v1::ClientCertificate>,
    reader: &mut Reader<'_>,
) -> Request {
    let mut request = Request::default();
    for (name, source) in headers.unwrap_or_default() {
        let at = at.key("headers").key(&name);
        let is_secret = SECRET_HEADERS.contains(&name.to_ascii_lowercase().as_str());
        let value = match &source {
            v1::SecretSource::Literal(value) => Some(Secret::new(value)),
            v1::SecretSource::Place(place) => reader.secret_place(&at, place),
        };
        let Some(value) = value else { continue };
        let with_header = match &source {
            v1::SecretSource::Literal(text) if !is_secret => request.clone().header(&name, text),
            v1::SecretSource::Literal(_) | v1::SecretSource::Place(_) => {
                request.clone().secret_header(&name, &ukai_probe::Secret::new(value.expose()))
            }
        };
        if is_secret && matches!(source, v1::SecretSource::Literal(_)) {
            reader.warn(
                &at,
                "a secret stands in the file itself; { env = \"NAME\" } or { file = \"PATH\" } keeps it out",
            );
        }
        request = reader.problems.check(&at, with_header).unwrap_or(request);
    }
    match certificate.and_then(|certificate| client_certificate(at, certificate, reader)) {
        Some(certificate) => request.client_certificate(certificate),
        None => request,
    }
}

fn client_certificate(at: &At, written: v1::ClientCertificate, reader: &mut Reader<'_>) -> Option<ClientCertificate> {
    let at = at.key("client_certificate");
    let chain = reader.file(&at.key("certificate"), &written.certificate);
    let key = reader.secret_file(&at.key("key"), &written.key);
    let read = ClientCertificate::from_pem(&chain?, &ukai_probe::Secret::new(key?.expose()));
    reader.problems.check(&at, read)
}

fn with_timeouts(at: &At, peer: Peer, written: &v1::Timeouts, reader: &mut Reader<'_>) -> Peer {
    let at = at.key("timeouts");
    let mut read = |key: &str, text: &Option<String>, default| {
        reader.duration(&at.key(key), text.as_deref(), default, defaults::TIMEOUT_RANGE)
    };
    let timeouts = Timeouts {
        connect: read("connect", &written.connect, peer.timeouts.connect),
        tls: read("tls", &written.tls, peer.timeouts.tls),
        processing: read("processing", &written.processing, peer.timeouts.processing),
        transfer: read("transfer", &written.transfer, peer.timeouts.transfer),
    };
    let resolve_timeout = read("resolve", &written.resolve, peer.resolve_timeout);
    Peer { timeouts, resolve_timeout, ..peer }
}

/// What only the whole peer can tell.
fn check(at: &At, peer: &Peer, reader: &mut Reader<'_>) {
    if !is_name(&peer.name) {
        reader.problem(
            &at.key("name"),
            format!("{:?} is not a name; use letters, digits, '.', '-' and '_', at most {NAME_BYTES}", peer.name),
        );
    }
    if !(1..=2).contains(&peer.approvals) {
        reader.problem(&at.key("approvals"), format!("approvals is 1 or 2, not {}", peer.approvals));
    }
    match peer.mode {
        Mode::Pin if peer.addresses.is_empty() => {
            reader.problem(&at.key("mode"), "a pin needs addresses = [\"ADDRESS\", …]");
        }
        Mode::Follow if !peer.addresses.is_empty() => {
            reader.problem(&at.key("addresses"), "addresses are those of a pin; write mode = \"pin\" as well");
        }
        Mode::Pin | Mode::Follow => {}
    }
    let is_address = peer.endpoints.iter().any(|endpoint| endpoint.host_address().is_some());
    if is_address && peer.level > Level::Observe {
        reader.problem(
            &at.key("level"),
            format!("{} is an address, and only a name can be overridden; level must be \"observe\"", peer.host),
        );
    }
    if !peer.verified_tls() {
        reader.warn(
            &at.key("urls"),
            format!("{:?} is reached without TLS: nothing proves who answers, so an override is never found by itself, only pinned by a person", peer.name),
        );
    }
    if peer.request.has_secrets() && peer.unauthenticated.is_none() && peer.level > Level::Observe {
        reader.warn(
            at,
            format!("{:?} needs secrets, which no candidate address is given; say in `unauthenticated` what it answers without them", peer.name),
        );
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':'))
}
