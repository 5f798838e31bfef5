//! The address families of this machine. What has no route from here is left out, as `getaddrinfo` leaves it out
//! (AI_ADDRCONFIG, and RFC 6724, 2): otherwise a dual-stack peer would be broken for ever on a machine with IPv4 alone.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::io::Errno;

/// For an address without an endpoint: a route does not depend on the port.
pub const ANY_PORT: u16 = 443;

/// Asks the routing table: connecting a UDP socket sends nothing.
pub fn is_routed(address: SocketAddr) -> bool {
    let any = match address {
        SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    match UdpSocket::bind((any, 0)).and_then(|socket| socket.connect(address)) {
        Ok(()) => true,
        Err(error) => !is_without_route(&error),
    }
}

/// Only these say that there is no such network here; every other error is found out by the probe itself.
fn is_without_route(error: &io::Error) -> bool {
    let missing = [Errno::NETUNREACH, Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT];
    error.raw_os_error().is_some_and(|code| missing.iter().any(|errno| errno.raw_os_error() == code))
}

/// Without the families of which no address can be left for; all of them, where that would be none.
pub fn usable(addresses: Vec<IpAddr>, is_routed: impl Fn(IpAddr) -> bool) -> Vec<IpAddr> {
    let routed = |v6: bool| addresses.iter().any(|address| address.is_ipv6() == v6 && is_routed(*address));
    let (v4, v6) = (routed(false), routed(true));
    if !v4 && !v6 {
        return addresses;
    }
    addresses.into_iter().filter(|address| if address.is_ipv6() { v6 } else { v4 }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_family_without_a_route_is_left_out() {
        let both = addresses(&["192.0.2.1", "2001:db8::1", "192.0.2.2"]);
        assert_eq!(usable(both.clone(), |address| address.is_ipv4()), addresses(&["192.0.2.1", "192.0.2.2"]));
        assert_eq!(usable(both.clone(), |address| address.is_ipv6()), addresses(&["2001:db8::1"]));
        assert_eq!(usable(both.clone(), |_| false), both, "a machine without any network is a finding");
        let one = both[0];
        assert_eq!(usable(both, |address| address == one), addresses(&["192.0.2.1", "192.0.2.2"]));
    }

    #[test]
    fn only_a_missing_network_counts() {
        for errno in [Errno::NETUNREACH, Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT] {
            assert!(is_without_route(&errno.into()), "{errno}");
        }
        for errno in [Errno::HOSTUNREACH, Errno::ACCESS, Errno::CONNREFUSED, Errno::MFILE] {
            assert!(!is_without_route(&errno.into()), "{errno}");
        }
        assert!(is_routed("127.0.0.1:443".parse().unwrap()));
    }
}
