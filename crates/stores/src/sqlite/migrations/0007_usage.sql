-- What runs used, in sums. Day 0 holds what was so old that its days were put together.
CREATE TABLE usage (
    session_id INTEGER NOT NULL,
    -- In UTC, counted from 1970-01-01.
    day INTEGER NOT NULL,
    agent TEXT NOT NULL,
    model TEXT NOT NULL,
    tenant TEXT NOT NULL,
    -- NULL where it is a group's, or its customer was erased.
    customer TEXT,
    requests INTEGER NOT NULL,
    input INTEGER NOT NULL,
    output INTEGER NOT NULL,
    cached INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    unpriced INTEGER NOT NULL,
    PRIMARY KEY (session_id, day, agent, model)
) STRICT, WITHOUT ROWID;
CREATE INDEX usage_of_tenant ON usage (tenant, day);
CREATE INDEX usage_of_customer ON usage (tenant, customer, day);
CREATE INDEX usage_of_day ON usage (day);
CREATE TABLE usage_turns (
    turn BLOB PRIMARY KEY,
    session_id INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    input INTEGER NOT NULL,
    output INTEGER NOT NULL,
    cached INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    cost INTEGER NOT NULL,
    unpriced INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
