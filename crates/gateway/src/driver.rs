//! One session's life without IO: load, step, commit, and only then the effects.
//!
//! The shell (or the simulator) asks [`Driver::next`] what to do, does it, and says how it ended.
//! At most one load or commit is under way at a time, and no step builds on a state that is not
//! committed. Several inputs that wait together share one commit.

use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::SmallVec;
use turnkeep_core::ids::{Epoch, RunTag, Seq, Timestamp, TurnId, Version};
use turnkeep_core::message::Decision;
use turnkeep_core::planted::{Planted, planted};
use turnkeep_core::ports::store::{Commit, CommitOutcome, FirstDecision, StoreError};
use turnkeep_core::session::{
    AgentAnswer, AgentInput, Context, Effect, Input, Session, Step, Wake, step,
};
use turnkeep_core::{Policy, SessionKey};

mod batch;
mod outcome;
mod owner;
mod twins;

pub use batch::BATCH_MAX;
use batch::{Inputs, place_of, token_of};
pub use outcome::Outcome;
use owner::{StandIn, is_answer, is_owners};
pub use twins::duplicate_of;
use twins::{already_done, are_twins, is_guarded};

/// What the driver needs done next.
#[derive(Debug)]
pub enum Request {
    /// Load the session, then call [`Driver::on_loaded`].
    Load,
    /// Commit this, then call [`Driver::on_committed`].
    Commit(Box<Commit>),
}

enum Slot {
    /// Nothing is known; a load comes first.
    Unloaded,
    /// A load is under way.
    Loading,
    /// At rest.
    Ready(Arc<Session>),
    /// A commit is under way. Boxed: most sessions of a busy node are at rest.
    Committing(Box<Flight>),
    /// Somebody with a later epoch has the session.
    Lost,
}

/// A commit under way.
struct Flight {
    next: Arc<Session>,
    /// What it was built on, kept where a guard may refuse it.
    previous: Option<Arc<Session>>,
    effects: Vec<Effect>,
    /// What it is made of, to be redone if it doesn't happen.
    inputs: Inputs,
    /// For each guard, the input it belongs to.
    guarded: SmallVec<[u8; 8]>,
}

/// The state of one session's task.
pub struct Driver {
    key: SessionKey,
    /// The number of the node.
    node: Epoch,
    /// Under which epoch it steps.
    epoch: Epoch,
    /// Whether the node runs turns.
    runs: bool,
    /// Whether it runs this session's all the same.
    stand_in: StandIn,
    /// Another node has the session: what is stepped here is done there.
    guest: bool,
    /// It was written by another node while a load or commit was under way.
    stale: bool,
    /// Other nodes may write the session, too.
    shared: bool,
    /// Whatever waits came before the state was read.
    fresh: bool,
    policy: Arc<Policy>,
    slot: Slot,
    version: Version,
    backlog: VecDeque<Input>,
    /// The run that the shell has, as told by effects.
    run: Option<RunTag>,
    /// The delivery that the shell has under way.
    delivering: Option<(Seq, u32, u32)>,
}

impl Driver {
    /// A driver that knows nothing yet.
    #[must_use]
    pub const fn new(key: SessionKey, node: Epoch, policy: Arc<Policy>) -> Self {
        Self {
            key,
            node,
            epoch: node,
            runs: true,
            stand_in: StandIn::No,
            guest: false,
            stale: false,
            shared: false,
            fresh: false,
            policy,
            slot: Slot::Unloaded,
            version: Version(0),
            backlog: VecDeque::new(),
            run: None,
            delivering: None,
        }
    }

    /// Whose.
    #[must_use]
    pub const fn key(&self) -> &SessionKey {
        &self.key
    }

    /// The numbers it lives by.
    #[must_use]
    pub const fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// From the next step on it lives by these.
    pub fn set_policy(&mut self, policy: Arc<Policy>) {
        self.policy = policy;
    }

