//! What every request passes: where it may come from, who asks, and the hot path past the router.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use turnkeep_core::SessionKey;
use turnkeep_core::ports::store::Loaded;

use super::access::{self, Asker};
use super::problem::{Kind, Problem};
use super::query::Parameters;
use super::reload::Reload;
use super::settings::{Http, HttpSettings};
use super::source::Source;
use super::{body, chat, needs, router, session_file, source, switchboard, trace};
use crate::access::Access;
use crate::metrics::HttpMetrics;
use crate::{Current, Gateway};

/// What can be asked of a server that talks to nobody.
const HEALTH: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// What every handler may use.
pub(super) struct Shared {
    pub(super) gateway: Gateway,
    pub(super) access: Access,
    pub(super) settings: Current<HttpSettings>,
    pub(super) reload: Option<Arc<dyn Reload>>,
    pub(super) render_metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// One backup at a time.
    pub(super) backups: Arc<Semaphore>,
    /// Places for files that are being read.
    pub(super) files: Arc<Semaphore>,
    /// Cancelled when streams must end.
    pub(super) closing: CancellationToken,
    /// The OpenAPI document.
    pub(super) openapi: Bytes,
    /// What each address can be asked for behind the question mark.
    pub(super) parameters: Parameters,
}

impl Shared {
    /// A session that somebody has written in.
    pub(super) async fn loaded(&self, key: &SessionKey) -> Result<Loaded, Problem> {
        self.gateway.store().load(key).await?.ok_or_else(|| access::nowhere(key))
    }
}

/// Answers requests.
pub(super) struct Entry {
    shared: Arc<Shared>,
    router: Router,
    metrics: HttpMetrics,
}

impl Entry {
    pub(super) fn new(http: Http, closing: CancellationToken) -> Self {
        let (router, openapi) = router::router();
        let parameters = Parameters::of(&openapi);
        let openapi = openapi.to_json().unwrap_or_default().into();
        let Http { gateway, access, settings, reload, render_metrics } = http;
        let shared = Arc::new(Shared {
            gateway,
            access,
            settings,
            reload,
            render_metrics,
            backups: Arc::new(Semaphore::new(1)),
            files: Arc::new(Semaphore::new(session_file::LOADS_MAX)),
            closing,
            openapi,
            parameters,
        });
        let kept = from_fn_with_state(Arc::clone(&shared), switchboard::kept_here);
        let router = router.layer(kept);
        let router = router.layer(from_fn_with_state(Arc::clone(&shared), access::gate));
        let router = router.with_state(Arc::clone(&shared));
        Self { shared, router, metrics: HttpMetrics::new() }
    }

    /// Answers one request. `closing` is the connection's own token, `peer` who holds it; nobody
    /// over the unix socket.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        closing: &CancellationToken,
        peer: Option<IpAddr>,
    ) -> Response {
        let answer = self.look_into(request, closing, peer).await;
        self.metrics.answered(answer.status().as_u16());
        answer
    }

    async fn look_into(
        &self,
        mut request: Request<Incoming>,
        closing: &CancellationToken,
        peer: Option<IpAddr>,
    ) -> Response {
        let settings = self.shared.settings.now();
        let source = match source::check(&request, &settings, peer) {
            Ok(source) => source,
            Err(problem) => return problem.into_response(),
        };
        if settings.health_only && !HEALTH.contains(&request.uri().path()) {
            let why = "this server runs turns and talks to nobody: ask a gateway";
            return Problem::new(Kind::NotFound, why).into_response();
        }
        // Nearly every request is this one; the router would cost it several allocations.
        if request.method() == Method::POST && matches!(request.uri().path(), "/v1/chat" | "/chat")
        {
            let span = trace::begin(&self.shared.gateway, &mut request);
            let response = self.chat(request, closing, source).await;
            trace::end(span, &response);
            return response;
        }
        request.extensions_mut().insert(source);
        match self.router.clone().oneshot(request.map(Body::new)).await {
            Ok(response) => response,
            Err(impossible) => match impossible {},
        }
    }

    async fn chat(
        &self,
        request: Request<Incoming>,
        closing: &CancellationToken,
        source: Source,
    ) -> Response {
        let shared = &self.shared;
        if let Err(refusal) = shared.gateway.has_room() {
            // It leaves late, or with its connection.
            let _ = closing.run_until_cancelled(shared.gateway.hold_back()).await;
            let body = request.into_body();
            let problem = body::refuse_unread(refusal.into(), body, &shared.settings).await;
            return problem.into_response();
        }
        let headers = request.headers();
        let caller = match access::admit(shared, needs::CHAT, source, headers).await {
            Ok(caller) => caller,
            Err(problem) => return problem.of_message().into_response(),
        };
        let asker = Asker(Arc::clone(&caller));
        let answer = chat::answer(shared, closing, &asker, request).await;
        access::until_ended(answer, caller)
    }
}
