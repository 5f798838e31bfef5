//! Where the tree begins: the root servers as IANA publishes them in `named.root` (the last change that is in it here is
//! that of b.root-servers.net, 2023-11-27).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub struct RootServer {
    pub name: &'static str,
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

const fn root(name: &'static str, v4: [u8; 4], v6: [u16; 8]) -> RootServer {
    let [a, b, c, d] = v4;
    let [s, t, u, v, w, x, y, z] = v6;
    RootServer { name, v4: Ipv4Addr::new(a, b, c, d), v6: Ipv6Addr::new(s, t, u, v, w, x, y, z) }
}

pub const ROOT_SERVERS: [RootServer; 13] = [
    root("a.root-servers.net", [198, 41, 0, 4], [0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30]),
    root("b.root-servers.net", [170, 247, 170, 2], [0x2801, 0x1b8, 0x10, 0, 0, 0, 0, 0xb]),
    root("c.root-servers.net", [192, 33, 4, 12], [0x2001, 0x500, 2, 0, 0, 0, 0, 0xc]),
    root("d.root-servers.net", [199, 7, 91, 13], [0x2001, 0x500, 0x2d, 0, 0, 0, 0, 0xd]),
    root("e.root-servers.net", [192, 203, 230, 10], [0x2001, 0x500, 0xa8, 0, 0, 0, 0, 0xe]),
    root("f.root-servers.net", [192, 5, 5, 241], [0x2001, 0x500, 0x2f, 0, 0, 0, 0, 0xf]),
    root("g.root-servers.net", [192, 112, 36, 4], [0x2001, 0x500, 0x12, 0, 0, 0, 0, 0xd0d]),
    root("h.root-servers.net", [198, 97, 190, 53], [0x2001, 0x500, 1, 0, 0, 0, 0, 0x53]),
    root("i.root-servers.net", [192, 36, 148, 17], [0x2001, 0x7fe, 0, 0, 0, 0, 0, 0x53]),
    root("j.root-servers.net", [192, 58, 128, 30], [0x2001, 0x503, 0xc27, 0, 0, 0, 2, 0x30]),
    root("k.root-servers.net", [193, 0, 14, 129], [0x2001, 0x7fd, 0, 0, 0, 0, 0, 1]),
    root("l.root-servers.net", [199, 7, 83, 42], [0x2001, 0x500, 0x9f, 0, 0, 0, 0, 0x42]),
    root("m.root-servers.net", [202, 12, 27, 33], [0x2001, 0xdc3, 0, 0, 0, 0, 0, 0x35]),
];

/// Every address of the root servers, IPv4 first.
pub fn root_hints() -> Vec<IpAddr> {
    let v4 = ROOT_SERVERS.iter().map(|server| IpAddr::V4(server.v4));
    v4.chain(ROOT_SERVERS.iter().map(|server| IpAddr::V6(server.v6))).collect()
}
