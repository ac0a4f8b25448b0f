//! Tools that a model may call, wherever they live.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::agent::TurnContext;
use turnkeep_core::tool::{SideEffects, ToolOutcome};

/// A tool as a model knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolSpec {
    /// Its name, `[a-zA-Z0-9_-]{1,64}`.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// JSON schema of its arguments, an object.
    pub schema: Value,
}

/// A tool, and what is known of it beside what the model is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// What the model is told.
    pub spec: ToolSpec,
    /// Where it is, as people call it; none where its name says it all.
    pub origin: Option<Origin>,
    /// What it does to the world.
    pub effects: SideEffects,
    /// Which argument names the act, like an order's number; a JSON pointer.
    pub key: Option<String>,
    /// A person has to say yes to each call.
    pub approval: bool,
    /// How long a call may take.
    pub timeout: Duration,
}

/// Whose tool it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The server, as it is configured.
    pub server: String,
    /// What the server calls the tool.
    pub name: String,
}

/// What a tool said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Whether it was done.
    pub outcome: ToolOutcome,
    /// In words; bounded by whoever says it.
    pub output: String,
}

/// Where tools come from.
pub trait Toolbox: Send + Sync + 'static {
    /// What there is now: asked at the beginning of an attempt, kept until its end. A server that
    /// is away has no tools, which is told in the second part, for the model.
    fn tools(&self) -> BoxFuture<'_, (Vec<Tool>, Vec<String>)>;
    /// The same for one turn, where what there is depends on whose turn it is; none where it does
    /// not.
    fn for_turn(&self, _: &TurnContext) -> Option<Arc<dyn Toolbox>> {
        None
    }
    /// Calls one with a JSON object, once. Who drops the future does not know what came of it.
    fn call<'a>(&'a self, tool: &'a Tool, arguments: &'a str) -> BoxFuture<'a, Said>;
}
