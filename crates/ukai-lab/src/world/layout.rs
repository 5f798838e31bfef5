//! Where everything stands: one public /16 and one private /16 of 127.0.0.0/8 for each drill that runs at the same time.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use super::VANTAGES_MAX;
use crate::scenario::{HostSetup, NAME_SERVERS, Network, Scenario};

/// Drills that can run side by side on one machine, in one process or several.
pub const SLOTS: u8 = 100;
/// Second octet of the first slot's public /16; the private /16 is the next one.
const FIRST_OCTET: u8 = 20;
/// Everybody who wants a slot tries to listen here inside it.
const LOCK_PORT: u16 = 20_053;
/// Ports stay below the kernel's ephemeral range, so that no outgoing connection takes one first.
const FIRST_PORT: u16 = 21_000;
const PORTS_PER_SLOT: u16 = 100;
/// Last octets of what the daemon under drill listens on.
const DNS_HOST: u8 = 54;
const APPLICATION_HOST: u8 = 55;

/// A claim on one slot, held as long as the lock socket is open.
#[derive(Debug)]
pub struct Slot {
    number: u8,
    _lock: TcpListener,
}

impl Slot {
    /// The first slot that nobody on this machine holds.
    pub fn claim() -> io::Result<Self> {
        for number in 0..SLOTS {
            let lock = Ipv4Addr::new(127, FIRST_OCTET + 2 * number, 255, 1);
            match TcpListener::bind((lock, LOCK_PORT)) {
                Ok(lock) => {
                    return Ok(Self { number, _lock: lock });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, format!("all {SLOTS} places for drills are taken")))
    }

    pub fn number(&self) -> u8 {
        self.number
    }

    fn octet(&self) -> u8 {
        FIRST_OCTET + 2 * self.number
    }

    /// Ports that are free on every address, `[::1]` included, because all slots share that one.
    fn free_ports(&self) -> io::Result<Ports> {
        let first = FIRST_PORT + u16::from(self.number) * PORTS_PER_SLOT;
        for dns in (first..first + PORTS_PER_SLOT).step_by(4) {
            let (https, elsewhere, controls) = (dns + 1, dns + 2, dns + 3);
            let free = self.of_other_processes().all(|address| is_free(address.into(), dns))
                && [https, elsewhere, controls].into_iter().all(|port| {
                    self.of_other_processes().all(|address| TcpListener::bind((address, port)).is_ok())
                        && TcpListener::bind((Ipv6Addr::LOCALHOST, port)).is_ok()
                });
            if free {
                return Ok(Ports { dns, https, elsewhere, controls });
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, format!("no free port from {first} on")))
    }

    /// Where the processes under drill listen: one of an earlier drill may still be there when the slot is free. The first
    /// is nobody's, and tells of those that listen on every address.
    fn of_other_processes(&self) -> impl Iterator<Item = Ipv4Addr> {
        let octet = self.octet();
        let daemon = [DNS_HOST, APPLICATION_HOST].map(|host| Ipv4Addr::new(127, octet, 0, host));
        let vantages = (1..=VANTAGES_MAX).map(move |number| Ipv4Addr::new(127, octet, 5, number));
        std::iter::once(Ipv4Addr::new(127, octet, 255, 2)).chain(daemon).chain(vantages)
    }
}

fn is_free(address: IpAddr, port: u16) -> bool {
    TcpListener::bind((address, port)).is_ok() && UdpSocket::bind((address, port)).is_ok()
}

struct Ports {
    dns: u16,
    https: u16,
    elsewhere: u16,
    controls: u16,
}

#[derive(Debug, Clone)]
pub(super) struct Layout {
    octet: u8,
    /// Where every DNS server of the lab listens, as 53 is in the world.
    pub dns_port: u16,
    /// Where every host listens, as 443 is in the world.
    pub https_port: u16,
    /// Where every host listens for those who come from other networks.
    pub elsewhere_port: u16,
    /// Where every control listens, so that one may stand at `[::1]` beside the peer's host.
    pub control_port: u16,
    pub hosts: BTreeMap<String, IpAddr>,
    pub servers: BTreeMap<String, Ipv4Addr>,
}

impl Layout {
    pub fn new(slot: &Slot, scenario: &Scenario) -> io::Result<Self> {
        let ports = slot.free_ports()?;
        let mut layout = Self {
            octet: slot.octet(),
            dns_port: ports.dns,
            https_port: ports.https,
            elsewhere_port: ports.elsewhere,
            control_port: ports.controls,
            hosts: BTreeMap::new(),
            servers: BTreeMap::new(),
        };
        for (index, (label, host)) in crate::scenario::hosts(scenario).iter().enumerate() {
            let address = layout.host_address(index, host)?;
            layout.hosts.insert(label.clone(), address);
        }
        let named = crate::scenario::servers(scenario);
        let outside = named.iter().map(String::as_str).filter(|name| !NAME_SERVERS.contains(name));
        for (index, name) in NAME_SERVERS.into_iter().chain(outside).enumerate() {
            let address = layout.public(1, last_octet(index, 1)?);
            layout.servers.insert(name.to_owned(), address);
        }
        Ok(layout)
    }

