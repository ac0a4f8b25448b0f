//! Who answers. An agent gets a turn and talks back through its handle.

use std::sync::Arc;

use super::BoxFuture;
use super::worktrees::Worktrees;
use crate::artifact::Stale;
use crate::ids::{QuestionId, RunTag, Seq, TurnGroupId};
use crate::journal::SupersedeChoice;
use crate::message::Pending;
use crate::policy::{ChannelFacts, Trust};
use crate::session::input::{Finished, RunFailure};
use crate::session::state::FinishReason;
use crate::session_key::SessionKey;
use crate::tool::{SideEffects, ToolOutcome};
use crate::trace::SpanContext;
use crate::usage::Usage;

/// Everything an agent gets to know of a turn.
#[derive(Clone)]
pub struct TurnContext {
    /// The conversation.
    pub session: SessionKey,
    /// Which turn, under whose ownership, which attempt.
    pub tag: RunTag,
    /// Its supersede chain: the base of tools' idempotency keys.
    pub group: TurnGroupId,
    /// Its trust.
    pub trust: Trust,
    /// What the channel can show.
    pub facts: ChannelFacts,
    /// The messages to answer, in order.
    pub messages: Vec<Pending>,
    /// Past the commit point: resume, don't start over.
    pub resume: bool,
    /// The way back.
    pub handle: Arc<dyn TurnHandle>,
}

/// This run was replaced or cancelled; stop working.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this run of the turn was replaced or cancelled")]
pub struct Revoked;

/// Why something that an agent asked for is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Declined {
    /// The run was replaced or cancelled.
    #[error(transparent)]
    Revoked(#[from] Revoked),
    /// The run goes on without it, for this reason.
    #[error("{0}")]
    Refused(&'static str),
}

impl Declined {
    /// In words, for whoever asked.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked(_) => "the turn was stopped, or this run of it was replaced",
            Self::Refused(why) => why,
        }
    }
}

/// Holds a provider slot; dropping it gives the slot back.
pub trait SlotGuard: Send + Sync {}

/// What an attempt has open of the system, as far as it can be told for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// So many files, pipes or connections of this process.
    Here(u32),
    /// Whatever the processes of this group have open, which is counted when somebody asks.
    Group(u32),
}

/// Something counts as open until this is dropped.
pub trait OpenGuard: Send + Sync {}

/// Where nobody counts.
impl OpenGuard for () {}

/// Who said something in the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The user.
    User,
    /// The agent.
    Agent,
    /// A person, in the agent's place.
    Operator,
}

/// One line of the conversation so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryEntry {
    /// Its place in the journal.
    pub seq: Seq,
    /// Who.
    pub role: Role,
    /// What.
    pub text: Arc<str>,
}

/// A question of the gateway: what to do with a message that arrived meanwhile?
#[derive(Clone, Debug)]
pub struct SupersedeQuestion {
    /// Names it.
    pub id: QuestionId,
    /// The message.
    pub message: Pending,
}

/// A call that an agent wants to make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolCall {
    /// Which tool.
    pub tool: Arc<str>,
    /// What it does to the world.
    pub effects: SideEffects,
    /// What tells this act from others of the tool within the turn group, like an order's number;
    /// without one, what it is called with does.
    pub key: Option<Arc<str>>,
    /// What it is called with.
    pub input: Arc<str>,
    /// The call that it undoes, which then names the act: the key and the input don't.
    pub compensates: Option<Seq>,
}

/// A call that was made for this turn group, by this attempt or an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedCall {
    /// Its place in the journal, which names it.
    pub call: Seq,
    /// Which tool.
    pub tool: Arc<str>,
    /// What it does to the world.
    pub effects: SideEffects,
    /// What it was called with.
    pub input: Arc<str>,
    /// What came of it. Unknown, too, if it is under way.
    pub outcome: ToolOutcome,
    /// What the tool said.
    pub output: Arc<str>,
    /// The call that it undid, or may have undone.
    pub compensates: Option<Seq>,
    /// The call that has undone it: it counts as not done.
    pub compensated_by: Option<Seq>,
}

/// What an artifact is made from, other artifacts apart. Equal inputs are told by their content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// Messages of this turn, by their places.
    pub messages: Vec<Seq>,
    /// Whatever else there is.
    pub text: Arc<str>,
}

/// Something that an agent made, and that a later attempt may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Artifact {
    /// Tells it from others of the turn group.
    pub name: Arc<str>,
    /// What it was made from.
    pub inputs: Inputs,
    /// The artifacts that it was made from; this attempt has recalled or kept each of them.
    pub depends: Vec<Arc<str>>,
    /// What it is.
    pub content: Arc<str>,
}

/// What came of keeping something, or of asking for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recalled {
    /// It is kept; its content.
    Kept(Arc<str>),
    /// It has to be made, for this reason.
    Stale(Stale),
    /// Not kept and not looked for, for this reason.
    Refused(&'static str),
}

/// Whether a call may be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Make it, then tell what came of it under this name.
    Call(Seq),
    /// Don't: this act was done, or may have been. What is known of it stands in for a result.
    Known(RecordedCall),
    /// Not before the mail is read, and the gateway's question is answered if there is one.
    MailFirst,
    /// Don't, for this reason.
    Refused(&'static str),
}

