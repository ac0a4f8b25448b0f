//! One connection to a tool server: made, watched, and always ended.

use std::sync::Arc;
use std::time::Duration;

use rmcp::RoleClient;
use rmcp::model::{CallToolRequestParams, ProtocolVersion};
use rmcp::service::{
    ClientInitializeError, ClientLifecycleMode, Peer, RunningService, serve_client_with_lifecycle,
};
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, Transport};
use tokio::sync::Notify;
use tokio::time::timeout;
use turnkeep_core::tool::ToolOutcome;

use super::bounds::{Bounded, Gone};
use super::client::Client;
use super::content::label;
use super::outcome::{of_error, of_response, unknown};
use super::settings::{ToolServerSettings, ToolWay};
use super::stderr::Listener;
use super::stdio::{MESSAGE_BYTES_MAX, Stdio};
use super::unreached::why_unreached;
use crate::command::CommandSettings;
use crate::command::process::Process;
use crate::outward::{self, Proxies};
use crate::tools::{Said, Tool};

/// For a connection to a server over HTTP.
const CONNECT_TIME: Duration = Duration::from_secs(10);
/// How long a process that let go of its output is waited for, to tell how it ended.
const END_TIME: Duration = Duration::from_secs(2);
/// Calls that may be under way over HTTP, all sessions together.
const POSTS_MAX: usize = 64;

/// A server that said hello.
pub(super) struct Connection {
    pub(super) peer: Peer<RoleClient>,
    /// Its own name and version, for people.
    pub(super) about: String,
    /// The tools changed.
    pub(super) changed: Arc<Notify>,
    /// Something went wrong with it.
    pub(super) doubted: Notify,
    /// Ends it when the last one who uses it is gone.
    service: RunningService<RoleClient, Client>,
    process: Option<(Process, Arc<Listener>)>,
}

impl Connection {
    /// Reaches the server and says hello. What went wrong is in words, without secrets.
    pub(super) async fn open(
        settings: &ToolServerSettings,
        hello: Hello,
    ) -> Result<(Self, Gone), NotOpen> {
        let server: Arc<str> = settings.name.as_str().into();
        let changed = Arc::new(Notify::new());
        let client = Client { changed: Arc::clone(&changed) };
        let (service, process, gone) = match &settings.way {
            ToolWay::Command(command) => {
                let (process, listener, inner) = start(command, &server)?;
                let (inner, gone) = Bounded::new(inner);
                match hello.say(client, inner).await {
                    Ok(service) => (service, Some((process, listener)), gone),
                    Err(error) if is_refusal(&error) => return Err(not_open(&error, settings)),
                    Err(error) => {
                        let how = last_words(&process, &listener).await;
                        return Err(how.map_or_else(|| not_open(&error, settings), NotOpen::from));
                    }
                }
            }
            ToolWay::Http { url, token } => {
                let (inner, gone) = Bounded::new(http(url, token.as_deref())?);
                let service = hello.say(client, inner).await;
                (service.map_err(|error| not_open(&error, settings))?, None, gone)
            }
        };
        let peer = service.peer().clone();
        let about = peer.peer_info().and_then(|info| {
            let server = info.server_info.as_ref()?;
            Some(format!("{} {}", label(&server.name), label(&server.version)))
        });
        let about = about.unwrap_or_default();
        let doubted = Notify::new();
        Ok((Self { peer, about, changed, doubted, service, process }, gone))
    }

    /// Calls a tool, by the name that the server knows. Dropping the future tells the server that
    /// nobody waits any more.
    pub(super) async fn call(
        &self,
        name: String,
        arguments: serde_json::Map<String, serde_json::Value>,
        tool: &Tool,
        errors_mean_not_done: bool,
    ) -> Said {
        let params = CallToolRequestParams::new(name).with_arguments(arguments);
        let called = timeout(tool.timeout, self.peer.call_tool_once(params)).await;
        let (said, doubted) = match called {
            Ok(Ok(response)) => (of_response(&response, tool.effects, errors_mean_not_done), false),
            Ok(Err(error)) => of_error(&error, tool.effects, errors_mean_not_done),
            Err(_) => {
                let seconds = tool.timeout.as_secs_f64();
                (unknown(format!("no answer within {seconds} seconds")), true)
            }
        };
        if doubted {
            self.doubted.notify_one();
        }
        if said.outcome != ToolOutcome::Done {
            // Not what it said: that is the user's.
            let outcome = said.outcome.as_str();
            tracing::debug!(tool = tool.spec.name, outcome, "a call of a tool was not done");
        }
        said
    }

