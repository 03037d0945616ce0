//! How many wrong tokens an address may try: a few at once, then one a second. More are not looked
//! at, so that a token cannot be found by trying, however many connections somebody opens.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Mutex;
use std::time::Instant;

use crate::base::locks;

/// Wrong tokens that may be tried at once.
const AT_ONCE: f64 = 50.0;
/// And then so many a second.
const A_SECOND: f64 = 1.0;
/// Addresses that are remembered, at most. Who has more of them is not held up by any such list.
const MOST: usize = 4096;

/// The addresses that wrong tokens came from.
#[derive(Debug, Default)]
pub struct Attempts(Mutex<HashMap<IpAddr, Bucket>>);

/// What an address may still try.
#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + elapsed * A_SECOND).min(AT_ONCE);
        self.at = now;
    }
}

impl Attempts {
    /// Whether a token from this address may be looked at.
    pub fn may_try(&self, from: IpAddr, now: Instant) -> bool {
        let mut buckets = locks::lock(&self.0);
        let Some(bucket) = buckets.get_mut(&site(from)) else {
            return true;
        };
        bucket.fill(now);
        bucket.left >= 1.0
    }

    /// One from there was wrong.
    pub fn failed(&self, from: IpAddr, now: Instant) {
        let mut buckets = locks::lock(&self.0);
        if buckets.len() >= MOST {
            buckets.retain(|_, bucket| {
                bucket.fill(now);
                bucket.left < AT_ONCE
            });
        }
        if buckets.len() >= MOST {
            buckets.clear();
        }
        let bucket = buckets.entry(site(from)).or_insert(Bucket {
            left: AT_ONCE,
            at: now,
        });
        bucket.fill(now);
        bucket.left = (bucket.left - 1.0).max(0.0);
    }
}

/// Who has one address of IPv6 has all 2^64 of its network (RFC 4291, 2.5.4).
fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn wrong(attempts: &Attempts, from: IpAddr, times: u32, now: Instant) -> u32 {
        let mut looked = 0;
        for _ in 0..times {
            if attempts.may_try(from, now) {
                attempts.failed(from, now);
                looked += 1;
            }
        }
        looked
    }

    #[test]
    fn after_a_few_at_once_one_a_second_is_looked_at() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let [one, other]: [IpAddr; 2] =
            ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        assert_eq!(wrong(&attempts, one, 1000, now), 50);
        assert_eq!(wrong(&attempts, other, 10, now), 10, "another is another");
        assert_eq!(wrong(&attempts, one, 1000, now + Duration::from_secs(3)), 3);
        let later = now + Duration::from_secs(3600);
        assert_eq!(wrong(&attempts, one, 1000, later), 50);
    }

    #[test]
    fn a_network_of_ipv6_is_one_and_a_mapped_address_is_what_it_stands_for() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(wrong(&attempts, address("2001:db8::1"), 60, now), 50);
        assert!(!attempts.may_try(address("2001:db8::ffff"), now));
        assert!(attempts.may_try(address("2001:db8:0:1::1"), now));
        assert_eq!(wrong(&attempts, address("::ffff:192.0.2.1"), 60, now), 50);
        assert!(!attempts.may_try(address("192.0.2.1"), now));
    }

    #[test]
    fn the_list_has_an_end() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        for number in 0..3 * MOST as u32 {
            attempts.failed(IpAddr::from(number.to_be_bytes()), now);
        }
        assert!(locks::lock(&attempts.0).len() <= MOST);
    }
}
