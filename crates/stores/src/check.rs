//! What every store refuses to write.

use std::collections::BTreeSet;

use turnkeep_core::message::Seen;
use turnkeep_core::ports::store::{FirstDecision, Guard, StoreError};
use turnkeep_core::ports::switchboard::{BoardChange, KeptSeat};
use turnkeep_core::usage::Day;
use turnkeep_core::{Event, Seq, Session, SessionKey};

/// What a callback says that became dead because too many of its listener wait.
pub(crate) const TOO_MANY_WAIT: &str = "too many callbacks of this listener waited";

/// Models of one session and day whose sums are kept apart; a brain may name what it likes.
pub(crate) const MODELS_MAX: i64 = 20;
/// Stands for all models beyond these.
pub(crate) const OTHER_MODELS: &str = "other";
/// The day that stands for all days that were put together.
pub(crate) const TOGETHER: Day = Day(0);

/// Whether `events` go on where the journal ends; a gap would be found by nobody but the audit.
pub(crate) fn gapless(key: &SessionKey, last: Seq, events: &[Event]) -> Result<(), StoreError> {
    let mut expected = last;
    for event in events {
        expected = expected.next();
        if event.seq != expected {
            return Err(gap(key, expected, event.seq));
        }
    }
    Ok(())
}

/// The refusal of a commit whose events leave a gap.
pub(crate) fn gap(key: &SessionKey, expected: Seq, found: Seq) -> StoreError {
    StoreError::Corrupt(format!(
        "the journal of session {key} goes on with {expected}, but a commit brought {found}"
    ))
}

/// What is left of the state of an erased session.
pub(crate) fn buried(known: &Session) -> Session {
    Session {
        epoch: known.epoch,
        generation: known.generation,
        last_seq: known.last_seq,
        closed: true,
        spent: known.spent.as_ref().map(|spent| Box::new(spent.buried())),
        history_from: known.last_seq,
        updated_at: known.updated_at,
        ..Session::new()
    }
}

/// The same message among the earlier ones of the same commit.
pub(crate) fn twin_in(earlier: &[Guard], seen: &Seen) -> Option<(FirstDecision, u64)> {
    earlier.iter().find_map(|guard| match guard {
        Guard::NotSeen { seen: other, first, .. } if other.key == seen.key => {
            Some((first.clone(), other.body_hash))
        }
        _ => None,
    })
}

/// Whether a change of a board names sessions of its own tenant only.
pub(crate) fn own_rows(change: &BoardChange) -> Result<(), StoreError> {
    let mut keys = change.rows.iter().map(|row| &row.key);
    match keys.find(|key| key.tenant() != *change.tenant) {
        None => Ok(()),
        Some(key) => Err(StoreError::Corrupt(format!(
            "session {key} is to stand on the board of tenant {:?}",
            change.tenant
        ))),
    }
}

/// Two rows of one change with one key, number or name; the later one.
pub(crate) fn twin_row(change: &BoardChange) -> Option<SessionKey> {
    let (mut keys, mut numbers, mut names) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let twin = change.rows.iter().find(|row| {
        let named_twice = row.name.as_ref().is_some_and(|name| !names.insert(name));
        !keys.insert(&row.key) || !numbers.insert(row.number) || named_twice
    });
    twin.map(|row| row.key.clone())
}

/// Takes sessions that leave out of a seat; says whether it named one.
pub(crate) fn leave_seat(seat: &mut KeptSeat, gone: &[SessionKey]) -> bool {
    let before = seat.history.len();
    seat.history.retain(|key| !gone.contains(key));
    let watched = seat.active.take_if(|key| gone.contains(key)).is_some();
    watched || seat.history.len() < before
}

/// The highest number that a change knows of.
pub(crate) fn highest_number(change: &BoardChange) -> u32 {
    let numbers = change.rows.iter().map(|row| row.number);
    numbers.fold(change.last_number, u32::max)
}
