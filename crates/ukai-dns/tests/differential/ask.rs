//! Many questions to one server, some at a time.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use crate::queries::Sent;

/// So few that no server's queue runs over, nor that of the upstream behind it.
const AT_ONCE: usize = 100;
/// With nothing coming for so long, nothing comes: longer than any server here waits for an upstream that is well.
const SILENCE: Duration = Duration::from_millis(400);
/// What is still unanswered then was not lost.
const TRIES: usize = 3;

/// The answer to each question, if there is one. With `again` a failure is asked about again, because on a machine that does
/// more than this a server may run out of time.
pub fn all(server: SocketAddr, sent: &[Sent], again: bool) -> Vec<Option<Vec<u8>>> {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    let mut answers: Vec<Option<Vec<u8>>> = vec![None; sent.len()];
    for _ in 0..TRIES {
        let is_open = |index: &usize| match &answers[*index] {
            None => true,
            Some(answer) => again && is_failure(answer),
        };
        let left: Vec<usize> = (0..sent.len()).filter(is_open).collect();
        // What may stay unanswered goes together, so that the silence is waited for only a few times.
        let (quiet, loud): (Vec<_>, Vec<_>) = left.into_iter().partition(|index| sent[*index].may_be_dropped);
        for some in loud.chunks(AT_ONCE).chain(quiet.chunks(2 * AT_ONCE)) {
            exchange(&socket, sent, some, &mut answers);
        }
    }
    answers
}

/// SERVFAIL, or NXDOMAIN without the record that says for how long (as PowerDNS sometimes says for a moment, of names that exist).
fn is_failure(answer: &[u8]) -> bool {
    let (rcode, authority) = (answer.get(3).map_or(0, |flags| flags & 0xf), answer.get(8..10));
    rcode == 2 || rcode == 3 && authority == Some(&[0, 0])
}

fn exchange(socket: &UdpSocket, sent: &[Sent], indices: &[usize], answers: &mut [Option<Vec<u8>>]) {
    let mut waiting = HashMap::new();
    for index in indices {
        if let Some(id) = sent[*index].bytes.first_chunk::<2>() {
            waiting.insert(*id, *index);
        }
        socket.send(&sent[*index].bytes).unwrap();
    }
    let mut buffer = [0; 65_535];
    while !waiting.is_empty() {
        let Ok(len) = socket.recv(&mut buffer) else { return };
        if let Some(id) = buffer[..len].first_chunk::<2>()
            && let Some(index) = waiting.remove(id)
        {
            answers[index] = Some(buffer[..len].to_vec());
        }
    }
}