    /// Waits for the end of the process, if there is one. It may end though somebody whom it started
    /// still holds its output.
    pub(super) async fn process_ended(&self) {
        match &self.process {
            Some((process, _)) => drop(process.ended().await),
            None => std::future::pending().await,
        }
    }

    /// How it ended, in words; and whoever still waits for an answer of a process gets none.
    pub(super) async fn end(&self) -> String {
        let how = match &self.process {
            Some((process, listener)) => {
                self.service.cancellation_token().cancel();
                last_words(process, listener).await
            }
            None => None,
        };
        how.unwrap_or_else(|| "the connection ended".to_owned())
    }
}

/// How a server is greeted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hello {
    /// With `initialize`, as all versions of MCP do that are not brand new.
    Initialize,
    /// With `server/discover`, as version 2026-07-28 does.
    Discover,
}

impl Hello {
    /// What to try with a server that refuses this one.
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Initialize => Self::Discover,
            Self::Discover => Self::Initialize,
        }
    }

    pub(super) async fn say<T: Transport<RoleClient> + 'static>(
        self,
        client: Client,
        transport: T,
    ) -> Result<RunningService<RoleClient, Client>, ClientInitializeError> {
        let mode = match self {
            Self::Initialize => ClientLifecycleMode::Initialize,
            Self::Discover => ClientLifecycleMode::Discover {
                preferred_versions: vec![ProtocolVersion::V_2026_07_28],
            },
        };
        serve_client_with_lifecycle(client, transport, mode).await
    }
}

/// Why there is no connection.
pub(super) struct NotOpen {
    pub(super) why: String,
    /// The server is there, and did not like the hello.
    pub(super) refused: bool,
}

impl From<String> for NotOpen {
    fn from(why: String) -> Self {
        Self { why, refused: false }
    }
}

fn is_refusal(error: &ClientInitializeError) -> bool {
    matches!(error, ClientInitializeError::JsonRpcError(_))
}

fn not_open(error: &ClientInitializeError, settings: &ToolServerSettings) -> NotOpen {
    NotOpen { why: not_hello(error, settings), refused: is_refusal(error) }
}

fn not_hello(error: &ClientInitializeError, settings: &ToolServerSettings) -> String {
    match error {
        ClientInitializeError::JsonRpcError(error) => {
            format!("it refused to begin: {}", label(&error.message))
        }
        ClientInitializeError::ConnectionClosed(_) => "it closed its output".to_owned(),
        ClientInitializeError::TransportError { error, .. } => why_unreached(error, settings),
        other => format!("it did not begin as it should: {}", label(&other.to_string())),
    }
}

/// How the process ended and what it said last, if it ended.
async fn last_words(process: &Process, listener: &Listener) -> Option<String> {
    let how = timeout(END_TIME, process.ended()).await.ok()?;
    let words =
        listener.told().map_or_else(String::new, |words| format!("; its last words: {words}"));
    Some(format!("its process {how}{words}"))
}

fn start(
    command: &CommandSettings,
    server: &Arc<str>,
) -> Result<(Process, Arc<Listener>, impl Transport<RoleClient> + use<>), String> {
    // All sessions share it, so it counts for none.
    let (process, streams) = Process::start(command, "the tool server", |_| Box::new(()))
        .map_err(|failure| failure.error.to_string())?;
    let listener = Listener::listen(Arc::clone(server), streams.stderr);
    Ok((process, listener, Stdio::new(streams.stdout, streams.stdin)))
}

fn http(url: &str, token: Option<&str>) -> Result<impl Transport<RoleClient> + use<>, String> {
    // Its token and what is called would go to whatever the environment names.
    let client = outward::client(Proxies::Never)
        .ok_or("no TLS provider is installed in this process")?
        .connect_timeout(CONNECT_TIME)
        // A connection that was kept may be closed by the server just when a call goes out, and then
        // nobody knows whether it was done.
        .pool_max_idle_per_host(0)
        .build()
        .map_err(|_| "no HTTP client can be made".to_owned())?;
    let mut config = StreamableHttpClientTransportConfig::with_uri(url)
        .max_concurrent_requests(POSTS_MAX)
        .max_sse_event_size(MESSAGE_BYTES_MAX)
        // A session that the server has forgotten is begun anew here, with its list of tools.
        .reinit_on_expired_session(false);
    if let Some(token) = token {
        config = config.auth_header(token);
    }
    Ok(StreamableHttpClientTransport::with_client(client, config))
}
