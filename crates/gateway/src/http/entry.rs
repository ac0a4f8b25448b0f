//! What every request passes: where it may come from, and the hot path past the router.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HOST, ORIGIN};
use hyper::{HeaderMap, Method, Request, Uri, Version};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use turnkeep_core::SessionKey;
use turnkeep_core::ports::store::Loaded;

use super::problem::{Kind, Problem};
use super::settings::{Http, HttpSettings};
use super::{chat, router};
use crate::Gateway;

/// What every handler may use.
pub(super) struct Shared {
    pub(super) gateway: Gateway,
    pub(super) settings: HttpSettings,
    pub(super) render_metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Cancelled when streams must end.
    pub(super) closing: CancellationToken,
    /// The OpenAPI document.
    pub(super) openapi: Bytes,
}

impl Shared {
    /// A session that somebody has written in.
    pub(super) async fn loaded(&self, key: &SessionKey) -> Result<Loaded, Problem> {
        self.gateway.store().load(key).await?.ok_or_else(|| {
            Problem::new(Kind::NotFound, format!("nobody has written in the session {key} yet"))
        })
    }
}

/// Answers requests.
pub(super) struct Entry {
    shared: Arc<Shared>,
    router: Router,
}

impl Entry {
    pub(super) fn new(http: Http, closing: CancellationToken) -> Self {
        let (router, openapi) = router::router();
        let openapi = openapi.to_json().unwrap_or_default().into();
        let Http { gateway, settings, render_metrics } = http;
        let shared = Arc::new(Shared { gateway, settings, render_metrics, closing, openapi });
        Self { router: router.with_state(Arc::clone(&shared)), shared }
    }

    /// Answers one request. `closing` is the connection's own token.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        closing: &CancellationToken,
    ) -> Response {
        if let Err(problem) = check_source(&request) {
            return problem.into_response();
        }
        // Nearly every request is this one; the router would cost it several allocations.
        if request.method() == Method::POST && matches!(request.uri().path(), "/v1/chat" | "/chat")
        {
            return chat::answer(&self.shared, closing, request).await;
        }
        match self.router.clone().oneshot(request.map(Body::new)).await {
            Ok(response) => response,
            Err(impossible) => match impossible {},
        }
    }
}

/// A web page somewhere else must neither reach this server under a name of its own (DNS
/// rebinding) nor send it a form.
fn check_source<B>(request: &Request<B>) -> Result<(), Problem> {
    let headers = request.headers();
    let host = host_of(request.uri(), headers, request.version())?;
    if let Some(host) = host
        && !is_own_host(host)
    {
        let detail = format!("this server is not {host:?}; reach it as localhost or 127.0.0.1");
        return Err(Problem::new(Kind::Misdirected, detail));
    }
    if matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().unwrap_or_default();
    let from = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    if from.is_some() && from == host {
        return Ok(());
    }
    let detail = format!("a page of {origin:?} may not do this");
    Err(Problem::new(Kind::ForeignOrigin, detail))
}

/// Whom the request is for; an old client may leave it out.
fn host_of<'a>(
    uri: &'a Uri,
    headers: &'a HeaderMap,
    version: Version,
) -> Result<Option<&'a str>, Problem> {
    if let Some(authority) = uri.authority() {
        return Ok(Some(authority.as_str()));
    }
    let mut hosts = headers.get_all(HOST).iter();
    let bad = |detail: &'static str| Err(Problem::new(Kind::BadRequest, detail));
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => match host.to_str() {
            Ok(host) => Ok(Some(host)),
            Err(_) => bad("the Host header is not readable"),
        },
        (None, _) if version == Version::HTTP_11 => bad("the Host header is missing"),
        (None, _) => Ok(None),
        (Some(_), Some(_)) => bad("there is more than one Host header"),
    }
}

fn is_own_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((name, port)) if is_port(port) => {
                return name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
            }
            _ => return false,
        },
        None => match host.split_once(':') {
            Some((name, port)) if is_digits(port) => name,
            Some(_) => return false,
            None => host,
        },
    };
    name == "127.0.0.1"
        || name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_port(text: &str) -> bool {
    text.is_empty() || text.strip_prefix(':').is_some_and(is_digits)
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_ours() {
        let ours = ["localhost", "LocalHost:7878", "127.0.0.1", "127.0.0.1:1", "127.1.2.3:80"];
        for host in ours.into_iter().chain(["[::1]", "[::1]:7878"]) {
            assert!(is_own_host(host), "{host}");
        }
        let foreign = ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80"];
        for host in foreign.into_iter().chain(["10.0.0.1", "[::2]:1", "::1", "", "localhost:x"]) {
            assert!(!is_own_host(host), "{host}");
        }
    }

    #[test]
    fn a_page_may_only_write_to_where_it_came_from() {
        let check = |method: &str, host: &str, origin: &str, expect: bool| {
            let request =
                Request::builder().method(method).header(HOST, host).header(ORIGIN, origin);
            let passed = check_source(&request.body(()).unwrap()).is_ok();
            assert_eq!(passed, expect, "{method} {host} {origin}");
        };
        check("POST", "localhost:1", "http://localhost:1", true);
        check("POST", "localhost:1", "https://localhost:1", true);
        check("POST", "localhost:1", "http://localhost:2", false);
        check("POST", "localhost:1", "http://evil.example", false);
        check("POST", "localhost:1", "null", false);
        check("GET", "localhost:1", "http://evil.example", true);
        check("GET", "evil.example", "http://evil.example", false);
    }
}
