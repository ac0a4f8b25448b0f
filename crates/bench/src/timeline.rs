//! What the picture is drawn from: the bars and dots of some users, for the first seconds.
//! Bounded, however long the run and however many its users.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::answer::Outcome;

/// As many lanes as a picture can show.
pub(crate) const LANES_MAX: usize = 40;

/// Nothing that begins later is recorded.
pub(crate) const RECORDED_MAX: Duration = Duration::from_secs(20);

/// Bars, and dots, that one lane may hold.
const MARKS_MAX: usize = 1_000;

/// How a bar ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BarKind {
    /// Answered.
    Complete,
    /// The turn failed.
    Failed,
    /// The turn was stopped.
    Cancelled,
    /// Not over when its user was last seen.
    CutOff,
}

impl From<Outcome> for BarKind {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Complete => Self::Complete,
            Outcome::Failed => Self::Failed,
            Outcome::Cancelled => Self::Cancelled,
            Outcome::Unanswered => Self::CutOff,
        }
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DotKind {
    /// Accepted.
    Accepted,
    /// Refused.
    Refused,
    /// Its connection broke.
    Failed,
}

/// From the first message of a burst to its answer.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    /// Since the run began.
    pub(crate) times: Range<Duration>,
    /// How much of it was to be expected.
    pub(crate) expected: Duration,
    pub(crate) kind: BarKind,
}

/// A message, at the time of its sending.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dot {
    pub(crate) at: Duration,
    pub(crate) kind: DotKind,
}

/// One user's marks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lane {
    pub(crate) user: usize,
    pub(crate) bars: Vec<Bar>,
    pub(crate) dots: Vec<Dot>,
    /// Later marks were left out from here on, because the lane was full.
    pub(crate) full_from: Option<Duration>,
}

/// The lanes of the users that are drawn, evenly spread over all users.
#[derive(Debug)]
pub(crate) struct Timeline {
    stride: usize,
    dot_gap: Duration,
    lanes: Vec<Mutex<Lane>>,
}

impl Timeline {
    /// Empty lanes for (some of) so many users.
    pub(crate) fn new(users: usize) -> Self {
        let stride = users.div_ceil(LANES_MAX).max(1);
        let lane = |user| Mutex::new(Lane { user, ..Lane::default() });
        let lanes = (0..users).step_by(stride).map(lane).collect();
        Self { stride, dot_gap: Duration::ZERO, lanes }
    }

    /// One lane for a flood: dots of one kind keep so much distance that the lane has room
    /// for the whole time.
    pub(crate) fn for_flood() -> Self {
        let dot_gap = RECORDED_MAX / (MARKS_MAX as u32 / 2);
        Self { dot_gap, ..Self::new(1) }
    }

    /// Records a turn.
    pub(crate) fn bar(
        &self,
        user: usize,
        times: Range<Duration>,
        expected: Duration,
        kind: BarKind,
    ) {
        self.record(user, times.start, |lane| {
            let has_room = lane.bars.len() < MARKS_MAX;
            if has_room {
                lane.bars.push(Bar { times, expected, kind });
            }
            has_room
        });
    }

    /// Records a message.
    pub(crate) fn dot(&self, user: usize, at: Duration, kind: DotKind) {
        self.record(user, at, |lane| {
            let mut recent = lane.dots.iter().rev().take_while(|dot| at < dot.at + self.dot_gap);
            if recent.any(|dot| dot.kind == kind) {
                return true;
            }
            let has_room = lane.dots.len() < MARKS_MAX;
            if has_room {
                lane.dots.push(Dot { at, kind });
            }
            has_room
        });
    }

    fn record(&self, user: usize, at: Duration, push: impl FnOnce(&mut Lane) -> bool) {
        if !user.is_multiple_of(self.stride) || at > RECORDED_MAX {
            return;
        }
        let Some(lane) = self.lanes.get(user / self.stride) else { return };
        let mut lane = lane.lock().unwrap_or_else(PoisonError::into_inner);
        if !push(&mut lane) {
            lane.full_from.get_or_insert(at);
        }
    }

    /// A copy of all lanes, in order of their users.
    pub(crate) fn lanes(&self) -> Vec<Lane> {
        let copy = |lane: &Mutex<Lane>| lane.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.lanes.iter().map(copy).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_lanes(users: usize, expect: &[usize]) {
        let timeline = Timeline::new(users);
        for user in 0..users {
            timeline.dot(user, Duration::ZERO, DotKind::Accepted);
        }
        let lanes = timeline.lanes();
        assert!(lanes.len() <= LANES_MAX && lanes.iter().all(|lane| lane.dots.len() == 1));
        let drawn: Vec<_> = lanes.iter().map(|lane| lane.user).take(expect.len()).collect();
        assert_eq!(drawn, expect);
    }

    #[test]
    fn drawn_users_are_spread_over_all() {
        check_lanes(1, &[0]);
        check_lanes(40, &[0, 1, 2]);
        check_lanes(41, &[0, 2, 4]);
        check_lanes(1000, &[0, 25, 50]);
    }

    #[test]
    fn a_floods_dots_last_for_the_whole_time() {
        let timeline = Timeline::for_flood();
        for ms in 0..20_000 {
            let kind = if ms % 5 == 0 { DotKind::Accepted } else { DotKind::Refused };
            timeline.dot(0, Duration::from_millis(ms), kind);
        }
        let lane = &timeline.lanes()[0];
        assert_eq!((lane.dots.len(), lane.full_from), (1000, None));
    }

    #[test]
    fn a_lane_is_bounded_in_marks_and_time() {
        let timeline = Timeline::new(1);
        timeline.dot(0, RECORDED_MAX + Duration::from_millis(1), DotKind::Accepted);
        for _ in 0..=MARKS_MAX {
            timeline.dot(0, Duration::from_secs(1), DotKind::Accepted);
        }
        let lane = &timeline.lanes()[0];
        assert_eq!(lane.dots.len(), MARKS_MAX);
        assert_eq!(lane.full_from, Some(Duration::from_secs(1)));
    }
}
