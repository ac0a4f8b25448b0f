//! How often each address guessed wrong.
//!
//! Bounded however many addresses there are: when the table is full it becomes the old one, and
//! what nobody asked for since then is forgotten with the next.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
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
    /// Somebody's guess was found right or wrong, so that whoever waits may look again.
    settled: Notify,
}

#[derive(Default)]
struct Tables {
    young: HashMap<IpAddr, Guesses>,
    old: HashMap<IpAddr, Guesses>,
}

/// What one address did.
#[derive(Clone, Copy, Default)]
struct Guesses {
    wrong: Bucket,
    /// Guesses that are being looked up; each may turn out wrong.
    open: u32,
}

impl Guesses {
    /// Whether one more may be tried, even if all that are open turn out wrong.
    fn check(&mut self, now: Timestamp) -> Result<(), u64> {
        self.wrong.wait_ms(RATE, now).map_or(Ok(()), Err)?;
        let mut worst = self.wrong;
        for _ in 0..self.open {
            worst.take(RATE, now)?;
        }
        worst.wait_ms(RATE, now).map_or(Ok(()), Err)
    }
}

/// A guess that is being looked up. It counts as wrong until it is found right, also when whoever
/// asked goes away meanwhile.
pub(super) struct Trial<'a> {
    failures: &'a Failures,
    /// Where it comes from, unless that is held to nothing.
    from: Option<IpAddr>,
    now: Timestamp,
}

impl Trial<'_> {
    /// It was right, or nobody knows: it costs nothing.
    pub(super) fn excuse(mut self) {
        if let Some(from) = self.from.take() {
            self.failures.tables().settle(from, None);
            self.failures.settled.notify_waiters();
        }
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if let Some(from) = self.from.take() {
            self.failures.tables().settle(from, Some(self.now));
            self.failures.settled.notify_waiters();
        }
    }
}

impl Failures {
    /// Tries a guess that needs no waiting, and notes it if it is wrong. No other guess from there
    /// is tried meanwhile, so of many at one moment no more are tried than may be wrong. Who comes
    /// over the unix socket is not held to it.
    pub(super) fn at_once<T>(
        &self,
        from: Option<IpAddr>,
        now: Timestamp,
        guess: impl FnOnce() -> Option<T>,
    ) -> Result<Option<T>, TooManyFailures> {
        let Some(from) = from.map(neighbourhood) else { return Ok(guess()) };
        let mut tables = self.tables();
        tables.check(from, now)?;
        let found = guess();
        if found.is_none() {
            tables.guesses(from).wrong.spend(RATE, now);
        }
        Ok(found)
    }

    /// Counts a guess before it is looked up. While others from there are being looked up, which
    /// might use up what is left, it waits for them.
    pub(super) async fn begin(
        &self,
        from: Option<IpAddr>,
        now: Timestamp,
    ) -> Result<Trial<'_>, TooManyFailures> {
        let Some(from) = from.map(neighbourhood) else {
            return Ok(Trial { failures: self, from: None, now });
        };
        loop {
            let settled = self.settled.notified();
            {
                let mut tables = self.tables();
                match tables.check(from, now) {
                    Ok(()) => {
                        tables.guesses(from).open += 1;
                        return Ok(Trial { failures: self, from: Some(from), now });
                    }
                    Err(_) if tables.may_recover(from, now) => {}
                    Err(too_many) => return Err(too_many),
                }
            }
            settled.await;
        }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn find(&mut self, address: IpAddr) -> Option<&mut Guesses> {
        self.young.get_mut(&address).or_else(|| self.old.get_mut(&address))
    }

    fn check(&mut self, address: IpAddr, now: Timestamp) -> Result<(), TooManyFailures> {
        let checked = self.find(address).map_or(Ok(()), |guesses| guesses.check(now));
        checked.map_err(|retry_after_ms| TooManyFailures { retry_after_ms })
    }

    /// Whether one more may be tried, should those that are open turn out right.
    fn may_recover(&mut self, address: IpAddr, now: Timestamp) -> bool {
        self.find(address).is_some_and(|guesses| guesses.wrong.wait_ms(RATE, now).is_none())
    }

