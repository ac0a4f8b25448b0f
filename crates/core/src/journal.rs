//! The append-only history of a session: what SSE, audit and replay read.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use entry::Event;
pub use imported::{Heard, Imported, ImportedLine, ImportedRole};
pub use words::{CancelReason, CommandName, DeadReason, NoticeSource, SupersedeChoice};

use crate::artifact::{ArtifactName, Dependency, Fingerprint};
use crate::ids::{
    Attempt, Epoch, Generation, QuestionId, Seq, Seqs, Timestamp, TurnGroupId, TurnId,
};
use crate::message::Action;
use crate::policy::Trust;
use crate::tool::{ActName, SideEffects, ToolOutcome};
use crate::usage::Usage;

mod asked;
mod entry;
mod imported;
mod names;
mod words;

/// What happened. The serialised `type` is `category.name`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum EventBody {
    /// A message became ours; only now its channel was told so.
    #[serde(rename = "message.accepted")]
    MessageAccepted {
        /// The channel's own id.
        message_id: Arc<str>,
        /// Who wrote it.
        sender: Arc<str>,
        /// The text.
        text: Arc<str>,
        /// Fixed at acceptance.
        trust: Trust,
        /// What was decided.
        action: Action,
        /// The turn it joined, for now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        turn_id: Option<TurnId>,
        /// Turns ahead of it, if it was queued.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        queue_position: Option<u32>,
        /// On a retried dead letter: the place where the message stood before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_of: Option<Seq>,
        /// It waits for an external check, or behind one that does.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        held: bool,
        /// So many seconds after it came its text shall be nowhere any more, nor what is said to it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        disappears_s: Option<u32>,
    },
    /// Something was said to the gateway itself. What it asks for is done in the same step.
    #[serde(rename = "message.command")]
    MessageCommand {
        /// The channel's own id.
        message_id: Arc<str>,
        /// Who wrote it.
        sender: Arc<str>,
        /// The text.
        text: Arc<str>,
        /// How far its sender is trusted.
        trust: Trust,
        /// What it asks for.
        command: CommandName,
        /// It was not done: who wrote what it is about is trusted further than its sender.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        refused: bool,
        /// The same as of a message.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        disappears_s: Option<u32>,
    },
    /// Something was said in the agent's presence and not to it; the next turn may read it.
    #[serde(rename = "message.context")]
    MessageContext {
        /// The channel's own id.
        message_id: Arc<str>,
        /// Who wrote it.
        sender: Arc<str>,
        /// The text.
        text: Arc<str>,
        /// How far its sender is trusted.
        trust: Trust,
        /// The place of its acceptance, if it was held.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<Seq>,
        /// Nobody said in time whether it was for the agent, or nobody had to.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        by_default: bool,
        /// The same as of a message; where it was held, that of its acceptance counts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        disappears_s: Option<u32>,
    },
    /// A turn began to gather messages.
    #[serde(rename = "turn.started")]
    TurnStarted {
        /// Which.
        turn_id: TurnId,
        /// Its supersede chain.
        turn_group_id: TurnGroupId,
        /// The messages it starts with.
        messages: Seqs,
        /// The turn it supersedes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        supersedes: Option<TurnId>,
    },
    /// An attempt was handed to the agent.
    #[serde(rename = "turn.processing")]
    TurnProcessing {
        /// Which turn.
        turn_id: TurnId,
        /// Which attempt, from 1.
        attempt: Attempt,
        /// Under whose ownership.
        epoch: Epoch,
        /// Every message it starts with.
        messages: Seqs,
    },
    /// The agent took messages from the mailbox.
    #[serde(rename = "turn.message_absorbed")]
    TurnMessageAbsorbed {
        /// Which turn.
        turn_id: TurnId,
        /// What it took.
        messages: Seqs,
    },
    /// The agent asked the user something.
    #[serde(rename = "turn.waiting_for_input")]
    TurnWaitingForInput {
        /// Which turn.
        turn_id: TurnId,
        /// Names the question.
        question_id: QuestionId,
        /// What the user is asked.
        text: Arc<str>,
        /// Only what was said after it is an answer.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        confirm: bool,
    },
    /// The turn waits for the operator who has the agent's place.
    #[serde(rename = "turn.waiting_for_operator")]
    TurnWaitingForOperator {
        /// Which turn.
        turn_id: TurnId,
        /// Every message it waits with; later ones join it.
        messages: Seqs,
        /// What its agent failed with, if it did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Arc<str>>,
    },
    /// The user answered.
    #[serde(rename = "turn.answered")]
    TurnAnswered {
        /// Which turn.
        turn_id: TurnId,
        /// Which question.
        question_id: QuestionId,
        /// The message that answered it.
        message: Seq,
    },
    /// An attempt failed and another one follows.
    #[serde(rename = "turn.retrying")]
    TurnRetrying {
        /// Which turn.
        turn_id: TurnId,
        /// The attempt that failed.
        attempt: Attempt,
        /// What went wrong.
        error: Arc<str>,
        /// When the next one starts.
        retry_at: Timestamp,
    },
    /// A turn was found open by a new owner.
    #[serde(rename = "turn.recovered")]
    TurnRecovered {
        /// Which turn.
        turn_id: TurnId,
        /// The new owner.
        epoch: Epoch,
        /// How often this turn was found so after its agent had started.
        recoveries: u32,
    },
    /// A new message took the turn's place.
    #[serde(rename = "turn.superseded")]
    TurnSuperseded {
        /// Which turn.
        turn_id: TurnId,
        /// The turn that goes on with its messages.
        by: TurnId,
    },
    /// The turn committed: these messages are answered.
    #[serde(rename = "turn.completed")]
    TurnCompleted {
        /// Which turn.
        turn_id: TurnId,
        /// The attempt that finished.
        attempt: Attempt,
        /// Under whose ownership.
        epoch: Epoch,
        /// What it answers.
        messages: Seqs,
        /// The reply; none where the agent chose silence.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply: Option<Arc<str>>,
        /// Which version of the agent answered, where it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<Arc<str>>,
        /// The operator who answered in the agent's place.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Arc<str>>,
    },
    /// The turn was ended by a person.
    #[serde(rename = "turn.cancelled")]
    TurnCancelled {
        /// Which turn.
        turn_id: TurnId,
        /// Why.
        reason: CancelReason,
        /// Its messages and its mailbox.
        messages: Seqs,
        /// The part of the reply that was already shown.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reply: Option<Arc<str>>,
        /// The calls that were made for it, or may have been, and that stand.
        #[serde(default, skip_serializing_if = "Seqs::is_empty")]
        acts: Seqs,
    },
    /// The turn gave up; its messages are dead letters.
    #[serde(rename = "turn.failed")]
    TurnFailed {
        /// Which turn.
        turn_id: TurnId,
        /// Why.
        reason: DeadReason,
        /// The last error, in words.
        error: Arc<str>,
        /// Its messages.
        messages: Seqs,
        /// The calls that were made for it, or may have been, and that stand.
        #[serde(default, skip_serializing_if = "Seqs::is_empty")]
        acts: Seqs,
    },
    /// The turn may now do what can't be undone; it is never superseded from here on.
    #[serde(rename = "commit.reached")]
    CommitReached {
        /// Which turn.
        turn_id: TurnId,
        /// Which attempt.
        attempt: Attempt,
    },
    /// The agent was asked what to do with new mail.
    #[serde(rename = "supersede.asked")]
    SupersedeAsked {
        /// Which turn.
        turn_id: TurnId,
        /// Names the question.
        question_id: QuestionId,
    },
    /// The question was settled.
    #[serde(rename = "supersede.decided")]
    SupersedeDecided {
        /// Which turn.
        turn_id: TurnId,
        /// Names the question.
        question_id: QuestionId,
        /// How.
        choice: SupersedeChoice,
        /// The agent did not answer in time, so the default was taken.
        by_default: bool,
    },
    /// A tool is about to be called; its place names the call.
    #[serde(rename = "tool.intended")]
    ToolIntended {
        /// Which turn.
        turn_id: TurnId,
        /// Which attempt makes the call.
        attempt: Attempt,
        /// Which tool.
        tool: Arc<str>,
        /// What it does to the world.
        effects: SideEffects,
        /// Which act it is, within the turn group.
        act: ActName,
        /// What it is called with.
        input: Arc<str>,
        /// The call that it undoes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        compensates: Option<Seq>,
    },
    /// What came of a call.
    #[serde(rename = "tool.returned")]
    ToolReturned {
        /// Which turn.
        turn_id: TurnId,
        /// The place of its intent.
        call: Seq,
        /// Whether it was done.
        outcome: ToolOutcome,
        /// What the tool said; empty if it said nothing, or nobody knows.
        output: Arc<str>,
    },
    /// What a run used for one request to a provider; also of a run that is over.
    #[serde(rename = "usage.recorded")]
    UsageRecorded {
        /// Which turn.
        turn_id: TurnId,
        /// Which attempt.
        attempt: Attempt,
        /// The agent that did the work, where it is not the session's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<Arc<str>>,
        /// How much.
        usage: Usage,
    },
    /// The agent made something that a later attempt may use.
    #[serde(rename = "artifact.kept")]
    ArtifactKept {
        /// Which turn.
        turn_id: TurnId,
        /// Which attempt made it.
        attempt: Attempt,
        /// What the agent calls it.
        name: Arc<str>,
        /// The same as a hash, which the text's erasure leaves.
        artifact: ArtifactName,
        /// What it was made from, other artifacts apart, as a hash.
        inputs: Fingerprint,
        /// What it is, as a hash.
        fingerprint: Fingerprint,
        /// The artifacts that it was made from, as they were.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        depends: Vec<Dependency>,
        /// What it is.
        content: Arc<str>,
    },
    /// An attempt took an artifact instead of making it again.
    #[serde(rename = "artifact.reused")]
    ArtifactReused {
        /// Which turn.
        turn_id: TurnId,
        /// Which attempt took it.
        attempt: Attempt,
        /// The place at which it was kept.
        kept: Seq,
        /// What the attempt would have made it from, as a hash.
        inputs: Fingerprint,
    },
    /// Something the agent wanted on record.
    #[serde(rename = "agent.event")]
    AgentEvent {
        /// Which turn.
        turn_id: TurnId,
        /// What the agent calls it.
        name: Arc<str>,
        /// What it says of it.
        detail: Arc<str>,
    },
    /// Queued messages were given up by a reset or a close.
    #[serde(rename = "message.cancelled")]
    MessageCancelled {
        /// Which.
        messages: Seqs,
        /// Why.
        reason: CancelReason,
    },
    /// Queued messages waited too long; they are dead letters.
    #[serde(rename = "message.expired")]
    MessageExpired {
        /// Which.
        messages: Seqs,
    },
    /// Messages left a running turn for the queue.
    #[serde(rename = "message.requeued")]
    MessageRequeued {
        /// Which.
        messages: Seqs,
    },
    /// A person gave a dead letter up.
    #[serde(rename = "message.discarded")]
    MessageDiscarded {
        /// Which.
        message: Seq,
    },
    /// A message that was held goes on.
    #[serde(rename = "guard.allowed")]
    GuardAllowed {
        /// Which.
        message: Seq,
        /// Nobody ruled in time, or nobody had to.
        by_default: bool,
    },
    /// A message that was held goes nowhere; it is discarded.
    #[serde(rename = "guard.refused")]
    GuardRefused {
        /// Which.
        message: Seq,
        /// Nobody ruled in time.
        by_default: bool,
        /// Why, in the words of whoever checked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<Arc<str>>,
    },
    /// A new conversation began.
    #[serde(rename = "session.reset")]
    SessionReset {
        /// The new generation.
        generation: Generation,
    },
    /// The session was closed.
    #[serde(rename = "session.closed")]
    SessionClosed,
    /// A message, a retry or a new conversation opened it again.
    #[serde(rename = "session.reopened")]
    SessionReopened,
    /// The user was told something that is no agent's reply.
    #[serde(rename = "session.notice")]
    SessionNotice {
        /// What.
        text: Arc<str>,
        /// Who had it told.
        #[serde(default, skip_serializing_if = "NoticeSource::is_gateway")]
        source: NoticeSource,
        /// The sender's own id of it, or one that the gateway made.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message_id: Option<Arc<str>>,
        /// The place of its acceptance, if it had to wait, or of the command that it answers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        of: Option<Seq>,
        /// The operator who said it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Arc<str>>,
    },
    /// An operator took the agent's place.
    #[serde(rename = "session.paused")]
    SessionPaused {
        /// Their name.
        by: Arc<str>,
        /// The operator who had it before, if another one did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<Arc<str>>,
    },
    /// The agent has its place again.
    #[serde(rename = "session.handed_back")]
    SessionHandedBack {
        /// Who said so; nobody where the operator's time was over, or the session was closed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Arc<str>>,
    },
    /// Something to tell the user is ours; it waits for the open turn's end.
    #[serde(rename = "session.notice_accepted")]
    SessionNoticeAccepted {
        /// The sender's own id of it, or one that the gateway made.
        message_id: Arc<str>,
        /// What.
        text: Arc<str>,
        /// A job or a reminder has it told.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        scheduled: bool,
    },
    /// Notices that waited are not told any more.
    #[serde(rename = "session.notice_cancelled")]
    SessionNoticeCancelled {
        /// Which, by the places of their acceptance.
        notices: Seqs,
        /// Why.
        reason: CancelReason,
    },
    /// From here on the customer takes messages that nobody asked for.
    #[serde(rename = "session.opted_in")]
    SessionOptedIn,
    /// From here on the customer takes none.
    #[serde(rename = "session.opted_out")]
    SessionOptedOut,
    /// The conversation was had elsewhere; what was said there stands behind this.
    #[serde(rename = "session.imported")]
    SessionImported(Box<Imported>),
    /// Something that was said elsewhere.
    #[serde(rename = "history.imported")]
    HistoryImported(Box<ImportedLine>),
    /// A part of a reply reached its channel, or is given up, or nobody knows.
    #[serde(rename = "delivery.settled")]
    DeliverySettled {
        /// The journal place of the reply.
        reply: Seq,
        /// Which part of it, from 0.
        part: u32,
        /// How it ended.
        state: crate::outbox::DeliveryState,
        /// What the channel said, where it said anything.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<Arc<str>>,
    },
}
