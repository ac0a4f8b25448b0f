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

/// How fast somebody restricted may still write: one every six seconds, so that no minute has more
/// than ten. (Of eleven, the last comes a whole minute after the first.)
pub const RESTRICTED: Rate = Rate::new(10, 1);

/// The rate of somebody restricted: neither faster nor more at once than either allows.
#[must_use]
pub fn tighter(rate: Rate) -> Rate {
    if rate.is_unlimited() {
        return RESTRICTED;
    }
    let per_minute = rate.per_minute.min(RESTRICTED.per_minute);
    Rate::new(per_minute, rate.burst.min(RESTRICTED.burst))
}

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

    /// What it becomes a second time.
    const fn again(self) -> Self {
        match self {
            Self::Restrict => Self::Block,
            other => other,
        }
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
/// person. What is in force gets neither milder nor shorter by it, whoever made it.
#[must_use]
pub fn follows(
    found: Severity,
    kind: AbuseKind,
    before: Option<&mut Standing>,
    now: Timestamp,
) -> Option<Standing> {
    let Some(before) = before else {
        return Some(Standing::new(found, kind, now, found.until(now)));
    };
    let in_force = before.is_in_force(now);
    if in_force && before.severity >= found && now.saturating_sub(before.since) < INCIDENT_MS {
        return None;
    }
    let again = before.severity >= Severity::Restrict && before.is_remembered(now);
    let mut severity = if again { found.again() } else { found };
    let mut until = severity.until(now);
    if in_force {
        severity = severity.max(before.severity);
        until = later(until, before.until);
        if (severity, until) == (before.severity, before.until) {
            return None;
        }
    }
    Some(Standing::new(severity, kind, now, until))
}

/// Of two ends the later one; what has none ends after everything.
fn later(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    Some(one?.max(other?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Severity::{Block, Monitor, Permanent, Restrict};
    use super::*;
    use crate::guard::Bucket;

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
            let follows = follows(found, AbuseKind::Term, before.as_mut(), NOW);
            assert_eq!(follows.map(|standing| standing.severity), expect, "{case}");
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
    fn a_finding_takes_nothing_from_what_is_in_force() {
        let check = |found, before: (Severity, Option<i64>), expect: Option<(Severity, i64)>| {
            let (severity, hours) = before;
            let until = hours.map(|hours| NOW + hours * HOUR);
            let mut before = Standing::new(severity, AbuseKind::Manual, NOW - HOUR, until);
            let follows = follows(found, AbuseKind::Term, Some(&mut before), NOW);
            let follows = follows.map(|standing| (standing.severity, standing.until));
            let expect = expect.map(|(severity, hours)| (severity, Some(NOW + hours * HOUR)));
            assert_eq!(follows, expect, "{found:?} after {before:?}");
        };
        check(Restrict, (Restrict, Some(719)), Some((Block, 719)));
        check(Block, (Restrict, Some(719)), Some((Block, 719)));
        check(Restrict, (Restrict, Some(1)), Some((Block, 24)));
        check(Restrict, (Block, Some(719)), None);
        check(Block, (Block, Some(1)), Some((Block, 24)));
        check(Restrict, (Permanent, None), None);
        check(Monitor, (Block, Some(719)), None);
        // What a person made permanently, but mild, becomes no block that ends.
        let mut mild = Standing::new(Restrict, AbuseKind::Manual, NOW - HOUR, None);
        let follows = follows(Restrict, AbuseKind::Term, Some(&mut mild), NOW).unwrap();
        assert_eq!((follows.severity, follows.until), (Block, None));
    }

    #[test]
    fn restricted_is_never_faster_than_the_rate_nor_than_ten_a_minute() {
        let check = |rate: (u32, u32), expect: (u32, u32)| {
            let expect = Rate::new(expect.0, expect.1);
            assert_eq!(tighter(Rate::new(rate.0, rate.1)), expect, "{rate:?}");
        };
        check((0, 0), (10, 1));
        check((120, 240), (10, 1));
        check((6, 240), (6, 1));
        check((6, 0), (6, 0));
        let mut bucket = Bucket::default();
        let passed: Vec<i64> =
            (0..600_000).filter(|at| bucket.take(RESTRICTED, NOW + at).is_ok()).collect();
        for from in &passed {
            let in_a_minute = passed.iter().filter(|at| (0..60_000).contains(&(*at - from)));
            assert!(in_a_minute.count() <= 10, "{passed:?}");
        }
        assert_eq!(passed.len(), 100);
    }

    proptest! {
        /// Whatever is found, whenever: what is in force gets neither milder nor shorter.
        #[test]
        fn nothing_in_force_gets_weaker_or_shorter(
            by_hand in prop::option::of((1_usize..4, prop::option::of(1_i64..1000))),
            found in prop::collection::vec((0_usize..4, 0_i64..40 * HOUR), 1..30),
        ) {
            let mut now = NOW;
            let mut standing = by_hand.map(|(severity, hours)| {
                let until = hours.map(|hours| now + hours * HOUR);
                Standing::new(Severity::ALL[severity], AbuseKind::Manual, now, until)
            });
            for (severity, after) in found {
                now += after;
                let severity = Severity::ALL[severity];
                let before = standing.filter(|standing| standing.until.is_none_or(|until| now < until));
                if let Some(next) = follows(severity, AbuseKind::Term, standing.as_mut(), now) {
                    standing = Some(next);
                }
                let (Some(before), Some(after)) = (before, standing) else { continue };
                prop_assert!(after.severity >= before.severity, "{before:?} {after:?}");
                let end = |standing: Standing| standing.until.unwrap_or(i64::MAX);
                prop_assert!(end(after) >= end(before), "{before:?} {after:?}");
            }
        }
    }

    #[test]
    fn names_are_found_again() {
        for severity in Severity::ALL {
            assert_eq!(Severity::named(severity.as_str()), Some(severity));
        }
        assert_eq!(Severity::named("Block"), None);
    }
}
