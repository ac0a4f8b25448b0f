//! Carries callbacks over HTTP, signed by the scheme of Standard Webhooks.
//!
//! One try is one POST with `webhook-id`, `webhook-timestamp` and `webhook-signature`. Only an
//! answer of 2xx counts as delivered. A redirect is not followed: it would lead the event to where
//! nobody has allowed it to go. Which addresses may be reached at all is asked at every connection
//! ([`guarded`]), and no proxy is used, because a proxy would resolve the name by itself.

#[cfg(test)]
mod fuzz;
mod guarded;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};
use ring::hmac;
use turnkeep_core::listen::signed_content;
use turnkeep_core::network::{Network, may_reach};
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::listeners::{Carried, Courier, Delivery};

use crate::outward;
use guarded::Guarded;
pub use guarded::{Forbidden, Lookup};

/// How long one try may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What is read of an answer, so that its connection can be used again; nothing of it is kept.
const ANSWER_BYTES_MAX: usize = 4 * 1024;
/// How long the rest of an answer is waited for.
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// Connections to one receiver that are kept for later.
const IDLE_CONNECTIONS_MAX: usize = 8;

/// Why there is no courier.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// Nobody chose how to speak TLS before.
    #[error("no TLS provider is installed in this process")]
    NoTlsProvider,
    /// The HTTP client can't be made.
    #[error("the HTTP client can't be made: {0}")]
    Client(String),
    /// The address is none, or not one of `http` or `https`.
    #[error("the address is not one of http or https")]
    Address,
    /// Callbacks that nobody signs are none.
    #[error("there is no secret to sign with")]
    NoSecret,
}

/// What the couriers of one process share.
#[derive(Clone, Debug)]
pub struct WebhookClient {
    http: reqwest::Client,
    allowed: Arc<[Network]>,
}

impl WebhookClient {
    /// A client that reaches the open internet and the `allowed` networks.
    ///
    /// # Errors
    /// No TLS provider is installed, or the system refuses.
    pub fn new(allowed: &[Network]) -> Result<Self, WebhookError> {
        Self::with_lookup(allowed, guarded::system())
    }

    /// The same with another way to look names up.
    ///
    /// # Errors
    /// No TLS provider is installed, or the system refuses.
    pub fn with_lookup(allowed: &[Network], lookup: Lookup) -> Result<Self, WebhookError> {
        let allowed: Arc<[Network]> = allowed.into();
        let http = outward::client()
            .ok_or(WebhookError::NoTlsProvider)?
            .dns_resolver(Arc::new(Guarded::new(Arc::clone(&allowed), lookup)))
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build()
            .map_err(|error| WebhookError::Client(innermost(&error)))?;
        Ok(Self { http, allowed })
    }
}

/// Carries callbacks to one address. Shows neither the address nor the secrets.
pub struct WebhookCourier {
    client: WebhookClient,
    url: Url,
    /// More than one while a secret is changed; at least one.
    keys: Vec<hmac::Key>,
}

impl WebhookCourier {
    /// A courier to `url` that signs with each of `secrets`, the bytes behind `whsec_`.
    ///
    /// # Errors
    /// The address is none, or not one of `http` or `https`; or there is no secret.
    pub fn new(client: &WebhookClient, url: &str, secrets: &[&[u8]]) -> Result<Self, WebhookError> {
        let url = Url::parse(url).map_err(|_| WebhookError::Address)?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(WebhookError::Address);
        }
        if secrets.is_empty() {
            return Err(WebhookError::NoSecret);
        }
        let keys = secrets.iter().map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret));
        Ok(Self { client: client.clone(), url, keys: keys.collect() })
    }

    /// A host that is an address needs no looking up, so nobody else asks about it.
    fn forbidden(&self) -> Option<Forbidden> {
        let host = self.url.host_str()?.trim_matches(['[', ']']);
        let address: IpAddr = host.parse().ok()?;
        (!may_reach(address, &self.client.allowed)).then_some(Forbidden(address))
    }

    async fn carry(&self, delivery: Delivery) -> Carried {
        if let Some(forbidden) = self.forbidden() {
            return failed(&forbidden.to_string());
        }
        let Delivery { id, body } = delivery;
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_seconds = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
        let signatures = signatures(&self.keys, &id, at_seconds, &body);
        let request = self
            .client
            .http
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", at_seconds)
            .header("webhook-signature", signatures)
            .body(body);
        match tokio::time::timeout(TIMEOUT, request.send()).await {
            Ok(Ok(response)) => {
                let carried = judge(response.status(), response.headers());
                // Late bytes change nothing any more.
                let _ = tokio::time::timeout(ANSWER_TIME, read_rest(response)).await;
                carried
            }
            Ok(Err(error)) => failed(&innermost(&error)),
            Err(_) => failed(&format!("no answer within {} s", TIMEOUT.as_secs())),
        }
    }
}

