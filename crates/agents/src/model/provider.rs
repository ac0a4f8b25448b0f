//! What a turn needs of a provider of models, whatever its protocol is.

use std::fmt;
use std::time::Duration;

use serde_json::Value;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::trace::SpanContext;
use turnkeep_core::usage::Usage;

pub(crate) use crate::tools::ToolSpec;

/// One line of the conversation, as a model gets it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Line {
    /// What users said.
    User(String),
    /// What the agent said.
    Agent(String),
    /// What the agent said and the calls that it wants; the results of all of them come next.
    Calls {
        /// Its words before the calls; may be empty.
        said: String,
        /// The calls, at least one.
        calls: Vec<Call>,
        /// The provider's own form of this line, given back as it came (thoughts and signatures).
        raw: Option<Value>,
    },
    /// What came of the calls of the line before, all of them, in their order.
    Results(Vec<CallResult>),
}

/// A call that a model wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    /// The provider's name for it.
    pub(crate) id: String,
    /// Which tool.
    pub(crate) tool: String,
    /// Its arguments as the model wrote them: JSON, or what should have been.
    pub(crate) arguments: String,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CallResult {
    /// The call's name.
    pub(crate) id: String,
    /// What the model is told.
    pub(crate) content: String,
    /// It is no result but what went wrong.
    pub(crate) is_error: bool,
}

/// One request.
pub(crate) struct Question<'a> {
    /// The instructions.
    pub(crate) system: Option<&'a str>,
    /// The conversation, beginning with a user's line. Neighbours of one role are not joined.
    pub(crate) lines: &'a [Line],
    /// The tools that it may ask for.
    pub(crate) tools: &'a [ToolSpec],
    /// Tools stand in the conversation, but none may be called any more.
    pub(crate) answer_only: bool,
    /// The span that it is asked for.
    pub(crate) trace: Option<&'a SpanContext>,
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Words for the user.
    Text(String),
    /// A sign of life: it thinks, or writes a call.
    Life,
    /// A whole call.
    Call(Call),
}

/// Why an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It is complete.
    Complete,
    /// It wants the results of its calls.
    Calls,
    /// It was cut for its length.
    Length,
    /// It was cut for what it says.
    Filtered,
    /// In the provider's word, which nobody here knows.
    Other(String),
}

/// An answer while it comes. Dropping it closes the connection.
pub(crate) trait Answer: Send {
    /// The next piece; none at the end of a whole answer. One that was cut off is an error.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Piece>, ProviderError>>;
    /// Why it ended, once it has.
    fn ending(&self) -> Ending;
    /// What it used, as far as the provider said by now; also of an answer that broke off.
    fn usage(&self) -> Option<Usage>;
    /// The provider's own form of the whole answer, to be given back in [`Line::Calls`].
    fn raw(&self) -> Option<Value>;
}

/// How to reach a model.
pub(crate) trait Provider: fmt::Debug + Send + Sync + 'static {
    /// Sends a request; returns once the answer begins. Dropping the future closes the connection.
    fn ask<'a>(
        &'a self,
        question: Question<'a>,
    ) -> BoxFuture<'a, Result<Box<dyn Answer + 'a>, ProviderError>>;
}

/// Why a request gave no answer, cut by what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProviderError {
    /// The provider had no time for it; nothing was said, so the same request may be repeated.
    #[error("{message}")]
    Busy {
        /// In words.
        message: String,
        /// What the provider asked for.
        retry_after: Option<Duration>,
    },
    /// Something broke; another attempt of the turn may help.
    #[error("{0}")]
    Broken(String),
    /// The conversation is longer than the model takes; a shorter one may help.
    #[error("{0}")]
    TooLong(String),
    /// The same request would fail again.
    #[error("{0}")]
    Refused(String),
}
