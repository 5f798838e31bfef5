//! What to check: one URL, or one host and port.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use hyper::http::uri::PathAndQuery;
use rustls::pki_types::ServerName;
use url::{Host, Url};

/// Longest URL that is read; browsers and servers agree on about this much.
pub const URL_MAX: usize = 2048;

/// One endpoint of a peer. `Display` and `Debug` leave out the query, which may hold a secret.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    kind: Kind,
    host: Host<String>,
    port: u16,
    /// Path and query of an HTTP endpoint, `/` for the others.
    target: String,
}

/// How far a probe of the endpoint goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `https://`: TCP, TLS, HTTP.
    Https,
    /// `http://`: TCP and HTTP; nothing proves who answers.
    Http,
    /// `tls://host:port`: TCP and TLS.
    Tls,
    /// `tcp://host:port`: TCP.
    Tcp,
}

impl Kind {
    pub fn scheme(self) -> &'static str {
        match self {
            Kind::Https => "https",
            Kind::Http => "http",
            Kind::Tls => "tls",
            Kind::Tcp => "tcp",
        }
    }

    pub fn is_tls(self) -> bool {
        matches!(self, Kind::Https | Kind::Tls)
    }

    pub fn is_http(self) -> bool {
        matches!(self, Kind::Https | Kind::Http)
    }

    fn default_port(self) -> Option<u16> {
        match self {
            Kind::Https => Some(443),
            Kind::Http => Some(80),
            Kind::Tls | Kind::Tcp => None,
        }
    }
}

