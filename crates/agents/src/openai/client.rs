//! One request and its streamed answer.

use std::collections::VecDeque;

use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, HeaderMap};
use serde_json::{Map, Value};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::usage::Usage;

use super::assembly::Assembly;
use super::settings::OpenAiSettings;
use super::wire::{self, Chunk, Said};
use crate::model::provider::{Answer, Call, Ending, Piece, Provider, ProviderError, Question};
use crate::provider_http::{Events, Heard, ProviderSetupError, Reach, Refusal, Server};

/// How to reach one model.
#[derive(Debug)]
pub(super) struct Client {
    server: Server,
    model: String,
    extra: Map<String, Value>,
    calls_bytes_max: usize,
}

impl Client {
    pub(super) fn new(
        settings: &OpenAiSettings,
        reply_bytes_max: usize,
    ) -> Result<Self, ProviderSetupError> {
        settings.check_extra()?;
        let server = Server::new(Reach {
            base_url: &settings.base_url,
            path: "/chat/completions",
            like: "https://api.openai.com/v1",
            key: &settings.key,
            key_header: (AUTHORIZATION, "Bearer "),
            headers: HeaderMap::new(),
            connect_timeout: settings.connect_timeout,
            silence: settings.silence_timeout,
            reply_bytes_max,
            words: wire::error_words,
        })?;
        Ok(Self {
            server,
            model: settings.model.clone(),
            extra: settings.extra.clone(),
            calls_bytes_max: reply_bytes_max,
        })
    }
}

impl Provider for Client {
    fn ask<'a>(
        &'a self,
        question: Question<'a>,
    ) -> BoxFuture<'a, Result<Box<dyn Answer + 'a>, ProviderError>> {
        Box::pin(async move {
            let body = wire::request(&self.model, &self.extra, &question);
            let events = self.server.ask(&body, question.trace, judge).await?;
            Ok(Box::new(Streamed {
                events,
                client: self,
                assembly: Assembly::new(self.calls_bytes_max),
                calls: VecDeque::new(),
                finish_reason: None,
                usage: None,
                ended: false,
            }) as Box<dyn Answer>)
        })
    }
}

/// What a refusal means.
fn judge(refusal: &Refusal) -> ProviderError {
    let Refusal { status, retry_after, body, .. } = refusal;
    let message = refusal.message();
    if *status == StatusCode::PAYLOAD_TOO_LARGE
        || (*status != StatusCode::TOO_MANY_REQUESTS && wire::says_too_long(body))
    {
        return ProviderError::TooLong(message);
    }
    let passing = [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT];
    if status.is_server_error() || passing.contains(status) {
        ProviderError::Busy { message, retry_after: *retry_after }
    } else {
        ProviderError::Refused(message)
    }
}

/// An answer on its way.
struct Streamed<'a> {
    events: Events<'a>,
    client: &'a Client,
    assembly: Assembly,
    /// Whole calls that nobody has taken yet.
    calls: VecDeque<Call>,
    /// Why the model stopped; known once it did.
    finish_reason: Option<String>,
    /// What it cost, where the server says so.
    usage: Option<wire::Usage>,
    ended: bool,
}

impl Streamed<'_> {
    async fn piece(&mut self) -> Result<Option<Piece>, ProviderError> {
        if self.ended || self.finish_reason.is_some() {
            return Ok(self.rest().await);
        }
        match self.events.next().await? {
            Heard::Life => Ok(Some(Piece::Life)),
            Heard::End => Err(self.client.server.broken("the provider's answer was cut off")),
            Heard::Data(data) if data == wire::DONE => Ok(self.rest().await),
            Heard::Data(data) => self.understand(&data).map(Some),
        }
    }

    fn understand(&mut self, data: &str) -> Result<Piece, ProviderError> {
        if data.is_empty() {
            return Ok(Piece::Life);
        }
        let server = &self.client.server;
        let Ok(chunk) = serde_json::from_str::<Chunk>(data) else {
            return Err(server.broken("the provider sent something that is no chunk of an answer"));
        };
        self.usage = chunk.usage.or(self.usage);
        if let Some(error) = &chunk.error {
            let message = format!("the provider broke off: {}", error.message());
            return Err(server.cleaned(if wire::says_too_long(data) {
                ProviderError::TooLong(message)
            } else if error.is_final() {
                ProviderError::Refused(message)
            } else {
                ProviderError::Broken(message)
            }));
        }
        let Said { text, calls, finish_reason } = chunk.into_said();
        for delta in calls {
            self.assembly.add(delta).map_err(ProviderError::Refused)?;
        }
        self.finish_reason = finish_reason.or(self.finish_reason.take());
        Ok(if text.is_empty() { Piece::Life } else { Piece::Text(text) })
    }

    /// The answer is complete: its calls, one by one. Whatever goes wrong behind it does not matter.
    async fn rest(&mut self) -> Option<Piece> {
        if !self.ended {
            self.ended = true;
            // What was cut may end in the middle of a call, and half a call is none.
            if !matches!(self.ending(), Ending::Length | Ending::Filtered) {
                self.calls = std::mem::take(&mut self.assembly).whole().into();
            }
            let usage = &mut self.usage;
            let hear = |data: &str| {
                let chunk = serde_json::from_str::<Chunk>(data).ok();
                *usage = chunk.and_then(|chunk| chunk.usage).or(*usage);
            };
            self.events.tail(hear).await;
        }
        self.calls.pop_front().map(Piece::Call)
    }
}

impl Answer for Streamed<'_> {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Piece>, ProviderError>> {
        Box::pin(self.piece())
    }

    fn ending(&self) -> Ending {
        match self.finish_reason.as_deref() {
            Some("stop") => Ending::Complete,
            Some("tool_calls" | "function_call") => Ending::Calls,
            Some("length") => Ending::Length,
            Some("content_filter") => Ending::Filtered,
            Some(other) => Ending::Other(other.to_owned()),
            None => Ending::Other("none given".to_owned()),
        }
    }

    fn usage(&self) -> Option<Usage> {
        let usage = self.usage?;
        let cached = usage.cached_tokens();
        Some(Usage {
            // Not the server's word for it, which may be anything, and changes with its releases.
            model: self.client.model.as_str().into(),
            input_tokens: usage.prompt_tokens.saturating_sub(cached),
            output_tokens: usage.completion_tokens,
            cached_tokens: cached,
            ..Usage::default()
        })
    }

    fn raw(&self) -> Option<Value> {
        None
    }
}
