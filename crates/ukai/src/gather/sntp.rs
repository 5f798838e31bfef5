//! What another clock says, by SNTP (RFC 4330; RFC 5905, 14): one question, one answer, no clock is set.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use jiff::Timestamp;
use tokio::net::UdpSocket;

/// A time server answers at once; what takes longer would blur the offset too.
const TIMEOUT: Duration = Duration::from_secs(1);
/// A message without extensions or authentication.
const PACKET: usize = 48;
/// Version 4, mode 3 (client).
const CLIENT: u8 = 4 << 3 | 3;
const MODE_SERVER: u8 = 4;
/// The server itself is not synchronised.
const LEAP_UNKNOWN: u8 = 3;
/// 0 is a refusal (a kiss of death), 16 is not synchronised.
const STRATA: std::ops::RangeInclusive<u8> = 1..=15;
/// Seconds from 1900, where NTP begins, to 1970.
const NTP_OFFSET: i64 = 2_208_988_800;

#[derive(Debug, thiserror::Error)]
pub enum SntpError {
    #[error("the time server cannot be asked: {0}")]
    Network(#[from] io::Error),
    #[error("the time server gave no usable answer within {} ms", TIMEOUT.as_millis())]
    Timeout,
}

/// The server's clock minus ours, in milliseconds, to within half of the way there and back.
///
/// # Errors
/// Where it cannot be reached, or nothing that answers the question comes within a second.
pub async fn offset_ms(server: SocketAddr) -> Result<i64, SntpError> {
    tokio::time::timeout(TIMEOUT, ask(server)).await.unwrap_or(Err(SntpError::Timeout))
}

async fn ask(server: SocketAddr) -> Result<i64, SntpError> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    // Not our time: it tells nobody our clock, and nobody from afar can guess it.
    let mut cookie = [0; 8];
    getrandom::fill(&mut cookie).map_err(|error| io::Error::other(error.to_string()))?;
    let mut request = [0; PACKET];
    request[0] = CLIENT;
    request[40..].copy_from_slice(&cookie);
    let sent = Timestamp::now();
    socket.send(&request).await?;
    let mut buffer = [0; 512];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let received = Timestamp::now();
        if let Some(offset) = offset(&buffer[..length], &cookie, sent, received) {
            return Ok(offset);
        }
    }
}

/// RFC 5905, 8: half the difference on the way there and half of that on the way back. None: it is no answer to our
/// question, or of a server that does not know the time.
fn offset(reply: &[u8], cookie: &[u8; 8], sent: Timestamp, received: Timestamp) -> Option<i64> {
    let (first, stratum) = (*reply.first()?, *reply.get(1)?);
    let time = |at: usize| Some(u64::from_be_bytes(reply.get(at..at + 8)?.try_into().ok()?));
    let is_answer = reply.len() >= PACKET
        && first & 7 == MODE_SERVER
        && first >> 6 != LEAP_UNKNOWN
        && STRATA.contains(&stratum)
        && reply[24..32] == cookie[..];
    let (arrived, left) = (time(32)?, time(40)?);
    if !is_answer || left == 0 {
        return None;
    }
    let sum = difference(arrived, ntp_time(sent)) + difference(left, ntp_time(received));
    i64::try_from(((sum / 2) * 1000) >> 32).ok()
}

/// In units of 2^-32 s. Eras cancel out while the clocks are within 68 years of each other (RFC 5905, 6).
fn difference(theirs: u64, ours: u64) -> i128 {
    i128::from(theirs.wrapping_sub(ours).cast_signed())
}

fn ntp_time(at: Timestamp) -> u64 {
    let nanoseconds = at.as_nanosecond() + i128::from(NTP_OFFSET) * 1_000_000_000;
    // Cut to 64 bits: the era is left out.
    ((nanoseconds << 32) / 1_000_000_000) as u64
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// What a server says that is `ahead` of us, half a second away.
    fn reply(cookie: &[u8; 8], sent: Timestamp, ahead: SignedDuration) -> Vec<u8> {
        let mut packet = vec![4 << 3 | MODE_SERVER, 2];
        packet.resize(24, 0);
        packet.extend(cookie);
        let there = sent + SignedDuration::from_millis(500) + ahead;
        packet.extend(ntp_time(there).to_be_bytes());
        packet.extend(ntp_time(there).to_be_bytes());
        packet
    }

    #[test]
    fn the_offset_leaves_the_way_out() {
        let cookie = [7; 8];
        for sent in ["2026-01-10T03:00:00.25Z", "2036-02-07T06:28:15.9Z", "2036-02-08T00:00:00Z"].map(at) {
            for ahead_ms in [0, 1, 90_000, -90_000, 86_400_000 * 400, -86_400_000 * 400] {
                let reply = reply(&cookie, sent, SignedDuration::from_millis(ahead_ms));
                let told = offset(&reply, &cookie, sent, sent + SignedDuration::from_secs(1)).unwrap();
                assert!((told - ahead_ms).abs() <= 1, "{told} for {ahead_ms} at {sent}");
            }
        }
    }

    #[test]
    fn only_an_answer_to_our_question_counts() {
        let (cookie, sent) = ([7; 8], at("2026-01-10T03:00:00Z"));
        let good = reply(&cookie, sent, SignedDuration::ZERO);
        let told = |reply: &[u8]| offset(reply, &cookie, sent, sent);
        assert!(told(&good).is_some());
        let broken: [(&str, usize, u8); 5] = [
            ("mode of a client", 0, CLIENT),
            ("not synchronised", 0, 0b1110_0100),
            ("a kiss of death", 1, 0),
            ("stratum 16", 1, 16),
            ("another's question", 31, 8),
        ];
        for (what, index, octet) in broken {
            let mut reply = good.clone();
            reply[index] = octet;
            assert_eq!(told(&reply), None, "{what}");
        }
        let mut never_sent = good.clone();
        never_sent[40..].fill(0);
        assert_eq!(told(&never_sent), None);
        for length in 0..PACKET {
            assert_eq!(told(&good[..length]), None, "{length}");
        }
    }

    #[tokio::test]
    async fn a_server_is_asked() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = socket.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut request = [0; 512];
            let (length, from) = socket.recv_from(&mut request).await.unwrap();
            assert_eq!((length, request[0]), (PACKET, CLIENT));
            let cookie: [u8; 8] = request[40..48].try_into().unwrap();
            let hour = SignedDuration::from_hours(1);
            for cookie in [[0; 8], cookie] {
                socket.send_to(&reply(&cookie, Timestamp::now(), hour), from).await.unwrap();
            }
        });
        let told = offset_ms(server).await.unwrap();
        assert!((told - 3_600_000).abs() < 60_000, "{told}");
        task.await.unwrap();
        assert!(offset_ms("127.0.0.1:1".parse().unwrap()).await.is_err());
    }
}
