//! `/v1/deadletters`: messages that a person has to look at.

use std::sync::Arc;

use axum::extract::State;
use hyper::{StatusCode, Uri};
use serde::Serialize;
use turnkeep_core::SessionKey;
use turnkeep_core::ids::{Seq, TurnGroupId};
use turnkeep_core::ports::store::{DeadLetter, NumberedDeadLetter};
use turnkeep_core::session::{Control, Controlled};
use utoipa::ToSchema;

use super::access::Asker;
use super::entry::Shared;
use super::list::{Limit, after_id};
use super::path::Segments;
use super::problem::{Kind, Problem, ProblemBody};
use super::query::Query;
use super::reply::{Answer, json, read};
use super::shape::{Accepted, Moment};

/// Letters that are looked through for one answer.
const SEEN_MAX: usize = 10_000;

/// A message that no turn could answer.
#[derive(Serialize, ToSchema)]
#[schema(as = DeadLetter)]
pub(super) struct DeadLetterShape<'a> {
    /// Names it below `/v1/deadletters`.
    id: u64,
    /// The session's key.
    session: &'a str,
    /// The message's id.
    message_id: &'a str,
    /// Its place in the session's journal.
    #[schema(value_type = u64)]
    seq: Seq,
    /// The turn group, which a retry keeps.
    #[schema(value_type = uuid::Uuid)]
    turn_group_id: TurnGroupId,
    /// What it says.
    text: &'a str,
    /// `agent_failed`, `crash_loop`, `input_timeout` or `expired`.
    reason: &'static str,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    at: Moment,
}

/// A page of dead letters.
#[derive(Serialize, ToSchema)]
pub(super) struct DeadLettersPage<'a> {
    /// Oldest first.
    dead_letters: Vec<DeadLetterShape<'a>>,
    /// What to pass as `after` for the next page; null at the end.
    next: Option<u64>,
}

/// A dead letter that was given up.
#[derive(Serialize, ToSchema)]
pub(super) struct Discarded {
    /// `discarded`.
    result: &'static str,
    /// Which.
    id: u64,
}

/// Lists dead letters.
#[utoipa::path(
    get,
    path = "/v1/deadletters",
    tag = "dead letters",
    params(
        ("after" = Option<u64>, Query, description = "Only behind this id"),
        ("limit" = Option<usize>, Query, description = "How many, from 1 to 1000; 100 if absent"),
    ),
    responses(
        (status = 200, description = "A page", body = DeadLettersPage),
        (status = 422, description = "A parameter is wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn dead_letters(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    uri: Uri,
) -> Answer {
    let query = Query::of(&uri);
    let after = after_id(query, "a dead letter")?;
    let limit = Limit::of(query)?;
    let (rows, next) = page(&shared, &asker, after, limit).await?;
    let dead_letters = rows.iter().map(|(id, key, letter)| shape(*id, key, letter)).collect();
    read(&DeadLettersPage { dead_letters, next })
}

/// Reads on while letters are out of the asker's reach, but not for ever: then there are fewer than
/// were asked for, and `next` goes on.
async fn page(
    shared: &Shared,
    asker: &Asker,
    mut after: u64,
    limit: Limit,
) -> Result<(Vec<NumberedDeadLetter>, Option<u64>), Problem> {
    let (mut rows, mut seen) = (Vec::new(), 0);
    loop {
        let read = shared.gateway.store().dead_letters(after, limit.and_one()).await?;
        let ended = read.len() <= limit.get();
        seen += read.len();
        for row in read {
            if rows.len() == limit.get() {
                return Ok((rows, Some(after)));
            }
            after = row.0;
            if asker.who().reaches(&row.1) {
                rows.push(row);
            }
        }
        if ended {
            return Ok((rows, None));
        }
        if seen >= SEEN_MAX {
            return Ok((rows, Some(after)));
        }
    }
}

fn shape<'a>(id: u64, key: &'a SessionKey, letter: &'a DeadLetter) -> DeadLetterShape<'a> {
    DeadLetterShape {
        id,
        session: key.as_str(),
        message_id: &letter.body.message_id,
        seq: letter.seq,
        turn_group_id: letter.group,
        text: &letter.body.text,
        reason: letter.reason.as_str(),
        at: Moment(letter.at),
    }
}

/// Tries a dead letter again; it takes a new place in its session.
#[utoipa::path(
    post,
    path = "/v1/deadletters/{id}/retry",
    tag = "dead letters",
    params(("id" = u64, Path, description = "The dead letter's id")),
    responses(
        (status = 202, description = "The message is taken again", body = Accepted),
        (status = 404, description = "There is no such dead letter", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "Something is open there, and no message may wait (`message_queue_enabled`)", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It is no id", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "Too many messages wait", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn retry(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    Segments(id): Segments<String>,
) -> Answer {
    let id = letter_id(&id)?;
    let (key, letter) = find(&shared, &asker, id).await?;
    let DeadLetter { seq, group, trust, body, .. } = letter;
    let message_id = Arc::clone(&body.message_id);
    let control = Control::Retry { seq, group, trust, body };
    match shared.gateway.control(&key, control).await? {
        Controlled::Retried(decision) => {
            let accepted = Accepted::new(key.as_str(), &message_id, &decision);
            Ok(json(StatusCode::ACCEPTED, &accepted, 384))
        }
        Controlled::QueueFull => Err(Problem::queue_full()),
        Controlled::Busy => Err(Problem::session_busy()),
        _ => Err(gone(id)),
    }
}

/// Gives a dead letter up.
#[utoipa::path(
    post,
    path = "/v1/deadletters/{id}/discard",
    tag = "dead letters",
    params(("id" = u64, Path, description = "The dead letter's id")),
    responses(
        (status = 200, description = "It is gone", body = Discarded),
        (status = 404, description = "There is no such dead letter", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It is no id", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn discard(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    Segments(id): Segments<String>,
) -> Answer {
    let id = letter_id(&id)?;
    let (key, letter) = find(&shared, &asker, id).await?;
    match shared.gateway.control(&key, Control::Discard { seq: letter.seq }).await? {
        Controlled::Done => Ok(json(StatusCode::OK, &Discarded { result: "discarded", id }, 64)),
        _ => Err(gone(id)),
    }
}

async fn find(
    shared: &Shared,
    asker: &Asker,
    id: u64,
) -> Result<(SessionKey, DeadLetter), Problem> {
    let found = shared.gateway.store().dead_letter(id).await?.ok_or_else(|| gone(id))?;
    asker.reach(&found.0, || gone(id))?;
    Ok(found)
}

fn letter_id(text: &str) -> Result<u64, Problem> {
    text.parse()
        .map_err(|_| Problem::field("id", format!("{text:?} is not the id of a dead letter")))
}

fn gone(id: u64) -> Problem {
    Problem::new(
        Kind::NotFound,
        format!("there is no dead letter {id}: it was tried again or given up, or never was"),
    )
}
