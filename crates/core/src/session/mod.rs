//! A session's rules: `step(state, input, context)` makes the next state, rows and effects.
//!
//! [`step`] only dispatches; one file a kind of input:
//! [`on_message`], [`on_command`], [`on_held`], [`on_notice`], [`on_agent`], [`on_ask`], [`on_tool`], [`on_artifact`], [`on_timer`], [`on_control`], [`on_import`], [`on_stop`], [`on_operator`], [`on_delivery`], [`on_owner`];
//! [`turn`] holds how a turn begins and ends, which all of them share.

pub mod effect;
pub mod input;
pub mod state;

mod on_agent;
mod on_artifact;
mod on_ask;
mod on_command;
mod on_control;
mod on_delivery;
mod on_held;
mod on_import;
mod on_message;
mod on_notice;
mod on_operator;
mod on_owner;
mod on_stop;
mod on_timer;
mod on_tool;
mod on_usage;
mod turn;

use crate::ids::{Epoch, Seq, TimerId, Timestamp, TurnId};
use crate::journal::{Event, EventBody};
use crate::policy::Policy;
use crate::ports::store::Rows;
use crate::session_key::SessionKey;

pub use effect::{AgentAnswer, Controlled, Effect, Ignored, StartRun};
pub use input::{AgentInput, Control, Finished, Input, RunFailure};
pub use on_ask::Answered;
pub use on_held::QUESTION_OVER;
pub use on_notice::NOTICES_MAX;
pub use on_operator::Paused;
pub use on_tool::Done;
pub use on_usage::Report;
pub use state::{
    Burst, FinishReason, Held, HeldAs, Notice, Query, Session, SessionStatus, Stage, Turn, Wake,
};
pub use turn::NO_REPLY;

/// How long a dedupe key is kept at least.
pub const SEEN_KEPT_MS: i64 = 8 * 24 * 3_600_000;

/// Entries and effects that most steps make at most, so that their room is taken once.
const ROOM: usize = 3;

/// What a step knows of the world.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Whose state it is.
    pub key: &'a SessionKey,
    /// The wall clock.
    pub now: Timestamp,
    /// Who owns the session now.
    pub epoch: Epoch,
    /// Whether what it owns runs here: attempts begin and parts are sent only then. Who steps in
    /// another's place leaves both to whoever has the session.
    pub runs: bool,
    /// The numbers it lives by.
    pub policy: &'a Policy,
    /// An id nobody used yet, for the one turn that this step may begin.
    pub fresh: TurnId,
}

/// What a step asks for: rows to commit with the state, effects to run after that.
#[derive(Debug, Default)]
pub struct Step {
    /// To be committed together with the state.
    pub rows: Rows,
    /// To be run, in order, once the commit is durable.
    pub effects: Vec<Effect>,
    /// The state changed, so there must be a commit even without rows.
    pub changed: bool,
    /// The input changed nothing, for this reason. Of several inputs: the last one's.
    pub ignored: Option<Ignored>,
}

/// Takes one input; the state becomes the next one in its place, for it is too big to be handed to
/// and fro. Adds to `step`, so that the inputs of one commit share their rows and effects.
pub fn step(session: &mut Session, input: &Input, context: &Context<'_>, step: &mut Step) {
    let mut machine = Machine { session, context, step, turn_row_due: false };
    machine.step.ignored = None;
    let before = (machine.step.rows.events.len(), machine.step.changed);
    machine.dispatch(input);
    if machine.turn_row_due {
        machine.put_open_row();
    }
    if before != (machine.step.rows.events.len(), machine.step.changed) {
        machine.session.epoch = context.epoch;
        machine.session.updated_at = context.now;
        machine.step.changed = true;
    }
}

/// The state under the hand of one step.
struct Machine<'a> {
    session: &'a mut Session,
    context: &'a Context<'a>,
    step: &'a mut Step,
    /// The open turn's row has to be written; once, at the end of the step.
    turn_row_due: bool,
}

impl Machine<'_> {
    fn dispatch(&mut self, input: &Input) {
        match input {
            Input::Adopt { run, delivering } => self.on_adopt(*run, *delivering),
            Input::Release => self.on_release(),
            Input::QuarantineGranted(turn) => self.on_quarantine_granted(*turn),
            Input::Message(message) => self.on_message(message),
            Input::Ruling { seq, ruling, reason } => {
                self.on_ruling(*seq, *ruling, reason.as_ref());
            }
            Input::UserTyping => self.on_user_typing(),
            Input::Timer(wake) => self.on_timer(*wake),
            Input::Agent(tag, said) => self.on_agent(*tag, said),
            Input::Control(token, control) => self.on_control(*token, control),
            Input::Delivered { reply, part, attempt, outcome } => {
                self.on_delivered(*reply, *part, *attempt, outcome);
            }
        }
    }

    /// Writes the next journal entry.
    fn journal(&mut self, body: EventBody) -> Seq {
        let seq = self.session.last_seq.next();
        self.session.last_seq = seq;
        if self.step.rows.events.capacity() == 0 {
            self.step.rows.events = Vec::with_capacity(ROOM);
        }
        self.step.rows.events.push(Event { seq, at: self.context.now, body });
        seq
    }

    fn effect(&mut self, effect: Effect) {
        if self.step.effects.capacity() == 0 {
            self.step.effects = Vec::with_capacity(ROOM);
        }
        self.step.effects.push(effect);
    }

    fn ignore(&mut self, why: Ignored) {
        self.step.ignored = Some(why);
    }

    /// The state changed in a way that the journal doesn't tell.
    fn changed(&mut self) {
        self.step.changed = true;
    }

    fn next_timer(&mut self) -> TimerId {
        self.session.last_timer = self.session.last_timer.next();
        self.session.last_timer
    }

    fn deadline(&mut self, duration_ms: u64) -> crate::accumulation::Deadline {
        crate::accumulation::Deadline {
            id: self.next_timer(),
            at: self.context.now.saturating_add_unsigned(duration_ms),
            duration_ms,
        }
    }
}

#[cfg(test)]
mod tests;