/// Why a text is not an endpoint. No variant repeats the text, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    #[error("the URL is longer than {URL_MAX} characters")]
    TooLong,
    #[error("a URL has no spaces, line breaks or control characters")]
    Whitespace,
    #[error("the URL has no scheme: write https://HOST/PATH, http://HOST/PATH, tls://HOST:PORT or tcp://HOST:PORT")]
    NoScheme,
    #[error("the scheme {0:?} is not one that can be probed: use https, http, tls or tcp")]
    Scheme(String),
    #[error(
        "the URL holds a user name or password: put credentials into a request header, read from a file or the environment"
    )]
    UserInfo,
    #[error("the URL has a fragment (#…), which is never sent to a server: leave it out")]
    Fragment,
    #[error("the URL has no host")]
    NoHost,
    #[error("the host of the URL is not a host name or address: {0}")]
    Host(String),
    #[error("a {0}:// endpoint needs a port: {0}://HOST:PORT")]
    NoPort(&'static str),
    #[error("the port must be a number from 1 to 65535")]
    Port,
    #[error("a {0}:// endpoint has no path or query: write {0}://HOST:PORT")]
    Path(&'static str),
    #[error("the URL cannot be read: {0}")]
    Malformed(String),
}

impl Endpoint {
    /// Reads an endpoint; an internationalised host becomes its A-labels (RFC 5890).
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        if text.chars().count() > URL_MAX {
            return Err(EndpointError::TooLong);
        }
        if text.chars().any(|character| character.is_whitespace() || character.is_control()) {
            return Err(EndpointError::Whitespace);
        }
        let (scheme, rest) = text.split_once("://").ok_or(EndpointError::NoScheme)?;
        match scheme.to_ascii_lowercase().as_str() {
            "https" => parse_http(Kind::Https, text),
            "http" => parse_http(Kind::Http, text),
            "tls" => parse_socket(Kind::Tls, rest),
            "tcp" => parse_socket(Kind::Tcp, rest),
            other => Err(EndpointError::Scheme(crate::escape::escape(other))),
        }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The host as A-labels in lower case without a final dot, or an address without brackets.
    pub fn host(&self) -> String {
        match &self.host {
            Host::Domain(domain) => domain.clone(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        }
    }

    /// The address, where the host is one: nothing needs to be resolved.
    pub fn host_address(&self) -> Option<IpAddr> {
        match &self.host {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some((*address).into()),
            Host::Ipv6(address) => Some((*address).into()),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query, as sent in the request line. May hold a secret: not for showing.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Host and, unless it is the scheme's own, port: the Host header (RFC 9110, 7.2).
    pub fn authority(&self) -> String {
        if self.kind.default_port() == Some(self.port) {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The name that SNI says and that the certificate must hold.
    pub(crate) fn server_name(&self) -> Result<ServerName<'static>, EndpointError> {
        ServerName::try_from(self.host())
            .map_err(|_| EndpointError::Host("no certificate can hold this name".to_owned()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.kind.scheme(), self.authority())?;
        if self.kind.is_http() {
            f.write_str(self.target.split('?').next().unwrap_or("/"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

fn parse_http(kind: Kind, text: &str) -> Result<Endpoint, EndpointError> {
    let url = Url::parse(text).map_err(|error| match error {
        url::ParseError::EmptyHost => EndpointError::NoHost,
        url::ParseError::InvalidPort => EndpointError::Port,
        url::ParseError::IdnaError
        | url::ParseError::InvalidIpv4Address
        | url::ParseError::InvalidIpv6Address
        | url::ParseError::InvalidDomainCharacter => EndpointError::Host(error.to_string()),
        error => EndpointError::Malformed(error.to_string()),
    })?;
    if !url.username().is_empty() || url.password().is_some() || authority_of(text).contains('@') {
        return Err(EndpointError::UserInfo);
    }
    if url.fragment().is_some() {
        return Err(EndpointError::Fragment);
    }
    let host = url.host().ok_or(EndpointError::NoHost)?.to_owned();
    let port = url.port_or_known_default().filter(|port| *port != 0).ok_or(EndpointError::Port)?;
    let target = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    PathAndQuery::try_from(target.as_str())
        .map_err(|_| EndpointError::Malformed("its path cannot be sent in a request".to_owned()))?;
    finish(kind, host, port, target)
}

fn parse_socket(kind: Kind, rest: &str) -> Result<Endpoint, EndpointError> {
    let scheme = kind.scheme();
    if rest.contains('@') {
        return Err(EndpointError::UserInfo);
    }
    if rest.contains('#') {
        return Err(EndpointError::Fragment);
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '\\']) {
        return Err(EndpointError::Path(scheme));
    }
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ if authority.is_empty() => return Err(EndpointError::NoHost),
        _ => return Err(EndpointError::NoPort(scheme)),
    };
    if host.is_empty() {
        return Err(EndpointError::NoHost);
    }
    if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(EndpointError::Port);
    }
    let port = port.parse().ok().filter(|port| *port != 0).ok_or(EndpointError::Port)?;
    let host = Host::parse(host).map_err(|error| EndpointError::Host(error.to_string()))?;
    finish(kind, host, port, "/".to_owned())
}

/// One final dot is dropped: TLS and HTTP name a host without it (RFC 6066, 3).
fn finish(kind: Kind, host: Host<String>, port: u16, target: String) -> Result<Endpoint, EndpointError> {
    let host = match host {
        Host::Domain(domain) => Host::Domain(checked_domain(&domain)?),
        address => address,
    };
    let endpoint = Endpoint { kind, host, port, target };
    endpoint.server_name()?;
    Ok(endpoint)
}

/// Length limits of RFC 1035, 2.3.4.
fn checked_domain(domain: &str) -> Result<String, EndpointError> {
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    if domain.len() > 253 {
        return Err(EndpointError::Host("it is longer than 253 characters".to_owned()));
    }
    if domain.split('.').any(|label| label.is_empty() || label.len() > 63) {
        return Err(EndpointError::Host("each label has 1 to 63 characters".to_owned()));
    }
    Ok(domain.to_owned())
}

/// The part between `://` and the path, as it was written.
fn authority_of(text: &str) -> &str {
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    rest.split(['/', '?', '#', '\\']).next().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_all_kinds() {
        let endpoint = parse("https://API.Peer.test/v1/status?key=hunter2");
        assert_eq!(endpoint.kind(), Kind::Https);
        assert_eq!(endpoint.host(), "api.peer.test");
        assert_eq!(endpoint.port(), 443);
        assert_eq!(endpoint.target(), "/v1/status?key=hunter2");
        assert_eq!(endpoint.to_string(), "https://api.peer.test/v1/status");
        assert_eq!(format!("{endpoint:?}"), "Endpoint(https://api.peer.test/v1/status)");

        assert_eq!(parse("http://peer.test:8080").to_string(), "http://peer.test:8080/");
        assert_eq!(parse("http://peer.test?x=1").target(), "/?x=1");
        assert_eq!(parse("tls://mail.peer.test:993").to_string(), "tls://mail.peer.test:993");
        assert_eq!(parse("tls://mail.peer.test:443").authority(), "mail.peer.test:443");
        assert_eq!(parse("tcp://[2001:db8::1]:5432").to_string(), "tcp://[2001:db8::1]:5432");
        assert_eq!(parse("https://192.0.2.1/").host_address(), "192.0.2.1".parse().ok());
    }

    #[test]
    fn hosts_become_a_labels_without_a_final_dot() {
        assert_eq!(parse("https://bücher.test/").host(), "xn--bcher-kva.test");
        assert_eq!(parse("tls://迂回.test:443").host(), "xn--zbsv73k.test");
        assert_eq!(parse("https://peer.test./").authority(), "peer.test");
    }

    #[test]
    fn refuses_with_a_sentence() {
        use EndpointError as E;
        for (text, error) in [
            ("api.peer.test", E::NoScheme),
            ("ftp://peer.test/", E::Scheme("ftp".to_owned())),
            ("https://user:hunter2@peer.test/", E::UserInfo),
            ("https://@peer.test/", E::UserInfo),
            ("tls://user@peer.test:1", E::UserInfo),
            ("https://peer.test/#top", E::Fragment),
            ("tcp://peer.test:1#x", E::Fragment),
            ("https://peer.test:0/", E::Port),
            ("https://peer.test:70000/", E::Port),
            ("tcp://peer.test:70000", E::Port),
            ("tcp://peer.test:+5", E::Port),
            ("tls://peer.test", E::NoPort("tls")),
            ("tls://[::1]", E::NoPort("tls")),
            ("tls://", E::NoHost),
            ("tls://:443", E::NoHost),
            ("tls://peer.test:443/path", E::Path("tls")),
            ("https://peer.test/a b", E::Whitespace),
            ("https://peer.test/\n", E::Whitespace),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap_err(), error, "{text}");
        }
        for text in ["https://a..b/", "https://[::1/", "https://1.2.3.999/", "https://-/ü\u{0}"] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
        let long = format!("https://peer.test/{}", "x".repeat(URL_MAX));
        assert_eq!(Endpoint::parse(&long).unwrap_err(), E::TooLong);
        let label = format!("https://{}.test/", "x".repeat(64));
        assert!(matches!(Endpoint::parse(&label).unwrap_err(), E::Host(_)));
    }

    #[test]
    fn an_error_never_repeats_a_password() {
        let error = Endpoint::parse("https://user:hunter2@peer.test:99999/").unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
        let error = Endpoint::parse("https://user:hunter2@peer.test/").unwrap_err();
        assert!(!error.to_string().contains("hunter2"));
    }

    fn parse(text: &str) -> Endpoint {
        Endpoint::parse(text).unwrap()
    }
}
