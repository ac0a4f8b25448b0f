//! Who is remembered, and how much memory that takes at most, however many come.
//!
//! Names are hashed with a secret of this process, so nobody can choose names that meet. A part of
//! the table that is full forgets those of whom nothing is known, and if there are too few of them,
//! those of whom least is.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::sync::{Mutex, PoisonError};

use turnkeep_core::guard::{Bucket, Customer, Pace, Rate};
use turnkeep_core::ids::Timestamp;

use super::rates::What;

/// A hashed name: 128 bits, so that of a million no two meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// Chooses the part of the table.
    part: u64,
    /// Chooses the place in it.
    place: u64,
}

impl std::hash::Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.place);
    }
}

/// A name is a hash already.
#[derive(Default)]
pub(super) struct Plain(u64);

impl Hasher for Plain {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        // Names write one number only.
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// A map by names.
pub(super) type ByName<V> = HashMap<Name, V, BuildHasherDefault<Plain>>;

/// Hashes names.
#[derive(Default)]
pub(super) struct Names {
    part: RandomState,
    place: RandomState,
}

impl Names {
    /// The name of a tenant, or of its customer.
    pub(super) fn of(&self, tenant: &str, customer: Option<&str>) -> Name {
        let both = (tenant, customer);
        Name { part: self.part.hash_one(both), place: self.place.hash_one(both) }
    }

    /// The name of what somebody uses of one rate, so that different rates never share it, nor what
    /// is counted apart from what is sent. It stands in the same part of a table as all else of
    /// theirs, where [`Table::forget_all`] finds it.
    pub(super) fn at_rate(&self, Name { part, place }: Name, rate: Rate, what: What) -> Name {
        let at = (part, place, rate.per_minute, rate.burst, what);
        Name { part, place: self.place.hash_one(at) }
    }
}

/// What a table remembers.
pub(super) trait Remembered: Default {
    /// Nothing is known that somebody new would not have as well.
    fn is_forgettable(&self, now: Timestamp) -> bool;
    /// How much is lost if it is forgotten: the more the later.
    fn weight(&self, now: Timestamp) -> i64;
}

impl Remembered for Customer {
    fn is_forgettable(&self, now: Timestamp) -> bool {
        Self::is_forgettable(self, now)
    }

    fn weight(&self, now: Timestamp) -> i64 {
        Self::weight(self, now)
    }
}

impl Remembered for Pace {
    fn is_forgettable(&self, now: Timestamp) -> bool {
        Self::is_forgettable(self, now)
    }

    fn weight(&self, _: Timestamp) -> i64 {
        Self::weight(self)
    }
}

impl Remembered for Bucket {
    fn is_forgettable(&self, now: Timestamp) -> bool {
        self.is_full(now)
    }

    fn weight(&self, _: Timestamp) -> i64 {
        self.full_at()
    }
}

/// Parts of the table of customers, and of that of what they use of each rate.
pub(super) const CUSTOMER_PARTS: usize = 256;
/// Parts of the table of tenants.
pub(super) const TENANT_PARTS: usize = 16;
/// What one part remembers at most: as many as fit into 8192 places without another doubling.
pub(super) const PART_MAX: usize = 7168;

/// Parts come in so many sizes, the largest nearly twice the smallest. So they double one after the
/// other while a table grows: if all did at once, what each leaves behind would stand beside what
/// each takes, for as long as the allocator keeps it.
const SIZES: usize = 16;
/// Which size a draw falls to: the first in 16 of 376 draws, the last in 31.
const SHARES: [u8; (SIZES * (3 * SIZES - 1)) / 2] = {
    let mut shares = [0; (SIZES * (3 * SIZES - 1)) / 2];
    let (mut size, mut at) = (0, 0);
    while size < SIZES {
        let end = at + SIZES + size;
        while at < end {
            shares[at] = size as u8;
            at += 1;
        }
        size += 1;
    }
    shares
};

/// What is remembered by name.
pub(super) struct Table<V> {
    parts: Box<[Mutex<ByName<V>>]>,
}

impl<V: Remembered> Table<V> {
    pub(super) fn new(parts: usize) -> Self {
        Self { parts: (0..parts).map(|_| Mutex::default()).collect() }
    }

    /// Works with what is remembered of somebody, who is new if nothing is. Must be short: a part of
    /// the table is locked meanwhile.
    pub(super) fn with<T>(&self, name: Name, now: Timestamp, work: impl FnOnce(&mut V) -> T) -> T {
        let mut part = self.part(name).lock().unwrap_or_else(PoisonError::into_inner);
        if is_full(&part) && !part.contains_key(&name) {
            make_room(&mut part, now);
        }
        work(part.entry(name).or_default())
    }

    /// Forgets somebody.
    pub(super) fn forget(&self, name: Name) {
        self.part(name).lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
    }

    /// Forgets what somebody used of every rate.
    pub(super) fn forget_all(&self, name: Name) {
        let mut part = self.part(name).lock().unwrap_or_else(PoisonError::into_inner);
        // 64 of its bits are as good as all of them among so few.
        part.retain(|known, _| known.part != name.part);
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        let lens =
            self.parts.iter().map(|part| part.lock().unwrap_or_else(PoisonError::into_inner).len());
        lens.sum()
    }

