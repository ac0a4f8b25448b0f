//! What reaches a session's task.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use turnkeep_core::ids::{Epoch, RunTag, Seq, Token, TurnId};
use turnkeep_core::message::Inbound;
use turnkeep_core::moderation::Ruling;
use turnkeep_core::outbox::DeliveryOutcome;
use turnkeep_core::session::{AgentAnswer, AgentInput, Control, Controlled};
use turnkeep_core::trace::SpanContext;

use crate::cluster::Taken;
use crate::dispatch::Post;
use crate::follow::Settled;
use crate::live::Live;
use crate::service::Accepted;

/// One thing for a session's task. Small, because a channel keeps room for 32 of them and a hundred
/// thousand sessions may be open: whatever is larger than two words is boxed.
pub(crate) enum Mail {
    /// An admitted message.
    Submit(Box<Submit>),
    /// A person steers.
    Control(Box<Control>, oneshot::Sender<Result<Controlled, String>>),
    /// A run wants something and waits.
    Ask(Box<Ask>),
    /// A run says something and doesn't wait.
    Say(Box<(RunTag, AgentInput)>),
    /// A delivery ended.
    Delivered(Box<Delivered>),
    /// A check of a held message ended.
    Ruled(Box<Ruled>),
    /// The place for suspect turns is this turn's.
    Quarantine(Box<(TurnId, OwnedSemaphorePermit)>),
    /// Somebody wants to know how a message ends.
    Follow(Seq, oneshot::Sender<Settled>),
    /// Somebody watches.
    Watch(Arc<Live>),
    /// The user is typing.
    UserTyping,
    /// Look after the session: it has open work.
    Tend,
    /// Another node wrote the session: load it again.
    Look,
    /// The same where nobody has it: it is on its way here for as long as the other lives.
    Take(Taken),
    /// Run its turns on this node, though it runs none otherwise: nobody else takes them.
    RunHere(Box<(Epoch, Post)>),
    /// The configuration was replaced.
    Renew,
    /// Tell the switchboard what the session takes now, though nothing was committed.
    Weigh,
    /// Nobody has to do with the session: what is kept of it in memory goes, and the task leaves.
    Rest,
    /// Lay down what runs and leave.
    Release,
}

/// A message and those who wait for it.
pub(crate) struct Submit {
    pub(crate) inbound: Inbound,
    pub(crate) reply: oneshot::Sender<Result<Accepted, String>>,
    pub(crate) settle: Option<oneshot::Sender<Settled>>,
    pub(crate) since: Instant,
    /// The message's span, where spans are collected.
    pub(crate) trace: Option<SpanContext>,
}

/// What a run wants, and its way to hear the answer.
pub(crate) struct Ask {
    pub(crate) tag: RunTag,
    pub(crate) input: Box<dyn FnOnce(Token) -> AgentInput + Send>,
    pub(crate) reply: oneshot::Sender<AgentAnswer>,
}

/// How a check of a held message ended.
pub(crate) struct Ruled {
    pub(crate) seq: Seq,
    /// What came of it, and why; none if nothing did in time.
    pub(crate) ruled: Option<(Ruling, Option<Arc<str>>)>,
}

/// How a delivery ended.
pub(crate) struct Delivered {
    pub(crate) reply: Seq,
    pub(crate) part: u32,
    pub(crate) attempt: u32,
    pub(crate) outcome: DeliveryOutcome,
}
