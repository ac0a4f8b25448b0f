//! The tables, and the steps that lead from any older database to them.
//!
//! What keeps the write path light: a commit changes one row of `sessions` and appends one row (a
//! very large one several) to
//! `journal`; a turn's row stands at the right edge of `turns`, because its id grows with time.
//! No table has an index that a commit must change at a random place:
//!
//! - a session's journal rows form a chain (`prev`), its head is in the session's row, and only a
//!   row that holds a multiple of [`JOURNAL_STRIDE`] is in `journal_index`; a reader seeks there
//!   and walks at most that many rows back;
//! - a session's turns form a chain in the same way;
//! - the texts of replies are not repeated in `turns`: the row names their journal place.
//!
//! `seen` is the one random-access table, written only for messages that carry an id.

use rusqlite::Connection;

/// Marks the file as ours ("Turn" in ASCII).
pub(super) const APPLICATION_ID: i32 = 0x5475_726e;

/// Every how many journal places a row is indexed; stored data depends on it.
pub(super) const JOURNAL_STRIDE: u64 = 32;

/// One step a version; `user_version` counts the steps taken. Never change a released one.
const MIGRATIONS: [&str; 12] = [
    include_str!("migrations/0001_sessions.sql"),
    include_str!("migrations/0002_keys.sql"),
    include_str!("migrations/0003_guard.sql"),
    include_str!("migrations/0004_idempotency.sql"),
    include_str!("migrations/0005_listeners.sql"),
    include_str!("migrations/0006_care.sql"),
    include_str!("migrations/0007_usage.sql"),
    include_str!("migrations/0008_people.sql"),
    include_str!("migrations/0009_schedule.sql"),
    include_str!("migrations/0010_switchboard.sql"),
    include_str!("migrations/0011_disappearing.sql"),
    include_str!("migrations/0012_parked.sql"),
];

/// The version that this program writes.
pub(super) const VERSION: usize = MIGRATIONS.len();

/// Takes the steps that are still missing, each in a transaction of its own.
pub(super) fn migrate(connection: &Connection, found: usize) -> rusqlite::Result<()> {
    for (index, step) in MIGRATIONS.iter().enumerate().skip(found) {
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE;
             {step}
             PRAGMA application_id = {APPLICATION_ID};
             PRAGMA user_version = {};
             COMMIT;",
            index + 1
        ))?;
    }
    Ok(())
}

/// Whether a journal row is one of those that `journal_index` names.
pub(super) const fn is_indexed(first_seq: u64, last_seq: u64) -> bool {
    last_seq / JOURNAL_STRIDE != (first_seq - 1) / JOURNAL_STRIDE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stride_of_places_has_an_indexed_row() {
        let check = |first: u64, last: u64, expect: bool| {
            assert_eq!(is_indexed(first, last), expect, "{first}..={last}");
        };
        check(1, 31, false);
        check(1, 32, true);
        check(31, 33, true);
        check(32, 32, true);
        check(33, 63, false);
        check(64, 64, true);
        check(1, 100, true);
    }
}
