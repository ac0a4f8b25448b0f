//! What the shell does after the commit, and why an input changed nothing.

use std::sync::Arc;

use crate::artifact::{Kept, Stale};
use crate::ids::{QuestionId, RunTag, Seq, Token, TurnGroupId, TurnId};
use crate::message::{Decision, Pending};
use crate::moderation::Check;
use crate::outbox::Delivery;
use crate::policy::Trust;
use crate::session::state::FinishReason;
use crate::tool::{Act, Denied};

/// One deed for the shell. Effects of one commit are run in order, never before it.
#[derive(Clone, Debug)]
pub enum Effect {
    // To whoever waits.
    /// Tell the submitter what was decided.
    Decided(Token, Decision),
    /// Tell the person who steers what came of it.
    Controlled(Token, Controlled),
    /// Tell the run what it asked for.
    AgentAnswer(Token, AgentAnswer),

    // To the run.
    /// Start an attempt.
    Start(Box<StartRun>),
    /// Mail is waiting.
    MailWaiting(RunTag),
    /// End it; nothing it says is taken any more.
    Cancel(RunTag),
    /// Ask it to end by itself; a call in flight may still be recorded.
    Wind(RunTag),
    /// Ask it what to do with this message.
    AskAgent(RunTag, QuestionId, Box<Pending>),
    /// Ask it to finish now, without new tools.
    FinishNow(RunTag, FinishReason),
    /// Give it the user's answer.
    AnswerRun(RunTag, QuestionId, Box<Pending>),
    /// Ask for the place in which suspect turns run one at a time.
    RequestQuarantine(TurnId),

    // To whoever checks messages.
    /// Ask this about a held message, within so many milliseconds. It may be under way already.
    Check(Box<Pending>, Check, u64),

    // To the channel.
    /// Show or hide that the agent is typing.
    Typing(bool),
    /// Send a part of a reply.
    Deliver(Box<Delivery>),
}

/// An attempt to start.
#[derive(Clone, Debug)]
pub struct StartRun {
    /// What the run must show.
    pub tag: RunTag,
    /// Its supersede chain.
    pub group: TurnGroupId,
    /// Its trust.
    pub trust: Trust,
    /// The messages to answer.
    pub messages: Vec<Pending>,
    /// Past the commit point: resume from recorded results.
    pub resume: bool,
    /// What tools did for its group so far.
    pub acts: Vec<Act>,
    /// It shall finish without new work.
    pub finishing: Option<FinishReason>,
    /// The question that was answered while no run was there, if the answer is the last message.
    pub answered: Option<QuestionId>,
    /// It holds the place for suspect turns, to be given back at its end.
    pub quarantined: bool,
    /// History never reaches behind this place.
    pub history_from: Seq,
    /// The model that was chosen for this session.
    pub model: Option<Arc<str>>,
}

/// What came of a person's steering.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Controlled {
    /// The turn ended.
    Stopped(TurnId),
    /// The turn is past its commit point; it ends after the call in flight.
    Stopping(TurnId),
    /// Nothing runs.
    NothingRuns,
    /// Another turn runs than the one named.
    OtherTurn(TurnId),
    /// A new conversation began, and this many accepted messages were cancelled.
    Reset(u32),
    /// Closed, and this many accepted messages were cancelled.
    Closed(u32),
    /// A notice is ours.
    Noticed {
        /// Its place in the journal.
        seq: Seq,
        /// It waits for the open turn's end.
        waits: bool,
        /// It came before; this is what its twin was told.
        duplicate: bool,
    },
    /// A notice that is not taken: the customer did not opt in.
    NotOptedIn,
    /// A notice that is not taken: too many wait to be told or delivered.
    NoticesFull,
    /// A notice that is not taken: the session is closed and its channel doesn't reopen it.
    IsClosed,
    /// A notice that is not taken: the same id came before with another text.
    NoticeReused,
    /// An operator has the session.
    Paused,
    /// Another operator has it, whose name this is, and keeps it.
    PausedByOther(Arc<str>),
    /// The agent has it again.
    HandedBack,
    /// No operator has the session, so there is nothing to hand back and nobody to answer as.
    NotPaused,
    /// What an operator said is ours.
    Replied {
        /// Its place in the journal.
        seq: Seq,
        /// The turn that it completed; none if nothing waited for an answer.
        turn: Option<TurnId>,
        /// It came before; this is what its twin was told.
        duplicate: bool,
    },
    /// A conversation that was had elsewhere begins this one, with so many lines.
    Imported(u32),
    /// An import that is not taken: something stands here already.
    NotNew,
    /// Done.
    Done,
    /// A retried dead letter: what was decided on it.
    Retried(Decision),
    /// It is no longer there, or not as it was: somebody else was first.
    Gone,
    /// The inbox is full, so the dead letter stays.
    QueueFull,
    /// It would have to wait, and nothing may, so the dead letter stays.
    Busy,
}

/// What a run is told.
#[derive(Clone, Debug)]
pub enum AgentAnswer {
    /// The mail, now part of the turn; often empty.
    Mail(Vec<Pending>),
    /// The commit point is durable: go ahead.
    Granted,
    /// Not granted: don't do it.
    Refused,
    /// Call the tool; this place names the call.
    Call(Seq),
    /// Don't: it was done, or may have been.
    Known(Box<Act>),
    /// Not before the mail is read: it may change what is wanted.
    MailFirst,
    /// Don't call it, for this reason.
    NotAllowed(Denied),
    /// The question stands; the answer comes as [`Effect::AnswerRun`].
    Asked(QuestionId),
    /// On record.
    Recorded,
    /// The artifact, or why it must be made.
    Recalled(Result<Box<Kept>, Stale>),
    /// This run was replaced or cancelled; nothing it says is taken.
    Revoked,
}

/// Why an input changed nothing: every illegal pair of state and input has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ignored {
    /// A run that was replaced, cancelled or belongs to an older owner.
    StaleRun,
    /// A timer that is no longer the one armed.
    StaleTimer,
    /// An answer to a question that is settled.
    StaleQuestion,
    /// A check of a message that is not held, or was ruled on.
    StaleRuling,
    /// The user types while nothing gathers.
    TypingNotGathering,
    /// A place granted to a turn that no longer wants it.
    QuarantineNotWanted,
    /// A delivery that is not under way.
    StaleDelivery,
    /// A result of a call that is not under way.
    NoSuchCall,
    /// A report of what a run used that is on record already.
    BookedUsage,
    /// This owner already has the session.
    AlreadyAdopted,
    /// A later owner has it.
    NotTheOwner,
    /// A run that is waiting for the user can't ask for anything else.
    RunIsWaiting,
    /// There is nothing to lay down.
    NothingToRelease,
    /// Nothing in the queue has expired yet.
    NothingExpired,
    /// Control: nothing runs, another turn runs, or it was so already.
    NothingToControl,
}

/// A failure notice's words.
#[must_use]
pub fn failure_notice(trusted_detail: Option<&str>) -> Arc<str> {
    match trusted_detail {
        Some(detail) => format!("Sorry, I could not answer that: {detail}").into(),
        None => "Sorry, I could not answer that. Please try again later.".into(),
    }
}
