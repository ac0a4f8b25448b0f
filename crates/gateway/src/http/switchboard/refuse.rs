//! Why the switchboard refuses something, as a problem.

use turnkeep_core::switchboard::CANDIDATES_MAX;

use crate::http::problem::{Candidate, Kind, Problem};
use crate::switchboard::BoardError;

/// What is said of a session that is not there, or not for the asker.
pub(super) fn missing(which: &str) -> Problem {
    Problem::new(Kind::NotFound, format!("there is no session {which:?} on the switchboard"))
}

/// What is wrong with what was asked of `which`.
pub(super) fn refused(which: &str, error: BoardError) -> Problem {
    match error {
        BoardError::Unknown => missing(which),
        BoardError::Ambiguous(rows) => {
            let candidates = rows.iter().take(CANDIDATES_MAX).map(|row| Candidate {
                number: row.number,
                id: row.id.to_string(),
                name: row.name.as_deref().map(str::to_owned),
                session: row.key.as_str().to_owned(),
            });
            let candidates: Vec<Candidate> = candidates.collect();
            let of = candidates.iter().map(|one| one.number.to_string()).collect::<Vec<_>>();
            let detail = format!("{which:?} may be any of the sessions {}", of.join(", "));
            Problem::new(Kind::Ambiguous, detail).with_candidates(candidates)
        }
        BoardError::NameTaken(number) => {
            Problem::new(Kind::NameTaken, format!("session {number} has this name already"))
                .of_field("name")
        }
        BoardError::Name(error) => Problem::field("name", error.to_string()),
        BoardError::Seat(error) => Problem::field("seat", error.to_string()),
        BoardError::Full => Problem::new(
            Kind::Full,
            "the switchboard is full, and none of its sessions can leave it; close one",
        ),
        BoardError::Refused(refusal) => refusal.into(),
        BoardError::Unavailable(why) => Problem::new(Kind::Unavailable, why),
    }
}
