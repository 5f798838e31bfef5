//! TLS to a resolver: the machine's trust store and the roots given, read when first needed.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{AskError, ClientOptions, stream};

/// Which protocol is spoken inside.
#[derive(Clone, Copy)]
pub(super) enum Protocol {
    Dns,
    Http,
}

impl Protocol {
    fn alpn(self) -> Vec<Vec<u8>> {
        match self {
            Self::Dns => vec![b"dot".to_vec()],
            Self::Http => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        }
    }
}

pub(super) struct Trust {
    options: ClientOptions,
    roots: OnceLock<Arc<RootCertStore>>,
    /// Made once, so that a server that was met before is met with a ticket; nothing is kept where every connection is to
    /// show the whole handshake.
    kept: [OnceLock<Arc<ClientConfig>>; 2],
}

impl Trust {
    pub fn new(options: ClientOptions) -> Self {
        Self { options, roots: OnceLock::new(), kept: [const { OnceLock::new() }; 2] }
    }

    pub async fn connect(
        &self,
        address: SocketAddr,
        server_name: Option<&str>,
        protocol: Protocol,
    ) -> Result<TlsStream<TcpStream>, AskError> {
        let name = match server_name {
            Some(name) => ServerName::try_from(name.to_owned()).map_err(|error| AskError::Tls(error.to_string()))?,
            None => ServerName::IpAddress(address.ip().into()),
        };
        let connector = TlsConnector::from(self.kept_config(protocol)?);
        let tcp = stream::connect(address).await?;
        connector.connect(name, tcp).await.map_err(tls_error)
    }

    fn kept_config(&self, protocol: Protocol) -> Result<Arc<ClientConfig>, AskError> {
        if !self.options.keep_connections {
            return Ok(Arc::new(self.config(protocol)?));
        }
        let kept = &self.kept[protocol as usize];
        if let Some(config) = kept.get() {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.config(protocol)?);
        Ok(Arc::clone(kept.get_or_init(|| config)))
    }

    fn config(&self, protocol: Protocol) -> Result<ClientConfig, AskError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| AskError::Tls(error.to_string()))?
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        config.alpn_protocols = protocol.alpn();
        Ok(config)
    }

    fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(self.roots.get_or_init(|| Arc::new(read_roots(&self.options))))
    }
}

fn read_roots(options: &ClientOptions) -> RootCertStore {
    let mut store = RootCertStore::empty();
    if options.system_roots {
        let native = rustls_native_certs::load_native_certs();
        for error in &native.errors {
            tracing::debug!(%error, "a certificate of the trust store was not read");
        }
        store.add_parsable_certificates(native.certs);
        if store.is_empty() {
            store.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
    }
    for root in &options.extra_roots {
        if let Err(error) = store.add(root.clone()) {
            tracing::warn!(%error, "a root certificate that was given cannot be used");
        }
    }
    store
}

/// rustls reports through `io::Error`; what is its own is told apart from what is the socket's.
fn tls_error(error: std::io::Error) -> AskError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(tls) => AskError::Tls(tls.to_string()),
        None => error.into(),
    }
}
