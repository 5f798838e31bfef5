//! Where a question can be sent: an address, a transport and, for TLS, the name to be proved.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::types::Transport;

/// One server that answers questions, such as `1.1.1.1`, `tcp://192.0.2.1:5353`, `tls://9.9.9.9#dns.quad9.net` or
/// `https://1.1.1.1/dns-query#one.one.one.one`. Always an address: a resolver must not need a resolver.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Upstream {
    Udp(SocketAddr),
    Tcp(SocketAddr),
    /// DNS over TLS (RFC 7858); without a server name the certificate must hold the address.
    Tls {
        address: SocketAddr,
        server_name: Option<String>,
    },
    /// DNS over HTTPS (RFC 8484).
    Https {
        address: SocketAddr,
        path: String,
        server_name: Option<String>,
    },
}

const DNS_PORT: u16 = 53;
const TLS_PORT: u16 = 853;
const HTTPS_PORT: u16 = 443;
const DEFAULT_PATH: &str = "/dns-query";

impl Upstream {
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Udp(address) | Self::Tcp(address) => *address,
            Self::Tls { address, .. } | Self::Https { address, .. } => *address,
        }
    }

    pub fn transport(&self) -> Transport {
        match self {
            Self::Udp(_) => Transport::Udp,
            Self::Tcp(_) => Transport::Tcp,
            Self::Tls { .. } => Transport::Tls,
            Self::Https { .. } => Transport::Https,
        }
    }
}

impl From<SocketAddr> for Upstream {
    fn from(address: SocketAddr) -> Self {
        Self::Udp(address)
    }
}

impl FromStr for Upstream {
    type Err = UpstreamError;

    fn from_str(text: &str) -> Result<Self, UpstreamError> {
        let fail = |cause: &str| UpstreamError { text: text.to_owned(), cause: cause.to_owned() };
        let (scheme, rest) = text.split_once("://").unwrap_or(("udp", text));
        let (rest, server_name) = match rest.split_once('#') {
            Some((_, "")) => return Err(fail("the server name after # is empty")),
            Some((rest, name)) => (rest, Some(name.to_owned())),
            None => (rest, None),
        };
        let (host, path) = match rest.find('/') {
            Some(at) => (&rest[..at], Some(&rest[at..])),
            None => (rest, None),
        };
        let address = |port| {
            parse_address(host, port).ok_or_else(|| {
                fail("an IP address is needed, with a port if it is not the usual one; IPv6 with a port as [::1]:53")
            })
        };
        if let Some(name) = &server_name
            && rustls::pki_types::ServerName::try_from(name.as_str()).is_err()
        {
            return Err(fail("the server name after # is not a host name"));
        }
        match scheme {
            "udp" | "tcp" if server_name.is_some() => Err(fail("a server name is for tls:// and https:// only")),
            "udp" | "tcp" | "tls" if path.is_some() => Err(fail("a path is for https:// only")),
            "udp" => address(DNS_PORT).map(Self::Udp),
            "tcp" => address(DNS_PORT).map(Self::Tcp),
            "tls" => Ok(Self::Tls { address: address(TLS_PORT)?, server_name }),
            "https" => {
                let path = path.filter(|path| *path != "/").unwrap_or(DEFAULT_PATH).to_owned();
                if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(fail("the path must be printable ASCII without spaces"));
                }
                Ok(Self::Https { address: address(HTTPS_PORT)?, path, server_name })
            }
            _ => Err(fail("the scheme must be udp, tcp, tls or https")),
        }
    }
}

fn parse_address(host: &str, port: u16) -> Option<SocketAddr> {
    if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, port));
    }
    host.parse::<SocketAddr>().ok().filter(|address| address.port() != 0)
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.transport(), self.address())?;
        let server_name = match self {
            Self::Udp(_) | Self::Tcp(_) => None,
            Self::Tls { server_name, .. } => server_name.as_ref(),
            Self::Https { path, server_name, .. } => {
                f.write_str(path)?;
                server_name.as_ref()
            }
        };
        match server_name {
            Some(name) => write!(f, "#{name}"),
            None => Ok(()),
        }
    }
}

impl Serialize for Upstream {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Upstream {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Why a text names no upstream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an upstream: {cause}")]
pub struct UpstreamError {
    pub text: String,
    pub cause: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, printed) in [
            ("1.2.3.4", "udp://1.2.3.4:53"),
            ("1.2.3.4:5353", "udp://1.2.3.4:5353"),
            ("::1", "udp://[::1]:53"),
            ("[::1]:5353", "udp://[::1]:5353"),
            ("[::1]", "udp://[::1]:53"),
            ("udp://1.2.3.4", "udp://1.2.3.4:53"),
            ("tcp://1.2.3.4:54", "tcp://1.2.3.4:54"),
            ("tls://1.2.3.4#dns.test", "tls://1.2.3.4:853#dns.test"),
            ("tls://1.2.3.4", "tls://1.2.3.4:853"),
            ("https://1.2.3.4#dns.test", "https://1.2.3.4:443/dns-query#dns.test"),
            ("https://[::1]:8443/q#dns.test", "https://[::1]:8443/q#dns.test"),
        ] {
            let upstream: Upstream = text.parse().unwrap();
            assert_eq!(upstream.to_string(), printed);
            assert_eq!(printed.parse::<Upstream>().unwrap(), upstream);
        }
    }

    #[test]
    fn refusals() {
        for (text, cause) in [
            ("", "IP address"),
            ("dns.google", "IP address"),
            ("1.2.3.4:0", "IP address"),
            ("1.2.3.4:99999", "IP address"),
            ("quic://1.2.3.4", "scheme"),
            ("udp://1.2.3.4#x", "server name"),
            ("tcp://1.2.3.4/x", "path"),
            ("tls://1.2.3.4#", "empty"),
            ("tls://1.2.3.4#a b", "not a host name"),
            ("https://1.2.3.4/a b", "path"),
        ] {
            let error = text.parse::<Upstream>().unwrap_err();
            assert!(error.cause.contains(cause), "{text}: {error}");
        }
    }
}
