//! Options that `check` and `explain` share: where to look from without a daemon.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use ipnet::IpNet;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ukai_dns::system::{RESOLV_CONF, SystemResolver};
use ukai_dns::{Client, ClientOptions, Upstream};
use ukai_dnsd::{network, read_bounded};
use ukai_probe::{Prober, ProberOptions};

use super::{Failed, USAGE};

/// How long a resolver may take where nothing else is said.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);
/// A bundle of every public CA is a quarter of this.
const CA_FILE_MAX: u64 = 1024 * 1024;

#[derive(Debug, clap::Args)]
pub struct Place {
    /// Ask this resolver instead of those in /etc/resolv.conf: ADDRESS[:PORT], udp://, tcp://,
    /// tls://ADDRESS#NAME or https://ADDRESS/PATH#NAME. May be given several times.
    #[arg(long, value_name = "URI")]
    pub resolver: Vec<Upstream>,
    /// Trust the certificates in this PEM file as well.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Contact addresses in this network although they are not public. May be given several times.
    #[arg(long, value_name = "NET", value_parser = network)]
    pub allow: Vec<IpNet>,
}

impl Place {
    pub fn resolvers(&self) -> anyhow::Result<Vec<Upstream>> {
        if !self.resolver.is_empty() {
            return Ok(self.resolver.clone());
        }
        let system = SystemResolver::read(Path::new(RESOLV_CONF))
            .map_err(|error| Failed::with(USAGE, format!("{error}; give a resolver with --resolver")))?;
        Ok(system.servers)
    }

    pub fn dns(&self) -> anyhow::Result<Client> {
        Ok(Client::new(ClientOptions { extra_roots: certificates(self)?, ..ClientOptions::default() }))
    }

    /// `chosen`: addresses that the operator named, which are allowed by being named.
    pub fn prober(&self, chosen: &[IpAddr]) -> anyhow::Result<Prober> {
        // Says in words what is wrong with the file.
        certificates(self)?;
        let mut allow = self.allow.clone();
        allow.extend(chosen.iter().map(|address| IpNet::from(*address)));
        let options =
            ProberOptions { extra_roots: self.ca_pem()?.into_iter().collect(), allow, ..ProberOptions::default() };
        Prober::new(options).map_err(|error| Failed::with(USAGE, format!("{}: {error}", self.ca_shown())))
    }

    fn ca_pem(&self) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(path) = &self.ca else { return Ok(None) };
        read_bounded(path, CA_FILE_MAX)
            .with_context(|| format!("the CA file {} cannot be read", path.display()))
            .map_err(|error| Failed::with(USAGE, format!("{error:#}; --ca wants a PEM file")))
            .map(Some)
    }

    fn ca_shown(&self) -> String {
        self.ca.as_ref().map_or_else(|| "this machine's trust store".to_owned(), |path| path.display().to_string())
    }
}

/// The certificates of --ca.
pub fn certificates(place: &Place) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let Some(pem) = place.ca_pem()? else { return Ok(Vec::new()) };
    let read = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(Failed::with(
            USAGE,
            format!("the CA file {} holds no certificate; --ca wants a PEM file", place.ca_shown()),
        )),
        Err(error) => Err(Failed::with(
            USAGE,
            format!("the CA file {} is not a PEM file: {error}; --ca wants one", place.ca_shown()),
        )),
    }
}