    fn host_address(&self, index: usize, host: &HostSetup) -> io::Result<IpAddr> {
        if host.v6 {
            return Ok(Ipv6Addr::LOCALHOST.into());
        }
        let network = match host.network {
            Network::A => 10,
            Network::B => 20,
        };
        let octet = if host.private { self.octet + 1 } else { self.octet };
        Ok(Ipv4Addr::new(127, octet, network, last_octet(index, 10)?).into())
    }

    fn public(&self, third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.octet, third, fourth)
    }

    /// Everything that counts as the internet of this drill.
    pub fn public_network(&self) -> String {
        format!("127.{}.0.0/16", self.octet)
    }

    pub fn root_server(&self) -> Ipv4Addr {
        self.public(0, 1)
    }

    pub fn tld_server(&self) -> Ipv4Addr {
        self.public(0, 2)
    }

    /// Serves the zones that are not the peer's: the controls and the independent resolvers.
    pub fn elsewhere_server(&self) -> Ipv4Addr {
        self.public(2, 1)
    }

    pub fn resolver(&self) -> SocketAddr {
        (self.public(0, 53), self.dns_port).into()
    }

    /// Where the daemon under drill serves DNS to the application.
    pub fn embedded_dns(&self) -> SocketAddr {
        (self.public(0, DNS_HOST), self.dns_port).into()
    }

    /// Where the daemon under drill hears the application's own success metric.
    pub fn application(&self) -> SocketAddr {
        (self.public(0, APPLICATION_HOST), self.dns_port).into()
    }

    /// Where another vantage answers; `number` counts from 1.
    pub fn vantage(&self, number: u8) -> SocketAddr {
        (self.public(5, number), self.https_port).into()
    }

    pub fn webhook(&self) -> SocketAddr {
        (self.public(0, 56), self.https_port).into()
    }

    pub fn time_server(&self) -> SocketAddr {
        (self.public(0, 123), self.dns_port).into()
    }

    /// `number` counts from 1, as in `i-1`.
    pub fn independent(&self, number: u8) -> Ipv4Addr {
        self.public(4, number)
    }

    /// `number` counts from 1; each control is in a network of its own.
    pub fn control(&self, number: u8) -> Ipv4Addr {
        self.public(30 + number, 1)
    }

    /// Where the controls are reached over IPv6, if the scenario has to do with IPv6 at all.
    pub fn controls_v6(&self) -> Option<Ipv6Addr> {
        self.hosts.values().any(IpAddr::is_ipv6).then_some(Ipv6Addr::LOCALHOST)
    }

    pub fn label_of(&self, address: IpAddr) -> Option<&str> {
        self.hosts.iter().find(|(_, host)| **host == address).map(|(label, _)| label.as_str())
    }
}

fn last_octet(index: usize, first: u8) -> io::Result<u8> {
    u8::try_from(index)
        .ok()
        .and_then(|index| index.checked_add(first))
        .filter(|octet| *octet < 255)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "more hosts than a /24 holds"))
}
