//! How a message ended: told by the session's task, or found in the journal.

use std::sync::Arc;

use turnkeep_core::SessionKey;
use turnkeep_core::ids::{Seq, TurnId};
use turnkeep_core::journal::{Event, EventBody};
use turnkeep_core::ports::store::{Store, StoreError, TurnStatus};

/// The ending of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// [`TurnStatus::Complete`], [`TurnStatus::Failed`] or [`TurnStatus::Cancelled`].
    pub status: TurnStatus,
    /// The turn that ended it; none if it was given up in the queue.
    pub turn: Option<TurnId>,
    /// The reply; none where the agent chose silence.
    pub reply: Option<Arc<str>>,
    /// What went wrong.
    pub error: Option<Arc<str>>,
}

/// Journal entries that are read at once.
const PAGE: usize = 256;

/// What an entry says of the ending of the messages it names.
pub(crate) fn ending(event: &Event) -> Option<(&[Seq], Settled)> {
    let plain = |status, turn| Settled { status, turn, reply: None, error: None };
    match &event.body {
        EventBody::TurnCompleted { turn_id, messages, reply, .. } => {
            let settled = plain(TurnStatus::Complete, Some(*turn_id));
            Some((messages, Settled { reply: reply.clone(), ..settled }))
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
        EventBody::GuardRefused { message, .. } => {
            let error = Some("it was not passed on: the check of messages refused it".into());
            let settled = Settled { error, ..plain(TurnStatus::Failed, None) };
            Some((std::slice::from_ref(message), settled))
        }
        EventBody::MessageExpired { messages } => {
            let error = Some("it waited too long in the queue".into());
            Some((messages, Settled { error, ..plain(TurnStatus::Failed, None) }))
        }
        _ => None,
    }
}

/// Reads the journal behind a message for its ending; none while it is open.
pub(crate) async fn find_settled(
    store: &dyn Store,
    key: &SessionKey,
    seq: Seq,
) -> Result<Option<Settled>, StoreError> {
    let mut after = seq;
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
