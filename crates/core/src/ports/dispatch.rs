//! Which of several nodes runs a turn, as something outside decides it.
//!
//! A dispatcher says no more than "look at this session". It may say so late, twice, to two at once,
//! and to somebody who stood still meanwhile. Who has a session stands in the store, under its
//! epoch: whoever is given a step loads the session first, and takes it only if nobody has it who
//! runs turns. Ids go through a dispatcher, nothing else.

use std::sync::Arc;

use super::BoxFuture;
use crate::ids::{Epoch, TurnId};
use crate::session_key::SessionKey;

/// A turn as it was handed over: the same one under another epoch, or for another time, is another
/// errand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errand {
    /// Whose turn.
    pub session: SessionKey,
    /// Which.
    pub turn: TurnId,
    /// Under whose ownership it stood when it was handed over.
    pub epoch: Epoch,
    /// How often it was handed over like this before, in vain.
    pub round: u32,
}

/// What a node that runs turns is told to see to. Each is done by looking after the session until
/// it is true; none of them does anything by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TurnStep {
    /// The session is this node's.
    Acquire,
    /// The turn has gathered its messages.
    Accumulate,
    /// The agent has answered, or asks the user something.
    RunAgent,
    /// The answer is committed, and on its way.
    CommitAndRespond,
}

impl TurnStep {
    /// In their order.
    pub const ALL: [Self; 4] =
        [Self::Acquire, Self::Accumulate, Self::RunAgent, Self::CommitAndRespond];

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Acquire => "acquire",
            Self::Accumulate => "accumulate",
            Self::RunAgent => "run_agent",
            Self::CommitAndRespond => "commit_and_respond",
        }
    }
}

/// What came of handing a turn over. Both are a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dispatched {
    /// It waits for a worker.
    New,
    /// It was handed over under this epoch before.
    Before,
}

/// Why a turn is not known to be handed over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DispatchError {
    /// A later try may go well. What was asked for may have happened.
    #[error("{0}")]
    Away(String),
    /// It stays so until a person changes something.
    #[error("{0}")]
    Refused(String),
}

/// What is wrong with a dispatcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amiss {
    /// Why, for people.
    pub why: Arc<str>,
    /// For how long, in milliseconds.
    pub lasts_ms: u64,
}

/// How a dispatcher is doing, as far as it can tell by itself. That it answers does not say that it
/// dispatches: whoever hands over measures that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DispatchHealth {
    /// It does not answer; none if it does, or nobody asked.
    pub link: Option<Amiss>,
    /// This node hears no steps; none if it does, or wants none.
    pub steps: Option<Amiss>,
}

/// Hands turns to whoever runs them.
pub trait Dispatcher: Send + Sync + 'static {
    /// Has some node look at this turn. May be repeated: the same errand is given out once, also if
    /// nothing came of it. So whoever waits in vain hands the turn over for another round.
    fn dispatch<'a>(
        &'a self,
        errand: &'a Errand,
    ) -> BoxFuture<'a, Result<Dispatched, DispatchError>>;

    /// Somebody has taken this turn, so nobody waits for it any more.
    fn taken(&self, errand: &Errand);

    /// Nobody needs this errand any more. A courtesy: it may be given out all the same.
    fn cancel<'a>(&'a self, errand: &'a Errand) -> BoxFuture<'a, ()>;

    /// How it is doing. Never blocks.
    fn health(&self) -> DispatchHealth;
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// It is so.
    Done,
    /// The turn is over, or somebody else has it: nobody should try again.
    Refused(Arc<str>),
    /// It is not so, and whoever is given the step next may have more luck.
    Failed(Arc<str>),
    /// It was to be stopped.
    Stopped,
}

/// Where to tell what became of one step. One that is dropped tells nothing: the step is given out
/// again when its time is over.
pub trait StepReport: Send {
    /// It was begun.
    fn begun(&self) -> BoxFuture<'_, ()>;

    /// It ended like this. Tried for a while where nobody answers.
    fn ended(self: Box<Self>, outcome: StepOutcome) -> BoxFuture<'static, ()>;
}

/// A step to be seen to.
pub struct Task {
    /// Of which turn.
    pub errand: Errand,
    /// Which step.
    pub step: TurnStep,
    /// How often it was given out before.
    pub again: u32,
    /// Where to tell what became of it.
    pub report: Box<dyn StepReport>,
}

/// What a node that runs turns is told.
pub enum Order {
    /// See to a step.
    Start(Task),
    /// Nobody waits for the steps of this errand any more.
    Stop(TurnId, Epoch),
}

/// What a node hears that takes part in running turns.
pub trait Orders: Send + 'static {
    /// The next order; none once it takes part no more. What is not asked for within a quarter of a
    /// second may be given to others.
    fn next(&mut self) -> BoxFuture<'_, Option<Order>>;
}

/// A node's part in running turns.
pub trait Worker: Send + Sync + 'static {
    /// Has it given nothing more. Orders go on to come until this returns.
    fn drain(&self) -> BoxFuture<'_, ()>;

    /// Takes part no more.
    fn leave(&self) -> BoxFuture<'_, ()>;
}
