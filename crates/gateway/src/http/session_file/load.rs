//! `POST /v1/sessions/file`: makes a new session of a file.
//!
//! A file is looked at line by line while it comes, so that a wrong one is refused early, and taken
//! only when it is whole: nothing is written before that, and then everything in one commit.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use http_body_util::BodyExt as _;
use hyper::header::CONTENT_TYPE;
use hyper::{HeaderMap, StatusCode, Uri};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;
use turnkeep_core::SessionKey;
use turnkeep_core::import::{End, FILE_BYTES_MAX, FileError, Import, Reader, Taken};
use turnkeep_core::switchboard::check_name;
use utoipa::ToSchema;

use super::super::access::Asker;
use super::super::body;
use super::super::entry::Shared;
use super::super::lines::LINES;
use super::super::problem::{Kind, Problem, ProblemBody};
use super::super::query::Query;
use super::super::reply::{Answer, json};
use super::in_digits;
use crate::switchboard::BoardError;

/// How long a whole file may take to come.
const WHOLE: Duration = Duration::from_secs(600);

/// A session was made of a file.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct LoadedFile<'a> {
    /// The new session's key.
    #[schema(value_type = String)]
    session: &'a SessionKey,
    /// The session that it was saved from, as the file says.
    from: &'a str,
    /// How many messages it begins with.
    messages: u32,
    /// Its number on the switchboard; null where that is full.
    number: Option<u32>,
    /// What it is called there.
    name: Option<&'a str>,
}

