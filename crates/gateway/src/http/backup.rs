//! `POST /v1/backup`: the server writes a copy of everything into a file of its own machine.
//!
//! Over the unix socket only. Who may have the server write files can soon do whatever the server's
//! user can, and an operator's key shall not be worth that much.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use futures_util::{Stream, stream};
use hyper::body::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use turnkeep_core::ports::BoxFuture;
use turnkeep_core::ports::care::{BackupError, BackupOrder};
use utoipa::ToSchema;

use super::body;
use super::entry::Shared;
use super::lines::{in_lines, line};
use super::problem::{Kind, Problem, ProblemBody};
use super::reply::Answer;
use crate::killpoint;

/// How far it is, is said this often.
const BEAT: Duration = Duration::from_millis(200);
/// The longest name that a system takes, in bytes.
const NAME_BYTES_MAX: usize = 4096;

/// Where it goes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BackupRequest {
    /// The file on the server's machine, from the root on. It appears whole or not at all.
    file: String,
    /// A file that is there already may be replaced.
    #[serde(default)]
    force: bool,
}

/// A line of the answer.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line<'a> {
    /// How many bytes of about how many are written.
    Progress { done: u64, of: u64 },
    /// It is durable under its name.
    Backup { file: &'a str, bytes: u64 },
    /// There is none, and nothing of it is left.
    Problem { problem: ProblemBody<'a> },
}

/// Writes a consistent copy of everything while it runs.
///
/// The answer comes in lines: `{"type": "progress", "done", "of"}` in bytes now and then, and at last
/// `{"type": "backup", "file", "bytes"}` once the copy is durable under its name, or one of type
/// `problem`. Without a last line nobody knows. Whoever goes away meanwhile stops it. One is made at a
/// time.
#[utoipa::path(
    post,
    path = "/v1/backup",
    tag = "health",
    request_body = BackupRequest,
    responses(
        (status = 200, description = "It is being written; the last line says what became of it", body = String, content_type = "application/x-ndjson",
         example = "{\"type\":\"progress\",\"done\":8192,\"of\":131072}\n{\"type\":\"backup\",\"file\":\"/backup/today.db\",\"bytes\":126976}\n"),
        (status = 403, description = "It is asked for over the unix socket only; or a foreign page asks", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "This server keeps nothing in a file", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The file is there already; or another backup is being made", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The name can't be a backup's", body = ProblemBody, content_type = "application/problem+json"),
        (status = 500, description = "The copy failed", body = ProblemBody, content_type = "application/problem+json"),
        (status = 507, description = "The disk is full", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn backup(State(shared): State<Arc<Shared>>, request: Request) -> Answer {
    let (parts, request) = request.into_parts();
    let asked: BackupRequest = body::json(&parts.headers, request, &shared.settings).await?;
    let order = order_of(&asked)?;
    let Ok(alone) = Arc::clone(&shared.backups).try_acquire_owned() else {
        return Err(Problem::new(Kind::WrongState, "another backup is being made"));
    };
    tracing::info!(file = asked.file, "a backup is being made");
    let (told, mut far) = watch::channel((0, 0));
    let closing = shared.closing.clone();
    let progress = Box::new(move |done, of| {
        // Held until the copying has really ended, whoever waits for it or not.
        let _alone = &alone;
        killpoint::reached("backup.copy");
        !closing.is_cancelled() && told.send((done, of)).is_ok()
    });
    let store = Arc::clone(shared.gateway.care());
    let order = BackupOrder { progress, ..order };
    let mut work: Work = Box::pin(async move { store.backup(order).await });
    // What is wrong before anything was copied is the answer.
    let ended = tokio::select! {
        biased;
        ended = &mut work => Some(ended),
        Ok(()) = far.changed() => None,
    };
    let making = Making { file: asked.file, work, far };
    match ended {
        None => Ok(in_lines(making.lines())),
        Some(Ok(bytes)) => {
            let last = making.last(Ok(bytes));
            Ok(in_lines(stream::once(async move { Ok::<_, Infallible>(last) })))
        }
        Some(Err(error)) => Err(problem_of(&error)),
    }
}

type Work = BoxFuture<'static, Result<u64, BackupError>>;

/// A backup that is being made.
struct Making {
    file: String,
    work: Work,
    far: watch::Receiver<(u64, u64)>,
}

impl Making {
    fn lines(self) -> impl Stream<Item = Result<Bytes, Infallible>> {
        stream::unfold(Some(self), |making| async move {
            let mut making = making?;
            let line = tokio::select! {
                biased;
                ended = &mut making.work => return Some((Ok(making.last(ended)), None)),
                () = tokio::time::sleep(BEAT) => {
                    let (done, of) = *making.far.borrow();
                    line(&Line::Progress { done, of })
                }
            };
            Some((Ok(line), Some(making)))
        })
    }

    fn last(&self, ended: Result<u64, BackupError>) -> Bytes {
        let Self { file, .. } = self;
        match ended {
            Ok(bytes) => {
                tracing::info!(file, bytes, "a backup was made");
                line(&Line::Backup { file, bytes })
            }
            Err(error) => line(&Line::Problem { problem: problem_of(&error).body() }),
        }
    }
}

fn order_of(asked: &BackupRequest) -> Result<BackupOrder, Problem> {
    let file = PathBuf::from(&asked.file);
    let wrong = if asked.file.len() > NAME_BYTES_MAX {
        "is longer than any name of a file".to_owned()
    } else if asked.file.contains('\0') {
        "holds a zero byte, which no name of a file does".to_owned()
    } else if !file.is_absolute() {
        format!("must be a path from the root on, not {:?}", asked.file)
    } else {
        return Ok(BackupOrder { file, replace: asked.force, progress: Box::new(|_, _| true) });
    };
    Err(Problem::field("file", wrong))
}

fn problem_of(error: &BackupError) -> Problem {
    let kind = match error {
        BackupError::NoFile => Kind::NotFound,
        BackupError::Exists(_) => Kind::Exists,
        BackupError::Unfit { .. } => return Problem::field("file", error.to_string()),
        BackupError::Full(_) => Kind::DiskFull,
        // Whoever could be told stopped it, so it was the server's end.
        BackupError::Stopped => Kind::Unavailable,
        BackupError::Failed(_) => Kind::Internal,
    };
    if kind == Kind::Internal {
        tracing::error!(%error, "no backup was made");
    }
    Problem::new(kind, error.to_string())
}
