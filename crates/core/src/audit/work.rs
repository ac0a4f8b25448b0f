//! What the checker knows of a run's work: its calls and its artifacts, each of the attempt that is the
//! current one, and none of a call where the turn was to finish without.

use super::Checker;
use crate::ids::{Attempt, Seq, TurnId};
use crate::journal::{EventBody, SupersedeChoice};

impl Checker {
    /// What the agent said to new mail.
    pub(super) fn decided(&mut self, choice: SupersedeChoice) {
        let Some(turn) = &mut self.turn else { return };
        match choice {
            SupersedeChoice::ForceComplete => turn.finishing = true,
            SupersedeChoice::AbsorbRestart => turn.finishing = false,
            SupersedeChoice::Supersede
            | SupersedeChoice::AbsorbContinue
            | SupersedeChoice::Queue => {}
        }
    }

    /// Only the current attempt works.
    fn expect_attempt(&mut self, seq: Seq, id: TurnId, attempt: Attempt) {
        self.expect_turn(id);
        let current = self.turn.as_ref().map(|turn| turn.attempt);
        if current.is_some_and(|current| current != attempt) {
            self.broken("I18", || format!("{seq} is the work of attempt {attempt}"));
        }
    }

    pub(super) fn intend(&mut self, call: Seq, body: &EventBody) {
        let EventBody::ToolIntended { turn_id, attempt, effects, act, compensates, .. } = body
        else {
            return;
        };
        self.expect_attempt(call, *turn_id, *attempt);
        let Some(turn) = &self.turn else { return };
        let (of, finishing) = ((turn.group, turn.committed), turn.finishing);
        let broken = self.operators.agent_acts(turn, "a tool is called");
        self.note(broken);
        if finishing {
            self.broken("I28", || format!("call {call} is made by a turn that was to finish"));
        }
        for broken in self.tools.intend(call, of, (*act, *effects, *compensates)) {
            self.note(Some(broken));
        }
    }

    /// A turn that was to finish begins nothing new.
    pub(super) fn expect_unfinished(&mut self, id: TurnId, what: &str) {
        if self.turn.as_ref().is_some_and(|turn| turn.finishing) {
            self.broken("I28", || format!("turn {id} {what} and was to finish"));
        }
    }

    /// What a turn says it left in the world.
    pub(super) fn expect_standing(&mut self, acts: &[Seq]) {
        let broken = acts.iter().find_map(|call| self.tools.falls(*call));
        self.note(broken);
    }

    /// Something is kept, or taken.
    pub(super) fn observe_artifact(&mut self, seq: Seq, body: &EventBody) {
        let (EventBody::ArtifactKept { turn_id, attempt, .. }
        | EventBody::ArtifactReused { turn_id, attempt, .. }) = body
        else {
            return;
        };
        self.expect_attempt(seq, *turn_id, *attempt);
        let Some(group) = self.turn.as_ref().map(|turn| turn.group) else { return };
        let broken = self.artifacts.observe(seq, group, body);
        self.note(broken);
    }
}
