//! A brain's server, by hand: POSTs that no gateway would send, and the stream that answers them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
use hyper::body::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::{Client, Response, StatusCode};
use ring::hmac;
use serde_json::{Value, json};
use sse_stream::{Sse, SseStream};
use turnkeep_core::listen::signed_content;

use super::line::{Line, OUTPUT_BYTES_MAX, object};
use super::report::shown;
use super::{Address, Wants};

/// How long the head of any answer may take, if nobody wants it sooner.
const HEAD_MAX: Duration = Duration::from_secs(30);

/// Posts to one brain.
pub(super) struct Poster {
    client: Client,
    url: String,
    keys: Vec<hmac::Key>,
    head_max: Duration,
}

/// How a POST is signed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Signed {
    Rightly,
    /// Seconds away from now, else rightly.
    Away(i64),
    WithAnother,
    NotAtAll,
}

impl Poster {
    pub(super) fn new(address: &Address, wants: &Wants) -> Result<Self, String> {
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("turnkeep/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| format!("the HTTP client can't be made: {error}"))?;
        let keys = address.secrets.iter().map(|secret| hmac::Key::new(hmac::HMAC_SHA256, secret));
        let (url, head_max) = (address.url.clone(), HEAD_MAX.min(wants.timeout));
        Ok(Self { client, url, keys: keys.collect(), head_max })
    }

    /// Whether anybody takes a connection; what becomes of it is another matter.
    pub(super) async fn reach(&self) -> Result<(), String> {
        let asked = tokio::time::timeout(self.head_max, self.client.post(&self.url).send()).await;
        match asked {
            Ok(Err(error)) if error.is_connect() => Err(self.unreached(&error)),
            _ => Ok(()),
        }
    }

    /// With the cause that says most, and with where; the path may be a secret.
    fn unreached(&self, error: &reqwest::Error) -> String {
        let origin = reqwest::Url::parse(&self.url).map(|url| url.origin().ascii_serialization());
        let origin = origin.unwrap_or_else(|_| "its address".to_owned());
        let cause = innermost(error);
        match error.is_connect() {
            true => format!("it can't be reached at {origin}: {cause}"),
            false => format!("it did not answer at {origin}: {cause}"),
        }
    }

    /// Posts under a new name.
    pub(super) async fn post(&self, object: &Value) -> Result<Response, String> {
        let name = format!("check_{}", uuid::Uuid::now_v7());
        self.send(&name, object.to_string(), Signed::Rightly).await
    }

    pub(super) async fn send(
        &self,
        name: &str,
        body: String,
        signed: Signed,
    ) -> Result<Response, String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut at = i64::try_from(now).unwrap_or_default();
        let mut keys = self.keys.clone();
        match signed {
            Signed::Rightly => {}
            Signed::Away(seconds) => at += seconds,
            Signed::WithAnother => keys = vec![hmac::Key::new(hmac::HMAC_SHA256, &[7; 32])],
            Signed::NotAtAll => keys.clear(),
        }
        let content = signed_content(name, at, body.as_bytes());
        let sign = |key| format!("v1,{}", STANDARD.encode(hmac::sign(key, &content)));
        let signatures: Vec<String> = keys.iter().map(sign).collect();
        let mut headers = HeaderMap::new();
        let mut put = |name: &'static str, value: String| {
            value.parse().map(|value| headers.insert(name, value)).map(drop)
        };
        let named = put("webhook-id", name.to_owned())
            .and_then(|()| put("webhook-timestamp", at.to_string()))
            .and_then(|()| match signed {
                Signed::NotAtAll => Ok(()),
                _ => put("webhook-signature", signatures.join(" ")),
            });
        named.map_err(|error| format!("a header can't be made: {error}"))?;
        let request = self.client.post(&self.url).headers(headers).body(body);
        let request =
            request.header(CONTENT_TYPE, "application/json").header("accept", "text/event-stream");
        match tokio::time::timeout(self.head_max, request.send()).await {
            Err(_) => Err(format!("it did not begin to answer within {}", shown(self.head_max))),
            Ok(sent) => sent.map_err(|error| self.unreached(&error)),
        }
    }
}

