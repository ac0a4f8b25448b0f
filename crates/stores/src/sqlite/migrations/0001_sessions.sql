CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
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
CREATE INDEX seen_until ON seen (until);
