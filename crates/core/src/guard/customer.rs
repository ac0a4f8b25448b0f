//! All that is remembered of one customer: what they said, and how fast they wrote at each rate.
//! Small, because a million of them may be remembered.

use super::abuse::TextShape;
use super::gcra::{Bucket, Rate};
use super::window::{Window, seconds};
use crate::ids::Timestamp;

/// Over so many seconds attempts are counted.
pub const FLOOD_SPAN_S: u32 = 60;
/// Over so many seconds links and repetitions are counted.
pub const TALK_SPAN_S: u32 = 600;
/// Different texts that are remembered; whoever goes round with more of them is no bore.
const TEXTS: usize = 4;

/// How fast a customer who is refused may have it looked up whether a message is a twin of an
/// accepted one. It costs the store something, so it is bounded by itself.
pub const LOOK_UPS: Rate = Rate::new(30, 30);

/// How fast somebody wrote, at one rate. Whoever writes at two has two of them, because what is used
/// of one rate says nothing about the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// What is used of the rate.
    pub rate: Bucket,
    attempts: Window,
}

impl Pace {
    /// Somebody tries to send something; says how often in the last minute.
    pub fn attempts(&mut self, now: Timestamp) -> u32 {
        self.attempts.add(1, FLOOD_SPAN_S, now)
    }

    /// What was counted led to something: the count begins anew.
    pub fn forgive_attempts(&mut self) {
        self.attempts = Window::default();
    }

    /// Nothing is known that somebody new would not have as well.
    #[must_use]
    pub fn is_forgettable(&self, now: Timestamp) -> bool {
        self.rate.is_full(now) && self.attempts.is_over(FLOOD_SPAN_S, now)
    }

    /// How much is lost if it is forgotten: the later the worse. Who has used most of the rate is
    /// forgotten last.
    #[must_use]
    pub const fn weight(&self) -> Timestamp {
        self.rate.full_at()
    }
}

/// What is remembered of one customer at all rates. A new one is somebody who never wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Customer {
    /// What is used of the look-ups.
    pub look_ups: Bucket,
    links: Window,
    /// Hashes of the last different texts, the latest first; 0 for none.
    texts: [u32; TEXTS],
    repeats: [u16; TEXTS],
    /// Since when repetitions are counted, in seconds since the Unix epoch.
    talks_since_s: u32,
}

/// What a text adds up to with those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// How often this text was heard lately, this time included.
    pub repeats: u32,
    /// Links that were sent lately.
    pub links: u32,
}

impl Customer {
    /// Hears a text that was let in so far.
    pub fn hear(&mut self, shape: TextShape, now: Timestamp) -> Heard {
        let links = if shape.links == 0 && self.links == Window::default() {
            0
        } else {
            self.links.add(shape.links, TALK_SPAN_S, now)
        };
        Heard { repeats: self.repeated(shape.hash, seconds(now)), links }
    }

    fn repeated(&mut self, hash: u32, now_s: u32) -> u32 {
        let passed = now_s.checked_sub(self.talks_since_s);
        if passed.is_none_or(|passed| passed >= TALK_SPAN_S) {
            (self.texts, self.repeats) = ([0; TEXTS], [0; TEXTS]);
            self.talks_since_s = now_s;
        }
        let at = self.texts.iter().position(|text| *text == hash);
        let times = at.map_or(0, |at| self.repeats[at]).saturating_add(1);
        // The latest comes first, the one that was not heard for longest falls out.
        let end = at.unwrap_or(TEXTS - 1);
        self.texts.copy_within(..end, 1);
        self.repeats.copy_within(..end, 1);
        (self.texts[0], self.repeats[0]) = (hash, times);
        times.into()
    }

    /// Nothing is known of it that somebody new would not have as well.
    #[must_use]
    pub fn is_forgettable(&self, now: Timestamp) -> bool {
        self.look_ups.is_full(now) && self.links.is_over(TALK_SPAN_S, now) && !self.talked(now)
    }

