//! A daemon that speaks HTTP: a POST for each call, a stream of events for what is received.

use std::time::Duration;

use reqwest::{Client, StatusCode, Url};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::SignalError;
use super::calls::CallError;
use super::lines::{LINE_BYTES_MAX, Line, Splitter};
use super::message::{self, Told};
use crate::outward;
use crate::webhook::innermost;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client of one daemon.
#[derive(Clone)]
pub(super) struct HttpCalls {
    http: Client,
    rpc: Url,
    events: Url,
    answer_bytes_max: usize,
}

impl HttpCalls {
    pub(super) fn new(base: &str, answer_bytes_max: usize) -> Result<Self, SignalError> {
        let http = outward::client().ok_or(SignalError::NoTlsProvider)?;
        let url = |path: &str| {
            Url::parse(&format!("{base}{path}")).map_err(|_| SignalError::Address(base.to_owned()))
        };
        let http = http
            .connect_timeout(CONNECT_TIMEOUT)
            .build()
            .map_err(|error| SignalError::Client(innermost(&error)))?;
        Ok(Self {
            http,
            rpc: url("/api/v1/rpc")?,
            events: url("/api/v1/events")?,
            answer_bytes_max,
        })
    }

    pub(super) async fn call(
        &self,
        method: &str,
        params: &Value,
        patience: Duration,
    ) -> Result<Value, CallError> {
        let until = Instant::now() + patience;
        match timeout_at(until, self.post(method, params)).await {
            Ok(result) => result,
            Err(_) => Err(CallError::Lost(format!("no answer to {method} in time"))),
        }
    }

    async fn post(&self, method: &str, params: &Value) -> Result<Value, CallError> {
        let lost = |error: reqwest::Error| {
            let why = innermost(&error);
            if error.is_connect() { CallError::NotSent(why) } else { CallError::Lost(why) }
        };
        let request = self.http.post(self.rpc.clone()).header("content-type", "application/json");
        let body = message::request("1", method, params);
        let mut response = request.body(body).send().await.map_err(lost)?;
        let status = response.status();
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            if answer.len() + chunk.len() > self.answer_bytes_max {
                return Err(CallError::Lost(format!("the answer to {method} is too long")));
            }
            answer.extend_from_slice(&chunk);
        }
        match message::read(&answer) {
            Told::Answer { result, .. } => result.map_err(CallError::Refused),
            // What does not know the address has done nothing.
            _ if status == StatusCode::NOT_FOUND => {
                Err(CallError::NotSent("there is no signal-cli: it answered 404".into()))
            }
            _ => Err(CallError::Lost(format!("the answer to {method} is none (status {status})"))),
        }
    }

    /// Begins to hear one account.
    pub(super) async fn events(&self, number: &str) -> Result<Events, String> {
        let mut url = self.events.clone();
        url.query_pairs_mut().append_pair("account", number);
        let asked = self.http.get(url).header("accept", "text/event-stream").send().await;
        let response = asked.map_err(|error| innermost(&error))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::BAD_REQUEST => return Err(super::unknown_account(number)),
            status => return Err(format!("signal-cli answered {status} to who wants to hear")),
        }
        let splitter = Splitter::new(LINE_BYTES_MAX, 0);
        Ok(Events { response, splitter, rest: Vec::new(), taken: 0 })
    }
}

/// What one account hears.
pub(super) struct Events {
    response: reqwest::Response,
    splitter: Splitter,
    rest: Vec<u8>,
    taken: usize,
}

/// A piece of the stream.
pub(super) enum Event {
    /// The data of an event.
    Data(Vec<u8>),
    /// The stream lives, or said something that is none.
    Sign(Option<&'static str>),
}

impl Events {
    /// The next piece; none at the end. Dropping the future loses nothing that was not told.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, String> {
        loop {
            while self.taken < self.rest.len() {
                let (taken, line) = self.splitter.feed(&self.rest[self.taken..]);
                self.taken += taken;
                match line {
                    None => {}
                    Some((_, Line::TooLong)) => return Ok(Some(Event::Sign(Some("too long")))),
                    Some((_, Line::Whole(line))) => return Ok(Some(Self::event(&line))),
                }
            }
            match self.response.chunk().await.map_err(|error| innermost(&error))? {
                Some(chunk) => (self.rest, self.taken) = (chunk.to_vec(), 0),
                None => return Ok(None),
            }
        }
    }

    /// signal-cli writes each event's data as one line; empty lines are not told.
    fn event(line: &[u8]) -> Event {
        match line.strip_prefix(b"data:") {
            Some(data) => Event::Data(data.trim_ascii().to_vec()),
            None => Event::Sign(None),
        }
    }
}
