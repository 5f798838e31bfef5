//! What a name resolves to for an application: A and AAAA side by side, one resolver after the other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use ukai_core::observe::{ErrorClass, Failure, Resolution, Stage};
use ukai_dns::{AskError, AskOptions, Client, Question, Rcode, RecordType, Reply, Upstream};
use ukai_probe::escape::escape;

/// Stands for the resolver where a person gave the addresses.
pub const OPERATOR: &str = "operator";
/// Stands for the resolver where the URL itself gives the address.
const LITERAL: &str = "literal";
/// Stands for the resolver where the name never leaves this machine (RFC 6761, 6.3).
const LOCALHOST: &str = "localhost";

/// Resolves a host as the application's network would. `timeout` is for each resolver.
pub async fn resolve(dns: &Client, resolvers: &[Upstream], host: &str, timeout: Duration) -> Resolution {
    if let Some(resolution) = without_asking(host) {
        return resolution;
    }
    let start = Instant::now();
    let mut last = no_resolver();
    for resolver in resolvers {
        // On the heap: it is a part of many futures, some of which are joined many times over.
        last = Box::pin(ask_one(dns, resolver, host, timeout)).await;
        if !is_worth_asking_another(&last) {
            break;
        }
    }
    last.elapsed_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    last
}

/// A resolution that an operator gave.
pub fn chosen(addresses: Vec<IpAddr>) -> Resolution {
    given(OPERATOR, addresses)
}

fn given(by: &str, addresses: Vec<IpAddr>) -> Resolution {
    let addresses_total = addresses.len();
    Resolution { resolver: by.to_owned(), addresses, addresses_total, ..Resolution::default() }
}

fn without_asking(host: &str) -> Option<Resolution> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some(given(LITERAL, vec![address]));
    }
    (host == "localhost" || host.ends_with(".localhost"))
        .then(|| given(LOCALHOST, vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]))
}

fn no_resolver() -> Resolution {
    failed(String::new(), ErrorClass::Local, "no resolver is configured".to_owned())
}

fn failed(resolver: String, class: ErrorClass, detail: String) -> Resolution {
    let failure = Failure { stage: Stage::Resolve, class, detail };
    Resolution { resolver, failure: Some(failure), ..Resolution::default() }
}

/// What a stub resolver does: it goes on to the next server on silence and on failures of the server, not of the name.
fn is_worth_asking_another(resolution: &Resolution) -> bool {
    resolution
        .failure
        .as_ref()
        .is_some_and(|failure| !matches!(failure.class, ErrorClass::Nxdomain | ErrorClass::Nodata))
}

async fn ask_one(dns: &Client, resolver: &Upstream, host: &str, timeout: Duration) -> Resolution {
    let options = AskOptions { timeout, ..AskOptions::default() };
    let (Ok(a), Ok(aaaa)) = (Question::new(host, RecordType::A), Question::new(host, RecordType::AAAA)) else {
        return failed(resolver.to_string(), ErrorClass::Local, format!("{host} cannot be asked of a name server"));
    };
    let (v4, v6) = tokio::join!(dns.ask(resolver, &a, &options), dns.ask(resolver, &aaaa, &options));
    merge(resolver, host, v4, v6)
}

/// Two families make one resolution: one that fails beside one that answers is no failure.
fn merge(resolver: &Upstream, host: &str, v4: Result<Reply, AskError>, v6: Result<Reply, AskError>) -> Resolution {
    let mut merged = Resolution { resolver: resolver.to_string(), ..Resolution::default() };
    for reply in [&v4, &v6].into_iter().filter_map(|result| result.as_ref().ok()) {
        merged.addresses.extend(reply.addresses());
        if merged.chain.is_empty() {
            merged.chain = reply.cname_chain().iter().map(|name| escape(&name.to_string())).collect();
        }
        let errors = reply.extended_errors.iter().map(|error| escape(&format!("{} {}", error.code, error.text)));
        for error in errors {
            if !merged.extended_errors.contains(&error) {
                merged.extended_errors.push(error);
            }
        }
        if !reply.addresses().is_empty() {
            merged.ttl = merged.ttl.into_iter().chain(reply.min_ttl()).min();
        }
    }
    merged.addresses_total = merged.addresses.len();
    if merged.addresses.is_empty() {
        merged.failure = Some(worst(resolver, host, &v4, &v6));
    }
    merged
}