    /// One that was open turned out right, or at some moment wrong.
    fn settle(&mut self, address: IpAddr, wrong_at: Option<Timestamp>) {
        let guesses = self.guesses(address);
        guesses.open = guesses.open.saturating_sub(1);
        match wrong_at {
            Some(now) => guesses.wrong.spend(RATE, now),
            // Nothing is known of most addresses but what is right.
            None if guesses.open == 0 && guesses.wrong == Bucket::default() => {
                self.young.remove(&address);
            }
            None => {}
        }
    }

    fn guesses(&mut self, address: IpAddr) -> &mut Guesses {
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

    /// A wrong guess.
    fn wrong(failures: &Failures, from: Option<IpAddr>, now: i64) -> Result<(), TooManyFailures> {
        failures.at_once(from, now, || None::<()>).map(|_| ())
    }

    fn right(failures: &Failures, from: Option<IpAddr>, now: i64) -> bool {
        failures.at_once(from, now, || Some(())).is_ok()
    }

    #[test]
    fn ten_wrong_guesses_are_looked_at() {
        let failures = Failures::default();
        for _ in 0..10 {
            assert!(right(&failures, address(1), NOW), "what is right costs nothing");
            assert_eq!(wrong(&failures, address(1), NOW), Ok(()));
        }
        let wait = TooManyFailures { retry_after_ms: 6000 };
        assert_eq!(failures.at_once(address(1), NOW, || Some(())), Err(wait));
        assert_eq!(wrong(&failures, address(1), NOW), Err(wait), "and costs nothing more");
        assert!(right(&failures, address(2), NOW), "others are not held to it");
        assert!(right(&failures, None, NOW));
        assert!(right(&failures, address(1), NOW + 6000));
        assert_eq!(wrong(&failures, address(1), NOW + 6000), Ok(()));
        assert!(!right(&failures, address(1), NOW + 6000));
    }

    #[tokio::test]
    async fn a_guess_counts_before_it_is_looked_up() {
        let failures = Failures::default();
        let mut trials = Vec::new();
        for _ in 0..10 {
            trials.push(failures.begin(address(1), NOW).await.ok().unwrap());
        }
        assert!(!right(&failures, address(1), NOW), "all ten may turn out wrong");
        let mut eleventh = std::pin::pin!(failures.begin(address(1), NOW));
        assert!(futures_util::poll!(&mut eleventh).is_pending(), "it waits for them");
        // Nine are wrong, which they also are if nobody waits for the answer; one is right.
        let excused = trials.pop().unwrap();
        drop(trials);
        assert!(futures_util::poll!(&mut eleventh).is_pending());
        excused.excuse();
        drop(eleventh.await.ok().unwrap());
        assert!(failures.begin(address(1), NOW).await.is_err());
        assert!(failures.begin(address(1), NOW + 6000).await.is_ok());
        assert!(failures.begin(None, NOW).await.is_ok());
    }

    #[tokio::test]
    async fn who_is_right_leaves_no_trace() {
        let failures = Failures::default();
        failures.begin(address(1), NOW).await.ok().unwrap().excuse();
        assert!(right(&failures, address(2), NOW));
        let tables = failures.tables();
        assert_eq!(tables.young.len() + tables.old.len(), 0);
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let failures = Failures::default();
        let address = |text: &str| Some(text.parse::<IpAddr>().unwrap());
        for last in 0..10 {
            wrong(&failures, address(&format!("2001:db8::{last}")), NOW).unwrap();
        }
        assert!(!right(&failures, address("2001:db8::ffff"), NOW));
        assert!(right(&failures, address("2001:db8:0:1::1"), NOW));
    }

    #[test]
    fn the_tables_have_a_bound() {
        let failures = Failures::default();
        for number in 0..200_000 {
            wrong(&failures, address(number), NOW).unwrap();
        }
        let tables = failures.tables();
        assert!(tables.young.len() + tables.old.len() <= 2 * ADDRESSES_MAX);
    }

    #[test]
    fn who_goes_on_guessing_is_not_forgotten() {
        let failures = Failures::default();
        for _ in 0..10 {
            wrong(&failures, address(0), NOW).unwrap();
        }
        let full = u32::try_from(ADDRESSES_MAX).unwrap();
        for number in 1..=full {
            wrong(&failures, address(number), NOW).unwrap();
        }
        assert!(!right(&failures, address(0), NOW), "it is in the old table");
    }
}
