//! What a session may become, as one table.
//!
//! What a board is told are states as they were committed, and several inputs may share a commit: so
//! a state may pass through others that nobody saw. What is left is what no commit can do.

use crate::session::SessionStatus;

/// Every state there is, in the order in which they are counted.
pub const STATES: [SessionStatus; 8] = [
    SessionStatus::Idle,
    SessionStatus::Accumulating,
    SessionStatus::Processing,
    SessionStatus::WaitingForInput,
    SessionStatus::WaitingForOperator,
    SessionStatus::Hibernated,
    SessionStatus::Closed,
    SessionStatus::Failed,
];

/// The word for a state, as it stands in JSON.
#[must_use]
pub const fn word(state: SessionStatus) -> &'static str {
    match state {
        SessionStatus::Idle => "idle",
        SessionStatus::Accumulating => "accumulating",
        SessionStatus::Processing => "processing",
        SessionStatus::WaitingForInput => "waiting_for_input",
        SessionStatus::WaitingForOperator => "waiting_for_operator",
        SessionStatus::Hibernated => "hibernated",
        SessionStatus::Closed => "closed",
        SessionStatus::Failed => "failed",
    }
}

/// Its place in [`STATES`].
pub(super) const fn place(state: SessionStatus) -> usize {
    match state {
        SessionStatus::Idle => 0,
        SessionStatus::Accumulating => 1,
        SessionStatus::Processing => 2,
        SessionStatus::WaitingForInput => 3,
        SessionStatus::WaitingForOperator => 4,
        SessionStatus::Hibernated => 5,
        SessionStatus::Closed => 6,
        SessionStatus::Failed => 7,
    }
}

/// Whether a session in the one state may be seen in the other next. Staying is always allowed.
///
/// A question and a failure need an attempt that was begun by an earlier commit; and only what is
/// idle goes to sleep.
#[must_use]
pub const fn may_become(from: SessionStatus, to: SessionStatus) -> bool {
    use SessionStatus as S;
    if place(from) == place(to) {
        return true;
    }
    match from {
        S::Idle => !matches!(to, S::WaitingForInput | S::Failed),
        S::Hibernated | S::Closed | S::Failed => {
            let begins = matches!(to, S::Accumulating | S::Processing | S::WaitingForOperator);
            begins || matches!(to, S::Idle | S::Closed)
        }
        // Its window may end and its attempt fail while nobody looks, but not in one commit.
        S::Accumulating => !matches!(to, S::WaitingForInput | S::Hibernated | S::Failed),
        S::Processing | S::WaitingForInput | S::WaitingForOperator => !matches!(to, S::Hibernated),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_says_what_may_follow_what() {
        // One line a state, in the order of STATES; one letter a state that may follow.
        let expect = [
            ("idle", "IAP.OHC."),
            ("accumulating", "IAP.O.C."),
            ("processing", "IAPWO.CF"),
            ("waiting_for_input", "IAPWO.CF"),
            ("waiting_for_operator", "IAPWO.CF"),
            ("hibernated", "IAP.OHC."),
            ("closed", "IAP.O.C."),
            ("failed", "IAP.O.CF"),
        ];
        let letters = "IAPWOHCF";
        let table = STATES.map(|from| {
            let row = STATES.iter().zip(letters.chars());
            let row = row.map(|(to, letter)| if may_become(from, *to) { letter } else { '.' });
            (word(from), row.collect::<String>())
        });
        assert_eq!(table, expect.map(|(word, row)| (word, row.to_owned())));
    }

    #[test]
    fn the_words_are_those_of_the_contract() {
        for (at, state) in STATES.into_iter().enumerate() {
            assert_eq!(serde_json::to_value(state).unwrap(), word(state));
            assert_eq!(place(state), at);
        }
    }
}
