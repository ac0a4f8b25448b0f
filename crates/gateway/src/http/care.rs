//! `DELETE /v1/customers/{tenant}/{customer}`: a customer is erased.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use futures_util::{Stream, stream};
use hyper::body::Bytes;
use hyper::{HeaderMap, StatusCode};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use utoipa::ToSchema;

use super::access::{Asker, no_tenant};
use super::entry::Shared;
use super::guard::name;
use super::lines::{in_lines, line, wants_lines};
use super::path::Segments;
use super::problem::{Kind, Problem, ProblemBody};
use super::reply::{Answer, json};
use crate::care::{EraseError, Erased, Progress};
use crate::service::Refusal;

/// How far it is, is said this often at least.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What an erasure came to.
#[derive(Serialize, ToSchema)]
#[schema(as = Erased)]
pub(super) struct ErasedShape {
    /// Whose customer.
    tenant_id: String,
    /// Who was erased.
    customer_id: String,
    /// Conversations that are gone.
    sessions: u64,
    /// Messages that went with them.
    messages: u64,
    /// Accepted messages that were open and were cancelled for it.
    cancelled: u64,
    /// Messages that were blanked in sessions of others, like groups.
    blanked: u64,
    /// Parts of replies there that are on their way. They and the messages there keep their text
    /// until they arrived; ask again then.
    on_their_way: u64,
    /// Parts of replies in their conversations that left by a channel, like lines in its `spool`.
    /// They are not reached.
    spooled: u64,
    /// Restrictions that still count, and so stay on record.
    restrictions: u64,
    /// Sign-ins on the web page that were ended, with their codes.
    sign_ins: usize,
    /// Pairings under which they were known on a channel.
    pairings: usize,
    /// Nothing of it stands in the store's files any more; if false, ask again.
    scrubbed: bool,
}

/// A line of an answer that comes in lines.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    Progress(Progress),
    Erased(&'a ErasedShape),
    Problem { problem: ProblemBody<'a> },
}

/// Whose data it is about, if that is within reach and could be anybody's.
pub(super) fn customer_of(
    asker: &Asker,
    tenant: String,
    customer: String,
) -> Result<(String, String), Problem> {
    asker.reach_tenant(&tenant, || no_tenant(&tenant))?;
    Ok((name("tenant", tenant)?, name("customer", customer)?))
}

/// Erases a customer: their conversations, what they wrote elsewhere, their sign-ins.
///
/// What is open ends first, cancelled. What stays names nobody: numbers of messages, for the audit;
/// and restrictions that still count. Asking twice does no harm, and whoever writes afterwards
/// begins a new conversation. It goes on if the asker goes away. With `Accept: application/x-ndjson`
/// it is told how far it is, in lines `{"type": "progress", "step", "done", "of"}`, and at last a
/// line of type `erased` with what the answer holds otherwise, or one of type `problem`.
#[utoipa::path(
    delete,
    path = "/v1/customers/{tenant}/{customer}",
    tag = "customers",
    params(
        ("tenant" = String, Path, description = "Whose customer"),
        ("customer" = String, Path, description = "Who"),
    ),
    responses(
        (status = 200, description = "They are erased", content(
            (ErasedShape = "application/json"),
            (String = "application/x-ndjson", example = "{\"type\":\"progress\",\"step\":\"looking for sessions\",\"done\":3,\"of\":0}\n"),
        )),
        (status = 404, description = "There is no such tenant within reach", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A name could be nobody's", body = ProblemBody, content_type = "application/problem+json"),
        (status = 500, description = "What is stored can't be read", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The store is down, the server is ending, or so much arrives that it could not be ended", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn erase(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    Segments((tenant, customer)): Segments<(String, String)>,
    headers: HeaderMap,
) -> Answer {
    let (tenant, customer) = customer_of(&asker, tenant, customer)?;
    shared.gateway.readiness().map_err(Refusal::Unavailable)?;
    tracing::info!(by = &*asker.who().name, tenant, "a customer is being erased");
    let (told, progress) = watch::channel(Progress::default());
    // Whoever asked may go away; what was begun goes on.
    let work = tokio::spawn(carry_out(Arc::clone(&shared), tenant, customer, told));
    if wants_lines(&headers) {
        return Ok(in_lines(lines_of(work, progress)));
    }
    let erased = work.await.unwrap_or_else(|_| Err(broken()))?;
    Ok(json(StatusCode::OK, &erased, 416))
}

async fn carry_out(
    shared: Arc<Shared>,
    tenant: String,
    customer: String,
    told: watch::Sender<Progress>,
) -> Result<ErasedShape, Problem> {
    // First, so that nobody goes on writing as that customer meanwhile.
    let sign_ins = shared.access.end_visits(&tenant, &customer).await?;
    let pairings = shared.gateway.end_pairings(&tenant, &customer).await?;
    // What would be told them later would be known of them until then.
    shared.gateway.end_jobs(&tenant, &customer).await?;
    let tell = move |progress| {
        told.send_replace(progress);
    };
    let erased = shared.gateway.erase(&tenant, &customer, &tell).await?;
    let Erased { sessions, messages, cancelled, blanked, .. } = erased;
    let Erased { on_their_way, spooled, restrictions, scrubbed, .. } = erased;
    Ok(ErasedShape {
        tenant_id: tenant,
        customer_id: customer,
        sessions,
        messages,
        cancelled,
        blanked,
        on_their_way,
        spooled,
        restrictions,
        sign_ins,
        pairings,
        scrubbed,
    })
}

fn broken() -> Problem {
    Problem::new(Kind::Internal, "the erasure broke off; ask again, and see the server's log")
}

/// Tells how far the work is until it is done, and then what it came to.
fn lines_of(
    work: JoinHandle<Result<ErasedShape, Problem>>,
    progress: watch::Receiver<Progress>,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold(Some((work, progress)), |state| async move {
        let (mut work, mut progress) = state?;
        let done = tokio::select! {
            biased;
            done = &mut work => Some(done.unwrap_or_else(|_| Err(broken()))),
            Ok(()) = progress.changed() => None,
            () = tokio::time::sleep(KEEP_ALIVE) => None,
        };
        let line = match &done {
            Some(Ok(erased)) => line(&Line::Erased(erased)),
            Some(Err(problem)) => line(&Line::Problem { problem: problem.body() }),
            None => line(&Line::Progress(*progress.borrow_and_update())),
        };
        Some((Ok(line), done.is_none().then_some((work, progress))))
    })
}

impl From<EraseError> for Problem {
    fn from(error: EraseError) -> Self {
        match error {
            EraseError::Store(error) => error.into(),
            EraseError::Refused(refusal) => refusal.into(),
            EraseError::Busy(key) => Self::new(
                Kind::Unavailable,
                format!("so much arrives in {key} that it never rests; restrict who writes there"),
            ),
        }
    }
}
