//! Budgets: how much may be used, by whom and within which time, and what follows when it is used up.

use std::sync::Arc;

use serde::Serialize;

use crate::ids::Timestamp;
use crate::usage::{Day, Sums};

/// Whose use is counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// One conversation.
    Session,
    /// One customer of a tenant, in all their conversations.
    Customer,
    /// Everybody of a tenant.
    Tenant,
}

impl Scope {
    /// All of them, the narrowest first.
    pub const ALL: [Self; 3] = [Self::Session, Self::Customer, Self::Tenant];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Customer => "customer",
            Self::Tenant => "tenant",
        }
    }
}

/// Over which time: a day or a month of the calendar, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// From midnight to midnight.
    Day,
    /// From the first to the last.
    Month,
}

impl Window {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Day, Self::Month];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    /// When the one that holds this day is over.
    #[must_use]
    pub fn end(self, day: Day) -> Timestamp {
        match self {
            Self::Day => day.plus(1).start(),
            Self::Month => day.month().1.start(),
        }
    }
}

/// How much; 0 is without limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// Tokens of all kinds.
    pub tokens: u64,
    /// Millionths of the currency.
    pub cost_micros: u64,
}

impl Limit {
    /// Whether there is none.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.tokens == 0 && self.cost_micros == 0
    }

    /// Whether this much uses it up, so many times.
    #[must_use]
    pub fn is_used_up(self, sums: &Sums, times: u64) -> bool {
        let over = |used: u64, limit: u64| limit > 0 && used >= limit.saturating_mul(times);
        over(sums.tokens(), self.tokens) || over(sums.cost_micros, self.cost_micros)
    }
}

/// What follows when a budget is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExceeded {
    /// Messages are refused until the window is over.
    #[default]
    Refuse,
    /// Another agent answers until then.
    Degrade,
}

/// Everything that is limited for a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Budgets {
    /// For one turn, all its attempts together.
    pub turn: Limit,
    /// By scope and window, in the order of [`Scope::ALL`] and [`Window::ALL`].
    pub limits: [[Limit; 2]; 3],
    /// What follows.
    pub on_exceeded: OnExceeded,
    /// Who answers then.
    pub degrade_to: Option<Arc<str>>,
    /// What the user is told when messages are refused; nothing if it is empty.
    pub refused_text: Arc<str>,
    /// What the user is told when another agent answers; nothing if it is empty.
    pub degraded_text: Arc<str>,
}

/// A budget that is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Whose.
    pub scope: Scope,
    /// Which.
    pub window: Window,
}

impl Budgets {
    /// Whether anything is limited.
    #[must_use]
    pub fn limits_anything(&self) -> bool {
        !self.turn.is_none() || Scope::ALL.into_iter().any(|scope| self.watches(scope))
    }

    /// Whether this scope is limited.
    #[must_use]
    pub fn watches(&self, scope: Scope) -> bool {
        self.limits[scope as usize].iter().any(|limit| !limit.is_none())
    }

    /// The budget of this scope that is used up, if one is; of two the one that lasts longer.
    #[must_use]
    pub fn exceeded(&self, scope: Scope, day: &Sums, month: &Sums) -> Option<Exceeded> {
        let used = [(Window::Month, month), (Window::Day, day)];
        let over = |(window, sums): &(Window, &Sums)| {
            self.limits[scope as usize][*window as usize].is_used_up(sums, 1)
        };
        used.into_iter().find(over).map(|(window, _)| Exceeded { scope, window })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_used_up_when_it_is_reached() {
        let sums =
            |tokens, cost_micros| Sums { output_tokens: tokens, cost_micros, ..Sums::default() };
        let check = |limit: (u64, u64), used: Sums, times, expect| {
            let limit = Limit { tokens: limit.0, cost_micros: limit.1 };
            assert_eq!(limit.is_used_up(&used, times), expect, "{limit:?} {used:?} {times}");
        };
        check((0, 0), sums(u64::MAX, u64::MAX), 1, false);
        check((10, 0), sums(9, 100), 1, false);
        check((10, 0), sums(10, 0), 1, true);
        check((10, 0), sums(10, 0), 2, false);
        check((0, 10), sums(100, 10), 1, true);
        check((u64::MAX, 0), sums(u64::MAX, 0), 2, true);
    }

    #[test]
    fn the_longer_window_is_named() {
        let mut budgets = Budgets::default();
        assert!(!budgets.limits_anything());
        let used = Sums { input_tokens: 10, ..Sums::default() };
        budgets.limits[Scope::Customer as usize][Window::Day as usize].tokens = 10;
        let day = Exceeded { scope: Scope::Customer, window: Window::Day };
        assert_eq!(budgets.exceeded(Scope::Customer, &used, &used), Some(day));
        assert_eq!(budgets.exceeded(Scope::Customer, &Sums::default(), &used), None);
        assert_eq!(budgets.exceeded(Scope::Tenant, &used, &used), None);
        budgets.limits[Scope::Customer as usize][Window::Month as usize].tokens = 5;
        let month = Exceeded { window: Window::Month, ..day };
        assert_eq!(budgets.exceeded(Scope::Customer, &used, &used), Some(month));
        assert!(budgets.watches(Scope::Customer) && !budgets.watches(Scope::Session));
    }

    #[test]
    fn windows_end_with_the_calendar() {
        let day: Day = "2026-12-31".parse().unwrap();
        let next: Day = "2027-01-01".parse().unwrap();
        assert_eq!((Window::Day.end(day), Window::Month.end(day)), (next.start(), next.start()));
    }
}
