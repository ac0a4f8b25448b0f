//! `GET /v1/sessions/{session}/messages`: what was said, oldest first.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use hyper::Uri;
use serde::Serialize;
use turnkeep_core::SessionKey;
use turnkeep_core::ids::{Seq, TurnId};
use turnkeep_core::journal::{Event, EventBody, ImportedRole};
use turnkeep_core::ports::store::{Store, StoreError, TurnStatus};
use utoipa::ToSchema;

use super::entry::Shared;
use super::list::Limit;
use super::path::KeyPath;
use super::problem::{Problem, ProblemBody};
use super::query::Query;
use super::reply::read;
use super::shape::Moment;
use crate::follow::ending;

/// Journal entries that are read at once.
const PAGE: usize = 256;
/// Pages that are read for one answer, at most. A message whose ending lies further behind is
/// shown as open.
const PAGES_MAX: usize = 64;

/// A page that holds this much text is full, whatever its limit, in bytes.
const TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Role {
    User,
    Agent,
    Operator,
    Notice,
}

/// One thing that was said.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Message)]
pub(super) struct MessageShape {
    /// Its place in the journal.
    #[schema(value_type = u64)]
    pub(super) seq: Seq,
    /// Who said it; an operator answers in the agent's place, and a notice is the gateway's own, or
    /// was sent through it unasked.
    role: Role,
    /// The operator's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    by: Option<Arc<str>>,
    /// What.
    #[schema(value_type = String)]
    text: Arc<str>,
    /// The id of the user's message, or of one that was sent unasked.
    #[schema(value_type = Option<String>)]
    message_id: Option<Arc<str>>,
    /// The turn that said it, or that ended the user's message; null while that is open.
    #[schema(value_type = Option<uuid::Uuid>)]
    turn_id: Option<TurnId>,
    /// How the user's message ended: `complete`, `failed` or `cancelled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    status: Option<TurnStatus>,
    /// Where the message stood before it was tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    retry_of: Option<Seq>,
    /// It was said elsewhere, and imported.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    imported: bool,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    at: Moment,
}

impl MessageShape {
    /// Its ending is still to come.
    fn is_open(&self) -> bool {
        self.role == Role::User && self.status.is_none() && !self.imported
    }
}

/// A page of messages.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MessagesPage {
    /// Oldest first.
    pub(super) messages: Vec<MessageShape>,
    /// What to pass as `after` for the next page; null at the end.
    #[schema(value_type = Option<u64>)]
    pub(super) next: Option<Seq>,
    /// Where the session's history begins now; absent where nothing of it was forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    first_seq: Option<Seq>,
}

