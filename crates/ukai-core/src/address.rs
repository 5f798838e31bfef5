//! Which addresses are global unicast, after the IANA special-purpose address registries (RFC 6890) for IPv4 and IPv6.
//!
//! Stricter than the registries in one way: prefixes that are "globally reachable" but hold no services (ORCHIDv2,
//! DRIP, the deprecated 6to4 relay anycast) are not global here, because no honest candidate lives there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Whether the address may belong to a service on the public internet.
pub fn is_global(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_global_v4(address),
        IpAddr::V6(address) => is_global_v6(address),
    }
}

/// Whether one of the networks holds the address; an IPv4-mapped address counts as the IPv4 address that it maps.
pub fn is_within(address: IpAddr, networks: &[IpNet]) -> bool {
    let canonical = address.to_canonical();
    networks.iter().any(|network| network.contains(&canonical) || network.contains(&address))
}

fn is_global_v4(address: Ipv4Addr) -> bool {
    let octets = address.octets();
    match octets {
        [0 | 10 | 127, ..] => false,
        [100, second, ..] => second & 0xc0 != 64, // shared address space, RFC 6598
        [169, 254, ..] => false,
        [172, second, ..] => second & 0xf0 != 16,
        [192, 0, 0, last] => last == 9 || last == 10, // PCP and TURN anycast, RFC 7723 and RFC 8155
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => false, // documentation, RFC 5737
        [192, 88, 99, _] => false,                    // 6to4 relay anycast, deprecated by RFC 7526
        [192, 168, ..] => false,
        [198, 18 | 19, ..] => false, // benchmarking, RFC 2544
        [first, ..] => first < 224,  // multicast, reserved (240/4) and broadcast lie above
    }
}

fn is_global_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    match segments {
        // NAT64, RFC 6052: as global as the IPv4 address within.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => is_global_v4(embedded(high, low)),
        // 6to4, RFC 3056: likewise.
        [0x2002, high, low, ..] => is_global_v4(embedded(high, low)),
        [0x2001, second, third, ..] if second < 0x200 => match second {
            0x1 => is_protocol_anycast(segments),
            0x3 => true,           // AMT, RFC 7450
            0x4 => third == 0x112, // AS112, RFC 7535
            _ => false,            // Teredo, benchmarking, ORCHID, DRIP and what is unassigned of 2001::/23
        },
        [0x2001, 0xdb8, ..] => false,                     // documentation, RFC 3849
        [0x3fff, second, ..] if second < 0x1000 => false, // documentation, RFC 9637
        // Only 2000::/3 is global unicast (RFC 3513, 4): this leaves out ::/8, 100::/64, 5f00::/16, fc00::/7,
        // fe80::/10, fec0::/10 and ff00::/8.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// PCP, TURN and DNS-SD anycast: RFC 7723, RFC 8155, RFC 9665.
fn is_protocol_anycast(segments: [u16; 8]) -> bool {
    matches!(segments, [0x2001, 0x1, 0, 0, 0, 0, 0, 1..=3])
}

fn embedded(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_addresses_are_global() {
        for text in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.0.9",
            "192.0.1.1",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2001:4860:4860::8888",
            "2001:200::1",
            "2001:1::1",
            "2001:3::1",
            "2001:4:112::1",
            "2620:4f:8000::1",
            "3fff:1000::1",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ] {
            assert!(is_global(address(text)), "{text}");
        }
    }

    #[test]
    fn special_purpose_addresses_are_not_global() {
        for text in [
            "0.0.0.0",
            "0.255.255.255",
            "10.0.0.1",
            "100.64.0.0",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.255.255",
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.255",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:10.0.0.1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "100::1",
            "100:0:0:1::1",
            "2001::1",
            "2001:1::4",
            "2001:2::1",
            "2001:4:113::1",
            "2001:10::1",
            "2001:20::1",
            "2001:30::1",
            "2001:1ff::1",
            "2001:db8::1",
            "2002:a00:1::1",
            "2002:7f00:1::1",
            "2002:c0a8:101::1",
            "3fff::1",
            "3fff:fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_global(address(text)), "{text}");
        }
    }

    #[test]
    fn a_mapped_address_is_within_the_network_of_the_address_it_maps() {
        let networks = ["10.0.0.0/8".parse().unwrap()];
        assert!(is_within(address("::ffff:10.1.2.3"), &networks));
        assert!(!is_within(address("::ffff:11.1.2.3"), &networks));
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }
}
