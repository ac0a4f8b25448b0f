//! An agent that asks a model: everything about a turn that is the same whoever provides the model.
//!
//! | module | its job |
//! | --- | --- |
//! | [`settings`](TurnSettings) | what can be set |
//! | `version` | which version of the agent answered |
//! | `provider` | what a turn needs of a provider: the port within this crate |
//! | `turn` | one turn: its answers, the mail and questions that come meanwhile, its end |
//! | `asking` | one answer of the model: retries, compaction, the fallback, slots, usage |
//! | `conversation` | which lines the model sees, within a budget of tokens |
//! | `calls` | the calls of one answer: which may be made, in which order, and their results |
//! | `arguments` | what a model wrote for a call: whether it fits, and what names the act |
//! | `approval` | asks a person before a call |
//! | `telling` | what the model is told of its calls, in words and within bounds |
//!
//! **Mail.** What arrives before a request leaves (while the turn waits for a slot or for a retry)
//! goes along with it. What arrives while the model answers is taken when the answer is complete;
//! the model is then called again with its answer so far and the new messages, so that one reply
//! answers all. After [`TurnSettings::rounds_max`] answers the rest is left to the next turn. If
//! a later answer fails and no tool acted since, the answer that was complete before it is the
//! reply, and the messages it does not answer are handed back as unread. What arrives while tools
//! work is taken when their results are there, and before any irreversible call.
//!
//! **The reply** is all that the model said in the turn: what it says before a call may be half of
//! what the user wanted to know.
//!
//! **Questions.** Until the first word of an answer a new message may join (`absorb-continue`): it
//! costs one more request at most and the user has seen nothing yet. After that it is queued: the
//! words on the screen are about something else, and the newcomer gets a reply of its own.
//!
//! **Slots.** One slot is held from the moment a request leaves until its answer ended, and never
//! across two requests, a pause, a call of a tool or a question to a person.

mod approval;
mod arguments;
mod asking;
mod calls;
mod consent;
mod conversation;
pub(crate) mod provider;
mod settings;
mod telling;
mod turn;
mod version;

#[cfg(test)]
mod fuzz;

use std::sync::Arc;

use serde_json::Value;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::agent::{Agent, TurnContext};
use turnkeep_core::session::input::{Finished, RunFailure};

pub use settings::TurnSettings;

use crate::tools::Toolbox;
use provider::Provider;
use version::Ingredients;

/// A model that can be asked.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// The protocol, as the configuration calls it.
    pub(crate) kind: &'static str,
    /// Its name there.
    pub(crate) name: String,
    /// What each request says beside the conversation.
    pub(crate) parameters: Value,
    pub(crate) provider: Arc<dyn Provider>,
}

/// Answers with what a model says.
pub struct ModelAgent {
    model: Model,
    fallback: Option<Model>,
    /// Models that may be chosen instead of its own, in the order of `offered`, which has its own one
    /// before them.
    choices: Vec<Model>,
    offered: Vec<(Arc<str>, Arc<str>)>,
    settings: TurnSettings,
    toolboxes: Vec<Arc<dyn Toolbox>>,
    versions: Versions,
}

/// Which version answers: with its own model, with the fallback's, and with each that may be chosen.
#[derive(Clone, Debug)]
struct Versions {
    own: Arc<str>,
    fallback: Option<Arc<str>>,
    choices: Vec<Arc<str>>,
}

impl ModelAgent {
    pub(crate) fn new(model: Model, settings: TurnSettings) -> Self {
        let versions = Versions { own: Arc::from(""), fallback: None, choices: Vec::new() };
        Self {
            model,
            fallback: None,
            choices: Vec::new(),
            offered: Vec::new(),
            settings,
            toolboxes: Vec::new(),
            versions,
        }
        .versioned()
    }

    /// With these tools; the first one of a name counts.
    #[must_use]
    pub fn with_tools(mut self, toolboxes: Vec<Arc<dyn Toolbox>>) -> Self {
        self.toolboxes = toolboxes;
        self
    }

    /// Asks another agent's model where this one's doesn't answer. Its server, name and parameters
    /// are the other's; prompt, tools and limits stay this agent's, and so do the slots.
    #[must_use]
    pub fn with_fallback(mut self, other: &Self) -> Self {
        self.fallback = Some(other.model.clone());
        self.versioned()
    }

    /// Lets the user choose another agent's model instead of its own one, which is called `own`. As
    /// with a fallback, everything else stays this agent's.
    #[must_use]
    pub fn with_choices(mut self, own: &str, others: &[(&str, &Self)]) -> Self {
        self.choices = others.iter().map(|(_, other)| other.model.clone()).collect();
        let all = std::iter::once((own, &self.model))
            .chain(others.iter().map(|(name, other)| (*name, &other.model)));
        let offered = all.map(|(name, model)| (name.into(), model.name.as_str().into())).collect();
        self.offered = if others.is_empty() { Vec::new() } else { offered };
        self.versioned()
    }

    /// The model of this name, if it may be chosen; else its own.
    fn chosen(&self, name: Option<&str>) -> &Model {
        let at = self.offered.iter().position(|(offered, _)| Some(&**offered) == name);
        at.and_then(|at| self.choices.get(at.checked_sub(1)?)).unwrap_or(&self.model)
    }

    /// Which version answers with one of its models.
    fn version_with(&self, model: &Model) -> &Arc<str> {
        let Versions { own, fallback, choices } = &self.versions;
        let is = |other: &Model| std::ptr::eq(model, other);
        if let Some(at) = self.choices.iter().position(is) {
            return choices.get(at).unwrap_or(own);
        }
        let fallback = fallback.as_ref().filter(|_| self.fallback.as_ref().is_some_and(is));
        fallback.unwrap_or(own)
    }

    /// Which version of the agent this is, as turns that it answers say.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.versions.own
    }

    fn versioned(mut self) -> Self {
        let TurnSettings { system_prompt, version: name, tools, .. } = &self.settings;
        let system_prompt = system_prompt.as_deref();
        let of = |model: &Model, name: &str| {
            let Model { kind, name: model, parameters, .. } = model;
            let ingredients = Ingredients { kind, model, parameters, system_prompt, tools };
            version::version(name, &ingredients)
        };
        let name = name.as_deref().unwrap_or(&self.model.name);
        self.versions = Versions {
            own: of(&self.model, name),
            fallback: self.fallback.as_ref().map(|model| of(model, &model.name)),
            choices: self.choices.iter().map(|model| of(model, &model.name)).collect(),
        };
        self
    }
}

impl std::fmt::Debug for ModelAgent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { model, fallback, choices, offered: _, settings, toolboxes, versions } = self;
        formatter
            .debug_struct("ModelAgent")
            .field("model", model)
            .field("fallback", fallback)
            .field("choices", choices)
            .field("settings", settings)
            .field("toolboxes", &toolboxes.len())
            .field("versions", versions)
            .finish()
    }
}

impl Agent for ModelAgent {
    fn kind(&self) -> &'static str {
        self.model.kind
    }

    fn run(&self, turn: TurnContext) -> BoxFuture<'_, Result<Finished, RunFailure>> {
        Box::pin(turn::run(self, turn))
    }

    fn slots(&self) -> Option<usize> {
        self.settings.slots
    }

    fn models(&self) -> &[(Arc<str>, Arc<str>)] {
        &self.offered
    }
}
