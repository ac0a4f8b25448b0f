//! The server as the terminal needs it, over the client that all commands use.

use std::time::Duration;

use futures_util::stream;
use hyper::header::{ACCEPT, CONTENT_TYPE};
use serde_json::Value;
use turnkeep_terminal::ports::{Answer, Events, Failure, Later, Method, Request, Server};

use super::events::Reader;
use super::files;
use crate::cli::client::{Client, ClientError, is_nobody, segment};

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a file may take to be loaded.
const LOADING: Duration = Duration::from_secs(300);
/// A stream that is silent for longer is dead: the server says every 15 seconds that it is alive.
const SILENCE: Duration = Duration::from_secs(45);
/// How long a stream may take to begin.
const OPENING: Duration = Duration::from_secs(20);

/// The addresses that mean a tenant's sessions, where none of them is named.
const OF_TENANTS: [&str; 2] = ["/v1/switchboard", "/v1/sessions/file"];

/// A server over HTTP.
pub(super) struct Api {
    client: Client,
    tenant: Option<String>,
}

impl Api {
    /// The sessions of this tenant, else of the key's or the default one.
    pub(super) fn new(client: Client, tenant: Option<String>) -> Self {
        Self { client, tenant: tenant.filter(|tenant| !tenant.is_empty()) }
    }

    /// A path that says whose sessions are meant.
    fn build(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        match &self.tenant {
            Some(tenant) if OF_TENANTS.iter().any(|of| path.starts_with(of)) => {
                let joint = if path.contains('?') { '&' } else { '?' };
                self.client.build(method, &format!("{path}{joint}tenant={}", segment(tenant)))
            }
            _ => self.client.build(method, path),
        }
    }

    /// What `GET path` answers.
    pub(super) async fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.ask(Request { method: Method::Get, path: path.to_owned(), body: None }).await
    }

    async fn ask(&self, request: Request) -> Result<Answer, Failure> {
        let method = match request.method {
            Method::Get => reqwest::Method::GET,
            Method::Post => reqwest::Method::POST,
            Method::Put => reqwest::Method::PUT,
        };
        let creates = method == reqwest::Method::POST && request.path == "/v1/switchboard";
        let mut builder = if creates {
            self.client.build(method, &request.path)
        } else {
            self.build(method, &request.path)
        };
        builder = builder.timeout(TIMEOUT);
        if let Some(mut body) = request.body {
            if let Some(tenant) = self.tenant.as_deref().filter(|_| creates) {
                body["tenant_id"] = tenant.into();
            }
            builder = builder.json(&body);
        }
        self.answer(self.send(builder).await?).await
    }

    async fn send(&self, builder: reqwest::RequestBuilder) -> Result<reqwest::Response, Failure> {
        let response = builder.send().await.map_err(|error| failure(self.client.broken(&error)))?;
        let status = response.status().as_u16();
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        // A proxy whose server is away; the server itself says it as a problem.
        if matches!(status, 502..=504) && !kind.is_some_and(|kind| kind.contains("json")) {
            return Err(Failure::Unreachable(format!(
                "what stands before the server says {status}"
            )));
        }
        self.client.checked(response).await.map_err(failure)
    }

    async fn answer(&self, response: reqwest::Response) -> Result<Answer, Failure> {
        let status = response.status().as_u16();
        let text = response.text().await.map_err(|error| failure(self.client.broken(&error)))?;
        let body = if text.is_empty() { Ok(Value::Null) } else { serde_json::from_str(&text) };
        let body = body.map_err(|error| {
            Failure::Strange(format!(
                "what answers at {} is no Turnkeep: {error}",
                self.client.place()
            ))
        })?;
        Ok(Answer { status, body })
    }

    async fn open(&self, path: String, last: Option<String>) -> Result<Events, Failure> {
        let mut builder = self.build(reqwest::Method::GET, &path);
        builder = builder.header(ACCEPT, "text/event-stream");
        if let Some(last) = last {
            builder = builder.header("last-event-id", last);
        }
        let opened = tokio::time::timeout(OPENING, self.send(builder)).await;
        let response = opened.map_err(|_| Failure::Unreachable("it doesn't answer".into()))??;
        let reader = Reader::default();
        let events = stream::unfold(Some((response, reader)), |open| async move {
            let (mut response, mut reader) = open?;
            loop {
                if let Some(event) = reader.next() {
                    return Some((Ok(event), Some((response, reader))));
                }
                let read = match tokio::time::timeout(SILENCE, response.chunk()).await {
                    Ok(Ok(Some(chunk))) => reader.feed(&chunk).map_err(Failure::Strange),
                    Ok(Ok(None)) => return None,
                    Ok(Err(_)) => Err(Failure::Unreachable("the server hung up".into())),
                    Err(_) => Err(Failure::Unreachable("it has fallen silent".into())),
                };
                if let Err(failure) = read {
                    return Some((Err(failure), None));
                }
            }
        });
        Ok(Box::pin(events))
    }

    async fn download(&self, path: String, file: String) -> Result<Answer, Failure> {
        let opened =
            tokio::time::timeout(OPENING, self.send(self.build(reqwest::Method::GET, &path))).await;
        let response = opened.map_err(|_| Failure::Unreachable("it doesn't answer".into()))??;
        let bytes = files::write(response, &file).await?;
        Ok(Answer { status: 200, body: serde_json::json!({ "bytes": bytes }) })
    }

    async fn upload(&self, path: String, file: String) -> Result<Answer, Failure> {
        let body = files::read(&file).await?;
        let builder = self.build(reqwest::Method::POST, &path);
        let builder = builder.header(CONTENT_TYPE, files::KIND).body(body).timeout(LOADING);
        self.answer(self.send(builder).await?).await
    }
}

impl Server for Api {
    fn request(&self, request: Request) -> Later<'_, Result<Answer, Failure>> {
        Box::pin(self.ask(request))
    }

    fn stream(&self, path: String, last: Option<String>) -> Later<'_, Result<Events, Failure>> {
        Box::pin(self.open(path, last))
    }

    fn save(&self, path: String, file: String) -> Later<'_, Result<Answer, Failure>> {
        Box::pin(self.download(path, file))
    }

    fn load(&self, path: String, file: String) -> Later<'_, Result<Answer, Failure>> {
        Box::pin(self.upload(path, file))
    }

    fn place(&self) -> String {
        self.client.place().to_string()
    }
}

fn failure(error: ClientError) -> Failure {
    match error {
        ClientError::NotThere { reason, .. } => {
            let nobody = is_nobody(&reason);
            Failure::Unreachable(if nobody { "no server answers".into() } else { reason })
        }
        ClientError::Lost { reason, .. } => Failure::Unreachable(reason),
        // It starts, ends or is overloaded: the same is worth sending again.
        ClientError::Refused(refusal) if refusal.status == 503 => {
            Failure::Unreachable(refusal.to_string())
        }
        ClientError::Refused(refusal) => Failure::Refused {
            status: refusal.status,
            kind: refusal.kind().to_owned(),
            detail: refusal.to_string(),
        },
        other @ (ClientError::NoTls { .. }
        | ClientError::Untrusted { .. }
        | ClientError::Strange { .. }) => Failure::Strange(other.to_string()),
    }
}
