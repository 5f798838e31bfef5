//! What is sent to a peer, and what of it is secret.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::header::{self, HeaderName, HeaderValue};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use crate::endpoint::Endpoint;

/// Says who is calling, so that the peer's staff can find us in their logs.
pub const USER_AGENT: &str = concat!("ukai/", env!("CARGO_PKG_VERSION"));
/// Most headers of one request.
pub const HEADERS_MAX: usize = 32;
/// Most certificates of a client's chain.
pub const CHAIN_MAX: usize = 10;

/// Headers that belong to the connection or to the endpoint, not to the operator.
const RESERVED: [HeaderName; 9] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
    header::PROXY_AUTHORIZATION,
];

/// A text that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the wire only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Method {
    #[default]
    Get,
    Head,
}

/// Whether the request carries its secrets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Secrets {
    #[default]
    With,
    /// For a candidate whose identity is not established: no secret header, no client certificate.
    Without,
}

/// Why a request cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("{0:?} is not a header name")]
    HeaderName(String),
    #[error("the header {0} belongs to the connection and cannot be given")]
    Reserved(String),
    #[error("the value of the header {0} holds characters that cannot be sent")]
    HeaderValue(String),
    #[error("a request has at most {HEADERS_MAX} headers")]
    TooManyHeaders,
    #[error("the client certificate holds no PEM certificate")]
    NoCertificate,
    #[error("the client certificate's chain has more than {CHAIN_MAX} certificates")]
    LongChain,
    #[error("the client certificate's chain cannot be read as PEM")]
    Chain,
    #[error("the client key cannot be read as PEM")]
    Key,
    #[error("the client certificate and its key do not belong together, or are of a kind that is not supported")]
    Mismatch,
}

/// The request of one endpoint: `GET` without headers by default.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: Method,
    pub secrets: Secrets,
    headers: Vec<(HeaderName, HeaderValue)>,
    secret_headers: Vec<(HeaderName, HeaderValue)>,
    client_certificate: Option<ClientCertificate>,
    user_agent: HeaderValue,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            method: Method::default(),
            secrets: Secrets::default(),
            headers: Vec::new(),
            secret_headers: Vec::new(),
            client_certificate: None,
            user_agent: HeaderValue::from_static(USER_AGENT),
        }
    }
}

impl Request {
    pub fn new(method: Method) -> Self {
        Self { method, ..Self::default() }
    }

    /// Adds a header that everybody may see; sent to candidates too.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, RequestError> {
        let header = self.checked(name, value)?;
        self.headers.push(header);
        Ok(self)
    }

    /// Adds a header whose value is secret.
    pub fn secret_header(mut self, name: &str, value: &Secret) -> Result<Self, RequestError> {
        let (name, mut value) = self.checked(name, value.expose())?;
        value.set_sensitive(true);
        self.secret_headers.push((name, value));
        Ok(self)
    }

    pub fn client_certificate(mut self, certificate: ClientCertificate) -> Self {
        self.client_certificate = Some(certificate);
        self
    }

    pub fn user_agent(mut self, text: &str) -> Result<Self, RequestError> {
        self.user_agent = header_value(&header::USER_AGENT, text)?;
        Ok(self)
    }

    /// The same request for somebody who has not proved who they are.
    pub fn without_secrets(&self) -> Self {
        Self { secrets: Secrets::Without, ..self.clone() }
    }

    /// Whether there is anything secret to leave out.
    pub fn has_secrets(&self) -> bool {
        !self.secret_headers.is_empty() || self.client_certificate.is_some()
    }

    pub(crate) fn presented_certificate(&self) -> Option<&ClientCertificate> {
        match self.secrets {
            Secrets::With => self.client_certificate.as_ref(),
            Secrets::Without => None,
        }
    }

    /// The request as HTTP has it: HTTP/2 takes the authority from the URI (RFC 9113, 8.3.1), HTTP/1.1 from Host.
    pub(crate) fn to_http(
        &self,
        endpoint: &Endpoint,
        http2: bool,
    ) -> Result<hyper::Request<Empty<Bytes>>, hyper::http::Error> {
        let authority = endpoint.authority();
        let target = endpoint.target();
        let mut builder = hyper::Request::builder().method(match self.method {
            Method::Get => hyper::Method::GET,
            Method::Head => hyper::Method::HEAD,
        });
        builder = if http2 {
            builder.uri(format!("{}://{authority}{target}", endpoint.kind().scheme()))
        } else {
            builder.uri(target).header(header::HOST, authority)
        };
        let mut request = builder.body(Empty::new())?;
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, self.user_agent.clone());
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        // What is expected of a body is written for its plain text.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let secret = match self.secrets {
            Secrets::With => self.secret_headers.as_slice(),
            Secrets::Without => &[],
        };
        for (name, value) in self.headers.iter().chain(secret) {
            headers.insert(name.clone(), value.clone());
        }
        Ok(request)
    }

    fn checked(&self, name: &str, value: &str) -> Result<(HeaderName, HeaderValue), RequestError> {
        if self.headers.len() + self.secret_headers.len() >= HEADERS_MAX {
            return Err(RequestError::TooManyHeaders);
        }
        let name = HeaderName::try_from(name).map_err(|_| RequestError::HeaderName(crate::escape::escape(name)))?;
        if RESERVED.contains(&name) {
            return Err(RequestError::Reserved(name.to_string()));
        }
        let value = header_value(&name, value)?;
        Ok((name, value))
    }
}

