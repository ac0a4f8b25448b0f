//! What an agent does with its tools: which acts may be done, and what is remembered of them so that
//! none is done twice.
//!
//! A call is on record before it is made, and its result behind it; that is what lets a retry go on
//! instead of starting over. An act is told from another by its name, within one turn group: the
//! first to ask for a name has it. What began and has no result is unknown, and nobody but the
//! agent's own tool can say what came of it.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;

use crate::ids::{Seq, Timestamp, TurnGroupId};
use crate::planted::{Planted, planted};

/// Acts that one session remembers at most. Whoever wants more is refused: what can't be remembered
/// could be done twice.
pub const ACTS_MAX: usize = 256;
/// Calls that one attempt may have under way at once.
pub const CALLS_OPEN_MAX: usize = 16;
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
    /// The turn was stopped behind its commit point; only what is in flight is waited for.
    Stopping,
    /// The user was asked something and has not answered yet.
    Waiting,
    /// [`CALLS_OPEN_MAX`] calls are under way.
    TooManyCalls,
    /// [`ACTS_MAX`] acts are remembered.
    TooManyActs,
}

impl Denied {
    /// In words, for whoever asked.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stopping => "the turn was stopped, and ends after the calls under way",
            Self::Waiting => "the user was asked something and has not answered yet",
            Self::TooManyCalls => "too many calls of this attempt are under way; the limit is 16",
            Self::TooManyActs => "too many acts of this session are remembered; the limit is 256",
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
/// one, of the tool and what it was called with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActName(pub [u8; 16]);

impl fmt::Display for ActName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for ActName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ActName({self})")
    }
}

impl Serialize for ActName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ActName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || serde::de::Error::custom("the name of an act is 32 hexadecimal digits");
        if text.len() != 32 || !text.is_ascii() {
            return Err(wrong());
        }
        let mut name = [0; 16];
        for (at, byte) in name.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(name))
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
}

impl Act {
    /// As far as anybody can say who did not make the call.
    #[must_use]
    pub fn outcome(&self) -> ToolOutcome {
        self.result.map_or(ToolOutcome::Unknown, |(outcome, _)| outcome)
    }

    /// Whether it may be done, again or for the first time.
    #[must_use]
    pub fn may_be_done(&self) -> bool {
        match self.outcome() {
            ToolOutcome::Done => planted(Planted::ActRepeated),
            ToolOutcome::Failed => true,
            ToolOutcome::Unknown => {
                self.effects <= SideEffects::Idempotent || planted(Planted::UnknownCalledAgain)
            }
        }
    }
}

/// The acts of one turn group.
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
}

/// The acts that a session remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Acts(Vec<GroupActs>);

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

    /// The act of this name.
    #[must_use]
    pub fn find(&self, group: TurnGroupId, name: ActName) -> Option<&Act> {
        self.of(group).iter().find(|act| act.name == name)
    }

    /// Forgets the groups that ended long ago; `is_open` says of which nothing ended yet.
    pub(crate) fn tidy(&mut self, now: Timestamp, is_open: impl Fn(TurnGroupId) -> bool) {
        for group in &mut self.0 {
            if is_open(group.group) || !group.letters.is_empty() {
                group.ended_at = None;
            } else {
                // A clock that stepped back must not keep it for longer than its time.
                group.ended_at = Some(group.ended_at.map_or(now, |at| at.min(now)));
            }
        }
        self.0
            .retain(|group| group.ended_at.is_none_or(|at| now.saturating_sub(at) < ACTS_KEPT_MS));
    }

    /// An act is under way; it takes the place of an earlier try of the same name.
    pub(crate) fn begin(&mut self, group: TurnGroupId, begun: Act) {
        let at = self.0.iter().position(|known| known.group == group).unwrap_or_else(|| {
            let letters = SmallVec::new();
            self.0.push(GroupActs { group, letters, ended_at: None, acts: Vec::new() });
            self.0.len() - 1
        });
        let acts = &mut self.0[at].acts;
        match acts.iter_mut().find(|act| act.name == begun.name) {
            Some(act) => *act = begun,
            None => acts.push(begun),
        }
    }

    /// A call has its result, if it was an act's.
    pub(crate) fn settle(&mut self, call: Seq, outcome: ToolOutcome, result: Seq) {
        let mut acts = self.0.iter_mut().flat_map(|group| &mut group.acts);
        if let Some(act) = acts.find(|act| act.call == call) {
            act.result = Some((outcome, result));
        }
    }

    /// A turn of this group became dead letters.
    pub(crate) fn bury(&mut self, group: TurnGroupId, letters: impl Iterator<Item = Seq>) {
        if let Some(known) = self.0.iter_mut().find(|known| known.group == group) {
            known.letters.extend(letters);
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
        Act { name: NAME, call: Seq(1), effects, result }
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
        for (denied, limit) in
            [(Denied::TooManyCalls, CALLS_OPEN_MAX), (Denied::TooManyActs, ACTS_MAX)]
        {
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