/// The layers above it only say that there is one, some of them twice.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// A stream of events, and the way back.
pub(super) struct Events<'a> {
    poster: &'a Poster,
    turn: String,
    attempt: u32,
    stream: BoxStream<'static, Result<Sse, sse_stream::Error>>,
    /// The number of the last event, as the brain gave it.
    pub(super) last_id: Option<u64>,
    /// What is wrong with the numbers.
    pub(super) misnumbered: Option<String>,
    told: u64,
}

/// Its body, to where it is too much.
fn bounded(response: Response) -> impl Stream<Item = reqwest::Result<Bytes>> {
    response.bytes_stream().scan(0, |sum, chunk| {
        *sum += chunk.as_ref().map_or(0, |bytes| bytes.len() as u64);
        std::future::ready((*sum <= OUTPUT_BYTES_MAX).then_some(chunk))
    })
}

impl<'a> Events<'a> {
    /// The stream that answers a `turn` or a `resume`, whose last number was this.
    pub(super) fn of(
        poster: &'a Poster,
        posted: &Value,
        response: Response,
        last_id: Option<u64>,
    ) -> Result<Self, String> {
        let status = response.status();
        if status != StatusCode::OK {
            return Err(format!("it answered {}", status.as_u16()));
        }
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or("nothing").to_owned();
        if !kind.to_ascii_lowercase().starts_with("text/event-stream") {
            return Err(format!("its content-type is {kind}, not text/event-stream"));
        }
        Ok(Self {
            poster,
            turn: posted["turn_id"].as_str().unwrap_or_default().to_owned(),
            attempt: posted["attempt"].as_u64().and_then(|it| it.try_into().ok()).unwrap_or(1),
            stream: SseStream::from_bytes_stream(bounded(response)).boxed(),
            last_id,
            misnumbered: None,
            told: 0,
        })
    }

    /// An object about this attempt.
    pub(super) fn about(&self, kind: &str) -> Value {
        json!({ "type": kind, "turn_id": self.turn, "attempt": self.attempt })
    }

    /// Tells objects under these numbers.
    pub(super) async fn told(&self, first: u64, objects: &[Value]) -> Result<StatusCode, String> {
        let mut told = self.about("told");
        told["first"] = first.into();
        told["objects"] = objects.into();
        Ok(self.poster.post(&told).await?.status())
    }

    /// Counts what `tell` counts.
    pub(super) const fn count(&mut self, told: u64) {
        self.told += told;
    }

    fn number(&mut self, id: Option<&str>) {
        let expected = self.last_id.map_or(1, |last| last + 1);
        let number = id.and_then(|id| id.parse::<u64>().ok());
        match (id, number) {
            (None, _) if self.last_id.is_none() => {}
            (_, Some(number)) if number == expected => self.last_id = Some(number),
            _ => {
                let said = id.map_or_else(|| "none".to_owned(), ToOwned::to_owned);
                let wrong = format!("an event has the id {said} where {expected} would be next");
                self.misnumbered.get_or_insert(wrong);
            }
        }
    }
}

impl Line for Events<'_> {
    async fn tell(&mut self, object: Value) -> Result<(), String> {
        self.told += 1;
        let status = self.told(self.told, &[object]).await?;
        if status.is_success() { Ok(()) } else { Err(format!("it answered {status} to told")) }
    }

    async fn next(&mut self) -> Result<Option<Value>, String> {
        loop {
            let Some(event) = self.stream.next().await else { return Ok(None) };
            let event = event
                .map_err(|error| format!("its stream can't be read: {}", innermost(&error)))?;
            let Some(data) = event.data else { continue };
            self.number(event.id.as_deref());
            return object(data.as_bytes()).map(Some);
        }
    }
}
