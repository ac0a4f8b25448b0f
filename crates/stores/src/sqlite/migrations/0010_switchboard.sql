-- The switchboard: a number for each session of a tenant, perhaps a name, and how far it was read.
-- What a session is doing stands in its own row.
CREATE TABLE switchboard_sessions (
    session_key TEXT NOT NULL PRIMARY KEY,
    tenant TEXT NOT NULL,
    number INTEGER NOT NULL,
    name TEXT,
    created_at INTEGER NOT NULL,
    touched_at INTEGER NOT NULL,
    read_seq INTEGER NOT NULL,
    UNIQUE (tenant, number),
    UNIQUE (tenant, name)
) STRICT, WITHOUT ROWID;
-- Places from which somebody watches: what they look at, and what they looked at before, as a JSON
-- array of session keys, the latest last.
CREATE TABLE switchboard_seats (
    tenant TEXT NOT NULL,
    seat TEXT NOT NULL,
    active_key TEXT,
    history TEXT NOT NULL,
    touched_at INTEGER NOT NULL,
    PRIMARY KEY (tenant, seat)
) STRICT, WITHOUT ROWID;
-- The highest number that a tenant's sessions were given; none is given twice.
CREATE TABLE switchboard_counters (
    tenant TEXT NOT NULL PRIMARY KEY,
    last_number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