    fn part(&self, name: Name) -> &Mutex<ByName<V>> {
        let draw = usize::try_from(name.part >> 1).unwrap_or(0);
        let share = usize::from(SHARES[draw % SHARES.len()]);
        let index = draw / SHARES.len() * SIZES + share;
        &self.parts[index % self.parts.len()]
    }
}

/// Whether one more would make the part take another doubling of its memory: by what it holds, or by
/// the marks that those who were forgotten have left in it.
fn is_full<V>(part: &ByName<V>) -> bool {
    part.len() >= PART_MAX || (part.len() == part.capacity() && part.len() > PART_MAX / 2)
}

/// Makes room for an eighth, so that it is done seldom: once in nearly a thousand new names. Who
/// stays moves into new places, because a map that only loses some grows all the same.
fn make_room<V: Remembered>(part: &mut ByName<V>, now: Timestamp) {
    let mut known = std::mem::take(part);
    known.retain(|_, known| !known.is_forgettable(now));
    let keep = PART_MAX - PART_MAX / 8;
    let mut left = known.len().saturating_sub(keep);
    if let Some(last) = left.checked_sub(1) {
        let mut weights: Vec<i64> = known.values().map(|known| known.weight(now)).collect();
        let (_, bound, _) = weights.select_nth_unstable(last);
        let bound = *bound;
        known.retain(|_, known| {
            let goes = left > 0 && known.weight(now) <= bound;
            left -= usize::from(goes);
            !goes
        });
    }
    part.reserve(PART_MAX);
    part.extend(known);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = 1_750_000_000_000;
    const RATE: Rate = Rate::new(60, 60);

    fn spend(table: &Table<Bucket>, name: Name, times: u32) {
        table.with(name, NOW, |bucket| (0..times).for_each(|_| bucket.spend(RATE, NOW)));
    }

    /// Of the only part: what it has room for without taking more memory.
    fn capacity(table: &Table<Bucket>) -> usize {
        table.parts[0].lock().unwrap().capacity()
    }

    #[test]
    fn a_million_customers_take_less_than_300_megabytes() {
        // A part has 8192 places, each with one byte of the map's own beside it; while it grows, it
        // stands there once more in half its size. All of it twice: what customers said, and how
        // fast they wrote.
        let place = size_of::<(Name, Customer)>() + 1 + size_of::<(Name, Pace)>() + 1;
        let full = CUSTOMER_PARTS * 8192 * place + 4096 * place;
        const { assert!(CUSTOMER_PARTS * PART_MAX >= 1_500_000) };
        assert!(full < 230_000_000, "{full}");
        let mut part: ByName<Customer> = ByName::default();
        part.reserve(PART_MAX);
        assert_eq!(part.capacity(), PART_MAX, "another doubling would be needed");
    }

    #[test]
    fn however_many_come_it_stays_bounded() {
        let (table, names) = (Table::<Bucket>::new(1), Names::default());
        for customer in 0..3 * PART_MAX {
            spend(&table, names.of("acme", Some(&customer.to_string())), 1);
            assert!(table.len() <= PART_MAX);
        }
        assert!(table.len() > PART_MAX / 2);
        assert_eq!(capacity(&table), PART_MAX, "it took another doubling");
    }

    #[test]
    fn who_is_forgotten_leaves_no_mark_for_ever() {
        let (table, names) = (Table::<Bucket>::new(1), Names::default());
        for customer in 0..8 * PART_MAX {
            let name = names.of("acme", Some(&customer.to_string()));
            spend(&table, name, 1);
            if customer > PART_MAX / 2 {
                table.forget(name);
            }
        }
        assert!(capacity(&table) <= PART_MAX);
    }

    #[test]
    fn who_used_most_is_forgotten_last() {
        let (table, names) = (Table::<Bucket>::new(1), Names::default());
        let greedy = names.of("acme", Some("greedy"));
        spend(&table, greedy, 60);
        for customer in 0..3 * PART_MAX {
            spend(&table, names.of("acme", Some(&customer.to_string())), 1);
        }
        let wait_ms = table.with(greedy, NOW, |bucket| bucket.wait_ms(RATE, NOW));
        assert_eq!(wait_ms, Some(1000));
    }

    #[test]
    fn who_is_at_rest_goes_first_of_all() {
        let (table, names) = (Table::<Bucket>::new(1), Names::default());
        for customer in 0..PART_MAX {
            spend(&table, names.of("acme", Some(&customer.to_string())), 1);
        }
        table.with(names.of("acme", None), NOW + 1000, |_| ());
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn a_flood_of_equals_is_forgotten_in_eighths() {
        let mut part: ByName<Bucket> = ByName::default();
        let names = Names::default();
        for customer in 0..PART_MAX {
            let mut bucket = Bucket::default();
            bucket.spend(RATE, NOW);
            part.insert(names.of("acme", Some(&customer.to_string())), bucket);
        }
        make_room(&mut part, NOW);
        assert_eq!(part.len(), PART_MAX - PART_MAX / 8);
    }

    #[test]
    fn tenants_and_customers_are_told_apart() {
        let names = Names::default();
        let one = names.of("a", Some("bc"));
        for other in [names.of("ab", Some("c")), names.of("abc", None), names.of("a", Some("b"))] {
            assert_ne!(one, other);
        }
        assert_eq!(one, names.of("a", Some("bc")));
    }

    #[test]
    fn rates_are_told_apart_and_forgotten_together() {
        let (table, names) = (Table::<Bucket>::new(4), Names::default());
        let (one, other) = (names.of("a", Some("anna")), names.of("a", Some("ben")));
        let fast = Rate::new(60, 5);
        let (sent, slow) = (What::Sent, Rate::new(5, 60));
        let at =
            [(RATE, sent), (RATE, What::Typing), (RATE, What::Stop), (fast, sent), (slow, sent)];
        for name in [one, other] {
            for (rate, what) in at {
                spend(&table, names.at_rate(name, rate, what), 1);
            }
        }
        assert_eq!(table.len(), 2 * at.len());
        table.forget_all(one);
        assert_eq!(table.len(), at.len());
        assert_eq!(names.at_rate(one, fast, sent), names.at_rate(one, fast, sent));
    }
}
