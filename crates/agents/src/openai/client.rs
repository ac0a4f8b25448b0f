//! One request and its streamed answer, within limits.
//!
//! Everything the server sends is bounded before it is kept: an event, the answer, an error's text.
//! Nothing is spawned: dropping the [`Answer`] closes the connection, which is how a provider
//! learns that nobody listens any more.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::{Stream, StreamExt};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};
use sse_stream::{Sse, SseStream};
use tokio::time::timeout;
use turnkeep_core::trace::SpanContext;

use super::conversation::ChatMessage;
use super::settings::{Key, OpenAiError, OpenAiSettings};
use super::wire::{self, ChatRequest, Chunk, StreamOptions, Usage};

/// Tells the server which span it is asked for.
const TRACEPARENT: &str = "traceparent";
/// What is read of an error response.
const ERROR_BYTES_MAX: usize = 64 * 1024;
/// How long an error response may take.
const ERROR_TIME: Duration = Duration::from_secs(5);
/// What one event may need beside the text it carries.
const EVENT_FRAME_BYTES: usize = 64 * 1024;
/// After the answer is complete, how long the usage and the end of the stream are waited for. The
/// end lets the connection be used again.
const TAIL: Duration = Duration::from_millis(500);

/// Why a request gave no answer, cut by what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ProviderError {
    /// The server had no time for it; nothing was said, so the same request may simply be repeated.
    #[error("{message}")]
    Busy {
        /// In words.
        message: String,
        /// What the server asked for.
        retry_after: Option<Duration>,
    },
    /// Something broke; another attempt of the turn may help.
    #[error("{0}")]
    Broken(String),
    /// The same request would fail again.
    #[error("{0}")]
    Refused(String),
}

/// How to reach one model.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    endpoint: Url,
    key: Option<Key>,
    silence: Duration,
    event_bytes_max: usize,
}

impl Client {
    pub(super) fn new(settings: &OpenAiSettings) -> Result<Self, OpenAiError> {
        settings.check_extra()?;
        let endpoint = endpoint(&settings.base_url)?;
        let key = settings.key.read()?;
        let mut headers = HeaderMap::new();
        if let Some(key) = &key {
            headers.insert(AUTHORIZATION, key.header()?);
        }
        // Without one, making a client would panic, even one for plain http.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(OpenAiError::NoTlsProvider);
        }
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(settings.connect_timeout)
            // A completion is not something that moves; following would send the conversation to
            // wherever the answer points.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("turnkeep/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| OpenAiError::Client(words(&error)))?;
        Ok(Self {
            http,
            endpoint,
            key,
            silence: settings.silence_timeout,
            event_bytes_max: settings.reply_bytes_max.saturating_mul(2) + EVENT_FRAME_BYTES,
        })
    }

    /// Sends one request; returns once the server begins to answer.
    pub(super) async fn request(
        &self,
        settings: &OpenAiSettings,
        messages: &[ChatMessage],
        trace: Option<&SpanContext>,
    ) -> Result<Answer<'_>, ProviderError> {
        let mut request = self.http.post(self.endpoint.clone());
        if let Some(trace) = trace {
            // Not what vendors noted on the way here: the provider may be a stranger to them.
            request = request.header(TRACEPARENT, trace.traceparent());
        }
        let request = request.json(&ChatRequest {
            model: &settings.model,
            messages,
            stream: true,
            stream_options: StreamOptions { include_usage: true },
            extra: &settings.extra,
        });
        let response = match timeout(self.silence, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let what = if error.is_connect() { "can't reach" } else { "lost" };
                let error = words(&error);
                return Err(self.broken(&format!("{what} the provider: {error}")));
            }
            Err(_) => return Err(self.silent()),
        };
        let status = response.status();
        if !status.is_success() {
            return Err(self.refusal(status, response).await);
        }
        let content_type = header(response.headers(), CONTENT_TYPE.as_str());
        let content_type = content_type.map(str::to_ascii_lowercase);
        match content_type {
            Some(other) if !other.starts_with("text/event-stream") => {
                let body = self.error_words(response).await;
                Err(self
                    .broken(&format!("the provider answered with {other}, not a stream: {body}")))
            }
            _ => Ok(Answer::new(response, self)),
        }
    }

    async fn refusal(&self, status: StatusCode, response: Response) -> ProviderError {
        let retry_after = retry_after(response.headers(), SystemTime::now());
        let body = self.error_words(response).await;
        let message = format!("the provider said {status}: {body}");
        let passing = [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT];
        if status.is_server_error() || passing.contains(&status) {
            ProviderError::Busy { message, retry_after }
        } else {
            ProviderError::Refused(message)
        }
    }

    /// What an error response says, as far as it is there in time.
    async fn error_words(&self, mut response: Response) -> String {
        let mut body = Vec::new();
        let read = async {
            while body.len() < ERROR_BYTES_MAX {
                let Ok(Some(chunk)) = response.chunk().await else { break };
                let room = ERROR_BYTES_MAX - body.len();
                body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
            }
        };
        // If time runs out, what came is better than nothing.
        let _ = timeout(ERROR_TIME, read).await;
        self.clean(&wire::error_words(&self.clean(&String::from_utf8_lossy(&body))))
    }

    fn broken(&self, message: &str) -> ProviderError {
        ProviderError::Broken(self.clean(message))
    }

    fn silent(&self) -> ProviderError {
        ProviderError::Broken(format!("the provider was silent for {:?}", self.silence))
    }

    fn clean(&self, text: &str) -> String {
        self.key.as_ref().map_or_else(|| text.to_owned(), |key| key.redact(text))
    }
}