fn header_value(name: &HeaderName, value: &str) -> Result<HeaderValue, RequestError> {
    HeaderValue::try_from(value).map_err(|_| RequestError::HeaderValue(name.to_string()))
}

/// A client's chain and key, checked to belong together.
#[derive(Clone)]
pub struct ClientCertificate(Arc<SingleCertAndKey>);

impl ClientCertificate {
    /// Reads a PEM chain, leaf first, and a PEM key (PKCS #8, PKCS #1 or SEC 1).
    pub fn from_pem(chain: &[u8], key: &Secret) -> Result<Self, RequestError> {
        let chain = CertificateDer::pem_slice_iter(chain)
            .take(CHAIN_MAX + 1)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| RequestError::Chain)?;
        if chain.is_empty() {
            return Err(RequestError::NoCertificate);
        }
        if chain.len() > CHAIN_MAX {
            return Err(RequestError::LongChain);
        }
        let key = PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).map_err(|_| RequestError::Key)?;
        let provider = rustls::crypto::ring::default_provider();
        let certified = CertifiedKey::from_der(chain, key, &provider).map_err(|_| RequestError::Mismatch)?;
        Ok(Self(Arc::new(SingleCertAndKey::from(certified))))
    }

    pub(crate) fn resolver(&self) -> Arc<SingleCertAndKey> {
        Arc::clone(&self.0)
    }
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientCertificate([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_printed() {
        let secret = Secret::new("hunter2");
        let request = Request::default().secret_header("authorization", &secret).unwrap();
        let printed = format!("{secret} {secret:?} {request:?} {:?}", built(&request, false));
        assert!(!printed.contains("hunter2"), "{printed}");
    }

    #[test]
    fn without_secrets_leaves_them_out() {
        let request = Request::new(Method::Head)
            .header("x-tenant", "blue")
            .unwrap()
            .secret_header("authorization", &Secret::new("Bearer hunter2"))
            .unwrap();
        let with = built(&request, false);
        assert_eq!(with.headers()["authorization"], "Bearer hunter2");
        let without = built(&request.without_secrets(), false);
        assert!(!without.headers().contains_key("authorization"));
        assert_eq!(without.headers()["x-tenant"], "blue");
        assert_eq!(without.method(), hyper::Method::HEAD);
        assert!(request.has_secrets());
    }

    #[test]
    fn the_host_is_the_endpoints() {
        let http1 = built(&Request::default(), false);
        assert_eq!(http1.headers()["host"], "api.peer.test:8443");
        assert_eq!(http1.uri(), "/v1?a=b");
        assert_eq!(http1.headers()["user-agent"], USER_AGENT);
        let http2 = built(&Request::default(), true);
        assert_eq!(http2.uri(), "https://api.peer.test:8443/v1?a=b");
        assert!(!http2.headers().contains_key("host"));
    }

    #[test]
    fn refuses_what_cannot_be_sent() {
        let error = |name: &str, value: &str| Request::default().header(name, value).unwrap_err();
        assert_eq!(error("Host", "x"), RequestError::Reserved("host".to_owned()));
        assert_eq!(error("a b", "x"), RequestError::HeaderName("a b".to_owned()));
        assert_eq!(error("x-a", "b\r\nc: d"), RequestError::HeaderValue("x-a".to_owned()));
        let mut request = Request::default();
        for index in 0..HEADERS_MAX {
            request = request.header(&format!("x-{index}"), "v").unwrap();
        }
        assert_eq!(request.header("x", "v").unwrap_err(), RequestError::TooManyHeaders);
    }

    #[test]
    fn a_client_certificate_and_its_key_belong_together() {
        let one = rcgen::generate_simple_self_signed(["one.test".to_owned()]).unwrap();
        let two = rcgen::generate_simple_self_signed(["two.test".to_owned()]).unwrap();
        let key = Secret::new(one.signing_key.serialize_pem());
        let read = |chain: &str, key: &Secret| ClientCertificate::from_pem(chain.as_bytes(), key);
        assert_eq!(format!("{:?}", read(&one.cert.pem(), &key).unwrap()), "ClientCertificate([redacted])");
        assert_eq!(read(&two.cert.pem(), &key).unwrap_err(), RequestError::Mismatch);
        assert_eq!(read("", &key).unwrap_err(), RequestError::NoCertificate);
        assert_eq!(read(&one.cert.pem(), &Secret::new("")).unwrap_err(), RequestError::Key);
        let long = one.cert.pem().repeat(CHAIN_MAX + 1);
        assert_eq!(read(&long, &key).unwrap_err(), RequestError::LongChain);
    }

    fn built(request: &Request, http2: bool) -> hyper::Request<Empty<Bytes>> {
        let endpoint = Endpoint::parse("https://api.peer.test:8443/v1?a=b").unwrap();
        request.to_http(&endpoint, http2).unwrap()
    }
}
