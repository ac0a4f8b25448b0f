//! Calls of the engine: is it there, this is the workflow, run it, stop it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::uri::PathAndQuery;
use prost::Message;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::again::Again;
use crate::health::Health;
use crate::token::Token;
use crate::trouble::{HatchetError, MESSAGE_BYTES_MAX, clipped};
use crate::wire;
use crate::workflow::{TurnRun, Workflow};

/// How many runs are cancelled with one call.
const CANCEL_MAX: usize = 100;
/// How many calls may wait for the connection.
const WAITING_CALLS_MAX: usize = 1024;

/// How the way to the engine is kept from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    Off,
    /// By TLS.
    On {
        /// Who vouches for the engine, as PEM, if not one of those whom this machine trusts.
        authority: Option<Arc<str>>,
        /// The name that the engine proves, if not the one of its address.
        name: Option<Arc<str>>,
    },
}

/// What a client needs to know.
#[derive(Clone, Debug)]
pub struct HatchetSettings {
    /// Who we are.
    pub token: Token,
    /// Where the engine is, as `host:port`, if not where the token says.
    pub address: Option<Arc<str>>,
    /// Whether the way is encrypted.
    pub tls: Tls,
    /// How long a call may take.
    pub call_timeout: Duration,
    /// How long a connection is silent before it is tried for life, and how long that may take. The
    /// engine ends a connection that is tried more often than each 5 seconds.
    pub keepalive: Duration,
    /// The workflow, the same for all nodes of a cluster.
    pub workflow: Workflow,
    /// This cluster: runs of others are left to them.
    pub cluster: Arc<str>,
}

impl HatchetSettings {
    /// What one needs at least.
    #[must_use]
    pub fn new(token: Token, cluster: &str) -> Self {
        Self {
            token,
            address: None,
            tls: Tls::Off,
            call_timeout: Duration::from_secs(5),
            keepalive: Duration::from_secs(10),
            workflow: Workflow::default(),
            cluster: cluster.into(),
        }
    }
}

/// What came of a trigger. Both are a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Triggered {
    /// A run of this id waits for a worker.
    New(Arc<str>),
    /// This turn was triggered under this epoch before; the run's id, if the engine tells it.
    Before(Option<Arc<str>>),
}

impl Triggered {
    /// The run's id.
    #[must_use]
    pub fn run(&self) -> Option<&Arc<str>> {
        match self {
            Self::New(run) => Some(run),
            Self::Before(run) => run.as_ref(),
        }
    }
}

/// Speaks to one engine. Copies of it share the connection.
#[derive(Clone)]
pub struct HatchetClient {
    inner: Arc<Inner>,
}

struct Inner {
    channel: Channel,
    authorization: MetadataValue<Ascii>,
    address: Arc<str>,
    call_timeout: Duration,
    workflow: Workflow,
    cluster: Arc<str>,
    health: Health,
}

impl fmt::Debug for HatchetClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("HatchetClient")
            .field("address", &self.inner.address)
            .field("workflow", &self.inner.workflow.name())
            .finish_non_exhaustive()
    }
}

impl HatchetClient {
    /// One that connects when it is first used, and again whenever the connection is gone. Needs a
    /// runtime of tokio around it.
    ///
    /// # Errors
    /// If the settings can't be used.
    pub fn new(settings: HatchetSettings) -> Result<Self, HatchetError> {
        settings.workflow.check()?;
        if settings.call_timeout.is_zero() || settings.keepalive.is_zero() {
            let why = "calls to Hatchet and the trials of its connection need time";
            return Err(HatchetError::Settings(why.into()));
        }
        let address = settings.address.clone().or_else(|| settings.token.address().map(Into::into));
        let address = address.ok_or_else(|| {
            let why = "the Hatchet token names no address: set one";
            HatchetError::Settings(why.into())
        })?;
        let mut authorization: MetadataValue<Ascii> =
            format!("Bearer {}", settings.token.secret()).parse().map_err(|_| {
                HatchetError::Settings("the Hatchet token holds what a header can't".into())
            })?;
        authorization.set_sensitive(true);
        let channel = endpoint(&address, &settings)?.connect_lazy();
        Ok(Self {
            inner: Arc::new(Inner {
                channel,
                authorization,
                address,
                call_timeout: settings.call_timeout,
                workflow: settings.workflow,
                cluster: settings.cluster,
                health: Health::default(),
            }),
        })
    }

