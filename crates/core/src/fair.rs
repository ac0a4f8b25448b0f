//! Who gets the next provider slot: round robin over tenants, then over their sessions; users come
//! before cron, and cron that has waited long gets one slot in sixteen.

use std::collections::{HashMap, VecDeque};

use crate::ids::Timestamp;

/// Cron that has waited this long is no longer put off by every user.
pub const CRON_AGED_MS: i64 = 60_000;
/// Of so many slots, aged cron gets one.
pub const CRON_SHARE: u32 = 16;

/// Who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Somebody sits there and waits.
    User,
    /// A scheduled job.
    Cron,
}

/// A queue that is fair to tenants first and to their sessions second.
#[derive(Debug)]
pub struct FairQueue<T> {
    users: Ring<Ring<VecDeque<T>>>,
    cron: VecDeque<(Timestamp, T)>,
    /// Slots given to users since aged cron last got one.
    since_cron: u32,
    waiting: usize,
}

/// Round robin over named lanes; a lane leaves when it is empty.
#[derive(Debug)]
struct Ring<L> {
    lanes: HashMap<String, L>,
    order: VecDeque<String>,
}

impl<L> Default for Ring<L> {
    fn default() -> Self {
        Self { lanes: HashMap::new(), order: VecDeque::new() }
    }
}

impl<L: Default> Ring<L> {
    fn lane(&mut self, name: &str) -> &mut L {
        if !self.lanes.contains_key(name) {
            self.order.push_back(name.to_owned());
        }
        self.lanes.entry(name.to_owned()).or_default()
    }

    /// Serves the lane whose turn it is; `serve` says what it took and whether the lane is empty.
    fn serve<T>(&mut self, serve: impl FnOnce(&mut L) -> (Option<T>, bool)) -> Option<T> {
        let name = self.order.pop_front()?;
        let (taken, empty) = serve(self.lanes.get_mut(&name)?);
        if empty {
            self.lanes.remove(&name);
        } else {
            self.order.push_back(name);
        }
        taken
    }
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { users: Ring::default(), cron: VecDeque::new(), since_cron: 0, waiting: 0 }
    }
}

impl<T> FairQueue<T> {
    /// How many wait.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.waiting
    }

    /// Whether nobody waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// Joins the queue.
    pub fn push(&mut self, class: Class, tenant: &str, session: &str, item: T, now: Timestamp) {
        self.waiting += 1;
        match class {
            Class::User => self.users.lane(tenant).lane(session).push_back(item),
            Class::Cron => self.cron.push_back((now, item)),
        }
    }

    /// Whose turn it is.
    pub fn pop(&mut self, now: Timestamp) -> Option<T> {
        let aged = self.cron.front().is_some_and(|(since, _)| now - since >= CRON_AGED_MS);
        let cron_due = aged && self.since_cron + 1 >= CRON_SHARE;
        let user = if cron_due { None } else { self.pop_user() };
        let taken = match user {
            Some(item) => {
                self.since_cron = self.since_cron.saturating_add(1);
                Some(item)
            }
            None => {
                self.since_cron = 0;
                self.cron.pop_front().map(|(_, item)| item)
            }
        };
        self.waiting -= usize::from(taken.is_some());
        taken
    }

    fn pop_user(&mut self) -> Option<T> {
        self.users.serve(|tenant| {
            let item = tenant.serve(|session| {
                let item = session.pop_front();
                (item, session.is_empty())
            });
            (item, tenant.order.is_empty())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(queue: &mut FairQueue<&'static str>, now: Timestamp) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.pop(now)).collect()
    }

    #[test]
    fn tenants_first_then_sessions() {
        let mut queue = FairQueue::default();
        for (tenant, session, item) in [
            ("greedy", "one", "g1a"),
            ("greedy", "one", "g1b"),
            ("greedy", "two", "g2a"),
            ("small", "one", "s1a"),
            ("small", "one", "s1b"),
        ] {
            queue.push(Class::User, tenant, session, item, 0);
        }
        assert_eq!(queue.len(), 5);
        assert_eq!(drain(&mut queue, 0), ["g1a", "s1a", "g2a", "s1b", "g1b"]);
        assert!(queue.is_empty());
    }

    #[test]
    fn cron_waits_for_users_but_ages() {
        let mut queue = FairQueue::default();
        queue.push(Class::Cron, "t", "job", "cron", 0);
        for _ in 0..40 {
            queue.push(Class::User, "t", "s", "user", 0);
        }
        let young: Vec<_> = (0..20).filter_map(|_| queue.pop(59_999)).collect();
        assert!(!young.contains(&"cron"));
        assert_eq!(queue.pop(60_000), Some("cron"));
        assert_eq!(drain(&mut queue, 60_000).len(), 20);
    }
}
