//! What can be set. Reading configuration files is the binary's.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::client::Client;
use crate::model::{Model, ModelAgent, TurnSettings};
use crate::provider_http::{KeySource, ProviderSetupError};

/// How to talk to one model.
#[derive(Clone, Debug, PartialEq)]
pub struct AnthropicSettings {
    /// The server, up to and without `/v1/messages`.
    pub base_url: String,
    /// The model's name there.
    pub model: String,
    /// Where the key is.
    pub key: KeySource,
    /// Longest answer in tokens, thoughts included. The protocol wants it to be said.
    pub tokens_max: u32,
    /// How freely it writes, from 0 to 1; the server decides where nothing is said.
    pub temperature: Option<f64>,
    /// Whether it thinks before it answers.
    pub thinking: Thinking,
    /// Whether the provider may remember what it reads, for some minutes.
    pub cache: bool,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long the server may be silent, before its answer and within it.
    pub silence_timeout: Duration,
}

/// How a model thinks before it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Thinking {
    /// As it does unasked.
    #[default]
    Unsaid,
    /// As long as it finds right.
    Adaptive,
    /// With this many tokens at most. Models since Claude 4.7 refuse that.
    Budget(u32),
}

impl AnthropicSettings {
    /// The provider itself.
    pub const BASE_URL: &str = "https://api.anthropic.com";

    /// The defaults for a model.
    #[must_use]
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            base_url: Self::BASE_URL.to_owned(),
            model: model.into(),
            key: KeySource::None,
            tokens_max: 4096,
            temperature: None,
            thinking: Thinking::Unsaid,
            cache: true,
            connect_timeout: Duration::from_secs(10),
            silence_timeout: Duration::from_secs(90),
        }
    }

    /// An agent that answers with this model. Reads the key and checks the settings; no request is
    /// made. The program must have installed a TLS provider before.
    ///
    /// # Errors
    /// What is wrong with the settings, for the person who wrote them.
    pub fn agent(self, turn: TurnSettings) -> Result<ModelAgent, ProviderSetupError> {
        let (name, parameters) = (self.model.clone(), Value::Object(self.parameters()));
        let provider = Arc::new(Client::new(self, turn.reply_bytes_max)?);
        Ok(ModelAgent::new(Model { kind: "anthropic", name, parameters, provider }, turn))
    }

    /// What each request says beside the conversation.
    pub(super) fn parameters(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("max_tokens".to_owned(), self.tokens_max.into());
        if let Some(temperature) = self.temperature {
            fields.insert("temperature".to_owned(), temperature.into());
        }
        let thinking = match self.thinking {
            Thinking::Unsaid => return fields,
            Thinking::Adaptive => json!({"type": "adaptive"}),
            Thinking::Budget(tokens) => json!({"type": "enabled", "budget_tokens": tokens}),
        };
        fields.insert("thinking".to_owned(), thinking);
        fields
    }
}