    /// Where the engine is.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.inner.address
    }

    /// The workflow.
    #[must_use]
    pub fn workflow(&self) -> &Workflow {
        &self.inner.workflow
    }

    /// The cluster.
    #[must_use]
    pub fn cluster(&self) -> &Arc<str> {
        &self.inner.cluster
    }

    /// How the engine is doing.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.inner.health
    }

    /// The engine's version. That it answers says nothing about whether it dispatches.
    ///
    /// # Errors
    /// If it does not answer.
    pub async fn version(&self) -> Result<String, HatchetError> {
        let asked = wire::GetVersionRequest {};
        let told: wire::GetVersionResponse = self.call("/Dispatcher/GetVersion", asked).await?;
        Ok(clipped(&told.version, 64))
    }

    /// Waits until the engine answers, at most so long; its version.
    ///
    /// # Errors
    /// The last trouble met, or one that does not pass.
    pub async fn reach(&self, patience: Duration) -> Result<String, HatchetError> {
        let until = tokio::time::Instant::now() + patience;
        let mut again = Again::new(Duration::from_millis(100), Duration::from_secs(2));
        loop {
            match self.version().await {
                Err(error) if error.is_passing() && tokio::time::Instant::now() < until => {
                    again.wait().await;
                }
                answered => return answered,
            }
        }
    }

    /// Makes the workflow known, or its change. The same again changes nothing; the id of its
    /// version.
    ///
    /// # Errors
    /// If the engine did not take it.
    pub async fn put_workflow(&self) -> Result<String, HatchetError> {
        let definition = self.inner.workflow.definition();
        let put: wire::CreateWorkflowVersionResponse =
            self.call("/v1.AdminService/PutWorkflow", definition).await?;
        Ok(put.id)
    }

    /// Has a turn run by some worker. A trigger may be repeated: the same turn under the same epoch
    /// is run once. That holds for a run that the engine has given up, too, so whoever waits in vain
    /// for one triggers the turn under a new epoch.
    ///
    /// # Errors
    /// If it is not known to be triggered. It may be, see [`HatchetError::may_be_done`].
    pub async fn trigger(&self, run: &TurnRun) -> Result<Triggered, HatchetError> {
        let name = self.inner.workflow.name();
        let asked = wire::TriggerWorkflowRequest {
            name: name.clone(),
            input: run.input()?,
            additional_metadata: Some(run.metadata()),
        };
        let path = "/WorkflowService/TriggerWorkflow";
        let bytes = asked.encoded_len();
        let told = self.ask::<_, wire::TriggerWorkflowResponse>(path, asked).await;
        let triggered = match told {
            Ok(told) if told.workflow_run_id.is_empty() => {
                let why = "a trigger was answered without a run's id";
                Err(HatchetError::Unreadable(why.into()))
            }
            Ok(told) => Ok(Triggered::New(told.workflow_run_id.into())),
            Err(Met::Said(status)) if status.code() == Code::AlreadyExists => {
                Ok(Triggered::Before(collided_with(&status)))
            }
            Err(Met::Said(status))
                if status.code() == Code::InvalidArgument
                    && status.message().contains("workflow names not found") =>
            {
                Err(HatchetError::UnknownWorkflow(name))
            }
            Err(met) => Err(met.told(path, bytes)),
        };
        self.inner.health.met(triggered.as_ref().err());
        if let Ok(Triggered::New(_)) = triggered {
            self.inner.health.awaits(run.turn, run.epoch);
        }
        triggered
    }

    /// Asks for runs to be ended. Those that wait don't start; those that run are told, if their
    /// worker is there. None of it is certain: the epoch in the record is.
    ///
    /// # Errors
    /// If the engine is not known to have heard it.
    pub async fn cancel(&self, runs: &[Arc<str>]) -> Result<(), HatchetError> {
        for some in runs.chunks(CANCEL_MAX) {
            let external_ids = some.iter().map(|run| run.to_string()).collect();
            let asked = wire::CancelTasksRequest { external_ids };
            let path = "/v1.AdminService/CancelTasks";
            let _: wire::CancelTasksResponse = self.call(path, asked).await?;
        }
        Ok(())
    }

    /// One call, with everything that belongs to it.
    pub(crate) async fn call<Q, A>(&self, path: &'static str, asked: Q) -> Result<A, HatchetError>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let bytes = asked.encoded_len();
        let told = self.ask(path, asked).await.map_err(|met| met.told(path, bytes));
        self.inner.health.met(told.as_ref().err());
        told
    }

    async fn ask<Q, A>(&self, path: &'static str, asked: Q) -> Result<A, Met>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let (bytes, limit) = (asked.encoded_len(), self.inner.call_timeout);
        if bytes > MESSAGE_BYTES_MAX {
            let what = "what should be sent";
            let error = HatchetError::TooLarge { what, bytes, max: MESSAGE_BYTES_MAX };
            return Err(Met::Here(error));
        }
        let calling = async {
            let mut grpc = self.grpc().await?;
            let mut request = self.request(asked);
            request.set_timeout(limit);
            let codec = ProstCodec::<Q, A>::default();
            grpc.unary(request, PathAndQuery::from_static(path), codec).await
        };
        match tokio::time::timeout(limit, calling).await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) if !is_late(&status) => Err(Met::Said(Box::new(status))),
            Ok(Err(_)) | Err(_) => Err(Met::Here(HatchetError::Late(limit))),
        }
    }

    /// Opens a worker's stream. The engine says nothing until it has something to say, so this waits
    /// for the first dispatch.
    pub(crate) async fn listen(
        &self,
        worker: &str,
    ) -> Result<Streaming<wire::AssignedAction>, Status> {
        let mut grpc = self.grpc().await?;
        let request = self.request(wire::WorkerNamed { worker_id: worker.into() });
        let codec = ProstCodec::<wire::WorkerNamed, wire::AssignedAction>::default();
        let path = PathAndQuery::from_static("/Dispatcher/ListenV2");
        Ok(grpc.server_streaming(request, path, codec).await?.into_inner())
    }

    async fn grpc(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(self.inner.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
        Ok(grpc)
    }

    fn request<Q>(&self, asked: Q) -> Request<Q> {
        let mut request = Request::new(asked);
        request.metadata_mut().insert("authorization", self.inner.authorization.clone());
        request
    }
}

