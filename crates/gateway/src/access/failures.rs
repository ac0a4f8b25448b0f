//! How often each address guessed wrong.
//!
//! Bounded however many addresses there are: when the table is full it becomes the old one, and
//! what nobody asked for since then is forgotten with the next.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use turnkeep_core::Timestamp;
use turnkeep_core::guard::gcra::{Bucket, Rate};

use super::TooManyFailures;

/// Wrong guesses of one address: so many a minute, so many at once.
const RATE: Rate = Rate::new(10, 10);
/// Addresses in each of the two tables.
const ADDRESSES_MAX: usize = 16_384;

/// The tables.
#[derive(Default)]
pub(super) struct Failures {
    tables: Mutex<Tables>,
    /// Whether anybody ever guessed: as long as nobody did, nobody has to look.
    any: AtomicBool,
}

#[derive(Default)]
struct Tables {
    young: HashMap<IpAddr, Bucket>,
    old: HashMap<IpAddr, Bucket>,
}

impl Failures {
    /// Whether a guess from there is looked at. Who comes over the unix socket is not held to it.
    pub(super) fn check(
        &self,
        from: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<(), TooManyFailures> {
        let Some(from) = from.filter(|_| self.any.load(Ordering::Acquire)) else { return Ok(()) };
        let mut tables = self.tables();
        let Some(bucket) = tables.find(neighbourhood(from)) else { return Ok(()) };
        match bucket.wait_ms(RATE, now) {
            Some(retry_after_ms) => Err(TooManyFailures { retry_after_ms }),
            None => Ok(()),
        }
    }

    /// Notes a wrong guess, unless there were too many.
    pub(super) fn note(&self, from: Option<IpAddr>, now: Timestamp) -> Result<(), TooManyFailures> {
        let Some(from) = from else { return Ok(()) };
        self.any.store(true, Ordering::Release);
        let taken = self.tables().bucket(neighbourhood(from)).take(RATE, now);
        taken.map_err(|retry_after_ms| TooManyFailures { retry_after_ms })
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn find(&mut self, address: IpAddr) -> Option<&mut Bucket> {
        self.young.get_mut(&address).or_else(|| self.old.get_mut(&address))
    }

    fn bucket(&mut self, address: IpAddr) -> &mut Bucket {
        if self.young.len() >= ADDRESSES_MAX && !self.young.contains_key(&address) {
            self.old = std::mem::take(&mut self.young);
        }
        let old = &mut self.old;
        self.young.entry(address).or_insert_with(|| old.remove(&address).unwrap_or_default())
    }
}

/// What counts as one address: whoever has an IPv6 address has at least 2^64 of them.
pub(crate) fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = 1_790_000_000_000;

    fn address(number: u32) -> Option<IpAddr> {
        Some(IpAddr::V4(number.into()))
    }

    #[test]
    fn ten_wrong_guesses_are_looked_at() {
        let failures = Failures::default();
        for _ in 0..10 {
            assert_eq!(failures.check(address(1), NOW), Ok(()));
            assert_eq!(failures.note(address(1), NOW), Ok(()));
        }
        let wait = TooManyFailures { retry_after_ms: 6000 };
        assert_eq!(failures.check(address(1), NOW), Err(wait));
        assert_eq!(failures.note(address(1), NOW), Err(wait), "and costs nothing more");
        assert_eq!(failures.check(address(2), NOW), Ok(()), "others are not held to it");
        assert_eq!(failures.check(None, NOW), Ok(()));
        assert_eq!(failures.check(address(1), NOW + 6000), Ok(()));
        assert_eq!(failures.note(address(1), NOW + 6000), Ok(()));
        assert!(failures.check(address(1), NOW + 6000).is_err());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let failures = Failures::default();
        let address = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        for last in 0..10 {
            failures.note(address(&format!("2001:db8::{last}")), NOW).unwrap();
        }
        assert!(failures.check(address("2001:db8::ffff"), NOW).is_err());
        assert!(failures.check(address("2001:db8:0:1::1"), NOW).is_ok());
    }

    #[test]
    fn the_tables_have_a_bound() {
        let failures = Failures::default();
        for number in 0..200_000 {
            failures.note(address(number), NOW).unwrap();
        }
        let tables = failures.tables();
        assert!(tables.young.len() + tables.old.len() <= 2 * ADDRESSES_MAX);
    }

    #[test]
    fn who_goes_on_guessing_is_not_forgotten() {
        let failures = Failures::default();
        for _ in 0..10 {
            failures.note(address(0), NOW).unwrap();
        }
        let full = u32::try_from(ADDRESSES_MAX).unwrap();
        for number in 1..=full {
            failures.note(address(number), NOW).unwrap();
        }
        assert!(failures.check(address(0), NOW).is_err(), "it is in the old table");
    }
}