/// A piece of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// What the model says.
    Text(String),
    /// It does something, but says nothing: it reads, or thinks.
    Life,
}

/// An answer on its way.
pub(super) struct Answer<'a> {
    events: Pin<Box<dyn Stream<Item = Result<Sse, sse_stream::Error>> + Send>>,
    client: &'a Client,
    /// Bytes that came since the last whole event: what the parser may be holding.
    held: Arc<AtomicUsize>,
    /// Why the model stopped; known once it did.
    pub(super) finish_reason: Option<String>,
    /// What it cost, where the server says so.
    pub(super) usage: Option<Usage>,
    ended: bool,
}

impl<'a> Answer<'a> {
    fn new(response: Response, client: &'a Client) -> Self {
        let held = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&held);
        let limit = client.event_bytes_max;
        let body = response.bytes_stream().map(move |chunk| {
            let chunk = chunk.map_err(BodyError::Transport)?;
            let before = counter.fetch_add(chunk.len(), Ordering::Relaxed);
            if before.saturating_add(chunk.len()) > limit {
                Err(BodyError::TooLong)
            } else {
                Ok(chunk)
            }
        });
        let events = Box::pin(SseStream::from_bytes_stream(Box::pin(body)));
        Self { events, client, held, finish_reason: None, usage: None, ended: false }
    }

    /// The next piece, or none when the answer is complete. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Result<Option<Piece>, ProviderError> {
        if self.ended {
            return Ok(None);
        }
        if self.finish_reason.is_some() {
            self.read_tail().await;
            return Ok(None);
        }
        let held = self.held.load(Ordering::Relaxed);
        let event = match timeout(self.client.silence, self.events.next()).await {
            Ok(Some(Ok(event))) => event,
            Ok(Some(Err(error))) => return Err(self.stream_error(&error)),
            Ok(None) => {
                return Err(self.client.broken("the provider's answer was cut off"));
            }
            // Comments are what servers send to keep a connection alive; they are no events.
            Err(_) if self.held.load(Ordering::Relaxed) > held => return Ok(Some(Piece::Life)),
            Err(_) => return Err(self.client.silent()),
        };
        self.held.store(0, Ordering::Relaxed);
        let data = event.data.unwrap_or_default();
        if data == wire::DONE {
            self.read_tail().await;
            return Ok(None);
        }
        self.understand(&data).map(Some)
    }

    fn understand(&mut self, data: &str) -> Result<Piece, ProviderError> {
        if data.is_empty() {
            return Ok(Piece::Life);
        }
        let Ok(chunk) = serde_json::from_str::<Chunk>(data) else {
            return Err(self
                .client
                .broken("the provider sent something that is no chunk of an answer"));
        };
        self.usage = chunk.usage.or(self.usage);
        if let Some(error) = &chunk.error {
            let message = self.client.clean(&error.message());
            let message = format!("the provider broke off: {message}");
            return Err(if error.is_final() {
                ProviderError::Refused(message)
            } else {
                ProviderError::Broken(message)
            });
        }
        let (text, finish_reason) = chunk.into_choice();
        self.finish_reason = finish_reason.or(self.finish_reason.take());
        Ok(if text.is_empty() { Piece::Life } else { Piece::Text(text) })
    }

    /// Whatever goes wrong here, the answer is complete.
    async fn read_tail(&mut self) {
        self.ended = true;
        while let Ok(Some(Ok(event))) = timeout(TAIL, self.events.next()).await {
            self.held.store(0, Ordering::Relaxed);
            let chunk = event.data.and_then(|data| serde_json::from_str::<Chunk>(&data).ok());
            self.usage = chunk.and_then(|chunk| chunk.usage).or(self.usage);
        }
    }

    fn stream_error(&self, error: &sse_stream::Error) -> ProviderError {
        let sse_stream::Error::Body(body) = error else {
            return self.client.broken("the provider sent something that is no event stream");
        };
        match body.downcast_ref::<BodyError>() {
            Some(BodyError::TooLong) => ProviderError::Refused(format!(
                "the provider sent an event of more than {} bytes",
                self.client.event_bytes_max
            )),
            Some(BodyError::Transport(error)) => {
                let error = words(error);
                self.client.broken(&format!("the provider's answer was cut off: {error}"))
            }
            None => self.client.broken("the provider's answer was cut off"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum BodyError {
    #[error("the connection broke")]
    Transport(#[source] reqwest::Error),
    #[error("the event is too long")]
    TooLong,
}

fn endpoint(base_url: &str) -> Result<Url, OpenAiError> {
    let wrong =
        |reason: &str| OpenAiError::BaseUrl { url: base_url.to_owned(), reason: reason.to_owned() };
    let mut url = Url::parse(base_url).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("it must begin with http:// or https://"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it must not have a query or a fragment"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // Without the address itself, because a password is in it.
        let url = url.host_str().unwrap_or_default().to_owned();
        return Err(OpenAiError::BaseUrl { url, reason: "a password belongs into key".to_owned() });
    }
    let path = format!("{}/chat/completions", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// How long the server wants to be left alone. A date is read against the server's own clock where
/// it tells it, because either clock may be wrong.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    if let Some(millis) = header(headers, "retry-after-ms").and_then(|text| text.parse().ok()) {
        return Some(Duration::from_millis(millis));
    }
    let text = header(headers, RETRY_AFTER.as_str())?;
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text| httpdate::parse_http_date(text).ok();
    let now = header(headers, DATE.as_str()).and_then(date).unwrap_or(now);
    // A moment that has passed means: at once.
    Some(date(text)?.duration_since(now).unwrap_or_default())
}

/// An error and what lies beneath it, without the address.
fn words(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        cause = error.source();
    }
    if !text.is_empty() {
        return text;
    }
    if error.is_timeout() { "timed out".to_owned() } else { "the connection broke".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_checked_before_it_is_used() {
        for (base_url, expect) in [
            ("https://api.openai.com/v1", Ok("https://api.openai.com/v1/chat/completions")),
            ("http://127.0.0.1:11434/v1/", Ok("http://127.0.0.1:11434/v1/chat/completions")),
            ("http://localhost", Ok("http://localhost/chat/completions")),
            ("api.openai.com/v1", Err("relative URL without a base")),
            ("ftp://host/v1", Err("must begin with http")),
            ("https://host/v1?key=1", Err("must not have a query")),
            ("https://me:secret@host/v1", Err("\"host\" is no usable address: a password belongs")),
        ] {
            match (endpoint(base_url), expect) {
                (Ok(url), Ok(expected)) => assert_eq!(url.as_str(), expected),
                (Err(error), Err(part)) => {
                    let error = error.to_string();
                    assert!(error.contains(part) && !error.contains("secret"), "{error}");
                }
                (read, _) => panic!("{base_url}: {read:?}"),
            }
        }
    }

    #[test]
    fn a_pause_is_understood_in_every_form() {
        let now = httpdate::parse_http_date("Wed, 04 Nov 2026 10:00:00 GMT").unwrap();
        let check = |pairs: &[(&'static str, &str)], expect: Option<u64>| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            assert_eq!(retry_after(&headers, now), expect.map(Duration::from_millis), "{pairs:?}");
        };
        check(&[], None);
        check(&[("retry-after", "7")], Some(7000));
        check(&[("retry-after", "7"), ("retry-after-ms", "250")], Some(250));
        check(&[("retry-after", "Wed, 04 Nov 2026 10:00:09 GMT")], Some(9000));
        check(&[("retry-after", "Wed, 04 Nov 2026 09:00:00 GMT")], Some(0));
        let server_clock = ("date", "Wed, 04 Nov 2026 11:00:00 GMT");
        check(&[("retry-after", "Wed, 04 Nov 2026 11:00:05 GMT"), server_clock], Some(5000));
        check(&[("retry-after", "soon")], None);
        check(&[("retry-after", "-1")], None);
    }
}
