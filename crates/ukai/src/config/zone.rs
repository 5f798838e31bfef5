//! `[rfc2136]` and `[unbound]`: a zone of somebody else's, where overrides are written.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use anyhow::Context;
use base64::Engine;
use ipnet::IpNet;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use ukai_core::peer::Level;
use ukai_dns::server::MAX_NOTIFIED;
use ukai_dns::update::{TsigKey, ZoneServer, key_statement};
use ukai_dns::{Name, Upstream};

use super::problem::At;
use super::reader::Reader;
use super::{Peer, v1};
use crate::provider::Place;
use crate::provider::rfc2136::PolicyZone;
use crate::provider::unbound;
use crate::secret::Secret;

const DNS_PORT: u16 = 53;
/// Unbound's own default.
const CONTROL_PORT: u16 = 8953;
const DEFAULT_ALGORITHM: &str = "hmac-sha256";

/// Which zone, and how it is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ZoneSettings {
    Rfc2136(Rfc2136),
    Unbound(Unbound),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rfc2136 {
    pub server: SocketAddr,
    pub zone: Name,
    pub key: SigningKey,
    pub secondaries: Vec<SocketAddr>,
}

/// A TSIG key as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKey {
    pub name: String,
    pub algorithm: String,
    /// In Base64, and found to be a key when it was read.
    pub secret: Secret,
}

/// A zone that the embedded server gives to those who follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedZone {
    pub name: Name,
    pub key: Option<SigningKey>,
    pub allow_transfer: Vec<IpNet>,
    pub notify: Vec<SocketAddr>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unbound {
    pub control: SocketAddr,
    pub server_certificate: CertificateDer<'static>,
    pub certificate: Vec<CertificateDer<'static>>,
    /// PEM.
    pub key: Secret,
}

impl ZoneSettings {
    /// Errors cannot come of what was checked when the configuration was read.
    pub fn place(&self) -> anyhow::Result<Place> {
        match self {
            ZoneSettings::Rfc2136(settings) => {
                let key = key(&settings.key).map_err(anyhow::Error::msg).context("the TSIG key cannot be used")?;
                let primary = ZoneServer::new(settings.server, settings.zone.clone(), Some(key));
                Ok(Place::Rfc2136(PolicyZone::new(primary, settings.secondaries.clone())))
            }
            ZoneSettings::Unbound(settings) => Ok(Place::Unbound(unbound::Unbound::new(control(settings)?))),
        }
    }
}

/// For people, in sentences.
impl fmt::Display for ZoneSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ZoneSettings::Rfc2136(settings) => write!(f, "the zone {} at {}", settings.zone, settings.server),
            ZoneSettings::Unbound(settings) => write!(f, "the Unbound at {}", settings.control),
        }
    }
}

/// What else the file says that bears on it.
pub struct Beside<'a> {
    pub dns: bool,
    pub resolver: &'a [Upstream],
    /// The resolver that the application asks, as it is written.
    pub follower: Option<&'a str>,
    pub peers: &'a [Peer],
}

/// The sections as they are written.
pub struct Written {
    pub rfc2136: Option<v1::Rfc2136>,
    pub unbound: Option<v1::Unbound>,
}

pub fn zone(written: Written, beside: &Beside<'_>, reader: &mut Reader<'_>) -> Option<ZoneSettings> {
    let Written { rfc2136, unbound } = written;
    let key = if rfc2136.is_some() { "rfc2136" } else { "unbound" };
    let at = At::default().key(key);
    if beside.dns && (rfc2136.is_some() || unbound.is_some()) {
        reader.problem(&at, format!("[dns] and [{key}] are two places for the same overrides; remove one of them"));
    }
    match (rfc2136, unbound) {
        (None, None) => None,
        (Some(_), Some(_)) => {
            reader.problem(&at, "[rfc2136] and [unbound] are two places for the same overrides; remove one of them");
            None
        }
        (Some(written), None) => {
            ways(&at, beside, reader);
            self::rfc2136(&at, written, reader).map(ZoneSettings::Rfc2136)
        }
        (None, Some(written)) => {
            ways(&at, beside, reader);
            self::unbound(&at, written, reader).map(ZoneSettings::Unbound)
        }
    }
}

fn unbound(at: &At, written: v1::Unbound, reader: &mut Reader<'_>) -> Option<Unbound> {
    let control = server(&at.key("control"), &written.control, CONTROL_PORT, reader);
    let server_certificate = reader.certificates(&at.key("server_certificate"), &written.server_certificate);
    let certificate = reader.certificates(&at.key("certificate"), &written.certificate);
    let key = reader.secret_file(&at.key("key"), &written.key);
    let settings = Unbound {
        control: control?,
        server_certificate: server_certificate.into_iter().next()?,
        certificate,
        key: key?,
    };
    if settings.certificate.is_empty() {
        return None;
    }
    let made = self::control(&settings).map(drop).map_err(|error| format!("{error:#}"));
    reader.problems.check(&at.key("key"), made)?;
    Some(settings)
}

/// No message repeats the key.
fn control(settings: &Unbound) -> anyhow::Result<unbound::Control> {
    let key = PrivateKeyDer::from_pem_slice(settings.key.expose().as_bytes())
        .map_err(|_| anyhow::anyhow!("this is no private key in PEM; copy unbound_control.key"))?;
    unbound::Control::new(settings.control, settings.server_certificate.clone(), settings.certificate.clone(), key)
        .context("the certificate and the key of the remote control cannot be used together")
}

