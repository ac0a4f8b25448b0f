//! What became of a message, how it ended or what its turn asks first: told by the session's task, or
//! found in the journal.

use std::sync::Arc;

use turnkeep_core::SessionKey;
use turnkeep_core::ids::{QuestionId, Seq, TurnId};
use turnkeep_core::journal::{Event, EventBody, NoticeSource};
use turnkeep_core::ports::store::{Store, StoreError, TurnStatus};

/// What became of a message: its ending, or what its turn has to know first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// [`TurnStatus::Complete`], [`TurnStatus::Failed`] or [`TurnStatus::Cancelled`]; or
    /// [`TurnStatus::WaitingForInput`], which is no ending.
    pub status: TurnStatus,
    /// The turn that ended it; none if it was given up in the queue.
    pub turn: Option<TurnId>,
    /// The reply; none where the agent chose silence.
    pub reply: Option<Arc<str>>,
    /// What went wrong.
    pub error: Option<Arc<str>>,
    /// The operator who gave the reply in the agent's place.
    pub by: Option<Arc<str>>,
    /// What the turn asks its user, who is the one to answer.
    pub asked: Option<Asked>,
}

/// A question that a turn waits with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Names it.
    pub id: QuestionId,
    /// Its words.
    pub text: Arc<str>,
}

impl Settled {
    /// An ending without a reply.
    pub(crate) const fn plain(status: TurnStatus, turn: Option<TurnId>) -> Self {
        Self { status, turn, reply: None, error: None, by: None, asked: None }
    }

    /// The turn waits for its user.
    pub(crate) fn asking(turn: TurnId, asked: Asked) -> Self {
        Self { asked: Some(asked), ..Self::plain(TurnStatus::WaitingForInput, Some(turn)) }
    }
}

/// Journal entries that are read at once.
const PAGE: usize = 256;

/// What an entry says of the ending of the messages it names.
pub(crate) fn ending(event: &Event) -> Option<(&[Seq], Settled)> {
    let plain = Settled::plain;
    match &event.body {
        EventBody::TurnCompleted { turn_id, messages, reply, by, .. } => {
            let settled = plain(TurnStatus::Complete, Some(*turn_id));
            Some((messages, Settled { reply: reply.clone(), by: by.clone(), ..settled }))
        }
        EventBody::TurnCancelled { turn_id, messages, reply, .. } => {
            let settled = plain(TurnStatus::Cancelled, Some(*turn_id));
            Some((messages, Settled { reply: reply.clone(), ..settled }))
        }
        EventBody::TurnFailed { turn_id, messages, error, .. } => {
            let settled = plain(TurnStatus::Failed, Some(*turn_id));
            Some((messages, Settled { error: Some(Arc::clone(error)), ..settled }))
        }
        EventBody::MessageCancelled { messages, .. } => {
            Some((messages, plain(TurnStatus::Cancelled, None)))
        }
        EventBody::GuardRefused { message, by_default, .. } => {
            let why = if *by_default { "gave no answer" } else { "refused it" };
            let error = Some(format!("it was not passed on: the check of messages {why}").into());
            let settled = Settled { error, ..plain(TurnStatus::Failed, None) };
            Some((std::slice::from_ref(message), settled))
        }
        EventBody::MessageContext { of, .. } => {
            let message = of.as_ref().unwrap_or(&event.seq);
            Some((std::slice::from_ref(message), plain(TurnStatus::Complete, None)))
        }
        EventBody::SessionNotice { source: NoticeSource::Command, of: Some(of), text, .. } => {
            let settled = plain(TurnStatus::Complete, None);
            let reply = Some(Arc::clone(text));
            Some((std::slice::from_ref(of), Settled { reply, ..settled }))
        }
        EventBody::MessageExpired { messages } => {
            let error = Some("it waited too long in the queue".into());
            Some((messages, Settled { error, ..plain(TurnStatus::Failed, None) }))
        }
        _ => None,
    }
}

/// What an entry says that its turn asks.
pub(crate) fn question(event: &Event) -> Option<(TurnId, Asked)> {
    match &event.body {
        EventBody::TurnWaitingForInput { turn_id, question_id, text, .. } => {
            Some((*turn_id, Asked { id: *question_id, text: Arc::clone(text) }))
        }
        _ => None,
    }
}

/// Reads the journal behind a message for a question that its turn asked.
pub(crate) async fn find_asked(
    store: &dyn Store,
    key: &SessionKey,
    seq: Seq,
    id: QuestionId,
) -> Result<Option<Settled>, StoreError> {
    let asked = |event: &Event| question(event).filter(|(_, asked)| asked.id == id);
    let mut after = seq;
    loop {
        let events = store.events(key, after, PAGE).await?;
        let Some(last) = events.last() else { return Ok(None) };
        after = last.seq;
        if let Some((turn, asked)) = events.iter().find_map(asked) {
            return Ok(Some(Settled::asking(turn, asked)));
        }
    }
}

/// Reads the journal behind a message for its ending; none while it is open.
pub(crate) async fn find_settled(
    store: &dyn Store,
    key: &SessionKey,
    seq: Seq,
) -> Result<Option<Settled>, StoreError> {
    // Context says itself how it ended.
    let mut after = Seq(seq.0.saturating_sub(1));
    loop {
        let events = store.events(key, after, PAGE).await?;
        let Some(last) = events.last() else { return Ok(None) };
        after = last.seq;
        for event in &events {
            if let Some((messages, settled)) = ending(event)
                && messages.contains(&seq)
            {
                return Ok(Some(settled));
            }
        }
    }
}
