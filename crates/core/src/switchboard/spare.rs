//! Which sessions may leave a board that is full, and in which order.

use super::{Row, WaitingKind};
use crate::session::SessionStatus;

/// How late a session makes room for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Spare {
    /// Nobody would miss it.
    Read,
    /// Nobody has read what was said.
    Unread,
    /// Something went wrong in it, which nobody has looked at.
    Troubled,
}

impl Spare {
    pub(super) const ALL: [Self; 3] = [Self::Read, Self::Unread, Self::Troubled];

    /// None where something goes on, somebody is waited for, or somebody would miss it.
    pub(super) fn of(row: &Row) -> Option<Self> {
        let quiet = matches!(
            row.state,
            SessionStatus::Idle | SessionStatus::Hibernated | SessionStatus::Failed
        );
        if !quiet || row.queued > 0 || row.name.is_some() || !row.active.is_empty() {
            return None;
        }
        match &row.waiting {
            None if row.unread == 0 => Some(Self::Read),
            None => Some(Self::Unread),
            Some(waiting) if waiting.kind == WaitingKind::Error => Some(Self::Troubled),
            Some(_) => None,
        }
    }
}