impl Courier for WebhookCourier {
    fn carry(&self, delivery: Delivery) -> BoxFuture<'_, Carried> {
        Box::pin(self.carry(delivery))
    }
}

/// The value of `webhook-signature`: one for each key, so that a receiver who knows any of them is
/// satisfied.
fn signatures(keys: &[hmac::Key], id: &str, at_seconds: i64, body: &[u8]) -> String {
    let content = signed_content(id, at_seconds, body);
    let sign = |key| format!("v1,{}", STANDARD.encode(hmac::sign(key, &content)));
    keys.iter().map(sign).collect::<Vec<_>>().join(" ")
}

fn failed(error: &str) -> Carried {
    Carried::Failed { error: error.into(), retry_after_ms: None }
}

fn judge(status: StatusCode, headers: &HeaderMap) -> Carried {
    if status.is_success() {
        return Carried::Delivered;
    }
    if status == StatusCode::GONE {
        return Carried::Gone;
    }
    let error = if status.is_redirection() {
        format!("answered {status}: redirects are not followed, configure the final address")
    } else {
        format!("answered {status}")
    };
    Carried::Failed { error: error.into(), retry_after_ms: retry_after_ms(headers) }
}

/// How long the receiver wants to be left alone. A date is read against its own clock where it
/// tells it, because either clock may be wrong.
fn retry_after_ms(headers: &HeaderMap) -> Option<u64> {
    let header = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let text = header(RETRY_AFTER)?;
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(seconds.saturating_mul(1000));
    }
    let date = |text| httpdate::parse_http_date(text).ok();
    let now = header(DATE).and_then(date).unwrap_or_else(SystemTime::now);
    let pause = date(text)?.duration_since(now).unwrap_or_default();
    u64::try_from(pause.as_millis()).ok()
}

async fn read_rest(mut response: Response) {
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read > ANSWER_BYTES_MAX {
            return;
        }
    }
}

/// The innermost reason: the layers above it name the address, which may hold a secret.
pub(crate) fn innermost(error: &reqwest::Error) -> String {
    let mut cause = std::error::Error::source(error);
    let mut text = None;
    while let Some(error) = cause {
        text = Some(error.to_string());
        cause = error.source();
    }
    text.unwrap_or_else(|| "the connection broke".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that the scheme's own libraries are tested with.
    #[test]
    fn the_published_example_is_signed_as_published() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let sign = |keys: &[_]| signatures(keys, id, 1_614_265_330, br#"{"test": 2432232314}"#);
        let published = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(std::slice::from_ref(&key)), published);
        let other = hmac::Key::new(hmac::HMAC_SHA256, b"another one");
        let both = sign(&[other, key]);
        let (first, second) = both.split_once(' ').unwrap();
        assert!(first.starts_with("v1,") && first != second, "{both}");
        assert_eq!(second, published);
    }

    #[test]
    fn answers_are_judged() {
        let check = |status: u16, pairs: &[(&'static str, &str)], expect: Carried| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(judge(status, &headers), expect, "{status} {pairs:?}");
        };
        let failed =
            |error: &str, retry_after_ms| Carried::Failed { error: error.into(), retry_after_ms };
        check(200, &[], Carried::Delivered);
        check(204, &[], Carried::Delivered);
        check(410, &[], Carried::Gone);
        check(500, &[], failed("answered 500 Internal Server Error", None));
        let busy = "answered 503 Service Unavailable";
        check(503, &[("retry-after", "7")], failed(busy, Some(7000)));
        check(503, &[("retry-after", "soon")], failed(busy, None));
        check(503, &[("retry-after", "99999999999999999999")], failed(busy, None));
        let dates = [
            ("retry-after", "Wed, 04 Nov 2026 10:00:09 GMT"),
            ("date", "Wed, 04 Nov 2026 10:00:00 GMT"),
        ];
        check(503, &dates, failed(busy, Some(9000)));
        let moved = "answered 302 Found: redirects are not followed, configure the final address";
        check(302, &[("location", "http://127.0.0.1/")], failed(moved, None));
    }
}
