//! Many datagrams with one system call each way.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};

/// Datagrams in one system call: more bring nothing, and delay the first.
pub(crate) const BATCH: usize = 64;
/// Of a query, or an upstream's answer; both have 1,232 at most if they heed what we say.
const BUFFER: usize = 2_048;

/// What came in.
pub(crate) struct Incoming {
    headers: MultiHeaders<SockaddrStorage>,
    buffers: Vec<[u8; BUFFER]>,
    received: Vec<Received>,
}

#[derive(Clone, Copy)]
struct Received {
    len: usize,
    from: Option<SockaddrStorage>,
    cut: bool,
}

/// One datagram.
pub(crate) struct Datagram<'a> {
    pub bytes: &'a [u8],
    pub from: Option<SockaddrStorage>,
    /// It was longer than there is room for.
    pub cut: bool,
}

impl Incoming {
    pub fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(BATCH, None),
            buffers: vec![[0; BUFFER]; BATCH],
            received: Vec::with_capacity(BATCH),
        }
    }

    /// How many came; zero when there are none at the moment.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.receive_as(socket, MsgFlags::MSG_DONTWAIT)
    }

    /// The same, and waits for the first, as long as the socket's own time-out says.
    pub fn wait(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.receive_as(socket, MsgFlags::MSG_WAITFORONE)
    }

    fn receive_as(&mut self, socket: &UdpSocket, flags: MsgFlags) -> io::Result<usize> {
        self.received.clear();
        let mut slices: Vec<[IoSliceMut<'_>; 1]> =
            self.buffers.iter_mut().map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let results = recvmmsg(socket.as_raw_fd(), &mut self.headers, slices.iter_mut(), flags, None);
        match results {
            Ok(messages) => self.received.extend(messages.map(|message| Received {
                len: message.bytes,
                from: message.address,
                cut: message.flags.contains(MsgFlags::MSG_TRUNC),
            })),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(self.received.len())
    }

    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.received.iter().zip(&self.buffers).map(|(received, buffer)| Datagram {
            bytes: &buffer[..received.len.min(BUFFER)],
            from: received.from,
            cut: received.cut,
        })
    }
}

/// What is to go out.
pub(crate) struct Outgoing {
    headers: MultiHeaders<SockaddrStorage>,
    octets: Vec<u8>,
    /// Where each message ends.
    ends: Vec<usize>,
    to: Vec<Option<SockaddrStorage>>,
}

impl Outgoing {
    pub fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(BATCH, None),
            octets: Vec::new(),
            ends: Vec::with_capacity(BATCH),
            to: Vec::with_capacity(BATCH),
        }
    }

    /// Where the next message is appended, to be [`Outgoing::push`]ed.
    pub fn octets(&mut self) -> &mut Vec<u8> {
        &mut self.octets
    }

    /// What was appended since the last message is one to this address, or to where the socket is connected.
    pub fn push(&mut self, to: Option<SockaddrStorage>) {
        self.ends.push(self.octets.len());
        self.to.push(to);
    }

    pub fn is_full(&self) -> bool {
        self.ends.len() >= BATCH
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Sends everything; what the socket does not take is dropped, as a network would. The first error is told.
    pub fn send(&mut self, socket: &UdpSocket) -> io::Result<()> {
        let result = self.send_all(socket);
        self.clear();
        result
    }

    pub fn clear(&mut self) {
        self.octets.clear();
        self.ends.clear();
        self.to.clear();
    }

    fn send_all(&mut self, socket: &UdpSocket) -> io::Result<()> {
        let mut start = 0;
        let slices: Vec<[IoSlice<'_>; 1]> = self
            .ends
            .iter()
            .map(|&end| [IoSlice::new(&self.octets[std::mem::replace(&mut start, end)..end])])
            .collect();
        let (mut sent, mut first_error) = (0, Ok(()));
        while sent < slices.len() {
            let result = sendmmsg(
                socket.as_raw_fd(),
                &mut self.headers,
                slices[sent..].iter(),
                &self.to[sent..],
                [],
                MsgFlags::MSG_DONTWAIT,
            );
            match result.map(Iterator::count) {
                Ok(0) => break,
                Ok(count) => sent += count,
                Err(Errno::EINTR) => {}
                Err(error) => {
                    // It is about the first that was not sent; the others may go.
                    sent += 1;
                    if first_error.is_ok() {
                        first_error = Err(error.into());
                    }
                }
            }
        }
        first_error
    }
}

pub(crate) fn socket_addr(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddrV4::from(*v4).into());
    }
    address.as_sockaddr_in6().map(|v6| SocketAddrV6::from(*v6).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_arrives() {
        let here = UdpSocket::bind("127.0.0.1:0").unwrap();
        let there = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (mut outgoing, mut incoming) = (Outgoing::new(), Incoming::new());
        assert_eq!(incoming.receive(&there).unwrap(), 0);
        let to = there.local_addr().unwrap();
        for message in [b"one".as_slice(), b"", b"three"] {
            outgoing.octets().extend_from_slice(message);
            outgoing.push(Some(to.into()));
        }
        outgoing.octets().resize(11 + 3_000, 7);
        outgoing.push(Some(to.into()));
        outgoing.send(&here).unwrap();
        assert!(outgoing.is_empty());
        let mut seen = Vec::new();
        while seen.len() < 4 {
            incoming.receive(&there).unwrap();
            seen.extend(incoming.datagrams().map(|datagram| {
                let from = datagram.from.as_ref().and_then(socket_addr);
                (datagram.bytes.to_vec(), from, datagram.cut)
            }));
        }
        let from = Some(here.local_addr().unwrap());
        let lengths: Vec<_> = seen.iter().map(|(bytes, ..)| bytes.len()).collect();
        assert_eq!(lengths, [3, 0, 5, BUFFER]);
        assert_eq!(seen[0], (b"one".to_vec(), from, false));
        assert_eq!(seen[2], (b"three".to_vec(), from, false));
        assert_eq!((seen[3].1, seen[3].2), (from, true));
    }

    #[test]
    fn one_that_cannot_be_sent_does_not_keep_the_others() {
        let here = UdpSocket::bind("127.0.0.1:0").unwrap();
        let there = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut outgoing = Outgoing::new();
        for to in ["[::1]:9".parse().unwrap(), there.local_addr().unwrap()] {
            outgoing.octets().push(1);
            outgoing.push(Some(to.into()));
        }
        outgoing.send(&here).unwrap_err();
        assert_eq!(there.recv(&mut [0; 9]).unwrap(), 1);
    }
}
