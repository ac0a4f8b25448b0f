//! Talks to a running server and turns what goes wrong into sentences.

use std::time::Duration;

use anyhow::Context as _;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use serde::Deserialize;
use serde_json::Value;
pub(super) use turnkeep_terminal::segment;

use super::args::ApiArgs;
use super::{output, place};
use crate::config::{self, Env};
use place::Place;

/// How long a request without a wait of its own may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The variable that holds the API key. There is no flag for it: everybody on the machine sees the
/// flags of a process.
const KEY_VARIABLE: &str = "TURNKEEP_KEY";

/// One JSON text a line.
const LINES: &str = "application/x-ndjson";

/// How the trouble with a certificate begins.
const CERTIFICATE: &str = "invalid peer certificate";

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What the server thinks is wrong, as problem+json says it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Refusal {
    #[serde(skip)]
    pub(super) status: u16,
    #[serde(rename = "type")]
    kind: String,
    title: String,
    detail: String,
    field: Option<String>,
    rejection_reason: Option<String>,
    retry_after_s: Option<u64>,
}

impl Refusal {
    /// Whether it is of this kind, as the list of errors in the API's documents names it.
    pub(super) fn is(&self, kind: &str) -> bool {
        self.kind() == kind
    }

    /// The same for who typed a flag where others send this field.
    pub(super) fn with_flag(mut self, field: &str, flag: &str) -> Self {
        self.detail = self.detail.replace(&format!("; {field} "), &format!("; {flag} "));
        self
    }

    /// The last part of its type, as the list of errors in the API's documents names it.
    pub(super) fn kind(&self) -> &str {
        self.kind.rsplit(':').next().unwrap_or_default()
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = [&self.title, &self.detail];
        let mut parts: Vec<String> = Vec::new();
        for word in words.into_iter().filter(|word| !word.is_empty()) {
            parts.push(output::harmless(word));
        }
        if parts.is_empty() {
            parts.push(format!("status {}", self.status));
        }
        write!(formatter, "{}", parts.join(": "))?;
        if let Some(field) = &self.field {
            write!(formatter, " (field {})", output::harmless(field))?;
        }
        if let Some(reason) = &self.rejection_reason {
            write!(formatter, " ({})", output::harmless(reason))?;
        }
        if let Some(seconds) = self.retry_after_s {
            write!(formatter, "; try again in {seconds} s")?;
        }
        Ok(())
    }
}

/// Why there is no answer to show, cut by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// Nothing was sent.
    #[error("no Turnkeep answers at {place}{}", mend_of(reason))]
    NotThere {
        /// Where it was looked for.
        place: String,
        /// What the system said.
        reason: String,
    },
    /// Nothing was sent: who is there doesn't speak TLS, or not so that it is trusted.
    #[error(
        "no TLS connection to {place}: {reason}; Turnkeep itself speaks plain http://, https:// \
         needs a proxy in front of it"
    )]
    NoTls {
        /// Where it was tried.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing was sent: who answers can't show that it is who was meant.
    #[error(
        "{place} is not trusted: {reason}. Nothing was sent. Trusted are the authorities of this \
         machine, or those in the file that SSL_CERT_FILE names"
    )]
    Untrusted {
        /// Where it was tried.
        place: String,
        /// What is wrong with its certificate.
        reason: String,
    },
    /// It was sent, and nobody knows what became of it.
    #[error("the connection to {place} was lost: {reason}")]
    Lost {
        /// Where the server is.
        place: String,
        /// What the system said.
        reason: String,
    },
    /// The server said no.
    #[error("{0}")]
    Refused(Refusal),
    /// Something answered that is no Turnkeep.
    #[error("what answers at {place} is no Turnkeep: {reason}")]
    Strange {
        /// Where it is.
        place: String,
        /// What was strange.
        reason: String,
    },
}

/// What to do where nobody answers: start a server, unless something else stands in the way.
fn mend_of(reason: &str) -> String {
    if is_nobody(reason) {
        "; start one with `turnkeep serve`".to_owned()
    } else {
        format!(": {reason}")
    }
}

/// Whether the system says that nobody listens there.
pub(super) fn is_nobody(reason: &str) -> bool {
    ["Connection refused", "No such file"].iter().any(|words| reason.starts_with(words))
}

/// An answer of the server.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// As it came, for `--json`.
    pub(super) text: String,
    pub(super) value: Value,
}

impl Answer {
    /// What a server would have said, where none was needed.
    pub(super) fn made(value: Value) -> Self {
        Self { status: 200, text: value.to_string(), value }
    }
}

/// An answer that comes line by line.
pub(super) struct Lines<'a> {
    client: &'a Client,
    response: reqwest::Response,
    buffer: Vec<u8>,
}