/// Who follows the zone proves an override, and who does not proves its end: ukai must know one of each.
fn ways(at: &At, beside: &Beside<'_>, reader: &mut Reader<'_>) {
    let writes = beside.peers.iter().any(|peer| peer.level >= Level::Approve);
    let follows: Option<Upstream> = beside.follower.and_then(|written| written.parse().ok());
    let mut say = |message: &str| match writes {
        true => reader.problem(at, message),
        false => reader.warn(at, message),
    };
    if beside.follower.is_none() {
        say(
            "set application.resolver to the resolver that follows this zone, as the application asks it: through it an override is \
             proved",
        );
    }
    if beside.resolver.is_empty() {
        say(
            "set `resolver` to servers that do not follow this zone: they are the way past an override, which its end is decided on",
        );
    }
    if let Some(follows) = follows.as_ref().filter(|follows| beside.resolver.contains(follows)) {
        reader.problem(
            &At::default().key("resolver"),
            format!(
                "{follows} follows the zone (application.resolver), so it is no way past an override; name others here"
            ),
        );
    }
}

fn rfc2136(at: &At, written: v1::Rfc2136, reader: &mut Reader<'_>) -> Option<Rfc2136> {
    let server = server(&at.key("server"), &written.server, DNS_PORT, reader);
    let zone = reader.one::<Name>(&at.key("zone"), &written.zone);
    if zone.as_ref().is_some_and(Name::is_root) {
        reader.problem(&at.key("zone"), "the root is no response-policy zone");
    }
    let key = signing_key(&at.key("tsig"), written.tsig, reader);
    let mut secondaries = Vec::new();
    for (index, text) in written.secondaries.unwrap_or_default().iter().enumerate() {
        let at = at.key("secondaries").index(index);
        let Some(secondary) = self::server(&at, text, DNS_PORT, reader) else { continue };
        if Some(secondary) == server || secondaries.contains(&secondary) {
            reader.problem(&at, format!("{secondary} is listed already; each server is named once"));
        }
        secondaries.push(secondary);
    }
    Some(Rfc2136 { server: server?, zone: zone?, key: key?, secondaries })
}

pub fn served_zone(at: &At, written: v1::ServedZone, reader: &mut Reader<'_>) -> Option<ServedZone> {
    let name = reader.one::<Name>(&at.key("name"), &written.name);
    if name.as_ref().is_some_and(Name::is_root) {
        reader.problem(&at.key("name"), "the root is no response-policy zone");
    }
    let is_signed = written.tsig.is_some();
    let key = written.tsig.and_then(|tsig| signing_key(&at.key("tsig"), tsig, reader));
    let allow_transfer: Vec<IpNet> = reader.list(&at.key("allow_transfer"), written.allow_transfer.as_deref());
    if !is_signed && allow_transfer.is_empty() {
        reader.problem(at, "nobody could follow this zone; set tsig, or allow_transfer for resolvers that cannot sign");
    }
    let notify = written.notify.unwrap_or_default();
    reader.at_most(&at.key("notify"), notify.len(), MAX_NOTIFIED, "servers to notify");
    let notify = notify
        .iter()
        .enumerate()
        .filter_map(|(index, text)| server(&at.key("notify").index(index), text, DNS_PORT, reader))
        .collect();
    Some(ServedZone { name: name?, key, allow_transfer, notify })
}

fn signing_key(at: &At, written: v1::Tsig, reader: &mut Reader<'_>) -> Option<SigningKey> {
    let mut secret = reader.secret_place(&at.key("secret"), &written.secret)?;
    let algorithm = written.algorithm.unwrap_or_else(|| DEFAULT_ALGORITHM.to_owned());
    // The whole of what `tsig-keygen` printed will do.
    if let Some(statement) = key_statement(secret.expose()) {
        if statement.name != written.name || statement.algorithm != algorithm {
            let (there, here) = (statement.name, &written.name);
            reader.problem(
                at,
                format!(
                    "the secret's file holds the key {there} ({}), and this says {here} ({algorithm})",
                    statement.algorithm
                ),
            );
        }
        secret = Secret::new(statement.secret);
    }
    let signing = SigningKey { name: written.name, algorithm, secret };
    reader.problems.check(at, key(&signing))?;
    Some(signing)
}

/// By address: a name would have to be resolved by what may be broken.
fn server(at: &At, text: &str, port: u16, reader: &mut Reader<'_>) -> Option<SocketAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let parsed = match bare.parse::<IpAddr>() {
        Ok(address) => Ok(SocketAddr::new(address, port)),
        Err(_) => text.parse::<SocketAddr>().map_err(|_| {
            format!(
                "{text:?} is no server; write an IP address, with a port if it is not {port} (names are not resolved)"
            )
        }),
    };
    reader.problems.check(at, parsed)
}

/// No message repeats the secret.
fn key(written: &SigningKey) -> Result<TsigKey, String> {
    let octets = base64::engine::general_purpose::STANDARD.decode(written.secret.expose().trim()).map_err(|_| {
        "the secret is not Base64; copy it from `tsig-keygen` or from the server's key statement".to_owned()
    })?;
    TsigKey::new(&written.name, &written.algorithm, &octets).map_err(|error| error.to_string())
}
