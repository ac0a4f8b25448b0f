//! What can go wrong between us and the engine, in classes that say what to do.

use std::time::Duration;

use tonic::{Code, Status};

/// How much of what the engine says is told on.
const SAID_CHARS_MAX: usize = 300;
/// What the engine and we take in one message.
pub(crate) const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Why the engine did not do what it was asked for, or is not known to have done it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HatchetError {
    /// The settings can't be used.
    #[error("{0}")]
    Settings(String),
    /// The engine does not take the token. Another try brings the same.
    #[error(
        "Hatchet refuses the token ({0}): it is wrong, was taken back, has ended, or is another \
         engine's"
    )]
    WrongToken(String),
    /// Nobody is there, or the way is broken.
    #[error("Hatchet is out of reach: {0}")]
    Unreachable(String),
    /// No answer came in time; what was asked for may be done.
    #[error("Hatchet did not answer within {0:?}")]
    Late(Duration),
    /// Too many calls in too short a time.
    #[error("Hatchet takes no more calls for now: {0}")]
    RateLimited(String),
    /// Nothing was sent, or it was sent and not taken.
    #[error("{what} has {bytes} bytes, and Hatchet takes at most {max}")]
    TooLarge {
        /// What is.
        what: &'static str,
        /// How large it is.
        bytes: usize,
        /// How large it may be.
        max: usize,
    },
    /// It will not do that, now and later.
    #[error("Hatchet refuses: {0}")]
    Refused(String),
    /// The workflow has to be put first.
    #[error("Hatchet has no workflow {0}: it has to be registered first")]
    UnknownWorkflow(String),
    /// It has forgotten the worker, which has to register again.
    #[error("Hatchet does not know this worker (any more)")]
    UnknownWorker,
    /// The worker's stream is gone on the engine's side.
    #[error("Hatchet says that this worker does not listen")]
    NotListening,
    /// The engine is older than what is spoken here.
    #[error("Hatchet does not know the call {0}: its version is not one that works here")]
    Unsupported(&'static str),
    /// An answer that makes no sense.
    #[error("what Hatchet said can't be read: {0}")]
    Unreadable(String),
    /// The engine has trouble of its own; what was asked for may be done.
    #[error("Hatchet failed: {0}")]
    Failed(String),
}

impl HatchetError {
    /// The class, for metrics and details.
    #[must_use]
    pub const fn class(&self) -> &'static str {
        match self {
            Self::Settings(_) => "settings",
            Self::WrongToken(_) => "wrong_token",
            Self::Unreachable(_) => "unreachable",
            Self::Late(_) => "late",
            Self::RateLimited(_) => "rate_limited",
            Self::TooLarge { .. } => "too_large",
            Self::Refused(_) => "refused",
            Self::UnknownWorkflow(_) => "unknown_workflow",
            Self::UnknownWorker => "unknown_worker",
            Self::NotListening => "not_listening",
            Self::Unsupported(_) => "unsupported",
            Self::Unreadable(_) => "unreadable",
            Self::Failed(_) => "failed",
        }
    }

    /// The same may go well a little later.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_) | Self::Late(_) | Self::RateLimited(_) | Self::Failed(_)
        )
    }

    /// What was asked for may be done all the same.
    #[must_use]
    pub const fn may_be_done(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Late(_) | Self::Failed(_) | Self::Unreadable(_))
    }

    /// The engine answered, if only to refuse.
    pub(crate) const fn is_answer(&self) -> bool {
        !matches!(
            self,
            Self::Settings(_) | Self::WrongToken(_) | Self::Unreachable(_) | Self::Late(_)
        )
    }

    /// What a call's status means. `bytes` is how much was sent.
    pub(crate) fn from_status(status: &Status, call: &'static str, bytes: usize) -> Self {
        let said = said(status);
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => Self::WrongToken(said),
            Code::Unavailable | Code::Cancelled | Code::Aborted | Code::DeadlineExceeded => {
                Self::Unreachable(said)
            }
            Code::ResourceExhausted if said.contains("larger than max") => {
                Self::TooLarge { what: "what was sent", bytes, max: MESSAGE_BYTES_MAX }
            }
            Code::ResourceExhausted => Self::RateLimited(said),
            Code::NotFound if said.contains("worker") => Self::UnknownWorker,
            Code::FailedPrecondition if said.contains("stream is not active") => Self::NotListening,
            Code::Unimplemented => Self::Unsupported(call),
            Code::OutOfRange | Code::DataLoss => Self::Unreadable(said),
            // The decoder's own.
            Code::Internal if said.contains("decod") => Self::Unreadable(said),
            // What is behind it is known where it broke on this side.
            Code::Unknown | Code::Internal if std::error::Error::source(status).is_some() => {
                Self::Unreachable(said)
            }
            Code::Unknown | Code::Internal => Self::Failed(said),
            _ => Self::Refused(said),
        }
    }
}

/// What a status says, short and on one line; with what is behind it where that is ours.
fn said(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut behind = std::error::Error::source(status);
    while let Some(cause) = behind {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        behind = cause.source();
    }
    if text.is_empty() {
        text = format!("{:?}", status.code());
    }
    clipped(&text, SAID_CHARS_MAX)
}

/// At most so many characters of a text, without what controls a terminal.
pub(crate) fn clipped(text: &str, chars_max: usize) -> String {
    let plain = text.chars().map(|one| if one.is_control() { ' ' } else { one });
    let mut clipped: String = plain.take(chars_max).collect();
    if text.chars().nth(chars_max).is_some() {
        clipped.push('…');
    }
    clipped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_follow_from_what_the_engine_says() {
        let said = [
            (Code::Unauthenticated, "invalid auth token", "wrong_token"),
            (Code::Unavailable, "tcp connect error", "unreachable"),
            (Code::ResourceExhausted, "grpc: received message larger than max", "too_large"),
            (Code::ResourceExhausted, "rejected, rate limit", "rate_limited"),
            (Code::NotFound, "worker not found: 1", "unknown_worker"),
            (Code::FailedPrecondition, "worker stream is not active: 1", "not_listening"),
            (Code::Unimplemented, "unknown method", "unsupported"),
            (Code::InvalidArgument, "input must be an object", "refused"),
            (Code::Internal, "failed to decode Protobuf message", "unreadable"),
            (Code::Internal, "could not write", "failed"),
            (Code::Unknown, "no rows in result set", "failed"),
        ];
        for (code, text, class) in said {
            let error = HatchetError::from_status(&Status::new(code, text), "Call", 9);
            assert_eq!(error.class(), class, "{error}");
        }
    }

    #[test]
    fn a_long_answer_is_told_in_short() {
        let long = format!("a\u{1b}[31m\n{}", "b".repeat(10_000));
        let error = HatchetError::from_status(&Status::invalid_argument(long), "Call", 9);
        let told = error.to_string();
        assert!(told.chars().count() < 400 && !told.contains(['\u{1b}', '\n']), "{told}");
    }
}
