//! What follows from abuse, for how long, and what a second time changes.

use serde::{Deserialize, Serialize};

use super::abuse::AbuseKind;
use super::gcra::Rate;
use crate::ids::Timestamp;

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// It is logged and counted, and the message passes.
    Monitor,
    /// The message is refused, and for a day only a few a minute are let in.
    Restrict,
    /// The message is refused, and everything for a day.
    Block,
    /// The message is refused, and everything until a person lifts it.
    Permanent,
}

/// How fast somebody restricted may still write.
pub const RESTRICTED: Rate = Rate::new(10, 10);

/// How long a restriction or a block lasts: a day.
pub const LASTS_MS: i64 = 24 * 3_600_000;

/// For so long after its beginning a restriction is held against whoever is found again: a week.
pub const REMEMBERED_MS: i64 = 7 * LASTS_MS;

impl Severity {
    /// Every severity, the mildest first.
    pub const ALL: [Self; 4] = [Self::Monitor, Self::Restrict, Self::Block, Self::Permanent];

    /// The wire name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Monitor => "monitor",
            Self::Restrict => "restrict",
            Self::Block => "block",
            Self::Permanent => "permanent",
        }
    }

    /// The severity of this wire name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == name)
    }

    /// When it ends if it begins now; none if only a person ends it.
    #[must_use]
    pub const fn until(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Permanent => None,
            Self::Monitor | Self::Restrict | Self::Block => Some(now.saturating_add(LASTS_MS)),
        }
    }
}

/// A restriction as it is held against its customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What follows.
    pub severity: Severity,
    /// From what.
    pub kind: AbuseKind,
    /// When it began.
    pub since: Timestamp,
    /// When it ends; none if only a person ends it.
    pub until: Option<Timestamp>,
    /// How long it was meant to last; a clock that stepped back doesn't make it longer.
    pub lasts_ms: i64,
}

impl Standing {
    /// One that began at `since` and ends at `until`.
    #[must_use]
    pub fn new(
        severity: Severity,
        kind: AbuseKind,
        since: Timestamp,
        until: Option<Timestamp>,
    ) -> Self {
        let lasts_ms = until.map_or(0, |until| until.saturating_sub(since).max(0));
        Self { severity, kind, since, until, lasts_ms }
    }

    /// Whether it counts now. Where the clock stepped back before its beginning, it begins anew, so
    /// that nobody waits for longer than it was meant to last.
    pub fn is_in_force(&mut self, now: Timestamp) -> bool {
        if now < self.since {
            self.since = now;
            self.until = self.until.map(|_| now.saturating_add(self.lasts_ms));
        }
        self.until.is_none_or(|until| now < until)
    }

    /// Whether it is still worth remembering: in force, or held against a second time.
    pub fn is_remembered(&mut self, now: Timestamp) -> bool {
        self.is_in_force(now) || now.saturating_sub(self.since) < REMEMBERED_MS
    }
}

/// What is found within a minute of the beginning belongs to the same incident.
pub const INCIDENT_MS: i64 = 60_000;

/// What newly follows from a finding of `found`, for somebody who was found `before`; none if what
/// is in force covers it. A second restriction within a week is a block. Monitoring never becomes
/// anything else, and nothing becomes permanent by itself: that takes a rule that says so, or a
/// person.
#[must_use]
pub fn follows(found: Severity, before: Option<&mut Standing>, now: Timestamp) -> Option<Severity> {
    let Some(before) = before else { return Some(found) };
    let in_force = before.is_in_force(now);
    if in_force && before.severity >= found && now.saturating_sub(before.since) < INCIDENT_MS {
        return None;
    }
    let again = before.severity >= Severity::Restrict && before.is_remembered(now);
    Some(if again && found == Severity::Restrict { Severity::Block } else { found })
}

#[cfg(test)]
mod tests {
    use super::Severity::{Block, Monitor, Permanent, Restrict};
    use super::*;

    const NOW: i64 = 1_750_000_000_000;
    const HOUR: i64 = 3_600_000;

    fn standing(severity: Severity, since: i64) -> Standing {
        Standing::new(severity, AbuseKind::Flooding, since, severity.until(since))
    }

    #[test]
    fn a_day_or_until_somebody_lifts_it() {
        let check = |severity, after_hours: i64, expect: bool| {
            let in_force = standing(severity, NOW).is_in_force(NOW + after_hours * HOUR);
            assert_eq!(in_force, expect, "{severity:?} after {after_hours} h");
        };
        check(Restrict, 0, true);
        check(Restrict, 23, true);
        check(Restrict, 24, false);
        check(Block, 23, true);
        check(Block, 24, false);
        check(Permanent, 24 * 3650, true);
    }

    #[test]
    fn a_clock_that_steps_back_makes_it_no_longer() {
        let mut standing = standing(Block, NOW);
        let back = NOW - 365 * 24 * HOUR;
        assert!(standing.is_in_force(back));
        assert!(standing.is_in_force(back + 23 * HOUR));
        assert!(!standing.is_in_force(back + 24 * HOUR));
    }

    #[test]
    fn a_second_time_within_a_week_is_worse() {
        let check = |found, before: Option<(Severity, i64)>, expect| {
            let mut before = before.map(|(severity, ago)| standing(severity, NOW - ago));
            let case = format!("{found:?} after {before:?}");
            assert_eq!(follows(found, before.as_mut(), NOW), expect, "{case}");
        };
        check(Restrict, None, Some(Restrict));
        check(Restrict, Some((Restrict, 59_999)), None);
        check(Restrict, Some((Restrict, 60_000)), Some(Block));
        check(Restrict, Some((Restrict, 7 * 24 * HOUR - 1)), Some(Block));
        check(Restrict, Some((Restrict, 7 * 24 * HOUR)), Some(Restrict));
        check(Restrict, Some((Block, 48 * HOUR)), Some(Block));
        check(Block, Some((Restrict, 0)), Some(Block));
        check(Block, Some((Block, 0)), None);
        check(Block, Some((Block, 48 * HOUR)), Some(Block));
        check(Monitor, None, Some(Monitor));
        check(Monitor, Some((Block, 48 * HOUR)), Some(Monitor));
        check(Permanent, Some((Restrict, 0)), Some(Permanent));
    }

    #[test]
    fn names_are_found_again() {
        for severity in Severity::ALL {
            assert_eq!(Severity::named(severity.as_str()), Some(severity));
        }
        assert_eq!(Severity::named("Block"), None);
    }
}