    /// How much is lost if it is forgotten: the more the worse. Who repeated most, sent most links
    /// and was looked up most is forgotten last.
    #[must_use]
    pub fn weight(&self, now: Timestamp) -> i64 {
        let repeats = if self.talked(now) { self.repeats.into_iter().max() } else { None };
        let links = if self.links.is_over(TALK_SPAN_S, now) { 0 } else { self.links.held() };
        let look_up_ms = 60_000 / i64::from(LOOK_UPS.per_minute);
        let look_ups = self.look_ups.full_at().saturating_sub(now).max(0) / look_up_ms;
        i64::from(repeats.unwrap_or(0)) + i64::from(links) + look_ups
    }

    fn talked(&self, now: Timestamp) -> bool {
        seconds(now).checked_sub(self.talks_since_s).is_some_and(|passed| passed < TALK_SPAN_S)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_750_000_000_000;

    fn shape(text: &str) -> TextShape {
        TextShape::of(text)
    }

    #[test]
    fn it_is_small() {
        let sizes = (size_of::<Customer>(), size_of::<Pace>());
        assert!(sizes.0 <= 48 && sizes.1 <= 24, "{sizes:?}");
    }

    #[test]
    fn repetitions_are_counted_among_a_few_texts() {
        let check = |texts: &[&str], expect: &[u32]| {
            let mut customer = Customer::default();
            let heard = |text: &&str| customer.hear(shape(text), NOW).repeats;
            let counted: Vec<u32> = texts.iter().map(heard).collect();
            assert_eq!(counted, expect, "{texts:?}");
        };
        check(&["a", "a", "A!", "a"], &[1, 2, 3, 4]);
        check(&["a", "b", "a", "b", "a"], &[1, 1, 2, 2, 3]);
        check(&["a", "b", "c", "d", "a"], &[1, 1, 1, 1, 2]);
        check(&["a", "b", "c", "d", "e", "a"], &[1, 1, 1, 1, 1, 1]);
        check(&["a", "b", "a", "c", "d", "e", "a"], &[1, 1, 2, 1, 1, 1, 3]);
    }

    #[test]
    fn repetitions_are_forgotten_after_a_while() {
        let mut customer = Customer::default();
        let mut hear = |at_s: i64| customer.hear(shape("a"), NOW + at_s * 1000).repeats;
        assert_eq!([hear(0), hear(599), hear(600), hear(-1000)], [1, 2, 1, 1]);
    }

    #[test]
    fn links_add_up() {
        let mut customer = Customer::default();
        let mut hear = |text: &str| customer.hear(shape(text), NOW).links;
        assert_eq!(hear("no link"), 0);
        assert_eq!(hear("https://a.example https://b.example"), 2);
        assert_eq!(hear("again https://a.example"), 3);
        assert_eq!(hear("no link"), 3);
    }

    #[test]
    fn who_never_wrote_or_was_quiet_for_long_is_forgettable() {
        let (mut customer, mut pace) = (Customer::default(), Pace::default());
        assert!(customer.is_forgettable(NOW) && pace.is_forgettable(NOW));
        customer.hear(shape("a"), NOW);
        assert!(!customer.is_forgettable(NOW + 599_000));
        assert!(customer.is_forgettable(NOW + 600_000));
        pace.attempts(NOW);
        assert!(!pace.is_forgettable(NOW + 60_000));
        assert!(pace.is_forgettable(NOW + 120_000));
        pace.rate.spend(Rate::new(1, 100), NOW + 100_000);
        assert!(!pace.is_forgettable(NOW + 159_000));
        assert_eq!(pace.weight(), NOW + 160_000);
    }

    #[test]
    fn who_did_most_weighs_most() {
        let mut customer = Customer::default();
        let weight = |customer: &Customer| customer.weight(NOW);
        assert_eq!(weight(&customer), 0);
        customer.hear(shape("a"), NOW);
        customer.hear(shape("a"), NOW);
        assert_eq!(weight(&customer), 2);
        customer.hear(shape("https://a.example"), NOW);
        assert_eq!(weight(&customer), 3);
        customer.look_ups.spend(LOOK_UPS, NOW);
        assert_eq!(weight(&customer), 4);
        assert_eq!(customer.weight(NOW + 1_200_000), 0, "that was long ago");
    }
}
