//! What the checker knows of operators: while one has a session no attempt begins there, and what
//! they say completes the turn that waits for them, with all of its messages.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::notices::Broken;
use super::{Checker, OpenTurn};
use crate::ids::{Seqs, TurnId};
use crate::journal::{EventBody, NoticeSource};
use crate::session::{Session, Stage};

/// Whether somebody has the agent's place.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct OperatorBook {
    paused: bool,
    /// Who has it; no name where that was forgotten.
    by: Arc<str>,
}

impl OperatorBook {
    /// Takes an entry that is about operators, and that is not about a turn.
    pub(super) fn observe(&mut self, body: &EventBody) -> Option<Broken> {
        let before = self.paused;
        match body {
            EventBody::SessionPaused { by, from } => {
                self.paused = true;
                let had = std::mem::replace(&mut self.by, Arc::clone(by));
                let known = !had.is_empty() && from.as_ref().is_some_and(|from| !from.is_empty());
                // Before it was written down, nobody said whose place it was.
                let wrong = from.as_ref().is_some_and(|from| !before || (known && *from != had));
                return wrong
                    .then(|| ("I29", "taken over from somebody who does not have it".to_owned()));
            }
            EventBody::SessionHandedBack { .. } => {
                self.paused = false;
                return (!before).then(|| ("I29", "handed back, and nobody had it".to_owned()));
            }
            EventBody::SessionNotice { source: NoticeSource::Operator, .. } => {
                return (!before).then(|| ("I29", "an operator who has nothing speaks".to_owned()));
            }
            _ => {}
        }
        None
    }

    /// An agent does something in this turn that only the session's own agent may.
    pub(super) fn agent_acts(&self, turn: &OpenTurn, what: &str) -> Option<Broken> {
        let theirs = turn.with_operator || (self.paused && !turn.committed);
        theirs.then(|| ("I29", format!("turn {}: {what} while an operator has it", turn.id)))
    }

    /// An attempt begins, or the agent asks the user.
    pub(super) fn agent_begins(&self, id: TurnId) -> Option<Broken> {
        self.paused.then(|| ("I29", format!("turn {id} goes on while an operator has the session")))
    }

    /// What the stored state says otherwise.
    pub(super) fn finish(&self, session: &Session, told: Option<&OpenTurn>) -> Option<Broken> {
        if session.paused.is_some() != self.paused {
            return Some((
                "I29",
                format!("paused by the journal: {}, not by the state", self.paused),
            ));
        }
        let waits = session.turn.as_ref().is_some_and(|turn| turn.stage == Stage::Operator);
        if told.is_some_and(|turn| turn.with_operator) != waits {
            return Some((
                "I29",
                "journal and state differ on whether the turn waits for one".into(),
            ));
        }
        let may_run = session
            .turn
            .as_ref()
            .is_none_or(|turn| matches!(turn.stage, Stage::Operator | Stage::Processing));
        (self.paused && !may_run).then(|| {
            ("I29", format!("an operator has the session, and its turn is {:?}", session.turn))
        })
    }
}

impl Checker {
    /// The turn waits for the operator with everything it has.
    pub(super) fn wait_for_operator(&mut self, id: TurnId, messages: &Seqs) {
        self.expect_turn(id);
        self.end_calls();
        self.expect_open(messages);
        if !self.operators.paused {
            self.broken("I29", || format!("turn {id} waits for an operator, and there is none"));
        }
        let Some(turn) = &mut self.turn else { return };
        (turn.with_operator, turn.finishing) = (true, false);
        let complete = turn.messages.iter().all(|seq| messages.contains(seq));
        turn.messages = messages.clone();
        if !complete {
            self.broken("I29", || format!("turn {id} drops something on its way to the operator"));
        }
    }

    /// The operator's reply answers the whole turn.
    pub(super) fn complete_by_operator(&mut self, id: TurnId, messages: &Seqs) {
        self.expect_turn(id);
        let Some(turn) = self.turn.take() else { return };
        let complete = turn.messages.iter().all(|seq| messages.contains(seq));
        if !self.operators.paused || !turn.with_operator || !complete || messages.is_empty() {
            self.broken("I29", || format!("turn {id} is not an operator's to complete like this"));
        }
        self.committed += messages.len() as u64;
        self.settle(messages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether each of these pauses, one after another, is as it should be.
    fn check(pauses: &[(&str, Option<&str>)], expect: &[bool]) {
        let mut book = OperatorBook::default();
        let pause = |(by, from): &(&str, Option<&str>)| {
            let (by, from) = (Arc::from(*by), from.map(Arc::from));
            book.observe(&EventBody::SessionPaused { by, from }).is_none()
        };
        assert_eq!(pauses.iter().map(pause).collect::<Vec<_>>(), expect, "{pauses:?}");
    }

    #[test]
    fn a_place_is_taken_over_from_whoever_has_it() {
        check(&[("Ann", None), ("Bob", Some("Ann"))], &[true, true]);
        check(&[("Ann", Some("Bob"))], &[false]);
        check(&[("Ann", None), ("Bob", Some("Kim"))], &[true, false]);
        // Names may be forgotten, and were not always written down.
        check(&[("", None), ("", Some(""))], &[true, true]);
        check(&[("Ann", None), ("Bob", None)], &[true, true]);
    }
}
