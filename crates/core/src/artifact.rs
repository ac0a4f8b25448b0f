//! What an agent made on its way to an answer: kept, so that an attempt that starts over takes what
//! still holds instead of making it again.
//!
//! An artifact is told from others by its name within the turn group. It holds for an attempt that
//! would make it from the same inputs, and for which everything that it was made from holds as it was
//! then. What it depends on is therefore asked for first. Fingerprints are hashes that the shell
//! makes; the contents stand in the journal only.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::hex;
use crate::ids::{Seq, TurnGroupId};
use crate::planted::{Planted, planted};
use crate::tool::Acts;

/// Artifacts that one turn group may keep.
pub const ARTIFACTS_GROUP_MAX: usize = 32;
/// Artifacts that a session remembers; of more, those of the oldest other group are forgotten.
pub const ARTIFACTS_MAX: usize = 128;
/// Artifacts that one attempt may keep, the same one again included: each stands in the journal.
pub const KEEPS_MAX: u32 = 256;
/// The bytes of what one attempt may keep.
pub const KEPT_BYTES_MAX: u32 = 8 << 20;
/// Others that one artifact may depend on.
pub const DEPENDS_MAX: usize = 8;

/// The name of an artifact within its turn group, as a hash: names may say something of a customer,
/// and a session's state outlives its texts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ArtifactName(#[serde(with = "hex")] pub [u8; 16]);

/// What something was made from, or what it is: equal where that is equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(#[serde(with = "hex")] pub [u8; 16]);

impl fmt::Debug for ArtifactName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::show(&self.0, formatter)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::show(&self.0, formatter)
    }
}

/// An artifact that an agent wants kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewArtifact {
    /// Which.
    pub name: ArtifactName,
    /// What the agent calls it.
    pub title: Arc<str>,
    /// What it was made from, other artifacts apart.
    pub inputs: Fingerprint,
    /// The artifacts that it was made from.
    pub depends: SmallVec<[ArtifactName; 2]>,
    /// What it is.
    pub fingerprint: Fingerprint,
    /// The same in full.
    pub content: Arc<str>,
}

/// An artifact that another one was made from, as it was then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// Which.
    pub artifact: ArtifactName,
    /// What it was.
    pub fingerprint: Fingerprint,
}

/// What another artifact was made from.
pub type Dependencies = SmallVec<[Dependency; 1]>;

/// An artifact that is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Which.
    pub name: ArtifactName,
    /// The journal place that has its content.
    pub at: Seq,
    /// What it was made from, other artifacts apart.
    pub inputs: Fingerprint,
    /// What it is.
    pub fingerprint: Fingerprint,
    /// The artifacts that it was made from.
    #[serde(default, skip_serializing_if = "SmallVec::is_empty")]
    pub depends: Dependencies,
}

/// Why there is no artifact to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// There is none of this name.
    Missing,
    /// It was made from other inputs.
    InputsChanged,
    /// It was made from an artifact that is another one now, or that this attempt has neither taken
    /// nor made.
    DependencyChanged,
}

impl Stale {
    /// The wire name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::InputsChanged => "inputs_changed",
            Self::DependencyChanged => "dependency_changed",
        }
    }
}

impl Acts {
    /// The artifacts of a group.
    #[must_use]
    pub fn artifacts(&self, group: TurnGroupId) -> &[Kept] {
        self.0.iter().find(|known| known.group == group).map_or(&[], |known| &known.artifacts)
    }

    /// The artifact of this name.
    #[must_use]
    pub fn artifact(&self, group: TurnGroupId, name: ArtifactName) -> Option<&Kept> {
        self.artifacts(group).iter().find(|kept| kept.name == name)
    }

    /// The artifact of this name, if it holds for an attempt that would make it from these inputs,
    /// and that has taken or made the artifacts `held` so far.
    pub(crate) fn recall(
        &self,
        group: TurnGroupId,
        held: &[ArtifactName],
        (name, inputs): (ArtifactName, Fingerprint),
    ) -> Result<&Kept, Stale> {
        let kept = self.artifact(group, name).ok_or(Stale::Missing)?;
        if kept.inputs != inputs && !planted(Planted::InputsIgnored) {
            return Err(Stale::InputsChanged);
        }
        let stands = |on: &Dependency| {
            held.contains(&on.artifact)
                && self
                    .artifact(group, on.artifact)
                    .is_some_and(|now| now.fingerprint == on.fingerprint)
        };
        if kept.depends.iter().all(stands) || planted(Planted::DependencyIgnored) {
            Ok(kept)
        } else {
            Err(Stale::DependencyChanged)
        }
    }

