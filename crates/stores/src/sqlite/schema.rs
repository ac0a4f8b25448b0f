//! The tables, and the steps that lead from any older database to them.
//!
//! What keeps the write path light: a commit changes one row of `sessions` and appends one row to
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
const MIGRATIONS: [&str; 1] =
    ["CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
     INSERT INTO meta VALUES ('epoch', 0), ('probe', 0);
     CREATE TABLE sessions (
         id INTEGER PRIMARY KEY,
         key TEXT NOT NULL UNIQUE,
         version INTEGER NOT NULL,
         last_seq INTEGER NOT NULL,
         journal_head INTEGER NOT NULL,
         turn_head BLOB,
         wake_at INTEGER,
         snapshot BLOB NOT NULL
     ) STRICT;
     CREATE INDEX sessions_open ON sessions (wake_at) WHERE wake_at IS NOT NULL;
     CREATE TABLE journal (
         id INTEGER PRIMARY KEY,
         session_id INTEGER NOT NULL,
         first_seq INTEGER NOT NULL,
         last_seq INTEGER NOT NULL,
         prev INTEGER NOT NULL,
         events BLOB NOT NULL
     ) STRICT;
     CREATE TABLE journal_index (
         session_id INTEGER NOT NULL,
         last_seq INTEGER NOT NULL,
         journal_id INTEGER NOT NULL,
         PRIMARY KEY (session_id, last_seq)
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE turns (
         id BLOB PRIMARY KEY,
         session_id INTEGER NOT NULL,
         prev BLOB,
         body BLOB NOT NULL
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE parts (
         session_id INTEGER NOT NULL,
         reply INTEGER NOT NULL,
         part INTEGER NOT NULL,
         body BLOB NOT NULL,
         text TEXT NOT NULL,
         PRIMARY KEY (session_id, reply, part)
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE dead_letters (
         id INTEGER PRIMARY KEY AUTOINCREMENT,
         session_id INTEGER NOT NULL,
         seq INTEGER NOT NULL,
         body BLOB NOT NULL
     ) STRICT;
     CREATE INDEX dead_letters_of_session ON dead_letters (session_id, seq);
     CREATE TABLE seen (
         key BLOB PRIMARY KEY,
         body_hash INTEGER NOT NULL,
         until INTEGER NOT NULL,
         session_id INTEGER NOT NULL,
         session TEXT,
         seq INTEGER NOT NULL,
         action INTEGER NOT NULL,
         turn BLOB,
         queue_position INTEGER
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX seen_until ON seen (until);"];

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
