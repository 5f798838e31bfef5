//! From the configuration to where we look from and whom we look at.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use rustls::pki_types::CertificateDer;
use ukai_dns::system::{RESOLV_CONF, SystemResolver};
use ukai_dns::{Client, ClientOptions, Upstream};
use ukai_probe::{Prober, ProberOptions};

use crate::config::{self, Config, Peer};
use crate::notify::http::{HttpsClient, HttpsOptions};
use crate::vantage::OtherVantage;

use super::own::SystemFiles;
use super::subject::{Control, Subject, Vantage, Watched};
use super::{families, limits};

/// Everything that the configuration says about looking.
#[derive(Clone)]
pub struct Configured {
    pub vantage: Vantage,
    pub subjects: BTreeMap<String, Subject>,
}

pub fn configure(config: &Config) -> anyhow::Result<Configured> {
    let prober = prober(config, &[])?;
    let vantage = Vantage {
        dns: Client::new(ClientOptions { extra_roots: config.ca.clone(), ..ClientOptions::default() }),
        prober: prober.clone(),
        resolvers: resolvers(config)?,
        embedded: config.dns.as_ref().and_then(|dns| dns.listen.first().copied()),
        application: config.application.as_ref().and_then(|application| application.resolver.clone()),
        is_routed: families::is_routed,
        independent: config.independent.clone(),
        others: other_vantages(config)?,
        root_hints: config.root_hints.clone(),
        authority_port: config.authority_port,
        controls: config
            .controls
            .iter()
            .map(|control| Control::new(control.endpoint.clone(), control.address, control.address_v6))
            .collect(),
        bound: config.evidence_bound,
        ecs_subnets: config.ecs_subnets.clone(),
        hides_types: config.hides_types(),
        time_server: config.time_server,
        system: SystemFiles::default(),
    };
    let subjects = config
        .peers
        .iter()
        .map(|peer| {
            // Peers without a CA of their own share one prober, and so one bound on connections.
            let prober = if peer.ca.is_empty() { prober.clone() } else { self::prober(config, &peer.ca)? };
            Ok((peer.name.clone(), subject(peer, prober)))
        })
        .collect::<anyhow::Result<_>>()?;
    Ok(Configured { vantage, subjects })
}

/// Asked as notifications are sent: a broken resolver of ours must not keep us from hearing what others see.
fn other_vantages(config: &Config) -> anyhow::Result<Vec<OtherVantage>> {
    if config.other_vantages.is_empty() {
        return Ok(Vec::new());
    }
    let (resolver, independent, ca) = (config.resolver.clone(), config.independent.clone(), config.ca.clone());
    let http = HttpsClient::new(HttpsOptions { resolver, independent, ca });
    let http = http.context("other vantages cannot be asked: TLS could not be set up")?;
    let vantages = config.other_vantages.iter();
    let asked = |known: &config::OtherVantage| {
        OtherVantage::new(known.name.clone(), known.url.clone(), known.token.clone(), http.clone())
    };
    Ok(vantages.map(asked).collect())
}

/// What the application's network resolves with, past our override: never the embedded server itself.
pub fn resolvers(config: &Config) -> anyhow::Result<Vec<Upstream>> {
    resolvers_of(config, Path::new(RESOLV_CONF))
}

fn resolvers_of(config: &Config, resolv_conf: &Path) -> anyhow::Result<Vec<Upstream>> {
    let resolvers = if config.resolver.is_empty() {
        SystemResolver::read(resolv_conf)
            .context("no resolver is configured and the system's cannot be read; set `resolver`")?
            .servers
    } else {
        config.resolver.clone()
    };
    let own = |resolver: &&Upstream| config.dns.as_ref().is_some_and(|dns| dns.is_own(resolver.address()));
    if let Some(own) = resolvers.iter().find(own) {
        bail!("{own} is the embedded server itself; set `resolver` to the servers behind it");
    }
    Ok(resolvers)
}

fn prober(config: &Config, more: &[CertificateDer<'static>]) -> anyhow::Result<Prober> {
    let options = ProberOptions {
        extra_roots: config.ca.iter().chain(more).map(|certificate| pem(certificate)).collect(),
        allow: config.allow_addresses.clone(),
        max_concurrent: limits::at_once(),
        ..ProberOptions::default()
    };
    Prober::new(options).context("the trust store cannot be used")
}

fn subject(peer: &Peer, prober: Prober) -> Subject {
    Subject {
        peer: peer.name.clone(),
        prober,
        host: peer.host.clone(),
        watched: peer
            .endpoints
            .iter()
            .map(|endpoint| Watched {
                endpoint: endpoint.clone(),
                expectation: peer.expect.clone(),
                unauthenticated: peer.unauthenticated.clone(),
                request: peer.request.clone(),
                timeouts: peer.timeouts,
            })
            .collect(),
        authority: peer.authority.clone(),
        resolve_timeout: peer.resolve_timeout,
    }
}

/// A certificate as PEM (RFC 7468): lines of 64 characters.
pub fn pem(certificate: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = Vec::with_capacity(certificate.len().div_ceil(3) * 4);
    for chunk in certificate.chunks(3) {
        let mut group = [0u8; 3];
        group[..chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        for position in 0..4 {
            let sextet = (bits >> (18 - 6 * position)) & 0x3f;
            encoded.push(if position <= chunk.len() { ALPHABET[sextet as usize] } else { b'=' });
        }
    }
    let mut out = b"-----BEGIN CERTIFICATE-----\n".to_vec();
    for line in encoded.chunks(64) {
        out.extend_from_slice(line);
        out.push(b'\n');
    }
    out.extend_from_slice(b"-----END CERTIFICATE-----\n");
    out
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn the_system_resolver_is_not_asked_where_it_is_our_own() {
        let resolv_conf = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(resolv_conf.path(), "nameserver 127.0.0.53\n").unwrap();
        let listening = |listen: &str| {
            let text = format!("[dns]\nlisten = [\"{listen}\"]\n[[peer]]\nurls = [\"https://a.test/\"]");
            Config::parse(&text, Path::new("ukai.toml")).unwrap()
        };
        for listen in ["127.0.0.53:53", "0.0.0.0:53"] {
            let error = resolvers_of(&listening(listen), resolv_conf.path()).unwrap_err().to_string();
            assert!(error.contains("is the embedded server itself"), "{error}");
        }
        assert_eq!(resolvers_of(&listening("127.0.0.1:53"), resolv_conf.path()).unwrap().len(), 1);
    }

    #[test]
    fn pem_reads_back_whatever_the_length() {
        for length in [0, 1, 2, 3, 47, 48, 49, 500] {
            let der: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
            let read = CertificateDer::from_pem_slice(&pem(&der)).unwrap();
            assert_eq!(read.as_ref(), der, "{length}");
        }
    }
}