    /// Keeps one, in the place of an earlier one of the same name.
    pub(crate) fn keep(&mut self, group: TurnGroupId, kept: Kept) {
        let total = |acts: &Self| acts.0.iter().map(|known| known.artifacts.len()).sum::<usize>();
        while total(self) >= ARTIFACTS_MAX {
            let other = |known: &&mut crate::tool::GroupActs| {
                known.group != group && !known.artifacts.is_empty()
            };
            let Some(oldest) = self.0.iter_mut().find(other) else { break };
            oldest.artifacts.clear();
        }
        let artifacts = &mut self.group_mut(group).artifacts;
        match artifacts.iter_mut().find(|known| known.name == kept.name) {
            Some(known) => *known = kept,
            None => artifacts.push(kept),
        }
    }

    /// Nobody will ask for this group's artifacts any more, unless a dead letter is tried again.
    pub(crate) fn forget_artifacts(&mut self, group: TurnGroupId) {
        if let Some(known) = self.0.iter_mut().find(|known| known.group == group)
            && known.letters.is_empty()
        {
            known.artifacts.clear();
        }
        self.0.retain(|known| !known.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;
    use uuid::Uuid;

    use super::*;

    const GROUP: TurnGroupId = TurnGroupId(Uuid::nil());
    const ONE: ArtifactName = ArtifactName([1; 16]);
    const TWO: ArtifactName = ArtifactName([2; 16]);
    const OLD: Fingerprint = Fingerprint([1; 16]);
    const NEW: Fingerprint = Fingerprint([2; 16]);

    fn kept(name: ArtifactName, fingerprint: Fingerprint, depends: Dependencies) -> Kept {
        Kept { name, at: Seq(1), inputs: OLD, fingerprint, depends }
    }

    /// The second was made from the first, as it was then.
    fn two() -> Acts {
        let mut acts = Acts::default();
        acts.keep(GROUP, kept(ONE, OLD, smallvec![]));
        let first = Dependency { artifact: ONE, fingerprint: OLD };
        acts.keep(GROUP, kept(TWO, OLD, smallvec![first]));
        acts
    }

    #[test]
    fn an_artifact_holds_with_its_inputs_and_with_what_it_was_made_from() {
        let check = |acts: &Acts, held: &[ArtifactName], inputs, expect: Result<(), Stale>| {
            let told = acts.recall(GROUP, held, (TWO, inputs)).map(|_| ());
            assert_eq!(told, expect, "{held:?} {inputs:?}");
        };
        let mut acts = two();
        check(&acts, &[ONE], OLD, Ok(()));
        check(&acts, &[ONE], NEW, Err(Stale::InputsChanged));
        check(&acts, &[], OLD, Err(Stale::DependencyChanged));
        // Made again, it may come out as it was.
        acts.keep(GROUP, Kept { inputs: NEW, ..kept(ONE, OLD, smallvec![]) });
        check(&acts, &[ONE], OLD, Ok(()));
        acts.keep(GROUP, kept(ONE, NEW, smallvec![]));
        check(&acts, &[ONE], OLD, Err(Stale::DependencyChanged));
        check(&Acts::default(), &[ONE], OLD, Err(Stale::Missing));
        let other = TurnGroupId(Uuid::from_u128(7));
        assert_eq!(acts.recall(other, &[ONE], (TWO, OLD)), Err(Stale::Missing));
    }

    #[test]
    fn of_too_many_those_of_the_oldest_other_group_are_forgotten() {
        let mut acts = Acts::default();
        let name = |number: u8| ArtifactName([number; 16]);
        for group in 0..4 {
            for number in 0..32 {
                let group = TurnGroupId(Uuid::from_u128(group));
                acts.keep(group, kept(name(number), OLD, smallvec![]));
            }
        }
        let newest = TurnGroupId(Uuid::from_u128(9));
        acts.keep(newest, kept(ONE, OLD, smallvec![]));
        let left: Vec<usize> = [0, 1, 2, 3, 9]
            .map(|group| acts.artifacts(TurnGroupId(Uuid::from_u128(group))).len())
            .to_vec();
        assert_eq!(left, [0, 32, 32, 32, 1]);
    }

    #[test]
    fn the_artifacts_of_a_group_go_with_it_unless_it_left_letters() {
        let mut acts = two();
        acts.bury(GROUP, [Seq(4)].into_iter());
        acts.forget_artifacts(GROUP);
        assert_eq!(acts.artifacts(GROUP).len(), 2);
        acts.take_letter(Seq(4));
        acts.forget_artifacts(GROUP);
        assert!(acts.is_empty());
    }

    #[test]
    fn what_is_kept_is_read_as_it_is_written() {
        let text = serde_json::to_string(&two()).unwrap();
        assert!(text.contains("\"inputs\":\"01010101010101010101010101010101\""), "{text}");
        assert_eq!(serde_json::from_str::<Acts>(&text).unwrap(), two());
    }
}