impl Lines<'_> {
    /// The next line without its end; none at the end. A line that was cut off is none.
    pub(super) async fn next(&mut self) -> Result<Option<String>, ClientError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(end + 1);
                let line = std::mem::replace(&mut self.buffer, rest);
                let line = String::from_utf8_lossy(&line[..end]).into_owned();
                return Ok(Some(line));
            }
            let chunk = self.response.chunk().await.map_err(|error| self.client.broken(&error))?;
            let Some(chunk) = chunk else { return Ok(None) };
            self.buffer.extend_from_slice(&chunk);
        }
    }

    /// What a refusal in the middle of the lines means.
    pub(super) fn refused(&self, problem: &Value) -> ClientError {
        let status = problem["status"].as_u64().and_then(|status| u16::try_from(status).ok());
        let status = status.and_then(|status| reqwest::StatusCode::from_u16(status).ok());
        self.client.refused(status.unwrap_or_default(), &problem.to_string())
    }
}

/// A server, as a client sees it.
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    place: Place,
    json: bool,
}

impl Client {
    /// Finds the server; nothing is sent yet.
    pub(super) fn new(args: &ApiArgs) -> anyhow::Result<Self> {
        let env = Env::of_process();
        let place = place::find(args, &env)?;
        let builder = reqwest::Client::builder()
            .default_headers(key_header(args, &place, &env)?)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        let (builder, base) = match &place {
            Place::Socket(path) => (builder.unix_socket(path.clone()), "http://localhost".into()),
            Place::Url(url) if goes_straight(url) => (builder.no_proxy(), url.clone()),
            Place::Url(url) => (builder, url.clone()),
        };
        Ok(Self { http: builder.build()?, base, place, json: args.json })
    }

    pub(super) async fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.request(self.http.get(self.url(path)).timeout(TIMEOUT)).await
    }

    pub(super) async fn post(
        &self,
        path: &str,
        body: &Value,
        wait: Duration,
    ) -> Result<Answer, ClientError> {
        let timeout = TIMEOUT.saturating_add(wait);
        self.request(self.http.post(self.url(path)).json(body).timeout(timeout)).await
    }

    /// Sends a file of lines, for as long as it takes.
    pub(super) async fn post_lines(
        &self,
        path: &str,
        lines: Vec<u8>,
    ) -> Result<Answer, ClientError> {
        self.request(self.http.post(self.url(path)).header(CONTENT_TYPE, LINES).body(lines)).await
    }

    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<Answer, ClientError> {
        self.request(self.http.put(self.url(path)).json(body).timeout(TIMEOUT)).await
    }

    pub(super) async fn delete(&self, path: &str) -> Result<Answer, ClientError> {
        self.request(self.http.delete(self.url(path)).timeout(TIMEOUT)).await
    }

    /// An answer that comes line by line, for as long as it takes.
    pub(super) async fn lines(
        &self,
        method: reqwest::Method,
        path: &str,
    ) -> Result<Lines<'_>, ClientError> {
        self.lines_of(self.http.request(method, self.url(path))).await
    }

    /// The same where something is sent along.
    pub(super) async fn post_for_lines(
        &self,
        path: &str,
        body: &Value,
    ) -> Result<Lines<'_>, ClientError> {
        self.lines_of(self.http.post(self.url(path)).json(body)).await
    }

    /// The beginning of a request of any kind.
    pub(super) fn build(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, self.url(path))
    }

    /// An answer, if it is a success.
    pub(super) async fn checked(
        &self,
        response: reqwest::Response,
    ) -> Result<reqwest::Response, ClientError> {
        if !response.status().is_success() {
            let status = response.status();
            let text = response.text().await.map_err(|error| self.broken(&error))?;
            return Err(self.refused(status, &text));
        }
        Ok(response)
    }

    /// Where the server is.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    async fn lines_of(&self, request: reqwest::RequestBuilder) -> Result<Lines<'_>, ClientError> {
        let response = request.header(ACCEPT, LINES).send().await;
        let response = self.checked(response.map_err(|error| self.broken(&error))?).await?;
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if kind != Some(LINES) {
            return Err(self.strange(format!("it answers {}", kind.unwrap_or("with nothing"))));
        }
        Ok(Lines { client: self, response, buffer: Vec::new() })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn request(&self, request: reqwest::RequestBuilder) -> Result<Answer, ClientError> {
        let response = request.send().await.map_err(|error| self.broken(&error))?;
        let status = response.status();
        let text = response.text().await.map_err(|error| self.broken(&error))?;
        if !status.is_success() {
            return Err(self.refused(status, &text));
        }
        let value = serde_json::from_str(&text);
        let value = value.map_err(|error| self.strange(error.to_string()))?;
        Ok(Answer { status: status.as_u16(), text, value })
    }

    /// What a server means that says no.
    fn refused(&self, status: reqwest::StatusCode, text: &str) -> ClientError {
        let Ok(refusal) = serde_json::from_str::<Refusal>(text) else {
            return self.strange(format!("it says {status}"));
        };
        if self.json {
            // The details are for the program that reads; the sentence still goes to standard
            // error.
            let _ = output::line(text);
        }
        ClientError::Refused(Refusal { status: status.as_u16(), ..refusal })
    }

    pub(super) fn broken(&self, error: &reqwest::Error) -> ClientError {
        let reason = root(error);
        let place = self.place.to_string();
        if error.is_connect() && place.starts_with("https://") && is_tls_trouble(error) {
            return match reason.starts_with(CERTIFICATE) {
                true => ClientError::Untrusted { place, reason },
                false => ClientError::NoTls { place, reason },
            };
        }
        if error.is_connect() || error.is_builder() {
            ClientError::NotThere { place, reason }
        } else {
            ClientError::Lost { place, reason }
        }
    }

    fn strange(&self, reason: String) -> ClientError {
        ClientError::Strange { place: self.place.to_string(), reason }
    }
}

