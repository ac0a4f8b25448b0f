//! What an agent does with its tools: which acts may be done, and what is remembered of them so that
//! none is done twice.
//!
//! A call is on record before it is made, and its result behind it; that is what lets a retry go on
//! instead of starting over. An act is told from another by its name, within one turn group: the
//! first to ask for a name has it. What began and has no result is unknown, and nobody but the
//! agent's own tool can say what came of it.
//!
//! What can be compensated is taken back by another act, which is named by the call that it undoes:
//! so that happens once, too. Once it is done, the first one counts as undone and may be done anew.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::artifact::Kept;
use crate::hex;
use crate::ids::{Seq, Timestamp, TurnGroupId};
use crate::planted::{Planted, planted};

/// Acts that one session remembers at most. Whoever wants more is refused: what can't be remembered
/// could be done twice.
pub const ACTS_MAX: usize = 256;
/// Calls that one attempt may have under way at once.
pub const CALLS_OPEN_MAX: usize = 16;
/// Calls that one attempt may make, of whatever kind: each stands in the journal.
pub const CALLS_MAX: u32 = 1000;
/// How long an act is remembered after its turn group and that group's dead letters ended.
pub const ACTS_KEPT_MS: i64 = 24 * 3_600_000;

/// What a tool does to the world. What is not known to be harmless is irreversible.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum SideEffects {
    /// None.
    Pure,
    /// Done twice it is done once.
    Idempotent,
    /// Another act takes it back.
    Compensatable,
    /// It stays done.
    #[default]
    Irreversible,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolOutcome {
    /// It was done.
    Done,
    /// It was certainly not done, and may be tried again.
    Failed,
    /// Nobody knows.
    Unknown,
}

/// Why a call may not be made now, whatever is known of its act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Denied {
    /// It was decided that the turn finishes now, without new work.
    Finishing,
    /// The turn was stopped behind its commit point; only what is in flight is waited for.
    Stopping,
    /// The user was asked something and has not answered yet.
    Waiting,
    /// An operator has the session, and waits for the calls under way.
    Paused,
    /// [`CALLS_OPEN_MAX`] calls are under way.
    TooManyCalls,
    /// This attempt made [`CALLS_MAX`] calls.
    TooManyCallsMade,
    /// [`ACTS_MAX`] acts are remembered.
    TooManyActs,
    /// It shall undo a call that nobody made for this turn group.
    NothingToUndo,
    /// It shall undo what can't be compensated: another kind of act, or a compensation.
    NotCompensatable,
    /// It shall undo a call that is under way.
    StillUnderWay,
    /// It shall undo what was certainly not done.
    WasNotDone,
    /// It shall undo something, and is said to do nothing.
    PureUndoesNothing,
    /// [`ARTIFACTS_GROUP_MAX`](crate::artifact::ARTIFACTS_GROUP_MAX) artifacts are kept.
    TooManyArtifacts,
    /// This attempt kept [`KEEPS_MAX`](crate::artifact::KEEPS_MAX) artifacts, or as many bytes as it may.
    KeptTooMuch,
    /// An artifact depends on one that this attempt has neither taken nor made.
    DependencyNotHeld,
}

impl Denied {
    /// In words, for whoever asked.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Finishing => "it was decided that this turn finishes now, without anything new",
            Self::Stopping => "the turn was stopped, and ends after the calls under way",
            Self::Waiting => "the user was asked something and has not answered yet",
            Self::Paused => "an operator took the session over",
            Self::TooManyCalls => "too many calls of this attempt are under way; the limit is 16",
            Self::TooManyCallsMade => "this attempt made too many calls; the limit is 1000",
            Self::TooManyActs => "too many acts of this session are remembered; the limit is 256",
            Self::NothingToUndo => "no call of this number was made for this turn group",
            Self::NotCompensatable => "what that call did can't be compensated",
            Self::StillUnderWay => "the call that it would undo is under way",
            Self::WasNotDone => "the call that it would undo failed: there is nothing to undo",
            Self::PureUndoesNothing => "a pure call undoes nothing",
            Self::TooManyArtifacts => "this turn group keeps 32 artifacts; the limit is 32",
            Self::KeptTooMuch => {
                "this attempt kept too much; the limits are 256 artifacts and 8388608 bytes"
            }
            Self::DependencyNotHeld => {
                "it depends on an artifact that this attempt has neither recalled nor kept"
            }
        }
    }
}

