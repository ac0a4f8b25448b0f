//! One server of a provider: its address, the key, one request, and what a refusal says.

use std::time::{Duration, SystemTime};

use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};
use serde::Serialize;
use tokio::time::timeout;
use turnkeep_core::trace::SpanContext;

use super::events::Events;
use super::key::{Key, KeySource, ProviderSetupError};
use super::words::{beneath, short};
use crate::model::provider::ProviderError;
use crate::outward::{self, Proxies};

/// Tells the server which span it is asked for.
const TRACEPARENT: &str = "traceparent";
/// What is read of an error response.
const ERROR_BYTES_MAX: usize = 64 * 1024;
/// How long an error response may take.
const ERROR_TIME: Duration = Duration::from_secs(5);
/// What one event may need beside the text it carries.
const EVENT_FRAME_BYTES: usize = 64 * 1024;

/// How to reach a server.
pub(crate) struct Reach<'a> {
    /// Its address, as a person wrote it.
    pub(crate) base_url: &'a str,
    /// What is put behind it.
    pub(crate) path: &'a str,
    /// What such an address looks like.
    pub(crate) like: &'static str,
    /// Where the key is.
    pub(crate) key: &'a KeySource,
    /// The header that it stands in, and what stands before it there.
    pub(crate) key_header: (HeaderName, &'static str),
    /// What an error's body says, as one short line.
    pub(crate) words: fn(&str) -> String,
    /// More headers of every request.
    pub(crate) headers: HeaderMap,
    /// How long connecting may take.
    pub(crate) connect_timeout: Duration,
    /// How long the server may be silent.
    pub(crate) silence: Duration,
    /// Longest reply.
    pub(crate) reply_bytes_max: usize,
}

/// A server that can be asked.
#[derive(Debug)]
pub(crate) struct Server {
    http: reqwest::Client,
    endpoint: Url,
    key: Option<Key>,
    words: fn(&str) -> String,
    pub(super) silence: Duration,
    pub(super) event_bytes_max: usize,
}

/// An answer that is none.
pub(crate) struct Refusal {
    /// Its status.
    pub(crate) status: StatusCode,
    /// How long the server wants to be left alone.
    pub(crate) retry_after: Option<Duration>,
    /// What it says, as far as it was read.
    pub(crate) body: String,
    /// The same as one short line.
    pub(crate) words: String,
}

impl Refusal {
    /// The status and the words.
    pub(crate) fn message(&self) -> String {
        let code = self.status.as_u16();
        let reason = self.status.canonical_reason();
        let reason = reason.map(|reason| format!(" {reason}")).unwrap_or_default();
        format!("the provider said {code}{reason}: {}", self.words)
    }
}

impl Server {
    /// Reads the key and checks the address; no request is made. The program must have installed a
    /// TLS provider before.
    pub(crate) fn new(reach: Reach<'_>) -> Result<Self, ProviderSetupError> {
        let endpoint = endpoint(reach.base_url, reach.path, reach.like)?;
        let key = reach.key.read()?;
        let mut headers = reach.headers;
        if let Some(key) = &key {
            let (name, before) = reach.key_header;
            headers.insert(name, key.header(before)?);
        }
        // Only over TLS a proxy sees no key and no conversation.
        let proxies = match endpoint.scheme() {
            "https" => Proxies::OfTheEnvironment,
            _ => Proxies::Never,
        };
        let http = outward::client(proxies)
            .ok_or(ProviderSetupError::NoTlsProvider)?
            .default_headers(headers)
            .connect_timeout(reach.connect_timeout)
            .build()
            .map_err(|error| ProviderSetupError::Client(beneath(&error)))?;
        Ok(Self {
            http,
            endpoint,
            key,
            words: reach.words,
            silence: reach.silence,
            event_bytes_max: reach.reply_bytes_max.saturating_mul(2) + EVENT_FRAME_BYTES,
        })
    }

    /// Sends one request; returns once the server begins to answer. `judge` says what a refusal
    /// means.
    ///
    /// # Errors
    /// The server can't be reached, refuses, or answers with something that is no event stream.
    pub(crate) async fn ask(
        &self,
        body: &impl Serialize,
        trace: Option<&SpanContext>,
        judge: impl FnOnce(&Refusal) -> ProviderError,
    ) -> Result<Events<'_>, ProviderError> {
        let mut request = self.http.post(self.endpoint.clone()).json(body);
        // Not what vendors noted on the way here: the provider may be a stranger to them.
        if let Some(value) =
            trace.and_then(|trace| HeaderValue::from_str(&trace.traceparent()).ok())
        {
            request = request.header(TRACEPARENT, value);
        }
        let response = match timeout(self.silence, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let what = if error.is_connect() { "can't reach" } else { "lost" };
                let error = beneath(&error);
                return Err(self.broken(&format!("{what} the provider: {error}")));
            }
            Err(_) => return Err(self.silent()),
        };
        let status = response.status();
        if !status.is_success() {
            let retry_after = retry_after(response.headers(), SystemTime::now());
            let body = self.error_body(response).await;
            let words = (self.words)(&body);
            return Err(self.cleaned(judge(&Refusal { status, retry_after, body, words })));
        }
        let content_type = header(response.headers(), CONTENT_TYPE.as_str());
        let content_type = content_type.map(str::to_ascii_lowercase);
        match content_type {
            Some(other) if !other.starts_with("text/event-stream") => {
                let body = (self.words)(&self.error_body(response).await);
                let other = short(&other);
                Err(self
                    .broken(&format!("the provider answered with {other}, not a stream: {body}")))
            }
            _ => Ok(Events::new(response, self)),
        }
    }

    /// What an error response says, as far as it is there in time.
    async fn error_body(&self, mut response: Response) -> String {
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
        self.clean(&String::from_utf8_lossy(&body))
    }

    /// Something broke, in these words.
    pub(crate) fn broken(&self, message: &str) -> ProviderError {
        ProviderError::Broken(self.clean(message))
    }

    pub(super) fn silent(&self) -> ProviderError {
        ProviderError::Broken(format!("the provider was silent for {:?}", self.silence))
    }

    /// The error without the key, which some servers repeat.
    pub(crate) fn cleaned(&self, error: ProviderError) -> ProviderError {
        match error {
            ProviderError::Busy { message, retry_after } => {
                ProviderError::Busy { message: self.clean(&message), retry_after }
            }
            ProviderError::Broken(message) => ProviderError::Broken(self.clean(&message)),
            ProviderError::TooLong(message) => ProviderError::TooLong(self.clean(&message)),
            ProviderError::Refused(message) => ProviderError::Refused(self.clean(&message)),
        }
    }

    fn clean(&self, text: &str) -> String {
        self.key.as_ref().map_or_else(|| text.to_owned(), |key| key.redact(text))
    }
}

fn endpoint(base_url: &str, path: &str, like: &'static str) -> Result<Url, ProviderSetupError> {
    let wrong = |reason: &str| ProviderSetupError::BaseUrl {
        url: base_url.to_owned(),
        reason: reason.to_owned(),
        like,
    };
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
        let reason = "a password belongs into key".to_owned();
        return Err(ProviderSetupError::BaseUrl { url, reason, like });
    }
    let path = format!("{}{path}", url.path().trim_end_matches('/'));
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
            match (endpoint(base_url, "/chat/completions", "https://like"), expect) {
                (Ok(url), Ok(expected)) => assert_eq!(url.as_str(), expected),
                (Err(error), Err(part)) => {
                    let error = error.to_string();
                    assert!(error.contains(part) && !error.contains("secret"), "{error}");
                    assert!(error.ends_with("it looks like https://like"), "{error}");
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