/// The socket needs no key, and gets to see none.
fn key_header(args: &ApiArgs, place: &Place, env: &Env) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    if matches!(place, Place::Socket(_)) {
        return Ok(headers);
    }
    let key = match &args.key_file {
        Some(path) => {
            let read = config::read_secret(path).map_err(anyhow::Error::msg);
            let (key, group) = read.context("--key-file")?;
            if group {
                let path = path.display();
                output::complain(&format!(
                    "note: {path} is open to its group; chmod 600 it unless that is meant"
                ));
            }
            Some(key)
        }
        None => env.get(KEY_VARIABLE).map(str::trim).filter(|key| !key.is_empty()).map(Into::into),
    };
    if let Some(key) = key {
        let wrong = "the API key holds characters that no key has";
        let mut value = HeaderValue::try_from(format!("Bearer {key}")).ok().context(wrong)?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(headers)
}

/// Whether no proxy of the environment is used: for this machine, and where it would see the key.
fn goes_straight(url: &str) -> bool {
    let url = reqwest::Url::parse(url).ok();
    if url.as_ref().is_some_and(|url| url.scheme() != "https") {
        return true;
    }
    let host = url.as_ref().and_then(reqwest::Url::host_str).unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Whether somebody was there, and the trouble began with the first words of TLS.
fn is_tls_trouble(error: &reqwest::Error) -> bool {
    use std::io::ErrorKind::{ConnectionReset, InvalidData, UnexpectedEof};
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        next = match error.downcast_ref::<std::io::Error>() {
            Some(io) if matches!(io.kind(), ConnectionReset | InvalidData | UnexpectedEof) => {
                return true;
            }
            // What such an error wraps is not among its sources.
            Some(io) => io.get_ref().map(|wrapped| wrapped as _),
            None => error.source(),
        };
    }
    false
}

/// The innermost reason; the layers above it only say that there is one.
fn root(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

/// A path with the parts of a query that are there.
pub(super) fn with_query(path: &str, query: &[(&str, Option<String>)]) -> String {
    let given = query.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let pairs: Vec<String> =
        given.map(|(name, value)| format!("{name}={}", segment(value))).collect();
    if pairs.is_empty() { path.to_owned() } else { format!("{path}?{}", pairs.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_encoded_once_more() {
        assert_eq!(segment("a%3Ab:c"), "a%253Ab%3Ac");
        assert_eq!(segment("é/?#"), "%C3%A9%2F%3F%23");
        assert_eq!(segment("plain-1.2_~"), "plain-1.2_~");
    }

    #[test]
    fn queries_hold_what_is_given() {
        assert_eq!(with_query("/v1/x", &[("after", None)]), "/v1/x");
        let query = [("after", Some("a:b".to_owned())), ("limit", Some("5".to_owned()))];
        assert_eq!(with_query("/v1/x", &query), "/v1/x?after=a%3Ab&limit=5");
    }

    #[test]
    fn refusals_are_sentences() {
        let check = |json: &str, expect: &str| {
            let refusal: Refusal = serde_json::from_str(json).unwrap();
            assert_eq!(Refusal { status: 422, ..refusal }.to_string(), expect);
        };
        check("{}", "status 422");
        check(
            r#"{"title":"bad field","detail":"no agent \"x\"","field":"agent_id"}"#,
            "bad field: no agent \"x\" (field agent_id)",
        );
        check(
            r#"{"title":"refused","rejection_reason":"queue_full","retry_after_s":3}"#,
            "refused (queue_full); try again in 3 s",
        );
    }

    #[test]
    fn own_machines_and_plain_http_go_past_a_proxy() {
        for (url, expect) in [
            ("http://127.0.0.1:7878", true),
            ("http://[::1]:7878", true),
            ("http://localhost", true),
            ("https://127.0.0.1:7878", true),
            ("https://example.org", false),
            ("https://127.0.0.1.example.org", false),
            // The proxy would see the key.
            ("http://example.org", true),
        ] {
            assert_eq!(goes_straight(url), expect, "{url}");
        }
    }
}