impl ToolOutcome {
    /// The wire name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

/// The name of an act within its turn group: a hash of the tool and its business key, or, without
/// one, of the tool and what it was called with; of what undoes a call, of that call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ActName(#[serde(with = "hex")] pub [u8; 16]);

impl fmt::Display for ActName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::show(&self.0, formatter)
    }
}

impl fmt::Debug for ActName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ActName({self})")
    }
}

/// A call that an agent wants to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    /// Which tool.
    pub tool: Arc<str>,
    /// What it does to the world.
    pub effects: SideEffects,
    /// Which act it is.
    pub name: ActName,
    /// What it is called with.
    pub input: Arc<str>,
    /// The call that it undoes.
    pub compensates: Option<Seq>,
}

/// What is known of an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// Which.
    pub name: ActName,
    /// The journal place of its intent.
    pub call: Seq,
    /// What its tool does to the world.
    pub effects: SideEffects,
    /// What came of it, and the place that says so; none while it is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<(ToolOutcome, Seq)>,
    /// The call that it undoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compensates: Option<Seq>,
    /// The call that has undone it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone_by: Option<Seq>,
}

impl Act {
    /// As far as anybody can say who did not make the call.
    #[must_use]
    pub fn outcome(&self) -> ToolOutcome {
        self.result.map_or(ToolOutcome::Unknown, |(outcome, _)| outcome)
    }

    /// Whether something was done, or may have been, that nobody has undone.
    #[must_use]
    pub fn stands(&self) -> bool {
        let done = self.outcome() != ToolOutcome::Failed;
        done && self.undone_by.is_none() && self.compensates.is_none()
    }

    /// Why another act may not undo it.
    #[must_use]
    pub fn refuses_to_be_undone(&self) -> Option<Denied> {
        if planted(Planted::UndoneUnchecked) {
            None
        } else if self.effects != SideEffects::Compensatable || self.compensates.is_some() {
            Some(Denied::NotCompensatable)
        } else if self.result.is_none() {
            Some(Denied::StillUnderWay)
        } else if self.outcome() == ToolOutcome::Failed {
            Some(Denied::WasNotDone)
        } else {
            None
        }
    }

    /// Whether it may be done, again or for the first time.
    #[must_use]
    pub fn may_be_done(&self) -> bool {
        // Two who undo the same at once would both be done.
        if self.compensates.is_some() && self.result.is_none() {
            return false;
        }
        match self.outcome() {
            ToolOutcome::Done => planted(Planted::ActRepeated),
            ToolOutcome::Failed => true,
            ToolOutcome::Unknown => {
                self.effects <= SideEffects::Idempotent || planted(Planted::UnknownCalledAgain)
            }
        }
    }
}

/// What is remembered of one turn group: its acts, and its artifacts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupActs {
    /// Which.
    pub group: TurnGroupId,
    /// Its dead letters that nobody has taken.
    #[serde(default, skip_serializing_if = "SmallVec::is_empty")]
    pub letters: SmallVec<[Seq; 2]>,
    /// When it was first seen to have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// In the order in which they were first asked for.
    pub acts: Vec<Act>,
    /// In the order in which they were first made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Kept>,
}

impl GroupActs {
    pub(crate) const fn is_empty(&self) -> bool {
        self.acts.is_empty() && self.artifacts.is_empty()
    }
}

/// The acts that a session remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Acts(pub(crate) Vec<GroupActs>);

