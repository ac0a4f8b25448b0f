//! One signed POST and how its answer begins.

use std::time::{Duration, SystemTime};

use reqwest::header::{ACCEPT, CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};
use tokio::time::timeout;
use turnkeep_core::session::input::RunFailure;

use super::sign::Signer;
use super::{HttpBrainError, HttpBrainSettings};
use crate::outward::{self, Proxies, innermost};

/// Tells the brain which span it is asked for.
const TRACEPARENT: &str = "traceparent";
/// What a stream is.
const EVENT_STREAM: &str = "text/event-stream";
/// How long connecting may take.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// How long an answer may take that is no stream.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Idle connections are closed before servers do it (five seconds are usual): what is posted just
/// then is lost.
const IDLE_TIME: Duration = Duration::from_secs(4);
/// What is read of an answer that is no stream, and how long that may take.
const REST_BYTES_MAX: usize = 4 * 1024;
const REST_TIME: Duration = Duration::from_secs(1);
/// What is told of it.
const WORDS_CHARS_MAX: usize = 300;

/// Before a server that can't be reached is tried by another attempt: most likely it is being started
/// again, and no turn is to be lost to that.
const AWAY_TIME: Duration = Duration::from_secs(5);

/// Why a POST has no use.
#[derive(Debug)]
pub(super) struct Trouble {
    /// In words.
    pub(super) error: String,
    /// What was answered, if anything.
    pub(super) status: Option<StatusCode>,
    /// How long the server wants to be left alone.
    pub(super) retry_after: Option<Duration>,
    /// Nobody is there.
    pub(super) away: bool,
}

impl Trouble {
    /// Nothing was answered.
    pub(super) const fn unanswered(error: String) -> Self {
        Self { error, status: None, retry_after: None, away: false }
    }

    /// Nothing was answered, or something that passes.
    pub(super) fn passes(&self) -> bool {
        const PASSING: [StatusCode; 3] =
            [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY, StatusCode::TOO_MANY_REQUESTS];
        self.status.is_none_or(|status| status.is_server_error() || PASSING.contains(&status))
    }

    /// It doesn't have the turn, or has a newer attempt of it.
    pub(super) fn knows_no_turn(&self) -> bool {
        const UNKNOWN: [StatusCode; 3] =
            [StatusCode::NOT_FOUND, StatusCode::CONFLICT, StatusCode::GONE];
        self.status.is_some_and(|status| UNKNOWN.contains(&status))
    }

    /// The attempt ends with it.
    pub(super) fn failure(self, retry: bool) -> RunFailure {
        let pause = self.retry_after.or(self.away.then_some(AWAY_TIME));
        let retry_after_ms =
            pause.map(|pause| u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
        RunFailure { error: self.error.into(), retry, retry_after_ms }
    }
}

/// Posts to one brain.
pub(super) struct Poster {
    http: reqwest::Client,
    url: Url,
    signer: Signer,
    begin_timeout: Duration,
    pub(super) retry_pause: Duration,
    /// The agent and its server, for a person. Without the path, which may be a secret.
    pub(super) whom: String,
}

impl Poster {
    pub(super) fn new(settings: &HttpBrainSettings) -> Result<Self, HttpBrainError> {
        let url = Url::parse(&settings.url).map_err(|_| HttpBrainError::Address)?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(HttpBrainError::Address);
        }
        let signer = Signer::new(&settings.secrets).ok_or(HttpBrainError::NoSecret)?;
        let http = outward::client(Proxies::Never)
            .ok_or(HttpBrainError::NoTlsProvider)?
            .connect_timeout(CONNECT_TIME)
            .pool_idle_timeout(IDLE_TIME)
            .build()
            .map_err(|error| HttpBrainError::Client(innermost(&error)))?;
        let HttpBrainSettings { begin_timeout, retry_pause, .. } = *settings;
        let origin = url.origin().ascii_serialization();
        let whom = match settings.name.as_str() {
            "" => origin,
            name => format!("agent {name:?} at {origin}"),
        };
        Ok(Self { http, url, signer, begin_timeout, retry_pause, whom })
    }

    /// Posts what is answered by a stream.
    pub(super) async fn open(
        &self,
        id: &str,
        body: String,
        trace: Option<&str>,
    ) -> Result<Response, Trouble> {
        let response = self.send(id, body, trace, self.begin_timeout).await?;
        let status = response.status();
        let kind = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let kind = kind.unwrap_or_default().trim().to_ascii_lowercase();
        if kind.split(';').next().map(str::trim_end) == Some(EVENT_STREAM) {
            return Ok(response);
        }
        let kind = if kind.is_empty() { "nothing".to_owned() } else { short(&kind) };
        let error = format!(
            "the brain answered {status} with {kind} instead of {EVENT_STREAM}{}",
            said(response).await
        );
        Err(Trouble { status: Some(status), ..Trouble::unanswered(error) })
    }

    /// Posts what only has to arrive.
    pub(super) async fn hand_over(
        &self,
        id: &str,
        body: String,
        trace: Option<&str>,
    ) -> Result<(), Trouble> {
        let response = self.send(id, body, trace, ANSWER_TIME).await?;
        // Only so that the connection can be used again.
        said(response).await;
        Ok(())
    }

    async fn send(
        &self,
        id: &str,
        body: String,
        trace: Option<&str>,
        limit: Duration,
    ) -> Result<Response, Trouble> {
        let request = self.http.post(self.url.clone());
        let mut request = self
            .signer
            .sign(request, id, &body)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, EVENT_STREAM)
            .body(body);
        if let Some(trace) = trace {
            request = request.header(TRACEPARENT, trace);
        }
        let response = match timeout(limit, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let away = error.is_connect();
                let what = if away { "can't be reached" } else { "was lost" };
                let error = format!("the brain {what}: {}", innermost(&error));
                return Err(Trouble { away, ..Trouble::unanswered(error) });
            }
            Err(_) => {
                let error = format!("the brain did not begin to answer within {limit:?}");
                return Err(Trouble::unanswered(error));
            }
        };
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry_after = retry_after(response.headers(), SystemTime::now());
        let error = if status.is_redirection() {
            format!(
                "the brain said {status}; redirects are not followed, configure the final address"
            )
        } else {
            format!("the brain said {status}{}", said(response).await)
        };
        Err(Trouble { status: Some(status), retry_after, ..Trouble::unanswered(error) })
    }
}

/// What an answer that is no stream says, for a person, with what comes before it.
async fn said(mut response: Response) -> String {
    let mut body = Vec::new();
    let read = async {
        while body.len() < REST_BYTES_MAX {
            let Ok(Some(chunk)) = response.chunk().await else { return };
            let room = REST_BYTES_MAX - body.len();
            body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        }
    };
    // If time runs out, what came is better than nothing.
    let _ = timeout(REST_TIME, read).await;
    let words = short(&String::from_utf8_lossy(&body));
    if words.is_empty() { words } else { format!(": {words}") }
}

/// One line of bounded length, without characters that could steer whoever shows it.
fn short(text: &str) -> String {
    let parts = |one: char| one.is_whitespace() || one.is_control();
    let words: Vec<&str> = text.split(parts).filter(|word| !word.is_empty()).collect();
    words.join(" ").chars().take(WORDS_CHARS_MAX).collect()
}

/// A date is read against the server's own clock where it tells it, because either may be wrong.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let header = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let text = header(RETRY_AFTER)?;
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text| httpdate::parse_http_date(text).ok();
    let now = header(DATE).and_then(date).unwrap_or(now);
    Some(date(text)?.duration_since(now).unwrap_or_default())
}
