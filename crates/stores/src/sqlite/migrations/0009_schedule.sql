-- Jobs and reminders: what is asked for, as JSON; how far each is; and whether somebody lets it rest.
CREATE TABLE jobs (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    spec TEXT NOT NULL,
    made_at INTEGER NOT NULL,
    handled INTEGER NOT NULL,
    held INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) STRICT, WITHOUT ROWID;
-- One time of one job. What has no end is still to be done.
CREATE TABLE ticks (
    tenant TEXT NOT NULL,
    job TEXT NOT NULL,
    at INTEGER NOT NULL,
    state TEXT NOT NULL,
    claimed_at INTEGER NOT NULL,
    ended_at INTEGER,
    session TEXT,
    seq INTEGER,
    note TEXT,
    PRIMARY KEY (tenant, job, at)
) STRICT, WITHOUT ROWID;
CREATE INDEX ticks_open ON ticks (tenant, job, at) WHERE ended_at IS NULL;