    /// Takes an input; it is stepped by a later [`Driver::next`].
    pub fn push(&mut self, input: Input) {
        if self.guest && is_owners(&input) && !planted(Planted::GuestTimers) {
            return;
        }
        // What comes while nothing is known waits for a load that begins later.
        self.fresh &= matches!(self.slot, Slot::Unloaded);
        self.backlog.push_back(input);
    }

    /// The store says that this session is due although nothing happens here: a commit that was
    /// reported as failed may have landed since. Looks again, unless something is under way anyway.
    pub fn refresh(&mut self) {
        if self.backlog.is_empty() && matches!(self.slot, Slot::Ready(_)) {
            self.slot = Slot::Unloaded;
        }
    }

    /// Gives back room that nothing waits in.
    pub fn shrink(&mut self) {
        self.backlog.shrink_to_fit();
    }

    /// The state at rest, if it is known.
    #[must_use]
    pub fn session(&self) -> Option<&Session> {
        match &self.slot {
            Slot::Ready(session) => Some(session),
            _ => None,
        }
    }

    /// When to push a timer, if nothing happens before: in so many milliseconds, bounded however the
    /// wall clock jumps, so a shell arms its own steady clock with this.
    #[must_use]
    pub fn next_wait(&self, now: Timestamp) -> Option<(u64, Wake)> {
        let session = self.session().filter(|_| !self.guest || planted(Planted::GuestTimers));
        session.and_then(|session| session.next_wait(&self.policy, now))
    }