/// Lists what was said in a session.
#[utoipa::path(
    get,
    path = "/v1/sessions/{session}/messages",
    tag = "sessions",
    params(
        ("session" = String, Path, description = "The session's key, percent-encoded"),
        ("after" = Option<u64>, Query, description = "Only what stands behind this place of the journal"),
        ("limit" = Option<usize>, Query, description = "How many, from 1 to 1000; 100 if absent"),
    ),
    responses(
        (status = 200, description = "A page", body = MessagesPage),
        (status = 404, description = "Nobody has written there", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A parameter is wrong", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn messages(
    State(shared): State<Arc<Shared>>,
    KeyPath(key): KeyPath,
    uri: Uri,
) -> Result<Response, Problem> {
    let query = Query::of(&uri);
    let after = query.parsed::<u64>("after", "a place of the journal, 0 or more")?;
    let limit = Limit::of(query)?.get();
    shared.loaded(&key).await?;
    let store = &**shared.gateway.store();
    let mut page = page(store, &key, Seq(after.unwrap_or(0)), limit).await?;
    let forgotten = shared.gateway.care().forgotten(&key).await?;
    page.first_seq = forgotten.map(|forgotten| forgotten.through.next());
    read(&page)
}

/// Reads on behind a full page until every message on it has its ending.
pub(super) async fn page(
    store: &dyn Store,
    key: &SessionKey,
    mut after: Seq,
    limit: usize,
) -> Result<MessagesPage, StoreError> {
    let mut messages: Vec<MessageShape> = Vec::new();
    let mut more = false;
    let (mut open, mut text_bytes) = (0_usize, 0_usize);
    for _ in 0..PAGES_MAX {
        let events = store.events(key, after, PAGE).await?;
        let ended = events.len() < PAGE;
        for event in events {
            after = event.seq;
            if open > 0 {
                open -= settle(&mut messages, &event);
            }
            if more {
                continue;
            }
            let Some(message) = message_of(event) else { continue };
            if messages.len() == limit || text_bytes >= TEXT_BYTES_MAX {
                more = true;
                continue;
            }
            open += usize::from(message.is_open());
            text_bytes += message.text.len();
            messages.push(message);
        }
        if ended || (more && open == 0) {
            let next = messages.last().filter(|_| more).map(|message| message.seq);
            return Ok(MessagesPage { messages, next, first_seq: None });
        }
    }
    // The journal goes on, whether or not another message was seen in it yet.
    let next = messages.last().map_or(after, |last| if more { last.seq } else { after });
    Ok(MessagesPage { messages, next: Some(next), first_seq: None })
}

/// Notes an ending; says how many messages of the page it settled.
fn settle(messages: &mut [MessageShape], event: &Event) -> usize {
    let Some((seqs, settled)) = ending(event) else { return 0 };
    let mut count = 0;
    for seq in seqs {
        let Ok(at) = messages.binary_search_by_key(seq, |message| message.seq) else { continue };
        if messages[at].is_open() {
            messages[at].turn_id = settled.turn;
            messages[at].status = Some(settled.status);
            count += 1;
        }
    }
    count
}

fn message_of(event: Event) -> Option<MessageShape> {
    let (seq, at) = (event.seq, Moment(event.at));
    let said = |role, text, turn_id| MessageShape {
        seq,
        role,
        by: None,
        text,
        message_id: None,
        turn_id,
        status: None,
        retry_of: None,
        imported: false,
        at,
    };
    match event.body {
        EventBody::MessageAccepted { message_id, text, retry_of, .. } => {
            let message_id = Some(message_id);
            Some(MessageShape { message_id, retry_of, ..said(Role::User, text, None) })
        }
        // Whether it was for the agent had to be found out: it stands where it was accepted.
        EventBody::MessageContext { of: Some(_), .. } => None,
        EventBody::MessageCommand { message_id, text, .. }
        | EventBody::MessageContext { message_id, text, .. } => {
            let (message_id, status) = (Some(message_id), Some(TurnStatus::Complete));
            Some(MessageShape { message_id, status, ..said(Role::User, text, None) })
        }
        EventBody::TurnCompleted { turn_id, reply: Some(text), by: by @ Some(_), .. } => {
            Some(MessageShape { by, ..said(Role::Operator, text, Some(turn_id)) })
        }
        EventBody::SessionNotice { text, message_id, by: by @ Some(_), .. } => {
            Some(MessageShape { by, message_id, ..said(Role::Operator, text, None) })
        }
        EventBody::TurnCompleted { turn_id, reply: Some(text), .. }
        | EventBody::TurnCancelled { turn_id, reply: Some(text), .. }
        | EventBody::TurnWaitingForInput { turn_id, text, .. } => {
            Some(said(Role::Agent, text, Some(turn_id)))
        }
        EventBody::SessionNotice { text, message_id, .. } => {
            Some(MessageShape { message_id, ..said(Role::Notice, text, None) })
        }
        EventBody::HistoryImported(line) => {
            let role = match line.role {
                ImportedRole::User => Role::User,
                ImportedRole::Agent => Role::Agent,
                ImportedRole::Operator => Role::Operator,
                ImportedRole::Notice => Role::Notice,
            };
            let (at, by) = (Moment(line.said_at), line.by);
            Some(MessageShape { imported: true, at, by, ..said(role, line.text, None) })
        }
        _ => None,
    }
}
