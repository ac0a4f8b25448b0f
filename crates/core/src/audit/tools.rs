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
    /// The call that it undoes.
    #[serde(default)]
    compensates: Option<Seq>,
    /// Another call has undone it.
    #[serde(default)]
    undone: bool,
}

impl KnownAct {
    /// Why it can't be undone.
    fn refuses_to_be_undone(&self) -> Option<&'static str> {
        if self.effects != SideEffects::Compensatable || self.compensates.is_some() {
            return Some("which can't be compensated");
        }
        match self.outcome {
            _ if self.undone => Some("which was undone before"),
            None => Some("which is under way"),
            Some(ToolOutcome::Failed) => Some("which was not done"),
            Some(ToolOutcome::Done | ToolOutcome::Unknown) => None,
        }
    }

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
        (name, effects, compensates): (ActName, SideEffects, Option<Seq>),
    ) -> Vec<Broken> {
        self.open.push(call);
        let mut broken = Vec::new();
        if effects == SideEffects::Irreversible && !committed {
            broken.push(("I20", format!("call {call} can't be undone, and has no commit point")));
        }
        broken.extend(compensates.and_then(|undone| self.undo(call, group, undone)));
        if effects != SideEffects::Pure {
            let (outcome, undone) = (None, false);
            let begun = KnownAct { group, name, call, effects, outcome, compensates, undone };
            broken.extend(self.begin(begun));
        }
        broken
    }

    /// A call is about to undo another one.
    fn undo(&self, call: Seq, group: TurnGroupId, undone: Seq) -> Option<Broken> {
        let known = self.acts.iter().find(|act| (act.group, act.call) == (group, undone));
        let why = match known {
            Some(act) => act.refuses_to_be_undone()?,
            // It may be older than what is remembered.
            None if self.acts.len() == ACTS_MAX => return None,
            None => "which was never made for this turn group",
        };
        Some(("I26", format!("call {call} undoes call {undone}, {why}")))
    }

    fn begin(&mut self, begun: KnownAct) -> Option<Broken> {
        let (call, of) = (begun.call, (begun.group, begun.name));
        let same = |act: &&mut KnownAct| (act.group, act.name) == of && !act.undone;
        match self.acts.iter_mut().find(same) {
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
        let act = self.acts.iter_mut().find(|act| act.call == call)?;
        act.outcome = Some(outcome);
        let (group, undone) = (act.group, act.compensates);
        if let Some(undone) = undone.filter(|_| outcome == ToolOutcome::Done) {
            let same = |act: &&mut KnownAct| (act.group, act.call) == (group, undone);
            self.acts.iter_mut().filter(same).for_each(|act| act.undone = true);
        }
        None
    }

    /// What is wrong with saying that this call was made and stands.
    pub(super) fn falls(&self, call: Seq) -> Option<Broken> {
        let known = self.acts.iter().find(|act| act.call == call)?;
        let stands = !known.undone && known.outcome != Some(ToolOutcome::Failed);
        (!stands).then(|| ("I26", format!("call {call} is said to stand, and does not")))
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
