//! What is asked of entries, whatever they tell.

use std::sync::Arc;

use super::{EventBody, NoticeSource};
use crate::ids::Seq;
use crate::message::MessageBody;

impl EventBody {
    /// A notice of the gateway's own.
    #[must_use]
    pub const fn notice(text: Arc<str>) -> Self {
        let source = NoticeSource::Gateway;
        Self::SessionNotice { text, source, message_id: None, of: None, by: None }
    }

    /// What a snapshot leaves to the journal: the body of an accepted message or of a notice.
    #[must_use]
    pub fn accepted_body(&self) -> Option<Arc<MessageBody>> {
        let (message_id, sender, text) = match self {
            Self::MessageAccepted { message_id, sender, text, .. } => (message_id, sender, text),
            Self::SessionNoticeAccepted { message_id, text, .. } => {
                (message_id, &Arc::default(), text)
            }
            _ => return None,
        };
        let [message_id, sender, text] = [message_id, sender, text].map(Arc::clone);
        Some(Arc::new(MessageBody { message_id, sender, text }))
    }

    /// The answer to the command at this place.
    #[must_use]
    pub const fn answer(text: Arc<str>, command: Seq) -> Self {
        let (source, of) = (NoticeSource::Command, Some(command));
        Self::SessionNotice { text, source, message_id: None, of, by: None }
    }

    /// The channel's own id of it, where it is what a person wrote.
    #[must_use]
    pub const fn written_id(&self) -> Option<&Arc<str>> {
        match self {
            Self::MessageAccepted { message_id, .. }
            | Self::MessageCommand { message_id, .. }
            | Self::MessageContext { message_id, .. } => Some(message_id),
            _ => None,
        }
    }

    /// After so many seconds it shall be nowhere any more, where it is what a person wrote.
    #[must_use]
    pub const fn disappears_s(&self) -> Option<u32> {
        match self {
            Self::MessageAccepted { disappears_s, .. }
            | Self::MessageCommand { disappears_s, .. }
            | Self::MessageContext { disappears_s, .. } => *disappears_s,
            _ => None,
        }
    }

    /// Who wrote it, where it is what a person wrote.
    #[must_use]
    pub const fn sender(&self) -> Option<&Arc<str>> {
        match self {
            Self::MessageAccepted { sender, .. }
            | Self::MessageCommand { sender, .. }
            | Self::MessageContext { sender, .. } => Some(sender),
            Self::HistoryImported(line) => line.sender.as_ref(),
            _ => None,
        }
    }
}