/// The failure that explains an empty resolution. NODATA explains it only where both families say so.
fn worst(resolver: &Upstream, host: &str, v4: &Result<Reply, AskError>, v6: &Result<Reply, AskError>) -> Failure {
    let classes = [classify(v4), classify(v6)];
    let class = classes
        .iter()
        .find(|class| **class == ErrorClass::Nxdomain)
        .or_else(|| classes.iter().find(|class| **class != ErrorClass::Nodata))
        .copied()
        .unwrap_or(ErrorClass::Nodata);
    let detail = match (class, v4, v6) {
        (ErrorClass::Nxdomain, ..) => format!("NXDOMAIN for {host} from {resolver}"),
        (ErrorClass::Nodata, ..) => format!("neither A nor AAAA for {host} from {resolver}"),
        (_, Err(error), _) | (_, _, Err(error)) => format!("{error} ({resolver})"),
        (ErrorClass::Protocol, Ok(v4), Ok(v6)) => match v4.endless_aliases().or_else(|| v6.endless_aliases()) {
            Some(why) => escape(&format!("{why}, asked for {host} ({resolver})")),
            None => {
                format!("{} for {host} from {resolver}", if v4.rcode == Rcode::NOERROR { v6.rcode } else { v4.rcode })
            }
        },
        (_, Ok(reply), Ok(_)) if reply.rcode != Rcode::NOERROR => format!("{} for {host} from {resolver}", reply.rcode),
        (_, _, Ok(reply)) => format!("{} for {host} from {resolver}", reply.rcode),
    };
    Failure { stage: Stage::Resolve, class, detail }
}

fn classify(result: &Result<Reply, AskError>) -> ErrorClass {
    match result {
        Ok(reply) => match reply.rcode {
            Rcode::NOERROR if reply.endless_aliases().is_some() => ErrorClass::Protocol,
            Rcode::NOERROR => ErrorClass::Nodata,
            Rcode::NXDOMAIN => ErrorClass::Nxdomain,
            Rcode::SERVFAIL => ErrorClass::Servfail,
            Rcode::REFUSED => ErrorClass::Refused,
            _ => ErrorClass::Protocol,
        },
        Err(error) => classify_error(error),
    }
}

fn classify_error(error: &AskError) -> ErrorClass {
    match error {
        AskError::Timeout { .. } => ErrorClass::Timeout,
        AskError::ConnectionRefused => ErrorClass::Refused,
        AskError::Unreachable => ErrorClass::Unreachable,
        AskError::Closed => ErrorClass::Reset,
        AskError::Network(_) => ErrorClass::Local,
        AskError::Truncated { tcp } => classify_error(tcp),
        AskError::Tls(_)
        | AskError::HttpStatus(_)
        | AskError::Http(_)
        | AskError::Malformed(_)
        | AskError::CaseChanged => ErrorClass::Protocol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_millis(50);

    #[test]
    fn addresses_in_the_url_are_not_asked_for() {
        for (host, resolver, first) in [
            ("192.0.2.1", LITERAL, "192.0.2.1"),
            ("[2001:db8::1]", LITERAL, "2001:db8::1"),
            ("localhost", LOCALHOST, "127.0.0.1"),
            ("a.localhost", LOCALHOST, "127.0.0.1"),
        ] {
            let resolution = without_asking(host).unwrap();
            assert_eq!(resolution.resolver, resolver);
            assert_eq!(resolution.addresses[0].to_string(), first);
        }
        assert!(without_asking("localhost.test").is_none());
    }

    #[tokio::test]
    async fn without_a_resolver_there_is_a_sentence() {
        let dns = Client::new(ukai_dns::ClientOptions::default());
        let resolution = resolve(&dns, &[], "a.test", TIMEOUT).await;
        assert_eq!(resolution.failure.unwrap().class, ErrorClass::Local);
    }

    #[tokio::test]
    async fn the_second_resolver_is_asked_when_the_first_is_not_there() {
        let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let second = Upstream::Udp(silent.local_addr().unwrap());
        let dns = Client::new(ukai_dns::ClientOptions::default());
        let resolution = resolve(&dns, &[Upstream::Udp(closed), second.clone()], "a.test", TIMEOUT).await;
        assert_eq!(resolution.resolver, second.to_string());
        assert_eq!(resolution.failure.unwrap().class, ErrorClass::Timeout);
    }
}
