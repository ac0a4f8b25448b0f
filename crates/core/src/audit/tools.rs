//! What the checker knows of tools: every call has one result, before its attempt ends; what can't be
//! undone has a commit point before it; and nothing is done twice.

use serde::{Deserialize, Serialize};

use super::notices::Broken;
use crate::ids::{Seq, TurnGroupId};
use crate::session::Session;
use crate::tool::{ActName, SideEffects, ToolOutcome};

/// Acts that are remembered; of older ones it is not seen if they are done again.
const ACTS_MAX: usize = 1024;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct KnownAct {
    group: TurnGroupId,
    name: ActName,
    call: Seq,
    effects: SideEffects,
    outcome: Option<ToolOutcome>,
}

impl KnownAct {
    fn may_be_done(&self) -> bool {
        match self.outcome {
            Some(ToolOutcome::Failed) => true,
            Some(ToolOutcome::Done) => false,
            Some(ToolOutcome::Unknown) | None => self.effects <= SideEffects::Idempotent,
        }
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct ToolBook {
    /// Calls without a result.
    open: Vec<Seq>,
    /// Whatever tools did that are not pure, oldest first.
    acts: Vec<KnownAct>,
}

impl ToolBook {
    /// A call is about to be made.
    pub(super) fn intend(
        &mut self,
        call: Seq,
        (group, committed): (TurnGroupId, bool),
        (name, effects): (ActName, SideEffects),
    ) -> Option<Broken> {
        self.open.push(call);
        if effects == SideEffects::Pure {
            return None;
        }
        if effects == SideEffects::Irreversible && !committed {
            return Some(("I20", format!("call {call} can't be undone, and has no commit point")));
        }
        let begun = KnownAct { group, name, call, effects, outcome: None };
        match self.acts.iter_mut().find(|act| (act.group, act.name) == (group, name)) {
            Some(act) => {
                let (before, allowed) = (act.call, act.may_be_done());
                *act = begun;
                (!allowed).then(|| ("I20", format!("call {call} does again what {before} did")))
            }
            None => {
                if self.acts.len() == ACTS_MAX {
                    self.acts.remove(0);
                }
                self.acts.push(begun);
                None
            }
        }
    }

    /// A call has its result.
    pub(super) fn returned(&mut self, call: Seq, outcome: ToolOutcome) -> Option<Broken> {
        let Some(at) = self.open.iter().position(|open| *open == call) else {
            return Some(("I22", format!("a result of call {call}, which has one or never was")));
        };
        self.open.remove(at);
        if let Some(act) = self.acts.iter_mut().find(|act| act.call == call) {
            act.outcome = Some(outcome);
        }
        None
    }

    /// An attempt or a turn ends here.
    pub(super) fn ends(&mut self) -> Option<Broken> {
        let open = std::mem::take(&mut self.open);
        (!open.is_empty()).then(|| ("I22", format!("calls {open:?} are left without a result")))
    }

    /// What the stored state says otherwise.
    pub(super) fn finish(&self, session: &Session) -> Option<Broken> {
        let stored = session.turn.iter().flat_map(|turn| &turn.open_calls);
        let same = stored.clone().eq(&self.open);
        (!same).then(|| {
            let stored: Vec<&Seq> = stored.collect();
            ("I22", format!("open calls by the journal: {:?}, by the state: {stored:?}", self.open))
        })
    }
}