/// What was met, before it is known what the call makes of it.
enum Met {
    Said(Box<Status>),
    Here(HatchetError),
}

impl Met {
    fn told(self, path: &'static str, bytes: usize) -> HatchetError {
        match self {
            Self::Said(status) => HatchetError::from_status(&status, path, bytes),
            Self::Here(error) => error,
        }
    }
}

/// The time that the call was given ran out, here or there.
fn is_late(status: &Status) -> bool {
    match status.code() {
        Code::DeadlineExceeded => true,
        Code::Cancelled => status.message() == "Timeout expired",
        _ => false,
    }
}

/// The run that holds the key of one that was not started.
fn collided_with(status: &Status) -> Option<Arc<str>> {
    let rich = wire::RichStatus::decode(status.details()).ok()?;
    let named = |detail: &&wire::Detail| detail.type_url.ends_with("IdempotencyCollisionError");
    let detail = rich.details.iter().find(named)?;
    let error = wire::IdempotencyCollisionError::decode(detail.value.as_slice()).ok()?;
    let run = error.existing_run_external_id;
    (!run.is_empty()).then(|| run.into())
}

fn endpoint(address: &str, settings: &HatchetSettings) -> Result<Endpoint, HatchetError> {
    let wrong = |why: &dyn fmt::Display| {
        let address = clipped(address, 200);
        HatchetError::Settings(format!("Hatchet's address {address:?} can't be used: {why}"))
    };
    let host = address.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    if host.is_none_or(|(_, port)| port.parse::<u16>().is_err()) || address.contains(['/', '@']) {
        return Err(wrong(&"it has to be host:port"));
    }
    let tls = &settings.tls;
    let scheme = if *tls == Tls::Off { "http" } else { "https" };
    let endpoint =
        Endpoint::from_shared(format!("{scheme}://{address}")).map_err(|error| wrong(&error))?;
    let endpoint = endpoint
        .user_agent(concat!("turnkeep/", env!("CARGO_PKG_VERSION")))
        .map_err(|error| wrong(&error))?
        .connect_timeout(settings.call_timeout)
        .http2_keep_alive_interval(settings.keepalive)
        .keep_alive_timeout(settings.keepalive)
        .keep_alive_while_idle(true)
        .buffer_size(WAITING_CALLS_MAX);
    let Tls::On { authority, name } = tls else { return Ok(endpoint) };
    let mut config = ClientTlsConfig::new();
    config = match authority {
        Some(pem) => config.ca_certificate(Certificate::from_pem(pem.as_bytes())),
        None => config.with_native_roots(),
    };
    if let Some(name) = name {
        config = config.domain_name(&**name);
    }
    endpoint
        .tls_config(config)
        .map_err(|error| HatchetError::Settings(format!("TLS to Hatchet can't be used: {error}")))
}

/// Now, as the engine is told it. It only looks whether a heartbeat is old.
pub(crate) fn now() -> wire::Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    wire::Timestamp {
        seconds: since.as_secs().try_into().unwrap_or(i64::MAX),
        nanos: since.subsec_nanos().try_into().unwrap_or_default(),
    }
}
