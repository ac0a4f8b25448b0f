//! `GET /v1/worktrees`: the folders that agents keep for sessions, and removing one.

use std::sync::Arc;

use axum::extract::{Request, State};
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use turnkeep_core::ports::worktrees::{Removal, Worktree, WorktreeState};
use utoipa::ToSchema;

use super::access::Asker;
use super::body;
use super::entry::Shared;
use super::path::Segments;
use super::problem::{Kind, Problem, ProblemBody};
use super::reply::{Answer, json, read};

/// A git worktree that an agent keeps for a session.
#[derive(Serialize, ToSchema)]
#[schema(as = Worktree)]
pub(super) struct WorktreeShape {
    /// Whose.
    agent_id: String,
    /// Its session, as on the switchboard: 12 hexadecimal digits.
    id: String,
    /// Where it is on the server's machine.
    path: String,
    /// The branch that stands there; null where there is none.
    branch: Option<String>,
    /// `clean`, `in_use`, `dirty`, `unmerged` or `broken`.
    state: &'static str,
    /// What is in no commit, how many commits stand in its branch only, or what is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl WorktreeShape {
    fn new(agent_id: String, worktree: Worktree) -> Self {
        let Worktree { id, path, branch, state } = worktree;
        let (state, detail) = match state {
            WorktreeState::Clean => ("clean", None),
            WorktreeState::InUse => ("in_use", None),
            WorktreeState::Dirty(what) => ("dirty", Some(what)),
            WorktreeState::Unmerged(count) => {
                ("unmerged", Some(format!("{count} commits stand in its branch only")))
            }
            WorktreeState::Broken(why) => ("broken", Some(why)),
        };
        Self { agent_id, id, path, branch, state, detail }
    }
}

/// Why an agent's worktrees can't be told.
#[derive(Serialize, ToSchema)]
pub(super) struct WorktreeTrouble {
    /// Whose.
    agent_id: String,
    /// What git says.
    error: String,
}

/// All worktrees.
#[derive(Serialize, ToSchema)]
pub(super) struct WorktreesPage {
    /// By agent and id.
    worktrees: Vec<WorktreeShape>,
    /// Agents whose worktrees can't be told.
    troubles: Vec<WorktreeTrouble>,
}

/// How to remove one.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RemoveRequest {
    /// Also where commits stand in its branch only: the branch stays then. What is in no commit is
    /// never removed.
    #[serde(default)]
    force: bool,
}

/// What came of removing one.
#[derive(Serialize, ToSchema)]
pub(super) struct RemovedWorktree {
    /// `removed` or `kept`.
    result: &'static str,
    /// Why it is kept, and what can be done about that.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// As it was.
    worktree: WorktreeShape,
}

/// Lists the git worktrees that agents keep for sessions.
#[utoipa::path(
    get,
    path = "/v1/worktrees",
    tag = "sessions",
    responses((status = 200, description = "All of them", body = WorktreesPage))
)]
pub(super) async fn worktrees(State(shared): State<Arc<Shared>>) -> Answer {
    let mut page = WorktreesPage { worktrees: Vec::new(), troubles: Vec::new() };
    for (agent_id, told) in shared.gateway.worktrees().await {
        match told {
            Ok(all) => {
                let shape = |one| WorktreeShape::new(agent_id.clone(), one);
                page.worktrees.extend(all.into_iter().map(shape));
            }
            Err(error) => page.troubles.push(WorktreeTrouble { agent_id, error }),
        }
    }
    read(&page)
}

/// Removes a worktree if nothing is lost by that.
#[utoipa::path(
    post,
    path = "/v1/worktrees/{id}/remove",
    tag = "sessions",
    params(("id" = String, Path, description = "The session's 12 digits")),
    request_body = Option<RemoveRequest>,
    responses(
        (status = 200, description = "Whether it was removed, and why not", body = RemovedWorktree),
        (status = 404, description = "There is no such worktree", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "git could not do it", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn remove(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    Segments(id): Segments<String>,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let RemoveRequest { force } =
        body::json_or_default(&parts.headers, body, &shared.settings).await?;
    let nowhere = || Problem::new(Kind::NotFound, format!("there is no worktree {id:?}"));
    let (agent, removal) = shared.gateway.remove_worktree(&id, force).await.ok_or_else(nowhere)?;
    let (result, why, worktree) = match removal {
        Ok(Removal::Removed(worktree)) => ("removed", None, worktree),
        Ok(Removal::Kept(worktree, why)) => ("kept", Some(why), worktree),
        Ok(Removal::None) => return Err(nowhere()),
        Err(error) => return Err(Problem::new(Kind::WrongState, error)),
    };
    tracing::info!(by = &*asker.who().name, id, result, "a worktree was to be removed");
    let worktree = WorktreeShape::new(agent, worktree);
    Ok(json(StatusCode::OK, &RemovedWorktree { result, why, worktree }, 256))
}