impl Acts {
    /// There are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|group| group.acts.len()).sum()
    }

    /// Those of a group, in the order in which they were first asked for.
    #[must_use]
    pub fn of(&self, group: TurnGroupId) -> &[Act] {
        self.0.iter().find(|known| known.group == group).map_or(&[], |known| &known.acts)
    }

    /// The act of this name. One that was undone is none.
    #[must_use]
    pub fn find(&self, group: TurnGroupId, name: ActName) -> Option<&Act> {
        self.of(group).iter().find(|act| act.name == name && act.undone_by.is_none())
    }

    /// The call of this number.
    #[must_use]
    pub fn call(&self, group: TurnGroupId, call: Seq) -> Option<&Act> {
        self.of(group).iter().find(|act| act.call == call)
    }

    /// Forgets the groups that ended long ago; `is_open` says of which nothing ended yet.
    pub(crate) fn tidy(&mut self, now: Timestamp, is_open: impl Fn(TurnGroupId) -> bool) {
        for group in &mut self.0 {
            if is_open(group.group) || !group.letters.is_empty() {
                group.ended_at = None;
            } else {
                // A clock that stepped back must not keep it for longer than its time.
                group.ended_at = Some(group.ended_at.map_or(now, |at| at.min(now)));
                group.artifacts.clear();
            }
        }
        let is_kept = |at| now.saturating_sub(at) < ACTS_KEPT_MS;
        self.0.retain(|group| !group.is_empty() && group.ended_at.is_none_or(is_kept));
    }

    /// What is remembered of a group, from nothing at first.
    pub(crate) fn group_mut(&mut self, group: TurnGroupId) -> &mut GroupActs {
        let at = self.0.iter().position(|known| known.group == group).unwrap_or_else(|| {
            let (letters, ended_at) = (SmallVec::new(), None);
            let (acts, artifacts) = (Vec::new(), Vec::new());
            self.0.push(GroupActs { group, letters, ended_at, acts, artifacts });
            self.0.len() - 1
        });
        &mut self.0[at]
    }

    /// An act is under way; it takes the place of an earlier try of the same name.
    pub(crate) fn begin(&mut self, group: TurnGroupId, begun: Act) {
        let acts = &mut self.group_mut(group).acts;
        match acts.iter_mut().find(|act| act.name == begun.name && act.undone_by.is_none()) {
            Some(act) => *act = begun,
            None => acts.push(begun),
        }
    }

    /// A call has its result, if it was an act's.
    pub(crate) fn settle(&mut self, call: Seq, outcome: ToolOutcome, result: Seq) {
        let acts = self.0.iter_mut().find(|group| group.acts.iter().any(|act| act.call == call));
        let Some(acts) = acts.map(|group| &mut group.acts) else { return };
        let Some(act) = acts.iter_mut().find(|act| act.call == call) else { return };
        act.result = Some((outcome, result));
        let undone = act.compensates.filter(|_| outcome == ToolOutcome::Done);
        if let Some(undone) =
            undone.and_then(|undone| acts.iter_mut().find(|act| act.call == undone))
            && !planted(Planted::UndoneForgotten)
        {
            undone.undone_by = Some(call);
        }
    }

    /// A turn of this group became dead letters.
    pub(crate) fn bury(&mut self, group: TurnGroupId, letters: impl Iterator<Item = Seq>) {
        if let Some(known) = self.0.iter_mut().find(|known| known.group == group) {
            known.letters.extend(letters);
        }
    }

    /// The dead letters up to here are gone, so nobody can take them any more.
    pub(crate) fn forget_letters(&mut self, through: Seq) {
        for group in &mut self.0 {
            group.letters.retain(|seq| *seq > through);
        }
    }

    /// A dead letter was taken, to be tried again or for good.
    pub(crate) fn take_letter(&mut self, letter: Seq) {
        for group in &mut self.0 {
            group.letters.retain(|seq| *seq != letter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const NOW: Timestamp = 1_750_000_000_000;
    const NAME: ActName = ActName([7; 16]);

    fn group(number: u128) -> TurnGroupId {
        TurnGroupId(Uuid::from_u128(number))
    }

    fn act(effects: SideEffects, result: Option<(ToolOutcome, Seq)>) -> Act {
        Act { name: NAME, call: Seq(1), effects, result, compensates: None, undone_by: None }
    }

    #[test]
    fn an_act_is_done_again_only_where_that_is_certain_to_do_no_harm() {
        let check = |effects, outcome: Option<ToolOutcome>, may: bool| {
            let act = act(effects, outcome.map(|outcome| (outcome, Seq(2))));
            assert_eq!(act.may_be_done(), may, "{act:?}");
        };
        for effects in [SideEffects::Compensatable, SideEffects::Irreversible] {
            check(effects, None, false);
            check(effects, Some(ToolOutcome::Unknown), false);
            check(effects, Some(ToolOutcome::Done), false);
            check(effects, Some(ToolOutcome::Failed), true);
        }
        check(SideEffects::Idempotent, None, true);
        check(SideEffects::Idempotent, Some(ToolOutcome::Unknown), true);
        check(SideEffects::Idempotent, Some(ToolOutcome::Done), false);
    }

    #[test]
    fn only_what_can_be_compensated_and_may_have_been_done_is_undone() {
        let check = |effects, outcome: Option<ToolOutcome>, denied: Option<Denied>| {
            let act = act(effects, outcome.map(|outcome| (outcome, Seq(2))));
            assert_eq!(act.refuses_to_be_undone(), denied, "{act:?}");
        };
        check(SideEffects::Compensatable, Some(ToolOutcome::Done), None);
        check(SideEffects::Compensatable, Some(ToolOutcome::Unknown), None);
        check(SideEffects::Compensatable, Some(ToolOutcome::Failed), Some(Denied::WasNotDone));
        check(SideEffects::Compensatable, None, Some(Denied::StillUnderWay));
        for effects in [SideEffects::Idempotent, SideEffects::Irreversible] {
            check(effects, Some(ToolOutcome::Done), Some(Denied::NotCompensatable));
        }
    }

    #[test]
    fn an_act_that_was_undone_is_none_and_may_be_done_anew() {
        let mut acts = Acts::default();
        let done = Some((ToolOutcome::Done, Seq(2)));
        acts.begin(group(1), act(SideEffects::Compensatable, done));
        let undo = Act {
            name: ActName([8; 16]),
            call: Seq(3),
            compensates: Some(Seq(1)),
            ..act(SideEffects::Idempotent, None)
        };
        acts.begin(group(1), undo);
        // Under way it may not be made twice, though a twin would do no harm.
        assert!(!undo.may_be_done());
        acts.settle(Seq(3), ToolOutcome::Unknown, Seq(4));
        assert_eq!(acts.find(group(1), NAME).map(|act| act.call), Some(Seq(1)));
        acts.begin(group(1), Act { call: Seq(5), ..undo });
        acts.settle(Seq(5), ToolOutcome::Done, Seq(6));
        assert_eq!(acts.find(group(1), NAME), None);
        acts.begin(group(1), Act { call: Seq(7), ..act(SideEffects::Compensatable, None) });
        let told: Vec<_> =
            acts.of(group(1)).iter().map(|act| (act.call.0, act.undone_by, act.stands())).collect();
        assert_eq!(told, [(1, Some(Seq(5)), false), (5, None, false), (7, None, true)]);
    }

    #[test]
    fn acts_are_kept_for_a_day_after_their_group_and_its_letters_ended() {
        let mut acts = Acts::default();
        acts.begin(group(1), act(SideEffects::Irreversible, None));
        acts.bury(group(1), [Seq(4), Seq(5)].into_iter());
        acts.tidy(NOW, |_| false);
        acts.take_letter(Seq(4));
        acts.tidy(NOW + 9 * ACTS_KEPT_MS, |_| false);
        assert_eq!(acts.len(), 1, "a letter is still there");
        acts.take_letter(Seq(5));
        acts.tidy(NOW + 9 * ACTS_KEPT_MS, |open| open == group(1));
        acts.tidy(NOW + 20 * ACTS_KEPT_MS, |_| false);
        acts.tidy(NOW + 21 * ACTS_KEPT_MS - 1, |_| false);
        assert_eq!(acts.len(), 1, "a day has not passed since its end was seen");
        acts.tidy(NOW + 21 * ACTS_KEPT_MS, |_| false);
        assert!(acts.is_empty());
    }

    #[test]
    fn a_clock_that_stepped_back_keeps_nothing_for_longer() {
        let mut acts = Acts::default();
        acts.begin(group(1), act(SideEffects::Irreversible, None));
        acts.tidy(NOW, |_| false);
        acts.tidy(NOW - 9 * ACTS_KEPT_MS, |_| false);
        acts.tidy(NOW - 8 * ACTS_KEPT_MS, |_| false);
        assert!(acts.is_empty());
    }

    #[test]
    fn whoever_is_denied_is_told_the_limit_that_holds() {
        for (denied, limit) in [
            (Denied::TooManyCalls, CALLS_OPEN_MAX),
            (Denied::TooManyActs, ACTS_MAX),
            (Denied::TooManyCallsMade, CALLS_MAX as usize),
        ] {
            assert!(denied.as_str().ends_with(&format!("the limit is {limit}")), "{denied:?}");
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        let text = serde_json::to_string(&NAME).unwrap();
        assert_eq!(text, "\"07070707070707070707070707070707\"");
        assert_eq!(serde_json::from_str::<ActName>(&text).unwrap(), NAME);
        for wrong in [
            "\"07\"",
            "\"zz070707070707070707070707070707\"",
            "\"é7070707070707070707070707070707\"",
        ] {
            assert!(serde_json::from_str::<ActName>(wrong).is_err(), "{wrong}");
        }
    }
}
