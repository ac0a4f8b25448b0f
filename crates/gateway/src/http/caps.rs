//! How many connections may be open, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::access::neighbourhood;

/// Counts open connections and refuses those over the cap.
pub(super) struct Caps {
    total_max: usize,
    per_address_max: usize,
    seats: Mutex<Seats>,
}

#[derive(Default)]
struct Seats {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One connection's place; dropping it gives the place back.
pub(super) struct Seat {
    caps: Arc<Caps>,
    address: Option<IpAddr>,
}

impl Caps {
    pub(super) fn new(total_max: usize, per_address_max: usize) -> Self {
        Self { total_max, per_address_max, seats: Mutex::default() }
    }

    /// A place for a connection from `address`, if there is one left.
    pub(super) fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Seat> {
        let address = address.map(neighbourhood);
        let mut seats = self.seats();
        if seats.total >= self.total_max {
            return None;
        }
        if let Some(address) = address {
            let count = seats.by_address.entry(address).or_default();
            if *count >= self.per_address_max {
                return None;
            }
            *count += 1;
        }
        seats.total += 1;
        drop(seats);
        Some(Seat { caps: Arc::clone(self), address })
    }

    fn seats(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = self.caps.seats();
        seats.total -= 1;
        if let Some(address) = self.address
            && let Some(count) = seats.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                seats.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn a_seat_is_given_back() {
        let caps = Arc::new(Caps::new(2, 1));
        let first = caps.take(address("10.0.0.1"));
        assert!(first.is_some());
        assert!(caps.take(address("10.0.0.1")).is_none(), "one an address");
        let second = caps.take(None);
        assert!(second.is_some());
        assert!(caps.take(address("10.0.0.2")).is_none(), "two in all");
        drop((first, second));
        assert!(caps.take(address("10.0.0.1")).is_some());
        assert!(caps.seats().by_address.len() <= 1);
    }

    #[test]
    fn neighbours_in_ipv6_share() {
        let caps = Arc::new(Caps::new(9, 1));
        let _seat = caps.take(address("2001:db8::1"));
        assert!(caps.take(address("2001:db8::2")).is_none());
        assert!(caps.take(address("2001:db8:0:1::2")).is_some());
        let _seat = caps.take(address("10.0.0.1"));
        assert!(caps.take(address("::ffff:10.0.0.1")).is_none());
    }
}
