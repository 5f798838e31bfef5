//! The `connect` stage: one TCP socket to one address.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::timeout;
use ukai_core::observe::{ErrorClass, Failure, Stage, Timings};

use crate::timing::{elapsed_us, human};

/// `EAFNOSUPPORT` on Linux, for which std has no name: a kernel without IPv6.
const ADDRESS_FAMILY_NOT_SUPPORTED: i32 = 97;

pub(crate) async fn connect(
    address: IpAddr,
    port: u16,
    limit: Duration,
    timings: &mut Timings,
) -> Result<TcpStream, Failure> {
    let started = Instant::now();
    let outcome = timeout(limit, TcpStream::connect(SocketAddr::new(address, port))).await;
    timings.connect_us = Some(elapsed_us(started));
    match outcome {
        Ok(Ok(stream)) => {
            // A request is one small write; waiting to fill a segment would only blur the timings.
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(error)) => Err(failure(address, port, &error)),
        Err(_) => Err(Failure {
            stage: Stage::Connect,
            class: ErrorClass::Timeout,
            detail: format!("{address} port {port} did not answer within {}", human(limit)),
        }),
    }
}

fn failure(address: IpAddr, port: u16, error: &io::Error) -> Failure {
    let class = classify(address, error);
    let detail = match class {
        ErrorClass::Refused => format!("{address} refused the connection to port {port}"),
        ErrorClass::Reset => format!("{address} reset the connection to port {port}"),
        ErrorClass::Timeout => format!("{address} port {port} did not answer"),
        ErrorClass::Unreachable if address.is_ipv6() => {
            format!("there is no IPv6 route from here to {address}: {error}")
        }
        ErrorClass::Unreachable => format!("there is no route from here to {address}: {error}"),
        _ => format!("this machine could not open a connection to {address} port {port}: {error}"),
    };
    Failure { stage: Stage::Connect, class, detail }
}

/// What is left over is a fault of this machine: no file descriptor, no memory, no port, a local firewall.
fn classify(address: IpAddr, error: &io::Error) -> ErrorClass {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ErrorClass::Refused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => ErrorClass::Reset,
        io::ErrorKind::TimedOut => ErrorClass::Timeout,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => {
            ErrorClass::Unreachable
        }
        // Without any IPv6 address of its own a machine has no address to connect from.
        io::ErrorKind::AddrNotAvailable if address.is_ipv6() => ErrorClass::Unreachable,
        _ if error.raw_os_error() == Some(ADDRESS_FAMILY_NOT_SUPPORTED) => ErrorClass::Unreachable,
        _ => ErrorClass::Local,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_have_a_class() {
        let v4 = "192.0.2.1".parse().unwrap();
        let v6 = "2001:db8::1".parse().unwrap();
        // errno(3): ECONNREFUSED, ECONNRESET, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, EMFILE, EADDRNOTAVAIL, EAFNOSUPPORT
        for (address, errno, class) in [
            (v4, 111, ErrorClass::Refused),
            (v4, 104, ErrorClass::Reset),
            (v4, 110, ErrorClass::Timeout),
            (v4, 113, ErrorClass::Unreachable),
            (v6, 101, ErrorClass::Unreachable),
            (v4, 24, ErrorClass::Local),
            (v4, 99, ErrorClass::Local),
            (v6, 99, ErrorClass::Unreachable),
            (v6, 97, ErrorClass::Unreachable),
        ] {
            let failure = failure(address, 443, &io::Error::from_raw_os_error(errno));
            assert_eq!(failure.class, class, "errno {errno}");
            assert!(failure.detail.contains(&address.to_string()));
        }
    }
}
