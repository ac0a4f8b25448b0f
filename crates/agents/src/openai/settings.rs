//! What can be set. Reading configuration files is the binary's.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::client::Client;
use crate::model::{Model, ModelAgent, TurnSettings};
use crate::provider_http::{KeySource, ProviderSetupError};

/// What the agent itself puts into a request.
const RESERVED: [&str; 7] =
    ["model", "messages", "stream", "stream_options", "n", "tools", "tool_choice"];

/// How to talk to one model.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenAiSettings {
    /// The server up to and including its version, `https://api.openai.com/v1`.
    pub base_url: String,
    /// The model's name there.
    pub model: String,
    /// Where the key is.
    pub key: KeySource,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long the server may be silent, before its answer and within it. A model at home may need
    /// a while to read a long conversation.
    pub silence_timeout: Duration,
    /// More fields of the request, as the server knows them: `temperature`, `max_tokens`.
    pub extra: Map<String, Value>,
}

impl OpenAiSettings {
    /// The defaults for a model on a server without a key.
    #[must_use]
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            model: model.into(),
            key: KeySource::None,
            connect_timeout: Duration::from_secs(10),
            silence_timeout: Duration::from_secs(90),
            extra: Map::new(),
        }
    }

    /// An agent that answers with this model. Reads the key and checks the settings; no request is
    /// made. The program must have installed a TLS provider before.
    ///
    /// # Errors
    /// What is wrong with the settings, for the person who wrote them.
    pub fn agent(self, turn: TurnSettings) -> Result<ModelAgent, ProviderSetupError> {
        let provider = Arc::new(Client::new(&self, turn.reply_bytes_max)?);
        let Self { model: name, extra, .. } = self;
        let parameters = Value::Object(extra);
        Ok(ModelAgent::new(Model { kind: "openai", name, parameters, provider }, turn))
    }

    pub(super) fn check_extra(&self) -> Result<(), ProviderSetupError> {
        match RESERVED.into_iter().find(|name| self.extra.contains_key(*name)) {
            Some(name) => Err(ProviderSetupError::Reserved(name)),
            None => Ok(()),
        }
    }
}
