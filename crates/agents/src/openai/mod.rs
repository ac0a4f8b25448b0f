//! Any server that speaks OpenAI's chat completions: hosted ones, Ollama, vLLM, llama.cpp.
//!
//! | module | its job |
//! | --- | --- |
//! | [`settings`](OpenAiSettings) | what can be set, and where the key comes from |
//! | `turn` | one turn: requests, retries, mail, questions |
//! | `conversation` | which messages the model sees, within a budget of tokens |
//! | `client` | one request and its streamed answer, within limits |
//! | `wire` | the protocol's JSON |
//!
//! **Mail.** What arrives before a request leaves (while the turn waits for a slot or for a retry)
//! goes along with it. What arrives while the model answers is taken when the answer is complete;
//! the model is then called again with its answer so far and the new messages, so that one reply
//! answers all. After [`OpenAiSettings::rounds_max`] requests the rest is left to the next turn. If
//! a later request fails, the answer that was complete before it is the reply, and the messages it
//! does not answer are handed back as unread.
//!
//! **Questions.** Until the first word of the answer a new message may join (`absorb-continue`): it
//! costs one more request at most and the user has seen nothing yet. After that it is queued: the
//! words on the screen are about something else, and the newcomer gets a reply of its own.
//!
//! **Slots.** One slot is held from the moment a request leaves until its answer ended, and never
//! across two requests or a pause.

mod client;
mod conversation;
mod settings;
mod turn;
mod wire;

#[cfg(test)]
mod fuzz;

use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::agent::{Agent, TurnContext};
use turnkeep_core::session::input::{Finished, RunFailure};

pub use settings::{KeySource, OpenAiError, OpenAiSettings};

use client::Client;

/// Answers with what a model says.
#[derive(Debug)]
pub struct OpenAiAgent {
    settings: OpenAiSettings,
    client: Client,
}

impl OpenAiAgent {
    /// Reads the key and checks the settings; no request is made. The program must have installed
    /// a TLS provider before.
    ///
    /// # Errors
    /// What is wrong with the settings, for the person who wrote them.
    pub fn new(settings: OpenAiSettings) -> Result<Self, OpenAiError> {
        let client = Client::new(&settings)?;
        Ok(Self { settings, client })
    }
}

impl Agent for OpenAiAgent {
    fn kind(&self) -> &'static str {
        "openai"
    }

    fn run(&self, turn: TurnContext) -> BoxFuture<'_, Result<Finished, RunFailure>> {
        Box::pin(turn::run(&self.settings, &self.client, turn))
    }

    fn slots(&self) -> Option<usize> {
        self.settings.slots
    }
}
