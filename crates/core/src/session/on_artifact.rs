//! What a run keeps for whoever does its work after it, and what it takes of what was kept.

use std::sync::Arc;

use super::{AgentAnswer, Effect, Machine};
use crate::artifact::{
    ARTIFACTS_GROUP_MAX, ArtifactName, Dependencies, Dependency, Fingerprint, KEEPS_MAX,
    KEPT_BYTES_MAX, Kept, NewArtifact,
};
use crate::ids::{Token, TurnGroupId};
use crate::journal::EventBody;
use crate::planted::{Planted, planted};
use crate::tool::Denied;

impl Machine<'_> {
    pub(super) fn on_keep(&mut self, token: Token, artifact: &NewArtifact) {
        let answer = self.keep(artifact);
        self.effect(Effect::AgentAnswer(token, answer));
    }

    fn keep(&mut self, new: &NewArtifact) -> AgentAnswer {
        self.tidy_acts();
        let Some(turn) = &self.session.turn else { return AgentAnswer::Refused };
        let (turn_id, attempt, group) = (turn.id, turn.attempt, turn.group);
        let bytes = u32::try_from(new.content.len()).unwrap_or(u32::MAX);
        let kept_bytes = turn.done.kept_bytes.saturating_add(bytes);
        if turn.done.keeps >= KEEPS_MAX || kept_bytes > KEPT_BYTES_MAX {
            return AgentAnswer::NotAllowed(Denied::KeptTooMuch);
        }
        let acts = &self.session.acts;
        let is_new = acts.artifact(group, new.name).is_none();
        if is_new && acts.artifacts(group).len() >= ARTIFACTS_GROUP_MAX {
            return AgentAnswer::NotAllowed(Denied::TooManyArtifacts);
        }
        let dependency = |artifact: &ArtifactName| {
            let kept = acts.artifact(group, *artifact).filter(|_| turn.held.contains(artifact))?;
            Some(Dependency { artifact: *artifact, fingerprint: kept.fingerprint })
        };
        let Some(depends) = new.depends.iter().map(dependency).collect::<Option<Dependencies>>()
        else {
            return AgentAnswer::NotAllowed(Denied::DependencyNotHeld);
        };
        let NewArtifact { name, title, inputs, fingerprint, content, .. } = new;
        let (artifact, inputs, fingerprint) = (*name, *inputs, *fingerprint);
        let at = self.journal(EventBody::ArtifactKept {
            turn_id,
            attempt,
            name: Arc::clone(title),
            artifact,
            inputs,
            fingerprint,
            depends: depends.to_vec(),
            content: Arc::clone(content),
        });
        if let Some(turn) = &mut self.session.turn {
            turn.done.keeps += 1;
            turn.done.kept_bytes = kept_bytes;
        }
        self.hold_artifact(artifact);
        let kept = Kept { name: artifact, at, inputs, fingerprint, depends };
        self.session.acts.keep(group, kept);
        AgentAnswer::Recorded
    }

    /// This attempt has taken or made it.
    fn hold_artifact(&mut self, artifact: ArtifactName) {
        if let Some(turn) = &mut self.session.turn
            && !turn.held.contains(&artifact)
        {
            turn.held.push(artifact);
        }
    }

    pub(super) fn on_look_up(&mut self, token: Token, name: ArtifactName, inputs: Fingerprint) {
        let Some(turn) = &self.session.turn else { return };
        let found = self.session.acts.recall(turn.group, &turn.held, (name, inputs)).cloned();
        let answer = AgentAnswer::Recalled(found.map(Box::new));
        self.effect(Effect::AgentAnswer(token, answer));
    }

    pub(super) fn on_recall(&mut self, token: Token, name: ArtifactName, inputs: Fingerprint) {
        let Some(turn) = &self.session.turn else { return };
        let (turn_id, attempt) = (turn.id, turn.attempt);
        let found = self.session.acts.recall(turn.group, &turn.held, (name, inputs)).cloned();
        // Asked for twice, it is on record once.
        let is_first = !turn.held.contains(&name);
        if let Ok(kept) = &found
            && is_first
        {
            self.journal(EventBody::ArtifactReused { turn_id, attempt, kept: kept.at, inputs });
            self.hold_artifact(name);
        }
        let answer = AgentAnswer::Recalled(found.map(Box::new));
        self.effect(Effect::AgentAnswer(token, answer));
    }

    /// A turn of this group ended for good: nobody asks for its artifacts any more.
    pub(super) fn forget_artifacts(&mut self, group: TurnGroupId) {
        let waits = self.session.pending().any(|pending| pending.group == Some(group));
        if !self.session.acts.is_empty() && !waits {
            self.session.acts.forget_artifacts(group);
        }
    }

    /// What was kept is there for the next attempt; what this one took of it is not.
    pub(super) fn let_go_of_artifacts(&mut self) {
        let Some(turn) = &mut self.session.turn else { return };
        turn.held.clear();
        let group = turn.group;
        if planted(Planted::ArtifactsForgotten) {
            self.session.acts.forget_artifacts(group);
        }
    }
}