/// Makes a new session of a file.
///
/// Its history is what was said in the other one, as the file has it. Nothing is run, answered or
/// sent again. A file that is broken, cut off or too long makes no session.
#[utoipa::path(
    post,
    path = "/v1/sessions/file",
    tag = "sessions",
    params(
        ("tenant" = Option<String>, Query, description = "Whose it shall be; `default` if absent"),
        ("agent" = Option<String>, Query, description = "Which agent goes on with it; `default` if absent"),
        ("name" = Option<String>, Query, description = "What it shall be called on the switchboard"),
    ),
    request_body(content = String, content_type = "application/x-ndjson"),
    responses(
        (status = 201, description = "The new session", body = LoadedFile),
        (status = 404, description = "There is no such tenant within reach", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "Another session has the name, or other files are being loaded", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A line is wrong, which is named with its field; or a parameter is", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn load(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    uri: Uri,
    request: Request,
) -> Answer {
    let (parts, body) = request.into_parts();
    let query = Query::of(&uri);
    let name = query.get("name");
    let meant = || -> Result<(String, String), Problem> {
        check_type(&parts.headers)?;
        let tenant = asker.tenant(query.get("tenant").map(Cow::into_owned))?;
        let agent = query.get("agent").map(Cow::into_owned);
        let or_default = |name: Option<String>| name.unwrap_or_else(|| "default".to_owned());
        let tenant = or_default(tenant);
        check_free(&shared, &tenant, name.as_deref())?;
        Ok((tenant, or_default(agent)))
    };
    let (tenant, agent) = meant().map_err(Problem::and_close)?;
    let Ok(_place) = shared.files.try_acquire() else {
        let detail = "other files are being loaded; try again in a moment";
        return Err(Problem::new(Kind::WrongState, detail).and_close());
    };
    let silence = shared.settings.now().header_timeout;
    let text_bytes_max = shared.gateway.import_text_bytes_max(&tenant, &agent);
    let reader = Reader::new().with_text_bytes_max(text_bytes_max);
    let file = File { reader, ..File::default() };
    let import = match timeout(WHOLE, read(body, silence, &asker, file)).await {
        Ok(read) => read.map_err(Problem::and_close)?,
        Err(_) => return Err(too_slow(WHOLE).and_close()),
    };
    let from = Arc::clone(&import.head.from);
    let (session, messages) = shared.gateway.import(&tenant, &agent, import).await?;
    let by = &*asker.who().name;
    tracing::info!(by, session_key = %session, "a session was made of a file");
    let row = match shared.gateway.board_enter(&session, name.as_deref()).await {
        // Somebody was given the name meanwhile.
        Err(BoardError::NameTaken(_)) => shared.gateway.board_enter(&session, None).await,
        entered => entered,
    };
    let row = row.ok();
    let (number, name) =
        row.as_deref().map_or((None, None), |row| (Some(row.number), row.name.as_deref()));
    let loaded = LoadedFile { session: &session, from: &from, messages, number, name };
    Ok(json(StatusCode::CREATED, &loaded, 384))
}

/// Before anything is read: a name that is taken shall not leave a conversation behind.
fn check_free(shared: &Shared, tenant: &str, name: Option<&str>) -> Result<(), Problem> {
    let Some(name) = name else { return Ok(()) };
    let name = check_name(name).map_err(|error| Problem::field("name", error.to_string()))?;
    match shared.gateway.switchboard().get(tenant, &name) {
        Ok(row) if row.name.as_ref() == Some(&name) => {
            let detail = format!("session {} has this name already", row.number);
            Err(Problem::new(Kind::NameTaken, detail).of_field("name"))
        }
        _ => Ok(()),
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    body::check_encoding(headers)?;
    let given = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = given.unwrap_or_default().split(';').next().unwrap_or_default().trim_ascii();
    if essence.eq_ignore_ascii_case(LINES) {
        return Ok(());
    }
    let detail = format!("the body must be {LINES}, not {:?}", given.unwrap_or("nothing"));
    Err(Problem::new(Kind::NotJson, detail))
}

fn too_slow(limit: Duration) -> Problem {
    let seconds = limit.as_secs_f32();
    Problem::new(Kind::TooSlow, format!("the file did not arrive within {seconds} s"))
}

async fn read(
    mut body: Body,
    silence: Duration,
    asker: &Asker,
    mut file: File,
) -> Result<Import, Problem> {
    loop {
        let frame = timeout(silence, body.frame()).await.map_err(|_| too_slow(silence))?;
        let Some(frame) = frame else { break };
        let broken = |_| Problem::new(Kind::BadRequest, "the body is not framed as HTTP asks");
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        file.take(&data)?;
    }
    let by = Arc::from(&*asker.who().name);
    file.import(by)
}

/// A file that is being read.
#[derive(Default)]
struct File {
    reader: Reader,
    /// The beginning of a line whose end has not come yet.
    begun: Vec<u8>,
    bytes: usize,
    /// Of all whole lines but the last one.
    hash: Sha256,
}

impl File {
    fn take(&mut self, mut data: &[u8]) -> Result<(), Problem> {
        self.bytes += data.len();
        if self.bytes > FILE_BYTES_MAX {
            let detail = format!("the file is longer than {FILE_BYTES_MAX} bytes");
            return Err(Problem::new(Kind::TooLarge, detail));
        }
        while let Some(at) = data.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = data.split_at(at + 1);
            data = rest;
            if self.begun.is_empty() {
                self.line(line)?;
            } else {
                let mut whole = std::mem::take(&mut self.begun);
                whole.extend_from_slice(line);
                self.line(&whole)?;
            }
        }
        self.begun.extend_from_slice(data);
        Ok(())
    }

    /// A line with its end, or the file's last one without.
    fn line(&mut self, line: &[u8]) -> Result<(), Problem> {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        match self.reader.take(text).map_err(of_file)? {
            Taken::More => self.hash.update(line),
            Taken::End(End { sha256, .. }) => {
                if in_digits(std::mem::take(&mut self.hash)) != sha256 {
                    let why = "is not the hash of the lines before it: the file was changed";
                    return Err(of_file(FileError {
                        line: self.reader.lines(),
                        field: "sha256".to_owned(),
                        why: why.to_owned(),
                    }));
                }
            }
        }
        Ok(())
    }

    fn import(mut self, by: Arc<str>) -> Result<Import, Problem> {
        let rest = std::mem::take(&mut self.begun);
        if !rest.is_empty() {
            self.line(&rest)?;
        }
        self.reader.import(Some(by)).map_err(of_file)
    }
}

fn of_file(error: FileError) -> Problem {
    let FileError { line, field, why } = error;
    Problem::field(field, format!("in line {line} {why}"))
}
