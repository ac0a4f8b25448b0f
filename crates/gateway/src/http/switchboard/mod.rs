//! `/v1/switchboard`: the sessions of one tenant for whoever watches and steers them.
//!
//! [`read`] shows rows and numbers, [`act`] changes them, [`stream`] tells what changes; what they
//! show stands in [`rows`], what they refuse in [`refuse`]. Nothing is decided here: the gateway's
//! switchboard is asked, and answers what is durable.

pub(super) mod act;
pub(super) mod read;
pub(super) mod stream;

mod refuse;
mod rows;

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::Uri;
use turnkeep_core::ports::store::Leased;
use turnkeep_core::session_key::{SEGMENT_BYTES_MAX, SessionKeyError};
use turnkeep_core::{SessionKey, SessionKind};

use super::access::Asker;
use super::entry::Shared;
use super::problem::{Kind, Problem};
use super::query::Query;
use crate::cluster::Lead;

/// The tenant that is meant where none is named and the asker is bound to none.
const TENANT: &str = "default";

/// Whose board is meant.
fn tenant_of(asker: &Asker, uri: &Uri) -> Result<String, Problem> {
    let asked = Query::of(uri).get("tenant").map(Cow::into_owned);
    meant("tenant", asker, asked)
}

/// The tenant that is meant, if it can be one's name.
fn meant(field: &'static str, asker: &Asker, asked: Option<String>) -> Result<String, Problem> {
    let tenant = asker.tenant(asked)?.unwrap_or_else(|| TENANT.to_owned());
    match SessionKey::new(&tenant, TENANT, "api", SessionKind::Dm, "anybody") {
        Ok(_) => Ok(tenant),
        Err(SessionKeyError::Empty(_)) => Err(Problem::field(field, "must not be empty")),
        Err(SessionKeyError::TooLong(_)) => {
            Err(Problem::field(field, format!("is longer than {SEGMENT_BYTES_MAX} bytes")))
        }
        Err(_) => Err(Problem::field(field, "holds a control character")),
    }
}

/// Whose board is meant by whoever names a session: for the operator, a whole key tells it.
fn tenant_of_session(asker: &Asker, uri: &Uri, which: &str) -> Result<String, Problem> {
    let named = Query::of(uri).get("tenant").is_some();
    match which.parse::<SessionKey>() {
        Ok(key) if !named && asker.who().tenant().is_none() => Ok(key.tenant()),
        _ => tenant_of(asker, uri),
    }
}

fn kept_by(leader: &Leased) -> String {
    match leader {
        Leased::By(name) => format!(
            "the server {name:?} keeps the switchboard of all that share this database; ask that one"
        ),
        Leased::Free | Leased::Never => {
            "no server that shares this database keeps the switchboard now; one that talks to \
             clients takes it within seconds"
                .to_owned()
        }
    }
}

/// One server keeps the switchboard of all that share a database; the others say so.
pub(super) async fn kept_here(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path();
    let asked = path == "/v1/switchboard" || path.starts_with("/v1/switchboard/");
    if asked && !shared.gateway.leads(Lead::Switchboard) {
        // While it starts nobody knows yet who does.
        let who = || kept_by(&shared.gateway.leader(Lead::Switchboard));
        let why = shared.gateway.readiness().err().unwrap_or_else(who);
        return Problem::new(Kind::Unavailable, why).into_response();
    }
    next.run(request).await
}
