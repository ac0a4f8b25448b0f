//! Whose the session is: found out at every load, because other nodes may have the same store open.

use std::sync::Arc;

use turnkeep_core::Epoch;
use turnkeep_core::ids::Version;
use turnkeep_core::planted::{Planted, planted};
use turnkeep_core::ports::store::{Holder, Loaded, StoreError};
use turnkeep_core::session::{Effect, Input, Session};

use super::{Driver, Outcome, Slot};

impl Driver {
    /// The same where other nodes may have the store open, too.
    #[must_use]
    pub fn among_others(self) -> Self {
        Self { shared: true, ..self }
    }

    /// Another node wrote the session, so what is known here is old.
    pub fn look(&mut self) {
        match self.slot {
            Slot::Ready(_) => self.slot = Slot::Unloaded,
            Slot::Loading => self.stale = true,
            // What is built on something old conflicts, and is loaded again.
            Slot::Unloaded | Slot::Committing(_) | Slot::Lost => {}
        }
    }

    /// Nobody took what this node handed over, so it runs the session itself, as long as nobody else
    /// has it: under a new epoch, so that whoever is told of it late finds it taken.
    pub fn run_here(&mut self) {
        if !self.runs {
            (self.runs, self.afresh) = (true, true);
        }
        self.look();
    }

    /// The load ended. Whatever the state says is under way is held against what the shell has.
    pub fn on_loaded(
        &mut self,
        loaded: Result<Option<Loaded>, StoreError>,
        holder: impl FnOnce(Epoch) -> Holder,
        outcome: &mut Outcome,
    ) {
        match loaded {
            Ok(Some(Loaded { session, version })) => {
                let holder = holder(session.epoch);
                if holder == Holder::Later && !planted(Planted::FenceForgotten) {
                    return self.lose(outcome);
                }
                self.version = version;
                self.meet(&session, holder, outcome);
                self.slot = Slot::Ready(session);
            }
            Ok(None) => {
                self.version = Version(0);
                (self.epoch, self.guest) = (self.node, !self.runs);
                let session = Session { epoch: self.epoch, ..Session::new() };
                self.slot = Slot::Ready(Arc::new(session));
            }
            Err(_) => {
                self.slot = Slot::Unloaded;
                self.refuse_waiting(outcome);
                outcome.store_failed = true;
            }
        }
        if std::mem::take(&mut self.stale) {
            self.look();
        }
    }

    /// Finds out whether the session is this node's, or may be taken, or is another's.
    fn meet(&mut self, session: &Session, holder: Holder, outcome: &mut Outcome) {
        let others = holder == Holder::Another && session.has_open_work();
        self.guest = others || !self.runs;
        self.epoch = match holder {
            Holder::Us if std::mem::take(&mut self.afresh) => session.epoch.taken_by(self.node),
            Holder::Us => session.epoch,
            Holder::Another if others => session.epoch,
            Holder::Another | Holder::Nobody => session.epoch.taken_by(self.node),
            Holder::Later => self.node,
        };
        // The one of a load before this, which was not stepped any more.
        self.backlog.pop_front_if(|input| matches!(input, Input::Adopt { .. }));
        if !self.guest {
            let (run, delivering) = (self.run, self.delivering);
            return self.backlog.push_front(Input::Adopt { run, delivering });
        }
        // Nothing is under way here, and no deadline is this node's.
        self.delivering = None;
        self.backlog.retain(|input| !is_owners(input));
        if let Some(run) = self.run.take() {
            outcome.effects.push(Effect::Cancel(run));
            outcome.effects.push(Effect::Typing(false));
        }
    }

    /// Whether somebody is to be told something that nothing was written for, and that may be wrong
    /// by now: others may have written since the state was read. It is looked at again first.
    pub(super) fn is_outdated(&self, effects: &[Effect]) -> bool {
        let told = |effect: &Effect| matches!(effect, Effect::Decided(..) | Effect::Controlled(..));
        self.shared && !self.fresh && effects.iter().any(told) && !planted(Planted::OldAnswer)
    }

    /// The session is another owner's now: whatever runs here ends, and nobody is told that
    /// anything was taken.
    pub(super) fn lose(&mut self, outcome: &mut Outcome) {
        self.slot = Slot::Lost;
        self.refuse_waiting(outcome);
        self.backlog.clear();
        self.delivering = None;
        outcome.effects.extend(self.run.take().map(Effect::Cancel));
        outcome.effects.push(Effect::Typing(false));
        outcome.lost = true;
    }
}

/// Whether somebody waits for it here, whoever has the session.
pub(super) const fn is_answer(effect: &Effect) -> bool {
    matches!(effect, Effect::Decided(..) | Effect::Controlled(..) | Effect::AgentAnswer(..))
}

/// Whether only who has the session may say it.
pub(super) const fn is_owners(input: &Input) -> bool {
    matches!(input, Input::Adopt { .. } | Input::Timer(_) | Input::Release)
}
