//! One question over UDP: a connected socket of its own, one repetition, wrong replies dropped.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use super::{AskError, Query};
use crate::message::MAX_MESSAGE;

/// How long the right reply is waited for after one in another case.
const DOUBT: Duration = Duration::from_millis(300);

/// The reply and how many that did not match came before it.
pub(super) async fn exchange(
    server: SocketAddr,
    query: &Query<'_>,
    timeout: Duration,
) -> Result<(Vec<u8>, u32), AskError> {
    let socket = bind_for(server).await?;
    socket.connect(server).await?;
    socket.send(&query.bytes).await?;
    // One datagram may get lost; a third of the time is long for a reply, and leaves two thirds for the second.
    let repeat_at = Instant::now() + timeout / 3;
    let mut mismatched = 0;
    let mut buffer = vec![0; MAX_MESSAGE];
    match timeout_at(repeat_at, receive(&socket, query, &mut buffer, &mut mismatched)).await {
        Ok(Ok(len)) => {
            buffer.truncate(len);
            return Ok((buffer, mismatched));
        }
        Ok(Err(error)) => return Err(error),
        Err(_) => socket.send(&query.bytes).await?,
    };
    let len = receive(&socket, query, &mut buffer, &mut mismatched).await?;
    buffer.truncate(len);
    Ok((buffer, mismatched))
}

/// Ends with the caller's time-out if nothing that matches comes.
async fn receive(
    socket: &UdpSocket,
    query: &Query<'_>,
    buffer: &mut [u8],
    mismatched: &mut u32,
) -> Result<usize, AskError> {
    let mut doubt_ends = None;
    loop {
        let len = match doubt_ends {
            None => socket.recv(buffer).await?,
            Some(at) => timeout_at(at, socket.recv(buffer)).await.map_err(|_| AskError::CaseChanged)??,
        };
        if query.is_answered_by(&buffer[..len]) {
            if query.is_repeated_by(&buffer[..len]) {
                return Ok(len);
            }
            // Whoever guessed id and port is not to talk us out of checking the case: the right one may be on its way.
            doubt_ends.get_or_insert(Instant::now() + DOUBT);
        }
        *mismatched = mismatched.saturating_add(1);
        tracing::debug!(server.address = ?socket.peer_addr().ok(), "a datagram that does not answer the query was dropped");
    }
}

/// The kernel picks a random port for port 0.
async fn bind_for(server: SocketAddr) -> Result<UdpSocket, AskError> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    Ok(UdpSocket::bind(any).await?)
}