/// What an agent can do while it works.
pub trait TurnHandle: Send + Sync + 'static {
    /// Takes what arrived meanwhile into the turn; returns only after that is durable.
    fn mail(&self) -> BoxFuture<'_, Result<Vec<Pending>, Revoked>>;
    /// Whether mail is waiting, as far as this process knows.
    fn has_mail(&self) -> bool;
    /// Resolves once mail is waiting.
    fn mail_arrived(&self) -> BoxFuture<'_, ()>;
    /// Marks the turn as past its commit point; returns only once that is durable. After a refusal
    /// the irreversible act must not happen.
    fn commit_point(&self) -> BoxFuture<'_, Result<(), Declined>>;
    /// Streams text as a draft, to be shown and forgotten.
    fn say(&self, text: &str);
    /// Asks the user and waits for the answer. One question at a time. What an earlier attempt asked
    /// word for word, and the user answered while no run was there, is not asked again.
    fn ask(&self, text: &str) -> BoxFuture<'_, Result<Pending, Declined>>;
    /// The same where a stray answer would do harm: only what is said after the question counts.
    /// None, and nothing was asked, while mail waits that was not read.
    fn confirm(&self, text: &str) -> BoxFuture<'_, Result<Option<Pending>, Declined>>;
    /// Puts something on record.
    fn emit(&self, name: &str, detail: &str) -> BoxFuture<'_, Result<(), Revoked>>;
    /// Asks whether a tool may be called; returns only once that is durable. An irreversible tool
    /// takes the turn past its commit point.
    fn intend(&self, call: ToolCall) -> BoxFuture<'_, Result<Permission, Revoked>>;
    /// Tells what came of a call that was let through.
    fn returned(
        &self,
        call: Seq,
        outcome: ToolOutcome,
        output: &str,
    ) -> BoxFuture<'_, Result<(), Revoked>>;
    /// What tools did for this turn group before this attempt, in order; pure calls are not kept.
    fn recorded(&self) -> BoxFuture<'_, Result<Vec<RecordedCall>, String>>;
    /// Keeps an artifact for later attempts and for turns that take over from this one; returns
    /// only once that is durable.
    fn keep(&self, artifact: Artifact) -> BoxFuture<'_, Result<Recalled, Revoked>> {
        let _ = artifact;
        Box::pin(std::future::ready(Ok(Recalled::Refused("nothing can be kept here"))))
    }
    /// The artifact of this name, if it was made from these inputs, and from artifacts that this
    /// attempt has recalled or kept and that are what they were then.
    fn recall(&self, name: &str, inputs: Inputs) -> BoxFuture<'_, Result<Recalled, Revoked>> {
        let _ = (name, inputs);
        Box::pin(std::future::ready(Ok(Recalled::Stale(Stale::Missing))))
    }
    /// Resolves once the run was cancelled or asked to end.
    fn cancelled(&self) -> BoxFuture<'_, ()>;
    /// Resolves with the next question of the gateway.
    fn question(&self) -> BoxFuture<'_, SupersedeQuestion>;
    /// Answers it.
    fn answer(&self, question: QuestionId, choice: SupersedeChoice);
    /// Whether the agent was asked to finish now, without new tools: none is let through any more.
    fn finish_now(&self) -> bool;
    /// Resolves once it was, though not for a stop.
    fn finishing(&self) -> BoxFuture<'_, FinishReason> {
        Box::pin(std::future::pending())
    }
    /// Waits, in fairness, for the right to make one provider request.
    fn slot(&self) -> BoxFuture<'_, Box<dyn SlotGuard>>;
    /// The conversation before this turn, oldest first, at most `limit` lines, never behind the
    /// last `/new`.
    fn history(&self, limit: usize) -> BoxFuture<'_, Result<Vec<HistoryEntry>, String>>;
    /// The model that was chosen for this session, of those that the agent offers.
    fn model(&self) -> Option<Arc<str>> {
        None
    }
    /// Tells what is opened for the session, for as long as the answer lives. It may outlive the run,
    /// where a process takes its time to end.
    fn opened(&self, open: Open) -> Box<dyn OpenGuard> {
        let _ = open;
        Box::new(())
    }
    /// Tells what a request to a provider used; also of one that failed.
    fn used(&self, usage: Usage) {
        let _ = usage;
    }
    /// The span of this attempt, for whoever is asked on its behalf; none unless spans are
    /// collected.
    fn trace(&self) -> Option<SpanContext> {
        None
    }
}

/// The port.
pub trait Agent: Send + Sync + 'static {
    /// What kind of agent it is, for logs.
    fn kind(&self) -> &'static str;
    /// Answers one turn. Dropping the future must end the work.
    fn run(&self, turn: TurnContext) -> BoxFuture<'_, Result<Finished, RunFailure>>;
    /// The models that may be chosen, by the names that choose them, and what each is. The first
    /// is its own; none where there is nothing to choose.
    fn models(&self) -> &[(Arc<str>, Arc<str>)] {
        &[]
    }
    /// How many provider requests it may have under way at once; none for no limit.
    fn slots(&self) -> Option<usize> {
        None
    }
    /// The folders that it keeps for sessions, if it keeps any.
    fn worktrees(&self) -> Option<&dyn Worktrees> {
        None
    }
}
