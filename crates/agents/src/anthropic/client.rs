//! One request and its streamed answer, within limits.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::usage::Usage;

use super::answer::{Draft, News, Wrong};
use super::request::{RAW, body};
use super::settings::AnthropicSettings;
use super::wire::{broke_off, error_words, judge};
use crate::model::provider::{Answer, Ending, Piece, Provider, ProviderError, Question};
use crate::provider_http::{Events, Heard, ProviderSetupError, Reach, Server};

/// The protocol's version.
const VERSION: &str = "2023-06-01";

/// How to reach one model.
#[derive(Debug)]
pub(super) struct Client {
    settings: AnthropicSettings,
    server: Server,
    reply_bytes_max: usize,
}

impl Client {
    pub(super) fn new(
        settings: AnthropicSettings,
        reply_bytes_max: usize,
    ) -> Result<Self, ProviderSetupError> {
        let version = HeaderName::from_static("anthropic-version");
        let server = Server::new(Reach {
            base_url: &settings.base_url,
            path: "/v1/messages",
            like: AnthropicSettings::BASE_URL,
            key: &settings.key,
            key_header: (HeaderName::from_static("x-api-key"), ""),
            words: error_words,
            headers: HeaderMap::from_iter([(version, HeaderValue::from_static(VERSION))]),
            connect_timeout: settings.connect_timeout,
            silence: settings.silence_timeout,
            reply_bytes_max,
        })?;
        Ok(Self { settings, server, reply_bytes_max })
    }
}

impl Provider for Client {
    fn ask<'a>(
        &'a self,
        question: Question<'a>,
    ) -> BoxFuture<'a, Result<Box<dyn Answer + 'a>, ProviderError>> {
        Box::pin(async move {
            let body = body(&self.settings, &question);
            let events = self.server.ask(&body, question.trace, judge).await?;
            let draft = Draft::new(self.reply_bytes_max);
            Ok(Box::new(Coming { client: self, events, draft }) as Box<dyn Answer>)
        })
    }
}

/// An answer on its way.
struct Coming<'a> {
    client: &'a Client,
    events: Events<'a>,
    draft: Draft,
}

impl Coming<'_> {
    async fn piece(&mut self) -> Result<Option<Piece>, ProviderError> {
        if self.draft.has_ended() {
            return Ok(self.draft.next_call().map(Piece::Call));
        }
        let data = match self.events.next().await? {
            Heard::Data(data) if !data.is_empty() => data,
            Heard::Data(_) | Heard::Life => return Ok(Some(Piece::Life)),
            Heard::End => {
                return Err(self.client.server.broken("the provider's answer was cut off"));
            }
        };
        match self.draft.take(&data).map_err(|wrong| self.error(wrong))? {
            News::Text(text) => Ok(Some(Piece::Text(text))),
            News::Life => Ok(Some(Piece::Life)),
            News::End => {
                // Whatever comes now, the answer is complete.
                self.events.tail(|_| ()).await;
                Ok(self.draft.next_call().map(Piece::Call))
            }
        }
    }

    fn error(&self, wrong: Wrong) -> ProviderError {
        match wrong {
            Wrong::Error(error) => {
                self.client.server.cleaned(broke_off(&error, self.draft.has_begun()))
            }
            Wrong::Broken(words) => ProviderError::Broken(words.to_owned()),
            Wrong::TooMuch(words) => ProviderError::Refused(words),
        }
    }
}

impl Answer for Coming<'_> {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Piece>, ProviderError>> {
        Box::pin(self.piece())
    }

    fn ending(&self) -> Ending {
        self.draft.ending()
    }

    fn usage(&self) -> Option<Usage> {
        let counts = self.draft.counts()?;
        Some(Usage {
            // Not the server's word for it, which names a release of it.
            model: self.client.settings.model.as_str().into(),
            input_tokens: counts.input_tokens.unwrap_or(0),
            output_tokens: counts.output_tokens.unwrap_or(0),
            cached_tokens: counts.cache_read_input_tokens.unwrap_or(0),
            cache_write_tokens: counts.cache_creation_input_tokens.unwrap_or(0),
            cost_micros: None,
        })
    }

    fn raw(&self) -> Option<Value> {
        let model = &self.client.settings.model;
        Some(json!({RAW: {"model": model, "content": self.draft.blocks()}}))
    }
}
