//! Server cookies as RFC 9018 makes them: whoever has one was reached at the address that he asks from.

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;

use crate::wire::COOKIE_LEN;

const CLIENT: usize = 8;
/// Version 1, and three octets that are reserved.
const VERSION: [u8; 4] = [1, 0, 0, 0];
/// RFC 9018 section 4.3: older ones are no good, nor those from so far ahead.
const MAX_AGE_S: u32 = 3_600;
const MAX_AHEAD_S: u32 = 300;

pub(crate) struct Cookies {
    secret: [u8; 16],
}

impl Cookies {
    /// With a secret of this process: a restart only costs each client one exchange without the rights of a known one.
    pub fn new() -> Result<Self, getrandom::Error> {
        let mut secret = [0; 16];
        getrandom::fill(&mut secret)?;
        Ok(Self { secret })
    }

    /// The cookie to give back to a client who sent `sent`, and whether his half of ours is right. Seconds since 1970, as 32
    /// bits that go round.
    pub fn answer(&self, sent: &[u8], client: IpAddr, now_s: u32) -> Option<([u8; COOKIE_LEN], bool)> {
        let (own, ours) = sent.split_first_chunk::<CLIENT>()?;
        let known = ours.len() == COOKIE_LEN - CLIENT && self.is_ours(own, ours, client, now_s);
        let mut cookie = [0; COOKIE_LEN];
        cookie[..CLIENT].copy_from_slice(own);
        cookie[CLIENT..12].copy_from_slice(&VERSION);
        cookie[12..16].copy_from_slice(&now_s.to_be_bytes());
        let hash = self.hash(&cookie[..16], client);
        cookie[16..].copy_from_slice(&hash);
        Some((cookie, known))
    }

    fn is_ours(&self, own: &[u8; CLIENT], ours: &[u8], client: IpAddr, now_s: u32) -> bool {
        let Some((stamped, hash)) = ours.split_first_chunk::<8>() else { return false };
        let [version @ .., a, b, c, d] = *stamped;
        // RFC 1982 arithmetic, as RFC 9018 asks.
        let age = now_s.wrapping_sub(u32::from_be_bytes([a, b, c, d])) as i32;
        let in_time = age <= MAX_AGE_S as i32 && age >= -(MAX_AHEAD_S as i32);
        version == VERSION && in_time && self.hash(&[own.as_slice(), stamped].concat(), client) == hash
    }

    fn hash(&self, stamped: &[u8], client: IpAddr) -> [u8; 8] {
        let mut hasher = SipHasher24::new_with_key(&self.secret);
        hasher.write(stamped);
        match client {
            IpAddr::V4(v4) => hasher.write(&v4.octets()),
            IpAddr::V6(v6) => hasher.write(&v6.octets()),
        }
        hasher.finish().to_le_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9018 appendix A.1 (a new cookie) and A.2 (one that is 40 minutes old).
    #[test]
    fn the_examples_of_the_rfc() {
        let cookies = Cookies { secret: 0xe5e973e5a6b2a43f48e7dc849e37bfcf_u128.to_be_bytes() };
        let client = "198.51.100.100".parse().unwrap();
        let own = 0x2464c4abcf10c957_u64.to_be_bytes();
        let (cookie, known) = cookies.answer(&own, client, 1_559_731_985).unwrap();
        assert_eq!(cookie[8..], 0x010000005cf79f111f8130c3eee29480_u128.to_be_bytes());
        assert!(!known);
        assert!(cookies.answer(&cookie, client, 1_559_734_385).unwrap().1, "40 minutes later");
    }

    #[test]
    fn what_is_not_ours() {
        let cookies = Cookies::new().unwrap();
        let client = "192.0.2.1".parse().unwrap();
        let (cookie, _) = cookies.answer(&[7; 8], client, 1_000_000).unwrap();
        let known = |cookie: &[u8], client: &str, now| cookies.answer(cookie, client.parse().unwrap(), now).unwrap().1;
        assert!(known(&cookie, "192.0.2.1", 1_003_600));
        assert!(!known(&cookie, "192.0.2.1", 1_003_601), "too old");
        assert!(known(&cookie, "192.0.2.1", 999_700));
        assert!(!known(&cookie, "192.0.2.1", 999_699), "from the future");
        assert!(!known(&cookie, "192.0.2.2", 1_000_000), "somebody else's");
        let mut forged = cookie;
        forged[23] ^= 1;
        assert!(!known(&forged, "192.0.2.1", 1_000_000));
        assert!(!known(&cookie[..20], "192.0.2.1", 1_000_000));
    }
}
