//! How many answers a second one client network may have by UDP, so that we amplify nothing for a forged sender.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

/// Networks that fall into the same slot share it; with a few thousand clients that is seldom.
const SLOTS: usize = 16_384;
/// A forged sender's victim asks from anywhere in its network.
const V4_PREFIX: u32 = 24;
const V6_PREFIX: u32 = 56;
/// Of the answers above the limit every so many-th says "ask over TCP", which whoever is real can do.
const SLIP: u32 = 2;

pub(crate) struct Limiter {
    hashing: RandomState,
    /// A second in the upper half, the answers in it in the lower.
    slots: Box<[AtomicU64]>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Limited {
    No,
    Truncate,
    Drop,
}

impl Default for Limiter {
    fn default() -> Self {
        Self { hashing: RandomState::new(), slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Limiter {
    pub fn count(&self, client: IpAddr, per_second: u32, now_s: u32) -> Limited {
        let network = match client.to_canonical() {
            IpAddr::V4(v4) => u128::from(u32::from(v4) >> (32 - V4_PREFIX)),
            IpAddr::V6(v6) => u128::from(v6) >> (128 - V6_PREFIX) | 1 << 127,
        };
        let slot = &self.slots[self.hashing.hash_one(network) as usize % SLOTS];
        let before = slot.load(Ordering::Relaxed);
        let is_this_second = (before >> 32) as u32 == now_s;
        let counted = if is_this_second { (before as u32).saturating_add(1) } else { 1 };
        // Two threads at once may count one too few.
        slot.store(u64::from(now_s) << 32 | u64::from(counted), Ordering::Relaxed);
        match counted.checked_sub(per_second) {
            None | Some(0) => Limited::No,
            Some(over) if over % SLIP == 0 => Limited::Truncate,
            Some(_) => Limited::Drop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_its_share_of_each_second() {
        let limiter = Limiter::default();
        let count = |client: &str, now| limiter.count(client.parse().unwrap(), 3, now);
        for now in [10, 11] {
            let counted: Vec<_> = (1..=7).map(|host| count(&format!("192.0.2.{host}"), now)).collect();
            assert_eq!(counted[..3], [Limited::No, Limited::No, Limited::No]);
            assert_eq!(counted[3..], [Limited::Drop, Limited::Truncate, Limited::Drop, Limited::Truncate]);
            assert_eq!(count("198.51.100.1", now), Limited::No);
            assert_eq!(count("2001:db8::1", now), Limited::No);
        }
    }
}
