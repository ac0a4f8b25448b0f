//! What an entry of a journal says, as a line of an imported conversation.

use std::sync::Arc;

use crate::ids::Timestamp;
use crate::journal::{EventBody, Heard, ImportedLine, ImportedRole, NoticeSource};

/// None if nothing was said, or the text of it was erased.
pub(super) fn line_of(at: Timestamp, body: EventBody) -> Option<ImportedLine> {
    let said = |role, text: Arc<str>| ImportedLine {
        role,
        text,
        said_at: at,
        heard: Heard::Said,
        sender: None,
        by: None,
    };
    let user = |sender, text, heard| ImportedLine {
        sender: Some(sender),
        heard,
        ..said(ImportedRole::User, text)
    };
    let line = match body {
        // Nobody let it go yet.
        EventBody::MessageAccepted { sender, text, held: true, .. } => {
            user(sender, text, Heard::Never)
        }
        EventBody::MessageAccepted { sender, text, .. } => user(sender, text, Heard::Said),
        EventBody::MessageCommand { sender, text, .. } => user(sender, text, Heard::Never),
        EventBody::MessageContext { sender, text, of: None, .. } => {
            user(sender, text, Heard::Aside)
        }
        EventBody::TurnCompleted { reply: Some(text), by: by @ Some(_), .. } => {
            ImportedLine { by, ..said(ImportedRole::Operator, text) }
        }
        EventBody::TurnCompleted { reply: Some(text), .. }
        | EventBody::TurnCancelled { reply: Some(text), .. }
        | EventBody::TurnWaitingForInput { text, .. } => said(ImportedRole::Agent, text),
        EventBody::SessionNotice { text, source: NoticeSource::Operator, by, .. } => {
            ImportedLine { by, ..said(ImportedRole::Operator, text) }
        }
        EventBody::SessionNotice {
            text,
            source: NoticeSource::Unasked | NoticeSource::Scheduled,
            ..
        } => said(ImportedRole::Notice, text),
        EventBody::SessionNotice {
            text,
            source: NoticeSource::Gateway | NoticeSource::Command,
            ..
        } => ImportedLine { heard: Heard::Never, ..said(ImportedRole::Notice, text) },
        EventBody::HistoryImported(line) => *line,
        _ => return None,
    };
    (!line.text.is_empty()).then_some(line)
}
