//! Sessions that could not be read: each is tried again later and later, and told of once.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use turnkeep_core::SessionKey;

/// The pause before the second look at a session.
const FIRST: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(600);
/// Sessions that are tried again at most; of others is read when something happens in them.
const SESSIONS_MAX: usize = 10_000;

/// How often, and when again.
#[derive(Debug)]
struct Tried {
    pause: Duration,
    /// None while it is being tried.
    due: Option<Instant>,
}

/// Sessions that could not be read.
#[derive(Debug, Default)]
pub(super) struct Unreadable(BTreeMap<SessionKey, Tried>);

impl Unreadable {
    /// Notes one; says whether it is news.
    pub(super) fn failed(&mut self, key: &SessionKey, now: Instant) -> bool {
        if let Some(tried) = self.0.get_mut(key) {
            tried.pause = (tried.pause * 2).min(LONGEST);
            tried.due = Some(now + tried.pause);
            return false;
        }
        if self.0.len() < SESSIONS_MAX {
            self.0.insert(key.clone(), Tried { pause: FIRST, due: Some(now + FIRST) });
        }
        true
    }

    /// It was read, or is gone.
    pub(super) fn over(&mut self, key: &SessionKey) {
        self.0.remove(key);
    }

    /// Whether it is waited before it is tried again.
    pub(super) fn rests(&self, key: &SessionKey) -> bool {
        self.0.get(key).is_some_and(|tried| tried.due.is_some())
    }

    /// Those to be tried again now, at most so many.
    pub(super) fn take_due(&mut self, now: Instant, limit: usize) -> Vec<SessionKey> {
        let due = self.0.iter_mut().filter(|(_, tried)| tried.due.is_some_and(|due| due <= now));
        let taken = due.take(limit).map(|(key, tried)| {
            tried.due = None;
            key.clone()
        });
        taken.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_read_is_tried_less_and_less_often() {
        let key: SessionKey = "default:default:api:dm:anna".parse().unwrap();
        let (mut all, begin) = (Unreadable::default(), Instant::now());
        assert!(all.failed(&key, begin), "news");
        let mut now = begin;
        for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600] {
            let pause = Duration::from_secs(seconds);
            assert!(all.take_due(now + pause - Duration::from_millis(1), 9).is_empty());
            assert!(all.rests(&key));
            now += pause;
            assert_eq!(all.take_due(now, 9), std::slice::from_ref(&key));
            assert!(!all.rests(&key) && all.take_due(now, 9).is_empty(), "it is being tried");
            assert!(!all.failed(&key, now), "told already");
        }
        all.over(&key);
        assert!(!all.rests(&key) && all.failed(&key, now));
    }
}
