//! Everything that can happen to a session.

use std::sync::Arc;

use crate::accumulation::Hint;
use crate::artifact::{ArtifactName, Fingerprint, NewArtifact};
use crate::ids::{QuestionId, RunTag, Seq, Token, TurnGroupId, TurnId};
use crate::import::Import;
use crate::journal::SupersedeChoice;
use crate::message::{Inbound, MessageBody, Seen};
use crate::moderation::Ruling;
use crate::outbox::{DeliveryOutcome, DeliveryState};
use crate::policy::{BusyPolicy, Trust};
use crate::session::state::Wake;
use crate::tool::{Intent, ToolOutcome};

/// One thing that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// The session was loaded: take it over if its last owner was another one, and repair what
    /// the shell lost otherwise.
    Adopt {
        /// The run that the shell still has.
        run: Option<RunTag>,
        /// The delivery it has under way: reply, part, try.
        delivering: Option<(Seq, u32, u32)>,
    },
    /// An admitted message.
    Message(Inbound),
    /// An external check of a held message ended.
    Ruling {
        /// The message's place.
        seq: Seq,
        /// What becomes of it.
        ruling: Ruling,
        /// Why.
        reason: Option<Arc<str>>,
    },
    /// The user is typing.
    UserTyping,
    /// A timer fired.
    Timer(Wake),
    /// The run of a turn says something.
    Agent(RunTag, AgentInput),
    /// The place for suspect turns is free for this one.
    QuarantineGranted(TurnId),
    /// A person steers.
    Control(Token, Control),
    /// A delivery ended.
    Delivered {
        /// The journal place of the reply.
        reply: Seq,
        /// Which part of it.
        part: u32,
        /// Which try.
        attempt: u32,
        /// How it ended.
        outcome: DeliveryOutcome,
    },
    /// The process is going down: whatever runs is laid down uncounted, to be taken up again.
    Release,
}

/// What a run says.
#[derive(Clone, Debug)]
pub enum AgentInput {
    /// It wants the mail.
    TakeMail(Token),
    /// It is about to do what can't be undone.
    CommitPoint(Token),
    /// It asks the user something and waits.
    Ask(Token, Arc<str>),
    /// The same, but only what is said from here on is an answer: mail that waits is read first.
    Confirm(Token, Arc<str>),
    /// It asks again what an earlier attempt asked, word for word, and what was answered while no
    /// run was there.
    AskAgain(Token, QuestionId),
    /// Something for the record.
    Emit(Token, Arc<str>, Arc<str>),
    /// Its answer to a supersede question.
    Answer(QuestionId, SupersedeChoice),
    /// A tool is to be called; the answer says whether it may be.
    Intend(Token, Box<Intent>),
    /// What came of the call that was let through at this place.
    Returned(Token, Seq, ToolOutcome, Arc<str>),
    /// What a request of its to a provider used. It counts also of a run that is over.
    Used(Box<super::Report>),
    /// Another agent does its work, because a budget is used up.
    Degraded,
    /// It made something that a later attempt may use.
    Keep(Token, Box<NewArtifact>),
    /// Is there such an artifact, made from these inputs? Nothing is taken yet: whether it can be
    /// read is seen first.
    LookUp(Token, ArtifactName, Fingerprint),
    /// The same, and it is taken.
    Recall(Token, ArtifactName, Fingerprint),
    /// It is done.
    Finished(Finished),
    /// It gave up.
    Failed(RunFailure),
}

/// A run's result.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finished {
    /// The reply; none where the agent chose silence.
    pub reply: Option<Arc<str>>,
    /// The last mail it used; what it took after that counts as unread. None: all of it.
    pub used: Option<Seq>,
    /// What it expects next.
    pub hint: Hint,
    /// Which version of the agent answered, in its own words: prompt, model and parameters.
    pub version: Option<Arc<str>>,
}

/// Why a run ended without a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFailure {
    /// What went wrong, in words.
    pub error: Arc<str>,
    /// Another attempt may help.
    pub retry: bool,
    /// Not before this many milliseconds, where the provider said so.
    pub retry_after_ms: Option<u64>,
}

/// What a person can ask for.
#[derive(Clone, Debug)]
pub enum Control {
    /// End the open turn.
    Stop {
        /// Only if it is this one.
        turn: Option<TurnId>,
        /// The part of the reply that was already shown.
        shown: Option<Arc<str>>,
    },
    /// Begin a new conversation.
    New,
    /// Close the session.
    Close,
    /// End everything, deliveries included, before the session's past is erased.
    Erase,
    /// Tell the user something that nobody asked for: at once, or after the open turn's end.
    Notify {
        /// Its dedupe key, where its sender named it.
        seen: Option<Seen>,
        /// What; the sender is nobody.
        body: Arc<MessageBody>,
        /// A job or a reminder has it told: somebody asked for it after all, so nobody has to opt
        /// in.
        scheduled: bool,
    },
    /// The customer takes such messages, or takes none any more.
    OptIn(bool),
    /// Choose the busy policy of this session; none for the configured one.
    SetBusy(Option<BusyPolicy>),
    /// An operator takes the agent's place.
    Pause {
        /// Their name.
        by: Arc<str>,
        /// Also if another operator has it.
        take_over: bool,
    },
    /// The agent has its place again.
    HandBack {
        /// Who says so.
        by: Arc<str>,
    },
    /// What an operator says in the agent's place.
    OperatorReply {
        /// Its dedupe key, where its sender named it.
        seen: Option<Seen>,
        /// What; the sender is the operator.
        body: Arc<MessageBody>,
    },
    /// Try a dead letter again; it takes a new place in the order.
    Retry {
        /// Where it stood.
        seq: Seq,
        /// Its turn group, which the retry keeps.
        group: TurnGroupId,
        /// Its trust.
        trust: Trust,
        /// What it says.
        body: Arc<MessageBody>,
    },
    /// Give a dead letter up.
    Discard {
        /// Where it stood.
        seq: Seq,
    },
    /// A conversation that was had elsewhere is the beginning of this one.
    Import(Arc<Import>),
    /// Send a parked delivery again, if nobody else had that done since it was read.
    Resend {
        /// The journal place of the reply.
        reply: Seq,
        /// Which part of it.
        part: u32,
        /// Where it stood.
        state: DeliveryState,
        /// Tries begun by then.
        tries: u32,
        /// Its text.
        text: Arc<str>,
    },
}
