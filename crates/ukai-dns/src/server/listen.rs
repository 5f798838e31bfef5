//! The sockets: UDP and TCP on each address, one UDP socket for each worker, or those that systemd hands over.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use listenfd::ListenFd;
use socket2::{Domain, Protocol, Socket, Type};

use super::StartError;

/// UDP and TCP on the same address.
pub(super) struct Pair {
    pub address: SocketAddr,
    /// One for each worker, between which the kernel spreads the clients.
    pub udp: Vec<UdpSocket>,
    pub tcp: Option<TcpListener>,
}

/// For port 0 the kernel chooses by UDP, and TCP may be taken there; after so many tries something else is wrong.
const PORT_TRIES: usize = 16;
/// As most servers have it; the kernel caps it.
const TCP_BACKLOG: i32 = 128;
/// Holds what comes while a thread has no core; the kernel caps it (`net.core.rmem_max`).
const RECEIVE_BUFFER: usize = 4 * 1024 * 1024;

/// Those that systemd opened (`sd_listen_fds(3)`), else those of the configuration.
pub(super) fn bind_all(listen: &[SocketAddr], workers: usize) -> Result<Vec<Pair>, StartError> {
    let handed_over = take_over(workers)?;
    if !handed_over.is_empty() {
        return Ok(handed_over);
    }
    if listen.is_empty() {
        return Err(StartError::NothingToListenOn);
    }
    listen.iter().map(|address| bind_pair(*address, workers)).collect()
}

fn take_over(workers: usize) -> Result<Vec<Pair>, StartError> {
    let mut sockets = ListenFd::from_env();
    let mut pairs: Vec<Pair> = Vec::new();
    let (mut datagram, mut stream) = (Vec::new(), Vec::new());
    for index in 0..sockets.len() {
        if let Ok(Some(socket)) = sockets.take_udp_socket(index) {
            datagram.push(socket);
        } else if let Ok(Some(listener)) = sockets.take_tcp_listener(index) {
            stream.push(listener);
        } else {
            return Err(StartError::HandedOver { number: index });
        }
    }
    let fail = |cause| StartError::Activation { cause };
    for socket in datagram {
        socket.set_nonblocking(true).map_err(fail)?;
        let address = socket.local_addr().map_err(fail)?;
        // The same socket for all: it is one queue, and whoever has time takes from it.
        let udp = (0..workers).map(|_| socket.try_clone()).collect::<io::Result<_>>().map_err(fail)?;
        pairs.push(Pair { address, udp, tcp: None });
    }
    for listener in stream {
        listener.set_nonblocking(true).map_err(fail)?;
        let address = listener.local_addr().map_err(fail)?;
        match pairs.iter_mut().find(|pair| pair.address == address) {
            Some(pair) => pair.tcp = Some(listener),
            None => pairs.push(Pair { address, udp: Vec::new(), tcp: Some(listener) }),
        }
    }
    Ok(pairs)
}

fn bind_pair(address: SocketAddr, workers: usize) -> Result<Pair, StartError> {
    if address.ip().is_unspecified() {
        tracing::warn!(%address, "answers leave from the address that the kernel chooses; on a host with several, name each instead");
    }
    let mut tries = if address.port() == 0 { PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        let fail = |transport| move |cause| StartError::Listen { address, transport, cause };
        let first = bind_udp(address, workers > 1).map_err(fail("udp"))?;
        let chosen = first.local_addr().map_err(fail("udp"))?;
        // Several sockets may share a UDP port, another process's too; TCP says whether the address is ours alone.
        match bind_tcp(chosen) {
            Ok(tcp) => {
                let mut udp = vec![first];
                for _ in 1..workers {
                    udp.push(bind_udp(chosen, true).map_err(fail("udp"))?);
                }
                return Ok(Pair { address: chosen, udp, tcp: Some(tcp) });
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 0 => {}
            Err(cause) => {
                return Err(StartError::Listen { address: chosen, transport: "tcp", cause });
            }
        }
    }
}

fn bind_udp(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    separate_families(&socket, address)?;
    if shared {
        socket.set_reuse_port(true)?;
    }
    // Less is no reason not to answer.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    separate_families(&socket, address)?;
    // So that a restart need not wait for old connections to be forgotten.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(TCP_BACKLOG)?;
    Ok(socket.into())
}

/// `[::]` beside `0.0.0.0` is two addresses.
fn separate_families(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() { socket.set_only_v6(true) } else { Ok(()) }
}
