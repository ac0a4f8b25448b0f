//! `GET /v1/turns/{turn}`.

use std::sync::Arc;

use axum::extract::State;
use turnkeep_core::TurnId;
use turnkeep_core::ports::store::StoreError;
use turnkeep_core::usage::Sums;

use super::access::Asker;
use super::entry::Shared;
use super::path::Segments;
use super::problem::{Kind, Problem, ProblemBody};
use super::reply::{Answer, read};
use super::shape::{TurnShape, turn_id};

/// Shows a turn.
#[utoipa::path(
    get,
    path = "/v1/turns/{turn_id}",
    tag = "turns",
    params(("turn_id" = uuid::Uuid, Path, description = "The turn's id")),
    responses(
        (status = 200, description = "The turn", body = TurnShape),
        (status = 404, description = "There is no such turn", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It is no id of a turn", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn turn(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    Segments(id): Segments<String>,
) -> Answer {
    let id = turn_id("turn_id", &id)?;
    let found = shared.gateway.store().turn(id).await?;
    let missing = || Problem::new(Kind::NotFound, format!("there is no turn {id}"));
    let (key, row) = found.ok_or_else(missing)?;
    asker.reach(&key, missing)?;
    let used = shared.usage_of_turns(&asker, vec![id]).await?;
    read(&TurnShape::new(&key, &row).using(&used))
}

impl Shared {
    /// What turns used; nothing for a customer, whose business it is not.
    pub(super) async fn usage_of_turns(
        &self,
        asker: &Asker,
        turns: Vec<TurnId>,
    ) -> Result<Vec<(TurnId, Sums)>, StoreError> {
        let turns = if asker.is_person() { Vec::new() } else { turns };
        self.gateway.usage().usage_of_turns(turns).await
    }
}
