-- What stands for the beginning of a history that is gone: one row a session at most.
CREATE TABLE forgotten (
    session_id INTEGER PRIMARY KEY,
    through_seq INTEGER NOT NULL,
    through_turn BLOB,
    body BLOB NOT NULL,
    -- The newest rows that nobody reads any more and that still stand there; 0 and NULL for none.
    journal_rest INTEGER NOT NULL,
    turn_rest BLOB,
    unswept INTEGER NOT NULL
) STRICT;
CREATE INDEX forgotten_unswept ON forgotten (session_id) WHERE unswept = 1;
CREATE TABLE care (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO care VALUES ('salt', randomblob(32));
-- The greatest number that a removed row of the journal had: numbers are never given out again.
INSERT INTO meta VALUES ('journal', 0);
