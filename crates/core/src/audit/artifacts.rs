//! What the checker knows of artifacts: what is taken instead of being made again was made from the
//! same, and so was everything that it was made from.

use serde::{Deserialize, Serialize};

use super::notices::Broken;
use crate::artifact::{ArtifactName, Dependency, Fingerprint};
use crate::ids::{Seq, TurnGroupId};
use crate::journal::EventBody;

/// Artifacts that are remembered; of older ones it is not seen if they are taken wrongly.
const ARTIFACTS_MAX: usize = 256;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    group: TurnGroupId,
    artifact: ArtifactName,
    at: Seq,
    inputs: Fingerprint,
    fingerprint: Fingerprint,
    depends: Vec<Dependency>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ArtifactBook {
    /// The newest of each name, oldest first.
    known: Vec<Known>,
    /// Those that the current attempt has taken or made.
    held: Vec<ArtifactName>,
}

impl ArtifactBook {
    /// A turn or an attempt begins.
    pub(super) fn begins(&mut self) {
        self.held.clear();
    }

    pub(super) fn observe(
        &mut self,
        at: Seq,
        group: TurnGroupId,
        body: &EventBody,
    ) -> Option<Broken> {
        match body {
            EventBody::ArtifactKept { artifact, inputs, fingerprint, depends, .. } => {
                let wrong = self.unheld(group, depends);
                let (artifact, inputs, fingerprint) = (*artifact, *inputs, *fingerprint);
                self.known.retain(|known| (known.group, known.artifact) != (group, artifact));
                if self.known.len() == ARTIFACTS_MAX {
                    self.known.remove(0);
                }
                let depends = depends.clone();
                self.known.push(Known { group, artifact, at, inputs, fingerprint, depends });
                self.held.push(artifact);
                wrong.map(|why| ("I27", format!("an artifact is kept, {why}")))
            }
            EventBody::ArtifactReused { kept, inputs, .. } => {
                let why = self.reuse(group, *kept, *inputs)?;
                Some(("I27", format!("the artifact of {kept} is taken, {why}")))
            }
            _ => None,
        }
    }

    fn reuse(
        &mut self,
        group: TurnGroupId,
        kept: Seq,
        inputs: Fingerprint,
    ) -> Option<&'static str> {
        let found = self.known.iter().find(|known| (known.group, known.at) == (group, kept));
        let Some(found) = found else {
            // It may be older than what is remembered.
            let forgotten = self.known.len() == ARTIFACTS_MAX;
            return (!forgotten).then_some("which is not the newest of its name in its turn group");
        };
        let artifact = found.artifact;
        let why = if found.inputs == inputs {
            self.unheld(group, &found.depends)
        } else {
            Some("which was made from other inputs")
        };
        self.held.push(artifact);
        why
    }

    fn unheld(&self, group: TurnGroupId, depends: &[Dependency]) -> Option<&'static str> {
        let stands = |on: &Dependency| {
            let same = |known: &&Known| (known.group, known.artifact) == (group, on.artifact);
            // One that is not remembered is believed.
            let now = self.known.iter().find(same);
            self.held.contains(&on.artifact)
                && now.is_none_or(|now| now.fingerprint == on.fingerprint)
        };
        (!depends.iter().all(stands)).then_some("and not everything that it was made from holds")
    }
}
