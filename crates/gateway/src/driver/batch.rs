//! The inputs that share one commit.

use smallvec::SmallVec;
use turnkeep_core::ids::Token;
use turnkeep_core::session::{AgentInput, Input};

/// Inputs that share one commit, at most.
pub const BATCH_MAX: usize = 64;

/// Nearly every commit is made of one input.
pub(super) type Inputs = SmallVec<[Input; 1]>;

/// Which input of a batch, small enough to be kept by the dozen.
pub(super) fn place_of(index: usize) -> u8 {
    const { assert!(BATCH_MAX <= u8::MAX as usize) }
    u8::try_from(index).unwrap_or(u8::MAX)
}

/// Who waits for the answer to an input, if anybody does.
pub(super) fn token_of(input: &Input) -> Option<Token> {
    match input {
        Input::Message(message) => Some(message.token),
        Input::Control(token, _)
        | Input::Agent(
            _,
            AgentInput::TakeMail(token)
            | AgentInput::CommitPoint(token)
            | AgentInput::Ask(token, _)
            | AgentInput::Confirm(token, _)
            | AgentInput::AskAgain(token, _)
            | AgentInput::Intend(token, _)
            | AgentInput::Returned(token, ..)
            | AgentInput::Keep(token, _)
            | AgentInput::LookUp(token, ..)
            | AgentInput::Recall(token, ..)
            | AgentInput::Emit(token, ..),
        ) => Some(*token),
        // Named one by one: whoever waits and is missing above would wait for ever.
        Input::Agent(
            _,
            AgentInput::Answer(..)
            | AgentInput::Used(_)
            | AgentInput::Degraded
            | AgentInput::Finished(_)
            | AgentInput::Failed(_),
        )
        | Input::Adopt { .. }
        | Input::Ruling { .. }
        | Input::UserTyping
        | Input::Timer(_)
        | Input::QuarantineGranted(_)
        | Input::Delivered { .. }
        | Input::Release => None,
    }
}
