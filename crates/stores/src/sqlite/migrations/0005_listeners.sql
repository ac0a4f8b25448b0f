-- A listener's place is the last row of the journal that it is done with.
CREATE TABLE listeners (
    name TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    configured_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- Only callbacks that failed; they name their event, and hold nothing of it.
CREATE TABLE callbacks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    listener TEXT NOT NULL,
    position INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    event_type TEXT NOT NULL,
    at INTEGER NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'dead')),
    tries INTEGER NOT NULL,
    due_at INTEGER,
    error TEXT NOT NULL,
    UNIQUE (listener, position, seq)
) STRICT;
CREATE INDEX callbacks_pending ON callbacks (listener, due_at) WHERE state = 'pending';
CREATE INDEX callbacks_dead ON callbacks (listener, id) WHERE state = 'dead';
