//! `GET /v1/sessions/{session}/file`: a session's whole journal, a JSON text a line.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use hyper::body::Bytes;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use turnkeep_core::SessionKey;
use turnkeep_core::ids::Seq;
use turnkeep_core::import::{End, EndSort, FORMAT, Header, VERSION};
use turnkeep_core::ports::store::StoreError;

use super::super::access::Asker;
use super::super::entry::Shared;
use super::super::lines::{BrokenOff, from_writer};
use super::super::path::KeyPath;
use super::super::problem::{Problem, ProblemBody};
use super::super::shape::Moment;
use super::in_digits;
use crate::clock;

/// Entries that are read at once.
const PAGE: usize = 256;
/// A piece that is longer than this goes out, in bytes.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that wait for their reader.
const PIECES: usize = 2;

/// Saves a session as a file.
///
/// One JSON text a line. The first says what it is: `format` `turnkeep.session`, `version`,
/// `saved_at`, `session`, `name`, `first_seq`, `last_seq`. Then every entry of the journal up to
/// `last_seq`, as `/events` shows it. The last line is of `type` `end`, with the number of `events`
/// and the `sha256` of everything before it: a file without it was cut off. Where saving breaks off,
/// the connection ends before the body does.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/file",
    tag = "sessions",
    params(("session" = String, Path, description = "The session's key, percent-encoded")),
    responses(
        (status = 200, description = "The lines", body = String, content_type = "application/x-ndjson",
         example = "{\"format\":\"turnkeep.session\",\"version\":1}\n{\"type\":\"end\",\"events\":0,\"sha256\":\"e3b0\"}\n"),
        (status = 404, description = "Nobody has written there", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It is no session key", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(in crate::http) async fn save(
    State(shared): State<Arc<Shared>>,
    asker: Asker,
    KeyPath(key): KeyPath,
) -> Result<Response, Problem> {
    let loaded = shared.loaded(&key).await?;
    let forgotten = shared.gateway.care().forgotten(&key).await?;
    let forgotten = forgotten.map_or(Seq(0), |forgotten| forgotten.through);
    let last_seq = loaded.session.last_seq.max(forgotten);
    let called = shared.gateway.switchboard().by_key(&key).and_then(|row| row.name.clone());
    let header = Header {
        format: FORMAT.to_owned(),
        version: VERSION,
        saved_at: Moment(clock::now()).to_string(),
        session: key.as_str().to_owned(),
        name: called.map(|name| name.to_string()),
        first_seq: forgotten.next(),
        last_seq,
    };
    tracing::info!(by = &*asker.who().name, session_key = %key, "a session is being saved");
    let (out, pieces) = mpsc::channel(PIECES);
    tokio::spawn(async move {
        let end = out.clone();
        let saving = Saving { out, piece: Vec::new(), hash: Sha256::new() };
        let written = tokio::select! {
            biased;
            () = shared.closing.cancelled() => Err(Broken::Ending),
            written = saving.write(&shared, &key, &header) => written,
        };
        let Err(why) = written else { return };
        if let Broken::Store(error) = &why {
            tracing::error!(%error, session_key = %key, "the saving of a session broke off");
        }
        // Nobody may be there any more to see it.
        let _ = end.send(Err(BrokenOff)).await;
    });
    Ok(from_writer(pieces))
}

/// Why a file ends before its last line.
#[derive(Debug)]
enum Broken {
    /// The server ends, or nobody reads it any more.
    Ending,
    /// Its beginning was forgotten meanwhile, so the file would not be what it says.
    Forgotten,
    /// It can't be read.
    Store(StoreError),
}

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// A file that is being written.
struct Saving {
    out: mpsc::Sender<Result<Bytes, BrokenOff>>,
    piece: Vec<u8>,
    hash: Sha256,
}

impl Saving {
    async fn write(
        mut self,
        shared: &Shared,
        key: &SessionKey,
        header: &Header,
    ) -> Result<(), Broken> {
        self.line(header);
        let mut after = Seq(header.first_seq.0 - 1);
        let first = after;
        while after < header.last_seq {
            let page = shared.gateway.store().events(key, after, PAGE).await?;
            let Some(event) = page.first() else { break };
            if event.seq != after.next() {
                return Err(Broken::Forgotten);
            }
            for event in page.iter().take_while(|event| event.seq <= header.last_seq) {
                self.line(event);
                after = event.seq;
            }
            if self.piece.len() >= PIECE_BYTES {
                self.flush().await?;
            }
        }
        if after != header.last_seq {
            return Err(Broken::Forgotten);
        }
        let events = after.0 - first.0;
        let sha256 = in_digits(std::mem::take(&mut self.hash));
        self.line(&End { sort: EndSort::End, events, sha256 });
        self.flush().await
    }

    fn line(&mut self, line: &impl Serialize) {
        let from = self.piece.len();
        // What was read from the store was written by us, and writing to a vector can't fail.
        let _ = serde_json::to_writer(&mut self.piece, line);
        self.piece.push(b'\n');
        self.hash.update(&self.piece[from..]);
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        let piece = std::mem::take(&mut self.piece);
        self.out.send(Ok(piece.into())).await.map_err(|_| Broken::Ending)
    }
}
