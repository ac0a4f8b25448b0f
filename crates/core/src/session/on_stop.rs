//! What the user hears of a stop that came in the middle of an act: first that it is waited for, and at
//! the end what came of it.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Controlled, Machine, Turn};
use crate::ids::{Seq, TurnGroupId, TurnId};
use crate::journal::EventBody;
use crate::tool::{Act, SideEffects, ToolOutcome};

impl Machine<'_> {
    /// The same as a stop, and the user is told if it has to wait.
    pub(super) fn on_stop_and_tell(
        &mut self,
        wanted: Option<TurnId>,
        shown: Option<Arc<str>>,
    ) -> Controlled {
        let again = self.session.turn.as_ref().is_some_and(|turn| turn.stopping);
        let result = self.on_stop(wanted, shown);
        if matches!(result, Controlled::Stopping(_)) && !again {
            let turn = self.session.turn.as_ref();
            let acts = turn.is_some_and(|turn| !turn.stopped_in.is_empty());
            self.tell_of_stop(match acts {
                true => {
                    "Stopping. Something is being done that can't be called back; you will hear \
                         what came of it."
                }
                false => "Stopping, as soon as what is under way has ended.",
            });
        }
        result
    }

    /// The calls of the open turn that act and have no result yet.
    pub(super) fn note_acts_under_way(&mut self) {
        let Some(turn) = &self.session.turn else { return };
        let under_way = self.acts_under_way(turn);
        if let Some(turn) = &mut self.session.turn {
            turn.stopped_in = under_way;
        }
    }

    fn acts_under_way(&self, turn: &Turn) -> SmallVec<[Seq; 1]> {
        let acts = self.session.acts.of(turn.group);
        let acts = |call: &Seq| acts.iter().any(|act| act.call == *call);
        turn.open_calls.iter().copied().filter(acts).collect()
    }

    /// The calls that the user is told of if this turn is stopped now; none if nobody needs to be
    /// told anything.
    pub(super) fn calls_to_tell(&self, turn: &Turn) -> Option<SmallVec<[Seq; 1]>> {
        let mut calls = self.acts_under_way(turn);
        calls
            .extend(turn.stopped_in.iter().copied().filter(|call| !turn.open_calls.contains(call)));
        if calls.is_empty() && turn.stopping {
            let for_good = |act: &&Act| act.effects == SideEffects::Irreversible;
            calls.extend(
                self.session.acts.of(turn.group).iter().filter(for_good).map(|act| act.call),
            );
        }
        (turn.stopping || !calls.is_empty()).then_some(calls)
    }

    /// The turn was stopped; this is what came of its calls.
    pub(super) fn tell_outcomes(&mut self, group: TurnGroupId, calls: &[Seq]) {
        let acts = self.session.acts.of(group).iter();
        let outcomes = acts.filter(|act| calls.contains(&act.call)).map(Act::outcome).collect();
        self.tell_of_stop(&what_came(outcomes));
    }

    fn tell_of_stop(&mut self, text: &str) {
        let text: Arc<str> = text.into();
        let seq = self.journal(EventBody::notice(Arc::clone(&text)));
        self.send_reply(seq, &text);
    }
}

/// In words, for the user.
fn what_came(outcomes: Vec<ToolOutcome>) -> String {
    let count = |wanted| outcomes.iter().filter(|outcome| **outcome == wanted).count();
    let (done, failed) = (count(ToolOutcome::Done), count(ToolOutcome::Failed));
    match (outcomes.len(), done, failed) {
        (0, ..) => "Stopped.".to_owned(),
        (all, done, _) if all == done => "Stopped. What had been begun was done.".to_owned(),
        (all, _, failed) if all == failed => {
            "Stopped. What had been begun was not done.".to_owned()
        }
        (1, 0, 0) => "Stopped. Nobody knows whether what had been begun was done.".to_owned(),
        (all, ..) => {
            let unknown = all - done - failed;
            format!(
                "Stopped. Of {all} things that had been begun, {done} done, {failed} not done, and of \
                 {unknown} nobody knows."
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_a_stop_is_said_in_words() {
        use ToolOutcome::{Done, Failed, Unknown};
        let check = |outcomes: &[ToolOutcome], expect: &str| {
            assert_eq!(what_came(outcomes.to_vec()), expect, "{outcomes:?}");
        };
        check(&[], "Stopped.");
        check(&[Done], "Stopped. What had been begun was done.");
        check(&[Done, Done], "Stopped. What had been begun was done.");
        check(&[Failed], "Stopped. What had been begun was not done.");
        check(&[Unknown], "Stopped. Nobody knows whether what had been begun was done.");
        check(
            &[Done, Failed, Unknown],
            "Stopped. Of 3 things that had been begun, 1 done, 1 not done, and of 1 nobody knows.",
        );
    }
}
