-- Messages that disappear, from their acceptance on until nothing of them is left.
CREATE TABLE disappearing (
    session_id INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    seconds INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    PRIMARY KEY (session_id, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX disappearing_due ON disappearing (due_at);
