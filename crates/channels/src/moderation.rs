//! Asks an external check over HTTP whether a message may go on: one POST of JSON, one answer.
//!
//! The address is the operator's own, so it may be anywhere, this machine included. A redirect is
//! not followed, and no proxy of the environment is used: either would lead texts of customers and the
//! secret to where nobody has allowed them to go.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Response, Url};
use serde::{Deserialize, Serialize};
use turnkeep_core::moderation::Ruling;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::moderator::{Checked, Checkup, Moderator};

use crate::outward;
use crate::webhook::innermost;

/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that are kept for later.
const IDLE_CONNECTIONS_MAX: usize = 16;

/// Why there is no moderator.
#[derive(Debug, thiserror::Error)]
pub enum ModeratorError {
    /// Nobody chose how to speak TLS before.
    #[error("no TLS provider is installed in this process")]
    NoTlsProvider,
    /// The HTTP client can't be made.
    #[error("the HTTP client can't be made: {0}")]
    Client(String),
    /// The address is none, or not one of `http` or `https`.
    #[error("the address is not one of http or https")]
    Address,
    /// The secret can't stand in a header.
    #[error("the secret holds a character that no header may hold")]
    Secret,
}

/// Asks one address. Shows neither the address nor the secret.
pub struct HttpModerator {
    http: reqwest::Client,
    url: Url,
    authorization: Option<HeaderValue>,
}

/// What is asked.
#[derive(Serialize)]
struct Question<'a> {
    text: &'a str,
    tenant: &'a str,
    channel: &'a str,
    message_id: &'a str,
}

/// What is answered; whatever else stands there is ignored.
#[derive(Deserialize)]
struct Answer {
    allow: bool,
    #[serde(default)]
    reason: Option<String>,
}

impl HttpModerator {
    /// Asks `url`, with `secret` as a bearer token.
    ///
    /// # Errors
    /// No TLS provider is installed, the system refuses, or the address or the secret is none.
    pub fn new(url: &str, secret: Option<&str>) -> Result<Self, ModeratorError> {
        let http = outward::client().ok_or(ModeratorError::NoTlsProvider)?;
        let url = Url::parse(url).map_err(|_| ModeratorError::Address)?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(ModeratorError::Address);
        }
        let authorization = secret.map(|secret| {
            let mut value = HeaderValue::from_str(&format!("Bearer {secret}"))
                .map_err(|_| ModeratorError::Secret)?;
            value.set_sensitive(true);
            Ok(value)
        });
        let http = http
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build()
            .map_err(|error| ModeratorError::Client(innermost(&error)))?;
        Ok(Self { http, url, authorization: authorization.transpose()? })
    }

    async fn ask(&self, message: Checked<'_>) -> Result<Checkup, String> {
        let Checked { text, tenant, channel, message_id } = message;
        let question = Question { text, tenant, channel, message_id };
        let body = serde_json::to_vec(&question).map_err(|error| error.to_string())?;
        let request = self.http.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
        let request = match &self.authorization {
            Some(authorization) => request.header(AUTHORIZATION, authorization.clone()),
            None => request,
        };
        let response = request.body(body).send().await.map_err(|error| innermost(&error))?;
        let status = response.status();
        if status.is_redirection() {
            return Err(format!(
                "answered {status}: redirects are not followed, configure the final address"
            ));
        }
        if !status.is_success() {
            return Err(format!("answered {status}"));
        }
        let Answer { allow, reason } = serde_json::from_slice(&read(response).await?)
            .map_err(|_| "answered something else than {\"allow\": true or false}".to_owned())?;
        Ok(Checkup { ruling: if allow { Ruling::Allow } else { Ruling::Refuse }, reason })
    }
}

impl Moderator for HttpModerator {
    fn check<'a>(&'a self, message: Checked<'a>) -> BoxFuture<'a, Result<Checkup, String>> {
        Box::pin(self.ask(message))
    }
}

async fn read(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| innermost(&error))? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(format!("answered more than {ANSWER_BYTES_MAX} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
