//! The world's clock over SNTP (RFC 4330), so that a skew is seen as one.

use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::Live;
use crate::scenario::Egress;

/// Seconds from 1900, where NTP begins, to 1970.
const NTP_OFFSET: i64 = 2_208_988_800;
const PACKET: usize = 48;

pub(super) fn spawn(tasks: &mut JoinSet<()>, live: &Arc<Live>) -> io::Result<()> {
    let socket = std::net::UdpSocket::bind(live.layout.time_server())?;
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(socket)?;
    let live = live.clone();
    tasks.spawn(async move {
        let mut buffer = [0; 512];
        loop {
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                continue;
            };
            let zone = live.zone();
            if zone.state.egress == Egress::Cut {
                continue;
            }
            let request = buffer.get(..length.min(PACKET)).unwrap_or_default();
            if let Some(answer) = answer(request, Timestamp::now(), zone.state.clock.0) {
                let _ = socket.send_to(&answer, from).await;
            }
        }
    });
    Ok(())
}

fn answer(request: &[u8], now: Timestamp, shift: i64) -> Option<Vec<u8>> {
    let first = *request.first()?;
    // Mode 3 is a client; the version comes back as it was sent.
    if request.len() < PACKET || first & 7 != 3 {
        return None;
    }
    let mut packet = vec![first & 0b0011_1000 | 4, 1, 4, 0xec];
    packet.extend([0; 8]);
    packet.extend(b"LAB\0");
    let time = ntp_time(now, shift);
    packet.extend(time);
    packet.extend(request.get(40..48)?);
    packet.extend(time);
    packet.extend(time);
    Some(packet)
}

fn ntp_time(now: Timestamp, shift: i64) -> [u8; 8] {
    let seconds = now.as_second() + shift + NTP_OFFSET;
    let fraction = (i64::from(now.subsec_nanosecond()) << 32) / 1_000_000_000;
    // The era is left out (RFC 4330 section 3), which is what cutting to 32 bits does.
    let time = (seconds as u64) << 32 | (fraction as u64 & 0xffff_ffff);
    time.to_be_bytes()
}
