//! Who is told of spans: pieces of work with a beginning and an end, for traces.

use std::borrow::Cow;

use crate::trace::{SpanContext, SpanId, TraceId};

/// Whose side of the work a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Work of our own.
    Internal,
    /// A request of somebody, being answered.
    Server,
    /// Something handed on to whoever takes it further.
    Producer,
}

/// What stands behind an attribute's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A word.
    Text(Cow<'static, str>),
    /// A count.
    Number(i64),
    /// Yes or no.
    Flag(bool),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

/// Something that happened at one moment of a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpanEvent {
    /// What.
    pub name: &'static str,
    /// When, in nanoseconds since the Unix epoch.
    pub at_ns: u64,
    /// What is known of it.
    pub attributes: Vec<(&'static str, Value)>,
}

/// A span that ended. Holds nothing that anybody said: names, ids, counts and outcomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// What was done.
    pub name: &'static str,
    /// Whose side.
    pub kind: SpanKind,
    /// Its own names.
    pub context: SpanContext,
    /// The span that it is part of; none where its trace begins.
    pub parent: Option<SpanId>,
    /// That one belongs to another program.
    pub parent_is_remote: bool,
    /// In nanoseconds since the Unix epoch.
    pub started_ns: u64,
    /// The same; never before its start.
    pub ended_ns: u64,
    /// What is known of it.
    pub attributes: Vec<(&'static str, Value)>,
    /// What happened meanwhile.
    pub events: Vec<SpanEvent>,
    /// Spans that led to it, of this or other traces.
    pub links: Vec<SpanContext>,
    /// Links that were too many.
    pub links_dropped: u32,
    /// What went wrong, in our words.
    pub failed: Option<&'static str>,
}

/// The port.
pub trait Tracer: Send + Sync + 'static {
    /// Whether a trace that begins here is recorded.
    fn samples(&self, trace: TraceId) -> bool;

    /// Takes a span. Never waits: where there is no room, the span is lost and counted. Nothing
    /// depends on a span that arrives.
    fn ended(&self, span: Span);
}
