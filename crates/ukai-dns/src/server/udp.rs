//! Datagrams: answered in the receiving task if that can be done at once, else in a task of their own.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::Semaphore;

use super::answer::{Action, Answerer, Limit};
use crate::message::MAX_MESSAGE;

/// Clients that wait for an upstream at once, over all sockets; each costs a task and its query, about 2 KiB.
pub(super) const MAX_WAITING: usize = 4_096;
/// After a socket error, so that an error that stays does not eat a core.
const PAUSE_AFTER_ERROR: Duration = Duration::from_millis(10);

pub(super) async fn serve(socket: Arc<UdpSocket>, answerer: Arc<Answerer>, waiting: Arc<Semaphore>) {
    let mut buffer = vec![0; MAX_MESSAGE];
    loop {
        match socket.recv_from(&mut buffer).await {
            // Port 0 is nobody.
            Ok((len, client)) if client.port() != 0 => {
                handle(&socket, &answerer, &waiting, &buffer[..len], client).await
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "a datagram could not be received");
                tokio::time::sleep(PAUSE_AFTER_ERROR).await;
            }
        }
    }
}

async fn handle(
    socket: &Arc<UdpSocket>,
    answerer: &Arc<Answerer>,
    waiting: &Arc<Semaphore>,
    bytes: &[u8],
    client: SocketAddr,
) {
    let query = match answerer.decide(bytes, client.ip(), Limit::Datagram) {
        Action::Drop => return,
        Action::Reply(answer) => return log(socket.send_to(&answer, client).await),
        Action::Forward(query) => query,
    };
    let Ok(permit) = Arc::clone(waiting).try_acquire_owned() else {
        let answer = answerer.turn_away(&query, Limit::Datagram);
        return log(socket.send_to(&answer, client).await);
    };
    let (socket, answerer) = (Arc::clone(socket), Arc::clone(answerer));
    tokio::spawn(async move {
        let answer = answerer.forward(&query, Limit::Datagram).await;
        log(socket.send_to(&answer, client).await);
        drop(permit);
    });
}

fn log(sent: io::Result<usize>) {
    if let Err(error) = sent {
        tracing::debug!(%error, "an answer could not be sent");
    }
}
