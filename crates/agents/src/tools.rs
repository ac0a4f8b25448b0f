//! Tools that a model may call, wherever they live.

use std::time::Duration;

use turnkeep_core::ports::BoxFuture;
use turnkeep_core::tool::{SideEffects, ToolOutcome};

use crate::model::provider::ToolSpec;

/// A tool, and what is known of it beside what the model is told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tool {
    /// What the model is told.
    pub(crate) spec: ToolSpec,
    /// What it does to the world.
    pub(crate) effects: SideEffects,
    /// Which argument names the act, like an order's number; a JSON pointer.
    pub(crate) key: Option<String>,
    /// A person has to say yes to each call.
    pub(crate) approval: bool,
    /// How long a call may take.
    pub(crate) timeout: Duration,
}

/// What a tool said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// Whether it was done.
    pub(crate) outcome: ToolOutcome,
    /// In words; bounded by whoever says it.
    pub(crate) output: String,
}

/// Where tools come from.
pub(crate) trait Toolbox: Send + Sync {
    /// What there is now: asked at the beginning of an attempt, kept until its end. A server that
    /// is away has no tools, which is told in the second part, for the model.
    fn tools(&self) -> BoxFuture<'_, (Vec<Tool>, Vec<String>)>;
    /// Calls one with a JSON object, once. Who drops the future does not know what came of it.
    fn call<'a>(&'a self, tool: &'a Tool, arguments: &'a str) -> BoxFuture<'a, Said>;
}