    /// Nothing is under way, so the task may leave.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.backlog.is_empty()
            && self.run.is_none()
            && self.delivering.is_none()
            && matches!(&self.slot, Slot::Ready(_) | Slot::Unloaded)
    }

    /// Whether messages may wait for a window, a retry or an answer, all of which the store knows.
    #[must_use]
    pub fn has_open_work(&self) -> bool {
        !self.guest && self.session().is_some_and(Session::has_open_work)
    }

    /// Steps what waits. Says what has to be done before more can be stepped; effects of inputs
    /// that changed nothing are in `outcome` at once.
    pub fn next(
        &mut self,
        now: Timestamp,
        fresh: &mut dyn FnMut() -> TurnId,
        outcome: &mut Outcome,
    ) -> Option<Request> {
        loop {
            let session = match std::mem::replace(&mut self.slot, Slot::Loading) {
                Slot::Unloaded => {
                    self.fresh = true;
                    return Some(Request::Load);
                }
                Slot::Ready(session) if !self.backlog.is_empty() => session,
                Slot::Lost => {
                    self.lose(outcome);
                    return None;
                }
                waiting => {
                    self.slot = waiting;
                    return None;
                }
            };
            if let Some(request) = self.step_batch(session, now, fresh, outcome) {
                return Some(request);
            }
        }
    }

    /// Steps inputs until the batch is full; with nothing to write their effects are due at once.
    fn step_batch(
        &mut self,
        session: Arc<Session>,
        now: Timestamp,
        fresh: &mut dyn FnMut() -> TurnId,
        outcome: &mut Outcome,
    ) -> Option<Request> {
        let mut out = Step::default();
        let mut inputs = Inputs::new();
        let mut guarded = SmallVec::new();
        let guards = self.backlog.front().is_some_and(is_guarded);
        let previous = guards.then(|| Arc::clone(&session));
        let mut next = session;
        // Stepped in place where nobody else keeps it.
        let session = Arc::make_mut(&mut next);
        while inputs.len() < BATCH_MAX {
            let Some(input) = self.backlog.pop_front() else { break };
            if is_guarded(&input) {
                // Its twin must meet a decision that is durable, not one of the same commit.
                if inputs.iter().any(|earlier| are_twins(earlier, &input)) {
                    self.backlog.push_front(input);
                    break;
                }
                // What a refusal goes back to is kept only from the first input on.
                if previous.is_none() {
                    self.backlog.push_front(input);
                    break;
                }
            }
            let context = Context {
                key: &self.key,
                now,
                epoch: self.epoch,
                runs: !self.guest || planted(Planted::GuestActs),
                policy: &self.policy,
                fresh: fresh(),
            };
            step(session, &input, &context, &mut out);
            if guarded.len() < out.rows.guards.len() {
                guarded.resize(out.rows.guards.len(), place_of(inputs.len()));
            }
            inputs.push(input);
        }
        outcome.ignored = out.ignored.or(outcome.ignored);
        if !out.changed && out.rows.is_empty() {
            if self.is_outdated(&out.effects) {
                // The slot is taken, so this goes on with a load.
                self.slot = Slot::Unloaded;
                self.redo(inputs);
                return None;
            }
            self.slot = Slot::Ready(next);
            self.release(&inputs, out.effects, outcome);
            return None;
        }
        if !out.changed {
            out.rows.question = Some(now);
        }
        let commit = Box::new(Commit {
            key: self.key.clone(),
            expected: self.version,
            wake_at: next.wake_at(&self.policy),
            session: Arc::clone(&next),
            rows: out.rows,
        });
        let flight = Flight { next, previous, effects: out.effects, inputs, guarded };
        self.slot = Slot::Committing(Box::new(flight));
        Some(Request::Commit(commit))
    }

    /// The commit ended.
    pub fn on_committed(
        &mut self,
        result: Result<CommitOutcome, StoreError>,
        outcome: &mut Outcome,
    ) {
        let Slot::Committing(flight) = std::mem::replace(&mut self.slot, Slot::Unloaded) else {
            return;
        };
        let result = match result {
            Err(_) if planted(Planted::CommitErrorTrusted) => {
                Ok(CommitOutcome::Committed(self.version.next()))
            }
            result => result,
        };
        match result {
            Ok(CommitOutcome::Committed(version)) => {
                self.version = version;
                self.slot = Slot::Ready(flight.next);
                outcome.committed = true;
                self.release(&flight.inputs, flight.effects, outcome);
            }
            Ok(CommitOutcome::Conflict) => self.redo(flight.inputs),
            Ok(CommitOutcome::Refused { guard, first }) => {
                self.on_refused(*flight, guard, first, outcome);
            }
            Err(_) => self.on_unknown(*flight, outcome),
        }
        if std::mem::take(&mut self.stale) {
            self.look();
        }
    }

    /// Nothing was written: the same inputs again, in the same order, on the reloaded state.
    fn redo(&mut self, inputs: Inputs) {
        if planted(Planted::ConflictForgotten) {
            return;
        }
        for input in inputs.into_iter().rev() {
            // Every load brings its own adoption.
            if !matches!(input, Input::Adopt { .. }) {
                self.backlog.push_front(input);
            }
        }
    }

    /// One input met its twin; it gets the twin's answer and the others are redone.
    fn on_refused(
        &mut self,
        mut flight: Flight,
        guard: usize,
        first: Option<(FirstDecision, bool)>,
        outcome: &mut Outcome,
    ) {
        let Some(at) = flight.guarded.get(guard).map(|at| usize::from(*at)) else {
            return self.redo(flight.inputs);
        };
        match (flight.inputs.remove(at), first) {
            (Input::Message(message), Some((first, true))) => {
                outcome.duplicates.push((message.token, first));
            }
            (Input::Message(message), _) => {
                // A message may have two names, and so two guards in a row.
                let nth = flight.guarded[..guard]
                    .iter()
                    .filter(|other| usize::from(**other) == at)
                    .count();
                let refused = Decision::rejected(message.reused(nth));
                outcome.effects.push(Effect::Decided(message.token, refused));
            }
            (Input::Control(token, control), first) => {
                let told = already_done(&control, first);
                outcome.effects.push(Effect::Controlled(token, told));
            }
            // No other input has a guard.
            (other, _) => flight.inputs.insert(at, other),
        }
        // A guard is asked after the version, so what the commit was built on still stands.
        if let Some(previous) = flight.previous {
            self.slot = Slot::Ready(previous);
        }
        self.redo(flight.inputs);
    }

    /// Nobody knows whether the commit happened: acknowledge nothing, run no effect, reload.
    fn on_unknown(&mut self, flight: Flight, outcome: &mut Outcome) {
        outcome.store_failed = true;
        for input in flight.inputs.into_iter().rev() {
            match input {
                // A result is safe to offer again: it is refused if it was taken. So is what was
                // used, which has a number.
                Input::Agent(
                    _,
                    AgentInput::Finished(_) | AgentInput::Failed(_) | AgentInput::Used(_),
                ) => {
                    self.backlog.push_front(input);
                }
                Input::Delivered { .. }
                | Input::QuarantineGranted(_)
                | Input::Ruling { .. }
                | Input::Release => {
                    self.backlog.push_front(input);
                }
                other => outcome.unavailable.extend(token_of(&other)),
            }
        }
        self.refuse_waiting(outcome);
        self.cut_run(outcome);
    }

    /// The run's mail or answer may be lost, so it is ended and its attempt begun anew; unless it
    /// ended by itself, and its result waits to be offered.
    fn cut_run(&mut self, outcome: &mut Outcome) {
        let current = self.run;
        let ended = self.backlog.iter().any(|input| {
            matches!(input, Input::Agent(tag, AgentInput::Finished(_) | AgentInput::Failed(_))
                if Some(*tag) == current)
        });
        if !ended && let Some(run) = self.run.take() {
            outcome.effects.push(Effect::Cancel(run));
            if self.shared {
                // By the time of the next load others may have the session.
                outcome.effects.push(Effect::Typing(false));
            }
        }
    }

    /// Those who wait for an answer are told now; nothing of theirs was accepted.
    fn refuse_waiting(&mut self, outcome: &mut Outcome) {
        let mut revoked = Vec::new();
        self.backlog.retain(|input| match input {
            Input::Message(_) | Input::Control(..) => {
                outcome.unavailable.extend(token_of(input));
                false
            }
            Input::Agent(_, said) => match said {
                AgentInput::Finished(_) | AgentInput::Failed(_) | AgentInput::Used(_) => true,
                _ => {
                    revoked.extend(token_of(input));
                    false
                }
            },
            Input::Timer(_) | Input::UserTyping | Input::Adopt { .. } => false,
            Input::Delivered { .. }
            | Input::QuarantineGranted(_)
            | Input::Ruling { .. }
            | Input::Release => true,
        });
        if !revoked.is_empty() {
            // A run that is told so stops working, and would be waited for in vain.
            self.cut_run(outcome);
        }
        let answers =
            revoked.into_iter().map(|token| Effect::AgentAnswer(token, AgentAnswer::Revoked));
        outcome.effects.extend(answers);
    }

    /// Notes what the shell has and will have under way, and lets the effects go.
    fn release(&mut self, inputs: &[Input], mut effects: Vec<Effect>, outcome: &mut Outcome) {
        if self.guest && !planted(Planted::GuestActs) {
            effects.retain(is_answer);
        }
        for input in inputs {
            match input {
                Input::Agent(tag, AgentInput::Finished(_) | AgentInput::Failed(_))
                    if self.run == Some(*tag) =>
                {
                    self.run = None;
                }
                Input::Delivered { reply, part, attempt, .. }
                    if self.delivering == Some((*reply, *part, *attempt)) =>
                {
                    self.delivering = None;
                }
                _ => {}
            }
        }
        for effect in &effects {
            match effect {
                Effect::Start(start) => self.run = Some(start.tag),
                Effect::Cancel(tag) if self.run == Some(*tag) => self.run = None,
                Effect::Deliver(delivery) => {
                    self.delivering = Some((delivery.reply, delivery.part, delivery.attempt));
                }
                _ => {}
            }
        }
        if outcome.effects.is_empty() {
            outcome.effects = effects;
        } else {
            outcome.effects.extend(effects);
        }
    }
}
