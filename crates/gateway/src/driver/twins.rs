//! Inputs of which only one can be taken, and what the other one is told.

use turnkeep_core::message::{Action, Decision};
use turnkeep_core::ports::store::FirstDecision;
use turnkeep_core::session::{Control, Controlled, Input};

/// Whether its commit may be refused because of something outside the session's state.
pub(super) const fn is_guarded(input: &Input) -> bool {
    match input {
        Input::Message(message) => message.is_named(),
        Input::Control(
            _,
            Control::Retry { .. } | Control::Discard { .. } | Control::Resend { .. },
        ) => true,
        Input::Control(_, Control::Notify { seen, .. } | Control::OperatorReply { seen, .. }) => {
            seen.is_some()
        }
        _ => false,
    }
}

/// Whether only one of the two can be taken.
pub(super) fn are_twins(one: &Input, other: &Input) -> bool {
    let letter = |input: &Input| match input {
        Input::Control(_, Control::Retry { seq, .. } | Control::Discard { seq }) => Some(*seq),
        _ => None,
    };
    match (one, other) {
        (Input::Message(one), Input::Message(other)) => {
            one.names().any(|one| other.names().any(|other| one.key == other.key))
        }
        (
            Input::Control(_, Control::Notify { seen: Some(one), .. }),
            Input::Control(_, Control::Notify { seen: Some(other), .. }),
        ) => one.key == other.key,
        (
            Input::Control(_, Control::OperatorReply { seen: Some(one), .. }),
            Input::Control(_, Control::OperatorReply { seen: Some(other), .. }),
        ) => one.key == other.key,
        (one, other) => letter(one).is_some() && letter(one) == letter(other),
    }
}

/// What somebody who steers is told, whose deed was refused because it was done already.
pub(super) fn already_done(control: &Control, first: Option<(FirstDecision, bool)>) -> Controlled {
    match (control, first) {
        (Control::Notify { .. }, Some((first, true))) => Controlled::Noticed {
            seq: first.seq,
            waits: first.action == Action::Queued,
            duplicate: true,
        },
        (Control::OperatorReply { .. }, Some((first, true))) => {
            Controlled::Replied { seq: first.seq, turn: first.turn, duplicate: true }
        }
        (Control::Notify { .. } | Control::OperatorReply { .. }, Some((_, false))) => {
            Controlled::NoticeReused
        }
        _ => Controlled::Gone,
    }
}

/// What a twin is told: the first decision again, marked.
#[must_use]
pub fn duplicate_of(first: &FirstDecision) -> Decision {
    Decision {
        action: first.action,
        turn: first.turn,
        queue_position: first.queue_position,
        seq: Some(first.seq),
        rejection: None,
        duplicate: first.action != Action::Rejected,
    }
}
